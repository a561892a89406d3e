//! One command in a sandbox while it runs: its input, its output, its end, each with a limit and a deadline.
//!
//! What the output means is the caller's; here are bytes and how it ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::container::exec::Exec;
use crate::container::plan::Report;
use crate::error::{Error, ErrorKind};
use crate::sys::fs::FsError;
use crate::sys::process::ProcessError;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Bytes of each stream that are still read once the command has ended; what it left behind may go on writing.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// How long a command may take to die, once ended.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What a command reads.
#[derive(Debug)]
pub enum Input {
    /// Nothing.
    Nothing,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// What comes out here.
    From(OwnedFd),
}

/// Where a command's standard output goes.
#[derive(Debug)]
pub enum Output {
    /// To us.
    Taken,
    /// Into this.
    Into(OwnedFd),
}

/// Which stream bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Why following a command has stopped.
#[derive(Debug)]
pub enum Followed {
    /// It has ended: its exit code, and why it was never executed, if so.
    Ended(i32, Option<Error>),
    /// The time is over; it still runs.
    Deadline,
    /// Nobody wants it any more; it still runs.
    Cancelled,
}

/// Takes what a command writes.
pub type Take<'a> = &'a mut dyn FnMut(Stream, &[u8]);

/// A command that runs. Its going away ends the command.
#[derive(Debug)]
pub struct Running {
    exec: Exec,
    input: Option<(File, Vec<u8>, usize)>,
    streams: [Option<File>; 2],
    not_executed: Option<Error>,
}

/// `/dev/null`, both ways.
///
/// # Errors
/// What the kernel says.
pub fn nothing() -> Result<OwnedFd, FsError> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| FsError::new("open", "/dev/null", e))
}

/// poll(2) until something is ready or the moment has come.
///
/// # Errors
/// What the kernel says.
pub fn poll(watched: &mut [PollFd<'_>], until: Instant) -> Result<(), ProcessError> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match rustix::event::poll(watched, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(ProcessError::call("wait for a command in a sandbox", e)),
    }
}

/// A pipe: where it comes out, where it goes in.
///
/// # Errors
/// What the kernel says.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), ProcessError> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| ProcessError::call("make a pipe", e))
}

fn unblocked(fd: OwnedFd) -> Result<File, ProcessError> {
    rustix::fs::fcntl_setfl(&fd, OFlags::NONBLOCK).map_err(|e| ProcessError::call("use a pipe", e))?;
    Ok(File::from(fd))
}

impl Running {
    /// Makes the pipes and asks for the command on them.
    ///
    /// # Errors
    /// What the kernel or `ask` says.
    pub fn begin(
        input: Input,
        output: Output,
        ask: impl FnOnce([BorrowedFd<'_>; 3]) -> Result<Exec, Error>,
    ) -> Result<Self, Error> {
        let (theirs, ours) = match input {
            Input::Bytes(bytes) if !bytes.is_empty() => {
                let (read, write) = pipe()?;
                (read, Some((unblocked(write)?, bytes, 0)))
            }
            Input::Nothing | Input::Bytes(_) => (nothing()?, None),
            Input::From(fd) => (fd, None),
        };
        let (taken, out) = match output {
            Output::Taken => {
                let (read, write) = pipe()?;
                (Some(unblocked(read)?), write)
            }
            Output::Into(fd) => (None, fd),
        };
        let (read, error) = pipe()?;
        let exec = ask([theirs.as_fd(), out.as_fd(), error.as_fd()])?;
        Ok(Self { exec, input: ours, streams: [taken, Some(unblocked(read)?)], not_executed: None })
    }

    /// Sends the command a signal.
    pub fn signal(&self, signal: Signal) {
        self.exec.signal(signal);
    }

    /// Gives the command its input and takes its output, until it ends, `until` comes, or one of `cancel`
    /// becomes readable. It can be followed further afterwards.
    ///
    /// # Errors
    /// What kept it from being started, or `State` when its sandbox has ended.
    pub fn follow(
        &mut self,
        until: Instant,
        cancel: &[BorrowedFd<'_>],
        take: Take<'_>,
    ) -> Result<Followed, Error> {
        loop {
            let [ended, cancelled, streams, input] = self.wait(until, cancel)?;
            if streams {
                self.take(CHUNK_BYTES, take);
            }
            if input {
                self.give();
            }
            if ended {
                match self.exec.hear()? {
                    Report::Ended(end) => {
                        self.take(DRAIN_BYTES_MAX, take);
                        return Ok(Followed::Ended(end.code(), self.not_executed.take()));
                    }
                    Report::NotExecuted { error, .. } => self.not_executed = Some(error),
                    Report::Failed(error) => return Err(error),
                    Report::Created(_) | Report::Unshared(()) | Report::Terminal(()) | Report::Ready(()) => {}
                }
            } else if cancelled {
                return Ok(Followed::Cancelled);
            } else if Instant::now() >= until {
                return Ok(Followed::Deadline);
            }
        }
    }

    /// Ends the command with everything it started, and takes what it had still to say.
    ///
    /// # Errors
    /// `Limit` when it does not die, or what following says.
    pub fn end(mut self, take: Take<'_>) -> Result<i32, Error> {
        self.exec.end();
        match self.follow(Instant::now() + END_PATIENCE, &[], take)? {
            Followed::Ended(code, _) => Ok(code),
            Followed::Deadline | Followed::Cancelled => {
                Err(Error::new(ErrorKind::Limit, "the command does not end, although it was killed"))
            }
        }
    }

    /// What is ready: a word about the command, the wish that it end, its output, its input.
    fn wait(&self, until: Instant, cancel: &[BorrowedFd<'_>]) -> Result<[bool; 4], Error> {
        let mut watched = vec![PollFd::from_borrowed_fd(self.exec.fd(), PollFlags::IN)];
        watched.extend(cancel.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let streams = watched.len();
        watched.extend(self.streams.iter().flatten().map(|file| PollFd::new(file, PollFlags::IN)));
        let input = watched.len();
        watched.extend(self.input.iter().map(|(file, ..)| PollFd::new(file, PollFlags::OUT)));
        poll(&mut watched, until)?;
        let ready = |range: std::ops::Range<usize>| watched[range].iter().any(|fd| !fd.revents().is_empty());
        Ok([ready(0..1), ready(1..streams), ready(streams..input), ready(input..watched.len())])
    }

    /// Takes what there is of both streams, at most so many bytes of each.
    fn take(&mut self, bytes_max: usize, take: Take<'_>) {
        let mut buffer = vec![0; CHUNK_BYTES];
        for (stream, which) in self.streams.iter_mut().zip([Stream::Output, Stream::Error]) {
            let mut taken = 0;
            while let Some(file) = stream {
                match file.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        take(which, &buffer[..count]);
                        taken += count;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => *stream = None,
                }
                if taken >= bytes_max {
                    break;
                }
            }
        }
    }

    /// Gives as much of the input as the command takes now; who closes it gets no more.
    fn give(&mut self) {
        let Some((file, bytes, given)) = &mut self.input else { return };
        match file.write(&bytes[*given..]) {
            Ok(count) => {
                *given += count;
                if *given == bytes.len() {
                    self.input = None;
                }
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(_) => self.input = None,
        }
    }
}
