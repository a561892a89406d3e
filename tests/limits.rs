//! Limits as a person meets them: enforced by the kernel, told truly, and nothing left behind.
//!
//! They need cgroups v2 with delegation. `tests/testhost/run test` gives them a host that has it;
//! there a skip is a failure. Nothing here looks at a clock: a wait only has a deadline.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const CUDDY: &str = env!("CARGO_BIN_EXE_cuddy");
/// Where the test host has its cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// The file that says: this is the test host.
const TESTHOST: &str = "/etc/cuddy-testhost";
/// How long systemd or the kernel may take to clear up.
const CLEAR_WAIT: Duration = Duration::from_secs(30);
/// A user that systemd runs no manager for.
const NOBODY: &str = "65534";
/// Where cuddy itself goes in a cgroup of its own.
const SELF_DIR: &str = "cuddy-self";
/// What a command says and does that is held until the test lets it go.
const HELD: &str = "echo up; read _";
/// The shell ends at its first refused fork, and has told of each that was not.
const BOMB: &str = "i=0; while [ $i -lt 60 ]; do sleep 98765 & echo $i; i=$((i+1)); done";

/// Past libtest, which would keep it to itself.
fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A folder for cuddy's files that every user may write.
fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o777)).unwrap();
    data
}

/// `command` with cuddy's files in `data`.
fn with_data(mut command: Command, data: &TempDir) -> Command {
    command.env("XDG_DATA_HOME", data.path());
    command
}

fn cuddy(data: &TempDir, words: &[&str]) -> Command {
    let mut command = with_data(Command::new(CUDDY), data);
    command.args(words);
    command
}

fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), about_limits(stderr))
}

/// What was said, without the line about Landlock: the small kernel of the test host has none, which a tool
/// is told at every start.
fn about_limits(stderr: Vec<u8>) -> String {
    let said = String::from_utf8(stderr).unwrap();
    said.split_inclusive('\n').filter(|line| !line.contains("this kernel has no Landlock")).collect()
}

/// Asks cuddy itself, which starts nothing for it.
fn is_limited_here() -> Result<(), String> {
    let data = data();
    let words = ["--memory", "64m", "--cpus", "0.5", "--pids", "9", "--explain", "--format", "json"];
    let (code, stdout, stderr) =
        output(cuddy(&data, &[&["mcp", "run"], &words[..], &["--", "true"]].concat()));
    assert_eq!(code, Some(0), "{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let lines = told["limits"].as_array().unwrap();
    assert_eq!(lines.len(), 4, "{stdout}");
    match lines.iter().find(|line| line.as_str().unwrap().contains("NOT enforced")) {
        Some(line) => Err(line.to_string()),
        None => Ok(()),
    }
}

fn host_can_limit() -> bool {
    let Err(why) = is_limited_here() else { return true };
    assert!(!Path::new(TESTHOST).exists(), "the test host must be able to limit: {why}");
    skipped(&why);
    false
}

/// As [`host_can_limit`], for what only root can arrange: the test host runs every test as root too.
fn root_can_limit() -> bool {
    if !is_root() {
        skipped("only root can arrange this");
    }
    is_root() && host_can_limit()
}

/// A command of cuddy where no cgroup can be had: here, or as a user without a manager.
fn cuddy_without_cgroups(data: &TempDir, words: &[&str]) -> Option<Command> {
    if is_limited_here().is_err() {
        return Some(cuddy(data, words));
    }
    if !is_root() {
        skipped("this user has cgroups, and only root can be another one");
        return None;
    }
    let mut command = with_data(Command::new("setpriv"), data);
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", CUDDY]).args(words);
    Some(command)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs and waits until the test lets it go.
struct Held {
    child: Child,
    id: String,
    /// Its cgroup below the mount.
    cgroup: PathBuf,
}

impl Held {
    /// Starts a command that ends with `sh -c HELD` in a container, the only one in `data`.
    fn start(mut command: Command, data: &TempDir) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "up\n" {
            panic!("{:?}", child.wait_with_output().unwrap());
        }
        let folder = folders(&data.path().join("cuddy/containers")).pop().unwrap();
        let record = std::fs::read(folder.join("state.json")).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let cgroup = record["cgroup"].as_str().unwrap_or_else(|| panic!("no cgroup is in {record}"));
        Self { child, id: record["id"].as_str().unwrap().to_owned(), cgroup: cgroup.into() }
    }

    /// What the kernel itself says, seen from outside.
    fn file(&self, name: &str) -> String {
        let folder = Path::new(CGROUPS).join(self.cgroup.strip_prefix("/").unwrap());
        std::fs::read_to_string(folder.join(name)).unwrap().trim().to_owned()
    }

    fn is_below(&self, unit: &str) -> bool {
        self.cgroup.parent().unwrap().ends_with(unit)
    }

    fn is_in_own_scope(&self) -> bool {
        self.is_below(&format!("cuddy-{}.scope", self.id))
    }

    fn let_go(mut self) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        // `read` fails at the end of its input.
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(about_limits(output.stderr), "");
        nothing_is_left(&self.id);
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// Every cgroup whose name has the id.
fn cgroups_of(id: &str, below: &Path) -> Vec<PathBuf> {
    let has_id = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains(id);
    let (mut found, others): (Vec<_>, Vec<_>) = folders(below).into_iter().partition(has_id);
    found.extend(others.iter().flat_map(|folder| cgroups_of(id, folder)));
    found
}

/// The container's cgroup and scope are gone.
fn nothing_is_left(id: &str) {
    wait_for(&format!("`{id}` has no cgroup"), || cgroups_of(id, Path::new(CGROUPS)).is_empty());
    wait_for(&format!("`{id}` has no scope"), || {
        let manager = if is_root() { "--system" } else { "--user" };
        let unit = format!("cuddy-{id}.scope");
        let arguments = [manager, "--plain", "--no-legend", "--all", "list-units", &unit];
        let listed = Command::new("systemctl").args(arguments).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        listed.stdout.is_empty()
    });
}

/// Nothing of any container is in `data`.
fn no_record_is_left(data: &TempDir) {
    for name in ["containers", "names"] {
        let path = data.path().join("cuddy").join(name);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{}", path.display());
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + CLEAR_WAIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited {} s until {what}", CLEAR_WAIT.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `cuddy run FLAGS @host COMMAND…`: its exit code, what it printed, and nothing of it is left.
fn run(flags: &[&str], command: &[&str]) -> (Option<i32>, String, String) {
    let data = data();
    let cidfile = data.path().join("id");
    let words = [&["run", "--cidfile", cidfile.to_str().unwrap()], flags, &["@host"], command].concat();
    let ended = output(cuddy(&data, &words));
    let id = std::fs::read_to_string(&cidfile).unwrap_or_else(|_| panic!("no container was made: {ended:?}"));
    nothing_is_left(&id);
    no_record_is_left(&data);
    ended
}

#[test]
fn a_container_sees_its_own_limits_and_cannot_change_them() {
    if !host_can_limit() {
        return;
    }
    let flags = ["-m", "64m", "--memory-swap", "100m", "--cpus", "0.5", "--pids-limit", "50"];
    let script = "cat /proc/self/cgroup; cd /sys/fs/cgroup && cat memory.max memory.swap.max cpu.max pids.max;
        for f in memory.max cgroup.procs; do (echo 0 >$f) 2>/dev/null && echo wrote $f; done; mkdir x 2>/dev/null";
    for network in ["none", "host"] {
        let flags = [&flags[..], &["--network", network]].concat();
        let (_, stdout, stderr) = run(&flags, &["sh", "-c", script]);
        assert_eq!(stdout, "0::/\n67108864\n37748736\n50000 100000\n50\n", "{network}: {stderr}");
        assert_eq!(stderr, "", "{network}");
    }
}

#[test]
fn a_command_that_takes_more_memory_than_it_may_is_killed_and_that_is_reported() {
    if !host_can_limit() {
        return;
    }
    let (code, _, stderr) = run(&["-m", "32m", "--memory-swap", "32m"], &["tail", "/dev/zero"]);
    assert_eq!(code, Some(137), "{stderr}");
    assert_eq!(
        stderr,
        "cuddy: `tail` was killed: the container used all the memory it may have\n  hint: give it more with `--memory`\n"
    );
}

#[test]
fn a_killed_child_is_reported_though_the_command_goes_on() {
    if !host_can_limit() {
        return;
    }
    let script = "tail /dev/zero; [ $? = 137 ] && exit 42";
    let (code, _, stderr) = run(&["-m", "32m", "--memory-swap", "32m"], &["sh", "-c", script]);
    assert_eq!(code, Some(42), "{stderr}");
    assert!(stderr.contains("cuddy: a process in the container was killed: "), "{stderr}");
    assert!(stderr.contains("hint: give it more with `--memory`"), "{stderr}");
}

#[test]
fn a_command_within_its_memory_ends_well_and_nothing_is_reported() {
    if !host_can_limit() {
        return;
    }
    let (code, stdout, stderr) = run(&["-m", "128m"], &["sh", "-c", "head -c 32m /dev/zero | tail | wc -c"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "33554432\n", ""));
}

#[test]
fn swap_is_what_is_left_of_memory_and_swap_together() {
    if !host_can_limit() {
        return;
    }
    let swap = |flags: &[&str]| run(flags, &["cat", "/sys/fs/cgroup/memory.swap.max"]).1;
    assert_eq!(swap(&["-m", "64m"]), "67108864\n");
    assert_eq!(swap(&["-m", "64m", "--memory-swap", "-1"]), "max\n");
}

#[test]
fn a_fork_bomb_stops_at_its_limit_and_is_gone_afterwards() {
    if !host_can_limit() {
        return;
    }
    let (_, stdout, stderr) = run(&["--pids-limit", "20"], &["sh", "-c", BOMB]);
    let started = stdout.lines().count();
    assert!((10..20).contains(&started), "{started} processes were started: {stderr}");
    assert!(stderr.contains("was not started") && stderr.contains("`--pids-limit`"), "{stderr}");
    let left = Command::new("pgrep").args(["-f", "-x", "sleep 98765"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn a_tool_of_an_agent_has_the_limits_that_were_named_and_the_default_ones() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let words = ["mcp", "run", "--cpus", "0.5", "--pids", "30", "--", "sh", "-c", HELD];
    let held = Held::start(cuddy(&data, &words), &data);
    assert_eq!(held.file("memory.max"), "4294967296");
    assert_eq!(held.file("memory.swap.max"), "4294967296");
    assert_eq!(held.file("cpu.max"), "50000 100000");
    assert_eq!(held.file("pids.max"), "30");
    assert!(held.file("cgroup.procs").lines().count() >= 2, "the first process and the shell are in it");
    held.let_go();
}

#[test]
fn a_tool_that_eats_memory_is_killed_and_that_is_reported() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let words = ["mcp", "run", "--memory", "32m", "--", "tail", "/dev/zero"];
    let (code, _, stderr) = output(cuddy(&data, &words));
    assert_eq!(code, Some(137), "{stderr}");
    assert!(stderr.contains("tail` was killed: the container used all the memory"), "{stderr}");
    no_record_is_left(&data);
}

#[test]
fn ten_containers_at_once_get_their_limits_and_leave_nothing() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let start = |n: usize| {
        let cidfile = data.path().join(n.to_string());
        let words = ["run", "-m", "32m", "--cidfile", cidfile.to_str().unwrap(), "@host"];
        let mut command = cuddy(&data, &words);
        command.args(["cat", "/sys/fs/cgroup/memory.max"]).stdin(Stdio::null());
        (command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), cidfile)
    };
    for (child, cidfile) in (0..10).map(start).collect::<Vec<_>>() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "33554432\n", "{output:?}");
        nothing_is_left(&std::fs::read_to_string(cidfile).unwrap());
    }
    no_record_is_left(&data);
}

#[test]
fn what_a_killed_command_leaves_is_swept_by_the_next() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let mut held = Held::start(cuddy(&data, &["run", "-i", "-m", "64m", "@host", "sh", "-c", HELD]), &data);
    held.child.kill().unwrap();
    held.child.wait().unwrap();
    let (code, _, stderr) = output(cuddy(&data, &["run", "@host", "true"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    nothing_is_left(&held.id);
    no_record_is_left(&data);
}

/// A cgroup that root made by hand, outside of every unit of systemd.
struct Given(PathBuf);

impl Given {
    fn new(name: &str) -> Self {
        let folder = Path::new(CGROUPS).join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    /// cuddy as the only process in it.
    fn cuddy(&self, data: &TempDir, words: &[&str]) -> Command {
        let mut command = with_data(Command::new("sh"), data);
        command
            .args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.0)
            .arg(CUDDY)
            .args(words);
        command
    }

    fn is_as_it_was(&self) {
        assert_eq!(folders(&self.0), [] as [PathBuf; 0]);
        let enabled = std::fs::read_to_string(self.0.join("cgroup.subtree_control")).unwrap();
        assert_eq!(enabled.trim(), "");
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_cgroup_of_our_own_is_used_and_given_back_as_it_was() {
    if !root_can_limit() {
        return;
    }
    let (given, data) = (Given::new("given-back"), data());
    let words = ["run", "-i", "-m", "64m", "@host", "sh", "-c", HELD];
    let held = Held::start(given.cuddy(&data, &words), &data);
    assert!(held.is_below("given-back"), "{}", held.cgroup.display());
    held.let_go();
    given.is_as_it_was();
}

#[test]
fn what_a_killed_command_leaves_in_a_cgroup_of_our_own_is_swept_by_the_next() {
    if !root_can_limit() {
        return;
    }
    let (given, data) = (Given::new("given-killed"), data());
    let words = ["run", "-i", "-m", "64m", "@host", "sh", "-c", HELD];
    let mut held = Held::start(given.cuddy(&data, &words), &data);
    held.child.kill().unwrap();
    held.child.wait().unwrap();
    assert!(!cgroups_of(&held.id, &given.0).is_empty(), "nobody else removes it");
    // The kernel puts no process where controllers are on, so the next command comes from elsewhere.
    let (code, _, stderr) = output(cuddy(&data, &["run", "@host", "true"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    nothing_is_left(&held.id);
    no_record_is_left(&data);
    given.is_as_it_was();
}

#[test]
fn a_command_killed_while_it_makes_its_cgroup_leaves_nothing_the_next_does_not_sweep() {
    if !root_can_limit() {
        return;
    }
    let (given, data) = (Given::new("given-early"), data());
    for wanted in ["state.json", SELF_DIR, "cuddy-"] {
        let mut child = given.cuddy(&data, &["run", "-m", "64m", "@host", "sleep", "1000"]).spawn().unwrap();
        let records = data.path().join("cuddy/containers");
        wait_for(wanted, || {
            let has_record = folders(&records).iter().any(|folder| folder.join("state.json").exists());
            let names = folders(&given.0).into_iter().filter_map(|f| Some(f.file_name()?.to_owned()));
            let mut names = names.filter(|name| wanted == SELF_DIR || name != SELF_DIR);
            if wanted == "state.json" {
                has_record
            } else {
                names.any(|name| name.to_str().unwrap().starts_with(wanted))
            }
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let (code, _, stderr) = output(cuddy(&data, &["run", "@host", "true"]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{wanted}");
        no_record_is_left(&data);
        given.is_as_it_was();
    }
}

/// Words that put the caller's manager in front: the user's, or for root the system's.
fn systemd_run(data: &TempDir, more: &[&str]) -> Command {
    let mut command = with_data(Command::new("systemd-run"), data);
    if !is_root() {
        command.arg("--user");
    }
    // A service has an environment of its own, a scope has ours.
    if !more.contains(&"--scope") {
        command.arg(format!("--setenv=XDG_DATA_HOME={}", data.path().display()));
    }
    command.arg("--quiet").args(more);
    command.args([CUDDY, "run", "-i", "-m", "64m", "@host", "sh", "-c", HELD]);
    command
}

#[test]
fn a_delegated_scope_is_used_where_it_is_marked_and_left_alone_where_it_is_not() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let held =
        Held::start(systemd_run(&data, &["--scope", "-p", "Delegate=yes", "--unit", "given.scope"]), &data);
    // A user's manager may not mark what it delegates (systemd 252).
    assert_eq!(held.is_below("given.scope"), is_root(), "{}", held.cgroup.display());
    assert_eq!(held.is_in_own_scope(), !is_root(), "{}", held.cgroup.display());
    held.let_go();
}

#[test]
fn a_delegated_service_of_an_ordinary_user_needs_no_scope() {
    if !root_can_limit() {
        return;
    }
    let data = data();
    let words = ["--pipe", "--wait", "--collect", "--unit", "given.service"];
    let more = ["-p", "Delegate=yes", "-p", "User=nobody"];
    let held = Held::start(systemd_run(&data, &[&words[..], &more].concat()), &data);
    assert!(held.is_below("given.service"), "{}", held.cgroup.display());
    held.let_go();
}

#[test]
fn a_service_that_is_not_delegated_is_left_as_it_is_and_a_scope_is_used() {
    if !host_can_limit() {
        return;
    }
    let data = data();
    let held = Held::start(systemd_run(&data, &["--pipe", "--wait", "--collect"]), &data);
    assert!(held.is_in_own_scope(), "{}", held.cgroup.display());
    held.let_go();
}

#[test]
fn a_limit_that_was_named_for_a_tool_and_cannot_be_had_is_refused_with_the_line_that_gives_it() {
    for (flag, value, noun) in
        [("--memory", "64m", "memory"), ("--cpus", "0.5", "CPU time"), ("--pids", "20", "processes")]
    {
        let data = data();
        let words = ["mcp", "run", flag, value, "--", "true"];
        let Some(command) = cuddy_without_cgroups(&data, &words) else { return };
        let (code, _, stderr) = output(command);
        assert_eq!(code, Some(125), "{stderr}");
        assert!(stderr.contains(&format!("cannot limit {noun}: ")), "{stderr}");
        assert!(stderr.contains("\n  hint: "), "{stderr}");
        if Path::new(TESTHOST).exists() {
            assert!(stderr.contains(&format!("loginctl enable-linger {NOBODY}")), "{stderr}");
        }
        no_record_is_left(&data);
    }
}

#[test]
fn the_default_limits_of_a_tool_fall_back_to_what_can_be_had_and_say_so_in_one_line() {
    let data = data();
    let words = ["mcp", "run", "--", "cat", "/proc/self/limits"];
    let Some(command) = cuddy_without_cgroups(&data, &words) else { return };
    let (code, stdout, stderr) = output(command);
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("cuddy: warning: no limit on memory, swap"), "{stderr}");
    // The host's user 0 has no count of its own.
    if !is_root() || is_limited_here().is_ok() {
        assert!(stderr.contains("processes are limited by RLIMIT_NPROC instead"), "{stderr}");
        let line = stdout.lines().find(|line| line.starts_with("Max processes")).unwrap();
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(numbers.len() == 2 && numbers.iter().all(|&n| n <= 1024), "{line}");
    }
}

#[test]
fn a_container_without_its_limits_runs_with_a_warning_and_its_processes_are_counted_all_the_same() {
    let data = data();
    let words = ["run", "-m", "64m", "--cpus", "0.5", "--pids-limit", "20", "@host", "sh", "-c", BOMB];
    let Some(command) = cuddy_without_cgroups(&data, &words) else { return };
    let is_counted = !is_root() || is_limited_here().is_ok();
    let (_, stdout, stderr) = output(command);
    let warning = stderr.lines().next().unwrap();
    assert!(warning.starts_with("cuddy: warning: this host cannot limit memory, swap, CPU time"), "{stderr}");
    assert!(warning.contains("limitation discarded") && warning.contains("; fix: "), "{stderr}");
    let started = stdout.lines().count();
    assert_eq!(is_counted, (10..20).contains(&started), "{started} processes were started: {stderr}");
    assert_eq!(is_counted, warning.contains("RLIMIT_NPROC"), "{stderr}");
    no_record_is_left(&data);
}
