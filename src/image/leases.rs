//! What keeps things in the store while no image names them: the gate and leases. It removes nothing but
//! its own files; what is garbage is decided in `image::garbage`.
//!
//! Whoever reads what an image is made of and has not yet written down that it needs it, holds the
//! *gate*: a shared lock, a few microseconds for `run`. Who needs things for long, a load or a push,
//! writes a *lease*: a file that names them and is locked while its holder lives. The collection closes
//! the gate, waits for those inside, and then knows everything that is needed.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::names::Digest;
use crate::sys::fs::{FsError, Lock, random_bytes, read_file};

/// How long the collection waits for those inside the gate. A container that starts is inside for
/// milliseconds, on a busy host for hundreds.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Largest lease, in bytes: some hundred thousand digests.
const LEASE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The gate is passed: until this value goes, nothing that is in the store goes.
#[derive(Debug)]
pub struct Inside {
    _lock: Lock,
}

/// The gate is closed: nobody is inside.
#[derive(Debug)]
pub struct Closed {
    _turn: Lock,
    _gate: Lock,
    _old: Lock,
}

/// Passes the gate of the store in `dir`, waiting while a collection is under way.
///
/// # Errors
/// What the kernel says.
pub fn pass(dir: &Path) -> Result<Inside, FsError> {
    Ok(Inside { _lock: Lock::shared(&dir.join("gate"))? })
}

/// Closes the gate of the store in `dir`; nothing when those inside have not left at `until`.
///
/// Who comes now waits at a new gate, so that a stream of short visits cannot keep the old one open.
///
/// # Errors
/// What the kernel says.
pub fn close(dir: &Path, until: Instant) -> Result<Option<Closed>, FsError> {
    let (gate, next) = (dir.join("gate"), dir.join("gate.next"));
    let Some(turn) = wait_for(&dir.join("collecting"), until)? else { return Ok(None) };
    // Also waits for those whom a collection that died had shut out from the gate they stand in.
    let Some(new) = wait_for(&next, until)? else { return Ok(None) };
    make_gate(dir)?;
    let old = match rustix::fs::renameat_with(
        rustix::fs::CWD,
        &next,
        rustix::fs::CWD,
        &gate,
        RenameFlags::EXCHANGE,
    ) {
        Ok(()) => wait_for(&next, until)?,
        // A file system that cannot exchange two names: then without a turnstile.
        Err(Errno::INVAL | Errno::NOSYS) => wait_for(&gate, until)?,
        Err(e) => return Err(FsError::new("close", &gate, e)),
    };
    Ok(old.map(|old| Closed { _turn: turn, _gate: new, _old: old }))
}

/// Makes the gate of the store in `dir` when it is missing.
///
/// # Errors
/// What the kernel says.
pub fn make_gate(dir: &Path) -> Result<(), FsError> {
    let gate = dir.join("gate");
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = rustix::fs::open(&gate, flags, Mode::RUSR | Mode::WUSR);
    made.map(drop).map_err(|e| FsError::new("make", gate, e))
}

/// The lock of `path`, when it can be had at `until` at the latest.
///
/// # Errors
/// What the kernel says.
pub fn wait_for(path: &Path, until: Instant) -> Result<Option<Lock>, FsError> {
    loop {
        if let Some(lock) = Lock::try_exclusive(path)? {
            return Ok(Some(lock));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// What somebody relies on for longer than a moment.
#[derive(Debug)]
pub struct Lease {
    dir: PathBuf,
    path: PathBuf,
    lock: Lock,
    is_at_risk: bool,
}

impl Lease {
    /// An empty lease in the store in `dir`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(dir: &Path) -> Result<Self, FsError> {
        let mut random = [0; 32];
        random_bytes(&mut random).map_err(|e| FsError::new("name a lease in", dir, e))?;
        let path = dir.join("leases").join(Digest::from_bytes(&random).hex());
        let _inside = pass(dir)?;
        let lock = Lock::exclusive(&path)?;
        Ok(Self { dir: dir.to_owned(), path, lock, is_at_risk: false })
    }

    /// From now on these stay: blobs, and layers by their diff ID. Whether they are there is to be asked
    /// after this.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rely_on<'d>(&self, objects: impl IntoIterator<Item = &'d Digest>) -> Result<(), FsError> {
        let text: String = objects.into_iter().map(|digest| format!("{}\n", digest.hex())).collect();
        let _inside = pass(&self.dir)?;
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let written = rustix::io::write(self.lock.as_fd(), left);
            let written = written.map_err(|e| FsError::new("write", &self.path, e))?;
            left = left.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// From now on things come into the store that nothing names yet. Should the holder end before
    /// [`Lease::fulfil`], the lease stays behind and the next command looks for them.
    pub fn risk(&mut self) {
        self.is_at_risk = true;
    }

    /// Everything that came has its name.
    pub fn fulfil(&mut self) {
        self.is_at_risk = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_at_risk {
            // Still locked here. What stays is a lease of nobody: the next command removes it.
            let _gone = rustix::fs::unlink(&self.path);
        }
    }
}

/// The leases there are.
#[derive(Debug, Default)]
pub struct Leases {
    /// Digits of what living holders rely on.
    pub relied_on: BTreeSet<String>,
    /// Files whose holders are dead.
    pub dead: Vec<PathBuf>,
}

/// Reads all leases of the store in `dir`.
///
/// # Errors
/// What the kernel says; a lease that cannot be read is told and not passed over.
pub fn all(dir: &Path) -> Result<Leases, FsError> {
    let mut leases = Leases::default();
    for path in files(dir)? {
        match Lock::is_held(&path)? {
            None => {}
            Some(false) => leases.dead.push(path),
            Some(true) => match read_file(&path, LEASE_BYTES_MAX) {
                // Its holder ended in this moment, and has named what it needs.
                Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {}
                other => {
                    let text = other?;
                    leases.relied_on.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
                }
            },
        }
    }
    Ok(leases)
}

/// Whether a holder died and left its lease.
///
/// # Errors
/// What the kernel says.
pub fn has_dead(dir: &Path) -> Result<bool, FsError> {
    for path in files(dir)? {
        if Lock::is_held(&path)? == Some(false) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, FsError> {
    let dir = dir.join("leases");
    let wrong = |e| FsError::new("list", &dir, e);
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("leases")).unwrap();
        dir
    }

    #[test]
    fn the_gate_is_closed_only_when_nobody_is_inside() {
        let dir = store();
        let first = pass(dir.path()).unwrap();
        let second = pass(dir.path()).unwrap();
        let until = Instant::now();
        assert!(Lock::try_exclusive(&dir.path().join("gate")).unwrap().is_none());
        drop((first, second));
        let closed = close(dir.path(), Instant::now() + PATIENCE).unwrap().unwrap();
        assert_eq!(Lock::is_held(&dir.path().join("gate")).unwrap(), Some(true), "who comes now waits");
        assert!(wait_for(&dir.path().join("gate"), until).unwrap().is_none());
        drop(closed);
        pass(dir.path()).unwrap();
    }

    #[test]
    fn who_was_inside_when_a_collection_died_is_waited_for_by_the_next_one() {
        let dir = store();
        drop(close(dir.path(), Instant::now() + PATIENCE).unwrap().unwrap());
        let inside = pass(dir.path()).unwrap();
        // What a collection does before it waits; then it dies.
        let next = Lock::exclusive(&dir.path().join("gate.next")).unwrap();
        let (from, to) = (dir.path().join("gate.next"), dir.path().join("gate"));
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, &from, cwd, &to, RenameFlags::EXCHANGE).unwrap();
        drop(next);
        assert!(wait_for(&from, Instant::now()).unwrap().is_none(), "the one inside is still seen");
        drop(inside);
        assert!(close(dir.path(), Instant::now() + PATIENCE).unwrap().is_some());
    }

    #[test]
    fn a_lease_is_read_while_its_holder_lives_and_found_when_it_died_at_risk() {
        let dir = store();
        let digest = Digest::from_bytes(&[7; 32]);
        let mut lease = Lease::new(dir.path()).unwrap();
        lease.rely_on([&digest]).unwrap();
        assert!(all(dir.path()).unwrap().relied_on.contains(digest.hex()));
        assert!(!has_dead(dir.path()).unwrap());
        lease.risk();
        drop(lease);
        assert!(has_dead(dir.path()).unwrap());
        assert_eq!(all(dir.path()).unwrap().dead.len(), 1);
        let mut lease = Lease::new(dir.path()).unwrap();
        lease.risk();
        lease.fulfil();
        drop(lease);
        assert_eq!(files(dir.path()).unwrap().len(), 1, "only the first one stays");
    }
}
