//! Pure: placeholders such as `${env:TOKEN}`, `${TOKEN:-none}` and `${workspaceFolder}`, filled in from values that
//! somebody handed down.
//!
//! A value is put in as it is: what looks like a placeholder in it stays. A missing one is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest text with its placeholders filled in, in bytes: what the kernel takes as one argument.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

/// What becomes of placeholders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filling {
    /// They become their values.
    #[default]
    Values,
    /// They stay, written as our own format has them: for what is written out, where no secret belongs.
    Names,
}

/// What placeholders may stand for.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// What becomes of placeholders.
    pub filling: Filling,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The home folder.
    pub home: Option<PathBuf>,
    /// The folder that is worked in: `${workspaceFolder}`.
    pub workspace: PathBuf,
    /// What a client would ask a person for: `${input:NAME}`.
    pub inputs: BTreeMap<String, String>,
}

impl Surroundings {
    /// The value of a variable, or its placeholder where those stay.
    pub fn variable(&self, name: &str) -> Option<String> {
        match self.filling {
            Filling::Values => self.environment.get(name).cloned(),
            Filling::Names => Some(format!("${{env:{name}}}")),
        }
    }
}

/// Which placeholders a format has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// None: text is meant as it stands.
    Literal,
    /// `${env:X}`, `${X}`, `${X:-default}`, `${input:X}` and the folders.
    Braces,
    /// The same, and `$${` for a `${` that is meant as it stands: our own.
    Ours,
}

/// Why a text cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfilled {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub right: String,
}

impl Unfilled {
    fn new(what: impl Into<String>, right: impl Into<String>) -> Self {
        Self { what: what.into(), right: right.into() }
    }
}

/// Fills in the placeholders of a text.
///
/// # Errors
/// [`Unfilled`] when one has no value, is none of ours or is not closed.
pub fn fill(text: &str, dialect: Dialect, surroundings: &Surroundings) -> Result<String, Unfilled> {
    if !text.contains("${") {
        return within(text.to_owned());
    }
    let stays = surroundings.filling == Filling::Names;
    if dialect == Dialect::Literal {
        return within(if stays { text.replace("${", "$${") } else { text.to_owned() });
    }
    let mut filled = String::new();
    let mut left = text;
    while let Some(at) = left.find("${") {
        let (before, after) = left.split_at(at);
        filled.push_str(before);
        if dialect == Dialect::Ours && before.ends_with('$') {
            // The first of the two signs goes; where placeholders stay it is needed again.
            if !stays {
                filled.pop();
            }
            filled.push_str("${");
            left = &after[2..];
            continue;
        }
        let Some(end) = after.find('}') else {
            return Err(Unfilled::new("a placeholder without its `}`", "close it: `${env:NAME}`"));
        };
        filled.push_str(&value(&after[2..end], surroundings)?);
        left = &after[end + 1..];
        if filled.len() > TEXT_BYTES_MAX {
            return within(filled);
        }
    }
    filled.push_str(left);
    within(filled)
}

fn within(text: String) -> Result<String, Unfilled> {
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("text of more than {TEXT_BYTES_MAX} bytes");
        return Err(Unfilled::new(what, "no program can be started with it: shorten it"));
    }
    if text.contains('\0') {
        return Err(Unfilled::new("text with a NUL character", "remove it"));
    }
    Ok(text)
}

fn value(name: &str, surroundings: &Surroundings) -> Result<String, Unfilled> {
    let workspace = &surroundings.workspace;
    let stays = surroundings.filling == Filling::Names;
    match name {
        "workspaceFolder" | "cwd" if stays => return Ok("${workspaceFolder}".to_owned()),
        "workspaceFolderBasename" if stays => return Ok("${workspaceFolderBasename}".to_owned()),
        "userHome" | "home" if stays => return Ok("${userHome}".to_owned()),
        "workspaceFolder" | "cwd" => return path(workspace),
        "workspaceFolderBasename" => return path(Path::new(workspace.file_name().unwrap_or_default())),
        "userHome" | "home" => {
            let home = surroundings.home.as_deref();
            let none = || Unfilled::new("no home folder is known", "set HOME, or write the path");
            return path(home.ok_or_else(none)?);
        }
        "pathSeparator" | "/" => return Ok("/".to_owned()),
        _ => {}
    }
    if let Some(input) = name.strip_prefix("input:") {
        if stays {
            return Ok(format!("${{input:{input}}}"));
        }
        let missing = || {
            Unfilled::new(
                format!("the input `{input}` has no value, and nobody can be asked"),
                format!("say it: `--input {input}=VALUE`"),
            )
        };
        return surroundings.inputs.get(input).cloned().ok_or_else(missing);
    }
    let (variable, default) = match name.strip_prefix("env:").unwrap_or(name).split_once(":-") {
        Some((variable, default)) => (variable, Some(default)),
        None => (name.strip_prefix("env:").unwrap_or(name), None),
    };
    if variable.is_empty() || variable.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
        return Err(Unfilled::new(
            format!("`${{{}}}` is no placeholder that can be filled in", short(name)),
            "known are `${env:NAME}`, `${NAME:-default}`, `${input:NAME}`, `${workspaceFolder}`, `${userHome}`",
        ));
    }
    if stays {
        return Ok(match default {
            Some(default) => format!("${{{variable}:-{default}}}"),
            None => format!("${{env:{variable}}}"),
        });
    }
    match (surroundings.environment.get(variable), default) {
        (Some(value), None) => Ok(value.clone()),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value.clone()),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unfilled::new(
            format!("the variable `{variable}` is not set"),
            format!("set it where cuddy is started, or write `${{{variable}:-default}}`"),
        )),
    }
}

fn short(name: &str) -> String {
    name.chars().take(40).collect()
}

fn path(path: &Path) -> Result<String, Unfilled> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Unfilled::new(format!("`{}` is not UTF-8", path.display()), "name another folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings() -> Surroundings {
        let map = |entries: &[(&str, &str)]| {
            entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Surroundings {
            environment: map(&[("TOKEN", "a${TOKEN}b"), ("EMPTY", "")]),
            home: Some("/home/me".into()),
            workspace: "/w/project".into(),
            inputs: map(&[("key", "k")]),
            ..Surroundings::default()
        }
    }

    #[test]
    fn where_placeholders_stay_no_value_is_written_and_the_text_means_the_same_to_us() {
        let names = Surroundings { filling: Filling::Names, ..surroundings() };
        for (text, dialect, expected) in [
            ("${TOKEN}-${NONE}", Dialect::Braces, "${env:TOKEN}-${env:NONE}"),
            ("${X:-d}${input:q}${cwd}", Dialect::Braces, "${X:-d}${input:q}${workspaceFolder}"),
            ("${TOKEN}", Dialect::Literal, "$${TOKEN}"),
            ("$${TOKEN}", Dialect::Ours, "$${TOKEN}"),
        ] {
            let written = fill(text, dialect, &names).unwrap();
            assert_eq!(written, expected);
        }
        assert_eq!(fill("a$${TOKEN}${EMPTY}", Dialect::Ours, &surroundings()).as_deref(), Ok("a${TOKEN}"));
        assert_eq!(names.variable("TOKEN").as_deref(), Some("${env:TOKEN}"));
    }

    #[test]
    fn every_placeholder_becomes_its_value_and_a_value_is_not_looked_at_again() {
        for (text, expected) in [
            ("plain $HOME", "plain $HOME"),
            ("${env:TOKEN}", "a${TOKEN}b"),
            ("<${TOKEN}>", "<a${TOKEN}b>"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}${NONE:-e}", "de"),
            ("${env:NONE:-x:-y}", "x:-y"),
            ("${workspaceFolder}/src ${workspaceFolderBasename}", "/w/project/src project"),
            ("${userHome}${/}x", "/home/me/x"),
            ("${input:key}", "k"),
        ] {
            assert_eq!(fill(text, Dialect::Braces, &surroundings()).as_deref(), Ok(expected));
        }
        assert_eq!(fill("${NONE}", Dialect::Literal, &surroundings()).as_deref(), Ok("${NONE}"));
    }

    #[test]
    fn what_has_no_value_is_an_error_that_names_it() {
        for (text, part) in [
            ("${NONE}", "`NONE` is not set"),
            ("${env:NONE}", "`NONE` is not set"),
            ("${input:x}", "`x` has no value"),
            ("${command:x}", "no placeholder"),
            ("${", "without its"),
            ("${}", "no placeholder"),
            ("a\0b", "NUL"),
        ] {
            let error = fill(text, Dialect::Braces, &surroundings()).expect_err(text);
            assert!(error.what.contains(part), "{text}: {}", error.what);
        }
    }

    #[test]
    fn what_no_program_could_be_started_with_is_refused() {
        let mut surroundings = surroundings();
        surroundings.environment.insert("BIG".to_owned(), "x".repeat(100_000));
        assert!(fill("${BIG}", Dialect::Braces, &surroundings).is_ok());
        assert!(fill(&"${BIG}".repeat(1000), Dialect::Braces, &surroundings).is_err());
    }
}
