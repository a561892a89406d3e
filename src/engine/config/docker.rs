//! Pure: the server entries of Docker's MCP catalogue (YAML): one server, or a `registry` of them.
//!
//! Secrets of Docker's own store cannot be had: they come from the environment. Hosts cannot be limited yet:
//! such a server gets no network, which is said.

use crate::container::options::Network;
use crate::engine::config::document::{Node, shown};
use crate::engine::config::foreign::Names;
use crate::engine::config::launchers;
use crate::engine::config::own;
use crate::engine::config::servers::{GatewayConfig, Prefix, ServerConfig, ServerPolicy, Transport};
use crate::engine::config::table::{Reader, Table};

/// What the catalogue says to people, and to other programs of Docker.
const OF_THE_CATALOGUE: [&str; 14] = [
    "about",
    "config",
    "description",
    "icon",
    "longLived",
    "meta",
    "metadata",
    "name",
    "oauth",
    "policy",
    "readme",
    "source",
    "title",
    "type",
];

/// Whether a document is one entry, or a catalogue.
pub fn is_docker(root: &Node) -> bool {
    let is_server = |node: &Node| {
        let kind = node.get("type").and_then(Node::text);
        kind.is_some_and(|kind| ["server", "remote", "poci"].contains(&kind))
            && (node.get("image").is_some()
                || node.get("remote").is_some()
                || node.get("sseEndpoint").is_some())
    };
    let registry = root.get("registry").and_then(Node::entries).unwrap_or_default();
    is_server(root) || !registry.is_empty() && registry.iter().all(|(_, node)| is_server(node))
}

/// Reads a document.
pub fn read(reader: &Reader<'_>) -> GatewayConfig {
    let root = &reader.document.root;
    let (mut names, mut config) = (Names::default(), GatewayConfig::default());
    let entries: Vec<(String, &Node)> = match root.get("registry").and_then(Node::entries) {
        Some(entries) => entries.iter().map(|(key, node)| (key.name.clone(), node)).collect(),
        None => {
            let name = root.get("name").and_then(Node::text);
            let image = root.get("image").and_then(Node::text).and_then(|image| image.rsplit('/').next());
            let name = name.or(image.and_then(|image| image.split([':', '@']).next())).unwrap_or("server");
            vec![(name.to_owned(), root)]
        }
    };
    for (name, node) in entries {
        let Some(table) = reader.table(node) else { continue };
        let Some(name) = names.take(reader, node, &name) else { continue };
        config.servers.extend(server(&table, name));
        table.close();
    }
    config
}

fn server(table: &Table<'_, '_>, name: String) -> Option<ServerConfig> {
    let reader = table.reader;
    table.pass_over(&OF_THE_CATALOGUE);
    let place = reader.document.place(table.node);
    let mut server = match (table.node("image"), table.table("remote"), table.node("sseEndpoint")) {
        (_, Some(remote), _) => ServerConfig::new(name, place, remote_transport(remote)?),
        (_, None, Some(node)) => {
            let right = "name the server's address for streamable HTTP under `remote`";
            reader.mistake(node, "the transport `sse` was given up by the protocol and is not spoken", right);
            return None;
        }
        (Some(image), None, None) => {
            let (image, command) = (reader.text(image)?, table.texts("command").unwrap_or_default());
            ServerConfig::new(name, place, Transport::Image { image, command, cwd: None })
        }
        (None, None, None) => {
            let right = "write `image: …`, or `remote: {url: …}`";
            reader.mistake(table.node, "nothing says how this server is reached", right);
            return None;
        }
    };
    variables(table, &mut server.policy);
    for item in table.node("volumes").and_then(Node::items).unwrap_or_default() {
        volume(table, item, &mut server);
    }
    network(table, &mut server);
    for name in ["user", "extraHosts"] {
        if let Some(node) = table.node(name) {
            reader.remark(node, "a server runs as the caller, with the host's names: it has no effect");
        }
    }
    if let Some(prefix) = table.text("prefix") {
        server.prefix = Prefix::Text(prefix);
    }
    // The catalogue lists what there is, it allows and denies nothing.
    table.pass_over(&["tools"]);
    if let Some(extras) = table.table("cuddy") {
        own::extras(extras, &mut server);
    }
    whole(reader, table.node)?;
    Some(server)
}

fn remote_transport(table: Table<'_, '_>) -> Option<Transport> {
    let reader = table.reader;
    let node = table.node("url");
    let kind = table.text("transport_type");
    let headers = table.pairs("headers").into_iter().collect();
    if kind.as_deref() == Some("sse") {
        let right = "name the server's address for streamable HTTP";
        reader.mistake(
            table.node,
            "the transport `sse` was given up by the protocol and is not spoken",
            right,
        );
        return None;
    }
    let url = node.and_then(|node| reader.text(node)).filter(|url| own::is_http(url));
    if url.is_none() {
        reader.mistake(node.unwrap_or(table.node), "no address of a server", "write `url: https://…`");
    }
    table.close();
    Some(Transport::Http { url: url?, headers })
}

/// `env` as a list of names and values, `secrets` as names of variables here.
fn variables(table: &Table<'_, '_>, policy: &mut ServerPolicy) {
    let reader = table.reader;
    for item in table.node("env").and_then(Node::items).unwrap_or_default() {
        let (name, value) = (item.get("name").and_then(Node::text), item.get("value"));
        match (name, value.and_then(|value| reader.loose_text(value))) {
            (Some(name), Some(value)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                policy.environment.insert(name.to_owned(), value);
            }
            _ => reader.mistake(item, "no variable", "write `name: …` and `value: …`"),
        }
    }
    for item in table.node("secrets").and_then(Node::items).unwrap_or_default() {
        let Some(name) = item.get("env").and_then(Node::text) else {
            reader.mistake(item, "a secret without `env`", "say the variable that the server reads it from");
            continue;
        };
        match reader.surroundings.variable(name) {
            Some(value) => _ = policy.environment.insert(name.to_owned(), value),
            None => {
                let what =
                    format!("Docker's store of secrets cannot be read, and `{}` is not set", shown(name));
                reader.mistake(item, what, "set the variable where cuddy is started");
            }
        }
    }
}

/// `host:container[:ro]`: the gateway of Docker mounts what does not say `:rw` to be read only.
fn volume(table: &Table<'_, '_>, item: &Node, server: &mut ServerConfig) {
    let Some(text) = table.reader.text(item) else { return };
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let writable = parts.next().is_some_and(|options| options.split(',').any(|option| option == "rw"));
    launchers::bind(table, item, server, source, target, !writable);
}

fn network(table: &Table<'_, '_>, server: &mut ServerConfig) {
    let reader = table.reader;
    let (disabled, hosts) = (table.truth("disableNetwork") == Some(true), table.node("allowHosts"));
    let said = table.node("cuddy").and_then(|node| node.get("network")).is_some();
    if disabled || said || matches!(server.transport, Transport::Http { .. }) {
        return;
    }
    server.policy.network = Network::None;
    let what = "cuddy cannot yet limit a network to hosts: this server gets no network; if it may have the whole one, \
                say `cuddy: {network: host}`";
    reader.remark(hosts.unwrap_or(table.node), what);
}

/// `{{…}}` is filled in by Docker's own gateway; here nothing could.
fn whole(reader: &Reader<'_>, node: &Node) -> Option<()> {
    let mut good = true;
    for name in ["image", "command", "env", "volumes", "user"] {
        let Some(part) = node.get(name) else { continue };
        let mut left = vec![part];
        while let Some(next) = left.pop() {
            if next.text().is_some_and(|text| text.contains("{{")) {
                reader.mistake(next, "`{{…}}` is filled in by Docker's gateway alone", "write the value");
                good = false;
            }
            left.extend(next.items().unwrap_or_default());
            left.extend(next.entries().unwrap_or_default().iter().map(|(_, inner)| inner));
        }
    }
    good.then_some(())
}
