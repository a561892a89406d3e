//! The probe: built once, what it says, and whether that is what a golden list wants.
//!
//! Does not start sandboxes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::Value;

/// The static program, built from `probe.c` when that is newer.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (finished, begun) = (folder.join("probe"), folder.join(format!("probe-{}", std::process::id())));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe/probe.c");
        if changed(&finished) > changed(&source) {
            return finished;
        }
        let ended = Command::new("cc")
            .args(["-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&begun, &source])
            .output()
            .expect("a C compiler: apt-get install gcc libc6-dev");
        assert!(ended.status.success(), "cc: {}", String::from_utf8_lossy(&ended.stderr));
        // Renamed into place: another test binary may be running the one that is there.
        fs::rename(&begun, &finished).expect("both lie in one folder");
        finished
    })
}

/// When a file was last written; nothing where it is not there.
fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// One object a line, as every view of the probe prints.
pub(crate) fn lines(output: &[u8]) -> Vec<Value> {
    let parsed = serde_json::Deserializer::from_slice(output).into_iter().collect::<Result<_, _>>();
    parsed
        .unwrap_or_else(|error| panic!("not the probe's JSON: {error}\n{}", String::from_utf8_lossy(output)))
}

/// A golden list: each attempt's name and the answers that are right.
pub(crate) fn wanted(golden: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut wanted = BTreeMap::new();
    for line in golden.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, answers) = line.split_once(' ').unwrap_or_else(|| panic!("no answer stands in `{line}`"));
        let twice = wanted.insert(name, answers.trim().split('|').collect());
        assert!(twice.is_none(), "`{name}` is listed twice");
    }
    wanted
}

/// What `surface` saw that the golden list does not want, a sentence each; empty where all is right.
pub(crate) fn wrong(surface: &[Value], golden: &str) -> Vec<String> {
    let mut wanted = wanted(golden);
    let mut wrong = Vec::new();
    for seen in surface {
        let name = seen["probe"].as_str().expect("every line of the probe has its name");
        let result = seen["result"].as_str().expect("every attempt has a result");
        match wanted.remove(name) {
            None => wrong.push(format!("`{name}` gave {result} and is not listed")),
            Some(answers) if !answers.contains(&result) => {
                wrong.push(format!("`{name}` gave {result}, wanted {}", answers.join(" or ")));
            }
            Some(_) => {}
        }
    }
    wrong.extend(wanted.keys().map(|name| format!("`{name}` is listed and was not attempted")));
    wrong
}
