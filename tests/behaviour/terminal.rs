//! A person's terminal: raw while the command runs, of the same size inside, and as it was on every way out.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Termios, Winsize};

use crate::harness::{Host, cuddy, probe_line};
use crate::judge;

/// A command in front of a terminal that has not ended by then hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A terminal, the person's side of it, and cuddy in front of it.
struct Desk {
    person: OwnedFd,
    /// Held open, so that the terminal's settings can be read when nobody else has it.
    screen: OwnedFd,
    before: Termios,
    child: std::process::Child,
    held: OwnedFd,
    shown: Vec<u8>,
    until: Instant,
}

impl Desk {
    /// cuddy with all three descriptors on a terminal of its own, in a session of its own.
    fn new(host: &Host, flags: &[&str], words: &[&str]) -> Self {
        Self::with(host, flags, words, |_, _| {})
    }

    fn with(
        host: &Host,
        flags: &[&str],
        words: &[&str],
        change: impl FnOnce(&mut Command, &OwnedFd),
    ) -> Self {
        let person = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        rustix::pty::grantpt(&person).expect("it is ours");
        rustix::pty::unlockpt(&person).expect("it is ours");
        let name = rustix::pty::ptsname(&person, Vec::new()).expect("it has a name");
        let flags_of_file =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let screen =
            rustix::fs::open(name, flags_of_file, rustix::fs::Mode::empty()).expect("the other side");
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&person, size).expect("a terminal has a size");
        let before = rustix::termios::tcgetattr(&screen).expect("a terminal");
        // util-linux makes the terminal the session's own and becomes cuddy: it is in front, its process number stays.
        let mut command = host.command("/usr/bin/setsid");
        command.arg("--ctty").arg(cuddy()).args(probe_line(flags, words));
        let end = || Stdio::from(screen.try_clone().expect("a descriptor more"));
        command.stdin(end()).stdout(end()).stderr(end());
        change(&mut command, &screen);
        let child = command.spawn().expect("util-linux is installed");
        let held =
            rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it runs");
        let until = Instant::now() + DEADLINE;
        Self { person, screen, before, child, held, shown: Vec::new(), until }
    }

    fn types(&self, bytes: &[u8]) {
        assert_eq!(rustix::io::write(&self.person, bytes), Ok(bytes.len()));
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Takes in what is shown; `false` once cuddy has ended and nothing more is there.
    fn step(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "has not ended after {DEADLINE:?}: {}", self.shown());
        let mut watched = [PollFd::new(&self.person, PollFlags::IN), PollFd::new(&self.held, PollFlags::IN)];
        let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
        rustix::event::poll(&mut watched, Some(&wait)).expect("these can be waited for");
        let has_more = watched[0].revents().contains(PollFlags::IN);
        let has_ended = !watched[1].revents().is_empty();
        if has_more {
            let mut chunk = [0; 4096];
            let count = rustix::io::read(&self.person, &mut chunk).expect("the other side is held open");
            self.shown.extend_from_slice(&chunk[..count]);
        }
        has_more || !has_ended
    }

    fn wait_for(&mut self, text: &str) {
        while !self.shown().contains(text) {
            assert!(self.step(), "ended before it showed `{text}`: {}", self.shown());
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::pidfd_send_signal(&self.held, signal).expect("it runs");
    }

    fn is_raw(&self) -> bool {
        let now = rustix::termios::tcgetattr(&self.screen).expect("a terminal");
        !now.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn wait_until_raw(&mut self) {
        while !self.is_raw() {
            assert!(self.step(), "ended before the terminal was raw: {}", self.shown());
        }
    }

    /// Waits for the end: its code, or minus its signal. The terminal must be as it was.
    #[track_caller]
    fn end(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        while self.step() {}
        let status = self.child.wait().expect("it is ours");
        let code = status.code().unwrap_or_else(|| -status.signal().expect("one of both"));
        let after = rustix::termios::tcgetattr(&self.screen).expect("a terminal");
        assert_eq!(format!("{after:?}"), format!("{:?}", self.before), "the settings are not restored");
        (code, self.shown())
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _killed = rustix::process::pidfd_send_signal(&self.held, Signal::KILL);
        let _reaped = self.child.wait();
    }
}

/// Lines of the probe as a terminal shows them.
fn lines(shown: &str) -> Vec<serde_json::Value> {
    judge::lines(shown.replace("\r\n", "\n").as_bytes())
}

#[test]
fn the_command_has_a_terminal_of_its_own_with_a_name_and_our_size() {
    let host = Host::new();
    for flags in [&["-it"][..], &["-t"], &["-i", "-t", "--init"]] {
        let (code, shown) = Desk::new(&host, flags, &["tty"]).end();
        assert_eq!(code, 0, "{flags:?}: {shown}");
        let lines = lines(&shown);
        for line in lines.iter().filter(|line| line["probe"] == "tty") {
            assert_eq!(line["isatty"], true, "{flags:?}: {line}");
            assert!(
                ["/dev/pts/0", "/dev/console"].iter().any(|name| line["name"] == *name),
                "{flags:?}: {line}"
            );
            assert_eq!(
                (&line["echo"], &line["canonical"]),
                (&true.into(), &true.into()),
                "{flags:?}: {line}"
            );
        }
        let size = lines.iter().find(|line| line["probe"] == "size").expect("the probe says it");
        assert_eq!((&size["rows"], &size["columns"]), (&33.into(), &77.into()), "{flags:?}");
    }
}

#[test]
fn the_terminal_inside_is_the_command_s_controlling_one_and_its_group_is_in_front() {
    let host = Host::new();
    for flags in [&["-it"][..], &["-it", "--init"]] {
        let (code, shown) = Desk::new(&host, flags, &["identity"]).end();
        assert_eq!(code, 0, "{flags:?}: {shown}");
        let lines = lines(&shown);
        let session = lines.iter().find(|line| line["probe"] == "session").expect("the probe says it");
        assert_eq!(session["controlling_tty"], "OK", "{flags:?}");
        let (code, shown) = Desk::new(&host, flags, &["tty"]).end();
        assert_eq!(code, 0, "{flags:?}: {shown}");
        let lines = self::lines(&shown);
        let group = if flags.len() == 1 { 1 } else { 2 };
        assert_eq!(lines[0]["foreground"], group, "{flags:?}: {shown}");
    }
}

#[test]
fn a_terminal_brings_its_variable_and_its_device() {
    let host = Host::new();
    let (code, shown) = Desk::new(&host, &["-it"], &["identity"]).end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\"TERM=xterm\""), "{shown}");
    let (code, shown) = Desk::new(&host, &["-it", "-e", "TERM=vt100"], &["identity"]).end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\"TERM=vt100\"") && !shown.contains("xterm"), "{shown}");
    let (_, shown) = Desk::new(&host, &["-it"], &["ls", "/dev"]).end();
    let lines = lines(&shown);
    let console = lines.iter().find(|line| line["name"] == "console").expect("a console");
    assert_eq!(console["kind"], "char", "{console}");
}

#[test]
fn what_is_typed_goes_in_key_by_key_and_nothing_of_ours_echoes_it() {
    let host = Host::new();
    let mut desk = Desk::new(&host, &["-it"], &["cat"]);
    desk.wait_until_raw();
    desk.types(b"hello\r");
    // Once by the terminal inside, once by cat.
    desk.wait_for("hello\r\nhello\r\n");
    desk.types(&[4]);
    let (code, shown) = desk.end();
    assert_eq!((code, shown.as_str()), (0, "hello\r\nhello\r\n"));
}

#[test]
fn an_interrupt_typed_is_a_key_for_the_command_not_a_signal_for_us() {
    let host = Host::new();
    for flags in [&["-it"][..], &["-it", "--init"]] {
        let mut desk = Desk::new(&host, flags, &["trap", "INT", "5"]);
        desk.wait_for("ready");
        desk.wait_until_raw();
        desk.types(&[3]);
        desk.wait_for("SIGINT");
        desk.types(&[3]);
        let (code, shown) = desk.end();
        assert_eq!(code, 5, "{flags:?}: {shown}");
        assert_eq!(shown.matches("\"SIGINT\"").count(), 2, "{flags:?}: {shown}");
    }
}

#[test]
fn a_new_size_of_the_terminal_reaches_the_command() {
    let host = Host::new();
    let mut desk = Desk::new(&host, &["-it"], &["winch"]);
    desk.wait_for("\"rows\":33,\"columns\":77");
    desk.wait_until_raw();
    let size = Winsize { ws_row: 44, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&desk.person, size).expect("a terminal has a size");
    desk.wait_for("\"resized\",\"rows\":44,\"columns\":111");
    desk.types(&[4]);
    let (code, shown) = desk.end();
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn the_terminal_is_as_it_was_after_every_end() {
    let host = Host::new();
    let (code, shown) = Desk::new(&host, &["-it"], &["exit", "9"]).end();
    assert_eq!((code, shown.as_str()), (9, ""));
    let (code, _) = Desk::new(&host, &["-it", "--init"], &["kill", "KILL"]).end();
    assert_eq!(code, 137);
    let (code, _) = Desk::new(&host, &["-it", "--entrypoint", "/no/such/program"], &[]).end();
    assert_eq!(code, 127);
    let (code, _) = Desk::new(&host, &["-it", "--user", "nobody-here"], &["true"]).end();
    assert_eq!(code, 125);
    for signal in [Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut desk = Desk::new(&host, &["-it", "--init"], &["cat"]);
        desk.wait_until_raw();
        desk.signal(signal);
        let (code, shown) = desk.end();
        assert_eq!(code, 128 + signal.as_raw(), "{shown}");
    }
    let mut desk = Desk::new(&host, &["-it"], &["trap", "USR1", "0"]);
    desk.wait_for("ready");
    desk.wait_until_raw();
    for _ in 0..3 {
        desk.signal(Signal::TERM);
        desk.step();
    }
    while desk.is_raw() {
        desk.signal(Signal::TERM);
        if !desk.step() {
            break;
        }
    }
    let (code, shown) = desk.end();
    assert_eq!(code, 137, "{shown}");
    assert_eq!(host.containers(), [""; 0]);
}

#[test]
fn a_message_of_ours_is_readable_though_the_terminal_was_raw() {
    let host = Host::new();
    let (code, shown) = Desk::new(&host, &["-it", "--entrypoint", "/no/such/program"], &[]).end();
    assert_eq!(code, 127);
    // A raw terminal would show a line end without its carriage return.
    assert!(shown.contains("/no/such/program"), "{shown}");
    assert_eq!(shown.matches('\n').count(), shown.matches("\r\n").count(), "{shown:?}");
}

#[test]
fn an_input_that_is_no_terminal_is_refused_with_t_and_i() {
    let host = Host::new();
    host.probe(&["-it"], &["true"]).is_refused(&["the input device is not a TTY"]);
    let ended = host.probe(&["-t"], &["tty"]).exits(0);
    assert!(lines(&ended.text()).iter().all(|line| line["isatty"] != false), "{}", ended.text());
}

#[test]
fn much_output_comes_through_a_terminal_whole() {
    let host = Host::new();
    host.write("long", "0123456789abcdef\n".repeat(20_000));
    let mount = format!("{}:/long:ro", host.text("long"));
    let (code, shown) = Desk::new(&host, &["-it", "-v", &mount], &["read", "/long"]).end();
    assert_eq!(code, 0);
    assert!(shown == "0123456789abcdef\r\n".repeat(20_000), "{} bytes were shown", shown.len());
}

#[test]
fn standard_error_of_ours_stays_apart_from_the_terminal() {
    let host = Host::new();
    let desk = Desk::with(&host, &["-it", "--memory", "64m"], &["exit", "3"], |command, _| {
        command.stderr(Stdio::null());
    });
    let (code, shown) = desk.end();
    assert_eq!((code, shown.as_str()), (3, ""), "warnings go to standard error");
}

#[test]
fn no_descriptor_of_ours_is_the_person_s_side_of_the_terminal_inside() {
    let host = Host::new();
    let (code, shown) = Desk::new(&host, &["-it"], &["identity"]).end();
    assert_eq!(code, 0, "{shown}");
    let numbers: Vec<_> = lines(&shown)
        .into_iter()
        .filter(|line| line["probe"] == "descriptor")
        .map(|line| line["fd"].clone())
        .collect();
    assert_eq!(numbers, [0, 1, 2]);
}
