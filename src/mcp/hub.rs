//! The hub: one task that takes notice of everything in order, and of the clock.
//!
//! Nothing it does waits for a client or a server: what cannot be handed over at once fails for who asked.
//! It starts no process and reads no file itself: that is what `World` is for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::offer::Kind;
use crate::engine::status::State;
use crate::error::{Error, ErrorKind};
use crate::mcp::instances::said;
use crate::mcp::message::response;
use crate::mcp::session::{Control, ConversationId, Event, Face, Inside, InstanceId, Order, Outbox};
use crate::mcp::state::{Call, CallEnd, CallId, Client, Hub, Instance, Purpose, ScopeId};

/// How often the clock is looked at while something is under way, in milliseconds.
const TICK_MS: u64 = 100;
/// How often it is looked at otherwise, in milliseconds.
const IDLE_TICK_MS: u64 = 1_000;
/// How long a client that says nothing more waits for its answers, in milliseconds.
const FINISH_MS: u64 = 30_000;
/// How long servers have to end before the gateway ends without them, in milliseconds, besides what each
/// step of stopping may take.
const END_MS: u64 = 2_000;

impl Hub {
    /// Carries everything until it is asked to end, and every server has ended.
    pub async fn run(mut self, mut inside: Inside) {
        self.keep_warm(Instant::now());
        let mut end_by = None;
        loop {
            let is_busy = !self.calls.is_empty() || end_by.is_some();
            let tick = Duration::from_millis(if is_busy { TICK_MS } else { IDLE_TICK_MS });
            tokio::select! {
                biased;
                Some(control) = inside.control.recv() => self.control(control),
                Some(event) = inside.events.recv() => {
                    // A conversation begins before its first message, which came by another way.
                    while let Ok(control) = inside.control.try_recv() {
                        self.control(control);
                    }
                    self.event(event);
                }
                () = tokio::time::sleep(tick) => {}
            }
            self.look_at_clock(Instant::now());
            if self.is_ending {
                let patience = || {
                    let stops = self.servers.iter().map(|server| server.config.timeouts.stop_ms);
                    Duration::from_millis(stops.max().unwrap_or(0) * 3 + END_MS)
                };
                let by = *end_by.get_or_insert_with(|| Instant::now() + patience());
                if self.instances.is_empty() || Instant::now() >= by {
                    return;
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Client(from, bytes) => self.from_client(from, &bytes, now),
            Event::Finished(id) => {
                if let Some(client) = self.clients.get_mut(&id) {
                    client.finish_by = Some(now + Duration::from_millis(FINISH_MS));
                }
                self.let_go_if_finished(id);
            }
            Event::Upstream(id, what) => self.from_upstream(id, what, now),
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Opened(id, face, outbox) => self.opened_by(id, face, outbox),
            Control::Closed(id) => self.closed(id),
            Control::Order(order, server, done) => {
                let outcome = self.order(order, &server, Instant::now());
                // Who does not wait any more needs no answer.
                drop(done.send(outcome));
            }
            Control::End => self.end(),
        }
    }

    fn order(&mut self, order: Order, name: &str, now: Instant) -> Result<(), Error> {
        let server =
            self.servers.iter().position(|server| server.config.name == name).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("the gateway has no server `{name}`"))
            })?;
        let of_server = |instance: &Instance| instance.server == server;
        let running: Vec<InstanceId> =
            self.instances.iter().filter(|(_, i)| of_server(i)).map(|(id, _)| *id).collect();
        match order {
            Order::Stop => {
                self.servers[server].is_stopped = true;
                (self.world.state)(server, State::Stopped, None);
                for id in running {
                    self.lose(id, "it was stopped");
                    self.stop_instance(id);
                }
            }
            Order::Start => {
                let state = &mut self.servers[server];
                (state.is_stopped, state.failures, state.not_before) = (false, 0, None);
                let scopes: Vec<ScopeId> = self.scopes.keys().copied().collect();
                for scope in scopes {
                    self.ensure(scope, server, now)
                        .map_err(|text| Error::new(ErrorKind::Failed, said(&text)))?;
                }
            }
            Order::Accepted => {
                let scopes: Vec<ScopeId> = self.scopes.keys().copied().collect();
                for scope in scopes {
                    self.tell_changed(scope, Kind::Tool);
                    self.tell_changed(scope, Kind::Prompt);
                }
            }
        }
        Ok(())
    }

    fn opened_by(&mut self, id: ConversationId, face: Face, outbox: Outbox) {
        if self.is_ending {
            return;
        }
        let client = Client {
            face,
            outbox,
            session: None,
            version: crate::mcp::era::LEGACY[0],
            name: String::new(),
            scope: None,
            calls: HashMap::new(),
            listens: BTreeMap::new(),
            listed: BTreeSet::new(),
            finish_by: None,
        };
        self.clients.insert(id, client);
    }

    /// Ends every conversation, and asks every server to end.
    fn end(&mut self) {
        self.is_ending = true;
        let listens: Vec<(ConversationId, String)> = self
            .clients
            .iter()
            .flat_map(|(id, client)| client.listens.keys().map(|listen| (*id, listen.clone())))
            .collect();
        for (to, id) in listens {
            let meta = format!(
                r#"{{"resultType":"complete","_meta":{{"{}":{id}}}}}"#,
                crate::mcp::era::SUBSCRIPTION_KEY
            );
            self.tell(to, response(&id, &meta), Some(&id), true);
        }
        let clients: Vec<ConversationId> = self.clients.keys().copied().collect();
        clients.into_iter().for_each(|id| self.closed(id));
        let instances: Vec<InstanceId> = self.instances.keys().copied().collect();
        instances.into_iter().for_each(|id| self.stop_instance(id));
    }

    // ── the clock ───────────────────────────────────────────────────────────────────────────────

    /// Does what is due, at most once in a while.
    fn look_at_clock(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + Duration::from_millis(TICK_MS);
        let late = |(_, call): &(&CallId, &Call)| call.deadline <= now;
        let mut due: Vec<CallId> = self.calls.iter().filter(late).map(|(number, _)| *number).collect();
        due.sort_unstable();
        for number in due {
            self.late(number, now);
        }
        let scopes: Vec<ScopeId> = self.scopes.keys().copied().collect();
        scopes.into_iter().for_each(|scope| self.look_at_waiting(scope, now));
        self.look_at_instances(now);
        let gone: Vec<ConversationId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.finish_by.is_some_and(|by| by <= now))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|id| self.closed(id));
    }

    /// A request has taken too long.
    fn late(&mut self, number: CallId, now: Instant) {
        let Some(call) = self.calls.get(&number) else { return };
        let (purpose, server, patience) = (call.purpose, call.server, call.patience);
        let is_parked = call.parked.is_some() && call.conversation.is_none();
        let Some(id) = call.instance else { return };
        if purpose != Purpose::Client {
            self.calls.remove(&number);
        }
        match purpose {
            Purpose::Client => {
                let what = format!("did not answer within {} s", patience.as_secs_f64());
                let hint = "raise the time-out of its calls, or look why it takes so long";
                let error = self.fault(server, "timeout", &what, Some(hint));
                self.tell_cancelled(number);
                self.withdraw_round(number);
                if is_parked {
                    self.finish(number, Vec::new(), CallEnd::Cancelled);
                } else {
                    self.finish_with_error(number, &error, CallEnd::TimedOut);
                }
            }
            Purpose::Initialize => {
                self.fail(id, &format!("it did not answer `initialize` within {} s", patience.as_secs_f64()));
            }
            Purpose::Discover => self.discovered(id, Err(r#"{"message":"silence"}"#), now),
            Purpose::List(kind) => self.list_came(id, kind, Err(r#"{"message":"it took too long"}"#), now),
            Purpose::Probe => {
                self.fail(id, &format!("it did not answer a ping within {} s", patience.as_secs_f64()));
            }
            Purpose::Quiet | Purpose::Listen => {}
        }
    }

    fn tell_cancelled(&mut self, number: CallId) {
        let Some(call) = self.calls.get(&number) else { return };
        if let Some(id) = call.instance.filter(|_| call.is_sent) {
            let params = format!(r#"{{"requestId":{number},"reason":"it took too long"}}"#);
            self.send(id, crate::mcp::message::notification("notifications/cancelled", &params));
        }
    }
}
