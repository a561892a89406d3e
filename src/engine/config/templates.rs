//! Pure: beginnings of configurations, each for a server that many people use, with a word on what it may do and why.
//!
//! The versions are those that cuddy is tested with. Nothing is fetched: a server is installed by a person.

/// One server, ready to be put into a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// How it is installed.
    pub install: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// What stands at the head of every configuration.
pub const HEAD: &str = r#"# cuddy's configuration of MCP servers: `cuddy mcp gateway --config THIS-FILE`.
# Every server runs in a sandbox of its own. What is not named here it cannot see: no home folder, no network,
# no variable. `cuddy mcp import THIS-FILE` shows what each one would be allowed.
#
#   ${env:NAME}          a variable of cuddy's own environment (an error when it is not set)
#   ${NAME:-default}     the same, with a value for when it is not set
#   ${workspaceFolder}   the folder that cuddy is started in
#   ${userHome}, ~/      the home folder; other relative paths begin where this file is

version = 1

# [gateway]
# name = "cuddy"             # what it calls itself to clients
# tool_name_max = 64         # some clients take only 60 letters

# [defaults]                 # for every server that does not say otherwise
# memory = "1g"
# pids = 200
"#;

/// Every word of a server's table, for a configuration without a template.
pub const EXAMPLE: &str = r#"
# [servers.example]
# command = "my-server"                  # a program, found in PATH; or `image = "…"`, or `url = "https://…"`
# args = ["--stdio"]
# cwd = "${workspaceFolder}"             # the folder it starts in
# workspace = ["${workspaceFolder}"]     # folders it works in; `:ro` behind one to read only
# ro = ["~/reference"]                   # what else it may read
# rw = ["~/.cache/my-server"]            # what else it may write
# hide = ["${workspaceFolder}/.env"]     # what it must not see though it lies in what is shown
# network = "none"                       # or "host": the whole network of this machine
# env = { TOKEN = "${env:TOKEN}" }
# env_pass = ["LANG"]                    # variables that go in as they are
# memory = "512m"
# cpus = "1.5"
# pids = 100
# start = "on-demand"                    # or "eager": with the gateway
# restart = "on-failure"                 # or "never"
# idle_stop = "10m"                      # stop it when nobody asks for so long
# pin = true                             # a changed tool must be accepted first: `cuddy mcp diff`
# prefix = "ex"                          # in front of its tools instead of its name; `false` for none
# [servers.example.tools]
# allow = ["read_*"]
# deny = ["read_secret"]
# rename = { read_file = "cat" }
# [servers.example.timeouts]
# start = "60s"
# call = "5m"
"#;

/// Every template, by name.
pub const TEMPLATES: &[Template] = &[
    Template {
        name: "everything",
        about: "the reference server with one of everything, to try a client with",
        install: "npm install -g @modelcontextprotocol/server-everything@2026.8.31",
        text: r#"
# One of everything that the protocol has, to try a client with. It needs nothing.
[servers.everything]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-everything@2026.8.31"]
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "fetch",
        about: "fetches web pages as text",
        install: "uv tool install mcp-server-fetch==2026.10.24",
        text: r#"
# Fetches web pages. It needs the network, so it gets no file: what it reads on the web may be written to
# mislead it, and there must be nothing here that it could send away.
[servers.fetch]
command = "uvx"
args = ["mcp-server-fetch@2026.10.24"]
network = "host"
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "filesystem",
        about: "reads, writes and searches files of one folder",
        install: "npm install -g @modelcontextprotocol/server-filesystem@2026.8.31",
        text: r#"
# Files of one folder. The argument says to the server what it may touch, `workspace` says it to the kernel.
[servers.filesystem]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-filesystem@2026.8.31", "${workspaceFolder}"]
workspace = ["${workspaceFolder}"]
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "git",
        about: "history, diff and commit of one repository",
        install: "uv tool install mcp-server-git==2026.10.19",
        text: r#"
# One repository. Hooks run what is written in them, so they are read only here; without the network nothing is pushed.
[servers.git]
command = "uvx"
args = ["mcp-server-git@2026.10.19", "--repository", "${workspaceFolder}"]
workspace = ["${workspaceFolder}"]
ro = ["${workspaceFolder}/.git/hooks"]
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "memory",
        about: "a graph of facts that outlives the conversation",
        install: "npm install -g @modelcontextprotocol/server-memory@2026.8.31",
        text: r#"
# Remembers facts in one file. The folder must be there: `mkdir -p ~/.local/share/mcp-memory`.
[servers.memory]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-memory@2026.8.31"]
rw = ["~/.local/share/mcp-memory"]
env = { MEMORY_FILE_PATH = "${userHome}/.local/share/mcp-memory/graph.jsonl" }
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "sequential-thinking",
        about: "a notebook for thinking in steps",
        install: "npm install -g @modelcontextprotocol/server-sequential-thinking@2026.8.31",
        text: r#"
# Thinks in steps. It needs neither files nor network.
[servers.sequential-thinking]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-sequential-thinking@2026.8.31"]
prefix = "thinking"
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "sqlite",
        about: "queries one SQLite database",
        install: "uv tool install mcp-server-sqlite==2025.4.25 --with 'mcp[cli]<2'",
        text: r#"
# One database. SQLite writes files beside it, so its folder is shown, and nothing else.
[servers.sqlite]
command = "uvx"
args = ["mcp-server-sqlite@2025.4.25", "--db-path", "${workspaceFolder}/data/db.sqlite"]
workspace = ["${workspaceFolder}/data"]
memory = "512m"
pids = 100
"#,
    },
    Template {
        name: "time",
        about: "what time it is, and elsewhere",
        install: "uv tool install mcp-server-time==2026.10.19",
        text: r#"
# Says what time it is. It needs neither files nor network.
[servers.time]
command = "uvx"
args = ["mcp-server-time@2026.10.19", "--local-timezone", "UTC"]
memory = "256m"
pids = 50
"#,
    },
    Template {
        name: "workspace",
        about: "cuddy's own tools for the files of one folder",
        install: "",
        text: r#"
# cuddy's own tools for the files of one folder: nothing has to be installed.
[servers.workspace]
command = "cuddy"
args = ["workspace", "serve", "${workspaceFolder}"]
workspace = ["${workspaceFolder}"]
memory = "1g"
pids = 100
"#,
    },
];

/// A configuration with these templates, or with every word in a comment when there is none.
pub fn configuration(templates: &[&Template]) -> String {
    let mut text = HEAD.to_owned();
    if templates.is_empty() {
        text.push_str(EXAMPLE);
    }
    for template in templates {
        text.push_str(template.text);
        if !template.install.is_empty() {
            text.push_str(&format!("# to install it: {}\n", template.install));
        }
    }
    text
}

/// The template of a name.
pub fn named(name: &str) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.name == name)
}
