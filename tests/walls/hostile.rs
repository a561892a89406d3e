//! Images whose files are traps for whoever mounts, writes or reads in them.
//!
//! What an archive may do to the store is in `tests/images.rs`; here it is in the store, and is run.

use std::fs;
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use crate::harness::{Ended, Host, Started, cuddy, has_subordinate_ids, names, require};
use crate::judge;
use crate::payload;

/// What a trap is.
enum Trap<'a> {
    File(&'a str),
    Folder,
    Library(&'a Path),
    Link(&'a str),
}
use Trap::{File, Folder, Library, Link};

/// An image of the probe and these files, known as `trap`.
fn image(host: &Host, traps: &[(&str, Trap<'_>)]) {
    let mut archive = Builder::new(Vec::new());
    let mut put = |name: &str, kind: EntryType, mode: u32, bytes: &[u8], link: Option<&str>| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(bytes.len() as u64);
        match link {
            Some(link) => archive.append_link(&mut header, name, link).expect("memory"),
            None => archive.append_data(&mut header, name, bytes).expect("memory"),
        }
    };
    let probe = fs::read(judge::program()).expect("it was built");
    put("probe", EntryType::Regular, 0o755, &probe, None);
    for (name, trap) in traps {
        match trap {
            File(text) => put(name, EntryType::Regular, 0o644, text.as_bytes(), None),
            Library(path) => {
                let bytes = fs::read(path).expect("it was built");
                put(name, EntryType::Regular, 0o755, &bytes, None);
            }
            Folder => put(name, EntryType::Directory, 0o755, b"", None),
            Link(target) => put(name, EntryType::Symlink, 0o777, b"", Some(target)),
        }
    }
    let bytes = archive.into_inner().expect("memory");
    let file = host.write("trap.tar", bytes);
    host.cuddy(&["import", file.to_str().expect("ASCII"), "trap"]).exits(0);
}

/// The probe in that image.
fn run(host: &Host, flags: &[&str], words: &[&str]) -> Ended {
    host.cuddy(&[&["run", "--rm"], flags, &["trap", "/probe"], words].concat())
}

/// A folder of the host that must stay as it is: where it is, as a link of an image would name it.
fn canary(host: &Host) -> String {
    host.write("canary/file", "of the host");
    host.text("canary")
}

#[track_caller]
fn is_untouched(canary: &str) {
    assert_eq!(names(Path::new(canary)), ["file"], "something was made on the host");
    let text = fs::read_to_string(Path::new(canary).join("file")).expect("it is there");
    assert_eq!(text, "of the host");
}

#[test]
fn an_image_gets_the_walls_of_the_golden_lists() {
    let host = Host::new();
    image(&host, &[("tmp", Folder)]);
    let seen = run(&host, &["--tmpfs", "/tmp"], &["surface", "inside"]).sees();
    let wrong = judge::wrong(&seen.0, include_str!("../golden/surface-default.txt"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let line = ["mcp", "run", "--image", "trap", "--", "/probe"];
    let seen = host.cuddy(&[&line[..], &["surface", "inside"]].concat()).sees();
    let wrong = judge::wrong(&seen.0, include_str!("../golden/surface-strict.txt"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let seen = host.cuddy(&[&line[..], &["identity"]].concat()).sees();
    assert_eq!(seen.one("capabilities")["bounding"], "0000000000000000");
    assert_eq!(seen.one("walls")["no_new_privs"], 1);
    let seen = host.cuddy(&[&line[..], &["files", "inside"]].concat()).sees();
    let root = seen.all("create_in").find(|line| line["path"] == "/").expect("it is tried");
    assert_eq!(root["result"], "EROFS");
}

#[test]
fn a_callers_strict_mask_does_not_close_an_image_to_its_users() {
    let host = Host::new();
    if !require("subordinate-ids", has_subordinate_ids()) {
        return;
    }
    image(&host, &[("tmp", Folder)]);
    let mut command = host.command("/bin/sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(cuddy());
    command.args(["run", "-u", "33:33", "trap", "/probe", "true"]);
    Started::new(command).end().exits(0);
}

#[test]
fn a_link_or_a_file_where_the_kernels_trees_belong_is_refused() {
    // CVE-2023-27561, CVE-2025-54867, CVE-2026-41579, CVE-2026-47766.
    let host = Host::new();
    let canary = canary(&host);
    let relative = format!("../../../../../../../..{canary}");
    for tree in ["dev", "proc", "sys"] {
        for target in [canary.as_str(), &relative, "/", "tmp", "nowhere"] {
            image(&host, &[("tmp", Folder), (tree, Link(target))]);
            run(&host, &[], &["true"]).is_refused(&[&format!("/{tree}"), "symbolic link"]);
            host.cuddy(&["mcp", "run", "--image", "trap", "--", "/probe", "true"])
                .is_refused(&[&format!("/{tree}")]);
        }
        image(&host, &[(tree, File("no folder"))]);
        run(&host, &[], &["true"]).is_refused(&[&format!("/{tree}"), "file"]);
    }
    is_untouched(&canary);
    assert!(host.containers().is_empty());
}

#[test]
fn a_null_device_of_the_image_masks_nothing() {
    // CVE-2025-31133, CVE-2025-62161.
    let host = Host::new();
    let canary = canary(&host);
    let file = format!("{canary}/file");
    for null in [Link("/proc/sys/kernel/core_pattern"), Link(&file), File("no device"), Folder] {
        image(&host, &[("dev", Folder), ("dev/null", null)]);
        let seen = run(&host, &[], &["files", "inside"]).sees();
        let of = |view: &str, path: &str| {
            seen.all(view).find(|line| line["path"] == path).unwrap_or_else(|| panic!("{path}")).clone()
        };
        assert_eq!(of("write", "/dev/null")["rdev"], "1:3");
        assert_eq!(of("read", "/proc/keys")["rdev"], "1:3");
        assert_ne!(of("write", "/proc/sys/kernel/core_pattern")["result"], "OK");
        assert_ne!(of("write", "/proc/sysrq-trigger")["result"], "OK");
    }
    is_untouched(&canary);
}

#[test]
fn a_terminal_lands_in_the_containers_own_folder_of_terminals() {
    // CVE-2025-52565.
    let host = Host::new();
    let canary = canary(&host);
    let file = format!("{canary}/file");
    let links = [
        [("dev", Folder), ("dev/console", Link(&file)), ("dev/pts", Link(&canary))],
        [("dev", Folder), ("dev/console", Link("/proc/sys/kernel/core_pattern")), ("dev/pts", Link("/proc"))],
    ];
    for traps in links {
        image(&host, &traps);
        let seen = run(&host, &["-t"], &["mounts"]).sees();
        let console = seen.mount("/dev/console").expect("a terminal has a console");
        assert_eq!(console["fstype"], "devpts", "{console}");
        assert_eq!(seen.mount("/dev/pts").expect("it is mounted")["fstype"], "devpts");
    }
    is_untouched(&canary);
}

#[test]
fn our_files_replace_those_of_the_image_and_follow_no_link() {
    // CVE-2025-24965.
    let host = Host::new();
    let canary = canary(&host);
    let file = format!("{canary}/file");
    let dangling = format!("{canary}/made");
    for target in [file.as_str(), &dangling, "/etc/passwd", "/proc/self/environ", "../../../../../../tmp/x"] {
        for (name, ours) in
            [("hosts", "127.0.0.1\ttrapped\n"), ("hostname", "trapped\n"), ("resolv.conf", "")]
        {
            let path = format!("etc/{name}");
            let passwd = File("root:x:0:0::/:/probe\n");
            image(&host, &[("etc", Folder), ("etc/passwd", passwd), (&path, Link(target))]);
            let ended = run(&host, &["-h", "trapped"], &["read", &format!("/{path}")]);
            // What it leads to inside is the image's own; a trap in the kernel's files may end it.
            if ended.code != 125 {
                let text = ended.exits(0).text();
                assert!(
                    text.ends_with(ours) && text.is_empty() == ours.is_empty(),
                    "{name} to {target}: {text}"
                );
            }
            is_untouched(&canary);
        }
    }
}

#[test]
fn a_user_is_looked_up_in_the_image_and_nowhere_else() {
    // CVE-2024-9676. `daemon` is in the host's table and not in the image's.
    let host = Host::new();
    for target in ["/../../../../../../../../etc/passwd", "/proc/self/environ", "passwd", "/nowhere"] {
        image(&host, &[("etc", Folder), ("etc/passwd", Link(target))]);
        run(&host, &["-u", "daemon"], &["identity"]).is_refused(&[]);
    }
    let endless = "x".repeat(5 << 20);
    image(&host, &[("etc", Folder), ("etc/passwd", File(&endless))]);
    run(&host, &["-u", "daemon"], &["identity"]).is_refused(&["passwd"]);
}

#[test]
fn our_own_steps_inside_load_no_library_of_the_image() {
    // CVE-2019-14271: whoever asks the C library who a user is has the image's plugins loaded.
    let host = Host::new();
    let table = "passwd: evil\ngroup: evil\nhosts: evil\n";
    let mut traps = vec![
        ("etc/nsswitch.conf", File(table)),
        ("etc/passwd", File("known:x:0:0::/:/probe\n")),
        ("tmp", Folder),
    ];
    let folders = ["lib", "lib64", "usr/lib", "usr/lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"];
    let names: Vec<_> = folders.iter().map(|folder| format!("{folder}/libnss_evil.so.2")).collect();
    traps.extend(names.iter().map(|name| (name.as_str(), Library(payload::library()))));
    image(&host, &traps);
    for flags in [&[][..], &["-u", "known"], &["-u", "0:0", "--init"], &["-t", "-h", "somewhere"]] {
        let ended = run(&host, flags, &["argv"]).exits(0);
        assert!(!ended.text().contains("evil"), "{flags:?}: {}", ended.text());
        assert!(ended.text().contains("argv"), "{flags:?}: {}", ended.text());
    }
}

#[test]
fn a_working_folder_that_is_a_link_stays_inside() {
    // CVE-2024-21626.
    let host = Host::new();
    let canary = canary(&host);
    for target in
        ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/root", "/proc/self/cwd", "/dev/fd/5", &canary]
    {
        image(&host, &[("work", Link(target))]);
        let ended = run(&host, &["-w", "/work"], &["ls", "."]);
        assert!(ended.code == 125 || !ended.text().contains("\"file\""), "{target}: {}", ended.text());
    }
    is_untouched(&canary);
}

#[test]
fn a_mount_on_a_link_of_the_image_lands_inside() {
    // CVE-2021-30465, CVE-2024-45310.
    let host = Host::new();
    let canary = canary(&host);
    host.write("source/marker", "mounted");
    let up = format!("../../../../../../../../..{canary}");
    let inside = &canary[1..];
    for target in [canary.as_str(), &up] {
        image(&host, &[("data", Link(target)), (inside, Folder)]);
        let bind = format!("{}:/data", host.text("source"));
        let seen = run(&host, &["-v", &bind], &["ls", &canary]).sees();
        let found: Vec<_> = seen.all("entry").map(|entry| entry["name"].clone()).collect();
        assert_eq!(found, [json!("marker")], "the mount is not where the link leads inside");
        run(&host, &["--tmpfs", "/data/below"], &["true"]).exits(0);
        run(&host, &["-v", &format!("{}/marker:/data/new", host.text("source"))], &["true"]).exits(0);
        is_untouched(&canary);
        // Where the link leads nowhere inside, nothing is made outside.
        image(&host, &[("data", Link(target))]);
        let ended = run(&host, &["-v", &bind], &["true"]);
        assert!([0, 125].contains(&ended.code), "{ended:?}");
        is_untouched(&canary);
    }
}

#[test]
fn fake_files_of_the_kernel_lie_below_the_real_ones() {
    // CVE-2019-16884, CVE-2019-19921, CVE-2023-28642, CVE-2025-52881.
    let host = Host::new();
    image(
        &host,
        &[
            ("proc", Folder),
            ("proc/self", Folder),
            ("proc/self/attr", Link("/tmp")),
            ("proc/sys", Link("/tmp")),
            ("proc/keys", Link("/etc")),
            ("sys", Folder),
            ("sys/firmware", Link("/etc")),
        ],
    );
    let seen = run(&host, &[], &["mounts"]).sees();
    assert_eq!(seen.mount("/proc").expect("it is mounted")["fstype"], "proc");
    let sys = seen.mount("/proc/sys").expect("it is protected");
    assert!(sys["fstype"] == "proc" && sys["options"].as_str().is_some_and(|o| o.starts_with("ro")), "{sys}");
    assert!(seen.mount("/tmp").is_none() && seen.mount("/etc").is_none(), "a mask was laid elsewhere");
}

#[test]
fn a_volume_over_a_kernels_folder_does_not_unmask_it() {
    // CVE-2019-16884: a volume of the image, or of the caller's mistake, stands where procfs belongs.
    let host = Host::new();
    image(&host, &[("tmp", Folder)]);
    host.dir("fake/self/attr");
    for target in ["/proc", "/proc/self", "/proc/sys"] {
        let mount = format!("{}:{target}", host.text("fake"));
        let ended = run(&host, &["-v", &mount], &["mounts"]);
        if ended.code != 125 {
            let seen = ended.sees();
            assert_eq!(seen.mount("/proc").expect("it is mounted")["fstype"], "proc", "{target}");
            assert_eq!(seen.mount("/proc/sys").expect("it is protected")["fstype"], "proc", "{target}");
        }
    }
}

#[test]
fn a_link_to_the_root_or_to_the_kernel_s_folders_is_never_shown() {
    let host = Host::new();
    for (name, target) in [("root", "/"), ("proc", "/proc/self"), ("up", "/usr/..")] {
        std::os::unix::fs::symlink(target, host.path(name)).expect("it is ours");
        for flag in ["--ro", "--rw", "--workspace"] {
            host.cuddy(&["mcp", "run", flag, name, "--", "true"]).is_refused(&[flag, name, "never shown"]);
        }
    }
}
