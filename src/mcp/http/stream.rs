//! One stream of a session to its client: messages in order, kept for a while so that a client whose
//! connection broke can go on where it was. One connection reads it at a time; a later one takes over.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Notify;

/// What a stream keeps of what was sent already, in bytes; the last message is kept however large it is.
const KEPT_BYTES_MAX: usize = 128 * 1024;
/// What waits for a connected client before its session waits too, in bytes.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How long a client may take none of what waits for it before its connection is ended, in seconds.
const STALLED_S: u64 = 30;

struct State {
    /// Messages from `first` on.
    messages: VecDeque<Bytes>,
    /// The number of the oldest message kept; the first one of all is 1.
    first: u64,
    kept_bytes: usize,
    /// The number of the next message that the connection in charge will take.
    taken: u64,
    is_ended: bool,
    /// Which connection is in charge; 0 while there is none.
    reader: u64,
    readers: u64,
    waker: Option<Waker>,
}

/// See the header of this file.
pub struct Stream {
    /// Its number in the session.
    pub number: u64,
    state: Mutex<State>,
    drained: Notify,
}

impl Stream {
    /// An empty stream.
    pub fn new(number: u64) -> Arc<Self> {
        let state = State {
            messages: VecDeque::new(),
            first: 1,
            kept_bytes: 0,
            taken: 1,
            is_ended: false,
            reader: 0,
            readers: 0,
            waker: None,
        };
        Arc::new(Self { number, state: Mutex::new(state), drained: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message at the end. Waits while a connected client has too much to read, and ends the
    /// connection of one that does not read at all.
    pub async fn push(&self, message: Bytes) {
        while self.is_full() {
            let drained = tokio::time::timeout(Duration::from_secs(STALLED_S), self.drained.notified());
            if drained.await.is_err() {
                self.disconnect();
            }
        }
        let mut state = self.state();
        state.kept_bytes += message.len();
        state.messages.push_back(message);
        state.forget();
        state.wake();
    }

    fn is_full(&self) -> bool {
        let state = self.state();
        let taken = usize::try_from(state.taken.saturating_sub(state.first)).unwrap_or(usize::MAX);
        state.reader != 0
            && state.messages.iter().skip(taken).map(Bytes::len).sum::<usize>() > WAITING_BYTES_MAX
    }

    /// Nothing more will come.
    pub fn end(&self) {
        let mut state = self.state();
        state.is_ended = true;
        state.wake();
    }

    /// Ends the connection that reads, if there is one; the stream stays.
    pub fn disconnect(&self) {
        let mut state = self.state();
        state.reader = 0;
        state.wake();
        drop(state);
        self.drained.notify_one();
    }

    /// What it keeps, in bytes.
    pub fn kept_bytes(&self) -> usize {
        self.state().kept_bytes
    }

    /// Whether a connection reads it.
    pub fn is_read(&self) -> bool {
        self.state().reader != 0
    }

    /// Takes over: gives every message behind number `after`, and what comes. `None` when some of them are
    /// no longer kept.
    pub fn read_after(self: &Arc<Self>, after: u64) -> Option<Reading> {
        let mut state = self.state();
        let end = state.first + state.messages.len() as u64;
        if after + 1 < state.first || after >= end {
            return None;
        }
        Some(self.take_over(&mut state, after + 1))
    }

    /// Takes over: gives what no connection has taken yet, and what comes.
    pub fn read_on(self: &Arc<Self>) -> Reading {
        let mut state = self.state();
        let next = state.taken.max(state.first);
        self.take_over(&mut state, next)
    }

    fn take_over(self: &Arc<Self>, state: &mut State, next: u64) -> Reading {
        state.readers += 1;
        state.reader = state.readers;
        state.taken = next;
        state.wake();
        self.drained.notify_one();
        Reading { stream: Arc::clone(self), reader: state.readers }
    }
}

impl State {
    /// Lets go of the oldest messages: sent ones, or any when nobody reads.
    fn forget(&mut self) {
        while self.kept_bytes > KEPT_BYTES_MAX
            && self.messages.len() > 1
            && (self.reader == 0 || self.first < self.taken)
        {
            let gone = self.messages.pop_front().map_or(0, |message| message.len());
            self.kept_bytes -= gone;
            self.first += 1;
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a connection sees of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The message of this number.
    Message(u64, Bytes),
    /// The stream has ended.
    End,
    /// Another connection has taken over, or this one was too slow.
    Replaced,
}

/// The right of one connection to read a stream.
pub struct Reading {
    /// Which.
    pub stream: Arc<Stream>,
    reader: u64,
}

impl Reading {
    /// The number of the last message that was taken; 0 before the first.
    pub fn last(&self) -> u64 {
        self.stream.state().taken.saturating_sub(1)
    }

    /// Whether everything was taken, and nothing more will come.
    pub fn is_at_end(&self) -> bool {
        let state = self.stream.state();
        state.is_ended && state.taken >= state.first + state.messages.len() as u64
    }

    /// The next message, when it is there.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.stream.state();
        if state.reader != self.reader {
            return Poll::Ready(Next::Replaced);
        }
        let number = state.taken.max(state.first);
        let index = usize::try_from(number - state.first).unwrap_or(usize::MAX);
        if let Some(message) = state.messages.get(index).cloned() {
            state.taken = number + 1;
            state.forget();
            drop(state);
            self.stream.drained.notify_one();
            return Poll::Ready(Next::Message(number, message));
        }
        if state.is_ended {
            return Poll::Ready(Next::End);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits for the next message.
    pub async fn next(&mut self) -> Next {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        if state.reader == self.reader {
            state.reader = 0;
            state.forget();
            drop(state);
            self.stream.drained.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn push(stream: &Stream, text: &str) {
        stream.push(Bytes::copy_from_slice(text.as_bytes())).await;
    }

    fn is(number: u64, text: &str) -> Next {
        Next::Message(number, Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_has_not_seen_and_nothing_twice() {
        run(async {
            let stream = Stream::new(1);
            let mut reading = stream.read_on();
            push(&stream, "a").await;
            push(&stream, "b").await;
            assert_eq!(reading.next().await, is(1, "a"));
            assert_eq!(reading.next().await, is(2, "b"));
            drop(reading);
            push(&stream, "c").await;
            stream.end();
            let mut again = stream.read_after(1).unwrap();
            assert_eq!(again.next().await, is(2, "b"));
            assert_eq!(again.next().await, is(3, "c"));
            assert_eq!(again.next().await, Next::End);
            assert!(stream.read_after(0).is_some() && stream.read_after(4).is_none());
        });
    }

    #[test]
    fn a_later_connection_takes_over_from_an_earlier_one() {
        run(async {
            let stream = Stream::new(1);
            let mut first = stream.read_on();
            let mut second = stream.read_on();
            push(&stream, "a").await;
            assert_eq!(first.next().await, Next::Replaced);
            drop(first);
            assert_eq!(second.next().await, is(1, "a"), "the end of the first does not end the second");
        });
    }

    #[test]
    fn a_stream_that_nobody_reads_keeps_the_latest_within_its_limit() {
        run(async {
            let stream = Stream::new(1);
            let message = "x".repeat(1000);
            for _ in 0..1000 {
                push(&stream, &message).await;
            }
            assert!(stream.kept_bytes() <= KEPT_BYTES_MAX);
            assert!(stream.read_after(0).is_none(), "what is forgotten is not passed over in silence");
            assert_eq!(stream.read_on().next().await, is(870, &message));
            let large = "y".repeat(KEPT_BYTES_MAX * 2);
            push(&stream, &large).await;
            assert_eq!(stream.read_on().next().await, is(1001, &large), "the last one is always kept");
        });
    }

    #[test]
    fn what_waits_for_a_connected_client_is_never_forgotten() {
        run(async {
            let stream = Stream::new(1);
            let mut reading = stream.read_on();
            let message = "x".repeat(KEPT_BYTES_MAX / 2);
            for _ in 0..10 {
                push(&stream, &message).await;
            }
            for number in 1..=10 {
                assert_eq!(reading.next().await, is(number, &message));
            }
        });
    }

    #[test]
    fn who_puts_messages_in_waits_for_a_client_that_reads_slowly() {
        run(async {
            let stream = Stream::new(1);
            let mut reading = stream.read_on();
            let message = "x".repeat(WAITING_BYTES_MAX + 1);
            push(&stream, &message).await;
            let (pushed, read) =
                tokio::join!(tokio::time::timeout(Duration::from_secs(20), push(&stream, "next")), async {
                    tokio::task::yield_now().await;
                    let first = reading.next().await;
                    (first, reading.next().await)
                });
            assert!(pushed.is_ok());
            assert_eq!(read, (is(1, &message), is(2, "next")));
        });
    }
}
