//! Images come in whole or not at all: good archives of every kind, and every hostile one we know,
//! in a folder whose canary must not change.

#![expect(clippy::print_stderr, reason = "a test that cannot run says so")]
#![expect(clippy::unwrap_used, reason = "what makes the archives of a test may end the test")]
#![expect(clippy::disallowed_methods, reason = "tests feed pipes from threads; they call no libcontainer")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use cuddy::error::{Error, ErrorKind, Fault as _};
use cuddy::image::archive::{ArchiveError, Report, import, load};
use cuddy::image::config::ImageConfig;
use cuddy::image::staging::{Expected, NewImage, Staging, StagingError, Wanted};
use cuddy::image::store::{Image, Store, StoreError};
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;
use cuddy::names::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;

mod images {
    pub(crate) mod crowd;
    pub(crate) mod formats;
    mod hostile;
    mod listings;
    pub(crate) mod mutations;
    mod replay;
}

// ── archives, made here ─────────────────────────────────────────────────────────────────────────

/// A tar; names go in as bytes, so that hostile ones can.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(mut self, name: &[u8], kind: u8, size: u64, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header.set_entry_type(EntryType::new(kind));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: impl AsRef<[u8]>, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.header(name.as_ref(), b'0', text.len() as u64, |_| {}).raw(text)
    }

    fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.header(name.as_ref(), b'5', 0, |header| header.set_mode(0o755))
    }

    fn link(self, name: &str, kind: u8, target: &str) -> Self {
        self.header(name.as_bytes(), kind, 0, |header| {
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        })
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(name, b'2', target)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(name, b'1', target)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let body = key.len() + value.len() + 3;
            let length =
                (1..).map(|digits| body + digits).find(|n| n.to_string().len() + body == *n).unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.header(b"pax", b'x', text.len() as u64, |_| {}).raw(&text)
    }

    fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"], "User": "7"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// What `docker save` wrote until version 24.
fn docker_archive(layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>, name: &str) -> Vec<u8> {
    let config = config(layers);
    let config_name = format!("{}.json", digest_of(&config).hex());
    let mut archive = Tar::default().file(&config_name, &config);
    let mut members = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        archive = archive.dir(format!("{i}/")).file(format!("{i}/layer.tar"), pack(layer));
        members.push(format!("{i}/layer.tar"));
    }
    let manifest = json!([{"Config": config_name, "RepoTags": [name], "Layers": members}]);
    archive.file("manifest.json", manifest.to_string()).end()
}

/// An OCI layout in the making.
#[derive(Default)]
struct Oci {
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Oci {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = digest_of(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest.hex().to_owned(), bytes);
        descriptor
    }

    fn json(&mut self, media_type: &str, json: &Value) -> Value {
        self.blob(media_type, json.to_string().into_bytes())
    }

    fn image(&mut self, layers: &[Vec<u8>], pack: fn(&[u8]) -> Vec<u8>) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config(layers));
        let layers: Vec<_> = layers.iter().map(|layer| self.blob(OCI_LAYER, pack(layer))).collect();
        self.json(OCI_MANIFEST, &json!({"schemaVersion": 2, "config": config, "layers": layers}))
    }

    fn archive(&self, manifests: &[Value], more: Tar) -> Vec<u8> {
        let mut archive = more.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
        archive = archive.file("index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string());
        for (hex, bytes) in &self.blobs {
            archive = archive.file(format!("blobs/sha256/{hex}"), bytes);
        }
        archive.end()
    }
}

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn two_layers() -> Vec<Vec<u8>> {
    let below = Tar::default().dir("./").dir("etc/").file("etc/a", "below").file("etc/b", "b").dir("d/");
    let below = below.file("d/x", "x").symlink("etc/l", "a").hard_link("etc/h", "etc/a");
    let above = Tar::default().dir("etc/").file("etc/.wh.b", "").file("etc/a", "above").dir("d/");
    let above = above.file("d/.wh..wh..opq", "").file("d/y", "y");
    vec![below.end(), above.end()]
}

// ── the host side ───────────────────────────────────────────────────────────────────────────────

/// A store in a folder with a canary beside it.
/// Nothing for what is closed to us; any other failure ends the test.
fn opened<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => None,
        other => Some(other.unwrap()),
    }
}

/// Says that a test cannot run here; fails where `CUDDY_REQUIRE` names what it lacks.
fn skipped(ability: &str, why: &str) {
    eprintln!("SKIPPED: {why}");
    let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
    assert!(
        !required.split_whitespace().any(|word| word == ability),
        "CUDDY_REQUIRE names `{ability}`: {why}"
    );
}

struct Place {
    dir: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/canary"), "alive").unwrap();
        fs::set_permissions(dir.path().join("outside/canary"), fs::Permissions::from_mode(0o640)).unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn file(&self, bytes: &[u8]) -> File {
        let path = self.dir.path().join("outside/archive.tar");
        fs::write(&path, bytes).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(path).unwrap();
        file
    }

    fn load(&self, bytes: &[u8]) -> Result<Report, ArchiveError> {
        load(&self.store, self.file(bytes), Owners::Record)
    }

    fn image(&self, name: &str) -> Image {
        self.store.resolve(&name.parse().unwrap()).unwrap()
    }

    /// Everything in the folder: path, kind and mode, size, content of small files. What a mutated mode
    /// has closed to us is listed without its content.
    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(dir) = left.pop() {
            for entry in opened(fs::read_dir(&dir)).into_iter().flatten() {
                let path = entry.unwrap().path();
                let Some(meta) = opened(fs::symlink_metadata(&path)) else { continue };
                let text = meta.is_file().then(|| opened(fs::read(&path))).flatten().unwrap_or_default();
                found.push(format!("{} {:o} {}", path.display(), meta.mode(), digest_of(&text)));
                if meta.is_dir() {
                    left.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// What a command says in the image's root, as overlay shows it; nothing where that cannot be.
    fn shown(&self, image: &Image, command: &str) -> Option<String> {
        let lower: Vec<_> = image.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
        let script = format!(
            "mkdir u w m && mount -t overlay -o userxattr,lowerdir={},upperdir=u,workdir=w o m && cd m && {command}",
            lower.join(":")
        );
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let ran =
            Command::new("unshare").args(["-Urm", "sh", "-c", &script]).current_dir(dir.path()).output();
        let Ok(ran) = ran.as_ref().map_err(ToString::to_string) else {
            skipped("overlay", &format!("no `unshare` on this host: {ran:?}"));
            return None;
        };
        let error = String::from_utf8_lossy(&ran.stderr);
        if error.contains("unshare") || error.contains("mount:") {
            skipped("overlay", &format!("this host has no rootless overlay: {error}"));
            return None;
        }
        assert_eq!(error, "");
        Some(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// The archive is refused and nothing anywhere is other than before.
    fn refuses(&self, what: &str, archive: &[u8]) -> Error {
        let before = self.listing();
        let error = match self.load(archive) {
            Err(error) => Error::from(error),
            Ok(report) => panic!("{what} was loaded: {report:?}"),
        };
        assert_eq!(self.listing(), before, "{what}: {error}");
        error
    }
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

// ── good archives ───────────────────────────────────────────────────────────────────────────────

#[test]
fn the_same_image_has_one_id_whatever_it_came_in() {
    let layers = two_layers();
    let mut ids = Vec::new();
    for pack in [plain, gzip, zstd] {
        for whole in [plain, gzip, zstd] {
            let place = Place::new();
            ids.push(
                place.load(&whole(&docker_archive(&layers, pack, "me/app:1"))).unwrap().images[0].id.clone(),
            );
            let mut oci = Oci::default();
            let mut image = oci.image(&layers, pack);
            image["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/me/app:2"});
            let report = place.load(&whole(&oci.archive(&[image], Tar::default()))).unwrap();
            ids.push(report.images[0].id.clone());
            for name in ["me/app:1", "docker.io/me/app:2", &ids[0].hex()[..12], ids[0].as_str()] {
                let image = place.image(name);
                assert_eq!((image.id, image.layers.len()), (ids[0].clone(), 2), "{name}");
                assert_eq!(image.config.user, "7");
            }
            assert_eq!(place.store.images().unwrap()[0].names.len(), 2);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn a_layer_is_unpacked_as_overlay_wants_it() {
    let place = Place::new();
    place.load(&docker_archive(&two_layers(), gzip, "a")).unwrap();
    let image = place.image("a");
    let (below, above) = (&image.layers[0], &image.layers[1]);
    assert_eq!(text(below.join("etc/h")), "below");
    assert_eq!(fs::metadata(below.join("etc/a")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(below.join("etc/l")).unwrap(), Path::new("a"));
    let hidden = fs::symlink_metadata(above.join("etc/b")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    assert!(!above.join("d/.wh..wh..opq").exists());
    let meta = fs::metadata(above.join("etc/a")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o644, 1_700_000_000));
    assert_eq!(fs::metadata(place.dir.path().join("store")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn the_kernel_shows_the_layers_as_one_tree() {
    let place = Place::new();
    place.load(&docker_archive(&two_layers(), gzip, "a")).unwrap();
    let image = place.image("a");
    let Some(seen) = place.shown(&image, "find . | sort | tr '\\n' ' ' && cat etc/a d/y") else { return };
    assert_eq!(seen, ". ./d ./d/y ./etc ./etc/a ./etc/h ./etc/l abovey");
}

/// A folder with a mode.
fn dir_of(tar: Tar, name: &str, mode: u32) -> Tar {
    tar.header(name.as_bytes(), b'5', 0, |header| header.set_mode(mode))
}

#[test]
fn a_folder_that_a_layer_only_implies_keeps_what_the_layers_below_say_of_it() {
    let place = Place::new();
    let tar = Tar::default;
    let base = [("tmp/", 0o1777), ("a/", 0o750), ("a/b/", 0o711), ("a/b/c/", 0o700), ("hidden/", 0o700)];
    let base = base.iter().fold(tar(), |tar, (name, mode)| dir_of(tar, name, *mode));
    let base = dir_of(dir_of(base, "emptied/", 0o701), "said/", 0o700).file("emptied/old", "").end();
    let middle = tar().file("tmp/x", "").file(".wh.hidden", "").file("said/x", "").end();
    let above = tar().file("tmp/y", "").file("a/b/c/f", "").file("hidden/f", "").file("new/f", "");
    let above = dir_of(above.file("emptied/.wh..wh..opq", ""), "said/", 0o705).end();
    let layers = [base, middle, above];
    let archive = docker_archive(&layers, gzip, "a");
    place.load(&archive).unwrap();
    let image = place.image("a");
    let lid = image.layers.last().unwrap().clone();
    assert_eq!(image.layers.len(), 4);
    let mode = |path: &str| fs::symlink_metadata(lid.join(path)).map(|meta| meta.mode() & 0o7777).ok();
    assert_eq!(mode("tmp"), Some(0o1777));
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (Some(0o750), Some(0o711), Some(0o700)));
    assert_eq!(mode("emptied"), Some(0o701));
    assert_eq!((mode("hidden"), mode("said"), mode("new")), (None, None, None));
    assert_eq!(fs::metadata(lid.join("tmp")).unwrap().mtime(), 1_700_000_000);
    let list = "stat -c '%n %a' tmp a a/b a/b/c hidden emptied said new | tr '\\n' ' '; ls emptied a/b/c tmp";
    if let Some(seen) = place.shown(&image, list) {
        let modes = "tmp 1777 a 750 a/b 711 a/b/c 700 hidden 755 emptied 701 said 705 new 755 ";
        assert_eq!(seen, format!("{modes}a/b/c:\nf\n\nemptied:\n\ntmp:\nx\ny\n"));
    }
    // Other stacks of the same layers have a lid of their own or none; a lost one is put back.
    place.load(&docker_archive(&layers[1..], gzip, "b")).unwrap();
    assert_eq!(place.image("b").layers.len(), 2);
    place.load(&docker_archive(&layers[..1], gzip, "c")).unwrap();
    assert_eq!(place.image("c").layers.len(), 1);
    fs::remove_dir_all(lid.parent().unwrap()).unwrap();
    assert!(matches!(place.store.resolve(&"a".parse().unwrap()), Err(StoreError::Damaged { .. })));
    place.load(&archive).unwrap();
    assert_eq!(place.image("a").layers.len(), 4);
    // Who makes the topmost layer again makes the lids of all stacks that end in it.
    fs::remove_dir_all(place.image("b").layers[1].parent().unwrap()).unwrap();
    place.load(&docker_archive(&layers[1..], gzip, "b")).unwrap();
    assert_eq!((place.image("a").layers.len(), place.image("b").layers.len()), (4, 2));
}

#[test]
fn one_archive_may_hold_several_images_and_links_between_layers() {
    let place = Place::new();
    let layer = Tar::default().file("a", "1").end();
    let other = Tar::default().file("a", "2").end();
    let one = config(std::slice::from_ref(&layer));
    let two = config(&[layer.clone(), other.clone(), layer.clone()]);
    let manifest = json!([
        {"Config": "one.json", "RepoTags": ["one:1", "one:2"], "Layers": ["x/layer.tar"]},
        {"Config": "two.json", "RepoTags": null, "Layers": ["y/layer.tar", "z/layer.tar", "./x/layer.tar"]},
    ]);
    let archive = Tar::default().file("x/layer.tar", &layer).symlink("y/layer.tar", "../x/layer.tar");
    let archive = archive.file("z/layer.tar", &other).file("one.json", &one).file("two.json", &two);
    let report = place.load(&archive.file("manifest.json", manifest.to_string()).end()).unwrap();
    assert_eq!(report.images.iter().map(|image| image.names.len()).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(place.image("one:2").id, digest_of(&one));
    // Overlay takes no folder twice: of two equal layers the upper one counts.
    let image = place.image(&digest_of(&two).hex()[..12]);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(text(image.layers[1].join("a")), "1");
}

#[test]
fn what_docker_saves_today_is_both_layouts_at_once() {
    let place = Place::new();
    let layers = two_layers();
    let mut oci = Oci::default();
    let mut image = oci.image(&layers, plain);
    image["annotations"] = json!({"io.containerd.image.name": "docker.io/library/a:1"});
    let config_path = format!("blobs/sha256/{}", digest_of(&config(&layers)).hex());
    let members: Vec<_> =
        layers.iter().map(|layer| format!("blobs/sha256/{}", digest_of(layer).hex())).collect();
    let manifest = json!([{"Config": config_path, "RepoTags": ["a:1", "a:2"], "Layers": members}]);
    let archive = Tar::default().file("manifest.json", manifest.to_string());
    let report = place.load(&oci.archive(&[image.clone()], archive)).unwrap();
    assert_eq!((report.images.len(), report.images[0].names.len()), (1, 2));

    let other = oci.image(&[layers[0].clone()], plain);
    let mut other = other.clone();
    other["annotations"] = image["annotations"].clone();
    let archive = Tar::default().file("manifest.json", manifest.to_string());
    let error = place.refuses("one name for two images", &oci.archive(&[other], archive));
    assert!(error.to_string().contains("`a:1` to two images"), "{error}");
}

#[test]
fn of_several_platforms_ours_is_taken() {
    let place = Place::new();
    let layers = two_layers();
    let mut oci = Oci::default();
    let mut ours = oci.image(&layers, plain);
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    ours["platform"] = json!({"os": "linux", "architecture": arch});
    let mut foreign = oci.image(&layers[..1], plain);
    foreign["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let index = |oci: &mut Oci, manifests: &[Value]| {
        oci.json(OCI_INDEX, &json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}))
    };
    let both = index(&mut oci, &[foreign.clone(), ours]);
    let nested = index(&mut oci, &[both]);
    let report = place.load(&oci.archive(&[nested], Tar::default())).unwrap();
    assert_eq!(report.images[0].id, digest_of(&config(&layers)));

    let mut other = foreign.clone();
    other["platform"]["architecture"] = json!("riscv64");
    let none = index(&mut oci, &[foreign, other]);
    let error = place.refuses("an index without our platform", &oci.archive(&[none], Tar::default()));
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.to_string().contains("`linux/s390x`, `linux/riscv64`"), "{error}");
}

#[test]
fn a_pipe_can_be_loaded_and_imported() {
    let place = Place::new();
    for (whole, name) in [(plain as fn(&[u8]) -> Vec<u8>, "p:1"), (zstd, "p:2")] {
        let archive = whole(&docker_archive(&two_layers(), gzip, name));
        let (reader, mut writer) = std::io::pipe().unwrap();
        let feeder = std::thread::Builder::new().spawn(move || writer.write_all(&archive)).unwrap();
        load(&place.store, File::from(std::os::fd::OwnedFd::from(reader)), Owners::Record).unwrap();
        feeder.join().unwrap().unwrap();
        assert_eq!(place.image(name).layers.len(), 2);
    }
    let tar = gzip(&Tar::default().dir("bin/").file("/bin/x", "x").end());
    let report = import(&place.store, place.file(&tar), &"root:1".parse().unwrap(), Owners::Record).unwrap();
    let image = place.image("root:1");
    assert_eq!((image.id, image.layers.len()), (report.images[0].id.clone(), 1));
    assert_eq!(text(image.layers[0].join("bin/x")), "x");
}

#[test]
fn owners_are_written_down_when_they_cannot_be_applied() {
    let place = Place::new();
    let layer = Tar::default().header(b"f", b'0', 0, |header| {
        header.set_uid(1000);
        header.set_gid(42);
        header.set_mode(0o4755);
    });
    let layer = layer.header(b"null", b'3', 0, |header| header.set_device_major(1).unwrap()).end();
    let report = place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    assert_eq!(report.skipped.devices, 1);
    let image = place.image("a");
    assert!(image.is_flat && image.ids.uids.contains(&1000) && image.ids.gids.contains(&42));
    let meta = fs::metadata(image.layers[0].join("f")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o4755);
    assert_eq!(meta.uid(), fs::metadata(place.dir.path()).unwrap().uid());
    let note = text(image.layers[0].with_file_name("owners.json"));
    assert!(note.contains(r#""f":[1000,42]"#) && note.contains(r#""path":"null""#), "{note}");
    assert!(!image.layers[0].join("null").exists());
}

#[test]
fn long_names_sparse_files_times_and_attributes_are_understood() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let pax = Tar::default().pax(&[
        ("path", long.as_bytes()),
        ("mtime", b"1500000000.5"),
        ("SCHILY.xattr.user.kept", b"v"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ]);
    let gnu_name = format!("g/{}", "n".repeat(150));
    let layer = pax.file("short", "pax").header(b"././@LongLink", b'L', 152, |_| {}).raw(gnu_name.as_bytes());
    let layer = layer.file("short", "gnu").pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"1000000"),
    ]);
    let map = b"1\n500000\n3\n";
    let layer = layer.header(b"x", b'0', 512 + 3, |_| {}).raw(map).raw(b"mid").end();
    let report = place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    assert!(report.skipped.xattrs >= 2);
    let root = &place.image("a").layers[0];
    assert_eq!(text(root.join(&long)), "pax");
    assert_eq!(fs::metadata(root.join(&long)).unwrap().mtime(), 1_500_000_000);
    assert_eq!(text(root.join(&gnu_name)), "gnu");
    let sparse = fs::read(root.join("sparse")).unwrap();
    assert_eq!((sparse.len(), &sparse[500_000..500_003]), (1_000_000, &b"mid"[..]));
    let mut value = [0_u8; 16];
    let read =
        |name: &str, value: &mut [u8; 16]| rustix::fs::getxattr(root.join(&long), name, &mut value[..]);
    assert_eq!(read("user.kept", &mut value), Ok(1));
    assert!(read("user.overlay.redirect", &mut value).is_err());
}

#[test]
fn the_order_in_a_layer_decides_and_whiteouts_never_hide_their_own_layer() {
    let place = Place::new();
    let layer = Tar::default().file("a", "1").file("a", "2").dir("d/").file("d/old", "").symlink("d", "e");
    let layer = layer.file("k", "kept").file(".wh.k", "").file(".wh.n", "").dir("n/").file("n/x", "x");
    let layer = layer.file(".wh.i", "").file("i/x", "implicit").dir("m/").file("m/x", "").file(".wh.m", "");
    // A link inside the image is followed inside the image, as Docker does.
    let layer = layer.dir("usr/lib/").symlink("lib", "/usr/lib").file("lib/so", "so").end();
    place.load(&docker_archive(&[layer], plain, "a")).unwrap();
    let root = &place.image("a").layers[0];
    assert_eq!(text(root.join("a")), "2");
    assert_eq!(fs::read_link(root.join("d")).unwrap(), Path::new("e"));
    assert_eq!(text(root.join("k")), "kept");
    assert_eq!(text(root.join("usr/lib/so")), "so");
    for opaque in ["n", "i", "m"] {
        let mut value = [0_u8; 4];
        let read = rustix::fs::getxattr(root.join(opaque), "user.overlay.opaque", &mut value[..]);
        assert_eq!(read, Ok(1), "{opaque}");
    }
}

// ── the store ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_unknown_image_is_answered_with_names_that_look_like_it() {
    let place = Place::new();
    place.load(&docker_archive(&two_layers(), plain, "alpine:3")).unwrap();
    let ask = |name: &str| place.store.resolve(&name.parse().unwrap()).unwrap_err();
    let error = ask("alpin");
    assert!(matches!(&error, StoreError::NotFound { similar, .. } if *similar == ["`alpine:3`"]), "{error}");
    assert!(error.hints().iter().any(|hint| hint.contains("cuddy load -i")));
    assert!(matches!(ask("debian"), StoreError::NotFound { similar, .. } if similar.is_empty()));
    let id = place.image("alpine:3").id;
    assert!(place.store.resolve(&id.hex()[..3].parse().unwrap()).is_err());
    place.store.tag(&id.as_str().parse().unwrap(), &"other:2".parse().unwrap()).unwrap();
    assert_eq!(place.image("other:2").id, id);
    assert!(place.store.tag(&"no".parse().unwrap(), &"x".parse().unwrap()).is_err());
}

#[test]
fn a_damaged_store_says_so_and_a_second_load_repairs_it() {
    let place = Place::new();
    let archive = docker_archive(&two_layers(), plain, "a");
    place.load(&archive).unwrap();
    let image = place.image("a");
    fs::remove_dir_all(image.layers[0].parent().unwrap()).unwrap();
    fs::write(place.store.blob(&image.id), "{}").unwrap();
    assert!(matches!(place.store.resolve(&"a".parse().unwrap()), Err(StoreError::Damaged { .. })));
    place.load(&archive).unwrap();
    assert_eq!(place.image("a").layers.len(), 2);
}

#[test]
fn the_bytes_of_a_layer_are_kept_as_they_came() {
    for (pack, media_type) in [
        (plain as fn(&[u8]) -> Vec<u8>, "application/vnd.oci.image.layer.v1.tar"),
        (gzip, "application/vnd.oci.image.layer.v1.tar+gzip"),
        (zstd, "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let place = Place::new();
        let layers = two_layers();
        place.load(&docker_archive(&layers, pack, "a")).unwrap();
        let index: Value = serde_json::from_str(&text(place.dir.path().join("store/images.json"))).unwrap();
        let record = &index["images"][place.image("a").id.as_str()];
        for (layer, record) in layers.iter().zip(record["layers"].as_array().unwrap()) {
            let blob: Digest = record["blob"].as_str().unwrap().parse().unwrap();
            assert_eq!(fs::read(place.store.blob(&blob)).unwrap(), pack(layer));
            assert_eq!(
                (&record["media_type"], &record["bytes"]),
                (&json!(media_type), &json!(pack(layer).len()))
            );
        }
    }
}

#[test]
fn a_load_puts_back_what_is_missing_of_a_layer_and_only_that() {
    let place = Place::new();
    let layers = two_layers();
    let archive = docker_archive(&layers, gzip, "a");
    place.load(&archive).unwrap();
    let folders = place.image("a").layers;
    let blobs = layers.iter().map(|layer| place.store.blob(&digest_of(&gzip(layer)))).collect::<Vec<_>>();
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let kept_folder = inode(&folders[0]);
    // Of the lower layer the blob is gone, cut off in another round; of the upper one the folder.
    for damage in
        [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, "short").unwrap()]
    {
        damage(&blobs[0]);
        fs::remove_dir_all(folders[1].parent().unwrap()).unwrap();
        place.load(&archive).unwrap();
        assert_eq!(fs::read(&blobs[0]).unwrap(), gzip(&layers[0]));
        assert_eq!(text(folders[1].join("etc/a")), "above");
        assert_eq!(inode(&folders[0]), kept_folder, "a whole folder was unpacked again");
    }
    let kept_blob = inode(&blobs[1]);
    place.load(&archive).unwrap();
    assert_eq!(inode(&blobs[1]), kept_blob, "a whole layer was read again");
    // A folder whose note is damaged is no layer: a new one takes its place.
    fs::write(folders[0].with_file_name("layer.json"), "{").unwrap();
    place.load(&archive).unwrap();
    assert_eq!(text(place.image("a").layers[0].join("etc/a")), "below");
}

#[test]
fn one_layer_may_come_in_several_forms_and_each_is_kept() {
    let place = Place::new();
    let layers = two_layers();
    let mut oci = Oci::default();
    let mut images = Vec::new();
    for (pack, name) in [(plain as fn(&[u8]) -> Vec<u8>, "a:plain"), (gzip, "a:gzip"), (zstd, "a:zstd")] {
        // Another image each: an id stands for one manifest.
        let own = Tar::default().file("own", name).end();
        let mut image = oci.image(&[layers[0].clone(), own], pack);
        image["annotations"] = json!({"io.containerd.image.name": format!("docker.io/library/{name}")});
        images.push(image);
    }
    place.load(&oci.archive(&images, Tar::default())).unwrap();
    for pack in [plain, gzip, zstd] {
        assert_eq!(fs::read(place.store.blob(&digest_of(&pack(&layers[0])))).unwrap(), pack(&layers[0]));
    }
    assert_eq!(fs::read_dir(place.dir.path().join("store/layers")).unwrap().count(), 4);
}

#[test]
fn several_threads_may_fill_one_staging_and_what_is_kept_can_be_unpacked_again() {
    let place = Place::new();
    let layers: Vec<_> = (0..8_u8).map(|i| Tar::default().file(format!("f{i}"), [i; 3000]).end()).collect();
    let wanted: Vec<_> = layers.iter().map(|layer| wanted(layer)).collect();
    let staging = Staging::begin(&place.store, Owners::Record, &wanted).unwrap();
    std::thread::scope(|scope| {
        for (layer, wanted) in layers.iter().zip(&wanted) {
            let staging = &staging;
            let run = move || staging.layer(wanted, zstd(layer).as_slice()).unwrap();
            std::thread::Builder::new().spawn_scoped(scope, run).unwrap();
        }
    });
    assert!(wanted.iter().all(|wanted| !staging.is_missing(wanted)));
    let other = digest_of(b"other");
    assert!(
        matches!(staging.blob(&other, b"not it"), Err(StagingError::Different { object, .. }) if object == other)
    );
    staging.blob(&other, b"other").unwrap();
    staging.commit(vec![new_image(&wanted)]).unwrap();
    assert_eq!(fs::read(place.store.blob(&other)).unwrap(), b"other");

    let dir = place.store.layer(&wanted[0].diff_id).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let staging = Staging::begin(&place.store, Owners::Record, &wanted).unwrap();
    assert!(staging.is_missing(&wanted[0]) && !staging.is_missing(&wanted[1]));
    assert!(staging.restore(&wanted[0]).unwrap() && staging.restore(&wanted[1]).unwrap());
    staging.commit(vec![new_image(&wanted)]).unwrap();
    assert!(dir.join("fs/f0").exists());

    fs::remove_dir_all(&dir).unwrap();
    let blob = place.store.blob(&wanted[0].blob.as_ref().unwrap().digest);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let staging = Staging::begin(&place.store, Owners::Record, &wanted).unwrap();
    assert!(!staging.restore(&wanted[0]).unwrap(), "damaged bytes were unpacked");
    staging.layer(&wanted[0], zstd(&layers[0]).as_slice()).unwrap();
    staging.commit(vec![new_image(&wanted)]).unwrap();
    assert_eq!(fs::read(&blob).unwrap(), zstd(&layers[0]));
}

/// A layer as a manifest names it, packed by zstd.
fn wanted(layer: &[u8]) -> Wanted {
    let packed = zstd(layer);
    let blob = Expected {
        digest: digest_of(&packed),
        bytes: packed.len() as u64,
        media_type: format!("{OCI_LAYER}+zstd"),
    };
    Wanted { diff_id: digest_of(layer), blob: Some(blob) }
}

fn new_image(layers: &[Wanted]) -> NewImage {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let bytes = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string().into_bytes();
    NewImage {
        id: digest_of(&bytes),
        config: ImageConfig::parse(&bytes).unwrap(),
        config_bytes: bytes,
        index: None,
        manifest: None,
        layers: layers.to_vec(),
        names: Vec::new(),
    }
}

#[test]
fn more_bytes_than_were_said_are_not_waited_for() {
    let place = Place::new();
    let layer = two_layers().remove(0);
    let wanted = wanted(&layer);
    let staging = Staging::begin(&place.store, Owners::Record, std::slice::from_ref(&wanted)).unwrap();
    let endless = std::io::Read::chain(std::io::Cursor::new(zstd(&layer)), std::io::repeat(0));
    let error = staging.layer(&wanted, endless).unwrap_err();
    let digest = wanted.blob.as_ref().unwrap().digest.clone();
    assert!(matches!(&error, StagingError::Different { object, .. } if *object == digest), "{error}");
    // The layer can still be given, and once all are stopped it cannot.
    staging.stop();
    let stopped = staging.layer(&wanted, zstd(&layer).as_slice());
    assert!(matches!(stopped, Err(StagingError::Stopped { .. })));
    drop(staging);
    assert_eq!(fs::read_dir(place.dir.path().join("store/tmp")).unwrap().count(), 0);
}

#[test]
fn what_a_dead_process_left_is_swept_and_what_a_live_one_holds_is_not() {
    let place = Place::new();
    let store = place.dir.path().join("store");
    let (dead, live) = ("d".repeat(64), "e".repeat(64));
    for hex in [&dead, &live] {
        fs::create_dir_all(store.join("tmp").join(hex).join("fs/deep")).unwrap();
    }
    fs::set_permissions(store.join("tmp").join(&dead).join("fs"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(store.join("blobs/sha256/.abc.0123"), "").unwrap();
    let held = place.store.lock(&live).unwrap();
    Store::open(&store).unwrap();
    assert!(!store.join("tmp").join(&dead).exists() && store.join("tmp").join(&live).exists());
    assert!(!store.join("blobs/sha256/.abc.0123").exists());
    drop(held);
    Store::open(&store).unwrap();
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.join("locks")).unwrap().count(), 0);
}

#[test]
fn eight_loads_at_once_leave_one_whole_image() {
    let place = Place::new();
    let mut layers = two_layers();
    layers.extend((0..20).map(|i| Tar::default().file(format!("f{i}"), vec![i; 100_000]).end()));
    let backwards: Vec<_> = layers.iter().rev().cloned().collect();
    let path = place.dir.path().join("store");
    std::thread::scope(|scope| {
        for i in 0..8 {
            let archive = docker_archive(if i % 2 == 0 { &layers } else { &backwards }, gzip, "a");
            let (path, file) = (&path, place.file(&archive));
            let run = move || load(&Store::open(path).unwrap(), file, Owners::Record).unwrap();
            std::thread::Builder::new().spawn_scoped(scope, run).unwrap();
        }
    });
    assert_eq!(place.image("a").layers.len(), 22);
    assert_eq!(place.store.images().unwrap().len(), 2);
    for (part, count) in [("layers", 22), ("tmp", 0), ("locks", 0), ("blobs/sha256", 24)] {
        assert_eq!(fs::read_dir(path.join(part)).unwrap().count(), count, "{part}");
    }
}

#[test]
#[ignore = "the crash test starts it and kills it"]
fn load_what_standard_input_names() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let mut words = line.trim().split('\t');
    let (store, archive) = (words.next().unwrap(), words.next().unwrap());
    let result = load(&Store::open(Path::new(store)).unwrap(), File::open(archive).unwrap(), Owners::Record);
    match words.next() {
        // Asked for its report: how it went, and the most memory it had.
        Some(report) => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
            fs::write(report, format!("{} {peak}", result.is_ok())).unwrap();
        }
        None => drop(result.unwrap()),
    }
}

#[test]
fn a_load_that_is_killed_at_any_moment_leaves_nothing_the_next_does_not_clean() {
    let layers: Vec<_> = (0..6_u8)
        .map(|i| (0..60).fold(Tar::default(), |tar, n| tar.file(format!("d{i}/f{n}"), [i; 5000])).end())
        .collect();
    let archive = docker_archive(&layers, gzip, "a");
    let mut killed_midway = 0;
    for moment in 0..24_u64 {
        let place = Place::new();
        let (path, store) = (place.dir.path().join("outside/a.tar"), place.dir.path().join("store"));
        fs::write(&path, &archive).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "load_what_standard_input_names", "--ignored"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}\t{}", store.display(), path.display()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(3 + moment * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        killed_midway += usize::from(fs::read_dir(store.join("tmp")).unwrap().count() > 0);
        let store_again = Store::open(&store).unwrap();
        for part in ["tmp", "locks"] {
            assert_eq!(fs::read_dir(store.join(part)).unwrap().count(), 0, "{part} at {moment}");
        }
        load(&store_again, File::open(&path).unwrap(), Owners::Record).unwrap();
        let image = place.image("a");
        assert_eq!(image.layers.len(), 6);
        for (i, layer) in image.layers.iter().enumerate() {
            assert_eq!(fs::read_dir(layer.join(format!("d{i}"))).unwrap().count(), 60);
        }
        assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 6);
        assert_eq!(fs::read_dir(store.join("blobs/sha256")).unwrap().count(), 7);
    }
    assert!(killed_midway > 0, "no kill came while something was half done");
}
