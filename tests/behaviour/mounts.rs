//! What stands in the tree: binds, volumes, memory, devices, a root that cannot be written.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::harness::{Ended, Host, names};

/// A command of the probe in a container with one more mount.
fn with(host: &Host, flag: &str, mount: &str, words: &[&str]) -> Ended {
    host.probe(&[flag, mount], words)
}

/// Words of mount options.
fn options(mount: &serde_json::Value) -> Vec<&str> {
    mount["options"].as_str().expect("text").split(',').collect()
}

// ── binds ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_folder_of_the_host_is_read_and_written_and_its_files_stay_the_caller_s() {
    let host = Host::new();
    host.write("shared/from-outside", "hello");
    let mount = format!("{}:/shared", host.text("shared"));
    assert_eq!(with(&host, "-v", &mount, &["read", "/shared/from-outside"]).exits(0).text(), "hello");
    with(&host, "-v", &mount, &["write", "/shared/from-inside", "written"]).exits(0);
    let made = host.path("shared/from-inside");
    assert_eq!(fs::read(&made).expect("it was made"), b"written");
    let owner = fs::metadata(&made).expect("it is there");
    assert_eq!(owner.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(owner.gid(), rustix::process::getegid().as_raw());
    assert_eq!(owner.permissions().mode() & 0o777, 0o644, "the usual umask");
}

#[test]
fn a_read_only_bind_cannot_be_written_in_any_spelling() {
    let host = Host::new();
    host.write("shared/file", "hello");
    let source = host.text("shared");
    let volume = format!("{source}:/shared:ro");
    let spellings = ["ro", "readonly", "readonly=true", "ro=true"];
    let mounts = spellings.map(|word| format!("type=bind,source={source},target=/shared,{word}"));
    let lines = [("-v", &volume)].into_iter().chain(mounts.iter().map(|mount| ("--mount", mount)));
    for (flag, mount) in lines {
        let ended = with(&host, flag, mount, &["write", "/shared/file", "changed"]).exits(1);
        assert!(ended.stderr.contains("EROFS"), "{mount}: {}", ended.stderr);
        assert_eq!(with(&host, flag, mount, &["read", "/shared/file"]).exits(0).text(), "hello");
    }
    assert_eq!(fs::read(host.path("shared/file")).expect("it is there"), b"hello");
}

#[test]
fn a_mount_below_a_read_only_bind_cannot_be_written_either() {
    let host = Host::new();
    host.dir("shared");
    // The host's /dev is such a tree wherever tests run: terminals and shared memory are mounted below it.
    for target in ["/outside", "/dev/outside"] {
        let seen = host.sees(&["-v", &format!("/dev:{target}:ro")], &["mounts"]);
        let below: Vec<_> = seen
            .all("mount")
            .filter(|mount| mount["point"].as_str().is_some_and(|point| point.starts_with(target)))
            .collect();
        assert!(below.len() > 1, "mounts below come along: {below:#?}");
        for mount in below {
            let options = options(mount);
            for wall in ["ro", "nosuid", "nodev"] {
                assert!(options.contains(&wall), "{wall}: {mount}");
            }
        }
    }
}

#[test]
fn one_file_can_be_mounted_over_a_file_and_where_there_is_none() {
    let host = Host::new();
    host.write("file", "mine");
    for target in ["/etc/passwd", "/etc/new-file", "/brand/new/file"] {
        let mount = format!("{}:{target}:ro", host.text("file"));
        assert_eq!(with(&host, "-v", &mount, &["read", target]).exits(0).text(), "mine", "{target}");
    }
    assert_eq!(fs::read(host.path("file")).expect("it is there"), b"mine");
}

#[test]
fn a_source_that_is_missing_is_made_by_v_and_refused_by_mount() {
    let host = Host::new();
    let mount = format!("{}:/made", host.text("not/there"));
    with(&host, "-v", &mount, &["write", "/made/file", "x"]).exits(0);
    assert_eq!(names(&host.path("not/there")), ["file"]);
    let mount = format!("type=bind,src={},dst=/made", host.text("nowhere"));
    with(&host, "--mount", &mount, &["true"]).is_refused(&["nowhere"]);
    assert!(!host.path("nowhere").exists());
}

#[test]
fn a_place_that_cannot_be_made_is_named() {
    let host = Host::new();
    host.write("shared/file", "hello");
    for (source, target) in [("shared", "/usr/bin/new-folder"), ("shared/file", "/usr/bin/new-file")] {
        let mount = format!("{}:{target}", host.text(source));
        with(&host, "-v", &mount, &["true"]).is_refused(&["/usr/bin/new"]);
    }
    let mount = format!("{}:/etc/passwd", host.text("shared"));
    with(&host, "-v", &mount, &["true"]).is_refused(&["etc/passwd"]);
    let mount = format!("{}:/usr", host.text("shared/file"));
    with(&host, "-v", &mount, &["true"]).is_refused(&["/usr"]);
}

#[test]
fn a_relative_source_is_of_the_caller_s_folder() {
    let host = Host::new();
    host.write("here/file", "hello");
    assert_eq!(with(&host, "-v", "./here:/it", &["read", "/it/file"]).exits(0).text(), "hello");
    assert_eq!(with(&host, "-v", "./here/../here:/it", &["read", "/it/file"]).exits(0).text(), "hello");
}

#[test]
fn a_source_that_is_a_link_is_what_it_points_to() {
    let host = Host::new();
    host.write("real/file", "hello");
    std::os::unix::fs::symlink("real", host.path("link")).expect("the folder is ours");
    let mount = format!("{}:/it", host.text("link"));
    assert_eq!(with(&host, "-v", &mount, &["read", "/it/file"]).exits(0).text(), "hello");
}

#[test]
fn a_mount_below_another_is_seen_whatever_the_order_typed() {
    let host = Host::new();
    host.write("outer/file", "outer");
    host.write("inner/file", "inner");
    let outer = format!("{}:/it", host.text("outer"));
    let inner = format!("{}:/it/below", host.text("inner"));
    for flags in [["-v", &outer, "-v", &inner], ["-v", &inner, "-v", &outer]] {
        assert_eq!(host.probe(&flags, &["read", "/it/below/file"]).exits(0).text(), "inner");
        assert_eq!(host.probe(&flags, &["read", "/it/file"]).exits(0).text(), "outer");
    }
}

#[test]
fn nothing_mounted_gains_rights_by_its_mode_or_its_devices() {
    let host = Host::new();
    host.dir("shared");
    let mount = format!("{}:/shared", host.text("shared"));
    let seen = host.sees(&["-v", &mount, "--tmpfs", "/memory", "-v", "named:/volume"], &["mounts"]);
    for point in ["/shared", "/memory", "/volume"] {
        let mount = seen.mount(point).unwrap_or_else(|| panic!("`{point}` is mounted: {seen:#?}"));
        let options = options(mount);
        assert!(options.contains(&"nosuid") || point == "/shared" || point == "/volume", "{mount}");
        assert!(options.contains(&"nodev"), "{mount}");
    }
}

#[test]
fn every_propagation_is_taken_and_nothing_travels_out() {
    let host = Host::new();
    host.dir("shared");
    for word in ["private", "rprivate", "slave", "rslave", "shared", "rshared"] {
        let volume = format!("{}:/shared:{word}", host.text("shared"));
        let mount = format!("type=bind,src={},dst=/shared,bind-propagation={word}", host.text("shared"));
        for (flag, text) in [("-v", &volume), ("--mount", &mount)] {
            let seen = host.sees(&[flag, text], &["mounts"]);
            let propagation = seen.mount("/shared").expect("it is mounted")["propagation"].clone();
            let propagation = propagation.as_str().expect("text");
            if word.ends_with("slave") {
                assert!(!propagation.starts_with("shared"), "{word}: {propagation}");
            } else {
                assert!(propagation.starts_with(word.trim_start_matches('r')), "{word}: {propagation}");
            }
        }
    }
    let wrong = format!("{}:/shared:everywhere", host.text("shared"));
    with(&host, "-v", &wrong, &["true"]).is_refused(&["everywhere"]);
}

#[test]
fn what_is_no_mount_is_refused_and_nothing_is_made() {
    let host = Host::new();
    let source = host.text("source");
    for text in [":/a", "/a:", "relative/path:/b", "../up:b", "/a:/b:rw:x"] {
        with(&host, "-v", text, &["true"]).is_refused(&[text]);
    }
    let climbing = format!("{source}:/a/../../b");
    with(&host, "-v", &climbing, &["true"]).is_refused(&["/a/../../b"]);
    with(&host, "-v", &format!("{source}:/"), &["true"]).is_refused(&[":/"]);
    for text in
        ["type=bind,dst=/b", "type=bind,src=relative,dst=/b", "type=tmpfs", "dst", "type=bind,src=/,dst=b"]
    {
        with(&host, "--mount", text, &["true"]).is_refused(&[text]);
    }
    for text in ["relative", "/a:suid", "/a:size=everything", "/a:mode=99999"] {
        with(&host, "--tmpfs", text, &["true"]).is_refused(&[text]);
    }
    assert!(!host.path("source").exists(), "a refused line makes no folder");
    assert_eq!(host.containers(), [""; 0]);
}

#[test]
fn the_kernel_s_own_file_systems_cannot_be_covered_by_a_wrong_one() {
    let host = Host::new();
    host.write("proc/version", "not the kernel");
    let mount = format!("{}:/proc", host.text("proc"));
    let ended = with(&host, "-v", &mount, &["read", "/proc/self/attr/current"]);
    assert!(ended.code == 125 || ended.code == 1, "{ended:?}");
    assert!(ended.stdout.is_empty(), "{ended:?}");
}

#[test]
fn a_mount_below_dev_is_seen() {
    let host = Host::new();
    host.write("shared/file", "hello");
    let mount = format!("{}:/dev/mine", host.text("shared"));
    assert_eq!(with(&host, "-v", &mount, &["read", "/dev/mine/file"]).exits(0).text(), "hello");
    let mount = format!("{}:/dev/shm", host.text("shared"));
    assert_eq!(with(&host, "-v", &mount, &["read", "/dev/shm/file"]).exits(0).text(), "hello");
}

#[test]
fn a_mount_below_dev_is_like_every_other() {
    let host = Host::new();
    host.write("shared/file", "hello");
    let seen = host.sees(&["--tmpfs", "/dev/memory:size=1m", "--tmpfs", "/dev/tools:exec,ro"], &["mounts"]);
    let memory = seen.mount("/dev/memory").expect("it is mounted");
    assert!(options(memory).contains(&"noexec") && options(memory).contains(&"rw"), "{memory}");
    assert!(memory["super_options"].as_str().expect("text").contains("size=1024k"), "{memory}");
    let tools = seen.mount("/dev/tools").expect("it is mounted");
    assert!(!options(tools).contains(&"noexec") && options(tools).contains(&"ro"), "{tools}");
    let mount = format!("type=bind,src={},dst=/dev/it", host.text("nowhere"));
    with(&host, "--mount", &mount, &["true"]).is_refused(&["nowhere"]);
    // All of /dev would be filled with what each container's /dev has, on the host.
    with(&host, "-v", &format!("{}:/dev", host.text("shared")), &["true"]).is_refused(&["/dev"]);
    assert_eq!(names(&host.path("shared")), ["file"]);
}

// ── volumes ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_named_volume_keeps_what_is_written_for_the_next_container() {
    let host = Host::new();
    with(&host, "-v", "data:/data", &["write", "/data/file", "kept"]).exits(0);
    assert_eq!(with(&host, "-v", "data:/data:ro", &["read", "/data/file"]).exits(0).text(), "kept");
    let mount = "type=volume,src=data,dst=/elsewhere";
    assert_eq!(with(&host, "--mount", mount, &["read", "/elsewhere/file"]).exits(0).text(), "kept");
    with(&host, "-v", "data:/data:ro", &["write", "/data/file", "changed"]).exits(1);
    assert!(with(&host, "-v", "other:/data", &["ls", "/data"]).exits(0).stdout.is_empty());
    assert_eq!(names(&host.data().join("volumes")), ["data", "other"]);
}

#[test]
fn an_anonymous_volume_ends_with_its_container() {
    let host = Host::new();
    with(&host, "-v", "/data", &["write", "/data/file", "gone"]).exits(0);
    assert!(with(&host, "-v", "/data", &["ls", "/data"]).exits(0).stdout.is_empty());
    assert_eq!(names(&host.data().join("volumes")), [""; 0]);
}

#[test]
fn a_run_that_is_refused_leaves_no_volume_behind() {
    let host = Host::new();
    host.write("id", "another's");
    let below_a_file = format!("{}/below:/inside", host.text("id"));
    for flags in [
        &["-v", &below_a_file][..],
        &["--cap-add", "NOPE"],
        &["-w", "relative"],
        &["--cidfile", "id"],
        &["--user", "nobody-here"],
        &["--security-opt", "seccomp=none"],
        &["--userns", "wrong"],
    ] {
        host.probe(&[&["-v", "/data"], flags].concat(), &["true"]).is_refused(&[]);
        assert_eq!(names(&host.data().join("volumes")), [""; 0], "{flags:?}");
    }
}

// ── memory ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_tmpfs_is_memory_of_the_size_asked_for() {
    let host = Host::new();
    let seen = host.sees(&["--tmpfs", "/a", "--tmpfs", "/b:size=1m,mode=1770"], &["mounts"]);
    for point in ["/a", "/b"] {
        let mount = seen.mount(point).expect("it is mounted");
        assert_eq!(mount["fstype"], "tmpfs");
        for option in ["rw", "nosuid", "nodev", "noexec"] {
            assert!(options(mount).contains(&option), "{option}: {mount}");
        }
    }
    let sized = seen.mount("/b").expect("it is mounted")["super_options"].as_str().expect("text").to_owned();
    assert!(sized.contains("size=1024k") && sized.contains("mode=1770"), "{sized}");
    let mount = "type=tmpfs,dst=/c,tmpfs-size=1m,tmpfs-mode=1770";
    let seen = host.sees(&["--mount", mount], &["mounts"]);
    let sized = seen.mount("/c").expect("it is mounted")["super_options"].as_str().expect("text").to_owned();
    assert!(sized.contains("size=1024k") && sized.contains("mode=1770"), "{sized}");
    let ended = host.cuddy(&[
        "run",
        "--tmpfs",
        "/b:size=64k",
        "@host",
        "/bin/sh",
        "-c",
        "head -c 1000000 /dev/zero >/b/file",
    ]);
    assert!(ended.code != 0 && ended.stderr.contains("space"), "{ended:?}");
}

#[test]
fn a_tmpfs_can_be_read_only_or_executable_where_asked() {
    let host = Host::new();
    let seen = host.sees(&["--tmpfs", "/a:ro", "--tmpfs", "/b:exec"], &["mounts"]);
    assert!(options(seen.mount("/a").expect("it is mounted")).contains(&"ro"));
    assert!(!options(seen.mount("/b").expect("it is mounted")).contains(&"noexec"));
}

#[test]
fn the_shared_memory_has_the_size_asked_for() {
    let host = Host::new();
    let size = |flags: &[&str]| {
        let seen = host.sees(flags, &["mounts"]);
        seen.mount("/dev/shm").expect("it is mounted")["super_options"].as_str().expect("text").to_owned()
    };
    assert!(size(&[]).contains("size=65536k"), "{}", size(&[]));
    assert!(size(&["--shm-size", "3m"]).contains("size=3072k"), "{}", size(&["--shm-size", "3m"]));
    // To the kernel 0 would be no limit at all.
    assert!(size(&["--shm-size", "0"]).contains("size=65536k"), "{}", size(&["--shm-size", "0"]));
    host.probe(&["--shm-size", "2m", "--read-only"], &["write", "/dev/shm/file", "x"]).exits(0);
}

// ── the root ────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_read_only_root_can_be_written_only_where_something_is_mounted() {
    let host = Host::new();
    host.dir("shared");
    let mount = format!("{}:/shared", host.text("shared"));
    let flags = ["--read-only", "--tmpfs", "/memory", "-v", &mount, "-v", "named:/volume"];
    for path in ["/file", "/etc/file", "/usr/file", "/root/file", "/sys/file"] {
        let ended = host.probe(&flags, &["write", path, "x"]).exits(1);
        assert!(["EROFS", "ENOENT", "EACCES", "EPERM"].iter().any(|e| ended.stderr.contains(e)), "{ended:?}");
    }
    for path in ["/shared/file", "/memory/file", "/volume/file", "/dev/shm/file"] {
        host.probe(&flags, &["write", path, "x"]).exits(0);
    }
}

#[test]
fn the_host_s_own_folders_cannot_be_written_through_its_image() {
    let host = Host::new();
    for path in ["/usr/bin/cuddy-test", "/bin/cuddy-test", "/usr/lib/cuddy-test"] {
        host.probe(&[], &["write", path, "x"]).exits(1);
        assert!(!Path::new(path).exists());
    }
    // `/etc` itself is the container's, with what is safe of the host's in it.
    host.probe(&[], &["write", "/etc/cuddy-test", "x"]).exits(0);
    assert!(!Path::new("/etc/cuddy-test").exists());
}

#[test]
fn what_is_written_to_the_root_is_gone_with_the_container() {
    let host = Host::new();
    host.probe(&[], &["write", "/tmp/file", "x"]).exits(0);
    host.probe(&[], &["read", "/tmp/file"]).exits(1);
}

// ── devices ─────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_device_of_the_host_is_shown_where_asked() {
    let host = Host::new();
    let ended = host.probe(&["--device", "/dev/full"], &["write", "/dev/full", "x"]).exits(1);
    assert!(ended.stderr.contains("ENOSPC"), "{}", ended.stderr);
    let seen = host.sees(&["--device", "/dev/full:/dev/brimming:rw"], &["ls", "/dev"]);
    let found = seen.all("entry").find(|entry| entry["name"] == "brimming").expect("it is there");
    assert_eq!(found["rdev"], "1:7");
    host.probe(&["--device", "/dev/no-such-device"], &["true"]).is_refused(&["/dev/no-such-device"]);
}

#[test]
fn a_device_that_is_none_refused() {
    let host = Host::new();
    assert!(fs::metadata("/dev/shm").is_ok_and(|found| !found.file_type().is_char_device()));
    host.probe(&["--device", "/dev/shm"], &["true"]).is_refused(&["/dev/shm"]);
}

#[test]
fn the_devices_are_the_usual_few() {
    let host = Host::new();
    let seen = host.sees(&[], &["ls", "/dev"]);
    let mut found: Vec<_> =
        seen.all("entry").map(|entry| entry["name"].as_str().expect("text").to_owned()).collect();
    found.sort();
    let wanted = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
        "urandom", "zero",
    ];
    found.retain(|name| name != "core");
    assert_eq!(found, wanted);
}

#[test]
fn a_link_to_nowhere_in_a_mounted_folder_is_left_as_it_is() {
    let host = Host::new();
    let folder = host.dir("etc");
    std::os::unix::fs::symlink("/run/nowhere/resolv.conf", folder.join("resolv.conf")).unwrap();
    let ended = host.cuddy(&[
        "run",
        "--network",
        "host",
        "-v",
        &format!("{}:/etc", folder.display()),
        "@host",
        "/usr/bin/test",
        "-e",
        "/run/nowhere/resolv.conf",
    ]);
    ended.exits(0);
    let target = fs::read_link(folder.join("resolv.conf")).expect("it is still a link");
    assert_eq!(target, Path::new("/run/nowhere/resolv.conf"));
}

#[test]
fn two_mounts_on_one_place_and_a_tilde_no_shell_saw_are_refused() {
    let host = Host::new();
    let twice = ["run", "--tmpfs", "/a", "-v", "named:/a", "@host", "true"];
    host.cuddy(&twice).is_refused(&["duplicate mount point", "`/a`"]);
    host.cuddy(&["run", "-v", "~/data:/x", "@host", "true"]).is_refused(&["~/data", "write the path out"]);
    assert!(!host.path("~").exists());
}
