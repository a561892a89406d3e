//! Images from an archive to a running command: what comes in, what it says to `run`, what is refused.
//!
//! What layers may hold entry by entry is looked at in `tests/images.rs`.

use std::path::Path;

use serde_json::{Value, json};
use tar::EntryType;

use crate::archive::{Image, Layer, Pack, gzip, load, plain, zstd};
use crate::harness::{Ended, Host, PROBE, has_subordinate_ids, names, require};

/// The probe alone, as the program of its image.
fn probe_image() -> Image {
    Image::new(vec![Layer::probe()], json!({"Entrypoint": [PROBE]}))
}

/// A loaded image of the probe and one more layer, under the name `it`.
fn host_with(layer: Layer, config: Value) -> Host {
    let host = Host::new();
    load(&host, "it", &Image::new(vec![Layer::probe(), layer], config));
    host
}

fn run(host: &Host, flags: &[&str], words: &[&str]) -> Ended {
    host.cuddy(&[&["run", "--rm"], flags, &["it"], words].concat())
}

/// Ids and names as `cuddy images` lists them.
fn listing(host: &Host) -> String {
    host.cuddy(&["images", "--no-trunc", "--format", "json"]).exits(0).text()
}

// ── in ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_image_runs_whatever_archive_and_packing_it_came_in() {
    let image = probe_image();
    for pack in [plain as Pack, gzip, zstd] {
        for whole in [plain as Pack, gzip, zstd] {
            for (kind, archive) in
                [("docker", image.docker("me/it:1", pack)), ("oci", image.oci("me/it:1", pack))]
            {
                let host = Host::new();
                host.write("it.tar", whole(&archive));
                let ended = host.cuddy(&["load", "-i", "it.tar"]).exits(0);
                assert_eq!(ended.text(), "Loaded image: me/it:1\n", "{kind}");
                host.cuddy(&["run", "--rm", "me/it:1", "exit", "9"]).exits(9);
                host.cuddy(&["run", "--rm", &image.id()[..12], "exit", "8"]).exits(8);
            }
        }
    }
}

#[test]
fn a_container_that_ends_does_not_make_the_host_write_its_disk_out() {
    let host = Host::new();
    load(&host, "it", &probe_image());
    let seen = run(&host, &[], &["mounts"]).sees();
    let options = seen.mount("/").and_then(|root| root["super_options"].as_str()).unwrap_or_default();
    assert!(options.split(',').any(|option| option.ends_with("volatile")), "{options}");
    // What `volatile` leaves is closed even to its owner, and goes all the same.
    assert_eq!(names(&host.data().join("containers")).len(), 0);
}

#[test]
fn an_image_is_run_by_every_name_it_has() {
    let host = Host::new();
    let image = probe_image();
    load(&host, "it", &image);
    let id = image.id();
    for name in [
        "it",
        "it:latest",
        "docker.io/library/it",
        "docker.io/library/it:latest",
        &id,
        &id[..12],
        &format!("sha256:{id}"),
    ] {
        host.cuddy(&["run", "--rm", name, "exit", "7"]).exits(7);
    }
    for name in ["it:other", "its", "example.org/it", &format!("sha256:{}", "0".repeat(64))] {
        host.cuddy(&["run", "--rm", name, "true"]).is_refused(&[]);
    }
    let listed: Value = serde_json::from_str(&listing(&host)).expect("one image, one line");
    assert!(listed["ID"].as_str().is_some_and(|found| found.ends_with(&id)), "{listed}");
    assert_eq!(host.cuddy(&["images", "-q"]).exits(0).text(), format!("{}\n", &id[..12]));
}

#[test]
fn an_archive_on_standard_input_is_loaded_from_a_pipe_and_from_a_file() {
    let host = Host::new();
    let archive = probe_image().docker("it", gzip);
    let ended = host.cuddy_reading(&["load"], &archive).exits(0);
    assert_eq!(ended.text(), "Loaded image: it:latest\n");
    run(&host, &[], &["exit", "5"]).exits(5);
}

#[test]
fn a_tar_is_imported_and_run_with_the_command_typed() {
    let host = Host::new();
    for (name, pack) in [("plain", plain as Pack), ("gz", gzip), ("zst", zstd)] {
        host.write("root.tar", pack(&Layer::probe().end()));
        let ended = host.cuddy(&["import", "root.tar", name]).exits(0);
        assert!(ended.text().starts_with("sha256:") && ended.text().len() == 72, "its id: {}", ended.text());
        host.cuddy(&["run", "--rm", name, PROBE, "exit", "6"]).exits(6);
        host.cuddy(&["run", "--rm", name]).is_refused(&["no command", name]);
    }
}

#[test]
fn a_tar_on_standard_input_is_imported() {
    let host = Host::new();
    host.cuddy_reading(&["import", "-", "it"], &Layer::probe().end()).exits(0);
    run(&host, &[], &[PROBE, "exit", "5"]).exits(5);
    host.cuddy_reading(&["import", "-"], b"").exits(1);
}

#[test]
fn what_a_layer_removed_is_not_seen_inside() {
    let below =
        Layer::probe().dir("d/").file("d/old", "old").file("gone", "x").file("same", "below").dir("e/");
    let below = below.file("e/stays", "stays");
    let above = Layer::new().dir("d/").file("d/.wh..wh..opq", "").file("d/new", "new").file(".wh.gone", "");
    let above = above.file("same", "above").dir("e/").file("e/more", "more");
    let host = Host::new();
    load(&host, "it", &Image::new(vec![below, above], json!({"Entrypoint": [PROBE]})));
    let list = |path: &str| {
        let seen = run(&host, &[], &["ls", path]).sees();
        let mut names: Vec<_> =
            seen.all("entry").map(|entry| entry["name"].as_str().expect("text").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(list("/d"), ["new"]);
    assert_eq!(list("/e"), ["more", "stays"]);
    assert_eq!(run(&host, &[], &["read", "/same"]).exits(0).text(), "above");
    run(&host, &[], &["read", "/gone"]).exits(1);
}

#[test]
fn what_a_container_writes_is_not_in_the_next_one() {
    let host = host_with(Layer::new().file("file", "image's"), json!({"Entrypoint": [PROBE]}));
    run(&host, &[], &["write", "/file", "changed"]).exits(0);
    run(&host, &[], &["write", "/new", "new"]).exits(0);
    assert_eq!(run(&host, &[], &["read", "/file"]).exits(0).text(), "image's");
    run(&host, &[], &["read", "/new"]).exits(1);
    run(&host, &["--read-only"], &["write", "/file", "changed"]).exits(1);
    assert_eq!(host.containers(), [""; 0]);
}

// ── what an image says ──────────────────────────────────────────────────────────────────────────

#[test]
fn the_program_is_the_entrypoint_and_the_command_its_arguments() {
    let config = json!({"Entrypoint": [PROBE, "argv"], "Cmd": ["image", "command"]});
    let host = host_with(Layer::new(), config);
    let argv = |flags: &[&str], words: &[&str]| run(&host, flags, words).sees().one("argv")["values"].clone();
    assert_eq!(argv(&[], &[]), json!([PROBE, "argv", "image", "command"]));
    assert_eq!(argv(&[], &["typed"]), json!([PROBE, "argv", "typed"]));
    assert_eq!(argv(&["--entrypoint", PROBE], &["argv", "typed"]), json!([PROBE, "argv", "typed"]));
    // An entrypoint that was typed drops the image's command: the probe has no view without a name.
    run(&host, &["--entrypoint", PROBE], &[]).exits(64);
    run(&host, &["--entrypoint", ""], &[PROBE, "exit", "4"]).exits(4);
    run(&host, &["--entrypoint", ""], &[]).is_refused(&["no command"]);
}

#[test]
fn the_variables_of_an_image_are_there_and_flags_win_over_them() {
    let config = json!({"Entrypoint": [PROBE, "identity"], "Env": ["PATH=/image", "A=image", "B=image=b"]});
    let host = host_with(Layer::new(), config);
    let seen = run(&host, &["-e", "A=flag"], &[]).sees();
    let found = ["PATH", "A", "B"].map(|name| seen.variable(name).unwrap_or_default());
    assert_eq!(found, ["/image", "flag", "image=b"]);
}

#[test]
fn a_variable_that_an_image_only_names_is_not_copied_from_the_caller() {
    let mut host = Host::new();
    host.set("SECRET_TOKEN", "s3cret");
    for entry in ["SECRET_TOKEN", "SECRET_TOKEN ", "=SECRET_TOKEN", "\u{0}"] {
        let config = json!({"Entrypoint": [PROBE, "identity"], "Env": ["A=b", entry]});
        load(&host, "it", &Image::new(vec![Layer::probe()], config));
        let ended = run(&host, &[], &[]);
        assert!(!ended.text().contains("s3cret"), "{entry:?}: {}", ended.text());
        assert!(ended.code == 0 || ended.code == 125, "{entry:?}: {ended:?}");
    }
}

#[test]
fn an_image_whose_words_are_not_what_they_must_be_is_told() {
    for (what, config) in [
        ("folder", json!({"Entrypoint": [PROBE, "identity"], "WorkingDir": "relative"})),
        ("climbing folder", json!({"Entrypoint": [PROBE, "identity"], "WorkingDir": "/../../.."})),
        (
            "volume",
            json!({"Entrypoint": [PROBE, "identity"], "Volumes": {"relative": {}, "/a/../../b": {}, "/": {}, "/proc": {}, "/dev": {}}}),
        ),
        ("volume on all", json!({"Entrypoint": [PROBE, "identity"], "Volumes": {"/": {}}})),
        ("volume on dev", json!({"Entrypoint": [PROBE, "identity"], "Volumes": {"/dev": {}}})),
        ("program", json!({"Entrypoint": ["\u{0}"]})),
        ("empty program", json!({"Entrypoint": [""]})),
        ("nothing", Value::Null),
    ] {
        let host = Host::new();
        host.write("it.tar", Image::new(vec![Layer::probe()], config).docker("it", plain));
        let loaded = host.cuddy(&["load", "-i", "it.tar"]);
        if loaded.code == 0 {
            let ended = run(&host, &[], &[]);
            assert!([0, 125, 126, 127].contains(&ended.code), "{what}: {ended:?}");
            assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        } else {
            assert!(loaded.stderr.starts_with("cuddy: "), "{what}: {loaded:?}");
        }
        assert_eq!(host.containers(), [""; 0], "{what}");
        assert_eq!(names(&host.data().join("volumes")), [""; 0], "{what}");
    }
}

#[test]
fn the_folder_of_an_image_is_where_the_command_starts() {
    let host = host_with(Layer::new(), json!({"Entrypoint": [PROBE, "identity"], "WorkingDir": "/srv/app"}));
    assert_eq!(run(&host, &[], &[]).sees().one("session")["cwd"], "/srv/app");
    assert_eq!(run(&host, &["-w", "/"], &[]).sees().one("session")["cwd"], "/");
}

#[test]
fn the_user_of_an_image_is_looked_up_in_the_image() {
    if !require("subids", has_subordinate_ids()) {
        return;
    }
    let layer = Layer::new().dir("etc/").file("etc/passwd", "www:x:33:34::/var/www:\n");
    let layer = layer.file("etc/group", "data:x:50:www\n");
    let host = host_with(layer, json!({"Entrypoint": [PROBE, "identity"], "User": "www"}));
    let seen = run(&host, &[], &[]).sees();
    let ids = seen.one("ids");
    assert_eq!((&ids["uid"], &ids["gid"], &ids["groups"]), (&33.into(), &34.into(), &json!([50])));
    assert_eq!(seen.variable("HOME").as_deref(), Some("/var/www"));
    assert_eq!(run(&host, &["-u", "0"], &[]).sees().one("ids")["uid"], 0);
}

#[test]
fn files_of_other_owners_are_theirs_inside() {
    if !require("subids", has_subordinate_ids()) {
        return;
    }
    let layer = Layer::new().entry("owned", EntryType::Regular, 0o640, 1000, b"x", "");
    let host = host_with(layer, json!({"Entrypoint": [PROBE]}));
    let seen = run(&host, &[], &["ls", "/"]).sees();
    let owned = seen.all("entry").find(|entry| entry["name"] == "owned").expect("it is there");
    assert_eq!((&owned["uid"], &owned["gid"], &owned["mode"]), (&1000.into(), &1000.into(), &"0640".into()));
    run(&host, &["-u", "1000:1000"], &["read", "/owned"]).exits(0);
    run(&host, &["-u", "1001:1001"], &["read", "/owned"]).exits(1);
}

#[test]
fn the_volumes_of_an_image_are_mounted_and_gone_afterwards() {
    let config = json!({"Entrypoint": [PROBE], "Volumes": {"/data": {}, "/var/lib/it": {}}});
    let host = host_with(Layer::new(), config);
    let seen = run(&host, &[], &["mounts"]).sees();
    for point in ["/data", "/var/lib/it"] {
        assert!(seen.mount(point).is_some(), "`{point}` is mounted: {seen:#?}");
    }
    run(&host, &["--read-only"], &["write", "/data/file", "x"]).exits(0);
    run(&host, &[], &["read", "/data/file"]).exits(1);
    assert_eq!(names(&host.data().join("volumes")), [""; 0]);
    run(&host, &["-v", "kept:/data"], &["write", "/data/file", "x"]).exits(0);
    run(&host, &["-v", "kept:/data"], &["read", "/data/file"]).exits(0);
}

#[test]
fn the_rest_of_what_an_image_says_is_taken_in() {
    let config = json!({"Entrypoint": [PROBE, "true"], "StopSignal": "SIGINT", "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}});
    run(&host_with(Layer::new(), config), &[], &[]).exits(0);
}

#[test]
fn a_platform_that_the_image_is_not_refused() {
    let host = host_with(Layer::new(), json!({"Entrypoint": [PROBE]}));
    run(&host, &["--pull", "never", "--platform", "linux/s390x"], &["true"]).is_refused(&["s390x"]);
    let own = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    run(&host, &["--platform", own], &["true"]).exits(0);
}

// ── hostile images ──────────────────────────────────────────────────────────────────────────────

#[test]
fn a_user_that_is_not_exactly_one_id_is_never_root_though_the_image_says_so() {
    for user in ["-1", "4294967296", "0x0", "+0", "root:", ":0", "0:-1", "no-such-user", " "] {
        let layer = Layer::new().dir("etc/").file("etc/passwd", "root:x:0:0::/:\n");
        let host = host_with(layer, json!({"Entrypoint": [PROBE, "identity"], "User": user}));
        let ended = run(&host, &[], &[]).is_refused(&[]);
        let words = ["user", "group"];
        assert!(words.iter().any(|word| ended.stderr.contains(word)), "{user:?}: {}", ended.stderr);
        assert_eq!(host.containers(), [""; 0], "{user:?}");
    }
}

#[test]
fn a_table_of_users_that_is_no_plain_small_file_is_an_error_in_time() {
    let canary = "root:x:0:0::/:\nevil:x:0:0::/:\n";
    let host = Host::new();
    host.write("passwd", canary);
    let outside = host.text("passwd");
    let big = format!("a:x:1:1::/:\n{}", "#".repeat(5 << 20));
    let tables = [
        ("fifo", Layer::new().dir("etc/").entry("etc/passwd", EntryType::Fifo, 0o644, 0, b"", "")),
        ("folder", Layer::new().dir("etc/").dir("etc/passwd/")),
        ("huge", Layer::new().dir("etc/").file("etc/passwd", big)),
        ("absolute link", Layer::new().dir("etc/").symlink("etc/passwd", &outside)),
        (
            "climbing link",
            Layer::new().dir("etc/").symlink("etc/passwd", &format!("../../../../../..{outside}")),
        ),
        ("link to itself", Layer::new().dir("etc/").symlink("etc/passwd", "passwd")),
        ("etc leads out", Layer::new().symlink("etc", host.path("").to_str().expect("ASCII"))),
        ("kernel's file", Layer::new().dir("etc/").symlink("etc/passwd", "/proc/self/environ")),
    ];
    for (what, layer) in tables {
        load(
            &host,
            "it",
            &Image::new(vec![Layer::probe(), layer], json!({"Entrypoint": [PROBE, "identity"]})),
        );
        let ended = run(&host, &["--user", "evil"], &[]).is_refused(&[]);
        let words = ["passwd", "evil", "`/etc`"];
        assert!(words.iter().any(|word| ended.stderr.contains(word)), "{what}: {}", ended.stderr);
        assert_eq!(host.containers(), [""; 0], "{what}");
    }
    assert_eq!(std::fs::read_to_string(outside).expect("it is there"), canary);
}

#[test]
fn a_link_where_the_kernel_s_file_systems_belong_is_refused_and_leads_nowhere() {
    for place in ["dev", "proc", "sys"] {
        let host = Host::new();
        host.write("canary/file", "alive");
        let outside = host.text("canary");
        for target in [outside.as_str(), "/tmp", ".", "../../../../../../tmp"] {
            let layer = Layer::new().dir("tmp/").symlink(place, target);
            load(
                &host,
                "it",
                &Image::new(vec![Layer::probe(), layer], json!({"Entrypoint": [PROBE, "true"]})),
            );
            run(&host, &[], &[]).is_refused(&[&format!("/{place}"), "link"]);
            assert_eq!(names(&host.path("canary")), ["file"], "/{place} -> {target}");
            assert_eq!(host.containers(), [""; 0]);
        }
        let layer = Layer::new().file(place, "a file");
        load(&host, "it", &Image::new(vec![Layer::probe(), layer], json!({"Entrypoint": [PROBE, "true"]})));
        run(&host, &[], &[]).is_refused(&[&format!("/{place}")]);
    }
}

#[test]
fn a_folder_to_start_in_that_is_a_link_stays_inside() {
    let host = Host::new();
    host.write("canary/file", "alive");
    let outside = host.text("canary");
    for target in [outside.as_str(), "../../../../../../../..", "/proc/self/fd/7", "/proc/1/root"] {
        let layer = Layer::new().symlink("app", target);
        let config = json!({"Entrypoint": [PROBE], "WorkingDir": "/app/below"});
        load(&host, "it", &Image::new(vec![Layer::probe(), layer], config));
        let ended = run(&host, &[], &["ls", "."]);
        assert!(!ended.text().contains("\"file\""), "{target}: {ended:?}");
        let ended = run(&host, &["-w", "/app"], &["identity"]);
        assert!(ended.code == 0 || ended.code == 125, "{target}: {ended:?}");
        if ended.code == 0 {
            let seen = ended.sees();
            let cwd = seen.one("session")["cwd"].as_str().expect("text").to_owned();
            assert!(cwd.starts_with('/') && !cwd.contains("unreachable"), "{target}: {cwd}");
        }
        assert_eq!(names(&host.path("canary")), ["file"], "{target}");
    }
    for place in ["/proc/self/fd/8", "/proc/self", "/sys/kernel"] {
        run(&host, &["-w", place], &["true"]).is_refused(&[place]);
    }
}

#[test]
fn a_mount_point_that_is_a_link_stays_inside() {
    let host = Host::new();
    host.write("canary/file", "alive");
    host.write("mine/file", "mine");
    let outside = host.text("canary");
    let mine = host.text("mine");
    for target in [outside.as_str(), "../../../../../../.."] {
        let layer = Layer::new().symlink("it", target);
        load(&host, "it", &Image::new(vec![Layer::probe(), layer], json!({"Entrypoint": [PROBE]})));
        for mount in [format!("{mine}:/it/new"), format!("{mine}/file:/it/file"), format!("{mine}:/it")] {
            run(&host, &["-v", &mount], &["true"]);
            run(&host, &["--tmpfs", "/it/memory"], &["true"]);
            assert_eq!(names(&host.path("canary")), ["file"], "{mount} -> {target}");
            assert_eq!(std::fs::read(host.path("canary/file")).expect("it is there"), b"alive");
        }
    }
}

#[test]
fn the_files_that_we_make_do_not_follow_the_image_s_links() {
    let host = Host::new();
    host.write("canary", "alive");
    let outside = host.text("canary");
    let layer = Layer::new().dir("etc/").symlink("etc/hosts", &outside).symlink("etc/resolv.conf", "hosts");
    let layer = layer.symlink("etc/hostname", "../../../../../../../..");
    load(&host, "it", &Image::new(vec![Layer::probe(), layer], json!({"Entrypoint": [PROBE]})));
    run(&host, &["-h", "box"], &["read", "/etc/hostname"]);
    assert_eq!(std::fs::read(host.path("canary")).expect("it is there"), b"alive");
}

// ── corrupt archives ────────────────────────────────────────────────────────────────────────────

#[test]
fn an_archive_that_is_wrong_changes_nothing_and_the_next_good_one_is_loaded() {
    let host = Host::new();
    load(&host, "it", &probe_image());
    let before =
        (listing(&host), names(&host.data().join("layers")), names(&host.data().join("blobs/sha256")));
    let good = Image::new(
        vec![Layer::probe(), Layer::new().file("more", vec![b'x'; 4 << 20])],
        json!({"Entrypoint": [PROBE]}),
    );
    let with = |layer: Layer| Image::new(vec![Layer::probe(), layer], json!({})).docker("bad", plain);
    let whole = good.docker("bad", gzip);
    let mut flipped = good.oci("bad", plain);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("no archive", b"hello, world".repeat(1000)),
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("truncated gzip", gzip(&whole)[..whole.len() / 3].to_vec()),
        ("one bit", flipped),
        ("climbs", with(Layer::new().file("../../escaped", "x"))),
        (
            "through a link",
            with(
                Layer::new().symlink("out", host.path("").to_str().expect("ASCII")).file("out/escaped", "x"),
            ),
        ),
        (
            "hard link outside",
            with(Layer::new().entry("link", EntryType::Link, 0o644, 0, b"", "../../../etc/passwd")),
        ),
        ("no manifest", Layer::new().file("hello", "x").end()),
        ("manifest is no JSON", Layer::new().file("manifest.json", "[{").end()),
        (
            "layer missing",
            Layer::new()
                .file(
                    "manifest.json",
                    json!([{"Config": "c.json", "RepoTags": ["bad"], "Layers": ["none"]}]).to_string(),
                )
                .file("c.json", "{}")
                .end(),
        ),
    ];
    for (what, archive) in archives {
        host.write("bad.tar", &archive);
        let ended = host.cuddy(&["load", "-i", "bad.tar"]);
        assert!(ended.code != 0 && ended.stdout.is_empty(), "{what} was loaded: {ended:?}");
        assert!(
            ended.stderr.starts_with("cuddy: ") && !ended.stderr.contains("panicked"),
            "{what}: {ended:?}"
        );
        let after =
            (listing(&host), names(&host.data().join("layers")), names(&host.data().join("blobs/sha256")));
        assert_eq!(after, before, "{what}");
        assert_eq!(names(&host.path("")), ["bad.tar", "image.tar"], "{what}: nothing is written elsewhere");
    }
    host.cuddy(&["load", "-i", "no-such-file"]).exits(1);
    host.write("good.tar", good.docker("good", zstd));
    host.cuddy(&["load", "-i", "good.tar"]).exits(0);
    host.cuddy(&["run", "--rm", "good", "exit", "3"]).exits(3);
    run(&host, &[], &["exit", "2"]).exits(2);
}

#[test]
fn a_tar_that_is_wrong_is_not_imported() {
    let host = Host::new();
    for (what, tar) in [
        ("climbs", Layer::probe().file("../escaped", "x").end()),
        ("truncated", Layer::probe().end()[..100_000].to_vec()),
        ("no tar", b"hello".repeat(300)),
    ] {
        host.write("bad.tar", tar);
        let ended = host.cuddy(&["import", "bad.tar", "bad"]);
        assert!(ended.code != 0 && ended.stdout.is_empty(), "{what} was imported: {ended:?}");
        assert_eq!(listing(&host), "", "{what}");
    }
    for name in ["UPPER", "a b", "", "a:b:c", "../up"] {
        host.write("good.tar", Layer::probe().end());
        let ended = host.cuddy(&["import", "good.tar", name]);
        assert!(ended.code != 0, "`{name}` is no name: {ended:?}");
    }
    assert_eq!(listing(&host), "");
}

// ── what is there ───────────────────────────────────────────────────────────────────────────────

/// An image of a layer with so many bytes, made at a moment, with the label `name`.
fn made(name: &str, bytes: usize, created: &str) -> Vec<u8> {
    let layer = Layer::new().file("file", vec![b'x'; bytes]);
    let mut image =
        Image::new(vec![layer], json!({"Cmd": ["/x"], "Labels": {"name": name}, "Own": {"k": [1]}}));
    image.more = json!({
        "created": created,
        "author": "me",
        "history": [
            {"created": created, "created_by": "COPY file /\u{1b}[2J # and a command that is far too long to be shown"},
            {"created": created, "created_by": "CMD [\"/x\"]", "empty_layer": true, "comment": "a remark"},
        ],
    });
    image.docker(name, plain)
}

/// Three images, old, older and oldest, of which the first has two names.
fn three() -> Host {
    let host = Host::new();
    for (name, bytes, created) in [
        ("me/app:1", 1_500, "2024-03-01T00:00:00Z"),
        ("old", 12_345_678, "2023-03-01T00:00:00.5Z"),
        ("localhost:5000/oldest:x", 0, "2022-03-01T01:00:00+01:00"),
    ] {
        host.write("image.tar", made(name, bytes, created));
        host.cuddy(&["load", "-i", "image.tar"]).exits(0);
    }
    host.cuddy(&["tag", "me/app:1", "again"]).exits(0);
    host
}

/// What a command prints, which must succeed.
#[track_caller]
fn says(host: &Host, line: &[&str]) -> String {
    host.cuddy(line).exits(0).text()
}

#[test]
fn images_are_listed_in_docker_s_table_youngest_first() {
    let host = three();
    let table = says(&host, &["images"]);
    let rows: Vec<&str> = table.lines().collect();
    let id = says(&host, &["images", "-q", "again"]);
    assert_eq!(rows[0], "REPOSITORY              TAG       IMAGE ID       CREATED       SIZE");
    assert!(rows[1].starts_with(&format!("again                   latest    {}   ", id.trim())), "{table}");
    assert!(rows[1].ends_with(" years ago   1.5kB"), "{table}");
    assert!(rows[2].starts_with("me/app                  1         "), "{table}");
    assert!(
        rows[3].starts_with("old                     latest    ") && rows[3].ends_with("12.3MB"),
        "{table}"
    );
    assert!(rows[4].starts_with("localhost:5000/oldest   x         ") && rows[4].ends_with("0B"), "{table}");
    assert_eq!(says(&host, &["image", "ls"]), table);
    assert_eq!(says(&host, &["image", "list", "-a", "--format", "table"]), table);
    assert_eq!(says(&host, &["images", "-q"]).lines().count(), 4);
    let digests = says(&host, &["images", "--digests", "--no-trunc", "old"]);
    let columns: Vec<&str> = digests.lines().nth(1).expect("one").split_whitespace().collect();
    assert_eq!((columns[1], columns[2], columns[3].len()), ("latest", "<none>", 71));
}

#[test]
fn a_list_is_what_the_filters_let_through() {
    let host = three();
    for (filter, expected) in [
        (&["again"][..], &["again:latest"][..]),
        (&["me/app:1"], &["me/app:1"]),
        (&["me/*"], &["me/app:1"]),
        (&["*"], &["again:latest", "old:latest"]),
        (&["none"], &[]),
        (&["-f", "label=name=old"], &["old:latest"]),
        (&["-f", "label!=name"], &[]),
        (&["-f", "before=me/app:1"], &["old:latest", "localhost:5000/oldest:x"]),
        (&["-f", "since=localhost:5000/oldest:x"], &["again:latest", "me/app:1", "old:latest"]),
        (&["-f", "before=again", "-f", "since=localhost:5000/oldest:x"], &["old:latest"]),
        (&["-f", "until=2022-12-31"], &["localhost:5000/oldest:x"]),
        (&["-f", "dangling=true"], &[]),
        (&["-f", "reference=old", "-f", "reference=again"], &["again:latest", "old:latest"]),
    ] {
        let line = [&["images", "--format", "{{.Repository}}:{{.Tag}}"], filter].concat();
        assert_eq!(says(&host, &line).lines().collect::<Vec<_>>(), expected, "{filter:?}");
    }
    for filter in ["colour=red", "dangling", "dangling=perhaps", "until=x", "before=nothing-here"] {
        let ended = host.cuddy(&["images", "-f", filter]).exits(1);
        assert!(ended.stdout.is_empty() && ended.stderr.starts_with("cuddy: "), "{filter}: {ended:?}");
    }
}

#[test]
fn a_list_is_printed_by_a_template_and_as_json() {
    let host = three();
    let table = says(&host, &["images", "--format", "table {{.ID}}\\t{{.Repository}}", "old"]);
    assert!(table.starts_with("IMAGE ID       REPOSITORY\n") && table.ends_with("   old\n"), "{table}");
    let row: Value =
        serde_json::from_str(&says(&host, &["images", "--format", "json", "old"])).expect("JSON");
    assert_eq!(row["CreatedAt"], "2023-03-01 00:00:00 +0000 UTC");
    assert_eq!(
        (&row["Size"], &row["Digest"], &row["Tag"]),
        (&json!("12.3MB"), &json!("<none>"), &json!("latest"))
    );
    assert_eq!(row["ID"].as_str().map(str::len), Some(12));
    let ended = host.cuddy(&["images", "--format", "{{.Nope}}"]).exits(1);
    assert!(ended.stderr.contains("can't evaluate field Nope"), "{}", ended.stderr);
}

#[test]
fn the_history_of_an_image_is_told_from_its_last_step() {
    let host = three();
    let table = says(&host, &["history", "old"]);
    let id = says(&host, &["images", "-q", "old"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("IMAGE          CREATED       CREATED BY  "), "{table}");
    assert!(rows[1].starts_with(id.trim()) && rows[1].ends_with("a remark"), "{table}");
    assert!(rows[2].starts_with("<missing>      ") && rows[2].contains("…   12.3MB"), "{table}");
    assert!(!table.contains('\u{1b}'), "what an image says cannot steer the terminal");
    let raw = says(
        &host,
        &[
            "image",
            "history",
            "--no-trunc",
            "-H=false",
            "--format",
            "{{.ID}} {{.CreatedAt}} {{.Size}}",
            "old",
        ],
    );
    assert!(raw.ends_with("\n<missing> 2023-03-01T00:00:00Z 12345678\n"), "{raw}");
    assert_eq!(says(&host, &["history", "-q", "old"]), format!("{}\n<missing>\n", id.trim()));
    host.cuddy(&["history", "none"]).exits(1);
}

#[test]
fn an_inspection_has_docker_s_shape_and_keeps_what_nobody_knows() {
    let host = three();
    let found: Value =
        serde_json::from_str(&says(&host, &["image", "inspect", "me/app:1", "old"])).expect("JSON");
    assert_eq!(found[0]["RepoTags"], json!(["again:latest", "me/app:1"]));
    assert_eq!(found[0]["RepoDigests"], json!([]));
    assert_eq!(found[0]["Id"].as_str().map(str::len), Some(71));
    assert_eq!(found[0]["Config"]["Own"], json!({"k": [1]}), "a field that only its author knows");
    assert_eq!((&found[0]["Config"]["Cmd"], &found[0]["Config"]["Env"]), (&json!(["/x"]), &Value::Null));
    assert_eq!((&found[0]["Os"], &found[0]["Author"]), (&json!("linux"), &json!("me")));
    assert_eq!(
        (&found[1]["Size"], &found[1]["Created"]),
        (&json!(12_345_678), &json!("2023-03-01T00:00:00.5Z"))
    );
    assert_eq!(found[1]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    assert!(found[1]["GraphDriver"]["Data"]["UpperDir"].as_str().is_some_and(|dir| Path::new(dir).is_dir()));
    assert_eq!(
        says(&host, &["image", "inspect", "-f", "{{.Os}} {{json .Config.Labels}}", "old"]),
        "linux {\"name\":\"old\"}\n"
    );
    assert_eq!(
        says(&host, &["inspect", "--type", "image", "-f", "{{.Size}}", "old", "me/app:1"]),
        "12345678\n1500\n"
    );
    let one = says(&host, &["inspect", "--format", "json", "old"]);
    assert!(one.starts_with("[{\"Id\":\"sha256:") && one.ends_with("}]\n"), "{one}");
    let ended = host.cuddy(&["image", "inspect", "none"]).exits(1);
    assert_eq!(ended.text(), "[]\n");
    assert!(ended.stderr.contains("No such image: none:latest"), "{}", ended.stderr);
    let ended = host.cuddy(&["inspect", "old", "none"]).exits(1);
    assert_eq!(
        serde_json::from_str::<Value>(&ended.text()).expect("JSON")[0]["RepoTags"],
        json!(["old:latest"])
    );
}

#[test]
fn the_digest_of_a_manifest_is_a_name_of_its_image() {
    let host = Host::new();
    host.write("image.tar", probe_image().oci("me/it:1", gzip));
    host.cuddy(&["load", "-i", "image.tar"]).exits(0);
    let digest = says(&host, &["images", "--digests", "--format", "{{.Digest}}"]);
    assert!(digest.starts_with("sha256:") && digest.len() == 72, "{digest}");
    let name = format!("me/it@{}", digest.trim());
    assert_eq!(
        says(&host, &["image", "inspect", "-f", "{{index .RepoDigests 0}}", "me/it:1"]),
        format!("{name}\n")
    );
    host.cuddy(&["run", "--rm", &name, "exit", "7"]).exits(7);
    host.cuddy(&["tag", &name, "other"]).exits(0);
    host.cuddy(&["run", "--rm", "other", "exit", "8"]).exits(8);
    host.cuddy(&["tag", "other", &name]).exits(1);
}

#[test]
fn a_name_means_one_image_for_each_platform_and_a_run_takes_its_own() {
    let host = Host::new();
    let mut foreign = Image::new(vec![Layer::new().file("x", "")], json!({}));
    foreign.more = json!({"architecture": "z80"});
    load(&host, "it", &foreign);
    load(&host, "it", &probe_image());
    load(&host, "it", &foreign);
    run(&host, &[], &["exit", "7"]).exits(7);
    assert_eq!(says(&host, &["images", "--format", "{{.Repository}}"]), "it\nit\n");
    let ended = run(&host, &["--platform", "linux/z80"], &["/x"]);
    assert!(ended.stderr.contains("is made for linux/z80") && ended.code != 0, "{ended:?}");
    host.cuddy(&["rmi", "it"]).exits(0);
    assert_eq!(says(&host, &["images", "-q"]), "");
}

// ── how it goes ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_name_is_taken_away_before_the_image_is() {
    let host = three();
    assert_eq!(says(&host, &["rmi", "again"]), "Untagged: again:latest\n");
    let gone = says(&host, &["image", "rm", "me/app:1"]);
    let lines: Vec<&str> = gone.lines().collect();
    assert_eq!((lines[0], lines.len()), ("Untagged: me/app:1", 3), "{gone}");
    assert!(lines[1..].iter().all(|line| line.starts_with("Deleted: sha256:")), "{gone}");
    let id = says(&host, &["images", "-q", "old"]).trim().to_owned();
    host.cuddy(&["tag", "old", "other/name"]).exits(0);
    let ended = host.cuddy(&["rmi", &id]).exits(1);
    let conflict = format!(
        "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
    );
    assert!(ended.stderr.contains(&conflict), "{}", ended.stderr);
    let ended = host.cuddy(&["rmi", "none", "localhost:5000/oldest:x"]).exits(1);
    assert!(
        ended.text().starts_with("Untagged: localhost:5000/oldest:x\nDeleted: "),
        "the others go all the same"
    );
    assert!(ended.stderr.contains("No such image: none:latest"), "{}", ended.stderr);
    host.cuddy(&["rmi", "-f", "none"]).exits(0);
    assert_eq!(says(&host, &["image", "remove", "-f", &id]).lines().count(), 4);
    assert_eq!(listing(&host), "");
    assert_eq!(names(&host.data().join("layers")), [""; 0]);
}

#[test]
fn a_prune_asks_first_and_takes_only_what_it_says() {
    let host = three();
    // The name goes to another image, and the one that had it has none.
    host.write("image.tar", made("old", 7, "2025-01-01T00:00:00Z"));
    host.cuddy(&["load", "-i", "image.tar"]).exits(0);
    assert_eq!(
        says(&host, &["images", "-f", "dangling=true", "--format", "{{.Repository}} {{.Tag}}"]),
        "<none> <none>\n"
    );
    let question =
        "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ";
    for answer in ["", "n\n", "yes\n"] {
        let ended = host.cuddy_reading(&["image", "prune"], answer.as_bytes()).exits(0);
        assert_eq!(ended.text(), question, "{answer:?}");
    }
    let kept = says(&host, &["image", "prune", "-f", "--filter", "until=2000-01-01"]);
    assert_eq!(kept, "Total reclaimed space: 0B\n");
    let ended = host.cuddy_reading(&["image", "prune"], b"Y\n").exits(0).text();
    let gone = ended.strip_prefix(question).expect("it asked");
    assert!(gone.starts_with("Deleted Images:\ndeleted: sha256:"), "{gone}");
    assert!(gone.contains("\n\nTotal reclaimed space: 24."), "the files and the bytes they came as: {gone}");
    assert_eq!(says(&host, &["images", "-q"]).lines().count(), 4);
    let some = says(&host, &["image", "prune", "-a", "-f", "--filter", "label=name=old"]);
    assert!(some.starts_with("Deleted Images:\nuntagged: old:latest\ndeleted: sha256:"), "{some}");
    let question = host.cuddy_reading(&["system", "prune", "-a", "--volumes"], b"").exits(0).text();
    assert!(question.starts_with("WARNING! This will remove:\n  - all stopped containers\n"), "{question}");
    assert!(
        question.contains("\n  - all anonymous volumes not used by at least one container\n"),
        "{question}"
    );
    assert!(question.ends_with("\n\nAre you sure you want to continue? [y/N] "), "{question}");
    let all = says(&host, &["system", "prune", "-a", "-f"]);
    assert!(all.contains("untagged: me/app:1\n"), "{all}");
    assert_eq!(listing(&host), "");
    assert_eq!(names(&host.data().join("blobs/sha256")), [""; 0]);
    host.cuddy(&["image", "prune", "-f", "--filter", "reference=x"]).exits(1);
}

#[test]
fn volumes_without_a_name_that_nothing_uses_are_pruned_when_asked() {
    let host = Host::new();
    load(&host, "it", &probe_image());
    let volumes = host.data().join("volumes");
    let (old, young, named) =
        (volumes.join("a".repeat(64)), volumes.join("b".repeat(64)), volumes.join("mine"));
    for volume in [&old, &young, &named] {
        std::fs::create_dir_all(volume.join("_data")).expect("ours");
        std::fs::write(volume.join("_data/file"), "12345").expect("ours");
    }
    for volume in [&old, &named] {
        let folder = std::fs::File::open(volume).expect("it is there");
        folder.set_modified(std::time::UNIX_EPOCH).expect("ours");
    }
    says(&host, &["system", "prune", "-f"]);
    assert_eq!(names(&volumes).len(), 3);
    let gone = says(&host, &["system", "prune", "-f", "--volumes"]);
    assert_eq!(gone, format!("Deleted Volumes:\n{}\n\nTotal reclaimed space: 5B\n", "a".repeat(64)));
    assert_eq!(
        names(&volumes),
        ["b".repeat(64), "mine".to_owned()],
        "one may belong to a container that starts"
    );
}

#[test]
fn what_takes_the_disk_is_told() {
    let host = three();
    let table = says(&host, &["system", "df"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows[0], "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE");
    assert!(
        rows[1].starts_with("Images          3         0         24.7") && rows[1].ends_with("(100%)"),
        "{table}"
    );
    assert_eq!(
        rows[2..],
        [
            "Containers      0         0         0B        0B",
            "Local Volumes   0         0         0B        0B",
            "Build Cache     0         0         0B        0B",
        ]
    );
    let kinds = says(&host, &["system", "df", "--format", "{{.Type}}"]);
    assert_eq!(kinds, "Images\nContainers\nLocal Volumes\nBuild Cache\n");
    let each = says(&host, &["system", "df", "-v"]);
    assert!(each.starts_with("Images space usage:\n\nREPOSITORY   "), "{each}");
    assert!(each.contains("\nContainers space usage:\n\nCONTAINER ID   "), "{each}");
}

#[test]
fn every_change_of_names_and_images_is_in_the_audit() {
    let host = three();
    host.cuddy(&["rmi", "again"]).exits(0);
    host.cuddy(&["image", "prune", "-a", "-f"]).exits(0);
    let audit = std::fs::read_to_string(host.data().join("audit/000000000001.jsonl")).expect("it is there");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let done = |verb: &str| lines.iter().filter(|line| line["verb"] == verb).count();
    assert_eq!((done("load"), done("tag"), done("rmi")), (3, 1, 1));
    assert_eq!(done("image prune"), 6, "three names and three images: {audit}");
}
