//! A client of `mcp serve` as small as can be: lines of JSON, answers by their number.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Host;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A server and the conversation with it; it is killed when this goes away.
pub(crate) struct Server {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    answers: BTreeMap<u64, Value>,
    /// The progress of all calls, in the order in which it came.
    pub(crate) progress: Vec<f64>,
    last: u64,
}

impl Server {
    pub(crate) fn start(host: &Host, flags: &[&str]) -> Self {
        let mut command = host.cuddy_command(&["mcp", "serve"]);
        command.args(flags).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("cuddy starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).expect("the server speaks JSON alone");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (answers, progress) = (BTreeMap::new(), Vec::new());
        let mut server = Self { child, input, lines, answers, progress, last: 0 };
        let who = json!({ "name": "test", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": who });
        server.request("initialize", hello);
        server.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        server
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("it fits")
    }

    fn say(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("the conversation goes on");
        writeln!(input, "{message}").expect("the server reads");
    }

    fn ask(&mut self, method: &str, parameters: Value) -> u64 {
        self.last += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": parameters });
        self.say(&message);
        self.last
    }

    /// Any request, to its result.
    pub(crate) fn request(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.ask(method, parameters);
        self.answer(id)
    }

    /// Begins a call.
    pub(crate) fn send(&mut self, tool: &str, arguments: Value) -> u64 {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        let parameters = json!({ "requestId": id, "reason": "test" });
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": parameters }));
    }

    /// The result of a request.
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(result) = self.answers.remove(&id) {
                return result;
            }
            let message = self.lines.recv_timeout(ANSWER_WITHIN).expect("the server answers");
            match message["id"].as_u64() {
                Some(id) => drop(self.answers.insert(id, message["result"].clone())),
                None => self.progress.extend(message["params"]["progress"].as_f64()),
            }
        }
    }

    /// One call, whatever becomes of it.
    pub(crate) fn raw(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.send(tool, arguments);
        self.answer(id)
    }

    /// A call that goes well: its structured content.
    #[track_caller]
    pub(crate) fn good(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.raw(tool, arguments);
        assert_eq!(reply["isError"], false, "{tool}: {reply}");
        reply["structuredContent"].clone()
    }

    /// The same, with progress.
    #[track_caller]
    pub(crate) fn good_with_progress(&mut self, tool: &str, arguments: Value) -> Value {
        let meta = json!({ "progressToken": "t" });
        let parameters = json!({ "name": tool, "arguments": arguments, "_meta": meta });
        let reply = self.request("tools/call", parameters);
        assert_eq!(reply["isError"], false, "{tool}: {reply}");
        reply["structuredContent"].clone()
    }

    /// A call that fails: what it says to programs.
    #[track_caller]
    pub(crate) fn refused(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.raw(tool, arguments);
        assert_eq!(reply["isError"], true, "{tool}: {reply}");
        reply["structuredContent"].clone()
    }

    /// A new sandbox: its name.
    #[track_caller]
    pub(crate) fn create(&mut self, asked: Value) -> String {
        let made = self.good("sandbox_create", asked);
        made["sandbox"].as_str().expect("a name").to_owned()
    }

    /// Resident memory that is the server's own, in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Closes its input; its exit code.
    pub(crate) fn close(&mut self) -> Option<i32> {
        self.input = None;
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The code of a failure.
pub(crate) fn code(failure: &Value) -> &str {
    failure["code"].as_str().unwrap_or_default()
}

/// What a command wrote.
pub(crate) fn stdout(done: &Value) -> String {
    done["stdout"].as_str().unwrap_or_default().to_owned()
}
