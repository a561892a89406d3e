//! Pure: what `images.json` says: which images there are, what they are made of, and which name means
//! which. It reads no file, and it takes nothing away: that is `image::removal`.
//!
//! A name means one image for each platform. A name with a digest (`repository@sha256:…`) stands beside
//! the names with tags, as in Docker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::config::Platform;
use crate::image::stream::digest_of;
use crate::names::{Digest, ImageReference};

/// What this program writes and reads: 2 since the blobs of layers are kept.
pub const VERSION: u32 = 2;
/// Fewest digits of an id that stand for it.
const SHORT_ID_DIGITS_MIN: usize = 4;
/// Names that are offered when one is not found.
const SIMILAR_MAX: usize = 3;

/// A layer of an image, as its manifest had it: what the next manifest can say of it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    /// Digest of the layer as it came, compressed or not: its bytes are kept.
    pub blob: Digest,
    /// Size of the layer as it came, in bytes.
    pub bytes: u64,
    /// What its manifest called it, or would call it.
    pub media_type: String,
}

/// What `images.json` says of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its manifest, when it came with one.
    pub manifest: Option<Digest>,
    /// The index that its manifest was chosen from, when the store keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerRecord>,
    /// When it was made, as it was written (RFC 3339).
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// Bytes of the files of its layers.
    pub bytes: u64,
}

impl ImageRecord {
    /// The blobs it is made of, its configuration apart.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let documents = [self.manifest.as_ref(), self.index.as_ref()].into_iter().flatten();
        documents.chain(self.layers.iter().map(|layer| &layer.blob))
    }

    /// The digests of its layers as a stack (image-spec, "Layer ChainID"), bottom first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            chain.push(match chain.last() {
                None => layer.diff_id.clone(),
                Some(below) => digest_of(format!("{below} {}", layer.diff_id).as_bytes()),
            });
        }
        chain
    }
}

/// `images.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`VERSION`].
    pub version: u32,
    /// Images by the digest of their configuration.
    pub images: BTreeMap<Digest, ImageRecord>,
    /// Which images a name means: one for each platform.
    names: BTreeMap<String, Vec<Digest>>,
}

/// What a person may have meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// These: several when a name means one image for each of several platforms.
    Images {
        /// Their ids, at least one.
        ids: Vec<Digest>,
        /// What was typed is their id or a beginning of it, and no name.
        by_id: bool,
    },
    /// Several images have ids that begin with these digits.
    Ambiguous(String),
    /// None, but there are names that look like it.
    Nothing(Vec<ImageReference>),
}

impl Index {
    /// Of no image.
    pub fn empty() -> Self {
        Self { version: VERSION, ..Self::default() }
    }

    /// Gives the image `id` one more name. What it meant before for the same platform it means no more.
    pub fn give(&mut self, name: &ImageReference, id: &Digest) {
        let platform = self.images.get(id).map(|record| record.platform.clone());
        let platform_of = |id: &Digest| self.images.get(id).map(|record| &record.platform);
        let mut ids = self.names.get(&name.to_string()).cloned().unwrap_or_default();
        ids.retain(|known| known != id && platform_of(known).is_some_and(|p| Some(p) != platform.as_ref()));
        ids.push(id.clone());
        self.names.insert(name.to_string(), ids);
    }

    /// Lets `name` mean exactly these images.
    pub fn point(&mut self, name: &ImageReference, ids: Vec<Digest>) {
        self.names.insert(name.to_string(), ids);
    }

    /// Takes the name from the image `id`; whether it had it.
    pub fn take(&mut self, name: &ImageReference, id: &Digest) -> bool {
        let Some(ids) = self.names.get_mut(&name.to_string()) else { return false };
        let before = ids.len();
        ids.retain(|known| known != id);
        let had = ids.len() < before;
        if ids.is_empty() {
            self.names.remove(&name.to_string());
        }
        had
    }

    /// Every name and the images it means, in the order of the names.
    pub fn names(&self) -> impl Iterator<Item = (ImageReference, &[Digest])> {
        // What does not parse was written by nobody; it names nothing.
        self.names.iter().filter_map(|(name, ids)| Some((name.parse().ok()?, ids.as_slice())))
    }

    /// The names of the image `id`, in order.
    pub fn names_of(&self, id: &Digest) -> Vec<ImageReference> {
        self.names().filter(|(_, ids)| ids.contains(id)).map(|(name, _)| name).collect()
    }

    /// The names that [`Index::names_of`] gives, of all images at once.
    pub fn names_by_image(&self) -> BTreeMap<&Digest, Vec<ImageReference>> {
        let mut by_image: BTreeMap<&Digest, Vec<ImageReference>> = BTreeMap::new();
        for (name, ids) in self.names() {
            for id in ids {
                by_image.entry(id).or_default().push(name.clone());
            }
        }
        by_image
    }

    /// The images a person means: by name, by digest, or by the id or the first 4 or more digits of it.
    pub fn find(&self, reference: &ImageReference) -> Meant {
        let there = |ids: &[Digest]| {
            ids.iter().filter(|id| self.images.contains_key(id)).cloned().collect::<Vec<_>>()
        };
        let named = self.names.get(&reference.to_string()).map(|ids| there(ids)).unwrap_or_default();
        if !named.is_empty() {
            return Meant::Images { ids: named, by_id: false };
        }
        if let Some(digest) = reference.digest() {
            let has = |(id, record): &(&Digest, &ImageRecord)| {
                *id == digest
                    || record.manifest.as_ref() == Some(digest)
                    || record.index.as_ref() == Some(digest)
            };
            let ids: Vec<Digest> = self.images.iter().filter(has).map(|(id, _)| id.clone()).collect();
            if !ids.is_empty() {
                return Meant::Images { ids, by_id: false };
            }
        }
        if let Some(prefix) = id_prefix(reference) {
            let mut with = self.images.keys().filter(|id| id.hex().starts_with(prefix));
            match (with.next(), with.next()) {
                (Some(id), None) => return Meant::Images { ids: vec![id.clone()], by_id: true },
                (Some(_), Some(_)) => return Meant::Ambiguous(prefix.to_owned()),
                _ => {}
            }
        }
        let similar = self.names().map(|(name, _)| name).filter(|name| is_similar(name, reference));
        Meant::Nothing(similar.take(SIMILAR_MAX).collect())
    }

    /// The one of `ids` that is made for `wanted`, else for this machine, else the last that came.
    pub fn choose(&self, ids: &[Digest], wanted: Option<&Platform>) -> Option<Digest> {
        let host = Platform::host();
        let is_for = |id: &&Digest, platform: &Platform| {
            self.images.get(*id).is_some_and(|record| record.platform == *platform)
        };
        let find = |platform: &Platform| ids.iter().find(|id| is_for(id, platform));
        wanted.and_then(find).or_else(|| find(&host)).or_else(|| ids.last()).cloned()
    }
}

/// The digits, when the reference can also be read as an id or the beginning of one.
fn id_prefix(reference: &ImageReference) -> Option<&str> {
    let name =
        reference.repository().strip_prefix("library/").filter(|_| reference.domain() == "docker.io")?;
    let text = match (name, reference.tag()) {
        ("sha256", Some(tag)) => tag,
        (name, Some("latest")) => name,
        _ => return None,
    };
    let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_hex && (SHORT_ID_DIGITS_MIN..=64).contains(&text.len())).then_some(text)
}

/// Whether a person who wrote one name may have meant the other.
fn is_similar(name: &ImageReference, asked: &ImageReference) -> bool {
    let last =
        |reference: &ImageReference| reference.repository().rsplit('/').next().unwrap_or_default().to_owned();
    let (name, asked) = (last(name), last(asked));
    let near = if asked.len() > 4 { 2 } else { 1 };
    name == asked || distance(name.as_bytes(), asked.as_bytes()) <= near
}

/// How many letters must change to make one word of the other (Levenshtein).
fn distance(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let change = above_left + usize::from(a != b);
            above_left = row[j + 1];
            row[j + 1] = change.min(above_left + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
