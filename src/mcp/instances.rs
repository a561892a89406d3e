//! The life of a server behind the hub: started when it is needed, asked who it is in the era that fits,
//! listed, watched, ended; and what its end means for who waits.
//!
//! A server that fails harms its own calls only: they get an error that says why. It is started anew at
//! the next call, after a pause that grows, and given up after so many failures in a row.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::config::servers::{Restart, Start};
use crate::engine::offer::{Kind, Offer};
use crate::engine::status::State;
use crate::error::Error;
use crate::mcp::era::{ClientFacts, Era, MODERN, server_info, speaks_modern};
use crate::mcp::link::{EndReason, FromUpstream, pass};
use crate::mcp::message::{Change, Object, bare_notification, quoted, request};
use crate::mcp::session::{Event, InstanceId};
use crate::mcp::state::{
    Call, CallEnd, CallId, Fetch, Hub, Instance, Life, Phase, Purpose, ScopeId, list_member, list_method,
};

/// How long a server may think about `server/discover` before it counts as one that does not know it, in
/// milliseconds: the specification says that such servers may stay silent.
const DISCOVER_MS: u64 = 5_000;
/// First pause after a failure, in milliseconds; it doubles.
const PAUSE_MS: u64 = 100;
/// Longest pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 30_000;
/// How long a server must have been well for its failures to be forgotten, in milliseconds.
const WELL_MS: u64 = 30_000;
/// A server that was given up may be tried once more after this, in milliseconds.
const GIVEN_UP_MS: u64 = 60_000;
/// Messages of one server within [`WINDOW_MS`]; with more it has to wait.
const WINDOW_MESSAGES_MAX: u32 = 4_000;
/// See there, in milliseconds.
const WINDOW_MS: u64 = 200;
/// Pages of one list.
const PAGES_MAX: u32 = 1_000;
/// One list, in bytes.
const LIST_BYTES_MAX: usize = 32 << 20;
/// Members of one list.
const LIST_ITEMS_MAX: usize = 20_000;

impl Hub {
    /// The instance of a server for a scope, started when there is none.
    ///
    /// # Errors
    /// The error object that says why there can be none now.
    pub fn ensure(&mut self, scope: ScopeId, server: usize, now: Instant) -> Result<InstanceId, String> {
        if let Some(id) = self.scopes.get(&scope).and_then(|s| s.instances.get(&server)) {
            return Ok(*id);
        }
        self.may_start(server, now)?;
        let warm = self.instances.iter().find(|(_, i)| i.server == server && i.phase == Phase::Warm);
        let id = match warm.map(|(id, _)| *id) {
            Some(id) => id,
            None => self.start(server, now)?,
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.scope = Some(scope);
            instance.phase = Phase::Opening;
            instance.used_at = now;
        }
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.instances.insert(server, id);
        }
        self.open_instance(id, now);
        Ok(id)
    }

    /// Whether a server may be started now; else the error object that says why not.
    fn may_start(&self, server: usize, now: Instant) -> Result<(), String> {
        let state = &self.servers[server];
        let reason = state.reason.as_deref().unwrap_or("it was stopped");
        if self.is_ending {
            return Err(self.fault(server, "state", "is not started: the gateway is ending", None));
        }
        if state.is_stopped {
            return Err(self.fault(server, "state", "was stopped", Some("`cuddy mcp ps` shows it")));
        }
        if state.not_before.is_some_and(|at| now < at) {
            let given_up = self.is_given_up(server);
            let what = if given_up { "was given up" } else { "failed, and is started anew in a moment" };
            let hint = format!("`cuddy mcp logs {}` shows what it wrote", self.name_of(server));
            return Err(self.fault(server, "unreachable", &format!("{what}: {reason}"), Some(&hint)));
        }
        Ok(())
    }

    /// Whether a server has failed so often that it is left alone for a while.
    pub fn is_given_up(&self, server: usize) -> bool {
        let state = &self.servers[server];
        match state.config.restart {
            Restart::Never => state.failures > 0,
            Restart::OnFailure { attempts_max } => state.failures > attempts_max,
        }
    }

    /// Starts a server for nobody in particular.
    fn start(&mut self, server: usize, now: Instant) -> Result<InstanceId, String> {
        let running_max = usize::try_from(self.settings.running_max).unwrap_or(usize::MAX);
        if self.instances.len() >= running_max {
            let text = format!("is not started: {running_max} servers run already");
            return Err(self.fault(server, "limit", &text, Some("raise `running_max` of the gateway")));
        }
        let id = InstanceId(self.number());
        let link = self.world.start(server, &self.servers[server].config);
        self.servers[server].starts += 1;
        self.world.state(server, State::Starting, None);
        tokio::spawn(forward(link.receive, self.events.clone(), id));
        self.instances.insert(
            id,
            Instance {
                server,
                scope: None,
                send: Some(link.send),
                pid: None,
                era: Era::Legacy,
                phase: Phase::Warm,
                ready_at: None,
                used_at: now,
                heard_at: now,
                queue: std::collections::VecDeque::new(),
                under_way: Vec::new(),
                under_way_bytes: 0,
                opening: None,
                info: None,
                fetching: std::collections::BTreeMap::new(),
                lists: std::collections::BTreeMap::new(),
                offer: None,
                listen: None,
                level: None,
                questions: std::collections::HashMap::new(),
                strays: 0,
                is_probed: false,
            },
        );
        Ok(id)
    }

    /// Keeps as many started servers ready as were asked for.
    pub fn keep_warm(&mut self, now: Instant) {
        for server in 0..self.servers.len() {
            let wanted = usize::try_from(self.servers[server].config.warm).unwrap_or(0);
            let is_warm = |i: &&Instance| i.server == server && i.phase == Phase::Warm;
            for _ in self.instances.values().filter(is_warm).count()..wanted {
                if self.may_start(server, now).is_err() || self.start(server, now).is_err() {
                    break;
                }
            }
        }
    }

    // ── the beginning ───────────────────────────────────────────────────────────────────────────

    /// Asks an instance who it is: in the era of its clients first, so that as little as possible has to
    /// be translated.
    fn open_instance(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(scope) = instance.scope.and_then(|scope| self.scopes.get(&scope)) else { return };
        let state = &self.servers[instance.server];
        let is_known_legacy = state.modern_probe == Some(Era::Legacy);
        match state.opener.unwrap_or(scope.era) {
            Era::Modern if !is_known_legacy => self.discover(id, now),
            Era::Modern | Era::Legacy => self.initialize(id, now),
        }
    }

    /// Starts a server anew that ended at our first words, and begins in the other era: a server that knows one
    /// revision may refuse the other's by going away. Once; `false` when that was tried already.
    fn open_in_the_other_era(&mut self, id: InstanceId, now: Instant) -> bool {
        let Some(instance) = self.instances.get(&id).filter(|i| i.phase == Phase::Opening) else {
            return false;
        };
        let (server, Some(scope)) = (instance.server, instance.scope) else { return false };
        let Some(era) = self.scopes.get(&scope).map(|scope| scope.era) else { return false };
        if self.servers[server].opener.take().is_some() {
            return false;
        }
        let Ok(next) = self.start(server, now) else { return false };
        let queue =
            self.instances.get_mut(&id).map(|gone| std::mem::take(&mut gone.queue)).unwrap_or_default();
        let other = if era == Era::Modern { Era::Legacy } else { Era::Modern };
        self.servers[server].opener = Some(other);
        self.calls.retain(|_, call| call.instance != Some(id) || call.purpose == Purpose::Client);
        for call in &queue {
            if let Some(call) = self.calls.get_mut(call) {
                call.instance = Some(next);
            }
        }
        if let Some(instance) = self.instances.get_mut(&next) {
            instance.scope = Some(scope);
            instance.phase = Phase::Opening;
            instance.queue = queue;
        }
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.instances.insert(server, next);
        }
        self.open_instance(next, now);
        true
    }

    fn initialize(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.era = Era::Legacy;
        let scope = instance.scope.and_then(|scope| self.scopes.get(&scope));
        let Some(params) = scope.map(|scope| scope.opening.clone()) else { return };
        self.ask_instance(id, Purpose::Initialize, "initialize", &params, now);
    }

    fn discover(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.era = Era::Modern;
        self.ask_instance(id, Purpose::Discover, "server/discover", "{}", now);
    }

    /// A request of our own to an instance.
    pub fn ask_instance(
        &mut self,
        id: InstanceId,
        purpose: Purpose,
        method: &str,
        params: &str,
        now: Instant,
    ) -> Option<CallId> {
        let instance = self.instances.get(&id)?;
        let (server, era) = (instance.server, instance.era);
        let facts = instance.scope.and_then(|scope| self.scopes.get(&scope)).map(|s| Arc::clone(&s.facts))?;
        let params = match (era, Object::parse(params)) {
            (Era::Modern, Ok(object)) => crate::mcp::era::params_to_modern(&object, &facts),
            _ => params.to_owned(),
        };
        let timeouts = self.servers[server].config.timeouts;
        let patience = Duration::from_millis(match purpose {
            Purpose::Discover if self.is_probe(id) => DISCOVER_MS.min(timeouts.start_ms),
            Purpose::Probe => timeouts.ping_ms,
            Purpose::Listen => u64::from(u32::MAX),
            Purpose::Client | Purpose::Initialize | Purpose::Discover | Purpose::List(_) | Purpose::Quiet => {
                timeouts.start_ms
            }
        });
        let number = self.number();
        let message = request(&number.to_string(), method, &params);
        let call = Call {
            purpose,
            conversation: None,
            client_id: String::new(),
            era,
            facts,
            client: String::new(),
            token: None,
            server,
            instance: Some(id),
            method: method.to_owned(),
            params: String::new(),
            subject: String::new(),
            since: now,
            deadline: now + patience,
            patience,
            is_sent: true,
            rounds: 0,
            round: None,
            parked: None,
        };
        self.calls.insert(number, call);
        if !self.send(id, message) {
            self.calls.remove(&number);
            return None;
        }
        Some(number)
    }

    /// Whether a discovery is the first thing that this server is asked, so that silence has a meaning.
    fn is_probe(&self, id: InstanceId) -> bool {
        let scope = self.instances.get(&id).and_then(|i| self.scopes.get(&i.scope?));
        scope.is_some_and(|scope| scope.era == Era::Modern)
    }

    /// The answer to `initialize`.
    pub fn initialized(&mut self, id: InstanceId, answer: Result<&str, &str>, now: Instant) {
        match answer {
            Ok(result) => {
                self.send(id, bare_notification("notifications/initialized"));
                self.opened(id, Era::Legacy, result, now);
            }
            Err(why) if self.is_probe(id) => {
                self.fail(id, &format!("it knows neither `server/discover` nor `initialize`: {}", said(why)));
            }
            // A server that knows only what is modern says so by an error.
            Err(_) => self.discover(id, now),
        }
    }

    /// The answer to `server/discover`.
    pub fn discovered(&mut self, id: InstanceId, answer: Result<&str, &str>, now: Instant) {
        let result = answer.ok().and_then(|text| Object::parse(text).ok());
        match result {
            Some(result) if speaks_modern(&result) => {
                self.probed(id, Era::Modern);
                self.opened(id, Era::Modern, result.text(), now);
            }
            _ if self.is_probe(id) => {
                self.probed(id, Era::Legacy);
                self.initialize(id, now);
            }
            _ => {
                let why = answer.err().map_or("no revision in common".to_owned(), said);
                self.fail(id, &format!("it knows neither `initialize` nor `server/discover`: {why}"));
            }
        }
    }

    fn probed(&mut self, id: InstanceId, era: Era) {
        if let Some(instance) = self.instances.get(&id) {
            self.servers[instance.server].modern_probe = Some(era);
        }
    }

    /// An instance has said who it is: it can be called, and is asked what it offers.
    fn opened(&mut self, id: InstanceId, era: Era, opening: &str, now: Instant) {
        let Ok(object) = Object::parse(opening) else {
            return self.fail(id, "its first answer is no object");
        };
        let capabilities = object.object("capabilities");
        let has = |name: &str| capabilities.as_ref().is_some_and(|c| c.get(name).is_some());
        let mut kinds = Vec::new();
        kinds.extend(has("tools").then_some(Kind::Tool));
        kinds.extend(has("prompts").then_some(Kind::Prompt));
        kinds.extend(has("resources").then_some(Kind::Resource));
        kinds.extend(has("resources").then_some(Kind::Template));
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.era = era;
        instance.phase = Phase::Ready;
        instance.ready_at = Some(now);
        self.world.state(instance.server, State::Started, None);
        instance.info = server_info(&object);
        instance.opening = Some(opening.to_owned());
        let queue: Vec<CallId> = instance.queue.drain(..).collect();
        let scope = instance.scope;
        for kind in &kinds {
            instance.fetching.insert(*kind, Fetch::default());
        }
        // Calls before lists: somebody waits for them.
        for call in queue {
            self.send_call(call, now);
        }
        for kind in &kinds {
            self.fetch(id, *kind, None, now);
        }
        if kinds.is_empty() {
            self.listed_all(id, now);
        }
        self.listen_anew(id, now);
        if let Some(scope) = scope {
            self.level_to(id, scope, now);
            self.resubscribe(id, scope, now);
            self.look_at_waiting(scope, now);
        }
    }

    // ── lists ───────────────────────────────────────────────────────────────────────────────────

    fn fetch(&mut self, id: InstanceId, kind: Kind, cursor: Option<&str>, now: Instant) {
        let params = cursor.map_or_else(|| "{}".to_owned(), |cursor| format!(r#"{{"cursor":{cursor}}}"#));
        if self.ask_instance(id, Purpose::List(kind), list_method(kind), &params, now).is_none() {
            self.list_came(id, kind, Err("it does not read"), now);
        }
    }

    /// A list has changed: it is fetched again.
    pub fn list_changed(&mut self, id: InstanceId, kind: Kind, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.phase != Phase::Ready {
            return;
        }
        if let Some(fetch) = instance.fetching.get_mut(&kind) {
            fetch.again = true;
            return;
        }
        instance.fetching.insert(kind, Fetch::default());
        self.fetch(id, kind, None, now);
    }

    /// A page of a list.
    pub fn list_came(&mut self, id: InstanceId, kind: Kind, answer: Result<&str, &str>, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(fetch) = instance.fetching.get_mut(&kind) else { return };
        let server = instance.server;
        let page = answer.ok().and_then(|text| page(kind, text));
        let mut cursor = None;
        match (page, answer) {
            (Some(page), Ok(text)) => {
                fetch.pages += 1;
                fetch.bytes += text.len();
                fetch.listing.items.extend(page.items);
                fetch.listing.rest = page.rest.or(fetch.listing.rest.take());
                let is_full = fetch.pages >= PAGES_MAX
                    || fetch.bytes > LIST_BYTES_MAX
                    || fetch.listing.items.len() > LIST_ITEMS_MAX;
                if page.cursor.is_some() && is_full {
                    fetch.listing.items.truncate(LIST_ITEMS_MAX);
                    let text = format!("its list of {} is cut short: it has no end", list_member(kind));
                    self.world.note(server, &text);
                } else {
                    cursor = page.cursor;
                }
            }
            (_, Err(why)) => {
                self.world.note(server, &format!("`{}` failed: {}", list_method(kind), said(why)));
            }
            (None, Ok(_)) => {
                self.world.note(server, &format!("its answer to `{}` is no list", list_method(kind)));
            }
        }
        match cursor {
            Some(cursor) => self.fetch(id, kind, Some(&cursor), now),
            None => self.list_is_complete(id, kind, now),
        }
    }

    fn list_is_complete(&mut self, id: InstanceId, kind: Kind, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some(fetch) = instance.fetching.remove(&kind) else { return };
        instance.lists.insert(kind, fetch.listing);
        if fetch.again {
            instance.fetching.insert(kind, Fetch::default());
            self.fetch(id, kind, None, now);
        } else if instance.fetching.is_empty() {
            self.listed_all(id, now);
        }
    }

    /// Everything that an instance offers is there.
    fn listed_all(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let (server, Some(scope)) = (instance.server, instance.scope) else { return };
        let opening = instance.opening.as_deref().unwrap_or("{}");
        let Ok(opening) = serde_json::value::RawValue::from_string(opening.to_owned()) else { return };
        let list = |kind: Kind| instance.lists.get(&kind).cloned();
        let protocol = match instance.era {
            Era::Modern => MODERN.to_owned(),
            Era::Legacy => {
                let version = Object::parse(opening.get()).ok();
                let version = version.and_then(|o| o.string("protocolVersion").map(|v| v.into_owned()));
                version.unwrap_or_else(|| crate::mcp::era::LEGACY[0].to_owned())
            }
        };
        let offer = Arc::new(Offer {
            protocol,
            opening,
            tools: list(Kind::Tool),
            prompts: list(Kind::Prompt),
            resources: list(Kind::Resource),
            templates: list(Kind::Template),
        });
        let before = instance.offer.replace(Arc::clone(&offer));
        self.offered(scope, server, before, &offer, now);
    }

    // ── the end ─────────────────────────────────────────────────────────────────────────────────

    /// Asks an instance to end.
    pub fn stop_instance(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.phase = Phase::Ending;
        instance.send = None;
        let (server, scope) = (instance.server, instance.scope);
        if let Some(scope) = scope.and_then(|scope| self.scopes.get_mut(&scope))
            && scope.instances.get(&server) == Some(&id)
        {
            scope.instances.remove(&server);
            scope.table = None;
        }
    }

    /// Gives an instance up that does not keep to the protocol.
    pub fn fail(&mut self, id: InstanceId, why: &str) {
        let Some(instance) = self.instances.get(&id) else { return };
        let server = instance.server;
        self.world.note(server, &format!("it is ended: {why}"));
        self.count_failure(server, why, Instant::now());
        self.lose(id, why);
        self.stop_instance(id);
    }

    fn count_failure(&mut self, server: usize, why: &str, now: Instant) {
        let given_up_before = self.is_given_up(server);
        let state = &mut self.servers[server];
        state.failures = state.failures.saturating_add(1);
        state.reason = Some(why.to_owned());
        let doublings = state.failures.saturating_sub(1).min(16);
        let mut pause_ms = (PAUSE_MS << doublings).min(PAUSE_MS_MAX);
        if self.is_given_up(server) {
            pause_ms = GIVEN_UP_MS;
            if !given_up_before {
                self.world.note(server, &format!("it is given up: {why}"));
            }
        }
        self.servers[server].not_before = Some(now + Duration::from_millis(pause_ms));
        let state = if self.is_given_up(server) { State::GivenUp } else { State::Failed };
        self.world.state(server, state, Some(why));
    }

    /// An instance is gone, and nothing of it is left.
    pub fn ended(&mut self, id: InstanceId, reason: &EndReason, now: Instant) {
        let Some(instance) = self.instances.get(&id) else { return };
        let (server, scope) = (instance.server, instance.scope);
        let was_well = instance
            .ready_at
            .is_some_and(|at| now.saturating_duration_since(at) >= Duration::from_millis(WELL_MS));
        let was_asked = instance.phase == Phase::Ending;
        if let Some(pid) = instance.pid {
            self.world.process(server, pid, Life::Ended);
        }
        let has_failed = self.servers[server].not_before.is_some_and(|at| now < at);
        if was_asked && !has_failed && self.instances.values().filter(|i| i.server == server).count() == 1 {
            self.world.state(server, State::Stopped, None);
        }
        if !was_asked {
            if was_well {
                self.servers[server].failures = 0;
            }
            let why = reason_text(reason);
            self.world.note(server, &format!("it ended: {why}"));
            if self.open_in_the_other_era(id, now) {
                self.stop_instance(id);
                self.instances.remove(&id);
                return;
            }
            self.count_failure(server, &why, now);
            self.lose(id, &why);
        }
        self.stop_instance(id);
        self.instances.remove(&id);
        if let Some(scope) = scope {
            self.look_at_waiting(scope, now);
        }
    }

    /// Everything that waits for an instance hears that it is gone.
    pub fn lose(&mut self, id: InstanceId, why: &str) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let server = instance.server;
        let questions: Vec<_> = instance.questions.drain().collect();
        for (raw, question) in questions {
            self.withdraw(&raw, question, "the server ended");
        }
        let mut lost: Vec<CallId> =
            self.calls.iter().filter(|(_, c)| c.instance == Some(id)).map(|(n, _)| *n).collect();
        lost.sort_unstable();
        for number in lost {
            let Some(call) = self.calls.get(&number) else { continue };
            if call.purpose == Purpose::Client {
                let hint = format!("`cuddy mcp logs {}` shows what it wrote", self.name_of(server));
                let what = if call.is_sent { "ended before it answered" } else { "could not be started" };
                let error = self.fault(server, "unreachable", &format!("{what}: {why}"), Some(&hint));
                self.finish_with_error(number, &error, CallEnd::Lost);
            } else {
                self.calls.remove(&number);
            }
        }
    }

    // ── watching ────────────────────────────────────────────────────────────────────────────────

    /// What is due by the clock, for all instances.
    pub fn look_at_instances(&mut self, now: Instant) {
        let ids: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in ids {
            self.look_at_instance(id, now);
        }
        if !self.is_ending {
            self.keep_warm(now);
            self.restart_eager(now);
        }
    }

    fn look_at_instance(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.phase != Phase::Ready || !instance.under_way.is_empty() {
            return;
        }
        let config = &self.servers[instance.server].config;
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_used = instance
            .scope
            .and_then(|s| self.scopes.get(&s))
            .is_some_and(|scope| scope.subscribed.values().any(|server| *server == instance.server));
        let idle_stop = config.idle_stop_ms.map(Duration::from_millis);
        if idle_stop.is_some_and(|idle| since(instance.used_at) >= idle) && !is_used {
            self.world.note(instance.server, "it is stopped: nobody needs it");
            return self.stop_instance(id);
        }
        let every = config.timeouts.ping_every_ms.map(Duration::from_millis);
        if every.is_some_and(|every| since(instance.heard_at) >= every) && !instance.is_probed {
            let method = if instance.era == Era::Modern { "server/discover" } else { "ping" };
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.is_probed = true;
            }
            if self.ask_instance(id, Purpose::Probe, method, "{}", now).is_none() {
                self.fail(id, "it does not read its input");
            }
        }
    }

    /// Starts what is to run all the time, where it does not.
    fn restart_eager(&mut self, now: Instant) {
        let scopes: Vec<ScopeId> = self.scopes.keys().copied().collect();
        for scope in scopes {
            self.start_eager(scope, now);
        }
    }

    /// Starts what is to run all the time for a scope.
    pub fn start_eager(&mut self, scope: ScopeId, now: Instant) {
        for server in 0..self.servers.len() {
            let state = &self.servers[server];
            let is_due = state.config.start == Start::Eager && !self.is_given_up(server);
            if is_due && self.may_start(server, now).is_ok() {
                // What goes wrong is told to who asks for it.
                drop(self.ensure(scope, server, now));
            }
        }
    }
}

/// Carries what a server says to the hub. One that talks without pause has to wait: the others are heard
/// in between, and its own pipe fills up.
async fn forward(mut from: mpsc::Receiver<FromUpstream>, to: mpsc::Sender<Event>, id: InstanceId) {
    let (mut window, mut heard) = (Instant::now(), 0_u32);
    while let Some(said) = from.recv().await {
        let bytes = if let FromUpstream::Message(message) = &said { message.len() } else { 0 };
        if pass(&to, Event::Upstream(id, said), bytes).await.is_err() {
            return;
        }
        heard += 1;
        if heard >= WINDOW_MESSAGES_MAX {
            let end = window + Duration::from_millis(WINDOW_MS);
            tokio::time::sleep_until(end).await;
            (window, heard) = (Instant::now(), 0);
        } else if heard.is_multiple_of(256) && window.elapsed() > Duration::from_millis(WINDOW_MS) {
            (window, heard) = (Instant::now(), 0);
        }
    }
}

/// One page of a list.
struct Page {
    items: Vec<Box<serde_json::value::RawValue>>,
    rest: Option<Box<serde_json::value::RawValue>>,
    cursor: Option<String>,
}

fn page(kind: Kind, text: &str) -> Option<Page> {
    let object = Object::parse(text).ok()?;
    let member = list_member(kind);
    let items = serde_json::from_str(object.get(member)?).ok()?;
    let cursor = object.get("nextCursor").filter(|cursor| cursor.starts_with('"')).map(str::to_owned);
    let rest = object.with(&[Change::Remove(member), Change::Remove("nextCursor")]);
    let rest = (rest != "{}").then(|| serde_json::value::RawValue::from_string(rest).ok()).flatten();
    Some(Page { items, rest, cursor })
}

/// What an error object says, for people.
pub fn said(error: &str) -> String {
    let text = Object::parse(error).ok().and_then(|o| o.string("message").map(|m| m.into_owned()));
    let text = text.unwrap_or_else(|| error.to_owned());
    text.chars().take(300).collect()
}

fn reason_text(reason: &EndReason) -> String {
    match reason {
        EndReason::Asked => "it was asked to".to_owned(),
        EndReason::Exited(status) => status.clone(),
        EndReason::Failed(Error { chain, .. }) => chain.join(": "),
    }
}

/// Parameters of `initialize` for servers behind clients that never send one.
pub fn opening_of(facts: &ClientFacts) -> String {
    let info = facts.info.as_deref().unwrap_or(r#"{"name":"cuddy","version":"0"}"#);
    let version = quoted(crate::mcp::era::LEGACY[0]);
    format!(r#"{{"protocolVersion":{version},"capabilities":{},"clientInfo":{info}}}"#, facts.capabilities)
}
