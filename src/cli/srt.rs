//! The program called as `srt`: the arguments of `@anthropic-ai/sandbox-runtime` 0.0.83, its settings, its exit codes.
//!
//! It reads its own arguments: clap would take what belongs to the command. Our diagnostics go to standard error alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cli::terminal;
use crate::engine::host::Host;
use crate::engine::{sandboxes, srt};
use crate::error::{Error, ErrorKind};

/// srt's exit code for everything but the command's own.
pub const EXIT: i32 = 1;
/// The version of srt whose face this is.
const VERSION: &str = "0.0.83";
const HELP: &str = "Usage: srt [options] [command...]

Run commands in a sandbox with network and filesystem restrictions (by cuddy)

Options:
  -V, --version          output the version number
  -d, --debug            say what is decided
  -s, --settings <path>  path to config file (default: ~/.srt-settings.json)
  -c <command>           run command string directly (like sh -c)
  -h, --help             display help for command
";

/// What was typed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    debug: bool,
    settings: Option<PathBuf>,
    command: Vec<String>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Run(Asked),
    Print(String),
}

/// Runs a command under srt's settings; gives its exit code.
pub fn run(arguments: impl Iterator<Item = OsString>) -> i32 {
    let words = arguments.map(|word| word.into_string().map_err(|word| word.to_string_lossy().into_owned()));
    let wish = words.collect::<Result<Vec<_>, _>>().map_err(|word| usage(format!("`{word}` is not UTF-8")));
    let done = wish.and_then(|words| parse(&words)).and_then(|wish| match wish {
        Wish::Print(text) => terminal::to_stdout(&text).map(|()| 0),
        Wish::Run(asked) => carry_out(asked),
    });
    done.unwrap_or_else(|error| {
        terminal::print_error(&error);
        EXIT
    })
}

fn carry_out(asked: Asked) -> Result<i32, Error> {
    let host = Host::from_environment()?;
    host.require_own_data()?;
    let debug = asked.debug || host.environment.contains_key("SRT_DEBUG");
    let (settings, remarks) = srt::settings(&host, asked.settings.as_deref())?;
    for remark in &remarks {
        terminal::print_warning(&remark.to_string());
    }
    let policy = srt::policy(&host, &settings, shell(asked.command))?;
    // The limits of a sandbox are ours and not srt's: that this host cannot enforce one takes nothing from its user.
    let finished = sandboxes::run(&host, policy, &mut |text| {
        if debug {
            terminal::print_warning(text);
        }
    })?;
    if let Some(error) = &finished.error {
        terminal::print_error(error);
    }
    Ok(finished.code)
}

/// `-c` is executed by bash where there is one, as srt does.
fn shell(mut command: Vec<String>) -> Vec<String> {
    if let [first, ..] = command.as_mut_slice()
        && first.is_empty()
    {
        let bash = Path::new("/bin/bash");
        *first = if bash.exists() { "/bin/bash" } else { "/bin/sh" }.to_owned();
    }
    command
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, text)
}

/// Options in front of the command; what follows it is its own. An empty first word stands for the shell.
fn parse(words: &[String]) -> Result<Wish, Error> {
    let (mut asked, mut line, mut words) = (Asked::default(), None, words.iter());
    while let Some(word) = words.next() {
        let (flag, joined) = match word.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            let next = joined.clone().or_else(|| words.next().cloned());
            next.ok_or_else(|| usage(format!("option `{flag}` has no value")))
        };
        match flag {
            "-d" | "--debug" => asked.debug = true,
            "-s" | "--settings" => asked.settings = Some(value()?.into()),
            "-c" => line = Some(value()?),
            "-h" | "--help" => return Ok(Wish::Print(HELP.to_owned())),
            "-V" | "--version" => return Ok(Wish::Print(format!("{VERSION}\n"))),
            "--control-fd" => {
                let error = usage("settings that change while the command runs cannot be kept");
                return Err(
                    error.hint("leave `--control-fd` out, and start the command anew with other settings")
                );
            }
            "--" => {
                asked.command = words.by_ref().cloned().collect();
            }
            _ => {
                asked.command = std::iter::once(word).chain(words.by_ref()).cloned().collect();
                misplaced(&asked.command)?;
            }
        }
    }
    if let Some(line) = line {
        asked.command = vec![String::new(), "-c".to_owned(), line];
    }
    if asked.command.first().is_none_or(|first| first.is_empty() && asked.command.len() < 3) {
        return Err(
            usage("no command was given").hint("use `-c COMMAND`, or write the command and its arguments")
        );
    }
    Ok(Wish::Run(asked))
}

/// srt takes its own long options behind the command too: to pass them on would be to run under other rules.
fn misplaced(command: &[String]) -> Result<(), Error> {
    let is_ours =
        |word: &&String| ["--settings", "--control-fd"].contains(&word.split('=').next().unwrap_or_default());
    match command.iter().find(is_ours) {
        Some(word) => {
            let error = usage(format!("`{word}` stands behind the command"));
            Err(error.hint("write srt's own options in front of the command, or `--` in front of it when the option is the command's"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &[&str]) -> Result<Asked, String> {
        let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        match parse(&words).map_err(|error| error.to_string())? {
            Wish::Run(asked) => Ok(asked),
            Wish::Print(text) => Err(text),
        }
    }

    #[test]
    fn the_lines_that_mass_gen_writes_are_understood() {
        let line = asked(&["--settings", "/c.json", "sh", "-c", "echo hi | grep h"]).unwrap();
        assert_eq!(line.settings, Some("/c.json".into()));
        assert_eq!(line.command, ["sh", "-c", "echo hi | grep h"]);
        let line = asked(&["--settings", "/c.json", "codex", "exec", "--json"]).unwrap();
        assert_eq!(line.command, ["codex", "exec", "--json"]);
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let line = asked(&["-d", "-s", "f", "ls", "-d", "-s", "-c"]).unwrap();
        assert_eq!((line.debug, line.settings), (true, Some("f".into())));
        assert_eq!(line.command, ["ls", "-d", "-s", "-c"]);
        assert_eq!(asked(&["--settings=f", "--", "x", "--settings"]).unwrap().command, ["x", "--settings"]);
        assert_eq!(asked(&["-c", "a b", "ignored"]).unwrap().command, ["", "-c", "a b"]);
        assert!(asked(&["--version"]).unwrap_err().contains(VERSION));
        for (line, part) in [
            (vec![], "no command"),
            (vec!["-s"], "has no value"),
            (vec!["-s", "f"], "no command"),
            (vec!["x", "--settings", "f"], "behind the command"),
            (vec!["--control-fd", "3", "x"], "cannot be kept"),
        ] {
            assert!(asked(&line).unwrap_err().contains(part), "{line:?}");
        }
    }
}
