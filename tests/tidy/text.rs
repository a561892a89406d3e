//! Rust as text, read just far enough for the laws: code without its words, and the paths it names.
//!
//! It is no parser and knows no law. Macros could hide a path from it; we hardly write any.

/// A path that a file names, `use` groups unfolded and imported names put back to where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Line of the file, from 1.
    pub(crate) line: usize,
    /// `std`, `env`, `var`; a macro keeps its `!`.
    pub(crate) segments: Vec<String>,
    /// Whether a `use` names it.
    pub(crate) imported: bool,
}

impl Named {
    /// Whether it is `prefix` (written with `::`) or something below it.
    pub(crate) fn is_under(&self, prefix: &str) -> bool {
        let mut own = self.segments.iter();
        prefix.split("::").all(|want| own.next().is_some_and(|segment| segment == want))
    }

    /// [`Self::is_under`], unless it is a plain name: a field or a variable may be called anything.
    pub(crate) fn leads_to(&self, prefix: &str) -> bool {
        let plain = self.segments.len() == 1 && !self.imported && !self.segments[0].ends_with('!');
        !plain && self.is_under(prefix)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `text` with comments and the inside of literals turned into spaces: lines and columns stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => text[at..].find('\n').map_or(bytes.len(), |n| at + n),
            [b'/', b'*', ..] => comment_end(bytes, at),
            [b'"', ..] => quoted_end(bytes, at + 1, b'"'),
            [b'r', b'"' | b'#', ..] if at == 0 || !is_word(bytes[at - 1]) || is_prefix(bytes, at) => {
                raw_end(bytes, at)
            }
            [b'\'', b'\\', ..] => quoted_end(bytes, at + 1, b'\''),
            [b'\'', first, ..] if char_end(bytes, at, *first).is_some() => {
                char_end(bytes, at, *first).unwrap_or(at)
            }
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && (at == 1 || !is_word(bytes[at - 2]))
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn raw_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|b| **b == b'#').count();
    let open = start + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return start; // `r#type`, a raw name
    }
    let close: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[open + 1..].windows(close.len()).position(|window| window == close);
    found.map_or(bytes.len(), |n| open + 1 + n + close.len())
}

/// The end of the character literal at `at`; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize, first: u8) -> Option<usize> {
    let wide = match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    (bytes.get(at + 1 + wide) == Some(&b'\'')).then_some(at + wide + 2)
}

/// `code` without the items that stand under `#[cfg(test)]`.
pub(crate) fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let mut depth = 0_usize;
        let end = out[start..].char_indices().find_map(|(n, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (matches!(c, '}' | ';') && depth == 0).then_some(start + n + 1)
        });
        let end = end.unwrap_or(out.len());
        let blank: String = out[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        out.replace_range(start..end, &blank);
    }
    out
}

/// Every path, name and macro in `code`, in order.
pub(crate) fn named(code: &str) -> Vec<Named> {
    let mut reader = Reader { bytes: code.as_bytes(), at: 0, line: 1, found: Vec::new() };
    reader.read();
    let imports: Vec<(String, Vec<String>)> =
        reader.found.iter().filter_map(|(name, item)| Some((name.clone()?, item.segments.clone()))).collect();
    let mut all = Vec::new();
    for (name, item) in reader.found {
        if name.is_none() && item.segments.len() > 1 {
            for (_, origin) in imports.iter().filter(|(name, _)| *name == item.segments[0]) {
                let segments = origin.iter().chain(&item.segments[1..]).cloned().collect();
                all.push(Named { line: item.line, segments, imported: false });
            }
        }
        all.push(item);
    }
    all
}

/// Walks over code; an imported path carries the name it is known by in the file.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    line: usize,
    found: Vec<(Option<String>, Named)>,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn step(&mut self) {
        self.line += usize::from(self.peek(0) == b'\n');
        self.at += 1;
    }

    fn skip(&mut self, unwanted: &[u8]) {
        while self.at < self.bytes.len() && unwanted.contains(&self.peek(0)) {
            self.step();
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while is_word(self.peek(0)) {
            self.at += 1;
        }
        String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()
    }

    fn before(&self, back: usize) -> u8 {
        self.at.checked_sub(back).map_or(b' ', |at| self.bytes[at])
    }

    /// Whether a path can begin here: no field, lifetime or later part of a path.
    fn begins(&self) -> bool {
        match self.before(1) {
            b'\'' => false,
            b'.' => self.before(2) == b'.',
            b':' if self.before(2) == b':' => !is_word(self.before(3)) && self.before(3) != b'>',
            _ => true,
        }
    }

    fn read(&mut self) {
        let mut importing = false;
        while self.at < self.bytes.len() {
            if self.peek(0) == b';' {
                importing = false;
            }
            if !is_word(self.peek(0)) {
                self.step();
            } else if !self.begins() {
                self.word();
            } else if self.bytes[self.at..].starts_with(b"use ") {
                importing = true;
                self.at += 4;
            } else {
                self.tree(Vec::new(), importing);
            }
        }
    }

    fn tree(&mut self, mut segments: Vec<String>, importing: bool) {
        let line = self.line;
        loop {
            self.skip(b" \n\t");
            if self.peek(0) == b'{' {
                self.step();
                self.skip(b" \n\t,");
                while self.at < self.bytes.len() && self.peek(0) != b'}' {
                    self.tree(segments.clone(), importing);
                    self.skip(b" \n\t,");
                }
                return self.step();
            }
            let word = self.word();
            if word.is_empty() {
                self.step();
                return self.found.push((None, Named { line, segments, imported: importing }));
            }
            if word != "self" || segments.is_empty() {
                segments.push(word);
            }
            let next = self.peek(2);
            if self.peek(0) != b':' || self.peek(1) != b':' || !(is_word(next) || matches!(next, b'{' | b'*'))
            {
                break;
            }
            self.at += 2;
        }
        if self.peek(0) == b'!'
            && self.peek(1) != b'='
            && let Some(last) = segments.last_mut()
        {
            last.push('!');
        }
        let name = importing.then(|| self.renamed().or_else(|| segments.last().cloned())).flatten();
        self.found.push((name, Named { line, segments, imported: importing }));
    }

    fn renamed(&mut self) -> Option<String> {
        self.bytes[self.at..].starts_with(b" as ").then(|| {
            self.at += 4;
            self.word()
        })
    }
}

#[test]
fn comments_and_literals_are_no_code_and_lines_stay() {
    let text = "a /* b /* c */ d */ e // f\n\"g\\\"h\" r#\"i\"j\"# 'k' '\\'' 'é' <'l> br\"m\" r#n";
    let code = code(text);
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "e", "<'l>", "b", "r#n"]);
    assert_eq!(code.lines().count(), 2);
    assert_eq!(code.len(), text.len());
}

#[test]
fn what_is_tested_is_told_from_the_tests() {
    let code =
        without_tests("fn a() {}\n#[cfg(test)]\nuse x;\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}");
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["fn", "a()", "{}", "fn", "c()", "{}"]);
}

#[test]
fn groups_are_unfolded_and_imported_names_traced_back() {
    let code = "use std::{\n    env, io::{self, Read as R},\n};\nfn f() { env::var(); x.env; R::read(); ::clap::a!() }";
    let paths: Vec<_> = named(code).iter().map(|n| format!("{}:{}", n.line, n.segments.join("::"))).collect();
    for path in [
        "2:std::env",
        "2:std::io",
        "2:std::io::Read",
        "4:std::env::var",
        "4:std::io::Read::read",
        "4:clap::a!",
    ] {
        assert!(paths.iter().any(|p| p == path), "`{path}` is missing in {paths:?}");
    }
    assert!(!paths.iter().any(|p| p == "4:env"), "a field is no path: {paths:?}");
}
