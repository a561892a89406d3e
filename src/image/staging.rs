//! Layers and images on their way into the store: unpacked aside, checked, then all promoted or none.
//! It does not know archives or registries, only readers and what they were said to be.
//!
//! A layer that is missing is locked before it is unpacked, all layers of one load in the order of
//! their digests, so that two loads never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use serde::Serialize;

use crate::error::{ErrorKind, Fault};
use crate::image::config::{ImageConfig, Platform};
use crate::image::layer::{CEILINGS, LayerError, Unpacked, unpack};
use crate::image::store::{ImageRecord, LayerNote, LayerRecord, ObjectLock, Store, StoreError};
use crate::image::tree::{Owners, remove_at};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, open_dir, random_bytes, replace_file};

/// Why something cannot come into the store.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(StoreError),
    /// The layer cannot be unpacked.
    #[error(transparent)]
    Layer(LayerError),
    /// The bytes are not those that were named.
    #[error("`{object}` is not what was said: {what} is `{found}`")]
    Different {
        /// What was named.
        object: Digest,
        /// Which of its properties is another.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// The tar ends without the mark for the end, and no digest says that this is right.
    #[error("the archive is cut off: it has no mark for its end")]
    NoEnd,
}

impl Fault for StagingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Layer(source) => source.kind(),
            Self::Different { .. } | Self::NoEnd => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(source) => source.hints(),
            Self::Layer(source) => source.hints(),
            Self::Different { .. } | Self::NoEnd => vec!["fetch or save it again, then try again".to_owned()],
        }
    }
}

/// What a manifest said of a layer's bytes.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
}

/// An image that is complete and waits to be promoted.
#[derive(Debug)]
pub struct NewImage {
    /// The digest of the configuration.
    pub id: Digest,
    /// The configuration as it came.
    pub config_bytes: Vec<u8>,
    /// The configuration as it was read.
    pub config: ImageConfig,
    /// The manifest as it came, when there was one.
    pub manifest: Option<(Digest, Vec<u8>)>,
    /// The layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// The names it gets.
    pub names: Vec<ImageReference>,
}

/// What was not made of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Devices.
    pub devices: u64,
    /// Extended attributes.
    pub xattrs: u64,
}

/// A folder that goes away, unless it was promoted.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        if let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name())
            && let Ok(parent) = open_dir(parent)
        {
            // What stays is removed by the sweep of the next command: our lock is free by then.
            let _gone = remove_at(parent.as_fd(), name);
        }
    }
}

/// A layer that is unpacked and right.
struct Staged {
    aside: Aside,
    place: PathBuf,
}

/// One load. Dropped without [`Staging::commit`], it leaves nothing.
pub struct Staging<'s> {
    store: &'s Store,
    owners: Owners,
    // Before the locks: what is aside goes while its lock is held.
    staged: BTreeMap<Digest, Staged>,
    locks: BTreeMap<Digest, ObjectLock>,
    skipped: Skipped,
}

/// `owners.json`: what the files do not say themselves. Paths are bytes escaped as in Rust text.
#[derive(Serialize)]
struct OwnersJson {
    version: u32,
    owners: BTreeMap<String, (u32, u32)>,
    capabilities: BTreeMap<String, String>,
    devices: Vec<DeviceJson>,
}

#[derive(Serialize)]
struct DeviceJson {
    path: String,
    is_block: bool,
    number: (u64, u64),
    mode: u32,
    owner: (u32, u32),
}

impl<'s> Staging<'s> {
    /// Begins a load that needs the layers `wanted`; waits for whoever is making one of them.
    ///
    /// # Errors
    /// `Store` when a lock cannot be taken.
    pub fn begin(store: &'s Store, owners: Owners, wanted: &BTreeSet<Digest>) -> Result<Self, StagingError> {
        let mut staging = Self {
            store,
            owners,
            staged: BTreeMap::new(),
            locks: BTreeMap::new(),
            skipped: Skipped::default(),
        };
        for diff_id in wanted.iter().filter(|diff_id| !is_present(store, diff_id, owners)) {
            let lock = store.lock(diff_id.hex()).map_err(StagingError::Store)?;
            if !is_present(store, diff_id, owners) {
                staging.locks.insert(diff_id.clone(), lock);
            }
        }
        Ok(staging)
    }

    /// Whether the layer must still be given.
    pub fn is_missing(&self, diff_id: &Digest) -> bool {
        self.locks.contains_key(diff_id) && !self.staged.contains_key(diff_id)
    }

    /// What was not made so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// Unpacks a layer that is missing and checks that it is what was said.
    ///
    /// # Errors
    /// `Layer`, or `Different` when a digest or the size is another.
    pub fn layer<R: Read>(
        &mut self,
        diff_id: &Digest,
        expected: Option<&Expected>,
        source: R,
    ) -> Result<(), StagingError> {
        let aside = self.aside(diff_id.hex())?;
        let unpacked = self.unpack(source, diff_id.as_str(), &aside)?;
        let different = |object: &Digest, what, found: String| {
            Err(StagingError::Different { object: object.clone(), what, found })
        };
        if let Some(expected) = expected {
            if unpacked.sums.stored_bytes != expected.bytes {
                let found = unpacked.sums.stored_bytes.to_string();
                return different(&expected.digest, "its size in bytes", found);
            }
            if unpacked.sums.stored != expected.digest {
                return different(&expected.digest, "its digest", unpacked.sums.stored.to_string());
            }
        }
        if unpacked.sums.plain != *diff_id {
            return different(diff_id, "the digest of the unpacked layer", unpacked.sums.plain.to_string());
        }
        self.write_down(diff_id, &unpacked, aside)
    }

    /// Unpacks a layer that nobody named before, and tells what it is.
    ///
    /// # Errors
    /// `Layer`, or `NoEnd` when it is cut off.
    pub fn new_layer<R: Read>(&mut self, name: &str, source: R) -> Result<LayerRecord, StagingError> {
        let key = random_name(self.store)?;
        let _lock = self.store.lock(&key).map_err(StagingError::Store)?;
        let aside = self.aside(&key)?;
        let unpacked = self.unpack(source, name, &aside)?;
        if !unpacked.is_complete {
            return Err(StagingError::NoEnd);
        }
        let diff_id = unpacked.sums.plain.clone();
        let lock = self.store.lock(diff_id.hex()).map_err(StagingError::Store)?;
        if !is_present(self.store, &diff_id, self.owners) {
            let named = Aside(self.store.tmp().join(diff_id.hex()));
            rename(&aside.0, &named.0)?;
            self.write_down(&diff_id, &unpacked, named)?;
            self.locks.insert(diff_id.clone(), lock);
        }
        Ok(LayerRecord {
            diff_id,
            blob: Some(unpacked.sums.stored.clone()),
            bytes: unpacked.sums.stored_bytes,
            media_type: String::new(),
        })
    }

    /// Promotes everything: first the layers, then the images and their names in one step.
    ///
    /// # Errors
    /// `Store`. Layers that were promoted before it are whole; the next load finds them.
    pub fn commit(mut self, images: Vec<NewImage>) -> Result<(), StagingError> {
        for staged in std::mem::take(&mut self.staged).into_values() {
            rename(&staged.aside.0, &staged.place)?;
        }
        let mut records = Vec::with_capacity(images.len());
        for image in &images {
            let mut bytes = 0_u64;
            for layer in &image.layers {
                let dir = self.store.layer(&layer.diff_id);
                let dir = dir.ok_or_else(|| {
                    StagingError::Store(StoreError::Damaged {
                        image: image.id.clone(),
                        object: layer.diff_id.to_string(),
                    })
                })?;
                let note = self.store.layer_note(&dir).map_err(StagingError::Store)?;
                bytes = bytes.saturating_add(note.file_bytes);
            }
            records.push(bytes);
        }
        let changed = self.store.change(|index| {
            for (image, bytes) in images.into_iter().zip(records) {
                self.store.put_blob(&image.id, &image.config_bytes)?;
                if let Some((digest, manifest)) = &image.manifest {
                    self.store.put_blob(digest, manifest)?;
                }
                for name in &image.names {
                    index.names.insert(name.to_string(), image.id.clone());
                }
                let record = ImageRecord {
                    manifest: image.manifest.map(|(digest, _)| digest),
                    layers: image.layers,
                    created: image.config.created,
                    platform: Platform { os: image.config.os, architecture: image.config.architecture },
                    bytes,
                };
                match index.images.get_mut(&image.id) {
                    // Coming again without a manifest, an image keeps what is known of it.
                    Some(_) if record.manifest.is_none() => {}
                    Some(known) => *known = record,
                    None => {
                        index.images.insert(image.id, record);
                    }
                }
            }
            Ok(())
        });
        changed.map_err(StagingError::Store)
    }

    fn aside(&self, hex: &str) -> Result<Aside, StagingError> {
        let aside = Aside(self.store.tmp().join(hex));
        let wrong = |e: FsError| StagingError::Store(StoreError::Fs(e));
        // We hold its lock, so what lies there is of somebody who died.
        let tmp = open_dir(&self.store.tmp()).map_err(wrong)?;
        let gone = match remove_at(tmp.as_fd(), OsStr::new(hex)) {
            // Folders of other ids go only inside their user namespace. Until a sweep there, they are
            // in nobody's way under another name.
            Err(Errno::ACCESS | Errno::PERM) => {
                rustix::fs::renameat(&tmp, hex, &tmp, random_name(self.store)?)
            }
            other => other,
        };
        gone.and_then(|()| rustix::fs::mkdirat(&tmp, hex, Mode::RWXU))
            .map_err(|e| wrong(FsError::new("make the folder", &aside.0, e)))?;
        Ok(aside)
    }

    fn unpack<R: Read>(&mut self, source: R, name: &str, aside: &Aside) -> Result<Unpacked, StagingError> {
        let unpacked = unpack(source, name, &aside.0.join("fs"), self.owners, &CEILINGS);
        let unpacked = unpacked.map_err(StagingError::Layer)?;
        self.skipped.devices += unpacked.devices_skipped;
        self.skipped.xattrs += unpacked.xattrs_skipped;
        Ok(unpacked)
    }

    fn write_down(
        &mut self,
        diff_id: &Digest,
        unpacked: &Unpacked,
        aside: Aside,
    ) -> Result<(), StagingError> {
        let text = |path: &[u8]| path.escape_ascii().to_string();
        let owners = OwnersJson {
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
        };
        write_json(&aside.0, "owners.json", &owners)?;
        write_json(&aside.0, "layer.json", &LayerNote::of(unpacked, self.owners))?;
        // Where nobody but root owns anything, both ways of keeping owners are the same.
        let owners = if unpacked.ids.is_only_root() { Owners::Apply } else { self.owners };
        let place = self.store.layer_place(diff_id, owners);
        self.staged.insert(diff_id.clone(), Staged { aside, place });
        Ok(())
    }
}

/// Whether the store has the layer as it is wanted: one whose owners were only written down is not
/// enough for who can give files to their owners.
fn is_present(store: &Store, diff_id: &Digest, owners: Owners) -> bool {
    store
        .layer(diff_id)
        .is_some_and(|dir| owners == Owners::Record || dir == store.layer_place(diff_id, Owners::Apply))
}

/// A name that nothing has, of the same form as a digest.
fn random_name(store: &Store) -> Result<String, StagingError> {
    let mut random = [0; 32];
    random_bytes(&mut random)
        .map_err(|e| StagingError::Store(StoreError::Fs(FsError::new("name", store.tmp(), e))))?;
    Ok(Digest::from_bytes(&random).hex().to_owned())
}

fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), StagingError> {
    let path = dir.join(name);
    let wrong = |e| StagingError::Store(StoreError::Fs(e));
    let json =
        serde_json::to_vec(value).map_err(|source| StagingError::Store(StoreError::Json { path, source }))?;
    let dir = open_dir(dir).map_err(wrong)?;
    replace_file(dir.as_fd(), OsStr::new(name), &json, Mode::RUSR | Mode::WUSR).map_err(wrong)
}

/// Moves a folder to a place where nothing is yet: rename(2) replaces no folder that is not empty.
fn rename(from: &Path, to: &Path) -> Result<(), StagingError> {
    std::fs::rename(from, to)
        .map_err(|e| StagingError::Store(StoreError::Fs(FsError::new("move a layer to", to, e))))
}
