//! Pure: a seccomp profile in Docker's or OCI's JSON into a BPF program.
//!
//! It does not read the file and does not load the program. What the rules mean, where that differs
//! from libseccomp, and why, is in `seccomp-profiles/README.md`.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{Arch as OciArch, LinuxSeccomp};
use oci_spec::runtime::{LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag};
use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::container::bpf::{self, BpfError, Clause, Comparison, Decision, KILL_PROCESS, Program, Test};
use crate::container::syscalls::Arch;
use crate::error::{ErrorKind, Fault};
use crate::names::Digest;

/// Docker's baseline: what the Docker verbs use.
pub const DEFAULT: &str = include_str!("../../seccomp-profiles/default.json");
/// For tools of agents: what `mcp run` and sandboxes use.
pub const STRICT: &str = include_str!("../../seccomp-profiles/strict.json");

/// Longest profile, in bytes: twenty times Docker's own.
pub const PROFILE_BYTES_MAX: usize = 256 * 1024;

/// Part of the cache key: raise it with every change to what a profile compiles into.
const COMPILER_VERSION: u32 = 1;
/// Most clauses of all system calls together: each costs an instruction at least.
const CLAUSES_MAX: usize = bpf::INSTRUCTIONS_MAX;
/// How much of a system call's name an error repeats, in characters.
const NAME_CHARS_SHOWN: usize = 40;
/// Arguments of a system call.
const ARGUMENTS: usize = 6;
/// Largest number a program can see as errno (`MAX_ERRNO` of the kernel).
const ERRNO_MAX: u32 = 4095;
/// Data bits of a filter's return value.
const TRACE_DATA_MAX: u32 = 0xffff;
/// First number of the x32 calls, a second 32-bit face of x86_64.
const X32_FIRST: u32 = 0x4000_0000;
/// What a tracer leaves as number when it skips a call.
const SKIPPED: u32 = u32::MAX;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

// Return values of a filter (linux/seccomp.h) besides `KILL_PROCESS`.
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

// Flags of seccomp(2) that a profile can ask for.
const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;

/// Docker's words for architectures in `includes` and `excludes`.
const PROFILE_ARCHES: &[&str] = &[
    "amd64",
    "x86",
    "x32",
    "arm64",
    "arm",
    "mips",
    "mips64",
    "mips64n32",
    "mipsel",
    "mipsel64",
    "mipsel64n32",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390",
    "s390x",
    "loong64",
];

/// Why a profile has no program.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The file is too long to be a profile.
    #[error("seccomp profile has {bytes} bytes, more than {bytes_max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Not JSON, or a key, action or operator that nobody defines; the cause says where.
    #[error("seccomp profile cannot be read")]
    Syntax(#[source] serde_json::Error),
    /// A field outside the rules does not make sense.
    #[error("`{field}` of the seccomp profile {reason}")]
    Field {
        /// The JSON key.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule does not make sense.
    #[error("seccomp rule `syscalls[{index}]` ({name}) {reason}")]
    Rule {
        /// Its place in the list, from 0.
        index: usize,
        /// The first system call it names.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Asks for a second process that answers system calls.
    #[error("`{field}` of the seccomp profile needs an agent that answers system calls, and cuddy has none")]
    Notify {
        /// Where the profile asks for it.
        field: String,
    },
    /// No table of system calls for this machine.
    #[error("seccomp filters can be made on x86_64 and aarch64 only")]
    Arch,
    /// The program could not be made.
    #[error("seccomp profile cannot be compiled")]
    Program(#[from] BpfError),
}

impl Fault for SeccompError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::Limit,
            Self::Syntax(_) | Self::Field { .. } | Self::Rule { .. } => ErrorKind::Corrupt,
            Self::Notify { .. } | Self::Arch => ErrorKind::Unsupported,
            Self::Program(source) => source.kind(),
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TooLarge { .. } | Self::Syntax(_) | Self::Field { .. } | Self::Rule { .. } => {
                vec!["the format is that of `docker run --security-opt seccomp=FILE`".to_owned()]
            }
            Self::Notify { .. } => {
                vec!["take the rules with SCMP_ACT_NOTIFY and the listener out of the profile".to_owned()]
            }
            Self::Arch => vec!["`--security-opt seccomp=unconfined` runs without this wall".to_owned()],
            Self::Program(source) => source.hints(),
        }
    }
}

/// A profile that was read and makes sense, for every host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What the filter returns when no rule matches.
    default: u32,
    flags: u32,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    names: Vec<String>,
    verdict: u32,
    /// Alternatives: a call matches when all tests of one hold. Empty: it always matches.
    alternatives: Vec<Vec<Test>>,
    includes: Selection,
    excludes: Selection,
}

/// What of the host decides which rules of a profile count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// What the process may hold, as `CAP_SYS_ADMIN`.
    pub capabilities: BTreeSet<String>,
    /// Version and patch level of the kernel: 6, 18.
    pub kernel: (u32, u32),
    /// Whose system calls.
    pub arch: Arch,
}

impl Conditions {
    /// The conditions of the machine this program was built for.
    ///
    /// # Errors
    /// Unsupported where there is no table of system calls.
    pub fn native(capabilities: BTreeSet<String>, kernel: (u32, u32)) -> Result<Self, SeccompError> {
        let arch = Arch::NATIVE.ok_or(SeccompError::Arch)?;
        Ok(Self { capabilities, kernel, arch })
    }
}

impl Profile {
    /// Reads the JSON of a profile.
    ///
    /// # Errors
    /// Limit when it is longer than [`PROFILE_BYTES_MAX`], corrupt when it is not a profile,
    /// unsupported when it needs a listener.
    pub fn parse(json: &[u8]) -> Result<Self, SeccompError> {
        if json.len() > PROFILE_BYTES_MAX {
            return Err(SeccompError::TooLarge { bytes: json.len(), bytes_max: PROFILE_BYTES_MAX });
        }
        serde_json::from_slice::<ProfileText>(json).map_err(SeccompError::Syntax)?.check()
    }

    /// Takes the profile of an OCI runtime spec.
    ///
    /// # Errors
    /// As [`Profile::parse`].
    pub fn from_oci(spec: &LinuxSeccomp) -> Result<Self, SeccompError> {
        let rule = |rule: &oci_spec::runtime::LinuxSyscall| RuleText {
            names: Some(rule.names().clone()),
            action: rule.action(),
            errno_ret: rule.errno_ret(),
            args: rule.args().as_ref().map(|args| args.iter().map(ArgText::from_oci).collect()),
            ..RuleText::default()
        };
        ProfileText {
            default_action: spec.default_action(),
            default_errno_ret: spec.default_errno_ret(),
            default_errno: None,
            architectures: None,
            arch_map: None,
            flags: spec.flags().clone(),
            listener_path: spec.listener_path().as_ref().map(|path| path.display().to_string()),
            listener_metadata: spec.listener_metadata().clone(),
            syscalls: spec.syscalls().as_ref().map(|rules| rules.iter().map(rule).collect()),
        }
        .check()
    }
}

/// The program that carries out `profile` under `conditions`.
///
/// # Errors
/// Limit when the program would be longer than the kernel takes.
pub fn compile(profile: &Profile, conditions: &Conditions) -> Result<Program, SeccompError> {
    let numbers = conditions.arch.syscalls();
    let mut rules_of: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, rule) in profile.rules.iter().enumerate() {
        if !rule.counts(conditions) {
            continue;
        }
        let named: BTreeSet<u32> =
            rule.names.iter().filter_map(|name| numbers.get(name.as_str()).copied()).collect();
        for number in named {
            rules_of.entry(number).or_default().push(index);
        }
    }

    let mut decisions: BTreeMap<&[usize], Decision> = BTreeMap::new();
    let mut clauses = 0;
    for indices in rules_of.values() {
        if !decisions.contains_key(indices.as_slice()) {
            clauses += indices.iter().map(|index| profile.rules[*index].alternatives.len()).sum::<usize>();
            if clauses > CLAUSES_MAX {
                return Err(BpfError::TooLong { instructions_max: bpf::INSTRUCTIONS_MAX }.into());
            }
            let decision = decide(profile.default, indices.iter().map(|index| &profile.rules[*index]));
            decisions.insert(indices, decision);
        }
    }

    let (default, unknown, foreign) = (
        Decision::always(profile.default),
        Decision::always(unknown_verdict(profile.default)),
        Decision::always(KILL_PROCESS),
    );
    let mut ranges: Vec<(u32, &Decision)> = Vec::new();
    let mut next = 0;
    for (number, indices) in &rules_of {
        if next < *number {
            ranges.push((next, &default));
        }
        ranges.push((*number, &decisions[indices.as_slice()]));
        next = number + 1;
    }
    ranges.push((next, &unknown));
    if conditions.arch == Arch::X86_64 {
        ranges.push((X32_FIRST, &foreign));
        ranges.push((SKIPPED, &unknown));
    }
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    Ok(bpf::assemble(conditions.arch, &ranges, profile.flags)?)
}

/// The name under which the program of a profile may be kept: two that differ never share one.
pub fn cache_key(json: &[u8], conditions: &Conditions) -> Digest {
    let mut hash = Sha256::new();
    hash.update(COMPILER_VERSION.to_le_bytes());
    hash.update(conditions.arch.audit_number().to_le_bytes());
    hash.update(conditions.kernel.0.to_le_bytes());
    hash.update(conditions.kernel.1.to_le_bytes());
    // Lengths before the names, and a length that no name has before the JSON: no two inputs run together.
    for capability in &conditions.capabilities {
        hash.update(capability.len().to_le_bytes());
        hash.update(capability.as_bytes());
    }
    hash.update(usize::MAX.to_le_bytes());
    hash.update(json);
    Digest::from_bytes(&hash.finalize().into())
}

/// What all rules of one system call say together, in the order of the file.
///
/// The strictest that matches wins. Of several without arguments the first counts, and one that
/// repeats the default does not count: so it is with libseccomp under runc.
fn decide<'a>(default: u32, rules: impl Iterator<Item = &'a Rule>) -> Decision {
    let mut always = None;
    let mut clauses = Vec::new();
    for rule in rules {
        if !rule.alternatives.is_empty() {
            clauses.extend(
                rule.alternatives.iter().map(|tests| Clause { tests: tests.clone(), verdict: rule.verdict }),
            );
        } else if always.is_none() && rule.verdict != default {
            always = Some(rule.verdict);
        }
    }
    if let Some(always) = always {
        clauses.retain(|clause| strictness(clause.verdict) < strictness(always));
    }
    clauses.sort_by_key(|clause| strictness(clause.verdict));
    let otherwise = always.unwrap_or(default);
    while clauses.last().is_some_and(|last| last.verdict == otherwise) {
        clauses.pop();
    }
    Decision { clauses, otherwise }
}

/// The kernel's own order when several filters speak: the smaller as a signed number wins.
fn strictness(verdict: u32) -> i32 {
    (verdict & 0xffff_0000).cast_signed()
}

/// What a number that the profile's author cannot have known gets: a profile that forbids answers that
/// the call does not exist, so that a newer C library takes the older call. runc does the same.
fn unknown_verdict(default: u32) -> u32 {
    if strictness(default) < strictness(TRACE) { ERRNO | ENOSYS } else { default }
}

/// The return value of a filter for an action of a profile.
fn verdict(action: Action, data: Option<u32>) -> Result<u32, String> {
    let data_max = if action == Action::ScmpActTrace { TRACE_DATA_MAX } else { ERRNO_MAX };
    let data = data.unwrap_or(EPERM);
    if data > data_max {
        return Err(format!("has an errno of {data}, and the largest is {data_max}"));
    }
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => KILL_THREAD,
        Action::ScmpActKillProcess => KILL_PROCESS,
        Action::ScmpActTrap => TRAP,
        Action::ScmpActErrno => ERRNO | data,
        Action::ScmpActTrace => TRACE | data,
        Action::ScmpActLog => LOG,
        Action::ScmpActAllow => ALLOW,
        Action::ScmpActNotify => return Err("has the action SCMP_ACT_NOTIFY".to_owned()),
    })
}

/// Which hosts a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    capabilities: Vec<String>,
    arches: Vec<String>,
    kernel: Option<(u32, u32)>,
}

impl Rule {
    /// Whether all that `includes` names is there and nothing that `excludes` names is.
    fn counts(&self, conditions: &Conditions) -> bool {
        let arch = |name: &String| name == conditions.arch.profile_name();
        let (includes, excludes) = (&self.includes, &self.excludes);
        includes.capabilities.iter().all(|name| conditions.capabilities.contains(name))
            && (includes.arches.is_empty() || includes.arches.iter().any(arch))
            && includes.kernel.is_none_or(|least| conditions.kernel >= least)
            && !excludes.capabilities.iter().any(|name| conditions.capabilities.contains(name))
            && !excludes.arches.iter().any(arch)
            && excludes.kernel.is_none_or(|least| conditions.kernel < least)
    }
}

// ── the text as it is written ───────────────────────────────────────────────────────────────────

/// `null` stands for "not there", as Go's encoder writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileText {
    default_action: Action,
    default_errno_ret: Option<u32>,
    default_errno: Option<String>,
    architectures: Option<Vec<OciArch>>,
    arch_map: Option<Vec<ArchMapText>>,
    flags: Option<Vec<Flag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    syscalls: Option<Vec<RuleText>>,
}

/// Which other architectures run with one: read so that a mistake is found, and not used, because no
/// filter of ours lets another architecture in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "only its form is checked")]
struct ArchMapText {
    architecture: OciArch,
    sub_architectures: Option<Vec<OciArch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleText {
    names: Option<Vec<String>>,
    name: Option<String>,
    action: Action,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<ArgText>>,
    includes: Option<SelectionText>,
    excludes: Option<SelectionText>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArgText {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: Operator,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SelectionText {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl ProfileText {
    fn check(self) -> Result<Profile, SeccompError> {
        let wrong = |field, reason: &str| SeccompError::Field { field, reason: reason.to_owned() };
        if self.listener_path.is_some_and(|path| !path.is_empty()) {
            return Err(SeccompError::Notify { field: "listenerPath".to_owned() });
        }
        if self.listener_metadata.is_some_and(|text| !text.is_empty()) {
            return Err(SeccompError::Notify { field: "listenerMetadata".to_owned() });
        }
        if self.default_action == Action::ScmpActNotify {
            return Err(SeccompError::Notify { field: "defaultAction".to_owned() });
        }
        if self.default_errno.is_some() && self.default_errno_ret.is_none() {
            return Err(wrong("defaultErrno", "is a word: write the number as `defaultErrnoRet`"));
        }
        let architectures = self.architectures.is_some_and(|list| !list.is_empty());
        if architectures && self.arch_map.is_some_and(|list| !list.is_empty()) {
            return Err(wrong("archMap", "stands beside `architectures`: one of them says it all"));
        }
        let default = verdict(self.default_action, self.default_errno_ret)
            .map_err(|reason| SeccompError::Field { field: "defaultErrnoRet", reason })?;
        let flags = self.flags.unwrap_or_default().iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::SeccompFilterFlagLog => FLAG_LOG,
                    Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                    // One thread loads the filter, and no listener waits: nothing is left to do.
                    Flag::SeccompFilterFlagTsync | Flag::SeccompFilterFlagWaitKillableRecv => 0,
                }
        });
        let rules = self.syscalls.unwrap_or_default().into_iter().enumerate();
        let rules = rules.map(|(index, rule)| rule.check(index)).collect::<Result<_, _>>()?;
        Ok(Profile { default, flags, rules })
    }
}

impl RuleText {
    fn check(self, index: usize) -> Result<Rule, SeccompError> {
        let both = self.name.as_ref().is_some_and(|name| !name.is_empty())
            && self.names.as_ref().is_some_and(|names| !names.is_empty());
        let names: Vec<String> = self
            .name
            .into_iter()
            .filter(|name| !name.is_empty())
            .chain(self.names.into_iter().flatten())
            .collect();
        let first = names.first().map(|name| name.chars().take(NAME_CHARS_SHOWN).collect::<String>());
        let wrong = |reason: String| SeccompError::Rule {
            index,
            name: first.clone().unwrap_or_else(|| "without a name".to_owned()),
            reason,
        };
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(wrong("names no system call".to_owned()));
        }
        if both {
            return Err(wrong("has both `name` and `names`".to_owned()));
        }
        if self.action == Action::ScmpActNotify {
            return Err(SeccompError::Notify { field: format!("syscalls[{index}].action") });
        }
        if self.errno.is_some() && self.errno_ret.is_none() {
            return Err(wrong("gives `errno` as a word: write the number as `errnoRet`".to_owned()));
        }
        Ok(Rule {
            verdict: verdict(self.action, self.errno_ret).map_err(&wrong)?,
            alternatives: alternatives(&self.args.unwrap_or_default()).map_err(&wrong)?,
            includes: self.includes.unwrap_or_default().check().map_err(&wrong)?,
            excludes: self.excludes.unwrap_or_default().check().map_err(&wrong)?,
            names,
        })
    }
}

/// All tests together; but when one argument is asked about twice, each test alone: so Docker's runtime
/// reads a rule, and profiles count on it.
fn alternatives(args: &[ArgText]) -> Result<Vec<Vec<Test>>, String> {
    let tests = args.iter().map(ArgText::check).collect::<Result<Vec<Test>, _>>()?;
    let distinct: BTreeSet<u8> = tests.iter().map(|test| test.argument).collect();
    Ok(if tests.is_empty() {
        Vec::new()
    } else if distinct.len() == tests.len() {
        vec![tests]
    } else {
        tests.into_iter().map(|test| vec![test]).collect()
    })
}

impl ArgText {
    fn from_oci(arg: &LinuxSeccompArg) -> Self {
        Self { index: arg.index(), value: arg.value(), value_two: arg.value_two(), op: arg.op() }
    }

    fn check(&self) -> Result<Test, String> {
        let argument =
            u8::try_from(self.index).ok().filter(|index| usize::from(*index) < ARGUMENTS).ok_or_else(
                || format!("asks about argument {}, and the last is {}", self.index, ARGUMENTS - 1),
            )?;
        let (comparison, value) = match self.op {
            Operator::ScmpCmpEq => (Comparison::Masked { mask: u64::MAX }, self.value),
            Operator::ScmpCmpMaskedEq => {
                (Comparison::Masked { mask: self.value }, self.value_two.unwrap_or(0))
            }
            Operator::ScmpCmpNe => (Comparison::NotEqual, self.value),
            Operator::ScmpCmpLt => (Comparison::Below, self.value),
            Operator::ScmpCmpLe => (Comparison::AtMost, self.value),
            Operator::ScmpCmpGe => (Comparison::AtLeast, self.value),
            Operator::ScmpCmpGt => (Comparison::Above, self.value),
        };
        Ok(Test { argument, comparison, value })
    }
}

impl SelectionText {
    fn check(self) -> Result<Selection, String> {
        let arches = self.arches.unwrap_or_default();
        if let Some(arch) = arches.iter().find(|arch| !PROFILE_ARCHES.contains(&arch.as_str())) {
            return Err(format!("names the unknown architecture `{arch}`"));
        }
        let capabilities = self.caps.unwrap_or_default();
        let is_capability = |name: &str| {
            name.strip_prefix("CAP_").is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b == b'_' || b.is_ascii_uppercase())
            })
        };
        if let Some(name) = capabilities.iter().find(|name| !is_capability(name)) {
            return Err(format!("names `{name}`, which is not a capability such as `CAP_SYS_ADMIN`"));
        }
        let kernel = self.min_kernel.filter(|text| !text.is_empty());
        let kernel = kernel.map(|text| kernel_version(&text).ok_or(text)).transpose();
        let kernel =
            kernel.map_err(|text| format!("asks for kernel `{text}`, expected a version such as `4.8`"))?;
        Ok(Selection { capabilities, arches, kernel })
    }
}

fn kernel_version(text: &str) -> Option<(u32, u32)> {
    let (version, patch) = text.split_once('.')?;
    Some((version.parse().ok()?, patch.parse().ok()?))
}
