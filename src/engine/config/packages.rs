//! `npx PACKAGE` and `uvx PACKAGE` as the installed program that they mean: nothing is fetched, nothing is run.
//!
//! It looks where npm, uv and pipx install. A version that was asked for must be the one that is there.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::container::options::Network;
use crate::engine::config::document::{Mistake, shown};
use crate::engine::config::servers::{GatewayConfig, ServerConfig, Transport};
use crate::engine::host::Host;
use crate::engine::reach;

/// Largest `package.json` that is read, in bytes.
const PACKAGE_BYTES_MAX: u64 = 1 << 20;
/// Flags of npx, uvx and their like that take a value.
const WITH_VALUE: [&str; 8] =
    ["--cache", "--index-url", "--python", "--registry", "--with", "--with-requirements", "-p", "--prefix"];

/// What a launcher's line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// `@scope/name` or `name`.
    package: String,
    /// The one that was named, when it was.
    version: Option<String>,
    /// The program of the package, when it was named.
    program: Option<String>,
    /// What follows.
    arguments: Vec<String>,
}

/// A program that was found.
struct Found {
    command: Vec<String>,
    version: String,
}

/// Puts installed programs in the place of launchers; notes those that would have to fetch.
pub fn resolve(
    host: &Host,
    config: &mut GatewayConfig,
    remarks: &mut Vec<Mistake>,
    mistakes: &mut Vec<Mistake>,
) {
    for server in &mut config.servers {
        let Transport::Stdio { command, args, cwd } = &server.transport else { continue };
        let name = Path::new(command).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_node = match (name, args.first().map(String::as_str)) {
            ("npx" | "bunx" | "pnpx", _) => true,
            ("uvx", _) | ("pipx", Some("run")) => false,
            _ => continue,
        };
        let words = if name == "pipx" { &args[1..] } else { args };
        let Some(asked) = (if is_node { node_line(words) } else { python_line(words) }) else { continue };
        let folder = cwd.clone().unwrap_or_else(|| host.cwd.clone());
        let found =
            if is_node { node_program(host, &folder, &asked) } else { python_program(host, &folder, &asked) };
        let place = server.source_place.clone();
        let package = shown(&asked.package);
        match found {
            Some(found) => {
                let text = format!(
                    "`{name} {package}` is started as `{}`, which is installed ({})",
                    found.command.join(" "),
                    if found.version.is_empty() { "version not known".to_owned() } else { found.version }
                );
                remarks.push(Mistake { place, what: text, right: None });
                server.transport = started(found.command, asked.arguments, cwd.clone());
            }
            None if server.policy.network == Network::Host => {
                let what = format!(
                    "`{name}` fetches `{package}` at each start; name a cache for it with `rw` and `env`"
                );
                remarks.push(Mistake { place, what, right: None });
            }
            None => mistakes.push(not_installed(server, name, is_node, &asked)),
        }
    }
}

fn started(mut command: Vec<String>, arguments: Vec<String>, cwd: Option<PathBuf>) -> Transport {
    let program = command.remove(0);
    command.extend(arguments);
    Transport::Stdio { command: program, args: command, cwd }
}

fn not_installed(server: &ServerConfig, launcher: &str, is_node: bool, asked: &Asked) -> Mistake {
    let version = asked.version.as_deref();
    let (package, install) = match (is_node, version) {
        (true, Some(version)) => (format!("{}@{version}", asked.package), "npm install -g"),
        (true, None) => (asked.package.clone(), "npm install -g"),
        (false, Some(version)) => (format!("{}=={version}", asked.package), "uv tool install"),
        (false, None) => (asked.package.clone(), "uv tool install"),
    };
    let package = shown(&package);
    Mistake {
        place: server.source_place.clone(),
        what: format!("`{launcher}` would fetch `{package}`, and this server has no network"),
        right: Some(format!(
            "install it, then the same line works: `{install} {package}`; or give it the host's network"
        )),
    }
}

/// `npx [-y] [--package P] PACKAGE[@VERSION] …`; `None` for what is not that.
fn node_line(words: &[String]) -> Option<Asked> {
    let (mut package, mut words) = (None, words.iter());
    let first = loop {
        let word = words.next()?;
        match word.as_str() {
            "--" => break words.next()?,
            "-c" | "--call" => return None,
            "-p" | "--package" => package = Some(words.next()?.clone()),
            flag if WITH_VALUE.contains(&flag) => _ = words.next()?,
            flag if flag.starts_with('-') => {
                if let Some(named) = flag.strip_prefix("--package=") {
                    package = Some(named.to_owned());
                }
            }
            _ => break word,
        }
    };
    let program = package.is_some().then(|| first.clone());
    let spec = package.unwrap_or_else(|| first.clone());
    let at = spec.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    let (name, version) = at.map_or((spec.as_str(), None), |at| (&spec[..at], Some(&spec[at + 1..])));
    let version = version.filter(|version| *version != "latest").map(str::to_owned);
    let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let arguments = words.cloned().collect();
    (is_plain && !name.is_empty()).then(|| Asked { package: name.to_owned(), version, program, arguments })
}

/// `uvx [--from P] PROGRAM[@VERSION] …`; `None` for what is not that.
fn python_line(words: &[String]) -> Option<Asked> {
    let (mut from, mut words) = (None, words.iter());
    let first = loop {
        let word = words.next()?;
        match word.as_str() {
            "--from" | "--spec" => from = Some(words.next()?.clone()),
            flag if WITH_VALUE.contains(&flag) => _ = words.next()?,
            flag if flag.starts_with('-') => {}
            _ => break word,
        }
    };
    let spec = from.clone().unwrap_or_else(|| first.clone());
    let split = spec.split_once("==").or_else(|| spec.split_once('@'));
    let (name, version) = split.map_or((spec.as_str(), None), |(name, version)| (name, Some(version)));
    // `package[extra]`: the extra was decided when it was installed.
    let name = name.split('[').next().unwrap_or_default();
    let version = version.filter(|version| *version != "latest").map(str::to_owned);
    let program = from.map_or_else(|| name.to_owned(), |_| first.clone());
    let plain = |name: &str| !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    let arguments = words.cloned().collect();
    (plain(name) && plain(&program)).then(|| Asked {
        package: name.to_owned(),
        version,
        program: Some(program),
        arguments,
    })
}

/// Beside the folder and above it, where npm installs for everybody, and in npx's own cache.
fn node_program(host: &Host, folder: &Path, asked: &Asked) -> Option<Found> {
    let near = folder.ancestors().map(|folder| folder.join("node_modules"));
    let global = host.path.iter().filter(|bin| bin.ends_with("bin")).filter_map(|bin| bin.parent());
    let global = global.map(|prefix| prefix.join("lib/node_modules"));
    let cache = host.home.as_ref().map(|home| reach::entries(&home.join(".npm/_npx"))).unwrap_or_default();
    let cache = cache.into_iter().map(|entry| entry.join("node_modules"));
    near.chain(global).chain(cache).find_map(|modules| node_package(&modules.join(&asked.package), asked))
}

fn node_package(folder: &Path, asked: &Asked) -> Option<Found> {
    let text = reach::text(&folder.join("package.json"), PACKAGE_BYTES_MAX)?;
    let package: Value = serde_json::from_str(&text).ok()?;
    let version = package.get("version").and_then(Value::as_str).unwrap_or_default();
    if asked.version.as_deref().is_some_and(|wanted| wanted != version) {
        return None;
    }
    let short = asked.package.rsplit('/').next().unwrap_or_default();
    let script = match package.get("bin")? {
        Value::String(script) => script.as_str(),
        Value::Object(programs) => {
            let wanted = asked.program.as_deref().unwrap_or(short);
            let only = programs.values().next().filter(|_| programs.len() == 1 && asked.program.is_none());
            programs.get(wanted).or(only)?.as_str()?
        }
        _ => return None,
    };
    let inside =
        Path::new(script).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let script: PathBuf = folder.join(script).components().collect();
    if !inside || !script.is_file() {
        return None;
    }
    let command = vec!["node".to_owned(), script.to_str()?.to_owned()];
    Some(Found { command, version: version.to_owned() })
}

/// In the project's virtual environment, where uv and pipx install tools, and in `PATH`.
fn python_program(host: &Host, folder: &Path, asked: &Asked) -> Option<Found> {
    let program = asked.program.as_deref()?;
    let mut homes: Vec<PathBuf> = folder.ancestors().map(|folder| folder.join(".venv")).collect();
    if let Some(home) = &host.home {
        let tools = [".local/share/uv/tools", ".local/share/pipx/venvs", ".local/pipx/venvs"];
        homes.extend(tools.map(|tools| home.join(tools).join(&asked.package)));
    }
    homes.extend(
        host.path
            .iter()
            .filter(|bin| bin.ends_with("bin"))
            .filter_map(|bin| bin.parent().map(Path::to_path_buf)),
    );
    homes.into_iter().find_map(|home| {
        let path = home.join("bin").join(program);
        if !path.is_file() {
            return None;
        }
        let version = python_version(&home, &asked.package).unwrap_or_default();
        if asked.version.as_deref().is_some_and(|wanted| wanted != version) {
            return None;
        }
        Some(Found { command: vec![path.to_str()?.to_owned()], version })
    })
}

/// The version by the folder `NAME-VERSION.dist-info`, in which `-` of the name became `_`.
fn python_version(home: &Path, package: &str) -> Option<String> {
    let plain = package.to_lowercase().replace(['-', '.'], "_");
    let libraries = reach::entries(&home.join("lib")).into_iter();
    let mut entries = libraries.flat_map(|python| reach::entries(&python.join("site-packages")));
    entries.find_map(|entry| {
        let name = entry.file_name()?.to_str()?.strip_suffix(".dist-info")?.to_owned();
        let (package, version) = name.rsplit_once('-')?;
        (package.to_lowercase().replace(['-', '.'], "_") == plain).then(|| version.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn lines_of_npx_and_uvx_say_package_version_program_and_arguments() {
        let check = |asked: Option<Asked>,
                     package: &str,
                     version: Option<&str>,
                     program: Option<&str>,
                     rest: &str| {
            let asked = asked.expect(package);
            assert_eq!(asked.package, package);
            assert_eq!((asked.version.as_deref(), asked.program.as_deref()), (version, program));
            assert_eq!(asked.arguments.join(" "), rest);
        };
        let node = |line| node_line(&words(line));
        check(node("-y @a/b@1.2 /x -v"), "@a/b", Some("1.2"), None, "/x -v");
        check(node("--yes b@latest"), "b", None, None, "");
        check(node("-p @a/b tool x"), "@a/b", None, Some("tool"), "x");
        check(node("--package=b@2 tool"), "b", Some("2"), Some("tool"), "");
        let python = |line| python_line(&words(line));
        check(
            python("mcp-server-git@1.0 --r /w"),
            "mcp-server-git",
            Some("1.0"),
            Some("mcp-server-git"),
            "--r /w",
        );
        check(python("--from a[cli]==2 b c"), "a", Some("2"), Some("b"), "c");
        for line in ["", "-y", "-c x", "-y ../evil", "/abs"] {
            assert_eq!(node_line(&words(line)), None, "{line}");
        }
        assert_eq!(python_line(&words("--from git+https://x/y b")), None);
    }

    #[test]
    fn a_package_is_its_own_script_and_only_in_the_version_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("node_modules/@a/b");
        std::fs::create_dir_all(package.join("dist")).unwrap();
        std::fs::write(package.join("dist/i.js"), "").unwrap();
        std::fs::write(package.join("package.json"), r#"{"version":"1.2.3","bin":{"x":"./dist/i.js"}}"#)
            .unwrap();
        let asked = |version: Option<&str>| Asked {
            package: "@a/b".to_owned(),
            version: version.map(str::to_owned),
            program: None,
            arguments: Vec::new(),
        };
        let found = node_package(&package, &asked(Some("1.2.3"))).unwrap();
        assert_eq!(found.command[1], package.join("dist/i.js").to_str().unwrap());
        assert!(node_package(&package, &asked(None)).is_some());
        assert!(node_package(&package, &asked(Some("1.2.4"))).is_none());
        std::fs::write(package.join("package.json"), r#"{"version":"1","bin":"../../../evil"}"#).unwrap();
        assert!(node_package(&package, &asked(None)).is_none());
    }
}
