//! Pure: the error every verb returns. It names no component, so it can stand above them all.
//!
//! A component has its own small enum that names the object and keeps the cause; `Fault` is how
//! it tells its kind and what the reader can do. It does not print: that is `cli::terminal`.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong: a flag, a name, a combination.
    Usage,
    /// The object that was named does not exist.
    NotFound,
    /// The object that was to be made exists already.
    Exists,
    /// The object exists but is not in a state that allows this.
    State,
    /// The kernel or a policy forbids it.
    Denied,
    /// This host or this version cannot do it.
    Unsupported,
    /// Something outside does not answer.
    Unreachable,
    /// Bytes from outside do not say what they must.
    Corrupt,
    /// A named limit was reached.
    Limit,
    /// It was tried and went wrong.
    Failed,
    /// It cannot happen; it is ours to repair.
    Bug,
}

/// An error enum of one component: what it can be reduced to.
pub trait Fault: StdError {
    /// What a caller may branch on.
    fn kind(&self) -> ErrorKind;

    /// What the reader can do now, one line each.
    fn hints(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What every verb of `engine` returns when it fails. It is data, so that it can cross a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What a caller may branch on.
    pub kind: ErrorKind,
    /// What happened, outermost first: never empty, no text repeats its cause.
    pub chain: Vec<String>,
    /// What the reader can do now, one line each.
    pub hints: Vec<String>,
}

impl Error {
    /// An error with one line and no cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, chain: vec![message.into()], hints: Vec::new() }
    }

    /// The same error with one more line of what the reader can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error under a line that says what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.chain.insert(0, doing.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain.join(": "))
    }
}

impl<F: Fault> From<F> for Error {
    fn from(fault: F) -> Self {
        let mut chain = vec![fault.to_string()];
        let mut source = fault.source();
        while let Some(cause) = source {
            chain.push(cause.to_string());
            source = cause.source();
        }
        Self { kind: fault.kind(), chain, hints: fault.hints() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open `x`")]
    struct Open(#[source] std::io::Error);

    impl Fault for Open {
        fn kind(&self) -> ErrorKind {
            ErrorKind::NotFound
        }
        fn hints(&self) -> Vec<String> {
            vec!["make it".to_owned()]
        }
    }

    #[test]
    fn a_fault_keeps_its_kind_its_causes_and_its_hints() {
        let error = Error::from(Open(std::io::Error::other("gone"))).context("starting");
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert_eq!(error.to_string(), "starting: cannot open `x`: gone");
        assert_eq!(error.hints, ["make it"]);
    }
}
