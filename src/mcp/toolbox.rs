//! Our own MCP servers: a table of tools, carried out by blocking code on a few threads.
//!
//! A server is a `Toolbox`; `serve_stdio` gives it standard input and output in both eras of the
//! protocol. What the tools do is theirs. Quick calls and long ones have threads of their own, so that
//! a small call never waits for a long one. Nothing here starts a process or knows a folder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use rmcp::transport::async_rw::AsyncRwTransport;
use rustix::event::EventfdFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};

use crate::error::{Error, ErrorKind};

/// Largest message of a client, in bytes: what is longer is dropped by the transport.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Largest reply, in bytes of text: a client that gets more than its model can read gains nothing.
pub const REPLY_BYTES_MAX: usize = 8 << 20;
/// Quick calls under way at once.
const QUICK_MAX: usize = 4;
/// Long calls under way at once.
const LONG_MAX: usize = 32;
/// Calls under way or waiting, in both lanes; one more is refused.
const CALLS_MAX: usize = 512;
/// Progress messages of one call that the client has not taken yet.
const PROGRESS_MAX: usize = 64;
/// How long a quick call may take, in seconds.
const QUICK_DEADLINE_S: u64 = 60;
/// How long a long call may take, in seconds.
const LONG_DEADLINE_S: u64 = 24 * 60 * 60;
/// How long calls under way may take to end once nobody waits for them.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A server: what it is called, which tools it has, what they do.
pub trait Toolbox: Send + Sync + 'static {
    /// Who it says it is.
    fn info(&self) -> Info;

    /// Its tools, in the order in which they are listed. Asked once.
    fn tools(&self) -> Vec<Tool>;

    /// The tools as they are listed, for who must say it word for word.
    fn definitions(&self) -> Vec<Value> {
        self.tools().iter().map(Tool::definition).collect()
    }

    /// Largest reply, in bytes of text.
    fn reply_bytes_max(&self) -> usize {
        REPLY_BYTES_MAX
    }

    /// Carries one call out. Runs on a thread that may block; `name` is one of [`tools`](Self::tools).
    fn call(&self, name: &str, arguments: Map<String, Value>, context: &Context) -> Reply;
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct Info {
    /// For programs: `cuddy-serve`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// How a model uses the tools together.
    pub instructions: String,
}

/// Which threads a tool's calls run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Ends within milliseconds.
    Quick,
    /// May wait for a program, a network or a large disk.
    Long,
}

/// What a client may believe of a tool, as the protocol's annotations have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hints {
    /// It changes nothing.
    pub read_only: bool,
    /// It may destroy or overwrite.
    pub destructive: bool,
    /// A second call with the same arguments changes nothing more.
    pub idempotent: bool,
    /// It reaches beyond this host.
    pub open_world: bool,
}

impl Hints {
    /// Looks, changes nothing.
    pub const READ: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Adds, destroys nothing.
    pub const ADD: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: false };
    /// May destroy.
    pub const DESTROY: Self =
        Self { read_only: false, destructive: true, idempotent: false, open_world: false };

    /// The same, and a second call changes nothing more.
    #[must_use]
    pub const fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// The same, and it reaches beyond this host.
    #[must_use]
    pub const fn open_world(self) -> Self {
        Self { open_world: true, ..self }
    }
}

/// One tool, as it is listed.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it does and when to use it, short.
    pub description: String,
    /// The JSON schema of its arguments: an object.
    pub input: Value,
    /// The JSON schema of what it gives as structured content.
    pub output: Option<Value>,
    /// What a client may believe of it.
    pub hints: Hints,
    /// Where its calls run.
    pub lane: Lane,
    /// What more there is to say, for programs.
    pub meta: Option<Map<String, Value>>,
}

impl Tool {
    /// As the protocol writes it.
    pub fn definition(&self) -> Value {
        let mut definition = json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": self.input,
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.hints.read_only,
                "destructiveHint": self.hints.destructive,
                "idempotentHint": self.hints.idempotent,
                "openWorldHint": self.hints.open_world,
            },
        });
        if let Some(output) = &self.output {
            definition["outputSchema"] = output.clone();
        }
        if let Some(meta) = &self.meta {
            definition["_meta"] = Value::Object(meta.clone());
        }
        definition
    }
}

/// What a call gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// Content blocks as the protocol writes them.
    pub content: Vec<Value>,
    /// The result for programs.
    pub structured: Option<Value>,
    /// The call failed.
    pub is_error: bool,
    /// What more there is to say, for programs.
    pub meta: Option<Map<String, Value>>,
}

impl Reply {
    /// A text for people and models.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![json!({ "type": "text", "text": text.into() })], ..Self::default() }
    }

    /// A result for programs, and the same as text for models.
    pub fn structured(value: Value) -> Self {
        Self { structured: Some(value.clone()), ..Self::text(value.to_string()) }
    }

    /// A result for programs with a text of its own for models.
    pub fn both(text: impl Into<String>, value: Value) -> Self {
        Self { structured: Some(value), ..Self::text(text) }
    }

    /// About as many bytes as it has on the wire.
    pub fn bytes(&self) -> usize {
        let content: usize = self.content.iter().map(weight).sum();
        content + self.structured.as_ref().map_or(0, weight)
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let hint = failure.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
        let text = format!("{}{hint}", failure.message);
        let structured = serde_json::to_value(&failure).unwrap_or_default();
        Self { is_error: true, ..Self::both(text, structured) }
    }
}

impl<E: Into<Failure>> From<Result<Self, E>> for Reply {
    fn from(result: Result<Self, E>) -> Self {
        result.unwrap_or_else(|failure| failure.into().into())
    }
}

/// Bytes of text in a value; brackets and numbers count a little.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + items.len() + 2,
        Value::Object(map) => map.iter().map(|(key, v)| key.len() + 4 + weight(v)).sum::<usize>() + 2,
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Why a call failed: the first line is for people, the rest for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// What a program may branch on: `not_found`, `invalid_arguments`.
    pub code: String,
    /// The path it is about, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What happened, in one line.
    pub message: String,
    /// What the caller can do now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The same call may succeed later.
    pub retryable: bool,
    /// What more there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<Value>>,
}

impl Failure {
    /// A failure with a code and one line.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let (code, message) = (code.into(), message.into());
        Self { code, path: None, message, hint: None, retryable: false, data: None }
    }

    /// The same with what the caller can do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the path it is about.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same, and the call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// The same with what more there is to say.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = Some(Box::new(data));
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The kind's own name in JSON is its code.
        let code = serde_json::to_value(error.kind).ok();
        let code = code.as_ref().and_then(Value::as_str).unwrap_or("failed").to_owned();
        let hint = (!error.hints.is_empty()).then(|| error.hints.join("\n"));
        let retryable = matches!(error.kind, ErrorKind::Unreachable);
        Self { hint, retryable, ..Self::new(code, error.to_string()) }
    }
}

/// A call's arguments as a type of the tool.
///
/// # Errors
/// `invalid_arguments`, with what was expected.
pub fn arguments<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Failure> {
    serde_json::from_value(Value::Object(arguments)).map_err(|e| {
        Failure::new("invalid_arguments", format!("the arguments do not fit the tool: {e}"))
            .hint("compare them with the tool's input schema")
    })
}

/// What a call may ask while it runs.
#[derive(Debug)]
pub struct Context {
    progress: Option<mpsc::Sender<ProgressNotificationParam>>,
    token: Option<rmcp::model::ProgressToken>,
    end: Arc<EndOfCall>,
    deadline: Instant,
}

impl Context {
    /// A context of nobody, which is never cancelled: for tests and for calls from within.
    ///
    /// # Errors
    /// What the kernel says when it has no more descriptors.
    pub fn detached() -> Result<Self, Failure> {
        Ok(Self { progress: None, token: None, end: EndOfCall::new()?, deadline: deadline(Lane::Long) })
    }

    /// Whether nobody waits for the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.end.is_over.load(Ordering::Acquire)
    }

    /// Becomes readable when the call is cancelled, for who waits in poll(2).
    pub fn cancelled_fd(&self) -> BorrowedFd<'_> {
        self.end.event.as_fd()
    }

    /// When the call must have ended.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the client wants to hear how far the call is.
    pub fn wants_progress(&self) -> bool {
        self.progress.is_some() && self.token.is_some()
    }

    /// Tells the client how far the call is; `progress` must grow. `false` when the client has too much
    /// before it to take more now, or does not want to hear.
    pub fn progress(&self, progress: f64, total: Option<f64>, message: impl Into<String>) -> bool {
        let (Some(sender), Some(token)) = (&self.progress, &self.token) else { return false };
        let mut notification = ProgressNotificationParam::new(token.clone(), progress);
        notification.total = total;
        notification.message = Some(message.into());
        sender.try_send(notification).is_ok()
    }
}

fn deadline(lane: Lane) -> Instant {
    let seconds = match lane {
        Lane::Quick => QUICK_DEADLINE_S,
        Lane::Long => LONG_DEADLINE_S,
    };
    Instant::now() + Duration::from_secs(seconds)
}

/// Says to a blocking call that nobody waits for it.
#[derive(Debug)]
struct EndOfCall {
    is_over: AtomicBool,
    event: OwnedFd,
}

impl EndOfCall {
    fn new() -> Result<Arc<Self>, Failure> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Failure::new("failed", format!("no descriptor for the call: {e}")).retryable())?;
        Ok(Arc::new(Self { is_over: AtomicBool::new(false), event }))
    }
}

/// Ends the call when whoever waited for it is gone.
struct Waiter(Arc<EndOfCall>);

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        // A counter that is full has been readable for long.
        let _told = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
    }
}

/// The face of a toolbox to the protocol.
struct Face<T> {
    toolbox: Arc<T>,
    config: ServerConfig,
    listed: Vec<rmcp::model::Tool>,
    lanes: Vec<(String, Lane)>,
    quick: Semaphore,
    long: Semaphore,
    calls: Arc<AtomicUsize>,
}

impl<T: Toolbox> Face<T> {
    fn new(toolbox: T) -> Self {
        let info = toolbox.info();
        let config = ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new(info.name, env!("CARGO_PKG_VERSION")).with_title(info.title),
            )
            .with_instructions(info.instructions);
        let tools = toolbox.tools();
        let definitions = toolbox.definitions().into_iter();
        let listed = definitions.filter_map(|definition| serde_json::from_value(definition).ok()).collect();
        let lanes = tools.into_iter().map(|tool| (tool.name, tool.lane)).collect();
        Self {
            toolbox: Arc::new(toolbox),
            config,
            listed,
            lanes,
            quick: Semaphore::new(QUICK_MAX),
            long: Semaphore::new(LONG_MAX),
            calls: Arc::default(),
        }
    }

    async fn carry_out(
        &self,
        lane: Lane,
        request: CallToolRequestParams,
        asked: RequestContext<RoleServer>,
    ) -> Reply {
        let semaphore = match lane {
            Lane::Quick => &self.quick,
            Lane::Long => &self.long,
        };
        let end = match EndOfCall::new() {
            Ok(end) => end,
            Err(failure) => return failure.into(),
        };
        let waiter = Waiter(Arc::clone(&end));
        let _turn = tokio::select! {
            turn = semaphore.acquire() => turn,
            () = asked.ct.cancelled() => return cancelled(),
        };
        let (sender, mut progress) = mpsc::channel(PROGRESS_MAX);
        let token = asked.meta.get_progress_token();
        let context = Context { progress: Some(sender), token, end, deadline: deadline(lane) };
        let toolbox = Arc::clone(&self.toolbox);
        let mut work = tokio::task::spawn_blocking(move || {
            toolbox.call(&request.name, request.arguments.unwrap_or_default(), &context)
        });
        let mut waiter = Some(waiter);
        let done = loop {
            tokio::select! {
                biased;
                // The sender ends with the call, so what was said last is told before the result.
                said = progress.recv() => match said {
                    Some(said) => drop(asked.peer.notify_progress(said).await),
                    None => break (&mut work).await,
                },
                () = asked.ct.cancelled(), if waiter.is_some() => drop(waiter.take()),
            }
        };
        match done {
            Ok(reply) if reply.bytes() <= self.toolbox.reply_bytes_max() => reply,
            Ok(reply) => too_large(reply.bytes(), self.toolbox.reply_bytes_max()),
            Err(_panicked) => Failure::new("bug", "the tool failed inside: this is a defect of cuddy").into(),
        }
    }
}

fn cancelled() -> Reply {
    Failure::new("cancelled", "the call was cancelled before it began").into()
}

fn too_large(bytes: usize, bytes_max: usize) -> Reply {
    Failure::new("too_large", format!("the result has {bytes} bytes, {bytes_max} are the most"))
        .hint("ask for less at once")
        .into()
}

/// Counts a call as under way until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T: Toolbox> rmcp::ServerHandler for Face<T> {
    fn get_info(&self) -> ServerConfig {
        self.config.clone()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.listed.clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some((_, lane)) = self.lanes.iter().find(|(name, _)| *name == request.name) else {
            return Err(ErrorData::invalid_params(format!("unknown tool `{}`", request.name), None));
        };
        let before = self.calls.fetch_add(1, Ordering::AcqRel);
        let _counted = Counted(&self.calls);
        let reply = if before < CALLS_MAX {
            self.carry_out(*lane, request, context).await
        } else {
            let text = format!("{before} calls are under way, and {CALLS_MAX} are the most");
            Failure::new("busy", text).hint("wait for some of them").retryable().into()
        };
        Ok(result(reply).into())
    }
}

/// A reply in the protocol's types.
fn result(reply: Reply) -> CallToolResult {
    let blocks = reply.content.into_iter().map(serde_json::from_value::<ContentBlock>);
    let content = blocks.filter_map(Result::ok).collect();
    let mut result = CallToolResult::success(content);
    result.is_error = Some(reply.is_error);
    result.structured_content = reply.structured;
    result.meta = reply.meta.and_then(|meta| serde_json::from_value(Value::Object(meta)).ok());
    result
}

/// Serves a toolbox on standard input and output until the client closes them or somebody asks this
/// process to end; gives the exit code.
pub fn serve_stdio(toolbox: impl Toolbox) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Both lanes, and the two that read and write where no pipe is.
        .max_blocking_threads(QUICK_MAX + LONG_MAX + 2)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let Ok(runtime) = runtime else { return 1 };
    let face = Face::new(toolbox);
    let calls = Arc::clone(&face.calls);
    let code = runtime.block_on(serve(face));
    // What is under way has been told to end, and hears it now; what does not end is left behind.
    let ended = async {
        while calls.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _all = runtime.block_on(async { tokio::time::timeout(END_PATIENCE, ended).await });
    runtime.shutdown_background();
    code
}

async fn serve<T: Toolbox>(face: Face<T>) -> i32 {
    let (Ok(mut terminated), Ok(mut interrupted)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return 1;
    };
    let (input, output) = rmcp::transport::stdio_pipes();
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(LINE_BYTES_MAX);
    let conversation = async {
        match face.serve(transport).await {
            Ok(running) => match running.waiting().await {
                Ok(_closed) => 0,
                Err(_panicked) => 1,
            },
            // A client that leaves before it has said anything is no fault of ours.
            Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => 0,
            Err(_) => 1,
        }
    };
    tokio::select! {
        code = conversation => code,
        _ = terminated.recv() => 128 + 15,
        _ = interrupted.recv() => 128 + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Toolbox for Echo {
        fn info(&self) -> Info {
            Info { name: "echo", title: "Echo", instructions: "say something".to_owned() }
        }

        fn tools(&self) -> Vec<Tool> {
            let tool = |name: &str, lane| Tool {
                name: name.to_owned(),
                title: name.to_owned(),
                description: "says it again".to_owned(),
                input: json!({ "type": "object" }),
                output: None,
                hints: Hints::READ,
                lane,
                meta: None,
            };
            vec![tool("say", Lane::Quick), tool("wait", Lane::Long), tool("panic", Lane::Quick)]
        }

        fn call(&self, name: &str, arguments: Map<String, Value>, context: &Context) -> Reply {
            match name {
                "say" => Reply::structured(Value::Object(arguments)),
                "wait" => {
                    while !context.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Reply::text("cancelled")
                }
                _ => panic!("as asked"),
            }
        }
    }

    /// Sends lines to a server in this process and gives what comes back, one line for each request.
    fn converse(lines: &[Value], replies: usize) -> Vec<Value> {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            let (read, write) = tokio::io::split(theirs);
            let server = tokio::spawn(async move {
                let running = Face::new(Echo).serve(AsyncRwTransport::new_server(read, write)).await.unwrap();
                running.waiting().await.unwrap();
            });
            let (read, mut write) = tokio::io::split(ours);
            for line in lines {
                write.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
            let mut answers = BufReader::new(read).lines();
            let mut got = Vec::new();
            while got.len() < replies {
                got.push(serde_json::from_str(&answers.next_line().await.unwrap().unwrap()).unwrap());
            }
            drop((write, answers));
            server.abort();
            got
        })
    }

    fn initialize() -> Vec<Value> {
        vec![
            json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "t", "version": "1" } } }),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        ]
    }

    fn call(id: u32, name: &str, arguments: &Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": { "name": name, "arguments": arguments } })
    }

    #[test]
    fn a_quick_call_does_not_wait_for_a_long_one() {
        let mut lines = initialize();
        lines.extend((1..=50).map(|id| call(id, "wait", &json!({}))));
        lines.push(call(99, "say", &json!({ "a": 1 })));
        let replies = converse(&lines, 2);
        assert_eq!(replies[1]["id"], 99);
        assert_eq!(replies[1]["result"]["structuredContent"], json!({ "a": 1 }));
    }

    #[test]
    fn a_tool_that_panics_ends_its_call_and_no_other() {
        let mut lines = initialize();
        lines.push(call(1, "panic", &json!({})));
        let replies = converse(&lines, 2);
        assert_eq!(replies[1]["result"]["isError"], true);
        assert_eq!(replies[1]["result"]["structuredContent"]["code"], "bug");
    }

    #[test]
    fn an_unknown_tool_is_an_error_of_the_protocol() {
        let mut lines = initialize();
        lines.push(call(1, "nothing", &json!({})));
        assert_eq!(converse(&lines, 2)[1]["error"]["code"], -32602);
    }

    #[test]
    fn both_eras_are_served() {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let modern = [
            json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": { "_meta": meta } }),
            json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": { "_meta": meta } }),
        ];
        let replies = converse(&modern, 2);
        assert!(replies[0]["result"]["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
        assert_eq!(replies[1]["result"]["tools"].as_array().unwrap().len(), 3);
        assert_eq!(replies[1]["result"]["tools"][0]["annotations"]["readOnlyHint"], true);
    }

    #[test]
    fn a_result_that_is_too_large_is_an_error_and_not_sent() {
        let reply = Reply::text("x".repeat(REPLY_BYTES_MAX));
        assert!(reply.bytes() > REPLY_BYTES_MAX);
        assert_eq!(too_large(reply.bytes(), REPLY_BYTES_MAX).structured.unwrap()["code"], "too_large");
    }

    #[test]
    fn a_failure_is_a_line_for_people_and_a_record_for_programs() {
        let error = Error::new(ErrorKind::NotFound, "no sandbox `x`").hint("list them");
        let reply = Reply::from(Failure::from(error));
        assert_eq!(reply.content[0]["text"], "no sandbox `x`\nlist them");
        let record = reply.structured.unwrap();
        assert_eq!(
            (record["code"].as_str(), record["retryable"].as_bool()),
            (Some("not_found"), Some(false))
        );
    }
}
