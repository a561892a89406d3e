//! Pure: MassGen's YAML: `mcp_servers` of an agent's backend, as a list or a table.
//!
//! Several agents may name the same server; the same twice is one. Models and prompts mean nothing here.

use std::collections::BTreeMap;

use crate::engine::config::document::{Node, Value};
use crate::engine::config::foreign::{self, CommandText, Names, SECONDS_MAX};
use crate::engine::config::servers::{GatewayConfig, ServerConfig};
use crate::engine::config::table::Reader;

/// Where `mcp_servers` may stand: at the top, in the orchestrator, in `agent` and in each of `agents`.
fn lists(root: &Node) -> Vec<(&Node, &Node)> {
    let mut holders = vec![root];
    let agents = root.get("agents");
    let many = agents.and_then(Node::items).unwrap_or_default().iter();
    let named = agents.and_then(Node::entries).unwrap_or_default().iter().map(|(_, agent)| agent);
    for agent in many.chain(named).chain(root.get("agent")).chain(root.get("orchestrator")) {
        holders.push(agent);
    }
    let backends: Vec<_> = holders.iter().filter_map(|holder| holder.get("backend")).collect();
    holders.extend(backends);
    holders.iter().filter_map(|holder| Some((*holder, holder.get("mcp_servers")?))).collect()
}

/// Whether a document has such servers, as YAML has them.
pub fn is_massgen(root: &Node) -> bool {
    let lists = lists(root);
    let nested = lists.iter().any(|(holder, _)| !std::ptr::eq(*holder, root));
    let listed = lists.iter().any(|(_, servers)| servers.items().is_some());
    nested || listed
}

/// Reads the servers of every agent.
pub fn read(reader: &Reader<'_>) -> GatewayConfig {
    let (mut names, mut seen, mut config) =
        (Names::default(), BTreeMap::<String, &Node>::new(), GatewayConfig::default());
    for (backend, list) in lists(&reader.document.root) {
        let found = entries(reader, list);
        for (name, node, at) in found {
            if seen.get(&name).is_some_and(|other| same(other, node)) {
                continue;
            }
            seen.insert(name.clone(), node);
            let Some(name) = names.take(reader, at, &name) else { continue };
            config.servers.extend(server(reader, backend, name, node));
        }
    }
    config
}

/// Name, value and the place of the name of each server.
fn entries<'d>(reader: &Reader<'d>, list: &'d Node) -> Vec<(String, &'d Node, &'d Node)> {
    if let Some(entries) = list.entries() {
        return entries.iter().map(|(key, node)| (key.name.clone(), node, node)).collect();
    }
    let Some(items) = list.items() else {
        let what = format!("{} where servers belong", list.value.noun());
        reader.mistake(list, what, "write a list, each with its `name`");
        return Vec::new();
    };
    let named = |node: &'d Node| {
        let name = node.get("name").and_then(|name| Some((reader.text(name)?, name)));
        if name.is_none() {
            reader.mistake(node, "a server without a name", "give it `name: …`");
        }
        name.map(|(name, at)| (name, node, at))
    };
    items.iter().filter_map(named).collect()
}

/// Whether two say the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((x, a), (y, b))| x.name == y.name && same(a, b))
        }
        (a, b) => a == b,
    }
}

fn server<'d>(reader: &Reader<'d>, backend: &Node, name: String, node: &'d Node) -> Option<ServerConfig> {
    let table = reader.table(node)?;
    table.pass_over(&["name", "description", "security", "tool_config"]);
    if table.truth("enabled") == Some(false) {
        reader.remark(node, "it is switched off, so it is left out");
        return None;
    }
    let found =
        foreign::server(&table, name, reader.document.place(node), CommandText::Line).map(|mut server| {
            server.timeouts.call_ms =
                table.seconds_as_ms("timeout", SECONDS_MAX).unwrap_or(server.timeouts.call_ms);
            table.pass_over(&["http_read_timeout", "http_write_timeout"]);
            server.tools.allow = table.texts("allowed_tools").or(server.tools.allow.take());
            server.tools.deny.extend(table.texts("exclude_tools").unwrap_or_default());
            server
        });
    for key in ["allowed_tools", "exclude_tools"] {
        if let Some(node) = backend.get(key) {
            reader.remark(
                node,
                "it stays with MassGen, which knows the tools by other names: `mcp__server__tool`",
            );
        }
    }
    table.close();
    found
}
