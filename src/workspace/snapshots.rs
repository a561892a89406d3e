//! Snapshots: a manifest, and the bytes that no earlier one has kept, in one file beside it.
//!
//! What has not changed since the last snapshot is not read again. Small files stand one after the other in a segment,
//! so that a hundred thousand of them are one file; a large one is a reflink where the file system can, which costs no
//! bytes. It does not put anything back: that is a change like any other, and belongs to the journal.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::fs::{FlockOperation, Mode, OFlags};

use crate::sys::fs::{make_private_dirs, read_file, replace_file_synced};
use crate::workspace::crew;
use crate::workspace::index::Index;
use crate::workspace::listing::{open_folder, open_name};
use crate::workspace::manifest::{self, Head, Item, Kept, Key, Manifest, What};
use crate::workspace::patience::Patience;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::sweep::{self, Source, sweep};

/// Bytes of a file that is kept; what is larger is named and left out.
pub const FILE_BYTES_MAX: usize = 32 << 20;
/// Bytes of all that is kept, where nothing else was said.
pub const STORE_BYTES_MAX: u64 = 4 << 30;
/// Snapshots that are kept; the oldest go first.
pub const SNAPSHOTS_MAX: usize = 64;
/// Tokens that are kept for who asks what changed.
const TOKENS_MAX: usize = 16;
/// Bytes of one manifest.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;
/// Bytes of the head of one.
const HEAD_BYTES_MAX: usize = 4 << 20;
/// From this many bytes on a reflink is tried.
const REFLINK_BYTES_MIN: u64 = 256 * 1024;
/// Files of one piece of work.
const PIECE_FILES: usize = 32;
/// Names of skipped files that are told.
const SKIPPED_MAX: usize = 100;

/// Where snapshots are kept.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

/// Nobody else changes the store while this lives.
struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// What is being written.
struct Segment {
    file: Option<File>,
    path: PathBuf,
    bytes: u64,
    names: Vec<String>,
    own: Option<u32>,
    by_hash: HashMap<[u8; 32], Kept>,
    copied: u64,
    reflinked: u64,
    no_reflink: bool,
}

fn failed(action: &str, e: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Failed, format!("cannot {action} the snapshots: {e}"))
}

impl Store {
    /// The store below `dir`, made when it is first written to.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn lock(&self) -> Result<Lock, Refusal> {
        for folder in ["manifests", "segments", "tokens"] {
            make_private_dirs(&self.dir.join(folder)).map_err(|e| failed("make the folder of", e))?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.dir.join("lock"));
        let file = file.map_err(|e| failed("lock", e))?;
        rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive).map_err(|e| failed("lock", e))?;
        Ok(Lock(file))
    }

    /// The snapshots, oldest first.
    pub fn list(&self) -> Vec<Head> {
        heads(&self.dir.join("manifests"))
    }

    /// One of them.
    ///
    /// # Errors
    /// `NoSnapshot`.
    pub fn load(&self, id: &str) -> Result<Manifest, Refusal> {
        load(&self.dir.join("manifests"), id).ok_or_else(|| {
            Refusal::new(Code::NoSnapshot, format!("there is no snapshot `{id}`"))
                .hint("`snapshot_list` names those that are kept")
        })
    }

    /// Takes a snapshot of everything below `sources`.
    ///
    /// # Errors
    /// `Quota`, `Timeout`, `Cancelled`, or what the kernel says; nothing is kept then.
    pub fn create(
        &self,
        sources: &[Source<'_>],
        index: &Index,
        (id, label): (&str, &str),
        ignores: bool,
        patience: &Patience<'_>,
    ) -> Result<Head, Refusal> {
        let began = Instant::now();
        let _lock = self.lock()?;
        self.make_room(SNAPSHOTS_MAX - 1, STORE_BYTES_MAX);
        let mut manifest = sweep(sources, index, id, ignores, patience)?;
        let last = self.list().last().and_then(|head| load(&self.dir.join("manifests"), &head.id));
        let segment = Segment {
            file: None,
            path: self.dir.join("segments").join(id),
            bytes: 0,
            names: Vec::new(),
            own: None,
            by_hash: HashMap::new(),
            copied: 0,
            reflinked: 0,
            no_reflink: false,
        };
        let room = STORE_BYTES_MAX.saturating_sub(self.bytes());
        let taken = take(sources, &mut manifest, last.as_ref(), segment, room, patience);
        let segment = match taken {
            Ok(segment) => segment,
            Err(e) => {
                self.collect();
                return Err(e);
            }
        };
        if let Some(file) = &segment.file {
            file.sync_data().map_err(|e| failed("write", e))?;
        }
        let head = &mut manifest.head;
        head.label = label.to_owned();
        head.method = segment.method().to_owned();
        head.written_bytes = segment.copied;
        head.segments = segment.names;
        head.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.save("manifests", &manifest)?;
        self.make_room(SNAPSHOTS_MAX, STORE_BYTES_MAX);
        Ok(manifest.head)
    }

    fn save(&self, folder: &str, manifest: &Manifest) -> Result<(), Refusal> {
        let dir = crate::sys::fs::open_dir(&self.dir.join(folder)).map_err(|e| failed("write", e))?;
        let name = std::ffi::OsStr::new(&manifest.head.id);
        replace_file_synced(dir.as_fd(), name, &manifest::write(manifest), Mode::RUSR | Mode::WUSR)
            .map_err(|e| failed("write", e))
    }

    /// The bytes of a file in a snapshot.
    ///
    /// # Errors
    /// `Failed` when they are gone or are not what they were.
    pub fn content(&self, manifest: &Manifest, item: &Item) -> Result<Vec<u8>, Refusal> {
        let gone = || Refusal::new(Code::Failed, "the snapshot has lost the bytes of a file");
        let (kept, hash) = item.kept.zip(item.hash).ok_or_else(gone)?;
        let name = manifest.head.segments.get(kept.segment as usize).ok_or_else(gone)?;
        let size = usize::try_from(item.size).ok().filter(|size| *size <= FILE_BYTES_MAX).ok_or_else(gone)?;
        let file = File::open(self.dir.join("segments").join(name)).map_err(|e| failed("read", e))?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, kept.offset).map_err(|e| failed("read", e))?;
        if blake3::hash(&bytes).as_bytes() == &hash { Ok(bytes) } else { Err(gone()) }
    }

    /// Removes a snapshot, and the bytes that only it had.
    ///
    /// # Errors
    /// `NoSnapshot`.
    pub fn remove(&self, id: &str) -> Result<(), Refusal> {
        let _lock = self.lock()?;
        self.load(id)?;
        std::fs::remove_file(self.dir.join("manifests").join(id)).map_err(|e| failed("remove", e))?;
        self.collect();
        Ok(())
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        let files = std::fs::read_dir(self.dir.join("segments")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }

    /// Lets the oldest go until there are few enough. What is wrong with one keeps none of the others.
    fn make_room(&self, snapshots: usize, bytes: u64) {
        loop {
            let all = self.list();
            if all.len() <= snapshots && (self.bytes() <= bytes || all.len() <= 1) {
                break;
            }
            let Some(oldest) = all.first() else { break };
            if std::fs::remove_file(self.dir.join("manifests").join(&oldest.id)).is_err() {
                break;
            }
            self.collect();
        }
    }

    /// Removes the segments that no snapshot names.
    fn collect(&self) {
        let named: Vec<String> = self.list().into_iter().flat_map(|head| head.segments).collect();
        for file in std::fs::read_dir(self.dir.join("segments")).into_iter().flatten().flatten() {
            if !named.iter().any(|name| file.file_name() == name.as_str()) {
                // The next one tries again.
                let _stays = std::fs::remove_file(file.path());
            }
        }
    }

    // ── tokens ──────────────────────────────────────────────────────────────────────────────────

    /// Keeps a look for who asks later what changed since.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keep_token(&self, manifest: &Manifest) -> Result<(), Refusal> {
        let _lock = self.lock()?;
        self.save("tokens", manifest)?;
        let all = heads(&self.dir.join("tokens"));
        for old in all.iter().take(all.len().saturating_sub(TOKENS_MAX)) {
            let _stays = std::fs::remove_file(self.dir.join("tokens").join(&old.id));
        }
        Ok(())
    }

    /// The look that a token stands for.
    ///
    /// # Errors
    /// `TokenExpired`.
    pub fn token(&self, id: &str) -> Result<Manifest, Refusal> {
        load(&self.dir.join("tokens"), id).ok_or_else(|| {
            Refusal::new(Code::TokenExpired, "the token is too old, or of another workspace")
                .hint("ask without a token for a new one")
        })
    }
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn load(folder: &Path, id: &str) -> Option<Manifest> {
    let text = is_id(id).then(|| read_file(&folder.join(id), MANIFEST_BYTES_MAX).ok()).flatten()?;
    manifest::read(&text).filter(|manifest| manifest.head.id == id)
}

fn heads(folder: &Path) -> Vec<Head> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(opened) = File::open(file.path()) else { continue };
        let mut text = Vec::new();
        let mut beginning = std::io::Read::take(opened, HEAD_BYTES_MAX as u64);
        if std::io::Read::read_to_end(&mut beginning, &mut text).is_ok() {
            found.extend(manifest::read_head(&text).filter(|head| file.file_name() == head.id.as_str()));
        }
    }
    found.sort_unstable_by(|a, b| (a.taken_ns, &a.id).cmp(&(b.taken_ns, &b.id)));
    found
}

/// Finds or keeps the bytes of every file of a look.
fn take(
    sources: &[Source<'_>],
    manifest: &mut Manifest,
    last: Option<&Manifest>,
    mut segment: Segment,
    room: u64,
    patience: &Patience<'_>,
) -> Result<Segment, Refusal> {
    let mut translate: HashMap<u32, u32> = HashMap::new();
    if let Some(last) = last {
        for item in last.items.values() {
            if let (Some(hash), Some(kept)) = (item.hash, item.kept) {
                let kept = segment.inherit(last, kept, &mut translate);
                segment.by_hash.insert(hash, kept);
            }
        }
    }
    let mut open: Vec<Key> = Vec::new();
    let mut skipped = Vec::new();
    for (key, item) in manifest.items.iter_mut().filter(|(_, item)| item.what == What::File) {
        let same_roots = |last: &&Manifest| last.head.roots == manifest.head.roots;
        let before = last.filter(same_roots).and_then(|last| Some((last, last.items.get(key)?)));
        match before {
            Some((last, before))
                if before.same_stamp(item)
                    && before.is_quiet(last.head.taken_ns)
                    && before.hash.is_some() =>
            {
                item.hash = before.hash;
                item.kept = before.hash.and_then(|hash| segment.by_hash.get(&hash)).copied();
            }
            _ if item.size > FILE_BYTES_MAX as u64 => skipped.push(key.clone()),
            _ => open.push(key.clone()),
        }
    }
    let pieces: Vec<&[Key]> = open.chunks(PIECE_FILES).collect();
    let segment = Mutex::new(segment);
    let work = |buffer: &mut Vec<u8>, n: usize| {
        let mut kept = Vec::new();
        for key in pieces[n] {
            kept.push(keep(&sources[key.0 as usize], &key.1, &segment, room, buffer));
        }
        (kept, None)
    };
    let (done, how) = crew::share(pieces.len(), patience, Vec::new, work);
    sweep::ended(how)?;
    for (n, kept) in done {
        for (key, kept) in pieces[n].iter().zip(kept) {
            match (kept?, manifest.items.get_mut(key)) {
                (Some((hash, kept, size)), Some(item)) => {
                    (item.hash, item.kept, item.size) = (Some(hash), Some(kept), size);
                }
                _ => skipped.push(key.clone()),
            }
        }
    }
    skipped.iter().for_each(|key| drop(manifest.items.remove(key)));
    let names = skipped.iter().take(SKIPPED_MAX).map(|(_, path)| String::from_utf8_lossy(path).into_owned());
    manifest.head.skipped.extend(names);
    Ok(segment.into_inner().unwrap_or_else(PoisonError::into_inner))
}

type Stored = Option<([u8; 32], Kept, u64)>;

/// Reads one file and keeps its bytes, unless they are kept already; `None` when it is gone or cannot be read.
fn keep(
    source: &Source<'_>,
    path: &[u8],
    segment: &Mutex<Segment>,
    room: u64,
    buffer: &mut Vec<u8>,
) -> Result<Stored, Refusal> {
    let lock = || segment.lock().unwrap_or_else(PoisonError::into_inner);
    if !lock().no_reflink
        && let Some(stored) = reflink(source, path, &lock, buffer)
    {
        return Ok(Some(stored));
    }
    if sweep::read(source, path, FILE_BYTES_MAX, buffer) != Some(true) {
        return Ok(None);
    }
    let hash = *blake3::hash(buffer).as_bytes();
    let mut segment = lock();
    let kept = match segment.by_hash.get(&hash) {
        Some(kept) => *kept,
        None => segment.append(hash, buffer, room)?,
    };
    Ok(Some((hash, kept, buffer.len() as u64)))
}

/// A large file as a reflink, which is hashed afterwards: what is kept cannot have changed while it was read.
fn reflink<'s>(
    source: &Source<'_>,
    path: &[u8],
    lock: &dyn Fn() -> std::sync::MutexGuard<'s, Segment>,
    buffer: &mut Vec<u8>,
) -> Option<([u8; 32], Kept, u64)> {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (open_folder(source.root, &path[..at]).ok()?, &path[at + 1..]),
        None => (open_folder(source.root, b"").ok()?, path),
    };
    let (fd, stat) = open_name(folder.as_fd(), name).ok()??;
    if u64::try_from(stat.st_size).ok()? < REFLINK_BYTES_MIN {
        return None;
    }
    let mut segment = lock();
    let aside = segment.path.with_extension("clone");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let clone = rustix::fs::open(&aside, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let forget = || drop(std::fs::remove_file(&aside));
    if rustix::fs::ioctl_ficlone(&clone, &fd).is_err() {
        segment.no_reflink = true;
        forget();
        return None;
    }
    let stat = rustix::fs::fstat(&clone).ok()?;
    let read = crate::workspace::listing::read_up_to(clone.as_fd(), &stat, FILE_BYTES_MAX, buffer);
    if read != Ok(true) {
        forget();
        return None;
    }
    let (hash, size) = (*blake3::hash(buffer).as_bytes(), buffer.len() as u64);
    if let Some(kept) = segment.by_hash.get(&hash) {
        let kept = *kept;
        forget();
        return Some((hash, kept, size));
    }
    let name = format!("f-{}", manifest::hex(&hash));
    std::fs::rename(&aside, segment.path.with_file_name(&name)).ok()?;
    let kept = Kept { segment: segment.number(&name), offset: 0 };
    segment.by_hash.insert(hash, kept);
    segment.reflinked += size;
    Some((hash, kept, size))
}

impl Segment {
    fn number(&mut self, name: &str) -> u32 {
        let at = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// A place in the segments of the last snapshot, by the numbers of this one.
    fn inherit(&mut self, last: &Manifest, kept: Kept, known: &mut HashMap<u32, u32>) -> Kept {
        let segment = match known.get(&kept.segment) {
            Some(segment) => *segment,
            None => {
                let name = last.head.segments.get(kept.segment as usize).cloned().unwrap_or_default();
                let segment = self.number(&name);
                known.insert(kept.segment, segment);
                segment
            }
        };
        Kept { segment, offset: kept.offset }
    }

    fn append(&mut self, hash: [u8; 32], bytes: &[u8], room: u64) -> Result<Kept, Refusal> {
        if self.bytes + bytes.len() as u64 > room {
            let text = format!("the snapshots would take more than {STORE_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::Quota, text)
                .hint("remove a snapshot, or leave out what ignore files name"));
        }
        if self.file.is_none() {
            let made = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&self.path);
            self.file = Some(made.map_err(|e| failed("write", e))?);
        }
        let own = match self.own {
            Some(own) => own,
            None => {
                let name =
                    self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let own = self.number(&name);
                *self.own.insert(own)
            }
        };
        let kept = Kept { segment: own, offset: self.bytes };
        if let Some(file) = &mut self.file {
            file.write_all(bytes).map_err(|e| failed("write", e))?;
        }
        self.bytes += bytes.len() as u64;
        self.copied += bytes.len() as u64;
        self.by_hash.insert(hash, kept);
        Ok(kept)
    }

    fn method(&self) -> &'static str {
        match (self.copied, self.reflinked) {
            (0, 0) => "none",
            (_, 0) => "copy",
            (0, _) => "reflink",
            _ => "mixed",
        }
    }
}
