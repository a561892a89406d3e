//! Changes of many files, all or nothing: stage beside, write down what is meant, exchange one by one, say that it
//! happened.
//!
//! A file is never written in place. The new one is staged under another name in the same folder with its mode and
//! owner, then both names are exchanged, so the old file is at hand until the end; what comes out must be the file
//! that was read, or everything goes back (`CONFLICT`). A process that dies at any point leaves a log from which the
//! next one brings the tree to exactly before or exactly after: `workspace::recover`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::sys::fs::{open_beneath, remove_at};
use crate::workspace::change::{
    Act, Change, Inode, Intended, Line, Operation, Place, Pulse, VERSION, Version,
};
use crate::workspace::journal::{Durability, Journal};
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
            Step::Put { spot, .. } => self.stage_put(step, spot, aside, changes),
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

    /// Writes a new content beside the old one.
    fn stage_put(
        &self,
        step: &Step,
        spot: &Spot,
        aside: OsString,
        changes: &mut Vec<Change>,
    ) -> Result<Staged, Refusal> {
        let Step::Put { content, mode, mtime, before, .. } = step else {
            return Err(Refusal::new(Code::Failed, "only a content is staged"));
        };
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

/// renameat2(2), also where the file system knows no flags.
///
/// # Errors
/// What the kernel says.
pub fn rename(
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

/// Whether what is at a name is a folder, a link, or a file.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}
