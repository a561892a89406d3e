//! The stage: the single-threaded process that puts a container together and holds it.
//!
//! It was started into its own user and mount namespaces (`sys::process::start_stage`), and got its ids
//! from outside. It reads one plan, lets libcontainer make the container, then waits: for the first process
//! to end, for more commands to bring in (`container::exec`), or for the command to go away, which ends the
//! container. Nothing of it outlives it but the container's own processes, and they die with their first one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::container::exec::{self, EXECS_MAX, ExecError, Inside};
use crate::container::plan::{End, PLAN_BYTES_MAX, Plan, REPORT_BYTES_MAX, Report};
use crate::container::rootfs;
use crate::container::runtime;
use crate::container::user;
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::channel;
use crate::sys::fs::{self, FsError};
use crate::sys::process::{self, Child, OneThread, ProcessError};

/// Largest `/etc/passwd` or `/etc/group` of an image that is read, in bytes (CVE-2024-9676).
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// Why the stage could not put the container together.
#[derive(Debug, thiserror::Error)]
enum StageError {
    #[error("cannot {step} in the container's mount namespace")]
    Mount {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the plan of the container cannot be read")]
    Plan(#[source] serde_json::Error),
}

impl Fault for StageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Mount { .. } => ErrorKind::Denied,
            Self::Plan(_) => ErrorKind::Bug,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Mount { .. } => {
                vec!["`cuddy doctor` says whether this host allows mounts in user namespaces".to_owned()]
            }
            Self::Plan(_) => Vec::new(),
        }
    }
}

/// The stage's whole life; gives its exit code.
pub fn run() -> i32 {
    let Ok(socket) = process::inherited(process::STAGE_SOCKET) else { return 125 };
    let socket = Rc::new(socket);
    let report = match hold(&socket) {
        Ok(None) => return 0,
        Ok(Some(end)) => Report::Ended(end),
        Err(error) => Report::Failed(error),
    };
    let _heard = tell(&socket, &report);
    // Somebody waits for this end, and nothing of ours must be tidied up for it.
    process::exit_at_once(0)
}

fn tell(socket: &OwnedFd, report: &Report) -> Result<(), ProcessError> {
    channel::send(socket.as_fd(), &serde_json::to_vec(report).unwrap_or_default(), None)
}

/// `None` when the command went away and the container was ended for it.
fn hold(socket: &Rc<OwnedFd>) -> Result<Option<End>, Error> {
    let proof = process::one_thread()?;
    let Some(bytes) = channel::receive_bytes(socket.as_fd(), PLAN_BYTES_MAX)? else { return Ok(None) };
    let plan: Plan = serde_json::from_slice(&bytes).map_err(StageError::Plan)?;
    if rustix::process::geteuid().is_root() {
        process::bequeath_no_capabilities()?;
    }
    let (pid, inside) = make(proof, plan, socket)?;
    wait(pid, socket, &inside)
}

fn make(proof: OneThread, mut plan: Plan, socket: &Rc<OwnedFd>) -> Result<(Pid, Inside), Error> {
    // What a signal key sends goes to the command, which hands it on.
    let _own_session = rustix::process::setsid();
    // Folders made for the container have the modes we say; the command gets its own mask.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    prepare_mounts(&plan)?;
    let root = rootfs::assemble(&plan)?;
    let mut late = rootfs::prepare_late_mounts(&plan)?;
    plan.spec.mounts_mut().get_or_insert_default().append(&mut late);
    settle_user(&mut plan, root.as_fd())?;
    let cwd = plan.spec.process().as_ref().map(|p| p.cwd().clone()).unwrap_or_default();
    rootfs::make_workdir(root.as_fd(), &cwd)?;
    drop(root);
    let (spec, walls) = (plan.spec.clone(), plan.walls.clone());
    let mut created =
        runtime::create(proof, &plan.id, &plan.scratch, plan.spec, plan.walls, Rc::clone(socket))?;
    let pid = Pid::from_raw(created.pid).ok_or(runtime::RuntimeError::NoProcess)?;
    tell(socket, &Report::Created(created.pid))?;
    created.start()?;
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty())
        .map_err(|e| ProcessError::call("hold the container's first process", e))?;
    Ok((pid, Inside { init, spec, walls }))
}

/// Mounts of the host still reach us, ours never reach it; libcontainer's own files live in memory
/// and go with us; and it finds a cgroup2 where it looks for one.
fn prepare_mounts(plan: &Plan) -> Result<(), StageError> {
    let propagation = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation).map_err(wrong("keep mounts from reaching the host"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", &plan.scratch, "tmpfs", flags, Some(c"mode=0700,size=8m"))
        .map_err(wrong("mount memory for the container's own files"))?;
    rustix::fs::mkdir(&plan.rootfs, Mode::from_raw_mode(0o700)).map_err(wrong("make the root's folder"))?;
    show_cgroup2()
}

fn wrong<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> StageError {
    move |e| StageError::Mount { step, source: e.into() }
}

/// libcontainer 0.7 tolerates a cgroup it may not write only on a host that looks like pure cgroup v2
/// (docs/decisions/0002): so `/sys/fs/cgroup` becomes a read-only view of the v2 tree, wherever the host
/// has it, or of a fresh one where it has none. Limits are not its business: the process sits in its
/// cgroup already, and nothing may make another one, not even as root.
fn show_cgroup2() -> Result<(), StageError> {
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    let show = "show `/sys/fs/cgroup` read-only";
    let is_cgroup2 = |path: &&str| rustix::fs::statfs(*path).is_ok_and(|s| s.f_type == CGROUP2_MAGIC);
    let here = "/sys/fs/cgroup";
    if let Some(found) = [here, "/sys/fs/cgroup/unified"].iter().find(|path| is_cgroup2(path)) {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, *found, flags).map_err(wrong(show))?;
        process::set_mount_attributes(tree.as_fd(), process::MOUNT_ATTR_RDONLY, 0, None, true)
            .map_err(|e| wrong(show)(io::Error::other(e)))?;
        let place = fs::open_dir(Path::new(here)).map_err(|e| wrong(show)(e.source))?;
        return rootfs::attach(tree.as_fd(), place.as_fd()).map_err(wrong(show));
    }
    process::unshare(rustix::thread::UnshareFlags::NEWCGROUP)
        .map_err(|e| wrong("make a cgroup namespace")(io::Error::other(e)))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    rustix::mount::mount("cgroup2", here, "cgroup2", flags, None::<&std::ffi::CStr>).map_err(wrong(show))
}

/// Looks the user up in the image and writes the answer into the spec.
fn settle_user(plan: &mut Plan, root: std::os::fd::BorrowedFd<'_>) -> Result<(), Error> {
    let Some(request) = &plan.user else {
        keep_first_id(plan);
        return Ok(());
    };
    let read = |path: &str| -> Result<Vec<u8>, FsError> {
        match fs::read_file_in_root(root, Path::new(path), PASSWD_BYTES_MAX) {
            Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    };
    let group = read("etc/group")?;
    let found = user::resolve(request, &read("etc/passwd")?, &group, &plan.groups)?;
    if let Some(map) = &plan.map {
        map.require(found.uid, found.gid, &plan.login)?;
    }
    for name in &plan.groups {
        let gid = user::group_id(name, &group)?;
        if let Some(map) = &plan.map {
            map.require_added_group(gid, &plan.login)?;
        }
    }
    let mapped = |gid: &u32| plan.map.as_ref().is_none_or(|m| m.require(m.uids[0].inside, *gid, "").is_ok());
    let groups: Vec<u32> = found.groups.into_iter().filter(mapped).collect();
    let Some(process) = plan.spec.process_mut() else { return Ok(()) };
    let user = process.user_mut();
    user.set_uid(found.uid);
    user.set_gid(found.gid);
    // A map of one id has setgroups denied by the kernel: there the one group is all there is.
    let single = plan.map.as_ref().is_some_and(crate::container::idmap::IdMap::is_single);
    user.set_additional_gids((!single && !groups.is_empty()).then_some(groups));
    set_home(process, &found.home);
    Ok(())
}

/// The caller as itself: the one id that the map has.
fn keep_first_id(plan: &mut Plan) {
    if let (Some(map), Some(process)) = (&plan.map, plan.spec.process_mut()) {
        let user = process.user_mut();
        user.set_uid(map.uids.first().map_or(0, |r| r.inside));
        user.set_gid(map.gids.first().map_or(0, |r| r.inside));
    }
}

fn set_home(process: &mut Process, home: &str) {
    let mut environment = process.env().clone().unwrap_or_default();
    if !environment.iter().any(|e| e.starts_with("HOME=")) {
        environment.push(format!("HOME={home}"));
        process.set_env(Some(environment));
    }
}

/// Waits for the first process; the command going away ends it.
fn wait(pid: Pid, socket: &OwnedFd, inside: &Inside) -> Result<Option<End>, Error> {
    let mut brought_in: Vec<Child> = Vec::new();
    loop {
        let mut watched = vec![PollFd::new(&inside.init, PollFlags::IN), PollFd::new(socket, PollFlags::IN)];
        watched.extend(brought_in.iter().map(|child| PollFd::new(&child.pidfd, PollFlags::IN)));
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ProcessError::call("wait for the container", e).into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        let mut gone = false;
        if ready[1] {
            match channel::receive(socket.as_fd(), REPORT_BYTES_MAX) {
                Ok(Some((_, Some(asked)))) if !ready[0] => bring_in(inside, &asked, &mut brought_in),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => gone = true,
            }
        }
        if gone {
            let _killed = rustix::process::pidfd_send_signal(&inside.init, Signal::KILL);
        }
        if ready[0] || gone {
            let end = reap(pid)?;
            return Ok((!gone || ready[0]).then_some(end));
        }
        let mut ended = ready[2..].iter();
        brought_in.retain(|child| {
            let is_over = ended.next() == Some(&true);
            if is_over {
                child.reap();
            }
            !is_over
        });
    }
}

/// Begins a command that was asked for on a socket of its own; who asked hears why when there is none.
fn bring_in(inside: &Inside, asked: &OwnedFd, brought_in: &mut Vec<Child>) {
    let begun = if brought_in.len() < EXECS_MAX {
        process::one_thread().and_then(|proof| inside.begin(proof, asked)).map_err(Error::from)
    } else {
        Err(ExecError::Crowded.into())
    };
    match begun {
        Ok(child) => brought_in.push(child),
        Err(error) => exec::tell(asked.as_fd(), &Report::Failed(error)),
    }
}

fn reap(pid: Pid) -> Result<End, Error> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ProcessError::call("wait for the container", e).into()),
            Ok(None) => {}
            Ok(Some((_, status))) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signaled(signal.unwrap_or(9)),
                });
            }
        }
    }
}
