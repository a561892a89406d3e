//! Pure: addresses of registries, `http` and `https` only. One without a name, with a user in it or
//! with a character that could end a request line is none.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 16 * 1024;

/// What is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address of http or https")]
pub struct UrlError {
    /// What was given, shortened, without its query: signatures stand there.
    pub text: String,
}

/// An address: `scheme://authority/path?query`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Url {
    is_https: bool,
    authority: String,
    /// Path and query, beginning with `/`.
    rest: String,
}

impl Url {
    /// The address of a host and its port; `rest` begins with `/`.
    ///
    /// # Errors
    /// [`UrlError`] when the host is none.
    pub fn new(is_https: bool, authority: &str, rest: &str) -> Result<Self, UrlError> {
        format!("{}://{authority}{rest}", if is_https { "https" } else { "http" }).parse()
    }

    /// Whether it is reached by TLS.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// Host and port, as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, without port and brackets.
    pub fn host(&self) -> &str {
        host_of(&self.authority)
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.rest
    }

    /// Whether a secret for the one may be told to the other: the same host by the same way.
    pub fn is_same_origin(&self, other: &Self) -> bool {
        self.is_https == other.is_https && self.authority.eq_ignore_ascii_case(&other.authority)
    }

    /// Another path of the same host.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn at(&self, rest: &str) -> Result<Self, UrlError> {
        Self::new(self.is_https, &self.authority, rest)
    }

    /// Where a `Location` of an answer from here leads.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if location.starts_with("//") {
            return format!("{}:{location}", if self.is_https { "https" } else { "http" }).parse();
        }
        if location.starts_with('/') {
            return self.at(location);
        }
        if location.contains("://") {
            return location.parse();
        }
        let path = self.rest.split('?').next().unwrap_or("/");
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        self.at(&format!("{folder}{location}"))
    }

    /// The same with one more pair in its query.
    #[must_use]
    pub fn with_query(&self, name: &str, value: &str) -> Self {
        let sign = if self.rest.contains('?') { '&' } else { '?' };
        let rest = format!("{}{sign}{}={}", self.rest, encode(name), encode(value));
        Self { rest, ..self.clone() }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let shown = text.split('?').next().unwrap_or_default();
        // A user before `@` is a secret, too.
        let shown = if shown.contains('@') { "…" } else { shown };
        let wrong = || UrlError { text: shown.chars().take(200).collect() };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(wrong()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        let is_printable = rest.bytes().all(|b| b.is_ascii_graphic());
        if text.len() > URL_BYTES_MAX || !is_authority(authority) || !is_printable {
            return Err(wrong());
        }
        Ok(Self { is_https, authority: authority.to_owned(), rest })
    }
}

impl fmt::Display for Url {
    /// Without the query: that is where signed addresses have their secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.rest.split('?').next().unwrap_or_default();
        write!(f, "{}://{}{path}", if self.is_https { "https" } else { "http" }, self.authority)
    }
}

impl Url {
    /// The whole text, to be asked for and never to be shown.
    pub fn whole(&self) -> String {
        format!("{}://{}{}", if self.is_https { "https" } else { "http" }, self.authority, self.rest)
    }
}

/// The host of `host[:port]`.
pub fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or(authority),
    }
}

/// Whether a host is this machine: its traffic never leaves it.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_authority(text: &str) -> bool {
    let host = host_of(text);
    let after = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, after)) if address.parse::<std::net::Ipv6Addr>().is_ok() => after,
        Some(_) => return false,
        None => &text[host.len()..],
    };
    let is_named = !host.is_empty()
        && !host.starts_with(['-', '.'])
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    is_named && (after.is_empty() || after.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()))
}

/// What a query may hold without changing its meaning.
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_taken_apart() {
        let address = url("HTTPS://Host.example:8443/a/b?c=d#e");
        assert_eq!(
            (address.is_https(), address.authority(), address.host()),
            (true, "Host.example:8443", "Host.example")
        );
        assert_eq!(address.path(), "/a/b?c=d");
        assert_eq!(url("http://[::1]:5000").host(), "::1");
        assert_eq!(url("http://h").path(), "/");
        assert_eq!(url("http://h?x").path(), "/?x");
    }

    #[test]
    fn a_location_leads_where_browsers_would_go() {
        let from = url("https://h:1/v2/a/blobs/uploads/?x=1");
        for (location, to) in [
            ("https://cdn/x?y", "https://cdn/x?y"),
            ("/v2/z", "https://h:1/v2/z"),
            ("//other/z", "https://other/z"),
            ("uuid?state=1", "https://h:1/v2/a/blobs/uploads/uuid?state=1"),
        ] {
            assert_eq!(from.join(location).unwrap().whole(), to);
        }
        assert!(from.join("ftp://h/").is_err());
        assert!(from.join("/a b").is_err() && from.join("/a\r\nHost: x").is_err());
    }

    #[test]
    fn what_could_deceive_is_no_address() {
        for text in [
            "",
            "h",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://u:p@h/",
            "http://h:99999/",
            "http://h:/",
            "http://-h/",
            "http://h h/",
            "http://[::1/",
            "http://[x]:1/",
            "http://h\\x/",
            "gopher://h/",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        let error = "ftp://user:secret@h/?sig=hidden".parse::<Url>().unwrap_err().to_string();
        assert!(!error.contains("secret") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn a_query_is_encoded_and_never_shown() {
        let address = url("https://h/t?a=b").with_query("scope", "repository:a/b:pull,push&x");
        assert_eq!(address.path(), "/t?a=b&scope=repository:a/b:pull%2Cpush%26x");
        assert_eq!(address.to_string(), "https://h/t");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, is) in [
            ("localhost", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("127.0.0.1.evil.org", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), is, "{host}");
        }
    }
}
