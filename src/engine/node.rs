//! Node and its kin (deno, bun, tsx): what an interpreter, a package or a module needs to start.
//!
//! It shows what module resolution reads: the package around a module, and the `node_modules`
//! folders above it. It runs nothing, and it never shows a home folder for a stray `package.json`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::engine::reach::{self, Reach, ReachError};

/// The largest `package.json` in bytes that is read.
const PACKAGE_BYTES_MAX: u64 = 1024 * 1024;

/// True for programs that run JavaScript modules named on their command line.
pub fn is_name(name: &OsStr) -> bool {
    ["node", "nodejs", "deno", "bun", "tsx", "ts-node"].iter().any(|known| name == *known)
}

/// Shows the installation around the interpreter at `real`, when it has one.
///
/// # Errors
/// It cannot be shown.
pub fn show_interpreter(reach: &mut Reach<'_>, real: &Path) -> Result<(), ReachError> {
    let Some(prefix) = real.parent().filter(|bin| bin.ends_with("bin")).and_then(Path::parent) else {
        return Ok(());
    };
    let modules = prefix.join("lib/node_modules");
    if modules.is_dir() && !reach.is_system(prefix) && !reach.folder(prefix, "Node's installation")? {
        reach.folder(&modules, "Node's own packages")?;
    }
    Ok(())
}

/// Shows the module at `path` with what it may import: its package, or the whole tree of packages
/// it lies in, and the `node_modules` folders above.
///
/// # Errors
/// It cannot be shown.
pub fn show_module(reach: &mut Reach<'_>, path: &Path) -> Result<(), ReachError> {
    let real = reach.file(path, "module")?;
    if reach.is_system(&real) {
        return Ok(());
    }
    if let Some(tree) = package_tree(&real) {
        if reach.folder(&tree, "packages that the module lies among")? {
            let beside = tree.with_file_name("package.json");
            if beside.is_file() && tree.ends_with("node_modules") {
                reach.file(&beside, "describes those packages")?;
            }
        }
        return Ok(());
    }
    let folders = real.ancestors().skip(1).take_while(|folder| !reach.is_too_broad(folder));
    let package = folders.clone().find(|folder| folder.join("package.json").is_file());
    let above: Vec<PathBuf> =
        folders.map(|folder| folder.join("node_modules")).filter(|f| f.is_dir()).collect();
    match package.or(real.parent()) {
        Some(package) if reach.folder(package, "package of the module")? => {}
        Some(folder) => show_beside(reach, &real, folder)?,
        None => {}
    }
    for modules in above {
        reach.folder(&modules, "packages for the module")?;
        show_linked_packages(reach, &modules)?;
    }
    Ok(())
}

/// A module that lies in a folder too broad to show: what Node reads beside it, by name.
fn show_beside(reach: &mut Reach<'_>, real: &Path, folder: &Path) -> Result<(), ReachError> {
    let (description, modules) = (folder.join("package.json"), folder.join("node_modules"));
    if description.is_file() {
        reach.file(&description, "describes the package of the module")?;
    }
    if modules.is_dir() {
        reach.folder(&modules, "packages for the module")?;
        show_linked_packages(reach, &modules)?;
    }
    reach.note(format!(
        "only `{}` is visible, not what lies beside it: `{}` is too broad to be shown",
        real.display(),
        folder.display()
    ));
    Ok(())
}

/// Shows the packages that a `node_modules` folder only links to, when they lie in the workspace
/// that the folder belongs to. A link out of it could lead anywhere, so it is only named.
fn show_linked_packages(reach: &mut Reach<'_>, modules: &Path) -> Result<(), ReachError> {
    let scoped = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"));
    let top = reach::entries(modules);
    let inner: Vec<PathBuf> = top.iter().filter(|p| scoped(p)).flat_map(|p| reach::entries(p)).collect();
    for link in top.into_iter().chain(inner).filter(|path| path.is_symlink()) {
        let Ok(walk) = reach::walk(&link) else { continue };
        if !walk.real.is_dir() || reach.shows(&walk.real) {
            continue;
        }
        let workspace = modules.parent().filter(|folder| !reach.is_too_broad(folder));
        let own = workspace.is_some_and(|workspace| walk.real.starts_with(workspace));
        if !own || !reach.folder(&walk.real, &format!("linked from `{}`", modules.display()))? {
            let (link, place) = (link.display(), walk.real.display());
            reach.note(format!("`{link}` leads to `{place}`, which is not visible inside: add --ro {place}"));
        }
    }
    Ok(())
}

/// The outermost folder of packages that a path lies in. pnpm keeps its packages side by side in
/// `.pnpm`, each with links to the others, so there it is that one.
fn package_tree(real: &Path) -> Option<PathBuf> {
    let inside =
        real.ancestors().skip(1).filter(|path| path.ends_with("node_modules") || path.ends_with(".pnpm"));
    inside.last().map(Path::to_owned)
}

/// True when a launcher in `folder` may lead to the module: it lies below, or among packages.
pub fn may_launch(folder: &Path, module: &Path) -> bool {
    reach::walk(module).is_ok_and(|walk| walk.real.starts_with(folder) || package_tree(&walk.real).is_some())
}

/// Of an interpreter's arguments: which one is the module it runs, as number and path.
pub fn module_argument(arguments: &[&OsStr], cwd: &Path) -> Option<(usize, PathBuf)> {
    let mut at = 0;
    while let Some(argument) = arguments.get(at) {
        let text = argument.to_str().unwrap_or_default();
        match text {
            "-e" | "-p" | "-pe" | "--eval" | "--print" | "eval" | "-" => return None,
            "-r"
            | "--require"
            | "--import"
            | "--loader"
            | "--experimental-loader"
            | "--env-file"
            | "-C"
            | "--conditions"
            | "--tsconfig"
            | "--config"
            | "--title" => at += 1,
            _ if text.starts_with('-') => {}
            _ => match module_file(&cwd.join(argument)) {
                Some(module) => return Some((at, module)),
                // `deno run x.ts`, `tsx watch x.ts`: a verb stands before it.
                None if ["run", "watch", "serve"].contains(&text) => {}
                None => return None,
            },
        }
        at += 1;
    }
    None
}

/// The file that Node takes for `path`: itself, with an extension, or the entry of that folder.
fn module_file(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_owned());
    }
    if path.is_dir() {
        let main = package(path).and_then(|package| Some(path.join(package.get("main")?.as_str()?)));
        let main = main.filter(|main| main.is_file());
        return main.or_else(|| Some(path.join("index.js"))).filter(|file| file.is_file());
    }
    let with = |extension: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(extension);
        PathBuf::from(name)
    };
    [".js", ".json", ".node", ".ts"].iter().map(|extension| with(extension)).find(|file| file.is_file())
}

fn package(folder: &Path) -> Option<serde_json::Value> {
    serde_json::from_str(&reach::text(&folder.join("package.json"), PACKAGE_BYTES_MAX)?).ok()
}

/// The programs that npx has cached for `asked`, a package with or without `@version`.
pub fn cached_programs(home: &Path, asked: &str) -> Vec<PathBuf> {
    let version =
        asked.char_indices().skip(1).find(|(_, letter)| *letter == '@').map_or(asked.len(), |(at, _)| at);
    let name = &asked[..version];
    let plain = !name.is_empty()
        && Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let caches = reach::entries(&home.join(".npm/_npx")).into_iter().map(|hash| hash.join("node_modules"));
    caches.filter(|_| plain).filter_map(|modules| cached_program(&modules, name)).collect()
}

fn cached_program(modules: &Path, name: &str) -> Option<PathBuf> {
    let program = match package(&modules.join(name)) {
        Some(package) => match package.get("bin")? {
            serde_json::Value::Object(programs) => programs.keys().next()?.clone(),
            _ => name.rsplit('/').next()?.to_owned(),
        },
        None => name.to_owned(),
    };
    Some(modules.join(".bin").join(program)).filter(|path| path.is_file())
}
