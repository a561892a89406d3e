//! What a program inside sees and can do, under the strict policy of `mcp run` and under Docker's defaults.
//!
//! Attacks that were real once are in `attacks.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Host, Seen, Started, cuddy, is_root, probe_line, require};
use crate::judge;
use crate::payload::{strict, strict_line};

const STRICT: &str = include_str!("../golden/surface-strict.txt");
const DEFAULT: &str = include_str!("../golden/surface-default.txt");
/// Docker's 14 capabilities, as a mask.
const DOCKERS: &str = "00000000a80425fb";
const NONE: &str = "0000000000000000";

#[test]
fn every_attempt_under_the_strict_policy_gets_the_golden_answer() {
    let seen = strict(&Host::new(), &[], &["surface", "inside"]).sees();
    let wrong = judge::wrong(&seen.0, STRICT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_hosts_network_opens_no_other_entry_to_the_kernel() {
    let seen = strict(&Host::new(), &["--network", "host"], &["surface", "inside"]).sees();
    let wrong = judge::wrong(&seen.0, STRICT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_attempt_under_dockers_defaults_gets_the_golden_answer() {
    let seen = Host::new().sees(&[], &["surface", "inside"]);
    let wrong = judge::wrong(&seen.0, DEFAULT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_first_process_of_ours_opens_no_other_entry_to_the_kernel() {
    let seen = Host::new().sees(&["--init", "--read-only", "--tmpfs", "/tmp"], &["surface", "inside"]);
    let wrong = judge::wrong(&seen.0, DEFAULT);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_tool_holds_no_capability_and_can_gain_none() {
    let seen = strict(&Host::new(), &[], &["identity"]).sees();
    let capabilities = seen.one("capabilities");
    for set in ["effective", "permitted", "inheritable", "bounding", "ambient"] {
        assert_eq!(capabilities[set], NONE, "{set}: {capabilities}");
    }
    let walls = seen.one("walls");
    assert_eq!((&walls["no_new_privs"], &walls["seccomp"]), (&json!(1), &json!(2)), "{walls}");
    assert_eq!(walls["securebits"], 0, "{walls}");
}

#[test]
fn a_container_holds_dockers_capabilities_and_hands_none_down() {
    let seen = Host::new().sees(&[], &["identity"]);
    let capabilities = seen.one("capabilities");
    for set in ["effective", "permitted", "bounding"] {
        assert_eq!(capabilities[set], DOCKERS, "{set}: {capabilities}");
    }
    // CVE-2022-29162, CVE-2022-27650.
    assert_eq!((&capabilities["inheritable"], &capabilities["ambient"]), (&json!(NONE), &json!(NONE)));
    assert_eq!(seen.one("walls")["seccomp"], 2);
}

#[test]
fn a_tool_sees_only_itself_and_its_first_process() {
    let seen = strict(&Host::new(), &[], &["processes"]).sees();
    let found: Vec<_> = seen.all("process").map(|p| (p["pid"].clone(), p["name"].clone())).collect();
    assert_eq!(found, [(json!(1), json!("init")), (json!(2), json!("probe"))]);
}

#[test]
fn a_container_sees_only_itself() {
    let seen = Host::new().sees(&[], &["processes"]);
    let found: Vec<_> = seen.all("process").map(|p| p["pid"].clone()).collect();
    assert_eq!(found, [json!(1)]);
}

#[test]
fn every_namespace_is_its_own() {
    for seen in [strict(&Host::new(), &[], &["processes"]).sees(), Host::new().sees(&[], &["processes"])] {
        let inside = seen.one("namespaces");
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
            let ours = fs::read_link(format!("/proc/self/ns/{name}")).expect("/proc is mounted");
            let theirs = inside[name].as_str().expect("every kernel here has it");
            assert_ne!(Path::new(theirs), ours, "the {name} namespace is the caller's");
        }
    }
}

#[test]
fn nothing_of_a_home_folder_is_there() {
    let host = Host::new();
    let home = host.path("../home");
    fs::write(home.join("secret"), "of the home folder").expect("the home is ours");
    let home = fs::canonicalize(home).expect("it is there");
    let secret = home.join("secret");
    for words in [["read", secret.to_str().expect("ASCII")], ["ls", home.to_str().expect("ASCII")]] {
        let ended = strict(&host, &[], &words).exits(1);
        assert!(ended.stderr.contains("ENOENT"), "{words:?}: {}", ended.stderr);
    }
    let seen = strict(&host, &[], &["files", "inside"]).sees();
    for folder in ["/home", "/root", "/run"] {
        let read = of_path(&seen, "read", folder);
        assert!(read["size"].as_i64() <= Some(0), "{folder} is not empty: {read}");
    }
}

#[test]
fn nobody_listens_whom_the_host_can_reach() {
    let (host, listeners) = (Host::new(), Listeners::new());
    let outside = Command::new(judge::program()).arg("net").args(listeners.words()).output();
    let outside = Seen(judge::lines(&outside.expect("the probe runs").stdout));
    assert_eq!(answers(&outside), ["OK", "OK", "OK"], "the listeners are not there at all");
    let mut words = vec!["net".to_owned()];
    words.extend(listeners.words());
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    for seen in [strict(&host, &[], &words).sees(), host.sees(&[], &words)] {
        assert_eq!(answers(&seen), ["ECONNREFUSED", "ECONNREFUSED", "ENOENT"]);
        let interfaces: Vec<_> = seen.all("interface").map(|i| i["name"].clone()).collect();
        assert_eq!(interfaces, ["lo"]);
        assert_eq!(seen.one("sockets")["unix"], 0, "{}", seen.one("sockets"));
    }
}

#[test]
fn the_hosts_network_brings_no_socket_of_the_host_that_has_no_file() {
    let (host, listeners) = (Host::new(), Listeners::new());
    let mut words = vec!["net".to_owned()];
    words.extend(listeners.words());
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let seen = strict(&host, &["--network", "host"], &words).sees();
    if !require("landlock-scopes", landlock_scopes()) {
        return;
    }
    // CVE-2020-15257: Landlock's scope is all that stands between.
    assert_eq!(answers(&seen), ["OK", "EPERM", "ENOENT"]);
}

#[test]
fn no_descriptor_of_the_caller_comes_along() {
    let host = Host::new();
    let leak = "exec 3</ 7</etc/passwd 9>>leaked 8<&0; exec \"$@\"";
    for line in [strict_line(&[], judge::program(), &["identity"]), probe_line(&["-i"], &["identity"])] {
        let mut command = host.command("/bin/sh");
        command.args(["-c", leak, "sh"]).arg(cuddy()).args(&line);
        let seen = Started::new(command).end().sees();
        let numbers: Vec<_> = seen.all("descriptor").map(|d| d["fd"].clone()).collect();
        assert_eq!(numbers, [json!(0), json!(1), json!(2)], "{line:?}");
    }
}

#[test]
fn the_session_is_new_and_has_no_terminal() {
    for seen in [strict(&Host::new(), &[], &["identity"]).sees(), Host::new().sees(&[], &["identity"])] {
        let session = seen.one("session");
        // A session of the caller would be 0: it has no number in here.
        assert_eq!(session["sid"], 1, "{session}");
        assert_eq!(session["controlling_tty"], "ENXIO", "{session}");
    }
}

#[test]
fn the_first_process_of_a_tool_is_out_of_its_reach() {
    let seen = strict(&Host::new(), &[], &["files", "inside"]).sees();
    for path in ["/proc/1/environ", "/proc/1/root", "/proc/1/cwd", "/proc/1/maps", "/proc/1/mem"] {
        assert_eq!(of_path(&seen, "read", path)["result"], "EACCES", "{path}");
    }
    for path in ["/proc/1/exe", "/proc/1/mem"] {
        assert_eq!(of_path(&seen, "write", path)["result"], "EACCES", "{path}");
    }
}

#[test]
fn the_mask_of_new_files_is_the_callers_for_a_tool_and_dockers_for_a_container() {
    let host = Host::new();
    let masked = |line: Vec<String>| {
        let mut command = host.command("/bin/sh");
        command.args(["-c", "umask 027; exec \"$@\"", "sh"]).arg(cuddy()).args(line);
        Started::new(command).end().sees().one("walls")["umask"].clone()
    };
    assert_eq!(masked(strict_line(&[], judge::program(), &["identity"])), "0027");
    assert_eq!(masked(probe_line(&[], &["identity"])), "0022");
}

#[test]
fn a_callers_strict_mask_closes_no_folder_of_a_container() {
    let host = Host::new();
    for line in [strict_line(&[], judge::program(), &["ls", "/"]), probe_line(&[], &["ls", "/"])] {
        let mut command = host.command("/bin/sh");
        command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(cuddy()).args(&line);
        let seen = Started::new(command).end().sees();
        let etc = seen.all("entry").find(|entry| entry["name"] == "etc").expect("it is there");
        assert_eq!(etc["mode"], "0755", "{line:?}");
    }
}

#[test]
fn a_tool_dumps_no_memory_and_locks_none() {
    let seen = strict(&Host::new(), &[], &["identity"]).sees();
    let limits = seen.one("rlimits");
    for name in ["core", "memlock", "msgqueue"] {
        assert_eq!(limits[name], json!([0, 0]), "{name}: {limits}");
    }
    let files = limits["nofile"][1].as_i64().expect("a number");
    assert!((1..=65_536).contains(&files), "{limits}");
    if !is_root() {
        // Root's processes are not counted by the kernel: there only a cgroup can.
        let seen = strict(&Host::new(), &["--pids", "77"], &["identity"]);
        if seen.code == 0 {
            let nproc = seen.sees().one("rlimits")["nproc"].clone();
            assert!(nproc == json!([77, 77]) || cgroup_counts_processes(), "nproc: {nproc}");
        }
    }
}

#[test]
fn a_tools_environment_is_what_was_named_and_five_variables() {
    let mut host = Host::new();
    host.set("SECRET_TOKEN", "of the caller");
    host.set("WANTED", "this one");
    host.set("LD_LIBRARY_PATH", "/nowhere");
    let policy = ["--env", "GIVEN=a value", "--env", "WANTED", "--env", "ABSENT"];
    let seen = strict(&host, &policy, &["identity"]).sees();
    let values = seen.one("environment")["values"].as_array().expect("a list");
    let names: Vec<_> = values.iter().filter_map(|v| v.as_str()?.split('=').next()).collect();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "LOGNAME", "PATH", "USER", "WANTED"]);
    assert_eq!(seen.variable("WANTED").as_deref(), Some("this one"));
    assert_eq!(seen.variable("HOME").as_deref(), Some("/tmp"));
}

#[test]
fn the_hosts_name_is_not_told() {
    let ours = fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc is mounted");
    for seen in [strict(&Host::new(), &[], &["identity"]).sees(), Host::new().sees(&[], &["identity"])] {
        assert_ne!(seen.one("session")["hostname"], ours.trim());
    }
}

#[test]
fn what_tells_about_the_host_is_masked() {
    let masked = [
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
    ];
    let more = [
        "/proc/config.gz",
        "/proc/iomem",
        "/proc/ioports",
        "/proc/kallsyms",
        "/proc/key-users",
        "/proc/kmsg",
        "/proc/kpagecgroup",
        "/proc/kpagecount",
        "/proc/kpageflags",
        "/proc/modules",
        "/proc/pagetypeinfo",
        "/proc/slabinfo",
        "/proc/softirqs",
        "/proc/vmallocinfo",
    ];
    let strictly = strict(&Host::new(), &[], &["files", "inside"]).sees();
    let as_docker = Host::new().sees(&[], &["files", "inside"]);
    for path in masked {
        assert!(is_masked(of_path(&strictly, "read", path)), "{}", of_path(&strictly, "read", path));
        assert!(is_masked(of_path(&as_docker, "read", path)), "{}", of_path(&as_docker, "read", path));
    }
    for path in more {
        assert!(is_masked(of_path(&strictly, "read", path)), "{}", of_path(&strictly, "read", path));
    }
}

#[test]
fn what_would_change_the_host_cannot_be_written() {
    let strictly = strict(&Host::new(), &[], &["files", "inside"]).sees();
    let as_docker = Host::new().sees(&[], &["files", "inside"]);
    for seen in [&strictly, &as_docker] {
        // A mask is the null device itself.
        let writable = seen.all("write").filter(|line| line["result"] == "OK" && line["rdev"] != "1:3");
        let writable = writable.map(|line| &line["path"]);
        let expected: &[&str] =
            if std::ptr::eq(seen, &strictly) { &["/dev/ptmx"] } else { &WRITTEN_BY_DOCKERS };
        let surplus: Vec<_> =
            writable.filter(|path| !expected.contains(&path.as_str().unwrap_or_default())).collect();
        assert!(surplus.is_empty(), "{surplus:?}");
    }
}

/// What a container opens by Docker's defaults: its own root filesystem, what is its own of `/proc`, and what the
/// kernel refuses at the write: memory types without a capability of the host, a second id map.
const WRITTEN_BY_DOCKERS: [&str; 10] = [
    "/dev/ptmx",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/proc/1/mem",
    "/proc/mtrr",
    "/proc/self/attr/current",
    "/proc/self/oom_score_adj",
    "/proc/self/uid_map",
];

#[test]
fn a_tool_makes_files_only_where_it_may() {
    let host = Host::new();
    let place = host.dir("place");
    let seen = strict(&host, &["--workspace", place.to_str().expect("ASCII")], &["files", "inside"]).sees();
    let made: BTreeSet<_> = seen
        .all("create_in")
        .filter(|line| line["result"] == "OK")
        .map(|line| line["path"].clone().to_string())
        .collect();
    let mut expected = BTreeSet::from([r#""/dev/shm""#, r#""/tmp""#].map(str::to_owned));
    // `.` is the caller's folder: where the tests have theirs in /tmp, it lies in the sandbox's empty one.
    if place.starts_with("/tmp") {
        expected.insert(r#"".""#.to_owned());
    }
    assert_eq!(made, expected);
}

#[test]
fn landlock_stands_behind_the_mounts() {
    if !require("landlock", landlock()) {
        return;
    }
    // /dev belongs to the tool's own user and is mounted writable: only the second wall says no.
    let seen = strict(&Host::new(), &[], &["files", "inside"]).sees();
    assert_eq!(of_path(&seen, "create_in", "/dev")["result"], "EACCES");
    let seen = strict(&Host::new(), &[], &["mounts"]).sees();
    let options = seen.mount("/dev").expect("it is mounted")["options"].as_str().expect("text");
    assert!(options.starts_with("rw"), "it is read-only, so this shows nothing about Landlock: {options}");
}

#[test]
fn devices_are_exactly_the_six_that_do_no_harm() {
    for seen in
        [strict(&Host::new(), &[], &["files", "inside"]).sees(), Host::new().sees(&[], &["files", "inside"])]
    {
        let mut nodes: Vec<_> = seen
            .all("device")
            .filter(|d| d["kind"] == "char" || d["kind"] == "block")
            .map(|d| format!("{} {}", d["path"].as_str().expect("text"), d["rdev"].as_str().expect("text")))
            .collect();
        nodes.sort();
        let expected = [
            "/dev/full 1:7",
            "/dev/null 1:3",
            "/dev/pts/ptmx 5:2",
            "/dev/random 1:8",
            "/dev/tty 5:0",
            "/dev/urandom 1:9",
            "/dev/zero 1:5",
        ];
        assert_eq!(nodes, expected);
        let mut others: Vec<_> = seen
            .all("device")
            .filter(|d| d["kind"] != "char")
            .map(|d| {
                format!(
                    "{} {} {}",
                    d["path"].as_str().expect("text"),
                    d["kind"].as_str().expect("text"),
                    d["target"].as_str().unwrap_or("-")
                )
            })
            .collect();
        others.sort();
        let expected = [
            "/dev/fd link /proc/self/fd",
            "/dev/mqueue folder -",
            "/dev/ptmx link pts/ptmx",
            "/dev/pts folder -",
            "/dev/shm folder -",
            "/dev/stderr link /proc/self/fd/2",
            "/dev/stdin link /proc/self/fd/0",
            "/dev/stdout link /proc/self/fd/1",
        ];
        assert_eq!(others, expected);
    }
}

#[test]
fn a_tool_has_no_sysfs_and_no_cgroup_tree() {
    let seen = strict(&Host::new(), &["--network", "host"], &["mounts"]).sees();
    let types: BTreeSet<_> = seen.all("mount").filter_map(|m| m["fstype"].as_str()).collect();
    for kind in ["sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "fusectl", "bpf"] {
        assert!(!types.contains(kind), "{kind} is mounted");
    }
}

#[test]
fn every_mount_of_a_tool_is_closed_to_the_hosts_and_strips_rights() {
    let host = Host::new();
    let place = host.dir("place");
    let policy = ["--workspace", place.to_str().expect("ASCII")];
    let seen = strict(&host, &policy, &["mounts"]).sees();
    for mount in seen.all("mount") {
        let point = mount["point"].as_str().expect("text");
        let options: Vec<_> = mount["options"].as_str().expect("text").split(',').collect();
        // A mask is the null device itself.
        let node = mount["fstype"] == "devtmpfs" && (point.starts_with("/dev/") || mount["root"] == "/null");
        assert!(node || options.contains(&"nosuid"), "{mount}");
        assert!(node || options.contains(&"nodev") || ["/dev", "/dev/pts"].contains(&point), "{mount}");
        assert!(!mount["propagation"].as_str().expect("text").contains("shared:"), "{mount}");
        let of_host = mount["fstype"] != "tmpfs" && mount["root"] != "/" && mount["fstype"] != "proc";
        let writable = options.contains(&"rw");
        assert!(node || !of_host || !writable || Path::new(point) == place, "{mount}");
    }
}

#[test]
fn a_workspace_is_the_callers_inside_and_outside() {
    let host = Host::new();
    let place = host.dir("place");
    host.write("place/before", "made outside");
    let folder = place.to_str().expect("ASCII");
    let policy = ["--workspace", folder];
    strict(&host, &policy, &["write", &format!("{folder}/made"), "inside"]).exits(0);
    let made = fs::metadata(place.join("made")).expect("it was made");
    assert_eq!(
        (made.uid(), made.gid()),
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    );
    let seen = strict(&host, &policy, &["ls", folder]).sees();
    let owner = strict(&host, &policy, &["identity"]).sees().one("ids")["uid"].clone();
    let owners: Vec<_> = seen.all("entry").map(|entry| entry["uid"].clone()).collect();
    assert_eq!(owners, [owner.clone(), owner]);
}

#[test]
fn a_read_only_workspace_is_read_only() {
    let host = Host::new();
    let place = host.dir("place");
    let file = host.write("place/file", "as it was");
    let folder = place.to_str().expect("ASCII");
    for policy in [["--workspace".to_owned(), format!("{folder}:ro")], ["--ro".to_owned(), folder.to_owned()]]
    {
        let policy: Vec<_> = policy.iter().map(String::as_str).collect();
        let path = file.to_str().expect("ASCII");
        assert_eq!(strict(&host, &policy, &["read", path]).exits(0).text(), "as it was");
        strict(&host, &policy, &["write", path, "changed"]).exits(1);
        strict(&host, &policy, &["write", &format!("{folder}/new"), "x"]).exits(1);
    }
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "as it was");
    assert_eq!(fs::read_dir(&place).expect("it is there").count(), 1);
}

#[test]
fn keys_of_the_caller_are_out_of_reach() {
    assert_eq!(strict(&Host::new(), &[], &["identity"]).sees().one("walls")["keyring"], "ENOSYS");
    // Without a filter the keyring can be asked for: it is another one.
    let outside = Command::new(judge::program()).arg("identity").output().expect("the probe runs");
    let outside = Seen(judge::lines(&outside.stdout));
    let inside = Host::new().sees(&["--security-opt", "seccomp=unconfined"], &["identity"]);
    if require("keyrings", outside.one("walls")["keyring"] == "OK") {
        assert_eq!(inside.one("walls")["keyring"], "OK", "{}", inside.one("walls"));
        assert_ne!(inside.one("walls")["keyring_id"], outside.one("walls")["keyring_id"]);
    }
}

#[test]
fn signals_the_caller_ignores_or_blocks_work_inside() {
    let host = Host::new();
    for line in [strict_line(&[], judge::program(), &["signals"]), probe_line(&["--init"], &["signals"])] {
        let mut command = host.command("/bin/sh");
        command.args(["-c", "trap '' INT QUIT PIPE HUP CHLD; exec \"$@\"", "sh"]).arg(cuddy()).args(&line);
        let seen = Started::new(command).end().sees();
        let signals = seen.one("signals");
        for set in ["blocked", "ignored", "caught"] {
            assert_eq!(signals[set], NONE, "{set} with {line:?}");
        }
    }
}

#[test]
fn groups_of_the_caller_do_not_come_along() {
    // CVE-2022-2989, CVE-2022-2990. The kernel lets nobody but root drop groups in a namespace of one id: those of
    // an ordinary user stay with the process, without a name.
    for seen in [strict(&Host::new(), &[], &["identity"]).sees(), Host::new().sees(&[], &["identity"])] {
        let ids = seen.one("ids");
        assert_eq!(ids["setgroups"], "deny", "{ids}");
        let groups = ids["groups"].as_array().expect("a list");
        if is_root() {
            assert!(groups.is_empty(), "{ids}");
        }
        assert!(groups.iter().all(|group| *group == 65_534 || *group == ids["gid"]), "{ids}");
    }
}

/// A listener of each kind, on the host.
struct Listeners {
    tcp: TcpListener,
    name: String,
    folder: tempfile::TempDir,
    _open: [UnixListener; 2],
}

impl Listeners {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let name = format!("cuddy-{}", folder.path().file_name().expect("it has one").to_string_lossy());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let open = [
            UnixListener::bind_addr(&address).expect("the name is ours"),
            UnixListener::bind(folder.path().join("socket")).expect("the folder is ours"),
        ];
        Self { tcp, name, folder, _open: open }
    }

    fn words(&self) -> [String; 3] {
        let port = self.tcp.local_addr().expect("it is bound").port();
        let path = self.folder.path().join("socket");
        [format!("tcp:{port}"), format!("abstract:{}", self.name), format!("unix:{}", path.display())]
    }
}

fn answers(seen: &Seen) -> Vec<String> {
    seen.all("connect").map(|line| line["result"].as_str().expect("text").to_owned()).collect()
}

/// The line of a view about one path.
#[track_caller]
fn of_path<'a>(seen: &'a Seen, probe: &str, path: &str) -> &'a Value {
    seen.all(probe).find(|line| line["path"] == path).unwrap_or_else(|| panic!("{probe} {path} is not tried"))
}

/// Not there, refused, or empty.
fn is_masked(read: &Value) -> bool {
    read["result"] != "OK" || read["size"] == 0
}

fn landlock() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm")
        .map_or_else(|_| landlock_scopes(), |text| text.contains("landlock"))
}

fn landlock_scopes() -> bool {
    use landlock::{CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
    let asked = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    asked.scope(Scope::AbstractUnixSocket).and_then(Ruleset::create).is_ok()
}

/// Where a cgroup counts processes there is no need for the kernel's own limit.
fn cgroup_counts_processes() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("pids"))
}
