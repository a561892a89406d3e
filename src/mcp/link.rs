//! What joins the gateway to one MCP server, whatever lies between: a queue each way, and how it ended.
//!
//! A message is one JSON-RPC message as bytes, without a newline at its end. Dropping `send` asks the
//! server to end; `receive` says `Ended` as the last thing, when nothing of the server is left. Who makes
//! a link bounds what one message may hold, and what waits in the queues.

use tokio::sync::mpsc;

use crate::error::Error;

/// Messages that wait for a server which does not read; with more, its calls fail.
pub const SEND_MESSAGES_MAX: usize = 128;
/// Messages of a server that wait for the gateway; with more, the server waits.
pub const RECEIVE_MESSAGES_MAX: usize = 32;
/// From this size on a message waits until it is alone in its queue, in bytes: so that a queue never
/// holds many large ones.
pub const LARGE_BYTES: usize = 128 << 10;

/// Both ends of the queues to one server.
#[derive(Debug)]
pub struct Link {
    /// Messages to the server. Dropped, the server is asked to end.
    pub send: mpsc::Sender<Vec<u8>>,
    /// Messages of the server.
    pub receive: mpsc::Receiver<FromUpstream>,
}

/// What comes from a server.
#[derive(Debug)]
pub enum FromUpstream {
    /// Its process has started.
    Started {
        /// The process that holds its sandbox.
        pid: u32,
    },
    /// It said something.
    Message(Vec<u8>),
    /// Nothing more will come, and nothing of it is left.
    Ended(EndReason),
}

/// Why a server is gone.
#[derive(Debug, Clone)]
pub enum EndReason {
    /// It was asked to end.
    Asked,
    /// It ended by itself: `exit status: 1`.
    Exited(String),
    /// It could not be started, or was given up: what it did, and what the reader can do.
    Failed(Error),
}

/// Hands a message on, a large one only into an empty queue.
///
/// # Errors
/// When nobody listens any more.
pub async fn pass<T>(queue: &mpsc::Sender<T>, message: T, bytes: usize) -> Result<(), Gone> {
    if bytes < LARGE_BYTES {
        return queue.send(message).await.map_err(|_gone| Gone);
    }
    let mut all = queue.reserve_many(queue.max_capacity()).await.map_err(|_gone| Gone)?;
    if let Some(place) = all.next() {
        place.send(message);
    }
    Ok(())
}

/// The other side of a queue is gone.
#[derive(Debug, thiserror::Error)]
#[error("nobody listens any more")]
pub struct Gone;
