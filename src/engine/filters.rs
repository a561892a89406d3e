//! Pure: `--filter` of what lists and prunes images, in Docker's words.

use std::collections::BTreeMap;

use crate::error::{ErrorKind, Fault};
use crate::image::when;
use crate::names::ImageReference;

/// Why a filter is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It has no value.
    #[error("invalid filter `{text}`: expected `NAME=VALUE`")]
    Form {
        /// What was typed.
        text: String,
    },
    /// Nobody knows it here.
    #[error("invalid filter `{name}`")]
    Unknown {
        /// What was typed.
        name: String,
        /// What is known.
        known: &'static [&'static str],
    },
    /// Its value says nothing.
    #[error("invalid filter `{name}={value}`: {reason}")]
    Value {
        /// The filter.
        name: String,
        /// What was typed.
        value: String,
        /// Why.
        reason: &'static str,
    },
}

impl Fault for FilterError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { known, .. } => vec![format!("there are {}", known.join(", "))],
            Self::Form { .. } | Self::Value { .. } => Vec::new(),
        }
    }
}

/// What `images` knows.
pub const OF_IMAGES: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];
/// What `prune` knows.
pub const OF_PRUNE: &[&str] = &["dangling", "label", "label!", "until"];

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    /// Without any name, or with one.
    pub dangling: Option<bool>,
    /// Labels that must be there, with their value where one was typed.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that must not be there.
    pub no_labels: Vec<(String, Option<String>)>,
    /// Older than these images.
    pub before: Vec<ImageReference>,
    /// Younger than these images.
    pub since: Vec<ImageReference>,
    /// Made before this moment, in seconds since 1970.
    pub until_s: Option<i64>,
    /// Patterns of names, one of which must fit.
    pub references: Vec<String>,
}

impl Filters {
    /// Reads what was typed, of which only `known` are allowed; `now_s` is the time, in seconds since 1970.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn parse(texts: &[String], known: &'static [&'static str], now_s: i64) -> Result<Self, FilterError> {
        let mut filters = Self::default();
        for text in texts {
            let (name, value) =
                text.split_once('=').ok_or_else(|| FilterError::Form { text: shown(text) })?;
            let name = name.trim().to_lowercase();
            let value = value.trim();
            let wrong = |reason| FilterError::Value { name: name.clone(), value: shown(value), reason };
            let image =
                || value.parse::<ImageReference>().map_err(|_e| wrong("expected the name or id of an image"));
            if !known.contains(&name.as_str()) {
                return Err(FilterError::Unknown { name: shown(&name), known });
            }
            match name.as_str() {
                "dangling" => {
                    filters.dangling = Some(truth(value).ok_or_else(|| wrong("expected true or false"))?)
                }
                "label" => filters.labels.push(label(value)),
                "label!" => filters.no_labels.push(label(value)),
                "before" => filters.before.push(image()?),
                "since" => filters.since.push(image()?),
                "until" => {
                    let moment = moment(value, now_s).ok_or_else(|| {
                        wrong("expected a time such as 2026-01-31, a number of seconds since 1970, or an age such as 24h")
                    })?;
                    filters.until_s = Some(filters.until_s.map_or(moment, |known| known.min(moment)));
                }
                _ => filters.references.push(value.to_owned()),
            }
        }
        Ok(filters)
    }

    /// Whether labels have to be looked at.
    pub fn asks_for_labels(&self) -> bool {
        !self.labels.is_empty() || !self.no_labels.is_empty()
    }

    /// Whether an image with these labels is meant.
    pub fn fits_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(name, value): &(String, Option<String>)| {
            labels.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.labels.iter().all(has) && !self.no_labels.iter().any(has)
    }

    /// Whether an image that was made at this moment, in seconds since 1970, is old enough.
    pub fn fits_until(&self, created_s: Option<i64>) -> bool {
        self.until_s.is_none_or(|until| created_s.is_none_or(|created| created < until))
    }

    /// Whether a name is meant: all are when no pattern was typed.
    pub fn fits_name(&self, name: &ImageReference) -> bool {
        let familiar = name.familiar();
        let repository = repository(name);
        let fits = |pattern: &String| matches(pattern, &familiar) || matches(pattern, &repository);
        self.references.is_empty() || self.references.iter().any(fits)
    }
}

/// The short form of a name without tag and digest.
pub fn repository(name: &ImageReference) -> String {
    let familiar = name.familiar();
    let name_only = familiar.split('@').next().unwrap_or_default();
    match name.tag() {
        Some(tag) => name_only.strip_suffix(&format!(":{tag}")).unwrap_or(name_only).to_owned(),
        None => name_only.to_owned(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

fn label(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "1" | "t" | "true" => Some(true),
        "0" | "f" | "false" => Some(false),
        _ => None,
    }
}

/// A moment: an age in Go's words (`1h30m`), seconds since 1970, or a date with or without a time.
fn moment(text: &str, now_s: i64) -> Option<i64> {
    if let Some(age_s) = age(text) {
        return now_s.checked_sub(age_s);
    }
    let seconds = text.split('.').next().unwrap_or_default();
    seconds.parse::<i64>().ok().or_else(|| when::parse(text).map(|(seconds, _)| seconds))
}

/// Seconds of an age in Go's words.
fn age(text: &str) -> Option<i64> {
    let (mut rest, mut total_s) = (text, 0.0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_s = match &rest[digits..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total_s += number * unit_s;
        rest = &rest[unit_end..];
    }
    let whole = format!("{:.0}", total_s.trunc());
    (!text.is_empty()).then(|| whole.parse().ok())?
}

/// Whether a name fits a pattern of Go's `path.Match`: `*` and `?` stop at a slash, `[a-z]` is one of
/// these, `\` takes the next one as it is.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it takes one more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let next = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) => one(&pattern[p..], text[t]),
            None => None,
        };
        match (next, star) {
            (Some(used), _) => (p, t) = (p + used, t + 1),
            (None, Some((after, at))) if text[at] != '/' => {
                star = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// How many of the pattern's characters stand for `c`, when they do.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let (is_not, set) = match pattern[1] {
                '^' => (true, &pattern[2..end]),
                _ => (false, &pattern[1..end]),
            };
            let mut fits = false;
            let mut at = 0;
            while at < set.len() {
                let range = set.get(at + 1) == Some(&'-') && at + 2 < set.len();
                let last = if range { set[at + 2] } else { set[at] };
                fits |= (set[at]..=last).contains(&c);
                at += if range { 3 } else { 1 };
            }
            (fits != is_not).then_some(end + 1)
        }
        plain => (*plain == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filters, FilterError> {
        Filters::parse(&[text.to_owned()], OF_IMAGES, 1_000_000)
    }

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, text, fits) in [
            ("alp*", "alpine", true),
            ("alp*", "alpine:3", true),
            ("alpine", "alpine:3", false),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[a-", "a", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("\\*", "*", true),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_moment_is_an_age_a_number_or_a_date() {
        for (text, moment) in [
            ("until=1h", 996_400),
            ("until=1h30m", 994_600),
            ("until=1.5h", 994_600),
            ("until=500", 500),
            ("until=1970-01-02", 86_400),
            ("until=1970-01-02T00:00:01Z", 86_401),
        ] {
            assert_eq!(parse(text).unwrap().until_s, Some(moment), "{text}");
        }
        for text in ["until=", "until=yesterday", "until=1x"] {
            assert!(matches!(parse(text), Err(FilterError::Value { .. })), "{text}");
        }
    }

    #[test]
    fn labels_are_there_with_their_value_or_not_at_all() {
        let labels: BTreeMap<_, _> = [("a".to_owned(), "1".to_owned())].into();
        for (text, fits) in [
            ("label=a", true),
            ("label=a=1", true),
            ("label=a=2", false),
            ("label=b", false),
            ("label!=b", true),
            ("label!=a=1", false),
        ] {
            assert_eq!(parse(text).unwrap().fits_labels(&labels), fits, "{text}");
        }
    }

    #[test]
    fn a_filter_that_is_not_known_here_is_refused() {
        assert!(matches!(parse("colour=red"), Err(FilterError::Unknown { .. })));
        assert!(matches!(parse("dangling"), Err(FilterError::Form { .. })));
        assert!(matches!(parse("dangling=perhaps"), Err(FilterError::Value { .. })));
        let prune = Filters::parse(&["reference=a".to_owned()], OF_PRUNE, 0);
        assert!(matches!(prune, Err(FilterError::Unknown { .. })));
    }

    #[test]
    fn a_name_fits_with_and_without_its_tag() {
        let filters = parse("reference=me/app").unwrap();
        assert!(filters.fits_name(&"me/app:1".parse().unwrap()));
        assert!(!filters.fits_name(&"me/apps:1".parse().unwrap()));
        assert_eq!(repository(&"localhost:5000/a:1".parse().unwrap()), "localhost:5000/a");
    }
}
