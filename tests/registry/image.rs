//! Small images, made in the test, and what is left of them in a store.

use std::path::Path;

use cuddy::image::stream::digest_of;
use serde_json::{Value, json};

use crate::harness::{Host, names};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    digest_of(bytes).to_string()
}

/// An image: everything that a registry has of it.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

/// A tar with one file.
pub(crate) fn layer(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, name, bytes).expect("the test made it so");
    tar.into_inner().expect("the test made it so")
}

/// Bytes that no packing makes smaller, the same each time.
pub(crate) fn noise(bytes: usize, mut seed: u32) -> Vec<u8> {
    let next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

impl Image {
    /// An image of these layers for linux/amd64 or what `more` says.
    pub(crate) fn new(layers: Vec<Vec<u8>>, architecture: &str) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let mut image = Self { config, layers, manifest: Vec::new() };
        image.manifest = image.with(|_| {});
        image
    }

    /// Two layers, one of them of some size.
    pub(crate) fn usual() -> Self {
        Self::new(vec![layer("hello", b"#!"), layer("big", &noise(600_000, 7))], host_architecture())
    }

    /// A manifest of it, changed.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let layers: Vec<Value> = self.layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        let config = descriptor("application/vnd.oci.image.config.v1+json", &self.config);
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        change(&mut manifest);
        manifest.to_string().into_bytes()
    }

    /// The digits of its id.
    pub(crate) fn id(&self) -> String {
        digest(&self.config)["sha256:".len()..].to_owned()
    }
}

/// Go's word for this machine.
pub(crate) fn host_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// An index of images, each with what it is for.
pub(crate) fn index(images: &[(&Image, &str)]) -> Vec<u8> {
    let entries: Vec<Value> = images
        .iter()
        .map(|(image, architecture)| {
            json!({"mediaType": MANIFEST, "digest": digest(&image.manifest), "size": image.manifest.len(),
                "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
}

/// Ids of the images of a store.
pub(crate) fn ids(host: &Host) -> Vec<String> {
    let text = host.cuddy(&["images", "-q"]).exits(0).text();
    text.lines().map(str::to_owned).collect()
}

/// Nothing came into the store, and nothing that was begun is left.
#[track_caller]
pub(crate) fn is_untouched(host: &Host) {
    assert!(ids(host).is_empty(), "an image came in");
    for folder in ["blobs/sha256", "layers", "tmp", "locks"] {
        let folder = host.data().join(folder);
        assert!(names(&folder).is_empty(), "{} holds {:?}", folder.display(), names(&folder));
    }
}

/// Every file below a folder that holds `text`.
pub(crate) fn holders(folder: &Path, text: &str) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let kind = entry.file_type().expect("the test made it so");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    found
}
