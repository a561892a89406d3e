//! Pure: the documents of what `save` writes: manifests, `index.json` and Docker's `manifest.json` and
//! `repositories`. The same image gives the same bytes. It reads and writes no file.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::image::config::Platform;
use crate::image::manifest::{CONFIG_TYPE, Descriptor, INDEX_TYPE, MANIFEST_TYPE, NAME_CONTAINERD, NAME_OCI};
use crate::image::stream::digest_of;
use crate::names::{Digest, ImageReference};

/// `oci-layout` of image-spec 1.
pub const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A descriptor without remarks.
pub fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.clone(),
        size,
        urls: Vec::new(),
        platform: None,
        annotations: BTreeMap::new(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson<'m> {
    schema_version: u32,
    media_type: &'m str,
    config: Descriptor,
    layers: &'m [Descriptor],
}

/// The manifest of an image that came without one.
pub fn manifest(config: &Digest, config_bytes: u64, layers: &[Descriptor]) -> Vec<u8> {
    let config = descriptor(CONFIG_TYPE, config, config_bytes);
    let json = ManifestJson { schema_version: 2, media_type: MANIFEST_TYPE, config, layers };
    // No key is anything but text and no value can fail.
    serde_json::to_vec(&json).unwrap_or_default()
}

/// An image as `index.json` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its manifest.
    pub manifest: Descriptor,
    /// What it runs on.
    pub platform: Platform,
    /// Its names, those with tags.
    pub names: Vec<ImageReference>,
}

impl Entry {
    /// Its lines in `index.json`: one for each name, or one without a name.
    fn lines(&self) -> Vec<Descriptor> {
        let line = |name: Option<&ImageReference>| {
            let mut line = self.manifest.clone();
            line.platform = (!self.platform.os.is_empty()).then(|| self.platform.clone());
            if let Some((name, tag)) = name.and_then(|name| Some((name, name.tag()?))) {
                line.annotations.insert(NAME_CONTAINERD.to_owned(), name.to_string());
                line.annotations.insert(NAME_OCI.to_owned(), tag.to_owned());
            }
            line
        };
        if self.names.is_empty() {
            vec![line(None)]
        } else {
            self.names.iter().map(|n| line(Some(n))).collect()
        }
    }
}

/// `index.json` with these images beside those that `there` names already, but for lines that say the
/// same name: a name means one image.
pub fn index(entries: &[Entry], there: Option<&Value>) -> Vec<u8> {
    let new: Vec<Descriptor> = entries.iter().flat_map(Entry::lines).collect();
    let replaced = |old: &Value| {
        let said = |key: &str| old["annotations"][key].as_str();
        new.iter().any(|line| match line.annotations.get(NAME_CONTAINERD).map(String::as_str) {
            None => {
                said(NAME_CONTAINERD).or(said(NAME_OCI)).is_none() && old["digest"] == line.digest.as_str()
            }
            name if said(NAME_CONTAINERD).is_some() => said(NAME_CONTAINERD) == name,
            // Another program's line may have the tag alone, or the full name in its place.
            name => {
                let tag = line.annotations.get(NAME_OCI).map(String::as_str);
                said(NAME_OCI).is_some() && (said(NAME_OCI) == tag || said(NAME_OCI) == name)
            }
        })
    };
    let old = there.and_then(|there| there["manifests"].as_array()).into_iter().flatten();
    let mut lines: Vec<Value> = old.filter(|line| !replaced(line)).cloned().collect();
    lines.extend(new.iter().map(|line| json!(line)));
    let mut json = there.and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    json.insert("schemaVersion".to_owned(), json!(2));
    json.insert("mediaType".to_owned(), json!(INDEX_TYPE));
    json.insert("manifests".to_owned(), Value::Array(lines));
    Value::Object(json).to_string().into_bytes()
}

/// An image as Docker's `manifest.json` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerEntry {
    /// Its configuration.
    pub id: Digest,
    /// Digests of its uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// Its names, those with tags.
    pub names: Vec<ImageReference>,
}

impl DockerEntry {
    /// The digest of its topmost layer; of its configuration when it has none.
    pub fn top(&self) -> Digest {
        self.diff_ids.last().unwrap_or(&self.id).clone()
    }

    /// The same as the layout of Docker before version 25 calls it.
    pub fn legacy_top(&self) -> Digest {
        legacy_layers(&self.diff_ids).pop().map_or_else(|| self.id.clone(), |layer| layer.id)
    }
}

/// Where a blob is in a layout.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A layer as Docker before version 25 saved it: a folder of three files, called by `id`, which stands for
/// the layer and all that is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyLayer {
    /// Names its folder.
    pub id: Digest,
    /// Digest of its `layer.tar`.
    pub diff_id: Digest,
    /// Its `json`.
    pub json: Vec<u8>,
}

/// The layers of an image in the layout of Docker before version 25, bottom first.
pub fn legacy_layers(diff_ids: &[Digest]) -> Vec<LegacyLayer> {
    let mut layers: Vec<LegacyLayer> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let parent = layers.last().map(|layer| layer.id.clone());
        let id = digest_of(format!("{parent:?} {diff_id}").as_bytes());
        let mut json = json!({ "id": id.hex(), "created": "1970-01-01T00:00:00Z", "container_config": {} });
        if let Some(parent) = parent {
            json["parent"] = json!(parent.hex());
        }
        layers.push(LegacyLayer { id, diff_id: diff_id.clone(), json: json.to_string().into_bytes() });
    }
    layers
}

/// Docker's `manifest.json`.
pub fn docker_manifest(entries: &[DockerEntry]) -> Vec<u8> {
    manifest_json(entries, &blob_path, &|diff_ids| diff_ids.iter().map(blob_path).collect())
}

/// The same for the layout of Docker before version 25.
pub fn legacy_manifest(entries: &[DockerEntry]) -> Vec<u8> {
    let layers = |diff_ids: &[Digest]| {
        legacy_layers(diff_ids).iter().map(|layer| format!("{}/layer.tar", layer.id.hex())).collect()
    };
    manifest_json(entries, &|id| format!("{}.json", id.hex()), &layers)
}

fn manifest_json(
    entries: &[DockerEntry],
    config: &dyn Fn(&Digest) -> String,
    layers: &dyn Fn(&[Digest]) -> Vec<String>,
) -> Vec<u8> {
    let entry = |entry: &DockerEntry| {
        let tags: Vec<String> = entry.names.iter().map(ImageReference::familiar).collect();
        json!({
            "Config": config(&entry.id),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": layers(&entry.diff_ids),
        })
    };
    Value::Array(entries.iter().map(entry).collect()).to_string().into_bytes()
}

/// Docker's `repositories`: which topmost layer, called as `top` calls it, a tag means. Only what is older
/// than `manifest.json` reads it.
pub fn repositories(entries: &[DockerEntry], top: impl Fn(&DockerEntry) -> Digest) -> Vec<u8> {
    let mut repositories: BTreeMap<String, BTreeMap<&str, String>> = BTreeMap::new();
    for entry in entries {
        let top = top(entry);
        for name in &entry.names {
            let Some(tag) = name.tag() else { continue };
            let familiar = name.familiar();
            let repository = familiar.strip_suffix(&format!(":{tag}")).unwrap_or(&familiar);
            repositories.entry(repository.to_owned()).or_default().insert(tag, top.hex().to_owned());
        }
    }
    json!(repositories).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, names: &[&str]) -> Entry {
        let names = names.iter().map(|name| name.parse().expect("it is a name")).collect();
        let platform = Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() };
        Entry { manifest: descriptor(MANIFEST_TYPE, &digest_of(content.as_bytes()), 3), platform, names }
    }

    fn names(index: &[u8]) -> Vec<String> {
        let json: Value = serde_json::from_slice(index).expect("it is JSON");
        let name = |line: &Value| line["annotations"][NAME_CONTAINERD].as_str().unwrap_or("-").to_owned();
        json["manifests"].as_array().expect("they are a list").iter().map(name).collect()
    }

    #[test]
    fn an_image_has_a_line_for_each_name_or_one_without() {
        let index = index(&[entry("a", &["a:1", "b:2"]), entry("c", &[])], None);
        assert_eq!(names(&index), ["docker.io/library/a:1", "docker.io/library/b:2", "-"]);
    }

    #[test]
    fn adding_replaces_a_name_and_keeps_the_others_and_the_remarks() {
        let first: Value =
            serde_json::from_slice(&index(&[entry("a", &["a:1", "b:2"])], None)).expect("JSON");
        let mut there = first;
        there["annotations"] = json!({"kept": "yes"});
        there["manifests"]
            .as_array_mut()
            .expect("a list")
            .push(json!({"digest": "x", "annotations": {"other": "1"}}));
        let added = index(&[entry("new", &["a:1"]), entry("n", &[])], Some(&there));
        assert_eq!(names(&added), ["docker.io/library/b:2", "-", "docker.io/library/a:1", "-"]);
        let json: Value = serde_json::from_slice(&added).expect("it is JSON");
        assert_eq!(json["annotations"]["kept"], "yes");
        let again = index(&[entry("new", &["a:1"]), entry("n", &[])], Some(&json));
        assert_eq!(names(&again), ["docker.io/library/b:2", "-", "docker.io/library/a:1", "-"]);
    }

    #[test]
    fn a_line_of_another_program_that_has_the_tag_alone_is_replaced() {
        let there = json!({"manifests": [{"digest": "x", "annotations": {NAME_OCI: "1"}}]});
        assert_eq!(names(&index(&[entry("a", &["a:1"])], Some(&there))), ["docker.io/library/a:1"]);
    }

    #[test]
    fn docker_finds_its_names_and_layers() {
        let names = ["a:1", "example.com/b/c:2"].map(|name| name.parse().expect("it is a name"));
        let (id, layer) = (digest_of(b"config"), digest_of(b"layer"));
        let entry = DockerEntry { id, diff_ids: vec![layer.clone()], names: names.into() };
        let json: Value =
            serde_json::from_slice(&repositories(std::slice::from_ref(&entry), DockerEntry::top))
                .expect("JSON");
        assert_eq!(json, json!({"a": {"1": layer.hex()}, "example.com/b/c": {"2": layer.hex()}}));
        let json: Value = serde_json::from_slice(&docker_manifest(&[entry])).expect("JSON");
        assert_eq!(json[0]["RepoTags"], json!(["a:1", "example.com/b/c:2"]));
        assert_eq!(json[0]["Layers"][0], blob_path(&layer));
    }

    #[test]
    fn a_folder_of_the_older_layout_stands_for_its_layer_and_those_below() {
        let (one, two) = (digest_of(b"one"), digest_of(b"two"));
        let both = legacy_layers(&[one.clone(), two.clone()]);
        assert_eq!(legacy_layers(std::slice::from_ref(&one)), both[..1]);
        assert_ne!(legacy_layers(std::slice::from_ref(&two))[0].id, both[1].id);
        let json: Value = serde_json::from_slice(&both[1].json).expect("JSON");
        assert_eq!(json["parent"], both[0].id.hex());
        let entry = DockerEntry { id: digest_of(b"config"), diff_ids: vec![one, two], names: Vec::new() };
        assert_eq!(entry.legacy_top(), both[1].id);
        let json: Value = serde_json::from_slice(&legacy_manifest(&[entry])).expect("JSON");
        assert_eq!(json[0]["Layers"][1], format!("{}/layer.tar", both[1].id.hex()));
    }
}
