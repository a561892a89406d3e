//! The only caller of libcontainer: it makes the namespaces but the user's, the root filesystem's
//! kernel mounts, and the first process. Any OCI spec can be run.
//!
//! What libcontainer would do less strictly than we want (masks, ids, capabilities, seccomp) is taken
//! out of the spec it sees and done by `container::walls` in its `Executor`, from the full spec.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::Mode;

use crate::container::devices;
use crate::container::plan::{Report, Walls};
use crate::container::walls;
use crate::error::{Error, ErrorKind, Fault};
use crate::sys::channel;
use crate::sys::fs::{self, FsError};
use crate::sys::process::{self, OneThread, ProcessError};

/// Why libcontainer did not make the container.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It said no.
    #[error("libcontainer cannot {action} the container")]
    Library {
        /// `create` or `start`.
        action: &'static str,
        /// What it said.
        #[source]
        source: LibcontainerError,
    },
    /// Its files could not be written.
    #[error("cannot write the container's bundle")]
    Bundle(#[from] FsError),
    /// This process could not be named for the container's first one.
    #[error("cannot tie the container to its holder")]
    Process(#[from] ProcessError),
    /// The spec does not become JSON.
    #[error("cannot write the container's spec")]
    Spec(#[from] serde_json::Error),
    /// It made a container without a process.
    #[error("libcontainer gave no process")]
    NoProcess,
}

impl Fault for RuntimeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Bundle(e) => e.kind(),
            Self::Process(e) => e.kind(),
            Self::Spec(_) | Self::NoProcess => ErrorKind::Bug,
            Self::Library { .. } => ErrorKind::Failed,
        }
    }
}

/// A container whose first process waits to be let go.
pub struct Created {
    container: Container,
    /// The first process's number where we are.
    pub pid: i32,
}

impl Created {
    /// Lets the command go.
    ///
    /// # Errors
    /// [`RuntimeError::Library`].
    pub fn start(&mut self) -> Result<(), RuntimeError> {
        self.container.start().map_err(|source| RuntimeError::Library { action: "start", source })
    }
}

/// Makes the container of `spec` up to its first process. `scratch` is an empty folder for
/// libcontainer's files; they are of no use afterwards. What the walls have to say goes to `reports`.
///
/// # Errors
/// [`RuntimeError`]; what a wall refused was reported before.
pub fn create(
    _proof: OneThread,
    id: &str,
    scratch: &Path,
    spec: Spec,
    walls: Walls,
    reports: Rc<OwnedFd>,
) -> Result<Created, RuntimeError> {
    let reduced = reduce(&spec);
    let bundle = fs::open_dir(scratch)?;
    let text = serde_json::to_vec(&reduced)?;
    fs::replace_file(bundle.as_fd(), "config.json".as_ref(), &text, Mode::from_raw_mode(0o600))?;
    let failed = |source| RuntimeError::Library { action: "create", source };
    let container = ContainerBuilder::new(id.to_owned(), SyscallType::Linux)
        .with_executor(LastSteps { spec, walls, reports, holder: Rc::new(process::ourselves()?) })
        .with_root_path(scratch.join("state"))
        .map_err(failed)?
        .as_init(scratch)
        .with_systemd(false)
        .with_detach(false)
        .build()
        .map_err(failed)?;
    let pid = container.pid().ok_or(RuntimeError::NoProcess)?.as_raw();
    Ok(Created { container, pid })
}

/// The part of the spec that libcontainer carries out; the rest is `walls`'.
fn reduce(spec: &Spec) -> Spec {
    let ours: Vec<_> = devices::ours(spec).into_iter().cloned().collect();
    let mut spec = spec.clone();
    if let Some(mounts) = spec.mounts_mut() {
        mounts.retain(|m| !ours.contains(m));
    }
    if let Some(linux) = spec.linux_mut() {
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let kept = namespaces.into_iter().filter(|n| n.typ() != LinuxNamespaceType::User).collect();
        linux.set_namespaces(Some(kept));
        linux.set_uid_mappings(None);
        linux.set_gid_mappings(None);
        linux.set_masked_paths(None);
        linux.set_readonly_paths(None);
        linux.set_seccomp(None);
        linux.set_resources(None);
    }
    if let Some(process) = spec.process_mut() {
        process.set_terminal(None);
        process.set_rlimits(None);
        process.set_capabilities(None);
        process.set_no_new_privileges(None);
        let user = process.user_mut();
        user.set_uid(rustix::process::geteuid().as_raw());
        user.set_gid(rustix::process::getegid().as_raw());
        user.set_additional_gids(None);
        // With a HOME nothing asks the C library, and so the image's nsswitch.conf, who we are
        // (the class of CVE-2019-14271).
        process.set_env(Some(vec!["HOME=/".to_owned(), "PATH=/".to_owned()]));
    }
    spec
}

/// Our last steps in libcontainer's first process.
#[derive(Clone)]
struct LastSteps {
    spec: Spec,
    walls: Walls,
    reports: Rc<OwnedFd>,
    /// The stage, which holds the container.
    holder: Rc<OwnedFd>,
}

impl LastSteps {
    fn report(&self, report: &Report, fd: Option<&OwnedFd>) {
        let text = serde_json::to_vec(report).unwrap_or_default();
        // Whoever listens may be dead; then so are we, by the parent-death signal.
        let _heard = channel::send(self.reports.as_fd(), &text, fd.map(AsFd::as_fd));
    }
}

impl Executor for LastSteps {
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        match walls::raise(&self.spec, &self.walls) {
            // The tie to the stage holds from now on; one that died before would never let us go.
            Ok(_) if process::has_ended(self.holder.as_fd()) => process::exit_at_once(125),
            Ok(None) => Ok(()),
            Ok(Some(terminal)) => {
                self.report(&Report::Terminal(()), Some(&terminal));
                Ok(())
            }
            Err(wall) => {
                let error = Error::from(wall);
                self.report(&Report::Failed(error.clone()), None);
                Err(ExecutorValidationError::ArgValidationError(error.to_string()))
            }
        }
    }

    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The command gets its environment with exec; this process keeps its empty one.
        Ok(())
    }

    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let ready = || self.report(&Report::Ready(()), None);
        let failure = walls::drop_to_command(&self.spec, &self.walls, ready);
        let report = match failure.code {
            125 => Report::Failed(failure.error),
            code => Report::NotExecuted { code, error: failure.error },
        };
        self.report(&report, None);
        process::exit_at_once(failure.code)
    }
}
