//! Pure: where the HTTP front listens, as it is typed after `--http`. It opens nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{ErrorKind, Fault};

/// Longest path of a unix socket, in bytes: `sun_path` of unix(7) has 108 with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What is no place to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither an address with a port nor a socket.
    #[error("`{0}` is no address to listen at")]
    Address(String),
    /// The path of the socket is too long for the kernel, or names nothing.
    #[error("`{0}` can be no unix socket: its path has 1 to {SOCKET_PATH_BYTES_MAX} bytes")]
    Path(String),
}

impl Fault for AddressError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "write `127.0.0.1:8808`, `[::1]:8808`, `localhost:0` (any free port) or `unix:/path/of/socket`"
                .to_owned(),
        ]
    }
}

/// A place to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address of this machine and a port; port 0 is any free one.
    Tcp(SocketAddr),
    /// A socket in the file system, for its owner alone.
    Unix(PathBuf),
}

impl Address {
    /// Whether nobody outside this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let shown = || text.chars().take(200).collect::<String>();
        if let Some(path) = text.strip_prefix("unix:") {
            let is_path = !path.is_empty() && path.len() <= SOCKET_PATH_BYTES_MAX && !path.contains('\0');
            return if is_path {
                Ok(Self::Unix(PathBuf::from(path)))
            } else {
                Err(AddressError::Path(shown()))
            };
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_unsaid| AddressError::Address(shown()))?;
            return Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        text.parse().map(Self::Tcp).map_err(|_unsaid| AddressError::Address(shown()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}/mcp"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_listened_at_is_read() {
        for (text, shown, is_local) in [
            ("127.0.0.1:80", "http://127.0.0.1:80/mcp", true),
            ("[::1]:0", "http://[::1]:0/mcp", true),
            ("localhost:8808", "http://127.0.0.1:8808/mcp", true),
            ("0.0.0.0:80", "http://0.0.0.0:80/mcp", false),
            ("unix:/run/x.sock", "unix:/run/x.sock", true),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.is_local()), (shown, is_local), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for text in [
            "",
            "8808",
            ":8808",
            "example.org:80",
            "127.0.0.1",
            "localhost:",
            "localhost:99999",
            "unix:",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
