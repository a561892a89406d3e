//! `mcp run`: an agent's tool under the strict policy; and the same policy for a sandbox that is held for
//! the commands that come.
//!
//! The policy says what is let in; everything else stays out: no home folder, no network, no variable,
//! no capability. What the program itself needs to start is found by `engine::program`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::container::delegation;
use crate::container::idmap::IdMap;
use crate::container::limits::{Limits, Resource};
use crate::container::options::{
    EnvEntry, HOST_IMAGE, Network, OptionError, PATH_DEFAULT, SHM_BYTES_DEFAULT, SeccompChoice, Ulimit,
};
use crate::container::plan::{PlannedMount, PlannedSource};
use crate::container::spec::Masks;
use crate::engine::host::Host;
use crate::engine::host_image::{self, Account};
use crate::engine::images;
use crate::engine::launch::{self, Decided, Finished, RootChoice, Stack, Unenforced, Warn};
use crate::engine::program::{self, Needs, ProgramError, Question};
use crate::engine::reach::{self, Mount, ReachError};
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::fs;
use crate::sys::process;

/// Memory of a tool, and swap, unless something else is said, in bytes.
const MEMORY_BYTES_DEFAULT: u64 = 4 << 30;
/// Processes of a tool unless something else is said.
const PIDS_DEFAULT: u64 = 1024;
/// Most open files of a tool.
const FILES_MAX: u64 = 65_536;
/// Size of the tool's `/tmp`, for tmpfs(5).
const TMP_OPTIONS: &str = "mode=1777,size=1g";
/// Where Landlock lets every tool write: memory of its own, and devices that hold nothing.
const WRITABLE: [&str; 10] = [
    "/dev/full",
    "/dev/mqueue",
    "/dev/null",
    "/dev/pts",
    "/dev/random",
    "/dev/shm",
    "/dev/tty",
    "/dev/urandom",
    "/dev/zero",
    "/tmp",
];
/// What stands for the command where there is none: nobody executes it.
const NOBODY: &str = "sandbox";
/// How long a tool has to end after it was asked to, in seconds.
const GRACE_S: u64 = 10;
/// Largest `.git` file of a worktree that is read, in bytes.
const GITFILE_BYTES_MAX: u64 = 4 << 10;

/// What a tool may do, as it was asked for.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The tool's command line.
    pub command: Vec<String>,
    /// Folders it works in, and whether it may only read them.
    pub workspaces: Vec<(PathBuf, bool)>,
    /// What else it may read.
    pub read_only: Vec<PathBuf>,
    /// What else it may write.
    pub read_write: Vec<PathBuf>,
    /// What it must not see though it lies in what is shown.
    pub hidden: Vec<PathBuf>,
    /// Its variables.
    pub environment: Vec<EnvEntry>,
    /// Its network.
    pub network: Network,
    /// Limits that were named.
    pub limits: Limits,
    /// `@host` or an image.
    pub image: String,
    /// A profile of its own.
    pub seccomp: Option<PathBuf>,
}

/// What a sandbox sees and may do, before it exists.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What is executed.
    pub program: PathBuf,
    /// The whole command line.
    pub command: Vec<String>,
    /// The folder it starts in.
    pub workdir: String,
    /// The image.
    pub image: String,
    /// Who it is inside: user id, group id.
    pub user: (u32, u32),
    /// What it can reach of the host's files.
    pub files: Vec<FileAccess>,
    /// What is hidden of them.
    pub hidden: Vec<PathBuf>,
    /// The names of its variables.
    pub environment: Vec<String>,
    /// Its network.
    pub network: Network,
    /// What is limited, and by what.
    pub limits: Vec<String>,
    /// The other walls, one line each.
    pub walls: Vec<String>,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// One path of the host that is visible inside.
#[derive(Debug, Serialize)]
pub struct FileAccess {
    /// The same path inside and outside.
    pub path: PathBuf,
    /// It can be written.
    pub writable: bool,
    /// What it is for.
    pub why: String,
    /// It was compared with what is allowed: a link in its path would lead elsewhere.
    #[serde(skip)]
    pub no_links: bool,
}

/// Runs the tool in the foreground on our own standard input and output.
///
/// # Errors
/// What kept the tool from being executed.
pub fn run(host: &Host, policy: Policy, warn: Warn<'_>) -> Result<Finished, Error> {
    let places = launch::open(host, warn)?;
    let decision = match decide(host, policy, &Purpose::Run, warn) {
        Ok(decision) => decision,
        Err(Undecided::Program(fault)) => {
            // As a shell and Docker have it: 127 for none, 126 for one that cannot be executed.
            let error = Error::from(fault);
            let code = if error.kind == ErrorKind::NotFound { 127 } else { 126 };
            return Ok(Finished { code, error: Some(error) });
        }
        Err(Undecided::Other(error)) => return Err(error),
    };
    for note in &decision.notes {
        warn(note);
    }
    launch::carry_out(host, places, decision.decided, None, warn)
}

/// Holds a sandbox without a command of its own for `owner`, until that asks it to end or is gone. Of the
/// host's programs outside its system folders `programs` can be started in it.
///
/// # Errors
/// What kept the sandbox from being made.
pub fn hold(
    host: &Host,
    policy: Policy,
    programs: Vec<String>,
    owner: OwnedFd,
    warn: Warn<'_>,
) -> Result<Finished, Error> {
    let places = launch::open(host, warn)?;
    let decision = decide(host, policy, &Purpose::Hold { programs }, warn)?;
    for note in &decision.notes {
        warn(note);
    }
    launch::carry_out(host, places, Decided { owner: Some(owner), ..decision.decided }, None, warn)
}

/// What a sandbox is made for.
enum Purpose {
    /// The policy's command, and nothing after it.
    Run,
    /// Commands that come later.
    Hold {
        /// What must be there for them.
        programs: Vec<String>,
    },
}

/// Says what [`run`] would do, and starts nothing.
///
/// # Errors
/// What would keep the tool from being started.
pub fn explain(host: &Host, policy: Policy, warn: Warn<'_>) -> Result<Explanation, Error> {
    let decision = decide(host, policy, &Purpose::Run, warn)?;
    let decided = &decision.decided;
    let name_of = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    Ok(Explanation {
        program: decision.program,
        command: decided.arguments.clone(),
        workdir: decided.workdir.clone(),
        image: decided.image.clone(),
        user: (host.uid, host.gid),
        files: decision.files,
        hidden: decision.hidden,
        environment: decided.environment.iter().map(name_of).collect(),
        network: decided.network,
        limits: enforced(host, &decided.limits),
        walls: walls(&decided.seccomp),
        notes: decision.notes,
    })
}

fn walls(seccomp: &SeccompChoice) -> Vec<String> {
    let profile = match seccomp {
        SeccompChoice::File(path) => path.display().to_string(),
        _ => "strict".to_owned(),
    };
    vec![
        "own user, mount, process, IPC, host name, cgroup and network namespaces".to_owned(),
        "no capability, and none to be gained (no_new_privs)".to_owned(),
        format!("system calls by the profile `{profile}`"),
        "Landlock: files are written only where said above; sockets without a file and signals stop at the edge".to_owned(),
        "root filesystem read-only; /proc in parts hidden or read-only; no /sys; /dev with six devices".to_owned(),
        "no descriptor, keyring or terminal of the caller".to_owned(),
    ]
}

/// What each limit is and by what it is held on this host, one line each.
pub fn enforced(host: &Host, limits: &Limits) -> Vec<String> {
    let environment = delegation::Environment { uid: host.uid, runtime_dir: host.runtime.clone() };
    let support = delegation::probe(&environment);
    let line = |resource: Resource| {
        let what = match resource {
            Resource::Memory => limits.memory_bytes.map(|b| format!("{} MiB", b >> 20)),
            Resource::Swap => limits.memory_swap_bytes.map(|b| format!("{} MiB", b >> 20)),
            Resource::Cpu => limits.cpu_quota.map(|q| format!("{} us of {} us", q.quota_us, q.period_us)),
            Resource::Pids => limits.pids.map(|p| p.to_string()),
        };
        let by = match support.way(&[resource]) {
            Ok(way) => format!("by a cgroup {way}"),
            Err(_) if resource == Resource::Pids && host.uid != 0 => {
                "by RLIMIT_NPROC of its user namespace".to_owned()
            }
            Err(lack) => format!("NOT enforced here: {}", lack.reason),
        };
        format!("{}: {}, {by}", resource.noun(), what.unwrap_or_default())
    };
    limits.resources().into_iter().map(line).collect()
}

/// Why there is no decision.
enum Undecided {
    /// The program is not there, or cannot be executed.
    Program(ProgramError),
    /// Everything else.
    Other(Error),
}

impl From<Error> for Undecided {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Undecided> for Error {
    fn from(undecided: Undecided) -> Self {
        match undecided {
            Undecided::Program(fault) => fault.into(),
            Undecided::Other(error) => error,
        }
    }
}

struct Decision {
    decided: Decided,
    program: PathBuf,
    files: Vec<FileAccess>,
    hidden: Vec<PathBuf>,
    notes: Vec<String>,
}

/// The mounts that the policy names, as access.
fn named(host: &Host, policy: &Policy, purpose: &Purpose) -> Result<Vec<FileAccess>, Error> {
    let no_links = matches!(purpose, Purpose::Hold { .. });
    let mut files = Vec::new();
    let mut add = |flag: &'static str, path: &Path, writable: bool, why: &str| -> Result<(), Error> {
        let path = absolute(host, flag, path)?;
        files.push(FileAccess { path, writable, why: why.to_owned(), no_links });
        Ok(())
    };
    for (path, read_only) in &policy.workspaces {
        add("--workspace", path, !read_only, "workspace")?;
    }
    for path in &policy.read_only {
        add("--ro", path, false, "named with --ro")?;
    }
    for path in &policy.read_write {
        add("--rw", path, true, "named with --rw")?;
    }
    // A folder stands over the one that it lies in, whatever was named first; the sort is stable.
    files.sort_by_key(depth);
    Ok(files)
}

fn depth(file: &FileAccess) -> usize {
    file.path.components().count()
}

/// The folders between what may be written and what in it may not, or must not be seen. Each is mounted on itself: a
/// folder that is no mount could be moved away with what stands on it, and another be made in its place.
fn held(named: &[FileAccess], hidden: &[PathBuf]) -> Vec<FileAccess> {
    let kept = named.iter().filter(|file| !file.writable).map(|file| &file.path).chain(hidden);
    let mut held = BTreeMap::new();
    for path in kept {
        let mut between = Vec::new();
        for folder in path.ancestors().skip(1) {
            match named.iter().rfind(|file| file.path == folder) {
                Some(around) if around.writable => {
                    held.extend(between.drain(..).map(|folder| (folder, (path, around.no_links))));
                    break;
                }
                Some(_) => break,
                None => between.push(folder),
            }
        }
    }
    let file = |(folder, (path, no_links)): (&Path, (&PathBuf, bool))| FileAccess {
        path: folder.to_owned(),
        writable: true,
        no_links,
        why: format!("stays where it is, for `{}` lies in it", path.display()),
    };
    held.into_iter().map(file).collect()
}

/// A path that may be shown: it is there, and neither it nor what it leads to is the root or where the
/// kernel's own files are.
fn absolute(host: &Host, flag: &'static str, path: &Path) -> Result<PathBuf, Error> {
    let typed = host.cwd.join(path);
    let never = || {
        let reason = "the root and the kernel's own folders are never shown";
        Error::from(OptionError::value(flag, path.display().to_string(), reason))
    };
    let walk = match reach::walk(&typed) {
        Err(ReachError::Walk { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let text = format!("`{}` of `{flag}` does not exist", typed.display());
            let error = Error::new(ErrorKind::NotFound, text);
            return Err(error.hint(format!("make it first: `mkdir -p {}`", typed.display())));
        }
        Err(ReachError::Private { .. }) => return Err(never()),
        other => other?,
    };
    if walk.real == Path::new("/") {
        return Err(never());
    }
    // Behind a link `..` is another folder than the text says: then it is the one that the kernel finds.
    let has_parent = typed.components().any(|part| part == Component::ParentDir);
    Ok(if has_parent { walk.real } else { typed.components().collect() })
}

fn decide(host: &Host, policy: Policy, purpose: &Purpose, warn: Warn<'_>) -> Result<Decision, Undecided> {
    let mut named = named(host, &policy, purpose)?;
    let hidden = hidden(host, &policy)?;
    named.extend(held(&named, &hidden));
    named.sort_by_key(depth);
    let mut ground = if policy.image == HOST_IMAGE {
        host_ground(host, &policy, purpose, &named)?
    } else {
        image_ground(host, &policy, purpose, &named, warn)?
    };
    // What was named comes later, so that it stands over what was found.
    let mut files = std::mem::take(&mut ground.needed);
    files.extend(named);
    let mut notes = std::mem::take(&mut ground.notes);
    notes
        .extend(policy.workspaces.iter().filter_map(|(path, _)| worktree_note(&host.cwd.join(path), &files)));
    if process::landlock_version().is_none() {
        notes.push("this kernel has no Landlock: the second wall around files is missing".to_owned());
    }
    let mut mounts = ground.mounts;
    mounts.push(tmpfs("/tmp"));
    mounts.extend(files.iter().map(bind));
    mounts.extend(hidden.iter().map(|path| hide(path)));
    let program = ground.arguments.first().map(PathBuf::from).unwrap_or_default();
    let mut landlock: Vec<PathBuf> = WRITABLE.iter().map(PathBuf::from).collect();
    landlock.extend(files.iter().filter(|f| f.writable).map(|f| f.path.clone()));
    let decided = Decided {
        verb: match purpose {
            Purpose::Run => "mcp run",
            Purpose::Hold { .. } => "mcp serve",
        },
        image: policy.image.clone(),
        name: None,
        cidfile: None,
        root: ground.root,
        read_only: true,
        mounts,
        links: ground.links,
        files: ground.files,
        volumes: Vec::new(),
        user: None,
        groups: Vec::new(),
        map: Some(IdMap::single((host.uid, host.gid), (host.uid, host.gid))),
        arguments: ground.arguments,
        environment: environment(host, &policy, ground.environment),
        workdir: ground.workdir,
        hostname: Some("sandbox".to_owned()),
        hosts: Vec::new(),
        interactive: matches!(purpose, Purpose::Run),
        tty: false,
        capabilities: Vec::new(),
        no_new_privileges: true,
        seccomp: policy.seccomp.clone().map_or(SeccompChoice::Strict, SeccompChoice::File),
        landlock: Some(landlock),
        masks: Masks::Strict,
        ulimits: ulimits(),
        network: policy.network,
        shm_bytes: SHM_BYTES_DEFAULT,
        devices: Vec::new(),
        labels: Vec::new(),
        limits: with_defaults(&policy.limits),
        unenforced: Unenforced::Refuse { named: policy.limits.resources() },
        init: true,
        umask: host.umask,
        grace: Some(Duration::from_secs(GRACE_S)),
        owner: None,
    };
    Ok(Decision { decided, program, files, hidden, notes })
}

/// What the sandbox stands on: the host's system folders, or an image.
struct Ground {
    root: RootChoice,
    mounts: Vec<PlannedMount>,
    links: Vec<(PathBuf, PathBuf)>,
    files: Vec<(PathBuf, String)>,
    needed: Vec<FileAccess>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    workdir: String,
    notes: Vec<String>,
}

fn host_ground(
    host: &Host,
    policy: &Policy,
    purpose: &Purpose,
    named: &[FileAccess],
) -> Result<Ground, Undecided> {
    if policy.command.is_empty() && matches!(purpose, Purpose::Run) {
        let error = Error::new(ErrorKind::Usage, "no command was given");
        let hint = "write the server's command line behind `--`: `cuddy mcp run -- node server.js`";
        return Err(error.hint(hint).into());
    }
    let home = host.home.as_deref().and_then(Path::to_str).unwrap_or("/");
    let account = Account { name: &host.login, uid: host.uid, gid: host.gid, home };
    let described = host_image::describe(&account);
    let mut visible = described.visible();
    visible.extend(named.iter().map(|f| f.path.clone()));
    let (needs, arguments) = match purpose {
        Purpose::Run => {
            let found = needs(host, &policy.command, &visible).map_err(Undecided::Program)?;
            let mut arguments = policy.command.clone();
            arguments[0] = found.program.display().to_string();
            (found, arguments)
        }
        Purpose::Hold { programs } => {
            let found = needs_of_all(host, programs, &visible).map_err(Undecided::Program)?;
            (found, vec![NOBODY.to_owned()])
        }
    };
    let path: Vec<String> = needs.path.iter().map(|p| p.display().to_string()).collect();
    let path = if path.is_empty() { PATH_DEFAULT.to_owned() } else { path.join(":") };
    let needed =
        |m: &Mount| FileAccess { path: m.path.clone(), writable: false, why: m.why.clone(), no_links: false };
    Ok(Ground {
        root: RootChoice::Empty(described.root),
        mounts: described.mounts,
        links: needs.symlinks,
        files: described.files,
        needed: needs.mounts.iter().map(needed).collect(),
        arguments,
        environment: vec![("PATH".to_owned(), path)],
        workdir: workdir(host, named, purpose).unwrap_or("/").to_owned(),
        notes: needs.notes,
    })
}

/// An image's own user counts for nothing here: the tool is the caller, so that the workspace is its own.
fn image_ground(
    host: &Host,
    policy: &Policy,
    purpose: &Purpose,
    named: &[FileAccess],
    warn: Warn<'_>,
) -> Result<Ground, Error> {
    let image = images::defaults(host, &policy.image, None, warn)?;
    let mut arguments = image.entrypoint;
    arguments.extend_from_slice(if policy.command.is_empty() { &image.command } else { &policy.command });
    if matches!(purpose, Purpose::Hold { .. }) {
        arguments = vec![NOBODY.to_owned()];
    }
    if arguments.is_empty() {
        return Err(OptionError::NoCommand { image: policy.image.clone() }.into());
    }
    let is_shown = |path: &&str| named.iter().any(|f| Path::new(path).starts_with(&f.path));
    let workdir = workdir(host, named, purpose).filter(is_shown).map(str::to_owned).or(image.workdir);
    let pair = |text: String| text.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
    let mut environment = vec![("PATH".to_owned(), PATH_DEFAULT.to_owned())];
    environment.extend(image.environment.into_iter().filter_map(pair));
    Ok(Ground {
        root: image.root.unwrap_or(RootChoice::Layers(Stack::default())),
        mounts: Vec::new(),
        links: Vec::new(),
        files: Vec::new(),
        needed: Vec::new(),
        arguments,
        environment,
        workdir: workdir.unwrap_or_else(|| "/".to_owned()),
        notes: Vec::new(),
    })
}

/// What the program outside the system folders needs.
fn needs(host: &Host, command: &[String], visible: &[PathBuf]) -> Result<Needs, ProgramError> {
    let command: Vec<OsString> = command.iter().map(OsString::from).collect();
    let pyenv = host.environment.get("PYENV_VERSION").map(OsString::from);
    program::find(&Question {
        command: &command[0],
        arguments: &command[1..],
        path: &host.path,
        cwd: &host.cwd,
        home: host.home.as_deref(),
        pyenv_version: pyenv.as_deref(),
        system: visible,
    })
}

/// What several programs need, together; without any, what the host's own need.
fn needs_of_all(host: &Host, programs: &[String], visible: &[PathBuf]) -> Result<Needs, ProgramError> {
    let mut all = Needs::default();
    for name in programs.iter().map(String::as_str).chain(["sh"]) {
        let found = needs(host, &[name.to_owned()], visible)?;
        let is_new = |path: &PathBuf| !all.mounts.iter().any(|have| path.starts_with(&have.path));
        let mounts: Vec<Mount> = found.mounts.into_iter().filter(|mount| is_new(&mount.path)).collect();
        all.mounts.extend(mounts);
        let links: Vec<_> = found.symlinks.into_iter().filter(|link| !all.symlinks.contains(link)).collect();
        all.symlinks.extend(links);
        let path: Vec<PathBuf> = found.path.into_iter().filter(|dir| !all.path.contains(dir)).collect();
        all.path.extend(path);
        all.notes.extend(found.notes);
    }
    // A mount hides what was mounted below its place before: the outer ones come first.
    all.mounts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// The caller's folder: relative arguments mean the same inside, even where it is otherwise empty. Where
/// commands come later there are none: they begin in the first workspace.
fn workdir<'a>(host: &'a Host, named: &'a [FileAccess], purpose: &Purpose) -> Option<&'a str> {
    if matches!(purpose, Purpose::Hold { .. }) {
        return named.first().and_then(|file| file.path.to_str());
    }
    let kernel = ["/proc", "/sys", "/dev"].iter().any(|p| host.cwd.starts_with(p));
    host.cwd.to_str().filter(|_| !kernel)
}

fn tmpfs(target: &str) -> PlannedMount {
    PlannedMount {
        what: PlannedSource::Tmpfs { options: TMP_OPTIONS.to_owned(), exec: true },
        target: target.into(),
        read_only: false,
        propagation: None,
    }
}

/// The paths that are hidden, the outermost first.
fn hidden(host: &Host, policy: &Policy) -> Result<Vec<PathBuf>, Error> {
    let paths = policy.hidden.iter().map(|path| absolute(host, "--hide", path));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.dedup();
    // What lies in a hidden folder is hidden with it, and could not be mounted on.
    let all = paths.clone();
    paths.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    Ok(paths)
}

/// An empty folder that cannot be entered, or an empty file, over what stands there.
fn hide(path: &Path) -> PlannedMount {
    let what = if path.is_dir() {
        PlannedSource::Tmpfs { options: "mode=000,size=4k,nr_inodes=1".to_owned(), exec: false }
    } else {
        PlannedSource::Bind { path: "/dev/null".into(), optional: false, no_links: false }
    };
    PlannedMount { what, target: path.to_owned(), read_only: true, propagation: None }
}

fn bind(file: &FileAccess) -> PlannedMount {
    PlannedMount {
        what: PlannedSource::Bind { path: file.path.clone(), optional: false, no_links: file.no_links },
        target: file.path.clone(),
        read_only: !file.writable,
        propagation: None,
    }
}

/// Nothing of ours goes in but what is named; the rest says how to find programs and where to write.
fn environment(host: &Host, policy: &Policy, ground: Vec<(String, String)>) -> Vec<String> {
    let mut values = BTreeMap::from([
        ("HOME".to_owned(), "/tmp".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("LOGNAME".to_owned(), host.login.clone()),
        ("USER".to_owned(), host.login.clone()),
    ]);
    values.extend(ground);
    for entry in &policy.environment {
        match entry {
            EnvEntry::Set(name, value) => {
                values.insert(name.clone(), value.clone());
            }
            EnvEntry::Copy(name) => {
                if let Some(value) = host.environment.get(name) {
                    values.insert(name.clone(), value.clone());
                }
            }
        }
    }
    values.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn ulimits() -> Vec<Ulimit> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let hard = files.maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    let soft = files.current.unwrap_or(hard).min(hard);
    let limit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
    vec![limit("core", 0, 0), limit("memlock", 0, 0), limit("msgqueue", 0, 0), limit("nofile", soft, hard)]
}

/// What was named, and the defaults for the rest.
pub fn with_defaults(named: &Limits) -> Limits {
    let defaults = Limits {
        memory_bytes: Some(MEMORY_BYTES_DEFAULT),
        // Without one a tool could fill the host's swap.
        memory_swap_bytes: Some(MEMORY_BYTES_DEFAULT),
        cpu_quota: None,
        pids: Some(PIDS_DEFAULT),
    };
    Limits {
        memory_bytes: named.memory_bytes.or(defaults.memory_bytes),
        memory_swap_bytes: named.memory_swap_bytes.or(defaults.memory_swap_bytes),
        cpu_quota: named.cpu_quota.or(defaults.cpu_quota),
        pids: named.pids.or(defaults.pids),
    }
}

/// A worktree keeps its history elsewhere: without that folder git finds no repository.
fn worktree_note(workspace: &Path, files: &[FileAccess]) -> Option<String> {
    let text = fs::read_file(&workspace.join(".git"), GITFILE_BYTES_MAX).ok()?;
    let text = String::from_utf8(text).ok()?;
    let folder = workspace.join(text.strip_prefix("gitdir:")?.trim());
    // `…/.git/worktrees/NAME`: the objects are two levels up.
    let common = folder.parent().and_then(Path::parent).unwrap_or(&folder);
    if files.iter().any(|f| common.starts_with(&f.path)) {
        return None;
    }
    let (workspace, common) = (workspace.display(), common.display());
    Some(format!("`{workspace}` is a git worktree; git needs its repository too: `--rw {common}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_around_what_is_kept_can_be_moved_away() {
        let file = |path: &str, writable| FileAccess {
            path: path.into(),
            writable,
            no_links: true,
            why: String::new(),
        };
        let named = [file("/w", true), file("/w/a/b/ro", false), file("/r", false), file("/r/x/in", false)];
        let held = held(&named, &["/w/c/hidden".into(), "/w/top".into(), "/elsewhere/x".into()]);
        let paths: Vec<&Path> = held.iter().map(|file| file.path.as_path()).collect();
        assert_eq!(paths, ["/w/a", "/w/a/b", "/w/c"].map(Path::new));
        assert!(held.iter().all(|file| file.writable && file.no_links));
    }
}
