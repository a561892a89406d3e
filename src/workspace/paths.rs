//! Paths by a glob, as `search_files` of the reference finds them, and by a few letters of theirs.
//!
//! It looks at names only. What it finds is in the order in which one thread would come by.

use frizbee::{Config, Matcher};

use crate::workspace::globs::Glob;
use crate::workspace::index::Index;
use crate::workspace::listing::Kind;
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::walk::{Folder, Kept, Start, Walked, Wanted, joined, walk};

/// Bytes of what is asked for by letters.
pub const FUZZY_BYTES_MAX: usize = 256;
/// Longest path that is compared by letters, in bytes.
const FUZZY_PATH_BYTES_MAX: usize = 1024;

/// What is asked for by globs.
pub struct Asked<'a> {
    /// What a path must match, counted from the start.
    pub glob: &'a Glob,
    /// What is left out, with all that lies below.
    pub exclude: &'a [Glob],
    /// Leave out what ignore files name.
    pub ignores: bool,
    /// Paths up to this one have been told before.
    pub after: Option<&'a [u8]>,
    /// How many to tell.
    pub limit: usize,
    /// Whether a link may be told: it must not lead out.
    pub link: &'a (dyn Fn(&[u8]) -> bool + Sync),
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Paths from the start, in order.
    pub paths: Vec<Vec<u8>>,
    /// How many match, those told before and those not told included.
    pub total: u64,
    /// Names that were looked at.
    pub entries: u64,
    /// Folders that could not be read, or only in part.
    pub unreadable: u64,
    /// How far the walk came.
    pub ended: Ended,
}

/// Finds what matches.
pub fn find(start: &Start<'_>, index: &Index, asked: &Asked<'_>, patience: &Patience<'_>) -> Found {
    let skip = |folder: &[u8], name: &[u8], _: Kind| {
        let path = joined(folder, name);
        let path = String::from_utf8_lossy(&path);
        asked.exclude.iter().any(|glob| glob.matches_path(&path))
    };
    let wanted = Wanted {
        ignores: asked.ignores,
        skip: if asked.exclude.is_empty() { None } else { Some(&skip) },
        ..Wanted::default()
    };
    // A zero byte sorts before every other, as a folder's slash must, and is in no name.
    let look = |folder: &Folder<'_>, own: &mut Vec<Vec<u8>>| {
        let above = String::from_utf8_lossy(folder.path);
        let names: Vec<&str> = if above.is_empty() { Vec::new() } else { above.split('/').collect() };
        for (name, kind) in folder.names() {
            let text = String::from_utf8_lossy(name);
            let hit = asked.glob.matches(&names, &text);
            if hit && (kind != Kind::Link || (asked.link)(&joined(folder.path, name))) {
                let mut path = joined(folder.path, name);
                path.iter_mut().filter(|b| **b == b'/').for_each(|b| *b = 0);
                own.push(path);
            }
        }
    };
    let Walked { gathered, entries, unreadable, ended, .. } = walk(start, index, &wanted, patience, &look);
    let mut paths: Vec<Vec<u8>> = gathered.into_iter().flatten().collect();
    let total = paths.len() as u64;
    if let Some(after) = asked.after {
        let after: Vec<u8> = after.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect();
        paths.retain(|path| *path > after);
    }
    paths.sort_unstable();
    paths.truncate(asked.limit);
    paths.iter_mut().flatten().filter(|b| **b == 0).for_each(|b| *b = b'/');
    Found { paths, total, entries, unreadable, ended }
}

/// A path and how well it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// From the start.
    pub path: String,
    /// Larger is better; comparable within one answer.
    pub score: u16,
}

/// The paths of files that hold the letters of `text` in order, best first.
pub fn nearest(folders: &[Kept], text: &str, limit: usize) -> Vec<Near> {
    let mut end = text.len().min(FUZZY_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let paths: Vec<String> = folders
        .iter()
        .flat_map(|folder| {
            let files = folder.iter().filter(|(_, kind)| *kind != Kind::Folder);
            files.map(|(name, _)| String::from_utf8_lossy(&joined(&folder.path, name)).into_owned())
        })
        .filter(|path| path.len() <= FUZZY_PATH_BYTES_MAX)
        .collect();
    let mut matcher = Matcher::new(&text[..end], &Config::default());
    let found = matcher.match_list(&paths);
    let best = found.into_iter().take(limit);
    best.map(|hit| Near { path: paths[hit.index as usize].clone(), score: hit.score }).collect()
}
