//! Chooses the role, command, stage or holder, and maps the end to an exit code.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use cuddy::audit::CallLog;
use cuddy::cli::args::{
    self, AuditVerb, Cuddy, ImageVerb, McpGateway, McpServe, McpVerb, SystemVerb, Verb, WorkspaceProfile,
    WorkspaceServe, WorkspaceVerb,
};
use cuddy::cli::{
    archives, audit, catalogue, containers, images, mcp, mcp_config, registries, running, srt, system,
    terminal, workspace,
};
use cuddy::container::stage;
use cuddy::engine::boxes::{self, HOLD_ROLE};
use cuddy::engine::config::read;
use cuddy::engine::host::Host;
use cuddy::engine::workspaces::{Workspace, WorkspaceRequest};
use cuddy::error::Error;
use cuddy::mcp::gateway::{self, Asked, HttpAsked};
use cuddy::mcp::http::entry::Request as HttpRequest;
use cuddy::mcp::serve::server;
use cuddy::mcp::toolbox::serve_stdio;
use cuddy::mcp::workspace::schema::Profile;
use cuddy::mcp::workspace::serve::WorkspaceTools;
use cuddy::sys::process::{self, STAGE_ROLE};

/// Largest text of one reply about files, in bytes: what is longer is cut, and says where it goes on.
const WORKSPACE_REPLY_BYTES_MAX: usize = 96 * 1024;

fn main() -> ExitCode {
    process::keep_ended_children();
    let mut arguments = std::env::args_os();
    let code = match arguments.by_ref().nth(1) {
        Some(role) if role == STAGE_ROLE => stage::run(),
        Some(role) if role == HOLD_ROLE => boxes::hold(),
        _ if is_called("srt") => srt::run(std::env::args_os().skip(1)),
        _ => command(),
    };
    // Exit codes of the kernel and of Docker have 8 bits.
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(125))
}

/// Whether the program was called by a link of this name.
fn is_called(name: &str) -> bool {
    let called = std::env::args_os().next();
    called.is_some_and(|path| Path::new(&path).file_name().is_some_and(|file| file == name))
}

fn command() -> i32 {
    match args::parse(std::env::args_os()) {
        Ok(parsed) => carry_out(parsed),
        Err(misread) if misread.is_help => terminal::to_stdout(&misread.text).map_or(1, |()| 0),
        Err(misread) => {
            terminal::to_stderr(&misread.text);
            if misread.is_unknown_command { 1 } else { terminal::EXIT_RUN }
        }
    }
}

fn carry_out(parsed: Cuddy) -> i32 {
    let mut host = match Host::from_environment() {
        Ok(host) => host,
        Err(fault) => {
            terminal::print_error(&Error::from(fault));
            return terminal::EXIT_RUN;
        }
    };
    host.docker_config = parsed.config;
    // These two believe nothing that lies there.
    let looks_at_data = !matches!(parsed.verb, Verb::Doctor(_) | Verb::Version);
    if looks_at_data && let Err(fault) = host.require_own_data() {
        terminal::print_error(&Error::from(fault));
        return if matches!(parsed.verb, Verb::Run(_) | Verb::Mcp(_)) { terminal::EXIT_RUN } else { 1 };
    }
    match parsed.verb {
        Verb::Run(args) => containers::run(&host, *args),
        Verb::Load(args) => code(archives::load(&host, &args)),
        Verb::Save(args) => code(archives::save(&host, &args)),
        Verb::Import(args) => code(images::import(&host, &args)),
        Verb::Images(args) => code(images::list(&host, &args)),
        Verb::History(args) => code(images::history(&host, &args)),
        Verb::Inspect(args) => images::inspect(&host, &args.image),
        Verb::Tag(args) => code(images::tag(&host, &args)),
        Verb::Rmi(args) => images::remove(&host, &args),
        Verb::Image(args) => image(&host, args.verb),
        Verb::System(args) => match args.verb {
            SystemVerb::Df(args) => code(system::disk_usage(&host, &args)),
            SystemVerb::Prune(args) => code(system::prune(&host, &args)),
        },
        Verb::Pull(args) => code(registries::pull(&host, &args)),
        Verb::Push(args) => code(registries::push(&host, &args)),
        Verb::Login(args) => code(registries::login(&host, &args)),
        Verb::Logout(args) => code(registries::logout(&host, &args)),
        Verb::Search(args) => code(registries::search(&host, &args)),
        Verb::Mcp(args) => match args.verb {
            McpVerb::Run(args) => mcp::run(&host, *args),
            McpVerb::Serve(args) => serve_sandboxes(host, *args),
            McpVerb::Gateway(args) => code(gateway(&host, args)),
            McpVerb::Import(args) => code(mcp_config::import(&host, &args)),
            McpVerb::Init(args) => code(mcp_config::init(&host, &args)),
            McpVerb::Ps(args) => code(running::ps(&host, &args)),
            McpVerb::Logs(args) => code(running::logs(&host, &args)),
            McpVerb::Inspect(args) => code(running::inspect(&host, &args)),
            McpVerb::Stop(args) => code(running::stop(&host, &args)),
            McpVerb::Start(args) => code(running::start(&host, &args)),
            McpVerb::Metrics => code(running::metrics(&host)),
            McpVerb::Diff(args) => code(catalogue::diff(&host, &args)),
            McpVerb::Accept(args) => code(catalogue::accept(&host, &args)),
        },
        Verb::Workspace(args) => match args.verb {
            WorkspaceVerb::Serve(args) => serve_workspace(&host, args),
            WorkspaceVerb::Status(args) => code(workspace::status(&host, &args)),
            WorkspaceVerb::Search(args) => workspace::search(&host, args),
            WorkspaceVerb::Outline(args) => code(workspace::outline(&host, &args)),
            WorkspaceVerb::Map(args) => code(workspace::map(&host, args)),
            WorkspaceVerb::History(args) => code(workspace::history(&host, &args)),
            WorkspaceVerb::Undo(args) => code(workspace::undo(&host, &args)),
        },
        Verb::Audit(args) => match args.verb {
            AuditVerb::Show(args) => code(audit::show(&host, &args)),
            AuditVerb::Verify(args) => audit::verify(&host, &args),
        },
        Verb::Doctor(args) => system::doctor(&host, &args),
        Verb::Version => code(system::version()),
    }
}

fn gateway(host: &Host, args: McpGateway) -> Result<(), Error> {
    let format = mcp_config::format(args.format.as_deref())?;
    let read = read::gateway(host, &args.config, format, mcp_config::inputs(&args.input)?)?;
    read.remarks.iter().for_each(|remark| terminal::print_warning(&remark.to_string()));
    let http = args.http.map(|address| HttpAsked {
        request: HttpRequest {
            address,
            token_file: args.http_token_file,
            is_without_token: args.http_no_token,
            is_exposed: args.http_expose,
            hosts: args.http_host,
            origins: args.http_origin,
        },
        has_metrics: args.metrics,
    });
    let files = args.config.iter().map(|file| file.display().to_string()).collect();
    let tell = Arc::new(|line: &str| terminal::print_warning(line));
    gateway::run(host, Asked { config: read.config, files, http }, tell)
}

fn image(host: &Host, verb: ImageVerb) -> i32 {
    match verb {
        ImageVerb::Ls(args) => code(images::list(host, &args)),
        ImageVerb::History(args) => code(images::history(host, &args)),
        ImageVerb::Inspect(args) => images::inspect(host, &args),
        ImageVerb::Tag(args) => code(images::tag(host, &args)),
        ImageVerb::Rm(args) => images::remove(host, &args),
        ImageVerb::Prune(args) => code(images::prune(host, &args)),
        ImageVerb::Load(args) => code(archives::load(host, &args)),
        ImageVerb::Save(args) => code(archives::save(host, &args)),
        ImageVerb::Import(args) => code(images::import(host, &args)),
        ImageVerb::Pull(args) => code(registries::pull(host, &args)),
        ImageVerb::Push(args) => code(registries::push(host, &args)),
    }
}

/// Serves sandboxes, and the files of the folders they may have, until the client is gone.
fn serve_sandboxes(host: Host, args: McpServe) -> i32 {
    let without_files = args.no_files;
    let served = mcp::ceiling(&host, args).and_then(|ceiling| {
        let of = |access| {
            let folders = ceiling.workspaces.iter().filter(move |(_, read_only)| *read_only == access);
            folders.map(|(path, _)| path.display().to_string()).collect()
        };
        let request =
            WorkspaceRequest { roots: of(false), read_only: of(true), protect: Vec::new(), journal: None };
        let files = if without_files || ceiling.workspaces.is_empty() {
            None
        } else {
            let workspace = Workspace::open(&host, &request)?;
            Some(WorkspaceTools { workspace, profile: Profile::Core, max_reply: WORKSPACE_REPLY_BYTES_MAX })
        };
        host.open_data()?;
        Ok((ceiling, files, CallLog::open(&host.data)?))
    });
    match served {
        Ok((ceiling, files, log)) => server::serve(host, ceiling, files, log),
        Err(error) => {
            terminal::print_error(&error);
            terminal::EXIT_RUN
        }
    }
}

/// Serves a workspace until the client is gone: the one place where the command line meets the protocol.
fn serve_workspace(host: &Host, args: WorkspaceServe) -> i32 {
    let profile = match args.tools {
        WorkspaceProfile::Compat => Profile::Compat,
        WorkspaceProfile::Massgen => Profile::Massgen,
        WorkspaceProfile::Core => Profile::Core,
        WorkspaceProfile::Full => Profile::Full,
    };
    let roots = match (args.roots.is_empty(), args.ro.is_empty()) {
        (true, true) => vec![".".to_owned()],
        _ => args.roots,
    };
    let request =
        WorkspaceRequest { roots, read_only: args.ro, protect: args.protect, journal: args.journal };
    match Workspace::open(host, &request) {
        Ok(workspace) => {
            for (operation, has_happened) in &workspace.recovered {
                let end = if *has_happened { "is whole" } else { "was taken back" };
                terminal::print_warning(&format!(
                    "{operation} was cut off by the death of a server and {end}"
                ));
            }
            serve_stdio(WorkspaceTools { workspace, profile, max_reply: args.max_reply })
        }
        Err(refusal) => {
            terminal::print_error(&Error::from(refusal));
            1
        }
    }
}

fn code(result: Result<(), Error>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => {
            terminal::print_error(&error);
            1
        }
    }
}
