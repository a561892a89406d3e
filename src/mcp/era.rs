//! Pure: the two eras of the protocol, and every translation between them.
//!
//! Legacy is what begins with `initialize` (up to 2025-11-25), modern is what says everything with each
//! request (2026-07-28). It translates texts; who asked whom, and when, is for the hub.

use crate::mcp::message::{Change, INVALID_PARAMS, Object, error, quoted};

/// The modern revision.
pub const MODERN: &str = "2026-07-28";
/// The legacy revisions that are spoken, newest first.
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Modern: a client did not declare what the request needs.
pub const MISSING_CAPABILITY: i64 = -32021;
/// Modern: the revision is not spoken here.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// Legacy: there is no such resource.
pub const RESOURCE_NOT_FOUND: i64 = -32002;

/// Member of `_meta`: the revision of a request.
pub const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Member of `_meta`: what the client can do.
pub const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
/// Member of `_meta`: who the client is.
pub const CLIENT_KEY: &str = "io.modelcontextprotocol/clientInfo";
/// Member of `_meta`: from which level on the client wants messages.
pub const LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
/// Member of `_meta`: who the server is.
pub const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";
/// Member of `_meta`: the listening that a notification belongs to.
pub const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";

/// How a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// With `initialize`, and questions of the server as requests.
    Legacy,
    /// Everything in each request, and questions of the server as results.
    Modern,
}

/// What a client says about itself, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFacts {
    /// Its capabilities, an object.
    pub capabilities: String,
    /// Its name and version, an object, when it tells.
    pub info: Option<String>,
    /// From which level on it wants messages, a string with its quotes.
    pub level: Option<String>,
}

impl ClientFacts {
    /// Whether it can answer this question of a server.
    pub fn can_answer(&self, method: &str, params: &str) -> bool {
        let Ok(capabilities) = Object::parse(&self.capabilities) else { return false };
        match method {
            "sampling/createMessage" => capabilities.object("sampling").is_some(),
            "roots/list" => capabilities.object("roots").is_some(),
            "elicitation/create" => {
                let Some(modes) = capabilities.object("elicitation") else { return false };
                let mode = Object::parse(params).ok().and_then(|p| p.string("mode").map(|m| m.into_owned()));
                match mode.as_deref() {
                    Some("url") => modes.get("url").is_some(),
                    // Before there were modes there were forms only.
                    _ => modes.is_empty() || modes.get("form").is_some(),
                }
            }
            _ => false,
        }
    }
}

/// The legacy revision that is spoken with a client that asks for `requested`.
pub fn negotiated(requested: Option<&str>) -> &'static str {
    LEGACY.iter().find(|known| requested == Some(**known)).unwrap_or(&LEGACY[0])
}

/// Whether a modern revision is among those that a server says it speaks.
pub fn speaks_modern(discovered: &Object<'_>) -> bool {
    let versions = discovered.get("supportedVersions");
    let versions = versions.and_then(|raw| serde_json::from_str::<Vec<String>>(raw).ok());
    versions.is_some_and(|versions| versions.iter().any(|version| version == MODERN))
}

/// What the revision without a handshake has no more.
pub const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// Every revision that is spoken here, as an array.
pub fn spoken() -> String {
    let all: Vec<String> = std::iter::once(&MODERN).chain(&LEGACY).map(|version| quoted(version)).collect();
    format!("[{}]", all.join(","))
}

/// The error for a revision that is not spoken here.
pub fn unsupported(requested: &str) -> String {
    let data = format!(r#"{{"requested":{},"supported":{}}}"#, quoted(requested), spoken());
    error(UNSUPPORTED_VERSION, "unsupported protocol version", Some(&data))
}

/// The error for a question that the client cannot be asked.
pub fn missing_capability(method: &str) -> String {
    let needed = match method {
        "sampling/createMessage" => r#"{"sampling":{}}"#,
        "roots/list" => r#"{"roots":{}}"#,
        "elicitation/create" => r#"{"elicitation":{}}"#,
        _ => "{}",
    };
    let text = format!("the client has not declared what `{method}` needs");
    error(MISSING_CAPABILITY, &text, Some(&format!(r#"{{"requiredCapabilities":{needed}}}"#)))
}

/// Parameters of a request as a modern server wants them.
pub fn params_to_modern(params: &Object<'_>, facts: &ClientFacts) -> String {
    let meta = params.object("_meta");
    let version = quoted(MODERN);
    let mut changes =
        vec![Change::Set(VERSION_KEY, &version), Change::Set(CAPABILITIES_KEY, &facts.capabilities)];
    changes.extend(facts.info.as_deref().map(|info| Change::Set(CLIENT_KEY, info)));
    changes.extend(facts.level.as_deref().map(|level| Change::Set(LEVEL_KEY, level)));
    let meta = meta.map_or_else(|| empty().with(&changes), |meta| meta.with(&changes));
    params.with(&[Change::Set("_meta", &meta)])
}

/// Parameters of a request as a legacy server wants them.
pub fn params_to_legacy(params: &Object<'_>) -> String {
    let keys = [VERSION_KEY, CAPABILITIES_KEY, CLIENT_KEY, LEVEL_KEY].map(Change::Remove);
    let mut changes = vec![Change::Remove("inputResponses"), Change::Remove("requestState")];
    let meta = params.object("_meta").map(|meta| meta.with(&keys));
    match meta.as_deref() {
        Some("{}") => changes.push(Change::Remove("_meta")),
        Some(meta) => changes.push(Change::Set("_meta", meta)),
        None => {}
    }
    params.with(&changes)
}

/// Whether results of this method say how long they hold.
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// A result of a legacy server as a modern client wants it. What the server did not say is said most
/// carefully: it holds for this moment and for nobody else.
pub fn result_to_modern(result: &Object<'_>, method: &str, server: Option<&str>) -> String {
    let mut changes = Vec::with_capacity(4);
    if result.get("resultType").is_none() {
        changes.push(Change::Set("resultType", "\"complete\""));
    }
    if is_cacheable(method) {
        if result.get("ttlMs").is_none() {
            changes.push(Change::Set("ttlMs", "0"));
        }
        if result.get("cacheScope").is_none() {
            changes.push(Change::Set("cacheScope", "\"private\""));
        }
    }
    let meta = result.object("_meta");
    let meta = match (meta, server) {
        (_, None) => None,
        (Some(meta), Some(server)) if meta.get(SERVER_KEY).is_none() => {
            Some(meta.with(&[Change::Set(SERVER_KEY, server)]))
        }
        (Some(_), Some(_)) => None,
        (None, Some(server)) => Some(empty().with(&[Change::Set(SERVER_KEY, server)])),
    };
    changes.extend(meta.as_deref().map(|meta| Change::Set("_meta", meta)));
    result.with(&changes)
}

/// A result of a modern server as a legacy client wants it.
pub fn result_to_legacy(result: &Object<'_>) -> String {
    result.with(&[Change::Remove("resultType"), Change::Remove("ttlMs"), Change::Remove("cacheScope")])
}

/// An error as a client of the other era wants it: the two have different codes for a missing resource.
pub fn error_to(era: Era, text: &str, method: &str) -> Option<String> {
    if method != "resources/read" {
        return None;
    }
    let object = Object::parse(text).ok()?;
    let code = object.get("code")?.parse::<i64>().ok()?;
    let code = match (era, code) {
        (Era::Modern, RESOURCE_NOT_FOUND) => INVALID_PARAMS,
        (Era::Legacy, INVALID_PARAMS) => RESOURCE_NOT_FOUND,
        _ => return None,
    };
    Some(object.with(&[Change::Set("code", &code.to_string())]))
}

/// A legacy server's answer to `initialize` as what a modern server would say when it is discovered.
pub fn opening_to_modern(opening: &Object<'_>) -> String {
    let capabilities = opening.get("capabilities").unwrap_or("{}");
    let mut found = format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{capabilities},"ttlMs":0,"cacheScope":"private"}}"#,
        spoken()
    );
    if let Ok(object) = Object::parse(&found) {
        let meta = opening.get("serverInfo").map(|info| format!("{{{}:{info}}}", quoted(SERVER_KEY)));
        let mut changes = Vec::new();
        changes.extend(opening.get("instructions").map(|text| Change::Set("instructions", text)));
        changes.extend(meta.as_deref().map(|meta| Change::Set("_meta", meta)));
        found = object.with(&changes);
    }
    found
}

/// A modern server's answer to `server/discover` as what a legacy server would say to `initialize`.
pub fn opening_to_legacy(opening: &Object<'_>, version: &str) -> String {
    let capabilities = opening.get("capabilities").unwrap_or("{}");
    let info = server_info(opening);
    let info = info.as_deref().unwrap_or(r#"{"name":"unknown","version":"0"}"#);
    let version = quoted(version);
    let built =
        format!(r#"{{"protocolVersion":{version},"capabilities":{capabilities},"serverInfo":{info}}}"#);
    let changes: Vec<Change<'_>> =
        opening.get("instructions").map(|text| Change::Set("instructions", text)).into_iter().collect();
    Object::parse(&built).map(|object| object.with(&changes)).unwrap_or(built)
}

/// Who a server is, by its answer to `initialize` or `server/discover`.
pub fn server_info(opening: &Object<'_>) -> Option<String> {
    let legacy = opening.get("serverInfo").map(str::to_owned);
    legacy.or_else(|| Some(opening.object("_meta")?.get(SERVER_KEY)?.to_owned()))
}

/// Parameters of a notification with the listening that it is delivered on.
pub fn on_subscription(params: &Object<'_>, id: &str) -> String {
    let change = [Change::Set(SUBSCRIPTION_KEY, id)];
    let meta = params.object("_meta").map_or_else(|| empty().with(&change), |meta| meta.with(&change));
    params.with(&[Change::Set("_meta", &meta)])
}

/// Parameters of a notification without the listening that it came on.
pub fn off_subscription(params: &Object<'_>) -> String {
    let meta = params.object("_meta").map(|meta| meta.with(&[Change::Remove(SUBSCRIPTION_KEY)]));
    match meta.as_deref() {
        None => params.text().to_owned(),
        Some("{}") => params.with(&[Change::Remove("_meta")]),
        Some(meta) => params.with(&[Change::Set("_meta", meta)]),
    }
}

/// How grave messages of a log are, least first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How grave a level is; `None` for a word that is none.
pub fn gravity(level: &str) -> Option<usize> {
    let level = level.trim_matches('"');
    LEVELS.iter().position(|known| *known == level)
}

fn empty() -> Object<'static> {
    // The text is a constant that is an object.
    Object::parse("{}").unwrap_or_else(|e| panic!("`{{}}` is no object: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(capabilities: &str) -> ClientFacts {
        ClientFacts { capabilities: capabilities.to_owned(), info: None, level: None }
    }

    #[test]
    fn a_request_for_a_modern_server_says_everything() {
        let params = Object::parse(r#"{"name":"x","_meta":{"traceparent":"t","progressToken":3}}"#).unwrap();
        assert_eq!(
            params_to_modern(&params, &facts("{}")),
            r#"{"name":"x","_meta":{"traceparent":"t","progressToken":3,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}"#
        );
    }

    #[test]
    fn a_request_for_a_legacy_server_says_nothing_modern() {
        let params = Object::parse(
            r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"traceparent":"t"},"name":"x","requestState":"s"}"#,
        )
        .unwrap();
        assert_eq!(params_to_legacy(&params), r#"{"_meta":{"traceparent":"t"},"name":"x"}"#);
        let bare =
            Object::parse(r#"{"name":"x","_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#).unwrap();
        assert_eq!(params_to_legacy(&bare), r#"{"name":"x"}"#);
    }

    #[test]
    fn a_result_gains_and_loses_what_the_eras_have_apart() {
        let result = Object::parse(r#"{"tools":[],"x":1.0}"#).unwrap();
        let modern = result_to_modern(&result, "tools/list", Some(r#"{"name":"s"}"#));
        assert_eq!(
            modern,
            r#"{"tools":[],"x":1.0,"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s"}}}"#
        );
        let back = result_to_legacy(&Object::parse(&modern).unwrap());
        assert!(back.starts_with(r#"{"tools":[],"x":1.0,"_meta""#), "{back}");
        let called = result_to_modern(&Object::parse(r#"{"content":[]}"#).unwrap(), "tools/call", None);
        assert_eq!(called, r#"{"content":[],"resultType":"complete"}"#);
    }

    #[test]
    fn a_missing_resource_has_the_code_of_the_clients_era() {
        let legacy = r#"{"code":-32002,"message":"m","data":{"uri":"u"}}"#;
        let modern = r#"{"code":-32602,"message":"m","data":{"uri":"u"}}"#;
        assert_eq!(error_to(Era::Modern, legacy, "resources/read").unwrap(), modern);
        assert_eq!(error_to(Era::Legacy, modern, "resources/read").unwrap(), legacy);
        assert_eq!(error_to(Era::Modern, legacy, "tools/call"), None);
    }

    #[test]
    fn a_client_is_asked_only_what_it_declared() {
        let url = r#"{"mode":"url"}"#;
        for (capabilities, method, params, expected) in [
            ("{}", "sampling/createMessage", "{}", false),
            (r#"{"sampling":{}}"#, "sampling/createMessage", "{}", true),
            (r#"{"elicitation":{}}"#, "elicitation/create", "{}", true),
            (r#"{"elicitation":{}}"#, "elicitation/create", url, false),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", url, true),
            (r#"{"elicitation":{"url":{}}}"#, "elicitation/create", "{}", false),
            (r#"{"roots":{"listChanged":true}}"#, "roots/list", "{}", true),
            (r#"{"roots":true}"#, "roots/list", "{}", false),
        ] {
            assert_eq!(facts(capabilities).can_answer(method, params), expected, "{capabilities} {method}");
        }
    }

    #[test]
    fn an_opening_says_the_same_in_both_eras() {
        let legacy = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"},"instructions":"i"}"#;
        let modern = opening_to_modern(&Object::parse(legacy).unwrap());
        let modern = Object::parse(&modern).unwrap();
        assert!(speaks_modern(&modern));
        assert_eq!(server_info(&modern).unwrap(), r#"{"name":"s","version":"1"}"#);
        assert_eq!(opening_to_legacy(&modern, "2025-11-25"), legacy);
    }

    #[test]
    fn a_listening_is_put_on_and_taken_off() {
        let params = Object::parse(r#"{"uri":"u"}"#).unwrap();
        let on = on_subscription(&params, "7");
        assert_eq!(on, r#"{"uri":"u","_meta":{"io.modelcontextprotocol/subscriptionId":7}}"#);
        assert_eq!(off_subscription(&Object::parse(&on).unwrap()), params.text());
    }

    #[test]
    fn a_client_that_asks_for_an_unknown_revision_gets_the_newest_legacy_one() {
        assert_eq!(negotiated(Some("2025-03-26")), "2025-03-26");
        assert_eq!(negotiated(Some("2099-01-01")), "2025-11-25");
        assert_eq!(negotiated(None), "2025-11-25");
    }
}
