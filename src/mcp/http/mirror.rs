//! Pure: what of a request's body stands in its headers too (revision 2026-07-28), and whether both say the
//! same: whoever stands between believes the headers, the server believes the body. It sends nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::mcp::http::headers::{METHOD, NAME, one};

/// What the headers of mirrored arguments begin with.
const PARAM: &str = "mcp-param-";
/// What stands around a value that no header could carry.
const ENCODED: (&str, &str) = ("=?base64?", "?=");
/// Largest whole number that every reader of JSON reads alike: 2^53 - 1.
const WHOLE_MAX: u64 = (1 << 53) - 1;
/// How deep a schema is looked through.
const DEPTH_MAX: usize = 64;
/// Mirrored arguments of one tool.
const MIRRORED_MAX: usize = 64;

/// An argument of a tool that is repeated in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// Its place in the arguments, from the outside in.
    pub path: Vec<String>,
    /// The whole name of the header, in lower case.
    pub header: HeaderName,
}

/// The mirrored arguments that the input schema of a tool names.
///
/// # Errors
/// Why the schema names them wrongly; a client hides such a tool.
pub fn mirrored(schema: &Value) -> Result<Vec<Mirrored>, String> {
    let mut found = Vec::new();
    walk(schema, Some(&mut Vec::new()), &mut found, 0)?;
    for (n, one) in found.iter().enumerate() {
        if found[..n].iter().any(|other| other.header == one.header) {
            return Err(format!("the header `{}` is named twice", one.header));
        }
    }
    Ok(found)
}

/// `path` is the place of `schema` when only `properties` lead to it.
fn walk(
    schema: &Value,
    mut path: Option<&mut Vec<String>>,
    found: &mut Vec<Mirrored>,
    depth: usize,
) -> Result<(), String> {
    if depth > DEPTH_MAX || found.len() > MIRRORED_MAX {
        return Err(format!("it is deeper than {DEPTH_MAX} or mirrors more than {MIRRORED_MAX} arguments"));
    }
    let object = match schema {
        Value::Object(object) => object,
        Value::Array(list) => return list.iter().try_for_each(|item| walk(item, None, found, depth + 1)),
        _ => return Ok(()),
    };
    for (key, value) in object {
        match (key.as_str(), &mut path) {
            ("x-mcp-header", Some(path)) if !path.is_empty() => found.push(annotation(object, value, path)?),
            ("x-mcp-header", _) => {
                return Err("`x-mcp-header` stands where no argument is named".to_owned());
            }
            ("properties", Some(path)) => {
                for (name, property) in value.as_object().into_iter().flatten() {
                    path.push(name.clone());
                    walk(property, Some(path), found, depth + 1)?;
                    path.pop();
                }
            }
            // Names of arguments, not words of the schema.
            ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", _) => {
                for property in value.as_object().into_iter().flat_map(|map| map.values()) {
                    walk(property, None, found, depth + 1)?;
                }
            }
            // Values, not schemas.
            ("default" | "const" | "enum" | "examples" | "dependentRequired" | "required", _) => {}
            _ => walk(value, None, found, depth + 1)?,
        }
    }
    Ok(())
}

fn annotation(
    property: &serde_json::Map<String, Value>,
    header: &Value,
    path: &[String],
) -> Result<Mirrored, String> {
    let place = path.join(".");
    let name = header.as_str().ok_or_else(|| format!("the header of `{place}` is no text"))?;
    let full = format!("{PARAM}{}", name.to_ascii_lowercase());
    let header = HeaderName::from_bytes(full.as_bytes()).ok().filter(|_| !name.is_empty());
    let header =
        header.ok_or_else(|| format!("the header of `{place}` has a name that no header may have"))?;
    match property.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(Mirrored { path: path.to_vec(), header }),
        _ => Err(format!("`{place}` is mirrored and neither `string`, `integer` nor `boolean`")),
    }
}

/// What stands in a header, decoded.
fn decode(text: &str) -> Option<String> {
    match text.strip_prefix(ENCODED.0).and_then(|rest| rest.strip_suffix(ENCODED.1)) {
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

/// A text as a header can carry it.
fn encode(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e | b'\t'))
        && text.trim_matches([' ', '\t']).len() == text.len()
        && !(text.starts_with(ENCODED.0) && text.ends_with(ENCODED.1));
    if is_plain { text.to_owned() } else { format!("{}{}{}", ENCODED.0, STANDARD.encode(text), ENCODED.1) }
}

/// Which member of the parameters the header `Mcp-Name` repeats.
pub fn name_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        // The extension of tasks says so for its own.
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

fn at<'v>(arguments: Option<&'v Value>, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(arguments?, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// A request as its headers repeat it.
pub struct Body<'b> {
    /// The method.
    pub method: &'b str,
    /// The name or URI that [`name_member`] names.
    pub name: Option<&'b str>,
    /// The arguments of a tool.
    pub arguments: Option<&'b Value>,
}

/// Whether the headers of a request say what its body says.
///
/// # Errors
/// Which header does not, in words for the client.
pub fn check(headers: &HeaderMap, body: &Body<'_>, mirrored: &[Mirrored]) -> Result<(), String> {
    match one(headers, &METHOD)? {
        None => return Err("the header `Mcp-Method` is missing".to_owned()),
        Some(method) if method != body.method => {
            return Err(format!("the header `Mcp-Method` says `{method}`, the body `{}`", body.method));
        }
        Some(_) => {}
    }
    if let Some(name) = body.name {
        let header = one(headers, &NAME)?.ok_or("the header `Mcp-Name` is missing")?;
        let said = decode(header).ok_or("the header `Mcp-Name` is encoded wrongly")?;
        if said != name {
            return Err(format!("the header `Mcp-Name` says `{said}`, the body `{name}`"));
        }
    }
    for Mirrored { path, header } in mirrored {
        let place = path.join(".");
        match (one(headers, header)?, at(body.arguments, path)) {
            (None, None) => {}
            (None, Some(_)) => {
                return Err(format!("the header `{header}` of the argument `{place}` is missing"));
            }
            (Some(_), None) => {
                return Err(format!("the header `{header}` is there, the argument `{place}` is not"));
            }
            (Some(text), Some(value)) => {
                let said = decode(text).ok_or_else(|| format!("the header `{header}` is encoded wrongly"))?;
                if !is_same(&said, value) {
                    return Err(format!(
                        "the header `{header}` says something else than the argument `{place}`"
                    ));
                }
            }
        }
    }
    Ok(())
}

fn is_same(said: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => said == text,
        Value::Bool(is) => said == if *is { "true" } else { "false" },
        Value::Number(number) => {
            said == number.to_string()
                || said.parse::<f64>().is_ok_and(|said| number.as_f64().is_some_and(|is| said == is))
        }
        _ => false,
    }
}

/// The headers that repeat a request. An argument that no header can carry is left out: the server says so.
pub fn headers(body: &Body<'_>, mirrored: &[Mirrored]) -> Vec<(HeaderName, HeaderValue)> {
    let mut found = Vec::new();
    let mut push = |name: &HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(&encode(text)) {
            found.push((name.clone(), value));
        }
    };
    push(&METHOD, body.method);
    if let Some(name) = body.name {
        push(&NAME, name);
    }
    for Mirrored { path, header } in mirrored {
        match at(body.arguments, path) {
            Some(Value::String(text)) => push(header, text),
            Some(Value::Bool(is)) => push(header, if *is { "true" } else { "false" }),
            Some(Value::Number(number)) if number.as_i64().is_some_and(|n| n.unsigned_abs() <= WHOLE_MAX) => {
                push(header, &number.to_string());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map(list: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn arguments_that_are_mirrored_are_found_along_properties() {
        let schema = json!({"type": "object", "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "deep": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}},
            "x-mcp-header": {"type": "string"},
            "free": {"type": "string", "default": {"x-mcp-header": 1}},
        }});
        let found = mirrored(&schema).unwrap();
        let names: Vec<_> = found.iter().map(|one| (one.path.join("."), one.header.as_str())).collect();
        assert!(names.contains(&("region".to_owned(), "mcp-param-region")), "{names:?}");
        assert!(names.contains(&("deep.n".to_owned(), "mcp-param-n")) && names.len() == 2, "{names:?}");
    }

    #[test]
    fn a_schema_that_mirrors_wrongly_is_refused() {
        let property = |inner: Value| json!({"properties": {"a": inner}});
        for schema in [
            property(json!({"type": "string", "x-mcp-header": ""})),
            property(json!({"type": "string", "x-mcp-header": "a b"})),
            property(json!({"type": "string", "x-mcp-header": "a\r\nHost: x"})),
            property(json!({"type": "string", "x-mcp-header": 1})),
            property(json!({"type": "number", "x-mcp-header": "A"})),
            property(json!({"x-mcp-header": "A"})),
            json!({"x-mcp-header": "A", "type": "string"}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
            property(json!({"type": "array", "items": {"type": "string", "x-mcp-header": "A"}})),
            json!({"anyOf": [property(json!({"type": "string", "x-mcp-header": "A"}))]}),
            json!({"$defs": {"d": {"type": "string", "x-mcp-header": "A"}}}),
        ] {
            assert!(mirrored(&schema).is_err(), "{schema}");
        }
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({ "items": deep });
        }
        assert!(mirrored(&deep).is_err(), "a schema of any depth is not followed");
    }

    fn region() -> Vec<Mirrored> {
        vec![Mirrored {
            path: vec!["region".to_owned()],
            header: HeaderName::from_static("mcp-param-region"),
        }]
    }

    #[test]
    fn headers_that_say_what_the_body_says_pass_and_no_others() {
        let arguments = json!({"region": "Hello", "n": 42});
        let body = Body { method: "tools/call", name: Some("t"), arguments: Some(&arguments) };
        let usual = [("mcp-method", "tools/call"), ("mcp-name", "t")];
        let with = |list: &[(&str, &str)]| {
            let all: Vec<_> = usual.iter().chain(list).copied().collect();
            check(&map(&all), &body, &region())
        };
        for good in ["Hello", "=?base64?SGVsbG8=?="] {
            assert_eq!(with(&[("mcp-param-region", good), ("mcp-param-unknown", "x")]), Ok(()), "{good}");
        }
        for bad in
            ["hello", "SGVsbG8=", "=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "=?BASE64?SGVsbG8=?=", ""]
        {
            assert!(with(&[("mcp-param-region", bad)]).is_err(), "{bad}");
        }
        assert!(with(&[]).is_err(), "mirrored, and missing");
        assert!(check(&map(&usual), &body, &[]).is_ok());
        assert!(check(&map(&usual[..1]), &body, &[]).is_err(), "no name");
        assert!(check(&map(&usual[1..]), &body, &[]).is_err(), "no method");
        assert!(check(&map(&[("mcp-method", "TOOLS/CALL"), ("mcp-name", "t")]), &body, &[]).is_err());
        assert!(check(&map(&[("mcp-method", "tools/call"), ("mcp-name", "u")]), &body, &[]).is_err());
        let none = Body { method: "tools/call", name: Some("t"), arguments: None };
        let said = [("mcp-method", "tools/call"), ("mcp-name", "t"), ("mcp-param-region", "x")];
        assert!(check(&map(&said), &none, &region()).is_err(), "an argument that is not there");
    }

    #[test]
    fn whole_numbers_are_compared_as_numbers() {
        let n = vec![Mirrored { path: vec!["n".to_owned()], header: HeaderName::from_static("mcp-param-n") }];
        let arguments = json!({"n": 42});
        let body = Body { method: "tools/call", name: None, arguments: Some(&arguments) };
        for (text, is_same) in [("42", true), ("42.0", true), ("43", false), ("0x2a", false), ("", false)] {
            let result = check(&map(&[("mcp-method", "tools/call"), ("mcp-param-n", text)]), &body, &n);
            assert_eq!(result.is_ok(), is_same, "{text}");
        }
    }

    #[test]
    fn values_are_encoded_as_the_revision_says() {
        for (text, encoded) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode(text), encoded);
        }
    }

    proptest! {
        #[test]
        fn what_we_send_passes_our_own_check(name in any::<String>(), region_ in any::<String>(), is in any::<bool>()) {
            let arguments = json!({"region": region_, "is": is});
            let body = Body { method: "tools/call", name: Some(&name), arguments: Some(&arguments) };
            let mut mirrored = region();
            mirrored.push(Mirrored { path: vec!["is".to_owned()], header: HeaderName::from_static("mcp-param-is") });
            let headers: HeaderMap = headers(&body, &mirrored).into_iter().collect();
            prop_assert_eq!(check(&headers, &body, &mirrored), Ok(()));
        }
    }
}
