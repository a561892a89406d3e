//! What clients are shown of all servers: lists, capabilities, instructions; and who has to hear that
//! they have changed.
//!
//! A list is answered from what is known. A server of which nothing is known yet is waited for, but only
//! so long; who was answered without it hears of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::offer::{Difference, Kind, Offer, Withheld};
use crate::mcp::era::{Era, SERVER_KEY, on_subscription, opening_to_legacy, opening_to_modern, spoken};
use crate::mcp::message::{Change, INVALID_PARAMS, Object, bare_notification, error, notification, quoted};
use crate::mcp::names::shown;
use crate::mcp::session::ConversationId;
use crate::mcp::state::{
    CallEnd, CallId, Hub, Phase, ScopeId, Table, changed_method, list_member, listed_kind,
};

/// How long a list waits for servers of which nothing is known, in milliseconds.
pub const LIST_WAIT_MS: u64 = 10_000;
/// Members of a list in one answer.
const PAGE_ITEMS_MAX: usize = 1_000;
/// Members of a list in one answer, in bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Instructions of all servers together, in bytes.
const INSTRUCTIONS_BYTES_MAX: usize = 32 << 10;
/// The kinds that have lists.
const KINDS: [Kind; 4] = [Kind::Tool, Kind::Prompt, Kind::Resource, Kind::Template];

impl Hub {
    /// An instance has listed everything.
    pub fn offered(
        &mut self,
        scope: ScopeId,
        server: usize,
        before: Option<Arc<Offer>>,
        offer: &Arc<Offer>,
        now: Instant,
    ) {
        let Some(era) = self.scopes.get(&scope).map(|scope| scope.era) else { return };
        let before = before.or_else(|| self.servers[server].known.get(&era).cloned());
        let difference = before.as_ref().map(|before| Difference::between(before, offer));
        if difference.as_ref().is_none_or(|difference| !difference.is_empty()) {
            self.world.offered(server, era, offer);
        }
        self.servers[server].known.insert(era, Arc::clone(offer));
        for scope in self.scopes.values_mut().filter(|scope| scope.era == era) {
            scope.table = None;
        }
        for kind in KINDS {
            let is_new = || offer.listing(kind).is_some_and(|list| !list.items.is_empty());
            if difference.as_ref().map_or_else(is_new, |d| d.touches(kind)) {
                self.tell_changed(scope, kind);
            }
        }
        self.look_at_waiting(scope, now);
    }

    /// The clients of a scope hear that a list has changed.
    pub fn tell_changed(&mut self, scope: ScopeId, kind: Kind) {
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.table = None;
        }
        let method = changed_method(kind);
        for id in self.clients_of(scope) {
            let Some(client) = self.clients.get(&id) else { continue };
            if client.session.is_some() && client.listed.contains(&kind) {
                self.mention(id, bare_notification(method), None);
            }
        }
        self.tell_listeners(scope, method, "{}", |listen| listen.kinds.contains(&kind));
    }

    /// Clients that listen hear a notification, each with the id of its listening.
    pub fn tell_listeners(
        &mut self,
        scope: ScopeId,
        method: &str,
        params: &str,
        wants: impl Fn(&crate::mcp::state::Listen) -> bool,
    ) {
        let Ok(params) = Object::parse(params) else { return };
        let mut told: Vec<(ConversationId, String)> = Vec::new();
        for id in self.clients_of(scope) {
            let Some(client) = self.clients.get(&id) else { continue };
            let wanting = client.listens.iter().filter(|(_, listen)| wants(listen));
            told.extend(wanting.map(|(listen, _)| (id, listen.clone())));
        }
        for (id, listen) in told {
            let message = notification(method, &on_subscription(&params, &listen));
            self.mention(id, message, Some(&listen));
        }
    }

    // ── what is shown ───────────────────────────────────────────────────────────────────────────

    /// What the clients of a scope see of all servers.
    pub fn table(&mut self, scope: ScopeId) -> Arc<Table> {
        if let Some(table) = self.scopes.get(&scope).and_then(|scope| scope.table.clone()) {
            return table;
        }
        let mut table = Table::default();
        for server in 0..self.servers.len() {
            if let Some(offer) = self.offer_of(scope, server) {
                self.show(&mut table, server, &offer);
            }
        }
        let table = Arc::new(table);
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.table = Some(Arc::clone(&table));
        }
        table
    }

    fn withheld(&mut self, server: usize, offer: &Offer) -> Option<Withheld> {
        self.servers[server].config.pin.then(|| self.world.withheld(server, offer))
    }

    fn show(&mut self, table: &mut Table, server: usize, offer: &Offer) {
        let withheld = self.withheld(server, offer).unwrap_or_default();
        let is_transparent = self.is_transparent();
        let bytes_max = self.settings.tool_name_bytes_max;
        for kind in KINDS {
            for item in offer.listing(kind).into_iter().flat_map(|listing| &listing.items) {
                let Ok(object) = Object::parse(item.get()) else { continue };
                let key = match kind {
                    Kind::Resource => "uri",
                    Kind::Template => "uriTemplate",
                    Kind::Tool | Kind::Prompt | Kind::Server => "name",
                };
                let Some(own) = object.string(key) else { continue };
                let config = &self.servers[server].config;
                let name = match kind {
                    Kind::Tool if !config.tools.shows(&own) || withheld.tools.contains(&*own) => continue,
                    Kind::Prompt if withheld.prompts.contains(&*own) => continue,
                    Kind::Tool if !is_transparent => shown(config, config.tools.shown_name(&own), bytes_max),
                    Kind::Prompt if !is_transparent => shown(config, &own, bytes_max),
                    _ => own.to_string(),
                };
                if !enter(table, kind, server, &name, &own) {
                    let what = format!("`{name}` is not shown: another server of the list has that name");
                    self.world.note(server, &what);
                    continue;
                }
                let text = match kind {
                    Kind::Tool | Kind::Prompt if name != *own => {
                        object.with(&[Change::Set("name", &quoted(&name))])
                    }
                    _ => item.get().to_owned(),
                };
                table.shown.entry(kind).or_default().push(text);
            }
        }
    }

    /// One page of a list, as the client of `era` wants it; the error object when the cursor is none.
    fn list_page(
        &mut self,
        scope: ScopeId,
        kind: Kind,
        cursor: Option<&str>,
        era: Era,
    ) -> Result<String, String> {
        let table = self.table(scope);
        let items: &[String] = table.shown.get(&kind).map_or(&[], Vec::as_slice);
        let start = match cursor.map(str::parse::<usize>) {
            None => 0,
            Some(Ok(start)) if start <= items.len() => start,
            Some(_) => return Err(error(INVALID_PARAMS, "the cursor is none of this list", None)),
        };
        let mut out = format!("{{\"{}\":[", list_member(kind));
        let mut end = start;
        for item in items.iter().skip(start).take(PAGE_ITEMS_MAX) {
            if end > start && out.len() + item.len() > PAGE_BYTES_MAX {
                break;
            }
            if end > start {
                out.push(',');
            }
            out.push_str(item);
            end += 1;
        }
        out.push(']');
        if end < items.len() {
            out.push_str(&format!(r#","nextCursor":"{end}""#));
        }
        if era == Era::Modern {
            let meta = format!(r#"{{{}:{}}}"#, quoted(SERVER_KEY), self.own_info());
            out.push_str(&format!(
                r#","resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{meta}"#
            ));
        }
        out.push('}');
        Ok(out)
    }

    /// The gateway's own name and version.
    pub fn own_info(&self) -> String {
        format!(
            r#"{{"name":{},"version":{}}}"#,
            quoted(&self.settings.name),
            quoted(env!("CARGO_PKG_VERSION"))
        )
    }

    /// What the gateway says of itself, in the words of `initialize` (`version`) or `server/discover`.
    pub fn own_opening(&self, scope: Option<ScopeId>, era: Era, version: &str) -> String {
        let mut instructions = String::new();
        let mut claims: BTreeSet<&'static str> = BTreeSet::new();
        let mut extensions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (server, state) in self.servers.iter().enumerate() {
            let offer = scope.and_then(|scope| self.offer_of(scope, server));
            let offer = offer.or_else(|| state.known.get(&era).cloned());
            // Who is unknown may turn out to have anything.
            let Some(offer) = offer else {
                claims.extend(["tools", "prompts", "resources", "completions", "logging"]);
                continue;
            };
            let Ok(opening) = Object::parse(offer.opening.get()) else { continue };
            let Some(capabilities) = opening.object("capabilities") else { continue };
            for name in ["tools", "prompts", "resources", "completions", "logging"] {
                if capabilities.get(name).is_some() {
                    claims.insert(name);
                }
            }
            for (name, value) in capabilities.object("extensions").iter().flat_map(Object::members) {
                extensions.entry(name.to_owned()).or_default().push(value.to_owned());
            }
            if let Some(text) = opening.string("instructions")
                && instructions.len() + text.len() < INSTRUCTIONS_BYTES_MAX
                && !state.config.pin
            {
                instructions.push_str(&format!("# {}\n{text}\n\n", state.config.name));
            }
        }
        let mut members: Vec<String> = Vec::new();
        for name in &claims {
            let value = match *name {
                "tools" | "prompts" => r#"{"listChanged":true}"#,
                "resources" => r#"{"subscribe":true,"listChanged":true}"#,
                _ => "{}",
            };
            members.push(format!("\"{name}\":{value}"));
        }
        // What two servers claim cannot be handed on: nobody knows to whom.
        let single = extensions.iter().filter(|(_, values)| values.len() == 1);
        let single: Vec<String> = single.map(|(name, v)| format!("{}:{}", quoted(name), v[0])).collect();
        if !single.is_empty() {
            members.push(format!("\"extensions\":{{{}}}", single.join(",")));
        }
        self.opening_text(era, version, &members.join(","), instructions.trim_end())
    }

    fn opening_text(&self, era: Era, version: &str, capabilities: &str, instructions: &str) -> String {
        let instructions = match instructions {
            "" => String::new(),
            text => format!(r#","instructions":{}"#, quoted(text)),
        };
        let info = self.own_info();
        match era {
            Era::Legacy => format!(
                r#"{{"protocolVersion":{},"capabilities":{{{capabilities}}},"serverInfo":{info}{instructions}}}"#,
                quoted(version)
            ),
            Era::Modern => format!(
                r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{{{capabilities}}}{instructions},"ttlMs":0,"cacheScope":"private","_meta":{{{}:{info}}}}}"#,
                spoken(),
                quoted(SERVER_KEY)
            ),
        }
    }

    // ── who waits ───────────────────────────────────────────────────────────────────────────────

    /// Puts a call among those that wait until enough is known, and starts what is not known.
    pub fn wait_for_lists(&mut self, scope: ScopeId, call: CallId, now: Instant) {
        if let Some(waiting) = self.calls.get_mut(&call) {
            waiting.deadline = now + Duration::from_millis(LIST_WAIT_MS);
        }
        for server in 0..self.servers.len() {
            if self.offer_of(scope, server).is_none() {
                // What cannot be started is not waited for.
                drop(self.ensure(scope, server, now));
            }
        }
        if let Some(scope) = self.scopes.get_mut(&scope) {
            scope.waiting.push(call);
        }
        self.look_at_waiting(scope, now);
    }

    /// Answers what need not wait any more.
    pub fn look_at_waiting(&mut self, scope_id: ScopeId, now: Instant) {
        let Some(scope) = self.scopes.get_mut(&scope_id) else { return };
        if scope.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut scope.waiting);
        let mut still = Vec::new();
        for number in waiting {
            let Some(call) = self.calls.get(&number) else { continue };
            let is_late = call.deadline <= now;
            let is_opening = listed_kind(&call.method).is_none();
            if !is_late && self.is_unknown(scope_id, is_opening) {
                still.push(number);
            } else {
                self.answer_waiting(scope_id, number);
            }
        }
        if let Some(scope) = self.scopes.get_mut(&scope_id) {
            scope.waiting.extend(still);
        }
    }

    /// Whether something is still to come that the answer needs.
    fn is_unknown(&self, scope: ScopeId, is_opening: bool) -> bool {
        let Some(found) = self.scopes.get(&scope) else { return false };
        found.instances.iter().any(|(server, id)| {
            let Some(instance) = self.instances.get(id) else { return false };
            match (instance.phase, is_opening) {
                (Phase::Ending, _) => false,
                (Phase::Opening | Phase::Warm, true) => true,
                (Phase::Ready, true) => false,
                (_, false) => self.offer_of(scope, *server).is_none(),
            }
        })
    }

    fn answer_waiting(&mut self, scope: ScopeId, number: CallId) {
        let Some(call) = self.calls.get(&number) else { return };
        let (era, conversation) = (call.era, call.conversation);
        let Some(kind) = listed_kind(&call.method) else {
            return match self.only_opening(scope, era) {
                Ok(opening) => self.finish_with_result(number, &opening, CallEnd::Done),
                Err(error) => self.finish_with_error(number, &error, CallEnd::Lost),
            };
        };
        let cursor =
            Object::parse(&call.params).ok().and_then(|p| p.string("cursor").map(|c| c.into_owned()));
        match self.list_page(scope, kind, cursor.as_deref(), era) {
            Ok(page) => {
                if let Some(client) = conversation.and_then(|id| self.clients.get_mut(&id)) {
                    client.listed.insert(kind);
                    if kind == Kind::Template {
                        client.listed.insert(Kind::Resource);
                    }
                }
                self.finish_with_result(number, &page, CallEnd::Done);
            }
            Err(error) => self.finish_with_error(number, &error, CallEnd::Refused),
        }
    }

    /// What the only server says of itself, in the client's era.
    fn only_opening(&self, scope: ScopeId, era: Era) -> Result<String, String> {
        let instance = self.scopes.get(&scope).and_then(|scope| self.instances.get(scope.instances.get(&0)?));
        let opening = instance.and_then(|instance| Some((instance.era, instance.opening.clone()?)));
        let Some((spoken_by_it, opening)) = opening else {
            let reason = self.servers[0].reason.as_deref().unwrap_or("it does not answer");
            let hint = format!("`cuddy mcp logs {}` shows what it wrote", self.name_of(0));
            return Err(self.fault(0, "unreachable", &format!("did not start: {reason}"), Some(&hint)));
        };
        let Ok(object) = Object::parse(&opening) else {
            return Err(self.fault(0, "corrupt", "says nothing of itself", None));
        };
        Ok(match (era, spoken_by_it) {
            (Era::Modern, Era::Legacy) => opening_to_modern(&object),
            // Every revision that is spoken here is, whatever the server speaks.
            (Era::Modern, Era::Modern) => object.with(&[Change::Set("supportedVersions", &spoken())]),
            (Era::Legacy, Era::Modern) => {
                let owner = self.scopes.get(&scope).and_then(|scope| self.clients.get(&scope.owner?));
                opening_to_legacy(&object, owner.map_or(crate::mcp::era::LEGACY[0], |client| client.version))
            }
            // What a client may speak is what the gateway speaks: it translates.
            (Era::Modern, Era::Modern) => {
                object.with(&[Change::Set("supportedVersions", &crate::mcp::era::spoken())])
            }
            (Era::Legacy, Era::Legacy) => opening,
        })
    }
}

/// Enters a thing into the table; `false` when its name is taken.
fn enter(table: &mut Table, kind: Kind, server: usize, name: &str, own: &str) -> bool {
    use std::collections::hash_map::Entry;
    let map = match kind {
        Kind::Tool => &mut table.tools,
        Kind::Prompt => &mut table.prompts,
        Kind::Resource => {
            return match table.resources.entry(name.to_owned()) {
                Entry::Occupied(_) => false,
                Entry::Vacant(place) => {
                    place.insert(server);
                    true
                }
            };
        }
        Kind::Template => {
            let is_new = table.templates.iter().all(|(known, _)| known != name);
            if is_new {
                table.templates.push((name.to_owned(), server));
            }
            return is_new;
        }
        Kind::Server => return false,
    };
    match map.entry(name.to_owned()) {
        Entry::Occupied(_) => false,
        Entry::Vacant(place) => {
            place.insert((server, own.to_owned()));
            true
        }
    }
}
