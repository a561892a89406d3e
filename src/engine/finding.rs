//! What is asked of a workspace without changing it: search, symbols, maps, suggestions, status.
//!
//! Here paths of a client become places, and places become paths again. How things are found is `workspace`'s.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;

use crate::engine::workspaces::Workspace;
use crate::workspace::commit::kind_of;
use crate::workspace::index::Known;
use crate::workspace::language::Language;
use crate::workspace::listing::{Kind, open_folder};
use crate::workspace::map::{self, Cache, Map};
use crate::workspace::outline::{Outline, outline};
use crate::workspace::paths::{Near, nearest};
use crate::workspace::patience::{Ended, Patience};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::{Access, Spot};
use crate::workspace::search::{self, Place, Query};
use crate::workspace::suggest;
use crate::workspace::symbols;
use crate::workspace::syntax::PARSE_BYTES_MAX;
use crate::workspace::walk::{Start, Wanted, gather, joined};

// ── what surfaces ask and get, by its name here ─────────────────────────────────────────────────

/// How long a caller waits.
pub type Waiting<'a> = Patience<'a>;
/// How far an answer came.
pub type End = Ended;
/// What is searched for in contents.
pub type ContentQuery = Query;
/// How letters are compared.
pub type Letters = search::Case;
/// What a search answers with.
pub type SearchMode = search::Mode;
/// Where a search goes on.
pub type SearchMark = search::Mark;
/// What a search found.
pub type SearchFound = search::Found;
/// Which symbols are asked for.
pub type SymbolQuery = symbols::Asked;
/// Which files are asked for.
pub type FilesQuery = suggest::Asked;
/// What a map shall show.
pub type MapQuery = map::Asked;
/// A map.
pub type CodeMap = Map;
/// The symbols of one file.
pub type FileOutline = Outline;

/// Paths of one question.
pub const PATHS_MAX: usize = 100;
/// Files of one outline.
const OUTLINE_FILES_MAX: usize = 100;

/// Where a question looks: opened, with the way back to a path that a client can use.
#[derive(Debug)]
pub struct Scope {
    root: usize,
    folder: OwnedFd,
    way: Vec<u8>,
    /// The name, when it is one file.
    name: Option<Vec<u8>>,
    /// What stands before a path from here.
    prefix: String,
}

/// An answer, and the scopes that its places count.
#[derive(Debug)]
pub struct Answer<T> {
    /// What was found.
    pub found: T,
    prefixes: Vec<String>,
}

impl<T> Answer<T> {
    /// A path from a place, as a client can name it.
    pub fn path(&self, place: usize, path: &[u8]) -> String {
        let prefix = self.prefixes.get(place).map_or("", String::as_str);
        format!("{prefix}{}", String::from_utf8_lossy(path))
    }

    /// The same of a name in a folder.
    pub fn path_in(&self, place: usize, folder: &[u8], name: &[u8]) -> String {
        self.path(place, &joined(folder, name))
    }
}

/// A root and how full it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootStatus {
    /// As it was named.
    pub path: String,
    /// Whether it may be changed.
    pub is_writable: bool,
    /// Files that ignore files do not name.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Files by language, the most first.
    pub languages: Vec<(&'static str, u64)>,
    /// Folders that cannot be read.
    pub unreadable: u64,
    /// How far the count came.
    pub ended: Ended,
}

/// What a workspace is made of.
#[derive(Debug)]
pub struct Status {
    /// Its roots.
    pub roots: Vec<RootStatus>,
    /// What is remembered.
    pub known: Known,
    /// Bytes that maps remember.
    pub map_bytes: usize,
}

/// A file, and its symbols or why it has none.
pub type Outlined = (String, Result<Outline, Refusal>);

impl Workspace {
    /// Opens what `paths` name; without any, every root.
    ///
    /// # Errors
    /// The first path that cannot be opened.
    pub fn scopes(&self, paths: &[String]) -> Result<Vec<Scope>, Refusal> {
        if paths.len() > PATHS_MAX {
            return Err(Refusal::new(Code::TooLarge, format!("more than {PATHS_MAX} paths")));
        }
        if paths.is_empty() {
            let all = 0..self.roots.all().count();
            return all.map(|n| self.scope(&self.roots.spot(n, Default::default()))).collect();
        }
        paths.iter().map(|path| self.scope(&self.roots.locate(path)?)).collect()
    }

    fn scope(&self, spot: &Spot) -> Result<Scope, Refusal> {
        let opened = self.roots.look(spot)?;
        let outside = || Refusal::kernel("look at", &spot.asked, libc::EXDEV);
        let (root, inside) = self.roots.place_of(opened.fd.as_fd()).ok_or_else(outside)?;
        let base = self.roots.root(root).fd();
        let (folder, name) = match kind_of(&opened.stat) {
            FileType::Directory => (inside.clone(), None),
            FileType::RegularFile => {
                let (folder, name) = inside.split().ok_or_else(outside)?;
                (folder, Some(name.as_bytes().to_vec()))
            }
            kind => return Err(crate::workspace::root::not_regular(&spot.asked, kind)),
        };
        let way = folder.relative().as_os_str().as_bytes().to_vec();
        let fd =
            open_folder(base, &way).map_err(|e| Refusal::kernel("open", &spot.asked, e.raw_os_error()))?;
        let mut prefix = String::from_utf8_lossy(&way).into_owned();
        if root > 0 {
            // A relative path would mean the first root.
            let given = self.roots.paths(root).given.to_string_lossy();
            prefix = if prefix.is_empty() { given.into_owned() } else { format!("{given}/{prefix}") };
        }
        if !prefix.is_empty() {
            prefix.push('/');
        }
        Ok(Scope { root, folder: fd, way, name, prefix })
    }

    fn places<'a>(&'a self, scopes: &'a [Scope]) -> Vec<Place<'a>> {
        scopes
            .iter()
            .map(|scope| match &scope.name {
                Some(name) => Place::File { folder: &scope.folder, name: name.clone() },
                None => Place::Folder(self.start(scope)),
            })
            .collect()
    }

    fn start<'a>(&'a self, scope: &'a Scope) -> Start<'a> {
        Start { root: self.roots.root(scope.root).fd(), folder: &scope.folder, way: &scope.way }
    }

    fn answer<T>(scopes: Vec<Scope>, found: T) -> Answer<T> {
        Answer { found, prefixes: scopes.into_iter().map(|scope| scope.prefix).collect() }
    }

    /// Searches in the content of files.
    ///
    /// # Errors
    /// `BadPattern`, or a path that cannot be opened.
    pub fn search_content(
        &self,
        paths: &[String],
        query: &Query,
        patience: &Patience<'_>,
    ) -> Result<Answer<search::Found>, Refusal> {
        let scopes = self.scopes(paths)?;
        let found = search::search(&self.places(&scopes), &self.index, query, patience)?;
        Ok(Self::answer(scopes, found))
    }

    /// Paths that hold some letters in order, best first.
    ///
    /// # Errors
    /// A path that cannot be opened, or that there was no time.
    pub fn find_near(
        &self,
        path: &str,
        text: &str,
        limit: usize,
        patience: &Patience<'_>,
    ) -> Result<Answer<Vec<Near>>, Refusal> {
        let scopes = self.scopes(&[path.to_owned()])?;
        let mut found = Vec::new();
        for scope in scopes.iter().filter(|scope| scope.name.is_none()) {
            let wanted = Wanted { ignores: true, ..Wanted::default() };
            let (kept, walked) = gather(&self.start(scope), &self.index, &wanted, patience);
            crate::workspace::sweep::ended(walked.ended)?;
            found.extend(nearest(&kept, text, limit));
        }
        Ok(Self::answer(scopes, found))
    }

    /// The symbols of files; a folder means the files in it that have a grammar.
    ///
    /// # Errors
    /// A path that cannot be opened.
    pub fn outlines(&self, paths: &[String], patience: &Patience<'_>) -> Result<Vec<Outlined>, Refusal> {
        let mut outlines = Vec::new();
        for scope in self.scopes(paths)? {
            let mut names: Vec<Vec<u8>> = scope.name.clone().into_iter().collect();
            if scope.name.is_none() {
                let wanted = Wanted { ignores: true, depth_max: 1, ..Wanted::default() };
                let (kept, _) = gather(&self.start(&scope), &self.index, &wanted, patience);
                let files = kept.iter().flat_map(|folder| folder.iter());
                let files = files.filter(|(name, kind)| {
                    *kind == Kind::File
                        && Language::of(Path::new(std::ffi::OsStr::from_bytes(name))).is_some()
                });
                names.extend(files.map(|(name, _)| name.to_vec()));
            }
            for name in names.into_iter().take(OUTLINE_FILES_MAX.saturating_sub(outlines.len())) {
                let path = format!("{}{}", scope.prefix, String::from_utf8_lossy(&name));
                let outline = self.outline(&scope, &name, &path);
                outlines.push((path, outline));
            }
        }
        Ok(outlines)
    }

    fn outline(&self, scope: &Scope, name: &[u8], path: &str) -> Result<Outline, Refusal> {
        let source =
            crate::workspace::sweep::Source { root: self.roots.root(scope.root).fd(), name: String::new() };
        let mut bytes = Vec::new();
        let way = joined(&scope.way, name);
        let whole = crate::workspace::sweep::read(&source, &way, PARSE_BYTES_MAX, &mut bytes)
            .ok_or_else(|| Refusal::new(Code::NotFound, format!("`{path}` cannot be read")).at(path))?;
        let too_large = || {
            let text = format!("`{path}` has more than {PARSE_BYTES_MAX} bytes, or takes too long to parse");
            Refusal::new(Code::TooLarge, text).at(path).hint("`search_content` finds places in it")
        };
        if !whole {
            return Err(too_large());
        }
        match outline(Path::new(std::ffi::OsStr::from_bytes(name)), &bytes) {
            Ok(Some(outline)) => Ok(outline),
            Ok(None) => Err(Refusal::new(Code::Binary, format!("`{path}` is no text")).at(path)),
            Err(_limit) => Err(too_large()),
        }
    }

    /// Symbols by name.
    ///
    /// # Errors
    /// `BadPattern`, or a path that cannot be opened.
    pub fn find_symbol(
        &self,
        paths: &[String],
        asked: &symbols::Asked,
        patience: &Patience<'_>,
    ) -> Result<Answer<symbols::Found>, Refusal> {
        let scopes = self.scopes(paths)?;
        let found = symbols::find(&self.places(&scopes), &self.index, asked, patience)?;
        Ok(Self::answer(scopes, found))
    }

    /// The signatures that matter most.
    ///
    /// # Errors
    /// A path that cannot be opened.
    pub fn map(
        &self,
        paths: &[String],
        asked: &map::Asked,
        patience: &Patience<'_>,
    ) -> Result<Answer<Map>, Refusal> {
        let scopes = self.scopes(paths)?;
        let found = map::map(&self.places(&scopes), &self.index, Cache::of_process(), asked, patience)?;
        Ok(Self::answer(scopes, found))
    }

    /// Files that a task is probably about.
    ///
    /// # Errors
    /// `BadRequest`, or a path that cannot be opened.
    pub fn suggest_files(
        &self,
        paths: &[String],
        asked: &suggest::Asked,
        patience: &Patience<'_>,
    ) -> Result<Answer<suggest::Found>, Refusal> {
        let scopes = self.scopes(paths)?;
        let found = suggest::suggest(&self.places(&scopes), &self.index, asked, patience)?;
        Ok(Self::answer(scopes, found))
    }

    /// What there is, counted now.
    ///
    /// # Errors
    /// A root that cannot be opened.
    pub fn status(&self, patience: &Patience<'_>) -> Result<Status, Refusal> {
        let mut roots = Vec::new();
        for (scope, (root, paths)) in self.scopes(&[])?.iter().zip(self.roots.all()) {
            let wanted = Wanted { ignores: true, ..Wanted::default() };
            let (kept, walked) = gather(&self.start(scope), &self.index, &wanted, patience);
            let mut languages: BTreeMap<&'static str, u64> = BTreeMap::new();
            let mut files = 0;
            for (name, _) in
                kept.iter().flat_map(|folder| folder.iter()).filter(|(_, kind)| *kind == Kind::File)
            {
                files += 1;
                if let Some(language) = Language::of(Path::new(std::ffi::OsStr::from_bytes(name))) {
                    *languages.entry(language.word()).or_default() += 1;
                }
            }
            let mut languages: Vec<_> = languages.into_iter().collect();
            languages.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            roots.push(RootStatus {
                path: paths.given.to_string_lossy().into_owned(),
                is_writable: root.access == Access::ReadWrite,
                files,
                folders: walked.folders,
                languages,
                unreadable: walked.unreadable,
                ended: walked.ended,
            });
        }
        Ok(Status { roots, known: self.index.known(), map_bytes: Cache::of_process().bytes() })
    }
}
