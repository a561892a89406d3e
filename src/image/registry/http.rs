//! Requests to registries, blocking: certificates, proxies, redirects, retries. Every answer is hostile:
//! it is bounded, and no secret follows it to another host. It knows nothing of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::http::{HeaderMap, Method, Request as HttpRequest, Response};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, BodyReader, SendBody};

use crate::error::{ErrorKind, Fault};
use crate::image::registry::credentials::Secret;
use crate::image::registry::resolve::{Getent, ResolveError};
use crate::image::registry::settings::{Settings, Trust};
use crate::image::registry::tls::{Identity, Tls, configure};
use crate::image::registry::url::{Url, is_loopback};
use crate::sys::fs::{FsError, random_bytes, read_file};

/// Largest file of certificates, in bytes.
const CERTIFICATES_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files of certificates for one registry.
const CERTIFICATE_FILES_MAX: usize = 64;
/// Redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How much of an error is read, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 16 * 1024;
/// How much of an error is shown, in characters.
const COMPLAINT_SHOWN_MAX: usize = 300;
/// The first pause before a request is tried again, in milliseconds; each next one is twice as long.
const PAUSE_MS: u64 = 400;
/// The longest such pause, in milliseconds.
const PAUSE_MS_MAX: u64 = 20_000;
/// How often who pauses looks whether it is in vain, in milliseconds.
const SLICE_MS: u64 = 100;
/// The longest pause that a registry may ask for, in seconds.
const RETRY_AFTER_S_MAX: u64 = 90;
/// How long a small document may take, in seconds, however it drips.
const SMALL_BODY_S: u64 = 180;
/// The user agent.
const AGENT: &str = concat!("cuddy/", env!("CARGO_PKG_VERSION"));

/// Why a registry gave no answer, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A certificate, a key or an authority cannot be read.
    #[error("cannot read certificates")]
    Fs(#[from] FsError),
    /// A file of certificates holds none.
    #[error("`{path}` is not a certificate, or not its key")]
    Pem {
        /// Which file.
        path: PathBuf,
    },
    /// The proxy is no address.
    #[error("the proxy that the environment names is no address")]
    Proxy,
    /// The name of the host has no address.
    #[error("cannot find `{host}`")]
    Resolve {
        /// Which host.
        host: String,
        /// Why.
        #[source]
        source: ResolveError,
    },
    /// The connection failed.
    #[error("cannot reach `{url}`")]
    Unreachable {
        /// Where.
        url: Url,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate of the host is not accepted.
    #[error("the certificate of `{host}` is not accepted")]
    Certificate {
        /// Which host.
        host: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// It does not speak TLS.
    #[error("`{host}` does not speak TLS")]
    NoTls {
        /// Which host.
        host: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// It answered nothing for too long.
    #[error("`{url}` did not answer in {seconds} s")]
    Late {
        /// Where.
        url: Url,
        /// How long it had.
        seconds: u64,
    },
    /// What it said is not HTTP.
    #[error("`{url}` does not answer as HTTP demands")]
    Protocol {
        /// Where.
        url: Url,
        /// How not.
        #[source]
        source: ureq::Error,
    },
    /// A redirect that is not followed.
    #[error("`{url}` sends us on to where we do not go: {reason}")]
    Redirect {
        /// From where.
        url: Url,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer larger than it may be.
    #[error("the answer of `{url}` is larger than {bytes_max} bytes")]
    TooLarge {
        /// Where.
        url: Url,
        /// What was allowed.
        bytes_max: u64,
    },
    /// It refuses.
    #[error("`{url}` answers {status}{complaint}")]
    Status {
        /// Where.
        url: Url,
        /// The status of HTTP.
        status: u16,
        /// Its own words, after a colon.
        complaint: String,
    },
    /// Somebody called [`Http::stop`].
    #[error("`{url}` is no longer asked")]
    Stopped {
        /// Where.
        url: Url,
    },
    /// It has had enough of us.
    #[error("`{host}` allows no more requests now{limits}{complaint}")]
    TooMany {
        /// Which host.
        host: String,
        /// What it says of its limits.
        limits: String,
        /// Its own words, after a colon.
        complaint: String,
    },
}

impl HttpError {
    /// Whether nobody listens there.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether the same may go well a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } | Self::TooMany { .. } => true,
            Self::Protocol { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }
}

impl Fault for HttpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(source) => source.kind(),
            Self::Pem { .. } | Self::Proxy => ErrorKind::Usage,
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Late { .. } | Self::NoTls { .. } => {
                ErrorKind::Unreachable
            }
            Self::Certificate { .. } | Self::Redirect { .. } => ErrorKind::Denied,
            Self::Protocol { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } | Self::TooMany { .. } => ErrorKind::Limit,
            Self::Status { status: 401 | 403, .. } => ErrorKind::Denied,
            Self::Status { status: 404, .. } => ErrorKind::NotFound,
            Self::Status { .. } | Self::Stopped { .. } => ErrorKind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Resolve { source: ResolveError::NoGetent, .. } => {
                vec!["install it (Debian: `libc-bin`), or write the address of the registry".to_owned()]
            }
            Self::Certificate { host, .. } => vec![format!(
                "put the authority that signed it into `/etc/docker/certs.d/{host}/ca.crt` or `~/.config/containers/certs.d/{host}/ca.crt`"
            )],
            Self::NoTls { host, .. } => vec![format!(
                r#"if it has none on purpose: `{{"version": 1, "registries": {{"{host}": {{"insecure": true}}}}}}` in `registries.json` (docs/images.md)"#
            )],
            Self::TooMany { .. } => vec![
                "wait, or log in: registries allow more to who says who he is (`cuddy login`)".to_owned(),
                "a mirror in `registries.json` takes requests off the registry (docs/images.md)".to_owned(),
            ],
            Self::Status { status: 401 | 403, .. } => vec!["`cuddy login` says who you are".to_owned()],
            _ => Vec::new(),
        }
    }
}

/// What the host lends us for the network.
#[derive(Debug, Default)]
pub struct Network {
    /// Where `getent` is.
    pub getent: Option<PathBuf>,
    /// Files of the host's certificate authorities; the first that is there counts.
    pub authorities: Vec<PathBuf>,
    /// `certs.d` folders, each with a folder for each registry.
    pub certs_dirs: Vec<PathBuf>,
    /// Proxy for https.
    pub https_proxy: Option<Secret>,
    /// Proxy for http.
    pub http_proxy: Option<Secret>,
    /// Hosts that are reached without one, separated by commas.
    pub no_proxy: String,
}

/// What goes with a request.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A part of a file.
    Part {
        /// Which file.
        file: &'a File,
        /// Where the part begins.
        from: u64,
        /// How many bytes it has.
        bytes: u64,
        /// Who is told how many bytes of the file have gone.
        told: &'a (dyn Fn(u64) + Sync),
    },
}

/// Tells how much was read through it.
struct Told<'a, R> {
    inner: R,
    done_bytes: u64,
    told: &'a (dyn Fn(u64) + Sync),
}

impl<R: Read> Read for Told<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.done_bytes += read as u64;
        (self.told)(self.done_bytes);
        Ok(read)
    }
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// GET, HEAD, POST, PUT, PATCH.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// `Authorization`, for this host alone.
    pub authorization: Option<Secret>,
    /// The body.
    pub payload: Payload<'a>,
}

impl Request<'_> {
    /// A request without headers and body.
    pub fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), authorization: None, payload: Payload::None }
    }

    /// A GET.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Whether sending it twice does no harm.
    fn is_repeatable(&self) -> bool {
        self.method != Method::PATCH && !matches!(self.payload, Payload::Part { .. })
    }
}

/// An answer whose body was not read yet.
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// Where it came from in the end.
    pub url: Url,
    headers: HeaderMap,
    body: BodyReader<'static>,
}

impl Answer {
    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Every header of that name that is text.
    pub fn headers<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The body, to be read as it comes.
    pub fn into_reader(self) -> impl Read + Send {
        self.body
    }

    /// The whole body, when it is small.
    ///
    /// # Errors
    /// `TooLarge`, `Late`, or what broke.
    pub fn bytes(mut self, bytes_max: u64) -> Result<Vec<u8>, HttpError> {
        let deadline = Instant::now() + Duration::from_secs(SMALL_BODY_S);
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let read = self.body.read(&mut buffer).map_err(|e| broken(&self.url, e))?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..read]);
            if bytes.len() as u64 > bytes_max {
                return Err(HttpError::TooLarge { url: self.url, bytes_max });
            }
            if Instant::now() > deadline {
                return Err(HttpError::Late { url: self.url, seconds: SMALL_BODY_S });
            }
        }
    }

    /// The answer when it is one of `expected`, its complaint otherwise.
    ///
    /// # Errors
    /// `Status` or `TooMany`.
    pub fn expect(self, expected: &[u16]) -> Result<Self, HttpError> {
        if expected.contains(&self.status) { Ok(self) } else { Err(self.refusal()) }
    }

    /// The answer as an error.
    pub fn refusal(mut self) -> HttpError {
        let mut bytes = Vec::new();
        // What cannot be read is not shown: the status alone says enough.
        let _read = (&mut self.body).take(COMPLAINT_BYTES_MAX).read_to_end(&mut bytes);
        let complaint = complaint(&bytes);
        if self.status != 429 {
            return HttpError::Status { url: self.url, status: self.status, complaint };
        }
        let of = |name: &str| self.header(name).map(|value| value.chars().take(60).collect::<String>());
        let mut limits = String::new();
        for (name, text) in [
            ("ratelimit-limit", "its limit"),
            ("ratelimit-remaining", "what is left"),
            ("retry-after", "it says to wait, in seconds"),
        ] {
            if let Some(value) = of(name) {
                limits.push_str(&format!("; {text}: {value}"));
            }
        }
        HttpError::TooMany { host: self.url.authority().to_owned(), limits, complaint }
    }
}

/// What a registry complains of: `{"errors": [{"code", "message"}]}`, or `{"details"}` of token servers.
fn complaint(bytes: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let error = &json["errors"][0];
    let words = [&error["message"], &error["code"], &json["details"], &json["message"], &json["error"]];
    let text = words.iter().find_map(|word| word.as_str().filter(|text| !text.is_empty()));
    text.map_or_else(String::new, |text| {
        format!(": {}", text.chars().take(COMPLAINT_SHOWN_MAX).collect::<String>())
    })
}

/// Speaks HTTP. One for all registries of a command; what it needs is made when it is first needed.
pub struct Http {
    network: Network,
    /// What the user said about registries.
    pub settings: Settings,
    getent: Arc<Getent>,
    roots: OnceLock<Vec<CertificateDer<'static>>>,
    agents: Mutex<BTreeMap<(String, bool, Trust), Agent>>,
    is_stopped: AtomicBool,
}

/// One resolver for all agents.
#[derive(Debug)]
struct Shared(Arc<Getent>);

impl ureq::unversioned::resolver::Resolver for Shared {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: ureq::unversioned::transport::NextTimeout,
    ) -> Result<ureq::unversioned::resolver::ResolvedSocketAddrs, ureq::Error> {
        self.0.resolve(uri, config, timeout)
    }
}

impl Http {
    /// Makes nothing yet.
    pub fn new(network: Network, settings: Settings) -> Self {
        let getent = Arc::new(Getent::new(network.getent.clone()));
        let (roots, agents, is_stopped) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Self { network, settings, getent, roots, agents, is_stopped }
    }

    /// Ends every connection, also those that other threads wait for, and every pause between tries.
    /// Nothing more is asked for until [`Http::go_on`].
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        let agents =
            std::mem::take(&mut *self.agents.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        agents.into_values().for_each(Agent::shutdown);
    }

    /// Lets requests be sent again: for the next place, when all who were stopped have ended.
    pub fn go_on(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
    }

    /// Whether somebody stopped it.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// Sleeps for `pause`, or until somebody stops it.
    pub fn wait(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.is_stopped() {
            let slice = left.min(Duration::from_millis(SLICE_MS));
            std::thread::sleep(slice);
            left -= slice;
        }
    }

    /// Sends a request, again when it was in vain and may be repeated. Any status is an answer but
    /// those that pass.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn send(&self, request: &Request<'_>) -> Result<Answer, HttpError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let mut asked_pause = None;
            let error = match self.follow(request) {
                Ok(answer) if matches!(answer.status, 408 | 429 | 500 | 502 | 503 | 504) => {
                    asked_pause = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
                    answer.refusal()
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let is_last = tried >= self.settings.patience.tries || !request.is_repeatable();
            if is_last || !error.is_passing() || asked_pause.is_some_and(|s: u64| s > RETRY_AFTER_S_MAX) {
                return Err(error);
            }
            self.wait(asked_pause.map_or_else(|| pause(tried), Duration::from_secs));
        }
    }

    /// Sends a request once, and goes where it is sent on to.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn follow(&self, request: &Request<'_>) -> Result<Answer, HttpError> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.once(request, &url)?;
            let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            let may_follow = request.method == Method::GET || request.method == Method::HEAD;
            let Some(location) = answer.header("location").filter(|_| is_redirect && may_follow) else {
                return Ok(answer);
            };
            let refuse = |reason: String| HttpError::Redirect { url: url.clone(), reason };
            let next = url.join(location).map_err(|e| refuse(e.to_string()))?;
            if url.is_https() && !next.is_https() {
                return Err(refuse(format!("`{next}` is without TLS")));
            }
            url = next;
        }
        Err(HttpError::Redirect {
            url: request.url.clone(),
            reason: format!("more than {REDIRECTS_MAX} times"),
        })
    }

    fn once(&self, request: &Request<'_>, url: &Url) -> Result<Answer, HttpError> {
        let agent = self.agent(url)?;
        let protocol = |source| HttpError::Protocol { url: url.clone(), source };
        let mut builder = HttpRequest::builder().method(request.method.clone()).uri(url.whole());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        // A secret is for the host that it was made for.
        if let Some(secret) = request.authorization.as_ref().filter(|_| url.is_same_origin(&request.url)) {
            builder = builder.header("authorization", secret.reveal());
        }
        let answered: Result<Response<Body>, ureq::Error> = match request.payload {
            Payload::None if matches!(request.method, Method::GET | Method::HEAD) => {
                agent.run(builder.body(()).map_err(|e| protocol(e.into()))?)
            }
            Payload::None => agent.run(builder.body(&b""[..]).map_err(|e| protocol(e.into()))?),
            Payload::Bytes(bytes) => agent.run(builder.body(bytes).map_err(|e| protocol(e.into()))?),
            Payload::Part { file, from, bytes, told } => {
                let wrong = |e| HttpError::Fs(FsError::new("read", "a layer", e));
                let mut file = file.try_clone().map_err(wrong)?;
                file.seek(SeekFrom::Start(from)).map_err(wrong)?;
                let mut part = Told { inner: file.take(bytes), done_bytes: from, told };
                let builder = builder.header("content-length", bytes);
                let body = SendBody::from_reader(&mut part);
                agent.run(builder.body(body).map_err(|e| protocol(e.into()))?)
            }
        };
        let (parts, body) = answered.map_err(|e| self.wrong(url, e))?.into_parts();
        let body = body.into_with_config().limit(u64::MAX).reader();
        Ok(Answer { status: parts.status.as_u16(), url: url.clone(), headers: parts.headers, body })
    }

    fn wrong(&self, url: &Url, error: ureq::Error) -> HttpError {
        let patience = &self.settings.patience;
        let late = |seconds| HttpError::Late { url: url.clone(), seconds };
        match error {
            ureq::Error::Io(source) => broken_tls(url, source),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => late(patience.connect_s),
            ureq::Error::Timeout(_) => late(patience.stall_s),
            ureq::Error::Other(other) => match other.downcast::<ResolveError>() {
                Ok(source) => HttpError::Resolve { host: url.host().to_owned(), source: *source },
                Err(other) => HttpError::Protocol { url: url.clone(), source: ureq::Error::Other(other) },
            },
            // Its text is the address, with what must not be shown.
            ureq::Error::BadUri(_) => {
                HttpError::Protocol { url: url.clone(), source: ureq::Error::HostNotFound }
            }
            source => HttpError::Protocol { url: url.clone(), source },
        }
    }

    fn agent(&self, url: &Url) -> Result<Agent, HttpError> {
        let trust = self.settings.trust(url.authority());
        let key = (url.authority().to_owned(), url.is_https(), trust);
        let mut agents = self.agents.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Looked at under the lock: who stops takes every agent, and none is made afterwards.
        if self.is_stopped() {
            return Err(HttpError::Stopped { url: url.clone() });
        }
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let stall = Duration::from_secs(self.settings.patience.stall_s);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(AGENT)
            .accept_encoding("identity")
            .max_response_header_size(HEAD_BYTES_MAX)
            .timeout_connect(Some(Duration::from_secs(self.settings.patience.connect_s)))
            .timeout_per_read(Some(stall))
            .timeout_per_write(Some(stall))
            // However slowly its head drips.
            .timeout_recv_response(Some(stall * 2))
            .proxy(self.proxy(url)?)
            .build();
        let resolver = Shared(self.getent.clone());
        let plain = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        let agent = if url.is_https() {
            let host = || url.authority().to_owned();
            let identity = self.identity(url.authority())?;
            let config_of_tls = configure(identity, trust)
                .map_err(|source| HttpError::Certificate { host: host(), source })?;
            Agent::with_parts(config, plain.chain(Tls(config_of_tls)), resolver)
        } else {
            Agent::with_parts(config, plain, resolver)
        };
        agents.insert(key, agent.clone());
        Ok(agent)
    }

    fn proxy(&self, url: &Url) -> Result<Option<ureq::Proxy>, HttpError> {
        let proxy = if url.is_https() { &self.network.https_proxy } else { &self.network.http_proxy };
        let Some(proxy) = proxy.as_ref().filter(|_| !is_excepted(url.host(), &self.network.no_proxy)) else {
            return Ok(None);
        };
        // Its text may hold a password, so the error does not have it.
        ureq::Proxy::new(proxy.reveal()).map(Some).map_err(|_unsaid| HttpError::Proxy)
    }

    fn identity(&self, authority: &str) -> Result<Identity, HttpError> {
        let authorities = match self.roots.get() {
            Some(roots) => roots.clone(),
            None => {
                let found = self.network.authorities.iter().find(|path| path.is_file());
                let roots = found.map(|path| certificates(path)).transpose()?.unwrap_or_default();
                self.roots.get_or_init(|| roots).clone()
            }
        };
        let mut identity = Identity { authorities, named: Vec::new(), client: None };
        if let Some(path) = self.settings.ca(authority) {
            identity.named.extend(certificates(path)?);
        }
        for dir in self.network.certs_dirs.iter().map(|dir| dir.join(authority)) {
            for path in files_in(&dir, "crt") {
                identity.named.extend(certificates(&path)?);
            }
            for path in files_in(&dir, "cert") {
                identity.client = Some((certificates(&path)?, key(&path.with_extension("key"))?));
            }
        }
        Ok(identity)
    }
}

/// A pause before try `tried + 1`: twice as long each time, and not the same for all who wait.
pub fn pause(tried: u32) -> Duration {
    let whole = PAUSE_MS.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(PAUSE_MS_MAX);
    let mut random = [0; 2];
    // Without randomness the pause is only less well chosen.
    let _filled = random_bytes(&mut random);
    Duration::from_millis(whole / 2 + u64::from(u16::from_ne_bytes(random)) * (whole / 2) / 65_535)
}

/// What broke while a body was read or a connection was made.
pub fn broken(url: &Url, source: io::Error) -> HttpError {
    let is_late = source.get_ref().and_then(|e| e.downcast_ref::<ureq::Error>());
    match is_late {
        Some(ureq::Error::Timeout(_)) => HttpError::Unreachable {
            url: url.clone(),
            source: io::Error::new(io::ErrorKind::TimedOut, "it sends nothing more"),
        },
        _ => HttpError::Unreachable { url: url.clone(), source },
    }
}

/// The same when a handshake may have been under way: rustls tells its errors inside of others.
fn broken_tls(url: &Url, source: io::Error) -> HttpError {
    let inner = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()).cloned();
    let host = url.authority().to_owned();
    match inner {
        Some(source @ rustls::Error::InvalidMessage(_)) => HttpError::NoTls { host, source },
        Some(source) => HttpError::Certificate { host, source },
        None => broken(url, source),
    }
}

/// The certificates in a file of PEM.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let pem = read_file(path, CERTIFICATES_BYTES_MAX)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if found.is_empty() { Err(HttpError::Pem { path: path.to_owned() }) } else { Ok(found) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, HttpError> {
    let pem = read_file(path, CERTIFICATES_BYTES_MAX)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_unsaid| HttpError::Pem { path: path.to_owned() })
}

/// The files of a folder with one ending, in order; none when there is no such folder.
fn files_in(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .take(CERTIFICATE_FILES_MAX)
        .collect();
    found.sort();
    found
}

/// Whether `NO_PROXY` names the host: itself, a domain above it, or all. This machine needs none.
fn is_excepted(host: &str, no_proxy: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let names = |entry: &str| {
        let entry = entry.trim().to_ascii_lowercase();
        let entry =
            entry.split(':').next().unwrap_or_default().trim_start_matches("*.").trim_start_matches('.');
        !entry.is_empty() && (host == entry || host.ends_with(&format!(".{entry}")))
    };
    is_loopback(&host) || no_proxy.split(',').any(|entry| entry.trim() == "*" || names(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_curl_and_go_read_it() {
        for (host, list, is) in [
            ("registry.example.com", "example.com", true),
            ("registry.example.com", ".example.com", true),
            ("registry.example.com", "a, *.example.com:443", true),
            ("badexample.com", "example.com", false),
            ("r.other", "*", true),
            ("r.other", "", false),
            ("127.0.0.1", "", true),
        ] {
            assert_eq!(is_excepted(host, list), is, "{host} {list}");
        }
    }

    #[test]
    fn complaints_are_read_and_shortened() {
        let text = |json: &str| complaint(json.as_bytes());
        assert_eq!(text(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), ": no");
        assert_eq!(text(r#"{"errors":[{"code":"DENIED"}]}"#), ": DENIED");
        assert_eq!(text(r#"{"details":"incorrect"}"#), ": incorrect");
        assert_eq!(text("<html>"), "");
        assert!(text(&format!(r#"{{"message":"{}"}}"#, "x".repeat(9000))).len() < 400);
    }

    #[test]
    fn nothing_is_asked_after_a_stop_until_it_goes_on() {
        let http = Http::new(Network::default(), Settings::default());
        let url: Url = "http://no.such.host.invalid/".parse().unwrap();
        let ask = || http.send(&Request::get(url.clone())).err().unwrap();
        http.stop();
        assert!(matches!(ask(), HttpError::Stopped { .. }));
        // Longer than any test: it must not be waited for.
        http.wait(Duration::from_secs(u64::MAX));
        http.go_on();
        assert!(!matches!(ask(), HttpError::Stopped { .. }));
    }

    #[test]
    fn pauses_grow_and_end_somewhere() {
        for tried in [1, 2, 3, 30, u32::MAX] {
            let pause = pause(tried);
            let whole = PAUSE_MS.saturating_mul(1 << (tried - 1).min(16)).min(PAUSE_MS_MAX);
            assert!(pause >= Duration::from_millis(whole / 2) && pause <= Duration::from_millis(whole));
        }
    }
}
