//! What clients say: each request to the server that it is for, under the hub's own ids and the server's
//! own names.
//!
//! A request that no server can be found for, or that a limit forbids, is refused at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::mcp::era::{
    self, CAPABILITIES_KEY, CLIENT_KEY, ClientFacts, Era, LEVEL_KEY, MODERN, RESOURCE_NOT_FOUND, VERSION_KEY,
    negotiated, unsupported,
};
use crate::mcp::instances::opening_of;
use crate::mcp::message::{
    Change, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, MessageError, Object, PARSE_ERROR,
    Shape, error, error_response, our_number, quoted, request, response,
};
use crate::mcp::names::{own, template_fits};
use crate::mcp::questions::Resumed;
use crate::mcp::session::ConversationId;
use crate::mcp::state::{
    Call, CallEnd, CallId, Hub, Phase, Purpose, Scope, ScopeId, UNDER_WAY_BYTES_MAX, listed_kind,
};

/// Sets of capabilities for which servers are kept apart; more share the first one's.
const SHARED_SCOPES_MAX: usize = 8;
/// Longest id or progress token of a client, in bytes.
const ID_BYTES_MAX: usize = 1_024;
/// What a modern server is told to report to a legacy client that never chose a level.
const LEVEL_DEFAULT: &str = "\"info\"";

/// A request of a client, before it is known where it goes.
struct Asking<'a> {
    from: ConversationId,
    id: &'a str,
    method: &'a str,
    params: &'a Object<'a>,
    scope: ScopeId,
    era: Era,
    facts: Arc<ClientFacts>,
}

impl Hub {
    /// Takes notice of what a client says.
    pub fn from_client(&mut self, from: ConversationId, bytes: &[u8], now: Instant) {
        if !self.clients.contains_key(&from) {
            return;
        }
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(why) => {
                let code = if matches!(why, MessageError::Shape) { INVALID_REQUEST } else { PARSE_ERROR };
                let text = error(code, &format!("no message: {why}"), None);
                return self.tell(from, error_response(None, &text), None, false);
            }
        };
        match &message.shape {
            Shape::Request { id, method } => {
                if let Err(error) = self.asked(from, id, method, &message, now) {
                    self.refuse(from, id, &error);
                    self.let_go_if_finished(from);
                }
            }
            Shape::Notification { method } => self.client_notified(from, method, &message),
            Shape::Result { id, .. } | Shape::Error { id: Some(id), .. } => {
                if let Some(number) = our_number(id) {
                    self.question_answered(from, number, &message, now);
                    self.let_go_if_finished(from);
                }
            }
            Shape::Error { id: None, .. } => {}
        }
    }

    fn asked(
        &mut self,
        from: ConversationId,
        id: &str,
        method: &str,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(), String> {
        let Some(client) = self.clients.get(&from) else { return Ok(()) };
        if id.len() > ID_BYTES_MAX || client.calls.contains_key(id) || client.listens.contains_key(id) {
            return Err(error(INVALID_REQUEST, "the id is too long, or under way already", None));
        }
        let params =
            message.params().ok_or_else(|| error(INVALID_PARAMS, "the parameters are no object", None))?;
        let session = client.session.clone();
        let is_modern = params.object("_meta").is_some_and(|meta| meta.get(VERSION_KEY).is_some());
        if session.is_none() && is_modern && era::REMOVED.contains(&method) {
            return Err(error(METHOD_NOT_FOUND, &format!("revision {MODERN} has no `{method}`"), None));
        }
        match (method, session) {
            ("initialize", None) => self.begin_session(from, id, &params, now),
            ("initialize", Some(_)) => Err(error(INVALID_REQUEST, "the session has begun already", None)),
            ("server/discover", _) | (_, None) => {
                if method == "ping" && params.object("_meta").is_none_or(|m| m.get(VERSION_KEY).is_none()) {
                    self.tell(from, response(id, "{}"), Some(id), true);
                    return Ok(());
                }
                let facts = Arc::new(modern_facts(&params)?);
                let scope = self.shared_scope(&facts);
                if let Some(client) = self.clients.get_mut(&from)
                    && client.session.is_none()
                {
                    client.scope = Some(scope);
                    if let Some(info) = facts.info.as_deref() {
                        client.name = name_in(info);
                    }
                }
                let asking = Asking { from, id, method, params: &params, scope, era: Era::Modern, facts };
                self.route(&asking, now)
            }
            (_, Some(facts)) => {
                let scope =
                    client.scope.ok_or_else(|| error(INVALID_REQUEST, "there is no session", None))?;
                let asking = Asking { from, id, method, params: &params, scope, era: Era::Legacy, facts };
                self.route(&asking, now)
            }
        }
    }

    // ── who the client is ───────────────────────────────────────────────────────────────────────

    fn begin_session(
        &mut self,
        from: ConversationId,
        id: &str,
        params: &Object<'_>,
        now: Instant,
    ) -> Result<(), String> {
        let version = negotiated(params.string("protocolVersion").as_deref());
        let facts = Arc::new(ClientFacts {
            capabilities: object_or_empty(params.get("capabilities")),
            info: params.get("clientInfo").filter(|info| info.starts_with('{')).map(str::to_owned),
            level: None,
        });
        let opening = if self.is_transparent() {
            params.text().to_owned()
        } else {
            params.with(&[Change::Set("protocolVersion", &quoted(version))])
        };
        let scope = ScopeId(self.number());
        self.scopes.insert(scope, new_scope(Some(from), Era::Legacy, Arc::clone(&facts), opening));
        if let Some(client) = self.clients.get_mut(&from) {
            client.session = Some(Arc::clone(&facts));
            client.scope = Some(scope);
            client.version = version;
            client.name = facts.info.as_deref().map(name_in).unwrap_or_default();
        }
        if self.is_transparent() {
            self.ensure(scope, 0, now)?;
            let asking = Asking { from, id, method: "initialize", params, scope, era: Era::Legacy, facts };
            let number = self.register(self.call(&asking, 0, params.text().to_owned(), "", now));
            self.wait_for_opening(scope, number, now);
        } else {
            let opening = self.own_opening(Some(scope), Era::Legacy, version);
            self.tell(from, response(id, &opening), Some(id), true);
        }
        self.start_eager(scope, now);
        Ok(())
    }

    /// The instances for modern clients with these capabilities.
    fn shared_scope(&mut self, facts: &Arc<ClientFacts>) -> ScopeId {
        let shared = || self.scopes.iter().filter(|(_, scope)| scope.owner.is_none());
        let same = shared().find(|(_, scope)| scope.facts.capabilities == facts.capabilities);
        if let Some((id, _)) = same {
            return *id;
        }
        if shared().count() >= SHARED_SCOPES_MAX
            && let Some((id, _)) = shared().next()
        {
            return *id;
        }
        let id = ScopeId(self.number());
        let facts = Arc::new(ClientFacts { level: None, ..(**facts).clone() });
        let opening = opening_of(&facts);
        self.scopes.insert(id, new_scope(None, Era::Modern, facts, opening));
        id
    }

    // ── where a request goes ────────────────────────────────────────────────────────────────────

    fn route(&mut self, asking: &Asking<'_>, now: Instant) -> Result<(), String> {
        let is_transparent = self.is_transparent();
        let params = asking.params;
        match (asking.method, asking.era) {
            ("ping", Era::Legacy) => {
                self.tell(asking.from, response(asking.id, "{}"), Some(asking.id), true);
                Ok(())
            }
            ("server/discover", _) if is_transparent => {
                self.ensure(asking.scope, 0, now)?;
                let number = self.register(self.call(asking, 0, params.text().to_owned(), "", now));
                self.wait_for_opening(asking.scope, number, now);
                Ok(())
            }
            ("server/discover", _) => {
                let opening = self.own_opening(Some(asking.scope), Era::Modern, MODERN);
                self.tell(asking.from, response(asking.id, &opening), Some(asking.id), true);
                self.start_eager(asking.scope, now);
                Ok(())
            }
            ("subscriptions/listen", Era::Modern) => {
                self.listen(asking.from, asking.id, params, asking.scope, now)
            }
            (method, _) if listed_kind(method).is_some() && !is_transparent => {
                let number = self.register(self.call(asking, 0, params.text().to_owned(), "", now));
                self.wait_for_lists(asking.scope, number, now);
                Ok(())
            }
            ("logging/setLevel", Era::Legacy) if !is_transparent => {
                let level = params.get("level").filter(|level| era::gravity(level).is_some());
                let level = level.ok_or_else(|| error(INVALID_PARAMS, "there is no such level", None))?;
                self.set_level(asking.scope, level, now);
                self.tell(asking.from, response(asking.id, "{}"), Some(asking.id), true);
                Ok(())
            }
            _ => {
                let (server, subject, params) = self.find(asking)?;
                self.follow_subscription(asking.scope, asking.method, server, &subject);
                if let Some(kind) = listed_kind(asking.method)
                    && let Some(client) = self.clients.get_mut(&asking.from)
                {
                    client.listed.insert(kind);
                }
                self.dispatch(self.call(asking, server, params, &subject, now), asking.scope, now)
            }
        }
    }

    /// The server that a request is for, what it is about, and its parameters with the server's own names.
    fn find(&mut self, asking: &Asking<'_>) -> Result<(usize, String, String), String> {
        let (params, scope) = (asking.params, asking.scope);
        let whole = || params.text().to_owned();
        let text = |name: &str| {
            let missing = || error(INVALID_PARAMS, &format!("`{name}` is missing, or no text"), None);
            params.string(name).map(|text| text.into_owned()).ok_or_else(missing)
        };
        if self.is_transparent() {
            let subject = params.string("name").or_else(|| params.string("uri"));
            return Ok((0, subject.map(|s| s.into_owned()).unwrap_or_default(), whole()));
        }
        match asking.method {
            "tools/call" | "prompts/get" => {
                let name = text("name")?;
                let what = if asking.method == "tools/call" { "tool" } else { "prompt" };
                let found = self.find_named(scope, what, &name);
                let (server, own) = found
                    .ok_or_else(|| error(INVALID_PARAMS, &format!("there is no {what} `{name}`"), None))?;
                let params =
                    if own == name { whole() } else { params.with(&[Change::Set("name", &quoted(&own))]) };
                Ok((server, own, params))
            }
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                let address = text("uri")?;
                let server = self.find_resource(scope, &address).ok_or_else(|| {
                    let code = if asking.era == Era::Modern { INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
                    let data = format!(r#"{{"uri":{}}}"#, quoted(&address));
                    error(code, &format!("there is no resource `{address}`"), Some(&data))
                })?;
                Ok((server, address, whole()))
            }
            "completion/complete" => self.find_completion(scope, params),
            method => {
                let task = params.string("taskId").and_then(|task| self.tasks.get(task.as_ref()).copied());
                let server = task.or_else(|| self.only_claimant(scope, method)).ok_or_else(|| {
                    error(METHOD_NOT_FOUND, &format!("no server, or more than one, knows `{method}`"), None)
                })?;
                Ok((server, String::new(), whole()))
            }
        }
    }

    fn find_named(&mut self, scope: ScopeId, what: &str, name: &str) -> Option<(usize, String)> {
        let table = self.table(scope);
        let map = if what == "tool" { &table.tools } else { &table.prompts };
        if let Some(found) = map.get(name) {
            return Some(found.clone());
        }
        // What is in no list the prefix alone can tell: the server may not have been asked yet, or it knows
        // more than it lists.
        let mut candidates = self.servers.iter().enumerate().filter_map(|(n, server)| {
            let rules = &server.config.tools;
            let has_prefix = !server.config.prefix_text().is_empty();
            let may_have = !server.config.pin && (has_prefix || self.offer_of(scope, n).is_none());
            let own = own(&server.config, name).filter(|_| may_have)?;
            if what != "tool" {
                return Some((n, own.to_owned()));
            }
            let renamed =
                rules.rename.iter().find(|(_, shown)| *shown == own).map(|(original, _)| original.as_str());
            let own = renamed.or_else(|| (!rules.rename.contains_key(own)).then_some(own))?;
            rules.shows(own).then(|| (n, own.to_owned()))
        });
        let found = candidates.next()?;
        candidates.next().is_none().then_some(found)
    }

    /// The server of a resource: by the lists, by the templates, or because only one has resources.
    pub fn find_resource(&mut self, scope: ScopeId, address: &str) -> Option<usize> {
        let table = self.table(scope);
        if let Some(server) = table.resources.get(address) {
            return Some(*server);
        }
        let fitting =
            table.templates.iter().filter_map(|(t, server)| Some((template_fits(t, address)?, *server)));
        // The first of the best: `max_by_key` would take the last.
        let best = fitting.reduce(|best, next| if next.0 > best.0 { next } else { best });
        if let Some((_, server)) = best {
            return Some(server);
        }
        self.only_claimant(scope, "resources/read")
    }

    fn find_completion(
        &mut self,
        scope: ScopeId,
        params: &Object<'_>,
    ) -> Result<(usize, String, String), String> {
        let wrong = || error(INVALID_PARAMS, "`ref` names no prompt and no resource of a server", None);
        let reference = params.object("ref").ok_or_else(wrong)?;
        if let Some(address) = reference.string("uri") {
            let template = self.table(scope).templates.iter().find(|(t, _)| *t == address).map(|(_, s)| *s);
            let server = template.or_else(|| self.find_resource(scope, &address)).ok_or_else(wrong)?;
            return Ok((server, address.into_owned(), params.text().to_owned()));
        }
        let name = reference.string("name").ok_or_else(wrong)?;
        let (server, own) = self.find_named(scope, "prompt", &name).ok_or_else(wrong)?;
        let reference = reference.with(&[Change::Set("name", &quoted(&own))]);
        Ok((server, own, params.with(&[Change::Set("ref", &reference)])))
    }

    /// The only server that claims a method by a capability of that name.
    fn only_claimant(&self, scope: ScopeId, method: &str) -> Option<usize> {
        if self.servers.len() == 1 {
            return Some(0);
        }
        let family = method.split('/').next()?;
        let claims = |server: &usize| {
            let Some(offer) = self.offer_of(scope, *server) else { return false };
            let opening = Object::parse(offer.opening.get()).ok();
            let Some(capabilities) = opening.and_then(|o| o.object("capabilities")) else { return false };
            let extensions = ["extensions", "experimental"].map(|name| capabilities.object(name));
            let is_extension = |name: &str| name == family || name.rsplit('/').next() == Some(family);
            capabilities.get(family).is_some()
                || extensions.iter().flatten().any(|e| e.members().any(|(name, _)| is_extension(name)))
        };
        let mut claimants = (0..self.servers.len()).filter(claims);
        let first = claimants.next()?;
        claimants.next().is_none().then_some(first)
    }

    // ── on its way ──────────────────────────────────────────────────────────────────────────────

    fn call(&self, asking: &Asking<'_>, server: usize, params: String, subject: &str, now: Instant) -> Call {
        let meta = asking.params.object("_meta");
        let token = meta.as_ref().and_then(|meta| meta.get("progressToken"));
        let patience =
            Duration::from_millis(self.servers.get(server).map_or(0, |s| s.config.timeouts.call_ms));
        Call {
            purpose: Purpose::Client,
            conversation: Some(asking.from),
            client_id: asking.id.to_owned(),
            era: asking.era,
            facts: Arc::clone(&asking.facts),
            client: self.clients.get(&asking.from).map(|client| client.name.clone()).unwrap_or_default(),
            token: token.filter(|token| token.len() <= ID_BYTES_MAX).map(str::to_owned),
            server,
            instance: None,
            method: asking.method.to_owned(),
            params,
            subject: subject.to_owned(),
            since: now,
            deadline: now + patience,
            patience,
            is_sent: false,
            rounds: 0,
            round: None,
            parked: None,
        }
    }

    fn register(&mut self, call: Call) -> CallId {
        let number = self.number();
        if let Some(client) = call.conversation.and_then(|id| self.clients.get_mut(&id)) {
            client.calls.insert(call.client_id.clone(), number);
        }
        self.client_calls += 1;
        self.calls.insert(number, call);
        number
    }

    /// Brings a call to its server, which is started when it does not run.
    fn dispatch(&mut self, call: Call, scope: ScopeId, now: Instant) -> Result<(), String> {
        let server = call.server;
        let call = match self.resume(call, now) {
            Ok(()) => return Ok(()),
            Err(Resumed::Refused(_, error)) => return Err(error),
            Err(Resumed::NotOurs(call)) => *call,
        };
        if self.client_calls >= usize::try_from(self.settings.calls_max).unwrap_or(usize::MAX) {
            return Err(self.fault(server, "limit", "is not called: too many calls are under way", None));
        }
        if let Some(at) = self.pause_of(scope, server, now) {
            let number = self.register(call);
            self.delayed.push((at, scope, number));
            return Ok(());
        }
        let id = self.ensure(scope, server, now)?;
        let calls_max = usize::try_from(self.servers[server].config.calls_max).unwrap_or(usize::MAX);
        let Some(instance) = self.instances.get_mut(&id) else { return Ok(()) };
        let is_full = instance.under_way.len() + instance.queue.len() >= calls_max
            || instance.under_way_bytes + call.params.len() > UNDER_WAY_BYTES_MAX;
        if is_full && !instance.under_way.is_empty() {
            return Err(self.fault(server, "limit", "has too many calls under way", Some("try again later")));
        }
        instance.used_at = now;
        let is_ready = instance.phase == Phase::Ready;
        self.world.begin(server);
        let number = self.register(Call { instance: Some(id), ..call });
        if is_ready {
            self.send_call(number, now);
        } else if let Some(instance) = self.instances.get_mut(&id) {
            instance.queue.push_back(number);
        }
        Ok(())
    }

    /// Until when a call waits for a server that has failed and is started anew soon.
    fn pause_of(&self, scope: ScopeId, server: usize, now: Instant) -> Option<Instant> {
        let state = &self.servers[server];
        let runs = self.scopes.get(&scope).is_some_and(|scope| scope.instances.contains_key(&server));
        let is_none = runs || self.is_given_up(server) || state.is_stopped || self.is_ending;
        state.not_before.filter(|at| now < *at && !is_none)
    }

    /// Brings calls on their way whose server may be started now.
    pub fn look_at_delayed(&mut self, now: Instant) {
        let (due, later) = std::mem::take(&mut self.delayed).into_iter().partition(|(at, ..)| *at <= now);
        self.delayed = later;
        let due: Vec<(Instant, ScopeId, CallId)> = due;
        for (_, scope, number) in due {
            let Some(server) = self.calls.get(&number).map(|call| call.server) else { continue };
            let id = match self.ensure(scope, server, now) {
                Ok(id) => id,
                Err(error) => {
                    self.finish_with_error(number, &error, CallEnd::Lost);
                    continue;
                }
            };
            self.world.begin(server);
            if let Some(call) = self.calls.get_mut(&number) {
                call.instance = Some(id);
            }
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            if instance.phase == Phase::Ready {
                self.send_call(number, now);
            } else {
                instance.queue.push_back(number);
            }
        }
    }

    /// Sends a call, in the words of its server's era.
    pub fn send_call(&mut self, number: CallId, now: Instant) {
        let Some(call) = self.calls.get(&number) else { return };
        let Some(id) = call.instance else { return };
        let Some(instance) = self.instances.get(&id) else { return };
        let (spoken, server) = (instance.era, call.server);
        if spoken == Era::Modern && call.method.ends_with("subscribe") {
            self.listen_anew(id, now);
            return self.finish_with_result(number, "{}", CallEnd::Done);
        }
        if spoken == Era::Modern && call.method == "logging/setLevel" {
            let level = Object::parse(&call.params).ok().and_then(|p| p.get("level").map(str::to_owned));
            if let Some(scope) = instance.scope.and_then(|scope| self.scopes.get_mut(&scope)) {
                scope.level = level;
            }
            return self.finish_with_result(number, "{}", CallEnd::Done);
        }
        let Some(params) = self.params_for(call, spoken, instance.scope, number) else {
            let error = error(INVALID_PARAMS, "the request state is unknown, or has expired", None);
            return self.finish_with_error(number, &error, CallEnd::Refused);
        };
        let message = request(&number.to_string(), &call.method, &params);
        if spoken == Era::Legacy
            && call.era == Era::Modern
            && let Some(level) = call.facts.level.clone()
        {
            self.level_for(id, &level, now);
        }
        if !self.send(id, message) {
            let hint = "it is full of requests that it has not read";
            let error = self.fault(server, "unreachable", "does not read its input", Some(hint));
            return self.finish_with_error(number, &error, CallEnd::Lost);
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.is_sent = true;
        let bytes = call.params.len();
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.under_way.push(number);
            instance.under_way_bytes += bytes;
            instance.used_at = now;
        }
    }

    /// The parameters of a call in a server's era; `None` for a state that nobody knows.
    fn params_for(&self, call: &Call, spoken: Era, scope: Option<ScopeId>, number: CallId) -> Option<String> {
        let is_plain = call.era == spoken && call.token.is_none() && call.round.is_none();
        if is_plain {
            return Some(call.params.clone());
        }
        let object = Object::parse(&call.params).ok()?;
        let mut params = match (call.era, spoken) {
            (Era::Modern, Era::Legacy) if object.get("requestState").is_some() => return None,
            (Era::Modern, Era::Legacy) => era::params_to_legacy(&object),
            (Era::Legacy, Era::Modern) => {
                let level = scope.and_then(|scope| self.scopes.get(&scope)?.level.clone());
                let level = Some(level.unwrap_or_else(|| LEVEL_DEFAULT.to_owned()));
                era::params_to_modern(&object, &ClientFacts { level, ..(*call.facts).clone() })
            }
            _ => call.params.clone(),
        };
        if call.token.is_some() {
            let object = Object::parse(&params).ok()?;
            let meta = object.object("_meta")?.with(&[Change::Set("progressToken", &number.to_string())]);
            params = object.with(&[Change::Set("_meta", &meta)]);
        }
        if let Some(round) = &call.round {
            let answers: Vec<String> =
                round.answers.iter().map(|(key, answer)| format!("{}:{answer}", quoted(key))).collect();
            let answers = format!("{{{}}}", answers.join(","));
            let mut changes = Vec::new();
            if !round.answers.is_empty() {
                changes.push(Change::Set("inputResponses", &answers));
            }
            changes.extend(round.state.as_deref().map(|state| Change::Set("requestState", state)));
            params = Object::parse(&params).ok()?.with(&changes);
        }
        Some(params)
    }

    /// Puts a call among those that wait until the only server has said who it is.
    fn wait_for_opening(&mut self, scope: ScopeId, number: CallId, now: Instant) {
        let start_ms = self.servers.first().map_or(0, |server| server.config.timeouts.start_ms);
        if let Some(call) = self.calls.get_mut(&number) {
            call.deadline = now + Duration::from_millis(start_ms);
        }
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.waiting.push(number);
        }
        self.look_at_waiting(scope, now);
    }
}

fn new_scope(owner: Option<ConversationId>, era: Era, facts: Arc<ClientFacts>, opening: String) -> Scope {
    Scope {
        owner,
        era,
        facts,
        opening,
        instances: std::collections::BTreeMap::new(),
        waiting: Vec::new(),
        table: None,
        subscribed: std::collections::BTreeMap::new(),
        level: None,
    }
}

/// What a modern client says of itself with its request; else the error object it gets.
fn modern_facts(params: &Object<'_>) -> Result<ClientFacts, String> {
    let wrong = |what: &str| {
        let text = format!("`_meta` needs {what}; a client of an earlier revision begins with `initialize`");
        error(INVALID_PARAMS, &text, None)
    };
    let meta = params.object("_meta").ok_or_else(|| wrong(&format!("`{VERSION_KEY}`")))?;
    let version = meta.string(VERSION_KEY).ok_or_else(|| wrong(&format!("`{VERSION_KEY}`")))?;
    if version != MODERN {
        return Err(unsupported(&version));
    }
    let capabilities = meta.get(CAPABILITIES_KEY).filter(|text| text.starts_with('{'));
    let capabilities = capabilities.ok_or_else(|| wrong(&format!("`{CAPABILITIES_KEY}`")))?;
    Ok(ClientFacts {
        capabilities: capabilities.to_owned(),
        info: meta.get(CLIENT_KEY).filter(|info| info.starts_with('{')).map(str::to_owned),
        level: meta.get(LEVEL_KEY).filter(|level| era::gravity(level).is_some()).map(str::to_owned),
    })
}

fn object_or_empty(text: Option<&str>) -> String {
    text.filter(|text| text.starts_with('{')).unwrap_or("{}").to_owned()
}

/// The name in a `clientInfo`.
fn name_in(info: &str) -> String {
    let name = Object::parse(info).ok().and_then(|info| info.string("name").map(|name| name.into_owned()));
    name.unwrap_or_default().chars().take(128).collect()
}
