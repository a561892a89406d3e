//! The record of one running container on disk, and what is done about those whose command died.
//!
//! The truth is the lock of the container's folder: whoever runs a container holds it, and the kernel
//! gives it back however the holder ends. A folder whose lock is free belongs to nobody, and the next
//! command clears it away.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::names::{ContainerId, Digest, Name};
use crate::sys::fs::{self, FsError, Lock};
use crate::sys::process;

/// The version of the record's format; another one is left alone.
const VERSION: u32 = 2;
/// The record's file in the container's folder.
const RECORD: &str = "state.json";
/// Largest record, in bytes: all that can be in a plan fits.
const RECORD_BYTES_MAX: u64 = 8 << 20;
/// How long processes that a dead command left may take to end, once killed.
const END_PATIENCE: Duration = Duration::from_secs(5);

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
    /// What another command wrote is no record.
    #[error("`{path}` is not what cuddy writes")]
    Garbled {
        /// The record's file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// Another version of cuddy wrote the record.
    #[error("`{path}` has version {version}, and this cuddy knows version {VERSION}")]
    Version {
        /// The record's file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// A process that was killed is still there.
    #[error("process {pid} of container `{id}` still runs {} s after it was killed", END_PATIENCE.as_secs())]
    StillRuns {
        /// The container.
        id: ContainerId,
        /// The process.
        pid: i32,
    },
}

impl Fault for StateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::NameTaken { .. } => ErrorKind::Exists,
            Self::Json(_) => ErrorKind::Bug,
            Self::Garbled { .. } => ErrorKind::Corrupt,
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::StillRuns { .. } => ErrorKind::State,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NameTaken { .. } => vec!["choose another name, or end that container first".to_owned()],
            Self::Version { .. } => vec!["use the cuddy that wrote it, or another folder".to_owned()],
            Self::Fs(_) | Self::Json(_) | Self::Garbled { .. } | Self::StillRuns { .. } => Vec::new(),
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
    /// Volumes that end with the container. They are named as containers are, so that a record can name
    /// nothing else.
    pub volumes: Vec<ContainerId>,
}

/// What every version of the record says.
#[derive(Debug, Deserialize)]
struct Versioned {
    version: u32,
}

/// One container's place on disk, held by this process.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    root: PathBuf,
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
        if let Some(name) = &name {
            claim(&self.root.join("names"), name, &id).inspect_err(|_| remove_folder(&folder))?;
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
        Ok(Place { folder, root: self.root.clone(), record, is_recorded: false, lock })
    }

    /// What dead commands left, one after another: each is locked only while it is looked at. One whose
    /// record cannot be read is an error and stays as it is, for nobody knows what belongs to it.
    ///
    /// # Errors
    /// What the kernel says about the list of containers.
    pub fn leftovers(&self) -> Result<impl Iterator<Item = Result<Leftover, StateError>>, FsError> {
        let containers = self.root.join("containers");
        let entries = std::fs::read_dir(&containers).map_err(|e| FsError::new("list", &containers, e))?;
        Ok(entries.flatten().filter_map(|entry| {
            let id: ContainerId = entry.file_name().to_str()?.parse().ok()?;
            self.leftover(id).transpose()
        }))
    }

    fn leftover(&self, id: ContainerId) -> Result<Option<Leftover>, StateError> {
        let folder = self.root.join("containers").join(id.as_str());
        let lock = match Lock::try_folder(&folder) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let record = read_record(&folder)?;
        Ok(Some(Leftover { root: self.root.clone(), id, folder, record, _lock: lock }))
    }
}

/// The record in a container's folder; nothing where its command died before it had one.
fn read_record(folder: &Path) -> Result<Option<Record>, StateError> {
    let path = folder.join(RECORD);
    let bytes = match fs::read_file(&path, RECORD_BYTES_MAX) {
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let (said, record) = (serde_json::from_slice::<Versioned>(&bytes), serde_json::from_slice(&bytes));
    match (said, record) {
        // Only a first record can be cut off, and who died over it had not yet made what it tells of.
        (Err(e), _) if e.is_eof() => Ok(None),
        (Ok(said), _) if said.version != VERSION => Err(StateError::Version { path, version: said.version }),
        (Err(source), _) | (Ok(_), Err(source)) => Err(StateError::Garbled { path, source }),
        (Ok(_), Ok(record)) => Ok(Some(record)),
    }
}

/// The records of the containers below the data folder whose commands live. One that is not there yet is
/// passed over; one that cannot be read is an error in its place, for nobody knows what its container needs.
///
/// # Errors
/// What the kernel says about the list of containers.
pub fn living(data: &Path) -> Result<Vec<Result<Record, StateError>>, FsError> {
    let containers = data.join("containers");
    let entries = match std::fs::read_dir(&containers) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| FsError::new("list", &containers, e))?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|e| FsError::new("list", &containers, e))?.path();
        if Lock::is_held(&folder)? == Some(true) {
            records.extend(read_record(&folder).transpose());
        }
    }
    Ok(records)
}

/// What a dead command left, with the lock that says it is ours now.
#[derive(Debug)]
pub struct Leftover {
    root: PathBuf,
    id: ContainerId,
    folder: PathBuf,
    record: Option<Record>,
    _lock: Lock,
}

impl Leftover {
    /// The container.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The cgroup that its command may have made.
    pub fn cgroup(&self) -> Option<&Path> {
        self.record.as_ref()?.cgroup.as_deref()
    }

    /// Ends what still runs and waits for its end; the identity of a process is checked, not only its
    /// number.
    ///
    /// # Errors
    /// [`StateError::StillRuns`].
    pub fn end_processes(&self) -> Result<(), StateError> {
        let Some(record) = &self.record else { return Ok(()) };
        for identity in [record.init, record.stage].into_iter().flatten() {
            let Some(pidfd) = process::find_process(identity.pid, identity.start_time) else { continue };
            // It may end by itself in this moment; should it not be ours to end, waiting tells.
            let _ended = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            if !process::ends_within(pidfd.as_fd(), END_PATIENCE) {
                return Err(StateError::StillRuns { id: self.id.clone(), pid: identity.pid });
            }
        }
        Ok(())
    }

    /// Frees the container's names, then lets `remove` take its folders away.
    ///
    /// # Errors
    /// What `remove` says: the next command tries again.
    pub fn remove<E>(self, remove: impl FnOnce(&Folders) -> Result<(), E>) -> Result<(), E> {
        // A command that died between its name and its record left no other trace of the name.
        free_names_of(&self.root.join("names"), self.id.as_str().as_ref());
        let volumes = self.record.map(|record| record.volumes).unwrap_or_default();
        remove(&Folders { root: self.root, volumes, own: self.folder })
    }
}

impl Place {
    /// The container's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The empty folder on which every stage, in its own mount namespace, mounts what it keeps in memory.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The cgroup that is recorded for it.
    pub fn cgroup(&self) -> Option<&Path> {
        self.record.cgroup.as_deref()
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
            // A first one that is cut off is as good as none. Whether an image is needed is asked while no
            // container is being started, and then it is whole.
            fs::write_new_file(folder, RECORD.as_ref(), &text, mode)?;
            self.is_recorded = true;
        }
        Ok(())
    }

    /// Makes the volumes that end with the container: only once the record names them.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn make_volumes(&self) -> Result<(), FsError> {
        self.record.volumes.iter().try_for_each(|volume| make_volume(&self.root, volume.as_str()).map(drop))
    }

    /// Nothing of the container runs any more, and the kernel takes its namespaces apart: meanwhile its
    /// folder can go when nothing was written to it. What else must be cleared away stays written down.
    pub fn ended(&mut self) {
        if self.record.cgroup.is_none() && self.record.volumes.is_empty() {
            self.free_name();
            let _or_later = remove_untouched(&self.folder);
        }
    }

    /// Once: it may be another container's at once.
    fn free_name(&mut self) {
        if let Some(name) = self.record.name.take() {
            let _gone = rustix::fs::unlink(self.root.join("names").join(name.as_str()));
        }
    }

    /// Frees the container's name, then lets `remove` take its folders away.
    ///
    /// # Errors
    /// What `remove` says: the next command tries again.
    pub fn remove<E>(mut self, remove: impl FnOnce(&Folders) -> Result<(), E>) -> Result<(), E> {
        self.free_name();
        remove(&Folders { root: self.root, volumes: self.record.volumes, own: self.folder })
    }
}

/// Where the volume `name` lies below the data folder: `volumes/NAME/_data`.
pub fn volume_data(data: &Path, name: &str) -> PathBuf {
    data.join("volumes").join(name).join("_data")
}

/// Makes the folder of a volume when it is missing.
///
/// # Errors
/// What the kernel says.
pub fn make_volume(data: &Path, name: &str) -> Result<PathBuf, FsError> {
    let path = volume_data(data, name);
    fs::make_private_dirs(&path)?;
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o755))
        .map_err(|e| FsError::new("set the mode of", &path, e))?;
    Ok(path)
}

/// What ends with a container.
#[derive(Debug)]
pub struct Folders {
    root: PathBuf,
    volumes: Vec<ContainerId>,
    own: PathBuf,
}

impl Folders {
    /// Removes them: the container's own last, for it is how the next command finds what is left.
    ///
    /// # Errors
    /// What the kernel says: permission where the container's other ids made something.
    pub fn remove(&self) -> Result<(), FsError> {
        let volumes = self.root.join("volumes");
        self.volumes.iter().try_for_each(|volume| fs::remove_tree(&volumes.join(volume.as_str())))?;
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

    /// The leftovers, once there are so many: another test's child that has not executed its program yet
    /// holds every lock of this process.
    fn leftovers(places: &Places, count: usize) -> Vec<Result<Leftover, StateError>> {
        for _ in 0..TRIES_MAX {
            let found: Vec<_> = places.leftovers().unwrap().collect();
            if found.len() == count {
                return found;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("there are not {count} leftovers: {:?}", places.leftovers().unwrap().collect::<Vec<_>>());
    }

    fn is_free(folder: &Path) -> bool {
        (0..TRIES_MAX).any(|_| {
            let lock = Lock::try_folder(folder).unwrap();
            if lock.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            lock.is_some()
        })
    }

    const TRIES_MAX: u32 = 5_000;

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
        for leftover in leftovers(&places, 1) {
            leftover.unwrap().remove(Folders::remove).unwrap();
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
        let living: Vec<_> = living(dir.path()).unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(living.iter().map(|record| record.id.clone()).collect::<Vec<_>>(), [id(1)]);
        assert_eq!(living[0].layers, [PathBuf::from("/l")]);
        for leftover in leftovers(&places, 1) {
            let leftover = leftover.unwrap();
            assert_eq!(leftover.id(), &id(2));
            leftover.remove(Folders::remove).unwrap();
        }
        assert!(held.folder().exists());
        assert_eq!(std::fs::read_dir(dir.path().join("containers")).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(dir.path().join("names")).unwrap().count(), 0);
    }

    #[test]
    fn a_living_container_whose_record_cannot_be_read_is_no_container_that_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let mut held = places.take(id(1), None, "x").unwrap();
        assert!(living(dir.path()).unwrap().is_empty(), "it has none yet");
        held.save(|record| record.layers.push("/l".into())).unwrap();
        let path = held.folder().join(RECORD);
        let text = std::fs::read_to_string(&path).unwrap();
        for (wrong, kind) in [
            (text.replace("\"version\":2", "\"version\":3"), ErrorKind::Unsupported),
            ("no record".to_owned(), ErrorKind::Corrupt),
        ] {
            std::fs::write(&path, wrong).unwrap();
            let found = living(dir.path()).unwrap();
            assert_eq!(found.iter().map(|one| one.as_ref().unwrap_err().kind()).collect::<Vec<_>>(), [kind]);
        }
    }

    #[test]
    fn a_link_in_a_volume_leads_its_removal_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, volume) = (dir.path().join("outside"), dir.path().join("volumes").join(id(9).as_str()));
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
        place.save(|record| record.volumes = vec![id(9)]).unwrap();
        place.remove(Folders::remove).unwrap();
        assert!(!volume.exists());
        assert!(outside.join("work/incompat/volatile/dirty").exists());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(outside.join("work")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o750);
    }

    /// A dead container with this record.
    fn dead(places: &Places, byte: u8, record: &[u8]) -> PathBuf {
        let place = places.take(id(byte), None, "x").unwrap();
        std::fs::write(place.folder().join(RECORD), record).unwrap();
        place.folder().to_owned()
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let whole = serde_json::json!({
            "version": VERSION, "id": id(1), "name": null, "image": "x", "stage": null, "init": null,
            "cgroup": null, "volumes": [],
        });
        let with = |key: &str, value: serde_json::Value| {
            let mut record = whole.clone();
            record[key] = value;
            record.to_string().into_bytes()
        };
        let text = whole.to_string().into_bytes();
        for kept in [
            &with("version", (VERSION + 1).into())[..],
            &with("volumes", ["/etc"].into()),
            &with("volumes", [format!("../{}", id(1))].into()),
            b"garbled",
            &vec![b' '; usize::try_from(RECORD_BYTES_MAX).unwrap() + 1],
        ] {
            let folder = dead(&places, 1, kept);
            let found = leftovers(&places, 1);
            assert!(matches!(found[..], [Err(_)]), "{found:?}");
            fs::remove_tree(&folder).unwrap();
        }
        for none in [&b""[..], &text[..1], &text[..text.len() - 1]] {
            dead(&places, 1, none);
            let found = leftovers(&places, 1).remove(0).unwrap();
            assert!(found.record.is_none());
            found.remove(Folders::remove).unwrap();
        }
        dead(&places, 1, &text);
        assert!(leftovers(&places, 1).remove(0).unwrap().record.is_some());
    }

    #[test]
    fn what_dead_commands_left_is_held_one_after_another() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let folders = [1, 2, 3].map(|byte| dead(&places, byte, b""));
        for leftover in places.leftovers().unwrap() {
            let leftover = leftover.unwrap();
            for folder in folders.iter().filter(|folder| **folder != leftover.folder) {
                assert!(is_free(folder), "{folder:?}");
            }
        }
    }

    #[test]
    fn processes_of_a_dead_command_have_ended_when_its_folders_go() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        for _ in 0..32 {
            let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let identity = ProcessId::of(i32::try_from(child.id()).unwrap()).unwrap();
            let mut place = places.take(id(1), None, "x").unwrap();
            place.save(|record| record.init = Some(identity)).unwrap();
            drop(place);
            let held = process::find_process(identity.pid, identity.start_time).unwrap();
            let leftover = leftovers(&places, 1).remove(0).unwrap();
            leftover.end_processes().unwrap();
            assert!(process::has_ended(held.as_fd()));
            leftover.remove(Folders::remove).unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn volumes_are_made_after_they_are_recorded_and_end_with_their_container() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::open(dir.path()).unwrap();
        let mut place = places.take(id(1), None, "x").unwrap();
        place.make_volumes().unwrap();
        assert!(!dir.path().join("volumes").exists());
        place.save(|record| record.volumes = vec![id(2)]).unwrap();
        place.make_volumes().unwrap();
        let volume = volume_data(dir.path(), id(2).as_str());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&volume).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o755);
        drop(place);
        leftovers(&places, 1).remove(0).unwrap().remove(Folders::remove).unwrap();
        assert!(!volume.parent().unwrap().exists());
    }
}
