//! A server that is reached by HTTP, as the hub sees every server: a link. Requests go out side by side,
//! what has no answer in order. It decides nothing about eras: it carries what the hub says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use crate::engine::remote::Remote;
use crate::mcp::http::envelope::{self, Kind, read};
use crate::mcp::http::exchange::{Outcome, Shared};
use crate::mcp::http::target::Target;
use crate::mcp::http::wire::Wire;
use crate::mcp::link::{EndReason, FromUpstream, Link, RECEIVE_MESSAGES_MAX, SEND_MESSAGES_MAX, pass};
use crate::mcp::message::{INTERNAL_ERROR, Object};

/// Requests under way at one server.
const REQUESTS_MAX: usize = 256;
/// How long a message without an answer may take, in seconds.
const NOTE_S: u64 = 30;
/// How long the good-bye may take, in seconds.
const LEAVE_S: u64 = 3;

/// Begins to speak to a server. Nothing is sent before the hub says something.
pub fn start(target: Target, remote: Arc<Remote>, message_bytes_max: usize) -> Link {
    let (send, from_hub) = mpsc::channel(SEND_MESSAGES_MAX);
    let (out, receive) = mpsc::channel(RECEIVE_MESSAGES_MAX);
    let shared = Arc::new(Shared::new(Wire::new(target, remote), out.clone(), message_bytes_max));
    let upstream = Upstream { shared, from_hub, out, tasks: JoinSet::new(), under_way: HashMap::new() };
    tokio::spawn(upstream.run());
    Link { send, receive }
}

/// A request under way: how to end it, and whether ending it tells the server enough.
struct UnderWay {
    task: AbortHandle,
    is_modern: bool,
}

/// Which request an exchange was about, and how it ended.
type Ended = (Option<Vec<u8>>, Outcome);

struct Upstream {
    shared: Arc<Shared>,
    from_hub: mpsc::Receiver<Vec<u8>>,
    out: mpsc::Sender<FromUpstream>,
    tasks: JoinSet<Ended>,
    /// By the id as the hub wrote it.
    under_way: HashMap<Vec<u8>, UnderWay>,
}

impl Upstream {
    async fn run(mut self) {
        let reason = loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => {
                    // One that was ended on purpose is in no list any more.
                    let Ok((id, outcome)) = ended else { continue };
                    if let Some(id) = id {
                        self.under_way.remove(&id);
                    }
                    if let Outcome::Lost(error) = outcome {
                        break EndReason::Failed(error);
                    }
                }
                message = self.from_hub.recv() => match message {
                    None => break EndReason::Asked,
                    Some(message) => {
                        if let Some(Outcome::Lost(error)) = self.carry(message).await {
                            break EndReason::Failed(error);
                        }
                    }
                },
            }
        };
        self.tasks.shutdown().await;
        // A server that is slow to take leave keeps nobody.
        let _late = timeout(Duration::from_secs(LEAVE_S), self.shared.leave()).await;
        // A hub that is gone needs no reason.
        drop(self.out.send(FromUpstream::Ended(reason)).await);
    }

    async fn carry(&mut self, message: Vec<u8>) -> Option<Outcome> {
        let Ok(envelope) = read(&message) else { return None };
        match (envelope.kind, &*envelope.method) {
            (Kind::Request, _) => {
                let id = envelope.id.unwrap_or_default();
                if self.under_way.len() >= REQUESTS_MAX {
                    let reason = format!("{REQUESTS_MAX} requests are under way at this server");
                    let refusal = envelope::error(Some(id), INTERNAL_ERROR, &reason, None);
                    let bytes = refusal.len();
                    // A hub that is gone waits for nothing.
                    drop(pass(&self.out, FromUpstream::Message(refusal), bytes).await);
                    return None;
                }
                let is_modern = envelope.parameters().is_ok_and(|parameters| parameters.version().is_some());
                let (key, shared) = (id.as_bytes().to_vec(), Arc::clone(&self.shared));
                let done = key.clone();
                let task = self.tasks.spawn(async move { (Some(done), shared.request(&message).await) });
                self.under_way.insert(key, UnderWay { task, is_modern });
                None
            }
            (_, "notifications/cancelled") => {
                let cancelled = message_id(&envelope);
                match cancelled
                    .and_then(|id| self.under_way.get(&id).map(|way| way.is_modern).map(|is| (id, is)))
                {
                    // In that revision the end of the connection is what cancels.
                    Some((id, true)) => {
                        if let Some(way) = self.under_way.remove(&id) {
                            way.task.abort();
                        }
                        None
                    }
                    Some((_, false)) => self.note(&message).await,
                    None => None,
                }
            }
            (_, "notifications/initialized") => {
                let outcome = self.note(&message).await;
                let shared = Arc::clone(&self.shared);
                self.tasks.spawn(async move { (None, shared.listen().await) });
                outcome
            }
            _ => self.note(&message).await,
        }
    }

    /// In order: a server must not see what comes after it first.
    async fn note(&self, message: &[u8]) -> Option<Outcome> {
        timeout(Duration::from_secs(NOTE_S), self.shared.note(message)).await.ok()
    }
}

/// The id of the request that a cancellation names.
fn message_id(envelope: &envelope::Envelope<'_>) -> Option<Vec<u8>> {
    let parameters = Object::parse(envelope.params?).ok()?;
    parameters.get("requestId").map(|id| id.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::host::Host;
    use crate::error::ErrorKind;

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn remote() -> Arc<Remote> {
        Arc::new(Remote::new(&Host {
            uid: 0,
            gid: 0,
            login: "t".to_owned(),
            home: None,
            cwd: PathBuf::from("/"),
            data: PathBuf::from("/nonexistent"),
            runtime: None,
            path: Vec::new(),
            umask: 0o022,
            docker_config: None,
            environment: BTreeMap::new(),
        }))
    }

    /// What one request was, and what it is answered: the whole text of HTTP. An empty answer is none, and
    /// waits for the client to go.
    type Script = Box<dyn Fn(&str) -> String + Send + Sync>;

    /// A server that answers by a script; tells each request as it came, and `gone` when a client left one
    /// without an answer.
    async fn server(script: Script) -> (u16, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = mpsc::unbounded_channel();
        let script = Arc::new(script);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, tell) = (Arc::clone(&script), tell.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let (mut text, mut bytes) = (String::new(), 0);
                    while !text.ends_with("\r\n\r\n") {
                        let mut line = String::new();
                        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                            return;
                        }
                        if let Some(length) = line.to_lowercase().strip_prefix("content-length: ") {
                            bytes = length.trim().parse().unwrap();
                        }
                        text.push_str(&line);
                    }
                    let mut body = vec![0; bytes];
                    stream.read_exact(&mut body).await.unwrap();
                    text.push_str(&String::from_utf8(body).unwrap());
                    let answer = script(&text);
                    let _told = tell.send(text);
                    if answer.is_empty() {
                        let _end = stream.read(&mut [0]).await;
                        let _told = tell.send("gone".to_owned());
                    }
                    let _sent = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (port, told)
    }

    fn http(status: &str, kind: &str, extra: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{extra}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn ok(body: &str) -> String {
        http("200 OK", "application/json", "", body)
    }

    fn link(port: u16, headers: &[(String, String)], bytes_max: usize) -> Link {
        let target = Target::new(&format!("http://127.0.0.1:{port}/mcp"), headers).unwrap();
        start(target, remote(), bytes_max)
    }

    async fn next(link: &mut Link) -> String {
        match link.receive.recv().await.unwrap() {
            FromUpstream::Message(message) => String::from_utf8(message).unwrap(),
            FromUpstream::Ended(EndReason::Failed(error)) => format!("failed {:?} {error}", error.kind),
            FromUpstream::Ended(reason) => format!("ended {reason:?}"),
            FromUpstream::Started { .. } => panic!("it has no process"),
        }
    }

    async fn say(link: &Link, message: &str) {
        link.send.send(message.as_bytes().to_vec()).await.unwrap();
    }

    fn method_of(request: &str) -> &str {
        request.split("\"method\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
    }

    /// A server of the era with sessions.
    fn legacy(request: &str) -> String {
        let session = "mcp-session-id: s1\r\n";
        match (request.split(' ').next().unwrap(), method_of(request)) {
            ("GET", _) if request.contains("last-event-id: 5-1") => {
                http("200 OK", "text/event-stream", "", "id: 5-2\ndata: {\"id\":3,\"result\":\"late\"}\n\n")
            }
            ("GET", _) => "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"method\":\"notifications/x\"}\n\n".to_owned(),
            ("DELETE", _) => http("200 OK", "text/plain", "", ""),
            (_, "initialize") => {
                let result = "{\n \"id\": 1,\n \"result\": {\"protocolVersion\": \"2025-06-18\"}\n}";
                http("200 OK", "application/json", session, result)
            }
            (_, "tools/call") => http("200 OK", "text/event-stream", "", "id: 5-1\nretry: 1\ndata: \n\n"),
            (_, "gone") => http("404 Not Found", "text/plain", "", "no such session"),
            (_, method) if method.starts_with("notifications/") => http("202 Accepted", "text/plain", "", ""),
            _ => ok(r#"{"id":2,"result":{}}"#),
        }
    }

    #[tokio::test]
    async fn a_session_is_begun_listened_to_resumed_and_left() {
        let (port, mut told) = server(Box::new(legacy)).await;
        let mut link = link(port, &[("x-key".to_owned(), "secret".to_owned())], 10_000);
        say(&link, r#"{"id":1,"method":"initialize"}"#).await;
        assert_eq!(next(&mut link).await, r#"{  "id": 1,  "result": {"protocolVersion": "2025-06-18"} }"#);
        let request = told.recv().await.unwrap();
        assert!(request.contains("x-key: secret\r\n") && !request.contains("mcp-session-id"), "{request}");
        say(&link, r#"{"method":"notifications/initialized"}"#).await;
        assert_eq!(next(&mut link).await, r#"{"method":"notifications/x"}"#);
        let note = told.recv().await.unwrap();
        assert!(
            note.contains("mcp-session-id: s1\r\n") && note.contains("mcp-protocol-version: 2025-06-18\r\n"),
            "{note}"
        );
        say(&link, r#"{"id":3,"method":"tools/call"}"#).await;
        let answer = loop {
            // The standing stream of this server ends at once, and is taken up again and again.
            let message = next(&mut link).await;
            if !message.contains("notifications/x") {
                break message;
            }
        };
        assert_eq!(answer, r#"{"id":3,"result":"late"}"#);
        let Link { send, mut receive } = link;
        drop(send);
        loop {
            match receive.recv().await.unwrap() {
                FromUpstream::Ended(EndReason::Asked) => break,
                FromUpstream::Message(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut requests = Vec::new();
        while let Ok(request) = told.try_recv() {
            requests.push(request);
        }
        assert!(
            requests
                .iter()
                .any(|request| request.starts_with("DELETE") && request.contains("mcp-session-id: s1"))
        );
    }

    #[tokio::test]
    async fn a_session_that_the_server_has_ended_ends_the_link() {
        let (port, _told) = server(Box::new(legacy)).await;
        let mut link = link(port, &[], 10_000);
        say(&link, r#"{"id":1,"method":"initialize"}"#).await;
        next(&mut link).await;
        say(&link, r#"{"id":2,"method":"gone"}"#).await;
        assert!(next(&mut link).await.starts_with("failed State"));
    }

    #[tokio::test]
    async fn a_modern_request_repeats_itself_in_its_headers() {
        let tools = r#"{"id":1,"result":{"tools":[
            {"name":"good","x":1.50,"inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}},
            {"name":"bad","inputSchema":{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}}],"ttlMs":0}}"#;
        let script = move |request: &str| match method_of(request) {
            "tools/list" => ok(tools),
            _ => ok(r#"{"id":2,"result":{}}"#),
        };
        let (port, mut told) = server(Box::new(script)).await;
        let mut link = link(port, &[], 10_000);
        say(&link, &format!(r#"{{"id":1,"method":"tools/list","params":{{{META}}}}}"#)).await;
        let list = next(&mut link).await;
        assert!(
            list.contains(r#""x":1.50"#) && !list.contains("bad") && list.contains(r#""ttlMs":0"#),
            "{list}"
        );
        told.recv().await.unwrap();
        say(&link, &format!(r#"{{"id":2,"method":"tools/call","params":{{"name":"good","arguments":{{"a":"ü"}},{META}}}}}"#)).await;
        next(&mut link).await;
        let request = told.recv().await.unwrap();
        for header in [
            "mcp-protocol-version: 2026-07-28",
            "mcp-method: tools/call",
            "mcp-name: good",
            "mcp-param-a: =?base64?w7w=?=",
        ] {
            assert!(request.contains(&format!("{header}\r\n")), "{header}: {request}");
        }
        assert!(!request.contains("mcp-session-id"));
    }

    #[tokio::test]
    async fn a_mirrored_argument_is_learned_when_the_server_wants_it() {
        let script = |request: &str| match method_of(request) {
            "tools/list" => ok(
                r#"{"id":"cuddy-tools","result":{"tools":[{"name":"t","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}}"#,
            ),
            _ if request.contains("mcp-param-a: v\r\n") => ok(r#"{"id":2,"result":true}"#),
            _ => http(
                "400 Bad Request",
                "application/json",
                "",
                r#"{"id":2,"error":{"code":-32020,"message":"missing"}}"#,
            ),
        };
        let (port, _told) = server(Box::new(script)).await;
        let mut link = link(port, &[], 10_000);
        say(
            &link,
            &format!(
                r#"{{"id":2,"method":"tools/call","params":{{"name":"t","arguments":{{"a":"v"}},{META}}}}}"#
            ),
        )
        .await;
        assert_eq!(next(&mut link).await, r#"{"id":2,"result":true}"#);
    }

    #[tokio::test]
    async fn cancelling_a_modern_request_ends_its_connection_and_says_nothing() {
        let (port, mut told) = server(Box::new(|_request| String::new())).await;
        let link = link(port, &[], 10_000);
        say(&link, &format!(r#"{{"id":2,"method":"tools/call","params":{{"name":"t",{META}}}}}"#)).await;
        assert!(told.recv().await.unwrap().starts_with("POST"));
        say(&link, r#"{"method":"notifications/cancelled","params":{"requestId":2}}"#).await;
        assert_eq!(told.recv().await.unwrap(), "gone");
    }

    #[tokio::test]
    async fn every_refusal_is_an_error_that_says_why() {
        let long = format!(r#"{{"id":2,"result":"{}"}}"#, "x".repeat(2000));
        let endless = format!("data: {}", "x".repeat(2000));
        for (answer, expected) in [
            (
                http(
                    "400 Bad Request",
                    "application/json",
                    "",
                    r#"{"id":null,"error":{"code":-32022,"message":"v"}}"#,
                ),
                r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32022,"message":"v"}}"#,
            ),
            (
                http("429 Too Many Requests", "text/plain", "retry-after: 7\r\n", "no"),
                "429, and asks to wait 7 s",
            ),
            (
                http("500 Internal Server Error", "text/html", "", "<h1>no</h1>"),
                r#""data":{"httpStatus":500}"#,
            ),
            (http("202 Accepted", "text/plain", "", ""), "no message of the protocol"),
            (ok("nonsense"), "no message of the protocol"),
            (ok(&long), "larger than 1000 bytes"),
            (http("200 OK", "text/event-stream", "", "data: {\"method\":\"x\"}\n\n"), r#"{"method":"x"}"#),
            (http("200 OK", "text/event-stream", "", ""), "broke off"),
            (http("200 OK", "text/event-stream", "", &endless), "larger than 1000 bytes"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\ncut".to_owned(), "broke off"),
            (http("401 Unauthorized", "text/plain", "", ""), "failed Denied"),
            (
                http("307 Temporary Redirect", "text/plain", "location: http://evil.example/mcp\r\n", ""),
                "failed Denied",
            ),
            (http("302 Found", "text/plain", "location: /other\r\n", ""), "failed Denied"),
            ("nonsense\r\n\r\n".to_owned(), "failed Corrupt"),
            (format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1000)), "failed Corrupt"),
        ] {
            let told = answer.clone();
            let (port, _told) = server(Box::new(move |_request| told.clone())).await;
            let mut link = link(port, &[], 1000);
            say(&link, r#"{"id":2,"method":"ping"}"#).await;
            let message = next(&mut link).await;
            assert!(message.contains(expected), "{answer}: {message}");
        }
    }

    #[tokio::test]
    async fn a_redirect_within_the_server_is_followed_and_kept() {
        let script = |request: &str| match request.split(' ').nth(1).unwrap() {
            "/mcp" => http("307 Temporary Redirect", "text/plain", "location: /mcp/\r\n", ""),
            _ => ok(r#"{"id":2,"result":{}}"#),
        };
        let (port, mut told) = server(Box::new(script)).await;
        let mut link = link(port, &[], 1000);
        for _ in 0..2 {
            say(&link, r#"{"id":2,"method":"ping"}"#).await;
            assert_eq!(next(&mut link).await, r#"{"id":2,"result":{}}"#);
        }
        let mut paths = Vec::new();
        while let Ok(request) = told.try_recv() {
            paths.push(request.split(' ').nth(1).unwrap().to_owned());
        }
        assert_eq!(paths, ["/mcp", "/mcp/", "/mcp/"]);
    }

    #[tokio::test]
    async fn a_redirect_that_leads_round_and_round_is_given_up() {
        let script = |_request: &str| http("307 Temporary Redirect", "text/plain", "location: /mcp\r\n", "");
        let (port, _told) = server(Box::new(script)).await;
        let mut link = link(port, &[], 1000);
        say(&link, r#"{"id":2,"method":"ping"}"#).await;
        assert!(next(&mut link).await.starts_with("failed Denied"));
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_said_to_be_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut link = link(port, &[], 1000);
        say(&link, r#"{"id":2,"method":"ping"}"#).await;
        let message = next(&mut link).await;
        assert!(message.starts_with("failed Unreachable") && message.contains("127.0.0.1"), "{message}");
        let target = Target::new("https://no.such.host.invalid/", &[]).unwrap();
        let mut link = start(target, remote(), 1000);
        say(&link, r#"{"id":2,"method":"ping"}"#).await;
        let FromUpstream::Ended(EndReason::Failed(error)) = link.receive.recv().await.unwrap() else {
            panic!()
        };
        assert_eq!(error.kind, ErrorKind::Unreachable);
    }

    #[tokio::test]
    async fn a_server_behind_a_socket_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(bytes[..read].starts_with(b"POST /mcp HTTP/1.1\r\n"));
            stream.write_all(ok(r#"{"id":2,"result":{}}"#).as_bytes()).await.unwrap();
        });
        let target = Target::new(&format!("unix:{}", path.display()), &[]).unwrap();
        let mut link = start(target, remote(), 1000);
        say(&link, r#"{"id":2,"method":"ping"}"#).await;
        assert_eq!(next(&mut link).await, r#"{"id":2,"result":{}}"#);
    }
}
