//! docker-archive, OCI archive and plain tar into the store. It indexes the archive once and reads
//! members by their place; what is not seekable, or compressed as a whole, is first spooled to a file
//! without a name. It fetches nothing and writes no archive.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use crate::error::{ErrorKind, Fault};
use crate::image::config::{CONFIG_BYTES_MAX, ConfigError, ImageConfig, Platform};
use crate::image::manifest::{
    Descriptor, Document, INDEX_DEPTH_MAX, INDEX_ENTRIES_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestError,
    parse_docker,
};
use crate::image::staging::{Expected, NewImage, Skipped, Staging, StagingError};
use crate::image::store::{LayerRecord, Store, StoreError};
use crate::image::stream::{Stream, digest_of};
use crate::image::tar::{Kind, Reader, Source, TarError};
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};
use crate::sys::fs::FsError;

/// Largest archive after decompression, in bytes.
const ARCHIVE_BYTES_MAX: u64 = 256 * 1024 * 1024 * 1024;
/// Most members of an archive of images: 500 layers of 100 images, three members each, is less.
const MEMBERS_MAX: usize = 262_144;
/// Bytes of all names of the members together.
const MEMBER_NAMES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Links from one member to another that are followed.
const LINKS_MAX: usize = 8;
/// Manifests and indexes that one archive may make us read.
const DOCUMENTS_MAX: usize = 2 * INDEX_ENTRIES_MAX;

/// Why an archive cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be read, or is a bomb.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive is not a tar that can be trusted.
    #[error("the archive is not a good tar archive")]
    Tar(#[source] TarError),
    /// There is no image in it.
    #[error("the archive holds no image: it has neither `manifest.json` nor `index.json`")]
    NoImage,
    /// A member that is named is not there.
    #[error("`{member}` is named but not in the archive")]
    Missing {
        /// Which member.
        member: String,
    },
    /// A member that no honest archive has.
    #[error("member `{member}` of the archive is refused: {reason}")]
    Refused {
        /// Which member.
        member: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// More than an archive may hold.
    #[error("the archive has more than {max} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: u64,
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
    /// None of several images is for this machine.
    #[error("`{object}` has no image for {host}: it has {available}")]
    NoPlatform {
        /// Which index.
        object: String,
        /// This machine.
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
            Self::Read(source) | Self::Tar(TarError::Read { source, .. }) => match source.kind() {
                io::ErrorKind::FileTooLarge => ErrorKind::Limit,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Corrupt,
            },
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Manifest(source) => source.kind(),
            Self::NoPlatform { .. } => ErrorKind::Unsupported,
            Self::Staging(source) => source.kind(),
            _ => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NoImage => {
                vec!["`cuddy import FILE NAME` makes an image of the root file system in a tar".to_owned()]
            }
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

/// Loads every image of an archive, or nothing. `file` may be a pipe.
///
/// # Errors
/// [`ArchiveError`]; the store is then as it was.
pub fn load(store: &Store, file: File, owners: Owners) -> Result<Report, ArchiveError> {
    let (file, start) = seekable(store, file)?;
    let archive = Archive::index(&file, start)?;
    let plans = archive.plans()?;
    let wanted: BTreeSet<Digest> = plans.iter().flat_map(|plan| plan.config.diff_ids.clone()).collect();
    let mut staging = Staging::begin(store, owners, &wanted).map_err(ArchiveError::Staging)?;
    for plan in &plans {
        for (layer, member) in plan.layers.iter().zip(&plan.members) {
            if staging.is_missing(&layer.diff_id) {
                let section = archive.member(member)?;
                let digest = layer.blob.clone();
                let expected = digest.map(|digest| Expected { digest, bytes: layer.bytes });
                staging.layer(&layer.diff_id, expected.as_ref(), section).map_err(ArchiveError::Staging)?;
            }
        }
    }
    let report = Report { images: plans.iter().map(Plan::loaded).collect(), skipped: staging.skipped() };
    staging.commit(plans.into_iter().map(Plan::into_image).collect()).map_err(ArchiveError::Staging)?;
    Ok(report)
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
    let mut staging = Staging::begin(store, owners, &BTreeSet::new()).map_err(ArchiveError::Staging)?;
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

/// The archive as a plain file that can be read anywhere, and where it begins.
fn seekable(store: &Store, mut file: File) -> Result<(File, u64), ArchiveError> {
    let meta = file.metadata().map_err(ArchiveError::Read)?;
    if meta.is_dir() {
        return Err(ArchiveError::Read(io::ErrorKind::IsADirectory.into()));
    }
    let mut start = 0;
    if meta.is_file() {
        start = file.stream_position().map_err(ArchiveError::Read)?;
        let section = Section { file: &file, at: start, end: meta.len() };
        if Stream::open(section, ARCHIVE_BYTES_MAX).map_err(ArchiveError::Read)?.is_plain() {
            return Ok((file, start));
        }
    }
    let dir = store.tmp();
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
    let spool = rustix::fs::open(&dir, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| StagingError::Store(StoreError::Fs(FsError::new("make a file in", dir, e))))
        .map_err(ArchiveError::Staging)?;
    let mut spool = File::from(spool);
    let copied = if meta.is_file() {
        let section = Section { file: &file, at: start, end: meta.len() };
        Stream::open(section, ARCHIVE_BYTES_MAX).and_then(|mut stream| io::copy(&mut stream, &mut spool))
    } else {
        Stream::open(file, ARCHIVE_BYTES_MAX).and_then(|mut stream| io::copy(&mut stream, &mut spool))
    };
    copied.map_err(ArchiveError::Read)?;
    Ok((spool, 0))
}

/// A part of a file.
#[derive(Debug, Clone, Copy)]
struct Section<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source for Section<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.end.saturating_sub(self.at) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += bytes;
        Ok(())
    }
}

/// What a name in the archive stands for.
#[derive(Debug)]
enum Member {
    /// Bytes, from and to.
    Data(u64, u64),
    /// Another name.
    Link(String),
}

/// An archive whose members are known.
struct Archive<'f> {
    file: &'f File,
    members: BTreeMap<String, Member>,
}

/// One image of the archive, read but for its layers.
struct Plan {
    id: Digest,
    config_bytes: Vec<u8>,
    config: ImageConfig,
    manifest: Option<(Digest, Vec<u8>)>,
    layers: Vec<LayerRecord>,
    members: Vec<String>,
    names: Vec<ImageReference>,
}

impl Plan {
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
            layers: self.layers,
            names: self.names,
        }
    }
}

impl<'f> Archive<'f> {
    fn index(file: &'f File, start: u64) -> Result<Self, ArchiveError> {
        let end = file.metadata().map_err(ArchiveError::Read)?.len();
        let mut reader = Reader::new(Section { file, at: start, end });
        let mut members = BTreeMap::new();
        let (mut seen, mut names_bytes) = (0, 0);
        while let Some(entry) = reader.next_entry().map_err(ArchiveError::Tar)? {
            seen += 1;
            names_bytes += entry.path.len() + entry.link.len();
            if seen > MEMBERS_MAX {
                return Err(ArchiveError::TooLarge { what: "members", max: MEMBERS_MAX as u64 });
            }
            if names_bytes > MEMBER_NAMES_BYTES_MAX {
                let max = MEMBER_NAMES_BYTES_MAX as u64;
                return Err(ArchiveError::TooLarge { what: "bytes of names", max });
            }
            let shown = || entry.path.escape_ascii().to_string().chars().take(200).collect::<String>();
            let refused = |reason| ArchiveError::Refused { member: shown(), reason };
            let path = std::str::from_utf8(&entry.path).map_err(|_bytes| refused("its name is not text"))?;
            let path = joined("", path).ok_or(refused("`..` leaves the archive"))?;
            let link = || std::str::from_utf8(&entry.link).ok().filter(|link| !link.is_empty());
            let member = match entry.kind {
                Kind::File if entry.size != reader.body_bytes() => return Err(refused("it is sparse")),
                Kind::File => {
                    Member::Data(start + entry.data_at, start + entry.data_at + reader.body_bytes())
                }
                Kind::Symlink => {
                    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = link().and_then(|link| joined(dir, link));
                    Member::Link(target.ok_or(refused("it links out of the archive"))?)
                }
                Kind::HardLink => {
                    let target = link().and_then(|link| joined("", link));
                    Member::Link(target.ok_or(refused("it links out of the archive"))?)
                }
                Kind::Dir => continue,
                _ => return Err(refused("it is a device or a pipe")),
            };
            let is_root = matches!(path.as_str(), "manifest.json" | "index.json" | "oci-layout");
            if members.insert(path, member).is_some() && is_root {
                return Err(refused("it is there twice"));
            }
        }
        Ok(Self { file, members })
    }

    /// The bytes of a member, through links inside the archive.
    fn member(&self, path: &str) -> Result<Section<'f>, ArchiveError> {
        let missing = || ArchiveError::Missing { member: path.chars().take(200).collect() };
        let mut name = joined("", path).ok_or_else(missing)?;
        for _ in 0..=LINKS_MAX {
            match self.members.get(&name).ok_or_else(missing)? {
                Member::Data(at, end) => return Ok(Section { file: self.file, at: *at, end: *end }),
                Member::Link(target) => name.clone_from(target),
            }
        }
        Err(ArchiveError::Refused { member: name, reason: "its links do not end" })
    }

    /// A small member as a whole.
    fn small(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut section = self.member(path)?;
        if section.end - section.at > bytes_max {
            let reason = "it is larger than such a document may be";
            return Err(ArchiveError::Refused { member: path.chars().take(200).collect(), reason });
        }
        let mut bytes = Vec::new();
        section.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        Ok(bytes)
    }

    /// A small blob that is what its descriptor says.
    fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.small(&blob_path(&descriptor.digest), bytes_max)?;
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
        let (has_oci, has_docker) =
            (self.members.contains_key("index.json"), self.members.contains_key("manifest.json"));
        if !has_oci && !has_docker {
            return Err(ArchiveError::NoImage);
        }
        if has_oci {
            self.oci_plans(&mut plans)?;
        }
        if has_docker {
            self.docker_plans(&mut plans)?;
        }
        if plans.is_empty() {
            return Err(ArchiveError::NoImage);
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
        let layout = self.small("oci-layout", MANIFEST_BYTES_MAX)?;
        let layout: serde_json::Value = serde_json::from_slice(&layout).map_err(|source| {
            ArchiveError::Manifest(ManifestError::Json { object: "oci-layout".to_owned(), source })
        })?;
        if layout["imageLayoutVersion"].as_str().is_none_or(|version| !version.starts_with("1.")) {
            let reason = "it is not the OCI image layout of version 1";
            return Err(ArchiveError::Refused { member: "oci-layout".to_owned(), reason });
        }
        let bytes = self.small("index.json", MANIFEST_BYTES_MAX)?;
        let document = Document::parse(&bytes, "index.json", "").map_err(ArchiveError::Manifest)?;
        let Document::Index(entries) = document else {
            let found = "a manifest".to_owned();
            let object = "index.json".to_owned();
            return Err(ArchiveError::Manifest(ManifestError::Kind { object, found, expected: "an index" }));
        };
        // Entries of one name are one image for several platforms.
        let mut by_name: Vec<(Option<ImageReference>, Vec<Descriptor>)> = Vec::new();
        for entry in entries.into_iter().filter(|entry| !entry.is_attestation()) {
            let name = entry.name().map_err(ArchiveError::Manifest)?;
            match by_name.iter_mut().find(|(known, _)| *known == name) {
                Some((_, entries)) => entries.push(entry),
                None => by_name.push((name, vec![entry])),
            }
        }
        let mut documents = 0;
        for (name, entries) in by_name {
            let entries = if entries.len() > 1 && entries.iter().all(|entry| entry.platform.is_some()) {
                vec![choose(entries, "index.json")?]
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

    /// Goes down from an entry of an index to the one manifest for this machine.
    fn manifest(
        &self,
        mut descriptor: Descriptor,
        documents: &mut usize,
    ) -> Result<(Digest, Vec<u8>, Manifest), ArchiveError> {
        for _ in 0..=INDEX_DEPTH_MAX {
            *documents += 1;
            if *documents > DOCUMENTS_MAX {
                return Err(ArchiveError::TooLarge { what: "manifests", max: DOCUMENTS_MAX as u64 });
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
                Document::Index(entries) => descriptor = choose(entries, &object)?,
            }
        }
        Err(ArchiveError::TooLarge { what: "indexes in indexes", max: INDEX_DEPTH_MAX as u64 })
    }

    fn oci_plan(&self, digest: Digest, bytes: Vec<u8>, manifest: Manifest) -> Result<Plan, ArchiveError> {
        let config_bytes = self.blob(&manifest.config, CONFIG_BYTES_MAX)?;
        let id = manifest.config.digest;
        let config = parse_config(&config_bytes, id.as_str())?;
        same_count(&id, manifest.layers.len(), config.diff_ids.len())?;
        let members = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
        let layers = config.diff_ids.iter().zip(manifest.layers).map(|(diff_id, layer)| LayerRecord {
            diff_id: diff_id.clone(),
            blob: Some(layer.digest),
            bytes: layer.size,
            media_type: layer.media_type,
        });
        let layers = layers.collect();
        let manifest = Some((digest, bytes));
        Ok(Plan { id, config_bytes, config, manifest, layers, members, names: Vec::new() })
    }

    fn docker_plans(&self, plans: &mut Vec<Plan>) -> Result<(), ArchiveError> {
        let bytes = self.small("manifest.json", MANIFEST_BYTES_MAX)?;
        for image in parse_docker(&bytes).map_err(ArchiveError::Manifest)? {
            let config_bytes = self.small(&image.config, CONFIG_BYTES_MAX)?;
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
                let section = self.member(member).ok();
                layers.push(LayerRecord {
                    diff_id: diff_id.clone(),
                    blob: digest_in(member).filter(|_| member.starts_with("blobs/sha256/")),
                    bytes: section.map_or(0, |section| section.end - section.at),
                    media_type: String::new(),
                });
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
fn choose(entries: Vec<Descriptor>, object: &str) -> Result<Descriptor, ArchiveError> {
    let host = Platform::host();
    let mut images: Vec<Descriptor> = entries.into_iter().filter(|entry| !entry.is_attestation()).collect();
    let at = match images.iter().position(|entry| entry.platform.as_ref() == Some(&host)) {
        None if images.len() == 1 => Some(0),
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

/// `path` as seen from `dir`, without `.` and `..`; nothing when it climbs out.
fn joined(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
