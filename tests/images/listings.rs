//! What our reader finds in an archive is what GNU tar and bsdtar find in it, or it refuses: where readers
//! disagree, what one checks is not what another unpacks.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cuddy::image::header::Kind;
use cuddy::image::tar::Reader;

use crate::images::formats::{Tree, WRITERS};
use crate::{Tar, skipped};

/// Mutations of each archive, when `CUDDY_MUTATIONS` says no other number. The seed is fixed, so each run
/// tries the same ones first.
const MUTATIONS: u64 = 300;

/// An entry as all three can tell it: name, kind and size.
#[derive(Clone, PartialEq, Eq)]
struct Listed {
    name: Vec<u8>,
    kind: char,
    size: u64,
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.escape_ascii().to_string();
        write!(f, "{} {} `{}`", self.kind, self.size, name.get(..60).unwrap_or(&name))
    }
}

impl Listed {
    fn new(name: &[u8], kind: char, size: u64) -> Self {
        let mut parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
        parts.retain(|part| !part.is_empty() && *part != b".");
        // A hard link's size is told by nobody, and only a file has one.
        let size = if kind == '-' { size } else { 0 };
        Self { name: parts.join(&b'/'), kind, size }
    }
}

/// What we find; nothing when we refuse.
fn ours(archive: &[u8]) -> Option<Vec<Listed>> {
    let mut reader = Reader::new(archive);
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().ok()? {
        let kind = match entry.kind {
            Kind::File => '-',
            Kind::HardLink => 'h',
            Kind::Symlink => 'l',
            Kind::CharDevice => 'c',
            Kind::BlockDevice => 'b',
            Kind::Dir => 'd',
            Kind::Fifo => 'p',
        };
        found.push(Listed::new(&entry.path, kind, entry.size));
    }
    Some(found)
}

fn run(program: &str, arguments: &[&str], archive: &Path) -> (Vec<u8>, String) {
    let input = fs::File::open(archive).unwrap();
    let ran = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    (ran.stdout, format!("{} {said}", ran.status))
}

/// A name with `\n`, `\\` and `\ooo` in it as the bytes it stands for.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < name.len() {
        let octal =
            name.get(at + 1..at + 4).filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        match (name[at], name.get(at + 1), octal) {
            (b'\\', _, Some(digits)) => {
                let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
                bytes.push(u8::try_from(value).unwrap());
                at += 4;
            }
            (b'\\', Some(letter), None) => {
                let plain = b"abfnrtv".iter().position(|known| known == letter);
                bytes.push(plain.map_or(*letter, |at| b"\x07\x08\x0c\n\r\t\x0b"[at]));
                at += 2;
            }
            (byte, _, _) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    bytes
}

/// A line of a long listing: the kind, `words` words of which one is the size, the name and its target.
fn listed(line: &[u8], words: usize, size: usize) -> Listed {
    let (kind, mut rest, mut found) = (char::from(line[0]), line, Vec::new());
    for _ in 0..words {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        found.push(std::str::from_utf8(&rest[..end]).unwrap());
        rest = &rest[end..];
    }
    let name = rest.strip_prefix(b" ").unwrap_or(rest);
    let mark: &[u8] = match kind {
        'l' => b" -> ",
        'h' => b" link to ",
        _ => b"",
    };
    let end = (!mark.is_empty()).then(|| name.windows(mark.len()).position(|part| part == mark)).flatten();
    let name = unescaped(&name[..end.unwrap_or(name.len())]);
    Listed::new(&name, if kind == 'C' { '-' } else { kind }, found[size].parse().unwrap_or(0))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// What GNU tar finds, and what it says.
fn gnu(archive: &Path) -> (Vec<Listed>, String) {
    let arguments = ["-tvf", "-", "--quoting-style=escape", "--numeric-owner", "-P"];
    let (out, said) = run("tar", &arguments, archive);
    // Mode, owner, size, date, time.
    (lines(&out).map(|line| listed(line, 5, 2)).collect(), said)
}

/// What bsdtar finds, and what it says.
fn bsd(archive: &Path) -> (Vec<Listed>, String) {
    let (out, said) = run("bsdtar", &["--uid", "0", "--gid", "0", "-tvf", "-"], archive);
    // Mode, links, user, group, size, month, day, time.
    (lines(&out).map(|line| listed(line, 8, 4)).collect(), said)
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

/// Changes a few bytes, more often in headers than elsewhere, and often makes the checksums right again.
fn mutated(archive: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    let headers: Vec<usize> =
        (0..bytes.len()).step_by(512).filter(|at| &bytes[at + 257..at + 262] == b"ustar").collect();
    let interesting =
        [0, b'0', b'1', b'7', b'x', b'L', b'K', b'S', b' ', b'/', b'.', 0x80, 0xff, b'9', b'\n', b'='];
    for _ in 0..=chance.next(3) {
        let header = headers[chance.next(headers.len())];
        let at = match chance.next(6) {
            0 => chance.next(bytes.len()),
            // Size, kind, magic, and the bytes behind a header.
            1 => header + 124 + chance.next(12),
            2 => header + 156,
            3 => header + 257 + chance.next(8),
            4 => (header + 512 + chance.next(512)).min(bytes.len() - 1),
            _ => header + chance.next(512),
        };
        bytes[at] = match chance.next(3) {
            0 => bytes[at] ^ (1 << chance.next(8)),
            1 => interesting[chance.next(interesting.len())],
            _ => u8::try_from(chance.next(256)).unwrap(),
        };
    }
    if chance.next(4) > 0 {
        for at in headers {
            let block = &mut bytes[at..at + 512];
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

#[test]
fn we_list_what_gnu_tar_and_bsdtar_list_or_refuse() {
    if !["tar", "bsdtar"].iter().all(|program| Command::new(program).arg("--version").output().is_ok()) {
        return skipped("bsdtar", "there is no GNU tar or no bsdtar");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("archive.tar");
    let tree = Tree::make(&dir.path().join("tree"));
    let mutations = std::env::var("CUDDY_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let mut chance = Chance(0x5eed_0000_cafe);
    let (mut same, mut refused, mut different) = (0, 0, Vec::new());
    let mut archives: Vec<(String, Vec<u8>)> =
        WRITERS.iter().map(|writer| (writer.to_string(), tree.pack(writer))).collect();
    let ours_too = Tar::default().pax(&[("path", b"p/long"), ("size", b"3")]).file("x", "abc");
    archives.push(("by hand".to_owned(), ours_too.file("y", "123").dir("z/").hard_link("h", "y").end()));
    for (writer, archive) in archives {
        for number in 0..=mutations {
            let bytes = if number == 0 { archive.clone() } else { mutated(&archive, &mut chance) };
            let Some(ours) = ours(&bytes) else {
                assert_ne!(number, 0, "what {writer} made was refused");
                refused += 1;
                continue;
            };
            fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
            let (gnu, gnu_said) = gnu(&file);
            let (bsd, bsd_said) = bsd(&file);
            if ours == gnu && ours == bsd {
                same += 1;
                continue;
            }
            let apart = |theirs: &[Listed]| {
                let at =
                    ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
                format!("entry {at}: ours {:?}, theirs {:?}", ours.get(at), theirs.get(at))
            };
            different.push(format!(
                "{writer}, mutation {number}\n  GNU {} {gnu_said}  bsd {} {bsd_said}",
                if ours == gnu { "same".to_owned() } else { apart(&gnu) },
                if ours == bsd { "same".to_owned() } else { apart(&bsd) },
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{} of {}:\n{}",
        different.len(),
        same + refused + different.len(),
        different.join("\n")
    );
    assert!(same > 500 && refused > 500, "{same} the same, {refused} refused: this tests too little");
}
