//! Messages on pipes: one on each line, with a limit; and our own standard input and output as such.
//!
//! It does not look into messages.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;

/// Read at once, in bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// Room that is kept for the next line, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line that is not empty.
    Message(Vec<u8>),
    /// Nothing more comes.
    End,
    /// A line is longer than allowed.
    TooLong,
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    bytes_max: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines of at most `bytes_max` bytes.
    pub fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader: BufReader::with_capacity(CHUNK_BYTES, reader), bytes_max }
    }

    /// The next line; the last one may lack its newline.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn next(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                let is_blank = line.trim_ascii().is_empty();
                return Ok(if is_blank { Line::End } else { Line::Message(line) });
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(chunk.len());
            if line.len() + taken > self.bytes_max {
                return Ok(Line::TooLong);
            }
            line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(Line::Message(line));
                }
                line.clear();
            }
        }
    }
}

/// Writes messages as lines, several at once.
#[derive(Debug)]
pub struct LineWriter<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> LineWriter<W> {
    /// Writes lines.
    pub fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new() }
    }

    /// Puts a message where [`LineWriter::flush`] finds it. Newlines between its members become blanks:
    /// within its texts there are none.
    pub fn add(&mut self, message: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(message);
        for byte in &mut self.buffer[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.buffer.push(b'\n');
    }

    /// Whether so much waits that it should be written.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= KEPT_BYTES_MAX
    }

    /// Writes everything that was added.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer).await?;
        self.writer.flush().await?;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES_MAX * 2 {
            self.buffer.shrink_to(KEPT_BYTES_MAX);
        }
        Ok(())
    }
}

/// Something to read from.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;
/// Something to write to.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// Our standard input. A pipe is opened anew, so that not waiting for it is our own affair; a socket is
/// ours alone; anything else is read by a thread.
///
/// # Errors
/// What the kernel says.
pub fn standard_input() -> io::Result<Input> {
    let fd = rustix::stdio::stdin();
    Ok(match kind(fd)? {
        FileType::Fifo => match again("/proc/self/fd/0", OFlags::RDONLY) {
            Ok(file) => Box::new(pipe::Receiver::from_file(file)?),
            Err(_) => Box::new(tokio::io::stdin()),
        },
        FileType::Socket => Box::new(socket(fd)?),
        _ => Box::new(tokio::io::stdin()),
    })
}

/// Our standard output, as [`standard_input`].
///
/// # Errors
/// What the kernel says.
pub fn standard_output() -> io::Result<Output> {
    let fd = rustix::stdio::stdout();
    Ok(match kind(fd)? {
        FileType::Fifo => match again("/proc/self/fd/1", OFlags::WRONLY) {
            Ok(file) => Box::new(pipe::Sender::from_file(file)?),
            Err(_) => Box::new(tokio::io::stdout()),
        },
        FileType::Socket => Box::new(socket(fd)?),
        _ => Box::new(tokio::io::stdout()),
    })
}

fn kind(fd: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

fn again(path: &str, flags: OFlags) -> io::Result<std::fs::File> {
    let fd = rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    Ok(std::fs::File::from(fd))
}

fn socket(fd: BorrowedFd<'_>) -> io::Result<tokio::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(fd.try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], bytes_max: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, bytes_max);
        let mut found = Vec::new();
        loop {
            let line = lines.next().await.unwrap();
            let is_last = !matches!(line, Line::Message(_));
            found.push(line);
            if is_last {
                return found;
            }
        }
    }

    #[tokio::test]
    async fn a_line_is_a_message_unless_it_is_blank_or_too_long() {
        let message = |text: &str| Line::Message(text.as_bytes().to_vec());
        assert_eq!(lines(b"a\r\n\n  \nb", 3).await, [message("a"), message("b"), Line::End]);
        assert_eq!(lines(b"abc\nabcd\n", 3).await, [message("abc"), Line::TooLong]);
        assert_eq!(lines(b"", 3).await, [Line::End]);
    }

    #[tokio::test]
    async fn a_message_is_one_line_however_it_was_laid_out() {
        let mut writer = LineWriter::new(Vec::new());
        writer.add(b"{\r\n\"a\":1}");
        writer.add(b"{}");
        writer.flush().await.unwrap();
        assert_eq!(writer.writer, b"{  \"a\":1}\n{}\n");
    }
}
