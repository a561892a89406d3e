//! Pure: one pass over a blob: count and hash what is stored, decompress it, hash what comes out,
//! and stop a bomb. It reads from whatever it is given and knows nothing of files.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use crate::image::tar::Source;
use crate::names::Digest;

/// Largest zstd window, as a power of two of bytes: 2^27 is 128 MiB, what `zstd -19 --long` needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Largest zstd window of what is decompressed beside others, as a power of two of bytes: what `zstd -19`
/// asks for.
const ZSTD_WINDOW_LOG_SMALL: u32 = 23;
/// The same in bytes.
pub const WINDOW_BYTES_SMALL: u64 = 1 << ZSTD_WINDOW_LOG_SMALL;
/// A stream may always decompress to this many bytes …
const FREE_BYTES: u64 = 64 * 1024 * 1024;
/// … and beyond it to this many times what is stored; gzip alone can make 1032 times.
const RATIO_MAX: u64 = 200;
/// Bytes of a blob that tell how to read it: the longest zstd frame header.
const HEAD_BYTES: usize = 18;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// Counts and hashes what is read through it.
#[derive(Debug)]
struct Counted<R> {
    inner: R,
    hash: Option<Sha256>,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        self.bytes += read as u64;
        Ok(read)
    }
}

/// The first bytes again, then the rest.
type Peeked<R> = Chain<Cursor<Vec<u8>>, BufReader<Counted<R>>>;

enum Decoder<R: Read> {
    Plain(Peeked<R>),
    Gzip(Box<MultiGzDecoder<Peeked<R>>>),
    Zstd(Box<zstd::Decoder<'static, Peeked<R>>>),
}

impl<R: Read> Decoder<R> {
    fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::Plain,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    fn stored(&mut self) -> &mut Peeked<R> {
        match self {
            Self::Plain(inner) => inner,
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

/// A blob that is read once: plain, gzip or zstd, found by its first bytes.
pub struct Stream<R: Read> {
    decoder: Decoder<R>,
    /// Nothing when the blob is plain: then what is stored is what comes out.
    hash: Option<Sha256>,
    bytes: u64,
    bytes_max: u64,
    window_bytes: u64,
    window_log_max: u32,
}

/// How a blob is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What the first four bytes of a blob say.
    pub fn of(first: &[u8]) -> Self {
        if first.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::Plain
        }
    }

    /// What a manifest calls a layer that is stored so (OCI image-spec).
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What a whole blob turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// Digest of the bytes as they are stored.
    pub stored: Digest,
    /// How many bytes are stored.
    pub stored_bytes: u64,
    /// Digest of the decompressed bytes.
    pub plain: Digest,
    /// How many bytes came out.
    pub plain_bytes: u64,
    /// How they are stored.
    pub compression: Compression,
}

impl<R: Read> Stream<R> {
    /// Opens a blob that may decompress to at most `bytes_max` bytes.
    ///
    /// # Errors
    /// What the reader says, or that the zstd frame cannot be opened.
    pub fn open(source: R, bytes_max: u64) -> io::Result<Self> {
        Self::opened(source, bytes_max, true)
    }

    /// The same for bytes whose digests nobody asks for: [`Stream::finish`] has no answer then.
    ///
    /// # Errors
    /// As [`Stream::open`].
    pub fn open_unhashed(source: R, bytes_max: u64) -> io::Result<Self> {
        Self::opened(source, bytes_max, false)
    }

    fn opened(source: R, bytes_max: u64, is_hashed: bool) -> io::Result<Self> {
        let counted = Counted { inner: source, hash: is_hashed.then(Sha256::new), bytes: 0 };
        let mut buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
        let mut first = Vec::with_capacity(HEAD_BYTES);
        buffered.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut first)?;
        let compression = Compression::of(&first);
        let window_bytes = if compression == Compression::Zstd { zstd_window(&first) } else { 0 };
        let peeked = Cursor::new(first).chain(buffered);
        let decoder = match compression {
            Compression::Plain => Decoder::Plain(peeked),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(peeked))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(peeked)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        let hash = (is_hashed && compression != Compression::Plain).then(Sha256::new);
        Ok(Self { decoder, hash, bytes: 0, bytes_max, window_bytes, window_log_max: ZSTD_WINDOW_LOG_MAX })
    }

    /// Whether nothing is decompressed.
    pub fn is_plain(&self) -> bool {
        self.decoder.compression() == Compression::Plain
    }

    /// How much memory decompressing takes: the window of the first zstd frame, in bytes.
    pub fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// No frame may ask for a window of more than [`WINDOW_BYTES_SMALL`]: the first one says nothing of
    /// those behind it. To be called before the first byte is read.
    ///
    /// # Errors
    /// When reading has begun.
    pub fn refuse_large_windows(&mut self) -> io::Result<()> {
        if let Decoder::Zstd(decoder) = &mut self.decoder {
            decoder.window_log_max(ZSTD_WINDOW_LOG_SMALL)?;
            self.window_log_max = ZSTD_WINDOW_LOG_SMALL;
        }
        Ok(())
    }

    /// Reads what is left and tells what the whole blob was.
    ///
    /// # Errors
    /// As reading it.
    pub fn finish(mut self) -> io::Result<Sums> {
        let mut buffer = vec![0; BUFFER_BYTES];
        while self.read(&mut buffer)? > 0 {}
        let compression = self.decoder.compression();
        let stored = self.decoder.stored();
        // A decoder stops at the end of its frame; what lies behind it belongs to the digest.
        while !stored.fill_buf()?.is_empty() {
            let held = stored.fill_buf()?.len();
            stored.consume(held);
        }
        let counted = stored.get_mut().1.get_mut();
        let digest = |hash: Option<Sha256>| hash.map(|h| Digest::from_bytes(&h.finalize().into()));
        let stored_bytes = counted.bytes;
        let stored =
            digest(counted.hash.take()).ok_or_else(|| io::Error::other("the blob was finished before"))?;
        let plain = digest(self.hash.take()).unwrap_or_else(|| stored.clone());
        Ok(Sums { stored, stored_bytes, plain, plain_bytes: self.bytes, compression })
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(inner) => inner.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => {
                decoder.read(buffer).map_err(|e| too_large_window(e, self.window_log_max))
            }
        }?;
        self.bytes += read as u64;
        let stored_bytes = self.decoder.stored().get_ref().1.get_ref().bytes;
        let limit = |text| Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        if self.bytes > self.bytes_max {
            return limit(format!("it decompresses to more than {} bytes", self.bytes_max));
        }
        if !self.is_plain() && self.bytes > FREE_BYTES.saturating_add(stored_bytes.saturating_mul(RATIO_MAX))
        {
            return limit(format!("it decompresses to more than {RATIO_MAX} times what is stored"));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..read]);
        }
        Ok(read)
    }
}

impl<R: Read> Source for Stream<R> {}

/// The decoder's own words say nothing of what is allowed.
fn too_large_window(error: io::Error, log_max: u32) -> io::Error {
    if !error.to_string().contains("requires too much memory") {
        return error;
    }
    let begin = if log_max == ZSTD_WINDOW_LOG_MAX { "" } else { " (its beginning asks for no more)" };
    let text = format!(
        "decompressing it takes too much memory: a zstd window of more than {} bytes{begin}",
        1_u64 << log_max
    );
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

/// The digest of bytes in memory.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&Sha256::digest(bytes).into())
}

/// The window that a zstd frame header asks for, in bytes (RFC 8878, 3.1.1.1). What is cut off counts as 0.
fn zstd_window(header: &[u8]) -> u64 {
    let byte = |at: usize| header.get(at).map_or(0, |byte| u64::from(*byte));
    let descriptor = byte(4);
    if descriptor & 0x20 == 0 {
        let (exponent, mantissa) = (byte(5) >> 3, byte(5) & 7);
        let base = 1 << (10 + exponent);
        return base + (base / 8) * mantissa;
    }
    // A single segment has no window of its own: it is as large as the content.
    let at = 5 + [0, 1, 2, 4][(descriptor & 3) as usize];
    let (length, more) = [(1, 0), (2, 256), (4, 0), (8, 0)][(descriptor >> 6) as usize];
    (0..length).fold(0, |size, i| size | byte(at + i) << (8 * i)).saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// A zstd stream with a window of 2^`log` bytes and at least as much content, whose size the frame
    /// tells or not.
    fn zstd_of(log: u32, bytes: usize, tells_size: bool) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.include_contentsize(tells_size).unwrap();
        if tells_size {
            encoder.set_pledged_src_size(Some(bytes as u64)).unwrap();
        }
        encoder.write_all(&vec![7; bytes]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_window_of_a_zstd_stream_is_known_before_it_is_decompressed() {
        let window = |bytes: &[u8]| Stream::open(bytes, 1 << 40).unwrap().window_bytes();
        assert_eq!(window(&zstd_of(23, 10 << 20, false)), 8 << 20);
        assert_eq!(window(&zstd_of(25, 10 << 20, false)), 32 << 20);
        assert_eq!(window(&zstd_of(25, 40 << 20, true)), 32 << 20);
        // Smaller than its window, the content is a single segment and as large as it says.
        for bytes in [100, 300, 70_000, 10 << 20] {
            assert_eq!(window(&zstd_of(25, bytes, true)), bytes as u64);
        }
        assert_eq!(window(b"plain text and nothing else"), 0);
        assert_eq!(window(&[0x28, 0xb5, 0x2f, 0xfd]), 1 << 10);
    }

    #[test]
    fn a_later_frame_gets_no_larger_window_than_is_allowed() {
        let mut bytes = zstd_of(20, 10, false);
        bytes.extend(zstd_of(25, 40 << 20, false));
        let mut small = Stream::open(&bytes[..], 1 << 40).unwrap();
        assert!(small.window_bytes() <= WINDOW_BYTES_SMALL);
        small.refuse_large_windows().unwrap();
        let error = io::copy(&mut small, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
        assert!(error.to_string().contains("a zstd window of more than 8388608 bytes"), "{error}");
        let mut large = Stream::open(&bytes[..], 1 << 40).unwrap();
        assert_eq!(io::copy(&mut large, &mut io::sink()).unwrap(), (40 << 20) + 10);
    }
}
