//! What a program outside the system folders needs to start: homes as people have them, made in
//! code, and the exact mounts for each. The oracle is the layout of each tool, not our own report.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use cuddy::engine::program::{self, Needs, ProgramError, Question};
use cuddy::engine::reach::MountKind;
use cuddy::error::{ErrorKind, Fault};

/// A machine in a folder: `home/me`, and `usr` as its only system folder beside the real ones.
struct Machine {
    _dir: tempfile::TempDir,
    root: PathBuf,
    home: PathBuf,
    path: Vec<PathBuf>,
    cwd: PathBuf,
    pyenv_version: Option<OsString>,
    shown: Vec<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let home = root.join("home/me");
        fs::create_dir_all(&home).unwrap();
        let machine = Self {
            _dir: dir,
            path: vec![root.join("usr/bin")],
            cwd: home.clone(),
            pyenv_version: None,
            shown: Vec::new(),
            root,
            home,
        };
        for program in ["node", "python3.11", "bash", "sh", "env"] {
            machine.binary_at(&machine.root.join("usr/bin").join(program));
        }
        machine.link_at(&machine.root.join("usr/bin/python3"), "python3.11");
        machine.file_at(&machine.root.join("usr/lib/python3.11/os.py"), "");
        machine.text("secret.txt", "mine");
        machine.text(".ssh/id", "mine");
        machine.text(".bashrc", "");
        machine
    }

    /// Makes the folder of a path, which must lie in this machine: a slip in a test must not write
    /// to the real one.
    #[track_caller]
    fn folder_for(&self, path: &Path) {
        let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
        assert!(path.starts_with(&self.root) && !climbs, "{} is outside", path.display());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }

    fn file_at(&self, path: &Path, text: &str) {
        self.folder_for(path);
        fs::write(path, text).unwrap();
    }

    /// An ELF header that asks for nothing, as a static program has it.
    fn binary_at(&self, path: &Path) {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(64, 0);
        header[54] = 56;
        self.folder_for(path);
        fs::write(path, header).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn link_at(&self, path: &Path, target: impl AsRef<Path>) {
        self.folder_for(path);
        symlink(target, path).unwrap();
    }

    fn text(&self, path: &str, text: &str) {
        self.file_at(&self.home.join(path), text);
    }

    fn binary(&self, path: &str) {
        self.binary_at(&self.home.join(path));
    }

    fn script(&self, path: &str, text: &str) {
        self.text(path, &text.replace("HOME", self.home.to_str().unwrap()));
        fs::set_permissions(self.home.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let target = target.replace("HOME", self.home.to_str().unwrap());
        self.link_at(&self.home.join(path), target.replace("ROOT", self.root.to_str().unwrap()));
    }

    fn first_on_path(&mut self, folder: &str) {
        self.path.insert(0, self.home.join(folder));
    }

    fn ask(&self, line: &str) -> Result<Needs, ProgramError> {
        let line = line.replace("HOME", self.home.to_str().unwrap());
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let mut system: Vec<PathBuf> =
            ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"].map(PathBuf::from).to_vec();
        system.push(self.root.join("usr"));
        system.extend(self.shown.iter().cloned());
        program::find(&Question {
            command: &words[0],
            arguments: &words[1..],
            path: &self.path,
            cwd: &self.cwd,
            home: Some(&self.home),
            pyenv_version: self.pyenv_version.as_deref(),
            system: &system,
        })
    }

    /// Asks, and compares what is shown: `folder/` or `file` for a mount, `link -> target`.
    #[track_caller]
    fn shows(&self, line: &str, expected: &[&str]) -> Needs {
        let needs = self.ask(line).unwrap_or_else(|error| panic!("{}", cuddy::error::Error::from(error)));
        let short = |path: &Path| match path.strip_prefix(&self.home) {
            Ok(inner) => inner.display().to_string(),
            Err(_) => path.strip_prefix(&self.root).unwrap_or(path).display().to_string(),
        };
        let mounts = needs
            .mounts
            .iter()
            .map(|mount| short(&mount.path) + if mount.kind == MountKind::Folder { "/" } else { "" });
        let links =
            needs.symlinks.iter().map(|(link, target)| format!("{} -> {}", short(link), short(target)));
        assert_eq!(mounts.chain(links).collect::<Vec<_>>(), expected, "{line}");
        self.never_private(&needs);
        needs
    }

    /// Whatever was asked: the home, what is above it, and what is private stay outside.
    #[track_caller]
    fn never_private(&self, needs: &Needs) {
        for private in [self.home.clone(), self.home.join(".ssh/id"), self.home.join("secret.txt")] {
            let covering = needs.mounts.iter().find(|mount| private.starts_with(&mount.path));
            assert_eq!(covering, None, "{} is shown", private.display());
        }
    }

    fn nvm(&mut self) {
        self.binary(".nvm/versions/node/v20/bin/node");
        self.script(".nvm/versions/node/v20/lib/node_modules/npm/bin/npx-cli.js", "#!/usr/bin/env node\n");
        self.link(".nvm/versions/node/v20/bin/npx", "../lib/node_modules/npm/bin/npx-cli.js");
        self.binary(".nvm/versions/node/v18/bin/node");
        self.first_on_path(".nvm/versions/node/v20/bin");
    }

    fn pyenv(&mut self) {
        let shim = "#!/usr/bin/env bash\nset -e\nprogram=\"${0##*/}\"\n\
                    exec \"HOME/.pyenv/libexec/pyenv\" exec \"$program\" \"$@\"\n";
        for version in ["3.9.2", "3.11.7", "3.11.12"] {
            let minor = version.rsplit_once('.').unwrap().0;
            let bin = format!(".pyenv/versions/{version}/bin");
            self.binary(&format!("{bin}/python{minor}"));
            self.link(&format!("{bin}/python3"), &format!("python{minor}"));
            self.text(&format!(".pyenv/versions/{version}/lib/python{minor}/os.py"), "");
            self.script(&format!(".pyenv/shims/python{minor}"), shim);
        }
        for name in ["python3", "tool", "node"] {
            self.script(&format!(".pyenv/shims/{name}"), shim);
        }
        self.script(".pyenv/versions/3.11.7/bin/tool", "#!HOME/.pyenv/versions/3.11.7/bin/python3.11\n");
        self.text(".pyenv/version", "3.11.7\n");
        self.first_on_path(".pyenv/shims");
    }

    /// A virtual environment whose python is a link to `python`, and a script `tool` in it.
    fn venv(&self, place: &str, python: &str) {
        let base = Path::new(python).parent().unwrap().to_str().unwrap();
        let base = base.replace("ROOT", self.root.to_str().unwrap());
        self.script(&format!("{place}/pyvenv.cfg"), &format!("home = {base}\nversion = 3.11.7\n"));
        self.link(&format!("{place}/bin/python3"), python);
        self.link(&format!("{place}/bin/python"), "python3");
        self.text(&format!("{place}/lib/python3.11/site-packages/tool.py"), "");
        self.script(&format!("{place}/bin/tool"), &format!("#!HOME/{place}/bin/python\n"));
    }
}

#[test]
fn a_system_program_needs_nothing() {
    let machine = Machine::new();
    let needs = machine.shows("node", &[]);
    assert_eq!(needs.program, machine.root.join("usr/bin/node"));
    assert_eq!(needs.path[0], machine.root.join("usr/bin"));
    assert!(needs.notes.is_empty(), "{:?}", needs.notes);
}

#[test]
fn node_from_nvm_shows_its_version_only() {
    let mut machine = Machine::new();
    machine.nvm();
    let needs = machine.shows("node", &[".nvm/versions/node/v20/"]);
    assert_eq!(needs.program, machine.home.join(".nvm/versions/node/v20/bin/node"));
    assert_eq!(
        needs.path[..2],
        [machine.home.join(".nvm/versions/node/v20/bin"), machine.root.join("usr/bin")]
    );
    let needs = machine.shows("npx -y @scope/server@1.0", &[".nvm/versions/node/v20/"]);
    assert!(needs.notes.iter().any(|note| note.contains("--network host")), "{:?}", needs.notes);
}

#[test]
fn npx_names_the_program_that_its_cache_has() {
    let mut machine = Machine::new();
    machine.nvm();
    let cache = ".npm/_npx/0123/node_modules";
    machine.script(&format!("{cache}/@scope/server/dist/index.js"), "#!/usr/bin/env node\n");
    machine
        .text(&format!("{cache}/@scope/server/package.json"), r#"{"bin": {"mcp-server": "dist/index.js"}}"#);
    machine.link(&format!("{cache}/.bin/mcp-server"), "../@scope/server/dist/index.js");
    machine.text(".npm/_npx/0123/package.json", "{}");
    let needs = machine.shows("npx -y @scope/server@1.0", &[".nvm/versions/node/v20/"]);
    let named = machine.home.join(cache).join(".bin/mcp-server");
    assert!(needs.notes[0].contains(named.to_str().unwrap()), "{:?}", needs.notes);
    let shown = [".npm/_npx/0123/node_modules/", ".npm/_npx/0123/package.json", ".nvm/versions/node/v20/"];
    machine.shows(named.to_str().unwrap(), &shown);
    machine.text("index.js", "");
    machine.link("node_modules/y", "../private");
    machine.shows("node HOME/index.js", &[".nvm/versions/node/v20/", "index.js", "node_modules/"]);
    let hostile = machine.shows("npx ../../../../.ssh", &[".nvm/versions/node/v20/"]);
    assert!(hostile.notes.iter().all(|note| !note.contains("cache:") || !note.contains(".ssh")));
}

#[test]
fn a_pyenv_shim_is_seen_through_as_pyenv_does() {
    let mut machine = Machine::new();
    machine.pyenv();
    let version = |version: &str| machine.home.join(".pyenv/versions").join(version).join("bin/python3");
    let needs = machine.shows("python3", &[".pyenv/versions/3.11.7/"]);
    assert_eq!(needs.program, version("3.11.7"));
    assert_eq!(needs.path[0], machine.home.join(".pyenv/versions/3.11.7/bin"));
    machine.shows("tool", &[".pyenv/versions/3.11.7/"]);

    machine.text("work/.python-version", "3.9.2 # old\n");
    fs::create_dir_all(machine.home.join("work/deep")).unwrap();
    machine.cwd = machine.home.join("work/deep");
    machine.shows("python3", &[".pyenv/versions/3.9.2/"]);
    machine.pyenv_version = Some(OsString::from("3.11"));
    machine.shows("python3", &[".pyenv/versions/3.11.12/"]);
    machine.pyenv_version = Some(OsString::from("system"));
    let needs = machine.shows("python3", &[]);
    assert_eq!(needs.program, machine.root.join("usr/bin/python3"));
    machine.pyenv_version = Some(OsString::from("3.9.2:system"));
    assert_eq!(machine.shows("node", &[]).program, machine.root.join("usr/bin/node"));
}

#[test]
fn a_pyenv_choice_that_is_not_there_is_an_error_with_the_way_out() {
    let mut machine = Machine::new();
    machine.pyenv();
    for hostile in ["3.12", "../../../.ssh", "/etc"] {
        machine.pyenv_version = Some(OsString::from(hostile));
        let error = machine.ask("python3").unwrap_err();
        assert!(matches!(error, ProgramError::StandIn { .. }), "{error}");
        assert!(error.hints()[0].contains(hostile), "{:?}", error.hints());
    }
    machine.pyenv_version = Some(OsString::from("3.9.2"));
    let error = machine.ask("tool").unwrap_err();
    assert!(error.hints()[0].contains("has no `tool`"), "{:?}", error.hints());
}

#[test]
fn a_venv_shows_itself_and_the_installation_it_is_built_on() {
    let mut machine = Machine::new();
    machine.pyenv();
    machine.venv("project/.venv", "HOME/.pyenv/versions/3.11.7/bin/python3");
    let shown = [".pyenv/versions/3.11.7/", "project/.venv/"];
    machine.shows("HOME/project/.venv/bin/tool", &shown);
    let needs = machine.shows("HOME/project/.venv/bin/python -m tool", &shown);
    assert_eq!(needs.program, machine.home.join("project/.venv/bin/python"));
    machine.cwd = machine.home.join("project");
    machine.shows(".venv/bin/python", &shown);
    machine.shows("./.venv/../.venv/bin/python3", &shown);
}

#[test]
fn a_venv_on_the_systems_python_shows_only_itself() {
    let machine = Machine::new();
    machine.venv("venv", "ROOT/usr/bin/python3");
    machine.shows("HOME/venv/bin/tool", &["venv/"]);
}

#[test]
fn a_venv_whose_installation_is_gone_says_so() {
    let machine = Machine::new();
    machine.venv("venv", "ROOT/usr/bin/python3");
    machine.text("venv/pyvenv.cfg", "home = /gone/bin\n");
    let needs = machine.shows("HOME/venv/bin/tool", &["venv/"]);
    assert!(needs.notes.iter().any(|note| note.contains("/gone/bin")), "{:?}", needs.notes);
}

#[test]
fn a_venv_that_is_the_home_itself_is_shown_in_parts() {
    let machine = Machine::new();
    machine.venv(".", "ROOT/usr/bin/python3");
    let shown = [
        "bin/tool",
        "lib/python3.11/",
        "pyvenv.cfg",
        "bin/python -> python3",
        "bin/python3 -> usr/bin/python3",
    ];
    machine.shows("HOME/bin/tool", &shown);
}

#[test]
fn pipx_and_uv_tools_show_their_environment_behind_the_link_in_local_bin() {
    for venvs in [".local/pipx/venvs", ".local/share/pipx/venvs", ".local/share/uv/tools"] {
        let mut machine = Machine::new();
        machine.pyenv();
        machine.first_on_path(".local/bin");
        machine.venv(&format!("{venvs}/x"), "HOME/.pyenv/versions/3.11.7/bin/python3");
        machine.link(".local/bin/tool", &format!("HOME/{venvs}/x/bin/tool"));
        let link = format!(".local/bin/tool -> {venvs}/x/bin/tool");
        let needs = machine.shows("tool", &[&format!("{venvs}/x/"), ".pyenv/versions/3.11.7/", &link]);
        assert_eq!(needs.program, machine.home.join(".local/bin/tool"));
    }
}

#[test]
fn a_python_of_uv_is_reached_through_its_minor_version_link() {
    let machine = Machine::new();
    let real = ".local/share/uv/python/cpython-3.11.7";
    machine.binary(&format!("{real}/bin/python3.11"));
    machine.text(&format!("{real}/lib/python3.11/os.py"), "");
    machine.link(".local/share/uv/python/cpython-3.11", "cpython-3.11.7");
    machine.venv("project/.venv", "HOME/.local/share/uv/python/cpython-3.11/bin/python3.11");
    let shown = [
        ".local/share/uv/python/cpython-3.11.7/",
        "project/.venv/",
        ".local/share/uv/python/cpython-3.11 -> cpython-3.11.7",
    ];
    machine.shows("HOME/project/.venv/bin/tool", &shown);
}

#[test]
fn the_exec_line_of_a_long_path_leads_to_the_environment() {
    let machine = Machine::new();
    machine.venv("a b/venv", "ROOT/usr/bin/python3");
    let exec = "#!/bin/sh\n'''exec' \"HOME/a b/venv/bin/python3\" \"$0\" \"$@\"\n' '''\n";
    machine.script("tools/long", exec);
    machine.shows("HOME/tools/long", &["a b/venv/", "tools/"]);
    machine.venv("uv/venv", "ROOT/usr/bin/python3");
    let beside =
        "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3' \"$0\" \"$@\"\n' '''\n";
    machine.script("uv/venv/bin/near", beside);
    machine.link(".local/bin/near", "../../uv/venv/bin/near");
    machine.shows("HOME/.local/bin/near", &["uv/venv/", ".local/bin/near -> ../../uv/venv/bin/near"]);
}

#[test]
fn packages_of_the_user_are_shown_to_their_programs_only() {
    let machine = Machine::new();
    machine.text(".local/lib/python3.11/site-packages/pkg/__init__.py", "");
    let python = format!("#!{}/usr/bin/python3\n", machine.root.display());
    machine.script(".local/bin/pkg", &python);
    let packages = ".local/lib/python3.11/site-packages/";
    let needs =
        machine.shows("HOME/.local/bin/pkg", &[".local/bin/pkg", ".local/lib/python3.11/site-packages/"]);
    assert!(needs.notes.iter().any(|note| note.contains("--env HOME")), "{:?}", needs.notes);
    machine.shows("python3 -m pkg", &[packages]);
    machine.shows("python3 -m other", &[]);
}

#[test]
fn path_lines_of_editable_installs_are_followed_within_their_project_only() {
    let machine = Machine::new();
    machine.venv("project/.venv", "ROOT/usr/bin/python3");
    machine.text("project/src/pkg.py", "");
    machine.text("private/pkg.py", "");
    let lines = "# why\n../../../../src\nHOME/private\nHOME\nimport __editable__x_finder; x()\n";
    machine.script("project/.venv/lib/python3.11/site-packages/a.pth", lines);
    let needs = machine.shows("HOME/project/.venv/bin/tool", &["project/.venv/", "project/src/"]);
    machine.venv("venv", "ROOT/usr/bin/python3");
    machine.script("venv/lib/python3.11/site-packages/a.pth", "HOME/private\n");
    machine.shows("HOME/venv/bin/tool", &["venv/"]);
    let private = format!("--ro {}", machine.home.join("private").display());
    assert!(needs.notes.iter().any(|note| note.ends_with(&private)), "{:?}", needs.notes);
    assert!(needs.notes.iter().any(|note| note.contains("by code")), "{:?}", needs.notes);
}

#[test]
fn a_packages_own_files_cannot_have_other_folders_shown() {
    let mut machine = Machine::new();
    machine.nvm();
    machine.text("private/package.json", "{}");
    machine.text("private/index.js", "");
    machine.text("project/package.json", "{}");
    machine.text("project/index.js", "");
    machine.link("project/node_modules/x", "../../private");
    let needs = machine.shows("node HOME/project/index.js", &[".nvm/versions/node/v20/", "project/"]);
    assert!(needs.notes.iter().any(|note| note.contains("--ro")), "{:?}", needs.notes);
    let hostile =
        "#!/bin/sh\nbasedir=$(dirname \"$0\")\nexec node  \"$basedir/../private/index.js\" \"$@\"\n";
    machine.script("tools/launch", hostile);
    machine.shows("HOME/tools/launch", &[".nvm/versions/node/v20/", "tools/"]);
}

#[test]
fn a_package_of_a_project_shows_node_modules_and_nothing_else_of_the_project() {
    let mut machine = Machine::new();
    machine.nvm();
    machine.script("project/node_modules/@s/x/cli.js", "#!/usr/bin/env node\n");
    machine.text("project/node_modules/@s/x/package.json", "{}");
    machine.text("project/package.json", "{}");
    machine.text("project/.env", "KEY=1");
    machine.link("project/node_modules/.bin/x", "../@s/x/cli.js");
    let shown = [".nvm/versions/node/v20/", "project/node_modules/", "project/package.json"];
    machine.shows("HOME/project/node_modules/.bin/x", &shown);
    machine.cwd = machine.home.join("project");
    let needs = machine.shows("node_modules/.bin/x", &shown);
    assert_eq!(needs.program, machine.home.join("project/node_modules/.bin/x"));
}

#[test]
fn launchers_of_pnpm_lead_to_its_store_of_packages() {
    let machine = Machine::new();
    let pnpm = "#!/bin/sh\nbasedir=$(dirname \"$0\")\nexec node  \"$basedir/global/5/node_modules/x/cli.js\" \"$@\"\n";
    machine.script(".local/share/pnpm/x", pnpm);
    let store = ".local/share/pnpm/global/5/.pnpm/x@1/node_modules/x";
    machine.text(&format!("{store}/cli.js"), "");
    machine.link(".local/share/pnpm/global/5/node_modules/x", "../.pnpm/x@1/node_modules/x");
    let shown = [
        ".local/share/pnpm/global/5/.pnpm/",
        ".local/share/pnpm/x",
        ".local/share/pnpm/global/5/node_modules/x -> ../.pnpm/x@1/node_modules/x",
    ];
    machine.shows("HOME/.local/share/pnpm/x", &shown);
}

#[test]
fn a_script_named_to_node_shows_its_package_and_what_the_workspace_links() {
    let mut machine = Machine::new();
    machine.nvm();
    machine.text("mono/package.json", "{}");
    machine.text("mono/notes.txt", "");
    machine.text("mono/packages/server/package.json", r#"{"main": "dist/index.js"}"#);
    machine.text("mono/packages/server/dist/index.js", "");
    machine.text("mono/packages/lib/package.json", "{}");
    machine.text("mono/node_modules/dep/package.json", "{}");
    machine.link("mono/node_modules/@m/lib", "../../packages/lib");
    let shown =
        [".nvm/versions/node/v20/", "mono/node_modules/", "mono/packages/lib/", "mono/packages/server/"];
    machine.shows("node --no-warnings HOME/mono/packages/server/dist/index.js", &shown);
    machine.cwd = machine.home.join("mono/packages/server");
    machine.shows("node .", &shown);
    machine.shows("node dist/index", &shown);
    machine.shows("node -e 1 dist/index.js", &[".nvm/versions/node/v20/"]);
}

#[test]
fn a_home_that_is_a_project_is_shown_in_parts() {
    let machine = Machine::new();
    machine.text("package.json", "{}");
    machine.text("index.js", "");
    machine.text("node_modules/dep/package.json", "{}");
    machine.text("server.py", "");
    let needs = machine.shows("node HOME/index.js", &["index.js", "node_modules/", "package.json"]);
    assert!(needs.notes.iter().any(|note| note.contains("too broad")), "{:?}", needs.notes);
    let needs = machine.shows("python3 server.py", &["server.py"]);
    assert!(needs.notes.iter().any(|note| note.contains("too broad")), "{:?}", needs.notes);
    machine.text("deep/tool.js", "");
    machine.shows("node deep/tool.js", &["deep/"]);
}

#[test]
fn a_script_named_to_python_shows_its_folder() {
    let machine = Machine::new();
    machine.text("server/main.py", "");
    machine.text("server/other.py", "");
    machine.text("Downloads/main.py", "");
    machine.shows("python3 -u HOME/server/main.py", &["server/"]);
    machine.shows("python3 HOME/Downloads/main.py", &["Downloads/main.py"]);
    machine.shows("python3 -c pass HOME/server/main.py", &[]);
    machine.shows("env -u X A=b python3 HOME/server/main.py", &["server/"]);
    machine.shows("bash HOME/server/main.py", &["server/main.py"]);
}

#[test]
fn other_arguments_are_not_shown_but_named() {
    let mut machine = Machine::new();
    machine.text("data/file.txt", "");
    let needs = machine.shows("node HOME/data --db=HOME/data/file.txt https://example.org/x HOME/none", &[]);
    assert_eq!(needs.notes.len(), 2, "{:?}", needs.notes);
    assert!(needs.notes[0].contains("--workspace"), "{:?}", needs.notes);
    machine.shown.push(machine.home.join("data"));
    assert!(machine.ask("node HOME/data").unwrap().notes.is_empty());
}

#[test]
fn single_binaries_show_only_themselves() {
    let machine = Machine::new();
    for place in [".cargo/bin/x", "go/bin/x", ".deno/bin/deno", ".bun/bin/bun", ".local/bin/x", "apps/x/x"] {
        machine.binary(place);
        machine.shows(&format!("HOME/{place}"), &[place]);
    }
}

#[test]
fn every_link_on_the_way_is_kept_and_a_loop_is_refused() {
    let mut machine = Machine::new();
    machine.binary("disk/tools/real");
    machine.link("tools", "disk/tools");
    machine.link(".local/bin/a", "../../tools/b");
    machine.link("disk/tools/b", "HOME/tools/real");
    machine.first_on_path(".local/bin");
    let shown = [
        "disk/tools/real",
        ".local/bin/a -> ../../tools/b",
        "disk/tools/b -> tools/real",
        "tools -> disk/tools",
    ];
    machine.shows("a", &shown);
    machine.link("x", "y");
    machine.link("y", "x");
    assert!(matches!(machine.ask("HOME/x"), Err(ProgramError::NotExecutable { .. })));
    machine.link("dangling", "nowhere");
    assert!(matches!(machine.ask("HOME/dangling"), Err(ProgramError::NotFound { .. })));
}

#[test]
fn a_home_behind_a_link_is_reached_by_the_same_path() {
    let mut machine = Machine::new();
    machine.venv("venv", "ROOT/usr/bin/python3");
    let real = machine.home.clone();
    machine.home = machine.root.join("me");
    machine.link_at(&machine.home, &real);
    let needs = machine.ask("HOME/venv/bin/tool").unwrap();
    assert_eq!(needs.program, machine.home.join("venv/bin/tool"));
    assert_eq!(needs.mounts.iter().map(|mount| mount.path.clone()).collect::<Vec<_>>(), [real.join("venv")]);
    assert_eq!(needs.symlinks, [(machine.home.clone(), real)]);
}

#[test]
fn stand_ins_that_are_not_understood_say_what_to_name() {
    let mut machine = Machine::new();
    machine.binary(".local/bin/mise");
    machine.link("shims/python3", "HOME/.local/bin/mise");
    machine.first_on_path("shims");
    let error = machine.ask("python3").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hints()[0].contains("mise which"), "{:?}", error.hints());
    machine.shows("HOME/.local/bin/mise", &[".local/bin/mise"]);
}

#[test]
fn an_asdf_shim_leads_to_the_chosen_installation() {
    let mut machine = Machine::new();
    for version in ["18.0.0", "20.1.0"] {
        machine.binary(&format!(".asdf/installs/nodejs/{version}/bin/node"));
        machine.text(&format!(".asdf/installs/nodejs/{version}/lib/node_modules/npm/package.json"), "{}");
    }
    let shim = "#!/usr/bin/env bash\n# asdf-plugin: nodejs 18.0.0\n# asdf-plugin: nodejs 20.1.0\nexec asdf exec \"node\" \"$@\"\n";
    machine.script(".asdf/shims/node", shim);
    machine.first_on_path(".asdf/shims");
    assert!(matches!(machine.ask("node"), Err(ProgramError::StandIn { .. })));
    machine.text(".tool-versions", "python 3.11.7\nnodejs 20.1.0\n");
    machine.shows("node", &[".asdf/installs/nodejs/20.1.0/"]);
}

#[test]
fn what_cannot_start_is_told_apart() {
    let mut machine = Machine::new();
    let not_found = machine.ask("nothing-like-it").unwrap_err();
    assert_eq!(not_found.kind(), ErrorKind::NotFound);
    assert!(not_found.to_string().contains("usr/bin"), "{not_found}");
    machine.text("plain", "echo\n");
    machine.script("text", "echo\n");
    machine.script("broken", "#!HOME/missing/python\n");
    machine.script("itself", "#!HOME/itself\n");
    fs::create_dir_all(machine.home.join("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        machine.home.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o777),
        0,
    )
    .unwrap();
    for (name, why) in [
        ("plain", "may not execute"),
        ("text", "#!"),
        ("broken", "interpreter"),
        ("itself", "interpreter"),
        ("folder", "folder"),
        ("fifo", "regular"),
        ("plain/x", "directory"),
    ] {
        let error = machine.ask(&format!("HOME/{name}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{name}: {error}");
        assert!(error.to_string().to_lowercase().contains(why), "{name}: {error}");
    }
    machine.first_on_path("");
    assert_eq!(machine.ask("plain").unwrap_err().kind(), ErrorKind::Denied);
    machine.home = PathBuf::from("/");
    assert_eq!(machine.ask("").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_lies_among_keys_is_refused_even_as_a_program() {
    let machine = Machine::new();
    machine.script(".ssh/tool", "#!/bin/sh\n");
    machine.link("innocent", ".ssh/tool");
    for path in ["HOME/innocent", "HOME/.ssh/tool"] {
        let error = machine.ask(path).unwrap_err();
        assert!(matches!(error, ProgramError::Reach { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
    machine.text("server/main.py", "");
    machine.link("server/key", "../.ssh/id");
    machine.shows("python3 HOME/server/main.py", &["server/"]);
}

#[test]
fn a_real_program_beside_its_library_shows_both() {
    let machine = Machine::new();
    let (library, program) = (machine.home.join(".local/lib/libx.so"), machine.home.join(".local/bin/x"));
    for path in [&library, &program] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    machine.text("x.c", "int y(void); int main(void) { return y(); }");
    machine.text("y.c", "int y(void) { return 0; }");
    let compile = |arguments: &[&OsStr]| {
        std::process::Command::new("cc").args(arguments).current_dir(&machine.home).status()
    };
    let options = ["-shared", "-fPIC", "y.c", "-o"].map(OsStr::new);
    let built = compile(&[&options[..], &[library.as_os_str()]].concat()).and_then(|_| {
        let options =
            ["x.c", "-L.local/lib", "-l:libx.so", "-Wl,-rpath,$ORIGIN/../lib", "-o"].map(OsStr::new);
        compile(&[&options[..], &[program.as_os_str()]].concat())
    });
    assert!(built.is_ok_and(|status| status.success()), "a C compiler is part of every Rust toolchain");
    // `~/.local/lib` is shared by many programs: the library alone.
    machine.shows("HOME/.local/bin/x", &[".local/bin/x", ".local/lib/libx.so"]);
    // Its name alone does not make a file a library.
    fs::write(&library, "my diary").unwrap();
    let needs = machine.shows("HOME/.local/bin/x", &[".local/bin/x"]);
    assert!(needs.notes.iter().any(|note| note.contains("libx.so")), "{:?}", needs.notes);
}
