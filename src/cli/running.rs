//! `mcp ps`, `mcp logs`, `mcp inspect`, `mcp stop`, `mcp start`, `mcp metrics`: what runs, and what is done about it.
//!
//! Names, reasons and logs are strangers' text: on a terminal they are made harmless.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::cli::args::{Format, McpInspect, McpLogs, McpPs, McpStart, McpStop};
use crate::cli::template::rows;
use crate::cli::template::value::Shape;
use crate::cli::terminal::{self, harmless, harmless_json};
use crate::cli::units::{self, LIST_DIGITS};
use crate::engine::catalogue::Catalogue;
use crate::engine::host::Host;
use crate::engine::running::{self, Gateway, Question};
use crate::engine::server_log::{self, LogLine, LogReader};
use crate::engine::status::{self, ServerStatus, Snapshot};
use crate::error::{Error, ErrorKind};

/// How often a log is looked at while it is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How many characters of a reason a table has room for.
const REASON_CHARS_MAX: usize = 60;

/// Lists gateways and servers.
///
/// # Errors
/// What the kernel says.
pub fn ps(host: &Host, args: &McpPs) -> Result<(), Error> {
    let snapshots = snapshots(host)?;
    if args.format == Format::Json {
        let lines = snapshots.iter().map(|snapshot| Ok(harmless_json(&text(snapshot)?) + "\n"));
        return terminal::to_stdout(&lines.collect::<Result<String, Error>>()?);
    }
    let rows: Vec<Value> = snapshots
        .iter()
        .flat_map(|gateway| gateway.servers.iter().map(move |server| row(gateway, server)))
        .collect();
    let columns = "{{.Gateway}}\t{{.Server}}\t{{.State}}\t{{.Since}}\t{{.Process}}\t{{.Calls}}\t{{.Errors}}\t{{.Restarts}}\t{{.Memory}}\t{{.Reason}}";
    let titles = json!({
        "Gateway": "GATEWAY", "Server": "SERVER", "State": "STATE", "Since": "SINCE", "Process": "PROCESS",
        "Calls": "CALLS", "Errors": "ERRORS", "Restarts": "RESTARTS", "Memory": "MEMORY", "Reason": "REASON",
    });
    let shape = Shape::Struct { name: "server", fields: &[] };
    let table = rows::Format::parse(None, columns)?.print(&rows, &titles, shape)?;
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    terminal::to_stdout(&lines.collect::<String>())
}

fn row(gateway: &Snapshot, server: &ServerStatus) -> Value {
    let since = i64::try_from(server.since_ms / 1000).unwrap_or_default();
    let pids: Vec<String> = server.pids.iter().map(ToString::to_string).collect();
    let memory = server.memory_bytes.map_or("-".to_owned(), |bytes| units::size(bytes, LIST_DIGITS));
    let reason: String = server.reason.iter().flat_map(|text| text.chars()).take(REASON_CHARS_MAX).collect();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    json!({
        "Gateway": harmless(&gateway.id),
        "Server": harmless(&server.name),
        "State": server.state.word().replace('_', " "),
        "Since": units::ago(since, now_s()),
        "Process": or_dash(pids.join(",")),
        "Calls": server.calls_ended().to_string(),
        "Errors": server.errors().to_string(),
        "Restarts": server.restarts.to_string(),
        "Memory": memory,
        "Reason": harmless(&reason),
    })
}

fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Every gateway's own word; one that is silent is told, and what it last wrote stands for it.
fn snapshots(host: &Host) -> Result<Vec<Snapshot>, Error> {
    let mut found = Vec::new();
    for gateway in running::living(host)? {
        let (snapshot, silent) = gateway.snapshot();
        if let Some(error) = silent {
            terminal::print_warning(&error.to_string());
        }
        found.push(snapshot);
    }
    Ok(found)
}

fn text(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))
}

/// Shows what a server wrote to standard error, in the newest gateway that had one of this name.
///
/// # Errors
/// There is no such log, or what the kernel says.
pub fn logs(host: &Host, args: &McpLogs) -> Result<(), Error> {
    let Some(path) = server_log::logs(&host.data, &args.name)?.into_iter().next() else {
        let error = Error::new(ErrorKind::NotFound, format!("there is no log of a server `{}`", args.name));
        return Err(error.hint("`cuddy mcp ps` lists the servers of gateways that run"));
    };
    let (mut reader, lines) = LogReader::open(&path, args.tail)?;
    print_lines(&lines, args.timestamps)?;
    if !args.follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK_EVERY);
        print_lines(&reader.more()?, args.timestamps)?;
        if !terminal::has_reader() {
            return Ok(());
        }
    }
}

fn print_lines(lines: &[LogLine], with_moments: bool) -> Result<(), Error> {
    let shown = |line: &LogLine| {
        let text = String::from_utf8_lossy(&line.text);
        let text = if terminal::size().is_some() { harmless(&text) } else { text.into_owned() };
        if !with_moments {
            return format!("{text}\n");
        }
        let moment = units::moment(i64::try_from(line.at_ms / 1000).unwrap_or_default());
        format!(
            "{}.{:03}Z {text}\n",
            moment.trim_end_matches(" +0000 UTC").replace(' ', "T"),
            line.at_ms % 1000
        )
    };
    terminal::to_stdout(&lines.iter().map(shown).collect::<String>())
}

/// Prints everything that is known of a server, as JSON: in each gateway that has it, and what it offered last.
///
/// # Errors
/// Nothing is known of it, or what the kernel says.
pub fn inspect(host: &Host, args: &McpInspect) -> Result<(), Error> {
    let mut found = Vec::new();
    for mut gateway in snapshots(host)? {
        let Some(at) = gateway.servers.iter().position(|server| server.name == args.name) else { continue };
        let server = gateway.servers.swap_remove(at);
        gateway.servers.clear();
        found.push(json!({ "gateway": gateway, "status": server }));
    }
    let mut warn = |fault| terminal::print_warning(&Error::from(fault).to_string());
    let known = Catalogue::open(&host.data).comparisons(Some(&args.name), &mut warn)?;
    let offered = known.iter().map(|comparison| {
        json!({
            "program": comparison.now.program,
            "at_ms": comparison.now.at_ms,
            "accepted_at_ms": comparison.accepted.as_ref().map(|entry| entry.at_ms),
            "is_as_accepted": comparison.difference().map(|difference| difference.is_empty()),
            "offer": comparison.now.offer,
        })
    });
    let offered: Vec<Value> = offered.collect();
    if found.is_empty() && offered.is_empty() {
        return Err(unknown(&args.name));
    }
    let logs = server_log::logs(&host.data, &args.name)?;
    let all = json!({ "name": args.name, "running": found, "offered": offered, "logs": logs });
    let text = serde_json::to_string_pretty(&all)
        .map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))?;
    // Pretty JSON has newlines of its own, which stay.
    let lines = text.lines().map(|line| harmless_json(line) + "\n");
    terminal::to_stdout(&lines.collect::<String>())
}

fn unknown(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no gateway that runs has a server `{name}`"))
        .hint("`cuddy mcp ps` lists the servers of gateways that run")
}

/// Stops servers in every gateway that has them, or every gateway.
///
/// # Errors
/// Nothing runs of that name, or what a gateway answers; the others are asked all the same.
pub fn stop(host: &Host, args: &McpStop) -> Result<(), Error> {
    let gateways = running::living(host)?;
    if args.all {
        let mut worst = Ok(());
        for gateway in &gateways {
            worst = worst.and(gateway.ask(&Question::End).map(|_| ()));
        }
        return worst;
    }
    tell_each(&gateways, &args.names, |server| Question::Stop { server })
}

/// Starts servers in every gateway that has them.
///
/// # Errors
/// As [`stop`].
pub fn start(host: &Host, args: &McpStart) -> Result<(), Error> {
    tell_each(&running::living(host)?, &args.names, |server| Question::Start { server })
}

fn tell_each(
    gateways: &[Gateway],
    names: &[String],
    question: impl Fn(String) -> Question,
) -> Result<(), Error> {
    let mut worst = Ok(());
    for name in names {
        let mut done = 0;
        for gateway in gateways {
            match gateway.ask(&question(name.clone())) {
                Ok(_) => done += 1,
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => worst = worst.and(Err(error)),
            }
        }
        match done {
            0 => worst = worst.and(Err(unknown(name))),
            _ => terminal::to_stdout(&format!("{}\n", harmless(name)))?,
        }
    }
    worst
}

/// Prints what Prometheus reads, of every gateway.
///
/// # Errors
/// What the kernel says.
pub fn metrics(host: &Host) -> Result<(), Error> {
    terminal::to_stdout(&status::prometheus(&snapshots(host)?))
}
