//! Streamable HTTP of revision 2026-07-28: each request alone, its headers checked against its body. The end
//! of the connection cancels the request. It keeps nothing between requests but which arguments of tools
//! are repeated in headers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::mcp::era::{MISSING_CAPABILITY, MODERN, UNSUPPORTED_VERSION};
use crate::mcp::http::body::{Answer, empty, json, once, refusal};
use crate::mcp::http::envelope::{Envelope, HEADER_MISMATCH, Kind, Parameters, read};
use crate::mcp::http::headers::{VERSION, accepted, one};
use crate::mcp::http::mirror::{Body, Mirrored, check, mirrored};
use crate::mcp::message::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND};
use crate::mcp::session::{Conversation, Door, Face, ToClient};

/// How long the hub may take to accept a message, in seconds.
const HUB_S: u64 = 30;
/// How long a client waits for the head of an answer before it is told that a stream follows, in seconds.
const HEAD_S: u64 = 10;
/// How long what was learned of the tools is believed, in seconds.
const KNOWN_S: u64 = 60;
/// How long a call waits until the tools are known, in milliseconds.
const LEARN_MS: u64 = 300;
/// Pages of tools that are looked through.
const PAGES_MAX: usize = 64;
/// Methods of the revisions before, which this one has not.
const GONE: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// What is known of tools whose arguments are repeated in headers.
#[derive(Default)]
struct Known {
    tools: HashMap<String, Vec<Mirrored>>,
    since: Option<Instant>,
}

/// Which arguments of which tool are repeated in headers.
#[derive(Default)]
pub struct Mirrors {
    known: Mutex<Known>,
}

impl Mirrors {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from an answer to `tools/list`; gives where the list goes on.
    fn learn(&self, answer: &[u8]) -> Option<Value> {
        let names_any = answer.windows(12).any(|window| window == b"x-mcp-header");
        if !names_any
            && self.known().tools.is_empty()
            && !answer.windows(12).any(|window| window == b"\"nextCursor\"")
        {
            return None;
        }
        let answer: Value = serde_json::from_slice(answer).ok()?;
        let result = answer.get("result")?;
        let mut known = self.known();
        for tool in result.get("tools").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = tool.get("name").and_then(Value::as_str) else { continue };
            // A tool that repeats arguments wrongly has none that anybody could check.
            let found = tool.get("inputSchema").and_then(|schema| mirrored(schema).ok()).unwrap_or_default();
            if found.is_empty() {
                known.tools.remove(name);
            } else {
                known.tools.insert(name.to_owned(), found);
            }
        }
        result.get("nextCursor").filter(|cursor| cursor.is_string()).cloned()
    }

    /// Asks the hub which tools there are.
    async fn ask(self: Arc<Self>, door: Door) {
        self.known().since = Some(Instant::now());
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let mut params = serde_json::json!({"_meta": {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "cuddy", "version": env!("CARGO_PKG_VERSION")},
                "io.modelcontextprotocol/clientCapabilities": {},
            }});
            if let Some(cursor) = cursor {
                params["cursor"] = cursor;
            }
            let request =
                serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params});
            let mut conversation = door.open(Face::Request);
            let Ok(()) = conversation.send.send(request.to_string().into_bytes()).await else { return };
            let answer = loop {
                match conversation.receive.recv().await {
                    Some(next) if next.is_answer => break next.message,
                    Some(_) => {}
                    None => return,
                }
            };
            cursor = self.learn(&answer);
            if cursor.is_none() {
                return;
            }
        }
    }

    /// What the headers of a call must repeat. The first call waits a moment until that is known; later on
    /// it is learned anew behind the calls.
    async fn of(self: &Arc<Self>, door: &Door, tool: &str) -> Vec<Mirrored> {
        let since = self.known().since;
        if since.is_none_or(|since| since.elapsed() > Duration::from_secs(KNOWN_S)) {
            let asked = tokio::spawn(Arc::clone(self).ask(door.clone()));
            if since.is_none() {
                // What is not known by then is not checked: a slow server must not hold up the others.
                let _late = timeout(Duration::from_millis(LEARN_MS), asked).await;
            }
        }
        self.known().tools.get(tool).cloned().unwrap_or_default()
    }
}

/// The status that an error has in this revision.
fn status_of(code: i64) -> StatusCode {
    match code {
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    }
}

/// What is wrong with a request before anybody looks at what it asks for.
async fn judge(
    mirrors: &Arc<Mirrors>,
    door: &Door,
    headers: &HeaderMap,
    envelope: &Envelope<'_>,
    parameters: &Parameters<'_>,
) -> Result<(), (i64, String)> {
    let missing = parameters.missing();
    if !missing.is_empty() {
        return Err((INVALID_PARAMS, format!("`_meta` lacks `{}`", missing.join("`, `"))));
    }
    let mismatch = |reason: String| (HEADER_MISMATCH, reason);
    let version = one(headers, &VERSION).map_err(mismatch)?;
    let version =
        version.ok_or_else(|| mismatch("the header `MCP-Protocol-Version` is missing".to_owned()))?;
    let named = parameters.version().unwrap_or_default();
    if *version != *named {
        let reason = format!("the header `MCP-Protocol-Version` says `{version}`, the body `{named}`");
        return Err(mismatch(reason));
    }
    if version != MODERN {
        // Which revisions there are is for the hub to say.
        return Ok(());
    }
    let name = parameters.name(&envelope.method);
    let mirrored = match (&*envelope.method, &name) {
        ("tools/call", Some(name)) => mirrors.of(door, name).await,
        _ => Vec::new(),
    };
    let arguments = if mirrored.is_empty() { None } else { parameters.arguments() };
    let body = Body { method: &envelope.method, name: name.as_deref(), arguments: arguments.as_ref() };
    check(headers, &body, &mirrored).map_err(mismatch)
}

/// Answers a POST.
pub async fn post(
    door: &Door,
    mirrors: &Arc<Mirrors>,
    headers: &HeaderMap,
    body: Vec<u8>,
    envelope: &Envelope<'_>,
    parameters: &Parameters<'_>,
) -> Answer {
    match envelope.kind {
        Kind::Request => {}
        // This revision has none that a client sends by HTTP, and one that means nothing is no fault.
        Kind::Notification => return empty(StatusCode::ACCEPTED),
        Kind::Response => {
            let reason = "a client of this revision sends no responses: it repeats its request";
            return refusal(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, reason);
        }
    }
    if let Err((code, reason)) = judge(mirrors, door, headers, envelope, parameters).await {
        return refusal(StatusCode::BAD_REQUEST, envelope.id, code, &reason);
    }
    if GONE.contains(&&*envelope.method) && parameters.version().is_some_and(|version| version == MODERN) {
        let reason = format!("revision {MODERN} has no method `{}`", envelope.method);
        return refusal(StatusCode::NOT_FOUND, envelope.id, METHOD_NOT_FOUND, &reason);
    }
    let conversation = door.open(Face::Request);
    match timeout(Duration::from_secs(HUB_S), conversation.send.send(body)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => {
            let reason = "the gateway takes no requests now";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, envelope.id, INTERNAL_ERROR, reason);
        }
    }
    let is_list = envelope.method == "tools/list";
    answer(conversation, headers, is_list.then_some(&**mirrors), envelope.id).await
}

async fn answer(
    mut conversation: Conversation,
    headers: &HeaderMap,
    mirrors: Option<&Mirrors>,
    id: Option<&str>,
) -> Answer {
    let accepted = accepted(headers);
    let first = if accepted.events {
        timeout(Duration::from_secs(HEAD_S), conversation.receive.recv()).await
    } else {
        Ok(last_of(&mut conversation).await)
    };
    let first = match first {
        Err(_later) => return once(None, Some(conversation)),
        Ok(None) => {
            return refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                id,
                INTERNAL_ERROR,
                "the gateway gave no answer",
            );
        }
        Ok(Some(first)) => first,
    };
    if !first.is_answer {
        return once(Some(&first.message), Some(conversation));
    }
    if let Some(mirrors) = mirrors {
        mirrors.learn(&first.message);
    }
    let code = read(&first.message).ok().and_then(|envelope| envelope.error_code());
    match code.map_or(StatusCode::OK, status_of) {
        StatusCode::OK if accepted.events && (accepted.events_first || !accepted.json) => {
            once(Some(&first.message), None)
        }
        status => json(status, first.message),
    }
}

/// The answer alone, for a client that takes no streams.
async fn last_of(conversation: &mut Conversation) -> Option<ToClient> {
    loop {
        let next = conversation.receive.recv().await?;
        if next.is_answer {
            return Some(next);
        }
    }
}
