//! The file systems below `/dev` that every container has: terminals, shared memory, message queues.
//!
//! libcontainer could mount them too. It then proves anew for each of them, with some seventy system
//! calls, that the `/dev` it has just made is genuine; here one descriptor of `/dev` serves for all.
//! Runs in the container's first process, before it gives anything up. `/dev` itself is libcontainer's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::container::rootfs::attach;

/// What a file system says it is (statfs(2)).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A step that the kernel refused, for a message: "cannot ... inside the container".
pub type Refused = (&'static str, rustix::io::Errno);

/// The mounts of `spec` that [`mount_all`] makes and libcontainer is not shown. None when anything
/// else goes below `/dev`: the order of the spec is kept then, and libcontainer makes them all.
pub fn ours(spec: &Spec) -> Vec<&Mount> {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let below_dev =
        || mounts.iter().filter(|m| m.destination() != "/dev" && m.destination().starts_with("/dev"));
    if below_dev().all(is_plain) { below_dev().collect() } else { Vec::new() }
}

fn is_plain(mount: &Mount) -> bool {
    let kind = mount.typ().as_deref().unwrap_or_default();
    matches!(
        (mount.destination().to_str(), kind),
        (Some("/dev/pts"), "devpts") | (Some("/dev/shm"), "tmpfs") | (Some("/dev/mqueue"), "mqueue")
    )
}

/// Mounts what [`ours`] names in the `/dev` of `root`.
///
/// # Errors
/// The step and what the kernel said; a `/dev` that is no fresh file system of ours is `ENOTDIR`.
pub fn mount_all(spec: &Spec, root: BorrowedFd<'_>) -> Result<(), Refused> {
    let mounts = ours(spec);
    if mounts.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let wrong = |e| ("open `/dev`", e);
    let dev = rustix::fs::openat2(root, "/dev", flags, Mode::empty(), resolve).map_err(wrong)?;
    if rustix::fs::fstatfs(&dev).map_err(wrong)?.f_type != TMPFS_MAGIC {
        return Err(wrong(rustix::io::Errno::NOTDIR));
    }
    for mount in mounts {
        let name = mount.destination().file_name().map(Path::new).unwrap_or(Path::new(""));
        let wrong = |e| ("make a folder in `/dev`", e);
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(wrong)?;
        let target =
            rustix::fs::openat(&dev, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(wrong)?;
        let tree = fresh(mount).map_err(|e| ("mount a file system for `/dev`", e))?;
        attach(tree.as_fd(), target.as_fd()).map_err(|e| ("mount a file system in `/dev`", e))?;
    }
    Ok(())
}

/// A new file system as `mount` says, attached nowhere.
fn fresh(mount: &Mount) -> rustix::io::Result<OwnedFd> {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", kind)?;
    let mut attributes = MountAttrFlags::empty();
    for option in mount.options().iter().flatten() {
        match (option.as_str(), option.split_once('=')) {
            ("nosuid", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            ("noexec", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            ("nodev", _) => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            (_, Some((key, value))) => {
                rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
            }
            (flag, None) => rustix::mount::fsconfig_set_flag(context.as_fd(), flag)?,
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mounts: &[(&str, &str)], expected: &[&str]) {
        let mounts: Vec<_> =
            mounts.iter().map(|(to, kind)| serde_json::json!({ "destination": to, "type": kind })).collect();
        let text = serde_json::json!({ "ociVersion": "1.2.0", "mounts": mounts }).to_string();
        let spec: Spec = serde_json::from_str(&text).unwrap();
        let found: Vec<_> = ours(&spec).iter().map(|m| m.destination().display().to_string()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_usual_mounts_below_dev_are_ours_unless_something_else_goes_there() {
        let usual = [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")];
        check(&usual, &["/dev/pts", "/dev/shm"]);
        check(&[usual.as_slice(), &[("/devices", "bind")]].concat(), &["/dev/pts", "/dev/shm"]);
        check(&[usual.as_slice(), &[("/dev/shm/data", "bind")]].concat(), &[]);
        check(&[usual.as_slice(), &[("/dev/fuse", "bind")]].concat(), &[]);
        check(&[usual.as_slice(), &[("/dev/shm", "bind")]].concat(), &[]);
        check(&usual[..2], &[]);
    }
}
