//! Pure: TOML into a document.

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::engine::config::document::{Growth, Key, Lines, Malformed, Node, Spot, Value};

/// Reads a text; dates become text.
///
/// # Errors
/// Every [`Malformed`] spot.
pub fn parse(text: &str) -> Result<Node, Vec<Malformed>> {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let malformed = |e: &Error| {
            let at = e.span().map_or(0, |span| span.start);
            Malformed::new(lines.spot(at), e.message().lines().collect::<Vec<_>>().join(", "))
        };
        return Err(errors.iter().map(malformed).collect());
    }
    let mut growth = Growth::default();
    let value = map(table.get_ref(), &lines, &mut growth, 1).map_err(|e| vec![e])?;
    Ok(Node { spot: Spot { line: 1, column: 1 }, value })
}

fn map(
    table: &DeTable<'_>,
    lines: &Lines<'_>,
    growth: &mut Growth,
    depth: usize,
) -> Result<Value, Malformed> {
    let mut written: Vec<_> = table.iter().collect();
    written.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::new();
    for (key, value) in written {
        let spot = lines.spot(key.span().start);
        let key = Key { name: key.get_ref().clone().into_owned(), spot };
        entries.push((key, node(value, lines, growth, depth)?));
    }
    Ok(Value::Map(entries))
}

fn node(
    value: &Spanned<DeValue<'_>>,
    lines: &Lines<'_>,
    growth: &mut Growth,
    depth: usize,
) -> Result<Node, Malformed> {
    let spot = lines.spot(value.span().start);
    growth.add(spot, depth)?;
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(moment) => Value::Text(moment.to_string()),
        DeValue::Integer(number) => {
            let whole = i64::from_str_radix(number.as_str(), number.radix());
            Value::Integer(whole.map_err(|e| Malformed::new(spot, format!("no whole number: {e}")))?)
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => return Err(Malformed::new(spot, "a number that is none, or too large")),
        },
        DeValue::Array(array) => {
            let items = array.iter().map(|item| node(item, lines, growth, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => map(table, lines, growth, depth + 1)?,
    };
    Ok(Node { spot, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_the_order_of_the_text_and_every_value_its_place() {
        let text =
            "# c\n[servers.b]\nn = 1_0\nx = 0x10\nf = 1.5\n[servers.a]\nt = 'ü'\nl = [\n 2026-01-02,\n]\n";
        let root = parse(text).unwrap();
        let servers = root.get("servers").unwrap().entries().unwrap();
        assert_eq!(servers.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((servers[0].0.spot.line, servers[0].0.spot.column), (2, 10));
        assert_eq!(servers[0].1.get("n").unwrap().value, Value::Integer(10));
        assert_eq!(servers[0].1.get("x").unwrap().value, Value::Integer(16));
        let date = &servers[1].1.get("l").unwrap().items().unwrap()[0];
        assert_eq!((date.text(), date.spot.line, date.spot.column), (Some("2026-01-02"), 9, 2));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let errors = parse("a = \nb = 1\nb = 2\n").unwrap_err();
        let lines: Vec<u32> = errors.iter().map(|e| e.spot.line).collect();
        assert_eq!(lines, [1, 3], "{errors:?}");
    }

    #[test]
    fn depth_and_number_of_values_have_an_end() {
        assert!(parse(&format!("a = {}{}", "[".repeat(70), "]".repeat(70))).is_err());
        assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert!(parse(&format!("a = [{}]", "1,".repeat(60_000))).is_err());
    }
}
