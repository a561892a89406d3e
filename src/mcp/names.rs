//! Pure: the names that clients see for a server's tools and prompts, and which server an address of a
//! resource belongs to.
//!
//! Every name is legal for every client, and the same in every run: what had to be shortened or cleaned
//! ends in a digest of what it was. It asks nobody whether a tool exists.

use crate::engine::config::servers::ServerConfig;

/// What stands between the name of a server and that of its tool.
const BETWEEN: &str = "__";
/// Hexadecimal digits of the digest at the end of a name that had to change.
const DIGITS: usize = 8;
/// Longest template of addresses that is matched, in bytes.
const TEMPLATE_BYTES_MAX: usize = 4 << 10;

/// The name that clients see for what `server` calls `name`.
pub fn shown(server: &ServerConfig, name: &str, bytes_max: usize) -> String {
    let prefix = server.prefix_text();
    let plain = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}{BETWEEN}{name}") };
    if is_legal(&plain, bytes_max) {
        return plain;
    }
    let digest = blake3::hash(format!("{prefix}\0{name}").as_bytes()).to_hex();
    let mut clean: String = plain.chars().map(|c| if is_legal_char(c) { c } else { '_' }).collect();
    clean.truncate(bytes_max.saturating_sub(DIGITS + 1));
    format!("{clean}_{}", &digest[..DIGITS])
}

/// What a server calls the thing that clients know as `shown`, when the name did not have to change.
pub fn own<'n>(server: &ServerConfig, shown: &'n str) -> Option<&'n str> {
    match server.prefix_text() {
        "" => Some(shown),
        prefix => shown.strip_prefix(prefix)?.strip_prefix(BETWEEN),
    }
}

fn is_legal(name: &str, bytes_max: usize) -> bool {
    !name.is_empty() && name.len() <= bytes_max && name.chars().all(is_legal_char)
}

fn is_legal_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// Whether `address` can come from `template`, and how many bytes of the template say so literally.
pub fn template_fits(template: &str, address: &str) -> Option<usize> {
    if template.len() > TEMPLATE_BYTES_MAX {
        return None;
    }
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, behind)) = rest.split_once('{') {
        let (_, behind) = behind.split_once('}')?;
        literals.push(literal);
        rest = behind;
    }
    let bytes = literals.iter().map(|l| l.len()).sum::<usize>() + rest.len();
    let Some((first, middle)) = literals.split_first() else {
        return (template == address).then_some(bytes);
    };
    let mut left = address.strip_prefix(first)?;
    for literal in middle {
        let at = left.find(literal)?;
        left = &left[at + literal.len()..];
    }
    left.ends_with(rest).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::config::document::Place;
    use crate::engine::config::servers::{Prefix, Transport};

    fn server(prefix: Prefix) -> ServerConfig {
        let transport = Transport::Http { url: String::new(), headers: Vec::new() };
        ServerConfig { prefix, ..ServerConfig::new("files", Place::default(), transport) }
    }

    #[test]
    fn a_legal_name_only_gets_its_prefix() {
        assert_eq!(shown(&server(Prefix::Default), "read", 64), "files__read");
        assert_eq!(shown(&server(Prefix::None), "read", 64), "read");
        assert_eq!(own(&server(Prefix::Default), "files__read"), Some("read"));
        assert_eq!(own(&server(Prefix::Default), "other__read"), None);
        assert_eq!(own(&server(Prefix::None), "a__b"), Some("a__b"));
    }

    #[test]
    fn what_had_to_change_keeps_apart_what_was_apart() {
        let server = server(Prefix::Default);
        assert_ne!(shown(&server, "a.b", 64), shown(&server, "a/b", 64));
        let long = "x".repeat(80);
        assert_ne!(shown(&server, &long, 64), shown(&server, &format!("{long}x"), 64));
    }

    #[test]
    fn an_address_fits_a_template_by_its_literal_parts() {
        for (template, address, expected) in [
            ("test://a/{id}/data", "test://a/7/data", Some(14)),
            ("test://a/{id}/data", "test://a/7/date", None),
            ("file:///{+path}", "file:///x/y", Some(8)),
            ("a{b}", "a", Some(1)),
            ("a{b}c{d}e", "aXcYe", Some(3)),
            ("plain", "plain", Some(5)),
            ("plain", "plains", None),
            ("broken{", "broken", None),
        ] {
            assert_eq!(template_fits(template, address), expected, "{template} {address}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_legal_for_every_client(name in ".{0,100}", bytes_max in 24_usize..128) {
            let shown = shown(&server(Prefix::Default), &name, bytes_max);
            prop_assert!(is_legal(&shown, bytes_max), "{}", shown);
        }
    }
}
