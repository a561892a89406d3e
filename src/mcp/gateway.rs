//! `mcp gateway`: many servers, each in its own sandbox, behind standard input and output or HTTP.
//!
//! It brings the hub, its outside and one front together, and ends all of them on a signal. What anything
//! means is decided in the hub.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};

use crate::engine::config::servers::GatewayConfig;
use crate::engine::host::Host;
use crate::engine::status::{State, prometheus};
use crate::error::{Error, ErrorKind};
use crate::mcp::board::{Board, Tell};
use crate::mcp::control::{self, Order as Told};
use crate::mcp::http::entry::Request;
use crate::mcp::http::front::{Front, Listener};
use crate::mcp::outside;
use crate::mcp::session::{Door, Face, Order};
use crate::mcp::state::Hub;
use crate::mcp::stdio;

/// What was asked for.
#[derive(Debug)]
pub struct Asked {
    /// The servers.
    pub config: GatewayConfig,
    /// The files they were read from, for who looks.
    pub files: Vec<String>,
    /// Where to listen instead of standard input and output.
    pub http: Option<HttpAsked>,
}

/// How to listen.
#[derive(Debug)]
pub struct HttpAsked {
    /// Where, and who may ask.
    pub request: Request,
    /// Whether `/metrics` is there.
    pub has_metrics: bool,
}

/// Serves until the client is gone or a signal comes, and every server has ended.
///
/// # Errors
/// What could not be set up; nothing runs then.
pub fn run(host: &Host, asked: Asked, tell: Tell) -> Result<(), Error> {
    let wrong = |e: std::io::Error| Error::new(ErrorKind::Failed, format!("cannot begin to serve: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    let served = runtime.block_on(serve(host, asked, tell));
    // A thread that reads our standard input may wait for ever.
    runtime.shutdown_background();
    served
}

async fn serve(host: &Host, asked: Asked, tell: Tell) -> Result<(), Error> {
    let Asked { config, files, http } = asked;
    let kind = if http.is_some() { "http" } else { "stdio" };
    let known = outside::known(&config.servers);
    let board = Board::open(host, kind, files, &known, tell.clone())?;
    #[cfg(feature = "otel")]
    crate::mcp::otel::attach(&board, &host.environment)?;
    let world = outside::world(host, &config.servers, &config.gateway, &board);
    let message_bytes_max = usize::try_from(config.gateway.message_bytes_max).unwrap_or(usize::MAX);
    let (door, inside) = Door::new();
    let hub = Hub::new(config.servers, config.gateway, door.events(), world);
    for server in &hub.servers {
        if !server.known.is_empty() {
            board.state(&server.config.name, State::Catalogued, None);
        }
    }
    carry_orders(&board, door.clone())?;
    let signals = ending(door.clone())?;
    // Before anything is started: an address that is taken starts nothing.
    let front = match http {
        Some(http) => Some(http_front(host, &http, &door, &board, message_bytes_max, &tell).await?),
        None => None,
    };
    let conversation = front.is_none().then(|| door.open(Face::Stdio));
    let hub = tokio::spawn(hub.run(inside));
    let served = match (front, conversation) {
        (Some((front, listener)), _) => {
            front.serve(listener, signals).await;
            Ok(())
        }
        (None, Some(conversation)) => {
            let wrong = |e| Error::new(ErrorKind::Failed, format!("cannot speak to the client: {e}"));
            tokio::select! {
                served = stdio::serve(conversation, message_bytes_max) => served.map_err(wrong),
                () = signals => Ok(()),
            }
        }
        (None, None) => Ok(()),
    };
    door.end();
    hub.await.map_err(|e| Error::new(ErrorKind::Bug, format!("the hub ended: {e}")))?;
    served
}

/// Comes to its end with SIGTERM, SIGINT or SIGHUP; then everything is asked to end.
fn ending(door: Door) -> Result<impl Future<Output = ()>, Error> {
    let wrong = |e: std::io::Error| Error::new(ErrorKind::Failed, format!("cannot wait for signals: {e}"));
    let mut term = signal(SignalKind::terminate()).map_err(wrong)?;
    let mut int = signal(SignalKind::interrupt()).map_err(wrong)?;
    let mut hup = signal(SignalKind::hangup()).map_err(wrong)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
        door.end();
    })
}

/// Carries orders of other commands to the hub.
fn carry_orders(board: &Board, door: Door) -> Result<(), Error> {
    let mut orders = control::listen(board)?;
    tokio::spawn(async move {
        while let Some(ordered) = orders.recv().await {
            let door = door.clone();
            tokio::spawn(async move {
                let outcome = match ordered.order {
                    Told::Stop(server) => door.order(Order::Stop, server).await,
                    Told::Start(server) => door.order(Order::Start, server).await,
                    Told::Accepted(server) => door.order(Order::Accepted, server).await,
                    Told::End => {
                        door.end();
                        Ok(())
                    }
                };
                // Who has hung up needs no answer.
                drop(ordered.done.send(outcome));
            });
        }
    });
    Ok(())
}

async fn http_front(
    host: &Host,
    http: &HttpAsked,
    door: &Door,
    board: &Board,
    message_bytes_max: usize,
    tell: &Tell,
) -> Result<(std::sync::Arc<Front>, Listener), Error> {
    let board = board.clone();
    let metrics = move || prometheus(&[board.snapshot()]);
    let metrics = http.has_metrics.then(|| std::sync::Arc::new(metrics) as _);
    host.open_data()?;
    let entry = http.request.open(&host.data, message_bytes_max, metrics).await?;
    tell(&format!("listening on {}", entry.address));
    if let Some(path) = &entry.token_file {
        tell(&format!("clients show the token in `{}`", path.display()));
    }
    Ok((Front::new(door.clone(), entry.settings), entry.listener))
}
