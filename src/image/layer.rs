//! One layer: a tar, plain or compressed, into a folder that overlay can use, in one pass and within
//! ceilings. It does not know where layers are kept or which image they belong to.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;

use crate::error::{ErrorKind, Fault};
use crate::image::header::{Kind, PATH_BYTES_MAX, TarError};
use crate::image::stream::{Stream, Sums};
use crate::image::tar::{Entry, Reader};
use crate::image::tree::{Attributes, Ids, Owners, Tree};
use crate::sys::fs::FsError;

/// What begins the name of an entry that hides something of the layers below (OCI image-spec).
const WHITEOUT: &[u8] = b".wh.";
/// Hides everything the layers below have in the same folder.
const WHITEOUT_ALL: &[u8] = b".wh..wh..opq";
/// Other marks of an old union file system: they say nothing about the image.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Bytes copied at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Most devices that are told one by one.
const DEVICES_TOLD_MAX: usize = 4096;

/// How much one layer may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Ceilings {
    /// Bytes of the uncompressed tar, and bytes of its files with their holes.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Folders above an entry.
    pub depth: usize,
    /// Bytes of everything a layer writes down beside its files, owners and capabilities; as many
    /// again for the names of its folders.
    pub notes_bytes: usize,
}

/// The ceilings of every layer: ten times what the largest public images have.
pub const CEILINGS: Ceilings = Ceilings {
    bytes: 64 * 1024 * 1024 * 1024,
    entries: 1024 * 1024,
    depth: 256,
    notes_bytes: 64 * 1024 * 1024,
};

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The bytes cannot be decompressed, or are a bomb.
    #[error("cannot read layer `{layer}`")]
    Read {
        /// Which layer.
        layer: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bytes are not a tar archive that can be trusted.
    #[error("layer `{layer}` is not a good tar archive")]
    Tar {
        /// Which layer.
        layer: String,
        /// Why.
        #[source]
        source: TarError,
    },
    /// An entry that no honest layer has.
    #[error("entry `{entry}` of layer `{layer}` is refused: {reason}")]
    Refused {
        /// Which layer.
        layer: String,
        /// Which entry.
        entry: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// An entry belongs to an id that the user namespace does not have.
    #[error("entry `{entry}` of layer `{layer}` belongs to {uid}:{gid}, which is not mapped here")]
    NoSuchId {
        /// Which layer.
        layer: String,
        /// Which entry.
        entry: String,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// More than a layer may ask for.
    #[error("layer `{layer}` has more than {max} {what}")]
    TooLarge {
        /// Which layer.
        layer: String,
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: u64,
    },
    /// The entry cannot be written.
    #[error("cannot unpack entry `{entry}` of layer `{layer}`")]
    Write {
        /// Which layer.
        layer: String,
        /// Which entry.
        entry: String,
        /// Why.
        #[source]
        source: FsError,
    },
}

impl Fault for LayerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Tar { source: TarError::Read { source, .. }, .. } => {
                match source.kind() {
                    io::ErrorKind::FileTooLarge => ErrorKind::Limit,
                    _ => ErrorKind::Corrupt,
                }
            }
            Self::Tar { source: TarError::TooLarge { .. }, .. } | Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Tar { .. } | Self::Refused { .. } => ErrorKind::Corrupt,
            Self::NoSuchId { .. } => ErrorKind::Unsupported,
            Self::Write { source, .. } => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoSuchId { uid, gid, .. } => vec![format!(
                "give your user a range that reaches {} in `/etc/subuid` and `/etc/subgid`",
                uid.max(gid)
            )],
            Self::Write { source, .. }
                if source.source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
            {
                vec![
                    "the images must be kept where extended attributes work: ext4, xfs, btrfs, or tmpfs from Linux 6.6"
                        .to_owned(),
                ]
            }
            _ => Vec::new(),
        }
    }
}

/// A device that was in the layer and was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its path.
    pub path: Vec<u8>,
    /// Whether it is a block device.
    pub is_block: bool,
    /// Major and minor number.
    pub number: (u64, u64),
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
}

/// What one layer turned out to be.
#[derive(Debug)]
pub struct Unpacked {
    /// Digests and sizes of its bytes.
    pub sums: Sums,
    /// Bytes of its files, holes counted.
    pub file_bytes: u64,
    /// Entries in the tar.
    pub entries: u64,
    /// Which ids its files need.
    pub ids: Ids,
    /// Paths that do not belong to 0:0, and their owner and group.
    pub owned: BTreeMap<Vec<u8>, (u32, u32)>,
    /// Folders that no entry described, by path: they are there because something lies in them.
    pub implied: Vec<Vec<u8>>,
    /// `security.capability` of files, by path: kept, not set.
    pub capabilities: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Devices that were not made; at most 4096 are told.
    pub devices: Vec<Device>,
    /// How many devices were not made.
    pub devices_skipped: u64,
    /// Extended attributes that were not set: not allowed, or the file system has none.
    pub xattrs_skipped: u64,
    /// Whether the mark for the end of an archive was seen.
    pub is_complete: bool,
}

/// Unpacks the layer `name` from `stream` into the folder `dir`, which must be new.
///
/// # Errors
/// [`LayerError`]; `dir` is then half full and the caller removes it.
pub fn unpack<R: Read>(
    stream: Stream<R>,
    name: &str,
    dir: &Path,
    owners: Owners,
    ceilings: &Ceilings,
) -> Result<Unpacked, LayerError> {
    let read = |source| LayerError::Read { layer: name.to_owned(), source };
    let tree = Tree::make(dir, owners, ceilings.notes_bytes).map_err(|source| LayerError::Write {
        layer: name.to_owned(),
        entry: ".".to_owned(),
        source,
    })?;
    let mut unpacking = Unpacking {
        layer: name,
        ceilings,
        tree,
        entries: 0,
        file_bytes: 0,
        notes_bytes: 0,
        capabilities: BTreeMap::new(),
        devices: Vec::new(),
        devices_skipped: 0,
        xattrs_skipped: 0,
        buffer: vec![0; BUFFER_BYTES],
    };
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, stream));
    let tar = |source| LayerError::Tar { layer: name.to_owned(), source };
    while let Some(entry) = reader.next_entry().map_err(tar)? {
        unpacking.entry(&mut reader, entry)?;
    }
    let is_complete = reader.is_complete();
    let sums = reader.into_source().into_inner().finish().map_err(read)?;
    let at_end = |source| LayerError::Write { layer: name.to_owned(), entry: ".".to_owned(), source };
    let filled = unpacking.tree.finish().map_err(at_end)?;
    Ok(Unpacked {
        sums,
        file_bytes: unpacking.file_bytes,
        entries: unpacking.entries,
        ids: filled.ids,
        owned: filled.owned,
        implied: filled.implied,
        capabilities: unpacking.capabilities,
        devices: unpacking.devices,
        devices_skipped: unpacking.devices_skipped,
        xattrs_skipped: unpacking.xattrs_skipped + filled.xattrs_lost,
        is_complete,
    })
}

struct Unpacking<'a> {
    layer: &'a str,
    ceilings: &'a Ceilings,
    tree: Tree,
    entries: u64,
    file_bytes: u64,
    notes_bytes: usize,
    capabilities: BTreeMap<Vec<u8>, Vec<u8>>,
    devices: Vec<Device>,
    devices_skipped: u64,
    xattrs_skipped: u64,
    buffer: Vec<u8>,
}

type LayerReader<R> = Reader<BufReader<Stream<R>>>;

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, reader: &mut LayerReader<R>, entry: Entry) -> Result<(), LayerError> {
        let too_large = |what, max| LayerError::TooLarge { layer: self.layer.to_owned(), what, max };
        self.entries += 1;
        if self.entries > self.ceilings.entries {
            return Err(too_large("entries", self.ceilings.entries));
        }
        self.file_bytes = self.file_bytes.saturating_add(entry.size);
        if self.file_bytes > self.ceilings.bytes {
            return Err(too_large("bytes of files", self.ceilings.bytes));
        }
        let path = clean(&entry.path, self.ceilings.depth).map_err(|why| self.refused(&entry.path, why))?;
        if path.is_empty() && entry.kind != Kind::Dir {
            return Err(self.refused(&entry.path, "the root of a layer is a folder"));
        }
        if let Some(done) = self.whiteout(&path, &entry)? {
            return Ok(done);
        }
        let attributes = self.attributes(&path, &entry)?;
        // What one layer may write down must not grow with what it only mentions.
        self.notes_bytes += if (attributes.uid, attributes.gid) == (0, 0) { 0 } else { path.len() + 64 };
        if self.notes_bytes > self.ceilings.notes_bytes {
            return Err(too_large("bytes of owners", self.ceilings.notes_bytes as u64));
        }
        let done = match entry.kind {
            Kind::File => return self.file(reader, &path, &entry, &attributes),
            Kind::Dir => self.tree.dir(&path, &attributes),
            Kind::Symlink if entry.link.is_empty() => {
                return Err(self.refused(&entry.path, "the link has no target"));
            }
            Kind::Symlink => self.tree.symlink(&path, &entry.link, &attributes),
            Kind::Fifo => self.tree.fifo(&path, &attributes),
            Kind::HardLink => return self.hard_link(&path, &entry),
            Kind::CharDevice | Kind::BlockDevice => {
                self.devices_skipped += 1;
                if self.devices.len() < DEVICES_TOLD_MAX {
                    self.devices.push(Device {
                        path,
                        is_block: entry.kind == Kind::BlockDevice,
                        number: entry.device,
                        mode: entry.mode,
                        owner: (attributes.uid, attributes.gid),
                    });
                }
                return Ok(());
            }
        };
        done.map_err(|e| self.write_error(&entry, &attributes, e))
    }

    /// Hides something when the name says so; nothing when it is an ordinary entry.
    fn whiteout(&mut self, path: &[u8], entry: &Entry) -> Result<Option<()>, LayerError> {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        if dir.split(|b| *b == b'/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(self.refused(&entry.path, "it lies in a whiteout"));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(None) };
        let done = if name == WHITEOUT_ALL {
            self.tree.opaque(dir)
        } else if name.starts_with(WHITEOUT_META) {
            Ok(())
        } else if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refused(&entry.path, "it hides nothing that can be named"));
        } else {
            let hidden = if dir.is_empty() { hidden.to_vec() } else { [dir, b"/", hidden].concat() };
            self.tree.whiteout(&hidden)
        };
        done.map(Some).map_err(|source| LayerError::Write {
            layer: self.layer.to_owned(),
            entry: shown(&entry.path),
            source,
        })
    }

    fn attributes(&mut self, path: &[u8], entry: &Entry) -> Result<Attributes, LayerError> {
        // 4294967295 means "leave it" to chown(2).
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
            return Err(self.refused(&entry.path, "its owner is not a user id"));
        };
        let mut xattrs = Vec::new();
        for (name, value) in &entry.xattrs {
            if name == b"security.capability" && entry.kind == Kind::File {
                self.notes_bytes += path.len() + value.len();
                self.capabilities.insert(path.to_vec(), value.clone());
            } else if name.starts_with(b"user.")
                && !name.starts_with(b"user.overlay.")
                && !name.contains(&0)
                && matches!(entry.kind, Kind::File | Kind::Dir)
            {
                xattrs.push((name.clone(), value.clone()));
            } else {
                // `trusted.` and `security.` are not ours to give; `*.overlay.` would steer overlay.
                self.xattrs_skipped += 1;
            }
        }
        Ok(Attributes { uid, gid, mode: entry.mode, mtime: entry.mtime, xattrs })
    }

    fn file<R: Read>(
        &mut self,
        reader: &mut LayerReader<R>,
        path: &[u8],
        entry: &Entry,
        attributes: &Attributes,
    ) -> Result<(), LayerError> {
        let tar = |source| LayerError::Tar { layer: self.layer.to_owned(), source };
        let file = self.tree.file(path).map_err(|e| self.write_error(entry, attributes, e))?;
        let write = |this: &Self, e: io::Error| {
            this.write_error(entry, attributes, FsError::new("write", shown(&entry.path), e))
        };
        let mut end = 0;
        for piece in &entry.pieces {
            let (mut at, mut left) = (piece.offset, piece.bytes);
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let read = reader.read_data(&mut self.buffer[..wanted]).map_err(tar)?;
                if read == 0 {
                    return Err(tar(TarError::Truncated { at: entry.data_at }));
                }
                file.write_all_at(&self.buffer[..read], at).map_err(|e| write(self, e))?;
                at += read as u64;
                left -= read as u64;
            }
            end = at;
        }
        if end < entry.size {
            file.set_len(entry.size).map_err(|e| write(self, e))?;
        }
        let sealed = self.tree.seal(path, &file, attributes);
        sealed.map_err(|e| self.write_error(entry, attributes, e))
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let target = clean(&entry.link, self.ceilings.depth).map_err(|why| self.refused(&entry.path, why))?;
        if target.is_empty() {
            return Err(self.refused(&entry.path, "a folder has one name"));
        }
        match self.tree.hard_link(path, &target) {
            Err(e) if e.action == "link to" => {
                Err(self.refused(&entry.path, "it links to what is not a file before it in the layer"))
            }
            other => other.map_err(|source| LayerError::Write {
                layer: self.layer.to_owned(),
                entry: shown(&entry.path),
                source,
            }),
        }
    }

    fn refused(&self, entry: &[u8], reason: &'static str) -> LayerError {
        LayerError::Refused { layer: self.layer.to_owned(), entry: shown(entry), reason }
    }

    fn write_error(&self, entry: &Entry, attributes: &Attributes, source: FsError) -> LayerError {
        let (layer, entry) = (self.layer.to_owned(), shown(&entry.path));
        // chown(2) answers EINVAL when the user namespace has no such id.
        if source.action == "give to its owner" && source.source.kind() == io::ErrorKind::InvalidInput {
            return LayerError::NoSuchId { layer, entry, uid: attributes.uid, gid: attributes.gid };
        }
        LayerError::Write { layer, entry, source }
    }
}

/// A path of the archive as a path below the root: no `.`, no `..`, no slash at either end. Empty is
/// the root itself.
fn clean(path: &[u8], depth_max: usize) -> Result<Vec<u8>, &'static str> {
    let mut clean = Vec::with_capacity(path.len());
    let mut depth = 0;
    if path.len() > PATH_BYTES_MAX {
        return Err("its name is longer than 4096 bytes");
    }
    if path.is_empty() {
        return Err("it has no name");
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("`..` could leave the image"),
            _ if part.len() > 255 => return Err("a part of its name is longer than 255 bytes"),
            _ => {}
        }
        depth += 1;
        if depth > depth_max {
            return Err("it lies too deep");
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    Ok(clean)
}

/// A path as text for a message: not longer than a line, no control characters.
fn shown(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    if text.len() > 200 { format!("{}…", text.get(..200).unwrap_or_default()) } else { text }
}

/// `owners.json`: what the files do not say themselves. Paths are bytes escaped as in Rust text.
#[derive(Debug, Serialize)]
pub struct OwnersJson {
    version: u32,
    owners: BTreeMap<String, (u32, u32)>,
    capabilities: BTreeMap<String, String>,
    devices: Vec<DeviceJson>,
}

#[derive(Debug, Serialize)]
struct DeviceJson {
    path: String,
    is_block: bool,
    number: (u64, u64),
    mode: u32,
    owner: (u32, u32),
}

impl OwnersJson {
    /// What it says of a layer.
    pub fn of(unpacked: &Unpacked) -> Self {
        let text = |path: &[u8]| path.escape_ascii().to_string();
        Self {
            version: 1,
            owners: unpacked.owned.iter().map(|(path, owner)| (text(path), *owner)).collect(),
            capabilities: unpacked
                .capabilities
                .iter()
                .map(|(path, value)| (text(path), text(value)))
                .collect(),
            devices: unpacked
                .devices
                .iter()
                .map(|device| DeviceJson {
                    path: text(&device.path),
                    is_block: device.is_block,
                    number: device.number,
                    mode: device.mode,
                    owner: device.owner,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tar of `count` empty files, each in a folder of its own.
    fn files(count: usize) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for i in 0..count {
            let mut header = tar::Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            header.set_uid(1);
            tar.append_data(&mut header, format!("d{i}/f"), &b"abc"[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn each_ceiling_stops_a_layer_and_names_itself() {
        let layer = files(10);
        let try_with = |change: fn(&mut Ceilings)| {
            let dir = tempfile::tempdir().unwrap();
            let mut ceilings = CEILINGS;
            change(&mut ceilings);
            let stream = Stream::open(layer.as_slice(), ceilings.bytes).unwrap();
            unpack(stream, "x", &dir.path().join("fs"), Owners::Record, &ceilings)
        };
        assert_eq!(try_with(|_| {}).unwrap().entries, 10);
        let too_large = |change, expected: &str| {
            let error = try_with(change).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        };
        too_large(|c| c.entries = 9, "more than 9 entries");
        too_large(|c| c.notes_bytes = 670, "670 bytes of owners");
        too_large(|c| c.depth = 1, "it lies too deep");
        let error = try_with(|c| c.bytes = 29).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }

    #[test]
    fn folders_that_only_lie_on_the_way_are_counted_too() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        tar.append_data(&mut header, "a/".repeat(40) + "f", &b""[..]).unwrap();
        let layer = tar.into_inner().unwrap();
        let try_with = |notes_bytes| {
            let dir = tempfile::tempdir().unwrap();
            let stream = Stream::open(layer.as_slice(), CEILINGS.bytes).unwrap();
            let ceilings = Ceilings { notes_bytes, ..CEILINGS };
            unpack(stream, "x", &dir.path().join("fs"), Owners::Record, &ceilings)
        };
        assert_eq!(try_with(5000).unwrap().implied.len(), 41);
        let error = try_with(4000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }
}
