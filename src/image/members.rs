//! The members of an archive: indexed once, then read by their place, through links inside it. What is
//! not seekable, or compressed as a whole, is first spooled to a file without a name. It does not
//! know what the members mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{ErrorKind, Fault};
use crate::image::header::{Kind, TarError};
use crate::image::stream::Stream;
use crate::image::tar::{Reader, Source};
use crate::sys::fs::{FsError, random_bytes};

/// Largest archive after decompression, in bytes.
const ARCHIVE_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Most members of an archive of images: 500 layers of 100 images, three members each, is less.
const MEMBERS_MAX: usize = 262_144;
/// Bytes of all names of the members together.
const MEMBER_NAMES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Links from one member to another that are followed.
const LINKS_MAX: usize = 8;
/// Why the members of an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// The archive cannot be read, or is a bomb.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive is not a tar that can be trusted.
    #[error("the archive is not a good tar archive")]
    Tar(#[source] TarError),
    /// A member that is named is not there.
    #[error("`{member}` is named but not in the archive")]
    Missing {
        /// Which member.
        member: String,
    },
    /// A member that no honest archive has.
    #[error("member `{member}` of the archive is refused: {reason}")]
    Refused {
        /// Which member.
        member: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// More than an archive may hold.
    #[error("the archive has more than {max} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: u64,
    },
    /// What is not seekable cannot be spooled.
    #[error("cannot spool the archive")]
    Spool(#[source] FsError),
}

impl Fault for MembersError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(source) | Self::Tar(TarError::Read { source, .. }) => match source.kind() {
                io::ErrorKind::FileTooLarge => ErrorKind::Limit,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::StorageFull => ErrorKind::Failed,
                _ => ErrorKind::Corrupt,
            },
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Spool(source) => source.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
}

/// The archive as a plain file that can be read anywhere, and where it begins; spooled into the
/// folder `dir` when it must be.
///
/// # Errors
/// `Read` when it is a folder, cannot be read or decompressed; `Spool`.
pub fn seekable(dir: &Path, mut file: File) -> Result<(File, u64), MembersError> {
    let meta = file.metadata().map_err(MembersError::Read)?;
    if meta.is_dir() {
        return Err(MembersError::Read(io::ErrorKind::IsADirectory.into()));
    }
    let mut start = 0;
    if meta.is_file() {
        start = file.stream_position().map_err(MembersError::Read)?;
        let section = Section { file: &file, at: start, end: meta.len() };
        if Stream::open_unhashed(section, ARCHIVE_BYTES_MAX).map_err(MembersError::Read)?.is_plain() {
            return Ok((file, start));
        }
    }
    let mut spool = nameless(dir).map_err(MembersError::Spool)?;
    let copied = if meta.is_file() {
        let section = Section { file: &file, at: start, end: meta.len() };
        Stream::open_unhashed(section, ARCHIVE_BYTES_MAX)
            .and_then(|mut stream| io::copy(&mut stream, &mut spool))
    } else {
        Stream::open_unhashed(file, ARCHIVE_BYTES_MAX)
            .and_then(|mut stream| io::copy(&mut stream, &mut spool))
    };
    copied.map_err(MembersError::Read)?;
    Ok((spool, 0))
}

/// A file that goes when it is closed.
fn nameless(dir: &Path) -> Result<File, FsError> {
    let wrong = |e| FsError::new("make a file in", dir, e);
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags | OFlags::TMPFILE, mode) {
        // Not every file system has files without a name: then one loses its name at once.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {}
        other => return other.map(File::from).map_err(wrong),
    }
    let mut random = [0; 8];
    random_bytes(&mut random).map_err(|e| FsError::new("name a file in", dir, e))?;
    let path = dir.join(format!("{:016x}.spool", u64::from_ne_bytes(random)));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE, mode).map_err(wrong)?;
    rustix::fs::unlink(&path).map_err(wrong)?;
    Ok(File::from(file))
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
pub struct Section<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Section<'_> {
    /// How many bytes are left to read.
    pub fn left(&self) -> u64 {
        self.end - self.at
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source for Section<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.end.saturating_sub(self.at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes;
        Ok(())
    }
}

/// What a name in the archive stands for.
#[derive(Debug)]
enum Member {
    /// Bytes, from and to.
    Data(u64, u64),
    /// Another name.
    Link(String),
}

/// The members of one archive.
#[derive(Debug)]
pub struct Members<'f> {
    file: &'f File,
    members: BTreeMap<String, Member>,
}

impl<'f> Members<'f> {
    /// Reads where the members of the archive are, from `start` in `file`.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn index(file: &'f File, start: u64) -> Result<Self, MembersError> {
        let end = file.metadata().map_err(MembersError::Read)?.len();
        let mut reader = Reader::new(Section { file, at: start, end });
        let mut members = BTreeMap::new();
        let (mut seen, mut names_bytes) = (0, 0);
        while let Some(entry) = reader.next_entry().map_err(MembersError::Tar)? {
            seen += 1;
            names_bytes += entry.path.len() + entry.link.len();
            if seen > MEMBERS_MAX {
                return Err(MembersError::TooLarge { what: "members", max: MEMBERS_MAX as u64 });
            }
            if names_bytes > MEMBER_NAMES_BYTES_MAX {
                let max = MEMBER_NAMES_BYTES_MAX as u64;
                return Err(MembersError::TooLarge { what: "bytes of names", max });
            }
            let shown = || entry.path.escape_ascii().to_string().chars().take(200).collect::<String>();
            let refused = |reason| MembersError::Refused { member: shown(), reason };
            let path = std::str::from_utf8(&entry.path).map_err(|_bytes| refused("its name is not text"))?;
            let path = joined("", path).ok_or(refused("`..` leaves the archive"))?;
            let link = || std::str::from_utf8(&entry.link).ok().filter(|link| !link.is_empty());
            let member = match entry.kind {
                Kind::File if entry.size != reader.body_bytes() => return Err(refused("it is sparse")),
                Kind::File => {
                    Member::Data(start + entry.data_at, start + entry.data_at + reader.body_bytes())
                }
                Kind::Symlink => {
                    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = link().and_then(|link| joined(dir, link));
                    Member::Link(target.ok_or(refused("it links out of the archive"))?)
                }
                Kind::HardLink => {
                    let target = link().and_then(|link| joined("", link));
                    Member::Link(target.ok_or(refused("it links out of the archive"))?)
                }
                Kind::Dir => continue,
                _ => return Err(refused("it is a device or a pipe")),
            };
            let is_root = matches!(path.as_str(), "manifest.json" | "index.json" | "oci-layout");
            if members.insert(path, member).is_some() && is_root {
                return Err(refused("it is there twice"));
            }
        }
        Ok(Self { file, members })
    }

    /// Whether there is a member of that name.
    pub fn has(&self, path: &str) -> bool {
        self.members.contains_key(path)
    }

    /// The bytes of a member, through links inside the archive.
    ///
    /// # Errors
    /// `Missing`, or `Refused` when links do not end.
    pub fn find(&self, path: &str) -> Result<Section<'f>, MembersError> {
        let missing = || MembersError::Missing { member: path.chars().take(200).collect() };
        let mut name = joined("", path).ok_or_else(missing)?;
        for _ in 0..=LINKS_MAX {
            match self.members.get(&name).ok_or_else(missing)? {
                Member::Data(at, end) => return Ok(Section { file: self.file, at: *at, end: *end }),
                Member::Link(target) => name.clone_from(target),
            }
        }
        Err(MembersError::Refused { member: name, reason: "its links do not end" })
    }

    /// A small member as a whole.
    ///
    /// # Errors
    /// As [`Members::find`], and `Refused` when it is larger than `bytes_max`.
    pub fn small(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, MembersError> {
        let mut section = self.find(path)?;
        if section.left() > bytes_max {
            let reason = "it is larger than such a document may be";
            return Err(MembersError::Refused { member: path.chars().take(200).collect(), reason });
        }
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(MembersError::Read)?;
        Ok(bytes)
    }
}

/// `path` as seen from `dir`, without `.` and `..`; nothing when it climbs out.
fn joined(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
