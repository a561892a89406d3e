//! The HTTP front as somebody asked for it, into a front that can be served: where it listens, who must show
//! a token, and where that token is. It serves nothing itself.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};
use crate::mcp::http::address::Address;
use crate::mcp::http::front::{Listener, Metrics, Settings};
use crate::mcp::http::headers::Guests;
use crate::mcp::http::token::Token;

/// The name of the file of a token that we make.
const TOKEN_FILE: &str = "http-token";

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Where to listen: `127.0.0.1:8808`, `unix:/path`.
    pub address: String,
    /// The file of the token instead of our own; made when it is not there.
    pub token_file: Option<PathBuf>,
    /// Nobody must show a token.
    pub is_without_token: bool,
    /// Other machines may reach it.
    pub is_exposed: bool,
    /// Further names under which it is asked.
    pub hosts: Vec<String>,
    /// Pages of a browser that may ask: `https://app.example`.
    pub origins: Vec<String>,
}

/// A front that is ready.
pub struct Entry {
    /// Where connections come in.
    pub listener: Listener,
    /// How it behaves.
    pub settings: Settings,
    /// Where it listens, with the port that it got.
    pub address: Address,
    /// Where the token stands, when one must be shown.
    pub token_file: Option<PathBuf>,
}

/// The same token each time, so that what clients were told stays right.
fn there_or_made(path: &Path) -> Result<Token, Error> {
    let is_there = std::fs::symlink_metadata(path).is_ok();
    Ok(if is_there { Token::read(path)? } else { Token::make(path)? })
}

impl Request {
    /// Whether a token must be shown, and where it stands; our own is in `folder`.
    fn token(&self, address: &Address, folder: &Path) -> Result<Option<(Token, PathBuf)>, Error> {
        if let Some(path) = &self.token_file {
            return Ok(Some((there_or_made(path)?, path.clone())));
        }
        let is_wanted = match address {
            // Its mode says already who may ask.
            Address::Unix(_) => false,
            Address::Tcp(_) => !self.is_without_token,
        };
        if !address.is_local() && !is_wanted {
            let error =
                Error::new(ErrorKind::Denied, format!("`{address}` can be reached from other machines"));
            return Err(error.hint("leave `--http-no-token` away: whoever reaches it could call every tool"));
        }
        if !is_wanted {
            return Ok(None);
        }
        let path = folder.join(TOKEN_FILE);
        Ok(Some((there_or_made(&path)?, path)))
    }

    /// Opens the front.
    ///
    /// # Errors
    /// When the address is none, taken, or exposed by accident; when there is no token.
    pub async fn open(
        &self,
        folder: &Path,
        message_bytes_max: usize,
        metrics: Option<Metrics>,
    ) -> Result<Entry, Error> {
        let address: Address = self.address.parse()?;
        let listener = Listener::bind(&address, self.is_exposed).await?;
        let (token, token_file) = self.token(&address, folder)?.unzip();
        let mut hosts = self.hosts.clone();
        if let Address::Tcp(at) = &address
            && !at.ip().is_unspecified()
        {
            hosts.push(if at.is_ipv6() { format!("[{}]", at.ip()) } else { at.ip().to_string() });
        }
        let guests =
            Guests { hosts, origins: self.origins.clone(), any_host: matches!(address, Address::Unix(_)) };
        let settings = Settings { guests, token, message_bytes_max, metrics };
        let address = listener.address().map_err(|e| Error::new(ErrorKind::Failed, e.to_string()))?;
        Ok(Entry { listener, settings, address, token_file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(request: Request) -> Result<(Entry, tempfile::TempDir), ErrorKind> {
        let dir = tempfile::tempdir().unwrap();
        match request.open(dir.path(), 1000, None).await {
            Ok(entry) => Ok((entry, dir)),
            Err(error) => Err(error.kind),
        }
    }

    fn at(address: &str) -> Request {
        Request { address: address.to_owned(), ..Request::default() }
    }

    #[tokio::test]
    async fn who_reaches_it_by_network_must_show_a_token() {
        let (entry, dir) = open(at("127.0.0.1:0")).await.unwrap();
        assert_eq!(entry.token_file, Some(dir.path().join(TOKEN_FILE)));
        assert!(entry.settings.token.is_some());
        let text = std::fs::read(dir.path().join(TOKEN_FILE)).unwrap();
        let again = at("127.0.0.1:0").open(dir.path(), 1000, None).await.unwrap();
        assert!(again.settings.token.unwrap().is(Some(text.trim_ascii())), "the same as before");
        let (entry, _dir) = open(Request { is_without_token: true, ..at("127.0.0.1:0") }).await.unwrap();
        assert!(entry.settings.token.is_none());
        let dir = tempfile::tempdir().unwrap();
        let socket = format!("unix:{}", dir.path().join("s").display());
        let (entry, _dir) = open(at(&socket)).await.unwrap();
        assert!(entry.settings.token.is_none() && entry.settings.guests.any_host);
    }

    #[tokio::test]
    async fn other_machines_are_let_in_on_purpose_and_with_a_token_only() {
        assert_eq!(open(at("0.0.0.0:0")).await.err(), Some(ErrorKind::Denied));
        let exposed = Request { is_exposed: true, ..at("0.0.0.0:0") };
        assert_eq!(
            open(Request { is_without_token: true, ..exposed.clone() }).await.err(),
            Some(ErrorKind::Denied)
        );
        assert!(open(exposed).await.unwrap().0.settings.token.is_some());
    }

    #[tokio::test]
    async fn what_is_no_address_or_no_token_is_refused() {
        assert_eq!(open(at("8808")).await.err(), Some(ErrorKind::Usage));
        let missing = Request { token_file: Some(PathBuf::from("/nonexistent/token")), ..at("127.0.0.1:0") };
        assert_eq!(open(missing).await.err(), Some(ErrorKind::NotFound));
    }
}
