//! Every hostile archive we know: refused with the object named, nothing promoted, a canary unchanged.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use cuddy::error::{Error, ErrorKind};
use cuddy::image::archive::import;
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;
use cuddy::names::Digest;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Oci, Place, Tar, config, docker_archive, gzip, plain, text,
    two_layers, zstd,
};

/// Layers that must be refused as a whole.
fn hostile_layers(outside: &str) -> Vec<(&'static str, Vec<u8>)> {
    let tar = Tar::default;
    let deep: String = "d/".repeat(300);
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
    ]
}

/// Layers that are no archive, or not the same one to every reader.
fn unclear_layers() -> Vec<(&'static str, Vec<u8>)> {
    let tar = Tar::default;
    let sparse = |pieces: &[u8], size: &[u8]| {
        let count = (pieces.split(|byte| *byte == b',').count() / 2).to_string();
        let count = ("GNU.sparse.numblocks", count.as_bytes());
        tar().pax(&[("GNU.sparse.size", size), count, ("GNU.sparse.map", pieces)]).file("x", "abc").end()
    };
    vec![
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
        ("pieces that nobody counted", {
            let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,3")];
            tar().pax(&records).file("x", "abc").end()
        }),
        (
            "holes for all entries",
            tar().header(b"g", b'g', 21, |_| {}).raw(b"21 GNU.sparse.size=9\n").file("x", "").end(),
        ),
        ("a number of no known form", tar().header(b"x", b'0', 0, |h| h.as_mut_bytes()[108] = 0xb0).end()),
        ("magic of no known format", tar().header(b"x", b'0', 0, |h| h.as_mut_bytes()[262] = b'X').end()),
        ("a sparse file of no such format", tar().header(b"x", b'S', 0, |_| {}).end()),
        ("a file with the name of a folder", tar().header(b"x/", b'7', 0, |_| {}).end()),
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
    for (what, layer) in hostile_layers(&outside).into_iter().chain(unclear_layers()) {
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
        let error = place.refuses(what, &archive);
        // Which digest, which member, which word: something to look for.
        let told = format!("{error} {}", error.chain.join(" "));
        assert!(told.contains("sha256:") || told.matches('`').count() >= 2, "{what} is not named: {told}");
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

#[test]
fn odd_names_land_where_they_say() {
    let place = Place::new();
    let longest = format!("{}{}", "d/".repeat(255), "f".repeat(255));
    let path = format!("{}/{}", "p".repeat(255), "q/".repeat(100) + &"r".repeat(200));
    let layer =
        Tar::default().file(b"bytes-\xff\xfe", "1").file("./././dotted//x", "2").file("a\nb\x1b[31m", "3");
    let layer = layer.pax(&[("path", longest.as_bytes())]).file("x", "4").pax(&[("path", path.as_bytes())]);
    let layer = layer.file("x", "5").file("...", "6").file("wh.x", "7").end();
    place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    let root = &place.image("a").layers[0];
    let read = |name: &[u8]| text(root.join(std::ffi::OsStr::from_bytes(name)));
    assert_eq!(
        (read(b"bytes-\xff\xfe"), read(b"dotted/x"), read(b"a\nb\x1b[31m")),
        ("1".into(), "2".into(), "3".into())
    );
    assert_eq!((read(longest.as_bytes()), read(path.as_bytes())), ("4".into(), "5".into()));
    assert_eq!((read(b"..."), read(b"wh.x")), ("6".into(), "7".into()));
}

#[test]
fn a_folder_or_a_name_never_acts_through_a_link() {
    let place = Place::new();
    let outside = place.dir.path().join("outside");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let before = mode(&outside);
    let link = outside.display().to_string();
    // The mode of a folder must not reach what a link of the same name leads to (CVE-2026-33056).
    let first = Tar::default().symlink("l", &link);
    let first = first.header(b"l", b'5', 0, |header| header.set_mode(0o777)).file("l/x", "inside");
    // A second name of a link is a link: what is written to that name replaces it.
    let first = first.symlink("c", &format!("{link}/canary")).hard_link("h", "c").file("h", "mine").end();
    // Across layers each is a tree of its own (CVE-2021-29136).
    let second = Tar::default().symlink("d", &link).symlink("l", &link).end();
    let third = Tar::default().file("d/evil", "x").file("l/canary", "x").file("d/.wh.canary", "").end();
    place.load(&docker_archive(&[first, second, third], gzip, "a")).unwrap();
    let layers = place.image("a").layers;
    assert_eq!((mode(&outside), mode(&layers[0].join("l"))), (before, 0o777));
    assert_eq!((text(layers[0].join("l/x")), text(layers[0].join("h"))), ("inside".into(), "mine".into()));
    assert!(fs::symlink_metadata(layers[0].join("c")).unwrap().is_symlink());
    assert_eq!(text(layers[2].join("d/evil")), "x");
    assert_eq!(text(outside.join("canary")), "alive");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn what_would_give_rights_is_written_down_or_left_out() {
    let place = Place::new();
    let layer = Tar::default().pax(&[
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("SCHILY.xattr.security.selinux", b"label"),
        ("SCHILY.xattr.system.posix_acl_access", b"x"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.metacopy", b""),
        ("SCHILY.xattr.user.mine", b"kept"),
    ]);
    let layer = layer.header(b"ping", b'0', 0, |header| header.set_mode(0o6755)).end();
    let report = place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    assert_eq!(report.skipped.xattrs, 4);
    let root = &place.image("a").layers[0];
    let mut names = [0; 256];
    let length = rustix::fs::listxattr(root.join("ping"), &mut names[..]).unwrap();
    let names = String::from_utf8_lossy(&names[..length]).into_owned();
    let own: Vec<_> =
        names.split('\0').filter(|name| !name.is_empty() && *name != "security.selinux").collect();
    assert_eq!(own, ["user.mine"]);
    assert!(text(root.with_file_name("owners.json")).contains(r#""ping":"\\x01"#));
    assert_eq!(fs::metadata(root.join("ping")).unwrap().permissions().mode() & 0o7777, 0o6755);
}

/// A gzip of several members, which together are one stream.
fn gzip_in_members(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(700).flat_map(gzip).collect()
}

#[test]
fn a_stream_of_several_members_or_frames_is_read_to_its_end() {
    let zstd_in_frames = |bytes: &[u8]| bytes.chunks(700).flat_map(zstd).collect();
    for pack in [gzip_in_members as fn(&[u8]) -> Vec<u8>, zstd_in_frames] {
        let place = Place::new();
        let layers = two_layers();
        place.load(&docker_archive(&layers, pack, "a")).unwrap();
        assert_eq!(text(place.image("a").layers[1].join("d/y")), "y");
        assert_eq!(fs::read(place.store.blob(&digest_of(&pack(&layers[0])))).unwrap(), pack(&layers[0]));
    }
}

/// Most memory of a load, in KiB: what the test program itself takes is in it.
const PEAK_KIB_MAX: u64 = 64 * 1024;

#[test]
fn what_an_archive_holds_does_not_decide_how_much_memory_it_takes() {
    let zeros = {
        let mut layer = Tar::default().header(b"zeros", b'0', 300 << 20, |_| {}).0;
        layer.resize(layer.len() + (300 << 20) + 1024, 0);
        layer
    };
    let many = (0..20_000).fold(Tar::default(), |tar, n| tar.file(format!("f{n}"), "")).end();
    let size = ("GNU.sparse.size", &b"1000000000000"[..]);
    let hole = Tar::default().pax(&[size, ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"0,3")]);
    let names: Vec<_> = (0..12_u8)
        .map(|i| {
            let path = |n: u32| format!("{}{i}-{n}", "d/".repeat(100));
            (0..300)
                .fold(Tar::default(), |tar, n| tar.pax(&[("path", path(n).as_bytes())]).file("x", ""))
                .end()
        })
        .collect();
    let noise: Vec<u8> =
        (0..40_u64 << 20).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let large = Tar::default().file("large", &noise).end();
    let cases = [
        ("300 MB of zeros", docker_archive(std::slice::from_ref(&zeros), zstd, "a"), false),
        ("20000 files", docker_archive(&[many], gzip, "a"), true),
        ("a hole of a terabyte", docker_archive(&[hole.file("x", "abc").end()], plain, "a"), false),
        ("12 layers of deep folders", docker_archive(&names, gzip, "a"), true),
        (
            "40 MB of noise, whole and twice",
            zstd(&docker_archive(std::slice::from_ref(&large), zstd, "a")),
            true,
        ),
    ];
    drop((zeros, large, noise));
    for (what, archive, is_good) in cases {
        let place = Place::new();
        let (path, report) =
            (place.dir.path().join("outside/a.tar"), place.dir.path().join("outside/report"));
        fs::write(&path, &archive).unwrap();
        let store = place.dir.path().join("store");
        let mut child = crate::images::crowd::begin(&store, &[&path, &report]);
        assert!(child.wait().unwrap().success(), "{what}");
        let report = text(report);
        let words: Vec<_> = report.split_whitespace().collect();
        assert_eq!(words[0] == "true", is_good, "{what}");
        assert!(words[2].parse::<u64>().unwrap() < PEAK_KIB_MAX, "{what}: {report}");
        if !is_good {
            for (part, left) in [("layers", 0), ("blobs/sha256", 0), ("tmp", 0), ("locks", 0)] {
                assert_eq!(fs::read_dir(store.join(part)).unwrap().count(), left, "{what}: {part}");
            }
        }
    }
}
