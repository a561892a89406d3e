//! docker-archive, OCI archive and plain tar into the store. It fetches nothing and writes no archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::error::{ErrorKind, Fault};
use crate::image::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig, Platform};
use crate::image::manifest::{
    Descriptor, Document, INDEX_DEPTH_MAX, INDEX_ENTRIES_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestError,
    parse_docker,
};
use crate::image::members::{Decompress, Input, Members, MembersError, Section, seekable};
use crate::image::staging::{Expected, NewImage, Skipped, Staging, StagingError, Wanted};
use crate::image::store::Store;
use crate::image::stream::digest_of;
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};

/// Tags that an error offers.
const TAGS_SHOWN_MAX: usize = 20;
/// Most layers that are unpacked at once: each may take some 10 MiB of memory.
const THREADS_MAX: usize = 4;
/// Manifests and indexes that one archive may make us read.
const DOCUMENTS_MAX: usize = 2 * INDEX_ENTRIES_MAX;

/// Why an archive cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive itself cannot be read.
    #[error(transparent)]
    Members(MembersError),
    /// There is no image in it.
    #[error("the archive holds no image: it has neither `manifest.json` nor `index.json`")]
    NoImage,
    /// It is what Docker wrote before version 1.10.
    #[error("the archive is of the form that Docker wrote before version 1.10: it has no `manifest.json`")]
    TooOld,
    /// There is no image of that tag in it.
    #[error("the layout has no image tagged `{tag}`: it has {available}")]
    NoTag {
        /// What was asked for.
        tag: String,
        /// What there is.
        available: String,
    },
    /// A manifest or an index cannot be used.
    #[error(transparent)]
    Manifest(ManifestError),
    /// A configuration cannot be used.
    #[error("configuration `{object}` cannot be used")]
    Config {
        /// Which member or digest.
        object: String,
        /// Why.
        #[source]
        source: ConfigError,
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
    /// Indexes that name too many others, or that lie too deep in each other.
    #[error(
        "the archive has more than {DOCUMENTS_MAX} manifests, or more than {INDEX_DEPTH_MAX} indexes in each other"
    )]
    TooManyDocuments,
    /// None of several images is for this machine.
    #[error("`{object}` has no image for {host}: it has {available}")]
    NoPlatform {
        /// Which index.
        object: String,
        /// What was asked for, or this machine.
        host: Platform,
        /// What there is.
        available: String,
    },
    /// One name for two images.
    #[error("the archive gives the name `{name}` to two images")]
    TwoImages {
        /// Which name.
        name: String,
    },
    /// It cannot come into the store.
    #[error(transparent)]
    Staging(StagingError),
}

impl Fault for ArchiveError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Members(source) => source.kind(),
            Self::TooManyDocuments => ErrorKind::Limit,
            Self::Manifest(source) => source.kind(),
            Self::NoPlatform { .. } | Self::TooOld => ErrorKind::Unsupported,
            Self::NoTag { .. } => ErrorKind::NotFound,
            Self::Staging(source) => source.kind(),
            _ => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoImage => {
                vec!["`cuddy import FILE NAME` makes an image of the root file system in a tar".to_owned()]
            }
            Self::TooOld => vec!["have it saved again by a Docker that is not as old".to_owned()],
            Self::Manifest(source) => source.hints(),
            Self::Staging(source) => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// One image that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The digest of its configuration.
    pub id: Digest,
    /// The names it was given; none when the archive had none for it.
    pub names: Vec<ImageReference>,
    /// What it is made for, when this machine is something else.
    pub foreign_platform: Option<Platform>,
}

/// What a load or an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The images, in the order of the archive.
    pub images: Vec<Loaded>,
    /// What was not made of the layers that were unpacked.
    pub skipped: Skipped,
}

/// What is to be loaded.
pub struct Request<'r> {
    /// Where it is.
    pub input: Input,
    /// The one image of an OCI layout that is wanted, by its tag or name; nothing for all.
    pub tag: Option<&'r str>,
    /// Of several platforms this one, and no other; nothing for that of this machine where it is there.
    pub platform: Option<Platform>,
    /// What decompresses an archive that takes a program of the host.
    pub decompress: Decompress<'r>,
}

/// Loads every image of an archive, or nothing, without any program of the host. `file` may be a pipe.
///
/// # Errors
/// [`ArchiveError`]; the store is then as it was.
pub fn load(store: &Store, file: File, owners: Owners) -> Result<Report, ArchiveError> {
    let decompress: Decompress<'_> = &|_, _| Err(io::ErrorKind::Unsupported.into());
    load_from(store, Request { input: Input::File(file), tag: None, platform: None, decompress }, owners)
}

/// Loads every image, or the one that is wanted, or nothing.
///
/// # Errors
/// [`ArchiveError`]; the store is then as it was.
pub fn load_from(store: &Store, request: Request<'_>, owners: Owners) -> Result<Report, ArchiveError> {
    let Request { input, tag, platform, decompress } = request;
    if let Input::Folder(folder) = input {
        return load_members(store, Archive { members: Members::Folder(&folder), tag, platform }, owners);
    }
    let (file, start) = seekable(&store.tmp(), input, decompress).map_err(ArchiveError::Members)?;
    let members = Members::index(&file, start).map_err(ArchiveError::Members)?;
    load_members(store, Archive { members, tag, platform }, owners)
}

fn load_members(store: &Store, archive: Archive<'_>, owners: Owners) -> Result<Report, ArchiveError> {
    let plans = archive.plans()?;
    let wanted: Vec<Wanted> = plans.iter().flat_map(|plan| plan.layers.clone()).collect();
    let staging = Staging::begin(store, owners, &wanted).map_err(ArchiveError::Staging)?;
    let mut missing: Vec<(&Wanted, Section<'_>)> = Vec::new();
    for (layer, member) in plans.iter().flat_map(|plan| plan.layers.iter().zip(&plan.members)) {
        if staging.is_missing(layer) && missing.iter().all(|(other, _)| *other != layer) {
            missing.push((layer, archive.members.find(member).map_err(ArchiveError::Members)?));
        }
    }
    give(&staging, missing)?;
    let report = Report { images: plans.iter().map(Plan::loaded).collect(), skipped: staging.skipped() };
    staging.commit(plans.into_iter().map(Plan::into_image).collect()).map_err(ArchiveError::Staging)?;
    Ok(report)
}

/// Gives the layers to the staging, several at once, the largest first so that none is left alone at
/// the end. The first error ends the others too.
fn give(staging: &Staging<'_>, mut layers: Vec<(&Wanted, Section<'_>)>) -> Result<(), ArchiveError> {
    layers.sort_by_key(|(_, section)| section.left());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(layers.len()).min(THREADS_MAX);
    let (left, failed) = (Mutex::new(layers), Mutex::new(None));
    // Each layer is one step of either list, so whoever panicked left them whole.
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some((layer, section)) = next() {
            if let Err(error) = staging.layer(layer, section) {
                staging.stop();
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "who loads an archive never calls libcontainer")]
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |error| Err(ArchiveError::Staging(error)))
}

/// Makes an image of one layer, called `name`, of the root file system in a tar. `file` may be a pipe.
///
/// # Errors
/// [`ArchiveError`]; the store is then as it was.
pub fn import(
    store: &Store,
    file: File,
    name: &ImageReference,
    owners: Owners,
) -> Result<Report, ArchiveError> {
    let staging = Staging::begin(store, owners, &[]).map_err(ArchiveError::Staging)?;
    let layer = staging.new_layer(&name.familiar(), file).map_err(ArchiveError::Staging)?;
    let platform = Platform::host();
    let created = now();
    let json = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": created,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id] },
        "history": [{ "created": created, "comment": "imported from a tar" }],
    });
    let config_bytes = json.to_string().into_bytes();
    let id = digest_of(&config_bytes);
    let config = ImageConfig::parse(&config_bytes)
        .map_err(|source| ArchiveError::Config { object: id.to_string(), source })?;
    let plan = Plan {
        id,
        config_bytes,
        config,
        manifest: None,
        layers: vec![layer],
        members: Vec::new(),
        names: vec![name.clone()],
    };
    let report = Report { images: vec![plan.loaded()], skipped: staging.skipped() };
    staging.commit(vec![plan.into_image()]).map_err(ArchiveError::Staging)?;
    Ok(report)
}

/// The time as RFC 3339 has it, in UTC, to the second.
fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (mut days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", days + 1)
}

/// An archive whose members are known.
struct Archive<'f> {
    members: Members<'f>,
    /// The one image of an OCI layout that is wanted.
    tag: Option<&'f str>,
    /// The platform that was asked for.
    platform: Option<Platform>,
}

/// One image of the archive, read but for its layers.
struct Plan {
    id: Digest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
    manifest: Option<(Digest, Vec<u8>)>,
    layers: Vec<Wanted>,
    members: Vec<String>,
    names: Vec<ImageReference>,
}

impl Plan {
    /// Refuses an image for another platform than the one that was asked for.
    fn require(&self, wanted: Option<&Platform>) -> Result<(), ArchiveError> {
        let (os, architecture) = (self.config.os.clone(), self.config.architecture.clone());
        let has = Platform { os, architecture };
        match wanted {
            Some(wanted) if *wanted != has => Err(ArchiveError::NoPlatform {
                object: self.id.to_string(),
                host: wanted.clone(),
                available: format!("`{has}`"),
            }),
            _ => Ok(()),
        }
    }

    /// Takes a manifest away that `docker save` made itself: no registry has ever seen one whose layers
    /// are not compressed, and what is known of the image in the store is worth more.
    fn forget_made_manifest(&mut self) {
        let is_plain = |layer: &Wanted| layer.blob.as_ref().is_some_and(|blob| blob.digest == layer.diff_id);
        if self.manifest.is_some() && self.layers.iter().all(is_plain) {
            self.manifest = None;
            self.layers.iter_mut().for_each(|layer| layer.blob = None);
        }
    }

    fn loaded(&self) -> Loaded {
        Loaded {
            id: self.id.clone(),
            names: self.names.clone(),
            foreign_platform: self.config.foreign_platform(),
        }
    }

    fn into_image(self) -> NewImage {
        NewImage {
            id: self.id,
            config_bytes: self.config_bytes,
            config: self.config,
            manifest: self.manifest,
            index: None,
            layers: self.layers,
            names: self.names,
        }
    }
}

impl Archive<'_> {
    /// A small blob that is what its descriptor says.
    fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let bytes =
            self.members.small(&blob_path(&descriptor.digest), bytes_max).map_err(ArchiveError::Members)?;
        let different = |what, found: String| {
            let object = descriptor.digest.clone();
            Err(ArchiveError::Staging(StagingError::Different { object, what, found }))
        };
        if bytes.len() as u64 != descriptor.size {
            return different("its size in bytes", bytes.len().to_string());
        }
        match digest_of(&bytes) {
            found if found != descriptor.digest => different("its digest", found.to_string()),
            _ => Ok(bytes),
        }
    }

    /// Every image of the archive. Where it is both an OCI layout and a docker archive, the two must
    /// agree on what a name means.
    fn plans(&self) -> Result<Vec<Plan>, ArchiveError> {
        let mut plans: Vec<Plan> = Vec::new();
        let (has_oci, has_docker) = (self.members.has("index.json"), self.members.has("manifest.json"));
        if !has_oci && !has_docker {
            let is_old = self.members.has("repositories");
            return Err(if is_old { ArchiveError::TooOld } else { ArchiveError::NoImage });
        }
        if has_oci {
            self.oci_plans(&mut plans)?;
        }
        // A tag is a word of OCI layouts: what else lies there is not meant.
        if has_docker && (self.tag.is_none() || !has_oci) {
            self.docker_plans(&mut plans)?;
            plans.iter_mut().for_each(Plan::forget_made_manifest);
        }
        if plans.is_empty() {
            return Err(ArchiveError::NoImage);
        }
        for plan in &plans {
            plan.require(self.platform.as_ref())?;
        }
        let mut meant: BTreeMap<String, &Digest> = BTreeMap::new();
        for plan in &plans {
            for name in &plan.names {
                if meant.insert(name.to_string(), &plan.id).is_some_and(|other| *other != plan.id) {
                    return Err(ArchiveError::TwoImages { name: name.familiar() });
                }
            }
        }
        Ok(plans)
    }

    fn oci_plans(&self, plans: &mut Vec<Plan>) -> Result<(), ArchiveError> {
        let layout = self.members.small("oci-layout", MANIFEST_BYTES_MAX).map_err(ArchiveError::Members)?;
        let layout: serde_json::Value = serde_json::from_slice(&layout).map_err(|source| {
            ArchiveError::Manifest(ManifestError::Json { object: "oci-layout".to_owned(), source })
        })?;
        if layout["imageLayoutVersion"].as_str().is_none_or(|version| !version.starts_with("1.")) {
            let reason = "it is not the OCI image layout of version 1";
            return Err(ArchiveError::Members(MembersError::Refused {
                member: "oci-layout".to_owned(),
                reason,
            }));
        }
        let bytes = self.members.small("index.json", MANIFEST_BYTES_MAX).map_err(ArchiveError::Members)?;
        let document = Document::parse(&bytes, "index.json", "").map_err(ArchiveError::Manifest)?;
        let Document::Index(entries) = document else {
            let found = "a manifest".to_owned();
            let object = "index.json".to_owned();
            return Err(ArchiveError::Manifest(ManifestError::Kind { object, found, expected: "an index" }));
        };
        // Entries of one name are one image for several platforms.
        let mut by_name: Vec<(Option<ImageReference>, Vec<Descriptor>)> = Vec::new();
        for entry in self.meant(entries)? {
            let name = entry.name().map_err(ArchiveError::Manifest)?;
            match by_name.iter_mut().find(|(known, _)| *known == name) {
                Some((_, entries)) => entries.push(entry),
                None => by_name.push((name, vec![entry])),
            }
        }
        let mut documents = 0;
        for (name, entries) in by_name {
            let entries = if entries.len() > 1 && entries.iter().all(|entry| entry.platform.is_some()) {
                vec![choose(entries, "index.json", self.platform.as_ref())?]
            } else {
                entries
            };
            for entry in entries {
                let (digest, bytes, manifest) = self.manifest(entry, &mut documents)?;
                add(plans, self.oci_plan(digest, bytes, manifest)?, name.clone());
            }
        }
        Ok(())
    }

    /// The entries of `index.json` that are images, and have the tag that is wanted.
    fn meant(&self, mut entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, ArchiveError> {
        entries.retain(|entry| !entry.is_attestation());
        let Some(tag) = self.tag else { return Ok(entries) };
        let mut tags: Vec<String> = entries.iter().flat_map(Descriptor::tags).collect();
        entries.retain(|entry| entry.tags().iter().any(|known| known == tag));
        if entries.is_empty() {
            tags.truncate(TAGS_SHOWN_MAX);
            return Err(ArchiveError::NoTag { tag: tag.to_owned(), available: tags.join(", ") });
        }
        Ok(entries)
    }

    /// Goes down from an entry of an index to the one manifest for this machine.
    fn manifest(
        &self,
        mut descriptor: Descriptor,
        documents: &mut usize,
    ) -> Result<(Digest, Vec<u8>, Manifest), ArchiveError> {
        for _ in 0..=INDEX_DEPTH_MAX {
            *documents += 1;
            if *documents > DOCUMENTS_MAX {
                return Err(ArchiveError::TooManyDocuments);
            }
            let bytes = self.blob(&descriptor, MANIFEST_BYTES_MAX)?;
            let object = descriptor.digest.to_string();
            if descriptor.media_type.is_empty() {
                return Err(ArchiveError::Manifest(ManifestError::Kind {
                    object,
                    found: "of no media type".to_owned(),
                    expected: "a manifest or an index",
                }));
            }
            let document = Document::parse(&bytes, &object, &descriptor.media_type);
            match document.map_err(ArchiveError::Manifest)? {
                Document::Manifest(manifest) => return Ok((descriptor.digest, bytes, manifest)),
                Document::Index(entries) => descriptor = choose(entries, &object, self.platform.as_ref())?,
            }
        }
        Err(ArchiveError::TooManyDocuments)
    }

    fn oci_plan(&self, digest: Digest, bytes: Vec<u8>, manifest: Manifest) -> Result<Plan, ArchiveError> {
        let config_bytes = self.blob(&manifest.config, CONFIG_BYTES_MAX)?;
        let id = manifest.config.digest;
        let config = parse_config(&config_bytes, id.as_str())?;
        same_count(&id, manifest.layers.len(), config.diff_ids.len())?;
        let members = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        let layers = config.diff_ids.iter().zip(manifest.layers).map(|(diff_id, layer)| {
            let blob = Expected { digest: layer.digest, bytes: layer.size, media_type: layer.media_type };
            Wanted { diff_id: diff_id.clone(), blob: Some(blob) }
        });
        let layers = layers.collect();
        let manifest = Some((digest, bytes));
        Ok(Plan { id, config_bytes, config, manifest, layers, members, names: Vec::new() })
    }

    fn docker_plans(&self, plans: &mut Vec<Plan>) -> Result<(), ArchiveError> {
        let bytes = self.members.small("manifest.json", MANIFEST_BYTES_MAX).map_err(ArchiveError::Members)?;
        for image in parse_docker(&bytes).map_err(ArchiveError::Manifest)? {
            let config_bytes =
                self.members.small(&image.config, CONFIG_BYTES_MAX).map_err(ArchiveError::Members)?;
            let id = digest_of(&config_bytes);
            // Docker calls the file by its digest: then it must be that.
            if let Some(said) = digest_in(&image.config).filter(|said| *said != id) {
                let (what, found) = ("its digest", id.to_string());
                return Err(ArchiveError::Staging(StagingError::Different { object: said, what, found }));
            }
            let config = parse_config(&config_bytes, &image.config)?;
            same_count(&id, image.layers.len(), config.diff_ids.len())?;
            let mut layers = Vec::with_capacity(image.layers.len());
            for (diff_id, member) in config.diff_ids.iter().zip(&image.layers) {
                let section = self.members.find(member).ok();
                let bytes = section.map_or(0, |section| section.left());
                let digest = digest_in(member).filter(|_| member.starts_with("blobs/sha256/"));
                let blob = digest.map(|digest| Expected { digest, bytes, media_type: String::new() });
                layers.push(Wanted { diff_id: diff_id.clone(), blob });
            }
            let members = image.layers;
            let plan = Plan { id, config_bytes, config, manifest: None, layers, members, names: Vec::new() };
            add(plans, plan, image.names);
        }
        Ok(())
    }
}

/// Adds an image, or only its names when it is there already.
fn add(plans: &mut Vec<Plan>, plan: Plan, names: impl IntoIterator<Item = ImageReference>) {
    let at = plans.iter().position(|known| known.id == plan.id).unwrap_or_else(|| {
        plans.push(plan);
        plans.len() - 1
    });
    for name in names {
        if !plans[at].names.contains(&name) {
            plans[at].names.push(name);
        }
    }
}

/// The image for this machine among several; the only one, whatever it is for.
fn choose(
    entries: Vec<Descriptor>,
    object: &str,
    wanted: Option<&Platform>,
) -> Result<Descriptor, ArchiveError> {
    let host = wanted.cloned().unwrap_or_else(Platform::host);
    let mut images: Vec<Descriptor> = entries.into_iter().filter(|entry| !entry.is_attestation()).collect();
    let at = match images.iter().position(|entry| entry.platform.as_ref() == Some(&host)) {
        None if images.len() == 1 && wanted.is_none() => Some(0),
        found => found.or_else(|| images.iter().position(|entry| entry.platform.is_none())),
    };
    match at {
        Some(at) => Ok(images.swap_remove(at)),
        None => {
            let available = images.iter().filter_map(|entry| entry.platform.as_ref()).take(20);
            let available = available.map(|platform| format!("`{platform}`")).collect::<Vec<_>>().join(", ");
            let available = if available.is_empty() { "none".to_owned() } else { available };
            Err(ArchiveError::NoPlatform { object: object.to_owned(), host, available })
        }
    }
}

fn parse_config(bytes: &[u8], object: &str) -> Result<ImageConfig, ArchiveError> {
    let object = || object.chars().take(200).collect();
    ImageConfig::parse(bytes).map_err(|source| ArchiveError::Config { object: object(), source })
}

fn same_count(image: &Digest, said: usize, has: usize) -> Result<(), ArchiveError> {
    if said == has { Ok(()) } else { Err(ArchiveError::LayerCount { image: image.clone(), said, has }) }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest that the last part of a name is, with or without an ending.
fn digest_in(path: &str) -> Option<Digest> {
    let last = path.rsplit('/').next().unwrap_or_default();
    let stem = last.split('.').next().unwrap_or_default();
    format!("sha256:{stem}").parse().ok()
}
