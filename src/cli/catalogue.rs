//! `mcp diff`, `mcp accept`: what MCP servers offer, and what of it a person has accepted.
//!
//! Every name and description is a stranger's text: it is made harmless, and cut.

use serde_json::{Value, json};

use crate::cli::args::{Format, McpAccept, McpDiff};
use crate::cli::terminal::{self, harmless, harmless_json};
use crate::engine::catalogue::{Catalogue, Comparison};
use crate::engine::host::Host;
use crate::engine::offer::{Change, Difference, Kind, Offer, What};
use crate::engine::running::{self, Question};
use crate::error::{Error, ErrorKind};

/// How much of a value is printed for people, in characters; `--format json` has the whole of it.
const VALUE_CHARS_MAX: usize = 2000;

/// Says what servers offer that was not accepted.
///
/// # Errors
/// No such server was ever started, or what the kernel says.
pub fn diff(host: &Host, args: &McpDiff) -> Result<(), Error> {
    let catalogue = Catalogue::open(&host.data);
    let comparisons = comparisons(&catalogue, args.name.as_deref())?;
    for comparison in &comparisons {
        terminal::to_stdout(&match args.format {
            Format::Json => harmless_json(&as_json(comparison).to_string()) + "\n",
            Format::Text => as_text(comparison),
        })?;
    }
    if args.accept { accept_all(host, &catalogue, &comparisons) } else { Ok(()) }
}

/// Accepts what servers offer now.
///
/// # Errors
/// No such server was ever started, or what the kernel says.
pub fn accept(host: &Host, args: &McpAccept) -> Result<(), Error> {
    let catalogue = Catalogue::open(&host.data);
    // All or nothing: a name that is none is told before anything is accepted.
    let all: Result<Vec<_>, _> = args.names.iter().map(|name| comparisons(&catalogue, Some(name))).collect();
    accept_all(host, &catalogue, &all?.into_iter().flatten().collect::<Vec<_>>())
}

fn accept_all(host: &Host, catalogue: &Catalogue, comparisons: &[Comparison]) -> Result<(), Error> {
    for comparison in comparisons {
        catalogue.accept(host.uid, &comparison.now)?;
        let (server, tools) = (harmless(&comparison.now.server), count(&comparison.now.offer, Kind::Tool));
        terminal::to_stdout(&format!("accepted: {server}, {tools} tools\n"))?;
    }
    for gateway in running::living(host)? {
        for name in comparisons.iter().map(|comparison| &comparison.now.server) {
            match gateway.ask(&Question::Accepted { server: name.clone() }) {
                Err(error) if error.kind != ErrorKind::NotFound => terminal::print_warning(&format!(
                    "a gateway that runs goes on with what was accepted before: {error}"
                )),
                _ => {}
            }
        }
    }
    Ok(())
}

fn comparisons(catalogue: &Catalogue, name: Option<&str>) -> Result<Vec<Comparison>, Error> {
    let warn = &mut |fault| terminal::print_warning(&Error::from(fault).to_string());
    let found = catalogue.comparisons(name, warn)?;
    match name {
        Some(name) if found.is_empty() => {
            let what = format!("nothing is known of a server `{name}`");
            let hint =
                "a server is known once it was started: by a gateway, with this name in its configuration";
            Err(Error::new(ErrorKind::NotFound, what).hint(hint))
        }
        _ => Ok(found),
    }
}

fn count(offer: &Offer, kind: Kind) -> usize {
    offer.listing(kind).map_or(0, |listing| listing.items.len())
}

fn as_json(comparison: &Comparison) -> Value {
    let difference = comparison.difference();
    json!({
        "server": comparison.now.server,
        "program": comparison.now.program,
        "protocol": comparison.now.offer.protocol,
        "at_ms": comparison.now.at_ms,
        "accepted_at_ms": comparison.accepted.as_ref().map(|entry| entry.at_ms),
        "tools": count(&comparison.now.offer, Kind::Tool),
        "changes": difference.map(|difference| difference.changes),
    })
}

fn as_text(comparison: &Comparison) -> String {
    let now = &comparison.now;
    let (server, program) = (harmless(&now.server), harmless(&now.program));
    let (tools, protocol) = (count(&now.offer, Kind::Tool), harmless(&now.offer.protocol));
    let heading = format!("{server}  ({program}, {tools} tools, protocol {protocol})");
    match comparison.difference() {
        None => {
            let all = Difference::between(&Offer::default(), &now.offer);
            format!("{heading}: nothing was accepted yet\n{}", changes(&all))
        }
        Some(difference) if difference.is_empty() => format!("{heading}: as accepted\n"),
        Some(difference) => format!("{heading}: not what was accepted\n{}", changes(&difference)),
    }
}

fn changes(difference: &Difference) -> String {
    difference.changes.iter().map(change).collect()
}

fn change(change: &Change) -> String {
    let (kind, name) = (change.kind.word(), harmless(&change.name));
    let (line, fields) = match &change.what {
        What::Added { fields } => (format!("+ {kind} {name}"), &fields[..]),
        What::Removed => (format!("- {kind} {name}"), &[][..]),
        What::Renamed { from, fields } => {
            (format!("> {kind} {name}, which was {}", harmless(from)), &fields[..])
        }
        What::Changed { fields } => (format!("~ {kind} {name}"), &fields[..]),
    };
    let mut text = format!("  {}\n", line.trim_end());
    for field in fields {
        text.push_str(&format!("      {}\n", harmless(&field.field)));
        let sides = [('-', &field.before), ('+', &field.after)];
        for (sign, value) in sides.into_iter().filter_map(|(sign, value)| Some((sign, value.as_ref()?))) {
            text.push_str(&format!("        {sign} {}\n", shown(value)));
        }
    }
    text
}

/// A value for people: text as it is, everything else as JSON.
fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| harmless_json(&value.to_string()), harmless);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        None => text,
        Some((end, _)) => {
            let left = text[end..].chars().count();
            format!("{}… ({left} characters more: --format json)", &text[..end])
        }
    }
}
