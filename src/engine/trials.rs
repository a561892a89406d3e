//! Tries on this host what a container needs, each in a child process that is gone afterwards.
//!
//! What the answers mean is `engine::doctor`.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use crate::error::{Error, ErrorKind};
use crate::sys::channel;
use crate::sys::fs::{self, FsError, remove_tree};
use crate::sys::process::{self, ProcessError};

/// Longest answer of a trial, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Makes a user and a mount namespace and mounts something in them: where AppArmor takes the new
/// namespace's capabilities away, only the mount tells.
///
/// # Errors
/// What the kernel says, in words.
pub fn user_namespace() -> Result<(), String> {
    apart(|| {
        process::enter_own_namespaces(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
        keep_mounts_apart()?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", "/tmp", "tmpfs", flags, Some(c"size=4k"))
            .map_err(|e| ProcessError::call("mount in a user namespace", e))?;
        Ok(())
    })
}

/// Mounts a rootless overlay below `folder`, where containers' own layers will lie.
///
/// # Errors
/// What the kernel says, in words.
pub fn overlay(folder: &Path) -> Result<(), String> {
    let dir = folder.join(".trial-overlay");
    let tried = make_layers(&dir).map_err(|e| Error::from(e).to_string()).and_then(|()| {
        apart(|| {
            process::enter_own_namespaces(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
            keep_mounts_apart()?;
            let at = |name: &str| dir.join(name).display().to_string();
            let options =
                format!("lowerdir={},upperdir={},workdir={},userxattr", at("lower"), at("upper"), at("work"));
            let options = CString::new(options).unwrap_or_default();
            rustix::mount::mount(
                "overlay",
                dir.join("merged"),
                "overlay",
                MountFlags::NODEV,
                Some(options.as_c_str()),
            )
            .map_err(|e| ProcessError::call("mount an overlay in a user namespace", e))?;
            Ok(())
        })
    });
    let removed = remove_tree(&dir).map_err(|e| Error::from(e).to_string());
    tried.and(removed)
}

fn make_layers(dir: &Path) -> Result<(), FsError> {
    remove_tree(dir)?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::make_private_dirs(&dir.join(name))?;
    }
    rustix::fs::chmod(dir, Mode::from_raw_mode(0o700)).map_err(|e| FsError::new("set the mode of", dir, e))
}

fn keep_mounts_apart() -> Result<(), ProcessError> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| ProcessError::call("keep mounts apart", e))
}

/// Does `work` in a child; its namespaces end with it.
fn apart(work: impl FnOnce() -> Result<(), Error>) -> Result<(), String> {
    let outcome = || -> Result<Result<(), String>, Error> {
        let (ours, theirs) = channel::pair()?;
        let Some(child) = process::fork(process::one_thread()?)? else {
            let said = work().map_or_else(|e| e.to_string(), |()| String::new());
            let _told = channel::send(theirs.as_fd(), format!("={said}").as_bytes(), None);
            process::exit_at_once(0);
        };
        drop(theirs);
        let answer = channel::receive(ours.as_fd(), ANSWER_BYTES_MAX);
        let _reaped = rustix::process::waitpid(Some(child), WaitOptions::empty());
        let answer = answer?.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned());
        Ok(match answer.as_deref().and_then(|a| a.strip_prefix('=')) {
            Some("") => Ok(()),
            Some(said) => Err(said.to_owned()),
            None => return Err(Error::new(ErrorKind::Failed, "the trial died")),
        })
    };
    outcome().map_err(|e| e.to_string())?
}
