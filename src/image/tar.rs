//! Pure: tar bytes into entries: ustar, GNU and PAX, long names, sparse files. It decides nothing
//! about where an entry goes: that is `image::layer`.
//!
//! Where two readers could see different entries in the same bytes, this one refuses: a size on a
//! kind that has no body, two extended headers for one entry, a path or size for all entries.

use std::io::{self, Read};

use crate::image::header::{
    BLOCK, Dialect, Extended, Kind, PATH_BYTES_MAX, PAX_BYTES_MAX, Piece, SPARSE_MAP_BYTES_MAX, TarError,
    check_numbers, check_pieces, decimal, dialect, kind_of, number, padded, parse_pax, pieces_of, plain_path,
    push_pieces, read_error, signed, until_nul, verify, wrong,
};

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
            let dialect = dialect(&block).ok_or(wrong(at, "its magic is of no known format"))?;
            let stored = number(&block[124..136], at)?;
            check_numbers(&block, dialect, at)?;
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
                    let name = self.long_name(stored, at)?;
                    let slot = if block[156] == b'L' { &mut extended.path } else { &mut extended.link };
                    if slot.replace(name).is_some() {
                        return Err(wrong(at, "the entry has two long names"));
                    }
                }
                _ => {
                    extended.check_sparse(&block, at)?;
                    return self.entry(&block, stored, extended, at).map(Some);
                }
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
        let kind = kind_of(block, &path).ok_or(wrong(at, "its kind is not known"))?;
        if path.is_empty() {
            return Err(wrong(at, "it has no name"));
        }
        if link.is_empty() && matches!(kind, Kind::HardLink | Kind::Symlink) {
            return Err(wrong(at, "it is a link to nothing"));
        }
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
        let device = match dialect(block) {
            Some(Dialect::Old) | None => (0, 0),
            Some(_) => (number(&block[329..337], at)?, number(&block[337..345], at)?),
        };
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
        if global.path.is_some() || global.link.is_some() || global.size.is_some() || global.is_sparse() {
            return Err(wrong(at, "a path, a size or holes for all entries"));
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

    /// Goes to the next header. Some writers leave out the padding of the last entry: its bytes are
    /// all there, so that is an end, without the mark for one.
    fn skip_body(&mut self) -> Result<(), TarError> {
        let at = self.at;
        self.source.skip(self.body).map_err(|e| read_error(e, at))?;
        let padding = self.to_next - self.body;
        match self.source.skip(padding) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(read_error(e, at)),
            _ => self.at += self.to_next,
        }
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

    /// The body of a long name. Some readers end it by its size and some by its NUL: both must be there.
    fn long_name(&mut self, bytes: u64, at: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_body(bytes, PATH_BYTES_MAX as u64 + 1, "bytes in a name")?;
        let mut after = [1];
        match name.iter().position(|b| *b == 0) {
            Some(end) => name.truncate(end),
            None if self.to_next > 0 => {
                self.fill(&mut after)?;
                self.to_next -= 1;
            }
            None => {}
        }
        if name.len() as u64 == bytes && after != [0] {
            return Err(wrong(at, "its long name does not end"));
        }
        Ok(name)
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
