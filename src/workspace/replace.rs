//! Pure: places of a needle or a pattern in a text, each with a name, and the text with some of them replaced.

use std::ops::Range;

use grep_matcher::{Captures, Matcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};

use crate::workspace::diff::Lines;
use crate::workspace::refusal::{Code, Refusal};

/// Most places in one text.
const PLACES_MAX: usize = 100_000;
/// Memory of a compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 8 << 20;

/// What is looked for.
pub struct Needle(RegexMatcher);

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name that it keeps as long as its line and what stands above it stay.
    pub id: String,
    /// The line, from 1.
    pub line: usize,
    /// Its line, without the end.
    pub text: String,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// What shall stand there.
    pub new: String,
}

impl Needle {
    /// A text, or with `is_pattern` a regular expression in which `^` and `$` are ends of lines.
    ///
    /// # Errors
    /// `BadPattern`.
    pub fn new(text: &str, is_pattern: bool, ignores_case: bool) -> Result<Self, Refusal> {
        let mut builder = RegexMatcherBuilder::new();
        builder.multi_line(true).case_insensitive(ignores_case).fixed_strings(!is_pattern);
        builder.size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let wrong = |why: String| Refusal::new(Code::BadPattern, format!("`{text}` is no pattern: {why}"));
        if text.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        builder.build(text).map(Self).map_err(|e| wrong(e.to_string()))
    }

    /// Whether it is anywhere in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes).unwrap_or(false)
    }

    /// Every place in a text, with `replacement` for it: in that of a pattern `$1` and `${name}` are its groups, in
    /// that of a text nothing is.
    ///
    /// # Errors
    /// `TooLarge` when there are too many.
    pub fn places(
        &self,
        path: &str,
        text: &str,
        replacement: &str,
        has_groups: bool,
    ) -> Result<Vec<Place>, Refusal> {
        let lines = Lines::new(text);
        let mut found = Vec::new();
        let Ok(mut captures) = self.0.new_captures() else { return Ok(found) };
        let mut at = 0;
        while at <= text.len() && self.0.captures_at(text.as_bytes(), at, &mut captures).unwrap_or(false) {
            let Some(whole) = captures.get(0) else { break };
            let range = whole.start()..whole.end();
            // What matches nothing would go on for ever, and replacing it would only insert.
            at = if range.is_empty() { range.end + 1 } else { range.end };
            if range.is_empty() || !text.is_char_boundary(range.start) || !text.is_char_boundary(range.end) {
                continue;
            }
            let mut new = Vec::new();
            if has_groups {
                captures.interpolate(
                    |name| self.0.capture_index(name),
                    text.as_bytes(),
                    replacement.as_bytes(),
                    &mut new,
                );
            } else {
                new.extend_from_slice(replacement.as_bytes());
            }
            let line = lines.line_of(range.start);
            let column = range.start - lines.start(line);
            found.push(Place {
                id: name(path, line, column, lines.bare(line)),
                line: line + 1,
                text: lines.bare(line).to_owned(),
                range,
                new: String::from_utf8_lossy(&new).into_owned(),
            });
            if found.len() > PLACES_MAX {
                return Err(Refusal::new(
                    Code::TooLarge,
                    format!("`{path}` has more than {PLACES_MAX} places"),
                )
                .at(path));
            }
        }
        Ok(found)
    }
}

fn name(path: &str, line: usize, column: usize, text: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_bytes()).update(&[0]).update(format!("{line}:{column}").as_bytes());
    hasher.update(&[0]).update(text.as_bytes());
    hasher.finalize().to_hex()[..10].to_owned()
}

/// The text with these places replaced; they are in order and apart.
pub fn replaced(text: &str, places: &[&Place]) -> String {
    let (mut new, mut at) = (String::with_capacity(text.len()), 0);
    for place in places {
        new.push_str(&text[at..place.range.start]);
        new.push_str(&place.new);
        at = place.range.end;
    }
    new + &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_groups_and_a_text_has_none() {
        let text = "let a = 1;\nlet b = 2;\n";
        let needle = Needle::new(r"let (\w+)", true, false).unwrap();
        let places = needle.places("x", text, "const $1", true).unwrap();
        let all: Vec<_> = places.iter().collect();
        assert_eq!(replaced(text, &all), "const a = 1;\nconst b = 2;\n");
        assert_eq!((places[1].line, places[1].text.as_str()), (2, "let b = 2;"));
        assert_ne!(places[0].id, places[1].id);
        assert_eq!(replaced(text, &all[1..]), "let a = 1;\nconst b = 2;\n");
        let needle = Needle::new("a = 1", false, false).unwrap();
        assert_eq!(
            replaced(text, &needle.places("x", text, "$1", false).unwrap().iter().collect::<Vec<_>>()),
            "let $1;\nlet b = 2;\n"
        );
        assert_eq!(Needle::new("(", true, false).err().unwrap().code, Code::BadPattern);
        assert!(Needle::new("x*", true, false).unwrap().places("x", "é", "y", true).unwrap().is_empty());
    }
}
