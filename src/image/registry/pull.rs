//! An image of a registry into the store: which manifest, then its layers, several at a time, unpacked
//! while they come. It does not choose the registry, and prints nothing.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde::Deserialize;

use crate::error::{Error, ErrorKind, Fault};
use crate::image::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig, Platform};
use crate::image::manifest::{Descriptor, Document as Parsed, INDEX_DEPTH_MAX, Manifest, ManifestError};
use crate::image::registry::client::{ClientError, Document, Repository};
use crate::image::registry::download::{Download, small};
use crate::image::registry::event::{Event, Step, Tell};
use crate::image::staging::{Expected, NewImage, Skipped, Staging, StagingError, Wanted};
use crate::image::store::Store;
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};

/// Layers that come at once: as many as Docker's.
const PARALLEL_MAX: usize = 3;
/// Platforms that are named when none fits.
const PLATFORMS_SHOWN_MAX: usize = 20;

/// Why an image cannot be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry does not give it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Its manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Its configuration cannot be used.
    #[error("configuration `{object}` cannot be used")]
    Config {
        /// Its digest.
        object: Digest,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// None of several images is for the platform.
    #[error(
        "no matching manifest for {wanted} in the manifest list entries of `{object}`: it has {available}"
    )]
    NoPlatform {
        /// Which index.
        object: String,
        /// What was wanted.
        wanted: String,
        /// What there is.
        available: String,
    },
    /// Indexes in indexes in indexes.
    #[error("`{object}` has more than {INDEX_DEPTH_MAX} indexes in each other")]
    TooDeep {
        /// Which reference.
        object: String,
    },
    /// The configuration and the manifest do not have the same layers.
    #[error("image `{image}` has {said} layers by its manifest and {has} by its configuration")]
    LayerCount {
        /// Which image.
        image: Digest,
        /// By its manifest.
        said: usize,
        /// By its configuration.
        has: usize,
    },
    /// It cannot come into the store.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl Fault for PullError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Client(source) => source.kind(),
            Self::Manifest(source) => source.kind(),
            Self::Config { .. } | Self::LayerCount { .. } => ErrorKind::Corrupt,
            Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::TooDeep { .. } => ErrorKind::Limit,
            Self::Staging(source) => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Client(source) => source.hints(),
            Self::Manifest(source) => source.hints(),
            Self::NoPlatform { .. } => vec!["`--platform` takes one of these".to_owned()],
            Self::Staging(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// A platform that was asked for, with its variant when one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// System and processor.
    pub platform: Platform,
    /// `v7` and the like.
    pub variant: Option<String>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        write!(f, "{}{variant}", self.platform)
    }
}

/// What a registry has under a name.
#[derive(Debug)]
pub struct Found {
    /// The index, when the manifest was chosen from one.
    index: Option<Document>,
    document: Document,
    manifest: Manifest,
    /// The digest of the configuration.
    pub id: Digest,
    config_bytes: Vec<u8>,
    /// The configuration.
    pub config: ImageConfig,
}

impl Found {
    /// The digest of what the name stands for: an index, or a manifest.
    pub fn digest(&self) -> &Digest {
        &self.index.as_ref().unwrap_or(&self.document).digest
    }
}

/// Asks what `tag_or_digest` is in a repository, for one platform.
///
/// # Errors
/// [`PullError`], or what is wrong with its configuration.
pub fn look_up(repository: &Repository<'_>, tag_or_digest: &str, target: &Target) -> Result<Found, Error> {
    let (index, document, manifest) = choose(repository, tag_or_digest, target)?;
    let id = manifest.config.digest.clone();
    let config_bytes = small(repository, &manifest.config, CONFIG_BYTES_MAX)?;
    let config = ImageConfig::parse(&config_bytes)
        .map_err(|source| PullError::Config { object: id.clone(), source })?;
    let (said, has) = (manifest.layers.len(), config.diff_ids.len());
    if said != has {
        return Err(PullError::LayerCount { image: id, said, has }.into());
    }
    Ok(Found { index, document, manifest, id, config_bytes, config })
}

/// Goes down from a name to the one manifest for a platform.
fn choose(
    repository: &Repository<'_>,
    tag_or_digest: &str,
    target: &Target,
) -> Result<(Option<Document>, Document, Manifest), PullError> {
    let mut document = repository.document(tag_or_digest)?;
    let mut index = None;
    let mut said: Option<Descriptor> = None;
    for _ in 0..=INDEX_DEPTH_MAX {
        let object = document.digest.to_string();
        if let Some(said) = said.as_ref().filter(|said| said.size != document.bytes.len() as u64) {
            let found = document.bytes.len().to_string();
            let object = said.digest.to_string();
            return Err(ClientError::Different { object, what: "its size in bytes", found }.into());
        }
        // What names a document says what it is; a registry that says nothing of use leaves it to itself.
        let media_type = said.as_ref().map_or(document.media_type.as_str(), |said| said.media_type.as_str());
        let is_vague = matches!(media_type, "application/json" | "application/octet-stream" | "text/plain");
        let media_type = if is_vague && said.is_none() { "" } else { media_type };
        match Parsed::parse(&document.bytes, &object, media_type)? {
            Parsed::Manifest(manifest) => return Ok((index, document, manifest)),
            Parsed::Index(entries) => {
                let entry = fitting(entries, &variants(&document.bytes), target, &object)?;
                let next = repository.document(entry.digest.as_str())?;
                index.get_or_insert(document);
                document = next;
                said = Some(entry);
            }
        }
    }
    Err(PullError::TooDeep { object: tag_or_digest.to_owned() })
}

/// The variants of the entries of an index, in its order.
fn variants(bytes: &[u8]) -> Vec<Option<String>> {
    #[derive(Deserialize)]
    struct IndexJson {
        manifests: Vec<EntryJson>,
    }
    #[derive(Deserialize)]
    struct EntryJson {
        platform: Option<VariantJson>,
    }
    #[derive(Deserialize)]
    struct VariantJson {
        variant: Option<String>,
    }
    let index: IndexJson = serde_json::from_slice(bytes).unwrap_or(IndexJson { manifests: Vec::new() });
    index.manifests.into_iter().map(|entry| entry.platform.and_then(|platform| platform.variant)).collect()
}

/// The entry for a platform: of several variants the one that was asked for, else the one that runs on
/// most machines.
fn fitting(
    entries: Vec<Descriptor>,
    variants: &[Option<String>],
    target: &Target,
    object: &str,
) -> Result<Descriptor, PullError> {
    let variant = |at: usize| variants.get(at).and_then(Option::as_deref);
    let images: Vec<(usize, Descriptor)> =
        entries.into_iter().enumerate().filter(|(_, entry)| !entry.is_attestation()).collect();
    let rank = |at: usize| match (&target.variant, variant(at)) {
        (Some(wanted), Some(has)) if wanted == has => Some(0),
        // The usual variant of 64-bit ARM is often not written.
        (Some(wanted), None) if wanted == "v8" => Some(1),
        (Some(_), _) => None,
        (None, None) => Some(0),
        (None, Some("v8" | "v1")) => Some(1),
        (None, Some("v7")) => Some(2),
        (None, Some(_)) => Some(3),
    };
    let fits = |(at, entry): &&(usize, Descriptor)| {
        entry.platform.as_ref() == Some(&target.platform) && rank(*at).is_some()
    };
    let best = images.iter().filter(fits).min_by_key(|(at, _)| rank(*at));
    let unnamed = || images.iter().find(|(_, entry)| entry.platform.is_none());
    if let Some((_, entry)) = best.or_else(unnamed) {
        return Ok(entry.clone());
    }
    let named = images.iter().filter_map(|(at, entry)| {
        let platform = entry.platform.clone()?;
        Some(format!("`{}`", Target { platform, variant: variant(*at).map(str::to_owned) }))
    });
    let named = named.take(PLATFORMS_SHOWN_MAX).collect::<Vec<_>>().join(", ");
    let available = if named.is_empty() { "none".to_owned() } else { named };
    Err(PullError::NoPlatform { object: object.to_owned(), wanted: target.to_string(), available })
}

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// Something came that was not here before.
    pub is_new: bool,
    /// What was not made of the layers.
    pub skipped: Skipped,
}

/// Brings what was found into the store, under `names`.
///
/// # Errors
/// [`PullError`]; the store is then as it was.
pub fn fetch(
    store: &Store,
    owners: Owners,
    repository: &Repository<'_>,
    found: Found,
    names: Vec<ImageReference>,
    tell: Tell<'_>,
) -> Result<Pulled, Error> {
    let layers: Vec<(Wanted, &Descriptor)> = found
        .config
        .diff_ids
        .iter()
        .zip(&found.manifest.layers)
        .map(|(diff_id, layer)| (wanted(diff_id, layer), layer))
        .collect();
    let all: Vec<Wanted> = layers.iter().map(|(wanted, _)| wanted.clone()).collect();
    let staging = Staging::begin(store, owners, &all).map_err(PullError::Staging)?;
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for (wanted, layer) in layers {
        let step = if staging.is_missing(&wanted) { Step::Waiting } else { Step::Exists };
        if seen.insert(&layer.digest) {
            tell(Event::Layer { digest: &layer.digest, step });
        }
        if step == Step::Waiting && !missing.iter().any(|(known, _)| *known == wanted) {
            missing.push((wanted, layer));
        }
    }
    let knows_name = |name: &ImageReference| store.resolve_for(name, Some(&platform(&found.config)));
    let is_named = names.iter().all(|name| knows_name(name).is_ok_and(|image| image.id == found.id));
    let is_new = !missing.is_empty() || !is_named;
    in_parallel(&staging, repository, missing, tell)?;
    let skipped = staging.skipped();
    let image = NewImage {
        id: found.id,
        config_bytes: found.config_bytes,
        config: found.config,
        manifest: Some((found.document.digest, found.document.bytes)),
        index: found.index.map(|index| (index.digest, index.bytes)),
        layers: all,
        names,
    };
    staging.commit(vec![image]).map_err(PullError::Staging)?;
    Ok(Pulled { is_new, skipped })
}

fn platform(config: &ImageConfig) -> Platform {
    Platform { os: config.os.clone(), architecture: config.architecture.clone() }
}

fn wanted(diff_id: &Digest, layer: &Descriptor) -> Wanted {
    let blob =
        Expected { digest: layer.digest.clone(), bytes: layer.size, media_type: layer.media_type.clone() };
    Wanted { diff_id: diff_id.clone(), blob: Some(blob) }
}

/// Layers by [`PARALLEL_MAX`] threads, from the bottom up. The first that fails ends the others.
#[expect(clippy::disallowed_methods, reason = "a process that pulls never calls libcontainer")]
fn in_parallel(
    staging: &Staging<'_>,
    repository: &Repository<'_>,
    missing: Vec<(Wanted, &Descriptor)>,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let threads = missing.len().min(PARALLEL_MAX);
    let (queue, failed) = (Mutex::new(missing.into_iter()), Mutex::new(None));
    let work = || loop {
        let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let Some((wanted, layer)) = next else { return };
        if let Err(error) = one(staging, repository, &wanted, layer, tell) {
            failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
            staging.stop();
            repository.stop();
            return;
        }
    };
    if threads > 0 {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }
    let failed = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failed.map_or(Ok(()), |error| Err(PullError::Staging(error).into()))
}

fn one(
    staging: &Staging<'_>,
    repository: &Repository<'_>,
    wanted: &Wanted,
    layer: &Descriptor,
    tell: Tell<'_>,
) -> Result<(), StagingError> {
    let step = |step: Step<'_>| tell(Event::Layer { digest: &layer.digest, step });
    // Its bytes may have been kept, or its like been unpacked under another name.
    if !staging.restore(wanted)? {
        staging.layer(wanted, Download::new(repository, layer, &step))?;
    }
    step(Step::Pulled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
        let entries = entries.iter().enumerate().map(|(at, (platform, variant))| {
            let (os, architecture) = platform.split_once('/').unwrap();
            let variant = variant.map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{at:064x}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#
            )
        });
        format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.collect::<Vec<_>>().join(","))
            .into_bytes()
    }

    fn chosen(entries: &[(&str, Option<&str>)], wanted: &str) -> Result<usize, PullError> {
        let bytes = index(entries);
        let Parsed::Index(list) = Parsed::parse(&bytes, "x", "").unwrap() else { panic!("it is an index") };
        let mut words = wanted.split('/').map(str::to_owned);
        let platform = Platform { os: words.next().unwrap(), architecture: words.next().unwrap() };
        let target = Target { platform, variant: words.next() };
        let entry = fitting(list, &variants(&bytes), &target, "x")?;
        Ok(usize::from_str_radix(entry.digest.hex(), 16).unwrap())
    }

    #[test]
    fn the_platform_that_was_asked_for_is_chosen() {
        let arm = [
            ("linux/amd64", None),
            ("linux/arm", Some("v6")),
            ("linux/arm", Some("v7")),
            ("linux/arm64", Some("v8")),
        ];
        assert_eq!(chosen(&arm, "linux/amd64").unwrap(), 0);
        assert_eq!(chosen(&arm, "linux/arm").unwrap(), 2);
        assert_eq!(chosen(&arm, "linux/arm/v6").unwrap(), 1);
        assert_eq!(chosen(&arm, "linux/arm64").unwrap(), 3);
        assert_eq!(chosen(&arm[..1], "linux/amd64").unwrap(), 0);
        assert_eq!(chosen(&[("linux/arm64", None)], "linux/arm64/v8").unwrap(), 0);
        assert_eq!(chosen(&[("linux/amd64", Some("v3")), ("linux/amd64", None)], "linux/amd64").unwrap(), 1);
    }

    #[test]
    fn a_platform_that_is_not_there_is_told_with_those_that_are() {
        let error = chosen(&[("linux/arm", Some("v7")), ("windows/amd64", None)], "linux/amd64").unwrap_err();
        assert!(matches!(error, PullError::NoPlatform { .. }));
        let text = error.to_string();
        assert!(text.contains("`linux/arm/v7`, `windows/amd64`"), "{text}");
        assert!(chosen(&[("linux/arm", Some("v7"))], "linux/arm/v6").is_err());
    }
}
