//! What the hub knows: servers, their instances, clients, and every request that is under way.
//!
//! Data, and the few steps that every other part of the hub takes: find, count, tell a client, tell a
//! server. It decides nothing about the protocol, and no step of it waits: what cannot be handed over at
//! once fails.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::config::servers::{GatewaySettings, ServerConfig};
use crate::engine::offer::{Kind, Listing, Offer, Withheld};
use crate::engine::status::State;
use crate::mcp::era::{ClientFacts, Era};
use crate::mcp::link::{LARGE_BYTES, Link};
use crate::mcp::message::{INTERNAL_ERROR, error, error_response, quoted};
use crate::mcp::session::{ConversationId, Event, Face, InstanceId, Outbox, ToClient};

/// What may wait for one client before it counts as gone, in bytes.
const CLIENT_BYTES_MAX: usize = 64 << 20;
/// From this on what a client can do without is left out, in bytes.
const CLIENT_BYTES_HIGH: usize = 4 << 20;
/// What may be under way at one server, in bytes of requests.
pub const UNDER_WAY_BYTES_MAX: usize = 64 << 20;

/// One request, by a number that is also its id and its progress token at the server.
pub type CallId = u64;

/// What is outside: started, written, looked up by whoever made the hub.
pub trait World: Send + fmt::Debug {
    /// Starts a server; what goes wrong comes over the link.
    fn start(&mut self, server: usize, config: &ServerConfig) -> Link;

    /// Writes a line into a server's log.
    fn note(&mut self, server: usize, line: &str);

    /// A server stands like this now, for this reason.
    fn state(&mut self, server: usize, state: State, reason: Option<&str>);

    /// A process of a server has begun or ended.
    fn process(&mut self, server: usize, pid: u32, life: Life);

    /// A request of a client to a server begins.
    fn begin(&mut self, server: usize);

    /// It has ended.
    fn called(&mut self, called: &Called<'_>);

    /// What a server offered the last time that it was asked in this era of its clients.
    fn known(&mut self, server: usize, era: Era) -> Option<Offer>;

    /// A server offers this now, in this era of its clients.
    fn offered(&mut self, server: usize, era: Era, offer: &Offer);

    /// What nobody has accepted yet of a server whose definitions are pinned.
    fn withheld(&mut self, server: usize, offer: &Offer) -> Withheld;
}

/// What happened to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It has begun.
    Started,
    /// It has ended.
    Ended,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// It worked.
    Done,
    /// The tool says that it failed.
    ToolError,
    /// The server answered with an error of this code.
    Error(i64),
    /// The gateway answered with an error.
    Refused,
    /// The server ended, or was never there.
    Lost,
    /// It took too long.
    TimedOut,
    /// The client did not want it any more.
    Cancelled,
}

/// A request that has ended.
#[derive(Debug)]
pub struct Called<'a> {
    /// Which server.
    pub server: usize,
    /// What the client calls itself.
    pub client: &'a str,
    /// The method.
    pub method: &'a str,
    /// The tool, the prompt or the address, as the server calls it.
    pub subject: &'a str,
    /// The parameters as the client wrote them.
    pub params: &'a str,
    /// From the request to its end.
    pub duration: Duration,
    /// How it ended.
    pub end: CallEnd,
    /// Size of the request, in bytes.
    pub bytes_in: usize,
    /// Size of the answer, in bytes.
    pub bytes_out: usize,
}

/// One configured server.
#[derive(Debug)]
pub struct Server {
    /// How it was configured.
    pub config: ServerConfig,
    /// What it offered when it was last asked by a legacy client, and by a modern one.
    pub known: HashMap<Era, Arc<Offer>>,
    /// The era that it turned out to speak to modern clients.
    pub modern_probe: Option<Era>,
    /// The era that it must be asked in first: asked in the other one, it ended.
    pub opener: Option<Era>,
    /// Failures in a row.
    pub failures: u32,
    /// It is not started before.
    pub not_before: Option<Instant>,
    /// Why it last failed.
    pub reason: Option<String>,
    /// Starts, since the gateway began.
    pub starts: u64,
    /// Calls, since the gateway began.
    pub calls: u64,
    /// Calls that failed, since the gateway began.
    pub errors: u64,
    /// Somebody asked for it to stay stopped.
    pub is_stopped: bool,
}

/// A client that is there.
#[derive(Debug)]
pub struct Client {
    /// How it came in.
    pub face: Face,
    /// Its queue.
    pub outbox: Outbox,
    /// What it said in `initialize`; `None` for one that says everything with each request.
    pub session: Option<Arc<ClientFacts>>,
    /// The legacy revision that is spoken with it.
    pub version: &'static str,
    /// What it calls itself.
    pub name: String,
    /// The instances it uses.
    pub scope: Option<ScopeId>,
    /// What it asked and is not answered yet, by its own id.
    pub calls: HashMap<String, CallId>,
    /// What it listens to, by the id of its request.
    pub listens: BTreeMap<String, Listen>,
    /// Lists that it was shown.
    pub listed: BTreeSet<Kind>,
    /// It does not read.
    pub is_lost: bool,
    /// It will say nothing more; it is let go at this time at the latest.
    pub finish_by: Option<Instant>,
}

/// What a client wants to hear of.
#[derive(Debug, Clone, Default)]
pub struct Listen {
    /// Lists that change.
    pub kinds: Vec<Kind>,
    /// Addresses of resources that change.
    pub addresses: Vec<String>,
}

/// Which set of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(pub u64);

/// Instances that are used together: by one session, or by all modern clients with the same capabilities.
#[derive(Debug)]
pub struct Scope {
    /// Whose it is; `None` when it is shared.
    pub owner: Option<ConversationId>,
    /// How its clients speak.
    pub era: Era,
    /// What its clients can do.
    pub facts: Arc<ClientFacts>,
    /// Parameters of the `initialize` that its servers get.
    pub opening: String,
    /// Which instance it has of a server.
    pub instances: BTreeMap<usize, InstanceId>,
    /// Requests that wait until more is known of the servers.
    pub waiting: Vec<CallId>,
    /// What all its servers offer, as its clients see it; `None` when it must be made anew.
    pub table: Option<Arc<Table>>,
    /// Addresses of resources that somebody wants to hear of, and the server of each.
    pub subscribed: BTreeMap<String, usize>,
    /// The level of messages that its client has set.
    pub level: Option<String>,
}

/// What clients see of all servers.
#[derive(Debug, Default)]
pub struct Table {
    /// Shown name → server and its own name.
    pub tools: HashMap<String, (usize, String)>,
    /// Shown name → server and its own name.
    pub prompts: HashMap<String, (usize, String)>,
    /// Address → server.
    pub resources: HashMap<String, usize>,
    /// Template of addresses and its server.
    pub templates: Vec<(String, usize)>,
    /// The lists, member by member, as they are shown.
    pub shown: BTreeMap<Kind, Vec<String>>,
}

/// How far an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Started for nobody yet.
    Warm,
    /// It is asked who it is.
    Opening,
    /// It can be called.
    Ready,
    /// It was asked to end.
    Ending,
}

/// One running server.
#[derive(Debug)]
pub struct Instance {
    /// Which server.
    pub server: usize,
    /// Who uses it; `None` while it is kept warm.
    pub scope: Option<ScopeId>,
    /// Its queue; `None` once it was asked to end.
    pub send: Option<mpsc::Sender<Vec<u8>>>,
    /// The process of its sandbox.
    pub pid: Option<u32>,
    /// How it speaks, once that is known.
    pub era: Era,
    /// How far it is.
    pub phase: Phase,
    /// Since when it can be called.
    pub ready_at: Option<Instant>,
    /// When it was last asked something by a client.
    pub used_at: Instant,
    /// When it last said anything.
    pub heard_at: Instant,
    /// Calls that wait until it can be called.
    pub queue: VecDeque<CallId>,
    /// Calls of clients that it has not answered, oldest first.
    pub under_way: Vec<CallId>,
    /// Their size, in bytes.
    pub under_way_bytes: usize,
    /// What it said of itself.
    pub opening: Option<String>,
    /// Its name and version.
    pub info: Option<String>,
    /// Lists that are being fetched, as far as they are.
    pub fetching: BTreeMap<Kind, Fetch>,
    /// Lists that are complete.
    pub lists: BTreeMap<Kind, Listing>,
    /// What it offers, once all lists were there.
    pub offer: Option<Arc<Offer>>,
    /// The request that it reports changes on.
    pub listen: Option<CallId>,
    /// The level of messages that it was told.
    pub level: Option<String>,
    /// What it asked and was not answered, by its own id.
    pub questions: HashMap<String, Question>,
    /// What it said that made no sense.
    pub strays: u32,
    /// A ping or the like is under way.
    pub is_probed: bool,
}

/// A list that is being fetched.
#[derive(Debug, Default)]
pub struct Fetch {
    /// What is there so far.
    pub listing: Listing,
    /// Pages so far.
    pub pages: u32,
    /// Bytes so far.
    pub bytes: usize,
    /// It has changed meanwhile, and is fetched once more.
    pub again: bool,
}

/// Who answers a question of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A client, by the number of our question to it.
    Asked(u64),
    /// The call that waits to be tried again.
    Parked(CallId),
}

/// Why a request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A client wants it.
    Client,
    /// The beginning, legacy.
    Initialize,
    /// The beginning, modern.
    Discover,
    /// A list.
    List(Kind),
    /// Whether it is still there.
    Probe,
    /// Its answer means nothing.
    Quiet,
    /// Reports of changes.
    Listen,
}

/// One request that is under way.
#[derive(Debug)]
pub struct Call {
    /// Why it was made.
    pub purpose: Purpose,
    /// Who waits for it; `None` for our own, and while it is parked.
    pub conversation: Option<ConversationId>,
    /// The client's id of it, as it was written.
    pub client_id: String,
    /// How the client speaks.
    pub era: Era,
    /// What the client can do, and from which level on it wants messages.
    pub facts: Arc<ClientFacts>,
    /// What the client calls itself.
    pub client: String,
    /// The client's progress token, as it was written.
    pub token: Option<String>,
    /// Which server.
    pub server: usize,
    /// Where it was sent, or waits to be sent.
    pub instance: Option<InstanceId>,
    /// The method.
    pub method: String,
    /// Its parameters with the server's own names.
    pub params: String,
    /// The tool, the prompt or the address, as the server calls it.
    pub subject: String,
    /// When it came.
    pub since: Instant,
    /// When it has taken too long.
    pub deadline: Instant,
    /// How much time progress gives it.
    pub patience: Duration,
    /// Whether it was sent.
    pub is_sent: bool,
    /// How often it was tried again with answers.
    pub rounds: u32,
    /// Answers that a modern server waits for, from a legacy client.
    pub round: Option<Round>,
    /// Questions of a legacy server, for a modern client.
    pub parked: Option<Parked>,
}

/// Answers that are being collected for a modern server.
#[derive(Debug, Default)]
pub struct Round {
    /// What the server wants to see again.
    pub state: Option<String>,
    /// Questions without an answer.
    pub open: usize,
    /// Keys and answers.
    pub answers: Vec<(String, String)>,
}

/// A call of a modern client whose legacy server has questions.
#[derive(Debug, Default)]
pub struct Parked {
    /// By which the client finds it again.
    pub ticket: String,
    /// Key, id at the server, method and parameters of each question.
    pub open: Vec<OpenQuestion>,
    /// How it ended while the client was asking its user.
    pub done: Option<Vec<u8>>,
}

/// A question of a legacy server.
#[derive(Debug)]
pub struct OpenQuestion {
    /// The member by which the client answers it.
    pub key: String,
    /// The server's id of it, as it was written.
    pub id: String,
    /// What is asked.
    pub method: String,
    /// Its parameters.
    pub params: String,
}

/// A question that a legacy client owes an answer.
#[derive(Debug)]
pub struct Ask {
    /// Who is asked.
    pub conversation: ConversationId,
    /// Who wants to know.
    pub asker: Asker,
    /// The server's own progress token, as it was written.
    pub token: Option<String>,
}

/// Who wants to know something of a client.
#[derive(Debug)]
pub enum Asker {
    /// A legacy server, with its id of the question.
    Server(InstanceId, String),
    /// A modern server, in the result of a call: the call, the member, the method.
    Call(CallId, String, String),
}

/// Everything.
#[derive(Debug)]
pub struct Hub {
    /// What holds for all servers.
    pub settings: GatewaySettings,
    /// The servers, as they were configured.
    pub servers: Vec<Server>,
    /// Clients that are there.
    pub clients: HashMap<ConversationId, Client>,
    /// Sets of instances.
    pub scopes: BTreeMap<ScopeId, Scope>,
    /// Running servers.
    pub instances: BTreeMap<InstanceId, Instance>,
    /// Requests under way.
    pub calls: HashMap<CallId, Call>,
    /// How many of them are clients'.
    pub client_calls: usize,
    /// Questions to clients under way.
    pub asks: HashMap<u64, Ask>,
    /// Parked calls by their tickets.
    pub tickets: HashMap<String, CallId>,
    /// Calls that wait until their server may be started anew.
    pub delayed: Vec<(Instant, ScopeId, CallId)>,
    /// Which server a task belongs to.
    pub tasks: HashMap<String, usize>,
    /// Where servers report.
    pub events: mpsc::Sender<Event>,
    /// What is outside.
    pub world: Box<dyn World>,
    /// What the next thing is numbered.
    pub next: u64,
    /// Nothing new is begun.
    pub is_ending: bool,
    /// When the clock is looked at next.
    pub next_look: Instant,
}

impl Hub {
    /// A hub in front of these servers.
    pub fn new(
        servers: Vec<ServerConfig>,
        settings: GatewaySettings,
        events: mpsc::Sender<Event>,
        mut world: Box<dyn World>,
    ) -> Self {
        let servers = servers.into_iter().enumerate().map(|(n, config)| {
            let known: HashMap<Era, Arc<Offer>> = [Era::Legacy, Era::Modern]
                .into_iter()
                .filter_map(|era| Some((era, Arc::new(world.known(n, era)?))))
                .collect();
            let modern_probe = known.get(&Era::Modern).map(|offer| era_of(offer));
            Server {
                config,
                known,
                modern_probe,
                opener: None,
                failures: 0,
                not_before: None,
                reason: None,
                starts: 0,
                calls: 0,
                errors: 0,
                is_stopped: false,
            }
        });
        Self {
            servers: servers.collect(),
            settings,
            clients: HashMap::new(),
            scopes: BTreeMap::new(),
            instances: BTreeMap::new(),
            calls: HashMap::new(),
            client_calls: 0,
            asks: HashMap::new(),
            tickets: HashMap::new(),
            delayed: Vec::new(),
            tasks: HashMap::new(),
            events,
            world,
            next: 1,
            is_ending: false,
            next_look: Instant::now(),
        }
    }

    /// A number that nothing has yet.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether the gateway shows its only server as if it were not there itself.
    pub fn is_transparent(&self) -> bool {
        let [server] = self.servers.as_slice() else { return false };
        let rules = &server.config.tools;
        let shows_all = rules.allow.is_none() && rules.deny.is_empty() && rules.rename.is_empty();
        server.config.prefix_text().is_empty() && shows_all && !server.config.pin
    }

    /// Hands a client something that it must get.
    pub fn tell(&mut self, to: ConversationId, message: Vec<u8>, about: Option<&str>, is_answer: bool) {
        let Some(client) = self.clients.get_mut(&to).filter(|client| !client.is_lost) else { return };
        let queued = client.outbox.queued_bytes();
        let mut message = message;
        if queued > 0 && queued + message.len() > CLIENT_BYTES_MAX {
            if !is_answer || message.len() < LARGE_BYTES {
                // It has not read for so long that it would only cost memory: it is let go by the clock.
                client.is_lost = true;
                return;
            }
            let text =
                format!("the answer has {} bytes, and the client has not read others yet", message.len());
            message = error_response(about, &error(INTERNAL_ERROR, &text, Some(r#"{"kind":"limit"}"#)));
        }
        let about = about.map(|id| id.as_bytes().to_vec());
        client.outbox.send(ToClient { message, about, is_answer });
    }

    /// Hands a client something that it can do without: left out while it reads too slowly.
    pub fn mention(&mut self, to: ConversationId, message: Vec<u8>, about: Option<&str>) {
        let is_slow = self.clients.get(&to).is_some_and(|c| c.outbox.queued_bytes() > CLIENT_BYTES_HIGH);
        if !is_slow {
            self.tell(to, message, about, false);
        }
    }

    /// Hands a server a message; `false` when it is gone or does not read.
    pub fn send(&self, to: InstanceId, message: Vec<u8>) -> bool {
        let send = self.instances.get(&to).and_then(|instance| instance.send.as_ref());
        send.is_some_and(|send| send.try_send(message).is_ok())
    }

    /// Answers a client's request with an error, which is no call yet.
    pub fn refuse(&mut self, to: ConversationId, id: &str, error: &str) {
        self.tell(to, error_response(Some(id), error), Some(id), true);
    }

    /// The server's name.
    pub fn name_of(&self, server: usize) -> &str {
        &self.servers[server].config.name
    }

    /// An error object that names the server, what it did, and what can be done.
    pub fn fault(&self, server: usize, kind: &str, text: &str, hint: Option<&str>) -> String {
        let name = self.name_of(server);
        let hint = hint.map_or_else(String::new, |hint| format!(r#","hint":{}"#, quoted(hint)));
        let data = format!(r#"{{"kind":{},"server":{}{hint}}}"#, quoted(kind), quoted(name));
        error(INTERNAL_ERROR, &format!("server `{name}` {text}"), Some(&data))
    }

    /// What is known best of what a server offers to the clients of a scope.
    pub fn offer_of(&self, scope: ScopeId, server: usize) -> Option<Arc<Offer>> {
        let scope = self.scopes.get(&scope)?;
        let live = scope.instances.get(&server).and_then(|id| self.instances.get(id)?.offer.clone());
        live.or_else(|| self.servers[server].known.get(&scope.era).cloned())
    }

    /// Conversations of the clients that use a scope.
    pub fn clients_of(&self, scope: ScopeId) -> Vec<ConversationId> {
        let uses = |client: &&Client| client.scope == Some(scope);
        self.clients.iter().filter(|(_, client)| uses(client)).map(|(id, _)| *id).collect()
    }
}

/// The era that a server was asked in when it offered this.
pub fn era_of(offer: &Offer) -> Era {
    if offer.protocol == crate::mcp::era::MODERN { Era::Modern } else { Era::Legacy }
}

/// The method that lists a kind.
pub fn list_method(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Server => "tools/list",
        Kind::Prompt => "prompts/list",
        Kind::Resource => "resources/list",
        Kind::Template => "resources/templates/list",
    }
}

/// The kind that a method lists.
pub fn listed_kind(method: &str) -> Option<Kind> {
    [Kind::Tool, Kind::Prompt, Kind::Resource, Kind::Template].into_iter().find(|k| list_method(*k) == method)
}

/// The member of a list's answer that holds its members.
pub fn list_member(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Server => "tools",
        Kind::Prompt => "prompts",
        Kind::Resource => "resources",
        Kind::Template => "resourceTemplates",
    }
}

/// The notification that a list has changed.
pub fn changed_method(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool | Kind::Server => "notifications/tools/list_changed",
        Kind::Prompt => "notifications/prompts/list_changed",
        Kind::Resource | Kind::Template => "notifications/resources/list_changed",
    }
}
