//! What is left when a gateway ends, by itself or by SIGKILL under load: no process, no mount, no cgroup, and after
//! the next command no file of a container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Place, eventually, fixture, text};
use crate::wire::{Session, said};

/// Starts and stops of one test; `CUDDY_TEST_STARTS` says another number, a release is tried with 1,000.
const STARTS: usize = 12;

/// The next mark of this test program.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// How the processes, mounts and cgroups of one test are known.
pub(crate) struct Traces {
    mark: String,
    mounts: BTreeSet<String>,
}

impl Traces {
    pub(crate) fn new(place: &Place) -> Self {
        // The fixture takes any number of entries for a page; this one is nobody else's.
        let number = 1_000_000 * u64::from(std::process::id()) + MARKS.fetch_add(1, Ordering::Relaxed);
        Self { mark: format!("4{number:015}"), mounts: mounts(place) }
    }

    /// Arguments of the fixture with the mark of this test.
    pub(crate) fn mark(&self, arguments: &[&str]) -> Vec<String> {
        let marked = arguments.iter().copied().chain(["--page", self.mark.as_str()]);
        marked.map(str::to_owned).collect()
    }

    /// Processes that have the mark, or a path of this place, in their command line or environment.
    fn processes(&self, place: &Place) -> Vec<String> {
        let place = text(&place.path("")).trim_end_matches('/').to_owned();
        let ours = std::process::id().to_string();
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let numbers = numbers.filter(|name| *name != ours && name.bytes().all(|b| b.is_ascii_digit()));
        let lines = numbers.filter_map(|number| {
            let read = |file: &str| fs::read(format!("/proc/{number}/{file}")).unwrap_or_default();
            let line = [read("cmdline"), read("environ")].concat();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(&self.mark) || line.contains(&place)).then(|| format!("{number}: {line:.300}"))
        });
        lines.collect()
    }

    pub(crate) fn some_run(&self, place: &Place) -> bool {
        !self.processes(place).is_empty()
    }

    /// Nothing runs and nothing is mounted; and after the next command nothing lies about.
    pub(crate) fn none_is_left(&self, place: &Place) {
        let mut left = Vec::new();
        eventually("processes are left", || {
            left = self.processes(place);
            left.is_empty()
        });
        assert_eq!(mounts(place), self.mounts, "mounts are left");
        for next in [&["mcp", "run", "--", "/bin/true"][..], &["mcp", "ps"]] {
            let mut command = place.cuddy();
            command.args(next);
            let (status, _, said) = crate::harness::output(command, place);
            assert!(status.success(), "the next command, {next:?}: {status}\n{said}");
        }
        for folder in ["containers", "names", "volumes"] {
            let kept = names(&place.path("data").join("cuddy").join(folder));
            assert!(kept.is_empty(), "{folder} are left: {kept:?}");
        }
        let gateways = names(&place.path("run").join("cuddy/gateways"));
        assert!(gateways.is_empty(), "gateways are left: {gateways:?}");
        assert!(cgroups(place).is_empty(), "cgroups are left: {:?}", cgroups(place));
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The mounts of our namespace that are in this place.
fn mounts(place: &Place) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let place = text(&place.path("")).to_owned();
    table.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
}

/// cgroups that containers of this place wrote down and that are still there.
fn cgroups(place: &Place) -> Vec<String> {
    let records = names(&place.path("data").join("cuddy/containers"));
    records.into_iter().filter(|id| Path::new("/sys/fs/cgroup").join(id).exists()).collect()
}

/// A gateway in front of four servers that are started at once.
fn four_servers(place: &Place, traces: &Traces) -> Session {
    let server = json!({ "command": fixture(), "args": traces.mark(&[]), "start": "eager" });
    let servers: BTreeMap<_, _> = ["a", "b", "c", "d"].map(|name| (name, server.clone())).into();
    let config = place.write("gateway.json", &json!({ "version": 1, "servers": servers }).to_string());
    let mut gateway = place.cuddy();
    gateway.args(["mcp", "gateway", "--config", text(&config)]);
    Session::start(gateway, place)
}

#[test]
fn a_gateway_that_is_killed_under_load_leaves_nothing() {
    let place = Place::new();
    let traces = Traces::new(&place);
    let mut session = four_servers(&place, &traces);
    for server in ["a", "b", "c", "d"] {
        assert_eq!(said(&session.call(&format!("{server}__echo"), &json!({ "message": "up" }))), "up");
        for _ in 0..20 {
            session.ask(
                "tools/call",
                &json!({ "name": format!("{server}__wait"), "arguments": { "ms": 60_000 } }),
            );
            session.ask(
                "tools/call",
                &json!({ "name": format!("{server}__large"), "arguments": { "chars": 100_000 } }),
            );
        }
    }
    assert!(traces.some_run(&place), "the oracle sees no process even now");
    session.running.signal(Signal::KILL);
    session.running.ended();
    traces.none_is_left(&place);
}

#[test]
fn a_gateway_that_is_killed_while_its_servers_start_leaves_nothing() {
    let place = Place::new();
    let traces = Traces::new(&place);
    for round in 0..8 {
        let mut session = four_servers(&place, &traces);
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        session.running.signal(Signal::KILL);
        session.running.ended();
    }
    traces.none_is_left(&place);
}

#[test]
fn many_starts_and_stops_leave_nothing_and_grow_nothing() {
    let starts = std::env::var("CUDDY_TEST_STARTS").map_or(STARTS, |n| n.parse().expect("a number"));
    let place = Place::new();
    let traces = Traces::new(&place);
    let mut files = None;
    for round in 0..starts {
        let mut session = four_servers(&place, &traces);
        let message = format!("round {round}");
        assert_eq!(said(&session.call("c__echo", &json!({ "message": message }))), message);
        match round % 3 {
            0 => assert!(session.end().0.success(), "by the end of its input"),
            1 => {
                session.running.signal(Signal::TERM);
                session.running.ended();
            }
            _ => {
                session.running.signal(Signal::KILL);
                session.running.ended();
            }
        }
        if round >= 5 {
            // Logs and the audit grow; the number of files does not.
            let count = count_files(&place.path("data"));
            let most = *files.get_or_insert(count + 40);
            assert!(count <= most, "{count} files after {round} rounds, {most} at first");
        }
    }
    traces.none_is_left(&place);
}

fn count_files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { 1 + count_files(&entry.path()) } else { 1 }).sum()
}
