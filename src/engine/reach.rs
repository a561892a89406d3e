//! What a sandbox must show so that a program starts: files, folders and links, and what it must
//! never show. It collects and refuses; it does not know programs, and it mounts nothing.
//!
//! The answers are advice, read from a tree that may change: who mounts opens each path again.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{ErrorKind, Fault};
use crate::sys::fs::{self, FsError};

/// The most links that are followed for one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// The most entries of one folder that are looked at.
const ENTRIES_MAX: usize = 4096;

/// What no program needs to start, below the home folder: keys, tokens, sessions.
const PRIVATE: [&str; 20] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker/config.json",
    ".password-store",
    ".mozilla",
    ".thunderbird",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".cargo/credentials.toml",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/chromium",
    ".local/share/keyrings",
    ".bash_history",
];

/// Folders below the home folder that hold many things: never shown whole, only parts of them.
const SHARED: [&str; 27] = [
    ".bun",
    ".bun/bin",
    ".cache",
    ".cargo",
    ".cargo/bin",
    ".config",
    ".deno",
    ".deno/bin",
    ".docker",
    ".local",
    ".local/bin",
    ".local/lib",
    ".local/share",
    ".local/state",
    ".npm",
    ".nvm",
    ".pyenv",
    "bin",
    "go",
    "go/bin",
    "snap",
    "Desktop",
    "Documents",
    "Downloads",
    "Music",
    "Pictures",
    "Videos",
];

/// Folders of the machine that hold many things.
const COMMON: [&str; 13] = [
    "/boot", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/var",
    "/var/tmp",
];

/// Package stores whose parts name each other by absolute path: shown whole, they hold no secrets.
const STORES: [&str; 3] = ["/gnu/store", "/home/linuxbrew/.linuxbrew", "/nix/store"];

/// The folders that the kernel fills.
const KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// What a home folder holds and a project does not.
const HOME_MARKS: [&str; 4] = [".ssh", ".gnupg", ".bashrc", ".bash_history"];

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The path cannot be followed.
    #[error("`{path}` cannot be followed")]
    Walk {
        /// The path as it was named.
        path: PathBuf,
        /// What the kernel said.
        source: FsError,
    },
    /// The path is one of those that are never shown.
    #[error("`{path}` is never shown to a sandbox")]
    Private {
        /// The path after its links were followed.
        path: PathBuf,
    },
}

impl Fault for ReachError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Walk { source, .. } => source.kind(),
            Self::Private { .. } => ErrorKind::Denied,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Walk { .. } => Vec::new(),
            Self::Private { .. } => vec!["keep programs apart from keys and kernel folders".to_owned()],
        }
    }
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// One regular file.
    File,
    /// A folder and all that is in it.
    Folder,
}

/// One read-only mount, at the same path inside as outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Absolute, without links on the way.
    pub path: PathBuf,
    /// A file or a folder.
    pub kind: MountKind,
    /// What it is for, in a few words.
    pub why: String,
}

/// A path whose links were all followed.
#[derive(Debug)]
pub struct Walk {
    /// Where it leads.
    pub real: PathBuf,
    /// The links on the way: where each lies (itself without links before it) and what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
}

/// Follows every link of the absolute `path`, one name at a time.
///
/// # Errors
/// What the kernel says, that there are more than 40 links, or that it leads through a folder that
/// the kernel fills.
pub fn walk(path: &Path) -> Result<Walk, ReachError> {
    let wrong = |source: io::Error| {
        let source = FsError::new("follow", path, source);
        ReachError::Walk { path: path.to_owned(), source }
    };
    let mut real = PathBuf::from("/");
    let mut links = Vec::new();
    let mut names: VecDeque<OsString> = parts(path).collect();
    while let Some(name) = names.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let place = real.join(&name);
        // Links of the kernel's folders depend on who asks, and must not be made inside.
        if KERNEL.iter().any(|kernel| place.starts_with(kernel)) {
            return Err(ReachError::Private { path: place });
        }
        let meta = std::fs::symlink_metadata(&place).map_err(wrong)?;
        if !meta.is_symlink() {
            if !names.is_empty() && !meta.is_dir() {
                return Err(wrong(io::Error::from(io::ErrorKind::NotADirectory)));
            }
            real = place;
            continue;
        }
        if links.len() == LINKS_MAX {
            return Err(wrong(rustix::io::Errno::LOOP.into()));
        }
        let target = std::fs::read_link(&place).map_err(wrong)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        for name in parts(&target).collect::<Vec<_>>().into_iter().rev() {
            names.push_front(name);
        }
        links.push((place, target));
    }
    Ok(Walk { real, links })
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// The entries of a folder in order of name, at most 4096; none when it cannot be read.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(read) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut all: Vec<PathBuf> = read.take(ENTRIES_MAX).filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.sort();
    all
}

/// A small text file, or nothing when it is missing, not a regular file, or larger than `bytes_max`.
pub fn text(path: &Path, bytes_max: u64) -> Option<String> {
    let bytes = fs::read_file(path, bytes_max).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What was found so far.
#[derive(Debug)]
pub struct Reach<'a> {
    system: &'a [PathBuf],
    homes: Vec<PathBuf>,
    mounts: BTreeMap<PathBuf, (MountKind, String)>,
    links: BTreeMap<PathBuf, PathBuf>,
    notes: Vec<String>,
}

impl<'a> Reach<'a> {
    /// Nothing yet: `system` is visible anyway, `home` is never shown whole.
    pub fn new(system: &'a [PathBuf], home: Option<&Path>) -> Self {
        let mut homes: Vec<PathBuf> = home.into_iter().map(Path::to_owned).collect();
        homes.extend(home.and_then(|home| walk(home).ok()).map(|walk| walk.real));
        homes.dedup();
        Self { system, homes, mounts: BTreeMap::new(), links: BTreeMap::new(), notes: Vec::new() }
    }

    /// True when the sandbox shows this path without us.
    pub fn is_system(&self, real: &Path) -> bool {
        self.system.iter().any(|folder| real.starts_with(folder))
    }

    /// True when the sandbox will show this path, which has no links on the way.
    pub fn shows(&self, real: &Path) -> bool {
        self.is_system(real) || real.ancestors().any(|folder| self.mounts.contains_key(folder))
    }

    /// Says something to the reader, once.
    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Keeps the links of a path, so that the same path leads to the same place inside.
    pub fn keep_links(&mut self, walk: &Walk) {
        for (link, target) in &walk.links {
            if !self.is_system(link) {
                self.links.insert(link.clone(), target.clone());
            }
        }
    }

    /// Shows one file and the links that lead to it.
    ///
    /// # Errors
    /// It cannot be followed, or it is private.
    pub fn file(&mut self, path: &Path, why: &str) -> Result<PathBuf, ReachError> {
        let walk = walk(path)?;
        self.keep_links(&walk);
        if !self.shows(&walk.real) {
            if self.is_private(&walk.real) {
                return Err(ReachError::Private { path: walk.real });
            }
            let store = STORES.iter().map(Path::new).find(|store| walk.real.starts_with(store));
            let (place, kind) =
                store.map_or((walk.real.as_path(), MountKind::File), |s| (s, MountKind::Folder));
            self.mounts.insert(place.to_owned(), (kind, why.to_owned()));
        }
        Ok(walk.real)
    }

    /// Shows a folder and the links that lead to it; `false`, and nothing shown, when it is too
    /// broad: then the caller shows what it needs of it.
    ///
    /// # Errors
    /// It cannot be followed.
    pub fn folder(&mut self, path: &Path, why: &str) -> Result<bool, ReachError> {
        let walk = walk(path)?;
        if !self.shows(&walk.real) {
            if self.is_too_broad(&walk.real) || self.is_private(&walk.real) {
                return Ok(false);
            }
            self.mounts.insert(walk.real.clone(), (MountKind::Folder, why.to_owned()));
        }
        self.keep_links(&walk);
        Ok(true)
    }

    /// True for a folder that holds more than one thing's files: a home, what is above one, and
    /// the folders where many programs, or a person's own things, lie side by side.
    pub fn is_too_broad(&self, real: &Path) -> bool {
        let below_homes = |names: &[&str], test: &dyn Fn(&Path) -> bool| {
            self.homes.iter().any(|home| names.iter().any(|name| test(&home.join(name))))
        };
        real.parent().is_none_or(|parent| parent == Path::new("/home"))
            || COMMON.iter().any(|common| real == Path::new(common))
            || self.homes.iter().any(|home| home.starts_with(real))
            || below_homes(&SHARED, &|shared| shared == real)
            || below_homes(&PRIVATE, &|private| private != real && private.starts_with(real))
            || HOME_MARKS.iter().any(|mark| std::fs::symlink_metadata(real.join(mark)).is_ok())
    }

    fn is_private(&self, real: &Path) -> bool {
        self.homes.iter().any(|home| PRIVATE.iter().any(|name| real.starts_with(home.join(name))))
    }

    /// What must be mounted and which links must be made, without what another mount shows
    /// already, in order of path; and what there is to say.
    pub fn finish(mut self) -> (Vec<Mount>, Vec<(PathBuf, PathBuf)>, Vec<String>) {
        let all = std::mem::take(&mut self.mounts);
        for (path, what) in all {
            // In order of path a folder comes before what is in it.
            if !self.shows(&path) {
                self.mounts.insert(path, what);
            }
        }
        let links = std::mem::take(&mut self.links);
        let links = links.into_iter().filter(|(link, _)| !self.shows(link)).collect();
        for folder in self.mounts.keys().cloned().collect::<Vec<_>>() {
            let settings = folder.join(".env");
            if settings.is_file() {
                self.note(format!("`{}` can be read inside", settings.display()));
            }
        }
        let mounts = self.mounts.into_iter().map(|(path, (kind, why))| Mount { path, kind, why });
        (mounts.collect(), links, self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn home() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("home/me");
        std::fs::create_dir_all(&home).unwrap();
        (dir, home)
    }

    fn make(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn links_are_followed_in_every_part_of_a_path_and_kept_in_order() {
        let (_dir, home) = home();
        make(&home.join("real/tool"));
        symlink("real", home.join("folder")).unwrap();
        symlink(home.join("folder/tool"), home.join("absolute")).unwrap();
        symlink("./folder/../absolute", home.join("first")).unwrap();
        let walk = walk(&home.join("first")).unwrap();
        assert_eq!(walk.real, home.join("real/tool"));
        let names: Vec<_> = walk.links.iter().map(|(link, _)| link.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["first", "folder", "absolute", "folder"]);
    }

    #[test]
    fn a_loop_of_links_ends() {
        let (_dir, home) = home();
        symlink("b", home.join("a")).unwrap();
        symlink("a", home.join("b")).unwrap();
        let error = walk(&home.join("a")).unwrap_err();
        let ReachError::Walk { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.source.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn no_home_nothing_above_it_and_no_shared_folder_is_shown_whole() {
        let (_dir, home) = home();
        for inside in [".local/bin/x", "Downloads/x", ".cargo/x", ".config/tool/x", "project/x", ".ssh/x"] {
            make(&home.join(inside));
        }
        let mut reach = Reach::new(&[], Some(&home));
        for broad in ["", "..", "../..", ".local/bin", ".local", "Downloads", ".cargo", ".config", ".ssh"] {
            assert!(!reach.folder(&home.join(broad), "no").unwrap(), "{broad}");
        }
        for common in ["/", "/tmp", "/usr"] {
            assert!(!reach.folder(Path::new(common), "no").unwrap(), "{common}");
        }
        for narrow in [".config/tool", "project"] {
            assert!(reach.folder(&home.join(narrow), "yes").unwrap(), "{narrow}");
        }
        assert_eq!(reach.finish().0.len(), 2);
    }

    #[test]
    fn a_home_that_is_a_link_is_still_the_home() {
        let (_dir, home) = home();
        let alias = home.with_file_name("alias");
        symlink(&home, &alias).unwrap();
        let mut reach = Reach::new(&[], Some(&alias));
        assert!(!reach.folder(&home, "no").unwrap());
        assert!(!reach.folder(&alias, "no").unwrap());
    }

    #[test]
    fn keys_are_not_even_shown_as_files() {
        let (_dir, home) = home();
        make(&home.join(".ssh/id"));
        symlink(".ssh/id", home.join("innocent")).unwrap();
        let mut reach = Reach::new(&[], Some(&home));
        assert!(matches!(reach.file(&home.join("innocent"), "no"), Err(ReachError::Private { .. })));
        for kernel in ["/proc/version", "/proc/self/exe", "/dev", "/dev/shm/x"] {
            assert!(
                matches!(reach.file(Path::new(kernel), "no"), Err(ReachError::Private { .. })),
                "{kernel}"
            );
            assert!(reach.folder(Path::new(kernel), "no").is_err(), "{kernel}");
        }
        assert!(reach.finish().0.is_empty());
    }

    #[test]
    fn what_another_mount_shows_is_left_out() {
        let (_dir, home) = home();
        make(&home.join("project/bin/tool"));
        make(&home.join("shown/file"));
        symlink("tool", home.join("project/bin/link")).unwrap();
        symlink("project/bin/link", home.join("outer")).unwrap();
        let system = [home.join("shown")];
        let mut reach = Reach::new(&system, Some(&home));
        reach.file(&home.join("outer"), "tool").unwrap();
        reach.file(&home.join("shown/file"), "shown").unwrap();
        reach.folder(&home.join("project"), "project").unwrap();
        let (mounts, links, _) = reach.finish();
        assert_eq!(
            mounts,
            [Mount { path: home.join("project"), kind: MountKind::Folder, why: "project".to_owned() }]
        );
        assert_eq!(links, [(home.join("outer"), PathBuf::from("project/bin/link"))]);
    }
}
