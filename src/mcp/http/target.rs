//! Pure: where a server is that is reached by HTTP, and what is sent to it with every request. It connects
//! to nothing.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{ErrorKind, Fault};
use crate::image::registry::url::{Url, UrlError, is_loopback};

/// Headers that belong to the protocol: a configuration has no say in them.
const OURS: [&str; 14] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Further headers of one server.
const HEADERS_MAX: usize = 64;

/// Why a server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No address.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A socket without a path.
    #[error("`{0}` names no socket")]
    Socket(String),
    /// A header that cannot be sent.
    #[error("the header `{0}` cannot be sent with every request")]
    Header(String),
    /// Secrets that anybody on the way could read.
    #[error("`{0}` would send the headers of its configuration in the clear to another machine")]
    Clear(String),
}

impl Fault for TargetError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Clear(_) => ErrorKind::Denied,
            Self::Url(_) | Self::Socket(_) | Self::Header(_) => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Clear(_) => vec!["write `https://`".to_owned()],
            Self::Socket(_) => vec!["write `unix:/path/of/socket`".to_owned()],
            Self::Url(_) | Self::Header(_) => Vec::new(),
        }
    }
}

/// The place of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host, by name or address.
    Net(Url),
    /// A socket of this machine; the path that is asked for is `/mcp`.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') && !path.contains('\0') => {
                Ok(Self::Unix(PathBuf::from(path)))
            }
            Some(_) => Err(TargetError::Socket(text.chars().take(200).collect())),
            None => Ok(Self::Net(text.parse()?)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(url) => url.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A server, and how it is asked.
#[derive(Clone)]
pub struct Target {
    /// Where.
    pub place: Place,
    /// What goes with every request; values are never shown.
    pub headers: HeaderMap,
}

impl Target {
    /// A server as a configuration names it.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn new(url: &str, headers: &[(String, String)]) -> Result<Self, TargetError> {
        let place: Place = url.parse()?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let wrong = || TargetError::Header(name.chars().take(100).collect());
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_unsaid| wrong())?;
            let mut value = HeaderValue::from_str(value).map_err(|_unsaid| wrong())?;
            if OURS.contains(&header.as_str())
                || header.as_str().starts_with("mcp-param-")
                || map.len() >= HEADERS_MAX
            {
                return Err(wrong());
            }
            value.set_sensitive(true);
            map.append(header, value);
        }
        let is_clear = matches!(&place, Place::Net(url) if !url.is_https() && !is_loopback(url.host()));
        if is_clear && !map.is_empty() {
            return Err(TargetError::Clear(place.to_string()));
        }
        Ok(Self { place, headers: map })
    }
}

/// Whether an address may be connected to. One that was written is what was meant; a name must not lead to
/// addresses that mean something else on each machine, such as the service that hands out a cloud's keys.
pub fn may_connect(is_written: bool, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_special = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    };
    is_written || !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, headers: &[(&str, &str)]) -> Result<Target, TargetError> {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Target::new(url, &headers)
    }

    #[test]
    fn secrets_travel_by_tls_or_not_at_all() {
        let secret = [("authorization", "Bearer x")];
        for (url, headers, kind) in [
            ("https://h.example/mcp", &secret[..], None),
            ("http://localhost:1/mcp", &secret, None),
            ("http://[::1]:1/mcp", &secret, None),
            ("unix:/run/s", &secret, None),
            ("http://h.example/mcp", &[], None),
            ("http://h.example/mcp", &secret, Some(ErrorKind::Denied)),
            ("http://127.0.0.1.h.example/mcp", &secret, Some(ErrorKind::Denied)),
            ("ftp://h.example/", &[], Some(ErrorKind::Usage)),
            ("unix:relative", &[], Some(ErrorKind::Usage)),
        ] {
            assert_eq!(target(url, headers).err().map(|e| e.kind()), kind, "{url}");
        }
    }

    #[test]
    fn headers_of_the_protocol_are_not_for_a_configuration() {
        for name in ["Host", "content-length", "Mcp-Session-Id", "mcp-param-x", "a b", "", "x\r\ny"] {
            assert!(target("https://h.example", &[(name, "v")]).is_err(), "{name}");
        }
        assert!(target("https://h.example", &[("x-key", "a\r\nb")]).is_err());
        let ours = target("https://h.example", &[("x-key", "secret")]).unwrap();
        assert!(!format!("{:?}", ours.headers).contains("secret"));
    }

    #[test]
    fn a_name_leads_to_no_address_that_means_this_machines_own_services() {
        for (address, is) in [
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("fe80::1", false),
            ("::", false),
            ("::ffff:169.254.169.254", false),
            ("ff02::1", false),
            ("93.184.216.34", true),
            ("127.0.0.1", true),
            ("10.0.0.1", true),
        ] {
            assert_eq!(may_connect(false, address.parse().unwrap()), is, "{address}");
            assert!(may_connect(true, address.parse().unwrap()));
        }
    }
}
