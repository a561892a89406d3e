//! Pure: every name a person types, parsed once. It knows spelling, not whether the thing exists.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};

/// Longest repository name a registry accepts, in bytes (distribution/reference).
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (distribution/reference).
const TAG_BYTES_MAX: usize = 128;
/// Longest container name, in bytes: it becomes a file name.
const NAME_BYTES_MAX: usize = 200;
/// The registry and the folder that a bare name such as `alpine` stands for, as Docker has it.
const DEFAULT_DOMAIN: &str = "docker.io";
const DEFAULT_FOLDER: &str = "library/";

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
    Digest {
        /// What was written.
        text: String,
    },
    /// Not an image reference.
    #[error("`{text}` is not an image reference: {reason}")]
    Reference {
        /// What was written.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not a container or volume name.
    #[error("`{text}` is not a name: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed")]
    Name {
        /// What was written.
        text: String,
    },
}

impl Fault for NameError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// A SHA-256 content address, `sha256:` and 64 lower-case hexadecimal digits.
///
/// Nothing else is ever a `Digest`, so one can be used as a file name without another check
/// (CVE-2024-3727).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of 32 raw bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        Self(text)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The whole text, with the algorithm.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError::Digest { text: text.chars().take(100).collect() };
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 64 || !hex.bytes().all(is_hex) {
            return Err(wrong());
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Digest {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person calls an image: `[registry/]repository[:tag][@digest]`, in full form.
///
/// `alpine` is `docker.io/library/alpine:latest`, as in Docker (distribution/reference).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    domain: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// The registry, `docker.io` when none was written.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository inside the registry, with `library/` for a bare name of the default registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag: `latest` when neither tag nor digest was written, nothing when only a digest was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The short form a person reads: without the default registry and its folder.
    pub fn familiar(&self) -> String {
        let mut text = String::new();
        let official = self.repository.strip_prefix(DEFAULT_FOLDER).filter(|name| !name.contains('/'));
        let short = official.unwrap_or(&self.repository);
        // Read again, the first folder must not be taken for a registry.
        let is_plain = !short.split_once('/').is_some_and(|(first, _)| is_domain_part(first));
        if self.domain == DEFAULT_DOMAIN && is_plain {
            text.push_str(short);
        } else {
            text.push_str(&format!("{}/{}", self.domain, self.repository));
        }
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
    }
}

impl FromStr for ImageReference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason| NameError::Reference { text: text.chars().take(300).collect(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag is 1 to 128 of [A-Za-z0-9_.-] and does not begin with `.` or `-`"));
        }
        let (domain, repository) = match name.split_once('/') {
            Some((first, rest)) if is_domain_part(first) => (first.to_owned(), rest.to_owned()),
            Some(_) => (DEFAULT_DOMAIN.to_owned(), name.to_owned()),
            None => (DEFAULT_DOMAIN.to_owned(), name.to_owned()),
        };
        let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN.to_owned() } else { domain };
        let is_official = domain == DEFAULT_DOMAIN && !repository.contains('/');
        let repository = if is_official { format!("{DEFAULT_FOLDER}{repository}") } else { repository };
        if !is_domain(&domain) {
            return Err(wrong("the registry is not a host name with an optional port"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("the repository must be lower case"));
        }
        if domain.len() + 1 + repository.len() > REPOSITORY_BYTES_MAX {
            return Err(wrong("the repository is longer than 255 bytes"));
        }
        if !repository.split('/').all(is_repository_part) {
            return Err(wrong(
                "a repository is made of [a-z0-9] with single `.`, `_`, `__` or `-` between, and `/`",
            ));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self { domain, repository, tag, digest })
    }
}

impl TryFrom<String> for ImageReference {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}/{}", self.domain, self.repository);
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

/// A first component that names a registry rather than a folder: it has a dot, a port, is
/// `localhost`, or has an upper-case letter.
fn is_domain_part(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("localhost", port.strip_prefix(':').or(port.is_empty().then_some("1")))
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, Some("1")),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label)
        && port.is_some_and(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_repository_part(part: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let dashes_as_one = part.split('-').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
    !part.starts_with('-')
        && !part.ends_with('-')
        && dashes_as_one.replace("__", "-").split(['.', '_', '-']).all(word)
}

fn is_tag(tag: &str) -> bool {
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && !tag.starts_with(['.', '-'])
}

/// The name of a container or a volume, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as Docker has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text: safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ok = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && text.as_bytes()[0].is_ascii_alphanumeric();
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Name { text: text.chars().take(300).collect() })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of one container: 64 lower-case hexadecimal digits, made at random.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// The identity made of 32 random bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes).hex().to_owned())
    }

    /// All 64 digits: safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits: what a person reads, and the default host name.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match format!("sha256:{text}").parse::<Digest>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(NameError::Name { text: text.chars().take(100).collect() }),
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_image_names_are_completed_as_docker_does() {
        let hex = "a".repeat(64);
        for (typed, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("me/app:1.2", "docker.io/me/app:1.2", "me/app:1.2"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest", "localhost:5000/a/b:latest"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("index.docker.io/library/a__b", "docker.io/library/a__b:latest", "a__b:latest"),
            ("a---b", "docker.io/library/a---b:latest", "a---b:latest"),
            (
                &format!("x@sha256:{hex}"),
                &format!("docker.io/library/x@sha256:{hex}"),
                &format!("x@sha256:{hex}"),
            ),
        ] {
            let reference: ImageReference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<ImageReference>().unwrap(), reference);
        }
    }

    #[test]
    fn the_short_form_of_a_name_is_read_as_the_same_name() {
        for text in ["docker.io/alpine", "library/a/b", "docker.io/a.b/c", "docker.io/localhost/c", "a/b:1"] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.familiar().parse(), Ok(reference), "{text}");
        }
        assert_eq!("docker.io/alpine".parse::<ImageReference>(), "alpine".parse());
    }

    #[test]
    fn image_references_that_could_be_paths_or_flags_are_refused() {
        for typed in [
            "",
            "/",
            "a/",
            "/a",
            "../a",
            "a/../b",
            "A",
            "a:",
            "a:.x",
            "a@sha256:12",
            "a b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "x@sha256:../../x",
            "h:p/a",
            "h-:1/a",
            "a\0b",
            "@host",
        ] {
            assert!(typed.parse::<ImageReference>().is_err(), "{typed:?}");
        }
        assert!("a".repeat(300).parse::<ImageReference>().is_err());
    }

    #[test]
    fn a_digest_is_nothing_but_lower_case_hexadecimal() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        assert_eq!(Digest::from_bytes(&[15; 32]).as_str(), good);
        for bad in ["sha256:../../x", "sha512:00", &good.to_uppercase(), &good[1..], &format!("{good}0")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", ".", "..", "a/b", "-a", "_a", "a\n"] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert!("web-1.a_B".parse::<Name>().is_ok());
    }
}
