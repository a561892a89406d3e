//! Pure: what was decided about a container, as an OCI runtime spec.
//!
//! The spec is the whole truth about the container's walls; who carries which part of it out is
//! `container::runtime`.

use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::container::idmap::{IdMap, Range};
use crate::container::options::{DeviceRequest, Network, OptionError, Ulimit};
use crate::error::{ErrorKind, Fault};

/// The capabilities a container has unless something else is said, as Docker has them.
const CAPABILITIES_DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What of `/proc` and `/sys` shows or changes the host: Docker's list.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];
/// More of `/sys` that Docker masks since 28.
const MASKED_SYS: [&str; 1] = ["/sys/devices/virtual/powercap"];
/// Where every program looks for its limits.
const CGROUPS: &str = "/sys/fs/cgroup";
/// What is mounted in the host's own `/sys`, which stands in for a fresh one on the host's network:
/// Docker's is empty there.
const MASKED_SYS_OF_HOST: [&str; 9] = [
    "/sys/fs/bpf",
    CGROUPS,
    "/sys/fs/fuse/connections",
    "/sys/fs/pstore",
    "/sys/fs/selinux",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];
/// What a tool of an agent has no use for either.
const MASKED_STRICT: [&str; 17] = [
    "/proc/config.gz",
    "/proc/dynamic_debug",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/modules",
    "/proc/mtrr",
    "/proc/pagetypeinfo",
    "/proc/slabinfo",
    "/proc/softirqs",
    "/proc/sysvipc",
    "/proc/vmallocinfo",
];
/// What can be read and never written.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Why a spec cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the runtime spec of the container does not fit the OCI types")]
pub struct SpecError(#[from] serde_json::Error);

impl Fault for SpecError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }
}

/// How much of `/proc` and `/sys` is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masks {
    /// Nothing: `--privileged`.
    None,
    /// As Docker.
    Docker,
    /// All that could tell about the host; no `/sys` at all.
    Strict,
}

/// Everything the spec is made of, decided.
#[derive(Debug)]
pub struct SpecRequest<'a> {
    /// Program and arguments.
    pub arguments: &'a [String],
    /// `NAME=VALUE`.
    pub environment: &'a [String],
    /// The command's folder: absolute.
    pub workdir: &'a str,
    /// The UTS name.
    pub hostname: &'a str,
    /// A terminal of its own.
    pub tty: bool,
    /// Where the stage puts the root filesystem together.
    pub rootfs: &'a Path,
    /// The root filesystem cannot be written.
    pub read_only: bool,
    /// Full names, as [`capabilities`] gives them.
    pub capabilities: &'a [String],
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// rlimits.
    pub ulimits: &'a [Ulimit],
    /// The network.
    pub network: Network,
    /// Size of `/dev/shm`, in bytes.
    pub shm_bytes: u64,
    /// More devices.
    pub devices: &'a [DeviceRequest],
    /// What is hidden.
    pub masks: Masks,
    /// The id maps; `None` stays in the host's user namespace.
    pub map: Option<&'a IdMap>,
    /// Labels, kept as annotations.
    pub labels: &'a [(String, String)],
    /// The cgroup, below the cgroup2 mount.
    pub cgroup: &'a str,
    /// A cgroup was made for it: it may be seen.
    pub has_own_cgroup: bool,
}

/// Writes the spec. The user stays `0:0` until the stage has read the image's `passwd`.
///
/// # Errors
/// [`SpecError`] is a bug of ours.
pub fn build(request: &SpecRequest<'_>) -> Result<Spec, SpecError> {
    let caps = request.capabilities;
    let rlimits: Vec<Value> = request
        .ulimits
        .iter()
        .map(|u| json!({ "type": format!("RLIMIT_{}", u.name.to_ascii_uppercase()), "soft": u.soft, "hard": u.hard }))
        .collect();
    let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
    if request.network == Network::None {
        namespaces.push("network");
    }
    if request.map.is_some() {
        namespaces.push("user");
    }
    let namespaces: Vec<Value> = namespaces.iter().map(|n| json!({ "type": n })).collect();
    let ranges = |ranges: &[Range]| -> Vec<Value> {
        ranges
            .iter()
            .map(|r| json!({ "containerID": r.inside, "hostID": r.outside, "size": r.count }))
            .collect()
    };
    let spec = json!({
        "ociVersion": "1.2.0",
        "root": { "path": request.rootfs, "readonly": request.read_only },
        "hostname": request.hostname,
        "process": {
            "terminal": request.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": request.arguments,
            "env": request.environment,
            "cwd": request.workdir,
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": rlimits,
            "noNewPrivileges": request.no_new_privileges,
        },
        "mounts": mounts(request),
        "annotations": request.labels.iter().cloned().collect::<std::collections::HashMap<_, _>>(),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": request.map.map(|m| ranges(&m.uids)).unwrap_or_default(),
            "gidMappings": request.map.map(|m| ranges(&m.gids)).unwrap_or_default(),
            "cgroupsPath": request.cgroup,
            "maskedPaths": masked_paths(request),
            "readonlyPaths": read_only_paths(request.masks, request.network),
        },
    });
    Ok(serde_json::from_value(spec)?)
}

fn masked_paths(request: &SpecRequest<'_>) -> Vec<&'static str> {
    let mut masked = match (request.masks, request.network) {
        (Masks::None, _) => Vec::new(),
        (Masks::Docker, Network::None) => [&MASKED[..], &MASKED_SYS[..]].concat(),
        (Masks::Docker, Network::Host) => [&MASKED[..], &MASKED_SYS[..], &MASKED_SYS_OF_HOST[..]].concat(),
        (Masks::Strict, _) => [&MASKED[..], &MASKED_STRICT[..]].concat(),
    };
    // There its own stands over the host's.
    masked.retain(|path| !request.has_own_cgroup || *path != CGROUPS);
    masked
}

/// A bind is read-only at its top alone: the trees mounted in the host's `/sys`, cgroups among them, are
/// closed one by one (CVE-2022-0492). Without any mask the kernel's rules for the caller are what is left.
fn read_only_paths(masks: Masks, network: Network) -> Vec<&'static str> {
    match (masks, network) {
        (Masks::None, Network::None) => Vec::new(),
        (Masks::None, Network::Host) => vec!["/sys"],
        (Masks::Docker, Network::Host) => [&READ_ONLY[..], &["/sys"]].concat(),
        (Masks::Docker, Network::None) | (Masks::Strict, _) => READ_ONLY.to_vec(),
    }
}

/// The kernel's own file systems: what must stand on them is put there later.
fn mounts(request: &SpecRequest<'_>) -> Vec<Value> {
    let mount = |kind: &str, target: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    // Group 5 owns terminals in most images; where the map has no such group the kernel would refuse.
    let has_tty_group = request.map.is_none_or(|m| m.require(0, 5, "").is_ok());
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if has_tty_group {
        pts.push("gid=5");
    }
    let shm = format!("size={}", request.shm_bytes);
    let mut mounts = vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "/dev", &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        mount("devpts", "/dev/pts", &pts),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    for device in request.devices {
        mounts.push(json!({
            "destination": device.target, "type": "bind", "source": device.source, "options": ["bind", "nosuid", "noexec"],
        }));
    }
    match (request.masks, request.network) {
        (Masks::Strict, _) => {}
        // A fresh sysfs shows the network namespace it is mounted in, which must be our own.
        (Masks::Docker, Network::None) => mounts.push(mount("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"])),
        (Masks::None, Network::None) => mounts.push(mount("sysfs", "/sys", &["nosuid", "noexec", "nodev"])),
        (_, Network::Host) => mounts.push(
            json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", "nosuid", "noexec", "nodev"] }),
        ),
    }
    // What it may use, with its own cgroup as the root of all. Without one of its own it would see the
    // caller's, so there is none.
    if request.has_own_cgroup && request.masks != Masks::Strict {
        mounts.push(mount("cgroup", CGROUPS, &["nosuid", "noexec", "nodev", "ro"]));
    }
    mounts
}

/// Docker's default capabilities with `--cap-add` and `--cap-drop`, as full names, sorted.
///
/// # Errors
/// [`OptionError::Value`] names a capability that does not exist.
pub fn capabilities(add: &[String], drop: &[String], privileged: bool) -> Result<Vec<String>, OptionError> {
    let every = || caps::all().into_iter().map(|c| c.to_string()).collect::<Vec<_>>();
    let full = |flag, name: &String| {
        let upper = name.to_ascii_uppercase();
        let upper = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match caps::Capability::from_str(&upper) {
            Ok(_) => Ok(upper),
            Err(_) => Err(OptionError::value(flag, name.as_str(), "no such capability; see capabilities(7)")),
        }
    };
    let is_all = |name: &String| name.eq_ignore_ascii_case("all");
    let mut kept = if privileged || add.iter().any(is_all) {
        every()
    } else if drop.iter().any(is_all) {
        Vec::new()
    } else {
        CAPABILITIES_DEFAULT.map(str::to_owned).to_vec()
    };
    for name in drop.iter().filter(|n| !is_all(n)) {
        let name = full("--cap-drop", name)?;
        kept.retain(|k| *k != name);
    }
    for name in add.iter().filter(|n| !is_all(n)) {
        kept.push(full("--cap-add", name)?);
    }
    kept.sort();
    kept.dedup();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&w| w.to_owned()).collect()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        assert_eq!(capabilities(&[], &[], false).unwrap().len(), 14);
        assert_eq!(capabilities(&[], &words(&["ALL"]), false).unwrap(), Vec::<String>::new());
        assert_eq!(capabilities(&words(&["net_raw"]), &words(&["all"]), false).unwrap(), ["CAP_NET_RAW"]);
        assert_eq!(capabilities(&words(&["ALL"]), &words(&["CAP_KILL"]), false).unwrap().len(), 40);
        assert_eq!(capabilities(&[], &words(&["kill", "CAP_CHOWN"]), false).unwrap().len(), 12);
        assert!(capabilities(&words(&["CAP_NOPE"]), &[], false).is_err());
    }

    #[test]
    fn the_spec_holds_what_was_asked() {
        let map = IdMap::single((0, 0), (1000, 1000));
        let request = SpecRequest {
            arguments: &words(&["sh"]),
            environment: &words(&["A=b"]),
            workdir: "/",
            hostname: "h",
            tty: false,
            rootfs: Path::new("/r"),
            read_only: true,
            capabilities: &[],
            no_new_privileges: true,
            ulimits: &[Ulimit { name: "nofile".to_owned(), soft: 1, hard: u64::MAX }],
            network: Network::None,
            shm_bytes: 1,
            devices: &[],
            masks: Masks::Strict,
            map: Some(&map),
            labels: &[],
            cgroup: "/x",
            has_own_cgroup: false,
        };
        let spec = serde_json::to_value(build(&request).unwrap()).unwrap();
        assert_eq!(spec["process"]["rlimits"][0]["type"], "RLIMIT_NOFILE");
        assert_eq!(spec["linux"]["uidMappings"][0]["hostID"], 1000);
        let targets: Vec<_> =
            spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
        assert_eq!(targets, ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
        assert!(!spec["mounts"].to_string().contains("gid=5"), "a group that is not mapped would be refused");
        assert!(spec["linux"]["maskedPaths"].to_string().contains("kallsyms"));
        let shared = SpecRequest { network: Network::Host, masks: Masks::Docker, ..request };
        let spec = serde_json::to_value(build(&shared).unwrap()).unwrap();
        assert!(
            spec["linux"]["readonlyPaths"].to_string().contains("\"/sys\""),
            "the host's /sys is its own"
        );
        assert!(spec["linux"]["maskedPaths"].to_string().contains("\"/sys/fs/cgroup\""));
        assert!(!spec["mounts"].to_string().contains("\"cgroup\""), "that would be the caller's");
        let limited = SpecRequest { has_own_cgroup: true, ..shared };
        let spec = serde_json::to_value(build(&limited).unwrap()).unwrap();
        assert!(!spec["linux"]["maskedPaths"].to_string().contains("\"/sys/fs/cgroup\""));
        let mounts = spec["mounts"].as_array().unwrap();
        let [.., host, own] = &mounts[..] else { panic!("{mounts:?}") };
        assert_eq!((&host["destination"], &own["destination"]), (&"/sys".into(), &"/sys/fs/cgroup".into()));
        let strict = SpecRequest { masks: Masks::Strict, ..limited };
        let spec = serde_json::to_value(build(&strict).unwrap()).unwrap();
        assert!(!spec["mounts"].to_string().contains("/sys"));
    }
}
