//! One folder being filled beneath its descriptor: files, links, whiteouts in overlay's form,
//! owners, times. It does not read archives, and nothing it does can reach outside the folder.
//!
//! A parent is opened beneath the root by openat2(2) and may go through links inside the root; the
//! last name is never followed. So a hostile order of entries can only change the folder itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::sys::fs::{FsError, open_in_root, remove_at};

/// Most different users, and most different groups, of the files of one layer.
const IDS_MAX: usize = 65_536;
/// The mark overlay looks for when it is mounted with `userxattr`.
pub const OPAQUE: &str = "user.overlay.opaque";
/// Mode of a folder that no entry described, as Docker has it.
const DIR_MODE: u32 = 0o755;

/// What becomes of owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owners {
    /// Files are given to their owners: we are in a user namespace that maps them.
    Apply,
    /// Everything belongs to the caller; who it should belong to is written down.
    Record,
}

/// Which ids the files need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Users that own a file.
    pub uids: BTreeSet<u32>,
    /// Groups that own a file.
    pub gids: BTreeSet<u32>,
}

impl Ids {
    /// Whether everything belongs to 0:0, so that a map of one id is enough.
    pub fn is_only_root(&self) -> bool {
        self.uids.iter().chain(&self.gids).all(|id| *id == 0)
    }

    /// These ids and the others.
    pub fn extend(&mut self, other: &Self) {
        self.uids.extend(&other.uids);
        self.gids.extend(&other.gids);
    }
}

/// What a file has besides its bytes.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Last change of the contents: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes that may be set.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a folder gets when everything is in it.
#[derive(Debug)]
struct Later {
    mode: u32,
    mtime: Option<(i64, u32)>,
    /// Nobody described it: what the layers below say of it holds.
    is_implied: bool,
}

/// A parent folder that is open: its true path and its descriptor.
#[derive(Debug)]
struct Parent {
    asked: Vec<u8>,
    path: Vec<u8>,
    fd: OwnedFd,
}

/// A folder being filled.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    owners: Owners,
    ids: Ids,
    owned: BTreeMap<Vec<u8>, (u32, u32)>,
    later: BTreeMap<Vec<u8>, Later>,
    later_bytes: usize,
    later_bytes_max: usize,
    parent: Option<Parent>,
    xattrs_lost: u64,
}

/// What was written down about a filled folder.
#[derive(Debug)]
pub struct Filled {
    /// Which ids occur.
    pub ids: Ids,
    /// Paths that do not belong to 0:0, and their owner and group.
    pub owned: BTreeMap<Vec<u8>, (u32, u32)>,
    /// Folders that are only there because something lies in them; the root is the empty path.
    pub implied: Vec<Vec<u8>>,
    /// Extended attributes that the file system under the folder cannot keep.
    pub xattrs_lost: u64,
}

impl Tree {
    /// Makes the folder `dir`, which must be new, and opens it to be filled. The names of all its
    /// folders may together take `names_bytes_max` bytes: they are kept until the end.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make(dir: &Path, owners: Owners, names_bytes_max: usize) -> Result<Self, FsError> {
        let new = rustix::fs::mkdir(dir, Mode::RWXU);
        new.map_err(|e| FsError::new("make the folder", dir, e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|e| FsError::new("open", dir, e))?;
        let mut tree = Self {
            root,
            owners,
            ids: Ids::default(),
            owned: BTreeMap::new(),
            later: BTreeMap::new(),
            later_bytes: 0,
            later_bytes_max: names_bytes_max,
            parent: None,
            xattrs_lost: 0,
        };
        tree.later.insert(Vec::new(), Later { mode: DIR_MODE, mtime: None, is_implied: true });
        tree.own(b"", 0, 0)?;
        Ok(tree)
    }

    /// Makes a regular file, empty and open for writing; [`Tree::seal`] ends it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn file(&mut self, path: &[u8]) -> Result<File, FsError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make =
            |dir: BorrowedFd<'_>, name: &OsStr| rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR);
        self.make_new(path, "make the file", make).map(File::from)
    }

    /// Gives a file that is complete its owner, mode, attributes and time.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn seal(&mut self, path: &[u8], file: &File, attributes: &Attributes) -> Result<(), FsError> {
        let at = |action| move |e: Errno| FsError::new(action, shown(path), e);
        let path_now = self.parent_path(path);
        self.own(&path_now, attributes.uid, attributes.gid)?;
        if self.owners == Owners::Apply {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(at("give to its owner"))?;
        }
        self.set_xattrs(path, file.as_fd(), attributes)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode)).map_err(at("set the mode of"))?;
        rustix::fs::futimens(file, &times(Some(attributes.mtime))).map_err(at("set the time of"))
    }

    /// Makes a folder, or gives the one that is there new attributes. The empty path is the root.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn dir(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), FsError> {
        let at = |action| move |e: Errno| FsError::new(action, shown(path), e);
        let mut true_path = Vec::new();
        let fd = if path.is_empty() {
            self.root.try_clone().map_err(|e| FsError::new("open", ".", e))?
        } else {
            true_path = self.make_dir(path, true)?;
            let (dir, name) = self.parent_and_name(path)?;
            open_dir_at(dir, name).map_err(at("open the folder"))?
        };
        self.own(&true_path, attributes.uid, attributes.gid)?;
        if self.owners == Owners::Apply {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(at("give to its owner"))?;
        }
        self.set_xattrs(path, fd.as_fd(), attributes)?;
        let later = Later { mode: attributes.mode, mtime: Some(attributes.mtime), is_implied: false };
        self.finish_later(true_path, later)
    }

    /// Makes a symbolic link. Its target is text that nobody here follows.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], attributes: &Attributes) -> Result<(), FsError> {
        self.make_new(path, "make the link", |dir, name| {
            rustix::fs::symlinkat(OsStr::from_bytes(target), dir, name)
        })?;
        self.finish_by_name(path, attributes, false)
    }

    /// Makes a named pipe.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn fifo(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), FsError> {
        self.make_new(path, "make the pipe", |dir, name| {
            rustix::fs::mknodat(dir, name, FileType::Fifo, Mode::RUSR, 0)
        })?;
        self.finish_by_name(path, attributes, true)
    }

    /// Gives a file of this folder one more name. Only files and links have several.
    ///
    /// # Errors
    /// `NotFound` when the folder does not have the file, or what the kernel says.
    pub fn hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), FsError> {
        let at = |e: Errno| FsError::new("link to", shown(target), e);
        if path == target {
            return Err(at(Errno::INVAL));
        }
        let (target_dir, target_name) = split(target);
        let (from, from_path) = open_beneath(&self.root, target_dir).map_err(at)?;
        let target_name = OsStr::from_bytes(target_name);
        let stat = rustix::fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(at)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
            FileType::CharacterDevice => return Err(at(Errno::NOENT)),
            _ => return Err(at(Errno::PERM)),
        }
        let target_path = joined(&from_path, target_name.as_bytes());
        self.make_new(path, "make the link", |dir, name| {
            rustix::fs::linkat(&from, target_name, dir, name, AtFlags::empty())
        })?;
        let (uid, gid) = self.owned.get(&target_path).copied().unwrap_or((0, 0));
        let path = self.parent_path(path);
        self.own(&path, uid, gid)
    }

    /// Hides `path` of the layers below. What this layer has there itself stays, alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn whiteout(&mut self, path: &[u8]) -> Result<(), FsError> {
        let (dir, name) = self.parent_and_name(path)?;
        // Device 0:0 is a whiteout that any user may make since Linux 5.8.
        match rustix::fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) if is_dir(dir, name) => self.opaque(path),
            Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(FsError::new("hide", shown(path), e)),
        }
    }

    /// Hides what the layers below have in the folder `path`.
    ///
    /// # Errors
    /// What the kernel says: a file system without extended attributes cannot do it.
    pub fn opaque(&mut self, path: &[u8]) -> Result<(), FsError> {
        let at = |e: Errno| FsError::new("mark as opaque", shown(path), e);
        let fd = if path.is_empty() {
            self.root.try_clone().map_err(|e| FsError::new("open", ".", e))?
        } else {
            self.make_dir(path, false)?;
            let (dir, name) = self.parent_and_name(path)?;
            open_dir_at(dir, name).map_err(at)?
        };
        rustix::fs::fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(at)
    }

    /// Gives the folders their modes and times, deepest first, and tells what was written down.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn finish(self) -> Result<Filled, FsError> {
        for (path, later) in self.later.iter().rev() {
            let at = |e: Errno| FsError::new("set the mode of", shown(path), e);
            let (fd, _) = open_beneath(&self.root, path).map_err(at)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(later.mode)).map_err(at)?;
            if later.mtime.is_some() {
                rustix::fs::futimens(&fd, &times(later.mtime)).map_err(at)?;
            }
        }
        let implied = self.later.into_iter().filter(|(_, later)| later.is_implied).map(|(path, _)| path);
        Ok(Filled {
            ids: self.ids,
            owned: self.owned,
            implied: implied.collect(),
            xattrs_lost: self.xattrs_lost,
        })
    }

    fn set_xattrs(
        &mut self,
        path: &[u8],
        fd: BorrowedFd<'_>,
        attributes: &Attributes,
    ) -> Result<(), FsError> {
        for (name, value) in &attributes.xattrs {
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.xattrs_lost += 1,
                Err(e) => return Err(FsError::new("set an extended attribute of", shown(path), e)),
            }
        }
        Ok(())
    }

    fn finish_by_name(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        has_mode: bool,
    ) -> Result<(), FsError> {
        let at = |action| move |e: Errno| FsError::new(action, shown(path), e);
        let true_path = self.parent_path(path);
        self.own(&true_path, attributes.uid, attributes.gid)?;
        let owners = self.owners;
        let (dir, name) = self.parent_and_name(path)?;
        if owners == Owners::Apply {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(at("give to its owner"))?;
        }
        if has_mode {
            // fchmodat(2) follows links; this name was made above and nobody else can reach it.
            let mode = Mode::from_raw_mode(attributes.mode);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).map_err(at("set the mode of"))?;
        }
        rustix::fs::utimensat(dir, name, &times(Some(attributes.mtime)), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(at("set the time of"))
    }

    /// Makes something at `path`; what is there gives way, as in Docker.
    fn make_new<T>(
        &mut self,
        path: &[u8],
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, FsError> {
        let (dir, name) = self.parent_and_name(path)?;
        match make(dir, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| FsError::new(action, shown(path), e)),
        }
        self.remove(path)?;
        let (dir, name) = self.parent_and_name(path)?;
        make(dir, name).map_err(|e| FsError::new(action, shown(path), e))
    }

    /// Makes the folder `path` or keeps the one that is there; tells its true path. What is there
    /// and is no folder gives way only when an entry says so (`replace`), or when it is a whiteout.
    fn make_dir(&mut self, path: &[u8], replace: bool) -> Result<Vec<u8>, FsError> {
        let at = |e: Errno| FsError::new("make the folder", shown(path), e);
        let (dir, name) = self.parent_and_name(path)?;
        let made = rustix::fs::mkdirat(dir, name, Mode::RWXU);
        let is_there = made == Err(Errno::EXIST) && is_dir(dir, name);
        let was_hidden = made == Err(Errno::EXIST) && is_whiteout(dir, name);
        match made {
            Err(Errno::EXIST) if !is_there => {
                if !replace && !was_hidden {
                    return Err(at(Errno::NOTDIR));
                }
                self.remove(path)?;
                let (dir, name) = self.parent_and_name(path)?;
                rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(at)?;
                if was_hidden {
                    let fd = open_dir_at(dir, name).map_err(at)?;
                    rustix::fs::fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).map_err(at)?;
                }
            }
            Err(e) if !is_there => return Err(at(e)),
            _ => {}
        }
        let true_path = self.parent_path(path);
        if !is_there {
            self.own(&true_path, 0, 0)?;
            // What stands where the same layer hid something is new and owes nothing to what was hidden.
            let is_implied = !was_hidden;
            self.finish_later(true_path.clone(), Later { mode: DIR_MODE, mtime: None, is_implied })?;
        }
        Ok(true_path)
    }

    /// Remembers what a folder gets at the end.
    fn finish_later(&mut self, path: Vec<u8>, later: Later) -> Result<(), FsError> {
        self.later_bytes += path.len() + 64;
        if self.later_bytes > self.later_bytes_max {
            let why = format!("the names of its folders have more than {} bytes", self.later_bytes_max);
            let source = io::Error::new(io::ErrorKind::FileTooLarge, why);
            return Err(FsError::new("keep the name of", shown(&path), source));
        }
        self.later.insert(path, later);
        Ok(())
    }

    /// Removes what is at `path`, with everything in it, and forgets it.
    fn remove(&mut self, path: &[u8]) -> Result<(), FsError> {
        let at = |e: Errno| FsError::new("replace", shown(path), e);
        let (dir, name) = self.parent_and_name(path)?;
        remove_at(dir, name).map_err(at)?;
        let gone = self.parent_path(path);
        // What is inside sorts between `gone/` and `gone0`, the byte after the slash.
        let inside = [gone.as_slice(), b"/"].concat()..[gone.as_slice(), b"0"].concat();
        let owned: Vec<_> = self.owned.range(inside.clone()).map(|(key, _)| key.clone()).collect();
        let later: Vec<_> = self.later.range(inside).map(|(key, _)| key.clone()).collect();
        for key in owned.iter().chain([&gone]) {
            self.owned.remove(key);
        }
        for key in later.iter().chain([&gone]) {
            self.later.remove(key);
        }
        self.parent = None;
        Ok(())
    }

    fn own(&mut self, path: &[u8], uid: u32, gid: u32) -> Result<(), FsError> {
        self.ids.uids.insert(uid);
        self.ids.gids.insert(gid);
        if self.ids.uids.len().max(self.ids.gids.len()) > IDS_MAX {
            let why = format!("its files have more than {IDS_MAX} owners");
            let source = io::Error::new(io::ErrorKind::FileTooLarge, why);
            return Err(FsError::new("keep the owner of", shown(path), source));
        }
        if (uid, gid) == (0, 0) {
            self.owned.remove(path);
        } else {
            self.owned.insert(path.to_vec(), (uid, gid));
        }
        Ok(())
    }

    /// The true path of `path`, whose parent was just opened.
    fn parent_path(&self, path: &[u8]) -> Vec<u8> {
        let (dir, name) = split(path);
        match &self.parent {
            Some(parent) if parent.asked == dir => joined(&parent.path, name),
            _ => path.to_vec(),
        }
    }

    /// The open parent of `path`, made when it is missing, and the last name.
    fn parent_and_name<'a>(&'a mut self, path: &'a [u8]) -> Result<(BorrowedFd<'a>, &'a OsStr), FsError> {
        let (dir, name) = split(path);
        if self.parent.as_ref().is_none_or(|parent| parent.asked != dir) {
            let opened = match open_beneath(&self.root, dir) {
                Err(Errno::NOENT | Errno::NOTDIR) if !dir.is_empty() => {
                    self.make_dir(dir, false)?;
                    open_beneath(&self.root, dir)
                }
                other => other,
            };
            let (fd, path) = opened.map_err(|e| FsError::new("open the folder", shown(dir), e))?;
            self.parent = Some(Parent { asked: dir.to_vec(), path, fd });
        }
        match &self.parent {
            Some(parent) => Ok((parent.fd.as_fd(), OsStr::from_bytes(name))),
            None => Err(FsError::new("open the folder", shown(dir), Errno::NOENT)),
        }
    }
}

fn shown(path: &[u8]) -> PathBuf {
    if path.is_empty() { PathBuf::from(".") } else { PathBuf::from(OsStr::from_bytes(path)) }
}

/// Parent and last name of a clean relative path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn joined(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() && !name.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

fn times(mtime: Option<(i64, u32)>) -> Timestamps {
    let (tv_sec, nanos) = mtime.unwrap_or((0, 0));
    let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: omit, last_modification: Timespec { tv_sec, tv_nsec: nanos.into() } }
}

/// Opens a folder beneath the root, through links inside it when there are any, and tells where it
/// really is.
fn open_beneath(root: &OwnedFd, asked: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
    let path = Path::new(OsStr::from_bytes(if asked.is_empty() { b"." } else { asked }));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), beneath) {
        Err(Errno::LOOP) => {}
        other => return other.map(|fd| (fd, asked.to_vec())),
    }
    let errno = |e: &io::Error| Errno::from_io_error(e).unwrap_or(Errno::IO);
    let fd = open_in_root(root.as_fd(), path, flags, Mode::empty()).map_err(|e| errno(&e.source))?;
    let place =
        |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|e| errno(&e));
    let (outer, inner) = (place(root)?, place(&fd)?);
    let inside = inner.strip_prefix(&outer).map_err(|_outside| Errno::XDEV)?;
    let inside = inside.as_os_str().as_bytes().to_vec();
    Ok((fd, inside))
}

fn open_dir_at(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn is_dir(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
}
