//! Pure: YAML into a document: one document, core schema, aliases and `<<` within the ceiling of values.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::engine::config::document::{Growth, Key, Malformed, Node, Spot, Value, each_key_once};

/// Reads a text.
///
/// # Errors
/// [`Malformed`] with the first spot that is no YAML, or that goes beyond what a configuration needs.
pub fn parse(text: &str) -> Result<Node, Malformed> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e: ScanError| Malformed::new(spot(e.marker()), e.info()))?;
        builder.take(event, span)?;
    }
    builder.root.ok_or_else(|| Malformed::new(Spot { line: 1, column: 1 }, "there is no value"))
}

fn spot(marker: &Marker) -> Spot {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Spot { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

/// A list or map that is not closed yet.
struct Open {
    spot: Spot,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key>, merged: Vec<Node> },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    growth: Growth,
    root: Option<Node>,
    documents: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        let at = spot(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 1 {
                    return Ok(());
                }
                Err(Malformed::new(at, "a second document: a configuration is one"))
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Malformed::new(at, "an alias inside of what it stands for"));
                };
                self.count_again(&node, self.open.len() + 1)?;
                self.put(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.growth.add(at, self.open.len() + 1)?;
                let value = scalar(&text, style, tag.as_deref(), at)?;
                self.close(Node { spot: at, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(at, anchor, tag.as_deref(), Kind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let kind = Kind::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.open(at, anchor, tag.as_deref(), kind)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let value = match open.kind {
                    Kind::List(items) => Value::List(items),
                    Kind::Map { entries, merged, .. } => Value::Map(self.merge(entries, merged)?),
                };
                self.close(Node { spot: open.spot, value }, open.anchor)
            }
        }
    }

    fn open(&mut self, spot: Spot, anchor: usize, tag: Option<&Tag>, kind: Kind) -> Result<(), Malformed> {
        self.growth.add(spot, self.open.len() + 1)?;
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(Malformed::new(spot, format!("the tag `{tag}` is not known")));
        }
        self.open.push(Open { spot, anchor, kind });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Malformed> {
        if anchor != 0 {
            // What is kept twice is counted twice: a chain of anchors stays within the ceiling.
            self.count_again(&node, self.open.len() + 1)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.put(node)
    }

    fn count_again(&mut self, node: &Node, depth: usize) -> Result<(), Malformed> {
        self.growth.add(node.spot, depth)?;
        match &node.value {
            Value::List(items) => items.iter().try_for_each(|inner| self.count_again(inner, depth + 1)),
            Value::Map(entries) => {
                entries.iter().try_for_each(|(_, inner)| self.count_again(inner, depth + 1))
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, node: Node) -> Result<(), Malformed> {
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(Kind::List(items)) => items.push(node),
            Some(Kind::Map { entries, key, merged }) => match key.take() {
                Some(key) if key.name == "<<" => merged.push(node),
                Some(key) => entries.push((key, node)),
                None => *key = Some(Key { name: name(&node)?, spot: node.spot }),
            },
        }
        Ok(())
    }

    /// The entries of `<<` below those that the map has itself.
    fn merge(
        &mut self,
        mut entries: Vec<(Key, Node)>,
        merged: Vec<Node>,
    ) -> Result<Vec<(Key, Node)>, Malformed> {
        each_key_once(&entries)?;
        for node in merged {
            let sources = match node.value {
                Value::List(items) => items,
                _ => vec![node],
            };
            for source in sources {
                let Value::Map(inherited) = source.value else {
                    return Err(Malformed::new(source.spot, "`<<` takes a table, or a list of tables"));
                };
                for (key, node) in inherited {
                    if !entries.iter().any(|(have, _)| have.name == key.name) {
                        self.growth.add(key.spot, 1)?;
                        entries.push((key, node));
                    }
                }
            }
        }
        Ok(entries)
    }
}

fn name(node: &Node) -> Result<String, Malformed> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        other => Err(Malformed::new(node.spot, format!("a key is text, not {}", other.noun()))),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Spot) -> Result<Value, Malformed> {
    if let Some(tag) = tag {
        let known = tag.is_yaml_core_schema() || tag.handle.is_empty() && tag.suffix == "!";
        return match tag.suffix.as_str() {
            _ if !known => Err(Malformed::new(at, format!("the tag `{tag}` is not known"))),
            "str" | "!" => Ok(Value::Text(text.to_owned())),
            _ => Ok(plain(text)),
        };
    }
    Ok(if style == ScalarStyle::Plain { plain(text) } else { Value::Text(text.to_owned()) })
}

/// What a plain scalar means. A number whose text would not come back the same stays text: `010`, `1_000`.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(whole) = text.parse::<i64>().ok().filter(|whole| whole.to_string() == text) {
        return Value::Integer(whole);
    }
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    let has_digit = text.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>() {
        Ok(number) if numeric && has_digit && text.contains('.') && number.is_finite() => {
            Value::Float(number)
        }
        _ => Value::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_mean_what_the_core_schema_says_and_numbers_keep_their_text() {
        let text = "a: [1, 010, 1.5, true, yes, ~, '2', 1.2.3, -7]\nb: |\n  x\n  y\n";
        let root = parse(text).unwrap();
        let values: Vec<_> =
            root.get("a").unwrap().items().unwrap().iter().map(|n| n.value.clone()).collect();
        let text = |t: &str| Value::Text(t.to_owned());
        let expected = vec![
            Value::Integer(1),
            text("010"),
            Value::Float(1.5),
            Value::Bool(true),
            text("yes"),
            Value::Null,
            text("2"),
            text("1.2.3"),
            Value::Integer(-7),
        ];
        assert_eq!(values, expected);
        assert_eq!(root.get("b").unwrap().text(), Some("x\ny\n"));
    }

    #[test]
    fn places_are_lines_and_characters() {
        let root = parse("# ü\nservers:\n  - name: \"ü\"\n    type: stdio\n").unwrap();
        let server = &root.get("servers").unwrap().items().unwrap()[0];
        let entries = server.entries().unwrap();
        assert_eq!((entries[1].0.spot.line, entries[1].0.spot.column), (4, 5));
        assert_eq!((entries[1].1.spot.line, entries[1].1.spot.column), (4, 11));
    }

    #[test]
    fn aliases_and_merged_tables_are_filled_in() {
        let root = parse("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b]\n").unwrap();
        let used = root.get("use").unwrap();
        assert_eq!(used.get("x").unwrap().value, Value::Integer(1));
        assert_eq!(used.get("y").unwrap().value, Value::Integer(3));
        assert_eq!(root.get("list").unwrap().items().unwrap()[0], *root.get("base").unwrap());
    }

    #[test]
    fn a_bomb_of_aliases_stops_at_the_ceiling() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..30 {
            let aliases = vec![format!("*a{}", n - 1); 9].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
        }
        assert!(parse(&text).unwrap_err().what.contains("values"));
        assert!(parse("a: &a [*a]").is_err());
    }

    #[test]
    fn what_readers_understand_differently_is_refused() {
        for text in
            ["a: 1\na: 2", "--- a\n--- b\n", "a: !python/object:os.system x", "? [a]\n: b", "", "<<: 1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
    }
}
