//! The record of what was done: who asked for what, and how it ended. One JSON line each, chained.
//!
//! It holds names, never arguments, variables or other secrets: of the arguments of a call the digest. It
//! writes; `chain` says what ties lines together, `engine/trail` reads and judges them.
//!
//! The files are `audit/NUMBER.jsonl` in the data folder, each named by the number of its first line. Writers
//! hold the lock of the newest while they write. One that has grown to its size is closed for good, and the
//! next one goes on with the chain, so nothing is ever renamed.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::chain::{self, Link, START, Torn};
use crate::error::ErrorKind;
use crate::names::Digest;
use crate::sys::fs::{self, FsError};

/// The version of the lines' format.
const VERSION: u32 = 2;
/// A file of the record is closed when it has grown to this size, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most files of the record; the oldest goes.
pub const FILES_MAX: usize = 32;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: u64 = 64 << 10;
/// Longest name in a line, in bytes; of a longer one the beginning is kept.
const NAME_BYTES_MAX: usize = 1024;
/// How much of the end of a file is read first, and at most, to find its last line.
const TAIL_BYTES: [u64; 2] = [4 << 10, 4 * LINE_BYTES_MAX];
/// How long a command waits for the other writers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a call waits for them: a gateway has others to serve.
const CALL_PATIENCE: Duration = Duration::from_millis(250);
/// How often the newest file may turn out to be closed before that is an error.
const TRIES_MAX: usize = 16;

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

/// How a call of an MCP client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The server answered.
    Done,
    /// The tool answered that it failed.
    ToolError,
    /// The server answered with this error of JSON-RPC.
    Error(i64),
    /// The gateway did not hand it on: the tool is not allowed, not accepted, or too much was under way.
    Refused,
    /// The client took it back.
    Cancelled,
    /// There was no answer in time.
    TimedOut,
    /// The server ended before it answered.
    Lost,
}

impl CallOutcome {
    /// The word for counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ToolError => "tool_error",
            Self::Error(_) => "error",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Lost => "lost",
        }
    }
}

/// One call of an MCP client through a gateway.
#[derive(Debug)]
pub struct Call<'a> {
    /// The caller's user id on the host.
    pub uid: u32,
    /// What the client calls itself.
    pub client: &'a str,
    /// The server's name in the configuration.
    pub server: &'a str,
    /// `tools/call`, `resources/read`, `prompts/get`.
    pub method: &'a str,
    /// The tool, the prompt or the address of the resource.
    pub tool: &'a str,
    /// The arguments as they came; only their digest is kept.
    pub arguments: &'a [u8],
    /// The digest of the policy that the server runs under.
    pub policy: &'a str,
    /// From the request to the answer.
    pub duration: Duration,
    /// How it ended.
    pub outcome: CallOutcome,
    /// Size of the request, in bytes.
    pub bytes_in: u64,
    /// Size of the answer, in bytes.
    pub bytes_out: u64,
}

/// What every line begins with.
#[derive(Serialize)]
struct Head {
    version: u32,
    n: u64,
    at_ms: u64,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    torn: Option<Torn>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    head: Head,
    uid: u32,
    verb: &'a str,
    object: Cow<'a, str>,
    id: Cow<'a, str>,
    outcome: Outcome,
}

#[derive(Serialize)]
struct CallLine<'a> {
    #[serde(flatten)]
    head: Head,
    uid: u32,
    verb: &'static str,
    client: Cow<'a, str>,
    server: Cow<'a, str>,
    method: Cow<'a, str>,
    object: Cow<'a, str>,
    arguments: String,
    policy: Cow<'a, str>,
    duration_us: u64,
    bytes_in: u64,
    bytes_out: u64,
    outcome: CallOutcome,
}

/// Appends how what was asked for stands.
///
/// # Errors
/// What the kernel says; the caller decides whether that ends what it does.
pub fn append(data: &Path, asked: &Asked<'_>, outcome: Outcome) -> Result<(), FsError> {
    let line = |head| {
        let (object, id) = (short(asked.object), short(asked.id));
        serde_json::to_vec(&Line { head, uid: asked.uid, verb: asked.verb, object, id, outcome })
    };
    Writer::new(data).append(PATIENCE, line)
}

/// The record, open for many calls; several threads may share it.
#[derive(Debug)]
pub struct CallLog(Mutex<Writer>);

impl CallLog {
    /// Opens the record of a data folder.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(data: &Path) -> Result<Self, FsError> {
        let mut writer = Writer::new(data);
        writer.newest = Some(writer.open_newest()?);
        Ok(Self(Mutex::new(writer)))
    }

    /// Appends one call. It takes about 10 µs and does not wait for the disk.
    ///
    /// # Errors
    /// What the kernel says, or that other writers held the lock for too long: the call is then in no record.
    pub fn record(&self, call: &Call<'_>) -> Result<(), FsError> {
        let line = |head| {
            serde_json::to_vec(&CallLine {
                head,
                uid: call.uid,
                verb: "call",
                client: short(call.client),
                server: short(call.server),
                method: short(call.method),
                object: short(call.tool),
                arguments: Digest::from_bytes(&Sha256::digest(call.arguments).into()).as_str().to_owned(),
                policy: short(call.policy),
                duration_us: u64::try_from(call.duration.as_micros()).unwrap_or(u64::MAX),
                bytes_in: call.bytes_in,
                bytes_out: call.bytes_out,
                outcome: call.outcome,
            })
        };
        // A writer that panicked has at worst forgotten what it knew of the end of the file, which is read anew.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(CALL_PATIENCE, line)
    }
}

/// The beginning of a name, when it is longer than a line can hold.
fn short(name: &str) -> Cow<'_, str> {
    if name.len() <= NAME_BYTES_MAX {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("{}…", &name[..name.floor_char_boundary(NAME_BYTES_MAX)]))
}

/// One file of the record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordFile {
    /// The number of its first line.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
}

/// The files of the record, oldest first.
///
/// # Errors
/// What the kernel says.
pub fn files(data: &Path) -> Result<Vec<RecordFile>, FsError> {
    let folder = data.join("audit");
    let wrong = |e| FsError::new("list", &folder, e);
    let entries = match std::fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(wrong)?;
        let number = |name: &str| {
            let digits = name.strip_suffix(".jsonl")?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        if let Some(first) = entry.file_name().to_str().and_then(number) {
            found.push(RecordFile { first, path: entry.path() });
        }
    }
    found.sort();
    Ok(found)
}

/// Where a line stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// Its file.
    pub file: &'a RecordFile,
    /// Which line of it, from 1.
    pub line: u64,
    /// It ends in a newline; one that does not is the last of its file.
    pub is_ended: bool,
}

/// Shows every line of one file that is there now, without its newline, until `visit` has seen enough. Of a line
/// that is too long only [`LINE_BYTES_MAX`] bytes are shown.
///
/// # Errors
/// What the kernel says.
pub fn read(
    file: &RecordFile,
    visit: &mut dyn FnMut(At<'_>, &[u8]) -> ControlFlow<()>,
) -> Result<(), FsError> {
    let wrong = |e| FsError::new("read", &file.path, e);
    let open = fs::open_regular(&file.path)?;
    // While nobody writes: a line that is being written is not half written.
    lock(&open, FlockOperation::NonBlockingLockShared, PATIENCE).map_err(wrong)?;
    let bytes = open.metadata().map_err(wrong)?.len();
    rustix::fs::flock(&open, FlockOperation::Unlock).map_err(|e| wrong(e.into()))?;
    let mut reader = BufReader::with_capacity(1 << 16, open.take(bytes));
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).map_err(wrong)?;
        if read == 0 {
            break;
        }
        let is_ended = line.pop_if(|byte| *byte == b'\n').is_some();
        let is_cut = !is_ended && line.len() as u64 > LINE_BYTES_MAX;
        if is_cut {
            line.pop();
            skip_line(&mut reader).map_err(wrong)?;
        }
        let at = At { file, line: number, is_ended: is_ended || is_cut };
        if visit(at, &line).is_break() {
            break;
        }
    }
    Ok(())
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        match (bytes.iter().position(|byte| *byte == b'\n'), bytes.len()) {
            (_, 0) => return Ok(()),
            (Some(at), _) => {
                reader.consume(at + 1);
                return Ok(());
            }
            (None, all) => reader.consume(all),
        }
    }
}

/// Takes the lock of a file, but does not wait for ever: a writer may have been stopped while it held it.
fn lock(file: &File, operation: FlockOperation, patience: Duration) -> io::Result<()> {
    let mut began = None;
    for tries in 0_u32.. {
        match rustix::fs::flock(file, operation) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            other => return Ok(other?),
        }
        let began = began.get_or_insert_with(Instant::now);
        if began.elapsed() > patience {
            break;
        }
        // It is held for a few µs.
        if tries > 50 { std::thread::sleep(Duration::from_micros(100)) } else { std::thread::yield_now() }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds its lock and does not go on"))
}

/// What appends lines.
#[derive(Debug)]
struct Writer {
    data: PathBuf,
    newest: Option<Newest>,
}

/// The newest file as we know it.
#[derive(Debug)]
struct Newest {
    record: RecordFile,
    file: File,
    /// Its size after our last line, and that line: as long as the size is the same, nobody else has written.
    end: Option<(u64, Link)>,
}

/// What a file ends with.
enum End {
    /// A line of the chain.
    Line(Link, Half),
    /// There is no line in it.
    Nothing(Half),
    /// Something that nobody can go on from.
    Strange,
}

/// What stands behind the last newline.
enum Half {
    /// Nothing.
    Nothing,
    /// A line whose writer died over it.
    Torn(Torn),
    /// Something that no line will tell of.
    Untold,
}

impl Writer {
    fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), newest: None }
    }

    fn append(
        &mut self,
        patience: Duration,
        line: impl FnOnce(Head) -> serde_json::Result<Vec<u8>>,
    ) -> Result<(), FsError> {
        for _ in 0..TRIES_MAX {
            let newest = match self.newest.take() {
                Some(newest) => newest,
                None => self.open_newest()?,
            };
            let wrong = |e: io::Error| FsError::new("append to", &newest.record.path, e);
            lock(&newest.file, FlockOperation::NonBlockingLockExclusive, patience).map_err(wrong)?;
            let stat = rustix::fs::fstat(&newest.file).map_err(|e| wrong(e.into()))?;
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            // Somebody removed it: lines in it would be nowhere.
            if stat.st_nlink == 0 {
                continue;
            }
            let (last, half) = match &newest.end {
                Some((seen, last)) if *seen == size => (last.clone(), Half::Nothing),
                _ => self.end_of(&newest, size)?,
            };
            if size >= FILE_BYTES_MAX && matches!(half, Half::Nothing) {
                self.begin_file(last.n + 1)?;
                continue;
            }
            let written = write(&newest.file, size, &last, half, line).map_err(wrong)?;
            rustix::fs::flock(&newest.file, FlockOperation::Unlock).map_err(|e| wrong(e.into()))?;
            self.newest = Some(Newest { end: Some(written), ..newest });
            return Ok(());
        }
        let why = io::Error::other("its files are closed as fast as they are made");
        Err(FsError::new("append to the audit in", &self.data, why))
    }

    fn open_newest(&self) -> Result<Newest, FsError> {
        let record = match files(&self.data)?.pop() {
            Some(record) => record,
            None => return self.begin_file(1),
        };
        open(record)
    }

    /// Makes the file that begins with a line of this number, unless it is there; the oldest goes for it.
    fn begin_file(&self, first: u64) -> Result<Newest, FsError> {
        let folder = self.data.join("audit");
        fs::make_private_dirs(&folder)?;
        let begun = open(RecordFile { first, path: folder.join(format!("{first:012}.jsonl")) })?;
        // Afterwards: fewer files than that say that somebody else removed one.
        let files = files(&self.data)?;
        for old in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
            // Another writer may have been quicker; what stays goes with the next.
            let _gone = std::fs::remove_file(&old.path);
        }
        Ok(begun)
    }

    /// What the chain goes on from; `newest` is locked.
    fn end_of(&self, newest: &Newest, size: u64) -> Result<(Link, Half), FsError> {
        let Newest { record, file, .. } = newest;
        let end = last_line(file, size).map_err(|e| FsError::new("read", &record.path, e))?;
        let lost = || Link { n: record.first.saturating_add(size), digest: START.to_owned() };
        Ok(match end {
            End::Line(last, half) => (last, half),
            End::Nothing(half) => (self.end_before(record.first)?, half),
            // The chain begins anew, and whoever follows it sees that it broke.
            End::Strange => (lost(), Half::Untold),
        })
    }

    /// The last line before the file that begins with the line `first`.
    fn end_before(&self, first: u64) -> Result<Link, FsError> {
        let unknown = Link { n: first.saturating_sub(1), digest: START.to_owned() };
        let Some(before) = files(&self.data)?.into_iter().rfind(|file| file.first < first) else {
            return Ok(unknown);
        };
        let file = fs::open_regular(&before.path)?;
        let end = file.metadata().and_then(|meta| last_line(&file, meta.len()));
        let end = end.map_err(|e| FsError::new("read", &before.path, e))?;
        Ok(match end {
            End::Line(last, _) if last.n == unknown.n => last,
            _ => unknown,
        })
    }
}

fn open(record: RecordFile) -> Result<Newest, FsError> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let wrong = |e: io::Error| FsError::new("append to", &record.path, e);
    let fd = rustix::fs::open(&record.path, flags | OFlags::NONBLOCK, Mode::from_raw_mode(0o600))
        .map_err(|e| wrong(e.into()))?;
    let file = File::from(fd);
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(wrong(io::Error::other("it is not a regular file")));
    }
    Ok(Newest { record, file, end: None })
}

/// Writes a line behind `size` bytes, whole or not at all; gives the new size and the line's place.
fn write(
    file: &File,
    size: u64,
    last: &Link,
    half: Half,
    line: impl FnOnce(Head) -> serde_json::Result<Vec<u8>>,
) -> io::Result<(u64, Link)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let n = last.n + 1;
    let (needs_newline, torn) = match half {
        Half::Nothing => (false, None),
        Half::Torn(torn) => (true, Some(torn)),
        Half::Untold => (true, None),
    };
    let body = line(Head { version: VERSION, n, at_ms, pid: std::process::id(), torn })?;
    let (mut line, digest) = chain::seal(body, &last.digest);
    if needs_newline {
        line.insert(0, b'\n');
    }
    if let Err(e) = (&mut { file }).write_all(&line) {
        // A full disk takes half a line. When even this fails, the next writer says that it is torn.
        let _tried = rustix::fs::ftruncate(file.as_fd(), size);
        return Err(e);
    }
    Ok((size + line.len() as u64, Link { n, digest }))
}

/// What a file of so many bytes ends with.
fn last_line(file: &File, size: u64) -> io::Result<End> {
    for bytes in TAIL_BYTES {
        let start = size.saturating_sub(bytes);
        let mut tail = vec![0; usize::try_from(size - start).unwrap_or_default()];
        file.read_exact_at(&mut tail, start)?;
        // What stands before the first newline is whole only at the beginning of the file.
        let first = if start == 0 { Some(0) } else { tail.iter().position(|b| *b == b'\n').map(|at| at + 1) };
        let Some(tail) = first.and_then(|first| tail.get(first..)) else { continue };
        let after = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (lines, half) = tail.split_at(after);
        let told = || if half.is_empty() { Half::Nothing } else { Half::Torn(Torn::of(half)) };
        let untold = || if half.is_empty() { Half::Nothing } else { Half::Untold };
        let mut lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).rev();
        match lines.clone().enumerate().find_map(|(behind, line)| Some((behind, chain::place(line)?))) {
            Some((0, last)) => return Ok(End::Line(last, told())),
            // Lines that are not ours stand behind it. Nobody died over those.
            Some((behind, last)) => {
                let n = last.n + behind as u64;
                return Ok(End::Line(Link { n, digest: START.to_owned() }, untold()));
            }
            None if start == 0 && lines.next().is_none() => return Ok(End::Nothing(told())),
            None => {}
        }
    }
    Ok(End::Strange)
}
