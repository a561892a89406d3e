//! Pure: ToolHive's permission profile (JSON), and the RunConfig that wraps one.
//!
//! A profile names no server: it is a policy, and what it is for must be said elsewhere.

use crate::container::options::Network;
use crate::engine::config::document::{Key, Node, Place, Value};
use crate::engine::config::foreign::legal_name;
use crate::engine::config::launchers;
use crate::engine::config::own;
use crate::engine::config::servers::{GatewayConfig, ServerConfig, Transport};
use crate::engine::config::table::{Reader, Table};

/// Whether a document is a permission profile.
pub fn is_profile(root: &Node) -> bool {
    let outbound =
        root.get("network").is_some_and(|n| n.get("outbound").is_some() || n.get("inbound").is_some());
    let lists =
        ["read", "write"].iter().any(|name| root.get(name).is_some_and(|node| node.items().is_some()));
    outbound || lists && root.get("filesystem").is_none()
}

/// Whether a document is a RunConfig.
pub fn is_run_config(root: &Node) -> bool {
    (root.get("image").is_some() || root.get("remote_url").is_some())
        && ["schema_version", "permission_profile", "container_name", "base_name", "transport"]
            .iter()
            .any(|name| root.get(name).is_some())
}

/// A profile as the policy of a server that is still to be named: `command` stays empty.
pub fn read_profile(reader: &Reader<'_>) -> GatewayConfig {
    let root = &reader.document.root;
    let nothing = Transport::Stdio { command: String::new(), args: Vec::new(), cwd: None };
    let mut server = ServerConfig::new("server", reader.document.place(root), nothing);
    if let Some(table) = reader.table(root) {
        profile(table, &mut server);
    }
    GatewayConfig { servers: vec![server], ..GatewayConfig::default() }
}

/// Reads a RunConfig.
pub fn read_run_config(reader: &Reader<'_>) -> GatewayConfig {
    let root = &reader.document.root;
    let mut config = GatewayConfig::default();
    let Some(table) = reader.table(root) else { return config };
    let name = ["name", "base_name", "container_name"].into_iter().find_map(|name| table.text(name));
    let Some(name) = legal_name(name.as_deref().unwrap_or("server")) else {
        reader.mistake(root, "no name of a server", "give it one with letters");
        return config;
    };
    if let Some(server) = server(&table, name, reader.document.place(root)) {
        config.servers.push(server);
    }
    config
}

fn server(table: &Table<'_, '_>, name: String, place: Place) -> Option<ServerConfig> {
    let reader = table.reader;
    let kind = table.text("transport");
    let transport = match (table.node("remote_url"), table.node("image")) {
        (Some(node), _) => {
            let url = reader.text(node).filter(|url| own::is_http(url));
            if url.is_none() {
                reader.mistake(node, "no address of a server", "write `https://…`");
            }
            Transport::Http { url: url?, headers: Vec::new() }
        }
        (None, Some(image)) => {
            if let Some(kind) = kind.filter(|kind| kind != "stdio") {
                let what = format!("an image that is spoken to by `{kind}` cannot be run yet");
                reader.mistake(table.node, what, "use one that speaks on standard input and output");
                return None;
            }
            let command = table.texts("cmd_args").unwrap_or_default();
            Transport::Image { image: reader.text(image)?, command, cwd: None }
        }
        (None, None) => return None,
    };
    let mut server = ServerConfig::new(name, place, transport);
    server.policy.environment = table.pairs("env_vars");
    for item in table.node("volumes").and_then(Node::items).unwrap_or_default() {
        mount(table, item, &mut server, false);
    }
    if let Some(node) = table.node("secrets").filter(|node| node.items().is_none_or(|list| !list.is_empty()))
    {
        let right = "set them as variables in `env_vars`";
        reader.mistake(node, "ToolHive's store of secrets cannot be read", right);
    }
    server.tools.allow = table.texts("tools_filter").filter(|list| !list.is_empty());
    for (key, node) in table.node("tools_override").and_then(Node::entries).unwrap_or_default() {
        rename(reader, key, node, &mut server);
    }
    if let Some(inner) = table.table("permission_profile") {
        profile(inner, &mut server);
    } else if let Some(node) = table.node("permission_profile_name_or_path") {
        match node.text() {
            Some("none") => {}
            Some("network") => server.policy.network = Network::Host,
            _ => reader.mistake(node, "a profile in another file", "put it in as `permission_profile`"),
        }
    }
    Some(server)
}

fn rename(reader: &Reader<'_>, key: &Key, node: &Node, server: &mut ServerConfig) {
    if let Some(name) = node.get("name").and_then(|name| reader.text(name)).filter(|name| !name.is_empty()) {
        server.tools.rename.insert(key.name.clone(), name);
    }
    if let Some(text) = node.get("description") {
        reader.remark(text, "descriptions of tools are not replaced: it has no effect");
    }
}

fn profile(table: Table<'_, '_>, server: &mut ServerConfig) {
    let reader = table.reader;
    table.pass_over(&["name", "description"]);
    for (name, read_only) in [("read", true), ("write", false)] {
        for item in table.node(name).and_then(Node::items).unwrap_or_default() {
            mount(&table, item, server, read_only);
        }
    }
    if table.truth("privileged") == Some(true) {
        let what = "a sandbox has no capability and no device: `privileged` has no effect";
        reader.remark(table.node("privileged").unwrap_or(table.node), what);
    }
    if let Some(network) = table.table("network") {
        let mode = network.text("mode");
        network.pass_over(&["inbound"]);
        if let Some(outbound) = network.table("outbound") {
            let all = outbound.truth("insecure_allow_all") == Some(true);
            let named = ["allow_host", "allow_port"].into_iter().find_map(|name| {
                let is_something =
                    |node: &&Node| !matches!(&node.value, Value::List(items) if items.is_empty());
                outbound.node(name).filter(is_something)
            });
            if all {
                server.policy.network = Network::Host;
            } else if let Some(node) = named {
                let what = "cuddy cannot yet limit a network to hosts and ports: this server gets no network";
                reader.remark(node, what);
            }
            outbound.close();
        }
        match mode.as_deref() {
            Some("host") => server.policy.network = Network::Host,
            Some("none") => server.policy.network = Network::None,
            _ => {}
        }
        network.close();
    }
    table.close();
}

/// A path, or `host:container`.
fn mount(table: &Table<'_, '_>, item: &Node, server: &mut ServerConfig, read_only: bool) {
    let Some(text) = table.reader.text(item) else { return };
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    let read_only = read_only || parts.next() == Some("ro");
    launchers::bind(table, item, server, source, target, read_only);
}
