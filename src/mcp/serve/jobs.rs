//! The commands of one sandbox: followed while they run, their output kept, ended when nobody wants them.
//!
//! Who asked for a command follows it in its own thread; one in the background gets a thread.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use serde_json::{Value, json};

use crate::engine::errands::{Followed, Running, Stream};
use crate::error::{Error, ErrorKind};
use crate::mcp::serve::log::{Log, Window};
use crate::mcp::toolbox::{Context, Failure};

/// Ended commands whose output is kept; older ones go.
const ENDED_MAX: usize = 32;
/// Largest piece of output in one progress message, in bytes.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// Most characters of a command in a list.
const LINE_CHARS_MAX: usize = 200;

/// Where a command is.
#[derive(Debug, Clone)]
pub enum State {
    /// It runs.
    Running,
    /// It has ended with this exit code, after so long; why it was never executed, if so.
    Exited(i32, Duration, Option<Error>),
    /// It was killed because its time was over.
    TimedOut(Duration),
    /// It was killed because somebody asked for that.
    Ended(Duration),
    /// It was not started, or its sandbox ended.
    Failed(Error),
}

impl State {
    /// Its name for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Exited(..) => "exited",
            Self::TimedOut(_) => "timed_out",
            Self::Ended(_) => "ended",
            Self::Failed(_) => "failed",
        }
    }
}

/// One command.
#[derive(Debug)]
pub struct Job {
    /// Its number in its sandbox.
    pub number: u64,
    line: String,
    begun: Instant,
    inner: Mutex<(Log, State)>,
    changed: Condvar,
    stop: OwnedFd,
}

/// The commands of one sandbox, by number.
#[derive(Debug, Default)]
pub struct Jobs {
    all: Mutex<(u64, BTreeMap<u64, Arc<Job>>)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left output that is whole up to its last piece.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// A new command, described by `line`.
    ///
    /// # Errors
    /// When the kernel has no more descriptors.
    pub fn begin(&self, line: &str) -> Result<Arc<Job>, Failure> {
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Failure::new("failed", format!("no descriptor for the command: {e}")).retryable())?;
        let mut all = lock(&self.all);
        all.0 += 1;
        let job = Arc::new(Job {
            number: all.0,
            line: line.chars().take(LINE_CHARS_MAX).collect(),
            begun: Instant::now(),
            inner: Mutex::new((Log::default(), State::Running)),
            changed: Condvar::new(),
            stop,
        });
        let ended: Vec<u64> = all.1.values().filter(|job| !job.is_running()).map(|job| job.number).collect();
        for number in ended.iter().rev().skip(ENDED_MAX) {
            all.1.remove(number);
        }
        all.1.insert(job.number, Arc::clone(&job));
        Ok(job)
    }

    /// The command of a number.
    ///
    /// # Errors
    /// `not_found`.
    pub fn get(&self, number: u64) -> Result<Arc<Job>, Failure> {
        lock(&self.all).1.get(&number).cloned().ok_or_else(|| {
            Failure::new("not_found", format!("no command {number}, or its output is not kept any more"))
                .hint("sandbox_logs without `exec` lists the commands")
        })
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Value> {
        let jobs: Vec<Arc<Job>> = lock(&self.all).1.values().cloned().collect();
        let one = |job: &Arc<Job>| {
            let inner = lock(&job.inner);
            let mut value = json!({ "exec": job.number, "command": job.line, "state": inner.1.name(),
                "output_bytes": inner.0.end() });
            if let State::Exited(code, ..) = &inner.1 {
                value["exit_code"] = json!(code);
            }
            value
        };
        jobs.iter().map(one).collect()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        lock(&self.all).1.values().filter(|job| job.is_running()).count()
    }
}

impl Job {
    fn is_running(&self) -> bool {
        matches!(lock(&self.inner).1, State::Running)
    }

    fn stop_fd(&self) -> BorrowedFd<'_> {
        self.stop.as_fd()
    }

    /// Ends the command; whoever follows it does that.
    pub fn end(&self) {
        let _told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }

    /// Follows the command to its end, with a word to `context`'s client for each piece of output.
    pub fn follow(&self, mut running: Running, timeout: Duration, context: Option<&Context>) {
        let until = self.begun + timeout;
        let mut cancel = vec![self.stop_fd()];
        cancel.extend(context.map(Context::cancelled_fd));
        let mut told = Told::default();
        let followed = running.follow(until, &cancel, &mut |stream, bytes| {
            self.push(stream, bytes);
            if let Some(context) = context.filter(|context| context.wants_progress()) {
                told.add(bytes, context);
            }
        });
        let end = |running: Running| running.end(&mut |stream, bytes| self.push(stream, bytes));
        let state = match followed {
            Ok(Followed::Ended(code, error)) => State::Exited(code, self.begun.elapsed(), error),
            Ok(Followed::Deadline) => {
                end(running).map_or_else(State::Failed, |_| State::TimedOut(self.begun.elapsed()))
            }
            Ok(Followed::Cancelled) => {
                end(running).map_or_else(State::Failed, |_| State::Ended(self.begun.elapsed()))
            }
            Err(error) => State::Failed(error),
        };
        self.finish(state);
    }

    /// Writes down how it ended.
    pub fn finish(&self, state: State) {
        lock(&self.inner).1 = state;
        self.changed.notify_all();
    }

    fn push(&self, stream: Stream, bytes: &[u8]) {
        lock(&self.inner).0.push(stream, bytes);
        self.changed.notify_all();
    }

    /// Where it is, and a part of its output.
    pub fn look(&self, cursor: u64, bytes_max: usize) -> (State, Window) {
        let inner = lock(&self.inner);
        (inner.1.clone(), inner.0.read(cursor, bytes_max))
    }

    /// Waits for output after `cursor`, or for the end.
    pub fn wait_for_more(&self, cursor: u64, patience: Duration, context: &Context) {
        /// How often a wait looks whether anybody still waits.
        const LOOK_AGAIN: Duration = Duration::from_millis(50);
        let until = Instant::now() + patience;
        let mut inner = lock(&self.inner);
        while matches!(inner.1, State::Running)
            && inner.0.end() <= cursor
            && Instant::now() < until
            && !context.is_cancelled()
        {
            let waited = self.changed.wait_timeout(inner, LOOK_AGAIN);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Output on its way to the client as progress: what it does not take now goes with the next piece.
#[derive(Default)]
struct Told {
    pending: Vec<u8>,
    total: u32,
}

impl Told {
    fn add(&mut self, bytes: &[u8], context: &Context) {
        self.pending.extend_from_slice(bytes);
        self.total = self.total.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        // What a slow client has not taken is in the log: only the newest piece is kept for it.
        let excess = self.pending.len().saturating_sub(PIECE_BYTES_MAX);
        self.pending.drain(..excess);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        if context.progress(f64::from(self.total), None, text) {
            self.pending.clear();
        }
    }
}

/// A command and its output as a result, for programs and as text for models.
pub fn result(job: &Job, cursor: u64, bytes_max: usize) -> (String, Value, State) {
    let (state, window) = job.look(cursor, bytes_max);
    let mut value = json!({
        "exec": job.number,
        "state": state.name(),
        "stdout": window.stdout,
        "stderr": window.stderr,
        "truncated": window.is_cut,
        "next_cursor": window.next,
        "lost_bytes": window.lost,
    });
    let mut text = value["stdout"].as_str().unwrap_or_default().to_owned();
    let mut note = |line: String| {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
    };
    if let Some(stderr) = value["stderr"].as_str().filter(|stderr| !stderr.is_empty()) {
        note(format!("[stderr]\n{stderr}"));
    }
    let (mut exit_code, mut took) = (None, None);
    match &state {
        State::Exited(code, after, error) => {
            (exit_code, took) = (Some(*code), Some(*after));
            if *code != 0 {
                note(format!("[exit code {code}]"));
            }
            if let Some(error) = error {
                note(error.to_string());
            }
        }
        State::TimedOut(after) | State::Ended(after) => {
            took = Some(*after);
            note("[killed]".to_owned());
        }
        State::Running => note(format!("[exec {} is still running]", job.number)),
        State::Failed(_) => {}
    }
    if window.is_cut {
        note(format!("[more output: sandbox_logs exec={} cursor={}]", job.number, window.next));
    }
    value["exit_code"] = json!(exit_code);
    value["duration_ms"] = json!(took.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)));
    (text, value, state)
}

/// What a command that did not end by itself is told as.
pub fn failure(state: &State, timeout: Duration) -> Option<Failure> {
    match state {
        State::Running | State::Exited(_, _, None) => None,
        State::Exited(code, _, Some(error)) => {
            let name = if *code == 127 { "command_not_found" } else { "not_executable" };
            Some(Failure { code: name.to_owned(), ..Failure::from(error.clone()) })
        }
        State::TimedOut(_) => {
            let text = format!("the command did not end within {} ms and was killed", timeout.as_millis());
            Some(Failure::new("timeout", text).hint("give it a longer `timeout_ms`, or `background`: true"))
        }
        State::Ended(_) => Some(Failure::new("cancelled", "the command was killed before its end")),
        State::Failed(error) if error.kind == ErrorKind::State => {
            Some(Failure { code: "sandbox_ended".to_owned(), ..Failure::from(error.clone()) })
        }
        State::Failed(error) => Some(Failure::from(error.clone())),
    }
}
