//! Who the command is and what it may: ids, capabilities, filters, limits, network, namespaces.

use std::fs;

use serde_json::Value;

use crate::harness::{Host, Seen, has_subordinate_ids, is_root, require};

fn identity(host: &Host, flags: &[&str]) -> Seen {
    host.sees(flags, &["identity"])
}

/// Numbers of the capabilities in a set.
fn capabilities(seen: &Seen, set: &str) -> Vec<u32> {
    let text = seen.one("capabilities")[set].as_str().expect("text");
    let bits = u64::from_str_radix(text, 16).expect("hexadecimal");
    (0..64).filter(|bit| bits >> bit & 1 == 1).collect()
}

/// Docker's fourteen: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
/// net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

// ── users ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_command_is_root_inside_and_the_caller_outside() {
    let host = Host::new();
    let seen = identity(&host, &[]);
    let ids = seen.one("ids");
    for field in ["uid", "euid", "suid", "gid", "egid", "sgid"] {
        assert_eq!(ids[field], 0, "{field}");
    }
    assert_eq!(ids["groups"], groups_inside(), "none of the caller's groups but its own");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(ids["uid_map"], format!("0 {uid} 1"));
    assert_eq!(ids["gid_map"], format!("0 {gid} 1"));
    assert_eq!(ids["setgroups"], "deny");
}

#[test]
fn a_user_is_told_by_name_by_number_and_with_a_group() {
    let host = Host::new();
    for flags in [["--user", "root"], ["--user", "0"], ["-u", "0:0"], ["-u", "root:root"], ["-u", "00"]] {
        let seen = identity(&host, &flags);
        assert_eq!((&seen.one("ids")["uid"], &seen.one("ids")["gid"]), (&0.into(), &0.into()), "{flags:?}");
        assert_eq!(seen.variable("HOME").as_deref(), Some("/root"), "{flags:?}");
    }
    if !require("subids", has_subordinate_ids()) {
        return;
    }
    host.write("passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:w:/var/www:/bin/sh\n");
    host.write("group", "root:x:0:\nweb:x:34:\ndata:x:50:www\n");
    let (passwd, group) = (host.text("passwd"), host.text("group"));
    let files = ["-v", &format!("{passwd}:/etc/passwd:ro"), "-v", &format!("{group}:/etc/group:ro")];
    let cases: [(&str, u32, u32, &[u32], &str); 6] = [
        ("www", 33, 34, &[50], "/var/www"),
        ("33", 33, 34, &[50], "/var/www"),
        ("www:data", 33, 50, &[], "/var/www"),
        ("www:7", 33, 7, &[], "/var/www"),
        ("1234", 1234, 0, &[], "/"),
        ("1234:56", 1234, 56, &[], "/"),
    ];
    for (user, uid, gid, groups, home) in cases {
        let seen = identity(&host, &[&files[..], &["--user", user]].concat());
        let ids = seen.one("ids");
        for field in ["uid", "euid", "suid"] {
            assert_eq!(ids[field], uid, "{user}: {field}");
        }
        for field in ["gid", "egid", "sgid"] {
            assert_eq!(ids[field], gid, "{user}: {field}");
        }
        assert_eq!(ids["groups"], serde_json::json!(groups), "{user}");
        assert_eq!(seen.variable("HOME").as_deref(), Some(home), "{user}");
        for set in ["effective", "permitted", "ambient", "inheritable"] {
            assert_eq!(capabilities(&seen, set), [0_u32; 0], "{user}: {set}");
        }
    }
}

#[test]
fn groups_are_added_where_there_are_ids_for_them() {
    let host = Host::new();
    if !require("subids", has_subordinate_ids()) {
        return;
    }
    assert_eq!(identity(&host, &["--group-add", "7"]).one("ids")["groups"], serde_json::json!([7]));
    let flags = ["--user", "5:6", "--group-add", "7", "--group-add", "8"];
    assert_eq!(identity(&host, &flags).one("ids")["groups"], serde_json::json!([7, 8]));
    host.probe(&["--user", "5:6", "--group-add", "no-such-group"], &["true"]).is_refused(&["no-such-group"]);
}

#[test]
fn an_id_that_this_host_does_not_give_is_an_error_with_the_line_that_fixes_it() {
    let host = Host::new();
    if has_subordinate_ids() {
        let ended = host.probe(&["--user", "2000000000"], &["true"]).is_refused(&["2000000000"]);
        assert!(ended.stderr.contains("subuid"), "{}", ended.stderr);
    } else {
        let ended = host.probe(&["--user", "1000"], &["true"]).is_refused(&["1000"]);
        assert!(ended.stderr.contains("usermod") || ended.stderr.contains("subuid"), "{}", ended.stderr);
    }
}

#[test]
fn a_user_that_is_not_exactly_one_id_is_never_root() {
    let host = Host::new();
    for user in [
        "-1",
        "+0",
        "0x0",
        "4294967296",
        "4294967295",
        "2147483648",
        "root:",
        ":0",
        ":",
        "0:-1",
        "0:4294967296",
        "no-such-user",
        "root:no-such-group",
        " 0",
        "0 ",
        "99999999999999999999",
    ] {
        let flag = format!("--user={user}");
        let ended = host.probe(&[&flag], &["true"]).is_refused(&[]);
        let words = ["user", "group"];
        assert!(words.iter().any(|word| ended.stderr.contains(word)), "{user:?}: {}", ended.stderr);
    }
    assert_eq!(host.containers(), [""; 0]);
}

#[test]
fn a_hostile_table_of_users_gives_nobody_an_id() {
    let host = Host::new();
    for line in [
        "evil:x:-1:0::/:\n",
        "evil:x:4294967296:0::/:\n",
        "evil:x::0::/:\n",
        "evil:x:0x0:0::/:\n",
        "evil:x:0\n",
    ] {
        host.write("passwd", line);
        let mount = format!("{}:/etc/passwd:ro", host.text("passwd"));
        host.probe(&["-v", &mount, "--user", "evil"], &["true"]).is_refused(&["evil"]);
    }
}

#[test]
fn the_host_s_groups_of_the_caller_do_not_go_in() {
    let host = Host::new();
    let seen = identity(&host, &[]);
    assert_eq!(seen.one("ids")["groups"], groups_inside());
}

/// What is left inside of our own supplementary groups: root drops them; with a map of one id nobody can,
/// so there our own group is the one that is mapped and every other is nobody's.
fn groups_inside() -> Value {
    if is_root() {
        return serde_json::json!([]);
    }
    let own = rustix::process::getegid();
    let groups = rustix::process::getgroups().expect("we may ask for our groups");
    groups.iter().map(|group| if *group == own { 0 } else { 65_534 }).collect()
}

// ── namespaces ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn even_root_and_privileged_live_in_a_user_namespace_of_their_own() {
    let host = Host::new();
    for flags in [&[][..], &["--privileged"], &["--cap-add", "ALL"], &["--network", "host"]] {
        let seen = identity(&host, flags);
        let map = seen.one("ids")["uid_map"].as_str().expect("text").to_owned();
        assert!(!map.contains("4294967295"), "{flags:?}: {map}");
        assert!(map.split(' ').nth(2).is_some_and(|count| count == "1"), "{flags:?}: {map}");
        let ours = fs::read_link("/proc/self/ns/user").expect("/proc is mounted");
        let seen = host.sees(flags, &["processes"]);
        assert_ne!(seen.one("namespaces")["user"], ours.to_str().expect("text"), "{flags:?}");
    }
}

#[test]
fn every_namespace_is_the_container_s_own() {
    let host = Host::new();
    let seen = host.sees(&[], &["processes"]);
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).expect("/proc is mounted");
        let theirs = seen.one("namespaces")[name].as_str().expect("text");
        assert!(theirs.starts_with(name) && theirs != ours.to_str().expect("text"), "{name}: {theirs}");
    }
}

#[test]
fn keep_id_is_the_caller_inside_too() {
    let host = Host::new();
    let seen =
        identity(&host, &["--userns", "keep-id", "--user", &rustix::process::geteuid().as_raw().to_string()]);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(seen.one("ids")["uid"], uid);
    assert_eq!(seen.one("ids")["uid_map"], format!("{uid} {uid} 1"));
    assert_eq!(seen.one("ids")["gid_map"], format!("{gid} {gid} 1"));
}

#[test]
fn keep_id_alone_is_the_caller_not_a_user_that_is_not_there() {
    let host = Host::new();
    let seen = identity(&host, &["--userns", "keep-id"]);
    assert_eq!(seen.one("ids")["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(seen.one("ids")["gid"], rustix::process::getegid().as_raw());
    assert_eq!(seen.variable("HOME").as_deref(), Some("/"));
}

// ── capabilities, privileges, filters ───────────────────────────────────────────────────────────

#[test]
fn the_capabilities_are_docker_s_fourteen_more_or_less_what_was_said() {
    let host = Host::new();
    let cases: [(&[&str], Vec<u32>); 6] = [
        (&[], DEFAULT.to_vec()),
        (&["--cap-drop", "ALL"], vec![]),
        (&["--cap-drop", "all", "--cap-add", "net_raw"], vec![13]),
        (
            &["--cap-drop", "CHOWN", "--cap-drop", "CAP_KILL"],
            DEFAULT.into_iter().filter(|c| ![0, 5].contains(c)).collect(),
        ),
        (&["--cap-add", "SYS_ADMIN"], [&DEFAULT[..9], &[13, 18, 21, 27, 29, 31]].concat()),
        (&["--cap-add", "SYS_PTRACE", "--cap-drop", "ALL"], vec![19]),
    ];
    for (flags, wanted) in cases {
        let seen = identity(&host, flags);
        for set in ["effective", "permitted", "bounding"] {
            assert_eq!(capabilities(&seen, set), wanted, "{flags:?}: {set}");
        }
        for set in ["inheritable", "ambient"] {
            assert_eq!(capabilities(&seen, set), [0_u32; 0], "{flags:?}: {set}");
        }
    }
    for flags in [&["--cap-add", "ALL"][..], &["--privileged"]] {
        let found = capabilities(&identity(&host, flags), "effective");
        assert!(found.len() >= 38 && found.contains(&21), "{flags:?}: {found:?}");
    }
}

#[test]
fn no_new_privileges_is_held_when_asked_for() {
    let host = Host::new();
    for (flags, wanted) in [
        (&[][..], 0),
        (&["--security-opt", "no-new-privileges"], 1),
        (&["--security-opt", "no-new-privileges:true"], 1),
        (&["--security-opt", "no-new-privileges=true"], 1),
        (&["--security-opt", "no-new-privileges=false"], 0),
    ] {
        assert_eq!(identity(&host, flags).one("walls")["no_new_privs"], wanted, "{flags:?}");
    }
}

#[test]
fn the_filter_is_the_default_one_a_file_s_or_none_where_that_is_said() {
    let host = Host::new();
    let walls = |flags: &[&str]| identity(&host, flags).one("walls").clone();
    assert_eq!(walls(&[])["seccomp"], 2);
    assert_eq!(walls(&["--security-opt", "seccomp=unconfined"])["seccomp"], 0);
    assert_eq!(walls(&["--privileged"])["seccomp"], 0);
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
    });
    host.write("profile.json", profile.to_string());
    // What was named stays, whatever else is dropped.
    assert_eq!(walls(&["--privileged", "--security-opt", "seccomp=profile.json"])["seccomp"], 2);
    let flags = ["--security-opt", "seccomp=profile.json", "--cap-add", "SYS_ADMIN"];
    assert_eq!(walls(&flags)["seccomp"], 2);
    let seen = host.sees(&flags, &["surface", "inside", "sethostname", "swapon", "swapon_reach"]);
    let found = seen.all("sethostname").next().map(|line| line["result"].clone());
    assert_eq!(found, Some(Value::from("EOPNOTSUPP")), "the file's own answer: {seen:?}");
    for (name, text) in
        [("broken.json", "{"), ("empty.json", ""), ("wrong.json", "{\"defaultAction\":\"SCMP_ACT_MAYBE\"}")]
    {
        host.write(name, text);
        host.probe(&["--security-opt", &format!("seccomp={name}")], &["true"]).is_refused(&[]);
    }
}

#[test]
fn limits_of_the_command_are_what_was_asked() {
    let host = Host::new();
    let flags = ["--ulimit", "nofile=64:128", "--ulimit", "core=0", "--ulimit", "cpu=50"];
    let seen = identity(&host, &flags);
    let limits = seen.one("rlimits");
    assert_eq!(limits["nofile"], serde_json::json!([64, 128]));
    assert_eq!(limits["core"], serde_json::json!([0, 0]));
    assert_eq!(limits["cpu"], serde_json::json!([50, 50]));
    if !is_root() {
        let ended =
            host.probe(&["--ulimit", "nofile=999999999"], &["true"]).is_refused(&["nofile", "999999999"]);
        assert!(ended.stderr.contains("hint"), "{}", ended.stderr);
    }
}

// ── network ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn without_a_network_there_is_only_a_loopback_that_works() {
    let host = Host::new();
    for flags in [&[][..], &["--network", "none"], &["--net=none", "--cap-drop", "ALL"]] {
        let seen = host.sees(flags, &["net", "tcp:9"]);
        let interfaces: Vec<_> = seen.all("interface").collect();
        let [loopback] = interfaces[..] else { panic!("{flags:?}: {interfaces:?}") };
        assert_eq!((&loopback["name"], &loopback["up"]), (&"lo".into(), &true.into()), "{flags:?}");
        // Nobody listens; a loopback that is down would say ENETUNREACH.
        assert_eq!(seen.one("connect")["result"], "ECONNREFUSED", "{flags:?}");
    }
}

#[test]
fn a_listener_of_the_host_is_reached_only_through_the_host_s_network() {
    let host = Host::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback of this host");
    let to = format!("tcp:{}", listener.local_addr().expect("it is bound").port());
    assert_eq!(host.sees(&[], &["net", &to]).one("connect")["result"], "ECONNREFUSED");
    let seen = host.sees(&["--network", "host"], &["net", &to]);
    assert_eq!(seen.one("connect")["result"], "OK");
    let names = |text: &str| {
        let mut names: Vec<_> =
            text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
        names.sort();
        names
    };
    let ours = names(&fs::read_to_string("/proc/net/dev").expect("/proc is mounted"));
    let mut theirs: Vec<_> =
        seen.all("interface").map(|line| line["name"].as_str().expect("text").to_owned()).collect();
    theirs.sort();
    assert_eq!(theirs, ours);
}

#[test]
fn the_host_s_network_brings_its_name_servers() {
    let host = Host::new();
    let inside = host.probe(&["--network", "host"], &["read", "/etc/resolv.conf"]).exits(0).text();
    assert_eq!(inside, fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    assert_eq!(host.probe(&[], &["read", "/etc/resolv.conf"]).exits(0).text(), "");
}
