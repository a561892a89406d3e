//! One folder, read once: its names in order, what they are, and the stamp by which it is known again.
//!
//! A folder is opened beneath a descriptor and no link is followed on the way, so what is listed lies inside
//! whatever others do meanwhile. It holds no descriptor after the call.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

/// Names of one folder; what is beyond is not listed, and that is told.
pub const FOLDER_NAMES_MAX: usize = 1 << 20;
/// Bytes that the kernel fills at once.
const BUFFER_BYTES: usize = 32 * 1024;
/// How often openat2(2) is asked again when a rename elsewhere makes it give up.
const TRIES_MAX: u32 = 64;

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, wherever it leads.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl Kind {
    /// What the file system calls it.
    pub fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Link,
            _ => Self::Other,
        }
    }
}

/// By what a file or folder is known again: nobody can change it and keep all of these, for `ctime` is the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The file system.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970: the content was changed.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970: anything was changed.
    pub ctime_ns: i64,
}

impl Stamp {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, rest: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(rest).unwrap_or_default())
        };
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

#[derive(Debug)]
struct Entry {
    start: u32,
    length: u16,
    kind: Kind,
}

/// The names of one folder, sorted by their bytes.
#[derive(Debug, Default)]
pub struct Listing {
    names: Vec<u8>,
    entries: Vec<Entry>,
    /// Whether that is all of them.
    pub whole: bool,
}

impl Listing {
    /// Reads the folder of `fd`. `scratch` is reused from call to call.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(fd: BorrowedFd<'_>, scratch: &mut Vec<MaybeUninit<u8>>) -> Result<Self, Errno> {
        scratch.resize(BUFFER_BYTES, MaybeUninit::uninit());
        let mut listing = Self { whole: true, ..Self::default() };
        let mut folder = RawDir::new(fd, scratch.as_mut_slice());
        while let Some(entry) = folder.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let start = u32::try_from(listing.names.len()).unwrap_or(u32::MAX);
            let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
            if listing.entries.len() >= FOLDER_NAMES_MAX || start > u32::MAX - u32::from(length) {
                listing.whole = false;
                break;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match rustix::fs::statat(fd, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => Kind::of(FileType::from_raw_mode(stat.st_mode)),
                        // It went while it was looked at.
                        Err(_gone) => continue,
                    }
                }
                known => Kind::of(known),
            };
            listing.names.extend_from_slice(name);
            listing.entries.push(Entry { start, length, kind });
        }
        listing.names.shrink_to_fit();
        listing.entries.shrink_to_fit();
        let Self { names, entries, .. } = &mut listing;
        entries.sort_unstable_by(|a, b| slice(names, a).cmp(slice(names, b)));
        Ok(listing)
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the folder is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A name and what it is. Panics beyond the last.
    pub fn at(&self, number: usize) -> (&[u8], Kind) {
        let entry = &self.entries[number];
        (slice(&self.names, entry), entry.kind)
    }

    /// All names in the order of their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        (0..self.len()).map(|n| self.at(n))
    }

    /// What this name is, if it is here.
    pub fn kind_of(&self, name: &[u8]) -> Option<Kind> {
        let found = self.entries.binary_search_by(|entry| slice(&self.names, entry).cmp(name)).ok()?;
        Some(self.entries[found].kind)
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.names.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

fn slice<'n>(names: &'n [u8], entry: &Entry) -> &'n [u8] {
    let start = entry.start as usize;
    &names[start..start + usize::from(entry.length)]
}

/// Opens something beneath `base` without following any link on the way, and without waiting for it.
///
/// # Errors
/// What the kernel says: `ELOOP` for a link.
pub fn open_plain(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(path)) };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES_MAX => tries += 1,
            other => return other,
        }
    }
}

/// Opens a folder beneath `base` for listing, without following any link on the way.
///
/// # Errors
/// What the kernel says.
pub fn open_folder(base: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_plain(base, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens one name of a folder for reading, if it is a regular file; `None` when it is something else.
///
/// # Errors
/// What the kernel says.
pub fn open_name(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, OsStr::from_bytes(name), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(fd.as_fd())?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then_some((fd, stat)))
}

/// Reads what was opened into `bytes`, which is cleared before: at most `bytes_max` of it. Gives whether that is all.
///
/// # Errors
/// What the kernel says.
pub fn read_up_to(
    fd: BorrowedFd<'_>,
    stat: &Stat,
    bytes_max: usize,
    bytes: &mut Vec<u8>,
) -> Result<bool, Errno> {
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    bytes.clear();
    // One byte more than it should have: the read that finds less has seen the end.
    bytes.reserve(size.min(bytes_max) + 1);
    loop {
        if bytes.len() > bytes_max {
            bytes.truncate(bytes_max);
            return Ok(false);
        }
        let room = (bytes_max + 1 - bytes.len()).min(bytes.capacity() - bytes.len());
        if room == 0 {
            bytes.reserve(BUFFER_BYTES);
            continue;
        }
        let before = bytes.len();
        let mut window = std::mem::take(bytes);
        let read = rustix::io::read(fd, rustix::buffer::spare_capacity(&mut window));
        *bytes = window;
        match read {
            Ok(0) => return Ok(true),
            Ok(_) if bytes.len() == size && bytes.len() - before < room => return Ok(true),
            Ok(_) => {}
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_and_knows_what_each_name_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("c")).unwrap();
        std::os::unix::net::UnixListener::bind(folder.path().join("d")).unwrap();
        let root = crate::sys::fs::open_dir(folder.path()).unwrap();
        let fd = open_folder(root.as_fd(), b"").unwrap();
        let listing = Listing::read(fd.as_fd(), &mut Vec::new()).unwrap();
        let all: Vec<_> = listing.iter().map(|(name, kind)| (name[0], kind)).collect();
        assert_eq!(all, [(b'a', Kind::File), (b'b', Kind::Folder), (b'c', Kind::Link), (b'd', Kind::Other)]);
        assert_eq!(listing.kind_of(b"b"), Some(Kind::Folder));
        assert_eq!(listing.kind_of(b"x"), None);
        assert!(open_folder(root.as_fd(), b"c").is_err() && open_folder(root.as_fd(), b"c/passwd").is_err());
        assert!(open_folder(root.as_fd(), b"../x").is_err());
        assert!(open_name(root.as_fd(), b"d").is_err());
    }

    #[test]
    fn a_file_is_read_whole_or_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![b'x'; 100_000]).unwrap();
        std::fs::write(folder.path().join("empty"), "").unwrap();
        let root = crate::sys::fs::open_dir(folder.path()).unwrap();
        let (fd, stat) = open_name(root.as_fd(), b"a").unwrap().unwrap();
        let mut bytes = vec![1, 2, 3];
        assert!(read_up_to(fd.as_fd(), &stat, 1 << 20, &mut bytes).unwrap());
        assert_eq!(bytes.len(), 100_000);
        let (fd, stat) = open_name(root.as_fd(), b"a").unwrap().unwrap();
        assert!(!read_up_to(fd.as_fd(), &stat, 1000, &mut bytes).unwrap());
        assert_eq!(bytes.len(), 1000);
        let (fd, stat) = open_name(root.as_fd(), b"empty").unwrap().unwrap();
        assert!(read_up_to(fd.as_fd(), &stat, 1000, &mut bytes).unwrap());
        assert!(bytes.is_empty());
    }
}
