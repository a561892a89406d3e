//! A server on pipes, and what a client asks of it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// A server that was started and greeted.
pub(crate) struct Server {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, input, output, next: 0 };
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        assert!(server.request("initialize", &hello)["result"].is_object());
        server.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        server
    }

    /// `cuddy workspace serve` with its data in `data`.
    pub(crate) fn ours(data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuddy"));
        command.args(["workspace", "serve"]).args(arguments).env("XDG_DATA_HOME", data);
        Self::start(command)
    }

    pub(crate) fn say(&mut self, message: &Value) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{message}\n").as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// The next response, whichever request it answers; nothing when the server is gone.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let message: Value = serde_json::from_str(&line).ok()?;
            if message.get("id").is_some() && message.get("method").is_none() {
                return Some(message);
            }
        }
    }

    pub(crate) fn request(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        self.say(&json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}));
        self.hear().unwrap()
    }

    /// The result of one call, an error of the protocol as a result too.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        let reply = self.request("tools/call", &json!({"name": tool, "arguments": arguments}));
        reply.get("result").or(reply.get("error")).cloned().unwrap()
    }

    /// The text of a call that must succeed.
    pub(crate) fn good(&mut self, tool: &str, arguments: &Value) -> Value {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{tool} {arguments}: {result}");
        result
    }

    /// The code of a call that must be refused.
    pub(crate) fn refused(&mut self, tool: &str, arguments: &Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool} {arguments}: {result}");
        result["structuredContent"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The text of a result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

/// The reference server for a folder; nothing, and a word about it, when it is not installed.
pub(crate) fn reference(folder: &Path) -> Option<Server> {
    let installed =
        std::env::var_os("CUDDY_TEST_MCP").map_or_else(|| PathBuf::from("target/mcp"), PathBuf::from);
    let script = installed.join("npm/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js");
    if !script.exists() {
        let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
        assert!(
            !required.split([',', ' ']).any(|word| word == "mcp"),
            "CUDDY_REQUIRE names `mcp`: run tests/mcp/setup"
        );
        eprintln!("SKIPPED: no reference server; tests/mcp/setup installs it");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(script).arg(folder).env("TZ", "UTC");
    Some(Server::start(command))
}

/// A folder of its own, and its real path.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}
