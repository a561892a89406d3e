//! What is in the store, for people and programs: lists, inspection, history, disk usage. It changes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::engine::filters::Filters;
use crate::engine::host::Host;
use crate::engine::storage::{self, ContainerUse, Uses};
use crate::error::{Error, ErrorKind};
use crate::image::config::ImageConfig;
use crate::image::index::ImageRecord;
use crate::image::store::{Store, StoreError, Summary, found};
use crate::image::when;
use crate::names::{Digest, ImageReference};

/// Folders inside folders whose sizes are added up, at most.
const DEPTH_MAX: usize = 4096;

/// One image of the list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id: the digest of its configuration.
    pub id: Digest,
    /// Its names with a tag.
    pub tags: Vec<ImageReference>,
    /// Its names with a digest.
    pub digests: Vec<ImageReference>,
    /// When it was made, in seconds since 1970.
    pub created_s: Option<i64>,
    /// Bytes of the files of its layers.
    pub bytes: u64,
}

/// One step in the making of an image.
#[derive(Debug, Clone)]
pub struct Step {
    /// The image's id at its last step; nobody knows what the others were.
    pub id: Option<Digest>,
    /// When, in seconds since 1970.
    pub created_s: Option<i64>,
    /// By which command.
    pub created_by: String,
    /// Bytes of the files of its layer.
    pub bytes: u64,
    /// A remark.
    pub comment: String,
}

/// What an image is, in Docker's form.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspection {
    id: Digest,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    docker_version: String,
    author: String,
    config: Value,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    size: u64,
    graph_driver: Value,
    #[serde(rename = "RootFS")]
    root_fs: Value,
    metadata: Value,
}

/// What one kind of thing takes of the disk.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// How many there are.
    pub total: usize,
    /// How many are in use.
    pub active: usize,
    /// Bytes.
    pub bytes: u64,
    /// Bytes of what is not in use.
    pub reclaimable_bytes: u64,
}

/// One image and what it takes of the disk.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    /// The image.
    pub image: Listed,
    /// Bytes of layers that other images have too.
    pub shared_bytes: u64,
    /// How many containers use it.
    pub containers: usize,
}

/// What takes how much of the disk.
#[derive(Debug, Default)]
pub struct DiskUsage {
    /// Images: their layers, unpacked and as they came, and what describes them.
    pub images: Usage,
    /// Containers.
    pub containers: Usage,
    /// Volumes.
    pub volumes: Usage,
    /// Each image.
    pub each_image: Vec<ImageUsage>,
    /// Each container and the bytes it wrote.
    pub each_container: Vec<(ContainerUse, u64)>,
    /// Each volume: its name, how many containers use it, its bytes.
    pub each_volume: Vec<(String, usize, u64)>,
}

/// The time, in seconds since 1970.
pub fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// The images that the filters let through, youngest first.
///
/// # Errors
/// What is wrong with the store, or an image of a filter that is not there.
pub fn list(host: &Host, filters: &Filters) -> Result<Vec<Listed>, Error> {
    let store = storage::open(host)?;
    let _stays = store.enter()?;
    let index = store.index()?;
    let moment = |name: &ImageReference| {
        let (ids, _) = found(&index, name)?;
        let id = index.choose(&ids, None);
        Ok::<_, StoreError>(id.and_then(|id| index.images.get(&id)).and_then(created_s).unwrap_or(i64::MIN))
    };
    let before = filters.before.iter().map(moment).collect::<Result<Vec<_>, _>>()?;
    let since = filters.since.iter().map(moment).collect::<Result<Vec<_>, _>>()?;
    let mut listed = Vec::new();
    for summary in store.images()? {
        let at = created_s(&summary.record).unwrap_or(i64::MIN);
        let is_meant = before.iter().all(|before| at < *before)
            && since.iter().all(|since| at > *since)
            && filters.fits_until(created_s(&summary.record))
            && filters.dangling.is_none_or(|dangling| dangling == summary.names.is_empty());
        if !is_meant || (filters.asks_for_labels() && !filters.fits_labels(&labels(&store, &summary.id)?)) {
            continue;
        }
        let mut image = listed_of(&summary);
        if !filters.references.is_empty() {
            image.tags.retain(|name| filters.fits_name(name));
            image.digests.retain(|name| filters.fits_name(name));
            if image.tags.is_empty() && image.digests.is_empty() {
                continue;
            }
        }
        listed.push(image);
    }
    listed.sort_by(|a, b| b.created_s.cmp(&a.created_s).then_with(|| a.id.cmp(&b.id)));
    Ok(listed)
}

/// The labels of an image.
///
/// # Errors
/// When its configuration is gone or changed.
pub fn labels(store: &Store, id: &Digest) -> Result<BTreeMap<String, String>, Error> {
    let bytes = store.config_bytes(id)?;
    let config = ImageConfig::parse(&bytes);
    Ok(config.map_err(|source| StoreError::Config { image: id.clone(), source })?.labels)
}

/// When an image was made, in seconds since 1970.
pub fn created_s(record: &ImageRecord) -> Option<i64> {
    record.created.as_deref().and_then(when::parse).map(|(seconds, _)| seconds)
}

fn listed_of(summary: &Summary) -> Listed {
    Listed {
        id: summary.id.clone(),
        tags: summary.tags(),
        digests: summary.digests(),
        created_s: created_s(&summary.record),
        bytes: summary.record.bytes,
    }
}

/// The image that a person named, and what is known of it.
fn named(store: &Store, text: &str) -> Result<Summary, Error> {
    let reference: ImageReference = text.parse()?;
    let image = store.resolve(&reference)?;
    let summary = store.images()?.into_iter().find(|summary| summary.id == image.id);
    Ok(summary.ok_or(StoreError::NotFound { name: reference.familiar(), similar: Vec::new() })?)
}

/// What the image called `text` is.
///
/// # Errors
/// `NotFound`, or what is wrong with the store.
pub fn inspect(host: &Host, text: &str) -> Result<Inspection, Error> {
    let store = storage::open(host)?;
    let _stays = store.enter()?;
    let summary = named(&store, text)?;
    let bytes = store.config_bytes(&summary.id)?;
    let raw: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|source| StoreError::Json { path: store.blob(&summary.id), source })?;
    let said = |name: &str| raw.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let history = raw.get("history").and_then(Value::as_array);
    let last = history.and_then(|steps| steps.last()).and_then(|step| step["comment"].as_str());
    let familiar = |names: Vec<ImageReference>| names.iter().map(ImageReference::familiar).collect();
    let diff_ids: Vec<_> = summary.record.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    Ok(Inspection {
        repo_tags: familiar(summary.tags()),
        repo_digests: familiar(summary.digests()),
        parent: String::new(),
        comment: raw.get("comment").and_then(Value::as_str).or(last).unwrap_or_default().to_owned(),
        created: said("created"),
        docker_version: said("docker_version"),
        author: said("author"),
        config: config(raw.get("config")),
        architecture: said("architecture"),
        variant: said("variant"),
        os: said("os"),
        size: summary.record.bytes,
        graph_driver: graph_driver(&store, &summary.record),
        root_fs: json!({ "Type": "layers", "Layers": diff_ids }),
        metadata: json!({ "LastTagTime": "0001-01-01T00:00:00Z" }),
        id: summary.id,
    })
}

/// What the image says to `run`, every field that Docker always prints, and those that nobody knows.
fn config(said: Option<&Value>) -> Value {
    let mut config = json!({
        "Hostname": "", "Domainname": "", "User": "",
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": null, "Cmd": null, "Image": "", "Volumes": null, "WorkingDir": "",
        "Entrypoint": null, "OnBuild": null, "Labels": null,
    });
    if let (Some(Value::Object(said)), Value::Object(config)) = (said, &mut config) {
        config.extend(said.clone());
    }
    config
}

/// Where its layers are unpacked, in the words of Docker's overlay.
fn graph_driver(store: &Store, record: &ImageRecord) -> Value {
    let folders = record.layers.iter().rev().filter_map(|layer| store.layer(&layer.diff_id));
    let mut folders = folders.map(|folder| folder.join("fs").display().to_string());
    let mut data = Map::new();
    if let Some(top) = folders.next() {
        data.insert("UpperDir".to_owned(), top.into());
    }
    let below: Vec<String> = folders.collect();
    if !below.is_empty() {
        data.insert("LowerDir".to_owned(), below.join(":").into());
    }
    json!({ "Name": "overlay", "Data": data })
}

/// How the image called `text` was made, the last step first.
///
/// # Errors
/// `NotFound`, or what is wrong with the store.
pub fn history(host: &Host, text: &str) -> Result<Vec<Step>, Error> {
    let store = storage::open(host)?;
    let _stays = store.enter()?;
    let summary = named(&store, text)?;
    let bytes = store.config_bytes(&summary.id)?;
    let config = ImageConfig::parse(&bytes)
        .map_err(|source| StoreError::Config { image: summary.id.clone(), source })?;
    let mut layers = summary.record.layers.iter();
    let mut steps = Vec::with_capacity(config.history.len());
    for step in &config.history {
        let said = |name: &str| step[name].as_str().unwrap_or_default().to_owned();
        let layer = if step["empty_layer"].as_bool().unwrap_or(false) { None } else { layers.next() };
        let folder = layer.and_then(|layer| store.layer(&layer.diff_id));
        steps.push(Step {
            id: None,
            created_s: step["created"].as_str().and_then(when::parse).map(|(seconds, _)| seconds),
            created_by: said("created_by"),
            bytes: folder
                .map(|folder| store.layer_note(&folder))
                .transpose()?
                .map_or(0, |note| note.file_bytes),
            comment: said("comment"),
        });
    }
    steps.reverse();
    if let Some(last) = steps.first_mut() {
        last.id = Some(summary.id);
    }
    Ok(steps)
}

/// What takes how much of the disk.
///
/// # Errors
/// What is wrong with the store.
pub fn disk_usage(host: &Host) -> Result<DiskUsage, Error> {
    let store = storage::open(host)?;
    let uses = storage::seen_uses(host)?;
    let mut usage = DiskUsage::default();
    images_usage(&store, &uses, &mut usage)?;
    usage.containers.total = uses.containers.len();
    usage.containers.active = uses.containers.len();
    for container in uses.containers {
        let bytes = folder_bytes(&container.folder.join("upper"));
        usage.containers.bytes += bytes;
        usage.each_container.push((container, bytes));
    }
    for entry in std::fs::read_dir(host.data.join("volumes")).into_iter().flatten().flatten() {
        let is_used = uses.volumes.contains(&entry.path());
        let bytes = folder_bytes(&entry.path().join("_data"));
        usage.volumes.total += 1;
        usage.volumes.active += usize::from(is_used);
        usage.volumes.bytes += bytes;
        usage.volumes.reclaimable_bytes += if is_used { 0 } else { bytes };
        let name = entry.file_name().to_string_lossy().into_owned();
        usage.each_volume.push((name, usize::from(is_used), bytes));
    }
    usage.each_volume.sort();
    Ok(usage)
}

fn images_usage(store: &Store, uses: &Uses, usage: &mut DiskUsage) -> Result<(), Error> {
    let mut images = store.images()?;
    images.sort_by(|a, b| created_s(&b.record).cmp(&created_s(&a.record)).then_with(|| a.id.cmp(&b.id)));
    // Each layer and each blob counts once, however many images name it.
    let (mut sizes, mut used) = (BTreeMap::new(), BTreeSet::new());
    let mut holders: BTreeMap<&Digest, usize> = BTreeMap::new();
    for Summary { id, record, .. } in &images {
        let is_used = uses.images.iter().any(|one| one.image == *id);
        let blobs = record.blobs().chain([id]).map(|digest| store.blob(digest));
        let folders = record.layers.iter().filter_map(|layer| store.layer(&layer.diff_id));
        for path in blobs.chain(folders) {
            sizes.entry(path.clone()).or_insert_with(|| store.size(&path));
            if is_used {
                used.insert(path);
            }
        }
        let own: BTreeSet<&Digest> = record.layers.iter().map(|layer| &layer.diff_id).collect();
        own.into_iter().for_each(|diff_id| *holders.entry(diff_id).or_default() += 1);
        usage.images.active += usize::from(is_used);
    }
    usage.images.total = images.len();
    usage.images.bytes = sizes.values().sum();
    let of_used: u64 = used.iter().filter_map(|path| sizes.get(path)).sum();
    usage.images.reclaimable_bytes = usage.images.bytes - of_used;
    for summary in &images {
        let own: BTreeSet<&Digest> = summary.record.layers.iter().map(|layer| &layer.diff_id).collect();
        let shared = own.into_iter().filter(|diff_id| holders.get(diff_id).is_some_and(|count| *count > 1));
        let shared = shared.filter_map(|diff_id| sizes.get(&store.layer(diff_id)?)).sum();
        usage.each_image.push(ImageUsage {
            image: listed_of(summary),
            shared_bytes: shared,
            containers: uses.images.iter().filter(|one| one.image == summary.id).count(),
        });
    }
    Ok(())
}

/// Bytes of the files below a folder; what is closed to us is not counted.
pub fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut left = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = left.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() && depth < DEPTH_MAX {
                left.push((entry.path(), depth + 1));
            } else if meta.is_file() {
                bytes = bytes.saturating_add(meta.len());
            }
        }
    }
    bytes
}

/// One document of an inspection, as a template and as JSON see it.
///
/// # Errors
/// `Bug`, when it cannot be written as JSON.
pub fn value(inspection: &Inspection) -> Result<Value, Error> {
    serde_json::to_value(inspection)
        .map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))
}
