//! Files on their way to a new content: what one call works on, and what a transaction gathers.
//!
//! A draft holds the locks of the names it works on, so nobody else's edit comes between reading and writing. It is
//! carried out whole, put into a transaction, or only shown.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::engine::checks::pass;
use crate::engine::pending::{Key, Pending};
use crate::engine::workspaces::{Workspace, binary};
use crate::workspace::change::{Operation, Pulse};
use crate::workspace::commit::{Before, Committer, Content, Step};
use crate::workspace::diff::unified;
use crate::workspace::files;
use crate::workspace::journal::{KEPT_BYTES_MAX, Names, now_ms};
use crate::workspace::path::Inside;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::Spot;
use crate::workspace::text::Coding;

/// Largest file that is edited, in bytes.
pub const EDIT_BYTES_MAX: u64 = 64 << 20;
/// Bytes that one transaction may hold.
const TRANSACTION_BYTES_MAX: usize = 128 << 20;
/// Largest text whose difference is shown, in bytes; beyond, only that it differs.
const DIFF_BYTES_MAX: usize = 64 << 20;

/// One file of a draft.
#[derive(Debug)]
struct Drafted {
    spot: Spot,
    before: Option<Before>,
    /// What was there, where `before` does not hold it: too large to be kept, or pending in a transaction.
    old: Option<Vec<u8>>,
    /// What shall be there, once that was said: bytes, or nothing.
    to: Option<Option<Vec<u8>>>,
    mode: Option<u32>,
}

impl Drafted {
    fn old(&self) -> Option<&[u8]> {
        match (&self.old, &self.before) {
            (Some(old), _) => Some(old),
            (None, Some(Before { content: Some(Content::File(bytes)), .. })) => Some(bytes),
            _ => None,
        }
    }

    fn now(&self) -> Option<&[u8]> {
        self.to.as_ref().map_or_else(|| self.old(), |to| to.as_deref())
    }
}

/// Files that one call works on.
pub struct Draft<'a> {
    workspace: &'a Workspace,
    tx: Option<String>,
    files: BTreeMap<Key, Drafted>,
    /// In the order in which they were touched.
    order: Vec<Key>,
    _names: Names,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its path as it was asked for.
    pub path: String,
    /// Its real path.
    pub real: PathBuf,
    /// BLAKE3 before; `None` when it was not there.
    pub hash_before: Option<String>,
    /// BLAKE3 afterwards; `None` when it is gone.
    pub hash_after: Option<String>,
    /// Bytes afterwards.
    pub bytes: usize,
    /// The difference in the unified form, with the reference's heading; empty when it is no text.
    pub diff: String,
    /// Other names led to the file, and keep the old content.
    pub is_split: bool,
}

/// What became of a draft.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The operation, when it was carried out.
    pub operation: Option<String>,
    /// The files.
    pub changed: Vec<Changed>,
    /// Two changes were put together because neither touched the other.
    pub is_rebased: bool,
}

/// How a draft ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// It is carried out, or put into its transaction.
    Carry,
    /// It is only shown.
    Show,
}

impl<'a> Draft<'a> {
    /// Begins to work on these paths: resolves them, waits for their locks, and reads what is there.
    ///
    /// # Errors
    /// What stands in the way of the first one.
    pub fn begin(workspace: &'a Workspace, paths: &[&str], tx: Option<&str>) -> Result<Self, Refusal> {
        let mut spots = Vec::new();
        for path in paths {
            spots.push(workspace.target(path)?);
        }
        let names: Vec<_> = spots.iter().map(|spot| workspace.lock_name(spot)).collect();
        let names = workspace.journal.lock(&names)?;
        if let Some(tx) = tx {
            workspace.check_transaction(tx)?;
        }
        let mut draft = Self {
            workspace,
            tx: tx.map(str::to_owned),
            files: BTreeMap::new(),
            order: Vec::new(),
            _names: names,
        };
        for spot in spots {
            draft.read(spot)?;
        }
        Ok(draft)
    }

    fn read(&mut self, spot: Spot) -> Result<(), Refusal> {
        let key = (spot.root, spot.inside.clone());
        if self.files.contains_key(&key) {
            return Ok(());
        }
        let pending =
            self.tx.as_ref().and_then(|tx| self.workspace.transactions().get(tx)?.files.get(&key).cloned());
        let blank = Drafted { spot, before: None, old: None, to: None, mode: None };
        let drafted = if let Some(pending) = pending {
            Drafted { old: pending.now, mode: pending.mode, ..blank }
        } else {
            match files::load(&self.workspace.roots, &blank.spot, EDIT_BYTES_MAX) {
                Ok(loaded) if loaded.bytes.len() as u64 > KEPT_BYTES_MAX => {
                    let old = Some(loaded.bytes.clone());
                    Drafted { old, before: Some(loaded.into_before()), ..blank }
                }
                Ok(loaded) => Drafted { before: Some(loaded.into_before()), ..blank },
                Err(e) if e.code == Code::NotFound => blank,
                Err(other) => return Err(other),
            }
        };
        self.order.push(key.clone());
        self.files.insert(key, drafted);
        Ok(())
    }

    fn key(&self, path: &str) -> Result<Key, Refusal> {
        let spot = self.workspace.target(path)?;
        Ok((spot.root, spot.inside))
    }

    fn file(&self, path: &str) -> Result<&Drafted, Refusal> {
        let key = self.key(path)?;
        // It was moved away between two looks, or was never asked for.
        self.files
            .get(&key)
            .ok_or_else(|| Refusal::new(Code::Conflict, format!("`{path}` was moved meanwhile")).at(path))
    }

    fn file_mut(&mut self, path: &str) -> Result<&mut Drafted, Refusal> {
        let key = self.key(path)?;
        self.files
            .get_mut(&key)
            .ok_or_else(|| Refusal::new(Code::Conflict, format!("`{path}` was moved meanwhile")).at(path))
    }

    /// The bytes of a file now, `None` when it is not there.
    ///
    /// # Errors
    /// When it was moved meanwhile.
    pub fn bytes(&self, path: &str) -> Result<Option<&[u8]>, Refusal> {
        Ok(self.file(path)?.now())
    }

    /// The text of a file and its coding.
    ///
    /// # Errors
    /// `NotFound`, `Binary` or `Encoding`.
    pub fn text(
        &self,
        path: &str,
        encoding: Option<Coding>,
    ) -> Result<(std::borrow::Cow<'_, str>, Coding), Refusal> {
        let file = self.file(path)?;
        let bytes = file.now().ok_or_else(|| Refusal::kernel("open", path, libc::ENOENT))?;
        let coding = encoding.or_else(|| Coding::of(bytes)).ok_or_else(|| binary(&file.spot, bytes))?;
        Ok((coding.decode(bytes, path)?, coding))
    }

    /// The hash of what was there when the draft began.
    ///
    /// # Errors
    /// When it was moved meanwhile.
    pub fn hash_before(&self, path: &str) -> Result<Option<String>, Refusal> {
        let file = self.file(path)?;
        Ok(match (&file.before, file.old()) {
            (Some(before), _) => Some(before.version.hash.clone()),
            (None, old) => old.map(|bytes| blake3::hash(bytes).to_hex().to_string()),
        })
    }

    /// Gives a file a content.
    ///
    /// # Errors
    /// `TooLarge`, or that it was moved meanwhile.
    pub fn put(&mut self, path: &str, bytes: Vec<u8>, mode: Option<u32>) -> Result<(), Refusal> {
        if bytes.len() as u64 > EDIT_BYTES_MAX {
            let text =
                format!("`{path}` would have {} bytes, and {EDIT_BYTES_MAX} are the most", bytes.len());
            return Err(Refusal::new(Code::TooLarge, text).at(path));
        }
        let file = self.file_mut(path)?;
        file.to = Some(Some(bytes));
        file.mode = mode.or(file.mode);
        Ok(())
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, path: &str) -> Result<(), Refusal> {
        let file = self.file_mut(path)?;
        if file.now().is_none() {
            return Err(Refusal::kernel("delete", path, libc::ENOENT));
        }
        file.to = Some(None);
        Ok(())
    }

    /// The mode of the file that is there.
    ///
    /// # Errors
    /// When it was moved meanwhile.
    pub fn mode(&self, path: &str) -> Result<Option<u32>, Refusal> {
        let file = self.file(path)?;
        Ok(file.mode.or(file.before.as_ref().map(|b| b.version.mode)))
    }

    /// Whether every new content passes the checks that were asked for.
    ///
    /// # Errors
    /// `CheckFailed` and `BadRequest`.
    pub fn check(&self, checks: &[String]) -> Result<(), Refusal> {
        for file in self.files.values() {
            if let Some(Some(new)) = &file.to {
                pass(&file.spot.asked, file.old(), new, checks)?;
            }
        }
        Ok(())
    }

    /// What changes, with hashes and differences.
    pub fn changed(&self) -> Vec<Changed> {
        let files = self.order.iter().filter_map(|key| self.files.get(key)).filter(|file| file.to.is_some());
        files.map(|file| self.one_changed(file)).collect()
    }

    fn one_changed(&self, file: &Drafted) -> Changed {
        let (old, now) = (file.old(), file.now());
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let hash_before = match (&file.before, old) {
            (Some(before), _) => Some(before.version.hash.clone()),
            (None, old) => old.map(hash),
        };
        let real = self.workspace.roots.paths(file.spot.root).real.join(file.spot.inside.relative());
        Changed {
            path: file.spot.asked.clone(),
            diff: difference(&real.to_string_lossy(), old, now),
            real,
            hash_before,
            hash_after: now.map(hash),
            bytes: now.map_or(0, <[u8]>::len),
            is_split: file.before.as_ref().is_some_and(|b| b.links > 1),
        }
    }

    /// Carries the draft out, puts it into its transaction, or only shows it.
    ///
    /// # Errors
    /// `Conflict` and what else stands in the way; nothing has changed then.
    pub fn finish(mut self, what: &str, how: Finish, pulse: &dyn Fn() -> Pulse) -> Result<Outcome, Refusal> {
        let changed = self.changed();
        let mut outcome = Outcome { operation: None, changed, is_rebased: false };
        if how == Finish::Show {
            return Ok(outcome);
        }
        if let Some(tx) = self.tx.take() {
            self.into_transaction(&tx)?;
            return Ok(outcome);
        }
        let steps = self.steps()?;
        if steps.is_empty() {
            return Ok(outcome);
        }
        let operation = self.workspace.carry_out(what, &steps, None, pulse)?;
        outcome.operation = Some(operation.id);
        Ok(outcome)
    }

    fn steps(&mut self) -> Result<Vec<Step>, Refusal> {
        let (mut folders, mut steps, mut made) = (Vec::new(), Vec::new(), Vec::<Key>::new());
        for key in std::mem::take(&mut self.order) {
            let Some(file) = self.files.remove(&key) else { continue };
            let Some(to) = file.to else { continue };
            match (to, file.before) {
                (Some(bytes), before) => {
                    // What is as it was needs no new file, unless its mode changes.
                    let is_same = before.as_ref().is_some_and(|b| {
                        file.mode.is_none_or(|mode| mode == b.version.mode)
                            && matches!(&b.content, Some(Content::File(old)) if *old == bytes)
                    });
                    if is_same {
                        continue;
                    }
                    self.workspace.missing_folders(&file.spot, &mut made, &mut folders)?;
                    let content = Content::File(bytes);
                    steps.push(Step::Put { spot: file.spot, content, mode: file.mode, mtime: None, before });
                }
                (None, Some(before)) => steps.push(Step::Remove { spot: file.spot, before }),
                (None, None) => {}
            }
        }
        folders.extend(steps);
        Ok(folders)
    }

    fn into_transaction(self, tx: &str) -> Result<(), Refusal> {
        let mut all = self.workspace.transactions();
        let transaction = all.get_mut(tx).ok_or_else(|| unknown(tx))?;
        let room = TRANSACTION_BYTES_MAX.saturating_sub(transaction.size().1);
        let more: usize = self.files.values().filter_map(|f| f.to.as_ref()?.as_ref()).map(Vec::len).sum();
        if more > room {
            let text = format!("the transaction would hold more than {TRANSACTION_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::Quota, text).hint("commit it, and go on in another one"));
        }
        for (key, file) in self.files {
            let Some(now) = file.to else { continue };
            let base = match (file.before, file.old) {
                (Some(Before { content: Some(Content::File(bytes)), version, .. }), _) => {
                    Some((version.hash, bytes))
                }
                (Some(before), Some(old)) => Some((before.version.hash, old)),
                _ => None,
            };
            match transaction.files.get_mut(&key) {
                Some(pending) => (pending.now, pending.mode) = (now, file.mode),
                None => drop(transaction.files.insert(key, Pending { base, now, mode: file.mode })),
            }
        }
        Ok(())
    }
}

/// The difference of two contents, when both are text.
pub fn difference(name: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> String {
    let text = |bytes: Option<&[u8]>| -> Option<String> {
        let bytes = bytes.unwrap_or_default();
        if bytes.len() > DIFF_BYTES_MAX {
            return None;
        }
        Some(Coding::of(bytes)?.decode(bytes, name).ok()?.into_owned())
    };
    match (text(old), text(new)) {
        (Some(old), Some(new)) => unified(name, &old, &new),
        _ => String::new(),
    }
}

fn unknown(tx: &str) -> Refusal {
    Refusal::new(Code::TxNotFound, format!("there is no transaction `{tx}`")).hint("`tx_begin` makes one")
}

impl Workspace {
    /// The place that a change of `path` is about, links followed.
    pub(crate) fn target(&self, path: &str) -> Result<Spot, Refusal> {
        let spot = self.roots.locate(path)?;
        match self.roots.parent(&spot) {
            Ok(parent) => Ok(Spot { root: parent.root, inside: parent.inside, ..spot }),
            // Its folder is yet to come, where the nearest one that is there may be changed.
            Err(e) if e.code == Code::NotFound && e.message.contains("find the folder") => {
                self.roots.permit(spot.root, &spot.inside, path)?;
                self.check_above(&spot)?;
                Ok(spot)
            }
            Err(other) => Err(other),
        }
    }

    /// Whether the nearest folder above that is there may be changed.
    fn check_above(&self, spot: &Spot) -> Result<(), Refusal> {
        let mut at = spot.inside.clone();
        while let Some((above, _)) = at.split() {
            let there = Spot { inside: above.clone(), ..spot.clone() };
            match self.roots.look(&there) {
                Ok(opened) => {
                    let (root, real) = self
                        .roots
                        .place_of(opened.fd.as_fd())
                        .ok_or_else(|| Refusal::kernel("change", &spot.asked, libc::EXDEV))?;
                    let rest = spot.inside.relative().strip_prefix(above.relative()).ok();
                    let whole = rest.and_then(|rest| Inside::new(&real.relative().join(rest)));
                    return self.roots.permit(root, &whole.unwrap_or(real), &spot.asked);
                }
                Err(e) if e.code == Code::NotFound => at = above,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// By what the lock of a name is found.
    pub(crate) fn lock_name(&self, spot: &Spot) -> ((u64, u64), Vec<u8>) {
        match self.roots.name(spot) {
            Ok(parent) => {
                let stat = rustix::fs::fstat(&parent.fd);
                let inode = stat.map_or((0, 0), |s| (s.st_dev, s.st_ino));
                (inode, parent.name.as_encoded_bytes().to_vec())
            }
            Err(_) => ((0, 0), spot.absolute.as_os_str().as_encoded_bytes().to_vec()),
        }
    }

    /// Steps that make the folders above a place.
    pub(crate) fn missing_folders(
        &self,
        spot: &Spot,
        made: &mut Vec<Key>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Refusal> {
        let (mut missing, mut at) = (Vec::new(), spot.inside.clone());
        while let Some((above, _)) = at.split().filter(|(above, _)| !above.is_root()) {
            let there = self.roots.spot(spot.root, above.clone());
            match self.roots.look(&there) {
                Err(e) if e.code == Code::NotFound => missing.push(there),
                other => {
                    other?;
                    break;
                }
            }
            at = above;
        }
        for folder in missing.into_iter().rev() {
            let key = (folder.root, folder.inside.clone());
            if !made.contains(&key) {
                made.push(key);
                steps.push(Step::MakeFolder { spot: folder, mode: None, may_exist: true });
            }
        }
        Ok(())
    }

    /// Carries steps out, all or none.
    pub(crate) fn carry_out(
        &self,
        what: &str,
        steps: &[Step],
        undoes: Option<&str>,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Operation, Refusal> {
        Committer { roots: &self.roots, journal: &self.journal, pulse }.commit(what, steps, undoes)
    }

    // ── transactions ────────────────────────────────────────────────────────────────────────────

    fn check_transaction(&self, tx: &str) -> Result<(), Refusal> {
        let mut all = self.transactions();
        match all.get(tx) {
            None => Err(unknown(tx)),
            Some(transaction) if transaction.until_ms < now_ms() => {
                all.remove(tx);
                Err(Refusal::new(Code::TxExpired, format!("the transaction `{tx}` is too old and gone"))
                    .hint("`tx_begin` makes one; `ttl_s` says for how long"))
            }
            Some(_) => Ok(()),
        }
    }

    /// What a transaction would change.
    ///
    /// # Errors
    /// `TxNotFound` or `TxExpired`.
    pub fn transaction_diff(&self, tx: &str) -> Result<Vec<Changed>, Refusal> {
        self.check_transaction(tx)?;
        let all = self.transactions();
        let transaction = all.get(tx).ok_or_else(|| unknown(tx))?;
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let changed = transaction.files.iter().map(|((root, inside), pending)| {
            let real = self.roots.paths(*root).real.join(inside.relative());
            let base = pending.base.as_ref().map(|(_, bytes)| bytes.as_slice());
            Changed {
                path: real.to_string_lossy().into_owned(),
                diff: difference(&real.to_string_lossy(), base, pending.now.as_deref()),
                real,
                hash_before: pending.base.as_ref().map(|(hash, _)| hash.clone()),
                hash_after: pending.now.as_deref().map(hash),
                bytes: pending.now.as_ref().map_or(0, Vec::len),
                is_split: false,
            }
        });
        Ok(changed.collect())
    }

    /// Carries a transaction out, all or nothing. With `merges`, what others changed meanwhile is put together with it
    /// where no line is touched by both.
    ///
    /// # Errors
    /// `Conflict` with the paths; the transaction is kept then.
    pub fn transaction_commit(
        &self,
        tx: &str,
        merges: Merging,
        checks: &[String],
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Outcome, Refusal> {
        self.check_transaction(tx)?;
        let (label, pending) = {
            let all = self.transactions();
            let transaction = all.get(tx).ok_or_else(|| unknown(tx))?;
            (transaction.label.clone(), transaction.files.clone())
        };
        let paths: Vec<String> =
            pending.keys().map(|(root, inside)| self.roots.spot(*root, inside.clone()).asked).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut draft = Draft::begin(self, &paths, None)?;
        let (mut conflicts, mut is_rebased) = (Vec::new(), false);
        for (path, pending) in paths.iter().zip(pending.into_values()) {
            let now = draft.hash_before(path)?;
            let is_as_it_was = now == pending.base.as_ref().map(|(hash, _)| hash.clone());
            match (is_as_it_was, pending.now) {
                (true, Some(bytes)) => draft.put(path, bytes, pending.mode)?,
                (true, None) if now.is_some() => draft.remove(path)?,
                (true, None) => {}
                (false, new) => {
                    let base = pending.base.as_ref().map(|(_, bytes)| bytes.as_slice());
                    match merged(merges, base, new.as_deref(), draft.bytes(path)?) {
                        Some(bytes) => {
                            is_rebased = true;
                            draft.put(path, bytes, pending.mode)?;
                        }
                        None => conflicts.push((*path).to_owned()),
                    }
                }
            }
        }
        if !conflicts.is_empty() {
            let text = format!("changed by others since the transaction began: {}", conflicts.join(", "));
            return Err(Refusal::new(Code::Conflict, text)
                .hint(
                    "`on_conflict: merge3` puts together what does not touch; else roll back and begin again",
                )
                .data(serde_json::json!({ "paths": conflicts })));
        }
        draft.check(checks)?;
        let what = if label.is_empty() { "tx_commit".to_owned() } else { format!("tx_commit {label}") };
        let outcome = draft.finish(&what, Finish::Carry, pulse)?;
        self.transactions().remove(tx);
        Ok(Outcome { is_rebased, ..outcome })
    }
}

/// What happens with files that others changed while a transaction was open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merging {
    /// They stand in the way.
    Fail,
    /// Both changes are put together, line by line.
    ThreeWay,
}

fn merged(
    merging: Merging,
    base: Option<&[u8]>,
    ours: Option<&[u8]>,
    theirs: Option<&[u8]>,
) -> Option<Vec<u8>> {
    use crate::workspace::diff::{Merged, merge};
    if merging == Merging::Fail {
        return None;
    }
    let text = |bytes: Option<&[u8]>| bytes.and_then(|b| std::str::from_utf8(b).ok().map(str::to_owned));
    match merge(&text(base)?, &text(ours)?, &text(theirs)?) {
        Merged::Text(text) => Some(text.into_bytes()),
        Merged::Conflicts(_) => None,
    }
}
