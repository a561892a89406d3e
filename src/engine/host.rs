//! The host: who calls, where cuddy keeps its files, what the environment says.
//!
//! With `main` the only place that reads the environment; components are told where they live.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::idmap::{IdMap, SubRange, subordinate_ranges};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs::{self, FsError};

/// Largest `/etc/passwd`, `/etc/subuid` and their like that is read, in bytes.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// The ids that root gives away when `/etc/subuid` names none for it: above those of people, of
/// useradd(8) and of systemd's own containers (systemd.io, "Users, Groups, UIDs and GIDs").
const ROOT_IDS: SubRange = SubRange { start: 1_900_000_000, count: 65_536 };

/// Why cuddy cannot work for this caller.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no folder to keep files in.
    #[error(
        "neither XDG_DATA_HOME nor HOME names an absolute folder, so there is no place for cuddy's files"
    )]
    NoHome,
    /// The current folder is gone.
    #[error("the current folder cannot be found")]
    NoCwd(#[source] std::io::Error),
    /// Whoever owns the folder decides what cuddy removes.
    #[error("`{path}` belongs to user {owner}, and cuddy runs as user {uid}")]
    NotOurs {
        /// The data folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        uid: u32,
    },
    /// Whoever can write to the folder decides what cuddy removes.
    #[error("`{path}` can be written by other users: its mode is {mode:04o}")]
    Open {
        /// The data folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The folder could not be made.
    #[error("cannot open cuddy's own folder")]
    Data(#[from] FsError),
}

impl Fault for HostError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoHome => ErrorKind::Usage,
            Self::NoCwd(_) => ErrorKind::NotFound,
            Self::NotOurs { .. } | Self::Open { .. } => ErrorKind::Denied,
            Self::Data(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoHome => vec!["say where: `XDG_DATA_HOME=/path cuddy …`".to_owned()],
            Self::NoCwd(_) => vec!["`cd` to a folder that exists".to_owned()],
            Self::NotOurs { .. } => {
                vec![
                    "name a folder of this user's own: `XDG_DATA_HOME=/path cuddy …`; with sudo, `sudo -H`"
                        .to_owned(),
                ]
            }
            Self::Open { path, .. } => {
                vec![format!("`chmod go-w {}`, if nobody else has used it", path.display())]
            }
            Self::Data(_) => Vec::new(),
        }
    }
}

/// The caller and its folders.
#[derive(Debug)]
pub struct Host {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Login name by `/etc/passwd`, the number when it has none.
    pub login: String,
    /// Home folder by the environment.
    pub home: Option<PathBuf>,
    /// Current folder.
    pub cwd: PathBuf,
    /// Where images, containers and volumes are.
    pub data: PathBuf,
    /// `XDG_RUNTIME_DIR`, when it is set.
    pub runtime: Option<PathBuf>,
    /// Folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// The file mode mask that the caller's programs have.
    pub umask: u32,
    /// The folder of Docker's `config.json` that was typed (`--config`).
    pub docker_config: Option<PathBuf>,
    /// The whole environment, for what a flag copies by name.
    pub environment: BTreeMap<String, String>,
}

impl Host {
    /// Reads the environment, once, at the start of the command.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn from_environment() -> Result<Self, HostError> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let folder = |name: &str| environment.get(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = folder("HOME");
        let data = match (folder("XDG_DATA_HOME"), &home) {
            (Some(data), _) => data.join("cuddy"),
            (None, Some(home)) => home.join(".local/share/cuddy"),
            (None, None) => return Err(HostError::NoHome),
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let path = environment.get("PATH").map(|p| std::env::split_paths(p).collect()).unwrap_or_default();
        // The mask can only be read by setting it: this process has one thread and makes no file between.
        let umask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        rustix::process::umask(umask);
        let umask = umask.as_raw_mode();
        let cwd = std::env::current_dir().map_err(HostError::NoCwd)?;
        Ok(Self {
            uid,
            gid,
            login: login_name(uid),
            home,
            cwd,
            data,
            runtime: folder("XDG_RUNTIME_DIR"),
            path,
            umask,
            docker_config: None,
            environment,
        })
    }

    /// Refuses a data folder that is there and not ours alone: whatever lies in it would be believed.
    ///
    /// # Errors
    /// Whose it is, or who may write to it.
    pub fn require_own_data(&self) -> Result<(), HostError> {
        match require_own(&self.data, self.uid) {
            Err(HostError::Data(e)) if e.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Makes the data folder when it is missing.
    ///
    /// # Errors
    /// [`HostError::Data`], or that it is not ours alone.
    pub fn open_data(&self) -> Result<(), HostError> {
        fs::make_private_dirs(&self.data)?;
        // Not `self.uid`: a verb may be where the caller's own ids have other numbers by now.
        require_own(&self.data, rustix::process::geteuid().as_raw())
    }

    /// The caller's subordinate user and group ids; empty without `newuidmap`, unless root.
    fn subordinate_ids(&self) -> (Vec<SubRange>, Vec<SubRange>) {
        let has_helpers = ["newuidmap", "newgidmap"].iter().all(|name| self.find_program(name).is_some());
        if self.uid != 0 && !has_helpers {
            return (Vec::new(), Vec::new());
        }
        let read = |path: &str, id| {
            let text = fs::read_file(Path::new(path), TABLE_BYTES_MAX).unwrap_or_default();
            subordinate_ranges(&String::from_utf8_lossy(&text), &self.login, id)
        };
        let ranges = (read("/etc/subuid", self.uid), read("/etc/subgid", self.uid));
        match self.uid {
            0 if ranges.0.is_empty() || ranges.1.is_empty() => (vec![ROOT_IDS], vec![ROOT_IDS]),
            _ => ranges,
        }
    }

    /// The caller as 0 and its subordinate ids behind it; `None` when there are none.
    pub fn subordinate_map(&self) -> Option<IdMap> {
        let (uids, gids) = self.subordinate_ids();
        let has_both = !uids.is_empty() && !gids.is_empty();
        has_both.then(|| IdMap::with_subordinates((self.uid, self.gid), &uids, &gids))
    }

    /// Every id of the host as itself: what root may ask for with `--userns host`.
    ///
    /// # Errors
    /// When our own maps cannot be read.
    pub fn identity_map(&self) -> Result<IdMap, Error> {
        let read = |path: &str| {
            let bytes = fs::read_file(Path::new(path), TABLE_BYTES_MAX)?;
            Ok::<_, FsError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(IdMap::identity(&read("/proc/self/uid_map")?, &read("/proc/self/gid_map")?))
    }

    /// A program of the caller's `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let runs = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
        self.path.iter().map(|dir| dir.join(name)).find(runs)
    }
}

/// Refuses a folder that another user than `uid` owns or may write to: what lies in it is believed, and
/// root would remove for that user what it names.
fn require_own(path: &Path, uid: u32) -> Result<(), HostError> {
    let stat = rustix::fs::stat(path).map_err(|e| FsError::new("look at", path, e))?;
    let (path, mode) = (path.to_owned(), stat.st_mode & 0o7777);
    match (stat.st_uid == uid, mode & 0o022) {
        (false, _) => Err(HostError::NotOurs { path, owner: stat.st_uid, uid }),
        (true, 0) => Ok(()),
        (true, _) => Err(HostError::Open { path, mode }),
    }
}

/// The name of a user, by `/etc/passwd` alone: no C library looks anything up for us.
fn login_name(uid: u32) -> String {
    let text = fs::read_file(Path::new("/etc/passwd"), TABLE_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let number = uid.to_string();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    found.unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_data_folder_that_another_user_owns_or_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        require_own(dir.path(), uid).unwrap();
        let error = require_own(dir.path(), uid + 1).unwrap_err();
        assert!(matches!(error, HostError::NotOurs { .. }) && error.kind() == ErrorKind::Denied, "{error}");
        for mode in [0o770, 0o702, 0o1777] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            let error = require_own(dir.path(), uid).unwrap_err();
            assert!(matches!(error, HostError::Open { .. }) && error.kind() == ErrorKind::Denied, "{error}");
        }
    }
}
