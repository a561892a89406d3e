//! Pure: what a tree held at one moment, as lines of text, and the differences between two moments.
//!
//! A line has the kind, the mode, the stamp, the hash and where its bytes are kept, the place of a link, and the path.
//! It reads no folder: `sweep` does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The form of the text; another one is not read.
pub const VERSION: u32 = 1;
/// Items of one manifest.
pub const ITEMS_MAX: usize = 2_000_000;

/// What stands above the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The form.
    pub version: u32,
    /// Its own name.
    pub id: String,
    /// What a person called it.
    pub label: String,
    /// When it was taken: nanoseconds since 1970, before the first look.
    pub taken_ns: i64,
    /// The roots, as they were named.
    pub roots: Vec<String>,
    /// Whether what ignore files name was left out.
    pub ignores: bool,
    /// Where bytes are kept: names of segments.
    pub segments: Vec<String>,
    /// Files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that were written for it.
    pub written_bytes: u64,
    /// How: `copy`, `reflink`, `mixed`, `none`.
    pub method: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Files that are too large, or could not be read, and are not in it.
    pub skipped: Vec<String>,
}

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link.
    Link,
}

/// Where bytes are kept: the number of a segment in the head, and the first byte in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The number of the segment.
    pub segment: u32,
    /// The first byte.
    pub offset: u64,
}

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub what: What,
    /// Its mode, without the kind.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The inode.
    pub ino: u64,
    /// The file system.
    pub dev: u64,
    /// BLAKE3 of its bytes, where they were read.
    pub hash: Option<[u8; 32]>,
    /// Where its bytes are kept.
    pub kept: Option<Kept>,
    /// Where a link leads.
    pub target: Vec<u8>,
}

impl Item {
    /// Whether the stamps say that nothing happened between two looks.
    pub fn same_stamp(&self, other: &Self) -> bool {
        let of =
            |item: &Self| (item.what, item.mode, item.size, item.mtime_ns, item.ctime_ns, item.ino, item.dev);
        of(self) == of(other)
    }

    /// Whether nothing had changed it for so long that its stamp proves its bytes.
    pub fn is_quiet(&self, taken_ns: i64) -> bool {
        let quiet = |time: i64| time.saturating_add(QUIET_NS) < taken_ns;
        quiet(self.mtime_ns) && quiet(self.ctime_ns)
    }
}

/// A change and a look at it this close to each other prove nothing (nanoseconds).
const QUIET_NS: i64 = 2_000_000_000;

/// The number of a root and a path beneath it.
pub type Key = (u32, Vec<u8>);

/// What a tree held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What stands above.
    pub head: Head,
    /// By root and path.
    pub items: BTreeMap<Key, Item>,
}

/// What happened to a path between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It came.
    Created,
    /// Its bytes, its mode or its kind changed.
    Modified,
    /// It went.
    Deleted,
}

impl Difference {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

/// What differs between two moments, in the order of paths. `same` is asked about files whose stamps differ or prove
/// nothing: whether their bytes are the same after all.
pub fn differences<'m>(
    old: &'m Manifest,
    new: &'m Manifest,
    same: &mut dyn FnMut(&Key, &Item, &Item) -> bool,
) -> Vec<(&'m Key, Difference)> {
    let mut found = Vec::new();
    for (key, before) in &old.items {
        match new.items.get(key) {
            None => found.push((key, Difference::Deleted)),
            Some(after) => {
                let alike = match (before.what, after.what) {
                    // Folders change with what is in them: that is told there.
                    (What::Folder, What::Folder) => before.mode == after.mode,
                    (What::Link, What::Link) => before.target == after.target,
                    (What::File, What::File) => {
                        before.mode == after.mode
                            && (before.same_stamp(after) && before.is_quiet(old.head.taken_ns)
                                || before.size == after.size && same(key, before, after))
                    }
                    _ => false,
                };
                if !alike {
                    found.push((key, Difference::Modified));
                }
            }
        }
    }
    found.extend(
        new.items.keys().filter(|key| !old.items.contains_key(*key)).map(|key| (key, Difference::Created)),
    );
    found.sort_unstable_by(|a, b| a.0.cmp(b.0));
    found
}

// ── as text ─────────────────────────────────────────────────────────────────────────────────────

/// A manifest as text.
pub fn write(manifest: &Manifest) -> Vec<u8> {
    let mut text = serde_json::to_vec(&manifest.head).unwrap_or_default();
    text.push(b'\n');
    for ((root, path), item) in &manifest.items {
        let what = match item.what {
            What::File => 'f',
            What::Folder => 'd',
            What::Link => 'l',
        };
        let hash = item.hash.map_or_else(|| "-".to_owned(), |hash| hex(&hash));
        let kept =
            item.kept.map_or_else(|| "-".to_owned(), |kept| format!("{}:{}", kept.segment, kept.offset));
        let (mode, size, mtime, ctime, ino, dev) =
            (item.mode, item.size, item.mtime_ns, item.ctime_ns, item.ino, item.dev);
        let fields =
            format!("{what}\t{mode:o}\t{size}\t{mtime}\t{ctime}\t{ino}\t{dev}\t{hash}\t{kept}\t{root}\t");
        text.extend_from_slice(fields.as_bytes());
        escape(&item.target, &mut text);
        text.push(b'\t');
        escape(path, &mut text);
        text.push(b'\n');
    }
    text
}

/// The head of a manifest alone.
pub fn read_head(text: &[u8]) -> Option<Head> {
    let line = text.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(line).ok().filter(|head: &Head| head.version == VERSION)
}

/// A manifest from its text; `None` when it is none, or was cut off.
pub fn read(text: &[u8]) -> Option<Manifest> {
    let head = read_head(text)?;
    let mut items = BTreeMap::new();
    let body = text.strip_suffix(b"\n")?;
    for line in body.split(|byte| *byte == b'\n').skip(1) {
        if items.len() >= ITEMS_MAX {
            return None;
        }
        let (key, item) = read_item(line)?;
        items.insert(key, item);
    }
    Some(Manifest { head, items })
}

fn read_item(line: &[u8]) -> Option<(Key, Item)> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let what = match text()? {
        "f" => What::File,
        "d" => What::Folder,
        "l" => What::Link,
        _ => return None,
    };
    let mode = u32::from_str_radix(text()?, 8).ok()?;
    let (size, mtime_ns, ctime_ns) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?.parse().ok()?);
    let (ino, dev) = (text()?.parse().ok()?, text()?.parse().ok()?);
    let hash = match text()? {
        "-" => None,
        digits => Some(unhex(digits)?),
    };
    let kept = match text()? {
        "-" => None,
        place => {
            let (segment, offset) = place.split_once(':')?;
            Some(Kept { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        }
    };
    let root = text()?.parse().ok()?;
    let (target, path) = (unescape(fields.next()?)?, unescape(fields.next()?)?);
    Some(((root, path), Item { what, mode, size, mtime_ns, ctime_ns, ino, dev, hash, kept, target }))
}

/// Bytes as digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn escape(bytes: &[u8], text: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\t' => text.extend_from_slice(b"%09"),
            b'\n' => text.extend_from_slice(b"%0a"),
            b'%' => text.extend_from_slice(b"%25"),
            other => text.push(*other),
        }
    }
}

fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.iter());
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = [*rest.next()?, *rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(what: What, size: u64) -> Item {
        let (mtime_ns, ctime_ns) = (5, 6);
        let (hash, kept) = (Some([7; 32]), Some(Kept { segment: 1, offset: 9 }));
        Item {
            what,
            mode: 0o644,
            size,
            mtime_ns,
            ctime_ns,
            ino: 3,
            dev: 4,
            hash,
            kept,
            target: b"x\ty".to_vec(),
        }
    }

    fn manifest(items: &[(&[u8], Item)]) -> Manifest {
        let head = Head {
            version: VERSION,
            id: "a".to_owned(),
            label: "l\n".to_owned(),
            taken_ns: 10_000_000_000,
            roots: vec!["/r".to_owned()],
            ignores: true,
            segments: Vec::new(),
            files: 0,
            bytes: 0,
            written_bytes: 0,
            method: "none".to_owned(),
            took_ms: 0,
            skipped: Vec::new(),
        };
        Manifest {
            head,
            items: items.iter().map(|(path, item)| ((0, path.to_vec()), item.clone())).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_cut_off_is_refused() {
        let whole = manifest(&[(b"a\nb%\xff", item(What::File, 1)), (b"c", item(What::Link, 0))]);
        let text = write(&whole);
        assert_eq!(read(&text).unwrap(), whole);
        assert_eq!(read(&text[..text.len() - 1]), None);
        assert_eq!(read(&text[..text.len() - 30]), None);
        assert_eq!(read(b"{}\n"), None);
    }

    #[test]
    fn a_stamp_that_proves_nothing_is_asked_about() {
        let old = manifest(&[(b"quiet", item(What::File, 1)), (b"gone", item(What::File, 1))]);
        let mut young = item(What::File, 1);
        young.ctime_ns = 9_500_000_000;
        let mut before = old.clone();
        before.items.insert((0, b"young".to_vec()), young.clone());
        let mut after = manifest(&[(b"quiet", item(What::File, 1)), (b"new", item(What::File, 1))]);
        after.items.insert((0, b"young".to_vec()), young);
        let mut asked = Vec::new();
        let found = differences(&before, &after, &mut |key, _, _| {
            asked.push(key.1.clone());
            false
        });
        assert_eq!(asked, [b"young".to_vec()]);
        let found: Vec<_> = found.iter().map(|(key, what)| (key.1.as_slice(), *what)).collect();
        let wanted: [(&[u8], _); 3] =
            [(b"gone", Difference::Deleted), (b"new", Difference::Created), (b"young", Difference::Modified)];
        assert_eq!(found, wanted);
    }
}
