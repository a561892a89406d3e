//! Layers and images on their way into the store: unpacked aside, checked, then all promoted or none.
//! It does not know archives or registries, only readers and what they were said to be.
//!
//! A layer's bytes are read once: hashed, written aside as they come, decompressed, hashed again,
//! unpacked. Everything of one load lies in one folder, `tmp/<random>`, whose lock is held while the
//! load lives; what a dead one left goes with the next sweep.
//!
//! A layer that is missing is locked before it is made, all layers of one load in the order of
//! their digests, so that two loads never wait for each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use serde::Serialize;

use crate::error::{ErrorKind, Fault};
use crate::image::config::{ImageConfig, Platform};
use crate::image::index::{ImageRecord, LayerRecord};
use crate::image::layer::{CEILINGS, LayerError, OwnersJson, Unpacked, unpack};
use crate::image::leases::Lease;
use crate::image::lids;
use crate::image::store::{LayerNote, ObjectLock, Store, StoreError};
use crate::image::stream::{Compression, Stream, Sums, WINDOW_BYTES_SMALL, digest_of};
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, make_private_dirs, open_dir, remove_at, replace_file, replace_file_synced};

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
    /// Somebody called [`Staging::stop`].
    #[error("layer `{layer}` was given up because another one failed")]
    Stopped {
        /// Which layer.
        layer: String,
    },
}

impl Fault for StagingError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Layer(source) => source.kind(),
            Self::Different { .. } | Self::NoEnd => ErrorKind::Corrupt,
            Self::Stopped { .. } => ErrorKind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Store(source) => source.hints(),
            Self::Layer(source) => source.hints(),
            Self::Different { .. } | Self::NoEnd => vec!["fetch or save it again, then try again".to_owned()],
            Self::Stopped { .. } => Vec::new(),
        }
    }
}

/// What was said of a layer's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Their digest.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
    /// What the manifest calls them; empty when there is none.
    pub media_type: String,
}

/// A layer that an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// What was said of the bytes it comes as; nothing when nobody named them.
    pub blob: Option<Expected>,
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
    /// The index that the manifest was chosen from, when it is to be kept.
    pub index: Option<(Digest, Vec<u8>)>,
    /// The layers, bottom first.
    pub layers: Vec<Wanted>,
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

/// A file or folder that goes away, unless it was promoted.
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

/// What a layer has, or does not have, in the store and aside.
#[derive(Debug, Clone, Copy)]
struct Lacks {
    folder: bool,
    blob: bool,
}

/// A layer that was read to its end.
struct Taken {
    sums: Sums,
    /// The folder and what it turned out to be, when it was unpacked.
    unpacked: Option<(Aside, Unpacked)>,
    /// Its bytes, when they were written.
    blob: Option<Aside>,
}

/// A folder that is unpacked and right.
struct Folder {
    aside: Aside,
    place: PathBuf,
}

#[derive(Default)]
struct State {
    parts: u64,
    /// Layers whose folder somebody is making or has made.
    claimed: BTreeSet<Digest>,
    folders: BTreeMap<Digest, Folder>,
    blobs: BTreeMap<Digest, Aside>,
    /// By diff ID: digest and number of the bytes that came for it.
    came: BTreeMap<Digest, (Digest, u64)>,
    locks: BTreeMap<Digest, ObjectLock>,
    skipped: Skipped,
}

/// One load. Dropped without [`Staging::commit`], it leaves nothing.
///
/// Several threads may give it layers and blobs at once: nothing is held while a layer is read.
pub struct Staging<'s> {
    store: &'s Store,
    owners: Owners,
    stopped: AtomicBool,
    state: Mutex<State>,
    // What is in the store already and this load relies on.
    lease: Lease,
    /// Held while a stream with a large window is decompressed: one at a time.
    large_window: Mutex<()>,
    // Before its lock: what is aside goes while the lock is held.
    session: Aside,
    _lock: ObjectLock,
}

/// Reads a layer's bytes, and writes them down as they come.
struct Keeping<'a, R> {
    source: R,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    is_too_long: bool,
    stopped: &'a AtomicBool,
    not_written: Option<io::Error>,
}

impl<R: Read> Read for Keeping<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        let read = self.source.read(buffer)?;
        self.bytes += read as u64;
        if self.bytes > self.bytes_max {
            self.is_too_long = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "there are more bytes than were said"));
        }
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write_all(&buffer[..read]));
        written.map_err(|e| {
            let told = io::Error::from(e.kind());
            self.not_written = Some(e);
            told
        })?;
        Ok(read)
    }
}

impl<'s> Staging<'s> {
    /// Begins a load that needs the layers `wanted`; waits for whoever is making one of them.
    ///
    /// # Errors
    /// `Store` when a lock cannot be taken.
    pub fn begin(store: &'s Store, owners: Owners, wanted: &[Wanted]) -> Result<Self, StagingError> {
        let key = store.fresh_key().map_err(StagingError::Store)?;
        let lock = store.lock(&key).map_err(StagingError::Store)?;
        let session = Aside(store.tmp().join(&key));
        let made = rustix::fs::mkdir(&session.0, Mode::RWXU);
        made.map_err(|e| broken(FsError::new("make the folder", &session.0, e)))?;
        let mut by_diff_id: BTreeMap<&Digest, Vec<&Wanted>> = BTreeMap::new();
        for layer in wanted {
            by_diff_id.entry(&layer.diff_id).or_default().push(layer);
        }
        let lease = store.lease().map_err(StagingError::Store)?;
        let named = wanted.iter().flat_map(|layer| {
            [Some(&layer.diff_id), layer.blob.as_ref().map(|blob| &blob.digest)].into_iter().flatten()
        });
        lease.rely_on(named).map_err(broken)?;
        let kept: Vec<Digest> = wanted.iter().filter_map(|layer| kept_as(store, &layer.diff_id)).collect();
        lease.rely_on(&kept).map_err(broken)?;
        let is_missing = |layers: &[&Wanted]| layers.iter().any(|layer| in_store(store, owners, layer).any());
        let mut state = State::default();
        for (diff_id, layers) in by_diff_id.into_iter().filter(|(_, layers)| is_missing(layers)) {
            let lock = store.lock(diff_id.hex()).map_err(StagingError::Store)?;
            if is_missing(&layers) {
                state.locks.insert(diff_id.clone(), lock);
            }
        }
        Ok(Self {
            store,
            owners,
            stopped: AtomicBool::new(false),
            state: Mutex::new(state),
            large_window: Mutex::new(()),
            lease,
            session,
            _lock: lock,
        })
    }

    /// Whether the layer must still be given.
    pub fn is_missing(&self, wanted: &Wanted) -> bool {
        self.lacks(wanted).any()
    }

    /// What was not made so far.
    pub fn skipped(&self) -> Skipped {
        self.state().skipped
    }

    /// Makes every layer that is being read end with `Stopped`, in whatever thread.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Makes what is missing of a layer out of `source`, its folder or its kept bytes or both, and
    /// checks that it is what was said. After an error the layer can be given again.
    ///
    /// # Errors
    /// `Layer`, `Different` when a digest or the size is another, or `Stopped`.
    pub fn layer<R: Read>(&self, wanted: &Wanted, source: R) -> Result<(), StagingError> {
        self.take_checked(wanted, source, true)
    }

    /// Unpacks a layer of which only the folder is missing out of the bytes that were kept of it.
    /// `true` when the layer is complete now; `false` when it must be given: what was kept is not
    /// there or is damaged.
    ///
    /// # Errors
    /// As [`Staging::layer`], but for what is wrong with the bytes.
    pub fn restore(&self, wanted: &Wanted) -> Result<bool, StagingError> {
        let lacks = self.lacks(wanted);
        let Some(blob) = wanted.blob.as_ref().filter(|_| lacks.folder && !lacks.blob) else {
            return Ok(!lacks.any());
        };
        let path = self.store.blob(&blob.digest);
        let kept = File::open(&path).map_err(|e| broken(FsError::new("open", &path, e)))?;
        match self.take_checked(wanted, kept, false) {
            Ok(()) => Ok(true),
            Err(StagingError::Different { .. }) => Ok(false),
            Err(StagingError::Layer(LayerError::Read { .. } | LayerError::Tar { .. })) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Adds a small blob: a configuration, a manifest, an index.
    ///
    /// # Errors
    /// `Different` when the digest is not that of `bytes`, or `Store`.
    pub fn blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StagingError> {
        let found = digest_of(bytes);
        if found != *digest {
            let (object, found) = (digest.clone(), found.to_string());
            return Err(StagingError::Different { object, what: "its digest", found });
        }
        let (file, aside) = self.new_file()?;
        let written = (&file).write_all(bytes);
        written.map_err(|e| broken(FsError::new("write", self.store.blob(digest), e)))?;
        self.state().blobs.insert(found, aside);
        Ok(())
    }

    /// Unpacks a layer that nobody named before, and tells what it is.
    ///
    /// # Errors
    /// `Layer`, or `NoEnd` when it is cut off.
    pub fn new_layer<R: Read>(&self, name: &str, source: R) -> Result<Wanted, StagingError> {
        let mut taken = self.take(name, source, None, true, true)?;
        if taken.unpacked.as_ref().is_some_and(|(_, unpacked)| !unpacked.is_complete) {
            return Err(StagingError::NoEnd);
        }
        let diff_id = taken.sums.plain.clone();
        let blob = Expected {
            digest: taken.sums.stored.clone(),
            bytes: taken.sums.stored_bytes,
            media_type: taken.sums.compression.layer_media_type().to_owned(),
        };
        let wanted = Wanted { diff_id: diff_id.clone(), blob: Some(blob) };
        let lock = self.store.lock(diff_id.hex()).map_err(StagingError::Store)?;
        let lacks = self.lacks(&wanted);
        if !lacks.folder {
            taken.unpacked = None;
        }
        self.keep(&wanted, taken)?;
        if lacks.any() {
            self.state().locks.insert(diff_id, lock);
        }
        Ok(wanted)
    }

    /// Promotes everything, then tells the images and their names in one step.
    ///
    /// What was made is on the disk before it gets its name, so that not even a crash of the machine
    /// leaves a layer that looks whole and is not. No file is synced by itself for that.
    ///
    /// # Errors
    /// `Store`. What was promoted before it is whole; the next load finds it.
    pub fn commit(mut self, images: Vec<NewImage>) -> Result<(), StagingError> {
        for image in &images {
            self.blob(&image.id, &image.config_bytes)?;
            for (digest, bytes) in image.manifest.iter().chain(&image.index) {
                self.blob(digest, bytes)?;
            }
        }
        self.sync()?;
        self.lease.risk();
        let brought: Vec<Digest> = self.state().blobs.keys().cloned().collect();
        let mut kept = BTreeSet::new();
        let changed = self.store.change(|index| {
            let promoted = self.promote()?;
            let named = index
                .images
                .values()
                .map(|record| record.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>());
            // A layer that was made again has lost the lids of the stacks that end in it.
            for stack in named.filter(|stack| stack.last().is_some_and(|top| promoted.contains(top))) {
                self.put_lid(&stack)?;
            }
            for image in images {
                self.put_lid(&image.config.diff_ids)?;
                let mut layers = Vec::with_capacity(image.layers.len());
                let mut bytes = 0_u64;
                for wanted in &image.layers {
                    let (layer, note) = self.record(&image.id, wanted)?;
                    bytes = bytes.saturating_add(note.file_bytes);
                    layers.push(layer);
                }
                let record = ImageRecord {
                    manifest: image.manifest.map(|(digest, _)| digest),
                    index: image.index.map(|(digest, _)| digest),
                    layers,
                    created: image.config.created,
                    platform: Platform { os: image.config.os, architecture: image.config.architecture },
                    bytes,
                };
                match index.images.get_mut(&image.id) {
                    // Coming again without a manifest, an image keeps what is known of it.
                    Some(known) if record.manifest.is_none() && self.is_kept(known) => {}
                    Some(known) if *known != record => {
                        // What it was made of before may have no other name.
                        self.store.owe_collection()?;
                        *known = record;
                    }
                    Some(_) => {}
                    None => {
                        index.images.insert(image.id.clone(), record);
                    }
                }
                image.names.iter().for_each(|name| index.give(name, &image.id));
                kept.extend(index.images.get(&image.id).into_iter().flat_map(ImageRecord::blobs).cloned());
                kept.insert(image.id);
            }
            // The image may keep the bytes it had instead of those that came now.
            if brought.iter().any(|blob| !kept.contains(blob)) {
                self.store.owe_collection()?;
            }
            Ok(())
        });
        if changed.is_ok() {
            self.lease.fulfil();
        }
        changed.map_err(StagingError::Store)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is one step, so whoever panicked left it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lacks(&self, wanted: &Wanted) -> Lacks {
        let lacks = in_store(self.store, self.owners, wanted);
        let state = self.state();
        let has_blob = match &wanted.blob {
            Some(blob) => state.blobs.contains_key(&blob.digest),
            None => state.came.contains_key(&wanted.diff_id),
        };
        let has_folder = state.folders.contains_key(&wanted.diff_id);
        Lacks { folder: lacks.folder && !has_folder, blob: lacks.blob && !has_blob }
    }

    /// Whether the bytes of all layers of an image are there.
    fn is_kept(&self, image: &ImageRecord) -> bool {
        image.layers.iter().all(|layer| has_blob(self.store, &layer.blob, layer.bytes))
    }

    /// A new path of this load.
    fn part(&self) -> Aside {
        let mut state = self.state();
        state.parts += 1;
        Aside(self.session.0.join(state.parts.to_string()))
    }

    fn new_file(&self) -> Result<(File, Aside), StagingError> {
        let aside = self.part();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&aside.0, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|e| broken(FsError::new("make the file", &aside.0, e)))?;
        Ok((File::from(file), aside))
    }

    fn take_checked<R: Read>(&self, wanted: &Wanted, source: R, keeps: bool) -> Result<(), StagingError> {
        let diff_id = &wanted.diff_id;
        let makes =
            in_store(self.store, self.owners, wanted).folder && self.state().claimed.insert(diff_id.clone());
        let taken = self.take(diff_id.as_str(), source, wanted.blob.as_ref(), makes, keeps);
        let kept = taken.and_then(|taken| {
            check(wanted, &taken.sums)?;
            self.keep(wanted, taken)
        });
        if kept.is_err() && makes {
            self.state().claimed.remove(diff_id);
        }
        kept
    }

    /// Reads a layer to its end.
    fn take<R: Read>(
        &self,
        name: &str,
        source: R,
        expected: Option<&Expected>,
        makes_folder: bool,
        keeps_bytes: bool,
    ) -> Result<Taken, StagingError> {
        let (file, blob) =
            if keeps_bytes { self.new_file().map(|(f, a)| (Some(f), Some(a)))? } else { (None, None) };
        let mut source = Keeping {
            source,
            file,
            bytes: 0,
            bytes_max: expected.map_or(CEILINGS.bytes, |expected| expected.bytes),
            is_too_long: false,
            stopped: &self.stopped,
            not_written: None,
        };
        let result = self.read_all(&mut source, name, makes_folder);
        match (result, expected) {
            (Ok((sums, unpacked)), _) => Ok(Taken { sums, unpacked, blob }),
            (Err(_), _) if self.stopped.load(Ordering::Relaxed) => {
                Err(StagingError::Stopped { layer: name.to_owned() })
            }
            (Err(_), Some(expected)) if source.is_too_long => Err(StagingError::Different {
                object: expected.digest.clone(),
                what: "its size in bytes",
                found: format!("more than {}", expected.bytes),
            }),
            (Err(error), _) => Err(match (source.not_written, blob) {
                (Some(e), Some(blob)) => broken(FsError::new("write", &blob.0, e)),
                _ => error,
            }),
        }
    }

    fn read_all<R: Read>(
        &self,
        source: R,
        name: &str,
        makes_folder: bool,
    ) -> Result<(Sums, Option<(Aside, Unpacked)>), StagingError> {
        let wrong = |source| StagingError::Layer(LayerError::Read { layer: name.to_owned(), source });
        let mut stream = Stream::open(source, CEILINGS.bytes).map_err(wrong)?;
        let alone = (stream.window_bytes() > WINDOW_BYTES_SMALL)
            .then(|| self.large_window.lock().unwrap_or_else(PoisonError::into_inner));
        if alone.is_none() {
            stream.refuse_large_windows().map_err(wrong)?;
        }
        if !makes_folder {
            return Ok((stream.finish().map_err(wrong)?, None));
        }
        let aside = self.part();
        rustix::fs::mkdir(&aside.0, Mode::RWXU)
            .map_err(|e| broken(FsError::new("make the folder", &aside.0, e)))?;
        let unpacked = unpack(stream, name, &aside.0.join("fs"), self.owners, &CEILINGS);
        let unpacked = unpacked.map_err(StagingError::Layer)?;
        Ok((unpacked.sums.clone(), Some((aside, unpacked))))
    }

    /// Remembers a layer that is right, to be promoted.
    fn keep(&self, wanted: &Wanted, taken: Taken) -> Result<(), StagingError> {
        if let Some((aside, unpacked)) = &taken.unpacked {
            write_json(&aside.0, "owners.json", &OwnersJson::of(unpacked)).map_err(StagingError::Store)?;
            let note = LayerNote::of(unpacked, self.owners);
            write_json(&aside.0, "layer.json", &note).map_err(StagingError::Store)?;
            lids::note(&aside.0, &unpacked.implied).map_err(broken)?;
        }
        let mut state = self.state();
        let diff_id = &wanted.diff_id;
        if let Some((aside, unpacked)) = taken.unpacked {
            // Where nobody but root owns anything, both ways of keeping owners are the same.
            let owners = if unpacked.ids.is_only_root() { Owners::Apply } else { self.owners };
            let place = self.store.layer_place(diff_id, owners);
            state.folders.insert(diff_id.clone(), Folder { aside, place });
            state.skipped.devices += unpacked.devices_skipped;
            state.skipped.xattrs += unpacked.xattrs_skipped;
        }
        if let Some(blob) = taken.blob {
            state.came.insert(diff_id.clone(), (taken.sums.stored.clone(), taken.sums.stored_bytes));
            state.blobs.insert(taken.sums.stored, blob);
        }
        Ok(())
    }

    /// Writes what was made to the disk: one syncfs(2) for all of it. Where nothing but small blobs is
    /// new there is no wait: one that is lost shows by its digest.
    fn sync(&self) -> Result<(), StagingError> {
        if self.state().folders.is_empty() && self.state().came.is_empty() {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix::fs::open(&self.session.0, flags, Mode::empty()).and_then(rustix::fs::syncfs);
        synced.map_err(|e| broken(FsError::new("write to the disk what is in", &self.session.0, e)))
    }

    /// Moves everything to its place. The caller holds the lock of the store, so that nobody takes
    /// for garbage what no image names yet.
    /// Tells which layers have a new folder.
    fn promote(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut promoted = BTreeSet::new();
        let mut state = self.state();
        for (digest, aside) in std::mem::take(&mut state.blobs) {
            let place = self.store.blob(&digest);
            std::fs::rename(&aside.0, &place)
                .map_err(|e| StoreError::Fs(FsError::new("move a blob to", place, e)))?;
        }
        for (diff_id, Folder { aside, place }) in std::mem::take(&mut state.folders) {
            let moved = rename(&aside.0, &place).or_else(|_occupied| {
                // Only a damaged layer is in the way: a whole one would not have been missing.
                rename(&place, &aside.0.with_extension("old"))?;
                rename(&aside.0, &place)
            });
            moved.map_err(StoreError::Fs)?;
            promoted.insert(diff_id);
        }
        for (diff_id, (blob, blob_bytes)) in std::mem::take(&mut state.came) {
            let Some(dir) = self.store.layer(&diff_id) else { continue };
            let mut note = self.store.layer_note(&dir)?;
            if !has_blob(self.store, &note.blob, note.blob_bytes) {
                (note.blob, note.blob_bytes) = (blob, blob_bytes);
                rewrite_json(&dir, "layer.json", &note)?;
            }
        }
        Ok(promoted)
    }

    /// Makes the lid of a stack of layers, when it needs one and has none.
    fn put_lid(&self, diff_ids: &[Digest]) -> Result<(), StoreError> {
        let Some(dirs) = self.store.stack(diff_ids) else { return Ok(()) };
        let Some(place) = lids::place(diff_ids, &dirs).filter(|place| !place.exists()) else { return Ok(()) };
        let aside = self.part();
        let made = lids::make(&dirs, &aside.0, self.owners).and_then(|()| {
            place.parent().map_or(Ok(()), make_private_dirs)?;
            rename(&aside.0, &place)
        });
        made.map_err(StoreError::Fs)
    }

    /// What the image says of one of its layers, which must be there by now.
    fn record(&self, image: &Digest, wanted: &Wanted) -> Result<(LayerRecord, LayerNote), StoreError> {
        let damaged =
            |object: &Digest| StoreError::Damaged { image: image.clone(), object: object.to_string() };
        let diff_id = wanted.diff_id.clone();
        let dir = self.store.layer(&diff_id).ok_or_else(|| damaged(&diff_id))?;
        let note = self.store.layer_note(&dir)?;
        let (blob, bytes, said) = match &wanted.blob {
            Some(blob) => (blob.digest.clone(), blob.bytes, blob.media_type.as_str()),
            None => (note.blob.clone(), note.blob_bytes, ""),
        };
        let path = self.store.blob(&blob);
        if !has_blob(self.store, &blob, bytes) {
            return Err(damaged(&blob));
        }
        let media_type = match said {
            "" => {
                let mut first = Vec::new();
                let read = File::open(&path).and_then(|file| file.take(4).read_to_end(&mut first));
                read.map_err(|e| StoreError::Fs(FsError::new("read", path, e)))?;
                Compression::of(&first).layer_media_type().to_owned()
            }
            said => said.to_owned(),
        };
        Ok((LayerRecord { diff_id, blob, bytes, media_type }, note))
    }
}

impl Lacks {
    fn any(self) -> bool {
        self.folder || self.blob
    }
}

/// What the store does not have of a layer. A folder whose owners were only written down is not enough
/// for who can give files to their owners, and one whose note cannot be read is none.
fn in_store(store: &Store, owners: Owners, wanted: &Wanted) -> Lacks {
    let dir = store.layer(&wanted.diff_id);
    let note = dir.as_ref().and_then(|dir| store.layer_note(dir).ok());
    let is_right =
        |dir: &Path| owners == Owners::Record || dir == store.layer_place(&wanted.diff_id, Owners::Apply);
    let has_folder = note.is_some() && dir.as_deref().is_some_and(is_right);
    let has_blob = match &wanted.blob {
        Some(blob) => has_blob(store, &blob.digest, blob.bytes),
        None => note.is_some_and(|note| has_blob(store, &note.blob, note.blob_bytes)),
    };
    Lacks { folder: !has_folder, blob: !has_blob }
}

/// The bytes that a layer's folder was made of.
fn kept_as(store: &Store, diff_id: &Digest) -> Option<Digest> {
    Some(store.layer_note(&store.layer(diff_id)?).ok()?.blob)
}

/// Whether the blob is there and is as long as it must be.
fn has_blob(store: &Store, digest: &Digest, bytes: u64) -> bool {
    std::fs::symlink_metadata(store.blob(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == bytes)
}

/// Whether what was read is what was said.
fn check(wanted: &Wanted, sums: &Sums) -> Result<(), StagingError> {
    let different = |object: &Digest, what, found: String| {
        Err(StagingError::Different { object: object.clone(), what, found })
    };
    match &wanted.blob {
        Some(blob) if sums.stored_bytes != blob.bytes => {
            different(&blob.digest, "its size in bytes", sums.stored_bytes.to_string())
        }
        Some(blob) if sums.stored != blob.digest => {
            different(&blob.digest, "its digest", sums.stored.to_string())
        }
        _ if sums.plain != wanted.diff_id => {
            different(&wanted.diff_id, "the digest of the unpacked layer", sums.plain.to_string())
        }
        _ => Ok(()),
    }
}

fn broken(error: FsError) -> StagingError {
    StagingError::Store(StoreError::Fs(error))
}

/// Writes what [`Staging::sync`] brings to the disk with everything else.
fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
    put_json(dir, name, value, replace_file)
}

/// Writes to what is in its place already.
fn rewrite_json(dir: &Path, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
    put_json(dir, name, value, replace_file_synced)
}

fn put_json(
    dir: &Path,
    name: &str,
    value: &impl Serialize,
    put: fn(BorrowedFd<'_>, &OsStr, &[u8], Mode) -> Result<(), FsError>,
) -> Result<(), StoreError> {
    let path = dir.join(name);
    let json = serde_json::to_vec(value).map_err(|source| StoreError::Json { path, source })?;
    let dir = open_dir(dir).map_err(StoreError::Fs)?;
    put(dir.as_fd(), OsStr::new(name), &json, Mode::RUSR | Mode::WUSR).map_err(StoreError::Fs)
}

/// Moves a folder to a place where nothing is yet: rename(2) replaces no folder that is not empty.
fn rename(from: &Path, to: &Path) -> Result<(), FsError> {
    std::fs::rename(from, to).map_err(|e| FsError::new("move a layer to", to, e))
}
