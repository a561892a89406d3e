//! The socket by which other commands of the same user ask this gateway: how it stands, to stop, to start.
//!
//! One question and one answer for each connection, each one line of JSON: `engine/running` has both. It decides
//! nothing: orders go to the hub.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::engine::running::{Answer, QUESTION_BYTES_MAX, Question};
use crate::error::{Error, ErrorKind};
use crate::mcp::board::Board;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the hub may take to carry an order out.
const ORDER_PATIENCE: Duration = Duration::from_secs(25);
/// Orders that wait for the hub.
const ORDERS_MAX: usize = 16;

/// What the hub is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// End a server's sandboxes and start none until asked.
    Stop(String),
    /// Start a server that was stopped, failed or given up.
    Start(String),
    /// What of a server's definitions is accepted has changed on disk.
    Accepted(String),
    /// End everything.
    End,
}

/// An order, and where to say that it is done.
#[derive(Debug)]
pub struct Ordered {
    /// What to do.
    pub order: Order,
    /// Takes the outcome; who drops it has not done it.
    pub done: oneshot::Sender<Result<(), Error>>,
}

/// Listens until the task is aborted; what the hub has to do comes out of the receiver.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(board: &Board) -> Result<mpsc::Receiver<Ordered>, Error> {
    let wrong = |e| Error::new(ErrorKind::Failed, format!("cannot listen for other commands: {e}"));
    let listener = UnixListener::bind(board.socket()).map_err(wrong)?;
    let (orders, receiver) = mpsc::channel(ORDERS_MAX);
    tokio::spawn(serve(listener, board.clone(), orders));
    Ok(receiver)
}

async fn serve(listener: UnixListener, board: Board, orders: mpsc::Sender<Ordered>) {
    let room = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // When the hub is gone nobody is left to answer for.
    while !orders.is_closed() {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = orders.closed() => return,
        };
        let Ok((connection, _)) = accepted else {
            // No descriptor is free: the next try is later.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (board, orders) = (board.clone(), orders.clone());
        tokio::spawn(async move {
            // Who hangs up has no use for an answer.
            let _hung_up = converse(connection, &board, &orders).await;
            drop(place);
        });
    }
}

async fn converse(
    mut connection: UnixStream,
    board: &Board,
    orders: &mpsc::Sender<Ordered>,
) -> std::io::Result<()> {
    // The folder lets nobody else in; root passes every folder.
    let (peer, us) = (connection.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
    if peer != us && peer != 0 {
        return Ok(());
    }
    let question = timeout(PATIENCE, read_line(&mut connection)).await??;
    let answer = match serde_json::from_slice(&question) {
        Ok(question) => answer(question, board, orders).await,
        Err(e) => {
            let what = format!("the question is none that this cuddy understands: {e}");
            Answer::Failed { error: Error::new(ErrorKind::Unsupported, what) }
        }
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    timeout(PATIENCE, connection.write_all(&text)).await??;
    connection.shutdown().await
}

/// One line, at most [`QUESTION_BYTES_MAX`] bytes, or what there is at the end of input.
async fn read_line(connection: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut buffer = [0; 1024];
    while !line.contains(&b'\n') && (line.len() as u64) < QUESTION_BYTES_MAX {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        line.extend_from_slice(&buffer[..read]);
    }
    Ok(line)
}

async fn answer(question: Question, board: &Board, orders: &mpsc::Sender<Ordered>) -> Answer {
    let order = match question {
        Question::Snapshot => {
            let board = board.clone();
            // It reads files of the kernel.
            return match tokio::task::spawn_blocking(move || board.snapshot()).await {
                Ok(snapshot) => Answer::Snapshot(Box::new(snapshot)),
                Err(e) => {
                    Answer::Failed { error: Error::new(ErrorKind::Bug, format!("the snapshot failed: {e}")) }
                }
            };
        }
        Question::Stop { server } => named(board, server).map(Order::Stop),
        Question::Start { server } => named(board, server).map(Order::Start),
        Question::Accepted { server } => named(board, server).map(Order::Accepted),
        Question::End => Ok(Order::End),
    };
    let done = match order {
        Ok(order) => carry_out(order, orders).await,
        Err(error) => Err(error),
    };
    done.map_or_else(|error| Answer::Failed { error }, |()| Answer::Done)
}

fn named(board: &Board, server: String) -> Result<String, Error> {
    if board.knows(&server) {
        return Ok(server);
    }
    Err(Error::new(ErrorKind::NotFound, format!("the gateway has no server `{server}`")))
}

async fn carry_out(order: Order, orders: &mpsc::Sender<Ordered>) -> Result<(), Error> {
    let ends = Error::new(ErrorKind::State, "the gateway is ending");
    let (done, outcome) = oneshot::channel();
    let carried_out = async {
        orders.send(Ordered { order, done }).await.map_err(|_closed| ends.clone())?;
        outcome.await.map_err(|_dropped| ends.clone())?
    };
    let late =
        Error::new(ErrorKind::Unreachable, format!("it is not done after {} s", ORDER_PATIENCE.as_secs()));
    timeout(ORDER_PATIENCE, carried_out).await.unwrap_or(Err(late))
}
