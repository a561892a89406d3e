//! Files of a sandbox that stays: read, written, listed, copied, from within.
//!
//! A path means what it means inside, whatever the sandbox does to it meanwhile (`container::files`): nothing
//! here opens a path of the sandbox.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::container::task::{Entry, ExecRequest, FileTask, Listing, Task, Writing};
use crate::engine::boxes::Sandbox;
use crate::engine::errands::{self, Followed, Input, Output, Running, Stream};
use crate::error::{Error, ErrorKind};

/// How long a task with a file may take.
const FILE_PATIENCE: Duration = Duration::from_secs(60);
/// Largest thing that a task has to say about a file, in bytes.
const WORD_BYTES_MAX: usize = 64 << 10;
/// Largest list of a folder, in bytes.
const LISTING_BYTES_MAX: usize = 8 << 20;

/// What a task with a file gave.
#[derive(Debug)]
pub struct FileDone {
    /// What is known of the file.
    pub entry: Entry,
    /// Its bytes, when they were asked for.
    pub bytes: Vec<u8>,
}

/// Does something with one file of a sandbox, from within; `bytes_max` is how much may come out.
fn file_task(
    sandbox: &Sandbox,
    task: FileTask,
    streams: (Input, Output),
    bytes_max: usize,
    cancel: BorrowedFd<'_>,
) -> Result<FileDone, Error> {
    let begun = begin_file_task(sandbox, task, streams)?;
    finish_file_task(begun, bytes_max, cancel)
}

fn begin_file_task(
    sandbox: &Sandbox,
    task: FileTask,
    (input, output): (Input, Output),
) -> Result<Running, Error> {
    let request = ExecRequest { task: Task::File(task), environment: Vec::new(), workdir: None };
    sandbox.begin(&request, input, output)
}

fn finish_file_task(
    mut running: Running,
    bytes_max: usize,
    cancel: BorrowedFd<'_>,
) -> Result<FileDone, Error> {
    let (mut bytes, mut word) = (Vec::new(), Vec::new());
    let mut take = |stream: Stream, some: &[u8]| match stream {
        Stream::Output => bytes.extend_from_slice(&some[..some.len().min(bytes_max - bytes.len())]),
        Stream::Error => word.extend_from_slice(&some[..some.len().min(WORD_BYTES_MAX - word.len())]),
    };
    let garbled = |e: serde_json::Error| {
        Error::new(ErrorKind::Corrupt, format!("what the sandbox says of the file is cut off: {e}"))
    };
    match running.follow(Instant::now() + FILE_PATIENCE, &[cancel], &mut take)? {
        Followed::Ended(0, _) => {
            let entry = serde_json::from_slice(&word).map_err(garbled)?;
            Ok(FileDone { entry, bytes })
        }
        Followed::Ended(..) => Err(serde_json::from_slice(&word).map_err(garbled)?),
        Followed::Deadline => {
            let seconds = FILE_PATIENCE.as_secs();
            Err(Error::new(ErrorKind::Limit, format!("the file was not done with within {seconds} s")))
        }
        Followed::Cancelled => Err(Error::new(ErrorKind::State, "the call was cancelled")),
    }
}

/// Bytes of a file of a sandbox, from `offset` on.
///
/// # Errors
/// What the kernel says inside.
pub fn read_file(
    sandbox: &Sandbox,
    path: PathBuf,
    offset: u64,
    bytes_max: usize,
    cancel: BorrowedFd<'_>,
) -> Result<FileDone, Error> {
    let task = FileTask::Read { path, offset, bytes_max: bytes_max as u64 };
    file_task(sandbox, task, (Input::Nothing, Output::Taken), bytes_max, cancel)
}

/// Writes a file of a sandbox.
///
/// # Errors
/// What the kernel says inside.
pub fn write_file(
    sandbox: &Sandbox,
    path: PathBuf,
    bytes: Vec<u8>,
    (how, make_folders): (Writing, bool),
    cancel: BorrowedFd<'_>,
) -> Result<FileDone, Error> {
    let expected = bytes.len() as u64;
    let task = FileTask::Write { path, how, make_folders, mode: 0o666, expected: Some(expected) };
    file_task(sandbox, task, (Input::Bytes(bytes), Output::Taken), 0, cancel)
}

/// The entries of a folder of a sandbox.
///
/// # Errors
/// What the kernel says inside.
pub fn list_folder(sandbox: &Sandbox, path: PathBuf, cancel: BorrowedFd<'_>) -> Result<Listing, Error> {
    let streams = (Input::Nothing, Output::Taken);
    let done = file_task(sandbox, FileTask::List { path }, streams, LISTING_BYTES_MAX, cancel)?;
    serde_json::from_slice(&done.bytes)
        .map_err(|e| Error::new(ErrorKind::Corrupt, format!("the list of the folder is cut off: {e}")))
}

/// Copies a file from one sandbox into another, or within one; not a byte passes here.
///
/// # Errors
/// What the kernel says inside either, or `Failed` when the file changed meanwhile.
pub fn copy_file(
    (from, source): (&Sandbox, PathBuf),
    (to, target): (&Sandbox, PathBuf),
    (how, make_folders): (Writing, bool),
    cancel: BorrowedFd<'_>,
) -> Result<FileDone, Error> {
    let before = read_file(from, source.clone(), 0, 0, cancel)?.entry;
    let (read, write) = errands::pipe()?;
    let task = FileTask::Read { path: source, offset: 0, bytes_max: before.bytes };
    let giving = begin_file_task(from, task, (Input::Nothing, Output::Into(write)))?;
    let expected = Some(before.bytes);
    let task = FileTask::Write { path: target, how, make_folders, mode: before.mode & 0o777, expected };
    let taking = begin_file_task(to, task, (Input::From(read), Output::Taken))?;
    let done = finish_file_task(taking, 0, cancel);
    // The first to fail has the reason: when nobody takes any more, giving fails too.
    match (finish_file_task(giving, 0, cancel), done) {
        (_, Ok(done)) => Ok(done),
        (Err(error), Err(second)) if second.kind == ErrorKind::Failed => Err(error),
        (_, Err(error)) => Err(error),
    }
}
