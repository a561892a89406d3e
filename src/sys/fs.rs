//! Files and folders: open beneath a root, write then rename, locks. Every error names its path.
//!
//! It does not mount, and it knows nothing of images or containers.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{ErrorKind, Fault};

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{path}`")]
pub struct FsError {
    /// What was being done: a verb.
    pub action: &'static str,
    /// The path it was done to.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }
}

impl Fault for FsError {
    fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::FileTooLarge => ErrorKind::Limit,
            _ => ErrorKind::Failed,
        }
    }
}

/// Opens `path` inside `root` as if `root` were `/`: links and `..` cannot leave it, magic links
/// are refused (openat2(2), `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, Linux 5.6).
///
/// # Errors
/// What the kernel says, with the path inside the root.
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, FsError> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // A rename elsewhere makes the kernel give up with EAGAIN: openat2(2) says try again.
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            other => return other.map_err(|e| FsError::new("open", path, e)),
        }
    }
}

/// Opens `path` beneath `root`: a way out of it, by `..` or by a link, is refused with `EXDEV`, and so are magic
/// links (openat2(2), `RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS`, Linux 5.6).
///
/// # Errors
/// What the kernel says; it names no path, for the caller knows which one may be named.
pub fn open_beneath(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // As above: a rename elsewhere.
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            other => return other,
        }
    }
}

/// Makes every folder of `path` inside `root` that is missing and opens the last one.
///
/// Components are made one at a time beneath a descriptor, so a link inside the root is followed
/// within the root and nothing is ever made outside it (CVE-2021-30465).
///
/// # Errors
/// What the kernel says: `..` in the missing part, a file in the way, no permission.
pub fn make_dirs_in_root(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd, FsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, flags, Mode::empty()) {
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(FsError::new("make the folder", path, io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let parent = make_dirs_in_root(root, parent, mode)?;
    match rustix::fs::mkdirat(&parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(FsError::new("make the folder", path, e)),
    }
    open_in_root(root, path, flags, Mode::empty())
}

/// Opens a folder as a descriptor that only names it.
///
/// # Errors
/// What the kernel says.
pub fn open_dir(path: &Path) -> Result<OwnedFd, FsError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| FsError::new("open the folder", path, e))
}

/// Reads a regular file inside `root`, at most `bytes_max` bytes: a FIFO, a device or a link out
/// of the root is refused and never waited for (CVE-2024-9676).
///
/// # Errors
/// `NotFound`, or `Limit` when it is larger, or what the kernel says.
pub fn read_file_in_root(root: BorrowedFd<'_>, path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let fd = open_in_root(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
    read_regular(File::from(fd), path, bytes_max)
}

/// Reads a regular file of the host, at most `bytes_max` bytes.
///
/// # Errors
/// As [`read_file_in_root`].
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| FsError::new("open", path, e))?;
    read_regular(File::from(fd), path, bytes_max)
}

/// Opens a regular file of the host for reading: a FIFO, a device or a socket is refused and
/// never waited for.
///
/// # Errors
/// What the kernel says, or that it is not a regular file.
pub fn open_regular(path: &Path) -> Result<File, FsError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| FsError::new("open", path, e))?;
    let file = File::from(fd);
    let meta = file.metadata().map_err(|e| FsError::new("read", path, e))?;
    if !meta.is_file() {
        return Err(FsError::new("read", path, io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// Reads a file that a person named, at most `bytes_max` bytes: it may be a pipe (`<(…)` of a shell),
/// which is waited for.
///
/// # Errors
/// What the kernel says, or that the file is larger.
pub fn read_named(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| FsError::new("open", path, e))?;
    read_at_most(File::from(fd), 0, path, bytes_max)
}

/// Most bytes that are set aside because a file says it has them.
const ROOM_BYTES_MAX: u64 = 1 << 20;

fn read_regular(file: File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let meta = file.metadata().map_err(|e| FsError::new("read", path, e))?;
    if !meta.is_file() {
        return Err(FsError::new("read", path, io::Error::other("it is not a regular file")));
    }
    read_at_most(file, meta.len(), path, bytes_max)
}

/// `expected_bytes` saves growing; the file may turn out to have more or fewer.
fn read_at_most(file: File, expected_bytes: u64, path: &Path, bytes_max: u64) -> Result<Vec<u8>, FsError> {
    let room = expected_bytes.min(bytes_max).min(ROOM_BYTES_MAX) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|e| FsError::new("read", path, e))?;
    if bytes.len() as u64 > bytes_max {
        let why = format!("it is larger than {bytes_max} bytes");
        return Err(FsError::new("read", path, io::Error::new(io::ErrorKind::FileTooLarge, why)));
    }
    Ok(bytes)
}

/// Makes a folder and its parents, mode 0700 for what is new.
///
/// # Errors
/// What the kernel says.
pub fn make_private_dirs(path: &Path) -> Result<(), FsError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| FsError::new("make the folder", path, e))
}

/// Puts `bytes` at `dir/name` in one step: another process sees the old file or the new one. After a
/// crash of the machine it may be empty: see [`replace_file_synced`].
///
/// # Errors
/// What the kernel says; the old file is then untouched.
pub fn replace_file(dir: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: Mode) -> Result<(), FsError> {
    replace(dir, name, mode, |file| file.write_all(bytes))
}

/// The same for what must not be lost: waits for the disk, so that even after a crash of the machine there
/// is the old file or the new one.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_file_synced(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), FsError> {
    replace(dir, name, mode, |file| file.write_all(bytes).and_then(|()| file.sync_data()))
}

fn replace(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    mode: Mode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FsError> {
    let wrong = |action| move |e: io::Error| FsError::new(action, name, e);
    let mut random = [0_u8; 8];
    random_bytes(&mut random).map_err(wrong("name a temporary file for"))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{:016x}", u64::from_ne_bytes(random)));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::openat(dir, &temporary, flags, mode).map_err(|e| FsError::new("write", name, e))?;
    let mut file = File::from(fd);
    let written = write(&mut file)
        .and_then(|()| rustix::fs::renameat(dir, &temporary, dir, name).map_err(io::Error::from));
    if let Err(e) = written {
        // The temporary file is ours alone; when even this fails the next clean-up finds it.
        let _gone = rustix::fs::unlinkat(dir, &temporary, AtFlags::empty());
        return Err(FsError::new("write", name, e));
    }
    Ok(())
}

/// Writes a file that must not be there yet, in place: for where nobody else looks before it is whole.
///
/// # Errors
/// What the kernel says; `AlreadyExists` when there is one.
pub fn write_new_file(dir: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: Mode) -> Result<(), FsError> {
    let wrong = |e: io::Error| FsError::new("write", name, e);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::openat(dir, name, flags, mode).map_err(|e| wrong(e.into()))?;
    File::from(fd).write_all(bytes).map_err(wrong)
}

/// Most folders of a tree that are open at once while it is removed.
const REMOVAL_DEPTH_MAX: usize = 16;

/// Removes what is at `path` with everything in it, as [`remove_at`]; nothing there is as good.
///
/// # Errors
/// What the kernel says about the first thing that cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), FsError> {
    let wrong = |e| FsError::new("remove", path, e);
    let name = path.file_name().ok_or_else(|| wrong(Errno::INVAL))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match open_dir(parent) {
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => remove_at(other?.as_fd(), name).map_err(wrong),
    }
}

/// Removes `name` of the folder `dir` and everything in it, whatever the modes and however deep; a link
/// is removed, never followed, and no path of the tree is ever put together.
///
/// # Errors
/// What the kernel says about the first thing that cannot be removed.
pub fn remove_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    let Some(top) = Doomed::unless_removed(dir, name)? else { return Ok(()) };
    // The depth is not ours to choose: it may cost neither stack nor a descriptor each.
    let (mut open, mut moved) = (vec![top], 0);
    while let Some(last) = open.last_mut() {
        let Some(entry) = last.entries.read().transpose()? else {
            let Some(mut done) = open.pop() else { break };
            let above = open.last().map_or(Ok(dir), |above| above.entries.fd())?;
            match rustix::fs::unlinkat(above, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                // A listing need not tell what came while it was read: deep folders that were moved up here.
                Err(Errno::NOTEMPTY | Errno::EXIST) if done.has_shrunk => {
                    done.entries.rewind();
                    done.has_shrunk = false;
                    open.push(done);
                }
                Err(e) => return Err(e),
            }
            continue;
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let inner = Doomed::unless_removed(last.entries.fd()?, name)?;
        last.has_shrunk = true;
        match (inner, &open[..]) {
            (None, _) => {}
            (Some(inner), [top, .., last]) if open.len() == REMOVAL_DEPTH_MAX => {
                move_up(last.entries.fd()?, &inner.name, top.entries.fd()?, &mut moved)?;
            }
            (Some(inner), _) => open.push(inner),
        }
    }
    Ok(())
}

/// A folder that is about to go.
struct Doomed {
    entries: Dir,
    name: OsString,
    /// Its listing has told of something, which then went or goes now.
    has_shrunk: bool,
}

impl Doomed {
    /// Removes `name`, or opens it when it is a folder, with the right to change it.
    fn unless_removed(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Self>, Errno> {
        let refused = match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(None),
            Err(e @ (Errno::ISDIR | Errno::PERM)) => e,
            Err(e) => return Err(e),
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(dir, name, OFlags::RDONLY | flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let closed = rustix::fs::openat(dir, name, OFlags::PATH | flags, Mode::empty())?;
                // fchmod(2) takes no such descriptor. This leads to the folder itself, wherever its name
                // leads by now.
                rustix::fs::chmod(format!("/proc/self/fd/{}", closed.as_raw_fd()), Mode::RWXU)?;
                rustix::fs::openat(&closed, ".", OFlags::RDONLY | flags, Mode::empty())?
            }
            // A file that may not be removed.
            Err(Errno::NOTDIR) => return Err(refused),
            other => other?,
        };
        // Without it nothing in a folder of mode 0555 could be removed by an ordinary user. Where the
        // folder is somebody else's this fails, and removing tells.
        let _mode = rustix::fs::fchmod(&fd, Mode::RWXU);
        Ok(Some(Self { entries: Dir::new(fd)?, name: name.to_owned(), has_shrunk: false }))
    }
}

/// Moves a folder of `from` into `top` under a name that nothing there has.
fn move_up(from: BorrowedFd<'_>, name: &OsStr, top: BorrowedFd<'_>, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        match rustix::fs::renameat(from, name, top, format!(".deep-{moved}")) {
            // An empty folder of that name gives way, which is as good.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            other => return other,
        }
    }
}

/// Fills `buffer` from the kernel's random source.
///
/// # Errors
/// What the kernel says.
pub fn random_bytes(buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        filled += rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// A lock on a file, held while this value lives and given back by the kernel when we die.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Waits for the lock of `path`, making the file when it is missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn exclusive(path: &Path) -> Result<Self, FsError> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Shares the lock of `path` with other readers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn shared(path: &Path) -> Result<Self, FsError> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// Takes the lock of `path` when nobody holds it.
    ///
    /// # Errors
    /// What the kernel says; `None` when somebody holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, FsError> {
        match Self::take(path, FlockOperation::NonBlockingLockExclusive) {
            Err(e) if e.source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Whether somebody holds the lock of `path` in this moment; nothing when there is no such file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_held(path: &Path) -> Result<Option<bool>, FsError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(|e| FsError::new("open the lock", path, e))?,
        };
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Some(false)),
            Err(Errno::WOULDBLOCK) => Ok(Some(true)),
            Err(e) => Err(FsError::new("lock", path, e)),
        }
    }

    /// Waits for the lock of the folder `path`, which must be there.
    ///
    /// # Errors
    /// What the kernel says: `NotFound` when whoever held it has removed the folder.
    pub fn folder(path: &Path) -> Result<Self, FsError> {
        Self::open_and_lock(path, FOLDER, FlockOperation::LockExclusive)
    }

    /// Takes the lock of the folder `path`, which must be there, when nobody holds it.
    ///
    /// # Errors
    /// What the kernel says; `None` when somebody holds it.
    pub fn try_folder(path: &Path) -> Result<Option<Self>, FsError> {
        match Self::open_and_lock(path, FOLDER, FlockOperation::NonBlockingLockExclusive) {
            Err(e) if e.source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn take(path: &Path, operation: FlockOperation) -> Result<Self, FsError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Self::open_and_lock(path, flags, operation)
    }

    fn open_and_lock(path: &Path, flags: OFlags, operation: FlockOperation) -> Result<Self, FsError> {
        loop {
            let fd = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
                .map_err(|e| FsError::new("open the lock", path, e))?;
            match rustix::fs::flock(&fd, operation) {
                Err(Errno::INTR) => {}
                Err(e) => return Err(FsError::new("lock", path, e)),
                // Whoever held it may have removed the file meanwhile: a lock nobody else can find is none.
                Ok(()) if stands_at(fd.as_fd(), path) => return Ok(Self(File::from(fd))),
                Ok(()) => {}
            }
        }
    }
}

/// How a folder is opened for its lock.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Whether `path` still leads to the file of `fd`.
pub fn stands_at(fd: BorrowedFd<'_>, path: &Path) -> bool {
    let there = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW);
    matches!((rustix::fs::fstat(fd), there), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::RenameFlags;

    use super::*;

    #[test]
    fn a_link_out_of_the_root_stays_inside_it() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(outer.path().join("secret"), "no").unwrap();
        std::fs::write(root.join("secret"), "yes").unwrap();
        std::os::unix::fs::symlink("../../../secret", root.join("etc/link")).unwrap();
        let fd = open_dir(&root).unwrap();
        let read = |path: &str| read_file_in_root(fd.as_fd(), Path::new(path), 100);
        assert_eq!(read("etc/link").unwrap(), b"yes");
        assert_eq!(read("../secret").unwrap(), b"yes");
        make_dirs_in_root(fd.as_fd(), Path::new("/a/b/../../../c"), Mode::from_raw_mode(0o755)).unwrap_err();
        make_dirs_in_root(fd.as_fd(), Path::new("/a/b"), Mode::from_raw_mode(0o755)).unwrap();
        assert!(root.join("a/b").is_dir());
    }

    #[test]
    fn a_fifo_and_a_large_file_are_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        rustix::fs::mknodat(&fd, "fifo", rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert!(read_file_in_root(fd.as_fd(), Path::new("fifo"), 10).is_err());
        std::fs::write(dir.path().join("large"), "12345678901").unwrap();
        let error = read_file_in_root(fd.as_fd(), Path::new("large"), 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
    }

    #[test]
    fn a_lock_is_held_only_while_its_file_stands_where_others_look() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::exclusive(&path).unwrap();
        assert!(stands_at(first.as_fd(), &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!stands_at(first.as_fd(), &path), "another lock could be taken beside this one");
        let second = Lock::exclusive(&path).unwrap();
        assert!(!stands_at(first.as_fd(), &path) && stands_at(second.as_fd(), &path));
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
    }

    #[test]
    fn a_tree_of_any_depth_goes_with_few_descriptors_and_what_links_lead_to_stays() {
        let outer = tempfile::tempdir().unwrap();
        let tree = outer.path().join("tree");
        std::fs::create_dir_all(tree.join("wide")).unwrap();
        std::fs::write(outer.path().join("kept"), "kept").unwrap();
        std::os::unix::fs::symlink(outer.path(), tree.join("wide/link")).unwrap();
        // Names that the removal would like to use are taken.
        std::fs::create_dir_all(tree.join(".deep-1/full")).unwrap();
        std::fs::write(tree.join(".deep-2"), "").unwrap();
        for branch in ["a", "b"] {
            let mut at = open_dir(&tree).unwrap();
            for level in 0..1000 {
                rustix::fs::mkdirat(&at, branch, Mode::RWXU).unwrap();
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                at = rustix::fs::openat(&at, branch, flags, Mode::empty()).unwrap();
                if level % 100 == 0 {
                    rustix::fs::mkdirat(&at, "beside", Mode::empty()).unwrap();
                    rustix::fs::symlinkat(outer.path(), &at, "link").unwrap();
                }
            }
        }
        for number in 0..2000 {
            std::fs::write(tree.join(format!("wide/{number}")), "").unwrap();
        }
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(outer.path().join("kept")).unwrap(), "kept");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the attacker needs a thread; tests call no libcontainer")]
    fn a_closed_folder_that_becomes_a_link_while_it_goes_leads_nowhere() {
        use std::os::unix::fs::PermissionsExt;
        use std::sync::atomic::{AtomicBool, Ordering};
        let outer = tempfile::tempdir().unwrap();
        let (outside, tree) = (outer.path().join("outside"), outer.path().join("tree"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kept"), "").unwrap();
        std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o500)).unwrap();
        let (done, cwd, exchange) = (AtomicBool::new(false), rustix::fs::CWD, RenameFlags::EXCHANGE);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (folder, link) = (tree.join("folder"), tree.join("link"));
                while !done.load(Ordering::Relaxed) {
                    let _gone_meanwhile = rustix::fs::renameat_with(cwd, &folder, cwd, &link, exchange);
                }
            });
            for _ in 0..500 {
                std::fs::create_dir_all(&tree).unwrap();
                let _there_already = std::os::unix::fs::symlink(&outside, tree.join("link"));
                let _there_already = rustix::fs::mkdir(tree.join("folder"), Mode::empty());
                // It may fail: what is a folder now is a link in the next moment.
                let _tried = remove_tree(&tree);
            }
            done.store(true, Ordering::Relaxed);
        });
        remove_tree(&tree).unwrap();
        assert_eq!(std::fs::metadata(&outside).unwrap().permissions().mode() & 0o7777, 0o500);
        assert!(outside.join("kept").exists());
        std::fs::set_permissions(&outside, PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        for text in ["one", "two"] {
            replace_file(fd.as_fd(), OsStr::new("state"), text.as_bytes(), Mode::from_raw_mode(0o600))
                .unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join("state")).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
