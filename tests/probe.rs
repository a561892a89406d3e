//! The oracle itself: the probe harms no host, sees an open surface as open, and its golden lists are whole.
//!
//! What cuddy's sandboxes look like is judged elsewhere, with the same lists.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::disallowed_methods, reason = "tests learn from the environment what must not be skipped")]

#[path = "probe/judge.rs"]
mod judge;

use std::fs;
use std::process::Command;

const STRICT: &str = include_str!("golden/surface-strict.txt");
const DEFAULT: &str = include_str!("golden/surface-default.txt");

#[test]
fn the_probe_refuses_to_attack_without_being_told_that_it_is_inside() {
    for view in ["surface", "files", "all"] {
        let ended = Command::new(judge::program()).arg(view).output().expect("the probe starts");
        assert_eq!(ended.status.code(), Some(64), "`probe {view}` did not refuse");
        assert!(ended.stdout.is_empty(), "`probe {view}` printed before it refused");
    }
}

#[test]
fn the_probe_refuses_to_attack_in_the_first_user_namespace() {
    let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
    if map.split_whitespace().ne(["0", "0", "4294967295"]) {
        return skipped("userns-first", "these tests run in a user namespace themselves");
    }
    let ended =
        Command::new(judge::program()).args(["surface", "inside"]).output().expect("the probe starts");
    assert_eq!(ended.status.code(), Some(64), "the probe did not refuse");
    assert!(ended.stdout.is_empty(), "the probe printed before it refused");
}

#[test]
fn every_attempt_stands_in_both_golden_lists() {
    let Some(surface) = open_surface() else { return };
    for (name, golden) in [("strict", STRICT), ("default", DEFAULT)] {
        let unmatched: Vec<_> =
            judge::wrong(&surface, golden).into_iter().filter(|line| line.contains("listed")).collect();
        assert!(unmatched.is_empty(), "surface-{name}.txt:\n{}", unmatched.join("\n"));
    }
}

#[test]
fn the_strict_list_finds_fault_with_namespaces_that_have_no_filter() {
    let Some(surface) = open_surface() else { return };
    let wrong = judge::wrong(&surface, STRICT).join("\n");
    let closed = [
        "unshare_reach",
        "clone3_reach",
        "setns_reach",
        "mount_reach",
        "ioctl_tiocsti_reach",
        "ioctl_tiocsti_high_reach",
    ];
    for name in closed {
        assert!(wrong.contains(&format!("`{name}` gave")), "an open `{name}` was not seen as open:\n{wrong}");
    }
}

/// The attempts in fresh namespaces with neither filter nor dropped rights: all that a kernel lets a user reach.
fn open_surface() -> Option<Vec<serde_json::Value>> {
    let ended = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc"])
        .args(["--net", "--ipc", "--uts", "--cgroup"])
        .arg(judge::program())
        .args(["surface", "inside"])
        .output()
        .expect("util-linux is installed");
    if !ended.status.success() {
        skipped(
            "userns",
            &format!("no user namespaces here: {}", String::from_utf8_lossy(&ended.stderr).trim()),
        );
        return None;
    }
    Some(judge::lines(&ended.stdout))
}

/// Says so on standard error, and fails where `CUDDY_REQUIRE` names the ability.
fn skipped(ability: &str, reason: &str) {
    let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
    assert!(
        !required.split([',', ' ']).any(|word| word == ability),
        "CUDDY_REQUIRE names `{ability}`: {reason}"
    );
    eprintln!("SKIPPED ({ability}): {reason}");
}
