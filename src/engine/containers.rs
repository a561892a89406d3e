//! `run`: what a person asked in Docker's words becomes one decided container.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::container::idmap::IdMap;
use crate::container::mounts::{MountRequest, Source, declared_volume};
use crate::container::options::{
    DeviceRequest, EnvEntry, HOST_IMAGE, OptionError, Options, PATH_DEFAULT, SeccompChoice, UserNamespace,
    check_hostname, parse_signal,
};
use crate::container::plan::{PlannedMount, PlannedSource};
use crate::container::spec::{self, Masks};
use crate::container::state::{make_volume, volume_data};
use crate::engine::host::Host;
use crate::engine::host_image::{self, Account};
use crate::engine::images::{self, ImageDefaults};
use crate::engine::launch::{self, Ahead, Decided, Finished, RootChoice, Stack, Unenforced, Warn};
use crate::error::{Error, ErrorKind};
use crate::image::config::Platform;
use crate::names::ContainerId;
use crate::sys::fs::{self, FsError};

/// Largest `--env-file`, in bytes.
const ENV_FILE_BYTES_MAX: u64 = 1 << 20;
/// Where the container's spec says which signal asks it to end (image-spec, "Conversion to OCI Runtime
/// Configuration"). A container in the foreground is sent what its caller is sent, as in Docker.
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Runs a command in a new container, in the foreground, and clears it away afterwards. The stage may have
/// been started ahead, with the same standard streams.
///
/// # Errors
/// What kept the command from being executed.
pub fn run(host: &Host, options: Options, ahead: Option<Ahead>, warn: Warn<'_>) -> Result<Finished, Error> {
    let places = launch::open(host, warn)?;
    let decided = decide(host, options, warn)?;
    launch::carry_out(host, places, decided, ahead, warn)
}

fn decide(host: &Host, options: Options, warn: Warn<'_>) -> Result<Decided, Error> {
    options.devices.iter().try_for_each(require_device)?;
    // Before the image: a file may be a pipe that somebody has to fill, and who has read what an image is
    // made of keeps every removal waiting.
    let from_files = environment_files(host, &options)?;
    let Chosen { defaults: image, mounts: mut every, files } = image(host, &options, warn)?;
    let arguments = arguments(&options, &image)?;
    let environment = environment(host, &options, from_files, &image)?;
    let user = user(host, &options, &image);
    let map = map(host, options.userns, &image, user.as_deref(), &options.groups)?;
    let capabilities = spec::capabilities(&options.cap_add, &options.cap_drop, options.privileged)?;
    let default = if options.privileged { SeccompChoice::Unconfined } else { SeccompChoice::Default };
    let seccomp = options.seccomp.unwrap_or(default);
    let mut labels: BTreeMap<String, String> = image.labels.into_iter().collect();
    labels.extend(options.labels);
    if let Some(name) = &options.hostname {
        check_hostname(name)?;
    }
    if let Some(signal) = options.stop_signal.or(image.stop_signal) {
        parse_signal(&signal)?;
        labels.insert(STOP_SIGNAL.to_owned(), signal);
    }
    let workdir =
        options.workdir.or(image.workdir).filter(|w| !w.is_empty()).unwrap_or_else(|| "/".to_owned());
    let workdir = clean_workdir(&workdir)?;
    // Last: it makes folders.
    let (mut mounts, volumes) = mounts(host, &options.mounts, &image.volumes)?;
    every.append(&mut mounts);
    Ok(Decided {
        verb: "run",
        image: options.image,
        name: options.name,
        cidfile: options.cidfile.map(|p| host.cwd.join(p)),
        root: image.root.unwrap_or(RootChoice::Layers(Stack::default())),
        read_only: options.read_only,
        mounts: every,
        links: Vec::new(),
        files,
        volumes,
        user,
        groups: options.groups,
        map,
        arguments,
        environment,
        workdir,
        hostname: options.hostname,
        hosts: options.hosts,
        interactive: options.interactive,
        tty: options.tty,
        capabilities,
        no_new_privileges: options.no_new_privileges,
        seccomp,
        landlock: None,
        masks: if options.privileged { Masks::None } else { Masks::Docker },
        ulimits: options.ulimits,
        network: options.network,
        shm_bytes: options.shm_bytes,
        devices: options.devices,
        labels: labels.into_iter().collect(),
        limits: options.limits,
        unenforced: Unenforced::Warn,
        init: options.init,
        umask: 0o022,
        grace: None,
        owner: None,
    })
}

/// Docker's rule: `..` is taken out of the text before anything is looked at.
fn clean_workdir(text: &str) -> Result<String, OptionError> {
    if !text.starts_with('/') {
        return Err(OptionError::value("--workdir", text, "expected an absolute path"));
    }
    let mut names: Vec<&str> = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

/// A folder or a file would be bound as it is, and could be written.
fn require_device(request: &DeviceRequest) -> Result<(), Error> {
    let stat = rustix::fs::stat(&request.source).map_err(|e| FsError::new("look at", &request.source, e))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(()),
        _ => {
            let text = request.source.to_string_lossy();
            Err(OptionError::value("--device", text, "it is no device").into())
        }
    }
}

/// The image: what it says, and what `@host` adds.
struct Chosen {
    defaults: ImageDefaults,
    mounts: Vec<PlannedMount>,
    files: Vec<(PathBuf, String)>,
}

fn image(host: &Host, options: &Options, warn: Warn<'_>) -> Result<Chosen, Error> {
    if options.image != HOST_IMAGE {
        if options.image.starts_with('@') {
            let error = Error::new(ErrorKind::NotFound, format!("no image `{}` here", options.image));
            return Err(error.hint(format!("`{HOST_IMAGE}` is the only one with an `@` in front")));
        }
        let defaults = images::defaults(host, &options.image, options.platform.as_deref(), warn)?;
        return Ok(Chosen { defaults, mounts: Vec::new(), files: Vec::new() });
    }
    images::require_platform(HOST_IMAGE, &Platform::host(), options.platform.as_deref())?;
    let account = Account { name: &host.login, uid: 0, gid: 0, home: "/root" };
    let described = host_image::describe(&account);
    let defaults = ImageDefaults {
        root: Some(RootChoice::Empty(described.root)),
        command: vec!["/bin/sh".to_owned()],
        ..ImageDefaults::default()
    };
    Ok(Chosen { defaults, mounts: described.mounts, files: described.files })
}

/// Docker's rule: an entrypoint that was typed drops the image's command too.
fn arguments(options: &Options, image: &ImageDefaults) -> Result<Vec<String>, Error> {
    let (entrypoint, default) = match options.entrypoint.as_deref() {
        None => (image.entrypoint.clone(), &image.command[..]),
        Some("") => (Vec::new(), &[][..]),
        Some(program) => (vec![program.to_owned()], &[][..]),
    };
    let mut arguments = entrypoint;
    arguments.extend_from_slice(if options.command.is_empty() { default } else { &options.command });
    if arguments.is_empty() {
        return Err(OptionError::NoCommand { image: options.image.clone() }.into());
    }
    Ok(arguments)
}

/// The user that was typed or the image's, else root. With `keep-id` the caller is who it is; a number
/// alone would come with group 0, which is not there.
fn user(host: &Host, options: &Options, image: &ImageDefaults) -> Option<String> {
    let keeps = options.userns == UserNamespace::KeepId;
    match options.user.as_deref().filter(|user| !user.is_empty()) {
        None if keeps => None,
        Some(typed) if keeps && typed == host.uid.to_string() => None,
        Some(typed) => Some(typed.to_owned()),
        None => Some(image.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| "0".to_owned())),
    }
}

/// What the files of `--env-file` say.
fn environment_files(host: &Host, options: &Options) -> Result<Vec<EnvEntry>, Error> {
    let mut entries = Vec::new();
    for path in &options.environment_files {
        let path = host.cwd.join(path);
        let bytes = fs::read_named(&path, ENV_FILE_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|e| {
            FsError::new("read", &path, std::io::Error::new(std::io::ErrorKind::InvalidData, e))
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
        for line in lines {
            entries.push(
                EnvEntry::parse_line(line)
                    .map_err(|e| Error::from(e).context(format!("in `{}`", path.display())))?,
            );
        }
    }
    Ok(entries)
}

/// The image's variables, then files, then flags; later ones win, and `-e NAME` copies ours.
fn environment(
    host: &Host,
    options: &Options,
    from_files: Vec<EnvEntry>,
    image: &ImageDefaults,
) -> Result<Vec<String>, Error> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: String, value: Option<String>| {
        let Some(value) = value else {
            values.remove(&name);
            order.retain(|known| *known != name);
            return;
        };
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    set("PATH".to_owned(), Some(PATH_DEFAULT.to_owned()));
    if options.userns == UserNamespace::KeepId {
        // Whose home this caller's number has inside nobody says.
        set("HOME".to_owned(), Some("/".to_owned()));
    }
    if options.tty {
        set("TERM".to_owned(), Some("xterm".to_owned()));
    }
    let mut entries: Vec<EnvEntry> = Vec::new();
    for text in &image.environment {
        // A name alone would copy our variable: only the caller may say that, never an image.
        if let set @ EnvEntry::Set(..) = EnvEntry::parse(text)? {
            entries.push(set);
        }
    }
    entries.extend(from_files);
    entries.extend(options.environment.iter().cloned());
    for entry in entries {
        match entry {
            EnvEntry::Set(name, value) => set(name, Some(value)),
            // What we do not have takes the image's own away.
            EnvEntry::Copy(name) => {
                let value = host.environment.get(&name).cloned();
                set(name, value);
            }
        }
    }
    Ok(order.into_iter().map(|name| format!("{name}={}", values[&name])).collect())
}

/// One id when that is enough, subordinate ranges when the image or the user needs more and they are
/// there; what is missing then is told by the stage, which knows the user's number.
fn map(
    host: &Host,
    choice: UserNamespace,
    image: &ImageDefaults,
    user: Option<&str>,
    groups: &[String],
) -> Result<Option<IdMap>, Error> {
    let outside = (host.uid, host.gid);
    match choice {
        UserNamespace::Host if host.uid == 0 => return host.identity_map().map(Some),
        UserNamespace::Host => {
            let error =
                Error::new(ErrorKind::Denied, "`--userns host` is for root: another user owns nothing there");
            return Err(error.hint("leave the flag out: the container gets a user namespace of its own"));
        }
        UserNamespace::KeepId => return Ok(Some(IdMap::single(outside, outside))),
        UserNamespace::Root => {}
    }
    let other_user = user.is_some_and(|u| !matches!(u, "0" | "root" | "0:0" | "root:root"));
    if (image.has_other_ids || other_user || !groups.is_empty())
        && let Some(map) = host.subordinate_map()
    {
        return Ok(Some(map));
    }
    Ok(Some(IdMap::single((0, 0), outside)))
}

/// Mounts as the stage takes them, and the volumes that end with the container: named here, made when
/// there is a record of them.
fn mounts(
    host: &Host,
    requests: &[MountRequest],
    declared: &[String],
) -> Result<(Vec<PlannedMount>, Vec<ContainerId>), Error> {
    let mut planned = Vec::new();
    let mut own = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        if requests[..i].iter().any(|earlier| earlier.target == request.target) {
            let target = request.target.display();
            return Err(Error::new(ErrorKind::Usage, format!("duplicate mount point: `{target}`")));
        }
    }
    let covered = |target: &Path| requests.iter().any(|r| r.target == target);
    let declared: Vec<_> = declared.iter().map(|path| declared_volume(path)).collect::<Result<_, _>>()?;
    let declared = declared.into_iter().filter(|request| !covered(&request.target));
    for request in requests.iter().cloned().chain(declared) {
        let what = match request.source {
            Source::Tmpfs { options, exec } => PlannedSource::Tmpfs { options, exec },
            Source::Bind { path, create, .. } => {
                if create && !path.exists() {
                    std::fs::create_dir_all(&path).map_err(|e| FsError::new("make the folder", &path, e))?;
                }
                PlannedSource::Bind { path, optional: false, no_links: false }
            }
            Source::Volume(Some(name)) => PlannedSource::Bind {
                path: make_volume(&host.data, name.as_str())?,
                optional: false,
                no_links: false,
            },
            Source::Volume(None) => {
                let mut random = [0_u8; 32];
                fs::random_bytes(&mut random).map_err(|e| FsError::new("read", "/dev/urandom", e))?;
                let name = ContainerId::from_bytes(&random);
                let path = volume_data(&host.data, name.as_str());
                own.push(name);
                PlannedSource::Bind { path, optional: false, no_links: false }
            }
        };
        planned.push(PlannedMount {
            what,
            target: request.target,
            read_only: request.read_only,
            propagation: request.propagation,
        });
    }
    // A mount below another one comes after it, whatever the order typed.
    planned.sort_by_key(|m| m.target.components().count());
    Ok((planned, own))
}
