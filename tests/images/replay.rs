//! What came from outside once and was wrong, and many changes of it: the parsers never panic, and what they
//! accept means one thing.

use std::fs;

use cuddy::image::archive::import;
use cuddy::image::config::ImageConfig;
use cuddy::image::manifest::{Document, parse_docker};
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;
use cuddy::names::ImageReference;
use serde_json::{Value, json};

use crate::images::mutations::{Chance, corpus, mutated, mutated_text};
use crate::{OCI_MANIFEST, Oci, Place, Tar, config, docker_archive, plain, two_layers};

#[test]
fn layers_of_the_corpus_and_their_mutations_touch_nothing_outside() {
    let place = Place::new();
    let mut chance = Chance(0x001a_7e55);
    let (mut good, mut bad) = (0, 0);
    let outside = |place: &Place| {
        let list = place.listing();
        list.into_iter().filter(|line| !line.contains("/store/")).collect::<Vec<_>>()
    };
    let before = outside(&place);
    for (name, layer) in corpus("layers") {
        for number in 0..40 {
            let layer = if number == 0 { layer.clone() } else { mutated(&layer, &mut chance) };
            match import(&place.store, place.file(&layer), &"a".parse().unwrap(), Owners::Record) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
            let left = fs::read_dir(place.dir.path().join("store/tmp")).unwrap().count();
            assert_eq!(left, 0, "{name}, mutation {number}");
        }
        assert_eq!(outside(&place), before, "{name}");
    }
    assert!(good > 50 && bad > 50, "{good} good, {bad} bad: this tests too little");
}

#[test]
fn documents_of_the_corpus_and_their_mutations_are_understood_or_refused() {
    let mut chance = Chance(0x00d0_c5ee);
    let (mut good, mut bad) = (0, 0);
    let mut count = |is_good: bool| if is_good { good += 1 } else { bad += 1 };
    for (name, text) in corpus("manifests") {
        for number in 0..1500 {
            let text = if number == 0 { text.clone() } else { mutated_text(&text, &mut chance) };
            for media_type in ["", OCI_MANIFEST] {
                let Ok(document) = Document::parse(&text, &name, media_type) else { continue };
                let descriptors = match &document {
                    Document::Manifest(manifest) => {
                        manifest.layers.iter().chain([&manifest.config]).collect()
                    }
                    Document::Index(entries) => entries.iter().collect::<Vec<_>>(),
                };
                // Whatever is accepted is a name of a file that nothing leads out of.
                assert!(descriptors.iter().all(|descriptor| descriptor.digest.hex().len() == 64));
                let json: Value = serde_json::from_slice(&text).unwrap();
                let is_index = matches!(document, Document::Index(_));
                assert!(!is_index || json.get("layers").is_none_or(Value::is_null), "{json}");
            }
            count(Document::parse(&text, &name, "").is_ok());
            if let Ok(images) = parse_docker(&text) {
                assert!(
                    images
                        .iter()
                        .flat_map(|image| &image.names)
                        .all(|name| !name.repository().contains(".."))
                );
            }
            if let Ok(config) = ImageConfig::parse(&text) {
                assert!(config.diff_ids.iter().all(|diff_id| diff_id.hex().len() == 64));
            }
        }
    }
    assert!(good > 200 && bad > 500, "{good} good, {bad} bad: this tests too little");
}

#[test]
fn references_of_the_corpus_and_their_mutations_mean_what_they_print() {
    let mut chance = Chance(0x00f0_0d5e);
    let text = include_str!("corpus/references.txt");
    let (mut good, mut bad) = (0, 0);
    for line in text.lines() {
        for number in 0..2000 {
            let text = if number == 0 {
                line.as_bytes().to_vec()
            } else {
                mutated_text(line.as_bytes(), &mut chance)
            };
            let Ok(text) = String::from_utf8(text) else { continue };
            let Ok(reference) = text.parse::<ImageReference>() else {
                bad += 1;
                continue;
            };
            good += 1;
            assert_eq!(reference.to_string().parse::<ImageReference>().as_ref(), Ok(&reference), "{text}");
            assert_eq!(reference.familiar().parse::<ImageReference>().as_ref(), Ok(&reference), "{text}");
            let parts = reference.repository().split('/');
            assert!(
                parts.into_iter().all(|part| !part.is_empty() && !part.starts_with(['.', '-'])),
                "{text}"
            );
        }
    }
    assert!(good > 5000 && bad > 5000, "{good} good, {bad} bad: this tests too little");
}

#[test]
fn indexes_of_archives_that_are_mutated_leave_the_store_as_it_was() {
    let place = Place::new();
    let mut chance = Chance(0x0a2c_4e1f);
    let layers = two_layers();
    let mut oci = Oci::default();
    let mut entry = oci.image(&layers, plain);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "a:1"});
    let archives = [oci.archive(&[entry], Tar::default()), docker_archive(&layers, plain, "a:1")];
    let id = digest_of(&config(&layers));
    let (mut good, mut bad) = (0, 0);
    for archive in archives {
        let before = place.listing();
        for number in 0..150 {
            // JSON and headers of the archive, not the layers.
            let bytes = if number % 2 == 0 {
                mutated(&archive, &mut chance)
            } else {
                changed_json(&archive, &mut chance)
            };
            match place.load(&bytes) {
                // What loads is the image that was there before the change, under whatever name.
                Ok(report) => {
                    good += 1;
                    assert!(report.images.iter().all(|image| image.id == id));
                    fs::remove_dir_all(place.dir.path().join("store")).unwrap();
                    cuddy::image::store::Store::open(&place.dir.path().join("store")).unwrap();
                }
                Err(_) => {
                    bad += 1;
                    assert_eq!(place.listing(), before, "mutation {number}");
                }
            }
        }
    }
    assert!(good > 10 && bad > 10, "{good} good, {bad} bad: this tests too little");
}

/// Changes one byte of a JSON document in the archive.
fn changed_json(archive: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = archive.to_vec();
    let starts: Vec<_> = bytes
        .chunks(512)
        .enumerate()
        .filter(|(_, block)| block.starts_with(b"{\"") || block.starts_with(b"[{"))
        .map(|(number, _)| number * 512)
        .collect();
    let at = starts[chance.next(starts.len())] + chance.next(300);
    let new = b"\"{}[],:0123456789abcdef./"[chance.next(25)];
    if bytes[at] != 0 {
        bytes[at] = new;
    }
    bytes
}
