//! The members of an archive: indexed once, then read by their place, through links inside it; or the
//! files of a layout folder, beneath its descriptor. What is not seekable, or compressed as a whole, is
//! first spooled to a file without a name. It does not know what the members mean, and it starts no
//! program: whoever can decompress more than gzip and zstd hands a function in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{ErrorKind, Fault};
use crate::image::header::{Kind, TarError};
use crate::image::stream::{Compression, Stream};
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
/// What a program of the host may decompress: this many bytes …
const FOREIGN_FREE_BYTES: u64 = 1024 * 1024 * 1024;
/// … and beyond them this many times what is stored.
const FOREIGN_RATIO_MAX: u64 = 200;

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
                io::ErrorKind::Unsupported => ErrorKind::Unsupported,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorKind::Unreachable,
                _ => ErrorKind::Corrupt,
            },
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Spool(source) => source.kind(),
            _ => ErrorKind::Corrupt,
        }
    }
}

/// How an archive is compressed as a whole, when it takes a program of the host to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// `.xz`
    Xz,
    /// `.bz2`
    Bzip2,
}

impl Foreign {
    /// What the first six bytes of an archive say.
    fn of(first: &[u8]) -> Option<Self> {
        if first.starts_with(b"\xfd7zXZ\0") {
            Some(Self::Xz)
        } else {
            first.starts_with(b"BZh").then_some(Self::Bzip2)
        }
    }

    /// The program that reads it: with `-dc`, from standard input to standard output.
    pub fn program(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// Decompresses a file with a program of the host.
pub type Decompress<'d> = &'d dyn Fn(Foreign, File) -> io::Result<Box<dyn Read>>;

/// Where an archive comes from.
pub enum Input {
    /// A file or a pipe.
    File(File),
    /// Whatever can be read.
    Stream(Box<dyn Read>),
    /// A folder in the layout of an archive.
    Folder(OwnedFd),
}

/// The archive as a plain file that can be read anywhere, and where it begins; spooled into the
/// folder `dir` when it must be.
///
/// # Errors
/// `Read` when it is a folder, cannot be read or decompressed; `Spool`.
pub fn seekable(
    dir: &Path,
    input: impl Into<Input>,
    decompress: Decompress<'_>,
) -> Result<(File, u64), MembersError> {
    let (mut source, start_of): (Box<dyn Read>, Option<(File, u64)>) = match input.into() {
        Input::Stream(stream) => (stream, None),
        Input::Folder(_) => return Err(MembersError::Read(io::ErrorKind::IsADirectory.into())),
        Input::File(mut file) => {
            let meta = file.metadata().map_err(MembersError::Read)?;
            if meta.is_dir() {
                return Err(MembersError::Read(io::ErrorKind::IsADirectory.into()));
            }
            let again = if meta.is_file() {
                let start = file.stream_position().map_err(MembersError::Read)?;
                Some((file.try_clone().map_err(MembersError::Read)?, start))
            } else {
                None
            };
            (Box::new(file), again)
        }
    };
    let mut first = Vec::with_capacity(6);
    source.by_ref().take(6).read_to_end(&mut first).map_err(MembersError::Read)?;
    let is_plain = Compression::of(&first) == Compression::Plain;
    let whole = Cursor::new(first.clone()).chain(source);
    match (Foreign::of(&first), start_of) {
        (None, Some(place)) if is_plain => Ok(place),
        (None, _) => {
            Ok((spool(dir, Stream::open_unhashed(whole, ARCHIVE_BYTES_MAX).map_err(MembersError::Read)?)?, 0))
        }
        (Some(foreign), place) => {
            let (mut stored, start) = match place {
                Some(place) => place,
                None => (spool(dir, whole.take(ARCHIVE_BYTES_MAX))?, 0),
            };
            stored.seek(io::SeekFrom::Start(start)).map_err(MembersError::Read)?;
            let stored_bytes = stored.metadata().map_err(MembersError::Read)?.len();
            let bytes_max = FOREIGN_FREE_BYTES.saturating_add(stored_bytes.saturating_mul(FOREIGN_RATIO_MAX));
            let plain = decompress(foreign, stored).map_err(MembersError::Read)?;
            let plain =
                Stream::open_unhashed(plain, bytes_max.min(ARCHIVE_BYTES_MAX)).map_err(MembersError::Read)?;
            Ok((spool(dir, plain)?, 0))
        }
    }
}

/// Copies what can be read into a file without a name.
fn spool(dir: &Path, mut source: impl Read) -> Result<File, MembersError> {
    let mut spool = nameless(dir).map_err(MembersError::Spool)?;
    io::copy(&mut source, &mut spool).map_err(MembersError::Read)?;
    Ok(spool)
}

impl From<File> for Input {
    fn from(file: File) -> Self {
        Self::File(file)
    }
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

/// Where the bytes of a member are.
#[derive(Debug)]
enum Bytes<'f> {
    /// In the archive.
    Archive(&'f File),
    /// In a file of a folder, opened at the first read: an image may have more layers than we may
    /// have files open.
    Folder(&'f OwnedFd, String, Option<File>),
}

/// A part of a file.
#[derive(Debug)]
pub struct Section<'f> {
    from: Bytes<'f>,
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
        let file = match &mut self.from {
            Bytes::Archive(file) => *file,
            Bytes::Folder(_, _, Some(file)) => file,
            Bytes::Folder(folder, name, file) => {
                let opened = open_beneath(folder, name).map_err(io::Error::from)?;
                file.insert(opened)
            }
        };
        let read = file.read_at(&mut buffer[..wanted], self.at)?;
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

/// Opens a file beneath a folder: no link leads out of it (openat2(2), Linux 5.6), and nothing waits.
fn open_beneath(folder: &OwnedFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(folder, name, flags, Mode::empty(), resolve) {
            // A rename elsewhere makes the kernel give up: openat2(2) says try again.
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            other => return other.map(File::from),
        }
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

/// The members of one archive, or the files of one folder.
#[derive(Debug)]
pub enum Members<'f> {
    /// An archive that was read once.
    Archive(Indexed<'f>),
    /// A folder, which is asked each time.
    Folder(&'f OwnedFd),
}

/// An archive and where its members are.
#[derive(Debug)]
pub struct Indexed<'f> {
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
        let mut reader = Reader::new(Section { from: Bytes::Archive(file), at: start, end });
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
        Ok(Self::Archive(Indexed { file, members }))
    }

    /// Whether there is a member of that name.
    pub fn has(&self, path: &str) -> bool {
        match self {
            Self::Archive(archive) => archive.members.contains_key(path),
            // What cannot be read is there too: reading it says why.
            Self::Folder(folder) => !matches!(open_beneath(folder, path), Err(Errno::NOENT)),
        }
    }

    /// The bytes of a member, through links inside the archive.
    ///
    /// # Errors
    /// `Missing`, or `Refused` when links do not end.
    pub fn find(&self, path: &str) -> Result<Section<'f>, MembersError> {
        let missing = || MembersError::Missing { member: path.chars().take(200).collect() };
        let mut name = joined("", path).ok_or_else(missing)?;
        let archive = match self {
            Self::Archive(archive) => archive,
            Self::Folder(folder) => return find_beneath(folder, name),
        };
        for _ in 0..=LINKS_MAX {
            match archive.members.get(&name).ok_or_else(missing)? {
                Member::Data(at, end) => {
                    return Ok(Section { from: Bytes::Archive(archive.file), at: *at, end: *end });
                }
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

/// A file of a folder, seen to be one; it is closed again.
fn find_beneath(folder: &OwnedFd, name: String) -> Result<Section<'_>, MembersError> {
    let shown = || name.chars().take(200).collect();
    let file = match open_beneath(folder, &name) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(MembersError::Missing { member: shown() }),
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(MembersError::Refused { member: shown(), reason: "it leads out of the folder" });
        }
        other => other.map_err(|e| MembersError::Read(e.into()))?,
    };
    let meta = file.metadata().map_err(MembersError::Read)?;
    if !meta.is_file() {
        return Err(MembersError::Refused { member: shown(), reason: "it is no regular file" });
    }
    Ok(Section { from: Bytes::Folder(folder, name, None), at: 0, end: meta.len() })
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
