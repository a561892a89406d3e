//! Pure: what may be typed behind `workspace`, but for `serve`. It decides nothing.

use clap::Args;

/// `workspace status`, `workspace history`
#[derive(Debug, Args)]
pub struct WorkspaceFolder {
    /// The folder
    #[arg(default_value = ".")]
    pub folder: String,
}

/// `workspace search`
#[derive(Debug, Args)]
pub struct WorkspaceSearch {
    /// Text to search for
    pub pattern: String,
    /// Files and folders below the current one
    pub paths: Vec<String>,
    /// The text is a regular expression
    #[arg(short = 'e', long)]
    pub regex: bool,
    /// Capitals make no difference
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Only paths that this means, as in `.gitignore`
    #[arg(short, long, value_name = "GLOB")]
    pub glob: Vec<String>,
    /// Name files only
    #[arg(short = 'l', long)]
    pub files: bool,
    /// Also what ignore files name
    #[arg(long)]
    pub no_ignore: bool,
}

/// `workspace outline`
#[derive(Debug, Args)]
pub struct WorkspaceOutline {
    /// Files, or folders of source files, below the current folder
    #[arg(required = true)]
    pub paths: Vec<String>,
}

/// `workspace map`
#[derive(Debug, Args)]
pub struct WorkspaceMap {
    /// The folder
    #[arg(default_value = ".")]
    pub folder: String,
    /// About how many tokens of a model
    #[arg(long, default_value_t = 2000)]
    pub tokens: usize,
    /// A path or name that it is about
    #[arg(long, value_name = "PATH|NAME")]
    pub focus: Vec<String>,
}

/// `workspace undo`
#[derive(Debug, Args)]
pub struct WorkspaceUndo {
    /// The operation, as `history` names it; without one the last
    pub operation: Option<String>,
    /// The folder
    #[arg(long, default_value = ".")]
    pub folder: String,
    /// Overwrite what was changed later
    #[arg(long)]
    pub force: bool,
    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,
}
