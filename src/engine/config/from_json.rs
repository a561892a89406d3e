//! Pure: JSON, with comments and commas at the end, into a document.
//!
//! Nothing looser than that: a text that two readers understand differently is refused.

use jsonc_parser::ast::{self, ObjectPropName};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseError;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::engine::config::document::{Growth, Key, Lines, Malformed, Node, Value, each_key_once};

const STRICTNESS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Reads a text.
///
/// # Errors
/// [`Malformed`] with the first spot that is no JSON, or that goes beyond what a configuration needs.
pub fn parse(text: &str) -> Result<Node, Malformed> {
    let lines = Lines::of(text);
    let malformed = |e: ParseError| Malformed::new(lines.spot(e.range().start), lower(&e.kind().to_string()));
    let parsed = parse_to_ast(text, &CollectOptions::default(), &STRICTNESS).map_err(malformed)?;
    match &parsed.value {
        Some(value) => node(value, &lines, &mut Growth::default(), 1),
        None => Err(Malformed::new(lines.spot(text.len()), "there is no value")),
    }
}

fn lower(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn node(
    value: &ast::Value<'_>,
    lines: &Lines<'_>,
    growth: &mut Growth,
    depth: usize,
) -> Result<Node, Malformed> {
    let spot = lines.spot(value.start());
    growth.add(spot, depth)?;
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::StringLit(literal) => Value::Text(literal.value.clone().into_owned()),
        ast::Value::NumberLit(literal) => match (literal.value.parse(), literal.value.parse::<f64>()) {
            (Ok(whole), _) => Value::Integer(whole),
            (_, Ok(number)) if number.is_finite() => Value::Float(number),
            _ => return Err(Malformed::new(spot, "a number that is too large")),
        },
        ast::Value::Array(array) => {
            let items = array.elements.iter().map(|element| node(element, lines, growth, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => {
            let mut entries = Vec::new();
            for property in &object.properties {
                let name = match &property.name {
                    ObjectPropName::String(literal) => literal.value.clone().into_owned(),
                    ObjectPropName::Word(word) => word.value.to_owned(),
                };
                let key = Key { name, spot: lines.spot(property.name.start()) };
                entries.push((key, node(&property.value, lines, growth, depth + 1)?));
            }
            each_key_once(&entries)?;
            Value::Map(entries)
        }
    };
    Ok(Node { spot, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_a_last_comma_are_read_over_and_places_are_kept() {
        let root = parse("{\n  // why\n  \"a\": [1, -2.5, \"ü\", null, true,],\n}\n").unwrap();
        let list = root.get("a").unwrap();
        assert_eq!((list.spot.line, list.spot.column), (3, 8));
        let items = list.items().unwrap();
        assert_eq!(items[0].value, Value::Integer(1));
        assert_eq!(items[1].value, Value::Float(-2.5));
        assert_eq!(items[2].text(), Some("ü"));
        // Characters are counted, not bytes.
        assert_eq!(items[3].spot.column, 23);
        assert_eq!(items[4].value, Value::Bool(true));
    }

    #[test]
    fn what_readers_understand_differently_is_refused_with_its_place() {
        for (text, line, column, part) in [
            ("", 1, 1, "no value"),
            ("{\"a\":1,\n \"a\":2}", 2, 2, "second time"),
            ("{'a': 1}", 1, 2, "single-quoted"),
            ("{a: 1}", 1, 2, ""),
            ("{\"a\": 0x10}", 1, 7, "hexadecimal"),
            ("{} {}", 1, 4, "more than one"),
            ("[1 2]", 1, 3, "comma"),
            ("[1e999]", 1, 2, "too large"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!((error.spot.line, error.spot.column), (line, column), "{text}: {}", error.what);
            assert!(error.what.to_lowercase().contains(part), "{text}: {}", error.what);
        }
    }

    #[test]
    fn depth_and_number_of_values_have_an_end() {
        assert!(parse(&format!("{}1{}", "[".repeat(300), "]".repeat(300))).is_err());
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("[{}1]", "1,".repeat(60_000))).unwrap_err().what.contains("values"));
    }
}
