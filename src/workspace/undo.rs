//! What takes an operation back: its changes turned round, as steps for the next commit.
//!
//! Nothing that came later is overwritten unless that is asked for: each place must be as the operation left it.

use crate::workspace::change::{Change, Later, Operation, Place, Version};
use crate::workspace::commit::{Before, Content, Step};
use crate::workspace::files::before;
use crate::workspace::journal::Journal;
use crate::workspace::path::{normal, root_of};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::{Roots, Spot};

/// The operations that `undo` without a name takes back, newest first: none that is taken back already, and none that
/// only took another back.
pub fn undoable(operations: &[Operation]) -> Vec<&Operation> {
    let mut taken: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for operation in operations.iter().rev() {
        // What takes back an undo brings the first operation back: it is done again.
        if taken.contains(&operation.id.as_str()) {
            continue;
        }
        match &operation.undoes {
            Some(other) => taken.push(other),
            None => found.push(operation),
        }
    }
    found
}

/// The steps that take an operation back; with `only`, what concerns these absolute paths.
///
/// # Errors
/// `Conflict` with the places that changed since, `Quota` when an old content is gone.
pub fn steps(
    roots: &Roots,
    journal: &Journal,
    operation: &Operation,
    only: &[String],
    later: Later,
) -> Result<Vec<Step>, Refusal> {
    let wanted = |change: &&Change| only.is_empty() || only.iter().any(|path| change.touches(path));
    let mut steps = Vec::new();
    let mut conflicts = Vec::new();
    for change in operation.changes.iter().rev().filter(wanted) {
        match step(roots, journal, change, later) {
            Ok(step) => steps.extend(step),
            Err(e) if e.code == Code::Conflict => conflicts.push(change.place().whole()),
            Err(other) => return Err(other),
        }
    }
    if !conflicts.is_empty() {
        let text = format!(
            "{} changed since: {}",
            if conflicts.len() == 1 { "it" } else { "they" },
            conflicts.join(", ")
        );
        return Err(Refusal::new(Code::Conflict, text)
            .hint("`force: true` overwrites what came later; that can be undone in turn")
            .data(serde_json::json!({"paths": conflicts, "operation": operation.id})));
    }
    if steps.is_empty() {
        return Err(Refusal::new(Code::NoOperation, "there is nothing to take back")
            .hint("`history` lists operations"));
    }
    Ok(steps)
}

fn changed() -> Refusal {
    Refusal::new(Code::Conflict, "it changed since")
}

/// The place of a journal in the roots of today.
fn spot(roots: &Roots, place: &Place) -> Result<Spot, Refusal> {
    let gone = || {
        Refusal::new(Code::PathEscape, format!("`{}` is in no root of this server", place.path))
            .at(&place.path)
    };
    let whole = normal(std::path::Path::new(&place.whole()));
    let all: Vec<_> = roots.all().map(|(_, paths)| paths.clone()).collect();
    let (root, inside) = root_of(&whole, &all).ok_or_else(gone)?;
    Ok(roots.spot(root, inside))
}

fn step(roots: &Roots, journal: &Journal, change: &Change, later: Later) -> Result<Option<Step>, Refusal> {
    match change {
        Change::File { path, before: old, after } => {
            let spot = spot(roots, path)?;
            let now = before(roots, &spot)?;
            let hash = |b: &Option<Before>| b.as_ref().map(|b| b.version.hash.clone());
            if later == Later::Keep && hash(&now) != after.as_ref().map(|v| v.hash.clone()) {
                return Err(changed());
            }
            match (old, now) {
                (None, None) => Ok(None),
                (None, Some(now)) => Ok(Some(Step::Remove { spot, before: now })),
                (Some(old), now) => {
                    let content = content(journal, old)?;
                    let (mode, mtime) = (Some(old.mode), Some(old.mtime));
                    Ok(Some(Step::Put { spot, content, mode, mtime, before: now }))
                }
            }
        }
        Change::Folder { path, is_made: false, mode, .. } => {
            Ok(Some(Step::MakeFolder { spot: spot(roots, path)?, mode: Some(*mode), may_exist: true }))
        }
        Change::Folder { path, is_made: true, .. } => {
            let spot = spot(roots, path)?;
            match roots.look(&spot) {
                Err(e) if e.code == Code::NotFound => Ok(None),
                _ => Ok(Some(Step::RemoveEmptyFolder { spot })),
            }
        }
        Change::Moved { from, to } => Ok(Some(Step::Move { from: spot(roots, to)?, to: spot(roots, from)? })),
    }
}

fn content(journal: &Journal, version: &Version) -> Result<Content, Refusal> {
    match &version.link {
        Some(target) => Ok(Content::Link(target.clone())),
        None => journal.kept(&version.hash).map(Content::File),
    }
}
