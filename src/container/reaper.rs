//! Small processes of ours inside: the one of `--init`, which hands signals on and buries the dead, the
//! one that holds a container without a command, and the one that keeps a command's processes together.
//!
//! Each is a copy of ours made after every wall stands, so it can do no more than the command.

use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sys::process::{self, ProcessError};

/// How often a first process that was asked to end looks whether it is alone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Splits: the child returns and goes on to execute the command; the first process stays here
/// until the command has ended and leaves with its exit code.
///
/// # Errors
/// [`ProcessError`] when there could be no second process.
pub fn become_init(terminal: bool) -> Result<(), ProcessError> {
    let every = SigSet::all();
    let wrong = |e: nix::errno::Errno| ProcessError::call("block signals", e);
    let before = every.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).map_err(wrong)?;
    let Some(child) = process::fork(process::one_thread()?)? else {
        // A terminal sends its signals to the group in front: that is the command's.
        let _own_group = rustix::process::setpgid(None, None);
        if terminal {
            let _in_front = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
        }
        before.thread_set_mask().map_err(wrong)?;
        return Ok(());
    };
    let _named = rustix::thread::set_name(c"init");
    // Whoever reads what the command writes must see its end, not wait for ours.
    process::close_from(3)?;
    let child = Pid::from_raw(child.as_raw_nonzero().get());
    loop {
        match every.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = bury(child) {
                    process::exit_at_once(code);
                }
            }
            Ok(signal) => {
                // The command may be gone already; its end is on the way.
                let _sent = nix::sys::signal::kill(child, signal);
            }
            Err(_) => {}
        }
    }
}

/// Splits as [`become_init`] does, for a command that was brought into a container: whatever its processes
/// leave comes to this one, so that all of them can be found, until the command has ended.
///
/// # Errors
/// [`ProcessError`] when there could be no second process.
pub fn become_keeper() -> Result<(), ProcessError> {
    let wrong = |e: rustix::io::Errno| ProcessError::call("keep the command's processes together", e);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(wrong)?;
    become_init(false)?;
    // A copy is not tied to its original until it says so.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(wrong)
}

/// Stays as the first process of a container that has no command. Asked to end, it asks every other
/// process, and leaves when it is alone; what does not go is ended by who waits for that.
pub fn hold() -> ! {
    let every = SigSet::all();
    let _blocked = every.thread_block();
    let _named = rustix::thread::set_name(c"init");
    let _closed = process::close_from(3);
    loop {
        match every.wait() {
            Ok(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT) => break,
            _ => drop(bury(Pid::this())),
        }
    }
    let everybody = Pid::from_raw(-1);
    let _asked = nix::sys::signal::kill(everybody, Signal::SIGTERM);
    // The first process of a namespace is never among those it sends a signal to.
    while nix::sys::signal::kill(everybody, None).is_ok() {
        bury(Pid::this());
        std::thread::sleep(LOOK_AGAIN);
    }
    process::exit_at_once(0)
}

/// Takes every child that has ended; gives the exit code when the command is among them.
fn bury(command: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return code,
            Ok(_) => {}
        }
    }
}
