//! Pure: cuddy's own configuration of MCP servers, in TOML (or the same tables in JSON or YAML).
//!
//! `docs/schema/mcp.schema.json` describes it to editors; a test holds the two together. What is not known here is a
//! mistake, for a word that is spelt wrong must not become a wall that is missing.

use std::path::PathBuf;

use crate::container::limits;
use crate::container::options::Network;
use crate::engine::config::document::{Key, Node, Value, shown};
use crate::engine::config::servers::{
    GatewayConfig, GatewaySettings, NAME_BYTES_MAX, Prefix, RESTARTS_DEFAULT, Restart, ServerConfig,
    ServerPolicy, Start, ToolRules, Transport,
};
use crate::engine::config::table::{Reader, Table};

/// The version of the format that is read.
pub const VERSION: u64 = 1;
/// Longest time that may be written, in milliseconds: a week.
const TIME_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Longest list of tools, and most words in other lists.
const LIST_MAX: usize = 10_000;

/// Words that no other format has for a server: who writes one means a policy, and a file with one must not
/// pass as another program's, whose unknown words are only remarked upon.
const OWN_WORDS: [&str; 16] = [
    "cpus",
    "env_pass",
    "hide",
    "memory",
    "network",
    "pids",
    "pin",
    "prefix",
    "restart",
    "ro",
    "rw",
    "seccomp",
    "start",
    "timeouts",
    "warm",
    "workspace",
];

/// Whether a document is of this format.
pub fn is_ours(root: &Node) -> bool {
    let Some(servers) = root.get("servers").and_then(Node::entries) else { return false };
    ["version", "gateway", "defaults"].iter().any(|name| root.get(name).is_some())
        || servers.iter().any(|(_, server)| OWN_WORDS.iter().any(|word| server.get(word).is_some()))
}

/// Reads a document.
pub fn read(reader: &Reader<'_>) -> GatewayConfig {
    let root = &reader.document.root;
    let Some(table) = reader.table(root) else { return GatewayConfig::default() };
    table.pass_over(&["$schema"]);
    match table.node("version") {
        Some(node) if node.value != Value::Integer(1) => {
            reader.mistake(
                node,
                "a version that this cuddy does not read",
                format!("write `version = {VERSION}`"),
            );
        }
        _ => {}
    }
    let gateway = table.table("gateway").map(gateway).unwrap_or_default();
    let defaults = table.table("defaults");
    let mut servers = Vec::new();
    if let Some(list) = table.table("servers") {
        for (key, node) in list.entries() {
            servers.extend(server(reader, list.node, key, node, defaults.as_ref()));
        }
    }
    // Keys of the defaults are asked for once for each server: without one they would all be unknown.
    if let Some(defaults) = defaults {
        policy(&defaults, &mut ServerPolicy::default());
        defaults.close();
    }
    table.close();
    GatewayConfig { servers, gateway }
}

fn gateway(table: Table<'_, '_>) -> GatewaySettings {
    let mut settings = GatewaySettings::default();
    if let Some(name) = table.text("name") {
        settings.name = name;
    }
    if let Some(bytes) = bytes(&table, "message_max") {
        settings.message_bytes_max = bytes;
    }
    if let Some(bytes) = bytes(&table, "log_max") {
        settings.log_bytes_max = bytes;
    }
    let number = |name, max| table.whole(name, 1..=max).and_then(|n| u32::try_from(n).ok());
    settings.calls_max = number("calls_max", 1_000_000).unwrap_or(settings.calls_max);
    settings.running_max = number("running_max", 10_000).unwrap_or(settings.running_max);
    if let Some(length) = table.whole("tool_name_max", 16..=64) {
        settings.tool_name_bytes_max = usize::try_from(length).unwrap_or(settings.tool_name_bytes_max);
    }
    settings.audit = table.truth("audit").unwrap_or(settings.audit);
    table.close();
    settings
}

/// A server's name, when it is legal.
pub fn is_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    name.len() <= NAME_BYTES_MAX
        && name.bytes().all(legal)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn server<'d>(
    reader: &Reader<'d>,
    list: &Node,
    key: &Key,
    node: &'d Node,
    defaults: Option<&Table<'_, 'd>>,
) -> Option<ServerConfig> {
    if !is_name(&key.name) {
        let right =
            format!("use 1 to {NAME_BYTES_MAX} of `A-Z a-z 0-9 _ - .`, beginning with a letter or digit");
        reader.mistake_at_key(list, key, format!("`{}` is no name of a server", shown(&key.name)), right);
        return None;
    }
    let table = reader.table(node)?;
    let enabled = table.truth("enabled").unwrap_or(true);
    let transport = transport(&table);
    let place = reader.document.place_of_key(list, key);
    let mut server = ServerConfig::new(&key.name, place, transport.clone().unwrap_or(nothing()));
    if let Some(defaults) = defaults {
        policy(defaults, &mut server.policy);
    }
    policy(&table, &mut server.policy);
    lifecycle(&table, &mut server);
    names_of_tools(&table, &mut server);
    table.close();
    (enabled && transport.is_some()).then_some(server)
}

/// What a foreign format says in our words, in a table of its own: the policy, the life, the tools.
pub fn extras(table: Table<'_, '_>, server: &mut ServerConfig) {
    policy(&table, &mut server.policy);
    lifecycle(&table, server);
    names_of_tools(&table, server);
    table.close_ours();
}

fn names_of_tools(table: &Table<'_, '_>, server: &mut ServerConfig) {
    if let Some(tools) = table.table("tools") {
        server.tools = tool_rules(tools);
    }
    let Some(node) = table.node("prefix") else { return };
    match &node.value {
        Value::Bool(true) => {}
        Value::Bool(false) => server.prefix = Prefix::None,
        Value::Text(text) if is_name(text) => server.prefix = Prefix::Text(text.clone()),
        _ => table.reader.mistake(node, "no prefix that clients accept", "write a name, or `false` for none"),
    }
}

fn nothing() -> Transport {
    Transport::Stdio { command: String::new(), args: Vec::new(), cwd: None }
}

fn transport(table: &Table<'_, '_>) -> Option<Transport> {
    let reader = table.reader;
    let (command, image, url) = (table.node("command"), table.node("image"), table.node("url"));
    let (args, cwd) = (table.texts("args").unwrap_or_default(), table.path("cwd"));
    let headers: Vec<_> = table.pairs("headers").into_iter().collect();
    let filled = |node: &Node| {
        let text = reader.text(node)?;
        if text.is_empty() {
            reader.mistake(node, "empty text", "say which one");
        }
        Some(text).filter(|text| !text.is_empty())
    };
    let stray = |names: [&'static str; 2], of: &str| {
        for node in names.iter().filter_map(|name| table.node(name)) {
            reader.mistake(node, format!("it means nothing with `{of}`"), "remove it");
        }
    };
    match (command, image, url) {
        (Some(command), None, None) => {
            stray(["headers", "headers"], "command");
            Some(Transport::Stdio { command: filled(command)?, args, cwd })
        }
        (command, Some(image), None) => {
            stray(["headers", "headers"], "image");
            let mut line: Vec<String> = command.and_then(filled).into_iter().collect();
            line.extend(args);
            Some(Transport::Image { image: filled(image)?, command: line, cwd })
        }
        (None, None, Some(url)) => {
            stray(["args", "cwd"], "url");
            let text = filled(url)?;
            if !is_http(&text) {
                reader.mistake(url, "no address of a server", "write `https://…` or `http://…`");
                return None;
            }
            Some(Transport::Http { url: text, headers })
        }
        (None, None, None) => {
            let right = "write `command = \"…\"`, `image = \"…\"` or `url = \"…\"`";
            reader.mistake(table.node, "nothing says how this server is reached", right);
            None
        }
        (_, _, Some(url)) => {
            reader.mistake(
                url,
                "a server is either started or somewhere else",
                "keep `url`, or `command` and `image`",
            );
            None
        }
    }
}

/// Whether a text is an address that a server can be reached at.
pub fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    // A placeholder that stays is looked at when it is filled in.
    (rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) || url.starts_with("${"))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What the table says of the policy, over what `policy` has.
fn policy(table: &Table<'_, '_>, policy: &mut ServerPolicy) {
    let reader = table.reader;
    if let Some(items) = table.node("workspace") {
        policy.workspaces = workspaces(reader, items);
    }
    policy.read_only.extend(table.paths("ro"));
    policy.read_write.extend(table.paths("rw"));
    policy.hidden.extend(table.paths("hide"));
    let networks = [("none", Network::None), ("host", Network::Host)];
    policy.network = table.word("network", &networks).unwrap_or(policy.network);
    policy.memory = memory(table).or(policy.memory.take());
    policy.cpus = cpus(table).or(policy.cpus.take());
    policy.pids = table.whole("pids", 1..=4_000_000).or(policy.pids);
    policy.seccomp = table.path("seccomp").or(policy.seccomp.take());
    for name in table.texts("env_pass").unwrap_or_default() {
        match reader.surroundings.variable(&name) {
            Some(value) => _ = policy.environment.insert(name, value),
            None => {
                if let Some(node) = table.node("env_pass") {
                    let right = "set it where cuddy is started, or take it off the list";
                    reader.mistake(node, format!("the variable `{}` is not set", shown(&name)), right);
                }
            }
        }
    }
    if let Some(node) = table.node("env") {
        policy.environment.extend(environment(reader, node));
    }
}

/// The variables of a table; a name that no environment can hold is a mistake.
pub fn environment(reader: &Reader<'_>, node: &Node) -> Vec<(String, String)> {
    let pairs = reader.pairs(node).unwrap_or_default().into_iter();
    let legal = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    pairs
        .filter(|(name, _)| {
            if !legal(name) {
                let what = format!("`{}` is no name of a variable", shown(name));
                reader.mistake(node, what, "a name is not empty and has no `=`");
            }
            legal(name)
        })
        .collect()
}

/// One folder or a list of folders, each with or without `:ro`.
fn workspaces(reader: &Reader<'_>, node: &Node) -> Vec<(PathBuf, bool)> {
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    let folder = |item: &Node| {
        let text = reader.text(item)?;
        let (path, read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text.as_str(), false),
        };
        Some((reader.path_of(item, path)?, read_only))
    };
    items.iter().filter_map(folder).collect()
}

fn memory(table: &Table<'_, '_>) -> Option<String> {
    let node = table.node("memory")?;
    let text = table.reader.loose_text(node)?;
    if limits::size_bytes(&text).is_ok_and(|bytes| bytes > 0) {
        return Some(text);
    }
    table.reader.mistake(node, format!("`{}` is no size", shown(&text)), "write it like `512m` or `2g`");
    None
}

fn cpus(table: &Table<'_, '_>) -> Option<String> {
    let node = table.node("cpus")?;
    let text = match &node.value {
        Value::Float(number) => number.to_string(),
        _ => table.reader.loose_text(node)?,
    };
    if text.parse::<f64>().is_ok_and(|number| number > 0.0 && number <= 10_000.0) {
        return Some(text);
    }
    table.reader.mistake(
        node,
        format!("`{}` is no number of processors", shown(&text)),
        "write it like `1.5`",
    );
    None
}

fn bytes(table: &Table<'_, '_>, name: &'static str) -> Option<u64> {
    let node = table.node(name)?;
    let text = table.reader.loose_text(node)?;
    let range = 1 << 10..=1 << 40;
    let found = limits::size_bytes(&text).ok().filter(|bytes| range.contains(bytes));
    if found.is_none() {
        table.reader.mistake(
            node,
            format!("`{}` is no such size", shown(&text)),
            "write it like `16m`; from 1k to 1t",
        );
    }
    found
}

fn lifecycle(table: &Table<'_, '_>, server: &mut ServerConfig) {
    let starts = [("on-demand", Start::OnDemand), ("eager", Start::Eager)];
    server.start = table.word("start", &starts).unwrap_or(server.start);
    let attempts = table.whole("restarts", 1..=1_000).and_then(|n| u32::try_from(n).ok());
    let attempts_max = attempts.unwrap_or(RESTARTS_DEFAULT);
    let ways = [("on-failure", Restart::OnFailure { attempts_max }), ("never", Restart::Never)];
    server.restart = table.word("restart", &ways).unwrap_or(Restart::OnFailure { attempts_max });
    if attempts.is_some() && server.restart == Restart::Never {
        table.reader.mistake(
            table.node,
            "`restarts` means nothing with `restart = \"never\"`",
            "remove one of them",
        );
    }
    let small = |name, max| table.whole(name, 0..=max).and_then(|n| u32::try_from(n).ok());
    server.warm = small("warm", 100).unwrap_or(server.warm);
    server.calls_max = small("calls_max", 100_000).filter(|n| *n > 0).unwrap_or(server.calls_max);
    server.pin = table.truth("pin").unwrap_or(server.pin);
    server.idle_stop_ms = time_ms(table, "idle_stop");
    if let Some(times) = table.table("timeouts") {
        let limits = &mut server.timeouts;
        limits.start_ms = time_ms(&times, "start").unwrap_or(limits.start_ms);
        limits.call_ms = time_ms(&times, "call").unwrap_or(limits.call_ms);
        limits.ping_ms = time_ms(&times, "ping").unwrap_or(limits.ping_ms);
        limits.stop_ms = time_ms(&times, "stop").unwrap_or(limits.stop_ms);
        match times.node("ping_every").map(|node| &node.value) {
            Some(Value::Bool(false)) => limits.ping_every_ms = None,
            Some(_) => limits.ping_every_ms = time_ms(&times, "ping_every").or(limits.ping_every_ms),
            None => {}
        }
        times.close();
    }
}

fn time_ms(table: &Table<'_, '_>, name: &'static str) -> Option<u64> {
    let node = table.node(name)?;
    let parsed = node.text().and_then(duration_ms).filter(|ms| (1..=TIME_MS_MAX).contains(ms));
    if parsed.is_none() {
        table.reader.mistake(
            node,
            "no time",
            "write it like `\"500ms\"`, `\"30s\"`, `\"5m\"` or `\"1h\"`, up to a week",
        );
    }
    parsed
}

/// `500ms`, `30s`, `5m`, `1h` in milliseconds.
fn duration_ms(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn tool_rules(table: Table<'_, '_>) -> ToolRules {
    let rules = ToolRules {
        allow: table.texts("allow"),
        deny: table.texts("deny").unwrap_or_default(),
        rename: table.pairs("rename"),
    };
    let count = rules.allow.as_ref().map_or(0, Vec::len) + rules.deny.len() + rules.rename.len();
    if count > LIST_MAX {
        table.reader.mistake(table.node, format!("more than {LIST_MAX} names"), "use `*`");
    }
    let legal = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) && !name.is_empty()
    };
    for (own, shown_name) in &rules.rename {
        if !legal(shown_name)
            && let Some(node) = table.node("rename").and_then(|node| node.get(own))
        {
            let what = format!("`{}` is no name that clients accept", shown(shown_name));
            table.reader.mistake(node, what, "use `A-Z a-z 0-9 _ -`");
        }
    }
    table.close();
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::config::document::Document;
    use crate::engine::config::from_toml;
    use crate::engine::config::table::Unknown;
    use crate::engine::config::variables::{Dialect, Surroundings};

    fn check(text: &str) -> Result<GatewayConfig, Vec<String>> {
        let document = Document { file: "mcp.toml".into(), root: from_toml::parse(text).unwrap() };
        let surroundings = Surroundings {
            environment: [("TOKEN".to_owned(), "secret".to_owned())].into(),
            home: Some("/home/me".into()),
            workspace: "/w".into(),
            ..Surroundings::default()
        };
        let reader =
            Reader::new(&document, &surroundings, Dialect::Braces, Unknown::Mistake, "/etc/x".into());
        let config = read(&reader);
        let (mistakes, _) = reader.finish();
        if mistakes.is_empty() { Ok(config) } else { Err(mistakes.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn a_whole_configuration_is_read() {
        let config = check(
            r#"
version = 1
[gateway]
name = "mine"
message_max = "4m"
tool_name_max = 60
[defaults]
memory = "1g"
pids = 50
[servers.files]
command = "mcp-server-filesystem"
args = ["${workspaceFolder}", 3]
cwd = "sub"
workspace = ["${workspaceFolder}", "~/docs:ro"]
ro = ["data"]
env = { TOKEN = "${env:TOKEN}", N = 1 }
memory = "512m"
cpus = 1.5
start = "eager"
restart = "never"
warm = 2
pin = true
idle_stop = "10m"
prefix = false
[servers.files.tools]
allow = ["read_*"]
deny = ["read_media"]
rename = { read_file = "cat" }
[servers.files.timeouts]
start = "5s"
ping_every = false
[servers.off]
enabled = false
command = "x"
[servers.img]
image = "ghcr.io/x/y:1"
args = ["--stdio"]
network = "host"
[servers.far]
url = "https://example.com/mcp"
headers = { Authorization = "Bearer ${TOKEN}" }
prefix = "f"
"#,
        )
        .unwrap();
        assert_eq!((config.gateway.name.as_str(), config.gateway.message_bytes_max), ("mine", 4 << 20));
        let names: Vec<&str> = config.servers.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["files", "img", "far"]);
        let files = &config.servers[0];
        let line = files.run_line().unwrap();
        let expected = "mcp run --workspace=/w --workspace=/home/me/docs:ro --ro=/etc/x/data --memory=512m \
                        --cpus=1.5 --pids=50 --env=N --env=TOKEN -- mcp-server-filesystem /w 3";
        assert_eq!(line.arguments.join(" "), expected);
        assert_eq!(line.cwd.as_deref(), Some(std::path::Path::new("/etc/x/sub")));
        assert_eq!((files.timeouts.start_ms, files.timeouts.ping_every_ms), (5_000, None));
        assert_eq!((files.idle_stop_ms, files.warm, files.pin), (Some(600_000), 2, true));
        assert_eq!((files.start, files.restart, files.prefix_text()), (Start::Eager, Restart::Never, ""));
        assert_eq!(files.tools.shown_name("read_file"), "cat");
        assert_eq!(files.source_place.to_string(), "mcp.toml:10:10: `servers.files`");
        let image = config.servers[1].run_line().unwrap().arguments.join(" ");
        assert_eq!(image, "mcp run --image=ghcr.io/x/y:1 --network=host --memory=1g --pids=50 -- --stdio");
        let Transport::Http { url, headers } = &config.servers[2].transport else { panic!("no HTTP") };
        assert_eq!((url.as_str(), headers[0].1.as_str()), ("https://example.com/mcp", "Bearer secret"));
        assert_eq!(config.servers[2].prefix_text(), "f");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = r#"
version = 2
[gateway]
tool_name_max = 5
[defaults]
netwrok = "none"
[servers."a b"]
command = "x"
[servers.b]
args = []
[servers.c]
command = "x"
url = "https://x"
[servers.d]
command = ""
memory = "much"
cpus = "0"
idle_stop = "5"
network = "bridge"
env = { "A=B" = "1" }
env_pass = ["NONE"]
prefix = "a b"
[servers.e]
url = "ftp://x"
"#;
        let mistakes = check(text).unwrap_err();
        for part in [
            ":2:11: `version`",
            "`gateway.tool_name_max`",
            "`defaults.netwrok`: `netwrok` is not known here; `network` is known",
            "`a b` is no name of a server",
            "nothing says how this server is reached",
            "either started or somewhere else",
            "`servers.d.command`: empty text",
            "`servers.d.memory`: `much` is no size",
            "`servers.d.cpus`",
            "`servers.d.idle_stop`: no time",
            "`servers.d.network`: `bridge` is none of its values; write `none` or `host`",
            "`A=B` is no name of a variable",
            "`NONE` is not set",
            "`servers.d.prefix`",
            "`servers.e.url`: no address",
        ] {
            assert!(mistakes.iter().any(|m| m.contains(part)), "{part} in {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 15, "{mistakes:#?}");
    }

    #[test]
    fn an_empty_configuration_has_no_server() {
        assert_eq!(check("version = 1\n"), Ok(GatewayConfig::default()));
    }

    #[test]
    fn a_word_of_a_policy_makes_a_file_ours_whatever_else_it_lacks() {
        let ours = from_toml::parse("[servers.x]\ncommand = \"x\"\npin = true\n");
        assert!(is_ours(&ours.unwrap()));
        let theirs = crate::engine::config::from_json::parse(r#"{"servers":{"x":{"command":"x"}}}"#);
        assert!(!is_ours(&theirs.unwrap()));
    }
}
