//! The official conformance suite of the protocol: a server passes it, and passes it the same way through the
//! gateway, from inside a sandbox, over stdio, whatever revision it speaks.
//!
//! The suite (npm) and its Node (PyPI) are installed by `tests/mcp/setup`; the server is the fixture in
//! `tests/mcp/fixture`. The judge is the suite: here only its verdicts are compared, check by check.
#![expect(clippy::disallowed_methods, reason = "tests learn from the environment what must not be skipped")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::print_stdout, reason = "what the suite said of a failed check")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

#[path = "mcp/harness.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod harness;

use harness::{Place, Running, fixture, free_port, installed, output, text};

/// A revision, and how many checks of its scenarios the fixture passes, those of extensions apart.
const REVISIONS: [(&str, usize); 2] = [("2025-11-25", 80), ("2026-07-28", 145)];
/// Scenarios whose subject is an extension, which no server has that speaks only the other revision.
const EXTENSION: &str = "tasks-";
/// Scenarios about the names and the number of a server's questions. A server of the older revision asks one after
/// the other and gives them no names, so the gateway names them and hands on one in each round.
const NAMED_QUESTIONS: [&str; 3] = [
    "input-required-result-basic-elicitation",
    "input-required-result-multiple-input-requests",
    "input-required-result-ignore-extra-params",
];

/// (scenario, check) → how each of its occurrences ended, in order.
type Verdicts = BTreeMap<(String, String), Vec<String>>;

#[test]
fn the_fixture_passes_the_suite_of_2025_11_25() {
    let Some(mcp) = installed() else { return };
    passes_every_check(&directly(&mcp, REVISIONS[0].0), REVISIONS[0].1);
}

#[test]
fn the_fixture_passes_the_suite_of_2026_07_28() {
    let Some(mcp) = installed() else { return };
    passes_every_check(&directly(&mcp, REVISIONS[1].0), REVISIONS[1].1);
}

#[test]
fn a_sandboxed_server_behind_the_gateway_passes_2025_11_25_as_it_does_directly() {
    same_through_the_gateway(0, &[]);
}

#[test]
fn a_sandboxed_server_behind_the_gateway_passes_2026_07_28_as_it_does_directly() {
    same_through_the_gateway(1, &[]);
}

#[test]
fn a_server_of_2025_11_25_only_passes_its_own_suite_behind_the_gateway() {
    same_through_the_gateway(0, &["--only", "2025-11-25"]);
}

#[test]
fn a_server_of_2025_11_25_only_passes_the_suite_of_2026_07_28_behind_the_gateway() {
    same_through_the_gateway(1, &["--only", "2025-11-25"]);
}

#[test]
fn a_server_of_2026_07_28_only_passes_the_suite_of_2025_11_25_behind_the_gateway() {
    same_through_the_gateway(0, &["--only", "2026-07-28"]);
}

#[test]
fn a_server_of_2026_07_28_only_passes_its_own_suite_behind_the_gateway() {
    same_through_the_gateway(1, &["--only", "2026-07-28"]);
}

fn same_through_the_gateway(revision: usize, server: &[&str]) {
    let Some(mcp) = installed() else { return };
    let (name, count) = REVISIONS[revision];
    let (direct, through) = (directly(&mcp, name), through_the_gateway(&mcp, name, server));
    let other_revision = server.iter().any(|word| word.starts_with("20") && *word != name);
    let compared = |verdicts: &Verdicts| -> Verdicts {
        let is_other =
            |scenario: &str| scenario.starts_with(EXTENSION) || NAMED_QUESTIONS.contains(&scenario);
        let kept = verdicts.iter().filter(|((scenario, _), _)| !(other_revision && is_other(scenario)));
        kept.map(|(key, ends)| (key.clone(), ends.clone())).collect()
    };
    let (one, other) = (compared(&direct), compared(&through));
    assert!(
        one == other,
        "{name} with {server:?} differs through the gateway:\n{}",
        difference(&one, &other)
    );
    passes_every_check(&other, count);
}

/// No check failed, and as many passed as ever did.
fn passes_every_check(verdicts: &Verdicts, at_least: usize) {
    let ends: Vec<_> =
        verdicts.iter().flat_map(|(key, ends)| ends.iter().map(move |end| (key, end))).collect();
    let bad: Vec<_> = ends.iter().filter(|(_, end)| ["FAILURE", "WARNING"].contains(&end.as_str())).collect();
    assert!(bad.is_empty(), "not every check passed: {bad:#?}");
    let good = ends.iter().filter(|(_, end)| *end == "SUCCESS").count();
    assert!(good >= at_least, "{good} checks passed, {at_least} once did");
}

fn directly(mcp: &Path, revision: &str) -> Verdicts {
    let place = Place::new();
    let mut server = place.command(&fixture());
    server.args(["--http", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Running::start(server, place.path("server"));
    let url = server.wait_for("the address", |line| line.strip_prefix("listening on ").map(str::to_owned));
    verdicts(mcp, &place, &url, None, revision)
}

fn through_the_gateway(mcp: &Path, revision: &str, server: &[&str]) -> Verdicts {
    let place = Place::new();
    let server = json!({ "command": fixture(), "args": server, "prefix": false });
    let config = json!({ "version": 1, "servers": { "fixture": server } });
    let config = place.write("gateway.json", &config.to_string());
    let token = place.write("token", "a-token-of-this-test-alone-0123456789");
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let port = free_port();
    let mut gateway = place.cuddy();
    gateway.args(["mcp", "gateway", "--config", text(&config), "--http", &format!("127.0.0.1:{port}")]);
    gateway.args(["--http-token-file", text(&token)]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut gateway = Running::start(gateway, place.path("gateway"));
    let address = format!("http://127.0.0.1:{port}");
    gateway.wait_for("the address", |line| line.contains(&address).then_some(()));
    let token = fs::read_to_string(&token).expect("it was just written");
    let verdicts = verdicts(mcp, &place, &format!("{address}/mcp"), Some(&token), revision);
    gateway.signal(Signal::TERM);
    assert!(gateway.ended().success(), "the gateway failed: {}", gateway.said());
    verdicts
}

/// Runs the suite and reads what it wrote.
fn verdicts(mcp: &Path, place: &Place, url: &str, token: Option<&str>, revision: &str) -> Verdicts {
    let results = place.path("results");
    let suite = mcp.join("suite");
    let mut command = place.command(text(&mcp.join("node24/bin/node")));
    if let Some(token) = token {
        let bearer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/bearer.mjs");
        command.args(["--import", text(&bearer)]);
        command.env("CUDDY_TEST_TOKEN", token).env("CUDDY_TEST_SUITE", &suite);
    }
    command.arg(suite.join("node_modules/@modelcontextprotocol/conformance/dist/index.js"));
    command.args(["server", "--url", url, "--requirements", revision, "-o", text(&results)]);
    let (_, printed, said) = output(command, place);
    let mut verdicts = Verdicts::new();
    for entry in
        fs::read_dir(&results).unwrap_or_else(|_| panic!("the suite wrote nothing:\n{printed}\n{said}"))
    {
        let folder = entry.expect("it can be listed").path();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("the suite's names are ASCII");
        let scenario = scenario_of(name);
        let checks = fs::read_to_string(folder.join("checks.json")).expect("each scenario has its checks");
        let checks: Vec<Value> = serde_json::from_str(&checks).expect("the checks are a list");
        for check in checks {
            let [id, status] = ["id", "status"].map(|key| check[key].as_str().expect("text").to_owned());
            let why = check["errorMessage"].as_str().filter(|_| status == "FAILURE").unwrap_or_default();
            if !why.is_empty() {
                println!("{scenario} {id}: {why:.600}");
            }
            verdicts.entry((scenario.to_owned(), id)).or_default().push(status);
        }
    }
    assert!(!verdicts.is_empty(), "the suite made no check:\n{printed}\n{said}");
    verdicts
}

/// `server-tools-list-2026-11-22T22-41-45-484Z` is of `tools-list`.
fn scenario_of(folder: &str) -> &str {
    let name = folder.strip_prefix("server-").unwrap_or(folder);
    let end = name.match_indices("-20").map(|(at, _)| at).filter(|at| name[*at..].contains('T')).last();
    end.map_or(name, |at| &name[..at])
}

#[test]
fn a_folder_of_results_says_its_scenario() {
    assert_eq!(scenario_of("server-tools-list-2026-11-22T22-41-45-484Z"), "tools-list");
    assert_eq!(scenario_of("server-json-schema-2020-12-2026-11-22T22-20-45-204Z"), "json-schema-2020-12");
    assert_eq!(scenario_of("server-server-stateless-2026-11-22T22-41-45-484Z"), "server-stateless");
}

fn difference(direct: &Verdicts, through: &Verdicts) -> String {
    let keys: BTreeSet<_> = direct.keys().chain(through.keys()).collect();
    let differing = keys.into_iter().filter(|key| direct.get(*key) != through.get(*key));
    let show = |ends: Option<&Vec<String>>| ends.map_or("absent".to_owned(), |ends| ends.join(" "));
    differing
        .map(|key| {
            let (one, other) = (show(direct.get(key)), show(through.get(key)));
            format!("  {} {}: directly {one}, through the gateway {other}\n", key.0, key.1)
        })
        .collect()
}
