//! The tools that look and do not change: search, symbols, maps, suggestions, status.
//!
//! Arguments into questions, answers into text and structure; what they mean is `engine`'s.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::engine::finding::{
    Answer, CodeMap, ContentQuery, End, FileOutline, FilesQuery, Letters, MapQuery, SearchFound, SearchMark,
    SearchMode, SymbolQuery, Waiting,
};
use crate::engine::workspaces::Workspace;
use crate::mcp::toolbox::{Context, Hints, Lane, Reply, Tool, arguments as parsed};
use crate::mcp::workspace::schema;
use crate::mcp::workspace::schema::Profile;
use crate::workspace::refusal::{Code, Refusal};

/// How long a search may take where nothing else was said, in milliseconds.
pub(crate) const TIMEOUT_MS: u64 = 30_000;
/// The longest that can be asked for, in milliseconds.
pub(crate) const TIMEOUT_MS_MAX: u64 = 600_000;
/// Results of one reply.
const LIMIT_MAX: usize = 10_000;
/// Tokens of one map.
const MAP_TOKENS_MAX: usize = 32_000;

/// The tools of a profile.
pub fn tools(profile: Profile) -> Vec<Tool> {
    match profile {
        Profile::Compat | Profile::Massgen => Vec::new(),
        Profile::Core => all().into_iter().filter(|tool| tool.name == "search_content").collect(),
        Profile::Full => all(),
    }
}

/// One tool of the long lane.
pub(crate) fn tool(
    name: &str,
    title: &str,
    about: &str,
    hints: Hints,
    required: &[&str],
    properties: Value,
) -> Tool {
    Tool { lane: Lane::Long, ..schema::tool(name, title, about, hints, required, properties) }
}

fn all() -> Vec<Tool> {
    let text = || json!({"type": "string"});
    let flag = || json!({"type": "boolean"});
    let count = || json!({"type": "integer", "minimum": 0});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    vec![
        tool(
            "search_content",
            "Search Content",
            "Search text in files. Partial results on time-out; pass cursor to go on. Ignored files are left out unless gitignore is false.",
            Hints::READ,
            &["pattern"],
            json!({
                "pattern": text(), "regex": flag(), "paths": texts(), "globs": texts(), "exclude": texts(),
                "case": {"type": "string", "enum": ["exact", "ignore", "smart"]}, "word": flag(), "multiline": flag(),
                "context": count(), "mode": {"type": "string", "enum": ["lines", "files", "count"]},
                "limit": count(), "cursor": text(), "timeout_ms": count(), "gitignore": flag(),
            }),
        ),
        tool(
            "find_files",
            "Find Files",
            "Find files by a few letters of their path in order, best first. For globs use search_files.",
            Hints::READ,
            &["query"],
            json!({"query": text(), "path": text(), "limit": count()}),
        ),
        tool(
            "outline",
            "Outline",
            "Functions, types and headings of files with their lines. A folder means its source files.",
            Hints::READ,
            &["paths"],
            json!({"paths": texts(), "depth": count(), "kinds": texts()}),
        ),
        tool(
            "find_symbol",
            "Find Symbol",
            "Find definitions by name or Type/name. refs also lists lines that hold the name: text matches, not resolved.",
            Hints::READ,
            &["name_path"],
            json!({
                "name_path": text(), "kinds": texts(), "paths": texts(), "contains": flag(), "include_body": flag(),
                "refs": flag(), "limit": count(),
            }),
        ),
        tool(
            "suggest_files",
            "Suggest Files",
            "Rank files a task is probably about, with reasons: names, content, git history, imports. A guess, not an answer.",
            Hints::READ,
            &["task"],
            json!({"task": text(), "seeds": texts(), "paths": texts(), "k": count()}),
        ),
        tool(
            "workspace_map",
            "Workspace Map",
            "The most referenced signatures of the code within a token budget; focus names files or symbols to centre on.",
            Hints::READ,
            &[],
            json!({"budget_tokens": count(), "focus": texts(), "paths": texts()}),
        ),
        tool(
            "workspace_status",
            "Workspace Status",
            "Roots, file counts, languages, what is cached.",
            Hints::READ,
            &[],
            json!({}),
        ),
    ]
}

/// Who asks, and how much fits.
pub(crate) struct Asker<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) context: &'a Context,
    pub(crate) max_reply: usize,
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
        "search_content" => asker.search(arguments),
        "find_files" => asker.find_files(arguments),
        "outline" => asker.outline(arguments),
        "find_symbol" => asker.find_symbol(arguments),
        "suggest_files" => asker.suggest(arguments),
        "workspace_map" => asker.map(arguments),
        "workspace_status" => asker.status(),
        _ => return None,
    };
    Some(done.unwrap_or_else(|refusal| refused(&refusal)))
}

/// A refusal as a reply: the line for people first, the rest for programs.
pub(crate) fn refused(refusal: &Refusal) -> Reply {
    let hint = refusal.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
    Reply { is_error: true, ..Reply::both(format!("{}{hint}", refusal.message), refusal.to_json()) }
}

/// The arguments of a call as a type.
pub(crate) fn arguments<T: DeserializeOwned>(map: &Map<String, Value>) -> Result<T, Refusal> {
    parsed(map.clone()).map_err(|failure| Refusal::new(Code::BadRequest, failure.message))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SearchArguments {
    pattern: String,
    regex: bool,
    paths: Vec<String>,
    globs: Vec<String>,
    exclude: Vec<String>,
    case: String,
    word: bool,
    multiline: bool,
    context: usize,
    mode: String,
    limit: usize,
    cursor: Option<String>,
    timeout_ms: u64,
    gitignore: bool,
}

impl Default for SearchArguments {
    fn default() -> Self {
        Self {
            pattern: String::new(),
            regex: false,
            paths: Vec::new(),
            globs: Vec::new(),
            exclude: Vec::new(),
            case: "exact".to_owned(),
            word: false,
            multiline: false,
            context: 0,
            mode: "lines".to_owned(),
            limit: 200,
            cursor: None,
            timeout_ms: TIMEOUT_MS,
            gitignore: true,
        }
    }
}

fn unknown(what: &str, text: &str) -> Refusal {
    Refusal::new(Code::BadRequest, format!("`{text}` is no {what}"))
}

/// A place in an answer as a text that a client only hands back.
fn cursor_of(mark: &SearchMark) -> String {
    let head = format!("{}\0{}\0", mark.start, mark.line);
    URL_SAFE_NO_PAD.encode([head.as_bytes(), &mark.folder, b"\0", &mark.name].concat())
}

fn mark_of(cursor: &str) -> Result<SearchMark, Refusal> {
    let wrong = || unknown("cursor of this server", cursor);
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().ok_or_else(wrong)?;
    let mut parts = bytes.splitn(4, |byte| *byte == 0);
    let mut next = || parts.next().ok_or_else(wrong);
    let (start, line, folder, name) = (next()?, next()?, next()?.to_vec(), next()?.to_vec());
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<u64>().ok());
    let start = number(start).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
    Ok(SearchMark { start, folder, name, line: number(line).ok_or_else(wrong)? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NearArguments {
    query: String,
    path: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutlineArguments {
    paths: Vec<String>,
    depth: Option<usize>,
    #[serde(default)]
    kinds: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SymbolArguments {
    name_path: String,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    contains: bool,
    #[serde(default)]
    include_body: bool,
    #[serde(default)]
    refs: bool,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuggestArguments {
    task: String,
    #[serde(default)]
    seeds: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    k: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapArguments {
    budget_tokens: Option<usize>,
    #[serde(default)]
    focus: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
}

impl Asker<'_> {
    /// Calls `ask` with the patience of this call.
    pub(crate) fn patiently<T>(&self, timeout_ms: u64, ask: impl FnOnce(&Waiting<'_>) -> T) -> T {
        let cancelled = || self.context.is_cancelled();
        let progress = |done: u64, of: Option<u64>| {
            #[expect(clippy::cast_precision_loss, reason = "progress needs no last digit")]
            let (done, of) = (done as f64, of.map(|of| of as f64));
            let _client_is_busy = self.context.progress(done, of, "");
        };
        let quiet = |_: u64, _: Option<u64>| {};
        let wait = Some(Duration::from_millis(timeout_ms.min(TIMEOUT_MS_MAX)));
        match self.context.wants_progress() {
            true => ask(&Waiting::new(wait, &cancelled, &progress)),
            false => ask(&Waiting::new(wait, &cancelled, &quiet)),
        }
    }

    /// A text that fits, cut at a line end and told where it does not.
    pub(crate) fn cut(&self, mut text: String) -> String {
        if text.len() > self.max_reply {
            let mut end = self.max_reply;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            let end = text[..end].rfind('\n').unwrap_or(end);
            text.truncate(end);
            text.push_str("\n… cut: ask for less");
        }
        text
    }

    fn search(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: SearchArguments = arguments(map)?;
        let query = ContentQuery {
            case: match asked.case.as_str() {
                "exact" => Letters::Exact,
                "ignore" => Letters::Ignored,
                "smart" => Letters::Smart,
                other => return Err(unknown("`case`: exact, ignore, smart", other)),
            },
            mode: match asked.mode.as_str() {
                "lines" => SearchMode::Lines,
                "files" => SearchMode::Files,
                "count" => SearchMode::Count,
                other => return Err(unknown("`mode`: lines, files, count", other)),
            },
            pattern: asked.pattern,
            regex: asked.regex,
            word: asked.word,
            multiline: asked.multiline,
            context: asked.context,
            globs: asked.globs,
            exclude: asked.exclude,
            ignores: asked.gitignore,
            limit: asked.limit.clamp(1, LIMIT_MAX),
            // The text and the structure both travel.
            reply_bytes_max: self.max_reply / 2,
            after: asked.cursor.as_deref().map(mark_of).transpose()?,
        };
        let ask = |patience: &Waiting<'_>| self.workspace.search_content(&asked.paths, &query, patience);
        let answer = self.patiently(asked.timeout_ms, ask)?;
        Ok(found(&answer, query.mode))
    }

    fn find_files(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: NearArguments = arguments(map)?;
        let (path, limit) =
            (asked.path.as_deref().unwrap_or("."), asked.limit.unwrap_or(20).clamp(1, LIMIT_MAX));
        let ask = |patience: &Waiting<'_>| self.workspace.find_near(path, &asked.query, limit, patience);
        let answer = self.patiently(TIMEOUT_MS, ask)?;
        let paths: Vec<String> =
            answer.found.iter().map(|near| answer.path(0, near.path.as_bytes())).collect();
        let files =
            paths.iter().zip(&answer.found).map(|(path, near)| json!({"path": path, "score": near.score}));
        let structured = json!({"files": files.collect::<Vec<_>>()});
        let text = if paths.is_empty() { "No matches found".to_owned() } else { paths.join("\n") };
        Ok(Reply::both(self.cut(text), structured))
    }

    fn outline(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: OutlineArguments = arguments(map)?;
        let outlines =
            self.patiently(TIMEOUT_MS, |patience| self.workspace.outlines(&asked.paths, patience))?;
        let (mut text, mut files) = (String::new(), Vec::new());
        for (path, outline) in &outlines {
            match outline {
                Ok(outline) => {
                    let by = outline.found.word();
                    let guess = if by == "pattern" { " (guessed by patterns)" } else { "" };
                    text.push_str(&format!("{path}{guess}\n"));
                    text.push_str(&symbol_lines(outline, asked.depth, &asked.kinds));
                    files.push(json!({"path": path, "by": by, "symbols": outline.symbols.len(), "complete": outline.whole,
                        "syntax_errors": outline.has_errors}));
                }
                Err(refusal) if outlines.len() == 1 => return Err(refusal.clone()),
                Err(refusal) => {
                    text.push_str(&format!("{path}: {}\n", refusal.message));
                    files.push(json!({"path": path, "error": refusal.to_json()}));
                }
            }
        }
        if text.is_empty() {
            text.push_str("there is no source file");
        }
        Ok(Reply::both(self.cut(text), json!({"files": files})))
    }

    fn find_symbol(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: SymbolArguments = arguments(map)?;
        let question = SymbolQuery {
            name_path: asked.name_path,
            contains: asked.contains,
            kinds: asked.kinds,
            body: asked.include_body,
            uses: asked.refs,
            limit: asked.limit.unwrap_or(50).clamp(1, LIMIT_MAX),
        };
        let ask = |patience: &Waiting<'_>| self.workspace.find_symbol(&asked.paths, &question, patience);
        let answer = self.patiently(TIMEOUT_MS, ask)?;
        let found = &answer.found;
        let (mut text, mut definitions) = (String::new(), Vec::new());
        for definition in &found.definitions {
            let path = answer.path(definition.place, &definition.path);
            let (first, last) = definition.lines;
            let name = definition.names.join("/");
            text.push_str(&format!(
                "{path}:{first}-{last} {} {name}: {}\n",
                definition.kind, definition.signature
            ));
            if let Some(body) = &definition.body {
                text.push_str(&format!("{body}\n"));
            }
            definitions.push(json!({"path": path, "name_path": name, "kind": definition.kind, "line": first,
                "last_line": last, "by": definition.by}));
        }
        if found.definitions.is_empty() {
            text.push_str("no definition found\n");
        }
        if question.uses {
            text.push_str("lines that hold the name (text, not resolved):\n");
            for used in &found.uses {
                text.push_str(&format!(
                    "{}:{}: {}\n",
                    answer.path(used.place, &used.path),
                    used.line,
                    used.text
                ));
            }
        }
        let structured = json!({"definitions": definitions, "definitions_total": found.definitions_total,
            "textual_refs_total": found.uses_total, "unparsed_files": found.unparsed, "files_read": found.read.files,
            "ended": found.read.ended.word()});
        Ok(Reply::both(self.cut(text), structured))
    }

    fn suggest(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: SuggestArguments = arguments(map)?;
        let limit = asked.k.unwrap_or(10).clamp(1, 200);
        let question = FilesQuery { task: asked.task, seeds: asked.seeds, limit };
        let ask = |patience: &Waiting<'_>| self.workspace.suggest_files(&asked.paths, &question, patience);
        let answer = self.patiently(TIMEOUT_MS, ask)?;
        let (mut text, mut files) = (String::new(), Vec::new());
        for one in &answer.found.suggestions {
            let path = answer.path(one.place, one.path.as_bytes());
            text.push_str(&format!("{path}  ({})\n", one.reasons.join("; ")));
            files.push(
                json!({"path": path, "score": (one.score * 1000.0).round() / 1000.0, "reasons": one.reasons}),
            );
        }
        if files.is_empty() {
            text.push_str("nothing speaks for any file");
        }
        let structured = json!({"files": files, "words": answer.found.words, "commits": answer.found.commits,
            "files_read": answer.found.read.files, "ended": answer.found.read.ended.word()});
        Ok(Reply::both(self.cut(text), structured))
    }

    fn map(&self, map: &Map<String, Value>) -> Result<Reply, Refusal> {
        let asked: MapArguments = arguments(map)?;
        let budget_tokens = asked.budget_tokens.unwrap_or(2000).clamp(50, MAP_TOKENS_MAX);
        let question = MapQuery { budget_tokens, focus: asked.focus };
        let ask = |patience: &Waiting<'_>| self.workspace.map(&asked.paths, &question, patience);
        let answer = self.patiently(TIMEOUT_MS, ask)?;
        let found = &answer.found;
        let structured = json!({"files_total": found.files_total, "symbols_total": found.symbols_total,
            "shown": found.shown, "cached_files": found.known, "ended": found.read.ended.word()});
        Ok(Reply::both(self.cut(map_text(&answer)), structured))
    }

    fn status(&self) -> Result<Reply, Refusal> {
        let status = self.patiently(TIMEOUT_MS, |patience| self.workspace.status(patience))?;
        let (mut text, mut roots) = (String::new(), Vec::new());
        for root in &status.roots {
            let access = if root.is_writable { "read-write" } else { "read-only" };
            let languages: Vec<_> =
                root.languages.iter().map(|(name, count)| format!("{name} {count}")).collect();
            text.push_str(&format!(
                "{} {access}: {} files, {} folders\n",
                root.path, root.files, root.folders
            ));
            if !languages.is_empty() {
                text.push_str(&format!("  {}\n", languages.join(", ")));
            }
            let by_language: std::collections::BTreeMap<_, _> = root.languages.iter().copied().collect();
            roots.push(
                json!({"path": root.path, "mode": access, "files": root.files, "folders": root.folders,
                "unreadable": root.unreadable, "languages": by_language,
                "ended": root.ended.word()}),
            );
        }
        let known = status.known;
        let index = json!({"folders": known.folders, "bytes": known.bytes, "bytes_max": known.bytes_max,
            "hits": known.hits, "misses": known.misses});
        text.push_str(&format!(
            "index: {} folders, {} bytes; nothing is watched, each answer is checked\n",
            known.folders, known.bytes
        ));
        Ok(Reply::both(
            text,
            json!({"roots": roots, "index": index, "map_bytes": status.map_bytes, "watch": "none"}),
        ))
    }
}

/// Hits as grep prints them.
fn found(answer: &Answer<SearchFound>, mode: SearchMode) -> Reply {
    let found = &answer.found;
    let (mut text, mut files, mut matches) = (String::new(), Vec::new(), 0_u64);
    for file in &found.files {
        let path = answer.path_in(file.start, &file.folder, &file.name);
        match mode {
            SearchMode::Files => text.push_str(&format!("{path}\n")),
            SearchMode::Count => text.push_str(&format!("{path}:{}\n", file.count)),
            SearchMode::Lines => {
                for hit in &file.hits {
                    hit.before
                        .iter()
                        .for_each(|line| text.push_str(&format!("{path}-{}-{}\n", line.number, line.text)));
                    text.push_str(&format!("{path}:{}:{}\n", hit.line.number, hit.line.text));
                    hit.after
                        .iter()
                        .for_each(|line| text.push_str(&format!("{path}-{}-{}\n", line.number, line.text)));
                }
            }
        }
        matches += if mode == SearchMode::Lines { file.hits.len() as u64 } else { file.count };
        let places: Vec<_> = file.hits.iter().map(|hit| json!([hit.line.number, hit.column])).collect();
        files.push(match mode {
            SearchMode::Lines => json!({"path": path, "hits": places}),
            SearchMode::Count => json!({"path": path, "count": file.count}),
            SearchMode::Files => json!({"path": path}),
        });
    }
    if found.files.is_empty() {
        text.push_str("No matches found\n");
    }
    let is_whole = found.ended == End::Whole;
    if !is_whole {
        let more = if found.next.is_some() { "; pass `cursor` to go on" } else { "" };
        text.push_str(&format!(
            "… {}: {} of {} files searched{more}\n",
            found.ended.word(),
            found.searched,
            found.total
        ));
    }
    let structured = json!({
        "files": files, "matches": matches, "searched": found.searched, "total": found.total,
        "binary": found.binary, "unreadable": found.unreadable, "truncated": !is_whole, "ended": found.ended.word(),
        "cursor": found.next.as_ref().map(cursor_of),
    });
    Reply::both(text, structured)
}

/// Symbols as indented lines.
pub fn symbol_lines(outline: &FileOutline, depth_max: Option<usize>, kinds: &[String]) -> String {
    let mut text = String::new();
    for (number, symbol) in outline.symbols.iter().enumerate() {
        let depth = outline.depth(number);
        let is_wanted = kinds.is_empty() || kinds.iter().any(|kind| kind == symbol.kind);
        if is_wanted && depth_max.is_none_or(|max| depth < max) {
            let (indent, signature) = ("  ".repeat(depth + 1), &symbol.signature);
            text.push_str(&format!("{indent}{}-{} {}\n", symbol.line, symbol.last_line, signature));
        }
    }
    text
}

/// A map as indented lines.
pub fn map_text(answer: &Answer<CodeMap>) -> String {
    let mut text = String::new();
    for file in &answer.found.files {
        text.push_str(&format!("{}\n", answer.path(file.place, &file.path)));
        for entry in &file.entries {
            text.push_str(&format!("{}{} {}\n", "  ".repeat(entry.depth + 1), entry.line, entry.signature));
        }
    }
    if text.is_empty() {
        text.push_str("there is no source file of a known language\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_short_and_honest() {
        let bytes =
            serde_json::to_string(&all().iter().map(Tool::definition).collect::<Vec<_>>()).unwrap().len();
        assert!(bytes < 8_000, "{bytes}");
        for tool in all() {
            assert!(tool.description.len() <= 140, "{}: {}", tool.name, tool.description.len());
            assert_eq!(
                tool.hints.destructive,
                ["snapshot_restore", "snapshot_remove"].contains(&tool.name.as_str())
            );
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_went_and_a_false_one_is_refused() {
        let mark = SearchMark { start: 1, folder: b"a/\xff".to_vec(), name: b"x".to_vec(), line: u64::MAX };
        assert_eq!(mark_of(&cursor_of(&mark)).unwrap(), mark);
        for text in ["", "%", "AAAA", "YQBiAGMAZA"] {
            assert!(mark_of(text).is_err(), "{text}");
        }
    }
}
