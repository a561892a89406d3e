//! `--init`: a small first process that hands signals on and buries the dead.
//!
//! It is a copy of ours made after every wall stands, so it can do no more than the command.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::sys::process::{self, ProcessError};

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
