//! What clients tell besides their requests: that they do not want an answer any more, how far they are
//! with one of theirs, that their roots have changed; and the end of a client.
//!
//! Requests are routed in `calls`.

use tokio::time::Instant;

use crate::mcp::era::Era;
use crate::mcp::message::{
    Change, METHOD_NOT_FOUND, Message, Object, error, error_response, notification, our_number,
};
use crate::mcp::session::{ConversationId, InstanceId};
use crate::mcp::state::{Asker, CallEnd, CallId, Hub, Phase};

impl Hub {
    // ── what a client tells ─────────────────────────────────────────────────────────────────────

    /// Takes notice of what a client tells.
    pub fn client_notified(&mut self, from: ConversationId, method: &str, message: &Message<'_>) {
        let Some(params) = message.params() else { return };
        match method {
            "notifications/initialized" => {}
            "notifications/cancelled" => {
                if let Some(id) = params.get("requestId") {
                    self.cancel(from, id, &params);
                    self.let_go_if_finished(from);
                }
            }
            "notifications/progress" => {
                let ask = params.get("progressToken").and_then(our_number).and_then(|n| self.asks.get(&n));
                let Some(ask) = ask.filter(|ask| ask.conversation == from) else { return };
                if let (Asker::Server(id, _), Some(token)) = (&ask.asker, &ask.token) {
                    let params = params.with(&[Change::Set("progressToken", token)]);
                    self.send(*id, notification(method, &params));
                }
            }
            _ => self.pass_to_servers(from, method, message),
        }
    }

    /// A notification for every server of the client's session: that its roots have changed; others when
    /// there is one server only.
    fn pass_to_servers(&mut self, from: ConversationId, method: &str, message: &Message<'_>) {
        let scope = self.clients.get(&from).and_then(|client| self.scopes.get(&client.scope?));
        let Some(scope) = scope.filter(|scope| scope.owner == Some(from)) else { return };
        if method != "notifications/roots/list_changed" && self.servers.len() > 1 {
            return;
        }
        let ids: Vec<InstanceId> = scope.instances.values().copied().collect();
        for id in ids {
            let is_told =
                self.instances.get(&id).is_some_and(|i| i.phase == Phase::Ready && i.era == Era::Legacy);
            if is_told {
                self.send(id, message.object.text().as_bytes().to_vec());
            }
        }
    }

    /// A client does not want an answer any more.
    fn cancel(&mut self, from: ConversationId, id: &str, params: &Object<'_>) {
        let Some(client) = self.clients.get_mut(&from) else { return };
        if let Some(number) = client.calls.get(id).copied() {
            self.cancel_call(number, params);
        } else if client.listens.remove(id).is_some()
            && let Some(scope) = client.scope
        {
            self.unsubscribe_unwanted(scope, Instant::now());
        }
    }

    /// Ends a call that nobody waits for; its server is told.
    pub fn cancel_call(&mut self, number: CallId, params: &Object<'_>) {
        self.withdraw_round(number);
        let Some(call) = self.calls.get(&number) else { return };
        if let Some(id) = call.instance.filter(|_| call.is_sent) {
            let params = params.with(&[Change::Set("requestId", &number.to_string())]);
            self.send(id, notification("notifications/cancelled", &params));
        }
        self.finish(number, Vec::new(), CallEnd::Cancelled);
    }

    // ── the end of a client ─────────────────────────────────────────────────────────────────────

    /// A client is gone: what it asked is cancelled, and its own servers end.
    pub fn closed(&mut self, id: ConversationId) {
        let Some(client) = self.clients.get(&id) else { return };
        let (calls, scope): (Vec<CallId>, _) = (client.calls.values().copied().collect(), client.scope);
        let nothing = Object::parse(r#"{"reason":"the client is gone"}"#);
        for number in calls {
            if let Ok(params) = &nothing {
                self.cancel_call(number, params);
            }
        }
        let asks: Vec<u64> =
            self.asks.iter().filter(|(_, a)| a.conversation == id).map(|(n, _)| *n).collect();
        for number in asks {
            let Some(ask) = self.asks.remove(&number) else { continue };
            if let Asker::Server(server, raw) = ask.asker {
                let error = error(METHOD_NOT_FOUND, "the client is gone", None);
                self.send(server, error_response(Some(&raw), &error));
                if let Some(instance) = self.instances.get_mut(&server) {
                    instance.questions.remove(&raw);
                }
            }
        }
        self.clients.remove(&id);
        let Some(scope) = scope else { return };
        if self.scopes.get(&scope).is_some_and(|s| s.owner == Some(id)) {
            let ids: Vec<InstanceId> =
                self.scopes.get(&scope).map(|s| s.instances.values().copied().collect()).unwrap_or_default();
            ids.into_iter().for_each(|id| self.stop_instance(id));
            self.scopes.remove(&scope);
        } else {
            self.unsubscribe_unwanted(scope, Instant::now());
        }
    }

    /// Lets a client go that will say nothing more and waits for nothing more.
    pub fn let_go_if_finished(&mut self, id: ConversationId) {
        let Some(client) = self.clients.get(&id) else { return };
        let is_asked = || self.asks.values().any(|ask| ask.conversation == id);
        if client.finish_by.is_some() && client.calls.is_empty() && !is_asked() {
            self.closed(id);
        }
    }
}
