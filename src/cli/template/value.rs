//! Pure: what a template computes with: JSON and what is made of it, printed, compared and called by
//! its type as Go does. It evaluates nothing and knows no function.

use std::cmp::Ordering;
use std::rc::Rc;

use serde_json::Value;

/// What Go type stands behind a JSON value. It decides what an absent key is: an error in a struct,
/// `<no value>` in a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Whatever it is; an object is a map of anything.
    Any,
    /// Text; where it is absent in a map, the empty text.
    Text,
    /// A map, all of whose values are so; null is an empty one.
    Map(&'static Shape),
    /// A list, all of whose elements are so; null is an empty one.
    List(&'static Shape),
    /// A struct: another field than those of the object is an error. Null is a nil pointer.
    Struct {
        /// How Go calls it in an error.
        name: &'static str,
        /// The fields that are more than [`Shape::Any`]. They need not be in the object.
        fields: &'static [(&'static str, Shape)],
    },
    /// A method of a struct with one argument that looks up text in a map: `.Label "name"`.
    Lookup,
}

/// The shape of what is in a list or map of anything.
const ANY: &Shape = &Shape::Any;

/// A value while a template is evaluated.
#[derive(Debug, Clone)]
pub enum Val<'v> {
    /// Nothing: an absent key of a map.
    Absent,
    /// `true`, `false`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text that was there.
    Text(&'v str),
    /// Text that was made.
    Made(Rc<str>),
    /// Texts that were made.
    Texts(Rc<[Val<'v>]>),
    /// A map, a list or null, and what stands behind it.
    Json(&'v Value, Shape),
}

/// Kinds that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basic {
    /// Truth.
    Bool,
    /// Whole numbers.
    Int,
    /// Other numbers.
    Float,
    /// Text.
    Text,
    /// Neither of them.
    Other,
}

/// Longest part of a value that an error shows, in characters.
const SHOWN_CHARS_MAX: usize = 200;

impl<'v> Val<'v> {
    /// The value of JSON behind which `shape` stands.
    pub fn of(json: &'v Value, shape: Shape) -> Self {
        match json {
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => {
                match number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
                    Some(value) => Self::Int(value),
                    None => number.as_f64().map_or(Self::Absent, Self::Float),
                }
            }
            Value::Null if shape == Shape::Text => Self::Text(""),
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Json(json, shape),
        }
    }

    /// Text that was made.
    pub fn made(text: &str) -> Self {
        Self::Made(Rc::from(text))
    }

    /// What a map or list that says nothing of `shape` has for an absent element.
    pub fn zero(shape: Shape) -> Self {
        if shape == Shape::Text { Self::Text("") } else { Self::Absent }
    }

    /// The text of a value that is text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is nothing, or null that is no empty map or list.
    pub fn is_nil(&self) -> bool {
        let empty = |shape: &Shape| matches!(shape, Shape::Map(_) | Shape::List(_));
        matches!(self, Self::Absent) || matches!(self, Self::Json(Value::Null, shape) if !empty(shape))
    }

    /// Whether `if` takes it for true.
    pub fn truth(&self) -> bool {
        match self {
            Self::Absent => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Made(text) => !text.is_empty(),
            Self::Texts(texts) => !texts.is_empty(),
            Self::Json(Value::Array(list), _) => !list.is_empty(),
            Self::Json(Value::Object(map), shape) => matches!(shape, Shape::Struct { .. }) || !map.is_empty(),
            Self::Json(..) => false,
        }
    }

    /// What Go calls its type.
    pub fn type_name(&self) -> String {
        match self {
            Self::Absent => "<nil>".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Int(_) => "int".to_owned(),
            Self::Float(_) => "float64".to_owned(),
            Self::Text(_) | Self::Made(_) => "string".to_owned(),
            Self::Texts(_) => "[]string".to_owned(),
            Self::Json(_, shape @ (Shape::Struct { .. } | Shape::Map(_) | Shape::List(_))) => go_name(*shape),
            Self::Json(Value::Array(_), _) => "[]interface {}".to_owned(),
            Self::Json(Value::Object(_), _) => "map[string]interface {}".to_owned(),
            Self::Json(..) => "interface {}".to_owned(),
        }
    }

    /// How many elements it has, and what they are; nothing when it has none by its nature.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Text(text) => Some(text.len()),
            Self::Made(text) => Some(text.len()),
            Self::Texts(texts) => Some(texts.len()),
            Self::Json(Value::Array(list), _) => Some(list.len()),
            Self::Json(Value::Object(map), shape) if !matches!(shape, Shape::Struct { .. }) => {
                Some(map.len())
            }
            Self::Json(Value::Null, Shape::Map(_) | Shape::List(_)) => Some(0),
            _ => None,
        }
    }

    /// Element `at` of a list.
    pub fn at(&self, at: usize) -> Option<Self> {
        match self {
            Self::Texts(texts) => texts.get(at).cloned(),
            Self::Json(Value::Array(list), shape) => {
                list.get(at).map(|value| Self::of(value, element(*shape)))
            }
            _ => None,
        }
    }

    /// Keys and values of a map, in the order of the keys.
    pub fn pairs(&self) -> Vec<(&'v str, Self)> {
        let Self::Json(Value::Object(map), shape) = self else { return Vec::new() };
        let mut pairs: Vec<_> = map
            .iter()
            .map(|(key, value)| (key.as_str(), Self::of(value, field_shape(*shape, key))))
            .collect();
        pairs.sort_by_key(|(key, _)| *key);
        pairs
    }

    /// What a map has under `key`; nothing when it is absent.
    pub fn get(&self, key: &str) -> Option<Self> {
        let Self::Json(Value::Object(map), shape) = self else { return None };
        map.get(key).map(|value| Self::of(value, field_shape(*shape, key)))
    }

    /// Prints it as `fmt.Print` does.
    pub fn print(&self, out: &mut String) {
        match self {
            Self::Absent => out.push_str("<nil>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Float(value) => out.push_str(&float(*value)),
            Self::Text(text) => out.push_str(text),
            Self::Made(text) => out.push_str(text),
            Self::Json(Value::Null, Shape::Map(_)) => out.push_str("map[]"),
            Self::Json(Value::Null, Shape::List(_)) => out.push_str("[]"),
            Self::Json(Value::Object(_), _) => {
                out.push_str("map[");
                for (n, (key, value)) in self.pairs().into_iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { " " });
                    out.push_str(key);
                    out.push(':');
                    value.print(out);
                }
                out.push(']');
            }
            Self::Texts(_) | Self::Json(Value::Array(_), _) => {
                out.push('[');
                for n in 0..self.count().unwrap_or(0) {
                    out.push_str(if n == 0 { "" } else { " " });
                    self.at(n).unwrap_or(Self::Absent).print(out);
                }
                out.push(']');
            }
            Self::Json(..) => out.push_str("<nil>"),
        }
    }

    /// As an action prints it: nothing is `<no value>`.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Absent | Self::Json(Value::Null, Shape::Any) => text.push_str("<no value>"),
            _ => self.print(&mut text),
        }
        text
    }

    /// As an error shows it.
    pub fn in_error(&self) -> String {
        self.shown().chars().take(SHOWN_CHARS_MAX).collect()
    }

    /// It as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Bool(value) => Value::from(*value),
            Self::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => Value::from(value),
                (_, Ok(value)) => Value::from(value),
                _ => Value::Null,
            },
            // Go writes 1.0 as 1.
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e15 => {
                Value::from(format!("{value:.0}").parse::<i64>().unwrap_or(0))
            }
            Self::Float(value) => Value::from(*value),
            Self::Text(text) => Value::from(*text),
            Self::Made(text) => Value::from(&**text),
            Self::Texts(texts) => Value::Array(texts.iter().map(Val::to_json).collect()),
            Self::Json(json, _) => (*json).clone(),
        }
    }

    /// Its kind for a comparison.
    pub fn basic(&self) -> Basic {
        match self {
            Self::Bool(_) => Basic::Bool,
            Self::Int(_) => Basic::Int,
            Self::Float(_) => Basic::Float,
            Self::Text(_) | Self::Made(_) => Basic::Text,
            _ => Basic::Other,
        }
    }

    /// Whether two values are equal.
    ///
    /// # Errors
    /// What Go says of values that cannot be compared.
    pub fn equals(&self, other: &Self) -> Result<bool, String> {
        let kinds = (self.basic(), other.basic());
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Ok(a == b),
            _ if kinds.0 == kinds.1 && kinds.0 != Basic::Other => self.order(other).map(Ordering::is_eq),
            _ if self.is_nil() || other.is_nil() => Ok(self.is_nil() == other.is_nil()),
            _ if kinds.0 == kinds.1 => {
                Err(format!("non-comparable type {}: {}", self.in_error(), self.type_name()))
            }
            _ => Err("incompatible types for comparison".to_owned()),
        }
    }

    /// Which of two values is less.
    ///
    /// # Errors
    /// What Go says of values that have no order.
    pub fn order(&self, other: &Self) -> Result<Ordering, String> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Ok(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => Ok(a.total_cmp(b)),
            _ => match (self.text(), other.text()) {
                (Some(a), Some(b)) => Ok(a.cmp(b)),
                _ if [self.basic(), other.basic()]
                    .iter()
                    .any(|kind| matches!(kind, Basic::Other | Basic::Bool)) =>
                {
                    Err("invalid type for comparison".to_owned())
                }
                _ => Err("incompatible types for comparison".to_owned()),
            },
        }
    }
}

fn go_name(shape: Shape) -> String {
    match shape {
        Shape::Struct { name, .. } => name.to_owned(),
        Shape::Map(inner) => format!("map[string]{}", go_name(*inner)),
        Shape::List(inner) => format!("[]{}", go_name(*inner)),
        Shape::Text => "string".to_owned(),
        Shape::Any | Shape::Lookup => "interface {}".to_owned(),
    }
}

fn element(shape: Shape) -> Shape {
    match shape {
        Shape::List(inner) | Shape::Map(inner) => *inner,
        Shape::Lookup => Shape::Text,
        _ => *ANY,
    }
}

/// The shape of what an object of `shape` has under `key`.
pub fn field_shape(shape: Shape, key: &str) -> Shape {
    match shape {
        Shape::Struct { fields, .. } => {
            fields.iter().find(|(name, _)| *name == key).map_or(Shape::Any, |(_, shape)| *shape)
        }
        other => element(other),
    }
}

/// A float as Go's `%v` has it: the fewest digits, and an exponent below -4 and from 6 on.
pub fn float(value: f64) -> String {
    if !value.is_finite() {
        return match value {
            v if v.is_nan() => "NaN",
            v if v > 0.0 => "+Inf",
            _ => "-Inf",
        }
        .to_owned();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) { format!("{value}") } else { go_exponent(digits, exponent) }
}

/// `1.5e+21`: Go writes the sign and at least two digits.
pub fn go_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_go_prints_them() {
        for (json, text) in [
            (json!({"b": [1, 2.5, "x"], "a": null}), "map[a:<nil> b:[1 2.5 x]]"),
            (json!([]), "[]"),
            (json!(1.0), "1"),
            (json!(1e21), "1e+21"),
            (json!(0.00001), "1e-05"),
            (json!(123_456_789.5), "1.234567895e+08"),
            (json!(100_000.0), "100000"),
            (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
            (json!(null), "<no value>"),
            (json!(true), "true"),
        ] {
            assert_eq!(Val::of(&json, Shape::Any).shown(), text);
        }
        let null = Value::Null;
        assert_eq!(Val::of(&null, Shape::Map(&Shape::Text)).shown(), "map[]");
        assert_eq!(Val::of(&null, Shape::List(&Shape::Text)).shown(), "[]");
        assert_eq!(Val::of(&null, Shape::Struct { name: "S", fields: &[] }).shown(), "<nil>");
    }

    #[test]
    fn unlike_values_cannot_be_compared() {
        assert_eq!(Val::Int(1).equals(&Val::Int(1)), Ok(true));
        assert!(Val::Int(1).equals(&Val::Text("1")).is_err());
        assert_eq!(Val::Text("a").equals(&Val::made("a")), Ok(true));
        assert_eq!(Val::Absent.equals(&Val::Text("a")), Ok(false));
        assert!(Val::Bool(true).order(&Val::Bool(false)).is_err());
        let map = json!({});
        assert!(Val::of(&map, Shape::Any).equals(&Val::of(&map, Shape::Any)).is_err());
    }
}
