//! Files of a container, from within: read, write, list, as its own command could.
//!
//! This runs in a process that stands behind every wall of the container and then does one thing. So a
//! path means what it means inside, whatever the container does to it meanwhile, and nothing can be
//! reached that its command could not reach. Bytes go over standard input and output, what there is to
//! say over standard error as one line of JSON.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::container::task::{Entry, FileTask, Listing, Writing};
use crate::error::{Error, ErrorKind};

/// The exit code of a task that failed; standard error has the [`Error`].
pub const EXIT_FAILED: i32 = 1;
/// Entries of a folder that are listed at most.
pub const ENTRIES_MAX: usize = 10_000;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 << 10;
/// What one writer may have under way beside a file, tried names.
const NAMES_MAX: u32 = 16;

/// Does one task and says how it went on standard error; gives the exit code.
pub fn carry_out(task: &FileTask) -> i32 {
    let done = match task {
        FileTask::Read { path, offset, bytes_max } => read(path, *offset, *bytes_max),
        FileTask::Write { path, how, make_folders, mode, expected } => {
            write(path, *how, *make_folders, *mode, *expected)
        }
        FileTask::List { path } => list(path),
    };
    let (text, code) = match done {
        Ok(entry) => (serde_json::to_vec(&entry), 0),
        Err(error) => (serde_json::to_vec(&error), EXIT_FAILED),
    };
    let told = stream(rustix::stdio::stderr()).and_then(|mut out| out.write_all(&text.unwrap_or_default()));
    if told.is_ok() { code } else { EXIT_FAILED }
}

fn stream(fd: BorrowedFd<'_>) -> io::Result<File> {
    Ok(File::from(fd.try_clone_to_owned()?))
}

fn wrong<'a>(action: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |e| {
        let kind = match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorKind::Limit
            }
            _ => ErrorKind::Failed,
        };
        let mut error = Error::new(kind, format!("cannot {action} `{}` in the sandbox", path.display()));
        error.chain.push(e.to_string());
        error
    }
}

fn entry(name: String, stat: &std::fs::Metadata) -> Entry {
    let kind = stat.file_type();
    let kind = match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "folder",
        () if kind.is_symlink() => "link",
        () => "other",
    };
    let (bytes, mode, modified_s) = (stat.len(), stat.permissions().mode() & 0o7777, stat.mtime());
    Entry { name, kind: kind.to_owned(), bytes, mode, modified_s }
}

fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<(File, std::fs::Metadata), Error> {
    // Neither a pipe that nobody writes to nor a terminal must hold us up.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = options.custom_flags(flags).open(path).map_err(wrong("open", path))?;
    let stat = file.metadata().map_err(wrong("look at", path))?;
    if stat.is_file() {
        return Ok((file, stat));
    }
    let what = if stat.is_dir() { "a folder" } else { "no regular file" };
    Err(Error::new(ErrorKind::Usage, format!("`{}` is {what}", path.display())))
}

fn read(path: &Path, offset: u64, bytes_max: u64) -> Result<Entry, Error> {
    let (mut file, stat) = open_regular(path, OpenOptions::new().read(true))?;
    file.seek(SeekFrom::Start(offset)).map_err(wrong("read", path))?;
    let mut output = stream(rustix::stdio::stdout()).map_err(wrong("read", path))?;
    let mut rest = file.take(bytes_max);
    copy(&mut rest, &mut output).map_err(wrong("read", path))?;
    Ok(entry(path.display().to_string(), &stat))
}

/// `std::io::copy` would try calls that the filter may not know.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut moved = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(moved),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                moved += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn write(
    path: &Path,
    how: Writing,
    make_folders: bool,
    mode: u32,
    expected: Option<u64>,
) -> Result<Entry, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let (true, Some(folder)) = (make_folders, folder) {
        std::fs::create_dir_all(folder).map_err(wrong("make the folders above", path))?;
    }
    let failed = wrong("write", path);
    let mut input = stream(rustix::stdio::stdin()).map_err(&failed)?;
    if how == Writing::Append {
        let (mut file, _) = open_regular(path, OpenOptions::new().append(true).create(true).mode(mode))?;
        copy(&mut input, &mut file).map_err(&failed)?;
        return Ok(entry(path.display().to_string(), &file.metadata().map_err(&failed)?));
    }
    // The file is whole or it is not there: it is written beside its place and moved.
    let (beside, mut file) = make_beside(path, mode).map_err(&failed)?;
    let placed = copy(&mut input, &mut file).and_then(|moved| match expected {
        Some(bytes) if bytes != moved => Err(io::Error::other(format!("{moved} bytes came of {bytes}"))),
        _ => place(&beside, path, how, &file),
    });
    if let Err(e) = placed {
        let _gone = std::fs::remove_file(&beside);
        return Err(failed(e));
    }
    Ok(entry(path.display().to_string(), &file.metadata().map_err(&failed)?))
}

fn make_beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in 0..NAMES_MAX {
        let mut hidden = b".".to_vec();
        hidden.extend(name.as_encoded_bytes().iter().take(200));
        hidden.extend(format!(".cuddy-{}-{number}", rustix::process::getpid().as_raw_nonzero()).bytes());
        let beside = path.with_file_name(OsString::from_vec(hidden));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside) {
            Ok(file) => return Ok((beside, file)),
            Err(e) => last = e,
        }
        if last.kind() != io::ErrorKind::AlreadyExists {
            break;
        }
    }
    Err(last)
}

fn place(beside: &Path, path: &Path, how: Writing, file: &File) -> io::Result<()> {
    if how == Writing::New {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        return Ok(renameat_with(CWD, beside, CWD, path, RenameFlags::NOREPLACE)?);
    }
    // Who replaces a file keeps what may be done with it.
    if let Ok(before) = std::fs::metadata(path)
        && before.is_file()
    {
        rustix::fs::fchmod(file.as_fd(), rustix::fs::Mode::from_raw_mode(before.mode() & 0o777))?;
    }
    std::fs::rename(beside, path)
}

fn list(path: &Path) -> Result<Entry, Error> {
    let stat = std::fs::metadata(path).map_err(wrong("look at", path))?;
    let mut entries = Vec::new();
    let mut is_cut = false;
    for found in std::fs::read_dir(path).map_err(wrong("list", path))? {
        let found = found.map_err(wrong("list", path))?;
        if entries.len() == ENTRIES_MAX {
            is_cut = true;
            break;
        }
        // What goes away meanwhile is not there.
        if let Ok(stat) = found.metadata() {
            entries.push(entry(found.file_name().to_string_lossy().into_owned(), &stat));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let text = serde_json::to_vec(&Listing { entries, is_cut }).unwrap_or_default();
    let mut output = stream(rustix::stdio::stdout()).map_err(wrong("list", path))?;
    output.write_all(&text).map_err(wrong("list", path))?;
    Ok(entry(path.display().to_string(), &stat))
}
