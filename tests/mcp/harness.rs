//! What the tests of MCP share: the folder that `setup` fills, the fixture server, a place of a test's own, and
//! programs that are started and end with the test.
//!
//! Not here: anything about a protocol message, and no judgement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes; the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at what is expected to change.
const LOOK: Duration = Duration::from_millis(20);

/// The folder that `tests/mcp/setup` made. Without it the test is skipped, unless `CUDDY_REQUIRE` names `mcp`.
pub(crate) fn installed() -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mcp");
    let folder = std::env::var_os("CUDDY_TEST_MCP").map_or(usual, PathBuf::from);
    if folder.join("stamp").is_file() {
        return Some(folder);
    }
    let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
    assert!(
        !required.split([',', ' ']).any(|word| word == "mcp"),
        "no MCP servers in `{}`, and CUDDY_REQUIRE names `mcp`: run tests/mcp/setup",
        folder.display()
    );
    eprintln!("SKIPPED: no MCP servers in `{}`; tests/mcp/setup installs them", folder.display());
    None
}

/// The fixture server; `cargo test` builds it with the other examples.
pub(crate) fn fixture() -> String {
    let path = Path::new(env!("CARGO_BIN_EXE_cuddy")).with_file_name("examples/mcp-fixture");
    assert!(path.is_file(), "`{}` is missing: cargo build --example mcp-fixture", path.display());
    text(&path).to_owned()
}

/// The path as text; every path here is ours.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the checkout and temporary folders have UTF-8 names")
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
    listener.local_addr().expect("it is bound").port()
}

/// A home, data, runtime and working folder that go away.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("cuddy-mcp-").expect("a folder for temporary files");
        for name in ["home", "data", "run", "work"] {
            let path = folder.path().join(name);
            fs::create_dir(&path).expect("the folder is empty");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
        }
        Self { folder }
    }

    /// A folder or file of this place, with no link on the way.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().expect("it is there").join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the place is ours");
        fs::write(&path, content).expect("the place is ours");
        path
    }

    /// `program` with this place as its only surroundings.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .env("HOME", self.path("home"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .current_dir(self.path("work"));
        command
    }

    pub(crate) fn cuddy(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_cuddy"))
    }
}

/// A program in a process group of its own that ends with this value; its standard error is in a file.
pub(crate) struct Running {
    pub(crate) child: Child,
    said: PathBuf,
}

impl Running {
    pub(crate) fn start(mut command: Command, said: PathBuf) -> Self {
        let errors = File::create(&said).expect("the place is ours");
        let child = command.stderr(errors).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, said }
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.said).unwrap_or_default()).into_owned()
    }

    /// The first line of its standard error that `wanted` finds something in.
    pub(crate) fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.said().lines().find_map(&wanted) {
                return found;
            }
            let ended = self.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{what} did not come, the program ended ({ended:?}):\n{}", self.said());
            assert!(begin.elapsed() < DEADLINE, "{what} did not come:\n{}", self.said());
            std::thread::sleep(LOOK);
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("a child has an id"), signal).expect("it is our child");
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begin.elapsed() < DEADLINE, "it does not end:\n{}", self.said());
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, and then both say so.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Looks until `holds`, within the deadline.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(LOOK);
    }
}

/// Runs the command to its end within the deadline and says what it printed and how it ended.
pub(crate) fn output(mut command: Command, place: &Place) -> (ExitStatus, String, String) {
    let printed = place.path("printed");
    command.stdin(Stdio::null()).stdout(File::create(&printed).expect("the place is ours"));
    let mut running = Running::start(command, place.path("errors"));
    let status = running.ended();
    (status, fs::read_to_string(&printed).expect("UTF-8 was printed"), running.said())
}
