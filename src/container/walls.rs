//! The last steps inside a container, between libcontainer's namespaces and the command's exec.
//!
//! `raise` needs privileges and runs first: masks, terminal, propagation. `drop_to_command`
//! gives up everything and executes. Both run in the container's first process and nowhere else.
//! Every wall that cannot be built is an error: nothing goes on weaker than it was asked for.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use oci_spec::runtime::{Capabilities, LinuxNamespaceType, PosixRlimit, Process, Spec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};
use rustix::process::{DumpableBehavior, Signal};

use crate::container::bpf::{BpfError, Program};
use crate::container::devices;
use crate::container::plan::{First, Walls, unhex};
use crate::container::reaper;
use crate::container::rootfs::{attach, propagation_flags};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs::{self, FsError};
use crate::sys::process::{self, ProcessError};

/// The Landlock version whose rights we ask for; an older kernel gives what it has.
const LANDLOCK_ABI: ABI = ABI::V6;
/// What a file system says it is (statfs(2)).
const PROC_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Why a wall could not be built.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// A system call failed.
    #[error("cannot {action} inside the container")]
    Call {
        /// What was being done: a verb.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A path could not be hidden or protected.
    #[error("cannot protect `{path}` inside the container")]
    Path {
        /// Where inside.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something is not what it must be.
    #[error("`{path}` inside the container is not {what}")]
    NotGenuine {
        /// Where inside.
        path: PathBuf,
        /// What it must be.
        what: &'static str,
    },
    /// The process could not be changed.
    #[error("cannot build a wall of the container")]
    Process(#[from] ProcessError),
    /// A file could not be opened.
    #[error("cannot build a wall of the container")]
    Fs(#[from] FsError),
    /// The seccomp filter is damaged.
    #[error("cannot use the container's seccomp filter")]
    Filter(#[from] BpfError),
    /// Landlock refused.
    #[error("cannot build the second wall (Landlock)")]
    Landlock(#[from] landlock::RulesetError),
    /// A resource limit was not taken.
    #[error("cannot set the resource limit `{name}` to {}:{}", typed(*soft), typed(*hard))]
    Limit {
        /// As `--ulimit` has it: `nofile`.
        name: String,
        /// The soft limit.
        soft: u64,
        /// The hard limit.
        hard: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A name in the spec is unknown.
    #[error("`{name}` in the container's spec is not known here")]
    Unknown {
        /// What the spec says.
        name: String,
    },
}

/// A resource limit as `--ulimit` takes it.
fn typed(limit: u64) -> String {
    if limit == u64::MAX { "-1".to_owned() } else { limit.to_string() }
}

impl Fault for WallError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotGenuine { .. } | Self::Limit { .. } => ErrorKind::Denied,
            Self::Unknown { .. } => ErrorKind::Usage,
            Self::Filter(e) => e.kind(),
            Self::Process(e) => e.kind(),
            Self::Fs(e) => e.kind(),
            Self::Call { .. } | Self::Path { .. } | Self::Landlock(_) => ErrorKind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Limit { .. } => {
                vec!["only root may set one above its own: `ulimit -H -a` shows what you have".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn call(action: &'static str) -> impl Fn(rustix::io::Errno) -> WallError {
    move |e| WallError::Call { action, source: e.into() }
}

/// Builds the walls that need privileges. Gives the container's side of the terminal back as the
/// controlling side, to be sent to whoever relays it.
///
/// # Errors
/// [`WallError`] names the wall.
pub fn raise(spec: &Spec, walls: &Walls) -> Result<Option<OwnedFd>, WallError> {
    tie()?;
    let root = fs::open_dir(Path::new("/"))?;
    devices::mount_all(spec, root.as_fd())
        .map_err(|(action, e)| WallError::Call { action, source: e.into() })?;
    if let Some(linux) = spec.linux() {
        let mut namespaces = linux.namespaces().iter().flatten();
        if namespaces.any(|n| n.typ() == LinuxNamespaceType::Network && n.path().is_none()) {
            process::bring_loopback_up()?;
        }
        hide(root.as_fd(), linux.masked_paths().as_deref().unwrap_or_default())?;
        for path in linux.readonly_paths().as_deref().unwrap_or_default() {
            make_read_only(root.as_fd(), path)?;
        }
    }
    for (path, propagation) in &walls.propagation {
        rustix::mount::mount_change(path, propagation_flags(*propagation))
            .map_err(|e| WallError::Path { path: path.clone(), source: e.into() })?;
    }
    let wants_terminal = spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
    wants_terminal.then(|| open_terminal(spec)).transpose()
}

/// Binds this process to who started it, hides its memory, and leaves the caller's keys behind.
///
/// # Errors
/// [`WallError`] names the step.
pub fn tie() -> Result<(), WallError> {
    // Whoever started us holds the container: without it nothing must go on.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(call("tie the container to us"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(call("hide our memory"))?;
    Ok(process::join_new_keyring()?)
}

/// Opens a path of `/proc` or `/sys` without following any link, and checks that it lies in the real
/// one (CVE-2025-52881, CVE-2019-16884). `None` when this kernel does not have it.
fn open_genuine(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, WallError> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let wrong = |e: rustix::io::Errno| WallError::Path { path: path.into(), source: e.into() };
    let open = |path: &str| rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
    let fd = match open(path) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(wrong(e)),
    };
    let kind_of = |fd: &OwnedFd| rustix::fs::fstatfs(fd).map(|found| found.f_type).map_err(wrong);
    if path.starts_with("/proc/") && kind_of(&fd)? != PROC_MAGIC {
        return Err(WallError::NotGenuine { path: path.into(), what: "in a real procfs" });
    }
    // Other trees of the kernel stand in the host's `/sys`, so the question is what holds them.
    if path.starts_with("/sys/") && kind_of(&open("/sys").map_err(wrong)?)? != SYSFS_MAGIC {
        return Err(WallError::NotGenuine { path: path.into(), what: "in a real sysfs" });
    }
    Ok(Some(fd))
}

/// Covers each path: a folder with an empty read-only one, a file with `/dev/null`
/// (CVE-2025-31133, CVE-2025-62161: the cover comes from a descriptor that was checked).
fn hide(root: BorrowedFd<'_>, paths: &[String]) -> Result<(), WallError> {
    let null = genuine_null(root)?;
    for path in paths {
        let Some(target) = open_genuine(root, path)? else { continue };
        let wrong = |e: rustix::io::Errno| WallError::Path { path: path.into(), source: e.into() };
        let stat = rustix::fs::fstat(&target).map_err(wrong)?;
        let cover = if FileType::from_raw_mode(stat.st_mode).is_dir() {
            empty_folder()?
        } else {
            clone_of(null.as_fd()).map_err(wrong)?
        };
        attach(cover.as_fd(), target.as_fd()).map_err(wrong)?;
    }
    Ok(())
}

fn clone_of(mount: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(mount, "", flags)
}

fn empty_folder() -> Result<OwnedFd, WallError> {
    let wrong = call("make an empty folder");
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(&wrong)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "size", "4k").map_err(&wrong)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "0555").map_err(&wrong)?;
    rustix::mount::fsconfig_create(context.as_fd()).map_err(&wrong)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(&wrong)
}

/// `/dev/null`, checked to be the device 1:3 and no link.
fn genuine_null(root: BorrowedFd<'_>) -> Result<OwnedFd, WallError> {
    use rustix::fs::ResolveFlags;
    let path = Path::new("/dev/null");
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let fd = rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|e| WallError::Path { path: path.into(), source: e.into() })?;
    let stat = rustix::fs::fstat(&fd).map_err(|e| WallError::Path { path: path.into(), source: e.into() })?;
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3);
    if is_null { Ok(fd) } else { Err(WallError::NotGenuine { path: path.into(), what: "the null device" }) }
}

fn make_read_only(root: BorrowedFd<'_>, path: &str) -> Result<(), WallError> {
    let Some(target) = open_genuine(root, path)? else { return Ok(()) };
    let wrong = |e: rustix::io::Errno| WallError::Path { path: path.into(), source: e.into() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let copy = rustix::mount::open_tree(&target, "", flags).map_err(wrong)?;
    let attributes = process::MOUNT_ATTR_RDONLY
        | process::MOUNT_ATTR_NOSUID
        | process::MOUNT_ATTR_NODEV
        | process::MOUNT_ATTR_NOEXEC;
    process::set_mount_attributes(copy.as_fd(), attributes, 0, None, true)?;
    attach(copy.as_fd(), target.as_fd()).map_err(wrong)
}

/// Makes a terminal in the container's own `/dev/pts`, puts it on 0, 1 and 2 and on `/dev/console`,
/// all by descriptor (CVE-2025-52565), and gives the relaying side.
fn open_terminal(spec: &Spec) -> Result<OwnedFd, WallError> {
    use rustix::pty::OpenptFlags;
    let wrong = call("make a terminal");
    let path = Path::new("/dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let relay = rustix::fs::open(path, flags, Mode::empty()).map_err(&wrong)?;
    if rustix::fs::fstatfs(&relay).map_err(&wrong)?.f_type != DEVPTS_MAGIC {
        return Err(WallError::NotGenuine { path: path.into(), what: "a terminal of the container" });
    }
    rustix::pty::unlockpt(&relay).map_err(&wrong)?;
    let own = rustix::pty::ioctl_tiocgptpeer(
        &relay,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .map_err(&wrong)?;
    if let Some(size) = spec.process().as_ref().and_then(Process::console_size) {
        let units = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
        let (ws_row, ws_col) = (units(size.height()), units(size.width()));
        let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&own, size).map_err(&wrong)?;
    }
    if let Some(user) = spec.process().as_ref().map(Process::user) {
        let uid = rustix::process::Uid::from_raw(user.uid());
        rustix::fs::fchown(&own, Some(uid), None).map_err(&wrong)?;
    }
    rustix::process::ioctl_tiocsctty(&own).map_err(&wrong)?;
    rustix::stdio::dup2_stdin(&own).map_err(&wrong)?;
    rustix::stdio::dup2_stdout(&own).map_err(&wrong)?;
    rustix::stdio::dup2_stderr(&own).map_err(&wrong)?;
    let make = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    let console = rustix::fs::open("/dev/console", make, Mode::from_raw_mode(0o600)).map_err(&wrong)?;
    attach(clone_of(own.as_fd()).map_err(&wrong)?.as_fd(), console.as_fd()).map_err(&wrong)?;
    Ok(relay)
}

/// Why the command was not executed, with Docker's exit code for it.
#[derive(Debug)]
pub struct NotExecuted {
    /// 125 when a wall failed, 126 when the file cannot be executed, 127 when there is none.
    pub code: i32,
    /// What happened.
    pub error: Error,
}

impl From<WallError> for NotExecuted {
    fn from(error: WallError) -> Self {
        Self { code: 125, error: error.into() }
    }
}

/// Gives up everything the command must not have, in the one order that works, and executes it. Where
/// there is no command, `ready` is called and the process stays.
///
/// # Errors
/// [`NotExecuted`]; it never returns otherwise.
pub fn drop_to_command(spec: &Spec, walls: &Walls, ready: impl FnOnce()) -> NotExecuted {
    match descend(spec, walls, ready) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn process_of(spec: &Spec) -> Result<&Process, WallError> {
    spec.process().as_ref().ok_or_else(|| WallError::Unknown { name: "no process".to_owned() })
}

fn descend(
    spec: &Spec,
    walls: &Walls,
    ready: impl FnOnce(),
) -> Result<std::convert::Infallible, NotExecuted> {
    if walls.first == First::Holder {
        confine(spec, walls)?;
        ready();
        reaper::hold()
    }
    let process = process_of(spec)?;
    let command = Command::find(process)?;
    confine(spec, walls)?;
    match walls.first {
        First::Reaper => reaper::become_init(process.terminal().unwrap_or(false)).map_err(WallError::from)?,
        First::Keeper => reaper::become_keeper().map_err(WallError::from)?,
        First::Command | First::Holder => {}
    }
    process::reset_signals().map_err(WallError::from)?;
    Err(command.execute())
}

/// Makes this process what the container's command is allowed to be, for good.
///
/// # Errors
/// [`WallError`] names the wall.
pub fn confine(spec: &Spec, walls: &Walls) -> Result<(), WallError> {
    let process = process_of(spec)?;
    let filter = Filter::read(&walls.filter)?;
    check_cwd()?;
    rustix::process::umask(Mode::from_raw_mode(walls.umask));
    for limit in process.rlimits().as_deref().unwrap_or_default() {
        set_rlimit(limit)?;
    }
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    if let Some(writable) = &walls.landlock {
        restrict_files(writable, walls.shared)?;
    }
    // Without no_new_privs the kernel takes a filter only from who holds CAP_SYS_ADMIN, so it goes
    // first; with it the filter goes last, when nothing of ours is left to do.
    if !no_new_privileges {
        filter.install()?;
    }
    drop_identity(process)?;
    if no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(call("give up new privileges"))?;
    }
    // The kernel forgets both whenever ids change.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(call("tie the container to us"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(call("hide our memory"))?;
    process::close_on_exec_from(3)?;
    if no_new_privileges {
        filter.install()?;
    }
    Ok(())
}

/// The seccomp filter, checked before the first step that cannot be taken back.
struct Filter(Option<Program>);

impl Filter {
    fn read(text: &str) -> Result<Self, WallError> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let bytes =
            unhex(text).ok_or_else(|| WallError::Unknown { name: "the seccomp filter".to_owned() })?;
        Ok(Self(Some(Program::from_bytes(&bytes)?)))
    }

    fn install(&self) -> Result<(), WallError> {
        let Some(program) = &self.0 else { return Ok(()) };
        Ok(process::install_seccomp(&program.kernel_bytes(), program.flags())?)
    }
}

/// The current folder must lie below the root: a descriptor of the host that leaked could be
/// entered by a hostile `WORKDIR` (CVE-2024-21626).
fn check_cwd() -> Result<(), WallError> {
    let cwd = rustix::process::getcwd(Vec::new()).map_err(call("find the working folder"))?;
    if cwd.as_bytes().starts_with(b"/") {
        return Ok(());
    }
    Err(WallError::NotGenuine {
        path: PathBuf::from(cwd.to_string_lossy().into_owned()),
        what: "inside the container",
    })
}

fn set_rlimit(limit: &PosixRlimit) -> Result<(), WallError> {
    use rustix::process::{Resource, Rlimit};
    let name = limit.typ().to_string();
    let resource = match name.as_str() {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return Err(WallError::Unknown { name }),
    };
    let value = |v: u64| (v != u64::MAX).then_some(v);
    rustix::process::setrlimit(
        resource,
        Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) },
    )
    .map_err(|e| WallError::Limit {
        name: name.trim_start_matches("RLIMIT_").to_ascii_lowercase(),
        soft: limit.soft(),
        hard: limit.hard(),
        source: e.into(),
    })
}

/// Files can be read and executed everywhere, since only what was named is there, and written only
/// below `writable`. Sockets without a file and signals stop at the edge, unless `shared`: a command that
/// is brought in later has an edge of its own, and its neighbours are behind it.
fn restrict_files(writable: &[PathBuf], shared: bool) -> Result<(), WallError> {
    let every = AccessFs::from_all(LANDLOCK_ABI);
    let read = AccessFs::from_read(LANDLOCK_ABI);
    let mut asked = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(every)?;
    if !shared {
        asked = asked.scope(Scope::from_all(LANDLOCK_ABI))?;
    }
    let created = asked.create()?;
    let mut ruleset = add_rule(created, Path::new("/"), read)?;
    for path in writable {
        ruleset = add_rule(ruleset, path, every)?;
    }
    ruleset.no_new_privs(false).restrict_self()?;
    Ok(())
}

fn add_rule(
    ruleset: landlock::RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<landlock::RulesetCreated, WallError> {
    let fd = PathFd::new(path)
        .map_err(|e| WallError::Path { path: path.to_owned(), source: io::Error::other(e) })?;
    let stat = rustix::fs::fstat(&fd).map_err(call("look at a writable path"))?;
    let folder = FileType::from_raw_mode(stat.st_mode).is_dir();
    let access = if folder { access } else { access & AccessFs::from_file(LANDLOCK_ABI) };
    Ok(ruleset.add_rule(PathBeneath::new(fd, access))?)
}

/// Groups, ids and capabilities, in the order that keeps the right to do the next.
fn drop_identity(process: &Process) -> Result<(), WallError> {
    let wrong = |action| move |e: nix::errno::Errno| WallError::Call { action, source: e.into() };
    let wrong_caps = |e: caps::errors::CapsError| WallError::Call {
        action: "drop capabilities",
        source: io::Error::other(e),
    };
    let sets = process.capabilities().as_ref();
    let set = |chosen: Option<&Capabilities>| names(chosen);
    let bounding = set(sets.and_then(|s| s.bounding().as_ref()))?;
    let permitted = set(sets.and_then(|s| s.permitted().as_ref()))?;
    let effective = set(sets.and_then(|s| s.effective().as_ref()))?;
    let inheritable = set(sets.and_then(|s| s.inheritable().as_ref()))?;
    let ambient = set(sets.and_then(|s| s.ambient().as_ref()))?;
    for capability in caps::all() {
        if !bounding.contains(&capability)
            && caps::has_cap(None, CapSet::Bounding, capability).map_err(wrong_caps)?
        {
            caps::drop(None, CapSet::Bounding, capability).map_err(wrong_caps)?;
        }
    }
    let user = process.user();
    let groups: Vec<_> =
        user.additional_gids().iter().flatten().map(|&g| nix::unistd::Gid::from_raw(g)).collect();
    match nix::unistd::setgroups(&groups) {
        Ok(()) => {}
        // A namespace with one id has setgroups denied for good: then nobody can add a group either.
        Err(nix::errno::Errno::EPERM) if groups.is_empty() => {}
        Err(e) => return Err(wrong("set the supplementary groups")(e)),
    }
    rustix::thread::set_keep_capabilities(true).map_err(call("keep capabilities"))?;
    let (uid, gid) = (nix::unistd::Uid::from_raw(user.uid()), nix::unistd::Gid::from_raw(user.gid()));
    nix::unistd::setresgid(gid, gid, gid).map_err(wrong("become the group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(wrong("become the user"))?;
    rustix::thread::set_keep_capabilities(false).map_err(call("keep capabilities"))?;
    rustix::thread::clear_ambient_capability_set().map_err(call("drop capabilities"))?;
    // Another user than 0 holds no capability; its bounding set says what a set-user-id program may.
    let none = CapsHashSet::new();
    let (permitted, effective) = if uid.is_root() { (&permitted, &effective) } else { (&ambient, &ambient) };
    caps::set(None, CapSet::Effective, &none).map_err(wrong_caps)?;
    caps::set(None, CapSet::Inheritable, &inheritable).map_err(wrong_caps)?;
    caps::set(None, CapSet::Permitted, permitted).map_err(wrong_caps)?;
    caps::set(None, CapSet::Effective, effective).map_err(wrong_caps)?;
    for capability in ambient {
        caps::raise(None, CapSet::Ambient, capability).map_err(wrong_caps)?;
    }
    Ok(())
}

fn names(chosen: Option<&Capabilities>) -> Result<CapsHashSet, WallError> {
    let one = |c: &oci_spec::runtime::Capability| {
        let name = format!("CAP_{c}");
        Capability::from_str(&name).or(Err(WallError::Unknown { name }))
    };
    chosen.into_iter().flatten().map(one).collect()
}

/// The command, found by the container's own `PATH`, ready to execute.
struct Command {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    name: String,
}

impl Command {
    fn find(process: &Process) -> Result<Self, NotExecuted> {
        let texts = |list: Option<&Vec<String>>| {
            list.into_iter().flatten().filter_map(|t| CString::new(t.as_str()).ok()).collect::<Vec<_>>()
        };
        let arguments = texts(process.args().as_ref());
        let environment = texts(process.env().as_ref());
        let name = process.args().iter().flatten().next().cloned().unwrap_or_default();
        let path = process.env().iter().flatten().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
        let candidates: Vec<CString> = if name.contains('/') {
            CString::new(name.as_str()).into_iter().collect()
        } else {
            let join =
                |dir: &str| CString::new(format!("{}/{name}", if dir.is_empty() { "." } else { dir })).ok();
            path.split(':').filter_map(join).collect()
        };
        if name.is_empty() || arguments.is_empty() || candidates.is_empty() {
            let error = Error::new(ErrorKind::NotFound, format!("`{name}` is not a command"));
            return Err(NotExecuted { code: 127, error });
        }
        Ok(Self { candidates, arguments, environment, name })
    }

    /// Tries each place, as a shell does: one that is there and cannot be executed is remembered.
    fn execute(&self) -> NotExecuted {
        let mut denied = None;
        for candidate in &self.candidates {
            if leads_out(candidate) {
                denied = Some(io::Error::from(io::ErrorKind::PermissionDenied));
                continue;
            }
            let e = process::execute(candidate, &self.arguments, &self.environment);
            match e.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) if !exists(candidate) => {}
                _ => denied = Some(e),
            }
        }
        let name = &self.name;
        match denied {
            Some(e) => {
                let mut error =
                    Error::new(ErrorKind::Denied, format!("cannot execute `{name}` in the container"));
                error.chain.push(e.to_string());
                if e.kind() == io::ErrorKind::NotFound {
                    error = error.hint("the file is there, but the interpreter or loader it names is not");
                }
                NotExecuted { code: 126, error }
            }
            None => {
                let error =
                    Error::new(ErrorKind::NotFound, format!("no command `{name}` in the container's PATH"));
                NotExecuted { code: 127, error }
            }
        }
    }
}

fn exists(path: &CStr) -> bool {
    rustix::fs::statat(rustix::fs::CWD, path, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// An image may name `/proc/self/exe`, or a link to it, as its command: that is this program, reached on
/// a way that leaves the container (CVE-2019-5736, CVE-2024-21626).
fn leads_out(path: &CStr) -> bool {
    use rustix::fs::ResolveFlags;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened =
        rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    matches!(opened, Err(rustix::io::Errno::LOOP))
}
