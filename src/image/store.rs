//! The images on disk: blobs by digest, layers unpacked once, names. It reads, lists and names; what
//! comes in goes through `image::staging`.
//!
//! ```text
//! images.json            images, and which name means which (written by rename under `lock`)
//! blobs/sha256/<hex>     configurations and manifests; layers as they came, compressed or not
//! layers/<hex>/          one layer by diff ID: `fs` (overlay lower), `layer.json`, `owners.json`
//! layers/<hex>.flat/     the same when its owners were only written down
//! tmp/<hex>              what one load has so far; `locks/<hex>` is held while it lives
//! locks/<hex>            also a layer by diff ID, while somebody makes it
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::image::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig, Platform};
use crate::image::layer::Unpacked;
use crate::image::stream::digest_of;
use crate::image::tree::{Ids, Owners, remove_at};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, Lock, make_private_dirs, open_dir, read_file, replace_file};

/// Largest `images.json`, in bytes: some hundred thousand images.
const IMAGES_JSON_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Largest `layer.json`, in bytes: the ids of a layer with the most owners.
const LAYER_JSON_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What this program writes and reads: 2 since the blobs of layers are kept.
const VERSION: u32 = 2;
/// Fewest digits of an id that stand for it.
const SHORT_ID_DIGITS_MIN: usize = 4;
/// Names that are offered when one is not found.
const SIMILAR_MAX: usize = 3;

/// Why the store cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store cannot be used.
    #[error("cannot use the image store")]
    Fs(#[source] FsError),
    /// A file of the store is not what was written.
    #[error("`{path}` is not what cuddy writes")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file of the store was written by another version.
    #[error("`{path}` has version {version}, and this cuddy knows version {VERSION}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// There is no such image.
    #[error("no image `{name}` here")]
    NotFound {
        /// What was asked for.
        name: String,
        /// Names that look like it.
        similar: Vec<String>,
    },
    /// Several images have ids that begin so.
    #[error("`{prefix}` is the beginning of several image ids")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
    },
    /// A configuration in the store cannot be used.
    #[error("the configuration of image `{image}` cannot be used")]
    Config {
        /// Which image.
        image: Digest,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// A part of an image is gone or was changed.
    #[error("`{object}` of image `{image}` is damaged or gone")]
    Damaged {
        /// Which image.
        image: Digest,
        /// Which part.
        object: String,
    },
}

impl Fault for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(source) => source.kind(),
            Self::Json { .. } | Self::Config { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { similar, .. } => {
                let mut hints = Vec::new();
                if !similar.is_empty() {
                    hints.push(format!("there is {}", similar.join(", ")));
                }
                hints.push("`cuddy load -i FILE` takes images out of an archive that `docker save` or `podman save` made; `cuddy import TAR NAME` makes one of a root file system".to_owned());
                hints
            }
            Self::Ambiguous { .. } => vec!["write more digits of the id".to_owned()],
            Self::Damaged { .. } => vec!["load the image again: what is missing is put back".to_owned()],
            Self::Version { .. } => vec!["use the cuddy that wrote it, or another folder".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// An image that can be run.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// What it wants to run.
    pub config: ImageConfig,
    /// Its layers as folders for overlay, bottom first, each once.
    pub layers: Vec<PathBuf>,
    /// Which ids its files need.
    pub ids: Ids,
    /// Whether some of its files belong to the caller instead of to their owners.
    pub is_flat: bool,
}

/// One line of the list of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names; none for an image that lost them.
    pub names: Vec<ImageReference>,
    /// When it was made, as it was written (RFC 3339).
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of the files of its layers.
    pub bytes: u64,
}

/// A layer of an image, as its manifest had it: what the next manifest can say of it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Digest of the layer as it came, compressed or not: its bytes are kept.
    pub blob: Digest,
    /// Size of the layer as it came, in bytes.
    pub bytes: u64,
    /// What its manifest called it, or would call it.
    pub media_type: String,
}

/// What `images.json` says of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its manifest, when it came with one.
    pub manifest: Option<Digest>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// When it was made, as it was written (RFC 3339).
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of the files of its layers.
    pub bytes: u64,
}

/// `images.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Index {
    version: u32,
    /// Images by the digest of their configuration.
    pub images: BTreeMap<Digest, ImageRecord>,
    /// Which image a name means.
    pub names: BTreeMap<String, Digest>,
}

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNote {
    version: u32,
    /// Bytes of its files, holes counted.
    pub file_bytes: u64,
    /// Entries in its tar.
    pub entries: u64,
    /// Bytes of its uncompressed tar.
    pub tar_bytes: u64,
    /// Digest of the bytes it was unpacked from.
    pub blob: Digest,
    /// How many bytes those were.
    pub blob_bytes: u64,
    /// What became of its owners.
    pub owners: Owners,
    /// Which ids its files need.
    pub ids: Ids,
    /// Devices that were not made.
    pub devices_skipped: u64,
    /// Extended attributes that were not set.
    pub xattrs_skipped: u64,
}

impl LayerNote {
    /// The note of one unpacked layer.
    pub fn of(unpacked: &Unpacked, owners: Owners) -> Self {
        Self {
            version: VERSION,
            file_bytes: unpacked.file_bytes,
            entries: unpacked.entries,
            tar_bytes: unpacked.sums.plain_bytes,
            blob: unpacked.sums.stored.clone(),
            blob_bytes: unpacked.sums.stored_bytes,
            owners,
            ids: unpacked.ids.clone(),
            devices_skipped: unpacked.devices_skipped,
            xattrs_skipped: unpacked.xattrs_skipped,
        }
    }
}

/// The images of one user.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, makes it when it is missing, and removes what dead processes left.
    ///
    /// # Errors
    /// `Fs` when the folder cannot be made or used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for part in ["blobs/sha256", "layers", "locks", "tmp"] {
            make_private_dirs(&dir.join(part)).map_err(StoreError::Fs)?;
        }
        let wrong = |e| StoreError::Fs(FsError::new("make private", dir, e));
        let mode = std::fs::metadata(dir).map_err(wrong)?.mode();
        if mode & 0o777 != 0o700 {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(wrong)?;
        }
        let store = Self { dir: dir.to_owned() };
        store.sweep()?;
        Ok(store)
    }

    /// The store in `dir` for a look: nothing is made and nothing is removed.
    pub fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The image a person means: by name, by digest, or by its id or the first 4 or more digits of it.
    ///
    /// # Errors
    /// `NotFound` with names that look like it, `Ambiguous`, or `Damaged` when a part is gone.
    pub fn resolve(&self, reference: &ImageReference) -> Result<Image, StoreError> {
        let index = self.index()?;
        let id = find(&index, reference)?;
        let damaged = |object: String| StoreError::Damaged { image: id.clone(), object };
        let path = self.blob(&id);
        let bytes = match read_file(&path, CONFIG_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {
                Err(damaged(path.display().to_string()))
            }
            other => other.map_err(StoreError::Fs),
        }?;
        if digest_of(&bytes) != id {
            return Err(damaged(path.display().to_string()));
        }
        let config =
            ImageConfig::parse(&bytes).map_err(|source| StoreError::Config { image: id.clone(), source })?;
        let mut image =
            Image { id: id.clone(), config, layers: Vec::new(), ids: Ids::default(), is_flat: false };
        // Overlay refuses a folder that stands twice in the stack. Only the topmost of two equal
        // layers shows: all that the lower one has is in it too.
        for diff_id in image.config.diff_ids.iter().rev() {
            let dir = self.layer(diff_id).ok_or_else(|| damaged(diff_id.to_string()))?;
            let note = self.layer_note(&dir)?;
            let fs = dir.join("fs");
            if !image.layers.contains(&fs) {
                image.ids.extend(&note.ids);
                image.is_flat |= note.owners == Owners::Record && !note.ids.is_only_root();
                image.layers.push(fs);
            }
        }
        image.layers.reverse();
        Ok(image)
    }

    /// All images, in the order of their ids.
    ///
    /// # Errors
    /// When `images.json` cannot be read.
    pub fn images(&self) -> Result<Vec<Summary>, StoreError> {
        let index = self.index()?;
        let mut names: BTreeMap<&Digest, Vec<ImageReference>> = BTreeMap::new();
        for (name, id) in &index.names {
            // What does not parse was written by nobody; it names nothing.
            names.entry(id).or_default().extend(name.parse::<ImageReference>());
        }
        let summary = |(id, record): (&Digest, &ImageRecord)| Summary {
            id: id.clone(),
            names: names.remove(id).unwrap_or_default(),
            created: record.created.clone(),
            platform: record.platform.clone(),
            bytes: record.bytes,
        };
        Ok(index.images.iter().map(summary).collect())
    }

    /// Gives the image `id` one more name; the name may have meant another image before.
    ///
    /// # Errors
    /// `NotFound`, or when `images.json` cannot be written.
    pub fn tag(&self, id: &Digest, name: &ImageReference) -> Result<(), StoreError> {
        self.change(|index| {
            if !index.images.contains_key(id) {
                return Err(StoreError::NotFound { name: id.to_string(), similar: Vec::new() });
            }
            index.names.insert(name.to_string(), id.clone());
            Ok(())
        })
    }

    /// Changes `images.json` in one step, with nobody else changing it.
    ///
    /// # Errors
    /// What `change` says, or when the file cannot be read or written.
    pub fn change(
        &self,
        change: impl FnOnce(&mut Index) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _lock = Lock::exclusive(&self.dir.join("lock")).map_err(StoreError::Fs)?;
        let mut index = self.index()?;
        change(&mut index)?;
        let path = self.dir.join("images.json");
        let json = serde_json::to_vec_pretty(&index).map_err(|source| StoreError::Json { path, source })?;
        self.replace(&self.dir, "images.json", &json)
    }

    /// Puts a small blob in its place. The caller holds the lock: it calls this inside [`Store::change`].
    ///
    /// # Errors
    /// `Fs`.
    pub fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace(&self.dir.join("blobs/sha256"), digest.hex(), bytes)
    }

    fn replace(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let dir = open_dir(dir).map_err(StoreError::Fs)?;
        replace_file(dir.as_fd(), OsStr::new(name), bytes, Mode::RUSR | Mode::WUSR).map_err(StoreError::Fs)
    }

    fn index(&self) -> Result<Index, StoreError> {
        let path = self.dir.join("images.json");
        let bytes = match read_file(&path, IMAGES_JSON_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Index { version: VERSION, ..Index::default() });
            }
            other => other.map_err(StoreError::Fs)?,
        };
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Json { path: path.clone(), source })?;
        if index.version != VERSION {
            return Err(StoreError::Version { path, version: index.version });
        }
        Ok(index)
    }

    /// Where a blob is, or would be.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    /// The folder of a layer that is there, preferring the one whose files have their owners.
    pub fn layer(&self, diff_id: &Digest) -> Option<PathBuf> {
        [Owners::Apply, Owners::Record]
            .map(|owners| self.layer_place(diff_id, owners))
            .into_iter()
            .find(|dir| dir.join("layer.json").exists())
    }

    /// Where a layer is, or would be: with its owners, or with its owners written down.
    pub fn layer_place(&self, diff_id: &Digest, owners: Owners) -> PathBuf {
        let layers = self.dir.join("layers");
        match owners {
            Owners::Apply => layers.join(diff_id.hex()),
            Owners::Record => layers.join(format!("{}.flat", diff_id.hex())),
        }
    }

    /// What was written down about the layer in the folder `dir`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn layer_note(&self, dir: &Path) -> Result<LayerNote, StoreError> {
        let path = dir.join("layer.json");
        let bytes = read_file(&path, LAYER_JSON_BYTES_MAX).map_err(StoreError::Fs)?;
        let note: LayerNote = serde_json::from_slice(&bytes)
            .map_err(|source| StoreError::Json { path: path.clone(), source })?;
        if note.version != VERSION {
            return Err(StoreError::Version { path, version: note.version });
        }
        Ok(note)
    }

    /// The folder where things on their way in are.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Waits for the lock of the layer, or the load, called `hex`.
    ///
    /// # Errors
    /// `Fs`.
    pub fn lock(&self, hex: &str) -> Result<ObjectLock, StoreError> {
        let path = self.dir.join("locks").join(hex);
        loop {
            let lock = Lock::exclusive(&path).map_err(StoreError::Fs)?;
            if let Some(lock) = ObjectLock::of(lock, &path) {
                return Ok(lock);
            }
        }
    }

    /// Removes what dead processes left half done. What cannot be removed is left for a process that
    /// can: files of other ids go only from inside their user namespace.
    fn sweep(&self) -> Result<(), StoreError> {
        let tmp = open_dir(&self.tmp()).map_err(StoreError::Fs)?;
        for part in ["tmp", "locks"] {
            for name in names_in(&self.dir.join(part))? {
                let path = self.dir.join("locks").join(&name);
                let Some(lock) = Lock::try_exclusive(&path).map_err(StoreError::Fs)? else { continue };
                let Some(_lock) = ObjectLock::of(lock, &path) else { continue };
                let _gone_or_not_ours = remove_at(tmp.as_fd(), &name);
            }
        }
        let Some(_lock) = Lock::try_exclusive(&self.dir.join("lock")).map_err(StoreError::Fs)? else {
            return Ok(());
        };
        for (dir, prefix) in [(self.dir.clone(), ".images.json."), (self.dir.join("blobs/sha256"), ".")] {
            for name in names_in(&dir)? {
                if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                    let _gone = std::fs::remove_file(dir.join(name));
                }
            }
        }
        Ok(())
    }
}

/// The lock of one layer on its way in. Its file goes with it.
#[derive(Debug)]
pub struct ObjectLock {
    path: PathBuf,
    _lock: Lock,
}

impl ObjectLock {
    /// The lock, unless its file was removed by the holder before: then nobody else sees it.
    fn of(lock: Lock, path: &Path) -> Option<Self> {
        let held = rustix::fs::fstat(&lock).ok()?;
        let named = rustix::fs::lstat(path).ok()?;
        let is_same = (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino);
        is_same.then(|| Self { path: path.to_owned(), _lock: lock })
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        // Still held here, so nobody can have taken it; when it stays, the next sweep removes it.
        let _gone = std::fs::remove_file(&self.path);
    }
}

fn names_in(dir: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let wrong = |e| StoreError::Fs(FsError::new("list", dir, e));
    std::fs::read_dir(dir)
        .map_err(wrong)?
        .map(|entry| entry.map(|entry| entry.file_name()).map_err(wrong))
        .collect()
}

fn find(index: &Index, reference: &ImageReference) -> Result<Digest, StoreError> {
    if let Some(id) = index.names.get(&reference.to_string()).filter(|id| index.images.contains_key(*id)) {
        return Ok(id.clone());
    }
    if let Some(digest) = reference.digest() {
        let has = |(id, record): &(&Digest, &ImageRecord)| {
            *id == digest || record.manifest.as_ref() == Some(digest)
        };
        if let Some((id, _)) = index.images.iter().find(has) {
            return Ok(id.clone());
        }
    }
    if let Some(prefix) = id_prefix(reference) {
        let mut with = index.images.keys().filter(|id| id.hex().starts_with(prefix));
        match (with.next(), with.next()) {
            (Some(id), None) => return Ok(id.clone()),
            (Some(_), Some(_)) => return Err(StoreError::Ambiguous { prefix: prefix.to_owned() }),
            _ => {}
        }
    }
    let similar = index.names.keys().filter_map(|name| name.parse::<ImageReference>().ok());
    let similar = similar.filter(|name| is_similar(name, reference)).take(SIMILAR_MAX);
    Err(StoreError::NotFound {
        name: reference.familiar(),
        similar: similar.map(|name| format!("`{}`", name.familiar())).collect(),
    })
}

/// The digits, when the reference can also be read as an id or the beginning of one.
fn id_prefix(reference: &ImageReference) -> Option<&str> {
    let name =
        reference.repository().strip_prefix("library/").filter(|_| reference.domain() == "docker.io")?;
    let text = match (name, reference.tag()) {
        ("sha256", Some(tag)) => tag,
        (name, Some("latest")) => name,
        _ => return None,
    };
    let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_hex && (SHORT_ID_DIGITS_MIN..=64).contains(&text.len())).then_some(text)
}

/// Whether a person who wrote one name may have meant the other.
fn is_similar(name: &ImageReference, asked: &ImageReference) -> bool {
    let last =
        |reference: &ImageReference| reference.repository().rsplit('/').next().unwrap_or_default().to_owned();
    let (name, asked) = (last(name), last(asked));
    let near = if asked.len() > 4 { 2 } else { 1 };
    name == asked || distance(name.as_bytes(), asked.as_bytes()) <= near
}

/// How many letters must change to make one word of the other (Levenshtein).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let change = above_left + usize::from(a != b);
            above_left = row[j + 1];
            row[j + 1] = change.min(above_left + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
