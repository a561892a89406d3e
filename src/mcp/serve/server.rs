//! `mcp serve`: the server of sandboxes for an orchestrator.
//!
//! It joins the tools to what they do and holds what the server was started with. Everything of it ends
//! with this process: each sandbox is held by a process of its own that ends with us.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::audit::{Call, CallLog, CallOutcome};
use crate::engine::boxes::Ceiling;
use crate::engine::host::Host;
use crate::error::Error;
use crate::mcp::serve::fleet::Fleet;
use crate::mcp::serve::tools::{self, Offered};
use crate::mcp::serve::{calls, image_calls};
use crate::mcp::toolbox::{self, Context, Failure, Info, Reply, Tool, Toolbox};
use crate::mcp::workspace::serve::WorkspaceTools;

/// What this server calls itself.
const NAME: &str = "cuddy-serve";

/// Sandboxes, images, and what may be asked of them.
struct Server {
    host: Host,
    ceiling: Ceiling,
    fleet: Fleet,
    /// The tools of a workspace, on every folder that sandboxes may have.
    files: Option<WorkspaceTools>,
    log: CallLog,
}

/// Serves on standard input and output until the client goes; gives the exit code.
pub fn serve(host: Host, ceiling: Ceiling, files: Option<WorkspaceTools>, log: CallLog) -> i32 {
    toolbox::serve_stdio(Server { host, ceiling, fleet: Fleet::default(), files, log })
}

impl Drop for Server {
    /// Who leaves in order leaves nothing to the next command: all are ended first, then waited for.
    fn drop(&mut self) {
        let members = self.fleet.all();
        members.iter().for_each(|member| member.sandbox.end());
        members.iter().for_each(|member| member.sandbox.stop(Duration::ZERO));
    }
}

impl Toolbox for Server {
    fn info(&self) -> Info {
        let folders: Vec<String> =
            self.ceiling.workspaces.iter().map(|(path, _)| path.display().to_string()).collect();
        let folders = if folders.is_empty() {
            "Sandboxes get no folder of the host.".to_owned()
        } else {
            format!("Folders of the host that sandboxes may get: {}.", folders.join(", "))
        };
        let files = self.files.as_ref().map(|files| files.info().instructions).unwrap_or_default();
        let files = if files.is_empty() { files } else { format!(" Without a sandbox: {files}") };
        Info {
            name: NAME,
            title: "cuddy sandboxes",
            instructions: format!(
                "Create a sandbox with sandbox_create, run commands in it with sandbox_exec, read and write its \
                 files, remove it at the end. Sandboxes are isolated from the host and from each other; what is \
                 outside their workspaces is lost when they end. {folders}{files}"
            ),
        }
    }

    fn tools(&self) -> Vec<Tool> {
        let load = !self.ceiling.workspaces.is_empty();
        let mut all = tools::all(Offered { pull: self.ceiling.pull, load });
        all.extend(self.files.iter().flat_map(Toolbox::tools));
        all
    }

    fn call(&self, name: &str, arguments: Map<String, Value>, context: &Context) -> Reply {
        let (begun, asked) = (Instant::now(), serde_json::to_vec(&arguments).unwrap_or_default());
        let mut reply = self.carry_out(name, arguments, context);
        let outcome = match (context.is_cancelled(), reply.is_error) {
            (true, _) => CallOutcome::Cancelled,
            (false, true) => CallOutcome::ToolError,
            (false, false) => CallOutcome::Done,
        };
        let recorded = self.log.record(&Call {
            uid: self.host.uid,
            client: "stdio",
            server: NAME,
            method: "tools/call",
            tool: name,
            arguments: &asked,
            policy: "",
            duration: begun.elapsed(),
            outcome,
            bytes_in: asked.len() as u64,
            bytes_out: reply.bytes() as u64,
        });
        if let Err(fault) = recorded {
            // It is done: what can still be said is that no record of it is left.
            let said = Value::String(format!("this call is in no record: {}", Error::from(fault)));
            reply.meta.get_or_insert_default().insert("cuddy/audit".to_owned(), said);
        }
        reply
    }
}

impl Server {
    fn carry_out(&self, name: &str, arguments: Map<String, Value>, context: &Context) -> Reply {
        let Self { host, ceiling, fleet, files, .. } = self;
        match name {
            "sandbox_create" => calls::create(fleet, ceiling, arguments, context).into(),
            "sandbox_exec" => calls::exec(fleet, arguments, context).into(),
            "sandbox_logs" => calls::logs(fleet, arguments, context).into(),
            "sandbox_read" => calls::read(fleet, arguments, context).into(),
            "sandbox_write" => calls::write(fleet, arguments, context).into(),
            "sandbox_copy" => calls::copy(fleet, arguments, context).into(),
            "sandbox_list" => calls::list(fleet),
            "sandbox_limits" => calls::limits(host, fleet, ceiling, arguments).into(),
            "sandbox_stop" => calls::stop(fleet, arguments).into(),
            "sandbox_remove" => calls::remove(fleet, arguments).into(),
            "image_list" => image_calls::list(host, ceiling).into(),
            "image_pull" if ceiling.pull => image_calls::pull(host, ceiling, arguments, context).into(),
            "image_load" => image_calls::load(host, ceiling, arguments, context).into(),
            _ => match files {
                Some(files) => files.call(name, arguments, context),
                None => Failure::new("not_found", format!("there is no tool `{name}`")).into(),
            },
        }
    }
}
