//! The bytes of every file below a place, by a few threads, in the order of paths.
//!
//! It holds one file a thread at a time, and only its beginning where it is long. What they are read for is the
//! caller's; a search reads large files whole and is for itself.

use std::os::fd::AsFd;

use ignore::overrides::Override;

use crate::workspace::crew;
use crate::workspace::index::Index;
use crate::workspace::listing::{Kind, open_folder, open_name, read_up_to};
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::search::{Place, left_out};
use crate::workspace::walk::{Kept, Wanted, gather, joined};

/// Files of one piece of work.
const PIECE_FILES: usize = 64;

/// Which files to read.
pub struct Reading<'a> {
    /// What paths must and must not be.
    pub globs: &'a Override,
    /// Leave out what ignore files name.
    pub ignores: bool,
    /// Which names.
    pub want: &'a (dyn Fn(&[u8]) -> bool + Sync),
    /// Bytes of one file; what is longer is given in part.
    pub bytes_max: usize,
    /// Files to read.
    pub files_max: usize,
}

/// One file.
pub struct Content<'a> {
    /// Which of the places.
    pub place: usize,
    /// Its path from that place.
    pub path: &'a [u8],
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Whether these are all.
    pub whole: bool,
    /// When it was changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// How reading went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Files that were read.
    pub files: u64,
    /// Files and folders that could not be read, or only in part.
    pub unreadable: u64,
    /// How far it came.
    pub ended: Ended,
}

/// Files of one folder, by the number of their place: the folder's path and the names.
type Piece<'a> = (usize, &'a [u8], Vec<&'a [u8]>);

/// Reads every file that is wanted; `work` gets it with what its thread keeps, and may give a result.
pub fn each<S, R: Send>(
    places: &[Place<'_>],
    index: &Index,
    reading: &Reading<'_>,
    patience: &Patience<'_>,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &Content<'_>) -> Option<R> + Sync,
) -> (Vec<R>, Read) {
    let mut read = Read { files: 0, unreadable: 0, ended: Ended::Whole };
    let mut gathered: Vec<Vec<Kept>> = Vec::new();
    for place in places {
        let Place::Folder(start) = place else {
            gathered.push(Vec::new());
            continue;
        };
        let skip = left_out(reading.globs, start.way);
        let wanted = Wanted { ignores: reading.ignores, skip: Some(&skip), ..Wanted::default() };
        let (kept, walked) = gather(start, index, &wanted, patience);
        read.unreadable += walked.unreadable;
        if walked.ended != Ended::Whole {
            read.ended = walked.ended;
        }
        gathered.push(kept);
    }
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut files = 0;
    for (number, (place, kept)) in places.iter().zip(&gathered).enumerate() {
        if let Place::File { name, .. } = place {
            pieces.push((number, b"", vec![name]));
        }
        for folder in kept {
            let names: Vec<&[u8]> = folder
                .iter()
                .filter(|(name, kind)| *kind == Kind::File && (reading.want)(name))
                .map(|(name, _)| name)
                .take(reading.files_max.saturating_sub(files))
                .collect();
            files += names.len();
            pieces.extend(
                names.chunks(PIECE_FILES).map(|names| (number, folder.path.as_slice(), names.to_vec())),
            );
        }
    }
    if files >= reading.files_max {
        read.ended = Ended::TooMuch;
    }
    let (done, ended) = crew::share(
        pieces.len(),
        patience,
        || (begin(), Vec::new()),
        |(kept, buffer), n| {
            (read_piece(&places[pieces[n].0], &pieces[n], reading, kept, buffer, &work), None)
        },
    );
    let mut results = Vec::new();
    for (_, (found, files, unreadable)) in done {
        results.extend(found);
        read.files += files;
        read.unreadable += unreadable;
    }
    if ended != Ended::Whole {
        read.ended = ended;
    }
    (results, read)
}

fn read_piece<S, R>(
    place: &Place<'_>,
    (number, path, names): &(usize, &[u8], Vec<&[u8]>),
    reading: &Reading<'_>,
    kept: &mut S,
    buffer: &mut Vec<u8>,
    work: &(impl Fn(&mut S, &Content<'_>) -> Option<R> + Sync),
) -> (Vec<R>, u64, u64) {
    let (mut found, mut files, mut unreadable) = (Vec::new(), 0, 0);
    let base = match place {
        Place::Folder(start) => start.folder,
        Place::File { folder, .. } => folder,
    };
    let Ok(folder) = open_folder(base.as_fd(), path) else { return (found, 0, names.len() as u64) };
    for name in names {
        let opened = open_name(folder.as_fd(), name).ok().flatten();
        let read = opened.and_then(|(fd, stat)| {
            let whole = read_up_to(fd.as_fd(), &stat, reading.bytes_max, buffer).ok()?;
            Some((whole, crate::workspace::listing::Stamp::of(&stat).mtime_ns))
        });
        let Some((whole, mtime_ns)) = read else {
            unreadable += 1;
            continue;
        };
        files += 1;
        let path = joined(path, name);
        found.extend(work(kept, &Content { place: *number, path: &path, bytes: buffer, whole, mtime_ns }));
    }
    buffer.shrink_to(reading.bytes_max.min(1 << 20));
    (found, files, unreadable)
}
