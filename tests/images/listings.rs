//! What our reader finds in an archive is what GNU tar and bsdtar find in it, or it refuses: where readers
//! disagree, what one checks is not what another unpacks.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cuddy::image::header::Kind;
use cuddy::image::tar::Reader;

use crate::images::formats::{Tree, WRITERS};
use crate::images::mutations::{Chance, corpus, mutated};
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
    let is_link = |mark: &[u8]| name.windows(mark.len()).any(|part| part == mark);
    // bsdtar takes the kind of a hard link from its mode when that says one.
    let kind = if !matches!(kind, '-' | 'l') && is_link(b" link to ") { 'h' } else { kind };
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
    let real = WRITERS.iter().map(|writer| (writer.to_string(), tree.pack(writer), mutations));
    let small = corpus("layers").into_iter().map(|(name, archive)| (name, archive, mutations / 3));
    let mut archives: Vec<_> = real.chain(small).collect();
    let ours_too = Tar::default().pax(&[("path", b"p/long"), ("size", b"3")]).file("x", "abc");
    let ours_too = ours_too.file("y", "123").dir("z/").hard_link("h", "y").end();
    archives.push(("by hand".to_owned(), ours_too, mutations));
    for (writer, archive, mutations) in archives {
        for number in 0..=mutations {
            let bytes = if number == 0 { archive.clone() } else { mutated(&archive, &mut chance) };
            let Some(ours) = ours(&bytes) else {
                let is_real = writer.contains("tar --format");
                assert!(number > 0 || !is_real, "what {writer} made was refused");
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
            // What is short can be read off the failure and put into the corpus.
            let shown = bytes.get(..if bytes.len() < 4096 { 1024 } else { 0 }).unwrap_or_default();
            different.push(format!(
                "{writer}, mutation {number}: {}\n  GNU {} {gnu_said}  bsd {} {bsd_said}",
                shown.escape_ascii(),
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
