//! After a death: what a process left half done is ended, so that each operation has happened whole or not at all.
//!
//! The log of the dead process says what was meant; which files are where says how far it came. What somebody else has
//! changed since is theirs and stays.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, Stat};

use crate::sys::fs::{open_beneath, remove_at};
use crate::workspace::change::{Act, Change, Inode, Intended, Line, Operation, Unfinished, Version};
use crate::workspace::commit::{inode, mtime, rename};
use crate::workspace::journal::{DeadLog, Journal};
use crate::workspace::path::Inside;
use crate::workspace::refusal::Refusal;
use crate::workspace::root::Roots;

/// Ends what dead processes left: each operation has happened whole or not at all afterwards. Gives the operations
/// that were ended, and whether each happened.
///
/// # Errors
/// When the journal cannot be written.
pub fn recover(roots: &Roots, journal: &Journal) -> Result<Vec<(String, bool)>, Refusal> {
    let mut ended = Vec::new();
    for mut log in journal.dead_logs() {
        let unfinished = std::mem::take(&mut log.unfinished);
        for operation in unfinished {
            ended.extend(recover_one(roots, &mut log, &operation)?);
        }
    }
    Ok(ended)
}

fn recover_one(
    roots: &Roots,
    log: &mut DeadLog,
    operation: &Unfinished,
) -> Result<Option<(String, bool)>, Refusal> {
    let opened: Option<Vec<Remnant>> =
        operation.steps.iter().map(|step| Remnant::open(roots, step)).collect();
    // A root that is not ours in this session: whoever has it ends it.
    let Some(remnants) = opened else { return Ok(None) };
    let id = operation.id.clone();
    let Some((_, inodes)) = &operation.committing else {
        remnants.iter().rev().for_each(Remnant::unstage);
        log.append(&Line::Aborted { id: id.clone() })?;
        return Ok(Some((id, false)));
    };
    if operation.is_done {
        remnants.iter().for_each(Remnant::discard);
        log.append(&Line::Tidied { id: id.clone() })?;
        return Ok(Some((id, true)));
    }
    let happened = |(remnant, inode): (&Remnant, &Option<Inode>)| remnant.has_happened(*inode);
    if remnants.iter().zip(inodes).all(happened) {
        log.append(&Line::Done { id: id.clone() })?;
        remnants.iter().for_each(Remnant::discard);
        log.append(&Line::Tidied { id: id.clone() })?;
        return Ok(Some((id, true)));
    }
    let version = |n: usize| operation.committing.as_ref().and_then(|(o, _)| after(o, &operation.steps[n]));
    for (n, (remnant, inode)) in remnants.iter().zip(inodes).enumerate().rev() {
        if remnant.has_happened(*inode) {
            remnant.take_back(version(n).as_ref());
        }
    }
    remnants.iter().rev().for_each(Remnant::unstage);
    log.append(&Line::Aborted { id: id.clone() })?;
    Ok(Some((id, false)))
}

/// What an operation says that a step's file is afterwards.
fn after(operation: &Operation, step: &Intended) -> Option<Version> {
    let whole = Inside::new(&Path::new(&step.folder).join(&step.name))?;
    operation.changes.iter().find_map(|change| match change {
        Change::File { path, after, .. }
            if path.root == step.root && Path::new(&path.path) == whole.relative() =>
        {
            after.clone()
        }
        _ => None,
    })
}

/// A step of a dead process, found again.
struct Remnant {
    /// The folder; `None` when it is not there, and so neither is anything in it.
    fd: Option<OwnedFd>,
    name: OsString,
    aside: OsString,
    act: Act,
    other: Option<(OwnedFd, OsString)>,
}

impl Remnant {
    fn open(roots: &Roots, step: &Intended) -> Option<Self> {
        let folder = |root: &str, folder: &str| {
            let (found, _) = roots.all().find(|(_, paths)| paths.real == Path::new(root))?;
            let inside = Inside::new(Path::new(folder))?;
            Some(
                open_beneath(found.fd(), inside.as_path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
                    .ok(),
            )
        };
        // The journal is ours, and yet a name from it is only ever a name.
        let plain = |name: &str| {
            (!name.is_empty() && name != ".." && name != "." && !name.contains('/'))
                .then(|| OsString::from(name))
        };
        let other = match &step.act {
            Act::Move { root, folder: to, name } => folder(root, to)?.zip(plain(name)),
            _ => None,
        };
        Some(Self {
            fd: folder(&step.root, &step.folder)?,
            name: plain(&step.name)?,
            aside: plain(&step.aside)?,
            act: step.act.clone(),
            other,
        })
    }

    fn stat(&self, name: &OsStr) -> Option<Stat> {
        rustix::fs::statat(self.fd.as_ref()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    fn has_happened(&self, moved: Option<Inode>) -> bool {
        match (&self.act, &self.other) {
            // It stands or falls with the rest: taking back removes it when it is empty.
            (Act::Folder | Act::EmptyFolder, _) => true,
            (Act::Replace | Act::Create, _) => self.stat(&self.name).map(|s| inode(&s)) == moved,
            (Act::Remove, _) => self.stat(&self.aside).map(|s| inode(&s)) == moved,
            (Act::Move { .. }, Some((fd, name))) => {
                let there = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
                there.map(|s| inode(&s)) == moved
            }
            (Act::Move { .. }, None) => false,
        }
    }

    /// Takes it back, unless somebody has changed it since: then what is there is theirs.
    fn take_back(&self, after: Option<&Version>) {
        let Some(fd) = self.fd.as_ref().map(AsFd::as_fd) else { return };
        if let (Act::Replace | Act::Create, Some(after)) = (&self.act, after) {
            let is_ours = self.stat(&self.name).is_some_and(|stat| {
                mtime(&stat) == after.mtime
                    && u64::try_from(stat.st_size).is_ok_and(|size| size == after.bytes)
            });
            if !is_ours {
                return;
            }
        }
        let _theirs = match (&self.act, &self.other) {
            (Act::Replace, _) if self.stat(&self.aside).is_some() => {
                rename(fd, &self.aside, fd, &self.name, RenameFlags::EXCHANGE)
            }
            (Act::Create, _) => rename(fd, &self.name, fd, &self.aside, RenameFlags::NOREPLACE),
            (Act::Remove, _) => rename(fd, &self.aside, fd, &self.name, RenameFlags::NOREPLACE),
            (Act::Move { .. }, Some((other, name))) => {
                rename(other.as_fd(), name, fd, &self.name, RenameFlags::NOREPLACE)
            }
            _ => Ok(()),
        };
    }

    fn unstage(&self) {
        let Some(fd) = &self.fd else { return };
        let _gone = match self.act {
            // It was not there when the operation began; with something in it it stays.
            Act::Folder => rustix::fs::unlinkat(fd, &self.name, AtFlags::REMOVEDIR),
            Act::Replace | Act::Create => rustix::fs::unlinkat(fd, &self.aside, AtFlags::empty()),
            _ => Ok(()),
        };
    }

    fn discard(&self) {
        let Some(fd) = &self.fd else { return };
        let _gone = match self.act {
            Act::Replace | Act::Remove => remove_at(fd.as_fd(), &self.aside),
            Act::EmptyFolder => rustix::fs::unlinkat(fd, &self.name, AtFlags::REMOVEDIR),
            _ => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::change::{Later, Pulse};
    use crate::workspace::commit::{Committer, Content, Step};
    use crate::workspace::files::{before, held};
    use crate::workspace::refusal::Code;
    use crate::workspace::root::{Access, RootRequest};
    use crate::workspace::undo;

    struct Scene {
        _dir: tempfile::TempDir,
        tree: PathBuf,
        journal: PathBuf,
        roots: Roots,
    }

    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (tree, journal) = (base.join("tree"), base.join("journal"));
        std::fs::create_dir_all(tree.join("sub/deep")).unwrap();
        for (name, text) in [("a", "one\n"), ("b", "two\n"), ("sub/c", "three\n"), ("sub/deep/d", "four\n")] {
            std::fs::write(tree.join(name), text).unwrap();
        }
        std::fs::set_permissions(tree.join("b"), PermissionsExt::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("a", tree.join("link")).unwrap();
        let request = RootRequest { path: tree.display().to_string(), access: Access::ReadWrite };
        let roots = Roots::open(&[request], None, &base, &[]).unwrap();
        Scene { _dir: dir, tree, journal, roots }
    }

    /// Every name of a tree with its mode, its content or target, and for files when they were changed.
    fn picture(tree: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut folders = vec![tree.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                let what = if meta.is_dir() {
                    folders.push(path.clone());
                    "folder".to_owned()
                } else if meta.is_symlink() {
                    format!("-> {}", std::fs::read_link(&path).unwrap().display())
                } else {
                    format!("{:?} {:?}", std::fs::read(&path).unwrap(), meta.modified().unwrap())
                };
                lines.push(format!("{} {:o} {what}", path.display(), meta.permissions().mode()));
            }
        }
        lines.sort();
        lines
    }

    fn put(scene: &Scene, path: &str, text: &str) -> Step {
        let spot = scene.roots.locate(path).unwrap();
        let before = before(&scene.roots, &spot).unwrap();
        Step::Put { spot, content: Content::File(text.as_bytes().to_vec()), mode: None, mtime: None, before }
    }

    /// One of everything: replace, create, create in a new folder, remove, remove a tree, move.
    fn steps(scene: &Scene, journal: &Journal) -> Vec<Step> {
        let spot = |path: &str| scene.roots.locate(path).unwrap();
        let removed = |path: &str| Step::Remove {
            spot: spot(path),
            before: before(&scene.roots, &spot(path)).unwrap().unwrap(),
        };
        vec![
            Step::MakeFolder { spot: spot("new"), mode: None, may_exist: true },
            put(scene, "a", "ONE\n"),
            put(scene, "new/e", "five\n"),
            removed("link"),
            Step::RemoveTree {
                spot: spot("sub/deep"),
                held: held(&scene.roots, journal, &spot("sub/deep")).unwrap(),
            },
            Step::Move { from: spot("b"), to: spot("sub/b") },
            put(scene, "sub/c", "THREE\n"),
        ]
    }

    #[test]
    fn a_death_between_any_two_steps_leaves_the_tree_exactly_before_or_after() {
        let mut ends = Vec::new();
        for death in 0..40 {
            let scene = scene();
            let was = picture(&scene.tree);
            let journal = Journal::open(&scene.journal).unwrap();
            let count = Cell::new(0);
            let pulse = || {
                count.set(count.get() + 1);
                if count.get() > death { Pulse::Die } else { Pulse::Go }
            };
            let steps = steps(&scene, &journal);
            let done = Committer { roots: &scene.roots, journal: &journal, pulse: &pulse }
                .commit("all", &steps, None);
            drop(journal);
            let journal = Journal::open(&scene.journal).unwrap();
            let ended = recover(&scene.roots, &journal).unwrap();
            let is = picture(&scene.tree);
            match (&done, ended.as_slice()) {
                (Ok(_), []) => ends.push("done"),
                (Err(_), [(_, false)]) => {
                    assert_eq!(is, was, "death after {death} steps");
                    ends.push("before");
                }
                (Err(_), [(_, true)]) => ends.push("after"),
                other => panic!("{other:?}"),
            }
            if is != was {
                let names: Vec<_> = is
                    .iter()
                    .filter_map(|l| l.split(' ').next()?.strip_prefix(scene.tree.to_str()?))
                    .collect();
                assert_eq!(
                    names,
                    ["/a", "/new", "/new/e", "/sub", "/sub/b", "/sub/c"],
                    "death after {death} steps"
                );
                assert_eq!(std::fs::read_to_string(scene.tree.join("a")).unwrap(), "ONE\n");
                assert_eq!(journal.operations().len(), 1);
            }
            assert!(recover(&scene.roots, &journal).unwrap().is_empty(), "what was ended stays ended");
            if done.is_ok() {
                break;
            }
        }
        ends.dedup();
        assert_eq!(ends, ["before", "after", "done"], "each kind of end was seen");
    }

    #[test]
    fn undo_of_everything_is_identity_and_can_be_undone() {
        let scene = scene();
        let was = picture(&scene.tree);
        let journal = Journal::open(&scene.journal).unwrap();
        let committer = Committer { roots: &scene.roots, journal: &journal, pulse: &|| Pulse::Go };
        let operation = committer.commit("all", &steps(&scene, &journal), None).unwrap();
        let changed = picture(&scene.tree);
        assert_ne!(changed, was);
        let back = undo::steps(&scene.roots, &journal, &operation, &[], Later::Keep).unwrap();
        let undone = committer.commit("undo", &back, Some(&operation.id)).unwrap();
        assert_eq!(picture(&scene.tree), was);
        let again = undo::steps(&scene.roots, &journal, &undone, &[], Later::Keep).unwrap();
        committer.commit("redo", &again, Some(&undone.id)).unwrap();
        assert_eq!(picture(&scene.tree), changed);
        assert_eq!(
            undo::undoable(&journal.operations()).len(),
            1,
            "what was done again can be taken back again"
        );
    }

    #[test]
    fn undo_refuses_to_overwrite_what_came_later() {
        let scene = scene();
        let journal = Journal::open(&scene.journal).unwrap();
        let committer = Committer { roots: &scene.roots, journal: &journal, pulse: &|| Pulse::Go };
        let operation =
            committer.commit("all", &[put(&scene, "a", "ONE\n"), put(&scene, "b", "TWO\n")], None).unwrap();
        std::fs::write(scene.tree.join("a"), "mine\n").unwrap();
        let refused = undo::steps(&scene.roots, &journal, &operation, &[], Later::Keep).unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
        let only = [scene.tree.join("b").display().to_string()];
        let part = undo::steps(&scene.roots, &journal, &operation, &only, Later::Keep).unwrap();
        committer.commit("undo", &part, None).unwrap();
        assert_eq!(std::fs::read_to_string(scene.tree.join("b")).unwrap(), "two\n");
        let forced =
            undo::steps(&scene.roots, &journal, &operation, &[only[0].replace("/b", "/a")], Later::Overwrite)
                .unwrap();
        committer.commit("undo", &forced, None).unwrap();
        assert_eq!(std::fs::read_to_string(scene.tree.join("a")).unwrap(), "one\n");
    }

    #[test]
    fn a_file_that_somebody_else_wrote_meanwhile_stops_everything() {
        let scene = scene();
        let journal = Journal::open(&scene.journal).unwrap();
        let steps = [put(&scene, "a", "ONE\n"), put(&scene, "b", "TWO\n")];
        let was = picture(&scene.tree);
        // Between staging and exchange: after the fourth question.
        let count = Cell::new(0);
        let pulse = || {
            count.set(count.get() + 1);
            if count.get() == 5 {
                std::fs::write(scene.tree.join("b"), "theirs\n").unwrap();
            }
            Pulse::Go
        };
        let refused =
            Committer { roots: &scene.roots, journal: &journal, pulse: &pulse }.commit("x", &steps, None);
        assert_eq!(refused.unwrap_err().code, Code::Conflict);
        assert_eq!(std::fs::read_to_string(scene.tree.join("a")).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(scene.tree.join("b")).unwrap(), "theirs\n");
        assert_eq!(picture(&scene.tree).len(), was.len(), "nothing is left beside");
        let cancelled = Committer { roots: &scene.roots, journal: &journal, pulse: &|| Pulse::Cancel };
        assert_eq!(cancelled.commit("x", &[put(&scene, "a", "1")], None).unwrap_err().code, Code::Cancelled);
    }
}
