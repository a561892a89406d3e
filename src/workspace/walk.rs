//! Every folder below one, by a few threads: what is in it, without what is ignored.
//!
//! Each folder is opened beneath the descriptor where the walk began and no link is followed, so a walk never leaves
//! it, whatever is renamed meanwhile; one descriptor a thread is open at a time. It reads no file but ignore files.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::workspace::crew;
use crate::workspace::ignores::Rules;
use crate::workspace::index::Index;
use crate::workspace::listing::{Kind, Listing, open_folder};
use crate::workspace::patience::{Ended, Patience, Stop};

/// Folders inside each other; what is deeper is told, not listed.
pub const DEPTH_MAX: usize = 128;
/// Names that one walk looks at.
pub const ENTRIES_MAX: u64 = 5_000_000;
/// Folders that wait before more threads are started.
const WAITING_FOR_MORE_HANDS: usize = 4;

/// Where a walk begins.
#[derive(Debug)]
pub struct Start<'a> {
    /// The root of the workspace, whose ignore files count.
    pub root: BorrowedFd<'a>,
    /// The folder, opened for listing.
    pub folder: &'a OwnedFd,
    /// Its way beneath the root, by text; empty for the root.
    pub way: &'a [u8],
}

/// Says yes to what is left out: the folder's path, the name, what it is.
pub type Skip<'a> = &'a (dyn Fn(&[u8], &[u8], Kind) -> bool + Sync);

/// What a walk shall leave out.
pub struct Wanted<'a> {
    /// What ignore files name, and `.git`.
    pub ignores: bool,
    /// What this says yes to: the folder's path, the name, what it is. What it says yes to is not gone into.
    pub skip: Option<Skip<'a>>,
    /// Folders inside each other: 1 is the start alone.
    pub depth_max: usize,
    /// Names to look at.
    pub entries_max: u64,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { ignores: false, skip: None, depth_max: DEPTH_MAX, entries_max: ENTRIES_MAX }
    }
}

/// One folder of a walk.
pub struct Folder<'a> {
    /// Its path from the start, without a slash at the end; empty for the start.
    pub path: &'a [u8],
    /// Everything that is in it.
    pub listing: &'a Arc<Listing>,
    /// The numbers of the names that are not left out, in order.
    pub kept: &'a [u32],
    /// The folder itself.
    pub fd: BorrowedFd<'a>,
}

impl Folder<'_> {
    /// The names that are not left out.
    pub fn names(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.kept.iter().map(|n| self.listing.at(*n as usize))
    }
}

/// How a walk went.
#[derive(Debug)]
pub struct Walked<T> {
    /// What each thread gathered.
    pub gathered: Vec<T>,
    /// Names that were looked at.
    pub entries: u64,
    /// Folders that were listed.
    pub folders: u64,
    /// Folders that could not be read, or only in part.
    pub unreadable: u64,
    /// How far it came.
    pub ended: Ended,
}

struct Task {
    path: Vec<u8>,
    rules: Option<Arc<Rules>>,
    depth: usize,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    /// Threads that may still bring new tasks.
    busy: usize,
}

struct Shared<'a> {
    start: &'a Start<'a>,
    index: &'a Index,
    wanted: &'a Wanted<'a>,
    patience: &'a Patience<'a>,
    queue: Mutex<Queue>,
    wake: Condvar,
    stop: Stop,
    entries: AtomicU64,
    folders: AtomicU64,
    unreadable: AtomicU64,
}

/// Lists every folder below `start`. `look` gets each one with what its thread has gathered so far; it is called by
/// several threads, and in no order.
pub fn walk<T: Send + Default>(
    start: &Start<'_>,
    index: &Index,
    wanted: &Wanted<'_>,
    patience: &Patience<'_>,
    look: &(dyn Fn(&Folder<'_>, &mut T) + Sync),
) -> Walked<T> {
    index.begin_round();
    let rules = if wanted.ignores { Rules::on_the_way(index, start.root, start.way) } else { None };
    let first = Task { path: Vec::new(), rules, depth: 1 };
    let shared = Shared {
        start,
        index,
        wanted,
        patience,
        queue: Mutex::new(Queue { tasks: vec![first], busy: 0 }),
        wake: Condvar::new(),
        stop: Stop::default(),
        entries: AtomicU64::new(0),
        folders: AtomicU64::new(0),
        unreadable: AtomicU64::new(0),
    };
    let gathered = Mutex::new(Vec::new());
    let hand = |more: &dyn Fn()| {
        let mut own = T::default();
        shared.work(&mut own, look, more);
        gathered.lock().unwrap_or_else(PoisonError::into_inner).push(own);
    };
    #[expect(clippy::disallowed_methods, reason = "who walks a workspace never calls libcontainer")]
    std::thread::scope(|scope| {
        let started = std::cell::Cell::new(false);
        // A small tree is done before a thread has begun.
        let more = || {
            if !started.replace(true) {
                (1..crew::hands()).for_each(|_| {
                    scope.spawn(|| hand(&|| {}));
                });
            }
        };
        hand(&more);
    });
    Walked {
        gathered: gathered.into_inner().unwrap_or_else(PoisonError::into_inner),
        entries: shared.entries.into_inner(),
        folders: shared.folders.into_inner(),
        unreadable: shared.unreadable.into_inner(),
        ended: shared.stop.reason(),
    }
}

impl Shared<'_> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work<T>(&self, own: &mut T, look: &(dyn Fn(&Folder<'_>, &mut T) + Sync), more: &dyn Fn()) {
        let (mut scratch, mut kept) = (Vec::new(), Vec::new());
        while let Some(task) = self.take(more) {
            // Whatever happens to this folder, the others must not wait for it.
            let done = Done(self);
            if let Some(why) = self.patience.over() {
                self.stop.set(why);
            } else {
                let tasks = self.folder(&task, own, look, &mut scratch, &mut kept);
                self.queue().tasks.extend(tasks);
            }
            drop(done);
        }
    }

    fn take(&self, more: &dyn Fn()) -> Option<Task> {
        let mut queue = self.queue();
        loop {
            if self.stop.is_set() {
                self.wake.notify_all();
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.busy += 1;
                if queue.tasks.len() >= WAITING_FOR_MORE_HANDS {
                    drop(queue);
                    more();
                }
                return Some(task);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn folder<T>(
        &self,
        task: &Task,
        own: &mut T,
        look: &(dyn Fn(&Folder<'_>, &mut T) + Sync),
        scratch: &mut Vec<MaybeUninit<u8>>,
        kept: &mut Vec<u32>,
    ) -> Vec<Task> {
        let missing = || {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
            Vec::new()
        };
        let Ok(fd) = open_folder(self.start.folder.as_fd(), &task.path) else { return missing() };
        let Ok(listing) = self.index.listing(fd.as_fd(), scratch) else { return missing() };
        if !listing.whole {
            self.unreadable.fetch_add(1, Ordering::Relaxed);
        }
        let rules = self.rules(task, fd.as_fd(), &listing);
        kept.clear();
        let mut below = Vec::new();
        for (number, (name, kind)) in listing.iter().enumerate() {
            if self.left_out(task, rules.as_deref(), name, kind) {
                continue;
            }
            kept.push(u32::try_from(number).unwrap_or(u32::MAX));
            if kind == Kind::Folder {
                if task.depth < self.wanted.depth_max {
                    let (path, depth) = (joined(&task.path, name), task.depth + 1);
                    below.push(Task { path, rules: rules.clone(), depth });
                } else if self.wanted.depth_max == DEPTH_MAX {
                    self.unreadable.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let seen = self.entries.fetch_add(listing.len() as u64, Ordering::Relaxed) + listing.len() as u64;
        let folders = self.folders.fetch_add(1, Ordering::Relaxed);
        if folders % 256 == 255 {
            self.patience.tell(seen, None);
        }
        look(&Folder { path: &task.path, listing: &listing, kept, fd: fd.as_fd() }, own);
        if seen > self.wanted.entries_max {
            self.stop.set(Ended::TooMuch);
        }
        // They come off the stack from its end: the first name first.
        below.reverse();
        below
    }

    fn rules(&self, task: &Task, fd: BorrowedFd<'_>, listing: &Listing) -> Option<Arc<Rules>> {
        if !self.wanted.ignores {
            return None;
        }
        let path = whole(self.start.way, &task.path);
        Rules::below(task.rules.as_ref(), self.index, fd, &path, listing)
    }

    fn left_out(&self, task: &Task, rules: Option<&Rules>, name: &[u8], kind: Kind) -> bool {
        if self.wanted.skip.is_some_and(|skip| skip(&task.path, name, kind)) {
            return true;
        }
        if !self.wanted.ignores {
            return false;
        }
        if name == b".git" {
            return true;
        }
        rules.is_some_and(|rules| {
            let path = joined(&whole(self.start.way, &task.path), name);
            rules.ignore(&path, kind == Kind::Folder)
        })
    }
}

/// A folder of a walk, kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its path from the start; empty for the start.
    pub path: Vec<u8>,
    /// Everything that is in it.
    pub listing: Arc<Listing>,
    /// The numbers of the names that are not left out, in order.
    pub names: Vec<u32>,
}

impl Kept {
    /// The names that are not left out.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Kind)> {
        self.names.iter().map(|n| self.listing.at(*n as usize))
    }
}

/// Every folder below `start`, in the order of their paths: what they hold is shared with the index, not copied.
pub fn gather(
    start: &Start<'_>,
    index: &Index,
    wanted: &Wanted<'_>,
    patience: &Patience<'_>,
) -> (Vec<Kept>, Walked<()>) {
    let look = |folder: &Folder<'_>, own: &mut Vec<Kept>| {
        let (path, listing) = (folder.path.to_vec(), Arc::clone(folder.listing));
        own.push(Kept { path, listing, names: folder.kept.to_vec() });
    };
    let Walked { gathered, entries, folders, unreadable, ended } =
        walk(start, index, wanted, patience, &look);
    let mut all: Vec<Kept> = gathered.into_iter().flatten().collect();
    all.sort_unstable_by(|a, b| path_order(&a.path, &b.path));
    (all, Walked { gathered: Vec::new(), entries, folders, unreadable, ended })
}

/// A task that was taken: dropped, also by a panic, it lets the others go on.
struct Done<'a>(&'a Shared<'a>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.queue().busy -= 1;
        self.0.wake.notify_all();
    }
}

/// A name in a folder, as a path from where that folder's path begins.
pub fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(folder.len() + 1 + name.len());
    path.extend_from_slice(folder);
    if !folder.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn whole(way: &[u8], path: &[u8]) -> Vec<u8> {
    joined(way, path)
}

/// The order of a walk by one thread that goes into each folder where its name stands: by names, not by bytes.
pub fn path_order(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0_u16 } else { u16::from(*byte) + 1 };
    a.iter().map(key).cmp(b.iter().map(key))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn all(root: &Path, index: &Index, wanted: &Wanted<'_>) -> (BTreeSet<String>, Ended) {
        let fd = crate::sys::fs::open_dir(root).unwrap();
        let folder = open_folder(fd.as_fd(), b"").unwrap();
        let start = Start { root: fd.as_fd(), folder: &folder, way: b"" };
        let look = |folder: &Folder<'_>, own: &mut Vec<String>| {
            own.extend(folder.names().map(|(n, _)| String::from_utf8(joined(folder.path, n)).unwrap()));
        };
        let walked = walk(&start, index, wanted, &Patience::endless(), &look);
        let names: Vec<_> = walked.gathered.into_iter().flatten().collect();
        let set: BTreeSet<_> = names.iter().cloned().collect();
        assert_eq!(set.len(), names.len(), "nothing is seen twice");
        (set, walked.ended)
    }

    fn tree(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn ignore_files_count_for_what_lies_below_them_and_the_deeper_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            (".gitignore", "*.log\n/target/\n!keep.log\n"),
            ("a.log", ""),
            ("keep.log", ""),
            ("target/x/y", ""),
            ("src/target/x", ""),
            ("src/.gitignore", "!*.log\nsecret\n"),
            ("src/b.log", ""),
            ("src/secret/z", ""),
            (".git/info/exclude", "private\n"),
            (".git/HEAD", ""),
            ("private", ""),
        ];
        tree(folder.path(), &files);
        let (names, _) =
            all(folder.path(), &Index::default(), &Wanted { ignores: true, ..Wanted::default() });
        let wanted =
            [".gitignore", "keep.log", "src", "src/.gitignore", "src/b.log", "src/target", "src/target/x"];
        assert_eq!(names, wanted.iter().map(ToString::to_string).collect());
        let (names, _) = all(folder.path(), &Index::default(), &Wanted::default());
        assert!(names.contains("target/x/y") && names.contains(".git/HEAD"));
    }

    #[test]
    fn links_are_named_and_not_followed_and_a_limit_is_told() {
        let folder = tempfile::tempdir().unwrap();
        tree(folder.path(), &[("a/b/c/d", "")]);
        std::os::unix::fs::symlink("/", folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink("..", folder.path().join("a/up")).unwrap();
        let (names, ended) = all(folder.path(), &Index::default(), &Wanted::default());
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/c/d", "a/up", "out"].map(String::from).into());
        assert_eq!(ended, Ended::Whole);
        let (names, _) = all(folder.path(), &Index::default(), &Wanted { depth_max: 2, ..Wanted::default() });
        assert_eq!(names, ["a", "a/b", "a/up", "out"].map(String::from).into());
        let (_, ended) =
            all(folder.path(), &Index::default(), &Wanted { entries_max: 1, ..Wanted::default() });
        assert_eq!(ended, Ended::TooMuch);
    }

    #[test]
    fn paths_are_ordered_by_their_names() {
        let mut paths = ["a-b", "a/z", "a", "b", "a/b/c", "a.b"].map(str::as_bytes);
        paths.sort_by(|a, b| path_order(a, b));
        assert_eq!(paths, ["a", "a/b/c", "a/z", "a-b", "a.b", "b"].map(str::as_bytes));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_remembered_equals_a_fresh_look_after_any_change(
            steps in proptest::collection::vec((0_u8..5, 0_usize..6, 0_usize..6), 1..40)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let names = ["a", "b", "c", "a/x", "a/y", "b/x"];
            let index = Index::new(1 << 20);
            let old = rustix::fs::Timespec { tv_sec: 1_000_000, tv_nsec: 0 };
            for (what, from, to) in steps {
                let (one, two) = (folder.path().join(names[from]), folder.path().join(names[to]));
                // What cannot be done in this state is left out, as a person would.
                let _tried = match what {
                    0 => fs::create_dir(&one),
                    1 => fs::write(&one, "x"),
                    2 => fs::rename(&one, &two),
                    3 => fs::remove_dir_all(&one).or_else(|_| fs::remove_file(&one)),
                    _ => rustix::fs::utimensat(
                        rustix::fs::CWD,
                        &one,
                        &rustix::fs::Timestamps { last_access: old, last_modification: old },
                        rustix::fs::AtFlags::empty(),
                    ).map_err(Into::into),
                };
                let remembered = all(folder.path(), &index, &Wanted::default());
                let fresh = all(folder.path(), &Index::new(0), &Wanted::default());
                proptest::prop_assert_eq!(remembered, fresh);
            }
        }
    }
}
