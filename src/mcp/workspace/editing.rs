//! The tools that change many files at once, all or nothing; undo, history, transactions.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::engine::changes::{ChangeOptions, EditRequest, ReplaceRequest};
use crate::engine::drafts::{Changed, Merging, Outcome};
use crate::mcp::toolbox::Reply;
use crate::mcp::workspace::call::Call;
use crate::mcp::workspace::compat::{Syscall, Wrong, matching, one_edit, record};
use crate::mcp::workspace::node::{Arguments, inside};
use crate::workspace::change::Later;
use crate::workspace::diff::fenced;
use crate::workspace::globs::Glob;
use crate::workspace::patch::form::Form;
use crate::workspace::refusal::{Code, Refusal};

/// Operations that one page of a history has.
const HISTORY_MAX: usize = 50;
/// How long a transaction lives without a word about it, in seconds.
const TTL_S: usize = 3600;
/// Longest life of a transaction, in seconds.
const TTL_S_MAX: usize = 24 * 3600;
/// Places that a reply lists.
const PLACES_MAX: usize = 200;

/// One call of these tools; `None` when it is none.
pub fn call(call: &Call<'_>, name: &str, arguments: Arguments<'_>) -> Option<Result<Reply, Wrong>> {
    Some(match name {
        "edit_files" => edit_files(call, arguments),
        "apply_patch" => apply_patch(call, arguments),
        "replace_in_files" => replace(call, arguments),
        "undo" => undo(call, arguments),
        "history" => history(call, arguments),
        "tx_begin" => begin(call, arguments),
        "tx_diff" => tx_diff(call, arguments),
        "tx_commit" => commit(call, arguments),
        "tx_rollback" => rollback(call, arguments),
        _ => return None,
    })
}

fn refuse(refusal: Refusal) -> Wrong {
    let path = refusal.path.clone().unwrap_or_default();
    Wrong::Refused(Box::new(refusal), Syscall::One("open", path))
}

fn options(arguments: Arguments<'_>) -> Result<ChangeOptions, Wrong> {
    Ok(ChangeOptions {
        if_match: None,
        dry_run: arguments.flag("dry_run")?,
        tx: arguments.text_or("tx")?.map(str::to_owned),
        checks: arguments.texts("checks")?.unwrap_or_default(),
    })
}

/// The differences of an outcome, as much of them as one reply may hold.
fn diffs(call: &Call<'_>, changed: &[Changed]) -> String {
    let (mut text, mut left_out) = (String::new(), 0);
    for one in changed {
        if text.len() + one.diff.len() <= call.max_reply {
            text.push_str(&one.diff);
        } else {
            left_out += 1;
        }
    }
    let mut shown = if text.is_empty() { String::new() } else { fenced(&text) };
    if left_out > 0 {
        shown.push_str(&format!("[differences of {left_out} files are not shown]\n"));
    }
    shown
}

fn told(call: &Call<'_>, verb: &str, outcome: &Outcome, more: &[(&'static str, Value)]) -> Reply {
    let count = outcome.changed.len();
    let op = outcome.operation.as_ref().map(|op| format!(" ({op})")).unwrap_or_default();
    let text = format!(
        "{verb} {count} file{}{op}\n{}",
        if count == 1 { "" } else { "s" },
        diffs(call, &outcome.changed)
    );
    let all = record(outcome).into_iter().chain(more.iter().cloned()).filter(|(_, value)| !value.is_null());
    let structured: Map<String, Value> = all.map(|(key, value)| (key.to_owned(), value)).collect();
    Reply::both(text, Value::Object(structured))
}

fn verb(options: &ChangeOptions, done: &'static str) -> &'static str {
    match (options.dry_run, options.tx.is_some()) {
        (true, _) => "would change",
        (_, true) => "staged",
        _ => done,
    }
}

fn edit_files(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let matching = matching(arguments)?;
    let mut requests: Vec<EditRequest> = Vec::new();
    for (n, map) in arguments.objects("edits")?.into_iter().enumerate() {
        let one = Arguments(map);
        let misfit = |m| inside("edits", n, m);
        let path = one.text("path").map_err(misfit)?.to_owned();
        let edit = one_edit(one).map_err(misfit)?;
        let if_match = one.text_or("if_match").map_err(misfit)?.map(str::to_owned);
        match requests.iter_mut().find(|r| r.path == path) {
            Some(request) => {
                request.edits.push(edit);
                request.if_match = if_match.or(request.if_match.take());
            }
            None => requests.push(EditRequest { path, edits: vec![edit], matching, if_match }),
        }
    }
    let options = options(arguments)?;
    let what = format!("edit_files {}", requests.len());
    let (outcome, done) =
        call.workspace.edit(&what, &requests, &options, &|| call.pulse()).map_err(refuse)?;
    let levels: Vec<_> = done
        .iter()
        .zip(&requests)
        .flat_map(|(done, request)| {
            done.iter().map(|d| json!({"path": request.path, "lines": d.lines, "matched": d.level.word()}))
        })
        .collect();
    Ok(told(call, verb(&options, "changed"), &outcome, &[("edits", json!(levels))]))
}

fn apply_patch(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let form = match arguments.word("format", &["auto", "codex", "unified", "search_replace"])? {
        "codex" => Some(Form::Codex),
        "unified" => Some(Form::Unified),
        "search_replace" => Some(Form::SearchReplace),
        _ => None,
    };
    let options = options(arguments)?;
    let strip = arguments.count("strip")?;
    let patched = call.workspace.patch(arguments.text("patch")?, form, strip, &options, &|| call.pulse());
    let (outcome, files) = patched.map_err(refuse)?;
    let list: Vec<_> = files
        .iter()
        .map(|f| {
            let hunks: Vec<_> = f
                .hunks
                .iter()
                .map(|(line, level)| json!({"line": line, "matched_with": level.word()}))
                .collect();
            json!({"path": f.path, "action": f.what, "hunks": hunks})
        })
        .collect();
    Ok(told(call, verb(&options, "patched"), &outcome, &[("files", json!(list))]))
}

fn globs(arguments: Arguments<'_>, name: &str) -> Result<Vec<Glob>, Wrong> {
    let texts = arguments.texts(name)?.unwrap_or_default();
    let wrong = |e: crate::workspace::globs::GlobError| refuse(Refusal::new(Code::BadPattern, e.to_string()));
    texts
        .iter()
        .map(|text| {
            // A glob without a slash means a name at any depth.
            let text = if text.contains('/') { text.clone() } else { format!("**/{text}") };
            Glob::new(&text).map_err(wrong)
        })
        .collect()
}

fn replace(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let (wanted, mut excluded) = (globs(arguments, "globs")?, globs(arguments, "exclude")?);
    excluded.extend(Glob::new("**/.git").ok());
    let request = ReplaceRequest {
        path: arguments.text_or("path")?.unwrap_or(".").to_owned(),
        needle: arguments.text("needle")?.to_owned(),
        is_pattern: arguments.flag("regex")?,
        ignores_case: arguments.flag("ignore_case")?,
        replacement: arguments.text("replacement")?.to_owned(),
        expected: arguments.count("expected_count")?,
        chosen: arguments.texts("occurrence_ids")?,
    };
    let dry_run = arguments.flag("dry_run")?;
    let takes = |way: &str| wanted.is_empty() || wanted.iter().any(|g| g.matches_path(way));
    let leaves = |way: &str| excluded.iter().any(|g| g.matches_path(way));
    let (outcome, places) =
        call.workspace.replace(&request, &takes, &leaves, dry_run, &|| call.pulse()).map_err(refuse)?;
    let list: Vec<_> = places
        .iter()
        .take(PLACES_MAX)
        .map(|(path, place)| json!({"id": place.id, "path": path, "line": place.line, "text": place.text, "new": place.new}))
        .collect();
    let more = [("count", json!(places.len())), ("occurrences", json!(list))];
    Ok(told(call, if dry_run { "would change" } else { "changed" }, &outcome, &more))
}

fn undo(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let options = ChangeOptions { dry_run: arguments.flag("dry_run")?, ..ChangeOptions::default() };
    let later = if arguments.flag("force")? { Later::Overwrite } else { Later::Keep };
    let steps = arguments.count("steps")?.unwrap_or(1);
    let paths = arguments.texts("paths")?.unwrap_or_default();
    let done = call
        .workspace
        .undo(arguments.text_or("op")?, steps, &paths, later, &options, &|| call.pulse())
        .map_err(refuse)?;
    let (mut text, mut list) = (String::new(), Vec::new());
    for (undone, op, changes) in &done {
        let what = if op.is_some() { "took back" } else { "would take back" };
        text.push_str(&format!(
            "{what} {undone}{}\n",
            op.as_ref().map(|op| format!(" ({op})")).unwrap_or_default()
        ));
        changes.iter().for_each(|c| text.push_str(&format!("  {} {}\n", c.word(), c.place().whole())));
        let changed: Vec<_> =
            changes.iter().map(|c| json!({"path": c.place().whole(), "change": c.word()})).collect();
        list.push(json!({"undone": undone, "op": op, "changed": changed}));
    }
    Ok(Reply::both(text, json!({"operations": list})))
}

fn history(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let skip = arguments.text_or("cursor")?.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let limit = arguments.count("limit")?.unwrap_or(20).clamp(1, HISTORY_MAX);
    let (found, count) = call.workspace.history(arguments.text_or("path")?, skip, limit).map_err(refuse)?;
    let (mut text, mut list) = (String::new(), Vec::new());
    for (operation, is_open) in &found {
        let paths: Vec<_> =
            operation.changes.iter().take(5).map(|c| format!("{} {}", c.word(), c.place().path)).collect();
        let state = match (&operation.undoes, is_open) {
            (Some(other), _) => format!(" takes back {other}"),
            (None, true) => String::new(),
            (None, false) => " taken back".to_owned(),
        };
        text.push_str(&format!("{} {}{state}: {}\n", operation.id, operation.what, paths.join(", ")));
        let changed: Vec<_> = operation
            .changes
            .iter()
            .map(|c| json!({"path": c.place().whole(), "change": c.word()}))
            .collect();
        list.push(json!({"op": operation.id, "at_ms": operation.at_ms, "what": operation.what, "undoes": operation.undoes, "undoable": is_open, "changed": changed}));
    }
    if text.is_empty() {
        text.push_str("nothing was changed through this server\n");
    }
    let next = skip + found.len();
    let cursor = (next < count).then(|| next.to_string());
    Ok(Reply::both(text, json!({"operations": list, "count": count, "next_cursor": cursor})))
}

fn begin(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let ttl = arguments.count("ttl_s")?.unwrap_or(TTL_S).clamp(1, TTL_S_MAX);
    let label = arguments.text_or("label")?.unwrap_or_default();
    let ttl = Duration::from_secs(ttl as u64);
    let (tx, until_ms) = call.workspace.transaction_begin(label, ttl).map_err(refuse)?;
    Ok(Reply::both(tx.clone(), json!({"tx": tx, "until_ms": until_ms})))
}

fn tx_diff(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let changed = call.workspace.transaction_diff(arguments.text("tx")?).map_err(refuse)?;
    Ok(told(call, "would change", &Outcome { changed, ..Outcome::default() }, &[]))
}

fn commit(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let merging = match arguments.word("on_conflict", &["fail", "merge3"])? {
        "merge3" => Merging::ThreeWay,
        _ => Merging::Fail,
    };
    let tx = arguments.text("tx")?;
    let checks = arguments.texts("checks")?.unwrap_or_default();
    let outcome =
        call.workspace.transaction_commit(tx, merging, &checks, &|| call.pulse()).map_err(refuse)?;
    Ok(told(call, "changed", &outcome, &[]))
}

fn rollback(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let tx = arguments.text("tx")?;
    let bytes = call.workspace.transaction_rollback(tx).map_err(refuse)?;
    Ok(Reply::both(format!("forgot {tx}, {bytes} bytes"), json!({"tx": tx, "freed_bytes": bytes})))
}
