//! The audit read back: what was done, and whether the record is whole. It changes nothing.
//!
//! What a whole chain proves and what not stands in `docs/security.md`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::audit::{self, FILES_MAX, LINE_BYTES_MAX, RecordFile};
use crate::chain::{Break, Follower};
use crate::error::{Error, ErrorKind};
use crate::image::when;

/// Most lines that `--tail` keeps in memory.
const TAIL_LINES_MAX: usize = 100_000;
/// How often the record is read anew, when writers give its oldest file up meanwhile.
const READINGS_MAX: usize = 5;

/// Which lines are shown.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Not before this moment, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only calls of this server.
    pub server: Option<String>,
    /// Only calls of this tool.
    pub tool: Option<String>,
    /// Only this verb; a call's is `call`.
    pub verb: Option<String>,
    /// Only so many, the newest.
    pub tail: Option<usize>,
}

impl Choice {
    fn fits(&self, line: &Value) -> bool {
        let is = |member: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| line[member].as_str() == Some(wanted))
        };
        let is_call = self.tool.is_none() || line["verb"] == "call";
        let is_late = self.since_ms.is_none_or(|since| line["at_ms"].as_u64().is_some_and(|at| at >= since));
        is_late && is_call && is("server", &self.server) && is("object", &self.tool) && is("verb", &self.verb)
    }
}

/// A moment that a person named: `90s`, `10m`, `2h`, `3d` before now, or a date. In milliseconds since 1970.
///
/// # Errors
/// It is neither.
pub fn moment(text: &str, now_ms: u64) -> Result<u64, Error> {
    let ago = |text: &str| {
        let unit = text.chars().last()?;
        let number: u64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return None,
        };
        Some(now_ms.saturating_sub(number.checked_mul(seconds * 1000)?))
    };
    let date = |text: &str| {
        let (seconds, nanos) = when::parse(text)?;
        u64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(u64::from(nanos) / 1_000_000)
    };
    ago(text).or_else(|| date(text)).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("`{text}` is no moment")).hint(
            "write `10m`, `2h` or `3d` for so long ago, or a date: `2026-11-22`, `2026-11-22T19:06:00Z`",
        )
    })
}

/// Shows the lines that fit, oldest first, until `visit` fails. Lines that are none are passed over: `verify` names them.
///
/// # Errors
/// What the kernel says, or `visit`.
pub fn show(
    data: &Path,
    choice: &Choice,
    visit: &mut dyn FnMut(&Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let tail = choice.tail.map(|tail| tail.min(TAIL_LINES_MAX));
    let (mut kept, mut failed) = (VecDeque::new(), None);
    for file in audit::files(data)? {
        audit::read(&file, &mut |_, line| {
            let Ok(value) = serde_json::from_slice::<Value>(line) else { return ControlFlow::Continue(()) };
            if !choice.fits(&value) {
                return ControlFlow::Continue(());
            }
            let Some(tail) = tail else {
                failed = visit(&value).err();
                return if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            };
            kept.push_back(value);
            if kept.len() > tail {
                kept.pop_front();
            }
            ControlFlow::Continue(())
        })?;
        if failed.is_some() {
            break;
        }
    }
    kept.iter().try_for_each(visit)?;
    failed.map_or(Ok(()), Err)
}

/// A line that breaks the chain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Broken {
    /// Its file.
    pub file: PathBuf,
    /// Which line of it, from 1.
    pub line: u64,
    /// Why, for people.
    pub why: String,
}

/// What can be said of the record.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// The first line that does not belong; `None` when all do.
    pub broken: Option<Broken>,
    /// How many lines were followed.
    pub lines: u64,
    /// In how many files.
    pub files: usize,
    /// How many lines before them were given up for room.
    pub given_up: u64,
    /// How many lines were left half written by a writer that died, and told so by the next.
    pub torn: u64,
    /// Bytes of a half-written line at the very end: its writer died, or the machine lost its power.
    pub half_bytes: u64,
    /// The number of the last line.
    pub last: u64,
    /// Its digest: note it elsewhere, and nothing up to here can be changed unnoticed.
    pub head: Option<String>,
    /// Whether the digest that was asked for is that of a line; `None` when none was.
    pub holds: Option<bool>,
}

/// Follows the chain from its first line to its last or to where it breaks. `noted` is a digest that was the head once.
///
/// # Errors
/// What the kernel says.
pub fn verify(data: &Path, noted: Option<&str>) -> Result<Verdict, Error> {
    for _ in 1..READINGS_MAX {
        match verify_once(data, noted) {
            // The oldest file went while we read: there are newer ones.
            Err(error) if error.kind == ErrorKind::NotFound => {}
            other => return other,
        }
    }
    verify_once(data, noted)
}

fn verify_once(data: &Path, noted: Option<&str>) -> Result<Verdict, Error> {
    let files = audit::files(data)?;
    let mut verdict = Verdict { files: files.len(), holds: noted.map(|_| false), ..Verdict::default() };
    let mut follower = Follower::default();
    if let Some(first) = files.first() {
        verdict.given_up = first.first.saturating_sub(1);
        if verdict.given_up > 0 && files.len() < FILES_MAX {
            let why = format!(
                "{} lines before it are gone, and {} files are not so many that the oldest goes",
                verdict.given_up,
                files.len()
            );
            verdict.broken = Some(Broken { file: first.path.clone(), line: 1, why });
            return Ok(verdict);
        }
    }
    for (at, file) in files.iter().enumerate() {
        let is_last = at + 1 == files.len();
        follow_file(file, is_last, &mut follower, noted, &mut verdict)?;
        if verdict.broken.is_some() {
            break;
        }
    }
    verdict.lines = follower.whole;
    verdict.torn = follower.torn;
    verdict.last = follower.last().map_or(0, |last| last.n);
    verdict.head = follower.last().map(|last| last.digest.clone());
    Ok(verdict)
}

fn follow_file(
    file: &RecordFile,
    is_last: bool,
    follower: &mut Follower,
    noted: Option<&str>,
    verdict: &mut Verdict,
) -> Result<(), Error> {
    let broken = |line, why: Break| Some(Broken { file: file.path.clone(), line, why: why.to_string() });
    let mut lines = 0;
    audit::read(file, &mut |at, line| {
        lines = at.line;
        if is_last && !at.is_ended {
            verdict.half_bytes = line.len() as u64;
            return ControlFlow::Break(());
        }
        let followed = if line.len() as u64 > LINE_BYTES_MAX {
            Err((Break::Foreign, false))
        } else {
            follower.follow(line)
        };
        let followed = followed.and_then(|()| match follower.last() {
            Some(last) if at.line == 1 && last.n != file.first && !follower.ends_in_doubt() => {
                Err((Break::Numbered { expected: file.first, found: last.n }, false))
            }
            _ => Ok(()),
        });
        if let Err((why, before)) = followed {
            verdict.broken = broken(at.line.saturating_sub(u64::from(before)), why);
            return ControlFlow::Break(());
        }
        if follower.last().is_some_and(|last| Some(last.digest.as_str()) == noted) {
            verdict.holds = Some(true);
        }
        ControlFlow::Continue(())
    })?;
    // Nobody goes on in an older file, so no line can tell of a half one at its end.
    if verdict.broken.is_none() && follower.ends_in_doubt() {
        verdict.broken = broken(lines, Break::Foreign);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_so_long_ago_or_a_date() {
        let now = 1_795_374_367_000;
        assert_eq!(moment("10m", now).unwrap(), now - 600_000);
        assert_eq!(moment("1d", now).unwrap(), now - 86_400_000);
        assert_eq!(moment("1970-01-02", now).unwrap(), 86_400_000);
        assert_eq!(moment("1970-01-01T00:00:01.5Z", now).unwrap(), 1500);
        for wrong in ["", "m", "soon", "10", "-1h", "99999999999999999999d", "é"] {
            assert_eq!(moment(wrong, now).unwrap_err().kind, ErrorKind::Usage, "{wrong}");
        }
    }
}
