//! The one owner of root descriptors: every file and folder of a workspace is opened through here.
//!
//! Reading opens beneath a root (`RESOLVE_BENEATH`), without waiting, and takes regular files only. Changing
//! opens the folder beneath the root and then acts on one name in it, after asking where that folder really is:
//! a link cannot lead a change into a read-only root or to what is protected. No error names what lies outside.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::sys::fs::open_beneath;
use crate::workspace::path::{self, Inside, Located, Protection, RootPaths};
use crate::workspace::refusal::{Code, Refusal};

/// Most links that are followed by hand because they are absolute and lead back into a root.
const LINKS_MAX: usize = 16;

/// Whether a root may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading and changing.
    ReadWrite,
    /// Reading only.
    ReadOnly,
}

/// One root as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootRequest {
    /// As typed: absolute, relative to the current folder, or below `~`.
    pub path: String,
    /// What may be done there.
    pub access: Access,
}

/// One root: a descriptor and what it is called.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// What may be done here.
    pub access: Access,
}

impl Root {
    /// The folder itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A place that a client named: in a root, not yet looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// What the client wrote.
    pub asked: String,
    /// Which root.
    pub root: usize,
    /// Which way beneath it.
    pub inside: Inside,
    /// The whole path by text.
    pub absolute: PathBuf,
}

/// Something that was opened, and where it really is.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor.
    pub fd: OwnedFd,
    /// What it is.
    pub stat: Stat,
}

/// A folder that can be changed, and one name in it.
#[derive(Debug)]
pub struct Parent {
    /// The folder.
    pub fd: OwnedFd,
    /// One name, never with a slash.
    pub name: OsString,
    /// The root it is really in.
    pub root: usize,
    /// The real way of folder and name beneath that root.
    pub inside: Inside,
}

/// The roots of one workspace.
#[derive(Debug)]
pub struct Roots {
    roots: Vec<Root>,
    paths: Vec<RootPaths>,
    home: Option<PathBuf>,
    protection: Protection,
}

impl Roots {
    /// Opens every folder of `requests`. `home` is what `~` means, `cwd` is where relative paths begin.
    ///
    /// # Errors
    /// The first folder that cannot be opened, or a glob that is none.
    pub fn open(
        requests: &[RootRequest],
        home: Option<&Path>,
        cwd: &Path,
        protect: &[String],
    ) -> Result<Self, Refusal> {
        let (mut roots, mut paths) = (Vec::new(), Vec::new());
        for request in requests {
            let given = path::normal(&cwd.join(path::with_home(&request.path, home)));
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&given, flags, Mode::empty())
                .map_err(|e| Refusal::kernel("open the root", &request.path, e.raw_os_error()))?;
            let real = real_path(fd.as_fd()).unwrap_or_else(|_unknown| given.clone());
            roots.push(Root { fd, access: request.access });
            paths.push(RootPaths { given, real });
        }
        if roots.is_empty() {
            return Err(Refusal::new(Code::BadRequest, "a workspace has at least one root"));
        }
        let protection = Protection::new(protect)?;
        Ok(Self { roots, paths, home: home.map(Path::to_owned), protection })
    }

    /// The roots in the order in which they were named.
    pub fn all(&self) -> impl Iterator<Item = (&Root, &RootPaths)> {
        self.roots.iter().zip(&self.paths)
    }

    /// The root of this number.
    pub fn root(&self, number: usize) -> &Root {
        &self.roots[number]
    }

    /// The paths of the root of this number.
    pub fn paths(&self, number: usize) -> &RootPaths {
        &self.paths[number]
    }

    /// What nobody may change.
    pub fn protection(&self) -> &Protection {
        &self.protection
    }

    /// Where the path of a request leads, by its text.
    ///
    /// # Errors
    /// `PathEscape` or `BadRequest`.
    pub fn locate(&self, asked: &str) -> Result<Spot, Refusal> {
        let Located { root, inside, absolute } = path::locate(asked, self.home.as_deref(), &self.paths)?;
        Ok(Spot { asked: asked.to_owned(), root, inside, absolute })
    }

    /// The place of a way beneath a root.
    pub fn spot(&self, root: usize, inside: Inside) -> Spot {
        let absolute = self.paths[root].given.join(inside.relative());
        Spot { asked: absolute.to_string_lossy().into_owned(), root, inside, absolute }
    }

    /// Opens a regular file for reading, without ever waiting for it.
    ///
    /// # Errors
    /// `NotRegular`, `IsDirectory`, `PathEscape`, `NotFound`, or what the kernel says.
    pub fn open_file(&self, spot: &Spot) -> Result<(File, Stat), Refusal> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = self.open_any(spot, flags, "open")?;
        match FileType::from_raw_mode(opened.stat.st_mode) {
            FileType::RegularFile => Ok((File::from(opened.fd), opened.stat)),
            FileType::Directory => {
                Err(Refusal::kernel("read", &spot.asked, libc::EISDIR).hint("list it instead"))
            }
            kind => Err(not_regular(&spot.asked, kind)),
        }
    }

    /// Opens a folder for listing.
    ///
    /// # Errors
    /// `NotDirectory`, `PathEscape`, `NotFound`, or what the kernel says.
    pub fn open_folder(&self, spot: &Spot) -> Result<OwnedFd, Refusal> {
        Ok(self.open_any(spot, OFlags::RDONLY | OFlags::DIRECTORY, "open the folder")?.fd)
    }

    /// Names something without opening it: what it is, and where it really is, can be asked of it.
    ///
    /// # Errors
    /// `PathEscape`, `NotFound`, or what the kernel says.
    pub fn look(&self, spot: &Spot) -> Result<Opened, Refusal> {
        self.open_any(spot, OFlags::PATH, "look at")
    }

    fn open_any(&self, spot: &Spot, flags: OFlags, action: &str) -> Result<Opened, Refusal> {
        let wrong = |e: Errno| Refusal::kernel(action, &spot.asked, e.raw_os_error());
        let root = self.roots[spot.root].fd();
        let fd = match open_beneath(root, spot.inside.as_path(), flags, Mode::empty()) {
            // An absolute link may lead back into a root.
            Err(Errno::XDEV) => {
                let (root, inside) =
                    self.follow(spot.root, &spot.inside).ok_or_else(|| wrong(Errno::XDEV))?;
                open_beneath(self.roots[root].fd(), &inside, flags, Mode::empty()).map_err(wrong)?
            }
            other => other.map_err(wrong)?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(wrong)?;
        Ok(Opened { fd, stat })
    }

    /// Follows links by text where the kernel would not, for absolute ones that stay in a root. What comes out is
    /// only another way to try: it is opened beneath its root like any other.
    fn follow(&self, root: usize, inside: &Inside) -> Option<(usize, PathBuf)> {
        let (mut root, mut way) = (root, inside.relative().to_owned());
        for _ in 0..LINKS_MAX {
            let (before, target, rest) = self.first_link(root, &way)?;
            let absolute = path::normal(&self.paths[root].real.join(before).join(target));
            let (next, inside) = path::root_of(&absolute, &self.paths)?;
            (root, way) = (next, inside.relative().join(rest));
            let opened = open_beneath(self.roots[root].fd(), &at(&way), OFlags::PATH, Mode::empty());
            if !matches!(opened, Err(Errno::XDEV)) {
                return Some((root, at(&way)));
            }
        }
        None
    }

    /// The first part of a way that is a link: the way to its folder, where it leads, and what is left.
    fn first_link(&self, root: usize, way: &Path) -> Option<(PathBuf, PathBuf, PathBuf)> {
        let mut before = PathBuf::new();
        let mut parts = way.components();
        while let Some(part) = parts.next() {
            let here = before.join(part);
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let fd = open_beneath(self.roots[root].fd(), &here, flags, Mode::empty()).ok()?;
            let stat = rustix::fs::fstat(&fd).ok()?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).ok()?;
                let target = OsString::from_vec(target.into_bytes());
                return Some((before, target.into(), parts.as_path().to_owned()));
            }
            before = here;
        }
        None
    }

    /// Where something that was opened beneath a root really is now; `None` when it has left all of them.
    pub fn place_of(&self, fd: BorrowedFd<'_>) -> Option<(usize, Inside)> {
        path::root_of(&real_path(fd).ok()?, &self.paths)
    }

    /// The real path of something that was opened beneath a root, as a client may see it.
    pub fn real_path_of(&self, fd: BorrowedFd<'_>, spot: &Spot) -> PathBuf {
        match real_path(fd) {
            Ok(real) if path::root_of(&real, &self.paths).is_some() => real,
            _ => spot.absolute.clone(),
        }
    }

    /// The folder and the name of what shall be changed. Where the name is a link, the folder and the name of what
    /// it leads to.
    ///
    /// # Errors
    /// `ReadOnly`, `Protected`, `PathEscape`, or that the folder is not there.
    pub fn parent(&self, spot: &Spot) -> Result<Parent, Refusal> {
        match self.look(spot) {
            Ok(opened) => {
                let (root, inside) = self.place_of(opened.fd.as_fd()).ok_or_else(|| outside(&spot.asked))?;
                let parent = self.parent_of(root, &inside, &spot.asked)?;
                // What has just been looked at must be what the name means, or somebody moved it.
                match rustix::fs::statat(&parent.fd, &parent.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if same_file(&stat, &opened.stat) => Ok(parent),
                    _ => Err(moved(&spot.asked)),
                }
            }
            Err(e) if e.code == Code::NotFound => {
                let parent = self.name(spot)?;
                match rustix::fs::statat(&parent.fd, &parent.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => Ok(parent),
                    // It leads nowhere: where it would lead to is not to be made through it.
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                        Err(Refusal::new(
                            Code::NotFound,
                            format!("`{}` is a link that leads to nothing", spot.asked),
                        )
                        .at(&spot.asked))
                    }
                    _ => Err(moved(&spot.asked)),
                }
            }
            Err(other) => Err(other),
        }
    }

    /// The folder and the name itself, also where the name is a link: for what is moved or removed.
    ///
    /// # Errors
    /// As [`Roots::parent`].
    pub fn name(&self, spot: &Spot) -> Result<Parent, Refusal> {
        let Some((folder, name)) = spot.inside.split() else { return Err(is_root(&spot.asked)) };
        let above = Spot { inside: folder, ..spot.clone() };
        let opened = self.open_any(&above, OFlags::PATH | OFlags::DIRECTORY, "find the folder of")?;
        let (root, real) = self.place_of(opened.fd.as_fd()).ok_or_else(|| outside(&spot.asked))?;
        let inside = real.join(name);
        self.permit(root, &inside, &spot.asked)?;
        Ok(Parent { fd: opened.fd, name: name.to_owned(), root, inside })
    }

    fn parent_of(&self, root: usize, inside: &Inside, asked: &str) -> Result<Parent, Refusal> {
        self.permit(root, inside, asked)?;
        let Some((folder, name)) = inside.split() else { return Err(is_root(asked)) };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = open_beneath(self.roots[root].fd(), folder.as_path(), flags, Mode::empty())
            .map_err(|e| Refusal::kernel("find the folder of", asked, e.raw_os_error()))?;
        // A link may have come in between: it stays beneath the root, but what lies there may be protected.
        match self.place_of(fd.as_fd()) {
            Some((there, real)) if there == root && real == folder => {}
            _ => return Err(moved(asked)),
        }
        Ok(Parent { fd, name: name.to_owned(), root, inside: inside.clone() })
    }

    /// Whether a way may be changed.
    ///
    /// # Errors
    /// `ReadOnly` or `Protected`.
    pub fn permit(&self, root: usize, inside: &Inside, asked: &str) -> Result<(), Refusal> {
        if self.roots[root].access == Access::ReadOnly {
            return Err(Refusal::new(Code::ReadOnly, format!("`{asked}` is in a read-only folder"))
                .at(asked)
                .hint("write somewhere else, or ask for the folder without `--ro`"));
        }
        if self.protection.covers(inside) {
            return Err(Refusal::new(Code::Protected, format!("`{asked}` is protected"))
                .at(asked)
                .hint("use git itself for what git keeps; `--protect` says what is protected"));
        }
        Ok(())
    }
}

/// The way as openat2(2) wants it.
fn at(way: &Path) -> PathBuf {
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way.to_owned() }
}

/// Whether two looks saw the same file.
pub fn same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// What the kernel calls the file of a descriptor now (proc_pid_fd(5)).
fn real_path(fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(link.into_bytes())))
}

/// A file of another kind than a regular one.
pub fn not_regular(asked: &str, kind: FileType) -> Refusal {
    let what = match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::Directory => "a folder",
        FileType::Symlink => "a link",
        _ => "a device",
    };
    let text = format!("`{asked}` is {what}, not a regular file");
    Refusal::new(Code::NotRegular, text).at(asked).hint("only regular files are read and written")
}

fn outside(asked: &str) -> Refusal {
    Refusal::kernel("change", asked, libc::EXDEV)
}

fn moved(asked: &str) -> Refusal {
    Refusal::new(Code::Conflict, format!("`{asked}` was moved while it was looked at")).at(asked)
}

fn is_root(asked: &str) -> Refusal {
    Refusal::new(Code::IsDirectory, format!("`{asked}` is a root of the workspace itself")).at(asked)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn roots(outer: &Path) -> Roots {
        for folder in ["a/sub", "a/ref", "b", "a/.git/hooks"] {
            std::fs::create_dir_all(outer.join(folder)).unwrap();
        }
        std::fs::write(outer.join("secret"), "no").unwrap();
        std::fs::write(outer.join("b/file"), "b").unwrap();
        std::fs::write(outer.join("a/file"), "a").unwrap();
        std::fs::write(outer.join("a/ref/file"), "ref").unwrap();
        let request = |path: &str, access| RootRequest { path: path.to_owned(), access };
        let requests = [
            request("a", Access::ReadWrite),
            request("./b", Access::ReadWrite),
            request("a/ref", Access::ReadOnly),
        ];
        Roots::open(&requests, None, outer, &[path::PROTECTED.to_owned()]).unwrap()
    }

    #[track_caller]
    fn code<T: std::fmt::Debug>(result: Result<T, Refusal>, outer: &Path) -> Code {
        let refusal = result.unwrap_err();
        let text = refusal.to_json().to_string();
        assert!(!text.contains("secret"), "what is outside is named: {text}");
        assert!(!text.contains(&outer.join("out").display().to_string()), "{text}");
        refusal.code
    }

    #[test]
    fn links_are_followed_within_the_roots_and_never_out_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().canonicalize().unwrap();
        let roots = roots(&outer);
        symlink("../../secret", outer.join("a/sub/up")).unwrap();
        symlink(outer.join("secret"), outer.join("a/absolute")).unwrap();
        symlink(outer.join("b"), outer.join("a/other")).unwrap();
        symlink("/proc/self/root/etc/passwd", outer.join("a/magic")).unwrap();
        let open = |path: &str| roots.open_file(&roots.locate(path).unwrap());
        for path in ["sub/up", "absolute", "magic"] {
            assert_eq!(code(open(path), &outer), Code::PathEscape, "{path}");
        }
        assert!(open("file").is_ok());
        let (mut file, _) = open("other/file").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "b", "an absolute link from one root into another");
    }

    #[test]
    fn a_change_is_refused_where_its_folder_really_is_protected_or_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().canonicalize().unwrap();
        let roots = roots(&outer);
        symlink("ref", outer.join("a/link")).unwrap();
        symlink(".git", outer.join("a/plain")).unwrap();
        symlink("nothing", outer.join("a/dangling")).unwrap();
        let parent = |path: &str| roots.parent(&roots.locate(path).unwrap());
        assert_eq!(code(parent("link/new"), &outer), Code::ReadOnly);
        assert_eq!(code(parent("link/file"), &outer), Code::ReadOnly);
        assert_eq!(code(parent("ref/file"), &outer), Code::ReadOnly);
        assert_eq!(code(parent("plain/hooks/pre-commit"), &outer), Code::Protected);
        assert_eq!(code(parent("plain/config"), &outer), Code::Protected);
        assert_eq!(code(parent("dangling"), &outer), Code::NotFound);
        assert_eq!(code(parent("."), &outer), Code::IsDirectory);
        assert_eq!(parent("sub/new").unwrap().inside.text(), "sub/new");
        assert_eq!(parent("plain/HEAD").unwrap().inside.text(), ".git/HEAD");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().canonicalize().unwrap();
        let roots = roots(&outer);
        let fd = rustix::fs::open(outer.join("a"), OFlags::PATH, Mode::empty()).unwrap();
        rustix::fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(outer.join("a/socket")).unwrap();
        for path in ["fifo", "socket"] {
            let open = roots.open_file(&roots.locate(path).unwrap());
            assert_eq!(code(open, &outer), Code::NotRegular, "{path}");
        }
        assert_eq!(code(roots.open_file(&roots.locate("sub").unwrap()), &outer), Code::IsDirectory);
    }
}
