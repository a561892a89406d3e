//! The attacker's programs, built once from `payload.c`, and the probe under the strict policy.
//!
//! No judgement here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Ended, Host};
use crate::judge;

/// The static program.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("payload", &["-static"]))
}

/// The library that tells, from within any program it is loaded into, how that program can be written.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| build("payload.so", &["-shared", "-fPIC", "-DEVIL_LIBRARY"]))
}

fn build(name: &str, flags: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/walls/payload.c");
    let (finished, begun) = (folder.join(name), folder.join(format!("{name}-{}", std::process::id())));
    let written = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    if written(&finished) > written(&source) {
        return finished;
    }
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror"]).args(flags).arg("-o").args([&begun, &source]);
    let ended = compiler.output().expect("a C compiler: apt-get install gcc libc6-dev");
    assert!(ended.status.success(), "cc: {}", String::from_utf8_lossy(&ended.stderr));
    // Renamed into place: another test program may be running the one that is there.
    fs::rename(&begun, &finished).expect("both lie in one folder");
    finished
}

/// The arguments that run a program under the strict policy.
pub(crate) fn strict_line(policy: &[&str], program: &Path, words: &[&str]) -> Vec<String> {
    let mut line = vec!["mcp".to_owned(), "run".to_owned()];
    line.extend(policy.iter().map(|&flag| flag.to_owned()));
    line.extend(["--".to_owned(), program.to_str().expect("ASCII").to_owned()]);
    line.extend(words.iter().map(|&word| word.to_owned()));
    line
}

/// The probe under the strict policy, to its end.
pub(crate) fn strict(host: &Host, policy: &[&str], words: &[&str]) -> Ended {
    let line = strict_line(policy, judge::program(), words);
    host.cuddy(&line.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The payload in a container of the host's own folders, to its end.
pub(crate) fn run(host: &Host, flags: &[&str], words: &[&str]) -> Ended {
    let line = run_line(flags, words);
    host.cuddy(&line.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The arguments of that.
pub(crate) fn run_line(flags: &[&str], words: &[&str]) -> Vec<String> {
    let mut line = vec!["run".to_owned(), "--rm".to_owned()];
    line.extend(flags.iter().map(|&flag| flag.to_owned()));
    let mount = format!("{}:/payload:ro", program().display());
    line.extend(["-v".to_owned(), mount, "@host".to_owned(), "/payload".to_owned()]);
    line.extend(words.iter().map(|&word| word.to_owned()));
    line
}

/// One JSON object a line, as the payload prints.
pub(crate) fn lines(ended: &Ended) -> Vec<serde_json::Value> {
    judge::lines(&ended.stdout)
}
