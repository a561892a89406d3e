//! Pure: what ties the lines of a record together, and where it is torn.
//!
//! A line is one JSON object that ends in the digest of the line before it and its own. Who changes, removes
//! or inserts a line breaks the chain there. Who can write to the whole record can also make a new chain:
//! only a digest that was noted elsewhere shows that.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::names::Digest;

/// The digest that the first line of all follows.
pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What stands before the digest of the line before.
const PREV: &[u8] = b",\"prev\":\"";
/// What stands before a line's own digest.
const OWN: &[u8] = b"\",\"digest\":\"";
/// What ends a line.
const END: &[u8] = b"\"}";
/// Length of a digest, in bytes of its text.
const HEX: usize = 64;

/// Where a line stands in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1.
    pub n: u64,
    /// Its digest.
    pub digest: String,
}

impl Link {
    /// What the first line of all follows.
    pub fn start() -> Self {
        Self { n: 0, digest: START.to_owned() }
    }
}

/// What was left of a line whose writer died over it; the next line says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    /// How much of it there is.
    pub bytes: u64,
    /// The digest of that.
    pub digest: String,
}

impl Torn {
    /// Of what lies there.
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: hex(bytes) }
    }
}

/// What every line says of its place.
#[derive(Debug, Deserialize)]
struct Said {
    n: u64,
    #[serde(default)]
    torn: Option<Torn>,
}

/// Ends a line: `body` is a JSON object that has its number as `n`; gives the line with its newline, and its digest.
pub fn seal(mut body: Vec<u8>, prev: &str) -> (Vec<u8>, String) {
    debug_assert!(body.ends_with(b"}") && prev.len() == HEX);
    body.pop();
    body.extend_from_slice(PREV);
    body.extend_from_slice(prev.as_bytes());
    let digest = hex(&body);
    body.extend_from_slice(OWN);
    body.extend_from_slice(digest.as_bytes());
    body.extend_from_slice(END);
    body.push(b'\n');
    (body, digest)
}

fn hex(bytes: &[u8]) -> String {
    Digest::from_bytes(&Sha256::digest(bytes).into()).hex().to_owned()
}

/// A line taken apart: what its digest covers, the digest before, its own.
fn parts(line: &[u8]) -> Option<(&[u8], &str, &str)> {
    let (covered, own) =
        line.strip_suffix(END)?.split_at_checked(line.len().checked_sub(END.len() + HEX)?)?;
    let covered = covered.strip_suffix(OWN)?;
    let (body, prev) = covered.split_at_checked(covered.len().checked_sub(HEX)?)?;
    let is_hex = |text: &[u8]| text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (body.ends_with(PREV) && is_hex(prev) && is_hex(own)).then_some(())?;
    Some((covered, str::from_utf8(prev).ok()?, str::from_utf8(own).ok()?))
}

/// The place of a line that is whole, for who goes on behind it; `None` when it is no line of a chain.
pub fn place(line: &[u8]) -> Option<Link> {
    let (_, _, own) = parts(line)?;
    let said: Said = serde_json::from_slice(line).ok()?;
    Some(Link { n: said.n, digest: own.to_owned() })
}

/// Why a line does not belong where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// It is no line of a chain.
    Foreign,
    /// It is not what was written: its digest is of something else.
    Changed,
    /// It does not follow the line before it: lines were removed or put in between, or the one before is another.
    Unlinked,
    /// Its number is not the next.
    Numbered {
        /// The number it should have.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// It says that what stands before it was left half written, and something else stands there.
    NotTorn,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it is no line that cuddy wrote"),
            Self::Changed => f.write_str("it was changed: it does not have the digest that it carries"),
            Self::Unlinked => f.write_str(
                "it does not follow the line before it: lines were removed, inserted or replaced here",
            ),
            Self::Numbered { expected, found } => {
                write!(
                    f,
                    "it has the number {found} where {expected} is due: lines were removed or inserted here"
                )
            }
            Self::NotTorn => f.write_str("it says that a half-written line stands before it, and none does"),
        }
    }
}

/// Follows a chain line by line.
#[derive(Debug, Default)]
pub struct Follower {
    last: Option<Link>,
    /// A line that is none: right only if the next one says so.
    doubtful: Option<Torn>,
    /// How many lines were left half written and told so.
    pub torn: u64,
    /// How many lines belong.
    pub whole: u64,
}

impl Follower {
    /// The last line that belongs.
    pub fn last(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// Takes one more line, without its newline; the first of all may have any number. A line that is none is
    /// taken as half written until the next one comes.
    ///
    /// # Errors
    /// Why the chain breaks here, or broke at the line before (`true`).
    pub fn follow(&mut self, line: &[u8]) -> Result<(), (Break, bool)> {
        let Some((covered, prev, own)) = parts(line) else {
            return match self.doubtful.replace(Torn::of(line)) {
                Some(_) => Err((Break::Foreign, true)),
                None => Ok(()),
            };
        };
        if hex(covered) != own {
            return Err((Break::Changed, false));
        }
        let said: Said = serde_json::from_slice(line).map_err(|_unreadable| (Break::Foreign, false))?;
        match (&self.doubtful, &said.torn) {
            (None, None) => {}
            (Some(is), Some(said)) if is == said => self.torn += 1,
            (Some(_), _) => return Err((Break::Foreign, true)),
            (None, Some(_)) => return Err((Break::NotTorn, false)),
        }
        if let Some(last) = &self.last {
            if last.digest != prev {
                return Err((Break::Unlinked, false));
            }
            if last.n + 1 != said.n {
                return Err((Break::Numbered { expected: last.n + 1, found: said.n }, false));
            }
        }
        self.doubtful = None;
        self.whole += 1;
        self.last = Some(Link { n: said.n, digest: own.to_owned() });
        Ok(())
    }

    /// Whether the last line taken was none and nothing has come after it.
    pub fn ends_in_doubt(&self) -> bool {
        self.doubtful.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A chain of so many lines, without newlines.
    fn chain(lines: u64) -> Vec<Vec<u8>> {
        let mut last = Link::start();
        let mut all = Vec::new();
        for n in 1..=lines {
            let body = format!(r#"{{"n":{n},"verb":"call","tool":"a\"prev\":\"","bytes":{}}}"#, n * 7);
            let (mut line, digest) = seal(body.into_bytes(), &last.digest);
            assert_eq!(line.pop(), Some(b'\n'));
            assert_eq!(place(&line), Some(Link { n, digest: digest.clone() }));
            last = Link { n, digest };
            all.push(line);
        }
        all
    }

    /// The number of the first line that does not belong.
    fn broken(lines: &[Vec<u8>]) -> Option<usize> {
        let mut follower = Follower::default();
        for (at, line) in lines.iter().enumerate() {
            if let Err((_, before)) = follower.follow(line) {
                return Some(at + 1 - usize::from(before));
            }
        }
        follower.ends_in_doubt().then_some(lines.len())
    }

    #[test]
    fn a_chain_that_nobody_touched_is_whole() {
        assert_eq!(broken(&chain(20)), None);
        assert_eq!(broken(&chain(20)[7..]), None, "it may begin anywhere");
    }

    #[test]
    fn a_line_removed_inserted_or_moved_is_found_where_it_was() {
        let whole = chain(9);
        let mut removed = whole.clone();
        removed.remove(4);
        assert_eq!(broken(&removed), Some(5));
        let mut doubled = whole.clone();
        doubled.insert(3, whole[3].clone());
        assert_eq!(broken(&doubled), Some(5));
        let mut swapped = whole.clone();
        swapped.swap(2, 3);
        assert_eq!(broken(&swapped), Some(3));
        // A line of its own chain, with a right digest.
        let mut replaced = whole;
        let (mut line, _) = seal(br#"{"n":5,"verb":"other"}"#.to_vec(), START);
        line.pop();
        replaced[4] = line;
        assert_eq!(broken(&replaced), Some(5));
    }

    #[test]
    fn a_half_written_line_is_told_from_one_that_was_made_unreadable() {
        let mut lines = chain(3);
        let last = place(&lines[2]).unwrap();
        let half = br#"{"n":4,"verb":"ca"#.to_vec();
        let body = |torn: &Torn| {
            format!(r#"{{"n":4,"torn":{}}}"#, serde_json::to_string(torn).unwrap()).into_bytes()
        };
        let (mut next, _) = seal(body(&Torn::of(&half)), &last.digest);
        next.pop();
        lines.extend([half.clone(), next.clone()]);
        assert_eq!(broken(&lines), None);
        lines[3].pop();
        assert_eq!(broken(&lines), Some(4), "it is not the half that was found");
        lines.remove(3);
        assert_eq!(broken(&lines), Some(4), "it is gone");
        let mut lines = chain(5);
        lines[2].truncate(20);
        assert_eq!(broken(&lines), Some(3), "no line told of it");
    }

    proptest! {
        #[test]
        fn no_byte_of_a_line_can_be_changed_unnoticed(at in 0_usize..3, seed: usize, byte: u8) {
            let mut lines = chain(4);
            let place = seed % lines[at].len();
            prop_assume!(lines[at][place] != byte);
            lines[at][place] = byte;
            prop_assert_eq!(broken(&lines), Some(at + 1));
        }

        #[test]
        fn no_bytes_make_it_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..6)) {
            broken(&lines);
        }
    }
}
