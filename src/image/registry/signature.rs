//! The signatures that cosign keeps beside an image: fetched, and checked by `image::registry::policy`. It
//! fails closed: no signature, no answer and no sense are all no.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Fault};
use crate::image::manifest::Descriptor;
use crate::image::registry::client::{ClientError, Repository};
use crate::image::registry::download::small;
use crate::image::registry::policy::{Key, PolicyError, Rule, is_signed};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, read_file};

/// Largest public key, in bytes.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// Largest text that is signed, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 * 1024;
/// Signatures of one image that are looked at.
const SIGNATURES_MAX: usize = 64;
/// What cosign calls the text that it signs.
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Where cosign writes the signature.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The policy takes nothing from there.
    #[error("the policy rejects `{image}`")]
    Rejected {
        /// Which image.
        image: String,
    },
    /// Nobody signed it.
    #[error("`{image}` must be signed, and `{digest}` has no signature")]
    Unsigned {
        /// Which image.
        image: String,
        /// What should have been signed.
        digest: Digest,
    },
    /// Whoever signed it is none of those who may, or signed something else.
    #[error(
        "`{image}` must be signed, and none of {count} signatures of `{digest}` is by a key of the policy and for this repository"
    )]
    NoneGood {
        /// Which image.
        image: String,
        /// What should have been signed.
        digest: Digest,
        /// How many there are.
        count: usize,
    },
    /// A key cannot be read.
    #[error("a key of the policy cannot be read")]
    Fs(#[from] FsError),
    /// A key is none.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The registry does not give the signatures.
    #[error("the signatures of `{image}` cannot be fetched")]
    Client {
        /// Which image.
        image: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// What lies where signatures must be is something else.
    #[error("the signatures of `{image}` are not what cosign writes")]
    Json {
        /// Which image.
        image: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
}

impl Fault for SignatureError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(source) => source.kind(),
            Self::Policy(source) => source.kind(),
            Self::Client { source, .. } => source.kind(),
            Self::Json { .. } => ErrorKind::Corrupt,
            _ => ErrorKind::Denied,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Rejected { .. } => {
                vec![
                    "`policy.json` says from where images are taken (docs/images.md, \"Signatures\")"
                        .to_owned(),
                ]
            }
            Self::Unsigned { .. } | Self::NoneGood { .. } => {
                vec!["`cosign sign --key cosign.key IMAGE@DIGEST` signs it".to_owned()]
            }
            Self::Policy(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}

#[derive(Deserialize)]
struct ManifestJson {
    layers: Vec<LayerJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayerJson {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Whether the image `digest`, called `reference`, may be taken by this rule.
///
/// # Errors
/// [`SignatureError`] when not.
pub fn check(
    repository: &Repository<'_>,
    reference: &ImageReference,
    digest: &Digest,
    rule: &Rule,
) -> Result<(), Error> {
    let image = || reference.familiar();
    let paths = match rule {
        Rule::Accept => return Ok(()),
        Rule::Reject => return Err(SignatureError::Rejected { image: image() }.into()),
        Rule::CosignKeys(paths) => paths,
    };
    let mut keys = Vec::new();
    for path in paths {
        let pem = read_file(path, KEY_BYTES_MAX).map_err(SignatureError::Fs)?;
        keys.push(Key::parse(&pem, path).map_err(SignatureError::Policy)?);
    }
    let unsigned = || SignatureError::Unsigned { image: image(), digest: digest.clone() };
    let document = match repository.document(&format!("sha256-{}.sig", digest.hex())) {
        Err(ClientError::NotFound { .. }) => return Err(unsigned().into()),
        other => other.map_err(|source| SignatureError::Client { image: image(), source })?,
    };
    let manifest: ManifestJson = serde_json::from_slice(&document.bytes)
        .map_err(|source| SignatureError::Json { image: image(), source })?;
    let signatures: Vec<LayerJson> = manifest
        .layers
        .into_iter()
        .filter(|layer| layer.media_type == PAYLOAD_TYPE)
        .take(SIGNATURES_MAX)
        .collect();
    if signatures.is_empty() {
        return Err(unsigned().into());
    }
    for layer in &signatures {
        let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
        let blob = Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
            urls: Vec::new(),
            platform: None,
            annotations: BTreeMap::new(),
        };
        let payload = small(repository, &blob, PAYLOAD_BYTES_MAX)?;
        if is_signed(&payload, signature, &keys, reference, digest) {
            return Ok(());
        }
    }
    let count = signatures.len();
    Err(SignatureError::NoneGood { image: image(), digest: digest.clone(), count }.into())
}
