//! The record of one running container on disk, and what is done about those whose command died.
//!
//! The truth is the lock: whoever runs a container holds it, and the kernel gives it back however the
//! holder ends. A record whose lock is free belongs to nobody, and the next command clears it away.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::names::{ContainerId, Digest, Name};
use crate::sys::fs::{self, FsError, Lock};
use crate::sys::process;

/// The version of the record's format; another one is left alone.
const VERSION: u32 = 1;
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
    live: PathBuf,
    names: PathBuf,
    fd: OwnedFd,
    record: Record,
    _lock: Lock,
}

/// Where containers are kept: `containers/ID`, `live/ID` (the lock), `names/NAME` (says the id).
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
        for name in ["containers", "live", "names"] {
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
        let live = self.root.join("live").join(id.as_str());
        let lock = Lock::exclusive(&live)?;
        let names = self.root.join("names");
        if let Some(name) = &name {
            claim(&names, name, &id).inspect_err(|_| remove_file(&live))?;
        }
        let folder = self.root.join("containers").join(id.as_str());
        rustix::fs::mkdir(&folder, Mode::from_raw_mode(0o700))
            .map_err(|e| FsError::new("make the folder", &folder, e))?;
        let fd = fs::open_dir(&folder)?;
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
        Ok(Place { folder, live, names, fd, record, _lock: lock })
    }

    /// Clears away what dead commands left; gives the folders that only the container's own ids may
    /// remove, and the cgroups to be removed.
    ///
    /// # Errors
    /// What the kernel says about the list of containers; one that cannot be cleared is left for the
    /// next command.
    pub fn sweep(&self) -> Result<Vec<Leftover>, FsError> {
        let live = self.root.join("live");
        let mut leftovers = Vec::new();
        let entries = std::fs::read_dir(&live).map_err(|e| FsError::new("list", &live, e))?;
        for entry in entries.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| n.parse::<ContainerId>().ok()) else {
                continue;
            };
            let Ok(Some(lock)) = Lock::try_exclusive(&entry.path()) else { continue };
            let folder = self.root.join("containers").join(id.as_str());
            let record = fs::read_file(&folder.join("state.json"), RECORD_BYTES_MAX)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok())
                .filter(|record| record.version == VERSION);
            if let Some(record) = &record {
                end_processes(record);
            }
            leftovers.push(Leftover {
                live: entry.path(),
                names: self.root.join("names"),
                folder,
                record,
                _lock: lock,
            });
        }
        Ok(leftovers)
    }
}

/// The records of the containers below the data folder whose commands live.
///
/// # Errors
/// What the kernel says about the list of containers; a record that is not there yet is passed over.
pub fn living(data: &Path) -> Result<Vec<Record>, FsError> {
    let live = data.join("live");
    let entries = match std::fs::read_dir(&live) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| FsError::new("list", &live, e))?,
    };
    let mut records = Vec::new();
    for entry in entries.flatten() {
        if Lock::is_held(&entry.path())? == Some(true) {
            let path = data.join("containers").join(entry.file_name()).join("state.json");
            let bytes = fs::read_file(&path, RECORD_BYTES_MAX).ok();
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            records.extend(record.filter(|record| record.version == VERSION));
        }
    }
    Ok(records)
}

/// What a dead command left, with the lock that says it is ours now.
#[derive(Debug)]
pub struct Leftover {
    live: PathBuf,
    names: PathBuf,
    /// The container's folder.
    pub folder: PathBuf,
    /// Its record, when it could be read.
    pub record: Option<Record>,
    _lock: Lock,
}

impl Leftover {
    /// All folders that end with the container.
    pub fn folders(&self) -> Vec<PathBuf> {
        let volumes = self.record.iter().flat_map(|record| record.volumes.iter().cloned());
        std::iter::once(self.folder.clone()).chain(volumes).collect()
    }

    /// Removes the container's folder and its names; what other ids own stays for another try.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(self) -> Result<(), FsError> {
        remove_tree(&self.folder)?;
        for volume in self.record.iter().flat_map(|record| &record.volumes) {
            remove_tree(volume)?;
        }
        // A command that died between its name and its record left no other trace of the name.
        free_names_of(&self.names, self.live.file_name().unwrap_or_default());
        remove_file(&self.live);
        Ok(())
    }
}

impl Place {
    /// The container's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The container's identity.
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// All folders that end with the container.
    pub fn folders(&self) -> Vec<PathBuf> {
        std::iter::once(self.folder.clone()).chain(self.record.volumes.iter().cloned()).collect()
    }

    /// Writes what is known now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn save(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), StateError> {
        change(&mut self.record);
        let text = serde_json::to_vec(&self.record)?;
        fs::replace_file(self.fd.as_fd(), "state.json".as_ref(), &text, Mode::from_raw_mode(0o600))?;
        Ok(())
    }

    /// Removes everything of the container.
    ///
    /// # Errors
    /// What the kernel says; the next command tries again.
    pub fn remove(self) -> Result<(), FsError> {
        remove_tree(&self.folder)?;
        for volume in &self.record.volumes {
            remove_tree(volume)?;
        }
        if let Some(name) = &self.record.name {
            remove_file(&self.names.join(name.as_str()));
        }
        remove_file(&self.live);
        Ok(())
    }
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
            remove_file(&entry.path());
        }
    }
}

/// A file that is gone already is as good as removed.
fn remove_file(path: &Path) {
    let _gone = rustix::fs::unlink(path);
}

/// Removes a folder with all that is in it, also what the kernel's overlay left closed.
///
/// # Errors
/// What the kernel says.
pub fn remove_tree(path: &Path) -> Result<(), FsError> {
    // overlay's own `work/work` has mode 000: it is always empty once unmounted.
    let _opened = rustix::fs::chmod(path.join("work/work"), Mode::from_raw_mode(0o700));
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            open_folders(path);
            std::fs::remove_dir_all(path).map_err(|e| FsError::new("remove", path, e))
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FsError::new("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes folders that the container closed readable again for their owner, us.
fn open_folders(path: &Path) {
    let _opened = rustix::fs::chmodat(rustix::fs::CWD, path, Mode::from_raw_mode(0o700), AtFlags::empty());
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_folders(&entry.path());
        }
    }
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
        first.remove().unwrap();
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
            leftover.remove().unwrap();
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
            leftover.remove().unwrap();
        }
        assert!(held.folder().exists());
        assert_eq!(std::fs::read_dir(dir.path().join("containers")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("live")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("names")).unwrap().count(), 0);
    }
}
