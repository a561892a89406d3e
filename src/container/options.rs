//! Pure: what was asked of a container, in the words of Docker's flags, as plain data.
//!
//! Every surface fills these values; nothing here reads the host.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::limits::Limits;
use crate::container::mounts::MountRequest;
use crate::error::{ErrorKind, Fault};
use crate::names::Name;

/// Docker's size of `/dev/shm`, in bytes.
pub const SHM_BYTES_DEFAULT: u64 = 64 << 20;
/// The search path of a container whose image names none, as Docker has it.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The pseudo-image made of the host's own system folders.
pub const HOST_IMAGE: &str = "@host";

/// Why what was asked cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A flag's value is not what the flag takes.
    #[error("`{value}` is not a value of `{flag}`: {reason}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was written.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// No command: neither typed nor in the image.
    #[error("no command was given, and the image `{image}` names none")]
    NoCommand {
        /// The image.
        image: String,
    },
}

impl OptionError {
    /// An error about the value of a flag.
    pub fn value(flag: &'static str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value { flag, value: value.into(), reason: reason.into() }
    }
}

impl Fault for OptionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Value { .. } => Vec::new(),
            Self::NoCommand { image } => vec![format!("name one: `cuddy run {image} sh`")],
        }
    }
}

/// One `-e`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvEntry {
    /// `NAME=VALUE`.
    Set(String, String),
    /// `NAME`: the caller's value, when there is one.
    Copy(String),
}

impl EnvEntry {
    /// Reads `NAME[=VALUE]`.
    ///
    /// # Errors
    /// [`OptionError::Value`] when the name is empty or a byte cannot stand in an environment. It never
    /// holds the value, which may be a secret.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let (name, value) = text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v)));
        if name.is_empty() || text.contains('\0') {
            let shown = if name.is_empty() { "=…" } else { name };
            return Err(OptionError::value("--env", shown, "expected `NAME=VALUE` or `NAME`"));
        }
        Ok(match value {
            Some(value) => Self::Set(name.to_owned(), value.to_owned()),
            None => Self::Copy(name.to_owned()),
        })
    }
}

impl EnvEntry {
    /// Reads one line of an `--env-file`, whose names may hold no blank.
    ///
    /// # Errors
    /// As [`EnvEntry::parse`].
    pub fn parse_line(line: &str) -> Result<Self, OptionError> {
        let entry = Self::parse(line)?;
        let (Self::Set(name, _) | Self::Copy(name)) = &entry;
        if name.contains(char::is_whitespace) {
            return Err(OptionError::value("--env-file", name, "a name holds no blank"));
        }
        Ok(entry)
    }
}

/// What the container's network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Loopback only.
    None,
    /// The host's own.
    Host,
}

/// Which user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespace {
    /// A new one where the caller is user 0, with subordinate ids when the image needs them.
    Root,
    /// A new one where the caller is itself, and nobody else exists.
    KeepId,
    /// A new one that has every id of the host as itself: only root may, and only by saying so.
    Host,
}

/// Which seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeccompChoice {
    /// Docker's baseline in effect.
    Default,
    /// The smaller list for tools of agents.
    Strict,
    /// A profile file.
    File(PathBuf),
    /// None, said openly.
    Unconfined,
}

/// A device of the host that is shown inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// On the host.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
}

/// A resource limit of the command (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The name without `RLIMIT_`, lower case: `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// What was asked of one container.
#[derive(Debug, Clone)]
pub struct Options {
    /// The image as typed: `@host`, a name or an id.
    pub image: String,
    /// What follows the image.
    pub command: Vec<String>,
    /// `Some("")` clears the image's.
    pub entrypoint: Option<String>,
    /// The container's name.
    pub name: Option<Name>,
    /// Our standard input is the command's.
    pub interactive: bool,
    /// A terminal of its own.
    pub tty: bool,
    /// In the order typed, later ones win.
    pub environment: Vec<EnvEntry>,
    /// Files of `NAME=VALUE` lines; they come before `environment`.
    pub environment_files: Vec<PathBuf>,
    /// The command's folder.
    pub workdir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Mounts, in the order typed.
    pub mounts: Vec<MountRequest>,
    /// The container's host name.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`: name, address.
    pub hosts: Vec<(String, String)>,
    /// The root filesystem cannot be written.
    pub read_only: bool,
    /// The network.
    pub network: Network,
    /// What cgroups enforce.
    pub limits: Limits,
    /// What rlimits enforce.
    pub ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm`, in bytes.
    pub shm_bytes: u64,
    /// Capabilities more than the default ones, as typed.
    pub cap_add: Vec<String>,
    /// Capabilities less, as typed.
    pub cap_drop: Vec<String>,
    /// `no_new_privs`: set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// The filter, when one was named: `--privileged` drops only the default.
    pub seccomp: Option<SeccompChoice>,
    /// A reaper of ours is the first process.
    pub init: bool,
    /// The container's id is written to this file, which must not exist.
    pub cidfile: Option<PathBuf>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// The signal that asks the command to end.
    pub stop_signal: Option<String>,
    /// Devices of the host.
    pub devices: Vec<DeviceRequest>,
    /// All capabilities inside, no filter, no masks: the user namespace is the only wall.
    pub privileged: bool,
    /// The user namespace.
    pub userns: UserNamespace,
    /// `os[/arch[/variant]]` the image must have.
    pub platform: Option<String>,
}

impl Options {
    /// Docker's defaults for `image` and `command`.
    pub fn new(image: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            image: image.into(),
            command,
            entrypoint: None,
            name: None,
            interactive: false,
            tty: false,
            environment: Vec::new(),
            environment_files: Vec::new(),
            workdir: None,
            user: None,
            groups: Vec::new(),
            mounts: Vec::new(),
            hostname: None,
            hosts: Vec::new(),
            read_only: false,
            network: Network::None,
            limits: Limits::default(),
            ulimits: Vec::new(),
            shm_bytes: SHM_BYTES_DEFAULT,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            seccomp: None,
            init: false,
            cidfile: None,
            labels: Vec::new(),
            stop_signal: None,
            devices: Vec::new(),
            privileged: false,
            userns: UserNamespace::Root,
            platform: None,
        }
    }
}

/// Reads `--ulimit name=soft[:hard]`; `-1` is unlimited.
///
/// # Errors
/// [`OptionError::Value`].
pub fn parse_ulimit(text: &str) -> Result<Ulimit, OptionError> {
    let wrong = |reason: &str| OptionError::value("--ulimit", text, reason);
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, values) = text.split_once('=').ok_or_else(|| wrong("expected `name=soft[:hard]`"))?;
    if !NAMES.contains(&name) {
        return Err(wrong("no such limit"));
    }
    let number = |value: &str| match value {
        "-1" | "unlimited" => Ok(u64::MAX),
        digits => digits.parse::<u64>().map_err(|e| wrong(&e.to_string())),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(wrong("the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// Reads `--device HOST[:INSIDE[:rwm]]`.
///
/// # Errors
/// [`OptionError::Value`].
pub fn parse_device(text: &str) -> Result<DeviceRequest, OptionError> {
    let wrong = || OptionError::value("--device", text, "expected `/dev/HOST[:/dev/INSIDE[:rwm]]`");
    let mut parts = text.split(':');
    let source = parts.next().filter(|p| p.starts_with("/dev/")).ok_or_else(wrong)?;
    let second = parts.next();
    let (inside, rights) = match second {
        Some(word) if word.starts_with('/') => (word, parts.next()),
        other => (source, other),
    };
    let rights_are_ok = rights.is_none_or(|r| !r.is_empty() && r.bytes().all(|b| b"rwm".contains(&b)));
    if parts.next().is_some() || !rights_are_ok || !inside.starts_with("/dev/") || text.contains("..") {
        return Err(wrong());
    }
    Ok(DeviceRequest { source: source.into(), target: inside.into() })
}

/// Reads `--add-host NAME:ADDRESS` or `NAME=ADDRESS`.
///
/// # Errors
/// [`OptionError::Value`].
pub fn parse_host(text: &str) -> Result<(String, String), OptionError> {
    let wrong = |reason: &str| OptionError::value("--add-host", text, reason);
    let (name, address) = text.split_once(['=', ':']).ok_or_else(|| wrong("expected `name:address`"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(wrong("the name is empty or has spaces"));
    }
    if address.parse::<std::net::IpAddr>().is_err() {
        return Err(wrong("the address is not an IP address"));
    }
    Ok((name.to_owned(), address.to_owned()))
}

/// Checks `--hostname`: what the kernel and every name service take.
///
/// # Errors
/// [`OptionError::Value`].
pub fn check_hostname(name: &str) -> Result<(), OptionError> {
    let is_ok = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && !name.starts_with(['-', '.']);
    let reason = "expected 1 to 64 of [A-Za-z0-9._-], not beginning with `-` or `.`";
    if is_ok { Ok(()) } else { Err(OptionError::value("--hostname", name, reason)) }
}

/// Reads a signal as Docker does: a number, `TERM` or `SIGTERM`.
///
/// # Errors
/// [`OptionError::Value`].
pub fn parse_signal(text: &str) -> Result<i32, OptionError> {
    let wrong = || OptionError::value("--stop-signal", text, "expected a signal such as `TERM` or `15`");
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Some(offset) =
        name.strip_prefix("RTMIN").and_then(|o| o.strip_prefix('+').unwrap_or("0").parse::<i32>().ok())
    {
        return if (0..=30).contains(&offset) { Ok(34 + offset) } else { Err(wrong()) };
    }
    let found = NAMES.iter().position(|n| *n == name).and_then(|i| i32::try_from(i + 1).ok());
    found.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_flags_are_read_as_docker_reads_them() {
        assert_eq!(parse_ulimit("nofile=5:10").unwrap(), Ulimit { name: "nofile".into(), soft: 5, hard: 10 });
        assert_eq!(parse_ulimit("core=-1").unwrap().hard, u64::MAX);
        assert_eq!(parse_device("/dev/fuse:rw").unwrap().target, PathBuf::from("/dev/fuse"));
        assert_eq!(parse_device("/dev/fuse:/dev/x:r").unwrap().target, PathBuf::from("/dev/x"));
        assert_eq!(parse_host("a:[::1]").unwrap(), ("a".to_owned(), "::1".to_owned()));
        assert_eq!(parse_signal("sigterm").unwrap(), 15);
        assert_eq!(parse_signal("RTMIN+3").unwrap(), 37);
        assert_eq!(EnvEntry::parse("A=b=c").unwrap(), EnvEntry::Set("A".into(), "b=c".into()));
    }

    #[test]
    fn values_that_say_something_else_are_refused() {
        for bad in ["nofile", "nofile=x", "nofile=2:1", "x=1"] {
            assert!(parse_ulimit(bad).is_err(), "{bad}");
        }
        for bad in ["/etc/passwd", "/dev/a:/b", "/dev/../etc:rw", "/dev/a:q", "/dev/a:/dev/b:rw:x"] {
            assert!(parse_device(bad).is_err(), "{bad}");
        }
        for bad in ["0", "65", "-9", "NOPE", "RTMIN+31", ""] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
        for bad in ["", "two words", "-a", &"a".repeat(65), "a\nb"] {
            assert!(check_hostname(bad).is_err(), "{bad:?}");
        }
        assert!(check_hostname("web-1.example").is_ok());
        assert!(parse_host("a b:1.2.3.4").is_err() && parse_host("a:nope").is_err());
        assert!(EnvEntry::parse("=x").is_err() && EnvEntry::parse("A\0=x").is_err());
    }
}
