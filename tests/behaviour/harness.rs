//! A host of a test's own: home, data and environment; cuddy started on it, with a deadline, and what it printed.
//!
//! The test program's root declares `mod judge` (tests/probe/judge.rs). No images here, no judgement.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::judge;

/// A command that has not ended by then hangs; the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
/// All the environment that cuddy gets, but for its folders.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where the probe stands inside.
pub(crate) const PROBE: &str = "/probe";

/// A home folder and a data folder that go away, and the environment that names them.
pub(crate) struct Host {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Host {
    /// A host on which cuddy was never run.
    pub(crate) fn new() -> Self {
        let folder = TempDir::with_prefix("cuddy-test-").expect("a folder for temporary files");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("the folder is ours");
        for name in ["home", "data", "work"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is empty");
        }
        let text = |name: &str| folder.path().join(name).to_str().expect("ASCII").to_owned();
        let environment =
            [("PATH", PATH.to_owned()), ("HOME", text("home")), ("XDG_DATA_HOME", text("data"))];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        Self { folder, environment }
    }

    /// One more variable for every command of this host.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the folder that cuddy is started in; nothing is made.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("work").join(name)
    }

    /// The same as text, for a flag.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("test names are ASCII").to_owned()
    }

    /// A file in that folder, with the folders above it.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("the folder can be made");
        fs::write(&path, bytes).expect("the file can be written");
        path
    }

    /// A folder in that folder.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("the folder can be made");
        path
    }

    /// cuddy's own folder: images, containers, volumes.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data/cuddy")
    }

    /// A program started on this host: its environment, its folder, nothing else of ours.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().envs(self.environment.iter().cloned()).current_dir(self.path(""));
        command
    }

    /// cuddy, not yet started.
    pub(crate) fn cuddy_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(cuddy());
        command.args(arguments);
        command
    }

    /// cuddy with an empty standard input, to its end.
    pub(crate) fn cuddy(&self, arguments: &[&str]) -> Ended {
        Started::new(self.cuddy_command(arguments)).end()
    }

    /// cuddy with these bytes on standard input, to its end.
    pub(crate) fn cuddy_reading(&self, arguments: &[&str], input: &[u8]) -> Ended {
        Started::new(self.cuddy_command(arguments)).end_after(input)
    }

    /// cuddy, running.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Started {
        Started::new(self.cuddy_command(arguments))
    }

    /// The probe in a container of the host's own folders, to its end.
    pub(crate) fn probe(&self, flags: &[&str], words: &[&str]) -> Ended {
        self.cuddy(&probe_line(flags, words).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same, running.
    pub(crate) fn spawn_probe(&self, flags: &[&str], words: &[&str]) -> Started {
        self.spawn(&probe_line(flags, words).iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What one view of the probe saw in a container that must have run.
    pub(crate) fn sees(&self, flags: &[&str], words: &[&str]) -> Seen {
        self.probe(flags, words).sees()
    }

    /// Names in the folder of containers: each is one that was not cleared away.
    pub(crate) fn containers(&self) -> Vec<String> {
        names(&self.data().join("containers"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Files of subordinate ids are removed by who may: the caller as root of a namespace that has them.
        if fs::remove_dir_all(self.folder.path()).is_err() {
            let remove = ["--user", "--map-auto", "--map-root-user", "rm", "-rf", "--one-file-system"];
            let _gone = Command::new("unshare").args(remove).arg(self.folder.path()).output();
        }
    }
}

/// Names in a folder, sorted; empty where there is none.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("the folder can be read").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The program under test.
pub(crate) fn cuddy() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_cuddy"))
}

/// The arguments that run the probe in `@host`.
pub(crate) fn probe_line(flags: &[&str], words: &[&str]) -> Vec<String> {
    let probe = format!("{}:{PROBE}:ro", judge::program().display());
    let mut line = vec!["run".to_owned(), "--rm".to_owned()];
    line.extend(flags.iter().map(|&flag| flag.to_owned()));
    line.extend(["-v".to_owned(), probe, "@host".to_owned(), PROBE.to_owned()]);
    line.extend(words.iter().map(|&word| word.to_owned()));
    line
}

/// A program that runs; killed when it goes away.
pub(crate) struct Started {
    child: Child,
    held: OwnedFd,
    input: Option<ChildStdin>,
    pipes: [Option<OwnedFd>; 2],
    printed: [Vec<u8>; 2],
    until: Instant,
    line: String,
}

impl Started {
    /// Starts it with three pipes.
    pub(crate) fn new(mut command: Command) -> Self {
        let line = format!("{command:?}");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let pid = Pid::from_child(&child);
        let held = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a child has a pidfd");
        let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        let input = child.stdin.take();
        let until = Instant::now() + DEADLINE;
        Self { child, held, input, pipes, printed: [Vec::new(), Vec::new()], until, line }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to it, not to its children.
    pub(crate) fn signal(&self, signal: Signal) {
        // It has not been waited for, so its number is its own, even when it has ended.
        match rustix::process::pidfd_send_signal(&self.held, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("{}: {error}", self.line),
        }
    }

    /// Writes to its standard input, which stays open.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().expect("its input is open").write_all(bytes).expect("it reads");
    }

    /// Ends its standard input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits until standard output holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) {
        while !contains(&self.printed[0], text.as_bytes()) {
            assert!(self.step(&[]), "{}: ended before it printed `{text}`: {}", self.line, self.so_far());
        }
    }

    /// Waits until it prints more, or a moment.
    pub(crate) fn wait_more(&mut self) {
        assert!(self.step(&[]), "{}: ended: {}", self.line, self.so_far());
    }

    /// How often standard output holds `text` by now.
    pub(crate) fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.printed[0]).matches(text).count()
    }

    /// Waits for the end, its input left as it is.
    pub(crate) fn end_with_input_open(mut self) -> Ended {
        while self.step(&[]) {}
        self.ended()
    }

    /// Ends its input and waits for the end.
    pub(crate) fn end(self) -> Ended {
        self.end_after(b"")
    }

    /// Writes `input`, ends it, reads all that comes meanwhile, waits for the end.
    pub(crate) fn end_after(mut self, mut input: &[u8]) -> Ended {
        if let Some(pipe) = &self.input {
            rustix::io::ioctl_fionbio(pipe, true).expect("a pipe");
        }
        loop {
            if input.is_empty() {
                self.input = None;
            }
            if let Some(pipe) = &mut self.input {
                match pipe.write(input) {
                    Ok(count) => input = &input[count..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // It may end, or close its input, before it has read everything.
                    Err(_) => input = b"",
                }
            }
            if !self.step(input) {
                return self.ended();
            }
        }
    }

    /// Waits for something to happen and takes it in; `false` once it has ended and both pipes are closed.
    fn step(&mut self, pending: &[u8]) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{}: has not ended after {DEADLINE:?}: {}", self.line, self.so_far());
        let mut watched: Vec<PollFd<'_>> = Vec::new();
        let open: Vec<usize> = (0..2).filter(|&i| self.pipes[i].is_some()).collect();
        if open.is_empty() {
            watched.push(PollFd::new(&self.held, PollFlags::IN));
        }
        for &i in &open {
            watched.push(PollFd::new(self.pipes[i].as_ref().expect("filtered"), PollFlags::IN));
        }
        if let Some(input) = self.input.as_ref().filter(|_| !pending.is_empty()) {
            watched.push(PollFd::new(input, PollFlags::OUT));
        }
        let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
        rustix::event::poll(&mut watched, Some(&wait)).expect("these can be waited for");
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if open.is_empty() {
            return !ready[0];
        }
        for (&i, _) in open.iter().zip(&ready).filter(|(_, ready)| **ready) {
            let mut chunk = [0; 1 << 16];
            let pipe = self.pipes[i].as_ref().expect("filtered").as_fd();
            match rustix::io::read(pipe, &mut chunk).expect("a pipe can be read") {
                0 => self.pipes[i] = None,
                count => self.printed[i].extend_from_slice(&chunk[..count]),
            }
        }
        true
    }

    fn ended(&mut self) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        let status = self.child.wait().expect("it is ours");
        let code = status.code().unwrap_or_else(|| -status.signal().expect("an exit has one of both"));
        let [stdout, stderr] = std::mem::take(&mut self.printed);
        Ended { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned(), line: self.line.clone() }
    }

    fn so_far(&self) -> String {
        let [out, err] = &self.printed;
        format!("\nstdout: {}\nstderr: {}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _killed = rustix::process::pidfd_send_signal(&self.held, Signal::KILL);
        let _reaped = self.child.wait();
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// How a program ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; minus the signal that killed it.
    pub(crate) code: i32,
    /// Its standard output, to the byte.
    pub(crate) stdout: Vec<u8>,
    /// Its standard error.
    pub(crate) stderr: String,
    line: String,
}

impl Ended {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same end, which must have this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {}", self.line, self.text(), self.stderr);
        self
    }

    /// The same end, which must be an error of ours (125) that says all of these words and printed no data.
    #[track_caller]
    #[expect(clippy::wrong_self_convention, reason = "a sentence in a test, and the end goes on")]
    pub(crate) fn is_refused(self, words: &[&str]) -> Self {
        let ended = self.exits(125);
        assert!(ended.stdout.is_empty(), "{}: printed {:?}", ended.line, ended.text());
        for word in words {
            assert!(ended.stderr.contains(word), "{}: `{word}` is not in: {}", ended.line, ended.stderr);
        }
        ended
    }

    /// What the probe saw; it must have run.
    #[track_caller]
    pub(crate) fn sees(self) -> Seen {
        let ended = self.exits(0);
        Seen(judge::lines(&ended.stdout))
    }
}

/// Lines of the probe.
#[derive(Debug)]
pub(crate) struct Seen(pub(crate) Vec<Value>);

impl Seen {
    /// The one line of a view.
    #[track_caller]
    pub(crate) fn one(&self, probe: &str) -> &Value {
        let found: Vec<_> = self.all(probe).collect();
        let [one] = found[..] else { panic!("`{probe}` stands {} times in {:#?}", found.len(), self.0) };
        one
    }

    /// Every line of a view.
    pub(crate) fn all(&self, probe: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |line| line["probe"] == probe)
    }

    /// A variable of the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let values = self.one("environment")["values"].as_array().expect("a list");
        let found: Vec<_> =
            values.iter().filter_map(|value| value.as_str()?.strip_prefix(name)?.strip_prefix('=')).collect();
        assert!(found.len() < 2, "`{name}` stands twice: {values:?}");
        found.first().map(|&value| value.to_owned())
    }

    /// The mount at a point; the last one there covers the others.
    pub(crate) fn mount(&self, point: &str) -> Option<&Value> {
        self.all("mount").filter(|mount| mount["point"] == point).last()
    }
}

/// Whether this test process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the caller has ids to give away: root has, another needs a range and the programs that map it.
pub(crate) fn has_subordinate_ids() -> bool {
    if is_root() {
        return true;
    }
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let login = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid));
    let login = login.and_then(|line| line.split(':').next()).unwrap_or("").to_owned();
    let has_range = |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| line.split(':').next().is_some_and(|name| name == login || name == uid))
    };
    let has_program = |name: &&str| PATH.split(':').any(|folder| Path::new(folder).join(name).exists());
    let has_programs = ["newuidmap", "newgidmap"].iter().all(has_program);
    has_programs && has_range("/etc/subuid") && has_range("/etc/subgid")
}

/// Whether the host can what a test needs; where it cannot, that is said, and fails where `CUDDY_REQUIRE` names it.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
#[expect(clippy::disallowed_methods, reason = "the environment says what must not be skipped")]
pub(crate) fn require(ability: &str, is_there: bool) -> bool {
    let required = std::env::var("CUDDY_REQUIRE").unwrap_or_default();
    let is_required = required.split([',', ' ']).any(|word| word == ability);
    assert!(is_there || !is_required, "CUDDY_REQUIRE names `{ability}`, and this host cannot do it");
    if !is_there {
        eprintln!("SKIPPED ({ability}): this host cannot do it");
    }
    is_there
}
