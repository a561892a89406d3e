//! Pure: the fields of tar headers: numbers, names, PAX records, the pieces of sparse files. It reads
//! nothing: blocks are given to it by `image::tar`.

use std::io;

/// Longest path or link target of an entry, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Largest PAX header of one entry, in bytes: room for a path, a link and large extended attributes.
pub const PAX_BYTES_MAX: u64 = 1024 * 1024;
/// Most pieces of one sparse file.
const SPARSE_PIECES_MAX: usize = 65_536;
/// Largest map of a sparse file in its own data (PAX 1.0), in bytes.
pub const SPARSE_MAP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The unit of the format, in bytes.
pub const BLOCK: usize = 512;

/// Why bytes are not a tar archive that can be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The bytes could not be read or decompressed.
    #[error("cannot read at byte {at}")]
    Read {
        /// Where in the uncompressed archive.
        at: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The archive ends in the middle of an entry.
    #[error("the archive is cut off at byte {at}")]
    Truncated {
        /// Where in the uncompressed archive.
        at: u64,
    },
    /// A header that is not one, or that readers disagree about.
    #[error("the header at byte {at} is wrong: {what}")]
    Malformed {
        /// Where in the uncompressed archive.
        at: u64,
        /// Which rule it breaks.
        what: &'static str,
    },
    /// A header larger than a header needs to be.
    #[error("the header at byte {at} has more than {max} {what}")]
    TooLarge {
        /// Where in the uncompressed archive.
        at: u64,
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: u64,
    },
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, sparse or not.
    File,
    /// Another name of a file that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Dir,
    /// A named pipe.
    Fifo,
}

/// A piece of a file that is not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
}

/// Extended header values of the next entry.
#[derive(Debug, Default)]
pub struct Extended {
    /// Whether a PAX header came.
    pub pax: bool,
    /// The path.
    pub path: Option<Vec<u8>>,
    /// The target of a link.
    pub link: Option<Vec<u8>>,
    /// How many bytes are stored.
    pub size: Option<u64>,
    /// The owner.
    pub uid: Option<u64>,
    /// The group.
    pub gid: Option<u64>,
    /// Last change: seconds since 1970 and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The path of a sparse file.
    pub sparse_name: Option<Vec<u8>>,
    /// The size of a sparse file with its holes.
    pub sparse_size: Option<u64>,
    /// How many pieces it says it has.
    pub sparse_count: Option<u64>,
    /// Offsets and lengths of its pieces, in turn.
    pub sparse_map: Vec<u64>,
    /// 1 when the pieces are told in the data.
    pub sparse_major: u64,
}

impl Extended {
    /// Whether the entry is a sparse file.
    pub fn is_sparse(&self) -> bool {
        self.sparse_size.is_some() || self.sparse_major != 0 || !self.sparse_map.is_empty()
    }

    /// Checks that what makes the entry of this header a sparse file is the same to every reader.
    ///
    /// # Errors
    /// `Malformed` when it is not.
    pub fn check_sparse(&self, block: &[u8; BLOCK], at: u64) -> Result<(), TarError> {
        if !self.is_sparse() {
            return Ok(());
        }
        if dialect(block) != Some(Dialect::Ustar) {
            return Err(wrong(at, "it is sparse by PAX and not of that format"));
        }
        let is_folder = |path: &[u8]| path.last() == Some(&b'/');
        if is_folder(&plain_path(block)) || self.path.as_deref().is_some_and(is_folder) {
            return Err(wrong(at, "it is sparse and has the name of a folder"));
        }
        match self.sparse_count {
            Some(count) if count != self.sparse_map.len() as u64 / 2 => {
                Err(wrong(at, "it has not as many pieces as it says"))
            }
            _ => Ok(()),
        }
    }
}

/// A header that breaks the rule `what`.
pub fn wrong(at: u64, what: &'static str) -> TarError {
    TarError::Malformed { at, what }
}

/// What a failed read means: the end of the bytes is a truncated archive.
pub fn read_error(source: io::Error, at: u64) -> TarError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated { at },
        _ => TarError::Read { at, source },
    }
}

/// A size with the padding to the next header; nothing when it overflows.
pub fn padded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(BLOCK as u64).filter(|n| i64::try_from(*n).is_ok())
}

/// Checks the checksum of a header.
///
/// # Errors
/// `Malformed` when it is not.
pub fn verify(block: &[u8; BLOCK], at: u64) -> Result<(), TarError> {
    let counted = |i: usize| if (148..156).contains(&i) { b' ' } else { block[i] };
    let unsigned: u64 = (0..BLOCK).map(|i| u64::from(counted(i))).sum();
    // Very old writers summed signed bytes.
    let negative = (0..BLOCK).filter(|i| counted(*i) >= 128).count() as u64;
    let said = number(&block[148..156], at)?;
    if said == unsigned || said.checked_add(256 * negative) == Some(unsigned) {
        Ok(())
    } else {
        Err(wrong(at, "its checksum does not match"))
    }
}

/// Which writing of headers a header is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Before POSIX: no prefix, no device numbers.
    Old,
    /// POSIX, and PAX with it.
    Ustar,
    /// GNU: other fields in the place of the prefix.
    Gnu,
}

/// The dialect of a header; nothing when readers would not agree on it.
pub fn dialect(block: &[u8; BLOCK]) -> Option<Dialect> {
    match &block[257..265] {
        b"\0\0\0\0\0\0\0\0" => Some(Dialect::Old),
        b"ustar  \0" => Some(Dialect::Gnu),
        magic if magic.starts_with(b"ustar\0") => Some(Dialect::Ustar),
        _ => None,
    }
}

/// The kind of an entry; nothing when it is not known, or not the same to every reader.
pub fn kind_of(block: &[u8; BLOCK], path: &[u8]) -> Option<Kind> {
    let is_gnu = dialect(block) == Some(Dialect::Gnu);
    Some(match block[156] {
        // Before ustar a folder was a file with a slash at the end.
        0 | b'0' if path.last() == Some(&b'/') => Kind::Dir,
        b'7' | b'S' if path.last() == Some(&b'/') => return None,
        b'S' if !is_gnu => return None,
        // Some readers see a sparse file wherever its fields are filled.
        b'0'..=b'7' | 0 if is_gnu && [block[386], block[482], block[483]] != [0; 3] => return None,
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Dir,
        b'6' => Kind::Fifo,
        _ => return None,
    })
}

/// A text field up to its first NUL.
pub fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// The path in the header itself, with the prefix that ustar (and only ustar) has.
pub fn plain_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    if dialect(block) == Some(Dialect::Ustar) && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// A number field: octal, or base 256 when its first bit is set.
///
/// # Errors
/// `Malformed` when it is not.
pub fn number(field: &[u8], at: u64) -> Result<u64, TarError> {
    u64::try_from(signed(field, at)?).map_err(|_negative| wrong(at, "a number is negative"))
}

/// A number field that may be negative: only times are.
///
/// # Errors
/// `Malformed` when it is not.
pub fn signed(field: &[u8], at: u64) -> Result<i64, TarError> {
    let too_large = || wrong(at, "a number is too large");
    if field[0] & 0x80 != 0 {
        let mut value: i128 = match field[0] {
            0x80 => 0,
            0xff => -1,
            _ => return Err(too_large()),
        };
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_large| too_large());
    }
    let blanks = field.iter().take_while(|byte| **byte == b' ').count();
    let is_octal = |byte: &&u8| (b'0'..=b'7').contains(*byte);
    let digits = &field[blanks..][..field[blanks..].iter().take_while(is_octal).count()];
    if !field[blanks + digits.len()..].iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Err(wrong(at, "a number is not octal"));
    }
    let mut value: i64 = 0;
    for digit in digits {
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(too_large)?;
    }
    Ok(value)
}

/// Checks that every field of a header that should be a number is one, needed or not: some readers take
/// an archive for none otherwise.
///
/// # Errors
/// `Malformed` when it is not.
pub fn check_numbers(block: &[u8; BLOCK], dialect: Dialect, at: u64) -> Result<(), TarError> {
    let devices = if dialect == Dialect::Old { 0..0 } else { 329..345 };
    for field in [100..108, 108..116, 116..124, 136..148] {
        signed(&block[field], at)?;
    }
    block[devices].chunks_exact(8).try_for_each(|field| signed(field, at).map(|_number| ()))
}

/// Decimal digits and nothing else.
pub fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional fraction, as PAX writes times.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (digits, is_negative) = whole.strip_prefix('-').map_or((whole, false), |digits| (digits, true));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole = i64::try_from(decimal(digits.as_bytes())?).ok()?;
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (is_negative, nanos) {
        (false, _) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

/// Reads the records of a PAX header.
///
/// # Errors
/// `Malformed` or `TooLarge`.
pub fn parse_pax(mut text: &[u8], into: &mut Extended, at: u64) -> Result<(), TarError> {
    while !text.is_empty() {
        let bad = || wrong(at, "an extended record is not `length key=value`");
        let space = text.iter().take(20).position(|b| *b == b' ').ok_or_else(bad)?;
        let length = decimal(&text[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > text.len() || text[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &text[space + 1..length - 1];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        pax_record(&record[..equals], &record[equals + 1..], into, at)?;
        text = &text[length..];
    }
    Ok(())
}

fn pax_record(key: &[u8], value: &[u8], into: &mut Extended, at: u64) -> Result<(), TarError> {
    if key.contains(&0) {
        return Err(wrong(at, "the name of an extended value has a NUL byte"));
    }
    let is_piece = [&b"GNU.sparse.offset"[..], b"GNU.sparse.numbytes", b"GNU.sparse.map"].contains(&key);
    if is_piece && into.sparse_count.is_none() {
        return Err(wrong(at, "its pieces come before their number"));
    }
    let number = || decimal(value).ok_or(wrong(at, "an extended number is not one"));
    let once = |slot: &mut Option<Vec<u8>>| match slot.replace(value.to_vec()) {
        Some(_) => Err(wrong(at, "the entry has two names")),
        None => Ok(()),
    };
    match key {
        b"path" => once(&mut into.path)?,
        b"linkpath" => once(&mut into.link)?,
        b"GNU.sparse.name" => once(&mut into.sparse_name)?,
        b"size" => into.size = Some(number()?),
        b"uid" => into.uid = Some(number()?),
        b"gid" => into.gid = Some(number()?),
        b"mtime" => into.mtime = Some(time(value).ok_or(wrong(at, "a time is not one"))?),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => into.sparse_size = Some(number()?),
        b"GNU.sparse.numblocks" => into.sparse_count = Some(number()?),
        b"GNU.sparse.major" => into.sparse_major = number()?,
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => into.sparse_map.push(number()?),
        b"GNU.sparse.map" => {
            for part in value.split(|b| *b == b',') {
                into.sparse_map.push(decimal(part).ok_or(wrong(at, "a piece is not a number"))?);
                check_pieces(into.sparse_map.len() / 2, at)?;
            }
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                into.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    check_pieces(into.sparse_map.len() / 2, at)
}

/// Refuses a sparse file of too many pieces.
///
/// # Errors
/// `TooLarge`.
pub fn check_pieces(count: usize, at: u64) -> Result<(), TarError> {
    if count > SPARSE_PIECES_MAX {
        return Err(TarError::TooLarge { at, what: "pieces", max: SPARSE_PIECES_MAX as u64 });
    }
    Ok(())
}

/// Reads the offsets and lengths of old GNU sparse files.
///
/// # Errors
/// `Malformed` when it is not.
pub fn push_pieces(fields: &[u8], map: &mut Vec<u64>, at: u64) -> Result<(), TarError> {
    for piece in fields.chunks_exact(24) {
        if piece[0] == 0 {
            break;
        }
        map.push(number(&piece[..12], at)?);
        map.push(number(&piece[12..], at)?);
    }
    Ok(())
}

/// Pieces in order, inside the file, and together exactly what is stored.
///
/// # Errors
/// `Malformed` when it is not.
pub fn pieces_of(map: &[u64], size: u64, stored: u64, at: u64) -> Result<Vec<Piece>, TarError> {
    let mut pieces = Vec::with_capacity(map.len() / 2);
    let (mut end, mut sum) = (0_u64, 0_u64);
    if !map.len().is_multiple_of(2) {
        return Err(wrong(at, "a piece has no length"));
    }
    for pair in map.chunks_exact(2) {
        let piece = Piece { offset: pair[0], bytes: pair[1] };
        let piece_end = piece.offset.checked_add(piece.bytes).filter(|end| *end <= size);
        if piece.offset < end {
            return Err(wrong(at, "its pieces overlap"));
        }
        end = piece_end.ok_or(wrong(at, "a piece lies outside the file"))?;
        sum += piece.bytes;
        if piece.bytes > 0 {
            pieces.push(piece);
        }
    }
    if sum != stored {
        return Err(wrong(at, "its pieces are not what is stored"));
    }
    Ok(pieces)
}
