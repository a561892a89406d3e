//! The command's side of one container in the foreground: start the stage, hand signals on, relay what
//! must be relayed, learn how it ended.
//!
//! Pipes and sockets on standard input, output and error are given to the container as they are: not a
//! byte of theirs passes here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use oci_spec::runtime::{BoxBuilder, Spec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;

use crate::container::console::{self, Relay};
use crate::container::idspace;
use crate::container::plan::{End, PLAN_BYTES_MAX, Plan, REPORT_BYTES_MAX, Report};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::channel;
use crate::sys::fs::FsError;
use crate::sys::process::{self, Child, ProcessError, StageStart};

/// How long a container may take until its first process exists, in seconds. A host that is busy
/// needs tens of milliseconds; libcontainer can hang for ever (docs/decisions/0002).
const START_DEADLINE_S: u64 = 60;
/// How long processes of a start that failed may take to die, once killed.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(5);
/// So many interrupts of a person end a container whose command ignores them, as Docker has it.
const INTERRUPTS_MAX: u32 = 3;

/// Why a container could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// It took too long.
    #[error("the container was not started within {seconds} s")]
    TooSlow {
        /// The deadline.
        seconds: u64,
    },
    /// The stage ended without a word.
    #[error("the process that holds the container died")]
    StageDied,
    /// The stage said something else than it may.
    #[error("the process that holds the container spoke out of turn")]
    Confused,
    /// What the stage said is not one of its words.
    #[error("the process that holds the container cannot be understood")]
    Garbled(#[source] serde_json::Error),
    /// The plan is larger than a message.
    #[error(
        "the container has too many mounts, variables or arguments: its plan has {bytes} bytes of {PLAN_BYTES_MAX}"
    )]
    PlanTooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl Fault for LifecycleError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooSlow { .. } => ErrorKind::Limit,
            Self::StageDied => ErrorKind::Failed,
            Self::Confused | Self::Garbled(_) => ErrorKind::Bug,
            Self::PlanTooLarge { .. } => ErrorKind::Limit,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::StageDied => vec!["it may have been killed, for example for want of memory".to_owned()],
            Self::PlanTooLarge { .. } => vec!["put variables into a file of the workspace".to_owned()],
            Self::TooSlow { .. } | Self::Confused | Self::Garbled(_) => Vec::new(),
        }
    }
}

/// Everything needed to start a stage.
#[derive(Debug)]
pub struct Launch<'a> {
    /// It makes a user namespace.
    pub has_map: bool,
    /// Our standard input is the command's; else it has none.
    pub interactive: bool,
    /// The command gets a terminal of its own.
    pub tty: bool,
    /// The cgroup folder the stage starts in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A stage that waits for its plan. It ends with this value.
pub struct Waiting {
    stage: Child,
    socket: OwnedFd,
    relay: Relay,
    interactive: bool,
    /// Children of whoever became this program, which are not ours to end.
    spared: Vec<Pid>,
}

impl Drop for Waiting {
    /// A start that was given up leaves no process behind.
    fn drop(&mut self) {
        let _ended = self.stage.kill();
        self.stage.reap();
    }
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// How the first process ended.
    pub end: End,
    /// The command was never executed: the exit code for that (126 or 127), and why.
    pub not_executed: Option<(i32, Error)>,
}

/// What its supervisor lets others know of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first process is there and waits to be let go.
    Created {
        /// Its number where we are.
        init: i32,
    },
    /// A container without a command takes commands now.
    Ready,
    /// The last process has ended; the kernel still takes the namespaces apart.
    Ended,
}

/// A container that is being started or runs.
pub struct Running {
    held: Waiting,
    signals: SignalFd,
    init: Option<OwnedFd>,
    grace: Option<Duration>,
    owner: Option<OwnedFd>,
    kill_at: Option<Instant>,
    interrupts: u32,
    /// The signal that ended the start, before there was a command to send it to.
    ended_by: Option<Signal>,
    not_executed: Option<(i32, Error)>,
}

/// Starts the stage: it makes its namespaces and waits for its plan, while we find out what that is.
///
/// # Errors
/// What the kernel refuses at once; what fails later is [`Running::tell`]'s.
pub fn start(launch: &Launch<'_>) -> Result<Waiting, Error> {
    let (ours, theirs) = channel::pair()?;
    let mut unshare = UnshareFlags::NEWNS;
    unshare.set(UnshareFlags::NEWUSER, launch.has_map);
    // Until its last steps nothing ties the container's first process to the stage: if the stage is
    // killed then, that process comes to us.
    let spared = process::adopt_orphans()?;
    let mut relay = Relay::default();
    let stdio = stdio(launch, &mut relay)?;
    let proof = process::one_thread()?;
    // What a signal key sends ends us and so the stage; until we take the signals over it must not know.
    let wrong = |e: nix::errno::Errno| ProcessError::call("keep signals from the stage", e);
    let before = not_for_the_stage().thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(wrong)?;
    let started =
        process::start_stage(proof, StageStart { socket: theirs, stdio, cgroup: launch.cgroup, unshare });
    before.thread_set_mask().map_err(wrong)?;
    Ok(Waiting { stage: started?, socket: ours, relay, interactive: launch.interactive, spared })
}

/// Takes over what a person or a parent says to the container from now on. It is killed this long after it
/// was asked to end. Who has no command of its own has an owner: its going away ends the container, and what
/// it hands over are commands to bring in.
///
/// # Errors
/// What the kernel says.
pub fn take_over(held: Waiting, grace: Option<Duration>, owner: Option<OwnedFd>) -> Result<Running, Error> {
    Ok(Running {
        held,
        signals: take_signals()?,
        init: None,
        grace,
        owner,
        kill_at: None,
        interrupts: 0,
        ended_by: None,
        not_executed: None,
    })
}

/// What stands on 0, 1 and 2 of the command; `None` hands ours over.
fn stdio(launch: &Launch<'_>, relay: &mut Relay) -> Result<[Option<OwnedFd>; 3], Error> {
    let ours = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let mut stdio = [None, None, None];
    for ((number, ours), theirs) in (0..).zip(ours).zip(&mut stdio) {
        *theirs = match number {
            // Nothing comes in unless it was asked for, as Docker has it; a terminal brings its own.
            0 if launch.tty || !launch.interactive => Some(no_input()?),
            _ if launch.tty || console::may_be_handed_over(ours) => None,
            _ => Some(relay.pipe(number)?),
        };
    }
    Ok(stdio)
}

fn no_input() -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, Mode::empty()).map_err(|e| FsError::new("open", "/dev/null", e))
}

/// The terminal inside has our size before its command can ask for it.
fn give_size(spec: &mut Spec) {
    let Some(process) = spec.process_mut().as_mut().filter(|p| p.terminal() == Some(true)) else { return };
    if let Some(size) = console::own_size() {
        let size = BoxBuilder::default().height(size.ws_row).width(size.ws_col).build();
        process.set_console_size(size.ok());
    }
}

/// From here on the signals that a person or a parent sends are read, not suffered.
fn take_signals() -> Result<SignalFd, Error> {
    let wrong = |e: nix::errno::Errno| ProcessError::call("take over the signals", e);
    let set = not_for_the_stage();
    set.thread_block().map_err(wrong)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(wrong)?)
}

/// What a person or a parent sends: it is meant for the container's command.
fn not_for_the_stage() -> SigSet {
    let mut set = SigSet::all();
    for not_handed_on in [
        // Ours: a child that ended, a reader that went away.
        NixSignal::SIGCHLD,
        NixSignal::SIGPIPE,
        // A terminal's word to a job in the background, which is us.
        NixSignal::SIGTTIN,
        NixSignal::SIGTTOU,
        // Faults of our own.
        NixSignal::SIGSEGV,
        NixSignal::SIGBUS,
        NixSignal::SIGILL,
        NixSignal::SIGFPE,
        NixSignal::SIGTRAP,
        NixSignal::SIGABRT,
    ] {
        set.remove(not_handed_on);
    }
    set
}

impl Running {
    /// The stage's number, while it lives.
    pub fn stage_pid(&self) -> i32 {
        self.held.stage.pid.as_raw_nonzero().get()
    }

    /// Gives the stage its ids and its plan.
    ///
    /// # Errors
    /// What kept it from making its namespaces, what `newuidmap` refuses, or a plan that is too large; what
    /// fails later is
    /// [`supervise`](Self::supervise)'s.
    pub fn tell(&mut self, mut plan: Plan) -> Result<(), Error> {
        give_size(&mut plan.spec);
        let text = serde_json::to_vec(&plan).map_err(|e| Error::new(ErrorKind::Bug, e.to_string()))?;
        if text.len() > PLAN_BYTES_MAX {
            return Err(LifecycleError::PlanTooLarge { bytes: text.len() }.into());
        }
        self.map_ids(&plan)?;
        // A stage that failed already has said why: that is read by `supervise`.
        let _sent = channel::send_bytes(self.held.socket.as_fd(), &text);
        Ok(())
    }

    /// Writes the id maps, without which the stage is nobody in its own namespace.
    fn map_ids(&self, plan: &Plan) -> Result<(), Error> {
        match self.receive()? {
            Some((Report::Unshared(()), _)) => {}
            Some((Report::Failed(error), _)) => return Err(error),
            Some(_) => return Err(LifecycleError::Confused.into()),
            None => return Err(LifecycleError::StageDied.into()),
        }
        Ok(plan.map.as_ref().map_or(Ok(()), |map| idspace::write_maps(self.stage_pid(), map))?)
    }

    fn receive(&self) -> Result<Option<(Report, Option<OwnedFd>)>, Error> {
        let Some((bytes, fd)) = channel::receive(self.held.socket.as_fd(), REPORT_BYTES_MAX)? else {
            return Ok(None);
        };
        let report = serde_json::from_slice(&bytes).map_err(LifecycleError::Garbled)?;
        Ok(Some((report, fd)))
    }

    /// Stays with the container until it has ended, and lets `tell` know of its [`Moment`]s.
    ///
    /// # Errors
    /// What failed before the command was executed, or a stage that died.
    pub fn supervise(mut self, mut tell: impl FnMut(Moment) -> Result<(), Error>) -> Result<Outcome, Error> {
        let deadline = Instant::now() + Duration::from_secs(START_DEADLINE_S);
        let outcome = loop {
            let ready = self.wait(deadline)?;
            self.held.relay.relay(&ready.relay);
            // What the stage said before a signal came is heard before it: that the command runs already.
            if ready.socket {
                match self.hear(&mut tell) {
                    Ok(None) => {}
                    Ok(Some(end)) => break Ok(end),
                    Err(error) => break Err(error),
                }
            } else if ready.stage {
                // What the stage left may hold its socket open, so the stream has no end.
                break Err(LifecycleError::StageDied.into());
            } else if ready.signals {
                self.hand_signals_on();
            } else if ready.owner {
                self.heed_owner();
            }
            if self.init.is_none() && Instant::now() >= deadline {
                break Err(LifecycleError::TooSlow { seconds: START_DEADLINE_S }.into());
            }
            if self.kill_at.is_some_and(|at| Instant::now() >= at) {
                self.kill_at = None;
                self.send(Signal::KILL);
            }
        };
        if outcome.is_err() {
            self.send(Signal::KILL);
            let _ended = self.held.stage.kill();
        }
        self.held.stage.reap();
        if outcome.is_err() {
            process::end_children(&self.held.spared, ORPHANS_PATIENCE);
        }
        self.held.relay.drain(self.signals.as_fd(), || told_to_end(&self.signals));
        let not_executed = self.not_executed.take();
        match (outcome, self.ended_by) {
            // The start did not fail: it was told to end.
            (Err(_), Some(signal)) => Ok(Outcome { end: End::Signaled(signal.as_raw()), not_executed: None }),
            (outcome, _) => outcome.map(|end| Outcome { end, not_executed }),
        }
    }

    /// One message of the stage; the end when it was the last.
    fn hear(&mut self, tell: &mut impl FnMut(Moment) -> Result<(), Error>) -> Result<Option<End>, Error> {
        match self.receive()? {
            Some((Report::Terminal(()), Some(fd))) => {
                self.held.relay.take_terminal(fd, self.held.interactive)?
            }
            Some((Report::Created(pid), _)) => {
                let number = Pid::from_raw(pid).ok_or(LifecycleError::Confused)?;
                self.init = rustix::process::pidfd_open(number, PidfdFlags::empty()).ok();
                tell(Moment::Created { init: pid })?;
            }
            Some((Report::Ready(()), _)) => tell(Moment::Ready)?,
            Some((Report::NotExecuted { code, error }, _)) => self.not_executed = Some((code, error)),
            Some((Report::Ended(end), _)) => {
                tell(Moment::Ended)?;
                return Ok(Some(end));
            }
            Some((Report::Failed(error), _)) => return Err(error),
            Some((Report::Unshared(()) | Report::Terminal(()), _)) => {
                return Err(LifecycleError::Confused.into());
            }
            None => return Err(LifecycleError::StageDied.into()),
        }
        Ok(None)
    }

    fn wait(&self, deadline: Instant) -> Result<Ready, Error> {
        let next = [self.init.is_none().then_some(deadline), self.kill_at].into_iter().flatten().min();
        let timeout = next.map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        // In this order: a signal or a dead stage that is seen came after everything that the socket then
        // does not have.
        let mut watched = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::new(&self.held.stage.pidfd, PollFlags::IN),
            PollFd::new(&self.held.socket, PollFlags::IN),
        ];
        watched.extend(self.owner.iter().map(|owner| PollFd::new(owner, PollFlags::IN)));
        let own = watched.len();
        watched.extend(self.held.relay.watched());
        match rustix::event::poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(ProcessError::call("wait for the container", e).into()),
        }
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        let owner = self.owner.is_some() && ready[3];
        let relay = ready[own..].to_vec();
        Ok(Ready { signals: ready[0], stage: ready[1], socket: ready[2], owner, relay })
    }

    /// Hands a command that the owner asks for to the stage; the owner going away ends the container.
    fn heed_owner(&mut self) {
        let Some(owner) = &self.owner else { return };
        match channel::receive(owner.as_fd(), REPORT_BYTES_MAX) {
            Ok(Some((_, Some(asked)))) => {
                // A stage that is ending says so; what was asked then hears the end of its stream.
                let _handed = channel::send(self.held.socket.as_fd(), b"e", Some(asked.as_fd()));
            }
            Ok(Some((_, None))) => {}
            Ok(None) | Err(_) => {
                self.owner = None;
                self.send(Signal::KILL);
                if self.init.is_none() {
                    self.ended_by.get_or_insert(Signal::KILL);
                    let _ended = self.held.stage.kill();
                }
            }
        }
    }

    fn hand_signals_on(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let Some(signal) = process::signal_of(number) else { continue };
            if signal == Signal::WINCH && self.held.relay.has_terminal() {
                self.held.relay.resize();
                continue;
            }
            if signal == Signal::INT || signal == Signal::TERM {
                self.interrupts += 1;
                if let Some(grace) = self.grace {
                    self.kill_at.get_or_insert(Instant::now() + grace);
                }
            }
            // Before there is a command nobody can refuse to end.
            if (self.init.is_none() && ends(signal)) || self.interrupts >= INTERRUPTS_MAX {
                self.send(Signal::KILL);
                if self.init.is_none() {
                    self.ended_by.get_or_insert(signal);
                    let _ended = self.held.stage.kill();
                }
            } else {
                self.send(signal);
            }
        }
    }

    fn send(&self, signal: Signal) {
        if let Some(init) = &self.init {
            // It may have ended in this moment; the stage says so.
            let _sent = rustix::process::pidfd_send_signal(init, signal);
        }
    }
}

/// Whether somebody asked this process to end meanwhile; other signals have nobody to go to any more.
fn told_to_end(signals: &SignalFd) -> bool {
    std::iter::from_fn(|| signals.read_signal().ok().flatten())
        .filter_map(|info| i32::try_from(info.ssi_signo).ok().and_then(Signal::from_named_raw))
        .any(ends)
}

/// Whether a signal asks its receiver to end.
fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT)
}

struct Ready {
    socket: bool,
    signals: bool,
    stage: bool,
    owner: bool,
    relay: Vec<bool>,
}
