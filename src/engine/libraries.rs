//! The libraries of an ELF program that lie outside the system folders: shown read-only.
//!
//! It follows what the files themselves say (`RUNPATH`, `RPATH`, `$ORIGIN`), never the environment,
//! and it cannot know what a program loads by name later.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::engine::elf::{self, Elf};
use crate::engine::reach::{self, Reach, ReachError};
use crate::sys::fs;

/// The most ELF files that are looked at for one program.
const FILES_MAX: usize = 256;

/// Where the loader looks by itself, besides what `/etc/ld.so.conf` adds.
const LIBRARY_FOLDERS: [&str; 10] = [
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib64",
];

/// The ELF headers of a file; `None` when it is none.
pub fn headers(file: &File) -> Option<Elf> {
    elf::parse(|offset, length| {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match file.read_at(&mut bytes[filled..], offset.checked_add(filled as u64)?) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(filled);
        Some(bytes)
    })
}

/// Shows the loader of the program at `real` and each library that the program, or one of those
/// libraries, asks for.
///
/// # Errors
/// A library is one of the files that are never shown.
pub fn show(reach: &mut Reach<'_>, real: &Path, elf: Elf) -> Result<(), ReachError> {
    let mut done = BTreeSet::from([real.to_owned()]);
    let mut files = VecDeque::from([(real.to_owned(), elf)]);
    let mut inherited: Vec<PathBuf> = Vec::new();
    while let Some((file, elf)) = files.pop_front() {
        if let Some(loader) = elf.interpreter.as_deref().map(OsStr::from_bytes).map(Path::new) {
            if is_library(loader) {
                reach.file(loader, &format!("loader of `{}`", file.display()))?;
            } else {
                let loader = loader.display();
                reach
                    .note(format!("`{}` asks for the loader `{loader}`, which is not there", file.display()));
            }
        }
        let folders = run_paths(&file, &elf);
        for folder in folders.iter().filter(|folder| is_own(&file, folder)) {
            reach.folder(folder, &format!("libraries of `{}`", file.display()))?;
        }
        inherited.extend(folders.iter().cloned());
        for name in &elf.needed {
            let name = Path::new(OsStr::from_bytes(name));
            let places = folders.iter().chain(&inherited).map(PathBuf::as_path);
            let Some(place) = places.map(|folder| folder.join(name)).find(|place| is_library(place)) else {
                if !LIBRARY_FOLDERS.iter().any(|folder| Path::new(folder).join(name).is_file()) {
                    reach.note(format!(
                        "`{}` asks for `{}`, which was not found in the system's library folders",
                        file.display(),
                        name.display()
                    ));
                }
                continue;
            };
            let library = reach.file(&place, &format!("library of `{}`", file.display()))?;
            if done.len() < FILES_MAX && !reach.is_system(&library) && done.insert(library.clone()) {
                files.extend(
                    fs::open_regular(&library).ok().and_then(|f| headers(&f)).map(|elf| (library, elf)),
                );
            }
        }
    }
    Ok(())
}

/// True for a folder that belongs to the file by where it lies: its own, one in it, or the `lib`
/// beside its `bin`. Any other that a program names could be somebody's private folder, so of
/// those only the libraries themselves are shown.
fn is_own(file: &Path, folder: &Path) -> bool {
    let Some(own) = file.parent() else { return false };
    let Ok(folder) = reach::walk(folder).map(|walk| walk.real) else { return false };
    let beside = own.parent().filter(|_| own.ends_with("bin") || own.ends_with("lib"));
    folder.starts_with(own)
        || beside.is_some_and(|prefix| ["lib", "lib64"].iter().any(|l| folder == prefix.join(l)))
}

/// True for an ELF file: a program must not have any other file shown by calling it its library.
fn is_library(place: &Path) -> bool {
    fs::open_regular(place).ok().and_then(|file| headers(&file)).is_some()
}

/// The folders that the file names and that exist, `$ORIGIN` put.
fn run_paths(file: &Path, elf: &Elf) -> Vec<PathBuf> {
    let origin = file.parent().unwrap_or(Path::new("/")).as_os_str().as_bytes();
    let folders = elf.run_paths.iter().filter_map(|folder| elf::expand_origin(folder, origin));
    let folders = folders.map(|folder| PathBuf::from(OsStr::from_bytes(&folder)));
    folders.filter(|folder| folder.is_absolute() && folder.is_dir() && reach::walk(folder).is_ok()).collect()
}
