//! What servers ask clients: sampling, elicitation, roots. A legacy server asks by a request, a modern
//! one by a result that needs input; each client is asked in its own way.
//!
//! A legacy server's question to a modern client ends that client's request with "input required" while
//! the call at the server goes on; the client finds it again by a ticket that cannot be guessed and fits
//! that call only. A client is asked for nothing that it did not declare.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::mcp::era::{Era, SERVER_KEY, missing_capability};
use crate::mcp::message::{
    Change, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Message, Object, Shape, error, error_response,
    notification, quoted, request, response,
};
use crate::mcp::session::{ConversationId, InstanceId};
use crate::mcp::state::{Ask, Asker, Call, CallEnd, CallId, Hub, OpenQuestion, Parked, Question, Round};
use crate::sys::fs::random_bytes;

/// Questions of one server without an answer.
const QUESTIONS_MAX: usize = 128;
/// Questions are put to a client that has less than this to read, in bytes.
const QUEUED_BYTES_MAX: usize = 16 << 20;
/// How often a call is tried again with answers.
const ROUNDS_MAX: u32 = 32;
/// How long a call waits to be tried again, in milliseconds: people are asked meanwhile.
const PARKED_MS_MAX: u64 = 600_000;
/// Random bytes of a ticket.
const TICKET_BYTES: usize = 24;
/// Methods whose results may need input.
const MAY_NEED_INPUT: [&str; 3] = ["tools/call", "resources/read", "prompts/get"];

impl Hub {
    /// A server asks something.
    pub fn question(&mut self, id: InstanceId, raw: &str, method: &str, message: &Message<'_>, now: Instant) {
        if method == "ping" {
            self.send(id, response(raw, "{}"));
            return;
        }
        let Some(instance) = self.instances.get(&id) else { return };
        let scope = instance.scope.and_then(|scope| self.scopes.get(&scope));
        let scope = scope.map(|scope| (scope.era, scope.owner));
        let waits =
            scope.and_then(|(_, owner)| self.clients.get(&owner?)).map_or(0, |c| c.outbox.queued_bytes());
        let is_full = waits > QUEUED_BYTES_MAX
            || instance.questions.len() >= QUESTIONS_MAX
            || instance.questions.contains_key(raw);
        let refused = match scope {
            _ if is_full => Err(error(INTERNAL_ERROR, "too many questions are open", None)),
            _ if instance.era == Era::Modern => Err(not_found(method)),
            Some((Era::Legacy, Some(owner))) => self.ask_owner(id, raw, method, message, owner),
            Some((Era::Modern, _)) => self.ask_later(id, raw, method, message, now),
            Some((Era::Legacy, None)) | None => Err(not_found(method)),
        };
        match refused {
            Ok(()) => self.extend_calls(id, now),
            Err(error) => {
                self.send(id, error_response(Some(raw), &error));
            }
        }
    }

    /// While somebody is asked, no call of the server runs out of time.
    fn extend_calls(&mut self, id: InstanceId, now: Instant) {
        let numbers = self.instances.get(&id).map(|i| i.under_way.clone()).unwrap_or_default();
        for number in numbers {
            if let Some(call) = self.calls.get_mut(&number).filter(|call| call.parked.is_none()) {
                call.deadline = now + call.patience;
            }
        }
    }

    /// A legacy server asks a legacy client.
    fn ask_owner(
        &mut self,
        id: InstanceId,
        raw: &str,
        method: &str,
        message: &Message<'_>,
        owner: ConversationId,
    ) -> Result<(), String> {
        let client = self.clients.get(&owner).ok_or_else(|| not_found(method))?;
        let is_known = matches!(method, "sampling/createMessage" | "roots/list" | "elicitation/create");
        let facts = client.session.as_ref();
        if is_known && !facts.is_some_and(|facts| facts.can_answer(method, message.params_text())) {
            return Err(not_found(method));
        }
        let number = self.number();
        let name = number.to_string();
        let params = message.params();
        let meta = params.as_ref().and_then(|params| params.object("_meta"));
        let token = meta.as_ref().and_then(|meta| meta.get("progressToken")).map(str::to_owned);
        // Two servers may have chosen the same token.
        let params = match (&token, &params, &meta) {
            (Some(_), Some(params), Some(meta)) => {
                let meta = meta.with(&[Change::Set("progressToken", &name)]);
                Some(params.with(&[Change::Set("_meta", &meta)]))
            }
            _ => None,
        };
        let mut changes = vec![Change::Set("id", &name)];
        changes.extend(params.as_deref().map(|params| Change::Set("params", params)));
        let question = message.object.with(&changes).into_bytes();
        let about = self.whom(id).and_then(|(_, about)| about);
        self.asks
            .insert(number, Ask { conversation: owner, asker: Asker::Server(id, raw.to_owned()), token });
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.questions.insert(raw.to_owned(), Question::Asked(number));
        }
        self.tell(owner, question, about.as_deref(), false);
        Ok(())
    }

    /// A legacy server asks a modern client: as the result of the call that it most likely belongs to,
    /// which is the last one whose client can answer.
    fn ask_later(
        &mut self,
        id: InstanceId,
        raw: &str,
        method: &str,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(), String> {
        let params = message.params_text();
        let under_way =
            self.instances.get(&id).map(|instance| instance.under_way.clone()).unwrap_or_default();
        let can_ask = |number: &&CallId| {
            self.calls.get(number).is_some_and(|call| {
                MAY_NEED_INPUT.contains(&call.method.as_str()) && call.facts.can_answer(method, params)
            })
        };
        let number = *under_way.iter().rev().find(can_ask).ok_or_else(|| missing_capability(method))?;
        let key = format!("{}-{}", method.replace('/', "-"), self.number());
        let question =
            OpenQuestion { key, id: raw.to_owned(), method: method.to_owned(), params: params.to_owned() };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.questions.insert(raw.to_owned(), Question::Parked(number));
        }
        let Some(call) = self.calls.get_mut(&number) else { return Err(not_found(method)) };
        call.parked.get_or_insert_with(Parked::default).open.push(question);
        if call.conversation.is_some() {
            self.park(number, now);
        }
        Ok(())
    }

    /// Ends a client's request with "input required"; the call goes on without it.
    fn park(&mut self, number: CallId, now: Instant) {
        let mut bytes = [0; TICKET_BYTES];
        if let Err(why) = random_bytes(&mut bytes) {
            let text = error(INTERNAL_ERROR, &format!("no random numbers: {why}"), None);
            return self.finish_with_error(number, &text, CallEnd::Refused);
        }
        let ticket: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let Some(call) = self.calls.get_mut(&number) else { return };
        let Some(parked) = call.parked.as_mut() else { return };
        self.tickets.remove(&parked.ticket);
        parked.ticket.clone_from(&ticket);
        let requests: Vec<String> = parked
            .open
            .iter()
            .map(|q| {
                format!(r#"{}:{{"method":{},"params":{}}}"#, quoted(&q.key), quoted(&q.method), q.params)
            })
            .collect();
        let info = call.instance.and_then(|id| self.instances.get(&id)?.info.clone());
        let meta =
            info.map_or_else(String::new, |info| format!(r#","_meta":{{{}:{info}}}"#, quoted(SERVER_KEY)));
        let result = format!(
            r#"{{"resultType":"input_required","inputRequests":{{{}}},"requestState":"{ticket}"{meta}}}"#,
            requests.join(",")
        );
        call.deadline = now + Duration::from_millis(PARKED_MS_MAX);
        let (to, id) = (call.conversation.take(), call.client_id.clone());
        self.tickets.insert(ticket, number);
        if let Some(to) = to {
            if let Some(client) = self.clients.get_mut(&to) {
                client.calls.remove(&id);
            }
            self.tell(to, response(&id, &result), Some(&id), true);
            self.let_go_if_finished(to);
        }
    }

    /// A modern client tries a parked call again: `call` is the new request, by its own names.
    ///
    /// # Errors
    /// Gives the request back when it belongs to no parked call; else the error object for the client.
    pub fn resume(&mut self, call: Call, now: Instant) -> Result<(), Resumed> {
        let Ok(params) = Object::parse(&call.params) else { return Err(Resumed::NotOurs(Box::new(call))) };
        let number =
            params.string("requestState").and_then(|ticket| self.tickets.get(ticket.as_ref()).copied());
        let Some(number) = number else { return Err(Resumed::NotOurs(Box::new(call))) };
        let Some(old) = self.calls.get_mut(&number) else { return Err(Resumed::NotOurs(Box::new(call))) };
        if old.server != call.server || old.method != call.method || asked(&old.params) != asked(&call.params)
        {
            return Err(Resumed::Refused(
                call.client_id,
                error(INVALID_PARAMS, "the request state belongs to another request", None),
            ));
        }
        old.conversation = call.conversation;
        old.client_id.clone_from(&call.client_id);
        old.token.clone_from(&call.token);
        old.facts = call.facts;
        old.deadline = now + old.patience;
        let instance = old.instance;
        let mut given = Vec::new();
        let mut done = None;
        if let Some(parked) = old.parked.as_mut() {
            self.tickets.remove(&parked.ticket);
            let answers = params.object("inputResponses");
            let answer = |key: &str| answers.as_ref().and_then(|answers| answers.get(key));
            let (answered, open): (Vec<_>, Vec<_>) =
                std::mem::take(&mut parked.open).into_iter().partition(|q| answer(&q.key).is_some());
            parked.open = open;
            given.extend(answered.into_iter().filter_map(|q| Some((q.id, answer(&q.key)?.to_owned()))));
            done = parked.done.take();
        }
        if let Some(client) = call.conversation.and_then(|id| self.clients.get_mut(&id)) {
            client.calls.insert(call.client_id.clone(), number);
        }
        self.give(instance, given);
        if let Some(done) = done {
            let done = Message::parse(&done).map(|m| m.object.with(&[Change::Set("id", &call.client_id)]));
            let done = done.map(String::into_bytes).unwrap_or_default();
            self.finish(number, done, CallEnd::Done);
            return Ok(());
        }
        let is_open =
            self.calls.get(&number).and_then(|c| c.parked.as_ref()).is_some_and(|p| !p.open.is_empty());
        if is_open {
            self.park(number, now);
        } else if let Some(call) = self.calls.get_mut(&number) {
            call.parked = None;
        }
        Ok(())
    }

    /// Hands answers to a legacy server.
    fn give(&mut self, to: Option<InstanceId>, answers: Vec<(String, String)>) {
        let Some(to) = to else { return };
        for (raw, answer) in answers {
            if let Some(instance) = self.instances.get_mut(&to) {
                instance.questions.remove(&raw);
            }
            self.send(to, response(&raw, &answer));
        }
    }

    /// Nobody needs the answer to a question any more.
    pub fn withdraw(&mut self, raw: &str, question: Question, why: &str) {
        match question {
            Question::Asked(number) => {
                if let Some(ask) = self.asks.remove(&number) {
                    let params = format!(r#"{{"requestId":{number},"reason":{}}}"#, quoted(why));
                    self.tell(
                        ask.conversation,
                        notification("notifications/cancelled", &params),
                        None,
                        false,
                    );
                }
            }
            Question::Parked(number) => {
                if let Some(parked) = self.calls.get_mut(&number).and_then(|call| call.parked.as_mut()) {
                    parked.open.retain(|question| question.id != raw);
                }
            }
        }
    }

    // ── a modern server and a legacy client ─────────────────────────────────────────────────────

    /// A modern server needs answers of a legacy client before it can go on.
    pub fn begin_round(&mut self, number: CallId, result: &str, now: Instant) {
        self.off_instance(number);
        let Ok(result) = Object::parse(result) else { return };
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.is_sent = false;
        call.rounds += 1;
        call.deadline = now + Duration::from_millis(PARKED_MS_MAX);
        let state = result.get("requestState").map(str::to_owned);
        let requests = result.object("inputRequests");
        let server = call.server;
        let questions: Vec<(String, String)> = requests
            .iter()
            .flat_map(Object::members)
            .map(|(key, question)| (key.to_owned(), question.to_owned()))
            .collect();
        let is_nothing = state.is_none() && questions.is_empty();
        if is_nothing || call.rounds > ROUNDS_MAX || questions.len() > QUESTIONS_MAX {
            let error = self.fault(server, "limit", "asks for more input without end", None);
            return self.finish_with_error(number, &error, CallEnd::Refused);
        }
        let facts = std::sync::Arc::clone(&call.facts);
        let (to, about) = (call.conversation, call.client_id.clone());
        call.round = Some(Round { state, open: questions.len(), answers: Vec::new() });
        let Some(to) = to else { return };
        for (key, question) in questions {
            let parsed = Object::parse(&question).ok();
            let method = parsed.as_ref().and_then(|q| q.string("method").map(|m| m.into_owned()));
            let params = parsed.as_ref().and_then(|q| q.get("params")).unwrap_or("{}");
            let method = method.unwrap_or_default();
            if !facts.can_answer(&method, params) {
                return self.finish_with_error(number, &missing_capability(&method), CallEnd::Refused);
            }
            let ask = self.number();
            let asker = Asker::Call(number, key, method.clone());
            self.asks.insert(ask, Ask { conversation: to, asker, token: None });
            self.tell(to, request(&ask.to_string(), &method, params), Some(&about), false);
        }
        self.go_on_if_complete(number, now);
    }

    /// A client answers a question.
    pub fn question_answered(
        &mut self,
        from: ConversationId,
        number: u64,
        message: &Message<'_>,
        now: Instant,
    ) {
        if self.asks.get(&number).is_none_or(|ask| ask.conversation != from) {
            return;
        }
        let Some(ask) = self.asks.remove(&number) else { return };
        match ask.asker {
            Asker::Server(id, raw) => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.questions.remove(&raw);
                }
                self.send(id, message.object.with(&[Change::Set("id", &raw)]).into_bytes());
                self.extend_calls(id, now);
            }
            Asker::Call(call, key, method) => {
                let answer = match &message.shape {
                    Shape::Result { result, .. } => (*result).to_owned(),
                    // A result of input has no place for an error; this one says that nobody answered.
                    _ if method == "elicitation/create" => r#"{"action":"cancel"}"#.to_owned(),
                    Shape::Error { error, .. } => {
                        return self.finish_with_error(call, error, CallEnd::Refused);
                    }
                    Shape::Request { .. } | Shape::Notification { .. } => return,
                };
                if let Some(round) = self.calls.get_mut(&call).and_then(|call| call.round.as_mut()) {
                    round.open = round.open.saturating_sub(1);
                    round.answers.push((key, answer));
                }
                self.go_on_if_complete(call, now);
            }
        }
    }

    /// Tries a call again once all answers are there: under a new id, with the server's own state.
    fn go_on_if_complete(&mut self, number: CallId, now: Instant) {
        let is_complete = |call: &Call| call.round.as_ref().is_some_and(|round| round.open == 0);
        if !self.calls.get(&number).is_some_and(is_complete) {
            return;
        }
        let Some(mut call) = self.calls.remove(&number) else { return };
        let next = self.number();
        if let Some(client) = call.conversation.and_then(|id| self.clients.get_mut(&id)) {
            client.calls.insert(call.client_id.clone(), next);
        }
        call.deadline = now + call.patience;
        self.calls.insert(next, call);
        self.send_call(next, now);
    }

    /// Questions that were asked for a call are withdrawn.
    pub fn withdraw_round(&mut self, number: CallId) {
        let open: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| matches!(&ask.asker, Asker::Call(call, ..) if *call == number))
            .map(|(ask, _)| *ask)
            .collect();
        for ask in open {
            self.withdraw("", Question::Asked(ask), "the request has ended");
        }
    }
}

/// Why a request resumed nothing.
#[derive(Debug)]
pub enum Resumed {
    /// Its state is none of ours: it goes its way.
    NotOurs(Box<Call>),
    /// The client's id, and the error object it gets.
    Refused(String, String),
}

fn not_found(method: &str) -> String {
    error(METHOD_NOT_FOUND, &format!("the client does not know `{method}`"), None)
}

/// What a request asks for, whatever it says besides.
fn asked(params: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(params).ok()?;
    let members = value.as_object_mut()?;
    for name in ["_meta", "inputResponses", "requestState"] {
        members.remove(name);
    }
    Some(value)
}
