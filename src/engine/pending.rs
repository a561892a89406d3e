//! Pure: what a transaction of files has gathered and not yet made.
//!
//! Nothing here touches a file: how it is gathered and carried out is `engine::drafts`.

use std::collections::BTreeMap;

use crate::workspace::path::Inside;

/// A place, by root and way.
pub type Key = (usize, Inside);

/// Changes that are gathered and not yet made.
#[derive(Debug)]
pub struct Transaction {
    /// What it is for.
    pub label: String,
    /// When it is too old, in milliseconds since 1970.
    pub until_ms: u64,
    /// The files.
    pub files: BTreeMap<Key, Pending>,
}

/// A file of a transaction.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The hash of what was there when it was first touched.
    pub base: Option<(String, Vec<u8>)>,
    /// What it is to be; nothing when it is to go.
    pub now: Option<Vec<u8>>,
    /// Its mode, when it is to have another.
    pub mode: Option<u32>,
}

impl Transaction {
    /// One that holds nothing yet.
    pub fn new(label: &str, until_ms: u64) -> Self {
        Self { label: label.to_owned(), until_ms, files: BTreeMap::new() }
    }

    /// How many files it changes, and how many bytes it holds.
    pub fn size(&self) -> (usize, usize) {
        let bytes =
            |p: &Pending| p.now.as_ref().map_or(0, Vec::len) + p.base.as_ref().map_or(0, |(_, b)| b.len());
        (self.files.len(), self.files.values().map(bytes).sum())
    }
}
