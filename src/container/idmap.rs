//! Pure: which ids inside a container are which ids outside, and the text of `/etc/subuid`.
//!
//! It does not read the files and does not write the maps.

use crate::error::{ErrorKind, Fault};
use serde::{Deserialize, Serialize};

/// Largest id an image or a person may name: ids above it are negative for old system calls.
pub const ID_MAX: u32 = i32::MAX as u32;
/// As many ranges as the kernel takes in one map (user_namespaces(7)).
const RANGES_MAX: usize = 340;

/// `count` ids that follow each other, inside from `inside` on, outside from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id in the container.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The maps of one user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// Users.
    pub uids: Vec<Range>,
    /// Groups.
    pub gids: Vec<Range>,
}

/// Why ids cannot be mapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdMapError {
    /// The container needs an id that the caller cannot give it.
    #[error("the container needs {what} {id}, and only {mapped} can be had on this host")]
    Missing {
        /// `user` or `group`.
        what: &'static str,
        /// The id inside.
        id: u32,
        /// What there is, in words.
        mapped: String,
        /// The caller's login name, for the line that fixes it.
        login: String,
    },
}

impl Fault for IdMapError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unsupported
    }

    fn hints(&self) -> Vec<String> {
        let Self::Missing { login, .. } = self;
        vec![
            format!(
                "give `{login}` subordinate ids once, as root: `usermod --add-subuids 100000-165535 --add-subgids \
                 100000-165535 {login}`, and install `newuidmap` (Debian: `apt install uidmap`)"
            ),
            "or run as the user the container has: `--user 0`".to_owned(),
        ]
    }
}

impl IdMap {
    /// One user and one group: what every user may map without any helper program.
    pub fn single(inside: (u32, u32), outside: (u32, u32)) -> Self {
        let one = |inside, outside| vec![Range { inside, outside, count: 1 }];
        Self { uids: one(inside.0, outside.0), gids: one(inside.1, outside.1) }
    }

    /// The caller as 0, and the subordinate ids as 1 and up, as Docker's rootless mode has it.
    pub fn with_subordinates(outside: (u32, u32), uids: &[SubRange], gids: &[SubRange]) -> Self {
        let map = |own, ranges: &[SubRange]| {
            let mut map = vec![Range { inside: 0, outside: own, count: 1 }];
            let mut inside = 1_u32;
            for range in ranges.iter().take(RANGES_MAX - 1) {
                let count = range.count.min(ID_MAX - inside);
                if count == 0 {
                    break;
                }
                map.push(Range { inside, outside: range.start, count });
                inside += count;
            }
            map
        };
        Self { uids: map(outside.0, uids), gids: map(outside.1, gids) }
    }

    /// Every id there is as itself, by the text of our own `/proc/self/uid_map` and `gid_map`.
    ///
    /// The very last id, which no file system uses, is left out: a map with all of them looks like no
    /// user namespace at all to programs that ask (libcontainer among them).
    pub fn identity(own_uids: &str, own_gids: &str) -> Self {
        let ranges = |text: &str| {
            let range = |line: &str| {
                let mut numbers = line.split_whitespace().map(str::parse::<u32>);
                let (inside, _outside, count) =
                    (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
                Some(Range { inside, outside: inside, count: count.min(u32::MAX - 1) })
            };
            text.lines().filter_map(range).take(RANGES_MAX).collect()
        };
        Self { uids: ranges(own_uids), gids: ranges(own_gids) }
    }

    /// Whether the caller may write this map alone (user_namespaces(7): one line, its own ids).
    pub fn is_single(&self) -> bool {
        let one = |map: &[Range]| map.len() == 1 && map[0].count == 1;
        one(&self.uids) && one(&self.gids)
    }

    /// Checks that a group can be added to the container's user: where only one id is mapped the kernel
    /// has setgroups denied for good (user_namespaces(7)).
    ///
    /// # Errors
    /// [`IdMapError::Missing`] names the id and the line that fixes it.
    pub fn require_added_group(&self, gid: u32, login: &str) -> Result<(), IdMapError> {
        if self.is_single() {
            let mapped = "the caller's own group".to_owned();
            return Err(IdMapError::Missing { what: "group", id: gid, mapped, login: login.to_owned() });
        }
        self.require(self.uids[0].inside, gid, login)
    }

    /// Checks that the container's user is one of the mapped ones.
    ///
    /// # Errors
    /// [`IdMapError::Missing`] names the id and the line that fixes it.
    pub fn require(&self, uid: u32, gid: u32, login: &str) -> Result<(), IdMapError> {
        let check = |map: &[Range], what, id| {
            if map.iter().any(|r| id >= r.inside && id - r.inside < r.count) {
                return Ok(());
            }
            let words = map.iter().map(|r| match r.count {
                1 => r.inside.to_string(),
                count => format!("{}-{}", r.inside, r.inside + (count - 1)),
            });
            let mapped = words.collect::<Vec<_>>().join(", ");
            Err(IdMapError::Missing { what, id, mapped, login: login.to_owned() })
        };
        check(&self.uids, "user", uid)?;
        check(&self.gids, "group", gid)
    }
}

/// A map as the kernel reads it: a line each, `inside outside count`.
pub fn map_text(map: &[Range]) -> String {
    map.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

/// Subordinate ids of one user: `count` from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubRange {
    /// First id on the host.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// The ranges that `/etc/subuid` or `/etc/subgid` gives a user, by name or by number
/// (subuid(5)). Lines that do not parse, overflow or hold id 0 are left out: `newuidmap`, which has
/// the last word, would refuse them.
pub fn subordinate_ranges(text: &str, login: &str, uid: u32) -> Vec<SubRange> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if (owner != login || login.is_empty()) && owner != number {
            return None;
        }
        let (start, count) = (fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?);
        let fits = start != 0 && count != 0 && start.checked_add(count).is_some() && fields.next().is_none();
        fits.then_some(SubRange { start, count })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_follow_the_caller() {
        let text =
            "# comment\nbob:1:2\nann:100000:65536\n1000:300000:10\nann:x:1\nann:0:5\nann:4294967295:9\n";
        let ranges = subordinate_ranges(text, "ann", 1000);
        assert_eq!(
            ranges,
            [SubRange { start: 100_000, count: 65_536 }, SubRange { start: 300_000, count: 10 }]
        );
        let map = IdMap::with_subordinates((1000, 100), &ranges, &ranges[..1]);
        assert_eq!(map_text(&map.uids), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
        assert_eq!(map_text(&map.gids), "0 100 1\n1 100000 65536\n");
        assert!(!map.is_single());
        assert!(map.require(33, 33, "ann").is_ok());
        assert!(map.require(65_546, 0, "ann").is_ok());
        assert!(map.require(65_547, 0, "ann").is_err());
    }

    #[test]
    fn an_id_that_is_not_there_names_the_line_that_fixes_it() {
        let map = IdMap::single((0, 0), (1000, 1000));
        assert!(map.is_single());
        let error = map.require(33, 0, "ann").unwrap_err();
        assert_eq!(error.to_string(), "the container needs user 33, and only 0 can be had on this host");
        assert!(error.hints()[0].contains("usermod --add-subuids 100000-165535"));
    }

    #[test]
    fn the_identity_map_has_every_id_as_itself() {
        let map = IdMap::identity("         0          0 4294967295\n", "0 1000 1\n1 100000 65536\n");
        assert_eq!(map_text(&map.uids), "0 0 4294967294\n");
        assert_eq!(map_text(&map.gids), "0 0 1\n1 1 65536\n");
    }

    #[test]
    fn a_range_larger_than_all_ids_is_cut() {
        let map = IdMap::with_subordinates((1, 1), &[SubRange { start: 1, count: u32::MAX - 1 }], &[]);
        assert_eq!(map.uids[1].count, ID_MAX - 1);
    }
}
