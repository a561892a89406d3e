//! Images made in code: layers, configurations, and the archives that hold them.
//!
//! The smallest image that does something holds the probe and nothing else.

use std::fs;
use std::io::Write;

use cuddy::image::stream::digest_of;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::harness::{Host, PROBE};
use crate::judge;

/// A packing: none, gzip, zstd.
pub(crate) type Pack = fn(&[u8]) -> Vec<u8>;

pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes bytes");
    encoder.finish().expect("memory takes bytes")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory takes bytes")
}

/// A tar in the making; names go in as they are, so that hostile ones can.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// The probe at its place, and nothing else.
    pub(crate) fn probe() -> Self {
        let program = fs::read(judge::program()).expect("it was built");
        Self::new().entry(&PROBE[1..], EntryType::Regular, 0o755, 0, &program, "")
    }

    pub(crate) fn entry(
        mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        owner: u64,
        bytes: &[u8],
        link: &str,
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, bytes).expect("memory takes bytes");
        self
    }

    pub(crate) fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.entry(name, EntryType::Regular, 0o644, 0, text.as_ref(), "")
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(name, EntryType::Directory, 0o755, 0, b"", "")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, 0o777, 0, b"", target)
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes bytes")
    }
}

/// Layers, bottom first, and what the image says.
pub(crate) struct Image {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Value,
    /// Fields of the configuration besides `config`, and instead of what stands there.
    pub(crate) more: Value,
}

impl Image {
    /// Layers of which the first holds the probe, run by the entrypoint unless `config` says otherwise.
    pub(crate) fn new(layers: Vec<Layer>, config: Value) -> Self {
        Self { layers: layers.into_iter().map(Layer::end).collect(), config, more: json!({}) }
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| digest_of(layer)).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let mut config = json!({
            "architecture": architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        for (name, value) in self.more.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        config.to_string().into_bytes()
    }

    /// The image's id in hexadecimal.
    pub(crate) fn id(&self) -> String {
        digest_of(&self.config()).hex().to_owned()
    }

    /// As `docker save` wrote it for years.
    pub(crate) fn docker(&self, name: &str, pack: Pack) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("{}.json", digest_of(&config).hex());
        let mut archive = Layer::new().file(&config_name, &config);
        let mut members = Vec::new();
        for (i, layer) in self.layers.iter().enumerate() {
            members.push(format!("{i}/layer.tar"));
            archive = archive.dir(&format!("{i}/")).file(&format!("{i}/layer.tar"), pack(layer));
        }
        let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": members}]);
        archive.file("manifest.json", manifest.to_string()).end()
    }

    /// An OCI layout in a tar.
    pub(crate) fn oci(&self, name: &str, pack: Pack) -> Vec<u8> {
        let mut blobs = Vec::new();
        let mut blob = |media_type: &str, bytes: Vec<u8>| {
            let digest = digest_of(&bytes);
            let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
            blobs.push((digest.hex().to_owned(), bytes));
            descriptor
        };
        let config = blob("application/vnd.oci.image.config.v1+json", self.config());
        let media_type = match pack(b"")[..] {
            [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
            [0x28, 0xb5, ..] => "application/vnd.oci.image.layer.v1.tar+zstd",
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        let layers: Vec<_> = self.layers.iter().map(|layer| blob(media_type, pack(layer))).collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.into_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        let mut archive = Layer::new().file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        archive = archive.file("index.json", index.to_string());
        for (hex, bytes) in &blobs {
            archive = archive.file(&format!("blobs/sha256/{hex}"), bytes);
        }
        archive.end()
    }
}

/// Loads an image under a name; the host is ready to run it.
#[track_caller]
pub(crate) fn load(host: &Host, name: &str, image: &Image) {
    host.write("image.tar", image.docker(name, plain));
    host.cuddy(&["load", "-i", "image.tar"]).exits(0);
}
