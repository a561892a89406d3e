//! Rootless containers without a daemon.
//!
//! Read downward: a module uses only what stands above it, so this file is the architecture.
//! ○ pure: no I/O. ● touches the world. `tests/tidy.rs` holds the order.

// ── ground: words every part shares ─────────────────────────────────────────────────────────────

/// ○ What a caller may branch on, and what a person reads when something failed.
pub mod error;
/// ○ Every name a person types, parsed once: container ids, image references, digests.
pub mod names;
/// The kernel; the only unsafe code in the crate.
#[expect(unsafe_code, reason = "system calls that no safe wrapper has; every block argues")]
pub mod sys {
    /// ● Open beneath a root, write then rename, locks; every error names its path.
    pub mod fs;
    /// ● Start ourselves again, namespaces, pidfds, the last steps before exec.
    pub mod process;
    /// ● Datagrams between two of our processes, with a descriptor on board.
    pub mod channel;
}
/// ○ What ties the lines of a record together, and where it is torn.
pub mod chain;
/// ● What was done, by whom, and how it ended: one line each, chained.
pub mod audit;

// ── three parts that do not know each other ─────────────────────────────────────────────────────

/// Bytes by digest; never runs anything.
pub mod image {
    /// ○ The fields of tar headers.
    pub mod header;
    /// ○ Tar bytes into entries.
    pub mod tar;
    /// ○ One pass over a blob: hash, decompress, stop bombs.
    pub mod stream;
    /// ○ The image configuration: what an image wants to run.
    pub mod config;
    /// ○ Manifests and indexes: which blobs make an image.
    pub mod manifest;
    /// ○ Moments as images write them.
    pub mod when;
    /// ○ Which images there are, and which name means which.
    pub mod index;
    /// ○ Docker's rules for taking names and images away.
    pub mod removal;
    /// ● One folder being filled beneath its descriptor.
    pub mod tree;
    /// ● One layer: tar into a folder that overlay can use, within ceilings.
    pub mod layer;
    /// ● What keeps things in the store while no image names them.
    pub mod leases;
    /// ● What a stack of layers needs on top so that no layer hides a folder's mode or owner.
    pub mod lids;
    /// ● Blobs, layers, configs and names on disk.
    pub mod store;
    /// ● What nothing names: found while nobody can begin to need it, removed afterwards.
    pub mod garbage;
    /// ● Layers and images on their way into the store, all or nothing.
    pub mod staging;
    /// ○ The documents of what `save` writes.
    pub mod layout;
    /// ● Images out of the store: docker-archive, OCI archive, OCI layout folder.
    pub mod save;
    /// ● The members of an archive: indexed once, read by their place.
    pub mod members;
    /// ● docker-archive, OCI archive and plain tar into the store.
    pub mod archive;
    /// Registries: the only place that speaks HTTP.
    pub mod registry {
        /// ○ Addresses of http and https.
        pub mod url;
        /// ○ What a registry asks for with 401.
        pub mod challenge;
        /// ○ `registries.json`: mirrors, insecure registries, patience.
        pub mod settings;
        /// ○ `policy.json`: whose signature an image must have, and whether it is good.
        pub mod policy;
        /// ○ What happens while images are pulled and pushed.
        pub mod event;
        /// ● Asks a program of the host, with a limit and a deadline.
        pub mod program;
        /// ● Names of hosts into addresses, by `getent`.
        pub mod resolve;
        /// ● Docker's `config.json` and its credential helpers.
        pub mod credentials;
        /// ● TLS: whose certificates are taken.
        pub mod tls;
        /// ● Requests: certificates, proxies, redirects, retries.
        pub mod http;
        /// ● One repository: who we are there, manifests, blobs, tags.
        pub mod client;
        /// ● A blob that is read while it comes, and goes on where it broke.
        pub mod download;
        /// ● The signatures that cosign keeps beside an image.
        pub mod signature;
        /// ● An image of a registry into the store.
        pub mod pull;
        /// ● An image of the store into a registry.
        pub mod push;
    }
}

/// One OCI container; never fetches anything.
pub mod container {
    /// ○ Memory, swap, processors and processes: Docker's numbers into cgroup's.
    pub mod limits;
    /// ○ `-v`, `--mount` and `--tmpfs` into one kind of value.
    pub mod mounts;
    /// ○ What was asked: command, mounts, environment, user, limits, walls.
    pub mod options;
    /// ○ subuid and subgid text into uid and gid mappings.
    pub mod idmap;
    /// ○ Who `USER` is: passwd and group text into ids.
    pub mod user;
    /// ○ System call names and their numbers.
    pub mod syscalls;
    /// ○ Decisions by system call into a BPF program.
    pub mod bpf;
    /// ○ Profile JSON into BPF programs.
    pub mod seccomp;
    /// ○ What the command tells the stage, and what the stage tells back.
    pub mod plan;
    /// ○ What is asked of a container that runs: a command, or something with one file.
    pub mod task;
    /// ○ Options, image config and mappings into an OCI runtime spec.
    pub mod spec;
    /// ● User namespaces of subordinate ids: write their maps, enter one.
    pub mod idspace;
    /// ● The record of one container on disk.
    pub mod state;
    /// ● Where this host lets us make a cgroup, by which way, and what to change where it does not.
    pub mod delegation;
    /// ● A scope of systemd around this process, by its own `busctl`.
    pub mod scope;
    /// ● Delegated cgroup v2 folders: limits, usage, kill.
    pub mod cgroup;
    /// ● The tree a container sees: overlay or the host's system folders, and mounts by descriptor.
    pub mod rootfs;
    /// ● `--init`: the first process that hands signals on and buries the dead.
    pub mod reaper;
    /// ● Terminals, shared memory and message queues below `/dev`.
    pub mod devices;
    /// ● The last steps inside: masks, rlimits, ids, capabilities, Landlock, seccomp, exec.
    pub mod walls;
    /// ● The only caller of libcontainer.
    pub mod runtime;
    /// ● Files of a container, from within: read, write, list.
    pub mod files;
    /// ● A command that is brought into a container that runs, behind the same walls.
    pub mod exec;
    /// ● The stage: the process that makes the namespaces and holds the container.
    pub mod stage;
    /// ● A terminal of ours and a terminal inside: bytes, size, raw mode.
    pub mod console;
    /// ● Start, wait, signal, clean up: asked from outside.
    pub mod lifecycle;
}

/// One folder an agent works in; never runs anything.
pub mod workspace {
    /// ○ Why something was not done, in words that a client can branch on.
    pub mod refusal;
    /// ○ What a client's path means: which root, which way beneath it; what is protected.
    pub mod path;
    /// ○ Bytes into text and back: encodings, line ends, lines.
    pub mod text;
    /// ○ Differences by lines, the unified form, the merge of two changes.
    pub mod diff;
    /// ○ Where a text to replace stands, and the text after it is replaced.
    pub mod edit;
    /// Patches of many files.
    pub mod patch {
        /// ○ Hunks, and where they stand in a text.
        pub mod hunk;
        /// ○ What a patch asks for, and which form a text has.
        pub mod form;
        /// ○ `*** Begin Patch`: the form of Codex.
        pub mod codex;
        /// ○ Unified patches, with git's headings or without.
        pub mod unified;
        /// ○ Search and replace blocks.
        pub mod blocks;
    }
    /// ● The one owner of root descriptors: every way is opened beneath one.
    pub mod root;
    /// ○ What an operation did, and what it means to do, as lines of a journal.
    pub mod change;
    /// ● The journal: operations, what was there before, locks on names.
    pub mod journal;
    /// ● Changes of many files, all or nothing, also when this process dies.
    pub mod commit;
    /// ● Files read: whole, by lines from either end, for a change.
    pub mod files;
    /// ● What takes operations back.
    pub mod undo;
    /// ● What dead processes left half done is ended.
    pub mod recover;
    /// ○ Places of a needle or a pattern in a text, and what shall stand there.
    pub mod replace;
    /// ○ The globs of the reference server.
    pub mod globs;
    /// ● How long somebody waits: deadline, cancellation, progress.
    pub mod patience;
    /// ● A few threads that share the work of one call.
    pub mod crew;
    /// ● One folder, read once, and the stamp by which it is known again.
    pub mod listing;
    /// ● What folders held, proved before it is believed.
    pub mod index;
    /// ● What ignore files say on the way down.
    pub mod ignores;
    /// ● Every folder below one, by a few threads.
    pub mod walk;
    /// ● Paths by glob and by letters.
    pub mod paths;
    /// ● Search in the content of files.
    pub mod search;
    /// ○ Which language a file is written in, and which nodes of its grammar are symbols.
    pub mod language;
    /// ● Text into a syntax tree, within limits of size and time.
    pub mod syntax;
    /// ● The symbols of one text.
    pub mod outline;
    /// ○ The words of a text, as programs have them.
    pub mod words;
    /// ● The bytes of every file below a place, by a few threads.
    pub mod contents;
    /// ● Symbols by name, everywhere below a place.
    pub mod symbols;
    /// ● Which signatures matter most, within a budget.
    pub mod map;
    /// ● A repository's history from its own files.
    pub mod git;
    /// ● Which files a task is probably about, and why.
    pub mod suggest;
    /// ○ What a tree held at one moment, and what differs between two.
    pub mod manifest;
    /// ● A look at everything below some roots.
    pub mod sweep;
    /// ● Snapshots: manifests, and the bytes that belong to them.
    pub mod snapshots;
}

// ── composition: the verbs, the one door for every surface ──────────────────────────────────────

/// The verbs, the one door for every surface.
pub mod engine {
    /// ● The host: its folders, its user, what it lets us do.
    pub mod host;
    /// ● `@host`: the host's own system folders as an image.
    pub mod host_image;
    /// ○ What an ELF program asks the loader for.
    pub mod elf;
    /// ○ The head of a script: who runs it in the end.
    pub mod script;
    /// ● What a sandbox must show so that a program starts, and what it must never show.
    pub mod reach;
    /// ● The libraries of a program that lie outside the system folders.
    pub mod libraries;
    /// ● Python's installations, virtual environments, scripts and modules.
    pub mod python;
    /// ● Node's installations, packages and modules.
    pub mod node;
    /// ● The programs that stand for another version of themselves: pyenv, asdf and the like.
    pub mod shims;
    /// ● What a program outside the system folders needs to start.
    pub mod program;
    /// ● Carry one decided container out: place, filter, cgroup, stage, end.
    pub mod launch;
    /// ● The store of this host: opened, cleared up, and what uses it.
    pub mod storage;
    /// ● Import; what every image that comes in needs; what an image says to `run`.
    pub mod images;
    /// ○ An HTTP answer, within ceilings.
    pub mod http;
    /// ● A running Docker, by its socket.
    pub mod dockerd;
    /// ● Load and save: archives, folders, pipes, a running Docker.
    pub mod archives;
    /// ○ `--filter` of what lists and prunes.
    pub mod filters;
    /// ● What is in the store: lists, inspection, history, disk usage.
    pub mod catalog;
    /// ● Tag, remove, prune.
    pub mod removal;
    /// ● Pull, push, log in; which registry and who we are to it.
    pub mod registries;
    /// ● What this host lends to a connection to another machine.
    pub mod remote;
    /// ● Run a command in a container.
    pub mod containers;
    /// ● Run an agent's tool under the strict policy.
    pub mod sandboxes;
    /// Configurations of MCP servers: every format into one kind of value.
    pub mod config {
        /// ○ One tree with places, whatever the language.
        pub mod document;
        /// ○ JSON with comments into a document.
        pub mod from_json;
        /// ○ TOML into a document.
        pub mod from_toml;
        /// ○ YAML into a document.
        pub mod from_yaml;
        /// ○ Placeholders and what they stand for.
        pub mod variables;
        /// ○ MCP servers as somebody configured them.
        pub mod servers;
        /// ○ Typed values out of a document, and every mistake in it.
        pub mod table;
        /// ○ Our own format.
        pub mod own;
        /// ○ `docker run` and `cuddy mcp run` as the policy that they mean.
        pub mod launchers;
        /// ○ What the formats of other programs have in common.
        pub mod foreign;
        /// ○ The JSON of MCP clients, VS Code's among it.
        pub mod mcp_servers;
        /// ○ MassGen's YAML.
        pub mod massgen;
        /// ○ Codex's TOML.
        pub mod codex;
        /// ○ Entries of Docker's MCP catalogue.
        pub mod docker;
        /// ○ ToolHive's permission profile and RunConfig.
        pub mod toolhive;
        /// ○ The settings of srt.
        pub mod srt;
        /// ○ Which format a configuration is in.
        pub mod format;
        /// ○ A configuration as text of our own format.
        pub mod write;
        /// ○ Beginnings of configurations.
        pub mod templates;
        /// ● `npx` and `uvx` as the installed programs that they mean.
        pub mod packages;
        /// ● Configuration files into one configuration, or every mistake in them.
        pub mod read;
    }
    /// ● One command in a sandbox while it runs: input, output, end.
    pub mod errands;
    /// ● Sandboxes that stay: made, entered by commands, stopped, removed.
    pub mod boxes;
    /// ● Files of a sandbox that stays: read, written, listed, copied, from within.
    pub mod box_files;
    /// ● The settings of srt as the policy of one run.
    pub mod srt;
    /// ○ What a host can do, judged from facts: what follows, and the line that fixes it.
    pub mod doctor;
    /// ● Tries what a container needs, each time in a child process.
    pub mod trials;
    /// ● Reads and tries what this host can do.
    pub mod facts;
    /// ○ What a transaction of files has gathered and not yet made.
    pub mod pending;
    /// ● A workspace: its roots, its journal, what is read there.
    pub mod workspaces;
    /// ● Checks of new texts before anything is written.
    pub mod checks;
    /// ● Files on their way to a new content, of one call or of a transaction.
    pub mod drafts;
    /// ● Write, edit, patch, move, copy, delete; undo and history; transactions.
    pub mod changes;
    /// ● What is asked of a workspace without changing it: search, symbols, maps, suggestions.
    pub mod finding;
    /// ● Snapshots of a workspace, what changed since a moment, and the way back.
    pub mod moments;
    /// ● The audit read back: what was done, and whether the record is whole.
    pub mod trail;
    /// ○ How a gateway and its servers stand, for people and for Prometheus.
    pub mod status;
    /// ● What MCP servers write to standard error: bounded files.
    pub mod server_log;
    /// ● The gateways that run: found, asked, and swept away when killed.
    pub mod running;
    /// ○ What an MCP server offers, byte for byte, and what makes two offers different.
    pub mod offer;
    /// ● What MCP servers offered when they last answered, and what of it was accepted.
    pub mod catalogue;
}

// ── surfaces: know engine, ground and pure types only ───────────────────────────────────────────

/// The Model Context Protocol: our own servers, and the gateway in front of others.
pub mod mcp {
    /// ○ JSON-RPC messages as text: looked into by pieces, changed by splicing.
    pub mod message;
    /// ○ The two eras of the protocol, and every translation between them.
    pub mod era;
    /// ○ The names that clients see.
    pub mod names;
    /// ● What joins the gateway to one server: a queue each way.
    pub mod link;
    /// ● What joins a front to the hub: conversations.
    pub mod session;
    /// ● Messages on pipes: one on each line, with a limit.
    pub mod lines;
    /// ● A server as a process of ours on plain pipes.
    pub mod process;
    /// ● The front on standard input and output.
    pub mod stdio;
    /// ● What the hub knows: servers, instances, clients, requests under way.
    pub mod state;
    /// ● The life of a server behind the hub.
    pub mod instances;
    /// ● What clients are shown of all servers.
    pub mod lists;
    /// ● What servers ask clients.
    pub mod questions;
    /// ● What servers say.
    pub mod answers;
    /// ● Who wants to hear of changes.
    pub mod subscriptions;
    /// ● What clients tell besides requests, and the end of a client.
    pub mod clients;
    /// ● What clients say.
    pub mod calls;
    /// ● One task that takes notice of everything, and of the clock.
    pub mod hub;
    /// Streamable HTTP: the gateway's own front, and servers that are reached by it.
    pub mod http {
        /// ○ Where the front listens.
        pub mod address;
        /// ○ Headers: who asks, what is accepted, which session.
        pub mod headers;
        /// ○ What of a request stands in its headers too, and whether both say the same.
        pub mod mirror;
        /// ○ What HTTP must know of a message: what it is, and which revision it speaks.
        pub mod envelope;
        /// ○ Server-sent events, written and read.
        pub mod sse;
        /// ● Connections with a deadline for who takes nothing.
        pub mod patience;
        /// ● The token that a client shows.
        pub mod token;
        /// ● One stream to a client, which can be resumed.
        pub mod stream;
        /// ● Sessions of the revisions that have them.
        pub mod sessions;
        /// ● The bodies of our answers.
        pub mod body;
        /// ● The revisions with sessions.
        pub mod legacy;
        /// ● The revision in which each request stands alone.
        pub mod modern;
        /// ● Who may connect, how much and for how long, and which part answers.
        pub mod front;
        /// ● The front as it was asked for: where it listens, and who must show a token.
        pub mod entry;
        /// ○ Where a server is that is reached by HTTP.
        pub mod target;
        /// ● Connections to such a server.
        pub mod wire;
        /// ● One request to it, and all that comes back.
        pub mod exchange;
        /// ● A server that is reached by HTTP, as the hub sees every server.
        pub mod upstream;
    }
    /// ● Our own MCP servers: a table of tools on standard input and output.
    pub mod toolbox;
    /// ● How the servers of this gateway stand, and the record of their calls.
    pub mod board;
    /// ● The socket by which other commands ask this gateway.
    pub mod control;
    /// ● Calls as spans for OpenTelemetry, by OTLP over HTTP.
    #[cfg(feature = "otel")]
    pub mod otel;
    /// The tools of a workspace.
    pub mod workspace {
        /// ○ How the reference server words things.
        pub mod node;
        /// ● Which tools there are, in which profile, and their schemas.
        pub mod schema;
        /// ● One call of a tool.
        pub mod call;
        /// ● The tools of the reference server.
        pub mod compat;
        /// ● MassGen's six tools.
        pub mod massgen;
        /// ● Edits and patches of many files, undo, transactions.
        pub mod editing;
        /// ● Search, symbols, maps, suggestions, status.
        pub mod finding;
        /// ● What changed since a moment, snapshots, the way back.
        pub mod moments;
        /// ● The server: which tool is which function.
        pub mod serve;
    }
    /// `mcp serve`: sandboxes for an orchestrator.
    pub mod serve {
        /// ● The tools as they are listed: names, schemas, hints.
        pub mod tools;
        /// ● What may be asked for, bounded by what the server was started with.
        pub mod ceiling;
        /// ● The output of one command, read from a cursor.
        pub mod log;
        /// ● The commands of one sandbox: followed, kept, ended.
        pub mod jobs;
        /// ● The sandboxes of one server, by name.
        pub mod fleet;
        /// ● What each sandbox tool does.
        pub mod calls;
        /// ● What each image tool does.
        pub mod image_calls;
        /// ● The server: tools joined to what they do.
        pub mod server;
    }
    /// ● What the hub has outside: servers, logs, the catalogue, the board.
    pub mod outside;
    /// ● `mcp gateway`: the hub, its outside and one front.
    pub mod gateway;
}

/// The command line.
pub mod cli {
    /// ○ What may be typed behind `workspace`, but for `serve`.
    pub mod workspace_args;
    /// ○ What may be typed, nothing else.
    pub mod args;
    /// ● Tables, JSON, errors, exit codes, raw mode.
    pub mod terminal;
    /// Go templates, as `--format` takes them.
    pub mod template {
        /// ○ The text of a template into tokens.
        pub mod lex;
        /// ○ Tokens into a tree, and why a template is none.
        pub mod parse;
        /// ○ What a template computes with.
        pub mod value;
        /// ○ `print`, `println`, `printf`.
        pub mod printf;
        /// ○ The functions of Go and of Docker.
        pub mod functions;
        /// ○ A template and a value into text, within ceilings.
        pub mod render;
        /// ○ `--format`: rows by a template, by a table or as JSON.
        pub mod rows;
    }
    /// ○ Sizes and ages as Docker prints them.
    pub mod units;
    /// ● Layers on their way: bars on a terminal, lines elsewhere.
    pub mod progress;
    /// ● `pull`, `push`, `login`, `logout`, `search`.
    pub mod registries;
    /// ● `run`.
    pub mod containers;
    /// ● What is done with images.
    pub mod images;
    /// ● `load`, `save`.
    pub mod archives;
    /// ● `mcp run`.
    pub mod mcp;
    /// ● `mcp import`, `mcp init`.
    pub mod mcp_config;
    /// ● The program as `srt`.
    pub mod srt;
    /// ● `mcp ps`, `mcp logs`, `mcp inspect`, `mcp stop`, `mcp start`, `mcp metrics`.
    pub mod running;
    /// ● `mcp diff`, `mcp accept`.
    pub mod catalogue;
    /// ● `audit show`, `audit verify`.
    pub mod audit;
    /// ● `workspace status`, `search`, `outline`, `map`, `history`, `undo`.
    pub mod workspace;
    /// ● `doctor`, `version`, `system`.
    pub mod system;
}
