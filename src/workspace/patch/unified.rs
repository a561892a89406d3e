//! Pure: unified patches, with git's headings or without.
//!
//! The counts of a hunk are believed as long as its lines agree; models miscount, and then the lines decide.

use crate::workspace::patch::form::{FILES_MAX, FilePatch, syntax, within_limits};
use crate::workspace::patch::hunk::{Hunk, Mark};
use crate::workspace::refusal::{Code, Refusal};

/// What the headings of one file say.
#[derive(Default)]
struct Head {
    old: Option<String>,
    new: Option<String>,
    /// From `diff --git`, for what has no other heading.
    named: Option<(String, String)>,
    renamed: Option<(String, String)>,
    is_copy: bool,
    is_new: bool,
    is_gone: bool,
    mode: Option<u32>,
    line: usize,
}

/// Parses a patch. `strip` parts are taken off each path; without it `a/` and `b/` are taken off where both stand.
///
/// # Errors
/// `PatchSyntax` with the line, `Unsupported` for binary patches, or `TooLarge`.
pub fn parse(text: &str, strip: Option<usize>) -> Result<Vec<FilePatch>, Refusal> {
    within_limits(text)?;
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let (mut files, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let line = lines[at];
        let begins = line.starts_with("diff --git ") || is_names(&lines, at);
        if line.starts_with("@@ ") && files.is_empty() {
            return Err(syntax(at + 1, "a hunk without `--- a/path` and `+++ b/path` above it"));
        }
        if !begins {
            at += 1;
            continue;
        }
        let (head, next) = head(&lines, at)?;
        let (hunks, next) = hunks(&lines, next)?;
        files.push(file(head, hunks, strip)?);
        at = next;
        if files.len() > FILES_MAX {
            return Err(syntax(at, format!("a patch changes at most {FILES_MAX} files")));
        }
    }
    if files.is_empty() {
        return Err(syntax(1, "the patch names no file: `--- a/path` and `+++ b/path`"));
    }
    Ok(files)
}

/// `---` and `+++` below each other.
fn is_names(lines: &[&str], at: usize) -> bool {
    lines[at].starts_with("--- ") && lines.get(at + 1).is_some_and(|line| line.starts_with("+++ "))
}

fn head(lines: &[&str], mut at: usize) -> Result<(Head, usize), Refusal> {
    let mut head = Head { line: at + 1, ..Head::default() };
    let mode = |text: &str| u32::from_str_radix(text.trim(), 8).ok().map(|mode| mode & 0o7777);
    while let Some(line) = lines.get(at) {
        let field = |name: &str| line.strip_prefix(name);
        if let Some(rest) = field("diff --git ") {
            if head.named.is_some() {
                break;
            }
            head.named = git_names(rest);
        } else if let Some(rest) = field("rename from ").or_else(|| field("copy from ")) {
            head.is_copy = line.starts_with("copy");
            head.renamed = Some((name(rest), String::new()));
        } else if let Some(rest) = field("rename to ").or_else(|| field("copy to ")) {
            if let Some(renamed) = &mut head.renamed {
                renamed.1 = name(rest);
            }
        } else if let Some(rest) = field("new file mode ") {
            (head.is_new, head.mode) = (true, mode(rest));
        } else if field("deleted file mode ").is_some() {
            head.is_gone = true;
        } else if let Some(rest) = field("new mode ") {
            head.mode = mode(rest);
        } else if line.starts_with("GIT binary patch") || line.starts_with("Binary files ") {
            return Err(Refusal::new(
                Code::Unsupported,
                format!("line {} of the patch: binary patches are not applied", at + 1),
            ));
        } else if is_names(lines, at) {
            head.old = names_file(&lines[at][4..]);
            head.new = names_file(&lines[at + 1][4..]);
            return Ok((head, at + 2));
        } else if !["old mode ", "similarity index ", "dissimilarity index ", "index "]
            .iter()
            .any(|w| line.starts_with(w))
        {
            break;
        }
        at += 1;
    }
    Ok((head, at))
}

/// The name behind `---` or `+++`, without a time; `None` for `/dev/null`.
fn names_file(text: &str) -> Option<String> {
    let text = if text.starts_with('"') { text } else { text.split('\t').next().unwrap_or(text) };
    let name = name(text.trim_end());
    (name != "/dev/null").then_some(name)
}

/// A name, maybe quoted as git quotes.
fn name(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.rfind('"').map(|end| &t[..end])) else {
        return text.to_owned();
    };
    let (mut bytes, mut rest) = (Vec::new(), inner.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let octal = rest
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        if let Some(byte) = octal {
            bytes.push(byte);
            rest = &rest[3..];
        } else if let Some((escaped, after)) = rest.split_first() {
            bytes.push(match escaped {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                other => *other,
            });
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The two names of `diff --git`, where they can be told apart.
fn git_names(rest: &str) -> Option<(String, String)> {
    let middle = rest.match_indices(" b/").map(|(n, _)| n).find(|n| rest.get(2..*n) == rest.get(n + 3..));
    let middle = middle.or_else(|| rest.match_indices(" b/").map(|(n, _)| n).next())?;
    Some((rest[..middle].to_owned(), rest[middle + 1..].to_owned()))
}

fn hunks(lines: &[&str], mut at: usize) -> Result<(Vec<Hunk>, usize), Refusal> {
    let mut found = Vec::new();
    while lines.get(at).is_some_and(|line| line.starts_with("@@")) {
        let (hunk, next) = match range(lines[at]) {
            Some(range) => match counted(lines, at, range) {
                Some(done) => done,
                None => loose(lines, at, Some(range.0))?,
            },
            None => loose(lines, at, None)?,
        };
        found.push(hunk);
        at = next;
    }
    Ok((found, at))
}

/// `@@ -START,COUNT +START,COUNT @@`: where it begins, how many old and new lines.
fn range(line: &str) -> Option<(usize, usize, usize)> {
    let mut parts = line.strip_prefix("@@ -")?.split_whitespace();
    let pair = |text: &str| -> Option<(usize, usize)> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    let (start, old) = pair(parts.next()?)?;
    let (_, new) = pair(parts.next()?.strip_prefix('+')?)?;
    Some((start, old, new))
}

fn marked(line: &str) -> Option<(Mark, String)> {
    let mark = match line.as_bytes().first() {
        None => return Some((Mark::Same, String::new())),
        Some(b' ') => Mark::Same,
        Some(b'-') => Mark::Gone,
        Some(b'+') => Mark::New,
        Some(_) => return None,
    };
    Some((mark, line[1..].to_owned()))
}

/// A hunk whose counts and lines agree.
fn counted(lines: &[&str], at: usize, (start, old, new): (usize, usize, usize)) -> Option<(Hunk, usize)> {
    let mut hunk = Hunk { line: Some(start), patch_line: at + 1, ..Hunk::default() };
    let (mut left, mut next) = ((old, new), at + 1);
    while left != (0, 0) {
        let line = lines.get(next)?;
        if !no_end(line, &mut hunk) {
            let (mark, text) = marked(line)?;
            left = match mark {
                Mark::Same => (left.0.checked_sub(1)?, left.1.checked_sub(1)?),
                Mark::Gone => (left.0.checked_sub(1)?, left.1),
                Mark::New => (left.0, left.1.checked_sub(1)?),
            };
            hunk.lines.push((mark, text));
        }
        next += 1;
    }
    if lines.get(next).is_some_and(|line| no_end(line, &mut hunk)) {
        next += 1;
    }
    // More lines than were counted: it was miscounted.
    let goes_on =
        lines.get(next).is_some_and(|line| line.starts_with([' ', '+', '-']) && !is_names(lines, next));
    if goes_on && lines[next] != "-- " {
        return None;
    }
    ends(&mut hunk);
    Some((hunk, next))
}

/// A hunk that goes on as long as its lines look like it.
fn loose(lines: &[&str], at: usize, line: Option<usize>) -> Result<(Hunk, usize), Refusal> {
    let mut hunk = Hunk { line, patch_line: at + 1, ..Hunk::default() };
    let mut next = at + 1;
    while let Some(text) = lines.get(next) {
        let is_over = text.starts_with("@@") || text.starts_with("diff --git ") || is_names(lines, next);
        if is_over || next + 1 == lines.len() && text.is_empty() {
            break;
        }
        if !no_end(text, &mut hunk) {
            let Some(marked) = marked(text) else { break };
            hunk.lines.push(marked);
        }
        next += 1;
    }
    while hunk.lines.last().is_some_and(|(mark, text)| *mark == Mark::Same && text.is_empty()) {
        hunk.lines.pop();
    }
    if hunk.lines.is_empty() {
        return Err(syntax(at + 1, "the hunk has no lines"));
    }
    ends(&mut hunk);
    Ok((hunk, next))
}

/// `\ No newline at end of file`, which belongs to the line above.
fn no_end(line: &str, hunk: &mut Hunk) -> bool {
    if !line.starts_with("\\ ") {
        return false;
    }
    match hunk.lines.last() {
        Some((Mark::Gone, _)) => hunk.new_ends = hunk.new_ends.or(Some(true)),
        _ => hunk.new_ends = Some(false),
    }
    hunk.is_at_end = true;
    true
}

/// What the marks about line ends mean in the end: a removed last line without one says nothing of the new text
/// when no line came for it.
fn ends(hunk: &mut Hunk) {
    if hunk.new_ends == Some(true) && hunk.new_lines().is_empty() {
        hunk.new_ends = None;
    }
}

fn file(head: Head, hunks: Vec<Hunk>, strip: Option<usize>) -> Result<FilePatch, Refusal> {
    let is_git = head.named.is_some();
    let (named_old, named_new) = head.named.unzip();
    let (old, new) = match (head.old, head.new) {
        (None, None) if hunks.is_empty() => {
            (named_old.filter(|_| !head.is_new), named_new.filter(|_| !head.is_gone))
        }
        both => both,
    };
    let has_letters = is_git
        || old.as_deref().is_none_or(|p| p.starts_with("a/"))
            && new.as_deref().is_none_or(|p| p.starts_with("b/"));
    let parts = strip.unwrap_or(usize::from(has_letters));
    let stripped = |path: String| -> String {
        let mut rest = path.as_str();
        for _ in 0..parts {
            rest = rest.split_once('/').map_or(rest, |(_, after)| after);
        }
        rest.to_owned()
    };
    let text = |hunks: &[Hunk], mark: Mark, ends: bool| {
        let all = hunks.iter().flat_map(|hunk| &hunk.lines);
        let mut text: String = all.filter(|(m, _)| *m == mark).map(|(_, line)| format!("{line}\n")).collect();
        if !ends {
            text.pop();
        }
        text
    };
    let ends = !hunks.iter().any(|hunk| hunk.new_ends == Some(false));
    let is_open_end = hunks.last().is_some_and(|hunk| hunk.is_at_end);
    match (old.map(stripped), new.map(stripped)) {
        _ if head.is_copy => Err(Refusal::new(
            Code::Unsupported,
            format!("line {} of the patch: copies are not applied", head.line),
        )),
        (None, Some(path)) => Ok(FilePatch::Add {
            path,
            text: text(&hunks, Mark::New, ends),
            mode: head.mode,
            may_replace: false,
        }),
        (Some(path), None) => {
            Ok(FilePatch::Delete { path, text: Some(text(&hunks, Mark::Gone, !is_open_end)) })
        }
        (Some(old), Some(new)) => {
            let (path, to) = match head.renamed {
                Some((from, to)) => (from, Some(to)),
                None if old == new => (old, None),
                // Without git's word for it, two names are two ways to say one: the one that the text stands in.
                None => (new, None),
            };
            if hunks.is_empty() && to.is_none() && head.mode.is_none() {
                return Err(syntax(head.line, format!("nothing changes in `{path}`")));
            }
            Ok(FilePatch::Update { path, to, mode: head.mode, hunks, may_replace: false })
        }
        (None, None) => Err(syntax(head.line, "the patch names no file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::patch::hunk;

    #[track_caller]
    fn check(text: &str, patch: &str, expected: Result<&str, Code>) {
        let done = parse(patch, None).and_then(|files| match &files[..] {
            [FilePatch::Update { hunks, .. }] => hunk::apply(text, hunks, "x"),
            other => panic!("{other:?}"),
        });
        assert_eq!(done.as_ref().map(|(t, _)| t.as_str()).map_err(|e| e.code), expected, "{patch}");
    }

    #[test]
    fn hunks_go_where_they_stood_or_to_the_nearest_place() {
        let head = "--- a/x\t2026-01-01\n+++ b/x\n";
        check("a\nb\nc\n", &format!("{head}@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"), Ok("a\nB\nc\n"));
        check("0\n0\na\nb\n", &format!("{head}@@ -1,2 +1,2 @@ fn x\n a\n-b\n+B\n"), Ok("0\n0\na\nB\n"));
        check("x\n1\nx\n2\nx\n", &format!("{head}@@ -5 +5 @@\n-x\n+y\n"), Ok("x\n1\nx\n2\ny\n"));
        check(
            "a\nb",
            &format!("{head}@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"),
            Ok("a\nb\n"),
        );
        check(
            "a\nb\n",
            &format!("{head}@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n"),
            Ok("a\nb"),
        );
        check(
            "a\nb",
            &format!("{head}@@ -1,2 +1,3 @@\n a\n-b\n\\ No newline at end of file\n+b\n+c\n"),
            Ok("a\nb\nc\n"),
        );
        check("a\nb\n", &format!("{head}@@ -1,9 +1,9 @@\n a\n-b\n+B\n"), Ok("a\nB\n"));
        check("a\nb\n", &format!("{head}@@ ... @@\n a\n-b\n+B\n"), Ok("a\nB\n"));
        check("a\n", &format!("{head}@@ -0,0 +1 @@\n+first\n"), Ok("first\na\n"));
        check("a\nb\n", &format!("{head}@@ -1,0 +2 @@\n+mid\n"), Ok("a\nmid\nb\n"));
        check("B\n", &format!("{head}@@ -1 +1 @@\n-b\n+B\n"), Err(Code::AlreadyApplied));
    }

    #[test]
    fn headings_of_git_are_understood() {
        let text = "diff --git a/old name b/new\nsimilarity index 90%\nrename from old name\nrename to new\nold mode 100644\nnew mode 100755\n--- a/old name\t\n+++ b/new\n@@ -1 +1 @@\n-a\n+b\ndiff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-1\n-2\ndiff --git a/e b/e\nnew file mode 100755\nindex 000..e69\ndiff --git \"a/\\303\\251\" \"b/\\303\\251\"\n--- \"a/\\303\\251\"\n+++ \"b/\\303\\251\"\n@@ -1 +1 @@\n-a\n+b\n";
        let files = parse(text, None).unwrap();
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(
            matches!(&files[0], FilePatch::Update { path, to: Some(to), mode: Some(0o755), .. } if path == "old name" && to == "new")
        );
        assert!(
            matches!(&files[1], FilePatch::Delete { path, text: Some(t) } if path == "gone" && t == "1\n2\n")
        );
        assert!(
            matches!(&files[2], FilePatch::Add { path, text, mode: Some(0o755), .. } if path == "e" && text.is_empty())
        );
        assert!(matches!(&files[3], FilePatch::Update { path, .. } if path == "é"));
        assert_eq!(
            parse("diff --git a/x b/x\nGIT binary patch\n", None).unwrap_err().code,
            Code::Unsupported
        );
        assert!(parse("@@ -1 +1 @@\n-a\n+b\n", None).is_err());
        assert!(
            matches!(&parse("--- p/q/x\n+++ p/q/x\n@@ -1 +1 @@\n-a\n+b\n", Some(2)).unwrap()[0], FilePatch::Update { path, .. } if path == "x")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(diff --git a/x b/x\n|--- a/x\n|\\+\\+\\+ b/x\n|@@ -[0-9],[0-9] \\+1 @@\n|[ +-][ab]?\n|\\\\ No newline at end of file\n|rename to y\n|\"\\\\\n){0,14}", file in "[ab\n]{0,12}") {
            for file_patch in parse(&text, None).into_iter().flatten() {
                if let FilePatch::Update { hunks, .. } = file_patch {
                    let _either_way = hunk::apply(&file, &hunks, "x");
                }
            }
        }
    }
}
