//! `mcp run` and `mcp serve`: flags into what may be done; who serves has our standard input and output, we
//! have standard error.

use std::path::PathBuf;

use crate::cli::args::{Format, McpRun, McpServe};
use crate::cli::containers::{limits, network};
use crate::cli::terminal;
use crate::container::options::EnvEntry;
use crate::engine::boxes::{self, BoxRequest, Ceiling};
use crate::engine::host::Host;
use crate::engine::sandboxes::{self, Explanation, Policy};
use crate::error::{Error, ErrorKind};
use crate::sys::process;

/// Runs an MCP server in a sandbox; gives its exit code.
pub fn run(host: &Host, args: McpRun) -> i32 {
    if let Some(parent) = args.with_parent
        && let Err(fault) = process::end_with_parent(parent)
    {
        terminal::print_error(&Error::from(fault));
        return terminal::EXIT_RUN;
    }
    let (explain, format) = (args.explain, args.format);
    let done = policy(args).and_then(|policy| {
        if explain {
            return sandboxes::explain(host, policy, &mut |text| terminal::print_warning(text))
                .and_then(|e| print(&e, format))
                .map(|()| 0);
        }
        let finished = sandboxes::run(host, policy, &mut |text| terminal::print_warning(text))?;
        if let Some(error) = &finished.error {
            terminal::print_error(error);
        }
        Ok(finished.code)
    });
    done.unwrap_or_else(|error| {
        terminal::print_error(&error);
        terminal::EXIT_RUN
    })
}

/// What sandboxes of `mcp serve` may have at most.
///
/// # Errors
/// A flag whose value is none, or a path that is not there.
pub fn ceiling(host: &Host, args: McpServe) -> Result<Ceiling, Error> {
    let real = |(path, read_only): (PathBuf, bool)| Ok::<_, Error>((boxes::real(host, &path)?, read_only));
    let ceiling = Ceiling {
        workspaces: args.workspace.iter().map(workspace).map(real).collect::<Result<_, _>>()?,
        read_only: args.ro.iter().map(|path| boxes::real(host, path)).collect::<Result<_, _>>()?,
        environment: args.env,
        network: network(args.network),
        memory: args.memory,
        cpus: args.cpus,
        pids: args.pids.map(|pids| pids.to_string()),
        images: args.image,
        seccomp: args.seccomp.map(|path| host.cwd.join(path)),
        pull: args.pull,
        sandboxes_max: args.sandboxes,
    };
    // Wrong words are told now, to who typed them, and not with the first sandbox.
    BoxRequest::at(&ceiling).policy()?;
    Ok(ceiling)
}

/// `DIR[:ro]`.
fn workspace(text: &String) -> (PathBuf, bool) {
    match text.strip_suffix(":ro") {
        Some(path) => (PathBuf::from(path), true),
        None => (PathBuf::from(text), false),
    }
}

fn policy(args: McpRun) -> Result<Policy, Error> {
    Ok(Policy {
        command: args.command,
        workspaces: args.workspace.iter().map(workspace).collect(),
        read_only: args.ro,
        read_write: args.rw,
        hidden: args.hide,
        environment: args.env.iter().map(|e| EnvEntry::parse(e)).collect::<Result<_, _>>()?,
        network: network(args.network),
        limits: limits(args.memory.as_deref(), None, args.cpus.as_deref(), args.pids.as_deref())?,
        image: args.image,
        seccomp: args.seccomp,
    })
}

fn print(explanation: &Explanation, format: Format) -> Result<(), Error> {
    if format == Format::Json {
        let text = serde_json::to_string_pretty(explanation)
            .map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))?;
        return terminal::to_stdout(&format!("{text}\n"));
    }
    let Explanation { program, command, workdir, image, user, .. } = explanation;
    let mut text = format!("program      {}\n", program.display());
    text.push_str(&format!("command      {}\n", command.join(" ")));
    text.push_str(&format!("folder       {workdir}\n"));
    text.push_str(&format!("image        {image}\n"));
    text.push_str(&format!("user         {}:{}\n", user.0, user.1));
    let network = format!("{:?}", explanation.network).to_lowercase();
    text.push_str(&format!("network      {network}\n"));
    text.push_str(&format!("environment  {}\n", explanation.environment.join(" ")));
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text.push_str(&format!("{title}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    let access = |f: &sandboxes::FileAccess| {
        format!("{}  {}  ({})", if f.writable { "rw" } else { "ro" }, f.path.display(), f.why)
    };
    section(
        "files of the host, besides its system folders (read-only)",
        explanation.files.iter().map(access).collect(),
    );
    section("hidden", explanation.hidden.iter().map(|path| path.display().to_string()).collect());
    section("limits", explanation.limits.clone());
    section("walls", explanation.walls.clone());
    section("notes", explanation.notes.clone());
    terminal::to_stdout(&text)
}
