//! `audit show`, `audit verify`: the record of what was done, for people and programs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::cli::args::{AuditShow, AuditVerify, Format};
use crate::cli::terminal::{self, harmless, harmless_json};
use crate::cli::units;
use crate::engine::host::Host;
use crate::engine::trail::{self, Choice, Verdict};
use crate::error::{Error, ErrorKind};

/// Shows what was done, oldest first.
///
/// # Errors
/// The moment is none, or what the kernel says.
pub fn show(host: &Host, args: &AuditShow) -> Result<(), Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let since_ms = args.since.as_deref().map(|text| trail::moment(text, now_ms)).transpose()?;
    let choice = Choice {
        since_ms,
        server: args.server.clone(),
        tool: args.tool.clone(),
        verb: args.verb.clone(),
        tail: args.tail,
    };
    trail::show(&host.data, &choice, &mut |line| {
        terminal::to_stdout(&match args.format {
            Format::Json => harmless_json(&line.to_string()) + "\n",
            Format::Text => row(line),
        })
    })
}

/// One line for people: when, who, what, to what, how it ended.
fn row(line: &Value) -> String {
    let text = |member: &str| harmless(line[member].as_str().unwrap_or_default());
    let number = |member: &str| line[member].as_u64().unwrap_or_default();
    let moment = units::moment(i64::try_from(number("at_ms") / 1000).unwrap_or_default());
    let moment = moment.trim_end_matches(" +0000 UTC");
    let what = if line["verb"] == "call" {
        format!("{} {} of {} by {}", text("method"), text("object"), text("server"), text("client"))
    } else {
        format!("{} {}", text("object"), text("id").chars().take(12).collect::<String>())
    };
    let outcome = match &line["outcome"] {
        Value::String(word) => harmless(word).replace('_', " "),
        Value::Object(members) => members
            .iter()
            .map(|(word, value)| format!("{} {}", harmless(word), harmless(&value.to_string())))
            .collect(),
        _ => String::new(),
    };
    let took = match &line["duration_us"] {
        Value::Number(_) => format!(", {} ms", units::thousandths(number("duration_us"))),
        _ => String::new(),
    };
    let verb = text("verb");
    format!("{moment}  {:>6}  {verb:<12}  {}: {outcome}{took}\n", number("uid"), what.trim_end())
}

/// Says whether the record is whole; gives the exit code: 1 when it is not.
pub fn verify(host: &Host, args: &AuditVerify) -> i32 {
    let noted = args.head.as_deref().map(|text| text.trim().trim_start_matches("sha256:"));
    let done = trail::verify(&host.data, noted).and_then(|verdict| {
        terminal::to_stdout(&match args.format {
            Format::Json => {
                let text = serde_json::to_string(&verdict)
                    .map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))?;
                harmless_json(&text) + "\n"
            }
            Format::Text => said(&verdict),
        })?;
        judge(&verdict)
    });
    match done {
        Ok(()) => 0,
        Err(error) => {
            terminal::print_error(&error);
            1
        }
    }
}

fn said(verdict: &Verdict) -> String {
    let Verdict { lines, files, last, given_up, torn, half_bytes, .. } = verdict;
    let mut text = format!("{lines} lines in {files} files, the last is number {last}\n");
    if *given_up > 0 {
        text.push_str(&format!("{given_up} lines before them were given up for room\n"));
    }
    if *torn > 0 {
        text.push_str(&format!("{torn} lines were left half written by a process that died, and told so\n"));
    }
    if *half_bytes > 0 {
        let why = "a process died, or the machine lost its power, over it";
        text.push_str(&format!("{half_bytes} bytes of a half-written line at the end: {why}\n"));
    }
    if let Some(head) = &verdict.head {
        text.push_str(&format!("head {head}\n"));
    }
    text
}

fn judge(verdict: &Verdict) -> Result<(), Error> {
    if let Some(broken) = &verdict.broken {
        let place = format!("line {} of `{}`", broken.line, broken.file.display());
        return Err(Error::new(ErrorKind::Corrupt, format!("{place} does not belong: {}", broken.why)));
    }
    if verdict.holds == Some(false) {
        let what = "no line has the digest that was noted: lines at the end were removed or made anew";
        let hint = "or it was noted before the oldest lines were given up for room";
        return Err(Error::new(ErrorKind::Corrupt, what).hint(hint));
    }
    Ok(())
}
