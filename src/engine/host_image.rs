//! `@host`: the pseudo-image made of the host's own system folders, read-only, and nothing else of it.
//!
//! Programs, libraries and the public part of `/etc` are there; no home folder, no `/run`, no `/var`,
//! no secret of `/etc`.

use std::path::{Path, PathBuf};

use crate::container::plan::{PlannedMount, PlannedSource, Root};

/// Folders of programs and libraries; on most systems all but `/usr` are links into it.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/gnu"];
/// More folders of installed software that hold nothing of a user.
const SOFTWARE: [&str; 2] = ["/opt", "/nix/store"];
/// The part of `/etc` that programs need and anybody may read; what holds keys or passwords
/// (`shadow`, `ssl/private`, `sudoers`, `machine-id`, service configuration) is not in it.
const ETC: [&str; 29] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "python3",
    "rpc",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// Who the accounts inside are.
#[derive(Debug)]
pub struct Account<'a> {
    /// Login name.
    pub name: &'a str,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Home folder inside.
    pub home: &'a str,
}

/// The root of `@host`, the mounts that fill it, and the files made for it.
pub struct HostImage {
    /// What stands at `/`.
    pub root: Root,
    /// Read-only system folders.
    pub mounts: Vec<PlannedMount>,
    /// `passwd`, `group` and the name service's configuration, made anew.
    pub files: Vec<(PathBuf, String)>,
}

impl HostImage {
    /// What of the host is there at the same path.
    pub fn visible(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.mounts.iter().map(|m| m.target.clone()).collect();
        if let Root::Empty { links, .. } = &self.root {
            paths.extend(links.iter().map(|(link, _)| link.clone()));
        }
        paths
    }
}

/// Looks at the host's system folders and describes the image.
pub fn describe(account: &Account<'_>) -> HostImage {
    let mut links = Vec::new();
    let mut mounts = Vec::new();
    for path in SYSTEM.into_iter().chain(SOFTWARE).map(Path::new) {
        match std::fs::read_link(path) {
            Ok(target) => links.push((path.to_owned(), target)),
            Err(_) if path.is_dir() => mounts.push(read_only(path, false)),
            Err(_) => {}
        }
    }
    mounts.extend(
        ETC.iter()
            .map(|name| Path::new("/etc").join(name))
            .filter(|p| p.exists())
            .map(|p| read_only(&p, true)),
    );
    links.push((PathBuf::from("/etc/mtab"), PathBuf::from("/proc/self/mounts")));
    links.push((PathBuf::from("/var/run"), PathBuf::from("/run")));
    let folder = |path: &str, mode| (PathBuf::from(path), mode);
    let folders = vec![
        folder("/etc", 0o755),
        folder("/home", 0o755),
        folder("/root", 0o700),
        folder("/run", 0o755),
        folder("/tmp", 0o1777),
        folder("/var/tmp", 0o1777),
    ];
    HostImage { root: Root::Empty { links, folders }, mounts, files: tables(account) }
}

fn read_only(path: &Path, optional: bool) -> PlannedMount {
    PlannedMount {
        what: PlannedSource::Bind { path: path.to_owned(), optional, no_links: false },
        target: path.to_owned(),
        read_only: true,
        propagation: None,
    }
}

fn tables(account: &Account<'_>) -> Vec<(PathBuf, String)> {
    let Account { name, uid, gid, home } = account;
    let mut passwd = String::from("root:x:0:0:root:/root:/bin/sh\n");
    let mut group = String::from("root:x:0:\n");
    if *uid != 0 {
        // A name cannot hold what would make another line or field of it.
        let name: String = name.chars().filter(|c| c.is_alphanumeric() || "._-".contains(*c)).collect();
        passwd.push_str(&format!("{name}:x:{uid}:{gid}::{home}:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{gid}:\n"));
    }
    passwd.push_str("nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    vec![
        (PathBuf::from("/etc/passwd"), passwd),
        (PathBuf::from("/etc/group"), group),
        (PathBuf::from("/etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
    ]
}
