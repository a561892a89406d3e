//! Pulling from a registry that breaks nothing: names, platforms, tags, mirrors, what is printed.

use serde_json::json;

use crate::fake::{Fake, Reply, Shelf, impatient, settings};
use crate::harness::{Host, names};
use crate::image::{INDEX, Image, MANIFEST, digest, host_architecture, ids, index, is_untouched, layer};

#[test]
fn an_image_is_pulled_in_dockers_words_and_once() {
    let (host, image) = (impatient(), Image::usual());
    let registry = Fake::good(Shelf::of(&image));
    let (name, whole) = (registry.it(""), registry.it(":latest"));
    let text = host.cuddy(&["pull", &name]).exits(0).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["Using default tag: latest", "latest: Pulling from it"]);
    for bytes in &image.layers {
        for step in ["Pulling fs layer", "Download complete", "Pull complete"] {
            let line = format!("{}: {step}", &digest(bytes)[7..19]);
            assert!(lines.contains(&line.as_str()), "{line} in {text}");
        }
    }
    let told = [
        format!("Digest: {}", digest(&image.manifest)),
        format!("Status: Downloaded newer image for {whole}"),
        whole.clone(),
    ];
    assert_eq!(lines[lines.len() - 3..], told);
    assert_eq!(names(&host.data().join("layers")).len(), 2);

    let again = host.cuddy(&["pull", &name]).exits(0).text();
    assert!(again.contains(&format!("Status: Image is up to date for {whole}\n")), "{again}");
    assert_eq!(again.matches(": Already exists\n").count(), 2, "{again}");
    for bytes in &image.layers {
        assert_eq!(registry.asked_for(&digest(bytes)).len(), 1, "a layer that is here is not fetched");
    }
    let quiet = host.cuddy(&["pull", "-q", &name]).exits(0);
    assert_eq!((quiet.text(), quiet.stderr.as_str()), (format!("{whole}\n"), ""));
}

#[test]
fn an_image_is_pulled_by_digest() {
    let (host, image) = (impatient(), Image::usual());
    let registry = Fake::good(Shelf::default().image(&image));
    let name = registry.it(&format!("@{}", digest(&image.manifest)));
    let text = host.cuddy(&["pull", &name]).exits(0).text();
    assert!(text.starts_with(&format!("{name}: Pulling from it\n")), "{text}");
    assert!(text.ends_with(&format!("Status: Downloaded newer image for {name}\n{name}\n")), "{text}");
    assert!(ids(&host).iter().all(|id| image.id().starts_with(id)));
}

#[test]
fn one_of_several_platforms_is_chosen_and_the_others_can_be_asked_for() {
    let (ours, other) = (Image::usual(), Image::new(vec![layer("other", b"x")], "s390x"));
    let list = index(&[(&other, "s390x"), (&ours, host_architecture())]);
    let shelf = Shelf::default().image(&ours).image(&other);
    let shelf = shelf.document("latest", INDEX, &list).document(&digest(&list), INDEX, &list);
    let registry = Fake::good(shelf);
    let host = impatient();
    let text = host.cuddy(&["pull", &registry.it("")]).exits(0).text();
    assert!(text.contains(&format!("Digest: {}\n", digest(&list))), "{text}");
    assert!(ids(&host).iter().all(|id| ours.id().starts_with(id)));
    let host = impatient();
    host.cuddy(&["pull", "--platform", "linux/s390x", &registry.it("")]).exits(0);
    assert!(ids(&host).iter().all(|id| other.id().starts_with(id)));
    let host = impatient();
    let ended = host.cuddy(&["pull", "--platform", "linux/riscv64", &registry.it("")]).exits(1);
    for word in ["no matching manifest for linux/riscv64", "`linux/s390x`"] {
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
    }
    is_untouched(&host);
}

#[test]
fn every_tag_of_a_repository_comes_page_by_page() {
    let (host, image) = (impatient(), Image::usual());
    let shelf = Shelf::of(&image).document("two", MANIFEST, &image.manifest).document(
        "three",
        MANIFEST,
        &image.manifest,
    );
    let registry = Fake::new(shelf, |asked| match asked.path.as_str() {
        "/v2/it/tags/list" => Some(Reply::Whole {
            status: 200,
            headers: vec![("link", r#"</v2/it/tags/list?last=two>; rel="next""#.to_owned())],
            body: json!({"name": "it", "tags": ["latest", "two"]}).to_string().into_bytes(),
        }),
        "/v2/it/tags/list?last=two" => Some(Reply::status(200, r#"{"name": "it", "tags": ["three"]}"#)),
        _ => None,
    });
    let text = host.cuddy(&["pull", "--all-tags", &registry.it("")]).exits(0).text();
    for tag in ["latest", "two", "three"] {
        assert!(text.contains(&format!("{tag}: Pulling from it\n")), "{text}");
        let told = host.cuddy(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).exits(0).text();
        assert!(told.contains(&registry.it(&format!(":{tag}"))), "{told}");
    }
    host.cuddy(&["pull", "-a", &registry.it(":two")]).exits(1);
}

#[test]
fn mirrors_are_asked_first_and_the_registry_itself_when_they_do_not_help() {
    let image = Image::usual();
    let (whole, broken) =
        (Fake::good(Shelf::of(&image)), Fake::new(Shelf::default(), |_| Some(Reply::status(404, ""))));
    // The registry itself is never asked: nobody listens there.
    let json = json!({"version": 1, "patience": {"tries": 1}, "registries": {"registry.invalid": {"mirrors":
        [format!("http://{}", broken.name), format!("http://{}", whole.name)]}}});
    let host = settings(&json.to_string());
    let ended = host.cuddy(&["pull", "registry.invalid/it"]).exits(0);
    assert!(ended.text().ends_with("registry.invalid/it:latest\n"), "{}", ended.text());
    assert!(
        ended.stderr.contains(&format!("mirror `http://{}/` has not helped", broken.name)),
        "{}",
        ended.stderr
    );
    assert!(!broken.asked().is_empty());
}

#[test]
fn a_registry_is_reached_through_a_proxy_unless_it_is_excepted() {
    // It answers CONNECT, and is then what is behind it.
    let proxy = Fake::new(Shelf::of(&Image::usual()), |asked| {
        (asked.method == "CONNECT").then(|| Reply::status(200, ""))
    });
    let json = json!({"version": 1, "patience": {"tries": 1}, "registries": {"some.invalid": {"mirrors":
        ["http://registry.invalid:5000"]}}});
    let mut host = settings(&json.to_string());
    host.set("HTTP_PROXY", &format!("http://me:s3cr3t@{}", proxy.name));
    let ended = host.cuddy(&["pull", "some.invalid/it"]).exits(0);
    assert_eq!(ended.stderr, "");
    let first = proxy.asked().remove(0);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("CONNECT", "registry.invalid:5000"));
    assert!(first.header("proxy-authorization").is_some());
    assert!(proxy.asked_for("/v2/").iter().all(|asked| asked.header("proxy-authorization").is_none()));
    let before = proxy.asked().len();
    host.set("NO_PROXY", "example.org,.invalid");
    let ended = host.cuddy(&["pull", "some.invalid/it:other"]).exits(1);
    assert!(ended.stderr.contains("there is no host `registry.invalid`"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cr3t"), "{}", ended.stderr);
    assert_eq!(proxy.asked().len(), before);
}

#[test]
fn a_run_fetches_what_is_not_here_and_only_when_it_may() {
    let image = Image::usual();
    let registry = Fake::good(Shelf::of(&image));
    let host = impatient();
    host.cuddy(&["run", "--rm", "--pull", "never", &registry.it("")]).is_refused(&["No such image"]);
    assert!(registry.asked().is_empty());
    // What it runs is no program, which is found out only when the image is there.
    let ended = host.cuddy(&["run", "--rm", &registry.it("")]);
    assert!(ended.stdout.is_empty(), "{}", ended.text());
    let told = format!("Unable to find image '{}' locally\n", registry.it(":latest"));
    assert!(ended.stderr.starts_with(&told), "{}", ended.stderr);
    assert!(ended.stderr.contains("Status: Downloaded newer image"), "{}", ended.stderr);
    assert_eq!(ids(&host).len(), 1);
    let before = registry.asked().len();
    let again = host.cuddy(&["run", "--rm", &registry.it("")]);
    assert!(!again.stderr.contains("Unable to find"), "{}", again.stderr);
    assert_eq!(registry.asked().len(), before);
    host.cuddy(&["run", "--rm", "--pull", "always", &registry.it("")]);
    assert!(registry.asked().len() > before);
    let refused = host.cuddy(&["run", "--rm", "-q", &registry.it(":none")]).is_refused(&["has no `it:none`"]);
    assert!(!refused.stderr.contains("Unable"), "{}", refused.stderr);
}

#[test]
fn a_search_is_a_table_and_a_registry_without_one_says_so() {
    let results = json!({"num_results": 2, "results": [
        {"name": "few", "description": "a\u{1b}[2J\nb", "star_count": 1, "is_official": false},
        {"name": "many", "description": "x".repeat(80), "star_count": 12, "is_official": true},
    ]});
    let registry = Fake::new(Shelf::default(), move |asked| {
        asked.path.starts_with("/v1/search?q=web&n=25").then(|| Reply::status(200, &results.to_string()))
    });
    let host = impatient();
    let term = format!("{}/web", registry.name);
    let text = host.cuddy(&["search", &term]).exits(0).text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NAME      DESCRIPTION"), "{text}");
    assert!(lines[1].starts_with("many") && lines[1].ends_with("[OK]") && lines[1].contains('…'), "{text}");
    assert!(lines[2].starts_with("few") && !text.contains('\u{1b}'), "{text}");
    let only = host.cuddy(&["search", "--filter", "stars=5", "--format", "json", &term]).exits(0).text();
    assert_eq!(only.lines().count(), 1, "{only}");
    let none = host.cuddy(&["search", &format!("{}/other", registry.name)]).exits(1);
    assert!(none.stderr.contains("offers no search"), "{}", none.stderr);
}

#[test]
fn a_command_that_asks_no_registry_reads_no_settings_of_registries() {
    let host = settings("{ this is no JSON");
    host.cuddy(&["version"]).exits(0);
    host.cuddy(&["images"]).exits(0);
    let ended = host.cuddy(&["pull", "127.0.0.1:1/x"]).exits(1);
    assert!(ended.stderr.contains("registries.json"), "{}", ended.stderr);
    let without = Host::new();
    let ended = without.cuddy(&["pull", "127.0.0.1:1/x"]).exits(1);
    assert!(ended.stderr.contains("cannot reach"), "{}", ended.stderr);
}
