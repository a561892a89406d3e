//! What folders held when they were last read: asked before a folder is read again, and never believed without proof.
//!
//! A folder is known by its inode, and what is remembered counts only while the folder's stamp is the same: every
//! name that comes or goes changes the folder's `ctime`, which nobody can set. What was read within two seconds of a
//! change is not believed, for a second change may bear the same time. File systems of other machines are never
//! remembered, their clocks are not ours. It holds bytes up to a limit and no descriptor.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ignore::gitignore::Gitignore;
use rustix::fs::Stat;
use rustix::io::Errno;

use crate::workspace::listing::{Listing, Stamp};

/// Bytes that are remembered where nothing else was said.
pub const INDEX_BYTES_MAX: usize = 64 << 20;
/// A change and a look at it this close to each other prove nothing (nanoseconds).
const DISTRUST_NS: i64 = 2_000_000_000;
/// Bytes that one remembered thing costs besides its own.
const ENTRY_BYTES: usize = 128;
/// File systems whose times are those of this kernel (statfs(2)): ext, xfs, btrfs, tmpfs, overlay, f2fs, bcachefs, zfs.
const LOCAL: &[u32] =
    &[0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1];

/// What is remembered of folders and ignore files.
#[derive(Debug)]
pub struct Index {
    inside: Mutex<Inside>,
    bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct Inside {
    folders: HashMap<(u64, u64), Remembered<Listing>>,
    rules: HashMap<(u64, u64), Remembered<Gitignore>>,
    /// Whether the file system of this number keeps our time.
    local: HashMap<u64, bool>,
    bytes: usize,
    round: u64,
}

#[derive(Debug)]
struct Remembered<T> {
    stamp: Stamp,
    read_ns: i64,
    what: Arc<T>,
    bytes: usize,
    round: u64,
}

impl<T> Remembered<T> {
    fn holds(&self, stamp: &Stamp) -> bool {
        let quiet = |time: i64| time.saturating_add(DISTRUST_NS) < self.read_ns;
        self.stamp == *stamp && quiet(stamp.ctime_ns) && quiet(stamp.mtime_ns)
    }
}

/// How much an index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Folders that are remembered.
    pub folders: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Bytes that they may take.
    pub bytes_max: usize,
    /// Folders that needed no reading.
    pub hits: u64,
    /// Folders that were read.
    pub misses: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self::new(INDEX_BYTES_MAX)
    }
}

impl Index {
    /// An empty one. With no bytes it remembers nothing, and every look is a fresh one.
    pub fn new(bytes_max: usize) -> Self {
        Self { inside: Mutex::default(), bytes_max, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // What is remembered is proved before it is used, so a thread that died leaves nothing bad.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A walk begins: what it uses is kept longer than what no walk has used since.
    pub fn begin_round(&self) {
        self.inside().round += 1;
    }

    /// What the folder of `fd` holds now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listing(
        &self,
        fd: BorrowedFd<'_>,
        scratch: &mut Vec<MaybeUninit<u8>>,
    ) -> Result<Arc<Listing>, Errno> {
        if self.bytes_max == 0 {
            return Listing::read(fd, scratch).map(Arc::new);
        }
        let stamp = Stamp::of(&rustix::fs::fstat(fd)?);
        {
            let mut inside = self.inside();
            let round = inside.round;
            if let Some(known) = inside.folders.get_mut(&(stamp.dev, stamp.ino))
                && known.holds(&stamp)
            {
                known.round = round;
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(Arc::clone(&known.what));
            }
        }
        let read_ns = now_ns();
        let listing = Arc::new(Listing::read(fd, scratch)?);
        self.misses.fetch_add(1, Ordering::Relaxed);
        if listing.whole && self.is_local(fd, stamp.dev) {
            let bytes = listing.memory_bytes() + ENTRY_BYTES;
            let mut inside = self.inside();
            if let Some(old) = inside.folders.remove(&(stamp.dev, stamp.ino)) {
                inside.bytes -= old.bytes;
            }
            if inside.make_room(bytes, self.bytes_max) {
                let round = inside.round;
                let known = Remembered { stamp, read_ns, what: Arc::clone(&listing), bytes, round };
                inside.bytes += bytes;
                inside.folders.insert((stamp.dev, stamp.ino), known);
            }
        }
        Ok(listing)
    }

    /// The rules of an ignore file that was opened: remembered, or made by `read`, which also says how many bytes
    /// they came from.
    pub fn rules(
        &self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        read: impl FnOnce() -> (Gitignore, usize),
    ) -> Arc<Gitignore> {
        let stamp = Stamp::of(stat);
        if let Some(known) = self.inside().rules.get(&(stamp.dev, stamp.ino))
            && known.holds(&stamp)
        {
            return Arc::clone(&known.what);
        }
        let read_ns = now_ns();
        let (rules, from_bytes) = read();
        let rules = Arc::new(rules);
        if self.bytes_max > 0 && self.is_local(fd, stamp.dev) {
            // Compiled globs are some hundred times their text.
            let bytes = ENTRY_BYTES + from_bytes.saturating_mul(100);
            let mut inside = self.inside();
            if let Some(old) = inside.rules.remove(&(stamp.dev, stamp.ino)) {
                inside.bytes -= old.bytes;
            }
            if inside.make_room(bytes, self.bytes_max) {
                let round = inside.round;
                let known = Remembered { stamp, read_ns, what: Arc::clone(&rules), bytes, round };
                inside.bytes += bytes;
                inside.rules.insert((stamp.dev, stamp.ino), known);
            }
        }
        rules
    }

    fn is_local(&self, fd: BorrowedFd<'_>, dev: u64) -> bool {
        if let Some(known) = self.inside().local.get(&dev) {
            return *known;
        }
        let local = rustix::fs::fstatfs(fd)
            .ok()
            .and_then(|stat| u32::try_from(stat.f_type).ok())
            .is_some_and(|kind| LOCAL.contains(&kind));
        self.inside().local.insert(dev, local);
        local
    }

    /// How much it knows.
    pub fn known(&self) -> Known {
        let inside = self.inside();
        Known {
            folders: inside.folders.len(),
            bytes: inside.bytes,
            bytes_max: self.bytes_max,
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }
}

impl Inside {
    /// Whether there is room for `bytes`, after what no walk uses any more has gone.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        if self.bytes + bytes > bytes_max {
            let (round, mut freed) = (self.round, 0);
            let mut keep = |used: u64, bytes: usize| {
                let keep = used >= round;
                freed += if keep { 0 } else { bytes };
                keep
            };
            self.folders.retain(|_, known| keep(known.round, known.bytes));
            self.rules.retain(|_, known| keep(known.round, known.bytes));
            self.bytes -= freed;
        }
        // What this walk has used stays: to throw it out for the next folder would help neither.
        self.bytes + bytes <= bytes_max
    }
}

/// Nanoseconds since 1970, by the clock that also stamps files.
pub fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_read_close_to_a_change_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let root = std::fs::File::open(folder.path()).unwrap();
        let index = Index::new(1 << 20);
        let reopened = || std::fs::File::open(folder.path()).unwrap();
        assert_eq!(index.listing(root.as_fd(), &mut Vec::new()).unwrap().len(), 1);
        assert_eq!(index.listing(reopened().as_fd(), &mut Vec::new()).unwrap().len(), 1);
        assert_eq!((index.known().hits, index.known().misses), (0, 2), "two seconds have not passed");
        assert!(index.known().bytes > 0);
    }

    #[test]
    fn room_is_made_by_forgetting_what_no_walk_uses_and_never_beyond_the_limit() {
        let mut inside = Inside { round: 1, ..Inside::default() };
        let stamp = Stamp { dev: 1, ino: 1, size: 0, mtime_ns: 0, ctime_ns: 0 };
        let known =
            |round| Remembered { stamp, read_ns: 0, what: Arc::new(Listing::default()), bytes: 60, round };
        inside.folders.insert((1, 1), known(0));
        inside.folders.insert((1, 2), known(1));
        inside.bytes = 120;
        assert!(inside.make_room(30, 100));
        assert_eq!((inside.folders.len(), inside.bytes), (1, 60));
        assert!(!inside.make_room(60, 100));
        assert_eq!(inside.folders.len(), 1);
    }
}
