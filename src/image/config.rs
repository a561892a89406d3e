//! Pure: the image configuration: what an image wants to run, and which layers it is made of. It
//! does not decide what is honoured: that is the caller's.

use std::collections::BTreeMap;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::names::Digest;

/// Largest image configuration, in bytes (the size registries accept for one).
pub const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Most layers of one image: overlay takes no more.
pub const LAYERS_MAX: usize = 500;

/// Why a configuration is not one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is larger than a configuration needs to be.
    #[error("the image configuration is larger than {CONFIG_BYTES_MAX} bytes")]
    TooLarge,
    /// It is not the JSON it must be.
    #[error("the image configuration is not what OCI or Docker write")]
    Json(#[source] serde_json::Error),
    /// It has more layers than can be mounted.
    #[error("the image has {layers} layers, more than {LAYERS_MAX}")]
    Layers {
        /// How many.
        layers: usize,
    },
    /// Its layers are not tar layers.
    #[error("the image has a root file system of type `{kind}`, not `layers`")]
    RootFs {
        /// What it says.
        kind: String,
    },
}

/// What an image wants to run; fields that were not set are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The command that is always run; `command` is given to it.
    pub entrypoint: Vec<String>,
    /// The default command, or the default arguments of the entry point.
    pub command: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// The working folder, empty for `/`.
    pub working_dir: String,
    /// `user[:group]`, names or numbers, empty for root.
    pub user: String,
    /// Folders that are volumes.
    pub volumes: Vec<String>,
    /// The signal that stops it, by name or number.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `port/protocol`, told and not opened.
    pub exposed_ports: Vec<String>,
    /// The processor, in Go's words: `amd64`.
    pub architecture: String,
    /// The processor's variant, such as `v8`, empty when there is none.
    pub variant: String,
    /// The system, in Go's words: `linux`.
    pub os: String,
    /// When it was made, as it was written (RFC 3339).
    pub created: Option<String>,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// How each layer was made, as it was written.
    pub history: Vec<serde_json::Value>,
}

/// A system and a processor, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The system.
    pub os: String,
    /// The processor.
    pub architecture: String,
}

impl Platform {
    /// What programs of this machine run on.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned() }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// Go writes `null` where it has nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(json: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(json)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Json {
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    variant: String,
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    config: RunJson,
    rootfs: RootFsJson,
    #[serde(default, deserialize_with = "or_default")]
    history: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RootFsJson {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    diff_ids: Vec<Digest>,
}

type Set = BTreeMap<String, serde_json::Value>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RunJson {
    #[serde(default, deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    working_dir: String,
    #[serde(default, deserialize_with = "or_default")]
    user: String,
    #[serde(default, deserialize_with = "or_default")]
    volumes: Set,
    #[serde(default)]
    stop_signal: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    exposed_ports: Set,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`ConfigError`]; a digest that is not one is told as JSON that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge);
        }
        let json: Json = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if json.rootfs.kind != "layers" {
            return Err(ConfigError::RootFs { kind: json.rootfs.kind.chars().take(40).collect() });
        }
        if json.rootfs.diff_ids.len() > LAYERS_MAX {
            return Err(ConfigError::Layers { layers: json.rootfs.diff_ids.len() });
        }
        Ok(Self {
            entrypoint: json.config.entrypoint,
            command: json.config.cmd,
            env: json.config.env,
            working_dir: json.config.working_dir,
            user: json.config.user,
            volumes: json.config.volumes.into_keys().collect(),
            stop_signal: json.config.stop_signal.filter(|signal| !signal.is_empty()),
            labels: json.config.labels,
            exposed_ports: json.config.exposed_ports.into_keys().collect(),
            architecture: json.architecture,
            variant: json.variant,
            os: json.os,
            created: json.created,
            diff_ids: json.rootfs.diff_ids,
            history: json.history,
        })
    }

    /// What the image is made for, when this machine is something else; nothing when it fits or
    /// when the image does not say.
    pub fn foreign_platform(&self) -> Option<Platform> {
        let host = Platform::host();
        let fits = (self.os.is_empty() || self.os == host.os)
            && (self.architecture.is_empty() || self.architecture == host.architecture);
        (!fits).then(|| Platform { os: self.os.clone(), architecture: self.architecture.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_docker_writes_is_kept_and_null_is_empty() {
        let hex = "0a".repeat(32);
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","docker_version":"28",
            "config":{{"Hostname":"","User":"1:2","Env":["A=b","C=d"],"Cmd":null,"Entrypoint":["/x","-y"],
            "Volumes":{{"/data":{{}}}},"WorkingDir":"/w","Labels":{{"k":"v"}},"StopSignal":"SIGINT",
            "ExposedPorts":{{"80/tcp":{{}}}},"OnBuild":null}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}},"history":[{{"created_by":"x"}}]}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.entrypoint, ["/x", "-y"]);
        assert!(config.command.is_empty());
        assert_eq!(config.env, ["A=b", "C=d"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1:2", "/w"));
        assert_eq!((config.volumes, config.exposed_ports), (vec!["/data".into()], vec!["80/tcp".into()]));
        assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(config.labels["k"], "v");
        assert_eq!(config.diff_ids[0].hex(), hex);
        assert_eq!(config.history.len(), 1);
    }

    #[test]
    fn a_configuration_that_is_not_one_is_refused() {
        let good = r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
        assert!(ImageConfig::parse(good.as_bytes()).unwrap().foreign_platform().is_none());
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{"type":"windows","diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha512:00"]}}"#,
            r#"{"rootfs":{"type":"layers"},"rootfs":{"type":"layers"}}"#,
            r#"{"config":{"Env":[1]},"rootfs":{"type":"layers"}}"#,
        ] {
            assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let digest = format!("\"sha256:{}\"", "0".repeat(64));
        let many = format!(
            r#"{{"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            vec![digest; LAYERS_MAX + 1].join(",")
        );
        assert!(matches!(ImageConfig::parse(many.as_bytes()), Err(ConfigError::Layers { .. })));
    }

    #[test]
    fn an_image_for_another_processor_says_so() {
        let text = r#"{"os":"linux","architecture":"z80","rootfs":{"type":"layers"}}"#;
        let foreign = ImageConfig::parse(text.as_bytes()).unwrap().foreign_platform().unwrap();
        assert_eq!(foreign.to_string(), "linux/z80");
    }
}
