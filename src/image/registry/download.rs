//! A blob that is read while it comes. A connection that breaks goes on where it broke, so whoever reads
//! sees one stream. It does not check the digest: who reads it hashes it anyway.

use std::io::{self, Read};

use crate::error::Error;
use crate::image::manifest::Descriptor;
use crate::image::registry::client::{ClientError, Repository};
use crate::image::registry::event::Step;
use crate::image::registry::http::pause;
use crate::image::stream::digest_of;
use crate::names::Digest;

/// How often the connection of one blob may break, whatever came between.
const BREAKS_MAX: u32 = 40;

/// A blob on its way.
pub struct Download<'a> {
    repository: &'a Repository<'a>,
    digest: &'a Digest,
    bytes: u64,
    done_bytes: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Tries since something came.
    tried: u32,
    breaks: u32,
    tell: &'a (dyn Fn(Step<'_>) + Sync),
}

impl<'a> Download<'a> {
    /// A blob of `bytes` bytes; nothing is asked for before it is read.
    pub fn new(
        repository: &'a Repository<'a>,
        blob: &'a Descriptor,
        tell: &'a (dyn Fn(Step<'_>) + Sync),
    ) -> Self {
        let (digest, bytes) = (&blob.digest, blob.size);
        Self { repository, digest, bytes, done_bytes: 0, body: None, tried: 0, breaks: 0, tell }
    }

    /// Reads on, opening the connection where there is none.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, Broken> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                self.repository.blob(self.digest, self.bytes, self.done_bytes).map_err(Broken::Refused)?
            }
        };
        let left = usize::try_from(self.bytes - self.done_bytes).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        match body.read(&mut buffer[..wanted]) {
            Ok(0) => Err(Broken::Cut(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection broke"))),
            Ok(read) => {
                self.body = Some(body);
                Ok(read)
            }
            Err(e) => Err(Broken::Cut(e)),
        }
    }
}

/// Why nothing more comes.
enum Broken {
    Refused(ClientError),
    Cut(io::Error),
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.done_bytes == self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let broken = match self.step(buffer) {
                Ok(read) => {
                    self.done_bytes += read as u64;
                    self.tried = 0;
                    let (done_bytes, bytes) = (self.done_bytes, self.bytes);
                    (self.tell)(Step::Downloading { done_bytes, bytes });
                    if done_bytes == bytes {
                        (self.tell)(Step::Downloaded);
                    }
                    return Ok(read);
                }
                Err(broken) => broken,
            };
            self.tried += 1;
            self.breaks += 1;
            let is_passing = match &broken {
                Broken::Refused(error) => error.is_passing(),
                Broken::Cut(_) => true,
            };
            if !is_passing
                || self.tried >= self.repository.tries()
                || self.breaks >= BREAKS_MAX
                || self.repository.is_stopped()
            {
                return Err(match broken {
                    Broken::Refused(error) => io::Error::other(error),
                    Broken::Cut(error) => error,
                });
            }
            let pause = pause(self.tried);
            let reason = match &broken {
                Broken::Refused(error) => error.to_string(),
                Broken::Cut(error) => error.to_string(),
            };
            (self.tell)(Step::Retrying { after_s: pause.as_secs().max(1), reason: &reason });
            self.repository.wait(pause);
        }
    }
}

/// A small blob, whole and what its descriptor says.
///
/// # Errors
/// What the registry says, or that it is not what was named.
pub fn small(repository: &Repository<'_>, blob: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let different = |what, found: String| {
        Error::from(ClientError::Different { object: blob.digest.to_string(), what, found })
    };
    if blob.size > bytes_max {
        return Err(different("its size in bytes", blob.size.to_string()));
    }
    let mut bytes = Vec::new();
    let read = Download::new(repository, blob, &|_| {}).read_to_end(&mut bytes);
    if let Err(e) = read {
        return Err(match e.downcast::<ClientError>() {
            Ok(error) => error.into(),
            Err(e) => Error::new(
                crate::error::ErrorKind::Unreachable,
                format!("cannot fetch `{}`: {e}", blob.digest),
            ),
        });
    }
    match digest_of(&bytes) {
        found if found != blob.digest => Err(different("its digest", found.to_string())),
        _ => Ok(bytes),
    }
}
