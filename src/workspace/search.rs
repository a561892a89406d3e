//! Search in the content of files: ripgrep's matcher over a walk, in the order of paths, with partial results.
//!
//! Every file is opened by one name in a folder that was opened beneath the root, is read and never mapped (a writer
//! could cut a mapping short), and is let go before the next one. What was not searched is counted, and a cursor says
//! where to go on. It changes nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use grep_matcher::{LineTerminator, Matcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{
    BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkContextKind, SinkMatch,
};
use ignore::overrides::{Override, OverrideBuilder};

use crate::workspace::crew;
use crate::workspace::index::Index;
use crate::workspace::listing::{Kind, open_folder, open_name, read_up_to};
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::walk::{Kept, Start, Wanted, gather, joined};

/// Bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 16 << 20;
/// Globs of one search.
pub const GLOBS_MAX: usize = 256;
/// Lines of context on each side.
pub const CONTEXT_MAX: usize = 50;
/// Files up to this many bytes are read at once, larger ones through a window.
const WHOLE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a file that are searched; the rest is told.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Bytes of the longest line, and of a file that is searched over its lines.
const LINE_BYTES_MAX: usize = 32 << 20;
/// Bytes of a line that are shown.
const SHOWN_BYTES_MAX: usize = 480;
/// Bytes that are shown before the match in a long line.
const SHOWN_BEFORE_BYTES: usize = 120;
/// Files of one piece of work.
const PIECE_FILES: usize = 128;
/// A hit's bytes in a reply, besides its path and text.
const HIT_BYTES: usize = 48;

/// What the answer consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every line that matches.
    Lines,
    /// Every file that has one.
    Files,
    /// Every file that has one, and how many.
    Count,
}

/// How letters are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// As they are written.
    Exact,
    /// Capitals make no difference.
    Ignored,
    /// Capitals make a difference if the pattern has one.
    Smart,
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Query {
    /// The text or regular expression.
    pub pattern: String,
    /// Whether it is a regular expression.
    pub regex: bool,
    /// How letters are compared.
    pub case: Case,
    /// Only whole words.
    pub word: bool,
    /// A match may span lines.
    pub multiline: bool,
    /// Lines to show before and after.
    pub context: usize,
    /// What the answer consists of.
    pub mode: Mode,
    /// Only paths that one of these means, as in `.gitignore`.
    pub globs: Vec<String>,
    /// No path that one of these means.
    pub exclude: Vec<String>,
    /// Leave out what ignore files name.
    pub ignores: bool,
    /// How many lines, or files, to tell.
    pub limit: usize,
    /// About how many bytes the answer may have.
    pub reply_bytes_max: usize,
    /// Where to go on.
    pub after: Option<Mark>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            pattern: String::new(),
            regex: false,
            case: Case::Exact,
            word: false,
            multiline: false,
            context: 0,
            mode: Mode::Lines,
            globs: Vec::new(),
            exclude: Vec::new(),
            ignores: true,
            limit: 200,
            reply_bytes_max: 96 * 1024,
            after: None,
        }
    }
}

/// A place in the order of an answer: everything up to it has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which of the starts.
    pub start: usize,
    /// The folder's path from the start.
    pub folder: Vec<u8>,
    /// The file's name in it.
    pub name: Vec<u8>,
    /// The last line that was told; `u64::MAX` for all of the file.
    pub line: u64,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    /// Its text, cut when it is long.
    pub text: String,
}

/// A match: one line, or several where it spans them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The line where it begins.
    pub line: Line,
    /// The byte of the line where it begins, counted from 1.
    pub column: usize,
    /// Lines before it.
    pub before: Vec<Line>,
    /// Lines after it.
    pub after: Vec<Line>,
}

/// A file with matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHits {
    /// Which of the starts.
    pub start: usize,
    /// The folder's path from the start.
    pub folder: Vec<u8>,
    /// The file's name in it.
    pub name: Vec<u8>,
    /// The matches that are told.
    pub hits: Vec<Hit>,
    /// Lines that match, as far as they were counted.
    pub count: u64,
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// Files with matches, in order.
    pub files: Vec<FileHits>,
    /// Files that were searched.
    pub searched: u64,
    /// Files that were to be searched.
    pub total: u64,
    /// Files that are no text.
    pub binary: u64,
    /// Files and folders that could not be read, or only in part.
    pub unreadable: u64,
    /// How far it came.
    pub ended: Ended,
    /// Where to go on, when there is or may be more.
    pub next: Option<Mark>,
}

/// Where a search looks.
#[derive(Debug)]
pub enum Place<'a> {
    /// Everything below a folder.
    Folder(Start<'a>),
    /// One file: its folder, opened, and its name.
    File {
        /// The folder.
        folder: &'a OwnedFd,
        /// The name in it.
        name: Vec<u8>,
    },
}

/// A pattern that can be searched for.
#[derive(Debug)]
pub struct Compiled {
    matcher: RegexMatcher,
    globs: Override,
}

/// Reads pattern and globs.
///
/// # Errors
/// `BadPattern`, with what is wrong.
pub fn compile(query: &Query) -> Result<Compiled, Refusal> {
    if query.pattern.is_empty() || query.pattern.len() > PATTERN_BYTES_MAX {
        let text = format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::BadPattern, text));
    }
    let mut builder = RegexMatcherBuilder::new();
    builder
        .multi_line(true)
        .unicode(true)
        .case_insensitive(query.case == Case::Ignored)
        .case_smart(query.case == Case::Smart)
        .fixed_strings(!query.regex)
        .word(query.word)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX);
    if !query.multiline {
        builder.line_terminator(Some(b'\n')).crlf(true);
    }
    let matcher = builder.build(&query.pattern).map_err(|e| {
        let hint = if query.regex {
            "the syntax is that of Rust's regex crate: no look-around, no back-references"
        } else {
            "a text without line break, or `multiline`"
        };
        Refusal::new(Code::BadPattern, format!("the pattern cannot be used: {e}")).hint(hint)
    })?;
    Ok(Compiled { matcher, globs: globs(&query.globs, &query.exclude)? })
}

/// Globs of what is wanted and what is not, as one set.
///
/// # Errors
/// `BadPattern`.
pub fn globs(wanted: &[String], exclude: &[String]) -> Result<Override, Refusal> {
    let wrong = |e: ignore::Error| Refusal::new(Code::BadPattern, format!("a glob cannot be used: {e}"));
    if wanted.len() + exclude.len() > GLOBS_MAX {
        return Err(Refusal::new(Code::BadPattern, format!("more than {GLOBS_MAX} globs")));
    }
    let mut builder = OverrideBuilder::new("");
    for glob in wanted {
        builder.add(glob).map_err(wrong)?;
    }
    for glob in exclude {
        builder.add(&format!("!{}", glob.trim_start_matches('!'))).map_err(wrong)?;
    }
    builder.build().map_err(wrong)
}

/// What globs leave out of a walk; paths count from the root.
pub fn left_out<'a>(globs: &'a Override, way: &'a [u8]) -> impl Fn(&[u8], &[u8], Kind) -> bool + Sync + 'a {
    use std::os::unix::ffi::OsStrExt;
    move |folder, name, kind| {
        if globs.is_empty() {
            return false;
        }
        let path = joined(&joined(way, folder), name);
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&path));
        globs.matched(path, kind == Kind::Folder).is_ignore()
    }
}

struct Piece<'a> {
    start: usize,
    folder: &'a OwnedFd,
    path: &'a [u8],
    names: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Done {
    files: Vec<FileHits>,
    searched: u64,
    binary: u64,
    unreadable: u64,
}

/// Searches `places` one after the other.
///
/// # Errors
/// `BadPattern`.
pub fn search(
    places: &[Place<'_>],
    index: &Index,
    query: &Query,
    patience: &Patience<'_>,
) -> Result<Found, Refusal> {
    let compiled = compile(query)?;
    let mut found = Found {
        files: Vec::new(),
        searched: 0,
        total: 0,
        binary: 0,
        unreadable: 0,
        ended: Ended::Whole,
        next: None,
    };
    let from = query.after.as_ref().map_or(0, |mark| mark.start);
    for (start, place) in places.iter().enumerate().skip(from) {
        let kept = match place {
            Place::Folder(folder) => {
                let skip = left_out(&compiled.globs, folder.way);
                let wanted = Wanted { ignores: query.ignores, skip: Some(&skip), ..Wanted::default() };
                let (kept, walked) = gather(folder, index, &wanted, patience);
                found.unreadable += walked.unreadable;
                if walked.ended != Ended::Whole {
                    // Without all names the order is not known, so there is nothing to go on from.
                    found.ended = walked.ended;
                    return Ok(found);
                }
                kept
            }
            Place::File { .. } => Vec::new(),
        };
        let pieces = cut(start, place, &kept, query.after.as_ref().filter(|mark| mark.start == start));
        found.total += pieces.iter().map(|piece| piece.names.len() as u64).sum::<u64>();
        found.take_from(&pieces, &compiled, query, patience);
        if found.ended != Ended::Whole {
            break;
        }
    }
    Ok(found)
}

fn cut<'a>(start: usize, place: &'a Place<'_>, kept: &'a [Kept], after: Option<&Mark>) -> Vec<Piece<'a>> {
    let folder = match place {
        Place::Folder(folder) => folder.folder,
        Place::File { folder, name } => return vec![Piece { start, folder, path: b"", names: vec![name] }],
    };
    let mut pieces = Vec::new();
    for kept in kept {
        let mut names: Vec<&[u8]> =
            kept.iter().filter(|(_, kind)| *kind == Kind::File).map(|(name, _)| name).collect();
        if let Some(mark) = after {
            match crate::workspace::walk::path_order(&kept.path, &mark.folder) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => names.retain(|name| {
                    *name > mark.name.as_slice() || *name == mark.name.as_slice() && mark.line != u64::MAX
                }),
                std::cmp::Ordering::Greater => {}
            }
        }
        let path = kept.path.as_slice();
        pieces.extend(names.chunks(PIECE_FILES).map(|names| Piece {
            start,
            folder,
            path,
            names: names.to_vec(),
        }));
    }
    pieces
}

impl Found {
    fn take_from(
        &mut self,
        pieces: &[Piece<'_>],
        compiled: &Compiled,
        query: &Query,
        patience: &Patience<'_>,
    ) {
        let told = std::sync::atomic::AtomicUsize::new(self.results(query.mode));
        let weight = std::sync::atomic::AtomicUsize::new(self.files.iter().map(FileHits::bytes).sum());
        let add = |counter: &std::sync::atomic::AtomicUsize, n: usize| {
            counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed) + n
        };
        let begin = || (searcher(query), Vec::new());
        let work = |(searcher, buffer): &mut (Searcher, Vec<u8>), n: usize| {
            let done = search_piece(&pieces[n], compiled, query, patience, searcher, buffer);
            let told = add(&told, done.files.iter().map(|file| file.results(query.mode)).sum());
            let weight = add(&weight, done.files.iter().map(FileHits::bytes).sum());
            // One more than the limit is looked for, so that it is known whether there is more.
            let enough = told > query.limit || weight > query.reply_bytes_max;
            (done, patience.over().or(enough.then_some(Ended::Enough)))
        };
        let (done, ended) = crew::share(pieces.len(), patience, begin, work);
        let last = done.last().map(|(n, _)| *n);
        for (_, piece) in done {
            self.files.extend(piece.files);
            self.searched += piece.searched;
            self.binary += piece.binary;
            self.unreadable += piece.unreadable;
        }
        self.ended = ended;
        if ended != Ended::Whole {
            self.next = last.and_then(|n| {
                let piece = &pieces[n];
                let name = piece.names.last()?.to_vec();
                Some(Mark { start: piece.start, folder: piece.path.to_vec(), name, line: u64::MAX })
            });
        }
        self.cut(query);
    }

    fn results(&self, mode: Mode) -> usize {
        self.files.iter().map(|file| file.results(mode)).sum()
    }

    /// Keeps what fits, and marks where to go on.
    fn cut(&mut self, query: &Query) {
        let (mut results, mut bytes) = (0, 0);
        for at in 0..self.files.len() {
            let file = &mut self.files[at];
            bytes += file.path_bytes();
            if query.mode != Mode::Lines {
                results += 1;
                if results > query.limit || (bytes > query.reply_bytes_max && at > 0) {
                    return self.cut_before(at, None);
                }
                continue;
            }
            for n in 0..file.hits.len() {
                results += 1;
                bytes += file.hits[n].bytes();
                if results > query.limit || (bytes > query.reply_bytes_max && results > 1) {
                    let last = n.checked_sub(1).map(|last| file.hits[last].line.number);
                    file.hits.truncate(n);
                    return self.cut_before(if n == 0 { at } else { at + 1 }, last);
                }
            }
        }
    }

    fn cut_before(&mut self, at: usize, line: Option<u64>) {
        self.files.truncate(at);
        self.ended = Ended::Enough;
        self.next = self.files.last().map(|file| Mark {
            start: file.start,
            folder: file.folder.clone(),
            name: file.name.clone(),
            line: line.unwrap_or(u64::MAX),
        });
    }
}

impl FileHits {
    fn results(&self, mode: Mode) -> usize {
        if mode == Mode::Lines { self.hits.len() } else { 1 }
    }

    fn path_bytes(&self) -> usize {
        self.folder.len() + self.name.len() + HIT_BYTES
    }

    fn bytes(&self) -> usize {
        self.path_bytes() + self.hits.iter().map(Hit::bytes).sum::<usize>()
    }
}

impl Hit {
    fn bytes(&self) -> usize {
        let lines = self.before.iter().chain(&self.after).chain([&self.line]);
        lines.map(|line| line.text.len() + HIT_BYTES).sum()
    }
}

fn searcher(query: &Query) -> Searcher {
    // Pattern and search must agree on what ends a line, or nothing is searched.
    let ends = if query.multiline { LineTerminator::byte(b'\n') } else { LineTerminator::crlf() };
    SearcherBuilder::new()
        .line_terminator(ends)
        .line_number(query.mode == Mode::Lines)
        .before_context(query.context.min(CONTEXT_MAX))
        .after_context(query.context.min(CONTEXT_MAX))
        .multi_line(query.multiline)
        .heap_limit(Some(LINE_BYTES_MAX))
        .binary_detection(BinaryDetection::quit(0))
        .build()
}

fn search_piece(
    piece: &Piece<'_>,
    compiled: &Compiled,
    query: &Query,
    patience: &Patience<'_>,
    searcher: &mut Searcher,
    buffer: &mut Vec<u8>,
) -> Done {
    let mut done = Done::default();
    let Ok(folder) = open_folder(piece.folder.as_fd(), piece.path) else {
        done.unreadable += piece.names.len() as u64;
        return done;
    };
    for name in &piece.names {
        let (fd, stat) = match open_name(folder.as_fd(), name) {
            Ok(Some(opened)) => opened,
            // It became something else after it was listed.
            Ok(None) => continue,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(_denied) => {
                done.unreadable += 1;
                continue;
            }
        };
        let from = query.after.as_ref().filter(|mark| {
            (mark.start, mark.folder.as_slice(), mark.name.as_slice()) == (piece.start, piece.path, name)
        });
        let mut sink = Lines {
            matcher: &compiled.matcher,
            query,
            from: from.map_or(0, |mark| mark.line),
            hits: Vec::new(),
            before: Vec::new(),
            count: 0,
            binary: false,
        };
        let small = usize::try_from(stat.st_size).is_ok_and(|bytes| bytes <= WHOLE_BYTES_MAX);
        let read = if small {
            read_up_to(fd.as_fd(), &stat, WHOLE_BYTES_MAX, buffer)
                .map_err(io::Error::from)
                .and_then(|_all| searcher.search_slice(&compiled.matcher, buffer, &mut sink))
        } else {
            let window = Window { file: File::from(fd).take(FILE_BYTES_MAX), patience };
            searcher.search_reader(&compiled.matcher, window, &mut sink)
        };
        done.searched += 1;
        done.unreadable += u64::from(read.is_err());
        done.binary += u64::from(sink.binary);
        if sink.count > 0 && !sink.binary {
            let (folder, name) = (piece.path.to_vec(), name.to_vec());
            done.files.push(FileHits {
                start: piece.start,
                folder,
                name,
                hits: sink.hits,
                count: sink.count,
            });
        }
    }
    buffer.shrink_to(WHOLE_BYTES_MAX);
    done
}

/// A large file, read as long as somebody waits.
struct Window<'a> {
    file: io::Take<File>,
    patience: &'a Patience<'a>,
}

impl Read for Window<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.patience.over().is_some() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(bytes)
    }
}

/// Gathers the matches of one file.
struct Lines<'a> {
    matcher: &'a RegexMatcher,
    query: &'a Query,
    from: u64,
    hits: Vec<Hit>,
    before: Vec<Line>,
    count: u64,
    binary: bool,
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        let number = found.line_number().unwrap_or_default();
        let before = std::mem::take(&mut self.before);
        self.count += 1;
        if self.query.mode != Mode::Lines {
            return Ok(self.query.mode == Mode::Count);
        }
        if number <= self.from {
            self.count -= 1;
            return Ok(true);
        }
        let bytes = found.bytes();
        let start = self.matcher.find(bytes).ok().flatten().map_or(0, |m| m.start());
        let line = Line { number, text: shown(bytes, start) };
        self.hits.push(Hit { line, column: start + 1, before, after: Vec::new() });
        // One more than can be told shows that there is more.
        Ok(self.hits.len() <= self.query.limit)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        let line =
            Line { number: context.line_number().unwrap_or_default(), text: shown(context.bytes(), 0) };
        match (context.kind(), self.hits.last_mut()) {
            (SinkContextKind::After, Some(hit)) => hit.after.push(line),
            (SinkContextKind::Before, _) => self.before.push(line),
            _ => {}
        }
        Ok(true)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> Result<bool, io::Error> {
        self.binary = true;
        Ok(false)
    }
}

/// A line as it is shown: without its end, and only the part around byte `at` when it is long.
fn shown(bytes: &[u8], at: usize) -> String {
    let end = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = end.strip_suffix(b"\r").unwrap_or(end);
    if line.len() <= SHOWN_BYTES_MAX {
        return String::from_utf8_lossy(line).into_owned();
    }
    let is_start = |at: usize| line.get(at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let mut start = at.saturating_sub(SHOWN_BEFORE_BYTES).min(line.len() - SHOWN_BYTES_MAX);
    let mut end = start + SHOWN_BYTES_MAX;
    // Not in the middle of a character; what is no UTF-8 has no middle for long.
    start += (0..4).find(|n| is_start(start + n)).unwrap_or(0);
    end -= (0..4).find(|n| is_start(end - n)).unwrap_or(0);
    let text = String::from_utf8_lossy(&line[start..end]);
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    format!("{before}{text}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shown_around_its_match() {
        let line = format!("{}needle{}\n", "ä".repeat(5000), "b".repeat(5000));
        let at = line.find("needle").unwrap();
        let text = shown(line.as_bytes(), at);
        assert!(text.contains("needle") && text.starts_with('…') && text.ends_with('…'));
        assert!(text.len() < SHOWN_BYTES_MAX + 8 && !text.contains('\u{fffd}'));
        assert_eq!(shown(b"short\r\n", 0), "short");
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_the_reason() {
        let query = Query { pattern: "(".to_owned(), regex: true, ..Query::default() };
        assert_eq!(compile(&query).unwrap_err().code, Code::BadPattern);
        let text = Query { pattern: "(".to_owned(), ..Query::default() };
        assert!(compile(&text).is_ok());
        let huge = Query { pattern: r"(\w{1000}){1000}".to_owned(), regex: true, ..Query::default() };
        assert_eq!(compile(&huge).unwrap_err().code, Code::BadPattern);
        let glob = Query { globs: vec!["[".to_owned()], pattern: "x".to_owned(), ..Query::default() };
        assert_eq!(compile(&glob).unwrap_err().code, Code::BadPattern);
    }
}
