//! A registry of the test's own on loopback. It has what it is given, and breaks as it is told: it can cut
//! connections, stall, lie, and hand everything else on to a real one. It is not a whole registry.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::harness::Host;
use crate::image::{Image, MANIFEST, digest};

/// How long a connection that hangs may hang: longer than any client here waits.
const HANG: Duration = Duration::from_secs(20);

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How often this method and path were asked for before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where a range begins.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// An answer, whole.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// What the registry has there, but the connection ends after so many bytes of it.
    Cut(usize),
    /// What the registry has there, but nothing more comes after so many bytes of it.
    Stall(usize),
    /// Bytes, as they are, and the end of the connection.
    Raw(Vec<u8>),
    /// These bytes again and again.
    Endless(Vec<u8>),
    /// What the real registry at this address says.
    Forward(String),
}

impl Reply {
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::Whole { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    pub(crate) fn with(status: u16, name: &'static str, value: impl Into<String>) -> Self {
        Self::Whole { status, headers: vec![(name, value.into())], body: Vec::new() }
    }
}

type Script = Box<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

struct Shared {
    /// By path: what it is called, and its bytes.
    has: Mutex<BTreeMap<String, (String, Vec<u8>)>>,
    script: Script,
    asked: Mutex<Vec<Asked>>,
    is_over: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

/// A registry that runs until it is dropped.
pub(crate) struct Fake {
    /// `127.0.0.1:port`.
    pub(crate) name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a registry has: a repository `it` and documents by tag.
#[derive(Default, Clone)]
pub(crate) struct Shelf(BTreeMap<String, (String, Vec<u8>)>);

impl Shelf {
    /// A shelf with an image under `it:latest`.
    pub(crate) fn of(image: &Image) -> Self {
        Self::default().image(image).document("latest", MANIFEST, &image.manifest)
    }

    /// The blobs and the manifest of an image, without a tag.
    pub(crate) fn image(self, image: &Image) -> Self {
        let with = image.layers.iter().fold(self.blob(&image.config), |shelf, layer| shelf.blob(layer));
        with.document(&digest(&image.manifest), MANIFEST, &image.manifest)
    }

    pub(crate) fn blob(self, bytes: &[u8]) -> Self {
        self.put(format!("/v2/it/blobs/{}", digest(bytes)), "application/octet-stream", bytes)
    }

    pub(crate) fn document(self, reference: &str, media_type: &str, bytes: &[u8]) -> Self {
        self.put(format!("/v2/it/manifests/{reference}"), media_type, bytes)
    }

    pub(crate) fn put(mut self, path: impl Into<String>, media_type: &str, bytes: &[u8]) -> Self {
        self.0.insert(path.into(), (media_type.to_owned(), bytes.to_vec()));
        self
    }
}

impl Fake {
    /// A registry that has what is on the shelf and breaks nothing.
    pub(crate) fn good(shelf: Shelf) -> Self {
        Self::new(shelf, |_| None)
    }

    /// From now on it has what is on this shelf.
    pub(crate) fn fill(&self, shelf: Shelf) {
        *self.shared.has.lock().expect("the test made it so") = shelf.0;
    }

    /// A registry that asks `script` first.
    pub(crate) fn new(
        shelf: Shelf,
        script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(shelf, script, None)
    }

    /// The same, by TLS.
    pub(crate) fn start(
        shelf: Shelf,
        script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let name = listener.local_addr().expect("it is bound").to_string();
        let shared = Arc::new(Shared {
            has: Mutex::new(shelf.0),
            script: Box::new(script),
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
            tls,
        });
        let serving = shared.clone();
        let thread = in_thread(move || {
            for stream in listener.incoming().flatten() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let serving = serving.clone();
                // Ends with its client, or after HANG.
                drop(in_thread(move || serving.connection(stream)));
            }
        });
        Self { name, shared, thread: Some(thread) }
    }

    /// `127.0.0.1:port/it`, with what follows.
    pub(crate) fn it(&self, rest: &str) -> String {
        format!("{}/it{rest}", self.name)
    }

    /// Everything that was asked for so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("the test made it so").clone()
    }

    /// What was asked for with a path that holds `part`.
    pub(crate) fn asked_for(&self, part: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.path.contains(part)).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "a server of the test, in the test's own process")]
fn in_thread(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(work)
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes it.
        drop(TcpStream::connect(&self.name));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it serves to its end");
        }
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Shared {
    fn connection(&self, stream: TcpStream) {
        stream.set_read_timeout(Some(HANG)).expect("the test made it so");
        let stream: Box<dyn Both> = match &self.tls {
            Some(config) => Box::new(StreamOwned::new(
                ServerConnection::new(config.clone()).expect("the test made it so"),
                stream,
            )),
            None => Box::new(stream),
        };
        let mut stream = BufReader::new(stream);
        while let Some(asked) = self.read(&mut stream) {
            let reply = (self.script)(&asked);
            // A client that has gone away is no matter.
            if !matches!(self.answer(stream.get_mut(), &asked, reply), Ok(true)) {
                return;
            }
        }
    }

    fn read(&self, stream: &mut BufReader<Box<dyn Both>>) -> Option<Asked> {
        let line = |stream: &mut BufReader<Box<dyn Both>>| {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            Some(line.trim_end().to_owned())
        };
        let first = line(stream)?;
        let mut words = first.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let next = line(stream)?;
            let Some((name, value)) = next.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let mut all = self.asked.lock().expect("the test made it so");
        let before = all.iter().filter(|known| known.method == method && known.path == path).count();
        let asked = Asked { method, path, headers, body, before };
        all.push(asked.clone());
        Some(asked)
    }

    /// What the shelf has there.
    fn usual(&self, asked: &Asked) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        let path = asked.path.split('?').next().unwrap_or_default();
        let has = self.has.lock().expect("the test made it so");
        let Some((media_type, bytes)) = has.get(path) else {
            let is_root = path == "/v2/";
            let body = r#"{"errors":[{"code":"UNKNOWN","message":"not here"}]}"#;
            return if is_root {
                (200, Vec::new(), b"{}".to_vec())
            } else {
                (404, Vec::new(), body.as_bytes().to_vec())
            };
        };
        let from = asked.from().min(bytes.len());
        let mut headers = vec![("content-type", media_type.clone())];
        if asked.header("range").is_none() {
            return (200, headers, bytes.clone());
        }
        headers.push(("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())));
        (206, headers, bytes[from..].to_vec())
    }

    /// Whether the connection goes on.
    fn answer(&self, out: &mut Box<dyn Both>, asked: &Asked, reply: Option<Reply>) -> std::io::Result<bool> {
        let head = |status: u16, headers: &[(&str, String)], length: usize| {
            let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{lines}\r\n").into_bytes()
        };
        match reply {
            None => {
                let (status, headers, body) = self.usual(asked);
                out.write_all(&head(status, &headers, body.len()))?;
                if asked.method != "HEAD" {
                    out.write_all(&body)?;
                }
            }
            Some(Reply::Whole { status, headers, body }) => {
                out.write_all(&head(status, &headers, body.len()))?;
                out.write_all(&body)?;
            }
            Some(Reply::Cut(bytes)) => {
                let (status, headers, body) = self.usual(asked);
                out.write_all(&head(status, &headers, body.len()))?;
                out.write_all(&body[..bytes.min(body.len())])?;
                out.flush()?;
                return Ok(false);
            }
            Some(Reply::Stall(bytes)) => {
                let (status, headers, body) = self.usual(asked);
                out.write_all(&head(status, &headers, body.len()))?;
                out.write_all(&body[..bytes.min(body.len())])?;
                out.flush()?;
                // The client gives up, or we do.
                let _left = out.read(&mut [0; 1]);
                return Ok(false);
            }
            Some(Reply::Raw(bytes)) => {
                out.write_all(&bytes)?;
                out.flush()?;
                return Ok(false);
            }
            Some(Reply::Endless(bytes)) => {
                out.write_all(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n")?;
                while !self.is_over.load(Ordering::SeqCst) {
                    out.write_all(&bytes)?;
                }
                return Ok(false);
            }
            Some(Reply::Forward(to)) => {
                forward(out, asked, &to)?;
                return Ok(false);
            }
        }
        out.flush()?;
        Ok(true)
    }
}

/// Asks the real one the same, and hands on what it says.
fn forward(out: &mut Box<dyn Both>, asked: &Asked, to: &str) -> std::io::Result<()> {
    let mut there = TcpStream::connect(to)?;
    let headers =
        asked.headers.iter().filter(|(name, _)| !matches!(name.as_str(), "connection" | "content-length"));
    let lines: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (method, path, length) = (&asked.method, &asked.path, asked.body.len());
    write!(
        there,
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n{lines}\r\n"
    )?;
    there.write_all(&asked.body)?;
    std::io::copy(&mut there, out)?;
    out.flush()
}

/// A host whose cuddy is impatient, so that a test of patience does not take long.
pub(crate) fn impatient() -> Host {
    settings(r#"{"version": 1, "patience": {"stall_s": 1, "connect_s": 5, "tries": 3}}"#)
}

/// A host with these `registries.json`.
pub(crate) fn settings(json: &str) -> Host {
    let mut host = Host::new();
    host.write("config/cuddy/registries.json", json);
    let text = host.text("config");
    host.set("XDG_CONFIG_HOME", &text);
    host
}
