//! One repository of one registry: who we are there, its manifests, its blobs, its tags. It checks that
//! what comes is what was asked for, and puts nothing into the store.

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Method;

use crate::error::{ErrorKind, Fault};
use crate::image::manifest::MANIFEST_BYTES_MAX;
use crate::image::registry::challenge::{Challenge, choose};
use crate::image::registry::credentials::{Credential, Secret};
use crate::image::registry::http::{Answer, Http, HttpError, Payload, Request};
use crate::image::registry::settings::Endpoint;
use crate::image::registry::url::{Url, UrlError, encode};
use crate::image::stream::digest_of;
use crate::names::Digest;

/// Largest answer of a token server, in bytes.
const TOKEN_BYTES_MAX: u64 = 1024 * 1024;
/// Largest page of a list of tags, in bytes.
const TAGS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Tags of one repository.
const TAGS_MAX: usize = 100_000;
/// Seconds that a token is good for when nobody says how long (distribution: token specification).
const TOKEN_S: u64 = 60;
/// Seconds before its end from which on a token is no longer used.
const TOKEN_SPARE_S: u64 = 10;
/// How we call ourselves to token servers.
const CLIENT_ID: &str = "cuddy";
/// What a manifest may be called.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Why a repository does not give or take.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The registry cannot be spoken with, or refuses.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It names an address that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It has no such thing, or does not say that it has.
    #[error("`{host}` has no `{object}`{more}")]
    NotFound {
        /// Which registry.
        host: String,
        /// What was asked for.
        object: String,
        /// What else is known, after a colon.
        more: String,
    },
    /// It wants to know who we are, or does not allow it to us.
    #[error("`{host}` refuses `{object}`{complaint}")]
    Denied {
        /// Which registry.
        host: String,
        /// What was asked for.
        object: String,
        /// Its own words, after a colon.
        complaint: String,
        /// Whether we said who we are.
        is_known: bool,
    },
    /// Its way of asking who we are is not understood.
    #[error("`{host}` asks who we are in a way that is not understood")]
    Challenge {
        /// Which registry.
        host: String,
    },
    /// It sends us on, and who answers there wants to know who we are.
    #[error("`{host}` sends us on to `{other}`, which asks who we are and is not told")]
    Elsewhere {
        /// Which registry.
        host: String,
        /// To where.
        other: Url,
    },
    /// The token server would hear a secret without TLS.
    #[error("`{host}` sends us to `{realm}` for a token, which is without TLS")]
    Downgrade {
        /// Which registry.
        host: String,
        /// The token server.
        realm: Url,
    },
    /// The token server gives no token.
    #[error("`{realm}` gives no token")]
    Token {
        /// The token server.
        realm: Url,
    },
    /// What came is not what was named.
    #[error("`{object}` is not what was said: {what} is `{found}`")]
    Different {
        /// What was named.
        object: String,
        /// Which of its properties is another.
        what: &'static str,
        /// What it is.
        found: String,
    },
    /// An answer that makes no sense.
    #[error("`{host}` answers nonsense: {what}")]
    Nonsense {
        /// Which registry.
        host: String,
        /// What is missing or wrong.
        what: &'static str,
    },
}

impl ClientError {
    /// Whether the same may go well a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_passing())
    }
}

impl Fault for ClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Http(source) => source.kind(),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Denied { .. } | Self::Elsewhere { .. } | Self::Downgrade { .. } => ErrorKind::Denied,
            _ => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Http(source) => source.hints(),
            Self::Denied { host, is_known: false, .. } => vec![
                "the repository does not exist, or only its users may see it".to_owned(),
                format!("`cuddy login {host}` says who you are"),
            ],
            Self::Denied { .. } => {
                vec!["the repository does not exist, or you may not do this to it".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

/// A token, and until when it is used.
#[derive(Debug, Clone)]
struct Token {
    secret: Secret,
    until: Instant,
}

/// What the registry wants to be told with each request.
#[derive(Debug, Clone)]
enum Access {
    Open,
    Basic,
    Bearer { realm: Url, service: Option<String>, token: Option<Token> },
}

/// A manifest or an index, as it came.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its digest.
    pub digest: Digest,
    /// What the registry calls it.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// One repository of one registry.
pub struct Repository<'h> {
    http: &'h Http,
    /// `https://host/` or `https://host/folder/`.
    base: Url,
    name: String,
    credential: Option<Credential>,
    scopes: Vec<String>,
    access: Mutex<Access>,
}

impl<'h> Repository<'h> {
    /// Knocks at a registry: by TLS, and without it only where that is allowed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(
        http: &'h Http,
        endpoint: &Endpoint,
        name: &str,
        scopes: Vec<String>,
        credential: Option<Credential>,
    ) -> Result<Self, ClientError> {
        let (base, answer) = match knock(http, &endpoint.base, endpoint.may_be_plain) {
            Err(ClientError::Http(HttpError::NoTls { .. } | HttpError::Unreachable { .. }))
                if endpoint.may_be_plain && endpoint.base.is_https() =>
            {
                let plain = Url::new(false, endpoint.base.authority(), endpoint.base.path())?;
                let answer = knock(http, &plain, false)?;
                (plain, answer)
            }
            other => (endpoint.base.clone(), other?),
        };
        let mut access = Access::Open;
        if answer.status == 401 {
            let host = || base.authority().to_owned();
            // Else whoever a registry sends us on to would choose who hears our password (CVE-2020-15157).
            if !answer.url.is_same_origin(&base) {
                return Err(ClientError::Elsewhere { host: host(), other: answer.url });
            }
            let challenge = choose(answer.headers("www-authenticate"));
            access = to_access(challenge.ok_or_else(|| ClientError::Challenge { host: host() })?);
        }
        let access = Mutex::new(access);
        Ok(Self { http, base, name: name.to_owned(), credential, scopes, access })
    }

    /// Host and port of the registry.
    pub fn host(&self) -> &str {
        self.base.authority()
    }

    /// Ends everything that is under way, in whatever thread.
    pub fn stop(&self) {
        self.http.stop();
    }

    /// Whether somebody ended it.
    pub fn is_stopped(&self) -> bool {
        self.http.is_stopped()
    }

    /// Sleeps for `pause`, or until somebody ends everything.
    pub fn wait(&self, pause: Duration) {
        self.http.wait(pause);
    }

    /// How often something is tried here.
    pub fn tries(&self) -> u32 {
        self.http.settings.patience.tries
    }

    /// A path of this repository: `manifests/latest`.
    ///
    /// # Errors
    /// `Url`.
    pub fn url(&self, rest: &str) -> Result<Url, ClientError> {
        below(&self.base, &format!("v2/{}/{rest}", self.name))
    }

    /// Sends a request as who we are; `object` is what it is about, for errors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send(&self, mut request: Request<'_>, object: &str) -> Result<Answer, ClientError> {
        if self.base.is_https() && !request.url.is_https() {
            let reason = format!("`{}` is without TLS", request.url);
            return Err(HttpError::Redirect { url: self.base.clone(), reason }.into());
        }
        let is_ours = request.url.is_same_origin(&self.base);
        let mut refused = None;
        for _ in 0..2 {
            if is_ours {
                request.authorization = self.authorization(refused.take())?;
            }
            let answer = self.http.send(&request)?;
            match answer.status {
                401 if is_ours && !answer.url.is_same_origin(&self.base) => {
                    let host = self.host().to_owned();
                    return Err(ClientError::Elsewhere { host, other: answer.url });
                }
                401 if is_ours => {
                    let challenge = choose(answer.headers("www-authenticate"));
                    let error = self.denied(answer, object);
                    match challenge {
                        Some(challenge) => refused = Some((challenge, error)),
                        None => return Err(error),
                    }
                }
                403 => return Err(self.denied(answer, object)),
                404 => {
                    let more = match answer.refusal() {
                        HttpError::Status { complaint, .. } => complaint,
                        _ => String::new(),
                    };
                    let host = self.host().to_owned();
                    return Err(ClientError::NotFound { host, object: object.to_owned(), more });
                }
                _ => return Ok(answer),
            }
        }
        let is_known = self.credential.is_some();
        let (host, object) = (self.host().to_owned(), object.to_owned());
        Err(refused
            .map_or(ClientError::Denied { host, object, complaint: String::new(), is_known }, |(_, e)| e))
    }

    fn denied(&self, answer: Answer, object: &str) -> ClientError {
        let complaint = match answer.refusal() {
            HttpError::Status { complaint, .. } => complaint,
            _ => String::new(),
        };
        let is_known = self.credential.is_some();
        ClientError::Denied { host: self.host().to_owned(), object: object.to_owned(), complaint, is_known }
    }

    /// What goes into `Authorization`, after the registry said no with a challenge or before.
    fn authorization(
        &self,
        refused: Option<(Challenge, ClientError)>,
    ) -> Result<Option<Secret>, ClientError> {
        // Held while a token is fetched: three layers that begin at once need one.
        let mut access = self.access.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((challenge, _)) = refused {
            *access = to_access(challenge);
        }
        if let Some(Credential::Registry(token)) = &self.credential {
            return Ok(Some(Secret::new(format!("Bearer {}", token.reveal()))));
        }
        match &mut *access {
            Access::Open => Ok(None),
            Access::Basic => Ok(self.credential.as_ref().and_then(basic)),
            Access::Bearer { realm, service, token } => {
                let fresh = match token.take().filter(|token| token.until > Instant::now()) {
                    Some(token) => token,
                    None => {
                        if self.base.is_https() && !realm.is_https() {
                            let (host, realm) = (self.host().to_owned(), realm.clone());
                            return Err(ClientError::Downgrade { host, realm });
                        }
                        let asked = Asked { realm, service: service.as_deref(), scopes: &self.scopes };
                        fetch_token(self.http, &asked, self.credential.as_ref(), false)?.0
                    }
                };
                let header = Secret::new(format!("Bearer {}", fresh.secret.reveal()));
                *token = Some(fresh);
                Ok(Some(header))
            }
        }
    }

    /// The manifest or the index called `reference`, a tag or a digest.
    ///
    /// # Errors
    /// [`ClientError`]; `Different` when its digest is not that of its bytes.
    pub fn document(&self, reference: &str) -> Result<Document, ClientError> {
        let object = format!("{}{}{reference}", self.name, if reference.contains(':') { '@' } else { ':' });
        let mut tried = 0;
        loop {
            tried += 1;
            let request = Request::new(Method::GET, self.url(&format!("manifests/{reference}"))?);
            let answer = self.send(request.header("accept", MANIFEST_TYPES), &object)?.expect(&[200])?;
            let media_type = answer.header("content-type").unwrap_or_default();
            let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
            let said = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
            let bytes = match answer.bytes(MANIFEST_BYTES_MAX) {
                Err(error) if error.is_passing() && tried < self.tries() => continue,
                other => other?,
            };
            let digest = digest_of(&bytes);
            let wanted = reference.parse::<Digest>().ok();
            if [wanted, said].into_iter().flatten().any(|named| named != digest) {
                return Err(ClientError::Different { object, what: "its digest", found: digest.to_string() });
            }
            return Ok(Document { digest, media_type, bytes });
        }
    }

    /// The bytes of a blob from the `from`th on, as they come; `bytes` is how many there are in all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn blob(&self, digest: &Digest, bytes: u64, from: u64) -> Result<Box<dyn Read + Send>, ClientError> {
        let mut request = Request::new(Method::GET, self.url(&format!("blobs/{digest}"))?);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let answer = self.send(request, digest.as_str())?.expect(&[200, 206])?;
        let length = answer.header("content-length").and_then(|text| text.parse::<u64>().ok());
        // A registry that cannot begin in the middle begins at the beginning.
        let starts = if answer.status == 206 { from } else { 0 };
        if answer.status == 206 {
            let range = answer.header("content-range").unwrap_or_default();
            if !range.starts_with(&format!("bytes {from}-")) {
                return Err(self.nonsense("the part of a blob is not the part that was asked for"));
            }
        }
        if let Some(length) = length.filter(|length| *length != bytes - starts) {
            let found = (length + starts).to_string();
            return Err(ClientError::Different {
                object: digest.to_string(),
                what: "its size in bytes",
                found,
            });
        }
        let mut reader = answer.into_reader();
        let skipped = std::io::copy(&mut (&mut reader).take(from - starts), &mut std::io::sink());
        skipped.map_err(|source| HttpError::Unreachable { url: self.base.clone(), source })?;
        Ok(Box::new(reader))
    }

    /// Whether the registry has a blob.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, ClientError> {
        let request = Request::new(Method::HEAD, self.url(&format!("blobs/{digest}"))?);
        match self.send(request, digest.as_str()) {
            Ok(answer) => Ok(answer.expect(&[200]).is_ok()),
            Err(ClientError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a manifest a name, its digest or a tag.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn put_document(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<(), ClientError> {
        let request = Request::new(Method::PUT, self.url(&format!("manifests/{reference}"))?);
        let mut request = request.header("content-type", media_type);
        request.payload = Payload::Bytes(bytes);
        self.send(request, &format!("{}:{reference}", self.name))?.expect(&[200, 201, 202])?;
        Ok(())
    }

    /// Every tag of the repository.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn tags(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut url = Some(self.url("tags/list")?);
        while let Some(at) = url.take() {
            let answer = self.send(Request::new(Method::GET, at.clone()), &self.name)?.expect(&[200])?;
            let next = answer.header("link").and_then(next_link).map(|link| at.join(link)).transpose()?;
            let page: Tags = serde_json::from_slice(&answer.bytes(TAGS_BYTES_MAX)?)
                .map_err(|_unsaid| self.nonsense("its list of tags is not one"))?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > TAGS_MAX {
                return Err(self.nonsense("its list of tags has no end"));
            }
            // A page without tags that names another is a circle.
            url = next.filter(|next| next.is_same_origin(&self.base) && tags.len() > before);
        }
        Ok(tags)
    }

    /// An answer of this registry that makes no sense.
    pub fn nonsense(&self, what: &'static str) -> ClientError {
        ClientError::Nonsense { host: self.host().to_owned(), what }
    }
}

/// Asks whether a registry is there. Where nobody listens at all, nobody is waited for; where it may be
/// asked without TLS, that is tried at once.
fn knock(http: &Http, base: &Url, may_be_plain: bool) -> Result<Answer, ClientError> {
    let request = Request::new(Method::GET, below(base, "v2/")?);
    match http.follow(&request) {
        Ok(answer) if answer.status < 429 => Ok(answer),
        Err(error) if error.is_nobody() || may_be_plain && base.is_https() || !error.is_passing() => {
            Err(error.into())
        }
        _ => Ok(http.send(&request)?),
    }
}

/// A path below the address of a registry, which may have a folder itself.
fn below(base: &Url, rest: &str) -> Result<Url, ClientError> {
    Ok(base.at(&format!("{}/{rest}", base.path().trim_end_matches('/')))?)
}

fn to_access(challenge: Challenge) -> Access {
    match challenge {
        Challenge::Basic => Access::Basic,
        // The scope that it names is not taken: what we ask for is what we need.
        Challenge::Bearer { realm, service, .. } => Access::Bearer { realm, service, token: None },
    }
}

fn basic(credential: &Credential) -> Option<Secret> {
    let Credential::Password { user, password } = credential else { return None };
    Some(Secret::new(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal())))))
}

/// The address in `<address>; rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    let (address, rest) = header.strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(address)
}

/// What is asked of a token server.
struct Asked<'a> {
    realm: &'a Url,
    service: Option<&'a str>,
    scopes: &'a [String],
}

#[derive(Deserialize)]
struct TokenJson {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// A token, and the identity token that was given with it when `offline` is asked for.
fn fetch_token(
    http: &Http,
    asked: &Asked<'_>,
    credential: Option<&Credential>,
    offline: bool,
) -> Result<(Token, Option<Secret>), ClientError> {
    let mut form = Vec::new();
    if let Some(service) = asked.service {
        form.push(("service", service.to_owned()));
    }
    let answer = if let Some(Credential::Identity(identity)) = credential {
        form.push(("scope", asked.scopes.join(" ")));
        form.push(("grant_type", "refresh_token".to_owned()));
        form.push(("client_id", CLIENT_ID.to_owned()));
        form.push(("refresh_token", identity.reveal().to_owned()));
        let pairs = form.iter().map(|(name, value)| format!("{name}={}", encode(value)));
        let body = pairs.collect::<Vec<_>>().join("&");
        let request = Request::new(Method::POST, asked.realm.clone());
        let mut request = request.header("content-type", "application/x-www-form-urlencoded");
        request.payload = Payload::Bytes(body.as_bytes());
        http.send(&request)?
    } else {
        form.extend(asked.scopes.iter().map(|scope| ("scope", scope.clone())));
        if offline {
            form.push(("offline_token", "true".to_owned()));
            form.push(("client_id", CLIENT_ID.to_owned()));
        }
        if let Some(Credential::Password { user, .. }) = credential {
            form.push(("account", user.clone()));
        }
        let url = form.iter().fold(asked.realm.clone(), |url, (name, value)| url.with_query(name, value));
        let mut request = Request::new(Method::GET, url);
        request.authorization = credential.and_then(basic);
        http.send(&request)?
    };
    let realm = || asked.realm.clone();
    if matches!(answer.status, 400 | 401 | 403) {
        let complaint = match answer.refusal() {
            HttpError::Status { complaint, .. } => complaint,
            _ => String::new(),
        };
        let object = asked.scopes.first().cloned().unwrap_or_else(|| "login".to_owned());
        let is_known = credential.is_some();
        return Err(ClientError::Denied {
            host: realm().authority().to_owned(),
            object,
            complaint,
            is_known,
        });
    }
    let bytes = answer.expect(&[200])?.bytes(TOKEN_BYTES_MAX)?;
    // Its text is not shown: it may hold a token.
    let json: TokenJson =
        serde_json::from_slice(&bytes).map_err(|_unsaid| ClientError::Token { realm: realm() })?;
    let secret = json.token.or(json.access_token).filter(|token| is_token(token));
    let secret = secret.map(Secret::new).ok_or_else(|| ClientError::Token { realm: realm() })?;
    let seconds = json.expires_in.unwrap_or(TOKEN_S).clamp(TOKEN_S, 24 * 3600);
    let until = Instant::now() + Duration::from_secs(seconds - TOKEN_SPARE_S);
    let refresh = json.refresh_token.filter(|token| !token.is_empty()).map(Secret::new);
    Ok((Token { secret, until }, refresh))
}

/// Whether text can stand in a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Asks a registry whether it knows `credential`. Gives what is to be kept: the same, or the identity
/// token that its token server gives in exchange.
///
/// # Errors
/// `Denied` when it does not.
pub fn verify(http: &Http, endpoint: &Endpoint, credential: Credential) -> Result<Credential, ClientError> {
    let repository = Repository::connect(http, endpoint, "", Vec::new(), Some(credential.clone()))?;
    let access = repository.access.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    let mut kept = credential.clone();
    if let Access::Bearer { realm, service, .. } = &access {
        if repository.base.is_https() && !realm.is_https() {
            let host = repository.host().to_owned();
            return Err(ClientError::Downgrade { host, realm: realm.clone() });
        }
        let asked = Asked { realm, service: service.as_deref(), scopes: &[] };
        let (token, identity) = fetch_token(http, &asked, Some(&credential), true)?;
        let access = Access::Bearer { realm: realm.clone(), service: service.clone(), token: Some(token) };
        *repository.access.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = access;
        if let Some(identity) = identity {
            kept = Credential::Identity(identity);
        }
    }
    let url = below(&repository.base, "v2/")?;
    repository.send(Request::new(Method::GET, url), "login")?.expect(&[200])?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_link(r#"</v2/a/tags/list?n=1&last=b>; rel="next""#),
            Some("/v2/a/tags/list?n=1&last=b")
        );
        assert_eq!(next_link(r#"</v2/x>; rel="prev""#), None);
        assert_eq!(next_link("nonsense"), None);
    }

    #[test]
    fn a_token_cannot_end_a_header() {
        assert!(is_token("eyJ.a-b_c"));
        assert!(!is_token("") && !is_token("a\r\nHost: x") && !is_token("a b"));
    }
}
