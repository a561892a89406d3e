//! The 14 tools of the reference server: the same texts, the same structure, the same words when something is wrong;
//! where the reference loses data, the safe thing. Beyond the profile `compat` they can do more and say more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::engine::changes::{ChangeOptions, EditRequest, WriteRequest};
use crate::engine::drafts::Outcome;
use crate::engine::workspaces::{READ_BYTES_MAX, ReadRequest, ReadText, Sizes, Workspace};
use crate::mcp::toolbox::Reply;
use crate::mcp::workspace::call::Call;
use crate::mcp::workspace::node::{
    Arguments, Misfit, date, errno_text, inside, order, padded, padded_front, size,
};
use crate::mcp::workspace::schema::meta;
use crate::workspace::diff::fenced;
use crate::workspace::edit::{Edit, Matching};
use crate::workspace::globs::Glob;
use crate::workspace::refusal::{Code, Refusal};

/// Largest file that is given as base64, in bytes.
const MEDIA_BYTES_MAX: u64 = 16 << 20;
/// Names in one tree.
const TREE_ENTRIES_MAX: usize = 1_000_000;
/// Folders inside each other in one tree.
const TREE_DEPTH_MAX: usize = 128;

/// Why a call of these tools gives no result.
#[derive(Debug)]
pub enum Wrong {
    /// The arguments do not fit.
    Misfit(Misfit),
    /// A text of the reference server.
    Text(String),
    /// It was refused; with the call of Node that would have failed in its place.
    Refused(Box<Refusal>, Syscall),
}

/// The call of Node that the reference would have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Syscall {
    /// With the path.
    One(&'static str, String),
    /// `rename`, with both.
    Rename(String, String),
}

impl From<Misfit> for Wrong {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(misfit)
    }
}

/// `open '/path'` and the like, for a refusal.
pub fn by(syscall: &'static str, path: &str) -> impl FnOnce(Refusal) -> Wrong {
    let path = path.to_owned();
    move |refusal| Wrong::Refused(Box::new(refusal), Syscall::One(syscall, path))
}

impl Wrong {
    /// The text that the reference gives.
    pub fn text(&self, tool: &str, workspace: &Workspace) -> String {
        let (refusal, syscall) = match self {
            Self::Misfit(misfit) => return misfit.text(tool),
            Self::Text(text) => return text.clone(),
            Self::Refused(refusal, syscall) => (refusal, syscall),
        };
        let whole = |path: &str| {
            workspace
                .whole_path(path)
                .map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
        };
        let Some(errno) = refusal.errno else { return refusal.message.clone() };
        let asked = match syscall {
            Syscall::One(_, path) | Syscall::Rename(path, _) => path,
        };
        match (refusal.code, errno_text(errno), syscall) {
            (Code::PathEscape, _, _) => {
                let allowed: Vec<_> =
                    workspace.folders().iter().map(|(given, ..)| given.display().to_string()).collect();
                let path = refusal.path.as_deref().unwrap_or(asked);
                format!(
                    "Access denied - symlink target outside allowed directories: {path} not in {}",
                    allowed.join(", ")
                )
            }
            (Code::NotDirectory, Some(text), _) if workspace.info(asked).is_err() => {
                format!("{text}, realpath '{}'", whole(asked))
            }
            (Code::Exists, _, Syscall::Rename(_, to)) => format!("Destination already exists: {}", whole(to)),
            (Code::IsDirectory, Some(text), Syscall::One("open", _)) => format!("{text}, read"),
            (_, Some(text), Syscall::One(call, path)) => format!("{text}, {call} '{}'", whole(path)),
            (_, Some(text), Syscall::Rename(from, to)) => {
                format!("{text}, rename '{}' -> '{}'", whole(from), whole(to))
            }
            (_, None, _) => refusal.message.clone(),
        }
    }
}

/// One call of a tool of the reference; `None` when it is none.
pub fn call(call: &Call<'_>, name: &str, arguments: Arguments<'_>) -> Option<Result<Reply, Wrong>> {
    Some(match name {
        "read_file" | "read_text_file" => read(call, arguments),
        "read_media_file" => read_media(call, arguments),
        "read_multiple_files" => read_multiple(call, arguments),
        "write_file" => write(call, arguments),
        "edit_file" => edit(call, arguments),
        "create_directory" => create_directory(call, arguments),
        "list_directory" => list(call, arguments),
        "list_directory_with_sizes" => list_with_sizes(call, arguments),
        "directory_tree" => tree(call, arguments),
        "move_file" => move_file(call, arguments),
        "search_files" => search(call, arguments),
        "get_file_info" => info(call, arguments),
        "list_allowed_directories" => Ok(allowed(call)),
        _ => return None,
    })
}

/// A text, twice where the reference sends it twice; `more` beside it.
fn said(call: &Call<'_>, text: String, more: &[(&str, Value)]) -> Reply {
    if call.profile.is_plain() {
        let structured = json!({"content": text});
        return Reply { meta: meta(more), ..Reply::both(text, structured) };
    }
    let structured: Map<String, Value> = more
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    if structured.is_empty() { Reply::text(text) } else { Reply::both(text, Value::Object(structured)) }
}

fn about(read: &ReadText) -> Vec<(&'static str, Value)> {
    vec![
        ("hash", json!(read.hash)),
        ("lines", json!(read.lines)),
        ("eol", json!(read.eol)),
        ("encoding", json!(read.encoding)),
        ("next_offset", json!(read.next_offset)),
    ]
}

fn read(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let (tail, head) = (arguments.number("tail")?, arguments.number("head")?);
    let given = |number: Option<f64>| number.filter(|n| *n != 0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, as it should")]
    let whole = |number: f64| number.max(0.0) as usize;
    if given(head).is_some() && given(tail).is_some() {
        call.workspace.real_path(path).map_err(by("open", path))?;
        return Err(Wrong::Text("Cannot specify both head and tail parameters simultaneously".to_owned()));
    }
    let most = if call.profile.is_plain() { None } else { Some(call.max_reply) };
    let request = ReadRequest {
        head: given(head).map(|n| whole(n.ceil())),
        tail: given(tail).map(whole),
        offset: arguments.count("offset")?,
        limit: arguments.count("limit")?,
        encoding: arguments.text_or("encoding")?.map(str::to_owned),
        max_bytes: arguments.count("max_bytes")?.or(most),
    };
    let mut read = call.workspace.read(path, &request).map_err(by("open", path))?;
    if arguments.text_or("if_none_match")?.is_some_and(|hash| Some(hash) == read.hash.as_deref()) {
        return Ok(said(call, "unchanged".to_owned(), &about(&read)));
    }
    if request.tail.is_some() {
        read.text = read.text.replace("\r\n", "\n");
    }
    if arguments.flag("line_numbers")? {
        let first = request.offset.unwrap_or(1).max(1);
        read.text =
            read.text.lines().enumerate().map(|(n, line)| format!("{:>6}\t{line}\n", n + first)).collect();
    }
    if let (Some(next), false) = (read.next_offset, call.profile.is_plain()) {
        read.text.push_str(&format!("\n[more from line {next} on: offset={next}]"));
    }
    let more = about(&read);
    Ok(said(call, read.text, &more))
}

fn read_media(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let most = arguments.count("max_bytes")?.map_or(MEDIA_BYTES_MAX, |n| n as u64).min(MEDIA_BYTES_MAX);
    let read = call.workspace.read_raw(path, most).map_err(by("open", path))?;
    let name = read.real.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let kind = match name.as_str() {
        "png" | "gif" | "webp" | "bmp" => format!("image/{name}"),
        "jpg" | "jpeg" => "image/jpeg".to_owned(),
        "svg" => "image/svg+xml".to_owned(),
        "mp3" => "audio/mpeg".to_owned(),
        "wav" | "ogg" | "flac" => format!("audio/{name}"),
        _ => "application/octet-stream".to_owned(),
    };
    let data = STANDARD.encode(&read.bytes);
    let block = match kind.split('/').next() {
        Some(part @ ("image" | "audio")) => json!({"type": part, "data": data, "mimeType": kind}),
        _ => {
            json!({"type": "resource", "resource": {"uri": file_url(&read.real.to_string_lossy()), "mimeType": kind, "blob": data}})
        }
    };
    let structured = call.profile.is_plain().then(|| json!({"content": [block.clone()]}));
    Ok(Reply { content: vec![block], structured, ..Reply::default() })
}

/// `file:///…`, with what an address cannot hold written as `%XX`.
fn file_url(path: &str) -> String {
    let mut url = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => url.push(char::from(byte)),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b',' | b';' | b'=' | b':' | b'@' | b'[' | b']' | b'|' => {
                url.push(char::from(byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url
}

fn read_multiple(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let paths = arguments.some_texts("paths")?;
    let most = arguments.count("max_total_bytes")?;
    let most = most.or(if call.profile.is_plain() { None } else { Some(call.max_reply) });
    let (mut total, mut parts) = (0, Vec::with_capacity(paths.len()));
    for path in &paths {
        let request =
            ReadRequest { max_bytes: most.map(|most| most.saturating_sub(total)), ..ReadRequest::default() };
        parts.push(match call.workspace.read(path, &request).map_err(by("open", path)) {
            Ok(read) => {
                total += read.text.len();
                let more =
                    read.next_offset.map_or_else(String::new, |n| format!("[more from line {n} on]\n"));
                format!("{path}:\n{}\n{more}", read.text)
            }
            Err(wrong) => format!("{path}: Error - {}", wrong.text("read_multiple_files", call.workspace)),
        });
        if total as u64 > READ_BYTES_MAX {
            return Err(Wrong::Text(format!("the files have more than {READ_BYTES_MAX} bytes in all")));
        }
    }
    Ok(said(call, parts.join("\n---\n"), &[]))
}

fn options(arguments: Arguments<'_>, dry_run: bool) -> Result<ChangeOptions, Misfit> {
    Ok(ChangeOptions {
        if_match: arguments.text_or("if_match")?.map(str::to_owned),
        dry_run,
        tx: arguments.text_or("tx")?.map(str::to_owned),
        checks: Vec::new(),
    })
}

/// What a client can go on with after a change.
pub fn record(outcome: &Outcome) -> Vec<(&'static str, Value)> {
    let changed: Vec<Value> = outcome
        .changed
        .iter()
        .map(|c| {
            let mut one = json!({"path": c.path, "hash_before": c.hash_before, "hash_after": c.hash_after, "bytes": c.bytes});
            if c.is_split {
                one["hard_link_split"] = true.into();
            }
            one
        })
        .collect();
    let rebased = if outcome.is_rebased { json!(true) } else { Value::Null };
    vec![("op", json!(outcome.operation)), ("changed", json!(changed)), ("rebased", rebased)]
}

fn write(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let mode = match arguments.text_or("mode")?.map(|mode| (mode, u32::from_str_radix(mode, 8))) {
        Some((_, Ok(mode))) if mode <= 0o7777 => Some(mode),
        Some((mode, _)) => return Err(Wrong::Text(format!("`{mode}` is no mode: octal digits such as 644"))),
        None => None,
    };
    let request = WriteRequest {
        text: arguments.text("content")?.to_owned(),
        create_only: arguments.flag("create_only")?,
        create_parents: arguments.flag("create_parents")?,
        eol: arguments.text_or("eol")?.map(str::to_owned),
        encoding: arguments.text_or("encoding")?.map(str::to_owned),
        mode,
    };
    let options = options(arguments, arguments.flag("dry_run")?)?;
    let outcome =
        call.workspace.write(path, &request, &options, &|| call.pulse()).map_err(by("open", path))?;
    if options.dry_run {
        let diff = outcome.changed.first().map(|c| fenced(&c.diff)).unwrap_or_default();
        return Ok(said(call, diff, &record(&outcome)));
    }
    Ok(said(call, format!("Successfully wrote to {path}"), &record(&outcome)))
}

/// One edit of a list.
///
/// # Errors
/// An argument that does not fit.
pub fn one_edit(arguments: Arguments<'_>) -> Result<Edit, Misfit> {
    Ok(Edit {
        old: arguments.text("oldText")?.to_owned(),
        new: arguments.text("newText")?.to_owned(),
        occurrence: arguments.count("occurrence")?,
        all: arguments.flag("replaceAll")?,
        expected: arguments.count("expected_count")?,
        near_line: arguments.count("near_line")?,
    })
}

/// How loosely texts are matched.
///
/// # Errors
/// A word that is none of them.
pub fn matching(arguments: Arguments<'_>) -> Result<Matching, Misfit> {
    Ok(match arguments.word("match", &["whitespace", "exact", "auto"])? {
        "exact" => Matching::Exact,
        "auto" => Matching::Auto,
        _ => Matching::Whitespace,
    })
}

fn edit(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let edits = arguments.objects("edits")?;
    let edits =
        edits.iter().enumerate().map(|(n, map)| one_edit(Arguments(map)).map_err(|m| inside("edits", n, m)));
    let edits = edits.collect::<Result<Vec<_>, _>>()?;
    let request =
        EditRequest { path: path.to_owned(), edits, matching: matching(arguments)?, if_match: None };
    let options = options(arguments, arguments.flag("dryRun")?)?;
    let edited =
        call.workspace
            .edit(&format!("edit_file {path}"), std::slice::from_ref(&request), &options, &|| call.pulse());
    let (outcome, done) = edited.map_err(|refusal| not_edited(call, path, &request, refusal))?;
    let mut text = match outcome.changed.first() {
        Some(changed) if !changed.diff.is_empty() => fenced(&changed.diff),
        _ => String::new(),
    };
    let mut more = record(&outcome);
    let levels: Vec<_> =
        done.iter().flatten().map(|d| json!({"lines": d.lines, "matched": d.level.word()})).collect();
    more.push(("edits", json!(levels)));
    if let (Some(op), false) = (&outcome.operation, call.profile.is_plain()) {
        text.push_str(&format!("{op}\n"));
    }
    Ok(said(call, text, &more))
}

/// In the reference's words where it has some.
fn not_edited(call: &Call<'_>, path: &str, request: &EditRequest, refusal: Refusal) -> Wrong {
    let is_missing = matches!(refusal.code, Code::NoMatch | Code::AlreadyApplied);
    if call.profile.is_plain() && is_missing {
        let number = refusal.data.as_ref().and_then(|data| data["edit"].as_u64()).unwrap_or(1);
        let edit = usize::try_from(number).ok().and_then(|n| request.edits.get(n.saturating_sub(1)));
        let old = edit.map(|e| e.old.as_str()).unwrap_or_default();
        return Wrong::Text(format!("Could not find exact match for edit:\n{old}"));
    }
    Wrong::Refused(Box::new(refusal), Syscall::One("open", path.to_owned()))
}

fn create_directory(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let op = call.workspace.make_folder(path, &|| call.pulse()).map_err(by("mkdir", path))?;
    Ok(said(call, format!("Successfully created directory {path}"), &[("op", json!(op))]))
}

fn list(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let entries = call.workspace.list(path, Sizes::Unknown).map_err(by("scandir", path))?;
    let from = arguments.text_or("cursor")?.and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let limit = arguments.count("limit")?.unwrap_or(usize::MAX);
    let page = entries.iter().skip(from).take(limit);
    let lines: Vec<_> =
        page.map(|e| format!("{} {}", if e.is_folder { "[DIR]" } else { "[FILE]" }, e.name)).collect();
    let next = from.saturating_add(lines.len());
    let cursor = if next < entries.len() { json!(next.to_string()) } else { Value::Null };
    Ok(said(call, lines.join("\n"), &[("next_cursor", cursor)]))
}

fn list_with_sizes(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let by_size = arguments.word("sortBy", &["name", "size"])? == "size";
    let mut entries = call.workspace.list(path, Sizes::Known).map_err(by("scandir", path))?;
    let folders = entries.iter().filter(|e| e.is_folder).count();
    let total: u64 = entries.iter().filter(|e| !e.is_folder).map(|e| e.size).sum();
    if by_size {
        // Folders weigh as the file system says; their order among themselves is nothing to rely on.
        entries.sort_by_key(|e| std::cmp::Reverse(e.size));
    } else {
        entries.sort_by(|a, b| order(&a.name, &b.name));
    }
    let line = |e: &crate::engine::workspaces::Entry| {
        let (kind, weight) =
            if e.is_folder { ("[DIR]", String::new()) } else { ("[FILE]", padded_front(&size(e.size), 10)) };
        format!("{kind} {} {weight}", padded(&e.name, 30))
    };
    let mut lines: Vec<_> = entries.iter().map(line).collect();
    lines.push(String::new());
    lines.push(format!("Total: {} files, {folders} directories", entries.len() - folders));
    lines.push(format!("Combined size: {}", size(total)));
    Ok(said(call, lines.join("\n"), &[]))
}

/// A tree as it is written.
struct Tree<'a> {
    call: &'a Call<'a>,
    /// Patterns without a star also mean what lies below them.
    exclude: Vec<(Glob, Option<[Glob; 2]>)>,
    entries: usize,
    entries_max: usize,
    depth_max: usize,
}

impl Tree<'_> {
    fn is_excluded(&self, path: &str) -> bool {
        let hit = |(glob, more): &(Glob, Option<[Glob; 2]>)| {
            glob.matches_path(path)
                || more.as_ref().is_some_and(|more| more.iter().any(|g| g.matches_path(path)))
        };
        self.exclude.iter().any(hit)
    }

    /// The names below a folder, as JSON with an indentation of two blanks.
    fn write(&mut self, path: &str, relative: &str, depth: usize, out: &mut String) -> Result<(), Wrong> {
        let entries = self.call.workspace.list(path, Sizes::Unknown).map_err(by("scandir", path))?;
        let pad = "  ".repeat(2 * depth + 1);
        let mut is_first = true;
        for entry in entries {
            let inner =
                if relative.is_empty() { entry.name.clone() } else { format!("{relative}/{}", entry.name) };
            if self.is_excluded(&inner) {
                continue;
            }
            self.entries += 1;
            if self.entries > self.entries_max || depth > TREE_DEPTH_MAX || self.call.is_cancelled() {
                return Err(Wrong::Text(format!(
                    "the tree has more than {} names; ask for a part of it",
                    self.entries_max
                )));
            }
            out.push_str(if is_first { "\n" } else { ",\n" });
            is_first = false;
            let name = Value::String(entry.name.clone()).to_string();
            let kind = if entry.is_folder { "directory" } else { "file" };
            out.push_str(&format!("{pad}{{\n{pad}  \"name\": {name},\n{pad}  \"type\": \"{kind}\""));
            if entry.is_folder && depth + 1 < self.depth_max {
                out.push_str(&format!(",\n{pad}  \"children\": ["));
                self.write(
                    &format!("{}/{}", path.trim_end_matches('/'), entry.name),
                    &inner,
                    depth + 1,
                    out,
                )?;
                out.push(']');
            } else if entry.is_folder {
                out.push_str(&format!(",\n{pad}  \"children\": []"));
            }
            out.push_str(&format!("\n{pad}}}"));
        }
        if !is_first {
            out.push_str(&format!("\n{}", "  ".repeat(2 * depth)));
        }
        Ok(())
    }
}

fn glob(pattern: &str) -> Result<Glob, Wrong> {
    Glob::new(pattern).map_err(|e| Wrong::Text(e.to_string()))
}

fn tree(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let exclude = arguments.texts("excludePatterns")?.unwrap_or_default();
    let exclude = exclude.iter().map(|pattern| {
        let more = if pattern.contains('*') {
            None
        } else {
            Some([glob(&format!("**/{pattern}"))?, glob(&format!("**/{pattern}/**"))?])
        };
        Ok((glob(pattern)?, more))
    });
    let entries_max = arguments.count("maxEntries")?.unwrap_or(TREE_ENTRIES_MAX).min(TREE_ENTRIES_MAX);
    let depth_max = arguments.count("maxDepth")?.unwrap_or(usize::MAX);
    let exclude = exclude.collect::<Result<_, Wrong>>()?;
    let mut tree = Tree { call, exclude, entries: 0, entries_max, depth_max };
    let mut out = "[".to_owned();
    let base = if path.is_empty() { "." } else { path };
    tree.write(base, "", 0, &mut out)?;
    out.push(']');
    Ok(said(call, out, &[]))
}

fn move_file(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let (from, to) = (arguments.text("source")?, arguments.text("destination")?);
    let wrong = |refusal| Wrong::Refused(Box::new(refusal), Syscall::Rename(from.to_owned(), to.to_owned()));
    let overwrite = arguments.flag("overwrite")?;
    let op = call
        .workspace
        .move_to(from, to, overwrite, &ChangeOptions::default(), &|| call.pulse())
        .map_err(wrong)?;
    Ok(said(call, format!("Successfully moved {from} to {to}"), &[("op", json!(op))]))
}

fn search(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let pattern = glob(arguments.text("pattern")?)?;
    let exclude = arguments.texts("excludePatterns")?.unwrap_or_default();
    let exclude = exclude.iter().map(|pattern| glob(pattern)).collect::<Result<Vec<_>, _>>()?;
    let found = call
        .workspace
        .find_paths(
            path,
            &|way| pattern.matches_path(way),
            &|way| exclude.iter().any(|g| g.matches_path(way)),
            &|| call.is_cancelled(),
        )
        .map_err(by("scandir", path))?;
    let text = if found.is_empty() { "No matches found".to_owned() } else { found.join("\n") };
    Ok(said(call, text, &[("count", json!(found.len()))]))
}

fn info(call: &Call<'_>, arguments: Arguments<'_>) -> Result<Reply, Wrong> {
    let path = arguments.text("path")?;
    let info = call.workspace.info(path).map_err(by("stat", path))?;
    let (created, modified, accessed) = info.times_ms;
    let mode = format!("{:o}", info.mode | 0o100_000);
    let text = format!(
        "size: {}\ncreated: {}\nmodified: {}\naccessed: {}\nisDirectory: {}\nisFile: {}\npermissions: {}",
        info.size,
        date(created),
        date(modified),
        date(accessed),
        info.is_folder,
        info.is_file,
        &mode[mode.len() - 3..]
    );
    Ok(said(call, text, &[]))
}

fn allowed(call: &Call<'_>) -> Reply {
    let (mut lines, mut modes) = (Vec::new(), Vec::new());
    for (given, real, is_writable) in call.workspace.folders() {
        lines.push(given.display().to_string());
        if real != given {
            lines.push(real.display().to_string());
        }
        modes.push(json!({"path": given.to_string_lossy(), "mode": if is_writable { "read-write" } else { "read-only" }}));
    }
    said(call, format!("Allowed directories:\n{}", lines.join("\n")), &[("roots", json!(modes))])
}
