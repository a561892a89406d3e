//! Who we are to a registry: passwords, tokens, helpers, certificates; and that no secret goes where it must
//! not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::fake::{Asked, Fake, Reply, Shelf, impatient, settings};
use crate::harness::{Host, require};
use crate::image::{Image, MANIFEST, holders, ids};

const PASSWORD: &str = "s3cr3t-pass";
/// `me:s3cr3t-pass`
const BASIC: &str = "Basic bWU6czNjcjN0LXBhc3M=";

fn challenge(text: impl Into<String>) -> Option<Reply> {
    Some(Reply::with(401, "www-authenticate", text))
}

/// A registry that wants a password with each request.
fn with_password() -> Fake {
    Fake::new(Shelf::of(&Image::usual()), |asked| {
        if asked.header("authorization") == Some(BASIC) { None } else { challenge("Basic realm=\"x\"") }
    })
}

/// A registry that wants tokens, and gives them out itself: the third one is good for nothing more.
fn with_tokens(seconds: u64) -> Fake {
    Fake::new(Shelf::of(&Image::usual()), move |asked| {
        if asked.path.starts_with("/token") {
            return Some(token(asked, seconds));
        }
        let good = asked.header("authorization").is_some_and(|header| header.starts_with("Bearer token-"));
        if good {
            None
        } else {
            challenge(format!(
                "Bearer realm=\"http://{}/token\",service=\"it's\"",
                asked.header("host").expect("the test made it so")
            ))
        }
    })
}

fn token(asked: &Asked, seconds: u64) -> Reply {
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    let is_known =
        asked.header("authorization") == Some(BASIC) || body.contains("refresh_token=identity-token");
    if !is_known {
        return Reply::status(401, r#"{"details": "incorrect username or password"}"#);
    }
    let mut json = json!({"token": format!("token-{}", asked.before), "expires_in": seconds});
    if asked.path.contains("offline_token=true") {
        json["refresh_token"] = json!("identity-token");
    }
    Reply::status(200, &json.to_string())
}

fn config(host: &Host) -> (PathBuf, Value) {
    let path = host.path("../home/.docker/config.json");
    let json = serde_json::from_slice(&fs::read(&path).unwrap_or_else(|_| b"{}".to_vec()))
        .expect("the test made it so");
    (path, json)
}

#[track_caller]
fn log_in(host: &Host, registry: &str) {
    let line = ["login", "-u", "me", "--password-stdin", registry];
    let ended = host.cuddy_reading(&line, format!("{PASSWORD}\n").as_bytes()).exits(0);
    assert_eq!(ended.text(), "Login Succeeded\n");
    assert!(!ended.stderr.contains(PASSWORD), "{}", ended.stderr);
}

#[test]
fn a_login_is_tried_then_kept_for_its_owner_and_forgotten_by_logout() {
    let (host, registry) = (impatient(), with_password());
    let line = ["login", "-u", "me", "--password-stdin", registry.name.as_str()];
    let wrong = host.cuddy_reading(&line, b"wrong-pass").exits(1);
    assert!(
        wrong.stderr.contains("does not accept this login") && !wrong.stderr.contains("wrong-pass"),
        "{}",
        wrong.stderr
    );
    assert!(!config(&host).0.exists());
    let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
    assert!(ended.stderr.contains(&format!("cuddy login {}", registry.name)), "{}", ended.stderr);

    log_in(&host, &registry.name);
    let (path, json) = config(&host);
    assert_eq!(format!("Basic {}", json["auths"][&registry.name]["auth"].as_str().unwrap()), BASIC);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    let again = host.cuddy(&["login", &registry.name]).exits(0);
    assert_eq!(again.text(), "Authenticating with existing credentials...\nLogin Succeeded\n");

    let out = host.cuddy(&["logout", &registry.name]).exits(0);
    assert_eq!(out.text(), format!("Removing login credentials for {}\n", registry.name));
    let out = host.cuddy(&["logout", &registry.name]).exits(0);
    assert_eq!(out.text(), format!("Not logged in to {}\n", registry.name));
    host.cuddy(&["pull", &registry.it("")]).exits(1);
    assert_eq!(holders(&host.data(), PASSWORD), Vec::<String>::new());
    assert_eq!(holders(&host.data(), "\"verb\":\"logout\"").len(), 1, "it is in the record");
}

#[test]
fn a_login_says_what_it_needs() {
    let host = impatient();
    for (line, words) in [
        (&["login", "-u", "me", "127.0.0.1:1"][..], "--password-stdin"),
        (&["login", "127.0.0.1:1"], "user name"),
        (&["login", "--password-stdin", "127.0.0.1:1"], "Must provide --username"),
        (&["login", "-u", "me", "-p", "x", "--password-stdin", "127.0.0.1:1"], "mutually exclusive"),
        (&["login", "-u", "me", "-p", "x", "a:b@c"], "is not a registry"),
    ] {
        let ended = host.cuddy(line).exits(1);
        assert!(ended.stderr.contains(words), "{line:?}: {}", ended.stderr);
    }
    let registry = with_password();
    let ended = host.cuddy(&["login", "-u", "me", "-p", PASSWORD, &registry.name]).exits(0);
    assert!(ended.stderr.contains("Using --password via the CLI is insecure"), "{}", ended.stderr);
    assert!(ended.stderr.contains("stored unencrypted"), "{}", ended.stderr);
}

#[test]
fn tokens_are_fetched_for_what_is_done_and_the_password_is_not_kept() {
    let (host, registry) = (impatient(), with_tokens(300));
    log_in(&host, &registry.name);
    let (path, json) = config(&host);
    assert_eq!(json["auths"][&registry.name]["identitytoken"], "identity-token");
    assert!(!fs::read_to_string(path).unwrap().contains(BASIC.trim_start_matches("Basic ")));
    let before = registry.asked_for("/token").len();
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    let asked = registry.asked_for("/token").split_off(before);
    assert_eq!(asked.len(), 1, "one token serves one pull");
    let body = String::from_utf8_lossy(&asked[0].body).into_owned();
    for part in ["grant_type=refresh_token", "scope=repository:it:pull", "service=it%27s"] {
        assert!(body.contains(part), "{body}");
    }
    assert!(registry.asked_for("/v2/").iter().all(|asked| asked.header("authorization") != Some(BASIC)));
}

#[test]
fn a_token_that_is_no_longer_taken_is_fetched_again() {
    let image = Image::usual();
    let registry = Fake::new(Shelf::of(&image), |asked| {
        if asked.path.starts_with("/token") {
            return Some(Reply::status(200, &format!(r#"{{"access_token": "token-{}"}}"#, asked.before)));
        }
        // The first one is taken for manifests only.
        let good = match asked.header("authorization") {
            Some("Bearer token-0") => !asked.path.contains("blobs"),
            Some(header) => header.starts_with("Bearer token-"),
            None => false,
        };
        if good {
            None
        } else {
            challenge(format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap()))
        }
    });
    let host = impatient();
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    assert!((2..=4).contains(&registry.asked_for("/token").len()));
}

#[test]
fn who_a_registry_sends_us_on_to_does_not_choose_who_hears_our_password() {
    for part in ["/v2/", "manifests", "blobs"] {
        let thief = Fake::new(Shelf::of(&Image::usual()), |asked| {
            let host = asked.header("host").expect("the test made it so");
            challenge(format!("Bearer realm=\"http://{host}/token\"")).filter(|_| asked.path != "/token")
        });
        let at = thief.name.clone();
        let registry = Fake::new(Shelf::of(&Image::usual()), move |asked| {
            let is_it = if part == "/v2/" { asked.path == part } else { asked.path.contains(part) };
            is_it.then(|| Reply::with(307, "location", format!("http://{at}{}", asked.path)))
        });
        for secret in [
            json!({"auth": BASIC.trim_start_matches("Basic ")}),
            json!({"auth": "bWU6", "identitytoken": "identity-token"}),
        ] {
            let mut host = impatient();
            let json = json!({"auths": {registry.name.clone(): secret}});
            host.write("auth.json", json.to_string());
            let path = host.text("auth.json");
            host.set("REGISTRY_AUTH_FILE", &path);
            let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
            let asked = thief.asked();
            assert!(!asked.is_empty(), "{part}: it was sent on");
            assert!(thief.asked_for("/token").is_empty(), "{part}: {asked:?}");
            assert!(asked.iter().all(|asked| asked.header("authorization").is_none()), "{part}: {asked:?}");
            for name in [&registry.name, &thief.name] {
                assert!(ended.stderr.contains(name.as_str()), "{part}: {}", ended.stderr);
            }
            assert!(ids(&host).is_empty());
        }
    }
}

#[test]
fn a_token_server_that_says_no_or_nonsense_ends_the_pull() {
    let image = Image::usual();
    for (answer, words) in [
        (Reply::status as fn(u16, &str) -> Reply, "gives no token"),
        (|_, _| Reply::status(200, "{}"), "gives no token"),
        (|_, _| Reply::status(200, r#"{"token": "a\r\nx: y"}"#), "gives no token"),
        (|_, _| Reply::status(401, r#"{"details": "who are you"}"#), "who are you"),
        (|_, _| Reply::Endless(vec![b' '; 65536]), "is larger than"),
    ] {
        let registry = Fake::new(Shelf::of(&image), move |asked| {
            if asked.path.starts_with("/token") {
                return Some(answer(200, "not json token"));
            }
            challenge(format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap()))
        });
        let host = impatient();
        let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert!(ids(&host).is_empty());
    }
}

#[test]
fn a_credential_helper_is_asked_and_told() {
    let (mut host, registry) = (impatient(), with_password());
    let kept = host.path("kept");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nstore) cat >{0};;\nerase) rm -f {0};;\nget) cat >/dev/null; cat {0} 2>/dev/null || {{ echo credentials not found in native keychain; exit 1; }};;\nesac\n",
        kept.display()
    );
    let program = host.write("bin/docker-credential-box", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", host.text("bin"));
    host.set("PATH", &path);
    host.write("docker/config.json", r#"{"credsStore": "box", "HttpHeaders": {"a": "b"}}"#);
    let folder = host.text("docker");
    let line = ["--config", &folder, "login", "-u", "me", "--password-stdin", &registry.name];
    let ended = host.cuddy_reading(&line, PASSWORD.as_bytes()).exits(0);
    assert!(!ended.stderr.contains("unencrypted"), "{}", ended.stderr);
    assert!(fs::read_to_string(&kept).unwrap().contains(PASSWORD));
    let json: Value = serde_json::from_slice(&fs::read(host.path("docker/config.json")).unwrap()).unwrap();
    assert_eq!(json["HttpHeaders"]["a"], "b");
    assert_eq!(holders(&host.path("docker"), PASSWORD), Vec::<String>::new());
    host.set("DOCKER_CONFIG", &folder);
    host.cuddy(&["pull", &registry.it("")]).exits(0);
    host.cuddy(&["logout", &registry.name]).exits(0);
    assert!(!kept.exists());
    host.write("docker/config.json", r#"{"credsStore": "absent"}"#);
    let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
    assert!(ended.stderr.contains("docker-credential-absent"), "{}", ended.stderr);
}

#[test]
fn a_credential_helper_is_asked_once_for_each_registry_and_never_in_our_user_namespace() {
    let image = Image::usual();
    let of = |tag: &str| Shelf::of(&image).document(tag, MANIFEST, &image.manifest);
    let tags = json!({"name": "it", "tags": ["latest", "two"]}).to_string();
    let shelf = of("two").put("/v2/it/tags/list", "application/json", tags.as_bytes());
    // The mirror names a tag that it does not have.
    let mirror = Fake::good(Shelf::of(&image).put("/v2/it/tags/list", "application/json", tags.as_bytes()));
    let registry = Fake::good(shelf);
    let json = json!({"version": 1, "patience": {"tries": 1}, "registries": {registry.name.clone(): {"mirrors":
        [format!("http://{}", mirror.name)]}}});
    let mut host = settings(&json.to_string());
    let log = host.path("asked");
    let script = format!(
        "#!/bin/sh\n{{ cat; echo \" $(readlink /proc/self/ns/user)\"; }} >>{}\necho credentials not found in native keychain\nexit 1\n",
        log.display()
    );
    let program = host.write("bin/docker-credential-box", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", host.text("bin"));
    host.set("PATH", &path);
    host.write("docker/config.json", r#"{"credsStore": "box"}"#);
    let folder = host.text("docker");
    host.cuddy(&["--config", &folder, "pull", "--all-tags", &registry.it("")]).exits(0);
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let mut wanted = [&registry.name, &mirror.name].map(|name| format!("{name} {}", ours.display()));
    wanted.sort();
    let told = fs::read_to_string(&log).unwrap();
    let mut asked: Vec<&str> = told.lines().collect();
    asked.sort_unstable();
    assert_eq!(asked, wanted);
    assert!(!registry.asked_for("manifests/two").is_empty(), "the mirror does not have it");
}

#[test]
fn the_file_of_credentials_that_the_environment_names_is_used() {
    let (mut host, registry) = (impatient(), with_password());
    let json = json!({"auths": {registry.it(""): {"auth": BASIC.trim_start_matches("Basic ")}}});
    host.write("auth.json", json.to_string());
    let path = host.text("auth.json");
    host.set("REGISTRY_AUTH_FILE", &path);
    host.cuddy(&["pull", &registry.it("")]).exits(0);
}

// ── TLS ─────────────────────────────────────────────────────────────────────────────────────────

/// An authority and a certificate of it for 127.0.0.1, made by openssl.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

/// Makes them in a folder; `None` where there is no openssl.
pub(crate) fn certificates(dir: &Path) -> Option<Certificates> {
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).current_dir(dir).output();
    if !require("openssl", openssl(&["version"]).is_ok()) {
        return None;
    }
    let make = |arguments: &[&str]| {
        let output = openssl(arguments).expect("the test made it so");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    make(
        &[
            &["req", "-x509"],
            &curve[..],
            &["-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", "-days", "2"],
        ]
        .concat(),
    );
    make(&[&["req"], &curve[..], &["-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=host"]].concat());
    fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").expect("the test made it so");
    make(&[
        "x509",
        "-req",
        "-in",
        "host.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "host.crt",
        "-days",
        "2",
        "-extfile",
        "ext",
    ]);
    Some(Certificates {
        authority: dir.join("ca.crt"),
        chain: dir.join("host.crt"),
        key: dir.join("host.key"),
    })
}

fn server(certificates: &Certificates) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&certificates.chain)
        .expect("the test made it so")
        .collect::<Result<Vec<_>, _>>()
        .expect("the test made it so");
    let key = PrivateKeyDer::from_pem_file(&certificates.key).expect("the test made it so");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the test made it so");
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).expect("the test made it so"))
}

#[test]
fn a_certificate_is_accepted_only_from_an_authority_that_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let Some(certificates) = certificates(dir.path()) else { return };
    let image = Image::usual();
    let registry = Fake::start(Shelf::of(&image), |_| None, Some(server(&certificates)));
    let host = impatient();
    let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
    assert!(ended.stderr.contains("is not accepted") && ended.stderr.contains("certs.d"), "{}", ended.stderr);
    assert!(registry.asked().is_empty());

    let folder = host.path("../home/.config/containers/certs.d").join(&registry.name);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&certificates.authority, folder.join("ca.crt")).unwrap();
    host.cuddy(&["pull", &registry.it("")]).exits(0);

    let mut host = impatient();
    host.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
    host.cuddy(&["pull", &registry.it("")]).exits(0);

    let json = json!({"version": 1, "registries": {registry.name.clone(): {"ca": certificates.authority}}});
    settings(&json.to_string()).cuddy(&["pull", &registry.it("")]).exits(0);
    let json = json!({"version": 1, "registries": {registry.name.clone(): {"insecure": true}}});
    settings(&json.to_string()).cuddy(&["pull", &registry.it("")]).exits(0);
}

#[test]
fn a_certificate_that_is_its_own_authority_is_taken_only_from_the_registry_it_was_named_for() {
    let dir = tempfile::tempdir().unwrap();
    if certificates(dir.path()).is_none() {
        return;
    }
    let own = |name: &str, subject: &str| {
        let (key, chain) = (dir.path().join(format!("{name}.key")), dir.path().join(format!("{name}.crt")));
        let mut command = Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        command.args(["-subj", "/CN=own", "-addext", subject, "-keyout"]).arg(&key).arg("-out").arg(&chain);
        assert!(command.output().unwrap().status.success());
        Certificates { authority: chain.clone(), chain, key }
    };
    let good = own("good", "subjectAltName=IP:127.0.0.1");
    let other = own("other", "subjectAltName=DNS:registry.example");
    for (served, named, is_taken) in [
        (&good, Some(&good), true),
        (&good, Some(&other), false),
        (&good, None, false),
        (&other, Some(&other), false),
    ] {
        let registry = Fake::start(Shelf::of(&Image::usual()), |_| None, Some(server(served)));
        let host = impatient();
        if let Some(named) = named {
            let folder = host.path("../home/.config/containers/certs.d").join(&registry.name);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(&named.authority, folder.join("ca.crt")).unwrap();
        }
        let ended = host.cuddy(&["pull", &registry.it("")]).exits(i32::from(!is_taken));
        assert!(is_taken || ended.stderr.contains("is not accepted"), "{}", ended.stderr);
    }
}

#[test]
fn what_began_with_tls_never_goes_on_without() {
    let dir = tempfile::tempdir().unwrap();
    let Some(certificates) = certificates(dir.path()) else { return };
    let image = Image::usual();
    let plain = Fake::new(Shelf::of(&image), |asked| {
        asked.path.starts_with("/token").then(|| Reply::status(200, r#"{"token": "t"}"#))
    });
    let at = plain.name.clone();
    let redirecting = Fake::start(
        Shelf::of(&image),
        move |asked| {
            asked
                .path
                .contains("blobs")
                .then(|| Reply::with(307, "location", format!("http://{at}{}", asked.path)))
        },
        Some(server(&certificates)),
    );
    let at = plain.name.clone();
    let challenging = Fake::start(
        Shelf::of(&image),
        move |_| challenge(format!("Bearer realm=\"http://{at}/token\"")),
        Some(server(&certificates)),
    );
    for registry in [&redirecting, &challenging] {
        let mut host = impatient();
        host.set("SSL_CERT_FILE", certificates.authority.to_str().unwrap());
        let ended = host.cuddy(&["pull", &registry.it("")]).exits(1);
        assert!(ended.stderr.contains("without TLS"), "{}", ended.stderr);
        assert!(ids(&host).is_empty());
    }
    assert!(plain.asked().is_empty(), "{:?}", plain.asked());
}
