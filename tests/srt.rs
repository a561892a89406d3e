//! The program called as `srt`, driven with the lines and settings that MassGen 0.1.97 writes: what works, what is
//! kept out, what is refused.
//!
//! What was kept out is asked of a program inside, never of us. Nothing here needs the network.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A home folder with a secret, a workspace in it, and `srt` in front of them.
struct Place {
    folder: TempDir,
    settings: Value,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::with_prefix("cuddy-srt-").expect("a folder for temporary files");
        for name in ["home/.ssh", "home/project/.git/hooks", "home/notes", "data", "bin"] {
            fs::create_dir_all(folder.path().join(name)).expect("the folder is ours");
        }
        fs::write(folder.path().join("home/.ssh/id"), "secret").expect("the folder is ours");
        fs::write(folder.path().join("home/notes/n.txt"), "note").expect("the folder is ours");
        fs::write(folder.path().join("home/project/.git/config"), "[core]").expect("the folder is ours");
        symlink(env!("CARGO_BIN_EXE_cuddy"), folder.path().join("bin/srt")).expect("the folder is ours");
        let mut place = Self { folder, settings: Value::Null };
        // MassGen's mode `confined`: the home folder is denied, what the agent has is allowed.
        place.settings = json!({
            "filesystem": {
                "allowWrite": [place.text("home/project")],
                "denyWrite": [place.text("home/notes")],
                "denyRead": ["/etc/shadow", place.text("home")],
                "allowRead": [place.text("home/notes"), place.text("home/project")],
            },
            "network": { "allowedDomains": [], "deniedDomains": [], "allowUnixSockets": [] },
        });
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("ASCII").to_owned()
    }

    fn files(&mut self, key: &str, paths: &[String]) {
        self.settings["filesystem"][key] = json!(paths);
    }

    /// `srt`, not yet started.
    fn srt(&self) -> Command {
        let mut command = Command::new(self.path("bin/srt"));
        command.env_clear().current_dir(self.path("home/project"));
        command.env("HOME", self.path("home")).env("XDG_DATA_HOME", self.path("data"));
        command.env("PATH", "/usr/bin:/bin").env("MARK", "seen");
        command
    }

    fn written(&self) -> PathBuf {
        let file = self.path("settings.json");
        fs::write(&file, self.settings.to_string()).expect("the folder is ours");
        file
    }

    /// `srt --settings FILE sh -c LINE`, as MassGen's command tool has it.
    fn line(&self, line: &str) -> Ended {
        let mut command = self.srt();
        command.arg("--settings").arg(self.written()).args(["sh", "-c", line]);
        ended(command.output())
    }
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ended(output: std::io::Result<Output>) -> Ended {
    let output = output.expect("srt can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn a_line_runs_in_the_workspace_with_its_exit_code_and_its_variables() {
    let place = Place::new();
    let ran =
        place.line("echo hi > out.txt && cat out.txt && echo $MARK $SANDBOX_RUNTIME $TMPDIR && pwd; exit 7");
    assert_eq!(ran.out, format!("hi\nseen 1 /tmp\n{}\n", place.text("home/project")), "{}", ran.err);
    assert_eq!(ran.code, Some(7));
    assert_eq!(fs::read_to_string(place.path("home/project/out.txt")).unwrap(), "hi\n");
    assert_eq!(ran.err, "");
}

#[test]
fn what_is_allowed_is_seen_and_the_rest_of_a_denied_home_is_not() {
    let place = Place::new();
    let ran = place.line("cat ../notes/n.txt; cat ../.ssh/id; ls -a ..");
    assert!(ran.out.contains("note"), "{} {}", ran.out, ran.err);
    assert!(!ran.out.contains("secret") && !ran.out.contains(".ssh"), "{}", ran.out);
    let ran = place.line("touch ../notes/new; touch /usr/new; touch ../new; touch /tmp/own && echo own");
    assert_eq!(ran.out, "own\n", "{}", ran.err);
    assert!(!place.path("home/notes/new").exists() && !place.path("home/new").exists());
}

#[test]
fn a_denial_inside_of_what_may_be_written_is_kept() {
    let mut place = Place::new();
    fs::create_dir(place.path("home/project/secrets")).unwrap();
    fs::write(place.path("home/project/secrets/k"), "key").unwrap();
    fs::write(place.path("home/project/.env"), "token").unwrap();
    fs::write(place.path("home/project/fixed"), "as it was").unwrap();
    place.files("denyWrite", &[place.text("home/project/fixed"), place.text("home/project/.git/hooks")]);
    place.files(
        "denyRead",
        &[place.text("home"), place.text("home/project/secrets"), place.text("home/project/.env")],
    );
    let ran = place.line(
        "cat secrets/k; ls secrets; cat .env; echo new > fixed; echo x > .git/hooks/pre-commit; cat fixed; echo y > free",
    );
    assert_eq!(ran.out, "as it was", "{}", ran.err);
    assert_eq!(fs::read_to_string(place.path("home/project/fixed")).unwrap(), "as it was");
    assert!(!place.path("home/project/.git/hooks/pre-commit").exists());
    assert_eq!(fs::read_to_string(place.path("home/project/free")).unwrap(), "y\n");
}

#[test]
fn what_would_run_later_outside_cannot_be_written_though_its_folder_can() {
    let place = Place::new();
    fs::create_dir_all(place.path("home/project/sub/.vscode")).unwrap();
    fs::write(place.path("home/project/.bashrc"), "mine").unwrap();
    let ran = place.line(
        "echo x > .git/hooks/post-checkout; echo x >> .git/config; echo x > .bashrc; echo x > sub/.vscode/tasks.json; \
         echo x > .git/HEAD && echo history",
    );
    assert_eq!(ran.out, "history\n", "{}", ran.err);
    assert_eq!(fs::read_to_string(place.path("home/project/.bashrc")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(place.path("home/project/.git/config")).unwrap(), "[core]");
    assert!(!place.path("home/project/.git/hooks/post-checkout").exists());
    assert!(!place.path("home/project/sub/.vscode/tasks.json").exists());
}

#[test]
fn what_is_protected_cannot_be_moved_away_with_the_folder_it_lies_in() {
    let mut place = Place::new();
    fs::create_dir_all(place.path("home/project/deep/keys")).unwrap();
    fs::write(place.path("home/project/deep/keys/k"), "key").unwrap();
    place.files("denyRead", &[place.text("home"), place.text("home/project/deep/keys")]);
    let ran = place.line(
        "mv .git old; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit; rm -rf .git; \
         mv deep shallow; cat shallow/keys/k deep/keys/k; echo end",
    );
    assert_eq!(ran.out, "end\n", "{}", ran.err);
    assert!(place.path("home/project/.git/config").exists() && !place.path("home/project/old").exists());
    assert!(!place.path("home/project/.git/hooks/pre-commit").exists());
    assert!(place.path("home/project/deep/keys/k").exists());
}

#[test]
fn there_is_no_network_and_domains_are_refused_until_somebody_chooses() {
    let mut place = Place::new();
    let links = place.line("cat /proc/net/dev");
    assert_eq!(links.out.matches(':').count(), 1, "only loopback: {}", links.out);
    place.settings["network"]["allowedDomains"] = json!(["pypi.org"]);
    let refused = place.line("echo ran");
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("cannot yet limit a network to domains"), "{}", refused.err);
    let chosen = |network: &str| {
        let mut command = place.srt();
        command.env("CUDDY_SRT_NETWORK", network);
        command.arg("--settings").arg(place.written()).args(["sh", "-c", "cat /proc/net/dev | grep -c :"]);
        ended(command.output())
    };
    assert_eq!(chosen("none").out, "1\n");
    assert_eq!(chosen("some").code, Some(1));
    place.settings["cuddy"] = json!({"network": "none"});
    assert_eq!(place.line("echo ran").out, "ran\n");
}

#[test]
fn broken_settings_run_nothing_and_are_never_replaced_by_others() {
    let place = Place::new();
    let with = |text: &str| {
        let file = place.path("broken.json");
        fs::write(&file, text).unwrap();
        let mut command = place.srt();
        command.arg("--settings").arg(file).args(["sh", "-c", "echo ran"]);
        ended(command.output())
    };
    for (text, part) in [
        ("", "no JSON"),
        ("{", "no JSON"),
        (r#"{"filesystem": {"allowWrite": "x"}}"#, "a list of paths belongs"),
        (r#"{"filesystem": {"denyRead": ["/a/*"]}}"#, "patterns are not understood"),
        (r#"{"filesystem": {"disabled": true}}"#, "always behind a wall"),
        (r#"{"filesystem": {"allowWrite": ["."], "denyWrite": ["not-there"]}}"#, "it is not there"),
        (r#"{"filesystem": {"denyRead": ["/usr"]}}"#, "programs need the system folders"),
        (r#"{"cuddy": {"network": "some"}}"#, "none of its values"),
    ] {
        let ran = with(text);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{text}: {}", ran.err);
        assert!(ran.err.contains(part), "{text}: {}", ran.err);
    }
    let mut command = place.srt();
    command.args(["--settings", "/nonexistent.json", "sh", "-c", "echo ran"]);
    let ran = ended(command.output());
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
}

#[test]
fn without_settings_the_folder_is_read_and_nothing_is_written() {
    let place = Place::new();
    fs::write(place.path("home/project/here"), "x").unwrap();
    let mut command = place.srt();
    command.args(["-c", "ls; touch new; cat ../.ssh/id"]);
    let ran = ended(command.output());
    assert_eq!(ran.out, "here\n", "{}", ran.err);
    assert!(!place.path("home/project/new").exists());
}

#[test]
fn the_file_of_the_home_folder_counts_when_none_is_named() {
    let mut place = Place::new();
    fs::write(place.path("home/.srt-settings.json"), place.settings.take().to_string()).unwrap();
    let mut command = place.srt();
    command.args(["-c", "echo x > new && cat new"]);
    assert_eq!(ended(command.output()).out, "x\n");
}

#[test]
fn arguments_and_streams_pass_as_they_are() {
    let place = Place::new();
    let mut command = place.srt();
    command.arg("--settings").arg(place.written());
    command.args(["printf", "%s|", "a b", "$HOME", "", "'q'", "-c"]);
    assert_eq!(ended(command.output()).out, "a b|$HOME||'q'|-c|");
    let mut command = place.srt();
    command.arg("--settings").arg(place.written()).arg("cat");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"jsonrpc\":\"2.0\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"{\"jsonrpc\":\"2.0\"}\n");
    assert!(Path::new("/proc").exists() && output.status.success());
}

#[test]
fn a_program_that_is_not_there_is_127_and_the_version_is_srt_s() {
    let place = Place::new();
    let mut command = place.srt();
    command.arg("--settings").arg(place.written()).arg("no-such-program");
    assert_eq!(ended(command.output()).code, Some(127));
    let mut command = place.srt();
    command.arg("--version");
    let version = ended(command.output());
    assert_eq!((version.code, version.out.as_str()), (Some(0), "0.0.83\n"));
}
