//! Which files a task is probably about, each with the reasons: names, content, history, imports, recency.
//!
//! It is arithmetic over words, not understanding: the same question over the same files has the same answer. What the
//! history says comes from the repository's own files; no git is run.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::workspace::contents::{Content, Read, Reading, each};
use crate::workspace::git::{Commit, Repository};
use crate::workspace::index::{Index, now_ns};
use crate::workspace::patience::Patience;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::search::{Place, globs};
use crate::workspace::words;

/// Bytes of a task.
pub const TASK_BYTES_MAX: usize = 16 * 1024;
/// Words of a task that count.
const WORDS_MAX: usize = 32;
/// Bytes of one file that are looked at.
const FILE_BYTES_MAX: usize = 256 * 1024;
/// Files that one question looks at.
const FILES_MAX: usize = 200_000;
/// Commits that are looked at.
const COMMITS_MAX: usize = 600;
/// Names whose words one thread remembers.
const REMEMBERED_MAX: usize = 100_000;
/// Names in the import lines of one file.
const IMPORTS_MAX: usize = 256;
/// Files whose neighbours are looked at, besides those that were named.
const CENTRES_MAX: usize = 6;
/// What is this young is recent, in nanoseconds.
const RECENT_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;
/// How much each reason weighs, when it is as strong as it can be.
const WEIGHTS: [f64; 6] = [2.0, 3.0, 2.5, 1.5, 0.8, 0.2];

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The task in words.
    pub task: String,
    /// Files that are known to belong to it: paths from a place.
    pub seeds: Vec<String>,
    /// How many files to name.
    pub limit: usize,
}

/// A file and why.
#[derive(Debug, Clone)]
pub struct Suggestion {
    /// Which of the places.
    pub place: usize,
    /// Its path from there.
    pub path: String,
    /// Larger is better; comparable within one answer.
    pub score: f64,
    /// Why, the strongest first.
    pub reasons: Vec<String>,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The best first.
    pub suggestions: Vec<Suggestion>,
    /// The words that were looked for.
    pub words: Vec<String>,
    /// Commits that were looked at.
    pub commits: usize,
    /// How it went.
    pub read: Read,
}

struct File {
    place: usize,
    path: String,
    /// Of the words of the task: which, and how often in the content.
    content: Vec<(usize, u32)>,
    /// Of the words of the task: which are in the path, and whether in the name itself.
    named: Vec<(usize, bool)>,
    length: u32,
    imports: Vec<String>,
    mtime_ns: i64,
}

/// What speaks for one file, in the order of [`WEIGHTS`].
#[derive(Clone, Default)]
struct Evidence {
    strength: [f64; 6],
    reason: [Option<String>; 6],
}

/// Suggests files below `places`.
///
/// # Errors
/// `BadRequest` for a task without a word.
pub fn suggest(
    places: &[Place<'_>],
    index: &Index,
    asked: &Asked,
    patience: &Patience<'_>,
) -> Result<Found, Refusal> {
    let mut end = asked.task.len().min(TASK_BYTES_MAX);
    while !asked.task.is_char_boundary(end) {
        end -= 1;
    }
    let words = words::of_question(&asked.task[..end], WORDS_MAX);
    if words.is_empty() && asked.seeds.is_empty() {
        return Err(Refusal::new(
            Code::BadRequest,
            "the task has no word that says something, and there is no seed",
        ));
    }
    let known: HashMap<&str, usize> = words.iter().enumerate().map(|(n, word)| (word.as_str(), n)).collect();
    let all = globs(&[], &[])?;
    let reading = Reading {
        globs: &all,
        ignores: true,
        want: &|_| true,
        bytes_max: FILE_BYTES_MAX,
        files_max: FILES_MAX,
    };
    let look =
        |memory: &mut HashMap<Vec<u8>, Vec<usize>>, content: &Content<'_>| look(memory, content, &known);
    let (files, read) = each(places, index, &reading, patience, HashMap::new, look);
    let commits: Vec<(usize, Commit)> = history(places, patience);
    let mut evidence = vec![Evidence::default(); files.len()];
    by_name_and_content(&files, &words, &mut evidence);
    let numbers: HashMap<(usize, &str), usize> =
        files.iter().enumerate().map(|(n, file)| ((file.place, file.path.as_str()), n)).collect();
    by_messages(&commits, &words, &numbers, &mut evidence);
    let seeds: Vec<usize> =
        (0..files.len()).filter(|n| asked.seeds.iter().any(|seed| *seed == files[*n].path)).collect();
    let mut centres = seeds.clone();
    let mut best: Vec<usize> = (0..files.len()).filter(|n| evidence[*n].score() > 0.0).collect();
    best.sort_unstable_by(|a, b| evidence[*b].score().total_cmp(&evidence[*a].score()).then(a.cmp(b)));
    centres.extend(best.iter().take(CENTRES_MAX));
    by_company(&files, &commits, &numbers, &centres, &mut evidence);
    by_imports(&files, &centres, &mut evidence);
    by_age(&files, &mut evidence);
    let mut order: Vec<usize> =
        (0..files.len()).filter(|n| evidence[*n].score() > 0.0 && !seeds.contains(n)).collect();
    order.sort_unstable_by(|a, b| evidence[*b].score().total_cmp(&evidence[*a].score()).then(a.cmp(b)));
    let suggestions = order.into_iter().take(asked.limit).map(|n| Suggestion {
        place: files[n].place,
        path: files[n].path.clone(),
        score: evidence[n].score(),
        reasons: evidence[n].reasons(),
    });
    Ok(Found { suggestions: suggestions.collect(), commits: commits.len(), read, words })
}

impl Evidence {
    fn score(&self) -> f64 {
        let strong =
            self.strength[..5].iter().zip(WEIGHTS).map(|(strength, weight)| strength * weight).sum::<f64>();
        // To be young is a reason only beside another one.
        if strong > 0.0 { strong + self.strength[5] * WEIGHTS[5] } else { 0.0 }
    }

    fn add(&mut self, which: usize, strength: f64, reason: impl FnOnce() -> String) {
        if strength > self.strength[which] {
            self.strength[which] = strength.min(1.0);
            self.reason[which] = Some(reason());
        }
    }

    fn reasons(&self) -> Vec<String> {
        let mut order: Vec<usize> = (0..6).filter(|n| self.reason[*n].is_some()).collect();
        let weight = |n: &usize| self.strength[*n] * WEIGHTS[*n];
        order.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        order.into_iter().filter_map(|n| self.reason[n].clone()).collect()
    }
}

fn look(
    memory: &mut HashMap<Vec<u8>, Vec<usize>>,
    content: &Content<'_>,
    known: &HashMap<&str, usize>,
) -> Option<File> {
    let path = String::from_utf8_lossy(content.path).into_owned();
    let (mut counts, mut length) = (vec![0_u32; known.len()], 0_u32);
    let is_text = !content.bytes.iter().take(4096).any(|byte| *byte == 0);
    if is_text {
        words::names(content.bytes, &mut |name| {
            length += 1;
            if !memory.contains_key(name) {
                if memory.len() >= REMEMBERED_MAX {
                    memory.clear();
                }
                memory.insert(name.to_vec(), of_task(name, known));
            }
            memory[name].iter().for_each(|word| counts[*word] += 1);
        });
    }
    let mut named = Vec::new();
    let own = path.rsplit('/').next().unwrap_or_default().len();
    for (part, is_own) in [(&path[..path.len() - own], false), (&path[path.len() - own..], true)] {
        words::names(part.as_bytes(), &mut |name| {
            named.extend(of_task(name, known).into_iter().map(|w| (w, is_own)))
        });
    }
    named.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    named.dedup_by_key(|(word, _)| *word);
    let imports = if is_text { imports(content.bytes) } else { Vec::new() };
    let content_words =
        counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(n, count)| (n, *count));
    let (place, mtime_ns) = (content.place, content.mtime_ns);
    Some(File { place, path, content: content_words.collect(), named, length, imports, mtime_ns })
}

fn of_task(name: &[u8], known: &HashMap<&str, usize>) -> Vec<usize> {
    let mut found = Vec::new();
    words::parts(name, &mut |word| found.extend(known.get(word)));
    found.sort_unstable();
    found.dedup();
    found
}

/// The names in lines that bring other files in.
fn imports(text: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii_start();
        let brings = [
            b"use ".as_slice(),
            b"pub use ",
            b"mod ",
            b"pub mod ",
            b"import ",
            b"from ",
            b"#include",
            b"require",
        ]
        .iter()
        .any(|word| line.starts_with(word))
            || line.starts_with(b"const ") && line.windows(8).any(|part| part == b"require(")
            || line.starts_with(b"export ") && line.windows(6).any(|part| part == b" from ");
        if brings && found.len() < IMPORTS_MAX {
            words::names(&line[..line.len().min(400)], &mut |name| {
                found.push(String::from_utf8_lossy(name).to_lowercase());
            });
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A name's rarity: 0 for what is everywhere.
fn rarity(with: usize, all: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    ((number(all) - number(with) + 0.5) / (number(with) + 0.5) + 1.0).ln()
}

/// BM25 over the content; for names, the share of the task's rarity that they hold.
fn by_name_and_content(files: &[File], words: &[String], evidence: &mut [Evidence]) {
    let count = |has: &dyn Fn(&File, usize) -> bool| -> Vec<f64> {
        (0..words.len())
            .map(|word| rarity(files.iter().filter(|file| has(file, word)).count(), files.len()))
            .collect()
    };
    let in_content = count(&|file, word| file.content.iter().any(|(n, _)| *n == word));
    let in_names = count(&|file, word| file.named.iter().any(|(n, _)| *n == word));
    let all: f64 = files.iter().map(|file| f64::from(file.length)).sum();
    let average = (all / f64::from(u32::try_from(files.len().max(1)).unwrap_or(1))).max(1.0);
    let score = |file: &File| {
        let length = 1.2 * (0.25 + 0.75 * f64::from(file.length) / average);
        let term = |(word, count): &(usize, u32)| {
            let count = f64::from(*count);
            in_content[*word] * count * 2.2 / (count + length)
        };
        file.content.iter().map(term).sum::<f64>()
    };
    let scores: Vec<f64> = files.iter().map(score).collect();
    let best = scores.iter().copied().fold(0.0, f64::max);
    let name = |(word, own): &(usize, bool)| in_names[*word] * if *own { 1.0 } else { 0.5 };
    let names: Vec<f64> = files.iter().map(|file| file.named.iter().map(name).sum()).collect();
    let best_name = names.iter().copied().fold(0.0, f64::max);
    for (n, file) in files.iter().enumerate() {
        if best_name > 0.0 {
            evidence[n].add(0, names[n] / best_name, || {
                format!("its path has {}", listed(file.named.iter().map(|(word, _)| words[*word].as_str())))
            });
        }
        if best > 0.0 {
            evidence[n].add(1, scores[n] / best, || {
                let mut most = file.content.clone();
                most.sort_by(|a, b| in_content[b.0].total_cmp(&in_content[a.0]));
                format!("it holds {}", listed(most.iter().take(5).map(|(word, _)| words[*word].as_str())))
            });
        }
    }
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn history(places: &[Place<'_>], patience: &Patience<'_>) -> Vec<(usize, Commit)> {
    let mut commits = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let Place::Folder(start) = place else { continue };
        let Some(mut repository) = Repository::open(start.root.as_fd()) else { continue };
        let way = String::from_utf8_lossy(start.way).into_owned();
        for mut commit in repository.commits(COMMITS_MAX, patience) {
            if !way.is_empty() {
                let below = |path: &String| path.strip_prefix(&way)?.strip_prefix('/').map(str::to_owned);
                commit.paths = commit.paths.iter().filter_map(below).collect();
            }
            commits.push((number, commit));
        }
    }
    commits
}

/// Commits whose messages have the words of the task speak for the files that they touched.
fn by_messages(
    commits: &[(usize, Commit)],
    words: &[String],
    numbers: &HashMap<(usize, &str), usize>,
    evidence: &mut [Evidence],
) {
    let messages: Vec<Vec<String>> =
        commits.iter().map(|(_, commit)| words::of_question(&commit.message, 64)).collect();
    let rarities: Vec<f64> = words
        .iter()
        .map(|word| rarity(messages.iter().filter(|message| message.contains(word)).count(), commits.len()))
        .collect();
    let mut scores: HashMap<usize, (f64, u32, String)> = HashMap::new();
    for ((place, commit), message) in commits.iter().zip(&messages) {
        let fit: f64 =
            words.iter().zip(&rarities).filter(|(w, _)| message.contains(w)).map(|(_, rarity)| rarity).sum();
        if fit <= 0.0 {
            continue;
        }
        // A commit of many files says less about each.
        let share = fit / f64::from(u32::try_from(commit.paths.len()).unwrap_or(u32::MAX)).sqrt();
        for path in &commit.paths {
            let Some(number) = numbers.get(&(*place, path.as_str())) else { continue };
            let entry = scores.entry(*number).or_default();
            entry.0 += share;
            entry.1 += 1;
            if entry.2.is_empty() {
                entry.2 = commit.message.lines().next().unwrap_or_default().chars().take(60).collect();
            }
        }
    }
    let best = scores.values().map(|(score, ..)| *score).fold(0.0, f64::max);
    for (number, (score, count, message)) in scores {
        let what = if count == 1 { "a commit" } else { "commits" };
        evidence[number].add(2, score / best, || format!("{count} {what} about it, as \"{message}\""));
    }
}

/// What changes together belongs together.
fn by_company(
    files: &[File],
    commits: &[(usize, Commit)],
    numbers: &HashMap<(usize, &str), usize>,
    centres: &[usize],
    evidence: &mut [Evidence],
) {
    for centre in centres {
        let (place, path) = (files[*centre].place, files[*centre].path.as_str());
        let with: Vec<&Commit> = commits
            .iter()
            .filter(|(at, commit)| *at == place && commit.paths.iter().any(|other| other == path))
            .map(|(_, commit)| commit)
            .collect();
        let mut counts: HashMap<usize, u32> = HashMap::new();
        for other in with.iter().flat_map(|commit| &commit.paths).filter(|other| *other != path) {
            if let Some(number) = numbers.get(&(place, other.as_str())) {
                *counts.entry(*number).or_default() += 1;
            }
        }
        let all = u32::try_from(with.len()).unwrap_or(u32::MAX);
        for (number, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
            // Two of two proves less than twenty of twenty.
            let strength = f64::from(count) / (f64::from(all) + 2.0);
            evidence[number]
                .add(3, strength, || format!("changed together with `{path}` in {count} of {all} commits"));
        }
    }
}

/// What a centre brings in, and what brings it in.
fn by_imports(files: &[File], centres: &[usize], evidence: &mut [Evidence]) {
    let stem = |file: &File| {
        let path = Path::new(&file.path);
        let own = path.file_stem().map(|stem| stem.as_bytes().to_vec()).unwrap_or_default();
        let own = String::from_utf8_lossy(&own).to_lowercase();
        match own.as_str() {
            "mod" | "index" | "__init__" | "lib" | "main" => path
                .parent()
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().to_lowercase())
                .unwrap_or(own),
            _ => own,
        }
    };
    let stems: Vec<String> = files.iter().map(stem).collect();
    for centre in centres {
        let (of, name) = (&files[*centre].imports, &stems[*centre]);
        for (number, file) in
            files.iter().enumerate().filter(|(n, f)| n != centre && f.place == files[*centre].place)
        {
            if of.contains(&stems[number]) {
                evidence[number].add(4, 1.0, || format!("`{}` brings it in", files[*centre].path));
            } else if file.imports.contains(name) {
                evidence[number].add(4, 0.6, || format!("it brings in `{}`", files[*centre].path));
            }
        }
    }
}

fn by_age(files: &[File], evidence: &mut [Evidence]) {
    let now = now_ns();
    let mut ages: Vec<(i64, usize)> =
        files.iter().enumerate().map(|(n, file)| (now - file.mtime_ns, n)).collect();
    ages.sort_unstable();
    // After a fresh checkout everything is new, which says nothing.
    let young: Vec<_> = ages.iter().take_while(|(age, _)| *age < RECENT_NS).collect();
    if young.len() * 4 > files.len() {
        return;
    }
    for (_, number) in young {
        evidence[*number].add(5, 1.0, || "changed within the last seven days".to_owned());
    }
}
