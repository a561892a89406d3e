//! `mcp import` and `mcp init`: configurations converted, explained, begun.
//!
//! The text goes to standard output or into a new file; what it would allow goes to standard error. Nothing is started.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::Mode;

use crate::cli::args::{McpImport, McpInit};
use crate::cli::containers::limits;
use crate::cli::terminal;
use crate::container::options::{EnvEntry, HOST_IMAGE};
use crate::engine::config::document::Mistake;
use crate::engine::config::format::{FORMATS, Format};
use crate::engine::config::read::{self, Read};
use crate::engine::config::servers::{ServerConfig, ServerPolicy, Transport};
use crate::engine::config::templates::{self, TEMPLATES, Template};
use crate::engine::config::write;
use crate::engine::host::Host;
use crate::engine::sandboxes::{self, Explanation, Policy};
use crate::error::{Error, ErrorKind};
use crate::sys::fs;

/// The format that a word of the command line means; none when it is left out.
///
/// # Errors
/// [`ErrorKind::Usage`] with the words that there are.
pub fn format(word: Option<&str>) -> Result<Option<Format>, Error> {
    let Some(word) = word else { return Ok(None) };
    let words = || FORMATS.map(|(word, _)| word).join(", ");
    let unknown = || {
        Error::new(ErrorKind::Usage, format!("`{word}` is no format")).hint(format!("there are: {}", words()))
    };
    Format::named(word).map(Some).ok_or_else(unknown)
}

/// `NAME=VALUE` of `--input`.
///
/// # Errors
/// [`ErrorKind::Usage`] for one without `=`.
pub fn inputs(pairs: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let pair = |text: &String| {
        let wrong = || Error::new(ErrorKind::Usage, "an input is written `--input NAME=VALUE`");
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(wrong)
    };
    pairs.iter().map(pair).collect()
}

/// Converts configurations to our own format and says what they would allow.
///
/// # Errors
/// What cannot be read, every mistake in it, or what cannot be written.
pub fn import(host: &Host, args: &McpImport) -> Result<(), Error> {
    let format = format(args.format.as_deref())?;
    let Read { config, policies, remarks } = read::import(host, &args.files, format)?;
    let policies: Vec<ServerPolicy> = policies.into_iter().map(|(_, policy)| policy).collect();
    let text = write::text(&config, &policies);
    terminal::to_stderr(&told(&remarks));
    // Once more with every value, for only then it is known what is there.
    match read::gateway(host, &args.files, format, inputs(&args.input)?) {
        Ok(whole) => {
            // What the first reading told already is not told twice.
            let new: Vec<Mistake> =
                whole.remarks.into_iter().filter(|remark| !remarks.contains(remark)).collect();
            terminal::to_stderr(&told(&new));
            for server in &whole.config.servers {
                terminal::to_stderr(&explained(host, server));
            }
        }
        // A policy alone is no configuration of a gateway, and needs none.
        Err(_) if config.servers.is_empty() => {}
        Err(error) => terminal::print_error(&error.context("it cannot be started as it is")),
    }
    put(host, args.output.as_deref(), &text)
}

/// Writes the beginning of a configuration.
///
/// # Errors
/// A template that is not there, or what cannot be written.
pub fn init(host: &Host, args: &McpInit) -> Result<(), Error> {
    if args.list {
        let line = |template: &Template| format!("{:<20} {}\n", template.name, template.about);
        return terminal::to_stdout(&TEMPLATES.iter().map(line).collect::<String>());
    }
    let find = |name: &String| {
        let names = || TEMPLATES.iter().map(|template| template.name).collect::<Vec<_>>().join(", ");
        let unknown = || {
            Error::new(ErrorKind::NotFound, format!("there is no template `{name}`"))
                .hint(format!("there are: {}", names()))
        };
        templates::named(name).ok_or_else(unknown)
    };
    let mut chosen: Vec<&Template> = args.templates.iter().map(find).collect::<Result<_, _>>()?;
    let mut seen = Vec::new();
    chosen.retain(|template| {
        !seen.contains(&template.name) && {
            seen.push(template.name);
            true
        }
    });
    put(host, args.output.as_deref(), &templates::configuration(&chosen))
}

fn told(remarks: &[Mistake]) -> String {
    remarks.iter().map(|remark| format!("note: {}\n", terminal::harmless(&remark.to_string()))).collect()
}

/// Prints a text, or writes it into a file that was not there: tokens may stand in it, so it is ours alone.
fn put(host: &Host, output: Option<&Path>, text: &str) -> Result<(), Error> {
    let Some(output) = output else { return terminal::to_stdout(text) };
    let path = host.cwd.join(output);
    let exists = || {
        let error = Error::new(ErrorKind::Exists, format!("`{}` exists already", output.display()));
        error.hint("name another file, or move this one away")
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(ErrorKind::Usage, format!("`{}` is no name of a file", output.display())));
    };
    let folder = fs::open_dir(folder)?;
    Ok(fs::write_new_file(folder.as_fd(), name, text.as_bytes(), Mode::from_raw_mode(0o600))?)
}

/// What a server would be allowed, in a few lines.
fn explained(host: &Host, server: &ServerConfig) -> String {
    let mut text = format!("{}\n", server.name);
    let explanation = match policy(server) {
        None => {
            if let Transport::Http { url, .. } = &server.transport {
                text.push_str(&format!(
                    "  somewhere else: {}; no sandbox of ours is around it\n",
                    terminal::harmless(url)
                ));
            }
            return text;
        }
        Some(Err(error)) => Err(error),
        Some(Ok(policy)) => sandboxes::explain(host, policy, &mut |_| {}),
    };
    match explanation {
        Ok(explanation) => text.push_str(&summary(&explanation)),
        Err(error) => {
            text.push_str(&format!("  it would not start: {}\n", terminal::harmless(&error.to_string())))
        }
    }
    text
}

fn summary(explanation: &Explanation) -> String {
    let Explanation { command, network, files, hidden, notes, .. } = explanation;
    let mut text = format!("  command      {}\n", terminal::harmless(&command.join(" ")));
    text.push_str(&format!("  network      {}\n", format!("{network:?}").to_lowercase()));
    text.push_str(&format!("  environment  {}\n", explanation.environment.join(" ")));
    for file in files {
        let access = if file.writable { "rw" } else { "ro" };
        text.push_str(&format!("  {access}  {}  ({})\n", file.path.display(), file.why));
    }
    hidden.iter().for_each(|path| text.push_str(&format!("  --  {}  (hidden)\n", path.display())));
    notes.iter().for_each(|note| text.push_str(&format!("  note: {}\n", terminal::harmless(note))));
    text
}

/// The policy of a server that is started here.
fn policy(server: &ServerConfig) -> Option<Result<Policy, Error>> {
    let (image, command) = match &server.transport {
        Transport::Stdio { command, args, .. } => {
            let line = std::iter::once(command).chain(args).cloned().collect();
            (HOST_IMAGE.to_owned(), line)
        }
        Transport::Image { image, command, .. } => (image.clone(), command.clone()),
        Transport::Http { .. } => return None,
    };
    let ServerPolicy { workspaces, read_only, read_write, hidden, network, .. } = server.policy.clone();
    let ServerPolicy { memory, cpus, pids, environment, seccomp, .. } = server.policy.clone();
    let pids = pids.map(|pids| pids.to_string());
    let limits = match limits(memory.as_deref(), None, cpus.as_deref(), pids.as_deref()) {
        Ok(limits) => limits,
        Err(error) => return Some(Err(error)),
    };
    let environment = environment.into_iter().map(|(name, value)| EnvEntry::Set(name, value)).collect();
    Some(Ok(Policy {
        command,
        workspaces,
        read_only,
        read_write,
        hidden,
        environment,
        network,
        limits,
        image,
        seccomp,
    }))
}
