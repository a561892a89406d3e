//! Pure: the `[mcp_servers.NAME]` tables of Codex's `config.toml`.
//!
//! Codex fills in no placeholder: text is meant as it stands, and secrets come from variables that are named.

use crate::engine::config::document::{Node, Value, shown};
use crate::engine::config::foreign::{self, CommandText, Names, SECONDS_MAX};
use crate::engine::config::servers::{GatewayConfig, ServerConfig, Transport};
use crate::engine::config::table::{Reader, Table};

/// Whether a document has such tables.
pub fn is_codex(root: &Node) -> bool {
    root.get("mcp_servers").is_some_and(|servers| servers.entries().is_some())
}

/// Reads the tables; everything else of such a file is Codex's own.
pub fn read(reader: &Reader<'_>) -> GatewayConfig {
    let mut config = GatewayConfig::default();
    let list = reader.document.root.get("mcp_servers").and_then(|node| reader.table(node));
    let Some(list) = list else { return config };
    let mut names = Names::default();
    for (key, node) in list.entries() {
        let Some(table) = reader.table(node) else { continue };
        let Some(name) = names.take(reader, node, &key.name) else { continue };
        // Approval of tools, and what only Codex does with a server.
        table.pass_over(&[
            "required",
            "tools",
            "default_tools_approval_mode",
            "supports_parallel_tool_calls",
            "experimental_environment",
            "name",
        ]);
        let enabled = table.truth("enabled").unwrap_or(true);
        if let Some(mut server) =
            foreign::server(&table, name, reader.document.place_of_key(list.node, key), CommandText::Program)
        {
            rest(&table, &mut server);
            if enabled {
                config.servers.push(server);
            } else {
                reader.remark_at_key(list.node, key, "it is switched off, so it is left out");
            }
        }
        table.close();
    }
    config
}

fn rest(table: &Table<'_, '_>, server: &mut ServerConfig) {
    let reader = table.reader;
    server.tools.allow = table.texts("enabled_tools").or(server.tools.allow.take());
    server.tools.deny.extend(table.texts("disabled_tools").unwrap_or_default());
    let times = &mut server.timeouts;
    if let Some(ms) = table.whole("startup_timeout_ms", 1..=u64::from(SECONDS_MAX) * 1_000) {
        times.start_ms = ms;
    }
    times.start_ms = table.seconds_as_ms("startup_timeout_sec", SECONDS_MAX).unwrap_or(times.start_ms);
    times.call_ms = table.seconds_as_ms("tool_timeout_sec", SECONDS_MAX).unwrap_or(times.call_ms);
    for item in table.node("env_vars").and_then(Node::items).unwrap_or_default() {
        // A name, or a table with a name and where it comes from.
        let name = item.get("name").unwrap_or(item);
        if let Some(source) = item.get("source").and_then(Node::text).filter(|source| *source != "local") {
            reader.mistake(
                item,
                format!("variables from `{}` cannot be had", shown(source)),
                "name a local one",
            );
        } else if let Some((name, value)) = variable(reader, name) {
            server.policy.environment.insert(name, value);
        }
    }
    let mut headers: Vec<(String, String)> = table.pairs("http_headers").into_iter().collect();
    for (header, node) in table.node("env_http_headers").and_then(Node::entries).unwrap_or_default() {
        headers.extend(variable(reader, node).map(|(_, value)| (header.name.clone(), value)));
    }
    if let Some((_, token)) = table.node("bearer_token_env_var").and_then(|node| variable(reader, node)) {
        headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
    }
    if let Some(node) = table.node("bearer_token") {
        reader.mistake(
            node,
            "a token in the file is refused, as Codex refuses it",
            "use `bearer_token_env_var`",
        );
    }
    for name in ["scopes", "oauth_resource", "oauth", "auth", "oauth_client_id"] {
        if let Some(node) = table.node(name) {
            reader.remark(
                node,
                "cuddy signs in nowhere: the server may refuse; a token goes into `http_headers`",
            );
        }
    }
    match &mut server.transport {
        Transport::Http { headers: have, .. } => have.extend(headers),
        _ if !headers.is_empty() => {
            reader.mistake(table.node, "headers mean nothing for a server that is started", "remove them");
        }
        _ => {}
    }
}

/// The variable that a value names, with what it is set to.
fn variable(reader: &Reader<'_>, node: &Node) -> Option<(String, String)> {
    let Value::Text(name) = &node.value else {
        reader.mistake(node, "no name of a variable", "write its name");
        return None;
    };
    let value = reader.surroundings.variable(name);
    if value.is_none() {
        let what = format!("the variable `{}` is not set", shown(name));
        reader.mistake(node, what, "set it where cuddy is started, or remove it");
    }
    value.map(|value| (name.clone(), value))
}
