//! Images out of the store: as a docker archive, an OCI archive or an OCI layout folder. It decides
//! nothing about names, and it sends nothing to a registry.
//!
//! A docker archive is what Docker 25 and later write: an OCI layout and Docker's own documents in one
//! tar, its layers uncompressed. An OCI form has the layers and the manifest as they came, byte for
//! byte. Every byte is hashed on its way out: what the disk has changed is never passed on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::{ErrorKind, Fault};
use crate::image::index::ImageRecord;
use crate::image::layout::{self, DockerEntry, Entry, OCI_LAYOUT, blob_path, descriptor};
use crate::image::manifest::{Document, MANIFEST_BYTES_MAX, MANIFEST_TYPE, Manifest};
use crate::image::store::{Store, StoreError};
use crate::image::stream::{Compression, Stream, digest_of};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{
    FsError, make_dirs_in_root, open_dir, open_in_root, open_regular, random_bytes, read_file,
    read_file_in_root, replace_file,
};

/// Bytes that are read and written at once.
const BUFFER_BYTES: usize = 128 * 1024;
/// Bytes of a block of a tar.
const BLOCK: usize = 512;

/// Why images cannot be saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(StoreError),
    /// A part of an image is not what it was when it came.
    #[error("`{object}` of image `{image}` is damaged or gone")]
    Damaged {
        /// Which image.
        image: Digest,
        /// Which part.
        object: Digest,
    },
    /// A part of an image cannot be read.
    #[error("cannot read `{object}` of image `{image}`")]
    Read {
        /// Which image.
        image: Digest,
        /// Which part.
        object: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is saved cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A file or folder to save to cannot be used.
    #[error("cannot save to `{to}`")]
    Place {
        /// Where to.
        to: PathBuf,
        /// Why.
        #[source]
        source: FsError,
    },
    /// A folder is there that is no OCI layout.
    #[error("`{to}` is not an OCI layout: {reason}")]
    NotLayout {
        /// Which folder.
        to: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Fault for SaveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Read { .. } | Self::Write(_) => ErrorKind::Failed,
            Self::Place { source, .. } => source.kind(),
            Self::NotLayout { .. } => ErrorKind::State,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(source) => source.hints(),
            Self::Damaged { .. } => vec!["load the image again: what is missing is put back".to_owned()],
            Self::NotLayout { .. } => vec!["name an empty folder, or one that `save` made".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// An image to save, and the names it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its id.
    pub id: Digest,
    /// Its names: only those with a tag are written.
    pub names: Vec<ImageReference>,
}

/// Which archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What Docker saves today; every `docker load`, podman and skopeo read it.
    Docker,
    /// What Docker saved before version 25: a folder for each layer. For who reads archives by their names.
    DockerLegacy,
    /// An OCI layout as a tar.
    Oci,
}

/// Bytes that are written, and where they come from.
enum Source {
    Made(Vec<u8>),
    /// As it came.
    Kept(PathBuf),
    /// A layer, decompressed.
    Plain(PathBuf),
}

struct Blob {
    image: Digest,
    bytes: u64,
    source: Source,
}

/// Everything that is written: blobs by digest, and documents by name.
struct Content {
    blobs: BTreeMap<Digest, Blob>,
    entries: Vec<Entry>,
    docker: Option<Vec<DockerEntry>>,
}

/// Writes images as a tar. The caller has a lease on them.
///
/// # Errors
/// [`SaveError`]; what was written by then is of no use.
pub fn write(store: &Store, images: &[Chosen], form: Form, out: &mut dyn Write) -> Result<(), SaveError> {
    let content = Content::of(store, images, form)?;
    let wrong = SaveError::Write;
    if form == Form::DockerLegacy {
        put_legacy(&content, out)?;
    } else {
        put_layout(&content, out)?;
    }
    out.write_all(&[0; 2 * BLOCK]).and_then(|()| out.flush()).map_err(wrong)
}

fn put_layout(content: &Content, out: &mut dyn Write) -> Result<(), SaveError> {
    for dir in ["blobs/", "blobs/sha256/"] {
        out.write_all(&header(dir, 0)).map_err(SaveError::Write)?;
    }
    for (digest, blob) in &content.blobs {
        put_blob(&blob_path(digest), digest, blob, out)?;
    }
    put_document("index.json", &layout::index(&content.entries, None), out)?;
    if let Some(docker) = &content.docker {
        put_document("manifest.json", &layout::docker_manifest(docker), out)?;
    }
    put_document("oci-layout", OCI_LAYOUT.as_bytes(), out)?;
    match &content.docker {
        Some(docker) => put_document("repositories", &layout::repositories(docker, DockerEntry::top), out),
        None => Ok(()),
    }
}

fn put_legacy(content: &Content, out: &mut dyn Write) -> Result<(), SaveError> {
    let images = content.docker.as_deref().unwrap_or_default();
    let mut written = BTreeSet::new();
    for image in images {
        for layer in layout::legacy_layers(&image.diff_ids) {
            if !written.insert(layer.id.clone()) {
                continue;
            }
            let folder = layer.id.hex();
            out.write_all(&header(&format!("{folder}/"), 0)).map_err(SaveError::Write)?;
            put_document(&format!("{folder}/VERSION"), b"1.0", out)?;
            put_document(&format!("{folder}/json"), &layer.json, out)?;
            put_blob(&format!("{folder}/layer.tar"), &layer.diff_id, &content.blobs[&layer.diff_id], out)?;
        }
        put_blob(&format!("{}.json", image.id.hex()), &image.id, &content.blobs[&image.id], out)?;
    }
    put_document("manifest.json", &layout::legacy_manifest(images), out)?;
    put_document("repositories", &layout::repositories(images, DockerEntry::legacy_top), out)
}

fn put_blob(name: &str, digest: &Digest, blob: &Blob, out: &mut dyn Write) -> Result<(), SaveError> {
    out.write_all(&header(name, blob.bytes)).map_err(SaveError::Write)?;
    blob.copy(digest, out)?;
    out.write_all(&[0; BLOCK][..padding(blob.bytes)]).map_err(SaveError::Write)
}

fn put_document(name: &str, bytes: &[u8], out: &mut dyn Write) -> Result<(), SaveError> {
    out.write_all(&header(name, bytes.len() as u64)).map_err(SaveError::Write)?;
    out.write_all(bytes).map_err(SaveError::Write)?;
    out.write_all(&[0; BLOCK][..padding(bytes.len() as u64)]).map_err(SaveError::Write)
}

/// The same into the file `path`: whole or not at all.
///
/// # Errors
/// [`SaveError`]; the file that was there is then untouched.
pub fn write_file(store: &Store, images: &[Chosen], form: Form, path: &Path) -> Result<(), SaveError> {
    let wrong = |source| SaveError::Place { to: path.to_owned(), source };
    let mut aside = Aside::beside(path).map_err(wrong)?;
    let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, &aside.file);
    write(store, images, form, &mut out)?;
    drop(out);
    aside.put(path).map_err(wrong)
}

/// Writes images into the OCI layout folder `path`, beside what it has already. The folder is made when
/// it is missing.
///
/// # Errors
/// [`SaveError`]. Blobs that were written by then stay; `index.json` does not name them.
pub fn write_folder(store: &Store, images: &[Chosen], path: &Path) -> Result<(), SaveError> {
    let content = Content::of(store, images, Form::Oci)?;
    let wrong = |source| SaveError::Place { to: path.to_owned(), source };
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(wrong(FsError::new("make the folder", path, e))),
    }
    let root = open_dir(path).map_err(wrong)?;
    let locked =
        open_in_root(root.as_fd(), Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let locked = locked.map_err(wrong)?;
    rustix::fs::flock(&locked, FlockOperation::LockExclusive)
        .map_err(|e| wrong(FsError::new("lock", path, e)))?;
    let there = existing_index(&root, path)?;
    let blobs = make_dirs_in_root(root.as_fd(), Path::new("/blobs/sha256"), Mode::from_raw_mode(0o755));
    let blobs = blobs.map_err(wrong)?;
    let mode = Mode::from_raw_mode(0o644);
    for (digest, blob) in &content.blobs {
        if has(blobs.as_fd(), digest, blob.bytes) {
            continue;
        }
        let mut aside = Aside::in_folder(blobs.as_fd(), OsStr::new(digest.hex()), mode).map_err(wrong)?;
        blob.copy(digest, &mut &aside.file)?;
        aside.rename(blobs.as_fd(), OsStr::new(digest.hex())).map_err(wrong)?;
    }
    let index = layout::index(&content.entries, there.as_ref());
    if there.is_none() {
        replace_file(root.as_fd(), OsStr::new("oci-layout"), OCI_LAYOUT.as_bytes(), mode).map_err(wrong)?;
    }
    replace_file(root.as_fd(), OsStr::new("index.json"), &index, mode).map_err(wrong)
}

/// The `index.json` of a layout folder; nothing when the folder is empty.
fn existing_index(root: &OwnedFd, path: &Path) -> Result<Option<Value>, SaveError> {
    let not_layout = |reason| SaveError::NotLayout { to: path.to_owned(), reason };
    let read = |name: &str| match read_file_in_root(root.as_fd(), Path::new(name), MANIFEST_BYTES_MAX) {
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|source| SaveError::Place { to: path.to_owned(), source }),
    };
    let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).ok();
    match (read("oci-layout")?.map(json), read("index.json")?.map(json)) {
        (None, None) => {
            let mut entries = std::fs::read_dir(path).map_err(|e| SaveError::Place {
                to: path.to_owned(),
                source: FsError::new("list", path, e),
            })?;
            match entries.next() {
                None => Ok(None),
                Some(_) => Err(not_layout("it holds other files")),
            }
        }
        (Some(Some(layout)), index) => {
            if layout["imageLayoutVersion"].as_str().is_none_or(|version| !version.starts_with("1.")) {
                return Err(not_layout("its `oci-layout` is not of version 1"));
            }
            match index {
                Some(Some(index)) if index.is_object() => Ok(Some(index)),
                Some(_) => Err(not_layout("its `index.json` is not one")),
                None => Ok(Some(serde_json::json!({}))),
            }
        }
        _ => Err(not_layout("it has no `oci-layout`, or one that is not JSON")),
    }
}

/// Whether a folder of blobs has this one whole.
fn has(blobs: BorrowedFd<'_>, digest: &Digest, bytes: u64) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let Ok(fd) = open_in_root(blobs, Path::new(digest.hex()), flags, Mode::empty()) else { return false };
    let file = File::from(fd);
    let fits = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == bytes);
    fits && copy(file, bytes, &mut io::sink()).is_ok_and(|(found, _)| found == *digest)
}

impl Content {
    fn of(store: &Store, images: &[Chosen], form: Form) -> Result<Self, SaveError> {
        let index = store.index().map_err(SaveError::Store)?;
        let mut content =
            Self { blobs: BTreeMap::new(), entries: Vec::new(), docker: (form != Form::Oci).then(Vec::new) };
        for Chosen { id, names } in images {
            let record = index.images.get(id).ok_or_else(|| {
                SaveError::Store(StoreError::NotFound { name: id.to_string(), similar: Vec::new() })
            })?;
            let names: Vec<ImageReference> =
                names.iter().filter(|name| name.tag().is_some()).cloned().collect();
            let config = store.config_bytes(id).map_err(SaveError::Store)?;
            let manifest = content.manifest(store, id, record, config.len() as u64)?;
            content.made(id, id.clone(), config);
            if let Some(docker) = &mut content.docker {
                let diff_ids = record.layers.iter().map(|layer| layer.diff_id.clone()).collect();
                docker.push(DockerEntry { id: id.clone(), diff_ids, names: names.clone() });
            }
            let media_type = media_type(&manifest);
            let digest = digest_of(&manifest);
            let descriptor = descriptor(&media_type, &digest, manifest.len() as u64);
            content.entries.push(Entry { manifest: descriptor, platform: record.platform.clone(), names });
            content.made(id, digest, manifest);
        }
        Ok(content)
    }

    fn made(&mut self, image: &Digest, digest: Digest, bytes: Vec<u8>) {
        let blob = Blob { image: image.clone(), bytes: bytes.len() as u64, source: Source::Made(bytes) };
        self.blobs.insert(digest, blob);
    }

    /// The manifest of an image, and with it its layers among the blobs.
    fn manifest(
        &mut self,
        store: &Store,
        id: &Digest,
        record: &ImageRecord,
        config_bytes: u64,
    ) -> Result<Vec<u8>, SaveError> {
        let mut layers = Vec::with_capacity(record.layers.len());
        for layer in &record.layers {
            let path = store.blob(&layer.blob);
            let damaged = || SaveError::Damaged { image: id.clone(), object: layer.blob.clone() };
            let is_whole = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == layer.bytes);
            if !is_whole {
                return Err(damaged());
            }
            if self.docker.is_none() {
                layers.push(descriptor(&layer.media_type, &layer.blob, layer.bytes));
                let blob = Blob { image: id.clone(), bytes: layer.bytes, source: Source::Kept(path) };
                self.blobs.insert(layer.blob.clone(), blob);
                continue;
            }
            if !self.blobs.contains_key(&layer.diff_id) {
                let bytes = plain_bytes(store, &layer.diff_id, &path).map_err(|source| SaveError::Read {
                    image: id.clone(),
                    object: layer.blob.clone(),
                    source,
                })?;
                let blob = Blob { image: id.clone(), bytes, source: Source::Plain(path) };
                self.blobs.insert(layer.diff_id.clone(), blob);
            }
            let media_type = Compression::Plain.layer_media_type();
            layers.push(descriptor(media_type, &layer.diff_id, self.blobs[&layer.diff_id].bytes));
        }
        let came = record.manifest.as_ref().filter(|_| self.docker.is_none());
        let came = came.and_then(|digest| came_with(store, digest, id, record));
        Ok(came.unwrap_or_else(|| layout::manifest(id, config_bytes, &layers)))
    }
}

/// The manifest that an image came with, where it says what is kept.
fn came_with(store: &Store, digest: &Digest, id: &Digest, record: &ImageRecord) -> Option<Vec<u8>> {
    let bytes = read_file(&store.blob(digest), MANIFEST_BYTES_MAX).ok()?;
    if digest_of(&bytes) != *digest {
        return None;
    }
    let Ok(Document::Manifest(Manifest { config, layers })) = Document::parse(&bytes, digest.as_str(), "")
    else {
        return None;
    };
    let same =
        config.digest == *id && layers.iter().map(|l| &l.digest).eq(record.layers.iter().map(|l| &l.blob));
    same.then_some(bytes)
}

/// What a manifest calls itself.
fn media_type(manifest: &[u8]) -> String {
    let json: Value = serde_json::from_slice(manifest).unwrap_or_default();
    json["mediaType"].as_str().unwrap_or(MANIFEST_TYPE).to_owned()
}

/// How long a layer is when it is not compressed: as was noted, or as it turns out.
fn plain_bytes(store: &Store, diff_id: &Digest, path: &Path) -> io::Result<u64> {
    if let Some(note) = store.layer(diff_id).and_then(|dir| store.layer_note(&dir).ok()) {
        return Ok(note.tar_bytes);
    }
    Ok(Stream::open(File::open(path)?, u64::MAX)?.finish()?.plain_bytes)
}

impl Blob {
    /// Writes it, and checks that it is what its digest says.
    fn copy(&self, digest: &Digest, out: &mut dyn Write) -> Result<(), SaveError> {
        let read =
            |source: io::Error| SaveError::Read { image: self.image.clone(), object: digest.clone(), source };
        let copied = match &self.source {
            Source::Made(bytes) => return out.write_all(bytes).map_err(SaveError::Write),
            Source::Kept(path) => {
                let file = open_regular(path).map_err(|e| read(e.source))?;
                copy(file, self.bytes, out)
            }
            Source::Plain(path) => {
                let file = open_regular(path).map_err(|e| read(e.source))?;
                copy(Stream::open(file, u64::MAX).map_err(read)?, self.bytes, out)
            }
        };
        match copied {
            Ok((found, bytes)) if found == *digest && bytes == self.bytes => Ok(()),
            Ok(_) => Err(SaveError::Damaged { image: self.image.clone(), object: digest.clone() }),
            Err(Copy::Read(source)) => Err(read(source)),
            Err(Copy::Write(source)) => Err(SaveError::Write(source)),
        }
    }
}

/// Which side of a copy failed.
enum Copy {
    Read(io::Error),
    Write(io::Error),
}

/// Copies at most `bytes_max` bytes; their digest, and how many there were up to one more than that.
fn copy(source: impl Read, bytes_max: u64, out: &mut dyn Write) -> Result<(Digest, u64), Copy> {
    let (mut source, mut hash, mut bytes) = (source.take(bytes_max.saturating_add(1)), Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(Copy::Read)?,
        };
        bytes += read as u64;
        if bytes > bytes_max {
            break;
        }
        hash.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(Copy::Write)?;
    }
    Ok((Digest::from_bytes(&hash.finalize().into()), bytes))
}

fn padding(bytes: u64) -> usize {
    let over = bytes % BLOCK as u64;
    usize::try_from((BLOCK as u64 - over) % BLOCK as u64).unwrap_or(0)
}

/// A ustar header: root's, of the first second of 1970, so that the same image gives the same bytes.
/// A name that ends in `/` is a folder.
fn header(name: &str, bytes: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    let is_folder = name.ends_with('/');
    put(0, name.as_bytes());
    put(100, if is_folder { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if bytes < 1 << 33 {
        put(124, format!("{bytes:011o}\0").as_bytes());
    } else {
        // GNU's binary form: octal digits end at 8 GiB.
        put(124, &[0x80, 0, 0, 0]);
        put(128, &bytes.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, if is_folder { b"5" } else { b"0" });
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A file that goes away, unless it is put in its place.
struct Aside {
    file: File,
    folder: OwnedFd,
    /// Its name; nothing while it has none.
    name: Option<OsString>,
}

impl Aside {
    /// A file to be put at `path`: without a name where the file system can do that, so that whoever
    /// kills us leaves nothing.
    fn beside(path: &Path) -> Result<Self, FsError> {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = open_dir(folder)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, ".", flags, mode) {
            Ok(file) => Ok(Self { file: File::from(file), folder, name: None }),
            Err(_) => {
                Self::in_folder(folder.as_fd(), path.file_name().unwrap_or(OsStr::new("archive")), mode)
            }
        }
    }

    fn in_folder(folder: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> Result<Self, FsError> {
        let wrong = |e: io::Error| FsError::new("make a file beside", name, e);
        let folder = folder.try_clone_to_owned().map_err(wrong)?;
        let aside = random_name(name).map_err(wrong)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&folder, &aside, flags, mode);
        let file = File::from(file.map_err(|e| wrong(e.into()))?);
        Ok(Self { file, folder, name: Some(aside) })
    }

    /// Puts it at `path`, in whose folder it lies.
    fn put(&mut self, path: &Path) -> Result<(), FsError> {
        let name = path.file_name().unwrap_or_default();
        if self.name.is_none() {
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let link = |name: &OsStr| {
                rustix::fs::linkat(rustix::fs::CWD, &own, &self.folder, name, AtFlags::SYMLINK_FOLLOW)
            };
            let wrong = |e: Errno| FsError::new("name", path, e);
            match link(name) {
                // A link replaces nothing: so it gets a name of its own first.
                Err(Errno::EXIST) => {
                    let aside = random_name(name).map_err(|e| FsError::new("name a file beside", path, e))?;
                    link(&aside).map_err(wrong)?;
                    self.name = Some(aside);
                }
                other => return other.map_err(wrong),
            }
        }
        let folder = self.folder.try_clone().map_err(|e| FsError::new("write", path, e))?;
        self.rename(folder.as_fd(), name)
    }

    fn rename(&mut self, to: BorrowedFd<'_>, name: &OsStr) -> Result<(), FsError> {
        let Some(aside) = &self.name else { return Ok(()) };
        rustix::fs::renameat(&self.folder, aside, to, name).map_err(|e| FsError::new("write", name, e))?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _gone = rustix::fs::unlinkat(&self.folder, name, AtFlags::empty());
        }
    }
}

fn random_name(name: &OsStr) -> io::Result<OsString> {
    let mut random = [0; 8];
    random_bytes(&mut random)?;
    let mut aside = OsString::from(".");
    aside.push(name);
    aside.push(format!(".{:016x}", u64::from_ne_bytes(random)));
    Ok(aside)
}
