//! Pure: the settings of `srt` (`@anthropic-ai/sandbox-runtime` 0.0.83), as data.
//!
//! What it asks for and cannot be had is said. Whether a path is there, and what an absence means, is not decided here.

use std::path::PathBuf;

use crate::container::options::Network;
use crate::engine::config::document::Node;
use crate::engine::config::foreign::plain_paths;
use crate::engine::config::mcp_servers;
use crate::engine::config::servers::{ServerConfig, Transport};
use crate::engine::config::table::{Reader, Table};

/// What the settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// What may be written.
    pub allow_write: Vec<PathBuf>,
    /// What may not be written though it lies in what may.
    pub deny_write: Vec<PathBuf>,
    /// What may not be read.
    pub deny_read: Vec<PathBuf>,
    /// What may be read though it lies in what may not.
    pub allow_read: Vec<PathBuf>,
    /// Domains that may be reached.
    pub allowed_domains: Vec<String>,
    /// Variables that must not go in.
    pub hidden_variables: Vec<String>,
    /// Whether `.git/config` may be written where its folder may.
    pub allow_git_config: bool,
    /// What is done about domains, in a word of ours that srt passes over: `"cuddy": {"network": …}`.
    pub network: Option<Network>,
}

/// Whether a document is of this format.
pub fn is_srt(root: &Node) -> bool {
    let names = ["allowWrite", "denyRead", "denyWrite", "allowRead"];
    let files =
        root.get("filesystem").is_some_and(|files| names.iter().any(|name| files.get(name).is_some()));
    let network = root.get("network").is_some_and(|network| network.get("allowedDomains").is_some());
    (files || network) && root.get("servers").is_none() && root.get("mcpServers").is_none()
}

/// Reads a document.
pub fn read(reader: &Reader<'_>) -> Settings {
    let mut settings = Settings::default();
    let Some(table) = reader.table(&reader.document.root) else { return settings };
    if let Some(files) = table.table("filesystem") {
        settings.allow_write = plain_paths(&files, "allowWrite");
        settings.deny_write = plain_paths(&files, "denyWrite");
        settings.deny_read = plain_paths(&files, "denyRead");
        settings.allow_read = plain_paths(&files, "allowRead");
        if let Some(node) = files.node("disabled").filter(|node| node.value == true.into()) {
            files.reader.mistake(node, "files are always behind a wall here", "remove it");
        }
        settings.allow_git_config = files.truth("allowGitConfig") == Some(true);
        files.close();
    }
    if let Some(network) = table.table("network") {
        network_of(network, &mut settings);
    }
    if let Some(credentials) = table.table("credentials") {
        credentials_of(credentials, &mut settings);
    }
    if let Some(ours) = table.table("cuddy") {
        settings.network = ours.word("network", &[("none", Network::None), ("host", Network::Host)]);
        ours.close_ours();
    }
    // How srt works inside, and what holds on other systems.
    table.pass_over(&[
        "$schema",
        "allowAppleEvents",
        "allowNestedUserNamespaces",
        "allowPty",
        "binaryPaths",
        "bwrapPath",
        "enableWeakerNetworkIsolation",
        "git",
        "ignoreViolations",
        "javaAgentJarPath",
        "mandatoryDenySearchDepth",
        "ripgrep",
        "seccomp",
        "socatPath",
        "windows",
    ]);
    if let Some(node) = table.node("enableWeakerNestedSandbox").filter(|node| node.value == true.into()) {
        reader.remark(node, "nothing is made weaker here: it has no effect");
    }
    table.close();
    settings
}

fn network_of(network: Table<'_, '_>, settings: &mut Settings) {
    settings.allowed_domains = network.texts("allowedDomains").unwrap_or_default();
    // A denial among nothing that is allowed denies nothing more.
    network.pass_over(&[
        "allowPlaintextHeaderSet",
        "ambiguousRequestTarget",
        "deniedDomainReasons",
        "deniedDomains",
        "deniedResolvedAddresses",
        "httpProxyPort",
        "refuseOpaqueTunnels",
        "requireHostMatch",
        "socksProxyPort",
        "strictAllowlist",
        "stripResponseHeaders",
    ]);
    for name in ["allowUnixSockets", "allowMachLookup"] {
        let list = network.node(name).filter(|node| node.items().is_some_and(|items| !items.is_empty()));
        if let Some(node) = list {
            network
                .reader
                .remark(node, "a socket is shown only with its folder in `allowWrite`: it has no effect");
        }
    }
    for name in ["allowAllUnixSockets", "allowLocalBinding"] {
        if let Some(node) = network.node(name).filter(|node| node.value == true.into()) {
            network
                .reader
                .remark(node, "a sandbox has a loopback of its own, and only the sockets that are shown");
        }
    }
    for name in ["mitmProxy", "parentProxy", "tlsTerminate", "filterRequest"] {
        if let Some(node) = network.node(name) {
            network.reader.remark(node, "there is no proxy, for there is no network: it has no effect");
        }
    }
    network.close();
}

/// Files and variables with secrets. `mask` shows a stand-in; without a proxy that would change it back, it is hidden.
fn credentials_of(credentials: Table<'_, '_>, settings: &mut Settings) {
    for item in credentials.node("files").and_then(Node::items).unwrap_or_default() {
        match item.get("path").and_then(|path| credentials.reader.path(path)) {
            Some(path) => settings.deny_read.push(path),
            None => credentials.reader.mistake(item, "a file without its path", "write `\"path\": …`"),
        }
    }
    for item in credentials.node("envVars").and_then(Node::items).unwrap_or_default() {
        match item.get("name").and_then(|name| credentials.reader.text(name)) {
            Some(name) => settings.hidden_variables.push(name),
            None => credentials.reader.mistake(item, "a variable without its name", "write `\"name\": …`"),
        }
    }
    credentials.pass_over(&["allowPlaintextInject", "maskValues", "injectHosts"]);
    credentials.close();
}

/// The settings as the policy of a server that is still to be named.
pub fn as_policy(reader: &Reader<'_>) -> ServerConfig {
    let root = &reader.document.root;
    let nothing = Transport::Stdio { command: String::new(), args: Vec::new(), cwd: None };
    let mut server = ServerConfig::new("server", reader.document.place(root), nothing);
    let settings = read(reader);
    mcp_servers::apply_filesystem(reader, root, &mut server);
    if let Some(node) = root.get("network").filter(|_| !settings.allowed_domains.is_empty()) {
        reader.remark(node, "cuddy cannot yet limit a network to domains: there is none");
    }
    server
}
