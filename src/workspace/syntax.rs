//! Text into a syntax tree, within limits of size and time, and what is wrong with it.
//!
//! What comes in may be hostile: a parse that takes too long is given up. It knows nothing of files.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use tree_sitter::{ParseOptions, Parser, Tree, TreeCursor};

use crate::workspace::language::Language;

/// Bytes of one text.
pub const PARSE_BYTES_MAX: usize = 2 << 20;
/// How long one parse may take.
const PARSE_TIME_MAX: Duration = Duration::from_secs(2);
/// Levels of a tree that are looked at.
pub const TREE_DEPTH_MAX: usize = 512;
/// Nodes of a tree that are looked at.
pub const TREE_NODES_MAX: usize = 2_000_000;
/// Faults that are told.
const FAULTS_MAX: usize = 20;

/// Why there is no tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unparsed {
    /// More than the limit.
    TooLarge,
    /// It took too long.
    TooSlow,
}

impl Unparsed {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
        }
    }
}

/// Parses a text.
///
/// # Errors
/// `TooLarge` or `TooSlow`.
pub fn parse(language: Language, text: &[u8]) -> Result<Tree, Unparsed> {
    if text.len() > PARSE_BYTES_MAX {
        return Err(Unparsed::TooLarge);
    }
    let mut parser = Parser::new();
    // Fails for a grammar of another version of tree-sitter: the tests parse with every one.
    parser.set_language(&language.grammar().language).map_err(|_other_version| Unparsed::TooSlow)?;
    let until = Instant::now() + PARSE_TIME_MAX;
    let mut patience = |_: &tree_sitter::ParseState| {
        if Instant::now() < until { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let mut chunk = |at: usize, _| text.get(at..).unwrap_or_default();
    let options = ParseOptions::new().progress_callback(&mut patience);
    parser.parse_with_options(&mut chunk, None, Some(options)).ok_or(Unparsed::TooSlow)
}

/// Goes through a tree from its first node to its last, parents first, and calls `look` with each named node and its
/// depth; where that says no, it does not go deeper. Gives whether all was seen.
pub fn each_node<'t>(
    tree: &'t Tree,
    look: &mut dyn FnMut(tree_sitter::Node<'t>, usize, &TreeCursor<'t>) -> bool,
) -> bool {
    let (mut cursor, mut depth, mut nodes, mut whole) = (tree.walk(), 0, 0, true);
    loop {
        let node = cursor.node();
        nodes += 1;
        if nodes > TREE_NODES_MAX {
            return false;
        }
        let deeper =
            !node.is_named() && node.child_count() > 0 || node.is_named() && look(node, depth, &cursor);
        if deeper && depth >= TREE_DEPTH_MAX {
            whole = false;
        } else if deeper && cursor.goto_first_child() {
            depth += 1;
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return whole;
            }
            depth -= 1;
        }
    }
}

/// A place where the grammar does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Counted from 1.
    pub line: usize,
    /// Bytes, counted from 1.
    pub column: usize,
    /// What is missing, or the text that does not fit.
    pub what: String,
}

/// What is wrong with the syntax of a file, by its name and text; `None` when there is no grammar for it, or it could not be parsed within
/// the limits. An empty list says that all of it fits.
pub fn misfits(path: &Path, text: &[u8]) -> Option<Vec<Misfit>> {
    let language = Language::of(path)?;
    let tree = parse(language, text).ok()?;
    let mut found = Vec::new();
    if !tree.root_node().has_error() {
        return Some(found);
    }
    each_node(&tree, &mut |node, _, _| {
        if found.len() >= FAULTS_MAX || !node.has_error() {
            return false;
        }
        let at = node.start_position();
        let place = |what| Misfit { line: at.row + 1, column: at.column + 1, what };
        if node.is_missing() {
            found.push(place(format!("`{}` is missing", node.kind())));
        } else if node.is_error() {
            let text = String::from_utf8_lossy(&text[node.byte_range()]);
            let line: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
            found.push(place(format!("does not fit: `{line}`")));
            return false;
        }
        true
    });
    if found.is_empty() {
        // The mark is on a node without a name: a bracket that was put in.
        let at = tree.root_node().start_position();
        found.push(Misfit {
            line: at.row + 1,
            column: at.column + 1,
            what: "something is missing".to_owned(),
        });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_a_place_and_good_text_has_none() {
        let check = |name: &str, text: &str| misfits(Path::new(name), text.as_bytes());
        assert_eq!(check("a.rs", "fn main() {}\n"), Some(vec![]));
        let wrong = check("a.rs", "fn main() {}\nfn x( {\n").unwrap();
        assert!(wrong.iter().any(|m| m.line == 2), "{wrong:?}");
        assert!(!check("a.py", "def f(:\n  pass\n").unwrap().is_empty());
        assert!(!check("a.js", "function f( { return 1 \n").unwrap().is_empty());
        assert_eq!(check("a.txt", "("), None);
    }

    #[test]
    fn hostile_text_is_given_up_or_parsed_and_never_breaks_us() {
        let deep = "(".repeat(200_000);
        let brackets = "[".repeat(100_000) + &"]".repeat(100_000);
        for language in Language::ALL {
            for text in [deep.as_str(), brackets.as_str(), "\0\u{ffff}<<<<<<<\n\"'`"] {
                if let Ok(tree) = parse(language, text.as_bytes()) {
                    each_node(&tree, &mut |_, _, _| true);
                }
            }
        }
        assert_eq!(parse(Language::C, &vec![b' '; PARSE_BYTES_MAX + 1]).unwrap_err(), Unparsed::TooLarge);
    }
}
