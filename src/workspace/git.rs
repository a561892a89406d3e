//! The history of a repository, read from its own files: which commits touched which paths together.
//!
//! No git is run: its configuration and hooks are the work of whoever can write the folder. Objects are read beneath
//! the root, loose or packed, within limits; a repository whose parts lie elsewhere, or of another format, has no
//! history for us. Nothing is verified: it is advice, not evidence.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use flate2::read::ZlibDecoder;
use rustix::fs::OFlags;

use crate::workspace::listing::{Listing, open_folder, open_name, open_plain, read_up_to};
use crate::workspace::patience::Patience;
use crate::workspace::walk::joined;

/// Bytes of one object.
const OBJECT_BYTES_MAX: usize = 8 << 20;
/// Bytes of `HEAD`, a reference, `packed-refs`.
const REFERENCE_BYTES_MAX: usize = 4 << 20;
/// References that lead to each other.
const REFERENCES_MAX: usize = 5;
/// Packs of one repository.
const PACKS_MAX: usize = 64;
/// Differences that build on each other; git itself makes at most 50, or 4095 when told.
const DELTAS_MAX: usize = 256;
/// Paths of a commit that is about something; one with more is a move or an import.
const PATHS_MAX: usize = 64;
/// Folders inside each other.
const DEPTH_MAX: usize = 64;
/// Bytes of trees that are kept while reading.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Bytes of a commit's message that count.
const MESSAGE_BYTES_MAX: usize = 2000;

type Id = [u8; 20];

/// One commit and what it touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Seconds since 1970.
    pub time: i64,
    /// The beginning of its message.
    pub message: String,
    /// Paths of files, from the repository's folder.
    pub paths: Vec<String>,
}

struct Pack {
    index: File,
    data: File,
    objects: u32,
}

/// A repository that is being read.
pub struct Repository {
    folder: OwnedFd,
    packs: Vec<Pack>,
    kept: HashMap<Id, Arc<Vec<TreeEntry>>>,
    kept_bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct TreeEntry {
    folder: bool,
    name: Vec<u8>,
    id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Commit,
    Tree,
    Other,
}

impl Repository {
    /// The repository whose folder is open; `None` when there is none that can be read.
    pub fn open(folder: BorrowedFd<'_>) -> Option<Self> {
        let folder = open_folder(folder, b".git").ok()?;
        let mut packs = Vec::new();
        if let Ok(fd) = open_folder(folder.as_fd(), b"objects/pack") {
            let listing = Listing::read(fd.as_fd(), &mut Vec::new()).ok()?;
            for (name, _) in listing.iter().filter(|(name, _)| name.ends_with(b".idx")).take(PACKS_MAX) {
                packs.extend(Pack::open(fd.as_fd(), name));
            }
        }
        Some(Self { folder, packs, kept: HashMap::new(), kept_bytes: 0 })
    }

    /// The newest commits on the way of first parents, newest first, without merges and without those that
    /// touch very many files.
    pub fn commits(&mut self, commits_max: usize, patience: &Patience<'_>) -> Vec<Commit> {
        let mut found = Vec::new();
        let mut next = self.head();
        for _ in 0..commits_max {
            if patience.over().is_some() {
                break;
            }
            let Some(commit) = next.and_then(|id| self.commit(&id)) else { break };
            next = commit.parents.first().copied();
            if commit.parents.len() > 1 {
                continue;
            }
            let before = next.and_then(|id| self.commit(&id)).map(|parent| parent.tree);
            let mut paths = Vec::new();
            let fits = self.differ(before, Some(commit.tree), b"", 0, &mut paths);
            if fits.is_some() && !paths.is_empty() {
                found.push(Commit { time: commit.time, message: commit.message, paths });
            }
        }
        found
    }

    fn small(&self, path: &[u8]) -> Option<Vec<u8>> {
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (open_folder(self.folder.as_fd(), &path[..at]).ok()?, &path[at + 1..]),
            None => (open_folder(self.folder.as_fd(), b"").ok()?, path),
        };
        let (fd, stat) = open_name(folder.as_fd(), name).ok()??;
        let mut bytes = Vec::new();
        read_up_to(fd.as_fd(), &stat, REFERENCE_BYTES_MAX, &mut bytes).ok()?;
        Some(bytes)
    }

    fn head(&self) -> Option<Id> {
        let mut name = b"HEAD".to_vec();
        for _ in 0..REFERENCES_MAX {
            let text = self.small(&name).or_else(|| self.packed(&name))?;
            let text = text.trim_ascii();
            match text.strip_prefix(b"ref:") {
                Some(other) => name = other.trim_ascii().to_vec(),
                None => return id_of(text),
            }
        }
        None
    }

    fn packed(&self, name: &[u8]) -> Option<Vec<u8>> {
        let all = self.small(b"packed-refs")?;
        let line = all.split(|byte| *byte == b'\n').find(|line| line.get(41..) == Some(name))?;
        Some(line[..40].to_vec())
    }

    fn object(&self, id: &Id) -> Option<(ObjectKind, Vec<u8>)> {
        self.packs
            .iter()
            .find_map(|pack| pack.find(id).and_then(|at| self.packed_object(pack, at)))
            .or_else(|| self.loose(id))
    }

    fn loose(&self, id: &Id) -> Option<(ObjectKind, Vec<u8>)> {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = format!("objects/{}/{}", &hex[..2], &hex[2..]);
        let file = File::from(open_plain(self.folder.as_fd(), path.as_bytes(), OFlags::RDONLY).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let bytes = inflate(file, OBJECT_BYTES_MAX)?;
        let end = bytes.iter().take(32).position(|byte| *byte == 0)?;
        let kind = match bytes[..end].split(|byte| *byte == b' ').next()? {
            b"commit" => ObjectKind::Commit,
            b"tree" => ObjectKind::Tree,
            _ => ObjectKind::Other,
        };
        Some((kind, bytes[end + 1..].to_vec()))
    }

    fn packed_object(&self, pack: &Pack, at: u64) -> Option<(ObjectKind, Vec<u8>)> {
        let (mut at, mut deltas) = (at, Vec::new());
        let (kind, mut bytes) = loop {
            let head = pack.head(at)?;
            match head.kind {
                1 => break (ObjectKind::Commit, pack.inflate(head.data, head.size)?),
                2 => break (ObjectKind::Tree, pack.inflate(head.data, head.size)?),
                // A distance back in the same pack.
                6 if deltas.len() < DELTAS_MAX => {
                    let (distance, length) = pack.distance(head.data)?;
                    deltas.push(pack.inflate(head.data + length, head.size)?);
                    at = at.checked_sub(distance).filter(|before| *before < at)?;
                }
                7 if deltas.len() < DELTAS_MAX => {
                    let mut id = [0; 20];
                    pack.data.read_exact_at(&mut id, head.data).ok()?;
                    deltas.push(pack.inflate(head.data + 20, head.size)?);
                    at = pack.find(&id)?;
                }
                _ => return None,
            }
        };
        for delta in deltas.iter().rev() {
            bytes = apply(&bytes, delta)?;
        }
        Some((kind, bytes))
    }

    fn commit(&self, id: &Id) -> Option<Parsed> {
        let (ObjectKind::Commit, bytes) = self.object(id)? else { return None };
        parse_commit(&bytes)
    }

    fn tree(&mut self, id: &Id) -> Option<Arc<Vec<TreeEntry>>> {
        if let Some(known) = self.kept.get(id) {
            return Some(Arc::clone(known));
        }
        let (ObjectKind::Tree, bytes) = self.object(id)? else { return None };
        let tree = Arc::new(parse_tree(&bytes)?);
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.kept.clear();
            self.kept_bytes = 0;
        }
        self.kept_bytes += bytes.len() * 2;
        self.kept.insert(*id, Arc::clone(&tree));
        Some(tree)
    }

    /// Puts the paths that differ between two trees into `paths`; `None` when they are too many, or a tree cannot be read.
    fn differ(
        &mut self,
        before: Option<Id>,
        after: Option<Id>,
        path: &[u8],
        depth: usize,
        paths: &mut Vec<String>,
    ) -> Option<()> {
        if before == after {
            return Some(());
        }
        if depth > DEPTH_MAX {
            return None;
        }
        let mut entries = |id: Option<Id>| id.map_or_else(|| Some(Arc::default()), |id| self.tree(&id));
        let (before, after) = (entries(before)?, entries(after)?);
        let mut sides: HashMap<&[u8], (Option<&TreeEntry>, Option<&TreeEntry>)> = HashMap::new();
        before.iter().for_each(|entry| sides.entry(&entry.name).or_default().0 = Some(entry));
        after.iter().for_each(|entry| sides.entry(&entry.name).or_default().1 = Some(entry));
        let mut changed: Vec<_> = sides.into_iter().filter(|(_, (old, new))| old != new).collect();
        changed.sort_unstable_by_key(|(name, _)| *name);
        for (name, (old, new)) in changed {
            let whole = joined(path, name);
            let folder = |entry: Option<&TreeEntry>| entry.filter(|entry| entry.folder).map(|entry| entry.id);
            if old.is_some_and(|entry| !entry.folder) || new.is_some_and(|entry| !entry.folder) {
                paths.push(String::from_utf8_lossy(&whole).into_owned());
            }
            if paths.len() > PATHS_MAX {
                return None;
            }
            self.differ(folder(old), folder(new), &whole, depth + 1, paths)?;
        }
        Some(())
    }
}

struct Parsed {
    tree: Id,
    parents: Vec<Id>,
    time: i64,
    message: String,
}

fn id_of(hex: &[u8]) -> Option<Id> {
    let hex = std::str::from_utf8(hex.get(..40)?).ok().filter(|_| hex.len() == 40)?;
    let mut id = [0; 20];
    for (n, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(id)
}

fn parse_commit(bytes: &[u8]) -> Option<Parsed> {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (mut tree, mut parents, mut time) = (None, Vec::new(), 0);
    for line in bytes[..end].split(|byte| *byte == b'\n') {
        if let Some(id) = line.strip_prefix(b"tree ") {
            tree = id_of(id);
        } else if let Some(id) = line.strip_prefix(b"parent ") {
            parents.push(id_of(id)?);
        } else if let Some(committer) = line.strip_prefix(b"committer ") {
            let text = String::from_utf8_lossy(committer);
            time = text.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
        }
    }
    let message = bytes.get(end + 2..).unwrap_or_default();
    let message = String::from_utf8_lossy(&message[..message.len().min(MESSAGE_BYTES_MAX)]).into_owned();
    Some(Parsed { tree: tree?, parents, time, message })
}

fn parse_tree(bytes: &[u8]) -> Option<Vec<TreeEntry>> {
    let (mut rest, mut entries) = (bytes, Vec::new());
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let zero = rest.iter().position(|byte| *byte == 0).filter(|zero| *zero > space)?;
        let id: Id = rest.get(zero + 1..zero + 21)?.try_into().ok()?;
        let mode = &rest[..space];
        // 40000 is a folder; 160000 another repository, which is no file.
        if mode != b"160000" {
            let name = rest[space + 1..zero].to_vec();
            entries.push(TreeEntry { folder: mode == b"40000", name, id });
        }
        rest = &rest[zero + 21..];
    }
    Some(entries)
}

fn inflate(from: impl Read, bytes_max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(from).take(bytes_max as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() <= bytes_max).then_some(bytes)
}

/// The bytes that a difference makes of others (gitformat-pack(5)).
fn apply(base: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0;
    let mut size = || {
        let (mut value, mut shift) = (0_usize, 0);
        loop {
            let byte = *delta.get(at)?;
            at += 1;
            value |= usize::from(byte & 0x7f).checked_shl(shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
    };
    let (base_size, result_size) = (size()?, size()?);
    if base_size != base.len() || result_size > OBJECT_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(result_size);
    while let Some(command) = delta.get(at).copied() {
        at += 1;
        if command & 0x80 == 0 {
            let count = usize::from(command);
            bytes.extend_from_slice(delta.get(at..at + count).filter(|_| count > 0)?);
            at += count;
        } else {
            let mut value = |bits: std::ops::Range<u8>| {
                let mut value = 0_usize;
                for (n, bit) in bits.enumerate() {
                    if command >> bit & 1 == 1 {
                        value |= usize::from(*delta.get(at)?) << (8 * n);
                        at += 1;
                    }
                }
                Some(value)
            };
            let (from, count) = (value(0..4)?, value(4..7)?);
            let count = if count == 0 { 0x10000 } else { count };
            bytes.extend_from_slice(base.get(from..from.checked_add(count)?)?);
        }
        if bytes.len() > result_size {
            return None;
        }
    }
    (bytes.len() == result_size).then_some(bytes)
}

struct Head {
    kind: u8,
    size: usize,
    data: u64,
}

impl Pack {
    fn open(folder: BorrowedFd<'_>, index: &[u8]) -> Option<Self> {
        let stem = index.strip_suffix(b".idx")?;
        let data = [stem, b".pack"].concat();
        let open = |name: &[u8]| open_name(folder, name).ok().flatten().map(|(fd, _)| File::from(fd));
        let (index, data) = (open(index)?, open(&data)?);
        let mut head = [0; 8];
        index.read_exact_at(&mut head, 0).ok()?;
        // Version 2; version 1 is from before 2008.
        if head != *b"\xfftOc\0\0\0\x02" {
            return None;
        }
        let mut pack = Self { index, data, objects: 0 };
        pack.objects = pack.number(8 + 255 * 4)?;
        Some(pack)
    }

    fn number(&self, at: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.index.read_exact_at(&mut bytes, at).ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// Where an object begins.
    fn find(&self, id: &Id) -> Option<u64> {
        let fan = |byte: u64| self.number(8 + 4 * byte);
        let first = u64::from(id[0]);
        let mut low = if first == 0 { 0 } else { fan(first - 1)? };
        let mut high = fan(first)?.min(self.objects);
        let ids = 8 + 256 * 4;
        let all = u64::from(self.objects);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut here = [0; 20];
            self.index.read_exact_at(&mut here, ids + 20 * u64::from(middle)).ok()?;
            match here.cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let offset = self.number(ids + 24 * all + 4 * u64::from(middle))?;
                    if offset & 0x8000_0000 == 0 {
                        return Some(u64::from(offset));
                    }
                    let mut large = [0; 8];
                    let at = ids + 28 * all + 8 * u64::from(offset & 0x7fff_ffff);
                    self.index.read_exact_at(&mut large, at).ok()?;
                    return Some(u64::from_be_bytes(large));
                }
            }
        }
        None
    }

    fn head(&self, at: u64) -> Option<Head> {
        let mut bytes = [0; 10];
        let read = self.data.read_at(&mut bytes, at).ok()?;
        let first = *bytes[..read].first()?;
        let (mut size, mut shift, mut length) = (usize::from(first & 0x0f), 4, 1);
        let mut last = first;
        while last & 0x80 != 0 {
            last = *bytes[..read].get(length)?;
            size |= usize::from(last & 0x7f).checked_shl(shift)?;
            shift += 7;
            length += 1;
        }
        Some(Head { kind: first >> 4 & 7, size, data: at + length as u64 })
    }

    /// The distance before a difference, and how many bytes it takes.
    fn distance(&self, at: u64) -> Option<(u64, u64)> {
        let mut bytes = [0; 10];
        let read = self.data.read_at(&mut bytes, at).ok()?;
        let mut value = 0_u64;
        for (n, byte) in bytes[..read].iter().enumerate() {
            value = value.checked_shl(7)? | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some((value, n as u64 + 1));
            }
            value = value.checked_add(1)?;
        }
        None
    }

    fn inflate(&self, at: u64, size: usize) -> Option<Vec<u8>> {
        if size > OBJECT_BYTES_MAX {
            return None;
        }
        let bytes = inflate(Part { file: &self.data, at }, size)?;
        (bytes.len() == size).then_some(bytes)
    }
}

/// A file from one place on.
struct Part<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let bytes_max = bytes.len().min(4096);
        let read = self.file.read_at(&mut bytes[..bytes_max], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_copies_and_adds_and_a_false_one_is_refused() {
        // 5 bytes become 8: 3 from the second on, then `hello`.
        let delta = [5, 8, 0b1001_0001, 1, 3, 5, b'h', b'e', b'l', b'l', b'o'];
        assert_eq!(apply(b"abcde", &delta).unwrap(), b"bcdhello");
        assert_eq!(apply(b"abcd", &delta), None);
        for at in 0..delta.len() {
            for byte in [0, 0x7f, 0x80, 0xff] {
                let mut wrong = delta;
                wrong[at] = byte;
                let _never_panics = apply(b"abcde", &wrong);
            }
        }
    }

    #[test]
    fn a_tree_and_a_commit_that_are_cut_off_are_none() {
        let tree = [b"100644 a\0".as_slice(), &[7; 20], b"40000 d\0", &[8; 20]].concat();
        let entries = parse_tree(&tree).unwrap();
        assert_eq!((entries.len(), entries[1].folder), (2, true));
        assert_eq!(parse_tree(&tree[..tree.len() - 1]), None);
        assert!(parse_commit(b"parent x\n\nhello").is_none());
    }
}
