//! What joins a front (standard input and output, HTTP) to the hub: conversations.
//!
//! A front opens one conversation for each client, or for each request of a client that has no session,
//! and carries messages; what they mean is for the hub. Dropping what receives ends a conversation and
//! cancels what it has under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind};
use crate::mcp::link::{FromUpstream, Gone, pass};

/// Messages of clients and servers that wait for the hub.
pub const EVENTS_MAX: usize = 256;

/// How a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Standard input and output: one client of either era.
    Stdio,
    /// A session of HTTP: one client of the era with `initialize`.
    Session,
    /// One request of HTTP, of the era without sessions.
    Request,
}

/// Which conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationId(pub u64);

/// Which start of which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u64);

/// A message for a client.
#[derive(Debug)]
pub struct ToClient {
    /// One JSON-RPC message, without a newline at its end.
    pub message: Vec<u8>,
    /// The id of the client's request that it belongs to, as the client wrote it; `None` for what belongs
    /// to no request.
    pub about: Option<Vec<u8>>,
    /// Whether it is the answer to that request: the last message about it.
    pub is_answer: bool,
}

/// A client's two ends.
#[derive(Debug)]
pub struct Conversation {
    /// What the client says.
    pub send: ToHub,
    /// What the client is told; dropped, the conversation ends.
    pub receive: FromHub,
}

/// Carries what a client says.
#[derive(Debug, Clone)]
pub struct ToHub {
    id: ConversationId,
    events: mpsc::Sender<Event>,
    control: mpsc::UnboundedSender<Control>,
}

impl ToHub {
    /// Hands a message of the client on; waits while the hub has enough to do.
    ///
    /// # Errors
    /// When the hub is gone.
    pub async fn send(&self, message: Vec<u8>) -> Result<(), Gone> {
        let bytes = message.len();
        pass(&self.events, Event::Client(self.id, message), bytes).await
    }

    /// Says that the client will say nothing more; what it asked is still answered, then `receive` ends.
    ///
    /// # Errors
    /// When the hub is gone.
    pub async fn finish(&self) -> Result<(), Gone> {
        // Through the same queue as the messages: it must not overtake them.
        self.events.send(Event::Finished(self.id)).await.map_err(|_gone| Gone)
    }

    /// Which conversation it is.
    pub fn id(&self) -> ConversationId {
        self.id
    }

    /// Ends the conversation at once.
    pub fn close(&self) {
        // A hub that is gone has ended it already.
        drop(self.control.send(Control::Closed(self.id)));
    }
}

/// Carries what a client is told.
#[derive(Debug)]
pub struct FromHub {
    id: ConversationId,
    receive: mpsc::UnboundedReceiver<ToClient>,
    queued_bytes: Arc<AtomicUsize>,
    control: mpsc::UnboundedSender<Control>,
}

impl FromHub {
    /// The next message; `None` when the conversation has ended.
    pub async fn recv(&mut self) -> Option<ToClient> {
        let next = self.receive.recv().await?;
        self.queued_bytes.fetch_sub(next.message.len(), Ordering::Relaxed);
        Some(next)
    }

    /// The next message, for who polls.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<ToClient>> {
        let next = ready!(self.receive.poll_recv(context));
        if let Some(next) = &next {
            self.queued_bytes.fetch_sub(next.message.len(), Ordering::Relaxed);
        }
        Poll::Ready(next)
    }

    /// The next message, when one waits already.
    pub fn try_recv(&mut self) -> Option<ToClient> {
        let next = self.receive.try_recv().ok()?;
        self.queued_bytes.fetch_sub(next.message.len(), Ordering::Relaxed);
        Some(next)
    }
}

impl Drop for FromHub {
    fn drop(&mut self) {
        // A hub that is gone has ended it already.
        drop(self.control.send(Control::Closed(self.id)));
    }
}

/// The hub's end of a conversation.
#[derive(Debug)]
pub struct Outbox {
    send: mpsc::UnboundedSender<ToClient>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// Hands a message over; the queue has no end of its own: who sends looks at [`Outbox::queued_bytes`].
    pub fn send(&self, message: ToClient) {
        self.queued_bytes.fetch_add(message.message.len(), Ordering::Relaxed);
        // A client that is gone has no use for it.
        drop(self.send.send(message));
    }

    /// What waits for the client, in bytes.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }
}

/// What the hub has to take notice of, in order.
#[derive(Debug)]
pub enum Event {
    /// A client said something.
    Client(ConversationId, Vec<u8>),
    /// A client will say nothing more.
    Finished(ConversationId),
    /// A server said something, or ended.
    Upstream(InstanceId, FromUpstream),
}

/// What the hub takes notice of before anything else.
#[derive(Debug)]
pub enum Control {
    /// A conversation begins.
    Opened(ConversationId, Face, Outbox),
    /// A conversation is over.
    Closed(ConversationId),
    /// Somebody at another terminal wants something of a server: its name.
    Order(Order, String, oneshot::Sender<Result<(), Error>>),
    /// Everything is to end.
    End,
}

/// What a server is to do for somebody at another terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// End, and stay so.
    Stop,
    /// Start, whatever happened before.
    Start,
    /// What of its definitions is accepted has changed.
    Accepted,
}

/// Where fronts come in.
#[derive(Debug, Clone)]
pub struct Door {
    next: Arc<AtomicU64>,
    events: mpsc::Sender<Event>,
    control: mpsc::UnboundedSender<Control>,
}

/// What comes through the door.
#[derive(Debug)]
pub struct Inside {
    /// What happens, in order.
    pub events: mpsc::Receiver<Event>,
    /// What goes before that.
    pub control: mpsc::UnboundedReceiver<Control>,
}

impl Door {
    /// A door, and what the hub keeps of it.
    pub fn new() -> (Self, Inside) {
        let (events, from_events) = mpsc::channel(EVENTS_MAX);
        let (control, from_control) = mpsc::unbounded_channel();
        let inside = Inside { events: from_events, control: from_control };
        (Self { next: Arc::new(AtomicU64::new(1)), events, control }, inside)
    }

    /// Begins a conversation.
    pub fn open(&self, face: Face) -> Conversation {
        let id = ConversationId(self.next.fetch_add(1, Ordering::Relaxed));
        let (send, receive) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let outbox = Outbox { send, queued_bytes: Arc::clone(&queued_bytes) };
        // A hub that is gone shows as a conversation that has ended.
        drop(self.control.send(Control::Opened(id, face, outbox)));
        let control = self.control.clone();
        Conversation {
            send: ToHub { id, events: self.events.clone(), control: control.clone() },
            receive: FromHub { id, receive, queued_bytes, control },
        }
    }

    /// Where servers report.
    pub fn events(&self) -> mpsc::Sender<Event> {
        self.events.clone()
    }

    /// Hands an order on, and says when it is carried out.
    ///
    /// # Errors
    /// What the hub says; it has no such server, or is gone.
    pub async fn order(&self, order: Order, server: String) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        let gone = || Error::new(ErrorKind::State, "the gateway is ending");
        self.control.send(Control::Order(order, server, done)).map_err(|_gone| gone())?;
        answer.await.map_err(|_gone| gone())?
    }

    /// Asks everything to end.
    pub fn end(&self) {
        // A hub that is gone has ended already.
        drop(self.control.send(Control::End));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_conversation_that_is_dropped_tells_the_hub() {
        let (door, mut inside) = Door::new();
        let conversation = door.open(Face::Stdio);
        conversation.send.send(b"{}".to_vec()).await.unwrap();
        let Some(Control::Opened(id, Face::Stdio, outbox)) = inside.control.recv().await else { panic!() };
        outbox.send(ToClient { message: b"abc".to_vec(), about: None, is_answer: false });
        assert_eq!(outbox.queued_bytes(), 3);
        let Conversation { send, mut receive } = conversation;
        assert_eq!(receive.recv().await.unwrap().message, b"abc");
        assert_eq!(outbox.queued_bytes(), 0);
        drop((send, receive));
        assert!(matches!(inside.control.recv().await, Some(Control::Closed(closed)) if closed == id));
        assert!(matches!(inside.events.recv().await, Some(Event::Client(from, _)) if from == id));
    }
}
