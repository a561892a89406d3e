//! Changes of many files, all or nothing: stage beside, write down what is meant, exchange one by one, say that it
//! happened.
//!
//! A file is never written in place. The new one is staged under another name in the same folder with its mode and
//! owner, then both names are exchanged, so the old file is at hand until the end; what comes out must be the file
//! that was read, or everything goes back (`CONFLICT`). A process that dies at any point leaves a log from which the
//! next one brings the tree to exactly before or exactly after: `recover`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::sys::fs::{open_beneath, remove_at};
use crate::workspace::change::{
    Act, Change, Inode, Intended, Line, Operation, Place, Pulse, Unfinished, VERSION, Version,
};
use crate::workspace::journal::{DeadLog, Durability, Journal};
use crate::workspace::path::Inside;
use crate::workspace::refusal::{Code, Refusal};
use crate::workspace::root::{Parent, Roots, Spot};

/// Mode of a new file, before the mask of the process.
const NEW_MODE: u32 = 0o666;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Bytes.
    File(Vec<u8>),
    /// Where a link leads.
    Link(String),
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its content, when it is small enough to be kept.
    pub content: Option<Content>,
    /// What the journal says of it.
    pub version: Version,
    /// Which file it is.
    pub inode: Inode,
    /// Names that lead to the same file: with more than one, the others keep the old content.
    pub links: u64,
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Step {
    /// A file gets a content.
    Put {
        /// Where.
        spot: Spot,
        /// What.
        content: Content,
        /// Its mode; without one that of the file before, or what is usual.
        mode: Option<u32>,
        /// When it was changed last; without one now.
        mtime: Option<(i64, u32)>,
        /// What must be there; `None` when nothing may be.
        before: Option<Before>,
    },
    /// A file or a link goes.
    Remove {
        /// Where.
        spot: Spot,
        /// What must be there.
        before: Before,
    },
    /// A folder comes.
    MakeFolder {
        /// Where.
        spot: Spot,
        /// Its mode; without one what is usual.
        mode: Option<u32>,
        /// It may be there already.
        may_exist: bool,
    },
    /// A folder goes with what is in it; `held` says what is in it, deepest first, for the journal.
    RemoveTree {
        /// Where.
        spot: Spot,
        /// What is lost.
        held: Vec<Change>,
    },
    /// A folder goes once everything has happened, when nothing is left in it.
    RemoveEmptyFolder {
        /// Where.
        spot: Spot,
    },
    /// A file or folder gets another name; nothing may be there.
    Move {
        /// Where it is.
        from: Spot,
        /// Where it shall be.
        to: Spot,
    },
}

/// Who carries steps out.
pub struct Committer<'a> {
    /// The roots.
    pub roots: &'a Roots,
    /// The journal.
    pub journal: &'a Journal,
    /// Asked between any two steps.
    pub pulse: &'a dyn Fn() -> Pulse,
}

/// A step that is ready.
struct Staged {
    parent: Parent,
    aside: OsString,
    act: Act,
    /// The file that moves.
    inode: Option<Inode>,
    /// The other folder of a move.
    other: Option<Parent>,
    /// What must come out of an exchange.
    expected: Option<(Inode, Version)>,
}

/// Why a commit stopped.
enum Stop {
    Refused(Refusal),
    #[cfg(test)]
    Died,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Committer<'_> {
    /// Carries all steps out, or none. The caller holds the locks of their names.
    ///
    /// # Errors
    /// `Conflict` when something is not as it was read, and what else stands in the way; nothing has changed then.
    pub fn commit(&self, what: &str, steps: &[Step], undoes: Option<&str>) -> Result<Operation, Refusal> {
        let (id, at_ms) = self.journal.new_id()?;
        let durability = if steps.len() > 1 { Durability::Disk } else { Durability::Cache };
        let intended = steps.iter().enumerate().map(|(n, step)| self.intended(step, &aside(&id, n)));
        let intended = intended.collect::<Result<Vec<_>, _>>()?;
        self.journal
            .append(&Line::Intent { version: VERSION, id: id.clone(), steps: intended }, Durability::Cache)?;
        let mut staged = Vec::new();
        let mut changes = Vec::new();
        let mut exchanged = 0;
        let ended = (|| -> Result<Operation, Stop> {
            for (n, step) in steps.iter().enumerate() {
                self.pulse()?;
                staged.push(self.stage(step, aside(&id, n), &mut changes)?);
            }
            let operation = Operation {
                id: id.clone(),
                at_ms,
                what: what.to_owned(),
                changes: std::mem::take(&mut changes),
                undoes: undoes.map(str::to_owned),
            };
            let inodes = staged.iter().map(|s| s.inode).collect();
            self.pulse()?;
            if durability == Durability::Disk {
                self.settle(&staged)?;
            }
            self.journal.append(&Line::Committing { operation: operation.clone(), inodes }, durability)?;
            for (n, step) in staged.iter().enumerate() {
                self.pulse()?;
                exchange(step, &asked_of(&steps[n]))?;
                exchanged = n + 1;
            }
            self.pulse()?;
            Ok(operation)
        })();
        match ended {
            Ok(operation) => {
                self.journal.append(&Line::Done { id: id.clone() }, durability)?;
                staged.iter().for_each(discard);
                self.journal.append(&Line::Tidied { id }, Durability::Cache)?;
                Ok(operation)
            }
            #[cfg(test)]
            Err(Stop::Died) => Err(Refusal::new(Code::Failed, "died")),
            Err(Stop::Refused(refusal)) => {
                staged[..exchanged].iter().rev().for_each(take_back);
                staged.iter().rev().for_each(unstage);
                self.journal.append(&Line::Aborted { id }, Durability::Cache)?;
                Err(refusal)
            }
        }
    }

    fn pulse(&self) -> Result<(), Stop> {
        match (self.pulse)() {
            Pulse::Go => Ok(()),
            Pulse::Cancel => {
                Err(Refusal::new(Code::Cancelled, "it was cancelled, and nothing has changed").into())
            }
            #[cfg(test)]
            Pulse::Die => Err(Stop::Died),
        }
    }

    /// Waits until what was staged is on the disk: one call for each file system, not one for each file.
    fn settle(&self, staged: &[Staged]) -> Result<(), Refusal> {
        let mut seen = Vec::new();
        for step in staged {
            let Ok(stat) = rustix::fs::fstat(&step.parent.fd) else { continue };
            if seen.contains(&stat.st_dev) {
                continue;
            }
            seen.push(stat.st_dev);
            let wrong = |e: Errno| Refusal::new(Code::Failed, format!("the disk does not take it: {e}"));
            let fd = open_beneath(
                step.parent.fd.as_fd(),
                Path::new("."),
                OFlags::RDONLY | OFlags::DIRECTORY,
                Mode::empty(),
            )
            .map_err(wrong)?;
            rustix::fs::syncfs(&fd).map_err(wrong)?;
        }
        Ok(())
    }

    fn intended(&self, step: &Step, aside: &OsStr) -> Result<Intended, Refusal> {
        let spot = match step {
            Step::Put { spot, .. } | Step::Remove { spot, .. } | Step::MakeFolder { spot, .. } => spot,
            Step::RemoveTree { spot, .. } | Step::RemoveEmptyFolder { spot } => spot,
            Step::Move { from, .. } => from,
        };
        let act = match step {
            Step::Put { before: Some(_), .. } => Act::Replace,
            Step::Put { before: None, .. } => Act::Create,
            Step::Remove { .. } | Step::RemoveTree { .. } => Act::Remove,
            Step::MakeFolder { .. } => Act::Folder,
            Step::RemoveEmptyFolder { .. } => Act::EmptyFolder,
            Step::Move { to, .. } => {
                let (root, folder, name) = self.triple(to, false)?;
                Act::Move { root, folder, name }
            }
        };
        // Where a put leads through a link, the names are those of the file itself.
        let (root, folder, name) = self.triple(spot, matches!(step, Step::Put { .. }))?;
        Ok(Intended { root, folder, name, aside: aside.to_string_lossy().into_owned(), act })
    }

    /// Root, folder and name as the journal writes them; where the folder is yet to come, as the request says.
    fn triple(&self, spot: &Spot, follows: bool) -> Result<(String, String, String), Refusal> {
        let found = if follows { self.roots.parent(spot) } else { self.roots.name(spot) };
        let (root, inside) = match found {
            Ok(parent) => (parent.root, parent.inside),
            Err(e) if e.code == Code::NotFound => (spot.root, spot.inside.clone()),
            Err(other) => return Err(other),
        };
        let (folder, name) = inside.split().ok_or_else(|| {
            Refusal::new(Code::IsDirectory, format!("`{}` is a root", spot.asked)).at(&spot.asked)
        })?;
        let root = written(self.roots.paths(root).real.as_os_str(), &spot.asked)?;
        Ok((root, written(folder.relative().as_os_str(), &spot.asked)?, written(name, &spot.asked)?))
    }

    fn place(&self, parent: &Parent, asked: &str) -> Result<Place, Refusal> {
        Ok(Place {
            root: written(self.roots.paths(parent.root).real.as_os_str(), asked)?,
            path: written(parent.inside.relative().as_os_str(), asked)?,
        })
    }

    fn stage(&self, step: &Step, aside: OsString, changes: &mut Vec<Change>) -> Result<Staged, Refusal> {
        match step {
            Step::Put { spot, content, mode, mtime, before } => {
                let parent = self.roots.parent(spot)?;
                let old = expect(&parent, before.as_ref(), &spot.asked)?;
                self.keep(before.as_ref())?;
                let stat = write_aside(&parent, &aside, content, *mode, *mtime, old.as_ref())
                    .map_err(|e| Refusal::kernel("write", &spot.asked, e.raw_os_error()))?;
                let after = version(&stat, content);
                let path = self.place(&parent, &spot.asked)?;
                changes.push(Change::File {
                    path,
                    before: before.as_ref().map(|b| b.version.clone()),
                    after: Some(after),
                });
                let act = if before.is_some() { Act::Replace } else { Act::Create };
                let expected = before.as_ref().map(|b| (b.inode, b.version.clone()));
                Ok(Staged { parent, aside, act, inode: Some(inode(&stat)), other: None, expected })
            }
            Step::Remove { spot, before } => {
                let parent = self.roots.name(spot)?;
                expect(&parent, Some(before), &spot.asked)?;
                self.keep(Some(before))?;
                let path = self.place(&parent, &spot.asked)?;
                changes.push(Change::File { path, before: Some(before.version.clone()), after: None });
                let expected = Some((before.inode, before.version.clone()));
                Ok(Staged {
                    parent,
                    aside,
                    act: Act::Remove,
                    inode: Some(before.inode),
                    other: None,
                    expected,
                })
            }
            Step::MakeFolder { spot, mode, may_exist } => {
                self.stage_folder(spot, *mode, *may_exist, aside, changes)
            }
            Step::RemoveTree { spot, held } => {
                let parent = self.roots.name(spot)?;
                let stat = look(&parent, &spot.asked)?;
                changes.extend(held.iter().cloned());
                Ok(Staged {
                    parent,
                    aside,
                    act: Act::Remove,
                    inode: Some(inode(&stat)),
                    other: None,
                    expected: None,
                })
            }
            Step::RemoveEmptyFolder { spot } => {
                let parent = self.roots.name(spot)?;
                let stat = look(&parent, &spot.asked)?;
                let path = self.place(&parent, &spot.asked)?;
                let mode = stat.st_mode & 0o7777;
                changes.push(Change::Folder { path, mode, mtime: mtime(&stat), is_made: false });
                Ok(Staged { parent, aside, act: Act::EmptyFolder, inode: None, other: None, expected: None })
            }
            Step::Move { from, to } => {
                let (parent, other) = (self.roots.name(from)?, self.roots.name(to)?);
                let stat = look(&parent, &from.asked)?;
                changes.push(Change::Moved {
                    from: self.place(&parent, &from.asked)?,
                    to: self.place(&other, &to.asked)?,
                });
                let act = Act::Move { root: String::new(), folder: String::new(), name: String::new() };
                Ok(Staged {
                    parent,
                    aside,
                    act,
                    inode: Some(inode(&stat)),
                    other: Some(other),
                    expected: None,
                })
            }
        }
    }

    fn stage_folder(
        &self,
        spot: &Spot,
        mode: Option<u32>,
        may_exist: bool,
        aside: OsString,
        changes: &mut Vec<Change>,
    ) -> Result<Staged, Refusal> {
        let parent = self.roots.name(spot)?;
        let wrong = |e: Errno| Refusal::kernel("make the folder", &spot.asked, e.raw_os_error());
        // A folder that nobody knows of yet is made at once, for what follows stands in it.
        let is_made = match rustix::fs::mkdirat(&parent.fd, &parent.name, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) if may_exist => false,
            Err(e) => return Err(wrong(e)),
        };
        let inode = if is_made {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let fd = open_beneath(parent.fd.as_fd(), Path::new(&parent.name), flags, Mode::empty())
                .map_err(wrong)?;
            if let Some(mode) = mode {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode & 0o7777)).map_err(wrong)?;
            }
            let stat = rustix::fs::fstat(&fd).map_err(wrong)?;
            changes.push(Change::Folder {
                path: self.place(&parent, &spot.asked)?,
                mode: stat.st_mode & 0o7777,
                mtime: (0, 0),
                is_made: true,
            });
            Some(inode(&stat))
        } else {
            None
        };
        Ok(Staged { parent, aside, act: Act::Folder, inode, other: None, expected: None })
    }

    fn keep(&self, before: Option<&Before>) -> Result<(), Refusal> {
        if let Some(Before { content: Some(Content::File(bytes)), version, .. }) = before {
            self.journal.keep(&version.hash, bytes)?;
        }
        Ok(())
    }
}

fn asked_of(step: &Step) -> String {
    match step {
        Step::Put { spot, .. } | Step::Remove { spot, .. } | Step::MakeFolder { spot, .. } => {
            spot.asked.clone()
        }
        Step::RemoveTree { spot, .. } | Step::RemoveEmptyFolder { spot } => spot.asked.clone(),
        Step::Move { to, .. } => to.asked.clone(),
    }
}

/// A name that only this step of this operation has.
fn aside(id: &str, n: usize) -> OsString {
    OsString::from(format!(".cuddy-{id}-{n}"))
}

/// A name as the journal writes it.
fn written(name: &OsStr, asked: &str) -> Result<String, Refusal> {
    name.to_str().map(str::to_owned).ok_or_else(|| {
        Refusal::new(Code::Unsupported, format!("a name on the way to `{asked}` is no UTF-8")).at(asked)
    })
}

/// Device and inode.
pub fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// When a file was changed last.
pub fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

/// What the journal says of a file with this content.
pub fn version(stat: &Stat, content: &Content) -> Version {
    let (bytes, link) = match content {
        Content::File(bytes) => (bytes.as_slice(), None),
        Content::Link(target) => (target.as_bytes(), Some(target.clone())),
    };
    Version {
        hash: blake3::hash(bytes).to_hex().to_string(),
        bytes: bytes.len() as u64,
        mode: stat.st_mode & 0o7777,
        mtime: mtime(stat),
        link,
    }
}

fn look(parent: &Parent, asked: &str) -> Result<Stat, Refusal> {
    rustix::fs::statat(&parent.fd, &parent.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|e| Refusal::kernel("look at", asked, e.raw_os_error()))
}

/// What is at the name, when that is what was read.
fn expect(parent: &Parent, before: Option<&Before>, asked: &str) -> Result<Option<Stat>, Refusal> {
    let there = match rustix::fs::statat(&parent.fd, &parent.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(stat),
        Err(Errno::NOENT) => None,
        Err(e) => return Err(Refusal::kernel("look at", asked, e.raw_os_error())),
    };
    match (before, &there) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Refusal::kernel("create", asked, libc::EEXIST)),
        (Some(before), Some(stat)) if is_same(stat, before.inode, &before.version) => Ok(there),
        _ => Err(conflict(asked)),
    }
}

fn is_same(stat: &Stat, expected: Inode, version: &Version) -> bool {
    inode(stat) == expected
        && mtime(stat) == version.mtime
        && u64::try_from(stat.st_size).is_ok_and(|size| size == version.bytes)
}

fn conflict(asked: &str) -> Refusal {
    Refusal::new(
        Code::Conflict,
        format!("`{asked}` was changed by somebody else meanwhile; nothing was written"),
    )
    .at(asked)
    .hint("read it again")
}

/// Writes the new file beside the old one, with everything that it shall have.
fn write_aside(
    parent: &Parent,
    aside: &OsStr,
    content: &Content,
    mode: Option<u32>,
    mtime: Option<(i64, u32)>,
    old: Option<&Stat>,
) -> Result<Stat, Errno> {
    let times = mtime.map(|(tv_sec, nsec)| Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nsec.into() },
    });
    let bytes = match content {
        Content::Link(target) => {
            rustix::fs::symlinkat(target.as_str(), &parent.fd, aside)?;
            if let Some(times) = times {
                rustix::fs::utimensat(&parent.fd, aside, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            return rustix::fs::statat(&parent.fd, aside, AtFlags::SYMLINK_NOFOLLOW);
        }
        Content::File(bytes) => bytes,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Nobody else may read it before its mode is set.
    let create = if old.is_some() || mode.is_some() { 0o600 } else { NEW_MODE };
    let fd = rustix::fs::openat(&parent.fd, aside, flags, Mode::from_raw_mode(create))?;
    let mut file = File::from(fd);
    file.write_all(bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    if let Some(old) = old {
        // Another owner is kept where we may; the mode comes afterwards, for a new owner takes bits away.
        let _kept =
            rustix::fs::fchown(&file, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)));
    }
    if let Some(mode) = mode.or(old.map(|stat| stat.st_mode)) {
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    }
    if let Some(times) = times {
        rustix::fs::futimens(&file, &times)?;
    }
    rustix::fs::fstat(&file)
}

/// Makes one step happen, or leaves it as it was.
fn exchange(step: &Staged, asked: &str) -> Result<(), Refusal> {
    let (fd, name, aside) = (step.parent.fd.as_fd(), step.parent.name.as_os_str(), step.aside.as_os_str());
    let wrong = |e: Errno| match e {
        Errno::NOENT => conflict(asked),
        e => Refusal::kernel("write", asked, e.raw_os_error()),
    };
    match (&step.act, &step.other) {
        (Act::Folder | Act::EmptyFolder, _) => Ok(()),
        (Act::Create, _) => rename(fd, aside, fd, name, RenameFlags::NOREPLACE).map_err(wrong),
        (Act::Move { .. }, Some(other)) => {
            rename(fd, name, other.fd.as_fd(), &other.name, RenameFlags::NOREPLACE).map_err(|e| match e {
                Errno::XDEV => Refusal::new(
                    Code::Unsupported,
                    format!("`{asked}` is on another file system, or its folder is part of a lower layer"),
                )
                .at(asked)
                .hint("copy it and delete the first one"),
                e => Refusal::kernel("move to", asked, e.raw_os_error()),
            })
        }
        (Act::Remove | Act::Move { .. }, _) => {
            rename(fd, name, fd, aside, RenameFlags::NOREPLACE).map_err(wrong)?;
            let out = rustix::fs::statat(fd, aside, AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)?;
            if step.inode == Some(inode(&out))
                && step.expected.as_ref().is_none_or(|(i, v)| is_same(&out, *i, v))
            {
                return Ok(());
            }
            let _back = rename(fd, aside, fd, name, RenameFlags::NOREPLACE);
            Err(conflict(asked))
        }
        (Act::Replace, _) => {
            match rename(fd, aside, fd, name, RenameFlags::EXCHANGE) {
                // A file system without exchange: the old file is in the journal alone.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    return rustix::fs::renameat(fd, aside, fd, name).map_err(wrong);
                }
                other => other.map_err(wrong)?,
            }
            let out = rustix::fs::statat(fd, aside, AtFlags::SYMLINK_NOFOLLOW).map_err(wrong)?;
            match &step.expected {
                Some((inode, version)) if !is_same(&out, *inode, version) => {
                    let _back = rename(fd, aside, fd, name, RenameFlags::EXCHANGE);
                    Err(conflict(asked))
                }
                _ => Ok(()),
            }
        }
    }
}

fn rename(
    from: BorrowedFd<'_>,
    old: &OsStr,
    to: BorrowedFd<'_>,
    new: &OsStr,
    flags: RenameFlags,
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from, old, to, new, flags) {
        // Without flags in the file system: the check and the rename are two calls then.
        Err(Errno::INVAL | Errno::NOSYS) if flags == RenameFlags::NOREPLACE => {
            match rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(from, old, to, new),
                Ok(_) => Err(Errno::EXIST),
                Err(e) => Err(e),
            }
        }
        other => other,
    }
}

/// Takes one step back that happened.
fn take_back(step: &Staged) {
    let (fd, name, aside) = (step.parent.fd.as_fd(), step.parent.name.as_os_str(), step.aside.as_os_str());
    // What cannot be taken back was changed by somebody else in this moment, and is theirs now.
    let _theirs = match (&step.act, &step.other) {
        (Act::Folder | Act::EmptyFolder, _) => Ok(()),
        (Act::Create, _) => rename(fd, name, fd, aside, RenameFlags::NOREPLACE),
        (Act::Move { .. }, Some(other)) => {
            rename(other.fd.as_fd(), &other.name, fd, name, RenameFlags::NOREPLACE)
        }
        (Act::Remove | Act::Move { .. }, _) => rename(fd, aside, fd, name, RenameFlags::NOREPLACE),
        (Act::Replace, _) => rename(fd, aside, fd, name, RenameFlags::EXCHANGE),
    };
}

/// Removes what was staged and did not happen.
fn unstage(step: &Staged) {
    let _gone = match step.act {
        Act::Folder if step.inode.is_some() => {
            rustix::fs::unlinkat(&step.parent.fd, &step.parent.name, AtFlags::REMOVEDIR)
        }
        Act::Replace | Act::Create => rustix::fs::unlinkat(&step.parent.fd, &step.aside, AtFlags::empty()),
        _ => Ok(()),
    };
}

/// Removes the old files of a step that happened.
fn discard(step: &Staged) {
    let _gone = match step.act {
        Act::Replace | Act::Remove => remove_at(step.parent.fd.as_fd(), &step.aside),
        // With something in it, it stays: that is somebody else's.
        Act::EmptyFolder => rustix::fs::unlinkat(&step.parent.fd, &step.parent.name, AtFlags::REMOVEDIR),
        _ => Ok(()),
    };
}

// ── after a death ───────────────────────────────────────────────────────────────────────────────

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
    fd: Option<rustix::fd::OwnedFd>,
    name: OsString,
    aside: OsString,
    act: Act,
    other: Option<(rustix::fd::OwnedFd, OsString)>,
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

/// Whether what is at a name is a folder, a link, or a file.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::workspace::change::Later;
    use crate::workspace::files::{before, held};
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
