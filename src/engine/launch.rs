//! Carries one decided container out, from its place on disk to its end; every surface comes by here.
//!
//! It decides nothing but what only the moment can tell: the id, where a cgroup can be had.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource as Rlimit, getrlimit};
use serde::{Deserialize, Serialize};

use crate::audit;
use crate::container::bpf::Program;
use crate::container::cgroup::{self, Cgroup, CgroupError};
use crate::container::delegation::{self, Lack, Support};
use crate::container::idmap::IdMap;
use crate::container::idspace;
use crate::container::lifecycle::{self, Launch, Moment, Outcome, Running, Waiting};
use crate::container::limits::{Limits, Resource};
use crate::container::options::{DeviceRequest, Network, SeccompChoice, Ulimit};
use crate::container::plan::{End, First, Plan, PlannedMount, Root, Walls, hex};
use crate::container::seccomp::{self, Conditions, Profile};
use crate::container::spec::{self, Masks, SpecRequest};
use crate::container::state::{Folders, Leftover, Place, Places, ProcessId};
use crate::container::syscalls::Arch;
use crate::engine::host::Host;
use crate::error::{Error, ErrorKind};
use crate::image::leases::Inside;
use crate::names::{ContainerId, Digest, Name};
use crate::sys::channel;
use crate::sys::fs::{self, FsError};
use crate::sys::process::ProcessError;

/// Largest filter on disk, in bytes: what the kernel takes and our header.
const FILTER_BYTES_MAX: u64 = 64 << 10;

/// One line for the person who asked, on standard error.
pub type Warn<'a> = &'a mut dyn FnMut(&str);

/// What stands at `/`, before there is a place for it.
#[derive(Debug)]
pub enum RootChoice {
    /// Filled by the mounts.
    Empty(Root),
    /// Layers of an image.
    Layers(Stack),
}

/// Layers of an image in the store, and what keeps them there until the container's record does.
#[derive(Debug, Default)]
pub struct Stack {
    /// The image's id.
    pub image: Option<Digest>,
    /// Their folders, bottom first.
    pub folders: Vec<PathBuf>,
    /// Nothing of the store goes while this is held.
    pub held: Option<Inside>,
}

/// What becomes of a limit that this host cannot enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unenforced {
    /// A warning, and the container runs without, as Docker does.
    Warn,
    /// An error for the named ones; the others were only a default and are told in one line.
    Refuse {
        /// What a person named.
        named: Vec<Resource>,
    },
}

/// One container, decided.
#[derive(Debug)]
pub struct Decided {
    /// What was asked for, for the audit: `run`, `mcp run`.
    pub verb: &'static str,
    /// The image as typed.
    pub image: String,
    /// Its name.
    pub name: Option<Name>,
    /// Its id is written here.
    pub cidfile: Option<PathBuf>,
    /// What stands at `/`.
    pub root: RootChoice,
    /// `/` cannot be written.
    pub read_only: bool,
    /// Mounts, in order.
    pub mounts: Vec<PlannedMount>,
    /// Links to make once the mounts stand: where, what it says.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Files of ours.
    pub files: Vec<(PathBuf, String)>,
    /// Volumes to be made that end with the container.
    pub volumes: Vec<ContainerId>,
    /// Who the command is, to be looked up inside; `None` is the map's first user.
    pub user: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// The ids there are.
    pub map: Option<IdMap>,
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// The command's folder.
    pub workdir: String,
    /// Host name; `None` is the short id.
    pub hostname: Option<String>,
    /// More lines of `/etc/hosts`: name, address.
    pub hosts: Vec<(String, String)>,
    /// Our input is the command's.
    pub interactive: bool,
    /// A terminal of its own.
    pub tty: bool,
    /// Capabilities by full name.
    pub capabilities: Vec<String>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// The filter.
    pub seccomp: SeccompChoice,
    /// Where files can be written by Landlock; `None` is no second wall.
    pub landlock: Option<Vec<PathBuf>>,
    /// What is hidden.
    pub masks: Masks,
    /// rlimits.
    pub ulimits: Vec<Ulimit>,
    /// The network.
    pub network: Network,
    /// Size of `/dev/shm`, in bytes.
    pub shm_bytes: u64,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// Labels.
    pub labels: Vec<(String, String)>,
    /// What cgroups enforce.
    pub limits: Limits,
    /// And when they cannot.
    pub unenforced: Unenforced,
    /// A reaper of ours comes first.
    pub init: bool,
    /// File mode mask.
    pub umask: u32,
    /// The command is killed this long after it was asked to end.
    pub grace: Option<Duration>,
    /// There is no command: the container waits for those that this owner asks for, and ends with it.
    pub owner: Option<OwnedFd>,
}

impl Decided {
    /// What the container's first process becomes.
    fn first(&self) -> First {
        match (&self.owner, self.init) {
            (Some(_), _) => First::Holder,
            (None, true) => First::Reaper,
            (None, false) => First::Command,
        }
    }
}

/// What who holds a container without a command says to its owner, in this order but for warnings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderSays {
    /// One line for the person.
    Warning(String),
    /// Commands can be brought in.
    Ready {
        /// The container.
        id: String,
        /// Its cgroup below the mount of cgroup2, when it has one.
        cgroup: Option<PathBuf>,
    },
    /// The container has ended.
    Ended {
        /// The exit code of its first process.
        code: i32,
        /// What has to be said about it.
        error: Option<Error>,
    },
    /// There is no container.
    Failed(Error),
}

impl HolderSays {
    /// Says it; an owner that is gone hears nothing.
    pub fn tell(&self, owner: BorrowedFd<'_>) {
        let _heard = channel::send(owner, &serde_json::to_vec(self).unwrap_or_default(), None);
    }
}

/// How a container ended, for the exit code and for the person.
#[derive(Debug)]
pub struct Finished {
    /// The command's own, 126, 127, or 128 and the signal.
    pub code: i32,
    /// What has to be said about it.
    pub error: Option<Error>,
}

/// The places of this host's containers, without what dead commands left there. That may take seconds, so
/// it comes before the image is looked at: who has done that keeps every removal waiting.
///
/// # Errors
/// What the kernel says.
pub fn open(host: &Host, warn: Warn<'_>) -> Result<Places, Error> {
    host.open_data()?;
    let places = Places::open(&host.data)?;
    clear_away(host, &places, warn)?;
    Ok(places)
}

/// Runs the container in the foreground, in one of `places`, and clears it away.
///
/// # Errors
/// What kept the command from being executed; a command that failed is no error.
pub fn carry_out(
    host: &Host,
    places: Places,
    decided: Decided,
    ahead: Option<Ahead>,
    warn: Warn<'_>,
) -> Result<Finished, Error> {
    // The stage makes its namespaces while we prepare its plan; with limits it must wait for its cgroup.
    let begun = if decided.limits.resources().is_empty() && decided.map.is_some() {
        let stage = ahead.map_or_else(|| start(&decided, None), |ahead| Ok(ahead.0))?;
        Some(take_over(stage, &decided)?)
    } else {
        None
    };
    let mut random = [0_u8; 32];
    fs::random_bytes(&mut random).map_err(|e| FsError::new("read", "/dev/urandom", e))?;
    let id = ContainerId::from_bytes(&random);
    let filter = filter(host, &decided.seccomp, &decided.capabilities)?;
    let mut place = places.take(id.clone(), decided.name.clone(), &decided.image)?;
    let image = decided.image.clone();
    let asked = audit::Asked { uid: host.uid, verb: decided.verb, object: &image, id: id.as_str() };
    let cidfile = decided.cidfile.as_deref().map(|path| CidFile::write(path, &id)).transpose();
    let begins = cidfile.and_then(|cidfile| {
        audit::append(&host.data, &asked, audit::Outcome::Started)?;
        Ok(cidfile)
    });
    let cidfile = match begins {
        Ok(cidfile) => cidfile,
        Err(error) => {
            give_back(host, place, Ok(()), warn);
            return Err(error);
        }
    };
    let prepared = Prepared { decided, filter, begun };
    let (finished, cleared) = run_in(host, prepared, &mut place, warn);
    give_back(host, place, cleared, warn);
    let outcome = match &finished {
        Ok(finished) => audit::Outcome::Ended(finished.code),
        Err(error) => audit::Outcome::Failed(error.kind),
    };
    if let Err(fault) = audit::append(&host.data, &asked, outcome) {
        warn(&Error::from(fault).to_string());
    }
    if let (Ok(_), Some(cidfile)) = (&finished, cidfile) {
        cidfile.keep();
    }
    finished
}

/// Removes what the container had, once its cgroup is gone. What could not be removed now is found by the
/// next command, as long as its record is there.
fn give_back(host: &Host, place: Place, cleared: Result<(), Error>, warn: Warn<'_>) {
    if let Err(error) = cleared.and_then(|()| place.remove(|folders| remove_folders(host, folders))) {
        warn(&format!("{error}; the next command tries again"));
    }
}

/// What the container's own ids made can be removed by nobody else.
fn remove_folders(host: &Host, folders: &Folders) -> Result<(), Error> {
    let remove = || folders.remove().map_err(Error::from);
    let denied = match remove() {
        Err(error) if error.kind == ErrorKind::Denied => error,
        other => return other,
    };
    match host.subordinate_map() {
        Some(map) => idspace::inside(&map, remove),
        None => Err(denied),
    }
}

/// Clears away what dead commands left. What cannot be cleared away keeps its record, for the next command.
fn clear_away(host: &Host, places: &Places, warn: Warn<'_>) -> Result<(), Error> {
    let (mut unreadable, mut first) = (0_u32, None);
    for leftover in places.leftovers()? {
        let leftover = match leftover {
            Ok(leftover) => leftover,
            Err(fault) => {
                unreadable += 1;
                first.get_or_insert_with(|| Error::from(fault));
                continue;
            }
        };
        let id = leftover.id().short().to_owned();
        if let Err(error) = clear_one(host, leftover) {
            warn(&format!("cannot clear the dead container `{id}` away: {error}"));
        }
    }
    if let Some(error) = first {
        warn(&format!("containers that cannot be judged and stay as they are: {unreadable} ({error})"));
    }
    Ok(())
}

/// Processes, then the cgroup, then folders: the folder is how what comes before it is found.
fn clear_one(host: &Host, leftover: Leftover) -> Result<(), Error> {
    leftover.end_processes()?;
    if let Some(path) = leftover.cgroup() {
        let support = support(host);
        let Some(mount) = support.mount() else {
            let text = format!("its cgroup `{}` is out of reach: no cgroup2 is mounted here", path.display());
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        cgroup::sweep(mount, path)?;
    }
    leftover.remove(|folders| remove_folders(host, folders))
}

fn support(host: &Host) -> Support {
    delegation::probe(&delegation::Environment { uid: host.uid, runtime_dir: host.runtime.clone() })
}

/// The file with the container's id, which goes again unless it is kept.
struct CidFile {
    path: Option<PathBuf>,
}

impl CidFile {
    /// Docker's rule: the file must not exist, so that two runs never share one.
    fn write(path: &Path, id: &ContainerId) -> Result<Self, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let wrong = |e: io::Error| Error::from(FsError::new("make the container id file", path, e));
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644)).map_err(|e| wrong(e.into()))?;
        let made = Self { path: Some(path.to_owned()) };
        File::from(file).write_all(id.as_str().as_bytes()).map_err(wrong)?;
        Ok(made)
    }

    fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _gone = rustix::fs::unlink(path);
        }
    }
}

/// What is ready before the container has its cgroup.
struct Prepared {
    decided: Decided,
    filter: String,
    begun: Option<Running>,
}

/// A stage that was started before anything but its standard streams was known.
pub struct Ahead(Waiting);

/// Starts the stage of a container without limits: a third of a start is the same for all of them. What
/// fails here fails again, and is told, when the container is carried out.
pub fn ahead(interactive: bool, tty: bool) -> Option<Ahead> {
    lifecycle::start(&Launch { has_map: true, interactive, tty, cgroup: None }).ok().map(Ahead)
}

fn take_over(stage: Waiting, decided: &Decided) -> Result<Running, Error> {
    let owner = decided.owner.as_ref().map(OwnedFd::try_clone).transpose();
    let owner = owner.map_err(|e| ProcessError::call("hold the owner of the container", e))?;
    lifecycle::take_over(stage, decided.grace, owner)
}

fn start(decided: &Decided, cgroup: Option<&Cgroup>) -> Result<Waiting, Error> {
    lifecycle::start(&Launch {
        has_map: decided.map.is_some(),
        interactive: decided.interactive,
        tty: decided.tty,
        cgroup: cgroup.map(Cgroup::dir),
    })
}

/// Runs it, and takes its cgroup away however it ended: how it went, and how that went.
fn run_in(
    host: &Host,
    prepared: Prepared,
    place: &mut Place,
    warn: Warn<'_>,
) -> (Result<Finished, Error>, Result<(), Error>) {
    let Prepared { mut decided, filter, begun } = prepared;
    let volumes = std::mem::take(&mut decided.volumes);
    let name = decided.arguments.first().cloned().unwrap_or_default();
    // Without either a dead command leaves only its folder, which is found without a record.
    let saved = if volumes.is_empty() && decided.name.is_none() {
        Ok(())
    } else {
        place
            .save(|record| record.volumes = volumes)
            .map_err(Error::from)
            .and_then(|()| Ok(place.make_volumes()?))
    };
    let cgroup = match saved.and_then(|()| make_cgroup(host, &mut decided, place, warn)) {
        Ok(cgroup) => cgroup,
        Err(error) => return (Err(error), Ok(())),
    };
    let begin = || take_over(start(&decided, cgroup.as_ref())?, &decided);
    let running = begun.map_or_else(begin, Ok);
    let outcome =
        running.and_then(|running| supervise(host, running, decided, filter, place, cgroup.is_some()));
    let denials = cgroup.as_ref().map(Denials::of).unwrap_or_default();
    let cleared = match cgroup {
        Some(cgroup) => cgroup.kill().and_then(|()| cgroup.remove()).map_err(Error::from),
        None => Ok(()),
    };
    (denials.tell(outcome, &name), cleared)
}

fn supervise(
    host: &Host,
    mut running: Running,
    mut decided: Decided,
    filter: String,
    place: &mut Place,
    has_own_cgroup: bool,
) -> Result<Outcome, Error> {
    let stack = match &mut decided.root {
        RootChoice::Layers(stack) => {
            Stack { image: stack.image.clone(), folders: stack.folders.clone(), held: stack.held.take() }
        }
        RootChoice::Empty(_) => Stack::default(),
    };
    let mut stack = Some(stack);
    let owner = decided.owner.as_ref().map(OwnedFd::try_clone).transpose();
    let owner = owner.map_err(|e| ProcessError::call("hold the owner of the container", e))?;
    let plan = plan(host, decided, filter, place, has_own_cgroup)?;
    running.tell(plan)?;
    let stage = ProcessId::of(running.stage_pid());
    running.supervise(|moment| {
        match moment {
            Moment::Created { init } => {
                place.save(|record| {
                    record.stage = stage;
                    record.init = ProcessId::of(init);
                    if let Some(stack) = &mut stack {
                        record.image_id = stack.image.take();
                        record.layers = std::mem::take(&mut stack.folders);
                    }
                })?;
                // From here on the record keeps the layers.
                stack = None;
            }
            Moment::Ready => {
                let (id, cgroup) = (place.id().as_str().to_owned(), place.cgroup().map(Path::to_owned));
                if let Some(owner) = &owner {
                    HolderSays::Ready { id, cgroup }.tell(owner.as_fd());
                }
            }
            Moment::Ended => place.ended(),
        }
        Ok(())
    })
}

/// How often the kernel stood on a limit.
#[derive(Debug, Default)]
struct Denials {
    /// Processes killed for want of memory.
    killed: u64,
    /// Processes that were not started.
    refused: u64,
}

impl Denials {
    /// A cgroup that cannot be read denies nothing that could be told.
    fn of(cgroup: &Cgroup) -> Self {
        Self { killed: cgroup.oom_kills().unwrap_or(0), refused: cgroup.pids_refused().unwrap_or(0) }
    }

    /// How the container ended, with what the limits had to do with it.
    fn tell(&self, outcome: Result<Outcome, Error>, name: &str) -> Result<Finished, Error> {
        const NO_MEMORY: &str = "the container used all the memory it may have";
        let more_memory = "give it more with `--memory`";
        let outcome = match outcome {
            Err(error) if self.killed > 0 => return Err(error.context(NO_MEMORY).hint(more_memory)),
            other => other?,
        };
        if let Some((code, error)) = outcome.not_executed {
            return Ok(Finished { code, error: Some(error) });
        }
        let error = if self.killed > 0 {
            let is_command = matches!(outcome.end, End::Signaled(9) | End::Exited(137));
            let what = if is_command { format!("`{name}`") } else { "a process in the container".to_owned() };
            Some(Error::new(ErrorKind::Limit, format!("{what} was killed: {NO_MEMORY}")).hint(more_memory))
        } else if self.refused > 0 {
            let text = "a process in the container was not started: it has as many as it may have";
            Some(
                Error::new(ErrorKind::Limit, text)
                    .hint("give it more with `--pids-limit` (`mcp run`: `--pids`)"),
            )
        } else {
            None
        };
        Ok(Finished { code: outcome.end.code(), error })
    }
}

/// Makes folders with the mode of `/` inside, whatever the caller's mask is.
fn make_upper(paths: &[&Path]) -> Result<(), Error> {
    let mask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let made = paths.iter().try_for_each(|path| {
        rustix::fs::mkdir(*path, Mode::from_raw_mode(0o755))
            .map_err(|e| FsError::new("make the folder", *path, e))
    });
    rustix::process::umask(mask);
    Ok(made?)
}

fn plan(
    host: &Host,
    decided: Decided,
    filter: String,
    place: &Place,
    has_own_cgroup: bool,
) -> Result<Plan, Error> {
    let first = decided.first();
    let root = match decided.root {
        RootChoice::Empty(root) => root,
        RootChoice::Layers(Stack { folders: lowers, .. }) => {
            let (upper, work) = (place.folder().join("upper"), place.folder().join("work"));
            make_upper(&[&upper, &work])?;
            Root::Layers { lowers, upper, work }
        }
    };
    let hostname = match (&decided.hostname, decided.network) {
        (Some(name), _) => name.clone(),
        // Docker's rule: who is on the host's network has its name.
        (None, Network::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        (None, Network::None) => place.id().short().to_owned(),
    };
    let rootfs = place.scratch().join("rootfs");
    let mut environment = decided.environment;
    if !environment.iter().any(|e| e.starts_with("HOSTNAME=")) && decided.masks != Masks::Strict {
        environment.push(format!("HOSTNAME={hostname}"));
    }
    let spec = spec::build(&SpecRequest {
        arguments: &decided.arguments,
        environment: &environment,
        workdir: &decided.workdir,
        hostname: &hostname,
        tty: decided.tty,
        rootfs: &rootfs,
        read_only: decided.read_only,
        capabilities: &decided.capabilities,
        no_new_privileges: decided.no_new_privileges,
        ulimits: &decided.ulimits,
        network: decided.network,
        shm_bytes: decided.shm_bytes,
        devices: &decided.devices,
        masks: decided.masks,
        map: decided.map.as_ref(),
        labels: &decided.labels,
        cgroup: &format!("/cuddy-{}", place.id()),
        has_own_cgroup,
    })?;
    let mut files = decided.files;
    files.extend(network_files(&hostname, &decided.hosts, decided.network)?);
    // What was mounted there by name is what is meant to be there.
    files.retain(|(target, _)| decided.mounts.iter().all(|mount| mount.target != *target));
    let propagation =
        decided.mounts.iter().filter_map(|m| Some((m.target.clone(), m.propagation?))).collect();
    Ok(Plan {
        id: place.id().as_str().to_owned(),
        scratch: place.scratch(),
        rootfs,
        root,
        mounts: decided.mounts,
        links: decided.links,
        files,
        user: decided.user,
        groups: decided.groups,
        map: decided.map,
        login: host.login.clone(),
        spec,
        walls: Walls {
            filter,
            landlock: decided.landlock,
            umask: decided.umask,
            first,
            // On the host's network sockets without a file reach the host's programs.
            shared: first == First::Holder && decided.network == Network::None,
            propagation,
        },
    })
}

/// `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`, which Docker makes anew for each container.
fn network_files(
    hostname: &str,
    hosts: &[(String, String)],
    network: Network,
) -> Result<Vec<(PathBuf, String)>, Error> {
    /// Largest `/etc/resolv.conf` of the host that is passed on, in bytes.
    const RESOLV_BYTES_MAX: u64 = 64 << 10;
    /// Largest `/etc/hosts` of the host that is passed on, in bytes: lists of what to block are large.
    const HOSTS_BYTES_MAX: u64 = 16 << 20;
    let of_host = |path: &str, bytes_max| match fs::read_file(Path::new(path), bytes_max) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Error::from(e)),
    };
    let (mut table, resolv) = match network {
        Network::None => {
            let own = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
            (format!("{own}127.0.0.1\t{hostname}\n"), String::new())
        }
        Network::Host => {
            (of_host("/etc/hosts", HOSTS_BYTES_MAX)?, of_host("/etc/resolv.conf", RESOLV_BYTES_MAX)?)
        }
    };
    if !table.is_empty() && !table.ends_with('\n') {
        table.push('\n');
    }
    for (name, address) in hosts {
        table.push_str(&format!("{address}\t{name}\n"));
    }
    let file = |name: &str, text| (Path::new("/etc").join(name), text);
    Ok(vec![file("hostname", format!("{hostname}\n")), file("hosts", table), file("resolv.conf", resolv)])
}

/// The filter of a profile as text for the plan: compiled once for each host and kept by digest.
fn filter(host: &Host, choice: &SeccompChoice, capabilities: &[String]) -> Result<String, Error> {
    let read;
    let json: &[u8] = match choice {
        SeccompChoice::Unconfined => return Ok(String::new()),
        SeccompChoice::Default => seccomp::DEFAULT.as_bytes(),
        SeccompChoice::Strict => seccomp::STRICT.as_bytes(),
        SeccompChoice::File(path) => {
            read = fs::read_named(&host.cwd.join(path), seccomp::PROFILE_BYTES_MAX as u64)?;
            &read
        }
    };
    let arch = Arch::NATIVE.ok_or(seccomp::SeccompError::Arch)?;
    let conditions =
        Conditions { capabilities: capabilities.iter().cloned().collect(), kernel: kernel_version(), arch };
    let key = seccomp::cache_key(json, &conditions);
    let folder = host.data.join("filters");
    if let Ok(bytes) = fs::read_file(&folder.join(key.hex()), FILTER_BYTES_MAX)
        && Program::from_bytes(&bytes).is_ok()
    {
        return Ok(hex(&bytes));
    }
    let program = seccomp::compile(&Profile::parse(json)?, &conditions)?;
    let bytes = program.to_bytes();
    fs::make_private_dirs(&folder)?;
    fs::replace_file(fs::open_dir(&folder)?.as_fd(), key.hex().as_ref(), &bytes, Mode::from_raw_mode(0o600))?;
    Ok(hex(&bytes))
}

fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Makes the container's cgroup for what this host can enforce, and deals with what it cannot.
fn make_cgroup(
    host: &Host,
    decided: &mut Decided,
    place: &mut Place,
    warn: Warn<'_>,
) -> Result<Option<Cgroup>, Error> {
    let asked = decided.limits.resources();
    if asked.is_empty() {
        return Ok(None);
    }
    let support = support(host);
    let mut limits = decided.limits.clone();
    if support.way(&asked).is_err() {
        let mut missing: Vec<(Resource, Lack)> = Vec::new();
        for &resource in &asked {
            if let Err(lack) = support.way(&[resource]) {
                limits = limits.without(resource);
                missing.push((resource, lack));
            }
        }
        give_up(host, decided, &missing, warn)?;
    }
    if limits.resources().is_empty() {
        return Ok(None);
    }
    let site = cgroup::find_site(&support, place.id(), &limits)?;
    place.save(|record| record.cgroup = Some(site.path().to_owned()))?;
    Ok(Some(site.make(&limits)?))
}

/// A limit that cannot be enforced is refused, or told, and replaced by what can be had without a
/// cgroup; it is never dropped in silence.
fn give_up(
    host: &Host,
    decided: &mut Decided,
    missing: &[(Resource, Lack)],
    warn: Warn<'_>,
) -> Result<(), Error> {
    if let Unenforced::Refuse { named } = &decided.unenforced
        && let Some((resource, lack)) = missing.iter().find(|(resource, _)| named.contains(resource))
    {
        return Err(CgroupError::Unsupported { what: resource.noun().to_owned(), lack: lack.clone() }.into());
    }
    let Some((_, lack)) = missing.first() else { return Ok(()) };
    let mut told: Vec<&str> = Vec::new();
    let mut instead = "";
    for (resource, _) in missing {
        // Processes are counted for each user namespace, but never for the host's user 0.
        if let (Resource::Pids, Some(pids), true) = (resource, decided.limits.pids, host.uid != 0) {
            // Nobody may have more than its caller.
            let most = getrlimit(Rlimit::Nproc).maximum.unwrap_or(u64::MAX).min(pids);
            decided.ulimits.retain(|u| u.name != "nproc");
            decided.ulimits.push(Ulimit { name: "nproc".to_owned(), soft: most, hard: most });
            instead = "; processes are limited by RLIMIT_NPROC instead";
        } else {
            told.push(resource.noun());
        }
    }
    let what = if told.is_empty() { "processes by a cgroup".to_owned() } else { told.join(", ") };
    let Lack { reason, fix } = lack;
    match decided.unenforced {
        Unenforced::Warn if told.is_empty() => {
            warn(&format!("this host cannot limit {what}{instead} ({reason}; fix: {fix})"));
        }
        Unenforced::Warn => warn(&format!(
            "this host cannot limit {what}; limitation discarded{instead} ({reason}; fix: {fix})"
        )),
        Unenforced::Refuse { .. } => warn(&format!(
            "no limit on {what} here{instead} ({reason}); `cuddy doctor` says how to change that"
        )),
    }
    Ok(())
}
