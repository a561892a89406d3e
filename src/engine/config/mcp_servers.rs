//! Pure: the JSON of MCP clients: `mcpServers` (Claude, Cursor, Gemini, Copilot, Cline, Windsurf) and VS Code's
//! `servers` with its `sandbox` blocks.
//!
//! It asks nobody: `${input:…}` must have been given. It signs in nowhere.

use std::path::{Path, PathBuf};

use crate::container::options::Network;
use crate::engine::config::document::{Key, Node, Value};
use crate::engine::config::foreign::{self, CommandText, Names, SECONDS_MAX};
use crate::engine::config::servers::{GatewayConfig, ServerConfig};
use crate::engine::config::table::{Reader, Table};

/// Keys that clients use for themselves: approval, display, start by the editor.
const OF_CLIENTS: [&str; 16] = [
    "alwaysAllow",
    "autoApprove",
    "autoStart",
    "description",
    "dev",
    "displayName",
    "enabledInChat",
    "env_description",
    "gallery",
    "icon",
    "metadata",
    "name",
    "title",
    "trust",
    "version",
    "watch",
];

/// Whether a document has `mcpServers`.
pub fn is_claude(root: &Node) -> bool {
    root.get("mcpServers").is_some_and(|servers| servers.entries().is_some())
}

/// Whether a document is VS Code's.
pub fn is_vscode(root: &Node) -> bool {
    let entry =
        |(_, server): &(Key, Node)| ["command", "url", "type"].iter().any(|name| server.get(name).is_some());
    let servers = root.get("servers").or_else(|| root.get("mcp").and_then(|mcp| mcp.get("servers")));
    servers.and_then(Node::entries).is_some_and(|entries| entries.iter().all(entry))
}

/// Reads `mcpServers`; everything else of such a file is the client's own.
pub fn read_claude(reader: &Reader<'_>) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    if let Some(list) = reader.document.root.get("mcpServers").and_then(|node| reader.table(node)) {
        config.servers = servers(&list, None);
    }
    config
}

/// Reads VS Code's `mcp.json`, or its older place in the settings.
pub fn read_vscode(reader: &Reader<'_>) -> GatewayConfig {
    let root = &reader.document.root;
    let root = if root.get("servers").is_some() { root } else { root.get("mcp").unwrap_or(root) };
    let Some(table) = reader.table(root) else { return GatewayConfig::default() };
    table.pass_over(&["inputs", "$schema"]);
    let sandbox = table.node("sandbox").filter(|node| node.entries().is_some());
    let servers = table.table("servers").map(|list| servers(&list, sandbox)).unwrap_or_default();
    table.close();
    GatewayConfig { servers, ..GatewayConfig::default() }
}

fn servers<'d>(list: &Table<'_, 'd>, sandbox: Option<&'d Node>) -> Vec<ServerConfig> {
    let (reader, mut names, mut found) = (list.reader, Names::default(), Vec::new());
    for (key, node) in list.entries() {
        let Some(table) = reader.table(node) else { continue };
        let Some(name) = names.take(reader, node, &key.name) else { continue };
        table.pass_over(&OF_CLIENTS);
        let enabled = table.truth("enabled").unwrap_or(true) && !table.truth("disabled").unwrap_or(false);
        if let Some(mut server) =
            foreign::server(&table, name, reader.document.place_of_key(list.node, key), CommandText::Program)
        {
            rest(&table, &mut server, sandbox);
            if enabled {
                found.push(server);
            } else {
                reader.remark_at_key(list.node, key, "it is switched off, so it is left out");
            }
        }
        table.close();
    }
    found
}

fn rest<'d>(table: &Table<'_, 'd>, server: &mut ServerConfig, shared: Option<&'d Node>) {
    let reader = table.reader;
    if let Some(path) = table.node("envFile") {
        let right = "write its variables under `env`, or `\"cuddy\": {\"env_pass\": [\"NAME\"]}`";
        reader.mistake(path, "files of variables are not read", right);
    }
    // Copilot and Gemini: names of tools, or `*`.
    let allow = table.texts("includeTools").or_else(|| table.texts("tools"));
    server.tools.allow = allow.or(server.tools.allow.take());
    server.tools.deny.extend(table.texts("excludeTools").unwrap_or_default());
    if let Some(node) = table.node("timeout") {
        // Gemini and Claude count milliseconds, Cline seconds: nothing tells which.
        let ms = if let Value::Integer(number) = node.value { u64::try_from(number).ok() } else { None };
        match ms {
            Some(ms) if ms >= 1_000 && ms <= u64::from(SECONDS_MAX) * 1_000 => server.timeouts.call_ms = ms,
            _ => reader.remark(
                node,
                "it is not clear whether this means seconds or milliseconds, so it has no effect",
            ),
        }
    }
    for name in ["oauth", "auth", "authorization", "authProviderType"] {
        if let Some(node) = table.node(name) {
            reader.remark(node, "cuddy signs in nowhere: the server may refuse; a token goes into `headers`");
        }
    }
    let enabled = table.truth("sandboxEnabled");
    let own = table.node("sandbox").filter(|node| node.entries().is_some());
    if enabled != Some(false)
        && let Some(node) = own.or(shared.filter(|_| enabled == Some(true)))
    {
        sandbox(reader, node, server);
    }
}

/// A `sandbox` block of VS Code: the same words as srt's settings.
fn sandbox<'d>(reader: &Reader<'d>, node: &'d Node, server: &mut ServerConfig) {
    for name in ["filesystem", "network"] {
        let Some(part) = node.get(name) else { continue };
        if part.entries().is_none() {
            reader.mistake(part, format!("{} where a table belongs", part.value.noun()), "write a table");
        }
    }
    apply_filesystem(reader, node, server);
    let domains = node.get("network").and_then(|network| network.get("allowedDomains"));
    if let Some(domains) = domains.filter(|node| node.items().is_none_or(|items| !items.is_empty())) {
        let what = "cuddy cannot yet limit a network to domains: this server gets no network; if it may have the \
                    whole one, say `\"cuddy\": {\"network\": \"host\"}`";
        if server.policy.network == Network::None {
            reader.remark(domains, what);
        }
    }
}

/// `allowWrite`, `allowRead`, `denyRead` and `denyWrite` as mounts.
///
/// What is not named is not shown anyway, so a denial means something only inside of what is shown.
pub fn apply_filesystem<'d>(reader: &Reader<'d>, settings: &'d Node, server: &mut ServerConfig) {
    let Some(files) = settings.get("filesystem").filter(|node| node.entries().is_some()) else { return };
    let Some(table) = reader.table(files) else { return };
    let paths = |name| foreign::plain_paths(&table, name);
    let (deny_read, deny_write) = (paths("denyRead"), paths("denyWrite"));
    let policy = &mut server.policy;
    policy.read_write.extend(paths("allowWrite"));
    policy.read_only.extend(paths("allowRead"));
    let inside = |path: &Path, shown: &[PathBuf]| shown.iter().any(|folder| path.starts_with(folder));
    for path in deny_write {
        if inside(&path, &policy.read_write) {
            policy.read_only.push(path);
        }
    }
    for path in deny_read {
        // A folder that is allowed inside of one that is denied stays allowed: it is not there by the denial.
        if inside(&path, &policy.read_write) || inside(&path, &policy.read_only) {
            policy.hidden.push(path);
        }
    }
    table.close();
}
