//! Pure: what the formats of other programs have in common: names, programs, addresses, variables.
//!
//! A foreign format says what to start and seldom what it may do: then the strict policy holds. What it
//! asks for and cannot be had is said, never left out in silence.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::engine::config::document::{Node, Place, shown};
use crate::engine::config::launchers;
use crate::engine::config::own;
use crate::engine::config::servers::{NAME_BYTES_MAX, ServerConfig, Transport};
use crate::engine::config::table::{Reader, Table};

/// How other programs call streamable HTTP.
const HTTP: [&str; 5] = ["http", "streamable-http", "streamable_http", "streamableHttp", "remote"];
/// Longest time-out that is read, in seconds: a week.
pub const SECONDS_MAX: u32 = 7 * 24 * 3600;

/// A legal name made of a foreign one.
pub fn legal_name(name: &str) -> Option<String> {
    let legal = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    let name: String = name.trim().chars().map(legal).take(NAME_BYTES_MAX).collect();
    let name = name.trim_start_matches(['_', '-', '.']);
    own::is_name(name).then(|| name.to_owned())
}

/// The names that were given so far.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// The name of a server, made legal; `at` is where it is written.
    pub fn take(&mut self, reader: &Reader<'_>, at: &Node, name: &str) -> Option<String> {
        let Some(legal) = legal_name(name) else {
            reader.mistake(
                at,
                format!("`{}` is no name of a server", shown(name)),
                "give it one with letters",
            );
            return None;
        };
        if legal != name {
            reader.remark(at, format!("the server `{}` is called `{legal}` here", shown(name)));
        }
        if !self.0.insert(legal.clone()) {
            reader.mistake(at, format!("a second server with the name `{legal}`"), "give it another name");
            return None;
        }
        Some(legal)
    }
}

/// What the text of `command` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandText {
    /// The program, blanks and all.
    Program,
    /// A line that is split as a shell does.
    Line,
}

/// A server from the keys that nearly every client has.
pub fn server(
    table: &Table<'_, '_>,
    name: String,
    place: Place,
    command: CommandText,
) -> Option<ServerConfig> {
    let transport = transport(table, command)?;
    let mut server = ServerConfig::new(name, place, transport);
    let given = table.node("env").map(|node| own::environment(table.reader, node)).unwrap_or_default();
    if let Some(extras) = table.node("cuddy").and_then(|node| table.reader.table(node)) {
        own::extras(extras, &mut server);
    }
    let given = given.into_iter().collect();
    if !launchers::translate(table, &mut server, &given) {
        let ours = std::mem::replace(&mut server.policy.environment, given);
        server.policy.environment.extend(ours);
    }
    Some(server)
}

fn transport(table: &Table<'_, '_>, text: CommandText) -> Option<Transport> {
    let reader = table.reader;
    let kind = table.node("type").or_else(|| table.node("transport"));
    let url = ["url", "serverUrl", "httpUrl"].into_iter().find_map(|name| table.node(name));
    let command = table.node("command");
    let args = table.texts("args").unwrap_or_default();
    let cwd = table.path("cwd");
    let headers = table.pairs("headers").into_iter().collect();
    match kind.and_then(Node::text) {
        Some("stdio") | None => {}
        Some(kind) if HTTP.contains(&kind) => {}
        Some("sse") => {
            let right = "name the server's address for streamable HTTP, with `\"type\": \"http\"`";
            reader.mistake(
                table.node,
                "the transport `sse` was given up by the protocol and is not spoken",
                right,
            );
            return None;
        }
        Some(other) => {
            let what = format!("the transport `{}` is not known", shown(other));
            reader.mistake(table.node, what, "write `stdio` or `http`");
            return None;
        }
    }
    match (command, url) {
        (Some(node), None) => {
            let (command, mut line) = command_line(reader, node, text)?;
            line.extend(args);
            Some(Transport::Stdio { command, args: line, cwd })
        }
        (None, Some(node)) => {
            let url = reader.text(node)?;
            if !own::is_http(&url) {
                reader.mistake(node, "no address of a server", "write `https://…` or `http://…`");
                return None;
            }
            Some(Transport::Http { url, headers })
        }
        (Some(_), Some(node)) => {
            reader.mistake(node, "a server is either started or somewhere else", "keep `command` or `url`");
            None
        }
        (None, None) => {
            let right = "write `command`, or `url` for one that is somewhere else";
            reader.mistake(table.node, "nothing says how this server is reached", right);
            None
        }
    }
}

/// `command` as text or as a list.
fn command_line(reader: &Reader<'_>, node: &Node, text: CommandText) -> Option<(String, Vec<String>)> {
    let mut line = if node.items().is_some() {
        reader.texts(node)?
    } else if text == CommandText::Line {
        let Some(words) = words(&reader.text(node)?) else {
            reader.mistake(node, "a quote that is not closed", "close it");
            return None;
        };
        words
    } else {
        vec![reader.text(node)?]
    };
    if line.first().is_none_or(String::is_empty) {
        reader.mistake(node, "an empty command", "name the program");
        return None;
    }
    let command = line.remove(0);
    Some((command, line))
}

/// The words of a line, as a shell splits it; `None` when a quote is open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Folders and files of a list, without those that are patterns: a mount has one place.
pub fn plain_paths(table: &Table<'_, '_>, name: &'static str) -> Vec<PathBuf> {
    let Some(node) = table.node(name) else { return Vec::new() };
    let reader = table.reader;
    let Some(items) = node.items() else {
        reader.mistake(node, format!("{} where a list of paths belongs", node.value.noun()), "write a list");
        return Vec::new();
    };
    let path = |item: &Node| {
        let literal = item.get("literal").is_some();
        let spelt = item.get("path").filter(|_| literal).unwrap_or(item);
        let path = reader.path(spelt)?;
        if !literal && path.to_string_lossy().contains(['*', '?', '[']) {
            reader.mistake(item, "patterns are not understood here", "name the folders and files");
            return None;
        }
        Some(path)
    };
    items.iter().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_does() {
        for (line, expected) in [
            ("a  b", Some(vec!["a", "b"])),
            (" 'a b' c\\ d ", Some(vec!["a b", "c d"])),
            ("a\"b 'c\"d ''", Some(vec!["ab 'cd", ""])),
            ("\"a\\\"b\"", Some(vec!["a\"b"])),
            ("'a", None),
            ("a\\", None),
            ("", Some(vec![])),
        ] {
            let words = words(line);
            let words = words.as_ref().map(|words| words.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(words, expected, "{line}");
        }
    }

    #[test]
    fn names_become_legal_and_stay_recognisable() {
        for (name, expected) in [
            ("files", Some("files")),
            ("My Server", Some("My_Server")),
            ("@scope/name", Some("scope_name")),
            ("-x", Some("x")),
            ("日本", None),
            ("", None),
        ] {
            assert_eq!(legal_name(name).as_deref(), expected, "{name}");
        }
        assert_eq!(legal_name(&"a".repeat(200)).unwrap().len(), NAME_BYTES_MAX);
    }
}
