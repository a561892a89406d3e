//! Pure: changes as data: what one operation did to which files, and what it means to do.
//!
//! Everything here is written to the journal, one JSON line each, and read back by another process.

use serde::{Deserialize, Serialize};

/// The version of the journal's lines.
pub const VERSION: u32 = 1;

/// A file or folder, by the real path of its root and its way beneath it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The root's real path.
    pub root: String,
    /// The way beneath it.
    pub path: String,
}

impl Place {
    /// The whole path.
    pub fn whole(&self) -> String {
        format!("{}/{}", self.root.trim_end_matches('/'), self.path)
    }
}

/// One state of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// BLAKE3 of its bytes, in hex; of a link, of where it leads.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
    /// Its mode, without the kind.
    pub mode: u32,
    /// When it was changed last: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Where it leads, when it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// What happened to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A file came, went, or has another content.
    File {
        /// Where.
        path: Place,
        /// What was there.
        before: Option<Version>,
        /// What is there now.
        after: Option<Version>,
    },
    /// A folder came or went; what was in it has changes of its own.
    Folder {
        /// Where.
        path: Place,
        /// Its mode.
        mode: u32,
        /// When it was changed last, if it went.
        mtime: (i64, u32),
        /// It came.
        is_made: bool,
    },
    /// A file or folder has another name.
    Moved {
        /// Where it was.
        from: Place,
        /// Where it is.
        to: Place,
    },
}

impl Change {
    /// The place that a reader thinks of.
    pub fn place(&self) -> &Place {
        match self {
            Self::File { path, .. } | Self::Folder { path, .. } => path,
            Self::Moved { to, .. } => to,
        }
    }

    /// Whether it is about this place, or below it.
    pub fn touches(&self, whole: &str) -> bool {
        let below = |place: &Place| {
            let path = place.whole();
            path == whole
                || path.strip_prefix(whole.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        };
        match self {
            Self::Moved { from, to } => below(from) || below(to),
            other => below(other.place()),
        }
    }

    /// One word for a list.
    pub fn word(&self) -> &'static str {
        match self {
            Self::File { before: None, .. } => "created",
            Self::File { after: None, .. } => "deleted",
            Self::File { .. } => "modified",
            Self::Folder { is_made: true, .. } => "folder created",
            Self::Folder { .. } => "folder deleted",
            Self::Moved { .. } => "moved",
        }
    }
}

/// One operation: everything or nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name, for `undo`.
    pub id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The tool, and a word about it.
    pub what: String,
    /// What it did, in order.
    pub changes: Vec<Change>,
    /// The operation that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
}

/// What is meant to happen to one name, for who must tidy up after us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intended {
    /// The real path of the root.
    pub root: String,
    /// The way of the folder beneath it.
    pub folder: String,
    /// The name in it.
    pub name: String,
    /// The name beside it that holds the new file first and the old one afterwards.
    pub aside: String,
    /// What happens.
    pub act: Act,
}

/// What happens to one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The staged file takes the place of the one that is there.
    Replace,
    /// The staged file comes where nothing is.
    Create,
    /// What is there is put aside.
    Remove,
    /// A folder is made.
    Folder,
    /// A folder goes at the very end, when nothing is left in it.
    EmptyFolder,
    /// It gets another name in another folder of the same root.
    Move {
        /// The real path of the other root.
        root: String,
        /// The way of the other folder.
        folder: String,
        /// The other name.
        name: String,
    },
}

/// A file of the kernel: device and inode.
pub type Inode = (u64, u64);

/// What a commit is asked between any two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Go on.
    Go,
    /// Take everything back.
    Cancel,
    /// Stop as if this process had died.
    #[cfg(test)]
    Die,
}

/// Whether changes that came later may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// They stand in the way.
    Keep,
    /// They are overwritten; the new operation can be taken back in turn.
    Overwrite,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// Something begins: these names may now appear.
    Intent {
        /// The format.
        version: u32,
        /// The operation.
        id: String,
        /// What is meant.
        steps: Vec<Intended>,
    },
    /// Everything is staged, and the names change now.
    Committing {
        /// What will have happened.
        operation: Operation,
        /// For each step the file that moves.
        inodes: Vec<Option<Inode>>,
    },
    /// It happened.
    Done {
        /// The operation.
        id: String,
    },
    /// What it had put aside is gone too.
    Tidied {
        /// The operation.
        id: String,
    },
    /// Nothing of it happened.
    Aborted {
        /// The operation.
        id: String,
    },
}

/// The operations of one log that happened, in order, and those that are not ended: each with its intent and, when it
/// came that far, what it would have been.
pub fn replay(lines: impl Iterator<Item = Line>) -> (Vec<Operation>, Vec<Unfinished>) {
    let (mut done, mut open) = (Vec::new(), Vec::<Unfinished>::new());
    for line in lines {
        match line {
            Line::Intent { id, steps, .. } => {
                open.push(Unfinished { id, steps, committing: None, is_done: false });
            }
            Line::Committing { operation, inodes } => {
                if let Some(found) = open.iter_mut().find(|o| o.id == operation.id) {
                    found.committing = Some((operation, inodes));
                }
            }
            Line::Done { id } => {
                if let Some(found) = open.iter_mut().find(|o| o.id == id) {
                    found.is_done = true;
                    done.extend(found.committing.as_ref().map(|(operation, _)| operation.clone()));
                }
            }
            Line::Tidied { id } | Line::Aborted { id } => open.retain(|o| o.id != id),
        }
    }
    (done, open)
}

/// An operation whose end is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The operation.
    pub id: String,
    /// What was meant.
    pub steps: Vec<Intended>,
    /// What it would have been, and the files that move, once all was staged.
    pub committing: Option<(Operation, Vec<Option<Inode>>)>,
    /// It happened; only what it put aside is still there.
    pub is_done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_what_happened_and_what_is_open() {
        let operation =
            |id: &str| Operation { id: id.into(), at_ms: 0, what: "w".into(), changes: vec![], undoes: None };
        let intent = |id: &str| Line::Intent { version: VERSION, id: id.into(), steps: vec![] };
        let committing = |id: &str| Line::Committing { operation: operation(id), inodes: vec![] };
        let lines = vec![
            intent("a"),
            intent("b"),
            committing("a"),
            Line::Done { id: "a".into() },
            Line::Tidied { id: "a".into() },
            intent("c"),
            committing("c"),
            Line::Aborted { id: "c".into() },
            intent("d"),
            committing("d"),
        ];
        let text: Vec<_> = lines.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        let (done, open) = replay(text.iter().map(|line| serde_json::from_str(line).unwrap()));
        assert_eq!(done, [operation("a")]);
        assert_eq!(
            open.iter().map(|o| (o.id.as_str(), o.committing.is_some())).collect::<Vec<_>>(),
            [("b", false), ("d", true)]
        );
    }

    #[test]
    fn a_change_touches_its_place_and_what_is_above_it() {
        let place = |path: &str| Place { root: "/w".into(), path: path.into() };
        let change = Change::Moved { from: place("a/b"), to: place("c") };
        assert!(change.touches("/w/a") && change.touches("/w/c") && change.touches("/w"));
        assert!(!change.touches("/w/a/bc") && !change.touches("/x"));
    }
}
