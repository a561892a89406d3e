//! Pure: what the HTTP front must know of a message to answer it: what it is, which revision it speaks, what
//! its headers must repeat. Everything else stays raw, and nothing is written anew.

use std::borrow::Cow;

use hyper::header::HeaderMap;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::mcp::era::{CAPABILITIES_KEY, Era, MODERN, VERSION_KEY};
use crate::mcp::http::headers::{SESSION, VERSION, one};
use crate::mcp::http::mirror::name_member;
use crate::mcp::message::{self, INVALID_REQUEST, Message, MessageError, Object, PARSE_ERROR, Shape};

/// The headers do not say what the body says.
pub const HEADER_MISMATCH: i64 = -32020;

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
    pub code: i64,
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
    /// The parameters as they are written.
    pub params: Option<&'m str>,
    error: Option<&'m str>,
}

/// Takes a body apart.
///
/// # Errors
/// [`NoMessage`] when it is not one message of JSON-RPC.
pub fn read(body: &[u8]) -> Result<Envelope<'_>, NoMessage> {
    let message = Message::parse(body).map_err(|e| {
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        let code = if is_json { INVALID_REQUEST } else { PARSE_ERROR };
        NoMessage { code, reason: format!("the body is not one message: {e}") }
    })?;
    let params = message.object.get("params");
    let none = Cow::Borrowed("");
    let (kind, id, method, error) = match message.shape {
        Shape::Request { id, method } => (Kind::Request, Some(id), method, None),
        Shape::Notification { method } => (Kind::Notification, None, method, None),
        Shape::Result { id, .. } => (Kind::Response, Some(id), none, None),
        Shape::Error { id, error } => (Kind::Response, id, none, Some(error)),
    };
    Ok(Envelope { kind, id, method, params, error })
}

/// What of the parameters stands in headers too, or decides about the revision.
#[derive(Default)]
pub struct Parameters<'m> {
    object: Option<Object<'m>>,
    meta: Option<Object<'m>>,
}

impl<'m> Parameters<'m> {
    /// The revision that the request names in its `_meta`.
    pub fn version(&self) -> Option<Cow<'m, str>> {
        self.meta.as_ref()?.string(VERSION_KEY)
    }

    /// The members of `_meta` that every request of the modern revision has, and this one has not.
    pub fn missing(&self) -> Vec<&'static str> {
        let capabilities = self.meta.as_ref().and_then(|meta| meta.get(CAPABILITIES_KEY));
        let has_capabilities = capabilities.is_some_and(|raw| raw.starts_with('{'));
        let wanted = [(VERSION_KEY, self.version().is_some()), (CAPABILITIES_KEY, has_capabilities)];
        wanted.into_iter().filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect()
    }

    /// What the header `Mcp-Name` repeats.
    pub fn name(&self, method: &str) -> Option<Cow<'m, str>> {
        self.object.as_ref()?.string(name_member(method)?)
    }

    /// The arguments of a tool.
    pub fn arguments(&self) -> Option<Value> {
        serde_json::from_str(self.object.as_ref()?.get("arguments")?).ok()
    }
}

impl<'m> Envelope<'m> {
    /// The parameters; those that are no object are none.
    ///
    /// # Errors
    /// When they or their `_meta` cannot be read, or something stands there twice.
    pub fn parameters(&self) -> Result<Parameters<'m>, String> {
        let Some(text) = self.params.filter(|text| text.starts_with('{')) else {
            return Ok(Parameters::default());
        };
        let unreadable = |e: MessageError| format!("the parameters cannot be read: {e}");
        let object = Object::parse(text).map_err(unreadable)?;
        let meta = object.get("_meta").filter(|raw| *raw != "null");
        let meta = meta.map(Object::parse).transpose().map_err(unreadable)?;
        Ok(Parameters { object: Some(object), meta })
    }

    /// The code of the error that this response is.
    pub fn error_code(&self) -> Option<i64> {
        Object::parse(self.error?).ok()?.get("code")?.parse().ok()
    }
}

/// Whether a version is one of those without `initialize`. Revisions are days, so later ones sort behind.
pub fn is_modern(version: &str) -> bool {
    version >= MODERN
}

/// How a message is to be served: what the body says counts more than what a header says.
pub fn era(headers: &HeaderMap, envelope: &Envelope<'_>, parameters: &Parameters<'_>) -> Era {
    let is_modern = one(headers, &VERSION).ok().flatten().is_some_and(is_modern);
    match (parameters.version(), &*envelope.method, is_modern) {
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
pub fn error(id: Option<&str>, code: i64, reason: &str, data: Option<&Value>) -> Vec<u8> {
    let data = data.map(Value::to_string);
    message::error_response(id, &message::error(code, reason, data.as_deref()))
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
        let meta = json!({VERSION_KEY: "2026-07-28"});
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
            ("{}{}", PARSE_ERROR),
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
            let error = error(envelope.id, message::METHOD_NOT_FOUND, "no \"such\"", None);
            let back = read(&error).unwrap();
            assert_eq!((back.kind, back.id, back.error_code()), (Kind::Response, Some(id), Some(-32601)));
        }
        assert_eq!(read(br#"{"method":"x"}"#).unwrap().kind, Kind::Notification);
        assert!(read(br#"{"method":"x","id":null}"#).is_err());
    }

    #[test]
    fn what_a_modern_request_lacks_is_named() {
        let of = |params: Value| {
            let body = json!({"id": 1, "method": "tools/list", "params": params}).to_string();
            read(body.as_bytes()).unwrap().parameters().map(|parameters| parameters.missing().len())
        };
        assert_eq!(of(json!({})), Ok(2));
        assert_eq!(of(json!({"_meta": {VERSION_KEY: MODERN}})), Ok(1));
        assert_eq!(of(json!({"_meta": {VERSION_KEY: 7, CAPABILITIES_KEY: []}})), Ok(2));
        assert_eq!(of(json!({"_meta": {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}})), Ok(0));
        assert!(of(json!({"_meta": 7})).is_err());
    }
}
