//! Streamable HTTP of the revisions up to 2025-11-25: sessions, answers that can be resumed, a standing
//! stream. It opens and closes sessions; what messages say is for the hub.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use tokio::time::timeout;

use crate::error::{ErrorKind, Fault};
use crate::mcp::era::LEGACY;
use crate::mcp::http::body::{Answer, empty, json, not_allowed, refusal, resumable};
use crate::mcp::http::envelope::{Envelope, Kind, is_modern, read};
use crate::mcp::http::headers::{LAST_EVENT, SESSION, VERSION, accepted, one, value};
use crate::mcp::http::sessions::{Session, SessionError, Sessions};
use crate::mcp::http::stream::{Next, Reading, Stream};
use crate::mcp::message::{INTERNAL_ERROR, INVALID_REQUEST};
use crate::mcp::session::{Door, Face};

/// How long `initialize` may take, in seconds.
const INITIALIZE_S: u64 = 120;
/// How long the hub may take to accept a message, in seconds.
const HUB_S: u64 = 30;
/// How long an answer may take and still be sent alone, without a stream around it, in milliseconds.
const QUICK_MS: u64 = 100;

/// An error of a session, as an answer.
fn refuse(id: Option<&str>, fault: &SessionError) -> Answer {
    let status = match fault.kind() {
        ErrorKind::Limit => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Usage => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let code = if status == StatusCode::BAD_REQUEST { INVALID_REQUEST } else { INTERNAL_ERROR };
    let mut answer = refusal(status, id, code, &fault.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, value("5"));
    }
    answer
}

/// The session that a request names, or what to answer.
fn session_of(
    sessions: &Sessions,
    headers: &HeaderMap,
    id: Option<&str>,
) -> Result<Arc<Session>, Box<Answer>> {
    let bad = |reason: &str| Box::new(refusal(StatusCode::BAD_REQUEST, id, INVALID_REQUEST, reason));
    match one(headers, &VERSION) {
        Ok(Some(version)) if !LEGACY.contains(&version) => {
            return Err(bad(
                "the header `MCP-Protocol-Version` names a revision that this session cannot have",
            ));
        }
        Ok(_) => {}
        Err(reason) => return Err(bad(&reason)),
    }
    let name = match one(headers, &SESSION) {
        Ok(Some(name)) => name,
        Ok(None) => return Err(bad("the header `Mcp-Session-Id` is missing: begin with `initialize`")),
        Err(reason) => return Err(bad(&reason)),
    };
    let gone = || {
        Box::new(refusal(StatusCode::NOT_FOUND, id, INVALID_REQUEST, "there is no such session: begin again"))
    };
    let session = sessions.get(name).ok_or_else(gone)?;
    session.touch();
    Ok(session)
}

/// Answers a POST.
pub async fn post(
    door: &Door,
    sessions: &Arc<Sessions>,
    headers: &HeaderMap,
    body: Vec<u8>,
    envelope: &Envelope<'_>,
) -> Answer {
    let id = envelope.id;
    if envelope.method == "initialize" && envelope.kind == Kind::Request && !headers.contains_key(&SESSION) {
        return initialize(door, sessions, headers, body, id.unwrap_or_default()).await;
    }
    let session = match session_of(sessions, headers, id) {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    if envelope.kind != Kind::Request {
        return match hand_over(&session, body).await {
            Ok(()) => empty(StatusCode::ACCEPTED),
            Err(answer) => *answer,
        };
    }
    let id = id.unwrap_or_default();
    let stream = match session.begin(id) {
        Ok(stream) => stream,
        Err(fault) => return refuse(Some(id), &fault),
    };
    let reading = stream.read_on();
    if let Err(answer) = hand_over(&session, body).await {
        session.withdraw(id);
        return *answer;
    }
    let accepted = accepted(headers);
    match accepted {
        _ if accepted.events && (accepted.events_first || !accepted.json) => resumable(reading),
        _ => alone_or_streamed(&stream, reading, accepted.events).await,
    }
}

async fn hand_over(session: &Session, body: Vec<u8>) -> Result<(), Box<Answer>> {
    match timeout(Duration::from_secs(HUB_S), session.send.send(body)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_gone)) => Err(Box::new(empty(StatusCode::NOT_FOUND))),
        Err(_late) => Err(Box::new(empty(StatusCode::SERVICE_UNAVAILABLE))),
    }
}

/// The answer by itself when it comes at once or the client takes no streams; otherwise a stream that can be
/// resumed, begun early enough that a client whose connection breaks knows where to go on.
async fn alone_or_streamed(stream: &Arc<Stream>, mut reading: Reading, takes_streams: bool) -> Answer {
    let first = if takes_streams {
        timeout(Duration::from_millis(QUICK_MS), reading.next()).await
    } else {
        Ok(last_of(&mut reading).await)
    };
    match first {
        Err(_later) => resumable(reading),
        Ok(Next::Message(_, message)) if !takes_streams || reading.is_at_end() => {
            json(StatusCode::OK, message)
        }
        Ok(Next::Message(..)) => {
            // Taken over before it is let go, so that nothing is forgotten between.
            let again = stream.read_after(0).unwrap_or_else(|| stream.read_on());
            resumable(again)
        }
        Ok(Next::End | Next::Replaced) => empty(StatusCode::NOT_FOUND),
    }
}

/// The last message of a stream; what came before it has no place in one JSON object.
async fn last_of(reading: &mut Reading) -> Next {
    loop {
        match reading.next().await {
            Next::Message(number, message) if reading.is_at_end() => return Next::Message(number, message),
            Next::Message(..) => {}
            other => return other,
        }
    }
}

/// Removes a session that never came to be.
struct Begun<'s> {
    sessions: &'s Sessions,
    session: Arc<Session>,
    is_kept: bool,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.sessions.remove(&self.session.id);
        }
    }
}

async fn initialize(
    door: &Door,
    sessions: &Arc<Sessions>,
    headers: &HeaderMap,
    body: Vec<u8>,
    id: &str,
) -> Answer {
    if let Err(reason) = one(headers, &VERSION) {
        return refusal(StatusCode::BAD_REQUEST, Some(id), INVALID_REQUEST, &reason);
    }
    let session = match sessions.open(door.open(Face::Session)) {
        Ok(session) => session,
        Err(fault) => return refuse(Some(id), &fault),
    };
    let mut begun = Begun { sessions, session, is_kept: false };
    let stream = match begun.session.begin(id) {
        Ok(stream) => stream,
        Err(fault) => return refuse(Some(id), &fault),
    };
    let mut reading = stream.read_on();
    if let Err(answer) = hand_over(&begun.session, body).await {
        return *answer;
    }
    let message = match timeout(Duration::from_secs(INITIALIZE_S), last_of(&mut reading)).await {
        Ok(Next::Message(_, message)) => message,
        Ok(Next::End | Next::Replaced) | Err(_) => {
            return refusal(
                StatusCode::GATEWAY_TIMEOUT,
                Some(id),
                INTERNAL_ERROR,
                "the gateway gave no answer",
            );
        }
    };
    if read(&message).is_ok_and(|envelope| envelope.error_code().is_some()) {
        return json(StatusCode::OK, message);
    }
    begun.is_kept = true;
    let accepted = accepted(headers);
    let again = stream.read_after(0).filter(|_| accepted.events && (accepted.events_first || !accepted.json));
    let mut answer = again.map_or_else(|| json(StatusCode::OK, message), resumable);
    answer.headers_mut().insert(SESSION, value(&begun.session.id));
    answer
}

/// Whether a request without a body is one of a client without sessions.
fn is_of_modern_client(headers: &HeaderMap) -> bool {
    !headers.contains_key(&SESSION) && one(headers, &VERSION).ok().flatten().is_some_and(is_modern)
}

/// Answers a GET: the standing stream, or one that broke.
pub fn get(sessions: &Sessions, headers: &HeaderMap) -> Answer {
    if is_of_modern_client(headers) {
        return not_allowed("POST");
    }
    if !accepted(headers).events {
        return refusal(
            StatusCode::NOT_ACCEPTABLE,
            None,
            INVALID_REQUEST,
            "`Accept` must name `text/event-stream`",
        );
    }
    let session = match session_of(sessions, headers, None) {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    let last = match one(headers, &LAST_EVENT) {
        Ok(None) => return resumable(session.standing.read_on()),
        Ok(Some(last)) => last,
        Err(reason) => return refusal(StatusCode::BAD_REQUEST, None, INVALID_REQUEST, &reason),
    };
    let place =
        last.split_once('-').and_then(|(stream, number)| Some((stream.parse().ok()?, number.parse().ok()?)));
    let reading = place.and_then(|(stream, number)| session.stream(stream)?.read_after(number));
    match reading {
        Some(reading) => resumable(reading),
        None => refusal(
            StatusCode::BAD_REQUEST,
            None,
            INVALID_REQUEST,
            "what came after that event is no longer kept",
        ),
    }
}

/// Answers a DELETE: ends a session.
pub fn delete(sessions: &Sessions, headers: &HeaderMap) -> Answer {
    if is_of_modern_client(headers) {
        return not_allowed("POST");
    }
    match session_of(sessions, headers, None) {
        Ok(session) => {
            sessions.remove(&session.id);
            empty(StatusCode::OK)
        }
        Err(answer) => *answer,
    }
}
