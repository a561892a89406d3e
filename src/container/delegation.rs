//! Where this host lets us make a cgroup v2, by which way, and what to change where it does not.
//!
//! It reads a few small files and starts no process. It makes nothing: that is `container::cgroup`.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags};

use crate::container::limits::Resource;
use crate::sys::fs::read_file;

/// The folder our own process steps into, so that controllers can be switched on above it.
pub const SELF_DIR: &str = "cuddy-self";
/// A host with a thousand containers has some megabytes of mounts.
const MOUNTINFO_BYTES_MAX: u64 = 16 << 20;
/// One small file of `/proc` or of a cgroup.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Where systemd's own command for its bus lies.
const BUSCTL: [&str; 3] = ["/usr/bin/busctl", "/bin/busctl", "/run/current-system/sw/bin/busctl"];
const UNIFIED_FIX: &str =
    "boot this host with `systemd.unified_cgroup_hierarchy=1` on the kernel command line";

/// What a probe is told of the caller: it does not read the environment.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The effective user.
    pub uid: u32,
    /// `XDG_RUNTIME_DIR`, where it is set.
    pub runtime_dir: Option<PathBuf>,
}

/// Why something cannot be had here, and the line that changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What is in the way, as half a sentence.
    pub reason: String,
    /// What the reader can do.
    pub fix: String,
}

impl Lack {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { reason: reason.into(), fix: fix.into() }
    }
}

/// A cgroup we sit in and may write: a container's is made right below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its folder.
    pub base: PathBuf,
    /// Our process sits in it and must step aside before controllers are switched on (the kernel's
    /// rule that a cgroup has either processes or controlled children).
    pub must_step_aside: bool,
    resources: Vec<Resource>,
    /// Why what is not in `resources` cannot be had.
    others: Option<Lack>,
}

/// A systemd manager that gives us a scope with delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The runtime folder of the user whose manager it is; `None` is the system's manager.
    pub runtime_dir: Option<PathBuf>,
    /// Its program for the bus.
    pub busctl: PathBuf,
    resources: Vec<Resource>,
}

/// The way by which a container gets its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// Below our own cgroup.
    Own(&'a Own),
    /// In a new scope, into which this process moves first.
    Scope(&'a Scope),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(own) => write!(f, "below our own cgroup `{}`", own.base.display()),
            Self::Scope(Scope { runtime_dir: Some(_), .. }) => {
                f.write_str("in a scope of systemd's user manager")
            }
            Self::Scope(_) => f.write_str("in a scope of systemd"),
        }
    }
}

/// What this host allows at this moment: probe again for each cgroup, as making one may move us.
#[derive(Debug, Clone)]
pub struct Support {
    mount: Option<PathBuf>,
    own: Result<Own, Lack>,
    scope: Result<Scope, Lack>,
    /// Controllers that are mounted as version 1, or switched off in the kernel.
    absent: Vec<(Resource, Lack)>,
    has_systemd: bool,
}

impl Support {
    /// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` on a hybrid host.
    #[must_use]
    pub fn mount(&self) -> Option<&Path> {
        self.mount.as_deref()
    }

    /// The cheapest way to a cgroup that can limit all of `resources`. With none, only a cgroup
    /// below our own is offered: it costs next to nothing and gives `cgroup.kill`.
    ///
    /// # Errors
    /// What is in the way and the line that changes it.
    pub fn way(&self, resources: &[Resource]) -> Result<Way<'_>, Lack> {
        let has = |had: &[Resource]| resources.iter().all(|resource| had.contains(resource));
        match (&self.own, &self.scope) {
            (Ok(own), _) if has(&own.resources) => return Ok(Way::Own(own)),
            (_, Ok(scope)) if !resources.is_empty() && has(&scope.resources) => return Ok(Way::Scope(scope)),
            _ => {}
        }
        Err(self.lack(resources))
    }

    /// The most useful thing to say: what no way can change first, then systemd's way where there
    /// is a systemd, then our own cgroup.
    fn lack(&self, resources: &[Resource]) -> Lack {
        if let Some((_, lack)) = self.absent.iter().find(|(resource, _)| resources.contains(resource)) {
            return lack.clone();
        }
        let own = match &self.own {
            Ok(own) => own.others.clone(),
            Err(lack) => Some(lack.clone()),
        };
        if resources.is_empty() || !self.has_systemd {
            return own.unwrap_or_else(|| Lack::new("our own cgroup has no such controller", UNIFIED_FIX));
        }
        match &self.scope {
            Err(lack) => lack.clone(),
            Ok(scope) => {
                let missing = resources.iter().find(|resource| !scope.resources.contains(resource));
                not_delegated(missing.copied().unwrap_or(Resource::Memory), scope.runtime_dir.is_some())
            }
        }
    }
}

fn not_delegated(resource: Resource, by_user_manager: bool) -> Lack {
    let controller = resource.controller();
    if resource == Resource::Swap {
        return Lack::new(
            "the kernel does not count swap per cgroup",
            "boot this host with `swapaccount=1` on the kernel command line",
        );
    }
    if by_user_manager {
        return Lack::new(
            format!("systemd does not delegate the `{controller}` controller to users"),
            "as root: mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' > /etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload, then log in again",
        );
    }
    Lack::new(format!("cgroup v2 has no `{controller}` controller here"), UNIFIED_FIX)
}

/// Looks where a container's cgroup could be made. It reads about ten small files.
#[must_use]
pub fn probe(environment: &Environment) -> Support {
    Tree { root: PathBuf::from("/"), is_delegated: has_delegate_mark }.probe(environment)
}

/// What the probe looks at; a test gives it a tree of its own.
struct Tree {
    root: PathBuf,
    is_delegated: fn(&Path) -> bool,
}

impl Tree {
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn probe(&self, environment: &Environment) -> Support {
        let mounts =
            parse_mounts(&text(&self.at("/proc/self/mountinfo"), MOUNTINFO_BYTES_MAX).unwrap_or_default());
        let cgroup = text(&self.at("/proc/self/cgroup"), FILE_BYTES_MAX).unwrap_or_default();
        let path = parse_own_path(&cgroup);
        let has_systemd = self.at("/run/systemd/system").is_dir();
        let absent = self.absent(&mounts);
        let seen = mounts.unified.iter().find(|mount| self.at(&mount.point).join("cgroup.procs").exists());
        let Some(mount) = seen else {
            let lack = Lack::new("cgroup v2 is not mounted here", UNIFIED_FIX);
            return Support { mount: None, own: Err(lack.clone()), scope: Err(lack), absent, has_systemd };
        };
        let point = self.at(&mount.point);
        let own = self.own(mount, path.as_deref());
        let scope = self.scope(&point, environment, has_systemd);
        Support { mount: Some(point), own, scope, absent, has_systemd }
    }

    /// Controllers no cgroup v2 on this host can have.
    fn absent(&self, mounts: &Mounts) -> Vec<(Resource, Lack)> {
        let listed = text(&self.at("/proc/cgroups"), FILE_BYTES_MAX).unwrap_or_default();
        let is_off = |controller: &str| {
            let mut rows = listed.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
            rows.any(|row| row.first() == Some(&controller) && row.get(3) == Some(&"0"))
        };
        let lack = |resource: Resource| {
            let controller = resource.controller();
            if mounts.version_1.iter().any(|name| name == controller) {
                let reason = format!("this host mounts the `{controller}` controller as cgroup v1");
                return Some((resource, Lack::new(reason, UNIFIED_FIX)));
            }
            is_off(controller).then(|| {
                let reason = format!("the kernel was booted without the `{controller}` controller");
                let fix =
                    format!("boot this host with `cgroup_enable={controller}` on the kernel command line");
                (resource, Lack::new(reason, fix))
            })
        };
        Resource::ALL.into_iter().filter_map(lack).collect()
    }

    fn own(&self, mount: &Mount, path: Option<&Path>) -> Result<Own, Lack> {
        let elsewhere = "run this program outside, or mount cgroup v2 in this container";
        let path = path.ok_or_else(|| Lack::new("this process is in no cgroup v2", UNIFIED_FIX))?;
        let below = path
            .strip_prefix(&mount.root)
            .ok()
            .filter(|below| below.components().all(|component| matches!(component, Component::Normal(_))));
        let below = below.ok_or_else(|| {
            Lack::new(format!("our own cgroup `{}` cannot be seen from here", path.display()), elsewhere)
        })?;
        // Beside the folder we stepped into earlier, or the one that started us did.
        let below = if below.ends_with(SELF_DIR) { below.parent().unwrap_or(below) } else { below };
        let point = self.at(&mount.point);
        let base = if below.as_os_str().is_empty() { point.clone() } else { point.join(below) };
        if let Some(unit) = unit_of(below)
            && !(self.is_delegated)(&point.join(unit))
        {
            return Err(Lack::new(
                format!("systemd has not delegated our own cgroup `{}`", below.display()),
                "write `Delegate=yes` in the unit that starts this program",
            ));
        }
        writable(&base, mount.read_only)?;
        self.usable(base)
    }

    fn usable(&self, base: PathBuf) -> Result<Own, Lack> {
        let words = |name: &str| -> Result<Vec<String>, Lack> {
            let read = text(&base.join(name), FILE_BYTES_MAX);
            let read = read.map_err(|e| {
                Lack::new(format!("cannot read `{}`: {e}", base.join(name).display()), UNIFIED_FIX)
            })?;
            Ok(read.split_ascii_whitespace().map(str::to_owned).collect())
        };
        let available = words("cgroup.controllers")?;
        let enabled = words("cgroup.subtree_control")?;
        let processes = words("cgroup.procs")?;
        // Only the root of the hierarchy has no type, and only there the kernel's rule does not hold.
        let is_root = !base.join("cgroup.type").exists();
        let ours = rustix::process::getpid().as_raw_pid().to_string();
        let is_crowded = !is_root && processes.iter().any(|pid| *pid != ours);
        let usable = if is_crowded { &enabled } else { &available };
        let resources = self.resources(&base, usable);
        let others = (is_crowded && usable.len() < available.len()).then(|| {
            let at = base.display();
            Lack::new(
                format!("other processes sit in our own cgroup `{at}`, so no controller can be switched on in it"),
                format!("mkdir {at}/others && for p in $(cat {at}/cgroup.procs); do echo $p > {at}/others/cgroup.procs; done"),
            )
        });
        Ok(Own { must_step_aside: !is_root && processes.contains(&ours), base, resources, others })
    }

    fn scope(&self, point: &Path, environment: &Environment, has_systemd: bool) -> Result<Scope, Lack> {
        let uid = environment.uid;
        // A bus mounted into a container reaches a manager that counts processes differently: we
        // must see its cgroups to be in its world.
        if !has_systemd || !point.join("init.scope").is_dir() {
            return Err(Lack::new(
                "no systemd runs here that could make a cgroup for us",
                "start this program in a cgroup of its own that it may write (docker: `--security-opt writable-cgroups=true`)",
            ));
        }
        let found = BUSCTL.iter().map(|path| self.at(path)).find(|path| path.exists());
        let busctl = found.ok_or_else(|| {
            Lack::new("cannot find `busctl`, which is part of systemd", "install systemd's own commands")
        })?;
        if uid == 0 {
            if !self.is_first_user_namespace() {
                return Err(Lack::new(
                    "systemd does not obey the root of a user namespace",
                    "start this program outside of the namespace, or in a cgroup that it may write",
                ));
            }
            let resources = self.resources(point, &controllers(point));
            return Ok(Scope { runtime_dir: None, busctl, resources });
        }
        let manager = point.join(format!("user.slice/user-{uid}.slice/user@{uid}.service"));
        if !manager.is_dir() {
            return Err(Lack::new(
                format!("systemd runs no user manager for uid {uid}"),
                format!("as root: loginctl enable-linger {uid}"),
            ));
        }
        let given = environment.runtime_dir.iter().map(|dir| self.at(dir));
        let usual = self.at(format!("/run/user/{uid}"));
        let found = given.chain([usual.clone()]).find(|dir| dir.join("bus").exists());
        let runtime_dir = found.ok_or_else(|| {
            Lack::new(
                format!("systemd's user manager has no bus at `{}/bus`", usual.display()),
                "as root: apt-get install dbus-user-session, then log in again",
            )
        })?;
        let resources = self.resources(&manager, &controllers(&manager));
        Ok(Scope { runtime_dir: Some(runtime_dir), busctl, resources })
    }

    /// Only the first user namespace maps every id there is to itself.
    fn is_first_user_namespace(&self) -> bool {
        let map = text(&self.at("/proc/self/uid_map"), FILE_BYTES_MAX).unwrap_or_default();
        map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
    }

    /// What `controllers` can limit in a cgroup below `dir`.
    fn resources(&self, dir: &Path, controllers: &[String]) -> Vec<Resource> {
        // The root of the hierarchy has no files that tell; a kernel without swap has nothing to limit.
        let counts_swap = dir.join("memory.swap.max").exists()
            || !dir.join("memory.current").exists()
            || !self.at("/proc/swaps").exists();
        let can = |resource: &Resource| {
            controllers.iter().any(|name| name == resource.controller())
                && (*resource != Resource::Swap || counts_swap)
        };
        Resource::ALL.into_iter().filter(can).collect()
    }
}

fn controllers(dir: &Path) -> Vec<String> {
    let read = text(&dir.join("cgroup.controllers"), FILE_BYTES_MAX).unwrap_or_default();
    read.split_ascii_whitespace().map(str::to_owned).collect()
}

fn writable(base: &Path, is_read_only: bool) -> Result<(), Lack> {
    let shown = base.display();
    let files = ["cgroup.procs", "cgroup.subtree_control"].map(|name| base.join(name));
    for file in [base.to_owned()].into_iter().chain(files) {
        let asked = rustix::fs::accessat(rustix::fs::CWD, &file, Access::WRITE_OK, AtFlags::EACCESS);
        match asked {
            Ok(()) if !is_read_only => {}
            Ok(()) | Err(rustix::io::Errno::ROFS) => {
                return Err(Lack::new(
                    format!("cgroup v2 is mounted read-only here: `{shown}`"),
                    "start the outer container with writable cgroups (docker 28: `--security-opt writable-cgroups=true`)",
                ));
            }
            Err(e) => {
                return Err(Lack::new(
                    format!("we may not write our own cgroup `{shown}`: {e}"),
                    "start this program in a cgroup that its user owns",
                ));
            }
        }
    }
    Ok(())
}

/// systemd marks what it has delegated: for everyone to read since version 251, for root before.
/// A user manager may not mark (252 does not): its scopes count as not delegated, and cost one more.
/// That we may write one proves nothing: at its next reload the manager switches the controllers of a
/// scope that is not delegated off, and the limits below it end in silence.
fn has_delegate_mark(dir: &Path) -> bool {
    let is_marked = |name: &str| {
        let mut value = [0_u8; 8];
        let length = rustix::fs::getxattr(dir, name, &mut value);
        matches!(length, Ok(1)) && value[0] == b'1'
    };
    is_marked("user.delegate") || is_marked("trusted.delegate")
}

/// The deepest part of `path` that is a unit of systemd. Below a unit the folders are not systemd's.
fn unit_of(path: &Path) -> Option<&Path> {
    let is_unit = |path: &&Path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("scope" | "service" | "slice" | "socket" | "mount" | "swap"))
    };
    path.ancestors().find(is_unit)
}

fn text(path: &Path, bytes_max: u64) -> Result<String, io::Error> {
    let bytes = read_file(path, bytes_max).map_err(|e| e.source)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// One cgroup2 mount.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The cgroup that is mounted.
    root: PathBuf,
    point: PathBuf,
    read_only: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Mounts {
    unified: Vec<Mount>,
    /// The controllers that version 1 holds.
    version_1: Vec<String>,
}

/// Reads `/proc/self/mountinfo`: lines of `id parent dev root point options … - type source options`.
fn parse_mounts(mountinfo: &str) -> Mounts {
    let mut mounts = Mounts::default();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (before, after): (Vec<_>, Vec<_>) = (before.split(' ').collect(), after.split(' ').collect());
        let (&[_, _, _, root, point, options, ..], &[kind, _, super_options, ..]) = (&before[..], &after[..])
        else {
            continue;
        };
        let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
        match kind {
            "cgroup2" => mounts.unified.push(Mount {
                root: unescape(root),
                point: unescape(point),
                read_only: is_read_only(options) || is_read_only(super_options),
            }),
            "cgroup" => mounts.version_1.extend(super_options.split(',').map(str::to_owned)),
            _ => {}
        }
    }
    mounts
}

/// A path of mountinfo: space, tab, newline and backslash are written in octal.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\');
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Our path in the version 2 hierarchy, from `/proc/self/cgroup`.
pub(crate) fn parse_own_path(cgroup: &str) -> Option<PathBuf> {
    cgroup.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "26 19 0:21 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// A host in a folder: what `files` says, and a systemd with a user manager for uid 1000.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(mountinfo: &str, own: &str) -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            fake.file("proc/self/mountinfo", mountinfo);
            fake.file("proc/self/cgroup", own);
            fake.file("proc/swaps", "Filename\n");
            fake
        }

        fn file(&self, path: &str, content: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }

        fn cgroup(&self, path: &str, controllers: &str, enabled: &str, processes: &str) {
            for (name, content) in [
                ("cgroup.controllers", controllers),
                ("cgroup.subtree_control", enabled),
                ("cgroup.procs", processes),
                ("cgroup.type", "domain\n"),
            ] {
                self.file(&format!("sys/fs/cgroup/{path}/{name}"), content);
            }
            if controllers.contains("memory") {
                self.file(&format!("sys/fs/cgroup/{path}/memory.current"), "0\n");
                self.file(&format!("sys/fs/cgroup/{path}/memory.swap.max"), "max\n");
            }
        }

        fn systemd(&self, delegated: &str) {
            self.file("run/systemd/system/x", "");
            self.file("usr/bin/busctl", "");
            self.file("run/user/1000/bus", "");
            self.cgroup("init.scope", "memory pids", "", "1\n");
            self.cgroup("", "cpu io memory pids", "cpu io memory pids", "");
            std::fs::remove_file(self.0.path().join("sys/fs/cgroup/cgroup.type")).unwrap();
            std::fs::remove_file(self.0.path().join("sys/fs/cgroup/memory.current")).unwrap();
            self.cgroup("user.slice/user-1000.slice/user@1000.service", delegated, delegated, "");
        }

        fn probe(&self, is_delegated: fn(&Path) -> bool) -> Support {
            let tree = Tree { root: self.0.path().to_owned(), is_delegated };
            tree.probe(&Environment { uid: 1000, runtime_dir: None })
        }
    }

    fn me() -> String {
        format!("{}\n", std::process::id())
    }

    const SESSION: &str = "0::/user.slice/user-1000.slice/session-3.scope\n";

    #[test]
    fn a_login_session_gets_its_limits_by_a_scope() {
        let fake = Fake::new(UNIFIED, SESSION);
        fake.systemd("cpu memory pids");
        let support = fake.probe(|_| false);
        let way = support.way(&Resource::ALL).unwrap();
        assert_eq!(way.to_string(), "in a scope of systemd's user manager");
        assert!(support.way(&[]).unwrap_err().reason.contains("not delegated"));
    }

    #[test]
    fn a_controller_systemd_does_not_give_to_users_is_named_with_the_file_that_gives_it() {
        let fake = Fake::new(UNIFIED, SESSION);
        fake.systemd("memory pids");
        let support = fake.probe(|_| false);
        support.way(&[Resource::Memory, Resource::Swap, Resource::Pids]).unwrap();
        let lack = support.way(&[Resource::Pids, Resource::Cpu]).unwrap_err();
        assert!(lack.reason.contains("`cpu`"), "{}", lack.reason);
        assert!(lack.fix.contains("Delegate=cpu"), "{}", lack.fix);
    }

    #[test]
    fn a_user_without_a_manager_is_told_to_linger() {
        let fake = Fake::new(UNIFIED, SESSION);
        fake.systemd("memory");
        let tree = Tree { root: fake.0.path().to_owned(), is_delegated: |_| false };
        let support = tree.probe(&Environment { uid: 1001, runtime_dir: None });
        assert!(support.way(&[Resource::Memory]).unwrap_err().fix.contains("loginctl enable-linger 1001"));
        std::fs::remove_file(fake.0.path().join("run/user/1000/bus")).unwrap();
        let lack = fake.probe(|_| false).way(&[Resource::Memory]).unwrap_err();
        assert!(lack.reason.contains("no bus"), "{}", lack.reason);
    }

    #[test]
    fn root_asks_the_systems_manager_and_the_root_of_a_namespace_asks_nobody() {
        let fake = Fake::new(UNIFIED, "0::/user.slice/user-0.slice/session-1.scope\n");
        fake.systemd("memory");
        let tree = Tree { root: fake.0.path().to_owned(), is_delegated: |_| false };
        let root = Environment { uid: 0, runtime_dir: None };
        fake.file("proc/self/uid_map", "         0       1000          1\n");
        assert!(tree.probe(&root).way(&[Resource::Cpu]).unwrap_err().reason.contains("user namespace"));
        fake.file("proc/self/uid_map", "         0          0 4294967295\n");
        assert_eq!(tree.probe(&root).way(&Resource::ALL).unwrap().to_string(), "in a scope of systemd");
    }

    #[test]
    fn a_delegated_cgroup_that_only_we_sit_in_is_used_after_we_step_aside() {
        let fake = Fake::new(UNIFIED, "0::/a.slice/b.scope\n");
        fake.cgroup("", "memory pids", "memory pids", "");
        fake.cgroup("a.slice/b.scope", "memory pids", "", &me());
        let support = fake.probe(|dir| dir.ends_with("a.slice/b.scope"));
        let Way::Own(own) = support.way(&[Resource::Memory, Resource::Pids]).unwrap() else { panic!() };
        assert!(own.must_step_aside && own.base.ends_with("a.slice/b.scope"));
        assert!(support.way(&[Resource::Cpu]).is_err());
        assert!(fake.probe(|_| false).way(&[Resource::Memory]).is_err());
    }

    #[test]
    fn a_process_that_stepped_aside_makes_cgroups_beside_itself() {
        let fake = Fake::new(UNIFIED, "0::/x/cuddy-self\n");
        fake.cgroup("", "memory", "memory", "");
        fake.cgroup("x", "memory", "memory", "");
        fake.cgroup("x/cuddy-self", "memory", "", &me());
        let support = fake.probe(|_| false);
        let Way::Own(own) = support.way(&[Resource::Memory]).unwrap() else { panic!() };
        assert!(own.base.ends_with("x") && !own.must_step_aside);
    }

    #[test]
    fn other_processes_in_our_cgroup_are_left_alone_and_named_as_the_reason() {
        let fake = Fake::new(UNIFIED, "0::/\n");
        fake.cgroup("", "memory pids", "", &format!("1\n{}", me()));
        let support = fake.probe(|_| false);
        let lack = support.way(&[Resource::Memory]).unwrap_err();
        assert!(lack.reason.contains("other processes sit"), "{}", lack.reason);
        assert!(lack.fix.contains("/others/cgroup.procs"));
        let Way::Own(_) = support.way(&[]).unwrap() else { panic!() };
    }

    #[test]
    fn a_hybrid_host_says_which_controller_is_version_1_and_still_gives_a_plain_cgroup() {
        let mountinfo = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
        let fake = Fake::new(mountinfo, "4:memory:/job\n0::/\n");
        fake.cgroup("", "hugetlb", "", "1\n2\n");
        std::fs::remove_file(fake.0.path().join("sys/fs/cgroup/cgroup.type")).unwrap();
        let support = fake.probe(|_| false);
        let Way::Own(own) = support.way(&[]).unwrap() else { panic!() };
        assert!(!own.must_step_aside);
        let lack = support.way(&[Resource::Swap]).unwrap_err();
        assert_eq!(lack.reason, "this host mounts the `memory` controller as cgroup v1");
        assert!(lack.fix.contains("systemd.unified_cgroup_hierarchy=1"));
    }

    #[test]
    fn a_controller_switched_off_at_boot_is_named() {
        let fake = Fake::new(UNIFIED, SESSION);
        fake.systemd("cpu pids");
        fake.file("proc/cgroups", "#subsys_name hierarchy num_cgroups enabled\ncpu 0 3 1\nmemory 0 3 0\n");
        let lack = fake.probe(|_| false).way(&[Resource::Memory]).unwrap_err();
        assert!(lack.fix.contains("cgroup_enable=memory"), "{}", lack.fix);
    }

    #[test]
    fn a_read_only_mount_and_a_cgroup_outside_of_it_are_told_apart() {
        let fake = Fake::new("1 1 0:1 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/\n");
        fake.cgroup("", "memory", "", "");
        let reason = |fake: &Fake| fake.probe(|_| false).way(&[]).unwrap_err().reason;
        assert!(reason(&fake).contains("read-only"));
        fake.file("proc/self/mountinfo", UNIFIED);
        fake.file("proc/self/cgroup", "0::/../../other\n");
        assert!(reason(&fake).contains("cannot be seen"));
        fake.file("proc/self/mountinfo", "");
        assert!(reason(&fake).contains("not mounted"));
    }

    #[test]
    fn mountinfo_is_read_with_its_escapes() {
        let line = r"36 25 0:30 /user\040x /mnt/a\040b\134c rw,ro shared:1 - cgroup2 none rw";
        let mounts = parse_mounts(&format!("nonsense\n1 2 - x\n{line}\n"));
        let mount = Mount { root: "/user x".into(), point: r"/mnt/a b\c".into(), read_only: true };
        assert_eq!(mounts, Mounts { unified: vec![mount], version_1: vec![] });
    }

    #[test]
    fn the_unit_that_a_path_belongs_to_is_the_deepest() {
        let unit = |path: &str| unit_of(Path::new(path)).map(|unit| unit.display().to_string());
        assert_eq!(unit("a.slice/b.scope/c/d").as_deref(), Some("a.slice/b.scope"));
        assert_eq!(unit("docker/0123"), None);
        assert_eq!(unit(""), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_readers(text in "(?s).{0,200}") {
            let _any = parse_mounts(&text);
            let _any = parse_own_path(&text);
            let _any = unescape(&text);
        }
    }
}
