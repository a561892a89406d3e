//! Who we are to a registry: `config.json` of Docker and its credential helpers. A secret is never
//! printed, never in an error and never an argument; it does not ask a registry.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::Mode;
use serde_json::{Map, Value};

use crate::error::{ErrorKind, Fault};
use crate::image::registry::program::{ProgramError, ask};
use crate::sys::fs::{FsError, Lock, make_private_dirs, open_dir, read_file, replace_file_synced};

/// Largest `config.json`, in bytes.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How long a credential helper may take, in seconds: it may ask a person.
const ASK_S: u64 = 120;
/// How Docker's own registry is called in `config.json`.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The name a helper gives when its secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Why credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be used.
    #[error("cannot use the file of credentials")]
    Fs(#[from] FsError),
    /// The file is not JSON, or not an object. Its text is not shown: it holds secrets.
    #[error("`{path}` is not what Docker writes (line {line})")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where it goes wrong, 0 when it is only no object.
        line: usize,
    },
    /// An entry of the file is not base64 of `user:password`.
    #[error("the entry of `{registry}` in `{path}` is not what Docker writes")]
    Entry {
        /// Which file.
        path: PathBuf,
        /// Which entry.
        registry: String,
    },
    /// A helper that cannot be one.
    #[error("`{0}` is not the name of a credential helper")]
    HelperName(String),
    /// The helper is not installed.
    #[error("the credential helper `{program}` is not installed, and `{path}` asks for it")]
    NoHelper {
        /// Its program.
        program: String,
        /// Who names it.
        path: PathBuf,
    },
    /// The helper could not be asked.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The helper says no.
    #[error("the credential helper `{program}` failed")]
    Helper {
        /// Its program.
        program: String,
    },
}

impl Fault for CredentialsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(source) => source.kind(),
            Self::Json { .. } | Self::Entry { .. } => ErrorKind::Corrupt,
            Self::HelperName(_) => ErrorKind::Usage,
            Self::NoHelper { .. } => ErrorKind::NotFound,
            Self::Program(source) => source.kind(),
            Self::Helper { .. } => ErrorKind::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoHelper { .. } => {
                vec!["install it, or take `credsStore` and `credHelpers` out of the file".to_owned()]
            }
            Self::Json { .. } => vec!["mend it, or name another folder: `DOCKER_CONFIG=DIR`".to_owned()],
            Self::Entry { registry, .. } => vec![format!("`cuddy logout {registry}`, then log in again")],
            _ => Vec::new(),
        }
    }
}

/// Text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Text that is shown to nobody from here on.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the wire and for the file of credentials only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By a name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// By a token that the token server gave at the login, for which it gives short-lived ones.
    Identity(Secret),
    /// By a token that the registry itself takes.
    Registry(Secret),
}

/// The file of credentials and the helpers that it names.
#[derive(Debug)]
pub struct Credentials {
    path: PathBuf,
    programs: Vec<PathBuf>,
    config: Map<String, Value>,
}

impl Credentials {
    /// Reads the file at `path`; one that is missing is empty. Helpers are looked for in `programs`.
    ///
    /// # Errors
    /// `Fs` or `Json`.
    pub fn open(path: &Path, programs: &[PathBuf]) -> Result<Self, CredentialsError> {
        let config = match read_file(path, CONFIG_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => Map::new(),
            other => {
                let bytes = other?;
                let json = |line| CredentialsError::Json { path: path.to_owned(), line };
                let is_empty = bytes.iter().all(u8::is_ascii_whitespace);
                let value =
                    if is_empty { Ok(Value::Object(Map::new())) } else { serde_json::from_slice(&bytes) };
                match value.map_err(|e| json(e.line()))? {
                    Value::Object(map) => map,
                    _ => return Err(json(0)),
                }
            }
        };
        Ok(Self { path: path.to_owned(), programs: programs.to_owned(), config })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is known for a repository of a registry: the longest name wins (containers-auth.json(5)).
    ///
    /// # Errors
    /// [`CredentialsError`]. A helper that is missing is one: its user counts on it.
    pub fn find(&self, domain: &str, repository: &str) -> Result<Option<Credential>, CredentialsError> {
        if let Some((helper, key)) = self.helper(domain)
            && let Some(found) = self.ask_helper(&helper, &key)?
        {
            return Ok(Some(found));
        }
        let mut scope = Some(format!("{domain}/{repository}"));
        let mut wanted = Vec::new();
        while let Some(name) = scope.filter(|name| name.len() > domain.len()) {
            scope = name.rsplit_once('/').map(|(parent, _)| parent.to_owned());
            wanted.push(name);
        }
        wanted.extend(keys(domain));
        let Some(auths) = self.config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        for key in wanted {
            if let Some(entry) = auths.get(&key)
                && let Some(found) = self.entry(&key, entry)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a credential for a registry. Tells whether it lies in the file as readable text.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn keep(&mut self, domain: &str, credential: &Credential) -> Result<bool, CredentialsError> {
        let (helper, key) =
            self.helper(domain).map_or_else(|| (None, key(domain)), |(h, key)| (Some(h), key));
        let (user, secret) = match credential {
            Credential::Password { user, password } => (user.as_str(), password),
            Credential::Identity(token) | Credential::Registry(token) => (TOKEN_USER, token),
        };
        let entry = match (&helper, credential) {
            (Some(helper), _) => {
                let json =
                    serde_json::json!({ "ServerURL": key, "Username": user, "Secret": secret.reveal() });
                self.tell_helper(helper, "store", json.to_string().as_bytes())?;
                // As Docker: an empty entry says that there is one.
                serde_json::json!({})
            }
            (None, Credential::Password { .. }) => {
                serde_json::json!({ "auth": STANDARD.encode(format!("{user}:{}", secret.reveal())) })
            }
            (None, Credential::Identity(_)) => {
                serde_json::json!({ "auth": STANDARD.encode(format!("{TOKEN_USER}:")), "identitytoken": secret.reveal() })
            }
            (None, Credential::Registry(_)) => serde_json::json!({ "registrytoken": secret.reveal() }),
        };
        self.change(|config| {
            let auths = config.entry("auths").or_insert_with(|| Value::Object(Map::new()));
            if !auths.is_object() {
                *auths = Value::Object(Map::new());
            }
            auths[&key] = entry;
        })?;
        Ok(helper.is_none())
    }

    /// Forgets what is known for a registry. Tells whether there was anything.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn forget(&mut self, domain: &str) -> Result<bool, CredentialsError> {
        let mut was_there = false;
        if let Some((helper, key)) = self.helper(domain)
            && self.ask_helper(&helper, &key)?.is_some()
        {
            self.tell_helper(&helper, "erase", key.as_bytes())?;
            was_there = true;
        }
        let auths = self.config.get("auths").and_then(Value::as_object);
        let in_file: Vec<String> = keys(domain)
            .into_iter()
            .filter(|key| auths.is_some_and(|auths| auths.contains_key(key)))
            .collect();
        if !in_file.is_empty() {
            self.change(|config| {
                if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
                    auths.retain(|key, _| !in_file.contains(key));
                }
            })?;
            was_there = true;
        }
        Ok(was_there)
    }

    fn entry(&self, key: &str, entry: &Value) -> Result<Option<Credential>, CredentialsError> {
        let text = |name: &str| entry[name].as_str().filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Ok(Some(Credential::Identity(Secret::new(token))));
        }
        if let Some(token) = text("registrytoken") {
            return Ok(Some(Credential::Registry(Secret::new(token))));
        }
        if let (Some(user), Some(password)) = (text("username"), text("password")) {
            return Ok(Some(Credential::Password { user: user.to_owned(), password: Secret::new(password) }));
        }
        let Some(auth) = text("auth") else { return Ok(None) };
        let wrong = || CredentialsError::Entry { path: self.path.clone(), registry: key.to_owned() };
        let bytes = STANDARD.decode(auth.trim()).map_err(|_unsaid| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_unsaid| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        // Old versions of Docker ended it with a NUL.
        let password = Secret::new(password.trim_end_matches('\0'));
        Ok(Some(Credential::Password { user: user.to_owned(), password }))
    }

    /// Which helper keeps the credentials of a registry, and what it calls the registry.
    fn helper(&self, domain: &str) -> Option<(String, String)> {
        let own = self.config.get("credHelpers").and_then(Value::as_object);
        let own = keys(domain).into_iter().find_map(|key| {
            let helper = own?.get(&key)?.as_str()?.to_owned();
            Some((helper, key))
        });
        let all = self.config.get("credsStore").and_then(Value::as_str);
        let found = own.or_else(|| Some((all?.to_owned(), key(domain))));
        found.filter(|(helper, _)| !helper.is_empty())
    }

    fn ask_helper(&self, helper: &str, key: &str) -> Result<Option<Credential>, CredentialsError> {
        let (program, path) = self.helper_program(helper)?;
        let spoken = ask(&path, &["get"], key.as_bytes(), ASK_S)?;
        if !spoken.is_success {
            let text = String::from_utf8_lossy(&spoken.text);
            // The one sentence by which helpers say that they have nothing.
            if text.trim() == "credentials not found in native keychain" {
                return Ok(None);
            }
            return Err(CredentialsError::Helper { program });
        }
        let json: Value = serde_json::from_slice(&spoken.text)
            .map_err(|_unsaid| CredentialsError::Helper { program: program.clone() })?;
        let (user, secret) = (json["Username"].as_str(), json["Secret"].as_str().unwrap_or_default());
        Ok(match user {
            _ if secret.is_empty() => None,
            Some(TOKEN_USER) => Some(Credential::Identity(Secret::new(secret))),
            Some(user) => Some(Credential::Password { user: user.to_owned(), password: Secret::new(secret) }),
            None => None,
        })
    }

    fn tell_helper(&self, helper: &str, verb: &str, input: &[u8]) -> Result<(), CredentialsError> {
        let (program, path) = self.helper_program(helper)?;
        let spoken = ask(&path, &[verb], input, ASK_S)?;
        if spoken.is_success { Ok(()) } else { Err(CredentialsError::Helper { program }) }
    }

    fn helper_program(&self, helper: &str) -> Result<(String, PathBuf), CredentialsError> {
        let is_name = helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !is_name {
            return Err(CredentialsError::HelperName(helper.chars().take(100).collect()));
        }
        let program = format!("docker-credential-{helper}");
        let places = self.programs.iter().map(|dir| dir.join(&program));
        let found =
            places.into_iter().find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok());
        match found {
            Some(path) => Ok((program, path)),
            None => Err(CredentialsError::NoHelper { program, path: self.path.clone() }),
        }
    }

    /// Changes the file in one step, keeping every field that is not ours.
    fn change(&mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), CredentialsError> {
        // A link, as people keep their dot files, stays one.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(OsStr::to_owned)) else {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(FsError::new("write", &path, source).into());
        };
        make_private_dirs(folder)?;
        let _lock = Lock::exclusive(&folder.join(".cuddy.lock"))?;
        // Another login may have written since we looked.
        self.config = Self::open(&path, &self.programs)?.config;
        change(&mut self.config);
        let mut json = serde_json::to_vec_pretty(&self.config)
            .map_err(|e| CredentialsError::Json { path: path.clone(), line: e.line() })?;
        json.push(b'\n');
        let folder = open_dir(folder)?;
        Ok(replace_file_synced(folder.as_fd(), &name, &json, Mode::RUSR | Mode::WUSR)?)
    }
}

/// Under which name a login is kept.
pub fn key(domain: &str) -> String {
    if domain == "docker.io" { HUB_KEY.to_owned() } else { domain.to_owned() }
}

/// Under which names a login may have been kept.
fn keys(domain: &str) -> Vec<String> {
    let mut keys = vec![key(domain)];
    let hosts: &[&str] = if domain == "docker.io" {
        &["docker.io", "index.docker.io", "registry-1.docker.io"]
    } else {
        &[domain]
    };
    for host in hosts {
        for form in [
            host.to_string(),
            format!("https://{host}"),
            format!("https://{host}/v1/"),
            format!("https://{host}/v2/"),
        ] {
            if !keys.contains(&form) {
                keys.push(form);
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with(text: &str) -> (tempfile::TempDir, Credentials) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let credentials = Credentials::open(&path, &[dir.path().to_owned()]).unwrap();
        (dir, credentials)
    }

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.to_owned(), password: Secret::new(password) })
    }

    /// A credential helper that keeps one secret in a file.
    fn add_helper(dir: &Path) {
        let path = dir.join("docker-credential-test");
        let script = format!(
            "#!/bin/sh\nf={}/kept\ncase $1 in\nstore) cat >$f;;\nerase) rm -f $f;;\nget) cat >/dev/null; if test -f $f; then cat $f; else echo credentials not found in native keychain; exit 1; fi;;\nesac\n",
            dir.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn entries_are_read_as_docker_and_podman_write_them() {
        let user = STANDARD.encode("me:pa:ss");
        let text = format!(
            r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{user}"}},
            "r.example":{{"username":"u","password":"p"}},"r.example/team/app":{{"auth":"{}"}},
            "t.example":{{"auth":"x","identitytoken":"tok"}},"https://old.example/v1/":{{"auth":"{user}"}},
            "empty.example":{{}},"bad.example":{{"auth":"%%"}}}}}}"#,
            STANDARD.encode("deep:p")
        );
        let (_dir, all) = with(&text);
        assert_eq!(all.find("docker.io", "library/x").unwrap(), password("me", "pa:ss"));
        assert_eq!(all.find("r.example", "other").unwrap(), password("u", "p"));
        assert_eq!(all.find("r.example", "team/app").unwrap(), password("deep", "p"));
        assert_eq!(all.find("t.example", "x").unwrap(), Some(Credential::Identity(Secret::new("tok"))));
        assert_eq!(all.find("old.example", "x").unwrap(), password("me", "pa:ss"));
        assert_eq!(all.find("empty.example", "x").unwrap(), None);
        assert_eq!(all.find("unknown.example", "x").unwrap(), None);
        let error = all.find("bad.example", "x").unwrap_err();
        assert!(matches!(error, CredentialsError::Entry { .. }));
    }

    #[test]
    fn a_login_is_kept_beside_what_was_there_for_its_owner_only() {
        let (dir, mut all) = with(r#"{"HttpHeaders":{"A":"b"},"auths":{"old":{"auth":"eDp5"}}}"#);
        let wanted = password("me", "secret").unwrap();
        assert!(all.keep("r.example:5000", &wanted).unwrap(), "it lies in the file");
        let path = dir.path().join("config.json");
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(json["HttpHeaders"]["A"], "b");
        assert_eq!(json["auths"]["old"]["auth"], "eDp5");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(all.find("r.example:5000", "x").unwrap(), Some(wanted));
        assert!(all.forget("r.example:5000").unwrap());
        assert!(!all.forget("r.example:5000").unwrap());
        assert_eq!(all.find("r.example:5000", "x").unwrap(), None);
    }

    #[test]
    fn a_helper_keeps_the_secret_and_the_file_has_none() {
        let (dir, mut all) = with(r#"{"credsStore":"absent","credHelpers":{"r.example":"test"}}"#);
        add_helper(dir.path());
        assert_eq!(all.find("r.example", "x").unwrap(), None);
        assert!(!all.keep("r.example", &password("me", "secret").unwrap()).unwrap());
        assert_eq!(all.find("r.example", "x").unwrap(), password("me", "secret"));
        assert!(!std::fs::read_to_string(all.path()).unwrap().contains("secret"));
        assert!(all.forget("r.example").unwrap());
        assert_eq!(all.find("r.example", "x").unwrap(), None);
        let error = all.find("other.example", "x").unwrap_err();
        assert!(matches!(error, CredentialsError::NoHelper { .. }), "{error}");
    }

    #[test]
    fn no_secret_is_in_what_is_printed() {
        let shown = format!("{:?}", password("me", "secret"));
        assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{\"auths\": {\"r\": {\"auth\": secret}}}").unwrap();
        let error = crate::error::Error::from(Credentials::open(&path, &[]).unwrap_err());
        assert!(!format!("{error:?}").contains("secret"), "{error}");
        std::fs::write(&path, r#"{"credsStore":"../x"}"#).unwrap();
        let open = Credentials::open(&path, &[]).unwrap();
        assert!(matches!(open.find("r", "x"), Err(CredentialsError::HelperName(_))));
    }
}
