//! Real servers behind one gateway, asked by real clients: each server's tools are there under its prefix, and
//! what it answers is what it answers alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::harness::{Place, installed, output, text};
use crate::scenario::{CLIENTS, Scenario, Staged, Web, scenarios, transcript};

/// The rows of `scenarios.json` that stand behind the gateway; the others are the same servers again.
const SERVERS: [&str; 8] =
    ["everything", "filesystem", "memory", "sequential-thinking", "git", "time", "fetch", "sqlite"];
/// What the newer revision adds to every result.
const OF_THE_REVISION: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
/// One call of each server, and a text that its reply has.
const CALLS: [(&str, &str, &str, &str); 8] = [
    ("everything", "echo", r#"{"message":"a boat"}"#, "Echo: a boat"),
    ("filesystem", "list_allowed_directories", "{}", "/workspace"),
    ("memory", "read_graph", "{}", "entities"),
    (
        "sequential-thinking",
        "sequentialthinking",
        r#"{"thought":"t","nextThoughtNeeded":false,"thoughtNumber":1,"totalThoughts":1}"#,
        "thoughtNumber",
    ),
    ("git", "git_log", r#"{"repo_path":"{workspace}","max_count":1}"#, "first"),
    ("time", "get_current_time", r#"{"timezone":"Asia/Tokyo"}"#, "Asia/Tokyo"),
    ("fetch", "fetch", r#"{"url":"http://{web}/page.html"}"#, "Wind from the west"),
    ("sqlite", "list_tables", "{}", "[]"),
];

#[test]
fn eight_servers_answer_a_client_of_2025_11_25_as_they_do_alone() {
    answer_as_they_do_alone(CLIENTS[0]);
}

#[test]
fn eight_servers_answer_a_client_of_2026_07_28_as_they_do_alone() {
    answer_as_they_do_alone(CLIENTS[1]);
}

#[test]
fn every_call_of_the_table_is_of_a_server_behind_the_gateway() {
    let named: Vec<_> = CALLS.iter().map(|(server, ..)| *server).collect();
    assert_eq!(named, SERVERS);
}

fn answer_as_they_do_alone(client: &str) {
    let Some(mcp) = installed() else { return };
    let (all, web) = (scenarios(), Web::start());
    let chosen =
        SERVERS.map(|name| all.iter().find(|one| one.name == name).expect("it is in scenarios.json"));

    let alone = chosen.map(|scenario| {
        let staged = Staged::new(scenario, &mcp, &web);
        Session::of(&transcript(&[&staged], &mcp, client, &staged.command(), &staged.calls()))
    });

    let (place, staged) = (Place::new(), chosen.map(|scenario| Staged::new(scenario, &mcp, &web)));
    let gateway = gateway(&place, &staged);
    let calls = staged.iter().flat_map(|one| {
        let prefixed = |(tool, arguments)| (format!("{}__{tool}", one.scenario.name), arguments);
        one.calls().into_iter().map(prefixed)
    });
    let calls: Vec<(String, Value)> = calls.collect();
    let refs: Vec<_> = staged.iter().collect();
    let mut through = Session::of(&transcript(&refs, &mcp, client, &gateway, &calls));

    let mut replies = std::mem::take(&mut through.replies).into_iter();
    let mut trees = std::mem::take(&mut through.trees).into_iter();
    for (scenario, alone) in chosen.into_iter().zip(alone) {
        let prefix = format!("{}__", scenario.name);
        assert!(!alone.tools.is_empty(), "`{}` offers nothing even alone", scenario.name);
        let listed: Vec<_> = through.tools.iter().filter_map(|tool| unprefixed(tool, &prefix)).collect();
        assert_same(&scenario.name, "tools", &json!(alone.tools), &json!(listed));
        let stage = Staged::new(scenario, &mcp, &web);
        for ((tool, _), reply) in stage.calls().iter().zip(&alone.replies) {
            let through = replies.next().expect("as many calls");
            // A tool that nobody offers is the gateway's to refuse, in its own words.
            if alone.tools.iter().any(|offered| offered["name"] == json!(tool)) {
                assert_same(&scenario.name, tool, reply, &through);
            }
        }
        for tree in &alone.trees {
            assert_same(&scenario.name, "workspace", tree, &trees.next().expect("as many workspaces"));
        }
    }
    let all_tools: usize = through.tools.len();
    let expected = through
        .tools
        .iter()
        .filter(|tool| SERVERS.iter().any(|name| unprefixed(tool, &format!("{name}__")).is_some()));
    assert_eq!(all_tools, expected.count(), "a tool of nobody is listed");
}

/// What one transcript says, without what differs by the revision and by who was asked.
struct Session {
    tools: Vec<Value>,
    replies: Vec<Value>,
    trees: Vec<Value>,
}

impl Session {
    fn of(transcript: &str) -> Self {
        let transcript: Value = serde_json::from_str(transcript).expect("client.py prints JSON");
        let wire = transcript["wire"].as_array().expect("a transcript has its messages");
        let mut asked = BTreeMap::new();
        let (mut tools, mut replies) = (Vec::new(), Vec::new());
        for passed in wire {
            let message = &passed[1];
            let id = message["id"].to_string();
            if passed[0] == "client" && message.get("method").is_some() {
                asked.insert(id, message["method"].clone());
            } else if passed[0] == "server" && message.get("method").is_none() {
                match asked.get(&id).and_then(Value::as_str) {
                    Some("tools/list") => {
                        tools.extend(message["result"]["tools"].as_array().cloned().unwrap_or_default());
                    }
                    Some("tools/call") => replies.push(bare(message)),
                    _ => {}
                }
            }
        }
        let trees = transcript["trees"].as_array().cloned().unwrap_or_default();
        Self { tools, replies, trees }
    }
}

/// A response without its id, and without what only the newer revision has.
fn bare(response: &Value) -> Value {
    let mut bare = Map::new();
    for key in ["result", "error"] {
        let Some(mut body) = response.get(key).cloned() else { continue };
        if let Some(members) = body.as_object_mut() {
            members.retain(|name, _| !OF_THE_REVISION.contains(&name.as_str()));
            if let Some(meta) = members.get_mut("_meta").and_then(Value::as_object_mut) {
                meta.retain(|name, _| name != "io.modelcontextprotocol/serverInfo");
            }
            members.retain(|name, value| name != "_meta" || value != &json!({}));
        }
        bare.insert(key.to_owned(), body);
    }
    Value::Object(bare)
}

/// The tool under its server's own name, if it is one of this prefix.
fn unprefixed(tool: &Value, prefix: &str) -> Option<Value> {
    let name = tool["name"].as_str()?.strip_prefix(prefix)?;
    let mut tool = tool.clone();
    tool["name"] = json!(name);
    Some(tool)
}

#[track_caller]
fn assert_same(server: &str, what: &str, alone: &Value, through: &Value) {
    assert!(
        alone == through,
        "`{server}`, {what}:\n  alone: {:.3000}\n  through the gateway: {:.3000}",
        alone.to_string(),
        through.to_string()
    );
}

/// The command line of a gateway in front of these servers.
fn gateway(place: &Place, staged: &[Staged<'_>]) -> Vec<String> {
    let mut servers = Map::new();
    for one in staged {
        let command = one.command();
        let mut server = json!({ "command": command[0], "args": command[1..], "env": one.env() });
        if let Some(workspace) = one.workspace() {
            server["workspace"] = json!([workspace]);
        }
        if one.scenario.network {
            server["network"] = json!("host");
        }
        servers.insert(one.scenario.name.clone(), server);
    }
    let config = place.write("gateway.json", &json!({ "version": 1, "servers": servers }).to_string());
    // Clients pass hardly any of their environment on, so the gateway's places stand in its command line.
    let place = ["home", "data", "run"].map(|name| place.path(name));
    let variables = ["HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"].iter().zip(&place);
    let mut line = vec!["/usr/bin/env".to_owned()];
    line.extend(variables.map(|(name, path)| format!("{name}={}", text(path))));
    line.extend(
        [env!("CARGO_BIN_EXE_cuddy"), "mcp", "gateway", "--config", text(&config)].map(str::to_owned),
    );
    line
}

// ── other clients ───────────────────────────────────────────────────────────────────────────────

#[test]
fn the_client_of_the_typescript_sdk_sees_every_tool_and_gets_every_reply() {
    let script = |mcp: &Path| {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.mjs");
        [mcp.join("node24/bin/node"), client].map(|path| text(&path).to_owned()).to_vec()
    };
    one_session_of(script);
}

#[test]
fn the_client_of_fastmcp_sees_every_tool_and_gets_every_reply() {
    let script = |mcp: &Path| {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/fast_client.py");
        [mcp.join("fastmcp/bin/python"), client].map(|path| text(&path).to_owned()).to_vec()
    };
    one_session_of(script);
}

#[test]
fn the_inspector_sees_every_tool_and_gets_every_reply() {
    let Some(mcp) = installed() else { return };
    let ask = |place: &Place, gateway: &[String], words: &[&str]| -> Value {
        let mut inspector = place.command(text(&mcp.join("node24/bin/node")));
        inspector
            .arg(mcp.join("suite/node_modules/.bin/mcp-inspector"))
            .arg("--cli")
            .args(gateway)
            .args(words);
        printed_json(inspector, place)
    };
    with_all_servers(&mcp, |place, gateway, calls| {
        // It takes options of its own from anywhere in the command line, `--config` among them.
        let script = place.write("gateway.sh", &format!("exec {}\n", gateway.join(" ")));
        let gateway = &["sh".to_owned(), text(&script).to_owned()];
        let listed = ask(place, gateway, &["--method", "tools/list"]);
        let tools = listed["tools"].as_array().expect("it prints the list").clone();
        let names = tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect();
        let replies = calls.iter().map(|(tool, arguments)| {
            let given: Vec<_> = arguments.as_object().expect("arguments are named").iter().collect();
            let given: Vec<_> = given
                .iter()
                .map(|(name, value)| match value {
                    Value::String(value) => format!("{name}={value}"),
                    other => format!("{name}={other}"),
                })
                .collect();
            let mut words = vec!["--method", "tools/call", "--tool-name", tool.as_str()];
            words.extend(given.iter().flat_map(|pair| ["--tool-arg", pair.as_str()]));
            ask(place, gateway, &words)
        });
        (names, replies.collect())
    });
}

/// A script that makes all calls in one session and prints tools and replies.
fn one_session_of(script: impl Fn(&Path) -> Vec<String>) {
    let Some(mcp) = installed() else { return };
    with_all_servers(&mcp, |place, gateway, calls| {
        let words = script(&mcp);
        let mut client = place.command(&words[0]);
        client.args(&words[1..]).arg(serde_json::to_string(calls).expect("JSON made of JSON")).arg("--");
        client.args(gateway).env("CUDDY_TEST_SUITE", mcp.join("suite"));
        let printed = printed_json(client, place);
        let tools = serde_json::from_value(printed["tools"].clone()).expect("the names are text");
        (tools, printed["replies"].as_array().cloned().expect("the replies are a list"))
    });
}

fn printed_json(command: std::process::Command, place: &Place) -> Value {
    let shown = format!("{command:?}");
    let (status, printed, said) = output(command, place);
    assert!(status.success(), "{shown}: {status}\n{printed}\n{said}");
    serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("{shown} printed no JSON: {error}\n{printed}"))
}

/// Puts all servers behind a gateway and judges the tools and replies that `client` got of it.
fn with_all_servers(
    mcp: &Path,
    client: impl Fn(&Place, &[String], &[(String, Value)]) -> (Vec<String>, Vec<Value>),
) {
    let (all, web, place) = (scenarios(), Web::start(), Place::new());
    let chosen =
        SERVERS.map(|name| all.iter().find(|one: &&Scenario| one.name == name).expect("it is there"));
    let staged = chosen.map(|scenario| Staged::new(scenario, mcp, &web));
    let calls: Vec<_> = CALLS
        .iter()
        .zip(&staged)
        .map(|((server, tool, arguments, _), staged)| {
            let workspace = staged.workspace().map_or("", text);
            let arguments =
                arguments.replace("{workspace}", workspace).replace("{web}", &web.address.to_string());
            (format!("{server}__{tool}"), serde_json::from_str(&arguments).expect("the table holds JSON"))
        })
        .collect();
    let (tools, replies) = client(&place, &gateway(&place, &staged), &calls);
    for (tool, _) in &calls {
        assert!(tools.contains(tool), "`{tool}` is not among {tools:?}");
    }
    assert_eq!(replies.len(), CALLS.len());
    for ((server, tool, _, expected), reply) in CALLS.iter().zip(&replies) {
        let reply = reply.to_string();
        assert!(reply.contains(expected), "`{server}` answered `{tool}` with {reply:.2000}");
    }
}
