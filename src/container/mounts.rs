//! Pure: `-v`, `--mount` and `--tmpfs` into one kind of value. It does not look whether anything exists.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::limits::size_bytes;
use crate::error::{ErrorKind, Fault};
use crate::names::Name;

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A file or folder of the host.
    Bind {
        /// Where it is on the host: absolute.
        path: PathBuf,
        /// A missing folder is made, as Docker's `-v` does.
        create: bool,
    },
    /// A named volume, or one made for this container alone.
    Volume(Option<Name>),
    /// Memory that is gone afterwards.
    Tmpfs {
        /// Options of tmpfs(5), checked: `size=64m,mode=1777`.
        options: String,
        /// Programs may be executed from it.
        exec: bool,
    },
}

/// How mounts made later travel between the host and the container (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Not at all, for the whole tree.
    Rprivate,
    /// From the host in.
    Slave,
    /// From the host in, for the whole tree.
    Rslave,
    /// Both ways.
    Shared,
    /// Both ways, for the whole tree.
    Rshared,
}

/// One mount that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// What.
    pub source: Source,
    /// Where inside: absolute, without `..`.
    pub target: PathBuf,
    /// Nothing below it can be written.
    pub read_only: bool,
    /// `None` is the default, `rprivate`.
    pub propagation: Option<Propagation>,
}

/// Why a mount cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a mount: {reason}")]
pub struct MountError {
    /// What was written.
    pub text: String,
    /// Which rule it breaks.
    pub reason: String,
}

impl Fault for MountError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hints(&self) -> Vec<String> {
        vec![
            "`-v /host/folder:/inside:ro`, `-v volume:/inside`, `--mount type=bind,src=/host,dst=/inside,ro`"
                .to_owned(),
        ]
    }
}

fn wrong(text: &str, reason: impl Into<String>) -> MountError {
    MountError { text: text.chars().take(300).collect(), reason: reason.into() }
}

/// A VOLUME of an image: a folder made for the container alone.
///
/// # Errors
/// [`MountError`] when the path is none that can be mounted.
pub fn declared_volume(path: &str) -> Result<MountRequest, MountError> {
    let source = Source::Volume(None);
    Ok(MountRequest { source, target: target(path, path)?, read_only: false, propagation: None })
}

/// A path inside the container: absolute, without `..`, not the root itself.
fn target(text: &str, path: &str) -> Result<PathBuf, MountError> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(wrong(text, "the path inside must be absolute"));
    }
    let clean: PathBuf = path.components().collect();
    if clean.starts_with("/proc") {
        return Err(wrong(text, "`/proc` is the kernel's: nothing is mounted on it"));
    }
    if clean == Path::new("/dev") {
        return Err(wrong(text, "`/dev` is made anew in each container: mount something below it"));
    }
    if clean.components().any(|c| c == Component::ParentDir) || clean == Path::new("/") {
        return Err(wrong(text, "the path inside must not be `/` and must not hold `..`"));
    }
    Ok(clean)
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        _ => return None,
    })
}

/// Reads `-v [SOURCE:]TARGET[:OPTIONS]`; a relative source is taken from `cwd`.
///
/// # Errors
/// [`MountError`] says which rule is broken.
pub fn parse_volume(text: &str, cwd: &Path) -> Result<MountRequest, MountError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, inside, options) = match parts[..] {
        [inside] => (None, inside, ""),
        [source, inside] => (Some(source), inside, ""),
        [source, inside, options] => (Some(source), inside, options),
        _ => return Err(wrong(text, "expected `source:inside:options`")),
    };
    let source = match source {
        None => Source::Volume(None),
        Some("") => return Err(wrong(text, "the source is empty")),
        Some(s) if s.starts_with('~') => {
            return Err(wrong(
                text,
                "no shell has replaced the `~`: write the path out, or a blank after `-v`",
            ));
        }
        Some(s) if s.starts_with(['/', '.']) => Source::Bind { path: cwd.join(s), create: true },
        Some(s) => Source::Volume(Some(s.parse::<Name>().map_err(|e| wrong(text, e.to_string()))?)),
    };
    let mut mount =
        MountRequest { source, target: target(text, inside)?, read_only: false, propagation: None };
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" | "readonly" => mount.read_only = true,
            // Labels of SELinux and hints for other systems: they ask for nothing here.
            "rw" | "z" | "Z" | "nocopy" | "consistent" | "cached" | "delegated" => {}
            word => {
                let found =
                    propagation(word).ok_or_else(|| wrong(text, format!("unknown option `{word}`")))?;
                mount.propagation = Some(found);
            }
        }
    }
    Ok(mount)
}

/// Reads `--tmpfs TARGET[:OPTIONS]`, options as tmpfs(5): `rw,size=64m,mode=1777,exec`.
///
/// # Errors
/// [`MountError`] says which rule is broken.
pub fn parse_tmpfs(text: &str) -> Result<MountRequest, MountError> {
    let (inside, options) = text.split_once(':').unwrap_or((text, ""));
    let mut read_only = false;
    let (mut exec, mut kept) = (false, Vec::new());
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => read_only = true,
            "exec" => exec = true,
            "rw" | "noexec" | "nosuid" | "nodev" | "noatime" | "relatime" => {}
            other => kept.push(tmpfs_option(text, other)?),
        }
    }
    let source = Source::Tmpfs { options: kept.join(","), exec };
    Ok(MountRequest { source, target: target(text, inside)?, read_only, propagation: None })
}

/// Only sizes, counts and modes pass: anything else could mean something to the kernel.
fn tmpfs_option(text: &str, option: &str) -> Result<String, MountError> {
    let number = |value: &str| {
        let digits = value.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G', '%']);
        value.len() - digits.len() <= 1 && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    match option.split_once('=') {
        Some(("size" | "nr_blocks" | "nr_inodes", value)) if number(value) => Ok(option.to_owned()),
        Some(("mode", value)) if u32::from_str_radix(value, 8).is_ok_and(|m| m <= 0o7777) => {
            Ok(option.to_owned())
        }
        Some(("uid" | "gid", value)) if value.parse::<u32>().is_ok() => Ok(option.to_owned()),
        _ => Err(wrong(text, format!("unknown tmpfs option `{option}`"))),
    }
}

/// Reads `--mount type=bind,src=…,dst=…,ro`.
///
/// # Errors
/// [`MountError`] says which key is wrong or missing.
pub fn parse_mount(text: &str) -> Result<MountRequest, MountError> {
    let mut fields = MountFields::default();
    let separate = fields_of(text)?;
    for field in &separate {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(k, v)| (k, Some(v)));
        fields.take(text, &key.to_ascii_lowercase(), value)?;
    }
    fields.finish(text)
}

/// The fields of one line of CSV, as Docker reads it (RFC 4180): quotes around one let it hold a comma, and
/// two quotes in it are one.
fn fields_of(text: &str) -> Result<Vec<String>, MountError> {
    let mut fields = vec![String::new()];
    let mut letters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().ok_or_else(|| wrong(text, "no field"))?;
        match letter {
            '"' if is_quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted => is_quoted = false,
            '"' if field.is_empty() => is_quoted = true,
            '"' => return Err(wrong(text, "a quote stands inside a field: put the whole field in quotes")),
            ',' if !is_quoted => fields.push(String::new()),
            letter => field.push(letter),
        }
    }
    if is_quoted { Err(wrong(text, "a quote is not closed")) } else { Ok(fields) }
}

#[derive(Default)]
struct MountFields<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    propagation: Option<Propagation>,
    tmpfs: Vec<String>,
}

impl<'a> MountFields<'a> {
    fn take(&mut self, text: &str, key: &str, value: Option<&'a str>) -> Result<(), MountError> {
        let needed = || value.ok_or_else(|| wrong(text, format!("`{key}` needs a value")));
        let yes = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(text, format!("`{other}` is not `true` or `false`"))),
        };
        match key {
            "type" => self.kind = Some(needed()?),
            "source" | "src" => self.source = Some(needed()?),
            "target" | "destination" | "dst" => self.target = Some(needed()?),
            "readonly" | "ro" => self.read_only = yes()?,
            "rw" => self.read_only = !yes()?,
            // What a mount hides from us in a user namespace the kernel keeps hidden: a bind without the
            // mounts below it is refused (user_namespaces(7)), and said so here instead.
            "bind-nonrecursive" if !yes()? => {}
            "bind-recursive" if needed()? != "disabled" => {}
            "bind-nonrecursive" | "bind-recursive" => {
                return Err(wrong(text, "the mounts below a folder always come along in a user namespace"));
            }
            "volume-nocopy" | "consistency" => {}
            "tmpfs-size" => {
                let bytes = size_bytes(needed()?).map_err(|e| wrong(text, e.to_string()))?;
                self.tmpfs.push(tmpfs_option(text, &format!("size={bytes}"))?);
            }
            "tmpfs-mode" => self.tmpfs.push(tmpfs_option(text, &format!("mode={}", needed()?))?),
            "bind-propagation" => {
                let word = needed()?;
                let found = propagation(word);
                self.propagation =
                    Some(found.ok_or_else(|| wrong(text, format!("unknown propagation `{word}`")))?);
            }
            other => return Err(wrong(text, format!("unknown key `{other}`"))),
        }
        Ok(())
    }

    fn finish(self, text: &str) -> Result<MountRequest, MountError> {
        let inside = self.target.ok_or_else(|| wrong(text, "`target` is missing"))?;
        let source = match (self.kind.unwrap_or("volume"), self.source) {
            ("bind", Some(path)) if path.starts_with('/') => {
                Source::Bind { path: path.into(), create: false }
            }
            ("bind", _) => return Err(wrong(text, "`source` must be an absolute path of the host")),
            ("volume", None) => Source::Volume(None),
            ("volume", Some(name)) => {
                Source::Volume(Some(name.parse::<Name>().map_err(|e| wrong(text, e.to_string()))?))
            }
            ("tmpfs", None) => Source::Tmpfs { options: self.tmpfs.join(","), exec: false },
            ("tmpfs", Some(_)) => return Err(wrong(text, "a tmpfs has no `source`")),
            (kind, _) => return Err(wrong(text, format!("unknown type `{kind}`"))),
        };
        let target = target(text, inside)?;
        Ok(MountRequest { source, target, read_only: self.read_only, propagation: self.propagation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_flag_is_a_bind_a_volume_or_an_anonymous_one() {
        let cwd = Path::new("/here");
        let bind = parse_volume("./a:/b:ro,Z,rslave", cwd).unwrap();
        assert_eq!(bind.source, Source::Bind { path: "/here/./a".into(), create: true });
        assert!(bind.read_only);
        assert_eq!(bind.propagation, Some(Propagation::Rslave));
        assert_eq!(
            parse_volume("data:/b", cwd).unwrap().source,
            Source::Volume(Some("data".parse().unwrap()))
        );
        assert_eq!(parse_volume("/b/", cwd).unwrap().target, Path::new("/b"));
        for bad in [
            "",
            ":",
            "a:b",
            "/a:b",
            "/a:/",
            "/a:/b:rx",
            "/a:/b/../c",
            "a/b:/c",
            "/a:/b:ro:x",
            ":/b",
            "~/a:/b",
        ] {
            assert!(parse_volume(bad, cwd).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_flag_names_its_keys() {
        let bind = parse_mount("type=bind,src=/a,dst=/b,readonly").unwrap();
        assert_eq!(bind.source, Source::Bind { path: "/a".into(), create: false });
        assert!(bind.read_only);
        let tmpfs = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(tmpfs.source, Source::Tmpfs { options: "size=1048576,mode=1770".to_owned(), exec: false });
        let quoted = parse_mount("type=bind,\"SRC=/a,\"\"b\",dst=/b").unwrap();
        assert_eq!(quoted.source, Source::Bind { path: "/a,\"b".into(), create: false });
        for bad in [
            "type=bind,dst=/b",
            "type=bind,src=a,dst=/b",
            "src=v",
            "type=nfs,dst=/b",
            "type=bind,src=/a,dst=/b,x=1",
            "type=bind,\"src=/a,dst=/b",
            "type=bind,sr\"c=/a\",dst=/b",
        ] {
            assert!(parse_mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tmpfs_options_cannot_carry_anything_else() {
        let mount = parse_tmpfs("/run:rw,exec,size=64m").unwrap();
        assert_eq!(mount.source, Source::Tmpfs { options: "size=64m".to_owned(), exec: true });
        for bad in
            ["/run:size=1,suid", "/run:context=x", "run", "/run:mode=99999", "/run:size=mm", "/run:size="]
        {
            assert!(parse_tmpfs(bad).is_err(), "{bad}");
        }
    }
}
