//! Pure: typed values out of a document, every mistake noted with its place and none of them the last.
//!
//! Readers of formats ask a table for what they know; what nobody asked for is told at the end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use crate::engine::config::document::{Document, Key, MISTAKES_MAX, Mistake, Node, Place, Value, shown};
use crate::engine::config::variables::{Dialect, Surroundings, fill};

/// What is done about a key that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// It is a mistake: the format is ours.
    Mistake,
    /// It is remarked: the format is somebody else's, and grows.
    Remark,
}

/// Reads one document.
#[derive(Debug)]
pub struct Reader<'d> {
    /// What is read.
    pub document: &'d Document,
    /// What placeholders stand for.
    pub surroundings: &'d Surroundings,
    /// Which placeholders there are.
    pub dialect: Dialect,
    /// What is done about keys that nobody asked for.
    pub unknown: Unknown,
    /// The folder that relative paths begin at.
    pub base: PathBuf,
    mistakes: RefCell<Vec<Mistake>>,
    remarks: RefCell<Vec<Mistake>>,
    overflow: Cell<usize>,
}

impl<'d> Reader<'d> {
    /// A reader that has found nothing yet.
    pub fn new(
        document: &'d Document,
        surroundings: &'d Surroundings,
        dialect: Dialect,
        unknown: Unknown,
        base: PathBuf,
    ) -> Self {
        let (mistakes, remarks) = (RefCell::default(), RefCell::default());
        Self { document, surroundings, dialect, unknown, base, mistakes, remarks, overflow: Cell::new(0) }
    }

    /// What was wrong, and what should be known.
    pub fn finish(self) -> (Vec<Mistake>, Vec<Mistake>) {
        let mut mistakes = self.mistakes.into_inner();
        if self.overflow.get() > 0 {
            let place = Place { file: self.document.file.clone(), line: 1, column: 1, key: String::new() };
            let what = format!("{} more, which are not shown", self.overflow.get());
            mistakes.push(Mistake { place, what, right: None });
        }
        (mistakes, self.remarks.into_inner())
    }

    /// Whether a mistake was found so far.
    pub fn has_mistakes(&self) -> bool {
        !self.mistakes.borrow().is_empty()
    }

    fn note(&self, list: &RefCell<Vec<Mistake>>, mistake: Mistake) {
        let mut list = list.borrow_mut();
        // What holds for many servers is read for each of them.
        if list.contains(&mistake) {
            return;
        }
        if list.len() < MISTAKES_MAX {
            list.push(mistake);
        } else {
            self.overflow.set(self.overflow.get() + 1);
        }
    }

    /// Notes that a value is wrong, and what would be right.
    pub fn mistake(&self, node: &Node, what: impl Into<String>, right: impl Into<String>) {
        let (place, right) = (self.document.place(node), right.into());
        let right = Some(right).filter(|right| !right.is_empty());
        self.note(&self.mistakes, Mistake { place, what: what.into(), right });
    }

    /// Notes that a key is wrong, and what would be right.
    pub fn mistake_at_key(&self, map: &Node, key: &Key, what: impl Into<String>, right: impl Into<String>) {
        let place = self.document.place_of_key(map, key);
        self.note(&self.mistakes, Mistake { place, what: what.into(), right: Some(right.into()) });
    }

    /// Notes something that should be known and stops nothing.
    pub fn remark(&self, node: &Node, what: impl Into<String>) {
        let place = self.document.place(node);
        self.note(&self.remarks, Mistake { place, what: what.into(), right: None });
    }

    /// The same about a key.
    pub fn remark_at_key(&self, map: &Node, key: &Key, what: impl Into<String>) {
        let place = self.document.place_of_key(map, key);
        self.note(&self.remarks, Mistake { place, what: what.into(), right: None });
    }

    fn wrong(&self, node: &Node, expected: &str) {
        self.mistake(
            node,
            format!("{} where {expected} belongs", node.value.noun()),
            format!("write {expected}"),
        );
    }

    /// A text, its placeholders filled in.
    pub fn text(&self, node: &Node) -> Option<String> {
        let Some(text) = node.text() else {
            self.wrong(node, "text");
            return None;
        };
        match fill(text, self.dialect, self.surroundings) {
            Ok(text) => Some(text),
            Err(unfilled) => {
                self.mistake(node, unfilled.what, unfilled.right);
                None
            }
        }
    }

    /// A text, or a number or boolean as it was written.
    pub fn loose_text(&self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Integer(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => self.text(node),
        }
    }

    /// The texts of a list; what is none is left out and noted.
    pub fn texts(&self, node: &Node) -> Option<Vec<String>> {
        let Some(items) = node.items() else {
            self.wrong(node, "a list of text");
            return None;
        };
        Some(items.iter().filter_map(|item| self.loose_text(item)).collect())
    }

    /// Names and texts of a map.
    pub fn pairs(&self, node: &Node) -> Option<BTreeMap<String, String>> {
        let Some(entries) = node.entries() else {
            self.wrong(node, "a table of names and text");
            return None;
        };
        let pair = |(key, value): &(Key, Node)| Some((key.name.clone(), self.loose_text(value)?));
        Some(entries.iter().filter_map(pair).collect())
    }

    /// A path: `~/` is the home folder, a relative one begins at the reader's base.
    pub fn path(&self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        self.path_of(node, &text)
    }

    /// The path that a text of `node` means.
    pub fn path_of(&self, node: &Node, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            self.mistake(node, "an empty path", "name a folder or file, or leave it out");
            return None;
        }
        let path = match (text.strip_prefix('~'), &self.surroundings.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            (Some(rest), None) if rest.is_empty() || rest.starts_with('/') => {
                self.mistake(node, "`~` stands for no folder: no home folder is known", "write the path");
                return None;
            }
            // A placeholder that stays becomes a whole path when it is filled in.
            _ if text.starts_with("${") => PathBuf::from(text),
            _ => self.base.join(text),
        };
        Some(tidy(&path))
    }

    /// The table that a value is.
    pub fn table(&self, node: &'d Node) -> Option<Table<'_, 'd>> {
        if node.entries().is_some() {
            return Some(Table { reader: self, node, asked: RefCell::default() });
        }
        self.wrong(node, "a table");
        None
    }
}

/// A path without `.` and doubled `/`; `..` stays, for behind a link it is another folder.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// A map that is being read.
#[derive(Debug)]
pub struct Table<'r, 'd> {
    /// Who reads.
    pub reader: &'r Reader<'d>,
    /// The map.
    pub node: &'d Node,
    asked: RefCell<Vec<&'static str>>,
}

impl<'r, 'd> Table<'r, 'd> {
    /// The value of a name that is known; what is null counts as not there.
    pub fn node(&self, name: &'static str) -> Option<&'d Node> {
        self.asked.borrow_mut().push(name);
        self.node.get(name).filter(|node| node.value != Value::Null)
    }

    /// Its entries.
    pub fn entries(&self) -> &'d [(Key, Node)] {
        self.node.entries().unwrap_or_default()
    }

    /// Names that are known and mean nothing to us.
    pub fn pass_over(&self, names: &[&'static str]) {
        self.asked.borrow_mut().extend(names);
    }

    /// A text.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.reader.text(self.node(name)?)
    }

    /// A list of texts.
    pub fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        self.reader.texts(self.node(name)?)
    }

    /// A table of names and texts; empty when it is not there.
    pub fn pairs(&self, name: &'static str) -> BTreeMap<String, String> {
        self.node(name).and_then(|node| self.reader.pairs(node)).unwrap_or_default()
    }

    /// A path.
    pub fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.reader.path(self.node(name)?)
    }

    /// A list of paths; empty when it is not there.
    pub fn paths(&self, name: &'static str) -> Vec<PathBuf> {
        let Some(node) = self.node(name) else { return Vec::new() };
        match node.items() {
            Some(items) => items.iter().filter_map(|item| self.reader.path(item)).collect(),
            None => {
                self.reader.wrong(node, "a list of paths");
                Vec::new()
            }
        }
    }

    /// A boolean.
    pub fn truth(&self, name: &'static str) -> Option<bool> {
        let node = self.node(name)?;
        if let Value::Bool(truth) = node.value {
            return Some(truth);
        }
        self.reader.wrong(node, "`true` or `false`");
        None
    }

    /// A whole number within a range.
    pub fn whole(&self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(name)?;
        let number = match node.value {
            Value::Integer(number) => u64::try_from(number).ok().filter(|number| range.contains(number)),
            _ => None,
        };
        if number.is_none() {
            self.reader.wrong(node, &format!("a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// A number of seconds, whole or not, as milliseconds; at most `seconds_max`.
    pub fn seconds_as_ms(&self, name: &'static str, seconds_max: u32) -> Option<u64> {
        let node = self.node(name)?;
        let seconds = match node.value {
            Value::Integer(number) => u32::try_from(number).ok().map(f64::from),
            Value::Float(number) => Some(number),
            _ => None,
        };
        let ms = seconds.filter(|s| *s > 0.0 && *s <= f64::from(seconds_max)).and_then(milliseconds);
        if ms.is_none() {
            self.reader.wrong(node, &format!("a number of seconds, more than 0 and at most {seconds_max}"));
        }
        ms
    }

    /// One of some words, and what it means.
    pub fn word<T: Clone>(&self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let node = self.node(name)?;
        let found = node.text().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
            let have = node.text().map_or(node.value.noun().to_owned(), |text| format!("`{}`", shown(text)));
            self.reader.mistake(node, format!("{have} is none of its values"), format!("write {list}"));
        }
        found.map(|(_, meaning)| meaning.clone())
    }

    /// A table in this one.
    pub fn table(&self, name: &'static str) -> Option<Table<'r, 'd>> {
        self.reader.table(self.node(name)?)
    }

    /// Notes every key that nobody asked for.
    pub fn close(self) {
        let unknown = self.reader.unknown;
        self.close_as(unknown);
    }

    /// The same for a table in our words inside of a foreign format.
    pub fn close_ours(self) {
        self.close_as(Unknown::Mistake);
    }

    fn close_as(self, unknown: Unknown) {
        let asked = self.asked.into_inner();
        for (key, _) in self.node.entries().unwrap_or_default() {
            if asked.contains(&key.name.as_str()) {
                continue;
            }
            let near = nearest(&key.name, &asked);
            let right = near.map(|near| format!("`{near}` is known"));
            let what = format!("`{}` is not known here", shown(&key.name));
            match unknown {
                Unknown::Mistake => {
                    let right = right.unwrap_or_else(|| "remove it".to_owned());
                    self.reader.mistake_at_key(self.node, key, what, right);
                }
                Unknown::Remark => {
                    let right = right.map(|right| format!("; {right}")).unwrap_or_default();
                    self.reader.remark_at_key(self.node, key, format!("{what}, and has no effect{right}"));
                }
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds are positive and at most those of a u32"
)]
fn milliseconds(seconds: f64) -> Option<u64> {
    Some((seconds * 1000.0).ceil() as u64).filter(|ms| *ms > 0)
}

/// The known name that somebody may have meant.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.to_lowercase().replace(['_', '-'], "");
    let name = plain(&shown(name));
    let distance = |other: &str| edits(&name, &plain(other));
    known.iter().copied().map(|k| (distance(k), k)).filter(|(d, k)| *d <= k.len() / 3).min().map(|(_, k)| k)
}

/// How many letters must be put in, taken out or changed.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::from_toml;

    fn with(text: &str, unknown: Unknown, look: impl Fn(&Table<'_, '_>)) -> (Vec<String>, Vec<String>) {
        let document = Document { file: "f.toml".into(), root: from_toml::parse(text).unwrap() };
        let surroundings =
            Surroundings { home: Some("/home/me".into()), workspace: "/w".into(), ..Surroundings::default() };
        let reader = Reader::new(&document, &surroundings, Dialect::Braces, unknown, "/base".into());
        let table = reader.table(&document.root).unwrap();
        look(&table);
        table.close();
        let (mistakes, remarks) = reader.finish();
        let lines = |list: Vec<Mistake>| list.iter().map(ToString::to_string).collect();
        (lines(mistakes), lines(remarks))
    }

    #[test]
    fn every_mistake_has_its_place_and_what_would_be_right() {
        let text = "n = 'x'\nt = 1\nw = 'c'\ns = 0\nl = ['${NONE}']\ncomand = ''\n";
        let (mistakes, _) = with(text, Unknown::Mistake, |table| {
            assert_eq!(table.whole("n", 1..=5), None);
            assert_eq!(table.truth("t"), None);
            assert_eq!(table.word("w", &[("a", 1), ("b", 2)]), None);
            assert_eq!(table.seconds_as_ms("s", 10), None);
            assert_eq!(table.texts("l"), Some(Vec::new()));
            assert_eq!(table.text("command"), None);
        });
        let expected = [
            "f.toml:1:5: `n`: text where a whole number from 1 to 5 belongs; write a whole number from 1 to 5",
            "f.toml:2:5: `t`: a whole number where `true` or `false` belongs; write `true` or `false`",
            "f.toml:3:5: `w`: `c` is none of its values; write `a` or `b`",
            "f.toml:4:5: `s`: a whole number where a number of seconds, more than 0 and at most 10 belongs; \
             write a number of seconds, more than 0 and at most 10",
            "f.toml:5:6: `l[0]`: the variable `NONE` is not set; set it where cuddy is started, or write \
             `${NONE:-default}`",
            "f.toml:6:1: `comand`: `comand` is not known here; `command` is known",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn an_unknown_key_of_a_foreign_format_is_remarked() {
        let (mistakes, remarks) = with("x = 1", Unknown::Remark, |_| {});
        assert!(mistakes.is_empty());
        assert_eq!(remarks, ["f.toml:1:1: `x`: `x` is not known here, and has no effect"]);
    }

    #[test]
    fn paths_begin_at_the_base_and_a_tilde_is_the_home_folder() {
        let (mistakes, _) = with(
            "p = ['a/./b', '/c//d', '~/e', '~', '${workspaceFolder}/f', '']",
            Unknown::Mistake,
            |table| {
                let paths = ["/base/a/b", "/c/d", "/home/me/e", "/home/me", "/w/f"].map(PathBuf::from);
                assert_eq!(table.paths("p"), paths);
            },
        );
        assert_eq!(mistakes.len(), 1);
    }

    #[test]
    fn the_number_of_mistakes_has_an_end() {
        let text: String = (0..500).map(|n| format!("k{n} = 1\n")).collect();
        let (mistakes, _) = with(&text, Unknown::Mistake, |_| {});
        assert_eq!(mistakes.len(), MISTAKES_MAX + 1);
        assert!(mistakes[MISTAKES_MAX].contains("400 more"));
    }
}
