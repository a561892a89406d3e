//! The workspace server: which tool is which function, and what its refusals look like on the wire.

use serde_json::{Map, Value};

use crate::engine::workspaces::Workspace;
use crate::mcp::toolbox::{Context, Failure, Info, Reply, Tool, Toolbox};
use crate::mcp::workspace::call::Call;
use crate::mcp::workspace::compat::{self, Wrong};
use crate::mcp::workspace::node::Arguments;
use crate::mcp::workspace::schema::{self, Profile};
use crate::mcp::workspace::{editing, finding, massgen, moments};
use crate::workspace::refusal::Refusal;

/// Largest reply of the profiles that send a text twice, in bytes.
const PLAIN_REPLY_BYTES_MAX: usize = 160 << 20;

/// A workspace as a server of tools.
#[derive(Debug)]
pub struct WorkspaceTools {
    /// The folders.
    pub workspace: Workspace,
    /// Which tools are offered.
    pub profile: Profile,
    /// Largest text of one reply, in bytes, where the profile cuts at all.
    pub max_reply: usize,
}

/// A refusal as a reply: the line for people first, the rest for programs.
pub fn refused(refusal: &Refusal) -> Reply {
    let record = refusal.to_json();
    let hint = refusal.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
    Reply { is_error: true, ..Reply::both(format!("{}{hint}", refusal.message), record) }
}

impl Toolbox for WorkspaceTools {
    fn info(&self) -> Info {
        let folders: Vec<_> =
            self.workspace.folders().iter().map(|(given, ..)| given.display().to_string()).collect();
        let instructions = if self.profile.is_plain() {
            format!("Files below {}.", folders.join(", "))
        } else {
            format!(
                "Files below {}. Read before you edit; pass the hash of a read as if_match. A refused edit changes nothing \
                 and names the first line that differs. Every change has an op id for undo.",
                folders.join(", ")
            )
        };
        Info { name: "cuddy-workspace", title: "Workspace", instructions }
    }

    fn tools(&self) -> Vec<Tool> {
        let mut tools = schema::tools(self.profile);
        tools.extend(finding::tools(self.profile));
        tools.extend(moments::tools(self.profile));
        tools
    }

    fn definitions(&self) -> Vec<Value> {
        let mut all = schema::definitions(self.profile);
        let more = finding::tools(self.profile).into_iter().chain(moments::tools(self.profile));
        all.extend(more.map(|tool| tool.definition()));
        all
    }

    fn reply_bytes_max(&self) -> usize {
        PLAIN_REPLY_BYTES_MAX
    }

    fn call(&self, name: &str, arguments: Map<String, Value>, context: &Context) -> Reply {
        if !self.profile.is_plain()
            && let Some(reply) = finding::call(&self.workspace, self.max_reply, context, name, &arguments)
                .or_else(|| moments::call(&self.workspace, self.max_reply, context, name, &arguments))
        {
            return reply;
        }
        let call =
            Call { workspace: &self.workspace, profile: self.profile, max_reply: self.max_reply, context };
        let arguments = Arguments(&arguments);
        let done = compat::call(&call, name, arguments)
            .or_else(|| massgen::call(&call, name, arguments))
            .or_else(|| editing::call(&call, name, arguments));
        match done {
            Some(Ok(reply)) => reply,
            Some(Err(wrong)) => self.failed(name, &wrong),
            None => Failure::new("unknown_tool", format!("there is no tool `{name}`")).into(),
        }
    }
}

impl WorkspaceTools {
    fn failed(&self, name: &str, wrong: &Wrong) -> Reply {
        match wrong {
            Wrong::Refused(refusal, _) if !self.profile.is_plain() => refused(refusal),
            // The reference gives no structure with an error; what a program wants travels beside it.
            Wrong::Refused(refusal, _) => Reply {
                is_error: true,
                meta: schema::meta(&[("error", refusal.to_json())]),
                ..Reply::text(wrong.text(name, &self.workspace))
            },
            _ => Reply { is_error: true, ..Reply::text(wrong.text(name, &self.workspace)) },
        }
    }
}
