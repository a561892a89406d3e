//! `pull`, `push`, `login`, `logout`, `search`: which registry, who we are to it, and what the image store
//! gets or gives. It prints nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::audit;
use crate::engine::host::Host;
use crate::engine::images::{take_ids, tell_skipped};
use crate::engine::launch::Warn;
use crate::engine::storage;
use crate::error::{Error, ErrorKind};
use crate::image::config::Platform;
use crate::image::index::Meant;
use crate::image::registry::client::{ClientError, Repository, verify};
use crate::image::registry::credentials::{Credential, Credentials, CredentialsError, Secret};
use crate::image::registry::event::{Event, Tell};
use crate::image::registry::http::{Http, HttpError, Network, Request};
use crate::image::registry::policy::Policy;
use crate::image::registry::pull::{self, Found, Target};
use crate::image::registry::push;
use crate::image::registry::settings::{Endpoint, SETTINGS_BYTES_MAX, Settings};
use crate::image::registry::signature;
use crate::image::registry::url::Url;
use crate::image::store::{Store, StoreError};
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, read_file};

/// Where the certificate authorities of a host are: Debian, Fedora, openSUSE, Alpine.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Largest answer to a search, in bytes.
const SEARCH_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Who answers a search for Docker's own registry.
const HUB_SEARCH: &str = "index.docker.io";

/// The tools of one command: HTTP, credentials, and which images are taken.
struct Desk {
    http: Http,
    credentials: Credentials,
    /// What was found in them, by registry and repository: a helper is asked once.
    known: RefCell<BTreeMap<(String, String), Option<Credential>>>,
    policy: Policy,
}

fn open(host: &Host) -> Result<Desk, Error> {
    let settings = match config_file(host, "registries.json")? {
        Some((path, bytes)) => Settings::parse(&bytes, &path)?,
        None => Settings::default(),
    };
    let policy = match config_file(host, "policy.json")? {
        Some((path, bytes)) => Policy::parse(&bytes, &path)?,
        None => Policy::default(),
    };
    let credentials = Credentials::open(&credentials_path(host)?, &host.path)?;
    let http = Http::new(network(host), settings);
    Ok(Desk { http, credentials, known: RefCell::default(), policy })
}

/// A file of the user's own settings, or else of the host's.
fn config_file(host: &Host, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    let own = variable(host, "XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let own = own.or_else(|| host.home.as_ref().map(|home| home.join(".config")));
    let places = own.into_iter().map(|dir| dir.join("cuddy")).chain([PathBuf::from("/etc/cuddy")]);
    for path in places.map(|dir| dir.join(name)) {
        match read_file(&path, SETTINGS_BYTES_MAX) {
            Err(e) if e.source.kind() == std::io::ErrorKind::NotFound => {}
            other => return Ok(Some((path, other?))),
        }
    }
    Ok(None)
}

fn variable<'h>(host: &'h Host, name: &str) -> Option<&'h str> {
    host.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// `--config`, `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG`, or `.docker` at home.
fn credentials_path(host: &Host) -> Result<PathBuf, Error> {
    if let Some(dir) = &host.docker_config {
        return Ok(host.cwd.join(dir).join("config.json"));
    }
    if let Some(file) = variable(host, "REGISTRY_AUTH_FILE") {
        return Ok(host.cwd.join(file));
    }
    let dir = variable(host, "DOCKER_CONFIG").map(|dir| host.cwd.join(dir));
    let dir = dir.or_else(|| host.home.as_ref().map(|home| home.join(".docker")));
    let dir = dir.ok_or_else(|| {
        let error = Error::new(ErrorKind::Usage, "neither DOCKER_CONFIG nor HOME says where credentials are");
        error.hint("say where: `DOCKER_CONFIG=DIR cuddy …`")
    })?;
    Ok(dir.join("config.json"))
}

/// What the host lends to whoever asks other machines.
pub fn network(host: &Host) -> Network {
    let either = |upper, lower| variable(host, upper).or_else(|| variable(host, lower));
    let proxy =
        |upper, lower| either(upper, lower).or_else(|| either("ALL_PROXY", "all_proxy")).map(Secret::new);
    let certs = |dir: &Path| dir.join(".config/containers/certs.d");
    let own = variable(host, "SSL_CERT_FILE").map(PathBuf::from);
    let certs_dirs = host.home.as_deref().map(certs).into_iter();
    let usual = ["/usr/bin/getent", "/bin/getent"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    Network {
        getent: usual.or_else(|| host.find_program("getent")),
        authorities: own.into_iter().chain(AUTHORITIES.map(PathBuf::from)).collect(),
        certs_dirs: certs_dirs
            .chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from))
            .collect(),
        https_proxy: proxy("HTTPS_PROXY", "https_proxy"),
        http_proxy: proxy("HTTP_PROXY", "http_proxy"),
        no_proxy: either("NO_PROXY", "no_proxy").unwrap_or_default().to_owned(),
    }
}

impl Desk {
    /// Who we are to a registry, or to its mirror, which has its own users.
    fn credential(
        &self,
        endpoint: &Endpoint,
        reference: &ImageReference,
    ) -> Result<Option<Credential>, CredentialsError> {
        let domain = if endpoint.is_mirror { endpoint.base.authority() } else { reference.domain() };
        let key = (domain.to_owned(), reference.repository().to_owned());
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = self.credentials.find(domain, reference.repository())?;
        self.known.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    /// Asks the programs that keep credentials while they are still started as the user: in our user
    /// namespace they would find neither his keyring nor, perhaps, his files.
    fn learn(&self, reference: &ImageReference) -> Result<(), ClientError> {
        for endpoint in self.http.settings.endpoints(reference.domain())? {
            // What cannot be had is an error only where it is needed.
            let _known = self.credential(&endpoint, reference);
        }
        Ok(())
    }

    fn connect(
        &self,
        endpoint: &Endpoint,
        reference: &ImageReference,
        actions: &str,
        also: &[String],
    ) -> Result<Repository<'_>, Error> {
        // What failed at the place before, and stopped there, does not stop here.
        self.http.go_on();
        let name = reference.repository();
        let credential = self.credential(endpoint, reference)?;
        let mut scopes = vec![format!("repository:{name}:{actions}")];
        scopes.extend(also.iter().map(|name| format!("repository:{name}:pull")));
        Ok(Repository::connect(&self.http, endpoint, name, scopes, credential)?)
    }
}

/// What is to be pulled.
#[derive(Debug)]
pub struct PullRequest {
    /// The name as it was typed.
    pub name: String,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// `--platform`.
    pub platform: Option<String>,
}

/// Whether a name was typed without tag and digest, so that `latest` is meant.
pub fn means_latest(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    !last.contains(':') && !name.contains('@')
}

fn with_tag(reference: &ImageReference, tag: &str) -> Result<ImageReference, Error> {
    Ok(format!("{}/{}:{tag}", reference.domain(), reference.repository()).parse()?)
}

fn with_digest(reference: &ImageReference, digest: &Digest) -> Result<ImageReference, Error> {
    Ok(format!("{}/{}@{digest}", reference.domain(), reference.repository()).parse()?)
}

/// `linux/arm64/v8`; a word alone is a processor.
fn target(text: Option<&str>) -> Result<Target, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Target { platform: Platform::host(), variant: None });
    };
    let words: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match words[..] {
        [architecture] => ("linux", architecture, None),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
        _ => {
            let error = Error::new(ErrorKind::Usage, format!("`{text}` is not a platform"));
            return Err(error.hint("`linux/amd64` and `linux/arm/v7` are"));
        }
    };
    // The names that kernels have for what Go calls otherwise.
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Ok(Target { platform: Platform { os: os.to_owned(), architecture: architecture.to_owned() }, variant })
}

/// Pulls an image, or every image of a repository. Gives what Docker prints at the end: the full name.
///
/// # Errors
/// What the registry, the image or the store has against it.
pub fn pull(host: &Host, request: &PullRequest, tell: Tell<'_>, warn: Warn<'_>) -> Result<String, Error> {
    let reference: ImageReference = request.name.parse()?;
    if request.all_tags && !means_latest(&request.name) {
        return Err(Error::new(ErrorKind::Usage, "tag can't be used with --all-tags/-a"));
    }
    let target = target(request.platform.as_deref())?;
    let desk = open(host)?;
    let mut puller = Puller { host, desk: &desk, target, is_asked: request.platform.is_some(), owners: None };
    if !request.all_tags {
        puller.any(&reference, tell, warn)?;
        return Ok(reference.to_string());
    }
    let endpoints = desk.http.settings.endpoints(reference.domain()).map_err(ClientError::Url)?;
    let mut tags = Err(Error::new(ErrorKind::Bug, "there is no registry to ask"));
    for endpoint in &endpoints {
        tags = desk.connect(endpoint, &reference, "pull", &[]).and_then(|at| Ok(at.tags()?));
        if tags.is_ok() {
            break;
        }
    }
    for tag in tags? {
        puller.any(&with_tag(&reference, &tag)?, tell, warn)?;
    }
    Ok(format!("{}/{}", reference.domain(), reference.repository()))
}

/// Pulls one image after the other; this process moves into its user namespace once.
struct Puller<'h> {
    host: &'h Host,
    desk: &'h Desk,
    target: Target,
    is_asked: bool,
    owners: Option<Owners>,
}

impl Puller<'_> {
    /// From the first mirror that has it, or from the registry itself.
    fn any(&mut self, reference: &ImageReference, tell: Tell<'_>, warn: Warn<'_>) -> Result<(), Error> {
        tell(Event::Pulling(reference));
        let endpoints = self.desk.http.settings.endpoints(reference.domain()).map_err(ClientError::Url)?;
        let mut last = Error::new(ErrorKind::Bug, "there is no registry to ask");
        for endpoint in &endpoints {
            match self.one(endpoint, reference, tell, warn) {
                Ok(()) => return Ok(()),
                Err(error) if endpoint.is_mirror => {
                    warn(&format!("mirror `{}` has not helped: {error}", endpoint.base));
                    last = error;
                }
                Err(error) => {
                    let asked = audit::Asked {
                        uid: self.host.uid,
                        verb: "pull",
                        object: &reference.familiar(),
                        id: "",
                    };
                    audit_if_there(self.host, &asked, audit::Outcome::Failed(error.kind))?;
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    fn one(
        &mut self,
        endpoint: &Endpoint,
        reference: &ImageReference,
        tell: Tell<'_>,
        warn: Warn<'_>,
    ) -> Result<(), Error> {
        let repository = self.desk.connect(endpoint, reference, "pull", &[])?;
        let asked = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.unwrap_or("latest"),
        };
        let found = pull::look_up(&repository, asked, &self.target)?;
        self.check_platform(reference, &found, warn)?;
        let digest = found.digest().clone();
        signature::check(&repository, reference, &digest, self.desk.policy.rule(reference))?;
        let mut names = vec![with_digest(reference, &digest)?];
        // As Docker: with a digest beside it the tag says nothing.
        if let (Some(tag), None) = (reference.tag(), reference.digest()) {
            names.push(with_tag(reference, tag)?);
        }
        let owners = match self.owners {
            Some(owners) => owners,
            None => {
                self.desk.learn(reference)?;
                *self.owners.insert(take_ids(self.host, warn)?)
            }
        };
        let id = found.id.clone();
        let pulled = pull::fetch(&storage::open(self.host)?, owners, &repository, found, names, tell)?;
        tell_skipped(pulled.skipped, warn);
        tell(Event::Pulled { reference, digest: &digest, is_new: pulled.is_new });
        let name = reference.familiar();
        let asked = audit::Asked { uid: self.host.uid, verb: "pull", object: &name, id: id.as_str() };
        Ok(audit::append(&self.host.data, &asked, audit::Outcome::Ended(0))?)
    }

    fn check_platform(&self, reference: &ImageReference, found: &Found, warn: Warn<'_>) -> Result<(), Error> {
        let has = Platform { os: found.config.os.clone(), architecture: found.config.architecture.clone() };
        let name = reference.familiar();
        if self.is_asked && has != self.target.platform {
            let text = format!("image `{name}` is for {has}, not {}", self.target);
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        if let Some(foreign) = found.config.foreign_platform().filter(|_| !self.is_asked) {
            warn(&format!("image `{name}` is made for {foreign}, this host is {}", Platform::host()));
        }
        Ok(())
    }
}

/// What leaves nothing in the data folder is recorded where there is one: a name that was mistyped makes none.
fn audit_if_there(host: &Host, asked: &audit::Asked<'_>, outcome: audit::Outcome) -> Result<(), Error> {
    if host.data.is_dir() {
        audit::append(&host.data, asked, outcome)?;
    }
    Ok(())
}

/// Pushes the image that a name means, or every tag of its repository.
///
/// # Errors
/// What the registry or the store has against it.
pub fn push(host: &Host, name: &str, all_tags: bool, tell: Tell<'_>) -> Result<String, Error> {
    let reference: ImageReference = name.parse()?;
    if reference.digest().is_some() {
        return Err(Error::new(ErrorKind::Usage, "cannot push a digest reference"));
    }
    if all_tags && !means_latest(name) {
        return Err(Error::new(ErrorKind::Usage, "tag can't be used with --all-tags/-a"));
    }
    let store = storage::open(host)?;
    let mut images = Vec::new();
    {
        let index = store.index()?;
        let is_wanted = |name: &ImageReference| {
            let is_here = name.domain() == reference.domain() && name.repository() == reference.repository();
            is_here && if all_tags { name.tag().is_some() } else { *name == reference }
        };
        for (name, ids) in index.names().filter(|(name, _)| is_wanted(name)) {
            images.extend(index.choose(ids, None).map(|id| (name, id)));
        }
    }
    if images.is_empty() {
        let text = match all_tags {
            true => format!("an image does not exist locally with the name `{name}`"),
            false => format!("an image does not exist locally with the tag `{}`", reference.familiar()),
        };
        return Err(Error::new(ErrorKind::NotFound, text).hint("`cuddy images` lists what is here"));
    }
    let desk = open(host)?;
    let endpoint = desk.http.settings.own(reference.domain()).map_err(ClientError::Url)?;
    tell(Event::Pushing(&reference));
    for (name, id) in &images {
        let _lease = store.lease_on(id)?;
        let index = store.index()?;
        let gone = || StoreError::NotFound { name: name.familiar(), similar: Vec::new() };
        let parcel = push::pack(&store, id, index.images.get(id).ok_or_else(gone)?)?;
        let mounts = push::mount_sources(&index, &parcel, name);
        let repository = desk.connect(&endpoint, name, "pull,push", &mounts)?;
        let tag = name.tag().unwrap_or("latest");
        let sent = push::send(&store, &repository, &parcel, &mounts, tag, tell);
        let familiar = name.familiar();
        let asked = audit::Asked { uid: host.uid, verb: "push", object: &familiar, id: id.as_str() };
        let (digest, bytes) = match sent {
            Ok(sent) => sent,
            Err(fault) => {
                let error = Error::from(fault);
                audit::append(&host.data, &asked, audit::Outcome::Failed(error.kind))?;
                return Err(error);
            }
        };
        // From now on it has a digest there, which is one more name of it.
        let by_digest = with_digest(name, &digest)?;
        store.change(|index| {
            if index.images.contains_key(id) {
                index.give(&by_digest, id);
            }
            Ok::<_, StoreError>(())
        })?;
        tell(Event::Pushed { reference: name, digest: &digest, bytes });
        audit::append(&host.data, &asked, audit::Outcome::Ended(0))?;
    }
    Ok(reference.to_string())
}

/// The registry that a person names for a login: a host, an address, or nothing for Docker's own.
///
/// # Errors
/// `Usage` when it is none.
pub fn registry_name(text: Option<&str>) -> Result<String, Error> {
    let text = text.unwrap_or_default();
    let bare = text.trim_start_matches("https://").trim_start_matches("http://");
    let host = bare.split('/').next().unwrap_or_default();
    if matches!(host, "" | "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return Ok("docker.io".to_owned());
    }
    match Url::new(true, host, "/") {
        Ok(url) => Ok(url.authority().to_owned()),
        Err(_) => Err(Error::new(ErrorKind::Usage, format!("`{text}` is not a registry"))),
    }
}

/// The user whose login for a registry is kept, when it can be read.
///
/// # Errors
/// What is wrong with the file of credentials.
pub fn known_user(host: &Host, registry: &str) -> Result<Option<String>, Error> {
    let credentials = Credentials::open(&credentials_path(host)?, &host.path)?;
    Ok(match credentials.find(registry, "")? {
        Some(Credential::Password { user, .. }) => Some(user),
        Some(_) => Some("<token>".to_owned()),
        None => None,
    })
}

/// Where a login was kept.
#[derive(Debug)]
pub struct Kept {
    /// The file.
    pub path: PathBuf,
    /// It holds the secret as text that anyone can read who can read the file.
    pub is_readable: bool,
}

/// Asks the registry whether the login is good, and keeps it. Without a user the one that is kept is
/// tried again.
///
/// # Errors
/// `Denied` when it is not.
pub fn login(host: &Host, registry: &str, user: Option<(String, String)>) -> Result<Kept, Error> {
    let mut desk = open(host)?;
    let credential = match user {
        Some((user, password)) => Credential::Password { user, password: Secret::new(password) },
        None => desk
            .credentials
            .find(registry, "")?
            .ok_or_else(|| Error::new(ErrorKind::Usage, format!("no login for `{registry}` is kept")))?,
    };
    let endpoint = desk.http.settings.own(registry).map_err(ClientError::Url)?;
    let verified = verify(&desk.http, &endpoint, credential).map_err(|error| match error {
        ClientError::Denied { complaint, .. } => {
            let text = format!("`{registry}` does not accept this login{complaint}");
            Error::new(ErrorKind::Denied, text)
        }
        other => other.into(),
    })?;
    let is_readable = desk.credentials.keep(registry, &verified)?;
    let asked = audit::Asked { uid: host.uid, verb: "login", object: registry, id: "" };
    audit_if_there(host, &asked, audit::Outcome::Ended(0))?;
    Ok(Kept { path: desk.credentials.path().to_owned(), is_readable })
}

/// Forgets the login for a registry; whether there was one.
///
/// # Errors
/// What is wrong with the file of credentials.
pub fn logout(host: &Host, registry: &str) -> Result<bool, Error> {
    let was_there = Credentials::open(&credentials_path(host)?, &host.path)?.forget(registry)?;
    let asked = audit::Asked { uid: host.uid, verb: "logout", object: registry, id: "" };
    audit_if_there(host, &asked, audit::Outcome::Ended(0))?;
    Ok(was_there)
}

/// One repository that was found.
#[derive(Debug, Clone, Deserialize)]
pub struct Hit {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What its owner says of it.
    #[serde(default)]
    pub description: String,
    /// How many like it.
    #[serde(default, alias = "stars")]
    pub star_count: u64,
    /// Docker's own.
    #[serde(default)]
    pub is_official: bool,
}

/// Searches Docker's registry, or the one that stands before the first `/`.
///
/// # Errors
/// `Unsupported` where the registry has no search.
pub fn search(host: &Host, term: &str, limit: u32) -> Result<Vec<Hit>, Error> {
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (registry, term) = match term.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (HUB_SEARCH, term),
    };
    let desk = open(host)?;
    let endpoint = desk.http.settings.own(registry).map_err(ClientError::Url)?;
    let ask = |base: &Url| {
        let url = base.at("/v1/search").map_err(ClientError::Url)?;
        let url = url.with_query("q", term).with_query("n", &limit.to_string());
        let request = Request::get(url).header("accept", "application/json");
        Ok::<_, ClientError>(desk.http.send(&request)?)
    };
    let answer = match ask(&endpoint.base) {
        Err(ClientError::Http(HttpError::NoTls { .. } | HttpError::Unreachable { .. }))
            if endpoint.may_be_plain =>
        {
            ask(&Url::new(false, endpoint.base.authority(), "/").map_err(ClientError::Url)?)?
        }
        other => other?,
    };
    let unsupported = || {
        let error = Error::new(ErrorKind::Unsupported, format!("`{registry}` offers no search"));
        error.hint("Docker's registry and quay.io do; others list images on their web pages")
    };
    if matches!(answer.status, 400..=405 | 410 | 501) {
        return Err(unsupported());
    }
    #[derive(Deserialize)]
    struct Hits {
        results: Vec<Hit>,
    }
    let bytes = answer.expect(&[200])?.bytes(SEARCH_BYTES_MAX)?;
    let hits: Hits = serde_json::from_slice(&bytes).map_err(|_unsaid| unsupported())?;
    Ok(hits.results.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

/// When `run` pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the image is not here.
    Missing,
    /// Each time.
    Always,
    /// Never.
    Never,
}

/// Whether an image must be pulled before it can be run; `true` inside when it is not here.
///
/// # Errors
/// What is wrong with its name or the store.
pub fn must_pull(
    host: &Host,
    name: &str,
    policy: PullPolicy,
    platform: Option<&str>,
) -> Result<Option<bool>, Error> {
    // `@host` and its like are no images of a registry.
    if policy == PullPolicy::Never || name.starts_with('@') {
        return Ok(None);
    }
    let reference: ImageReference = name.parse()?;
    let wanted = platform.map(|platform| target(Some(platform))).transpose()?.map(|target| target.platform);
    let index = Store::look(&host.data).index()?;
    let is_here = match index.find(&reference) {
        Meant::Images { ids, .. } => index.choose(&ids, wanted.as_ref()).is_some_and(|id| {
            let record = index.images.get(&id);
            wanted.as_ref().is_none_or(|wanted| record.is_some_and(|record| record.platform == *wanted))
        }),
        Meant::Ambiguous(_) => true,
        Meant::Nothing(_) => false,
    };
    let policy_says = policy == PullPolicy::Always || !is_here;
    Ok(policy_says.then_some(!is_here))
}

/// Pulls in a process of its own, for this one must keep its one thread: our own program, started again,
/// with its output on our standard error. Whether it went well; it has told why not.
///
/// # Errors
/// When it cannot be started.
pub fn pull_aside(host: &Host, name: &str, platform: Option<&str>, is_quiet: bool) -> Result<bool, Error> {
    let program = Path::new("/proc/self/exe");
    let wrong = |e| FsError::new("start", program, e);
    let output = rustix::stdio::stderr().as_fd().try_clone_to_owned().map_err(wrong)?;
    let mut command = Command::new(program);
    if let Some(dir) = &host.docker_config {
        command.arg("--config").arg(dir);
    }
    command.arg("pull");
    if is_quiet {
        command.arg("--quiet");
    }
    if let Some(platform) = platform {
        command.arg("--platform").arg(platform);
    }
    command.arg("--").arg(name).stdin(Stdio::null()).stdout(Stdio::from(output));
    Ok(command.status().map_err(wrong)?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_many_ways() {
        for (typed, name) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("https://ghcr.io/v2/"), "ghcr.io"),
            (Some("[::1]:5000"), "[::1]:5000"),
        ] {
            assert_eq!(registry_name(typed).unwrap(), name);
        }
        assert!(registry_name(Some("user:password@host")).is_err());
    }

    #[test]
    fn platforms_are_read_as_docker_reads_them() {
        let read = |text| target(Some(text)).map(|target| target.to_string());
        assert_eq!(read("linux/arm/v7").unwrap(), "linux/arm/v7");
        assert_eq!(read("arm64").unwrap(), "linux/arm64");
        assert_eq!(read("linux/x86_64").unwrap(), "linux/amd64");
        assert!(read("a/b/c/d").is_err());
    }

    #[test]
    fn only_a_bare_name_means_latest() {
        for (name, is) in [("alpine", true), ("localhost:5000/a", true), ("a:1", false), ("h:1/a:2", false)] {
            assert_eq!(means_latest(name), is, "{name}");
        }
        assert!(!means_latest(&format!("a@sha256:{}", "0".repeat(64))));
    }
}
