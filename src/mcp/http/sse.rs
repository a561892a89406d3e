//! Pure: server-sent events, written and read. One event carries one message; what the messages say is
//! not known here.

/// Longest name of an event and longest id, in bytes.
const FIELD_BYTES_MAX: usize = 1024;
/// Longest pause that a server may ask for before we come back, in milliseconds.
const RETRY_MS_MAX: u64 = 60_000;

/// One event as text. `data` is one message and has no line break.
pub fn event(id: Option<&str>, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 48);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
    out
}

/// The first event of a stream that can be resumed: an id without a message, and when to come back.
pub fn priming(id: &str, retry_ms: u64) -> Vec<u8> {
    format!("id: {id}\nretry: {retry_ms}\ndata: \n\n").into_bytes()
}

/// Nothing, so that nobody between thinks the connection dead.
pub const KEEP_ALIVE: &[u8] = b": \n\n";

/// What stands in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A message.
    Message(Vec<u8>),
    /// From here the stream can be resumed.
    Id(String),
    /// When to come back after a break, in milliseconds.
    RetryMs(u64),
}

/// The stream is longer between two events than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has more than {bytes_max} bytes")]
pub struct TooLong {
    /// What was allowed.
    pub bytes_max: usize,
}

/// Reads a stream as it comes, in pieces of any size.
#[derive(Debug)]
pub struct Reader {
    bytes_max: usize,
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    is_message: bool,
    after_return: bool,
    is_begun: bool,
}

impl Reader {
    /// A reader whose events have at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            data: None,
            is_message: true,
            after_return: false,
            is_begun: false,
        }
    }

    /// What it holds of an event that is not complete, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, Vec::len)
    }

    /// Takes a piece; gives what it completed, in order.
    ///
    /// # Errors
    /// [`TooLong`]; the stream cannot be read on.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<Vec<Item>, TooLong> {
        let mut items = Vec::new();
        while !piece.is_empty() {
            if std::mem::take(&mut self.after_return) && piece[0] == b'\n' {
                piece = &piece[1..];
                continue;
            }
            let end = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &piece[..end.unwrap_or(piece.len())];
            if self.held_bytes() + part.len() > self.bytes_max {
                return Err(TooLong { bytes_max: self.bytes_max });
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_return = piece[end] == b'\r';
            piece = &piece[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.line(&line, &mut items);
        }
        Ok(items)
    }

    fn line(&mut self, line: &[u8], items: &mut Vec<Item>) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.is_begun => rest,
            _ => line,
        };
        self.is_begun = true;
        if line.is_empty() {
            let is_message = std::mem::replace(&mut self.is_message, true);
            match self.data.take() {
                // An event without data says where we are, and nothing else.
                Some(data) if is_message && !data.trim_ascii().is_empty() => items.push(Item::Message(data)),
                _ => {}
            }
            return;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                let data = self.data.get_or_insert_default();
                // Several lines are one message with line breaks between, which JSON takes for white space.
                if !data.is_empty() {
                    data.push(b' ');
                }
                data.extend_from_slice(value);
            }
            b"event" => self.is_message = value.is_empty() || value == b"message",
            b"id"
                if value.len() <= FIELD_BYTES_MAX && value.iter().all(|byte| (0x20..0x7f).contains(byte)) =>
            {
                items.push(Item::Id(String::from_utf8_lossy(value).into_owned()));
            }
            b"retry" => {
                if let Some(ms) = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok()) {
                    items.push(Item::RetryMs(ms.min(RETRY_MS_MAX)));
                }
            }
            _ => {}
        }
    }
}

/// The message as one line: a line break outside of a string is white space, and inside there is none.
pub fn one_line(mut message: Vec<u8>) -> Vec<u8> {
    for byte in &mut message {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<Item> {
        let mut reader = Reader::new(1000);
        pieces.iter().flat_map(|piece| reader.feed(piece).unwrap()).collect()
    }

    fn message(text: &str) -> Item {
        Item::Message(text.as_bytes().to_vec())
    }

    #[test]
    fn what_is_written_is_read() {
        let text = [priming("3-0", 500), event(Some("3-1"), b"{}"), KEEP_ALIVE.to_vec(), event(None, b"[1]")]
            .concat();
        let expected = [
            Item::Id("3-0".to_owned()),
            Item::RetryMs(500),
            Item::Id("3-1".to_owned()),
            message("{}"),
            message("[1]"),
        ];
        assert_eq!(read(&[&text]), expected);
    }

    #[test]
    fn every_way_to_end_a_line_is_read() {
        for text in ["data: a\n\ndata: b\n\n", "data:a\r\rdata: b\r\r", "data: a\r\n\r\ndata:b\r\n\r\n"] {
            assert_eq!(read(&[text.as_bytes()]), [message("a"), message("b")], "{text:?}");
        }
        assert_eq!(read(&[b"\xef\xbb\xbfdata: {\ndata: }\n\n"]), [message("{ }")]);
    }

    #[test]
    fn what_is_no_message_is_none() {
        assert_eq!(read(&[b"event: endpoint\ndata: /x\n\ndata: a\n\n"]), [message("a")]);
        assert_eq!(read(&[b": hello\nfoo: bar\ndata\n\nretry: soon\nid: \xff\n\n"]), []);
        assert_eq!(read(&[b"retry: 99999999\n\n"]), [Item::RetryMs(RETRY_MS_MAX)]);
        assert_eq!(read(&[b"data: cut off\n"]), [], "an event that never ended");
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = Reader::new(1000);
        assert!(reader.feed(&[b'x'; 999]).is_ok());
        assert_eq!(reader.feed(b"xx"), Err(TooLong { bytes_max: 1000 }));
        let mut reader = Reader::new(1000);
        let line = format!("data: {}\n", "y".repeat(90));
        assert!((0..50).any(|_| reader.feed(line.as_bytes()).is_err()), "many lines of one event");
    }

    #[test]
    fn a_message_of_many_lines_becomes_one() {
        assert_eq!(one_line(b"{\r\n \"a\": 1\n}".to_vec()), b"{   \"a\": 1 }");
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_a_stream_comes_change_nothing(text in "(data|id|: |retry|\r|\n|\r\n|x|:){0,40}", cut in 0usize..80) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            prop_assert_eq!(read(&[bytes]), read(&[&bytes[..cut], &bytes[cut..]]));
        }
    }
}
