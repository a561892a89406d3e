//! Pure: what an ELF program asks the loader for: its interpreter, its libraries, where they lie.
//!
//! It reads through a function, because a program may be hundreds of megabytes and what is asked
//! is some hundred bytes. It does not look for the libraries: that is `engine::program`.

/// The most program headers that are looked at; the kernel itself stops at 64 KiB of them.
const HEADERS_MAX: usize = 1024;
/// The longest interpreter path in bytes, the kernel's PATH_MAX.
const INTERPRETER_BYTES_MAX: usize = 4096;
/// The largest dynamic section in bytes that is looked at.
const DYNAMIC_BYTES_MAX: usize = 64 * 1024;
/// The longest string of the dynamic section in bytes.
const STRING_BYTES_MAX: usize = 8 * 1024;
/// The most libraries one file may ask for.
const NEEDED_MAX: usize = 256;

/// What one ELF file asks the loader for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The loader's path (`PT_INTERP`); a static program has none.
    pub interpreter: Option<Vec<u8>>,
    /// The names of the libraries (`DT_NEEDED`), in the file's order.
    pub needed: Vec<Vec<u8>>,
    /// Where to look first: `DT_RUNPATH`, or `DT_RPATH` where there is none. `$ORIGIN` is kept.
    pub run_paths: Vec<Vec<u8>>,
}

/// True when `head`, the first bytes of a file, begins an ELF file.
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

/// Reads the headers through `read(offset, length)`, which may give fewer bytes at the file's end
/// and `None` when it cannot read.
///
/// `None` means that the headers do not make sense: the loader would refuse the file too.
pub fn parse(mut read: impl FnMut(u64, usize) -> Option<Vec<u8>>) -> Option<Elf> {
    let ident = read(0, 64)?;
    if !is_elf(&ident) {
        return None;
    }
    let layout = Layout { wide: *ident.get(4)? == 2, big: *ident.get(5)? == 2 };
    let (offset, size, count) = layout.program_headers(&ident)?;
    if count > HEADERS_MAX || size != layout.header_bytes() {
        return None;
    }
    let table = read(offset, size.checked_mul(count)?)?;
    let segments: Vec<Segment> =
        table.chunks_exact(size).take(count).filter_map(|header| layout.segment(header)).collect();

    let mut elf = Elf::default();
    if let Some(segment) = segments.iter().find(|s| s.kind == Segment::INTERPRETER) {
        let length = usize::try_from(segment.size).ok()?.min(INTERPRETER_BYTES_MAX);
        elf.interpreter = Some(until_nul(&read(segment.offset, length)?).to_vec());
    }
    if let Some(segment) = segments.iter().find(|s| s.kind == Segment::DYNAMIC) {
        let length = usize::try_from(segment.size).ok()?.min(DYNAMIC_BYTES_MAX);
        let bytes = read(segment.offset, length)?;
        layout.dynamic(&bytes, &segments, &mut read, &mut elf)?;
    }
    Some(elf)
}

/// One program header.
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

impl Segment {
    const LOAD: u64 = 1;
    const DYNAMIC: u64 = 2;
    const INTERPRETER: u64 = 3;
}

/// How numbers lie in this file: 32 or 64 bits, and which end first.
struct Layout {
    wide: bool,
    big: bool,
}

impl Layout {
    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.big { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) })
    }

    fn header_bytes(&self) -> usize {
        if self.wide { 56 } else { 32 }
    }

    /// Offset of the program headers, bytes of one, how many.
    fn program_headers(&self, ident: &[u8]) -> Option<(u64, usize, usize)> {
        let (offset, size, count) = if self.wide {
            (self.number(ident, 32, 8)?, self.number(ident, 54, 2)?, self.number(ident, 56, 2)?)
        } else {
            (self.number(ident, 28, 4)?, self.number(ident, 42, 2)?, self.number(ident, 44, 2)?)
        };
        Some((offset, usize::try_from(size).ok()?, usize::try_from(count).ok()?))
    }

    fn segment(&self, header: &[u8]) -> Option<Segment> {
        let word = if self.wide { 8 } else { 4 };
        let [offset, address, size] = if self.wide { [8, 16, 32] } else { [4, 8, 16] };
        Some(Segment {
            kind: self.number(header, 0, 4)?,
            offset: self.number(header, offset, word)?,
            address: self.number(header, address, word)?,
            size: self.number(header, size, word)?,
        })
    }

    fn dynamic(
        &self,
        bytes: &[u8],
        segments: &[Segment],
        read: &mut impl FnMut(u64, usize) -> Option<Vec<u8>>,
        elf: &mut Elf,
    ) -> Option<()> {
        const NEEDED: u64 = 1;
        const STRINGS: u64 = 5;
        const RPATH: u64 = 15;
        const RUNPATH: u64 = 29;
        let word = if self.wide { 8 } else { 4 };
        let entries: Vec<(u64, u64)> = bytes
            .chunks_exact(2 * word)
            .filter_map(|entry| Some((self.number(entry, 0, word)?, self.number(entry, word, word)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        // The table is named by the address it is loaded at; the file has it at the segment's offset.
        let Some((_, address)) = entries.iter().find(|(tag, _)| *tag == STRINGS) else { return Some(()) };
        let home = segments
            .iter()
            .find(|s| s.kind == Segment::LOAD && *address >= s.address && address - s.address < s.size)?;
        let strings = (address - home.address).checked_add(home.offset)?;
        let mut string = |at: u64| {
            let bytes = read(strings.checked_add(at)?, STRING_BYTES_MAX)?;
            Some(until_nul(&bytes).to_vec())
        };
        let mut values = |wanted: u64| -> Option<Vec<Vec<u8>>> {
            let found = entries.iter().filter(|(tag, _)| *tag == wanted).take(NEEDED_MAX);
            found.map(|(_, at)| string(*at)).collect()
        };
        elf.needed = values(NEEDED)?;
        let mut paths = values(RUNPATH)?;
        if paths.is_empty() {
            paths = values(RPATH)?;
        }
        let folders = paths.iter().flat_map(|list| list.split(|byte| *byte == b':'));
        elf.run_paths = folders.filter(|folder| !folder.is_empty()).map(<[u8]>::to_vec).collect();
        Some(())
    }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// `folder` with `$ORIGIN` (or `${ORIGIN}`) put as the folder of the file that names it.
///
/// `None` for what only the loader knows: `$LIB` and `$PLATFORM`.
pub fn expand_origin(folder: &[u8], origin: &[u8]) -> Option<Vec<u8>> {
    let mut expanded = Vec::new();
    let mut rest = folder;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        expanded.extend_from_slice(&rest[..at]);
        rest =
            [b"$ORIGIN".as_slice(), b"${ORIGIN}"].iter().find_map(|name| rest[at..].strip_prefix(*name))?;
        expanded.extend_from_slice(origin);
    }
    expanded.extend_from_slice(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_bytes(bytes: &[u8]) -> Option<Elf> {
        parse(|offset, length| {
            let start = usize::try_from(offset).ok()?.min(bytes.len());
            Some(bytes[start..bytes.len().min(start.saturating_add(length))].to_vec())
        })
    }

    /// A small ELF file: one loaded segment, an interpreter and a dynamic section.
    fn built(wide: bool, big: bool, interpreter: &[u8], dynamic: &[(u64, &[u8])]) -> Vec<u8> {
        const BASE: u64 = 0x40_0000;
        let put = |bytes: &mut Vec<u8>, length: usize, number: u64| {
            let all = number.to_be_bytes();
            let field = &all[8 - length..];
            if big { bytes.extend(field) } else { bytes.extend(field.iter().rev()) }
        };
        let word = if wide { 8 } else { 4 };
        let (start, header) = if wide { (64_u64, 56_u64) } else { (52, 32) };
        let interpreter_at = start + 3 * header;
        let strings_at = interpreter_at + interpreter.len() as u64 + 1;
        let mut strings = vec![0_u8];
        let mut entries = Vec::new();
        for (tag, text) in dynamic {
            entries.push((*tag, strings.len() as u64));
            strings.extend_from_slice(text);
            strings.push(0);
        }
        entries.extend([(5, BASE + strings_at), (0, 0)]);
        let dynamic_at = strings_at + strings.len() as u64;
        let total = dynamic_at + entries.len() as u64 * 2 * word as u64;

        let mut bytes = b"\x7fELF".to_vec();
        bytes.extend([if wide { 2 } else { 1 }, if big { 2 } else { 1 }, 1]);
        bytes.resize(16, 0);
        put(&mut bytes, 2, 3);
        put(&mut bytes, 2, 62);
        put(&mut bytes, 4, 1);
        for number in [0, start, 0] {
            put(&mut bytes, word, number);
        }
        put(&mut bytes, 4, 0);
        for number in [start, header, 3, 0, 0, 0] {
            put(&mut bytes, 2, number);
        }
        let segments = [
            (1_u64, 0, total),
            (3, interpreter_at, interpreter.len() as u64 + 1),
            (2, dynamic_at, total - dynamic_at),
        ];
        for (kind, at, size) in segments {
            put(&mut bytes, 4, kind);
            if wide {
                put(&mut bytes, 4, 0);
            }
            for number in [at, BASE + at, 0, size, size] {
                put(&mut bytes, word, number);
            }
            if !wide {
                put(&mut bytes, 4, 0);
            }
            put(&mut bytes, word, 0);
        }
        bytes.extend_from_slice(interpreter);
        bytes.push(0);
        bytes.extend_from_slice(&strings);
        for (tag, value) in entries {
            put(&mut bytes, word, tag);
            put(&mut bytes, word, value);
        }
        bytes
    }

    #[test]
    fn every_class_and_byte_order_is_read_the_same() {
        let dynamic = [(1, b"libx.so".as_slice()), (1, b"libc.so.6"), (29, b"$ORIGIN/../lib:/opt/lib")];
        for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
            let elf = parse_bytes(&built(wide, big, b"/lib64/ld.so", &dynamic)).expect("it is well formed");
            assert_eq!(elf.interpreter.as_deref(), Some(b"/lib64/ld.so".as_slice()));
            assert_eq!(elf.needed, [b"libx.so".to_vec(), b"libc.so.6".to_vec()]);
            assert_eq!(elf.run_paths, [b"$ORIGIN/../lib".to_vec(), b"/opt/lib".to_vec()]);
        }
    }

    #[test]
    fn the_older_rpath_counts_only_where_there_is_no_runpath() {
        let both = built(true, false, b"/ld", &[(15, b"/old"), (29, b"/new")]);
        assert_eq!(parse_bytes(&both).unwrap().run_paths, [b"/new".to_vec()]);
        let old = built(true, false, b"/ld", &[(15, b"/old")]);
        assert_eq!(parse_bytes(&old).unwrap().run_paths, [b"/old".to_vec()]);
    }

    #[test]
    fn a_program_of_the_host_names_its_loader_and_the_c_library() {
        let elf = parse_bytes(&std::fs::read("/bin/sh").unwrap()).expect("it is an ELF program");
        let interpreter = elf.interpreter.as_ref().expect("it is linked dynamically");
        assert!(std::path::Path::new(std::str::from_utf8(interpreter).unwrap()).exists());
        assert!(elf.needed.contains(&b"libc.so.6".to_vec()), "{elf:?}");
    }

    #[test]
    fn origin_is_put_and_what_only_the_loader_knows_is_refused() {
        assert_eq!(expand_origin(b"$ORIGIN/../lib", b"/o"), Some(b"/o/../lib".to_vec()));
        assert_eq!(expand_origin(b"${ORIGIN}:$ORIGIN", b"/o"), Some(b"/o:/o".to_vec()));
        assert_eq!(expand_origin(b"/plain", b"/o"), Some(b"/plain".to_vec()));
        assert_eq!(expand_origin(b"/usr/$LIB", b"/o"), None);
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic_and_never_read_without_bound(
            at in 0_usize..400, byte: u8, cut in 0_usize..500, noise in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let mut bytes = built(true, false, b"/lib/ld", &[(1, b"libc.so.6"), (29, b"/x")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let mut asked = 0;
            for bytes in [bytes, [b"\x7fELF".to_vec(), noise].concat()] {
                let elf = parse(|offset, length| {
                    asked = asked.max(length);
                    let start = usize::try_from(offset).ok()?.min(bytes.len());
                    Some(bytes[start..bytes.len().min(start.saturating_add(length))].to_vec())
                });
                prop_assert!(elf.is_none_or(|elf| elf.needed.len() <= NEEDED_MAX));
                prop_assert!(asked <= DYNAMIC_BYTES_MAX.max(HEADERS_MAX * 56));
            }
        }
    }
}
