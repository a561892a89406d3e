//! What the hub has outside: servers that are started, logs, the catalogue, the board, the audit.
//!
//! It decides nothing: it does what the hub says, and knows where that belongs.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::audit::CallOutcome;
use crate::engine::catalogue::{Catalogue, Fingerprint, Target as Offered};
use crate::engine::config::servers::{GatewaySettings, ServerConfig, Transport};
use crate::engine::host::Host;
use crate::engine::offer::{Kind, Offer, Withheld};
use crate::engine::remote::Remote;
use crate::engine::status::State;
use crate::error::{Error, ErrorKind};
use crate::mcp::board::{Board, Ended, Known, Tell};
use crate::mcp::era::Era;
use crate::mcp::http::target::Target;
use crate::mcp::http::upstream;
use crate::mcp::link::{EndReason, FromUpstream, Link};
use crate::mcp::message::Object;
use crate::mcp::process::{self, Log, ProcessStart};
use crate::mcp::state::{CallEnd, Called, Life, World};

/// What the parts of the outside share.
struct Outside {
    board: Board,
    servers: Vec<ServerConfig>,
    prints: Vec<[Fingerprint; 2]>,
    catalogue: Catalogue,
    remote: Arc<Remote>,
    message_bytes_max: usize,
    tell: Tell,
}

/// What the board is told of the servers.
pub fn known(servers: &[ServerConfig]) -> Vec<Known> {
    let known = servers.iter().map(|server| Known {
        name: server.name.clone(),
        transport: match server.transport {
            Transport::Stdio { .. } => "command",
            Transport::Image { .. } => "image",
            Transport::Http { .. } => "http",
        },
        policy: blake3::hash(policy(server).as_bytes()).to_hex()[..32].to_owned(),
    });
    known.collect()
}

/// A policy as text, without the values of variables.
fn policy(server: &ServerConfig) -> String {
    let p = &server.policy;
    let names: Vec<&String> = p.environment.keys().collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {names:?} {:?}",
        p.hidden, p.workspaces, p.read_only, p.read_write, p.network, p.memory, p.cpus, p.pids, p.seccomp
    )
}

/// The outside of a gateway on this host.
pub fn world(
    host: &Host,
    servers: &[ServerConfig],
    settings: &GatewaySettings,
    board: &Board,
) -> Box<dyn World> {
    let prints =
        servers.iter().map(|server| [Era::Legacy, Era::Modern].map(|era| fingerprint(host, server, era)));
    let outside = Outside {
        board: board.clone(),
        servers: servers.to_vec(),
        prints: prints.collect(),
        catalogue: Catalogue::open(&host.data),
        remote: Arc::new(Remote::new(host)),
        message_bytes_max: usize::try_from(settings.message_bytes_max).unwrap_or(usize::MAX),
        tell: board.tell(),
    };
    Box::new(outside)
}

fn fingerprint(host: &Host, server: &ServerConfig, era: Era) -> Fingerprint {
    // A server may say different things in the two eras.
    let policy = format!("{} {era:?}", policy(server));
    let line: Vec<String>;
    let target = match &server.transport {
        Transport::Stdio { command, args, cwd } => {
            line = std::iter::once(command).chain(args).cloned().collect();
            Offered::Command { command: &line, path: &host.path, cwd: cwd.as_deref().unwrap_or(&host.cwd) }
        }
        Transport::Image { image, command, .. } => Offered::Image { image, command },
        Transport::Http { url, .. } => Offered::Http { url },
    };
    Fingerprint::of(&server.name, target, &policy)
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Outside {
    fn name(&self, server: usize) -> &str {
        &self.servers[server].name
    }

    fn print(&self, server: usize, era: Era) -> &Fingerprint {
        let [legacy, modern] = &self.prints[server];
        if era == Era::Legacy { legacy } else { modern }
    }

    fn log(&self, server: usize) -> Log {
        match self.board.log(self.name(server)) {
            Some(log) => {
                let log = Mutex::new(log);
                Box::new(move |bytes| {
                    if let Ok(mut log) = log.lock() {
                        log.write(bytes);
                    }
                })
            }
            None => Box::new(|_| {}),
        }
    }
}

impl World for Outside {
    fn state(&mut self, server: usize, state: State, reason: Option<&str>) {
        self.board.state(self.name(server), state, reason);
    }

    fn process(&mut self, server: usize, pid: u32, life: Life) {
        match life {
            Life::Started => self.board.started(self.name(server), pid),
            Life::Ended => self.board.ended(self.name(server), pid),
        }
    }

    fn begin(&mut self, server: usize) {
        self.board.begin(self.name(server));
    }

    fn start(&mut self, server: usize, config: &ServerConfig) -> Link {
        if let Transport::Http { url, headers } = &config.transport {
            return match Target::new(url, headers) {
                Ok(target) => upstream::start(target, Arc::clone(&self.remote), self.message_bytes_max),
                Err(fault) => failed(Error::from(fault)),
            };
        }
        let Some(line) = config.run_line() else {
            return failed(Error::new(ErrorKind::Bug, "there is nothing to start"));
        };
        let mut arguments = line.arguments;
        // Should we be killed, nobody else is left to end it.
        arguments.insert(2, format!("--with-parent={}", std::process::id()));
        process::start(ProcessStart {
            program: PathBuf::from("/proc/self/exe"),
            arguments,
            environment: line.environment,
            cwd: line.cwd,
            message_bytes_max: self.message_bytes_max,
            grace: Duration::from_millis(config.timeouts.stop_ms),
            log: self.log(server),
        })
    }

    fn note(&mut self, server: usize, line: &str) {
        self.board.went_wrong(self.name(server), line);
        (self.log(server))(format!("cuddy: {line}\n").as_bytes());
    }

    fn called(&mut self, called: &Called<'_>) {
        let params = Object::parse(called.params).ok();
        let arguments = params.as_ref().and_then(|p| p.get("arguments")).unwrap_or("");
        let meta = params.as_ref().and_then(|p| p.object("_meta"));
        let traceparent = meta.as_ref().and_then(|meta| meta.string("traceparent"));
        self.board.call(&Ended {
            client: called.client,
            server: self.name(called.server),
            method: called.method,
            tool: called.subject,
            arguments: arguments.as_bytes(),
            duration: called.duration,
            outcome: match called.end {
                CallEnd::Done => CallOutcome::Done,
                CallEnd::ToolError => CallOutcome::ToolError,
                CallEnd::Error(code) => CallOutcome::Error(code),
                CallEnd::Refused => CallOutcome::Refused,
                CallEnd::Error(code) => CallOutcome::Error(code),
                CallEnd::Lost => CallOutcome::Lost,
                CallEnd::TimedOut => CallOutcome::TimedOut,
                CallEnd::Cancelled => CallOutcome::Cancelled,
            },
            bytes_in: called.bytes_in as u64,
            bytes_out: called.bytes_out as u64,
            traceparent: traceparent.as_deref(),
        });
    }

    fn known(&mut self, server: usize, era: Era) -> Option<Offer> {
        match self.catalogue.get(self.print(server, era)) {
            Ok(found) => found,
            Err(fault) => {
                (self.tell)(&Error::from(fault).to_string());
                None
            }
        }
    }

    fn offered(&mut self, server: usize, era: Era, offer: &Offer) {
        if let Some(tools) = offer.listing(Kind::Tool) {
            self.board.tools(self.name(server), tools.items.len());
        }
        if let Err(fault) = self.catalogue.put(self.print(server, era), offer.clone()) {
            (self.tell)(&Error::from(fault).to_string());
        }
    }

    fn withheld(&mut self, server: usize, offer: &Offer) -> Withheld {
        // What cannot be read was not accepted.
        let accepted = self.catalogue.accepted(self.print(server, Era::Legacy)).unwrap_or_else(|fault| {
            (self.tell)(&Error::from(fault).to_string());
            Vec::new()
        });
        Withheld::of(&accepted, offer)
    }
}

/// A link to a server that cannot even be tried.
fn failed(error: Error) -> Link {
    let (send, _) = tokio::sync::mpsc::channel(1);
    let (told, receive) = tokio::sync::mpsc::channel(1);
    // The channel is new and has room.
    drop(told.try_send(FromUpstream::Ended(EndReason::Failed(error))));
    Link { send, receive }
}
