//! The tools of moments: what changed since one, snapshots, the way back.
//!
//! Arguments into questions, answers into text and structure; what they mean is `engine`'s.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::finding::Waiting;
use crate::engine::moments::Changed;
use crate::engine::workspaces::Workspace;
use crate::mcp::toolbox::{Context, Hints, Reply, Tool};
use crate::mcp::workspace::finding::{Asker, TIMEOUT_MS, TIMEOUT_MS_MAX, arguments, refused, tool};
use crate::mcp::workspace::schema::Profile;
use crate::workspace::change::Pulse;
use crate::workspace::manifest::Head;
use crate::workspace::refusal::Refusal;

/// Differences that one reply names.
const CHANGED_MAX: usize = 2000;

/// The tools of a profile.
pub fn tools(profile: Profile) -> Vec<Tool> {
    if profile == Profile::Full { all() } else { Vec::new() }
}

fn all() -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let flag = || json!({"type": "boolean"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let read = Hints::READ;
    vec![
        tool(
            "changes_since",
            "Changes Since",
            "Files created, modified or deleted by anyone since a token. Without a token: a token for now.",
            read,
            &[],
            json!({"token": text(), "gitignore": flag()}),
        ),
        tool(
            "snapshot_create",
            "Create Snapshot",
            "Keep all files as they are now. Unchanged files cost nothing; .git is never part of it.",
            Hints::ADD,
            &[],
            json!({"label": text(), "gitignore": flag()}),
        ),
        tool(
            "snapshot_list",
            "List Snapshots",
            "Snapshots that are kept, with method and cost.",
            read,
            &[],
            json!({}),
        ),
        tool(
            "snapshot_diff",
            "Compare Snapshot",
            "Paths that differ between a snapshot and another one, or now.",
            read,
            &["from"],
            json!({"from": text(), "to": text(), "paths": texts()}),
        ),
        tool(
            "snapshot_restore",
            "Restore Snapshot",
            "Bring files back to a snapshot, all or nothing. undo takes it back.",
            Hints::DESTROY,
            &["id"],
            json!({"id": text(), "paths": texts(), "dry_run": flag()}),
        ),
        tool(
            "snapshot_remove",
            "Remove Snapshot",
            "Forget a snapshot and free what only it kept.",
            Hints::DESTROY,
            &["id"],
            json!({"id": text()}),
        ),
    ]
}

/// One call of these tools; `None` when it is none of them.
pub fn call(
    workspace: &Workspace,
    max_reply: usize,
    context: &Context,
    name: &str,
    arguments: &Map<String, Value>,
) -> Option<Reply> {
    let asker = Asker { workspace, context, max_reply };
    let done = match name {
        "changes_since" => asker.changes_since(arguments),
        "snapshot_create" => asker.snapshot_create(arguments),
        "snapshot_list" => Ok(asker.snapshot_list()),
        "snapshot_diff" => asker.snapshot_diff(arguments),
        "snapshot_restore" => asker.snapshot_restore(arguments),
        "snapshot_remove" => asker.snapshot_remove(arguments),
        _ => return None,
    };
    Some(done.unwrap_or_else(|refusal| refused(&refusal)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MomentArguments {
    token: Option<String>,
    #[serde(default)]
    label: String,
    gitignore: Option<bool>,
    #[serde(default)]
    from: String,
    to: Option<String>,
    #[serde(default)]
    id: String,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

impl Asker<'_> {
    fn changes_since(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MomentArguments = arguments(map)?;
        let ignores = asked.gitignore.unwrap_or(true);
        let ask =
            |patience: &Waiting<'_>| self.workspace.changes_since(asked.token.as_deref(), ignores, patience);
        let since = self.patiently(TIMEOUT_MS, ask)?;
        let (mut text, list) = changed(&since.changed);
        if asked.token.is_none() {
            text = format!("{} files are looked at; ask again with the token\n", since.files);
        }
        text.push_str(&format!("token: {}", since.token));
        let total = since.changed.len();
        Ok(Reply::both(
            self.cut(text),
            json!({"token": since.token, "changed": list, "total": total, "files": since.files}),
        ))
    }

    fn snapshot_create(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MomentArguments = arguments(map)?;
        let ignores = asked.gitignore.unwrap_or(true);
        let ask = |patience: &Waiting<'_>| self.workspace.snapshot_create(&asked.label, ignores, patience);
        let head = self.patiently(TIMEOUT_MS_MAX, ask)?;
        Ok(Reply::both(snapshot_line(&head), snapshot_json(&head)))
    }

    fn snapshot_list(&self) -> Reply {
        let (heads, bytes) = self.workspace.snapshot_list();
        let mut lines: Vec<String> = heads.iter().map(snapshot_line).collect();
        lines.push(format!("{} snapshots, {bytes} bytes in all", heads.len()));
        let all: Vec<_> = heads.iter().map(snapshot_json).collect();
        Reply::both(self.cut(lines.join("\n")), json!({"snapshots": all, "bytes": bytes}))
    }

    fn snapshot_diff(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MomentArguments = arguments(map)?;
        let ask = |patience: &Waiting<'_>| {
            self.workspace.snapshot_diff(&asked.from, asked.to.as_deref(), &asked.paths, patience)
        };
        let found = self.patiently(TIMEOUT_MS, ask)?;
        let (text, list) = changed(&found);
        Ok(Reply::both(self.cut(text), json!({"changed": list, "total": found.len()})))
    }

    fn snapshot_restore(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MomentArguments = arguments(map)?;
        let pulse = || if self.context.is_cancelled() { Pulse::Cancel } else { Pulse::Go };
        let ask = |patience: &Waiting<'_>| {
            self.workspace.snapshot_restore(&asked.id, &asked.paths, asked.dry_run, patience, &pulse)
        };
        let restored = self.patiently(TIMEOUT_MS_MAX, ask)?;
        let (list_text, list) = changed(&restored.changed);
        let op = restored.operation.as_ref().map(|operation| operation.id.clone());
        let head = match &op {
            Some(op) => format!("restored; op {op}\nwhat had changed:\n"),
            None if asked.dry_run => "would restore:\n".to_owned(),
            None => "nothing had changed\n".to_owned(),
        };
        let total = restored.changed.len();
        Ok(Reply::both(
            self.cut(format!("{head}{list_text}")),
            json!({"op": op, "changed": list, "total": total}),
        ))
    }

    fn snapshot_remove(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MomentArguments = arguments(map)?;
        self.workspace.snapshot_remove(&asked.id)?;
        let bytes = self.workspace.snapshot_list().1;
        Ok(Reply::both(format!("removed {}; {bytes} bytes are left", asked.id), json!({"bytes": bytes})))
    }
}

fn changed(all: &[Changed]) -> (String, Vec<Value>) {
    let mut text: String =
        all.iter().take(CHANGED_MAX).map(|one| format!("{} {}\n", one.what.word(), one.path)).collect();
    if all.is_empty() {
        text.push_str("nothing changed\n");
    }
    if all.len() > CHANGED_MAX {
        text.push_str(&format!("… and {} more\n", all.len() - CHANGED_MAX));
    }
    let list = all.iter().take(CHANGED_MAX).map(|one| json!({"path": one.path, "change": one.what.word()}));
    (text, list.collect())
}

fn snapshot_line(head: &Head) -> String {
    format!(
        "{} {:?}: {} files, {} bytes; {} of them written by {}, in {} ms{}",
        head.id,
        head.label,
        head.files,
        head.bytes,
        head.written_bytes,
        head.method,
        head.took_ms,
        if head.skipped.is_empty() { String::new() } else { format!("; {} left out", head.skipped.len()) }
    )
}

fn snapshot_json(head: &Head) -> Value {
    json!({"id": head.id, "label": head.label, "taken_ms": head.taken_ns / 1_000_000, "files": head.files,
        "bytes": head.bytes, "written_bytes": head.written_bytes, "method": head.method, "took_ms": head.took_ms,
        "gitignore": head.ignores, "skipped": head.skipped})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_loses_something_says_that_it_destroys() {
        for tool in all() {
            let loses = ["snapshot_restore", "snapshot_remove"].contains(&tool.name.as_str());
            assert_eq!(tool.hints.destructive, loses, "{}", tool.name);
            assert!(tool.description.len() <= 140, "{}", tool.name);
        }
    }
}
