//! Pure: the head of a script: which program the kernel starts for it, and which one really runs.
//!
//! Between `#!` and the program that runs stand customs: `env`, `env -S`, the `exec` lines that pip
//! and uv write for long paths, and the launchers of pnpm, pyenv and asdf. It reads text only.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest `#!` line in bytes that is read; the kernel itself stops at 256.
const LINE_BYTES_MAX: usize = 4096;

/// What a script's head says.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    /// The program that the kernel starts.
    pub interpreter: PathBuf,
    /// The program that runs in the end.
    pub runs: Runs,
}

/// The program that runs a script in the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Runs {
    /// The interpreter itself.
    Interpreter,
    /// The program at this path.
    Program(PathBuf),
    /// The program of this name, looked for along PATH.
    ThroughPath(OsString),
    /// The program of this name beside the script, after its links were followed.
    Beside(PathBuf),
    /// Node, and the module at this path counted from the script's folder: a launcher of pnpm.
    NodeModule(PathBuf),
    /// The program that pyenv chooses; its root folder.
    Pyenv(PathBuf),
    /// The program that asdf chooses: plugin and version pairs that have it.
    Asdf(Vec<(String, String)>),
}

/// Reads the first bytes of a file; `None` when it does not begin with `#!`.
pub fn parse(head: &[u8]) -> Option<Script> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = line.get(..LINE_BYTES_MAX).unwrap_or(line).trim_ascii();
    let (program, argument) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
        Some(at) => (&line[..at], line[at..].trim_ascii()),
        None => (line, [].as_slice()),
    };
    if program.is_empty() {
        return None;
    }
    let interpreter = PathBuf::from(OsStr::from_bytes(program));
    let name = interpreter.file_name().unwrap_or_default();
    let runs = if name == "env" {
        through_env(argument)
    } else if ["sh", "bash", "dash"].iter().any(|shell| name == *shell) {
        launcher(head)
    } else {
        None
    };
    Some(Script { interpreter, runs: runs.unwrap_or(Runs::Interpreter) })
        .map(|script| with_shell(script, head))
}

/// `#!/usr/bin/env bash` is as much a shell launcher as `#!/bin/bash`.
fn with_shell(script: Script, head: &[u8]) -> Script {
    let Runs::ThroughPath(name) = &script.runs else { return script };
    if name != "bash" && name != "sh" {
        return script;
    }
    match launcher(head) {
        Some(runs) => Script { runs, ..script },
        None => script,
    }
}

/// The name that `env` looks for: its options and assignments stand before it.
fn through_env(argument: &[u8]) -> Option<Runs> {
    let split = [b"-S".as_slice(), b"--split-string=", b"-vS"];
    let Some(words) = split.iter().find_map(|option| argument.strip_prefix(*option)) else {
        // Without -S the kernel hands over everything as one word, and so does env.
        return (!argument.is_empty()).then(|| Runs::ThroughPath(OsStr::from_bytes(argument).to_owned()));
    };
    let words = words.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    env_command(words.map(OsStr::from_bytes)).map(|(_, name)| Runs::ThroughPath(name.to_owned()))
}

/// Of the words after `env`: where the command stands among them, and its name.
pub fn env_command<'w>(words: impl Iterator<Item = &'w OsStr>) -> Option<(usize, &'w OsStr)> {
    let mut skip = false;
    for (at, word) in words.enumerate() {
        let bytes = word.as_bytes();
        if std::mem::take(&mut skip) {
            continue;
        }
        if bytes == b"-u" || bytes == b"--unset" || bytes == b"-C" || bytes == b"--chdir" {
            skip = true;
        } else if !bytes.starts_with(b"-") && !bytes.contains(&b'=') {
            return Some((at, word));
        }
    }
    None
}

/// What a shell script is, when it only starts another program in one of the known ways.
fn launcher(head: &[u8]) -> Option<Runs> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines().map(str::trim).skip(1).filter(|line| !line.is_empty());
    let first = lines.clone().next()?;
    if let Some(rest) = first.strip_prefix("'''exec' ").or_else(|| first.strip_prefix("''':' ; exec ")) {
        return exec_line(rest.trim_start());
    }
    let asdf: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# asdf-plugin: ")?.trim().split_once(' '))
        .map(|(plugin, version)| (plugin.to_owned(), version.trim().to_owned()))
        .collect();
    if !asdf.is_empty() {
        return Some(Runs::Asdf(asdf));
    }
    if let Some(line) =
        lines.clone().find(|line| line.starts_with("exec ") && line.contains("/libexec/pyenv\" exec "))
    {
        let root = line.strip_prefix("exec \"")?.split("/libexec/pyenv\"").next()?;
        return Some(Runs::Pyenv(PathBuf::from(root)));
    }
    // pnpm's launchers compute `basedir` and end in: exec node  "$basedir/../pkg/cli.js" "$@"
    lines.clone().find(|line| line.starts_with("basedir="))?;
    let line = lines.find(|line| line.starts_with("exec node "))?;
    let module = line.split("\"$basedir/").nth(1)?.split('"').next()?;
    Some(Runs::NodeModule(PathBuf::from(module)))
}

/// What follows `'''exec' `: a path, quoted or not, or uv's "beside this script" expression.
fn exec_line(rest: &str) -> Option<Runs> {
    if rest.starts_with("\"$(dirname") {
        let name = rest.split("/'").nth(1)?.split('\'').next()?;
        return Some(Runs::Beside(PathBuf::from(name)));
    }
    let path = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => rest.split_whitespace().next()?,
    };
    Path::new(path).is_absolute().then(|| Runs::Program(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, interpreter: &str, runs: Runs) {
        let expected = Script { interpreter: PathBuf::from(interpreter), runs };
        assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
    }

    fn named(name: &str) -> Runs {
        Runs::ThroughPath(OsString::from(name))
    }

    #[test]
    fn the_first_line_names_the_interpreter() {
        check("#!/bin/sh\necho\n", "/bin/sh", Runs::Interpreter);
        check("#! /home/me/venv/bin/python3 -I\n", "/home/me/venv/bin/python3", Runs::Interpreter);
        check("#!/usr/bin/env node\n", "/usr/bin/env", named("node"));
        check("#!/usr/bin/env -S node --no-warnings\n", "/usr/bin/env", named("node"));
        check("#!/usr/bin/env -S -i A=b -u HOME python3 -u\n", "/usr/bin/env", named("python3"));
        check("#!/usr/bin/env node --flag\n", "/usr/bin/env", named("node --flag"));
        assert_eq!(parse(b"#!\n"), None);
        assert_eq!(parse(b"echo"), None);
    }

    #[test]
    fn the_exec_lines_of_pip_and_uv_are_seen_through() {
        let python = || Runs::Program(PathBuf::from("/home/me/a b/bin/python3"));
        check("#!/bin/sh\n'''exec' \"/home/me/a b/bin/python3\" \"$0\" \"$@\"\n' '''\n", "/bin/sh", python());
        let plain = Runs::Program(PathBuf::from("/long/bin/python3"));
        check("#!/bin/sh\n'''exec' /long/bin/python3 \"$0\" \"$@\"\n' '''\n", "/bin/sh", plain);
        let uv = "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3' \"$0\" \"$@\"\n";
        check(uv, "/bin/sh", Runs::Beside(PathBuf::from("python3")));
    }

    #[test]
    fn the_launchers_of_pnpm_pyenv_and_asdf_are_known() {
        let pnpm = "#!/bin/sh\nbasedir=$(dirname \"$0\")\nif [ -x \"$basedir/node\" ]; then\n  exec \"$basedir/node\"  \"$basedir/../x/cli.js\" \"$@\"\nelse\n  exec node  \"$basedir/../x/cli.js\" \"$@\"\nfi\n";
        check(pnpm, "/bin/sh", Runs::NodeModule(PathBuf::from("../x/cli.js")));
        let pyenv = "#!/usr/bin/env bash\nset -e\nprogram=\"${0##*/}\"\nexec \"/r/.pyenv/libexec/pyenv\" exec \"$program\" \"$@\"\n";
        check(pyenv, "/usr/bin/env", Runs::Pyenv(PathBuf::from("/r/.pyenv")));
        let asdf = "#!/usr/bin/env bash\n# asdf-plugin: nodejs 20.1.0\nexec /opt/asdf exec \"node\" \"$@\"\n";
        check(asdf, "/usr/bin/env", Runs::Asdf(vec![("nodejs".to_owned(), "20.1.0".to_owned())]));
        check("#!/bin/bash\nexec node server.js\n", "/bin/bash", Runs::Interpreter);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(#!/bin/sh|#!/usr/bin/env bash)?\n?[ -~\n]{0,200}", bytes: Vec<u8>) {
            parse(text.as_bytes());
            parse(&bytes);
        }
    }
}
