//! The HTTP front of the gateway: who may connect, how much and for how long, and which part answers. One
//! path, `/mcp`, for every revision; `/metrics` when it is wanted. Every client is hostile until it has
//! shown the token, and bounded after that.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::error::{ErrorKind, Fault};
use crate::mcp::era::Era;
use crate::mcp::http::address::Address;
use crate::mcp::http::body::{Answer, not_allowed, refusal, text, unknown_caller};
use crate::mcp::http::envelope::{era, read};
use crate::mcp::http::headers::{Guests, JSON, accepted, bearer, kind};
use crate::mcp::http::legacy;
use crate::mcp::http::modern::{self, Mirrors};
use crate::mcp::http::patience::Patient;
use crate::mcp::http::sessions::{IDLE_S, Sessions};
use crate::mcp::http::token::Token;
use crate::mcp::message::INVALID_PARAMS;
use crate::mcp::session::Door;

/// Connections at once.
const CONNECTIONS_MAX: usize = 512;
/// Connections that the kernel keeps until we come to them.
const BACKLOG: i32 = 128;
/// Head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 96;
/// How long a connection may take for the head of its next request, in seconds.
const HEAD_S: u64 = 15;
/// How long a body may take, in seconds.
const BODY_S: u64 = 30;
/// How often idle sessions are looked for, in seconds.
const SWEEP_S: u64 = 30;
/// The pause when no connection can be accepted, in milliseconds: files are short, and that passes.
const ACCEPT_PAUSE_MS: u64 = 100;

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The address is taken, or not ours.
    #[error("cannot listen at `{address}`")]
    Listen {
        /// Which.
        address: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Something else than a dead socket lies there.
    #[error("`{path}` is there already, and not a socket that nobody listens at")]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// Others could reach it, and nobody said that they may.
    #[error("`{address}` can be reached from other machines")]
    Exposed {
        /// Which.
        address: String,
    },
}

impl Fault for FrontError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => ErrorKind::Exists,
            Self::Listen { .. } => ErrorKind::Failed,
            Self::Taken { .. } => ErrorKind::Exists,
            Self::Exposed { .. } => ErrorKind::Denied,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                vec!["take another port; `:0` takes any free one".to_owned()]
            }
            Self::Taken { path } => vec![format!("end who listens there, or `rm {}`", path.display())],
            Self::Exposed { .. } => vec![
                "`--http 127.0.0.1:PORT` is reached from this machine alone".to_owned(),
                "`--http-expose` allows it; the token is then asked for, and put TLS in front: it travels in the clear".to_owned(),
            ],
            Self::Listen { .. } => Vec::new(),
        }
    }
}

/// An open place to listen at. A unix socket is removed with it.
pub struct Listener {
    inner: Inner,
}

enum Inner {
    Tcp(TcpListener),
    Unix(UnixListener, Own),
}

/// The file of our socket, by its number: another one at that path is not ours to remove.
struct Own {
    path: PathBuf,
    inode: u64,
}

impl Drop for Own {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            // One that is gone already is gone.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

impl Listener {
    /// Listens at an address. One that other machines can reach must be `exposed` on purpose.
    ///
    /// # Errors
    /// [`FrontError`].
    pub async fn bind(address: &Address, exposed: bool) -> Result<Self, FrontError> {
        if !address.is_local() && !exposed {
            return Err(FrontError::Exposed { address: address.to_string() });
        }
        let wrong = |source| FrontError::Listen { address: address.to_string(), source };
        let inner = match address {
            Address::Tcp(at) => Inner::Tcp(TcpListener::bind(at).await.map_err(wrong)?),
            Address::Unix(path) => {
                clear(path)?;
                let socket = bind_private(path).map_err(|e| wrong(e.into()))?;
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true).map_err(wrong)?;
                let inode = std::fs::symlink_metadata(path).map_err(wrong)?.ino();
                let own = Own { path: path.clone(), inode };
                Inner::Unix(UnixListener::from_std(listener).map_err(wrong)?, own)
            }
        };
        Ok(Self { inner })
    }

    /// Where it listens, with the port that it got.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match &self.inner {
            Inner::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Inner::Unix(_, own) => Address::Unix(own.path.clone()),
        })
    }
}

/// Removes the socket of somebody who is dead.
fn clear(path: &Path) -> Result<(), FrontError> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let answer = std::os::unix::net::UnixStream::connect(path);
    let is_dead = answer.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if !meta.file_type().is_socket() || !is_dead {
        return Err(FrontError::Taken { path: path.to_owned() });
    }
    std::fs::remove_file(path)
        .map_err(|source| FrontError::Listen { address: path.display().to_string(), source })
}

/// A socket that nobody can connect to before its mode says who may.
fn bind_private(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Gives the text of `/metrics`.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// How the front behaves.
pub struct Settings {
    /// Who may name us, and from where pages may ask.
    pub guests: Guests,
    /// What a client must show; none where the connection itself says who it is, or nobody wants it.
    pub token: Option<Token>,
    /// Largest message of a client, in bytes.
    pub message_bytes_max: usize,
    /// What `/metrics` says, when it is there.
    pub metrics: Option<Metrics>,
}

/// See the header of this file.
pub struct Front {
    door: Door,
    settings: Settings,
    sessions: Arc<Sessions>,
    mirrors: Arc<Mirrors>,
}

impl Front {
    /// A front before the hub behind `door`.
    pub fn new(door: Door, settings: Settings) -> Arc<Self> {
        Arc::new(Self { door, settings, sessions: Arc::default(), mirrors: Arc::default() })
    }

    /// Serves until `stop` comes, then ends every connection and session.
    pub async fn serve(self: Arc<Self>, listener: Listener, stop: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut sweep = tokio::time::interval(Duration::from_secs(SWEEP_S));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = sweep.tick() => self.sessions.sweep(Duration::from_secs(IDLE_S)),
                Some(_ended) = connections.join_next() => {}
                accepted = self.next(&listener, &places) => {
                    if let Some(connection) = accepted {
                        connections.spawn(connection);
                    }
                }
            }
        }
        connections.shutdown().await;
        self.sessions.close();
    }

    /// Waits for a place and a connection; gives what serves it.
    async fn next(
        self: &Arc<Self>,
        listener: &Listener,
        places: &Arc<Semaphore>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        let accepted = match &listener.inner {
            Inner::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // An answer is one write; what delays it helps nobody.
                drop(stream.set_nodelay(true));
                Either::Tcp(stream)
            }),
            Inner::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Either::Unix(stream)),
        };
        let Ok(stream) = accepted else {
            tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            return None;
        };
        let front = Arc::clone(self);
        Some(async move {
            match stream {
                Either::Tcp(stream) => front.connection(stream).await,
                Either::Unix(stream) => front.connection(stream).await,
            }
            drop(place);
        })
    }

    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let front = Arc::clone(&self);
            async move { Ok::<_, std::convert::Infallible>(front.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(HEAD_S))
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream)), service);
        // How a connection of a client broke is for nobody to read.
        drop(served.await);
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let Settings { guests, token, .. } = &self.settings;
        let headers = request.headers();
        if !guests.host_is_known(headers) {
            return text(StatusCode::FORBIDDEN, "the header `Host` names no host of this gateway");
        }
        if !guests.origin_is_known(headers) {
            return text(StatusCode::FORBIDDEN, "pages of this origin may not ask this gateway");
        }
        if token.as_ref().is_some_and(|token| !token.is(bearer(headers))) {
            return unknown_caller();
        }
        match (request.uri().path(), request.method(), &self.settings.metrics) {
            ("/mcp", &Method::POST, _) => self.post(request).await,
            ("/mcp", &Method::GET, _) => legacy::get(&self.sessions, headers),
            ("/mcp", &Method::DELETE, _) => legacy::delete(&self.sessions, headers),
            ("/mcp", ..) => not_allowed("GET, POST, DELETE"),
            ("/metrics", &Method::GET, Some(metrics)) => text(StatusCode::OK, metrics().trim_end()),
            ("/metrics", _, Some(_)) => not_allowed("GET"),
            _ => text(StatusCode::NOT_FOUND, "there is nothing here: the gateway answers at `/mcp`"),
        }
    }

    async fn post(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let headers = &parts.headers;
        if kind(headers).as_deref() != Some(JSON) {
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "`Content-Type` must be `application/json`");
        }
        let takes = accepted(headers);
        if !takes.json && !takes.events {
            return text(
                StatusCode::NOT_ACCEPTABLE,
                "`Accept` must name `application/json` and `text/event-stream`",
            );
        }
        let body = match self.body(body).await {
            Ok(body) => body,
            Err(answer) => return *answer,
        };
        let envelope = match read(&body) {
            Ok(envelope) => envelope,
            Err(no) => return refusal(StatusCode::BAD_REQUEST, None, no.code, &no.reason),
        };
        let parameters = match envelope.parameters() {
            Ok(parameters) => parameters,
            Err(reason) => return refusal(StatusCode::BAD_REQUEST, envelope.id, INVALID_PARAMS, &reason),
        };
        match era(headers, &envelope, &parameters) {
            Era::Legacy => legacy::post(&self.door, &self.sessions, headers, body.clone(), &envelope).await,
            Era::Modern => {
                modern::post(&self.door, &self.mirrors, headers, body.clone(), &envelope, &parameters).await
            }
        }
    }

    async fn body(&self, body: Incoming) -> Result<Vec<u8>, Box<Answer>> {
        let bytes_max = self.settings.message_bytes_max;
        let whole =
            tokio::time::timeout(Duration::from_secs(BODY_S), Limited::new(body, bytes_max).collect());
        match whole.await {
            Ok(Ok(whole)) => Ok(whole.to_bytes().into()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let reason = format!("the message has more than {bytes_max} bytes");
                Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, &reason)))
            }
            Ok(Err(_broken)) => Err(Box::new(text(StatusCode::BAD_REQUEST, "the body broke off"))),
            Err(_late) => Err(Box::new(text(StatusCode::REQUEST_TIMEOUT, "the body took too long"))),
        }
    }
}

enum Either {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::mcp::message::{Message, Shape};
    use crate::mcp::session::{Control, ConversationId, Event, Inside, Outbox, ToClient};

    const TOKEN: &str = "0123456789abcdef";
    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    /// A hub that answers each method in its own way, and tells which conversations were closed.
    async fn hub(mut inside: Inside, closed: mpsc::UnboundedSender<ConversationId>) {
        let mut outboxes: HashMap<ConversationId, Outbox> = HashMap::new();
        loop {
            tokio::select! {
                biased;
                control = inside.control.recv() => match control {
                    Some(Control::Opened(id, _, outbox)) => drop(outboxes.insert(id, outbox)),
                    Some(Control::Closed(id)) => {
                        outboxes.remove(&id);
                        let _told = closed.send(id);
                    }
                    Some(Control::Order(..)) => {}
                    Some(Control::End) | None => return,
                },
                event = inside.events.recv() => match event {
                    Some(Event::Client(id, message)) => say(&outboxes[&id], &message),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    fn say(outbox: &Outbox, message: &[u8]) {
        let message = Message::parse(message).unwrap();
        let Shape::Request { id, method } = &message.shape else { return };
        let tell = |text: String, about: Option<&str>, is_answer| {
            let about = about.map(|id| id.as_bytes().to_vec());
            outbox.send(ToClient { message: text.into_bytes(), about, is_answer });
        };
        let answer = |result: &str| {
            tell(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#), Some(id), true)
        };
        let error = |code: i32| {
            tell(
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no"}}}}"#),
                Some(id),
                true,
            );
        };
        let name = message.params().and_then(|params| params.string("name").map(|name| name.into_owned()));
        match (&**method, name.as_deref()) {
            ("initialize", Some("refused")) => error(-32602),
            ("initialize", _) => answer(r#"{"protocolVersion":"2025-11-25"}"#),
            ("tools/list", _) => answer(
                r#"{"tools":[{"name":"mirrored","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}]}"#,
            ),
            ("tools/call", Some("never")) => {}
            ("tools/call", Some("progress")) => {
                tell(r#"{"method":"notifications/progress"}"#.to_owned(), Some(id), false);
                tell(r#"{"method":"notifications/changed"}"#.to_owned(), None, false);
                answer("1");
            }
            ("tools/call", _) => answer("true"),
            ("capability", _) => error(-32021),
            ("version", _) => error(-32022),
            _ => error(-32601),
        }
    }

    /// A front before such a hub, and where it listens.
    struct Bench {
        port: u16,
        closed: mpsc::UnboundedReceiver<ConversationId>,
        stop: oneshot::Sender<()>,
        served: tokio::task::JoinHandle<()>,
    }

    async fn bench(token: bool) -> Bench {
        let (door, inside) = Door::new();
        let (tell, closed) = mpsc::unbounded_channel();
        tokio::spawn(hub(inside, tell));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, TOKEN).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let settings = Settings {
            guests: Guests::default(),
            token: token.then(|| Token::read(&path).unwrap()),
            message_bytes_max: 10_000,
            metrics: Some(Arc::new(|| "cuddy_up 1\n".to_owned())),
        };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let Address::Tcp(address) = listener.address().unwrap() else { panic!() };
        let (stop, stopped) = oneshot::channel();
        let front = Front::new(door, settings);
        let served = tokio::spawn(front.serve(listener, async { drop(stopped.await) }));
        Bench { port: address.port(), closed, stop, served }
    }

    struct Reply {
        status: u16,
        headers: HashMap<String, String>,
        reader: BufReader<tokio::net::TcpStream>,
    }

    impl Reply {
        /// The whole body; of a stream, what came until it ended.
        async fn body(mut self) -> String {
            let mut body = Vec::new();
            match self.headers.get("content-length").map(|n| n.parse::<usize>().unwrap()) {
                Some(bytes) => {
                    body.resize(bytes, 0);
                    self.reader.read_exact(&mut body).await.unwrap();
                }
                None => {
                    while let Some(chunk) = self.chunk().await {
                        body.extend_from_slice(chunk.as_bytes());
                    }
                }
            }
            String::from_utf8(body).unwrap()
        }

        async fn chunk(&mut self) -> Option<String> {
            let mut line = String::new();
            self.reader.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
            let bytes = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut chunk = vec![0; bytes + 2];
            self.reader.read_exact(&mut chunk).await.unwrap();
            chunk.truncate(bytes);
            (bytes > 0).then(|| String::from_utf8(chunk).unwrap())
        }
    }

    impl Bench {
        async fn raw(&self, text: &str) -> Reply {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            let mut headers = HashMap::new();
            loop {
                line.clear();
                reader.read_line(&mut line).await.unwrap();
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_owned(), value.to_owned());
            }
            Reply { status, headers, reader }
        }

        async fn request(&self, method: &str, extra: &[(&str, &str)], body: &str) -> Reply {
            let usual = [
                ("host", "localhost"),
                ("content-type", "application/json"),
                ("accept", "application/json, text/event-stream"),
                ("authorization", "Bearer 0123456789abcdef"),
            ];
            let mut text = format!("{method} /mcp HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
            for (name, value) in
                usual.iter().filter(|(name, _)| extra.iter().all(|(other, _)| other != name)).chain(extra)
            {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            self.raw(&format!("{text}\r\n{body}")).await
        }

        async fn post(&self, extra: &[(&str, &str)], body: &str) -> Reply {
            self.request("POST", extra, body).await
        }

        async fn session(&self) -> String {
            let body = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#;
            let reply = self.post(&[], body).await;
            assert_eq!(reply.status, 200);
            reply.headers["mcp-session-id"].clone()
        }

        async fn modern(&self, method: &str, name: &str, extra: &[(&str, &str)], arguments: &str) -> Reply {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":5,"method":"{method}","params":{{"name":"{name}","arguments":{arguments},{META}}}}}"#
            );
            let mut all =
                vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", name)];
            all.extend_from_slice(extra);
            self.post(&all, &body).await
        }
    }

    fn call(name: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{name}"}}}}"#)
    }

    #[tokio::test]
    async fn a_stranger_learns_nothing() {
        let bench = bench(true).await;
        for (extra, status) in [
            (("host", "evil.example"), 403),
            (("origin", "http://evil.example"), 403),
            (("authorization", "Bearer wrong"), 401),
            (("authorization", "Basic x"), 401),
            (("content-type", "text/plain"), 415),
            (("accept", "text/html"), 406),
        ] {
            let reply = bench.post(&[extra], &call("x")).await;
            assert_eq!(reply.status, status, "{extra:?}");
            assert!(!reply.body().await.contains("jsonrpc"), "{extra:?}");
        }
        let raw = |path: &str, token: &str| format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{token}\r\n");
        let with = format!("authorization: Bearer {TOKEN}\r\n");
        for (path, token, status) in
            [("/metrics", "", 401), ("/", "", 401), ("/metrics", &*with, 200), ("/", &with, 404)]
        {
            assert_eq!(bench.raw(&raw(path, token)).await.status, status, "{path}");
        }
        assert_eq!(bench.raw("GET /mcp HTTP/1.1\r\n\r\n").await.status, 403, "no host");
        assert_eq!(bench.request("PUT", &[], "").await.status, 405);
    }

    #[tokio::test]
    async fn a_session_is_begun_used_and_ended() {
        let mut bench = bench(true).await;
        let session = bench.session().await;
        let of = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-11-25")];
        let reply = bench.post(&of, &call("x")).await;
        assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "application/json"));
        assert_eq!(reply.body().await, r#"{"jsonrpc":"2.0","id":7,"result":true}"#);
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(bench.post(&of, note).await.status, 202);
        assert_eq!(bench.post(&of, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).await.status, 202);
        assert_eq!(bench.post(&[], &call("x")).await.status, 400, "without a session");
        assert_eq!(bench.post(&[("mcp-session-id", "x")], &call("x")).await.status, 404);
        assert_eq!(
            bench
                .post(&[("mcp-session-id", &session), ("mcp-protocol-version", "1.0")], &call("x"))
                .await
                .status,
            400
        );
        assert_eq!(bench.request("DELETE", &of, "").await.status, 200);
        assert!(bench.closed.recv().await.is_some(), "the hub is told");
        assert_eq!(bench.post(&of, &call("x")).await.status, 404);
        assert_eq!(bench.request("DELETE", &of, "").await.status, 404);
        assert_eq!(bench.request("DELETE", &[], "").await.status, 400);
    }

    #[tokio::test]
    async fn a_session_that_the_hub_refuses_leaves_nothing_behind() {
        let mut bench = bench(true).await;
        let reply = bench
            .post(&[], r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"name":"refused"}}"#)
            .await;
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("mcp-session-id"));
        assert!(reply.body().await.contains("-32602"));
        assert!(bench.closed.recv().await.is_some());
    }

    #[tokio::test]
    async fn an_answer_with_messages_before_it_is_a_stream_that_can_be_resumed() {
        let bench = bench(true).await;
        let session = bench.session().await;
        let of = [("mcp-session-id", &*session)];
        let reply = bench.post(&of, &call("progress")).await;
        assert_eq!(reply.headers["content-type"], "text/event-stream");
        let body = reply.body().await;
        let expected = "id: 2-0\nretry: 1000\ndata: \n\n\
            id: 2-1\ndata: {\"method\":\"notifications/progress\"}\n\n\
            id: 2-2\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1}\n\n";
        assert_eq!(body, expected);
        let again = bench.request("GET", &[of[0], ("last-event-id", "2-1")], "").await;
        assert_eq!(again.status, 200);
        let rest = again.body().await;
        assert!(
            rest.contains("id: 2-2\n") && !rest.contains("id: 2-1\ndata: {") && !rest.contains("changed"),
            "{rest}"
        );
        for foreign in ["2-9", "9-0", "x", "2-", "-1-1"] {
            let reply = bench.request("GET", &[of[0], ("last-event-id", foreign)], "").await;
            assert_eq!(reply.status, 400, "{foreign}");
        }
        let mut standing = bench.request("GET", &of, "").await;
        assert_eq!(standing.chunk().await.unwrap(), "id: 0-0\nretry: 1000\ndata: \n\n");
        assert_eq!(
            standing.chunk().await.unwrap(),
            "id: 0-1\ndata: {\"method\":\"notifications/changed\"}\n\n"
        );
    }

    #[tokio::test]
    async fn a_client_that_names_streams_first_gets_one_and_one_that_takes_none_gets_the_answer() {
        let bench = bench(true).await;
        let session = bench.session().await;
        let of = ("mcp-session-id", &*session);
        let reply = bench.post(&[of, ("accept", "text/event-stream, application/json")], &call("x")).await;
        assert_eq!(reply.headers["content-type"], "text/event-stream");
        assert!(reply.body().await.starts_with("id: 2-0\nretry: 1000\ndata: \n\nid: 2-1\ndata: {"));
        let reply = bench.post(&[of, ("accept", "application/json")], &call("progress")).await;
        assert_eq!(reply.body().await, r#"{"jsonrpc":"2.0","id":7,"result":1}"#);
        assert_eq!(bench.request("GET", &[of, ("accept", "application/json")], "").await.status, 406);
    }

    #[tokio::test]
    async fn a_request_that_is_under_way_keeps_its_id_and_its_session() {
        let bench = bench(true).await;
        let session = bench.session().await;
        let of = ("mcp-session-id", &*session);
        let mut first = bench.post(&[of, ("accept", "text/event-stream")], &call("never")).await;
        assert!(first.chunk().await.is_some());
        assert_eq!(bench.post(&[of], &call("x")).await.status, 400, "the same id");
        drop(first);
        let other = call("x").replace("\"id\":7", "\"id\":8");
        assert_eq!(bench.post(&[of], &other).await.status, 200, "a broken connection ends no session");
    }

    #[tokio::test]
    async fn a_modern_request_is_answered_alone() {
        let mut bench = bench(true).await;
        let reply = bench.modern("tools/call", "x", &[], "{}").await;
        assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "application/json"));
        assert!(!reply.headers.contains_key("mcp-session-id"));
        assert_eq!(reply.body().await, r#"{"jsonrpc":"2.0","id":5,"result":true}"#);
        assert!(bench.closed.recv().await.is_some());
        let reply = bench.modern("tools/call", "progress", &[], "{}").await;
        assert_eq!(reply.headers["x-accel-buffering"], "no");
        let body = reply.body().await;
        assert!(
            body.starts_with("data: {\"method\":\"notifications/progress\"}\n\ndata: ")
                && !body.contains("id: "),
            "{body}"
        );
        for (method, status) in
            [("nothing/such", 404), ("initialize", 404), ("capability", 400), ("version", 400)]
        {
            let reply = bench.modern(method, "x", &[], "{}").await;
            // The hub here has `initialize`; this revision has not.
            assert_eq!(reply.status, status, "{method}");
        }
    }

    #[tokio::test]
    async fn a_modern_request_that_is_let_go_is_cancelled() {
        let mut bench = bench(true).await;
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"never",{META}}}}}"#);
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", bench.port)).await.unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\naccept: */*\r\nmcp-protocol-version: 2026-07-28\r\nmcp-method: tools/call\r\nmcp-name: never\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        // The list of tools that the first call asks for.
        let listed = bench.closed.recv().await.unwrap();
        drop(stream);
        let cancelled = bench.closed.recv().await.unwrap();
        assert_ne!(listed, cancelled);
    }

    #[tokio::test]
    async fn headers_that_say_something_else_than_the_body_are_refused() {
        let bench = bench(true).await;
        let whole = |params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"x"{params}}}}}"#)
        };
        let good = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "x")];
        let meta = whole(&format!(",{META}"));
        for (headers, body, code) in [
            (&good[..], &meta, None),
            (&good[1..], &meta, Some(-32020)),
            (&good[..2], &meta, Some(-32020)),
            (&[good[0], good[2]], &meta, Some(-32020)),
            (&[("mcp-protocol-version", "2025-11-25"), good[1], good[2]], &meta, Some(-32020)),
            (&[good[0], ("mcp-method", "tools/list"), good[2]], &meta, Some(-32020)),
            (&[good[0], good[1], ("mcp-name", "y")], &meta, Some(-32020)),
            (&good[..], &whole(""), Some(-32602)),
            (&good[..], &whole(r#","_meta":{}"#), Some(-32602)),
            (&good[..], &whole(r#","_meta":7"#), Some(-32602)),
        ] {
            let reply = bench.post(headers, body).await;
            let status = reply.status;
            let body = reply.body().await;
            match code {
                None => assert_eq!(status, 200, "{body}"),
                Some(code) => {
                    assert_eq!(status, 400, "{headers:?} {body}");
                    assert!(
                        body.contains(&format!("\"code\":{code}")) && body.contains("\"id\":5"),
                        "{body}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn arguments_that_a_tool_mirrors_are_checked_from_the_first_call_on() {
        let bench = bench(true).await;
        for (header, status) in
            [(Some("v"), 200), (Some("=?base64?dg==?="), 200), (Some("w"), 400), (None, 400)]
        {
            let extra: Vec<_> = header.map(|value| ("mcp-param-a", value)).into_iter().collect();
            let reply = bench.modern("tools/call", "mirrored", &extra, r#"{"a":"v"}"#).await;
            assert_eq!(reply.status, status, "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_or_too_much_of_one_is_refused() {
        let bench = bench(true).await;
        for (body, status) in [("{", 400), ("[]", 400), ("", 400)] {
            assert_eq!(bench.post(&[], body).await.status, status, "{body:?}");
        }
        let large = format!(r#"{{"jsonrpc":"2.0","method":"x","params":"{}"}}"#, "x".repeat(10_000));
        assert_eq!(bench.post(&[], &large).await.status, 413);
        let many: Vec<String> = (0..HEADERS_MAX + 1).map(|n| format!("x-{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (&**name, "v")).collect();
        assert_eq!(bench.post(&many, "{}").await.status, 431);
        let long = "v".repeat(HEAD_BYTES_MAX);
        assert_eq!(bench.post(&[("x-long", &long)], "{}").await.status, 431);
    }

    #[tokio::test]
    async fn the_end_ends_every_connection_and_every_session() {
        let mut bench = bench(true).await;
        let session = bench.session().await;
        let mut standing = bench.request("GET", &[("mcp-session-id", &*session)], "").await;
        assert!(standing.chunk().await.is_some());
        bench.stop.send(()).unwrap();
        bench.served.await.unwrap();
        assert_eq!(standing.chunk().await, None);
        assert!(bench.closed.recv().await.is_some());
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_goes_with_its_front() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address: Address = format!("unix:{}", path.display()).parse().unwrap();
        let listener = Listener::bind(&address, false).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            matches!(Listener::bind(&address, false).await, Err(FrontError::Taken { .. })),
            "it is alive"
        );
        drop(listener);
        assert!(!path.exists());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead one lies there");
        let listener = Listener::bind(&address, false).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        drop(listener);
        assert!(path.exists(), "what is not our socket stays");
        assert!(matches!(Listener::bind(&address, false).await, Err(FrontError::Taken { .. })));
    }

    #[tokio::test]
    async fn nobody_outside_is_listened_to_by_accident() {
        let address: Address = "0.0.0.0:0".parse().unwrap();
        let error = Listener::bind(&address, false).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(Listener::bind(&address, true).await.is_ok());
    }
}
