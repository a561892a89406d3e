//! Who wants to hear of changes: legacy subscriptions and levels, modern listening, and what each server
//! is told of that in its own era.
//!
//! A server is told what its clients want all together; who hears of a change is decided when it comes.

use tokio::time::Instant;

use crate::engine::offer::Kind;
use crate::mcp::era::{Era, on_subscription};
use crate::mcp::message::{INVALID_PARAMS, Object, error, notification, quoted};
use crate::mcp::session::{ConversationId, InstanceId};
use crate::mcp::state::{Hub, Listen, Phase, Purpose, ScopeId};

/// Listenings of one client.
const LISTENS_MAX: usize = 64;
/// Addresses of resources that the clients of one scope want to hear of.
const ADDRESSES_MAX: usize = 4_096;
/// The members of a listening's filter, and the lists they mean.
const FILTER: [(&str, Kind, &str); 3] = [
    ("toolsListChanged", Kind::Tool, "tools"),
    ("promptsListChanged", Kind::Prompt, "prompts"),
    ("resourcesListChanged", Kind::Resource, "resources"),
];

impl Hub {
    /// A modern client listens.
    ///
    /// # Errors
    /// The error object, when it asks for nothing that can be, or too much.
    pub fn listen(
        &mut self,
        from: ConversationId,
        id: &str,
        params: &Object<'_>,
        scope: ScopeId,
        now: Instant,
    ) -> Result<(), String> {
        let wrong = |what: &str| error(INVALID_PARAMS, what, None);
        let filter = params.object("notifications").ok_or_else(|| wrong("`notifications` is missing"))?;
        let addresses: Vec<String> = match filter.get("resourceSubscriptions") {
            None => Vec::new(),
            Some(raw) => {
                serde_json::from_str(raw).map_err(|_no| wrong("`resourceSubscriptions` is no list"))?
            }
        };
        let is_full = self.clients.get(&from).is_none_or(|client| client.listens.len() >= LISTENS_MAX);
        let known = self.scopes.get(&scope).map_or(0, |scope| scope.subscribed.len());
        if is_full || known + addresses.len() > ADDRESSES_MAX {
            return Err(wrong("too much is listened to already"));
        }
        let mut listen = Listen { kinds: Vec::new(), addresses };
        let mut agreed: Vec<String> = Vec::new();
        for (name, kind, capability) in FILTER {
            if filter.get(name) == Some("true") && self.somebody_has(scope, capability) {
                listen.kinds.push(kind);
                if kind == Kind::Resource {
                    listen.kinds.push(Kind::Template);
                }
                agreed.push(format!("{}:true", quoted(name)));
            }
        }
        if !listen.addresses.is_empty() && self.somebody_has(scope, "resources") {
            let list: Vec<String> = listen.addresses.iter().map(|address| quoted(address)).collect();
            agreed.push(format!("\"resourceSubscriptions\":[{}]", list.join(",")));
        }
        let params = format!(r#"{{"notifications":{{{}}}}}"#, agreed.join(","));
        let params =
            Object::parse(&params).map(|params| on_subscription(&params, id)).unwrap_or(params.clone());
        let addresses = listen.addresses.clone();
        if let Some(client) = self.clients.get_mut(&from) {
            client.listens.insert(id.to_owned(), listen);
        }
        // Before anything that is told on it.
        let message = notification("notifications/subscriptions/acknowledged", &params);
        self.tell(from, message, Some(id), false);
        for address in addresses {
            self.subscribe(scope, &address, now);
        }
        Ok(())
    }

    /// Whether a server has a capability, or may turn out to.
    fn somebody_has(&self, scope: ScopeId, capability: &str) -> bool {
        (0..self.servers.len()).any(|server| {
            let instance =
                self.scopes.get(&scope).and_then(|s| self.instances.get(s.instances.get(&server)?));
            let opening = instance.and_then(|instance| instance.opening.clone());
            let opening = opening.or_else(|| Some(self.offer_of(scope, server)?.opening.get().to_owned()));
            let Some(opening) = opening else { return true };
            let opening = Object::parse(&opening).ok();
            opening.and_then(|o| o.object("capabilities")).is_some_and(|c| c.get(capability).is_some())
        })
    }

    fn subscribe(&mut self, scope: ScopeId, address: &str, now: Instant) {
        let Some(server) = self.find_resource(scope, address) else { return };
        let Some(found) = self.scopes.get_mut(&scope) else { return };
        if found.subscribed.insert(address.to_owned(), server).is_some() {
            return;
        }
        let Ok(id) = self.ensure(scope, server, now) else { return };
        let Some(instance) = self.instances.get(&id) else { return };
        match (instance.phase, instance.era) {
            (Phase::Ready, Era::Legacy) => {
                let params = format!(r#"{{"uri":{}}}"#, quoted(address));
                self.ask_instance(id, Purpose::Quiet, "resources/subscribe", &params, now);
            }
            (Phase::Ready, Era::Modern) => self.listen_anew(id, now),
            // It is told when it can be asked.
            _ => {}
        }
    }

    /// Takes a legacy client's subscription into account, which goes to its server as it is.
    pub fn follow_subscription(&mut self, scope: ScopeId, method: &str, server: usize, address: &str) {
        let Some(scope) = self.scopes.get_mut(&scope) else { return };
        match method {
            "resources/subscribe" if scope.subscribed.len() < ADDRESSES_MAX => {
                scope.subscribed.insert(address.to_owned(), server);
            }
            "resources/unsubscribe" => {
                scope.subscribed.remove(address);
            }
            _ => {}
        }
    }

    /// Takes back what no listening wants any more.
    pub fn unsubscribe_unwanted(&mut self, scope: ScopeId, now: Instant) {
        let clients = self.clients_of(scope);
        let is_wanted = |address: &String| {
            let mut listens =
                clients.iter().filter_map(|id| self.clients.get(id)).flat_map(|c| c.listens.values());
            listens.any(|listen| listen.addresses.contains(address))
        };
        let Some(found) = self.scopes.get(&scope).filter(|found| found.owner.is_none()) else { return };
        let unwanted: Vec<(String, usize)> = found
            .subscribed
            .iter()
            .filter(|(address, _)| !is_wanted(address))
            .map(|(address, server)| (address.clone(), *server))
            .collect();
        for (address, server) in unwanted {
            let Some(found) = self.scopes.get_mut(&scope) else { return };
            found.subscribed.remove(&address);
            let Some(id) = found.instances.get(&server).copied() else { continue };
            let ready = self.instances.get(&id).filter(|i| i.phase == Phase::Ready).map(|i| i.era);
            match ready {
                Some(Era::Legacy) => {
                    let params = format!(r#"{{"uri":{}}}"#, quoted(&address));
                    self.ask_instance(id, Purpose::Quiet, "resources/unsubscribe", &params, now);
                }
                Some(Era::Modern) => self.listen_anew(id, now),
                None => {}
            }
        }
    }

    /// Tells a modern server what is wanted of it now.
    pub fn listen_anew(&mut self, id: InstanceId, now: Instant) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.era != Era::Modern || instance.phase != Phase::Ready {
            return;
        }
        let server = instance.server;
        let opening = instance.opening.clone().unwrap_or_default();
        let opening = Object::parse(&opening).ok();
        let capabilities = opening.as_ref().and_then(|o| o.object("capabilities"));
        let changes = |name: &str| {
            let found = capabilities.as_ref().and_then(|c| c.object(name));
            found.is_some_and(|found| found.get("listChanged") == Some("true"))
        };
        let mut members: Vec<String> = FILTER
            .iter()
            .filter(|(_, _, capability)| changes(capability))
            .map(|(name, _, _)| format!("{}:true", quoted(name)))
            .collect();
        let scope = instance.scope.and_then(|scope| self.scopes.get(&scope));
        let addresses: Vec<String> = scope
            .into_iter()
            .flat_map(|scope| scope.subscribed.iter())
            .filter(|(_, of)| **of == server)
            .map(|(address, _)| quoted(address))
            .collect();
        if !addresses.is_empty() {
            members.push(format!("\"resourceSubscriptions\":[{}]", addresses.join(",")));
        }
        let old = instance.listen;
        let new = if members.is_empty() {
            None
        } else {
            let params = format!(r#"{{"notifications":{{{}}}}}"#, members.join(","));
            self.ask_instance(id, Purpose::Listen, "subscriptions/listen", &params, now)
        };
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.listen = new;
        }
        // The new one first: nothing is missed in between.
        if let Some(old) = old {
            self.calls.remove(&old);
            self.send(id, notification("notifications/cancelled", &format!(r#"{{"requestId":{old}}}"#)));
        }
    }

    /// Tells a legacy server that was started anew what its clients subscribed to.
    pub fn resubscribe(&mut self, id: InstanceId, scope: ScopeId, now: Instant) {
        let Some(instance) = self.instances.get(&id) else { return };
        if instance.era != Era::Legacy {
            return;
        }
        let server = instance.server;
        let Some(scope) = self.scopes.get(&scope) else { return };
        let addresses: Vec<String> =
            scope.subscribed.iter().filter(|(_, of)| **of == server).map(|(a, _)| a.clone()).collect();
        for address in addresses {
            let params = format!(r#"{{"uri":{}}}"#, quoted(&address));
            self.ask_instance(id, Purpose::Quiet, "resources/subscribe", &params, now);
        }
    }

    // ── levels of messages ──────────────────────────────────────────────────────────────────────

    /// A legacy client chooses from which level on it wants messages.
    pub fn set_level(&mut self, scope: ScopeId, level: &str, now: Instant) {
        let Some(found) = self.scopes.get_mut(&scope) else { return };
        found.level = Some(level.to_owned());
        let ids: Vec<InstanceId> = found.instances.values().copied().collect();
        for id in ids {
            self.level_to(id, scope, now);
        }
    }

    /// Tells a server the level that its session's client has chosen.
    pub fn level_to(&mut self, id: InstanceId, scope: ScopeId, now: Instant) {
        if let Some(level) = self.scopes.get(&scope).and_then(|scope| scope.level.clone()) {
            self.level_for(id, &level, now);
        }
    }

    /// Tells a legacy server from which level on messages are wanted, when it was told another one.
    pub fn level_for(&mut self, id: InstanceId, level: &str, now: Instant) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let opening = instance.opening.as_deref().and_then(|text| Object::parse(text).ok());
        let capabilities = opening.and_then(|o| o.object("capabilities"));
        let can_log = capabilities.is_some_and(|c| c.get("logging").is_some());
        let is_told = instance.level.as_deref() == Some(level);
        if instance.phase != Phase::Ready || instance.era != Era::Legacy || !can_log || is_told {
            return;
        }
        instance.level = Some(level.to_owned());
        let params = format!(r#"{{"level":{level}}}"#);
        self.ask_instance(id, Purpose::Quiet, "logging/setLevel", &params, now);
    }
}
