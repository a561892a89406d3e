//! `workspace` for people: status, search, outline, map, history, undo. What agents get is in `mcp::workspace`.

use crate::cli::terminal;
use crate::cli::workspace_args::{
    WorkspaceFolder, WorkspaceMap, WorkspaceOutline, WorkspaceSearch, WorkspaceUndo,
};
use crate::engine::changes::ChangeOptions;
use crate::engine::finding::{ContentQuery, End, Letters, MapQuery, SearchMode, Waiting};
use crate::engine::host::Host;
use crate::engine::workspaces::{Workspace, WorkspaceRequest};
use crate::error::Error;
use crate::workspace::change::{Later, Pulse};

/// Lines that a search prints.
const LINES_MAX: usize = 100_000;
/// Bytes that a search prints.
const SEARCH_BYTES_MAX: usize = 64 << 20;
/// Operations that a history lists.
const HISTORY_MAX: usize = 100;
/// Exit code of a search that found nothing, as grep has it.
const EXIT_NO_MATCH: i32 = 1;
/// Exit code of a search that went wrong, as grep has it.
const EXIT_TROUBLE: i32 = 2;

fn open(host: &Host, folder: &str) -> Result<Workspace, Error> {
    let request = WorkspaceRequest { roots: vec![folder.to_owned()], ..WorkspaceRequest::default() };
    Ok(Workspace::open(host, &request)?)
}

/// Counts what there is.
///
/// # Errors
/// A folder that cannot be opened.
pub fn status(host: &Host, args: &WorkspaceFolder) -> Result<(), Error> {
    let status = open(host, &args.folder)?.status(&Waiting::endless())?;
    let mut text = String::new();
    for root in &status.roots {
        text.push_str(&format!("{}\nfiles    {}\nfolders  {}\n", root.path, root.files, root.folders));
        for (language, count) in &root.languages {
            text.push_str(&format!("  {language:<11} {count}\n"));
        }
        if root.unreadable > 0 || root.ended != End::Whole {
            terminal::print_warning(&format!("{} folders could not be read in full", root.unreadable));
        }
    }
    terminal::to_stdout(&text)
}

/// Searches as grep does, with its exit codes.
pub fn search(host: &Host, args: WorkspaceSearch) -> i32 {
    let query = ContentQuery {
        pattern: args.pattern,
        regex: args.regex,
        case: if args.ignore_case { Letters::Ignored } else { Letters::Exact },
        mode: if args.files { SearchMode::Files } else { SearchMode::Lines },
        globs: args.glob,
        ignores: !args.no_ignore,
        limit: LINES_MAX,
        reply_bytes_max: SEARCH_BYTES_MAX,
        ..ContentQuery::default()
    };
    let found = open(host, ".")
        .and_then(|workspace| Ok(workspace.search_content(&args.paths, &query, &Waiting::endless())?));
    let answer = match found {
        Ok(answer) => answer,
        Err(error) => {
            terminal::print_error(&error);
            return EXIT_TROUBLE;
        }
    };
    let mut text = String::new();
    for file in &answer.found.files {
        let path = answer.path_in(file.start, &file.folder, &file.name);
        if args.files {
            text.push_str(&format!("{path}\n"));
        }
        for hit in &file.hits {
            text.push_str(&format!("{path}:{}:{}\n", hit.line.number, hit.line.text));
        }
    }
    if answer.found.ended != End::Whole {
        terminal::print_warning("there is more: narrow the search");
    }
    if answer.found.unreadable > 0 {
        terminal::print_warning(&format!("{} files or folders could not be read", answer.found.unreadable));
    }
    match terminal::to_stdout(&text) {
        Ok(()) if answer.found.files.is_empty() => EXIT_NO_MATCH,
        Ok(()) => 0,
        Err(_reader_is_gone) => EXIT_TROUBLE,
    }
}

/// Shows the symbols of files.
///
/// # Errors
/// A path that cannot be opened.
pub fn outline(host: &Host, args: &WorkspaceOutline) -> Result<(), Error> {
    let outlines = open(host, ".")?.outlines(&args.paths, &Waiting::endless())?;
    let mut text = String::new();
    for (path, outline) in outlines {
        let outline = match outline {
            Ok(outline) => outline,
            Err(refusal) => {
                terminal::print_warning(&refusal.message);
                continue;
            }
        };
        text.push_str(&format!("{path}  ({})\n", outline.found.word()));
        for (number, symbol) in outline.symbols.iter().enumerate() {
            let indent = "  ".repeat(outline.depth(number) + 1);
            text.push_str(&format!("{indent}{}-{} {}\n", symbol.line, symbol.last_line, symbol.signature));
        }
    }
    terminal::to_stdout(&text)
}

/// Shows the signatures that matter most.
///
/// # Errors
/// A folder that cannot be opened.
pub fn map(host: &Host, args: WorkspaceMap) -> Result<(), Error> {
    let query = MapQuery { budget_tokens: args.tokens, focus: args.focus };
    let answer = open(host, &args.folder)?.map(&[], &query, &Waiting::endless())?;
    let mut text = String::new();
    for file in &answer.found.files {
        text.push_str(&format!("{}\n", answer.path(file.place, &file.path)));
        for entry in &file.entries {
            text.push_str(&format!("{}{} {}\n", "  ".repeat(entry.depth + 1), entry.line, entry.signature));
        }
    }
    terminal::to_stdout(&text)
}

/// Lists what was changed through the server.
///
/// # Errors
/// A folder that cannot be opened.
pub fn history(host: &Host, args: &WorkspaceFolder) -> Result<(), Error> {
    let (operations, all) = open(host, &args.folder)?.history(None, 0, HISTORY_MAX)?;
    let mut text = String::new();
    for (operation, is_open) in &operations {
        let taken_back = if *is_open { "" } else { "  (taken back, or takes back)" };
        text.push_str(&format!("{}  {}{taken_back}\n", operation.id, operation.what));
        for change in &operation.changes {
            text.push_str(&format!("  {} {}\n", change.word(), change.place().path));
        }
    }
    if all > operations.len() {
        terminal::print_warning(&format!("{} older ones are not shown", all - operations.len()));
    }
    terminal::to_stdout(&text)
}

/// Takes a change back.
///
/// # Errors
/// When something changed since, or there is nothing to take back.
pub fn undo(host: &Host, args: &WorkspaceUndo) -> Result<(), Error> {
    let later = if args.force { Later::Overwrite } else { Later::Keep };
    let options = ChangeOptions { dry_run: args.dry_run, ..ChangeOptions::default() };
    let operation = args.operation.as_deref();
    let done = open(host, &args.folder)?.undo(operation, 1, &[], later, &options, &|| Pulse::Go)?;
    let mut text = String::new();
    for (undone, by, changes) in done {
        let by = by.map_or_else(|| "would be taken back".to_owned(), |by| format!("was taken back by {by}"));
        text.push_str(&format!("{undone} {by}\n"));
        changes.iter().for_each(|change| {
            text.push_str(&format!("  {} {}\n", change.word(), change.place().path));
        });
    }
    terminal::to_stdout(&text)
}
