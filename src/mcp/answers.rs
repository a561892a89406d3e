//! What servers say: answers to calls, progress, messages, changes. Each goes to who waits for it, in
//! the client's era, with the client's own ids.
//!
//! What answers nothing that was asked is counted, and a server that does not stop is ended.

use tokio::time::Instant;

use crate::engine::offer::Kind;
use crate::mcp::era::{self, Era, gravity};
use crate::mcp::instances::said;
use crate::mcp::link::FromUpstream;
use crate::mcp::message::{
    Change, Message, Object, Shape, error_response, notification, our_number, response,
};
use crate::mcp::session::{ConversationId, InstanceId};
use crate::mcp::state::{CallEnd, CallId, Called, Hub, Life, Purpose, ScopeId};

/// What a server may say that makes no sense before it is ended.
const STRAYS_MAX: u32 = 1_000;
/// How much of a line that is no message goes into the log, in characters.
const NOISE_CHARS_MAX: usize = 400;
/// Tasks whose server is remembered.
const TASKS_MAX: usize = 10_000;

/// What the answer to a call is, in the client's era.
enum Answer {
    /// It goes to the client.
    Final(Vec<u8>, CallEnd),
    /// A modern server needs answers of a legacy client first.
    NeedsInput(String),
}

impl Hub {
    /// Takes notice of what comes from a server.
    pub fn from_upstream(&mut self, id: InstanceId, what: FromUpstream, now: Instant) {
        match what {
            FromUpstream::Started { pid } => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.pid = Some(pid);
                    self.world.process(instance.server, pid, Life::Started);
                }
            }
            FromUpstream::Message(bytes) => self.upstream_said(id, &bytes, now),
            FromUpstream::Ended(reason) => self.ended(id, &reason, now),
        }
    }

    fn upstream_said(&mut self, id: InstanceId, bytes: &[u8], now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.heard_at = now;
        let message = match Message::parse(bytes) {
            Ok(message) => message,
            Err(why) => return self.noise(id, bytes, &why.to_string()),
        };
        match &message.shape {
            Shape::Result { id: raw, .. } | Shape::Error { id: Some(raw), .. } => {
                let call = our_number(raw).filter(|number| {
                    self.calls.get(number).is_some_and(|c| c.instance == Some(id) && c.is_sent)
                });
                match call {
                    Some(number) => self.answered(id, number, &message, now),
                    None => self.stray(id),
                }
            }
            Shape::Error { id: None, error } => {
                let server = instance.server;
                self.world.note(server, &format!("it says: {}", said(error)));
                self.stray(id);
            }
            Shape::Request { id: raw, method } => self.question(id, raw, method, &message, now),
            Shape::Notification { method } => self.notified(id, method, &message, now),
        }
    }

    /// A line that is no message: servers that print to standard output by mistake are common.
    fn noise(&mut self, id: InstanceId, bytes: &[u8], why: &str) {
        if let Some(instance) = self.instances.get(&id) {
            let start =
                String::from_utf8_lossy(bytes.get(..NOISE_CHARS_MAX * 4).unwrap_or(bytes)).into_owned();
            let start: String = start.chars().take(NOISE_CHARS_MAX).collect();
            if !start.trim().is_empty() {
                self.world.note(instance.server, &format!("no message ({why}): {start}"));
            }
        }
        self.stray(id);
    }

    fn stray(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.strays += 1;
        if instance.strays == STRAYS_MAX {
            self.fail(id, &format!("{STRAYS_MAX} of its messages made no sense"));
        }
    }

    fn answered(&mut self, id: InstanceId, number: CallId, message: &Message<'_>, now: Instant) {
        let answer = match &message.shape {
            Shape::Result { result, .. } => Ok(*result),
            Shape::Error { error, .. } => Err(*error),
            Shape::Request { .. } | Shape::Notification { .. } => return,
        };
        let Some(purpose) = self.calls.get(&number).map(|call| call.purpose) else { return };
        if purpose != Purpose::Client {
            self.calls.remove(&number);
        }
        match purpose {
            Purpose::Client => self.client_answered(id, number, message, answer, now),
            Purpose::Initialize => self.initialized(id, answer, now),
            Purpose::Discover => self.discovered(id, answer, now),
            Purpose::List(kind) => self.list_came(id, kind, answer, now),
            Purpose::Probe => {
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.is_probed = false;
                }
            }
            Purpose::Listen => {
                if let Some(instance) = self.instances.get_mut(&id)
                    && instance.listen == Some(number)
                {
                    instance.listen = None;
                }
            }
            Purpose::Quiet => {}
        }
    }

    fn client_answered(
        &mut self,
        id: InstanceId,
        number: CallId,
        message: &Message<'_>,
        answer: Result<&str, &str>,
        now: Instant,
    ) {
        match self.translated(id, number, message, answer) {
            Some(Answer::Final(bytes, end)) => self.finish(number, bytes, end),
            Some(Answer::NeedsInput(result)) => self.begin_round(number, &result, now),
            None => {
                let Some(server) = self.calls.get(&number).map(|call| call.server) else { return };
                let error = self.fault(server, "corrupt", "answered with a result that is no object", None);
                self.finish_with_error(number, &error, CallEnd::Refused);
            }
        }
    }

    fn translated(
        &mut self,
        id: InstanceId,
        number: CallId,
        message: &Message<'_>,
        answer: Result<&str, &str>,
    ) -> Option<Answer> {
        let (call, instance) = (self.calls.get(&number)?, self.instances.get(&id)?);
        let own_id = [Change::Set("id", &call.client_id)];
        let result = match answer {
            Ok(result) => result,
            Err(error) => {
                let other = (call.era != instance.era)
                    .then(|| era::error_to(call.era, error, &call.method))
                    .flatten();
                let bytes = match other {
                    Some(error) => error_response(Some(&call.client_id), &error),
                    None => message.object.with(&own_id).into_bytes(),
                };
                let code = Object::parse(error).ok().and_then(|e| e.get("code")?.trim().parse().ok());
                return Some(Answer::Final(bytes, CallEnd::Error(code.unwrap_or_default())));
            }
        };
        let end = if result.contains("\"isError\"") && is_tool_error(result) {
            CallEnd::ToolError
        } else {
            CallEnd::Done
        };
        let bytes = match (call.era, instance.era) {
            (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => {
                message.object.with(&own_id).into_bytes()
            }
            (Era::Modern, Era::Legacy) => {
                let object = Object::parse(result).ok()?;
                let result = era::result_to_modern(&object, &call.method, instance.info.as_deref());
                response(&call.client_id, &result)
            }
            (Era::Legacy, Era::Modern) => {
                let object = Object::parse(result).ok()?;
                if object.string("resultType").as_deref() == Some("input_required") {
                    return Some(Answer::NeedsInput(result.to_owned()));
                }
                response(&call.client_id, &era::result_to_legacy(&object))
            }
        };
        let server = call.server;
        if result.contains("\"taskId\"") {
            self.remember_task(server, result);
        }
        Some(Answer::Final(bytes, end))
    }

    /// Tasks are asked after by their id alone.
    fn remember_task(&mut self, server: usize, result: &str) {
        let Ok(object) = Object::parse(result) else { return };
        let task = object.object("task").unwrap_or(object);
        if let Some(id) = task.string("taskId")
            && self.tasks.len() < TASKS_MAX
        {
            self.tasks.insert(id.into_owned(), server);
        }
    }

    // ── the end of a call ───────────────────────────────────────────────────────────────────────

    /// Ends a call with a result.
    pub fn finish_with_result(&mut self, number: CallId, result: &str, end: CallEnd) {
        let Some(call) = self.calls.get(&number) else { return };
        let message = response(&call.client_id, result);
        self.finish(number, message, end);
    }

    /// Ends a call with an error.
    pub fn finish_with_error(&mut self, number: CallId, error: &str, end: CallEnd) {
        let Some(call) = self.calls.get(&number) else { return };
        let message = error_response(Some(&call.client_id), error);
        self.finish(number, message, end);
    }

    /// Ends a call: the client gets `message`, or finds it when it asks again.
    pub fn finish(&mut self, number: CallId, message: Vec<u8>, end: CallEnd) {
        if let Some(call) = self.calls.get_mut(&number)
            && call.conversation.is_none()
            && let Some(parked) = call.parked.as_mut()
            && end != CallEnd::Cancelled
        {
            parked.done = Some(message);
            call.is_sent = false;
            return self.off_instance(number);
        }
        let bytes_out = message.len();
        let Some(conversation) = self.forget_call(number, end, bytes_out) else { return };
        let (to, id) = conversation;
        if end != CallEnd::Cancelled {
            self.tell(to, message, Some(&id), true);
        }
        self.let_go_if_finished(to);
    }

    /// Takes a call out of every table and records it; gives who waited, and the client's id.
    fn forget_call(
        &mut self,
        number: CallId,
        end: CallEnd,
        bytes_out: usize,
    ) -> Option<(ConversationId, String)> {
        self.off_instance(number);
        let call = self.calls.remove(&number)?;
        if let Some(parked) = &call.parked {
            self.tickets.remove(&parked.ticket);
        }
        self.client_calls = self.client_calls.saturating_sub(1);
        if call.instance.is_some() {
            let server = &mut self.servers[call.server];
            server.calls += 1;
            server.errors += u64::from(matches!(
                end,
                CallEnd::Refused | CallEnd::Error(_) | CallEnd::Lost | CallEnd::TimedOut
            ));
            self.world.called(&Called {
                server: call.server,
                client: &call.client,
                method: &call.method,
                subject: &call.subject,
                params: &call.params,
                duration: call.since.elapsed(),
                end,
                bytes_in: call.params.len(),
                bytes_out,
            });
        }
        let to = call.conversation?;
        if let Some(client) = self.clients.get_mut(&to) {
            client.calls.remove(&call.client_id);
        }
        Some((to, call.client_id))
    }

    /// Takes a call out of its instance's tables.
    pub fn off_instance(&mut self, number: CallId) {
        let Some(call) = self.calls.get(&number) else { return };
        let bytes = call.params.len();
        let Some(instance) = call.instance.and_then(|id| self.instances.get_mut(&id)) else { return };
        if let Some(at) = instance.under_way.iter().position(|n| *n == number) {
            instance.under_way.remove(at);
            instance.under_way_bytes = instance.under_way_bytes.saturating_sub(bytes);
        }
        instance.queue.retain(|queued| *queued != number);
    }

    // ── notifications ───────────────────────────────────────────────────────────────────────────

    fn notified(&mut self, id: InstanceId, method: &str, message: &Message<'_>, now: Instant) {
        let Some(params) = message.params() else { return self.stray(id) };
        match method {
            "notifications/progress" => self.progress(id, &params, message, now),
            "notifications/message" => self.log_message(id, &params, message),
            "notifications/tools/list_changed" => self.kinds_changed(id, &[Kind::Tool], now),
            "notifications/prompts/list_changed" => self.kinds_changed(id, &[Kind::Prompt], now),
            "notifications/resources/list_changed" => {
                self.kinds_changed(id, &[Kind::Resource, Kind::Template], now);
            }
            "notifications/resources/updated" => self.resource_updated(id, &params),
            "notifications/subscriptions/acknowledged" => {}
            "notifications/cancelled" => {
                let asked = params.get("requestId").map(str::to_owned);
                let instance = self.instances.get_mut(&id);
                if let (Some(raw), Some(instance)) = (asked, instance)
                    && let Some(question) = instance.questions.remove(&raw)
                {
                    self.withdraw(&raw, question, "the server does not need it any more");
                }
            }
            _ => self.pass_notification(id, message),
        }
    }

    fn progress(&mut self, id: InstanceId, params: &Object<'_>, message: &Message<'_>, now: Instant) {
        let number = params.get("progressToken").and_then(our_number);
        let call = number.and_then(|number| self.calls.get_mut(&number)).filter(|c| c.instance == Some(id));
        let Some(call) = call else { return self.stray(id) };
        call.deadline = now + call.patience;
        if let (Some(token), Some(to)) = (&call.token, call.conversation) {
            let params = params.with(&[Change::Set("progressToken", token)]);
            let message = message.object.with(&[Change::Set("params", &params)]).into_bytes();
            let about = call.client_id.clone();
            self.mention(to, message, Some(&about));
        }
    }

    /// Whom something of a server is for that belongs to no request: its session's client, or who asked
    /// last.
    pub fn whom(&self, id: InstanceId) -> Option<(ConversationId, Option<String>)> {
        let instance = self.instances.get(&id)?;
        let owner = instance.scope.and_then(|scope| self.scopes.get(&scope)?.owner);
        let last = instance.under_way.iter().rev().find_map(|number| {
            let call = self.calls.get(number)?;
            Some((call.conversation?, call.client_id.clone()))
        });
        match (owner, last) {
            (Some(owner), Some((to, about))) if owner == to => Some((owner, Some(about))),
            (Some(owner), _) => Some((owner, None)),
            (None, Some((to, about))) => Some((to, Some(about))),
            (None, None) => None,
        }
    }

    fn log_message(&mut self, id: InstanceId, params: &Object<'_>, message: &Message<'_>) {
        let level = params.get("level").and_then(gravity);
        let Some(instance) = self.instances.get(&id) else { return };
        let Some(scope) = instance.scope.and_then(|scope| self.scopes.get(&scope)) else { return };
        let to = match scope.era {
            Era::Legacy => {
                let wanted = scope.level.as_deref().and_then(gravity);
                let is_wanted = wanted.is_none_or(|wanted| level.is_none_or(|level| level >= wanted));
                is_wanted.then(|| self.whom(id)).flatten()
            }
            // A modern client is sent messages for requests that ask for them, and no others.
            Era::Modern => instance.under_way.iter().rev().find_map(|number| {
                let call = self.calls.get(number)?;
                let wanted = gravity(call.facts.level.as_deref()?)?;
                let is_wanted = level.is_some_and(|level| level >= wanted);
                is_wanted.then_some(())?;
                Some((call.conversation?, Some(call.client_id.clone())))
            }),
        };
        if let Some((to, about)) = to {
            self.mention(to, message.object.text().as_bytes().to_vec(), about.as_deref());
        }
    }

    fn kinds_changed(&mut self, id: InstanceId, kinds: &[Kind], now: Instant) {
        for kind in kinds {
            self.list_changed(id, *kind, now);
        }
        let scope = self.instances.get(&id).and_then(|instance| instance.scope);
        if let (true, Some(scope), Some(kind)) = (self.is_transparent(), scope, kinds.first()) {
            self.tell_changed(scope, *kind);
        }
    }

    fn resource_updated(&mut self, id: InstanceId, params: &Object<'_>) {
        let Some(scope) = self.instances.get(&id).and_then(|instance| instance.scope) else { return };
        let Some(address) = params.string("uri") else { return self.stray(id) };
        let params = era::off_subscription(params);
        self.tell_updated(scope, &address, &params);
    }

    /// Who wants to hear of a resource hears that it has changed.
    fn tell_updated(&mut self, scope: ScopeId, address: &str, params: &str) {
        let method = "notifications/resources/updated";
        if let Some(owner) = self.scopes.get(&scope).and_then(|scope| scope.owner) {
            self.mention(owner, notification(method, params), None);
        }
        // What changed may lie below what was asked for.
        let below = |wanted: &String| address.starts_with(wanted.as_str());
        self.tell_listeners(scope, method, params, |listen| listen.addresses.iter().any(below));
    }

    /// What nobody here knows goes to whom it can only be for.
    fn pass_notification(&mut self, id: InstanceId, message: &Message<'_>) {
        if let Some((to, about)) = self.whom(id) {
            self.mention(to, message.object.text().as_bytes().to_vec(), about.as_deref());
        }
    }
}

fn is_tool_error(result: &str) -> bool {
    Object::parse(result).is_ok_and(|object| object.get("isError") == Some("true"))
}
