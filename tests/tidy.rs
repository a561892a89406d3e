//! The laws of the house. Each is one test; when it breaks it says file, line and why the law exists.
//!
//! They read text and run nothing. Every law is a function from text to breaches, so that the module
//! `tidy::bad` can prove that it bites. Numbers and lists of exceptions here may only get stricter.

use std::fs;
use std::path::{Path, PathBuf};

use tidy::text::{Named, code, named, without_tests};

mod tidy {
    mod bad;
    pub(crate) mod text;
}

/// Packages in `Cargo.lock`: each one is code that we answer for.
const PACKAGES_MAX: usize = 311;
/// Places in `src/sys` that say `unsafe`. Lower it when one goes; raise it only with a reason in the commit.
const UNSAFE: usize = 16;
/// Lines of code of one file, tests, comments and blank lines apart.
const FILE_LINES_MAX: usize = 600;
/// The same for a file of tests, which is read by the names in it.
const TEST_FILE_LINES_MAX: usize = 1000;
/// Files that may be longer, with their size today.
const LONG_FILES: &[(&str, usize)] = &[];
/// Bytes of one file in the repository.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Modules that any other may name.
const GROUND: &[&str] = &["error", "names", "sys", "audit"];
/// Folders that do not know each other.
const APART: &[&[&str]] = &[&["image", "container", "workspace"], SURFACES];
/// Folders that ask `engine` for everything.
const SURFACES: &[&str] = &["mcp", "api", "cli"];

/// How a program asks what it was started with; constants of `std::env` tell nothing of that.
const ENVIRONMENT: &[&str] = &[
    "std::env::var",
    "std::env::var_os",
    "std::env::vars",
    "std::env::vars_os",
    "std::env::args",
    "std::env::args_os",
    "std::env::current_dir",
    "std::env::current_exe",
    "std::env::home_dir",
    "std::env::temp_dir",
    "std::env::set_var",
    "std::env::remove_var",
    "std::env::set_current_dir",
];

/// What lives in few places only: its paths, those places, and why.
const HOMES: &[(&[&str], &[&str], &str)] = &[
    (
        &["libcontainer"],
        &["container::runtime"],
        "one place to work around libcontainer, one place to replace it",
    ),
    (&["seccompiler"], &["container::seccomp", "container::bpf"], "filters are made in one place"),
    (
        &["clap"],
        &["cli::args", "cli::workspace_args"],
        "the command line is a surface: nothing else may know how a request was typed",
    ),
    (&["landlock"], &["container::walls"], "walls are raised in one place, in one order"),
    (&["rmcp"], &["mcp"], "the wire format stays in the surface that speaks it"),
    (
        &["tokio"],
        &["mcp", "image::registry", "container::network", "api"],
        "a process that calls libcontainer has one thread",
    ),
    (
        &["hyper", "hyper_util", "http_body_util", "tokio_rustls", "rustls", "ureq", "reqwest"],
        &["image::registry", "mcp::http", "mcp::otel", "api"],
        "HTTP stays at the edge",
    ),
    (
        &["toml", "jsonc_parser", "saphyr_parser"],
        &["engine::config"],
        "every format of a configuration becomes one tree with places first",
    ),
    (
        &["tree_sitter", "ignore", "grep_searcher", "grep_regex", "grep_matcher", "frizbee", "imara_diff"],
        &["workspace"],
        "what reads an agent's folder stays in the part that is about folders",
    ),
    (
        &["std::thread::spawn", "std::thread::scope", "std::thread::Builder"],
        // Who loads or fetches an image never calls libcontainer in that process.
        &["mcp", "api", "workspace", "image::archive", "image::registry::pull", "image::registry::push"],
        "a process that calls libcontainer has one thread; one that pulls or serves never does",
    ),
    (
        &["std::fs::read", "std::fs::read_to_string"],
        &["sys"],
        "they have no limit: `sys::fs::read_file` has one",
    ),
    (ENVIRONMENT, &["main", "engine::host"], "components are told where they live, they do not ask"),
    (
        &["std::process::exit", "std::process::abort"],
        &["main"],
        "only main leaves the process, so destructors run",
    ),
    (
        &["println!", "print!", "eprintln!", "eprint!", "dbg!", "std::io::stdout", "std::io::stderr"],
        &["cli::terminal"],
        "the output of a program belongs to the reader: one place decides what reaches it",
    ),
];

/// What touches the world: a file that calls itself pure names none of it.
const WORLD: &[&str] = &[
    "std::fs",
    "std::process",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::os::unix::net",
    "rustix",
    "nix",
    "landlock",
    "libcontainer",
    "tokio",
    "rand",
    "getrandom",
];
/// Methods of `Path` that touch the world.
const WORLD_METHODS: &[&str] =
    &[".canonicalize(", ".exists(", ".metadata(", ".read_dir(", ".read_link(", ".symlink_metadata("];

/// Where a law is broken.
#[derive(Debug)]
struct Breach(String);

fn breach(file: &str, line: usize, what: impl std::fmt::Display) -> Breach {
    Breach(format!("{file}:{line}: {what}"))
}

#[track_caller]
fn hold(reason: &str, breaches: Vec<Breach>) {
    let list: String = breaches.iter().map(|b| format!("\n  {}", b.0)).collect();
    assert!(breaches.is_empty(), "\n{reason}{list}\n");
}

// ── what there is to read ───────────────────────────────────────────────────────────────────────

/// A module as `src/lib.rs` declares it.
#[derive(Debug)]
struct Module {
    /// `container::spec`.
    name: String,
    line: usize,
    doc: String,
    folder: bool,
}

impl Module {
    fn pure(&self) -> bool {
        self.doc.starts_with('○')
    }
}

/// One source file.
struct Source {
    /// `src/container/spec.rs`.
    file: String,
    /// `container::spec`.
    module: String,
    text: String,
    /// The text without comments and literals.
    code: String,
    /// The code without its tests.
    product: String,
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        let module = file.trim_start_matches("src/").trim_end_matches(".rs").replace('/', "::");
        let code = code(text);
        let product = without_tests(&code);
        Self { file: file.to_owned(), module, text: text.to_owned(), code, product }
    }
}

/// The modules of `lib.rs` in order.
fn modules(lib: &str) -> Vec<Module> {
    let (mut found, mut folders, mut doc) = (Vec::new(), Vec::<&str>::new(), "");
    for (n, line) in lib.lines().map(str::trim).enumerate() {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = if doc.is_empty() { text } else { doc };
        } else if let Some(rest) = line.trim_start_matches("pub ").strip_prefix("mod ") {
            let name = rest.trim_end_matches([' ', '{', ';']);
            folders.push(name);
            let folder = rest.ends_with('{');
            found.push(Module { name: folders.join("::"), line: n + 1, doc: doc.to_owned(), folder });
            if !folder {
                folders.pop();
            }
            doc = "";
        } else if line == "}" {
            folders.pop();
        }
    }
    found
}

/// Every file below `folder` (a path relative to the project), sorted, without what git ignores.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a folder can be listed").path();
            let hidden =
                [".git", "target", "node_modules", "__pycache__"].iter().any(|name| path.ends_with(name));
            match fs::symlink_metadata(&path).expect("it was just listed").file_type() {
                _ if hidden => {}
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The text files below `folder` that end in one of `endings`.
fn texts(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let name = |path: &Path| path.display().to_string().trim_start_matches("./").to_owned();
    let all = files(folder).into_iter().map(|path| (name(&path), path));
    let wanted = all.filter(|(name, _)| endings.iter().any(|ending| name.ends_with(ending)));
    wanted
        .map(|(name, path)| {
            (
                name,
                String::from_utf8_lossy(&fs::read(path).expect("files of the project can be read"))
                    .into_owned(),
            )
        })
        .collect()
}

fn map() -> Vec<Module> {
    modules(&fs::read_to_string("src/lib.rs").expect("tests run in the folder of Cargo.toml"))
}

fn sources() -> Vec<Source> {
    let all: Vec<_> = texts("src", &[".rs"]).iter().map(|(file, text)| Source::new(file, text)).collect();
    assert!(all.len() > 1, "no source file was found, so no law was held");
    all
}

/// What `law` says about every source file.
fn over_sources(law: impl Fn(&[Module], &Source) -> Vec<Breach>) -> Vec<Breach> {
    let map = map();
    sources().iter().flat_map(|source| law(&map, source)).collect()
}

// ── 1: the order ────────────────────────────────────────────────────────────────────────────────

/// The module of our own crate that a path leads to; an error says why it leads to none.
fn ours<'m>(map: &'m [Module], path: &Named) -> Option<Result<(usize, &'m Module), String>> {
    if path.segments.len() < 2 || !path.is_under("crate") {
        return None;
    }
    let depth = path.segments.len();
    let found = (2..=depth).rev().find_map(|n| {
        let name = path.segments[1..n].join("::");
        map.iter().enumerate().find(|(_, module)| module.name == name)
    });
    Some(match found {
        None => Err(format!("`{}` is in no module of src/lib.rs", path.segments.join("::"))),
        Some((_, module)) if module.folder => {
            Err(format!("`{}` names a folder: name the module", module.name))
        }
        Some(found) => Ok(found),
    })
}

fn backward_edges(map: &[Module], source: &Source) -> Vec<Breach> {
    let own = map.iter().position(|module| module.name == source.module);
    let edges = named(&source.code).into_iter().filter_map(|path| {
        let what = match ours(map, &path)? {
            Err(what) => what,
            Ok((at, module)) if own.is_some_and(|own| at > own) => {
                format!("`{}` stands below `{}` in src/lib.rs", module.name, source.module)
            }
            Ok(_) => return None,
        };
        Some(breach(&source.file, path.line, what))
    });
    edges.collect()
}

#[test]
fn a_module_uses_only_what_stands_above_it() {
    hold(
        "read downward, src/lib.rs is the architecture, and there is no circle",
        over_sources(backward_edges),
    );
}

fn second_ways(_: &[Module], source: &Source) -> Vec<Breach> {
    let rules = [
        ("use crate::{", &source.code, "one `use` for each module, so that a search for its path finds it"),
        ("super::", &source.product, "write the path from `crate`"),
        ("pub use ", &source.product, "no re-export: one way to name a thing"),
    ];
    let lines = rules.iter().flat_map(|(word, text, what)| {
        let hits = text.lines().enumerate().filter(move |(_, line)| line.contains(word));
        hits.map(move |(n, _)| breach(&source.file, n + 1, format!("`{word}`: {what}")))
    });
    lines.collect()
}

#[test]
fn there_is_one_way_to_name_a_thing() {
    hold("the laws read paths as text, and so do people with grep", over_sources(second_ways));
}

// ── 2: apart ────────────────────────────────────────────────────────────────────────────────────

fn neighbours(map: &[Module], source: &Source) -> Vec<Breach> {
    let top = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let own = top(&source.module);
    let surface = SURFACES.contains(&own.as_str());
    let edges = named(&source.code).into_iter().filter_map(|path| {
        let (_, module) = ours(map, &path)?.ok()?;
        let other = top(&module.name);
        let allowed = other == own || other == "engine" || GROUND.contains(&other.as_str()) || module.pure();
        let apart =
            APART.iter().any(|group| group.contains(&own.as_str()) && group.contains(&other.as_str()));
        let what = if other != own && apart {
            format!("`{own}` and `{other}` do not know each other")
        } else if surface && !allowed {
            format!("`{own}` reaches past `engine` to `{}`", module.name)
        } else {
            return None;
        };
        Some(breach(&source.file, path.line, what))
    });
    edges.collect()
}

#[test]
fn parts_and_surfaces_do_not_know_each_other() {
    hold(
        "what is apart can be read, tested and replaced alone; surfaces share one door",
        over_sources(neighbours),
    );
}

// ── 3: homes ────────────────────────────────────────────────────────────────────────────────────

fn strays(_: &[Module], source: &Source) -> Vec<Breach> {
    let lives_in = |home: &&str| source.module == **home || source.module.starts_with(&format!("{home}::"));
    let away = HOMES.iter().filter(|(_, homes, _)| !homes.iter().any(lives_in));
    let away: Vec<_> = away.collect();
    let hits = named(&source.product).into_iter().flat_map(|path| {
        let hit = away.iter().filter_map(|(words, homes, why)| {
            let word = words.iter().find(|word| path.leads_to(word))?;
            Some(breach(&source.file, path.line, format!("`{word}` lives in {homes:?} only: {why}")))
        });
        hit.collect::<Vec<_>>()
    });
    hits.collect()
}

#[test]
fn every_outsider_has_one_home() {
    hold("what is known in one place can be changed in one place", over_sources(strays));
}

fn unsafe_places(source: &Source) -> Vec<usize> {
    named(&source.code).iter().filter(|path| path.is_under("unsafe")).map(|path| path.line).collect()
}

fn unsafe_strays(_: &[Module], source: &Source) -> Vec<Breach> {
    let places = if source.module.starts_with("sys::") { Vec::new() } else { unsafe_places(source) };
    places.into_iter().map(|line| breach(&source.file, line, "`unsafe` outside src/sys")).collect()
}

#[test]
fn unsafe_is_said_only_in_sys_and_as_often_as_is_written_here() {
    hold("few blocks in one folder can be argued; many become formula", over_sources(unsafe_strays));
    let count: usize = sources().iter().map(|source| unsafe_places(source).len()).sum();
    assert_eq!(
        count, UNSAFE,
        "set `UNSAFE` in tests/tidy.rs to the new number; when it rises, argue in the commit"
    );
}

// ── 4: pure ─────────────────────────────────────────────────────────────────────────────────────

fn impure(map: &[Module], source: &Source) -> Vec<Breach> {
    let header = source.text.starts_with("//! Pure:");
    let mark = map.iter().find(|module| module.name == source.module).is_some_and(Module::pure);
    if header != mark {
        let what = "`//! Pure:` in the file and ○ in src/lib.rs say different things";
        return vec![breach(&source.file, 1, what)];
    }
    if !header {
        return Vec::new();
    }
    let paths = named(&source.product).into_iter().filter_map(|path| {
        let what = match ours(map, &path) {
            Some(Ok((_, module))) if !module.pure() => format!("`{}` is not pure", module.name),
            _ => format!(
                "`{}` touches the world",
                WORLD.iter().chain(ENVIRONMENT).find(|word| path.leads_to(word))?
            ),
        };
        Some(breach(&source.file, path.line, what))
    });
    let methods = source.product.lines().enumerate().filter_map(|(n, line)| {
        let method = WORLD_METHODS.iter().find(|method| line.contains(**method))?;
        Some(breach(&source.file, n + 1, format!("`{method}…)` asks the file system")))
    });
    paths.chain(methods).collect()
}

#[test]
fn pure_files_touch_nothing() {
    hold(
        "a file that only computes is tested with tables, and may be named by every surface",
        over_sources(impure),
    );
}

// ── 5: files ────────────────────────────────────────────────────────────────────────────────────

fn headless(source: &Source) -> Vec<Breach> {
    let missing = !source.text.starts_with("//! ");
    missing.then(|| breach(&source.file, 1, "begins with no `//! `")).into_iter().collect()
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let tests = texts("tests", &[".rs"]).into_iter().chain(texts("benches", &[".rs"]));
    let tests: Vec<_> = tests.map(|(file, text)| Source::new(&file, &text)).collect();
    let all = sources().into_iter().chain(tests);
    hold("a reader decides at the first line whether to read on", all.flat_map(|s| headless(&s)).collect());
}

fn postponed(file: &str, text: &str) -> Vec<Breach> {
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    let lines = text.lines().enumerate().filter_map(|(n, line)| {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        let mark = words.find(|word| marks.contains(word))?;
        Some(breach(file, n + 1, format!("`{mark}`: do it, or file it as an issue")))
    });
    lines.collect()
}

#[test]
fn nothing_is_postponed_in_a_comment() {
    let all = texts(".", &[".rs", ".md", ".toml", ".sh", "/run", "/setup", ".py", ".json"]);
    hold(
        "a note that nobody must read is never read",
        all.iter().flat_map(|(f, t)| postponed(f, t)).collect(),
    );
}

fn too_long(source: &Source, exceptions: &[(&str, usize)]) -> Vec<Breach> {
    let lines = source.product.lines().filter(|line| !line.trim().is_empty()).count();
    let exception = exceptions.iter().find(|(file, _)| *file == source.file).map(|(_, lines)| *lines);
    let usual = if source.file.starts_with("tests/") { TEST_FILE_LINES_MAX } else { FILE_LINES_MAX };
    let what = match exception {
        Some(_) if lines <= usual => "is short enough: take it off `LONG_FILES`".to_owned(),
        Some(max) if lines < max => format!("has {lines} lines: lower its number in `LONG_FILES`"),
        limit if lines > limit.unwrap_or(usual) => {
            format!("has {lines} lines of code: split it by subject")
        }
        _ => return Vec::new(),
    };
    vec![breach(&source.file, 1, what)]
}

#[test]
fn no_file_is_too_long_to_hold_in_mind() {
    let all = texts(".", &[".rs"]);
    let breaches = all.iter().flat_map(|(file, text)| too_long(&Source::new(file, text), LONG_FILES));
    hold("what cannot be read in one sitting is not understood", breaches.collect());
}

fn vague_names(map: &[Module], source: &Source) -> Vec<Breach> {
    let vague = ["manager", "handler", "helper", "helpers", "util", "utils", "common", "misc"];
    let kinds = ["struct ", "enum ", "trait ", "type "];
    let types = source.code.lines().enumerate().filter_map(|(n, line)| {
        let rest = kinds.iter().find_map(|kind| line.trim().trim_start_matches("pub ").strip_prefix(kind))?;
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        let lower = name.to_lowercase();
        vague
            .iter()
            .any(|word| lower.ends_with(word))
            .then(|| breach(&source.file, n + 1, format!("`{name}`")))
    });
    let modules =
        map.iter().filter(|m| m.name == source.module && m.name.split("::").any(|s| vague.contains(&s)));
    types.chain(modules.map(|m| breach("src/lib.rs", m.line, format!("`{}`", m.name)))).collect()
}

#[test]
fn names_say_what_a_thing_is() {
    hold("a name that fits everything says nothing: use the field's noun", over_sources(vague_names));
}

// ── 6: nothing forgotten ────────────────────────────────────────────────────────────────────────

fn undeclared(map: &[Module], sources: &[Source]) -> Vec<Breach> {
    let roots = ["lib", "main"];
    let lost = sources
        .iter()
        .filter(|s| !roots.contains(&s.module.as_str()) && !map.iter().any(|m| m.name == s.module));
    let lost = lost.map(|s| breach(&s.file, 1, "is not declared in src/lib.rs"));
    let inner = sources.iter().filter(|s| s.module != "lib").flat_map(|s| {
        let lines = s.product.lines().enumerate();
        let hits = lines.filter(|(_, line)| line.trim_start_matches("pub ").starts_with("mod "));
        hits.map(|(n, _)| breach(&s.file, n + 1, "declares a module: src/lib.rs is the only list"))
    });
    let unmarked = map.iter().filter(|m| !m.folder && !m.doc.starts_with(['○', '●']));
    let unmarked =
        unmarked.map(|m| breach("src/lib.rs", m.line, format!("`{}` begins with neither ○ nor ●", m.name)));
    lost.chain(inner).chain(unmarked).collect()
}

#[test]
fn every_module_is_declared_and_marked_in_lib() {
    hold("src/lib.rs is the map", undeclared(&map(), &sources()));
}

/// Test files that nothing runs. `files` are those below `tests` and Cargo.toml.
fn unreached(files: &[(String, String)]) -> Vec<Breach> {
    let manifest = files.iter().find(|(file, _)| file == "Cargo.toml").map_or("", |(_, text)| text);
    let found_by_cargo = !manifest.contains("autotests = false");
    let lost = files.iter().filter(|(file, _)| {
        let Some(path) = file.strip_prefix("tests/").and_then(|path| path.strip_suffix(".rs")) else {
            return false;
        };
        let root = !path.contains('/') || (path.ends_with("/main") && path.matches('/').count() == 1);
        let stem = path.trim_end_matches("/mod").trim_end_matches("/main").rsplit('/').next().unwrap_or(path);
        let named = files.iter().filter(|(other, _)| other != file).any(|(_, text)| {
            text.contains(&format!("mod {stem};")) || text.contains(&format!("{stem}.rs\""))
        });
        !(named || root && found_by_cargo)
    });
    lost.map(|(file, _)| breach(file, 1, "no test program contains it")).collect()
}

#[test]
fn every_test_file_is_run() {
    let mut all = texts("tests", &[".rs", ".toml"]);
    all.push(("Cargo.toml".to_owned(), fs::read_to_string("Cargo.toml").unwrap()));
    hold("a test that no program contains holds nothing", unreached(&all));
}

/// Links of a Markdown page that lead to no file; `exists` is asked for paths relative to the project.
fn dead_links(file: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Breach> {
    let (mut found, mut fenced) = (Vec::new(), false);
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    for (n, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        for link in line.split("](").skip(1).filter(|_| !fenced) {
            let target = link.split([')', ' ', '#']).next().unwrap_or_default();
            let away = ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
            if !away && !target.is_empty() && !exists(&folder.join(target)) {
                found.push(breach(file, n + 1, format!("`{target}` leads nowhere")));
            }
        }
    }
    found
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let pages = texts(".", &[".md"]);
    hold(
        "a dead link costs the reader's trust",
        pages.iter().flat_map(|(f, t)| dead_links(f, t, Path::exists)).collect(),
    );
}

/// Tests that a Markdown page names and that are not there. Only a name of five words or more can be one: system calls are shorter.
fn lost_names(file: &str, text: &str, sources: &str) -> Vec<Breach> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let (mut found, mut fenced) = (Vec::new(), false);
    for (n, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        for name in line.split('`').skip(1).step_by(2).filter(|_| !fenced) {
            let is_name = name.chars().all(is_part) && name.matches('_').count() >= 4;
            if is_name && !sources.contains(&format!("fn {name}(")) {
                found.push(breach(file, n + 1, format!("there is no `{name}`")));
            }
        }
    }
    found
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let read = |folder| texts(folder, &[".rs"]).into_iter().map(|(_, text)| text);
    let sources: String = read("src").chain(read("tests")).collect();
    hold(
        "who doubts a sentence of the documents must find the test that shows it",
        texts(".", &[".md"]).iter().flat_map(|(f, t)| lost_names(f, t, &sources)).collect(),
    );
}

#[test]
fn no_file_is_too_heavy_for_git() {
    let heavy = files(".").into_iter().filter(|path| fs::metadata(path).unwrap().len() > FILE_BYTES_MAX);
    let breaches =
        heavy.map(|path| breach(&path.display().to_string(), 1, "is larger than 256 KiB")).collect();
    hold("git keeps every version for ever: make big fixtures in the test", breaches);
}

/// Dependencies without a word why.
fn unexplained(manifest: &str) -> Vec<Breach> {
    let (mut found, mut inside) = (Vec::new(), false);
    for (n, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
        } else if inside && line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.contains(" # ") {
            found.push(breach("Cargo.toml", n + 1, "a dependency without its reason behind a ` # `"));
        }
    }
    found
}

#[test]
fn every_dependency_has_its_reason_and_their_number_is_held() {
    hold(
        "each dependency is code that we answer for",
        unexplained(&fs::read_to_string("Cargo.toml").unwrap()),
    );
    let packages = fs::read_to_string("Cargo.lock").unwrap().matches("[[package]]").count();
    assert!(
        packages <= PACKAGES_MAX,
        "{packages} packages in Cargo.lock, {PACKAGES_MAX} are allowed: is it worth it?"
    );
}
