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
                self.world.state(server, State::Stopped, None);
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
            is_lost: false,
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
        self.look_at_delayed(now);
        self.look_at_instances(now);
        let gone: Vec<ConversationId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_lost || client.finish_by.is_some_and(|by| by <= now))
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use super::*;
    use crate::engine::config::document::Place;
    use crate::engine::config::servers::{GatewaySettings, Prefix, Restart, ServerConfig, Transport};
    use crate::engine::offer::Offer;
    use crate::engine::offer::Withheld;
    use crate::mcp::era::Era;
    use crate::mcp::link::{EndReason, FromUpstream, Link};
    use crate::mcp::session::{Conversation, Door, ToClient};
    use crate::mcp::state::{Called, Life, World};

    /// The far end of a link: what a server would be.
    struct Far {
        server: usize,
        receive: mpsc::Receiver<Vec<u8>>,
        send: mpsc::Sender<FromUpstream>,
        /// Requests that came while something else was waited for.
        early: VecDeque<Value>,
    }

    impl Far {
        async fn next(&mut self) -> Value {
            if let Some(early) = self.early.pop_front() {
                return early;
            }
            let bytes = self.receive.recv().await.expect("the gateway says something");
            serde_json::from_slice(&bytes).unwrap()
        }

        /// The next message of this method; others wait.
        async fn expect(&mut self, method: &str) -> Value {
            let mut passed = VecDeque::new();
            loop {
                let message = self.next().await;
                if message["method"] == method {
                    passed.append(&mut self.early);
                    self.early = passed;
                    return message;
                }
                passed.push_back(message);
            }
        }

        async fn say(&self, message: Value) {
            self.say_text(&message.to_string()).await;
        }

        async fn say_text(&self, text: &str) {
            self.send.send(FromUpstream::Message(text.as_bytes().to_vec())).await.unwrap();
        }

        async fn answer(&self, request: &Value, result: Value) {
            self.say(json!({"jsonrpc": "2.0", "id": request["id"], "result": result})).await;
        }

        async fn refuse(&self, request: &Value, code: i64) {
            self.say(
                json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": "no"}}),
            )
            .await;
        }

        /// Shakes hands as a legacy server with these capabilities.
        async fn open_legacy(&mut self, capabilities: Value) -> Value {
            let hello = self.expect("initialize").await;
            let info = json!({"name": "far", "version": "1"});
            let version = &hello["params"]["protocolVersion"];
            let result =
                json!({"protocolVersion": version, "capabilities": capabilities, "serverInfo": info});
            self.answer(&hello, result).await;
            self.expect("notifications/initialized").await;
            hello
        }

        async fn open_modern(&mut self, capabilities: Value) {
            let hello = self.expect("server/discover").await;
            let result = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": capabilities, "ttlMs": 0, "cacheScope": "private"});
            self.answer(&hello, result).await;
        }

        async fn list_tools(&mut self, names: &[&str]) {
            let asked = self.expect("tools/list").await;
            let tools: Vec<Value> = names
                .iter()
                .map(|name| json!({"name": name, "inputSchema": {"type": "object"}, "odd": 1.50}))
                .collect();
            self.answer(&asked, json!({"tools": tools})).await;
        }
    }

    struct Bench {
        door: Door,
        started: mpsc::UnboundedReceiver<Far>,
        notes: Arc<Mutex<Vec<String>>>,
        running: tokio::task::JoinHandle<()>,
    }

    fn server(name: &str) -> ServerConfig {
        let transport = Transport::Stdio { command: name.to_owned(), args: Vec::new(), cwd: None };
        ServerConfig::new(name, Place::default(), transport)
    }

    #[derive(Debug)]
    struct Fake {
        starts: mpsc::UnboundedSender<Far>,
        notes: Arc<Mutex<Vec<String>>>,
    }

    impl World for Fake {
        fn start(&mut self, server: usize, _: &ServerConfig) -> Link {
            let (send, receive) = mpsc::channel(8);
            let (told, from) = mpsc::channel(8);
            drop(self.starts.send(Far { server, receive, send: told, early: VecDeque::new() }));
            Link { send, receive: from }
        }
        fn note(&mut self, _: usize, line: &str) {
            self.notes.lock().unwrap().push(line.to_owned());
        }
        fn state(&mut self, _: usize, _: State, _: Option<&str>) {}
        fn process(&mut self, _: usize, _: u32, _: Life) {}
        fn begin(&mut self, _: usize) {}
        fn called(&mut self, _: &Called<'_>) {}
        fn known(&mut self, _: usize, _: Era) -> Option<Offer> {
            None
        }
        fn offered(&mut self, _: usize, _: Era, _: &Offer) {}
        fn withheld(&mut self, _: usize, _: &Offer) -> Withheld {
            Withheld::default()
        }
    }

    fn bench(servers: Vec<ServerConfig>) -> Bench {
        let (door, inside) = Door::new();
        let (starts, started) = mpsc::unbounded_channel();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let world = Box::new(Fake { starts, notes: Arc::clone(&notes) });
        let hub = Hub::new(servers, GatewaySettings::default(), door.events(), world);
        Bench { door, started, notes, running: tokio::spawn(hub.run(inside)) }
    }

    impl Bench {
        async fn far(&mut self) -> Far {
            self.started.recv().await.expect("a server is started")
        }

        fn client(&self) -> Near {
            Near { conversation: self.door.open(Face::Stdio), heard: VecDeque::new(), about: None }
        }
    }

    struct Near {
        conversation: Conversation,
        heard: VecDeque<Value>,
        about: Option<String>,
    }

    impl Near {
        async fn say(&self, message: Value) {
            self.conversation.send.send(message.to_string().into_bytes()).await.unwrap();
        }

        async fn next(&mut self) -> Value {
            let ToClient { message, about, .. } = self.conversation.receive.recv().await.expect("a message");
            self.about = about.map(|id| String::from_utf8(id).unwrap());
            serde_json::from_slice(&message).unwrap()
        }

        /// The answer to a request; what came before it is kept.
        async fn answer(&mut self, id: Value) -> Value {
            loop {
                let message = self.next().await;
                if message["id"] == id && message.get("method").is_none() {
                    return message;
                }
                self.heard.push_back(message);
            }
        }

        async fn hear(&mut self, method: &str) -> Value {
            loop {
                let message = match self.heard.pop_front() {
                    Some(message) => message,
                    None => self.next().await,
                };
                if message["method"] == method {
                    return message;
                }
            }
        }

        async fn hello(&mut self, capabilities: Value) -> Value {
            let info = json!({"name": "near", "version": "1"});
            let params =
                json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info});
            self.say(json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params}))
                .await;
            self.answer(json!("hello")).await
        }

        async fn ask(&self, id: Value, method: &str, params: Value) {
            self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        }
    }

    /// Parameters as a modern client sends them.
    fn modern(mut params: Value, capabilities: Value) -> Value {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        params
    }

    fn tools() -> Value {
        json!({"tools": {"listChanged": true}})
    }

    // ── legacy to legacy ────────────────────────────────────────────────────────────────────────

    #[tokio::test(start_paused = true)]
    async fn lists_are_joined_and_a_call_reaches_its_server_under_its_own_name() {
        let mut bench = bench(vec![server("a"), server("b")]);
        let mut near = bench.client();
        near.hello(json!({"sampling": {}})).await;
        near.ask(json!(1), "tools/list", json!({})).await;
        let (mut a, mut b) = (bench.far().await, bench.far().await);
        let hello = a.open_legacy(tools()).await;
        assert_eq!(hello["params"]["capabilities"], json!({"sampling": {}}), "the client's own capabilities");
        assert_eq!(hello["params"]["clientInfo"]["name"], "near");
        a.list_tools(&["t"]).await;
        b.open_legacy(tools()).await;
        b.list_tools(&["t"]).await;
        let listed = near.answer(json!(1)).await;
        let names: Vec<&Value> =
            listed["result"]["tools"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
        assert_eq!(names, ["a__t", "b__t"]);
        assert_eq!(listed["result"]["tools"][0]["odd"].to_string(), "1.5");
        let params = json!({"name": "b__t", "arguments": {"x": 1}, "odd": [], "_meta": {"progressToken": "p", "traceparent": "t"}});
        near.ask(json!("c"), "tools/call", params).await;
        let call = b.expect("tools/call").await;
        assert_eq!(call["params"]["name"], "t");
        assert_eq!(call["params"]["odd"], json!([]));
        assert_eq!(call["params"]["_meta"]["traceparent"], "t");
        let token = &call["params"]["_meta"]["progressToken"];
        b.say(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})).await;
        let progress = near.hear("notifications/progress").await;
        assert_eq!(progress["params"], json!({"progressToken": "p", "progress": 1}));
        assert_eq!(near.about.as_deref(), Some("\"c\""));
        b.answer(&call, json!({"content": [], "odd": null})).await;
        assert_eq!(near.answer(json!("c")).await["result"], json!({"content": [], "odd": null}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_cancelled_is_cancelled_at_its_server_and_gets_no_answer() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(7), "tools/call", json!({"name": "a__t"})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        near.say(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7, "reason": "r"}})).await;
        let cancelled = a.expect("notifications/cancelled").await;
        assert_eq!(cancelled["params"], json!({"requestId": call["id"], "reason": "r"}));
        a.answer(&call, json!({"content": []})).await;
        near.ask(json!(8), "ping", json!({})).await;
        assert_eq!(near.next().await, json!({"jsonrpc": "2.0", "id": 8, "result": {}}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_of_a_server_reaches_the_client_and_its_answer_the_server() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({"sampling": {}})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t"})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        a.say(json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {"odd": 1}}))
            .await;
        let question = near.hear("sampling/createMessage").await;
        assert_eq!(question["params"], json!({"odd": 1}));
        assert_eq!(near.about.as_deref(), Some("1"), "it belongs to the call");
        near.say(json!({"jsonrpc": "2.0", "id": question["id"], "result": {"role": "x"}})).await;
        assert_eq!(a.next().await, json!({"jsonrpc": "2.0", "id": "q", "result": {"role": "x"}}));
        // What the client did not declare it is not asked.
        a.say(json!({"jsonrpc": "2.0", "id": 2, "method": "roots/list"})).await;
        assert_eq!(a.next().await["error"]["code"], -32601);
        a.say(json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})).await;
        assert_eq!(a.next().await["result"], json!({}));
        a.answer(&call, json!({"content": []})).await;
        near.answer(json!(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn resources_go_by_address_then_by_template() {
        let mut bench = bench(vec![server("a"), server("b")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "resources/list", json!({})).await;
        let (mut a, mut b) = (bench.far().await, bench.far().await);
        for (far, uri, template) in [(&mut a, "x://1", "x://{id}"), (&mut b, "x://1", "x://deep/{id}")] {
            far.open_legacy(json!({"resources": {}})).await;
            let asked = far.expect("resources/list").await;
            far.answer(&asked, json!({"resources": [{"uri": uri, "name": "n"}]})).await;
            let asked = far.expect("resources/templates/list").await;
            far.answer(&asked, json!({"resourceTemplates": [{"uriTemplate": template, "name": "n"}]})).await;
        }
        let listed = near.answer(json!(1)).await;
        assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 1, "an address is shown once");
        assert!(
            bench.notes.lock().unwrap().iter().any(|note| note.contains("`x://1`")),
            "the collision is told"
        );
        near.ask(json!(2), "resources/read", json!({"uri": "x://1"})).await;
        let read = a.expect("resources/read").await;
        a.refuse(&read, -32002).await;
        assert_eq!(near.answer(json!(2)).await["error"]["code"], -32002);
        near.ask(json!(3), "resources/read", json!({"uri": "x://deep/7"})).await;
        assert_eq!(b.expect("resources/read").await["params"]["uri"], "x://deep/7");
        near.ask(json!(4), "resources/read", json!({"uri": "y://"})).await;
        assert_eq!(near.answer(json!(4)).await["error"]["code"], -32002);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_ends_its_servers() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t"})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        drop(near);
        assert_eq!(a.expect("notifications/cancelled").await["params"]["requestId"], call["id"]);
        assert_eq!(a.receive.recv().await, None, "its input ends");
        a.send.send(FromUpstream::Ended(EndReason::Asked)).await.unwrap();
        bench.door.end();
        bench.running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_server_is_shown_as_if_there_were_no_gateway() {
        let mut bench = bench(vec![ServerConfig { prefix: Prefix::None, ..server("a") }]);
        let mut near = bench.client();
        let opened = tokio::spawn(async move {
            let opened = near.hello(json!({})).await;
            (near, opened)
        });
        let mut a = bench.far().await;
        a.open_legacy(json!({"tools": {}, "odd": {}})).await;
        let (near, opened) = opened.await.unwrap();
        assert_eq!(opened["result"]["serverInfo"]["name"], "far");
        assert_eq!(opened["result"]["capabilities"], json!({"tools": {}, "odd": {}}));
        near.ask(json!(1), "odd/method", json!({"a": 1})).await;
        assert_eq!(a.expect("odd/method").await["params"], json!({"a": 1}));
    }

    // ── the other cells ─────────────────────────────────────────────────────────────────────────

    #[tokio::test(start_paused = true)]
    async fn a_legacy_servers_question_becomes_the_result_of_a_modern_clients_request() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        let can = json!({"elicitation": {}});
        let params = json!({"name": "a__t", "arguments": {"x": 1}});
        near.ask(json!(1), "tools/call", modern(params.clone(), can.clone())).await;
        let mut a = bench.far().await;
        let probe = a.expect("server/discover").await;
        assert_eq!(probe["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        a.refuse(&probe, -32601).await;
        let hello = a.open_legacy(json!({})).await;
        assert_eq!(hello["params"]["capabilities"], can);
        let call = a.expect("tools/call").await;
        assert_eq!(call["params"], json!({"name": "t", "arguments": {"x": 1}}), "nothing modern reaches it");
        a.say(json!({"jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {"message": "m"}}))
            .await;
        let asked = near.answer(json!(1)).await;
        assert_eq!(asked["result"]["resultType"], "input_required");
        let (key, question) = asked["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(*question, json!({"method": "elicitation/create", "params": {"message": "m"}}));
        let state = &asked["result"]["requestState"];
        // Another call does not get at it, and a state that nobody gave is not taken.
        let mut other = modern(json!({"name": "a__t", "arguments": {"x": 2}}), can.clone());
        other["requestState"] = state.clone();
        near.ask(json!(2), "tools/call", other).await;
        assert_eq!(near.answer(json!(2)).await["error"]["code"], -32602);
        let mut forged = modern(params.clone(), can.clone());
        forged["requestState"] = json!("guess");
        near.ask(json!(3), "tools/call", forged).await;
        assert_eq!(near.answer(json!(3)).await["error"]["code"], -32602);
        let mut again = modern(params, can);
        again["requestState"] = state.clone();
        again["inputResponses"] = json!({key: {"action": "accept"}});
        near.ask(json!(4), "tools/call", again).await;
        assert_eq!(a.next().await, json!({"jsonrpc": "2.0", "id": 5, "result": {"action": "accept"}}));
        a.answer(&call, json!({"content": []})).await;
        let done = near.answer(json!(4)).await;
        assert_eq!(done["result"]["resultType"], "complete");
        assert_eq!(done["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "far");
    }

    #[tokio::test(start_paused = true)]
    async fn a_modern_servers_need_of_input_becomes_questions_to_a_legacy_client() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({"elicitation": {}})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t", "_meta": {"progressToken": 9}})).await;
        let mut a = bench.far().await;
        let hello = a.expect("initialize").await;
        a.refuse(&hello, -32601).await;
        a.open_modern(tools()).await;
        let call = a.expect("tools/call").await;
        let meta = &call["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({"elicitation": {}}));
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "near");
        let question = json!({"method": "elicitation/create", "params": {"message": "m"}});
        let needs = json!({"resultType": "input_required", "inputRequests": {"k": question}, "requestState": "s\u{e9}"});
        a.answer(&call, needs).await;
        let asked = near.hear("elicitation/create").await;
        near.say(json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}})).await;
        let again = a.expect("tools/call").await;
        assert_ne!(again["id"], call["id"]);
        assert_eq!(again["params"]["requestState"], "s\u{e9}");
        assert_eq!(again["params"]["inputResponses"], json!({"k": {"action": "decline"}}));
        a.answer(&again, json!({"resultType": "complete", "content": []})).await;
        assert_eq!(near.answer(json!(1)).await["result"], json!({"content": []}));
    }

    #[tokio::test(start_paused = true)]
    async fn between_modern_peers_everything_stays_as_it_is() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        let params = modern(
            json!({"name": "a__t", "requestState": "theirs", "inputResponses": {"k": {}}}),
            json!({"odd": 1}),
        );
        near.ask(json!(1), "tools/call", params.clone()).await;
        let mut a = bench.far().await;
        a.open_modern(json!({})).await;
        let call = a.expect("tools/call").await;
        let mut expected = params;
        expected["name"] = json!("t");
        assert_eq!(call["params"], expected);
        let result = json!({"resultType": "input_required", "requestState": "x", "odd": 1});
        a.answer(&call, result.clone()).await;
        assert_eq!(near.answer(json!(1)).await["result"], result);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_when_it_is_discovered_is_a_legacy_one() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.ask(json!(1), "tools/call", modern(json!({"name": "a__t"}), json!({}))).await;
        let mut a = bench.far().await;
        a.expect("server/discover").await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        a.answer(&call, json!({"content": []})).await;
        near.answer(json!(1)).await;
        // The next one is not asked again.
        near.ask(json!(2), "tools/call", modern(json!({"name": "a__t"}), json!({"sampling": {}}))).await;
        let mut other = bench.far().await;
        assert_eq!(other.next().await["method"], "initialize");
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_that_nobody_speaks_is_refused_with_those_that_are() {
        let bench = bench(vec![server("a")]);
        let mut near = bench.client();
        let mut params = modern(json!({}), json!({}));
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2030-01-01");
        near.ask(json!(1), "tools/list", params).await;
        let refused = near.answer(json!(1)).await;
        assert_eq!(refused["error"]["code"], -32022);
        assert_eq!(refused["error"]["data"]["requested"], "2030-01-01");
        assert_eq!(refused["error"]["data"]["supported"][0], "2026-07-28");
        near.ask(json!(2), "tools/list", json!({})).await;
        assert_eq!(near.answer(json!(2)).await["error"]["code"], -32602);
    }

    #[tokio::test(start_paused = true)]
    async fn a_modern_client_is_asked_nothing_that_it_did_not_declare() {
        let mut bench = bench(vec![server("a")]);
        let near = bench.client();
        near.ask(json!(1), "tools/call", modern(json!({"name": "a__t"}), json!({}))).await;
        let mut a = bench.far().await;
        let probe = a.expect("server/discover").await;
        a.refuse(&probe, -32601).await;
        a.open_legacy(json!({})).await;
        a.expect("tools/call").await;
        a.say(json!({"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {}})).await;
        let refused = a.next().await;
        assert_eq!(refused["error"]["code"], -32021);
        assert_eq!(refused["error"]["data"]["requiredCapabilities"], json!({"sampling": {}}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_modern_client_that_listens_hears_what_a_legacy_server_tells() {
        let mut bench = bench(vec![ServerConfig { prefix: Prefix::None, ..server("a") }]);
        let mut near = bench.client();
        let wanted = json!({"notifications": {"toolsListChanged": true, "resourceSubscriptions": ["x://1"]}});
        near.ask(json!("l"), "subscriptions/listen", modern(wanted, json!({}))).await;
        let acknowledged = near.hear("notifications/subscriptions/acknowledged").await;
        let on = json!({"io.modelcontextprotocol/subscriptionId": "l"});
        assert_eq!(acknowledged["params"]["_meta"], on);
        assert_eq!(acknowledged["params"]["notifications"]["toolsListChanged"], true);
        let mut a = bench.far().await;
        let probe = a.expect("server/discover").await;
        a.refuse(&probe, -32601).await;
        a.open_legacy(json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}})).await;
        let subscribed = a.expect("resources/subscribe").await;
        assert_eq!(subscribed["params"]["uri"], "x://1");
        a.answer(&subscribed, json!({})).await;
        a.say(json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": "x://1"}})).await;
        let updated = near.hear("notifications/resources/updated").await;
        assert_eq!(updated["params"], json!({"uri": "x://1", "_meta": on}));
        a.say(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
        assert_eq!(near.hear("notifications/tools/list_changed").await["params"]["_meta"], on);
        near.say(
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "l"}}),
        )
        .await;
        assert_eq!(a.expect("resources/unsubscribe").await["params"]["uri"], "x://1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_legacy_clients_subscription_is_listened_to_at_a_modern_server() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "resources/subscribe", json!({"uri": "x://1"})).await;
        let mut a = bench.far().await;
        let hello = a.expect("initialize").await;
        a.refuse(&hello, -32601).await;
        a.open_modern(json!({"resources": {"subscribe": true}})).await;
        let listen = a.expect("subscriptions/listen").await;
        assert_eq!(listen["params"]["notifications"]["resourceSubscriptions"], json!(["x://1"]));
        assert_eq!(near.answer(json!(1)).await["result"], json!({}));
        let meta = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
        let params = json!({"uri": "x://1", "_meta": meta});
        a.say(json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params})).await;
        assert_eq!(near.hear("notifications/resources/updated").await["params"], json!({"uri": "x://1"}));
    }

    // ── what goes wrong ─────────────────────────────────────────────────────────────────────────

    #[tokio::test(start_paused = true)]
    async fn a_list_waits_only_so_long_and_the_rest_is_told_later() {
        let mut bench = bench(vec![server("a"), server("slow"), server("gone")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        let begun = Instant::now();
        near.ask(json!(1), "tools/list", json!({})).await;
        let (mut a, mut slow, gone) = (bench.far().await, bench.far().await, bench.far().await);
        assert_eq!((a.server, slow.server, gone.server), (0, 1, 2));
        gone.send.send(FromUpstream::Ended(EndReason::Exited("exit status: 1".to_owned()))).await.unwrap();
        // It may only have disliked the revision: it is asked in the other one, once.
        let gone = bench.far().await;
        assert_eq!(gone.server, 2);
        gone.send.send(FromUpstream::Ended(EndReason::Exited("exit status: 1".to_owned()))).await.unwrap();
        a.open_legacy(tools()).await;
        a.list_tools(&["t"]).await;
        let listed = near.answer(json!(1)).await;
        assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 1);
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_secs(9) && waited < Duration::from_secs(11), "{waited:?}");
        slow.open_legacy(tools()).await;
        slow.list_tools(&["late"]).await;
        near.hear("notifications/tools/list_changed").await;
        near.ask(json!(2), "tools/call", json!({"name": "gone__t"})).await;
        let mut gone = bench.far().await;
        assert_eq!(gone.server, 2, "it is started anew for a call");
        gone.open_legacy(json!({})).await;
        gone.expect("tools/call").await;
        gone.send.send(FromUpstream::Ended(EndReason::Exited("exit status: 9".to_owned()))).await.unwrap();
        let lost = near.answer(json!(2)).await;
        assert_eq!(lost["error"]["data"]["server"], "gone");
        assert!(lost["error"]["message"].as_str().unwrap().contains("exit status: 9"), "{lost}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_always_fails_is_given_up() {
        let restart = Restart::OnFailure { attempts_max: 2 };
        let mut bench = bench(vec![ServerConfig { restart, ..server("a") }]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        for id in 0..3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            near.ask(json!(id), "tools/call", json!({"name": "a__t"})).await;
            let far = bench.far().await;
            far.send.send(FromUpstream::Ended(EndReason::Exited("exit status: 1".to_owned()))).await.unwrap();
            assert_eq!(near.answer(json!(id)).await["error"]["data"]["kind"], "unreachable");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        near.ask(json!(9), "tools/call", json!({"name": "a__t"})).await;
        let refused = near.answer(json!(9)).await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("given up"), "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_a_server_that_has_just_failed() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t"})).await;
        let mut far = bench.far().await;
        far.open_legacy(json!({})).await;
        far.expect("tools/call").await;
        far.send.send(FromUpstream::Ended(EndReason::Exited("exit status: 1".to_owned()))).await.unwrap();
        near.answer(json!(1)).await;
        near.ask(json!(2), "tools/call", json!({"name": "a__t"})).await;
        let mut far = bench.far().await;
        far.open_legacy(json!({})).await;
        let call = far.expect("tools/call").await;
        far.answer(&call, json!({"content": []})).await;
        assert_eq!(near.answer(json!(2)).await["result"], json!({"content": []}));
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_is_counted_and_harms_only_its_server() {
        let mut bench = bench(vec![server("a"), server("b")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        for (id, name) in [(1, "a__t"), (2, "b__t")] {
            near.ask(json!(id), "tools/call", json!({"name": name})).await;
        }
        let (mut a, mut b) = (bench.far().await, bench.far().await);
        a.open_legacy(json!({})).await;
        b.open_legacy(json!({})).await;
        let (_, call) = (a.expect("tools/call").await, b.expect("tools/call").await);
        // Nobody asked for these, and this one is another server's.
        a.answer(&json!({"id": call["id"]}), json!({"content": ["stolen"]})).await;
        for n in 0..1_000 {
            let text = if n % 2 == 0 {
                "no message".to_owned()
            } else {
                json!({"id": n + 1_000_000, "result": {}}).to_string()
            };
            let sent = a.send.send(FromUpstream::Message(text.into_bytes())).await;
            assert!(sent.is_ok());
        }
        assert_eq!(near.answer(json!(1)).await["error"]["data"]["server"], "a");
        b.answer(&call, json!({"content": []})).await;
        assert_eq!(near.answer(json!(2)).await["result"], json!({"content": []}));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_server_that_does_not_read_fail_at_once() {
        let mut bench = bench(vec![server("a"), server("b")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(0), "tools/call", json!({"name": "a__t"})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        for id in 1..20 {
            near.ask(json!(id), "tools/call", json!({"name": "a__t"})).await;
        }
        let refused = near.next().await;
        assert!(refused["error"]["message"].as_str().unwrap().contains("does not read"), "{refused}");
        near.ask(json!("b"), "tools/call", json!({"name": "b__t"})).await;
        let mut b = bench.far().await;
        b.open_legacy(json!({})).await;
        let call = b.expect("tools/call").await;
        b.answer(&call, json!({"content": []})).await;
        near.answer(json!("b")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_runs_out_of_time_unless_there_is_progress() {
        let mut config = server("a");
        config.timeouts.call_ms = 5_000;
        config.timeouts.ping_every_ms = None;
        let mut bench = bench(vec![config]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t", "_meta": {"progressToken": 0}})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            let params = json!({"progressToken": call["id"], "progress": 1});
            a.say(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})).await;
        }
        let late = near.answer(json!(1)).await;
        assert_eq!(late["error"]["data"]["kind"], "timeout");
        assert!(begun.elapsed() >= Duration::from_secs(17), "{:?}", begun.elapsed());
        assert_eq!(a.expect("notifications/cancelled").await["params"]["requestId"], call["id"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_idle_is_asked_whether_it_lives() {
        let mut bench = bench(vec![server("a")]);
        let mut near = bench.client();
        near.hello(json!({})).await;
        near.ask(json!(1), "tools/call", json!({"name": "a__t"})).await;
        let mut a = bench.far().await;
        a.open_legacy(json!({})).await;
        let call = a.expect("tools/call").await;
        a.answer(&call, json!({"content": []})).await;
        near.answer(json!(1)).await;
        a.expect("ping").await;
        assert_eq!(a.receive.recv().await, None, "one that does not answer is ended");
        assert!(bench.notes.lock().unwrap().iter().any(|note| note.contains("ping")));
    }
}
