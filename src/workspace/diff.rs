//! Pure: differences of two texts by lines, the unified form, and the merge of two changes of one text.
//!
//! The alignment is that of the reference server's library, so that the same edit reads the same: Myers'
//! algorithm, going ahead greedily, a removal before an addition. Beyond `EXACT_EDITS_MAX` a faster one takes over.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

use crate::workspace::text::with_lf;

/// Most lines added and removed for which the alignment is searched edit by edit: its memory grows with the square.
const EXACT_EDITS_MAX: usize = 1024;
/// Lines around a change, as in the reference.
pub const CONTEXT_LINES: usize = 4;

/// One place where two texts differ, by line numbers from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// Lines of the old text.
    pub old: Range<usize>,
    /// Lines of the new text that stand for them.
    pub new: Range<usize>,
}

/// A text cut into lines, each with its end.
pub struct Lines<'a> {
    text: &'a str,
    /// Where each line begins, and where the last one ends.
    starts: Vec<u32>,
}

impl<'a> Lines<'a> {
    /// Cuts a text of less than 4 GiB.
    ///
    /// # Panics
    /// When it is longer.
    pub fn new(text: &'a str) -> Self {
        let place = |n: usize| u32::try_from(n).expect("texts of 4 GiB are refused when they are read");
        let mut starts = vec![0];
        starts.extend(memchr::memchr_iter(b'\n', text.as_bytes()).map(|n| place(n + 1)));
        if starts.last() != Some(&place(text.len())) {
            starts.push(place(text.len()));
        }
        Self { text, starts }
    }

    /// How many lines.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where line `n` begins, in bytes; the number of lines gives the end.
    pub fn start(&self, n: usize) -> usize {
        self.starts[n] as usize
    }

    /// One line with its end.
    pub fn get(&self, n: usize) -> &'a str {
        &self.text[self.start(n)..self.start(n + 1)]
    }

    /// One line without its end.
    pub fn bare(&self, n: usize) -> &'a str {
        let line = self.get(n);
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// The text of some lines.
    pub fn slice(&self, lines: Range<usize>) -> &'a str {
        &self.text[self.start(lines.start)..self.start(lines.end)]
    }

    /// The line in which a place stands.
    pub fn line_of(&self, at: usize) -> usize {
        self.starts
            .partition_point(|start| *start as usize <= at)
            .saturating_sub(1)
            .min(self.count().max(1) - 1)
    }
}

/// One run of equal, added or removed lines on a way through both texts, linked backwards.
#[derive(Clone, Copy)]
struct Run {
    kind: Kind,
    count: u32,
    before: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Same,
    Added,
    Removed,
}

/// The end of a way: how many old lines it has used, and its last run.
#[derive(Clone, Copy)]
struct Way {
    old: isize,
    last: u32,
}

const NO_RUN: u32 = u32::MAX;

/// Where two texts differ.
pub fn hunks<'a>(old: &Lines<'a>, new: &Lines<'a>) -> Vec<Hunk> {
    search(old, new).unwrap_or_else(|| fast(old, new))
}

/// A search under way.
struct Search<'a> {
    old: &'a Lines<'a>,
    new: &'a Lines<'a>,
    runs: Vec<Run>,
}

impl Search<'_> {
    fn push(&mut self, last: u32, kind: Kind, count: u32) -> u32 {
        let (count, before) = match self.runs.get(last as usize) {
            Some(run) if run.kind == kind => (run.count + count, run.before),
            _ => (count, last),
        };
        self.runs.push(Run { kind, count, before });
        u32::try_from(self.runs.len() - 1).unwrap_or(NO_RUN)
    }

    /// Goes along equal lines.
    fn glide(&mut self, way: &mut Way, diagonal: isize) -> isize {
        let (old_count, new_count) = (self.old.count().cast_signed(), self.new.count().cast_signed());
        let (mut at, start) = (way.old, way.old);
        while at + 1 < old_count
            && at - diagonal + 1 < new_count
            && self.old.get((at + 1).cast_unsigned()) == self.new.get((at - diagonal + 1).cast_unsigned())
        {
            at += 1;
        }
        if at > start {
            way.last = self.push(way.last, Kind::Same, u32::try_from(at - start).unwrap_or(u32::MAX));
            way.old = at;
        }
        at - diagonal
    }

    fn hunks(&self, mut last: u32) -> Vec<Hunk> {
        let mut runs = Vec::new();
        while let Some(run) = self.runs.get(last as usize) {
            runs.push(*run);
            last = run.before;
        }
        let (mut found, mut old, mut new) = (Vec::<Hunk>::new(), 0, 0);
        let mut is_open = false;
        for run in runs.iter().rev() {
            let count = run.count as usize;
            if run.kind == Kind::Same {
                (old, new, is_open) = (old + count, new + count, false);
                continue;
            }
            let after = if run.kind == Kind::Added { (old, new + count) } else { (old + count, new) };
            match found.last_mut().filter(|_| is_open) {
                Some(hunk) => (hunk.old.end, hunk.new.end) = after,
                None => found.push(Hunk { old: old..after.0, new: new..after.1 }),
            }
            ((old, new), is_open) = (after, true);
        }
        found
    }
}

/// Myers' greedy search; `None` when the texts differ too much for it.
fn search(old: &Lines<'_>, new: &Lines<'_>) -> Option<Vec<Hunk>> {
    let (old_count, new_count) = (old.count().cast_signed(), new.count().cast_signed());
    let mut search = Search { old, new, runs: Vec::new() };
    let middle = EXACT_EDITS_MAX + 2;
    let mut best: Vec<Option<Way>> = vec![None; 2 * middle + 1];
    let slot = |diagonal: isize| (diagonal + middle.cast_signed()).cast_unsigned();
    let mut first = Way { old: -1, last: NO_RUN };
    let reached = search.glide(&mut first, 0);
    if first.old + 1 >= old_count && reached + 1 >= new_count {
        return Some(search.hunks(first.last));
    }
    best[slot(0)] = Some(first);
    let (mut lowest, mut highest) = (isize::MIN, isize::MAX);
    for edits in 1..=EXACT_EDITS_MAX.cast_signed() {
        let mut diagonal = lowest.max(-edits);
        while diagonal <= highest.min(edits) {
            let removing = best[slot(diagonal - 1)].take();
            let adding =
                best[slot(diagonal + 1)].filter(|way| (0..new_count).contains(&(way.old - diagonal)));
            let removing = removing.filter(|way| way.old + 1 < old_count);
            let mut way = match (removing, adding) {
                (None, None) => {
                    best[slot(diagonal)] = None;
                    diagonal += 2;
                    continue;
                }
                (Some(remove), add) if add.is_none_or(|add| remove.old >= add.old) => {
                    Way { old: remove.old + 1, last: search.push(remove.last, Kind::Removed, 1) }
                }
                (_, Some(add)) => Way { old: add.old, last: search.push(add.last, Kind::Added, 1) },
                (Some(_), None) => unreachable!("the guard above takes it"),
            };
            let reached = search.glide(&mut way, diagonal);
            if way.old + 1 >= old_count && reached + 1 >= new_count {
                return Some(search.hunks(way.last));
            }
            if way.old + 1 >= old_count {
                highest = highest.min(diagonal - 1);
            }
            if reached + 1 >= new_count {
                lowest = lowest.max(diagonal + 1);
            }
            best[slot(diagonal)] = Some(way);
            diagonal += 2;
        }
    }
    None
}

/// For texts that differ much.
fn fast<'a>(old: &Lines<'a>, new: &Lines<'a>) -> Vec<Hunk> {
    let mut input: InternedInput<&str> = InternedInput::default();
    input.update_before((0..old.count()).map(|n| old.get(n)));
    input.update_after((0..new.count()).map(|n| new.get(n)));
    let diff = Diff::compute(Algorithm::Histogram, &input);
    let range = |r: Range<u32>| r.start as usize..r.end as usize;
    diff.hunks().map(|hunk| Hunk { old: range(hunk.before), new: range(hunk.after) }).collect()
}

/// The unified form of what leads from `old` to `new`, line ends apart, with `CONTEXT_LINES` around; the hunks only.
/// Empty when nothing differs.
pub fn unified_hunks(old: &str, new: &str) -> String {
    let (old, new) = (with_lf(old), with_lf(new));
    let (old, new) = (Lines::new(&old), Lines::new(&new));
    let found = hunks(&old, &new);
    let mut groups: Vec<Vec<&Hunk>> = Vec::new();
    for hunk in &found {
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| hunk.old.start - last.old.end <= 2 * CONTEXT_LINES) =>
            {
                group.push(hunk);
            }
            _ => groups.push(vec![hunk]),
        }
    }
    groups.iter().map(|group| one_group(&old, &new, group)).collect()
}

fn one_group(old: &Lines<'_>, new: &Lines<'_>, group: &[&Hunk]) -> String {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return String::new() };
    let before = first.old.start.min(CONTEXT_LINES);
    let after = (old.count() - last.old.end).min(CONTEXT_LINES);
    let range = |start: usize, end: usize| {
        let count = end - start;
        format!("{},{count}", if count == 0 { start } else { start + 1 })
    };
    let mut text = format!(
        "@@ -{} +{} @@\n",
        range(first.old.start - before, last.old.end + after),
        range(first.new.start - before, last.new.end + after)
    );
    let mut line = |mark: char, line: &str| {
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    };
    let mut at = first.old.start - before;
    for hunk in group {
        (at..hunk.old.start).for_each(|n| line(' ', old.get(n)));
        hunk.old.clone().for_each(|n| line('-', old.get(n)));
        hunk.new.clone().for_each(|n| line('+', new.get(n)));
        at = hunk.old.end;
    }
    (at..at + after).for_each(|n| line(' ', old.get(n)));
    text
}

/// The unified form with the heading of the reference server: one name, `original` and `modified`.
pub fn unified(name: &str, old: &str, new: &str) -> String {
    let rule = "=".repeat(67);
    let hunks = unified_hunks(old, new);
    format!("Index: {name}\n{rule}\n--- {name}\toriginal\n+++ {name}\tmodified\n{hunks}")
}

/// The unified form as git prints it: `None` stands for a file that is not there.
pub fn git_style(name: &str, old: Option<&str>, new: Option<&str>) -> String {
    let side = |text: Option<&str>, letter: &str| match text {
        Some(_) => format!("{letter}/{name}"),
        None => "/dev/null".to_owned(),
    };
    let hunks = unified_hunks(old.unwrap_or(""), new.unwrap_or(""));
    format!("--- {}\n+++ {}\n{hunks}", side(old, "a"), side(new, "b"))
}

/// A diff between fences that nothing in it can close, as the reference does.
pub fn fenced(diff: &str) -> String {
    let mut fence = "```".to_owned();
    while diff.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}diff\n{diff}{fence}\n\n")
}

/// Two changes of one text that both hold; what cannot be told apart is a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// Both changes.
    Text(String),
    /// The lines of the base that both changed, numbers from 1.
    Conflicts(Vec<Range<usize>>),
}

/// Puts what `ours` and `theirs` changed in `base` together, line by line.
pub fn merge(base: &str, ours: &str, theirs: &str) -> Merged {
    let (base, ours, theirs) = (Lines::new(base), Lines::new(ours), Lines::new(theirs));
    let (left, right) = (hunks(&base, &ours), hunks(&base, &theirs));
    let (mut text, mut conflicts) = (String::new(), Vec::new());
    let (mut l, mut r, mut at) = (0, 0, 0);
    while l < left.len() || r < right.len() {
        let takes_left = match (left.get(l), right.get(r)) {
            (Some(a), Some(b)) => a.old.start <= b.old.start,
            (a, _) => a.is_some(),
        };
        let (first, from) = if takes_left { (&left[l], &ours) } else { (&right[r], &theirs) };
        let other = if takes_left { right.get(r) } else { left.get(l) };
        // Two changes that touch are told apart by nobody.
        if let Some(second) = other.filter(|second| second.old.start <= first.old.end) {
            let second_from = if takes_left { &theirs } else { &ours };
            let are_alike = first.old == second.old
                && from.slice(first.new.clone()) == second_from.slice(second.new.clone());
            if !are_alike {
                conflicts
                    .push(first.old.start.min(second.old.start) + 1..first.old.end.max(second.old.end) + 1);
            }
            (l, r) = (l + 1, r + 1);
        } else if takes_left {
            l += 1;
        } else {
            r += 1;
        }
        text.push_str(base.slice(at.min(first.old.start)..first.old.start));
        text.push_str(from.slice(first.new.clone()));
        at = first.old.end;
    }
    if !conflicts.is_empty() {
        return Merged::Conflicts(conflicts);
    }
    text.push_str(base.slice(at..base.count()));
    Merged::Text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuilt(old: &str, new: &str, hunks: &[Hunk]) -> String {
        let (old, new) = (Lines::new(old), Lines::new(new));
        let (mut text, mut at) = (String::new(), 0);
        for hunk in hunks {
            text.push_str(old.slice(at..hunk.old.start));
            text.push_str(new.slice(hunk.new.clone()));
            at = hunk.old.end;
        }
        text + old.slice(at..old.count())
    }

    #[test]
    fn a_diff_reads_as_the_reference_writes_it() {
        let old = "one\ntwo\nthree\n";
        let diff = unified("/x", old, "one\n2\nthree\nfour");
        let expected = "--- /x\toriginal\n+++ /x\tmodified\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n+four\n\\ No newline at end of file\n";
        assert!(diff.ends_with(expected), "{diff}");
        assert_eq!(unified_hunks(old, old), "");
        assert_eq!(unified_hunks("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(unified_hunks("b\na\n", "a\na\n"), "@@ -1,2 +1,2 @@\n-b\n a\n+a\n");
        assert!(fenced("```\n").starts_with("````diff\n"));
    }

    #[test]
    fn changes_in_different_places_merge_and_in_the_same_do_not() {
        let base = "1\n2\n3\n4\n5\n";
        assert_eq!(merge(base, "1\nB\n3\n4\n5\n", "1\n2\n3\nD\n5\n"), Merged::Text("1\nB\n3\nD\n5\n".into()));
        assert_eq!(merge(base, "1\nB\n3\n4\n5\n", "1\nB\n3\n4\n5\n"), Merged::Text("1\nB\n3\n4\n5\n".into()));
        assert_eq!(
            merge(base, "1\nB\n3\n4\n5\n", "1\nX\n3\n4\n5\n"),
            Merged::Conflicts(std::iter::once(2..3).collect())
        );
        assert!(matches!(merge(base, "1\nB\n3\n4\n5\n", "1\n2\nX\n4\n5\n"), Merged::Conflicts(_)));
    }

    proptest::proptest! {
        #[test]
        fn hunks_lead_from_one_text_to_the_other(old in "[ab\n]{0,40}", new in "[ab\n]{0,40}") {
            let (o, n) = (Lines::new(&old), Lines::new(&new));
            proptest::prop_assert_eq!(rebuilt(&old, &new, &hunks(&o, &n)), new.clone());
            proptest::prop_assert_eq!(rebuilt(&old, &new, &fast(&o, &n)), new.clone());
            proptest::prop_assert_eq!(merge(&old, &new, &old), Merged::Text(new.clone()));
            proptest::prop_assert_eq!(merge(&old, &old, &new), Merged::Text(new.clone()));
        }
    }
}
