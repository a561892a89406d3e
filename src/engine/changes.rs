//! What an agent does to the files of its workspace: write, edit, patch, replace, move, copy, delete; undo and
//! history; transactions.
//!
//! Each verb gathers what it means in a draft and ends it: carried out whole, kept in a transaction, or only shown.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::engine::drafts::{Draft, EDIT_BYTES_MAX, Finish, Outcome};
use crate::engine::pending::Transaction;
use crate::engine::workspaces::Workspace;
use crate::workspace::change::{Change, Later, Operation, Pulse};
use crate::workspace::commit::{Step, kind_of};
use crate::workspace::diff::{Merged, merge, unified_hunks};
use crate::workspace::edit::{self, Done, Edit, Level, Matching};
use crate::workspace::files;
use crate::workspace::journal::now_ms;
use crate::workspace::patch::form::{FilePatch, Form};
use crate::workspace::patch::hunk::{self, Placed};
use crate::workspace::patch::{blocks, codex, unified};
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::replace::{Needle, Place, replaced};
use crate::workspace::text::{Coding, LineEnd, LineEnds, with_line_end};
use crate::workspace::undo;

/// How often an edit is tried again when somebody else writes the file in the same moment.
const TRIES_MAX: u32 = 20;
/// Transactions that are open at once.
const TRANSACTIONS_MAX: usize = 16;
/// Largest difference in a refusal, in bytes.
const SHOWN_BYTES_MAX: usize = 16 << 10;

/// What goes for every change.
#[derive(Debug, Clone, Default)]
pub struct ChangeOptions {
    /// The hash that the file must have, or `absent`.
    pub if_match: Option<String>,
    /// Only show what would happen.
    pub dry_run: bool,
    /// The transaction that it is part of.
    pub tx: Option<String>,
    /// What new texts must pass: `conflict_markers`, `size`, `syntax`.
    pub checks: Vec<String>,
}

impl ChangeOptions {
    fn finish(&self) -> Finish {
        if self.dry_run { Finish::Show } else { Finish::Carry }
    }
}

/// A whole file to write.
#[derive(Debug, Clone, Default)]
pub struct WriteRequest {
    /// Its text.
    pub text: String,
    /// Nothing may be there.
    pub create_only: bool,
    /// Folders above it are made.
    pub create_parents: bool,
    /// Line ends: `lf`, `crlf`, or `keep` those that the file has.
    pub eol: Option<String>,
    /// The encoding; without it UTF-8.
    pub encoding: Option<String>,
    /// The mode of the file.
    pub mode: Option<u32>,
}

/// Edits of one file.
#[derive(Debug, Clone)]
pub struct EditRequest {
    /// The file.
    pub path: String,
    /// Its edits, each upon what the one before left.
    pub edits: Vec<Edit>,
    /// How loosely they are matched.
    pub matching: Matching,
    /// The hash that the file should have.
    pub if_match: Option<String>,
}

/// A needle to replace in many files.
#[derive(Debug, Clone)]
pub struct ReplaceRequest {
    /// The folder.
    pub path: String,
    /// What is looked for.
    pub needle: String,
    /// It is a regular expression.
    pub is_pattern: bool,
    /// Capitals make no difference.
    pub ignores_case: bool,
    /// What shall stand there.
    pub replacement: String,
    /// How many places there must be.
    pub expected: Option<usize>,
    /// Only the places of these names.
    pub chosen: Option<Vec<String>>,
}

/// What a patch did to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchedFile {
    /// The file.
    pub path: String,
    /// `add`, `delete`, `update`, `move`.
    pub what: &'static str,
    /// Where each hunk was found, and how loosely.
    pub hunks: Vec<(usize, Level)>,
}

/// What was taken back: the operation, the one that did so, what changed.
pub type Undone = (String, Option<String>, Vec<Change>);

impl Workspace {
    /// Writes a whole file.
    ///
    /// # Errors
    /// `Conflict`, `Exists`, `Encoding` and the like.
    pub fn write(
        &self,
        path: &str,
        request: &WriteRequest,
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Outcome, Refusal> {
        let mut draft = Draft::begin(self, &[path], options.tx.as_deref())?;
        if !request.create_parents {
            // As everywhere: a folder that is missing is a mistake unless it was said.
            let spot = self.roots.locate(path)?;
            if let Some((above, _)) = spot.inside.split() {
                self.roots.look(&crate::workspace::root::Spot { inside: above, ..spot }).map_err(
                    |_missing| {
                        Refusal::kernel("create", path, libc::ENOENT)
                            .hint("`create_parents: true` makes its folders")
                    },
                )?;
            }
        }
        check_match(&draft, path, options.if_match.as_deref())?;
        let old = draft.bytes(path)?;
        if request.create_only && old.is_some() {
            return Err(
                Refusal::kernel("create", path, libc::EEXIST).hint("leave `create_only` out to replace it")
            );
        }
        let end = match request.eol.as_deref() {
            None => None,
            Some("lf") => Some(LineEnd::Lf),
            Some("crlf") => Some(LineEnd::CrLf),
            Some("keep") => match old.and_then(|b| std::str::from_utf8(b).ok()).map(LineEnds::of) {
                Some(LineEnds::All(end)) => Some(end),
                _ => None,
            },
            Some(other) => {
                let text = format!("`{other}` is no line end: `lf`, `crlf` or `keep`");
                return Err(Refusal::new(Code::BadRequest, text));
            }
        };
        let text = end.map_or_else(|| request.text.clone(), |end| with_line_end(&request.text, end));
        let coding = request.encoding.as_deref().map(Coding::named).transpose()?.unwrap_or(Coding::PLAIN);
        draft.put(path, coding.into_bytes(text, path)?, request.mode)?;
        let outcome = draft.finish(&format!("write_file {path}"), options.finish(), pulse)?;
        self.mark_seen(path);
        Ok(outcome)
    }

    /// Edits files, all or none. Somebody who writes one of them in the same moment is waited out.
    ///
    /// # Errors
    /// `NoMatch`, `Ambiguous`, `Conflict` and the like; nothing has changed then.
    pub fn edit(
        &self,
        what: &str,
        requests: &[EditRequest],
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<(Outcome, Vec<Vec<Done>>), Refusal> {
        let mut tries = 0;
        loop {
            match self.edit_once(what, requests, options, pulse) {
                // The lock is ours, so this was somebody who knows of no locks.
                Err(e) if e.code == Code::Conflict && e.data.is_none() && tries < TRIES_MAX => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(u64::from(tries)));
                }
                other => return other,
            }
        }
    }

    fn edit_once(
        &self,
        what: &str,
        requests: &[EditRequest],
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<(Outcome, Vec<Vec<Done>>), Refusal> {
        let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
        let mut draft = Draft::begin(self, &paths, options.tx.as_deref())?;
        let (mut done, mut is_rebased) = (Vec::new(), false);
        for request in requests {
            let path = request.path.as_str();
            let wanted = request.if_match.as_deref().or(options.if_match.as_deref());
            let (text, coding) = draft.text(path, None)?;
            let stale = match check_match(&draft, path, wanted) {
                Err(e) if e.code == Code::Conflict && draft.bytes(path)?.is_some() => Some(e),
                other => other.map(|()| None)?,
            };
            let edited = match (&stale, wanted) {
                (None, _) => edit::apply(&text, &request.edits, request.matching, path)?,
                (Some(conflict), base) => {
                    is_rebased = true;
                    self.rebased(&text, request, base.unwrap_or_default(), conflict)?
                }
            };
            done.push(edited.done);
            let bytes = coding.into_bytes(edited.text, path)?;
            draft.put(path, bytes, None)?;
        }
        draft.check(&options.checks)?;
        let outcome = draft.finish(what, options.finish(), pulse)?;
        Ok((Outcome { is_rebased, ..outcome }, done))
    }

    /// Edits of an older text, put on the newer one where neither touches the other.
    fn rebased(
        &self,
        now: &str,
        request: &EditRequest,
        base: &str,
        conflict: &Refusal,
    ) -> Result<edit::Edited, Refusal> {
        let path = request.path.as_str();
        let Ok(base) = self.journal.kept(base) else {
            // What it was is not known: what is edited must be there letter for letter, and once.
            return edit::apply(now, &request.edits, Matching::Exact, path)
                .map_err(|_unlike| conflict.clone());
        };
        let base = String::from_utf8(base).map_err(|_no_text| conflict.clone())?;
        let ours = edit::apply(&base, &request.edits, request.matching, path)?;
        match merge(&base, &ours.text, now) {
            Merged::Text(text) => Ok(edit::Edited { text, done: ours.done }),
            Merged::Conflicts(lines) => {
                let mut since = unified_hunks(&base, now);
                since.truncate(
                    (0..=SHOWN_BYTES_MAX.min(since.len()))
                        .rev()
                        .find(|n| since.is_char_boundary(*n))
                        .unwrap_or(0),
                );
                let mut refusal = conflict.clone();
                refusal.message.push_str(&format!("\nwhat changed since you read it:\n{since}"));
                if let Some(data) = &mut refusal.data {
                    data["diff_since"] = since.into();
                    data["lines"] = lines.iter().map(|r| serde_json::json!([r.start, r.end])).collect();
                }
                Err(refusal)
            }
        }
    }

    /// Applies a patch, all of it or nothing.
    ///
    /// # Errors
    /// `PatchSyntax`, `NoMatch`, `AlreadyApplied` and the like; nothing has changed then.
    pub fn patch(
        &self,
        text: &str,
        form: Option<Form>,
        strip: Option<usize>,
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<(Outcome, Vec<PatchedFile>), Refusal> {
        let files = match form.map_or_else(|| Form::of(text), Ok)? {
            Form::Codex => codex::parse(text)?,
            Form::Unified => unified::parse(text, strip)?,
            Form::SearchReplace => blocks::parse(text)?,
        };
        let mut paths = Vec::new();
        for file in &files {
            match file {
                FilePatch::Add { path, .. }
                | FilePatch::Delete { path, .. }
                | FilePatch::Replace { path, .. } => paths.push(path.as_str()),
                FilePatch::Update { path, to, .. } => {
                    paths.push(path.as_str());
                    paths.extend(to.as_deref());
                }
            }
        }
        let mut draft = Draft::begin(self, &paths, options.tx.as_deref())?;
        let mut done = Vec::new();
        for file in &files {
            done.push(patch_one(&mut draft, file)?);
        }
        draft.check(&options.checks)?;
        let outcome = draft.finish("apply_patch", options.finish(), pulse)?;
        Ok((outcome, done))
    }

    /// Replaces a needle in every file below a folder that `wanted` says yes to, all or nothing. With `chosen`, only
    /// the places of these names. Gives the outcome and the places, with the file's path.
    ///
    /// # Errors
    /// `BadPattern`, `NoMatch`, `CountMismatch` and the like; nothing has changed then.
    pub fn replace(
        &self,
        request: &ReplaceRequest,
        wanted: &dyn Fn(&str) -> bool,
        left_out: &(dyn Fn(&str) -> bool + Sync),
        dry_run: bool,
        pulse: &(dyn Fn() -> Pulse + Sync),
    ) -> Result<(Outcome, Vec<(String, Place)>), Refusal> {
        let needle = Needle::new(&request.needle, request.is_pattern, request.ignores_case)?;
        let is_cancelled = || pulse() != Pulse::Go;
        let all = self.find_paths(&request.path, wanted, left_out, &is_cancelled)?;
        let holds = |path: &&String| {
            let Ok(spot) = self.roots.locate(path) else { return false };
            let may = self.roots.permit(spot.root, &spot.inside, path).is_ok();
            may && files::load(&self.roots, &spot, EDIT_BYTES_MAX)
                .is_ok_and(|loaded| Coding::of(&loaded.bytes).is_some() && needle.is_in(&loaded.bytes))
        };
        let paths: Vec<&str> = all.iter().filter(holds).map(String::as_str).collect();
        if is_cancelled() {
            return Err(Refusal::new(Code::Cancelled, "it was cancelled, and nothing has changed"));
        }
        let mut draft = Draft::begin(self, &paths, None)?;
        let mut found = Vec::new();
        for path in paths {
            let (text, coding) = draft.text(path, None)?;
            let places = needle.places(path, &text, &request.replacement, request.is_pattern)?;
            let is_chosen =
                |place: &&Place| request.chosen.as_ref().is_none_or(|ids| ids.contains(&place.id));
            let chosen: Vec<&Place> = places.iter().filter(is_chosen).collect();
            let new = (!chosen.is_empty())
                .then(|| coding.into_bytes(replaced(&text, &chosen), path))
                .transpose()?;
            found.extend(chosen.into_iter().map(|place| (path.to_owned(), place.clone())));
            if let Some(new) = new {
                draft.put(path, new, None)?;
            }
        }
        let wanted = request.chosen.as_ref().map(Vec::len).or(request.expected);
        if wanted.is_some_and(|wanted| wanted != found.len()) {
            let text = format!("it stands at {} places, not at {}", found.len(), wanted.unwrap_or_default());
            return Err(
                Refusal::new(Code::CountMismatch, text).hint("`dry_run: true` lists them with their ids")
            );
        }
        if found.is_empty() {
            return Err(Refusal::new(Code::NoMatch, format!("`{}` is in no file", request.needle)));
        }
        let finish = if dry_run { Finish::Show } else { Finish::Carry };
        Ok((draft.finish("replace_in_files", finish, pulse)?, found))
    }

    /// Makes a folder and those above it.
    ///
    /// # Errors
    /// `Exists` when a file is in the way, and the like.
    pub fn make_folder(&self, path: &str, pulse: &dyn Fn() -> Pulse) -> Result<Option<String>, Refusal> {
        let spot = self.roots.locate(path)?;
        match self.roots.look(&spot) {
            Ok(opened) if kind_of(&opened.stat) == rustix::fs::FileType::Directory => return Ok(None),
            Ok(_) => return Err(Refusal::kernel("make the folder", path, libc::EEXIST)),
            Err(e) if e.code == Code::NotFound => {}
            Err(other) => return Err(other),
        }
        let spot = self.target(path)?;
        let (mut made, mut steps) = (Vec::new(), Vec::new());
        self.missing_folders(&spot, &mut made, &mut steps)?;
        steps.push(Step::MakeFolder { spot, mode: None, may_exist: true });
        let operation = self.carry_out(&format!("create_directory {path}"), &steps, None, pulse)?;
        Ok(Some(operation.id))
    }

    /// Gives a file or folder another name; nothing may be there unless `overwrite`.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `Protected` and the like.
    pub fn move_to(
        &self,
        from: &str,
        to: &str,
        overwrite: bool,
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Option<String>, Refusal> {
        let (source, target) = (self.roots.locate(from)?, self.roots.locate(to)?);
        self.check_moved(&source, &target)?;
        let names = [self.lock_name(&source), self.lock_name(&target)];
        let _names = self.journal.lock(&names)?;
        let opened = self.roots.name(&source)?;
        let stat = rustix::fs::statat(&opened.fd, &opened.name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| Refusal::kernel("move", from, e.raw_os_error()))?;
        let mut steps = Vec::new();
        match files::before(&self.roots, &target) {
            Ok(Some(before)) if overwrite => steps.push(Step::Remove { spot: target.clone(), before }),
            Ok(None) => {}
            Err(e) if matches!(e.code, Code::ReadOnly | Code::Protected | Code::PathEscape) => return Err(e),
            _ => {
                return Err(
                    Refusal::kernel("move to", to, libc::EEXIST).hint("`overwrite: true` replaces a file")
                );
            }
        }
        if options.dry_run {
            return Ok(None);
        }
        let what = format!("move_file {from}");
        let mut moving = steps.clone();
        moving.push(Step::Move { from: source.clone(), to: target.clone() });
        match self.carry_out(&what, &moving, None, pulse) {
            // Another file system, or a lower layer: a file can be copied.
            Err(e) if e.code == Code::Unsupported && kind_of(&stat) == rustix::fs::FileType::RegularFile => {
                let Some(before) = files::before(&self.roots, &source)? else { return Err(e) };
                let Some(content) = before.content.clone() else { return Err(e) };
                let (mode, mtime) = (Some(before.version.mode), Some(before.version.mtime));
                steps.push(Step::Put { spot: target, content, mode, mtime, before: None });
                steps.push(Step::Remove { spot: source, before });
                self.carry_out(&what, &steps, None, pulse).map(|o| Some(o.id))
            }
            other => other.map(|o| Some(o.id)),
        }
    }

    /// A folder that moves must not carry something into or out of what is protected.
    fn check_moved(
        &self,
        from: &crate::workspace::root::Spot,
        to: &crate::workspace::root::Spot,
    ) -> Result<(), Refusal> {
        use crate::workspace::index::Index;
        use crate::workspace::patience::Patience;
        use crate::workspace::walk::{Start, Wanted, gather, joined};
        use std::os::unix::ffi::OsStrExt;
        let Ok(folder) = self.roots.open_folder(from) else { return Ok(()) };
        let start = Start {
            root: self.roots.root(from.root).fd(),
            folder: &folder,
            way: from.inside.relative().as_os_str().as_bytes(),
        };
        // An index of its own: what is decided on must be looked at now.
        let (found, _) = gather(&start, &Index::new(0), &Wanted::default(), &Patience::endless());
        let covers = |base: &crate::workspace::root::Spot, path: &[u8]| {
            let whole = base.inside.relative().join(std::ffi::OsStr::from_bytes(path));
            crate::workspace::path::Inside::new(&whole)
                .is_some_and(|inside| self.roots.protection().covers(&inside))
        };
        for kept in &found {
            for (name, _) in kept.iter() {
                let path = joined(&kept.path, name);
                if covers(from, &path) != covers(to, &path) {
                    let text = format!("`{}` holds, or would hold, what is protected", from.asked);
                    return Err(Refusal::new(Code::Protected, text).at(&from.asked));
                }
            }
        }
        Ok(())
    }

    /// Copies a file, or a folder with everything in it, inside the workspace.
    ///
    /// # Errors
    /// `Exists`, `TooLarge` and the like; nothing has changed then.
    pub fn copy(
        &self,
        pairs: &[(String, String)],
        overwrite: bool,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<(Outcome, u64), Refusal> {
        let targets: Vec<&str> = pairs.iter().map(|(_, to)| to.as_str()).collect();
        let mut draft = Draft::begin(self, &targets, None)?;
        let (mut total, most) = (0, EDIT_BYTES_MAX * 8);
        for (from, to) in pairs {
            let spot = self.roots.locate(from)?;
            let loaded = files::load(&self.roots, &spot, EDIT_BYTES_MAX)?;
            total += loaded.bytes.len() as u64;
            if total > most {
                return Err(Refusal::new(Code::TooLarge, format!("at most {most} bytes are copied at once"))
                    .hint("copy it in parts"));
            }
            if draft.bytes(to)?.is_some() && !overwrite {
                return Err(
                    Refusal::kernel("copy to", to, libc::EEXIST).hint("`overwrite: true` replaces it")
                );
            }
            draft.put(to, loaded.bytes, Some(loaded.stat.st_mode & 0o7777))?;
        }
        let outcome = draft.finish("copy_file", Finish::Carry, pulse)?;
        targets.iter().for_each(|to| self.mark_seen(to));
        Ok((outcome, total))
    }

    /// Removes files, links and, with `recursive`, folders; all or nothing.
    ///
    /// # Errors
    /// `IsDirectory`, `NotFound`, `Quota` when something cannot be kept for undo.
    pub fn delete(
        &self,
        paths: &[&str],
        recursive: bool,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Operation, Refusal> {
        let spots = paths.iter().map(|path| self.roots.locate(path)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = spots.iter().map(|spot| self.lock_name(spot)).collect();
        let _names = self.journal.lock(&names)?;
        let mut steps = Vec::new();
        for spot in spots {
            match files::before(&self.roots, &spot) {
                Ok(Some(before)) => steps.push(Step::Remove { spot, before }),
                Ok(None) => return Err(Refusal::kernel("delete", &spot.asked, libc::ENOENT)),
                Err(e) if e.code == Code::IsDirectory => {
                    let fd = self.roots.open_folder(&spot)?;
                    if !recursive && !files::names(fd.as_fd(), &spot)?.is_empty() {
                        return Err(Refusal::kernel("delete", &spot.asked, libc::ENOTEMPTY)
                            .hint("`recursive: true` deletes it with what is in it"));
                    }
                    let held = files::held(&self.roots, &self.journal, &spot)?;
                    steps.push(Step::RemoveTree { spot, held });
                }
                Err(other) => return Err(other),
            }
        }
        let what = match paths {
            [one] => format!("delete_file {one}"),
            many => format!("delete {} files", many.len()),
        };
        self.carry_out(&what, &steps, None, pulse)
    }

    // ── undo ────────────────────────────────────────────────────────────────────────────────────

    /// Operations that touched a path, newest first, and how many there are; with none, all.
    ///
    /// # Errors
    /// When the path is none.
    pub fn history(
        &self,
        path: Option<&str>,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<(Operation, bool)>, usize), Refusal> {
        let whole = path.map(|path| self.whole_path(path)).transpose()?;
        let whole = whole.map(|path| path.to_string_lossy().into_owned());
        let all = self.journal.operations();
        let open: Vec<String> = undo::undoable(&all).into_iter().map(|o| o.id.clone()).collect();
        let touches = |o: &Operation| whole.as_ref().is_none_or(|w| o.changes.iter().any(|c| c.touches(w)));
        let found: Vec<_> = all.into_iter().rev().filter(touches).collect();
        let count = found.len();
        let page = found.into_iter().skip(skip).take(limit);
        Ok((page.map(|o| (open.contains(&o.id), o)).map(|(is_open, o)| (o, is_open)).collect(), count))
    }

    /// Takes operations back: the one named, or the last `steps` that are not taken back yet. With `paths`, what
    /// concerns these alone.
    ///
    /// # Errors
    /// `Conflict` when something changed since, `NoOperation`, `Quota`.
    pub fn undo(
        &self,
        operation: Option<&str>,
        steps: usize,
        paths: &[String],
        later: Later,
        options: &ChangeOptions,
        pulse: &dyn Fn() -> Pulse,
    ) -> Result<Vec<Undone>, Refusal> {
        let all = self.journal.operations();
        let chosen: Vec<&Operation> = match operation {
            Some(id) => all.iter().filter(|o| o.id == id).collect(),
            None => undo::undoable(&all).into_iter().take(steps.max(1)).collect(),
        };
        if chosen.is_empty() {
            let text = operation.map_or_else(
                || "there is nothing to take back".to_owned(),
                |id| format!("there is no operation `{id}`"),
            );
            return Err(Refusal::new(Code::NoOperation, text).hint("`history` lists operations"));
        }
        let only = paths.iter().map(|p| self.whole_path(p).map(|p| p.to_string_lossy().into_owned()));
        let only = only.collect::<Result<Vec<_>, _>>()?;
        let mut done = Vec::new();
        for operation in chosen {
            let names = operation.changes.iter().filter_map(|change| {
                let spot = self.roots.locate(&change.place().whole()).ok()?;
                Some(self.lock_name(&spot))
            });
            let _names = self.journal.lock(&names.collect::<Vec<_>>())?;
            let steps = undo::steps(&self.roots, &self.journal, operation, &only, later)?;
            if options.dry_run {
                done.push((operation.id.clone(), None, operation.changes.clone()));
                continue;
            }
            let whole = (only.is_empty()).then_some(operation.id.as_str());
            let made = self.carry_out(&format!("undo {}", operation.id), &steps, whole, pulse)?;
            done.push((operation.id.clone(), Some(made.id), made.changes));
        }
        Ok(done)
    }

    // ── transactions ────────────────────────────────────────────────────────────────────────────

    /// Begins a transaction: changes that name it are gathered, seen by nobody, and made all at once.
    ///
    /// # Errors
    /// `Quota` when too many are open.
    pub fn transaction_begin(&self, label: &str, ttl: Duration) -> Result<(String, u64), Refusal> {
        let now = now_ms();
        let until_ms = now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let tx = format!("tx-{now:x}-{}", crate::workspace::journal::random_name()?);
        let mut all = self.transactions();
        all.retain(|_, transaction| transaction.until_ms >= now);
        if all.len() >= TRANSACTIONS_MAX {
            return Err(Refusal::new(Code::Quota, format!("{TRANSACTIONS_MAX} transactions are open"))
                .hint("commit or roll back one"));
        }
        all.insert(tx.clone(), Transaction::new(label, until_ms));
        Ok((tx, until_ms))
    }

    /// Forgets a transaction; gives the bytes that it held.
    ///
    /// # Errors
    /// `TxNotFound`.
    pub fn transaction_rollback(&self, tx: &str) -> Result<usize, Refusal> {
        let gone = self.transactions().remove(tx);
        gone.map(|t| t.size().1)
            .ok_or_else(|| Refusal::new(Code::TxNotFound, format!("there is no transaction `{tx}`")))
    }
}

/// Whether a file has the hash that was asked for.
fn check_match(draft: &Draft<'_>, path: &str, wanted: Option<&str>) -> Result<(), Refusal> {
    let Some(wanted) = wanted else { return Ok(()) };
    let now = draft.hash_before(path)?;
    let is_match = match &now {
        None => wanted == "absent",
        Some(hash) => wanted.trim_start_matches("blake3:").eq_ignore_ascii_case(hash),
    };
    if is_match {
        return Ok(());
    }
    let text = match &now {
        None => format!("`{path}` is not there any more"),
        Some(_) if wanted == "absent" => format!("`{path}` is there already"),
        Some(_) => format!("`{path}` has changed since it was read"),
    };
    Err(Refusal::new(Code::Conflict, text)
        .at(path)
        .hint("read it again and use its new hash")
        .data(serde_json::json!({"hash": now, "if_match": wanted})))
}

/// Puts one file of a patch into a draft.
fn patch_one(draft: &mut Draft<'_>, patch: &FilePatch) -> Result<PatchedFile, Refusal> {
    let done =
        |path: &str, what, hunks: Vec<(usize, Level)>| Ok(PatchedFile { path: path.to_owned(), what, hunks });
    match patch {
        FilePatch::Add { path, text, mode, may_replace } => {
            match draft.bytes(path)? {
                Some(bytes) if bytes == text.as_bytes() && !may_replace => {
                    let said = format!("`{path}` is there already, as the patch makes it");
                    return Err(Refusal::new(Code::AlreadyApplied, said).at(path));
                }
                Some(_) if !may_replace => {
                    return Err(Refusal::kernel("create", path, libc::EEXIST)
                        .hint("the patch makes a file that is there: update it instead"));
                }
                _ => {}
            }
            draft.put(path, text.clone().into_bytes(), *mode)?;
            done(path, "add", Vec::new())
        }
        FilePatch::Delete { path, text } => {
            if let (Some(text), Some(bytes)) = (text, draft.bytes(path)?) {
                let there = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
                if !text.is_empty() && there != *text {
                    let said = format!("`{path}` is not what the patch removes");
                    return Err(Refusal::new(Code::NoMatch, said).at(path).hint("read it again"));
                }
            }
            draft.remove(path)?;
            done(path, "delete", Vec::new())
        }
        FilePatch::Update { path, to, mode, hunks, may_replace } => {
            let (text, coding) = draft.text(path, None)?;
            let (text, placed) = hunk::apply(&text, hunks, path)?;
            let bytes = coding.into_bytes(text, path)?;
            let hunks = placed.into_iter().map(|Placed { line, level }| (line, level)).collect();
            match to {
                None => {
                    draft.put(path, bytes, *mode)?;
                    done(path, "update", hunks)
                }
                Some(to) => {
                    if draft.bytes(to)?.is_some() && !may_replace {
                        return Err(Refusal::kernel("move to", to, libc::EEXIST));
                    }
                    let mode = mode.or(draft.mode(path)?);
                    draft.remove(path)?;
                    draft.put(to, bytes, mode)?;
                    done(to, "move", hunks)
                }
            }
        }
        FilePatch::Replace { path, edits } => {
            let makes = edits.len() == 1 && edits.first().is_some_and(|e| e.old.trim().is_empty());
            if makes && draft.bytes(path)?.is_none_or(<[u8]>::is_empty) {
                let text = edits.first().map(|e| e.new.clone()).unwrap_or_default();
                draft.put(path, text.into_bytes(), None)?;
                return done(path, "add", Vec::new());
            }
            let (text, coding) = draft.text(path, None)?;
            let edited = edit::apply(&text, edits, Matching::Auto, path)?;
            let places =
                edited.done.iter().map(|d| (d.lines.first().copied().unwrap_or(1), d.level)).collect();
            draft.put(path, coding.into_bytes(edited.text, path)?, None)?;
            done(path, "update", places)
        }
    }
}
