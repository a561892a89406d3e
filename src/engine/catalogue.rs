//! What MCP servers offered when they last answered, and what of it a person has accepted: files in the
//! data folder. It talks to no server.
//!
//! An entry counts only for exactly what it was made from: the command line, the files of the program or the
//! digest of the image, the policy, and our own version. What is no entry of ours is told and passed over:
//! the next answer of the server takes its place.
//!
//! ```text
//! catalogue/SERVER/KEY.json       an offer; KEY is the fingerprint of what was started
//! catalogue/SERVER/ORIGIN-….pin   an offer that was accepted; ORIGIN is the command line alone
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::audit;
use crate::engine::offer::{Difference, Offer};
use crate::error::{ErrorKind, Fault};
use crate::names::Digest;
use crate::sys::fs::{self, FsError};

/// The version of the entries' format.
const VERSION: u32 = 1;
/// Largest entry, in bytes: a server with 1,000 tools of 10 KiB each fits.
const ENTRY_BYTES_MAX: u64 = 16 << 20;
/// Most entries of one server; the oldest goes.
const ENTRIES_MAX: usize = 16;
/// Most files that are looked at in the folder of one server, and most servers.
const FILES_MAX: usize = 4096;
/// A file that is still half written after this time has nobody who writes it.
const HALF_WRITTEN_AGE: Duration = Duration::from_secs(3600);
/// Endings of programs that an interpreter reads.
const SCRIPTS: &[&str] =
    &["js", "mjs", "cjs", "ts", "mts", "cts", "py", "pyz", "rb", "php", "jar", "sh", "wasm"];

/// Why an entry cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file operation failed.
    #[error("cannot use the catalogue")]
    Fs(#[from] FsError),
    /// The entry does not become JSON.
    #[error("cannot write an entry of the catalogue")]
    Json(#[from] serde_json::Error),
    /// Something else lies where an entry would.
    #[error("`{path}` is no entry of the catalogue")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        source: serde_json::Error,
    },
    /// An entry of another version, or of something else.
    #[error("`{path}` is an entry of something else: {what}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// More than an entry may hold.
    #[error(
        "what `{server}` offers has {bytes} bytes, and an entry of the catalogue may have {ENTRY_BYTES_MAX}"
    )]
    TooLarge {
        /// The server.
        server: String,
        /// How much it is.
        bytes: usize,
    },
}

impl Fault for CatalogueError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::Json(_) => ErrorKind::Bug,
            Self::Garbled { .. } => ErrorKind::Corrupt,
            Self::Foreign { .. } => ErrorKind::Unsupported,
            Self::TooLarge { .. } => ErrorKind::Limit,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Garbled { path, .. } | Self::Foreign { path, .. }
                if path.extension() == Some(OsStr::new(PIN)) =>
            {
                vec![format!("look at it, then `rm {}` and accept anew: `cuddy mcp diff`", path.display())]
            }
            _ => Vec::new(),
        }
    }
}

/// What runs, for a fingerprint.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A program of the host: its command line.
    Command {
        /// Program and arguments.
        command: &'a [String],
        /// Where a bare name is looked up.
        path: &'a [PathBuf],
        /// What relative arguments mean.
        cwd: &'a Path,
    },
    /// A program in an image.
    Image {
        /// The image's digest, or its name when it has none yet.
        image: &'a str,
        /// Program and arguments; empty for the image's own.
        command: &'a [String],
    },
    /// A server elsewhere.
    Http {
        /// Its address.
        url: &'a str,
    },
}

/// Which entry of the catalogue is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    server: String,
    origin: String,
    key: String,
    program: String,
}

impl Fingerprint {
    /// Looks at what would be started now. `policy` is any text that differs when the policy does, with no secret.
    pub fn of(server: &str, target: Target<'_>, policy: &str) -> Self {
        let mut origin = Parts::default();
        let mut state = Parts::default();
        let program = match target {
            Target::Command { command, path, cwd } => {
                origin.add("command");
                command.iter().for_each(|word| origin.add(word));
                files_of(command, path, cwd).iter().for_each(|file| state.add(file));
                command.first().cloned().unwrap_or_default()
            }
            Target::Image { image, command } => {
                // A digest is another image each time; what was accepted is what its name stands for.
                origin.add("image");
                origin.add(image.split('@').next().unwrap_or(image));
                command.iter().for_each(|word| origin.add(word));
                state.add(image);
                image.to_owned()
            }
            Target::Http { url } => {
                origin.add("http");
                origin.add(url);
                place_of(url).to_owned()
            }
        };
        let origin = origin.digest();
        state.add(&origin);
        state.add(server);
        state.add(policy);
        state.add(env!("CARGO_PKG_VERSION"));
        let key = state.digest();
        Self {
            server: server.to_owned(),
            origin: origin[..32].to_owned(),
            key: key[..32].to_owned(),
            program,
        }
    }

    /// The server's name in the configuration.
    pub fn server(&self) -> &str {
        &self.server
    }
}

/// Texts that become one digest; two lists are equal only when each text is.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    fn digest(self) -> String {
        Digest::from_bytes(&self.0.finalize().into()).hex().to_owned()
    }
}

/// Scheme and host of an address: the rest may hold a secret.
fn place_of(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    if url[start..end].contains('@') { &url[..start] } else { &url[..end] }
}

/// How the program and the scripts among its arguments lie on the disk. Folders and data files are left out:
/// they change with each use.
fn files_of(command: &[String], path: &[PathBuf], cwd: &Path) -> Vec<String> {
    let Some((program, arguments)) = command.split_first() else { return Vec::new() };
    let found = if program.contains('/') {
        Some(cwd.join(program))
    } else {
        let places = path.iter().map(|folder| folder.join(program));
        places.into_iter().find(|place| place.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0))
    };
    let scripts = arguments.iter().map(|word| cwd.join(word)).filter(|place| {
        let is_script = place.extension().and_then(OsStr::to_str).is_some_and(|e| SCRIPTS.contains(&e));
        place.metadata().is_ok_and(|m| m.is_file() && (is_script || m.mode() & 0o111 != 0))
    });
    let mut said = Vec::new();
    for place in found.into_iter().chain(scripts) {
        let place = place.canonicalize().unwrap_or(place);
        said.push(place.to_string_lossy().into_owned());
        said.push(place.metadata().map_or_else(
            |_| "absent".to_owned(),
            |m| format!("{} {} {} {}.{:09}", m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec()),
        ));
    }
    said
}

/// One file: an offer, and what it was an offer of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// The server's name in the configuration.
    pub server: String,
    /// What was started, short, without arguments.
    pub program: String,
    origin: String,
    key: String,
    /// When the server answered, or its answer was accepted, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it offered.
    pub offer: Offer,
}

/// A server whose definitions can be compared: what it last offered, what was accepted.
#[derive(Debug)]
pub struct Comparison {
    /// What it offers now.
    pub now: Entry,
    /// What was accepted; `None` when nothing was.
    pub accepted: Option<Entry>,
}

impl Comparison {
    /// What changed since it was accepted; `None` when nothing was.
    pub fn difference(&self) -> Option<Difference> {
        self.accepted.as_ref().map(|accepted| Difference::between(&accepted.offer, &self.now.offer))
    }
}

/// The ending of what was accepted.
const PIN: &str = "pin";
/// The ending of an offer.
const OFFER: &str = "json";

/// The catalogue of a data folder.
#[derive(Debug, Clone)]
pub struct Catalogue {
    data: PathBuf,
    root: PathBuf,
}

impl Catalogue {
    /// The catalogue below the data folder; nothing is made before there is something to keep.
    pub fn open(data: &Path) -> Self {
        Self { data: data.to_owned(), root: data.join("catalogue") }
    }

    /// What was offered by exactly this.
    ///
    /// # Errors
    /// What lies there is no entry of it: tell it, and go on as if there were none.
    pub fn get(&self, fingerprint: &Fingerprint) -> Result<Option<Offer>, CatalogueError> {
        let path = self.folder(&fingerprint.server).join(format!("{}.{OFFER}", fingerprint.key));
        let Some(entry) = read(&path)? else { return Ok(None) };
        if entry.key != fingerprint.key || entry.server != fingerprint.server {
            return Err(CatalogueError::Foreign { path, what: "it was made for another server" });
        }
        Ok(Some(entry.offer))
    }

    /// Keeps an offer and says what it changes: against the last one of exactly this, or else against what
    /// the same command line last offered in another state. A first offer changes nothing.
    ///
    /// # Errors
    /// It is too large, or what the kernel says; the old entry then stays.
    pub fn put(&self, fingerprint: &Fingerprint, offer: Offer) -> Result<Difference, CatalogueError> {
        let before = match self.get(fingerprint) {
            Ok(Some(offer)) => Some(offer),
            // What is garbled gives way now.
            Ok(None) | Err(_) => {
                self.newest(&fingerprint.server, &fingerprint.origin).map(|entry| entry.offer)
            }
        };
        let difference = before.map(|before| Difference::between(&before, &offer)).unwrap_or_default();
        let entry = Entry {
            version: VERSION,
            server: fingerprint.server.clone(),
            program: fingerprint.program.clone(),
            origin: fingerprint.origin.clone(),
            key: fingerprint.key.clone(),
            at_ms: now_ms(),
            offer,
        };
        self.write(&entry, &format!("{}.{OFFER}", entry.key))?;
        self.forget_the_oldest(&fingerprint.server);
        Ok(difference)
    }

    /// What was accepted of this command line: an offer for each revision of the protocol that it was asked in.
    ///
    /// # Errors
    /// What lies there is not what cuddy wrote: then nothing counts as accepted.
    pub fn accepted(&self, fingerprint: &Fingerprint) -> Result<Vec<Offer>, CatalogueError> {
        let pins = self.pins(&fingerprint.server, &fingerprint.origin)?;
        Ok(pins.into_iter().map(|entry| entry.offer).collect())
    }

    /// Accepts for this user what is offered now; the audit has a line of it.
    ///
    /// # Errors
    /// What the kernel says; what was accepted before then stays.
    pub fn accept(&self, uid: u32, entry: &Entry) -> Result<(), CatalogueError> {
        let entry = Entry { at_ms: now_ms(), ..entry.clone() };
        let mut revision = Parts::default();
        revision.add(&entry.offer.protocol);
        self.write(&entry, &format!("{}-{}.{PIN}", entry.origin, &revision.digest()[..8]))?;
        let asked = audit::Asked { uid, verb: "mcp accept", object: &entry.server, id: &entry.key };
        Ok(audit::append(&self.data, &asked, audit::Outcome::Ended(0))?)
    }

    /// What servers offer now and what was accepted: all of them, or those of one name, one for each command
    /// line that had that name and each revision of the protocol that it was asked in. `warn` is told of files that are no entries.
    ///
    /// # Errors
    /// What the kernel says about the folders.
    pub fn comparisons(
        &self,
        server: Option<&str>,
        warn: &mut dyn FnMut(CatalogueError),
    ) -> Result<Vec<Comparison>, CatalogueError> {
        let folders = match server {
            Some(server) => vec![self.folder(server)],
            None => list(&self.root)?.into_iter().filter(|path| path.is_dir()).collect(),
        };
        let mut found = Vec::new();
        for folder in folders {
            let mut entries = Vec::new();
            for path in with_ending(list(&folder)?, OFFER) {
                match read(&path) {
                    Ok(entry) => entries.extend(entry),
                    Err(e) => warn(e),
                }
            }
            entries.sort_by_key(|entry: &Entry| std::cmp::Reverse(entry.at_ms));
            let mut seen = Vec::new();
            for now in entries {
                let which = (now.origin.clone(), now.offer.protocol.clone());
                if seen.contains(&which) {
                    continue;
                }
                seen.push(which);
                let mut pins = self.pins(&now.server, &now.origin).unwrap_or_else(|e| {
                    warn(e);
                    Vec::new()
                });
                // What was accepted in another revision is better than nothing to compare with.
                pins.sort_by_key(|pin| (pin.offer.protocol == now.offer.protocol, pin.at_ms));
                let accepted = pins.pop();
                found.push(Comparison { now, accepted });
            }
        }
        found.sort_by(|a, b| (&a.now.server, b.now.at_ms).cmp(&(&b.now.server, a.now.at_ms)));
        Ok(found)
    }

    fn pins(&self, server: &str, origin: &str) -> Result<Vec<Entry>, CatalogueError> {
        let mut pins = Vec::new();
        for path in with_ending(list(&self.folder(server))?, PIN) {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if !name.starts_with(origin.as_bytes()) {
                continue;
            }
            let Some(entry) = read(&path)? else { continue };
            if entry.origin != origin || entry.server != server {
                return Err(CatalogueError::Foreign { path, what: "it was accepted for another server" });
            }
            pins.push(entry);
        }
        Ok(pins)
    }

    /// A server's name may be anything; its folder is called by a digest of it.
    fn folder(&self, server: &str) -> PathBuf {
        let mut name = Parts::default();
        name.add(server);
        self.root.join(&name.digest()[..32])
    }

    fn newest(&self, server: &str, origin: &str) -> Option<Entry> {
        let files = with_ending(list(&self.folder(server)).ok()?, OFFER);
        let entries = files.iter().filter_map(|path| read(path).ok().flatten());
        entries.filter(|entry| entry.origin == origin).max_by_key(|entry| entry.at_ms)
    }

    fn write(&self, entry: &Entry, name: &str) -> Result<(), CatalogueError> {
        let bytes = serde_json::to_vec(entry)?;
        if bytes.len() as u64 > ENTRY_BYTES_MAX {
            return Err(CatalogueError::TooLarge { server: entry.server.clone(), bytes: bytes.len() });
        }
        let folder = self.folder(&entry.server);
        fs::make_private_dirs(&folder)?;
        let folder = fs::open_dir(&folder)?;
        Ok(fs::replace_file(folder.as_fd(), OsStr::new(name), &bytes, Mode::from_raw_mode(0o600))?)
    }

    /// Removes the oldest entries of a server, and what commands that were killed left half written.
    fn forget_the_oldest(&self, server: &str) {
        let files = list(&self.folder(server)).unwrap_or_default();
        let changed = |path: &PathBuf| path.symlink_metadata().and_then(|m| m.modified()).ok();
        let is_left = |path: &&PathBuf| {
            let age = changed(path).and_then(|at| at.elapsed().ok());
            is_hidden(path) && age.is_some_and(|age| age > HALF_WRITTEN_AGE)
        };
        let left: Vec<PathBuf> = files.iter().filter(is_left).cloned().collect();
        let mut offers = with_ending(files, OFFER);
        offers.sort_by_key(|path| std::cmp::Reverse(changed(path)));
        for path in offers.iter().skip(ENTRIES_MAX).chain(&left) {
            // Another gateway may have been quicker; what stays goes with the next.
            let _gone = std::fs::remove_file(path);
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The entry at `path`; nothing when there is no file.
fn read(path: &Path) -> Result<Option<Entry>, CatalogueError> {
    let bytes = match fs::read_file(path, ENTRY_BYTES_MAX) {
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let garbled = |source| CatalogueError::Garbled { path: path.to_owned(), source };
    let said: Versioned = serde_json::from_slice(&bytes).map_err(garbled)?;
    if said.version != VERSION {
        return Err(CatalogueError::Foreign {
            path: path.to_owned(),
            what: "another version of cuddy wrote it",
        });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(garbled)
}

/// The files of a folder; none when there is no folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    let wrong = |e| FsError::new("list", folder, e);
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let paths: Result<Vec<_>, _> = entries.take(FILES_MAX).map(|entry| entry.map(|e| e.path())).collect();
    Ok(paths.map_err(wrong)?)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn with_ending(files: Vec<PathBuf>, ending: &str) -> Vec<PathBuf> {
    files
        .into_iter()
        .filter(|path| path.extension() == Some(OsStr::new(ending)) && !is_hidden(path))
        .collect()
}
