//! Processes: start ourselves again as the stage, pidfds, the calls that have no safe wrapper.
//!
//! It knows nothing of containers: what the stage does is `container::stage`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use crate::error::{ErrorKind, Fault};

/// The hidden first argument that makes this program the stage.
pub const STAGE_ROLE: &str = "%stage";
/// The descriptor on which the stage finds its socket.
pub const STAGE_SOCKET: RawFd = 3;

/// Why a process could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process has more than one thread, so it must not fork or enter namespaces.
    #[error("this process has {threads} threads where one is needed")]
    Threads {
        /// How many there are.
        threads: usize,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    Call {
        /// What was being done: a verb.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ProcessError {
    /// An error of `action`.
    pub fn call(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Call { action, source: source.into() }
    }
}

impl Fault for ProcessError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Threads { .. } => ErrorKind::Bug,
            Self::Call { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Failed,
            },
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Call { action, .. } if action.contains("namespace") => {
                vec!["`cuddy doctor` says what this host forbids and which line allows it".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// Proof that this process had one thread when it was asked. Only such a process may fork, enter
/// namespaces or call libcontainer.
#[derive(Debug, Clone, Copy)]
pub struct OneThread(());

/// Counts this process's threads.
///
/// # Errors
/// [`ProcessError::Threads`] when there is more than one.
pub fn one_thread() -> Result<OneThread, ProcessError> {
    // A folder's link count is 2 and one for each thread's folder (proc(5)), so one stat is enough.
    let stat = rustix::fs::stat("/proc/self/task").map_err(|e| ProcessError::call("count the threads", e))?;
    match stat.st_nlink {
        3 => Ok(OneThread(())),
        links => {
            Err(ProcessError::Threads { threads: usize::try_from(links).unwrap_or(0).saturating_sub(2) })
        }
    }
}

/// A child of ours that cannot be mistaken for another process.
#[derive(Debug)]
pub struct Child {
    /// Its number, for messages and for `newuidmap`.
    pub pid: Pid,
    /// Refers to this very process, also after its number is used again.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Ends it; one that has ended already is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(&self) -> Result<(), ProcessError> {
        match rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(ProcessError::call("kill the stage", e)),
        }
    }

    /// Waits until it has ended and forgets it; one that is forgotten already is no error.
    pub fn reap(&self) {
        use rustix::process::{WaitId, WaitIdOptions};
        while let Err(rustix::io::Errno::INTR) =
            rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
        {}
    }
}

/// How the stage is started.
#[derive(Debug)]
pub struct StageStart<'a> {
    /// The stage's end of the socket to us.
    pub socket: OwnedFd,
    /// What stands on 0, 1 and 2 of the stage and so of the container; `None` keeps ours.
    pub stdio: [Option<OwnedFd>; 3],
    /// The cgroup folder it starts in (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The namespaces it makes.
    pub unshare: UnshareFlags,
}

/// Starts the stage: a copy of this program that cannot reach the file it was started from.
///
/// The child makes its namespaces, then executes our own binary out of a private read-only mount, so
/// that `/proc/PID/exe` of the container's first process never leads to a writable file
/// (CVE-2019-5736).
///
/// # Errors
/// What the kernel says about the start. What fails in the child comes over the socket, as JSON.
pub fn start_stage(proof: OneThread, start: StageStart<'_>) -> Result<Child, ProcessError> {
    let mut pidfd: RawFd = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    if start.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = CloneArguments {
        flags,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: start.cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
        ..CloneArguments::default()
    };
    // SAFETY: clone3(2) demands a readable struct of the size given, whose `pidfd` points to an int
    // we own: `arguments` and `pidfd` live on this stack frame until the call returns. Without
    // CLONE_VM the child gets its own copy of our memory, and `proof` says that no other thread
    // could hold a lock at this moment; adding CLONE_VM or a thread would break this.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&arguments), size_of::<CloneArguments>())
    };
    match result {
        // Docker's filter knows no clone3; without a cgroup to start in, fork does.
        -1 if start.cgroup.is_none() && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) => {
            start_stage_by_fork(proof, start)
        }
        -1 => Err(ProcessError::call("start the stage", io::Error::last_os_error())),
        0 => become_stage(start),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| ProcessError::call("start the stage", io::Error::other("no pid")))?;
            // SAFETY: CLONE_PIDFD made `pidfd` a new descriptor that nothing else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
    }
}

fn start_stage_by_fork(proof: OneThread, start: StageStart<'_>) -> Result<Child, ProcessError> {
    let Some(pid) = fork(proof)? else { become_stage(start) };
    // Nobody but us reaps our child, so its number cannot be another's yet.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| ProcessError::call("hold the stage", e))?;
    Ok(Child { pid, pidfd })
}

/// `struct clone_args` (linux/sched.h), up to `cgroup`.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The child's side of [`start_stage`]: never returns.
fn become_stage(start: StageStart<'_>) -> ! {
    let Err(error) = enter_stage(&start);
    let error = crate::error::Error::from(error).context("cannot start the stage");
    let text = serde_json::to_vec(&serde_json::json!({ "failed": error })).unwrap_or_default();
    // The reader sees either this line or the end of the stream; both end the start.
    let _sent = rustix::io::write(&start.socket, &text);
    exit_at_once(125)
}

fn enter_stage(start: &StageStart<'_>) -> Result<std::convert::Infallible, ProcessError> {
    let call = |action| move |e: rustix::io::Errno| ProcessError::call(action, e);
    // A lock of the command is shared by whoever has its descriptor, and ours must end with the command.
    let given = start.stdio.iter().flatten().map(AsRawFd::as_raw_fd);
    close_but(given.chain([start.socket.as_raw_fd()]).collect())?;
    // The program file is opened before anything changes, by the name the kernel keeps for us.
    let own = rustix::fs::open(
        "/proc/self/exe",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(call("open our own program"))?;
    if start.unshare.contains(UnshareFlags::NEWUSER) && rustix::process::geteuid().is_root() {
        // Only root may; others keep their groups and cannot gain by them.
        match rustix::thread::set_thread_groups(&[]) {
            // Root of a user namespace that has setgroups denied is as an ordinary user here.
            Ok(()) | Err(rustix::io::Errno::PERM) => {}
            Err(e) => return Err(ProcessError::call("drop the supplementary groups", e)),
        }
    }
    unshare(start.unshare)?;
    // Its id maps are written from outside, before it gets anything to do.
    rustix::io::write(&start.socket, b"{\"unshared\":null}")
        .map_err(call("say that the namespaces are made"))?;
    keep_capabilities_over_exec()?;
    let program = sealed_copy(own.as_fd())?;
    for (number, fd) in (0..).zip(&start.stdio) {
        if let Some(fd) = fd {
            put_descriptor(fd.as_fd(), number)?;
        }
    }
    let program = above_socket(program)?;
    put_descriptor(start.socket.as_fd(), STAGE_SOCKET)?;
    close_on_exec_from(STAGE_SOCKET + 1)?;
    let arguments: [CString; 2] = [c"cuddy".to_owned(), CString::new(STAGE_ROLE).unwrap_or_default()];
    execute_descriptor(program.as_fd(), &arguments)
}

/// Moves `fd` above the socket's number so that putting the socket there does not close it.
fn above_socket(fd: OwnedFd) -> Result<OwnedFd, ProcessError> {
    rustix::io::fcntl_dupfd_cloexec(&fd, STAGE_SOCKET + 1)
        .map_err(|e| ProcessError::call("move a descriptor", e))
}

/// Makes new namespaces for this process.
///
/// # Errors
/// What the kernel says: this is where a host that forbids user namespaces shows.
pub fn unshare(flags: UnshareFlags) -> Result<(), ProcessError> {
    if flags.is_empty() {
        return Ok(());
    }
    // SAFETY: unshare(2) with namespace flags changes no memory; CLONE_FILES and CLONE_FS, which
    // would break descriptors shared with other threads, are never among the flags of a caller.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|e| ProcessError::call("make the namespaces", e))
}

/// Makes new namespaces, a user namespace among them in which this process keeps its own ids.
///
/// # Errors
/// What the kernel says.
pub fn enter_own_namespaces(flags: UnshareFlags) -> Result<(), ProcessError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(flags | UnshareFlags::NEWUSER)?;
    write_own_maps(&format!("{uid} {uid} 1\n"), &format!("{gid} {gid} 1\n"))
}

/// The version of Landlock in this kernel; `None` where it is off or absent
/// (landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`).
pub fn landlock_version() -> Option<u32> {
    const CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no pointer and makes nothing: it answers a number.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|&v| v > 0)
}

/// Maps this process's new user namespace by itself: one id each (user_namespaces(7)).
///
/// # Errors
/// What the kernel says.
fn write_own_maps(uids: &str, gids: &str) -> Result<(), ProcessError> {
    let put = |path: &str, text: &str, action| {
        std::fs::write(path, text).map_err(|e| ProcessError::call(action, e))
    };
    put("/proc/self/setgroups", "deny", "give up setgroups in the user namespace")?;
    put("/proc/self/uid_map", uids, "write the uid map of the user namespace")?;
    put("/proc/self/gid_map", gids, "write the gid map of the user namespace")
}

/// Keeps what a new user namespace gave us although the program is executed again and the user has no
/// number inside yet (ambient capabilities, capabilities(7)).
fn keep_capabilities_over_exec() -> Result<(), ProcessError> {
    let call = |action| move |e: rustix::io::Errno| ProcessError::call(action, e);
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let sets = rustix::thread::capabilities(None).map_err(call("read the capabilities"))?;
    let kept = CapabilitySets { inheritable: sets.permitted, ..sets };
    rustix::thread::set_capabilities(None, kept).map_err(call("make capabilities inheritable"))?;
    for capability in sets.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .map_err(call("keep capabilities over exec"))?;
    }
    Ok(())
}

/// What is executed from here on gets capabilities as the user it runs as has them, no longer as
/// `start_stage` arranged it.
///
/// # Errors
/// What the kernel says.
pub fn bequeath_no_capabilities() -> Result<(), ProcessError> {
    let call = |action| move |e: rustix::io::Errno| ProcessError::call(action, e);
    rustix::thread::clear_ambient_capability_set().map_err(call("clear the ambient capabilities"))?;
    let sets = rustix::thread::capabilities(None).map_err(call("read the capabilities"))?;
    let own = CapabilitySets { inheritable: CapabilitySet::empty(), ..sets };
    rustix::thread::set_capabilities(None, own).map_err(call("give up inheritable capabilities"))
}

/// A view of our own program that nobody can write through: a read-only mount of its own, attached
/// nowhere, or, when its path leads to another file by now, a sealed copy in memory.
fn sealed_copy(own: BorrowedFd<'_>) -> Result<OwnedFd, ProcessError> {
    use rustix::mount::OpenTreeFlags;
    let call = |e: rustix::io::Errno| ProcessError::call("make a read-only view of our own program", e);
    // The mount must be of our new mount namespace, so the file is found again by its path.
    let path = rustix::fs::readlink("/proc/self/exe", Vec::new()).map_err(call)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let expected = rustix::fs::fstat(own).map_err(call)?;
    if let Ok(mount) = rustix::mount::open_tree(rustix::fs::CWD, path.as_c_str(), flags)
        && rustix::fs::fstat(&mount).is_ok_and(|s| (s.st_dev, s.st_ino) == (expected.st_dev, expected.st_ino))
        && set_mount_attributes(mount.as_fd(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, None, false).is_ok()
    {
        return Ok(mount);
    }
    copy_in_memory()
}

/// A sealed copy of our own program in memory: it costs some milliseconds, and is needed only when
/// the program file was replaced or lies where it cannot be mounted from.
fn copy_in_memory() -> Result<OwnedFd, ProcessError> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let call = |e: io::Error| ProcessError::call("copy our own program into memory", e);
    let fd = rustix::fs::memfd_create("cuddy", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|e| call(e.into()))?;
    let mut copy = std::fs::File::from(fd);
    let mut own = std::fs::File::open("/proc/self/exe").map_err(call)?;
    io::copy(&mut own, &mut copy).map_err(call)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals).map_err(|e| call(e.into()))?;
    Ok(copy.into())
}

/// mount_setattr(2): read-only.
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
/// mount_setattr(2): no set-user-id programs.
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
/// mount_setattr(2): no devices.
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
/// mount_setattr(2): no programs.
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the attributes and the propagation of a mount, or of a whole tree of mounts, by its
/// descriptor (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// What the kernel says; `EPERM` for a flag that an outer namespace has locked.
pub fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: Option<u64>,
    recursive: bool,
) -> Result<(), ProcessError> {
    let attributes = MountAttributes { set, clear, propagation: propagation.unwrap_or(0), userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: mount_setattr(2) demands an open descriptor, a NUL-terminated path and a readable
    // struct of the size given: the borrow keeps the descriptor open, and the two others are a
    // literal and a local that live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(&attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(ProcessError::call("set the mount attributes", io::Error::last_os_error()))
    }
}

const AT_RECURSIVE: i32 = 0x8000;

/// Puts a copy of `fd` at `number`, to be kept over exec.
fn put_descriptor(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), ProcessError> {
    let call = |e: io::Error| ProcessError::call("place a descriptor", e);
    if fd.as_raw_fd() == number {
        return rustix::io::fcntl_setfd(fd, FdFlags::empty()).map_err(|e| call(e.into()));
    }
    // SAFETY: dup2(2) closes what stands at `number`: this is a child about to execute, 0 to 3 are
    // given away by design, and every `OwnedFd` it still holds was moved above 3 or is one of these.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if result == number { Ok(()) } else { Err(call(io::Error::last_os_error())) }
}

/// Closes every descriptor from 3 on but these. Only for a forked copy of ours: values that own what is
/// closed here must never be used or dropped there, so it ends by [`exit_at_once`].
///
/// # Errors
/// What the kernel says.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), ProcessError> {
    close_but(kept.iter().map(AsRawFd::as_raw_fd).collect())
}

/// Marks every descriptor from `first` on to be closed by exec (close_range(2), Linux 5.11).
///
/// # Errors
/// What the kernel says.
pub fn close_on_exec_from(first: RawFd) -> Result<(), ProcessError> {
    close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes all but 0, 1, 2 and `kept`.
fn close_but(mut kept: Vec<RawFd>) -> Result<(), ProcessError> {
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd > 2) {
        if first < fd {
            close_range(first, fd - 1, 0)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, RawFd::MAX, 0)
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> Result<(), ProcessError> {
    // SAFETY: the call takes numbers and touches no memory. With CLOSE_RANGE_CLOEXEC it closes nothing
    // now; without, the callers above promise that no owner of a descriptor in the range comes to use it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(ProcessError::call("close descriptors", io::Error::last_os_error()))
    }
}

/// Executes the file of `fd` with an empty environment.
fn execute_descriptor(
    fd: BorrowedFd<'_>,
    arguments: &[CString],
) -> Result<std::convert::Infallible, ProcessError> {
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: execveat(2) demands NUL-terminated strings in NULL-terminated arrays that live until
    // the call returns: `arguments` outlives `pointers`, and both arrays end with NULL.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Err(ProcessError::call("execute our own program", io::Error::last_os_error()))
}

/// Closes every descriptor from `first` on, whoever thinks to own it.
///
/// Only for a forked copy of ours that runs nothing afterwards but its own loop.
///
/// # Errors
/// What the kernel says.
pub fn close_from(first: RawFd) -> Result<(), ProcessError> {
    close_range(first, RawFd::MAX, 0)
}

/// Gives every signal its default effect and unblocks it: what this process ignores or blocks, as
/// Rust's runtime does with SIGPIPE, must not reach the command.
///
/// # Errors
/// What the kernel says about the mask.
pub fn reset_signals() -> Result<(), ProcessError> {
    (1..=SIGNALS).for_each(default_effect);
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(|e| ProcessError::call("unblock signals", e))
}

/// Signals there are (signal(7)).
const SIGNALS: i32 = 64;
/// The first of those without a name that the C library leaves to programs.
const REAL_TIME_FIRST: i32 = 34;

fn default_effect(signal: i32) {
    /// Large enough for the kernel's `struct sigaction` everywhere; all zero is SIG_DFL, no flag, no mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    // Not the C library's call: it leaves out its own two signals, which posix_spawn(3) has ignored in
    // whoever was started by a program with threads.
    // SAFETY: rt_sigaction(2) reads a struct of at most 32 bytes behind the second pointer, which DEFAULT is,
    // and writes nothing where the third is null. SIG_DFL installs no handler, so no code of ours can run on
    // a signal. The numbers that cannot be changed (KILL, STOP) are refused, which is fine.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null::<u64>(), MASK_BYTES)
    };
}

/// Lets children of ours be waited for: whoever started us may have asked the kernel to forget its own, and
/// that outlasts exec (sigaction(2), `SIGCHLD`).
pub fn keep_ended_children() {
    default_effect(libc::SIGCHLD);
}

/// Asks for SIGTERM when our parent ends, which must be `parent`: prctl(2), `PR_SET_PDEATHSIG`.
///
/// # Errors
/// It is not our parent any more, or what the kernel says.
pub fn end_with_parent(parent: i32) -> Result<(), ProcessError> {
    let action = "end with the parent";
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|e| ProcessError::call(action, e))?;
    // One that ended before we asked sends nothing.
    let is_there = rustix::process::getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    if is_there { Ok(()) } else { Err(ProcessError::call(action, rustix::io::Errno::SRCH)) }
}

/// The signal of a number, the ones for programs' own use too.
pub fn signal_of(number: i32) -> Option<Signal> {
    if (REAL_TIME_FIRST..=SIGNALS).contains(&number) {
        // SAFETY: the number must be one of a signal that the C library does not use itself: it uses those
        // below the first that is left to programs.
        return Some(unsafe { Signal::from_raw_unchecked(number) });
    }
    Signal::from_named_raw(number)
}

/// From here on, orphans among our descendants become our children instead of the host's first process's.
/// Gives the children there are already: of whoever executed this program in its own place.
///
/// # Errors
/// What the kernel says.
pub fn adopt_orphans() -> Result<Vec<Pid>, ProcessError> {
    use rustix::process::{WaitId, WaitIdOptions};
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| ProcessError::call("adopt what our processes leave", e))?;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::All, look) {
        Err(rustix::io::Errno::CHILD) => Ok(Vec::new()),
        _ => Ok(children()),
    }
}

/// Lets this process, and who it starts from now on, have as many files open as it may at all.
///
/// # Errors
/// What the kernel says.
pub fn raise_open_files() -> Result<(), ProcessError> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|e| ProcessError::call("raise the limit of open files", e))
}

/// Kills every child of this process but `spared`, adopted ones too, and waits until none is left or
/// `patience` is over: a process that hangs in the kernel must not hang us.
pub fn end_children(spared: &[Pid], patience: Duration) {
    let until = Instant::now() + patience;
    loop {
        let left: Vec<Pid> = children().into_iter().filter(|child| !spared.contains(child)).collect();
        if left.is_empty() || Instant::now() >= until {
            return;
        }
        for child in left {
            // Its number is its own until we wait for it.
            let _ended = rustix::process::kill_process(child, Signal::KILL);
            let _reaped = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills a process and all its descendants, those too that only an end makes its children: it must adopt
/// orphans (`PR_SET_CHILD_SUBREAPER`). It is stopped first, so that it does not leave them to somebody else.
pub fn end_tree(root: &Child, patience: Duration) {
    let until = Instant::now() + patience;
    let _stopped = rustix::process::pidfd_send_signal(&root.pidfd, Signal::STOP);
    let number = root.pid.as_raw_nonzero().to_string();
    loop {
        let is_living = |pid: &Pid| !matches!(stat_fields(*pid), Some((state, _)) if state == "Z");
        let living: Vec<Pid> = children_of(&number).into_iter().filter(is_living).collect();
        if living.is_empty() || Instant::now() >= until {
            break;
        }
        for pid in living {
            // Between two looks the number can become another's: held, and looked at again, it cannot.
            let Ok(held) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if stat_fields(pid).is_some_and(|(_, parent)| parent == number) {
                let _ended = rustix::process::pidfd_send_signal(&held, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ended = root.kill();
}

/// The children of this process.
fn children() -> Vec<Pid> {
    children_of(&rustix::process::getpid().as_raw_nonzero().to_string())
}

/// The children of a process, by what each process of `/proc` says of its parent.
fn children_of(parent: &str) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    pids.filter(|pid| stat_fields(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The state of a process and the number of its parent (proc_pid_stat(5)).
fn stat_fields(pid: Pid) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name may hold spaces and parentheses: fields are counted behind its last `)`.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// Executes `path` with these arguments and this environment; returns only when it could not.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(path, arguments, environment) {
        Ok(never) => match never {},
        Err(e) => e.into(),
    }
}

/// Ends this process without running a destructor or flushing anything.
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: _exit(2) touches no memory of ours; the callers are forked copies of another process,
    // whose buffers and destructors must not run twice.
    unsafe { libc::_exit(code) }
}

/// Copies this single-threaded process: `None` in the child.
///
/// # Errors
/// What the kernel says.
pub fn fork(_proof: OneThread) -> Result<Option<Pid>, ProcessError> {
    // SAFETY: fork(2) is sound when no other thread holds a lock; `_proof` says there is none.
    match unsafe { libc::fork() } {
        -1 => Err(ProcessError::call("fork", io::Error::last_os_error())),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// The descriptor that a parent process of ours left open for us at `number`.
///
/// # Errors
/// What the kernel says when there is none.
pub fn inherited(number: RawFd) -> Result<OwnedFd, ProcessError> {
    // SAFETY: the role that calls this was started by `enter_stage`, which put a descriptor there;
    // it is asked for once, at the start of the role, before anything else could own the number.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)
        .map_err(|e| ProcessError::call("take over a descriptor", e))?;
    Ok(fd)
}

/// Installs a seccomp filter on this process (seccomp(2)): instructions of 8 bytes each, in the
/// kernel's `struct sock_filter` layout, and `SECCOMP_FILTER_FLAG_*`. It needs `no_new_privs`, or
/// `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// What the kernel says: `EINVAL` for a program that it does not accept.
pub fn install_seccomp(program: &[u8], flags: u32) -> Result<(), ProcessError> {
    let wrong =
        || ProcessError::call("install the seccomp filter", io::Error::from(io::ErrorKind::InvalidInput));
    let (instructions, rest) = program.as_chunks::<8>();
    let length = u16::try_from(instructions.len()).ok().filter(|_| rest.is_empty()).ok_or_else(wrong)?;
    let mut aligned: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| libc::sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let program = libc::sock_fprog { len: length, filter: aligned.as_mut_ptr() };
    // SAFETY: seccomp(2) reads `len` instructions behind `filter` and copies them: `aligned` holds
    // exactly that many and lives until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    };
    if result == 0 {
        Ok(())
    } else {
        Err(ProcessError::call("install the seccomp filter", io::Error::last_os_error()))
    }
}

/// Gives this process a session keyring of its own, so that the caller's keys are out of reach
/// (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`). A kernel without keyrings has nothing to hide.
///
/// # Errors
/// What the kernel says, such as `EDQUOT`.
pub fn join_new_keyring() -> Result<(), ProcessError> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: with a NULL name the call reads no memory of ours.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    };
    match io::Error::last_os_error() {
        _ if result >= 0 => Ok(()),
        e if e.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        e => Err(ProcessError::call("make a session keyring", e)),
    }
}

/// Switches the loopback device of this network namespace on (netdevice(7)).
///
/// # Errors
/// What the kernel says.
pub fn bring_loopback_up() -> Result<(), ProcessError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let action = "switch the loopback device on";
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|e| ProcessError::call(action, e))?;
    let mut request =
        InterfaceFlags { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", ..InterfaceFlags::default() };
    request.flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads a `struct ifreq` of 40 bytes behind the pointer: `InterfaceFlags`
    // has that size and layout and lives until the call returns; the socket is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) };
    if result == 0 { Ok(()) } else { Err(ProcessError::call(action, io::Error::last_os_error())) }
}

/// `struct ifreq` (netdevice(7)) as far as flags go.
#[repr(C)]
#[derive(Default)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: libc::c_short,
    _rest: [u8; 22],
}

/// Refers to this process, for others that must know whether it lives.
///
/// # Errors
/// What the kernel says.
pub fn ourselves() -> Result<OwnedFd, ProcessError> {
    rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|e| ProcessError::call("refer to our own process", e))
}

/// Whether the process behind a pidfd has ended; one that cannot be asked counts as ended.
pub fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    ends_within(pidfd, Duration::ZERO)
}

/// Whether the process behind a pidfd ends within this time; one that cannot be asked counts as ended.
pub fn ends_within(pidfd: BorrowedFd<'_>, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let until = Instant::now() + patience;
    let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut watched, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
            Ok(ready) => return ready > 0,
        }
    }
}

/// Refers to a running process, when `start_time` (field 22 of proc_pid_stat(5)) is still its own.
pub fn find_process(pid: i32, start_time: u64) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (start_time_of(pid) == Some(start_time)).then_some(pidfd)
}

/// When a process started, in clock ticks after boot: with its number it names one process.
pub fn start_time_of(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: fields are counted behind its last `)`.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
