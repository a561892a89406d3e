//! The token that an HTTP client shows: made by us or read from a file, compared without telling how much of
//! it was right. It is never shown again.

use std::fmt;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fstat};

use crate::error::{ErrorKind, Fault};
use crate::sys::fs::{FsError, open_dir, open_regular, random_bytes, replace_file};

/// Largest file of a token, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Shortest token, in characters: what can be guessed is none.
const CHARACTERS_MIN: usize = 16;
/// Bytes of randomness in a token that we make.
const RANDOM_BYTES: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use the file of the token")]
    Fs(#[from] FsError),
    /// The kernel gives no randomness.
    #[error("cannot make a token")]
    Random(#[source] std::io::Error),
    /// Others can read it.
    #[error("`{path}` can be read by other users: its mode is {mode:04o}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What stands in it is no token.
    #[error(
        "`{path}` holds no token: one line of at least {CHARACTERS_MIN} printable characters without spaces"
    )]
    NoToken {
        /// Which file.
        path: PathBuf,
    },
}

impl Fault for TokenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(source) => source.kind(),
            Self::Random(_) => ErrorKind::Failed,
            Self::Open { .. } => ErrorKind::Denied,
            Self::NoToken { .. } => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Open { path, .. } => vec![format!("`chmod 600 {}`", path.display())],
            Self::NoToken { path } => {
                vec![format!("`(umask 077; head -c 32 /dev/urandom | base64 -w0 > {})`", path.display())]
            }
            _ => Vec::new(),
        }
    }
}

/// What a client must show. Only its hash is kept.
#[derive(Clone)]
pub struct Token(blake3::Hash);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token that stands in a file of its owner alone.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let file = open_regular(path)?;
        let stat = fstat(&file).map_err(|e| FsError::new("look at", path, e))?;
        if stat.st_mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode: stat.st_mode & 0o7777 });
        }
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|e| FsError::new("read", path, e))?;
        let token = bytes.trim_ascii();
        if token.len() < CHARACTERS_MIN || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::NoToken { path: path.to_owned() });
        }
        Ok(Self(blake3::hash(token)))
    }

    /// A new token, written into the file `path` for its owner alone.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn make(path: &Path) -> Result<Self, TokenError> {
        let mut random = [0; RANDOM_BYTES];
        random_bytes(&mut random).map_err(TokenError::Random)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().ok_or_else(|| TokenError::NoToken { path: path.to_owned() })?;
        let line = format!("{text}\n");
        replace_file(open_dir(folder)?.as_fd(), name, line.as_bytes(), Mode::from_raw_mode(0o600))?;
        Ok(Self(blake3::hash(text.as_bytes())))
    }

    /// Whether a client shows this one. Hashes are compared, in a time that does not depend on them.
    pub fn is(&self, shown: Option<&[u8]>) -> bool {
        shown.is_some_and(|shown| blake3::hash(shown) == self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_was_made_is_read_again_and_no_other_passes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let made = Token::make(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read = Token::read(&path).unwrap();
        for token in [&made, &read] {
            assert!(token.is(Some(text.trim().as_bytes())));
            assert!(!token.is(Some(b"")) && !token.is(None) && !token.is(Some(&text.as_bytes()[..63])));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let other = Token::make(&path).unwrap();
        assert!(!other.is(Some(text.trim().as_bytes())), "each is another");
        assert!(!format!("{other:?}").contains(&std::fs::read_to_string(&path).unwrap()[..8]));
    }

    #[test]
    fn a_token_that_others_can_read_or_guess_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, mode, kind) in [
            ("0123456789abcdef", 0o600, None),
            ("0123456789abcdef\n", 0o400, None),
            ("0123456789abcdef", 0o640, Some(ErrorKind::Denied)),
            ("short", 0o600, Some(ErrorKind::Usage)),
            ("with spaces in the middle", 0o600, Some(ErrorKind::Usage)),
            ("", 0o600, Some(ErrorKind::Usage)),
        ] {
            let _none = std::fs::remove_file(&path);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(Token::read(&path).err().map(|e| e.kind()), kind, "{text:?} {mode:o}");
        }
    }
}
