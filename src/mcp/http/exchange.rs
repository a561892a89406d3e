//! One request to a server that is reached by HTTP, and all that comes back: one message, or a stream of
//! them that is taken up again where it broke. The server is hostile: what it says is bounded, and a
//! request that it does not answer is answered with an error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response, StatusCode};
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::error::{Error, ErrorKind};
use crate::mcp::era::MODERN;
use crate::mcp::http::envelope::{self, Envelope, Kind, is_modern, read};
use crate::mcp::http::headers::{EVENTS, JSON, LAST_EVENT, SESSION, VERSION, kind, one, value};
use crate::mcp::http::mirror::{Body, Mirrored, headers as mirror_headers, mirrored};
use crate::mcp::http::sse::{Item, Reader, one_line};
use crate::mcp::http::wire::{Asked, Wire, WireError};
use crate::mcp::link::{FromUpstream, pass};
use crate::mcp::message::{Change, INTERNAL_ERROR, Message, Object, Shape};

/// How long a body may pause before its end, in seconds.
const PAUSE_S: u64 = 60;
/// How long a stream may say nothing, not even that it lives, in seconds.
const QUIET_S: u64 = 60 * 60;
/// How much of a refusal is read, in bytes.
const COMPLAINT_BYTES_MAX: usize = 64 * 1024;
/// When a stream that broke is taken up again unless its server says otherwise, in milliseconds.
const RETRY_MS: u64 = 1000;
/// How often in a row a stream is taken up again and brings nothing.
const RESUMES_MAX: u32 = 5;
/// What all answers under way may hold together, as so many of the largest messages.
const HELD_MESSAGES_MAX: usize = 4;

/// How an exchange ended.
#[derive(Debug)]
pub enum Outcome {
    /// Whoever asked has an answer.
    Done,
    /// The server is lost: its session has ended, or it was never there.
    Lost(Error),
}

/// Why an answer cannot be had.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("its answer is larger than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("its answers under way hold more than {bytes_max} bytes together")]
    Full { bytes_max: usize },
    #[error("its answer broke off")]
    Off,
    #[error("its answer is silent for {seconds} s")]
    Silent { seconds: u64 },
    #[error("the gateway is gone")]
    Gone,
}

/// Where a stream stands.
#[derive(Default)]
struct Mark {
    id: Option<String>,
    retry_ms: Option<u64>,
}

/// What the server told us at the beginning; revisions with sessions.
#[derive(Default)]
struct Standing {
    session: Option<HeaderValue>,
    version: Option<String>,
}

/// What all exchanges with one server share.
pub struct Shared {
    wire: Wire,
    out: mpsc::Sender<FromUpstream>,
    bytes_max: usize,
    held_bytes: AtomicUsize,
    standing: Mutex<Standing>,
    mirrors: Mutex<HashMap<String, Vec<Mirrored>>>,
    has_answered: std::sync::atomic::AtomicBool,
}

/// What one exchange holds in memory, taken back when it ends.
struct Held<'s> {
    of: &'s Shared,
    bytes: usize,
}

impl Held<'_> {
    fn set(&mut self, bytes: usize) -> Result<(), Broken> {
        let bytes_max = self.of.bytes_max.saturating_mul(HELD_MESSAGES_MAX);
        self.of.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
        let all = self.of.held_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > bytes_max { Err(Broken::Full { bytes_max }) } else { Ok(()) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.of.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Everything that the exchanges with the server behind `wire` share. What it says goes to `out`.
    pub fn new(wire: Wire, out: mpsc::Sender<FromUpstream>, bytes_max: usize) -> Self {
        Self {
            wire,
            out,
            bytes_max,
            held_bytes: AtomicUsize::new(0),
            standing: Mutex::default(),
            mirrors: Mutex::default(),
            has_answered: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Hands a message to the hub.
    async fn tell(&self, message: Vec<u8>) -> Result<(), Broken> {
        let bytes = message.len();
        pass(&self.out, FromUpstream::Message(message), bytes).await.map_err(|_gone| Broken::Gone)
    }

    /// Answers a request of the hub with an error.
    async fn fail(&self, id: &str, reason: &str, data: Option<&Value>) {
        let place = &self.wire.target.place;
        let message = envelope::error(Some(id), INTERNAL_ERROR, &format!("`{place}`: {reason}"), data);
        // A hub that is gone waits for nothing.
        drop(self.tell(message).await);
    }

    /// The headers of a session; none where there is none.
    fn session_headers(&self, headers: &mut HeaderMap) {
        let standing = locked(&self.standing);
        if let Some(version) = &standing.version {
            headers.insert(VERSION, value(version));
        }
        if let Some(session) = &standing.session {
            headers.insert(SESSION, session.clone());
        }
    }

    fn post_headers(&self, envelope: &Envelope<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let parameters = envelope.parameters().unwrap_or_default();
        let Some(version) = parameters.version().filter(|version| is_modern(version)) else {
            if envelope.method != "initialize" {
                self.session_headers(&mut headers);
            }
            return headers;
        };
        headers.insert(VERSION, value(&version));
        let name = parameters.name(&envelope.method);
        let mirrored = name.as_deref().filter(|_| envelope.method == "tools/call");
        let mirrored = mirrored.and_then(|name| locked(&self.mirrors).get(name).cloned()).unwrap_or_default();
        let arguments = if mirrored.is_empty() { None } else { parameters.arguments() };
        let body = Body { method: &envelope.method, name: name.as_deref(), arguments: arguments.as_ref() };
        headers.extend(
            mirror_headers(&body, &mirrored)
                .into_iter()
                .map(|(name, value)| (Some(name), value))
                .collect::<Vec<_>>(),
        );
        headers
    }

    async fn post(&self, message: &[u8], envelope: &Envelope<'_>) -> Result<Response<Incoming>, WireError> {
        let headers = self.post_headers(envelope);
        let body = Bytes::copy_from_slice(message);
        self.wire.send(&Asked { method: Method::POST, headers: &headers, body }).await
    }

    /// Sends a notification, or an answer to the server's own question.
    pub async fn note(&self, message: &[u8]) -> Outcome {
        let Ok(envelope) = read(message) else { return Outcome::Done };
        match self.post(message, &envelope).await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND && self.has_session() => {
                Outcome::Lost(self.lost())
            }
            // Nobody waits for what comes of a notification.
            Ok(_) | Err(_) => Outcome::Done,
        }
    }

    fn has_session(&self) -> bool {
        locked(&self.standing).session.is_some()
    }

    fn lost(&self) -> Error {
        let place = &self.wire.target.place;
        Error::new(ErrorKind::State, format!("`{place}` has ended the session"))
    }

    /// Sends a request and hands everything to the hub that comes of it.
    pub async fn request(&self, message: &[u8]) -> Outcome {
        let Ok(envelope) = read(message) else { return Outcome::Done };
        let Some(id) = envelope.id else { return Outcome::Done };
        let mut answer = match self.post(message, &envelope).await {
            Ok(answer) => answer,
            Err(fault) => return self.unanswered(id, fault).await,
        };
        if answer.status() == StatusCode::BAD_REQUEST
            && envelope.method == "tools/call"
            && self.learn_tools(&envelope).await
        {
            answer = match self.post(message, &envelope).await {
                Ok(answer) => answer,
                Err(fault) => return self.unanswered(id, fault).await,
            };
        }
        if !answer.status().is_success() {
            return self.refused(id, answer).await;
        }
        self.has_answered.store(true, Ordering::Relaxed);
        if envelope.method == "initialize" {
            locked(&self.standing).session = answer.headers().get(SESSION).cloned();
        }
        match self.answered(&envelope, id, answer).await {
            Ok(()) | Err(Broken::Gone) => {}
            Err(broken) => self.fail(id, &broken.to_string(), None).await,
        }
        Outcome::Done
    }

    /// A server that was never reached is lost, one that was may be back for the next request.
    async fn unanswered(&self, id: &str, fault: WireError) -> Outcome {
        let error = Error::from(fault);
        if !self.has_answered.load(Ordering::Relaxed) {
            return Outcome::Lost(error);
        }
        self.fail(id, &error.to_string(), None).await;
        Outcome::Done
    }

    async fn refused(&self, id: &str, answer: Response<Incoming>) -> Outcome {
        let status = answer.status();
        let wait = one(answer.headers(), &RETRY_AFTER)
            .ok()
            .flatten()
            .map(|wait| wait.chars().take(40).collect::<String>());
        let body = self.whole(answer.into_body(), COMPLAINT_BYTES_MAX).await.unwrap_or_default();
        let place = &self.wire.target.place;
        if status == StatusCode::NOT_FOUND && self.has_session() {
            return Outcome::Lost(self.lost());
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && !self.has_answered.load(Ordering::Relaxed)
        {
            let error = Error::new(ErrorKind::Denied, format!("`{place}` answers {}", status.as_u16()));
            return Outcome::Lost(
                error.hint("its `headers` must say who asks: `Authorization` with a token"),
            );
        }
        // The server's own error says more than a status, under whatever id it says it.
        if let Ok(message) = Message::parse(&body)
            && let Shape::Error { error, .. } = message.shape
        {
            drop(self.tell(one_line(crate::mcp::message::error_response(Some(id), error))).await);
            return Outcome::Done;
        }
        let mut data = json!({"httpStatus": status.as_u16()});
        if let Some(wait) = &wait {
            data["retryAfter"] = Value::from(wait.as_str());
        }
        let later = wait.map(|wait| format!(", and asks to wait {wait} s")).unwrap_or_default();
        self.fail(id, &format!("it answers {}{later}", status.as_u16()), Some(&data)).await;
        Outcome::Done
    }

    async fn answered(
        &self,
        envelope: &Envelope<'_>,
        id: &str,
        answer: Response<Incoming>,
    ) -> Result<(), Broken> {
        match kind(answer.headers()).as_deref() {
            Some(EVENTS) => self.stream(envelope, id, answer.into_body()).await,
            _ => {
                let body = self.whole(answer.into_body(), self.bytes_max).await?;
                if Message::parse(&body).is_err() {
                    self.fail(id, "what it answers is no message of the protocol", None).await;
                    return Ok(());
                }
                self.hand_on(envelope, body).await
            }
        }
    }

    /// Hands a message on; notes what of it this side must know.
    async fn hand_on(&self, envelope: &Envelope<'_>, message: Vec<u8>) -> Result<(), Broken> {
        let message = one_line(message);
        let message = match &*envelope.method {
            "initialize" => {
                self.note_version(&message);
                message
            }
            "tools/list" if envelope.parameters().is_ok_and(|p| p.version().is_some()) => self.shown(message),
            _ => message,
        };
        self.tell(message).await
    }

    fn note_version(&self, message: &[u8]) {
        let Ok(Message { shape: Shape::Result { result, .. }, .. }) = Message::parse(message) else { return };
        let version = Object::parse(result)
            .ok()
            .and_then(|result| result.string("protocolVersion").map(|v| v.into_owned()));
        locked(&self.standing).version = version;
    }

    /// A list of tools without those that mirror their arguments wrongly; notes how the others do.
    fn shown(&self, message: Vec<u8>) -> Vec<u8> {
        if !message.windows(12).any(|window| window == b"x-mcp-header") {
            return message;
        }
        self.shown_parts(&message).unwrap_or(message)
    }

    fn shown_parts(&self, message: &[u8]) -> Option<Vec<u8>> {
        let parsed = Message::parse(message).ok()?;
        let Shape::Result { result, .. } = parsed.shape else { return None };
        let result = Object::parse(result).ok()?;
        let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?).ok()?;
        let mut known = locked(&self.mirrors);
        let keeps = |raw: &&&RawValue| {
            let Ok(tool) = serde_json::from_str::<Value>(raw.get()) else { return true };
            let Some(name) = tool.get("name").and_then(Value::as_str) else { return true };
            let found = tool.get("inputSchema").map_or(Ok(Vec::new()), mirrored);
            let is_right = found.is_ok();
            known.insert(name.to_owned(), found.unwrap_or_default());
            is_right
        };
        let kept: Vec<&str> = tools.iter().filter(keeps).map(|raw| raw.get()).collect();
        if kept.len() == tools.len() {
            return None;
        }
        let result = result.with(&[Change::Set("tools", &format!("[{}]", kept.join(",")))]);
        Some(parsed.object.with(&[Change::Set("result", &result)]).into_bytes())
    }

    /// After a refusal of a modern call: learns how tools mirror their arguments, when this side never asked.
    async fn learn_tools(&self, envelope: &Envelope<'_>) -> bool {
        let Ok(parameters) = envelope.parameters() else { return false };
        let Some(name) = parameters.name(&envelope.method).filter(|_| parameters.version().is_some()) else {
            return false;
        };
        if locked(&self.mirrors).contains_key(&*name) {
            return false;
        }
        let meta = json!({"_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "cuddy", "version": env!("CARGO_PKG_VERSION")},
            "io.modelcontextprotocol/clientCapabilities": {},
        }});
        let list = json!({"jsonrpc": "2.0", "id": "cuddy-tools", "method": "tools/list", "params": meta})
            .to_string();
        let Ok(asked) = read(list.as_bytes()) else { return false };
        let Ok(answer) = self.post(list.as_bytes(), &asked).await else { return false };
        let is_events = kind(answer.headers()).as_deref() == Some(EVENTS);
        let Ok(body) = self.whole(answer.into_body(), self.bytes_max).await else { return false };
        let mut messages = vec![body];
        if is_events {
            let items = Reader::new(self.bytes_max).feed(&messages.remove(0)).unwrap_or_default();
            messages = items
                .into_iter()
                .filter_map(|item| if let Item::Message(message) = item { Some(message) } else { None })
                .collect();
        }
        for message in messages {
            self.shown(message);
        }
        locked(&self.mirrors).get(&*name).is_some_and(|mirrored| !mirrored.is_empty())
    }

    /// A whole body, when it is within its limit.
    async fn whole(&self, mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Broken> {
        let mut held = Held { of: self, bytes: 0 };
        let mut bytes = Vec::new();
        loop {
            let next = timeout(Duration::from_secs(PAUSE_S), body.frame()).await;
            match next.map_err(|_late| Broken::Silent { seconds: PAUSE_S })? {
                None => return Ok(bytes),
                Some(Err(_broke)) => return Err(Broken::Off),
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if bytes.len() + data.len() > bytes_max {
                        return Err(Broken::TooLarge { bytes_max });
                    }
                    bytes.extend_from_slice(&data);
                    held.set(bytes.len())?;
                }
            }
        }
    }

    /// Reads a stream until it holds the answer to `id`, and takes it up again where it broke.
    async fn stream(&self, envelope: &Envelope<'_>, id: &str, body: Incoming) -> Result<(), Broken> {
        let mut mark = Mark::default();
        let mut body = Some(body);
        let mut in_vain = 0;
        loop {
            let before = mark.id.clone();
            if let Some(body) = body.take() {
                match self.events(body, &mut mark, Some((envelope, id))).await {
                    Ok(true) => return Ok(()),
                    Ok(false) | Err(Broken::Off) => {}
                    Err(other) => return Err(other),
                }
            }
            in_vain = if mark.id == before { in_vain + 1 } else { 0 };
            if mark.id.is_none() || !self.has_session() || in_vain > RESUMES_MAX {
                return Err(Broken::Off);
            }
            sleep(Duration::from_millis(mark.retry_ms.unwrap_or(RETRY_MS))).await;
            match self.get(mark.id.as_deref()).await {
                Ok(answer) if answer.status().is_success() => body = Some(answer.into_body()),
                Ok(answer) if answer.status().is_client_error() => return Err(Broken::Off),
                Ok(_) | Err(_) => {}
            }
        }
    }

    async fn get(&self, last: Option<&str>) -> Result<Response<Incoming>, WireError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENTS));
        self.session_headers(&mut headers);
        if let Some(last) = last {
            headers.insert(LAST_EVENT, value(last));
        }
        self.wire.send(&Asked { method: Method::GET, headers: &headers, body: Bytes::new() }).await
    }

    /// Hands the messages of a stream on; whether the answer to the request came.
    async fn events(
        &self,
        mut body: Incoming,
        mark: &mut Mark,
        of: Option<(&Envelope<'_>, &str)>,
    ) -> Result<bool, Broken> {
        let mut reader = Reader::new(self.bytes_max);
        let mut held = Held { of: self, bytes: 0 };
        loop {
            let next = timeout(Duration::from_secs(QUIET_S), body.frame()).await;
            let frame = match next.map_err(|_late| Broken::Silent { seconds: QUIET_S })? {
                None => return Ok(false),
                Some(Err(_broke)) => return Err(Broken::Off),
                Some(Ok(frame)) => frame,
            };
            let data = frame.into_data().unwrap_or_default();
            let items = reader.feed(&data).map_err(|long| Broken::TooLarge { bytes_max: long.bytes_max })?;
            held.set(reader.held_bytes())?;
            for item in items {
                match (item, of) {
                    (Item::Id(id), _) => mark.id = Some(id),
                    (Item::RetryMs(ms), _) => mark.retry_ms = Some(ms),
                    (Item::Message(message), None) => self.tell(one_line(message)).await?,
                    (Item::Message(message), Some((envelope, id))) => {
                        let is_answer =
                            read(&message).is_ok_and(|m| m.kind == Kind::Response && m.id == Some(id));
                        self.hand_on(envelope, message).await?;
                        if is_answer {
                            return Ok(true);
                        }
                    }
                }
            }
        }
    }

    /// Keeps the standing stream of a session open, for as long as the server has one.
    pub async fn listen(&self) -> Outcome {
        let mut mark = Mark::default();
        let mut in_vain: u32 = 0;
        loop {
            let before = mark.id.clone();
            match self.get(mark.id.as_deref()).await {
                Ok(answer) if answer.status() == StatusCode::NOT_FOUND && self.has_session() => {
                    return Outcome::Lost(self.lost());
                }
                Ok(answer) if answer.status().is_client_error() => return Outcome::Done,
                Ok(answer) if answer.status().is_success() => {
                    if kind(answer.headers()).as_deref() != Some(EVENTS) {
                        return Outcome::Done;
                    }
                    match self.events(answer.into_body(), &mut mark, None).await {
                        Err(Broken::Gone) => return Outcome::Done,
                        // Where it stood cannot be found again.
                        Err(Broken::TooLarge { .. } | Broken::Full { .. }) => mark = Mark::default(),
                        Ok(_) | Err(Broken::Off | Broken::Silent { .. }) => {}
                    }
                }
                Ok(_) | Err(_) => {}
            }
            in_vain = if mark.id == before { (in_vain + 1).min(5) } else { 0 };
            sleep(Duration::from_millis(mark.retry_ms.unwrap_or(RETRY_MS).max(100) << in_vain)).await;
        }
    }

    /// Ends the session, when there is one.
    pub async fn leave(&self) {
        if !self.has_session() {
            return;
        }
        let mut headers = HeaderMap::new();
        self.session_headers(&mut headers);
        // A server that does not care ends it later by itself.
        drop(self.wire.send(&Asked { method: Method::DELETE, headers: &headers, body: Bytes::new() }).await);
    }
}
