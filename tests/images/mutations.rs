//! The small inputs in `corpus`, and changes to them that look like chance and are the same in each run.

use std::fs;
use std::path::Path;

/// Every file in a folder of the corpus: its name and its bytes.
pub(crate) fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let file = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    };
    files.iter().map(file).collect()
}

/// Numbers that look like chance and are the same in each run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

/// Changes a few bytes, more often in headers than elsewhere, and often makes the checksums right again.
pub(crate) fn mutated(archive: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    let is_header = |at: &usize| bytes.get(at + 257..at + 262).is_some_and(|magic| magic == b"ustar");
    let headers: Vec<usize> = (0..bytes.len()).step_by(512).filter(is_header).collect();
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

/// Changes text: bytes replaced, pieces cut out, doubled or moved.
pub(crate) fn mutated_text(text: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let pieces: [&[u8]; 12] =
        [b"..", b"/", b"\"", b"{", b"]", b"null", b"-1", b"1e999", b"\\u0000", b":", b"@", b"sha256:"];
    for _ in 0..=chance.next(3) {
        let at = chance.next(bytes.len() + 1);
        let end = (at + chance.next(12)).min(bytes.len());
        match chance.next(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.next(8),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, pieces[chance.next(pieces.len())].iter().copied())),
            _ => {
                let piece = bytes[at..end].to_vec();
                let to = chance.next(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}
