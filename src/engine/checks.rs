//! Checks of new texts before anything is written: conflict markers, size, syntax. A check that was asked for and
//! fails stops everything; what was wrong before is not held against a change.

use std::path::Path;

use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::syntax::misfits;

/// Largest file that passes the check of size, in bytes.
const SIZE_BYTES_MAX: usize = 1 << 20;

/// Whether a new content passes the checks that were asked for.
///
/// # Errors
/// `CheckFailed` with the place, `BadRequest` for a check that is none.
pub fn pass(path: &str, old: Option<&[u8]>, new: &[u8], checks: &[String]) -> Result<(), Refusal> {
    for check in checks {
        let wrong = match check.as_str() {
            "conflict_markers" => markers(new).filter(|_| old.is_none_or(|old| markers(old).is_none())),
            "size" => {
                (new.len() > SIZE_BYTES_MAX).then(|| format!("it has more than {SIZE_BYTES_MAX} bytes"))
            }
            "syntax" => syntax(path, old, new),
            other => {
                let text = format!("`{other}` is no check: `conflict_markers`, `size`, `syntax`");
                return Err(Refusal::new(Code::BadRequest, text));
            }
        };
        if let Some(wrong) = wrong {
            return Err(Refusal::new(
                Code::CheckFailed,
                format!("`{path}` fails the check `{check}`: {wrong}"),
            )
            .at(path)
            .hint("nothing was written; correct the change, or leave the check out")
            .data(serde_json::json!({"check": check, "why": wrong})));
        }
    }
    Ok(())
}

/// The first line of a conflict that nobody has resolved.
fn markers(text: &[u8]) -> Option<String> {
    let mut begun = None;
    for (n, line) in text.split(|b| *b == b'\n').enumerate() {
        if line.starts_with(b"<<<<<<< ") {
            begun = Some(n + 1);
        } else if line.starts_with(b">>>>>>> ")
            && let Some(begun) = begun
        {
            return Some(format!("an unresolved conflict begins at line {begun}"));
        }
    }
    None
}

/// What does not fit the grammar of the language, when the text before did.
fn syntax(path: &str, old: Option<&[u8]>, new: &[u8]) -> Option<String> {
    let path = Path::new(path);
    let found = misfits(path, new)?;
    let first = found.first()?;
    let was_wrong = old.and_then(|old| misfits(path, old)).is_some_and(|before| before.len() >= found.len());
    (!was_wrong).then(|| format!("line {}: {}", first.line, first.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_stops_what_is_new_and_forgives_what_was_there() {
        let check = |path: &str, old: &str, new: &str, check: &str| {
            pass(path, Some(old.as_bytes()), new.as_bytes(), &[check.to_owned()]).map_err(|e| e.code)
        };
        let conflict = "<<<<<<< a\nx\n=======\ny\n>>>>>>> b\n";
        assert_eq!(check("x", "", conflict, "conflict_markers"), Err(Code::CheckFailed));
        assert_eq!(check("x", conflict, conflict, "conflict_markers"), Ok(()));
        assert_eq!(check("x.rs", "fn a() {}\n", "fn a( {}\n", "syntax"), Err(Code::CheckFailed));
        assert_eq!(check("x.rs", "fn a( {}\n", "fn b( {}\n", "syntax"), Ok(()));
        assert_eq!(check("x", "", "a", "taste"), Err(Code::BadRequest));
    }
}
