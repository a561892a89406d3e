//! Bad text, one sample for each way to break a law: a law that cannot fail holds nothing.

use std::path::Path;

use crate::{
    Breach, Module, Source, backward_edges, dead_links, headless, impure, lost_names, modules, neighbours,
    postponed, second_ways, strays, too_long, undeclared, unexplained, unreached, unsafe_places,
    unsafe_strays, vague_names,
};

const LIB: &str = "\
    /// ○ Errors.\npub mod error;\n/// The kernel.\npub mod sys {\n    /// ● Files.\n    pub mod fs;\n}\n\
    /// Bytes.\npub mod image {\n    /// ● Blobs.\n    pub mod store;\n}\n\
    /// A box.\npub mod container {\n    /// ○ What was asked.\n    pub mod options;\n    /// ● Runs.\n    pub mod runtime;\n}\n\
    /// Verbs.\npub mod engine {\n    /// ● Host.\n    pub mod host;\n}\n\
    /// Tools.\npub mod mcp {\n    /// ● Tools.\n    pub mod server;\n}\n\
    /// Words.\npub mod cli {\n    /// ○ Typed.\n    pub mod args;\n}\n";

/// The lines at which `law` is broken by `text` as the file of `module`.
fn lines(law: impl Fn(&[Module], &Source) -> Vec<Breach>, file: &str, text: &str) -> Vec<usize> {
    let found = law(&modules(LIB), &Source::new(file, text));
    found
        .iter()
        .map(|b| b.0.split(':').nth(1).and_then(|n| n.parse().ok()).expect("file:line: what"))
        .collect()
}

#[test]
fn the_map_is_read_in_order() {
    let map = modules(LIB);
    let names: Vec<_> = map.iter().filter(|m| !m.folder).map(|m| (m.name.as_str(), m.pure())).collect();
    assert_eq!(names[..3], [("error", true), ("sys::fs", false), ("image::store", false)]);
    assert_eq!(names.len(), 8);
}

#[test]
fn an_edge_down_a_folder_and_a_ghost_are_refused() {
    let file = "src/container/options.rs";
    assert_eq!(lines(backward_edges, file, "use crate::error::Error;\nuse crate::sys::fs;"), [0; 0]);
    assert_eq!(lines(backward_edges, file, "\nuse crate::container::runtime::run;"), [2]);
    assert_eq!(lines(backward_edges, file, "use crate::{error::E,\n engine::host::H};"), [2]);
    assert_eq!(lines(backward_edges, file, "fn f() {\n crate::engine::host::f() }"), [2]);
    assert_eq!(lines(backward_edges, file, "use crate::sys;"), [1]);
    assert_eq!(lines(backward_edges, file, "use crate::nothing::x;"), [1]);
    assert_eq!(
        lines(backward_edges, file, "// crate::engine::host\nfn f() { \"crate::engine::host\"; }"),
        [0; 0]
    );
}

#[test]
fn a_second_way_to_name_is_refused() {
    let text = "use crate::{error::E};\nuse super::x;\npub use crate::error::E;\n#[cfg(test)]\nmod tests { use super::*; }";
    assert_eq!(lines(second_ways, "src/container/options.rs", text), [1, 2, 3]);
}

#[test]
fn neighbours_and_a_surface_past_the_door_are_refused() {
    assert_eq!(lines(neighbours, "src/container/runtime.rs", "use crate::image::store::Store;"), [1]);
    assert_eq!(lines(neighbours, "src/cli/args.rs", "use crate::mcp::server::x;"), [1]);
    assert_eq!(lines(neighbours, "src/cli/args.rs", "use crate::container::runtime::x;"), [1]);
    let good = "use crate::container::options::O;\nuse crate::engine::host::H;\nuse crate::sys::fs::F;";
    assert_eq!(lines(neighbours, "src/cli/args.rs", good), [0; 0]);
}

#[test]
fn an_outsider_away_from_home_is_refused() {
    for text in [
        "use libcontainer::x;",
        "use std::{env, io}; fn f() { env::var_os() }",
        "fn f() { std::env::var(); }",
        "fn f() { println!(); }",
        "use std::process;\nfn f() { process::exit(1) }",
        "use ::clap as c;",
        "fn f() { seccompiler::f() }",
        "use std::thread::spawn;",
        "#[derive(clap::Parser)] struct A;",
        "use landlock;",
        "use tokio::x;",
        "use std::fs; fn f() { fs::read_to_string() }",
    ] {
        assert!(!lines(strays, "src/container/options.rs", text).is_empty(), "{text}");
    }
    for text in [
        "struct S { landlock: u8 }",
        "fn f() { self.clap() }",
        "// std::env::var",
        "use std::env::consts::ARCH;",
        "use std::process::Command;",
        "use crate::sys::fs; fn f() { fs::read() }",
        "use std::fs::File;",
    ] {
        assert_eq!(lines(strays, "src/container/options.rs", text), [0; 0], "{text}");
    }
    assert_eq!(lines(strays, "src/container/runtime.rs", "use libcontainer::x;"), [0; 0]);
}

#[test]
fn unsafe_is_seen_and_counted() {
    let text = "unsafe fn f() {}\nfn g() { unsafe { f() } } // unsafe\n#![expect(unsafe_code)]";
    assert_eq!(lines(unsafe_strays, "src/container/options.rs", text), [1, 2]);
    assert_eq!(lines(unsafe_strays, "src/sys/fs.rs", text), [0; 0]);
    assert_eq!(unsafe_places(&Source::new("src/sys/fs.rs", text)).len(), 2);
}

#[test]
fn an_impure_file_and_a_false_mark_are_refused() {
    let pure = |rest: &str| lines(impure, "src/container/options.rs", &format!("//! Pure: x\n{rest}"));
    for text in [
        "use std::fs;",
        "use std::time::{Duration, Instant};",
        "use crate::sys::fs;",
        "use rustix::fs;",
        "fn f() { std::process::id() }",
        "fn f(p: &Path) { p.exists(); }",
        "use nix::unistd;",
        "use std::net::{IpAddr, TcpStream};",
    ] {
        assert_eq!(pure(text), [2], "{text}");
    }
    assert_eq!(
        pure("use std::time::Duration;\nuse crate::error::E;\n#[cfg(test)]\nmod t { use std::fs; }"),
        [0; 0]
    );
    assert_eq!(lines(impure, "src/container/options.rs", "//! Not marked."), [1]);
    assert_eq!(lines(impure, "src/container/runtime.rs", "//! Pure: but marked ●."), [1]);
}

#[test]
fn a_headless_a_long_and_a_vague_file_are_refused() {
    assert_eq!(headless(&Source::new("src/a.rs", "fn f() {}")).len(), 1);
    let long = Source::new("src/a.rs", &"let x;\n".repeat(601));
    assert_eq!(too_long(&long, &[]).len(), 1);
    let tests = |lines| Source::new("tests/a.rs", &"let x;\n".repeat(lines));
    assert_eq!([too_long(&tests(1000), &[]).len(), too_long(&tests(1001), &[]).len()], [0, 1]);
    assert_eq!(too_long(&long, &[("src/a.rs", 601)]).len(), 0);
    assert_eq!(too_long(&long, &[("src/a.rs", 602)]).len(), 1, "the number may only shrink");
    let fits = Source::new("src/a.rs", &"let x;\n\n// why\n".repeat(600));
    assert_eq!(too_long(&fits, &[]).len(), 0);
    assert_eq!(too_long(&fits, &[("src/a.rs", 700)]).len(), 1, "an exception that is not needed goes");
    assert_eq!(lines(vague_names, "src/container/options.rs", "struct X;\npub struct MountManager {}"), [2]);
    assert_eq!(postponed("a", concat!("x\n// TO", "DO: later\nmktemp a.XXXXXX")).len(), 1);
}

#[test]
fn what_is_forgotten_is_found() {
    let stray = [Source::new("src/container/lost.rs", "//! x\nmod inner;")];
    assert_eq!(undeclared(&modules(LIB), &stray).len(), 2);
    assert_eq!(undeclared(&modules("/// Unmarked.\npub mod a;"), &[]).len(), 1);
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(
        unreached(&[file("tests/a.rs", ""), file("tests/b/c.rs", ""), file("tests/d/main.rs", "")]).len(),
        1
    );
    assert_eq!(unreached(&[file("tests/a.rs", "mod c;"), file("tests/a/c.rs", "")]).len(), 0);
    assert_eq!(unreached(&[file("tests/a.rs", ""), file("Cargo.toml", "autotests = false")]).len(), 1);
}

#[test]
fn a_dead_link_a_lost_test_and_an_unexplained_dependency_are_found() {
    let text = "[a](b.md) [c](https://x) [d](#e) [f](../g.md#h)\n```\n[i](j.md)\n```";
    let exists = |path: &Path| path == Path::new("docs/b.md");
    assert_eq!(dead_links("docs/page.md", text, exists).len(), 1);
    let text =
        "`it_is_not_here_now`, `it_is_there_all_right`, `too_short_name`\n```\n`not_here_at_all_now`\n```";
    assert_eq!(lost_names("docs/page.md", text, "fn it_is_there_all_right() {").len(), 1);
    assert_eq!(unexplained("[dependencies]\na = \"1\"\nb = \"1\" # why\n[profile.dev]\nc = 1").len(), 1);
}
