//! Pure: why something was not done in a workspace, in the words that a client can branch on.
//!
//! It is one type for the whole part, for it crosses the wire: a code for programs, a line for the reader,
//! a hint, and data. What lies outside the roots is never named in it.

use std::io;

use serde_json::{Value, json};

use crate::error::{ErrorKind, Fault};

/// What a client may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The path leads out of every root.
    PathEscape,
    /// The path is one that nobody may change through us.
    Protected,
    /// The root is read-only.
    ReadOnly,
    /// There is nothing at the path.
    NotFound,
    /// There is something at the path already.
    Exists,
    /// It is a folder, and a file was wanted.
    IsDirectory,
    /// It is no folder, and a folder was wanted.
    NotDirectory,
    /// It is a pipe, a device or a socket.
    NotRegular,
    /// It is no text.
    Binary,
    /// The text cannot be read or written in that encoding.
    Encoding,
    /// A named limit was reached.
    TooLarge,
    /// Somebody else changed it meanwhile.
    Conflict,
    /// The text to replace is not there.
    NoMatch,
    /// The text to replace is there more than once.
    Ambiguous,
    /// What is asked for is there already.
    AlreadyApplied,
    /// Another number of places than was expected.
    CountMismatch,
    /// The patch cannot be understood.
    PatchSyntax,
    /// The pattern cannot be understood.
    BadPattern,
    /// It must be read first.
    ReadRequired,
    /// The result would break a rule that was asked for.
    CheckFailed,
    /// There is no such transaction.
    TxNotFound,
    /// The transaction is too old.
    TxExpired,
    /// There is no such operation.
    NoOperation,
    /// There is no such snapshot.
    NoSnapshot,
    /// A token from too long ago, or from another server.
    TokenExpired,
    /// The room that was given is used up.
    Quota,
    /// It took too long.
    Timeout,
    /// The client took it back.
    Cancelled,
    /// It cannot be done to such a file, or here.
    Unsupported,
    /// The request itself is wrong.
    BadRequest,
    /// The system says no.
    Denied,
    /// It was tried and went wrong.
    Failed,
}

impl Code {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::PathEscape => "PATH_ESCAPE",
            Self::Protected => "PROTECTED",
            Self::ReadOnly => "READ_ONLY",
            Self::NotFound => "NOT_FOUND",
            Self::Exists => "EXISTS",
            Self::IsDirectory => "IS_DIRECTORY",
            Self::NotDirectory => "NOT_DIRECTORY",
            Self::NotRegular => "NOT_REGULAR",
            Self::Binary => "BINARY",
            Self::Encoding => "ENCODING",
            Self::TooLarge => "TOO_LARGE",
            Self::Conflict => "CONFLICT",
            Self::NoMatch => "NO_MATCH",
            Self::Ambiguous => "AMBIGUOUS",
            Self::AlreadyApplied => "ALREADY_APPLIED",
            Self::CountMismatch => "COUNT_MISMATCH",
            Self::PatchSyntax => "PATCH_SYNTAX",
            Self::BadPattern => "BAD_PATTERN",
            Self::ReadRequired => "READ_REQUIRED",
            Self::CheckFailed => "CHECK_FAILED",
            Self::TxNotFound => "TX_NOT_FOUND",
            Self::TxExpired => "TX_EXPIRED",
            Self::NoOperation => "NO_OPERATION",
            Self::NoSnapshot => "NO_SNAPSHOT",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::Quota => "QUOTA",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
            Self::Unsupported => "UNSUPPORTED",
            Self::BadRequest => "BAD_REQUEST",
            Self::Denied => "DENIED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether the same request may succeed later, or after a new look at the file.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Conflict | Self::Timeout | Self::Cancelled | Self::ReadRequired)
    }

    /// What the kernel's number means for a path that is inside.
    pub fn of(errno: i32) -> Self {
        match errno {
            libc::ENOENT => Self::NotFound,
            libc::EEXIST | libc::ENOTEMPTY => Self::Exists,
            libc::EISDIR => Self::IsDirectory,
            libc::ENOTDIR => Self::NotDirectory,
            // A link out of the root, or a descriptor of another process.
            libc::EXDEV | libc::ELOOP => Self::PathEscape,
            // open(2) of a socket.
            libc::ENXIO | libc::ENODEV => Self::NotRegular,
            libc::EROFS => Self::ReadOnly,
            libc::ENOSPC | libc::EDQUOT => Self::Quota,
            libc::EFBIG | libc::ENAMETOOLONG => Self::TooLarge,
            libc::EACCES | libc::EPERM => Self::Denied,
            _ => Self::Failed,
        }
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a client may branch on.
    pub code: Code,
    /// The path as the client would name it.
    pub path: Option<String>,
    /// One line or more for the reader, the first says it all.
    pub message: String,
    /// What the reader can do now.
    pub hint: Option<String>,
    /// What helps a program: places, candidates, hashes.
    pub data: Option<Value>,
    /// The kernel's number, where the kernel said it.
    pub errno: Option<i32>,
}

impl Refusal {
    /// A refusal with one line.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, path: None, message: message.into(), hint: None, data: None, errno: None }
    }

    /// What the kernel said about `path` while something was done to it: a verb.
    pub fn kernel(action: &str, path: impl Into<String>, errno: i32) -> Self {
        let path = path.into();
        let code = Code::of(errno);
        let why = match code {
            Code::NotFound => "there is no such file or folder".to_owned(),
            Code::PathEscape => "a link on the way leads out of the workspace".to_owned(),
            Code::NotRegular => "it is no regular file".to_owned(),
            _ => io::Error::from_raw_os_error(errno).to_string(),
        };
        let mut refusal = Self::new(code, format!("cannot {action} `{path}`: {why}")).at(path);
        refusal.errno = Some(errno);
        refusal
    }

    /// The same about this path.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same with what the reader can do now.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with what helps a program.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The structured form on the wire.
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code.word(),
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.code.is_retryable(),
            "data": self.data,
        })
    }
}

impl Fault for Refusal {
    fn kind(&self) -> ErrorKind {
        match self.code {
            Code::NotFound | Code::TxNotFound | Code::NoOperation | Code::NoSnapshot => ErrorKind::NotFound,
            Code::Exists => ErrorKind::Exists,
            Code::PathEscape | Code::Protected | Code::ReadOnly | Code::Denied | Code::ReadRequired => {
                ErrorKind::Denied
            }
            Code::TooLarge | Code::Quota | Code::Timeout => ErrorKind::Limit,
            Code::Unsupported | Code::NotRegular | Code::Binary | Code::Encoding => ErrorKind::Unsupported,
            Code::PatchSyntax | Code::BadPattern | Code::BadRequest => ErrorKind::Usage,
            Code::Failed => ErrorKind::Failed,
            _ => ErrorKind::State,
        }
    }

    fn hints(&self) -> Vec<String> {
        self.hint.iter().cloned().collect()
    }
}
