//! Rows of `scenarios.json` made real: a workspace with its files, the words that start the server, and what
//! `client.py` writes down of one session with it.
//!
//! The test program's root declares `mod harness`. Not here: any comparison.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::text;

/// The clients, by the folder that `setup` gives them: `mcp` 1.30.0 and 2.3.0.
pub(crate) const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// One row of `scenarios.json`. `{mcp}` is the folder of `setup`, `{workspace}` a fresh folder, `{web}` the
/// address of a web server on loopback.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Files to find in the workspace; without it there is no workspace.
    workspace: Option<BTreeMap<String, String>>,
    /// The workspace is a repository with one commit, and these files are changed since.
    git: Option<BTreeMap<String, String>>,
    /// The server needs the network of the host.
    #[serde(default)]
    pub(crate) network: bool,
    calls: Value,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    serde_json::from_str(include_str!("scenarios.json")).expect("scenarios.json has the shape of `Scenario`")
}

/// A scenario with its workspace in place.
pub(crate) struct Staged<'s> {
    pub(crate) scenario: &'s Scenario,
    mcp: &'s Path,
    web: String,
    workspace: PathBuf,
    _home: TempDir,
}

impl<'s> Staged<'s> {
    pub(crate) fn new(scenario: &'s Scenario, mcp: &'s Path, web: &Web) -> Self {
        let home = tempfile::tempdir().expect("a folder for the workspace");
        let workspace = home.path().canonicalize().expect("the folder just made").join("workspace");
        let staged = Self { scenario, mcp, web: web.address.to_string(), workspace, _home: home };
        if let Some(files) = &scenario.workspace {
            write_files(&staged.workspace, files);
            if let Some(changes) = &scenario.git {
                staged.make_repository();
                write_files(&staged.workspace, changes);
            }
        }
        staged
    }

    pub(crate) fn workspace(&self) -> Option<&Path> {
        self.scenario.workspace.as_ref().map(|_| self.workspace.as_path())
    }

    fn placed(&self, words: &str) -> String {
        words
            .replace("{workspace}", text(&self.workspace))
            .replace("{mcp}", text(self.mcp))
            .replace("{web}", &self.web)
    }

    pub(crate) fn command(&self) -> Vec<String> {
        self.scenario.command.iter().map(|word| self.placed(word)).collect()
    }

    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        let env = self.scenario.env.iter();
        env.map(|(name, value)| (name.clone(), self.placed(value))).collect()
    }

    /// `[tool, arguments]`, one for each call.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        let calls = self.placed(&self.scenario.calls.to_string());
        serde_json::from_str(&calls).expect("calls are pairs of a tool and its arguments")
    }

    /// One commit of all that lies there, with the same id each time.
    fn make_repository(&self) {
        let steps: [&[&str]; 3] =
            [&["init", "-q", "-b", "main"], &["add", "-A"], &["commit", "-q", "-m", "first"]];
        for step in steps {
            let ended = Command::new("git")
                .arg("-C")
                .arg(&self.workspace)
                .args(step)
                .envs(&self.scenario.env)
                .output();
            let ended = ended.expect("git is installed");
            assert!(ended.status.success(), "git {step:?}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}

fn write_files(folder: &Path, files: &BTreeMap<String, String>) {
    fs::create_dir_all(folder).expect("a folder beneath a temporary one");
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("files lie in a folder"))
            .expect("a folder beneath a temporary one");
        fs::write(&path, content).expect("a file beneath a temporary folder");
    }
}

/// What `client.py` of the named client writes down of a session with `command`.
pub(crate) fn transcript(
    staged: &[&Staged<'_>],
    mcp: &Path,
    client: &str,
    command: &[String],
    calls: &[(String, Value)],
) -> String {
    let python = mcp.join(client).join("bin/python");
    let mut asking = Command::new(&python);
    asking.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.py"));
    asking.args(["--calls", &serde_json::to_string(calls).expect("JSON made of JSON")]);
    for one in staged {
        asking.args(["--place", &format!("WORKSPACE={}", text(&one.workspace))]);
        asking.args(["--place", &format!("WEB={}", one.web)]);
        for (name, value) in one.env() {
            asking.args(["--env", &format!("{name}={value}")]);
        }
        if let Some(workspace) = one.workspace() {
            asking.args(["--tree", text(workspace)]);
        }
    }
    asking.arg("--").args(command);
    let ended = asking.stdin(Stdio::null()).output();
    let ended = ended.unwrap_or_else(|error| panic!("cannot start `{}`: {error}", python.display()));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{command:?} with {client}: {}\n{said}", ended.status);
    String::from_utf8(ended.stdout).expect("client.py prints UTF-8")
}

/// A web server on loopback with one page and no `robots.txt`; lives as long as the test program.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
}

impl Web {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is up");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who asks and goes away is no concern of the next one.
                let _gone = answer(&stream);
            }
        });
        Self { address }
    }
}

fn answer(mut stream: &std::net::TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let asked = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match asked.split(' ').nth(1) {
        Some("/page.html") => (
            "200 OK",
            "<html><head><title>Logbook</title></head><body><main><h1>Logbook</h1><p>Wind from the west, é and 漢字.</p></main></body></html>",
        ),
        _ => ("404 Not Found", "nothing here"),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
