//! Pure: what a client's path means: which root, and which way beneath it; and what is protected there.
//!
//! It computes on text alone. Links are not seen here: that no way leaves its root is for `workspace::root`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::workspace::refusal::{Code, Refusal};

/// What nobody changes through us unless told: with it git runs programs of the writer's choice.
pub const PROTECTED: &str = ".git/{config,hooks,refs,objects,info}/**";
/// Longest path of a request, in bytes; the kernel's own limit.
pub const PATH_BYTES_MAX: usize = 4096;

/// A way beneath a root: never absolute, no `.`, no `..`, no part that is empty. The root itself is the
/// empty way.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inside(PathBuf);

impl Inside {
    /// The way of `path`, with `.` and `..` taken out as text; `None` when it climbs above its start or is
    /// absolute.
    pub fn new(path: &Path) -> Option<Self> {
        let mut way = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => way.push(name),
                Component::CurDir => {}
                Component::ParentDir => {
                    if !way.pop() {
                        return None;
                    }
                }
                Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        Some(Self(way))
    }

    /// For openat2(2): the root itself is `.`.
    pub fn as_path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { &self.0 }
    }

    /// Whether it is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// The way of the folder and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(Self, &OsStr)> {
        let name = self.0.file_name()?;
        Some((Self(self.0.parent().map(Path::to_owned).unwrap_or_default()), name))
    }

    /// One name further down; `name` is one that a folder told, so it has no slash.
    #[must_use]
    pub fn join(&self, name: &OsStr) -> Self {
        Self(self.0.join(name))
    }

    /// The way as a path; empty for the root.
    pub fn relative(&self) -> &Path {
        &self.0
    }

    /// The way as text, with a mark for what is no UTF-8.
    pub fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

/// A root's place on the host: as it was named, and with every link followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPaths {
    /// Absolute, as it was named.
    pub given: PathBuf,
    /// Absolute, without links.
    pub real: PathBuf,
}

/// Where a client's path leads, as far as its text tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Which of the roots.
    pub root: usize,
    /// The way beneath it.
    pub inside: Inside,
    /// The whole path, absolute, by text.
    pub absolute: PathBuf,
}

/// An absolute path without `.` and `..`, by text: above `/` is `/`.
pub fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    whole
}

/// `~` and `~/…` with the home folder that was handed down.
pub fn with_home(path: &str, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            home.join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

/// The deepest root that holds an absolute path without `..`.
pub fn root_of(absolute: &Path, roots: &[RootPaths]) -> Option<(usize, Inside)> {
    let mut best: Option<(usize, usize, Inside)> = None;
    for (n, root) in roots.iter().enumerate() {
        for base in [&root.given, &root.real] {
            let Some(inside) = absolute.strip_prefix(base).ok().and_then(Inside::new) else { continue };
            let depth = base.components().count();
            if best.as_ref().is_none_or(|(_, deepest, _)| depth > *deepest) {
                best = Some((n, depth, inside));
            }
        }
    }
    best.map(|(n, _, inside)| (n, inside))
}

/// Where the path of a request leads: absolute, relative to the first root, or below `~`.
///
/// # Errors
/// `PathEscape` when it is in no root, `BadRequest` when it is no path.
pub fn locate(request: &str, home: Option<&Path>, roots: &[RootPaths]) -> Result<Located, Refusal> {
    let wrong = |code, text: String| Err(Refusal::new(code, text).at(request));
    if request.contains('\0') {
        let text = format!("Access denied - path outside allowed directories: {request} is no path");
        return wrong(Code::BadRequest, text);
    }
    if request.len() > PATH_BYTES_MAX {
        return wrong(Code::TooLarge, format!("a path has at most {PATH_BYTES_MAX} bytes"));
    }
    let bytes = request.as_bytes();
    if matches!(bytes, [drive, b':', rest @ ..] if drive.is_ascii_alphabetic() && matches!(rest.first(), None | Some(b'/' | b'\\')))
    {
        return wrong(
            Code::BadRequest,
            format!("Access denied - Windows-style path received on a POSIX host: {request}"),
        );
    }
    let path = with_home(request, home);
    let absolute = match roots.first() {
        _ if path.is_absolute() => normal(&path),
        Some(first) => {
            let from = |root: &RootPaths| normal(&root.given.join(&path));
            // As the reference does: the first root from which the path stays inside one.
            roots.iter().map(from).find(|p| root_of(p, roots).is_some()).unwrap_or_else(|| from(first))
        }
        None => normal(&path),
    };
    match root_of(&absolute, roots) {
        Some((root, inside)) => Ok(Located { root, inside, absolute }),
        None => {
            let allowed: Vec<_> = roots.iter().map(|r| r.given.display().to_string()).collect();
            wrong(
                Code::PathEscape,
                format!(
                    "Access denied - path outside allowed directories: {} not in {}",
                    absolute.display(),
                    allowed.join(", ")
                ),
            )
        }
    }
}

/// What may not be changed, by globs on the way beneath a root.
#[derive(Debug, Clone)]
pub struct Protection {
    globs: GlobSet,
    /// The globs as they were given.
    pub texts: Vec<String>,
}

impl Protection {
    /// Globs as in `.gitignore`: one that begins with `/` counts from the root, any other at any depth. `x/**`
    /// also means `x`, and what lies below a path that matches is protected with it. Capitals make no difference,
    /// for there are file systems where they make none.
    ///
    /// # Errors
    /// `BadPattern`.
    pub fn new(texts: &[String]) -> Result<Self, Refusal> {
        let wrong = |text: &str, e: &globset::Error| {
            Refusal::new(Code::BadPattern, format!("`{text}` is no glob: {}", e.kind()))
        };
        let mut globs = GlobSetBuilder::new();
        for text in texts {
            let base = text.trim_end_matches('/');
            let base = base.strip_suffix("/**").unwrap_or(base);
            let anchored = match base.strip_prefix('/') {
                Some(rooted) => rooted.to_owned(),
                None if base.starts_with("**/") => base.to_owned(),
                None => format!("**/{base}"),
            };
            let glob = GlobBuilder::new(&anchored).literal_separator(true).case_insensitive(true).build();
            globs.add(glob.map_err(|e| wrong(text, &e))?);
        }
        let globs = globs.build().map_err(|e| wrong(&texts.join(" "), &e))?;
        Ok(Self { globs, texts: texts.to_vec() })
    }

    /// Whether nobody may change what is there.
    pub fn covers(&self, inside: &Inside) -> bool {
        let mut upward = inside.relative().ancestors().filter(|p| !p.as_os_str().is_empty());
        upward.any(|path| self.globs.is_match(OsStr::from_bytes(path.as_os_str().as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(list: &[&str]) -> Vec<RootPaths> {
        list.iter().map(|p| RootPaths { given: p.into(), real: p.into() }).collect()
    }

    #[track_caller]
    fn check(request: &str, expected: Option<(usize, &str)>) {
        let roots = roots(&["/work/a", "/work/a/ref", "/work/b"]);
        let found = locate(request, Some(Path::new("/work/b/home")), &roots).ok();
        assert_eq!(
            found.map(|l| (l.root, l.inside.text())),
            expected.map(|(n, p)| (n, p.to_owned())),
            "{request}"
        );
    }

    #[test]
    fn a_path_leads_to_the_deepest_root_that_holds_it_or_nowhere() {
        check("x/../y.rs", Some((0, "y.rs")));
        check(".", Some((0, "")));
        check("/work/a/ref/x", Some((1, "x")));
        check("ref/x", Some((1, "x")));
        check("/work/a/ref/../x", Some((0, "x")));
        check("~/notes", Some((2, "home/notes")));
        check("/work/ab", None);
        check("/work/a/../../etc/passwd", None);
        check("../../../../etc/passwd", None);
        check("../b/x", Some((2, "x")));
        check("C:\\x", None);
        check("a\0b", None);
        check("...", Some((0, "...")));
        check("~other/x", Some((0, "~other/x")));
    }

    #[test]
    fn the_configuration_of_git_is_protected_at_every_depth_and_its_neighbours_are_not() {
        let protection = Protection::new(&[PROTECTED.to_owned()]).unwrap();
        let covers = |path: &str| protection.covers(&Inside::new(Path::new(path)).unwrap());
        for path in [
            ".git/config",
            ".git/hooks/pre-commit",
            "sub/.git/refs/heads/main",
            ".GIT/Config",
            ".git/objects",
        ] {
            assert!(covers(path), "{path}");
        }
        for path in [".git", ".git/HEAD", ".gitignore", "config", "hooks/x", ".git/index", ""] {
            assert!(!covers(path), "{path}");
        }
        assert!(Protection::new(&["a{".to_owned()]).is_err());
        let rooted = Protection::new(&["/secret".to_owned()]).unwrap();
        assert!(rooted.covers(&Inside::new(Path::new("secret/x")).unwrap()));
        assert!(!rooted.covers(&Inside::new(Path::new("a/secret")).unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_way_that_climbs(text in "[a./~\\\\]{0,24}") {
            let roots = roots(&["/r/one", "/r/two"]);
            if let Ok(found) = locate(&text, Some(Path::new("/r/two")), &roots) {
                let parts: Vec<_> = found.inside.relative().components().collect();
                proptest::prop_assert!(parts.iter().all(|p| matches!(p, Component::Normal(_))));
                let whole = roots[found.root].given.join(found.inside.relative());
                proptest::prop_assert_eq!(whole, found.absolute);
            }
        }
    }
}
