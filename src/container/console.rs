//! Bytes between our standard streams and a container: a terminal inside with its size and our raw mode,
//! and pipes in front of what must not be handed over.
//!
//! A pipe, a socket or `/dev/null` of ours never comes here: its descriptor is the container's own.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, Winsize};

use crate::sys::process::ProcessError;

/// Bytes moved at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes that a pipe takes without waiting once it can take any (pipe(7), `PIPE_BUF`).
const WRITE_BYTES: usize = 4 << 10;
/// End of input, said to a terminal.
const EOT: u8 = 4;

/// The size of our own terminal, where we have one.
pub fn own_size() -> Option<Winsize> {
    let ends = [rustix::stdio::stdout(), rustix::stdio::stdin()];
    ends.into_iter().find_map(|fd| rustix::termios::tcgetwinsize(fd).ok())
}

/// Whether a container may have this descriptor itself. Who has a terminal or a file of ours can open it
/// again by `/proc/self/fd`: read our keyboard, or the log that its output is only to be appended to.
pub fn may_be_handed_over(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else { return true };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => stat.st_rdev == rustix::fs::makedev(1, 3),
        _ => false,
    }
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
        let wrong = |e: Errno| ProcessError::call("set the terminal to raw mode", e);
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

/// One direction. What was read is held until the other side takes it, so that nobody who does not read
/// keeps us from hearing signals.
#[derive(Debug)]
struct Flow {
    from: OwnedFd,
    to: OwnedFd,
    held: Vec<u8>,
    open: bool,
    goes: Goes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    Out,
    In,
    /// Into a terminal, which is told the end of input.
    InToTerminal,
}

impl Flow {
    fn new(goes: Goes, from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to, held: Vec::new(), open: true, goes }
    }

    fn is_over(&self) -> bool {
        !self.open && self.held.is_empty()
    }

    fn watched(&self) -> PollFd<'_> {
        if self.held.is_empty() {
            PollFd::new(&self.from, PollFlags::IN)
        } else {
            PollFd::new(&self.to, PollFlags::OUT)
        }
    }

    fn step(&mut self) {
        if self.held.is_empty() { self.read() } else { self.write() }
    }

    fn read(&mut self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        match rustix::io::read(&self.from, &mut chunk) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A terminal whose other side is closed says EIO.
            Ok(0) | Err(_) => {
                self.open = false;
                self.held.extend((self.goes == Goes::InToTerminal).then_some(EOT));
            }
            Ok(count) => {
                chunk.truncate(count);
                self.held = chunk;
            }
        }
    }

    fn write(&mut self) {
        let room = self.held.len().min(WRITE_BYTES);
        match rustix::io::write(&self.to, &self.held[..room]) {
            Ok(written) => drop(self.held.drain(..written)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Whoever took it has gone; closing our side tells the writer so.
            Err(_) => {
                self.held.clear();
                self.open = false;
            }
        }
    }

    /// Whether something can be read at once.
    fn has_more(&self) -> bool {
        let mut watched = [PollFd::new(&self.from, PollFlags::IN)];
        let waited = rustix::event::poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        self.open && matches!(waited, Ok(1)) && watched[0].revents().contains(PollFlags::IN)
    }
}

/// What is relayed of one container.
#[derive(Debug, Default)]
pub struct Relay {
    flows: Vec<Flow>,
    terminal: Option<OwnedFd>,
    raw: Option<RawMode>,
}

impl Relay {
    /// Puts a pipe in front of our stream `number` (0, 1 or 2) and gives the container's end of it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pipe(&mut self, number: i32) -> Result<OwnedFd, ProcessError> {
        let wrong = |e: Errno| ProcessError::call("make a pipe", e);
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(wrong)?;
        let (flow, theirs) = match number {
            0 => (Flow::new(Goes::In, own(rustix::stdio::stdin(), OFlags::RDONLY)?, writer), reader),
            1 => (Flow::new(Goes::Out, reader, own(rustix::stdio::stdout(), OFlags::WRONLY)?), writer),
            _ => (Flow::new(Goes::Out, reader, own(rustix::stdio::stderr(), OFlags::WRONLY)?), writer),
        };
        if number == 0 {
            rustix::io::ioctl_fionbio(&flow.to, true).map_err(wrong)?;
        }
        self.flows.push(flow);
        Ok(theirs)
    }

    /// Takes over the container's terminal, gives it our size, and makes ours raw when input goes in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_terminal(&mut self, inside: OwnedFd, interactive: bool) -> Result<(), ProcessError> {
        let wrong = |e: Errno| ProcessError::call("take over the terminal inside", e);
        let clone = || inside.try_clone().map_err(|e| ProcessError::call("keep the terminal", e));
        rustix::io::ioctl_fionbio(&inside, true).map_err(wrong)?;
        let input = rustix::stdio::stdin();
        self.flows.push(Flow::new(Goes::Out, clone()?, own(rustix::stdio::stdout(), OFlags::WRONLY)?));
        if interactive {
            self.raw = rustix::termios::isatty(input).then(|| RawMode::enter(input)).transpose()?;
            self.flows.push(Flow::new(Goes::InToTerminal, own(input, OFlags::RDONLY)?, clone()?));
        }
        self.terminal = Some(inside);
        self.resize();
        Ok(())
    }

    /// Gives the container's terminal the size of ours; without one it keeps its own.
    pub fn resize(&self) {
        if let (Some(terminal), Some(size)) = (&self.terminal, own_size()) {
            // A terminal that is closing has no size to set.
            let _set = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Whether there is a terminal inside.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// What to wait for, one for each direction.
    pub fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.flows.iter().map(Flow::watched)
    }

    /// Moves what can be moved, given which of [`watched`](Self::watched) are ready.
    pub fn relay(&mut self, ready: &[bool]) {
        for (flow, _) in self.flows.iter_mut().zip(ready).filter(|(_, ready)| **ready) {
            flow.step();
        }
        self.flows.retain(|flow| !flow.is_over());
    }

    /// Moves what the container wrote before it ended, until `told_to_end` says so, which is asked whenever
    /// `signals` can be read.
    pub fn drain(&mut self, signals: BorrowedFd<'_>, mut told_to_end: impl FnMut() -> bool) {
        for flow in self.flows.iter_mut().filter(|flow| flow.goes == Goes::Out) {
            while !flow.held.is_empty() || flow.has_more() {
                if flow.held.is_empty() {
                    flow.read();
                    continue;
                }
                let mut watched = [flow.watched(), PollFd::from_borrowed_fd(signals, PollFlags::IN)];
                let _waited = rustix::event::poll(&mut watched, None);
                let (room, signal) = (!watched[0].revents().is_empty(), !watched[1].revents().is_empty());
                if room {
                    flow.write();
                } else if signal && told_to_end() {
                    return;
                }
            }
        }
    }
}

/// A stream of ours for us alone, which never waits: the one we were given is shared with whoever gave it.
/// What cannot be opened again, as a socket, is waited for by poll(2) all the same.
fn own(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, ProcessError> {
    let clone = || fd.try_clone_to_owned().map_err(|e| ProcessError::call("keep a stream", e));
    let stat = rustix::fs::fstat(fd).map_err(|e| ProcessError::call("look at a stream", e))?;
    // A file has a position, which is shared with whoever writes to it next.
    if FileType::from_raw_mode(stat.st_mode).is_file() {
        return clone();
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).or_else(|_| clone())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::pty::OpenptFlags;

    use super::*;

    #[test]
    fn pipes_and_nothing_may_be_handed_over_and_terminals_and_files_may_not() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let nothing = std::fs::File::open("/dev/null").unwrap();
        for fd in [reader.as_fd(), writer.as_fd(), nothing.as_fd()] {
            assert!(may_be_handed_over(fd));
        }
        let terminal = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let file = tempfile::tempfile().unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        for fd in [terminal.as_fd(), file.as_fd(), zero.as_fd()] {
            assert!(!may_be_handed_over(fd));
        }
    }

    #[test]
    fn a_reader_that_does_not_read_keeps_nobody_from_anything() {
        let (from, feed) = rustix::pipe::pipe().unwrap();
        let (_stalled, to) = rustix::pipe::pipe().unwrap();
        rustix::io::ioctl_fionbio(&feed, true).unwrap();
        rustix::io::ioctl_fionbio(&to, true).unwrap();
        let mut flow = Flow::new(Goes::Out, from, to);
        let mut stuck = 0;
        while stuck < 10 {
            let _full = rustix::io::write(&feed, &[7; 4096]);
            let before = flow.held.len();
            flow.step();
            stuck = if flow.held.len() == before { stuck + 1 } else { 0 };
        }
        assert!(flow.held.len() <= CHUNK_BYTES);
    }
}
