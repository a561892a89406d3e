//! The journal of a workspace, outside what an agent sees: what happened, what was there before, and locks.
//!
//! Each process has a log of its own and holds its lock as long as it lives: a log whose lock is free belongs to
//! a process that is dead, and whoever opens the journal next ends what it left (`workspace::recover`). What was in a
//! file before it changed is kept by its hash, within a quota.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps};

use crate::sys::fs::{self as sys, FsError, Lock, make_private_dirs};
use crate::workspace::change::{Line, Operation, Unfinished, replay};
use crate::workspace::refusal::{Code, Refusal};

/// Largest log that is read, in bytes; a process begins a new one long before.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// A log of this size is followed by a new one, in bytes.
const LOG_BYTES: u64 = 8 << 20;
/// Logs that are kept.
const LOGS_MAX: usize = 64;
/// Largest file whose content is kept for undo, in bytes.
pub const KEPT_BYTES_MAX: u64 = 32 << 20;
/// Most bytes of old contents, the oldest go first.
const QUOTA_BYTES: u64 = 1 << 30;
/// Names share this many locks.
const STRIPES: u64 = 256;

/// The journal of one workspace.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    log: Mutex<Option<Log>>,
}

/// The log of this process.
#[derive(Debug)]
struct Log {
    file: File,
    bytes: u64,
}

/// Locks on names; they are given back when this goes.
#[derive(Debug)]
pub struct Names(Vec<Lock>);

impl Names {
    /// How many locks are held.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A log of a dead process, held by us while its operations are ended.
#[derive(Debug)]
pub struct DeadLog {
    /// What it left.
    pub unfinished: Vec<Unfinished>,
    file: File,
}

impl DeadLog {
    /// Says how an operation of the dead process ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn append(&mut self, line: &Line) -> Result<(), Refusal> {
        write_line(&mut self.file, line).map(|_bytes| ()).map_err(|e| failed(&e))
    }
}

fn failed(e: &impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Failed, format!("the journal cannot be written: {e}"))
        .hint("look at the folder of `--journal`, and whether its disk is full")
}

fn refused(e: &FsError) -> Refusal {
    failed(&format!("{e}: {}", e.source))
}

fn write_line(file: &mut File, line: &Line) -> std::io::Result<u64> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    // One write to a file opened for appending: a line is there whole or, after a crash, cut off at the end.
    file.write_all(&text)?;
    Ok(text.len() as u64)
}

impl Journal {
    /// Opens the journal at `dir`, making it when it is missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(dir: &Path) -> Result<Self, Refusal> {
        for folder in ["logs", "blobs", "locks"] {
            make_private_dirs(&dir.join(folder)).map_err(|e| refused(&e))?;
        }
        Ok(Self { dir: dir.to_owned(), log: Mutex::new(None) })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn log(&self) -> MutexGuard<'_, Option<Log>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a line to the log of this process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn append(&self, line: &Line, durability: Durability) -> Result<(), Refusal> {
        let mut slot = self.log();
        // An operation's lines stand in one log, so a new one begins only with an intent.
        let is_full = slot.as_ref().is_some_and(|log| log.bytes > LOG_BYTES);
        if slot.is_none() || is_full && matches!(line, Line::Intent { .. }) {
            *slot = Some(self.new_log()?);
        }
        let Some(log) = slot.as_mut() else { return Ok(()) };
        log.bytes += write_line(&mut log.file, line).map_err(|e| failed(&e))?;
        if durability == Durability::Disk {
            log.file.sync_data().map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    fn new_log(&self) -> Result<Log, Refusal> {
        let folder = self.dir.join("logs");
        let path = folder.join(format!("{:015}-{}.jsonl", now_ms(), random_name()?));
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(&e))?;
        rustix::fs::flock(&fd, FlockOperation::LockExclusive).map_err(|e| failed(&e))?;
        let logs = self.log_paths();
        // The oldest logs go, unless somebody still writes to them.
        for old in logs.iter().take(logs.len().saturating_sub(LOGS_MAX)) {
            if open_dead(old).is_some() {
                let _kept_then = rustix::fs::unlink(old);
            }
        }
        self.enforce_quota();
        Ok(Log { file: File::from(fd), bytes: 0 })
    }

    /// The logs, oldest first.
    fn log_paths(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.dir.join("logs")).into_iter().flatten().flatten();
        let mut paths: Vec<_> = listed.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
        paths.sort();
        paths
    }

    /// The logs of dead processes with something left to end.
    pub fn dead_logs(&self) -> Vec<DeadLog> {
        let dead = self.log_paths().into_iter().filter_map(|path| {
            let (_, unfinished) = replay(read_log(&path).into_iter());
            if unfinished.is_empty() {
                return None;
            }
            let file = open_dead(&path)?;
            // Another process may have ended it between the look and the lock.
            let (_, unfinished) = replay(read_log(&path).into_iter());
            (!unfinished.is_empty()).then_some(DeadLog { unfinished, file })
        });
        dead.collect()
    }

    /// Every operation that happened and is still known, oldest first.
    pub fn operations(&self) -> Vec<Operation> {
        let mut all: Vec<_> =
            self.log_paths().iter().flat_map(|path| replay(read_log(path).into_iter()).0).collect();
        all.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
        all
    }

    /// A name for an operation: later ones sort behind earlier ones.
    ///
    /// # Errors
    /// When the kernel has no randomness.
    pub fn new_id(&self) -> Result<(String, u64), Refusal> {
        let now = now_ms();
        Ok((format!("op-{now:x}-{}", random_name()?), now))
    }

    /// Waits for the locks of names, each by the folder's file and the name. They are taken in one order by everybody.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn lock(&self, names: &[((u64, u64), Vec<u8>)]) -> Result<Names, Refusal> {
        let stripe = |((dev, ino), name): &((u64, u64), Vec<u8>)| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&dev.to_le_bytes()).update(&ino.to_le_bytes()).update(name);
            let first: [u8; 8] = hasher.finalize().as_bytes()[..8].try_into().unwrap_or_default();
            u64::from_le_bytes(first) % STRIPES
        };
        let stripes: BTreeSet<u64> = names.iter().map(stripe).collect();
        let locks = stripes.iter().map(|n| Lock::exclusive(&self.dir.join(format!("locks/{n:02x}"))));
        locks.collect::<Result<Vec<_>, _>>().map(Names).map_err(|e| refused(&e))
    }

    fn blob_path(&self, hash: &str) -> PathBuf {
        self.dir.join("blobs").join(hash)
    }

    /// Keeps a content for undo; `false` when it is too large.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn keep(&self, hash: &str, bytes: &[u8]) -> Result<bool, Refusal> {
        if bytes.len() as u64 > KEPT_BYTES_MAX {
            return Ok(false);
        }
        let path = self.blob_path(hash);
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        // One that is there is young again.
        if rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty()).is_ok() {
            return Ok(true);
        }
        let dir = sys::open_dir(&self.dir.join("blobs")).map_err(|e| refused(&e))?;
        sys::replace_file(dir.as_fd(), hash.as_ref(), bytes, Mode::from_raw_mode(0o600))
            .map_err(|e| refused(&e))?;
        Ok(true)
    }

    /// A content that was kept; its hash has been checked.
    ///
    /// # Errors
    /// `Quota` when it is gone.
    pub fn kept(&self, hash: &str) -> Result<Vec<u8>, Refusal> {
        let gone = || {
            Refusal::new(Code::Quota, format!("the content {hash} is not kept any more"))
                .hint("contents over 32 MiB are not kept, and the oldest go when 1 GiB is full")
        };
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes = if is_hash { sys::read_file(&self.blob_path(hash), KEPT_BYTES_MAX).ok() } else { None };
        let bytes = bytes.ok_or_else(gone)?;
        if blake3::hash(&bytes).to_hex().as_str() != hash {
            return Err(gone());
        }
        Ok(bytes)
    }

    /// Bytes of kept contents.
    pub fn kept_bytes(&self) -> u64 {
        self.blobs().iter().map(|(_, bytes, _)| bytes).sum()
    }

    fn blobs(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let listed = std::fs::read_dir(self.dir.join("blobs")).into_iter().flatten().flatten();
        let looked = listed.filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.modified().ok()?, meta.len(), entry.path()))
        });
        looked.collect()
    }

    /// Lets the oldest contents go until the rest is within the quota.
    fn enforce_quota(&self) {
        let mut blobs = self.blobs();
        let mut total: u64 = blobs.iter().map(|(_, bytes, _)| bytes).sum();
        blobs.sort();
        for (_, bytes, path) in blobs {
            if total <= QUOTA_BYTES {
                return;
            }
            if rustix::fs::unlink(&path).is_ok() {
                total -= bytes;
            }
        }
    }
}

/// Whether a line must be on the disk before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives the death of this process.
    Cache,
    /// It survives the death of the machine.
    Disk,
}

/// The lines of a log; what cannot be read is the end of one that was cut off.
fn read_log(path: &Path) -> Vec<Line> {
    let bytes = sys::read_file(path, LOG_BYTES_MAX).unwrap_or_default();
    bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Opens a log whose process is dead, with its lock.
fn open_dead(path: &Path) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).ok()?;
    let mut file = File::from(fd);
    // A line that was cut off must not swallow ours.
    file.write_all(b"\n").ok()?;
    Some(file)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Eight digits that nobody else has.
///
/// # Errors
/// What the kernel says of its random numbers.
pub fn random_name() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 4];
    sys::random_bytes(&mut bytes).map_err(|e| failed(&e))?;
    Ok(format!("{:08x}", u32::from_ne_bytes(bytes)))
}
