//! Adversaries that share the workspace: folders that become links while we look, and files that never end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use serde_json::json;

use crate::server::{Server, folder, text};

const READS: usize = 10_000;
const WRITES: usize = 2_000;

/// Exchanges a folder and a link to a folder outside as fast as it can.
fn adversary(tree: &Path, done: &Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    let (folder, link, done) = (tree.join("d"), tree.join("l"), Arc::clone(done));
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            renameat_with(CWD, &folder, CWD, &link, RenameFlags::EXCHANGE).unwrap();
        }
    })
}

#[test]
fn nothing_outside_is_read_or_written_while_somebody_swaps_folders_and_links() {
    let ((_outer, outer), (_data, data)) = (folder(), folder());
    let (tree, outside) = (outer.join("tree"), outer.join("outside"));
    std::fs::create_dir_all(tree.join("d")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(tree.join("d/f"), "inside\n").unwrap();
    std::fs::write(outside.join("f"), "SECRET\n").unwrap();
    std::os::unix::fs::symlink("../outside", tree.join("l")).unwrap();
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    let done = Arc::new(AtomicBool::new(false));
    let adversary = adversary(&tree, &done);
    let (mut read, mut leaked, mut written) = (0, 0, 0);
    for _ in 0..READS {
        let reply = server.call("read_text_file", &json!({"path": "d/f"}));
        leaked +=
            usize::from(reply.to_string().contains("SECRET") || reply.to_string().contains("outside\""));
        read += usize::from(text(&reply) == "inside\n");
    }
    for n in 0..WRITES {
        let reply = match n % 3 {
            0 => server.call("write_file", &json!({"path": "d/new", "content": "x"})),
            1 => server.call(
                "edit_file",
                &json!({"path": "d/f", "edits": [{"oldText": "inside", "newText": "inside"}]}),
            ),
            _ => server.call("create_directory", &json!({"path": format!("d/folder{n}")})),
        };
        written += usize::from(reply["isError"] != true);
    }
    done.store(true, Ordering::Relaxed);
    adversary.join().unwrap();
    assert_eq!(leaked, 0, "of {READS} reads");
    let names: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["f"], "something was written outside");
    assert_eq!(std::fs::read_to_string(outside.join("f")).unwrap(), "SECRET\n");
    assert!(
        read > 0 && written > 0,
        "nothing succeeded at all, so nothing was shown: {read} reads, {written} writes"
    );
}

#[test]
fn what_never_ends_or_never_begins_is_refused_at_once() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    mknodat(CWD, tree.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    std::fs::write(tree.join("f"), "here\n").unwrap();
    let zero = tree.join("zero");
    // Only root may make one; an ordinary user meets none inside a workspace.
    let has_device =
        mknodat(CWD, &zero, FileType::CharacterDevice, Mode::RWXU, rustix::fs::makedev(1, 5)).is_ok();
    std::os::unix::fs::symlink("/proc/kmsg", tree.join("endless")).unwrap();
    std::fs::File::create(tree.join("huge")).unwrap().set_len(1 << 40).unwrap();
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    for _ in 0..20 {
        for path in ["fifo", "socket"].into_iter().chain(has_device.then_some("zero")) {
            assert_eq!(server.refused("read_text_file", &json!({"path": path})), "NOT_REGULAR", "{path}");
            assert_eq!(server.refused("read_media_file", &json!({"path": path})), "NOT_REGULAR", "{path}");
            assert_eq!(
                server.refused(
                    "edit_file",
                    &json!({"path": path, "edits": [{"oldText": "a", "newText": "b"}]})
                ),
                "NOT_REGULAR",
                "{path}"
            );
            assert_eq!(
                server.refused("write_file", &json!({"path": path, "content": "b"})),
                "NOT_REGULAR",
                "{path}"
            );
        }
        assert_eq!(server.refused("read_text_file", &json!({"path": "endless"})), "PATH_ESCAPE");
        assert_eq!(server.refused("read_text_file", &json!({"path": "huge"})), "TOO_LARGE");
        assert_eq!(text(&server.good("read_text_file", &json!({"path": "f"}))), "here\n");
    }
}
