//! Pure: the patch form of search and replace blocks.
//!
//! ```text
//! path/of/file
//! <<<<<<< SEARCH
//! old lines
//! =======
//! new lines
//! >>>>>>> REPLACE
//! ```
//!
//! The path may stand above a fence of code; blocks without one belong to the path before.

use crate::workspace::edit::Edit;
use crate::workspace::patch::form::{FILES_MAX, FilePatch, syntax, within_limits};
use crate::workspace::refusal::Refusal;

/// Parses a patch.
///
/// # Errors
/// `PatchSyntax` with the line, or `TooLarge`.
pub fn parse(text: &str) -> Result<Vec<FilePatch>, Refusal> {
    within_limits(text)?;
    let mut files: Vec<FilePatch> = Vec::new();
    let mut name: Option<String> = None;
    let mut lines = text.lines().enumerate();
    while let Some((n, line)) = lines.next() {
        if !is_mark(line, '<', "SEARCH") {
            let bare = line.trim().trim_matches(['*', '`', '#']).trim().trim_end_matches(':');
            if !line.trim_start().starts_with("```") && !bare.is_empty() {
                name = Some(bare.to_owned());
            }
            continue;
        }
        let path = name.clone().ok_or_else(|| syntax(n + 1, "no path stands above the first block"))?;
        let old = until(&mut lines, |line| is_mark(line, '=', ""))
            .ok_or_else(|| syntax(n + 1, "the block has no `=======`"))?;
        let new = until(&mut lines, |line| is_mark(line, '>', "REPLACE"))
            .ok_or_else(|| syntax(n + 1, "the block has no `>>>>>>> REPLACE`"))?;
        let edit = Edit { old, new, ..Edit::default() };
        let is_full = files.len() == FILES_MAX;
        match files.last_mut() {
            Some(FilePatch::Replace { path: last, edits }) if *last == path => edits.push(edit),
            _ if is_full => {
                return Err(syntax(n + 1, format!("a patch changes at most {FILES_MAX} files")));
            }
            _ => files.push(FilePatch::Replace { path, edits: vec![edit] }),
        }
    }
    if files.is_empty() {
        return Err(syntax(1, "the patch has no `<<<<<<< SEARCH` block"));
    }
    Ok(files)
}

/// Five to nine of a sign, and a word behind.
fn is_mark(line: &str, sign: char, word: &str) -> bool {
    let rest = line.trim_end().trim_start_matches(sign);
    (5..=9).contains(&(line.trim_end().len() - rest.len())) && rest.trim_start() == word
}

fn until<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    is_end: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut text = String::new();
    for (_, line) in lines {
        if is_end(line) {
            return Some(text);
        }
        text.push_str(line);
        text.push('\n');
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_belong_to_the_path_above_them() {
        let text = "Change these:\n\nsrc/a.rs\n```rust\n<<<<<<< SEARCH\none\n=======\ntwo\n>>>>>>> REPLACE\n```\n\n```\n<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\n```\n**b.py**\n<<<<<<< SEARCH\n=======\nnew\n>>>>>>> REPLACE\n";
        let files = parse(text).unwrap();
        assert_eq!(files.len(), 2);
        let FilePatch::Replace { path, edits } = &files[0] else { panic!() };
        assert_eq!((path.as_str(), edits.len(), edits[0].old.as_str()), ("src/a.rs", 2, "one\n"));
        let FilePatch::Replace { path, edits } = &files[1] else { panic!() };
        assert_eq!((path.as_str(), edits[0].old.as_str(), edits[0].new.as_str()), ("b.py", "", "new\n"));
    }

    #[test]
    fn a_block_that_is_cut_off_is_refused() {
        for text in [
            "",
            "x\n<<<<<<< SEARCH\na\n",
            "x\n<<<<<<< SEARCH\na\n=======\nb\n",
            "<<<<<<< SEARCH\na\n=======\nb\n>>>>>>> REPLACE\n",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
