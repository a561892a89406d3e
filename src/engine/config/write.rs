//! Pure: a configuration as text of our own format.
//!
//! What is a default is not written. It reads back to what it was; a test holds that for every format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::container::options::Network;
use crate::engine::config::own::VERSION;
use crate::engine::config::servers::{
    GatewayConfig, GatewaySettings, Prefix, RESTARTS_DEFAULT, Restart, ServerConfig, ServerPolicy, Start,
    Timeouts, Transport,
};

/// The text of a configuration; `policies` without a server become `[defaults]`.
pub fn text(config: &GatewayConfig, policies: &[ServerPolicy]) -> String {
    let mut text = format!("version = {VERSION}\n");
    gateway(&mut text, &config.gateway);
    for policy in policies {
        text.push_str("\n[defaults]\n");
        policy_lines(&mut text, policy);
    }
    for server in &config.servers {
        server_lines(&mut text, server);
    }
    text
}

fn gateway(text: &mut String, settings: &GatewaySettings) {
    let usual = GatewaySettings::default();
    if *settings == usual {
        return;
    }
    text.push_str("\n[gateway]\n");
    if settings.name != usual.name {
        line(text, "name", &quoted(&settings.name));
    }
    let numbers = [
        ("message_max", settings.message_bytes_max, usual.message_bytes_max, true),
        ("log_max", settings.log_bytes_max, usual.log_bytes_max, true),
        ("calls_max", settings.calls_max.into(), usual.calls_max.into(), false),
        ("running_max", settings.running_max.into(), usual.running_max.into(), false),
        ("tool_name_max", settings.tool_name_bytes_max as u64, usual.tool_name_bytes_max as u64, false),
    ];
    for (name, value, usual, is_size) in numbers {
        if value != usual {
            line(text, name, &if is_size { quoted(&value.to_string()) } else { value.to_string() });
        }
    }
    if settings.audit != usual.audit {
        line(text, "audit", &settings.audit.to_string());
    }
}

fn server_lines(text: &mut String, server: &ServerConfig) {
    let name = key(&server.name);
    _ = writeln!(text, "\n[servers.{name}]");
    match &server.transport {
        Transport::Stdio { command, args, cwd } => {
            line(text, "command", &quoted(command));
            list(text, "args", args);
            optional_path(text, "cwd", cwd.as_deref());
        }
        Transport::Image { image, command, cwd } => {
            line(text, "image", &quoted(image));
            list(text, "args", command);
            optional_path(text, "cwd", cwd.as_deref());
        }
        Transport::Http { url, headers } => {
            line(text, "url", &quoted(url));
            table(text, "headers", headers.iter().map(|(name, value)| (name, value)));
        }
    }
    policy_lines(text, &server.policy);
    life(text, server);
    tools(text, server, &name);
    timeouts(text, &server.timeouts, &name);
}

fn policy_lines(text: &mut String, policy: &ServerPolicy) {
    let folder = |(path, read_only): &(std::path::PathBuf, bool)| {
        format!("{}{}", path.display(), if *read_only { ":ro" } else { "" })
    };
    let shown =
        |paths: &[std::path::PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
    list(text, "workspace", &policy.workspaces.iter().map(folder).collect::<Vec<_>>());
    list(text, "ro", &shown(&policy.read_only));
    list(text, "rw", &shown(&policy.read_write));
    list(text, "hide", &shown(&policy.hidden));
    if policy.network == Network::Host {
        line(text, "network", "\"host\"");
    }
    for (name, value) in [("memory", &policy.memory), ("cpus", &policy.cpus)] {
        value.iter().for_each(|value| line(text, name, &quoted(value)));
    }
    policy.pids.iter().for_each(|pids| line(text, "pids", &pids.to_string()));
    optional_path(text, "seccomp", policy.seccomp.as_deref());
    table(text, "env", policy.environment.iter());
}

fn life(text: &mut String, server: &ServerConfig) {
    let usual = ServerConfig::new("", server.source_place.clone(), server.transport.clone());
    if server.start == Start::Eager {
        line(text, "start", "\"eager\"");
    }
    match server.restart {
        Restart::Never => line(text, "restart", "\"never\""),
        Restart::OnFailure { attempts_max } if attempts_max != RESTARTS_DEFAULT => {
            line(text, "restarts", &attempts_max.to_string());
        }
        Restart::OnFailure { .. } => {}
    }
    if server.warm != usual.warm {
        line(text, "warm", &server.warm.to_string());
    }
    if server.pin {
        line(text, "pin", "true");
    }
    server.idle_stop_ms.iter().for_each(|ms| line(text, "idle_stop", &quoted(&format!("{ms}ms"))));
    if server.calls_max != usual.calls_max {
        line(text, "calls_max", &server.calls_max.to_string());
    }
    match &server.prefix {
        Prefix::Default => {}
        Prefix::None => line(text, "prefix", "false"),
        Prefix::Text(prefix) => line(text, "prefix", &quoted(prefix)),
    }
}

fn tools(text: &mut String, server: &ServerConfig, name: &str) {
    let rules = &server.tools;
    if rules.allow.is_none() && rules.deny.is_empty() && rules.rename.is_empty() {
        return;
    }
    _ = writeln!(text, "\n[servers.{name}.tools]");
    if let Some(allow) = &rules.allow {
        line(text, "allow", &items(allow));
    }
    list(text, "deny", &rules.deny);
    table(text, "rename", rules.rename.iter());
}

fn timeouts(text: &mut String, times: &Timeouts, name: &str) {
    let usual = Timeouts::default();
    if *times == usual {
        return;
    }
    _ = writeln!(text, "\n[servers.{name}.timeouts]");
    let pairs = [
        ("start", times.start_ms, usual.start_ms),
        ("call", times.call_ms, usual.call_ms),
        ("ping", times.ping_ms, usual.ping_ms),
        ("stop", times.stop_ms, usual.stop_ms),
    ];
    for (name, ms, usual) in pairs {
        if ms != usual {
            line(text, name, &quoted(&format!("{ms}ms")));
        }
    }
    match times.ping_every_ms {
        every if every == usual.ping_every_ms => {}
        None => line(text, "ping_every", "false"),
        Some(ms) => line(text, "ping_every", &quoted(&format!("{ms}ms"))),
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    _ = writeln!(text, "{name} = {value}");
}

fn optional_path(text: &mut String, name: &str, path: Option<&Path>) {
    path.iter().for_each(|path| line(text, name, &quoted(&path.display().to_string())));
}

fn items(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", "))
}

fn list(text: &mut String, name: &str, values: &[String]) {
    if !values.is_empty() {
        line(text, name, &items(values));
    }
}

fn table<'t>(text: &mut String, name: &str, pairs: impl Iterator<Item = (&'t String, &'t String)>) {
    let pairs: BTreeMap<_, _> = pairs.collect();
    if !pairs.is_empty() {
        let pair = |(name, value): (&&String, &&String)| format!("{} = {}", key(name), quoted(value));
        line(text, name, &format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", ")));
    }
}

fn key(name: &str) -> String {
    let bare =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
