//! Sandboxes that stay: made, entered by commands, stopped, removed, by the process that owns them.
//!
//! Each is held by a process of its own, our program again, at the other end of a socket: it decides and
//! supervises as `mcp run` does (`engine::sandboxes`), and the owner's end of the socket going away, by
//! SIGKILL too, ends the sandbox with everything in it. An owner may have many threads; the holder has one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::Shutdown;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::container::cgroup::Cgroup;
use crate::container::delegation;
use crate::container::exec::{Exec, ExecError};
use crate::container::limits::Limits;
use crate::container::options::{EnvEntry, HOST_IMAGE, Network};
use crate::container::plan::REPORT_BYTES_MAX;
use crate::container::task::ExecRequest;
use crate::engine::errands::{self, Input, Output, Running};
use crate::engine::host::Host;
use crate::engine::launch::{Finished, HolderSays};
use crate::engine::reach;
use crate::engine::sandboxes::{self, Policy};
use crate::error::{Error, ErrorKind};
use crate::sys::channel;
use crate::sys::fs::FsError;
use crate::sys::process::ProcessError;

/// The hidden first argument that makes this program the holder of a sandbox.
pub const HOLD_ROLE: &str = "%hold";
/// Largest request, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long a sandbox may take to be made.
const CREATE_PATIENCE: Duration = Duration::from_secs(90);
/// How long a holder may take to clear its sandbox away.
const CLEAR_PATIENCE: Duration = Duration::from_secs(30);
/// Warnings that are kept of one sandbox.
const WARNINGS_MAX: usize = 64;
/// How often an ended holder is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What a sandbox may do, in the words of `mcp run`'s flags.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BoxRequest {
    /// Folders it works in, and whether it may only read them.
    pub workspaces: Vec<(PathBuf, bool)>,
    /// What else it may read.
    pub read_only: Vec<PathBuf>,
    /// What else it may write.
    pub read_write: Vec<PathBuf>,
    /// Its variables: `NAME=VALUE`, or `NAME` for the owner's value.
    pub environment: Vec<String>,
    /// Its network.
    pub network: Network,
    /// Most memory, as `512m`.
    pub memory: Option<String>,
    /// Most processors, as `1.5`.
    pub cpus: Option<String>,
    /// Most processes.
    pub pids: Option<String>,
    /// `@host` or an image.
    pub image: String,
    /// A seccomp profile of its own.
    pub seccomp: Option<PathBuf>,
    /// Programs of the host outside its system folders that can be started in it.
    pub programs: Vec<String>,
}

/// The most that sandboxes may have, and what they get when nothing else is asked.
#[derive(Debug, Clone)]
pub struct Ceiling {
    /// Folders that may be workspaces, with what lies below, and whether only to read. No link is in them.
    pub workspaces: Vec<(PathBuf, bool)>,
    /// What else may be read, with what lies below.
    pub read_only: Vec<PathBuf>,
    /// Variables that every sandbox gets.
    pub environment: Vec<String>,
    /// The most of a network.
    pub network: Network,
    /// The most memory, and what is had without asking.
    pub memory: Option<String>,
    /// The same of processors.
    pub cpus: Option<String>,
    /// The same of processes.
    pub pids: Option<String>,
    /// The images that may be used, the first unless another is asked for; all when there are none.
    pub images: Vec<String>,
    /// A profile of system calls instead of the strict one.
    pub seccomp: Option<PathBuf>,
    /// Images may be fetched from registries.
    pub pull: bool,
    /// Sandboxes at once.
    pub sandboxes_max: usize,
}

impl BoxRequest {
    /// A sandbox that has all it may have.
    pub fn at(ceiling: &Ceiling) -> Self {
        Self {
            workspaces: ceiling.workspaces.clone(),
            read_only: Vec::new(),
            read_write: Vec::new(),
            environment: ceiling.environment.clone(),
            network: ceiling.network,
            memory: ceiling.memory.clone(),
            cpus: ceiling.cpus.clone(),
            pids: ceiling.pids.clone(),
            image: ceiling.images.first().cloned().unwrap_or_else(|| HOST_IMAGE.to_owned()),
            seccomp: ceiling.seccomp.clone(),
            programs: Vec::new(),
        }
    }

    /// The policy that it asks for.
    ///
    /// # Errors
    /// A value that is none.
    pub fn policy(&self) -> Result<Policy, Error> {
        let mut limits = Limits::default();
        limits.set_memory(self.memory.as_deref(), None)?;
        if let Some(cpus) = &self.cpus {
            let usable = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            limits.set_cpus(cpus, u32::try_from(usable).unwrap_or(u32::MAX))?;
        }
        if let Some(pids) = &self.pids {
            limits.set_pids(pids)?;
        }
        Ok(Policy {
            command: Vec::new(),
            workspaces: self.workspaces.clone(),
            read_only: self.read_only.clone(),
            read_write: self.read_write.clone(),
            environment: self.environment.iter().map(|e| EnvEntry::parse(e)).collect::<Result<_, _>>()?,
            network: self.network,
            limits,
            image: self.image.clone(),
            seccomp: self.seccomp.clone(),
            hidden: Vec::new(),
        })
    }
}

/// A folder or file as the kernel finds it, without a link in its path: what requests are compared with.
///
/// # Errors
/// When it is not there, or is never shown.
pub fn real(host: &Host, path: &Path) -> Result<PathBuf, Error> {
    let real = reach::walk(&host.cwd.join(path))?.real;
    if real == Path::new("/") {
        return Err(Error::new(ErrorKind::Usage, "the root folder is never shown to a sandbox"));
    }
    Ok(real)
}

/// The holder's whole life; gives its exit code. The socket to the owner is its standard input.
pub fn hold() -> i32 {
    let Ok(owner) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) else { return 125 };
    let said = match held(&owner) {
        Ok(Some(Finished { code, error })) => HolderSays::Ended { code, error },
        Ok(None) => return 0,
        Err(error) => HolderSays::Failed(error),
    };
    said.tell(owner.as_fd());
    0
}

fn held(owner: &OwnedFd) -> Result<Option<Finished>, Error> {
    let Some(bytes) = channel::receive_bytes(owner.as_fd(), REQUEST_BYTES_MAX)? else { return Ok(None) };
    let request: BoxRequest = serde_json::from_slice(&bytes).map_err(garbled)?;
    let nothing = errands::nothing()?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|e| ProcessError::call("let go of standard input", e))?;
    let host = Host::from_environment()?;
    host.require_own_data()?;
    let told = owner.try_clone().map_err(|e| ProcessError::call("keep the owner's socket", e))?;
    let policy = request.policy()?;
    let mut warn = |text: &str| HolderSays::Warning(text.to_owned()).tell(owner.as_fd());
    sandboxes::hold(&host, policy, request.programs, told, &mut warn).map(Some)
}

fn garbled(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Bug, format!("the holder of a sandbox cannot be understood: {e}"))
}

/// A sandbox, from its owner's side. It may be shared between threads.
#[derive(Debug)]
pub struct Sandbox {
    /// The container's id.
    pub id: String,
    /// Its cgroup below the mount of cgroup2, when it has one.
    pub cgroup: Option<PathBuf>,
    /// What was said while it was made.
    pub warnings: Vec<String>,
    socket: OwnedFd,
    holder: Mutex<Child>,
    end: Mutex<Option<(i32, Option<Error>)>>,
}

impl Sandbox {
    /// Makes a sandbox and waits until commands can be brought in; `cancel` becoming readable ends that.
    ///
    /// # Errors
    /// What kept it from being made: there is nothing left of it then.
    pub fn create(request: &BoxRequest, cancel: BorrowedFd<'_>) -> Result<Self, Error> {
        // What is wrong with the words of it is told without a process.
        request.policy()?;
        let (ours, theirs) = channel::pair()?;
        let program = Path::new("/proc/self/exe");
        let mut command = Command::new(program);
        command.arg(HOLD_ROLE).stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // What a terminal sends to its job is for the owner, who ends us.
        let holder = command.process_group(0).spawn().map_err(|e| FsError::new("start", program, e))?;
        drop(command);
        let mut made = Self {
            id: String::new(),
            cgroup: None,
            warnings: Vec::new(),
            socket: ours,
            holder: Mutex::new(holder),
            end: Mutex::default(),
        };
        let text = serde_json::to_vec(request).map_err(garbled)?;
        channel::send_bytes(made.socket.as_fd(), &text)?;
        match made.await_ready(cancel) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.end();
                made.await_cleared();
                Err(error)
            }
        }
    }

    fn await_ready(&mut self, cancel: BorrowedFd<'_>) -> Result<(), Error> {
        let until = Instant::now() + CREATE_PATIENCE;
        loop {
            let mut watched =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(cancel, PollFlags::IN)];
            errands::poll(&mut watched, until)?;
            let (said, cancelled) = (!watched[0].revents().is_empty(), !watched[1].revents().is_empty());
            if cancelled {
                return Err(Error::new(ErrorKind::State, "the sandbox was given up while it was being made"));
            }
            if !said && Instant::now() >= until {
                let seconds = CREATE_PATIENCE.as_secs();
                return Err(Error::new(
                    ErrorKind::Limit,
                    format!("the sandbox was not made within {seconds} s"),
                ));
            }
            if said {
                match self.hear()? {
                    Some(HolderSays::Ready { id, cgroup }) => {
                        (self.id, self.cgroup) = (id, cgroup);
                        return Ok(());
                    }
                    Some(HolderSays::Warning(text)) if self.warnings.len() < WARNINGS_MAX => {
                        self.warnings.push(text);
                    }
                    Some(HolderSays::Warning(_)) => {}
                    Some(HolderSays::Failed(error) | HolderSays::Ended { error: Some(error), .. }) => {
                        return Err(error);
                    }
                    Some(HolderSays::Ended { .. }) | None => return Err(ExecError::Ended.into()),
                }
            }
        }
    }

    fn hear(&self) -> Result<Option<HolderSays>, Error> {
        match channel::receive(self.socket.as_fd(), REPORT_BYTES_MAX)? {
            Some((bytes, _)) => serde_json::from_slice(&bytes).map_err(garbled).map(Some),
            None => Ok(None),
        }
    }

    /// How it ended: the exit code of its first process, and what is to be said; `None` while it runs.
    pub fn ended(&self) -> Option<(i32, Option<Error>)> {
        let mut end = lock(&self.end);
        // One at a time hears what the holder says, and only when there is something.
        while end.is_none() && is_readable(self.socket.as_fd()) {
            *end = match self.hear() {
                Ok(Some(HolderSays::Ended { code, error })) => Some((code, error)),
                Ok(Some(HolderSays::Failed(error))) | Err(error) => Some((125, Some(error))),
                Ok(Some(HolderSays::Warning(_) | HolderSays::Ready { .. })) => None,
                Ok(None) => Some((125, None)),
            };
        }
        end.clone()
    }

    /// Begins a command in it.
    ///
    /// # Errors
    /// `State` when it has ended; what fails inside is heard.
    pub fn begin(&self, request: &ExecRequest, input: Input, output: Output) -> Result<Running, Error> {
        Running::begin(input, output, |stdio| {
            Exec::ask(request, stdio, |theirs| channel::send(self.socket.as_fd(), b"e", Some(theirs)))
        })
    }

    /// Sets the limits that are named.
    ///
    /// # Errors
    /// `Unsupported` where the sandbox has no cgroup of its own, or what the kernel says.
    pub fn set_limits(&self, host: &Host, limits: &Limits) -> Result<(), Error> {
        let environment = delegation::Environment { uid: host.uid, runtime_dir: host.runtime.clone() };
        let support = delegation::probe(&environment);
        let found = match (support.mount(), &self.cgroup) {
            (Some(mount), Some(path)) => Cgroup::open(mount, path)?,
            _ => None,
        };
        let Some(cgroup) = found else {
            let text = "the sandbox has no cgroup, so its limits cannot be changed";
            return Err(Error::new(ErrorKind::Unsupported, text)
                .hint("`cuddy doctor` says how this host can give it one"));
        };
        Ok(cgroup.limit(limits)?)
    }

    /// Asks everything in it to end, and ends what is still there after `grace`.
    pub fn stop(&self, grace: Duration) {
        if self.ended().is_none() {
            let pid = i32::try_from(lock(&self.holder).id()).ok().and_then(Pid::from_raw);
            // Nobody waits for it but us, so the number is still its own.
            let _asked = pid.map(|pid| rustix::process::kill_process(pid, Signal::TERM));
            let until = Instant::now() + grace;
            while self.ended().is_none() && Instant::now() < until {
                let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
                let _ready = errands::poll(&mut watched, until);
            }
        }
        self.end();
        self.await_cleared();
    }

    /// Ends it at once with everything in it.
    pub fn end(&self) {
        let _told = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }

    /// Waits until the holder has cleared everything away; one that hangs is killed, and the next command
    /// clears away.
    fn await_cleared(&self) {
        let until = Instant::now() + CLEAR_PATIENCE;
        let mut holder = lock(&self.holder);
        while Instant::now() < until {
            if !matches!(holder.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let _killed = holder.kill();
        let _reaped = holder.wait();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
        self.await_cleared();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked left a whole value: each change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    errands::poll(&mut watched, Instant::now()).is_ok() && !watched[0].revents().is_empty()
}
