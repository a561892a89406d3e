//! Images from an archive to a running command: what comes in, what it says to `run`, what is refused.
//!
//! What layers may hold entry by entry is looked at in `tests/images.rs`.

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
    run(&host, &["--platform", "linux/s390x"], &["true"]).is_refused(&["s390x"]);
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
