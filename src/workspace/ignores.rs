//! What `.gitignore` and `.ignore` say about names on the way down, each file for what lies below its folder.
//!
//! Rules above a root and those of a person's own git are not read: they lie outside.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::workspace::index::Index;
use crate::workspace::listing::{Kind, Listing, open_folder, open_name, read_up_to};

/// Bytes of one ignore file; what is beyond is not read.
const IGNORE_BYTES_MAX: usize = 256 * 1024;
/// Lines of one ignore file that count.
const IGNORE_LINES_MAX: usize = 4096;
/// The later one decides.
const FILES: [&[u8]; 2] = [b".gitignore", b".ignore"];

/// The rules that hold in one folder: its own, and those from above.
#[derive(Debug)]
pub struct Rules {
    above: Option<Arc<Rules>>,
    /// Bytes of the folder's path and the slash behind it.
    prefix: usize,
    own: Vec<Arc<Gitignore>>,
}

impl Rules {
    /// Whether something is ignored; `path` counts from where the rules began.
    pub fn ignore(&self, path: &[u8], is_folder: bool) -> bool {
        let mut rules = Some(self);
        while let Some(here) = rules {
            let relative = Path::new(OsStr::from_bytes(path.get(here.prefix..).unwrap_or_default()));
            for set in here.own.iter().rev() {
                match set.matched(relative, is_folder) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            rules = here.above.as_deref();
        }
        false
    }

    /// The rules that hold in the folder of `fd`, which is at `path`.
    pub fn below(
        above: Option<&Arc<Self>>,
        index: &Index,
        fd: BorrowedFd<'_>,
        path: &[u8],
        listing: &Listing,
    ) -> Option<Arc<Self>> {
        let mut own = Vec::new();
        if listing.kind_of(b".git") == Some(Kind::Folder) {
            own.extend(exclude(index, fd));
        }
        let named = FILES.iter().filter(|name| listing.kind_of(name) == Some(Kind::File));
        own.extend(named.filter_map(|name| rules_of(index, fd, name)));
        own.retain(|set| !set.is_empty());
        if own.is_empty() {
            return above.cloned();
        }
        let prefix = if path.is_empty() { 0 } else { path.len() + 1 };
        Some(Arc::new(Self { above: above.cloned(), prefix, own }))
    }

    /// The rules of every folder from `root` down to the one above `start`, for a walk that begins there.
    pub fn on_the_way(index: &Index, root: BorrowedFd<'_>, start: &[u8]) -> Option<Arc<Self>> {
        let slashes = start.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let ends = if start.is_empty() { Vec::new() } else { std::iter::once(0).chain(slashes).collect() };
        let mut rules = None;
        for end in ends {
            let path = &start[..end];
            // A folder that cannot be read has no rules for us, as for git.
            let Ok(fd) = open_folder(root, path) else { continue };
            let Ok(listing) = index.listing(fd.as_fd(), &mut Vec::new()) else { continue };
            rules = Self::below(rules.as_ref(), index, fd.as_fd(), path, &listing);
        }
        rules
    }
}

fn exclude(index: &Index, folder: BorrowedFd<'_>) -> Option<Arc<Gitignore>> {
    let info = open_folder(folder, b".git/info").ok()?;
    rules_of(index, info.as_fd(), b"exclude")
}

fn rules_of(index: &Index, folder: BorrowedFd<'_>, name: &[u8]) -> Option<Arc<Gitignore>> {
    let (fd, stat) = open_name(folder, name).ok()??;
    let read = || {
        let mut bytes = Vec::new();
        if read_up_to(fd.as_fd(), &stat, IGNORE_BYTES_MAX, &mut bytes).is_err() {
            bytes.clear();
        }
        (rules_in(&bytes), bytes.len())
    };
    Some(index.rules(fd.as_fd(), &stat, read))
}

/// The rules of a text. A line that is no glob says nothing, as in git.
pub fn rules_in(text: &[u8]) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for line in text.split(|byte| *byte == b'\n').take(IGNORE_LINES_MAX) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let _not_a_glob = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_too_large| Gitignore::empty())
}
