//! Pure: what the HTTP front must know of a message to answer it: what it is, which revision it speaks, what
//! its headers must repeat. Everything else stays raw, and nothing is written anew.

use std::borrow::Cow;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mcp::http::headers::{SESSION, VERSION, one};
use crate::mcp::http::mirror::{Body, name_member};

/// The first revision without `initialize`.
pub const MODERN: &str = "2026-07-28";
/// The revisions with `initialize` that a header may name.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The member of `_meta` that names the revision.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The member of `_meta` that names what the client can do.
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The body is no JSON.
pub const PARSE_ERROR: i32 = -32700;
/// The body is no message.
pub const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are wrong.
pub const INVALID_PARAMS: i32 = -32602;
/// It went wrong on our side.
pub const INTERNAL_ERROR: i32 = -32603;
/// Headers and body differ.
pub const HEADER_MISMATCH: i32 = -32020;
/// The client cannot do what the request needs.
pub const MISSING_CAPABILITY: i32 = -32021;
/// That revision is not spoken here.
pub const UNSUPPORTED_VERSION: i32 = -32022;

#[derive(Deserialize)]
struct Raw<'m> {
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'m, str>>,
    #[serde(borrow, default)]
    params: Option<&'m RawValue>,
    #[serde(borrow, default)]
    result: Option<&'m RawValue>,
    #[serde(borrow, default)]
    error: Option<&'m RawValue>,
}

#[derive(Deserialize)]
struct ErrorCode {
    code: i64,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It wants an answer.
    Request,
    /// It wants none.
    Notification,
    /// It is one.
    Response,
}

/// Why a body is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMessage {
    /// [`PARSE_ERROR`] or [`INVALID_REQUEST`].
    pub code: i32,
    /// In words.
    pub reason: String,
}

/// A message, taken apart as far as the front needs it.
pub struct Envelope<'m> {
    /// What it is.
    pub kind: Kind,
    /// The id as it is written; requests and responses.
    pub id: Option<&'m str>,
    /// The method; requests and notifications.
    pub method: Cow<'m, str>,
    params: Option<&'m RawValue>,
    error: Option<&'m RawValue>,
}

/// Takes a body apart.
///
/// # Errors
/// [`NoMessage`] when it is not one message of JSON-RPC.
pub fn read(body: &[u8]) -> Result<Envelope<'_>, NoMessage> {
    let no = |code, reason: &str| NoMessage { code, reason: reason.to_owned() };
    let raw: Raw<'_> = serde_json::from_slice(body).map_err(|e| {
        let code = if e.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
        no(code, &format!("the body is no message: {e}"))
    })?;
    let id = raw.id.map(RawValue::get);
    let is_id = |id: &str| id.starts_with(['"', '-']) || id.starts_with(|c: char| c.is_ascii_digit());
    if !id.is_none_or(is_id) {
        return Err(no(INVALID_REQUEST, "the id is neither a string nor a number"));
    }
    let (method, kind) = match (raw.method, id) {
        (Some(method), Some(_)) => (method, Kind::Request),
        (Some(method), None) => (method, Kind::Notification),
        (None, _) if raw.result.is_some() || raw.error.is_some() => (Cow::Borrowed(""), Kind::Response),
        (None, _) => {
            return Err(no(INVALID_REQUEST, "the body has neither a method nor a result nor an error"));
        }
    };
    Ok(Envelope { kind, id, method, params: raw.params, error: raw.error })
}

/// What of the parameters stands in headers too, or decides about the revision.
#[derive(Default, Deserialize)]
pub struct Parameters {
    #[serde(default)]
    name: Option<Value>,
    #[serde(default)]
    uri: Option<Value>,
    #[serde(default)]
    arguments: Option<Value>,
    #[serde(default, rename = "_meta")]
    meta: Option<serde_json::Map<String, Value>>,
}

impl Parameters {
    /// The revision that the request names in its `_meta`.
    pub fn version(&self) -> Option<&str> {
        self.meta.as_ref()?.get(META_VERSION)?.as_str()
    }

    /// The members of `_meta` that every request of the modern revision has, and this one has not.
    pub fn missing(&self) -> Vec<&'static str> {
        let has_capabilities =
            self.meta.as_ref().is_some_and(|meta| meta.get(META_CAPABILITIES).is_some_and(Value::is_object));
        let wanted = [(META_VERSION, self.version().is_some()), (META_CAPABILITIES, has_capabilities)];
        wanted.into_iter().filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect()
    }

    /// What the headers of the request repeat.
    pub fn body<'p>(&'p self, method: &'p str) -> Body<'p> {
        let name = match name_member(method) {
            Some("name") => self.name.as_ref(),
            Some(_) => self.uri.as_ref(),
            None => None,
        };
        Body { method, name: name.and_then(Value::as_str), arguments: self.arguments.as_ref() }
    }
}

impl Envelope<'_> {
    /// The parameters; those that are none of an object are none.
    ///
    /// # Errors
    /// When `_meta` is no object, or something stands there twice.
    pub fn parameters(&self) -> Result<Parameters, String> {
        match self.params {
            Some(raw) if raw.get().starts_with('{') => {
                serde_json::from_str(raw.get()).map_err(|e| format!("the parameters cannot be read: {e}"))
            }
            _ => Ok(Parameters::default()),
        }
    }

    /// The code of the error that this response is.
    pub fn error_code(&self) -> Option<i64> {
        serde_json::from_str::<ErrorCode>(self.error?.get()).ok().map(|error| error.code)
    }
}

/// How a request is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// With `initialize` and a session; up to 2025-11-25.
    Legacy,
    /// Each request alone; from 2026-07-28 on.
    Modern,
}

/// Whether a version is one of those without `initialize`. Revisions are days, so later ones sort behind.
pub fn is_modern(version: &str) -> bool {
    version >= MODERN
}

/// How a message is to be served: what the body says counts more than what a header says.
pub fn era(headers: &HeaderMap, envelope: &Envelope<'_>, parameters: &Parameters) -> Era {
    let named = parameters.version().or_else(|| one(headers, &VERSION).ok().flatten());
    match (parameters.version(), &*envelope.method, named.is_some_and(is_modern)) {
        (Some(_), _, _) | (None, "server/discover", _) => Era::Modern,
        (None, "initialize", _) => Era::Legacy,
        (None, _, is_modern) => {
            if is_modern && !headers.contains_key(&SESSION) {
                Era::Modern
            } else {
                Era::Legacy
            }
        }
    }
}

/// A response that is an error.
pub fn error(id: Option<&str>, code: i32, message: &str, data: Option<&Value>) -> Vec<u8> {
    let message = Value::from(message);
    let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
    let data = data.map(|data| format!(r#","data":{data}"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{message}{data}}}}}"#).into_bytes()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use serde_json::json;

    use super::*;

    fn era_of(header: Option<&str>, session: bool, body: &Value) -> Era {
        let mut headers = HeaderMap::new();
        if let Some(version) = header {
            headers.insert(VERSION, HeaderValue::from_str(version).unwrap());
        }
        if session {
            headers.insert(SESSION, HeaderValue::from_static("x"));
        }
        let body = body.to_string();
        let envelope = read(body.as_bytes()).unwrap();
        era(&headers, &envelope, &envelope.parameters().unwrap())
    }

    #[test]
    fn how_a_client_opens_says_which_era_it_is_of() {
        let meta = json!({META_VERSION: "2026-07-28"});
        let call = |params: Value| json!({"id": 1, "method": "tools/call", "params": params});
        for (header, session, body, expected) in [
            (None, false, json!({"id": 1, "method": "initialize", "params": {}}), Era::Legacy),
            (Some(MODERN), false, json!({"id": 1, "method": "initialize", "params": {}}), Era::Legacy),
            (
                Some(MODERN),
                false,
                json!({"id": 1, "method": "initialize", "params": {"_meta": meta}}),
                Era::Modern,
            ),
            (None, false, json!({"id": 1, "method": "server/discover"}), Era::Modern),
            (Some(MODERN), false, call(json!({})), Era::Modern),
            (Some("v999"), false, call(json!({})), Era::Modern),
            (Some(MODERN), true, call(json!({})), Era::Legacy),
            (None, true, call(json!({"_meta": meta})), Era::Modern),
            (Some("2025-11-25"), true, call(json!({})), Era::Legacy),
            (None, false, call(json!([])), Era::Legacy),
        ] {
            assert_eq!(era_of(header, session, &body), expected, "{header:?} {session} {body}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (body, code) in [
            ("", PARSE_ERROR),
            ("{", PARSE_ERROR),
            ("nonsense", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            (r#"[{"id":1,"method":"ping"}]"#, INVALID_REQUEST),
            ("{}", INVALID_REQUEST),
            (r#"{"id":1}"#, INVALID_REQUEST),
            (r#"{"id":{},"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"id":true,"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"method":1,"id":1}"#, INVALID_REQUEST),
            (r#"{"id":1,"id":2,"method":"ping"}"#, INVALID_REQUEST),
            (r#"{"id":1,"method":"a","method":"b"}"#, INVALID_REQUEST),
        ] {
            assert_eq!(read(body.as_bytes()).err().map(|e| e.code), Some(code), "{body}");
        }
    }

    #[test]
    fn ids_are_kept_as_they_are_written() {
        for id in ["1", "-7", "1.50", "\"a\\u0062\"", "12345678901234567890123"] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            let envelope = read(body.as_bytes()).unwrap();
            assert_eq!((envelope.kind, envelope.id), (Kind::Request, Some(id)));
            let error = error(envelope.id, METHOD_NOT_FOUND, "no \"such\"", None);
            let back = read(&error).unwrap();
            assert_eq!((back.kind, back.id, back.error_code()), (Kind::Response, Some(id), Some(-32601)));
        }
        assert_eq!(read(br#"{"method":"x","id":null}"#).unwrap().kind, Kind::Notification);
    }

    #[test]
    fn what_a_modern_request_lacks_is_named() {
        let of = |params: Value| {
            let body = json!({"id": 1, "method": "tools/list", "params": params}).to_string();
            read(body.as_bytes()).unwrap().parameters().map(|parameters| parameters.missing().len())
        };
        assert_eq!(of(json!({})), Ok(2));
        assert_eq!(of(json!({"_meta": {META_VERSION: MODERN}})), Ok(1));
        assert_eq!(of(json!({"_meta": {META_VERSION: 7, META_CAPABILITIES: []}})), Ok(2));
        assert_eq!(of(json!({"_meta": {META_VERSION: MODERN, META_CAPABILITIES: {}}})), Ok(0));
        assert!(of(json!({"_meta": 7})).is_err());
    }
}
