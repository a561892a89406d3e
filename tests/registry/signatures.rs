//! A policy file asks for signatures: those that openssl makes the way cosign does are accepted, and nothing
//! else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Shelf, impatient};
use crate::harness::{Ended, Host, require};
use crate::image::{INDEX, Image, MANIFEST, digest, host_architecture, ids, index, is_untouched};

/// A pair of keys, as `cosign generate-key-pair` makes one.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Option<Self> {
        let keys = Self { dir: tempfile::tempdir().expect("a folder for temporary files") };
        if !require("openssl", Command::new("openssl").arg("version").output().is_ok()) {
            return None;
        }
        keys.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]);
        keys.openssl(&["ec", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
        Some(keys)
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments).current_dir(self.dir.path()).output();
        let output = output.expect("openssl is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn public(&self) -> PathBuf {
        self.dir.path().join("key.pub")
    }

    fn sign(&self, payload: &[u8]) -> String {
        fs::write(self.dir.path().join("payload"), payload).expect("the folder is ours");
        STANDARD.encode(self.openssl(&["dgst", "-sha256", "-sign", "key.pem", "payload"]))
    }
}

fn payload(repository: &str, digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": {"docker-reference": repository},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    });
    json!({"critical": critical, "optional": null}).to_string().into_bytes()
}

/// The manifest of signatures as cosign writes it.
fn signed(shelf: Shelf, of: &str, signatures: &[(Vec<u8>, String)]) -> Shelf {
    let layers: Vec<Value> = signatures
        .iter()
        .map(|(payload, signature)| {
            json!({"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": digest(payload),
                "size": payload.len(), "annotations": {"dev.cosignproject.cosign/signature": signature}})
        })
        .collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": {}, "layers": layers}).to_string();
    let shelf = signatures.iter().fold(shelf, |shelf, (payload, _)| shelf.blob(payload));
    shelf.document(&format!("{}.sig", of.replace(':', "-")), MANIFEST, manifest.as_bytes())
}

/// A host that wants everything of `it` signed by one of these keys.
fn strict(keys: &[&Path]) -> Host {
    let host = impatient();
    let policy = json!({"version": 1, "default": {"cosign_keys": keys}});
    host.write("config/cuddy/policy.json", policy.to_string());
    host
}

fn pull(host: &Host, registry: &Fake) -> Ended {
    host.cuddy(&["pull", &registry.it("")])
}

#[test]
fn an_image_that_is_signed_by_a_key_of_the_policy_is_taken() {
    let (Some(keys), Some(others)) = (Keys::new(), Keys::new()) else { return };
    let image = Image::usual();
    let list = index(&[(&image, host_architecture())]);
    for (shelf, top) in [
        (Shelf::of(&image), digest(&image.manifest)),
        (Shelf::default().image(&image).document("latest", INDEX, &list), digest(&list)),
    ] {
        let registry = Fake::good(shelf.clone());
        let good = payload(&registry.it(""), &top);
        let of_another = (good.clone(), others.sign(&good));
        let signature = keys.sign(&good);
        registry.fill(signed(shelf, &top, &[of_another, (good, signature)]));
        let host = strict(&[&keys.public()]);
        pull(&host, &registry).exits(0);
        assert!(!ids(&host).is_empty());
    }
}

#[test]
fn an_image_without_a_good_signature_is_not_taken() {
    let (Some(keys), Some(others)) = (Keys::new(), Keys::new()) else { return };
    let image = Image::usual();
    let top = digest(&image.manifest);
    let registry = Fake::good(Shelf::of(&image));
    let it = registry.it("");
    let good = payload(&it, &top);
    let (elsewhere, another) = (payload("registry.example/other", &top), payload(&it, &digest(b"x")));
    let kind = String::from_utf8(good.clone()).unwrap().replace("cosign container", "other").into_bytes();
    let changed = [&good[..], b" "].concat();
    for (what, signatures) in [
        ("another key", vec![(good.clone(), others.sign(&good))]),
        ("another repository", vec![(elsewhere.clone(), keys.sign(&elsewhere))]),
        ("another image", vec![(another.clone(), keys.sign(&another))]),
        ("another kind", vec![(kind.clone(), keys.sign(&kind))]),
        ("another text", vec![(changed, keys.sign(&good))]),
        ("no signature", vec![(good.clone(), String::new())]),
        ("nonsense", vec![(good.clone(), "!!".to_owned())]),
    ] {
        registry.fill(signed(Shelf::of(&image), &top, &signatures));
        let host = strict(&[&keys.public()]);
        let ended = pull(&host, &registry).exits(1);
        assert!(ended.stderr.contains("must be signed"), "{what}: {}", ended.stderr);
        is_untouched(&host);
    }
    registry.fill(Shelf::of(&image));
    let host = strict(&[&keys.public()]);
    let ended = pull(&host, &registry).exits(1);
    assert!(ended.stderr.contains("has no signature"), "{}", ended.stderr);
    is_untouched(&host);
}

#[test]
fn a_policy_fails_closed() {
    let Some(keys) = Keys::new() else { return };
    let image = Image::usual();
    let broken =
        Fake::new(Shelf::of(&image), |asked| asked.path.ends_with(".sig").then(|| Reply::status(500, "")));
    let nonsense =
        Fake::new(Shelf::of(&image), |asked| asked.path.ends_with(".sig").then(|| Reply::status(200, "{}")));
    for registry in [&broken, &nonsense] {
        let host = strict(&[&keys.public()]);
        pull(&host, registry).exits(1);
        is_untouched(&host);
    }
    let registry = Fake::good(Shelf::of(&image));
    let none = strict(&[Path::new("/nonexistent/key.pub")]);
    let ended = pull(&none, &registry).exits(1);
    assert!(ended.stderr.contains("/nonexistent/key.pub"), "{}", ended.stderr);
    is_untouched(&none);
    for (policy, words) in [
        ("{", "policy.json"),
        (r#"{"version": 1, "default": "accept", "scope": {}}"#, "policy.json"),
        (r#"{"version": 1, "default": "reject"}"#, "the policy rejects"),
    ] {
        let host = impatient();
        host.write("config/cuddy/policy.json", policy);
        let ended = pull(&host, &registry).exits(1);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        is_untouched(&host);
        host.cuddy(&["run", "--rm", &registry.it("")]).exits(125);
    }
    let host = impatient();
    let policy = json!({"version": 1, "default": "reject", "scopes": {registry.name.clone(): "accept"}});
    host.write("config/cuddy/policy.json", policy.to_string());
    pull(&host, &registry).exits(0);
}

#[test]
fn a_rule_holds_however_the_registry_is_spelt() {
    let registry = Fake::good(Shelf::of(&Image::usual()));
    let port = registry.name.rsplit(':').next().expect("it has a port");
    for (scope, name) in [
        (format!("localhost:{port}"), format!("LOCALHOST:{port}/it")),
        (format!("LocalHost:{port}/it"), format!("localhost:{port}/it")),
        (format!("127.0.0.1:{port}"), format!("127.0.0.1:00{port}/it")),
    ] {
        let host = impatient();
        let policy = json!({"version": 1, "default": "accept", "scopes": {scope: "reject"}});
        host.write("config/cuddy/policy.json", policy.to_string());
        let ended = host.cuddy(&["pull", &name]).exits(1);
        assert!(ended.stderr.contains("the policy rejects"), "{name}: {}", ended.stderr);
        is_untouched(&host);
    }
}
