//! A look at everything below some roots: what each thing is and by which stamp it is known again.
//!
//! Files are not read, but for those that were changed within the last seconds: their stamps prove nothing, so their
//! hashes must.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType};

use crate::workspace::crew;
use crate::workspace::index::{Index, now_ns};
use crate::workspace::listing::{Kind, Stamp, open_folder, open_name, read_up_to};
use crate::workspace::manifest::{Head, Item, Key, Manifest, VERSION, What};
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::walk::{Folder, Start, Wanted, joined, walk};

/// Bytes of a file that is hashed because its stamp is young.
const YOUNG_BYTES_MAX: usize = 32 << 20;
/// Young files that are hashed; the rest is asked again at the next look, and told as changed.
const YOUNG_FILES_MAX: usize = 10_000;
/// Files of one piece of work.
const PIECE_FILES: usize = 64;

/// One root.
#[derive(Debug)]
pub struct Source<'a> {
    /// Its descriptor.
    pub root: BorrowedFd<'a>,
    /// As it was named.
    pub name: String,
}

/// Looks at everything.
///
/// # Errors
/// `Timeout`, `Cancelled` or `TooLarge`: half a look is none.
pub fn sweep(
    sources: &[Source<'_>],
    index: &Index,
    id: &str,
    ignores: bool,
    patience: &Patience<'_>,
) -> Result<Manifest, Refusal> {
    let taken_ns = now_ns();
    let mut items = BTreeMap::new();
    let mut unreadable = 0;
    for (number, source) in sources.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let folder = open_folder(source.root, b"")
            .map_err(|e| Refusal::kernel("open the root", &source.name, e.raw_os_error()))?;
        let start = Start { root: source.root, folder: &folder, way: b"" };
        // What git keeps is git's: to put back half of it would break the rest.
        let skip = |_: &[u8], name: &[u8], _: Kind| name == b".git";
        let wanted = Wanted { ignores, skip: Some(&skip), ..Wanted::default() };
        let look = |folder: &Folder<'_>, own: &mut Vec<(Key, Item)>| {
            let found = folder.names().filter_map(|(name, kind)| {
                let item = item(folder.fd, name, kind)?;
                Some(((number, joined(folder.path, name)), item))
            });
            own.extend(found);
        };
        let walked = walk(&start, index, &wanted, patience, &look);
        ended(walked.ended)?;
        unreadable += walked.unreadable;
        items.extend(walked.gathered.into_iter().flatten());
    }
    let files = items.values().filter(|item| item.what == What::File);
    let (count, bytes) = files.fold((0, 0), |(n, bytes), item| (n + 1, bytes + item.size));
    let head = Head {
        version: VERSION,
        id: id.to_owned(),
        label: String::new(),
        taken_ns,
        roots: sources.iter().map(|source| source.name.clone()).collect(),
        ignores,
        segments: Vec::new(),
        files: count,
        bytes,
        written_bytes: 0,
        method: "none".to_owned(),
        took_ms: 0,
        skipped: (unreadable > 0)
            .then(|| format!("{unreadable} folders that cannot be read"))
            .into_iter()
            .collect(),
    };
    Ok(Manifest { head, items })
}

/// Half a look as a refusal.
///
/// # Errors
/// For every end but the whole.
pub fn ended(ended: Ended) -> Result<(), Refusal> {
    match ended {
        Ended::Whole => Ok(()),
        Ended::Cancelled => Err(Refusal::new(Code::Cancelled, "it was cancelled")),
        Ended::TimedOut => Err(Refusal::new(Code::Timeout, "there was no time to look at everything")),
        Ended::TooMuch | Ended::Enough => Err(Refusal::new(Code::TooLarge, "there are too many files")),
    }
}

fn item(folder: BorrowedFd<'_>, name: &[u8], kind: Kind) -> Option<Item> {
    use std::os::unix::ffi::OsStrExt;
    let text = std::ffi::OsStr::from_bytes(name);
    // What went meanwhile is not there; pipes and devices are nobody's work.
    let stat =
        rustix::fs::statat(folder, text, AtFlags::SYMLINK_NOFOLLOW).ok().filter(|_| kind != Kind::Other)?;
    let (what, target) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => (What::File, Vec::new()),
        FileType::Directory => (What::Folder, Vec::new()),
        FileType::Symlink => {
            (What::Link, rustix::fs::readlinkat(folder, text, Vec::new()).ok()?.into_bytes())
        }
        _ => return None,
    };
    let Stamp { dev, ino, size, mtime_ns, ctime_ns } = Stamp::of(&stat);
    let mode = stat.st_mode & 0o7777;
    Some(Item { what, mode, size, mtime_ns, ctime_ns, ino, dev, hash: None, kept: None, target })
}

/// Hashes the files whose stamps prove nothing yet.
pub fn hash_young(sources: &[Source<'_>], manifest: &mut Manifest, patience: &Patience<'_>) {
    let taken_ns = manifest.head.taken_ns;
    let young: Vec<Key> = manifest
        .items
        .iter()
        .filter(|(_, item)| {
            item.what == What::File && item.size <= YOUNG_BYTES_MAX as u64 && !item.is_quiet(taken_ns)
        })
        .map(|(key, _)| key.clone())
        .take(YOUNG_FILES_MAX)
        .collect();
    let pieces: Vec<&[Key]> = young.chunks(PIECE_FILES).collect();
    let work = |buffer: &mut Vec<u8>, n: usize| {
        let hashes: Vec<_> =
            pieces[n].iter().map(|key| hash(&sources[key.0 as usize], &key.1, buffer)).collect();
        (hashes, None)
    };
    let (done, _) = crew::share(pieces.len(), patience, Vec::new, work);
    for (n, hashes) in done {
        for (key, hash) in pieces[n].iter().zip(hashes) {
            if let Some(item) = manifest.items.get_mut(key) {
                item.hash = hash;
            }
        }
    }
}

/// The hash of a file as it is now.
pub fn hash(source: &Source<'_>, path: &[u8], buffer: &mut Vec<u8>) -> Option<[u8; 32]> {
    let whole = read(source, path, YOUNG_BYTES_MAX, buffer)?;
    whole.then(|| *blake3::hash(buffer).as_bytes())
}

/// The bytes of a file as it is now, and whether that is all of them; `None` when it cannot be read.
pub fn read(source: &Source<'_>, path: &[u8], bytes_max: usize, buffer: &mut Vec<u8>) -> Option<bool> {
    let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (open_folder(source.root, &path[..at]).ok()?, &path[at + 1..]),
        None => (open_folder(source.root, b"").ok()?, path),
    };
    let (fd, stat) = open_name(folder.as_fd(), name).ok()??;
    read_up_to(fd.as_fd(), &stat, bytes_max, buffer).ok()
}
