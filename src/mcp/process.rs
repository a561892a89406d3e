//! A server as a process of ours on plain pipes: `cuddy mcp run`, which holds its sandbox.
//!
//! It ends in steps: end of input, SIGTERM, SIGKILL. What it writes to standard error goes into its log.
//! What it says is carried, not read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::error::{Error, ErrorKind};
use crate::mcp::lines::{Line, LineWriter, Lines};
use crate::mcp::link::{EndReason, FromUpstream, Link, RECEIVE_MESSAGES_MAX, SEND_MESSAGES_MAX, pass};

/// Read at once from standard error, in bytes.
const LOG_CHUNK_BYTES: usize = 8 << 10;
/// How long the pipes of a process that has ended may stay open, held by whom it left behind, in
/// milliseconds.
const PIPES_MS: u64 = 500;

/// Takes what a server writes to standard error.
pub type Log = Box<dyn FnMut(&[u8]) + Send>;

/// What to start, and how.
pub struct ProcessStart {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its variables besides ours.
    pub environment: BTreeMap<String, String>,
    /// Where it starts; here when there is none.
    pub cwd: Option<PathBuf>,
    /// Longest line that it may say, in bytes.
    pub message_bytes_max: usize,
    /// How long each step of ending it may take.
    pub grace: Duration,
    /// Where its standard error goes.
    pub log: Log,
}

/// Starts a server; what goes wrong comes over the link.
pub fn start(what: ProcessStart) -> Link {
    let (send, to_server) = mpsc::channel(SEND_MESSAGES_MAX);
    let (to_hub, receive) = mpsc::channel(RECEIVE_MESSAGES_MAX);
    tokio::spawn(async move {
        let reason = hold(what, to_server, &to_hub).await;
        // A hub that is gone needs no reason.
        drop(to_hub.send(FromUpstream::Ended(reason)).await);
    });
    Link { send, receive }
}

async fn hold(
    what: ProcessStart,
    to_server: mpsc::Receiver<Vec<u8>>,
    to_hub: &mpsc::Sender<FromUpstream>,
) -> EndReason {
    let ProcessStart { program, arguments, environment, cwd, message_bytes_max, grace, log } = what;
    let mut command = Command::new(&program);
    command.arg0("cuddy").args(&arguments).envs(&environment).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cwd) = &cwd {
        command.current_dir(cwd);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(why) => {
            let what = format!("cannot start `{}`: {why}", program.display());
            return EndReason::Failed(Error::new(ErrorKind::Failed, what));
        }
    };
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return EndReason::Failed(Error::new(ErrorKind::Bug, "the process has no pipes"));
    };
    if let Some(pid) = child.id() {
        // A hub that is gone shows below.
        drop(to_hub.send(FromUpstream::Started { pid }).await);
    }
    let logger = tokio::spawn(write_log(stderr, log));
    let mut writer = tokio::spawn(write(stdin, to_server));
    let mut reader = tokio::spawn(read(stdout, to_hub.clone(), message_bytes_max));
    let mut was_asked = false;
    let mut has_read = false;
    let too_long = tokio::select! {
        _ended = child.wait() => false,
        said = &mut reader => {
            has_read = true;
            matches!(said, Ok(Said::TooLong))
        }
        _asked = &mut writer => {
            was_asked = true;
            false
        }
    };
    // Its input ends with the writer.
    writer.abort();
    let status = end(&mut child, grace, too_long).await;
    if !has_read && timeout(Duration::from_millis(PIPES_MS), &mut reader).await.is_err() {
        reader.abort();
    }
    let logger_abort = logger.abort_handle();
    if timeout(Duration::from_millis(PIPES_MS), logger).await.is_err() {
        logger_abort.abort();
    }
    match (too_long, was_asked, status) {
        (true, ..) => {
            let what = format!("a line of its output is longer than {message_bytes_max} bytes");
            EndReason::Failed(Error::new(ErrorKind::Limit, what))
        }
        (_, true, _) => EndReason::Asked,
        (_, _, Some(status)) => EndReason::Exited(status.to_string()),
        (_, _, None) => EndReason::Failed(Error::new(ErrorKind::Failed, "it cannot be waited for")),
    }
}

/// Waits for the end of a process, and hastens it: SIGTERM, then SIGKILL. `at_once` skips the waiting.
async fn end(child: &mut Child, grace: Duration, at_once: bool) -> Option<ExitStatus> {
    if !at_once && let Ok(status) = timeout(grace, child.wait()).await {
        return status.ok();
    }
    // It was not waited for, so the number is still its own.
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended needs no signal.
        let _ended = kill_process(pid, Signal::TERM);
    }
    if let Ok(status) = timeout(grace, child.wait()).await {
        return status.ok();
    }
    let _ended = child.start_kill();
    child.wait().await.ok()
}

/// Writes messages until nobody has any more. A server that closed its input gets none.
async fn write(stdin: ChildStdin, mut messages: mpsc::Receiver<Vec<u8>>) {
    let mut lines = LineWriter::new(stdin);
    while let Some(message) = messages.recv().await {
        lines.add(&message);
        while !lines.is_full()
            && let Ok(message) = messages.try_recv()
        {
            lines.add(&message);
        }
        if lines.flush().await.is_err() {
            break;
        }
    }
    drop(lines);
    while messages.recv().await.is_some() {}
}

/// How the reading of its output ended.
enum Said {
    Everything,
    TooLong,
}

async fn read(stdout: ChildStdout, to_hub: mpsc::Sender<FromUpstream>, bytes_max: usize) -> Said {
    let mut lines = Lines::new(stdout, bytes_max);
    loop {
        match lines.next().await {
            Ok(Line::Message(message)) => {
                let bytes = message.len();
                if pass(&to_hub, FromUpstream::Message(message), bytes).await.is_err() {
                    return Said::Everything;
                }
            }
            Ok(Line::End) | Err(_) => return Said::Everything,
            Ok(Line::TooLong) => return Said::TooLong,
        }
    }
}

async fn write_log(mut stderr: ChildStderr, mut log: Log) {
    let mut buffer = vec![0; LOG_CHUNK_BYTES];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        log(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Link {
        start(ProcessStart {
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::new(),
            cwd: None,
            message_bytes_max: 1_000,
            grace: Duration::from_millis(300),
            log: Box::new(|_| {}),
        })
    }

    async fn all(mut link: Link, say: &[&str]) -> (Vec<String>, EndReason) {
        for message in say {
            link.send.send(message.as_bytes().to_vec()).await.unwrap();
        }
        let Link { send, receive } = &mut link;
        let mut said = Vec::new();
        let mut send = Some(send.clone());
        while let Some(what) = receive.recv().await {
            match what {
                FromUpstream::Started { .. } => {}
                FromUpstream::Message(message) => {
                    said.push(String::from_utf8(message).unwrap());
                    send = None;
                }
                FromUpstream::Ended(reason) => {
                    drop(send);
                    return (said, reason);
                }
            }
        }
        panic!("a link ends with a reason");
    }

    #[tokio::test]
    async fn a_server_says_what_it_says_and_ends_with_a_status() {
        let (said, reason) = all(shell("read line; echo \"$line\"; exit 3"), &["{\"a\":1}"]).await;
        assert_eq!(said, ["{\"a\":1}"]);
        assert!(matches!(&reason, EndReason::Exited(status) if status.contains('3')), "{reason:?}");
    }

    #[tokio::test]
    async fn a_line_without_end_ends_its_server() {
        let (said, reason) = all(shell("echo short; while :; do printf aaaaaaaaaaaaaaaa; done"), &[]).await;
        assert_eq!(said, ["short"]);
        assert!(matches!(&reason, EndReason::Failed(error) if error.kind == ErrorKind::Limit), "{reason:?}");
    }

    #[tokio::test]
    async fn a_server_that_ignores_the_end_of_its_input_and_sigterm_is_killed() {
        let Link { send, mut receive } = shell("trap '' TERM; while :; do sleep 0.05; done");
        let Some(FromUpstream::Started { pid }) = receive.recv().await else { panic!() };
        drop(send);
        let Some(FromUpstream::Ended(EndReason::Asked)) = receive.recv().await else { panic!() };
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_over_the_link() {
        let mut link = start(ProcessStart {
            program: PathBuf::from("/nowhere/program"),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            cwd: None,
            message_bytes_max: 1_000,
            grace: Duration::ZERO,
            log: Box::new(|_| {}),
        });
        let said = link.receive.recv().await;
        assert!(matches!(&said, Some(FromUpstream::Ended(EndReason::Failed(_)))), "{said:?}");
    }
}
