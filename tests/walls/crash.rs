//! What is left when a process of ours is killed at any moment: no process, no mount, and after the next command
//! no file.
//!
//! A killed container holds our pipes until its last process is gone, so the end of both pipes is that proof.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::harness::{Host, Started, names, probe_line};
use crate::judge;
use crate::payload::{run_line, strict_line};

/// Moments after the start, in microseconds: all of a start on a machine that is fast or busy.
const MOMENTS_US: u64 = 60_000;
/// Killed starts of one test.
const KILLS: u64 = 40;
/// A process that was killed is gone by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// Numbers that look random and are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A word that stands in the command line of every process of one test.
fn marker(name: &str) -> String {
    format!("cuddy-mark-{name}-{}", std::process::id())
}

/// Processes with a word in their command line, we apart.
fn marked(marker: &str) -> Vec<i32> {
    let ours = std::process::id().to_string();
    names(Path::new("/proc"))
        .into_iter()
        .filter(|name| *name != ours)
        .filter(|name| {
            fs::read(format!("/proc/{name}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marker))
        })
        .filter_map(|name| name.parse().ok())
        .collect()
}

#[track_caller]
fn none_is_left(marker: &str) {
    let until = Instant::now() + DEADLINE;
    while !marked(marker).is_empty() {
        assert!(Instant::now() < until, "processes are left: {:?}", marked(marker));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The host's mounts that a container could have left: in the test's own folder, and on the kernel's trees.
fn mounts(host: &Host) -> Vec<String> {
    let folder = host.data().display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let ours = |line: &&str| {
        line.contains(&folder)
            || line
                .split(' ')
                .nth(4)
                .is_some_and(|point| ["/", "/proc", "/dev", "/sys", "/sys/fs/cgroup"].contains(&point))
    };
    table.lines().filter(ours).map(str::to_owned).collect()
}

/// Everything of containers in the data folder.
fn kept(host: &Host) -> BTreeSet<String> {
    let list = |name: &str| names(&host.data().join(name)).into_iter();
    ["containers", "names", "volumes"]
        .iter()
        .flat_map(|name| list(name).map(move |entry| format!("{name}/{entry}")))
        .collect()
}

/// After the next command nothing is kept.
#[track_caller]
fn the_next_command_clears(host: &Host, before: &[String]) {
    assert_eq!(mounts(host), before, "mounts are left on the host");
    let next = host.probe(&[], &["true"]).exits(0);
    assert!(!next.stderr.contains("clear"), "{}", next.stderr);
    assert_eq!(kept(host), BTreeSet::new());
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// Kills the command `KILLS` times, at seeded moments after its start.
fn kill_at_every_moment(host: &Host, name: &str, line: impl Fn(&str, u64) -> Vec<String>) {
    let (marker, before, mut seeded) = (marker(name), mounts(host), Seeded(7));
    for round in 0..KILLS {
        let started = host.spawn(&words(&line(&marker, round)));
        std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US)));
        started.signal(Signal::KILL);
        // Returns once no process has our pipes.
        let ended = started.end();
        assert_eq!(ended.code, -9, "round {round}: {}", ended.stderr);
        none_is_left(&marker);
        assert_eq!(mounts(host), before, "round {round}: mounts are left on the host");
    }
    the_next_command_clears(host, &before);
}

#[test]
fn a_run_that_is_killed_at_any_moment_leaves_nothing() {
    let host = Host::new();
    kill_at_every_moment(&host, "run", |marker, round| {
        probe_line(&["--name", &format!("n{round}"), "-v", "/anonymous"], &["sleep", "600", marker])
    });
}

#[test]
fn a_tool_that_is_killed_at_any_moment_leaves_nothing() {
    let host = Host::new();
    kill_at_every_moment(&host, "mcp", |marker, _| {
        strict_line(&[], judge::program(), &["sleep", "600", marker])
    });
}

#[test]
fn a_name_is_free_again_after_its_holder_was_killed() {
    let host = Host::new();
    let (mut seeded, marker) = (Seeded(3), marker("name"));
    for _ in 0..20 {
        let started = host.spawn(&words(&probe_line(&["--name", "same"], &["sleep", "600", &marker])));
        std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US / 2)));
        started.signal(Signal::KILL);
        let ended = started.end();
        assert!(ended.code == -9 && !ended.stderr.contains("in use"), "{ended:?}");
    }
    host.probe(&["--name", "same"], &["true"]).exits(0);
    assert_eq!(kept(&host), BTreeSet::new());
}

#[test]
fn payloads_that_hide_from_signals_end_with_a_killed_command() {
    let host = Host::new();
    let before = mounts(&host);
    let marker = marker("hiding");
    let bomb = |flags: &[&str]| run_line(flags, &["bomb", "30", &marker]);
    let strict_bomb = strict_line(&[], crate::payload::program(), &["bomb", "30", &marker]);
    for line in [bomb(&[]), bomb(&["--init"]), strict_bomb] {
        let mut started = host.spawn(&words(&line));
        started.wait_for("ready");
        started.signal(Signal::KILL);
        assert_eq!(started.end().code, -9);
        none_is_left(&marker);
    }
    // Twice forked and in a session of its own, while the first process still sleeps.
    let script = format!("/probe daemon 600 {marker}; exec /probe sleep 600 {marker}");
    let probe = format!("{}:/probe:ro", judge::program().display());
    let mut started = host.spawn(&["run", "-v", &probe, "@host", "/bin/sh", "-c", &script]);
    started.wait_for("daemon");
    started.signal(Signal::KILL);
    assert_eq!(started.end().code, -9);
    none_is_left(&marker);
    the_next_command_clears(&host, &before);
}

#[test]
fn payloads_that_outlive_their_first_process_end_with_it() {
    let host = Host::new();
    let marker = marker("daemon");
    for flags in [&[][..], &["--init"]] {
        // `end` waits for every process that holds our pipes.
        host.probe(flags, &["daemon", "600", &marker]).exits(0);
        none_is_left(&marker);
    }
    assert_eq!(kept(&host), BTreeSet::new());
}

#[test]
fn a_stage_that_is_killed_at_any_moment_ends_its_container_and_its_command() {
    let host = Host::new();
    let (marker, before, mut seeded) = (marker("stage"), mounts(&host), Seeded(11));
    for round in 0..KILLS {
        let started = host.spawn(&words(&probe_line(&[], &["sleep", "600", &marker])));
        let Some(stage) = child_of(started.pid()) else { continue };
        std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US)));
        let _killed = rustix::process::kill_process(stage, Signal::KILL);
        let ended = started.end();
        assert_eq!(ended.code, 125, "round {round}: {}", ended.stderr);
        none_is_left(&marker);
    }
    the_next_command_clears(&host, &before);
}

#[test]
fn a_stage_and_its_command_that_are_killed_together_leave_nothing() {
    let host = Host::new();
    let (marker, before, mut seeded) = (marker("both"), mounts(&host), Seeded(13));
    for round in 0..KILLS {
        let started = host.spawn(&words(&probe_line(&[], &["sleep", "600", &marker])));
        let Some(stage) = child_of(started.pid()) else { continue };
        std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US / 2)));
        let _killed = rustix::process::kill_process(stage, Signal::KILL);
        started.signal(Signal::KILL);
        let ended = started.end();
        assert!([-9, 125].contains(&ended.code), "round {round}: {ended:?}");
        none_is_left(&marker);
    }
    the_next_command_clears(&host, &before);
}

/// The one child of a process, once it has one.
fn child_of(parent: Pid) -> Option<Pid> {
    let number = parent.as_raw_nonzero();
    let path = format!("/proc/{number}/task/{number}/children");
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let text = fs::read_to_string(&path).ok()?;
        if let Some(child) = text.split_whitespace().next() {
            return Pid::from_raw(child.parse().ok()?);
        }
    }
    None
}

#[test]
fn eight_at_once_with_kills_leave_nothing() {
    let host = Host::new();
    let (marker, before, mut seeded) = (marker("eight"), mounts(&host), Seeded(5));
    for _ in 0..5 {
        let line = probe_line(&[], &["sleep", "600", &marker]);
        let mut started: Vec<Started> = (0..8).map(|_| host.spawn(&words(&line))).collect();
        while !started.is_empty() {
            let index = usize::try_from(seeded.below(started.len() as u64)).expect("small");
            std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US / 4)));
            let one = started.swap_remove(index);
            one.signal(Signal::KILL);
            assert_eq!(one.end().code, -9);
        }
        none_is_left(&marker);
    }
    the_next_command_clears(&host, &before);
}

#[test]
fn fifty_at_once_all_succeed_and_leave_nothing() {
    let host = Host::new();
    let before = mounts(&host);
    let line = probe_line(&[], &["exit", "7"]);
    let started: Vec<Started> = (0..50).map(|_| host.spawn(&words(&line))).collect();
    for one in started {
        one.end().exits(7);
    }
    assert_eq!(kept(&host), BTreeSet::new());
    assert_eq!(mounts(&host), before);
}

#[test]
fn a_killed_run_beside_others_does_not_disturb_them() {
    let host = Host::new();
    let marker = marker("beside");
    let mut steady = host.spawn(&words(&probe_line(&[], &["trap", "TERM", "3", &marker])));
    steady.wait_for("ready");
    for _ in 0..5 {
        let mut other = host.spawn(&words(&probe_line(&[], &["trap", "TERM", "3", &marker])));
        other.wait_for("ready");
        other.signal(Signal::KILL);
        other.end();
        host.probe(&[], &["true"]).exits(0);
    }
    assert_eq!(host.containers().len(), 1, "the one that runs was cleared away, or a dead one was not");
    steady.signal(Signal::TERM);
    steady.wait_for("SIGTERM");
    steady.signal(Signal::TERM);
    steady.end().exits(3);
    assert_eq!(kept(&host), BTreeSet::new());
}

#[test]
fn a_tool_ends_when_its_orchestrator_dies() {
    let host = Host::new();
    let marker = marker("orphan");
    // The orchestrator holds the other end of the tool's standard input and does nothing else.
    let script = "\"$@\" <fifo & exec >fifo; echo hello; exec sleep 600";
    let line = strict_line(&[], judge::program(), &["cat", &marker]);
    let mut command = host.command("/bin/sh");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("the folder is ours");
    command.args(["-c", script, "sh"]).arg(crate::harness::cuddy()).args(&line);
    let mut orchestrator = Started::new(command);
    orchestrator.wait_for("hello");
    orchestrator.signal(Signal::KILL);
    // The tool holds the pipes of its orchestrator: this returns when it is gone.
    orchestrator.end();
    none_is_left(&marker);
    assert_eq!(kept(&host), BTreeSet::new());
}

#[test]
fn folders_that_a_container_nested_without_end_are_removed_with_few_descriptors() {
    let host = Host::new();
    let payload = format!("{}:/payload:ro", crate::payload::program().display());
    let mut command = host.command("/bin/sh");
    command.args(["-c", "ulimit -n 64; exec \"$@\"", "sh"]).arg(crate::harness::cuddy());
    command.args(["run", "-v", &payload, "-v", "/deep", "@host", "/payload", "deep", "/deep", "3000"]);
    let ended = Started::new(command).end().exits(0);
    assert_eq!(ended.stderr, "");
    assert_eq!(kept(&host), BTreeSet::new());
}

/// The folder of a dead container with this record, and what it should name.
fn dead(host: &Host, byte: &str, record: &serde_json::Value) -> String {
    let id = byte.repeat(32);
    let folder = host.data().join("containers").join(&id);
    fs::create_dir_all(&folder).expect("the data folder is ours");
    let mut whole = serde_json::json!({
        "version": 2, "id": id, "name": null, "image": "x", "image_id": null, "layers": [],
        "stage": null, "init": null, "cgroup": null, "volumes": [],
    });
    for (key, value) in record.as_object().expect("an object") {
        whole[key] = value.clone();
    }
    fs::write(folder.join("state.json"), whole.to_string()).expect("the folder is ours");
    format!("containers/{id}")
}

#[test]
fn what_cannot_be_cleared_away_stays_with_its_record_and_is_told() {
    let host = Host::new();
    host.probe(&[], &["true"]).exits(0);
    let known = dead(&host, "aa", &serde_json::json!({}));
    let cgroup = dead(&host, "bb", &serde_json::json!({"cgroup": "/not/a/containers"}));
    let newer = dead(&host, "cc", &serde_json::json!({"version": 3}));
    let canary = host.write("canary/file", "kept");
    let volume = canary.parent().expect("it lies in a folder");
    let elsewhere = dead(&host, "dd", &serde_json::json!({"volumes": [volume]}));
    let next = host.probe(&[], &["true"]).exits(0);
    assert_eq!(kept(&host), BTreeSet::from([cgroup.clone(), newer, elsewhere]), "{known} goes");
    assert!(host.data().join(cgroup).join("state.json").exists());
    assert!(canary.exists(), "a record led out of cuddy's folder");
    let lines: Vec<&str> = next.stderr.lines().collect();
    assert!(lines.len() == 2, "one line for the cgroup, one for the two records: {lines:?}");
    assert!(lines[0].contains("`bbbbbbbbbbbb`") && lines[1].contains("2 ("), "{lines:?}");
}

#[test]
fn a_data_folder_that_others_may_write_to_is_not_used() {
    let host = Host::new();
    host.probe(&[], &["true"]).exits(0);
    let leftover = dead(&host, "aa", &serde_json::json!({}));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(host.data(), open).expect("the folder is ours");
    for line in [
        &["run", "@host", "true"][..],
        &["mcp", "run", "--", "true"],
        &["run", "--pull", "never", "it", "true"],
    ] {
        let refused = host.cuddy(line).exits(125);
        assert!(refused.stderr.contains("can be written by other users"), "{}", refused.stderr);
    }
    assert_eq!(kept(&host), BTreeSet::from([leftover]));
}
