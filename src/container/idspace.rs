//! User namespaces of the caller's subordinate ids: write their maps, enter one to touch files that
//! only its ids own.
//!
//! Which ids there are is `container::idmap`; nothing here runs a container.

use std::os::fd::AsFd;

use rustix::process::WaitOptions;
use rustix::thread::UnshareFlags;

use crate::container::idmap::{IdMap, map_text};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::channel;
use crate::sys::process;

/// Largest answer of our other process, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Why the ids could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IdSpaceError {
    /// The id maps could not be written.
    #[error("cannot give the container its user ids: `{program}` said: {said}")]
    Maps {
        /// `newuidmap` or `newgidmap`, or the kernel's file.
        program: &'static str,
        /// Its own words.
        said: String,
    },
    /// The process that writes the maps died.
    #[error("the process that writes the id maps died")]
    Died,
    /// The work inside failed.
    #[error("work under subordinate ids failed: {said}")]
    Work {
        /// What it said.
        said: String,
    },
}

impl Fault for IdSpaceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Maps { .. } => ErrorKind::Denied,
            Self::Died | Self::Work { .. } => ErrorKind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Maps { .. } => {
                vec!["`cuddy doctor` says what is wrong with the subordinate ids of this host".to_owned()]
            }
            Self::Died | Self::Work { .. } => Vec::new(),
        }
    }
}

/// Writes both maps of the user namespace of process `pid`: by ourselves as root or when it has one id,
/// the caller's own (user_namespaces(7)), through the set-user-id helpers otherwise (newuidmap(1)).
///
/// # Errors
/// [`IdSpaceError::Maps`] with the helper's own words.
pub fn write_maps(pid: i32, map: &IdMap) -> Result<(), IdSpaceError> {
    let (uids, gids) = (map_text(&map.uids), map_text(&map.gids));
    if map.is_single() {
        // Who may change groups could leave one that is refused a file; the kernel insists.
        write_file("setgroups", pid, "deny")?;
        write_file("uid_map", pid, &uids)?;
        return write_file("gid_map", pid, &gids);
    }
    write_map("newuidmap", "uid_map", pid, &uids)?;
    write_map("newgidmap", "gid_map", pid, &gids)
}

fn write_file(file: &str, pid: i32, text: &str) -> Result<(), IdSpaceError> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text)
        .map_err(|e| IdSpaceError::Maps { program: "/proc", said: format!("{path}: {e}") })
}

fn write_map(program: &'static str, file: &str, pid: i32, text: &str) -> Result<(), IdSpaceError> {
    if rustix::process::geteuid().is_root() {
        return write_file(file, pid, text);
    }
    let output = std::process::Command::new(program)
        .arg(pid.to_string())
        .args(text.split_whitespace())
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| IdSpaceError::Maps { program, said: e.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect();
    Err(IdSpaceError::Maps { program, said })
}

/// Moves this process into a new user namespace with `map`, where it is user 0 with every capability
/// over those ids. There is no way back.
///
/// # Errors
/// What the kernel or the helpers refuse; then the process must not go on with files.
pub fn enter(map: &IdMap) -> Result<(), Error> {
    let (ours, theirs) = channel::pair()?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    // The helpers must be executed outside, by a process that is still the caller's.
    let Some(writer) = process::fork(process::one_thread()?)? else {
        drop(ours);
        let answer = match channel::receive(theirs.as_fd(), ANSWER_BYTES_MAX) {
            Ok(Some(_)) => write_maps(own, map).map_or_else(|e| e.to_string(), |()| String::new()),
            _ => "nobody asked".to_owned(),
        };
        let _told = channel::send(theirs.as_fd(), format!("={answer}").as_bytes(), None);
        process::exit_at_once(0);
    };
    drop(theirs);
    let unshared = process::unshare(UnshareFlags::NEWUSER);
    let answer = match &unshared {
        Ok(()) => channel::send(ours.as_fd(), b"go", None)
            .and_then(|()| channel::receive(ours.as_fd(), ANSWER_BYTES_MAX)),
        Err(_) => Ok(None),
    };
    drop(ours);
    let _reaped = rustix::process::waitpid(Some(writer), WaitOptions::empty());
    unshared?;
    let (bytes, _) = answer?.ok_or(IdSpaceError::Died)?;
    match String::from_utf8_lossy(&bytes).strip_prefix('=') {
        Some("") => Ok(()),
        said => {
            Err(IdSpaceError::Maps { program: "newuidmap", said: said.unwrap_or_default().to_owned() }.into())
        }
    }
}

/// Does `work` in a child process inside a user namespace with `map`, and waits for it.
///
/// # Errors
/// [`IdSpaceError::Work`] with what `work` said, or why it could not begin.
pub fn inside(map: &IdMap, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let (ours, theirs) = channel::pair()?;
    let Some(child) = process::fork(process::one_thread()?)? else {
        drop(ours);
        let said = enter(map).and_then(|()| work()).map_or_else(|e| e.to_string(), |()| String::new());
        let said: String = said.chars().take(ANSWER_BYTES_MAX / 8).collect();
        let _told = channel::send(theirs.as_fd(), format!("={said}").as_bytes(), None);
        process::exit_at_once(0);
    };
    drop(theirs);
    let answer = channel::receive(ours.as_fd(), ANSWER_BYTES_MAX);
    let _reaped = rustix::process::waitpid(Some(child), WaitOptions::empty());
    let (bytes, _) = answer?.ok_or(IdSpaceError::Died)?;
    match String::from_utf8_lossy(&bytes).strip_prefix('=') {
        Some("") => Ok(()),
        said => Err(IdSpaceError::Work { said: said.unwrap_or_default().to_owned() }.into()),
    }
}
