//! Configurations of MCP servers, as people have them: every format read whole, every mistake told, nothing
//! weaker than what was asked for. Pure readers are asked directly; no server is started.

use std::collections::BTreeMap;
use std::path::Path;

use cuddy::container::options::Network;
use cuddy::engine::config::document::Document;
use cuddy::engine::config::format::{self, Format};
use cuddy::engine::config::servers::{GatewayConfig, ServerConfig, Transport};
use cuddy::engine::config::table::Reader;
use cuddy::engine::config::variables::{Filling, Surroundings};
use cuddy::engine::config::{templates, write};
use proptest::prelude::*;

struct Outcome {
    format: Format,
    config: GatewayConfig,
    mistakes: Vec<String>,
    remarks: Vec<String>,
}

impl Outcome {
    fn server(&self, name: &str) -> &ServerConfig {
        let found = self.config.servers.iter().find(|server| server.name == name);
        found.unwrap_or_else(|| panic!("no `{name}`: {:#?} {:#?}", self.mistakes, self.remarks))
    }

    fn line(&self, name: &str) -> String {
        self.server(name).run_line().expect("it is started").arguments[2..].join(" ")
    }

    #[track_caller]
    fn expected(self) -> Self {
        assert!(self.mistakes.is_empty(), "{:#?}", self.mistakes);
        self
    }

    #[track_caller]
    fn remarks(&self, part: &str) {
        assert!(self.remarks.iter().any(|text| text.contains(part)), "{part}: {:#?}", self.remarks);
    }

    #[track_caller]
    fn complains(&self, part: &str) {
        assert!(self.mistakes.iter().any(|text| text.contains(part)), "{part}: {:#?}", self.mistakes);
    }
}

fn surroundings() -> Surroundings {
    let map = |entries: &[(&str, &str)]| -> BTreeMap<String, String> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    Surroundings {
        environment: map(&[("TOKEN", "secret"), ("API_KEY", "key")]),
        home: Some("/home/me".into()),
        workspace: "/w".into(),
        inputs: map(&[("pat", "p")]),
        filling: Filling::Values,
    }
}

fn try_read(file: &str, text: &str) -> Option<Outcome> {
    let document = Document { file: file.into(), root: format::parse(Path::new(file), text).ok()? };
    let format = format::recognise(&document.root)?;
    let surroundings = surroundings();
    let reader = Reader::new(&document, &surroundings, format.dialect(), format.unknown(), "/w".into());
    let config = format::read(format, &reader);
    let (mistakes, remarks) = reader.finish();
    let lines =
        |list: Vec<cuddy::engine::config::document::Mistake>| list.iter().map(ToString::to_string).collect();
    Some(Outcome { format, config, mistakes: lines(mistakes), remarks: lines(remarks) })
}

#[track_caller]
fn read(file: &str, text: &str) -> Outcome {
    let parsed = format::parse(Path::new(file), text);
    assert!(parsed.is_ok(), "{parsed:?}");
    try_read(file, text).expect("the format is known")
}

// ── clients ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn mcp_servers_of_claude_and_cursor_are_read_with_their_placeholders() {
    let outcome = read(
        "claude.json",
        r#"{
  // the file of a person
  "mcpServers": {
    "files": { "command": "mcp-server-filesystem", "args": ["${workspaceFolder}", "~/x"], "env": {"T": "${TOKEN}", "N": "${NONE:-n}"} },
    "My Server": { "type": "stdio", "command": "x", "alwaysAllow": ["a"], "disabled": false },
    "off": { "command": "y", "disabled": true },
    "far": { "type": "http", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer ${env:TOKEN}"} },
    "wide": { "command": "z", "cuddy": { "workspace": ["${workspaceFolder}"], "network": "host", "memory": "1g" } }
  },
  "theme": "dark"
}"#,
    )
    .expected();
    assert_eq!(outcome.format, Format::McpServers);
    assert_eq!(outcome.line("files"), "--env=N --env=T -- mcp-server-filesystem /w ~/x");
    assert_eq!(outcome.server("files").policy.environment["T"], "secret");
    assert_eq!(outcome.line("wide"), "--workspace=/w --network=host --memory=1g -- z");
    assert_eq!(outcome.line("My_Server"), "-- x");
    outcome.remarks("`My Server` is called `My_Server` here");
    outcome.remarks("switched off");
    let Transport::Http { url, headers } = &outcome.server("far").transport else { panic!("no HTTP") };
    assert_eq!((url.as_str(), headers[0].1.as_str()), ("https://example.com/mcp", "Bearer secret"));
    assert_eq!(outcome.server("files").policy.network, Network::None);
    assert_eq!(outcome.config.servers.len(), 4);
}

#[test]
fn every_mistake_of_a_client_s_file_has_its_line_and_key() {
    let outcome = read(
        "c.json",
        r#"{ "mcpServers": {
  "a": { "command": "" },
  "b": { "args": ["x"] },
  "c": { "type": "sse", "url": "https://x/sse" },
  "d": { "command": "x", "env": { "K": "${env:MISSING}" } },
  "e": { "command": "x", "cuddy": { "netwrk": "none" } },
  "f": { "command": "x", "args": "y" },
  "g h": { "command": "x" },
  "g_h": { "command": "x" },
  "i": { "url": "file:///etc/passwd" },
  "j": { "command": "x", "envFile": ".env" },
  "!!!": { "command": "x" }
}}"#,
    );
    for part in [
        "c.json:2:21: `mcpServers.a.command`: an empty command",
        "c.json:3:8: `mcpServers.b`: nothing says how this server is reached",
        "`mcpServers.c`: the transport `sse` was given up",
        "c.json:5:40: `mcpServers.d.env.K`: the variable `MISSING` is not set",
        "c.json:6:37: `mcpServers.e.cuddy.netwrk`: `netwrk` is not known here; `network` is known",
        "`mcpServers.f.args`: text where a list of text belongs",
        "`mcpServers.g_h`: a second server with the name `g_h`",
        "`mcpServers.i.url`: no address of a server",
        "`mcpServers.j.envFile`: files of variables are not read",
        "`!!!` is no name of a server",
    ] {
        outcome.complains(part);
    }
    assert_eq!(outcome.mistakes.len(), 10, "{:#?}", outcome.mistakes);
}

#[test]
fn a_sandbox_block_of_vs_code_becomes_mounts_and_its_domains_become_no_network() {
    let outcome = read(
        ".vscode/mcp.json",
        r#"{
  "inputs": [{ "id": "pat", "type": "promptString", "password": true }],
  "servers": {
    "boxed": {
      "type": "stdio", "command": "x", "args": ["--t", "${input:pat}"],
      "sandboxEnabled": true,
      "sandbox": {
        "filesystem": { "allowWrite": ["${workspaceFolder}", "~/cache"], "denyWrite": ["${workspaceFolder}/.git"],
                        "denyRead": ["~/.ssh", "${workspaceFolder}/secret"] },
        "network": { "allowedDomains": ["api.github.com"], "deniedDomains": [] }
      }
    },
    "plain": { "type": "http", "url": "https://x.example/mcp" }
  }
}"#,
    )
    .expected();
    assert_eq!(outcome.format, Format::VsCode);
    let expected = "--ro=/w/.git --rw=/w --rw=/home/me/cache --hide=/w/secret -- x --t p";
    assert_eq!(outcome.line("boxed"), expected);
    outcome.remarks("cuddy cannot yet limit a network to domains: this server gets no network");
}

#[test]
fn an_input_that_nobody_gave_is_a_mistake() {
    let outcome = read("m.json", r#"{"servers": {"a": {"command": "x", "args": ["${input:other}"]}}}"#);
    outcome.complains("the input `other` has no value");
}

#[test]
fn codex_tables_are_read_with_their_times_tools_and_named_secrets() {
    let outcome = read(
        "config.toml",
        r#"
model = "gpt-5"
[mcp_servers.local]
command = "server"
args = ["${NOT_FILLED_IN}"]
env = { A = "1" }
env_vars = ["TOKEN", { name = "API_KEY", source = "local" }]
cwd = "/w/sub"
startup_timeout_sec = 20
tool_timeout_sec = 1.5
enabled_tools = ["read", "list"]
disabled_tools = ["list"]
[mcp_servers.local.tools.read]
approval_mode = "approve"
[mcp_servers.far]
url = "https://far.example/mcp"
bearer_token_env_var = "TOKEN"
http_headers = { X = "y" }
env_http_headers = { K = "API_KEY" }
[mcp_servers.off]
command = "z"
enabled = false
[profiles.x]
model = "o3"
"#,
    )
    .expected();
    assert_eq!(outcome.format, Format::Codex);
    assert_eq!(outcome.line("local"), "--env=A --env=API_KEY --env=TOKEN -- server ${NOT_FILLED_IN}");
    let local = outcome.server("local");
    assert_eq!((local.timeouts.start_ms, local.timeouts.call_ms), (20_000, 1_500));
    assert!(local.tools.shows("read") && !local.tools.shows("list") && !local.tools.shows("write"));
    let Transport::Http { headers, .. } = &outcome.server("far").transport else { panic!("no HTTP") };
    let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    assert_eq!(lines, ["X: y", "K: key", "Authorization: Bearer secret"]);
    assert_eq!(outcome.config.servers.len(), 2);
}

#[test]
fn mass_gen_servers_are_found_in_every_agent_and_the_same_twice_is_one() {
    let text = r#"
agents:
  - id: a
    backend:
      type: gemini
      mcp_servers: &shared
        - name: weather
          type: stdio
          command: python -u
          args: [-m, weather]
          env: {KEY: "${API_KEY}", PORT: 8080}
          timeout: 30
  - id: b
    backend:
      type: openai
      mcp_servers: *shared
      exclude_tools: [mcp__weather__x]
  - id: c
    backend:
      mcp_servers:
        web:
          type: streamable-http
          url: https://web.example/mcp
ui: {display_type: simple}
"#;
    let outcome = read("massgen.yaml", text);
    assert_eq!(outcome.format, Format::MassGen);
    let outcome = outcome.expected();
    assert_eq!(outcome.config.servers.len(), 2);
    let weather = outcome.server("weather");
    assert_eq!(weather.policy.environment["PORT"], "8080");
    assert_eq!(weather.timeouts.call_ms, 30_000);
    // MassGen splits the text of `command` as a shell does.
    assert_eq!(outcome.line("weather"), "--env=KEY --env=PORT -- python -u -m weather");
    let other = text.replace("- id: c", "- id: c\n    x: 1").replace("web:", "weather:");
    read("massgen.yaml", &other).complains("a second server with the name `weather`");
}

// ── launchers ───────────────────────────────────────────────────────────────────────────────────

fn launcher(command: &str, args: &[&str], rest: &str) -> Outcome {
    let args = serde_json::to_string(args).expect("text is JSON");
    read("l.json", &format!(r#"{{"mcpServers": {{"s": {{"command": "{command}", "args": {args}{rest}}}}}}}"#))
}

#[test]
fn docker_run_becomes_an_image_under_our_policy() {
    let args = [
        "run",
        "-i",
        "--rm",
        "-e",
        "TOKEN",
        "--env=B=2",
        "-v",
        "/data:/data:ro",
        "--mount",
        "type=bind,src=/w,dst=/w",
        "--network=none",
        "-m",
        "512m",
        "--pids-limit",
        "50",
        "--name",
        "x",
        "mcp/git",
        "--repo",
        "/w",
    ];
    let outcome = launcher("docker", &args, r#", "env": {"TOKEN": "t", "UNUSED": "u"}"#).expected();
    let expected =
        "--image=mcp/git --ro=/data --rw=/w --memory=512m --pids=50 --env=B --env=TOKEN -- --repo /w";
    assert_eq!(outcome.line("s"), expected);
    assert_eq!(outcome.server("s").policy.environment["TOKEN"], "t");
    assert!(outcome.remarks.is_empty(), "{:?}", outcome.remarks);
}

#[test]
fn what_docker_run_would_give_and_a_sandbox_does_not_is_said() {
    let outcome =
        launcher("/usr/bin/podman", &["run", "--privileged", "-it", "-u", "0", "img"], "").expected();
    outcome.remarks("it would have the network `bridge`; here it gets none");
    outcome.remarks("`--privileged` has no effect");
    outcome.remarks("runs as the caller");
    assert_eq!(outcome.line("s"), "--image=img");
    for (args, part) in [
        (vec!["run", "-v", "cache:/cache", "img"], "`cache` is a volume"),
        (vec!["run", "-v", "/a:/b", "img"], "`/a` would be seen as `/b`"),
        (vec!["run", "--mount", "type=volume,src=a,dst=/a", "img"], "no bind mount"),
        (vec!["run", "--entrypoint", "sh", "img"], "`--entrypoint` of `docker run` is not understood"),
        (vec!["run", "-e", "NONE", "img"], "the variable `NONE` is not set"),
        (vec!["run", "-i"], "without an image"),
        (vec!["run", "-m"], "without its value"),
        (vec!["run", "-m", "lots", "img"], "no size"),
    ] {
        launcher("docker", &args, "").complains(part);
    }
}

#[test]
fn a_server_that_stands_behind_mcp_run_already_keeps_its_policy_and_is_not_boxed_twice() {
    let args = [
        "mcp",
        "run",
        "--workspace",
        "/w",
        "--ro=/r",
        "--env",
        "TOKEN",
        "--network",
        "host",
        "--memory",
        "1g",
        "--",
        "node",
        "s.js",
    ];
    let outcome = launcher("cuddy", &args, "").expected();
    let expected = "--workspace=/w --ro=/r --network=host --memory=1g --env=TOKEN -- node s.js";
    assert_eq!(outcome.line("s"), expected);
    launcher("cuddy", &["mcp", "run", "--explain", "--", "x"], "")
        .complains("`--explain` of `cuddy mcp run`");
    launcher("cuddy", &["mcp", "gateway", "--config", "x"], "").complains("a gateway in a gateway");
}

// ── catalogues and policies ─────────────────────────────────────────────────────────────────────

#[test]
fn an_entry_of_docker_s_catalogue_is_an_image_whose_secrets_come_from_the_environment() {
    let outcome = read(
        "server.yaml",
        "name: github\ntype: server\nimage: ghcr.io/x/github:1\ncommand: [stdio]\nlongLived: true\n\
         env:\n  - {name: A, value: 1}\nsecrets:\n  - {name: github.token, env: TOKEN}\n\
         volumes: ['/w:/w']\nallowHosts: ['api.github.com:443']\nprefix: gh\ntools:\n  - {name: x}\n",
    )
    .expected();
    assert_eq!(outcome.format, Format::Docker);
    assert_eq!(outcome.line("github"), "--image=ghcr.io/x/github:1 --ro=/w --env=A --env=TOKEN -- stdio");
    assert_eq!(outcome.server("github").prefix_text(), "gh");
    outcome.remarks("cuddy cannot yet limit a network to hosts");
    let bad = "registry:\n  a:\n    type: server\n    image: x\n    secrets: [{name: s, env: NONE}]\n    \
               command: ['{{a.b}}']\n  b:\n    type: remote\n    remote: {url: 'https://b/', transport_type: sse}\n";
    let outcome = read("catalog.yaml", bad);
    outcome.complains("Docker's store of secrets cannot be read, and `NONE` is not set");
    outcome.complains("`{{…}}` is filled in by Docker's gateway alone");
    outcome.complains("`sse` was given up");
}

#[test]
fn tool_hive_s_run_config_and_profile_become_image_and_policy() {
    let outcome = read(
        "run.json",
        r#"{ "schema_version": "v0.1.0", "name": "fetch", "image": "ghcr.io/x/fetch:1", "transport": "stdio",
  "cmd_args": ["-v"], "env_vars": {"A": "b"}, "tools_filter": ["fetch"],
  "tools_override": {"fetch": {"name": "get"}}, "volumes": ["/w:/w:ro"],
  "permission_profile": { "read": ["/r"], "write": ["/o"], "network": {"outbound": {"insecure_allow_all": true}} } }"#,
    )
    .expected();
    assert_eq!(outcome.format, Format::ToolHive);
    let expected = "--image=ghcr.io/x/fetch:1 --ro=/w --ro=/r --rw=/o --network=host --env=A -- -v";
    assert_eq!(outcome.line("fetch"), expected);
    assert_eq!(outcome.server("fetch").tools.shown_name("fetch"), "get");
    let profile = r#"{"read": ["/r"], "write": [], "network": {"outbound": {"insecure_allow_all": false, "allow_host": ["x.y"], "allow_port": [443]}}}"#;
    let outcome = read("profile.json", profile).expected();
    assert_eq!(outcome.format, Format::ToolHiveProfile);
    assert!(outcome.format.is_policy());
    assert_eq!(outcome.config.servers[0].policy.network, Network::None);
    outcome.remarks("cannot yet limit a network to hosts and ports");
}

#[test]
fn srt_settings_are_a_policy() {
    let outcome = read(
        "srt.json",
        r#"{"network": {"allowedDomains": ["x.y"], "deniedDomains": []},
 "filesystem": {"allowWrite": ["/w", {"path": "/odd*name", "literal": true}], "denyWrite": ["/w/.env"], "denyRead": ["~"], "allowRead": ["~/p"]}}"#,
    )
    .expected();
    assert_eq!(outcome.format, Format::Srt);
    let policy = &outcome.config.servers[0].policy;
    assert_eq!(policy.read_write, [Path::new("/w"), Path::new("/odd*name")]);
    assert_eq!(policy.read_only, [Path::new("/home/me/p"), Path::new("/w/.env")]);
    outcome.remarks("cannot yet limit a network to domains");
    read("srt.json", r#"{"filesystem": {"allowWrite": ["/w/**"]}}"#).complains("patterns are not understood");
}

#[test]
fn what_is_no_configuration_is_not_taken_for_one() {
    for text in ["{}", "[]", "1", r#"{"a": 1}"#, r#"{"servers": 1}"#, r#"{"mcpServers": []}"#] {
        assert!(try_read("x.json", text).is_none(), "{text}");
    }
}

// ── no input makes a reader panic or hang ───────────────────────────────────────────────────────

/// Trees made of the words that the formats know, at places where they may not belong.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let word = prop::sample::select(vec![
        "mcpServers",
        "servers",
        "mcp_servers",
        "registry",
        "version",
        "gateway",
        "defaults",
        "command",
        "args",
        "env",
        "url",
        "type",
        "image",
        "filesystem",
        "network",
        "allowWrite",
        "denyRead",
        "allowedDomains",
        "sandbox",
        "agents",
        "backend",
        "name",
        "read",
        "write",
        "outbound",
        "tools",
        "rename",
        "timeouts",
        "remote",
        "secrets",
        "volumes",
        "env_vars",
        "cuddy",
        "prefix",
        "workspace",
        "stdio",
        "docker",
        "run",
        "-v",
        "-e",
        "${env:TOKEN}",
        "${",
        "~",
        "*",
        "",
        "a",
        "permission_profile",
        "transport",
        "sandboxEnabled",
    ]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_tree_makes_a_reader_panic(value in tree()) {
        let text = value.to_string();
        for (_, format) in format::FORMATS {
            let Ok(root) = format::parse(Path::new("x.json"), &text) else { continue };
            let document = Document { file: "x.json".into(), root };
            let surroundings = surroundings();
            let reader = Reader::new(&document, &surroundings, format.dialect(), format.unknown(), "/w".into());
            let config = format::read(format, &reader);
            for server in config.servers {
                prop_assert!(server.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)));
                server.run_line();
            }
        }
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,200}", name in prop::sample::select(vec!["a.json", "a.toml", "a.yaml", "a"])) {
        let _: Option<Outcome> = try_read(name, &text);
    }

    #[test]
    fn no_text_of_signs_makes_a_parser_panic(text in "[\\[\\]{}:,\\-\"'#&*!|>%@`~?\n\t a0=.$]{0,200}", name in prop::sample::select(vec!["a.json", "a.toml", "a.yaml", "a"])) {
        let _: Option<Outcome> = try_read(name, &text);
    }
}

// ── our own words ───────────────────────────────────────────────────────────────────────────────

fn schema() -> serde_json::Value {
    let text = std::fs::read_to_string("docs/schema/mcp.schema.json").expect("it is in the project");
    serde_json::from_str(&text).expect("it is JSON")
}

/// A value that a schema allows, as TOML.
fn sample(schema: &serde_json::Value) -> String {
    let schema = schema.get("anyOf").map_or(schema, |any| &any[0]);
    if let Some(value) = schema.get("const").or(schema.get("enum").map(|values| &values[0])) {
        return value.to_string();
    }
    let kind = match &schema["type"] {
        serde_json::Value::Array(kinds) => kinds[0].as_str().expect("a word"),
        kind => kind.as_str().expect("a word"),
    };
    match kind {
        "integer" => schema["maximum"].to_string(),
        "boolean" => "true".to_owned(),
        "array" => "['1m']".to_owned(),
        "object" => match schema.get("properties") {
            Some(serde_json::Value::Object(inner)) => {
                let pairs = inner.iter().map(|(name, schema)| format!("{name} = {}", sample(schema)));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            _ => "{ a = 'b' }".to_owned(),
        },
        _ if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms")) => "'5m'".to_owned(),
        _ => "'1m'".to_owned(),
    }
}

#[test]
fn what_the_schema_allows_is_read() {
    let schema = schema();
    let properties = |pointer: &str| schema.pointer(pointer).unwrap().as_object().unwrap().clone();
    let server = properties("/properties/servers/additionalProperties/properties");
    let reached = ["command", "image", "url", "headers", "args", "cwd"];
    let mut text = String::from("version = 1\n");
    for table in ["gateway", "defaults"] {
        text.push_str(&format!("[{table}]\n"));
        for (name, schema) in properties(&format!("/properties/{table}/properties")) {
            let value = if name == "cpus" { "'1'".to_owned() } else { sample(&schema) };
            let value = if name == "env_pass" { "['TOKEN']".to_owned() } else { value };
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    for (n, way) in [
        "command = 'x'\nargs = ['a']\ncwd = '/w'",
        "image = 'x'\nargs = [1]",
        "url = 'https://x'\nheaders = {a = 'b'}",
    ]
    .iter()
    .enumerate()
    {
        text.push_str(&format!("[servers.s{n}]\n{way}\n"));
        for (name, schema) in server.iter().filter(|(name, _)| !reached.contains(&name.as_str())) {
            let value = match name.as_str() {
                "cpus" => "1.5".to_owned(),
                "env_pass" => "['TOKEN']".to_owned(),
                _ => sample(schema),
            };
            text.push_str(&format!("{name} = {value}\n"));
        }
    }
    let outcome = read("mcp.toml", &text).expected();
    assert_eq!(outcome.config.servers.len(), 3);
}

#[test]
fn every_word_that_is_explained_is_in_the_schema() {
    let schema = schema();
    let words = |pointer: &str| -> Vec<String> {
        schema.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    let mut known = words("/properties/servers/additionalProperties/properties");
    for table in ["tools", "timeouts"] {
        known.extend(words(&format!(
            "/properties/servers/additionalProperties/properties/{table}/properties"
        )));
    }
    known.extend(words("/properties/gateway/properties"));
    let said = [templates::HEAD, templates::EXAMPLE].join("\n");
    let said = said.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = "));
    let said: Vec<&str> = said.map(|(word, _)| word).filter(|word| *word != "version").collect();
    assert!(said.len() > 20);
    for word in said {
        assert!(known.iter().any(|known| known == word), "{word}");
    }
}

#[test]
fn every_template_is_read_and_so_is_all_that_the_skeleton_explains() {
    for template in templates::TEMPLATES {
        let outcome = read("mcp.toml", &templates::configuration(&[template])).expected();
        assert_eq!(outcome.config.servers[0].name, template.name);
        assert!(outcome.remarks.is_empty(), "{:?}", outcome.remarks);
    }
    let all: Vec<_> = templates::TEMPLATES.iter().collect();
    assert_eq!(read("mcp.toml", &templates::configuration(&all)).expected().config.servers.len(), all.len());
    let skeleton = templates::configuration(&[]);
    let uncommented: Vec<&str> = skeleton
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = ") || rest.starts_with('['))
                .unwrap_or(line)
        })
        .collect();
    let text = uncommented.join("\n").replace("LANG", "TOKEN");
    read("mcp.toml", &text).expected();
}

#[test]
fn what_is_written_reads_back_to_what_it_was() {
    let texts = [
        ("examples/mcp/cuddy.toml", true),
        ("examples/mcp/plain.json", true),
        ("examples/mcp/vscode.mcp.json", true),
        ("examples/mcp/massgen.yaml", true),
    ];
    for (file, _) in texts {
        let text = std::fs::read_to_string(file).unwrap();
        let first = read(file, &text).expected();
        let written = write::text(&first.config, &[]);
        let second = read("written.toml", &written).expected();
        let bare = |config: &GatewayConfig| {
            let mut config = config.clone();
            config.servers.iter_mut().for_each(|server| server.source_place = Default::default());
            config
        };
        assert_eq!(bare(&first.config), bare(&second.config), "{written}");
    }
}

#[test]
fn no_secret_is_written_where_placeholders_stay() {
    let text = r#"{"mcpServers": {"a": {"command": "x", "args": ["${TOKEN}"], "env": {"T": "${env:TOKEN}"}},
        "b": {"command": "docker", "args": ["run", "-e", "TOKEN", "i"]}}}"#;
    let document =
        Document { file: "x.json".into(), root: format::parse(Path::new("x.json"), text).unwrap() };
    let names = Surroundings { filling: Filling::Names, ..surroundings() };
    let format = Format::McpServers;
    let reader = Reader::new(&document, &names, format.dialect(), format.unknown(), "/w".into());
    let written = write::text(&format::read(format, &reader), &[]);
    assert!(reader.finish().0.is_empty());
    assert!(!written.contains("secret"), "{written}");
    assert_eq!(written.matches("${env:TOKEN}").count(), 3, "{written}");
    assert_eq!(read("w.toml", &written).expected().server("a").policy.environment["T"], "secret");
}

// ── the examples ────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_example_is_read_and_its_servers_are_there() {
    let expected: [(&str, Format, &[&str]); 8] = [
        ("cuddy.toml", Format::Cuddy, &["files", "memory", "fetch", "notes", "tickets"]),
        ("plain.json", Format::McpServers, &["files", "time", "github"]),
        ("mcp-run.json", Format::McpServers, &["files", "memory", "time"]),
        ("serve.json", Format::McpServers, &["sandboxes"]),
        ("cursor.mcp.json", Format::McpServers, &["files", "time"]),
        ("vscode.mcp.json", Format::VsCode, &["files", "time"]),
        ("massgen.yaml", Format::MassGen, &["files", "weather", "time"]),
        ("claude-code.mcp.json", Format::McpServers, &[]),
    ];
    let mut read_files: Vec<String> = vec!["README.md".to_owned(), "codex.toml".to_owned()];
    for (file, format, names) in expected {
        let path = format!("examples/mcp/{file}");
        let outcome = read(&path, &std::fs::read_to_string(&path).unwrap());
        assert_eq!(outcome.format, format, "{file}");
        if names.is_empty() {
            // The client's file names the gateway; the gateway itself is not to read it.
            outcome.complains("a gateway in a gateway");
        } else {
            let found: Vec<&str> = outcome.config.servers.iter().map(|server| server.name.as_str()).collect();
            assert_eq!(found, names, "{file}");
            assert!(outcome.mistakes.is_empty(), "{file}: {:?}", outcome.mistakes);
        }
        read_files.push(file.to_owned());
    }
    let codex = read("config.toml", &std::fs::read_to_string("examples/mcp/codex.toml").unwrap());
    assert_eq!(codex.mistakes.len(), 1, "{:?}", codex.mistakes);
    codex.complains("a gateway in a gateway");
    for entry in std::fs::read_dir("examples/mcp").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(read_files.contains(&name), "{name} is read by no test");
    }
}
