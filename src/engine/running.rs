//! The gateways that run: a folder for each in the runtime folder, with what it says of itself and the socket
//! that it listens on. It asks them; what they answer is `mcp/control`.
//!
//! The truth is the lock of the gateway's folder: the gateway holds it, and the kernel gives it back however
//! the gateway ends. A folder whose lock is free belongs to nobody, and whoever looks next removes it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use crate::container::state;
use crate::engine::host::Host;
use crate::engine::status::{Snapshot, VERSION};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs::{self, FsError, Lock};

/// What a gateway says of itself, in its folder.
const STATE: &str = "state.json";
/// Its socket there.
pub const SOCKET: &str = "control";
/// Largest answer of a gateway, in bytes: 1,000 servers of 16 KiB each.
pub const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Longest question, in bytes.
pub const QUESTION_BYTES_MAX: u64 = 64 << 10;
/// How long a gateway may take to answer; ending servers has a deadline of its own below that.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a gateway may take to say how it stands.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);
/// Largest file of a cgroup and of `/proc` that is read, in bytes.
const KERNEL_BYTES_MAX: u64 = 64 << 10;

/// Why gateways cannot be found or asked.
#[derive(Debug, thiserror::Error)]
pub enum RunningError {
    /// A file operation failed.
    #[error("cannot keep the record of a gateway")]
    Fs(#[from] FsError),
    /// What it says of itself does not become JSON.
    #[error("cannot write the record of a gateway")]
    Json(#[from] serde_json::Error),
    /// It does not answer.
    #[error("gateway `{id}` (process {pid}) does not answer")]
    Silent {
        /// The gateway.
        id: String,
        /// Its process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// It answers something else.
    #[error("gateway `{id}` answers something that this cuddy does not understand")]
    Strange {
        /// The gateway.
        id: String,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
}

impl Fault for RunningError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::Json(_) => ErrorKind::Bug,
            Self::Silent { .. } => ErrorKind::Unreachable,
            Self::Strange { .. } => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Silent { pid, .. } => vec![format!("look at it: `ps {pid}`; end it: `kill {pid}`")],
            Self::Strange { .. } => vec!["it may be of another version of cuddy".to_owned()],
            Self::Fs(_) | Self::Json(_) => Vec::new(),
        }
    }
}

/// What a gateway can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Question {
    /// How it and its servers stand.
    Snapshot,
    /// End a server's sandboxes and start none until asked.
    Stop {
        /// The server.
        server: String,
    },
    /// Start a server that was stopped, failed or given up.
    Start {
        /// The server.
        server: String,
    },
    /// What of a server's definitions is accepted has changed on disk.
    Accepted {
        /// The server.
        server: String,
    },
    /// End everything.
    End,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// How it stands.
    Snapshot(Box<Snapshot>),
    /// It is done.
    Done,
    /// It is not, and why.
    Failed {
        /// Why.
        error: Error,
    },
}

/// Where gateways have their folders: the runtime folder, unless it is not ours alone (`sudo` keeps the caller's).
fn root(host: &Host) -> PathBuf {
    let is_ours = |path: &&PathBuf| {
        path.metadata().is_ok_and(|meta| meta.uid() == host.uid && meta.mode() & 0o022 == 0)
    };
    match host.runtime.as_ref().filter(is_ours) {
        Some(runtime) => runtime.join("cuddy/gateways"),
        None => host.data.join("run/gateways"),
    }
}

/// The folder of one gateway that runs: it goes when this value does.
#[derive(Debug)]
pub struct Place {
    id: String,
    folder: PathBuf,
    open: OwnedFd,
    _lock: Lock,
}

impl Place {
    /// Takes a folder for this process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(host: &Host) -> Result<Self, RunningError> {
        let root = root(host);
        fs::make_private_dirs(&root)?;
        sweep(&root)?;
        loop {
            let mut random = [0_u8; 6];
            fs::random_bytes(&mut random).map_err(|e| FsError::new("read", "/dev/urandom", e))?;
            let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let folder = root.join(&id);
            match rustix::fs::mkdir(&folder, Mode::RWXU) {
                Err(rustix::io::Errno::EXIST) => continue,
                other => other.map_err(|e| FsError::new("make the folder", &folder, e))?,
            }
            // Whoever sweeps may be quicker than our lock, and takes the folder away again.
            match Lock::try_folder(&folder) {
                Ok(Some(lock)) => {
                    let open = fs::open_dir(&folder)?;
                    return Ok(Self { id, folder, open, _lock: lock });
                }
                Ok(None) => {}
                Err(e) if e.source.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The gateway's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the socket belongs: a path for as long as this value lives, short however deep the folder lies.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.open.as_raw_fd()))
    }

    /// Writes how the gateway stands, for when it does not answer.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), RunningError> {
        let bytes = serde_json::to_vec(snapshot)?;
        Ok(fs::replace_file(self.open.as_fd(), OsStr::new(STATE), &bytes, Mode::from_raw_mode(0o600))?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is found by whoever looks next.
        let _gone = fs::remove_tree(&self.folder);
    }
}

/// A gateway that runs.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its id.
    pub id: String,
    folder: PathBuf,
    /// What it last wrote of itself.
    pub written: Snapshot,
}

impl Gateway {
    /// Asks it something and waits for the answer, but not for ever.
    ///
    /// # Errors
    /// [`RunningError::Silent`], [`RunningError::Strange`], or what the gateway answers.
    pub fn ask(&self, question: &Question) -> Result<Option<Snapshot>, Error> {
        let patience = if *question == Question::Snapshot { SNAPSHOT_PATIENCE } else { PATIENCE };
        let silent = |source| RunningError::Silent { id: self.id.clone(), pid: self.written.pid, source };
        let mut text = serde_json::to_vec(question).map_err(RunningError::from)?;
        text.push(b'\n');
        let bytes = exchange(&self.folder, &text, patience).map_err(silent)?;
        let strange = |source| RunningError::Strange { id: self.id.clone(), source };
        match serde_json::from_slice(&bytes).map_err(strange)? {
            Answer::Snapshot(snapshot) => Ok(Some(*snapshot)),
            Answer::Done => Ok(None),
            Answer::Failed { error } => Err(error),
        }
    }

    /// How it stands: by its own word, or what it last wrote and why it does not answer.
    pub fn snapshot(&self) -> (Snapshot, Option<Error>) {
        match self.ask(&Question::Snapshot) {
            Ok(Some(snapshot)) => (snapshot, None),
            Ok(None) => (self.written.clone(), None),
            Err(error) => (self.written.clone(), Some(error)),
        }
    }
}

fn exchange(folder: &Path, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let open = fs::open_dir(folder).map_err(|e| e.source)?;
    let mut socket = UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    socket.write_all(question)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The gateways that run, oldest first; what killed ones left is removed.
///
/// # Errors
/// What the kernel says.
pub fn living(host: &Host) -> Result<Vec<Gateway>, RunningError> {
    let root = root(host);
    let mut found = Vec::new();
    for folder in sweep(&root)? {
        let path = folder.join(STATE);
        let bytes = match fs::read_file(&path, ANSWER_BYTES_MAX) {
            // It has only just begun, or has just ended.
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // Of another version we still know that it is there.
        let written: Snapshot = serde_json::from_slice(&bytes).unwrap_or_default();
        let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let written = if written.version == VERSION { written } else { Snapshot::default() };
        found.push(Gateway { id, folder, written });
    }
    found.sort_by_key(|gateway| gateway.written.started_ms);
    Ok(found)
}

/// Removes folders whose lock is free; gives the others.
fn sweep(root: &Path) -> Result<Vec<PathBuf>, RunningError> {
    let wrong = |e| FsError::new("list", root, e);
    let entries = match std::fs::read_dir(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let mut living = Vec::new();
    for entry in entries {
        let folder = entry.map_err(wrong)?.path();
        match Lock::try_folder(&folder) {
            Ok(None) => living.push(folder),
            Ok(Some(_lock)) => fs::remove_tree(&folder)?,
            // Gone, or no folder: nobody's.
            Err(_) => {}
        }
    }
    Ok(living)
}

/// What the sandboxes take that these processes hold, in bytes, where a cgroup tells.
pub fn memory(data: &Path, pids: &[u32]) -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    if pids.is_empty() {
        return found;
    }
    for record in state::living(data).into_iter().flatten().flatten() {
        let (Some(stage), Some(cgroup)) = (record.stage, &record.cgroup) else { continue };
        let Some(parent) = parent_of(stage.pid).filter(|parent| pids.contains(parent)) else { continue };
        let bytes = fs::read_file(&cgroup.join("memory.current"), KERNEL_BYTES_MAX).ok();
        let bytes = bytes.and_then(|text| str::from_utf8(&text).ok()?.trim().parse::<u64>().ok());
        *found.entry(parent).or_insert(0) += bytes.unwrap_or_default();
        if bytes.is_none() {
            found.remove(&parent);
        }
    }
    found
}

/// The parent of a process (proc_pid_stat(5)).
fn parent_of(pid: i32) -> Option<u32> {
    let text = fs::read_file(Path::new(&format!("/proc/{pid}/stat")), KERNEL_BYTES_MAX).ok()?;
    let text = str::from_utf8(&text).ok()?;
    // The name in parentheses may hold anything.
    text[text.rfind(')')? + 1..].split_whitespace().nth(1)?.parse().ok()
}
