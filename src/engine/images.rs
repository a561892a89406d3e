//! `import`, what every image that comes in needs, and what an image says to `run`.

use std::fs::File;
use std::path::Path;

use crate::audit;
use crate::container::idspace;
use crate::engine::host::Host;
use crate::engine::launch::{RootChoice, Stack, Warn};
use crate::engine::storage;
use crate::error::{Error, ErrorKind};
use crate::image::archive::{self, Report};
use crate::image::config::Platform;
use crate::image::staging::Skipped;
use crate::image::store::Store;
use crate::image::tree::Owners;
use crate::names::{Digest, ImageReference};
use crate::sys::fs::FsError;
use crate::sys::process;

/// What an image says about the containers made of it.
#[derive(Debug, Default)]
pub struct ImageDefaults {
    /// What stands at `/`.
    pub root: Option<RootChoice>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// ENV.
    pub environment: Vec<String>,
    /// WORKDIR.
    pub workdir: Option<String>,
    /// USER.
    pub user: Option<String>,
    /// VOLUME.
    pub volumes: Vec<String>,
    /// STOPSIGNAL.
    pub stop_signal: Option<String>,
    /// LABEL.
    pub labels: Vec<(String, String)>,
    /// The image holds files of other ids than 0.
    pub has_other_ids: bool,
}

/// One image that came in.
#[derive(Debug)]
pub struct LoadedImage {
    /// Its id.
    pub id: Digest,
    /// The names it was given.
    pub names: Vec<ImageReference>,
}

/// Makes an image called `name` of the root filesystem in the tar `input`, or in standard input.
///
/// # Errors
/// What is wrong with the tar; the store is then as it was.
pub fn import(
    host: &Host,
    input: Option<&Path>,
    name: &ImageReference,
    warn: Warn<'_>,
) -> Result<Vec<LoadedImage>, Error> {
    let file = open(host, input)?;
    let owners = take_ids(host, warn)?;
    let report = archive::import(&storage::open(host)?, file, name, owners)?;
    record(host, "import", &report)?;
    Ok(tell(report, warn))
}

/// Writes down which images came in, and by which verb.
///
/// # Errors
/// When the audit cannot be written.
pub fn record(host: &Host, verb: &str, report: &Report) -> Result<(), Error> {
    for image in &report.images {
        let name = image.names.first().map(ImageReference::familiar).unwrap_or_default();
        let asked = audit::Asked { uid: host.uid, verb, object: &name, id: image.id.as_str() };
        audit::append(&host.data, &asked, audit::Outcome::Ended(0))?;
    }
    Ok(())
}

/// What the image called `text` says. With `platform` it must be made for that one.
///
/// # Errors
/// `NotFound` with similar names, or `Unsupported` for another platform.
pub fn defaults(
    host: &Host,
    text: &str,
    platform: Option<&str>,
    warn: Warn<'_>,
) -> Result<ImageDefaults, Error> {
    let reference: ImageReference = text.parse()?;
    host.open_data()?;
    let store = Store::look(&host.data);
    // Held until the container's record says what it needs: a few microseconds more for `run`.
    let held = match store.enter().map_err(Error::from) {
        Err(error) if error.kind == ErrorKind::NotFound => None,
        other => Some(other?),
    };
    let image = store.resolve_for(&reference, platform.and_then(wanted).as_ref())?;
    let has = Platform { os: image.config.os.clone(), architecture: image.config.architecture.clone() };
    require_platform(text, &has, platform)?;
    if let Some(foreign) = image.config.foreign_platform() {
        warn(&format!(
            "image `{text}` is made for {foreign}, this host is {}: its programs may not run",
            Platform::host()
        ));
    }
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(ImageDefaults {
        root: Some(RootChoice::Layers(Stack { image: Some(image.id), folders: image.layers, held })),
        entrypoint: image.config.entrypoint,
        command: image.config.command,
        environment: image.config.env,
        workdir: some(image.config.working_dir),
        user: some(image.config.user),
        volumes: image.config.volumes,
        stop_signal: image.config.stop_signal,
        labels: image.config.labels.into_iter().collect(),
        // Files that were flattened to the caller need no other id.
        has_other_ids: !image.ids.is_only_root() && !image.is_flat,
    })
}

/// `os/architecture` of a `--platform`, whose variant is not looked at.
pub fn wanted(text: &str) -> Option<Platform> {
    let (os, architecture) = text.split_once('/')?;
    let architecture = architecture.split('/').next().unwrap_or_default();
    Some(Platform { os: os.to_owned(), architecture: architecture.to_owned() })
}

/// Whether an image for `has` is what `--platform` asked for.
///
/// # Errors
/// `NotFound` where it is not.
pub fn require_platform(image: &str, has: &Platform, wanted: Option<&str>) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let mut words = wanted.split('/');
    if words.next() == Some(&has.os) && words.next().is_none_or(|word| word == has.architecture) {
        return Ok(());
    }
    let error = Error::new(ErrorKind::NotFound, format!("image `{image}` is for {has}, not {wanted}"));
    Err(error.hint("load one that is made for that platform"))
}

/// The file `input`, or standard input unless it is a terminal.
///
/// # Errors
/// When it cannot be opened, or is a terminal.
pub fn open(host: &Host, input: Option<&Path>) -> Result<File, Error> {
    if let Some(input) = input {
        let path = host.cwd.join(input);
        return Ok(File::open(&path).map_err(|e| FsError::new("open", &path, e))?);
    }
    let stdin = rustix::stdio::stdin();
    if rustix::termios::isatty(stdin) {
        let error = Error::new(ErrorKind::Usage, "requested load from stdin, but stdin is a terminal");
        return Err(error.hint("name the archive: `cuddy load -i FILE`"));
    }
    let fd = stdin.try_clone_to_owned().map_err(|e| FsError::new("read", "standard input", e))?;
    Ok(File::from(fd))
}

/// What a process needs that brings images in: open files, and ids. With subordinate ids it moves to where
/// they are its own, so that files get their true owners; without, all files are the caller's and their
/// owners are recorded.
///
/// # Errors
/// When the user namespace can be made but not entered.
pub fn take_ids(host: &Host, warn: Warn<'_>) -> Result<Owners, Error> {
    // Each layer that is missing has a lock, and an image may have hundreds of them.
    process::raise_open_files()?;
    let Some(map) = host.subordinate_map() else { return Ok(Owners::Record) };
    // Tried first where nothing is lost: a process that failed half-way could not go on.
    if let Err(error) = idspace::inside(&map, || Ok(())) {
        warn(&format!("{error}; owners of files are recorded, and every file is yours"));
        return Ok(Owners::Record);
    }
    idspace::enter(&map)?;
    Ok(Owners::Apply)
}

/// Says what of an image's layers was not made.
pub fn tell_skipped(skipped: Skipped, warn: Warn<'_>) {
    if skipped.devices > 0 {
        warn(&format!(
            "{} device files of the image were not made: /dev is made anew in each container",
            skipped.devices
        ));
    }
    if skipped.xattrs > 0 {
        warn(&format!(
            "{} extended attributes of the image were left out: they mean something to the host",
            skipped.xattrs
        ));
    }
}

/// Says what was left out of images that came in, and which they are.
pub fn tell(report: Report, warn: Warn<'_>) -> Vec<LoadedImage> {
    tell_skipped(report.skipped, warn);
    for image in &report.images {
        if let Some(platform) = &image.foreign_platform {
            warn(&format!("image `{}` is made for {platform}, this host is {}", image.id, Platform::host()));
        }
    }
    report.images.into_iter().map(|image| LoadedImage { id: image.id, names: image.names }).collect()
}
