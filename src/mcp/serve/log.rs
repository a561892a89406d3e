//! The output of one command: both streams in order, the newest part kept, read from a cursor.

use std::collections::VecDeque;

use crate::engine::errands::Stream;

/// Bytes of one command's output that are kept; older ones go.
pub const LOG_BYTES_MAX: usize = 1 << 20;
/// Bytes that lie together.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// What a command has written.
#[derive(Debug, Default)]
pub struct Log {
    chunks: VecDeque<(Stream, Vec<u8>)>,
    start: u64,
    end: u64,
}

/// A part of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Of standard output.
    pub stdout: String,
    /// Of standard error.
    pub stderr: String,
    /// Where to read on.
    pub next: u64,
    /// Bytes that were asked for and are not kept any more.
    pub lost: u64,
    /// There is more already.
    pub is_cut: bool,
}

impl Log {
    /// Adds what was written.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        for part in bytes.chunks(CHUNK_BYTES_MAX) {
            match self.chunks.back_mut() {
                Some((last, chunk)) if *last == stream && chunk.len() + part.len() <= CHUNK_BYTES_MAX => {
                    chunk.extend_from_slice(part);
                }
                _ => self.chunks.push_back((stream, part.to_vec())),
            }
            self.end += part.len() as u64;
            while self.end - self.start > LOG_BYTES_MAX as u64 {
                let Some((_, gone)) = self.chunks.pop_front() else { break };
                self.start += gone.len() as u64;
            }
        }
    }

    /// Bytes that were ever written.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// At most so many bytes from a cursor on. No character is cut that is whole in the log.
    pub fn read(&self, cursor: u64, bytes_max: usize) -> Window {
        let from = cursor.clamp(self.start, self.end);
        let mut window = Window { lost: from.saturating_sub(cursor), next: from, ..Window::default() };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut at, mut left) = (self.start, bytes_max);
        for (stream, chunk) in &self.chunks {
            let skipped = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(chunk.len());
            at += chunk.len() as u64;
            let rest = &chunk[skipped..];
            let taken = whole_characters(rest, left);
            let text = if *stream == Stream::Output { &mut stdout } else { &mut stderr };
            text.extend_from_slice(&rest[..taken]);
            window.next += taken as u64;
            left -= taken;
            if taken < rest.len() {
                break;
            }
        }
        window.is_cut = window.next < self.end;
        window.stdout = String::from_utf8_lossy(&stdout).into_owned();
        window.stderr = String::from_utf8_lossy(&stderr).into_owned();
        window
    }
}

/// How many of these bytes fit, without the beginning of a character at the cut.
fn whole_characters(bytes: &[u8], bytes_max: usize) -> usize {
    if bytes.len() <= bytes_max {
        return bytes.len();
    }
    let is_inside = |at: usize| bytes[at] & 0xc0 == 0x80;
    let cut = (0..=3).find_map(|back| bytes_max.checked_sub(back).filter(|at| !is_inside(*at)));
    // A cursor that cannot move would be read for ever.
    cut.filter(|cut| *cut > 0).unwrap_or(bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_everything_once() {
        let mut log = Log::default();
        log.push(Stream::Output, "grüße ".repeat(100).as_bytes());
        log.push(Stream::Error, b"oh");
        log.push(Stream::Output, b"end");
        let (mut out, mut err, mut cursor) = (String::new(), String::new(), 0);
        loop {
            let window = log.read(cursor, 7);
            assert_eq!(window.lost, 0);
            out.push_str(&window.stdout);
            err.push_str(&window.stderr);
            cursor = window.next;
            if !window.is_cut {
                break;
            }
        }
        assert_eq!((out, err.as_str()), (format!("{}end", "grüße ".repeat(100)), "oh"));
    }

    #[test]
    fn what_is_older_than_what_is_kept_is_told_as_lost() {
        let mut log = Log::default();
        for _ in 0..40 {
            log.push(Stream::Output, &[b'x'; CHUNK_BYTES_MAX]);
        }
        let window = log.read(0, 10);
        assert_eq!(window.lost, 40 * CHUNK_BYTES_MAX as u64 - LOG_BYTES_MAX as u64);
        assert_eq!((window.stdout.len(), log.end()), (10, 40 * CHUNK_BYTES_MAX as u64));
        assert_eq!(log.read(u64::MAX, 10).next, log.end());
    }

    #[test]
    fn bytes_that_are_no_text_still_move_the_cursor() {
        let mut log = Log::default();
        log.push(Stream::Output, &[0x80; 100]);
        assert_eq!(log.read(0, 8).next, 8);
        log.push(Stream::Error, "€".as_bytes());
        assert!(log.read(100, 1).next > 100);
    }
}
