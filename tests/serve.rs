//! `mcp serve` as an orchestrator sees it: sandboxes that stay, commands brought into them, their files, what
//! may be asked for, and what is left when somebody dies.
//!
//! The probe, run inside, and the kernel's own `/proc` are the oracles. Nothing here measures time.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::disallowed_methods, reason = "tests learn from the environment what must not be skipped")]

#[path = "behaviour/harness.rs"]
#[expect(dead_code, reason = "other test programs use the rest of it")]
mod harness;
#[path = "probe/judge.rs"]
mod judge;
#[path = "serve/client.rs"]
mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use client::{Server, code, stdout};
use harness::Host;

const STRICT: &str = include_str!("golden/surface-strict.txt");
/// How long the kernel may take until what was killed is gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A host, its workspace, and a server that may give it to sandboxes.
fn served(flags: &[&str]) -> (Host, PathBuf, Server) {
    let host = Host::new();
    let workspace = fs::canonicalize(host.dir("ws")).expect("it was made");
    let mut line = vec!["--workspace", workspace.to_str().expect("ASCII")];
    line.extend(flags);
    let server = Server::start(&host, &line);
    (host, workspace, server)
}

/// The processes of the host whose command line holds this text.
fn processes_with(text: &str) -> Vec<i32> {
    let own = i32::try_from(std::process::id()).expect("it fits");
    let found = fs::read_dir("/proc").expect("/proc is mounted").flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (pid != own && String::from_utf8_lossy(&line).contains(text)).then_some(pid)
    });
    found.collect()
}

#[track_caller]
fn are_gone(text: &str) {
    let until = Instant::now() + GONE_WITHIN;
    while !processes_with(text).is_empty() {
        assert!(Instant::now() < until, "still there: {:?}", processes_with(text));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A text that no other process has in its command line.
fn marker(name: &str) -> String {
    let second = 100_000 + std::process::id() % 100_000;
    let digits: u32 = name.bytes().map(u32::from).sum();
    format!("{second}.{digits}")
}

/// `/proc/PID/status` without what says which process it is and what it has done so far.
fn status(pid: i32) -> BTreeMap<String, String> {
    const OWN: [&str; 11] = [
        "Name",
        "Tgid",
        "Ngid",
        "Pid",
        "PPid",
        "NStgid",
        "NSpid",
        "NSpgid",
        "NSsid",
        "voluntary_ctxt_switches",
        "nonvoluntary_ctxt_switches",
    ];
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let kept = fields.filter(|(name, _)| !OWN.contains(name) && *name != "State");
    let sizes = ["Vm", "Rss", "Hugetlb", "CoreDumping", "THP", "SigQ"];
    let kept = kept.filter(|(name, _)| !sizes.iter().any(|size| name.starts_with(size)));
    kept.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn namespaces(pid: i32) -> BTreeMap<String, PathBuf> {
    let folder = PathBuf::from(format!("/proc/{pid}/ns"));
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"];
    let link = |name: &&str| {
        (String::from(*name), fs::read_link(folder.join(name)).unwrap_or_else(|e| format!("{e}").into()))
    };
    names.iter().map(link).collect()
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    rest.split_whitespace().nth(1).expect("a parent").parse().expect("a number")
}

/// The only process whose command line is `sleep TEXT`, once it is there.
fn sleeper(text: &str) -> i32 {
    let until = Instant::now() + GONE_WITHIN;
    loop {
        let exact = |pid: &i32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = line.split('\0').collect();
            matches!(words[..], [program, second, ""] if program.ends_with("sleep") && second == text)
        };
        if let [pid] = processes_with(text).into_iter().filter(exact).collect::<Vec<_>>()[..] {
            return pid;
        }
        assert!(Instant::now() < until, "no process `sleep {text}`");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_brought_in_is_held_by_the_walls_that_hold_a_first_command() {
    let (host, workspace, mut server) = served(&[]);
    let (first, later) = (marker("first"), marker("later"));
    let workspace = workspace.to_str().expect("ASCII");
    let line = ["mcp", "run", "--workspace", workspace, "--", "sleep", &first];
    let alone = host.spawn(&line);
    let expected = sleeper(&first);
    let name = server.create(json!({}));
    server.good("sandbox_exec", json!({ "sandbox": name, "command": ["sleep", later], "background": true }));
    let brought_in = sleeper(&later);
    assert_eq!(status(brought_in), status(expected), "what the kernel says of both");
    let limits = |pid| fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    assert_eq!(limits(brought_in), limits(expected));
    // Its parent keeps it, and that one's parent, outside, watches: a child of the stage, as the first
    // process is.
    let keeper = parent(brought_in);
    let stage = parent(parent(keeper));
    let all = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_first = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inside = text.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let ppid = format!("PPid:\t{stage}");
        text.lines().any(|line| line == ppid) && inside.split_whitespace().last() == Some("1")
    };
    let init = pids.filter(is_first).collect::<Vec<_>>();
    let [init] = init[..] else { panic!("first processes: {init:?}") };
    assert_eq!(namespaces(brought_in), namespaces(init));
    assert_eq!(namespaces(keeper), namespaces(init));
    let cgroup = |pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    assert_eq!(cgroup(brought_in), cgroup(init));
    drop(alone);
}

#[test]
fn every_attempt_of_a_command_brought_in_gets_the_golden_answer() {
    let (_host, workspace, mut server) = served(&[]);
    let probe = workspace.join("probe");
    fs::copy(judge::program(), &probe).expect("the probe was built");
    let name = server.create(json!({}));
    let mut view = |words: &[&str]| {
        let mut command = vec![probe.to_str().expect("ASCII")];
        command.extend(words);
        let asked = json!({ "sandbox": name, "command": command, "output_bytes": 1 << 20 });
        judge::lines(stdout(&server.good("sandbox_exec", asked)).as_bytes())
    };
    let wrong = judge::wrong(&view(&["surface", "inside"]), STRICT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let identity = view(&["identity"]);
    let walls = identity.iter().find(|line| line["probe"] == "walls").expect("the probe tells of walls");
    assert_eq!((&walls["no_new_privs"], &walls["seccomp"]), (&json!(1), &json!(2)), "{walls}");
}

#[test]
fn a_command_gives_its_output_its_errors_and_its_code() {
    let (_host, workspace, mut server) = served(&[]);
    let name = server.create(json!({ "environment": { "ONE": "1" } }));
    let script = "cat; echo $ONE $TWO; pwd; echo oh >&2; exit 7";
    let asked = json!({ "sandbox": name, "script": script, "stdin": "in\n", "environment": { "TWO": "2" } });
    let done = server.good("sandbox_exec", asked);
    assert_eq!(stdout(&done), format!("in\n1 2\n{}\n", workspace.display()));
    assert_eq!((&done["stderr"], &done["exit_code"]), (&json!("oh\n"), &json!(7)));
    let gone = server.refused("sandbox_exec", json!({ "sandbox": name, "command": ["no-such-program"] }));
    assert_eq!(code(&gone), "command_not_found");
    let lost = server
        .refused("sandbox_exec", json!({ "sandbox": name, "command": ["true"], "workdir": "/no/such" }));
    assert_eq!(code(&lost), "not_found");
    let neither = server.refused("sandbox_exec", json!({ "sandbox": name }));
    assert_eq!(code(&neither), "invalid_arguments");
}

#[test]
fn output_comes_as_progress_and_is_read_on_from_a_cursor() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let script = "i=0; while [ $i -lt 2000 ]; do echo \"größe $i\"; i=$((i+1)); done";
    let asked = json!({ "sandbox": name, "script": script, "output_bytes": 1000 });
    let mut seen = server.good_with_progress("sandbox_exec", asked);
    assert!(!server.progress.is_empty() && server.progress.windows(2).all(|two| two[0] < two[1]));
    let mut text = stdout(&seen);
    assert_eq!(seen["truncated"], true);
    while seen["truncated"] == true {
        let asked = json!({ "sandbox": name, "exec": seen["exec"], "cursor": seen["next_cursor"] });
        seen = server.good("sandbox_logs", asked);
        text.push_str(&stdout(&seen));
    }
    let expected: String = (0..2000).map(|i| format!("größe {i}\n")).collect();
    assert_eq!(text, expected);
}

#[test]
fn a_command_that_runs_out_of_time_ends_with_all_it_started() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let mark = marker("time");
    let script =
        format!("setsid sleep {mark} & (setsid sh -c 'sleep {mark} & wait' &) ; echo up; sleep {mark}");
    let asked = json!({ "sandbox": name, "script": script, "timeout_ms": 1500 });
    let late = server.refused("sandbox_exec", asked);
    assert_eq!(code(&late), "timeout");
    assert_eq!(late["data"]["stdout"], "up\n");
    are_gone(&mark);
    server.good("sandbox_exec", json!({ "sandbox": name, "command": ["true"] }));
}

#[test]
fn what_a_command_leaves_behind_lives_on_and_obeys_the_next() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let mark = marker("behind");
    let script = format!("sleep {mark} >/dev/null 2>&1 & echo $!");
    let done = server.good("sandbox_exec", json!({ "sandbox": name, "script": script }));
    let pid = stdout(&done).trim().to_owned();
    sleeper(&mark);
    let kill = json!({ "sandbox": name, "script": format!("kill {pid}") });
    assert_eq!(server.good("sandbox_exec", kill)["exit_code"], 0);
    are_gone(&mark);
}

#[test]
fn a_call_that_is_cancelled_ends_its_command() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let mark = marker("cancel");
    let asked = json!({ "sandbox": name, "script": format!("sleep {mark} & sleep {mark}") });
    let id = server.send("sandbox_exec", asked);
    let until = Instant::now() + GONE_WITHIN;
    while processes_with(&mark).len() < 3 {
        assert!(Instant::now() < until, "the command did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.cancel(id);
    are_gone(&mark);
    let asked = json!({ "sandbox": name, "exec": 1, "wait_ms": 20_000 });
    assert_eq!(server.good("sandbox_logs", asked)["state"], "ended");
}

#[test]
fn everything_is_gone_when_the_server_is_killed() {
    let (host, _workspace, mut server) = served(&[]);
    let mark = marker("owner");
    for _ in 0..3 {
        let name = server.create(json!({}));
        let asked = json!({ "sandbox": name, "command": ["sleep", mark], "background": true });
        server.good("sandbox_exec", asked);
    }
    let until = Instant::now() + GONE_WITHIN;
    while processes_with(&mark).len() < 3 {
        assert!(Instant::now() < until, "the commands did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(host.containers().len(), 3);
    server.kill();
    are_gone(&mark);
    let until = Instant::now() + GONE_WITHIN;
    while !host.containers().is_empty() {
        assert!(Instant::now() < until, "still there: {:?}", host.containers());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_sandbox_whose_holder_is_killed_is_told_as_stopped_and_its_neighbour_lives() {
    let (_host, _workspace, mut server) = served(&[]);
    let (first, second) = (server.create(json!({})), server.create(json!({})));
    let mark = marker("holder");
    let asked = json!({ "sandbox": first, "command": ["sleep", mark], "background": true });
    server.good("sandbox_exec", asked);
    // sleep, its keeper, who watches, the stage, the holder.
    let holder = (0..4).fold(sleeper(&mark), |pid, _| parent(pid));
    assert_eq!(parent(holder), server.pid(), "the holder is the server's child");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(holder).expect("a process"),
        rustix::process::Signal::KILL,
    )
    .expect("it is ours");
    are_gone(&mark);
    assert_eq!(
        code(&server.refused("sandbox_exec", json!({ "sandbox": first, "command": ["true"] }))),
        "state"
    );
    let listed = server.good("sandbox_list", json!({}));
    let states: Vec<&Value> =
        listed["sandboxes"].as_array().expect("a list").iter().map(|s| &s["state"]).collect();
    assert_eq!(states, ["stopped", "running"]);
    server.good("sandbox_exec", json!({ "sandbox": second, "command": ["true"] }));
    server.good("sandbox_remove", json!({ "sandbox": first }));
}

#[test]
fn processes_inside_cannot_stop_what_holds_them() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let script = "kill -9 1; kill -STOP 1; kill -TERM -1; cat /proc/1/environ; ls -l /proc/1/fd /proc/1/exe";
    server.good("sandbox_exec", json!({ "sandbox": name, "script": script }));
    let script =
        "for p in /proc/[0-9]*; do n=${p#/proc/}; [ $n = $$ ] || kill -9 $n; done 2>/dev/null; echo on";
    let done = server.raw("sandbox_exec", json!({ "sandbox": name, "script": script }));
    assert!(done["structuredContent"].is_object(), "{done}");
    let done = server.good("sandbox_exec", json!({ "sandbox": name, "script": "cat /proc/1/comm" }));
    assert_eq!(stdout(&done), "init\n");
}

// CVE-2019-5736.
#[test]
fn who_hunts_for_the_programs_of_commands_that_are_brought_in_finds_none_to_write() {
    let (_host, workspace, mut server) = served(&[]);
    let script = workspace.join("by-our-own-program");
    fs::write(&script, "#!/proc/self/exe\n").expect("ours");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    let name = server.create(json!({}));
    let hunt = "while [ ! -e stop ]; do for p in /proc/[0-9]*; do \
                if (: >> $p/exe) 2>/dev/null; then echo open $p; fi; done; done; echo looked";
    let hunter = json!({ "sandbox": name, "script": hunt, "background": true });
    let hunter = server.good("sandbox_exec", hunter)["exec"].clone();
    for _ in 0..20 {
        for command in [script.to_str().expect("ASCII"), "/proc/self/exe", "true"] {
            server.raw("sandbox_exec", json!({ "sandbox": name, "command": [command] }));
        }
    }
    let stop = json!({ "sandbox": name, "path": workspace.join("stop"), "content": "" });
    server.good("sandbox_write", stop);
    let mut seen = json!({ "state": "running", "next_cursor": 0 });
    let mut text = String::new();
    while seen["state"] == "running" {
        let asked =
            json!({ "sandbox": name, "exec": hunter, "cursor": seen["next_cursor"], "wait_ms": 20_000 });
        seen = server.good("sandbox_logs", asked);
        text.push_str(&stdout(&seen));
    }
    assert_eq!(text, "looked\n");
}

#[test]
fn commands_and_the_end_of_their_sandbox_may_come_in_any_order() {
    let (_host, _workspace, mut server) = served(&[]);
    for _ in 0..5 {
        let name = server.create(json!({}));
        let exec = json!({ "sandbox": name, "script": "sleep 0.01; echo on" });
        let mut ids: Vec<u64> = (0..6).map(|_| server.send("sandbox_exec", exec.clone())).collect();
        ids.push(server.send("sandbox_remove", json!({ "sandbox": name })));
        ids.extend((0..3).map(|_| server.send("sandbox_exec", exec.clone())));
        for id in ids {
            let reply = server.answer(id);
            let found = &reply["structuredContent"];
            let is_known = found["exit_code"].is_number()
                || found["state"] == "removed"
                || ["state", "sandbox_ended", "not_found", "failed"]
                    .iter()
                    .any(|code| found["code"] == *code);
            assert!(is_known, "{reply}");
        }
    }
    assert_eq!(server.good("sandbox_list", json!({}))["sandboxes"], json!([]));
}

#[test]
fn several_sandboxes_live_at_once_and_see_nothing_of_each_other() {
    let (_host, _workspace, mut server) = served(&[]);
    let ids: Vec<u64> = (0..6)
        .map(|i| server.send("sandbox_create", json!({ "name": format!("box-{i}"), "workspaces": [] })))
        .collect();
    for id in ids {
        let reply = server.answer(id);
        assert_eq!(reply["isError"], false, "{reply}");
    }
    for i in 0..6 {
        let asked = json!({ "sandbox": format!("box-{i}"), "path": "/tmp/mine", "content": i.to_string() });
        server.good("sandbox_write", asked);
    }
    for i in 0..6 {
        let asked =
            json!({ "sandbox": format!("box-{i}"), "script": "cat /tmp/mine; set -- /proc/[0-9]*; echo $#" });
        // Its first process, the keeper and the shell.
        assert_eq!(stdout(&server.good("sandbox_exec", asked)), format!("{i}3\n"));
    }
    let full = server.refused("sandbox_create", json!({ "name": "box-1" }));
    assert_eq!(code(&full), "exists");
}

#[test]
fn files_are_read_written_and_copied_as_they_are_inside() {
    let (_host, workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let inside = |file: &str| json!({ "sandbox": name, "path": format!("{}/{file}", workspace.display()) });
    let with = |mut asked: Value, more: Value| {
        asked.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        asked
    };
    server.good("sandbox_write", with(inside("a/b.txt"), json!({ "content": "grüße" })));
    assert_eq!(fs::read_to_string(workspace.join("a/b.txt")).expect("it was written"), "grüße");
    let bytes = json!({ "content": "AP8=", "encoding": "base64", "mode": "new" });
    server.good("sandbox_write", with(inside("raw"), bytes.clone()));
    assert_eq!(fs::read(workspace.join("raw")).expect("it was written"), [0, 255]);
    assert_eq!(code(&server.refused("sandbox_write", with(inside("raw"), bytes))), "exists");
    assert_eq!(server.good("sandbox_read", inside("raw"))["content"], "AP8=");
    server.good("sandbox_write", with(inside("a/b.txt"), json!({ "content": "!", "mode": "append" })));
    let part = server.good("sandbox_read", with(inside("a/b.txt"), json!({ "offset": 7, "limit": 1 })));
    assert_eq!((&part["content"], &part["bytes_total"]), (&json!("!"), &json!(8)));
    let listed = server.good("sandbox_read", inside("."));
    let names: Vec<&str> =
        listed["entries"].as_array().expect("a list").iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(names, ["a", "raw"]);
    let other = server.create(json!({ "workspaces": [] }));
    let from = format!("{}/a/b.txt", workspace.display());
    let copy = json!({ "from_sandbox": name, "from_path": from, "to_sandbox": other, "to_path": "/tmp/c" });
    server.good("sandbox_copy", copy);
    let read = server.good("sandbox_read", json!({ "sandbox": other, "path": "/tmp/c" }));
    assert_eq!(read["content"], "grüße!");
    let denied =
        server.refused("sandbox_write", json!({ "sandbox": other, "path": "/etc/x", "content": "" }));
    assert_eq!(code(&denied), "denied");
    let half: Vec<_> = fs::read_dir(&workspace).expect("ours").flatten().map(|e| e.file_name()).collect();
    assert_eq!(half.len(), 2, "nothing is left beside the files: {half:?}");
}

#[test]
fn no_link_that_a_sandbox_makes_leads_out_of_it() {
    let (host, workspace, mut server) = served(&[]);
    let secret = host.write("secret/key", "hidden");
    symlink(&secret, workspace.join("key")).expect("ours");
    symlink(secret.parent().expect("a folder"), workspace.join("folder")).expect("ours");
    let name = server.create(json!({}));
    let path = |file: &str| format!("{}/{file}", workspace.display());
    let read = server.refused("sandbox_read", json!({ "sandbox": name, "path": path("key") }));
    assert_eq!(code(&read), "not_found");
    for file in ["key", "folder/new"] {
        let asked = json!({ "sandbox": name, "path": path(file), "content": "x", "mode": "append" });
        server.raw("sandbox_write", asked);
    }
    assert_eq!(fs::read_to_string(&secret).expect("it is there"), "hidden");
    assert!(!secret.with_file_name("new").exists());
    // Below the allowed folder by its name, elsewhere by the link.
    let asked = json!({ "workspaces": [{ "path": path("folder") }] });
    let through = server.refused("sandbox_create", asked);
    assert!(through["message"].as_str().expect("a message").contains("folder"), "{through}");
    let load = server.refused("image_load", json!({ "path": path("key") }));
    assert!(code(&load) == "failed" || code(&load) == "denied", "{load}");
    let plain = fs::create_dir(workspace.join("plain"));
    plain.expect("ours");
    server.create(json!({ "workspaces": [{ "path": path("plain") }] }));
}

#[test]
fn nothing_above_what_the_server_was_started_with_can_be_asked_for() {
    let (host, workspace, mut server) = served(&["--memory", "1g", "--pids", "200"]);
    // A limit that is named and cannot be held here is refused: then only the ceiling is of interest.
    let outside = host.dir("outside");
    for (asked, expected) in [
        (json!({ "network": "host" }), "denied"),
        (json!({ "workspaces": [{ "path": outside }] }), "denied"),
        (json!({ "workspaces": [{ "path": workspace.join("..") }] }), "invalid_arguments"),
        (json!({ "read_only": ["/etc/shadow"] }), "denied"),
        (json!({ "memory": "2g" }), "denied"),
        (json!({ "processes": 201 }), "denied"),
        (json!({ "privileged": true }), "invalid_arguments"),
        (json!({ "name": "../x" }), "invalid_arguments"),
    ] {
        assert_eq!(code(&server.refused("sandbox_create", asked.clone())), expected, "{asked}");
    }
    let tools = server.request("tools/list", json!({}));
    let names: BTreeSet<&str> =
        tools["tools"].as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(!names.contains("image_pull") && names.contains("image_load"), "{names:?}");
}

#[test]
fn files_of_the_workspaces_can_be_changed_without_a_sandbox_and_a_sandbox_sees_it() {
    let (_host, workspace, mut server) = served(&[]);
    let file = workspace.join("note.txt");
    server.good("write_file", json!({ "path": file, "content": "from outside" }));
    let name = server.create(json!({}));
    let asked = json!({ "sandbox": name, "script": "cat note.txt; echo ', from inside' >> note.txt" });
    assert_eq!(stdout(&server.good("sandbox_exec", asked)), "from outside");
    let read = server.raw("read_text_file", json!({ "path": file }));
    assert!(read["content"][0]["text"].as_str().unwrap_or_default().contains("from inside"), "{read}");
    let (_host, _workspace, mut alone) = served(&["--no-files"]);
    let tools = alone.request("tools/list", json!({}));
    let names = tools["tools"].as_array().expect("a list").iter().filter_map(|tool| tool["name"].as_str());
    assert!(
        names.clone().count() > 10
            && names.clone().all(|n| n.starts_with("sandbox_") || n.starts_with("image_"))
    );
}

#[test]
fn a_command_that_never_stops_writing_harms_only_itself() {
    let (_host, _workspace, mut server) = served(&[]);
    let name = server.create(json!({}));
    let script = "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let before = server.memory_kib();
    let late =
        server.refused("sandbox_exec", json!({ "sandbox": name, "script": script, "timeout_ms": 2000 }));
    assert_eq!(code(&late), "timeout");
    let lost = server.good("sandbox_logs", json!({ "sandbox": name, "exec": 1, "output_bytes": 10 }));
    assert!(lost["lost_bytes"].as_u64().expect("a number") > 0, "{lost}");
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "the server grew by {grown} KiB");
}

#[test]
fn a_server_whose_client_leaves_ends_with_its_sandboxes() {
    let (host, _workspace, mut server) = served(&[]);
    let mark = marker("leave");
    let name = server.create(json!({}));
    let asked = json!({ "sandbox": name, "command": ["sleep", mark], "background": true });
    server.good("sandbox_exec", asked);
    assert_eq!(server.close(), Some(0));
    are_gone(&mark);
    assert!(host.containers().is_empty());
}

#[test]
fn both_python_clients_can_use_it() {
    let Some(mcp) = installed() else { return };
    for client in ["client-1", "client-2"] {
        let host = Host::new();
        let workspace = fs::canonicalize(host.dir("ws")).expect("it was made");
        let calls = json!([
            ["sandbox_create", { "name": "one" }],
            ["sandbox_exec", { "sandbox": "one", "script": "echo hello from $((40+2))" }],
            ["sandbox_write", { "sandbox": "one", "path": workspace.join("f"), "content": "x" }],
            ["sandbox_read", { "sandbox": "one", "path": workspace.join("f") }],
            ["sandbox_remove", { "sandbox": "one" }],
        ]);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.py");
        let mut command: Command = host.command(mcp.join(client).join("bin/python"));
        command.arg(script).args(["--env", &format!("XDG_DATA_HOME={}", host.data().display())]);
        command.arg("--env").arg(format!("HOME={}", host.text("")));
        command.args(["--calls", &calls.to_string(), "--"]).arg(harness::cuddy());
        command.args(["mcp", "serve", "--workspace"]).arg(&workspace);
        let ended = command.output().expect("python starts");
        let text = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{client}: {}", String::from_utf8_lossy(&ended.stderr));
        let wire: Value = serde_json::from_str(&text).expect("the client prints JSON");
        let results: Vec<&Value> = wire["wire"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|entry| entry[1].get("result"))
            .filter(|result| result.get("content").is_some())
            .collect();
        assert_eq!(results.len(), 5, "{client}: {text}");
        assert!(results.iter().all(|result| result["isError"] == false), "{client}: {results:?}");
        assert_eq!(results[1]["structuredContent"]["stdout"], "hello from 42\n");
        assert_eq!(results[3]["structuredContent"]["content"], "x");
    }
}

/// The folder that `tests/mcp/setup` made. Without it the test is skipped, unless `CUDDY_REQUIRE` names `mcp`.
fn installed() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp");
    let folder = std::env::var_os("CUDDY_TEST_MCP").map_or(usual, PathBuf::from);
    if folder.join("stamp").is_file() {
        return Some(folder);
    }
    assert!(!harness::require("mcp", false));
    eprintln!("SKIPPED: no MCP clients in `{}`; tests/mcp/setup installs them", folder.display());
    None
}
