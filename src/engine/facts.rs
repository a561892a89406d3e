//! Reads and tries what this host can do. What it means is judged by `engine::doctor`.
//!
//! It changes nothing. A file that is missing or cannot be read is itself a fact, so reading does not fail.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::container::delegation::{Environment, Support, probe};
use crate::container::idmap::subordinate_ranges;
use crate::container::limits::Resource;
use crate::engine::doctor::{Cgroups, Delegation, Facts, Family, Tool, Tun};
use crate::engine::host;
use crate::engine::trials;
use crate::error::Error;
use crate::sys::fs::read_file;
use crate::sys::process;

/// Most bytes of a file of `/proc` or `/etc` that is read here: `/etc/subuid` may hold 10,000 users.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// First subordinate id that login tools give away (login.defs, `SUB_UID_MIN`).
const SUB_ID_MIN: u64 = 100_000;
/// Most covered paths of `/proc` that are named.
const MASKS_MAX: usize = 3;
/// Where the kernel itself keeps a folder empty to be mounted on: nothing is hidden by that.
const MOUNT_POINTS_OF_PROC: [&str; 3] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/proc/xen"];

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The login name.
    pub login: String,
    /// The effective user id.
    pub uid: u32,
    /// The path of this program.
    pub program: PathBuf,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
}

/// What no file tells. Each trial is made by a process of its own, which then ends.
pub struct Trials<'a> {
    /// Makes a user and mount namespace and mounts a tmpfs in it. To make the namespace alone proves
    /// nothing: AppArmor lets it be made and then takes its capabilities away.
    pub user_namespace: &'a dyn Fn() -> Result<(), String>,
    /// Mounts an overlay with `userxattr` in such a namespace.
    pub overlay: &'a dyn Fn() -> Result<(), String>,
    /// The version that `landlock_create_ruleset` tells; `None` where it is off or absent.
    pub landlock_abi: &'a dyn Fn() -> Option<u32>,
    /// The cgroup that can be ours: [`delegation`] of what `container::delegation` found.
    pub delegation: &'a dyn Fn() -> Delegation,
}

/// Reads the facts of the host whose tree is at `root` (`/`, and another in tests), and makes the trials.
pub fn read(root: &Path, caller: &Caller, trials: &Trials<'_>) -> Facts {
    let host = Host(root);
    let sub_uid = host.text("etc/subuid").unwrap_or_default();
    let sub_gid = host.text("etc/subgid").unwrap_or_default();
    let user_namespace = (trials.user_namespace)();
    let overlay = match &user_namespace {
        Ok(()) => (trials.overlay)(),
        Err(_) => Err("it needs a user namespace".to_owned()),
    };
    Facts {
        login: caller.login.clone(),
        uid: caller.uid,
        program: caller.program.display().to_string(),
        family: family(&host.text("etc/os-release").or(host.text("usr/lib/os-release")).unwrap_or_default()),
        kernel: host.line("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
        user_namespaces_max: host.line("proc/sys/user/max_user_namespaces").and_then(|n| n.parse().ok()),
        unprivileged_userns_clone: host.switch("proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts: host.switch("proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        user_namespace,
        proc_masks: proc_masks(&host.text("proc/self/mountinfo").unwrap_or_default()),
        sub_uids: sub_id_count(&sub_uid, caller),
        sub_gids: sub_id_count(&sub_gid, caller),
        sub_ids_free: sub_id_free(&sub_uid).max(sub_id_free(&sub_gid)),
        newuidmap: host.tool(caller, "newuidmap"),
        newgidmap: host.tool(caller, "newgidmap"),
        no_new_privs: host.text("proc/self/status").is_some_and(|status| status.contains("\nNoNewPrivs:\t1")),
        overlay_known: host.text("proc/filesystems").is_some_and(|list| list.contains("\toverlay\n")),
        overlay,
        cgroups: host.cgroups(),
        delegation: (trials.delegation)(),
        seccomp_actions: host
            .line("proc/sys/kernel/seccomp/actions_avail")
            .map(|actions| actions.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        landlock_abi: (trials.landlock_abi)(),
        network_program: ["pasta", "slirp4netns"]
            .iter()
            .find_map(|name| host.find(caller, name))
            .map(|path| path.display().to_string()),
        tun: host.tun(),
        inside: host.inside(),
    }
}

/// The facts of this very host, with every trial made.
pub fn of_host(host: &host::Host) -> Facts {
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let caller = Caller { login: host.login.clone(), uid: host.uid, program, path: host.path.clone() };
    let environment = Environment { uid: host.uid, runtime_dir: host.runtime.clone() };
    read(
        Path::new("/"),
        &caller,
        &Trials {
            user_namespace: &trials::user_namespace,
            overlay: &|| {
                host.open_data().map_err(|e| Error::from(e).to_string())?;
                trials::overlay(&host.data)
            },
            landlock_abi: &process::landlock_version,
            delegation: &|| delegation(&probe(&environment)),
        },
    )
}

/// What `support` gives a container, each controller asked for alone.
pub fn delegation(support: &Support) -> Delegation {
    let mut delegation = Delegation { controllers: Vec::new(), reason: String::new(), remedy: None };
    for resource in [Resource::Cpu, Resource::Memory, Resource::Pids] {
        match support.way(&[resource]) {
            Ok(_) => delegation.controllers.push(resource.controller().to_owned()),
            Err(lack) if delegation.reason.is_empty() => {
                (delegation.reason, delegation.remedy) = (lack.reason, Some(lack.fix));
            }
            Err(_) => {}
        }
    }
    delegation
}

/// The folder that is the host's `/`.
struct Host<'a>(&'a Path);

impl Host<'_> {
    /// `path`, which may be absolute, below the root.
    fn at(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn has(&self, path: &str) -> bool {
        rustix::fs::access(self.at(Path::new(path)), Access::EXISTS).is_ok()
    }

    fn text(&self, path: &str) -> Option<String> {
        let bytes = read_file(&self.at(Path::new(path)), FILE_BYTES_MAX).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn line(&self, path: &str) -> Option<String> {
        Some(self.text(path)?.trim().to_owned())
    }

    fn switch(&self, path: &str) -> Option<bool> {
        Some(self.line(path)? != "0")
    }

    /// Where a program is, as the caller writes it: the first executable of its name in `PATH`.
    fn find(&self, caller: &Caller, name: &str) -> Option<PathBuf> {
        let all = caller.path.iter().filter(|folder| folder.is_absolute()).map(|folder| folder.join(name));
        let mut runnable =
            all.filter(|path| rustix::fs::access(self.at(path), Access::EXEC_OK | Access::READ_OK).is_ok());
        runnable.next()
    }

    fn tool(&self, caller: &Caller, name: &str) -> Tool {
        let Some(path) = self.find(caller, name) else {
            return Tool::Missing;
        };
        let shown = path.display().to_string();
        let Ok(file) = File::open(self.at(&path)) else {
            return Tool::Plain(shown);
        };
        let setuid = file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0);
        let mut value = [0_u8; 64];
        let capable = rustix::fs::fgetxattr(&file, "security.capability", &mut value).is_ok();
        if setuid || capable { Tool::Privileged(shown) } else { Tool::Plain(shown) }
    }

    fn cgroups(&self) -> Cgroups {
        let mounted = |path: &str| self.has(&format!("sys/fs/cgroup/{path}"));
        if mounted("cgroup.controllers") {
            Cgroups::Unified
        } else if mounted("unified/cgroup.procs") {
            Cgroups::Hybrid
        } else if mounted("memory") || mounted("systemd") || mounted("pids") {
            Cgroups::Legacy
        } else {
            Cgroups::Absent
        }
    }

    fn tun(&self) -> Tun {
        let path = self.at(Path::new("dev/net/tun"));
        match rustix::fs::access(&path, Access::READ_OK | Access::WRITE_OK) {
            Ok(()) => Tun::Usable,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Tun::Missing,
            Err(_) => Tun::Denied,
        }
    }

    fn inside(&self) -> Option<String> {
        let signs = [
            ("var/run/secrets/kubernetes.io", "kubernetes"),
            ("run/.containerenv", "podman"),
            (".dockerenv", "docker"),
        ];
        let sign = signs.iter().find(|(path, _)| self.has(path)).map(|(_, kind)| (*kind).to_owned());
        sign.or_else(|| self.line("run/systemd/container").filter(|kind| !kind.is_empty()))
    }
}

fn family(os_release: &str) -> Family {
    let field = |name: &str| os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let ids = [field("ID"), field("ID_LIKE")].into_iter().flatten();
    let mut words = ids.flat_map(|ids| ids.trim_matches(['"', '\'']).split_whitespace());
    let known = words.find_map(|id| match id {
        "debian" | "ubuntu" => Some(Family::Debian),
        "fedora" | "rhel" | "centos" => Some(Family::Fedora),
        "suse" | "opensuse" => Some(Family::Suse),
        "arch" => Some(Family::Arch),
        "alpine" => Some(Family::Alpine),
        _ => None,
    });
    known.unwrap_or(Family::Other)
}

fn sub_id_count(text: &str, caller: &Caller) -> u64 {
    subordinate_ranges(text, &caller.login, caller.uid).iter().map(|range| u64::from(range.count)).sum()
}

/// The first id behind every range of everyone.
fn sub_id_free(text: &str) -> u64 {
    let ends = text.lines().filter_map(|line| {
        let mut numbers = line.trim().split(':').skip(1).map(str::parse::<u32>);
        Some(u64::from(numbers.next()?.ok()?) + u64::from(numbers.next()?.ok()?))
    });
    ends.max().unwrap_or(0).max(SUB_ID_MIN)
}

/// What is mounted over parts of `/proc`: with any of it the kernel refuses a new proc mount in a
/// user namespace (`mount_too_revealing`).
fn proc_masks(mountinfo: &str) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let hiding = points.filter(|point| point.starts_with("/proc/") && !MOUNT_POINTS_OF_PROC.contains(point));
    hiding.take(MASKS_MAX).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use crate::container::delegation::{Environment, probe};
    use crate::engine::doctor::examine;

    use super::*;

    /// A tree with `files`, each a path and its text.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn read_tree(root: &Path) -> Facts {
        let caller = Caller {
            login: "ann".to_owned(),
            uid: 1000,
            program: PathBuf::from("/usr/bin/cuddy"),
            path: vec![PathBuf::from("."), PathBuf::from("/usr/local/bin"), PathBuf::from("/usr/bin")],
        };
        let trials = Trials {
            user_namespace: &|| Ok(()),
            overlay: &|| Err("no".to_owned()),
            landlock_abi: &|| Some(6),
            delegation: &|| Delegation { controllers: Vec::new(), reason: "none".to_owned(), remedy: None },
        };
        read(root, &caller, &trials)
    }

    fn set_mode(root: &Path, path: &str, mode: u32) {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_empty_host_is_all_absences() {
        let facts = read_tree(tree(&[]).path());
        assert_eq!((facts.kernel.as_str(), facts.family), ("unknown", Family::Other));
        assert_eq!((facts.user_namespaces_max, facts.apparmor_restricts), (None, None));
        assert_eq!((facts.sub_uids, facts.sub_ids_free), (0, SUB_ID_MIN));
        assert_eq!((facts.newuidmap, facts.network_program), (Tool::Missing, None));
        assert_eq!((facts.cgroups, facts.tun, facts.inside), (Cgroups::Absent, Tun::Missing, None));
        assert!(facts.seccomp_actions.is_empty() && !facts.overlay_known && !facts.no_new_privs);
    }

    #[test]
    fn a_full_host_is_read() {
        let root = tree(&[
            ("proc/sys/kernel/osrelease", "6.8.0-48-generic\n"),
            ("proc/sys/user/max_user_namespaces", "127000\n"),
            ("proc/sys/kernel/unprivileged_userns_clone", "1\n"),
            ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
            ("proc/sys/kernel/seccomp/actions_avail", "errno allow\n"),
            ("proc/filesystems", "nodev\tproc\nnodev\toverlay\n\text4\n"),
            ("proc/self/status", "Name:\tx\nNoNewPrivs:\t1\nSeccomp:\t0\n"),
            ("etc/os-release", "NAME=Mint\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"),
            ("etc/subuid", "bob:100000:65536\nann:165536:65536\n1000:300000:10\n# x\nann:bad:1\n"),
            ("etc/subgid", "ann:165536:65536\nzoe:500000:65536\n"),
            ("sys/fs/cgroup/cgroup.controllers", "cpu\n"),
            ("usr/bin/newuidmap", ""),
            ("usr/bin/newgidmap", ""),
            ("usr/bin/slirp4netns", ""),
            ("dev/net/tun", ""),
            ("run/systemd/container", "lxc\n"),
        ]);
        set_mode(root.path(), "usr/bin/newuidmap", 0o4755);
        set_mode(root.path(), "usr/bin/newgidmap", 0o755);
        set_mode(root.path(), "usr/bin/slirp4netns", 0o755);
        let facts = read_tree(root.path());
        assert_eq!((facts.kernel.as_str(), facts.family), ("6.8.0-48-generic", Family::Debian));
        assert_eq!((facts.user_namespaces_max, facts.unprivileged_userns_clone), (Some(127_000), Some(true)));
        assert_eq!((facts.apparmor_restricts, facts.no_new_privs), (Some(true), true));
        assert_eq!((facts.sub_uids, facts.sub_gids, facts.sub_ids_free), (65_546, 65_536, 565_536));
        assert_eq!(facts.newuidmap, Tool::Privileged("/usr/bin/newuidmap".to_owned()));
        assert_eq!(facts.newgidmap, Tool::Plain("/usr/bin/newgidmap".to_owned()));
        assert_eq!(facts.network_program.as_deref(), Some("/usr/bin/slirp4netns"));
        assert_eq!(
            (facts.cgroups, facts.tun, facts.inside.as_deref()),
            (Cgroups::Unified, Tun::Usable, Some("lxc"))
        );
        assert_eq!((facts.overlay_known, facts.overlay), (true, Err("no".to_owned())));
        assert_eq!(facts.seccomp_actions, ["errno", "allow"]);
    }

    #[test]
    fn cgroup_versions_and_containers_are_told_apart() {
        let cgroups = |path: &str| read_tree(tree(&[(path, "")]).path()).cgroups;
        assert_eq!(cgroups("sys/fs/cgroup/unified/cgroup.procs"), Cgroups::Hybrid);
        assert_eq!(cgroups("sys/fs/cgroup/memory/tasks"), Cgroups::Legacy);
        let inside = |path: &str| read_tree(tree(&[(path, "")]).path()).inside;
        assert_eq!(inside(".dockerenv").as_deref(), Some("docker"));
        assert_eq!(inside("run/.containerenv").as_deref(), Some("podman"));
        assert_eq!(inside("var/run/secrets/kubernetes.io/token").as_deref(), Some("kubernetes"));
    }

    #[test]
    fn a_mount_over_a_part_of_proc_is_a_mask_and_binfmt_misc_is_none() {
        let text = "22 27 0:21 / /proc rw - proc proc rw\n\
                    35 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
                    36 22 0:31 / /proc/kcore rw - tmpfs tmpfs rw\n";
        assert_eq!(proc_masks(text), ["/proc/kcore"]);
    }

    #[test]
    fn without_user_namespaces_no_overlay_is_tried() {
        let caller = Caller { login: String::new(), uid: 1, program: PathBuf::new(), path: Vec::new() };
        let trials = Trials {
            user_namespace: &|| Err("denied".to_owned()),
            overlay: &|| panic!("tried"),
            landlock_abi: &|| None,
            delegation: &|| Delegation { controllers: Vec::new(), reason: "none".to_owned(), remedy: None },
        };
        let facts = read(tree(&[]).path(), &caller, &trials);
        assert_eq!(facts.overlay, Err("it needs a user namespace".to_owned()));
    }

    #[test]
    fn this_host_is_read_as_its_kernel_tells() {
        let caller = Caller {
            login: "ann".to_owned(),
            uid: 1000,
            program: PathBuf::new(),
            path: vec![PathBuf::from("/usr/bin")],
        };
        let support = probe(&Environment { uid: 1000, runtime_dir: None });
        let trials = Trials {
            user_namespace: &|| Ok(()),
            overlay: &|| Ok(()),
            landlock_abi: &|| None,
            delegation: &|| delegation(&support),
        };
        let facts = read(Path::new("/"), &caller, &trials);
        assert_eq!(facts.kernel, rustix::system::uname().release().to_str().unwrap());
        let given = facts.delegation.controllers.len();
        assert_eq!(given < 3, !facts.delegation.reason.is_empty(), "{:?}", facts.delegation);
        println!("{}", examine(&facts).text());
    }
}
