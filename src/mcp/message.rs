//! Pure: JSON-RPC messages as text: looked into by borrowed pieces, changed by splicing.
//!
//! What nobody asked to change keeps its bytes: unknown members, their order, numbers as they were
//! written. An object that holds a member twice is refused: two readers would disagree about it. It knows
//! nothing of what a method means.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// JSON-RPC: the bytes are no JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: the JSON is no message.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: nobody here knows the method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters are wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: it was tried and went wrong.
pub const INTERNAL_ERROR: i64 = -32603;

/// Most members of one object that is looked into, so that finding doubles stays cheap.
const MEMBERS_MAX: usize = 4_096;
/// With more members than this, doubles are found by sorting.
const MEMBERS_FEW: usize = 16;

/// Why a text is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is no JSON object, or holds a member twice.
    #[error("it is no JSON object of the protocol")]
    Json(#[from] serde_json::Error),
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    Text(#[from] std::str::Utf8Error),
    /// It is neither request, notification nor response.
    #[error("it is neither a request nor a notification nor a response")]
    Shape,
}

/// An object, member by member, as it was written.
#[derive(Debug, Clone)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<Member<'a>>,
}

#[derive(Debug, Clone)]
struct Member<'a> {
    name: Cow<'a, str>,
    value: Range<usize>,
    /// From behind the separator before it to the end of its value: name, colon and blanks included.
    whole: Range<usize>,
}

/// What to do with one member.
#[derive(Debug)]
pub enum Change<'c> {
    /// Gives the member this value; a new one goes to the end.
    Set(&'c str, &'c str),
    /// Takes the member away.
    Remove(&'c str),
}

impl<'a> Object<'a> {
    /// Takes an object apart.
    ///
    /// # Errors
    /// When it is none, has too many members, or one twice.
    pub fn parse(text: &'a str) -> Result<Self, MessageError> {
        let Pieces(pieces) = serde_json::from_str(text)?;
        let mut members = Vec::with_capacity(pieces.len());
        let mut from = text.find('{').map_or(0, |at| at + 1);
        for (name, raw) in pieces {
            let start = raw.as_ptr().addr() - text.as_ptr().addr();
            let value = start..start + raw.len();
            let whole = from..value.end;
            let comma = text.get(value.end..).and_then(|rest| rest.find(','));
            from = comma.map_or(text.len(), |at| value.end + at + 1);
            members.push(Member { name, value, whole });
        }
        Ok(Self { text, members })
    }

    /// The value of a member, as it was written.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let member = self.members.iter().find(|member| member.name == name)?;
        self.text.get(member.value.clone())
    }

    /// The text of a member that is a string.
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(string)
    }

    /// A member that is an object; `None` for anything else.
    pub fn object(&self, name: &str) -> Option<Object<'a>> {
        self.get(name).and_then(|value| Object::parse(value).ok())
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Names and values in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.members.iter().map(|member| (member.name.as_ref(), &self.text[member.value.clone()]))
    }

    /// The object as it was written.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The same object with these changes; every other member keeps its bytes and its place.
    pub fn with(&self, changes: &[Change<'_>]) -> String {
        let added: usize = changes.iter().map(Change::room).sum();
        let mut out = String::with_capacity(self.text.len() + added);
        out.push('{');
        let mut separator = "";
        for member in &self.members {
            let change = changes.iter().find(|change| change.name() == member.name);
            let (head, value) = match change {
                Some(Change::Remove(_)) => continue,
                Some(Change::Set(_, value)) => (member.whole.start..member.value.start, *value),
                None => (member.whole.clone(), ""),
            };
            out.push_str(separator);
            out.push_str(&self.text[head]);
            out.push_str(value);
            separator = ",";
        }
        for change in changes {
            if let Change::Set(name, value) = change
                && !self.members.iter().any(|member| member.name == *name)
            {
                out.push_str(separator);
                push_string(&mut out, name);
                out.push(':');
                out.push_str(value);
                separator = ",";
            }
        }
        out.push('}');
        out
    }
}

impl Change<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Set(name, _) | Self::Remove(name) => name,
        }
    }

    /// Bytes that it can add.
    fn room(&self) -> usize {
        match self {
            Self::Set(name, value) => name.len() + value.len() + 8,
            Self::Remove(_) => 0,
        }
    }
}

/// Names and values of an object, in order, none twice.
struct Pieces<'a>(Vec<(Cow<'a, str>, &'a str)>);

/// A name that is only copied where it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Pieces<'de> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Pieces<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pieces = Vec::with_capacity(8);
                while let Some((Name(name), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    if pieces.len() == MEMBERS_MAX {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                    pieces.push((name, raw.get()));
                }
                if has_double(&pieces) {
                    return Err(serde::de::Error::custom("a member stands there twice"));
                }
                Ok(Pieces(pieces))
            }
        }
        input.deserialize_map(Visit)
    }
}

fn has_double(pieces: &[(Cow<'_, str>, &str)]) -> bool {
    if pieces.len() <= MEMBERS_FEW {
        return pieces.iter().enumerate().any(|(n, (name, _))| pieces[..n].iter().any(|(m, _)| m == name));
    }
    let mut names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

// ── messages ────────────────────────────────────────────────────────────────────────────────────

/// One message, taken apart.
#[derive(Debug)]
pub struct Message<'a> {
    /// Its members.
    pub object: Object<'a>,
    /// What it is.
    pub shape: Shape<'a>,
}

/// What a message is. Ids are numbers or strings, as they were written.
#[derive(Debug, Clone)]
pub enum Shape<'a> {
    /// Something is asked; an answer is owed.
    Request {
        /// By which the answer is known.
        id: &'a str,
        /// What is asked.
        method: Cow<'a, str>,
    },
    /// Something is told.
    Notification {
        /// What is told.
        method: Cow<'a, str>,
    },
    /// An answer that worked.
    Result {
        /// Of the request that is answered.
        id: &'a str,
        /// The answer.
        result: &'a str,
    },
    /// An answer that says why not.
    Error {
        /// Of the request that is answered; `None` when its sender could not read it.
        id: Option<&'a str>,
        /// The error object.
        error: &'a str,
    },
}

impl<'a> Message<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// When the bytes are no message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let text = std::str::from_utf8(bytes)?;
        let object = Object::parse(text.trim_ascii())?;
        let id = object.get("id").filter(|id| *id != "null");
        if id.is_some_and(|id| !is_id(id)) {
            return Err(MessageError::Shape);
        }
        let method = object.get("method");
        let (result, error) = (object.get("result"), object.get("error"));
        let shape = match (method, result, error, id) {
            (Some(method), None, None, id) => {
                let method = string(method).ok_or(MessageError::Shape)?;
                match (id, object.get("id")) {
                    (Some(id), _) => Shape::Request { id, method },
                    (None, None) => Shape::Notification { method },
                    (None, Some(_)) => return Err(MessageError::Shape),
                }
            }
            (None, Some(result), None, Some(id)) => Shape::Result { id, result },
            (None, None, Some(error), id) => Shape::Error { id, error },
            _ => return Err(MessageError::Shape),
        };
        Ok(Self { object, shape })
    }

    /// The parameters; the empty object when there are none. `None` when they are no readable object.
    pub fn params(&self) -> Option<Object<'a>> {
        match self.object.get("params").filter(|params| *params != "null") {
            None => Some(Object { text: "{}", members: Vec::new() }),
            Some(text) => Object::parse(text).ok(),
        }
    }

    /// The parameters as they were written, `{}` when there are none.
    pub fn params_text(&self) -> &'a str {
        self.object.get("params").unwrap_or("{}")
    }
}

/// A string or a number: what an id may be.
fn is_id(raw: &str) -> bool {
    matches!(raw.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9'))
}

/// The text of a raw string.
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let plain = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        Some(_) => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        None => None,
    }
}

/// A number that we chose ourselves, as an id or a progress token.
pub fn our_number(raw: &str) -> Option<u64> {
    // Some peers hand our numbers back as strings; what is no plain number was never ours.
    raw.trim_matches('"').parse().ok()
}

/// A text as a JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_string(&mut out, text);
    out
}

/// Appends a text as a JSON string.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A request.
pub fn request(id: &str, method: &str, params: &str) -> Vec<u8> {
    let method = quoted(method);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#).into_bytes()
}

/// A notification.
pub fn notification(method: &str, params: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":{},"params":{params}}}"#, quoted(method)).into_bytes()
}

/// A notification without parameters.
pub fn bare_notification(method: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":{}}}"#, quoted(method)).into_bytes()
}

/// An answer that worked.
pub fn response(id: &str, result: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into_bytes()
}

/// An answer that says why not; without an id it belongs to a request that could not be read.
pub fn error_response(id: Option<&str>, error: &str) -> Vec<u8> {
    let id = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{error}}}"#).into_bytes()
}

/// An error object.
pub fn error(code: i64, message: &str, data: Option<&str>) -> String {
    let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
    format!(r#"{{"code":{code},"message":{}{data}}}"#, quoted(message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_changed_member_changes_nothing_else() {
        for (text, changes, expected) in [
            (r#"{"a":1,"b":2}"#, vec![Change::Set("a", "9")], r#"{"a":9,"b":2}"#),
            (r#"{ "a" : 1.00 , "b":[ 1 ] }"#, vec![Change::Set("b", "0")], r#"{ "a" : 1.00, "b":0}"#),
            (r#"{"a":1,"b":2,"c":3}"#, vec![Change::Remove("b")], r#"{"a":1,"c":3}"#),
            (r#"{"a":1,"b":2}"#, vec![Change::Remove("a"), Change::Remove("b")], "{}"),
            ("{}", vec![Change::Set("n\"", "null")], r#"{"n\"":null}"#),
            (r#"{"\u0061":"}{,"}"#, vec![Change::Set("a", "2")], r#"{"\u0061":2}"#),
        ] {
            assert_eq!(Object::parse(text).unwrap().with(&changes), expected, "{text}");
        }
    }

    #[test]
    fn a_member_that_stands_there_twice_is_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":1}"#] {
            assert!(Object::parse(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..40).map(|n| format!("\"m{}\":0", n % 39)).collect();
        assert!(Object::parse(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn a_message_is_a_request_a_notification_or_an_answer() {
        let shape = |text: &str| match Message::parse(text.as_bytes()) {
            Ok(message) => match message.shape {
                Shape::Request { id, method } => format!("request {id} {method}"),
                Shape::Notification { method } => format!("notification {method}"),
                Shape::Result { id, result } => format!("result {id} {result}"),
                Shape::Error { id, error } => format!("error {id:?} {error}"),
            },
            Err(_) => "none".to_owned(),
        };
        for (text, expected) in [
            (r#" {"id":1.50,"method":"a\/b"} "#, "request 1.50 a/b"),
            (r#"{"id":"x","method":"a","params":7}"#, "request \"x\" a"),
            (r#"{"method":"a"}"#, "notification a"),
            (r#"{"method":"a","id":null}"#, "none"),
            (r#"{"id":1,"result":{}}"#, "result 1 {}"),
            (r#"{"id":null,"error":{}}"#, "error None {}"),
            (r#"{"id":1,"result":{},"error":{}}"#, "none"),
            (r#"{"id":{},"result":{}}"#, "none"),
            (r#"{"id":1}"#, "none"),
            (r#"[{"id":1,"method":"a"}]"#, "none"),
            ("{", "none"),
            ("", "none"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn splicing_is_what_changing_the_parsed_object_would_be(
            members in prop::collection::btree_map(".{0,3}", any_json(), 0..6),
            name in ".{0,3}",
            value in any_json(),
            is_removal in any::<bool>(),
            is_pretty in any::<bool>(),
        ) {
            let object = Value::Object(members.clone().into_iter().collect());
            let text = if is_pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let text = text.unwrap();
            let raw = value.to_string();
            let change = if is_removal { Change::Remove(&name) } else { Change::Set(&name, &raw) };
            let changed: Value = serde_json::from_str(&Object::parse(&text).unwrap().with(&[change])).unwrap();
            let mut expected = members;
            if is_removal { expected.remove(&name); } else { expected.insert(name, value); }
            prop_assert_eq!(changed, Value::Object(expected.into_iter().collect()));
        }

        #[test]
        fn no_text_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,64}") {
            drop(Message::parse(&bytes));
            drop(Message::parse(text.as_bytes()));
            drop(Message::parse(format!("{{{text}}}").as_bytes()));
            prop_assert!(our_number(&text).is_none_or(|number| text.contains(&number.to_string())));
        }

        #[test]
        fn a_quoted_text_reads_as_itself(text in ".*") {
            prop_assert_eq!(serde_json::from_str::<String>(&quoted(&text)).unwrap(), text.clone());
            let quoted = quoted(&text);
            prop_assert_eq!(string(&quoted).unwrap(), text);
        }
    }
}
