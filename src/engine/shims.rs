//! Programs that stand for another version of themselves: which one they would start.
//!
//! pyenv and asdf keep their choice in small text files, which are read here as they read them.
//! The others (mise, volta, rustup, snap) are only known by name. It runs nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::reach;

/// The largest version file in bytes that is read.
const VERSION_BYTES_MAX: u64 = 16 * 1024;

/// What pyenv chooses.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice {
    /// The program at this path.
    Program(PathBuf),
    /// The one further along PATH.
    System,
    /// None; why not.
    Nothing(String),
}

/// The program that runs instead of a file, when that file is a known stand-in for others.
pub fn stand_in(name: &OsStr, real: &Path) -> Option<&'static str> {
    let real = real.file_name()?;
    let known = [
        ("mise", "name the program that `mise which NAME` prints"),
        ("rtx", "name the program that `rtx which NAME` prints"),
        ("volta-shim", "name the program that `volta which NAME` prints"),
        ("rustup", "name the program that `rustup which NAME` prints"),
        ("snap", "a snap starts through its daemon: install the program in another way"),
    ];
    known.into_iter().find(|(shim, _)| real == *shim && name != *shim).map(|(_, hint)| hint)
}

/// What pyenv at `root` starts for `name`: `PYENV_VERSION`, then `.python-version` from the current
/// folder upwards, then the global choice.
pub fn pyenv(root: &Path, name: &OsStr, version: Option<&OsStr>, cwd: &Path) -> Choice {
    let chosen = match version.and_then(OsStr::to_str).filter(|version| !version.is_empty()) {
        Some(version) => version.to_owned(),
        None => cwd
            .ancestors()
            .map(|folder| folder.join(".python-version"))
            .chain([root.join("version")])
            .find_map(|file| reach::text(&file, VERSION_BYTES_MAX))
            .unwrap_or_default(),
    };
    let words = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split([':', ' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let versions: Vec<String> = chosen.lines().flat_map(words).collect();
    if versions.is_empty() {
        return Choice::System;
    }
    for version in &versions {
        if version == "system" {
            return Choice::System;
        }
        let Some(folder) = installed(&root.join("versions"), version) else {
            return Choice::Nothing(format!("version `{version}` is chosen but not installed"));
        };
        let program = folder.join("bin").join(name);
        if program.exists() {
            return Choice::Program(program);
        }
    }
    let (name, versions) = (name.display(), versions.join("`, `"));
    Choice::Nothing(format!("the chosen version `{versions}` has no `{name}`"))
}

/// The folder of a version: of that very name, or the newest that begins with it.
fn installed(versions: &Path, version: &str) -> Option<PathBuf> {
    let plain = |name: &str| !name.contains('/') && name != ".." && name != ".";
    let names = [version, version.strip_prefix("python-").unwrap_or(version)];
    let names = names.into_iter().filter(|name| plain(name));
    if let Some(exact) = names.clone().map(|name| versions.join(name)).find(|folder| folder.is_dir()) {
        return Some(exact);
    }
    let prefixes: Vec<String> = names.map(|name| format!("{name}.")).collect();
    let matching = reach::entries(versions).into_iter().filter_map(|folder| {
        let name = folder.file_name()?.to_str()?;
        prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())).then_some(())?;
        let numbers: Option<Vec<u32>> = name.split('.').map(|part| part.parse().ok()).collect();
        Some((numbers?, folder))
    });
    matching.max().map(|(_, folder)| folder)
}

/// What asdf starts for the shim at `shim`: of the `pairs` of plugin and version that have the
/// program, the one that `.tool-versions` chooses; the only one where nothing chooses.
pub fn asdf(shim: &Path, pairs: &[(String, String)], cwd: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let files = cwd.ancestors().chain(home).map(|folder| folder.join(".tool-versions"));
    let texts: Vec<String> = files.filter_map(|file| reach::text(&file, VERSION_BYTES_MAX)).collect();
    let mut lines = texts.iter().flat_map(|text| text.lines());
    let chosen = lines.find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let plugin = words.next()?;
        words.find_map(|version| pairs.iter().find(|(p, v)| p == plugin && v == version))
    });
    let only = pairs.first().filter(|_| pairs.len() == 1);
    let (plugin, version) = chosen.or(only)?;
    let installs = shim.parent()?.parent()?.join("installs");
    let program = installs.join(plugin).join(version).join("bin").join(shim.file_name()?);
    program.is_file().then_some(program)
}
