//! What the seccomp programs decide, asked of a BPF interpreter: never of the compiler itself.
//!
//! Two oracles: the rows of the attack-surface table written out as assertions, and [`Oracle`], which
//! reads a profile's JSON for one call and knows neither trees nor BPF.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::collections::{BTreeMap, BTreeSet};

use cuddy::container::bpf::Program;
use cuddy::container::seccomp::{self, Conditions, DEFAULT, Profile, STRICT, SeccompError};
use cuddy::container::syscalls::Arch;
use cuddy::error::{Error, ErrorKind, Fault};
use proptest::prelude::*;
use serde_json::{Value, json};

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const TRACE: u32 = 0x7ff0_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;
const EAFNOSUPPORT: u32 = ERRNO | 97;

const ARCHES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

// ── the interpreter ─────────────────────────────────────────────────────────────────────────────

/// One system call as the kernel shows it to a filter.
#[derive(Debug, Clone, Copy)]
struct Call {
    audit: u32,
    number: u32,
    args: [u64; 6],
}

/// What the kernel's classic BPF machine returns, and how many instructions that took.
fn run(program: &Program, call: Call) -> (u32, usize) {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&call.number.to_le_bytes());
    data[4..8].copy_from_slice(&call.audit.to_le_bytes());
    for (to, arg) in data[16..].chunks_exact_mut(8).zip(call.args) {
        to.copy_from_slice(&arg.to_le_bytes());
    }
    let code = program.instructions();
    let (mut at, mut accumulator, mut steps) = (0, 0_u32, 0);
    loop {
        let one = &code[at];
        at += 1;
        steps += 1;
        let jump = |yes: bool| usize::from(if yes { one.jt } else { one.jf });
        match one.code {
            0x20 => {
                let from = usize::try_from(one.k).unwrap();
                accumulator = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => accumulator &= one.k,
            0x05 => at += usize::try_from(one.k).unwrap(),
            0x15 => at += jump(accumulator == one.k),
            0x25 => at += jump(accumulator > one.k),
            0x35 => at += jump(accumulator >= one.k),
            0x06 => return (one.k, steps),
            other => panic!("instruction {other:#x} is not one the compiler writes"),
        }
    }
}

// ── the naive reading of a profile ──────────────────────────────────────────────────────────────

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map_or(Vec::new(), |list| list.iter().map(|one| one.as_str().unwrap()).collect())
}

fn selected(rule: &Value, conditions: &Conditions) -> bool {
    let arch = conditions.arch.profile_name();
    let has = |name: &&str| conditions.capabilities.contains(*name);
    let kernel = |value: &Value| {
        let (major, minor) = value.as_str()?.split_once('.')?;
        Some(conditions.kernel >= (major.parse().unwrap(), minor.parse().unwrap()))
    };
    let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
    let arches = strings(&includes["arches"]);
    strings(&includes["caps"]).iter().all(has)
        && (arches.is_empty() || arches.contains(&arch))
        && kernel(&includes["minKernel"]) != Some(false)
        && !strings(&excludes["caps"]).iter().any(has)
        && !strings(&excludes["arches"]).contains(&arch)
        && kernel(&excludes["minKernel"]) != Some(true)
}

fn holds(arg: &Value, call: Call) -> bool {
    let index = usize::try_from(arg["index"].as_u64().unwrap()).unwrap();
    let (is, value) = (call.args[index], arg["value"].as_u64().unwrap());
    match arg["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => is != value,
        "SCMP_CMP_LT" => is < value,
        "SCMP_CMP_LE" => is <= value,
        "SCMP_CMP_EQ" => is == value,
        "SCMP_CMP_GE" => is >= value,
        "SCMP_CMP_GT" => is > value,
        "SCMP_CMP_MASKED_EQ" => is & value == arg["valueTwo"].as_u64().unwrap_or(0) & value,
        other => panic!("{other}"),
    }
}

fn returned(action: &Value, errno: &Value) -> u32 {
    let data = u32::try_from(errno.as_u64().unwrap_or(1)).unwrap();
    match action.as_str().unwrap() {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_TRACE" => TRACE | data,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        other => panic!("{other}"),
    }
}

/// From the strictest to the most lenient.
fn rank(verdict: u32) -> usize {
    let order = [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, TRACE, LOG, ALLOW];
    order.iter().position(|action| *action == verdict & 0xffff_0000).unwrap()
}

/// A profile read for one host: what its rules say about each number.
struct Oracle {
    audit: u32,
    x86_64: bool,
    default: u32,
    /// The largest number that a rule names.
    last: Option<u32>,
    rules: BTreeMap<u32, Vec<Value>>,
}

impl Oracle {
    fn new(profile: &Value, conditions: &Conditions) -> Self {
        let numbers = conditions.arch.syscalls();
        let mut rules: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        for rule in profile["syscalls"].as_array().into_iter().flatten() {
            let names: BTreeSet<_> = strings(&rule["names"]).into_iter().collect();
            for number in names.iter().filter_map(|name| numbers.get(name)) {
                if selected(rule, conditions) {
                    rules.entry(*number).or_default().push(rule.clone());
                }
            }
        }
        Self {
            audit: conditions.arch.audit_number(),
            x86_64: conditions.arch == Arch::X86_64,
            default: returned(&profile["defaultAction"], &profile["defaultErrnoRet"]),
            last: rules.keys().max().copied(),
            rules,
        }
    }

    fn judge(&self, call: Call) -> u32 {
        if call.audit != self.audit {
            return KILL_PROCESS;
        }
        if self.x86_64 && call.number >= 0x4000_0000 && call.number != u32::MAX {
            return KILL_PROCESS;
        }
        if self.last.is_none_or(|last| call.number > last) {
            return if rank(self.default) <= rank(ERRNO) { ENOSYS } else { self.default };
        }
        let (mut always, mut sometimes) = (None, Vec::new());
        for rule in self.rules.get(&call.number).into_iter().flatten() {
            let verdict = returned(&rule["action"], &rule["errnoRet"]);
            let args: Vec<&Value> = rule["args"].as_array().into_iter().flatten().collect();
            let indices: BTreeSet<_> = args.iter().map(|arg| arg["index"].as_u64().unwrap()).collect();
            let matches = if indices.len() == args.len() {
                args.iter().all(|arg| holds(arg, call))
            } else {
                args.iter().any(|arg| holds(arg, call))
            };
            if args.is_empty() {
                if verdict != self.default {
                    always = always.or(Some(verdict));
                }
            } else if matches {
                sometimes.push(verdict);
            }
        }
        // `min_by_key` keeps the first of equals: the order of the file.
        always.into_iter().chain(sometimes).min_by_key(|verdict| rank(*verdict)).unwrap_or(self.default)
    }
}

// ── what is asked ───────────────────────────────────────────────────────────────────────────────

fn conditions(arch: Arch, capabilities: &[&str]) -> Conditions {
    let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
    Conditions { capabilities, kernel: (6, 18), arch }
}

fn compiled(json: &str, conditions: &Conditions) -> Program {
    let program = seccomp::compile(&Profile::parse(json.as_bytes()).unwrap(), conditions).unwrap();
    assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
    program
}

/// Every capability a rule of the two profiles asks about, and some it does not.
const ALL: &[&str] = &[
    "CAP_BPF",
    "CAP_CHOWN",
    "CAP_DAC_READ_SEARCH",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
];
const SETS: [&[&str]; 4] = [&[], &["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_NET_RAW"], &["CAP_SYS_ADMIN"], ALL];

/// Values around everything a profile compares with, with the high half changed as well.
fn values(profile: &Value) -> Vec<u64> {
    let mut found: BTreeSet<u64> = BTreeSet::from([0, 1, 1 << 32, u64::MAX]);
    for arg in profile["syscalls"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|rule| rule["args"].as_array().cloned().unwrap_or_default())
    {
        let (one, two) = (arg["value"].as_u64().unwrap(), arg["valueTwo"].as_u64().unwrap_or(0));
        for value in [one, two, one & two, !one, two | !one] {
            found.extend([value, value.wrapping_sub(1), value.wrapping_add(1)]);
            found.extend([value ^ (1 << 32), value & 0xffff_ffff, value | (0xffff_ffff << 32)]);
        }
    }
    found.into_iter().collect()
}

#[test]
fn every_number_of_both_profiles_gets_what_the_json_says() {
    for json in [DEFAULT, STRICT] {
        let text: Value = serde_json::from_str(json).unwrap();
        for arch in ARCHES {
            for set in SETS {
                let conditions = conditions(arch, set);
                let program = compiled(json, &conditions);
                let oracle = Oracle::new(&text, &conditions);
                let others = [0x3fff_ffff, 0x4000_0000, 0x4000_0029, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1];
                for number in (0..=1024).chain(others).chain([u32::MAX]) {
                    for args in [[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]] {
                        let call = Call { audit: arch.audit_number(), number, args };
                        assert_eq!(run(&program, call).0, oracle.judge(call), "{call:?} {set:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_argument_of_both_profiles_is_compared_as_the_json_says() {
    for json in [DEFAULT, STRICT] {
        let text: Value = serde_json::from_str(json).unwrap();
        let values = values(&text);
        let conditions = conditions(Arch::X86_64, &[]);
        let (program, numbers) = (compiled(json, &conditions), Arch::X86_64.syscalls());
        let oracle = Oracle::new(&text, &conditions);
        for name in ["socket", "socketpair", "clone", "personality", "ioctl", "mknod", "mknodat", "read"] {
            for first in &values {
                for second in [0, 1, 2, 3, 5, 0x80801, 0x80002, 0x80003, 0x5412, 0x1_0000_5412, *first] {
                    for third in [0, 1, 6, 9, 17, 132, 262, 0x1000, 0x2000, 0x11ff, *first] {
                        let args = [*first, second, third, 0, 0, 0];
                        let call = Call { audit: Arch::X86_64.audit_number(), number: numbers[name], args };
                        assert_eq!(run(&program, call).0, oracle.judge(call), "{name} {args:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_foreign_architecture_is_killed() {
    // i386, x86_64, arm, aarch64, mips and mips64 both ways, ppc64le, s390x, riscv64, loongarch64.
    let audits = [
        0x4000_0003,
        0xc000_003e,
        0x4000_0028,
        0xc000_00b7,
        0x0000_0008,
        0x4000_0008,
        0x8000_0008,
        0xc000_0008,
        0xc000_0015,
        0x8000_0016,
        0xc000_00f3,
        0xc000_0102,
        0,
        u32::MAX,
    ];
    for json in [DEFAULT, STRICT, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#] {
        for arch in ARCHES {
            let program = compiled(json, &conditions(arch, ALL));
            for audit in audits.into_iter().filter(|audit| *audit != arch.audit_number()) {
                for number in (0..=512).chain([0x4000_0000, u32::MAX]) {
                    let call = Call { audit, number, args: [0; 6] };
                    assert_eq!(run(&program, call).0, KILL_PROCESS, "{call:?}");
                }
            }
        }
    }
}

#[test]
fn x32_calls_are_killed_and_a_call_that_a_tracer_skipped_is_not() {
    for json in [DEFAULT, STRICT, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#] {
        let program = compiled(json, &conditions(Arch::X86_64, ALL));
        let verdict = |number| run(&program, Call { audit: 0xc000_003e, number, args: [0; 6] }).0;
        assert!((0..=1024).all(|number| verdict(0x4000_0000 | number) == KILL_PROCESS));
        assert_ne!(verdict(u32::MAX), KILL_PROCESS);
    }
}

// ── the strict profile, row by row of the attack surface ────────────────────────────────────────

fn strict(name: &str, args: &[u64]) -> u32 {
    asked(STRICT, &[], name, args)
}

fn asked(json: &str, capabilities: &[&str], name: &str, args: &[u64]) -> u32 {
    let program = compiled(json, &conditions(Arch::X86_64, capabilities));
    let number = *Arch::X86_64.syscalls().get(name).unwrap_or_else(|| panic!("no call {name}"));
    let mut six = [0; 6];
    six[..args.len()].copy_from_slice(args);
    run(&program, Call { audit: Arch::X86_64.audit_number(), number, args: six }).0
}

fn all_strict(names: &[&str], expected: u32) {
    for name in names {
        assert_eq!(strict(name, &[]), expected, "{name}");
        assert_eq!(strict(name, &[u64::MAX; 6]), expected, "{name} with every bit set");
    }
}

const NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

#[test]
fn strict_makes_no_namespace() {
    for flag in NAMESPACES {
        assert_eq!(strict("unshare", &[flag]), EPERM);
        assert_eq!(strict("clone", &[flag | 17]), EPERM, "clone {flag:#x}");
        assert_eq!(strict("clone", &[flag | 0x003d_0f00]), EPERM);
    }
    assert_eq!(strict("unshare", &[0x1000_0000 | 0x4000_0000]), EPERM);
    assert_eq!(strict("unshare", &[0x80]), EPERM);
    assert_eq!(strict("setns", &[3, 0]), EPERM);
    assert_eq!(strict("clone3", &[0x7fff_0000, 88]), ENOSYS);
    // What fork and pthread_create of the C library ask for.
    assert_eq!(strict("clone", &[0x0120_0011]), ALLOW);
    assert_eq!(strict("clone", &[0x003d_0f00]), ALLOW);
}

#[test]
fn strict_has_no_bpf_perf_userfaultfd_fanotify_or_kcmp() {
    all_strict(&["bpf", "perf_event_open", "userfaultfd", "fanotify_init", "fanotify_mark", "kcmp"], EPERM);
}

#[test]
fn strict_has_no_io_uring() {
    all_strict(&["io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "io_submit"], ENOSYS);
}

#[test]
fn strict_has_no_keyrings() {
    all_strict(&["keyctl", "add_key", "request_key"], ENOSYS);
}

#[test]
fn strict_touches_no_other_process() {
    let calls = ["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "process_madvise"];
    all_strict(&calls, EPERM);
    all_strict(
        &[
            "mbind",
            "get_mempolicy",
            "set_mempolicy",
            "set_mempolicy_home_node",
            "migrate_pages",
            "move_pages",
        ],
        EPERM,
    );
    for call in calls {
        assert_eq!(asked(STRICT, &["CAP_SYS_PTRACE"], call, &[]), ALLOW, "{call} when it was asked for");
    }
}

#[test]
fn strict_has_four_socket_families() {
    for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
        for high in [0, 1 << 32, 0xffff_ffff << 32] {
            assert_eq!(strict("socket", &[family | high, 1, 0]), EAFNOSUPPORT, "family {family}");
            assert_eq!(strict("socketpair", &[family | high, 1, 0]), EAFNOSUPPORT, "family {family}");
        }
    }
    for family in [64, 100, 0x8000_0001, 0xffff_ffff] {
        assert_eq!(strict("socket", &[family, 1, 0]), EPERM, "family {family}");
    }
    assert_eq!(strict("socket", &[1, 0x80001, 0]), ALLOW);
    assert_eq!(strict("socketpair", &[1, 5, 0]), ALLOW);
    for family in [2, 10] {
        for (kind, protocol) in [(1, 0), (1, 6), (2, 0), (2, 17), (0x80801, 6), (0x80002, 17)] {
            assert_eq!(strict("socket", &[family, kind, protocol]), ALLOW, "{family} {kind} {protocol}");
        }
        // SCTP, MPTCP, UDP-Lite, ping: a stream or datagram by another protocol.
        for (kind, protocol) in [(1, 132), (5, 132), (1, 262), (2, 136), (2, 1), (2, 58), (6, 33)] {
            assert_eq!(strict("socket", &[family, kind, protocol]), EPERM, "{family} {kind} {protocol}");
        }
    }
}

#[test]
fn strict_has_netlink_for_routes_only() {
    for kind in [2, 3, 0x80003] {
        assert_eq!(strict("socket", &[16, kind, 0]), ALLOW);
        for protocol in (1..32).chain([1 << 31]) {
            assert_eq!(strict("socket", &[16, kind, protocol]), EPERM, "protocol {protocol}");
        }
        assert_eq!(strict("socket", &[16, kind, (1 << 32) | 6]), EPERM, "xfrm under a high bit");
    }
}

#[test]
fn strict_has_no_packet_or_raw_socket() {
    assert_eq!(strict("socket", &[17, 3, 0x0300]), EAFNOSUPPORT);
    for family in [2, 10] {
        for kind in [3, 10, 0x80003, (1 << 32) | 3] {
            for protocol in [0, 1, 6, 17, 58, 255] {
                assert_eq!(strict("socket", &[family, kind, protocol]), EPERM, "{family} {kind} {protocol}");
            }
        }
    }
}

#[test]
fn strict_types_into_no_terminal() {
    for request in [0x5412, 0x541c, 0x5423] {
        for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
            assert_eq!(strict("ioctl", &[0, request | high]), EPERM, "{request:#x} under {high:#x}");
        }
    }
    for request in [0x5401, 0x5411, 0x5413, 0x541b, 0x5421, 0x5422] {
        assert_eq!(strict("ioctl", &[0, request]), ALLOW, "{request:#x}");
    }
}

#[test]
fn strict_has_no_old_memory_tricks_and_no_device_nodes() {
    all_strict(&["modify_ldt", "vmsplice", "memfd_secret", "chroot", "remap_file_pages"], EPERM);
    for kind in [0x2000, 0x6000, 0x4000, 0xa000, 0xc000, 0x3000] {
        assert_eq!(strict("mknod", &[0, kind | 0o666, 0x103]), EPERM, "{kind:#x}");
        assert_eq!(strict("mknodat", &[0, 0, (1 << 32) | kind | 0o666, 0x103]), EPERM, "{kind:#x}");
    }
    assert_eq!(strict("mknod", &[0, 0x1000 | 0o600]), ALLOW);
    assert_eq!(strict("mknodat", &[0, 0, 0x1000 | 0o600]), ALLOW);
    assert_eq!(asked(STRICT, &["CAP_SYS_CHROOT"], "chroot", &[]), ALLOW, "chroot when it was asked for");
}

#[test]
fn strict_keeps_the_personality() {
    for persona in [8, 0x0004_0000, 0x0040_0000, 0x0002_0000, 1] {
        for high in [0, 1 << 32] {
            assert_eq!(strict("personality", &[persona | high]), EPERM, "{persona:#x}");
        }
    }
    for asking in [0, 0xffff_ffff, u64::MAX] {
        assert_eq!(strict("personality", &[asking]), ALLOW);
    }
}

#[test]
fn strict_administers_nothing() {
    all_strict(
        &[
            "mount",
            "umount2",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "pivot_root",
            "setns",
            "kexec_load",
            "kexec_file_load",
            "swapon",
            "swapoff",
            "reboot",
            "init_module",
            "finit_module",
            "delete_module",
            "quotactl",
            "quotactl_fd",
            "acct",
            "name_to_handle_at",
            "open_by_handle_at",
            "iopl",
            "ioperm",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "syslog",
            "sethostname",
            "setdomainname",
            "vhangup",
            "uselib",
            "ustat",
            "sysfs",
            "lookup_dcookie",
            "nfsservctl",
            "mq_open",
        ],
        EPERM,
    );
    // Added to the kernel after the profile was written: an answer that programs know how to take.
    all_strict(&["open_tree_attr", "file_getattr", "file_setattr", "listns"], ENOSYS);
}

#[test]
fn default_makes_no_namespace_without_the_capability() {
    for flag in NAMESPACES {
        assert_eq!(asked(DEFAULT, &[], "clone", &[flag | 17]), EPERM);
        assert_eq!(asked(DEFAULT, &["CAP_SYS_ADMIN"], "clone", &[flag | 17]), ALLOW);
    }
    assert_eq!(asked(DEFAULT, &[], "clone3", &[]), ENOSYS);
    assert_eq!(asked(DEFAULT, &["CAP_SYS_ADMIN"], "clone3", &[]), ALLOW);
    assert_eq!(asked(DEFAULT, &[], "io_uring_setup", &[]), EPERM);
    assert_eq!(asked(DEFAULT, &[], "mount", &[]), EPERM);
}

#[test]
fn default_has_no_vsock_and_no_alg_socket_under_any_high_bits() {
    for high in [0, 1 << 32, 1 << 63, 0xffff_ffff << 32] {
        for family in [38, 40] {
            assert_eq!(asked(DEFAULT, ALL, "socket", &[family | high, 5, 0]), EPERM, "{family}");
        }
        for family in (0..46).filter(|family| ![38, 40].contains(family)) {
            assert_eq!(asked(DEFAULT, &[], "socket", &[family | high, 1, 0]), ALLOW, "{family}");
        }
    }
}

#[test]
fn our_profiles_name_only_calls_that_exist() {
    for json in [DEFAULT, STRICT] {
        let text: Value = serde_json::from_str(json).unwrap();
        for name in text["syscalls"].as_array().unwrap().iter().flat_map(|rule| strings(&rule["names"])) {
            assert!(ARCHES.iter().any(|arch| arch.syscalls().contains_key(name)), "{name}");
        }
    }
}

#[test]
fn our_programs_are_short_in_length_and_depth() {
    for (json, instructions_max, steps_max) in [(DEFAULT, 140, 40), (STRICT, 230, 60)] {
        let conditions = conditions(Arch::X86_64, &[]);
        let program = compiled(json, &conditions);
        assert!(program.instructions().len() <= instructions_max, "{}", program.instructions().len());
        let steps = |number| run(&program, Call { audit: 0xc000_003e, number, args: [u64::MAX; 6] }).1;
        let deepest = (0..=1024).map(steps).max().unwrap();
        assert!(deepest <= steps_max, "{deepest}");
    }
}

// ── any profile ─────────────────────────────────────────────────────────────────────────────────

const NAMES: [&str; 10] =
    ["read", "write", "close", "openat", "socket", "clone", "ioctl", "prctl", "mseal", "no_such_call"];

fn operand() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
            0xffff_ffff,
            1 << 32,
            (1 << 32) + 1,
            0xffff_ffff << 32,
            1 << 63,
            u64::MAX - 1,
            u64::MAX,
        ]),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ]
}

fn action() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_LOG",
    ])
}

fn argument() -> impl Strategy<Value = Value> {
    let op = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    (0..6_u64, operand(), prop::option::of(operand()), op).prop_map(|(index, value, two, op)| {
        json!({"index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{op}")})
    })
}

fn selection() -> impl Strategy<Value = Value> {
    let caps = prop::sample::subsequence(vec!["CAP_SYS_ADMIN", "CAP_CHOWN"], 0..=2);
    let arches = prop::sample::subsequence(vec!["amd64", "arm64", "s390x"], 0..=3);
    let kernel = prop::option::of(prop::sample::select(vec!["4.8", "6.18", "6.19", "7.0"]));
    (caps, arches, kernel)
        .prop_map(|(caps, arches, kernel)| json!({"caps": caps, "arches": arches, "minKernel": kernel}))
}

fn rule() -> impl Strategy<Value = Value> {
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..4);
    let args = prop::collection::vec(argument(), 0..4);
    // Mostly for every host, or hardly a rule would be left.
    let selections = prop::option::weighted(0.2, (selection(), selection()));
    (names, action(), prop::option::of(0..4096_u32), args, selections).prop_map(
        |(names, action, errno, args, selections)| {
            let (includes, excludes) = selections.unwrap_or((Value::Null, Value::Null));
            json!({
                "names": names, "action": action, "errnoRet": errno, "args": args,
                "includes": includes, "excludes": excludes,
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_profile_compiles_into_what_it_says(
        default in action(),
        errno in prop::option::of(0..4096_u32),
        rules in prop::collection::vec(rule(), 0..12),
        picks in prop::collection::vec((0..10_usize, any::<[prop::sample::Index; 6]>()), 60),
        admin in any::<bool>(),
        aarch64 in any::<bool>(),
    ) {
        let text = json!({"defaultAction": default, "defaultErrnoRet": errno, "syscalls": rules});
        let arch = ARCHES[usize::from(aarch64)];
        let conditions = conditions(arch, if admin { &["CAP_SYS_ADMIN"] } else { &[] });
        let program = compiled(&text.to_string(), &conditions);
        let (values, numbers) = (values(&text), arch.syscalls());
        let oracle = Oracle::new(&text, &conditions);
        for (name, indices) in picks {
            let number = numbers.get(NAMES[name]).copied().unwrap_or(u32::MAX);
            let args = indices.map(|index| *index.get(&values));
            let call = Call { audit: arch.audit_number(), number, args };
            prop_assert_eq!(run(&program, call).0, oracle.judge(call), "{:x?}", call);
        }
    }

    #[test]
    fn bytes_that_are_no_profile_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Profile::parse(&bytes).is_err());
    }

    #[test]
    fn a_damaged_program_is_refused_or_still_ends(at in 0..2000_usize, bit in 0..8_u8, number in any::<u32>()) {
        let mut bytes = compiled(STRICT, &conditions(Arch::X86_64, &[])).to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(program) = Program::from_bytes(&bytes) {
            run(&program, Call { audit: 0xc000_003e, number, args: [7; 6] });
        }
    }
}

#[test]
fn jumps_over_more_than_255_instructions_arrive() {
    let names: Vec<&str> = Arch::X86_64.syscalls().into_keys().collect();
    let rules: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let args = json!([{"index": at % 6, "value": (at << 32) + at, "op": "SCMP_CMP_GE"}]);
            json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": at, "args": args})
        })
        .collect();
    let text = json!({"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": rules});
    let conditions = conditions(Arch::X86_64, &[]);
    let program = compiled(&text.to_string(), &conditions);
    let oracle = Oracle::new(&text, &conditions);
    assert!(program.instructions().len() > 2000);
    for number in 0..=480 {
        for value in [0, 255, (number << 32) + number, u64::MAX] {
            let number = u32::try_from(number).unwrap();
            let call = Call { audit: 0xc000_003e, number, args: [value; 6] };
            assert_eq!(run(&program, call).0, oracle.judge(call), "{call:x?}");
        }
    }
}

#[test]
fn a_profile_for_too_long_a_program_is_refused() {
    let rules: Vec<Value> = (0..1500_u64)
        .map(|at| {
            let args = json!([{"index": 0, "value": at, "op": "SCMP_CMP_EQ"}]);
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": args})
        })
        .collect();
    let text = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}).to_string();
    let profile = Profile::parse(text.as_bytes()).unwrap();
    let error = seccomp::compile(&profile, &conditions(Arch::X86_64, &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let error = Error::from(error);
    assert_eq!(
        error.to_string(),
        "seccomp profile cannot be compiled: the filter needs more than 4096 instructions"
    );
    assert_eq!(error.hints, ["use fewer rules with `args` in the seccomp profile"]);
}

// ── what a person writes ────────────────────────────────────────────────────────────────────────

fn refused(json: &str) -> (ErrorKind, String) {
    let error = Profile::parse(json.as_bytes()).unwrap_err();
    (error.kind(), Error::from(error).to_string())
}

fn check_refused(cases: &[(String, &str)]) {
    for (json, message) in cases {
        let (kind, text) = refused(json);
        assert_eq!(kind, ErrorKind::Corrupt, "{json}");
        assert!(text.contains(message), "{json}\n  says: {text}");
    }
}

/// A profile with these rules.
fn one(rule: &str) -> String {
    format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{rule}]}}"#)
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let cases = [
        ("{}".to_owned(), "missing field `defaultAction`"),
        ("[]".to_owned(), "invalid length 0"),
        ("".to_owned(), "EOF"),
        (r#"{"defaultAction": "SCMP_ACT_NONE"}"#.to_owned(), "unknown variant `SCMP_ACT_NONE`"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscall": []}"#.to_owned(), "unknown field `syscall`"),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.to_owned(),
            "`defaultErrnoRet` of the seccomp profile has an errno of 4096, and the largest is 4095",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM"}"#.to_owned(), "`defaultErrno`"),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_PDP11"]}"#.to_owned(),
            "unknown variant `SCMP_ARCH_PDP11`",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
                "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null}]}"#
                .to_owned(),
            "`archMap` of the seccomp profile stands beside `architectures`",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["LOG"]}"#.to_owned(), "unknown variant `LOG`"),
    ];
    check_refused(&cases);
}

#[test]
fn a_mistake_in_a_rule_is_named_with_the_rule() {
    let allow = r#""names": ["read"], "action": "SCMP_ACT_ALLOW""#;
    let cases = [
        (one(r#"{"action": "SCMP_ACT_ALLOW"}"#), "`syscalls[0]` (without a name) names no system call"),
        (one(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#), "names no system call"),
        (one(r#"{"names": ["read", ""], "action": "SCMP_ACT_ALLOW"}"#), "names no system call"),
        (one(&format!(r#"{{"name": "write", {allow}}}"#)), "(write) has both `name` and `names`"),
        (one(r#"{"names": ["read"]}"#), "missing field `action`"),
        (one(r#"{"names": "read", "action": "SCMP_ACT_ALLOW"}"#), "invalid type: string"),
        (one(r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": -1}"#), "invalid value"),
        (
            one(&format!(
                r#"{{{allow}}}, {{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}}"#
            )),
            "seccomp rule `syscalls[1]` (bpf) has an errno of 5000, and the largest is 4095",
        ),
        (
            one(r#"{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS"}"#),
            "gives `errno` as a word",
        ),
        (
            one(&format!(r#"{{{allow}, "args": [{{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}}]}}"#)),
            "`syscalls[0]` (read) asks about argument 6, and the last is 5",
        ),
        (
            one(&format!(r#"{{{allow}, "args": [{{"index": 0, "value": 0, "op": "SCMP_CMP_LIKE"}}]}}"#)),
            "unknown variant `SCMP_CMP_LIKE`",
        ),
        (
            one(&format!(r#"{{{allow}, "args": [{{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}}]}}"#)),
            "invalid value: integer `-1`",
        ),
        (
            one(&format!(r#"{{{allow}, "args": [{{"index": 0, "op": "SCMP_CMP_EQ"}}]}}"#)),
            "missing field `value`",
        ),
        (
            one(&format!(r#"{{{allow}, "includes": {{"caps": ["SYS_ADMIN"]}}}}"#)),
            "(read) names `SYS_ADMIN`, which is not a capability",
        ),
        (
            one(&format!(r#"{{{allow}, "excludes": {{"arches": ["amd46"]}}}}"#)),
            "(read) names the unknown architecture `amd46`",
        ),
        (
            one(&format!(r#"{{{allow}, "includes": {{"minKernel": "five"}}}}"#)),
            "(read) asks for kernel `five`",
        ),
        (one(&format!(r#"{{{allow}, "includes": {{"cap": []}}}}"#)), "unknown field `cap`"),
    ];
    check_refused(&cases);
}

#[test]
fn a_profile_that_needs_an_agent_is_refused() {
    let rule = r#"{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}"#;
    for (json, place) in [
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "defaultAction"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/run/agent"}"#, "listenerPath"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "listenerMetadata": "x"}"#, "listenerMetadata"),
        (&one(rule), "syscalls[0].action"),
    ] {
        let (kind, text) = refused(json);
        assert_eq!(kind, ErrorKind::Unsupported, "{json}");
        assert!(text.contains("needs an agent") && text.contains(&format!("`{place}`")), "{text}");
    }
}

#[test]
fn a_profile_that_is_too_long_is_refused_unread() {
    let error = Profile::parse(&vec![b' '; seccomp::PROFILE_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, SeccompError::TooLarge { .. }));
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn a_program_from_disk_must_be_one() {
    let good = compiled(DEFAULT, &conditions(Arch::X86_64, &[])).to_bytes();
    let mut overlong = good.clone();
    overlong.extend([6, 0, 0, 0, 0, 0, 0, 0].repeat(4096));
    let endless = [&b"cbpf\0\0\0\0"[..], &[0x05, 0, 0, 0, 0, 0, 0, 0]].concat();
    let jump_out = [&b"cbpf\0\0\0\0"[..], &[0x15, 0, 1, 0, 0, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0]].concat();
    let far_out = [&b"cbpf\0\0\0\0"[..], &[0x05, 0, 0, 0, 1, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0]].concat();
    let load_out = [&b"cbpf\0\0\0\0"[..], &[0x20, 0, 0, 0, 64, 0, 0, 0], &[6, 0, 0, 0, 0, 0, 0, 0]].concat();
    for bytes in [
        &b""[..],
        b"cbpf",
        b"cbpf\0\0\0\0",
        &good[1..],
        &good[..good.len() - 1],
        &good[..good.len() - 8 * 40],
        &overlong,
        &endless,
        &jump_out,
        &far_out,
        &load_out,
    ] {
        let error = Program::from_bytes(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn the_oci_form_of_a_profile_is_the_same_profile() {
    let text = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_TRACE", "errnoRet": 7, "args": [
                {"index": 0, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 1, "value": 9, "op": "SCMP_CMP_GT"},
            ]},
        ],
    });
    let spec: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(text.clone()).unwrap();
    let profile = Profile::from_oci(&spec).unwrap();
    assert_eq!(profile, Profile::parse(text.to_string().as_bytes()).unwrap());
    let program = seccomp::compile(&profile, &conditions(Arch::X86_64, &[])).unwrap();
    assert_eq!(program.flags(), 2);
}

#[test]
fn programs_that_differ_are_kept_under_different_names() {
    let base = conditions(Arch::X86_64, &["CAP_CHOWN"]);
    let key = |json: &str, conditions: &Conditions| seccomp::cache_key(json.as_bytes(), conditions);
    let keys = [
        key(DEFAULT, &base),
        key(STRICT, &base),
        key(DEFAULT, &conditions(Arch::Aarch64, &["CAP_CHOWN"])),
        key(DEFAULT, &conditions(Arch::X86_64, &[])),
        key(DEFAULT, &conditions(Arch::X86_64, &["CAP_CHOWN", "CAP_BPF"])),
        key(DEFAULT, &Conditions { kernel: (4, 7), ..base.clone() }),
    ];
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert_eq!(key(DEFAULT, &base), keys[0]);
}

#[test]
fn the_machine_we_run_on_has_filters() {
    let here = Conditions::native(BTreeSet::new(), (6, 18)).unwrap();
    assert_eq!(here.arch == Arch::X86_64, cfg!(target_arch = "x86_64"));
    assert!(!compiled(STRICT, &here).instructions().is_empty());
}

#[test]
fn a_rule_is_for_the_kernel_it_names() {
    let rule = r#"{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                  {"names": ["mseal"], "action": "SCMP_ACT_ALLOW"}"#;
    for (kernel, expected) in
        [((4, 7), EPERM), ((4, 8), ALLOW), ((4, 18), ALLOW), ((5, 0), ALLOW), ((3, 99), EPERM)]
    {
        let program = compiled(&one(rule), &Conditions { kernel, ..conditions(Arch::X86_64, &[]) });
        let call = Call { audit: 0xc000_003e, number: Arch::X86_64.syscalls()["ptrace"], args: [0; 6] };
        assert_eq!(run(&program, call).0, expected, "{kernel:?}");
    }
}

#[test]
fn tests_of_one_argument_are_alternatives_and_tests_of_several_are_not() {
    let socket = |args: &str, call: &[u64]| {
        let rule = format!(r#"{{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}"#);
        asked(&one(&rule), &[], "socket", call)
    };
    let same =
        r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 3, "op": "SCMP_CMP_GE"}"#;
    assert_eq!([1, 2, 3].map(|family| socket(same, &[family])), [ALLOW, EPERM, ALLOW]);
    let both =
        r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 3, "op": "SCMP_CMP_GE"}"#;
    assert_eq!([(1, 3), (1, 2), (2, 3)].map(|(a, b)| socket(both, &[a, b])), [ALLOW, EPERM, EPERM]);
}

#[test]
fn the_strictest_rule_that_matches_wins_in_any_order() {
    let allow = r#"{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"}"#;
    let forbid = r#"{"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                     "args": [{"index": 1, "value": 7, "op": "SCMP_CMP_EQ"}]}"#;
    let kill = r#"{"names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS",
                   "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}"#;
    for order in [[allow, forbid, kill], [kill, forbid, allow], [forbid, allow, kill]] {
        let json = one(&order.join(","));
        assert_eq!(asked(&json, &[], "ioctl", &[0, 0]), ALLOW);
        assert_eq!(asked(&json, &[], "ioctl", &[0, 7]), ERRNO | 5);
        assert_eq!(asked(&json, &[], "ioctl", &[9, 7]), KILL_PROCESS);
    }
}

#[test]
fn of_two_rules_without_arguments_the_first_counts_unless_it_repeats_the_default() {
    let [allow, two, default] = [("ALLOW", 1), ("ERRNO", 2), ("ERRNO", 1)].map(|(action, errno)| {
        format!(r#"{{"names": ["bpf"], "action": "SCMP_ACT_{action}", "errnoRet": {errno}}}"#)
    });
    let bpf = |rules: [&String; 2]| asked(&one(&format!("{},{}", rules[0], rules[1])), &[], "bpf", &[]);
    assert_eq!(bpf([&allow, &two]), ALLOW);
    assert_eq!(bpf([&two, &allow]), ERRNO | 2);
    assert_eq!(bpf([&default, &allow]), ALLOW);
}

#[test]
fn a_call_newer_than_the_profile_does_not_exist_unless_the_default_lets_it_in() {
    let rules = r#""syscalls": [{"names": ["read", "futex_waitv"], "action": "SCMP_ACT_ALLOW"}]"#;
    for (default, old, new) in [
        ("ERRNO", EPERM, ENOSYS),
        ("KILL_PROCESS", KILL_PROCESS, ENOSYS),
        ("TRAP", TRAP, ENOSYS),
        ("LOG", LOG, LOG),
        ("ALLOW", ALLOW, ALLOW),
    ] {
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_{default}", {rules}}}"#);
        assert_eq!(asked(&json, &[], "write", &[]), old, "{default}");
        assert_eq!(asked(&json, &[], "mseal", &[]), new, "{default}");
    }
}
