//! Pure: an HTTP/1.1 answer from whatever can be read: its status, and its body as another reader. It
//! asks nothing and follows nothing, and believes no length that it was told.

use std::io::{self, BufRead, Read};

use crate::error::{ErrorKind, Fault};

/// Longest head, or trailer, of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest line that tells the size of a chunk, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Answers that only say that another one will come, such as 100.
const INTERIM_MAX: usize = 8;

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It cannot be read.
    #[error("the answer cannot be read")]
    Read(#[source] io::Error),
    /// It is not HTTP, or not of a kind that can be trusted.
    #[error("the answer is not good HTTP: {0}")]
    Bad(&'static str),
}

impl Fault for HttpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(source)
                if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                ErrorKind::Unreachable
            }
            Self::Read(_) => ErrorKind::Failed,
            Self::Bad(_) => ErrorKind::Corrupt,
        }
    }
}

/// How much of a body is still to come.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// So many bytes of this chunk, and then another chunk.
    Chunk(u64),
    /// So many bytes.
    Bytes(u64),
    /// Whatever comes until the other side closes.
    Open,
    /// Nothing.
    Nothing,
}

/// An answer; reading it reads its body.
#[derive(Debug)]
pub struct Answer<R> {
    /// 200, or what went wrong.
    pub status: u16,
    source: R,
    left: Left,
    /// Whether a chunk was read before, behind which a line ends.
    is_later: bool,
}

impl<R: BufRead> Answer<R> {
    /// Reads the head of an answer.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn read_from(mut source: R) -> Result<Self, HttpError> {
        for _ in 0..INTERIM_MAX {
            let mut left = HEAD_BYTES_MAX;
            let status = status(&line(&mut source, &mut left)?)?;
            let body = body(&mut source, &mut left)?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            return Ok(Self { status, source, left: body, is_later: false });
        }
        Err(HttpError::Bad("it never comes"))
    }

    /// Goes to the next chunk, when this one is read.
    fn next_chunk(&mut self) -> io::Result<()> {
        let bad = |wrong: HttpError| io::Error::other(wrong.to_string());
        let read = |wrong: HttpError| match wrong {
            HttpError::Read(source) => source,
            other => bad(other),
        };
        let mut left = CHUNK_LINE_BYTES_MAX;
        if self.is_later && !line(&mut self.source, &mut left).map_err(read)?.is_empty() {
            return Err(bad(HttpError::Bad("a chunk is longer than it says")));
        }
        self.is_later = true;
        let size = line(&mut self.source, &mut left).map_err(read)?;
        let digits = size.split(';').next().unwrap_or_default().trim_end();
        let is_number =
            !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(digits, 16).ok().filter(|_| is_number);
        let Some(size) = size else { return Err(bad(HttpError::Bad("the size of a chunk is no number"))) };
        self.left = Left::Chunk(size);
        if size == 0 {
            let mut left = HEAD_BYTES_MAX;
            while !line(&mut self.source, &mut left).map_err(read)?.is_empty() {}
            self.left = Left::Nothing;
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Answer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.left == Left::Chunk(0) {
            self.next_chunk()?;
        }
        let most = match self.left {
            Left::Nothing | Left::Bytes(0) => return Ok(0),
            Left::Chunk(left) | Left::Bytes(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Left::Open => usize::MAX,
        };
        let wanted = most.min(buffer.len());
        let read = self.source.read(&mut buffer[..wanted])?;
        match &mut self.left {
            Left::Chunk(left) | Left::Bytes(left) => {
                if read == 0 {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"));
                }
                *left -= read as u64;
            }
            Left::Open | Left::Nothing => {}
        }
        Ok(read)
    }
}

/// A line without its end.
fn line(source: &mut impl BufRead, left: &mut usize) -> Result<String, HttpError> {
    let mut bytes = Vec::new();
    let most = *left as u64;
    let read = source.by_ref().take(most).read_until(b'\n', &mut bytes).map_err(HttpError::Read)?;
    *left -= read;
    match (bytes.pop(), *left) {
        (Some(b'\n'), _) => {}
        (_, 0) => return Err(HttpError::Bad("a line or its head is too long")),
        _ => {
            let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off");
            return Err(HttpError::Read(cut));
        }
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_bytes| HttpError::Bad("its head is not text"))
}

fn status(line: &str) -> Result<u16, HttpError> {
    let mut words = line.splitn(3, ' ');
    if !words.next().is_some_and(|version| version == "HTTP/1.1" || version == "HTTP/1.0") {
        return Err(HttpError::Bad("it does not begin with `HTTP/1.1`"));
    }
    let code = words.next().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    code.filter(|code| (100..600).contains(code)).ok_or(HttpError::Bad("its status is no number"))
}

/// How long the body is, by the fields of the head.
fn body(source: &mut impl BufRead, left: &mut usize) -> Result<Left, HttpError> {
    let (mut length, mut chunked) = (None, false);
    loop {
        let line = line(source, left)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or(HttpError::Bad("a field has no `:`"))?;
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("content-length") {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let bytes: Option<u64> = value.parse().ok().filter(|_| digits);
            let bytes = bytes.ok_or(HttpError::Bad("its length is no number"))?;
            if length.is_some_and(|known| known != bytes) {
                return Err(HttpError::Bad("it has two lengths"));
            }
            length = Some(bytes);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") || chunked {
                return Err(HttpError::Bad("its body is encoded in a way that was not asked for"));
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case("content-encoding") && !value.eq_ignore_ascii_case("identity") {
            return Err(HttpError::Bad("its body is encoded in a way that was not asked for"));
        }
    }
    match (chunked, length) {
        // Who says both wants two readers to see two bodies (RFC 9112, 6.3).
        (true, Some(_)) => Err(HttpError::Bad("it has a length and chunks")),
        (true, None) => Ok(Left::Chunk(0)),
        (false, Some(bytes)) => Ok(Left::Bytes(bytes)),
        (false, None) => Ok(Left::Open),
    }
}

/// Text as a value in the query of an address.
pub fn query_value(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<(u16, String), String> {
        let mut answer = Answer::read_from(answer.as_bytes()).map_err(|wrong| wrong.to_string())?;
        let mut body = String::new();
        answer.read_to_string(&mut body).map_err(|wrong| wrong.to_string())?;
        Ok((answer.status, body))
    }

    #[test]
    fn bodies_are_read_by_length_by_chunks_or_to_the_end() {
        for (answer, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
            ("HTTP/1.0 200 OK\r\n\r\nabc", "abc"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nmore",
                "abcde",
            ),
            ("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n1\na\n0\nA: b\n\n", "a"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ] {
            assert_eq!(read(answer), Ok((200, body.to_owned())), "{answer}");
        }
        assert_eq!(read("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"), Ok((404, "{}".to_owned())));
    }

    #[test]
    fn an_answer_that_lies_or_is_cut_off_is_an_error() {
        let chunked = |chunks: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        for answer in [
            String::new(),
            "SSH-2.0-x\r\n".to_owned(),
            "HTTP/1.1 abc\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_owned(),
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(9),
            format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)),
            chunked("3\r\nab"),
            chunked("3\r\nabc\r\n"),
            chunked("3\r\nabcd\r\n0\r\n\r\n"),
            chunked("\r\nabc"),
            chunked("-3\r\nabc\r\n0\r\n\r\n"),
            chunked("+3\r\nabc\r\n0\r\n\r\n"),
            chunked("ffffffffffffffff1\r\nabc"),
            chunked("ffffffffffffffff\r\nabc"),
            chunked(&format!("3{}\r\nabc\r\n0\r\n\r\n", " ".repeat(CHUNK_LINE_BYTES_MAX))),
            chunked("0\r\nA: b\r\n"),
        ] {
            assert!(read(&answer).is_err(), "{answer:.100}");
        }
    }
}
