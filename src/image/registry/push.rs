//! An image of the store into a registry: what the registry lacks, then the manifest as it came, so that
//! its digest stays. It does not choose the registry, and prints nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Mutex;

use ureq::http::Method;

use crate::error::{ErrorKind, Fault};
use crate::image::index::{ImageRecord, Index, LayerRecord};
use crate::image::layout::{self, descriptor};
use crate::image::manifest::{
    Descriptor, Document as Parsed, MANIFEST_BYTES_MAX, MANIFEST_TYPE, ManifestError,
};
use crate::image::registry::client::{ClientError, Repository};
use crate::image::registry::event::{Event, Step, Tell};
use crate::image::registry::http::{Answer, Payload, Request, pause};
use crate::image::registry::url::{Url, encode};
use crate::image::store::{Store, StoreError};
use crate::image::stream::digest_of;
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, open_regular, read_file};

/// Layers that go at once.
const PARALLEL_MAX: usize = 3;
/// Repositories that the registry is asked to take a layer from.
const MOUNTS_MAX: usize = 3;

/// Why an image cannot be pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry does not take it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob of the store cannot be read.
    #[error("a part of image `{image}` is not here")]
    Fs {
        /// Which image.
        image: Digest,
        /// Which file.
        #[source]
        source: FsError,
    },
    /// The manifest in the store cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest in the store was changed.
    #[error("`{object}` of image `{image}` is damaged")]
    Damaged {
        /// Which image.
        image: Digest,
        /// Which part.
        object: Digest,
    },
}

impl Fault for PushError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Client(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Fs { source, .. } => source.kind(),
            Self::Manifest(source) => source.kind(),
            Self::Damaged { .. } => ErrorKind::Corrupt,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Client(source) => source.hints(),
            Self::Store(source) => source.hints(),
            Self::Fs { .. } | Self::Damaged { .. } => {
                vec!["load or pull the image again: what is missing is put back".to_owned()]
            }
            Self::Manifest(source) => source.hints(),
        }
    }
}

/// What is sent for an image.
#[derive(Debug)]
pub struct Parcel {
    id: Digest,
    media_type: String,
    bytes: Vec<u8>,
    config: Descriptor,
    /// Each with what it is called by: the digest of its uncompressed bytes.
    layers: Vec<(Digest, Descriptor)>,
}

/// Puts together what is sent for the image `id`: its own manifest, or one made for it.
///
/// # Errors
/// [`PushError`].
pub fn pack(store: &Store, id: &Digest, record: &ImageRecord) -> Result<Parcel, PushError> {
    let gone = |source| PushError::Fs { image: id.clone(), source };
    let bytes = match &record.manifest {
        Some(digest) => {
            let bytes = read_file(&store.blob(digest), MANIFEST_BYTES_MAX).map_err(gone)?;
            if digest_of(&bytes) != *digest {
                return Err(PushError::Damaged { image: id.clone(), object: digest.clone() });
            }
            bytes
        }
        None => {
            // The same that `save` writes for it, so that both give it one digest.
            let config_bytes = store.config_bytes(id)?.len() as u64;
            let layer = |layer: &LayerRecord| descriptor(&layer.media_type, &layer.blob, layer.bytes);
            let layers: Vec<Descriptor> = record.layers.iter().map(layer).collect();
            layout::manifest(id, config_bytes, &layers)
        }
    };
    let object = record.manifest.as_ref().unwrap_or(id).to_string();
    let Parsed::Manifest(manifest) = Parsed::parse(&bytes, &object, "")? else {
        let (found, expected) = ("an index".to_owned(), "a manifest");
        return Err(ManifestError::Kind { object, found, expected }.into());
    };
    let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let media_type = said["mediaType"].as_str().unwrap_or(MANIFEST_TYPE).to_owned();
    let names = record.layers.iter().map(|layer| layer.diff_id.clone());
    let layers = names.zip(manifest.layers).collect();
    Ok(Parcel { id: id.clone(), media_type, bytes, config: manifest.config, layers })
}

/// Repositories of the same registry from which layers of `parcel` came, or where they went.
pub fn mount_sources(index: &Index, parcel: &Parcel, to: &ImageReference) -> Vec<String> {
    let ours: BTreeSet<&Digest> = parcel.layers.iter().map(|(_, layer)| &layer.digest).collect();
    let mut found: Vec<String> = Vec::new();
    for (name, ids) in index.names() {
        let shares = ids
            .iter()
            .filter_map(|id| index.images.get(id))
            .any(|record| record.layers.iter().any(|layer| ours.contains(&layer.blob)));
        let is_other = name.domain() == to.domain() && name.repository() != to.repository();
        if shares
            && is_other
            && !found.iter().any(|known| known == name.repository())
            && found.len() < MOUNTS_MAX
        {
            found.push(name.repository().to_owned());
        }
    }
    found
}

/// Sends everything the registry lacks, then gives the manifest the name `tag`. Gives the digest and the
/// size of the manifest, in bytes.
///
/// # Errors
/// [`PushError`].
#[expect(clippy::disallowed_methods, reason = "a process that pushes never calls libcontainer")]
pub fn send(
    store: &Store,
    repository: &Repository<'_>,
    parcel: &Parcel,
    mounts: &[String],
    tag: &str,
    tell: Tell<'_>,
) -> Result<(Digest, u64), PushError> {
    let mut seen = BTreeSet::new();
    let layers: Vec<_> =
        parcel.layers.iter().filter(|(_, layer)| seen.insert(layer.digest.clone())).collect();
    for (name, _) in &layers {
        tell(Event::Layer { digest: name, step: Step::Preparing });
    }
    let threads = layers.len().min(PARALLEL_MAX);
    let (queue, failed) = (Mutex::new(layers.into_iter()), Mutex::new(None));
    let work = || loop {
        let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let Some((name, layer)) = next else { return };
        let step = |step: Step<'_>| tell(Event::Layer { digest: name, step });
        let upload = Upload { store, repository, image: &parcel.id, blob: layer, mounts, tell: &step };
        if let Err(error) = upload.run() {
            failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(error);
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
    if let Some(error) = failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(error);
    }
    let config =
        Upload { store, repository, image: &parcel.id, blob: &parcel.config, mounts: &[], tell: &|_| {} };
    config.run()?;
    repository.put_document(tag, &parcel.media_type, &parcel.bytes)?;
    Ok((digest_of(&parcel.bytes), parcel.bytes.len() as u64))
}

/// One blob on its way out.
struct Upload<'a> {
    store: &'a Store,
    repository: &'a Repository<'a>,
    image: &'a Digest,
    blob: &'a Descriptor,
    mounts: &'a [String],
    tell: &'a (dyn Fn(Step<'_>) + Sync),
}

impl Upload<'_> {
    fn run(&self) -> Result<(), PushError> {
        let digest = &self.blob.digest;
        if self.repository.has_blob(digest)? {
            (self.tell)(Step::ThereAlready);
            return Ok(());
        }
        let mut session = None;
        for from in self.mounts {
            let rest = format!("blobs/uploads/?mount={}&from={}", encode(digest.as_str()), encode(from));
            // Who may not read the other repository can still upload.
            let Ok(answer) = self.begin(&rest) else { continue };
            if answer.status == 201 {
                (self.tell)(Step::Mounted(from));
                return Ok(());
            }
            session = Some(self.location(&answer)?);
        }
        let path = self.store.blob(digest);
        let file =
            open_regular(&path).map_err(|source| PushError::Fs { image: self.image.clone(), source })?;
        let mut tried = 0;
        loop {
            tried += 1;
            let sent = match session.take() {
                Some(at) => self.send(&file, at),
                None => self
                    .begin("blobs/uploads/")
                    .and_then(|answer| self.location(&answer))
                    .and_then(|at| self.send(&file, at)),
            };
            match sent {
                Ok(()) => {
                    (self.tell)(Step::Pushed);
                    return Ok(());
                }
                Err(error)
                    if error.is_passing()
                        && tried < self.repository.tries()
                        && !self.repository.is_stopped() =>
                {
                    let pause = pause(tried);
                    (self.tell)(Step::Retrying {
                        after_s: pause.as_secs().max(1),
                        reason: &error.to_string(),
                    });
                    self.repository.wait(pause);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn begin(&self, rest: &str) -> Result<Answer, ClientError> {
        let request = Request::new(Method::POST, self.repository.url(rest)?);
        Ok(self.repository.send(request, self.blob.digest.as_str())?.expect(&[201, 202])?)
    }

    fn location(&self, answer: &Answer) -> Result<Url, ClientError> {
        let location =
            answer.header("location").ok_or_else(|| self.repository.nonsense("an upload has no place"))?;
        Ok(answer.url.join(location)?)
    }

    /// The whole blob at once. When that breaks, what the registry has of it is kept and the rest is sent.
    fn send(&self, file: &File, at: Url) -> Result<(), ClientError> {
        let (digest, bytes) = (self.blob.digest.as_str(), self.blob.size);
        let progress = |done: u64| (self.tell)(Step::Uploading { done_bytes: done, bytes });
        let mut whole = Request::new(Method::PUT, at.with_query("digest", digest));
        whole = whole.header("content-type", "application/octet-stream");
        whole.payload = Payload::Part { file, from: 0, bytes, told: &progress };
        let broken = match self.repository.send(whole, digest).and_then(|answer| Ok(answer.expect(&[201])?)) {
            Ok(_) => return Ok(()),
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        let Some((at, has)) = self.progress_of(&at) else { return Err(broken) };
        let mut rest = Request::new(Method::PATCH, at);
        rest = rest.header("content-type", "application/octet-stream");
        rest = rest.header("content-range", format!("{has}-{}", bytes.saturating_sub(1)));
        rest.payload = Payload::Part { file, from: has, bytes: bytes - has, told: &progress };
        let answer = self.repository.send(rest, digest)?.expect(&[202])?;
        let end = Request::new(Method::PUT, self.location(&answer)?.with_query("digest", digest));
        self.repository.send(end, digest)?.expect(&[201])?;
        Ok(())
    }

    /// How many bytes of an upload the registry has, when it has some and tells.
    fn progress_of(&self, at: &Url) -> Option<(Url, u64)> {
        let request = Request::new(Method::GET, at.clone());
        let answer = self.repository.send(request, self.blob.digest.as_str()).ok()?.expect(&[204]).ok()?;
        let last: u64 =
            answer.header("range")?.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
        let has = last.checked_add(1).filter(|has| *has > 1 && *has < self.blob.size)?;
        let at =
            answer.header("location").map_or_else(|| Ok(at.clone()), |location| answer.url.join(location));
        Some((at.ok()?, has))
    }
}
