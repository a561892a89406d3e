//! Pure: commands that start a server in something of their own (`docker run`, `cuddy mcp run`) as the image and policy
//! that they mean.
//!
//! Where that is not exact it is a mistake, or it is narrower and said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::limits;
use crate::container::options::Network;
use crate::engine::config::document::{Node, shown};
use crate::engine::config::servers::{ServerConfig, Transport};
use crate::engine::config::table::Table;

/// Flags of `docker run` that take a value and change nothing that a sandbox has.
const IDLE_WITH_VALUE: [&str; 6] =
    ["--name", "--pull", "--label", "--hostname", "--log-driver", "--stop-timeout"];
/// Flags of `docker run` without a value that a sandbox has anyway, or that change nothing in it.
const IDLE: [&str; 9] = [
    "-i",
    "--interactive",
    "--rm",
    "--init",
    "-q",
    "--quiet",
    "--read-only",
    "--no-healthcheck",
    "--sig-proxy",
];
/// Flags of `docker run` that would give more than a sandbox has.
const WIDER: [&str; 7] =
    ["--privileged", "--cap-add", "--device", "--security-opt", "--pid", "--ipc", "--userns"];

/// What a launcher says, flag by flag.
struct Line<'t, 'r, 'd> {
    table: &'t Table<'r, 'd>,
    node: &'d Node,
    words: std::vec::IntoIter<String>,
}

/// Replaces a launcher that is known by what it means; `false` when there is none. `given` are the launcher's own
/// variables: of them the server gets those that its line names.
pub fn translate(table: &Table<'_, '_>, server: &mut ServerConfig, given: &BTreeMap<String, String>) -> bool {
    let Transport::Stdio { command, args, cwd } = &server.transport else { return false };
    let program = Path::new(command).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let starts = |words: &[&str]| args.iter().map(String::as_str).take(words.len()).eq(words.iter().copied());
    let (skip, is_docker) = match program {
        "docker" | "podman" if starts(&["run"]) => (1, true),
        "docker" | "podman" if starts(&["container", "run"]) => (2, true),
        "cuddy" if starts(&["mcp", "run"]) => (2, false),
        "cuddy" if starts(&["mcp", "gateway"]) => {
            table.reader.mistake(
                table.node,
                "a gateway in a gateway",
                "read its own configuration too: `--config`",
            );
            return true;
        }
        _ => return false,
    };
    let words = args.iter().skip(skip).cloned().collect::<Vec<_>>().into_iter();
    let node = table.node("args").unwrap_or(table.node);
    let cwd = cwd.clone();
    let mut line = Line { table, node, words };
    let transport = if is_docker { line.docker(server, given) } else { line.cuddy(server, given, cwd) };
    if let Some(transport) = transport {
        server.transport = transport;
    }
    true
}

impl Line<'_, '_, '_> {
    fn mistake(&self, what: impl Into<String>, right: impl Into<String>) {
        self.table.reader.mistake(self.node, what, right);
    }

    fn remark(&self, what: impl Into<String>) {
        self.table.reader.remark(self.node, what);
    }

    fn value(&mut self, flag: &str, joined: Option<String>) -> Option<String> {
        let value = joined.or_else(|| self.words.next());
        if value.is_none() {
            self.mistake(format!("`{flag}` without its value"), "write the value");
        }
        value
    }

    /// `docker run [FLAGS] IMAGE [ARGUMENTS]`.
    fn docker(&mut self, server: &mut ServerConfig, given: &BTreeMap<String, String>) -> Option<Transport> {
        let (mut network, mut cwd) = (None, None);
        let image = loop {
            let Some(word) = self.words.next() else {
                self.mistake("`docker run` without an image", "name the image");
                return None;
            };
            if !word.starts_with('-') {
                break word;
            }
            let (flag, joined) = split(&word);
            match flag.as_str() {
                flag if IDLE.contains(&flag) || flag == "-" => {}
                "-it" | "-ti" | "-t" | "--tty" => self.remark("a server has no terminal: `-t` has no effect"),
                "-d" | "--detach" => self.remark("a server is spoken to over pipes: `-d` has no effect"),
                "-e" | "--env" => {
                    let value = self.value(&flag, joined)?;
                    self.variable(server, given, &value);
                }
                "-v" | "--volume" | "--mount" => {
                    let value = self.value(&flag, joined)?;
                    self.mount(server, &flag, &value);
                }
                "--network" | "--net" => network = Some(self.value(&flag, joined)?),
                "-m" | "--memory" => server.policy.memory = Some(self.size(&flag, joined)?),
                "--cpus" => server.policy.cpus = Some(self.number(&flag, joined)?),
                "--pids-limit" => server.policy.pids = self.number(&flag, joined)?.parse().ok(),
                "-w" | "--workdir" => cwd = Some(PathBuf::from(self.value(&flag, joined)?)),
                "-u" | "--user" => {
                    _ = self.value(&flag, joined)?;
                    self.remark("a server runs as the caller: `--user` has no effect");
                }
                "-p" | "--publish" => {
                    _ = self.value(&flag, joined)?;
                    self.remark("a server is spoken to over pipes: `--publish` has no effect");
                }
                "--cap-drop" | "--add-host" | "--dns" | "--tmpfs" | "--shm-size" | "--ulimit" => {
                    let value = self.value(&flag, joined)?;
                    if flag != "--cap-drop" {
                        let what = format!("`{flag} {}` has no effect in a sandbox", shown(&value));
                        self.remark(what);
                    }
                }
                flag if IDLE_WITH_VALUE.contains(&flag) || flag == "-l" || flag == "-h" => {
                    _ = self.value(flag, joined)?;
                }
                flag if WIDER.contains(&flag) => {
                    if flag != "--privileged" {
                        _ = self.value(flag, joined)?;
                    }
                    self.remark(format!("a sandbox has no capability and no device: `{flag}` has no effect"));
                }
                flag => {
                    self.mistake(
                        format!("`{}` of `docker run` is not understood here", shown(flag)),
                        "say the same in our words: a server with `image = …`",
                    );
                    return None;
                }
            }
        };
        self.docker_network(server, network.as_deref());
        Some(Transport::Image { image, command: self.words.by_ref().collect(), cwd })
    }

    fn docker_network(&self, server: &mut ServerConfig, network: Option<&str>) {
        match network {
            Some("none") => server.policy.network = Network::None,
            Some("host") => server.policy.network = Network::Host,
            _ if server.policy.network == Network::Host => {}
            other => {
                let name = other.unwrap_or("bridge");
                self.remark(format!(
                    "it would have the network `{}`; here it gets none, unless \
                     `\"cuddy\": {{\"network\": \"host\"}}` is said",
                    shown(name)
                ));
            }
        }
    }

    /// `mcp run [FLAGS] -- COMMAND…`.
    fn cuddy(
        &mut self,
        server: &mut ServerConfig,
        given: &BTreeMap<String, String>,
        cwd: Option<PathBuf>,
    ) -> Option<Transport> {
        let mut image = None;
        while let Some(word) = self.words.next() {
            if word == "--" {
                break;
            }
            let (flag, joined) = split(&word);
            let value = self.value(&flag, joined)?;
            let path = || self.table.reader.path_of(self.node, &value);
            match flag.as_str() {
                "--workspace" => {
                    let text = value.strip_suffix(":ro");
                    let folder = self.table.reader.path_of(self.node, text.unwrap_or(&value))?;
                    server.policy.workspaces.push((folder, text.is_some()));
                }
                "--ro" => server.policy.read_only.push(path()?),
                "--rw" => server.policy.read_write.push(path()?),
                "--hide" => server.policy.hidden.push(path()?),
                "--seccomp" => server.policy.seccomp = Some(path()?),
                "--env" => self.variable(server, given, &value),
                "--network" if value == "none" => server.policy.network = Network::None,
                "--network" if value == "host" => server.policy.network = Network::Host,
                "--memory" => server.policy.memory = Some(self.size(&flag, Some(value))?),
                "--cpus" => server.policy.cpus = Some(self.number(&flag, Some(value))?),
                "--pids" => server.policy.pids = self.number(&flag, Some(value))?.parse().ok(),
                "--image" => image = Some(value),
                _ => {
                    let what = format!("`{}` of `cuddy mcp run` is not understood here", shown(&word));
                    self.mistake(what, "remove it, or correct it");
                    return None;
                }
            }
        }
        let mut command: Vec<String> = self.words.by_ref().collect();
        if let Some(image) = image {
            return Some(Transport::Image { image, command, cwd });
        }
        if command.is_empty() {
            self.mistake("`cuddy mcp run` without a command", "write it behind `--`");
            return None;
        }
        Some(Transport::Stdio { command: command.remove(0), args: command, cwd })
    }

    fn variable(&self, server: &mut ServerConfig, given: &BTreeMap<String, String>, text: &str) {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => {
                (text, given.get(text).cloned().or_else(|| self.table.reader.surroundings.variable(text)))
            }
        };
        match value {
            _ if name.is_empty() => self.mistake("a variable without a name", "write `NAME=VALUE` or `NAME`"),
            Some(value) => _ = server.policy.environment.insert(name.to_owned(), value),
            None => self.mistake(
                format!("the variable `{}` is not set", shown(name)),
                "set it under `env`, or where cuddy is started",
            ),
        }
    }

    fn size(&mut self, flag: &str, joined: Option<String>) -> Option<String> {
        let value = self.value(flag, joined)?;
        if limits::size_bytes(&value).is_ok_and(|bytes| bytes > 0) {
            return Some(value);
        }
        self.mistake(format!("`{}` is no size", shown(&value)), "write it like `512m`");
        None
    }

    fn number(&mut self, flag: &str, joined: Option<String>) -> Option<String> {
        let value = self.value(flag, joined)?;
        let whole = flag.contains("pids");
        let good = value.parse::<f64>().is_ok_and(|n| n > 0.0 && n <= 4_000_000.0);
        if good && (!whole || value.parse::<u64>().is_ok()) {
            return Some(value);
        }
        self.mistake(format!("`{}` is no value of `{flag}`", shown(&value)), "write a number above 0");
        None
    }

    /// `-v A:B[:ro]` or `--mount type=bind,src=A,dst=B[,readonly]`.
    fn mount(&self, server: &mut ServerConfig, flag: &str, value: &str) {
        let (source, target, read_only) = if flag == "--mount" {
            let field = |names: &[&str]| {
                value.split(',').find_map(|part| {
                    let (name, text) = part.split_once('=').unwrap_or((part, "true"));
                    names.contains(&name).then_some(text)
                })
            };
            if field(&["type"]).is_some_and(|kind| kind != "bind") {
                return self
                    .mistake(format!("`{}` is no bind mount", shown(value)), "mount a folder of the host");
            }
            (
                field(&["src", "source"]).unwrap_or_default(),
                field(&["dst", "target", "destination"]).unwrap_or_default(),
                field(&["ro", "readonly"]).is_some_and(|text| text != "false"),
            )
        } else {
            let mut parts = value.splitn(3, ':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            (source, target, parts.next().is_some_and(|options| options.split(',').any(|o| o == "ro")))
        };
        bind(self.table, self.node, server, source, target, read_only);
    }
}

/// A folder of the host at a path of the container: exact only where both are the same.
pub fn bind(
    table: &Table<'_, '_>,
    node: &Node,
    server: &mut ServerConfig,
    source: &str,
    target: &str,
    read_only: bool,
) {
    let reader = table.reader;
    if !source.starts_with(['/', '~', '.']) {
        let right = "name a folder of the host, the same inside and outside";
        return reader.mistake(
            node,
            format!("`{}` is a volume, and sandboxes have none", shown(source)),
            right,
        );
    }
    let Some(path) = reader.path_of(node, source) else { return };
    if Path::new(target) != path {
        let (from, to) = (path.display(), shown(target));
        let what = format!("`{from}` would be seen as `{to}`, and a sandbox shows folders at their own path");
        let right = format!("mount `{from}:{from}`, and name that path in the arguments");
        return reader.mistake(node, what, right);
    }
    if read_only { server.policy.read_only.push(path) } else { server.policy.read_write.push(path) }
}

/// `--flag=value` in its two parts.
fn split(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
        _ => (word.to_owned(), None),
    }
}
