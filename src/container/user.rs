//! Pure: who `USER` or `--user` is, by the image's own `passwd` and `group` text.
//!
//! It never guesses: a name or number that is not exactly one id is an error, never user 0
//! (CVE-2024-40635, CVE-2026-30892).

use crate::container::idmap::ID_MAX;
use crate::error::{ErrorKind, Fault};

/// The user a container's command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary group ids inside, sorted.
    pub groups: Vec<u32>,
    /// Home folder by `passwd`, `/` when it says none.
    pub home: String,
}

/// Why a user cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The text is neither a name nor a number that is an id.
    #[error(
        "`{text}` is not a user: expected a name or a number up to 2147483647, with an optional `:group`"
    )]
    Malformed {
        /// What was asked for.
        text: String,
    },
    /// The image has no such user.
    #[error("no user `{name}` in the image's /etc/passwd")]
    NoUser {
        /// What was asked for.
        name: String,
    },
    /// The image has no such group.
    #[error("no group `{name}` in the image's /etc/group")]
    NoGroup {
        /// What was asked for.
        name: String,
    },
}

impl Fault for UserError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        vec!["name one that is there, or a number: `--user 1000:1000`".to_owned()]
    }
}

struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

fn accounts(text: &[u8]) -> impl Iterator<Item = Account<'_>> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let mut f = line.split(|&b| b == b':');
        let (name, _, uid, gid, _, home) = (f.next()?, f.next()?, f.next()?, f.next()?, f.next()?, f.next()?);
        Some(Account { name, uid: id(uid)?, gid: id(gid)?, home })
    })
}

fn groups(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    text.split(|&b| b == b'\n').filter_map(|line| {
        let mut f = line.split(|&b| b == b':');
        let (name, _, gid, members) = (f.next()?, f.next()?, f.next()?, f.next()?);
        Some(Group { name, gid: id(gid)?, members })
    })
}

/// Digits only, no sign, no base, no overflow.
fn id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|&id| id <= ID_MAX)
}

/// Whether `text` could be meant as a number: then it is never looked up further when it is wrong.
fn looks_numeric(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
}

/// Tells who `request` is: `""`, `user`, `uid`, `user:group`, `uid:gid`, as Docker reads it.
///
/// `passwd` and `group` are the image's files, empty when it has none; `added` are more groups
/// (`--group-add`).
///
/// # Errors
/// [`UserError`] when a name is unknown or a number is not an id.
pub fn resolve(request: &str, passwd: &[u8], group: &[u8], added: &[String]) -> Result<User, UserError> {
    let malformed = || UserError::Malformed { text: request.chars().take(200).collect() };
    let (name, group_name) = match request.split_once(':') {
        Some((name, group_name)) if !name.is_empty() && !group_name.is_empty() => (name, Some(group_name)),
        Some(_) => return Err(malformed()),
        None => (if request.is_empty() { "0" } else { request }, None),
    };
    let account = accounts(passwd)
        .find(|a| a.name == name.as_bytes())
        .or_else(|| accounts(passwd).find(|a| Some(a.uid) == id(name.as_bytes())));
    let (uid, own_gid) = match (&account, id(name.as_bytes())) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) if looks_numeric(name) => return Err(malformed()),
        (None, None) => return Err(UserError::NoUser { name: name.to_owned() }),
    };
    let gid = group_name.map(|g| group_id(g, group)).transpose()?.unwrap_or(own_gid);
    let mut ids = Vec::new();
    if let (Some(account), None) = (&account, group_name) {
        let member = |g: &Group<'_>| g.members.split(|&b| b == b',').any(|m| m == account.name);
        ids.extend(groups(group).filter(member).map(|g| g.gid));
    }
    for name in added {
        ids.push(group_id(name, group)?);
    }
    ids.sort_unstable();
    ids.dedup();
    let home = account.map(|a| String::from_utf8_lossy(a.home).into_owned()).filter(|h| h.starts_with('/'));
    Ok(User { uid, gid, groups: ids, home: home.unwrap_or_else(|| "/".to_owned()) })
}

/// The id of a group by name or number, by the image's own `group` text.
///
/// # Errors
/// [`UserError`] when the name is unknown or the number is not an id.
pub fn group_id(name: &str, group: &[u8]) -> Result<u32, UserError> {
    let found = groups(group).find(|g| g.name == name.as_bytes()).map(|g| g.gid);
    match found.or_else(|| id(name.as_bytes())) {
        Some(gid) => Ok(gid),
        None if looks_numeric(name) => Err(UserError::Malformed { text: name.chars().take(200).collect() }),
        None => Err(UserError::NoGroup { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/var/www:/bin/false\n7:x:700:700::/seven:\nbad\n";
    const GROUP: &[u8] = b"root:x:0:\ndata:x:50:www,other\nlog:x:40:www\n";

    fn who(request: &str) -> Result<(u32, u32, Vec<u32>, String), UserError> {
        resolve(request, PASSWD, GROUP, &[]).map(|u| (u.uid, u.gid, u.groups, u.home))
    }

    #[test]
    fn names_and_numbers_are_read_as_docker_reads_them() {
        for (request, uid, gid, groups, home) in [
            ("", 0, 0, vec![], "/root"),
            ("root", 0, 0, vec![], "/root"),
            ("www", 33, 34, vec![40, 50], "/var/www"),
            ("33", 33, 34, vec![40, 50], "/var/www"),
            ("www:data", 33, 50, vec![], "/var/www"),
            ("www:7", 33, 7, vec![], "/var/www"),
            ("1000", 1000, 0, vec![], "/"),
            ("1000:1000", 1000, 1000, vec![], "/"),
            ("7", 700, 700, vec![], "/seven"),
            ("01", 1, 0, vec![], "/"),
            ("2147483647", 2_147_483_647, 0, vec![], "/"),
        ] {
            assert_eq!(who(request), Ok((uid, gid, groups, home.to_owned())), "{request:?}");
        }
    }

    #[test]
    fn what_is_not_exactly_one_id_is_never_user_zero() {
        for request in [
            "-1",
            "+0",
            "0x0",
            "4294967296",
            "2147483648",
            "4294967295",
            "1:99999999999",
            "root:",
            ":0",
            ":",
            "1:-1",
            "99999999999999999999",
            " 0",
            "nobody",
            "www:nogroup",
            "0 ",
            "\0",
        ] {
            assert!(who(request).is_err(), "{request:?} became {:?}", who(request));
        }
    }

    #[test]
    fn hostile_passwd_text_gives_no_id() {
        for passwd in [
            &b"evil:x:-1:0::/:\n"[..],
            b"evil:x:4294967296:0::/:\n",
            b"evil:x::0::/:\n",
            b"evil:x:0\n",
            b"\xff\xfe:",
        ] {
            assert!(resolve("evil", passwd, b"", &[]).is_err());
        }
        let added = resolve("0", b"", GROUP, &["log".to_owned(), "9".to_owned()]).unwrap();
        assert_eq!(added.groups, [9, 40]);
    }
}
