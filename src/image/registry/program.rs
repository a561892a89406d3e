//! Asks a program of the host, with a limit on what it says and a deadline: `getent`, credential helpers.
//! What it is given goes to its standard input, never into its arguments.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{ErrorKind, Fault};

/// Most that such a program may say, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started, written to or read from.
    #[error("cannot ask `{program}`")]
    Io {
        /// Which program.
        program: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("`{program}` gave no answer in {seconds} s")]
    Late {
        /// Which program.
        program: PathBuf,
        /// How long it had.
        seconds: u64,
    },
    /// It said too much.
    #[error("`{program}` said more than {ANSWER_BYTES_MAX} bytes")]
    TooMuch {
        /// Which program.
        program: PathBuf,
    },
}

impl Fault for ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Failed,
            Self::Late { .. } => ErrorKind::Unreachable,
            Self::TooMuch { .. } => ErrorKind::Limit,
        }
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Spoken {
    /// Its standard output.
    pub text: Vec<u8>,
    /// It ended with 0.
    pub is_success: bool,
}

/// Ends the program, whatever happens to us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and is forgotten by the wait.
        let _ended = self.0.kill();
        let _forgotten = self.0.wait();
    }
}

/// Starts `program`, gives it `input` and reads what it says within `seconds`.
///
/// # Errors
/// [`ProgramError`].
pub fn ask(program: &Path, arguments: &[&str], input: &[u8], seconds: u64) -> Result<Spoken, ProgramError> {
    let wrong = |source| ProgramError::Io { program: program.to_owned(), source };
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(wrong)?;
    let mut running = Running(child);
    if let Some(mut pipe) = running.0.stdin.take() {
        // Less than a pipe holds (pipe(7): 64 KiB), so it cannot block; a reader that left is no error.
        match pipe.write_all(input) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(wrong(e)),
            _ => {}
        }
    }
    let mut text = Vec::new();
    if let Some(mut pipe) = running.0.stdout.take() {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let late = || ProgramError::Late { program: program.to_owned(), seconds };
            let wait = Timespec::try_from(left).map_err(|_unsaid| late())?;
            let ready = poll(&mut [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)], Some(&wait));
            match ready {
                Ok(0) => return Err(late()),
                Err(rustix::io::Errno::INTR) => continue,
                other => other.map_err(|e| wrong(e.into()))?,
            };
            let mut buffer = [0; 4096];
            match pipe.read(&mut buffer).map_err(wrong)? {
                0 => break,
                read if text.len() + read > ANSWER_BYTES_MAX => {
                    return Err(ProgramError::TooMuch { program: program.to_owned() });
                }
                read => text.extend_from_slice(&buffer[..read]),
            }
        }
    }
    // It has closed its output and has nothing left to do for us.
    let status = running.0.wait().map_err(wrong)?;
    Ok(Spoken { text, is_success: status.success() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_given_its_input_and_heard() {
        let spoken = ask(Path::new("/bin/sh"), &["-c", "cat; exit 3"], b"secret", 20).unwrap();
        assert_eq!((spoken.text.as_slice(), spoken.is_success), (&b"secret"[..], false));
    }

    #[test]
    fn a_program_that_never_ends_or_never_stops_is_ended() {
        let late = ask(Path::new("/bin/sh"), &["-c", "exec sleep 600"], b"", 0).unwrap_err();
        assert!(matches!(late, ProgramError::Late { .. }), "{late}");
        let much = ask(Path::new("/bin/sh"), &["-c", "exec cat /dev/zero"], b"", 60).unwrap_err();
        assert!(matches!(much, ProgramError::TooMuch { .. }), "{much}");
        let none = ask(Path::new("/nonexistent/x"), &[], b"", 1).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
