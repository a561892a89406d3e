//! Debian's `docker-registry`, with `skopeo` as the other client: what we push it takes, what it pushes we
//! pull, and digests stay.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use crate::fake::{Fake, Reply, Shelf, impatient};
use crate::harness::{Host, require};
use crate::image::{digest, ids, layer, noise};
use crate::login::certificates;

/// `me:testing`, as htpasswd(1) writes it: docker-registry takes bcrypt only.
const HTPASSWD: &str = "me:$2b$04$GblYGG5VhZRlG.hTQ9VKCO/Z8suwNhAXg6kkqtXzbuD9C1JiXovqa\n";

/// The registry, until it is dropped.
struct Registry {
    child: Child,
    name: String,
}

impl Registry {
    /// Starts it on a port of the system's choice. `None` where it is not installed.
    fn start(dir: &Path, more: &str) -> Option<Self> {
        let program = ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        if !require("docker-registry", program.is_some()) {
            return None;
        }
        let (data, config) = (dir.join("data"), dir.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:0\n{more}",
            data.display()
        );
        fs::write(&config, text).expect("the test made it so");
        let mut command = Command::new(program.expect("the test made it so"));
        command.arg("serve").arg(&config).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the test made it so");
        let mut lines = BufReader::new(child.stderr.take().expect("the test made it so")).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let after = line.split("listening on 127.0.0.1:").nth(1)?;
            after.split(|c: char| !c.is_ascii_digit()).next().map(str::to_owned)
        });
        // It must not wait for a reader of its log.
        drain(lines);
        let name = format!("127.0.0.1:{}", port.expect("it says where it listens"));
        Some(Self { child, name })
    }
}

#[expect(clippy::disallowed_methods, reason = "a reader of the test, in the test's own process")]
fn drain(lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static) {
    drop(std::thread::spawn(move || lines.for_each(drop)));
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn skopeo(host: &Host, arguments: &[&str]) -> String {
    let policy = host.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
    let mut command = host.command("skopeo");
    let output = command.arg("--policy").arg(policy).args(arguments).output().expect("the test made it so");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn has_skopeo() -> bool {
    require("skopeo", Command::new("skopeo").arg("--version").output().is_ok())
}

fn digest_there(host: &Host, name: &str) -> String {
    let text = skopeo(
        host,
        &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")],
    );
    text.trim().to_owned()
}

/// A host that has `names`, all of one image of one layer.
fn host_with(names: &[String]) -> Host {
    let host = impatient();
    host.write("root.tar", layer("hello", &noise(300_000, 3)));
    for name in names {
        host.cuddy(&["import", "root.tar", name]).exits(0);
    }
    host
}

#[test]
fn what_we_push_others_pull_and_so_do_we() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else { return };
    let name = format!("{}/team/app:1", registry.name);
    let host = host_with(std::slice::from_ref(&name));
    let id = ids(&host).remove(0);
    let text = host.cuddy(&["push", &name]).exits(0).text();
    assert!(
        text.starts_with(&format!("The push refers to repository [{}/team/app]\n", registry.name)),
        "{text}"
    );
    assert!(text.contains(": Preparing\n") && text.contains(": Pushed\n"), "{text}");
    let told = text.lines().last().unwrap().to_owned();
    let again = host.cuddy(&["push", &name]).exits(0).text();
    assert!(again.contains(": Layer already exists\n") && again.ends_with(&format!("{told}\n")), "{again}");
    assert_eq!(host.cuddy(&["push", "-q", &name]).exits(0).text(), format!("{name}\n"));

    let other = impatient();
    other.cuddy(&["pull", &name]).exits(0);
    assert!(ids(&other).contains(&id));
    if has_skopeo() {
        let there = digest_there(&host, &name);
        assert!(told.starts_with(&format!("1: digest: {there} size: ")), "{told} {there}");
        skopeo(
            &host,
            &[
                "copy",
                "--src-tls-verify=false",
                &format!("docker://{name}"),
                &format!("dir:{}", host.text("out")),
            ],
        );
    }
}

#[test]
fn what_others_push_keeps_its_digest_through_us() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else { return };
    if !has_skopeo() {
        return;
    }
    let first = format!("{}/one:1", registry.name);
    let host = host_with(std::slice::from_ref(&first));
    host.cuddy(&["push", &first]).exits(0);
    for (format, to) in [("oci", "oci"), ("v2s2", "docker")] {
        let name = format!("{}/{to}:x", registry.name);
        let unsafely = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", format];
        skopeo(
            &host,
            &[&unsafely[..], &[&format!("docker://{first}"), &format!("docker://{name}")]].concat(),
        );
        let wanted = digest_there(&host, &name);
        let through = impatient();
        let text = through.cuddy(&["pull", &name]).exits(0).text();
        assert!(text.contains(&format!("Digest: {wanted}\n")), "{text}");
        let text = through.cuddy(&["push", &name]).exits(0).text();
        assert!(text.contains(&format!("digest: {wanted} size")), "{text}");
        assert_eq!(digest_there(&host, &name), wanted);
        // By digest it is the same image.
        let by_digest = format!("{}/{to}@{wanted}", registry.name);
        let text = through.cuddy(&["pull", &by_digest]).exits(0).text();
        assert!(text.contains(": Already exists\n"), "{text}");
    }
}

#[test]
fn a_layer_that_another_repository_has_is_mounted_and_every_tag_is_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else { return };
    let names: Vec<String> = ["a:1", "b:1", "b:2"].map(|name| format!("{}/{name}", registry.name)).into();
    let host = host_with(&names);
    host.cuddy(&["push", &names[0]]).exits(0);
    let text = host.cuddy(&["push", "--all-tags", &format!("{}/b", registry.name)]).exits(0).text();
    assert!(text.contains(": Mounted from a\n"), "{text}");
    assert!(text.contains("\n1: digest: ") && text.contains("\n2: digest: "), "{text}");
    let other = impatient();
    other.cuddy(&["pull", "-a", &format!("{}/b", registry.name)]).exits(0);
    let text = other.cuddy(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).exits(0).text();
    assert!(text.contains(&names[1]) && text.contains(&names[2]), "{text}");
}

#[test]
fn only_what_has_a_name_here_is_pushed() {
    let host = impatient();
    for (line, words) in [
        (&["push", "127.0.0.1:1/none"][..], "does not exist locally with the tag"),
        (&["push", "-a", "127.0.0.1:1/none"], "does not exist locally"),
        (&["push", "-a", "127.0.0.1:1/none:1"], "can't be used with --all-tags"),
        (&["push", &format!("127.0.0.1:1/none@{}", digest(b""))], "cannot push a digest"),
    ] {
        let ended = host.cuddy(line).exits(1);
        assert!(ended.stderr.contains(words), "{line:?}: {}", ended.stderr);
    }
}

#[test]
fn a_registry_with_tls_and_users_takes_and_gives() {
    let dir = tempfile::tempdir().unwrap();
    let Some(certificates) = certificates(dir.path()) else { return };
    fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
    let more = format!(
        "  tls: {{certificate: {}, key: {}}}\nauth: {{htpasswd: {{realm: basic, path: {}}}}}\n",
        certificates.chain.display(),
        certificates.key.display(),
        dir.path().join("htpasswd").display()
    );
    let Some(registry) = Registry::start(dir.path(), &more) else { return };
    let name = format!("{}/team/app:1", registry.name);
    let mut host = host_with(std::slice::from_ref(&name));
    host.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
    let refused = host.cuddy(&["push", &name]).exits(1);
    assert!(refused.stderr.contains("cuddy login"), "{}", refused.stderr);
    let line = ["login", "-u", "me", "--password-stdin", registry.name.as_str()];
    host.cuddy_reading(&line, b"wrong").exits(1);
    host.cuddy_reading(&line, b"testing").exits(0);
    host.cuddy(&["push", &name]).exits(0);
    host.cuddy(&["pull", &name]).exits(0);
    host.cuddy(&["logout", &registry.name]).exits(0);
    host.cuddy(&["pull", &name]).exits(1);
}

#[test]
fn an_upload_that_breaks_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else { return };
    let (to, first) = (registry.name.clone(), Mutex::new(true));
    // Between us and it: the first upload is lost on its way, and the first answers are errors.
    let between = Fake::new(Shelf::default(), move |asked| match asked.method.as_str() {
        "PUT" if asked.body.len() > 100_000 && std::mem::take(&mut *first.lock().unwrap()) => {
            Some(Reply::Raw(Vec::new()))
        }
        "POST" if asked.before == 0 => Some(Reply::status(503, "")),
        _ => Some(Reply::Forward(to.clone())),
    });
    let name = between.it(":1");
    let host = host_with(std::slice::from_ref(&name));
    host.cuddy(&["push", &name]).exits(0);
    let other = impatient();
    other.cuddy(&["pull", &format!("{}/it:1", registry.name)]).exits(0);
    let pushed: Vec<_> =
        between.asked_for("uploads").into_iter().filter(|asked| asked.method == "PUT").collect();
    assert!(pushed.len() >= 3, "{pushed:?}");
}

#[test]
fn an_upload_goes_on_from_what_the_registry_has_of_it() {
    let at = "/v2/it/blobs/uploads/session?state=1";
    let between = Fake::new(Shelf::default(), move |asked| {
        let with = |status, name, value: &str| Some(Reply::with(status, name, value.to_owned()));
        let is_layer = asked.body.len() > 100_000;
        match (asked.method.as_str(), asked.path.as_str()) {
            ("HEAD", _) => Some(Reply::status(404, "")),
            ("POST", _) => with(202, "location", at),
            ("PUT", path) if path.starts_with("/v2/it/manifests") => Some(Reply::status(201, "")),
            ("PUT", _) if is_layer => Some(Reply::Raw(Vec::new())),
            ("GET", path) if path == at => Some(Reply::Whole {
                status: 204,
                headers: vec![("range", "0-99999".to_owned()), ("location", at.to_owned())],
                body: Vec::new(),
            }),
            ("PATCH", _) => with(202, "location", at),
            ("PUT", _) => Some(Reply::status(201, "")),
            _ => None,
        }
    });
    let name = between.it(":1");
    let host = host_with(std::slice::from_ref(&name));
    host.cuddy(&["push", &name]).exits(0);
    let all = between.asked();
    let whole = all.iter().find(|asked| asked.method == "PUT" && asked.body.len() > 100_000).unwrap();
    let rest = all.iter().find(|asked| asked.method == "PATCH").unwrap();
    assert_eq!(rest.body, whole.body[100_000..]);
    assert_eq!(rest.header("content-range"), Some(format!("100000-{}", whole.body.len() - 1).as_str()));
    let last = all.iter().find(|asked| asked.method == "PUT" && asked.body.is_empty()).unwrap();
    assert!(last.path.ends_with(&format!("&digest={}", digest(&whole.body))), "{}", last.path);
}

#[test]
fn a_proxy_that_breaks_things_does_not_break_a_pull() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), "") else { return };
    let first = format!("{}/it:1", registry.name);
    let host = host_with(std::slice::from_ref(&first));
    host.cuddy(&["push", &first]).exits(0);
    let to = registry.name.clone();
    let between = Fake::new(Shelf::default(), move |asked| match asked.before {
        0 => Some(Reply::with(429, "retry-after", "0")),
        1 => Some(Reply::Raw(Vec::new())),
        _ => Some(Reply::Forward(to.clone())),
    });
    let other = impatient();
    other.cuddy(&["pull", &between.it(":1")]).exits(0);
    assert_eq!(ids(&other).first(), ids(&host).first());
}
