//! Pure: `policy.json`: from where images are taken, and whose signature they must have; and whether a
//! signature is good. It fetches nothing. What is not understood is refused.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

use crate::error::{ErrorKind, Fault};
use crate::image::registry::url::host_of;
use crate::names::{Digest, ImageReference};

/// The version of the format.
const VERSION: u32 = 1;
/// What stands before the point in a public key of the curve P-256 (RFC 5480, section 2).
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// A point of that curve that is not compressed, in bytes.
const P256_POINT_BYTES: usize = 65;
/// Docker's own registry, as rules call it.
const HUB: &str = "docker.io";
/// Where its images are that have a bare name.
const HUB_FOLDER: &str = "library/";
/// The port of a registry that names none.
const HTTPS_PORT: u16 = 443;
/// What a signature of cosign calls itself.
const COSIGN: &str = "cosign container image signature";

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not the JSON it must be.
    #[error("`{path}` is not what it must be, and without it no image is taken")]
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
    /// A rule without a key can never be kept.
    #[error("`{path}` wants signatures of `{scope}` and names no key")]
    NoKey {
        /// Which file.
        path: PathBuf,
        /// Which scope.
        scope: String,
    },
    /// Two scopes that are one.
    #[error("`{path}` has two rules for `{scope}`")]
    Twice {
        /// Which file.
        path: PathBuf,
        /// Which scope, as it is compared.
        scope: String,
    },
    /// A key that is none.
    #[error("`{path}` is not a public key of the curve P-256 as PEM")]
    Key {
        /// Which file.
        path: PathBuf,
    },
}

impl Fault for PolicyError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Key { .. } => vec!["`cosign generate-key-pair` makes one: `cosign.pub`".to_owned()],
            _ => vec!["docs/images.md, \"Signatures\", has the format".to_owned()],
        }
    }
}

/// What is asked of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Nothing.
    Accept,
    /// It is never taken.
    Reject,
    /// A signature by one of the keys in these files.
    CosignKeys(Vec<PathBuf>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyJson {
    version: u32,
    default: Rule,
    #[serde(default)]
    scopes: BTreeMap<String, Rule>,
}

/// From where images are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default: Rule,
    scopes: BTreeMap<String, Rule>,
}

impl Default for Policy {
    /// Without a file every image is taken, as Docker does.
    fn default() -> Self {
        Self { default: Rule::Accept, scopes: BTreeMap::new() }
    }
}

impl Policy {
    /// Reads `policy.json`, which lies at `path`.
    ///
    /// # Errors
    /// [`PolicyError`]: an unknown field is one.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, PolicyError> {
        let json: PolicyJson = serde_json::from_slice(bytes)
            .map_err(|source| PolicyError::Json { path: path.to_owned(), source })?;
        if json.version != VERSION {
            return Err(PolicyError::Version { path: path.to_owned(), version: json.version });
        }
        let everywhere = ("default".to_owned(), &json.default);
        let all = json.scopes.iter().map(|(scope, rule)| (scope.clone(), rule)).chain([everywhere]);
        for (scope, rule) in all {
            if matches!(rule, Rule::CosignKeys(keys) if keys.is_empty()) {
                return Err(PolicyError::NoKey { path: path.to_owned(), scope });
            }
        }
        let mut scopes = BTreeMap::new();
        for (scope, rule) in json.scopes {
            let scope = match scope.split_once('/') {
                Some((domain, rest)) => format!("{}/{}", plain_domain(domain), rest.trim_end_matches('/')),
                None => plain_domain(&scope),
            };
            let scope = scope.trim_end_matches('/').to_owned();
            if scopes.insert(scope.clone(), rule).is_some() {
                return Err(PolicyError::Twice { path: path.to_owned(), scope });
            }
        }
        Ok(Self { default: json.default, scopes })
    }

    /// The rule for an image: that of the longest scope that its repository lies in.
    pub fn rule(&self, reference: &ImageReference) -> &Rule {
        let mut scope = plain_name(reference);
        loop {
            if let Some(rule) = self.scopes.get(&scope) {
                return rule;
            }
            match scope.rfind('/') {
                Some(at) => scope.truncate(at),
                None => return &self.default,
            }
        }
    }
}

/// A registry and a repository in the one spelling that rules are compared in.
fn plain_name(reference: &ImageReference) -> String {
    let (domain, repository) = (plain_domain(reference.domain()), reference.repository());
    // Its other names do not complete a bare name, and mean the same images.
    let folder = if domain == HUB && !repository.contains('/') { HUB_FOLDER } else { "" };
    format!("{domain}/{folder}{repository}")
}

/// A registry in one of its many spellings, which all lead to the same images: else a rule would hold only
/// for who writes as it does. Two names or addresses of one host stay two.
fn plain_domain(domain: &str) -> String {
    let domain = domain.to_ascii_lowercase();
    let host = host_of(&domain);
    let port = domain.rsplit_once(':').filter(|(before, _)| before.ends_with(host) || before.ends_with(']'));
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port != HTTPS_PORT);
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    };
    match (host.as_str(), port) {
        ("index.docker.io" | "registry-1.docker.io", None) => HUB.to_owned(),
        (_, None) => host,
        (_, Some(port)) => format!("{host}:{port}"),
    }
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Reads the public key in the PEM text of the file `path`.
    ///
    /// # Errors
    /// `Key` when it is none, or of another kind.
    pub fn parse(pem: &[u8], path: &Path) -> Result<Self, PolicyError> {
        let wrong = || PolicyError::Key { path: path.to_owned() };
        let text = std::str::from_utf8(pem).map_err(|_unsaid| wrong())?;
        let body = text.split("-----BEGIN PUBLIC KEY-----").nth(1).ok_or_else(wrong)?;
        let body = body.split("-----END PUBLIC KEY-----").next().unwrap_or_default();
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_unsaid| wrong())?;
        let point = der.strip_prefix(&P256_HEAD).filter(|point| point.len() == P256_POINT_BYTES);
        Ok(Self(point.ok_or_else(wrong)?.to_vec()))
    }
}

#[derive(Deserialize)]
struct PayloadJson {
    critical: CriticalJson,
}

#[derive(Deserialize)]
struct CriticalJson {
    identity: IdentityJson,
    image: ImageJson,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct IdentityJson {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct ImageJson {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// Whether `payload` says that this image is in this repository, and `signature` (base64) is that of one
/// of `keys` under it.
pub fn is_signed(
    payload: &[u8],
    signature: &str,
    keys: &[Key],
    reference: &ImageReference,
    digest: &Digest,
) -> bool {
    // The signature first: what nobody signed is not even read.
    let Ok(signature) = STANDARD.decode(signature.trim()) else { return false };
    let is_of = |key: &Key| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.0).verify(payload, &signature).is_ok()
    };
    if !keys.iter().any(is_of) {
        return false;
    }
    let Ok(PayloadJson { critical }) = serde_json::from_slice(payload) else { return false };
    let said: Result<ImageReference, _> = critical.identity.reference.parse();
    let is_here = said.is_ok_and(|said| plain_name(&said) == plain_name(reference));
    critical.kind == COSIGN && critical.image.digest == *digest && is_here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text.as_bytes(), Path::new("policy.json"))
    }

    fn name(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_scope_rules() {
        let read = policy(
            r#"{"version":1,"default":"reject","scopes":{"docker.io/library":"accept",
            "r.example:5000":"accept","r.example:5000/team":{"cosign_keys":["/k.pub"]}}}"#,
        )
        .unwrap();
        let keys = Rule::CosignKeys(vec!["/k.pub".into()]);
        for (image, rule) in [
            ("alpine", &Rule::Accept),
            ("me/alpine", &Rule::Reject),
            ("r.example:5000/x", &Rule::Accept),
            ("r.example:5000/team", &keys),
            ("r.example:5000/team/app:1", &keys),
            ("r.example:5000/teams/app", &Rule::Accept),
            ("r.example/team/app", &Rule::Reject),
        ] {
            assert_eq!(read.rule(&name(image)), rule, "{image}");
        }
        assert_eq!(Policy::default().rule(&name("x")), &Rule::Accept);
    }

    #[test]
    fn every_spelling_of_a_registry_has_one_rule() {
        let read = policy(
            r#"{"version":1,"default":"accept","scopes":{"docker.io":"reject","Registry.Example":"reject",
            "other.example:0443/team/":"reject","r.example:5000":"reject","[::1]:5000":"reject",
            "[2001:DB8::0:1]":"reject"}}"#,
        )
        .unwrap();
        for image in [
            "alpine",
            "registry-1.docker.io/library/alpine",
            "REGISTRY-1.docker.io:443/me/app",
            "index.docker.io/alpine",
            "Docker.io/me/app",
            "docker.io:443/me/app",
            "registry.example/x",
            "REGISTRY.EXAMPLE:443/x",
            "registry.example:00443/x",
            "other.example/team/app",
            "Other.example:443/team",
            "R.example:05000/x",
            "[0:0::1]:5000/x",
            "[2001:db8::1]:443/x",
        ] {
            assert_eq!(read.rule(&name(image)), &Rule::Reject, "{image}");
        }
        for image in ["registry.example:80/x", "other.example/teams", "r.example/x", "[::1]/x", "localhost/x"]
        {
            assert_eq!(read.rule(&name(image)), &Rule::Accept, "{image}");
        }
        let official = policy(r#"{"version":1,"default":"accept","scopes":{"docker.io/library":"reject"}}"#);
        assert_eq!(official.unwrap().rule(&name("registry-1.docker.io/alpine")), &Rule::Reject);
        let twice =
            policy(r#"{"version":1,"default":"accept","scopes":{"a.b":"accept","A.b:443":"reject"}}"#);
        assert!(matches!(twice, Err(PolicyError::Twice { scope, .. }) if scope == "a.b"));
    }

    #[test]
    fn a_policy_that_is_not_understood_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"version":1}"#,
            r#"{"version":2,"default":"accept"}"#,
            r#"{"version":1,"default":"allow"}"#,
            r#"{"version":1,"default":"accept","scope":{}}"#,
            r#"{"version":1,"default":{"cosign_keys":[]}}"#,
            r#"{"version":1,"default":"accept","scopes":{"x":{"keys":["a"]}}}"#,
        ] {
            assert!(policy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_public_key_of_the_right_curve_is_one() {
        let point = [4; P256_POINT_BYTES];
        let pem = |der: &[u8]| {
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
        };
        let good = [&P256_HEAD[..], &point].concat();
        let read = |text: &str| Key::parse(text.as_bytes(), Path::new("k"));
        assert_eq!(read(&pem(&good)).unwrap(), Key(point.to_vec()));
        for bad in [
            pem(&good[1..]),
            pem(&good[..90]),
            pem(b""),
            "PUBLIC KEY".to_owned(),
            pem(&good).replace("PUBLIC", "PRIVATE"),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }
}
