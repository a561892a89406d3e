//! One call of a workspace's tool: the folders it works on, and whether somebody still waits for it.

use crate::engine::workspaces::Workspace;
use crate::mcp::toolbox::Context;
use crate::mcp::workspace::schema::Profile;
use crate::workspace::change::Pulse;

/// One call.
pub struct Call<'a> {
    /// The folders.
    pub workspace: &'a Workspace,
    /// Which tools are offered.
    pub profile: Profile,
    /// Largest text, in bytes.
    pub max_reply: usize,
    /// Who waits.
    pub context: &'a Context,
}

impl Call<'_> {
    /// Whether nobody waits for the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.context.is_cancelled()
    }

    /// For a commit: go on, or take everything back.
    pub fn pulse(&self) -> Pulse {
        if self.is_cancelled() { Pulse::Cancel } else { Pulse::Go }
    }
}
