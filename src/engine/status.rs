//! Pure: how a gateway and its servers stand, as it says so to `cuddy mcp ps`, and as Prometheus reads it.
//!
//! Names and reasons come from configurations and servers: whoever prints them makes them harmless first.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of what a gateway says of itself.
pub const VERSION: u32 = 1;

/// Upper ends of the classes of durations, in microseconds; one more class has no end.
pub const CLASSES_US: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How far a server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It stands in the configuration; nothing is known of it.
    #[default]
    Configured,
    /// What it offers is known from an earlier start; it does not run.
    Catalogued,
    /// It was started and has not answered yet.
    Starting,
    /// It answers.
    Started,
    /// It could not be started, or ended; it is tried again.
    Failed,
    /// It was stopped, by a person or because nobody used it.
    Stopped,
    /// It failed so often that it is not tried again.
    GivenUp,
}

impl State {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Configured,
        Self::Catalogued,
        Self::Starting,
        Self::Started,
        Self::Failed,
        Self::Stopped,
        Self::GivenUp,
    ];

    /// The word for people and for Prometheus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::Catalogued => "catalogued",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::GivenUp => "given_up",
        }
    }
}

/// How many calls took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    /// Calls in each class of [`CLASSES_US`], and behind them those that took longer.
    pub classes: Vec<u64>,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// One more.
    pub fn add(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let class = CLASSES_US.partition_point(|end| *end < us);
        self.classes.resize(CLASSES_US.len() + 1, 0);
        self.classes[class] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

/// One server of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached: `command`, `image`, `http`.
    pub transport: String,
    /// The digest of its policy.
    pub policy: String,
    /// How far it is.
    pub state: State,
    /// Why, when it is not as it should be.
    #[serde(default)]
    pub reason: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Processes that hold its sandboxes.
    #[serde(default)]
    pub pids: Vec<u32>,
    /// What they take together, in bytes, where a cgroup tells.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// How often it was started anew after a failure.
    pub restarts: u64,
    /// How many tools it offers, when that is known.
    #[serde(default)]
    pub tools: Option<u64>,
    /// Calls that are under way.
    pub in_flight: u64,
    /// Calls that ended, by how.
    pub calls: BTreeMap<String, u64>,
    /// How long they took.
    pub durations: Durations,
    /// Bytes of requests and notifications to it.
    pub bytes_in: u64,
    /// Bytes of answers and notifications from it.
    pub bytes_out: u64,
    /// The last thing that went wrong.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// Outcomes that are no failure.
const GOOD: &[&str] = &["done", "cancelled"];

impl ServerStatus {
    /// Calls that ended, however.
    pub fn calls_ended(&self) -> u64 {
        self.calls.values().sum()
    }

    /// Those that went wrong.
    pub fn errors(&self) -> u64 {
        self.calls.iter().filter(|(outcome, _)| !GOOD.contains(&outcome.as_str())).map(|(_, n)| n).sum()
    }
}

/// A gateway and its servers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The format.
    pub version: u32,
    /// The gateway's id.
    pub id: String,
    /// Its process.
    pub pid: u32,
    /// What it is: `gateway`.
    pub kind: String,
    /// Files of its configuration.
    pub configs: Vec<String>,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
    /// What its client calls itself; the last one that came.
    #[serde(default)]
    pub client: Option<String>,
    /// Calls that are in no record, because it could not be written.
    #[serde(default)]
    pub audit_lost: u64,
    /// Its servers, by name.
    pub servers: Vec<ServerStatus>,
}

/// Text for Prometheus (text format 0.0.4) of all these gateways.
pub fn prometheus(gateways: &[Snapshot]) -> String {
    let mut text = String::new();
    gateway_metrics(&mut text, gateways);
    let servers: Vec<(&Snapshot, &ServerStatus)> = gateways
        .iter()
        .flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)))
        .collect();
    call_metrics(&mut text, &servers);
    let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(&ServerStatus) -> Option<u64>| {
        head(&mut text, name, kind, help);
        for (gateway, server) in &servers {
            if let Some(value) = value(server) {
                sample(&mut text, name, &labels(gateway, server), value);
            }
        }
    };
    family("cuddy_mcp_calls_in_flight", "gauge", "Calls that are under way.", &|s| Some(s.in_flight));
    family("cuddy_mcp_received_bytes_total", "counter", "Bytes of requests.", &|s| Some(s.bytes_in));
    family("cuddy_mcp_sent_bytes_total", "counter", "Bytes of answers.", &|s| Some(s.bytes_out));
    family("cuddy_mcp_restarts_total", "counter", "Starts after a failure.", &|s| Some(s.restarts));
    family("cuddy_mcp_server_memory_bytes", "gauge", "Memory of the sandboxes.", &|s| s.memory_bytes);
    family("cuddy_mcp_server_tools", "gauge", "Tools that the server offers.", &|s| s.tools);
    head(&mut text, "cuddy_mcp_server_state", "gauge", "1 for the state that the server is in.");
    for (gateway, server) in &servers {
        for state in State::ALL {
            let labels = format!("{},state=\"{}\"", labels(gateway, server), state.word());
            sample(&mut text, "cuddy_mcp_server_state", &labels, u64::from(server.state == state));
        }
    }
    text
}

fn gateway_metrics(text: &mut String, gateways: &[Snapshot]) {
    head(text, "cuddy_mcp_gateway_start_time_seconds", "gauge", "When the gateway was started, since 1970.");
    for gateway in gateways {
        let labels = format!("gateway=\"{}\",pid=\"{}\"", escaped(&gateway.id), gateway.pid);
        sample(text, "cuddy_mcp_gateway_start_time_seconds", &labels, gateway.started_ms / 1000);
    }
    head(
        text,
        "cuddy_mcp_audit_lost_total",
        "counter",
        "Calls whose line of the audit could not be written.",
    );
    for gateway in gateways {
        let labels = format!("gateway=\"{}\"", escaped(&gateway.id));
        sample(text, "cuddy_mcp_audit_lost_total", &labels, gateway.audit_lost);
    }
}

fn call_metrics(text: &mut String, servers: &[(&Snapshot, &ServerStatus)]) {
    head(text, "cuddy_mcp_calls_total", "counter", "Calls that ended, by how.");
    for (gateway, server) in servers {
        for (outcome, count) in &server.calls {
            let labels = format!("{},outcome=\"{}\"", labels(gateway, server), escaped(outcome));
            sample(text, "cuddy_mcp_calls_total", &labels, count);
        }
    }
    let name = "cuddy_mcp_call_duration_seconds";
    head(text, name, "histogram", "From the request of a client to its answer.");
    for (gateway, server) in servers {
        let labels = labels(gateway, server);
        let mut so_far = 0;
        for (at, count) in server.durations.classes.iter().enumerate() {
            so_far += count;
            let end = CLASSES_US.get(at).map_or("+Inf".to_owned(), |us| seconds(*us));
            sample(text, &format!("{name}_bucket"), &format!("{labels},le=\"{end}\""), so_far);
        }
        if so_far > 0 {
            sample(text, &format!("{name}_sum"), &labels, seconds(server.durations.sum_us));
            sample(text, &format!("{name}_count"), &labels, so_far);
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    // Writing into text cannot fail.
    let _written = writeln!(text, "{name}{{{labels}}} {value}");
}

fn labels(gateway: &Snapshot, server: &ServerStatus) -> String {
    format!("gateway=\"{}\",server=\"{}\"", escaped(&gateway.id), escaped(&server.name))
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Microseconds as seconds, without zeros at the end.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut server = ServerStatus {
            name: "a\"b\\c\nd".to_owned(),
            state: State::Started,
            in_flight: 2,
            calls: BTreeMap::from([("done".to_owned(), 3), ("error".to_owned(), 1)]),
            memory_bytes: Some(4096),
            ..ServerStatus::default()
        };
        for us in [10, 500, 501, 70_000_000] {
            server.durations.add(Duration::from_micros(us));
        }
        Snapshot { id: "1f".to_owned(), pid: 7, servers: vec![server], ..Snapshot::default() }
    }

    #[test]
    fn prometheus_reads_what_is_written() {
        let text = prometheus(&[snapshot()]);
        let labels = r#"gateway="1f",server="a\"b\\c\nd""#;
        for line in [
            format!("cuddy_mcp_calls_total{{{labels},outcome=\"done\"}} 3"),
            format!("cuddy_mcp_call_duration_seconds_bucket{{{labels},le=\"0.0005\"}} 2"),
            format!("cuddy_mcp_call_duration_seconds_bucket{{{labels},le=\"0.001\"}} 3"),
            format!("cuddy_mcp_call_duration_seconds_bucket{{{labels},le=\"60\"}} 3"),
            format!("cuddy_mcp_call_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4"),
            format!("cuddy_mcp_call_duration_seconds_sum{{{labels}}} 70.001011"),
            format!("cuddy_mcp_call_duration_seconds_count{{{labels}}} 4"),
            format!("cuddy_mcp_server_state{{{labels},state=\"started\"}} 1"),
            format!("cuddy_mcp_server_state{{{labels},state=\"failed\"}} 0"),
            format!("cuddy_mcp_server_memory_bytes{{{labels}}} 4096"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn each_metric_is_described_once_however_many_gateways_there_are() {
        let text = prometheus(&[snapshot(), snapshot()]);
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let mut single = names.clone();
        single.dedup();
        assert_eq!(names, single);
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn what_went_wrong_is_counted_apart() {
        let server = &snapshot().servers[0];
        assert_eq!((server.calls_ended(), server.errors()), (4, 1));
    }
}
