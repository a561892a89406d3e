//! Symbols by name, everywhere below a place: definitions by the grammar, uses by their text.
//!
//! A file is parsed only when it holds the name. Uses are matches of a word, and are called that.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};

use crate::workspace::contents::{Content, Read, Reading, each};
use crate::workspace::index::Index;
use crate::workspace::outline::{Outline, outline};
use crate::workspace::patience::Patience;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::search::{Place, globs};
use crate::workspace::syntax::PARSE_BYTES_MAX;

/// Bytes of what is asked for.
const NAME_BYTES_MAX: usize = 512;
/// Files that one question reads.
const FILES_MAX: usize = 1_000_000;
/// Bytes of a body that is given.
const BODY_BYTES_MAX: usize = 32 * 1024;
/// Uses in one file.
const USES_MAX: usize = 200;
/// Bytes of a line that is given.
const LINE_BYTES_MAX: usize = 240;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// `name`, or `Type/name` with what it is inside of.
    pub name_path: String,
    /// The name may be a part of the symbol's.
    pub contains: bool,
    /// Only these kinds; none means all.
    pub kinds: Vec<String>,
    /// Give the text of what is found.
    pub body: bool,
    /// Give uses too.
    pub uses: bool,
    /// How many of each to give.
    pub limit: usize,
}

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Which of the places.
    pub place: usize,
    /// The file's path from there.
    pub path: Vec<u8>,
    /// The names from the outermost to its own.
    pub names: Vec<String>,
    /// `function`, `class`.
    pub kind: &'static str,
    /// Its first and last line, counted from 1.
    pub lines: (usize, usize),
    /// Up to its body, on one line.
    pub signature: String,
    /// By which grammar, or `pattern`.
    pub by: &'static str,
    /// Its text, when it was asked for.
    pub body: Option<String>,
}

/// A line that holds the name as a word, outside of its definitions' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Which of the places.
    pub place: usize,
    /// The file's path from there.
    pub path: Vec<u8>,
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// In the order of paths.
    pub definitions: Vec<Definition>,
    /// How many there are.
    pub definitions_total: usize,
    /// In the order of paths.
    pub uses: Vec<Use>,
    /// How many there are.
    pub uses_total: usize,
    /// Files that hold the name and could not be parsed within the limits.
    pub unparsed: usize,
    /// How it went.
    pub read: Read,
}

/// The parts of a name path: `/`, `::`, `.` and `#` all separate.
fn parts(name_path: &str) -> Vec<String> {
    let parts = name_path.split(['/', '.', '#']).flat_map(|part| part.split("::"));
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Finds symbols below `places`.
///
/// # Errors
/// `BadPattern` for a name that is none.
pub fn find(
    places: &[Place<'_>],
    index: &Index,
    asked: &Asked,
    patience: &Patience<'_>,
) -> Result<Found, Refusal> {
    let names = parts(&asked.name_path);
    let Some(last) = names.last().filter(|_| asked.name_path.len() <= NAME_BYTES_MAX) else {
        return Err(Refusal::new(Code::BadPattern, "`name_path` is a name, or names joined by `/`"));
    };
    let wrong =
        |e: grep_regex::Error| Refusal::new(Code::BadPattern, format!("the name cannot be used: {e}"));
    let matcher =
        RegexMatcherBuilder::new().fixed_strings(true).word(!asked.contains).build(last).map_err(wrong)?;
    let all = globs(&[], &[])?;
    let reading = Reading {
        globs: &all,
        ignores: true,
        want: &|_| true,
        bytes_max: PARSE_BYTES_MAX,
        files_max: FILES_MAX,
    };
    let look = |(): &mut (), content: &Content<'_>| one(content, &matcher, &names, asked);
    let (found, read) = each(places, index, &reading, patience, || (), look);
    let unparsed = found.iter().filter(|one| one.unparsed).count();
    let definitions_total = found.iter().map(|one| one.definitions.len()).sum();
    let uses_total = found.iter().map(|one| one.uses.len()).sum();
    let (mut definitions, mut uses) = (Vec::new(), Vec::new());
    for one in found {
        definitions.extend(one.definitions);
        uses.extend(one.uses);
    }
    definitions.truncate(asked.limit);
    uses.truncate(asked.limit);
    Ok(Found { definitions, definitions_total, uses, uses_total, unparsed, read })
}

struct InFile {
    definitions: Vec<Definition>,
    uses: Vec<Use>,
    unparsed: bool,
}

fn one(content: &Content<'_>, matcher: &RegexMatcher, names: &[String], asked: &Asked) -> Option<InFile> {
    if !matcher.is_match(content.bytes).ok()? {
        return None;
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(content.path));
    let mut found = InFile { definitions: Vec::new(), uses: Vec::new(), unparsed: false };
    match outline(path, content.bytes) {
        Ok(Some(outline)) => {
            let hits = (0..outline.symbols.len()).filter(|n| fits(&outline, *n, names, asked));
            found.definitions = hits.map(|n| definition(content, &outline, n, asked.body)).collect();
        }
        Ok(None) => return None,
        Err(_limits) => found.unparsed = true,
    }
    if asked.uses {
        uses(content, matcher, &mut found);
    }
    Some(found)
}

fn fits(outline: &Outline, number: usize, names: &[String], asked: &Asked) -> bool {
    let symbol = &outline.symbols[number];
    if !asked.kinds.is_empty() && !asked.kinds.iter().any(|kind| kind == symbol.kind) {
        return false;
    }
    let path = outline.path(number);
    let own = path.last().copied().unwrap_or_default();
    let Some((last, above)) = names.split_last() else { return false };
    let own_fits = own == last || asked.contains && own.contains(last.as_str());
    own_fits
        && above.iter().rev().zip(path.iter().rev().skip(1)).filter(|(a, b)| a == *b).count() == above.len()
}

fn definition(content: &Content<'_>, outline: &Outline, number: usize, body: bool) -> Definition {
    let symbol = &outline.symbols[number];
    let body = body.then(|| {
        let end = symbol.bytes.end.min(symbol.bytes.start + BODY_BYTES_MAX).min(content.bytes.len());
        let text = String::from_utf8_lossy(&content.bytes[symbol.bytes.start.min(end)..end]);
        if end < symbol.bytes.end {
            format!("{text}\n… cut after {BODY_BYTES_MAX} bytes")
        } else {
            text.into_owned()
        }
    });
    Definition {
        place: content.place,
        path: content.path.to_vec(),
        names: outline.path(number).into_iter().map(str::to_owned).collect(),
        kind: symbol.kind,
        lines: (symbol.line, symbol.last_line),
        signature: symbol.signature.clone(),
        by: outline.found.word(),
        body,
    }
}

fn uses(content: &Content<'_>, matcher: &RegexMatcher, found: &mut InFile) {
    let defined: Vec<usize> = found.definitions.iter().map(|definition| definition.lines.0).collect();
    for (number, line) in content.bytes.split(|byte| *byte == b'\n').enumerate() {
        if found.uses.len() >= USES_MAX {
            break;
        }
        if defined.contains(&(number + 1)) || !matcher.is_match(line).unwrap_or(false) {
            continue;
        }
        let text: String =
            String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).trim_end().to_owned();
        found.uses.push(Use { place: content.place, path: content.path.to_vec(), line: number + 1, text });
    }
}
