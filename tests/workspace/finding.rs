//! Finding as a client sees it: search, symbols, maps, suggestions, what changed, snapshots and the way back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::server::{Server, folder, text};

fn tree(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

const CODE: &[(&str, &str)] = &[
    (".gitignore", "build/\n*.log\n"),
    ("src/lib.rs", "mod engine;\npub fn start() { engine::turn_over(3); }\n"),
    (
        "src/engine.rs",
        "/// The engine.\npub struct Engine;\nimpl Engine {\n    pub fn needle(&self) {}\n}\npub fn turn_over(n: u8) -> u8 { n }\n",
    ),
    ("src/other.py", "class Needle:\n    def thread(self):\n        return 'needle'\n"),
    ("docs/guide.md", "# Guide\n\nfind the needle\n"),
    ("build/out.rs", "fn needle() {}\n"),
    ("trace.log", "needle\n"),
];

#[test]
fn a_search_leaves_out_what_is_ignored_and_goes_on_where_it_stopped() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
    let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
    let all = server.good("search_content", &json!({"pattern": "needle"}));
    let lines: Vec<_> =
        text(&all).lines().map(|l| l.split(':').take(2).collect::<Vec<_>>().join(":")).collect();
    assert_eq!(lines, ["docs/guide.md:3", "src/engine.rs:4", "src/other.py:3"]);
    let every =
        server.good("search_content", &json!({"pattern": "needle", "gitignore": false, "mode": "files"}));
    assert!(text(&every).contains("build/out.rs") && text(&every).contains("trace.log"));
    let (mut cursor, mut found) = (json!(null), Vec::new());
    for _ in 0..10 {
        let page = server.good("search_content", &json!({"pattern": "needle", "limit": 1, "cursor": cursor}));
        found.extend(text(&page).lines().filter(|l| l.contains("needle")).map(str::to_owned));
        cursor = page["structuredContent"]["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found, text(&all).lines().collect::<Vec<_>>());
    let word = json!({"pattern": "n..dle", "regex": true, "case": "ignore", "globs": ["*.py"], "context": 1});
    assert!(text(&server.good("search_content", &word)).contains("src/other.py-2-    def thread(self):"));
    assert_eq!(server.refused("search_content", &json!({"pattern": "(", "regex": true})), "BAD_PATTERN");
    assert_eq!(server.refused("search_content", &json!({"pattern": "x", "paths": ["/etc"]})), "PATH_ESCAPE");
    assert_eq!(server.refused("search_content", &json!({"pattern": "x", "paths": ["out"]})), "PATH_ESCAPE");
}

#[test]
fn symbols_are_found_by_name_and_uses_are_called_text() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
    let found = server
        .good("find_symbol", &json!({"name_path": "Engine/needle", "include_body": true, "refs": true}));
    let definitions = &found["structuredContent"]["definitions"];
    assert_eq!(definitions.as_array().unwrap().len(), 1, "{found}");
    assert_eq!((&definitions[0]["line"], &definitions[0]["kind"]), (&json!(4), &json!("method")));
    assert!(text(&found).contains("pub fn needle(&self) {}") && text(&found).contains("text, not resolved"));
    let outline = server.good("outline", &json!({"paths": ["src/engine.rs", "docs/guide.md"]}));
    assert!(
        text(&outline).contains("    4-4 pub fn needle(&self)") && text(&outline).contains("1-3 # Guide")
    );
    let map = server.good("workspace_map", &json!({"budget_tokens": 60}));
    assert!(text(&map).contains("turn_over") && text(&map).len() < 60 * 5, "{map}");
    let near = server.good("find_files", &json!({"query": "engrs"}));
    assert_eq!(text(&near).lines().next(), Some("src/engine.rs"));
    let status = server.good("workspace_status", &json!({}));
    assert_eq!(status["structuredContent"]["roots"][0]["files"], 5);
}

fn git(root: &Path, arguments: &[&str]) {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "gc.auto=0"]);
    let done = command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn suggestions_have_reasons_and_no_program_of_the_repository_runs() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    git(&root, &["init", "-q"]);
    for n in 0..4 {
        tree(
            &root,
            &[
                ("src/engine.rs", &format!("pub fn turn_over() {{}} // {n}\n")),
                ("docs/guide.md", &format!("# {n}\n")),
            ],
        );
        git(&root, &["add", "."]);
        git(&root, &["commit", "-qm", &format!("engine: carburettor number {n}")]);
    }
    let trap = root.join("trap");
    fs::write(root.join("run.sh"), format!("#!/bin/sh\ntouch {}\n", trap.display())).unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for key in ["core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand"] {
        git(&root, &["config", key, root.join("run.sh").to_str().unwrap()]);
    }
    let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
    let mut check = |packed: &str| {
        let found = server.good("suggest_files", &json!({"task": "the carburettor stutters"}));
        assert_eq!(found["structuredContent"]["commits"], 4, "{packed}: {found}");
        let named: Vec<_> = text(&found).lines().take(2).collect();
        assert!(named.iter().any(|line| line.starts_with("src/engine.rs")), "{packed}: {named:?}");
        assert!(named.iter().all(|line| line.contains("commits about it")), "{packed}: {named:?}");
    };
    check("loose");
    fs::remove_file(root.join("run.sh")).unwrap();
    for key in ["core.fsmonitor", "core.pager", "diff.external"] {
        git(&root, &["config", "--unset", key]);
    }
    git(&root, &["gc", "-q", "--aggressive"]);
    check("packed");
    assert!(!trap.exists());
}

#[test]
fn what_anybody_changed_since_a_token_is_told() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
    let first = server.good("changes_since", &json!({}));
    let token = first["structuredContent"]["token"].clone();
    let same = server.good("changes_since", &json!({"token": token}));
    assert_eq!(same["structuredContent"]["changed"], json!([]), "{same}");
    // The same size, at once, with the old time put back: only the bytes tell.
    let file = root.join("docs/guide.md");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, "# Guide\n\nfind the NEEDLE\n").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    fs::remove_file(root.join("src/other.py")).unwrap();
    tree(&root, &[("new/a.txt", "x"), ("build/more.rs", "ignored")]);
    let changed = server.good("changes_since", &json!({"token": token}));
    let lines: Vec<_> = text(&changed).lines().filter(|line| !line.starts_with("token")).collect();
    assert_eq!(lines, ["modified docs/guide.md", "created new", "created new/a.txt", "deleted src/other.py"]);
    assert_eq!(server.refused("changes_since", &json!({"token": "0123456789abcdef"})), "TOKEN_EXPIRED");
    assert_eq!(server.refused("changes_since", &json!({"token": "../../lock"})), "TOKEN_EXPIRED");
}

#[test]
fn a_snapshot_comes_back_with_bytes_modes_and_times_and_undo_takes_that_back() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    fs::write(root.join("bin"), [0_u8, 255, 1]).unwrap();
    fs::set_permissions(root.join("bin"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("src/lib.rs", root.join("link")).unwrap();
    let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
    let snapshot = server.good("snapshot_create", &json!({"label": "before"}));
    let id = snapshot["structuredContent"]["id"].clone();
    assert!(
        ["copy", "reflink", "mixed"].contains(&snapshot["structuredContent"]["method"].as_str().unwrap())
    );
    let time = fs::metadata(root.join("bin")).unwrap().modified().unwrap();
    fs::write(root.join("bin"), "other").unwrap();
    fs::set_permissions(root.join("bin"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(root.join("docs")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    tree(&root, &[("new/deep/file", "x"), ("trace.log", "ignored and kept")]);
    let dry = server.good("snapshot_restore", &json!({"id": id, "dry_run": true}));
    assert!(text(&dry).contains("deleted docs/guide.md") && !root.join("docs").exists());
    let restored = server.good("snapshot_restore", &json!({"id": id}));
    assert_eq!(fs::read(root.join("bin")).unwrap(), [0, 255, 1]);
    let meta = fs::metadata(root.join("bin")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.modified().unwrap()), (0o750, time));
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("src/lib.rs"));
    assert!(root.join("docs/guide.md").exists() && !root.join("new").exists());
    assert_eq!(fs::read_to_string(root.join("trace.log")).unwrap(), "ignored and kept");
    let diff = server.good("snapshot_diff", &json!({"from": id}));
    assert_eq!(diff["structuredContent"]["changed"], json!([]), "{diff}");
    server.good("undo", &json!({"op": restored["structuredContent"]["op"]}));
    assert_eq!(fs::read_to_string(root.join("bin")).unwrap(), "other");
    assert!(root.join("new/deep/file").exists() && !root.join("docs/guide.md").exists());
    let second = server.good("snapshot_create", &json!({}));
    assert_eq!(text(&server.good("snapshot_list", &json!({}))).lines().count(), 3);
    server.good("snapshot_remove", &json!({"id": id}));
    assert_eq!(server.refused("snapshot_restore", &json!({"id": id})), "NO_SNAPSHOT");
    let second_id = second["structuredContent"]["id"].clone();
    assert_eq!(
        text(&server.good("snapshot_restore", &json!({"id": second_id}))).trim(),
        "nothing had changed\nnothing changed"
    );
}

#[test]
fn a_read_only_root_cannot_be_brought_back() {
    let ((_keep, root), data) = (folder(), tempfile::tempdir().unwrap());
    tree(&root, CODE);
    let mut server = Server::ours(data.path(), &["--ro", root.to_str().unwrap()]);
    let snapshot = server.good("snapshot_create", &json!({}));
    fs::write(root.join("docs/guide.md"), "changed").unwrap();
    let id = &snapshot["structuredContent"]["id"];
    assert_eq!(server.refused("snapshot_restore", &json!({"id": id})), "READ_ONLY");
    assert_eq!(fs::read_to_string(root.join("docs/guide.md")).unwrap(), "changed");
}

#[test]
fn a_walk_beside_an_adversary_never_leaves_the_root() {
    let ((_keep, root), (_other, outside), data) = (folder(), folder(), tempfile::tempdir().unwrap());
    tree(&outside, &[("sub/secret.txt", "needle of somebody else\n")]);
    tree(&root, &[("real/sub/own.txt", "needle\n")]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::os::unix::fs::symlink(&outside, root.join("swap")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (a, b) = (root.join("real"), root.join("swap"));
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _raced = rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags);
            }
        });
        let mut server = Server::ours(data.path(), &[root.to_str().unwrap()]);
        let mut own = 0;
        for _ in 0..300 {
            let found = server.call("search_content", &json!({"pattern": "needle"}));
            assert!(
                !found.to_string().contains("somebody else") && !found.to_string().contains("secret"),
                "{found}"
            );
            own += usize::from(text(&found).contains("own.txt"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(own > 0, "the search found its own file at least once");
    });
}
