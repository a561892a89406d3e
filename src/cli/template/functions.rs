//! Pure: the functions of Go templates and those that Docker adds. It evaluates no argument; `and`
//! and `or` stop early, so they live where arguments are evaluated.

use std::rc::Rc;

use crate::cli::template::printf::{PADDING_MAX, print, print_line, printf, within};
use crate::cli::template::value::{Shape, Val};

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Anything.
    Any,
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// A list of texts.
    Texts,
}

impl Takes {
    /// What Go calls it.
    pub fn go_type(self) -> &'static str {
        match self {
            Self::Any => "reflect.Value",
            Self::Text => "string",
            Self::Int => "int",
            Self::Texts => "[]string",
        }
    }

    /// Whether a value is that. A list is one whatever is in it.
    pub fn fits(self, value: &Val<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Text => value.text().is_some(),
            Self::Int => matches!(value, Val::Int(_)),
            Self::Texts => match value {
                Val::Texts(_) => true,
                Val::Json(json, shape) => {
                    json.is_array()
                        || json.is_null() && !matches!(shape, Shape::Map(_) | Shape::Struct { .. })
                }
                other => other.is_nil(),
            },
        }
    }
}

/// What a function takes.
#[derive(Debug, Clone, Copy)]
pub struct Signature {
    /// Its name.
    pub name: &'static str,
    /// What it must be given.
    pub takes: &'static [Takes],
    /// What it may be given after that, any number of times.
    pub more: bool,
}

/// Most pieces that `split` makes of a text.
const PIECES_MAX: usize = 1_000_000;

const fn exactly(name: &'static str, takes: &'static [Takes]) -> Signature {
    Signature { name, takes, more: false }
}

const fn at_least(name: &'static str, takes: &'static [Takes]) -> Signature {
    Signature { name, takes, more: true }
}

const FUNCTIONS: &[Signature] = {
    use Takes::{Any, Int, Text, Texts};
    &[
        at_least("and", &[Any]),
        at_least("call", &[Any]),
        at_least("eq", &[Any]),
        exactly("ge", &[Any, Any]),
        exactly("gt", &[Any, Any]),
        at_least("html", &[]),
        at_least("index", &[Any]),
        exactly("join", &[Texts, Text]),
        at_least("js", &[]),
        exactly("json", &[Any]),
        exactly("le", &[Any, Any]),
        exactly("len", &[Any]),
        exactly("lower", &[Text]),
        exactly("lt", &[Any, Any]),
        exactly("ne", &[Any, Any]),
        exactly("not", &[Any]),
        at_least("or", &[Any]),
        exactly("pad", &[Text, Int, Int]),
        at_least("print", &[]),
        at_least("printf", &[Text]),
        at_least("println", &[]),
        at_least("slice", &[Any]),
        exactly("split", &[Text, Text]),
        exactly("title", &[Text]),
        exactly("truncate", &[Text, Int]),
        exactly("upper", &[Text]),
        at_least("urlquery", &[]),
    ]
};

/// Functions whose first argument stays as it is where the heading of a table is made: as in Docker
/// the heading says which column it is, not what was done to it.
const IN_HEADING: [&str; 8] = ["json", "join", "lower", "pad", "split", "title", "truncate", "upper"];

/// The function of that name.
pub fn function(name: &str) -> Option<&'static Signature> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Whether there is a function of that name.
pub fn is_function(name: &str) -> bool {
    function(name).is_some()
}

/// Whether a function does nothing in the heading of a table.
pub fn is_idle_in_heading(name: &str) -> bool {
    IN_HEADING.contains(&name)
}

/// Calls a function whose arguments are of the kinds and the number that its signature says.
///
/// # Errors
/// What Go says of the arguments.
pub fn call<'v>(name: &str, args: &[Val<'v>]) -> Result<Val<'v>, String> {
    let text = |n: usize| args.get(n).and_then(Val::text).unwrap_or_default();
    let count = |n: usize| match args.get(n) {
        Some(Val::Int(value)) => *value,
        _ => 0,
    };
    Ok(match name {
        "not" => Val::Bool(!args[0].truth()),
        "len" if args[0].is_nil() => return Err("len of nil pointer".to_owned()),
        "len" => match args[0].count() {
            Some(len) => Val::Int(len as i128),
            None => return Err(format!("len of type {}", args[0].type_name())),
        },
        "index" => index(args)?,
        "slice" => slice(args)?,
        "eq" if args.len() < 2 => return Err("missing argument for comparison".to_owned()),
        "eq" => {
            for other in &args[1..] {
                if args[0].equals(other)? {
                    return Ok(Val::Bool(true));
                }
            }
            Val::Bool(false)
        }
        "ne" => Val::Bool(!args[0].equals(&args[1])?),
        "lt" => Val::Bool(args[0].order(&args[1])?.is_lt()),
        "le" => Val::Bool(args[0].order(&args[1])?.is_le()),
        "gt" => Val::Bool(args[0].order(&args[1])?.is_gt()),
        "ge" => Val::Bool(args[0].order(&args[1])?.is_ge()),
        "print" => Val::made(&print(args)?),
        "println" => Val::made(&print_line(args)?),
        "printf" => Val::made(&printf(text(0), &args[1..])?),
        "html" => Val::made(&escaped(&plain(args)?, html)),
        "js" => Val::made(&escaped(&plain(args)?, js)),
        "urlquery" => Val::made(&url_query(&plain(args)?)),
        "json" => Val::made(&json(&args[0])),
        "split" => Val::Texts(split(text(0), text(1))?),
        "join" => join(&args[0], text(1))?,
        "title" => Val::made(&title(text(0))),
        "lower" => Val::made(&text(0).to_lowercase()),
        "upper" => Val::made(&text(0).to_uppercase()),
        "pad" => pad(text(0), count(1), count(2))?,
        "truncate" => truncate(text(0), count(1))?,
        _ => return Err(format!("{name:?} is not a defined function")),
    })
}

/// The arguments as `html`, `js` and `urlquery` take them: one text as it is, else as printed.
fn plain(args: &[Val<'_>]) -> Result<String, String> {
    match args {
        [only] if only.text().is_some() => Ok(only.text().unwrap_or_default().to_owned()),
        _ => {
            let shown =
                args.iter().map(|arg| if arg.is_nil() { Val::made(&arg.shown()) } else { arg.clone() });
            print(&shown.collect::<Vec<_>>())
        }
    }
}

fn index<'v>(args: &[Val<'v>]) -> Result<Val<'v>, String> {
    let mut item = args[0].clone();
    if item.is_nil() {
        return Err("index of untyped nil".to_owned());
    }
    for key in &args[1..] {
        if item.is_nil() {
            return Err("index of nil pointer".to_owned());
        }
        let is_map = matches!(&item, Val::Json(json, shape)
            if json.is_object() && !matches!(shape, Shape::Struct { .. }) || matches!(shape, Shape::Map(_)));
        item = if is_map {
            map_index(&item, key)?
        } else if item.count().is_some() {
            let len = item.count().unwrap_or(0);
            let at = place(key, len.saturating_sub(1))
                .map_err(|text| text.replace("slice index", "index"))
                .and_then(
                |at| if at < len { Ok(at) } else { Err(format!("index out of range: {at}")) },
            )?;
            match item.text() {
                Some(text) => Val::Int(text.as_bytes()[at].into()),
                None => item.at(at).unwrap_or(Val::Absent),
            }
        } else {
            return Err(format!("can't index item of type {}", item.type_name()));
        };
    }
    Ok(item)
}

fn map_index<'v>(map: &Val<'v>, key: &Val<'v>) -> Result<Val<'v>, String> {
    let Some(key) = key.text() else {
        return Err(match key {
            key if key.is_nil() => "value is nil; should be of type string".to_owned(),
            key => format!("value has type {}; should be string", key.type_name()),
        });
    };
    let Val::Json(_, shape) = map else { return Ok(Val::Absent) };
    Ok(map.get(key).unwrap_or_else(|| match shape {
        Shape::Map(inner) => Val::zero(**inner),
        _ => Val::Absent,
    }))
}

/// A whole number from 0 to `last`.
fn place(key: &Val<'_>, last: usize) -> Result<usize, String> {
    match key {
        Val::Int(at) => usize::try_from(*at)
            .ok()
            .filter(|at| *at <= last)
            .ok_or_else(|| format!("index out of range: {at}")),
        Val::Absent => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn slice<'v>(args: &[Val<'v>]) -> Result<Val<'v>, String> {
    let item = &args[0];
    if item.is_nil() {
        return Err("slice of untyped nil".to_owned());
    }
    if args.len() > 4 {
        return Err(format!("too many slice indexes: {}", args.len() - 1));
    }
    let len = match (item, item.count()) {
        (Val::Json(json, _), Some(_)) if json.is_object() => None,
        (_, len) => len,
    };
    let Some(len) = len else { return Err(format!("can't slice item of type {}", item.type_name())) };
    if item.text().is_some() && args.len() == 4 {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let from = args.get(1).map_or(Ok(0), |at| place(at, len))?;
    let to = args.get(2).map_or(Ok(len), |at| place(at, len))?;
    let cap = args.get(3).map_or(Ok(len), |at| place(at, len))?;
    if from > to || to > cap {
        let (low, high) = if from > to { (from, to) } else { (to, cap) };
        return Err(format!("invalid slice index: {low} > {high}"));
    }
    Ok(match item.text() {
        // Go cuts bytes; half a character is shown as one that is not known.
        Some(text) => Val::made(&String::from_utf8_lossy(&text.as_bytes()[from..to])),
        None => Val::Texts((from..to).map(|at| item.at(at).unwrap_or(Val::Absent)).collect()),
    })
}

fn escaped(text: &str, escape: fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match escape(c) {
            Some(other) => out.push_str(other),
            None => out.push(c),
        }
    }
    out
}

fn html(c: char) -> Option<&'static str> {
    Some(match c {
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '\0' => "\u{fffd}",
        _ => return None,
    })
}

fn js(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '\'' => "\\'",
        '"' => "\\\"",
        '<' => "\\u003C",
        '>' => "\\u003E",
        '&' => "\\u0026",
        '=' => "\\u003D",
        '\n' => "\\u000A",
        '\r' => "\\u000D",
        '\t' => "\\u0009",
        '\0' => "\\u0000",
        '\u{2028}' => "\\u2028",
        '\u{2029}' => "\\u2029",
        _ => return None,
    })
}

fn url_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// JSON as Docker's `json` writes it: no HTML escapes, but the two line ends that JavaScript knows.
fn json(value: &Val<'_>) -> String {
    let text = value.to_json().to_string();
    text.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn split<'v>(text: &str, by: &str) -> Result<Rc<[Val<'v>]>, String> {
    let pieces: Rc<[Val<'v>]> = if by.is_empty() {
        text.chars().take(PIECES_MAX + 1).map(|c| Val::made(c.encode_utf8(&mut [0; 4]))).collect()
    } else {
        text.split(by).take(PIECES_MAX + 1).map(Val::made).collect()
    };
    if pieces.len() > PIECES_MAX { Err(format!("more than {PIECES_MAX} pieces")) } else { Ok(pieces) }
}

fn join<'v>(list: &Val<'v>, by: &str) -> Result<Val<'v>, String> {
    let mut text = String::new();
    for at in 0..list.count().unwrap_or(0) {
        text.push_str(if at == 0 { "" } else { by });
        list.at(at).unwrap_or(Val::Absent).print(&mut text);
        within(&text)?;
    }
    Ok(Val::made(&text))
}

/// The first letter of each word in upper case, where Go's `strings.Title` sees words: it begins one
/// behind every ASCII character that is neither letter, digit nor `_`.
fn title(text: &str) -> String {
    let ends_word = |c: char| match c {
        '_' => false,
        c if c.is_ascii() => !c.is_ascii_alphanumeric(),
        c => c.is_whitespace(),
    };
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        if ends_word(before) {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        before = c;
    }
    out
}

fn pad<'v>(text: &str, before: i128, after: i128) -> Result<Val<'v>, String> {
    if text.is_empty() {
        return Ok(Val::Text(""));
    }
    let width = |count: i128| match usize::try_from(count) {
        Err(_negative) => Err("strings: negative Repeat count".to_owned()),
        Ok(count) if count > PADDING_MAX => Err(format!("more than {PADDING_MAX} spaces")),
        Ok(count) => Ok(" ".repeat(count)),
    };
    Ok(Val::made(&format!("{}{text}{}", width(before)?, width(after)?)))
}

fn truncate<'v>(text: &str, bytes: i128) -> Result<Val<'v>, String> {
    match usize::try_from(bytes) {
        Err(_negative) => Err(format!("runtime error: slice bounds out of range [:{bytes}]")),
        Ok(bytes) if bytes >= text.len() => Ok(Val::made(text)),
        Ok(bytes) => Ok(Val::made(&String::from_utf8_lossy(&text.as_bytes()[..bytes]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(name: &str, args: &[Val<'static>]) -> String {
        call(name, args).map_or_else(|wrong| format!("error: {wrong}"), |value| value.shown())
    }

    #[test]
    fn functions_of_text_do_what_go_and_docker_do() {
        let t = Val::Text;
        for (name, args, expected) in [
            ("title", vec![t("hello wORLD foo_bar don't a-b")], "Hello WORLD Foo_bar Don'T A-B"),
            ("upper", vec![t("aé")], "AÉ"),
            ("split", vec![t("a,b,,c"), t(",")], "[a b  c]"),
            ("split", vec![t("abc"), t("")], "[a b c]"),
            ("pad", vec![t("x"), Val::Int(1), Val::Int(2)], " x  "),
            ("pad", vec![t(""), Val::Int(1), Val::Int(2)], ""),
            ("pad", vec![t("x"), Val::Int(-1), Val::Int(2)], "error: strings: negative Repeat count"),
            ("truncate", vec![t("abcdef"), Val::Int(3)], "abc"),
            ("truncate", vec![t("ab"), Val::Int(3)], "ab"),
            ("html", vec![t("<a href=\"x\">'&")], "&lt;a href=&#34;x&#34;&gt;&#39;&amp;"),
            ("js", vec![t("it's <b>=\n")], "it\\'s \\u003Cb\\u003E\\u003D\\u000A"),
            ("urlquery", vec![t("a b/é&")], "a+b%2F%C3%A9%26"),
            ("json", vec![t("<a>\u{2028}")], "\"<a>\\u2028\""),
            ("json", vec![Val::Absent], "null"),
            ("slice", vec![t("abcdef"), Val::Int(1), Val::Int(3)], "bc"),
            ("slice", vec![t("abc"), Val::Int(4)], "error: index out of range: 4"),
            ("slice", vec![t("abc"), Val::Int(2), Val::Int(1)], "error: invalid slice index: 2 > 1"),
            ("index", vec![t("abc"), Val::Int(1)], "98"),
            ("index", vec![t("abc"), Val::Int(3)], "error: index out of range: 3"),
            ("index", vec![t(""), Val::Int(0)], "error: index out of range: 0"),
            ("index", vec![Val::Int(3), Val::Int(0)], "error: can't index item of type int"),
            ("index", vec![Val::Absent, Val::Int(0)], "error: index of untyped nil"),
            ("len", vec![t("é")], "2"),
            ("len", vec![Val::Int(3)], "error: len of type int"),
            ("eq", vec![t("a"), t("b"), t("a")], "true"),
            ("eq", vec![t("a")], "error: missing argument for comparison"),
            ("eq", vec![t("1"), Val::Int(1)], "error: incompatible types for comparison"),
            ("lt", vec![Val::Int(1), Val::Int(2)], "true"),
        ] {
            assert_eq!(called(name, &args), expected, "{name} {args:?}");
        }
    }
}
