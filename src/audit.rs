//! The record of what was done: who asked for what, and how it ended. One JSON line each.
//!
//! It holds names, never arguments, variables or other secrets. It is for people to read later; nothing
//! of cuddy reads it back.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;

use crate::error::ErrorKind;
use crate::sys::fs::{FsError, stands_at};

/// The version of the lines' format.
const VERSION: u32 = 1;
/// The record moves aside when it has grown to this size, in bytes; one older file is kept.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// How a thing that was asked for stands.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It begins.
    Started,
    /// It ended with this exit code.
    Ended(i32),
    /// It failed, with an error of this kind.
    Failed(ErrorKind),
}

/// Who asked for what.
#[derive(Debug, Serialize)]
pub struct Asked<'a> {
    /// The caller's user id on the host.
    pub uid: u32,
    /// What was to be done: `run`, `load`.
    pub verb: &'a str,
    /// To what: the name of an image.
    pub object: &'a str,
    /// The container's or the image's id.
    pub id: &'a str,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    at_ms: u128,
    pid: u32,
    #[serde(flatten)]
    asked: &'a Asked<'a>,
    outcome: Outcome,
}

/// Appends how what was asked for stands.
///
/// # Errors
/// What the kernel says; the caller decides whether that ends what it does.
pub fn append(data: &Path, asked: &Asked<'_>, outcome: Outcome) -> Result<(), FsError> {
    let path = data.join("audit.jsonl");
    let wrong = |e: std::io::Error| FsError::new("append to", &path, e);
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let line = Line { version: VERSION, at_ms: at, pid: std::process::id(), asked, outcome };
    let mut text = serde_json::to_vec(&line).map_err(|e| wrong(e.into()))?;
    text.push(b'\n');
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(|e| wrong(e.into()))?;
    let mut file = File::from(fd);
    // One write to a file opened for appending: lines of two commands never mix.
    file.write_all(&text).map_err(wrong)?;
    if file.metadata().map_err(wrong)?.len() > RECORD_BYTES_MAX {
        move_aside(&file, data, &path).map_err(|e| wrong(e.into()))?;
    }
    Ok(())
}

/// Moves a record that has grown aside, unless another command does or did.
fn move_aside(file: &File, data: &Path, path: &Path) -> Result<(), Errno> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(()),
        other => other?,
    }
    // The lock goes with the file: who comes after another command's move has the old one's.
    if !stands_at(file.as_fd(), path) {
        return Ok(());
    }
    match rustix::fs::rename(path, data.join("audit.1.jsonl")) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_one_object_and_an_old_record_moves_aside() {
        let dir = tempfile::tempdir().unwrap();
        let asked = |object| Asked { uid: 7, verb: "run", object, id: "1" };
        append(dir.path(), &asked("a\nb"), Outcome::Started).unwrap();
        append(dir.path(), &asked("@host"), Outcome::Ended(7)).unwrap();
        let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["object"], "a\nb");
        assert_eq!(lines[0]["uid"], 7);
        assert_eq!(lines[1]["outcome"]["ended"], 7);
        let large = std::fs::OpenOptions::new().write(true).open(dir.path().join("audit.jsonl")).unwrap();
        large.set_len(RECORD_BYTES_MAX).unwrap();
        append(dir.path(), &asked("x"), Outcome::Failed(ErrorKind::Denied)).unwrap();
        assert!(!dir.path().join("audit.jsonl").exists());
        assert!(dir.path().join("audit.1.jsonl").exists());
    }

    #[test]
    fn a_record_that_another_command_moved_aside_stays_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("audit.jsonl"), dir.path().join("audit.1.jsonl"));
        std::fs::write(&path, "grown").unwrap();
        let [first, second, third] = [(); 3].map(|()| File::open(&path).unwrap());
        move_aside(&first, dir.path(), &path).unwrap();
        drop(first);
        move_aside(&second, dir.path(), &path).unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "grown");
        std::fs::write(&path, "new").unwrap();
        move_aside(&third, dir.path(), &path).unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "grown");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }
}
