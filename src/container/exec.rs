//! A command that is brought into a container that runs.
//!
//! The stage does it, for it is what everything needs: one thread, the container's user namespace and
//! cgroup, a program file that nobody can write through (CVE-2019-5736), the walls that the first process
//! got. It makes a small process for each command, which joins the container's other namespaces by the
//! first process's pidfd and takes the same last steps (`container::walls`), and one outside that
//! watches it: who asked going away ends the command with everything it started.
//!
//! Which container, and who may ask, is not decided here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::container::files;
use crate::container::plan::{End, First, PLAN_BYTES_MAX, REPORT_BYTES_MAX, Report, Walls};
use crate::container::task::{ExecRequest, Task};
use crate::container::walls::{self, NotExecuted};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::channel;
use crate::sys::process::{self, Child, OneThread, ProcessError};

/// Commands brought into one container at once; each costs two small processes of ours.
pub const EXECS_MAX: usize = 64;
/// How long the processes of a command may take to die, once killed.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Largest word to a command that runs, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// Why a command could not be brought into a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Its first process has ended, or is about to.
    #[error("the container has ended")]
    Ended,
    /// There are as many as there may be.
    #[error("{EXECS_MAX} commands are running in the container, and that is the most")]
    Crowded,
    /// A namespace could not be joined.
    #[error("cannot join the {what} of the container")]
    Join {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The folder to start in is not there, or may not be entered.
    #[error("cannot enter the folder `{path}` in the container")]
    Workdir {
        /// As it was asked for.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What was asked cannot be read.
    #[error("what was asked of the container cannot be understood")]
    Request(#[source] serde_json::Error),
    /// A process of ours failed.
    #[error("cannot start a command in the container")]
    Process(#[from] ProcessError),
}

impl Fault for ExecError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Ended => ErrorKind::State,
            Self::Crowded => ErrorKind::Limit,
            Self::Workdir { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Usage,
            },
            Self::Join { .. } => ErrorKind::Failed,
            Self::Request(_) => ErrorKind::Bug,
            Self::Process(e) => e.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Crowded => vec!["wait for one of them, or end one".to_owned()],
            Self::Workdir { .. } => vec!["name a folder that is there inside".to_owned()],
            Self::Ended | Self::Join { .. } | Self::Request(_) | Self::Process(_) => Vec::new(),
        }
    }
}

/// A word to a command that runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// A signal for the command.
    Signal(i32),
    /// The end, for it and everything it started.
    End(()),
}

/// A command in a container, from where it was asked for. Its going away ends the command.
#[derive(Debug)]
pub struct Exec {
    socket: OwnedFd,
}

impl Exec {
    /// Asks for `request` with these as its standard input, output and error; `hand_over` gives one end of
    /// the conversation to the container's stage.
    ///
    /// # Errors
    /// What the kernel or `hand_over` says; what fails later is heard.
    pub fn ask(
        request: &ExecRequest,
        stdio: [BorrowedFd<'_>; 3],
        hand_over: impl FnOnce(BorrowedFd<'_>) -> Result<(), ProcessError>,
    ) -> Result<Self, Error> {
        let (ours, theirs) = channel::pair()?;
        let text = serde_json::to_vec(request).map_err(ExecError::Request)?;
        if text.len() > PLAN_BYTES_MAX {
            let text = format!("the command and its variables have {} bytes of {PLAN_BYTES_MAX}", text.len());
            return Err(Error::new(ErrorKind::Limit, text));
        }
        // Who is gone took the container along: that is what there is to say.
        if hand_over(theirs.as_fd()).is_err() {
            return Err(ExecError::Ended.into());
        }
        drop(theirs);
        // A stage that ends now closes its end: that is heard.
        let _sent = channel::send_bytes(ours.as_fd(), &text);
        for fd in stdio {
            let _sent = channel::send(ours.as_fd(), b"d", Some(fd));
        }
        Ok(Self { socket: ours })
    }

    /// Readable when there is something to [`hear`](Self::hear).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What there is to hear next; it waits for it.
    ///
    /// # Errors
    /// `State` when the container has ended, and the command with it.
    pub fn hear(&self) -> Result<Report, Error> {
        match channel::receive(self.socket.as_fd(), REPORT_BYTES_MAX)? {
            Some((bytes, _)) => Ok(serde_json::from_slice(&bytes).map_err(ExecError::Request)?),
            None => Err(ExecError::Ended.into()),
        }
    }

    /// Sends the command a signal; one that has ended is no error.
    pub fn signal(&self, signal: Signal) {
        self.say(&Word::Signal(signal.as_raw()));
    }

    /// Ends the command with everything it started; its end is still heard.
    pub fn end(&self) {
        self.say(&Word::End(()));
    }

    fn say(&self, word: &Word) {
        let text = serde_json::to_vec(word).unwrap_or_default();
        let _sent = channel::send(self.socket.as_fd(), &text, None);
    }
}

/// What the stage needs to bring a command in.
#[derive(Debug)]
pub struct Inside {
    /// The container's first process.
    pub init: OwnedFd,
    /// The container's spec, as its first process has it.
    pub spec: Spec,
    /// Its other walls.
    pub walls: Walls,
}

impl Inside {
    /// Starts the process that brings in what is asked on `socket` and watches it. It is a copy of this one
    /// and never returns there.
    ///
    /// # Errors
    /// What the kernel says, such as too many processes.
    pub fn begin(&self, proof: OneThread, socket: &OwnedFd) -> Result<Child, ProcessError> {
        let Some(pid) = process::fork(proof)? else {
            let report = match self.watch_over(socket) {
                Ok(Some(end)) => Report::Ended(end),
                Ok(None) => process::exit_at_once(0),
                Err(_) if process::has_ended(self.init.as_fd()) => Report::Failed(ExecError::Ended.into()),
                Err(error) => Report::Failed(error),
            };
            tell(socket.as_fd(), &report);
            process::exit_at_once(0)
        };
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|e| ProcessError::call("hold a process of ours", e))?;
        Ok(Child { pid, pidfd })
    }

    /// The whole life of the process outside; `None` when nobody asked for anything.
    fn watch_over(&self, socket: &OwnedFd) -> Result<Option<End>, Error> {
        let call = |action| move |e: rustix::io::Errno| ProcessError::call(action, e);
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(call("tie a process of ours to the stage"))?;
        let _named = rustix::thread::set_name(c"exec");
        process::close_all_but(&[socket.as_fd(), self.init.as_fd()])?;
        let Some(bytes) = channel::receive_bytes(socket.as_fd(), PLAN_BYTES_MAX)? else { return Ok(None) };
        let request: ExecRequest = serde_json::from_slice(&bytes).map_err(ExecError::Request)?;
        let mut stdio = Vec::new();
        while stdio.len() < 3 {
            match channel::receive(socket.as_fd(), WORD_BYTES_MAX)? {
                Some((_, Some(fd))) => stdio.push(fd),
                _ => return Ok(None),
            }
        }
        // Only children are born in it: this process goes on to see the host's.
        self.join(ThreadNameSpaceType::PROCESS_ID, "processes")?;
        let Some(pid) = process::fork(process::one_thread()?)? else {
            let failure = self.enter(&request, &stdio, socket.as_fd());
            let report = match failure.code {
                125 => Report::Failed(failure.error),
                code => Report::NotExecuted { code, error: failure.error },
            };
            tell(socket.as_fd(), &report);
            process::exit_at_once(failure.code)
        };
        drop(stdio);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(call("hold the command in the container"))?;
        let keeper = Child { pid, pidfd };
        tell(socket.as_fd(), &Report::Created(pid.as_raw_nonzero().get()));
        Ok(Some(watch(&keeper, socket.as_fd())?))
    }

    fn join(&self, which: ThreadNameSpaceType, what: &'static str) -> Result<(), ExecError> {
        rustix::thread::move_into_thread_name_spaces(self.init.as_fd(), which)
            .map_err(|e| ExecError::Join { what, source: e.into() })
    }

    /// The whole life of the process inside, up to the command's exec.
    fn enter(&self, request: &ExecRequest, stdio: &[OwnedFd], socket: BorrowedFd<'_>) -> NotExecuted {
        let ours = |error: Error| NotExecuted { code: 125, error };
        let (spec, walls) = self.asked(request);
        if let Err(error) = self.settle(&spec, stdio, socket) {
            return ours(error);
        }
        match &request.task {
            Task::Command(_) => walls::drop_to_command(&spec, &walls, || ()),
            Task::File(task) => match walls::confine(&spec, &walls) {
                Ok(()) => process::exit_at_once(files::carry_out(task)),
                Err(wall) => ours(wall.into()),
            },
        }
    }

    /// The container's own spec and walls with what the request says instead.
    fn asked(&self, request: &ExecRequest) -> (Spec, Walls) {
        let (mut spec, mut walls) = (self.spec.clone(), self.walls.clone());
        walls.first = First::Keeper;
        if let Some(process) = spec.process_mut() {
            // The caller's pipes are all it gets: no terminal of the container's own command.
            process.set_terminal(None);
            if let Task::Command(arguments) = &request.task {
                process.set_args(Some(arguments.clone()));
            }
            if let Some(workdir) = &request.workdir {
                process.set_cwd(workdir.into());
            }
            let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
            let given: Vec<String> = request.environment.iter().map(|entry| name_of(entry)).collect();
            let mut environment = process.env().clone().unwrap_or_default();
            environment.retain(|entry| !given.contains(&name_of(entry)));
            environment.extend_from_slice(&request.environment);
            process.set_env(Some(environment));
        }
        (spec, walls)
    }

    /// Everything before the walls: descriptors, session, namespaces, folder.
    fn settle(&self, spec: &Spec, stdio: &[OwnedFd], socket: BorrowedFd<'_>) -> Result<(), Error> {
        let call = |e: rustix::io::Errno| ProcessError::call("place the command's descriptors", e);
        let [input, output, error] = stdio else { return Err(ExecError::Ended.into()) };
        rustix::stdio::dup2_stdin(input).map_err(call)?;
        rustix::stdio::dup2_stdout(output).map_err(call)?;
        rustix::stdio::dup2_stderr(error).map_err(call)?;
        let _own_session = rustix::process::setsid();
        self.join(namespaces(spec), "namespaces")?;
        process::close_all_but(&[socket])?;
        let workdir = spec.process().as_ref().map(|p| p.cwd().clone()).unwrap_or_default();
        rustix::process::chdir(&workdir).map_err(|e| ExecError::Workdir {
            path: workdir.to_string_lossy().into_owned(),
            source: e.into(),
        })?;
        Ok(walls::tie()?)
    }
}

/// The namespaces of a container, but the user's, where the stage is, and that of processes, which is joined
/// by being born there.
fn namespaces(spec: &Spec) -> ThreadNameSpaceType {
    let own = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let flag = |kind| match kind {
        LinuxNamespaceType::Mount => ThreadNameSpaceType::MOUNT,
        LinuxNamespaceType::Cgroup => ThreadNameSpaceType::CONTROL_GROUP,
        LinuxNamespaceType::Uts => ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        LinuxNamespaceType::Ipc => ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION,
        LinuxNamespaceType::Network => ThreadNameSpaceType::NETWORK,
        LinuxNamespaceType::Time => ThreadNameSpaceType::TIME,
        LinuxNamespaceType::Pid | LinuxNamespaceType::User => ThreadNameSpaceType::empty(),
    };
    own.into_iter().flatten().fold(ThreadNameSpaceType::empty(), |all, one| all | flag(one.typ()))
}

/// Waits for the command's end; who asked for it going away ends it.
fn watch(keeper: &Child, socket: BorrowedFd<'_>) -> Result<End, ProcessError> {
    let mut is_wanted = true;
    loop {
        let mut watched = vec![PollFd::new(&keeper.pidfd, PollFlags::IN)];
        if is_wanted {
            watched.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ProcessError::call("wait for the command in the container", e)),
        }
        if !watched[0].revents().is_empty() {
            return reap(keeper.pid);
        }
        if is_wanted && !watched[1].revents().is_empty() {
            is_wanted = heed(keeper, socket);
        }
    }
}

/// Does what the next word says; `false` when there will be no more.
fn heed(keeper: &Child, socket: BorrowedFd<'_>) -> bool {
    let word = match channel::receive(socket, WORD_BYTES_MAX) {
        Ok(Some((bytes, _))) => serde_json::from_slice(&bytes).unwrap_or(Word::End(())),
        Ok(None) | Err(_) => {
            process::end_tree(keeper, END_PATIENCE);
            return false;
        }
    };
    match word {
        Word::Signal(number) => {
            if let Some(signal) = process::signal_of(number) {
                // It may have ended in this moment: then that is what is heard next.
                let _sent = rustix::process::pidfd_send_signal(&keeper.pidfd, signal);
            }
        }
        Word::End(()) => process::end_tree(keeper, END_PATIENCE),
    }
    true
}

fn reap(pid: Pid) -> Result<End, ProcessError> {
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(e) => return Err(ProcessError::call("wait for the command in the container", e)),
            Ok(Some((_, status))) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => End::Exited(code),
                    (None, signal) => End::Signaled(signal.unwrap_or(9)),
                });
            }
        }
    }
}

/// Says something to who asked; one that is gone hears nothing.
pub fn tell(socket: BorrowedFd<'_>, report: &Report) {
    let _heard = channel::send(socket, &serde_json::to_vec(report).unwrap_or_default(), None);
}
