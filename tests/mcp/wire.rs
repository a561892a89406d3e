//! A client that speaks the revision with the handshake line by line, so that a test sees every message as it is.
//!
//! Not here: any library of the protocol, for its kindness would hide what a server does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Place, Running};

/// A session over stdio. Ends with this value.
pub(crate) struct Session {
    pub(crate) running: Running,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// What came and was no reply to what was waited for.
    pub(crate) heard: Vec<Value>,
    last: u64,
}

impl Session {
    /// Starts the program and shakes hands with it, as a client that can do nothing.
    pub(crate) fn start(command: Command, place: &Place) -> Self {
        Self::start_with(command, place, &json!({})).0
    }

    /// The same as a client with these capabilities; with what the server said of itself.
    pub(crate) fn start_with(command: Command, place: &Place, capabilities: &Value) -> (Self, Value) {
        let mut session = Self::without_handshake(command, place);
        let client = json!({ "name": "wire", "version": "1" });
        let hello =
            json!({ "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client });
        let mut reply = session.request("initialize", &hello);
        assert!(reply.get("result").is_some(), "no handshake: {reply}");
        session.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        (session, reply["result"].take())
    }

    pub(crate) fn without_handshake(mut command: Command, place: &Place) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command, place.path("gateway.log"));
        let output = running.child.stdout.take().expect("it was asked for");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line);
                let message =
                    message.unwrap_or_else(|error| json!({ "no JSON": line, "because": error.to_string() }));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let input = running.child.stdin.take();
        Self { running, input, messages, heard: Vec::new(), last: 0 }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("the input is open");
        let written = writeln!(input, "{message}").and_then(|()| input.flush());
        written.unwrap_or_else(|error| panic!("{message} was not taken: {error}\n{}", self.running.said()));
    }

    /// Sends a request and says its id.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.last += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.last, "method": method, "params": params }));
        self.last
    }

    /// The reply to the request with this id; what else comes is kept.
    pub(crate) fn reply(&mut self, id: u64) -> Value {
        self.reply_to(&json!(id))
    }

    pub(crate) fn reply_to(&mut self, id: &Value) -> Value {
        let is_it = |message: &Value| message["id"] == *id && message.get("method").is_none();
        self.next(&format!("the reply to request {id}"), is_it)
    }

    /// The next request or notification of this method; what else comes is kept.
    pub(crate) fn told(&mut self, method: &str) -> Value {
        self.next(method, |message| message["method"] == method)
    }

    fn next(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.heard.iter().position(&is_it) {
            return self.heard.remove(at);
        }
        let until = Instant::now() + DEADLINE;
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) if is_it(&message) => return message,
                Ok(message) => self.heard.push(message),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{what} does not come; heard {:.2000?}\n{}", self.heard, self.running.said())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the output ended before {what}\n{}", self.running.said())
                }
            }
        }
    }

    pub(crate) fn request(&mut self, method: &str, params: &Value) -> Value {
        let id = self.ask(method, params);
        self.reply(id)
    }

    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> Value {
        self.request("tools/call", &json!({ "name": tool, "arguments": arguments }))
    }

    /// The names of all tools, page by page.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let (mut names, mut params) = (Vec::new(), json!({}));
        loop {
            let page = self.request("tools/list", &params);
            let tools =
                page["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list of tools: {page}"));
            names.extend(
                tools.iter().map(|tool| tool["name"].as_str().expect("a tool has a name").to_owned()),
            );
            match page["result"].get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return names,
            }
        }
    }

    /// Takes what has come and waits for no more.
    pub(crate) fn gather(&mut self) {
        self.heard.extend(self.messages.try_iter());
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Ends the input and waits for the end.
    pub(crate) fn end(mut self) -> (std::process::ExitStatus, String) {
        self.close_input();
        (self.running.ended(), self.running.said())
    }
}

/// The first text of a tool's result.
pub(crate) fn said(reply: &Value) -> &str {
    reply["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {reply:.2000}"))
}
