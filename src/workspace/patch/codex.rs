//! Pure: the patch form that Codex taught its models: `*** Begin Patch` … `*** End Patch`.
//!
//! Marks may have blanks around them, and the whole may stand in a here-document, for models write it so.

use crate::workspace::patch::form::{FILES_MAX, FilePatch, syntax, within_limits};
use crate::workspace::patch::hunk::{Hunk, Mark};
use crate::workspace::refusal::Refusal;

/// Parses a patch.
///
/// # Errors
/// `PatchSyntax` with the line, or `TooLarge`.
pub fn parse(text: &str) -> Result<Vec<FilePatch>, Refusal> {
    within_limits(text)?;
    let all: Vec<&str> = text.lines().collect();
    let mark = |wanted: &str| all.iter().position(|line| line.trim() == wanted);
    let begin = mark("*** Begin Patch").ok_or_else(|| syntax(1, "`*** Begin Patch` is missing"))?;
    let end = all.iter().rposition(|line| line.trim() == "*** End Patch");
    let end =
        end.filter(|end| *end > begin).ok_or_else(|| syntax(all.len(), "`*** End Patch` is missing"))?;
    let mut lines = Reader { all: &all[..end], at: begin + 1 };
    let mut files = Vec::new();
    while let Some(line) = lines.peek() {
        let number = lines.at + 1;
        if let Some(path) = field(line, "*** Add File:") {
            lines.at += 1;
            files.push(added(path, &mut lines));
        } else if let Some(path) = field(line, "*** Delete File:") {
            lines.at += 1;
            files.push(FilePatch::Delete { path: path.to_owned(), text: None });
        } else if let Some(path) = field(line, "*** Update File:") {
            lines.at += 1;
            files.push(updated(path, &mut lines)?);
        } else if line.trim().is_empty() {
            lines.at += 1;
        } else {
            let what = "expected `*** Add File: PATH`, `*** Delete File: PATH` or `*** Update File: PATH`";
            return Err(syntax(number, what));
        }
        if files.len() > FILES_MAX {
            return Err(syntax(number, format!("a patch changes at most {FILES_MAX} files")));
        }
    }
    if files.is_empty() {
        return Err(syntax(begin + 1, "the patch changes no file"));
    }
    Ok(files)
}

struct Reader<'a> {
    all: &'a [&'a str],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.at).copied()
    }
}

/// What stands behind a mark.
fn field<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.trim().strip_prefix(mark).map(str::trim).filter(|path| !path.is_empty())
}

fn added(path: &str, lines: &mut Reader<'_>) -> FilePatch {
    let mut text = String::new();
    while let Some(line) = lines.peek().and_then(|line| line.strip_prefix('+')) {
        text.push_str(line);
        text.push('\n');
        lines.at += 1;
    }
    FilePatch::Add { path: path.to_owned(), text, mode: None, may_replace: true }
}

fn updated(path: &str, lines: &mut Reader<'_>) -> Result<FilePatch, Refusal> {
    let number = lines.at;
    let to = lines.peek().and_then(|line| field(line, "*** Move to:")).map(str::to_owned);
    lines.at += usize::from(to.is_some());
    let mut hunks = Vec::new();
    while let Some(line) = lines.peek() {
        let is_next_file = ["*** Add File:", "*** Delete File:", "*** Update File:"]
            .iter()
            .any(|m| line.trim_start().starts_with(m));
        if is_next_file {
            break;
        }
        if line.trim().is_empty() && hunks.last().is_none_or(|h: &Hunk| h.is_at_end) {
            lines.at += 1;
            continue;
        }
        hunks.push(hunk(lines, hunks.is_empty())?);
    }
    if hunks.is_empty() && to.is_none() {
        return Err(syntax(number, format!("the update of `{path}` says no change")));
    }
    Ok(FilePatch::Update { path: path.to_owned(), to, mode: None, hunks, may_replace: true })
}

fn hunk(lines: &mut Reader<'_>, is_first: bool) -> Result<Hunk, Refusal> {
    let mut hunk = Hunk { patch_line: lines.at + 1, ..Hunk::default() };
    let mut has_head = false;
    while let Some(line) =
        lines.peek().map(str::trim_end).filter(|line| *line == "@@" || line.starts_with("@@ "))
    {
        let anchor = line.trim_start_matches("@@").strip_prefix(' ').unwrap_or("");
        let anchor = anchor.strip_suffix("@@").map_or(anchor, str::trim_end);
        // The numbers of a unified patch: a model mixed the two.
        if !anchor.trim().is_empty() && !is_range(anchor) {
            hunk.anchors.push(anchor.to_owned());
        }
        (has_head, lines.at) = (true, lines.at + 1);
    }
    if !has_head && !is_first {
        return Err(syntax(lines.at + 1, "expected `@@`, or a line that begins with ` `, `+` or `-`"));
    }
    while let Some(line) = lines.peek() {
        if line.trim() == "*** End of File" {
            (hunk.is_at_end, lines.at) = (true, lines.at + 1);
            break;
        }
        if line.trim_end() == "@@" || line.starts_with("@@ ") || line.trim_start().starts_with("*** ") {
            break;
        }
        let marked = match line.chars().next() {
            None => (Mark::Same, ""),
            Some(' ') => (Mark::Same, &line[1..]),
            Some('+') => (Mark::New, &line[1..]),
            Some('-') => (Mark::Gone, &line[1..]),
            Some(_) => return Err(syntax(lines.at + 1, "a line of a hunk begins with ` `, `+` or `-`")),
        };
        hunk.lines.push((marked.0, marked.1.to_owned()));
        lines.at += 1;
    }
    // Blank lines in front of the next mark belong to nobody.
    if lines.peek().is_none_or(|line| line.trim_start().starts_with("*** ")) && !hunk.is_at_end {
        while hunk.lines.last().is_some_and(|(mark, line)| *mark == Mark::Same && line.is_empty()) {
            hunk.lines.pop();
        }
    }
    if hunk.lines.is_empty() {
        return Err(syntax(hunk.patch_line, "the hunk has no lines"));
    }
    Ok(hunk)
}

/// `-1,2 +1,3`
fn is_range(text: &str) -> bool {
    let is_part = |part: &str| part.chars().all(|c| c.is_ascii_digit() || "-+,".contains(c));
    let mut parts = text.split_whitespace();
    parts.next().is_some_and(|part| part.starts_with('-') && is_part(part))
        && parts.next().is_some_and(|part| part.starts_with('+') && is_part(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::patch::hunk;
    use crate::workspace::refusal::Code;

    #[track_caller]
    fn check(text: &str, body: &str, expected: Result<&str, Code>) {
        let patch = format!("*** Begin Patch\n*** Update File: x\n{body}\n*** End Patch\n");
        let done = parse(&patch).and_then(|files| match &files[..] {
            [FilePatch::Update { hunks, .. }] => hunk::apply(text, hunks, "x"),
            other => panic!("{other:?}"),
        });
        let done = done.as_ref().map(|(text, _)| text.as_str()).map_err(|e| e.code);
        assert_eq!(done, expected, "{patch}");
    }

    #[test]
    fn hunks_are_found_by_their_lines_and_anchors() {
        let text =
            "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 1\n";
        check(
            text,
            "@@ class B:\n     def f(self):\n-        return 1\n+        return 2",
            Ok(
                "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 2\n",
            ),
        );
        check(
            text,
            "@@ class B:\n@@     def f(self):\n-        return 1\n+        return 2",
            Ok(
                "class A:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 2\n",
            ),
        );
        check(text, "@@\n-        return 1\n+        return 2", Err(Code::Ambiguous));
        check(text, "@@ class C:\n-x\n+y", Err(Code::NoMatch));
        check(
            text,
            "-class A:\n+class Z:",
            Ok(
                "class Z:\n    def f(self):\n        return 1\nclass B:\n    def f(self):\n        return 1\n",
            ),
        );
        check("a\nb\n", "@@ a\n+new", Ok("a\nnew\nb\n"));
        check("a\nb\n", "@@\n+new", Ok("a\nb\nnew\n"));
        check("a\nb\na\nb\n", "@@\n a\n-b\n+c\n*** End of File", Ok("a\nb\na\nc\n"));
        check("a\nb\nc\nd\n", "@@\n-a\n+A\n@@\n-d\n+D", Ok("A\nb\nc\nD\n"));
        check("a\n\nb\n", " a\n\n-b\n+c", Ok("a\n\nc\n"));
        check("a\r\nb\r\n", "-b\n+c\n+d", Ok("a\r\nc\r\nd\r\n"));
        check("a\nb", "-b\n+c", Ok("a\nc"));
        check(
            "\tif x:\n\t\tgo()\n",
            "     if x:\n-        go()\n+        stop()",
            Ok("\tif x:\n\t\tstop()\n"),
        );
        check("say “x”\n", "-say \"x\"\n+say y", Ok("say y\n"));
        check("c\n", "-b\n+c", Err(Code::AlreadyApplied));
        check("a\n", "@@ -1,1 +1,1 @@\n-a\n+b", Ok("b\n"));
    }

    #[test]
    fn what_is_no_patch_is_told_with_its_line() {
        let line = |text: &str| {
            let refusal = parse(text).unwrap_err();
            (refusal.code, refusal.data.unwrap()["line"].as_u64().unwrap())
        };
        assert_eq!(line("x"), (Code::PatchSyntax, 1));
        assert_eq!(line("*** Begin Patch\n*** Add File: x\n+a\n"), (Code::PatchSyntax, 3));
        assert_eq!(line("*** Begin Patch\nhello\n*** End Patch"), (Code::PatchSyntax, 2));
        assert_eq!(line("*** Begin Patch\n*** End Patch"), (Code::PatchSyntax, 1));
        assert_eq!(line("*** Begin Patch\n*** Update File: x\n*** End Patch"), (Code::PatchSyntax, 2));
        assert_eq!(
            line("*** Begin Patch\n*** Update File: x\n@@\nbad\n*** End Patch"),
            (Code::PatchSyntax, 4)
        );
    }

    #[test]
    fn a_whole_patch_in_a_here_document_is_read() {
        let text = "apply_patch <<'EOF'\n  *** Begin Patch  \n*** Add File: a b.txt\n+one\n+\n*** Delete File: old\n*** Update File: x\n*** Move to: y/z\n@@\n-1\n+2\n\n*** End Patch\nEOF\n";
        let files = parse(text).unwrap();
        assert_eq!(
            files[0],
            FilePatch::Add { path: "a b.txt".into(), text: "one\n\n".into(), mode: None, may_replace: true }
        );
        assert_eq!(files[1], FilePatch::Delete { path: "old".into(), text: None });
        let FilePatch::Update { path, to, hunks, .. } = &files[2] else { panic!("{files:?}") };
        assert_eq!((path.as_str(), to.as_deref(), hunks.len()), ("x", Some("y/z"), 1));
        assert_eq!(hunks[0].lines.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(body in "(\\*\\*\\* (Add File: x|Delete File: y|Update File: z|Move to: w|End of File)\n|@@ ?[ab]?\n|[ +-][ab]?\n|\n){0,14}", text in "[ab\r\n]{0,16}") {
            if let Ok(files) = parse(&format!("*** Begin Patch\n{body}*** End Patch")) {
                for file in files {
                    if let FilePatch::Update { hunks, .. } = file {
                        let _either_way = hunk::apply(&text, &hunks, "x");
                    }
                }
            }
        }
    }
}
