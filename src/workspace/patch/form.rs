//! Pure: what a patch asks for, whatever form it was written in, and which form a text has.

use crate::workspace::edit::Edit;
use crate::workspace::patch::hunk::Hunk;
use crate::workspace::refusal::{Code, Refusal};

/// Largest patch that is read, in bytes.
pub const PATCH_BYTES_MAX: usize = 16 << 20;
/// Most files that one patch changes.
pub const FILES_MAX: usize = 10_000;

/// One thing that a patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePatch {
    /// Makes a file.
    Add {
        /// Its path.
        path: String,
        /// Its text.
        text: String,
        /// Its mode, when the patch says.
        mode: Option<u32>,
        /// Whether a file that is there gives way.
        may_replace: bool,
    },
    /// Removes a file.
    Delete {
        /// Its path.
        path: String,
        /// What it must hold, when the patch says.
        text: Option<String>,
    },
    /// Changes a file, or its name, or both.
    Update {
        /// Its path.
        path: String,
        /// Its new path.
        to: Option<String>,
        /// Its mode, when the patch says.
        mode: Option<u32>,
        /// What changes, from top to bottom.
        hunks: Vec<Hunk>,
        /// Whether a file at the new path gives way.
        may_replace: bool,
    },
    /// Replaces texts in a file; one empty old text makes it.
    Replace {
        /// Its path.
        path: String,
        /// What is replaced, one after another.
        edits: Vec<Edit>,
    },
}

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `*** Begin Patch` … `*** End Patch`
    Codex,
    /// `---`, `+++`, `@@`; with or without git's headings.
    Unified,
    /// `<<<<<<< SEARCH` … `>>>>>>> REPLACE`
    SearchReplace,
}

impl Form {
    /// The form that a text has by its marks.
    ///
    /// # Errors
    /// `PatchSyntax` when it has none.
    pub fn of(text: &str) -> Result<Self, Refusal> {
        let has = |wanted: &dyn Fn(&str) -> bool| text.lines().any(|line| wanted(line.trim_end()));
        if has(&|line| line.trim() == "*** Begin Patch") {
            Ok(Self::Codex)
        } else if has(&|line| line.trim_start_matches('<') == " SEARCH" && line.starts_with("<<<<<")) {
            Ok(Self::SearchReplace)
        } else if has(&|line| {
            line.starts_with("diff --git ") || line.starts_with("--- ") || line.starts_with("@@ ")
        }) {
            Ok(Self::Unified)
        } else {
            Err(syntax(
                1,
                "this is no patch: it has none of `*** Begin Patch`, `--- a/file`, `<<<<<<< SEARCH`",
            ))
        }
    }
}

/// A patch that cannot be understood, with the line where, from 1.
pub fn syntax(line: usize, what: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::PatchSyntax, format!("line {line} of the patch: {what}"))
        .hint("nothing was applied; correct the patch and send it whole")
        .data(serde_json::json!({ "line": line }))
}

/// Whether a patch has a size that is read at all.
///
/// # Errors
/// `TooLarge`.
pub fn within_limits(text: &str) -> Result<(), Refusal> {
    if text.len() > PATCH_BYTES_MAX {
        return Err(Refusal::new(Code::TooLarge, format!("a patch has at most {PATCH_BYTES_MAX} bytes")));
    }
    Ok(())
}
