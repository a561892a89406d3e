//! The tree a container sees: overlay or an empty tree with the host's system folders, and mounts on it.
//!
//! Everything is found and mounted by descriptor beneath the root, so no link of an image leads
//! anywhere else (CVE-2021-30465, CVE-2024-45310). It runs in the stage, in its own mount namespace.
//! `/dev`, `/proc` and what stands below them are libcontainer's.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};

use crate::container::mounts::Propagation;
use crate::container::plan::{Plan, PlannedMount, PlannedSource, Root};
use crate::error::{ErrorKind, Fault};
use crate::sys::fs::{self, FsError};
use crate::sys::process::{self, ProcessError};

/// Links to places that are not there yet, one behind the other, that are followed to a mount point.
const LINKS_MAX: usize = 8;
/// Where the kernel's own file systems are mounted.
const KERNELS: [&str; 3] = ["/proc", "/dev", "/sys"];

/// A file of ours: where it stands inside, what it says.
type File = (PathBuf, String);

/// Why the tree could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A file operation failed.
    #[error("cannot prepare the container's root filesystem")]
    Fs(#[from] FsError),
    /// A mount failed.
    #[error("cannot mount {what} on `{target}`")]
    Mount {
        /// What.
        what: String,
        /// Where inside.
        target: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The attributes of a mount could not be set.
    #[error("cannot protect the mount on `{target}`")]
    Attributes {
        /// Where inside.
        target: PathBuf,
        /// What the kernel said.
        #[source]
        source: ProcessError,
    },
    /// A bind's source is not there.
    #[error("`{path}` of the host cannot be mounted")]
    Source {
        /// On the host.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The image has something else where the kernel's file systems are mounted.
    #[error("`{path}` in the image is not a folder, but {what}")]
    NotAFolder {
        /// Where inside.
        path: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// The working folder lies where the kernel's own files are.
    #[error("the working folder `{path}` lies in the kernel's own file system")]
    Workdir {
        /// What was asked.
        path: PathBuf,
    },
}

impl Fault for RootfsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::Mount { source, .. } | Self::Source { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Failed,
            },
            Self::Attributes { .. } => ErrorKind::Denied,
            Self::NotAFolder { .. } => ErrorKind::Corrupt,
            Self::Workdir { .. } => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Source { path, .. } => vec![format!("make it first: `mkdir -p {}`", path.display())],
            Self::NotAFolder { .. } => {
                vec![
                    "an image like this would lead mounts elsewhere: build it with a plain folder there"
                        .to_owned(),
                ]
            }
            Self::Workdir { .. } => vec!["choose another one: `--workdir /`".to_owned()],
            Self::Mount { what, .. } if what == "overlay" => {
                vec!["`cuddy doctor` says whether this host allows rootless overlay mounts".to_owned()]
            }
            Self::Fs(_) | Self::Mount { .. } | Self::Attributes { .. } => Vec::new(),
        }
    }
}

/// Puts the root filesystem of `plan` together at `plan.rootfs` and gives its descriptor.
///
/// # Errors
/// [`RootfsError`] names the mount or the file.
pub fn assemble(plan: &Plan) -> Result<OwnedFd, RootfsError> {
    // A file of ours needs a mount of its own only where something else would cover it.
    let is_covered = |file: &&File| plan.mounts.iter().any(|mount| file.0.starts_with(&mount.target));
    let (mut mounted, direct): (Vec<&File>, Vec<&File>) = plan.files.iter().partition(is_covered);
    let root = match &plan.root {
        Root::Empty { links, folders } => {
            let root = mount_empty(plan, links, folders)?;
            for file in direct {
                write_in_root(root.as_fd(), file)?;
            }
            root
        }
        Root::Layers { lowers, upper, work } => {
            let mut lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
            let top = plan.scratch.join("top");
            if make_top(&top, &direct, &lowers)? {
                lowers.push(&top);
            } else {
                mounted.extend(direct);
            }
            mount_layers(plan, &lowers, upper, work)?
        }
    };
    for path in KERNELS {
        require_folder(root.as_fd(), path)?;
    }
    for mount in plan.mounts.iter().filter(|mount| !is_late(mount)) {
        add_mount(root.as_fd(), mount)?;
    }
    for (link, target) in &plan.links {
        add_link(root.as_fd(), link, target)?;
    }
    let read_only = plan.spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false);
    for (target, text) in mounted {
        let tree = write_file(&plan.scratch, target, text)?;
        if read_only {
            process::set_mount_attributes(tree.as_fd(), process::MOUNT_ATTR_RDONLY, 0, None, false)
                .map_err(|source| RootfsError::Attributes { target: target.clone(), source })?;
        }
        add_file(root.as_fd(), tree.as_fd(), target)?;
    }
    Ok(root)
}

/// Whether a mount belongs on a file system of the kernel that does not stand yet.
fn is_late(mount: &PlannedMount) -> bool {
    mount.target.starts_with("/dev") || mount.target.starts_with("/sys")
}

/// Mounts below `/dev` and `/sys`, made ready in `plan.scratch` as every other mount is made, for the
/// spec to bind where they belong.
///
/// # Errors
/// [`RootfsError`] names the mount.
pub fn prepare_late_mounts(plan: &Plan) -> Result<Vec<Mount>, RootfsError> {
    let scratch = fs::open_dir(&plan.scratch)?;
    let mut prepared = Vec::new();
    for (i, mount) in plan.mounts.iter().filter(|mount| is_late(mount)).enumerate() {
        let name = format!("late-{i}");
        let here = PlannedMount { target: Path::new("/").join(&name), ..mount.clone() };
        add_mount(scratch.as_fd(), &here)?;
        // libcontainer sets the flags of the topmost mount anew; those below it keep theirs.
        let mut options = vec!["rbind", "nosuid", "nodev"];
        options.extend(mount.read_only.then_some("ro"));
        options.extend(matches!(mount.what, PlannedSource::Tmpfs { exec: false, .. }).then_some("noexec"));
        let mut late = Mount::default();
        late.set_destination(mount.target.clone());
        late.set_typ(Some("bind".to_owned()));
        late.set_source(Some(plan.scratch.join(name)));
        late.set_options(Some(options.into_iter().map(str::to_owned).collect()));
        prepared.push(late);
    }
    Ok(prepared)
}

/// Makes the working folder when the image has none, as Docker does.
///
/// # Errors
/// [`RootfsError::Workdir`] below `/proc`, or what stands in the way (CVE-2024-21626).
pub fn make_workdir(root: BorrowedFd<'_>, path: &Path) -> Result<(), RootfsError> {
    if ["/proc", "/sys", "/dev/fd"].iter().any(|kernels| path.starts_with(kernels)) {
        return Err(RootfsError::Workdir { path: path.to_owned() });
    }
    if path.starts_with("/dev") {
        return Ok(());
    }
    fs::make_dirs_in_root(root, path, Mode::from_raw_mode(0o755))?;
    Ok(())
}

fn mount_empty(
    plan: &Plan,
    links: &[(PathBuf, PathBuf)],
    folders: &[(PathBuf, u32)],
) -> Result<OwnedFd, RootfsError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", &plan.rootfs, "tmpfs", flags, Some(c"mode=0755"))
        .map_err(|e| root_failed("tmpfs", e))?;
    let root = fs::open_dir(&plan.rootfs)?;
    for (path, mode) in folders {
        let folder = fs::make_dirs_in_root(root.as_fd(), path, Mode::from_raw_mode(0o755))?;
        if *mode != 0o755 {
            let by_number = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            rustix::fs::chmod(&by_number, Mode::from_raw_mode(*mode))
                .map_err(|e| FsError::new("set the mode of", path, e))?;
        }
    }
    for (link, target) in links {
        add_link(root.as_fd(), link, target)?;
    }
    Ok(root)
}

fn mount_layers(plan: &Plan, lowers: &[&Path], upper: &Path, work: &Path) -> Result<OwnedFd, RootfsError> {
    let held: Vec<OwnedFd> = lowers.iter().map(|l| fs::open_dir(l)).collect::<Result<_, _>>()?;
    let (upper, work) = (fs::open_dir(upper)?, fs::open_dir(work)?);
    let by_number = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    // Short names keep any number of layers inside the one page that mount(2) takes.
    let lower = held.iter().rev().map(by_number).collect::<Vec<_>>().join(":");
    // Its upper layer ends with the container. Without `volatile` the kernel writes the host's whole file
    // system of that layer to disk when it ends, whoever wrote there (overlayfs.rst, "Volatile mount").
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={},userxattr,volatile",
        by_number(&upper),
        by_number(&work)
    );
    let options = std::ffi::CString::new(options).unwrap_or_default();
    rustix::mount::mount("overlay", &plan.rootfs, "overlay", MountFlags::NODEV, Some(options.as_c_str()))
        .map_err(|e| root_failed("overlay", e))?;
    Ok(fs::open_dir(&plan.rootfs)?)
}

fn root_failed(what: &str, e: rustix::io::Errno) -> RootfsError {
    RootfsError::Mount { what: what.to_owned(), target: "/".into(), source: e.into() }
}

/// Writes files of ours, and the folders of [`KERNELS`] that no layer has, into a layer that stands on top
/// of the image's, in memory: nothing is made on disk for them, and no link of the image is looked at. `false` when the image has no plain folder
/// where they belong, which such a layer would hide.
fn make_top(top: &Path, files: &[&File], lowers: &[&Path]) -> Result<bool, RootfsError> {
    let made = |e| FsError::new("make the folder", top, e);
    rustix::fs::mkdir(top, Mode::from_raw_mode(0o755)).map_err(made)?;
    for (target, text) in files {
        let (Some(parent), Some(name)) =
            (target.parent().and_then(|p| p.strip_prefix("/").ok()), target.file_name())
        else {
            return Ok(false);
        };
        // Only the topmost that has it counts: it hides what is below.
        let stat = lowers.iter().rev().find_map(|lower| rustix::fs::lstat(lower.join(parent)).ok());
        let mode = stat.map_or(0o755, |stat| stat.st_mode);
        if parent.components().count() != 1
            || stat.is_some_and(|s| !FileType::from_raw_mode(s.st_mode).is_dir())
        {
            return Ok(false);
        }
        let folder = top.join(parent);
        match rustix::fs::mkdir(&folder, Mode::from_raw_mode(mode & 0o7777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(FsError::new("make the folder", folder, e).into()),
        }
        write_own(fs::open_dir(&folder)?.as_fd(), name, text)?;
    }
    for path in KERNELS {
        // The lowest layer is the one that most often has them.
        if !lowers.iter().any(|lower| rustix::fs::lstat(lower.join(&path[1..])).is_ok()) {
            rustix::fs::mkdir(top.join(&path[1..]), Mode::from_raw_mode(0o755)).map_err(made)?;
        }
    }
    Ok(true)
}

/// Writes a file of ours where the root is ours.
fn write_in_root(root: BorrowedFd<'_>, (target, text): &File) -> Result<(), RootfsError> {
    let parent =
        fs::make_dirs_in_root(root, target.parent().unwrap_or(Path::new("/")), Mode::from_raw_mode(0o755))?;
    Ok(write_own(parent.as_fd(), target.file_name().unwrap_or_default(), text)?)
}

/// The stage's file mode mask lets this mode through.
fn write_own(folder: BorrowedFd<'_>, name: &OsStr, text: &str) -> Result<(), FsError> {
    fs::write_new_file(folder, name, text.as_bytes(), Mode::from_raw_mode(0o644))
}

/// A link where `/dev` or `/proc` belongs would lead the kernel's mounts, or files made in them,
/// out of the tree (CVE-2023-27561, CVE-2025-54867, CVE-2026-41579).
fn require_folder(root: BorrowedFd<'_>, path: &'static str) -> Result<(), RootfsError> {
    let name = &path[1..];
    match rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => {
            let made = rustix::fs::mkdirat(root, name, Mode::from_raw_mode(0o755));
            made.map_err(|e| FsError::new("make the folder", path, e).into())
        }
        Err(e) => Err(FsError::new("look at", path, e).into()),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(()),
            FileType::Symlink => Err(RootfsError::NotAFolder { path, what: "a symbolic link" }),
            _ => Err(RootfsError::NotAFolder { path, what: "a file" }),
        },
    }
}

fn add_link(root: BorrowedFd<'_>, link: &Path, target: &Path) -> Result<(), RootfsError> {
    let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
        return Ok(());
    };
    let parent = fs::make_dirs_in_root(root, parent, Mode::from_raw_mode(0o755))?;
    match rustix::fs::symlinkat(target, &parent, name) {
        // What is there already is a mount that holds the link itself.
        Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::ROFS) => Ok(()),
        Err(e) => Err(FsError::new("make the link", link, e).into()),
    }
}

fn add_mount(root: BorrowedFd<'_>, mount: &PlannedMount) -> Result<(), RootfsError> {
    let failed = |what: &str| {
        let (what, target) = (what.to_owned(), mount.target.clone());
        move |e: rustix::io::Errno| RootfsError::Mount { what, target, source: e.into() }
    };
    match &mount.what {
        PlannedSource::Tmpfs { options, exec } => {
            let target = fs::make_dirs_in_root(root, &mount.target, Mode::from_raw_mode(0o755))?;
            let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
            flags.set(MountFlags::NOEXEC, !exec);
            flags.set(MountFlags::RDONLY, mount.read_only);
            let options = std::ffi::CString::new(options.as_str()).unwrap_or_default();
            let by_number = format!("/proc/self/fd/{}", target.as_raw_fd());
            rustix::mount::mount("tmpfs", by_number, "tmpfs", flags, Some(options.as_c_str()))
                .map_err(failed("tmpfs"))
        }
        PlannedSource::Bind { path, optional, no_links } => {
            let tree = match clone_tree(path, *no_links) {
                Err(RootfsError::Source { source, .. })
                    if *optional && source.kind() == io::ErrorKind::NotFound =>
                {
                    return Ok(());
                }
                other => other?,
            };
            // Devices and set-user-id programs of the host are never of use inside.
            let mut attributes = process::MOUNT_ATTR_NODEV | process::MOUNT_ATTR_NOSUID;
            if mount.read_only {
                attributes |= process::MOUNT_ATTR_RDONLY;
            }
            process::set_mount_attributes(tree.as_fd(), attributes, 0, None, true)
                .map_err(|source| RootfsError::Attributes { target: mount.target.clone(), source })?;
            let target = mount_point(root, &mount.target, is_folder(tree.as_fd(), path)?)?;
            attach(tree.as_fd(), target.as_fd()).map_err(failed(&format!("`{}`", path.display())))?;
            set_propagation(tree.as_fd(), mount)
        }
    }
}

fn is_folder(fd: BorrowedFd<'_>, path: &Path) -> Result<bool, FsError> {
    let stat = rustix::fs::fstat(fd).map_err(|e| FsError::new("look at", path, e))?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// A private copy of the mounts at `path`, attached nowhere.
fn clone_tree(path: &Path, no_links: bool) -> Result<OwnedFd, RootfsError> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let wrong = |e: rustix::io::Errno| RootfsError::Source { path: path.to_owned(), source: e.into() };
    if !no_links {
        return rustix::mount::open_tree(rustix::fs::CWD, path, flags).map_err(wrong);
    }
    let resolve = rustix::fs::ResolveFlags::NO_SYMLINKS;
    let found =
        rustix::fs::openat2(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(wrong)?;
    rustix::mount::open_tree(&found, "", flags | OpenTreeFlags::AT_EMPTY_PATH).map_err(wrong)
}

/// Attaches a detached mount over what `target` refers to.
///
/// # Errors
/// What the kernel says.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags)
}

fn set_propagation(tree: BorrowedFd<'_>, mount: &PlannedMount) -> Result<(), RootfsError> {
    let Some(propagation) = mount.propagation else { return Ok(()) };
    let by_number = format!("/proc/self/fd/{}", tree.as_raw_fd());
    rustix::mount::mount_change(by_number, propagation_flags(propagation)).map_err(|e| RootfsError::Mount {
        what: "a propagation".to_owned(),
        target: mount.target.clone(),
        source: e.into(),
    })
}

/// The kernel's flags of a propagation.
pub fn propagation_flags(propagation: Propagation) -> MountPropagationFlags {
    match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Rprivate => MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
        Propagation::Rslave => MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Rshared => MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    }
}

/// Opens the place inside where a mount goes, making a folder or an empty file when it is missing. What is
/// there is never taken away: it may lie in a folder of the host that was mounted before.
fn mount_point(root: BorrowedFd<'_>, path: &Path, folder: bool) -> Result<OwnedFd, FsError> {
    if folder {
        return fs::make_dirs_in_root(root, path, Mode::from_raw_mode(0o755));
    }
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::open_in_root(root, &path, OFlags::PATH, Mode::empty()) {
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let name: &OsStr = path.file_name().unwrap_or_default();
        let parent = fs::make_dirs_in_root(root, &folder, Mode::from_raw_mode(0o755))?;
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            // A link that leads nowhere yet: what it names is made, inside.
            Ok(target) => path = folder.join(OsStr::from_bytes(target.as_bytes())),
            Err(_) => {
                let made = fs::write_new_file(parent.as_fd(), name, b"", Mode::from_raw_mode(0o644));
                made.map_err(|e| FsError::new("make the mount point", &path, e.source))?;
            }
        }
    }
    Err(FsError::new("make the mount point", path, rustix::io::Errno::LOOP))
}

/// Writes a file of ours where only we are, and gives it as a mount attached nowhere.
fn write_file(scratch: &Path, target: &Path, text: &str) -> Result<OwnedFd, RootfsError> {
    let name: String = target.to_string_lossy().replace('/', "_");
    write_own(fs::open_dir(scratch)?.as_fd(), name.as_ref(), text)?;
    clone_tree(&scratch.join(name), false)
}

/// Puts a file of ours over `target`: the image's own is neither followed nor changed (CVE-2025-24965).
fn add_file(root: BorrowedFd<'_>, tree: BorrowedFd<'_>, target: &Path) -> Result<(), RootfsError> {
    let place = mount_point(root, target, false)?;
    attach(tree, place.as_fd()).map_err(|e| RootfsError::Mount {
        what: "a file of ours".to_owned(),
        target: target.to_owned(),
        source: e.into(),
    })
}
