//! The record of one running container on disk, and what is done about those whose command died.
//!
//! The truth is the lock of the container's folder: whoever runs a container holds it, and the kernel
//! gives it back however the holder ends. A folder whose lock is free belongs to nobody, and the next
//! command clears it away.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::names::{ContainerId, Digest, Name};
use crate::sys::fs::{self, FsError, Lock};
use crate::sys::process;

/// The version of the record's format; another one is left alone.
const VERSION: u32 = 1;
/// The record's file in the container's folder.
const RECORD: &str = "state.json";
/// Largest record, in bytes.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// Why the record of a container cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("cannot keep the record of a container")]
    Fs(#[from] FsError),
    /// The name belongs to another container.
    #[error("the name `{name}` is in use by container `{holder}`")]
    NameTaken {
        /// The name.
        name: Name,
        /// The other container's id.
        holder: String,
    },
    /// The record does not become JSON.
    #[error("cannot write the record of a container")]
    Json(#[from] serde_json::Error),
}

impl Fault for StateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::NameTaken { .. } => ErrorKind::Exists,
            Self::Json(_) => ErrorKind::Bug,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NameTaken { .. } => vec!["choose another name, or end that container first".to_owned()],
            Self::Fs(_) | Self::Json(_) => Vec::new(),
        }
    }
}

/// A process of the host that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
}

impl ProcessId {
    /// The identity of a running process.
    pub fn of(pid: i32) -> Option<Self> {
        process::start_time_of(pid).map(|start_time| Self { pid, start_time })
    }
}

/// What must be known to clear a container away without the command that ran it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// The format.
    pub version: u32,
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: Option<Name>,
    /// The image as typed.
    pub image: String,
    /// The image's id, when it has one.
    #[serde(default)]
    pub image_id: Option<Digest>,
    /// Folders of the image's layers that it has mounted: they must stay.
    #[serde(default)]
    pub layers: Vec<PathBuf>,
    /// The stage, once it exists.
    pub stage: Option<ProcessId>,
    /// The first process, once it exists.
    pub init: Option<ProcessId>,
    /// The cgroup's folder on the host, when it has one.
    pub cgroup: Option<PathBuf>,
    /// Folders of volumes that end with the container.
    pub volumes: Vec<PathBuf>,
}

/// One container's place on disk, held by this process.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    scratch: PathBuf,
    names: PathBuf,
    record: Record,
    is_recorded: bool,
    lock: Lock,
}

/// Where containers are kept: `containers/ID` (its lock says who runs it), `names/NAME` (says the id),
/// `scratch` (where each stage, in its own mount namespace, keeps what only it sees).
#[derive(Debug)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// The places below the data folder, made when missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &Path) -> Result<Self, FsError> {
        for name in ["containers", "names", "scratch"] {
            let path = data.join(name);
            if rustix::fs::access(&path, rustix::fs::Access::EXISTS).is_err() {
                fs::make_private_dirs(&path)?;
            }
        }
        Ok(Self { root: data.to_owned() })
    }

    /// Takes a place for a new container.
    ///
    /// # Errors
    /// [`StateError::NameTaken`], or what the kernel says.
    pub fn take(&self, id: ContainerId, name: Option<Name>, image: &str) -> Result<Place, StateError> {
        let folder = self.root.join("containers").join(id.as_str());
        let lock = take_folder(&folder)?;
        let names = self.root.join("names");
        if let Some(name) = &name {
            claim(&names, name, &id).inspect_err(|_| remove_folder(&folder))?;
        }
        let record = Record {
            version: VERSION,
            id,
            name,
            image: image.to_owned(),
            image_id: None,
            layers: Vec::new(),
            stage: None,
            init: None,
            cgroup: None,
            volumes: Vec::new(),
        };
        let scratch = self.root.join("scratch");
        Ok(Place { folder, scratch, names, record, is_recorded: false, lock })
    }

    /// Clears away what dead commands left; gives the folders that only the container's own ids may
    /// remove, and the cgroups to be removed.
    ///
    /// # Errors
    /// What the kernel says about the list of containers; one that cannot be cleared is left for the
    /// next command.
    pub fn sweep(&self) -> Result<Vec<Leftover>, FsError> {
        let containers = self.root.join("containers");
        let mut leftovers = Vec::new();
        let entries = std::fs::read_dir(&containers).map_err(|e| FsError::new("list", &containers, e))?;
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_none_or(|n| n.parse::<ContainerId>().is_err()) {
                continue;
            }
            let folder = entry.path();
            let Ok(Some(lock)) = Lock::try_folder(&folder) else { continue };
            let record = fs::read_file(&folder.join(RECORD), RECORD_BYTES_MAX)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
                .filter(|record| record.version == VERSION);
            if let Some(record) = &record {
                end_processes(record);
            }
            leftovers.push(Leftover { names: self.root.join("names"), folder, record, _lock: lock });
        }
        Ok(leftovers)
    }
}

/// The records of the containers below the data folder whose commands live.
///
/// # Errors
/// What the kernel says about the list of containers; a record that is not there yet is passed over.
pub fn living(data: &Path) -> Result<Vec<Record>, FsError> {
    let containers = data.join("containers");
    let entries = match std::fs::read_dir(&containers) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| FsError::new("list", &containers, e))?,
    };
    let mut records = Vec::new();
    for entry in entries.flatten() {
        if Lock::is_held(&entry.path())? == Some(true) {
            let bytes = fs::read_file(&entry.path().join(RECORD), RECORD_BYTES_MAX).ok();
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            records.extend(record.filter(|record| record.version == VERSION));
        }
    }
    Ok(records)
}

/// What a dead command left, with the lock that says it is ours now.
#[derive(Debug)]
pub struct Leftover {
    names: PathBuf,
    /// The container's folder.
    pub folder: PathBuf,
    /// Its record, when it could be read.
    pub record: Option<Record>,
    _lock: Lock,
}

impl Leftover {
    /// Frees the container's names, then lets `remove` take its folders away.
    ///
    /// # Errors
    /// What `remove` says: the next command tries again.
    pub fn remove<E>(self, remove: impl FnOnce(&Folders) -> Result<(), E>) -> Result<(), E> {
        // A command that died between its name and its record left no other trace of the name.
        free_names_of(&self.names, self.folder.file_name().unwrap_or_default());
        let volumes = self.record.as_ref().map(|record| record.volumes.clone()).unwrap_or_default();
        remove(&Folders { volumes, own: self.folder.clone() })
    }
}

impl Place {
    /// The container's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The empty folder on which every stage, in its own mount namespace, mounts what it keeps in memory.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The container's identity.
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// Writes what is known now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn save(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), StateError> {
        change(&mut self.record);
        let text = serde_json::to_vec(&self.record)?;
        let (folder, mode) = (self.lock.as_fd(), Mode::from_raw_mode(0o600));
        if self.is_recorded {
            fs::replace_file(folder, RECORD.as_ref(), &text, mode)?;
        } else {
            // Nobody reads it while we live, and a first one that is cut off is as good as none.
            fs::write_new_file(folder, RECORD.as_ref(), &text, mode)?;
            self.is_recorded = true;
        }
        Ok(())
    }

    /// Nothing of the container runs any more. What only its folder would tell is gone before that itself
    /// is; what else must be cleared away stays written down.
    pub fn ended(&mut self) {
        if self.record.cgroup.is_none() && self.record.volumes.is_empty() {
            let _gone = rustix::fs::unlinkat(&self.lock, RECORD, AtFlags::empty());
        }
    }

    /// Frees the container's name, then lets `remove` take its folders away.
    ///
    /// # Errors
    /// What `remove` says: the next command tries again.
    pub fn remove<E>(self, remove: impl FnOnce(&Folders) -> Result<(), E>) -> Result<(), E> {
        if let Some(name) = &self.record.name {
            let _gone = rustix::fs::unlink(self.names.join(name.as_str()));
        }
        remove(&Folders { volumes: self.record.volumes.clone(), own: self.folder.clone() })
    }
}

/// What ends with a container.
#[derive(Debug)]
pub struct Folders {
    volumes: Vec<PathBuf>,
    own: PathBuf,
}

impl Folders {
    /// Removes them: the container's own last, for it is how the next command finds what is left.
    ///
    /// # Errors
    /// What the kernel says: permission where the container's other ids made something.
    pub fn remove(&self) -> Result<(), FsError> {
        self.volumes.iter().try_for_each(|volume| fs::remove_tree(volume))?;
        if remove_untouched(&self.own) { Ok(()) } else { fs::remove_tree(&self.own) }
    }
}

/// Makes a container's folder and takes its lock.
fn take_folder(folder: &Path) -> Result<Lock, FsError> {
    loop {
        match rustix::fs::mkdir(folder, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(FsError::new("make the folder", folder, e)),
        }
        match Lock::folder(folder) {
            // A sweep saw it before it was locked, and removed what belonged to nobody.
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
}

/// What stays is found by the next sweep.
fn remove_folder(folder: &Path) {
    let _gone = rustix::fs::rmdir(folder);
}

/// Ends what still runs; the stage's and the first process's identity is checked, not only the number.
fn end_processes(record: &Record) {
    for identity in [record.init, record.stage].into_iter().flatten() {
        if let Some(pidfd) = process::find_process(identity.pid, identity.start_time) {
            // It may end by itself in this moment.
            let _ended = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        }
    }
}

fn claim(names: &Path, name: &Name, id: &ContainerId) -> Result<(), StateError> {
    let path = names.join(name.as_str());
    match rustix::fs::symlink(id.as_str(), &path) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            let holder = std::fs::read_link(&path).map(|l| l.display().to_string()).unwrap_or_default();
            Err(StateError::NameTaken { name: name.clone(), holder: holder.chars().take(12).collect() })
        }
        Err(e) => Err(FsError::new("claim the name", path, e).into()),
    }
}

/// Removes every name that says this id.
fn free_names_of(names: &Path, id: &OsStr) {
    for entry in std::fs::read_dir(names).into_iter().flatten().flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|says| says.as_os_str() == id) {
            let _gone = rustix::fs::unlink(entry.path());
        }
    }
}

/// Removes the folder of a container that wrote nothing, as overlay leaves it: a few calls instead of a
/// walk, while somebody waits. `false` when there is more. Never for a folder in which the container could
/// have made a link.
fn remove_untouched(path: &Path) -> bool {
    // overlay's own folders have mode 000, and `volatile` leaves a mark in them.
    let volatile = path.join("work/work/incompat/volatile");
    let overlays: Vec<&Path> = volatile.ancestors().take(3).collect();
    if overlays.iter().rev().all(|folder| rustix::fs::chmod(*folder, Mode::from_raw_mode(0o700)).is_ok()) {
        let _gone = rustix::fs::unlink(volatile.join("dirty"));
        for folder in overlays {
            let _gone = rustix::fs::rmdir(folder);
        }
    }
    let _gone = rustix::fs::unlink(path.join(RECORD));
    for folder in ["work", "upper"] {
        let _gone = rustix::fs::rmdir(path.join(folder));
    }
    rustix::fs::rmdir(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_bytes(&[byte; 32])
    }

    #[test]
    fn a_name_belongs_to_one_container_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let name: Name = "web".parse().unwrap();
        let first = places.take(id(1), Some(name.clone()), "x").unwrap();
        let error = places.take(id(2), Some(name.clone()), "x").unwrap_err();
        assert!(matches!(error, StateError::NameTaken { .. }), "{error}");
        first.remove(Folders::remove).unwrap();
        places.take(id(2), Some(name), "x").unwrap();
    }

    #[test]
    fn a_name_without_a_record_is_free_after_the_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let name: Name = "web".parse().unwrap();
        // Taken, and dead before the first record.
        drop(places.take(id(1), Some(name.clone()), "x").unwrap());
        for leftover in places.sweep().unwrap() {
            leftover.remove(Folders::remove).unwrap();
        }
        places.take(id(2), Some(name), "x").unwrap();
    }

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let mut held = places.take(id(1), None, "x").unwrap();
        held.save(|record| record.layers.push("/l".into())).unwrap();
        let mut dead = places.take(id(2), Some("n".parse().unwrap()), "x").unwrap();
        dead.save(|_| {}).unwrap();
        std::fs::create_dir_all(dead.folder().join("upper/closed/deep")).unwrap();
        std::fs::set_permissions(
            dead.folder().join("upper/closed"),
            std::os::unix::fs::PermissionsExt::from_mode(0o000),
        )
        .unwrap();
        drop(dead);
        let living = living(dir.path()).unwrap();
        assert_eq!(living.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), [id(1)]);
        assert_eq!(living[0].layers, [PathBuf::from("/l")]);
        for leftover in places.sweep().unwrap() {
            assert!(leftover.folder.ends_with(id(2).as_str()));
            leftover.remove(Folders::remove).unwrap();
        }
        assert!(held.folder().exists());
        assert_eq!(std::fs::read_dir(dir.path().join("containers")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("names")).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_a_volume_leads_its_removal_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, volume) = (dir.path().join("outside"), dir.path().join("volume"));
        for folder in [&outside.join("work/incompat/volatile"), &outside.join("upper"), &volume] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(outside.join("work/incompat/volatile/dirty"), "").unwrap();
        std::fs::set_permissions(outside.join("work"), std::os::unix::fs::PermissionsExt::from_mode(0o750))
            .unwrap();
        for name in ["work", "upper"] {
            std::os::unix::fs::symlink(&outside, volume.join(name)).unwrap();
        }
        let places = Places::open(dir.path()).unwrap();
        let mut place = places.take(id(1), None, "x").unwrap();
        place.save(|record| record.volumes = vec![volume.clone()]).unwrap();
        place.remove(Folders::remove).unwrap();
        assert!(!volume.exists());
        assert!(outside.join("work/incompat/volatile/dirty").exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(outside.join("work")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o750);
    }
}
