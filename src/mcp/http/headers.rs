//! Pure: the headers of HTTP that MCP and our own guard read: who may ask, what is accepted, which session.
//! It knows no bodies; what of a body stands in headers is in `mirror`.

use std::net::IpAddr;

use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

/// Which session a request belongs to; revisions before 2026-07-28.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The revision that is spoken.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of the body.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The name, or the URI, of what the body asks for.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// The last event that a client has of a stream.
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Tells proxies to pass every event on at once.
pub const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
/// One message.
pub const JSON: &str = "application/json";
/// Many messages.
pub const EVENTS: &str = "text/event-stream";

/// The one value of a header, when it is visible ASCII.
///
/// # Errors
/// When it is there twice, or not readable: two readers could read two things.
pub fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("the header `{name}` is there twice"));
    }
    let text = value
        .to_str()
        .map_err(|_unsaid| format!("the header `{name}` has characters that no header may have"))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// What kinds of answer a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// One message.
    pub json: bool,
    /// A stream of them.
    pub events: bool,
    /// A stream is named before one message.
    pub events_first: bool,
}

/// Reads `Accept`. A kind with the weight 0 is none; `*/*` is both, so that a person with curl gets on.
pub fn accepted(headers: &HeaderMap) -> Accepted {
    let (mut json, mut events, mut first) = (false, false, None);
    for entry in
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','))
    {
        let mut parts = entry.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse::<f32>() == Ok(0.0))
        });
        if is_refused {
            continue;
        }
        let (is_json, is_events) = match kind.as_str() {
            "*/*" => (true, true),
            "application/*" => (true, false),
            "text/*" => (false, true),
            other => (other == JSON, other == EVENTS),
        };
        if is_json || is_events {
            first.get_or_insert(is_events && !is_json);
        }
        json |= is_json;
        events |= is_events;
    }
    Accepted { json, events, events_first: first == Some(true) }
}

/// The kind of a body, without its parameters.
pub fn kind(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next()?.trim().to_ascii_lowercase())
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().filter(|_| headers.get_all(AUTHORIZATION).iter().count() == 1)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Host names that are this machine: what a page of a foreign name that points here can never send.
fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The host of `host`, `host:port`, `[address]:port`.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => authority.split_at(end + 2),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (is_port && !host.is_empty()).then_some(host)
}

/// Who may name us, and from where pages may ask.
#[derive(Debug, Clone, Default)]
pub struct Guests {
    /// Further values of `Host`, without port.
    pub hosts: Vec<String>,
    /// Further values of `Origin`, as browsers write them.
    pub origins: Vec<String>,
    /// Whoever can open the connection is known: a unix socket, which no page of a browser reaches.
    pub any_host: bool,
}

impl Guests {
    /// Whether the `Host` of a request is one of ours. The port does not matter: a name that an attacker can
    /// point at us is foreign on every port, and a forwarded port has another number.
    pub fn host_is_known(&self, headers: &HeaderMap) -> bool {
        if self.any_host {
            return true;
        }
        let Ok(Some(host)) = one(headers, &HOST) else { return false };
        let Some(host) = host_of(host) else { return false };
        is_this_machine(host) || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// Whether a request comes from no page, from one of this machine or from one that was named.
    pub fn origin_is_known(&self, headers: &HeaderMap) -> bool {
        match one(headers, &ORIGIN) {
            Ok(None) => true,
            Ok(Some(origin)) => {
                let named = self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin));
                let rest = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
                named || rest.and_then(host_of).is_some_and(is_this_machine)
            }
            Err(_) => false,
        }
    }
}

/// A header value of text that we wrote ourselves; empty when it has a character that none may have.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        map
    }

    #[test]
    fn what_is_accepted_is_read_with_its_order_and_its_refusals() {
        for (text, json, events, events_first) in [
            ("application/json, text/event-stream", true, true, false),
            ("text/event-stream, application/json", true, true, true),
            ("text/event-stream;q=0, application/json", true, false, false),
            ("Application/JSON;charset=utf-8", true, false, false),
            ("*/*", true, true, false),
            ("text/html", false, false, false),
        ] {
            assert_eq!(
                accepted(&headers(&[("accept", text)])),
                Accepted { json, events, events_first },
                "{text}"
            );
        }
        assert!(!accepted(&HeaderMap::new()).json);
    }

    #[test]
    fn a_foreign_host_is_not_known_and_this_machine_is_on_every_port() {
        let guests = Guests { hosts: vec!["box.example".to_owned()], ..Guests::default() };
        for (host, is_known) in [
            ("localhost", true),
            ("LOCALHOST:99", true),
            ("127.0.0.1:8808", true),
            ("[::1]:8808", true),
            ("[::1]", true),
            ("Box.Example:1", true),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:80@localhost", false),
            ("localhost:x", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(guests.host_is_known(&headers(&[("host", host)])), is_known, "{host}");
        }
        assert!(!guests.host_is_known(&HeaderMap::new()), "no host at all");
        assert!(!guests.host_is_known(&headers(&[("host", "localhost"), ("host", "evil.example")])));
        assert!(Guests { any_host: true, ..Guests::default() }.host_is_known(&HeaderMap::new()));
    }

    #[test]
    fn only_pages_of_this_machine_and_named_ones_may_ask() {
        let guests = Guests { origins: vec!["https://app.example".to_owned()], ..Guests::default() };
        for (origin, is_known) in [
            ("http://localhost:3000", true),
            ("https://[::1]", true),
            ("https://app.example", true),
            ("https://app.example:444", false),
            ("https://app.example.evil.example", false),
            ("http://evil.example", false),
            ("null", false),
            ("file://", false),
            ("localhost", false),
        ] {
            assert_eq!(guests.origin_is_known(&headers(&[("origin", origin)])), is_known, "{origin}");
        }
        assert!(guests.origin_is_known(&HeaderMap::new()));
    }

    #[test]
    fn a_token_is_read_from_one_header_only() {
        assert_eq!(bearer(&headers(&[("authorization", "Bearer abc")])), Some(&b"abc"[..]));
        assert_eq!(bearer(&headers(&[("authorization", "bearer  abc ")])), Some(&b"abc"[..]));
        for list in [
            &[("authorization", "Basic abc")][..],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[],
        ] {
            assert_eq!(bearer(&headers(list)), None, "{list:?}");
        }
    }

    #[test]
    fn a_header_twice_is_no_header() {
        assert!(one(&headers(&[("mcp-name", "a"), ("mcp-name", "a")]), &NAME).is_err());
        assert_eq!(one(&headers(&[("mcp-name", "  a ")]), &NAME), Ok(Some("a")));
        let mut odd = HeaderMap::new();
        odd.insert(NAME, HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(one(&odd, &NAME).is_err());
    }
}
