//! Pure: `registries.json`: mirrors, insecure registries, authorities, patience. It says where an image
//! is looked for, and does not look.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{ErrorKind, Fault};
use crate::image::registry::url::{Url, UrlError, host_of, is_loopback};

/// Largest `registries.json`, in bytes.
pub const SETTINGS_BYTES_MAX: u64 = 1024 * 1024;
/// The version of the format.
const VERSION: u32 = 1;
/// Where the registry that is called `docker.io` really is.
const HUB: &str = "registry-1.docker.io";
/// Tries of one request, at most, whatever is written.
const TRIES_MAX: u32 = 20;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not the JSON it must be.
    #[error("`{path}` is not what it must be")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It was written for another version.
    #[error("`{path}` has version {version}, and this cuddy knows version {VERSION}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// A mirror or a registry in it is no address.
    #[error("`{path}` names an address that is none")]
    Address {
        /// Which file.
        path: PathBuf,
        /// Which address.
        #[source]
        source: UrlError,
    },
}

impl Fault for SettingsError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        vec![r#"`{"version": 1, "registries": {"docker.io": {"mirrors": ["https://mirror.example"]}}}` is one; docs/images.md has every field"#.to_owned()]
    }
}

/// How long we wait, and how often we try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patience {
    /// Seconds until a connection must stand.
    pub connect_s: u64,
    /// Seconds in which a registry must send or take something.
    pub stall_s: u64,
    /// Tries of one request, the first among them.
    pub tries: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect_s: 15, stall_s: 60, tries: 5 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RegistryJson {
    mirrors: Vec<String>,
    insecure: bool,
    ca: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsJson {
    version: u32,
    #[serde(default)]
    registries: BTreeMap<String, RegistryJson>,
    #[serde(default)]
    patience: Patience,
}

/// How the certificate of a host is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trust {
    /// By the authorities of the host and of `certs.d`.
    Verified,
    /// Not at all: the settings call the registry insecure.
    Anything,
}

/// One place where the images of a registry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub base: Url,
    /// How its certificate is judged.
    pub trust: Trust,
    /// Whether it may be asked without TLS when it does not speak it.
    pub may_be_plain: bool,
    /// It only has copies: the next one is asked when it does not have what is wanted.
    pub is_mirror: bool,
}

/// What the user said about registries.
#[derive(Debug, Default)]
pub struct Settings {
    registries: BTreeMap<String, RegistryJson>,
    /// How long we wait, and how often we try.
    pub patience: Patience,
}

impl Settings {
    /// Reads `registries.json`, which lies at `path`.
    ///
    /// # Errors
    /// [`SettingsError`]: an unknown field is one, for a typing error must not weaken anything.
    pub fn parse(bytes: &[u8], path: &std::path::Path) -> Result<Self, SettingsError> {
        let path = || path.to_owned();
        let json: SettingsJson =
            serde_json::from_slice(bytes).map_err(|source| SettingsError::Json { path: path(), source })?;
        if json.version != VERSION {
            return Err(SettingsError::Version { path: path(), version: json.version });
        }
        let mut patience = json.patience;
        patience.tries = patience.tries.clamp(1, TRIES_MAX);
        let settings = Self { registries: json.registries, patience };
        for domain in settings.registries.keys() {
            settings.endpoints(domain).map_err(|source| SettingsError::Address { path: path(), source })?;
        }
        Ok(settings)
    }

    /// Where the images of `domain` are looked for, in this order: its mirrors, then itself.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, UrlError> {
        let mut endpoints = Vec::new();
        for mirror in self.registries.get(domain).into_iter().flat_map(|registry| &registry.mirrors) {
            let text = if mirror.contains("://") { mirror.clone() } else { format!("https://{mirror}") };
            let base: Url = text.parse()?;
            endpoints.push(Endpoint {
                trust: self.trust(base.authority()),
                // Who writes `http` has said what it is.
                may_be_plain: !base.is_https() || self.may_be_plain(base.authority()),
                base,
                is_mirror: true,
            });
        }
        endpoints.push(self.own(domain)?);
        Ok(endpoints)
    }

    /// The registry itself, without its mirrors: the only place that is written to.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn own(&self, domain: &str) -> Result<Endpoint, UrlError> {
        let authority = if domain == "docker.io" { HUB } else { domain };
        Ok(Endpoint {
            base: Url::new(true, authority, "/")?,
            trust: self.trust(domain),
            may_be_plain: self.may_be_plain(domain),
            is_mirror: false,
        })
    }

    /// How the certificate of a host is judged.
    pub fn trust(&self, authority: &str) -> Trust {
        let is_insecure = self.registries.get(authority).is_some_and(|registry| registry.insecure);
        if is_insecure { Trust::Anything } else { Trust::Verified }
    }

    /// The authority that the settings name for a host.
    pub fn ca(&self, authority: &str) -> Option<&PathBuf> {
        let name = if authority == HUB { "docker.io" } else { authority };
        self.registries.get(name).and_then(|registry| registry.ca.as_ref())
    }

    fn may_be_plain(&self, authority: &str) -> bool {
        // As Docker: what never leaves this machine cannot be read on its way.
        is_loopback(host_of(authority)) || self.trust(authority) == Trust::Anything
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse(text.as_bytes(), std::path::Path::new("registries.json"))
    }

    fn places(settings: &Settings, domain: &str) -> Vec<(String, bool, bool)> {
        let endpoints = settings.endpoints(domain).unwrap();
        endpoints.iter().map(|e| (e.base.whole(), e.may_be_plain, e.trust == Trust::Verified)).collect()
    }

    #[test]
    fn mirrors_come_first_and_only_what_is_allowed_goes_without_tls() {
        let text = r#"{"version":1,"registries":{
            "docker.io":{"mirrors":["https://mirror.example/hub","http://10.0.0.1:5000","plain.example"]},
            "plain.example":{"insecure":true}}}"#;
        let read = settings(text).unwrap();
        assert_eq!(
            places(&read, "docker.io"),
            [
                ("https://mirror.example/hub".to_owned(), false, true),
                ("http://10.0.0.1:5000/".to_owned(), true, true),
                ("https://plain.example/".to_owned(), true, false),
                ("https://registry-1.docker.io/".to_owned(), false, true),
            ]
        );
        let none = Settings::default();
        assert_eq!(places(&none, "localhost:5000"), [("https://localhost:5000/".to_owned(), true, true)]);
        assert_eq!(places(&none, "127.0.0.1.org"), [("https://127.0.0.1.org/".to_owned(), false, true)]);
    }

    #[test]
    fn a_typing_error_is_one() {
        for text in [
            "",
            "{}",
            r#"{"version":2}"#,
            r#"{"version":1,"registry":{}}"#,
            r#"{"version":1,"registries":{"x":{"insecur":true}}}"#,
            r#"{"version":1,"registries":{"x":{"mirrors":["ftp://x"]}}}"#,
            r#"{"version":1,"registries":{"https://x":{}}}"#,
        ] {
            assert!(settings(text).is_err(), "{text}");
        }
        assert_eq!(settings(r#"{"version":1,"patience":{"tries":0}}"#).unwrap().patience.tries, 1);
    }
}
