//! SIGKILL of the server while it changes many files: the next server finds the tree before or after, never between.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::server::{Server, folder};

const FILES: usize = 40;

/// The contents of all files, each once; and whether anything else is there.
fn contents(tree: &Path) -> (BTreeSet<String>, usize) {
    let entries: Vec<_> = std::fs::read_dir(tree).unwrap().map(|e| e.unwrap().path()).collect();
    let read = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    (entries.iter().map(read).collect(), entries.len())
}

#[test]
fn a_killed_server_leaves_every_file_before_or_every_file_after() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    for n in 0..FILES {
        std::fs::write(tree.join(format!("f{n}")), "round 0\n").unwrap();
    }
    let (mut now, mut cut_off) = (0, 0);
    for round in 1..=30_u64 {
        let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
        let edits: Vec<_> = (0..FILES)
            .map(|n| json!({"path": format!("f{n}"), "oldText": format!("round {now}\n"), "newText": format!("round {round}\n")}))
            .collect();
        server.say(&json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "edit_files", "arguments": {"edits": edits}}}));
        // Another moment each round, spread over what such a call takes.
        std::thread::sleep(std::time::Duration::from_micros(round * round * 120));
        kill_process(Pid::from_child(&server.child), Signal::KILL).unwrap();
        let was_told = server.hear().is_some();
        drop(server);
        // The next server tidies up before it answers.
        let mut next = Server::ours(&data, &[tree.to_str().unwrap()]);
        next.good("list_allowed_directories", &json!({}));
        let (found, count) = contents(&tree);
        assert_eq!(count, FILES, "something was left beside in round {round}");
        assert_eq!(found.len(), 1, "round {round} is between: {found:?}");
        let is = found.first().unwrap().trim().trim_start_matches("round ").parse::<u64>().unwrap();
        assert!(is == round || is == now && !was_told, "round {round}: {is}, told {was_told}");
        cut_off += u64::from(is != round);
        now = is;
    }
    assert!(cut_off < 30, "no round came through: the moments were too early");
}
