//! A scope of systemd around this process, with delegation: asked for through systemd's own `busctl`.
//!
//! No D-Bus of ours: where systemd runs, its program is. What is made inside the scope is
//! `container::cgroup`'s.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::container::delegation::{Scope, parse_own_path};
use crate::error::{ErrorKind, Fault};
use crate::sys::fs::{FsError, read_file};

/// How long systemd may take.
const WAIT: Duration = Duration::from_secs(10);
/// How much of what `busctl` says is kept.
const SAID_BYTES_MAX: u64 = 4 << 10;
/// `/proc/self/cgroup`: a line for each hierarchy.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why systemd gave us no scope.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// systemd's program for its bus did not run.
    #[error("cannot run `{program}`")]
    Busctl {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// systemd refused to make the scope.
    #[error("systemd did not make the scope `{unit}`: {said}")]
    Refused {
        /// The unit that was asked for.
        unit: String,
        /// What it said.
        said: String,
    },
    /// systemd did not answer, or never moved us.
    #[error("systemd did not move us into the scope `{unit}` within {} s", WAIT.as_secs())]
    Late {
        /// The unit that was asked for.
        unit: String,
    },
    /// Our own path in the hierarchy.
    #[error(transparent)]
    File(#[from] FsError),
}

impl Fault for ScopeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(e) => e.kind(),
            _ => ErrorKind::Unreachable,
        }
    }

    fn hints(&self) -> Vec<String> {
        vec!["see whether `systemd-run --user --scope -p Delegate=yes true` works".to_owned()]
    }
}

/// Asks systemd for a scope with delegation around this process; gives its folder. The effect is
/// that of `systemd-run --scope -p Delegate=yes`, for a process that runs already.
///
/// # Errors
/// systemd refuses, does not answer in time, or its program cannot be run.
pub fn enter(mount: &Path, scope: &Scope, unit: &str) -> Result<PathBuf, ScopeError> {
    let deadline = Instant::now() + WAIT;
    let mut command = Command::new(&scope.busctl);
    command.env_clear().env("LC_ALL", "C").arg("--quiet");
    if let Some(dir) = &scope.runtime_dir {
        let mut address = std::ffi::OsString::from("unix:path=");
        address.push(dir.join("bus"));
        command.env("XDG_RUNTIME_DIR", dir).env("DBUS_SESSION_BUS_ADDRESS", address).arg("--user");
    }
    let object =
        ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"];
    let pid = std::process::id().to_string();
    command.arg("call").args(object).args(["StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", "4"]);
    command.args(["Description", "s", "a container of cuddy", "Delegate", "b", "true"]);
    command.args(["PIDs", "au", "1", &pid, "CollectMode", "s", "inactive-or-failed", "0"]);
    let wrong = |source| ScopeError::Busctl { program: scope.busctl.clone(), source };
    let late = || ScopeError::Late { unit: unit.to_owned() };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let said = outcome(child.map_err(wrong)?, deadline).map_err(wrong)?.ok_or_else(late)?;
    if let Err(said) = said {
        return Err(ScopeError::Refused { unit: unit.to_owned(), said });
    }
    // The answer says that systemd has begun; it has moved us when our own path says so.
    loop {
        let own = read_file(Path::new("/proc/self/cgroup"), FILE_BYTES_MAX)?;
        let own = parse_own_path(&String::from_utf8_lossy(&own));
        if let Some(own) = own.filter(|own| own.ends_with(unit)) {
            return Ok(mount.join(own.strip_prefix("/").unwrap_or(&own)));
        }
        if Instant::now() >= deadline {
            return Err(late());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How a child ended: well, or with what it said, or not before the deadline (then it is killed).
fn outcome(mut child: Child, deadline: Instant) -> io::Result<Option<Result<(), String>>> {
    let pid = Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            Ok(_) => break,
        }
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(SAID_BYTES_MAX).read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    let said = said.trim();
    Ok(Some(if status.success() {
        Ok(())
    } else {
        Err(if said.is_empty() { status.to_string() } else { said.to_owned() })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn what_the_bus_says_when_it_refuses_is_kept_and_one_that_hangs_is_killed() {
        let later = || Instant::now() + Duration::from_secs(60);
        assert_eq!(outcome(shell("exit 0"), later()).unwrap(), Some(Ok(())));
        assert_eq!(outcome(shell("echo no >&2; exit 1"), later()).unwrap(), Some(Err("no".to_owned())));
        let silent = outcome(shell("exit 3"), later()).unwrap();
        assert_eq!(silent, Some(Err("exit status: 3".to_owned())));
        assert_eq!(outcome(shell("exec sleep 1000"), Instant::now()).unwrap(), None);
    }
}
