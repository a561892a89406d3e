//! Pure: tar bytes into entries: ustar, GNU and PAX, long names, sparse files. It decides nothing
//! about where an entry goes: that is `image::layer`.
//!
//! Where two readers could see different entries in the same bytes, this one refuses: a size on a
//! kind that has no body, two extended headers for one entry, a path or size for all entries.

use std::io::{self, Read};

/// Longest path or link target of an entry, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Largest PAX header of one entry, in bytes: room for a path, a link and large extended attributes.
const PAX_BYTES_MAX: u64 = 1024 * 1024;
/// Most pieces of one sparse file.
const SPARSE_PIECES_MAX: usize = 65_536;
/// Largest map of a sparse file in its own data (PAX 1.0), in bytes.
const SPARSE_MAP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The unit of the format, in bytes.
const BLOCK: usize = 512;

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

/// One entry; its bytes are read from the [`Reader`] that gave it.
#[derive(Debug)]
pub struct Entry {
    /// The path as it was written.
    pub path: Vec<u8>,
    /// The target of a link, empty otherwise.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u64,
    /// The group.
    pub gid: u64,
    /// Last change of the contents: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Size of the file, holes counted, in bytes.
    pub size: u64,
    /// Where the stored bytes go; one piece when the file is not sparse.
    pub pieces: Vec<Piece>,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number of a device.
    pub device: (u64, u64),
    /// Where its stored bytes begin in the archive.
    pub data_at: u64,
}

/// A reader that may pass over bytes without reading them.
pub trait Source: Read + Sized {
    /// Passes over `bytes` bytes.
    ///
    /// # Errors
    /// As [`Read`]; `UnexpectedEof` when there are fewer.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.by_ref().take(bytes), &mut io::sink())?;
        if passed < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl<R: Read> Source for io::BufReader<R> {}
impl Source for &[u8] {}

/// Extended header values of the next entry.
#[derive(Debug, Default)]
struct Extended {
    pax: bool,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_map: Vec<u64>,
    sparse_major: u64,
}

/// Reads entries one after another in bounded memory.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    at: u64,
    body: u64,
    to_next: u64,
    complete: bool,
}

impl<S: Source> Reader<S> {
    /// A reader from the first byte of an archive.
    pub fn new(source: S) -> Self {
        Self { source, at: 0, body: 0, to_next: 0, complete: false }
    }

    /// What it reads from.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Whether the mark for the end of an archive was seen.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many stored bytes of the entry have not been read.
    pub fn body_bytes(&self) -> u64 {
        self.body
    }

    /// The next entry; what was not read of the one before is passed over.
    ///
    /// # Errors
    /// [`TarError`] when the bytes are not an archive, are cut off, or can be read in two ways.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        let mut is_first = true;
        loop {
            self.skip_body()?;
            let at = self.at;
            let Some(block) = self.block()? else {
                return if is_first { Ok(None) } else { Err(TarError::Truncated { at }) };
            };
            if block.iter().all(|b| *b == 0) {
                return if is_first {
                    self.end().map(|()| None)
                } else {
                    Err(wrong(at, "nothing follows it"))
                };
            }
            verify(&block, at)?;
            let stored = number(&block[124..136], at)?;
            match block[156] {
                b'g' => self.check_global(stored, at)?,
                b'x' => {
                    if std::mem::replace(&mut extended.pax, true) {
                        return Err(wrong(at, "it is the second extended header of one entry"));
                    }
                    let text = self.read_body(stored, PAX_BYTES_MAX, "bytes")?;
                    parse_pax(&text, &mut extended, at)?;
                }
                b'L' | b'K' => {
                    let mut name = self.read_body(stored, PATH_BYTES_MAX as u64 + 1, "bytes in a name")?;
                    name.truncate(name.iter().position(|b| *b == 0).unwrap_or(name.len()));
                    let slot = if block[156] == b'L' { &mut extended.path } else { &mut extended.link };
                    if slot.replace(name).is_some() {
                        return Err(wrong(at, "the entry has two long names"));
                    }
                }
                _ => return self.entry(&block, stored, extended, at).map(Some),
            }
            is_first = false;
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        stored: u64,
        extended: Extended,
        at: u64,
    ) -> Result<Entry, TarError> {
        let stored = extended.size.unwrap_or(stored);
        let path = match extended.sparse_name.or(extended.path) {
            Some(path) => path,
            None => plain_path(block),
        };
        let link = extended.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec());
        if path.len() > PATH_BYTES_MAX || link.len() > PATH_BYTES_MAX {
            return Err(TarError::TooLarge { at, what: "bytes in a name", max: PATH_BYTES_MAX as u64 });
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(wrong(at, "a name has a NUL byte"));
        }
        let kind = kind_of(block[156], &path).ok_or(wrong(at, "its kind is not known"))?;
        if kind != Kind::File && stored != 0 {
            return Err(wrong(at, "it has a size and its kind has no bytes"));
        }
        self.body = stored;
        self.to_next = padded(stored).ok_or(wrong(at, "its size overflows"))?;
        let (size, map) = match block[156] {
            b'S' => (number(&block[483..495], at)?, Some(self.gnu_map(block, at)?)),
            _ if extended.sparse_major == 1 => {
                (extended.sparse_size.unwrap_or(0), Some(self.map_in_data(at)?))
            }
            _ => match extended.sparse_size {
                Some(size) => (size, Some(extended.sparse_map)),
                None => (stored, None),
            },
        };
        let pieces = match map {
            Some(map) if kind == Kind::File => pieces_of(&map, size, self.body, at)?,
            Some(_) => return Err(wrong(at, "only a file can be sparse")),
            None if stored > 0 => vec![Piece { offset: 0, bytes: stored }],
            None => Vec::new(),
        };
        let mode = u32::try_from(number(&block[100..108], at)? & 0o7777).unwrap_or(0);
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let device =
            if is_device { (number(&block[329..337], at)?, number(&block[337..345], at)?) } else { (0, 0) };
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => (signed(&block[136..148], at)?, 0),
        };
        let owner = |given: Option<u64>, field| given.map_or_else(|| number(field, at), Ok);
        Ok(Entry {
            uid: owner(extended.uid, &block[108..116])?,
            gid: owner(extended.gid, &block[116..124])?,
            path,
            link,
            kind,
            mode,
            mtime,
            size,
            pieces,
            xattrs: extended.xattrs,
            device,
            data_at: self.at,
        })
    }

    /// Old GNU sparse files: four pieces in the header, more in the blocks that follow.
    fn gnu_map(&mut self, header: &[u8; BLOCK], at: u64) -> Result<Vec<u64>, TarError> {
        let mut map = Vec::new();
        push_pieces(&header[386..482], &mut map, at)?;
        let mut more = header[482] != 0;
        while more {
            let block = self.block()?.ok_or(TarError::Truncated { at })?;
            push_pieces(&block[..504], &mut map, at)?;
            more = block[504] != 0;
            check_pieces(map.len() / 2, at)?;
        }
        Ok(map)
    }

    /// PAX 1.0 sparse files: a count and the pieces as decimal lines before the data.
    fn map_in_data(&mut self, at: u64) -> Result<Vec<u64>, TarError> {
        let mut text = Vec::new();
        let mut numbers = Vec::new();
        let mut wanted = None;
        loop {
            if text.len() >= SPARSE_MAP_BYTES_MAX || self.body < BLOCK as u64 {
                return Err(wrong(at, "its map of pieces does not end"));
            }
            let start = text.len();
            text.resize(start + BLOCK, 0);
            self.fill(&mut text[start..])?;
            self.body -= BLOCK as u64;
            self.to_next -= BLOCK as u64;
            let mut used = 0;
            while let Some(end) = text[used..].iter().position(|b| *b == b'\n') {
                numbers.push(decimal(&text[used..used + end]).ok_or(wrong(at, "a piece is not a number"))?);
                used += end + 1;
                if wanted.is_none() {
                    let count = usize::try_from(numbers[0]).unwrap_or(usize::MAX);
                    check_pieces(count, at)?;
                    wanted = Some(1 + 2 * count);
                }
                if wanted == Some(numbers.len()) {
                    return Ok(numbers.split_off(1));
                }
            }
            text.drain(..used);
        }
    }

    fn check_global(&mut self, stored: u64, at: u64) -> Result<(), TarError> {
        let mut global = Extended::default();
        let text = self.read_body(stored, PAX_BYTES_MAX, "bytes")?;
        parse_pax(&text, &mut global, at)?;
        if global.path.is_some() || global.link.is_some() || global.size.is_some() {
            return Err(wrong(at, "a path or a size for all entries"));
        }
        Ok(())
    }

    /// After a block of zeros only another may follow.
    fn end(&mut self) -> Result<(), TarError> {
        let at = self.at;
        match self.block()? {
            Some(block) if block.iter().any(|b| *b != 0) => {
                Err(wrong(at, "it follows a lone block of zeros"))
            }
            other => {
                self.complete = other.is_some();
                Ok(())
            }
        }
    }

    fn skip_body(&mut self) -> Result<(), TarError> {
        let at = self.at;
        let left = self.to_next;
        self.source.skip(left).map_err(|e| read_error(e, at))?;
        self.at += left;
        (self.body, self.to_next) = (0, 0);
        Ok(())
    }

    fn read_body(&mut self, bytes: u64, max: u64, what: &'static str) -> Result<Vec<u8>, TarError> {
        if bytes > max {
            return Err(TarError::TooLarge { at: self.at, what, max });
        }
        let mut body = vec![0; usize::try_from(bytes).unwrap_or(0)];
        self.fill(&mut body)?;
        self.to_next = bytes.next_multiple_of(BLOCK as u64) - bytes;
        Ok(body)
    }

    /// One block; nothing when the bytes end before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { at: self.at }),
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(e, self.at)),
            }
        }
        self.at += BLOCK as u64;
        Ok(Some(block))
    }

    /// Fills `buffer` from the bytes at hand.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        self.source.read_exact(buffer).map_err(|e| read_error(e, self.at))?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// Reads stored bytes of the entry into `buffer`; 0 at its end.
    ///
    /// # Errors
    /// [`TarError`] when the archive is cut off or cannot be read.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = usize::try_from(self.body).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        loop {
            match self.source.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(TarError::Truncated { at: self.at }),
                Ok(read) => {
                    self.at += read as u64;
                    self.body -= read as u64;
                    self.to_next -= read as u64;
                    return Ok(read);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(e, self.at)),
            }
        }
    }
}

fn wrong(at: u64, what: &'static str) -> TarError {
    TarError::Malformed { at, what }
}

fn read_error(source: io::Error, at: u64) -> TarError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated { at },
        _ => TarError::Read { at, source },
    }
}

/// A size with the padding to the next header; nothing when it overflows.
fn padded(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(BLOCK as u64).filter(|n| i64::try_from(*n).is_ok())
}

fn verify(block: &[u8; BLOCK], at: u64) -> Result<(), TarError> {
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

fn kind_of(flag: u8, path: &[u8]) -> Option<Kind> {
    Some(match flag {
        // Before ustar a folder was a file with a slash at the end.
        0 | b'0' if path.last() == Some(&b'/') => Kind::Dir,
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

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

/// The path in the header itself, with the prefix that ustar (and only ustar) has.
fn plain_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[..100]);
    let prefix = until_nul(&block[345..500]);
    if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// A number field: octal, or base 256 when its first bit is set.
fn number(field: &[u8], at: u64) -> Result<u64, TarError> {
    u64::try_from(signed(field, at)?).map_err(|_negative| wrong(at, "a number is negative"))
}

fn signed(field: &[u8], at: u64) -> Result<i64, TarError> {
    let too_large = || wrong(at, "a number is too large");
    if field[0] & 0x80 != 0 {
        let mut value: i128 = if field[0] & 0x40 != 0 { -1 } else { 0 };
        value = (value << 7) | i128::from(field[0] & 0x7f);
        for byte in &field[1..] {
            value = (value << 8) | i128::from(*byte);
        }
        return i64::try_from(value).map_err(|_large| too_large());
    }
    let digits = until_nul(field).trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(wrong(at, "a number is not octal"));
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(too_large)?;
    }
    Ok(value)
}

fn decimal(text: &[u8]) -> Option<u64> {
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

fn parse_pax(mut text: &[u8], into: &mut Extended, at: u64) -> Result<(), TarError> {
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

fn check_pieces(count: usize, at: u64) -> Result<(), TarError> {
    if count > SPARSE_PIECES_MAX {
        return Err(TarError::TooLarge { at, what: "pieces", max: SPARSE_PIECES_MAX as u64 });
    }
    Ok(())
}

fn push_pieces(fields: &[u8], map: &mut Vec<u64>, at: u64) -> Result<(), TarError> {
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
fn pieces_of(map: &[u64], size: u64, stored: u64, at: u64) -> Result<Vec<Piece>, TarError> {
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
