//! Calls as spans for OpenTelemetry: OTLP over HTTP with JSON, to a collector on this machine.
//!
//! It is off unless `OTEL_EXPORTER_OTLP_ENDPOINT` names one. A call never waits for it: spans stand in a bounded
//! queue, and what does not fit is lost and counted. It holds what the audit holds: names, never arguments.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::audit::CallOutcome;
use crate::error::{Error, ErrorKind};
use crate::mcp::board::{Board, Ended, Tell};
use crate::sys::fs;

/// Spans that wait.
const QUEUE_MAX: usize = 4096;
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest name in a span, in characters.
const NAME_CHARS_MAX: usize = 256;
/// Where collectors listen for OTLP over HTTP.
const PORT_DEFAULT: u16 = 4318;

/// One call.
#[derive(Debug)]
struct Span {
    server: String,
    method: String,
    tool: String,
    outcome: CallOutcome,
    bytes: (u64, u64),
    parent: Option<Parent>,
    ended: SystemTime,
    duration: Duration,
}

/// The client's span, by W3C's `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parent {
    trace: String,
    span: String,
    is_sampled: bool,
}

impl Span {
    /// Of a call that ends now.
    fn of(call: &Ended<'_>) -> Self {
        let cut = |text: &str| text.chars().take(NAME_CHARS_MAX).collect();
        Self {
            server: cut(call.server),
            method: cut(call.method),
            tool: cut(call.tool),
            outcome: call.outcome,
            bytes: (call.bytes_in, call.bytes_out),
            parent: call.traceparent.and_then(parent),
            ended: SystemTime::now(),
            duration: call.duration,
        }
    }

    fn json(&self, ids: &[u8; 24]) -> Value {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let nanos = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let number = |key: &str, value: u64| json!({"key": key, "value": {"intValue": value.to_string()}});
        let mut attributes = vec![
            text("mcp.method.name", &self.method),
            text("cuddy.mcp.server", &self.server),
            text("cuddy.mcp.outcome", self.outcome.word()),
            number("cuddy.mcp.request.bytes", self.bytes.0),
            number("cuddy.mcp.response.bytes", self.bytes.1),
        ];
        if self.method == "tools/call" {
            attributes.push(text("gen_ai.tool.name", &self.tool));
        }
        if let CallOutcome::Error(code) = self.outcome {
            attributes.push(text("rpc.response.status_code", &code.to_string()));
        }
        let is_good = matches!(self.outcome, CallOutcome::Done | CallOutcome::Cancelled);
        let mut span = json!({
            "traceId": self.parent.as_ref().map_or_else(|| hex(&ids[..16]), |parent| parent.trace.clone()),
            "spanId": hex(&ids[16..]),
            "name": format!("{} {}", self.method, self.tool),
            "kind": 2,
            "startTimeUnixNano": nanos(self.ended.checked_sub(self.duration).unwrap_or(self.ended)),
            "endTimeUnixNano": nanos(self.ended),
            "attributes": attributes,
            "status": { "code": if is_good { 0 } else { 2 } },
        });
        if let Some(parent) = &self.parent {
            span["parentSpanId"] = json!(parent.span);
        }
        span
    }
}

/// `00-TRACE-SPAN-FLAGS`, all hexadecimal and neither id zero.
fn parent(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let mut part = |length: usize| {
        let part = parts.next()?;
        let is_hex = part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        (is_hex && part.len() == length).then_some(part)
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_zero = |text: &str| text.bytes().all(|b| b == b'0');
    if version == "ff" || is_zero(trace) || is_zero(span) || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some(Parent { trace: trace.to_owned(), span: span.to_owned(), is_sampled })
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Collector {
    address: SocketAddr,
    authority: String,
    path: String,
}

/// Sends the calls of this board to the collector that the environment names, if any.
///
/// # Errors
/// The address is none that cuddy sends to.
pub fn attach(board: &Board, environment: &BTreeMap<String, String>) -> Result<(), Error> {
    if let Some(exporter) = Exporter::from_environment(environment, board.tell())? {
        board.observe(Box::new(move |call| exporter.export(Span::of(call))));
    }
    Ok(())
}

/// Takes spans and sends them, sometime.
struct Exporter {
    collector: Collector,
    /// Made with the first span: only then there surely is a runtime.
    queue: OnceLock<mpsc::Sender<Span>>,
    lost: Arc<AtomicU64>,
    tell: Tell,
}

impl Exporter {
    /// The exporter that the environment asks for; `None` when it asks for none.
    ///
    /// # Errors
    /// The address is none that cuddy sends to.
    fn from_environment(environment: &BTreeMap<String, String>, tell: Tell) -> Result<Option<Self>, Error> {
        let traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").cloned();
        let all = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT");
        let all = all.map(|all| format!("{}/v1/traces", all.trim_end_matches('/')));
        let Some(url) = traces.or(all) else { return Ok(None) };
        let collector = collector(&url)?;
        Ok(Some(Self { collector, queue: OnceLock::new(), lost: Arc::default(), tell }))
    }

    /// Takes a span, or loses it: never waits.
    fn export(&self, span: Span) {
        if span.parent.as_ref().is_some_and(|parent| !parent.is_sampled) {
            return;
        }
        let queue = self.queue.get_or_init(|| {
            let (queue, spans) = mpsc::channel(QUEUE_MAX);
            tokio::spawn(send_all(self.collector.clone(), spans, self.lost.clone(), self.tell.clone()));
            queue
        });
        if queue.try_send(span).is_err() {
            count_lost(&self.lost, 1, &self.tell, "the collector is too slow");
        }
    }
}

/// The address of a collector: `http://ADDRESS[:PORT][/PATH]`.
fn collector(url: &str) -> Result<Collector, Error> {
    let wrong = || {
        Error::new(ErrorKind::Usage, format!("`{url}` is no address that spans are sent to"))
            .hint("name a collector on this machine or by its number: `http://127.0.0.1:4318`")
            .hint("a collector elsewhere, by a name or with TLS, is reached through one on this machine")
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if authority.contains('@') || !is_plain(path) {
        return Err(wrong());
    }
    let named = authority.replace("localhost", "127.0.0.1");
    let address = named
        .parse::<SocketAddr>()
        .or_else(|_| named.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT_DEFAULT)))
        .map_err(|_unsaid| wrong())?;
    Ok(Collector { address, authority: authority.to_owned(), path: path.to_owned() })
}

async fn send_all(collector: Collector, mut spans: mpsc::Receiver<Span>, lost: Arc<AtomicU64>, tell: Tell) {
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // Others come while we wait; the end of the queue ends it.
        let more =
            async { while batch.len() < BATCH_MAX && spans.recv_many(&mut batch, BATCH_MAX).await > 0 {} };
        let _elapsed = timeout(BATCH_EVERY, more).await;
        let count = batch.len() as u64;
        let body = body(&batch);
        batch.clear();
        let sent = timeout(PATIENCE, send(&collector, body)).await;
        let why = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(why)) => why,
            Err(_elapsed) => format!("the collector does not answer within {} s", PATIENCE.as_secs()),
        };
        count_lost(&lost, count, &tell, &why);
    }
}

fn count_lost(lost: &AtomicU64, count: u64, tell: &Tell, why: &str) {
    let before = lost.fetch_add(count, Ordering::Relaxed);
    // Each time their number has doubled.
    if before == 0 || before.ilog2() < (before + count).ilog2() {
        tell(&format!("{} spans for OpenTelemetry are lost: {why}", before + count));
    }
}

fn body(spans: &[Span]) -> Vec<u8> {
    let spans = spans.iter().filter_map(|span| {
        let mut ids = [0; 24];
        fs::random_bytes(&mut ids).ok()?;
        Some(span.json(&ids))
    });
    let name = json!([{"key": "service.name", "value": {"stringValue": "cuddy"}}]);
    let scope = json!({"name": "cuddy", "version": env!("CARGO_PKG_VERSION")});
    let spans: Vec<Value> = spans.collect();
    let scoped = json!([{"scope": scope, "spans": spans}]);
    json!({"resourceSpans": [{"resource": {"attributes": name}, "scopeSpans": scoped}]})
        .to_string()
        .into_bytes()
}

async fn send(collector: &Collector, body: Vec<u8>) -> Result<(), String> {
    let text = |e: &dyn std::error::Error| e.to_string();
    let stream = TcpStream::connect(collector.address).await.map_err(|e| text(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| text(&e))?;
    let connection = tokio::spawn(connection);
    let request = Request::post(&collector.path)
        .header("host", &collector.authority)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| text(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| text(&e));
    let status = match answer {
        Ok(answer) => {
            let status = answer.status();
            let read = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            read.map_err(|e| e.to_string())?;
            Ok(status)
        }
        Err(e) => Err(e),
    };
    connection.abort();
    match status? {
        status if status.is_success() => Ok(()),
        status => Err(format!("the collector answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn call<'a>(tool: &'a str, traceparent: Option<&'a str>) -> Ended<'a> {
        Ended {
            client: "tests",
            server: "calc",
            method: "tools/call",
            tool,
            arguments: b"SECRET",
            duration: Duration::from_millis(5),
            outcome: CallOutcome::Error(-32000),
            bytes_in: 1,
            bytes_out: 2,
            traceparent,
        }
    }

    fn exporter(address: SocketAddr, told: Arc<Mutex<Vec<String>>>) -> Exporter {
        let name = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
        let environment = BTreeMap::from([(name, format!("http://{address}/"))]);
        let tell = Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()));
        Exporter::from_environment(&environment, tell).unwrap().unwrap()
    }

    #[tokio::test]
    async fn spans_reach_a_collector_under_the_client_s_trace() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let exporter = exporter(listener.local_addr().unwrap(), Arc::default());
        exporter.export(Span::of(&call("add", Some(TRACE))));
        exporter.export(Span::of(&call("unsampled", Some(&TRACE.replace("-01", "-00")))));
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        while !text.ends_with("]}]}]}") {
            let mut buffer = [0; 4096];
            let read = connection.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(str::from_utf8(&buffer[..read]).unwrap());
        }
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(!body.contains("SECRET") && !body.contains("unsampled"), "{body}");
        let body: Value = serde_json::from_str(body).unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans.as_array().unwrap().len(), 1);
        let span = &spans[0];
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            (&span["parentSpanId"], &span["name"]),
            (&json!("00f067aa0ba902b7"), &json!("tools/call add"))
        );
        assert_eq!((span["spanId"].as_str().unwrap().len(), &span["status"]["code"]), (16, &json!(2)));
        let nanos = |member: &str| span[member].as_str().unwrap().parse::<u128>().unwrap();
        assert_eq!(nanos("endTimeUnixNano") - nanos("startTimeUnixNano"), 5_000_000);
    }

    #[tokio::test]
    async fn a_collector_that_is_gone_or_full_costs_spans_and_never_a_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let exporter = exporter(listener.local_addr().unwrap(), told.clone());
        drop(listener);
        // No task runs between these: the queue alone takes them.
        (0..QUEUE_MAX + 3).for_each(|_| exporter.export(Span::of(&call("add", None))));
        assert_eq!(exporter.lost.load(Ordering::Relaxed), 3);
        while exporter.lost.load(Ordering::Relaxed) < 3 + BATCH_MAX as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let told = told.lock().unwrap();
        assert!(told.len() < 10 && told.iter().any(|text| text.contains("refused")), "{told:?}");
    }

    #[test]
    fn only_a_trace_context_of_w3c_is_taken_over() {
        assert!(parent(TRACE).is_some_and(|parent| parent.is_sampled));
        for wrong in [
            "",
            "00",
            &TRACE[3..],
            &TRACE.to_uppercase(),
            &format!("{TRACE}-1"),
            &format!("ff{}", &TRACE[2..]),
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
        assert_eq!(parent(&TRACE.replace("00f067aa0ba902b7", "0000000000000000")), None);
    }

    #[test]
    fn a_collector_that_cannot_be_reached_in_the_clear_is_refused() {
        assert_eq!(collector("http://localhost:4318/v1/traces").unwrap().authority, "localhost:4318");
        assert_eq!(collector("http://[::1]:80").unwrap().address.port(), 80);
        assert_eq!(collector("http://127.0.0.1").unwrap().address.port(), PORT_DEFAULT);
        for wrong in
            ["https://127.0.0.1", "http://collector.example:4318", "http://a@127.0.0.1", "127.0.0.1:4318", ""]
        {
            assert_eq!(collector(wrong).unwrap_err().kind, ErrorKind::Usage, "{wrong}");
        }
    }
}
