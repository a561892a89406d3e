//! A terminal of ours and a terminal inside a container: bytes both ways, size, raw mode.
//!
//! Plain pipes never come here: their descriptors are handed to the container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::sys::process::ProcessError;

/// Bytes moved at a time.
const CHUNK_BYTES: usize = 16 << 10;

/// The size of our own terminal, where we have one.
pub fn own_size() -> Option<Winsize> {
    let ends = [rustix::stdio::stdout(), rustix::stdio::stdin()];
    ends.into_iter().find_map(|fd| rustix::termios::tcgetwinsize(fd).ok())
}

/// Our own terminal in raw mode; it is put back when this value goes away, on every way out.
#[derive(Debug)]
pub struct RawMode {
    fd: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Makes the terminal of `fd` raw.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn enter(fd: BorrowedFd<'_>) -> Result<Self, ProcessError> {
        let wrong = |e: rustix::io::Errno| ProcessError::call("set the terminal to raw mode", e);
        let before = rustix::termios::tcgetattr(fd).map_err(wrong)?;
        let mut raw = before.clone();
        raw.make_raw();
        let fd = fd.try_clone_to_owned().map_err(|e| ProcessError::call("keep the terminal", e))?;
        rustix::termios::tcsetattr(&fd, OptionalActions::Now, &raw).map_err(wrong)?;
        Ok(Self { fd, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _restored = rustix::termios::tcsetattr(&self.fd, OptionalActions::Drain, &self.before);
    }
}

/// Relays between our standard input and output and the container's terminal.
#[derive(Debug)]
pub struct Relay {
    inside: OwnedFd,
    input_open: bool,
    output_open: bool,
    _raw: Option<RawMode>,
}

impl Relay {
    /// Takes over the container's terminal, gives it our size, and makes ours raw when input goes in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start(inside: OwnedFd, interactive: bool) -> Result<Self, ProcessError> {
        let input = rustix::stdio::stdin();
        let raw =
            (interactive && rustix::termios::isatty(input)).then(|| RawMode::enter(input)).transpose()?;
        let relay = Self { inside, input_open: interactive, output_open: true, _raw: raw };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours; without one it keeps its own.
    pub fn resize(&self) {
        if let Some(size) = own_size() {
            // A terminal that is closing has no size to set.
            let _set = rustix::termios::tcsetwinsize(&self.inside, size);
        }
    }

    /// What to wait for: input of ours, output of the container.
    pub fn watched(&self) -> Vec<PollFd<'_>> {
        let mut watched = Vec::new();
        if self.output_open {
            watched.push(PollFd::new(&self.inside, PollFlags::IN));
        }
        if self.input_open {
            watched.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
        watched
    }

    /// Moves what is there, given which of [`watched`](Self::watched) have something.
    pub fn relay(&mut self, ready: &[bool]) {
        let mut ready = ready.iter().copied();
        if self.output_open && ready.next() == Some(true) {
            self.output_open = copy(self.inside.as_fd(), rustix::stdio::stdout());
        }
        if self.input_open && ready.next() == Some(true) {
            self.input_open = copy(rustix::stdio::stdin(), self.inside.as_fd());
            if !self.input_open {
                // End of input is a character to a terminal (EOT).
                let _sent = rustix::io::write(&self.inside, &[4]);
            }
        }
    }

    /// Moves what the container wrote before it ended.
    pub fn drain(&mut self) {
        while self.output_open {
            let mut watched = [PollFd::new(&self.inside, PollFlags::IN)];
            let waited =
                rustix::event::poll(&mut watched, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
            if !matches!(waited, Ok(1)) || !watched[0].revents().contains(PollFlags::IN) {
                return;
            }
            self.output_open = copy(self.inside.as_fd(), rustix::stdio::stdout());
        }
    }
}

/// Moves one chunk; `false` at the end.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut chunk = [0_u8; CHUNK_BYTES];
    let count = match rustix::io::read(from, &mut chunk) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return true,
        // A terminal whose other side is closed says EIO.
        Err(_) => return false,
    };
    let mut rest = &chunk[..count];
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _room = rustix::event::poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    true
}
