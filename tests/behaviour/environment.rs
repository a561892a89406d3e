//! What the command gets in words: variables, its folder, its program, its host's name and table.

use crate::harness::{Host, PROBE, Seen, Started, cuddy, probe_line};
use crate::judge;

/// Lines of a file inside.
fn file(host: &Host, flags: &[&str], path: &str) -> Vec<String> {
    host.probe(flags, &["read", path]).exits(0).text().lines().map(str::to_owned).collect()
}

fn environment(host: &Host, flags: &[&str]) -> Seen {
    host.sees(flags, &["identity"])
}

// ── variables ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_environment_is_docker_s_few_variables_and_nothing_of_ours() {
    let mut host = Host::new();
    host.set("SECRET_TOKEN", "s3cret");
    host.set("LD_PRELOAD", "");
    let seen = environment(&host, &["-h", "box"]);
    let mut names: Vec<_> = seen.one("environment")["values"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|value| value.as_str().expect("text"))
        .collect();
    names.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(names, ["HOME=/root", "HOSTNAME=box", path]);
}

#[test]
fn a_variable_is_set_copied_or_left_out_by_name() {
    let mut host = Host::new();
    host.set("COPIED", "from outside");
    host.set("OTHER", "stays outside");
    let flags = ["-e", "SET=a=b c", "-e", "COPIED", "-e", "NOT_THERE", "--env", "EMPTY="];
    let seen = environment(&host, &flags);
    assert_eq!(seen.variable("SET").as_deref(), Some("a=b c"));
    assert_eq!(seen.variable("COPIED").as_deref(), Some("from outside"));
    assert_eq!(seen.variable("EMPTY").as_deref(), Some(""));
    assert_eq!((seen.variable("NOT_THERE"), seen.variable("OTHER")), (None, None));
}

#[test]
fn the_later_of_two_variables_wins_and_a_flag_wins_over_a_file() {
    let host = Host::new();
    host.write("first", "A=file one\nB=file one\n");
    host.write("second", "# a remark\n\n  B=file two\nC=file two # not a remark\nD=\n");
    let flags = ["-e", "A=flag", "--env-file", "first", "--env-file", "second", "-e", "E=1", "-e", "E=2"];
    let seen = environment(&host, &flags);
    let found = ["A", "B", "C", "D", "E"].map(|name| seen.variable(name).unwrap_or_default());
    assert_eq!(found, ["flag", "file two", "file two # not a remark", "", "2"]);
}

#[test]
fn an_env_file_copies_names_and_a_wrong_line_is_named() {
    let mut host = Host::new();
    host.set("COPIED", "outside");
    host.write("good", "COPIED\nNOT_THERE\n");
    let seen = environment(&host, &["--env-file", "good"]);
    assert_eq!(seen.variable("COPIED").as_deref(), Some("outside"));
    assert_eq!(seen.variable("NOT_THERE"), None);
    host.write("bad", "A=1\n=nameless\n");
    host.probe(&["--env-file", "bad"], &["true"]).is_refused(&["bad", "`=…`"]);
    host.write("binary", b"A=\xff\xfe\n");
    host.probe(&["--env-file", "binary"], &["true"]).is_refused(&["binary"]);
    host.dir("folder");
    host.probe(&["--env-file", "folder"], &["true"]).is_refused(&["folder"]);
    host.probe(&["--env-file", "/dev/zero"], &["true"]).is_refused(&["/dev/zero"]);
}

#[test]
fn an_env_file_can_be_a_pipe() {
    let host = Host::new();
    let mut shell = host.command("/bin/bash");
    let line = probe_line(&["--env-file", "/dev/stdin"], &["identity"]);
    shell.args(["-c", "\"$0\" \"$@\" < <(echo A=piped)"]).arg(cuddy()).args(line);
    assert_eq!(Started::new(shell).end().sees().variable("A").as_deref(), Some("piped"));
}

#[test]
fn a_variable_of_ours_can_replace_the_default_ones() {
    let host = Host::new();
    let flags = ["-e", "PATH=/mine", "-e", "HOME=/elsewhere", "-e", "HOSTNAME=other"];
    let seen = environment(&host, &flags);
    let found = ["PATH", "HOME", "HOSTNAME"].map(|name| seen.variable(name).unwrap_or_default());
    assert_eq!(found, ["/mine", "/elsewhere", "other"]);
}

#[test]
fn a_variable_that_the_loader_obeys_does_not_reach_our_own_processes() {
    let host = Host::new();
    // Were it in force in the stage, the file would be made outside; inside it is a static program's.
    let marker = host.text("marker");
    let seen = environment(&host, &["-e", "LD_PRELOAD=/no/such.so", "-e", &format!("GCONV_PATH={marker}")]);
    assert_eq!(seen.variable("LD_PRELOAD").as_deref(), Some("/no/such.so"));
    let ended = host.probe(&["-e", "LD_PRELOAD=/no/such.so"], &["true"]).exits(0);
    assert_eq!(ended.stderr, "", "the loader complains in each dynamic program of ours that sees it");
}

// ── folder and program ──────────────────────────────────────────────────────────────────────────

#[test]
fn the_folder_is_where_w_says_and_is_made_when_missing() {
    let host = Host::new();
    assert_eq!(environment(&host, &[]).one("session")["cwd"], "/");
    assert_eq!(environment(&host, &["-w", "/usr/bin"]).one("session")["cwd"], "/usr/bin");
    assert_eq!(environment(&host, &["-w", "/new/folder/"]).one("session")["cwd"], "/new/folder");
    assert_eq!(environment(&host, &["-w", "/a/./b//c"]).one("session")["cwd"], "/a/b/c");
}

#[test]
fn a_folder_to_start_in_is_made_below_a_read_only_root_too() {
    let host = Host::new();
    assert_eq!(environment(&host, &["--read-only", "-w", "/new/one"]).one("session")["cwd"], "/new/one");
}

#[test]
fn a_folder_that_is_a_file_is_an_error() {
    let host = Host::new();
    host.probe(&["-w", "/etc/passwd"], &["true"]).is_refused(&["/etc/passwd"]);
    host.probe(&["-w", "/etc/passwd/below"], &["true"]).is_refused(&["/etc/passwd"]);
}

#[test]
fn an_entrypoint_comes_first_and_an_empty_one_is_none() {
    let host = Host::new();
    let probe = format!("{}:{PROBE}:ro", judge::program().display());
    let run = |flags: &[&str], words: &[&str]| {
        host.cuddy(&[&["run", "--rm", "-v", &probe], flags, &["@host"], words].concat())
    };
    let argv = |seen: Seen| seen.one("argv")["values"].clone();
    assert_eq!(
        argv(run(&["--entrypoint", PROBE], &["argv", "a"]).sees()),
        serde_json::json!([PROBE, "argv", "a"])
    );
    assert_eq!(argv(run(&["--entrypoint", ""], &[PROBE, "argv"]).sees()), serde_json::json!([PROBE, "argv"]));
    run(&["--entrypoint", ""], &[]).is_refused(&["no command"]);
    run(&["--entrypoint", "/no/entry"], &["argv"]).exits(127);
}

#[test]
fn a_program_is_found_by_the_path_of_the_container() {
    let host = Host::new();
    let probe = format!("{}:/tools/prober:ro", judge::program().display());
    host.cuddy(&["run", "-v", &probe, "@host", "prober", "true"]).exits(127);
    host.cuddy(&["run", "-v", &probe, "-e", "PATH=/nowhere:/tools", "@host", "prober", "exit", "9"]).exits(9);
    host.cuddy(&["run", "-v", &probe, "-w", "/tools", "@host", "./prober", "exit", "9"]).exits(9);
}

// ── host name and table ─────────────────────────────────────────────────────────────────────────

#[test]
fn the_host_name_is_the_short_id_or_what_was_said() {
    let host = Host::new();
    for flag in ["-h", "--hostname"] {
        let seen = environment(&host, &[flag, "box.example"]);
        assert_eq!(seen.one("session")["hostname"], "box.example");
        assert_eq!(seen.variable("HOSTNAME").as_deref(), Some("box.example"));
    }
    assert_eq!(file(&host, &["-h", "box"], "/etc/hostname"), ["box"]);
    let own = environment(&host, &[]);
    let name = own.one("session")["hostname"].as_str().expect("text");
    assert!(name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    assert_eq!(own.variable("HOSTNAME").as_deref(), Some(name));
}

#[test]
fn a_host_name_that_is_none_refused() {
    let host = Host::new();
    let long = "n".repeat(65);
    for name in [long.as_str(), "two words", "a\nb", "a/b"] {
        host.probe(&["-h", name], &["true"]).is_refused(&["name"]);
    }
}

#[test]
fn the_hosts_table_has_ourselves_and_what_was_added() {
    let host = Host::new();
    let flags = ["-h", "box", "--add-host", "db:10.0.0.1", "--add-host", "six=[2001:db8::1]"];
    let table = file(&host, &flags, "/etc/hosts");
    for line in ["127.0.0.1\tlocalhost", "127.0.0.1\tbox", "10.0.0.1\tdb", "2001:db8::1\tsix"] {
        assert!(table.iter().any(|found| found == line), "`{line}` is not in {table:#?}");
    }
    let ours = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert!(!table.join("\n").contains("10.0.0.1\tdb\n10"), "each once");
    let ours_alone =
        ours.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|n| n != "localhost"));
    for line in ours_alone.filter(|line| !line.starts_with(['#', ':', 'f']) && !line.starts_with("127.")) {
        assert!(!table.iter().any(|found| found == line), "the host's own `{line}` went in");
    }
}

// ── size ────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn many_arguments_and_variables_go_in_or_are_refused_whole() {
    let host = Host::new();
    let words: Vec<String> = (0..2000).map(|i| format!("word-{i}")).collect();
    let line = probe_line(&[], &["argv"]);
    let mut command = host.command(cuddy());
    command.args(&line).args(&words);
    let seen = Started::new(command).end().sees();
    assert_eq!(seen.one("argv")["values"].as_array().map(Vec::len), Some(2002));
    // As much as the kernel takes in one string, ten times.
    let huge: Vec<String> = (0..10).map(|i| format!("BIG{i}={}", "x".repeat(120_000))).collect();
    let flags: Vec<&str> = huge.iter().flat_map(|text| ["-e", text.as_str()]).collect();
    let seen = environment(&host, &flags);
    for i in 0..10 {
        assert_eq!(seen.variable(&format!("BIG{i}")).map(|value| value.len()), Some(120_000));
    }
    // More than the kernel takes is an error that says so.
    let text = format!("BIG={}", "x".repeat(200_000));
    host.write("file", &text);
    let ended = host.probe(&["--env-file", "file"], &["true"]);
    assert!(ended.code == 125 || ended.code == 126, "{ended:?}");
    assert!(ended.stderr.contains("too long") || ended.stderr.contains("large"), "{}", ended.stderr);
}

#[test]
fn a_variable_that_we_do_not_have_takes_the_image_s_own_away() {
    let host = Host::new();
    let seen = environment(&host, &["-e", "PATH=/bin", "-e", "ABSENT=1", "-e", "ABSENT"]);
    assert_eq!(seen.variable("ABSENT"), None);
}

#[test]
fn a_file_of_variables_may_begin_with_a_byte_order_mark_and_its_secrets_are_not_printed() {
    let host = Host::new();
    host.write("marked", "\u{feff}FIRST=1\n");
    let seen = environment(&host, &["--env-file", "marked"]);
    assert_eq!(seen.variable("FIRST").as_deref(), Some("1"));
    host.write("blank", "API KEY=hunter2\n");
    let ended = host.cuddy(&["run", "--env-file", "blank", "@host", "true"]);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    ended.is_refused(&["`API KEY`", "blank"]);
}
