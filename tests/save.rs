//! Images out of the store and in again: what is written is read by skopeo, podman and umoci, comes back
//! with its digests, and is whole or not there. And in from layout folders, from archives that take a
//! program of the host, and from a Docker that lies.

#![expect(clippy::unwrap_used, reason = "what makes the archives of a test may end the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests answer on sockets from threads; they call no libcontainer"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use cuddy::image::archive::{ArchiveError, Request, load, load_from};
use cuddy::image::members::Input;
use cuddy::image::save::{Chosen, Form, SaveError, write, write_file, write_folder};
use cuddy::image::store::Store;
use cuddy::image::stream::digest_of;
use cuddy::image::tree::Owners;
use cuddy::names::Digest;
use cuddy::sys::fs::open_dir;
use serde_json::{Value, json};
use tempfile::TempDir;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

// ── images, made here ───────────────────────────────────────────────────────────────────────────

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout as files: one image for each of `images`, its layers gzip, with the name if it has one.
fn layout(images: &[(&[Vec<u8>], Option<&str>)]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut blob = |media_type: &str, bytes: Vec<u8>| {
        let digest = digest_of(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        files.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        descriptor
    };
    let mut manifests = Vec::new();
    for (layers, name) in images {
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
            "created": "2026-01-02T03:04:05Z", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let packed: Vec<_> = layers
            .iter()
            .map(|layer| blob("application/vnd.oci.image.layer.v1.tar+gzip", gzip(layer)))
            .collect();
        // Spaces that no writer of ours would make: the manifest must come back byte for byte.
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": packed,
            "annotations": {"kept": "as it came"}});
        let mut entry = blob(OCI_MANIFEST, serde_json::to_vec_pretty(&manifest).unwrap());
        if let Some(name) = name {
            let tag = name.rsplit(':').next().unwrap();
            entry["annotations"] =
                json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        }
        manifests.push(entry);
    }
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files.insert(
        "index.json".to_owned(),
        json!({"schemaVersion": 2, "manifests": manifests}).to_string().into(),
    );
    files
}

fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    tar_of(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

fn folder(files: &BTreeMap<String, Vec<u8>>, dir: &Path) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for (name, bytes) in files {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

fn two_layers() -> Vec<Vec<u8>> {
    vec![
        tar_of(&[("etc/a", b"below"), ("etc/b", b"b")]),
        tar_of(&[("etc/a", b"above"), ("bin/x", &[7; 9000])]),
    ]
}

/// One image of two layers, and one that shares the lower layer with it.
fn two_images() -> Vec<u8> {
    let layers = two_layers();
    archive(&layout(&[(&layers, Some("example.com/a/one:1")), (&layers[..1], Some("example.com/a/two:2"))]))
}

// ── the host side ───────────────────────────────────────────────────────────────────────────────

/// Id, names, manifest and kept layers of an image.
type Digests = (Digest, Vec<String>, Option<Digest>, Vec<Digest>);
/// What makes a path something else.
type Change<'c> = &'c dyn Fn(&Path);

struct Place {
    dir: TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn with(archive: &[u8]) -> Self {
        let place = Self::new();
        place.load(archive).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self, archive: &[u8]) -> Result<Vec<Digest>, ArchiveError> {
        let path = self.path("in.tar");
        fs::write(&path, archive).unwrap();
        let report = load(&self.store, File::open(path).unwrap(), Owners::Record)?;
        Ok(report.images.into_iter().map(|image| image.id).collect())
    }

    fn load_folder(&self, dir: &Path, tag: Option<&str>) -> Result<Vec<Digest>, ArchiveError> {
        let input = Input::Folder(open_dir(dir).unwrap());
        let request = Request { input, tag, platform: None, decompress: &|_, _| panic!("it is no file") };
        Ok(load_from(&self.store, request, Owners::Record)?
            .images
            .into_iter()
            .map(|image| image.id)
            .collect())
    }

    /// All images with all their names.
    fn all(&self) -> Vec<Chosen> {
        let images = self.store.images().unwrap();
        images.into_iter().map(|image| Chosen { id: image.id, names: image.names }).collect()
    }

    fn saved(&self, form: Form) -> Vec<u8> {
        let mut out = Vec::new();
        write(&self.store, &self.all(), form, &mut out).unwrap();
        out
    }

    fn digests(&self) -> Vec<Digests> {
        let images = self.store.images().unwrap().into_iter();
        images
            .map(|image| {
                let names = image.names.iter().map(ToString::to_string).collect();
                let blobs = image.record.layers.iter().map(|layer| layer.blob.clone()).collect();
                (image.id, names, image.record.manifest, blobs)
            })
            .collect()
    }
}

fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Runs a program of the host; nothing, said aloud, when it is not there.
fn tool(program: &str, args: &[&str]) -> Option<Output> {
    match Command::new(program).args(args).stdin(Stdio::null()).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            skipped(&format!("no `{program}` on this host"));
            None
        }
        other => Some(other.unwrap()),
    }
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    String::from_utf8(output.stdout).unwrap()
}

/// `cuddy` with its files in `place`, and nothing of our environment but `PATH`.
fn cuddy(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cuddy"));
    command.args(args).current_dir(place).env_clear().env("XDG_DATA_HOME", place);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

/// A folder with two images in it, for the command.
fn command_place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.tar"), two_images()).unwrap();
    succeeds(cuddy(dir.path(), &["load", "-i", "in.tar"]).output().unwrap());
    dir
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// ── out, and in again ───────────────────────────────────────────────────────────────────────────

#[test]
fn an_oci_archive_brings_every_digest_back() {
    let place = Place::with(&two_images());
    let again = Place::with(&place.saved(Form::Oci));
    assert_eq!(again.digests(), place.digests());
    assert!(place.digests().iter().all(|(_, names, manifest, _)| names.len() == 1 && manifest.is_some()));
}

#[test]
fn a_docker_archive_brings_ids_and_names_back() {
    let place = Place::with(&two_images());
    let again = Place::with(&place.saved(Form::Docker));
    let ids =
        |place: &Place| place.digests().into_iter().map(|(id, names, ..)| (id, names)).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&place));
    // Its layers are not compressed: what is older than Docker 1.10 looks at nothing else.
    for image in again.store.images().unwrap() {
        assert!(image.record.layers.iter().all(|layer| layer.blob == layer.diff_id));
    }
}

#[test]
fn a_docker_archive_of_an_image_that_is_here_takes_nothing_from_it() {
    let place = Place::with(&two_images());
    let (before, saved) = (place.digests(), place.saved(Form::Docker));
    let blobs = || fs::read_dir(place.path("store/blobs/sha256")).unwrap().count();
    let count = blobs();
    place.load(&saved).unwrap();
    assert_eq!(place.digests(), before, "the manifest of the registry is still known");
    assert_eq!(blobs(), count, "no layer is kept a second time");
}

#[test]
fn the_same_images_give_the_same_bytes_and_a_shared_layer_is_there_once() {
    let (one, other) = (Place::with(&two_images()), Place::with(&two_images()));
    for form in [Form::Docker, Form::Oci] {
        let saved = one.saved(form);
        assert_eq!(saved, other.saved(form));
        let mut names: Vec<String> = Vec::new();
        for entry in tar::Archive::new(saved.as_slice()).entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            names.push(entry.path().unwrap().display().to_string());
        }
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(names, once, "sorted, and each once");
        assert_eq!(
            names.iter().filter(|name| name.starts_with("blobs/sha256/") && name.len() > 20).count(),
            6
        );
    }
}

#[test]
fn a_layout_folder_takes_more_images_and_gives_each_of_them() {
    let place = Place::with(&two_images());
    let dir = place.path("layout");
    let all = place.all();
    for image in &all {
        write_folder(&place.store, std::slice::from_ref(image), &dir).unwrap();
    }
    let index = fs::read(dir.join("index.json")).unwrap();
    write_folder(&place.store, &all, &dir).unwrap();
    assert_eq!(fs::read(dir.join("index.json")).unwrap().len(), index.len(), "nothing is named twice");
    let again = Place::new();
    assert_eq!(again.load_folder(&dir, None).unwrap().len(), 2);
    assert_eq!(again.digests(), place.digests());
    for tag in ["1", "example.com/a/one:1"] {
        let one = Place::new();
        let id = all.iter().find(|image| image.names[0].tag() == Some("1")).unwrap().id.clone();
        assert_eq!(one.load_folder(&dir, Some(tag)).unwrap(), [id], "{tag}");
    }
    match Place::new().load_folder(&dir, Some("none")) {
        Err(ArchiveError::NoTag { available, .. }) => assert!(available.contains("example.com/a/two:2")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_disk_has_changed_is_not_passed_on() {
    for form in [Form::Docker, Form::Oci] {
        let place = Place::with(&two_images());
        let target = place.path("out.tar");
        fs::write(&target, "what was there").unwrap();
        let before = fs::read_dir(place.dir.path()).unwrap().count();
        let record = place.store.images().unwrap().swap_remove(0).record;
        let blob = place.store.blob(&record.layers[0].blob);
        let mut bytes = fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&blob, &bytes).unwrap();
        let wrong = write_file(&place.store, &place.all(), form, &target).unwrap_err();
        assert!(matches!(wrong, SaveError::Damaged { .. } | SaveError::Read { .. }), "{wrong}");
        bytes.pop();
        fs::write(&blob, &bytes).unwrap();
        let wrong = write_file(&place.store, &place.all(), form, &target).unwrap_err();
        assert!(matches!(wrong, SaveError::Damaged { .. }), "{wrong}");
        assert_eq!(fs::read(&target).unwrap(), b"what was there");
        assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), before, "nothing is left beside it");
        let wrong = write_folder(&place.store, &place.all(), &place.path("layout")).unwrap_err();
        assert!(matches!(wrong, SaveError::Damaged { .. }), "{wrong}");
        assert!(!place.path("layout/index.json").exists());
    }
}

#[test]
fn a_folder_that_is_no_layout_is_left_alone() {
    let place = Place::with(&two_images());
    let outside = place.path("outside");
    fs::create_dir(&outside).unwrap();
    let make: [(&str, Change<'_>); 5] = [
        ("other files", &|dir| fs::write(dir.join("x"), "").unwrap()),
        ("another layout", &|dir| {
            fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap()
        }),
        ("no JSON", &|dir| fs::write(dir.join("oci-layout"), "{").unwrap()),
        ("index without layout", &|dir| fs::write(dir.join("index.json"), "{}").unwrap()),
        ("blobs that lead out", &|dir| {
            fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
            symlink(&outside, dir.join("blobs")).unwrap();
        }),
    ];
    for (n, (what, make)) in make.into_iter().enumerate() {
        let dir = place.path(&format!("folder{n}"));
        fs::create_dir(&dir).unwrap();
        make(&dir);
        write_folder(&place.store, &place.all(), &dir).expect_err(what);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{what}");
    }
}

#[test]
fn a_blob_that_is_wrong_in_a_layout_is_written_anew() {
    let place = Place::with(&two_images());
    let dir = place.path("layout");
    write_folder(&place.store, &place.all(), &dir).unwrap();
    for entry in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, vec![b'x'; bytes.len()]).unwrap();
    }
    write_folder(&place.store, &place.all(), &dir).unwrap();
    let again = Place::new();
    again.load_folder(&dir, None).unwrap();
    assert_eq!(again.digests(), place.digests());
}

// ── read by others ──────────────────────────────────────────────────────────────────────────────

#[test]
fn skopeo_reads_every_form_and_finds_the_digests() {
    let dir = command_place();
    let (place, at) = (dir.path(), |name: &str| dir.path().join(name).display().to_string());
    succeeds(cuddy(place, &["save", "-o", "d.tar", "example.com/a/one:1"]).output().unwrap());
    let oci = ["save", "--format", "oci-archive", "-o", "o.tar", "example.com/a/one:1"];
    succeeds(cuddy(place, &oci).output().unwrap());
    succeeds(cuddy(place, &["save", "-o", "oci:lay", "example.com/a/one:1"]).output().unwrap());
    let legacy = ["save", "--format", "docker-archive-legacy", "-o", "legacy.tar", "example.com/a/one:1"];
    succeeds(cuddy(place, &legacy).output().unwrap());
    let index: Value = serde_json::from_slice(&fs::read(place.join("lay/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for (form, keeps_digest) in [
        (format!("docker-archive:{}", at("d.tar")), false),
        (format!("docker-archive:{}", at("legacy.tar")), false),
        (format!("oci-archive:{}", at("o.tar")), true),
        (format!("oci:{}:1", at("lay")), true),
    ] {
        let Some(output) = tool("skopeo", &["inspect", &form]) else { return };
        let said: Value = serde_json::from_str(&succeeds(output)).unwrap();
        assert_eq!(said["Layers"].as_array().unwrap().len(), 2, "{form}");
        assert_eq!(said["Digest"] == digest, keeps_digest, "{form}");
        let copied = format!("oci:{}:x", at(&format!("copy{}", form.len())));
        let Some(output) = tool("skopeo", &["--insecure-policy", "copy", "-q", &form, &copied]) else {
            return;
        };
        succeeds(output);
    }
}

#[test]
fn the_layout_of_older_dockers_has_a_folder_for_each_layer_and_comes_back_whole() {
    let dir = command_place();
    let place = dir.path();
    let list = |place: &Path| {
        let lines = ["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"];
        let mut ids: Vec<_> = succeeds(cuddy(place, &lines).output().unwrap())
            .lines()
            .filter(|line| !line.contains("<none>"))
            .map(str::to_owned)
            .collect();
        ids.sort();
        ids
    };
    let names = ["example.com/a/one:1", "example.com/a/two:2"];
    let save = ["save", "--format", "docker-archive-legacy", "-o", "legacy.tar", names[0], names[1]];
    succeeds(cuddy(place, &save).output().unwrap());
    let bytes = fs::read(place.join("legacy.tar")).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let members: Vec<String> =
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    let folders = members.iter().filter(|name| name.ends_with('/')).count();
    for file in ["VERSION", "json", "layer.tar"] {
        assert_eq!(
            members.iter().filter(|m| m.ends_with(&format!("/{file}"))).count(),
            folders,
            "{members:?}"
        );
    }
    let once: std::collections::BTreeSet<_> = members.iter().collect();
    assert_eq!(once.len(), members.len(), "nothing stands twice: {members:?}");
    let other = tempfile::tempdir().unwrap();
    fs::copy(place.join("legacy.tar"), other.path().join("legacy.tar")).unwrap();
    succeeds(cuddy(other.path(), &["load", "-i", "legacy.tar"]).output().unwrap());
    let known: Vec<_> =
        list(place).into_iter().filter(|line| names.iter().any(|name| line.ends_with(name))).collect();
    assert_eq!(list(other.path()), known);
}

#[test]
fn a_layout_of_skopeo_comes_back_whole() {
    let dir = command_place();
    let place = dir.path();
    // Out of a docker archive skopeo would make another configuration, and so another image.
    let oci = ["save", "--format", "oci-archive", "-o", "o.tar", "example.com/a/one:1"];
    succeeds(cuddy(place, &oci).output().unwrap());
    let from = format!("oci-archive:{}", place.join("o.tar").display());
    let to = format!("oci:{}:tagged", place.join("by-skopeo").display());
    let Some(output) = tool("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]) else { return };
    succeeds(output);
    let list = |place: &Path| {
        let ids = succeeds(cuddy(place, &["images", "-q", "--no-trunc"]).output().unwrap());
        ids.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let known = list(place);
    let other = tempfile::tempdir().unwrap();
    let layout = format!("oci:{}:tagged", place.join("by-skopeo").display());
    let said = succeeds(cuddy(other.path(), &["load", "-i", &layout]).output().unwrap());
    let id = said.trim().strip_prefix("Loaded image ID: ").unwrap();
    assert!(known.iter().any(|known| known == id), "{id} is none of {known:?}");
}

#[test]
fn umoci_unpacks_the_layout() {
    let dir = command_place();
    let place = dir.path();
    succeeds(cuddy(place, &["save", "-o", "oci:lay", "example.com/a/one"]).output().unwrap());
    let image = format!("{}:1", place.join("lay").display());
    let bundle = place.join("bundle").display().to_string();
    let Some(output) = tool("umoci", &["unpack", "--rootless", "--image", &image, &bundle]) else { return };
    succeeds(output);
    assert_eq!(fs::read(place.join("bundle/rootfs/etc/a")).unwrap(), b"above");
    assert_eq!(fs::read(place.join("bundle/rootfs/etc/b")).unwrap(), b"b");
}

/// The process that podman leaves to keep a user namespace, by the folder where it says so.
struct Paused(PathBuf);

impl Drop for Paused {
    fn drop(&mut self) {
        let number = fs::read_to_string(self.0.join("libpod/tmp/pause.pid")).unwrap_or_default();
        if let Some(pid) = number.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ended = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn podman_loads_both_archives() {
    let dir = command_place();
    let place = dir.path();
    let both = ["example.com/a/one:1", "example.com/a/two:2"];
    succeeds(cuddy(place, &["save", "-o", "d.tar", both[0], both[1]]).output().unwrap());
    let oci = ["save", "--format", "oci-archive", "-o", "o.tar", both[0]];
    succeeds(cuddy(place, &oci).output().unwrap());
    let (root, run) = (place.join("podman").display().to_string(), place.join("run").display().to_string());
    let paused = Paused(place.join("runtime"));
    fs::create_dir(&paused.0).unwrap();
    let podman = |args: &[&str]| {
        let own = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--events-backend", "none"];
        let runtime = format!("XDG_RUNTIME_DIR={}", paused.0.display());
        tool("env", &[&[runtime.as_str(), "podman"], &own[..], args].concat())
    };
    if tool("podman", &["--version"]).is_none() {
        return;
    }
    let legacy = ["save", "--format", "docker-archive-legacy", "-o", "legacy.tar", both[0], both[1]];
    succeeds(cuddy(place, &legacy).output().unwrap());
    for (archive, names) in [("d.tar", &both[..]), ("o.tar", &both[..1]), ("legacy.tar", &both[..])] {
        let path = place.join(archive).display().to_string();
        let Some(output) = podman(&["load", "-q", "-i", &path]) else { return };
        if !output.status.success() && stderr(&output).contains("namespace") {
            return skipped(&format!("podman does not work here: {}", stderr(&output)));
        }
        let said = succeeds(output);
        for name in names {
            assert!(said.contains(name), "{archive}: {said}");
        }
    }
    let known = succeeds(cuddy(place, &["images", "-q", "--no-trunc"]).output().unwrap());
    let Some(output) = podman(&["images", "-q", "--no-trunc"]) else { return };
    let mut ids: Vec<_> = succeeds(output).lines().map(str::to_owned).collect();
    ids.sort();
    let mut known: Vec<_> = known.lines().map(str::to_owned).collect();
    known.sort();
    assert_eq!(ids, known, "the same image has the same id");
}

// ── the command ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn standard_output_is_the_default_and_a_pipe_carries_it() {
    let dir = command_place();
    let place = dir.path();
    let saved = cuddy(place, &["save", "example.com/a/one:1", "example.com/a/two"]).output().unwrap();
    assert!(saved.status.success() && saved.stderr.is_empty());
    succeeds(
        cuddy(place, &["save", "-o", "out.tar", "example.com/a/one:1", "example.com/a/two"])
            .output()
            .unwrap(),
    );
    assert_eq!(fs::read(place.join("out.tar")).unwrap(), saved.stdout);
    assert_eq!(fs::metadata(place.join("out.tar")).unwrap().permissions().mode() & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let mut load = cuddy(other.path(), &["load"]);
    let mut load = load.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(&saved.stdout).unwrap();
    let said = succeeds(load.wait_with_output().unwrap());
    assert_eq!(said, "Loaded image: example.com/a/one:1\nLoaded image: example.com/a/two:2\n");
    succeeds(cuddy(place, &["save", "-o", "/dev/null", "example.com/a/one:1"]).output().unwrap());
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "a device stays one");
}

#[test]
fn a_name_without_a_tag_means_all_its_tags() {
    let dir = command_place();
    let place = dir.path();
    succeeds(cuddy(place, &["tag", "example.com/a/two:2", "example.com/a/one:3"]).output().unwrap());
    let saved = cuddy(place, &["save", "example.com/a/one"]).output().unwrap();
    fs::write(place.join("out.tar"), saved.stdout).unwrap();
    let other = tempfile::tempdir().unwrap();
    let said = cuddy(other.path(), &["load", "-i", &place.join("out.tar").display().to_string()]).output();
    let mut said: Vec<_> = succeeds(said.unwrap()).lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, ["Loaded image: example.com/a/one:1", "Loaded image: example.com/a/one:3"]);
}

#[test]
fn a_failed_save_leaves_nothing_and_says_why() {
    let dir = command_place();
    let place = dir.path();
    for (args, kind) in [
        (&["save", "-o", "out.tar", "example.com/a/none:1"][..], "No such image: example.com/a/none:1"),
        (&["save", "-o", "no/such/folder/out.tar", "example.com/a/one:1"], "cannot save to"),
        (&["save", "--format", "zip", "example.com/a/one:1"], "`zip` is not a format"),
        (&["save", "--format", "oci-dir", "example.com/a/one:1"], "cannot go to standard output"),
        (&["save", "--platform", "linux/s390x", "example.com/a/one:1"], "not linux/s390x"),
    ] {
        let output = cuddy(place, args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stdout.is_empty() && stderr(&output).contains(kind), "{args:?}: {}", stderr(&output));
    }
    assert!(!place.join("out.tar").exists());
}

#[test]
fn a_save_that_is_killed_at_any_moment_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    // Bytes that do not compress, so that there is something to write.
    let mut noise = vec![0_u8; 6 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    let layers = vec![tar_of(&[("noise", &noise)])];
    fs::write(place.join("in.tar"), archive(&layout(&[(&layers, Some("example.com/noise:1"))]))).unwrap();
    succeeds(cuddy(place, &["load", "-i", "in.tar"]).output().unwrap());
    fs::create_dir(place.join("out")).unwrap();
    let whole = cuddy(place, &["save", "example.com/noise:1"]).output().unwrap().stdout;
    for turn in 0..20 {
        let mut save = cuddy(place, &["save", "-o", "out/noise.tar", "example.com/noise:1"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(turn * 5));
        save.kill().unwrap();
        let ended = save.wait().unwrap().success();
        let left: Vec<_> = fs::read_dir(place.join("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty() || left == ["noise.tar"], "{left:?}");
        assert!(!ended || !left.is_empty());
        if !left.is_empty() {
            assert_eq!(fs::read(place.join("out/noise.tar")).unwrap(), whole, "what has its name is whole");
            fs::remove_file(place.join("out/noise.tar")).unwrap();
        }
    }
}

#[test]
fn a_terminal_is_refused() {
    let dir = command_place();
    let command = format!("{} save example.com/a/one:1", env!("CARGO_BIN_EXE_cuddy"));
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("XDG_DATA_HOME", dir.path()).stdin(Stdio::null());
    match script.output() {
        Err(_) => skipped("no `script` on this host"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("cowardly refusing to save to a terminal"), "{said}");
            assert_eq!(output.status.code(), Some(1));
        }
    }
}

// ── in from more places ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_hostile_folder_is_refused_and_leads_nowhere() {
    let files = layout(&[(&two_layers(), Some("a:1"))]);
    let some_blob = files.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("blob"), &files[&some_blob]).unwrap();
    fs::write(outside.path().join("index.json"), &files["index.json"]).unwrap();
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let replace: [(&str, &str, Change<'_>); 7] = [
        ("a blob that leads out", &some_blob, &|path| symlink(outside.path().join("blob"), path).unwrap()),
        ("an index that leads out", "index.json", &|path| {
            symlink(outside.path().join("index.json"), path).unwrap();
        }),
        ("a blob that climbs", &some_blob, &|path| symlink("../../../x/blob", path).unwrap()),
        ("a pipe", &some_blob, &fifo),
        ("a pipe for an index", "index.json", &fifo),
        ("a folder", &some_blob, &|path| fs::create_dir(path).unwrap()),
        ("a link to itself", "oci-layout", &|path| symlink("oci-layout", path).unwrap()),
    ];
    for (what, name, replace) in replace {
        let dir = tempfile::tempdir().unwrap();
        folder(&files, dir.path());
        fs::remove_file(dir.path().join(name)).unwrap();
        replace(&dir.path().join(name));
        let place = Place::new();
        place.load_folder(dir.path(), None).expect_err(what);
        assert!(place.store.images().unwrap().is_empty(), "{what}");
    }
}

#[test]
fn links_inside_a_folder_are_followed() {
    let files = layout(&[(&two_layers(), Some("a:1"))]);
    let dir = tempfile::tempdir().unwrap();
    folder(&files, dir.path());
    fs::rename(dir.path().join("blobs/sha256"), dir.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", dir.path().join("blobs/sha256")).unwrap();
    assert_eq!(Place::new().load_folder(dir.path(), None).unwrap().len(), 1);
}

#[test]
fn of_several_platforms_the_one_that_is_asked_for_is_loaded() {
    let (here, other) = (if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "s390x");
    let mut files = layout(&[(&two_layers(), None)]);
    let mut index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let mut foreign: Vec<_> = index["manifests"].as_array().unwrap().clone();
    // The same image for another processor: its manifest and configuration say so.
    let text =
        |digest: &Value| format!("blobs/sha256/{}", digest.as_str().unwrap().trim_start_matches("sha256:"));
    let mut manifest: Value = serde_json::from_slice(&files[&text(&foreign[0]["digest"])]).unwrap();
    let config = String::from_utf8(files[&text(&manifest["config"]["digest"])].clone()).unwrap();
    let config = config.replace(here, other).into_bytes();
    manifest["config"]["digest"] = json!(digest_of(&config));
    manifest["config"]["size"] = json!(config.len());
    let manifest = manifest.to_string().into_bytes();
    for bytes in [config.clone(), manifest.clone()] {
        files.insert(format!("blobs/sha256/{}", digest_of(&bytes).hex()), bytes);
    }
    foreign[0]["digest"] = json!(digest_of(&manifest));
    foreign[0]["size"] = json!(manifest.len());
    foreign[0]["platform"] = json!({"os": "linux", "architecture": other});
    index["manifests"][0]["platform"] = json!({"os": "linux", "architecture": here});
    index["manifests"].as_array_mut().unwrap().extend(foreign);
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
    let dir = tempfile::tempdir().unwrap();
    folder(&files, &dir.path().join("lay"));
    let load = |more: &[&str]| cuddy(dir.path(), &[&["load", "-i", "lay"], more].concat()).output().unwrap();
    let said = succeeds(load(&["--platform", "linux/s390x"]));
    assert_eq!(said, format!("Loaded image ID: {}\n", digest_of(&config)));
    assert_ne!(succeeds(load(&[])), said);
    let none = load(&["--platform", "linux/riscv64"]);
    assert!(stderr(&none).contains("has no image for linux/riscv64"), "{}", stderr(&none));
    fs::write(dir.path().join("one.tar"), two_images()).unwrap();
    let none = cuddy(dir.path(), &["load", "-i", "one.tar", "--platform", "linux/s390x"]).output().unwrap();
    assert!(stderr(&none).contains("has no image for linux/s390x"), "{}", stderr(&none));
    let wrong = load(&["--platform", "s390x"]);
    assert!(stderr(&wrong).contains("is not a platform"), "{}", stderr(&wrong));
}

#[test]
fn an_archive_of_the_oldest_form_is_told_from_no_archive() {
    let old = tar_of(&[("repositories", b"{}"), ("0123/json", b"{}"), ("0123/layer.tar", b"")]);
    assert!(matches!(Place::new().load(&old), Err(ArchiveError::TooOld)));
    assert!(matches!(Place::new().load(&tar_of(&[("x", b"")])), Err(ArchiveError::NoImage)));
}

/// The bytes through a program of the host.
fn through(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        skipped(&format!("no `{program}` on this host"));
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let fed = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let out = child.wait_with_output().unwrap().stdout;
    fed.join().unwrap();
    Some(out)
}

#[test]
fn archives_that_are_compressed_as_a_whole_come_in_from_files_and_pipes() {
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let Some(packed) = through(program, &two_images()) else { continue };
        for by_pipe in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("in");
            fs::write(&path, &packed).unwrap();
            let output = if by_pipe {
                let mut load = cuddy(dir.path(), &["load"]);
                let load = load.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut load = load.spawn().unwrap();
                load.stdin.take().unwrap().write_all(&packed).unwrap();
                load.wait_with_output().unwrap()
            } else {
                cuddy(dir.path(), &["load", "-i", "in"]).output().unwrap()
            };
            assert_eq!(succeeds(output).lines().count(), 2, "{program}");
        }
    }
}

#[test]
fn a_damaged_or_unreadable_compressed_archive_says_what_is_missing() {
    let Some(mut packed) = through("xz", &two_images()) else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("good"), &packed).unwrap();
    let output = cuddy(dir.path(), &["load", "-i", "good"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("it takes `xz`, which is not here"), "{}", stderr(&output));
    assert!(stderr(&output).contains("xz -dc FILE | cuddy load"), "{}", stderr(&output));
    packed.truncate(packed.len() - 20);
    fs::write(dir.path().join("cut"), &packed).unwrap();
    let output = cuddy(dir.path(), &["load", "-i", "cut"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`xz` says that it is damaged"), "{}", stderr(&output));
}

// ── from a Docker ───────────────────────────────────────────────────────────────────────────────

/// A socket that gives these answers, one a connection, and the first lines of what it was asked.
fn docker(dir: &Path, answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<String>>) {
    let path = dir.join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let serving = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            asked.push(lines.next().unwrap().unwrap());
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            // Whoever refuses an answer does not read it to its end.
            let _all = stream.write_all(&answer);
        }
        asked
    });
    (format!("unix://{}", path.display()), serving)
}

/// As dockerd writes it: a head, and the body in chunks.
fn chunked(body: &[u8]) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nContent-Type: application/x-tar\r\nDocker-Experimental: false\r\nOstype: linux\r\nServer: Docker/28.2.2 (linux)\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(3000) {
        answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

fn with_length(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn load_from_docker(answers: Vec<Vec<u8>>, images: &[&str]) -> (Output, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let (host, serving) = docker(dir.path(), answers);
    let args = [&["load", "--from", "docker"], images].concat();
    let output = cuddy(dir.path(), &args).env("DOCKER_HOST", host).output().unwrap();
    (output, serving.join().unwrap())
}

#[test]
fn images_come_out_of_a_running_docker() {
    let place = Place::with(&two_images());
    let archive = place.saved(Form::Docker);
    for answer in [chunked(&archive), with_length("200 OK", &archive)] {
        let (output, asked) = load_from_docker(vec![answer], &["a/one:1", "b&c"]);
        let said = succeeds(output);
        assert_eq!(said, "Loaded image: example.com/a/one:1\nLoaded image: example.com/a/two:2\n");
        assert_eq!(asked, ["GET /images/get?names=a%2Fone%3A1&names=b%26c HTTP/1.1"]);
    }
    let list = json!([{"Id": "x", "RepoTags": ["one:1", "<none>:<none>"]}, {"RepoTags": null}, {"RepoTags": ["two:2"]}]);
    let answers = vec![with_length("200 OK", list.to_string().as_bytes()), chunked(&archive)];
    let (output, asked) = load_from_docker(answers, &[]);
    succeeds(output);
    assert_eq!(asked, ["GET /images/json HTTP/1.1", "GET /images/get?names=one%3A1&names=two%3A2 HTTP/1.1"]);
}

#[test]
fn a_docker_that_stops_or_lies_leaves_nothing() {
    let place = Place::with(&two_images());
    let archive = place.saved(Form::Docker);
    let whole = chunked(&archive);
    let refused = json!({"message": "reference does not exist"}).to_string();
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n").into_bytes();
    let answers: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no such image", with_length("404 Not Found", refused.as_bytes()), "reference does not exist"),
        ("an error", with_length("500 Internal Server Error", b"oops"), "status 500"),
        ("cut off in a chunk", whole[..whole.len() / 2].to_vec(), "cut off"),
        ("cut off before the last chunk", whole[..whole.len() - 5].to_vec(), "cut off"),
        ("cut off in the body", with_length("200 OK", &archive)[..9000].to_vec(), "cut off"),
        ("closed at once", Vec::new(), "cut off"),
        ("a length that is none", head("Content-Length: 99999999999999999999"), "its length is no number"),
        (
            "a huge length",
            [head("Content-Length: 18446744073709551615"), archive.clone()].concat(),
            "cut off",
        ),
        (
            "a chunk that is none",
            [head("Transfer-Encoding: chunked"), b"zz\r\n".to_vec()].concat(),
            "no number",
        ),
        (
            "a huge chunk",
            [head("Transfer-Encoding: chunked"), b"ffffffffffffffff\r\nx".to_vec()].concat(),
            "cut off",
        ),
        ("two lengths", head("Content-Length: 1\r\nContent-Length: 2"), "two lengths"),
        ("both ways", head("Content-Length: 1\r\nTransfer-Encoding: chunked"), "a length and chunks"),
        ("a head without end", head(&format!("A: {}", "x".repeat(100_000))), "too long"),
        ("another protocol", b"SSH-2.0-OpenSSH\r\n".to_vec(), "does not begin with"),
        ("no archive", with_length("200 OK", b"hello"), "good tar archive"),
    ];
    for (what, answer, why) in answers {
        let (output, _) = load_from_docker(vec![answer], &["x"]);
        assert_eq!(output.status.code(), Some(1), "{what}");
        assert!(stderr(&output).contains(why), "{what}: {}", stderr(&output));
    }
    let (output, _) = load_from_docker(vec![with_length("200 OK", b"[]")], &[]);
    assert!(stderr(&output).contains("Docker has no image with a name"), "{}", stderr(&output));
}

#[test]
fn without_a_docker_it_is_said_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (host, why) in [
        ("unix:///nowhere/docker.sock", "cannot reach Docker"),
        ("tcp://10.0.0.1:2375", "only a unix socket"),
    ] {
        let output =
            cuddy(dir.path(), &["load", "--from", "docker", "x"]).env("DOCKER_HOST", host).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(why), "{}", stderr(&output));
        assert!(stderr(&output).contains("docker save IMAGE | cuddy load"), "{}", stderr(&output));
    }
    let output = cuddy(dir.path(), &["load", "-i", "x", "--from", "docker"]).output().unwrap();
    assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
}

#[test]
fn a_pipe_can_be_written_to_and_stays_one() {
    let dir = command_place();
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let inode = fs::metadata(&fifo).unwrap().ino();
    let mut save = cuddy(dir.path(), &["save", "-o", "fifo", "example.com/a/two:2"]).spawn().unwrap();
    let mut bytes = Vec::new();
    File::open(&fifo).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(save.wait().unwrap().success());
    assert_eq!(fs::metadata(&fifo).unwrap().ino(), inode);
    assert_eq!(Place::new().load(&bytes).unwrap().len(), 1);
}
