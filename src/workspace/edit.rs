//! Pure: edits of one text: where the old text stands, what the text is afterwards, and why it was not found.
//!
//! Only what differs between old and new text is replaced, so line ends around it stay as they are. Matching
//! begins exact; looser steps compare line by line, and new lines get the indentation that the file has.

use std::fmt::Write;
use std::ops::Range;

use serde_json::{Value, json};

use crate::workspace::diff::Lines;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::text::{LineEnd, indent, is_blank, line_and_column, with_lf};

/// Most places that a refusal lists.
const PLACES_MAX: usize = 20;
/// Most places that are replaced at once in one file.
const MATCHES_MAX: usize = 100_000;
/// Most characters of a line that a refusal shows.
const SHOWN_CHARS_MAX: usize = 160;
/// Most lines that are compared by likeness to find a candidate.
const LIKENESS_LINES_MAX: usize = 50_000;

/// How loosely the old text may be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matching {
    /// Only as it is written, line ends apart.
    Exact,
    /// Also when whitespace at the ends of lines differs, or the indentation by a rule.
    Whitespace,
    /// Also when quotes, dashes and spaces are Unicode's on one side.
    Auto,
}

/// By which step a text was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Character by character.
    Exact,
    /// But for whitespace at the ends of lines.
    LineEnds,
    /// But for indentation.
    Indentation,
    /// But for the kind of punctuation.
    Punctuation,
}

impl Level {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::LineEnds => "trailing_whitespace",
            Self::Indentation => "indentation",
            Self::Punctuation => "punctuation",
        }
    }
}

/// One replacement that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// What stands there.
    pub old: String,
    /// What shall stand there.
    pub new: String,
    /// Which of several places, from 1.
    pub occurrence: Option<usize>,
    /// All places.
    pub all: bool,
    /// How many places there must be.
    pub expected: Option<usize>,
    /// The place nearest to this line, from 1.
    pub near_line: Option<usize>,
}

/// One replacement that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// By which step the old text was found.
    pub level: Level,
    /// The lines, from 1, where it was found, before the replacement.
    pub lines: Vec<usize>,
}

/// A text after its edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The text.
    pub text: String,
    /// What was done for each edit.
    pub done: Vec<Done>,
}

/// Applies edits one after another, each to what the one before it left.
///
/// # Errors
/// `NoMatch`, `Ambiguous`, `AlreadyApplied`, `CountMismatch`; then nothing is changed.
pub fn apply(text: &str, edits: &[Edit], matching: Matching, path: &str) -> Result<Edited, Refusal> {
    let mut edited = Edited { text: String::new(), done: Vec::with_capacity(edits.len()) };
    for (number, edit) in edits.iter().enumerate() {
        let before = if number == 0 { text } else { &edited.text };
        let (after, done) = apply_one(before, edit, matching).map_err(|wrong| {
            let numbered = if edits.len() > 1 {
                format!(" (edit {} of {})", number + 1, edits.len())
            } else {
                String::new()
            };
            let mut refusal = wrong.into_refusal(before, edit, path, &numbered);
            if let Some(data) = &mut refusal.data {
                data["edit"] = (number + 1).into();
            }
            refusal
        })?;
        edited.text = after;
        edited.done.push(done);
    }
    if edits.is_empty() {
        text.clone_into(&mut edited.text);
    }
    Ok(edited)
}

/// Why one edit was not made.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Missing,
    Several(Vec<usize>),
    Count(Vec<usize>),
    NoSuchOccurrence(Vec<usize>),
    Indentation(usize),
}

impl Wrong {
    fn into_refusal(self, text: &str, edit: &Edit, path: &str, numbered: &str) -> Refusal {
        let places = |lines: &[usize]| {
            let list: Vec<_> = lines.iter().take(PLACES_MAX).map(ToString::to_string).collect();
            let more = if lines.len() > PLACES_MAX { ", …" } else { "" };
            format!("{}{more}", list.join(", "))
        };
        let data = |lines: &[usize]| json!({"lines": lines.iter().take(PLACES_MAX).collect::<Vec<_>>(), "count": lines.len()});
        match self {
            Self::Missing => missing(text, edit, path, numbered),
            Self::Several(lines) => Refusal::new(
                Code::Ambiguous,
                format!(
                    "The text to replace stands {} times in `{path}`{numbered}: lines {}",
                    lines.len(),
                    places(&lines)
                ),
            )
            .hint("give more lines around it, or `occurrence`, `near_line` or `replaceAll`")
            .data(data(&lines)),
            Self::Count(lines) => Refusal::new(
                Code::CountMismatch,
                format!(
                    "The text to replace stands {} times in `{path}`{numbered}, not {} times: lines {}",
                    lines.len(),
                    edit.expected.unwrap_or_default(),
                    places(&lines)
                ),
            )
            .data(data(&lines)),
            Self::NoSuchOccurrence(lines) => Refusal::new(
                Code::NoMatch,
                format!("`{path}` has no occurrence {} of the text{numbered}: lines {}", edit.occurrence.unwrap_or_default(), places(&lines)),
            )
            .data(data(&lines)),
            Self::Indentation(line) => Refusal::new(
                Code::NoMatch,
                format!("The text to replace stands in `{path}` at line {line}{numbered}, but its indentation differs from line to line"),
            )
            .hint("copy the old text from the file, with its tabs and spaces")
            .data(json!({"candidates": [{"line": line}]})),
        }
        .at(path)
    }
}

/// A text with `\n` alone, and how its places map to the text as it is.
struct Flat<'a> {
    whole: &'a str,
    text: std::borrow::Cow<'a, str>,
    /// Places of the `\n` in `text` that have a `\r` in front in `whole`.
    ends: Vec<usize>,
}

impl<'a> Flat<'a> {
    fn new(whole: &'a str) -> Self {
        let text = with_lf(whole);
        let found = matches!(text, std::borrow::Cow::Owned(_));
        let places = found.then(|| memchr::memmem::find_iter(whole.as_bytes(), b"\r\n"));
        let ends = places.into_iter().flatten().enumerate().map(|(n, at)| at - n).collect();
        Self { whole, text, ends }
    }

    /// A place of the flat text as a place of the whole one.
    fn place(&self, at: usize) -> usize {
        at + self.ends.partition_point(|end| *end < at)
    }

    /// The line end that a text has around a place: that of its line, or of the line before.
    fn line_end(&self, at: usize) -> LineEnd {
        let of = |end: usize| if self.ends.binary_search(&end).is_ok() { LineEnd::CrLf } else { LineEnd::Lf };
        let bytes = self.text.as_bytes();
        match memchr::memchr(b'\n', &bytes[at..]) {
            Some(next) => of(at + next),
            None => memchr::memrchr(b'\n', &bytes[..at]).map_or(LineEnd::Lf, of),
        }
    }
}

/// A range of the flat text and what shall stand there.
struct Replacement {
    range: Range<usize>,
    new: String,
}

fn apply_one(whole: &str, edit: &Edit, matching: Matching) -> Result<(String, Done), Wrong> {
    let flat = Flat::new(whole);
    let (old, new) = (with_lf(&edit.old), with_lf(&edit.new));
    let (level, found) = find(&flat.text, &old, &new, matching)?;
    let line = |r: &Replacement| line_and_column(&flat.text, r.range.start).0;
    // Counting lines from the top for each of many places would grow with the square.
    let lines: Vec<usize> = match found.as_slice() {
        [one] => vec![line(one)],
        many => {
            let cut = Lines::new(&flat.text);
            many.iter().map(|r| cut.line_of(r.range.start) + 1).collect()
        }
    };
    if edit.expected.is_some_and(|expected| expected != lines.len()) {
        return Err(Wrong::Count(lines));
    }
    let chosen: Range<usize> = match (edit.all, edit.occurrence, edit.near_line) {
        (true, _, _) => 0..found.len(),
        (_, Some(n), _) if (1..=found.len()).contains(&n) => n - 1..n,
        (_, Some(_), _) => return Err(Wrong::NoSuchOccurrence(lines)),
        (_, _, Some(near)) => {
            let distances: Vec<_> = lines.iter().map(|line| line.abs_diff(near)).collect();
            let least = distances.iter().min().copied().unwrap_or_default();
            match distances.iter().filter(|d| **d == least).count() {
                1 => distances.iter().position(|d| *d == least).map_or(0..0, |n| n..n + 1),
                _ => return Err(Wrong::Several(lines)),
            }
        }
        _ if found.len() == 1 || edit.expected.is_some() => 0..found.len(),
        _ => return Err(Wrong::Several(lines)),
    };
    let text = replaced(&flat, &found[chosen.clone()]);
    Ok((text, Done { level, lines: lines[chosen].to_vec() }))
}

/// Every place of `old`, by the first step that finds one.
fn find(text: &str, old: &str, new: &str, matching: Matching) -> Result<(Level, Vec<Replacement>), Wrong> {
    if old.is_empty() {
        // As the reference: in front of everything.
        return Ok((Level::Exact, vec![Replacement { range: 0..0, new: new.to_owned() }]));
    }
    let places = memchr::memmem::find_iter(text.as_bytes(), old.as_bytes()).take(MATCHES_MAX);
    let exact: Vec<_> =
        places.map(|at| Replacement { range: at..at + old.len(), new: new.to_owned() }).collect();
    if !exact.is_empty() {
        return Ok((Level::Exact, exact));
    }
    let levels: &[Level] = match matching {
        Matching::Exact => &[],
        Matching::Whitespace => &[Level::LineEnds, Level::Indentation],
        Matching::Auto => &[Level::LineEnds, Level::Indentation, Level::Punctuation],
    };
    if old.trim_matches(is_blank).is_empty() {
        return Err(Wrong::Missing);
    }
    let lines = Lines::new(text);
    for level in levels {
        let found = by_lines(&lines, old, new, *level)?;
        if !found.is_empty() {
            return Ok((*level, found));
        }
    }
    Err(Wrong::Missing)
}

/// Every place where the lines of `old` stand, as far as `level` sees them.
fn by_lines(lines: &Lines<'_>, old: &str, new: &str, level: Level) -> Result<Vec<Replacement>, Wrong> {
    let ends_line = old.ends_with('\n');
    let wanted: Vec<String> =
        old.strip_suffix('\n').unwrap_or(old).split('\n').map(|l| seen(l, level)).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at + wanted.len() <= lines.count() {
        let is_here = wanted.iter().enumerate().all(|(n, line)| seen(lines.bare(at + n), level) == *line);
        if !is_here {
            at += 1;
            continue;
        }
        let last = at + wanted.len() - 1;
        let has_end = lines.get(last).ends_with('\n');
        let end = if ends_line { lines.start(last + 1) } else { lines.start(last) + lines.bare(last).len() };
        let here: Vec<&str> = (at..=last).map(|n| lines.bare(n)).collect();
        let mut text = match level {
            Level::LineEnds => new.to_owned(),
            _ => indented(old, &here, new).ok_or(Wrong::Indentation(at + 1))?,
        };
        if ends_line && !has_end && text.ends_with('\n') {
            text.pop();
        }
        found.push(Replacement { range: lines.start(at)..end, new: text });
        at = last + 1;
    }
    Ok(found)
}

/// A line as a step sees it.
pub fn seen(line: &str, level: Level) -> String {
    match level {
        Level::Exact => line.to_owned(),
        Level::LineEnds => line.trim_end_matches(is_blank).to_owned(),
        Level::Indentation => line.trim_matches(is_blank).to_owned(),
        Level::Punctuation => line.trim_matches(is_blank).chars().map(plain).collect(),
    }
}

/// A character of typography as the one on a keyboard.
fn plain(c: char) -> char {
    match c {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
        other => other,
    }
}

/// How the file's indentation follows from that of the old text.
#[derive(Debug)]
pub struct Shift(Rule);

#[derive(Debug)]
enum Rule {
    /// It has this in front.
    Deeper(String),
    /// It lacks this in front.
    Shallower(String),
    /// So many columns are one of its units, and it has so many units more.
    Units { columns: usize, unit: &'static str, more: isize },
}

impl Shift {
    /// A new line with the indentation of the file; `None` when the rule has none for it.
    pub fn line(&self, line: &str) -> Option<String> {
        let body = line.trim_start_matches(is_blank);
        if body.is_empty() { Some(line.to_owned()) } else { Some(self.0.apply(indent(line))? + body) }
    }
}

impl Rule {
    fn apply(&self, indent: &str) -> Option<String> {
        match self {
            Self::Deeper(more) => Some(format!("{more}{indent}")),
            Self::Shallower(less) => indent.strip_prefix(less.as_str()).map(str::to_owned),
            Self::Units { columns, unit, more } => {
                let width = width(indent, *columns);
                let units = (width / columns).checked_add_signed(*more)?;
                Some(format!("{}{}", unit.repeat(units), " ".repeat(width % columns)))
            }
        }
    }

    /// The rules that could be, by the first line with text; the nearest to no change first.
    fn candidates(old: &str, here: &str) -> Vec<Self> {
        let mut found = Vec::new();
        if let Some(more) = here.strip_suffix(old) {
            found.push(Self::Deeper(more.to_owned()));
        }
        if let Some(less) = old.strip_suffix(here) {
            found.push(Self::Shallower(less.to_owned()));
        }
        let mut units = Vec::new();
        for columns in [4, 2, 8, 3] {
            for unit in ["\t", "    ", "  "] {
                let unit_columns = if unit == "\t" { columns } else { unit.len() };
                let is_whole = width(here, columns).is_multiple_of(unit_columns)
                    && width(old, columns).is_multiple_of(columns);
                if is_whole && here == unit.repeat(width(here, columns) / unit_columns) {
                    let more = (width(here, columns) / unit_columns).cast_signed()
                        - (width(old, columns) / columns).cast_signed();
                    units.push(Self::Units { columns, unit, more });
                }
            }
        }
        let distance = |shift: &Self| match shift {
            Self::Units { more, .. } => more.unsigned_abs(),
            _ => 0,
        };
        units.sort_by_key(distance);
        found.extend(units);
        found
    }
}

/// The columns of whitespace with tabs of this width.
fn width(indent: &str, tab: usize) -> usize {
    indent.chars().map(|c| if c == '\t' { tab } else { 1 }).sum()
}

/// The new text with the file's indentation instead of the old text's; `None` when no rule fits every line.
fn indented(old: &str, here: &[&str], new: &str) -> Option<String> {
    let old: Vec<&str> = old.lines().collect();
    let shift = shift(&old, here)?;
    let lines = new.split('\n').map(|line| shift.line(line));
    lines.collect::<Option<Vec<_>>>().map(|lines| lines.join("\n"))
}

/// How the indentation of lines of a file follows from that of the same lines in a request.
pub fn shift(old: &[&str], here: &[&str]) -> Option<Shift> {
    let has_text = |(line, _): &(&str, &str)| !line.trim_matches(is_blank).is_empty();
    let pairs = old.iter().copied().zip(here.iter().copied()).filter(has_text);
    let pairs: Vec<(&str, &str)> = pairs.map(|(line, here)| (indent(line), indent(here))).collect();
    let (first_old, first_here) = pairs.first()?;
    let fits = |rule: &Rule| pairs.iter().all(|(old, here)| rule.apply(old).as_deref() == Some(here));
    Rule::candidates(first_old, first_here).into_iter().find(fits).map(Shift)
}

/// The text with replacements, which are in order and apart.
fn replaced(flat: &Flat<'_>, replacements: &[Replacement]) -> String {
    let more: usize = replacements.iter().map(|r| r.new.len()).sum();
    let mut text = String::with_capacity(flat.whole.len() + more);
    let mut at = 0;
    for Replacement { range, new } in replacements {
        // What both have in common stays as it is, with its line ends.
        let old = &flat.text[range.clone()];
        let same = |pairs: &mut dyn Iterator<Item = (char, char)>| {
            pairs.take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum::<usize>()
        };
        let front = same(&mut old.chars().zip(new.chars()));
        let back = same(&mut old[front..].chars().rev().zip(new[front..].chars().rev()));
        let (start, end) = (range.start + front, range.end - back);
        text.push_str(&flat.whole[at..flat.place(start)]);
        let middle = &new[front..new.len() - back];
        match flat.line_end(start) {
            LineEnd::CrLf => text.push_str(&middle.replace('\n', "\r\n")),
            LineEnd::Lf => text.push_str(middle),
        }
        at = flat.place(end);
    }
    text.push_str(&flat.whole[at..]);
    text
}

// ── why nothing was found ───────────────────────────────────────────────────────────────────────

/// A place that may be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its first line, from 1.
    pub line: usize,
    /// How many lines of the old text are there, whitespace apart.
    pub alike: usize,
    /// The first line of the file, from 1, that differs, and the column.
    pub differs: Option<(usize, usize)>,
    /// What the old text has there, and what the file has.
    pub expected_found: (String, String),
}

fn missing(text: &str, edit: &Edit, path: &str, numbered: &str) -> Refusal {
    let flat = with_lf(text);
    let (old, new) = (with_lf(&edit.old), with_lf(&edit.new));
    let is_applied = !new.trim_matches(is_blank).is_empty() && flat.contains(&*new);
    let candidates = candidates(&flat, &old);
    let mut message = format!("The text to replace is not in `{path}`{numbered}");
    for candidate in &candidates {
        let (expected, found) = &candidate.expected_found;
        match candidate.differs {
            Some((line, column)) => {
                let _always = write!(
                    message,
                    "\nline {}: {} lines alike, first difference at {line}:{column}\n  wanted {expected}\n  found  {found}",
                    candidate.line, candidate.alike
                );
            }
            None => {
                let _always =
                    write!(message, "\nline {}: alike but for whitespace\n  found  {found}", candidate.line);
            }
        }
    }
    let (code, hint) = match (is_applied, candidates.is_empty()) {
        (true, _) => (Code::AlreadyApplied, "the new text is in the file already: read it again"),
        (_, true) => (Code::NoMatch, "nothing like it is in the file: read it again"),
        _ => (Code::NoMatch, "correct the old text from what the file has, and try again"),
    };
    if is_applied {
        message.push_str("\nThe new text is there already");
    }
    let list: Vec<Value> = candidates
        .iter()
        .map(|c| {
            json!({
                "line": c.line, "lines_alike": c.alike,
                "first_difference": c.differs.map(|(line, column)| json!({"line": line, "column": column})),
                "wanted": c.expected_found.0, "found": c.expected_found.1,
            })
        })
        .collect();
    Refusal::new(code, message).hint(hint).data(json!({ "candidates": list }))
}

/// The places that are most like `old`, best first, three at most.
pub fn candidates(text: &str, old: &str) -> Vec<Candidate> {
    let lines = Lines::new(text);
    let wanted: Vec<&str> = old.strip_suffix('\n').unwrap_or(old).split('\n').collect();
    let trimmed: Vec<&str> = wanted.iter().map(|line| line.trim_matches(is_blank)).collect();
    let Some(anchor) = (0..trimmed.len()).max_by_key(|n| (trimmed[*n].len(), usize::MAX - n)) else {
        return Vec::new();
    };
    if trimmed[anchor].is_empty() {
        return Vec::new();
    }
    // Starts of windows, by any line that is there as it should be.
    let mut starts: Vec<(usize, usize)> = Vec::new();
    for at in 0..lines.count().min(LIKENESS_LINES_MAX) {
        let line = lines.bare(at).trim_matches(is_blank);
        if line.len() < 3 {
            continue;
        }
        let hits = trimmed.iter().enumerate().filter(|(_, t)| **t == line);
        starts.extend(hits.filter_map(|(n, _)| at.checked_sub(n)).map(|start| (start, 0)).take(4));
    }
    if starts.is_empty() {
        let likeness = |n: usize| alike(lines.bare(n).trim_matches(is_blank), trimmed[anchor]);
        let best = (0..lines.count().min(LIKENESS_LINES_MAX)).map(|n| (likeness(n), n));
        let mut best: Vec<_> = best.filter(|(score, _)| *score >= 500).collect();
        best.sort_by_key(|(score, n)| (std::cmp::Reverse(*score), *n));
        starts.extend(best.iter().take(3).map(|(_, n)| (n.saturating_sub(anchor), 0)));
    }
    starts.sort_unstable();
    starts.dedup();
    for (start, score) in &mut starts {
        let count = wanted.len().min(lines.count() - *start);
        *score = (0..count).filter(|n| lines.bare(*start + n).trim_matches(is_blank) == trimmed[*n]).count();
    }
    starts.sort_by_key(|(start, score)| (std::cmp::Reverse(*score), *start));
    starts.iter().take(3).map(|(start, score)| compared(&lines, &wanted, *start, *score)).collect()
}

fn compared(lines: &Lines<'_>, wanted: &[&str], start: usize, alike: usize) -> Candidate {
    let found = |n: usize| if start + n < lines.count() { lines.bare(start + n) } else { "" };
    let blank_apart = |n: &usize| found(*n).trim_matches(is_blank) != wanted[*n].trim_matches(is_blank);
    let first = (0..wanted.len()).find(blank_apart);
    let shown = first.or_else(|| (0..wanted.len()).find(|n| found(*n) != wanted[*n])).unwrap_or(0);
    let column = |n: usize| 1 + found(n).chars().zip(wanted[n].chars()).take_while(|(a, b)| a == b).count();
    Candidate {
        line: start + 1,
        alike,
        differs: first.map(|n| (start + n + 1, column(n))),
        expected_found: (visible(wanted[shown]), visible(found(shown))),
    }
}

/// A line with its whitespace to be seen.
fn visible(line: &str) -> String {
    let blanks = indent(line).chars().count();
    let body = line.trim_end_matches(is_blank).chars().count();
    let shown = line.chars().take(SHOWN_CHARS_MAX).enumerate().map(|(n, c)| match c {
        '\t' => '→',
        ' ' if n < blanks || n >= body => '·',
        c if c.is_control() => '\u{fffd}',
        c => c,
    });
    shown.collect()
}

/// How alike two lines are, in thousandths: pairs of bytes that both have.
fn alike(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() < 2 || b.len() < 2 || a.len() > 4 * b.len() || b.len() > 4 * a.len() {
        return 0;
    }
    let mut pairs = [0_i16; 1024];
    let slot = |w: &[u8]| (usize::from(w[0]) * 31 + usize::from(w[1])) % 1024;
    b.windows(2).for_each(|w| pairs[slot(w)] = pairs[slot(w)].saturating_add(1));
    let hit = |w: &&[u8]| {
        let left = &mut pairs[slot(w)];
        *left -= 1;
        *left >= 0
    };
    let shared = a.windows(2).filter({
        let mut hit = hit;
        move |w| hit(w)
    });
    shared.count() * 2000 / (a.len() + b.len() - 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(old: &str, new: &str) -> Edit {
        Edit { old: old.to_owned(), new: new.to_owned(), ..Edit::default() }
    }

    #[track_caller]
    fn check(text: &str, edit: Edit, expected: Result<&str, Code>) {
        let done = apply(text, &[edit], Matching::Whitespace, "x");
        assert_eq!(done.as_ref().map(|e| e.text.as_str()).map_err(|e| e.code), expected, "{done:?}");
    }

    #[test]
    fn only_what_differs_is_replaced() {
        check("a\r\nb\r\nc\n", edit("b\n", "B\nnew\n"), Ok("a\r\nB\r\nnew\r\nc\n"));
        check("a\r\nb\nc\r\n", edit("a\nb\nc", "a\nB\nc"), Ok("a\r\nB\nc\r\n"));
        check("a\r\nb", edit("b", "b\nc"), Ok("a\r\nb\r\nc"));
        check("x = 1", edit("1", "2"), Ok("x = 2"));
        check("", edit("", "new\n"), Ok("new\n"));
        check("é1", edit("é1", "è1"), Ok("è1"));
    }

    #[test]
    fn a_text_that_is_there_twice_is_replaced_only_when_it_is_said_which() {
        let text = "a\nx\nb\nx\n";
        check(text, edit("x", "y"), Err(Code::Ambiguous));
        check(text, Edit { occurrence: Some(2), ..edit("x", "y") }, Ok("a\nx\nb\ny\n"));
        check(text, Edit { occurrence: Some(3), ..edit("x", "y") }, Err(Code::NoMatch));
        check(text, Edit { near_line: Some(1), ..edit("x", "y") }, Ok("a\ny\nb\nx\n"));
        check(text, Edit { near_line: Some(3), ..edit("x", "y") }, Err(Code::Ambiguous));
        check(text, Edit { all: true, ..edit("x", "yy") }, Ok("a\nyy\nb\nyy\n"));
        check(text, Edit { expected: Some(2), ..edit("x", "") }, Ok("a\n\nb\n\n"));
        check(text, Edit { expected: Some(3), ..edit("x", "y") }, Err(Code::CountMismatch));
    }

    #[test]
    fn new_lines_get_the_indentation_that_the_file_has_or_are_refused() {
        let tabs = "fn f() {\n\tif x {\n\t\tone();\n\t}\n}\n";
        let old = "    if x {\n        one();\n    }";
        check(
            tabs,
            edit(old, "    if x {\n        two {\n            three();\n        }\n    }"),
            Ok("fn f() {\n\tif x {\n\t\ttwo {\n\t\t\tthree();\n\t\t}\n\t}\n}\n"),
        );
        check(
            "    a();\n    b();\n",
            edit("a();\nb();", "a();\nif c {\n    b();\n}"),
            Ok("    a();\n    if c {\n        b();\n    }\n"),
        );
        check("a();\nb();\n", edit("  a();\n  b();", "  b();"), Ok("b();\n"));
        check("  a();\n      b();\n", edit("a();\nb();", "c();"), Err(Code::NoMatch));
        check("a  \nb\n", edit("a\nb", "c"), Ok("c\n"));
        check("  x\n\n  y\n", edit("x\n\ny", "z\n\ny"), Ok("  z\n\n  y\n"));
        check("a\n\nb\n", edit("   ", "c"), Err(Code::NoMatch));
    }

    #[test]
    fn a_refusal_names_the_first_line_that_differs() {
        let text = "one\ntwo\nthree three\nfour\n";
        let refusal =
            apply(text, &[edit("two\nthree tree\nfour", "x")], Matching::Whitespace, "x").unwrap_err();
        let data = refusal.data.unwrap();
        assert_eq!(data["candidates"][0]["line"], 2);
        assert_eq!(data["candidates"][0]["first_difference"], json!({"line": 3, "column": 8}));
        let refusal = apply(text, &[edit("two too", "three three")], Matching::Whitespace, "x").unwrap_err();
        assert_eq!(refusal.code, Code::AlreadyApplied);
        let refusal =
            apply("héllo wörld here\n", &[edit("héllo wörld there", "x")], Matching::Exact, "x").unwrap_err();
        assert!(refusal.message.contains("first difference at 1:13"), "{}", refusal.message);
        let quotes = apply("say “hi”\n", &[edit("say \"hi\"", "say hi")], Matching::Auto, "x").unwrap();
        assert_eq!((quotes.text.as_str(), quotes.done[0].level), ("say hi\n", Level::Punctuation));
    }

    proptest::proptest! {
        #[test]
        fn nothing_outside_the_edited_text_changes(
            front in "[ab\r\n]{0,20}", old in "[xyz][xyz\n]{0,9}", new in "[uvw\n]{0,10}", back in "[ab\r\n]{0,20}",
        ) {
            let file_old = if front.contains("\r\n") { old.replace('\n', "\r\n") } else { old.clone() };
            let text = format!("{front}{file_old}{back}");
            if let Ok(edited) = apply(&text, &[edit(&old, &new)], Matching::Exact, "x") {
                proptest::prop_assert!(edited.text.starts_with(&front) && edited.text.ends_with(&back));
                let middle = &edited.text[front.len()..edited.text.len() - back.len()];
                proptest::prop_assert_eq!(middle.replace("\r\n", "\n"), new);
            }
        }

        #[test]
        fn no_edit_makes_it_panic(text in "[ab \t\r\né“]{0,60}", old in "[ab \t\né\"]{0,12}", new in "[ab \t\n]{0,12}") {
            for matching in [Matching::Exact, Matching::Whitespace, Matching::Auto] {
                let _either_way = apply(&text, &[edit(&old, &new)], matching, "x");
            }
        }
    }
}
