//! What each sandbox tool of `mcp serve` does: arguments into the engine's requests, results into replies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::container::task::{ExecRequest, Task, Writing};
use crate::engine::box_files::{self, FileDone};
use crate::engine::boxes::{Ceiling, Sandbox};
use crate::engine::errands::{Input, Output, Running};
use crate::engine::host::Host;
use crate::engine::sandboxes;
use crate::error::ErrorKind;
use crate::mcp::serve::ceiling::{self, Asked, AskedLimits};
use crate::mcp::serve::fleet::{Fleet, Member, lock};
use crate::mcp::serve::jobs::{self, Job, Jobs};
use crate::mcp::serve::tools::{OUTPUT_BYTES_DEFAULT, OUTPUT_BYTES_MAX, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX};
use crate::mcp::toolbox::{Context, Failure, Reply, arguments};

/// How long the processes of a sandbox have to end, in milliseconds, unless something else is asked.
const GRACE_MS_DEFAULT: u64 = 5_000;
/// The longest grace, in milliseconds.
const GRACE_MS_MAX: u64 = 60_000;
/// The longest wait for more output, in milliseconds.
const WAIT_MS_MAX: u64 = 600_000;

type Arguments = Map<String, Value>;
type Done = Result<Reply, Failure>;

/// `sandbox_create`.
///
/// # Errors
/// What the client is told.
pub fn create(fleet: &Fleet, ceiling: &Ceiling, asked: Arguments, context: &Context) -> Done {
    let asked: Asked = arguments(asked)?;
    let request = ceiling.bound(&asked)?;
    let member = fleet.add(asked.name.as_deref(), ceiling.sandboxes_max, |name| {
        let sandbox = Sandbox::create(&request, context.cancelled_fd())?;
        let (name, request) = (name.to_owned(), Mutex::new(request));
        Ok(Member { name, request, sandbox, jobs: Jobs::default() })
    })?;
    Ok(Reply::structured(member.describe()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Execute {
    sandbox: String,
    script: Option<String>,
    command: Option<Vec<String>>,
    workdir: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    stdin: Option<String>,
    timeout_ms: Option<u64>,
    output_bytes: Option<usize>,
    #[serde(default)]
    background: bool,
}

/// `sandbox_exec`.
///
/// # Errors
/// What the client is told.
pub fn exec(fleet: &Fleet, asked: Arguments, context: &Context) -> Done {
    let asked: Execute = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    let (line, command) = match (asked.script, asked.command) {
        (Some(script), None) => (script.clone(), vec!["sh".to_owned(), "-c".to_owned(), script]),
        (None, Some(command)) if !command.is_empty() => (command.join(" "), command),
        _ => return Err(Failure::new("invalid_arguments", "give either `script` or `command`")),
    };
    if command.iter().any(|word| word.contains('\0')) {
        return Err(Failure::new("invalid_arguments", "a word of the command has a NUL"));
    }
    let request = ExecRequest {
        task: Task::Command(command),
        environment: ceiling::variables(&asked.environment)?,
        workdir: asked.workdir,
    };
    let timeout =
        Duration::from_millis(asked.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT).clamp(1, TIMEOUT_MS_MAX));
    let bytes_max = asked.output_bytes.unwrap_or(OUTPUT_BYTES_DEFAULT).min(OUTPUT_BYTES_MAX);
    let input = asked.stdin.map_or(Input::Nothing, |text| Input::Bytes(text.into_bytes()));
    let running = member.sandbox.begin(&request, input, Output::Taken)?;
    let job = member.jobs.begin(&line)?;
    if asked.background {
        follow_aside(Arc::clone(&job), running, timeout, Arc::clone(&member))?;
    } else {
        job.follow(running, timeout, Some(context));
    }
    let (text, value, state) = jobs::result(&job, 0, bytes_max);
    match jobs::failure(&state, timeout) {
        None => Ok(Reply::both(text, value)),
        Some(failure) => {
            let mut reply = Reply::from(failure.data(value));
            if !text.is_empty() {
                reply.content.push(json!({ "type": "text", "text": text }));
            }
            Ok(reply)
        }
    }
}

/// Follows a command in a thread of its own.
#[expect(clippy::disallowed_methods, reason = "a server never calls libcontainer: holders and stages do")]
fn follow_aside(
    job: Arc<Job>,
    running: Running,
    timeout: Duration,
    member: Arc<Member>,
) -> Result<(), Failure> {
    let follow = move || {
        job.follow(running, timeout, None);
        // Until here the sandbox cannot go because somebody has forgotten it.
        drop(member);
    };
    let begun = std::thread::Builder::new().name("command".to_owned()).spawn(follow);
    begun.map(drop).map_err(|e| Failure::new("failed", format!("no thread for the command: {e}")).retryable())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logs {
    sandbox: String,
    exec: Option<u64>,
    #[serde(default)]
    cursor: u64,
    output_bytes: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

/// `sandbox_logs`.
///
/// # Errors
/// What the client is told.
pub fn logs(fleet: &Fleet, asked: Arguments, context: &Context) -> Done {
    let asked: Logs = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    let Some(number) = asked.exec else {
        return Ok(Reply::structured(json!({ "commands": member.jobs.list() })));
    };
    let job = member.jobs.get(number)?;
    job.wait_for_more(asked.cursor, Duration::from_millis(asked.wait_ms.min(WAIT_MS_MAX)), context);
    let bytes_max = asked.output_bytes.unwrap_or(OUTPUT_BYTES_DEFAULT).clamp(1, OUTPUT_BYTES_MAX);
    let (text, value, _) = jobs::result(&job, asked.cursor, bytes_max);
    Ok(Reply::both(text, value))
}

/// A path inside: absolute, so that it means the same to everybody.
fn inside(path: String) -> Result<PathBuf, Failure> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(path.into());
    }
    Err(Failure::new("invalid_arguments", format!("`{path}` is not an absolute path")).path(path))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    sandbox: String,
    path: String,
    #[serde(default)]
    offset: u64,
    limit: Option<usize>,
}

/// `sandbox_read`.
///
/// # Errors
/// What the client is told.
pub fn read(fleet: &Fleet, asked: Arguments, context: &Context) -> Done {
    let asked: Read = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    let path = inside(asked.path.clone())?;
    let bytes_max = asked.limit.unwrap_or(OUTPUT_BYTES_MAX).clamp(1, OUTPUT_BYTES_MAX);
    let of_path = |error| Failure::from(error).path(asked.path.clone());
    let read =
        box_files::read_file(&member.sandbox, path.clone(), asked.offset, bytes_max, context.cancelled_fd());
    let FileDone { entry, bytes } = match read {
        Err(error) if error.kind == ErrorKind::Usage && error.to_string().ends_with("a folder") => {
            let listing = box_files::list_folder(&member.sandbox, path, context.cancelled_fd());
            let listing = listing.map_err(of_path)?;
            let value = json!({ "path": asked.path, "kind": "folder", "entries": listing.entries,
                "truncated": listing.is_cut });
            return Ok(Reply::structured(value));
        }
        other => other.map_err(of_path)?,
    };
    let next = asked.offset + bytes.len() as u64;
    let mut value = json!({
        "path": asked.path,
        "kind": entry.kind,
        "bytes_total": entry.bytes,
        "mode": format!("{:04o}", entry.mode),
        "modified_s": entry.modified_s,
        "next_offset": (next < entry.bytes).then_some(next),
    });
    let text = match String::from_utf8(bytes) {
        Ok(text) => {
            value["encoding"] = json!("utf-8");
            value["content"] = json!(text);
            text
        }
        Err(e) => {
            value["encoding"] = json!("base64");
            let coded = STANDARD.encode(e.as_bytes());
            value["content"] = json!(coded);
            coded
        }
    };
    Ok(Reply::both(text, value))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Replace,
    New,
    Append,
}

impl From<Mode> for Writing {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Replace => Self::Replace,
            Mode::New => Self::New,
            Mode::Append => Self::Append,
        }
    }
}

#[derive(Default, Deserialize)]
enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "base64")]
    Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Write {
    sandbox: String,
    path: String,
    content: String,
    #[serde(default)]
    encoding: Encoding,
    #[serde(default)]
    mode: Mode,
}

/// `sandbox_write`.
///
/// # Errors
/// What the client is told.
pub fn write(fleet: &Fleet, asked: Arguments, context: &Context) -> Done {
    let asked: Write = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    let path = inside(asked.path.clone())?;
    let bytes = match asked.encoding {
        Encoding::Utf8 => asked.content.into_bytes(),
        Encoding::Base64 => STANDARD
            .decode(asked.content)
            .map_err(|e| Failure::new("invalid_arguments", format!("`content` is not base64: {e}")))?,
    };
    let how = (asked.mode.into(), true);
    let written = box_files::write_file(&member.sandbox, path, bytes, how, context.cancelled_fd());
    let done = written.map_err(|error| Failure::from(error).path(asked.path.clone()))?;
    Ok(Reply::structured(json!({ "path": asked.path, "bytes_total": done.entry.bytes })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    from_sandbox: String,
    from_path: String,
    to_sandbox: Option<String>,
    to_path: String,
    #[serde(default)]
    mode: Mode,
}

/// `sandbox_copy`.
///
/// # Errors
/// What the client is told.
pub fn copy(fleet: &Fleet, asked: Arguments, context: &Context) -> Done {
    let asked: Copy = arguments(asked)?;
    let from = fleet.get(&asked.from_sandbox)?;
    let to = match &asked.to_sandbox {
        Some(name) => fleet.get(name)?,
        None => Arc::clone(&from),
    };
    let done = box_files::copy_file(
        (&from.sandbox, inside(asked.from_path)?),
        (&to.sandbox, inside(asked.to_path.clone())?),
        (asked.mode.into(), true),
        context.cancelled_fd(),
    )?;
    Ok(Reply::structured(
        json!({ "sandbox": to.name, "path": asked.to_path, "bytes_total": done.entry.bytes }),
    ))
}

/// `sandbox_list`.
pub fn list(fleet: &Fleet) -> Reply {
    let all: Vec<Value> = fleet.all().iter().map(|member| member.describe()).collect();
    Reply::structured(json!({ "sandboxes": all }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    sandbox: String,
    memory: Option<String>,
    cpus: Option<String>,
    processes: Option<u64>,
}

/// `sandbox_limits`.
///
/// # Errors
/// What the client is told.
pub fn limits(host: &Host, fleet: &Fleet, ceiling: &Ceiling, asked: Arguments) -> Done {
    let asked: Limit = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    let mut request = lock(&member.request).clone();
    if asked.memory.is_some() || asked.cpus.is_some() || asked.processes.is_some() {
        let wanted = AskedLimits { memory: asked.memory, cpus: asked.cpus, processes: asked.processes };
        ceiling.limits(&wanted)?;
        request.memory = wanted.memory.or(request.memory);
        request.cpus = wanted.cpus.or(request.cpus);
        request.pids = wanted.processes.map(|n| n.to_string()).or(request.pids);
        member.sandbox.set_limits(host, &request.policy()?.limits)?;
        *lock(&member.request) = request.clone();
    }
    let named = request.policy()?.limits;
    let lines = sandboxes::enforced(host, &sandboxes::with_defaults(&named));
    Ok(Reply::both(
        lines.join("\n"),
        json!({
            "sandbox": member.name,
            "memory": request.memory,
            "cpus": request.cpus,
            "processes": request.pids,
            "enforced": lines,
        }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stop {
    sandbox: String,
    exec: Option<u64>,
    grace_ms: Option<u64>,
}

/// `sandbox_stop`.
///
/// # Errors
/// What the client is told.
pub fn stop(fleet: &Fleet, asked: Arguments) -> Done {
    let asked: Stop = arguments(asked)?;
    let member = fleet.get(&asked.sandbox)?;
    match asked.exec {
        Some(number) => {
            member.jobs.get(number)?.end();
            Ok(Reply::structured(json!({ "sandbox": member.name, "exec": number, "state": "ended" })))
        }
        None => {
            let grace = asked.grace_ms.unwrap_or(GRACE_MS_DEFAULT).min(GRACE_MS_MAX);
            member.sandbox.stop(Duration::from_millis(grace));
            Ok(Reply::structured(json!({ "sandbox": member.name, "state": "stopped" })))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    sandbox: String,
}

/// `sandbox_remove`.
///
/// # Errors
/// What the client is told.
pub fn remove(fleet: &Fleet, asked: Arguments) -> Done {
    let asked: Named = arguments(asked)?;
    let member = fleet.remove(&asked.sandbox)?;
    member.sandbox.stop(Duration::ZERO);
    Ok(Reply::structured(json!({ "sandbox": member.name, "state": "removed" })))
}
