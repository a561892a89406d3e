//! Real MCP servers, driven by real clients: what passes over the wire through `cuddy mcp run` is what passes
//! without it, message by message, and the workspace ends up the same.
//!
//! The servers, the clients and their versions are installed by `tests/mcp/setup`; what is asked of them stands
//! in `tests/mcp/scenarios.json`. Nothing here measures time, and nothing judges isolation.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::disallowed_methods, reason = "tests learn from the environment what must not be skipped")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

/// One row of `scenarios.json`. `{mcp}` is the folder of `setup`, `{workspace}` a fresh folder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    name: String,
    about: String,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files to find in the workspace; without it there is no workspace.
    workspace: Option<BTreeMap<String, String>>,
    /// The workspace is a repository with one commit, and these files are changed since.
    git: Option<BTreeMap<String, String>>,
    calls: serde_json::Value,
}

/// The clients, by the folder that `setup` gives them: `mcp` 1.30.0 and 2.3.0.
const CLIENTS: [&str; 2] = ["client-1", "client-2"];

#[test]
fn the_everything_server_says_the_same_inside() {
    says_the_same_inside("everything");
}

#[test]
fn a_server_started_by_its_interpreters_name_says_the_same_inside() {
    says_the_same_inside("everything-by-node");
}

#[test]
fn the_filesystem_server_changes_the_same_files_inside() {
    says_the_same_inside("filesystem");
}

#[test]
fn the_memory_server_keeps_the_same_graph_inside() {
    says_the_same_inside("memory");
}

#[test]
fn the_memory_server_finds_inside_what_an_earlier_session_left() {
    says_the_same_inside("memory-again");
}

#[test]
fn the_git_server_accepts_the_callers_repository_inside() {
    says_the_same_inside("git");
}

#[test]
fn the_time_server_of_a_venv_says_the_same_inside() {
    says_the_same_inside("time");
}

#[test]
fn a_server_started_by_the_script_pip_wrote_says_the_same_inside() {
    says_the_same_inside("time-by-script");
}

#[test]
fn every_scenario_has_its_test() {
    let source = include_str!("mcp.rs");
    for scenario in scenarios() {
        let call = format!("says_the_same_inside(\"{}\")", scenario.name);
        assert!(source.contains(&call), "scenario `{}` is run by no test: {}", scenario.name, scenario.about);
    }
}

fn says_the_same_inside(name: &str) {
    let Some(mcp) = installed() else { return };
    let scenario = scenarios()
        .into_iter()
        .find(|scenario| scenario.name == name)
        .unwrap_or_else(|| panic!("no scenario is called `{name}`"));
    for client in CLIENTS {
        let direct = transcript(&scenario, &mcp, client, false);
        let inside = transcript(&scenario, &mcp, client, true);
        assert_eq!(
            replies(&direct),
            scenario.calls.as_array().map(Vec::len),
            "the server did not answer each call of `{name}` even without a sandbox:\n{direct}"
        );
        assert!(direct == inside, "`{name}` with {client} differs inside:\n{}", difference(&direct, &inside));
    }
}

/// The folder that `setup` made. Without it the test is skipped, unless `CUDDY_REQUIRE` names `mcp`.
fn installed() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp");
    let folder = std::env::var_os("CUDDY_TEST_MCP").map_or(usual, PathBuf::from);
    if folder.join("stamp").is_file() {
        return Some(folder);
    }
    let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
    assert!(
        !required.split([',', ' ']).any(|word| word == "mcp"),
        "no MCP servers in `{}`, and CUDDY_REQUIRE names `mcp`: run tests/mcp/setup",
        folder.display()
    );
    eprintln!("SKIPPED: no MCP servers in `{}`; tests/mcp/setup installs them", folder.display());
    None
}

fn scenarios() -> Vec<Scenario> {
    serde_json::from_str(include_str!("mcp/scenarios.json"))
        .expect("scenarios.json has the shape of `Scenario`")
}

/// What `client.py` writes down of one session in a workspace of its own.
fn transcript(scenario: &Scenario, mcp: &Path, client: &str, sandboxed: bool) -> String {
    let home = tempfile::tempdir().expect("a folder for the workspace");
    let home_path = home.path().canonicalize().expect("the folder just made");
    let workspace = home_path.join("workspace");
    let workspace_text = workspace.to_str().expect("temporary folders have UTF-8 names");
    let mcp_text = mcp.to_str().expect("the checkout has a UTF-8 path");
    let placed = |text: &str| text.replace("{workspace}", workspace_text).replace("{mcp}", mcp_text);

    let python = mcp.join(client).join("bin/python");
    let mut command = Command::new(&python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.py"));
    command.args(["--calls", &placed(&scenario.calls.to_string())]);
    command.args(["--place", &format!("WORKSPACE={workspace_text}")]);
    for (name, value) in &scenario.env {
        command.args(["--env", &format!("{name}={}", placed(value))]);
    }
    if let Some(files) = &scenario.workspace {
        write_files(&workspace, files);
        if let Some(changes) = &scenario.git {
            make_repository(&workspace, scenario);
            write_files(&workspace, changes);
        }
        command.args(["--tree", workspace_text]);
    }
    command.arg("--");
    if sandboxed {
        command.args([env!("CARGO_BIN_EXE_cuddy"), "mcp", "run"]);
        if scenario.workspace.is_some() {
            command.args(["--workspace", workspace_text]);
        }
        for name in scenario.env.keys() {
            command.args(["--env", name]);
        }
        command.arg("--");
    }
    command.args(scenario.command.iter().map(|word| placed(word)));

    let ended = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot start `{}`: {error}", python.display()));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "`{}` with {client}, sandboxed {sandboxed}: {}\n{said}",
        scenario.name,
        ended.status
    );
    String::from_utf8(ended.stdout).expect("client.py prints UTF-8")
}

fn write_files(folder: &Path, files: &BTreeMap<String, String>) {
    fs::create_dir_all(folder).expect("a folder beneath a temporary one");
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("files lie in a folder"))
            .expect("a folder beneath a temporary one");
        fs::write(&path, text).expect("a file beneath a temporary folder");
    }
}

/// One commit of all that lies there, with the same id each time.
fn make_repository(folder: &Path, scenario: &Scenario) {
    let steps: [&[&str]; 3] =
        [&["init", "-q", "-b", "main"], &["add", "-A"], &["commit", "-q", "-m", "first"]];
    for step in steps {
        let ended = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(step)
            .envs(&scenario.env)
            .output()
            .expect("git is installed");
        assert!(ended.status.success(), "git {step:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}

/// How many tool calls the server answered, well or ill.
fn replies(transcript: &str) -> Option<usize> {
    let transcript: serde_json::Value = serde_json::from_str(transcript).ok()?;
    let wire = transcript["wire"].as_array()?;
    let of = |direction: &'static str| {
        wire.iter().filter(move |passed| passed[0] == direction).map(|passed| &passed[1])
    };
    let asked: Vec<_> = of("client")
        .filter(|message| message["method"] == "tools/call")
        .map(|message| &message["id"])
        .collect();
    Some(
        of("server")
            .filter(|message| message.get("method").is_none() && asked.contains(&&message["id"]))
            .count(),
    )
}

/// The first lines that differ.
fn difference(left: &str, right: &str) -> String {
    let mut lines = String::new();
    for (number, (one, other)) in
        left.lines().zip(right.lines()).enumerate().filter(|(_, (one, other))| one != other).take(5)
    {
        lines += &format!("line {}\n  direct: {one:.300}\n  inside: {other:.300}\n", number + 1);
    }
    lines + &format!("{} lines direct, {} inside", left.lines().count(), right.lines().count())
}
