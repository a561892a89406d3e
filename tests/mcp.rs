//! Real MCP servers, driven by real clients: what passes over the wire through `cuddy mcp run` is what passes
//! without it, message by message, and the workspace ends up the same.
//!
//! The servers, the clients and their versions are installed by `tests/mcp/setup`; what is asked of them stands
//! in `tests/mcp/scenarios.json`. Nothing here measures time, and nothing judges isolation.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::disallowed_methods, reason = "tests learn from the environment what must not be skipped")]

use std::path::Path;

#[path = "mcp/harness.rs"]
#[expect(dead_code, reason = "the other test programs use the rest of it")]
mod harness;
#[path = "mcp/scenario.rs"]
mod scenario;

use harness::{installed, text};
use scenario::{CLIENTS, Staged, Web, scenarios, transcript};

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
fn the_sequential_thinking_server_says_the_same_inside() {
    says_the_same_inside("sequential-thinking");
}

#[test]
fn a_server_on_an_old_library_keeps_the_same_database_inside() {
    says_the_same_inside("sqlite");
}

#[test]
fn the_fetch_server_reaches_the_network_it_was_given() {
    says_the_same_inside("fetch");
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
    let web = Web::start();
    for client in CLIENTS {
        let direct = session(&scenario, &mcp, &web, client, false);
        let inside = session(&scenario, &mcp, &web, client, true);
        assert_eq!(
            replies(&direct),
            Some(Staged::new(&scenario, &mcp, &web).calls().len()),
            "the server did not answer each call of `{name}` even without a sandbox:\n{direct}"
        );
        assert!(direct == inside, "`{name}` with {client} differs inside:\n{}", difference(&direct, &inside));
    }
}

/// What `client.py` writes down of one session in a workspace of its own.
fn session(scenario: &scenario::Scenario, mcp: &Path, web: &Web, client: &str, sandboxed: bool) -> String {
    let staged = Staged::new(scenario, mcp, web);
    let mut command = Vec::new();
    if sandboxed {
        command.extend([env!("CARGO_BIN_EXE_cuddy"), "mcp", "run"].map(str::to_owned));
        if let Some(workspace) = staged.workspace() {
            command.extend(["--workspace".to_owned(), text(workspace).to_owned()]);
        }
        if scenario.network {
            command.extend(["--network", "host"].map(str::to_owned));
        }
        command.extend(staged.env().into_keys().flat_map(|name| ["--env".to_owned(), name]));
        command.push("--".to_owned());
    }
    command.extend(staged.command());
    transcript(&[&staged], mcp, client, &command, &staged.calls())
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
