//! What MCP servers write to standard error: bounded files in the data folder, one for each server and gateway.
//!
//! A line has its moment in front, in milliseconds since 1970. What a server writes is a stranger's text: it is
//! kept as it came, and made harmless by whoever shows it on a terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use crate::names::Digest;
use crate::sys::fs::{self, FsError};

/// A file of a log is put aside when it has grown to this size, in bytes; one such is kept beside it.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Longest line, in bytes; a longer one is cut into several.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Most that is kept of what a server writes in one second, in bytes: one that writes without end costs others nothing.
const RATE_BYTES_MAX: u64 = 1 << 20;
/// Most logs of one server that are kept; each gateway writes one.
const LOGS_MAX: usize = 8;

/// The log of one server in one gateway.
#[derive(Debug, Clone)]
pub struct ServerLog(Arc<Mutex<LogFile>>);

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// What may be written in one second, in bytes.
    rate_bytes: u64,
    /// The second that is counted, what was written in it, and what was left out.
    second: u64,
    written: u64,
    left_out: u64,
}

impl ServerLog {
    /// Begins the log of a server in the gateway with this id; the oldest of earlier gateways go.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn begin(data: &Path, server: &str, gateway: &str) -> Result<Self, FsError> {
        let folder = folder(data, server);
        fs::make_private_dirs(&folder)?;
        for old in logs(data, server)?.iter().skip(LOGS_MAX - 1) {
            // Another gateway may have been quicker.
            let _gone = std::fs::remove_file(old).and_then(|()| std::fs::remove_file(aside(old)));
        }
        let path = folder.join(format!("{gateway}.log"));
        let file = open(&path)?;
        let bytes = file.metadata().map_err(|e| FsError::new("read", &path, e))?.len();
        let rate_bytes = RATE_BYTES_MAX;
        Ok(Self(Arc::new(Mutex::new(LogFile {
            path,
            file,
            bytes,
            rate_bytes,
            second: 0,
            written: 0,
            left_out: 0,
        }))))
    }

    /// One more that writes to it, with lines of its own.
    pub fn writer(&self) -> LogWriter {
        LogWriter { log: self.clone(), line: Vec::new() }
    }
}

impl LogFile {
    /// Appends whole lines, unless the server writes too much. A log that cannot be written is not the server's
    /// fault and ends nothing: what does not fit on the disk is lost.
    fn append(&mut self, lines: &[u8], at_ms: u128) {
        let second = u64::try_from(at_ms / 1000).unwrap_or_default();
        if self.second != second {
            let left_out = std::mem::take(&mut self.left_out);
            (self.second, self.written) = (second, 0);
            if left_out > 0 {
                let why = format!("more than {} bytes in a second", self.rate_bytes);
                self.put(format!("{at_ms} cuddy: {left_out} bytes are left out: {why}\n").as_bytes());
            }
        }
        if self.written.saturating_add(lines.len() as u64) > self.rate_bytes {
            self.left_out += lines.len() as u64;
            return;
        }
        self.written += lines.len() as u64;
        self.put(lines);
    }

    fn put(&mut self, lines: &[u8]) {
        if self.file.write_all(lines).is_ok() {
            self.bytes += lines.len() as u64;
        }
        if self.bytes > FILE_BYTES_MAX
            && std::fs::rename(&self.path, aside(&self.path)).is_ok()
            && let Ok(file) = open(&self.path)
        {
            (self.file, self.bytes) = (file, 0);
        }
    }
}

/// Takes what one sandbox of a server writes.
#[derive(Debug)]
pub struct LogWriter {
    log: ServerLog,
    line: Vec<u8>,
}

impl LogWriter {
    /// Takes what the server wrote, whole lines or not.
    pub fn write(&mut self, bytes: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = format!("{} ", now.as_millis());
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut rest, is_ended) = part.strip_suffix(b"\n").map_or((part, false), |part| (part, true));
            while self.line.len() + rest.len() > LINE_BYTES_MAX {
                let (now, later) = rest.split_at(LINE_BYTES_MAX - self.line.len());
                self.line.extend_from_slice(now);
                self.end_line(&moment, &mut lines);
                rest = later;
            }
            self.line.extend_from_slice(rest);
            if is_ended {
                self.end_line(&moment, &mut lines);
            }
        }
        if !lines.is_empty() {
            // Who panicked over it has at worst counted wrongly.
            self.log.0.lock().unwrap_or_else(PoisonError::into_inner).append(&lines, now.as_millis());
        }
    }

    fn end_line(&mut self, moment: &str, lines: &mut Vec<u8>) {
        lines.extend_from_slice(moment.as_bytes());
        lines.append(&mut self.line);
        lines.push(b'\n');
    }
}

impl Drop for LogWriter {
    /// What came last may have no end.
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.write(b"\n");
        }
    }
}

fn open(path: &Path) -> Result<File, FsError> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600));
    Ok(File::from(fd.map_err(|e| FsError::new("open", path, e))?))
}

fn folder(data: &Path, server: &str) -> PathBuf {
    let name = Digest::from_bytes(&Sha256::digest(server).into());
    data.join("logs").join(&name.hex()[..32])
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The logs of a server, that of the newest gateway first.
///
/// # Errors
/// What the kernel says.
pub fn logs(data: &Path, server: &str) -> Result<Vec<PathBuf>, FsError> {
    let folder = folder(data, server);
    let wrong = |e| FsError::new("list", &folder, e);
    let entries = match std::fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let paths: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(wrong)?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "log"));
    paths.sort_by_key(|path| std::cmp::Reverse(path.metadata().and_then(|meta| meta.modified()).ok()));
    Ok(paths)
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it came, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the server wrote, without the newline.
    pub text: Vec<u8>,
}

/// Reads a log as it grows.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    reader: BufReader<File>,
    half: Vec<u8>,
}

impl LogReader {
    /// Opens a log: the last `tail` lines come first, or all.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &Path, tail: Option<usize>) -> Result<(Self, Vec<LogLine>), FsError> {
        let mut lines = Vec::new();
        if let Ok(file) = fs::open_regular(&aside(path)) {
            let mut older = Self { path: aside(path), reader: BufReader::new(file), half: Vec::new() };
            lines = older.read()?;
        }
        let file = fs::open_regular(path)?;
        let mut reader = Self { path: path.to_owned(), reader: BufReader::new(file), half: Vec::new() };
        lines.extend(reader.read()?);
        let left = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        Ok((reader, lines.split_off(left)))
    }

    /// The lines that have come since; none when there are none.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn more(&mut self) -> Result<Vec<LogLine>, FsError> {
        let mut lines = self.read()?;
        let open = self.reader.get_ref().metadata().map_err(|e| FsError::new("read", &self.path, e))?;
        // It was put aside meanwhile: what was written to it before that has been read.
        if self.path.metadata().is_ok_and(|now| (now.dev(), now.ino()) != (open.dev(), open.ino())) {
            lines.extend(self.read()?);
            self.reader = BufReader::new(fs::open_regular(&self.path)?);
            self.half.clear();
            lines.extend(self.read()?);
        }
        Ok(lines)
    }

    fn read(&mut self) -> Result<Vec<LogLine>, FsError> {
        let wrong = |path: &Path, e| FsError::new("read", path, e);
        // Of a file that somebody else made, too, only so much is read.
        let at = self.reader.stream_position().map_err(|e| wrong(&self.path, e))?;
        let left = (2 * FILE_BYTES_MAX).saturating_sub(at);
        let mut lines = Vec::new();
        let mut limited = self.reader.by_ref().take(left);
        loop {
            limited.read_until(b'\n', &mut self.half).map_err(|e| wrong(&self.path, e))?;
            if self.half.pop_if(|byte| *byte == b'\n').is_none() {
                break;
            }
            lines.push(parse(&self.half));
            self.half.clear();
        }
        Ok(lines)
    }
}

fn parse(line: &[u8]) -> LogLine {
    let space = line.iter().position(|byte| *byte == b' ');
    let parsed = space.and_then(|at| {
        let at_ms = str::from_utf8(&line[..at]).ok()?.parse().ok()?;
        Some(LogLine { at_ms, text: line[at + 1..].to_vec() })
    });
    parsed.unwrap_or_else(|| LogLine { at_ms: 0, text: line.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect()
    }

    #[test]
    fn lines_come_back_however_they_were_cut_and_the_last_needs_no_end() {
        let data = tempfile::tempdir().unwrap();
        let shared = ServerLog::begin(data.path(), "../a\n", "1").unwrap();
        let (mut log, mut other) = (shared.writer(), shared.writer());
        other.write(b"half of another");
        ["one\ntw", "o\n\nthr", "ee\n4"].iter().for_each(|part| log.write(part.as_bytes()));
        let path = logs(data.path(), "../a\n").unwrap().remove(0);
        let (mut reader, lines) = LogReader::open(&path, None).unwrap();
        assert_eq!(texts(&lines), ["one", "two", "", "three"]);
        drop(log);
        drop(other);
        assert_eq!(texts(&reader.more().unwrap()), ["4", "half of another"]);
        assert_eq!(texts(&reader.more().unwrap()), [""; 0]);
        assert_eq!(texts(&LogReader::open(&path, Some(2)).unwrap().1), ["4", "half of another"]);
    }

    #[test]
    fn a_server_that_writes_without_end_fills_two_files_and_who_follows_loses_nothing() {
        let data = tempfile::tempdir().unwrap();
        let shared = ServerLog::begin(data.path(), "noisy", "1").unwrap();
        shared.0.lock().unwrap().rate_bytes = u64::MAX;
        let mut log = shared.writer();
        let path = logs(data.path(), "noisy").unwrap().remove(0);
        let (mut reader, _) = LogReader::open(&path, None).unwrap();
        let (mut seen, chunk) = (0, "x".repeat(999) + "\n");
        for _ in 0..40 {
            (0..500).for_each(|_| log.write(chunk.as_bytes()));
            seen += reader.more().unwrap().len();
        }
        assert_eq!(seen, 20_000);
        let all = std::fs::read_dir(folder(data.path(), "noisy")).unwrap().flatten();
        let bytes: u64 = all.map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes < 3 * FILE_BYTES_MAX, "{bytes}");
        log.write(&vec![b'y'; 1 << 20]);
        assert!(log.line.len() <= LINE_BYTES_MAX);
    }

    #[test]
    fn what_a_server_writes_too_fast_is_left_out_and_told() {
        let data = tempfile::tempdir().unwrap();
        let shared = ServerLog::begin(data.path(), "noisy", "1").unwrap();
        let mut file = shared.0.lock().unwrap();
        let line = [b'x'; 1 << 16];
        (0..100).for_each(|_| file.append(&line, 5_000));
        assert_eq!(file.bytes, RATE_BYTES_MAX);
        file.append(b"6000 next\n", 6_000);
        let path = logs(data.path(), "noisy").unwrap().remove(0);
        let text = std::fs::read_to_string(path).unwrap();
        let told = format!("6000 cuddy: {} bytes are left out", 84 << 16);
        assert!(text.contains(&told) && text.ends_with("6000 next\n"), "{told}");
    }

    #[test]
    fn logs_of_old_gateways_go() {
        let data = tempfile::tempdir().unwrap();
        for gateway in 0..30 {
            ServerLog::begin(data.path(), "calc", &gateway.to_string()).unwrap().writer().write(b"x\n");
        }
        assert_eq!(logs(data.path(), "calc").unwrap().len(), LOGS_MAX);
    }
}
