//! Standard input, output and error: the command's alone, to the byte; pipes are the caller's own, and
//! nothing else of the caller's can be opened again through them. Signals go where they belong.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::{Host, Seen, Started, cuddy, probe_line};
use crate::judge;

/// More than any pipe holds, of every byte, in no simple order.
fn bytes() -> Vec<u8> {
    let mut state: u32 = 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(1 << 20).collect()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

#[test]
fn a_mebibyte_goes_in_and_comes_out_unchanged() {
    let host = Host::new();
    for flags in [&["-i"][..], &["-i", "--init"]] {
        let ended = host.cuddy_reading(&words(&probe_line(flags, &["cat"])), &bytes()).exits(0);
        assert!(ended.stdout == bytes(), "{} bytes came back and are not the same", ended.stdout.len());
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn standard_output_and_standard_error_stay_apart() {
    let host = Host::new();
    let ended = host.cuddy(&["run", "--rm", "@host", "/bin/sh", "-c", "echo out; echo err >&2"]).exits(0);
    assert_eq!((ended.text().as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn without_i_nothing_of_our_input_goes_in() {
    let host = Host::new();
    let ended = host.cuddy_reading(&words(&probe_line(&[], &["cat"])), b"secret").exits(0);
    assert_eq!(ended.stdout, b"");
    // Nor does the command wait for it.
    let mut running = host.spawn_probe(&[], &["cat"]);
    running.write(b"secret");
    assert_eq!(running.end_with_input_open().exits(0).stdout, b"");
}

#[test]
fn the_end_of_the_container_is_ours_though_our_input_stays_open() {
    let host = Host::new();
    host.spawn_probe(&["-i"], &["exit", "3"]).end_with_input_open().exits(3);
}

#[test]
fn the_command_sees_the_end_of_our_input() {
    let host = Host::new();
    let mut running = host.spawn_probe(&["-i"], &["cat"]);
    running.write(b"one");
    running.wait_for("one");
    running.write(b"two");
    running.wait_for("two");
    running.close_input();
    assert_eq!(running.end().exits(0).stdout, b"onetwo");
}

#[test]
fn the_command_has_the_caller_s_own_pipes_and_never_its_files() {
    let host = Host::new();
    let (reads, writes) = std::io::pipe().expect("a pipe");
    let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).expect("it is open").st_ino;
    let expected = format!("pipe:[{}]", inode(reads.as_fd()));
    let errors = host.write("errors", "");
    let line = probe_line(&["-i"], &["identity"]);
    let mut command = host.cuddy_command(&words(&line));
    command.stdin(reads).stderr(File::create(&errors).expect("it is ours")).stdout(Stdio::piped());
    let output = command.output().expect("cuddy starts");
    drop(writes);
    let seen = Seen(judge::lines(&output.stdout));
    let target = |fd: i32| {
        let found = seen.all("descriptor").find(|line| line["fd"] == fd).expect("it is open");
        found["target"].as_str().expect("text").to_owned()
    };
    assert_eq!(target(0), expected);
    for fd in [1, 2] {
        assert!(target(fd).starts_with("pipe:["), "{}", target(fd));
    }
}

#[test]
fn what_comes_from_and_goes_to_files_arrives_through_pipes() {
    let host = Host::new();
    let (log, input) = (host.write("log", "before\n"), host.write("input", bytes()));
    let script = "wc -c; echo late >&2; for fd in 0 1 2; do [ -p /proc/self/fd/$fd ] || echo $fd; done";
    let append = || File::options().append(true).open(&log).expect("it is ours");
    let mut command = host.cuddy_command(&["run", "-i", "@host", "/bin/sh", "-c", script]);
    command.stdin(File::open(&input).expect("it is ours")).stdout(append()).stderr(append());
    assert!(command.status().expect("cuddy starts").success());
    let mut lines: Vec<String> =
        std::fs::read_to_string(&log).expect("it is ours").lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(lines, ["before", "1048576", "late"]);
}

#[test]
fn a_caller_that_forgets_its_children_gets_the_command_s_code_all_the_same() {
    let host = Host::new();
    for flags in [&[][..], &["--init"]] {
        let mut caller = host.command("/bin/bash");
        caller.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]).arg(cuddy());
        caller.args(probe_line(flags, &["exit", "7"]));
        Started::new(caller).end().exits(7);
    }
}

#[test]
fn children_of_whoever_became_cuddy_outlive_a_start_that_fails() {
    let host = Host::new();
    let mut caller = host.command("/bin/bash");
    caller.args(["-c", "sleep 1000 2>/dev/null & echo $!; exec \"$0\" \"$@\""]).arg(cuddy());
    caller.args(["run", "--mount", "type=bind,src=/nowhere,dst=/x", "@host", "true"]);
    caller.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(File::create(host.path("pid")).unwrap());
    let ended = caller.output().expect("bash is installed");
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
    let helper: i32 =
        std::fs::read_to_string(host.path("pid")).expect("it is ours").trim().parse().expect("a number");
    let helper = rustix::process::Pid::from_raw(helper).expect("a number");
    rustix::process::kill_process(helper, Signal::KILL).expect("it still lives");
}

#[test]
fn a_signal_without_a_name_reaches_the_command() {
    let host = Host::new();
    let mut running = host.spawn_probe(&[], &["trap", "37", "5"]);
    running.wait_for("ready");
    let pid = running.pid().as_raw_nonzero().to_string();
    let sent = std::process::Command::new("kill").args(["-37", &pid]).status().expect("kill is there");
    assert!(sent.success());
    running.wait_for("signal");
    let sent = std::process::Command::new("kill").args(["-37", &pid]).status().expect("kill is there");
    assert!(sent.success());
    running.end().exits(5);
}

#[test]
fn an_interrupt_during_the_start_is_an_interrupt_and_no_failure() {
    let host = Host::new();
    for step in 0..24 {
        let running = host.spawn_probe(&["--init"], &["sleep", "1000"]);
        std::thread::sleep(std::time::Duration::from_micros(400 * step));
        running.signal(Signal::INT);
        // A process 1 that has set nothing up yet hears no interrupt; the third one ends it.
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            running.signal(Signal::INT);
        }
        let ended = running.end();
        // Before its first steps cuddy dies of it as any program does.
        assert!([130, 137, -2].contains(&ended.code), "step {step}: {} {}", ended.code, ended.stderr);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn no_descriptor_but_the_three_is_inherited_even_where_the_caller_leaks_some() {
    let host = Host::new();
    for flags in [&["-i"][..], &[], &["-i", "--init"], &["--privileged"], &["--cidfile", "id"]] {
        let mut leaking = host.command("/bin/bash");
        let line = "exec 3</ 7</etc/passwd 9>/dev/null 250</proc; exec \"$0\" \"$@\"";
        leaking.args(["-c", line]).arg(cuddy()).args(probe_line(flags, &["identity"]));
        let seen = Started::new(leaking).end().sees();
        let numbers: Vec<_> = seen.all("descriptor").map(|line| line["fd"].clone()).collect();
        assert_eq!(numbers, [0, 1, 2], "{flags:?}: {seen:#?}");
    }
}

#[test]
fn a_caller_with_closed_descriptors_loses_nothing_to_a_file_of_ours() {
    let host = Host::new();
    let line = "exec 0<&- 2>&-; exec \"$0\" \"$@\"";
    let mut closing = host.command("/bin/bash");
    closing.args(["-c", line]).arg(cuddy()).args(probe_line(&["-i"], &["identity"]));
    let seen = Started::new(closing).end().sees();
    let open: Vec<_> =
        seen.all("descriptor").map(|line| (line["fd"].clone(), line["target"].clone())).collect();
    for (fd, target) in &open {
        let target = target.as_str().expect("text");
        assert!(*fd == 1 || target == "/dev/null" || target == "/", "{fd} is {target}: {open:?}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_by_sigpipe() {
    let host = Host::new();
    let line = "\"$0\" \"$@\" | head -c 10 >/dev/null; echo ${PIPESTATUS[0]}";
    let mut shell = host.command("/bin/bash");
    shell.args(["-c", line]).arg(cuddy());
    shell.args(["run", "--init", "@host", "/bin/sh", "-c", "while :; do echo xxxxxxxxxxxxxxxx; done"]);
    // As the same pipeline without us: SIGPIPE is 13.
    assert_eq!(Started::new(shell).end().exits(0).text(), "141\n");
}

#[test]
fn the_command_starts_with_every_signal_as_a_fresh_process_has_it() {
    let host = Host::new();
    for flags in [&[][..], &["--init"]] {
        let mut ignoring = host.command("/bin/bash");
        // A caller such as nohup ignores signals: that is its business, not the command's.
        let line = "trap '' HUP PIPE INT USR1; exec \"$0\" \"$@\"";
        ignoring.args(["-c", line]).arg(cuddy()).args(probe_line(flags, &["signals"]));
        let seen = Started::new(ignoring).end().sees();
        for field in ["blocked", "ignored", "caught"] {
            assert_eq!(seen.one("signals")[field], "0000000000000000", "{flags:?}: {field}");
        }
    }
}

#[test]
fn output_written_before_a_kill_is_not_lost() {
    let host = Host::new();
    let mut running = host.spawn_probe(&["-i"], &["trap", "TERM", "0"]);
    running.wait_for("ready");
    running.signal(Signal::USR1);
    running.wait_for("SIGUSR1");
    running.signal(Signal::KILL);
    let ended = running.end_with_input_open().exits(-9);
    assert!(ended.text().contains("SIGUSR1"));
}
