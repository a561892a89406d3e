//! Pure: what may be typed, nothing else. The comments are the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::workspace_args::{
    WorkspaceFolder, WorkspaceMap, WorkspaceOutline, WorkspaceSearch, WorkspaceUndo,
};

/// Rootless OCI containers without a daemon.
#[derive(Debug, Parser)]
#[command(name = "cuddy", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Cuddy {
    /// Folder of Docker's `config.json`: credentials
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(defer = true)] // the flags of the one verb that was typed are enough: each start pays for them
pub enum Verb {
    /// Run a command in a new container, in the foreground
    #[command(disable_help_flag = true, args_override_self = true)]
    Run(Box<Run>),
    /// Put the images of an archive into the store
    Load(Load),
    /// Write images as an archive
    Save(Save),
    /// Make an image of a plain tar file
    Import(Import),
    /// List images
    Images(Images),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Give an image to a registry
    Push(Push),
    /// Say who you are to a registry, and keep it
    Login(Login),
    /// Forget who you are to a registry
    Logout(Logout),
    /// Search a registry for images
    Search(Search),
    /// Say how an image was made
    History(History),
    /// Say what an image is
    Inspect(Inspect),
    /// Give an image one more name
    Tag(Tag),
    /// Take images away
    Rmi(Rmi),
    /// Everything about images
    Image(Image),
    /// What takes the disk, and how it gets free
    System(System),
    /// Run MCP servers
    Mcp(Mcp),
    /// Serve and look at the folder an agent works in
    Workspace(Workspace),
    /// What was done, and whether its record is whole
    Audit(Audit),
    /// Say what this host can do, what follows, and which line changes it
    Doctor(Doctor),
    /// Say the version
    Version,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// `@host`, or the name or id of an image
    pub image: String,
    /// Command and arguments; without one the image's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Give the command our standard input
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub tty: bool,
    /// Leave nothing of the container behind (always so for a container in the foreground)
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub rm: bool,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Set a variable, `NAME=VALUE`, or copy ours, `NAME`
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Folder the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User the command runs as, `USER[:GROUP]`
    #[arg(short, long)]
    pub user: Option<String>,
    /// Mount a folder or a volume, `[SOURCE:]INSIDE[:OPTIONS]`
    #[arg(short, long, value_name = "MOUNT")]
    pub volume: Vec<String>,
    /// Mount, `type=bind|volume|tmpfs,src=…,dst=…[,ro]`
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount memory, `INSIDE[:OPTIONS]`
    #[arg(long, value_name = "MOUNT")]
    pub tmpfs: Vec<String>,
    /// Program instead of the image's own; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// One more line of /etc/hosts, `NAME:ADDRESS`
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Nothing of the root filesystem can be written
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub read_only: bool,
    /// Network: loopback only, or the host's
    #[arg(long, visible_alias = "net", value_enum, default_value = "none")]
    pub network: Network,
    /// Memory limit, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory and swap together; -1 for any amount of swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// CPU time, in processors: 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Number of processes; -1 for any
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<String>,
    /// Resource limit of the command, `NAME=SOFT[:HARD]`
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// Capability more
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Capability less
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE, seccomp=unconfined
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// A first process that hands signals on and buries the dead
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub init: bool,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Label, `NAME=VALUE`
    #[arg(short, long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// Size of /dev/shm, such as 64m
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds it has then
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// Show a device of the host, `/dev/HOST[:/dev/INSIDE]`
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// One more group of the command
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// No walls but the user namespace
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub privileged: bool,
    /// User namespace: `host` (root only), `keep-id`
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Platform the image must have, `linux/amd64`
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// When the image is fetched from its registry
    #[arg(long, value_enum, default_value = "missing")]
    pub pull: PullWhen,
    /// Show nothing of that
    #[arg(short, long)]
    pub quiet: bool,
    /// Show this help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// `--pull`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PullWhen {
    /// When it is not here
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}

/// `--network`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Loopback only
    None,
    /// The host's own
    Host,
}

/// `load`
#[derive(Debug, Args)]
pub struct Load {
    /// Read this file, layout folder or `oci:FOLDER[:TAG]` instead of standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<String>,
    /// Print nothing but the names
    #[arg(short, long)]
    pub quiet: bool,
    /// Of several platforms this one, `linux/amd64`, and no other
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Take images out of a running Docker, by its socket
    #[arg(long, value_enum, value_name = "DAEMON", conflicts_with = "input")]
    pub from: Option<Daemon>,
    /// With `--from`: which images; all that have a name without
    #[arg(value_name = "IMAGE", requires = "from")]
    pub images: Vec<String>,
}

/// `--from`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Daemon {
    /// Docker, at DOCKER_HOST or its usual socket
    Docker,
}

/// `save`
#[derive(Debug, Args)]
pub struct Save {
    /// Images; a name without a tag means all its tags
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Write this file, or the folder `oci:FOLDER`, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What to write: docker-archive, docker-archive-legacy, oci-archive or oci-dir
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Of several platforms this one, `linux/amd64`
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
}

/// `import`
#[derive(Debug, Args)]
pub struct Import {
    /// The tar file, `-` for standard input
    pub file: String,
    /// Name of the image
    pub name: Option<String>,
}

/// `images`
#[derive(Debug, Args)]
pub struct Images {
    /// Only those with this name, which may hold `*` and `?`
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
    /// All images (there are no hidden ones)
    #[arg(short, long)]
    pub all: bool,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print digests too
    #[arg(long)]
    pub digests: bool,
    /// Cut nothing off
    #[arg(long)]
    pub no_trunc: bool,
    /// Only those that fit: dangling=, label=, before=, since=, until=, reference=
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json` (one object a line) or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `pull`
#[derive(Debug, Args)]
pub struct Pull {
    /// Name of the image, with a tag or a digest
    pub name: String,
    /// Every tag of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Taken and ignored: signatures are asked for by a policy file
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_content_trust: Option<bool>,
}

/// `push`
#[derive(Debug, Args)]
pub struct Push {
    /// Name of the image, with a tag
    pub name: String,
    /// Every tag of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Taken and ignored: signatures are made by cosign
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub disable_content_trust: Option<bool>,
}

/// `login`
#[derive(Args)]
pub struct Login {
    /// The registry; without one Docker's own
    pub server: Option<String>,
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password or token: every user of this host can read it while the command runs
    #[arg(short, long)]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

impl std::fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("server", &self.server)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// `logout`
#[derive(Debug, Args)]
pub struct Logout {
    /// The registry; without one Docker's own
    pub server: Option<String>,
}

/// `search`
#[derive(Debug, Args)]
pub struct Search {
    /// What to search for; `HOST/TERM` asks another registry than Docker's
    pub term: String,
    /// How many to show
    #[arg(long, default_value_t = 25)]
    pub limit: u32,
    /// Show whole descriptions
    #[arg(long)]
    pub no_trunc: bool,
    /// `stars=NUMBER`, `is-official=true`
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// `table`, `table TEMPLATE`, `json` (one object a line) or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `history`
#[derive(Debug, Args)]
pub struct History {
    /// The image
    pub image: String,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Sizes and times for people
    #[arg(short = 'H', long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", hide_possible_values = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub human: bool,
    /// Cut nothing off
    #[arg(long)]
    pub no_trunc: bool,
    /// `table`, `table TEMPLATE`, `json` (one object a line) or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `image inspect`
#[derive(Debug, Args)]
pub struct ImageInspect {
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// `json` or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// What to look at
    #[command(flatten)]
    pub image: ImageInspect,
    /// What it is: only images can be looked at
    #[arg(long = "type", value_name = "TYPE", value_parser = ["image"])]
    pub kind: Option<String>,
}

/// `tag`
#[derive(Debug, Args)]
pub struct Tag {
    /// The image
    pub source: String,
    /// Its new name
    pub target: String,
}

/// `rmi`
#[derive(Debug, Args)]
pub struct Rmi {
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Also with several names; what is not there is no failure
    #[arg(short, long)]
    pub force: bool,
    /// Keep untagged parents (an image has none here)
    #[arg(long)]
    pub no_prune: bool,
}

/// `image prune`
#[derive(Debug, Args)]
pub struct ImagePrune {
    /// Also those with a name, when no container uses them
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only those that fit: until=, label=, label!=
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<String>,
}

/// `image`
#[derive(Debug, Args)]
pub struct Image {
    /// The verb.
    #[command(subcommand)]
    pub verb: ImageVerb,
}

/// What to do with images.
#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Images),
    /// Say how an image was made
    History(History),
    /// Say what an image is
    Inspect(ImageInspect),
    /// Give an image one more name
    Tag(Tag),
    /// Take images away
    #[command(visible_alias = "remove")]
    Rm(Rmi),
    /// Take away images that nobody needs
    Prune(ImagePrune),
    /// Put the images of an archive into the store
    Load(Load),
    /// Write images as an archive
    Save(Save),
    /// Make an image of a plain tar file
    Import(Import),
    /// Fetch an image from a registry
    Pull(Pull),
    /// Give an image to a registry
    Push(Push),
}

/// `system`
#[derive(Debug, Args)]
pub struct System {
    /// The verb.
    #[command(subcommand)]
    pub verb: SystemVerb,
}

/// What to do about the disk.
#[derive(Debug, Subcommand)]
pub enum SystemVerb {
    /// Say what takes how much of the disk
    Df(SystemDf),
    /// Take away what nobody needs
    Prune(SystemPrune),
}

/// `system df`
#[derive(Debug, Args)]
pub struct SystemDf {
    /// Each image, container and volume
    #[arg(short, long)]
    pub verbose: bool,
    /// `table`, `table TEMPLATE`, `json` (one object a line) or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `system prune`
#[derive(Debug, Args)]
pub struct SystemPrune {
    /// Also images with a name, when no container uses them
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Also volumes without a name
    #[arg(long)]
    pub volumes: bool,
    /// Only what fits: until=, label=, label!=
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<String>,
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// The verb.
    #[command(subcommand)]
    pub verb: AuditVerb,
}

/// What to do with the record of what was done.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Show what was done
    Show(AuditShow),
    /// Say whether a line was changed, removed or inserted
    Verify(AuditVerify),
}

/// `audit show`
#[derive(Debug, Args)]
pub struct AuditShow {
    /// Not before: `10m`, `2h`, `3d` ago, or a date
    #[arg(long, value_name = "MOMENT")]
    pub since: Option<String>,
    /// Only calls of this MCP server
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Only calls of this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only this verb: `run`, `pull`, `call`
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// Only so many, the newest
    #[arg(long, value_name = "NUMBER")]
    pub tail: Option<usize>,
    /// How to print: text or json (one object a line)
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A digest that was noted before: it must be in the record still
    #[arg(long, value_name = "DIGEST")]
    pub head: Option<String>,
    /// How to print: text or json
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `mcp`
#[derive(Debug, Args)]
pub struct Mcp {
    /// The verb.
    #[command(subcommand)]
    pub verb: McpVerb,
}

/// What to do with MCP servers.
#[derive(Debug, Subcommand)]
pub enum McpVerb {
    /// Run one MCP server in a sandbox, over our own standard input and output
    Run(Box<McpRun>),
    /// Serve sandboxes to an agent's orchestrator, over our own standard input and output
    Serve(Box<McpServe>),
    /// Put many MCP servers, each in its own sandbox, behind one: our standard input and output, or HTTP
    Gateway(McpGateway),
    /// Convert configurations of MCP servers to cuddy's own, and say what they would allow
    Import(McpImport),
    /// Write the beginning of a configuration
    Init(McpInit),
    /// List the gateways and servers that run
    Ps(McpPs),
    /// Show what a server wrote to standard error
    Logs(McpLogs),
    /// Say everything that is known of a server
    Inspect(McpInspect),
    /// End a server's sandboxes, and start none until asked
    Stop(McpStop),
    /// Start a server that was stopped or failed
    Start(McpStart),
    /// Print what Prometheus reads, of all gateways
    Metrics,
    /// Say what servers offer that nobody has accepted, and what changed since somebody did
    Diff(McpDiff),
    /// Accept what a server offers now
    Accept(McpAccept),
}

/// `mcp import`
#[derive(Debug, Args)]
pub struct McpImport {
    /// Configurations of Claude, Cursor, VS Code, MassGen, Codex, Docker, ToolHive, srt or cuddy
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The format, when it is not to be recognised: cuddy, mcp-servers, vscode, massgen, codex, docker, toolhive,
    /// toolhive-profile, srt
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// A value that the client would ask for: `${input:NAME}`
    #[arg(long, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `mcp init`
#[derive(Debug, Args)]
pub struct McpInit {
    /// Servers to begin with; without one every word stands in a comment
    #[arg(value_name = "TEMPLATE")]
    pub templates: Vec<String>,
    /// Say which templates there are
    #[arg(long)]
    pub list: bool,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `mcp ps`
#[derive(Debug, Args)]
pub struct McpPs {
    /// How to print: text or json (one object a line for each gateway)
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `mcp logs`
#[derive(Debug, Args)]
pub struct McpLogs {
    /// The server
    pub name: String,
    /// Go on with what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many lines, the newest
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub tail: Option<usize>,
    /// With the moment of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

/// `mcp inspect`
#[derive(Debug, Args)]
pub struct McpInspect {
    /// The server
    pub name: String,
}

/// `mcp stop`
#[derive(Debug, Args)]
pub struct McpStop {
    /// The servers
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// Every gateway, with all its servers
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
}

/// `mcp start`
#[derive(Debug, Args)]
pub struct McpStart {
    /// The servers
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// `mcp diff`
#[derive(Debug, Args)]
pub struct McpDiff {
    /// The server; all without
    pub name: Option<String>,
    /// Accept it too
    #[arg(long, requires = "name")]
    pub accept: bool,
    /// How to print: text or json (one object a line)
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `mcp accept`
#[derive(Debug, Args)]
pub struct McpAccept {
    /// The servers
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// `mcp serve`
#[derive(Debug, Args)]
pub struct McpServe {
    /// Folder that sandboxes may work in, with what lies below; `:ro` to read only
    #[arg(long, value_name = "DIR[:ro]")]
    pub workspace: Vec<String>,
    /// Folder or file that sandboxes may read
    #[arg(long, value_name = "PATH")]
    pub ro: Vec<PathBuf>,
    /// Give every sandbox a variable, `NAME=VALUE`, or ours, `NAME`
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// The most of a network that a sandbox may have
    #[arg(long, value_enum, default_value = "none")]
    pub network: Network,
    /// Most memory of one sandbox, such as 512m
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Most CPU time of one sandbox, in processors: 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Most processes of one sandbox
    #[arg(long, value_name = "NUMBER")]
    pub pids: Option<u64>,
    /// Image that sandboxes may use; the first unless another is asked for; every one without
    #[arg(long)]
    pub image: Vec<String>,
    /// Profile of system calls instead of the strict one
    #[arg(long, value_name = "FILE")]
    pub seccomp: Option<PathBuf>,
    /// Let images be fetched from registries
    #[arg(long)]
    pub pull: bool,
    /// Most sandboxes at once
    #[arg(long, value_name = "NUMBER", default_value = "16")]
    pub sandboxes: usize,
    /// Leave out the tools that read and change files of the workspace folders without a sandbox
    #[arg(long)]
    pub no_files: bool,
}

/// `mcp gateway`
#[derive(Debug, Args)]
pub struct McpGateway {
    /// Configuration of servers, in any format that `mcp import` reads; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Vec<PathBuf>,
    /// The format of all of them, when it is not to be recognised: one of those of `mcp import`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Listen for HTTP instead of standard input: 127.0.0.1:8808, unix:/path
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,
    /// File of the token that clients of HTTP show; made when there is none
    #[arg(long, value_name = "FILE", requires = "http")]
    pub http_token_file: Option<PathBuf>,
    /// Answer everybody on this machine who can connect: any of its users, any program
    #[arg(long, requires = "http", conflicts_with = "http_token_file")]
    pub http_no_token: bool,
    /// Listen where other machines can reach it
    #[arg(long, requires = "http")]
    pub http_expose: bool,
    /// Let pages of this origin ask, such as `https://example.com`
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    pub http_origin: Vec<String>,
    /// Answer to this name of the machine too
    #[arg(long, value_name = "NAME", requires = "http")]
    pub http_host: Vec<String>,
    /// Answer `/metrics` in the words of Prometheus
    #[arg(long, requires = "http")]
    pub metrics: bool,
    /// Value of an `${input:NAME}` in the configuration, `NAME=VALUE`
    #[arg(long, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
}

/// `mcp run`
#[derive(Debug, Args)]
pub struct McpRun {
    /// End when this process ends, which must be our parent
    #[arg(long, value_name = "PID", hide = true)]
    pub with_parent: Option<i32>,
    /// The server's command line, as without a sandbox; an image may name its own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Folder the server works in, at the same path inside; `:ro` to read only
    #[arg(long, value_name = "DIR[:ro]")]
    pub workspace: Vec<String>,
    /// Folder or file the server may read
    #[arg(long, value_name = "PATH")]
    pub ro: Vec<PathBuf>,
    /// Folder or file the server may write
    #[arg(long, value_name = "PATH")]
    pub rw: Vec<PathBuf>,
    /// Folder or file the server must not see though it lies in one that is shown
    #[arg(long, value_name = "PATH")]
    pub hide: Vec<PathBuf>,
    /// Set a variable, `NAME=VALUE`, or copy ours, `NAME`; nothing else of our environment goes in
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Network: loopback only, or the host's
    #[arg(long, value_enum, default_value = "none")]
    pub network: Network,
    /// Memory limit, such as 512m
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// CPU time, in processors: 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Number of processes
    #[arg(long, value_name = "NUMBER")]
    pub pids: Option<String>,
    /// Image the server runs in
    #[arg(long, default_value = "@host")]
    pub image: String,
    /// Profile of system calls instead of the strict one
    #[arg(long, value_name = "FILE")]
    pub seccomp: Option<PathBuf>,
    /// Print what the sandbox would see and may do, and start nothing
    #[arg(long)]
    pub explain: bool,
    /// How `--explain` prints: text or json
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `--format` of what is text or JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// How to print: text or json
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Reads the command line.
///
/// # Errors
/// What clap has to say: a mistake, or the help that was asked for.
pub fn parse(arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Cuddy, Misread> {
    Cuddy::try_parse_from(arguments).map_err(|e| Misread {
        is_help: !e.use_stderr(),
        is_unknown_command: e.kind() == clap::error::ErrorKind::InvalidSubcommand,
        text: e.render().to_string(),
    })
}

/// A command line that is not one, or a call for help.
#[derive(Debug)]
pub struct Misread {
    /// The text belongs on standard output.
    pub is_help: bool,
    /// No such verb: Docker leaves with 1 then, with 125 for a flag.
    pub is_unknown_command: bool,
    /// What to print.
    pub text: String,
}

/// `workspace`
#[derive(Debug, Args)]
pub struct Workspace {
    /// The verb.
    #[command(subcommand)]
    pub verb: WorkspaceVerb,
}

/// What to do with a workspace.
#[derive(Debug, Subcommand)]
pub enum WorkspaceVerb {
    /// Serve file tools to an agent over standard input and output (MCP)
    Serve(WorkspaceServe),
    /// Count files, folders and languages
    Status(WorkspaceFolder),
    /// Search in the content of files
    Search(WorkspaceSearch),
    /// Show functions, types and headings with their lines
    Outline(WorkspaceOutline),
    /// Show the signatures that the code refers to most
    Map(WorkspaceMap),
    /// List what was changed through the server
    History(WorkspaceFolder),
    /// Take a change back
    Undo(WorkspaceUndo),
}

/// `workspace serve`
#[derive(Debug, Args)]
pub struct WorkspaceServe {
    /// Folders to read and change; without one the current folder
    pub roots: Vec<String>,
    /// Folder to read only
    #[arg(long, value_name = "DIR")]
    pub ro: Vec<String>,
    /// Glob of what nobody changes; without one what git runs programs from
    #[arg(long, value_name = "GLOB")]
    pub protect: Vec<String>,
    /// Which tools are offered
    #[arg(long, value_enum, default_value = "full")]
    pub tools: WorkspaceProfile,
    /// Folder of the journal that undo reads
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// Largest text of one reply: what is longer is cut, and says where it goes on (`core` and `full`)
    #[arg(long, value_name = "BYTES", default_value_t = 96 * 1024)]
    pub max_reply: usize,
}

/// Which tools `workspace serve` offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorkspaceProfile {
    /// The 14 of `@modelcontextprotocol/server-filesystem`, as it has them
    Compat,
    /// Those and MassGen's six
    Massgen,
    /// Those of the reference with more parameters, edits of many files, patches, undo
    Core,
    /// All
    Full,
}
