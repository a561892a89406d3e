//! What a client of `mcp serve` may ask for, bounded by what the server was started with.
//!
//! It compares and never looks at the host: that a path has no link in it is held where it is mounted.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::container::limits::Limits;
use crate::container::options::{HOST_IMAGE, Network};
use crate::engine::boxes::{BoxRequest, Ceiling};
use crate::error::Error;
use crate::mcp::toolbox::Failure;

/// What `sandbox_create` asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// Its name.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Its workspaces; all there may be without.
    pub workspaces: Option<Vec<AskedFolder>>,
    /// What else it may read.
    pub read_only: Vec<PathBuf>,
    /// Its variables.
    pub environment: BTreeMap<String, String>,
    /// Its network.
    pub network: Option<Network>,
    /// Its programs.
    pub programs: Vec<String>,
    /// Its memory.
    pub memory: Option<String>,
    /// Its processors.
    pub cpus: Option<String>,
    /// Its processes.
    pub processes: Option<u64>,
}

/// A folder that is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedFolder {
    /// Where on the host.
    pub path: PathBuf,
    /// Only to read.
    #[serde(default)]
    pub read_only: bool,
}

/// What limits a sandbox, as it is asked for.
#[derive(Debug, Clone, Default)]
pub struct AskedLimits {
    /// Memory.
    pub memory: Option<String>,
    /// Processors.
    pub cpus: Option<String>,
    /// Processes.
    pub processes: Option<u64>,
}

/// Processors a limit may name here: the ceiling is another limit, not the host.
const PROCESSORS_MAX: u32 = 1 << 16;

impl Ceiling {
    /// What is asked for as a request, when all of it is allowed.
    ///
    /// # Errors
    /// `denied`, with what is allowed, or what is wrong with a value.
    pub fn bound(&self, asked: &Asked) -> Result<BoxRequest, Failure> {
        let workspaces = match &asked.workspaces {
            None => self.workspaces.clone(),
            Some(folders) => folders.iter().map(|f| self.workspace(f)).collect::<Result<_, _>>()?,
        };
        let read_only = asked.read_only.iter().map(|path| self.readable(path)).collect::<Result<_, _>>()?;
        let network = asked.network.unwrap_or(Network::None);
        if network == Network::Host && self.network == Network::None {
            return Err(denied("the host's network").hint("this server was started without `--network host`"));
        }
        let image = match (&asked.image, self.images.first()) {
            (Some(image), _) if self.allows_image(image) => image.clone(),
            (Some(image), _) => {
                let allowed = self.images.join(", ");
                return Err(
                    denied(&format!("the image `{image}`")).hint(format!("these are allowed: {allowed}"))
                );
            }
            (None, Some(first)) => first.clone(),
            (None, None) => HOST_IMAGE.to_owned(),
        };
        let limits = self.limits(&AskedLimits {
            memory: asked.memory.clone(),
            cpus: asked.cpus.clone(),
            processes: asked.processes,
        })?;
        let mut environment = self.environment.clone();
        environment.extend(variables(&asked.environment)?);
        Ok(BoxRequest {
            workspaces,
            read_only,
            read_write: Vec::new(),
            environment,
            network,
            memory: limits.memory,
            cpus: limits.cpus,
            pids: limits.processes.map(|n| n.to_string()).or_else(|| self.pids.clone()),
            image,
            seccomp: self.seccomp.clone(),
            programs: asked.programs.clone(),
        })
    }

    /// Whether an image may be used.
    pub fn allows_image(&self, image: &str) -> bool {
        self.images.is_empty() || self.images.iter().any(|allowed| allowed == image)
    }

    fn workspace(&self, asked: &AskedFolder) -> Result<(PathBuf, bool), Failure> {
        let path = plain(&asked.path)?;
        let may = self.workspaces.iter().find(|(root, _)| path.starts_with(root));
        match may {
            Some((_, true)) if !asked.read_only => Err(denied(&format!("writing `{}`", path.display()))
                .path(path.display().to_string())
                .hint("ask for it with `read_only`: true")),
            Some(_) => Ok((path, asked.read_only)),
            None => Err(self.outside(&path)),
        }
    }

    fn readable(&self, path: &Path) -> Result<PathBuf, Failure> {
        let path = plain(path)?;
        let mut roots = self.workspaces.iter().map(|(root, _)| root).chain(&self.read_only);
        if roots.any(|root| path.starts_with(root)) { Ok(path) } else { Err(self.outside(&path)) }
    }

    fn outside(&self, path: &Path) -> Failure {
        let roots: Vec<String> = self.workspaces.iter().map(|(root, _)| root.display().to_string()).collect();
        let hint = if roots.is_empty() {
            "this server was started without `--workspace`: leave folders out".to_owned()
        } else {
            format!("folders at or below these are allowed: {}", roots.join(", "))
        };
        denied(&format!("`{}`", path.display())).path(path.display().to_string()).hint(hint)
    }

    /// The workspace that a path lies in, and the way to it from there.
    ///
    /// # Errors
    /// `denied` when it lies in none.
    pub fn beneath<'p>(&self, path: &'p Path) -> Result<(&Path, &'p Path), Failure> {
        plain(path)?;
        let found = self.workspaces.iter().find_map(|(root, _)| Some((root, path.strip_prefix(root).ok()?)));
        found.map(|(root, way)| (root.as_path(), way)).ok_or_else(|| self.outside(path))
    }

    /// Limits that are asked for, none above the ceiling; what is not asked for is the ceiling's.
    ///
    /// # Errors
    /// `denied` above the ceiling, or what is wrong with a value.
    pub fn limits(&self, asked: &AskedLimits) -> Result<AskedLimits, Failure> {
        let read = |memory: Option<&str>, cpus: Option<&str>| {
            let mut limits = Limits::default();
            limits.set_memory(memory, None).map_err(Error::from)?;
            if let Some(cpus) = cpus {
                limits.set_cpus(cpus, PROCESSORS_MAX).map_err(Error::from)?;
            }
            Ok::<_, Error>(limits)
        };
        let (most, wanted) = (
            read(self.memory.as_deref(), self.cpus.as_deref())?,
            read(asked.memory.as_deref(), asked.cpus.as_deref())?,
        );
        // No limit is more than any limit.
        let above = |asked: bool, wanted: Option<u64>, most: Option<u64>| {
            asked && most.is_some_and(|most| wanted.is_none_or(|wanted| wanted > most))
        };
        let quota = |l: &Limits| l.cpu_quota.as_ref().map(|q| q.quota_us);
        if above(asked.memory.is_some(), wanted.memory_bytes, most.memory_bytes) {
            return Err(above_ceiling("memory", self.memory.as_deref()));
        }
        if above(asked.cpus.is_some(), quota(&wanted), quota(&most)) {
            return Err(above_ceiling("processor time", self.cpus.as_deref()));
        }
        let pids = self.pids.as_ref().and_then(|text| text.parse().ok());
        if asked.processes == Some(0) {
            return Err(Failure::new("invalid_arguments", "no processes are no limit: ask for one or more"));
        }
        if above(asked.processes.is_some(), asked.processes, pids) {
            return Err(above_ceiling("processes", self.pids.as_deref()));
        }
        Ok(AskedLimits {
            memory: asked.memory.clone().or_else(|| self.memory.clone()),
            cpus: asked.cpus.clone().or_else(|| self.cpus.clone()),
            processes: asked.processes.or(pids),
        })
    }
}

fn above_ceiling(what: &str, most: Option<&str>) -> Failure {
    denied(&format!("that much {what}"))
        .hint(format!("ask for `{}` or less: this server was started with it", most.unwrap_or_default()))
}

fn denied(what: &str) -> Failure {
    Failure::new("denied", format!("{what} is not allowed to sandboxes of this server"))
}

/// An absolute path without `..`, in its plainest form.
fn plain(path: &Path) -> Result<PathBuf, Failure> {
    let is_plain = path.is_absolute()
        && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if is_plain {
        return Ok(path.components().collect());
    }
    let text = path.display().to_string();
    Err(Failure::new("invalid_arguments", format!("`{text}` is not an absolute path without `..`"))
        .path(text))
}

/// Variables as `NAME=VALUE`.
///
/// # Errors
/// `invalid_arguments` for a name that is none, or a value with a NUL.
pub fn variables(map: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
    let one = |(name, value): (&String, &String)| {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Failure::new(
                "invalid_arguments",
                "a variable's name is not one, or its value has a NUL",
            ));
        }
        Ok(format!("{name}={value}"))
    };
    map.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling() -> Ceiling {
        Ceiling {
            workspaces: vec![("/work/a".into(), false), ("/data".into(), true)],
            read_only: vec!["/opt/models".into()],
            environment: vec!["LANG=C".into()],
            network: Network::None,
            memory: Some("1g".into()),
            cpus: None,
            pids: Some("100".into()),
            images: Vec::new(),
            seccomp: None,
            pull: false,
            sandboxes_max: 4,
        }
    }

    fn asked(json: serde_json::Value) -> Asked {
        serde_json::from_value(json).unwrap()
    }

    #[track_caller]
    fn refused(json: serde_json::Value, code: &str) {
        assert_eq!(ceiling().bound(&asked(json)).unwrap_err().code, code);
    }

    #[test]
    fn nothing_asked_is_all_that_may_be() {
        let request = ceiling().bound(&Asked::default()).unwrap();
        assert_eq!(request.workspaces, ceiling().workspaces);
        assert_eq!((request.memory.as_deref(), request.pids.as_deref()), (Some("1g"), Some("100")));
        assert_eq!((request.network, request.image.as_str()), (Network::None, "@host"));
    }

    #[test]
    fn no_folder_outside_is_ever_allowed() {
        for path in ["/work", "/work/ab", "/etc", "/", "/work/a/../b", "relative", "/opt/models"] {
            let asked = asked(serde_json::json!({ "workspaces": [{ "path": path, "read_only": true }] }));
            assert!(ceiling().bound(&asked).is_err(), "{path}");
        }
        let below = asked(serde_json::json!({ "workspaces": [{ "path": "/work/a/b" }] }));
        assert_eq!(ceiling().bound(&below).unwrap().workspaces, [("/work/a/b".into(), false)]);
        refused(serde_json::json!({ "read_only": ["/etc/shadow"] }), "denied");
    }

    #[test]
    fn a_folder_to_read_cannot_be_asked_for_to_write() {
        refused(serde_json::json!({ "workspaces": [{ "path": "/data" }] }), "denied");
        let reading = asked(serde_json::json!({ "workspaces": [{ "path": "/data", "read_only": true }] }));
        assert!(ceiling().bound(&reading).is_ok());
    }

    #[test]
    fn nothing_above_the_ceiling_can_be_asked_for() {
        refused(serde_json::json!({ "network": "host" }), "denied");
        refused(serde_json::json!({ "memory": "2g" }), "denied");
        refused(serde_json::json!({ "memory": "0" }), "denied");
        refused(serde_json::json!({ "processes": 101 }), "denied");
        refused(serde_json::json!({ "processes": 0 }), "invalid_arguments");
        assert!(ceiling().bound(&asked(serde_json::json!({ "memory": "512m", "processes": 100 }))).is_ok());
        let one_image = Ceiling { images: vec!["alpine".into()], ..ceiling() };
        assert!(one_image.bound(&asked(serde_json::json!({ "image": "@host" }))).is_err());
        assert_eq!(one_image.bound(&Asked::default()).unwrap().image, "alpine");
    }

    #[test]
    fn a_variable_is_never_taken_from_ours() {
        let map = BTreeMap::from([("A".to_owned(), String::new())]);
        assert_eq!(variables(&map).unwrap(), ["A="]);
        for name in ["", "A=B", "A\0"] {
            assert!(variables(&BTreeMap::from([(name.to_owned(), "1".to_owned())])).is_err());
        }
    }
}
