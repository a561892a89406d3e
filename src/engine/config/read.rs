//! Configuration files into one configuration: all of them or none.
//!
//! Each mistake of each file is told at once. It starts nothing, and reads nothing but what was named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engine::config::document::{Document, FILE_BYTES_MAX, Malformed, Mistake, Place};
use crate::engine::config::format::{self, Format};
use crate::engine::config::packages;
use crate::engine::config::servers::{GatewayConfig, SERVERS_MAX, ServerPolicy};
use crate::engine::config::table::Reader;
use crate::engine::config::variables::{Filling, Surroundings};
use crate::engine::host::Host;
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs;

/// Most configuration files of one gateway.
pub const FILES_MAX: usize = 64;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the configuration `{file}`")]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        source: fs::FsError,
    },
    /// Too many files.
    #[error("more than {FILES_MAX} configuration files")]
    Files,
    /// What is written in them is wrong.
    #[error("{} in the configuration", count(.0))]
    Mistakes(Vec<Mistake>),
}

fn count(mistakes: &[Mistake]) -> String {
    if mistakes.len() == 1 { "a mistake".to_owned() } else { format!("{} mistakes", mistakes.len()) }
}

impl Fault for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => source.kind(),
            Self::Files | Self::Mistakes(_) => ErrorKind::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::File { .. } => vec!["name a file that you can read: `--config FILE`".to_owned()],
            Self::Files => vec!["put servers together in one file".to_owned()],
            Self::Mistakes(mistakes) => {
                let mut hints: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                hints.push("nothing was started; change these places and try again".to_owned());
                hints
            }
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// The servers and what holds for all of them.
    pub config: GatewayConfig,
    /// Policies without a server: of permission profiles and settings, with the file they stand in.
    pub policies: Vec<(PathBuf, ServerPolicy)>,
    /// What should be known and stops nothing.
    pub remarks: Vec<Mistake>,
}

/// What placeholders may stand for on this host, besides inputs.
pub fn surroundings(host: &Host, inputs: BTreeMap<String, String>) -> Surroundings {
    Surroundings {
        environment: host.environment.clone(),
        home: host.home.clone(),
        workspace: host.cwd.clone(),
        inputs,
        filling: Filling::Values,
    }
}

/// Reads configuration files for a gateway; later ones add servers to earlier ones.
///
/// # Errors
/// [`ConfigError`]: a file that cannot be read, or every mistake of all of them.
pub fn gateway(
    host: &Host,
    files: &[PathBuf],
    format: Option<Format>,
    inputs: BTreeMap<String, String>,
) -> Result<Read, Error> {
    let (mut read, mut mistakes) = files_of(host, files, format, &surroundings(host, inputs))?;
    for (file, _) in &read.policies {
        let what = "a policy without a server: nothing can be started with it";
        let right =
            format!("`cuddy mcp import {}` shows what it allows, to put it beside a server", file.display());
        mistakes.push(at_file(file, what, right));
    }
    packages::resolve(host, &mut read.config, &mut read.remarks, &mut mistakes);
    if read.config.servers.len() > SERVERS_MAX {
        let file = files.last().cloned().unwrap_or_default();
        mistakes.push(at_file(&file, format!("more than {SERVERS_MAX} servers"), "start several gateways"));
    }
    if mistakes.is_empty() { Ok(read) } else { Err(ConfigError::Mistakes(mistakes).into()) }
}

/// Reads files to write them anew: placeholders stay, and a policy without a server is what it is.
///
/// # Errors
/// [`ConfigError`], as [`gateway`].
pub fn import(host: &Host, files: &[PathBuf], format: Option<Format>) -> Result<Read, Error> {
    let surroundings = Surroundings { filling: Filling::Names, ..surroundings(host, BTreeMap::new()) };
    let (read, mistakes) = files_of(host, files, format, &surroundings)?;
    if mistakes.is_empty() { Ok(read) } else { Err(ConfigError::Mistakes(mistakes).into()) }
}

fn files_of(
    host: &Host,
    files: &[PathBuf],
    format: Option<Format>,
    surroundings: &Surroundings,
) -> Result<(Read, Vec<Mistake>), Error> {
    if files.len() > FILES_MAX {
        return Err(ConfigError::Files.into());
    }
    let (mut read, mut mistakes) = (Read::default(), Vec::new());
    for file in files {
        let path = host.cwd.join(file);
        let bytes = fs::read_file(&path, FILE_BYTES_MAX);
        let bytes = bytes.map_err(|source| ConfigError::File { file: file.clone(), source })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => one(&path, file, text, format, surroundings, &mut read, &mut mistakes),
            Err(e) => {
                let what = format!("the byte {} is no UTF-8", e.valid_up_to());
                mistakes.push(at_file(file, what, "save the file as UTF-8"));
            }
        }
    }
    Ok((read, mistakes))
}

fn at_file(file: &Path, what: impl Into<String>, right: impl Into<String>) -> Mistake {
    let place = Place { file: file.to_owned(), line: 1, column: 1, key: String::new() };
    Mistake { place, what: what.into(), right: Some(right.into()) }
}

/// Reads one text; `path` is where it stands, `file` how it was named.
fn one(
    path: &Path,
    file: &Path,
    text: &str,
    format: Option<Format>,
    surroundings: &Surroundings,
    read: &mut Read,
    mistakes: &mut Vec<Mistake>,
) {
    let root = match format::parse(file, text) {
        Ok(root) => root,
        Err(malformed) => {
            let mistake = |e: Malformed| Mistake {
                place: Place {
                    file: file.to_owned(),
                    line: e.spot.line,
                    column: e.spot.column,
                    key: String::new(),
                },
                what: e.what,
                right: e.right,
            };
            mistakes.extend(malformed.into_iter().map(mistake));
            return;
        }
    };
    let document = Document { file: file.to_owned(), root };
    let Some(format) = format.or_else(|| format::recognise(&document.root)) else {
        let words: Vec<&str> = format::FORMATS.iter().map(|(word, _)| *word).collect();
        let right = format!("say which one with `--format`: {}", words.join(", "));
        mistakes.push(at_file(file, "this is no configuration of MCP servers that is known", right));
        return;
    };
    // Paths of ours begin where the file is, so that it can be moved with what it names.
    let base = match format {
        Format::Cuddy => path.parent().map(Path::to_path_buf).unwrap_or_default(),
        _ => surroundings.workspace.clone(),
    };
    let reader = Reader::new(&document, surroundings, format.dialect(), format.unknown(), base);
    let config = format::read(format, &reader);
    let (wrong, remarks) = reader.finish();
    let was_right = wrong.is_empty();
    mistakes.extend(wrong);
    read.remarks.extend(remarks);
    if format.is_policy() {
        read.policies.extend(config.servers.into_iter().map(|server| (file.to_owned(), server.policy)));
        return;
    }
    if config.servers.is_empty() && was_right {
        read.remarks.push(at_file(file, "it names no server that is switched on", ""));
    }
    for server in config.servers {
        if let Some(first) = read.config.servers.iter().find(|other| other.name == server.name) {
            let what = format!("a second server with the name `{}`", server.name);
            let right = Some(format!("rename one of them; the first is at {}", first.source_place));
            mistakes.push(Mistake { place: server.source_place.clone(), what, right });
        } else {
            read.config.servers.push(server);
        }
    }
    if format == Format::Cuddy {
        read.config.gateway = config.gateway;
    }
}
