//! The settings of srt as the policy of one run: what is there, what is denied, what stands over what.
//!
//! srt shows the whole host but what is denied; here only the system folders, the folder it is called in and what
//! is allowed are shown. A denial inside of them is built, or it is an error. It starts nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::limits::Limits;
use crate::container::options::{EnvEntry, HOST_IMAGE, Network};
use crate::engine::config::document::{Document, FILE_BYTES_MAX, Malformed, Mistake};
use crate::engine::config::from_json;
use crate::engine::config::read::{ConfigError, surroundings};
use crate::engine::config::srt::{self, Settings};
use crate::engine::config::table::{Reader, Unknown};
use crate::engine::config::variables::Dialect;
use crate::engine::host::Host;
use crate::engine::host_image::{self, Account};
use crate::engine::reach;
use crate::engine::sandboxes::Policy;
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs;

/// Where settings are when none are named, below the home folder.
pub const SETTINGS_FILE: &str = ".srt-settings.json";
/// The variable that says what is done about domains: `none` or `host`.
pub const NETWORK_VARIABLE: &str = "CUDDY_SRT_NETWORK";
/// The system folders that every sandbox shows, read-only.
const SYSTEM: [&str; 9] = ["/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sbin", "/usr"];
/// Folders that a sandbox has of its own.
const OWN: [&str; 6] = ["/", "/dev", "/proc", "/run", "/sys", "/tmp"];
/// Files that run something later, outside: srt protects them wherever something may be written.
const DANGEROUS: [&str; 14] = [
    ".bash_profile",
    ".bashrc",
    ".claude/agents",
    ".claude/commands",
    ".git/hooks",
    ".gitconfig",
    ".gitmodules",
    ".idea",
    ".mcp.json",
    ".profile",
    ".ripgreprc",
    ".vscode",
    ".zprofile",
    ".zshrc",
];
/// How deep below a folder that may be written they are looked for, as srt does.
const DANGEROUS_DEPTH: usize = 3;
/// Most folders that are looked into for them.
const FOLDERS_MAX: usize = 20_000;

/// Why settings cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SrtError {
    /// A denial cannot be built.
    #[error("cannot keep `{path}` of `{key}`: {reason}")]
    Denial {
        /// The key of the settings.
        key: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Domains are allowed, and no proxy is there to tell them apart.
    #[error("`network.allowedDomains` names {count}, and cuddy cannot yet limit a network to domains")]
    Domains {
        /// How many.
        count: usize,
    },
    /// The variable says something else.
    #[error("`{NETWORK_VARIABLE}` is neither `none` nor `host`")]
    Variable,
    /// A tree that is too large to look through.
    #[error("more than {FOLDERS_MAX} folders below `{path}` to protect")]
    Large {
        /// The folder that may be written.
        path: PathBuf,
    },
}

impl Fault for SrtError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Denial { .. } | Self::Domains { .. } => ErrorKind::Unsupported,
            Self::Variable => ErrorKind::Usage,
            Self::Large { .. } => ErrorKind::Limit,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Denial { .. } => {
                vec!["allow the folders beside it instead of the one around it".to_owned()]
            }
            Self::Domains { .. } => vec![
                format!(
                    "without any network: `{NETWORK_VARIABLE}=none`, or `\"cuddy\": {{\"network\": \"none\"}}` in the settings"
                ),
                format!("with the whole network of this host: `{NETWORK_VARIABLE}=host`"),
            ],
            Self::Variable => vec![format!("unset it, or set one of them: `{NETWORK_VARIABLE}=none`")],
            Self::Large { .. } => vec!["allow the folders in it that are to be written".to_owned()],
        }
    }
}

/// The settings of a file, and what should be known about them; `None` is the usual one, which need not be there.
///
/// # Errors
/// The file cannot be read, or every mistake in it: never are other rules taken in its place.
pub fn settings(host: &Host, file: Option<&Path>) -> Result<(Settings, Vec<Mistake>), Error> {
    let path = match (file, &host.home) {
        (Some(file), _) => host.cwd.join(file),
        (None, Some(home)) => home.join(SETTINGS_FILE),
        (None, None) => return Ok((Settings::default(), Vec::new())),
    };
    let shown = file.unwrap_or(&path).to_owned();
    let bytes = match fs::read_file(&path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(e) if file.is_none() && e.kind() == ErrorKind::NotFound => {
            return Ok((Settings::default(), Vec::new()));
        }
        Err(source) => return Err(ConfigError::File { file: shown, source }.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let root = from_json::parse(&text).map_err(|e| malformed(&shown, e))?;
    let document = Document { file: shown, root };
    let surroundings = surroundings(host, BTreeMap::new());
    let reader = Reader::new(&document, &surroundings, Dialect::Literal, Unknown::Remark, host.cwd.clone());
    let settings = srt::read(&reader);
    let (mistakes, remarks) = reader.finish();
    if mistakes.is_empty() { Ok((settings, remarks)) } else { Err(ConfigError::Mistakes(mistakes).into()) }
}

fn malformed(file: &Path, e: Malformed) -> Error {
    let text = format!(
        "`{}` is no JSON in line {}, character {}: {}",
        file.display(),
        e.spot.line,
        e.spot.column,
        e.what
    );
    Error::new(ErrorKind::Usage, text)
}

/// The policy of one run under settings.
///
/// # Errors
/// [`SrtError`].
pub fn policy(host: &Host, settings: &Settings, command: Vec<String>) -> Result<Policy, SrtError> {
    let network = network(host, settings)?;
    let real = |path: &PathBuf| path.canonicalize().ok();
    let mut writable: Vec<PathBuf> =
        settings.allow_write.iter().filter(|path| path.exists()).cloned().collect();
    let mut readable: Vec<PathBuf> = settings.allow_read.iter().filter(|path| shows(path)).cloned().collect();
    let denied: Vec<PathBuf> = settings.deny_read.iter().filter_map(real).collect();
    let allowed: Vec<PathBuf> =
        settings.allow_read.iter().chain(&settings.allow_write).filter_map(real).collect();
    if let Ok(here) = host.cwd.canonicalize()
        && !denied.iter().any(|deny| here.starts_with(deny))
        && shows(&here)
        && !allowed.iter().any(|allow| here.starts_with(allow))
    {
        readable.push(host.cwd.clone());
    }
    // A folder that is denied as a whole is no longer one that may be written.
    for path in &settings.deny_write {
        let (_, stays): (Vec<_>, Vec<_>) = writable.iter().cloned().partition(|root| root.starts_with(path));
        readable.extend(writable.iter().filter(|root| root.starts_with(path)).cloned());
        writable = stays;
    }
    protect(settings, &writable, &mut readable)?;
    let home = host.home.as_deref().and_then(Path::to_str).unwrap_or("/");
    let account = Account { name: &host.login, uid: host.uid, gid: host.gid, home };
    let system = host_image::describe(&account).visible();
    let system: Vec<PathBuf> = system.iter().filter_map(real).collect();
    let hidden = hidden(&system, &writable, &readable, &denied, &allowed)?;
    let goes_in = |name: &String| !settings.hidden_variables.contains(name) && name != "TMPDIR";
    let variables = host.environment.iter().filter(|(name, _)| goes_in(name));
    let mut environment: Vec<EnvEntry> =
        variables.map(|(name, value)| EnvEntry::Set(name.clone(), value.clone())).collect();
    // A program sees by the first that it is in a sandbox, and writes its passing files where it may.
    for (name, value) in [("SANDBOX_RUNTIME", "1"), ("TMPDIR", "/tmp")] {
        environment.push(EnvEntry::Set(name.to_owned(), value.to_owned()));
    }
    Ok(Policy {
        command,
        workspaces: Vec::new(),
        read_only: readable,
        read_write: writable,
        hidden,
        environment,
        network,
        limits: Limits::default(),
        image: HOST_IMAGE.to_owned(),
        seccomp: None,
    })
}

/// Whether a path is there and can be shown beside what every sandbox has.
fn shows(path: &Path) -> bool {
    let own = OWN.iter().any(|folder| path == Path::new(folder));
    let kernel = ["/dev", "/proc", "/sys"].iter().any(|folder| path.starts_with(folder));
    let system = SYSTEM
        .iter()
        .any(|folder| path == Path::new(folder) || *folder != "/etc" && path.starts_with(folder));
    !own && !kernel && !system && path.exists()
}

fn network(host: &Host, settings: &Settings) -> Result<Network, SrtError> {
    let chosen = match host.environment.get(NETWORK_VARIABLE).map(String::as_str) {
        Some("none") => Some(Network::None),
        Some("host") => Some(Network::Host),
        Some(_) => return Err(SrtError::Variable),
        None => settings.network,
    };
    match chosen {
        _ if settings.allowed_domains.is_empty() => Ok(Network::None),
        Some(network) => Ok(network),
        None => Err(SrtError::Domains { count: settings.allowed_domains.len() }),
    }
}

/// What may not be written inside of what may, read-only: what the settings say, and what runs something later.
fn protect(settings: &Settings, writable: &[PathBuf], readable: &mut Vec<PathBuf>) -> Result<(), SrtError> {
    for path in &settings.deny_write {
        let inside = writable.iter().any(|root| path.starts_with(root));
        if inside && !path.exists() {
            let reason = "it is not there, so nothing can be put over it: make it first, or leave it out";
            return Err(SrtError::Denial { key: "filesystem.denyWrite", path: path.clone(), reason });
        }
        if inside {
            readable.push(path.clone());
        }
    }
    for root in writable {
        let mut left = vec![(root.clone(), 0)];
        let mut count = 0;
        while let Some((folder, depth)) = left.pop() {
            count += 1;
            if count > FOLDERS_MAX {
                return Err(SrtError::Large { path: root.clone() });
            }
            let config = (!settings.allow_git_config).then_some(".git/config");
            let names = DANGEROUS.iter().copied().chain(config);
            // A link is left alone: over it a mount would land elsewhere.
            let plain = |path: &PathBuf| path.symlink_metadata().is_ok_and(|kind| !kind.is_symlink());
            readable.extend(names.map(|name| folder.join(name)).filter(plain));
            if depth < DANGEROUS_DEPTH {
                let inner = reach::entries(&folder).into_iter().filter(|path| {
                    let skipped = path.ends_with("node_modules") || path.ends_with(".git");
                    !skipped && path.symlink_metadata().is_ok_and(|kind| kind.is_dir())
                });
                left.extend(inner.map(|path| (path, depth + 1)));
            }
        }
    }
    Ok(())
}

/// What must be hidden of what is shown. What is allowed inside of a denial stands over it, as in srt.
fn hidden(
    system_shown: &[PathBuf],
    writable: &[PathBuf],
    readable: &[PathBuf],
    denied: &[PathBuf],
    allowed: &[PathBuf],
) -> Result<Vec<PathBuf>, SrtError> {
    let mistake =
        |path: &Path, reason| SrtError::Denial { key: "filesystem.denyRead", path: path.to_owned(), reason };
    let shown: Vec<PathBuf> =
        writable.iter().chain(readable).filter_map(|path| path.canonicalize().ok()).collect();
    let system: Vec<PathBuf> = SYSTEM.iter().filter_map(|path| Path::new(path).canonicalize().ok()).collect();
    let mut hidden = Vec::new();
    for deny in denied {
        for folder in system.iter().filter(|folder| folder.starts_with(deny)) {
            if !allowed.iter().any(|allow| folder.starts_with(allow)) {
                return Err(mistake(deny, "programs need the system folders, which are always shown"));
            }
        }
        let in_system = system_shown.iter().any(|path| deny.starts_with(path));
        let in_shown = shown.iter().any(|root| deny.starts_with(root) && deny != root);
        if !in_system && !in_shown || allowed.contains(deny) {
            continue;
        }
        if allowed.iter().any(|allow| allow.starts_with(deny)) {
            return Err(mistake(deny, "something in it is allowed, and what stands around it is shown"));
        }
        hidden.push(deny.clone());
    }
    Ok(hidden)
}
