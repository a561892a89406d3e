//! Runs a command under limits, with nothing else around it: how the library's cgroups are used.
//!
//! `limited [--memory SIZE] [--memory-swap SIZE] [--cpus N] [--pids-limit N] COMMAND…` ends with a
//! line of JSON on stdout; `limited --sweep PATH` removes what a killed one left. The tests of
//! limits stand on it. It does not contain the command: that is `cuddy run`.

use std::error::Error as StdError;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cuddy::container::cgroup::{self, Cgroup};
use cuddy::container::delegation::{self, Environment};
use cuddy::container::limits::{Limits, Resource};
use cuddy::error::Error;
use cuddy::names::ContainerId;

type Failure = Box<dyn StdError>;

#[expect(clippy::print_stderr, reason = "an example has no terminal module")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("limited: {failure}");
            ExitCode::from(125)
        }
    }
}

/// The error as every verb of cuddy would tell it: the chain, then the hints.
fn told(error: impl Into<Error>) -> Failure {
    let error = error.into();
    let hints: String = error.hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
    format!("{error}{hints}").into()
}

fn environment() -> Environment {
    #[expect(clippy::disallowed_methods, reason = "an example is its own main")]
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    Environment { uid: rustix::process::geteuid().as_raw(), runtime_dir }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).peekable();
    let mut limits = Limits::default();
    let (mut memory, mut memory_swap) = (None, None);
    while let Some(flag) = arguments.next_if(|argument| argument.starts_with("--")) {
        let mut value = || arguments.next().ok_or(format!("`{flag}` needs a value"));
        match flag.as_str() {
            "--memory" => memory = Some(value()?),
            "--memory-swap" => memory_swap = Some(value()?),
            "--cpus" => limits.set_cpus(&value()?, 64).map_err(told)?,
            "--pids-limit" => limits.set_pids(&value()?).map_err(told)?,
            "--sweep" => return sweep(Path::new(&value()?)),
            "--probe" => return probe(),
            _ => return Err(format!("`{flag}` is not a flag").into()),
        }
    }
    limits.set_memory(memory.as_deref(), memory_swap.as_deref()).map_err(told)?;
    carry_out(&limits, arguments.collect())
}

fn probe() -> Result<(), Failure> {
    let support = delegation::probe(&environment());
    match support.way(&Resource::ALL) {
        Ok(way) => say(&serde_json::json!({ "way": way.to_string() })),
        Err(lack) => Err(format!("{}\nhint: {}", lack.reason, lack.fix).into()),
    }
}

fn sweep(path: &Path) -> Result<(), Failure> {
    let support = delegation::probe(&environment());
    let mount = support.mount().ok_or("cgroup v2 is not mounted")?;
    say(&serde_json::json!({ "swept": cgroup::sweep(mount, path).map_err(told)? }))
}

fn carry_out(limits: &Limits, command: Vec<String>) -> Result<(), Failure> {
    let support = delegation::probe(&environment());
    let mut random = [0_u8; 32];
    cuddy::sys::fs::random_bytes(&mut random)?;
    let cgroup = cgroup::create(&support, &ContainerId::from_bytes(&random), limits).map_err(told)?;
    let mount = support.mount().ok_or("cgroup v2 is not mounted")?.to_owned();
    let path = cgroup.path().to_owned();
    // The command waits for a line until it is where it belongs.
    let mut child = Command::new("sh")
        .args(["-c", "read -r _ && exec \"$@\" </dev/null", "sh"])
        .args(command)
        .stdin(Stdio::piped())
        .spawn()?;
    cgroup.adopt(rustix::process::Pid::from_child(&child)).map_err(told)?;
    say(&serde_json::json!({ "path": path, "files": files(&mount.join(path.strip_prefix("/")?)) }))?;
    child.stdin.take().ok_or("no pipe")?.write_all(b"\n")?;
    let status = child.wait()?;
    let mut report = report(&cgroup)?;
    cgroup.kill().map_err(told)?;
    cgroup.remove().map_err(told)?;
    report["code"] = status.code().into();
    report["signal"] = status.signal().into();
    report["own_after"] = std::fs::read_to_string("/proc/self/cgroup")?.trim().into();
    say(&report)
}

fn report(cgroup: &Cgroup) -> Result<serde_json::Value, Failure> {
    let usage = cgroup.usage().map_err(told)?;
    Ok(serde_json::json!({
        "oom_kills": cgroup.oom_kills().map_err(told)?,
        "pids_refused": cgroup.pids_refused().map_err(told)?,
        "memory_peak_bytes": usage.memory_peak_bytes,
        "cpu_us": usage.cpu_us,
    }))
}

/// What the kernel itself says the limits are.
fn files(folder: &Path) -> serde_json::Map<String, serde_json::Value> {
    let read = |name: &str| {
        let mut text = String::new();
        let mut file = std::fs::File::open(folder.join(name)).ok()?;
        file.read_to_string(&mut text).ok()?;
        Some((name.to_owned(), text.trim().into()))
    };
    ["memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"]
        .into_iter()
        .filter_map(read)
        .collect()
}

#[expect(clippy::print_stdout, reason = "an example has no terminal module")]
fn say(value: &serde_json::Value) -> Result<(), Failure> {
    println!("{value}");
    std::io::stdout().flush()?;
    Ok(())
}
