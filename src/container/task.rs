//! Pure: what is asked of a container that runs, as data: a command, or something with one file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be done inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Program and arguments.
    Command(Vec<String>),
    /// Something with one file, which we do ourselves behind the same walls.
    File(FileTask),
}

/// One command for a container that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// What.
    pub task: Task,
    /// `NAME=VALUE`, over what the container's own command has.
    pub environment: Vec<String>,
    /// The folder to start in; `None` is that of the container's own command.
    pub workdir: Option<String>,
}

/// What is to be done with one path inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileTask {
    /// Bytes of a file, to standard output.
    Read {
        /// Which file.
        path: PathBuf,
        /// From where on, in bytes.
        offset: u64,
        /// How many at most.
        bytes_max: u64,
    },
    /// Standard input, into a file.
    Write {
        /// Which file.
        path: PathBuf,
        /// How.
        how: Writing,
        /// The folders above it are made when missing.
        make_folders: bool,
        /// Mode of a new file.
        mode: u32,
        /// How many bytes must come, no more and no less, for the file to be put in its place.
        expected: Option<u64>,
    },
    /// The entries of a folder, as JSON to standard output.
    List {
        /// Which folder.
        path: PathBuf,
    },
}

/// What becomes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writing {
    /// It must not be there yet.
    New,
    /// It is replaced in one step.
    Replace,
    /// It grows.
    Append,
}

/// What is known of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in its folder, or the path that was asked for.
    pub name: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its permissions.
    pub mode: u32,
    /// When it was changed last, in seconds since 1970.
    pub modified_s: i64,
}

/// A folder's entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// By name.
    pub entries: Vec<Entry>,
    /// There are more than are listed.
    pub is_cut: bool,
}
