//! Moments of a workspace: snapshots, what changed since one or since a token, and the way back.
//!
//! Going back is a change like any other: all or nothing, in the journal, and `undo` takes it back.

use std::collections::BTreeSet;
use std::path::Path;

use crate::engine::workspaces::Workspace;
use crate::workspace::change::Operation;
use crate::workspace::change::Pulse;
use crate::workspace::commit::{Content, Step};
use crate::workspace::files::before;
use crate::workspace::journal::random_name;
use crate::workspace::manifest::{Difference, Head, Item, Key, Manifest, What, differences};
use crate::workspace::path::Inside;
use crate::workspace::patience::Patience;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::Spot;
use crate::workspace::snapshots::Store;
use crate::workspace::sweep::{Source, hash, hash_young, sweep};

/// Bytes that one way back may hold in memory.
const RESTORE_BYTES_MAX: u64 = 512 << 20;
/// Files that one way back may change.
const RESTORE_FILES_MAX: usize = 20_000;

/// What happened to one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// As a client can name it.
    pub path: String,
    /// What happened.
    pub what: Difference,
}

/// What changed since a moment.
#[derive(Debug)]
pub struct Since {
    /// Stands for the moment of this answer.
    pub token: String,
    /// Nothing, when it was asked without a token.
    pub changed: Vec<Changed>,
    /// Files that were looked at.
    pub files: u64,
}

/// What a way back did, or would do.
#[derive(Debug)]
pub struct Restored {
    /// The operation, when something was done.
    pub operation: Option<Operation>,
    /// What is different from the snapshot now, and so changes.
    pub changed: Vec<Changed>,
}

impl Workspace {
    fn store(&self) -> Store {
        Store::new(&self.journal.dir().join("snapshots"))
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let names: Vec<String> =
            self.roots.all().map(|(_, paths)| paths.given.to_string_lossy().into_owned()).collect();
        names
            .into_iter()
            .enumerate()
            .map(|(n, name)| Source { root: self.roots.root(n).fd(), name })
            .collect()
    }

    /// A path of a manifest, as a client can name it.
    fn shown(&self, (root, path): &Key) -> String {
        let path = String::from_utf8_lossy(path);
        match *root as usize {
            0 => path.into_owned(),
            root => format!("{}/{path}", self.roots.paths(root).given.display()),
        }
    }

    /// What changed since the moment of a token, by anybody; without one, a token for now.
    ///
    /// # Errors
    /// `TokenExpired`, `Timeout`, `Cancelled`.
    pub fn changes_since(
        &self,
        token: Option<&str>,
        ignores: bool,
        patience: &Patience<'_>,
    ) -> Result<Since, Refusal> {
        let (store, sources) = (self.store(), self.sources());
        let old = token.map(|token| store.token(token)).transpose()?;
        let ignores = old.as_ref().map_or(ignores, |old| old.head.ignores);
        let id = random_name()?;
        let mut now = sweep(&sources, &self.index, &id, ignores, patience)?;
        hash_young(&sources, &mut now, patience);
        let changed = match &old {
            None => Vec::new(),
            Some(old) if old.head.roots != now.head.roots => {
                return Err(Refusal::new(Code::TokenExpired, "the token is of other folders"));
            }
            Some(old) => self.compare(old, &now, &sources),
        };
        store.keep_token(&now)?;
        Ok(Since { token: id, changed, files: now.head.files })
    }

    fn compare(&self, old: &Manifest, new: &Manifest, sources: &[Source<'_>]) -> Vec<Changed> {
        let mut buffer = Vec::new();
        let mut same = |key: &Key, before: &Item, after: &Item| {
            let Some(known) = before.hash else { return false };
            // What the later moment knows is what was there then.
            let now = after.hash.or_else(|| hash(sources.get(key.0 as usize)?, &key.1, &mut buffer));
            now == Some(known)
        };
        let found = differences(old, new, &mut same);
        found.into_iter().map(|(key, what)| Changed { path: self.shown(key), what }).collect()
    }

    /// Takes a snapshot of all roots.
    ///
    /// # Errors
    /// `Quota`, `Timeout`, `Cancelled`.
    pub fn snapshot_create(
        &self,
        label: &str,
        ignores: bool,
        patience: &Patience<'_>,
    ) -> Result<Head, Refusal> {
        let id = random_name()?;
        self.store().create(&self.sources(), &self.index, (&id, label), ignores, patience)
    }

    /// The snapshots, oldest first, and the bytes that all of them take.
    pub fn snapshot_list(&self) -> (Vec<Head>, u64) {
        let store = self.store();
        (store.list(), store.bytes())
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// `NoSnapshot`.
    pub fn snapshot_remove(&self, id: &str) -> Result<(), Refusal> {
        self.store().remove(id)
    }

    /// What differs between a snapshot and another one, or now.
    ///
    /// # Errors
    /// `NoSnapshot`, `Timeout`, `Cancelled`.
    pub fn snapshot_diff(
        &self,
        from: &str,
        to: Option<&str>,
        paths: &[String],
        patience: &Patience<'_>,
    ) -> Result<Vec<Changed>, Refusal> {
        let (store, sources) = (self.store(), self.sources());
        let old = store.load(from)?;
        let new = match to {
            Some(id) => store.load(id)?,
            None => self.now(&old, &sources, patience)?,
        };
        let wanted = self.wanted(paths)?;
        let all = self.compare(&old, &new, &sources);
        Ok(all.into_iter().filter(|changed| self.is_wanted(&wanted, &changed.path)).collect())
    }

    fn now(
        &self,
        old: &Manifest,
        sources: &[Source<'_>],
        patience: &Patience<'_>,
    ) -> Result<Manifest, Refusal> {
        let now = sweep(sources, &self.index, "now", old.head.ignores, patience)?;
        if now.head.roots != old.head.roots {
            return Err(Refusal::new(Code::NoSnapshot, "the snapshot is of other folders"));
        }
        Ok(now)
    }

    fn wanted(&self, paths: &[String]) -> Result<Vec<(usize, Inside)>, Refusal> {
        paths.iter().map(|path| self.roots.locate(path).map(|spot| (spot.root, spot.inside))).collect()
    }

    fn is_wanted(&self, wanted: &[(usize, Inside)], path: &str) -> bool {
        wanted.is_empty()
            || self.roots.locate(path).is_ok_and(|spot| {
                wanted.iter().any(|(root, inside)| {
                    *root == spot.root && spot.inside.relative().starts_with(inside.relative())
                })
            })
    }

    /// Brings everything, or what lies at `paths`, back to a snapshot, all or nothing.
    ///
    /// # Errors
    /// `NoSnapshot`, `Conflict` when somebody changes the same files meanwhile, `TooLarge`, `ReadOnly`.
    pub fn snapshot_restore(
        &self,
        id: &str,
        paths: &[String],
        dry_run: bool,
        patience: &Patience<'_>,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Restored, Refusal> {
        let (store, sources) = (self.store(), self.sources());
        let old = store.load(id)?;
        let now = self.now(&old, &sources, patience)?;
        let wanted = self.wanted(paths)?;
        let mut buffer = Vec::new();
        let mut same = |key: &Key, before: &Item, _: &Item| {
            let source = sources.get(key.0 as usize);
            before.hash.is_some()
                && before.hash == source.and_then(|source| hash(source, &key.1, &mut buffer))
        };
        let found = differences(&old, &now, &mut same);
        let chosen: Vec<(&Key, Difference)> =
            found.into_iter().filter(|(key, _)| self.is_wanted(&wanted, &self.shown(key))).collect();
        let changed: Vec<Changed> =
            chosen.iter().map(|(key, what)| Changed { path: self.shown(key), what: *what }).collect();
        if dry_run || changed.is_empty() {
            return Ok(Restored { operation: None, changed });
        }
        let bytes: u64 = chosen.iter().filter_map(|(key, _)| old.items.get(*key)).map(|item| item.size).sum();
        if chosen.len() > RESTORE_FILES_MAX || bytes > RESTORE_BYTES_MAX {
            let text = format!("{} paths with {bytes} bytes are too many for one step", chosen.len());
            return Err(Refusal::new(Code::TooLarge, text).hint("restore some `paths` at a time"));
        }
        let spots = chosen.iter().map(|(key, what)| Ok((self.spot_of(key)?, *key, *what)));
        let spots = spots.collect::<Result<Vec<(Spot, &Key, Difference)>, Refusal>>()?;
        let names: Vec<_> = spots.iter().map(|(spot, ..)| self.lock_name(spot)).collect();
        let _names = self.journal.lock(&names)?;
        let mut steps = Vec::new();
        self.clear(&spots, &old, &now, &mut steps)?;
        self.put_back(&spots, (&store, &old, &now), &mut steps)?;
        let operation = self.carry_out(&format!("snapshot_restore {id}"), &steps, None, pulse)?;
        Ok(Restored { operation: Some(operation), changed })
    }

    fn spot_of(&self, (root, path): &Key) -> Result<Spot, Refusal> {
        use std::os::unix::ffi::OsStrExt;
        let inside = Inside::new(Path::new(std::ffi::OsStr::from_bytes(path)));
        let inside =
            inside.ok_or_else(|| Refusal::new(Code::Failed, "the snapshot has a path that is none"))?;
        Ok(self.roots.spot(*root as usize, inside))
    }

    /// Steps for what was not there then, the deepest first, and for what was of another kind.
    fn clear(
        &self,
        spots: &[(Spot, &Key, Difference)],
        old: &Manifest,
        now: &Manifest,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        for (spot, key, _) in spots.iter().rev() {
            let Some(item) = now.items.get(*key) else { continue };
            let then = old.items.get(*key).map(|item| item.what);
            match item.what {
                What::Folder if then.is_none() => steps.push(Step::RemoveEmptyFolder { spot: spot.clone() }),
                What::Folder if then == Some(What::Folder) => {}
                What::File | What::Link if matches!(then, Some(What::File | What::Link)) => {}
                What::File | What::Link => {
                    if let Some(before) = before(&self.roots, spot)? {
                        steps.push(Step::Remove { spot: spot.clone(), before });
                    }
                }
                What::Folder => {
                    let text = format!("`{}` was a file and is a folder now", spot.asked);
                    return Err(Refusal::new(Code::Conflict, text)
                        .at(&spot.asked)
                        .hint("move it away first"));
                }
            }
        }
        Ok(())
    }

    /// Steps for what was there then, folders before what is in them.
    fn put_back(
        &self,
        spots: &[(Spot, &Key, Difference)],
        (store, old, now): (&Store, &Manifest, &Manifest),
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let mut made: BTreeSet<&Key> = BTreeSet::new();
        for (spot, key, _) in spots {
            let Some(item) = old.items.get(*key) else { continue };
            let there = now.items.get(*key).map(|item| item.what);
            let content = match item.what {
                What::Folder => {
                    if there != Some(What::Folder) && made.insert(key) {
                        let (spot, mode) = (spot.clone(), Some(item.mode));
                        steps.push(Step::MakeFolder { spot, mode, may_exist: true });
                    }
                    continue;
                }
                What::File => Content::File(store.content(old, item)?),
                What::Link => Content::Link(String::from_utf8_lossy(&item.target).into_owned()),
            };
            let before = match there {
                Some(What::Folder) | None => None,
                Some(_) => before(&self.roots, spot)?,
            };
            let mtime = (
                item.mtime_ns.div_euclid(1_000_000_000),
                u32::try_from(item.mtime_ns.rem_euclid(1_000_000_000)).unwrap_or_default(),
            );
            let mode = (item.what == What::File).then_some(item.mode);
            steps.push(Step::Put { spot: spot.clone(), content, mode, mtime: Some(mtime), before });
        }
        Ok(())
    }
}
