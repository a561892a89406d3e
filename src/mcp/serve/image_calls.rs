//! What each image tool of `mcp serve` does. What changes the store runs as a command of its own: taking
//! layers apart needs a process with one thread and other ids.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::boxes::Ceiling;
use crate::engine::catalog;
use crate::engine::filters::Filters;
use crate::engine::host::Host;
use crate::error::Error;
use crate::mcp::toolbox::{Context, Failure, Reply, arguments};
use crate::sys::fs;

/// Largest thing that a command of ours may say, in bytes.
const WORDS_BYTES_MAX: u64 = 64 << 10;
/// How often a command of ours is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

type Done = Result<Reply, Failure>;

/// `image_list`.
///
/// # Errors
/// What the client is told.
pub fn list(host: &Host, ceiling: &Ceiling) -> Done {
    let filters = Filters::parse(&[], &[], catalog::now_s()).map_err(Error::from)?;
    let mut images = vec![json!({ "image": "@host", "about": "the host's own system folders" })];
    images.retain(|_| ceiling.allows_image("@host"));
    for image in catalog::list(host, &filters)? {
        let names: Vec<String> = image.tags.iter().map(|name| name.familiar()).collect();
        let allowed = ceiling.images.is_empty() || names.iter().any(|name| ceiling.allows_image(name));
        if allowed {
            let name = names.first().cloned().unwrap_or_else(|| image.id.to_string());
            images.push(json!({ "image": name, "names": names, "id": image.id, "bytes": image.bytes,
                "created_s": image.created_s }));
        }
    }
    Ok(Reply::structured(json!({ "images": images })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pull {
    image: String,
}

/// `image_pull`.
///
/// # Errors
/// What the client is told.
pub fn pull(host: &Host, ceiling: &Ceiling, asked: Map<String, Value>, context: &Context) -> Done {
    let asked: Pull = arguments(asked)?;
    if !ceiling.allows_image(&asked.image) {
        return Err(Failure::new("denied", format!("the image `{}` is not allowed here", asked.image)));
    }
    let mut command = ours(host);
    command.args(["pull", "--quiet", "--", &asked.image]).stdin(Stdio::null());
    let said = run(command, context)?;
    Ok(Reply::structured(json!({ "image": said.trim() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    path: PathBuf,
}

/// `image_load`. The archive is opened beneath its workspace: what a sandbox puts in its way leads nowhere.
///
/// # Errors
/// What the client is told.
pub fn load(host: &Host, ceiling: &Ceiling, asked: Map<String, Value>, context: &Context) -> Done {
    let asked: Load = arguments(asked)?;
    let (root, way) = ceiling.beneath(&asked.path)?;
    let text = asked.path.display().to_string();
    let failed = |error: Error| Failure::from(error).path(text.clone());
    let root = fs::open_dir(root).map_err(|e| failed(e.into()))?;
    let archive = open_beneath(&root, way).map_err(|e| failed(fs::FsError::new("open", way, e).into()))?;
    let mut command = ours(host);
    command.args(["load", "--quiet"]).stdin(Stdio::from(archive));
    let said = run(command, context)?;
    let images: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    Ok(Reply::structured(json!({ "images": images })))
}

/// A regular file beneath a folder, with no link on the way.
fn open_beneath(root: &std::os::fd::OwnedFd, way: &Path) -> std::io::Result<File> {
    use rustix::fs::{Mode, ResolveFlags};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat2(root, way, flags, Mode::empty(), resolve)?);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Our own program again.
fn ours(host: &Host) -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(dir) = &host.docker_config {
        command.arg("--config").arg(dir);
    }
    command
}

/// Reads what a command says in a thread of its own, so that no pipe can fill up and hold the command.
#[expect(clippy::disallowed_methods, reason = "a server never calls libcontainer: holders and stages do")]
fn reader(from: Option<Box<dyn Read + Send>>) -> std::io::Result<std::thread::JoinHandle<String>> {
    std::thread::Builder::new().spawn(move || {
        let mut text = Vec::new();
        // What is cut off is told as far as it came.
        let _read = from.map(|from| from.take(WORDS_BYTES_MAX).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Runs a command of ours to its end, or ends it when nobody waits any more; what it said.
fn run(mut command: Command, context: &Context) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new("failed", format!("cannot run a command of ours: {e}"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let output = reader(output.map(|o| Box::new(o) as Box<dyn Read + Send>)).map_err(failed)?;
    let errors = reader(errors.map(|e| Box::new(e) as Box<dyn Read + Send>)).map_err(failed)?;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        let mut watched = [PollFd::from_borrowed_fd(context.cancelled_fd(), PollFlags::IN)];
        let _ready = crate::engine::errands::poll(&mut watched, std::time::Instant::now() + LOOK_AGAIN);
        if context.is_cancelled() || std::time::Instant::now() >= context.deadline() {
            // It undoes what it has begun.
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            let _asked = pid.map(|pid| rustix::process::kill_process(pid, Signal::TERM));
            let _reaped = child.wait();
            return Err(Failure::new("cancelled", "the call was cancelled"));
        }
    };
    let (output, errors) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
    if status.success() {
        return Ok(output);
    }
    let mut lines = errors.lines().map(|line| line.trim_start_matches("cuddy: ").trim());
    let first = lines.next().unwrap_or("it said nothing").to_owned();
    let rest: Vec<&str> = lines.collect();
    let failure = Failure::new("failed", first);
    Err(if rest.is_empty() { failure } else { failure.hint(rest.join("\n")) })
}
