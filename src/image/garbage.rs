//! What nothing needs any more: no image, no lease, no container. It is found and moved aside while the
//! gate is closed, which takes milliseconds; it is removed afterwards, while everybody goes on.
//!
//! ```text
//! owed                   a collection is due: one was not finished, or something unnamed is still in use
//! ```

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use crate::image::index::Index;
use crate::image::leases::{self, Closed};
use crate::image::lids;
use crate::image::store::{ObjectLock, Store, StoreError};
use crate::names::Digest;
use crate::sys::fs::{FsError, Lock, open_dir, remove_at};

/// A collection that has begun: nobody begins to need anything until it is carried out.
#[derive(Debug)]
pub struct Collection<'s> {
    store: &'s Store,
    // Before the lock: the gate opens first, nobody who starts a container waits for a load.
    _closed: Closed,
    index: Lock,
}

/// What went from the store and is still on disk, aside.
#[derive(Debug)]
#[must_use = "it is removed by `remove`"]
pub struct Garbage {
    aside: Option<Aside>,
    /// Bytes of files that it holds.
    pub bytes: u64,
}

#[derive(Debug)]
struct Aside {
    tmp: PathBuf,
    name: OsString,
    _lock: ObjectLock,
}

/// The folders of the store that are looked through. What is plain has one digest as a blob and as a
/// layer, and may be needed as only one of them.
const BLOBS: &str = "blobs/sha256";
const LAYERS: &str = "layers";
/// The folder in a layer's folder that has the lids of the stacks that end in it (`image::lids`).
const LIDS: &str = "lids";

/// What must stay: folder and file name; of a lid the layer's name and its own.
#[derive(Default)]
struct Needed {
    /// By an image.
    named: BTreeSet<(&'static str, String)>,
    /// By a lease or a container, whether an image names it or not.
    used: BTreeSet<(&'static str, String)>,
}

impl Store {
    /// Begins a collection: waits until nobody changes the index or is inside the gate.
    ///
    /// # Errors
    /// `Busy` when they do not end, or `Fs`.
    pub fn begin_collection(&self) -> Result<Collection<'_>, StoreError> {
        self.begin_collection_until(Instant::now() + leases::PATIENCE)
    }

    fn begin_collection_until(&self, until: Instant) -> Result<Collection<'_>, StoreError> {
        // First: while the gate is closed no container starts, so that nothing is waited for then. A
        // load that brings things in and names them holds this lock meanwhile.
        let index = self.lock_index_until(until)?;
        let closed = leases::close(self.dir(), until).map_err(StoreError::Fs)?;
        Ok(Collection { store: self, _closed: closed.ok_or(StoreError::Busy)?, index })
    }

    /// Says that a collection is due: the next command that opens the store carries it out.
    ///
    /// # Errors
    /// `Fs`.
    pub fn owe_collection(&self) -> Result<(), StoreError> {
        let owed = self.dir().join("owed");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let marked = rustix::fs::open(&owed, flags, Mode::RUSR | Mode::WUSR);
        marked.map(drop).map_err(|e| StoreError::Fs(FsError::new("make the file", owed, e)))
    }

    /// Whether a collection is due, because a command died or something was still in use.
    ///
    /// # Errors
    /// `Fs`.
    pub fn owes_collection(&self) -> Result<bool, StoreError> {
        let is_owed = rustix::fs::access(self.dir().join("owed"), rustix::fs::Access::EXISTS).is_ok();
        Ok(is_owed || leases::has_dead(self.dir()).map_err(StoreError::Fs)?)
    }
}

impl Collection<'_> {
    /// Changes the index, then moves aside what nothing needs. `folders` are those that containers have
    /// mounted, asked for after the collection began.
    ///
    /// # Errors
    /// What `change` says, and then nothing has changed; or `Fs`: the next command goes on.
    pub fn carry_out<T, E: From<StoreError>>(
        self,
        folders: &BTreeSet<PathBuf>,
        change: impl FnOnce(&mut Index) -> Result<T, E>,
    ) -> Result<(T, Garbage), E> {
        self.store.owe_collection()?;
        let changed = self.store.change_locked(&self.index, change)?;
        let garbage = self.sweep_aside(folders)?;
        Ok((changed, garbage))
    }

    fn sweep_aside(&self, folders: &BTreeSet<PathBuf>) -> Result<Garbage, StoreError> {
        let store = self.store;
        let leases = leases::all(store.dir()).map_err(StoreError::Fs)?;
        let needed = needed(store, &store.index()?, &leases.relied_on, folders);
        let mut garbage = Garbage { aside: None, bytes: 0 };
        let mut is_all_named = true;
        let mut take = |part: &'static str, dir: &Path, name: &OsStr, key: String| {
            let key = (part, key);
            let is_named = needed.named.contains(&key);
            if is_named || needed.used.contains(&key) {
                is_all_named &= is_named;
                return Ok(true);
            }
            garbage.bytes = garbage.bytes.saturating_add(store.size(&dir.join(name)));
            garbage.take(store, dir, name, &key)?;
            Ok::<_, StoreError>(false)
        };
        for part in [BLOBS, LAYERS] {
            let dir = store.dir().join(part);
            for name in names_in(&dir)? {
                let text = name.to_string_lossy().into_owned();
                let lids = dir.join(&name).join(LIDS);
                if take(part, &dir, &name, text.clone())? && part == LAYERS && lids.exists() {
                    for lid in names_in(&lids)? {
                        take(LIDS, &lids, &lid, format!("{text}.{}", lid.to_string_lossy()))?;
                    }
                }
            }
        }
        for dead in &leases.dead {
            remove_file(dead)?;
        }
        if is_all_named {
            remove_file(&store.dir().join("owed"))?;
        }
        Ok(garbage)
    }
}

impl Garbage {
    fn take(
        &mut self,
        store: &Store,
        dir: &Path,
        name: &OsStr,
        (part, key): &(&'static str, String),
    ) -> Result<(), StoreError> {
        if self.aside.is_none() {
            let key = store.fresh_key()?;
            let lock = store.lock(&key)?;
            let path = store.tmp().join(&key);
            let made = rustix::fs::mkdir(&path, Mode::RWXU);
            made.map_err(|e| StoreError::Fs(FsError::new("make the folder", path, e)))?;
            self.aside = Some(Aside { tmp: store.tmp(), name: key.into(), _lock: lock });
        }
        let Some(aside) = &self.aside else { return Ok(()) };
        // A blob and a layer may have the same digest: a layer that came without compression.
        let to = aside.tmp.join(&aside.name).join(format!("{}.{key}", part.replace('/', ".")));
        std::fs::rename(dir.join(name), &to).map_err(|e| StoreError::Fs(FsError::new("move aside to", to, e)))
    }

    /// Removes it from the disk. Files of other ids go only from inside their user namespace.
    ///
    /// # Errors
    /// What the kernel says; what stays is tried again by the next command.
    pub fn remove(&self) -> Result<(), FsError> {
        let Some(aside) = &self.aside else { return Ok(()) };
        let tmp = open_dir(&aside.tmp)?;
        remove_at(tmp.as_fd(), &aside.name)
            .map_err(|e| FsError::new("remove", aside.tmp.join(&aside.name), e))
    }
}

fn needed(store: &Store, index: &Index, relied_on: &BTreeSet<String>, folders: &BTreeSet<PathBuf>) -> Needed {
    let mut needed = Needed::default();
    for (id, record) in &index.images {
        needed.named.extend(record.blobs().chain([id]).map(|digest| (BLOBS, digest.hex().to_owned())));
        // Of two forms of a layer the one with true owners is enough.
        let layers = record.layers.iter().filter_map(|layer| store.layer(&layer.diff_id));
        needed.named.extend(layers.filter_map(|dir| Some((LAYERS, last_name(&dir)?))));
        let diff_ids: Vec<Digest> = record.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let lid = store.stack(&diff_ids).and_then(|dirs| lids::place(&diff_ids, &dirs));
        needed.named.extend(lid.and_then(|lid| lid_key(&lid)));
    }
    for hex in relied_on {
        needed.used.extend([(BLOBS, hex.clone()), (LAYERS, hex.clone()), (LAYERS, format!("{hex}.flat"))]);
    }
    for dir in folders.iter().filter_map(|fs| fs.parent()) {
        needed.used.extend(lid_key(dir).or_else(|| Some((LAYERS, last_name(dir)?))));
    }
    needed
}

/// The key of the lid in this folder, when it is that of a lid: `layers/LAYER/lids/STACK`.
fn lid_key(dir: &Path) -> Option<(&'static str, String)> {
    let lids = dir.parent().filter(|lids| lids.ends_with(LIDS))?;
    Some((LIDS, format!("{}.{}", last_name(lids.parent()?)?, last_name(dir)?)))
}

fn last_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn names_in(dir: &Path) -> Result<Vec<OsString>, StoreError> {
    let wrong = |e| StoreError::Fs(FsError::new("list", dir, e));
    let entries = std::fs::read_dir(dir).map_err(wrong)?;
    entries.map(|entry| entry.map(|entry| entry.file_name()).map_err(wrong)).collect()
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::Fs(FsError::new("remove", path, e)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_that_cannot_have_the_index_leaves_the_gate_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let load = store.lock_index().unwrap();
        assert!(matches!(store.begin_collection_until(Instant::now()), Err(StoreError::Busy)));
        assert_eq!(Lock::is_held(&dir.path().join("gate")).unwrap(), Some(false));
        drop(load);
        let collection = store.begin_collection().unwrap();
        assert!(matches!(store.lock_index_until(Instant::now()), Err(StoreError::Busy)), "held to its end");
        assert_eq!(Lock::is_held(&dir.path().join("gate")).unwrap(), Some(true));
        drop(collection);
        store.enter().unwrap();
    }
}
