//! Edits as an agent makes them: many at once, patches in every form, undo, transactions.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::server::{Server, folder, text};

#[test]
fn fifty_edits_of_one_file_sent_at_once_all_land() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    let lines: String = (0..50).map(|n| format!("line {n:02};\n")).collect();
    std::fs::write(tree.join("f"), lines).unwrap();
    for profile in ["compat", "full"] {
        let mut server = Server::ours(&data, &["--tools", profile, tree.to_str().unwrap()]);
        for n in 0..50 {
            let (old, new) = match profile {
                "compat" => (format!("line {n:02};"), format!("edited {n:02};")),
                _ => (format!("edited {n:02};"), format!("again {n:02};")),
            };
            let arguments = json!({"path": "f", "edits": [{"oldText": old, "newText": new}]});
            server.say(&json!({"jsonrpc": "2.0", "id": 1000 + n, "method": "tools/call", "params": {"name": "edit_file", "arguments": arguments}}));
        }
        for _ in 0..50 {
            let reply = server.hear().unwrap();
            assert_ne!(reply["result"]["isError"], true, "{reply}");
        }
        let word = if profile == "compat" { "edited" } else { "again" };
        let expected: String = (0..50).map(|n| format!("{word} {n:02};\n")).collect();
        assert_eq!(std::fs::read_to_string(tree.join("f")).unwrap(), expected);
    }
}

#[test]
fn two_servers_on_one_tree_lose_no_edit() {
    let ((_tree, tree), (_data, data), (_other, other)) = (folder(), folder(), folder());
    let lines: String = (0..40).map(|n| format!("line {n:02};\n")).collect();
    std::fs::write(tree.join("f"), lines).unwrap();
    // One shares the journal and its locks with the first, one knows nothing of them.
    let places = [&data, &data, &other];
    let threads: Vec<_> = (0..3)
        .map(|who| {
            let (tree, place) = (tree.clone(), places[who].clone());
            std::thread::spawn(move || {
                let mut server = Server::ours(&place, &[tree.to_str().unwrap()]);
                for n in (0..40).filter(|n| n % 3 == who) {
                    let edits =
                        json!([{"oldText": format!("line {n:02};"), "newText": format!("by {who} {n:02};")}]);
                    server.good("edit_file", &json!({"path": "f", "edits": edits}));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let expected: String = (0..40).map(|n| format!("by {} {n:02};\n", n % 3)).collect();
    assert_eq!(std::fs::read_to_string(tree.join("f")).unwrap(), expected);
}

#[test]
fn an_edit_of_an_older_text_is_rebased_where_nothing_touches_and_refused_where_it_does() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    std::fs::write(tree.join("f"), "1\n2\n3\n4\n5\n").unwrap();
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    let hash = server.good("read_text_file", &json!({"path": "f"}))["structuredContent"]["hash"].clone();
    let edit = |old: &str, new: &str| json!({"path": "f", "if_match": hash, "edits": [{"oldText": old, "newText": new}]});
    server.good("edit_file", &edit("1\n", "one\n"));
    let second = server.good("edit_file", &edit("5\n", "five\n"));
    assert_eq!(second["structuredContent"]["rebased"], true);
    assert_eq!(server.refused("edit_file", &edit("1\n", "eins\n")), "CONFLICT");
    assert_eq!(
        server.refused("write_file", &json!({"path": "f", "content": "x", "if_match": hash})),
        "CONFLICT"
    );
    assert_eq!(
        server.refused("write_file", &json!({"path": "f", "content": "x", "if_match": "absent"})),
        "CONFLICT"
    );
    assert_eq!(std::fs::read_to_string(tree.join("f")).unwrap(), "one\n2\n3\n4\nfive\n");
}

#[test]
fn only_the_edited_bytes_of_a_file_change_and_its_mode_stays() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    let files: [(&str, &[u8], &[u8]); 4] = [
        ("crlf", b"one\r\ntwo\r\nthree\n", b"one\r\nzwei\r\nthree\n"),
        ("bom", b"\xef\xbb\xbftwo\n", b"\xef\xbb\xbfzwei\n"),
        ("latin1", b"caf\xe9 two\n\xff", b"caf\xe9 zwei\n\xff"),
        ("utf16", b"\xff\xfet\0w\0o\0", b"\xff\xfez\0w\0e\0i\0"),
    ];
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    for (name, before, after) in files {
        std::fs::write(tree.join(name), before).unwrap();
        std::fs::set_permissions(tree.join(name), PermissionsExt::from_mode(0o741)).unwrap();
        server.good("edit_file", &json!({"path": name, "edits": [{"oldText": "two", "newText": "zwei"}]}));
        assert_eq!(std::fs::read(tree.join(name)).unwrap(), after, "{name}");
        assert_eq!(
            std::fs::metadata(tree.join(name)).unwrap().permissions().mode() & 0o7777,
            0o741,
            "{name}"
        );
        server.good("undo", &json!({}));
        assert_eq!(std::fs::read(tree.join(name)).unwrap(), before, "{name}");
    }
    assert_eq!(
        server
            .refused("edit_file", &json!({"path": "latin1", "edits": [{"oldText": "two", "newText": "→"}]})),
        "ENCODING"
    );
}

#[test]
fn a_patch_with_one_bad_hunk_changes_nothing_and_says_where_it_differs() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    std::fs::write(tree.join("a"), "one\ntwo\n").unwrap();
    std::fs::write(tree.join("b"), "alpha\nbeta\ngamma\n").unwrap();
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    let patch = |line: &str| {
        format!(
            "*** Begin Patch\n*** Update File: a\n@@\n-two\n+TWO\n*** Add File: new/deep/c\n+three\n*** Update File: b\n*** Move to: moved/b\n@@\n alpha\n-{line}\n+BETA\n gamma\n*** Delete File: a2\n*** End Patch\n"
        )
    };
    std::fs::write(tree.join("a2"), "gone\n").unwrap();
    let bad = server.call("apply_patch", &json!({"patch": patch("betta")}));
    assert_eq!(bad["structuredContent"]["code"], "NO_MATCH");
    assert_eq!(
        bad["structuredContent"]["data"]["candidates"][0]["first_difference"],
        json!({"line": 2, "column": 4})
    );
    assert_eq!(std::fs::read_to_string(tree.join("a")).unwrap(), "one\ntwo\n");
    assert!(!tree.join("new").exists() && tree.join("a2").exists());
    let shown = server.good("apply_patch", &json!({"patch": patch("beta"), "dry_run": true}));
    assert!(text(&shown).contains("+BETA") && !tree.join("new").exists());
    server.good("apply_patch", &json!({"patch": patch("beta")}));
    assert_eq!(std::fs::read_to_string(tree.join("moved/b")).unwrap(), "alpha\nBETA\ngamma\n");
    assert_eq!(std::fs::read_to_string(tree.join("new/deep/c")).unwrap(), "three\n");
    assert!(!tree.join("a2").exists() && !tree.join("b").exists());
    server.good("undo", &json!({}));
    assert_eq!(std::fs::read_to_string(tree.join("b")).unwrap(), "alpha\nbeta\ngamma\n");
    assert!(!tree.join("new").exists() && !tree.join("moved").exists() && tree.join("a2").exists());
}

/// A repository with a change of many kinds, as a patch of git.
fn git_patch(tree: &std::path::Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=m"])
            .args(arguments);
        command.current_dir(tree).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", tree).output()
    };
    if git(&["init", "-q"]).is_err() {
        eprintln!("SKIPPED: no git");
        return None;
    }
    let long: String = (1..=60).map(|n| format!("line {n}\n")).collect();
    std::fs::write(tree.join("long"), &long).unwrap();
    std::fs::write(tree.join("open"), "a\nb").unwrap();
    std::fs::write(tree.join("crlf"), "a\r\nb\r\nc\r\n").unwrap();
    std::fs::write(tree.join("gone"), "x\n").unwrap();
    std::fs::write(tree.join("old näme"), &long).unwrap();
    git(&["add", "-A"]).unwrap();
    git(&["commit", "-qm", "one"]).unwrap();
    std::fs::write(tree.join("long"), long.replace("line 3\n", "line three\n").replace("line 50\n", ""))
        .unwrap();
    std::fs::write(tree.join("open"), "a\nB\nc\n").unwrap();
    std::fs::write(tree.join("crlf"), "a\r\nB\r\nc\r\n").unwrap();
    std::fs::remove_file(tree.join("gone")).unwrap();
    std::fs::rename(tree.join("old näme"), tree.join("new name")).unwrap();
    std::fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(tree.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
    git(&["add", "-A"]).unwrap();
    let patch = git(&["diff", "--cached", "-M"]).unwrap().stdout;
    git(&["reset", "-q", "--hard"]).unwrap();
    String::from_utf8(patch).ok()
}

#[test]
fn a_patch_of_git_gives_what_git_itself_gives() {
    let ((_tree, tree), (_twin, twin), (_data, data)) = (folder(), folder(), folder());
    let Some(patch) = git_patch(&tree) else { return };
    let copy = Command::new("cp").args(["-a"]).arg(tree.join(".")).arg(&twin).status().unwrap();
    assert!(copy.success());
    std::fs::write(data.join("patch"), &patch).unwrap();
    let applied = Command::new("git")
        .arg("apply")
        .arg(data.join("patch"))
        .current_dir(&twin)
        .env("HOME", &twin)
        .status()
        .unwrap();
    assert!(applied.success(), "{patch}");
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    server.good("apply_patch", &json!({"patch": patch}));
    let same = Command::new("diff").args(["-r", "--exclude=.git"]).arg(&tree).arg(&twin).output().unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    assert_eq!(std::fs::metadata(tree.join("run")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(server.refused("apply_patch", &json!({"patch": patch})), "ALREADY_APPLIED");
}

#[test]
fn a_transaction_is_seen_by_nobody_before_it_is_committed() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    std::fs::write(tree.join("a"), "1\n2\n3\n4\n5\n").unwrap();
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    let tx = server.good("tx_begin", &json!({"label": "t"}))["structuredContent"]["tx"].clone();
    let edit =
        |old: &str, new: &str| json!({"path": "a", "tx": tx, "edits": [{"oldText": old, "newText": new}]});
    server.good("edit_file", &edit("1\n", "one\n"));
    server.good("edit_file", &edit("one\n", "eins\n"));
    server.good("write_file", &json!({"path": "b", "content": "new\n", "tx": tx}));
    assert_eq!(std::fs::read_to_string(tree.join("a")).unwrap(), "1\n2\n3\n4\n5\n");
    assert!(text(&server.good("tx_diff", &json!({"tx": tx}))).contains("+eins"));
    std::fs::write(tree.join("a"), "1\n2\n3\n4\nfive\n").unwrap();
    assert_eq!(server.refused("tx_commit", &json!({"tx": tx})), "CONFLICT");
    server.good("tx_commit", &json!({"tx": tx, "on_conflict": "merge3"}));
    assert_eq!(std::fs::read_to_string(tree.join("a")).unwrap(), "eins\n2\n3\n4\nfive\n");
    assert_eq!(std::fs::read_to_string(tree.join("b")).unwrap(), "new\n");
    assert_eq!(server.refused("tx_commit", &json!({"tx": tx})), "TX_NOT_FOUND");
    let other = server.good("tx_begin", &json!({}))["structuredContent"]["tx"].clone();
    server.good("tx_rollback", &json!({"tx": other}));
    assert_eq!(server.refused("tx_diff", &json!({"tx": other})), "TX_NOT_FOUND");
}

#[test]
fn replacing_in_files_is_previewed_chosen_and_undone() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    for name in ["a.rs", "b.rs", "c.txt"] {
        std::fs::write(tree.join(name), "old(1);\nold(2);\n").unwrap();
    }
    let mut server = Server::ours(&data, &[tree.to_str().unwrap()]);
    let ask = |more: Value| {
        let mut all =
            json!({"needle": "old\\((\\d)\\)", "replacement": "new($1)", "regex": true, "globs": ["*.rs"]});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let shown = server.good("replace_in_files", &ask(json!({"dry_run": true})));
    assert_eq!(shown["structuredContent"]["count"], 4);
    assert_eq!(server.refused("replace_in_files", &ask(json!({"expected_count": 3}))), "COUNT_MISMATCH");
    let id = shown["structuredContent"]["occurrences"][1]["id"].clone();
    server.good("replace_in_files", &ask(json!({"occurrence_ids": [id]})));
    assert_eq!(std::fs::read_to_string(tree.join("a.rs")).unwrap(), "old(1);\nnew(2);\n");
    server.good("replace_in_files", &ask(json!({})));
    assert_eq!(std::fs::read_to_string(tree.join("b.rs")).unwrap(), "new(1);\nnew(2);\n");
    assert_eq!(std::fs::read_to_string(tree.join("c.txt")).unwrap(), "old(1);\nold(2);\n");
    server.good("undo", &json!({"steps": 2}));
    assert_eq!(std::fs::read_to_string(tree.join("a.rs")).unwrap(), "old(1);\nold(2);\n");
    assert_eq!(text(&server.good("history", &json!({}))).lines().count(), 4);
}

#[test]
fn what_is_protected_or_read_only_is_changed_by_no_tool() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    std::fs::create_dir_all(tree.join("w/.git/hooks")).unwrap();
    std::fs::create_dir_all(tree.join("w/bad")).unwrap();
    std::fs::create_dir_all(tree.join("r")).unwrap();
    for path in ["w/.git/config", "w/bad/config", "r/x", "w/f"] {
        std::fs::write(tree.join(path), "x\n").unwrap();
    }
    std::os::unix::fs::symlink("../r", tree.join("w/link")).unwrap();
    let (w, r) = (tree.join("w").display().to_string(), tree.join("r").display().to_string());
    let mut server = Server::ours(&data, &[&w, "--ro", &r]);
    server.good("read_text_file", &json!({"path": format!("{r}/x")}));
    for (tool, arguments, code) in [
        ("write_file", json!({"path": ".git/config", "content": "x"}), "PROTECTED"),
        ("write_file", json!({"path": ".git/hooks/pre-commit", "content": "x"}), "PROTECTED"),
        (
            "edit_file",
            json!({"path": ".git/config", "edits": [{"oldText": "x", "newText": "y"}]}),
            "PROTECTED",
        ),
        (
            "apply_patch",
            json!({"patch": "*** Begin Patch\n*** Delete File: .git/config\n*** End Patch"}),
            "PROTECTED",
        ),
        ("move_file", json!({"source": "bad", "destination": "bad2/.git"}), "PROTECTED"),
        ("move_file", json!({"source": ".git", "destination": "git"}), "PROTECTED"),
        ("write_file", json!({"path": format!("{r}/x"), "content": "y"}), "READ_ONLY"),
        ("move_file", json!({"source": "f", "destination": format!("{r}/f")}), "READ_ONLY"),
        (
            "apply_patch",
            json!({"patch": format!("*** Begin Patch\n*** Add File: {r}/n\n+x\n*** End Patch")}),
            "READ_ONLY",
        ),
    ] {
        assert_eq!(server.refused(tool, &arguments), code, "{tool} {arguments}");
    }
    for (tool, arguments) in [
        ("delete_file", json!({"path": ".git", "recursive": true, "force": true})),
        ("delete_file", json!({"path": format!("{r}/x"), "force": true})),
        ("copy_file", json!({"source_path": "f", "destination_path": ".git/hooks/x"})),
    ] {
        let reply = server.call(tool, &arguments);
        assert_eq!(reply["structuredContent"]["success"], false, "{tool} {reply}");
    }
    assert_eq!(std::fs::read_to_string(tree.join("w/.git/config")).unwrap(), "x\n");
    assert_eq!(std::fs::read_dir(tree.join("r")).unwrap().count(), 1);
}

#[test]
fn massgens_tools_copy_compare_and_delete_with_a_way_back() {
    let ((_tree, tree), (_data, data)) = (folder(), folder());
    std::fs::create_dir_all(tree.join("src/in")).unwrap();
    std::fs::write(tree.join("src/a.py"), "a\n").unwrap();
    std::fs::write(tree.join("src/in/b.py"), "b\n").unwrap();
    std::fs::write(tree.join("src/c.log"), "c\n").unwrap();
    let mut server = Server::ours(&data, &["--tools", "massgen", tree.to_str().unwrap()]);
    let copied = server.good(
        "copy_files_batch",
        &json!({"source_base_path": "src", "destination_base_path": "to", "include_patterns": ["*.py"]}),
    );
    assert_eq!(copied["structuredContent"]["summary"]["copied_files"], 2);
    let compared = server.good("compare_directories", &json!({"dir1": "src", "dir2": "to"}));
    assert_eq!(compared["structuredContent"]["details"]["only_in_dir1"], json!(["c.log"]));
    assert_eq!(compared["structuredContent"]["details"]["identical"], json!(["a.py", "in/b.py"]));
    let unread = server.call("delete_file", &json!({"path": "src/c.log"}));
    assert_eq!(unread["structuredContent"]["code"], "READ_REQUIRED");
    server.good("read_file", &json!({"path": "src/c.log"}));
    server.good("delete_file", &json!({"path": "src/c.log"}));
    assert!(!tree.join("src/c.log").exists());
    server.good("delete_files_batch", &json!({"base_path": "to", "include_patterns": ["*.py"]}));
    assert!(!tree.join("to/in/b.py").exists());
}
