//! Python: what an interpreter, a virtual environment, a script or a module needs to start.
//!
//! It shows what Python's own start-up reads: the installation around the binary, `pyvenv.cfg` and
//! the installation it names, the path lines of `*.pth` files. It runs nothing.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::reach::{self, Reach, ReachError};

/// The largest `pyvenv.cfg` or `*.pth` file in bytes that is read.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// An interpreter that was shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Python {
    /// `python3.11`, the name of its library folder, when it is known.
    pub version: Option<String>,
    /// It runs in a virtual environment, which shuts out the user's own packages.
    pub in_venv: bool,
}

/// True for the names under which interpreters are installed: `python`, `python3.12`, `pypy3`.
pub fn is_name(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let rest = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

/// Shows what the interpreter at `real` needs; `places` are the paths that led to it.
///
/// # Errors
/// A path that it names cannot be shown.
pub fn show_interpreter(
    reach: &mut Reach<'_>,
    places: &[PathBuf],
    real: &Path,
) -> Result<Python, ReachError> {
    let mut python = Python::default();
    for place in places {
        let around = place.ancestors().skip(1).take(2);
        if let Some(venv) = around.into_iter().find(|folder| folder.join("pyvenv.cfg").is_file()) {
            python.in_venv = true;
            show_venv(reach, venv)?;
        }
    }
    if let Some(prefix) = real.parent().and_then(Path::parent) {
        python.version = show_installation(reach, prefix)?;
    }
    if let Some(name) = real.file_name().and_then(OsStr::to_str).filter(|name| name.contains('.')) {
        python.version = Some(name.to_owned());
    }
    Ok(python)
}

fn show_venv(reach: &mut Reach<'_>, venv: &Path) -> Result<(), ReachError> {
    if !reach.folder(venv, "virtual environment")? {
        reach.file(&venv.join("pyvenv.cfg"), "virtual environment")?;
    }
    let project = reach::walk(venv).ok().and_then(|walk| walk.real.parent().map(Path::to_owned));
    let project = project.filter(|project| !reach.is_too_broad(project));
    show_libraries(reach, venv, "virtual environment", project.as_deref())?;
    let text = reach::text(&venv.join("pyvenv.cfg"), TEXT_BYTES_MAX).unwrap_or_default();
    let base = text.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "home");
    let Some(base) = base.map(|(_, path)| PathBuf::from(path.trim())) else { return Ok(()) };
    match reach::walk(&base) {
        Ok(walk) => {
            reach.keep_links(&walk);
            if let Some(prefix) = walk.real.parent() {
                show_installation(reach, prefix)?;
            }
        }
        Err(_) => reach.note(format!(
            "the virtual environment `{}` is built on `{}`, which is not there: make it anew",
            venv.display(),
            base.display()
        )),
    }
    Ok(())
}

/// Shows the installation at `prefix` and says the version it holds.
fn show_installation(reach: &mut Reach<'_>, prefix: &Path) -> Result<Option<String>, ReachError> {
    let libraries = library_folders(prefix);
    let version = libraries.first().and_then(|folder| folder.file_name()?.to_str()).map(str::to_owned);
    if version.is_some() && !reach.is_system(prefix) {
        reach.folder(prefix, "Python's installation")?;
        show_libraries(reach, prefix, "Python's library", None)?;
    }
    Ok(version)
}

/// `lib/python3.11` and the like below a prefix.
fn library_folders(prefix: &Path) -> Vec<PathBuf> {
    let all = ["lib", "lib64"].iter().flat_map(|lib| reach::entries(&prefix.join(lib)));
    all.filter(|path| path.file_name().is_some_and(|name| is_name(name) && name.len() > 6) && path.is_dir())
        .collect()
}

/// Shows the library folders of a prefix, where the prefix itself was too broad, and what the
/// `*.pth` files in them add.
fn show_libraries(
    reach: &mut Reach<'_>,
    prefix: &Path,
    why: &str,
    project: Option<&Path>,
) -> Result<(), ReachError> {
    for library in library_folders(prefix) {
        reach.folder(&library, why)?;
        show_added_paths(reach, &library.join("site-packages"), project)?;
    }
    Ok(())
}

/// Shows the folders that the path lines of `*.pth` files add, when they lie in `project`: an
/// editable install of the project itself. A package could name any other folder to have it shown,
/// so those are only named to the reader.
fn show_added_paths(
    reach: &mut Reach<'_>,
    packages: &Path,
    project: Option<&Path>,
) -> Result<(), ReachError> {
    // pipx adds its own copy of pip with that file; no program needs it to start.
    let counts =
        |file: &PathBuf| file.extension() == Some(OsStr::new("pth")) && !file.ends_with("pipx_shared.pth");
    for file in reach::entries(packages).into_iter().filter(counts) {
        let text = reach::text(&file, TEXT_BYTES_MAX).unwrap_or_default();
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            if line.starts_with("import ") || line.starts_with("import\t") {
                if line.contains("__editable__") {
                    let name = file.display();
                    reach.note(format!(
                        "`{name}` finds a package by code: if it is missing inside, add --ro DIR"
                    ));
                }
                continue;
            }
            show_added_path(reach, &file, &packages.join(line), project)?;
        }
    }
    Ok(())
}

fn show_added_path(
    reach: &mut Reach<'_>,
    file: &Path,
    added: &Path,
    project: Option<&Path>,
) -> Result<(), ReachError> {
    let Ok(walk) = reach::walk(added) else { return Ok(()) };
    if !walk.real.is_dir() || reach.shows(&walk.real) {
        return Ok(());
    }
    let own = project.is_some_and(|project| walk.real.starts_with(project));
    if !own || !reach.folder(added, &format!("added by `{}`", file.display()))? {
        let added = walk.real.display();
        reach.note(format!(
            "`{}` adds `{added}`, which is not visible inside: add --ro {added}",
            file.display()
        ));
    }
    Ok(())
}

/// Shows the script at `path` and, unless that is too broad, its folder: Python looks there first.
///
/// # Errors
/// It cannot be shown.
pub fn show_script(reach: &mut Reach<'_>, path: &Path) -> Result<(), ReachError> {
    let real = reach.file(path, "script")?;
    let Some(folder) = real.parent() else { return Ok(()) };
    if !reach.folder(folder, "folder of the script")? && folder.file_name() != Some(OsStr::new("bin")) {
        let (script, folder) = (real.display(), folder.display());
        reach.note(format!(
            "only `{script}` is visible, not what lies beside it: `{folder}` is too broad to be shown"
        ));
    }
    Ok(())
}

/// Shows the module that `-m` names when it lies in the current folder or among the user's packages.
///
/// # Errors
/// It cannot be shown.
pub fn show_module(
    reach: &mut Reach<'_>,
    python: &Python,
    module: &str,
    cwd: &Path,
    home: Option<&Path>,
) -> Result<(), ReachError> {
    let top = module.split('.').next().unwrap_or(module);
    let holds = |folder: &Path| folder.join(top).is_dir() || folder.join(format!("{top}.py")).is_file();
    if holds(cwd) {
        if !reach.folder(cwd, &format!("the current folder, which has the module `{top}`"))? {
            reach.note(format!(
                "the module `{top}` lies in `{}`, which is too broad to be shown",
                cwd.display()
            ));
        }
    } else if user_packages(python, home).is_some_and(|folder| holds(&folder)) {
        show_user_packages(reach, python, home)?;
    }
    Ok(())
}

/// Shows the packages that `pip install --user` put into the home folder.
///
/// # Errors
/// They cannot be shown.
pub fn show_user_packages(
    reach: &mut Reach<'_>,
    python: &Python,
    home: Option<&Path>,
) -> Result<(), ReachError> {
    let Some(packages) = user_packages(python, home) else { return Ok(()) };
    reach.folder(&packages, "packages installed with `pip install --user`")?;
    show_added_paths(reach, &packages, None)?;
    reach.note("packages of the user are found through the home folder's path: add --env HOME".to_owned());
    Ok(())
}

fn user_packages(python: &Python, home: Option<&Path>) -> Option<PathBuf> {
    let version = python.version.as_deref().filter(|_| !python.in_venv)?;
    Some(home?.join(".local/lib").join(version).join("site-packages")).filter(|folder| folder.is_dir())
}

/// What the arguments of an interpreter start.
#[derive(Debug, PartialEq, Eq)]
pub enum Starts<'a> {
    /// The script that is the argument of this number.
    Script(usize),
    /// This module.
    Module(&'a OsStr),
    /// Code on the command line, or standard input.
    Nothing,
}

/// Reads Python's command line up to the script or module.
pub fn starts<'a>(arguments: &[&'a OsStr]) -> Starts<'a> {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let Some(options) = argument.to_str().and_then(|text| text.strip_prefix('-')) else {
            return Starts::Script(at);
        };
        if options.starts_with('-') {
            at += 1;
            continue;
        }
        // `-um x` is `-u -m x`: the first letter with a value takes the rest, or the next argument.
        let Some(letter) = options.find(['m', 'c', 'W', 'X']) else {
            if options.is_empty() {
                return Starts::Nothing;
            }
            at += 1;
            continue;
        };
        let value = &options[letter + 1..];
        match &options[letter..=letter] {
            "c" => return Starts::Nothing,
            "m" if value.is_empty() => {
                return arguments.get(at + 1).map_or(Starts::Nothing, |name| Starts::Module(name));
            }
            "m" => {
                return Starts::Module(OsStr::new(argument.to_str().map_or("", |text| &text[letter + 2..])));
            }
            _ => at += if value.is_empty() { 2 } else { 1 },
        }
    }
    Starts::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interpreters_have_interpreter_names() {
        for name in ["python", "python3", "python3.11", "pypy3", "pypy3.10"] {
            assert!(is_name(OsStr::new(name)), "{name}");
        }
        for name in ["python3-config", "pythonista", "ipython", "py", ""] {
            assert!(!is_name(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn the_command_line_is_read_as_python_reads_it() {
        let check = |line: &str, expected: Starts<'_>| {
            let words: Vec<&OsStr> = line.split_whitespace().map(OsStr::new).collect();
            assert_eq!(starts(&words), expected, "{line}");
        };
        check("server.py -m x", Starts::Script(0));
        check("-u -X dev -W ignore server.py", Starts::Script(5));
        check("-Xdev server.py", Starts::Script(1));
        check("-m mcp_server_git --repository x", Starts::Module(OsStr::new("mcp_server_git")));
        check("-um mcp_server_git", Starts::Module(OsStr::new("mcp_server_git")));
        check("-mpkg.sub", Starts::Module(OsStr::new("pkg.sub")));
        check("-c print(1) server.py", Starts::Nothing);
        check("- server.py", Starts::Nothing);
        check("", Starts::Nothing);
    }
}
