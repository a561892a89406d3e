//! Connections to a server that is reached by HTTP: over TCP, TLS or a unix socket, kept for the next
//! request. No redirect leaves the host that was named, and every wait has a deadline. It reads no messages.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, LOCATION};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::engine::remote::Remote;
use crate::error::{Error, ErrorKind, Fault};
use crate::mcp::http::headers::value;
use crate::mcp::http::patience::Patient;
use crate::mcp::http::target::{Place, Target, may_connect};

/// How long a connection to one address may take, with its TLS, in seconds.
const CONNECT_S: u64 = 15;
/// How long the head of an answer may take, in seconds: a call may answer only when its tool is done. The
/// hub gives up earlier, by the server's own limit.
const ANSWER_S: u64 = 2 * 60 * 60;
/// Head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of an answer.
const HEADERS_MAX: usize = 128;
/// Connections that are kept for the next request.
const KEPT_MAX: usize = 8;
/// Redirects of one request.
const REDIRECTS_MAX: usize = 3;
/// The path of a server behind a unix socket.
const SOCKET_PATH: &str = "/mcp";

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Its name has no address, or the certificates of the host cannot be read.
    #[error("{0}")]
    Host(Error),
    /// Its name leads to where nobody is to be asked.
    #[error("`{place}` leads to the address {address}, which no name may lead to")]
    Address {
        /// Which server.
        place: String,
        /// Where.
        address: IpAddr,
    },
    /// Nobody answers there.
    #[error("cannot reach `{place}`")]
    Unreachable {
        /// Which server.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It sends us elsewhere.
    #[error("`{place}` sends us on to `{to}`, where the secrets of its configuration do not go")]
    Redirect {
        /// Which server.
        place: String,
        /// Where to.
        to: String,
    },
    /// What it says is not HTTP, or it broke off.
    #[error("`{place}` broke off")]
    Protocol {
        /// Which server.
        place: String,
        /// How.
        #[source]
        source: hyper::Error,
    },
    /// It gave no answer in time.
    #[error("`{place}` gave no answer in {seconds} s")]
    Late {
        /// Which server.
        place: String,
        /// How long it had.
        seconds: u64,
    },
    /// Our own request is none.
    #[error("cannot put a request to `{place}` together")]
    Request {
        /// Which server.
        place: String,
        /// Why.
        #[source]
        source: hyper::http::Error,
    },
}

impl Fault for WireError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Host(error) => error.kind,
            Self::Address { .. } | Self::Redirect { .. } => ErrorKind::Denied,
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                ErrorKind::Denied
            }
            Self::Unreachable { .. } | Self::Late { .. } => ErrorKind::Unreachable,
            Self::Protocol { .. } => ErrorKind::Corrupt,
            Self::Request { .. } => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Host(error) => error.hints.clone(),
            Self::Redirect { to, .. } => vec![format!("if that is the server, write `{to}` as its `url`")],
            Self::Address { .. } => vec!["write the address itself as the `url` if it is meant".to_owned()],
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
                vec!["`SSL_CERT_FILE=FILE` names another file of authorities than the host's".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// The way to one server.
pub struct Wire {
    /// Which, and what goes with every request.
    pub target: Target,
    remote: Arc<Remote>,
    tls: OnceCell<TlsConnector>,
    kept: Mutex<Vec<Sender>>,
    /// The path that a redirect told, once one did.
    path: Mutex<Option<String>>,
}

/// A request that can be put together again for another connection.
pub struct Asked<'a> {
    /// GET, POST or DELETE.
    pub method: hyper::Method,
    /// Its headers besides those of the target.
    pub headers: &'a hyper::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Wire {
    /// Connects to nothing yet.
    pub fn new(target: Target, remote: Arc<Remote>) -> Self {
        Self { target, remote, tls: OnceCell::new(), kept: Mutex::default(), path: Mutex::default() }
    }

    fn place(&self) -> String {
        self.target.place.to_string()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`WireError`].
    pub async fn send(&self, asked: &Asked<'_>) -> Result<Response<Incoming>, WireError> {
        for _ in 0..=REDIRECTS_MAX {
            let answer = timeout(Duration::from_secs(ANSWER_S), self.once(asked)).await;
            let answer =
                answer.map_err(|_late| WireError::Late { place: self.place(), seconds: ANSWER_S })??;
            let is_moved =
                matches!(answer.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            if !is_moved && !answer.status().is_redirection() {
                return Ok(answer);
            }
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            let path = self.path_there(to).filter(|_| is_moved);
            let elsewhere =
                || WireError::Redirect { place: self.place(), to: to.chars().take(200).collect() };
            *self.path.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.ok_or_else(elsewhere)?);
        }
        Err(WireError::Redirect { place: self.place(), to: "itself".to_owned() })
    }

    /// The path of an address at the same host.
    fn path_there(&self, to: &str) -> Option<String> {
        match &self.target.place {
            Place::Net(url) => {
                url.join(to).ok().filter(|next| next.is_same_origin(url)).map(|next| next.path().to_owned())
            }
            Place::Unix(_) => to.starts_with('/').then(|| to.to_owned()),
        }
    }

    fn request(&self, asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, WireError> {
        let moved = self.path.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (path, host) = match &self.target.place {
            Place::Net(url) => (url.path(), url.authority()),
            Place::Unix(_) => (SOCKET_PATH, "localhost"),
        };
        let wrong = |source| WireError::Request { place: self.place(), source };
        let uri: Uri =
            moved.as_deref().unwrap_or(path).parse().map_err(|e| wrong(hyper::http::Error::from(e)))?;
        let mut request = Request::new(Full::new(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.extend(self.target.headers.clone());
        headers.extend(asked.headers.clone());
        headers.insert(HOST, value(host));
        Ok(request)
    }

    async fn once(&self, asked: &Asked<'_>) -> Result<Response<Incoming>, WireError> {
        let broke = |source| WireError::Protocol { place: self.place(), source };
        let mut request = self.request(asked)?;
        if let Some(mut kept) = self.kept() {
            match kept.try_send_request(request).await {
                Ok(answer) => {
                    self.keep(kept);
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    // Closed before a byte of it was sent: as if it had never been tried.
                    Some(back) => request = back,
                    None => return Err(broke(failed.into_error())),
                },
            }
        }
        let mut fresh = self.connect().await?;
        let answer = fresh.send_request(request).await.map_err(broke)?;
        self.keep(fresh);
        Ok(answer)
    }

    fn kept(&self) -> Option<Sender> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|sender| !sender.is_closed());
        let at = kept.iter().position(Sender::is_ready)?;
        Some(kept.swap_remove(at))
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(sender);
        }
    }

    async fn connect(&self) -> Result<Sender, WireError> {
        match &self.target.place {
            Place::Unix(path) => {
                let connected = timeout(Duration::from_secs(CONNECT_S), UnixStream::connect(path)).await;
                self.speak(self.in_time(connected)?).await
            }
            Place::Net(url) => {
                let mut last = None;
                for address in self.addresses(url.host()).await? {
                    let port = port_of(url.authority()).unwrap_or(if url.is_https() { 443 } else { 80 });
                    match self
                        .connect_to(SocketAddr::new(address, port), url.is_https().then(|| url.host()))
                        .await
                    {
                        // Whose certificate is not accepted at one address is not asked at another.
                        Err(error) if error.kind() == ErrorKind::Denied => return Err(error),
                        Err(error) => last = Some(error),
                        good => return good,
                    }
                }
                self.remote.forget(url.host());
                let nobody = || self.unreachable(io::ErrorKind::AddrNotAvailable.into());
                Err(last.unwrap_or_else(nobody))
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> WireError {
        WireError::Unreachable { place: self.place(), source }
    }

    fn in_time<T>(&self, done: Result<io::Result<T>, tokio::time::error::Elapsed>) -> Result<T, WireError> {
        let late = |_| WireError::Late { place: self.place(), seconds: CONNECT_S };
        done.map_err(late)?.map_err(|source| self.unreachable(source))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, WireError> {
        let (remote, name) = (Arc::clone(&self.remote), host.to_owned());
        // It waits for a program of the host.
        let found = tokio::task::spawn_blocking(move || remote.addresses(&name)).await;
        let found = found.map_err(|e| self.unreachable(io::Error::other(e)))?.map_err(WireError::Host)?;
        let is_written = host.parse::<IpAddr>().is_ok();
        match found.iter().find(|address| !may_connect(is_written, **address)) {
            Some(address) => Err(WireError::Address { place: self.place(), address: *address }),
            None => Ok(found),
        }
    }

    async fn connect_to(&self, address: SocketAddr, tls: Option<&str>) -> Result<Sender, WireError> {
        let limit = Duration::from_secs(CONNECT_S);
        let stream = self.in_time(timeout(limit, TcpStream::connect(address)).await)?;
        // A request is one write; what delays it helps nobody.
        drop(stream.set_nodelay(true));
        let Some(host) = tls else { return self.speak(stream).await };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|e| self.unreachable(io::Error::new(io::ErrorKind::InvalidInput, e)))?;
        let connector = self.tls().await?;
        let stream = self.in_time(timeout(limit, connector.connect(name, stream)).await)?;
        self.speak(stream).await
    }

    async fn tls(&self) -> Result<TlsConnector, WireError> {
        let made = self.tls.get_or_try_init(|| async {
            let mut roots = RootCertStore::empty();
            let authorities = self.remote.authorities().map_err(WireError::Host)?;
            // One that cannot be read is of no use, and no reason to refuse the others.
            let _counted = roots.add_parsable_certificates(authorities.into_iter().map(CertificateDer::from));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.map_err(|e| self.unreachable(io::Error::other(e)))?;
            let config = builder.with_root_certificates(roots).with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        made.await.cloned()
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, WireError> {
        let shaken = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(Patient::new(stream)))
            .await;
        let (sender, connection) =
            shaken.map_err(|source| WireError::Protocol { place: self.place(), source })?;
        // It ends with its last request, or with the server; whoever waits for an answer is told why.
        tokio::spawn(async { drop(connection.await) });
        Ok(sender)
    }
}

fn port_of(authority: &str) -> Option<u16> {
    let after = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    after.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_addresses_are_not_taken_for_ports() {
        for (authority, port) in [("h", None), ("h:81", Some(81)), ("[::1]", None), ("[::1]:82", Some(82))] {
            assert_eq!(port_of(authority), port, "{authority}");
        }
    }
}
