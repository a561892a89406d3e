//! Pure: a configuration as one tree, whatever language it was written in, and the place of every value.
//!
//! Readers of formats see only this tree. It knows no format, and fills in no placeholder.

use std::fmt;
use std::path::PathBuf;

/// Largest configuration file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most values of one file, what an alias stands for counted each time.
pub const VALUES_MAX: usize = 50_000;
/// How deep values may lie in each other.
pub const DEPTH_MAX: usize = 40;
/// Most mistakes of one file that are told.
pub const MISTAKES_MAX: usize = 100;
/// Longest piece of a foreign name that a message repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Where something was written, for a person who will change it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// The keys that lead to it: `mcpServers.files.args[2]`.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, ": `{}`", self.key) }
    }
}

/// A line and a character of it, both from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The character.
    pub column: u32,
}

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub spot: Spot,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Node>),
    /// Values by name, in the order they were written; each name once.
    Map(Vec<(Key, Node)>),
}

/// The name of a value in a map, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name.
    pub name: String,
    /// Where it begins.
    pub spot: Spot,
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl Value {
    /// What it is, for a message.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
        }
    }
}

impl Node {
    /// The value under `name`, when this is a map that has it.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node)
    }

    /// The text, when it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The entries, when it is a map.
    pub fn entries(&self) -> Option<&[(Key, Self)]> {
        if let Value::Map(entries) = &self.value { Some(entries) } else { None }
    }

    /// The values, when it is a list.
    pub fn items(&self) -> Option<&[Self]> {
        if let Value::List(items) = &self.value { Some(items) } else { None }
    }
}

/// One file as a tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file, as it was named.
    pub file: PathBuf,
    /// What it says.
    pub root: Node,
}

impl Document {
    /// The place of a value of this document.
    pub fn place(&self, node: &Node) -> Place {
        let mut trail = Vec::new();
        find(&self.root, node, &mut trail);
        self.at(node.spot, path_text(&trail))
    }

    /// The place of the name of a value, inside a map of this document.
    pub fn place_of_key(&self, map: &Node, key: &Key) -> Place {
        let mut trail = Vec::new();
        find(&self.root, map, &mut trail);
        trail.push(Step::Name(&key.name));
        self.at(key.spot, path_text(&trail))
    }

    fn at(&self, spot: Spot, key: String) -> Place {
        Place { file: self.file.clone(), line: spot.line, column: spot.column, key }
    }
}

enum Step<'d> {
    Name(&'d str),
    Index(usize),
}

/// The steps from `from` to `wanted`; by identity, for equal values stand at many places.
fn find<'d>(from: &'d Node, wanted: &Node, trail: &mut Vec<Step<'d>>) -> bool {
    if std::ptr::eq(from, wanted) {
        return true;
    }
    let mut try_step = |step, inner| {
        trail.push(step);
        find(inner, wanted, trail) || {
            trail.pop();
            false
        }
    };
    match &from.value {
        Value::Map(entries) => entries.iter().any(|(key, inner)| try_step(Step::Name(&key.name), inner)),
        Value::List(items) => items.iter().enumerate().any(|(n, inner)| try_step(Step::Index(n), inner)),
        _ => false,
    }
}

fn path_text(trail: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in trail {
        match step {
            Step::Index(n) => text.push_str(&format!("[{n}]")),
            Step::Name(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '/');
                if !name.is_empty() && name.chars().all(plain) {
                    text.push_str(&shown(name));
                } else {
                    text.push_str(&format!("{:?}", shown(name)));
                }
            }
        }
    }
    text
}

/// A foreign text, short enough for a message.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Something in a configuration that its writer should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What is wrong there.
    pub what: String,
    /// What would be right.
    pub right: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if let Some(right) = &self.right { write!(f, "; {right}") } else { Ok(()) }
    }
}

/// Why a text is no document of its language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Where.
    pub spot: Spot,
    /// What is wrong there.
    pub what: String,
    /// What would be right.
    pub right: Option<String>,
}

impl Malformed {
    /// A text that is wrong at one spot.
    pub fn new(spot: Spot, what: impl Into<String>) -> Self {
        Self { spot, what: what.into(), right: None }
    }
}

/// Counts values and depth while a tree grows.
#[derive(Debug, Default)]
pub struct Growth {
    values: usize,
}

impl Growth {
    /// One value more, so deep.
    ///
    /// # Errors
    /// [`Malformed`] when it is one too many, or too deep.
    pub fn add(&mut self, spot: Spot, depth: usize) -> Result<(), Malformed> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Malformed::new(spot, format!("more than {VALUES_MAX} values")));
        }
        if depth > DEPTH_MAX {
            return Err(Malformed::new(spot, format!("values lie more than {DEPTH_MAX} deep in each other")));
        }
        Ok(())
    }
}

/// Refuses a second key of one name: readers of one file disagree about which of them counts.
///
/// # Errors
/// [`Malformed`] at the second one.
pub fn each_key_once(entries: &[(Key, Node)]) -> Result<(), Malformed> {
    let mut seen = std::collections::BTreeMap::new();
    for (key, _) in entries {
        if let Some(first) = seen.insert(key.name.as_str(), key.spot) {
            let what = format!("the key `{}` stands here for the second time", shown(&key.name));
            let right = Some(format!("keep one of them: the first is in line {}", first.line));
            return Err(Malformed { spot: key.spot, what, right });
        }
    }
    Ok(())
}

/// Bytes of a text into lines and characters.
#[derive(Debug)]
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// The lines of a text.
    pub fn of(text: &'t str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after).collect() }
    }

    /// The line and character of a byte; of the end for one behind it.
    pub fn spot(&self, byte: usize) -> Spot {
        let byte = byte.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= byte);
        let start = line.checked_sub(1).and_then(|n| self.starts.get(n)).copied().unwrap_or_default();
        let within = self.text.get(start..byte).map_or(0, |text| text.chars().count());
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Spot { line: number(line), column: number(within + 1) }
    }
}
