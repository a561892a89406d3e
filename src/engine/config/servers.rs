//! Pure: MCP servers as somebody configured them, whatever the format was: what to start, what it may
//! do, which tools it shows.
//!
//! Every value is complete: placeholders are filled in, paths are absolute, names are legal. The
//! defaults stand here and nowhere else. It reads no file and starts nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::container::options::{HOST_IMAGE, Network};
use crate::engine::config::document::Place;

/// Longest name of a server, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Most servers of one gateway.
pub const SERVERS_MAX: usize = 1_000;
/// How long a server has until it answers its first request, in milliseconds.
pub const START_MS_DEFAULT: u64 = 60_000;
/// How long one call may take, in milliseconds: clients give up earlier, and cancel then.
pub const CALL_MS_DEFAULT: u64 = 3_600_000;
/// How long an idle server may take to answer a ping, in milliseconds.
pub const PING_MS_DEFAULT: u64 = 10_000;
/// How often an idle server is pinged, in milliseconds.
pub const PING_EVERY_MS_DEFAULT: u64 = 60_000;
/// How long each step of stopping has (end of input, SIGTERM, SIGKILL), in milliseconds.
pub const STOP_MS_DEFAULT: u64 = 2_000;
/// How often a server that fails is started anew before it counts as broken.
pub const RESTARTS_DEFAULT: u32 = 5;
/// Largest message in either direction, in bytes.
pub const MESSAGE_BYTES_DEFAULT: u64 = 16 << 20;
/// Calls under way at one server.
pub const CALLS_DEFAULT: u32 = 64;
/// Calls under way in one gateway.
pub const CALLS_ALL_DEFAULT: u32 = 1_024;
/// Servers running at once in one gateway.
pub const RUNNING_DEFAULT: u32 = 200;
/// What is kept of one server's standard error, in bytes.
pub const LOG_BYTES_DEFAULT: u64 = 4 << 20;
/// Longest name of a tool that clients are shown, in bytes: what all of them accept.
pub const TOOL_NAME_BYTES_DEFAULT: usize = 64;

/// Everything one gateway was told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GatewayConfig {
    /// The servers, in the order they were written, each name once.
    pub servers: Vec<ServerConfig>,
    /// What holds for all of them.
    pub gateway: GatewaySettings,
}

/// What holds for the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// What it calls itself to clients.
    pub name: String,
    /// Largest message in either direction, in bytes.
    pub message_bytes_max: u64,
    /// Most calls under way, all servers together.
    pub calls_max: u32,
    /// Most servers running at once.
    pub running_max: u32,
    /// Longest name of a tool that clients are shown, in bytes.
    pub tool_name_bytes_max: usize,
    /// What is kept of each server's standard error, in bytes.
    pub log_bytes_max: u64,
    /// Whether every call leaves a line in the audit.
    pub audit: bool,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            name: "cuddy".to_owned(),
            message_bytes_max: MESSAGE_BYTES_DEFAULT,
            calls_max: CALLS_ALL_DEFAULT,
            running_max: RUNNING_DEFAULT,
            tool_name_bytes_max: TOOL_NAME_BYTES_DEFAULT,
            log_bytes_max: LOG_BYTES_DEFAULT,
            audit: true,
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// Its name: 1 to 64 of `A-Z a-z 0-9 _ - .`, beginning with a letter or digit; fit to be a file's name.
    pub name: String,
    /// Where it was written.
    pub source_place: Place,
    /// How it is spoken to.
    pub transport: Transport,
    /// What its sandbox may do; nothing of it holds for [`Transport::Http`].
    pub policy: ServerPolicy,
    /// Which of its tools clients see, and under which names.
    pub tools: ToolRules,
    /// What stands in front of the names of its tools and prompts.
    pub prefix: Prefix,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// When it is started.
    pub start: Start,
    /// How many started sandboxes are kept ready besides those in use.
    pub warm: u32,
    /// Whether a changed tool definition must be accepted before it is shown.
    pub pin: bool,
    /// It is stopped after so long without a request, in milliseconds.
    pub idle_stop_ms: Option<u64>,
    /// Most calls under way at it.
    pub calls_max: u32,
}

impl ServerConfig {
    /// A server under the defaults: strict policy, no network, started at the first call.
    pub fn new(name: impl Into<String>, source_place: Place, transport: Transport) -> Self {
        Self {
            name: name.into(),
            source_place,
            transport,
            policy: ServerPolicy::default(),
            tools: ToolRules::default(),
            prefix: Prefix::Default,
            timeouts: Timeouts::default(),
            restart: Restart::OnFailure { attempts_max: RESTARTS_DEFAULT },
            start: Start::OnDemand,
            warm: 0,
            pin: false,
            idle_stop_ms: None,
            calls_max: CALLS_DEFAULT,
        }
    }

    /// The text in front of the names of its tools; empty for none.
    pub fn prefix_text(&self) -> &str {
        match &self.prefix {
            Prefix::Default => &self.name,
            Prefix::None => "",
            Prefix::Text(text) => text,
        }
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// A program of the host in a sandbox, on pipes.
    Stdio {
        /// The program: a path, or a name to be found in `PATH`.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Where it starts; the caller's folder when there is none.
        cwd: Option<PathBuf>,
    },
    /// An image of the store in a sandbox, on pipes.
    Image {
        /// Its reference.
        image: String,
        /// What is executed instead of the image's own command; empty for that one.
        command: Vec<String>,
        /// Where it starts; the image's own folder when there is none.
        cwd: Option<PathBuf>,
    },
    /// A server somewhere else, by streamable HTTP.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// Sent with every request; values may be secrets.
        headers: Vec<(String, String)>,
    },
}

/// What a server's sandbox may do, in the words of `mcp run`.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPolicy {
    /// Folders it works in, and whether it may only read them.
    pub workspaces: Vec<(PathBuf, bool)>,
    /// What else it may read.
    pub read_only: Vec<PathBuf>,
    /// What else it may write.
    pub read_write: Vec<PathBuf>,
    /// What it must not see though it lies in what is shown.
    pub hidden: Vec<PathBuf>,
    /// Its network.
    pub network: Network,
    /// Memory limit as it was written, such as `512m`.
    pub memory: Option<String>,
    /// CPU time in processors as it was written, such as `1.5`.
    pub cpus: Option<String>,
    /// Number of processes.
    pub pids: Option<u64>,
    /// Its variables with their values, which may be secrets; nothing else of the environment goes in.
    pub environment: BTreeMap<String, String>,
    /// Profile of system calls instead of the strict one.
    pub seccomp: Option<PathBuf>,
}

impl Default for ServerPolicy {
    fn default() -> Self {
        Self {
            workspaces: Vec::new(),
            read_only: Vec::new(),
            read_write: Vec::new(),
            hidden: Vec::new(),
            network: Network::None,
            memory: None,
            cpus: None,
            pids: None,
            environment: BTreeMap::new(),
            seccomp: None,
        }
    }
}

/// Which tools clients see, and under which names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolRules {
    /// Only these, when there is a list; `*` stands for any text.
    pub allow: Option<Vec<String>>,
    /// None of these, whatever else is said.
    pub deny: Vec<String>,
    /// The server's name of a tool → the name clients see (before the prefix).
    pub rename: BTreeMap<String, String>,
}

impl ToolRules {
    /// Whether clients see the tool that the server calls `name`.
    pub fn shows(&self, name: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, name));
        self.allow.as_deref().is_none_or(listed) && !listed(&self.deny)
    }

    /// The name that clients see instead of the server's own, before the prefix.
    pub fn shown_name<'n>(&'n self, name: &'n str) -> &'n str {
        self.rename.get(name).map_or(name, String::as_str)
    }
}

/// Whether `pattern`, in which `*` stands for any text, is `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place is the best one: what is left is longest then.
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

/// What stands in front of the names of a server's tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prefix {
    /// The server's name.
    Default,
    /// Nothing.
    None,
    /// This.
    Text(String),
}

/// How long things may take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From its start to its first answer.
    pub start_ms: u64,
    /// One call.
    pub call_ms: u64,
    /// The answer to a ping.
    pub ping_ms: u64,
    /// Between two pings of an idle server; `None` for no pings.
    pub ping_every_ms: Option<u64>,
    /// Each step of stopping.
    pub stop_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start_ms: START_MS_DEFAULT,
            call_ms: CALL_MS_DEFAULT,
            ping_ms: PING_MS_DEFAULT,
            ping_every_ms: Some(PING_EVERY_MS_DEFAULT),
            stop_ms: STOP_MS_DEFAULT,
        }
    }
}

/// What happens when a server ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It stays ended until somebody asks for it.
    Never,
    /// It is started anew, each time after a longer pause.
    OnFailure {
        /// So often in a row; then it counts as broken.
        attempts_max: u32,
    },
}

/// When a server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the gateway.
    Eager,
    /// At the first request that only it can answer.
    OnDemand,
}

/// `mcp run` for one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    /// What follows our own program's name: `mcp run … -- COMMAND…`.
    pub arguments: Vec<String>,
    /// Variables that the started `mcp run` must have besides ours; the arguments name them without
    /// their values, for a command line is public.
    pub environment: BTreeMap<String, String>,
    /// The folder to start it in; the caller's when there is none.
    pub cwd: Option<PathBuf>,
}

/// Variables that our own program obeys: as arguments they reach the server without changing us.
const OURS: [&str; 7] =
    ["DOCKER_CONFIG", "DOCKER_HOST", "HOME", "PATH", "PYENV_VERSION", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"];

impl ServerConfig {
    /// The `mcp run` that starts this server in its sandbox; `None` for one that is somewhere else.
    pub fn run_line(&self) -> Option<RunLine> {
        let mut arguments = vec!["mcp".to_owned(), "run".to_owned()];
        let (image, command, cwd) = match &self.transport {
            Transport::Stdio { command, args, cwd } => {
                let line = std::iter::once(command).chain(args).cloned().collect::<Vec<_>>();
                (HOST_IMAGE, line, cwd)
            }
            Transport::Image { image, command, cwd } => (image.as_str(), command.clone(), cwd),
            Transport::Http { .. } => return None,
        };
        let mut flag = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        if image != HOST_IMAGE {
            flag("image", image.to_owned());
        }
        let policy = &self.policy;
        for (path, read_only) in &policy.workspaces {
            flag("workspace", format!("{}{}", path.display(), if *read_only { ":ro" } else { "" }));
        }
        policy.read_only.iter().for_each(|path| flag("ro", path.display().to_string()));
        policy.read_write.iter().for_each(|path| flag("rw", path.display().to_string()));
        policy.hidden.iter().for_each(|path| flag("hide", path.display().to_string()));
        if policy.network == Network::Host {
            flag("network", "host".to_owned());
        }
        let limits = [("memory", &policy.memory), ("cpus", &policy.cpus)];
        limits.into_iter().for_each(|(name, value)| value.iter().for_each(|v| flag(name, v.clone())));
        policy.pids.iter().for_each(|pids| flag("pids", pids.to_string()));
        policy.seccomp.iter().for_each(|path| flag("seccomp", path.display().to_string()));
        let mut environment = BTreeMap::new();
        for (name, value) in &policy.environment {
            if OURS.contains(&name.as_str()) || name.to_ascii_lowercase().ends_with("_proxy") {
                flag("env", format!("{name}={value}"));
            } else {
                flag("env", name.clone());
                environment.insert(name.clone(), value.clone());
            }
        }
        if !command.is_empty() {
            arguments.push("--".to_owned());
            arguments.extend(command);
        }
        Some(RunLine { arguments, environment, cwd: cwd.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerConfig {
        let transport =
            Transport::Stdio { command: "server".to_owned(), args: vec!["--x".to_owned()], cwd: None };
        ServerConfig::new("files", Place::default(), transport)
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("read", "read", true),
            ("read", "read_file", false),
            ("read*", "read_file", true),
            ("*file", "read_file", true),
            ("r*_*e", "read_file", true),
            ("r*_*x", "read_file", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("a**b", "ab", true),
            ("*ab*ab", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_denied_is_not_shown_though_it_is_allowed() {
        let rules = ToolRules {
            allow: Some(vec!["read*".to_owned()]),
            deny: vec!["*_secret".to_owned()],
            ..ToolRules::default()
        };
        assert!(rules.shows("read_file"));
        assert!(!rules.shows("read_secret"));
        assert!(!rules.shows("write_file"));
        assert!(ToolRules::default().shows("anything"));
        assert!(!ToolRules { allow: Some(Vec::new()), ..ToolRules::default() }.shows("anything"));
    }

    #[test]
    fn a_server_that_says_nothing_gets_the_strict_policy() {
        let line = server().run_line().unwrap();
        assert_eq!(line.arguments, ["mcp", "run", "--", "server", "--x"]);
        assert!(line.environment.is_empty());
    }

    #[test]
    fn values_of_variables_stay_out_of_the_command_line_but_for_those_that_we_obey_ourselves() {
        let mut server = server();
        server.policy.environment =
            [("TOKEN", "secret"), ("PATH", "/x")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        server.policy.workspaces = vec![(PathBuf::from("/w"), true)];
        server.policy.network = Network::Host;
        let line = server.run_line().unwrap();
        let expected = "mcp run --workspace=/w:ro --network=host --env=PATH=/x --env=TOKEN -- server --x";
        assert_eq!(line.arguments.join(" "), expected);
        assert_eq!(line.environment, [("TOKEN".to_owned(), "secret".to_owned())].into());
    }
}
