//! MassGen's six workspace tools: the same parameters and result objects; all or nothing, and undo brings back.
//!
//! What is deleted must have been read or made in this session, as MassGen asks; `force` does without.

use serde_json::{Value, json};

use crate::engine::workspaces::{READ_BYTES_MAX, ReadRequest, Workspace};
use crate::mcp::toolbox::Reply;
use crate::mcp::workspace::call::Call;
use crate::mcp::workspace::compat::Wrong;
use crate::mcp::workspace::node::Arguments;
use crate::workspace::diff::unified;
use crate::workspace::globs::Glob;
use crate::workspace::refusal::{Code, Refusal};

/// Files of one batch.
const BATCH_MAX: usize = 10_000;
/// Differences of files that one comparison shows, in bytes.
const SHOWN_BYTES_MAX: usize = 64 << 10;

/// One call of these tools; `None` when it is none.
pub fn call(call: &Call<'_>, name: &str, arguments: Arguments<'_>) -> Option<Result<Reply, Wrong>> {
    let done = match name {
        "copy_file" => copy_file(call, arguments),
        "copy_files_batch" => copy_batch(call, arguments),
        "delete_file" => delete_file(call, arguments),
        "delete_files_batch" => delete_batch(call, arguments),
        "compare_directories" => compare_folders(call, arguments),
        "compare_files" => compare_files(call, arguments),
        _ => return None,
    };
    Some(match done {
        Ok(details) => Ok(told(name, Ok(details))),
        Err(Wrong::Refused(refusal, _)) => Ok(told(name, Err(&refusal))),
        Err(other) => Err(other),
    })
}

/// MassGen's result object: a failure is one too.
fn told(name: &str, details: Result<Value, &Refusal>) -> Reply {
    let result = match details {
        Ok(details) => {
            let key = if name.starts_with("copy_files") || name.starts_with("delete_files") {
                "summary"
            } else {
                "details"
            };
            json!({"success": true, "operation": name, key: details})
        }
        Err(refusal) => {
            json!({"success": false, "operation": name, "error": refusal.message, "code": refusal.code.word(), "hint": refusal.hint})
        }
    };
    Reply { is_error: result["success"] == false, ..Reply::structured(result) }
}

fn refuse(refusal: Refusal) -> Wrong {
    crate::mcp::workspace::compat::by("open", "")(refusal)
}

/// Every file below a folder, by its way from there.
fn files_below(
    call: &Call<'_>,
    base: &str,
    include: &[Glob],
    exclude: &[Glob],
) -> Result<Vec<(String, String)>, Wrong> {
    let takes = |way: &str| include.is_empty() || include.iter().any(|g| g.matches_path(way));
    let leaves = |way: &str| exclude.iter().any(|g| g.matches_path(way));
    let found = call.workspace.find_paths(base, &takes, &leaves, &|| call.is_cancelled()).map_err(refuse)?;
    let real = call.workspace.real_path(base).map_err(refuse)?;
    let mut files = Vec::new();
    for whole in found {
        let info = call.workspace.info(&whole).map_err(refuse)?;
        if !info.is_file {
            continue;
        }
        if let Ok(way) = std::path::Path::new(&whole).strip_prefix(&real) {
            files.push((whole.clone(), way.to_string_lossy().into_owned()));
        }
        if files.len() > BATCH_MAX {
            let text = format!("`{base}` holds more than {BATCH_MAX} files that match");
            return Err(refuse(
                Refusal::new(Code::TooLarge, text).hint("name fewer with `include_patterns`"),
            ));
        }
    }
    Ok(files)
}

fn patterns(arguments: Arguments<'_>, name: &str) -> Result<Vec<Glob>, Wrong> {
    if arguments.0.get(name).is_none_or(Value::is_null) {
        return Ok(Vec::new());
    }
    let texts = arguments.texts(name)?.unwrap_or_default();
    let both = texts.iter().filter(|text| *text != "*").flat_map(|text| {
        // As fnmatch: a pattern without a slash means a name wherever it is.
        if text.contains('/') { vec![text.clone()] } else { vec![format!("**/{text}")] }
    });
    both.map(|text| Glob::new(&text).map_err(|e| refuse(Refusal::new(Code::BadPattern, e.to_string()))))
        .collect()
}

fn copy_file(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    let (from, to) = (arguments.text("source_path")?, arguments.text("destination_path")?);
    let overwrite = arguments.flag("overwrite")?;
    let pairs = if call.workspace.info(from).map_err(refuse)?.is_folder {
        let files = files_below(call, from, &[], &[])?;
        files.into_iter().map(|(whole, way)| (whole, format!("{}/{way}", to.trim_end_matches('/')))).collect()
    } else {
        vec![(from.to_owned(), to.to_owned())]
    };
    let (outcome, bytes) = call.workspace.copy(&pairs, overwrite, &|| call.pulse()).map_err(refuse)?;
    Ok(
        json!({"source": from, "destination": to, "files": pairs.len(), "size": bytes, "op": outcome.operation}),
    )
}

fn copy_batch(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    let from = arguments.text("source_base_path")?;
    let to = arguments.text_or("destination_base_path")?.filter(|to| !to.is_empty()).unwrap_or(".");
    let (include, exclude) =
        (patterns(arguments, "include_patterns")?, patterns(arguments, "exclude_patterns")?);
    let overwrite = arguments.flag("overwrite")?;
    let files = files_below(call, from, &include, &exclude)?;
    let target = |way: &str| format!("{}/{way}", to.trim_end_matches('/'));
    let all: Vec<(String, String)> = files.into_iter().map(|(whole, way)| (whole, target(&way))).collect();
    // As MassGen: what is there is skipped and told, unless it may be overwritten.
    let (skipped, pairs): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(_, to)| !overwrite && call.workspace.info(to).is_ok());
    let (op, bytes) = if pairs.is_empty() {
        (None, 0)
    } else {
        let (outcome, bytes) = call.workspace.copy(&pairs, overwrite, &|| call.pulse()).map_err(refuse)?;
        (outcome.operation, bytes)
    };
    let skipped: Vec<_> = skipped.into_iter().map(|(_, to)| to).collect();
    Ok(
        json!({"copied_files": pairs.len(), "skipped_files": skipped.len(), "failed_files": 0, "total_bytes": bytes, "skipped": skipped, "op": op}),
    )
}

/// Refuses what was neither read nor made in this session.
fn require_seen(workspace: &Workspace, paths: &[&str]) -> Result<(), Wrong> {
    let unseen: Vec<&str> =
        paths.iter().copied().filter(|path| !workspace.was_seen(path).unwrap_or(false)).collect();
    if unseen.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = unseen.iter().take(10).map(|path| format!("`{path}`")).collect();
    Err(refuse(
        Refusal::new(Code::ReadRequired, format!("not read in this session: {}", shown.join(", ")))
            .hint("read it first, or give `force: true`")
            .data(json!({ "paths": unseen })),
    ))
}

fn delete_file(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    let path = arguments.text("path")?;
    let recursive = arguments.flag("recursive")?;
    let is_folder = call.workspace.info(path).is_ok_and(|info| info.is_folder);
    if !arguments.flag("force")? && !is_folder && call.workspace.info(path).is_ok() {
        require_seen(call.workspace, &[path])?;
    }
    if !arguments.flag("force")? && is_folder && recursive {
        let files = files_below(call, path, &[], &[])?;
        require_seen(call.workspace, &files.iter().map(|(whole, _)| whole.as_str()).collect::<Vec<_>>())?;
    }
    let operation = call.workspace.delete(&[path], recursive, &|| call.pulse()).map_err(refuse)?;
    let kind = if is_folder { "directory" } else { "file" };
    Ok(json!({"path": path, "type": kind, "entries": operation.changes.len(), "op": operation.id}))
}

fn delete_batch(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    let base = arguments.text("base_path")?;
    let (include, exclude) =
        (patterns(arguments, "include_patterns")?, patterns(arguments, "exclude_patterns")?);
    let files = files_below(call, base, &include, &exclude)?;
    let paths: Vec<&str> = files.iter().map(|(whole, _)| whole.as_str()).collect();
    if !arguments.flag("force")? {
        require_seen(call.workspace, &paths)?;
    }
    if paths.is_empty() {
        return Ok(json!({"deleted_files": 0, "failed_files": 0}));
    }
    let operation = call.workspace.delete(&paths, false, &|| call.pulse()).map_err(refuse)?;
    Ok(json!({"deleted_files": paths.len(), "failed_files": 0, "deleted": paths, "op": operation.id}))
}

fn compare_folders(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    use std::collections::BTreeMap;
    let (first, second) = (arguments.text("dir1")?, arguments.text("dir2")?);
    let shows = arguments.flag("show_content_diff")?;
    let map = |base| -> Result<BTreeMap<String, String>, Wrong> {
        Ok(files_below(call, base, &[], &[])?.into_iter().map(|(whole, way)| (way, whole)).collect())
    };
    let (left, right) = (map(first)?, map(second)?);
    let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| -> Vec<String> {
        a.keys().filter(|way| !b.contains_key(*way)).cloned().collect()
    };
    let (mut same, mut different, mut diffs) = (Vec::new(), Vec::new(), serde_json::Map::new());
    let mut shown = 0;
    for (way, one) in &left {
        let Some(other) = right.get(way) else { continue };
        let read = |path: &str| call.workspace.read_raw(path, READ_BYTES_MAX).map_err(refuse);
        let is_large = call.workspace.info(one).map_err(refuse)?.size
            != call.workspace.info(other).map_err(refuse)?.size;
        let (a, b) =
            if is_large && !shows { (Vec::new(), vec![0]) } else { (read(one)?.bytes, read(other)?.bytes) };
        if a == b {
            same.push(way.clone());
            continue;
        }
        different.push(way.clone());
        if let (true, Ok(a), Ok(b)) =
            (shows && shown < SHOWN_BYTES_MAX, String::from_utf8(a), String::from_utf8(b))
        {
            let diff = unified(way, &a, &b);
            shown += diff.len();
            if shown < SHOWN_BYTES_MAX {
                diffs.insert(way.clone(), diff.into());
            }
        }
    }
    Ok(json!({
        "dir1": first, "dir2": second, "identical": same, "different": different,
        "only_in_dir1": only(&left, &right), "only_in_dir2": only(&right, &left),
        "content_diffs": diffs,
    }))
}

fn compare_files(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Value, Wrong> {
    let (first, second) = (arguments.text("file1")?, arguments.text("file2")?);
    let read = |path| call.workspace.read(path, &ReadRequest::default()).map_err(refuse);
    let (a, b) = (read(first)?, read(second)?);
    let is_same = a.hash == b.hash;
    let mut diff = if is_same { String::new() } else { unified(second, &a.text, &b.text) };
    let is_cut = diff.len() > SHOWN_BYTES_MAX;
    if is_cut {
        let end = (0..=SHOWN_BYTES_MAX).rev().find(|n| diff.is_char_boundary(*n)).unwrap_or(0);
        diff.truncate(end);
    }
    Ok(json!({"file1": first, "file2": second, "identical": is_same, "diff": diff, "truncated": is_cut}))
}
