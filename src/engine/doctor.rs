//! Pure: what a host can do, judged from facts: what follows for the reader, and the line that fixes it.
//!
//! It reads nothing, that is `engine::facts`; and it changes nothing: the reader does.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Oldest kernel with all that we use: `cgroup.kill` is its youngest part.
const KERNEL_MIN: (u32, u32) = (5, 14);
/// As many subordinate ids as an image with the usual `nobody` (65534) needs.
const SUB_IDS_MIN: u64 = 65_536;
/// Controllers that the limits of a container need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// What seccomp filters answer with.
const SECCOMP_ACTIONS: [&str; 3] = ["allow", "errno", "kill_process"];
/// The Landlock version with all that the second wall uses: scopes of signals and abstract sockets.
const LANDLOCK_ABI_FULL: u32 = 6;

/// What was read or tried on one host.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who asks: the login name, for the lines that fix something.
    pub login: String,
    /// Who asks: the effective user id.
    pub uid: u32,
    /// The path of this program, for an AppArmor profile.
    pub program: String,
    /// Whose packages are installed here.
    pub family: Family,
    /// `/proc/sys/kernel/osrelease`.
    pub kernel: String,
    /// `user.max_user_namespaces`; `None` on a kernel without them.
    pub user_namespaces_max: Option<u64>,
    /// Debian's `kernel.unprivileged_userns_clone`; `None` where there is no such switch.
    pub unprivileged_userns_clone: Option<bool>,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`; `None` where there is no such switch.
    pub apparmor_restricts: Option<bool>,
    /// The trial: a user namespace was made and a mount in it worked; else why not.
    pub user_namespace: Result<(), String>,
    /// What is mounted over parts of `/proc`, at most a few of it.
    pub proc_masks: Vec<String>,
    /// How many subordinate user ids `/etc/subuid` gives the caller.
    pub sub_uids: u64,
    /// How many subordinate group ids `/etc/subgid` gives the caller.
    pub sub_gids: u64,
    /// First id behind all that are given away.
    pub sub_ids_free: u64,
    /// `newuidmap`.
    pub newuidmap: Tool,
    /// `newgidmap`.
    pub newgidmap: Tool,
    /// Whether this process can gain no privilege by exec, so that setuid programs do not work.
    pub no_new_privs: bool,
    /// Whether `/proc/filesystems` has overlay.
    pub overlay_known: bool,
    /// The trial: an overlay was mounted in a user namespace; else why not.
    pub overlay: Result<(), String>,
    /// What is mounted at `/sys/fs/cgroup`.
    pub cgroups: Cgroups,
    /// The cgroup that can be ours.
    pub delegation: Delegation,
    /// `/proc/sys/kernel/seccomp/actions_avail`, empty without filters.
    pub seccomp_actions: Vec<String>,
    /// The version of Landlock; `None` where it is off or absent.
    pub landlock_abi: Option<u32>,
    /// `pasta` or `slirp4netns`, whichever was found first.
    pub network_program: Option<String>,
    /// Whether the caller can open `/dev/net/tun`.
    pub tun: Tun,
    /// The kind of container we are inside of.
    pub inside: Option<String>,
}

/// Whose packages a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu and what follows them.
    Debian,
    /// Fedora, RHEL and what follows them.
    Fedora,
    /// SUSE.
    Suse,
    /// Arch.
    Arch,
    /// Alpine.
    Alpine,
    /// Unknown: no package line can be given.
    Other,
}

/// A program that needs privileges to be of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    /// It is in no folder of `PATH`.
    Missing,
    /// It is there, and neither setuid nor with file capabilities.
    Plain(String),
    /// It is there and can do its work.
    Privileged(String),
}

/// `/dev/net/tun` for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tun {
    /// There is none.
    Missing,
    /// It may not be opened.
    Denied,
    /// It can be opened.
    Usable,
}

/// The cgroup that can be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The controllers it has.
    pub controllers: Vec<String>,
    /// What is in the way of the others, as half a sentence.
    pub reason: String,
    /// What the reader can do about that, in words.
    pub remedy: Option<String>,
}

/// Which cgroup version a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// v2 alone.
    Unified,
    /// v1 controllers, with v2 beside them.
    Hybrid,
    /// v1 alone.
    Legacy,
    /// None is mounted.
    Absent,
}

/// How good one ability is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All that we use is there.
    Ok,
    /// It works, with less.
    Weaker,
    /// It is not there.
    Missing,
}

/// How much of a container a host can give, best first. Each rung is the one above without something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Namespaces, id ranges and limits.
    Full,
    /// No cgroup of our own.
    NoCgroup,
    /// One user and one group only.
    NoSubIds,
    /// No namespaces: Landlock and seccomp alone, by explicit flag.
    NoUserNamespaces,
    /// Not even those.
    Nothing,
}

impl Rung {
    /// What `cuddy doctor` ends with: 0 for [`Rung::Full`], one more for each rung down.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::NoCgroup => 1,
            Self::NoSubIds => 2,
            Self::NoUserNamespaces => 3,
            Self::Nothing => 4,
        }
    }

    /// The name of the rung and what it means, in a line.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Full => "full: every wall stands and every limit holds",
            Self::NoCgroup => {
                "no delegated cgroup: every wall stands; limits on memory, cpu and pids cannot be set"
            }
            Self::NoSubIds => "no sub-ids: a container has one user and one group, the caller's",
            Self::NoUserNamespaces => {
                "no user namespaces: no container starts; Landlock and seccomp alone, by explicit flag"
            }
            Self::Nothing => "nothing: a wall that every policy names cannot be built here",
        }
    }
}

/// One ability of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How good it is.
    pub status: Status,
    /// What there is.
    pub found: String,
    /// What follows for containers; empty when all is well.
    pub consequence: String,
    /// The line that fixes it, to be typed as it is, where there is one.
    pub fix: Option<String>,
}

/// Everything that was found, and how much of a container it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The weakest rung of all findings.
    pub rung: Rung,
    /// [`Rung::meaning`].
    pub meaning: String,
    /// [`Rung::exit_code`].
    pub exit_code: u8,
    /// One for each ability, in a fixed order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The report for a person: a line for each ability, and what to do below those that lack something.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.meaning);
        let width = self.findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
        for finding in &self.findings {
            let status = match finding.status {
                Status::Ok => "ok",
                Status::Weaker => "weaker",
                Status::Missing => "missing",
            };
            // Writing to a String cannot fail.
            let _ok = writeln!(out, "{status:<7}  {:<width$}  {}", finding.name, finding.found);
            if !finding.consequence.is_empty() {
                let _ok = writeln!(out, "         {}", finding.consequence);
            }
            if let Some(fix) = &finding.fix {
                let _ok = writeln!(out, "         fix: {fix}");
            }
        }
        out
    }
}

/// A finding and the rung it leaves the host on.
type Judged = (Rung, Finding);

fn ok(name: &str, found: impl Into<String>) -> Judged {
    let finding = Finding {
        name: name.to_owned(),
        status: Status::Ok,
        found: found.into(),
        consequence: String::new(),
        fix: None,
    };
    (Rung::Full, finding)
}

fn lacking(
    status: Status,
    name: &str,
    found: impl Into<String>,
    consequence: &str,
    fix: Option<String>,
) -> Finding {
    Finding { name: name.to_owned(), status, found: found.into(), consequence: consequence.to_owned(), fix }
}

/// Judges a host.
pub fn examine(facts: &Facts) -> Report {
    let judged = [
        kernel(facts),
        user_namespaces(facts),
        apparmor(facts),
        proc(facts),
        sub_ids(facts),
        newuidmap(facts),
        overlay(facts),
        cgroup(facts),
        seccomp(facts),
        landlock(facts),
        network(facts),
        tun(facts),
        inside(facts),
    ];
    let mut rung = judged.iter().map(|(rung, _)| *rung).max().unwrap_or(Rung::Full);
    if rung == Rung::NoUserNamespaces && facts.landlock_abi.is_none() {
        rung = Rung::Nothing;
    }
    let findings = judged.into_iter().map(|(_, finding)| finding).collect();
    Report { rung, meaning: rung.meaning().to_owned(), exit_code: rung.exit_code(), findings }
}

fn kernel(facts: &Facts) -> Judged {
    let name = "kernel";
    let mut numbers = facts.kernel.split(['.', '-']).map(str::parse::<u32>);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= KERNEL_MIN {
        return ok(name, &facts.kernel);
    }
    let consequence = "cuddy is tested on Linux 5.14 and newer: a start may fail, and clean-up is slower";
    (Rung::Full, lacking(Status::Weaker, name, &facts.kernel, consequence, None))
}

/// The line that sets a kernel switch now and at every boot.
fn sysctl(setting: &str) -> Option<String> {
    Some(format!("echo '{setting}' | sudo tee /etc/sysctl.d/99-cuddy.conf && sudo sysctl --system"))
}

fn user_namespaces(facts: &Facts) -> Judged {
    let name = "user namespaces";
    let Err(why) = &facts.user_namespace else {
        return ok(name, "made and used in a trial");
    };
    let fix = if facts.user_namespaces_max == Some(0) {
        sysctl("user.max_user_namespaces = 15000")
    } else if facts.unprivileged_userns_clone == Some(false) {
        sysctl("kernel.unprivileged_userns_clone = 1")
    } else if facts.apparmor_restricts == Some(true) {
        apparmor_fix(facts)
    } else {
        outer_fix(facts)
    };
    let consequence = "no container can be started";
    (Rung::NoUserNamespaces, lacking(Status::Missing, name, why, consequence, fix))
}

/// The AppArmor profile that lets this program, and no other, make user namespaces.
fn apparmor_fix(facts: &Facts) -> Option<String> {
    // The profile is quoted once by the shell and the path once by AppArmor: neither quote may be in it.
    if facts.program.contains(['\'', '"', '\\', '%', '\n']) {
        return None;
    }
    Some(format!(
        "printf 'abi <abi/4.0>,\\ninclude <tunables/global>\\nprofile cuddy \"{}\" flags=(unconfined) {{\\n  \
         userns,\\n}}\\n' | sudo tee /etc/apparmor.d/cuddy && sudo apparmor_parser -r /etc/apparmor.d/cuddy",
        facts.program
    ))
}

fn apparmor(facts: &Facts) -> Judged {
    let name = "apparmor";
    match (facts.apparmor_restricts, &facts.user_namespace) {
        (Some(true), Err(_)) => {
            let found = "user namespaces only for programs with a profile that allows them";
            let consequence = "this program has no such profile";
            (Rung::NoUserNamespaces, lacking(Status::Missing, name, found, consequence, apparmor_fix(facts)))
        }
        (Some(true), Ok(())) => ok(name, "restricts user namespaces, but not ours"),
        _ => ok(name, "does not restrict user namespaces"),
    }
}

/// What to change in the container around us.
fn outer_fix(facts: &Facts) -> Option<String> {
    let line = match facts.inside.as_deref()? {
        "docker" => {
            "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt \
             systempaths=unconfined …"
        }
        "podman" => "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL …",
        "kubernetes" => {
            "in the pod: `hostUsers: false`, and `securityContext: {procMount: Unmasked, seccompProfile: {type: \
             Unconfined}}` in the container"
        }
        _ => return None,
    };
    Some(line.to_owned())
}

fn proc(facts: &Facts) -> Judged {
    let name = "proc";
    if facts.proc_masks.is_empty() {
        return ok(name, "wholly visible");
    }
    let found = format!("covered in part: {}", facts.proc_masks.join(", "));
    let consequence = "the kernel refuses a container its own /proc where the one around it is masked";
    (Rung::NoUserNamespaces, lacking(Status::Missing, name, found, consequence, outer_fix(facts)))
}

fn sub_ids(facts: &Facts) -> Judged {
    let name = "sub-ids";
    if facts.uid == 0 {
        return ok(name, "root maps ids by itself");
    }
    let found = format!("{} users, {} groups", facts.sub_uids, facts.sub_gids);
    let fewest = facts.sub_uids.min(facts.sub_gids);
    if fewest >= SUB_IDS_MIN {
        return ok(name, found);
    }
    let range = format!("{}-{}", facts.sub_ids_free, facts.sub_ids_free + SUB_IDS_MIN - 1);
    let fix = format!("sudo usermod --add-subuids {range} --add-subgids {range} {}", facts.login);
    if fewest == 0 {
        let consequence = "an image that needs more than one user is refused; `mcp run` needs none";
        return (Rung::NoSubIds, lacking(Status::Missing, name, found, consequence, Some(fix)));
    }
    let consequence = "an image with ids above these, such as `nobody` (65534), is refused";
    (Rung::Full, lacking(Status::Weaker, name, found, consequence, Some(fix)))
}

/// The line that installs a package by its name in each family; `None` where it has none.
fn install(facts: &Facts, debian: &str, fedora: &str, alpine: &str) -> Option<String> {
    Some(match facts.family {
        Family::Debian => format!("sudo apt-get install -y {debian}"),
        Family::Fedora => format!("sudo dnf install -y {fedora}"),
        Family::Suse => format!("sudo zypper install -y {fedora}"),
        Family::Arch => format!("sudo pacman -S --noconfirm {fedora}"),
        Family::Alpine => format!("sudo apk add {alpine}"),
        Family::Other => return None,
    })
}

fn newuidmap(facts: &Facts) -> Judged {
    let name = "newuidmap";
    if facts.uid == 0 {
        return ok(name, "root does not need it");
    }
    let consequence = "sub-ids cannot be used: a container has one user and one group";
    let (status, found, fix) = match (&facts.newuidmap, &facts.newgidmap) {
        (Tool::Privileged(_), Tool::Privileged(_)) if facts.no_new_privs => {
            (Status::Missing, "no program can gain privileges under no_new_privs".to_owned(), None)
        }
        (Tool::Privileged(uid), Tool::Privileged(gid)) => return ok(name, format!("{uid}, {gid}")),
        (Tool::Missing, _) | (_, Tool::Missing) => {
            let shadow = if facts.family == Family::Arch { "shadow" } else { "shadow-utils" };
            let shadow = if facts.family == Family::Suse { "shadow" } else { shadow };
            (Status::Missing, "not in PATH".to_owned(), install(facts, "uidmap", shadow, "shadow-subids"))
        }
        (uid, gid) => {
            let plain = [uid, gid].into_iter().filter_map(|tool| match tool {
                Tool::Plain(path) => Some(path.as_str()),
                Tool::Missing | Tool::Privileged(_) => None,
            });
            let plain = plain.collect::<Vec<_>>().join(" ");
            (Status::Missing, format!("without privileges: {plain}"), Some(format!("sudo chmod u+s {plain}")))
        }
    };
    (Rung::NoSubIds, lacking(status, name, found, consequence, fix))
}

fn overlay(facts: &Facts) -> Judged {
    let name = "overlay";
    let Err(why) = &facts.overlay else {
        return ok(name, "mounted in a trial");
    };
    let fix = (!facts.overlay_known).then(|| {
        "echo overlay | sudo tee /etc/modules-load.d/cuddy.conf && sudo modprobe overlay".to_owned()
    });
    let consequence = "each container gets its own tree of links and copies: slower to start, more disk";
    (Rung::Full, lacking(Status::Weaker, name, why, consequence, fix))
}

fn cgroup(facts: &Facts) -> Judged {
    let name = "cgroup";
    let consequence = "`mcp run` refuses a limit that was named; the Docker verbs warn and go on without it";
    let Delegation { controllers, reason, remedy } = &facts.delegation;
    if CONTROLLERS.iter().all(|want| controllers.iter().any(|have| have == want)) {
        return ok(name, format!("delegated: {}", controllers.join(", ")));
    }
    let (status, found) = match controllers.as_slice() {
        [] => (Status::Missing, reason.clone()),
        some => (Status::Weaker, format!("delegated: only {}; {reason}", some.join(", "))),
    };
    let fix = match facts.cgroups {
        _ if facts.inside.is_some() => remedy.clone(),
        Cgroups::Unified if facts.uid != 0 => Some(delegate_fix(facts)),
        Cgroups::Hybrid | Cgroups::Legacy if matches!(facts.family, Family::Debian) => Some(
            "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && sudo \
             update-grub && sudo reboot"
                .to_owned(),
        ),
        Cgroups::Hybrid | Cgroups::Legacy if matches!(facts.family, Family::Fedora) => {
            Some("sudo grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1 && sudo reboot".to_owned())
        }
        Cgroups::Unified | Cgroups::Hybrid | Cgroups::Legacy | Cgroups::Absent => remedy.clone(),
    };
    let kind = match facts.cgroups {
        Cgroups::Unified => "v2",
        Cgroups::Hybrid => "v1 beside v2",
        Cgroups::Legacy => "v1",
        Cgroups::Absent => "not mounted",
    };
    (Rung::NoCgroup, lacking(status, name, format!("{kind}; {found}"), consequence, fix))
}

/// Makes systemd keep the user's own service alive and hand it the controllers.
fn delegate_fix(facts: &Facts) -> String {
    format!(
        "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory \
         pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload && \
         sudo loginctl enable-linger {} && sudo systemctl restart user@{}.service",
        facts.login, facts.uid
    )
}

fn seccomp(facts: &Facts) -> Judged {
    let name = "seccomp";
    let lacks = |action: &&&str| !facts.seccomp_actions.iter().any(|have| have == **action);
    let missing: Vec<&str> = SECCOMP_ACTIONS.iter().filter(lacks).copied().collect();
    if missing.is_empty() {
        return ok(name, facts.seccomp_actions.join(" "));
    }
    let found = match facts.seccomp_actions.is_empty() {
        true => "not in this kernel".to_owned(),
        false => format!("without {}", missing.join(", ")),
    };
    let consequence = "no policy can be enforced: only `--security-opt seccomp=unconfined` starts";
    (Rung::Nothing, lacking(Status::Missing, name, found, consequence, None))
}

fn landlock(facts: &Facts) -> Judged {
    let name = "landlock";
    let consequence = "the second wall is lower: files and sockets are held by namespaces and seccomp alone";
    match facts.landlock_abi {
        Some(abi) if abi >= LANDLOCK_ABI_FULL => ok(name, format!("version {abi}")),
        Some(abi) => {
            let found = format!("version {abi}, below {LANDLOCK_ABI_FULL}");
            let consequence = "the second wall has no scopes for signals and abstract sockets";
            (Rung::Full, lacking(Status::Weaker, name, found, consequence, None))
        }
        None => (Rung::Full, lacking(Status::Weaker, name, "not in this kernel, or off", consequence, None)),
    }
}

fn network(facts: &Facts) -> Judged {
    let name = "network program";
    if let Some(path) = &facts.network_program {
        return ok(name, path);
    }
    let consequence = "a container has no network or the host's: nothing between";
    let fix = install(facts, "passt", "passt", "passt");
    (Rung::Full, lacking(Status::Weaker, name, "neither pasta nor slirp4netns in PATH", consequence, fix))
}

fn tun(facts: &Facts) -> Judged {
    let name = "/dev/net/tun";
    let consequence = "pasta and slirp4netns cannot give a container an interface";
    let (found, fix) = match facts.tun {
        Tun::Usable => return ok(name, "can be opened"),
        Tun::Denied => ("may not be opened", "sudo chmod 0666 /dev/net/tun"),
        Tun::Missing => {
            ("does not exist", "echo tun | sudo tee /etc/modules-load.d/cuddy-tun.conf && sudo modprobe tun")
        }
    };
    let fix = facts.inside.is_none().then(|| fix.to_owned());
    (Rung::Full, lacking(Status::Weaker, name, found, consequence, fix))
}

fn inside(facts: &Facts) -> Judged {
    match &facts.inside {
        Some(kind) => ok("container", format!("inside one ({kind}): what it forbids, cuddy cannot give")),
        None => ok("container", "not inside one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with everything, asked by an ordinary user.
    fn host() -> Facts {
        let list = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
        Facts {
            login: "ann".to_owned(),
            uid: 1000,
            program: "/usr/bin/cuddy".to_owned(),
            family: Family::Debian,
            kernel: "6.12.48+deb13-amd64".to_owned(),
            user_namespaces_max: Some(62_000),
            unprivileged_userns_clone: Some(true),
            apparmor_restricts: None,
            user_namespace: Ok(()),
            proc_masks: Vec::new(),
            sub_uids: 65_536,
            sub_gids: 65_536,
            sub_ids_free: 165_536,
            newuidmap: Tool::Privileged("/usr/bin/newuidmap".to_owned()),
            newgidmap: Tool::Privileged("/usr/bin/newgidmap".to_owned()),
            no_new_privs: false,
            overlay_known: true,
            overlay: Ok(()),
            cgroups: Cgroups::Unified,
            delegation: Delegation {
                controllers: list("cpu memory pids"),
                reason: String::new(),
                remedy: None,
            },
            seccomp_actions: list("kill_process kill_thread trap errno user_notif trace log allow"),
            landlock_abi: Some(7),
            network_program: Some("/usr/bin/pasta".to_owned()),
            tun: Tun::Usable,
            inside: None,
        }
    }

    /// The rung of a host, and the abilities that lack something, each with the beginning of its fix.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Facts), rung: Rung, lacking: &[(&str, Status, Option<&str>)]) {
        let mut facts = host();
        change(&mut facts);
        let report = examine(&facts);
        let found: Vec<_> = report.findings.iter().filter(|f| f.status != Status::Ok).collect();
        let names: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.status)).collect();
        let wanted: Vec<_> = lacking.iter().map(|(name, status, _)| (*name, *status)).collect();
        assert_eq!((report.rung, names), (rung, wanted));
        for (finding, (_, _, fix)) in found.iter().zip(lacking) {
            assert!(!finding.consequence.is_empty(), "{finding:?}");
            match (fix, &finding.fix) {
                (Some(want), Some(have)) => assert!(have.contains(want), "{have}"),
                (want, have) => assert_eq!(want.map(str::to_owned), *have, "{finding:?}"),
            }
        }
        assert_eq!(report.exit_code, rung.exit_code());
    }

    #[test]
    fn a_host_with_everything_is_on_the_full_rung() {
        check(|_| {}, Rung::Full, &[]);
    }

    #[test]
    fn ubuntu_24_04_needs_a_profile_for_this_program() {
        let fix = "profile cuddy \"/usr/bin/cuddy\" flags=(unconfined) {\\n  userns,\\n}\\n' | sudo tee";
        let restricted = |facts: &mut Facts| {
            facts.apparmor_restricts = Some(true);
            facts.user_namespace = Err("mount: permission denied".to_owned());
        };
        let lacking =
            [("user namespaces", Status::Missing, Some(fix)), ("apparmor", Status::Missing, Some(fix))];
        check(restricted, Rung::NoUserNamespaces, &lacking);
        check(|facts| facts.apparmor_restricts = Some(true), Rung::Full, &[]);
    }

    #[test]
    fn a_program_at_a_strange_path_gets_no_line_that_a_shell_would_misread() {
        let mut facts = host();
        facts.program = "/tmp/it's/cuddy".to_owned();
        assert_eq!(apparmor_fix(&facts), None);
    }

    #[test]
    fn an_old_debian_and_a_closed_kernel_are_opened_by_their_own_switch() {
        let no = Err("operation not permitted".to_owned());
        let (first, second) = (no.clone(), no);
        check(
            |facts| (facts.unprivileged_userns_clone, facts.user_namespace) = (Some(false), first),
            Rung::NoUserNamespaces,
            &[("user namespaces", Status::Missing, Some("kernel.unprivileged_userns_clone = 1"))],
        );
        check(
            |facts| (facts.user_namespaces_max, facts.user_namespace) = (Some(0), second),
            Rung::NoUserNamespaces,
            &[("user namespaces", Status::Missing, Some("user.max_user_namespaces = 15000"))],
        );
    }

    #[test]
    fn a_hybrid_host_loses_its_limits_only() {
        let hybrid = |facts: &mut Facts| {
            facts.cgroups = Cgroups::Hybrid;
            facts.delegation.controllers.clear();
        };
        check(hybrid, Rung::NoCgroup, &[("cgroup", Status::Missing, Some("unified_cgroup_hierarchy=1"))]);
        let partly = |facts: &mut Facts| facts.delegation.controllers.truncate(1);
        check(
            partly,
            Rung::NoCgroup,
            &[("cgroup", Status::Weaker, Some("Delegate=cpu cpuset io memory pids"))],
        );
    }

    #[test]
    fn where_no_line_can_be_given_the_remedy_of_the_probe_is() {
        let elsewhere = |facts: &mut Facts| {
            (facts.family, facts.cgroups) = (Family::Other, Cgroups::Legacy);
            facts.delegation = Delegation {
                controllers: Vec::new(),
                reason: "v1".to_owned(),
                remedy: Some("boot v2".to_owned()),
            };
        };
        check(elsewhere, Rung::NoCgroup, &[("cgroup", Status::Missing, Some("boot v2"))]);
    }

    #[test]
    fn sub_ids_are_added_behind_those_of_others() {
        let none = |facts: &mut Facts| (facts.sub_uids, facts.sub_gids, facts.sub_ids_free) = (0, 0, 231_072);
        let fix = "sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 ann";
        check(none, Rung::NoSubIds, &[("sub-ids", Status::Missing, Some(fix))]);
        check(|facts| facts.sub_gids = 1000, Rung::Full, &[("sub-ids", Status::Weaker, Some("usermod"))]);
    }

    #[test]
    fn newuidmap_is_installed_or_given_its_privilege() {
        let name = "newuidmap";
        let gone = |facts: &mut Facts| facts.newuidmap = Tool::Missing;
        check(gone, Rung::NoSubIds, &[(name, Status::Missing, Some("sudo apt-get install -y uidmap"))]);
        let plain = |facts: &mut Facts| facts.newgidmap = Tool::Plain("/usr/bin/newgidmap".to_owned());
        check(plain, Rung::NoSubIds, &[(name, Status::Missing, Some("sudo chmod u+s /usr/bin/newgidmap"))]);
        check(|facts| facts.no_new_privs = true, Rung::NoSubIds, &[(name, Status::Missing, None)]);
    }

    #[test]
    fn root_needs_neither_sub_ids_nor_newuidmap() {
        let root = |facts: &mut Facts| {
            (facts.uid, facts.sub_uids, facts.sub_gids) = (0, 0, 0);
            facts.newuidmap = Tool::Missing;
        };
        check(root, Rung::Full, &[]);
    }

    #[test]
    fn in_a_pod_the_fix_is_in_the_pod() {
        let pod = |facts: &mut Facts| {
            facts.inside = Some("kubernetes".to_owned());
            facts.proc_masks = vec!["/proc/kcore".to_owned()];
            facts.user_namespace = Err("operation not permitted".to_owned());
            facts.delegation.controllers.clear();
            facts.tun = Tun::Missing;
        };
        let lacking = [
            ("user namespaces", Status::Missing, Some("hostUsers: false")),
            ("proc", Status::Missing, Some("procMount: Unmasked")),
            ("cgroup", Status::Missing, None),
            ("/dev/net/tun", Status::Weaker, None),
        ];
        check(pod, Rung::NoUserNamespaces, &lacking);
    }

    #[test]
    fn without_namespaces_and_landlock_nothing_is_left() {
        let bare = |facts: &mut Facts| {
            facts.user_namespace = Err("not implemented".to_owned());
            facts.landlock_abi = None;
        };
        let lacking = [("user namespaces", Status::Missing, None), ("landlock", Status::Weaker, None)];
        check(bare, Rung::Nothing, &lacking);
        check(|facts| facts.seccomp_actions.clear(), Rung::Nothing, &[("seccomp", Status::Missing, None)]);
    }

    #[test]
    fn what_is_only_slower_or_smaller_does_not_lower_the_rung() {
        let less = |facts: &mut Facts| {
            facts.kernel = "5.10.0-30-amd64".to_owned();
            facts.overlay_known = false;
            facts.overlay = Err("no such device".to_owned());
            facts.landlock_abi = Some(1);
            facts.network_program = None;
            facts.tun = Tun::Denied;
        };
        let lacking = [
            ("kernel", Status::Weaker, None),
            ("overlay", Status::Weaker, Some("sudo modprobe overlay")),
            ("landlock", Status::Weaker, None),
            ("network program", Status::Weaker, Some("apt-get install -y passt")),
            ("/dev/net/tun", Status::Weaker, Some("sudo chmod 0666 /dev/net/tun")),
        ];
        check(less, Rung::Full, &lacking);
    }

    #[test]
    fn rungs_are_ordered_as_their_exit_codes() {
        let rungs = [Rung::Full, Rung::NoCgroup, Rung::NoSubIds, Rung::NoUserNamespaces, Rung::Nothing];
        assert!(rungs.is_sorted());
        assert!(rungs.iter().map(|rung| rung.exit_code()).eq(0..5));
    }

    #[test]
    fn a_person_reads_the_line_that_fixes_it() {
        let mut facts = host();
        (facts.tun, facts.landlock_abi) = (Tun::Denied, None);
        expect_test::expect![[r#"
            full: every wall stands and every limit holds

            ok       kernel           6.12.48+deb13-amd64
            ok       user namespaces  made and used in a trial
            ok       apparmor         does not restrict user namespaces
            ok       proc             wholly visible
            ok       sub-ids          65536 users, 65536 groups
            ok       newuidmap        /usr/bin/newuidmap, /usr/bin/newgidmap
            ok       overlay          mounted in a trial
            ok       cgroup           delegated: cpu, memory, pids
            ok       seccomp          kill_process kill_thread trap errno user_notif trace log allow
            weaker   landlock         not in this kernel, or off
                     the second wall is lower: files and sockets are held by namespaces and seccomp alone
            ok       network program  /usr/bin/pasta
            weaker   /dev/net/tun     may not be opened
                     pasta and slirp4netns cannot give a container an interface
                     fix: sudo chmod 0666 /dev/net/tun
            ok       container        not inside one
        "#]]
        .assert_eq(&examine(&facts).text());
    }

    #[test]
    fn a_program_reads_the_same_report() {
        let report = examine(&host());
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.starts_with(r#"{"rung":"full","meaning":"full: "#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
