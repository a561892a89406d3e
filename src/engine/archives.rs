//! `load` and `save`: images between the store and archives, folders, pipes and a running Docker.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::engine::dockerd::Docker;
use crate::engine::host::Host;
use crate::engine::images::{self, LoadedImage};
use crate::engine::launch::Warn;
use crate::engine::storage;
use crate::error::{Error, ErrorKind};
use crate::image::archive::{self, Request};
use crate::image::config::Platform;
use crate::image::index::Index;
use crate::image::members::{Foreign, Input};
use crate::image::save::{self, Chosen, Form};
use crate::image::store::{Store, found};
use crate::names::{Digest, ImageReference};
use crate::sys::fs::{FsError, open_dir};

/// Where images are loaded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Standard input.
    Stdin,
    /// A file, or a folder that is a layout.
    Path(PathBuf),
    /// The image of this tag in the layout folder.
    Tagged(PathBuf, String),
    /// These images of a running Docker; all when there is none.
    Docker(Vec<String>),
}

impl Origin {
    /// What `-i TEXT` means: a file, a folder, `oci:FOLDER` or `oci:FOLDER:TAG`.
    pub fn named(host: &Host, text: &str) -> Self {
        let Some(rest) = text.strip_prefix("oci:").filter(|_| !host.cwd.join(text).exists()) else {
            return Self::Path(host.cwd.join(text));
        };
        match rest.rsplit_once(':').filter(|_| !host.cwd.join(rest).exists()) {
            Some((folder, tag)) => Self::Tagged(host.cwd.join(folder), tag.to_owned()),
            None => Self::Path(host.cwd.join(rest)),
        }
    }
}

/// Puts every image that is there into the store, or none.
///
/// # Errors
/// What is wrong with the archive; the store is then as it was.
pub fn load(
    host: &Host,
    origin: &Origin,
    platform: Option<&str>,
    warn: Warn<'_>,
) -> Result<Vec<LoadedImage>, Error> {
    let platform = platform.map(wanted).transpose()?;
    let input = open(host, origin)?;
    let tag = match origin {
        Origin::Tagged(_, tag) => Some(tag.as_str()),
        _ => None,
    };
    let owners = images::take_ids(host, warn)?;
    let started = RefCell::new(None);
    let decompress = |foreign: Foreign, file: File| start(host, foreign, file, &started);
    let loaded = archive::load_from(
        &storage::open(host)?,
        Request { input, tag, platform, decompress: &decompress },
        owners,
    );
    let report = loaded.map_err(|fault| match started.into_inner() {
        Some(Missing(program)) => Error::from(fault).hint(format!(
            "install `{program}`, or decompress it elsewhere: `{program} -dc FILE | cuddy load`"
        )),
        None => Error::from(fault),
    })?;
    images::record(host, "load", &report)?;
    Ok(images::tell(report, warn))
}

fn open(host: &Host, origin: &Origin) -> Result<Input, Error> {
    Ok(match origin {
        Origin::Stdin => Input::File(images::open(host, None)?),
        Origin::Path(path) if path.is_dir() => Input::Folder(open_dir(path)?),
        Origin::Path(path) => Input::File(images::open(host, Some(path))?),
        Origin::Tagged(path, _) => Input::Folder(open_dir(path)?),
        Origin::Docker(names) => {
            let docker = Docker::of(host)?;
            let all = if names.is_empty() { docker.names()? } else { Vec::new() };
            Input::Stream(docker.archive(if names.is_empty() { &all } else { names })?)
        }
    })
}

/// The platform that `--platform` asks for.
fn wanted(text: &str) -> Result<Platform, Error> {
    let error =
        || Error::new(ErrorKind::Usage, format!("`{text}` is not a platform")).hint("`linux/amd64` is");
    images::wanted(text).ok_or_else(error)
}

/// A program of the host that is not there.
struct Missing(&'static str);

/// What a program of the host makes of a file.
struct Decompressed {
    child: Child,
    output: ChildStdout,
    program: &'static str,
}

fn start(
    host: &Host,
    foreign: Foreign,
    file: File,
    missing: &RefCell<Option<Missing>>,
) -> io::Result<Box<dyn Read>> {
    let name = foreign.program();
    let Some(program) = host.find_program(name) else {
        missing.replace(Some(Missing(name)));
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("it takes `{name}`, which is not here"),
        ));
    };
    let mut command = Command::new(program);
    let mut child = command.arg("-dc").stdin(file).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    Ok(Box::new(Decompressed { child, output, program: name }))
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.output.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            let status = self.child.wait()?;
            if !status.success() {
                return Err(io::Error::other(format!(
                    "`{}` says that it is damaged ({status})",
                    self.program
                )));
            }
        }
        Ok(read)
    }
}

impl Drop for Decompressed {
    fn drop(&mut self) {
        // It may wait for a reader that has given up; when it has ended, both do nothing.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Where images are saved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout(Form),
    /// A file.
    File(Form, PathBuf),
    /// An OCI layout folder.
    Folder(PathBuf),
}

/// Writes the images called `names` out. A name without a tag means all tags of its repository.
///
/// # Errors
/// `NotFound`, or what is wrong with the image or the target; a file is then as it was.
pub fn save(host: &Host, names: &[String], platform: Option<&str>, target: &Target) -> Result<(), Error> {
    let stdout = match target {
        Target::Stdout(_) => Some(stdout()?),
        _ => None,
    };
    let store = Store::look(&host.data);
    let index = store.index()?;
    let mut chosen: Vec<Chosen> = Vec::new();
    for name in names {
        for (id, names) in meant(&index, name, platform)? {
            match chosen.iter_mut().find(|known| known.id == id) {
                Some(known) => {
                    let new: Vec<_> = names.into_iter().filter(|name| !known.names.contains(name)).collect();
                    known.names.extend(new);
                }
                None => chosen.push(Chosen { id, names }),
            }
        }
    }
    let leases: Result<Vec<_>, _> = chosen.iter().map(|image| store.lease_on(&image.id)).collect();
    let _leases = leases?;
    match (target, stdout) {
        (Target::Stdout(form), Some(stdout)) => {
            let mut out = io::BufWriter::with_capacity(128 * 1024, stdout);
            save::write(&store, &chosen, *form, &mut out)?;
        }
        (Target::File(form, path), _) => {
            let path = host.cwd.join(path);
            // A pipe or a device is written to as it is: only a file can be replaced.
            if path.exists() && !path.is_file() && !path.is_dir() {
                let file = File::options().write(true).open(&path);
                let file = file.map_err(|e| FsError::new("open", &path, e))?;
                save::write(&store, &chosen, *form, &mut io::BufWriter::with_capacity(128 * 1024, file))?;
            } else {
                save::write_file(&store, &chosen, *form, &path)?;
            }
        }
        (Target::Folder(path), _) => save::write_folder(&store, &chosen, &host.cwd.join(path))?,
        (Target::Stdout(_), None) => {}
    }
    Ok(())
}

/// The images that a name means, each with the names it keeps.
fn meant(
    index: &Index,
    text: &str,
    platform: Option<&str>,
) -> Result<Vec<(Digest, Vec<ImageReference>)>, Error> {
    let reference: ImageReference = text.parse()?;
    let wanted = platform.map(wanted).transpose()?;
    let pick = |ids: &[Digest]| {
        let id = index.choose(ids, wanted.as_ref());
        let id = id.ok_or_else(|| Error::new(ErrorKind::Bug, format!("name `{text}` means no image")))?;
        let has = index.images.get(&id).map_or_else(Platform::host, |record| record.platform.clone());
        images::require_platform(text, &has, platform)?;
        Ok::<_, Error>(id)
    };
    let is_bare =
        reference.digest().is_none() && reference.tag() == Some("latest") && !text.ends_with(":latest");
    if is_bare {
        let same = |name: &ImageReference| {
            (name.domain(), name.repository()) == (reference.domain(), reference.repository())
        };
        let all: Result<Vec<_>, Error> = index
            .names()
            .filter(|(name, _)| same(name))
            .map(|(name, ids)| Ok((pick(ids)?, vec![name])))
            .collect();
        let all = all?;
        if !all.is_empty() {
            return Ok(all);
        }
    }
    let (ids, by_id) = found(index, &reference)?;
    let names = if by_id || reference.tag().is_none() { Vec::new() } else { vec![reference] };
    Ok(vec![(pick(&ids)?, names)])
}

fn stdout() -> Result<File, Error> {
    let stdout = rustix::stdio::stdout();
    if rustix::termios::isatty(stdout) {
        // In Docker's words: scripts and people know them.
        let error = Error::new(
            ErrorKind::Usage,
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        );
        return Err(error.hint("`cuddy save -o FILE IMAGE`"));
    }
    let fd = stdout.try_clone_to_owned().map_err(|e| FsError::new("write", "standard output", e))?;
    Ok(File::from(fd))
}

/// What `--format` and `-o` mean together.
///
/// # Errors
/// `Usage` for a form that there is not, and for a folder without a name.
pub fn target(format: Option<&str>, output: Option<&Path>) -> Result<Target, Error> {
    let folder = output.and_then(Path::to_str).and_then(|text| text.strip_prefix("oci:"));
    match (format, output, folder) {
        (None | Some("oci-dir"), _, Some(folder)) => Ok(Target::Folder(PathBuf::from(folder))),
        (Some("oci-dir"), Some(output), None) => Ok(Target::Folder(output.to_owned())),
        (Some("oci-dir"), None, None) => {
            let error = Error::new(ErrorKind::Usage, "an OCI layout folder cannot go to standard output");
            Err(error.hint("`cuddy save --format oci-dir -o FOLDER IMAGE`"))
        }
        (None | Some("docker-archive" | "docker"), output, _) => Ok(file_or_stdout(Form::Docker, output)),
        (Some("docker-archive-legacy"), output, _) => Ok(file_or_stdout(Form::DockerLegacy, output)),
        (Some("oci-archive" | "oci"), output, _) => Ok(file_or_stdout(Form::Oci, output)),
        (Some(other), ..) => {
            let error = Error::new(ErrorKind::Usage, format!("`{other}` is not a format of archives"));
            Err(error.hint("`docker-archive`, `docker-archive-legacy`, `oci-archive` and `oci-dir` are"))
        }
    }
}

fn file_or_stdout(form: Form, output: Option<&Path>) -> Target {
    output.map_or(Target::Stdout(form), |path| Target::File(form, path.to_owned()))
}
