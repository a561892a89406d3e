//! A workspace: the folders an agent works in, opened once, and what is read there.
//!
//! Every surface that reads or changes files of an agent comes through here. Changes are in `engine::changes`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, StatxFlags};

use crate::engine::host::Host;
use crate::engine::pending::Transaction;
use crate::workspace::commit::kind_of;
use crate::workspace::files::{self, Loaded};
use crate::workspace::index::Index;
use crate::workspace::journal::Journal;
use crate::workspace::listing::Kind;
use crate::workspace::path::{Inside, PROTECTED};
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::recover::recover;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::{Access, RootRequest, Roots, Spot};
use crate::workspace::text::{Coding, LineEnds, binary_kind, line_count};
use crate::workspace::walk::{Start, Wanted, gather, joined, path_order};

/// Largest file that is read whole, in bytes.
pub const READ_BYTES_MAX: u64 = 64 << 20;
/// Bytes that the index of paths may take.
const INDEX_BYTES_MAX: usize = 64 << 20;
/// Names that are listed of one folder.
const ENTRIES_MAX: usize = 1 << 20;

/// Which folders, and what may be done there.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceRequest {
    /// Folders to read and change: absolute, relative or below `~`.
    pub roots: Vec<String>,
    /// Folders to read only.
    pub read_only: Vec<String>,
    /// Globs of what nobody may change; without any, what git runs programs from.
    pub protect: Vec<String>,
    /// Where the journal is; without it below the data folder.
    pub journal: Option<PathBuf>,
}

/// The folders of an agent, opened.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) roots: Roots,
    pub(crate) journal: Journal,
    pub(crate) index: Index,
    pub(crate) transactions: Mutex<BTreeMap<String, Transaction>>,
    /// What was read in this session, by real path, for who asks that nothing is deleted unread.
    pub(crate) seen: Mutex<BTreeSet<PathBuf>>,
    /// What was tidied up after processes that had died.
    pub recovered: Vec<(String, bool)>,
}

/// What a reader asks of a text file.
#[derive(Debug, Clone, Default)]
pub struct ReadRequest {
    /// The first lines only.
    pub head: Option<usize>,
    /// The last lines only.
    pub tail: Option<usize>,
    /// From this line on, from 1.
    pub offset: Option<usize>,
    /// So many lines.
    pub limit: Option<usize>,
    /// In this encoding; without it the one it seems to be in.
    pub encoding: Option<String>,
    /// At most so many bytes of text.
    pub max_bytes: Option<usize>,
}

/// A text file, or a part of it.
#[derive(Debug, Clone)]
pub struct ReadText {
    /// The text.
    pub text: String,
    /// BLAKE3 of the whole file's bytes, when the whole was read.
    pub hash: Option<String>,
    /// How many lines the text has.
    pub lines: usize,
    /// Its line ends: `lf`, `crlf`, `mixed`, `none`.
    pub eol: &'static str,
    /// Its encoding.
    pub encoding: String,
    /// The line where the rest begins, from 1.
    pub next_offset: Option<usize>,
}

/// A file as it is, with its real path.
#[derive(Debug)]
pub struct ReadRaw {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it is, links followed.
    pub real: PathBuf,
}

/// What the file system says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes.
    pub size: u64,
    /// Came into being, was changed, was read: milliseconds since 1970.
    pub times_ms: (i64, i64, i64),
    /// It is a folder.
    pub is_folder: bool,
    /// It is a regular file.
    pub is_file: bool,
    /// Mode, without the kind.
    pub mode: u32,
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// It is a folder itself, not a link to one.
    pub is_folder: bool,
    /// Bytes, of what a link leads to; 0 where that is outside.
    pub size: u64,
}

impl Workspace {
    /// Opens folders and journal, and ends what a dead process left in them.
    ///
    /// # Errors
    /// The first folder that cannot be opened.
    pub fn open(host: &Host, request: &WorkspaceRequest) -> Result<Self, Refusal> {
        let asked = |paths: &[String], access| -> Vec<RootRequest> {
            paths.iter().map(|path| RootRequest { path: path.clone(), access }).collect()
        };
        let mut roots = asked(&request.roots, Access::ReadWrite);
        roots.extend(asked(&request.read_only, Access::ReadOnly));
        let mut protect = request.protect.clone();
        if protect.is_empty() {
            protect.push(PROTECTED.to_owned());
        }
        let home = host.home.as_deref();
        let opened = Roots::open(&roots, home, &host.cwd, &protect)?;
        let dir = request
            .journal
            .as_ref()
            .map_or_else(|| journal_of(&host.data, &opened), |dir| host.cwd.join(dir));
        // A journal inside a root is nothing that an agent may write to.
        for (_, paths) in opened.all() {
            if let Ok(inside) = dir.strip_prefix(&paths.real) {
                protect.push(format!("/{}/**", globset::escape(&inside.to_string_lossy())));
            }
        }
        let opened = Roots::open(&roots, home, &host.cwd, &protect)?;
        let journal = Journal::open(&dir)?;
        let recovered = recover(&opened, &journal)?;
        Ok(Self {
            roots: opened,
            journal,
            index: Index::new(INDEX_BYTES_MAX),
            transactions: Mutex::default(),
            seen: Mutex::default(),
            recovered,
        })
    }

    /// The folders in the order in which they were named: as named, with links followed, and whether they may be
    /// changed.
    pub fn folders(&self) -> Vec<(PathBuf, PathBuf, bool)> {
        let all = self.roots.all();
        all.map(|(root, paths)| (paths.given.clone(), paths.real.clone(), root.access == Access::ReadWrite))
            .collect()
    }

    /// What nobody may change, as globs.
    pub fn protected(&self) -> &[String] {
        &self.roots.protection().texts
    }

    pub(crate) fn transactions(&self) -> MutexGuard<'_, BTreeMap<String, Transaction>> {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that a file was read or made in this session.
    pub fn mark_seen(&self, path: &str) {
        if let Ok(real) = self.real_path(path) {
            self.seen().insert(real);
        }
    }

    /// Whether a file, or the folder it is in, was read or made in this session.
    ///
    /// # Errors
    /// As [`Workspace::real_path`].
    pub fn was_seen(&self, path: &str) -> Result<bool, Refusal> {
        let real = self.real_path(path)?;
        Ok(self.seen().contains(&real))
    }

    /// Where a path really is, when that is inside.
    ///
    /// # Errors
    /// Why it cannot be found.
    pub fn real_path(&self, path: &str) -> Result<PathBuf, Refusal> {
        let spot = self.roots.locate(path)?;
        let opened = self.roots.look(&spot)?;
        Ok(self.roots.real_path_of(opened.fd.as_fd(), &spot))
    }

    /// Where a path would be, also when nothing is there yet.
    ///
    /// # Errors
    /// `PathEscape` and the like.
    pub fn whole_path(&self, path: &str) -> Result<PathBuf, Refusal> {
        match self.real_path(path) {
            Err(e) if e.code == Code::NotDirectory => Ok(self.roots.locate(path)?.absolute),
            Err(e) if e.code == Code::NotFound => {
                let spot = self.roots.locate(path)?;
                let (above, name) = match (spot.absolute.parent(), spot.absolute.file_name()) {
                    (Some(above), Some(name)) => (above.to_string_lossy().into_owned(), name.to_owned()),
                    _ => return Ok(spot.absolute),
                };
                Ok(self.real_path(&above).map_or(spot.absolute.clone(), |real| real.join(name)))
            }
            other => other,
        }
    }

    /// Reads a text file, or a part of it.
    ///
    /// # Errors
    /// `Binary`, `Encoding`, `TooLarge`, or why it cannot be read.
    pub fn read(&self, path: &str, request: &ReadRequest) -> Result<ReadText, Refusal> {
        let spot = self.roots.locate(path)?;
        self.mark_seen(path);
        let named = request.encoding.as_deref().map(Coding::named).transpose()?;
        let text = |bytes: &[u8], hash, next_offset| -> Result<ReadText, Refusal> {
            let coding = named.or_else(|| Coding::of(bytes)).ok_or_else(|| binary(&spot, bytes))?;
            let text = coding.decode(bytes, path)?.into_owned();
            let (lines, eol) = (line_count(&text), LineEnds::of(&text).word());
            Ok(ReadText { text, hash, lines, eol, encoding: coding.word(), next_offset })
        };
        if let Some(lines) = request.tail {
            return text(&files::tail(&self.roots, &spot, lines)?, None, None);
        }
        if let Some(lines) = request.head {
            return text(&files::head(&self.roots, &spot, lines)?, None, None);
        }
        if request.offset.is_some() || request.limit.is_some() {
            let (from, limit) = (request.offset.unwrap_or(1).max(1) - 1, request.limit.unwrap_or(usize::MAX));
            let piece = files::lines(&self.roots, &spot, from, limit)?;
            let next = piece.has_more.then_some(from + piece.lines + 1);
            return text(&piece.bytes, None, next);
        }
        let loaded = files::load(&self.roots, &spot, READ_BYTES_MAX)?;
        let hash = Some(loaded.hash());
        let read = match request.max_bytes.filter(|most| loaded.bytes.len() > *most) {
            Some(most) => {
                let cut = memchr::memrchr(b'\n', &loaded.bytes[..most]).map_or(most, |n| n + 1);
                let piece = &loaded.bytes[..cut];
                let lines = memchr::memchr_iter(b'\n', piece).count();
                text(piece, hash, Some(lines + 1))?
            }
            None => self.whole_text(&spot, loaded, named, hash)?,
        };
        Ok(read)
    }

    /// The whole of a file, without a copy where it is UTF-8.
    fn whole_text(
        &self,
        spot: &Spot,
        loaded: Loaded,
        named: Option<Coding>,
        hash: Option<String>,
    ) -> Result<ReadText, Refusal> {
        let coding =
            named.or_else(|| Coding::of(&loaded.bytes)).ok_or_else(|| binary(spot, &loaded.bytes))?;
        let text = match String::from_utf8(loaded.bytes) {
            Ok(text) if coding.word() == "utf-8" => text,
            Ok(text) => coding.decode(text.as_bytes(), &spot.asked)?.into_owned(),
            Err(other) => coding.decode(other.as_bytes(), &spot.asked)?.into_owned(),
        };
        let (lines, eol) = (line_count(&text), LineEnds::of(&text).word());
        Ok(ReadText { text, hash, lines, eol, encoding: coding.word(), next_offset: None })
    }

    /// Reads a file as it is.
    ///
    /// # Errors
    /// `TooLarge`, or why it cannot be read.
    pub fn read_raw(&self, path: &str, bytes_max: u64) -> Result<ReadRaw, Refusal> {
        let spot = self.roots.locate(path)?;
        let loaded = files::load(&self.roots, &spot, bytes_max.min(READ_BYTES_MAX))?;
        self.mark_seen(path);
        Ok(ReadRaw { bytes: loaded.bytes, real: self.real_path(path).unwrap_or(spot.absolute) })
    }

    /// What the file system says of a path.
    ///
    /// # Errors
    /// Why it cannot be found.
    pub fn info(&self, path: &str) -> Result<FileInfo, Refusal> {
        let spot = self.roots.locate(path)?;
        let opened = self.roots.look(&spot)?;
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = rustix::fs::statx(&opened.fd, "", AtFlags::EMPTY_PATH, wanted)
            .map_err(|e| Refusal::kernel("look at", path, e.raw_os_error()))?;
        let ms = |time: rustix::fs::StatxTimestamp| time.tv_sec * 1000 + i64::from(time.tv_nsec / 1_000_000);
        let kind = kind_of(&opened.stat);
        Ok(FileInfo {
            size: stat.stx_size,
            times_ms: (ms(stat.stx_btime), ms(stat.stx_mtime), ms(stat.stx_atime)),
            is_folder: kind == FileType::Directory,
            is_file: kind == FileType::RegularFile,
            mode: u32::from(stat.stx_mode) & 0o7777,
        })
    }

    /// The names in a folder, sorted by their bytes; with their sizes when asked.
    ///
    /// # Errors
    /// `TooLarge`, or why it cannot be listed.
    pub fn list(&self, path: &str, sizes: Sizes) -> Result<Vec<Entry>, Refusal> {
        use std::os::unix::ffi::OsStrExt;
        let spot = self.roots.locate(path)?;
        let fd = self.roots.open_folder(&spot)?;
        let wrong = |e: rustix::io::Errno| Refusal::kernel("list", path, e.raw_os_error());
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let known = entry.file_type();
            let stat = (known == FileType::Unknown || sizes == Sizes::Known)
                .then(|| rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).ok())
                .flatten();
            let kind = stat.as_ref().map_or(known, kind_of);
            let mut size = stat.map_or(0, |s| s.st_size.cast_unsigned());
            if sizes == Sizes::Known && kind == FileType::Symlink {
                let inner = self.roots.spot(spot.root, spot.inside.join(name));
                size = self.roots.look(&inner).map_or(0, |o| o.stat.st_size.cast_unsigned());
            }
            let name = name.to_string_lossy().into_owned();
            found.push(Entry { name, is_folder: kind == FileType::Directory, size });
            if found.len() > ENTRIES_MAX {
                return Err(Refusal::new(
                    Code::TooLarge,
                    format!("`{path}` has more than {ENTRIES_MAX} names"),
                )
                .at(path));
            }
        }
        found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(found)
    }
}

impl Workspace {
    /// The whole real paths of everything below a folder that is wanted, in the order of a walk. What is left out is
    /// not gone into; links that lead outside or nowhere are not told.
    ///
    /// # Errors
    /// `Cancelled`, `TooLarge`, or why the folder cannot be listed.
    pub fn find_paths(
        &self,
        path: &str,
        wanted: &dyn Fn(&str) -> bool,
        left_out: &(dyn Fn(&str) -> bool + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<String>, Refusal> {
        let spot = self.roots.locate(path)?;
        let base = self.real_path(path)?;
        let mut found = Vec::new();
        self.below(&spot, &base, left_out, cancelled, &mut |way, kind| {
            let is_told = kind != Kind::Link || {
                let inner = self.roots.spot(spot.root, spot.inside.clone());
                let way = Inside::new(&inner.inside.relative().join(way));
                way.is_some_and(|way| self.roots.look(&self.roots.spot(spot.root, way)).is_ok())
            };
            if is_told && wanted(way) {
                found.push(way.to_owned());
            }
        })?;
        found.sort_unstable_by(|a, b| path_order(a.as_bytes(), b.as_bytes()));
        let whole = |way: String| base.join(way).to_string_lossy().into_owned();
        Ok(found.into_iter().map(whole).collect())
    }

    /// Every name below a folder, by its way from there.
    fn below(
        &self,
        spot: &Spot,
        real: &Path,
        left_out: &(dyn Fn(&str) -> bool + Sync),
        cancelled: &(dyn Fn() -> bool + Sync),
        tell: &mut dyn FnMut(&str, Kind),
    ) -> Result<(), Refusal> {
        let folder = self.roots.open_folder(spot)?;
        let (root, inside) = self.roots.place_of(folder.as_fd()).unwrap_or((spot.root, spot.inside.clone()));
        let way = inside.relative().as_os_str().as_encoded_bytes();
        let start = Start { root: self.roots.root(root).fd(), folder: &folder, way };
        let skip =
            |folder: &[u8], name: &[u8], _: Kind| left_out(&String::from_utf8_lossy(&joined(folder, name)));
        let quiet = |_: u64, _: Option<u64>| {};
        let patience = Patience::new(None, cancelled, &quiet);
        let asked = Wanted { skip: Some(&skip), ..Wanted::default() };
        let (kept, walked) = gather(&start, &self.index, &asked, &patience);
        match walked.ended {
            Ended::Whole | Ended::Enough => {}
            Ended::Cancelled => return Err(Refusal::new(Code::Cancelled, "the walk was cancelled")),
            _ => {
                let text = format!("`{}` holds too much to be walked whole", real.display());
                return Err(Refusal::new(Code::TooLarge, text).at(&spot.asked));
            }
        }
        for folder in &kept {
            for (name, kind) in folder.iter() {
                tell(&String::from_utf8_lossy(&joined(&folder.path, name)), kind);
            }
        }
        Ok(())
    }
}

/// Whether a list says how large files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// It does.
    Known,
    /// It does not.
    Unknown,
}

/// The journal of these roots: one for each set of them.
fn journal_of(data: &Path, roots: &Roots) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    for (root, paths) in roots.all().filter(|(root, _)| root.access == Access::ReadWrite) {
        hasher.update(paths.real.as_os_str().as_encoded_bytes());
        hasher.update(&[0, u8::from(root.access == Access::ReadWrite)]);
    }
    data.join("journal").join(&hasher.finalize().to_hex()[..16])
}

/// A file that is no text.
pub(crate) fn binary(spot: &Spot, bytes: &[u8]) -> Refusal {
    let kind = binary_kind(bytes);
    Refusal::new(Code::Binary, format!("`{}` is no text: {kind}, {} bytes", spot.asked, bytes.len()))
        .at(&spot.asked)
        .hint("`read_media_file` gives its bytes")
        .data(serde_json::json!({"kind": kind, "bytes": bytes.len()}))
}
