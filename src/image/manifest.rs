//! Pure: manifests, indexes and Docker's `manifest.json`: which blobs make an image. It checks what
//! they say and reads nothing that they name.

use std::collections::BTreeMap;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Fault};
use crate::image::config::{LAYERS_MAX, Platform};
use crate::names::{Digest, ImageReference, NameError};

/// Largest manifest or index, in bytes (the size registries accept for one).
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Indexes inside indexes, at most.
pub const INDEX_DEPTH_MAX: usize = 4;
/// Manifests and indexes that one index may name.
pub const INDEX_ENTRIES_MAX: usize = 1000;
/// Images of one `manifest.json`, and names of one image.
const IMAGES_MAX: usize = 1000;

/// What an index is called (OCI image-spec).
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What a manifest is called (OCI image-spec).
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// What a configuration is called (OCI image-spec).
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

const INDEX_TYPES: [&str; 2] = [INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json"];
const MANIFEST_TYPES: [&str; 2] = [MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIG_TYPES: [&str; 2] = [CONFIG_TYPE, "application/vnd.docker.container.image.v1+json"];
const LAYER_TYPES: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// The full name of an image, as containerd and Docker write it.
pub const NAME_CONTAINERD: &str = "io.containerd.image.name";
/// The name of an image, or only its tag.
pub const NAME_OCI: &str = "org.opencontainers.image.ref.name";

/// Why a manifest or an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not the JSON it must be.
    #[error("`{object}` is not what OCI or Docker write")]
    Json {
        /// Which document.
        object: String,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A document that is not one kind only, or not the kind that was said.
    #[error("`{object}` is {found}, not {expected}")]
    Kind {
        /// Which document or blob.
        object: String,
        /// What it is.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A layer that is to be fetched from an address its author chose.
    #[error("layer `{layer}` is to be fetched from another address (`{url}`), which is not done")]
    Foreign {
        /// Which layer.
        layer: Digest,
        /// The first address.
        url: String,
    },
    /// More than a document may name.
    #[error("`{object}` names more than {max} {what}")]
    TooMany {
        /// Which document.
        object: String,
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: usize,
    },
    /// A name in it is not an image reference.
    #[error("`{object}` gives an image a name that is not one")]
    Name {
        /// Which document.
        object: String,
        /// Why.
        #[source]
        source: NameError,
    },
}

impl Fault for ManifestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooMany { .. } => ErrorKind::Limit,
            Self::Foreign { .. } => ErrorKind::Denied,
            _ => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Foreign { .. } => {
                vec!["have the image saved with all its layers inside".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(json: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(json)?.unwrap_or_default())
}

/// What a document says of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size, in bytes.
    pub size: u64,
    /// Addresses it could be fetched from: never used.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What it runs on, when it is an image among several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Remarks, among them names.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Whether it names an index.
    pub fn is_index(&self) -> bool {
        INDEX_TYPES.contains(&self.media_type.as_str())
    }

    /// Whether it names a record about an image (where it came from), not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.get("vnd.docker.reference.type").is_some_and(|kind| kind == "attestation-manifest")
    }

    /// The name its annotations give the image. A bare tag names no repository and is no name.
    ///
    /// # Errors
    /// `Name` when it is written as a name and is not one.
    pub fn name(&self) -> Result<Option<ImageReference>, ManifestError> {
        let containerd = self.annotations.get(NAME_CONTAINERD);
        let oci = self.annotations.get(NAME_OCI).filter(|name| name.contains(['/', ':']));
        let wrong = |source| ManifestError::Name { object: self.digest.to_string(), source };
        containerd.or(oci).map(|name| name.parse()).transpose().map_err(wrong)
    }

    /// What a person may call it within its layout: its names and tags, as they are written and in short.
    pub fn tags(&self) -> Vec<String> {
        let written = [NAME_OCI, NAME_CONTAINERD].map(|key| self.annotations.get(key).cloned());
        let mut tags: Vec<String> = written.into_iter().flatten().collect();
        let name = self.name().ok().flatten();
        tags.extend(name.as_ref().map(ImageReference::familiar));
        tags.extend(name.as_ref().and_then(ImageReference::tag).map(str::to_owned));
        tags.sort();
        tags.dedup();
        tags
    }

    /// Refuses a blob that is not a layer we can unpack, or that lies elsewhere.
    fn check_layer(&self) -> Result<(), ManifestError> {
        if let Some(url) = self.urls.first() {
            let url = url.chars().take(200).collect();
            return Err(ManifestError::Foreign { layer: self.digest.clone(), url });
        }
        expect_type(self, &LAYER_TYPES, "a tar layer")
    }
}

fn expect_type(descriptor: &Descriptor, known: &[&str], expected: &'static str) -> Result<(), ManifestError> {
    if known.contains(&descriptor.media_type.as_str()) {
        return Ok(());
    }
    let found = match descriptor.media_type.as_str() {
        "" => "of no media type".to_owned(),
        other => format!("of media type `{}`", other.chars().take(100).collect::<String>()),
    };
    Err(ManifestError::Kind { object: descriptor.digest.to_string(), found, expected })
}

/// A manifest: one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
}

/// A document that is a manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images, or the same for several platforms.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentJson {
    schema_version: u64,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

impl Document {
    /// Reads the document `object`, which was called `media_type` by what names it; empty when
    /// nothing did.
    ///
    /// # Errors
    /// [`ManifestError`]; a document that is both a manifest and an index is neither (CVE-2021-41190).
    pub fn parse(bytes: &[u8], object: &str, media_type: &str) -> Result<Self, ManifestError> {
        let json: DocumentJson = serde_json::from_slice(bytes)
            .map_err(|source| ManifestError::Json { object: object.to_owned(), source })?;
        let wrong = |found: &str, expected| {
            Err(ManifestError::Kind { object: object.to_owned(), found: found.to_owned(), expected })
        };
        let too_many = |what, max| ManifestError::TooMany { object: object.to_owned(), what, max };
        if json.schema_version != 2 {
            return wrong("of another schema version", "of version 2");
        }
        if !media_type.is_empty() && !json.media_type.is_empty() && media_type != json.media_type {
            return wrong("of another media type in itself", "what its descriptor says");
        }
        let said = if media_type.is_empty() { &json.media_type } else { media_type };
        match (json.config, json.layers, json.manifests) {
            (None, None, Some(manifests)) if said.is_empty() || INDEX_TYPES.contains(&said) => {
                if manifests.len() > INDEX_ENTRIES_MAX {
                    return Err(too_many("manifests", INDEX_ENTRIES_MAX));
                }
                Ok(Self::Index(manifests))
            }
            (Some(config), Some(layers), None) if said.is_empty() || MANIFEST_TYPES.contains(&said) => {
                if layers.len() > LAYERS_MAX {
                    return Err(too_many("layers", LAYERS_MAX));
                }
                expect_type(&config, &CONFIG_TYPES, "an image configuration")?;
                layers.iter().try_for_each(Descriptor::check_layer)?;
                Ok(Self::Manifest(Manifest { config, layers }))
            }
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                wrong("a manifest and an index at once", "one of them")
            }
            (None, None, None) => wrong("neither a manifest nor an index", "one of them"),
            _ => wrong("not what its media type says", "a whole manifest or index"),
        }
    }
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerImage {
    /// The member of the archive that is its configuration.
    pub config: String,
    /// Its names.
    pub names: Vec<ImageReference>,
    /// The members that are its layers, bottom first.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerJson {
    config: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    layers: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    layer_sources: BTreeMap<String, Descriptor>,
}

/// Reads Docker's `manifest.json`.
///
/// # Errors
/// [`ManifestError`].
pub fn parse_docker(bytes: &[u8]) -> Result<Vec<DockerImage>, ManifestError> {
    let object = || "manifest.json".to_owned();
    let images: Vec<DockerJson> =
        serde_json::from_slice(bytes).map_err(|source| ManifestError::Json { object: object(), source })?;
    let too_many = |what, max| Err(ManifestError::TooMany { object: object(), what, max });
    if images.len() > IMAGES_MAX {
        return too_many("images", IMAGES_MAX);
    }
    let mut read = Vec::with_capacity(images.len());
    for image in images {
        if image.repo_tags.len() > IMAGES_MAX {
            return too_many("names of one image", IMAGES_MAX);
        }
        if image.layers.len() > LAYERS_MAX {
            return too_many("layers", LAYERS_MAX);
        }
        image.layer_sources.values().try_for_each(Descriptor::check_layer)?;
        let names = image.repo_tags.iter().filter(|name| *name != "<none>:<none>").map(|name| name.parse());
        let names = names
            .collect::<Result<Vec<_>, NameError>>()
            .map_err(|source| ManifestError::Name { object: object(), source })?;
        read.push(DockerImage { config: image.config, names, layers: image.layers });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    fn descriptor(kind: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{}","size":1{more}}}"#, "0".repeat(64))
    }

    fn manifest(layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layer}]}}"#,
            descriptor("application/vnd.oci.image.config.v1+json", "")
        )
    }

    #[test]
    fn a_manifest_and_an_index_are_told_apart() {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "");
        let good = manifest(&layer);
        assert!(matches!(Document::parse(good.as_bytes(), "x", OCI_MANIFEST), Ok(Document::Manifest(_))));
        assert!(Document::parse(good.as_bytes(), "x", INDEX_TYPES[0]).is_err());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(OCI_MANIFEST, ""));
        assert!(matches!(Document::parse(index.as_bytes(), "x", ""), Ok(Document::Index(_))));
        assert!(Document::parse(index.as_bytes(), "x", OCI_MANIFEST).is_err());
        let both = good.replace(r#""layers""#, r#""manifests":[],"layers""#);
        assert!(matches!(Document::parse(both.as_bytes(), "x", ""), Err(ManifestError::Kind { .. })));
        let lies = good.replace("2,", &format!(r#"2,"mediaType":"{}","#, INDEX_TYPES[0]));
        assert!(Document::parse(lies.as_bytes(), "x", OCI_MANIFEST).is_err());
    }

    #[test]
    fn layers_of_unknown_type_or_from_elsewhere_are_refused() {
        for (kind, more) in [
            ("application/x-evil", ""),
            ("", ""),
            ("application/vnd.oci.image.layer.v1.tar", r#","urls":["http://x/"]"#),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""),
        ] {
            let text = manifest(&descriptor(kind, more));
            assert!(Document::parse(text.as_bytes(), "x", "").is_err(), "{kind} {more}");
        }
        let climbing = manifest(&descriptor("application/vnd.oci.image.layer.v1.tar", ""))
            .replace(&"0".repeat(64), "../../x");
        assert!(matches!(Document::parse(climbing.as_bytes(), "x", ""), Err(ManifestError::Json { .. })));
    }

    #[test]
    fn names_come_from_annotations_and_a_bare_tag_is_none() {
        let name = |key: &str, value: &str| {
            let text = descriptor(OCI_MANIFEST, &format!(r#","annotations":{{"{key}":"{value}"}}"#));
            serde_json::from_str::<Descriptor>(&text).unwrap().name()
        };
        assert_eq!(name(NAME_OCI, "latest").unwrap(), None);
        assert_eq!(name(NAME_OCI, "a/b:1").unwrap().unwrap().familiar(), "a/b:1");
        assert_eq!(name(NAME_CONTAINERD, "alpine").unwrap().unwrap().familiar(), "alpine:latest");
        assert!(name(NAME_CONTAINERD, "../x").is_err());
    }
}
