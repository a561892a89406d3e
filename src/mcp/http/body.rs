//! The bodies of our answers: nothing, one message, or a stream of events. It decides nothing.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use tokio::time::{Instant, Sleep, sleep};

use crate::mcp::http::envelope::error;
use crate::mcp::http::headers::{EVENTS, JSON, UNBUFFERED};
use crate::mcp::http::sse::{KEEP_ALIVE, event, priming};
use crate::mcp::http::stream::{Next, Reading};
use crate::mcp::session::Conversation;

/// How long a stream is silent before it says that it lives, in seconds.
const KEEP_ALIVE_S: u64 = 15;
/// When a client may come back to a stream that broke, in milliseconds.
const RETRY_MS: u64 = 1000;

/// An answer.
pub type Answer = Response<Body>;

/// A body of an answer.
pub enum Body {
    /// Nothing, or nothing more.
    Empty,
    /// All of it.
    Whole(Bytes),
    /// What comes.
    Events(Box<Events>),
}

/// A stream of events.
pub struct Events {
    first: Option<Vec<u8>>,
    source: Source,
    quiet: Pin<Box<Sleep>>,
}

enum Source {
    /// A stream of a session, which outlives its connection.
    Resumable(Reading),
    /// What one request of its own gets; gone with its connection.
    Once(Conversation),
    Nothing,
}

impl Events {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        match &mut self.source {
            Source::Nothing => Poll::Ready(None),
            Source::Resumable(reading) => match ready!(reading.poll(context)) {
                Next::Message(number, message) => {
                    let id = format!("{}-{number}", reading.stream.number);
                    Poll::Ready(Some(event(Some(&id), &message)))
                }
                Next::End | Next::Replaced => Poll::Ready(None),
            },
            Source::Once(conversation) => {
                let Some(next) = ready!(conversation.receive.poll_recv(context)) else {
                    return Poll::Ready(None);
                };
                if next.is_answer {
                    self.source = Source::Nothing;
                }
                Poll::Ready(Some(event(None, &next.message)))
            }
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let events = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Self::Events(events) => events,
        };
        let next = match events.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => events.next(context),
        };
        let later = Instant::now() + Duration::from_secs(KEEP_ALIVE_S);
        let Poll::Ready(next) = next else {
            ready!(events.quiet.as_mut().poll(context));
            events.quiet.as_mut().reset(later);
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(KEEP_ALIVE)))));
        };
        events.quiet.as_mut().reset(later);
        if next.is_none() {
            *self = Self::Empty;
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(Bytes::from(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A status alone.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = status;
    answer
}

/// A line of text.
pub fn text(status: StatusCode, line: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Body::Whole(Bytes::from(format!("{line}\n"))))
}

/// One message.
pub fn json(status: StatusCode, message: impl Into<Bytes>) -> Answer {
    answer(status, JSON, Body::Whole(message.into()))
}

/// An error of ours, as a message.
pub fn refusal(status: StatusCode, id: Option<&str>, code: i64, reason: &str) -> Answer {
    json(status, error(id, code, reason, None))
}

/// A method of HTTP that is not for this path.
pub fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// A caller who does not say who he is.
pub fn unknown_caller() -> Answer {
    let mut answer = text(StatusCode::UNAUTHORIZED, "the token of this gateway is missing or wrong");
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"cuddy\""));
    answer
}

fn events(first: Option<Vec<u8>>, source: Source) -> Answer {
    let quiet = Box::pin(sleep(Duration::from_secs(KEEP_ALIVE_S)));
    let body = Body::Events(Box::new(Events { first, source, quiet }));
    let mut answer = answer(StatusCode::OK, EVENTS, body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    answer.headers_mut().insert(UNBUFFERED, HeaderValue::from_static("no"));
    answer
}

/// A stream of a session, from where `reading` stands. Its first event says how to come back.
pub fn resumable(reading: Reading) -> Answer {
    let id = format!("{}-{}", reading.stream.number, reading.last());
    events(Some(priming(&id, RETRY_MS)), Source::Resumable(reading))
}

/// Everything of a conversation up to its response, after `first`.
pub fn once(first: Option<&[u8]>, conversation: Option<Conversation>) -> Answer {
    events(first.map(|message| event(None, message)), conversation.map_or(Source::Nothing, Source::Once))
}

/// A stream without anything.
pub fn no_events() -> Answer {
    events(None, Source::Nothing)
}
