//! Files read: whole within a limit, some lines from either end without the rest, and as what stands before a change.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FileType, Stat};

use crate::workspace::change::{Change, Place, Version};
use crate::workspace::commit::{Before, Content, inode, kind_of, mtime, version};
use crate::workspace::journal::{Journal, KEPT_BYTES_MAX};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::{Roots, Spot, not_regular};

/// Bytes that are read at once while lines are counted.
const CHUNK_BYTES: usize = 64 << 10;
/// Longest piece of a file that is given by lines, in bytes.
const PIECE_BYTES_MAX: usize = 64 << 20;
/// Deepest folder that is removed with what is in it.
const DEPTH_MAX: usize = 64;
/// Most files that are removed with their folder.
const HELD_MAX: usize = 100_000;

/// A file that was read.
#[derive(Debug)]
pub struct Loaded {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the kernel says of it.
    pub stat: Stat,
}

impl Loaded {
    /// BLAKE3 of the bytes, in hex.
    pub fn hash(&self) -> String {
        blake3::hash(&self.bytes).to_hex().to_string()
    }

    /// What stands before a change.
    pub fn into_before(self) -> Before {
        let (inode, links) = (inode(&self.stat), self.stat.st_nlink);
        let content = Content::File(self.bytes);
        let version = version(&self.stat, &content);
        let is_kept = version.bytes <= KEPT_BYTES_MAX;
        Before { version, content: is_kept.then_some(content), inode, links }
    }
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// `TooLarge`, or why it cannot be opened.
pub fn load(roots: &Roots, spot: &Spot, bytes_max: u64) -> Result<Loaded, Refusal> {
    let (file, stat) = roots.open_file(spot)?;
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size > bytes_max {
        return Err(too_large(spot, size, bytes_max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|e| Refusal::kernel("read", &spot.asked, e.raw_os_error().unwrap_or(libc::EIO)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(too_large(spot, bytes.len() as u64, bytes_max));
    }
    Ok(Loaded { bytes, stat })
}

fn too_large(spot: &Spot, bytes: u64, bytes_max: u64) -> Refusal {
    let text = format!("`{}` has {bytes} bytes, and at most {bytes_max} are read at once", spot.asked);
    Refusal::new(Code::TooLarge, text)
        .at(&spot.asked)
        .hint("read a part of it: `head`, `tail`, or `offset` and `limit`")
        .data(serde_json::json!({"bytes": bytes, "bytes_max": bytes_max}))
}

/// What is at a name before a change: a file or a link; `None` when nothing is.
///
/// # Errors
/// `NotRegular`, `IsDirectory`, or what the kernel says.
pub fn before(roots: &Roots, spot: &Spot) -> Result<Option<Before>, Refusal> {
    let parent = match roots.name(spot) {
        Err(e) if e.code == Code::NotFound => return Ok(None),
        other => other?,
    };
    let stat = match rustix::fs::statat(&parent.fd, &parent.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => other.map_err(|e| Refusal::kernel("look at", &spot.asked, e.raw_os_error()))?,
    };
    match kind_of(&stat) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&parent.fd, &parent.name, Vec::new())
                .map_err(|e| Refusal::kernel("read", &spot.asked, e.raw_os_error()))?;
            let content = Content::Link(target.to_string_lossy().into_owned());
            let version = version(&stat, &content);
            Ok(Some(Before { version, content: Some(content), inode: inode(&stat), links: 1 }))
        }
        FileType::RegularFile if stat.st_size.cast_unsigned() > KEPT_BYTES_MAX => {
            Ok(Some(large_before(roots, spot)?))
        }
        FileType::RegularFile => load(roots, spot, KEPT_BYTES_MAX).map(|loaded| Some(loaded.into_before())),
        FileType::Directory => Err(Refusal::kernel("change", &spot.asked, libc::EISDIR)),
        kind => Err(not_regular(&spot.asked, kind)),
    }
}

/// The same of a file that is too large to be kept: its hash alone.
fn large_before(roots: &Roots, spot: &Spot) -> Result<Before, Refusal> {
    let (mut file, stat) = roots.open_file(spot)?;
    let mut hasher = blake3::Hasher::new();
    let read = std::io::copy(&mut file, &mut hasher);
    let bytes =
        read.map_err(|e| Refusal::kernel("read", &spot.asked, e.raw_os_error().unwrap_or(libc::EIO)))?;
    let hash = hasher.finalize().to_hex().to_string();
    let version = Version { hash, bytes, mode: stat.st_mode & 0o7777, mtime: mtime(&stat), link: None };
    Ok(Before { content: None, version, inode: inode(&stat), links: stat.st_nlink })
}

// ── lines from either end ───────────────────────────────────────────────────────────────────────

/// The first `lines` lines, without the end of the last one.
///
/// # Errors
/// `TooLarge`, or why it cannot be read.
pub fn head(roots: &Roots, spot: &Spot, lines: usize) -> Result<Vec<u8>, Refusal> {
    let (file, _) = roots.open_file(spot)?;
    let piece = by_lines(file, 0, lines, spot)?;
    let mut bytes = piece.bytes;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    Ok(bytes)
}

/// What stands behind the last `lines` line ends, from the end: the text after a last line end counts as a line.
///
/// # Errors
/// `TooLarge`, or why it cannot be read.
pub fn tail(roots: &Roots, spot: &Spot, lines: usize) -> Result<Vec<u8>, Refusal> {
    let (file, stat) = roots.open_file(spot)?;
    let wrong =
        |e: std::io::Error| Refusal::kernel("read", &spot.asked, e.raw_os_error().unwrap_or(libc::EIO));
    let mut at = u64::try_from(stat.st_size).unwrap_or_default();
    let (mut pieces, mut found, mut total) = (Vec::<Vec<u8>>::new(), 0, 0);
    while at > 0 && found < lines {
        let size = usize::try_from(at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        at -= size as u64;
        let mut piece = vec![0; size];
        let read = file.read_at(&mut piece, at).map_err(wrong)?;
        piece.truncate(read);
        found += memchr::memchr_iter(b'\n', &piece).count();
        total += piece.len();
        if total > PIECE_BYTES_MAX {
            return Err(too_large(spot, total as u64, PIECE_BYTES_MAX as u64));
        }
        pieces.push(piece);
    }
    let bytes: Vec<u8> = pieces.into_iter().rev().flatten().collect();
    let start = match lines.checked_sub(1) {
        None => bytes.len(),
        Some(skip) => memchr::memrchr_iter(b'\n', &bytes).nth(skip).map_or(0, |n| n + 1),
    };
    Ok(bytes[start..].to_vec())
}

/// Some lines of a file.
#[derive(Debug)]
pub struct Piece {
    /// Their bytes, with their ends.
    pub bytes: Vec<u8>,
    /// How many lines there are.
    pub lines: usize,
    /// Whether more come behind.
    pub has_more: bool,
}

/// `limit` lines from line `offset` on, from 0, without loading the rest.
///
/// # Errors
/// `TooLarge`, or why it cannot be read.
pub fn lines(roots: &Roots, spot: &Spot, offset: usize, limit: usize) -> Result<Piece, Refusal> {
    let (file, _) = roots.open_file(spot)?;
    by_lines(file, offset, limit, spot)
}

fn by_lines(mut file: File, offset: usize, limit: usize, spot: &Spot) -> Result<Piece, Refusal> {
    let wrong =
        |e: std::io::Error| Refusal::kernel("read", &spot.asked, e.raw_os_error().unwrap_or(libc::EIO));
    let mut piece = Piece { bytes: Vec::new(), lines: 0, has_more: false };
    let (mut skip, mut chunk) = (offset, vec![0; CHUNK_BYTES]);
    loop {
        let read = file.read(&mut chunk).map_err(wrong)?;
        let mut rest = &chunk[..read];
        if read == 0 {
            let has_open_line = piece.bytes.last().is_some_and(|b| *b != b'\n');
            piece.lines += usize::from(has_open_line);
            return Ok(piece);
        }
        while skip > 0 {
            let Some(end) = memchr::memchr(b'\n', rest) else { break };
            (rest, skip) = (&rest[end + 1..], skip - 1);
        }
        if skip > 0 {
            continue;
        }
        while !rest.is_empty() {
            if piece.lines == limit {
                piece.has_more = true;
                return Ok(piece);
            }
            let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |n| n + 1);
            piece.lines += usize::from(rest[end - 1] == b'\n');
            piece.bytes.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        if piece.bytes.len() > PIECE_BYTES_MAX {
            return Err(too_large(spot, piece.bytes.len() as u64, PIECE_BYTES_MAX as u64));
        }
    }
}

// ── what a folder holds ─────────────────────────────────────────────────────────────────────────

/// What is lost with a folder, deepest first, each file kept in the journal.
///
/// # Errors
/// `Protected` when something in it is, `Quota` when a file cannot be kept, `TooLarge` when it is too much.
pub fn held(roots: &Roots, journal: &Journal, spot: &Spot) -> Result<Vec<Change>, Refusal> {
    let mut found = Vec::new();
    hold(roots, journal, spot, 0, &mut found)?;
    Ok(found)
}

fn hold(
    roots: &Roots,
    journal: &Journal,
    spot: &Spot,
    depth: usize,
    found: &mut Vec<Change>,
) -> Result<(), Refusal> {
    let too_much = || {
        let text = format!(
            "`{}` holds more than {HELD_MAX} files, or is deeper than {DEPTH_MAX} folders",
            spot.asked
        );
        Refusal::new(Code::TooLarge, text).at(&spot.asked).hint("delete it in parts")
    };
    if depth > DEPTH_MAX || found.len() > HELD_MAX {
        return Err(too_much());
    }
    roots.permit(spot.root, &spot.inside, &spot.asked)?;
    let fd = roots.open_folder(spot)?;
    let stat =
        rustix::fs::fstat(&fd).map_err(|e| Refusal::kernel("look at", &spot.asked, e.raw_os_error()))?;
    for name in names(fd.as_fd(), spot)? {
        let inner = roots.spot(spot.root, spot.inside.join(&name));
        if inner.inside.relative().to_str().is_none() {
            return Err(Refusal::new(
                Code::Unsupported,
                format!("`{}` holds a name that is no UTF-8", spot.asked),
            )
            .at(&spot.asked));
        }
        let path = place(roots, &inner);
        match before(roots, &inner) {
            Ok(Some(before)) => {
                match &before.content {
                    Some(Content::File(bytes)) => drop(journal.keep(&before.version.hash, bytes)?),
                    Some(Content::Link(_)) => {}
                    None => {
                        let text = format!("`{}` is too large to be kept for undo", inner.asked);
                        return Err(Refusal::new(Code::Quota, text)
                            .at(&inner.asked)
                            .hint("delete it by itself first"));
                    }
                }
                roots.permit(inner.root, &inner.inside, &inner.asked)?;
                found.push(Change::File { path, before: Some(before.version), after: None });
            }
            Ok(None) => {}
            Err(e) if e.code == Code::IsDirectory => hold(roots, journal, &inner, depth + 1, found)?,
            // A pipe or a socket has nothing to keep.
            Err(e) if e.code == Code::NotRegular => {}
            Err(other) => return Err(other),
        }
        if found.len() > HELD_MAX {
            return Err(too_much());
        }
    }
    let path = place(roots, spot);
    found.push(Change::Folder { path, mode: stat.st_mode & 0o7777, mtime: mtime(&stat), is_made: false });
    Ok(())
}

fn place(roots: &Roots, spot: &Spot) -> Place {
    Place { root: roots.paths(spot.root).real.to_string_lossy().into_owned(), path: spot.inside.text() }
}

/// The names in a folder, sorted.
///
/// # Errors
/// What the kernel says.
pub fn names(fd: std::os::fd::BorrowedFd<'_>, spot: &Spot) -> Result<Vec<std::ffi::OsString>, Refusal> {
    use std::os::unix::ffi::OsStrExt;
    let wrong = |e: rustix::io::Errno| Refusal::kernel("list", &spot.asked, e.raw_os_error());
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
