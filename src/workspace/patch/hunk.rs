//! Pure: hunks: lines that stay, go and come, and where they stand in a text.
//!
//! Lines that stay are never written again: a hunk that was found loosely leaves them as the file has them.

use serde_json::json;

use crate::workspace::diff::Lines;
use crate::workspace::edit::{Level, candidates, seen, shift};
use crate::workspace::refusal::{Code, Refusal};

/// What a line of a hunk means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It stays.
    Same,
    /// It goes.
    Gone,
    /// It comes.
    New,
}

/// One connected change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk {
    /// Lines that stand above it, each below the one before.
    pub anchors: Vec<String>,
    /// Its lines, without line ends.
    pub lines: Vec<(Mark, String)>,
    /// The line, from 1, where it stood in the text it was made from.
    pub line: Option<usize>,
    /// Its end is the end of the text.
    pub is_at_end: bool,
    /// Whether the last line of the new text has an end, when the hunk says.
    pub new_ends: Option<bool>,
    /// The line of the patch where it begins, from 1.
    pub patch_line: usize,
}

impl Hunk {
    fn side(&self, gone_too: Mark) -> Vec<&str> {
        let kept = self.lines.iter().filter(|(mark, _)| *mark == Mark::Same || *mark == gone_too);
        kept.map(|(_, line)| line.as_str()).collect()
    }

    /// The lines that must be there.
    pub fn old(&self) -> Vec<&str> {
        self.side(Mark::Gone)
    }

    /// The lines that are there afterwards.
    pub fn new_lines(&self) -> Vec<&str> {
        self.side(Mark::New)
    }
}

/// Where one hunk was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The line, from 1, in the text before the patch.
    pub line: usize,
    /// By which step.
    pub level: Level,
}

const LEVELS: [Level; 4] = [Level::Exact, Level::LineEnds, Level::Indentation, Level::Punctuation];

/// Applies hunks from top to bottom.
///
/// # Errors
/// `NoMatch`, `Ambiguous` or `AlreadyApplied`; then nothing is changed.
pub fn apply(text: &str, hunks: &[Hunk], path: &str) -> Result<(String, Vec<Placed>), Refusal> {
    let lines = Lines::new(text);
    let (mut written, mut placed, mut at) = (String::with_capacity(text.len()), Vec::new(), 0);
    for (number, hunk) in hunks.iter().enumerate() {
        let found = place(&lines, hunk, at).map_err(|wrong| {
            let is_applied = hunks.iter().all(|hunk| is_there(&lines, hunk));
            wrong.into_refusal(text, hunk, path, number + 1, is_applied)
        })?;
        written.push_str(lines.slice(at..found.0));
        write(&mut written, &lines, hunk, found)?;
        at = found.0 + hunk.old().len();
        placed.push(Placed { line: found.0 + 1, level: found.1 });
        if at == lines.count() && hunk.new_ends == Some(false) && written.ends_with('\n') {
            written.truncate(written.len() - if written.ends_with("\r\n") { 2 } else { 1 });
        }
    }
    written.push_str(lines.slice(at..lines.count()));
    Ok((written, placed))
}

/// Writes a hunk that stands at a line.
fn write(
    written: &mut String,
    lines: &Lines<'_>,
    hunk: &Hunk,
    (at, level): (usize, Level),
) -> Result<(), Refusal> {
    let here: Vec<&str> = (at..at + hunk.old().len()).map(|n| lines.bare(n)).collect();
    let shift = (level >= Level::Indentation).then(|| shift(&hunk.old(), &here));
    let end = line_end(lines, at);
    let mut next = at;
    for (mark, line) in &hunk.lines {
        match mark {
            Mark::Same | Mark::Gone => {
                if *mark == Mark::Same {
                    close(written, end);
                    written.push_str(lines.get(next));
                }
                next += 1;
            }
            Mark::New => {
                close(written, end);
                let shifted = match &shift {
                    Some(Some(shift)) => shift.line(line),
                    Some(None) => None,
                    None => Some(line.clone()),
                };
                let line = shifted.ok_or_else(|| {
                    Refusal::new(
                        Code::NoMatch,
                        format!(
                            "The hunk stands at line {}, but its indentation differs from line to line",
                            at + 1
                        ),
                    )
                    .hint("copy the context from the file, with its tabs and spaces")
                })?;
                written.push_str(&line);
                // The last line of a text that has no end there keeps having none.
                let is_last = next == lines.count()
                    && lines.count() > 0
                    && !lines.get(lines.count() - 1).ends_with('\n');
                if !is_last || hunk.new_ends == Some(true) {
                    written.push_str(end);
                }
            }
        }
    }
    if hunk.new_ends == Some(true) && next == lines.count() && !written.is_empty() {
        close(written, end);
    }
    Ok(())
}

/// A line that had no end gets one when another comes behind it.
fn close(written: &mut String, end: &str) {
    if !written.is_empty() && !written.ends_with('\n') {
        written.push_str(end);
    }
}

/// The line end that new lines get at a line: that of the line, or of the one before, or of the first.
fn line_end(lines: &Lines<'_>, at: usize) -> &'static str {
    let around = [Some(at), at.checked_sub(1), Some(0)];
    let known = around.into_iter().flatten().filter(|n| *n < lines.count()).map(|n| lines.get(n));
    match known.into_iter().find(|line| line.ends_with('\n')) {
        Some(line) if line.ends_with("\r\n") => "\r\n",
        _ => "\n",
    }
}

/// Why a hunk has no place.
enum Wrong {
    Anchor(String),
    Lines,
    Several(Vec<usize>),
}

impl Wrong {
    fn into_refusal(self, text: &str, hunk: &Hunk, path: &str, number: usize, is_applied: bool) -> Refusal {
        let whole = format!("hunk {number} of `{path}` (line {} of the patch)", hunk.patch_line);
        if is_applied {
            let said = format!("The patch of `{path}` is applied already: every new line is there");
            return Refusal::new(Code::AlreadyApplied, said).at(path);
        }
        match self {
            Self::Anchor(anchor) => {
                Refusal::new(Code::NoMatch, format!("{whole}: the line `{anchor}` behind `@@` is not there"))
                    .hint("an anchor is one whole line of the file, below the hunk before")
            }
            Self::Several(lines) => {
                let list: Vec<_> = lines.iter().map(ToString::to_string).collect();
                Refusal::new(Code::Ambiguous, format!("{whole}: its lines stand at {}", list.join(", ")))
                    .hint("give more lines around it, or a line behind `@@` that stands above")
                    .data(json!({ "lines": lines }))
            }
            Self::Lines => {
                let mut message = format!("{whole}: its lines are not there");
                let found = candidates(text, &hunk.old().join("\n"));
                for candidate in &found {
                    let (wanted, here) = &candidate.expected_found;
                    let place = candidate.differs.map_or_else(String::new, |(l, c)| format!(", first difference at {l}:{c}"));
                    message.push_str(&format!(
                        "\nline {}: {} lines alike{place}\n  wanted {wanted}\n  found  {here}",
                        candidate.line, candidate.alike
                    ));
                }
                let list: Vec<_> = found.iter().map(|c| json!({"line": c.line, "lines_alike": c.alike, "first_difference": c.differs.map(|(line, column)| json!({"line": line, "column": column})), "wanted": c.expected_found.0, "found": c.expected_found.1})).collect();
                Refusal::new(Code::NoMatch, message)
                    .hint("correct the hunk from what the file has; nothing of the patch was applied")
                    .data(json!({"hunk": number, "candidates": list}))
            }
        }
        .at(path)
    }
}

/// Where a hunk stands, below line `from`.
fn place(lines: &Lines<'_>, hunk: &Hunk, from: usize) -> Result<(usize, Level), Wrong> {
    let mut at = from;
    for anchor in &hunk.anchors {
        let find = |level: &Level| {
            let wanted = seen(anchor, *level);
            (at..lines.count()).find(|n| seen(lines.bare(*n), *level) == wanted)
        };
        at = LEVELS.iter().find_map(find).ok_or_else(|| Wrong::Anchor(anchor.clone()))? + 1;
    }
    let old = hunk.old();
    if old.is_empty() {
        // Only new lines: below the anchor, at the line that was said, or at the end.
        let said = hunk.line.map(|line| line.clamp(from, lines.count()));
        let at = if hunk.anchors.is_empty() { said.unwrap_or(lines.count()) } else { at };
        return Ok((at, Level::Exact));
    }
    for level in LEVELS {
        let wanted: Vec<String> = old.iter().map(|line| seen(line, level)).collect();
        let is_here = |start: &usize| {
            wanted.iter().enumerate().all(|(n, line)| seen(lines.bare(start + n), level) == *line)
        };
        let Some(last) = lines.count().checked_sub(old.len()).filter(|last| *last >= at) else { continue };
        if hunk.is_at_end && is_here(&last) {
            return Ok((last, level));
        }
        let mut found = (at..=last).filter(is_here);
        match hunk.line {
            // Where it stood, or the nearest place to that.
            Some(line) => {
                let said = line.saturating_sub(1);
                if said >= at && said <= last && is_here(&said) {
                    return Ok((said, level));
                }
                if let Some(near) = found.min_by_key(|start| start.abs_diff(said)) {
                    return Ok((near, level));
                }
            }
            None => {
                if let Some(first) = found.next() {
                    let others: Vec<usize> = found.take(8).collect();
                    // As Codex does, the first place is meant, when something says where to begin.
                    if others.is_empty()
                        || !hunk.anchors.is_empty()
                        || from > 0
                        || level == Level::Exact && old.len() > 1
                    {
                        return Ok((first, level));
                    }
                    return Err(Wrong::Several([first].into_iter().chain(others).map(|n| n + 1).collect()));
                }
            }
        }
    }
    Err(Wrong::Lines)
}

/// Whether the new lines of a hunk are in a text.
fn is_there(lines: &Lines<'_>, hunk: &Hunk) -> bool {
    let new = hunk.new_lines();
    let Some(last) = lines.count().checked_sub(new.len()).filter(|_| !new.is_empty()) else { return false };
    (0..=last).any(|at| new.iter().enumerate().all(|(n, line)| lines.bare(at + n) == *line))
}
