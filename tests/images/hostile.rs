//! Every hostile archive we know: refused with the object named, nothing promoted, a canary unchanged.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;

use cuddy::error::{Error, ErrorKind};
use cuddy::image::archive::import;
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;
use cuddy::names::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Oci, Place, Tar, config, docker_archive, gzip, plain, text,
    two_layers,
};

/// Layers that must be refused as a whole.
fn hostile_layers(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let tar = Tar::default;
    let deep: String = "d/".repeat(300);
    let sparse = |pieces: &[u8], size: &[u8]| {
        tar().pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", pieces)]).file("x", "abc").end()
    };
    vec![
        ("a name that climbs", tar().file("../evil", "x").end()),
        ("a name that climbs later", tar().dir("a/").file("a/../../evil", "x").end()),
        ("a climbing pax name", tar().pax(&[("path", b"../../evil")]).file("x", "x").end()),
        ("a write through a link out", tar().symlink("l", outside).file("l/evil", "x").end()),
        (
            "a write through a climbing link",
            tar().symlink("l", "../../../../outside").file("l/evil", "x").end(),
        ),
        ("a whiteout through a link out", tar().symlink("l", outside).file("l/.wh.canary", "").end()),
        ("an opaque mark through a link out", tar().symlink("l", outside).file("l/.wh..wh..opq", "").end()),
        ("a folder under a link out", tar().symlink("l", outside).dir("l/evil/").end()),
        ("a write through a file", tar().file("f", "").file("f/evil", "x").end()),
        ("a hard link out", tar().hard_link("h", "../../../../outside/canary").end()),
        ("a hard link to an absolute path", tar().hard_link("h", &format!("{outside}/canary")).end()),
        ("a hard link through a link", tar().symlink("l", outside).hard_link("h", "l/canary").end()),
        ("a hard link to a folder", tar().dir("d/").hard_link("h", "d").end()),
        ("a hard link to a lower layer", tar().hard_link("h", "bin/su").end()),
        ("a hard link to a whiteout", tar().file(".wh.x", "").hard_link("h", "x").end()),
        ("a hard link to itself", tar().hard_link("h", "h").end()),
        ("a root that is a link", tar().symlink(".", outside).end()),
        ("a root that is a link with a slash", tar().symlink("./", outside).file("evil", "x").end()),
        ("a root that is a file", tar().file("/", "x").end()),
        ("a whiteout of the parent", tar().file(".wh...", "").end()),
        ("a whiteout of the folder", tar().file("d/.wh..", "").end()),
        ("a whiteout of nothing", tar().file(".wh.", "").end()),
        ("a file in a whiteout", tar().file(".wh.x/evil", "").end()),
        ("a NUL in a name", tar().pax(&[("path", b"a\0b")]).file("x", "").end()),
        ("a name of 5000 bytes", tar().pax(&[("path", "a/".repeat(2500).as_bytes())]).file("x", "").end()),
        ("a part of 300 bytes", tar().pax(&[("path", "a".repeat(300).as_bytes())]).file("x", "").end()),
        ("300 folders deep", tar().pax(&[("path", format!("{deep}f").as_bytes())]).file("x", "").end()),
        ("no name", tar().pax(&[("path", b"")]).file("x", "").end()),
        ("an unknown kind", tar().header(b"x", b'Z', 0, |_| {}).end()),
        ("a link with a body", tar().header(b"x", b'2', 3, |_| {}).raw(b"abc").end()),
        ("a folder with a body", tar().header(b"x/", b'5', 512, |_| {}).file("evil", "").end()),
        ("two extended headers", tar().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("x", "").end()),
        ("two names", tar().pax(&[("path", b"a"), ("path", b"b")]).file("x", "").end()),
        ("a global path", tar().header(b"g", b'g', 9, |_| {}).raw(b"9 path=a\n").file("x", "").end()),
        ("a pax size that is not one", tar().pax(&[("size", b"0x10")]).file("x", "").end()),
        ("a pax size that overflows", tar().pax(&[("size", b"18446744073709551615")]).file("x", "").end()),
        ("a huge sparse file", sparse(b"0,3", b"9223372036854775807")),
        ("sparse pieces that overlap", sparse(b"0,2,1,1", b"100")),
        ("sparse pieces outside", sparse(b"98,3", b"100")),
        ("sparse pieces that are not there", sparse(b"0,50", b"100")),
        ("a wrong checksum", {
            let mut layer = tar().file("x", "y").end();
            layer[0] = b'z';
            layer
        }),
        ("a lone block of zeros", tar().raw(&[0; 512]).file("x", "y").end()),
        ("an owner that is -1", tar().pax(&[("uid", b"4294967295")]).file("x", "").end()),
        ("an owner beyond 32 bits", tar().pax(&[("gid", b"4294967296")]).file("x", "").end()),
        ("a header that is cut off", tar().file("x", "y").file("z", "").0[..1200].to_vec()),
        ("a body that is cut off", tar().file("x", vec![7; 4000]).0[..2000].to_vec()),
    ]
}

#[test]
fn hostile_layers_are_refused_and_leave_nothing() {
    let place = Place::new();
    place.load(&docker_archive(&two_layers(), plain, "before")).unwrap();
    let outside = place.dir.path().join("outside").display().to_string();
    for (what, layer) in hostile_layers(&outside) {
        // A good layer before it must not stay either.
        let good = Tar::default().file("good", what).end();
        let error = place.refuses(what, &docker_archive(&[good, layer.clone()], plain, "evil"));
        assert!(
            matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Limit | ErrorKind::Failed),
            "{what}: {error:?}"
        );
        assert!(error.to_string().contains(digest_of(&layer).as_str()), "{what} names no layer: {error}");
        let before = place.listing();
        let result = import(&place.store, place.file(&layer), &"evil".parse().unwrap(), Owners::Record);
        assert!(result.is_err(), "{what}");
        assert_eq!(place.listing(), before, "{what}");
    }
}

#[test]
fn an_absolute_name_lands_inside_and_devices_and_whiteout_devices_are_not_made() {
    let place = Place::new();
    let device = |tar: Tar, name: &[u8], kind| {
        tar.header(name, kind, 0, |header| {
            header.set_device_major(0).unwrap();
            header.set_device_minor(0).unwrap();
        })
    };
    let target = format!("{}/made", place.dir.path().join("outside").display());
    let layer = Tar::default().file("//etc/x", "x").pax(&[("path", target.as_bytes())]).file("x", "inside");
    let layer = layer.header(b"pipe", b'6', 0, |_| {});
    let layer = device(device(layer, b"fake-whiteout", b'3'), b"disk", b'4').end();
    let report = place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    assert_eq!(report.skipped.devices, 2);
    let root = &place.image("a").layers[0];
    assert_eq!(text(root.join("etc/x")), "x");
    assert_eq!(text(root.join(target.trim_start_matches('/'))), "inside");
    assert!(!place.dir.path().join("outside/made").exists());
    assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(root.join("fake-whiteout")).is_err());
}

#[test]
fn bombs_are_stopped_early() {
    let place = Place::new();
    let mut bomb = Tar::default().header(b"zeros", b'0', 300 << 20, |_| {}).0;
    bomb.resize(bomb.len() + (300 << 20), 0);
    bomb.resize(bomb.len() + 1024, 0);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&bomb).unwrap();
    let (packed, digest) = (packed.finish().unwrap(), digest_of(&bomb));
    drop(bomb);
    let config = json!({"rootfs": {"type": "layers", "diff_ids": [digest]}}).to_string();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a"], "Layers": ["l"]}]).to_string();
    let archive =
        Tar::default().file("c.json", config).file("l", packed).file("manifest.json", manifest).end();
    let error = place.refuses("300 MiB of zeros", &archive);
    assert_eq!(error.kind, ErrorKind::Limit, "{error:?}");
    assert!(error.to_string().contains("200 times"), "{error}");
    // The header of a frame whose window is 2 GiB: magic, no single segment, window byte.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let result = import(&place.store, place.file(&window), &"a".parse().unwrap(), Owners::Record);
    let error = Error::from(result.unwrap_err());
    assert!(error.to_string().contains("too much memory"), "{error}");
}

/// Changes one thing of a good OCI archive.
fn oci_with(change: impl FnOnce(&mut Oci, &mut Value)) -> Vec<u8> {
    let layers = [Tar::default().file("x", "unique to these").end()];
    let mut oci = Oci::default();
    let config = oci.blob("application/vnd.oci.image.config.v1+json", config(&layers));
    let layer = oci.blob(OCI_LAYER, layers[0].clone());
    let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    change(&mut oci, &mut manifest);
    let entry = oci.json(OCI_MANIFEST, &manifest);
    oci.archive(&[entry], Tar::default())
}

#[test]
fn blobs_that_are_not_what_was_said_are_refused_by_name() {
    let place = Place::new();
    let hex = |value: &Value| value["digest"].as_str().unwrap()["sha256:".len()..].to_owned();
    let config_of = |manifest: &Value| hex(&manifest["config"]);
    let layer_of = |manifest: &Value| hex(&manifest["layers"][0]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a layer of other bytes",
            oci_with(|oci, m| {
                oci.blobs.get_mut(&layer_of(m)).unwrap()[0] ^= 1;
            }),
        ),
        (
            "a config of other bytes",
            oci_with(|oci, m| {
                oci.blobs.get_mut(&config_of(m)).unwrap()[5] ^= 1;
            }),
        ),
        ("a layer of another size", oci_with(|_, m| m["layers"][0]["size"] = json!(1))),
        ("a config of another size", oci_with(|_, m| m["config"]["size"] = json!(1))),
        (
            "a layer with another diff id",
            oci_with(|oci, m| {
                m["layers"][0] = oci.blob(OCI_LAYER, Tar::default().file("x", "other").end());
            }),
        ),
        (
            "a layer that is missing",
            oci_with(|oci, m| {
                oci.blobs.remove(&layer_of(m));
            }),
        ),
        (
            "a layer too many",
            oci_with(|_, m| {
                let layer = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().push(layer);
            }),
        ),
        ("a digest that is a path", oci_with(|_, m| m["layers"][0]["digest"] = json!("sha256:../../x"))),
        (
            "a digest in capitals",
            oci_with(|_, m| {
                m["layers"][0]["digest"] = json!(m["layers"][0]["digest"].as_str().unwrap().to_uppercase());
            }),
        ),
        (
            "a digest of another kind",
            oci_with(|_, m| {
                m["config"]["digest"] = json!(format!("sha512:{}", "0".repeat(128)));
            }),
        ),
        ("a negative size", oci_with(|_, m| m["layers"][0]["size"] = json!(-1))),
        ("a layer from elsewhere", oci_with(|_, m| m["layers"][0]["urls"] = json!(["http://evil/"]))),
        ("a layer of unknown type", oci_with(|_, m| m["layers"][0]["mediaType"] = json!("text/html"))),
        ("a config of unknown type", oci_with(|_, m| m["config"]["mediaType"] = json!("text/html"))),
        ("a manifest that is also an index", oci_with(|_, m| m["manifests"] = json!([]))),
        ("a manifest that says it is an index", oci_with(|_, m| m["mediaType"] = json!(OCI_INDEX))),
        ("a manifest of version 1", oci_with(|_, m| m["schemaVersion"] = json!(1))),
    ];
    for (what, archive) in cases {
        place.refuses(what, &archive);
    }
    let other: Digest = digest_of(b"other");
    let name = format!("{}.json", other.hex());
    let manifest = json!([{"Config": name, "RepoTags": ["a"], "Layers": []}]).to_string();
    let archive = Tar::default().file(&name, config(&[])).file("manifest.json", manifest).end();
    let error = place.refuses("a config under another digest", &archive);
    assert!(error.to_string().contains(other.as_str()), "{error}");
}

#[test]
fn archives_that_lead_in_circles_or_astray_are_refused() {
    let place = Place::new();
    let mut oci = Oci::default();
    let mut entry = oci.image(&two_layers(), plain);
    for _ in 0..6 {
        entry = oci.json(OCI_INDEX, &json!({"schemaVersion": 2, "manifests": [entry]}));
    }
    place.refuses("indexes in indexes", &oci.archive(&[entry.clone()], Tar::default()));
    entry["mediaType"] = json!("");
    place.refuses("a descriptor of no type", &oci.archive(&[entry], Tar::default()));

    let config = json!({"rootfs": {"type": "layers", "diff_ids": [digest_of(b"x")]}}).to_string();
    let docker = |layer: &str, more: Tar| {
        let manifest = json!([{"Config": "c", "RepoTags": ["a"], "Layers": [layer]}]).to_string();
        more.file("c", &config).file("manifest.json", manifest).end()
    };
    let tar = Tar::default;
    let cases = [
        ("links in a circle", docker("a", tar().symlink("a", "b").symlink("b", "a"))),
        ("a link out of the archive", docker("a", tar().symlink("a", "../../../etc/passwd"))),
        ("a member that climbs", docker("a", tar().file("../a", "x"))),
        ("a layer that climbs", docker("../../../../etc/passwd", tar())),
        ("a layer of the host", docker("/etc/passwd", tar())),
        ("a device as layer", docker("a", tar().header(b"a", b'3', 0, |_| {}))),
        ("a pipe as layer", docker("a", tar().header(b"a", b'6', 0, |_| {}))),
        ("two lists of images", docker("a", tar().file("manifest.json", "[]"))),
        ("a large list of images", tar().file("manifest.json", vec![b' '; 5 << 20]).end()),
        (
            "a large config",
            tar().file("manifest.json", r#"[{"Config":"c"}]"#).file("c", vec![b' '; 5 << 20]).end(),
        ),
        ("nested JSON", tar().file("manifest.json", "[".repeat(100_000)).end()),
        ("no image", tar().file("x", "").end()),
        ("an empty list of images", tar().file("manifest.json", "[]").end()),
        ("no bytes", Vec::new()),
        ("text", b"hello, this is no archive at all\n".repeat(100)),
        ("an empty gzip", gzip(b"")),
    ];
    for (what, archive) in cases {
        let error = place.refuses(what, &archive);
        assert!(!error.chain.is_empty(), "{what}");
    }
    let bad_name = docker_archive(&two_layers(), plain, "../evil");
    assert!(place.refuses("a name that is a path", &bad_name).to_string().contains("`../evil`"));
}

#[test]
fn an_archive_cut_off_anywhere_is_refused() {
    let place = Place::new();
    let archive = docker_archive(&two_layers(), gzip, "a");
    let packed = gzip(&archive);
    // The last two blocks are the mark for the end, which tells nothing about the images.
    let needed = archive.len() - 1024 - 512;
    for cut in (0..needed).step_by(397) {
        place.refuses("a cut archive", &archive[..cut]);
    }
    for cut in (0..packed.len()).step_by(97) {
        place.refuses("a cut gzip", &packed[..cut]);
    }
    let layer = two_layers().remove(0);
    for cut in (0..layer.len() - 1024).step_by(512) {
        let before = place.listing();
        let cut = import(&place.store, place.file(&layer[..cut]), &"a".parse().unwrap(), Owners::Record);
        assert!(cut.is_err());
        assert_eq!(place.listing(), before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // The canary and the host are outside the store: whatever is changed in a good archive, loading
    // either works or leaves the store as it was, and never touches what is outside.
    #[test]
    fn a_mutated_archive_never_panics_and_never_reaches_outside(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        fix in any::<bool>(),
    ) {
        let place = Place::new();
        let mut layer = Tar::default().symlink("l", "../../../../outside").file("l2", "x").dir("d/");
        layer = layer.hard_link("h", "l2").pax(&[("path", b"d/p"), ("mtime", b"1.5")]).file("q", "abc");
        let mut layer = layer.file(".wh.z", "").header(b"s", b'S', 0, |_| {}).end();
        for (index, byte) in &changes {
            let at = index.index(layer.len());
            layer[at] = *byte;
        }
        if fix {
            // Headers whose checksum is right let the mutation reach the code behind it.
            for block in layer.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
                block[148..156].copy_from_slice(b"        ");
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let before = place.listing();
        let outside = |list: &[String]| -> Vec<String> {
            list.iter().filter(|line| !line.contains("/store")).cloned().collect()
        };
        match place.load(&docker_archive(&[layer], plain, "a")) {
            Err(_) => prop_assert_eq!(place.listing(), before),
            Ok(_) => prop_assert_eq!(outside(&place.listing()), outside(&before)),
        }
    }
}
