//! The record of what was done: it survives its writers, and whoever changes it is found.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test that starts itself again is told so by its environment"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cuddy::audit::{self, Asked, Call, CallLog, CallOutcome, Outcome};
use cuddy::engine::trail::{self, Broken, Choice, Verdict};
use serde_json::Value;

/// Names the data folder for the writers that this program starts of itself.
const WRITER: &str = "CUDDY_TEST_AUDIT";

fn call(server: &str, tool: &str) -> Call<'static> {
    let (server, tool) = (server.to_owned().leak(), tool.to_owned().leak());
    Call {
        uid: 7,
        client: "tests",
        server,
        method: "tools/call",
        tool,
        arguments: br#"{"password":"SECRET"}"#,
        policy: "sha256:00",
        duration: Duration::from_micros(1234),
        outcome: CallOutcome::Done,
        bytes_in: 21,
        bytes_out: 42,
    }
}

fn written(lines: usize) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let log = CallLog::open(data.path()).unwrap();
    for n in 0..lines {
        log.record(&call("calc", &format!("tool-{n}"))).unwrap();
    }
    data
}

fn first_file(data: &Path) -> PathBuf {
    data.join("audit/000000000001.jsonl")
}

fn verdict(data: &Path) -> Verdict {
    trail::verify(data, None).unwrap()
}

/// The line where the record breaks.
fn broken(data: &Path) -> Option<u64> {
    verdict(data).broken.map(|Broken { line, .. }| line)
}

fn shown(data: &Path, choice: &Choice) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut visit = |line: &Value| {
        lines.push(line.clone());
        Ok(())
    };
    trail::show(data, choice, &mut visit).unwrap();
    lines
}

#[test]
fn a_call_is_written_with_the_digest_of_its_arguments_and_nothing_secret() {
    let data = written(1);
    let text = fs::read_to_string(first_file(data.path())).unwrap();
    assert!(!text.contains("SECRET") && !text.contains("password"), "{text}");
    let line = &shown(data.path(), &Choice::default())[0];
    assert_eq!(line["arguments"], format!("sha256:{}", sha256()));
    let said = [
        "uid",
        "verb",
        "client",
        "server",
        "object",
        "method",
        "duration_us",
        "bytes_in",
        "bytes_out",
        "outcome",
    ];
    let said = said.map(|member| line[member].to_string());
    assert_eq!(said.join(" "), r#"7 "call" "tests" "calc" "tool-0" "tools/call" 1234 21 42 "done""#);
}

/// Of the arguments, by another program.
fn sha256() -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), call("", "").arguments).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()[..64].to_owned()
}

#[test]
fn calls_and_commands_share_one_chain() {
    let data = written(3);
    let asked = Asked { uid: 7, verb: "run", object: "@host", id: "1" };
    audit::append(data.path(), &asked, Outcome::Ended(0)).unwrap();
    CallLog::open(data.path()).unwrap().record(&call("calc", "add")).unwrap();
    let verdict = verdict(data.path());
    assert_eq!((verdict.lines, verdict.last, verdict.broken, verdict.files), (5, 5, None, 1));
    assert_eq!(shown(data.path(), &Choice { verb: Some("run".to_owned()), ..Choice::default() }).len(), 1);
}

#[test]
fn lines_are_chosen_by_server_tool_moment_and_number() {
    let data = written(5);
    CallLog::open(data.path()).unwrap().record(&call("else", "tool-1")).unwrap();
    let count = |choice: Choice| shown(data.path(), &choice).len();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(count(Choice { server: text("calc"), ..Choice::default() }), 5);
    assert_eq!(count(Choice { tool: text("tool-1"), ..Choice::default() }), 2);
    assert_eq!(count(Choice { tool: text("tool-1"), server: text("else"), ..Choice::default() }), 1);
    assert_eq!(count(Choice { since_ms: Some(u64::MAX), ..Choice::default() }), 0);
    assert_eq!(count(Choice { since_ms: Some(1), ..Choice::default() }), 6);
    let newest = shown(data.path(), &Choice { tail: Some(2), ..Choice::default() });
    assert_eq!(newest.iter().map(|line| line["n"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
}

#[test]
fn a_change_of_any_member_of_any_line_is_found_in_that_line() {
    let data = written(4);
    let whole = fs::read_to_string(first_file(data.path())).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let members: Vec<String> =
        serde_json::from_str::<serde_json::Map<String, Value>>(lines[1]).unwrap().keys().cloned().collect();
    assert!(members.len() > 15, "{members:?}");
    for member in members {
        let place = lines[1].find(&format!("\"{member}\":")).unwrap() + member.len() + 3;
        let place = if lines[1].as_bytes()[place] == b'"' { place + 1 } else { place };
        let mut line = lines[1].to_owned();
        let other = if line.as_bytes()[place] == b'1' { "2" } else { "1" };
        line.replace_range(place..=place, other);
        let changed = [lines[0], &line, lines[2], lines[3], ""].join("\n");
        fs::write(first_file(data.path()), changed).unwrap();
        assert_eq!(broken(data.path()), Some(2), "{member}: {line}");
    }
    fs::write(first_file(data.path()), &whole).unwrap();
    assert_eq!(broken(data.path()), None);
}

#[test]
fn a_line_that_is_removed_inserted_emptied_or_made_long_is_found() {
    let data = written(4);
    let whole = fs::read_to_string(first_file(data.path())).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let long = "x".repeat(1 << 20);
    for (what, at, changed) in [
        ("removed", 2, vec![lines[0], lines[2], lines[3]]),
        ("inserted", 3, vec![lines[0], lines[1], lines[0], lines[2], lines[3]]),
        ("emptied", 2, vec![lines[0], "", lines[2], lines[3]]),
        ("long", 2, vec![lines[0], &long, lines[2], lines[3]]),
        ("no line", 4, vec![lines[0], lines[1], lines[2], "{}"]),
    ] {
        fs::write(first_file(data.path()), changed.join("\n") + "\n").unwrap();
        assert_eq!(broken(data.path()), Some(at), "{what}");
    }
    // And who goes on writing does not mend it.
    CallLog::open(data.path()).unwrap().record(&call("calc", "add")).unwrap();
    assert_eq!(broken(data.path()), Some(4));
}

#[test]
fn a_head_that_was_noted_shows_that_the_end_was_cut_off() {
    let data = written(6);
    let head = verdict(data.path()).head.unwrap();
    CallLog::open(data.path()).unwrap().record(&call("calc", "later")).unwrap();
    assert_eq!(trail::verify(data.path(), Some(&head)).unwrap().holds, Some(true));
    let whole = fs::read_to_string(first_file(data.path())).unwrap();
    let cut: Vec<&str> = whole.lines().take(4).collect();
    fs::write(first_file(data.path()), cut.join("\n") + "\n").unwrap();
    let verdict = trail::verify(data.path(), Some(&head)).unwrap();
    assert_eq!((verdict.broken, verdict.holds), (None, Some(false)), "nothing else shows it");
}

#[test]
fn a_torn_last_line_is_no_break_and_the_next_line_tells_of_it() {
    for kept in [1, 40, 200, 380] {
        let data = written(3);
        let path = first_file(data.path());
        let whole = fs::read_to_string(&path).unwrap();
        let start = whole.trim_end().rfind('\n').unwrap() + 1;
        fs::write(&path, &whole[..start + kept]).unwrap();
        let half = verdict(data.path());
        assert_eq!((half.broken, half.lines, half.half_bytes), (None, 2, kept as u64));
        CallLog::open(data.path()).unwrap().record(&call("calc", "next")).unwrap();
        let told = verdict(data.path());
        assert_eq!((told.broken, told.lines, told.half_bytes, told.torn, told.last), (None, 3, 0, 1, 3));
        // Who makes the half line another one is found.
        let text = fs::read_to_string(&path).unwrap();
        let mut bytes = text.into_bytes();
        bytes[start] = b'[';
        fs::write(&path, bytes).unwrap();
        assert_eq!(broken(data.path()), Some(3));
    }
}

#[test]
fn a_first_line_that_is_torn_is_told_of_too() {
    let data = written(1);
    fs::write(first_file(data.path()), "{\"version\":2,").unwrap();
    CallLog::open(data.path()).unwrap().record(&call("calc", "next")).unwrap();
    let verdict = verdict(data.path());
    assert_eq!((verdict.broken, verdict.torn, verdict.last), (None, 1, 1));
}

#[test]
fn a_file_that_has_grown_is_closed_and_the_next_goes_on_with_the_chain() {
    let data = written(0);
    let log = CallLog::open(data.path()).unwrap();
    let long = "x".repeat(1000);
    let record = |count| (0..count).for_each(|_| log.record(&call(&long, &long)).unwrap());
    let mut files = 0;
    while files < 3 {
        record(2000);
        files = audit::files(data.path()).unwrap().len();
    }
    let verdict = verdict(data.path());
    assert_eq!((verdict.broken, verdict.files), (None, 3));
    let files = audit::files(data.path()).unwrap();
    assert!(files.iter().all(|file| file.path.metadata().unwrap().len() < 17 << 20));
    // Another writer finds the end.
    CallLog::open(data.path()).unwrap().record(&call("calc", "add")).unwrap();
    assert_eq!(trail::verify(data.path(), verdict.head.as_deref()).unwrap().holds, Some(true));
    // A file that goes is missed, in the middle and at the front.
    let (middle, aside) = (&files[1].path, data.path().join("aside"));
    fs::rename(middle, &aside).unwrap();
    assert_eq!(broken(data.path()), Some(1));
    fs::rename(&aside, middle).unwrap();
    fs::rename(&files[0].path, &aside).unwrap();
    assert_eq!(broken(data.path()), Some(1));
}

#[test]
fn a_file_that_somebody_removed_does_not_take_later_lines_with_it() {
    let data = written(2);
    let log = CallLog::open(data.path()).unwrap();
    log.record(&call("calc", "add")).unwrap();
    fs::remove_file(first_file(data.path())).unwrap();
    log.record(&call("calc", "later")).unwrap();
    assert_eq!(shown(data.path(), &Choice::default()).len(), 1);
}

#[test]
fn names_from_outside_are_cut_and_keep_their_line() {
    let data = written(0);
    let log = CallLog::open(data.path()).unwrap();
    log.record(&call(&"é\n\u{1b}".repeat(1 << 20), "\"}\n")).unwrap();
    log.record(&call("calc", "add")).unwrap();
    assert_eq!(verdict(data.path()).lines, 2);
    assert!(fs::metadata(first_file(data.path())).unwrap().len() < 16 << 10);
}

/// Writes until it is killed, when this program starts it so; a test by itself it is not.
#[test]
fn a_writer_that_the_other_tests_kill() {
    let Some(data) = std::env::var_os(WRITER) else { return };
    let log = CallLog::open(Path::new(&data)).unwrap();
    loop {
        // More than a page now and then: the kernel may be interrupted between two.
        (1..40).for_each(|n| log.record(&call("calc", &"tool".repeat(n * 6))).unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn writer(data: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_writer_that_the_other_tests_kill"]).env(WRITER, data);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn many_writers_that_are_killed_over_and_over_leave_one_whole_chain() {
    let data = written(1);
    for round in 0..8 {
        let mut writers: Vec<Child> = (0..3).map(|_| writer(data.path())).collect();
        let before = fs::metadata(first_file(data.path())).map_or(0, |meta| meta.len());
        // Until they have written something, and then at any moment of it.
        while audit::files(data.path()).unwrap().len() == 1
            && fs::metadata(first_file(data.path())).unwrap().len() < before + 100_000 + round * 7919
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        for child in &mut writers {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let verdict = verdict(data.path());
        assert_eq!(verdict.broken, None, "round {round}");
        assert_eq!(verdict.lines, verdict.last);
    }
    CallLog::open(data.path()).unwrap().record(&call("calc", "add")).unwrap();
    let verdict = verdict(data.path());
    assert_eq!((verdict.broken, verdict.half_bytes), (None, 0));
    assert!(verdict.lines > 500, "{}", verdict.lines);
}

#[test]
fn reading_while_others_write_sees_no_break() {
    let data = written(1);
    let mut writers: Vec<Child> = (0..2).map(|_| writer(data.path())).collect();
    for _ in 0..20 {
        let verdict = verdict(data.path());
        assert_eq!((verdict.broken, verdict.half_bytes), (None, 0));
    }
    for child in &mut writers {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
