//! Attacks that worked on container runtimes once, each by the number it was published under.
//!
//! What a kernel entry answers is in `inside.rs`, hostile archives are in `tests/images.rs`.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Host, Started, cuddy};
use crate::judge;
use crate::payload::{self, run, strict_line};

/// Our own program, to the byte.
fn fingerprint() -> String {
    let bytes = fs::read(cuddy()).expect("it is there");
    cuddy::image::stream::digest_of(&bytes).to_string()
}

/// A script whose interpreter is whatever process starts it.
fn script_of_ourselves(host: &Host) -> String {
    let script = host.write("evil", "#!/proc/self/exe\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    format!("{}:/evil:ro", script.display())
}

#[test]
fn our_own_program_is_not_a_command_of_a_container() {
    // CVE-2019-5736: an image names the runtime itself as its command.
    let (host, before) = (Host::new(), fingerprint());
    for command in ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe"] {
        let ended = host.cuddy(&["run", "--rm", "@host", command]).exits(126);
        assert!(ended.stderr.contains("cannot execute"), "{}", ended.stderr);
    }
    assert_eq!(fingerprint(), before);
}

#[test]
fn a_script_that_is_run_by_our_own_program_loads_no_library_of_the_image() {
    // CVE-2019-5736: the script's interpreter is us. One static program loads nothing into itself, so what
    // runs is our own command line, without a right to anything, from a read-only mount.
    let (host, before) = (Host::new(), fingerprint());
    let library = format!("{}:/evil.so:ro", payload::library().display());
    let flags = ["-v", &script_of_ourselves(&host), "-v", &library, "-e", "LD_PRELOAD=/evil.so"];
    let ended = host.cuddy(&[&["run", "--rm"], &flags[..], &["@host", "/evil"]].concat()).exits(1);
    assert!(payload::lines(&ended).is_empty(), "a library of the image was loaded into us: {ended:?}");
    assert!(ended.stderr.contains("unrecognized subcommand '/evil'"), "{}", ended.stderr);
    assert_eq!(fingerprint(), before);
}

#[test]
fn the_first_process_shows_our_program_on_a_read_only_mount_to_who_may_look() {
    // CVE-2019-5736, with every right that could help.
    let (host, before) = (Host::new(), fingerprint());
    for flags in [&["--init", "--cap-add", "SYS_PTRACE"][..], &["--init", "--privileged"]] {
        let seen = payload::lines(&run(&host, flags, &["programs"]).exits(0));
        let first = seen.iter().find(|line| line["who"] == "1").expect("the first process can be looked at");
        assert_eq!(first["read_only"], true, "{first}");
        assert!(seen.iter().all(|line| line["write"] != "OK"), "{seen:?}");
    }
    assert_eq!(fingerprint(), before);
}

#[test]
fn who_hunts_for_the_programs_of_other_processes_while_containers_start_finds_none_to_write() {
    // CVE-2019-5736: one container hunts for a second, others start meanwhile.
    let (host, before) = (Host::new(), fingerprint());
    let hunter = host.spawn_probe(&["--cap-add", "SYS_PTRACE"], &["hunt", "1"]);
    for _ in 0..10 {
        host.probe(&[], &["true"]).exits(0);
    }
    let ended = hunter.end().exits(0);
    let found = judge::lines(&ended.stdout);
    // Busy is itself, and only itself.
    let others: Vec<_> =
        found.iter().filter(|l| l["probe"] == "writable_program" && l["path"] != "/probe").collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(fingerprint(), before);
}

#[test]
fn a_working_folder_that_is_a_descriptor_is_refused() {
    // CVE-2024-21626: the caller leaks folders of the host, and the runtime may hold some of its own.
    let host = Host::new();
    host.write("canary", "of the host");
    let leak = "exec 3<. 4<. 5</ 6<. 7<. 8<. 9<.; exec \"$@\"";
    for number in 0..100 {
        for folder in [format!("/proc/self/fd/{number}"), format!("/dev/fd/{number}")] {
            let mut command = host.command("/bin/sh");
            command
                .args(["-c", leak, "sh"])
                .arg(cuddy())
                .args(payload::run_line(&["-w", &folder], &["where"]));
            let ended = Started::new(command).end().exits(125);
            assert!(ended.stderr.contains("working folder"), "{folder}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_working_folder_that_is_a_link_to_a_descriptor_is_refused_or_inside() {
    // CVE-2024-21626, behind a link in the image.
    let host = Host::new();
    host.write("canary", "of the host");
    host.dir("links");
    for number in 0..12 {
        let name = format!("links/{number}");
        symlink(format!("/proc/self/fd/{number}"), host.path(&name)).expect("the folder is ours");
        let mount = format!("{}:/links", host.text("links"));
        let leak = "exec 3<. 4<. 5</ 6<. 7<. 8<. 9<.; exec \"$@\"";
        let mut command = host.command("/bin/sh");
        let line = payload::run_line(&["-v", &mount, "-w", &format!("/{name}")], &["where"]);
        command.args(["-c", leak, "sh"]).arg(cuddy()).args(line);
        let ended = Started::new(command).end();
        if ended.code != 125 {
            let seen = payload::lines(&ended.exits(0));
            assert_eq!(seen[0]["canary"], false, "{}", seen[0]);
            assert!(seen[0]["cwd"].as_str().is_some_and(|cwd| cwd.starts_with('/')), "{}", seen[0]);
        }
    }
}

#[test]
fn no_cgroup_tree_of_the_host_can_be_written() {
    // CVE-2022-0492, CVE-2023-25809.
    let host = Host::new();
    for flags in [&[][..], &["--network", "host"], &["--cap-add", "SYS_ADMIN", "--network", "host"]] {
        let seen = host.sees(flags, &["files", "inside"]);
        for line in seen.all("make_group_in") {
            assert_ne!(line["result"], "OK", "{flags:?}: {line}");
        }
        for line in seen.all("write").chain(seen.all("create_in")) {
            let path = line["path"].as_str().expect("text");
            assert!(!path.starts_with("/sys") || line["result"] != "OK", "{flags:?}: {line}");
        }
    }
}

#[test]
fn nothing_of_the_hosts_sysfs_can_be_written_with_the_hosts_network() {
    let host = Host::new();
    let seen = host.sees(&["--network", "host"], &["mounts"]);
    let below: Vec<_> =
        seen.all("mount").filter(|m| m["point"].as_str().is_some_and(|p| p.starts_with("/sys"))).collect();
    assert!(!below.is_empty(), "there is no /sys at all");
    // The last mount of a point covers the others.
    for mount in below {
        let top = seen.mount(mount["point"].as_str().expect("text")).expect("it is there");
        let covered = below_a_cover(&seen.0, top);
        assert!(covered || top["options"].as_str().is_some_and(|o| o.starts_with("ro")), "{top}");
    }
    for folder in
        ["/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/cgroup", "/sys/fs/bpf"]
    {
        let ended = host.probe(&["--network", "host"], &["ls", folder]);
        assert!(ended.stdout.is_empty(), "{folder} shows {}", ended.text());
    }
}

/// A later mount at the point itself or above it hides this one.
fn below_a_cover(mounts: &[Value], one: &Value) -> bool {
    let place = mounts.iter().position(|m| std::ptr::eq(m, one)).expect("it is one of them");
    let point = Path::new(one["point"].as_str().expect("text"));
    mounts[place + 1..].iter().any(|m| point.starts_with(m["point"].as_str().expect("text")))
}

#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    // CVE-2017-5226.
    let host = Host::new();
    let strictly = strict_line(&[], payload::program(), &["inject", "evil"]);
    let as_docker = payload::run_line(&["-i"], &["inject", "evil"]);
    let unfiltered = payload::run_line(&["-i", "--security-opt", "seccomp=unconfined"], &["inject", "evil"]);
    let privileged = payload::run_line(&["-i", "--privileged"], &["inject", "evil"]);
    for line in [strictly, as_docker, unfiltered, privileged] {
        let (controller, terminal) = terminal();
        let copy = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("descriptors are left"));
        let mut command = host.command("/usr/bin/setsid");
        command.args(["--ctty", "--wait"]).arg(cuddy()).args(&line);
        command.stdin(copy(&terminal)).stdout(copy(&terminal)).stderr(copy(&terminal));
        let status = command.status().expect("setsid of util-linux runs");
        assert_eq!(status.code(), Some(9), "{line:?}: something was injected, or it did not run");
        rustix::io::ioctl_fionbio(&terminal, true).expect("a terminal");
        let typed = rustix::io::read(terminal.as_fd(), &mut [0; 16]);
        assert_eq!(typed, Err(rustix::io::Errno::AGAIN), "{line:?}: there is input");
        drop(controller);
    }
}

/// Both sides of a terminal that gives its input out byte by byte.
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("terminals are left");
    grantpt(&controller).expect("it is ours");
    unlockpt(&controller).expect("it is ours");
    let name = ptsname(&controller, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name, flags, Mode::empty()).expect("it is ours");
    let mut modes = rustix::termios::tcgetattr(&terminal).expect("a terminal");
    modes.make_raw();
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &modes).expect("a terminal");
    (controller, terminal)
}

#[test]
fn a_mount_point_that_is_swapped_for_a_link_never_leads_to_the_host() {
    // CVE-2021-30465, CVE-2024-45310: one container flips the folder, others mount below it meanwhile.
    let host = Host::new();
    let (shared, canary, source) = (host.dir("shared"), host.dir("canary"), host.dir("source"));
    host.write("canary/file", "of the host");
    host.write("source/marker", "mounted");
    let volume = format!("{}:/shared", shared.display());
    for target in [canary.to_str().expect("ASCII"), "../../../../../../..", "/proc/self/fd"] {
        let mut flipper = host.spawn(
            &payload::run_line(&["-v", &volume], &["flip", "/shared", target])
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        flipper.wait_for("ready");
        let mount = format!("{}:/shared/sub/below", source.display());
        let tmpfs = "/shared/sub/memory".to_owned();
        for _ in 0..15 {
            // Each may fail, since the folder is a link at times; none may reach the host.
            let _ended = host.probe(&["-v", &volume, "-v", &mount, "--tmpfs", &tmpfs], &["true"]);
        }
        flipper.signal(Signal::KILL);
        flipper.end();
        for name in ["sub", "link"] {
            let path = shared.join(name);
            let _gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
    }
    assert_eq!(crate::harness::names(&canary), ["file"]);
    assert_eq!(fs::read_to_string(canary.join("file")).expect("it is there"), "of the host");
    assert_eq!(crate::harness::names(&source), ["marker"]);
    let strays = ["/below", "/memory", "/tmp/below", "/tmp/memory"];
    assert!(strays.iter().all(|stray| !Path::new(stray).exists()), "a mount point was made on the host");
}

#[test]
fn nothing_of_the_callers_environment_is_in_our_first_process() {
    let mut host = Host::new();
    host.set("SECRET_TOKEN", "of the caller");
    // With every right over it: what is not there cannot be read.
    for path in ["/proc/1/environ", "/proc/1/cmdline"] {
        let ended = host.probe(&["--init", "--privileged"], &["read", path]).exits(0);
        assert!(
            !ended.text().contains("SECRET") && !ended.text().contains("of the caller"),
            "{}",
            ended.text()
        );
    }
    let seen = host.sees(&[], &["identity"]);
    assert_eq!(seen.variable("SECRET_TOKEN"), None);
}
