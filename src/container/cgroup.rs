//! One cgroup v2 per container: made, limited, counted, killed, removed.
//!
//! Where it may be made is `container::delegation`'s to say. What it holds is one folder
//! `cuddy-ID`; our own process, where it has to leave, sits beside it in `cuddy-self`.
//!
//! An out-of-memory kill takes the process that grew, as under Docker, not the whole container
//! (`memory.oom.group` stays 0): the rest of it lives to tell, and `Cgroup::oom_kills` counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::process::{Pid, Signal};

use crate::container::delegation::{Lack, SELF_DIR, Support, Way};
use crate::container::limits::{Limits, Resource};
use crate::container::scope::{self, ScopeError};
use crate::error::{ErrorKind, Fault};
use crate::names::ContainerId;
use crate::sys::fs::{FsError, open_dir, read_file};

/// What every folder of a container begins with.
const PREFIX: &str = "cuddy-";
/// One file of a cgroup: a `cgroup.procs` of 100,000 processes fits.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long killed processes may take to go.
const EMPTY_WAIT: Duration = Duration::from_secs(10);
/// How deep a container may have nested cgroups of its own before we refuse to walk them.
const DEPTH_MAX: u32 = 64;
/// How often processes are killed one by one, where the kernel cannot kill a cgroup.
const KILL_ROUNDS_MAX: u32 = 1_000;

/// Why a cgroup could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// This host does not let us.
    #[error("cannot limit {what}: {}", lack.reason)]
    Unsupported {
        /// What was to be limited.
        what: String,
        /// Why not, and what to change.
        lack: Lack,
    },
    /// The kernel did not take a value.
    #[error("cannot write `{value}` to `{file}`")]
    Write {
        /// The file of the cgroup.
        file: PathBuf,
        /// What was written.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Processes are still in it.
    #[error("the cgroup `{path}` still holds processes after {} s", EMPTY_WAIT.as_secs())]
    Busy {
        /// Its path below the mount.
        path: PathBuf,
    },
    /// The path is not one we could have made.
    #[error("the cgroup `{path}` is not a container's")]
    NotOurs {
        /// The path.
        path: PathBuf,
    },
    /// systemd gave us no scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// A file or folder of the cgroup.
    #[error(transparent)]
    File(#[from] FsError),
}

impl Fault for CgroupError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Busy { .. } => ErrorKind::State,
            Self::NotOurs { .. } => ErrorKind::Corrupt,
            Self::Write { .. } => ErrorKind::Failed,
            Self::Scope(e) => e.kind(),
            Self::File(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unsupported { lack, .. } => vec![lack.fix.clone()],
            Self::Scope(e) => e.hints(),
            _ => Vec::new(),
        }
    }
}

/// The cgroup of one container.
#[derive(Debug)]
pub struct Cgroup {
    mount: PathBuf,
    path: PathBuf,
    dir: OwnedFd,
    /// We moved ourselves out of the way in a cgroup that stays after us.
    stepped_aside: bool,
}

/// Where the cgroup of a container is going to be: record [`Site::path`] before [`Site::make`], so
/// that a command which dies in between leaves nothing that nobody knows of.
#[derive(Debug)]
pub struct Site {
    mount: PathBuf,
    path: PathBuf,
    must_step_aside: bool,
    is_scope: bool,
}

/// Finds the place for the cgroup of container `id` with `limits`.
///
/// On a systemd host where our own cgroup cannot be used this moves the calling process into a scope
/// of its own, which ends with the last process in it. Without limits only a place below our own
/// cgroup is found, never a scope.
///
/// # Errors
/// `Unsupported` with the reason and the fix where this host cannot do it, or what systemd says.
pub fn find_site(support: &Support, id: &ContainerId, limits: &Limits) -> Result<Site, CgroupError> {
    let resources = limits.resources();
    let unsupported = |lack| CgroupError::Unsupported { what: nouns(&resources), lack };
    let way = support.way(&resources).map_err(unsupported)?;
    // A way exists only where a mount does.
    let mount = support.mount().unwrap_or(Path::new("/sys/fs/cgroup"));
    let (base, must_step_aside, is_scope) = match way {
        Way::Own(own) => (own.base.clone(), own.must_step_aside, false),
        Way::Scope(manager) => (scope::enter(mount, manager, &format!("{PREFIX}{id}.scope"))?, true, true),
    };
    let dir = base.join(format!("{PREFIX}{id}"));
    let path = Path::new("/").join(dir.strip_prefix(mount).unwrap_or(&dir));
    Ok(Site { mount: mount.to_owned(), path, must_step_aside, is_scope })
}

impl Site {
    /// Its path below the mount of cgroup2, with a slash in front: what is recorded on disk.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the cgroup with `limits`, those that the place was found for. This may move the calling
    /// process into `cuddy-self` beside it.
    ///
    /// # Errors
    /// What the kernel says; nothing is left then but the scope that we are in.
    pub fn make(self, limits: &Limits) -> Result<Cgroup, CgroupError> {
        let dir = below(&self.mount, &self.path);
        let base = dir.parent().unwrap_or(&self.mount);
        let lock = lock(base)?;
        let has_stepped_aside = enable(base, &limits.resources(), self.must_step_aside)?;
        let made = std::fs::create_dir(&dir).map_err(|e| FsError::new("make the cgroup", &dir, e).into());
        drop(lock);
        let stepped_aside = has_stepped_aside && !self.is_scope;
        let opened = made.and_then(|()| {
            let fd = open_dir(&dir)?;
            let cgroup = Cgroup { mount: self.mount.clone(), path: self.path, dir: fd, stepped_aside };
            cgroup.limit(limits).map(|()| cgroup)
        });
        opened.inspect_err(|_| {
            // What failed is what is told; the empty folders would only stay until the next start.
            let _gone = std::fs::remove_dir(&dir);
            let _back = if stepped_aside { step_back(base) } else { Ok(()) };
        })
    }
}

/// Kills and removes the cgroup that a dead command recorded as `path`; `false` when it is gone
/// already. Probe after it, not before: it may undo what the dead command left.
///
/// # Errors
/// `NotOurs` for a path that no command of ours can have recorded, or what the kernel says.
pub fn sweep(mount: &Path, path: &Path) -> Result<bool, CgroupError> {
    let Some(mut cgroup) = Cgroup::open(mount, path)? else {
        // Its command may have died between stepping aside and making it.
        if let Some(base) = below(mount, path).parent().filter(|base| base.join(SELF_DIR).is_dir()) {
            step_back(base)?;
        }
        return Ok(false);
    };
    cgroup.kill()?;
    cgroup.stepped_aside = cgroup.base().join(SELF_DIR).is_dir();
    cgroup.remove()?;
    Ok(true)
}

impl Cgroup {
    /// The cgroup that another command made at `path` below `mount`; `None` when it is gone.
    ///
    /// # Errors
    /// `NotOurs` for a path that no command of ours can have recorded, or what the kernel says.
    pub fn open(mount: &Path, path: &Path) -> Result<Option<Self>, CgroupError> {
        let below = path.strip_prefix("/").ok();
        let is_plain =
            below.is_some_and(|below| below.components().all(|c| matches!(c, Component::Normal(_))));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = name.strip_prefix(PREFIX).and_then(|id| id.parse::<ContainerId>().ok());
        let (Some(below), Some(_), true) = (below, id, is_plain) else {
            return Err(CgroupError::NotOurs { path: path.to_owned() });
        };
        match open_dir(&mount.join(below)) {
            Ok(dir) => {
                Ok(Some(Self { mount: mount.to_owned(), path: path.to_owned(), dir, stepped_aside: false }))
            }
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Its folder: what `clone3` takes to start a process in it (`CLONE_INTO_CGROUP`, Linux 5.7).
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Its path below the mount of cgroup2, with a slash in front: what is recorded on disk.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many processes the kernel has killed in it because memory ran out.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Ok(self.read("memory.events")?.and_then(|events| keyed(&events, "oom_kill")).unwrap_or(0))
    }

    /// How often it was refused a new process because of its limit.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pids_refused(&self) -> Result<u64, CgroupError> {
        Ok(self.read("pids.events")?.and_then(|events| keyed(&events, "max")).unwrap_or(0))
    }

    /// Kills every process in it and below it, also those that fork meanwhile.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<(), CgroupError> {
        match self.write("cgroup.kill", "1") {
            // Older than Linux 5.14.
            Err(CgroupError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.kill_each()
            }
            other => other,
        }
    }

    /// Kills one by one, frozen so that none can fork away.
    fn kill_each(&self) -> Result<(), CgroupError> {
        self.write("cgroup.freeze", "1")?;
        for _ in 0..KILL_ROUNDS_MAX {
            let pids = processes_below(&self.folder(), DEPTH_MAX)?;
            if pids.is_empty() {
                break;
            }
            for pid in pids {
                // Gone meanwhile is as good; another reason shows when it is still there at the end.
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.write("cgroup.freeze", "0")
    }

    /// Removes it and everything below it, waiting for killed processes to go, and moves us back to
    /// where we were before [`Site::make`].
    ///
    /// # Errors
    /// `Busy` when processes stay, or what the kernel says.
    pub fn remove(self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + EMPTY_WAIT;
        let folder = self.folder();
        loop {
            match remove_tree(&folder, DEPTH_MAX) {
                Err(e) if e.source.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                    if Instant::now() >= deadline {
                        return Err(CgroupError::Busy { path: self.path });
                    }
                    self.wait_for_change()?;
                }
                Err(e) => return Err(e.into()),
                Ok(()) => break,
            }
        }
        if self.stepped_aside { step_back(&self.base()) } else { Ok(()) }
    }

    /// Waits until processes came or went, at most a twentieth of a second: the kernel tells of the
    /// last one that leaves, but a folder may stay busy for a moment after it.
    fn wait_for_change(&self) -> Result<(), CgroupError> {
        let path = self.folder().join("cgroup.events");
        let events = match File::open(&path) {
            Ok(events) => events,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(FsError::new("open", path, e).into()),
        };
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        match rustix::event::poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&moment)) {
            Ok(_) => std::thread::sleep(Duration::from_millis(1)),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(FsError::new("wait for", path, e).into()),
        }
        Ok(())
    }

    /// Sets the limits that are named, and leaves the others as they are.
    ///
    /// # Errors
    /// What the kernel says, such as a controller that is not there.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        if let Some(bytes) = limits.memory_bytes {
            self.write("memory.max", &bytes.to_string())?;
        }
        if let Some(bytes) = limits.memory_swap_bytes {
            match self.write("memory.swap.max", &bytes.to_string()) {
                // A kernel without swap has no such file, and nothing that could exceed it.
                Err(CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && !Path::new("/proc/swaps").exists() => {}
                other => other?,
            }
        }
        if let Some(quota) = limits.cpu_quota {
            self.write("cpu.max", &format!("{} {}", quota.quota_us, quota.period_us))?;
        }
        if let Some(pids) = limits.pids {
            self.write("pids.max", &pids.to_string())?;
        }
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        below(&self.mount, &self.path)
    }

    fn base(&self) -> PathBuf {
        let folder = self.folder();
        folder.parent().unwrap_or(&self.mount).to_owned()
    }

    fn write(&self, name: &str, value: &str) -> Result<(), CgroupError> {
        write_at(self.dir.as_fd(), name, value).map_err(|source| CgroupError::Write {
            file: self.folder().join(name),
            value: value.to_owned(),
            source,
        })
    }

    /// `None` where its controller is off, or the cgroup is gone.
    fn read(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let path = self.folder().join(name);
        match read_file(&path, FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if is_gone(&e.source) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

/// The folder of a recorded path.
fn below(mount: &Path, path: &Path) -> PathBuf {
    mount.join(path.strip_prefix("/").unwrap_or(path))
}

fn write_at(dir: BorrowedFd<'_>, name: &str, value: &str) -> io::Result<()> {
    let fd =
        rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    // The kernel takes a value in one write or not at all.
    File::from(fd).write_all(value.as_bytes())
}

fn write_in(folder: &Path, name: &str, value: &str) -> Result<(), CgroupError> {
    let wrong = |source| CgroupError::Write { file: folder.join(name), value: value.to_owned(), source };
    let dir = open_dir(folder)?;
    write_at(dir.as_fd(), name, value).map_err(wrong)
}

/// A removed cgroup answers `ENODEV` to who still has a file of it open.
fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// The number behind `key` in lines of `key number`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn words(path: &Path) -> Result<Vec<String>, FsError> {
    let bytes = read_file(path, FILE_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).split_ascii_whitespace().map(str::to_owned).collect())
}

fn nouns(resources: &[Resource]) -> String {
    if resources.is_empty() {
        return "the life of a container".to_owned();
    }
    resources.iter().map(|resource| resource.noun()).collect::<Vec<_>>().join(", ")
}

/// Two commands that start or end at once must not switch each other's controllers.
fn lock(base: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(base, flags, Mode::empty()).map_err(|e| FsError::new("open", base, e))?;
    loop {
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|()| fd).map_err(|e| FsError::new("lock", base, e)),
        }
    }
}

/// Switches the controllers of `resources` on for what is below `base`, moving our process to
/// `cuddy-self` first where it must; `true` when it moved.
fn enable(base: &Path, resources: &[Resource], must_step_aside: bool) -> Result<bool, CgroupError> {
    let enabled = words(&base.join("cgroup.subtree_control"))?;
    let mut missing: Vec<_> = resources.iter().map(|resource| resource.controller()).collect();
    missing.dedup();
    missing.retain(|controller| !enabled.iter().any(|name| name == controller));
    if missing.is_empty() {
        return Ok(false);
    }
    if must_step_aside {
        let aside = base.join(SELF_DIR);
        match std::fs::create_dir(&aside) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FsError::new("make the cgroup", &aside, e).into());
            }
            _ => {}
        }
        // `0` is the process that writes: right in every PID namespace.
        write_in(&aside, "cgroup.procs", "0")?;
    }
    let value: Vec<_> = missing.iter().map(|controller| format!("+{controller}")).collect();
    let switched = write_in(base, "cgroup.subtree_control", &value.join(" "));
    if switched.is_err() && must_step_aside {
        step_back(base)?;
    }
    switched.map(|()| must_step_aside)
}

/// Undoes [`enable`] when nobody needs it any more, so that whoever put us into `base` can put the
/// next process there: the kernel takes none into a cgroup with controlled children.
fn step_back(base: &Path) -> Result<(), CgroupError> {
    match try_step_back(base) {
        // systemd was faster: a scope goes with its last process.
        Err(CgroupError::File(FsError { source, .. }) | CgroupError::Write { source, .. })
            if is_gone(&source) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn try_step_back(base: &Path) -> Result<(), CgroupError> {
    let _lock = lock(base)?;
    let aside = base.join(SELF_DIR);
    let children = folders(base)?;
    if children.iter().any(|child| *child != aside) || children.is_empty() {
        return Ok(());
    }
    let ours = std::process::id().to_string();
    let inside = words(&aside.join("cgroup.procs"))?;
    if inside.iter().any(|pid| *pid != ours) {
        return Ok(());
    }
    let enabled = words(&base.join("cgroup.subtree_control"))?;
    let value: Vec<_> = enabled.iter().map(|controller| format!("-{controller}")).collect();
    if !value.is_empty() {
        write_in(base, "cgroup.subtree_control", &value.join(" "))?;
    }
    if !inside.is_empty() {
        write_in(base, "cgroup.procs", "0")?;
    }
    Ok(remove_tree(&aside, 1)?)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, FsError> {
    let wrong = |e| FsError::new("list", dir, e);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if entry.file_type().map_err(wrong)?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Removes a cgroup and those below it, the deepest first. One that is gone is as good.
fn remove_tree(dir: &Path, depth: u32) -> Result<(), FsError> {
    match rustix::fs::unlinkat(rustix::fs::CWD, dir, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        // It has folders below it, or processes in it.
        Err(rustix::io::Errno::BUSY) if depth > 0 => {}
        Err(e) => return Err(FsError::new("remove the cgroup", dir, e)),
    }
    let below = match folders(dir) {
        Err(e) if is_gone(&e.source) => return Ok(()),
        other => other?,
    };
    for folder in below {
        remove_tree(&folder, depth - 1)?;
    }
    match rustix::fs::unlinkat(rustix::fs::CWD, dir, AtFlags::REMOVEDIR) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(FsError::new("remove the cgroup", dir, e)),
    }
}

fn processes_below(dir: &Path, depth: u32) -> Result<Vec<Pid>, FsError> {
    let listed = words(&dir.join("cgroup.procs"))?;
    let mut pids: Vec<_> = listed.iter().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
    for folder in if depth > 0 { folders(dir)? } else { Vec::new() } {
        pids.extend(processes_below(&folder, depth - 1)?);
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::container::delegation::{Environment, probe};

    fn id(n: u8) -> ContainerId {
        ContainerId::from_bytes(&[n; 32])
    }

    /// A cgroup without limits, where this host lets us make one: on a hybrid host root can.
    fn plain(n: u8) -> Option<Cgroup> {
        let uid = rustix::process::geteuid().as_raw();
        let support = probe(&Environment { uid, runtime_dir: None });
        let limits = Limits::default();
        match find_site(&support, &id(n), &limits).and_then(|site| site.make(&limits)) {
            Err(CgroupError::Unsupported { lack, .. }) => {
                skipped(&lack.reason);
                None
            }
            other => Some(other.unwrap()),
        }
    }

    /// Past libtest, which would keep it to itself.
    fn skipped(reason: &str) {
        let line = format!("SKIPPED: no cgroup can be made here: {reason}\n");
        io::stderr().write_all(line.as_bytes()).unwrap();
    }

    fn sleeper(cgroup: &Cgroup) -> Child {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        cgroup.write("cgroup.procs", &child.id().to_string()).unwrap();
        child
    }

    #[test]
    fn a_killed_cgroup_has_no_process_and_goes_away() {
        let Some(cgroup) = plain(0xa1) else { return };
        let folder = cgroup.folder();
        std::fs::create_dir_all(folder.join("nested/deeper")).unwrap();
        let mut child = sleeper(&cgroup);
        cgroup.kill().unwrap();
        cgroup.remove().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!folder.exists());
    }

    #[test]
    fn a_kernel_that_cannot_kill_a_cgroup_kills_each_process_of_it() {
        let Some(cgroup) = plain(0xa2) else { return };
        let mut child = sleeper(&cgroup);
        let nested = cgroup.folder().join("nested");
        std::fs::create_dir(&nested).unwrap();
        let mut second = sleeper(&cgroup);
        std::fs::write(nested.join("cgroup.procs"), second.id().to_string()).unwrap();
        cgroup.kill_each().unwrap();
        assert!(!child.wait().unwrap().success() && !second.wait().unwrap().success());
        cgroup.remove().unwrap();
    }

    #[test]
    fn a_dead_commands_cgroup_is_swept_by_its_recorded_path_and_only_ours_is() {
        let Some(cgroup) = plain(0xa3) else { return };
        let mut child = sleeper(&cgroup);
        let (mount, path) = (cgroup.mount.clone(), cgroup.path().to_owned());
        drop(cgroup);
        assert!(sweep(&mount, &path).unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(!sweep(&mount, &path).unwrap());
    }

    #[test]
    fn a_recorded_path_that_is_not_a_containers_is_refused() {
        let mount = tempfile::tempdir().unwrap();
        let name = format!("cuddy-{}", id(1));
        for path in ["/", "/cuddy-self", "/user.slice", "/../x", "", "relative"] {
            let refused = sweep(mount.path(), Path::new(path));
            assert!(matches!(refused, Err(CgroupError::NotOurs { .. })), "{path}");
        }
        assert!(matches!(sweep(mount.path(), Path::new(&name)), Err(CgroupError::NotOurs { .. })));
        let above = format!("/a/../{name}");
        assert!(matches!(sweep(mount.path(), Path::new(&above)), Err(CgroupError::NotOurs { .. })));
        assert!(!sweep(mount.path(), &Path::new("/").join(&name)).unwrap());
    }

    #[test]
    fn a_plain_cgroup_counts_no_kill() {
        let Some(cgroup) = plain(0xa4) else { return };
        assert_eq!(cgroup.oom_kills().unwrap(), 0);
        cgroup.remove().unwrap();
    }

    #[test]
    fn a_count_is_read_by_its_whole_name() {
        let events = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(keyed(events, "oom_kill"), Some(2));
        assert_eq!(keyed(events, "oom"), Some(3));
        assert_eq!(keyed(events, "max"), None);
    }
}
