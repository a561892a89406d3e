//! The store under many commands at once, and killed at any moment: what has a name is whole, and after one
//! more command nothing else is left.
//!
//! The checker walks the folder itself and believes no report of ours.

#[path = "behaviour/archive.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod archive;
#[path = "behaviour/harness.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod harness;
#[path = "probe/judge.rs"]
#[expect(dead_code, reason = "golden lists are judged by the other test programs")]
mod judge;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use cuddy::image::stream::digest_of;
use rustix::process::Signal;
use serde_json::{Value, json};
use tar::EntryType;

use crate::archive::{Image, Layer, gzip, plain};
use crate::harness::{Host, PROBE, Started, names};

/// Commands at once.
const AT_ONCE: usize = 8;
/// Rounds of one test.
const ROUNDS: u64 = 25;
/// Moments after the start at which a command is killed, in microseconds: all of a load.
const MOMENTS_US: u64 = 80_000;
/// What stands in the data folder of a store, besides what containers have.
const PLACES: [&str; 11] = [
    "audit",
    "blobs",
    "collecting",
    "gate",
    "gate.next",
    "images.json",
    "layers",
    "leases",
    "lock",
    "locks",
    "tmp",
];
/// What containers have there.
const PLACES_OF_CONTAINERS: [&str; 5] = ["containers", "filters", "names", "scratch", "volumes"];

/// Numbers that look random and are the same in each run.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Three images on one base, of which one has a layer with files of another owner.
fn archives(host: &Host) -> Vec<&'static str> {
    let base = || Layer::probe().dir("base/").file("base/file", vec![b'b'; 300_000]);
    let own = |text: &str| Layer::new().file("own", text);
    let foreign = Layer::new().entry("foreign", EntryType::Regular, 0o600, 42, b"42", "");
    for (name, layers) in [
        ("one", vec![base(), own("one")]),
        ("two", vec![base(), own("two"), own("more")]),
        ("three", vec![base(), foreign]),
    ] {
        let image = Image::new(layers, json!({ "Entrypoint": [PROBE], "Labels": { "name": name } }));
        host.write(&format!("{name}.tar"), image.docker(name, gzip));
        host.write(&format!("{name}-oci.tar"), image.oci(&format!("{name}:oci"), plain));
    }
    vec!["one", "two", "three"]
}

/// Everything that has a name is there and is what its name says; nothing else is.
#[track_caller]
fn is_whole(host: &Host) {
    let data = host.data();
    let index = fs::read(data.join("images.json")).unwrap_or_else(|_none| b"{}".to_vec());
    let index: Value = serde_json::from_slice(&index).expect("it is written by rename");
    let images = index["images"].as_object().cloned().unwrap_or_default();
    let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
    let hex = |value: &Value| value.as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    for (id, image) in &images {
        blobs.insert(hex(&json!(id)));
        blobs.extend([&image["manifest"], &image["index"]].into_iter().filter(|v| v.is_string()).map(hex));
        for layer in image["layers"].as_array().expect("a list") {
            let blob = hex(&layer["blob"]);
            let size = fs::metadata(data.join("blobs/sha256").join(&blob)).map(|meta| meta.len()).ok();
            assert_eq!(size, layer["bytes"].as_u64(), "blob {blob} of image {id}");
            blobs.insert(blob);
            let diff_id = hex(&layer["diff_id"]);
            let folder = [diff_id.clone(), format!("{diff_id}.flat")]
                .into_iter()
                .find(|name| data.join("layers").join(name).join("layer.json").is_file())
                .unwrap_or_else(|| panic!("layer {diff_id} of image {id} is gone"));
            assert!(data.join("layers").join(&folder).join("fs").is_dir(), "layer {folder} of image {id}");
            layers.insert(folder);
        }
    }
    for (name, ids) in index["names"].as_object().into_iter().flatten() {
        for id in ids.as_array().expect("a list") {
            assert!(images.contains_key(id.as_str().expect("a digest")), "{name} means {id}, which is gone");
        }
    }
    for blob in &blobs {
        let bytes = fs::read(data.join("blobs/sha256").join(blob));
        let found = digest_of(&bytes.unwrap_or_else(|e| panic!("blob {blob}: {e}")));
        assert_eq!(found.hex(), blob, "a blob has its digest as its name");
    }
    assert_eq!(names(&data.join("blobs/sha256")), Vec::from_iter(blobs), "blobs that nothing names");
    assert_eq!(names(&data.join("layers")), Vec::from_iter(layers), "layers that nothing names");
    for part in ["tmp", "locks", "leases", "containers"] {
        assert_eq!(names(&data.join(part)), [""; 0], "left in {part}");
    }
    for name in names(&data) {
        let is_known = PLACES.contains(&name.as_str()) || PLACES_OF_CONTAINERS.contains(&name.as_str());
        assert!(is_known, "left: {name}");
    }
}

/// Lets commands run at once, of which some are killed after a moment; what ended by itself is judged.
fn at_once(host: &Host, seeded: &mut Seeded, lines: Vec<Vec<String>>, kills: bool) {
    let started = lines.into_iter().map(|line| {
        let words: Vec<&str> = line.iter().map(String::as_str).collect();
        let dies_us = (kills && seeded.below(3) == 0).then(|| seeded.below(MOMENTS_US));
        (host.spawn(&words), line, dies_us)
    });
    let mut running: Vec<(Started, Vec<String>, Option<u64>)> = started.collect();
    running.sort_by_key(|(.., dies_us)| *dies_us);
    let mut passed_us = 0;
    for (started, _, dies_us) in &running {
        let Some(dies_us) = dies_us else { continue };
        std::thread::sleep(Duration::from_micros(dies_us - passed_us));
        passed_us = *dies_us;
        started.signal(Signal::KILL);
    }
    for (started, line, dies_us) in running {
        let ended = started.end();
        let is_fine = match line[0].as_str() {
            _ if dies_us.is_some() => ended.code == 0 || ended.code == 1 || ended.code == -9,
            "load" | "images" | "image" | "system" => ended.code == 0,
            // Somebody else may have been faster.
            _ => ended.code == 0 || (ended.code == 1 && ended.stderr.contains("No such image")),
        };
        assert!(is_fine, "{line:?}: {ended:?}");
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn two_loads_and_a_prune_at_once_leave_what_was_loaded() {
    let host = Host::new();
    archives(&host);
    let mut seeded = Seeded(1);
    for _ in 0..ROUNDS {
        let lines = ["load -i one.tar", "image prune -a -f", "load -i two.tar", "image prune -f"];
        at_once(&host, &mut seeded, lines.map(words).to_vec(), false);
        host.cuddy(&["images"]).exits(0);
        is_whole(&host);
    }
    host.cuddy(&["load", "-i", "one.tar"]).exits(0);
    host.cuddy(&["load", "-i", "two-oci.tar"]).exits(0);
    for name in ["one", "two:oci"] {
        host.cuddy(&["run", "--rm", name, "exit", "7"]).exits(7);
    }
    host.cuddy(&["images"]).exits(0);
    is_whole(&host);
    host.cuddy(&["system", "prune", "-a", "-f"]).exits(0);
    is_whole(&host);
    assert_eq!(names(&host.data().join("blobs/sha256")), [""; 0]);
}

#[test]
fn many_commands_at_once_and_killed_at_any_moment_leave_a_whole_store() {
    let host = Host::new();
    let images = archives(&host);
    let mut seeded = Seeded(4242);
    for _ in 0..ROUNDS {
        let line = |seeded: &mut Seeded| {
            let name = images[usize::try_from(seeded.below(3)).expect("below 3")];
            match seeded.below(8) {
                0 | 1 => format!("load -i {name}.tar"),
                2 | 3 => format!("load -i {name}-oci.tar"),
                4 => format!("rmi -f {name}"),
                5 => format!("tag {name} also:{name}"),
                6 => "image prune -a -f".to_owned(),
                _ => "images -q".to_owned(),
            }
        };
        let lines = (0..AT_ONCE).map(|_| words(&line(&mut seeded))).collect();
        at_once(&host, &mut seeded, lines, true);
        host.cuddy(&["images"]).exits(0);
        is_whole(&host);
    }
}

#[test]
fn the_same_image_from_eight_processes_is_one_and_a_killed_one_leaves_nothing() {
    let host = Host::new();
    archives(&host);
    let mut seeded = Seeded(3);
    for round in 0..ROUNDS / 2 {
        let lines = (0..AT_ONCE).map(|_| words("load -i three.tar")).collect();
        at_once(&host, &mut seeded, lines, round % 2 == 1);
        host.cuddy(&["load", "-i", "three.tar"]).exits(0);
        is_whole(&host);
        assert_eq!(host.cuddy(&["images", "-q"]).exits(0).text().lines().count(), 1);
        host.cuddy(&["rmi", "three"]).exits(0);
        is_whole(&host);
        assert_eq!(names(&host.data().join("layers")), [""; 0], "files of other owners went too");
    }
}

#[test]
fn a_prune_while_a_container_starts_never_makes_it_fail_half_way() {
    let host = Host::new();
    archives(&host);
    let mut seeded = Seeded(4);
    let (mut ran, mut refused) = (0, 0);
    for _ in 0..ROUNDS * 2 {
        host.cuddy(&["load", "-i", "one.tar"]).exits(0);
        let runs: Vec<Started> =
            (0..3).map(|_| host.spawn(&["run", "--rm", "--pull", "never", "one", "read", "/own"])).collect();
        std::thread::sleep(Duration::from_micros(seeded.below(MOMENTS_US / 2)));
        let prunes = ["image prune -a -f", "rmi -f one", "image prune -a -f"];
        at_once(&host, &mut seeded, prunes.map(words).to_vec(), false);
        for run in runs {
            let ended = run.end();
            match ended.code {
                0 => {
                    assert_eq!(ended.text(), "one");
                    ran += 1;
                }
                _ => {
                    ended.is_refused(&["No such image: one:latest"]);
                    refused += 1;
                }
            }
        }
        host.cuddy(&["images"]).exits(0);
        is_whole(&host);
    }
    assert!(ran > 0, "none of {refused} runs was early enough: the moments are wrong");
}

#[test]
fn what_a_running_container_uses_stays_until_it_ends() {
    let host = Host::new();
    archives(&host);
    host.cuddy(&["load", "-i", "one.tar"]).exits(0);
    let id = host.cuddy(&["images", "-q"]).exits(0).text().trim().to_owned();
    let mut run = host.spawn(&["run", "-i", "--rm", "one", "cat"]);
    run.write(b"up");
    run.wait_for("up");
    let container = host.containers()[0][..12].to_owned();
    let refused = |line: &[&str], says: &str| {
        let ended = host.cuddy(line).exits(1);
        assert!(ended.stderr.contains(says), "{line:?}: {}", ended.stderr);
    };
    refused(
        &["rmi", "one"],
        &format!(
            "conflict: unable to remove repository reference \"one:latest\" (must force) - container {container} is using its referenced image {id}"
        ),
    );
    let never = format!(
        "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {container}"
    );
    refused(&["rmi", &id], &never);
    refused(&["rmi", "-f", &id], &never);
    host.cuddy(&["image", "prune", "-a", "-f"]).exits(0);
    let df =
        host.cuddy(&["system", "df", "--format", "{{.Type}}={{.TotalCount}}/{{.Active}}"]).exits(0).text();
    assert!(df.starts_with("Images=1/1\nContainers=1/1\n"), "{df}");
    assert_eq!(host.cuddy(&["rmi", "-f", "one"]).exits(0).text(), "Untagged: one:latest\n");
    // Loaded again under the name, with another image in its place: the first has no name left.
    host.cuddy(&["system", "prune", "-a", "-f"]).exits(0);
    assert_eq!(
        host.cuddy(&["images", "--format", "{{.Repository}} {{.ID}}"]).exits(0).text(),
        format!("<none> {id}\n")
    );
    run.write(b" still");
    run.close_input();
    assert_eq!(run.end().exits(0).text(), "up still");
    let gone = host.cuddy(&["image", "prune", "-f"]).exits(0).text();
    assert!(gone.starts_with(&format!("Deleted Images:\ndeleted: sha256:{id}")), "{gone}");
    is_whole(&host);
    assert_eq!(names(&host.data().join("layers")), [""; 0]);
}

#[test]
fn while_nobody_knows_what_a_container_needs_nothing_is_removed_and_everything_else_works() {
    let host = Host::new();
    archives(&host);
    host.cuddy(&["load", "-i", "one.tar"]).exits(0);
    let mut run = host.spawn(&["run", "-i", "--rm", "one", "cat"]);
    run.write(b"up");
    run.wait_for("up");
    // Waits until the run has written down what it needs.
    host.cuddy(&["image", "prune", "-f"]).exits(0);
    let record = host.data().join("containers").join(&host.containers()[0]).join("state.json");
    let text = fs::read_to_string(&record).expect("it runs");
    fs::write(&record, text.replace("\"version\":2", "\"version\":3")).expect("ours");
    let layers = names(&host.data().join("layers"));
    for line in ["rmi -f one", "image prune -a -f", "system prune -a -f"] {
        let ended = host.cuddy(&line.split(' ').collect::<Vec<_>>()).exits(1);
        assert!(ended.stderr.contains("what a running container needs is unknown"), "{}", ended.stderr);
    }
    fs::write(host.data().join("owed"), "").expect("ours");
    for line in ["images", "system df", "load -i two.tar", "run --rm two read /own"] {
        host.cuddy(&line.split(' ').collect::<Vec<_>>()).exits(0);
    }
    let left = names(&host.data().join("layers"));
    assert!(layers.iter().all(|layer| left.contains(layer)), "{layers:?} {left:?}");
    fs::write(&record, text).expect("ours");
    run.close_input();
    run.end().exits(0);
    host.cuddy(&["image", "prune", "-a", "-f"]).exits(0);
    is_whole(&host);
}

#[test]
fn a_run_that_waits_for_a_person_keeps_no_removal_waiting() {
    let host = Host::new();
    archives(&host);
    host.cuddy(&["load", "-i", "one.tar"]).exits(0);
    host.cuddy(&["load", "-i", "two.tar"]).exits(0);
    let pipe = host.path("variables");
    let made = host.command("/usr/bin/mkfifo").arg(&pipe).status().expect("every host has mkfifo");
    assert!(made.success());
    let run = host.spawn(&["run", "--rm", "--env-file", "variables", "two", "read", "/own"]);
    // Opening it ends when the run has it open too: it reads.
    let mut variables = fs::OpenOptions::new().write(true).open(&pipe).expect("ours");
    host.cuddy(&["rmi", "-f", "one"]).exits(0);
    std::io::Write::write_all(&mut variables, b"A=b\n").expect("it reads");
    drop(variables);
    assert_eq!(run.end().exits(0).text(), "more");
}

#[test]
fn an_image_may_have_more_layers_than_a_process_has_files_at_first() {
    let host = Host::new();
    let layers = (0..100).map(|n| Layer::new().file(&format!("file{n}"), "x")).collect();
    host.write("many.tar", Image::new(layers, json!({})).docker("many", plain));
    let mut shell = host.command("/bin/sh");
    shell
        .args(["-c", "ulimit -Sn 64 && exec \"$@\"", "sh"])
        .arg(harness::cuddy())
        .args(["load", "-i", "many.tar"]);
    Started::new(shell).end().exits(0);
    is_whole(&host);
}

#[test]
fn a_collection_that_died_is_finished_by_the_next_command() {
    let host = Host::new();
    archives(&host);
    host.cuddy(&["load", "-i", "three.tar"]).exits(0);
    // As a load that died between bringing in and naming, and a collection that died after its first step.
    let data = host.data();
    let index = fs::read(data.join("images.json")).expect("there is one");
    fs::write(data.join("images.json"), r#"{"version":2,"images":{},"names":{}}"#).expect("ours");
    host.cuddy(&["images"]).exits(0);
    assert_ne!(names(&data.join("layers")), [""; 0], "nobody has said that something is to be collected");
    fs::write(data.join("owed"), "").expect("ours");
    host.cuddy(&["images"]).exits(0);
    is_whole(&host);
    assert_eq!(names(&data.join("layers")), [""; 0]);
    // A dead lease says it too.
    host.cuddy(&["load", "-i", "three.tar"]).exits(0);
    assert_eq!(fs::read(data.join("images.json")).expect("there is one"), index);
    fs::write(data.join("images.json"), r#"{"version":2,"images":{},"names":{}}"#).expect("ours");
    fs::write(data.join("leases").join("0".repeat(64)), "").expect("ours");
    host.cuddy(&["images"]).exits(0);
    is_whole(&host);
    assert_eq!(names(&data.join("blobs/sha256")), [""; 0]);
}

#[test]
fn what_a_stack_of_layers_had_of_its_own_goes_with_the_last_image_of_that_stack() {
    let host = Host::new();
    for (name, mode) in [("first", 0o700), ("second", 0o711)] {
        let base = Layer::probe().entry("d/", EntryType::Directory, mode, 0, b"", "");
        // Nothing is said of the folder, and what the layer below says of it must hold.
        let image = Image::new(vec![base, Layer::new().file("d/file", "x")], json!({}));
        host.write("image.tar", image.docker(name, plain));
        host.cuddy(&["load", "-i", "image.tar"]).exits(0);
    }
    let layers = host.data().join("layers");
    let lids = || names(&layers).iter().flat_map(|layer| names(&layers.join(layer).join("lids"))).count();
    assert_eq!(lids(), 2);
    host.cuddy(&["rmi", "first"]).exits(0);
    assert_eq!(lids(), 1);
    host.cuddy(&["run", "--rm", "second", PROBE, "read", "/d/file"]).exits(0);
    is_whole(&host);
    host.cuddy(&["rmi", "second"]).exits(0);
    is_whole(&host);
}
