//! How the servers of this gateway stand: states, counters, logs, and the record of their calls.
//!
//! The hub tells it what happens; the control socket and `/metrics` read it. It starts and stops nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::audit::{Call, CallLog, CallOutcome};
use crate::engine::host::Host;
use crate::engine::running::{self, Place};
use crate::engine::server_log::{LogWriter, ServerLog};
use crate::engine::status::{ServerStatus, Snapshot, State, VERSION};
use crate::error::Error;

/// Longest reason and error that is kept of a server, in characters.
const REASON_CHARS_MAX: usize = 500;

/// A server as the configuration has it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// How it is reached: `command`, `image`, `http`.
    pub transport: &'static str,
    /// The digest of its policy.
    pub policy: String,
}

/// A call that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// What the client calls itself.
    pub client: &'a str,
    /// The server.
    pub server: &'a str,
    /// `tools/call`, `resources/read`, `prompts/get`.
    pub method: &'a str,
    /// The tool, the prompt or the address of the resource, as the server knows it.
    pub tool: &'a str,
    /// The arguments as they came.
    pub arguments: &'a [u8],
    /// From the request to the answer.
    pub duration: Duration,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Size of the request, in bytes.
    pub bytes_in: u64,
    /// Size of the answer, in bytes.
    pub bytes_out: u64,
    /// The client's trace context (`_meta.traceparent`).
    pub traceparent: Option<&'a str>,
}

/// What is told of things that go wrong beside the calls.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What else wants to know of each call that has ended; it must not wait.
pub type Observer = Box<dyn Fn(&Ended<'_>) + Send + Sync>;

/// The board of this gateway; clones are the same one.
#[derive(Clone)]
pub struct Board(Arc<Shared>);

struct Shared {
    place: Place,
    data: PathBuf,
    uid: u32,
    calls: CallLog,
    live: Mutex<Live>,
    /// One for each server, whatever runs of it.
    logs: Mutex<BTreeMap<String, ServerLog>>,
    tell: Tell,
    observer: OnceLock<Observer>,
}

struct Live {
    snapshot: Snapshot,
    /// Where each server stands in the snapshot.
    places: BTreeMap<String, usize>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("id", &self.0.place.id()).finish_non_exhaustive()
    }
}

impl Board {
    /// Takes a place among the gateways that run. `tell` gets one line when a record cannot be written.
    ///
    /// # Errors
    /// The folder or the audit cannot be opened: then nothing is served, for nothing could be written down.
    pub fn open(
        host: &Host,
        kind: &str,
        configs: Vec<String>,
        servers: &[Known],
        tell: Tell,
    ) -> Result<Self, Error> {
        host.open_data()?;
        let (place, calls) = (Place::take(host)?, CallLog::open(&host.data)?);
        let mut names: Vec<&Known> = servers.iter().collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let now = now_ms();
        let status = |known: &&Known| ServerStatus {
            name: known.name.clone(),
            transport: known.transport.to_owned(),
            policy: known.policy.clone(),
            since_ms: now,
            ..ServerStatus::default()
        };
        let snapshot = Snapshot {
            version: VERSION,
            id: place.id().to_owned(),
            pid: std::process::id(),
            kind: kind.to_owned(),
            configs,
            started_ms: now,
            servers: names.iter().map(status).collect(),
            ..Snapshot::default()
        };
        place.write(&snapshot)?;
        let places = names.iter().enumerate().map(|(at, known)| (known.name.clone(), at)).collect();
        let live = Mutex::new(Live { snapshot, places });
        Ok(Self(Arc::new(Shared {
            place,
            data: host.data.clone(),
            uid: host.uid,
            calls,
            live,
            logs: Mutex::default(),
            tell,
            observer: OnceLock::new(),
        })))
    }

    /// Who is told of each call from now on, beside the audit; the first that asks.
    pub fn observe(&self, observer: Observer) {
        // One is all that there is a use for.
        let _taken = self.0.observer.set(observer);
    }

    /// What tells of things that go wrong beside the calls.
    pub fn tell(&self) -> Tell {
        self.0.tell.clone()
    }

    /// The gateway's id.
    pub fn id(&self) -> &str {
        self.0.place.id()
    }

    /// Where the control socket belongs.
    pub fn socket(&self) -> PathBuf {
        self.0.place.socket()
    }

    /// A server is in this state now, for this reason.
    pub fn state(&self, server: &str, state: State, reason: Option<&str>) {
        let changed = self.change(server, |status| {
            let reason = reason.map(cut);
            let changed = (status.state, &status.reason) != (state, &reason);
            if status.state != state {
                status.since_ms = now_ms();
            }
            status.restarts += u64::from(status.state == State::Failed && state == State::Starting);
            if matches!(state, State::Failed | State::GivenUp) && reason.is_some() {
                status.last_error.clone_from(&reason);
            }
            (status.state, status.reason) = (state, reason);
            changed
        });
        if changed == Some(true) {
            self.write_down();
        }
    }

    /// A sandbox of a server runs, held by this process.
    pub fn started(&self, server: &str, pid: u32) {
        self.change(server, |status| status.pids.push(pid));
        self.write_down();
    }

    /// A sandbox of a server has ended.
    pub fn ended(&self, server: &str, pid: u32) {
        self.change(server, |status| status.pids.retain(|other| *other != pid));
        self.write_down();
    }

    /// How many tools a server offers.
    pub fn tools(&self, server: &str, tools: usize) {
        self.change(server, |status| status.tools = Some(tools as u64));
    }

    /// Something went wrong with a server that does not change its state.
    pub fn went_wrong(&self, server: &str, what: &str) {
        self.change(server, |status| status.last_error = Some(cut(what)));
    }

    /// A call begins; each one ends with [`Board::call`].
    pub fn begin(&self, server: &str) {
        self.change(server, |status| status.in_flight += 1);
    }

    /// A call has ended: it is counted and written down.
    pub fn call(&self, call: &Ended<'_>) {
        let mut policy = String::new();
        {
            let mut live = self.live();
            if live.snapshot.client.as_deref() != Some(call.client) {
                live.snapshot.client = Some(cut(call.client));
            }
        }
        self.change(call.server, |status| {
            status.in_flight = status.in_flight.saturating_sub(1);
            let word = call.outcome.word();
            match status.calls.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(status.calls.insert(word.to_owned(), 1)),
            }
            status.durations.add(call.duration);
            status.bytes_in += call.bytes_in;
            status.bytes_out += call.bytes_out;
            policy.clone_from(&status.policy);
        });
        let recorded = self.0.calls.record(&Call {
            uid: self.0.uid,
            client: call.client,
            server: call.server,
            method: call.method,
            tool: call.tool,
            arguments: call.arguments,
            policy: &policy,
            duration: call.duration,
            outcome: call.outcome,
            bytes_in: call.bytes_in,
            bytes_out: call.bytes_out,
        });
        if let Err(fault) = recorded {
            let lost = {
                let mut live = self.live();
                live.snapshot.audit_lost += 1;
                live.snapshot.audit_lost
            };
            // Once, and then with each power of two: a full disk must not fill the log too.
            if lost.is_power_of_two() {
                let error = Error::from(fault);
                (self.0.tell)(&format!("{lost} calls are not in the audit: {error}"));
            }
        }
        if let Some(observe) = self.0.observer.get() {
            observe(call);
        }
    }

    /// How everything stands, with the memory of sandboxes where a cgroup tells: it reads files of the kernel.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.live().snapshot.clone();
        let pids: Vec<u32> = snapshot.servers.iter().flat_map(|server| server.pids.clone()).collect();
        let memory = running::memory(&self.0.data, &pids);
        for server in &mut snapshot.servers {
            let known: Vec<u64> = server.pids.iter().filter_map(|pid| memory.get(pid).copied()).collect();
            server.memory_bytes = (!known.is_empty()).then(|| known.iter().sum());
        }
        snapshot
    }

    /// Writes to the log of a server; nothing when it cannot be written, which is told.
    pub fn log(&self, server: &str) -> Option<LogWriter> {
        let mut logs = self.0.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(server) {
            return Some(log.writer());
        }
        let begun = ServerLog::begin(&self.0.data, server, self.id());
        let log = begun
            .inspect_err(|e| (self.0.tell)(&format!("the log of `{server}` is lost: {e}: {}", e.source)))
            .ok()?;
        let writer = log.writer();
        logs.insert(server.to_owned(), log);
        Some(writer)
    }

    /// Whether the board knows a server of this name.
    pub fn knows(&self, server: &str) -> bool {
        self.live().places.contains_key(server)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each change is one assignment after another of plain numbers: a panic between two leaves nothing broken.
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, server: &str, change: impl FnOnce(&mut ServerStatus) -> T) -> Option<T> {
        let mut live = self.live();
        let at = *live.places.get(server)?;
        live.snapshot.servers.get_mut(at).map(change)
    }

    /// For who finds this gateway silent.
    fn write_down(&self) {
        let snapshot = self.live().snapshot.clone();
        if let Err(fault) = self.0.place.write(&snapshot) {
            (self.0.tell)(&Error::from(fault).to_string());
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(REASON_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
