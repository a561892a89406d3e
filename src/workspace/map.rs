//! A map of a code base within a budget: which signatures matter most, by who refers to whom.
//!
//! Files are nodes; a name that one file uses and another defines is an edge; the rank of a file flows along them, as in
//! a web of pages. What is known of a file is kept under the hash of its bytes, so it is never stale. A name is matched as
//! text: two things of one name share their fame.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::workspace::contents::{Content, Read, Reading, each};
use crate::workspace::index::Index;
use crate::workspace::language::Language;
use crate::workspace::outline::outline;
use crate::workspace::patience::Patience;
use crate::workspace::refusal::Refusal;
use crate::workspace::search::{Place, globs};
use crate::workspace::syntax::PARSE_BYTES_MAX;
use crate::workspace::words;

/// Files of one map.
pub const MAP_FILES_MAX: usize = 20_000;
/// Bytes that are kept of files.
const CACHE_BYTES_MAX: usize = 32 << 20;
/// Different names of one file that count.
const NAMES_MAX: usize = 4096;
/// Symbols of one file that count.
const SYMBOLS_MAX: usize = 512;
/// A name that more files define says nothing about any of them.
const DEFINERS_MAX: usize = 8;
/// Rounds in which rank flows.
const ROUNDS: usize = 20;
/// What flows on; the rest begins anew at what was asked for.
const DAMPING: f64 = 0.85;
/// How much more a file in focus gets than another.
const FOCUS: f64 = 50.0;
/// Bytes of text that are about one token.
const TOKEN_BYTES: usize = 4;

/// What is known of one text.
#[derive(Debug)]
struct Tags {
    symbols: Vec<Tag>,
    /// Hashes of the names in it, and how often.
    names: Vec<(u64, u16)>,
}

#[derive(Debug)]
struct Tag {
    name: u64,
    line: usize,
    depth: usize,
    signature: String,
}

impl Tags {
    fn bytes(&self) -> usize {
        let symbols: usize = self.symbols.iter().map(|tag| tag.signature.len() + size_of::<Tag>()).sum();
        symbols + self.names.len() * size_of::<(u64, u16)>() + 128
    }
}

/// What is kept of files between maps, by the hash of their bytes.
#[derive(Debug, Default)]
pub struct Cache {
    inside: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tags: HashMap<[u8; 32], Arc<Tags>>,
    bytes: usize,
}

impl Cache {
    /// The one of this process: what has the same bytes has the same tags, wherever it lies.
    pub fn of_process() -> &'static Self {
        static CACHE: std::sync::OnceLock<Cache> = std::sync::OnceLock::new();
        CACHE.get_or_init(Self::default)
    }

    fn get(&self, key: &[u8; 32]) -> Option<Arc<Tags>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).tags.get(key).cloned()
    }

    fn put(&self, key: [u8; 32], tags: &Arc<Tags>) {
        let mut kept = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes > CACHE_BYTES_MAX {
            *kept = Kept::default();
        }
        kept.bytes += tags.bytes();
        kept.tags.insert(key, Arc::clone(tags));
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }
}

/// What the map shall show.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// About how long it may be.
    pub budget_tokens: usize,
    /// Paths or names that it is about.
    pub focus: Vec<String>,
}

/// A line of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Counted from 1.
    pub line: usize,
    /// How many symbols it is inside of.
    pub depth: usize,
    /// The signature.
    pub signature: String,
}

/// A file of a map.
#[derive(Debug, Clone)]
pub struct MapFile {
    /// Which of the places.
    pub place: usize,
    /// Its path from there.
    pub path: Vec<u8>,
    /// Its share of all rank.
    pub rank: f64,
    /// What it defines, in the order of its lines.
    pub entries: Vec<Entry>,
}

/// A map.
#[derive(Debug)]
pub struct Map {
    /// Files with something to show, the most important first.
    pub files: Vec<MapFile>,
    /// Files that were looked at.
    pub files_total: usize,
    /// Symbols that were found.
    pub symbols_total: usize,
    /// Symbols that are shown.
    pub shown: usize,
    /// Files whose tags were known.
    pub known: usize,
    /// How it went.
    pub read: Read,
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

struct File {
    place: usize,
    path: Vec<u8>,
    tags: Arc<Tags>,
    known: bool,
}

/// Draws a map of `places`.
///
/// # Errors
/// None that a caller could cause.
pub fn map(
    places: &[Place<'_>],
    index: &Index,
    cache: &Cache,
    asked: &Asked,
    patience: &Patience<'_>,
) -> Result<Map, Refusal> {
    let all = globs(&[], &[])?;
    let reading = Reading {
        globs: &all,
        ignores: true,
        want: &|name| Language::of(Path::new(std::ffi::OsStr::from_bytes(name))).is_some(),
        bytes_max: PARSE_BYTES_MAX,
        files_max: MAP_FILES_MAX,
    };
    let look = |(): &mut (), content: &Content<'_>| {
        let key = *blake3::hash(content.bytes).as_bytes();
        let (tags, known) = match cache.get(&key) {
            Some(tags) => (tags, true),
            None => {
                let tags = Arc::new(tags(content)?);
                cache.put(key, &tags);
                (tags, false)
            }
        };
        Some(File { place: content.place, path: content.path.to_vec(), tags, known })
    };
    let (files, read) = each(places, index, &reading, patience, || (), look);
    let ranks = rank(&files, &asked.focus);
    let mut map = choose(&files, &ranks, asked.budget_tokens.saturating_mul(TOKEN_BYTES));
    (map.read, map.known) = (read, files.iter().filter(|file| file.known).count());
    Ok(map)
}

fn tags(content: &Content<'_>) -> Option<Tags> {
    let path = Path::new(std::ffi::OsStr::from_bytes(content.path));
    let outline = outline(path, content.bytes).ok()??;
    let mut counts: HashMap<u64, u16> = HashMap::new();
    words::names(content.bytes, &mut |name| {
        if counts.len() < NAMES_MAX {
            let count = counts.entry(hash(name)).or_default();
            *count = count.saturating_add(1);
        }
    });
    let mut names: Vec<_> = counts.into_iter().collect();
    names.sort_unstable();
    let symbols = (0..outline.symbols.len().min(SYMBOLS_MAX)).map(|n| {
        let symbol = &outline.symbols[n];
        Tag {
            name: hash(symbol.name.as_bytes()),
            line: symbol.line,
            depth: outline.depth(n),
            signature: symbol.signature.clone(),
        }
    });
    Some(Tags { symbols: symbols.collect(), names })
}

struct Ranks {
    files: Vec<f64>,
    /// For each symbol of each file: how much of others' rank comes to it.
    symbols: Vec<Vec<f64>>,
}

fn rank(files: &[File], focus: &[String]) -> Ranks {
    let mut definers: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    for (number, file) in files.iter().enumerate() {
        for (symbol, tag) in file.tags.symbols.iter().enumerate() {
            definers.entry(tag.name).or_default().push((number, symbol));
        }
    }
    // From each file: to whom, by which symbol, how strongly.
    let edges: Vec<Vec<(usize, usize, f64)>> = files
        .iter()
        .enumerate()
        .map(|(from, file)| {
            let mut edges = Vec::new();
            for (name, count) in &file.tags.names {
                let Some(targets) = definers.get(name).filter(|targets| targets.len() <= DEFINERS_MAX) else {
                    continue;
                };
                let others = targets.iter().filter(|(to, _)| *to != from).count();
                let weight = f64::from(*count).sqrt() / f64::from(u32::try_from(others.max(1)).unwrap_or(1));
                edges.extend(
                    targets.iter().filter(|(to, _)| *to != from).map(|(to, symbol)| (*to, *symbol, weight)),
                );
            }
            edges
        })
        .collect();
    let start: Vec<f64> = files.iter().map(|file| if in_focus(file, focus) { FOCUS } else { 1.0 }).collect();
    let sum: f64 = start.iter().sum::<f64>().max(1.0);
    let start: Vec<f64> = start.iter().map(|share| share / sum).collect();
    let out: Vec<f64> = edges.iter().map(|edges| edges.iter().map(|(_, _, weight)| weight).sum()).collect();
    let mut ranks = start.clone();
    for _ in 0..ROUNDS {
        let mut next: Vec<f64> = start.iter().map(|share| share * (1.0 - DAMPING)).collect();
        let mut lost = 0.0;
        for (from, edges) in edges.iter().enumerate() {
            if edges.is_empty() {
                lost += ranks[from];
            }
            for (to, _, weight) in edges {
                next[*to] += DAMPING * ranks[from] * weight / out[from];
            }
        }
        next.iter_mut().zip(&start).for_each(|(rank, share)| *rank += DAMPING * lost * share);
        ranks = next;
    }
    let mut symbols: Vec<Vec<f64>> = files.iter().map(|file| vec![0.0; file.tags.symbols.len()]).collect();
    for (from, edges) in edges.iter().enumerate() {
        for (to, symbol, weight) in edges {
            symbols[*to][*symbol] += ranks[from] * weight / out[from];
        }
    }
    Ranks { files: ranks, symbols }
}

fn in_focus(file: &File, focus: &[String]) -> bool {
    let path = String::from_utf8_lossy(&file.path);
    focus.iter().any(|wanted| {
        let wanted = wanted.trim_start_matches("./");
        let below = path.strip_prefix(wanted.trim_end_matches('/'));
        let name = hash(wanted.as_bytes());
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || file.tags.symbols.iter().any(|tag| tag.name == name)
    })
}

/// The best signatures that fit, under their files.
fn choose(files: &[File], ranks: &Ranks, bytes_max: usize) -> Map {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for (symbol, score) in ranks.symbols[number].iter().enumerate() {
            // What nobody refers to lives on its file's fame, the outer before the inner.
            let depth = f64::from(u32::try_from(file.tags.symbols[symbol].depth).unwrap_or(u32::MAX));
            all.push((score + ranks.files[number] * 0.01 / (1.0 + depth), number, symbol));
        }
    }
    all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut chosen, mut bytes, mut shown): (HashMap<usize, Vec<usize>>, _, _) = (HashMap::new(), 0, 0);
    for (_, number, symbol) in &all {
        let tag = &files[*number].tags.symbols[*symbol];
        let head = if chosen.contains_key(number) { 0 } else { files[*number].path.len() + 2 };
        let cost = head + tag.signature.len() + 2 * tag.depth + 8;
        if bytes + cost > bytes_max {
            break;
        }
        bytes += cost;
        shown += 1;
        chosen.entry(*number).or_default().push(*symbol);
    }
    let mut shown_files: Vec<MapFile> = chosen
        .into_iter()
        .map(|(number, mut symbols)| {
            let file = &files[number];
            symbols.sort_unstable();
            let entry = |symbol: usize| {
                let tag = &file.tags.symbols[symbol];
                Entry { line: tag.line, depth: tag.depth, signature: tag.signature.clone() }
            };
            MapFile {
                place: file.place,
                path: file.path.clone(),
                rank: ranks.files[number],
                entries: symbols.into_iter().map(entry).collect(),
            }
        })
        .collect();
    shown_files.sort_unstable_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| a.path.cmp(&b.path)));
    Map {
        files: shown_files,
        files_total: files.len(),
        symbols_total: all.len(),
        shown,
        known: 0,
        read: Read { files: 0, unreadable: 0, ended: crate::workspace::patience::Ended::Whole },
    }
}
