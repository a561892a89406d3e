//! Limits as a person meets them: enforced by the kernel, told truly, and nothing left behind.
//!
//! They need cgroups v2 with delegation. `tests/testhost/run test` gives them a host that has it;
//! there a skip is a failure. Nothing here looks at a clock: a wait only has a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The file that says: this is the test host.
const TESTHOST: &str = "/etc/cuddy-testhost";
/// How long systemd or the kernel may take to clear up.
const CLEAR_WAIT: Duration = Duration::from_secs(30);

/// The example `limited` beside this test program.
fn limited() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.ancestors().nth(2).unwrap().join("examples/limited")
}

/// Past libtest, which would keep it to itself.
fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn host_can_limit() -> bool {
    let probe = Command::new(limited()).arg("--probe").output().unwrap();
    if probe.status.success() {
        return true;
    }
    let why = String::from_utf8_lossy(&probe.stderr);
    assert!(!Path::new(TESTHOST).exists(), "the test host must be able to limit: {why}");
    skipped(&why);
    false
}

/// As [`host_can_limit`], for what only root can arrange: the test host runs every test as root too.
fn root_can_limit() -> bool {
    if !is_root() {
        skipped("only root can be another user");
    }
    is_root() && host_can_limit()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Words that put the caller's manager in front: the user's, or for root the system's.
fn systemd_run(more: &[&str]) -> Command {
    let mut command = Command::new("systemd-run");
    if !is_root() {
        command.arg("--user");
    }
    command.arg("--quiet").args(more);
    command
}

/// What `limited` said: one line when the command starts, one when it has ended.
struct Told {
    start: Value,
    end: Value,
}

impl Told {
    fn path(&self) -> &str {
        self.start["path"].as_str().unwrap()
    }

    fn file(&self, name: &str) -> &str {
        self.start["files"][name].as_str().unwrap_or("no such file")
    }
}

fn told(mut command: Command) -> Told {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // A test command may print too: only our own lines are JSON objects.
    let mut lines =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(Value::is_object);
    Told { start: lines.next().unwrap(), end: lines.next().unwrap() }
}

fn run(flags: &[&str], command: &[&str]) -> Told {
    let mut limited = Command::new(limited());
    limited.args(flags).args(command);
    told(limited)
}

fn folder(path: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(path.strip_prefix('/').unwrap())
}

/// The scope, its cgroup and every unit of that name are gone.
fn nothing_is_left(path: &str) {
    let gone = || {
        let unit = Path::new(path).parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let is_scope = unit.starts_with("cuddy-");
        !folder(path).exists() && !(is_scope && (folder(path).parent().unwrap().exists() || is_loaded(&unit)))
    };
    wait_for(&format!("`{path}` is gone"), gone);
}

fn is_loaded(unit: &str) -> bool {
    let manager = if is_root() { "--system" } else { "--user" };
    let arguments = [manager, "--plain", "--no-legend", "--all", "list-units", unit];
    let listed = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    !listed.stdout.is_empty()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + CLEAR_WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {} s until {what}", CLEAR_WAIT.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_command_that_takes_more_memory_than_it_may_is_killed_and_that_is_reported() {
    if !host_can_limit() {
        return;
    }
    let told = run(&["--memory", "32m", "--memory-swap", "32m"], &["tail", "/dev/zero"]);
    assert_eq!(told.file("memory.max"), "33554432");
    assert_eq!(told.end["signal"], 9, "{}", told.end);
    assert_eq!(told.end["oom_kills"], 1, "{}", told.end);
    assert!(told.end["memory_peak_bytes"].as_u64().is_none_or(|peak| peak <= 32 << 20), "{}", told.end);
    nothing_is_left(told.path());
}

#[test]
fn a_command_within_its_memory_ends_well_and_no_kill_is_reported() {
    if !host_can_limit() {
        return;
    }
    let told = run(&["--memory", "128m"], &["sh", "-c", "head -c 32m /dev/zero | tail | wc -c"]);
    assert_eq!((&told.end["code"], &told.end["oom_kills"]), (&0.into(), &0.into()), "{}", told.end);
    nothing_is_left(told.path());
}

#[test]
fn a_killed_child_leaves_its_parent_alive_to_tell() {
    if !host_can_limit() {
        return;
    }
    let script = "tail /dev/zero; [ $? = 137 ] && exit 42";
    let told = run(&["--memory", "32m", "--memory-swap", "32m"], &["sh", "-c", script]);
    assert_eq!(told.end["code"], 42, "{}", told.end);
    assert_eq!(told.end["oom_kills"], 1, "{}", told.end);
    assert_eq!(told.file("memory.oom.group"), "0");
    nothing_is_left(told.path());
}

#[test]
fn swap_is_what_is_left_of_memory_and_swap_together() {
    if !host_can_limit() {
        return;
    }
    let swap = |flags: &[&str]| {
        let told = run(flags, &["true"]);
        nothing_is_left(told.path());
        told.file("memory.swap.max").to_owned()
    };
    assert_eq!(swap(&["--memory", "64m"]), "67108864");
    assert_eq!(swap(&["--memory", "64m", "--memory-swap", "64m"]), "0");
    assert_eq!(swap(&["--memory", "64m", "--memory-swap", "100m"]), "37748736");
    assert_eq!(swap(&["--memory", "64m", "--memory-swap", "-1"]), "max");
}

#[test]
fn half_a_processor_is_half_of_each_period() {
    if !host_can_limit() {
        return;
    }
    let told = run(&["--cpus", "0.5"], &["true"]);
    assert_eq!(told.file("cpu.max"), "50000 100000");
    nothing_is_left(told.path());
}

#[test]
fn a_fork_bomb_stops_at_its_limit_and_is_gone_afterwards() {
    if !host_can_limit() {
        return;
    }
    // The shell ends at its first refused fork; the others must be killed for it.
    let bomb = "i=0; while [ $i -lt 60 ]; do sleep 98765 & i=$((i+1)); done";
    let told = run(&["--pids-limit", "20"], &["sh", "-c", bomb]);
    assert_eq!(told.file("pids.max"), "20");
    assert!(told.end["pids_refused"].as_u64().unwrap() >= 1, "{}", told.end);
    nothing_is_left(told.path());
    let left = Command::new("pgrep").args(["-f", "-x", "sleep 98765"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// Runs `limited` in a unit of the system's manager that is delegated, as `systemd-run` is told.
fn run_delegated(unit: &str, more: &[&str]) {
    let mut command = systemd_run(&["-p", "Delegate=yes", "--unit", unit]);
    command.args(more).arg(limited()).args(["--memory", "64m", "true"]);
    let told = told(command);
    let base = Path::new(told.path()).parent().unwrap().display().to_string();
    assert!(base.ends_with(unit), "{base}");
    assert_eq!(told.end["own_after"], format!("0::{base}"), "we sit where we were put");
    nothing_is_left(told.path());
}

#[test]
fn a_delegated_cgroup_of_our_own_is_used_and_given_back_as_it_was() {
    if root_can_limit() {
        run_delegated("given.scope", &["--scope"]);
    }
}

#[test]
fn a_delegated_service_of_an_ordinary_user_needs_no_scope() {
    if root_can_limit() {
        run_delegated("given.service", &["--pipe", "--wait", "--collect", "-p", "User=nobody"]);
    }
}

#[test]
fn a_service_that_is_not_delegated_is_left_as_it_is_and_a_scope_is_used() {
    if !host_can_limit() {
        return;
    }
    let mut command = systemd_run(&["--pipe", "--wait", "--collect"]);
    command.arg(limited()).args(["--pids-limit", "50", "true"]);
    let told = told(command);
    assert!(told.path().contains("/cuddy-") && told.path().contains(".scope/cuddy-"), "{}", told.path());
    nothing_is_left(told.path());
}

#[test]
fn what_a_killed_command_leaves_is_swept_by_the_next() {
    if !host_can_limit() {
        return;
    }
    let mut command = Command::new(limited());
    command.args(["--memory", "64m", "sleep", "87654"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let start: Value = serde_json::from_str(&line).unwrap();
    let path = start["path"].as_str().unwrap();
    let has_one = || {
        let processes = std::fs::read_to_string(folder(path).join("cgroup.procs")).unwrap();
        let name = std::fs::read_to_string(format!("/proc/{}/comm", processes.trim()));
        name.is_ok_and(|name| name.trim() == "sleep")
    };
    wait_for("the command runs", has_one);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(has_one(), "the command outlives the one that started it");
    let sweep = || -> Output { Command::new(limited()).args(["--sweep", path]).output().unwrap() };
    let swept = sweep();
    assert!(swept.status.success(), "{swept:?}");
    assert_eq!(String::from_utf8_lossy(&swept.stdout).trim(), r#"{"swept":true}"#);
    nothing_is_left(path);
    assert_eq!(String::from_utf8_lossy(&sweep().stdout).trim(), r#"{"swept":false}"#);
}

#[test]
fn a_user_without_a_manager_is_refused_with_the_line_that_gives_one() {
    if !root_can_limit() {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups"]).arg(limited()).args(["--memory", "64m", "true"]);
    let refused = command.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(
        said.contains("cannot limit memory, swap: ") && said.contains("loginctl enable-linger 65534"),
        "{said}"
    );
}
