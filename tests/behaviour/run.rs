//! How a run ends: exit codes, signals, `--init`, the container's id and name, and what nobody may type.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Host, PROBE, is_root, names, probe_line, require};

// ── exit codes ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_command_s_own_exit_code_is_ours() {
    let host = Host::new();
    for code in [0, 1, 42, 124, 125, 126, 127, 255] {
        let ended = host.probe(&[], &["exit", &code.to_string()]).exits(code);
        assert_eq!(
            (ended.text(), ended.stderr),
            (String::new(), String::new()),
            "exit {code} prints nothing"
        );
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_be_executed_is_126() {
    let host = Host::new();
    for command in ["no-such-program", "/no/such/program"] {
        let ended = host.cuddy(&["run", "@host", command]).exits(127);
        assert!(ended.stderr.contains(command), "names what is missing: {}", ended.stderr);
        assert!(ended.stdout.is_empty());
    }
    let script = host.write("not-executable", "#!/bin/sh\n");
    let mount = format!("{}:/it:ro", script.display());
    for (program, flags) in [("/it", &["-v", &mount][..]), ("/etc", &[]), ("/etc/hostname", &[])] {
        let ended = host.cuddy(&[&["run"], flags, &["@host", program]].concat()).exits(126);
        assert!(ended.stderr.contains(program), "names what cannot be executed: {}", ended.stderr);
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn a_command_killed_by_a_signal_is_128_and_its_number() {
    let host = Host::new();
    for (name, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139), ("ABRT", 134), ("USR1", 138)] {
        // Process 1 of a namespace does not die of its own signals: with `--init` the command is not it.
        host.probe(&["--init"], &["kill", name]).exits(code);
    }
}

#[test]
fn what_cannot_be_run_is_125_and_says_which_word_is_wrong() {
    let host = Host::new();
    let lines: [(&[&str], &str); 24] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--memory", "lots"], "lots"),
        (&["--memory", "-1"], "-1"),
        (&["--cpus", "0.0.1"], "0.0.1"),
        (&["--pids-limit", "many"], "many"),
        (&["--ulimit", "nofile=9:1"], "nofile=9:1"),
        (&["--shm-size", "64q"], "64q"),
        (&["--network", "nowhere"], "nowhere"),
        (&["--add-host", "name:not-an-address"], "not-an-address"),
        (&["--cap-add", "NOPE"], "NOPE"),
        (&["--cap-drop", "CAP_NOPE"], "CAP_NOPE"),
        (&["--security-opt", "apparmor-is-great"], "apparmor-is-great"),
        (&["--security-opt", "seccomp=/no/such/profile.json"], "/no/such/profile.json"),
        (&["--stop-signal", "SIGNOPE"], "SIGNOPE"),
        (&["--stop-signal", "65"], "65"),
        (&["--stop-timeout", "soon"], "soon"),
        (&["--userns", "somebody"], "somebody"),
        (&["--name", "../up"], "../up"),
        (&["-e", "=value"], "`=…`"),
        (&["--env-file", "no-such-file"], "no-such-file"),
        (&["-w", "relative"], "relative"),
        (&["--device", "/etc/passwd"], "/etc/passwd"),
        (&["-v", "/a:relative"], "/a:relative"),
        (&["--mount", "type=nfs,dst=/a"], "nfs"),
    ];
    for (flags, word) in lines {
        host.probe(flags, &["true"]).is_refused(&[word]);
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn an_image_that_is_not_there_is_125_and_named() {
    let host = Host::new();
    for image in ["no-such-image", "no-such-image:tag", "registry.example/a/b"] {
        host.cuddy(&["run", "--pull", "never", image, "true"]).is_refused(&[image]);
    }
    host.cuddy(&["run", "UPPER/Case", "true"]).is_refused(&["UPPER/Case"]);
    host.cuddy(&["run", "a@sha256:00", "true"]).is_refused(&["sha256:00"]);
    host.cuddy(&["run", "@hots", "true"]).is_refused(&["@hots"]);
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn a_line_without_an_image_refused() {
    let host = Host::new();
    host.cuddy(&["run"]).is_refused(&["IMAGE"]);
    host.cuddy(&["run", "--rm"]).is_refused(&["IMAGE"]);
}

#[test]
fn a_platform_that_this_host_is_not_refused() {
    let host = Host::new();
    host.probe(&["--platform", "linux/s390x"], &["true"]).is_refused(&["linux/s390x"]);
    host.probe(&["--platform", "windows/amd64"], &["true"]).is_refused(&["windows/amd64"]);
    let own = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    host.probe(&["--platform", own], &["true"]).exits(0);
}

#[test]
fn a_host_without_a_home_is_told_how_to_name_one() {
    let host = Host::new();
    let mut command = host.cuddy_command(&["run", "@host", "true"]);
    command.env_remove("HOME").env_remove("XDG_DATA_HOME");
    crate::harness::Started::new(command).end().is_refused(&["XDG_DATA_HOME"]);
}

// ── signals ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn signals_sent_to_us_reach_the_command() {
    let host = Host::new();
    for (name, signal) in [
        ("SIGTERM", Signal::TERM),
        ("SIGHUP", Signal::HUP),
        ("SIGUSR1", Signal::USR1),
        ("SIGUSR2", Signal::USR2),
        ("SIGQUIT", Signal::QUIT),
        ("SIGINT", Signal::INT),
    ] {
        for flags in [&[][..], &["--init"]] {
            let mut running = host.spawn_probe(flags, &["trap", name, "7"]);
            running.wait_for("ready");
            running.signal(signal);
            running.wait_for(name);
            running.signal(signal);
            let ended = running.end().exits(7);
            assert_eq!(
                ended.text().matches(&format!("\"{name}\"")).count(),
                2,
                "each once: {}",
                ended.text()
            );
        }
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn a_signal_ends_a_command_that_does_not_handle_it() {
    let host = Host::new();
    let mut running = host.spawn_probe(&["--init", "-i"], &["winch"]);
    running.wait_for("size");
    running.signal(Signal::HUP);
    running.end_with_input_open().exits(129);
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn the_third_interrupt_ends_a_command_that_ignores_them() {
    let host = Host::new();
    let mut running = host.spawn_probe(&[], &["trap", "USR1", "0"]);
    running.wait_for("ready");
    for _ in 0..2 {
        let before = running.count("SIGINT");
        running.signal(Signal::INT);
        while running.count("SIGINT") == before {
            running.wait_more();
        }
    }
    running.signal(Signal::INT);
    running.end_with_input_open().exits(137);
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

// ── --init ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn with_init_nobody_stays_dead_and_unburied() {
    let host = Host::new();
    let seen = host.sees(&["--init"], &["orphans", "20"]);
    assert_eq!(seen.one("orphans")["made"], 20);
    assert_eq!(seen.one("orphans")["zombies"], 0);
}

#[test]
fn init_is_process_1_and_the_command_its_child() {
    let host = Host::new();
    let seen = host.sees(&["--init"], &["identity"]);
    assert_eq!(seen.one("session")["ppid"], 1);
    let seen = host.sees(&[], &["identity"]);
    assert_eq!((&seen.one("session")["pid"], &seen.one("session")["ppid"]), (&1.into(), &0.into()));
}

#[test]
fn what_the_command_leaves_running_ends_with_it() {
    let host = Host::new();
    for flags in [&[][..], &["--init"]] {
        // The daemon holds our pipes: were it left alive, their end would not come.
        let ended = host.probe(flags, &["daemon", "3600"]).exits(0);
        assert!(ended.text().contains("daemon"));
    }
}

// ── id, name, label ─────────────────────────────────────────────────────────────────────────────

#[test]
fn a_cidfile_holds_the_id_and_one_that_exists_is_left_alone() {
    let host = Host::new();
    let seen = host.sees(&["--cidfile", "id"], &["identity"]);
    let id = fs::read_to_string(host.path("id")).expect("the file was written");
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "an id: {id:?}");
    assert_eq!(seen.one("session")["hostname"], id[..12], "the host name is the short id");
    host.probe(&["--cidfile", "id"], &["true"]).is_refused(&["id"]);
    assert_eq!(fs::read_to_string(host.path("id")).expect("still there"), id);
    host.probe(&["--cidfile", "none/id"], &["true"]).is_refused(&["none/id"]);
}

#[test]
fn a_run_that_failed_leaves_no_cidfile() {
    let host = Host::new();
    host.probe(&["--cidfile", "id", "--user", "nobody-here"], &["true"]).is_refused(&["nobody-here"]);
    assert_eq!(names(&host.path("")), [""; 0]);
    let mut first = host.spawn_probe(&["--name", "one"], &["trap", "TERM", "0"]);
    first.wait_for("ready");
    host.probe(&["--cidfile", "id", "--name", "one"], &["true"]).is_refused(&["one"]);
    assert_eq!(names(&host.path("")), [""; 0]);
    first.signal(Signal::KILL);
    first.end();
    // Nothing begins that cannot be written down.
    let audit = host.data().join("audit/000000000001.jsonl");
    fs::remove_file(&audit).expect("it was written");
    fs::create_dir(&audit).expect("the folder is ours");
    host.probe(&["--cidfile", "id", "--name", "two"], &["true"]).is_refused(&["audit/000000000001.jsonl"]);
    assert_eq!(names(&host.path("")), [""; 0]);
    assert_eq!(host.containers(), [""; 0]);
    assert_eq!(names(&host.data().join("names")), [""; 0]);
}

#[test]
fn the_audit_says_which_verb_ran_what_and_how_it_ended() {
    let host = Host::new();
    host.probe(&[], &["exit", "7"]).exits(7);
    host.cuddy(&["mcp", "run", "--", "true"]).exits(0);
    let text = fs::read_to_string(host.data().join("audit/000000000001.jsonl")).expect("it was written");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("one object a line"));
    let said: Vec<Value> = lines.map(|line: Value| json!([line["verb"], line["outcome"]])).collect();
    let (run, mcp) = (json!(["run", "started"]), json!(["mcp run", "started"]));
    assert_eq!(said, [run, json!(["run", {"ended": 7}]), mcp, json!(["mcp run", {"ended": 0}])]);
}

#[test]
fn a_name_is_one_container_s_as_long_as_it_runs() {
    let host = Host::new();
    let mut first = host.spawn_probe(&["--name", "one"], &["trap", "TERM", "0"]);
    first.wait_for("ready");
    host.probe(&["--name", "one"], &["true"]).is_refused(&["one"]);
    host.probe(&["--name", "two"], &["true"]).exits(0);
    first.signal(Signal::TERM);
    first.wait_for("SIGTERM");
    first.signal(Signal::TERM);
    first.end().exits(0);
    host.probe(&["--name", "one"], &["true"]).exits(0);
}

#[test]
fn two_containers_of_one_host_do_not_see_each_other() {
    let host = Host::new();
    let mut first = host.spawn_probe(&[], &["trap", "TERM", "0"]);
    first.wait_for("ready");
    let seen = host.sees(&[], &["processes"]);
    assert_eq!(seen.all("process").count(), 1, "only itself: {seen:?}");
    assert_eq!(host.containers().len(), 1, "the second command did not clear the first away");
    first.signal(Signal::TERM);
    first.wait_for("SIGTERM");
    first.signal(Signal::TERM);
    first.end().exits(0);
}

#[test]
fn what_changes_nothing_inside_is_accepted_as_docker_does() {
    let host = Host::new();
    let flags = ["--label", "a=b", "-l", "c", "--stop-signal", "INT", "--stop-timeout", "3", "--rm"];
    host.probe(&flags, &["true"]).exits(0);
}

// ── the command line ────────────────────────────────────────────────────────────────────────────

#[test]
fn words_after_the_image_belong_to_the_command() {
    let host = Host::new();
    let line = probe_line(&[], &["argv", "--rm", "-h", "--", "--help", "-it", "", "a b", "*", "$HOME"]);
    let ended = host.cuddy(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let seen = ended.sees();
    let values = seen.one("argv")["values"].as_array().expect("a list");
    let words = [PROBE, "argv", "--rm", "-h", "--", "--help", "-it", "", "a b", "*", "$HOME"];
    assert_eq!(values.iter().map(|value| value.as_str().expect("text")).collect::<Vec<_>>(), words);
}

#[test]
fn switches_are_written_as_docker_takes_them() {
    let host = Host::new();
    for flags in
        [&["--rm=true", "--init=false"][..], &["--rm=false", "--rm"], &["-i=false"], &["--interactive=true"]]
    {
        assert_eq!(host.sees(flags, &["identity"]).one("session")["pid"], 1, "{flags:?}");
    }
    assert_eq!(host.sees(&["--init=true"], &["identity"]).one("session")["ppid"], 1);
    // Not a value of `-i`, but one more switch; there is no terminal here.
    host.probe(&["-it"], &["true"]).is_refused(&["TTY"]);
    host.probe(&["-ti=false"], &["true"]).exits(0);
    host.probe(&["--rm=perhaps"], &["true"]).is_refused(&["perhaps"]);
}

#[test]
fn zero_is_no_limit_and_minus_one_is_none_either() {
    let host = Host::new();
    for flags in [["--memory", "0"], ["--cpus", "0"], ["--pids-limit", "0"], ["--pids-limit", "-1"]] {
        assert_eq!(host.probe(&flags, &["true"]).exits(0).stderr, "", "{flags:?}");
    }
}

#[test]
fn a_current_folder_that_is_gone_is_told() {
    let host = Host::new();
    let gone = host.dir("gone");
    let mut shell = host.command("/bin/sh");
    shell.args(["-c", "rmdir \"$PWD\" && exec \"$0\" \"$@\""]).arg(crate::harness::cuddy());
    shell.args(["run", "@host", "true"]).current_dir(gone);
    crate::harness::Started::new(shell).end().is_refused(&["folder"]);
}

#[test]
fn many_containers_start_at_once() {
    let host = Host::new();
    let running: Vec<_> = (0..16).map(|code| host.spawn_probe(&[], &["exit", &code.to_string()])).collect();
    for (code, started) in (0..).zip(running) {
        assert_eq!(started.end().exits(code).stderr, "");
    }
    assert_eq!(host.containers(), [""; 0], "nothing is left behind");
}

#[test]
fn help_is_on_standard_output_and_names_the_flags() {
    let host = Host::new();
    let ended = host.cuddy(&["run", "--help"]).exits(0);
    for flag in
        ["--interactive", "--tty", "--env-file", "--cap-add", "--security-opt", "--cidfile", "--userns"]
    {
        assert!(ended.text().contains(flag), "`{flag}` is not in:\n{}", ended.text());
    }
    assert_eq!(ended.stderr, "");
}

#[test]
fn an_unknown_verb_is_1() {
    let host = Host::new();
    let ended = host.cuddy(&["frobnicate"]).exits(1);
    assert!(ended.stderr.contains("frobnicate") && ended.stdout.is_empty(), "{ended:?}");
}

#[test]
fn an_output_that_nobody_reads_is_no_crash_of_ours() {
    let host = Host::new();
    let line = "\"$0\" \"$@\" | head -c 1 >/dev/null; exit 0";
    let mut shell = host.command("/bin/bash");
    shell.args(["-c", line]).arg(crate::harness::cuddy()).args(["run", "--help"]);
    let ended = crate::harness::Started::new(shell).end().exits(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

// ── limits without delegation ───────────────────────────────────────────────────────────────────

#[test]
fn a_limit_that_this_host_cannot_hold_is_told_and_the_command_runs() {
    let host = Host::new();
    // Where the host can hold it nothing is said: tests/limits.rs looks at that.
    let ended = host.probe(&["--memory", "512m"], &["true"]).exits(0);
    if require("no-delegation", !ended.stderr.is_empty()) {
        assert!(ended.stderr.to_lowercase().contains("memory"), "names the limit: {}", ended.stderr);
        assert!(ended.stdout.is_empty());
    }
    host.probe(&["--memory", "1k"], &["true"]).is_refused(&["1k"]);
}

#[test]
fn the_host_s_user_namespace_is_for_root() {
    let host = Host::new();
    let ended = host.probe(&["--userns", "host"], &["identity"]);
    if is_root() {
        // Every id of the host as itself but the one that no map can hold, 4294967295.
        let map = ended.sees().one("ids")["uid_map"].as_str().expect("text").to_owned();
        let numbers: Vec<u32> = map.split(' ').map(|number| number.parse().expect("a number")).collect();
        for range in numbers.chunks(3) {
            assert_eq!(range[0], range[1], "{map}");
        }
        let count: u32 = numbers.chunks(3).map(|range| range[2]).sum();
        let ours = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
        let own = |line: &str| line.split_whitespace().nth(2).and_then(|count| count.parse::<u32>().ok());
        let available: u32 = ours.lines().filter_map(own).sum();
        assert!(count >= available - 1, "{map} is not all of {ours}");
    } else {
        ended.is_refused(&["--userns host"]);
    }
}
