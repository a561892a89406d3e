//! Pure: what the command tells the stage, and what the stage tells back, as data.
//!
//! Both are JSON in one datagram each; nothing here sends anything.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::container::idmap::IdMap;
use crate::container::mounts::Propagation;
use crate::error::Error;

/// Largest report, in bytes: one datagram of a unix socket.
pub const REPORT_BYTES_MAX: usize = 160 << 10;
/// Largest plan, in bytes: arguments and variables as large as the kernel takes them (execve(2)), and the rest.
pub const PLAN_BYTES_MAX: usize = 8 << 20;

/// Everything the stage needs; it reads no environment and no configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Names the container to libcontainer.
    pub id: String,
    /// An empty folder of ours that the stage covers with its own file system.
    pub scratch: PathBuf,
    /// An empty folder of ours where the root filesystem is put together: the spec's `root.path`.
    pub rootfs: PathBuf,
    /// What the root filesystem is.
    pub root: Root,
    /// Mounts on it, in order.
    pub mounts: Vec<PlannedMount>,
    /// Links to make once the mounts stand: where, what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Files of ours that stand over what the image has: path inside, text.
    pub files: Vec<(PathBuf, String)>,
    /// `USER` or `--user`, to be looked up in the image; `None` is exactly the map's first id.
    pub user: Option<String>,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// The ids there are; `None` is the host's user namespace.
    pub map: Option<IdMap>,
    /// The caller's login name, for messages.
    pub login: String,
    /// The container's spec.
    pub spec: Spec,
    /// Walls that an OCI spec has no words for.
    pub walls: Walls,
}

/// What stands at `/`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Root {
    /// An empty file system in memory; the mounts fill it.
    Empty {
        /// Links to make: where, what it says.
        links: Vec<(PathBuf, PathBuf)>,
        /// Folders to make, with their mode.
        folders: Vec<(PathBuf, u32)>,
    },
    /// Layers of an image under a writable one.
    Layers {
        /// Bottom first.
        lowers: Vec<PathBuf>,
        /// Takes what is written.
        upper: PathBuf,
        /// Needed by the kernel, same file system as `upper`.
        work: PathBuf,
    },
}

/// One mount to make below the root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlannedMount {
    /// What.
    pub what: PlannedSource,
    /// Where: absolute inside.
    pub target: PathBuf,
    /// Nothing below it can be written.
    pub read_only: bool,
    /// How later mounts travel; `None` is not at all.
    pub propagation: Option<Propagation>,
}

/// What is mounted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PlannedSource {
    /// A file or folder of the host with all that is mounted below it.
    Bind {
        /// On the host.
        path: PathBuf,
        /// Nothing is mounted when it is not there.
        optional: bool,
        /// The path has no link in it: one that is there now was put there by somebody else.
        no_links: bool,
    },
    /// Memory.
    Tmpfs {
        /// Options of tmpfs(5).
        options: String,
        /// Programs may be executed from it.
        exec: bool,
    },
}

/// Walls and last steps beyond the spec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Walls {
    /// The seccomp program as `bpf::Program` writes it, as hexadecimal text; empty is none.
    pub filter: String,
    /// Landlock: where files can be written; `None` is no second wall.
    pub landlock: Option<Vec<PathBuf>>,
    /// The file mode mask of the command.
    pub umask: u32,
    /// What the first process becomes.
    pub first: First,
    /// Several commands live here side by side: Landlock leaves signals and sockets between them alone,
    /// since the namespaces keep both inside.
    pub shared: bool,
    /// Mounts that get this propagation once the root is in place.
    pub propagation: Vec<(PathBuf, Propagation)>,
}

/// What a process becomes once every wall stands around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The command.
    #[default]
    Command,
    /// A reaper of ours, with the command as its child.
    Reaper,
    /// A reaper of ours without a command: commands are brought in by `container::exec`.
    Holder,
    /// What keeps together the processes of one command that was brought in.
    Keeper,
}

/// What comes back, in this order; any of them may be the last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The namespaces are made; the id maps can be written.
    Unshared(()),
    /// The container's terminal comes with this message.
    Terminal(()),
    /// The first process exists: its number on the host.
    Created(i32),
    /// A container without a command is ready for those that are brought in.
    Ready(()),
    /// The command could not be executed: 126 or 127.
    NotExecuted {
        /// The exit code that says so.
        code: i32,
        /// Why.
        error: Error,
    },
    /// The first process has ended.
    Ended(End),
    /// Something before the command failed.
    Failed(Error),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It left with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl End {
    /// The code a shell and Docker give: its own, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Bytes as hexadecimal text, which JSON carries without growing fourfold.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

/// Bytes out of [`hex`]'s text; `None` when it is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?)).collect()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
    }

    #[test]
    fn an_end_is_a_code_as_a_shell_has_it() {
        assert_eq!(End::Exited(7).code(), 7);
        assert_eq!(End::Signaled(9).code(), 137);
    }
}
