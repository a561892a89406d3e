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
//! gate, leases/<hex>     what is needed and not named yet: `image::leases`
//! collecting, owed       one collection at a time, and that one is due: `image::garbage`
//! ```

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::image::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig, Platform};
use crate::image::index::{ImageRecord, Index, Meant, VERSION};
use crate::image::layer::Unpacked;
use crate::image::leases::{self, Inside, Lease};
use crate::image::lids;
use crate::image::stream::digest_of;
use crate::image::tree::{Ids, Owners};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{
    FsError, Lock, make_private_dirs, open_dir, random_bytes, read_file, remove_at, replace_file_synced,
};

/// Largest `images.json`, in bytes: some hundred thousand images.
const IMAGES_JSON_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Largest `layer.json`, in bytes: the ids of a layer with the most owners.
const LAYER_JSON_BYTES_MAX: u64 = 4 * 1024 * 1024;

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
    /// A load, or containers that are being started, do not come to an end.
    #[error("the store is in use: images come in or containers are being started, and do not come to an end")]
    Busy,
    /// There is no such image: in Docker's words, which scripts look for.
    #[error("No such image: {name}")]
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
            Self::Busy => ErrorKind::State,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { similar, .. } => {
                let mut hints = Vec::new();
                if !similar.is_empty() {
                    hints.push(format!("there is {}", similar.join(", ")));
                }
                hints.push("`cuddy pull NAME` fetches one from its registry".to_owned());
                hints.push("`cuddy load -i FILE` takes images out of an archive that `docker save` or `podman save` made; `cuddy import TAR NAME` makes one of a root file system".to_owned());
                hints
            }
            Self::Ambiguous { .. } => vec!["write more digits of the id".to_owned()],
            Self::Busy => vec!["try again; `cuddy doctor` says what may be wrong with this host".to_owned()],
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

/// One image of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names, with a tag or a digest; none for an image that lost them.
    pub names: Vec<ImageReference>,
    /// What is known of it.
    pub record: ImageRecord,
}

impl Summary {
    /// Its names with a tag.
    pub fn tags(&self) -> Vec<ImageReference> {
        self.names.iter().filter(|name| name.tag().is_some()).cloned().collect()
    }

    /// Its names with a digest: those it was given, and for every other repository that of its index or
    /// manifest.
    pub fn digests(&self) -> Vec<ImageReference> {
        let repository = |name: &ImageReference| format!("{}/{}", name.domain(), name.repository());
        let mut digests: Vec<ImageReference> =
            self.names.iter().filter(|name| name.digest().is_some()).cloned().collect();
        let known: Vec<String> = digests.iter().map(repository).collect();
        if let Some(digest) = self.record.index.as_ref().or(self.record.manifest.as_ref()) {
            let mut repositories: Vec<String> = self.tags().iter().map(repository).collect();
            repositories.dedup();
            let others = repositories.iter().filter(|repository| !known.contains(repository));
            digests.extend(others.filter_map(|repository| format!("{repository}@{digest}").parse().ok()));
        }
        digests
    }
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
    is_clean: bool,
}

impl Store {
    /// Opens the store in `dir`, makes it when it is missing, and removes what dead processes left.
    ///
    /// # Errors
    /// `Fs` when the folder cannot be made or used.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for part in ["blobs/sha256", "layers", "leases", "locks", "tmp"] {
            make_private_dirs(&dir.join(part)).map_err(StoreError::Fs)?;
        }
        let wrong = |e| StoreError::Fs(FsError::new("make private", dir, e));
        let mode = std::fs::metadata(dir).map_err(wrong)?.mode();
        if mode & 0o777 != 0o700 {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(wrong)?;
        }
        leases::make_gate(dir).map_err(StoreError::Fs)?;
        let mut store = Self { dir: dir.to_owned(), is_clean: true };
        store.is_clean = store.sweep()?;
        Ok(store)
    }

    /// Whether everything that dead processes left half done is gone.
    pub fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// From now on nothing that is there goes, until what this gives is dropped. For moments: who needs
    /// something for longer takes a lease, or writes down that a container needs it.
    ///
    /// # Errors
    /// `Fs`, also when there is no store.
    pub fn enter(&self) -> Result<Inside, StoreError> {
        leases::pass(&self.dir).map_err(StoreError::Fs)
    }

    /// A lease on nothing yet.
    ///
    /// # Errors
    /// `Fs`.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        Lease::new(&self.dir).map_err(StoreError::Fs)
    }

    /// A lease on everything that the image `id` is made of: who reads its layers or blobs for long.
    ///
    /// # Errors
    /// `NotFound` when it is gone, or `Fs`.
    pub fn lease_on(&self, id: &Digest) -> Result<Lease, StoreError> {
        let lease = self.lease()?;
        let index = self.index()?;
        let gone = || StoreError::NotFound { name: id.to_string(), similar: Vec::new() };
        let record = index.images.get(id).ok_or_else(gone)?;
        let layers = record.layers.iter().map(|layer| &layer.diff_id);
        lease.rely_on(record.blobs().chain(layers).chain([id])).map_err(StoreError::Fs)?;
        // It may have gone before the lease was written.
        let index = self.index()?;
        if index.images.contains_key(id) { Ok(lease) } else { Err(gone()) }
    }

    /// The store in `dir` for a look: nothing is made and nothing is removed.
    pub fn look(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), is_clean: true }
    }

    /// The image a person means: by name, by digest, or by its id or the first 4 or more digits of it.
    ///
    /// # Errors
    /// `NotFound` with names that look like it, `Ambiguous`, or `Damaged` when a part is gone.
    pub fn resolve(&self, reference: &ImageReference) -> Result<Image, StoreError> {
        self.resolve_for(reference, None)
    }

    /// The same, where a name that means images for several platforms means the one for `wanted`.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve_for(
        &self,
        reference: &ImageReference,
        wanted: Option<&Platform>,
    ) -> Result<Image, StoreError> {
        let index = self.index()?;
        let (ids, _) = found(&index, reference)?;
        let id = index.choose(&ids, wanted).ok_or_else(|| not_found(reference, &[]))?;
        let damaged = |object: String| StoreError::Damaged { image: id.clone(), object };
        let bytes = self.config_bytes(&id)?;
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
        let lid =
            lids::place(&image.config.diff_ids, &self.stack(&image.config.diff_ids).unwrap_or_default());
        if let Some(lid) = lid {
            let is_there = lid.exists().then_some(());
            is_there.ok_or_else(|| damaged(lid.display().to_string()))?;
            image.layers.extend(lids::folder(&lid));
        }
        Ok(image)
    }

    /// All images, in the order of their ids.
    ///
    /// # Errors
    /// When `images.json` cannot be read.
    pub fn images(&self) -> Result<Vec<Summary>, StoreError> {
        let index = self.index()?;
        let mut names = index.names_by_image();
        let summary = |(id, record): (&Digest, &ImageRecord)| Summary {
            id: id.clone(),
            names: names.remove(id).unwrap_or_default(),
            record: record.clone(),
        };
        Ok(index.images.iter().map(summary).collect())
    }

    /// Lets `name` mean what `source` means, and nothing else.
    ///
    /// # Errors
    /// `NotFound`, or when `images.json` cannot be written.
    pub fn tag(&self, source: &ImageReference, name: &ImageReference) -> Result<Vec<Digest>, StoreError> {
        self.change(|index| {
            let (ids, _) = found(index, source)?;
            index.point(name, ids.clone());
            Ok(ids)
        })
    }

    /// The configuration of the image `id` as it came.
    ///
    /// # Errors
    /// `Damaged` when it is gone or changed.
    pub fn config_bytes(&self, id: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(id);
        let damaged = || StoreError::Damaged { image: id.clone(), object: path.display().to_string() };
        let bytes = match read_file(&path, CONFIG_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Err(damaged()),
            other => other.map_err(StoreError::Fs),
        }?;
        if digest_of(&bytes) == *id { Ok(bytes) } else { Err(damaged()) }
    }

    /// Changes `images.json` in one step, with nobody else changing it.
    ///
    /// # Errors
    /// What `change` says, or when the file cannot be read or written.
    pub fn change<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, E>,
    ) -> Result<T, E> {
        let lock = self.lock_index()?;
        self.change_locked(&lock, change)
    }

    /// The same for who holds the lock of [`Store::lock_index`] already.
    ///
    /// # Errors
    /// As [`Store::change`].
    pub fn change_locked<T, E: From<StoreError>>(
        &self,
        _lock: &Lock,
        change: impl FnOnce(&mut Index) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.index()?;
        let mut index = before.clone();
        let changed = change(&mut index)?;
        if index != before {
            self.write_index(&index)?;
        }
        Ok(changed)
    }

    /// Keeps everybody else from changing `images.json`, and from bringing in what it will name. Who
    /// holds it may wait for the gate, so nobody inside the gate waits for it.
    ///
    /// # Errors
    /// `Fs`.
    pub fn lock_index(&self) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.dir.join("lock")).map_err(StoreError::Fs)
    }

    /// The same lock, when it can be had at `until` at the latest.
    ///
    /// # Errors
    /// `Busy`, or `Fs`.
    pub fn lock_index_until(&self, until: Instant) -> Result<Lock, StoreError> {
        leases::wait_for(&self.dir.join("lock"), until).map_err(StoreError::Fs)?.ok_or(StoreError::Busy)
    }

    /// A name that nothing has, of the same form as a digest.
    ///
    /// # Errors
    /// `Fs` when the kernel gives no random bytes.
    pub fn fresh_key(&self) -> Result<String, StoreError> {
        let mut random = [0; 32];
        random_bytes(&mut random).map_err(|e| StoreError::Fs(FsError::new("name", self.tmp(), e)))?;
        Ok(Digest::from_bytes(&random).hex().to_owned())
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let path = self.dir.join("images.json");
        let json = serde_json::to_vec_pretty(index).map_err(|source| StoreError::Json { path, source })?;
        self.replace(&self.dir, "images.json", &json)
    }

    fn replace(&self, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let dir = open_dir(dir).map_err(StoreError::Fs)?;
        replace_file_synced(dir.as_fd(), OsStr::new(name), bytes, Mode::RUSR | Mode::WUSR)
            .map_err(StoreError::Fs)
    }

    /// What `images.json` says in this moment.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn index(&self) -> Result<Index, StoreError> {
        let path = self.dir.join("images.json");
        let bytes = match read_file(&path, IMAGES_JSON_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Index::empty());
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

    /// The folders of layers that are all there, in their order.
    pub fn stack(&self, diff_ids: &[Digest]) -> Option<Vec<PathBuf>> {
        diff_ids.iter().map(|diff_id| self.layer(diff_id)).collect()
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

    /// Bytes of the files of a blob or of a layer's folder; nothing where there is none.
    pub fn size(&self, path: &Path) -> u64 {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => self.layer_note(path).map_or(0, |note| note.file_bytes),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        }
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

    /// Removes what dead processes left half done; whether all of it is gone. What cannot be removed is
    /// left for a process that can: files of other ids go only from inside their user namespace.
    ///
    /// # Errors
    /// `Fs`.
    pub fn sweep(&self) -> Result<bool, StoreError> {
        let mut is_clean = true;
        let tmp = open_dir(&self.tmp()).map_err(StoreError::Fs)?;
        for part in ["tmp", "locks"] {
            for name in names_in(&self.dir.join(part))? {
                let path = self.dir.join("locks").join(&name);
                let Some(lock) = Lock::try_exclusive(&path).map_err(StoreError::Fs)? else { continue };
                let Some(_lock) = ObjectLock::of(lock, &path) else { continue };
                is_clean &= remove_at(tmp.as_fd(), &name).is_ok();
            }
        }
        let Some(_lock) = Lock::try_exclusive(&self.dir.join("lock")).map_err(StoreError::Fs)? else {
            return Ok(is_clean);
        };
        for (dir, prefix) in [(self.dir.clone(), ".images.json."), (self.dir.join("blobs/sha256"), ".")] {
            for name in names_in(&dir)? {
                if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                    let _gone = std::fs::remove_file(dir.join(name));
                }
            }
        }
        Ok(is_clean)
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

/// The images that were meant, and whether an id was typed.
///
/// # Errors
/// `NotFound` with names that look like it, or `Ambiguous`.
pub fn found(index: &Index, reference: &ImageReference) -> Result<(Vec<Digest>, bool), StoreError> {
    match index.find(reference) {
        Meant::Images { ids, by_id } => Ok((ids, by_id)),
        Meant::Ambiguous(prefix) => Err(StoreError::Ambiguous { prefix }),
        Meant::Nothing(similar) => Err(not_found(reference, &similar)),
    }
}

fn not_found(reference: &ImageReference, similar: &[ImageReference]) -> StoreError {
    let similar = similar.iter().map(|name| format!("`{}`", name.familiar())).collect();
    StoreError::NotFound { name: reference.familiar(), similar }
}
