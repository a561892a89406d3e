//! What a program outside the system folders needs to start: found, so that it alone is shown.
//!
//! A command is resolved as a shell does it; then each file on the way is asked what it needs: its
//! loader and libraries, its `#!` interpreter, the installation, the package, the virtual
//! environment it belongs to. Nothing is run, nothing is mounted, and no folder that holds more
//! than the program's own things is ever in the answer.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags};

use crate::engine::elf;
use crate::engine::libraries;
use crate::engine::node;
use crate::engine::python::{self, Python, Starts};
use crate::engine::reach::{self, Mount, Reach, ReachError, Walk};
use crate::engine::script::{self, Runs, Script};
use crate::engine::shims::{self, Choice};
use crate::error::{ErrorKind, Fault};
use crate::sys::fs::{self, FsError};

/// How much of a script's beginning is read, in bytes: launchers are small.
const SCRIPT_BYTES_MAX: usize = 16 * 1024;
/// How many programs may start each other before the last one runs.
const DEPTH_MAX: usize = 6;

/// A command, and what the caller and the sandbox know about the host.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The command as typed: a name, or a path with a slash.
    pub command: &'a OsStr,
    /// What follows the command.
    pub arguments: &'a [OsString],
    /// The folders of the caller's PATH.
    pub path: &'a [PathBuf],
    /// The caller's current folder, absolute.
    pub cwd: &'a Path,
    /// The caller's home folder.
    pub home: Option<&'a Path>,
    /// The caller's `PYENV_VERSION`.
    pub pyenv_version: Option<&'a OsStr>,
    /// What the sandbox shows anyway at the same path: the system folders, and workspaces.
    pub system: &'a [PathBuf],
}

/// What a program needs to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The absolute path to execute, the same inside as outside.
    pub program: PathBuf,
    /// What to mount read-only, in order of path; none lies inside another.
    pub mounts: Vec<Mount>,
    /// Links to make: where (no link is above it), and what it says. In order of path.
    pub symlinks: Vec<(PathBuf, PathBuf)>,
    /// PATH inside: the folders the program needs, then the caller's that are visible anyway.
    pub path: Vec<PathBuf>,
    /// What the reader should know, one line each.
    pub notes: Vec<String>,
}

/// Why a program cannot be started. The kind `NotFound` is exit code 127, every other is 126.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Nothing has that name.
    #[error("command `{}` was not found in {}", command.display(), listed(searched))]
    NotFound {
        /// The command as typed.
        command: OsString,
        /// The folders or the path where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// It is there but cannot be executed.
    #[error("`{path}` cannot be executed: {why}")]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A script's interpreter is missing or cannot be executed.
    #[error("the interpreter of `{script}` cannot be started")]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with the interpreter.
        source: Box<ProgramError>,
    },
    /// It stands for another program, and which one is not known.
    #[error("`{path}` only stands for another program, and which one was not found")]
    StandIn {
        /// The stand-in.
        path: PathBuf,
        /// What the reader can do.
        hint: String,
    },
    /// What it needs cannot be shown.
    #[error("what `{program}` needs cannot be shown")]
    Reach {
        /// The program or script.
        program: PathBuf,
        /// Which path, and why.
        source: ReachError,
    },
    /// The file cannot be read.
    #[error("`{program}` cannot be read")]
    Read {
        /// The program or script.
        program: PathBuf,
        /// What the kernel said.
        source: FsError,
    },
}

fn listed(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    if folders.is_empty() { "an empty PATH".to_owned() } else { folders.join(", ") }
}

impl Fault for ProgramError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::NotExecutable { .. } | Self::Interpreter { .. } => ErrorKind::Denied,
            Self::StandIn { .. } => ErrorKind::Unsupported,
            // A file that vanishes while we look is not a command that was never there.
            Self::Reach { .. } => ErrorKind::Denied,
            Self::Read { source, .. } => match source.kind() {
                ErrorKind::NotFound => ErrorKind::Failed,
                other => other,
            },
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NotFound { .. } => vec!["install it, or name it by its path".to_owned()],
            Self::StandIn { hint, .. } => vec![hint.clone()],
            Self::Interpreter { source, .. } => source.hints(),
            Self::Reach { source, .. } => source.hints(),
            Self::NotExecutable { .. } | Self::Read { .. } => Vec::new(),
        }
    }
}

/// Finds what the command needs to start.
///
/// # Errors
/// It is not there, it cannot be executed, or what it needs may not be shown.
pub fn find(question: &Question<'_>) -> Result<Needs, ProgramError> {
    let reach = Reach::new(question.system, question.home);
    let mut search = Search { question, reach, path: Vec::new() };
    let program = search.command(question.command, question.arguments, 0)?;
    let path = search.inner_path();
    let unseen = search.unseen_arguments();
    let (mounts, symlinks, mut notes) = search.reach.finish();
    notes.extend(unseen);
    Ok(Needs { program, mounts, symlinks, path, notes })
}

/// Who runs a script, as far as it matters for what the script needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Family {
    Python(Python),
    Node,
    Shell,
    Other,
}

/// A program whose needs were collected.
struct Started {
    /// The path to execute.
    program: PathBuf,
    /// What it is, or what runs it.
    family: Family,
    /// It is a script, so its arguments are its own affair.
    is_script: bool,
}

struct Search<'q, 'a> {
    question: &'q Question<'a>,
    reach: Reach<'a>,
    /// Folders for PATH inside, each with its place in the caller's PATH.
    path: Vec<(usize, PathBuf)>,
}

impl Search<'_, '_> {
    /// Collects what a command line needs and says what to execute.
    fn command(
        &mut self,
        command: &OsStr,
        arguments: &[OsString],
        depth: usize,
    ) -> Result<PathBuf, ProgramError> {
        let started = self.start_named(command, depth)?;
        let name = Path::new(command).file_name().unwrap_or(command);
        let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
        if name == "env" && depth < DEPTH_MAX {
            if let Some((at, inner)) = script::env_command(words.iter().copied()) {
                self.command(inner, &arguments[at + 1..], depth + 1)?;
            }
            return Ok(started.program);
        }
        self.note_launchers(name, &words);
        let wrong = |source| ProgramError::Reach { program: started.program.clone(), source };
        match &started.family {
            _ if node::is_name(name) => self.node_arguments(&words).map_err(wrong)?,
            Family::Python(python) if !started.is_script => {
                self.python_arguments(python, &words).map_err(wrong)?;
            }
            Family::Shell if !started.is_script => self.shell_arguments(&words).map_err(wrong)?,
            Family::Python(_) | Family::Node | Family::Shell | Family::Other => {}
        }
        Ok(started.program)
    }

    fn start_named(&mut self, command: &OsStr, depth: usize) -> Result<Started, ProgramError> {
        if command.as_encoded_bytes().contains(&b'/') {
            return self.start(&self.question.cwd.join(command), depth);
        }
        let (rank, found) = self.along_path(command, None)?;
        let started = self.start(&found, depth)?;
        self.add_to_path(rank, &started.program);
        Ok(started)
    }

    fn add_to_path(&mut self, rank: usize, program: &Path) {
        if let Some(folder) = program.parent().filter(|folder| !self.reach.is_system(folder)) {
            self.path.push((rank, folder.to_owned()));
        }
    }

    /// The first executable of that name along PATH and its place there; `without` is left out.
    fn along_path(&self, name: &OsStr, without: Option<&Path>) -> Result<(usize, PathBuf), ProgramError> {
        let not_found =
            || ProgramError::NotFound { command: name.to_owned(), searched: self.question.path.to_vec() };
        if name.is_empty() || name == "." || name == ".." {
            return Err(not_found());
        }
        let mut refused = None;
        let folders = self.question.path.iter().map(|folder| self.question.cwd.join(folder)).enumerate();
        for (rank, folder) in folders.filter(|(_, folder)| without.is_none_or(|without| folder != without)) {
            let place = folder.join(name);
            match std::fs::metadata(&place).map(|meta| why_not_executable(&place, &meta)) {
                Ok(None) => return Ok((rank, place)),
                Ok(Some(why)) => refused = refused.or(Some((place, why))),
                Err(_) => {}
            }
        }
        Err(refused.map_or_else(not_found, |(path, why)| ProgramError::NotExecutable { path, why }))
    }

    /// Collects what the program at the absolute `path` needs.
    fn start(&mut self, path: &Path, depth: usize) -> Result<Started, ProgramError> {
        if depth > DEPTH_MAX {
            let why = format!("more than {DEPTH_MAX} programs start each other");
            return Err(ProgramError::NotExecutable { path: path.to_owned(), why });
        }
        let path = plain(path);
        let walk = follow(&path)?;
        let wrong = |source| ProgramError::Reach { program: path.clone(), source };
        let name = path.file_name().unwrap_or_default();
        if let Some(hint) = shims::stand_in(name, &walk.real) {
            return Err(ProgramError::StandIn { path, hint: hint.to_owned() });
        }
        let (meta, head) = self.look(&path, &walk)?;
        let script = script::parse(&head);
        if let Some(chosen) = self.stands_for(&path, script.as_ref())? {
            return self.start(&chosen, depth + 1);
        }
        self.reach.file(&path, "program").map_err(wrong)?;
        if meta.mode() & 0o6000 != 0 {
            let name = path.display();
            self.reach.note(format!("`{name}` is set-user-id or set-group-id, which has no effect inside"));
        }
        if let Some(script) = script {
            return self.start_script(path, &walk, script, depth);
        }
        let family = self.start_binary(&path, &walk, &head)?;
        Ok(Started { program: path, family, is_script: false })
    }

    /// Opens the file and reads its beginning. One that may be executed but not read is known by
    /// its name only.
    fn look(&mut self, path: &Path, walk: &Walk) -> Result<(Metadata, Vec<u8>), ProgramError> {
        let wrong = |source| ProgramError::Read { program: path.to_owned(), source };
        let meta =
            std::fs::metadata(&walk.real).map_err(|e| wrong(FsError::new("look at", &walk.real, e)))?;
        if let Some(why) = why_not_executable(&walk.real, &meta) {
            return Err(ProgramError::NotExecutable { path: path.to_owned(), why });
        }
        let file = match fs::open_regular(&walk.real) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::Denied => {
                self.reach.note(format!("`{}` cannot be read: what it needs is not known", path.display()));
                return Ok((meta, b"\x7fELF".to_vec()));
            }
            Err(e) => return Err(wrong(e)),
        };
        let mut head = vec![0; SCRIPT_BYTES_MAX];
        let read = file.read_at(&mut head, 0).map_err(|e| wrong(FsError::new("read", &walk.real, e)))?;
        head.truncate(read);
        if !elf::is_elf(&head) && script::parse(&head).is_none() {
            let why = "it is neither an ELF program nor a script that begins with `#!`".to_owned();
            return Err(ProgramError::NotExecutable { path: path.to_owned(), why });
        }
        Ok((meta, head))
    }

    /// The program that a shim of pyenv or asdf would start.
    fn stands_for(&self, path: &Path, script: Option<&Script>) -> Result<Option<PathBuf>, ProgramError> {
        let name = path.file_name().unwrap_or_default();
        let stand_in = |hint: String| ProgramError::StandIn { path: path.to_owned(), hint };
        let question = self.question;
        match script.map(|script| &script.runs) {
            Some(Runs::Pyenv(root)) => match shims::pyenv(root, name, question.pyenv_version, question.cwd) {
                Choice::Program(program) => Ok(Some(program)),
                Choice::System => {
                    self.along_path(name, Some(&root.join("shims"))).map(|(_, found)| Some(found))
                }
                Choice::Nothing(why) => Err(stand_in(format!(
                    "{why}: choose with PYENV_VERSION, or name the program by its path"
                ))),
            },
            Some(Runs::Asdf(pairs)) => match shims::asdf(path, pairs, question.cwd, question.home) {
                Some(program) => Ok(Some(program)),
                None => {
                    Err(stand_in(format!("name the program that `asdf which {}` prints", name.display())))
                }
            },
            _ => Ok(None),
        }
    }

    fn start_binary(&mut self, path: &Path, walk: &Walk, head: &[u8]) -> Result<Family, ProgramError> {
        let wrong = |source| ProgramError::Reach { program: path.to_owned(), source };
        let real = &walk.real;
        let places: Vec<PathBuf> = [path]
            .into_iter()
            .chain(walk.links.iter().map(|(link, _)| link.as_path()))
            .chain([real.as_path()])
            .map(Path::to_owned)
            .collect();
        let named =
            |test: &dyn Fn(&OsStr) -> bool| places.iter().filter_map(|place| place.file_name()).any(test);
        let family = if named(&python::is_name) {
            Family::Python(python::show_interpreter(&mut self.reach, &places, real).map_err(wrong)?)
        } else if named(&node::is_name) {
            node::show_interpreter(&mut self.reach, real).map_err(wrong)?;
            Family::Node
        } else if named(&|name| {
            ["sh", "bash", "dash", "zsh", "perl", "ruby"].iter().any(|shell| name == *shell)
        }) {
            self.show_installation(real).map_err(wrong)?;
            Family::Shell
        } else {
            self.show_installation(real).map_err(wrong)?;
            Family::Other
        };
        if !self.reach.is_system(real) {
            if head.get(8..11) == Some(b"AI\x02") {
                let name = path.display();
                self.reach.note(format!(
                    "`{name}` is an AppImage: it mounts itself with FUSE, which is not inside"
                ));
            }
            let file = fs::open_regular(real).ok();
            if let Some(elf) = file.and_then(|file| libraries::headers(&file)) {
                libraries::show(&mut self.reach, real, elf).map_err(wrong)?;
            }
        }
        Ok(family)
    }

    /// Shows the installation of other languages, known by what lies beside their `bin`.
    fn show_installation(&mut self, real: &Path) -> Result<(), ReachError> {
        const MARKS: [&str; 6] =
            ["conda-meta", "lib/erlang", "lib/modules", "lib/node_modules", "lib/perl5", "lib/ruby"];
        let prefix = real.parent().filter(|bin| bin.ends_with("bin")).and_then(Path::parent);
        let Some(prefix) = prefix.filter(|prefix| !self.reach.is_system(prefix)) else { return Ok(()) };
        if MARKS.iter().any(|mark| prefix.join(mark).exists()) {
            self.reach.folder(prefix, "installation of the program")?;
        }
        Ok(())
    }

    fn start_script(
        &mut self,
        path: PathBuf,
        walk: &Walk,
        script: Script,
        depth: usize,
    ) -> Result<Started, ProgramError> {
        let wrong = |source| ProgramError::Reach { program: path.clone(), source };
        let interpreter = |error| ProgramError::Interpreter { script: path.clone(), source: Box::new(error) };
        let folder = walk.real.parent().unwrap_or(Path::new("/"));
        let first =
            self.start(&self.question.cwd.join(&script.interpreter), depth + 1).map_err(interpreter)?;
        let (family, module) = match script.runs {
            Runs::Interpreter | Runs::Pyenv(_) | Runs::Asdf(_) => (first.family, None),
            Runs::Program(program) => (self.start(&program, depth + 1).map_err(interpreter)?.family, None),
            Runs::Beside(name) => {
                (self.start(&folder.join(name), depth + 1).map_err(interpreter)?.family, None)
            }
            Runs::ThroughPath(name) => {
                (self.start_named(&name, depth + 1).map_err(interpreter)?.family, None)
            }
            Runs::NodeModule(module) => {
                let node = self.start_named(OsStr::new("node"), depth + 1).map_err(interpreter)?;
                let module = path.parent().unwrap_or(folder).join(module);
                (node.family, Some(module).filter(|module| node::may_launch(folder, module)))
            }
        };
        match &family {
            Family::Python(python) => {
                python::show_script(&mut self.reach, &path).map_err(wrong)?;
                let home = self.question.home;
                if home.is_some_and(|home| folder.starts_with(home.join(".local/bin"))) {
                    python::show_user_packages(&mut self.reach, python, home).map_err(wrong)?;
                }
            }
            Family::Node => {
                node::show_module(&mut self.reach, module.as_deref().unwrap_or(&path)).map_err(wrong)?;
            }
            Family::Shell if !self.reach.is_system(&walk.real) => {
                let name = path.display();
                self.reach.note(format!(
                    "`{name}` is a script: what else it calls was not looked for; --ro DIR shows it"
                ));
            }
            Family::Shell | Family::Other => {}
        }
        Ok(Started { program: path, family, is_script: true })
    }

    fn python_arguments(&mut self, python: &Python, words: &[&OsStr]) -> Result<(), ReachError> {
        let (cwd, home) = (self.question.cwd, self.question.home);
        match python::starts(words) {
            Starts::Script(at) => {
                let script = cwd.join(words[at]);
                if script.is_file() {
                    python::show_script(&mut self.reach, &script)?;
                } else if script.join("__main__.py").is_file()
                    && !self.reach.folder(&script, "program's folder")?
                {
                    self.reach.note(format!("`{}` is too broad to be shown", script.display()));
                }
                Ok(())
            }
            Starts::Module(name) => {
                let name = name.to_string_lossy();
                python::show_module(&mut self.reach, python, &name, cwd, home)
            }
            Starts::Nothing => Ok(()),
        }
    }

    fn node_arguments(&mut self, words: &[&OsStr]) -> Result<(), ReachError> {
        match node::module_argument(words, self.question.cwd) {
            Some((_, module)) => node::show_module(&mut self.reach, &module),
            None => Ok(()),
        }
    }

    /// A shell's script, alone: what lies beside it is not known to be its own.
    fn shell_arguments(&mut self, words: &[&OsStr]) -> Result<(), ReachError> {
        let Some(first) = words.iter().find(|word| !word.as_encoded_bytes().starts_with(b"-")) else {
            return Ok(());
        };
        let reads_code = words.iter().take_while(|word| *word != first).any(|option| {
            let option = option.as_encoded_bytes();
            !option.starts_with(b"--") && (option.contains(&b'c') || option.contains(&b'e'))
        });
        let script = self.question.cwd.join(first);
        if !reads_code && script.is_file() {
            self.reach.file(&script, "script")?;
            let name = script.display();
            self.reach.note(format!(
                "`{name}` is a script: what else it calls was not looked for; --ro DIR shows it"
            ));
        }
        Ok(())
    }

    /// npx and uvx fetch what they run: says what that needs, and what needs it not.
    fn note_launchers(&mut self, name: &OsStr, words: &[&OsStr]) {
        let asked = words.iter().filter_map(|word| word.to_str()).find(|word| !word.starts_with('-'));
        if name == "npx" || name == "npm" || name == "bunx" || name == "pnpx" {
            let asked = asked.filter(|_| name == "npx");
            let cached =
                asked.zip(self.question.home).map(|(asked, home)| node::cached_programs(home, asked));
            if let Some(program) = cached.unwrap_or_default().first() {
                self.reach.note(format!(
                    "npx has this in its cache: name `{}` instead, which needs neither network nor cache",
                    program.display()
                ));
            }
            self.reach.note(format!(
                "`{}` fetches packages and writes its cache: it needs --network host, and a cache that nothing outside \
                 trusts, `--rw DIR --env npm_config_cache=DIR`; an installed program (`npm install -g PACKAGE`) \
                 needs none of them",
                name.display()
            ));
        }
        if name == "uvx" || name == "uv" || name == "pipx" {
            self.reach.note(format!(
                "`{}` fetches packages and writes its cache: it needs --network host, and a cache that nothing outside \
                 trusts, `--rw DIR --env UV_CACHE_DIR=DIR`; an installed program (`uv tool install PACKAGE`, or the one in `.venv/bin`) needs none of them",
                name.display()
            ));
        }
    }

    /// PATH inside: what the program needs in the caller's order, then what is visible anyway.
    fn inner_path(&mut self) -> Vec<PathBuf> {
        self.path.sort_by_key(|(rank, _)| *rank);
        let mut folders: Vec<PathBuf> = self.path.drain(..).map(|(_, folder)| folder).collect();
        let callers = self.question.path.iter().filter(|folder| folder.is_absolute()).cloned();
        let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
        for folder in callers.chain(usual).filter(|folder| self.reach.is_system(folder)) {
            folders.push(folder);
        }
        let mut seen = std::collections::BTreeSet::new();
        folders.retain(|folder| seen.insert(folder.clone()));
        folders
    }

    /// Arguments that are paths of the host and that the program will not find.
    fn unseen_arguments(&self) -> Vec<String> {
        let path_in = |word: &OsStr| {
            let bytes = word.as_encoded_bytes();
            let value = match bytes.iter().position(|byte| *byte == b'=') {
                Some(at) if bytes.starts_with(b"-") => PathBuf::from(word.to_str()?.get(at + 1..)?),
                _ => PathBuf::from(word),
            };
            let is_path = value.as_os_str().as_encoded_bytes().contains(&b'/')
                || value.as_os_str() == "."
                || value.as_os_str() == "..";
            let walk = reach::walk(&self.question.cwd.join(&value)).ok().filter(|_| is_path)?;
            (!self.reach.shows(&walk.real)).then_some(walk.real)
        };
        let unseen = self.question.arguments.iter().filter_map(|word| Some((word, path_in(word)?)));
        unseen
            .map(|(word, real)| {
                let flag = if real.is_dir() { "--ro DIR or --workspace DIR" } else { "--ro" };
                format!("argument `{}` exists but is not visible inside: add {flag}", word.display())
            })
            .collect()
    }
}

/// The path without `.`; where it has `..`, without links in its folder too, for which `..` means
/// something else inside.
fn plain(path: &Path) -> PathBuf {
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    let folder = path.parent().filter(|_| climbs).and_then(|folder| reach::walk(folder).ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.real.join(name),
        _ => path.components().collect(),
    }
}

/// Follows the links of a program's path; a missing file is "not found", all else "cannot execute".
fn follow(path: &Path) -> Result<Walk, ProgramError> {
    reach::walk(path).map_err(|error| match error {
        ReachError::Walk { source, .. } if source.kind() == ErrorKind::NotFound => {
            ProgramError::NotFound { command: path.as_os_str().to_owned(), searched: vec![path.to_owned()] }
        }
        ReachError::Walk { source, .. } => {
            ProgramError::NotExecutable { path: path.to_owned(), why: source.source.to_string() }
        }
        source @ ReachError::Private { .. } => ProgramError::Reach { program: path.to_owned(), source },
    })
}

/// Why the kernel would not execute a file, as far as its type and mode say; `None` when it would.
fn why_not_executable(path: &Path, meta: &Metadata) -> Option<String> {
    if meta.is_dir() {
        return Some("it is a folder".to_owned());
    }
    if !meta.is_file() {
        return Some("it is not a regular file".to_owned());
    }
    let allowed = rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    allowed.err().map(|_| "you may not execute it: see its mode (`chmod +x`)".to_owned())
}
