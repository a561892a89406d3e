//! Pure: how the reference server words things: errors of Node, its dates, sizes and order of names, and what its
//! schema library says of a wrong argument.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// What Node says of an error of the kernel; `None` for one that it hardly ever meets here.
pub fn errno_text(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOENT => "ENOENT: no such file or directory",
        libc::EISDIR => "EISDIR: illegal operation on a directory",
        libc::ENOTDIR => "ENOTDIR: not a directory",
        libc::EACCES => "EACCES: permission denied",
        libc::EPERM => "EPERM: operation not permitted",
        libc::EEXIST => "EEXIST: file already exists",
        libc::EINVAL => "EINVAL: invalid argument",
        libc::ENOTEMPTY => "ENOTEMPTY: directory not empty",
        libc::ENAMETOOLONG => "ENAMETOOLONG: name too long",
        libc::ENOSPC => "ENOSPC: no space left on device",
        libc::EROFS => "EROFS: read-only file system",
        libc::EXDEV => "EXDEV: cross-device link not permitted",
        _ => return None,
    })
}

/// A moment as JavaScript writes it, in UTC.
pub fn date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = ms.div_euclid(1000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let index = |n: i64| usize::try_from(n).unwrap_or_default();
    // Days since 0000-03-01, so that a leap day ends its year (Hinnant, "chrono-compatible date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400 + i64::from(month >= 10);
    format!(
        "{} {} {day:02} {year} {:02}:{:02}:{:02} GMT+0000 (Coordinated Universal Time)",
        DAYS[index(days.rem_euclid(7))],
        MONTHS[index((month + 2) % 12)],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A size as the reference writes it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut unit = 0;
    while unit < UNITS.len() - 1 && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits behind the point are shown")]
    let shown = bytes as f64 / (1_u64 << (10 * unit)) as f64;
    format!("{shown:.2} {}", UNITS[unit])
}

/// The order of names in a list with sizes: signs, digits, letters; capitals count last. For letters beyond ASCII it
/// is their order in Unicode.
pub fn order(a: &str, b: &str) -> Ordering {
    const SIGNS: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
    let weight = |c: char| match SIGNS.find(c) {
        Some(at) => (0, u32::try_from(at).unwrap_or_default()),
        None if c.is_ascii_digit() => (1, u32::from(c)),
        None => (2, c.to_lowercase().next().map_or(0, u32::from)),
    };
    let primary = a.chars().map(weight).cmp(b.chars().map(weight));
    let capitals = || a.chars().map(char::is_uppercase).cmp(b.chars().map(char::is_uppercase));
    primary.then_with(capitals)
}

/// Text at least this long, with blanks in front.
pub fn padded_front(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}

/// A name with blanks behind it: JavaScript counts units of UTF-16.
pub fn padded(text: &str, width: usize) -> String {
    let units = text.encode_utf16().count();
    format!("{text}{}", " ".repeat(width.saturating_sub(units)))
}

/// What is wrong with the arguments of a call, in the words of the reference's schema library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit(String);

impl Misfit {
    /// The whole text of the reply.
    pub fn text(&self, tool: &str) -> String {
        format!("MCP error -32602: Input validation error: Invalid arguments for tool {tool}: {}", self.0)
    }

    fn kind(expected: &str, found: Option<&Value>, at: &str) -> Self {
        let found = match found {
            None => "undefined",
            Some(Value::Null) => "null",
            Some(Value::Bool(_)) => "boolean",
            Some(Value::Number(_)) => "number",
            Some(Value::String(_)) => "string",
            Some(Value::Array(_)) => "array",
            Some(Value::Object(_)) => "object",
        };
        Self(format!("Invalid input: expected {expected}, received {found} at {at}"))
    }
}

/// The arguments of a call, asked one by one.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a>(pub &'a Map<String, Value>);

impl<'a> Arguments<'a> {
    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not, or is no text.
    pub fn text(self, name: &str) -> Result<&'a str, Misfit> {
        self.text_or(name)?.ok_or_else(|| Misfit::kind("string", None, name))
    }

    /// A text that may be there.
    ///
    /// # Errors
    /// When it is no text.
    pub fn text_or(self, name: &str) -> Result<Option<&'a str>, Misfit> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            other => Err(Misfit::kind("string", other, name)),
        }
    }

    /// A number that may be there.
    ///
    /// # Errors
    /// When it is no number.
    pub fn number(self, name: &str) -> Result<Option<f64>, Misfit> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(number.as_f64()),
            other => Err(Misfit::kind("number", other, name)),
        }
    }

    /// A count that may be there; what is below nothing is nothing.
    ///
    /// # Errors
    /// When it is no number.
    pub fn count(self, name: &str) -> Result<Option<usize>, Misfit> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, as it should"
        )]
        Ok(self.number(name)?.map(|number| number.max(0.0) as usize))
    }

    /// A yes or no; no when it is not there.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(self, name: &str) -> Result<bool, Misfit> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            other => Err(Misfit::kind("boolean", other, name)),
        }
    }

    /// A list of texts; `None` when it is not there.
    ///
    /// # Errors
    /// When it is none.
    pub fn texts(self, name: &str) -> Result<Option<Vec<String>>, Misfit> {
        let items = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            other => return Err(Misfit::kind("array", other, name)),
        };
        let text = |(n, item): (usize, &Value)| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(Misfit::kind("string", Some(other), &format!("{name}[{n}]"))),
        };
        items.iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of texts that must be there with one text at least.
    ///
    /// # Errors
    /// When it is none.
    pub fn some_texts(self, name: &str) -> Result<Vec<String>, Misfit> {
        let texts = self.texts(name)?.ok_or_else(|| Misfit::kind("array", None, name))?;
        if texts.is_empty() {
            return Err(Misfit(format!("Too small: expected array to have >=1 items at {name}")));
        }
        Ok(texts)
    }

    /// A list of objects that must be there.
    ///
    /// # Errors
    /// When it is none.
    pub fn objects(self, name: &str) -> Result<Vec<&'a Map<String, Value>>, Misfit> {
        let items = match self.0.get(name) {
            Some(Value::Array(items)) => items,
            other => return Err(Misfit::kind("array", other, name)),
        };
        let object = |(n, item): (usize, &'a Value)| match item {
            Value::Object(map) => Ok(map),
            other => Err(Misfit::kind("object", Some(other), &format!("{name}[{n}]"))),
        };
        items.iter().enumerate().map(object).collect()
    }

    /// One of some words; the first when it is not there.
    ///
    /// # Errors
    /// When it is another.
    pub fn word(self, name: &str, words: &[&'static str]) -> Result<&'static str, Misfit> {
        let given = match self.0.get(name) {
            None => return Ok(words[0]),
            Some(given) => given.as_str(),
        };
        let found = given.and_then(|given| words.iter().find(|word| **word == given));
        found.copied().ok_or_else(|| {
            let list: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            Misfit(format!("Invalid option: expected one of {} at {name}", list.join("|")))
        })
    }
}

/// A misfit inside a list of objects: the place gets the list's name in front.
pub fn inside(list: &str, n: usize, misfit: Misfit) -> Misfit {
    match misfit.0.rsplit_once(" at ") {
        Some((what, place)) => Misfit(format!("{what} at {list}[{n}].{place}")),
        None => misfit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_sizes_and_names_are_written_as_the_reference_does() {
        assert_eq!(date(0), "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)");
        assert_eq!(date(1_795_389_680_123), "Sun Nov 22 2026 23:21:20 GMT+0000 (Coordinated Universal Time)");
        assert_eq!(date(1_709_210_096_000), "Thu Feb 29 2024 12:34:56 GMT+0000 (Coordinated Universal Time)");
        assert_eq!([size(0), size(1023), size(1024), size(1479)], ["0 B", "1023 B", "1.00 KB", "1.44 KB"]);
        assert_eq!(size(5 << 40), "5.00 TB");
        let mut names = vec!["b", "A", "a", "_x", "10", "B", ".git", "Z"];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(names, ["_x", ".git", "10", "a", "A", "b", "B", "Z"]);
        assert_eq!(padded("é", 3), "é  ");
    }

    #[test]
    fn a_wrong_argument_is_named_as_the_reference_names_it() {
        let map = serde_json::json!({"path": 3, "edits": [{"oldText": "a"}], "sortBy": "x"});
        let arguments = Arguments(map.as_object().unwrap());
        assert_eq!(
            arguments.text("path").unwrap_err().0,
            "Invalid input: expected string, received number at path"
        );
        let edits = arguments.objects("edits").unwrap();
        let misfit = inside("edits", 0, Arguments(edits[0]).text("newText").unwrap_err());
        assert_eq!(misfit.0, "Invalid input: expected string, received undefined at edits[0].newText");
        assert_eq!(
            arguments.word("sortBy", &["name", "size"]).unwrap_err().0,
            "Invalid option: expected one of \"name\"|\"size\" at sortBy"
        );
    }
}
