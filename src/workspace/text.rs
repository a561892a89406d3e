//! Pure: bytes of a file into text and back: encoding, byte order mark, line ends, lines.
//!
//! Whatever is decoded here can be encoded again to the same bytes, or it is refused: an edit must not touch
//! what it does not mean.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::workspace::refusal::{Code, Refusal};

/// Bytes at the beginning in which a zero byte says that a file is no text.
const PROBE_BYTES_MAX: usize = 8192;

/// What ends a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnd {
    /// `\n`
    Lf,
    /// `\r\n`
    CrLf,
}

impl LineEnd {
    /// The bytes.
    pub fn text(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
        }
    }
}

/// Which line ends a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineEnds {
    /// None at all.
    None,
    /// All of one kind.
    All(LineEnd),
    /// Both.
    Mixed,
}

impl LineEnds {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::All(LineEnd::Lf) => "lf",
            Self::All(LineEnd::CrLf) => "crlf",
            Self::Mixed => "mixed",
        }
    }

    /// Which line ends are in `text`.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut lf, mut crlf) = (false, false);
        for at in memchr::memchr_iter(b'\n', bytes) {
            match at.checked_sub(1).map(|before| bytes[before]) {
                Some(b'\r') => crlf = true,
                _ => lf = true,
            }
            if lf && crlf {
                return Self::Mixed;
            }
        }
        match (lf, crlf) {
            (true, _) => Self::All(LineEnd::Lf),
            (_, true) => Self::All(LineEnd::CrLf),
            _ => Self::None,
        }
    }
}

/// How text stands in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    encoding: &'static Encoding,
    /// Whether a mark of the byte order stands in front; for UTF-8 it is kept as part of the text.
    has_mark: bool,
}

impl Coding {
    /// UTF-8 without a mark.
    pub const PLAIN: Self = Self { encoding: UTF_8, has_mark: false };

    /// The encoding of a name that a client wrote: every name of the Encoding Standard.
    ///
    /// # Errors
    /// `Encoding`.
    pub fn named(name: &str) -> Result<Self, Refusal> {
        let found = Encoding::for_label(name.as_bytes());
        let encoding = found.ok_or_else(|| {
            Refusal::new(Code::Encoding, format!("`{name}` is no encoding"))
                .hint("`utf-8`, `utf-16le`, `windows-1252`, `shift_jis` and the like")
        })?;
        let has_mark = [UTF_16LE, UTF_16BE].contains(&encoding);
        Ok(Self { encoding, has_mark })
    }

    /// What a file seems to be in, by its mark, then by its bytes. What is no UTF-8 and no binary file is taken for
    /// windows-1252, which gives every byte a character and so loses none.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if let Some((encoding, _)) = Encoding::for_bom(bytes) {
            return Some(Self { encoding, has_mark: encoding != UTF_8 });
        }
        if memchr::memchr(0, &bytes[..bytes.len().min(PROBE_BYTES_MAX)]).is_some() {
            return None;
        }
        let encoding = if std::str::from_utf8(bytes).is_ok() { UTF_8 } else { WINDOWS_1252 };
        Some(Self { encoding, has_mark: false })
    }

    /// The word on the wire.
    pub fn word(self) -> String {
        self.encoding.name().to_ascii_lowercase()
    }

    /// Bytes into text.
    ///
    /// # Errors
    /// `Encoding` when the same bytes would not come back.
    pub fn decode<'a>(self, bytes: &'a [u8], path: &str) -> Result<Cow<'a, str>, Refusal> {
        let wrong = || {
            let text = format!("`{path}` cannot be read as {} without losing bytes", self.word());
            Refusal::new(Code::Encoding, text).at(path).hint("give another `encoding`")
        };
        if self.encoding == UTF_8 {
            return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_place| wrong());
        }
        let (text, had_errors) = self.encoding.decode_with_bom_removal(bytes);
        if had_errors || self.encode(&text, path)? != bytes {
            return Err(wrong());
        }
        Ok(text)
    }

    /// Text into bytes.
    ///
    /// # Errors
    /// `Encoding` when a character has no place in it.
    pub fn encode<'a>(self, text: &'a str, path: &str) -> Result<Cow<'a, [u8]>, Refusal> {
        if self.encoding == UTF_8 {
            return Ok(Cow::Borrowed(text.as_bytes()));
        }
        if self.encoding == UTF_16LE || self.encoding == UTF_16BE {
            let mark = self.has_mark.then_some(0xFEFF);
            let units = mark.into_iter().chain(text.encode_utf16());
            let is_little = self.encoding == UTF_16LE;
            let bytes =
                units.flat_map(|unit| if is_little { unit.to_le_bytes() } else { unit.to_be_bytes() });
            return Ok(Cow::Owned(bytes.collect()));
        }
        let (bytes, _, had_errors) = self.encoding.encode(text);
        if had_errors {
            let what = format!("`{path}` is in {}, which lacks a character of the new text", self.word());
            return Err(Refusal::new(Code::Encoding, what)
                .at(path)
                .hint("write the whole file with `encoding: utf-8` to change its encoding"));
        }
        Ok(bytes)
    }
}

impl Coding {
    /// As [`Coding::encode`], without a copy where none is needed.
    ///
    /// # Errors
    /// As there.
    pub fn into_bytes(self, text: String, path: &str) -> Result<Vec<u8>, Refusal> {
        if self.encoding == UTF_8 {
            Ok(text.into_bytes())
        } else {
            self.encode(&text, path).map(Cow::into_owned)
        }
    }
}

/// The kind of a file that is no text, by its first bytes, for an error that helps.
pub fn binary_kind(bytes: &[u8]) -> &'static str {
    const KINDS: &[(&[u8], &str)] = &[
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF", "a PDF document"),
        (b"\x7fELF", "an ELF program"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"\x28\xb5\x2f\xfd", "zstd data"),
        (b"SQLite format 3", "an SQLite database"),
        (b"\0asm", "a WebAssembly module"),
        (b"RIFF", "a RIFF file (WebP, WAV)"),
    ];
    KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)).map_or("binary", |(_, kind)| kind)
}

/// Text with `\r\n` as `\n`.
pub fn with_lf(text: &str) -> Cow<'_, str> {
    if memchr::memmem::find(text.as_bytes(), b"\r\n").is_some() {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Text with every line end as asked for.
pub fn with_line_end(text: &str, end: LineEnd) -> String {
    let text = with_lf(text);
    match end {
        LineEnd::Lf => text.into_owned(),
        LineEnd::CrLf => text.replace('\n', "\r\n"),
    }
}

/// The number of lines: a last one without an end counts.
pub fn line_count(text: &str) -> usize {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).count();
    ends + usize::from(!text.is_empty() && !text.ends_with('\n'))
}

/// The line and the column, both from 1, of a place in bytes; columns count characters.
pub fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    (memchr::memchr_iter(b'\n', before.as_bytes()).count() + 1, before[start..].chars().count() + 1)
}

/// Whitespace as the reference sees it: Unicode's, and the mark of the byte order.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// The whitespace in front of a line.
pub fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches(is_blank).len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_comes_back_byte_for_byte() {
        let texts: [&[u8]; 6] =
            [b"plain", b"\xef\xbb\xbfmarked", b"caf\xe9\x81", b"\xff\xfea\0\xe9\0", b"\xfe\xff\0a", b""];
        for bytes in texts {
            let coding = Coding::of(bytes).unwrap();
            let text = coding.decode(bytes, "x").unwrap();
            assert_eq!(&*coding.encode(&text, "x").unwrap(), bytes, "{coding:?}");
        }
        assert_eq!(Coding::of(b"\x89PNG\r\n\x1a\n\0"), None);
        assert_eq!(Coding::of(b"caf\xe9").unwrap().word(), "windows-1252");
        // Half a pair of UTF-16.
        let broken = b"\xff\xfe\x00\xd8";
        assert_eq!(Coding::of(broken).unwrap().decode(broken, "x").unwrap_err().code, Code::Encoding);
        assert_eq!(Coding::named("latin1").unwrap().encode("→", "x").unwrap_err().code, Code::Encoding);
    }

    #[test]
    fn line_ends_and_places_are_counted_as_an_editor_does() {
        assert_eq!(LineEnds::of("a\r\nb\n"), LineEnds::Mixed);
        assert_eq!(LineEnds::of("a\r\n"), LineEnds::All(LineEnd::CrLf));
        assert_eq!(LineEnds::of("a\rb"), LineEnds::None);
        assert_eq!([line_count(""), line_count("a"), line_count("a\n"), line_count("a\nb")], [0, 1, 1, 2]);
        assert_eq!(line_and_column("ab\ncé d", 7), (2, 4));
        assert_eq!(indent("\t  x "), "\t  ");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_decoded_to_what_encodes_to_others(bytes: Vec<u8>) {
            if let Some(coding) = Coding::of(&bytes)
                && let Ok(text) = coding.decode(&bytes, "x")
            {
                proptest::prop_assert_eq!(&*coding.encode(&text, "x").unwrap(), &bytes[..]);
            }
        }
    }
}
