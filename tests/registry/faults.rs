//! A registry that breaks, lies and attacks: what is tried again, what is refused, and that nothing of it
//! comes into the store.

use std::sync::{Mutex, mpsc};

use serde_json::{Value, json};

use crate::fake::{Asked, Fake, Reply, Shelf, impatient, settings};
use crate::harness::Ended;
use crate::image::{INDEX, Image, LAYER, MANIFEST, digest, ids, is_untouched};

/// An image whose second layer is asked for under this path.
fn big(image: &Image) -> String {
    format!("/blobs/{}", digest(&image.layers[1]))
}

/// A pull from a registry with this script, which must go well.
#[track_caller]
fn succeeds(
    image: &Image,
    script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Fake, Ended) {
    let host = impatient();
    let registry = Fake::new(Shelf::of(image), script);
    let ended = host.cuddy(&["pull", &registry.it("")]).exits(0);
    assert!(ids(&host).iter().all(|id| image.id().starts_with(id)));
    (registry, ended)
}

/// A pull from a registry with this shelf and script, which must be refused with all of these words.
#[track_caller]
fn fails(
    shelf: Shelf,
    words: &[&str],
    script: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
) -> (Fake, Ended) {
    let host = impatient();
    let registry = Fake::new(shelf, script);
    let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
    for word in words {
        assert!(ended.stderr.contains(word), "`{word}` is not in: {}", ended.stderr);
    }
    is_untouched(&host);
    (registry, ended)
}

// ── what is tried again ─────────────────────────────────────────────────────────────────────────

#[test]
fn a_connection_that_breaks_goes_on_where_it_broke() {
    let image = Image::usual();
    let part = big(&image);
    let (registry, ended) = succeeds(&image, move |asked| {
        (asked.path.ends_with(&part) && asked.before < 3).then_some(Reply::Cut(150_000))
    });
    let asked = registry.asked_for(&big(&image));
    let from: Vec<usize> = asked.iter().map(Asked::from).collect();
    assert!(from.len() >= 4 && from[0] == 0 && from[1..].windows(2).all(|two| two[0] < two[1]), "{from:?}");
    assert!(from[1] > 0, "{from:?}");
    assert!(ended.text().contains(": Retrying in 1 second\n"), "{}", ended.text());
}

#[test]
fn a_registry_that_knows_no_ranges_begins_anew_and_the_layer_is_still_right() {
    let image = Image::usual();
    let (part, whole) = (big(&image), image.layers[1].clone());
    succeeds(&image, move |asked| match asked.before {
        _ if !asked.path.ends_with(&part) => None,
        0 => Some(Reply::Cut(100_000)),
        _ => Some(Reply::Whole { status: 200, headers: Vec::new(), body: whole.clone() }),
    });
}

#[test]
fn a_connection_that_stalls_is_given_up_and_made_anew() {
    let image = Image::usual();
    let part = big(&image);
    succeeds(&image, move |asked| {
        (asked.path.ends_with(&part) && asked.before == 0).then_some(Reply::Stall(200_000))
    });
}

#[test]
fn an_answer_that_passes_is_asked_for_again() {
    let image = Image::usual();
    for status in [429, 500, 502, 503, 504] {
        succeeds(&image, move |asked| (asked.before == 0).then(|| Reply::with(status, "retry-after", "0")));
    }
    // Nor does a connection that ends without a word end the pull.
    succeeds(&image, |asked| {
        let is_first = asked.before == 0 && asked.path != "/v2/";
        is_first.then(|| Reply::Raw(Vec::new()))
    });
}

#[test]
fn too_many_requests_are_explained() {
    let image = Image::usual();
    let (_, ended) = fails(
        Shelf::of(&image),
        &["allows no more requests", "100;w=21600", "cuddy login"],
        |asked| {
            asked.path.contains("manifests").then(|| Reply::Whole {
            status: 429,
            headers: vec![("ratelimit-limit", "100;w=21600".to_owned()), ("retry-after", "9999".to_owned())],
            body: br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#.to_vec(),
        })
        },
    );
    assert!(ended.stderr.contains("You have reached your pull rate limit."), "{}", ended.stderr);
}

#[test]
fn a_registry_that_is_broken_for_good_ends_the_pull() {
    let image = Image::usual();
    let part = big(&image);
    fails(Shelf::of(&image), &["answers 500"], |_| Some(Reply::status(500, "")));
    let (registry, _) = fails(Shelf::of(&image), &[&digest(&image.layers[1])], move |asked| {
        asked.path.ends_with(&part).then_some(Reply::Cut(0))
    });
    assert_eq!(registry.asked_for(&big(&image)).len(), 3, "as often as `tries` says");
    let part = big(&image);
    fails(Shelf::of(&image), &[&digest(&image.layers[1])], move |asked| {
        asked.path.ends_with(&part).then_some(Reply::Stall(if asked.before == 0 { 1000 } else { 0 }))
    });
}

#[test]
fn a_pull_that_has_failed_waits_for_no_other_layer() {
    let image = Image::usual();
    let part = format!("/blobs/{}", digest(&image.layers[0]));
    // The one layer is to be asked for again in a while; by then the other one has ended the pull.
    let (waits, is_told) = mpsc::channel();
    let (waits, is_told) = (Mutex::new(waits), Mutex::new(is_told));
    let (late, missing) = (part.clone(), big(&image));
    let (registry, _) = fails(Shelf::of(&image), &[&digest(&image.layers[1])], move |asked| {
        if asked.path.ends_with(&late) {
            let _is_heard = waits.lock().unwrap().send(());
            return Some(Reply::with(503, "retry-after", "6"));
        }
        asked.path.ends_with(&missing).then(|| {
            is_told.lock().unwrap().recv().unwrap();
            Reply::status(404, "")
        })
    });
    assert_eq!(registry.asked_for(&part).len(), 1, "it was not asked for again");
}

#[test]
fn a_mirror_that_failed_half_way_does_not_stop_the_next_one() {
    let image = Image::usual();
    let missing = big(&image);
    let broken = Fake::new(Shelf::of(&image), move |asked| {
        asked.path.ends_with(&missing).then(|| Reply::status(404, ""))
    });
    let whole = Fake::good(Shelf::of(&image));
    let json = json!({"version": 1, "patience": {"tries": 1}, "registries": {"registry.invalid": {"mirrors":
        [format!("http://{}", broken.name), format!("http://{}", whole.name)]}}});
    let host = settings(&json.to_string());
    host.cuddy(&["pull", "registry.invalid/it"]).exits(0);
    assert!(ids(&host).iter().all(|id| image.id().starts_with(id)));
    assert!(!broken.asked_for(&big(&image)).is_empty() && !whole.asked_for(&big(&image)).is_empty());
}

// ── what is a lie ───────────────────────────────────────────────────────────────────────────────

#[test]
fn bytes_that_are_not_what_was_named_are_refused() {
    let image = Image::usual();
    for at in 0..2 {
        let path = format!("/v2/it/blobs/{}", digest(&image.layers[at]));
        let mut wrong = image.layers[at].clone();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 1;
        fails(Shelf::of(&image).put(path.clone(), "x", &wrong), &[&digest(&image.layers[at])], |_| None);
        wrong.push(0);
        fails(Shelf::of(&image).put(path, "x", &wrong), &[&digest(&image.layers[at]), "size"], |_| None);
    }
    let path = format!("/v2/it/blobs/{}", digest(&image.config));
    let other = image.config.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
    fails(Shelf::of(&image).put(path, "x", &other), &[&digest(&image.config), "its digest"], |_| None);
    let manifest = image.manifest.clone();
    fails(Shelf::of(&image), &["`it:latest`", "its digest"], move |asked| {
        asked.path.contains("manifests").then(|| Reply::Whole {
            status: 200,
            headers: vec![("docker-content-digest", digest(b"x")), ("content-type", MANIFEST.to_owned())],
            body: manifest.clone(),
        })
    });
}

#[test]
fn an_image_asked_for_by_digest_is_that_or_nothing() {
    let (image, host) = (Image::usual(), impatient());
    let asked = digest(b"another");
    let shelf = Shelf::of(&image).document(&asked, MANIFEST, &image.manifest);
    let registry = Fake::good(shelf);
    let ended = host.cuddy(&["pull", &registry.it(&format!("@{asked}"))]).exits(1);
    assert!(ended.stderr.contains(&asked) && ended.stderr.contains("its digest"), "{}", ended.stderr);
    is_untouched(&host);
}

#[test]
fn manifests_that_lie_or_lead_away_are_refused() {
    let image = Image::usual();
    let change = |change: &dyn Fn(&mut Value)| image.with(change);
    for (words, manifest) in [
        (
            &["`application/x-evil`"][..],
            change(&|m| m["layers"][0]["mediaType"] = json!("application/x-evil")),
        ),
        (&["http://127.0.0.1:1/x"], change(&|m| m["layers"][0]["urls"] = json!(["http://127.0.0.1:1/x"]))),
        (&["`it`"][..0], change(&|m| m["layers"][0]["digest"] = json!("sha256:../../x"))),
        (&["its size"], change(&|m| m["layers"][1]["size"] = json!(7))),
        (&["its size"], change(&|m| m["config"]["size"] = json!(u64::MAX))),
        (&["layers by its manifest"], change(&|m| m["layers"] = json!([m["layers"][0].clone()]))),
        (&["schema version"], change(&|m| m["schemaVersion"] = json!(1))),
        (&["a manifest and an index"], change(&|m| m["manifests"] = json!([]))),
        (&["another media type"], change(&|m| m["mediaType"] = json!(INDEX))),
        (&["not what OCI or Docker write"], b"{".to_vec()),
        (&["not what OCI or Docker write"], b"".to_vec()),
        (&["not what OCI or Docker write"], vec![b'['; 100_000]),
    ] {
        fails(Shelf::of(&image).document("latest", MANIFEST, &manifest), words, |_| None);
    }
    // Layers in the wrong order are right by digest and wrong by diff ID.
    let turned = image.with(|manifest| {
        let layers = manifest["layers"].as_array_mut().unwrap();
        layers.reverse();
    });
    fails(Shelf::of(&image).document("latest", MANIFEST, &turned), &["is not what was said"], |_| None);
}

#[test]
fn indexes_that_never_end_are_refused() {
    let image = Image::usual();
    // By digest a circle cannot be made, so each names one that the registry makes up, deeper and deeper.
    let mut list = crate::image::index(&[(&image, crate::image::host_architecture())]);
    let mut shelf = Shelf::of(&image).document(&digest(&list), INDEX, &list);
    for _ in 0..6 {
        let entry = json!({"mediaType": INDEX, "digest": digest(&list), "size": list.len()});
        list = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
        shelf = shelf.document(&digest(&list), INDEX, &list);
    }
    fails(shelf.document("latest", INDEX, &list), &["indexes in each other"], |_| None);
    let entry = json!({"mediaType": LAYER, "digest": digest(&image.manifest), "size": image.manifest.len()});
    let odd = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    fails(Shelf::of(&image).document("latest", INDEX, &odd), &["media type"], |_| None);
}

// ── what attacks ────────────────────────────────────────────────────────────────────────────────

#[test]
fn answers_without_end_are_cut_off() {
    let image = Image::usual();
    for part in ["manifests/latest", "/v2/"] {
        let is_asked = move |asked: &Asked| asked.path.ends_with(part);
        fails(Shelf::of(&image), &[], move |asked| {
            is_asked(asked)
                .then(|| Reply::Raw([&b"HTTP/1.1 200 X\r\n"[..], &b"x: y\r\n".repeat(100_000)].concat()))
        });
    }
    fails(Shelf::of(&image), &["is larger than"], |asked| {
        asked.path.contains("manifests").then(|| Reply::Endless(vec![b' '; 65536]))
    });
    let part = big(&image);
    fails(Shelf::of(&image), &[&digest(&image.layers[1])], move |asked| {
        asked.path.ends_with(&part).then(|| Reply::Endless(vec![0; 65536]))
    });
    fails(Shelf::of(&image), &[], |asked| {
        asked.path.contains("manifests").then(|| {
            Reply::Raw(b"HTTP/1.1 200 X\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_vec())
        })
    });
}

#[test]
fn a_hostile_challenge_is_no_reason_to_go_anywhere() {
    let image = Image::usual();
    for challenge in [
        "Bearer realm=\"file:///etc/passwd\"".to_owned(),
        "Bearer realm=\"http://user:pw@127.0.0.1/\"".to_owned(),
        "Negotiate".to_owned(),
        format!("Bearer realm=\"http://127.0.0.1:1/{}\"", "x".repeat(20_000)),
        "Bearer realm=\"http://127.0.0.1:1/".to_owned(),
    ] {
        fails(Shelf::of(&image), &["in a way that is not understood"], move |_| {
            Some(Reply::with(401, "www-authenticate", challenge.clone()))
        });
    }
    fails(Shelf::of(&image), &[], |_| Some(Reply::status(401, "")));
}

#[test]
fn redirects_end_and_stay_with_http() {
    let image = Image::usual();
    for (location, words) in [
        ("file:///etc/passwd", &["where we do not go"][..]),
        ("/v2/it/manifests/latest", &["more than 5 times"]),
        ("http://u:p@127.0.0.1/", &["where we do not go"]),
    ] {
        let (_, ended) = fails(Shelf::of(&image), words, move |asked| {
            asked.path.contains("manifests").then(|| Reply::with(307, "location", location))
        });
        assert!(!ended.stderr.contains("u:p"), "{}", ended.stderr);
    }
}

#[test]
fn a_layer_may_lie_on_another_host_which_is_told_no_secret() {
    let image = Image::usual();
    let store = Fake::good(Shelf::of(&image));
    let (at, secret) = (store.name.clone(), "Basic bWU6c2VjcmV0"); // me:secret
    let registry = Fake::new(Shelf::of(&image), move |asked| {
        if asked.header("authorization") != Some(secret) {
            return Some(Reply::with(401, "www-authenticate", "Basic realm=\"x\""));
        }
        asked
            .path
            .contains("blobs")
            .then(|| Reply::with(307, "location", format!("http://{at}{}?signature=hidden", asked.path)))
    });
    let host = impatient();
    let json = json!({"auths": {registry.name.clone(): {"auth": "bWU6c2VjcmV0"}}});
    std::fs::create_dir_all(host.path("../home/.docker")).unwrap();
    std::fs::write(host.path("../home/.docker/config.json"), json.to_string()).unwrap();
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    assert_eq!(store.asked().len(), 3, "the configuration and two layers");
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert!(registry.asked_for("blobs").iter().all(|asked| asked.header("authorization").is_some()));
}

#[test]
fn a_pull_that_is_killed_leaves_nothing_that_the_next_one_does_not_clear() {
    let (host, image) = (impatient(), Image::usual());
    let (part, first) = (big(&image), Mutex::new(true));
    let registry = Fake::new(Shelf::of(&image), move |asked| {
        let is_first = asked.path.ends_with(&part) && std::mem::take(&mut *first.lock().unwrap());
        is_first.then_some(Reply::Stall(300_000))
    });
    let mut pull = host.spawn(&["pull", &registry.it("")]);
    // The first layer is whole, the second is on its way.
    pull.wait_for(": Pull complete");
    drop(pull);
    assert!(ids(&host).is_empty());
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    assert!(ids(&host).iter().all(|id| image.id().starts_with(id)));
    assert!(crate::harness::names(&host.data().join("tmp")).is_empty());
}

#[test]
fn one_image_pulled_by_many_at_once_some_of_them_killed_is_one_whole_image() {
    let (host, image) = (impatient(), Image::usual());
    let registry = Fake::good(Shelf::of(&image));
    let name = registry.it("");
    let mut pulls: Vec<_> = (0..8).map(|_| host.spawn(&["pull", &name])).collect();
    // Two die somewhere on their way.
    pulls.truncate(6);
    for pull in pulls {
        pull.end().exits(0);
    }
    host.cuddy(&["pull", &name]).exits(0);
    assert!(ids(&host).iter().all(|id| image.id().starts_with(id)));
    assert_eq!(crate::harness::names(&host.data().join("layers")).len(), 2);
    for folder in ["tmp", "locks"] {
        assert_eq!(crate::harness::names(&host.data().join(folder)), Vec::<String>::new(), "{folder}");
    }
}
