//! `run`: flags into a request, the request to the engine, the end into an exit code.

use crate::cli::args::{Network as NetworkArg, PullWhen, Run};
use crate::cli::terminal;
use crate::container::limits::{Limits, size_bytes};
use crate::container::mounts::{parse_mount, parse_tmpfs, parse_volume};
use crate::container::options::{
    EnvEntry, Network, OptionError, Options, SHM_BYTES_DEFAULT, SeccompChoice, UserNamespace, parse_device,
    parse_host, parse_ulimit,
};
use crate::engine::containers;
use crate::engine::host::Host;
use crate::engine::launch::{self, Ahead};
use crate::engine::registries::{self, PullPolicy};
use crate::error::{Error, ErrorKind};

/// Runs a container; gives Docker's exit code.
pub fn run(host: &Host, args: Run) -> i32 {
    let is_limited =
        [&args.memory, &args.memory_swap, &args.cpus, &args.pids_limit].iter().any(|limit| limit.is_some());
    let mut ahead = if is_limited { None } else { launch::ahead(args.interactive, args.tty) };
    match bring(host, &args, &mut ahead) {
        Ok(true) => {}
        // Whoever was to pull it has said why not.
        Ok(false) => return terminal::EXIT_RUN,
        Err(error) => {
            terminal::print_error(&error);
            return terminal::EXIT_RUN;
        }
    }
    let finished = options(host, args).and_then(|options| {
        refuse_missing_terminal(&options)?;
        containers::run(host, options, ahead, &mut |text| terminal::print_warning(text))
    });
    match finished {
        Ok(finished) => {
            if let Some(error) = &finished.error {
                terminal::print_error(error);
            }
            finished.code
        }
        Err(error) => {
            terminal::print_error(&error);
            terminal::EXIT_RUN
        }
    }
}

/// Pulls the image when that must be; whether it is there now.
fn bring(host: &Host, args: &Run, ahead: &mut Option<Ahead>) -> Result<bool, Error> {
    let policy = match args.pull {
        PullWhen::Missing => PullPolicy::Missing,
        PullWhen::Always => PullPolicy::Always,
        PullWhen::Never => PullPolicy::Never,
    };
    let platform = args.platform.as_deref();
    let Some(is_missing) = registries::must_pull(host, &args.image, policy, platform)? else {
        return Ok(true);
    };
    // That takes its time: nothing of a container waits meanwhile.
    *ahead = None;
    let latest = if registries::means_latest(&args.image) { ":latest" } else { "" };
    let name = format!("{}{latest}", args.image);
    if is_missing && !args.quiet {
        terminal::to_stderr(&format!("Unable to find image '{}' locally\n", terminal::harmless(&name)));
    }
    registries::pull_aside(host, &name, platform, args.quiet)
}

/// As Docker: a terminal inside for an input that is none would never be told apart from a pipe.
fn refuse_missing_terminal(options: &Options) -> Result<(), Error> {
    if options.tty && options.interactive && !rustix::termios::isatty(rustix::stdio::stdin()) {
        let error = Error::new(ErrorKind::Usage, "the input device is not a TTY");
        return Err(error.hint("leave `-t` out: `-i` alone takes input from a pipe"));
    }
    Ok(())
}

fn options(host: &Host, args: Run) -> Result<Options, Error> {
    let mut options = Options::new(args.image, args.command);
    options.entrypoint = args.entrypoint;
    options.name = args.name.map(|name| name.parse()).transpose()?;
    options.interactive = args.interactive;
    options.tty = args.tty;
    options.environment = args.env.iter().map(|e| EnvEntry::parse(e)).collect::<Result<_, _>>()?;
    options.environment_files = args.env_file;
    options.workdir = args.workdir;
    options.user = args.user;
    options.groups = args.group_add;
    for volume in &args.volume {
        options.mounts.push(parse_volume(volume, &host.cwd)?);
    }
    for mount in &args.mount {
        options.mounts.push(parse_mount(mount)?);
    }
    for tmpfs in &args.tmpfs {
        options.mounts.push(parse_tmpfs(tmpfs)?);
    }
    options.hostname = args.hostname;
    options.hosts = args.add_host.iter().map(|h| parse_host(h)).collect::<Result<_, _>>()?;
    options.read_only = args.read_only;
    options.network = network(args.network);
    options.limits = limits(
        args.memory.as_deref(),
        args.memory_swap.as_deref(),
        args.cpus.as_deref(),
        args.pids_limit.as_deref(),
    )?;
    for ulimit in &args.ulimit {
        let ulimit = parse_ulimit(ulimit)?;
        // The last of a name is meant, and no other is ever set: a lowered hard limit stays.
        options.ulimits.retain(|known| known.name != ulimit.name);
        options.ulimits.push(ulimit);
    }
    options.cap_add = args.cap_add;
    options.cap_drop = args.cap_drop;
    for option in &args.security_opt {
        security(&mut options, option)?;
    }
    options.init = args.init;
    options.cidfile = args.cidfile;
    options.labels = args.label.iter().map(|l| label(l)).collect();
    if let Some(size) = &args.shm_size {
        // To the kernel 0 is no limit, to Docker its default.
        options.shm_bytes = Some(size_bytes(size)?).filter(|&bytes| bytes > 0).unwrap_or(SHM_BYTES_DEFAULT);
    }
    options.stop_signal = args.stop_signal;
    options.devices = args.device.iter().map(|d| parse_device(d)).collect::<Result<_, _>>()?;
    options.privileged = args.privileged;
    options.userns = userns(args.userns.as_deref())?;
    options.platform = args.platform;
    Ok(options)
}

/// The network that was typed.
pub fn network(network: NetworkArg) -> Network {
    match network {
        NetworkArg::None => Network::None,
        NetworkArg::Host => Network::Host,
    }
}

/// Limits as typed.
///
/// # Errors
/// What is no size or no number.
pub fn limits(
    memory: Option<&str>,
    memory_swap: Option<&str>,
    cpus: Option<&str>,
    pids: Option<&str>,
) -> Result<Limits, Error> {
    let mut limits = Limits::default();
    limits.set_memory(memory, memory_swap)?;
    if let Some(cpus) = cpus {
        limits.set_cpus(cpus, usable_processors())?;
    }
    if let Some(pids) = pids {
        limits.set_pids(pids)?;
    }
    Ok(limits)
}

/// How many this process may use, where affinity or a quota leaves it fewer than the host has.
fn usable_processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

fn security(options: &mut Options, option: &str) -> Result<(), OptionError> {
    let (name, value) = option.split_once(['=', ':']).map_or((option, None), |(n, v)| (n, Some(v)));
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => options.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => options.no_new_privileges = false,
        ("seccomp", Some("unconfined")) => options.seccomp = Some(SeccompChoice::Unconfined),
        ("seccomp", Some("builtin")) => options.seccomp = Some(SeccompChoice::Default),
        ("seccomp", Some(file)) if !file.is_empty() => {
            options.seccomp = Some(SeccompChoice::File(file.into()))
        }
        _ => {
            let reason = "expected no-new-privileges, seccomp=FILE or seccomp=unconfined";
            return Err(OptionError::value("--security-opt", option, reason));
        }
    }
    Ok(())
}

fn userns(text: Option<&str>) -> Result<UserNamespace, OptionError> {
    match text {
        None | Some("") => Ok(UserNamespace::Root),
        Some("host") => Ok(UserNamespace::Host),
        Some("keep-id") => Ok(UserNamespace::KeepId),
        Some(other) => Err(OptionError::value("--userns", other, "expected `host` or `keep-id`")),
    }
}

fn label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}
