//! A running Docker, by its unix socket: which images it has, and those images as one archive. It
//! starts no Docker and changes nothing in it.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::engine::host::Host;
use crate::engine::http::{Answer, HttpError, query_value};
use crate::error::{ErrorKind, Fault};

/// Where Docker listens when nothing says where.
const SOCKET: &str = "/var/run/docker.sock";
/// Longest silence of Docker, in seconds: before it answers it writes all layers to its own disk.
const SILENCE_S: u64 = 600;
/// Longest list of images, in bytes.
const LIST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest message of an error, in bytes.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024;

/// Why Docker gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nobody answers.
    #[error("cannot reach Docker at `{socket}`")]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `DOCKER_HOST` says another way than a socket.
    #[error("DOCKER_HOST is `{host}`: only a unix socket is asked")]
    NotSocket {
        /// What it says.
        host: String,
    },
    /// It answers with an error.
    #[error("Docker refuses: {message}")]
    Refused {
        /// Its status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It answers, but not as Docker does.
    #[error("Docker does not answer as it should")]
    Http(#[source] HttpError),
    /// Its list of images is not one.
    #[error("the list of Docker's images is not one")]
    List(#[source] serde_json::Error),
    /// It has no image with a name.
    #[error("Docker has no image with a name")]
    Empty,
}

impl Fault for DockerError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorKind::Denied
            }
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::NotSocket { .. } => ErrorKind::Unsupported,
            Self::Refused { status: 404, .. } | Self::Empty => ErrorKind::NotFound,
            Self::Refused { .. } => ErrorKind::Failed,
            Self::Http(source) => source.kind(),
            Self::List(_) => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        let by_hand = "`docker save IMAGE | cuddy load` does the same wherever `docker` works".to_owned();
        match self {
            Self::Unreachable { .. } => {
                let start = "start Docker, or say where it is: `DOCKER_HOST=unix:///path`".to_owned();
                vec![start, by_hand]
            }
            Self::NotSocket { .. } => vec![by_hand],
            Self::Refused { status: 404, .. } => vec!["`docker images` lists what it has".to_owned()],
            Self::Http(_) => vec!["is it Docker that listens there?".to_owned(), by_hand],
            _ => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageJson {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct MessageJson {
    message: String,
}

/// A Docker that listens.
#[derive(Debug)]
pub struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The Docker that this host's environment names.
    ///
    /// # Errors
    /// `NotSocket`.
    pub fn of(host: &Host) -> Result<Self, DockerError> {
        let named = host.environment.get("DOCKER_HOST").filter(|named| !named.is_empty());
        let socket = match named {
            Some(named) => match named.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => PathBuf::from(path),
                _ => return Err(DockerError::NotSocket { host: named.chars().take(200).collect() }),
            },
            None => {
                let own = host.runtime.as_ref().map(|runtime| runtime.join("docker.sock"));
                let system = PathBuf::from(SOCKET);
                own.filter(|own| own.exists() && !system.exists()).unwrap_or(system)
            }
        };
        Ok(Self { socket })
    }

    /// The names of its images.
    ///
    /// # Errors
    /// [`DockerError`], `Empty` among them.
    pub fn names(&self) -> Result<Vec<String>, DockerError> {
        let answer = self.get("/images/json")?;
        let mut bytes = Vec::new();
        let read = answer.take(LIST_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|e| DockerError::Http(HttpError::Read(e)))?;
        let images: Vec<ImageJson> = serde_json::from_slice(&bytes).map_err(DockerError::List)?;
        let names = images.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default());
        let names: Vec<String> = names.filter(|name| !name.contains("<none>")).collect();
        if names.is_empty() { Err(DockerError::Empty) } else { Ok(names) }
    }

    /// The images called `names` as one archive.
    ///
    /// # Errors
    /// [`DockerError`]; reading what this gives fails when Docker stops half-way.
    pub fn archive(&self, names: &[String]) -> Result<Box<dyn Read>, DockerError> {
        let names: Vec<String> = names.iter().map(|name| format!("names={}", query_value(name))).collect();
        Ok(Box::new(self.get(&format!("/images/get?{}", names.join("&")))?))
    }

    fn get(&self, path: &str) -> Result<Answer<BufReader<UnixStream>>, DockerError> {
        let wrong = |source| DockerError::Unreachable { socket: self.socket.clone(), source };
        let mut stream = UnixStream::connect(&self.socket).map_err(wrong)?;
        let silence = Some(Duration::from_secs(SILENCE_S));
        stream.set_read_timeout(silence).and_then(|()| stream.set_write_timeout(silence)).map_err(wrong)?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: docker\r\nUser-Agent: cuddy\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(wrong)?;
        let answer = Answer::read_from(BufReader::new(stream)).map_err(DockerError::Http)?;
        if answer.status == 200 {
            return Ok(answer);
        }
        let status = answer.status;
        let mut bytes = Vec::new();
        // What it says is a courtesy: the status is enough.
        let _said = answer.take(MESSAGE_BYTES_MAX).read_to_end(&mut bytes);
        let message = serde_json::from_slice(&bytes).map(|json: MessageJson| json.message);
        Err(DockerError::Refused {
            status,
            message: message.unwrap_or_else(|_no_json| format!("status {status}")),
        })
    }
}
