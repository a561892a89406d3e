//! Pure: which format a configuration is in, told by what it says, and its reader.
//!
//! The language comes first (JSON, TOML, YAML), by the file's name where it has a telling one.

use std::path::Path;

use crate::engine::config::document::{Malformed, Node};
use crate::engine::config::servers::{GatewayConfig, ServerConfig};
use crate::engine::config::table::{Reader, Unknown};
use crate::engine::config::variables::Dialect;
use crate::engine::config::{
    codex, docker, from_json, from_toml, from_yaml, massgen, mcp_servers, own, srt, toolhive,
};

/// A format of configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own.
    Cuddy,
    /// `mcpServers`: Claude, Cursor and most others.
    McpServers,
    /// VS Code's `mcp.json`.
    VsCode,
    /// MassGen's YAML.
    MassGen,
    /// Codex's `config.toml`.
    Codex,
    /// Entries of Docker's catalogue.
    Docker,
    /// ToolHive's RunConfig.
    ToolHive,
    /// ToolHive's permission profile: a policy without a server.
    ToolHiveProfile,
    /// Settings of srt: a policy without a server.
    Srt,
}

/// Every format with the word for it on the command line.
pub const FORMATS: [(&str, Format); 9] = [
    ("cuddy", Format::Cuddy),
    ("mcp-servers", Format::McpServers),
    ("vscode", Format::VsCode),
    ("massgen", Format::MassGen),
    ("codex", Format::Codex),
    ("docker", Format::Docker),
    ("toolhive", Format::ToolHive),
    ("toolhive-profile", Format::ToolHiveProfile),
    ("srt", Format::Srt),
];

impl Format {
    /// The format that a word means.
    pub fn named(word: &str) -> Option<Self> {
        FORMATS.iter().find(|(name, _)| *name == word).map(|(_, format)| *format)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        FORMATS.iter().find(|(_, format)| *format == self).map_or("cuddy", |(name, _)| *name)
    }

    /// Which placeholders it has.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Codex | Self::Docker | Self::ToolHive | Self::ToolHiveProfile | Self::Srt => {
                Dialect::Literal
            }
            Self::Cuddy => Dialect::Ours,
            _ => Dialect::Braces,
        }
    }

    /// What is done about keys that are not known.
    pub fn unknown(self) -> Unknown {
        if self == Self::Cuddy { Unknown::Mistake } else { Unknown::Remark }
    }

    /// Whether it holds a policy and names no server.
    pub fn is_policy(self) -> bool {
        matches!(self, Self::ToolHiveProfile | Self::Srt)
    }
}

/// Reads a text as a tree.
///
/// # Errors
/// Every [`Malformed`] spot that was found.
pub fn parse(file: &Path, text: &str) -> Result<Node, Vec<Malformed>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let one = |result: Result<Node, Malformed>| result.map_err(|e| vec![e]);
    match file.extension().and_then(|e| e.to_str()) {
        Some("json" | "jsonc" | "json5" | "mcp") => one(from_json::parse(text)),
        Some("toml") => from_toml::parse(text),
        Some("yaml" | "yml") => one(from_yaml::parse(text)),
        _ => {
            let begin = text.trim_start();
            if begin.starts_with('{') || begin.starts_with("//") || begin.starts_with("/*") {
                return one(from_json::parse(text));
            }
            let tables = from_toml::parse(text);
            tables.or_else(|mistakes| from_yaml::parse(text).ok().filter(is_map).ok_or(mistakes))
        }
    }
}

fn is_map(node: &Node) -> bool {
    node.entries().is_some()
}

/// Whether a tree is in one format.
type Test = fn(&Node) -> bool;

/// The format that a tree is in, by what it says.
pub fn recognise(root: &Node) -> Option<Format> {
    // The first that fits: what is more particular stands first.
    let tests: [(Test, Format); 9] = [
        (own::is_ours, Format::Cuddy),
        (mcp_servers::is_claude, Format::McpServers),
        (docker::is_docker, Format::Docker),
        (toolhive::is_run_config, Format::ToolHive),
        (massgen::is_massgen, Format::MassGen),
        (codex::is_codex, Format::Codex),
        (srt::is_srt, Format::Srt),
        (mcp_servers::is_vscode, Format::VsCode),
        (toolhive::is_profile, Format::ToolHiveProfile),
    ];
    tests.iter().find(|(test, _)| test(root)).map(|(_, format)| *format)
}

/// Reads a document of a format; mistakes are the reader's.
pub fn read(format: Format, reader: &Reader<'_>) -> GatewayConfig {
    let policy = |server: ServerConfig| GatewayConfig { servers: vec![server], ..GatewayConfig::default() };
    match format {
        Format::Cuddy => own::read(reader),
        Format::McpServers => mcp_servers::read_claude(reader),
        Format::VsCode => mcp_servers::read_vscode(reader),
        Format::MassGen => massgen::read(reader),
        Format::Codex => codex::read(reader),
        Format::Docker => docker::read(reader),
        Format::ToolHive => toolhive::read_run_config(reader),
        Format::ToolHiveProfile => toolhive::read_profile(reader),
        Format::Srt => policy(srt::as_policy(reader)),
    }
}
