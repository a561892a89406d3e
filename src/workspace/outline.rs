//! The symbols of one text: functions, types, headings, with their lines and what they are inside of.
//!
//! Where there is a grammar it is asked; Markdown has its headings; other text is read by simple patterns, and that is
//! told. It knows nothing of files beyond their names.

use std::path::Path;

use tree_sitter::Node;

use crate::workspace::language::{Language, Naming, Rule};
use crate::workspace::syntax::{Unparsed, each_node, parse};

/// Symbols of one text.
pub const SYMBOLS_MAX: usize = 20_000;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 256;
/// Bytes of a signature.
const SIGNATURE_BYTES_MAX: usize = 200;
/// Declarators inside each other.
const DECLARATORS_MAX: usize = 16;

/// How symbols were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// By the grammar of the language.
    Grammar(Language),
    /// By the headings of Markdown.
    Headings,
    /// By words at the beginning of lines: a guess.
    Pattern,
}

impl Found {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Grammar(language) => language.word(),
            Self::Headings => "markdown",
            Self::Pattern => "pattern",
        }
    }
}

/// One symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its own name.
    pub name: String,
    /// `function`, `class`, `heading`.
    pub kind: &'static str,
    /// The line where it begins, counted from 1.
    pub line: usize,
    /// Its last line.
    pub last_line: usize,
    /// The bytes of the text that it takes.
    pub bytes: std::ops::Range<usize>,
    /// Its first lines up to its body, on one line.
    pub signature: String,
    /// The symbol it is inside of; always an earlier one.
    pub inside: Option<usize>,
    /// A name before it that is not a symbol here: the type of a method that stands outside of it.
    pub owner: Option<String>,
}

/// The symbols of one text, parents before what is inside of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// How they were found.
    pub found: Found,
    /// In the order of the text.
    pub symbols: Vec<Symbol>,
    /// Whether these are all.
    pub whole: bool,
    /// The text does not fit its grammar everywhere.
    pub has_errors: bool,
}

impl Outline {
    /// The names from the outermost symbol to this one.
    pub fn path(&self, number: usize) -> Vec<&str> {
        let mut names = Vec::new();
        let mut at = Some(number);
        while let Some(n) = at {
            let symbol = &self.symbols[n];
            names.push(symbol.name.as_str());
            names.extend(symbol.owner.as_deref());
            at = symbol.inside;
        }
        names.reverse();
        names
    }

    /// How many symbols this one is inside of.
    pub fn depth(&self, number: usize) -> usize {
        std::iter::successors(self.symbols[number].inside, |n| self.symbols[*n].inside).count()
    }
}

/// The symbols of a text; `None` when it is no text.
///
/// # Errors
/// When its grammar cannot parse it within the limits.
pub fn outline(path: &Path, text: &[u8]) -> Result<Option<Outline>, Unparsed> {
    if text.iter().take(8192).any(|byte| *byte == 0) {
        return Ok(None);
    }
    if let Some(language) = Language::of(path) {
        return by_grammar(language, text).map(Some);
    }
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let text = String::from_utf8_lossy(text);
    Ok(Some(match ending.as_str() {
        "md" | "markdown" | "mdx" | "mkd" => headings(&text),
        _ => by_pattern(&text),
    }))
}

/// The symbols of a text in a language.
///
/// # Errors
/// `TooLarge` or `TooSlow`.
pub fn by_grammar(language: Language, text: &[u8]) -> Result<Outline, Unparsed> {
    let tree = parse(language, text)?;
    let grammar = language.grammar();
    let mut symbols: Vec<Symbol> = Vec::new();
    // The symbols that the walk is inside of, and the depth of their nodes.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut enough = true;
    let whole = each_node(&tree, &mut |node, depth, _| {
        while open.last().is_some_and(|(at, _)| *at >= depth) {
            open.pop();
        }
        let Some(rule) = grammar.rule(node.kind_id()) else { return true };
        if symbols.len() >= SYMBOLS_MAX {
            enough = false;
            return false;
        }
        let inside = open.last().map(|(_, number)| *number);
        let within = inside.map(|number| symbols[number].kind);
        if !rule.local && within.is_some_and(|kind| matches!(kind, "function" | "method" | "constructor")) {
            return true;
        }
        if let Some(symbol) = symbol(language, rule, node, text, inside, within) {
            open.push((depth, symbols.len()));
            symbols.push(symbol);
        }
        true
    });
    let has_errors = tree.root_node().has_error();
    Ok(Outline { found: Found::Grammar(language), symbols, whole: whole && enough, has_errors })
}

fn symbol(
    language: Language,
    rule: &Rule,
    node: Node<'_>,
    text: &[u8],
    inside: Option<usize>,
    within: Option<&'static str>,
) -> Option<Symbol> {
    let (name, owner) = name_of(rule, node, text)?;
    let owner = owner.map(|owner| cut(&owner, NAME_BYTES_MAX));
    // What stands around a definition and belongs to it: decorators, `template`, `export`.
    let outer = node.parent().filter(|parent| {
        matches!(parent.kind(), "decorated_definition" | "template_declaration" | "export_statement")
    });
    let first = outer.unwrap_or(node);
    let (start, end) = (first.start_position(), node.end_position());
    let signature = signature(node, text);
    let last_line = if end.column == 0 && end.row > start.row { end.row } else { end.row + 1 };
    Some(Symbol {
        name: cut(&name, NAME_BYTES_MAX),
        kind: kind_of(language, rule, node, within, owner.is_some()),
        line: start.row + 1,
        last_line,
        bytes: first.start_byte()..node.end_byte(),
        signature,
        inside,
        owner,
    })
}

/// The kind of the rule, or a better word from what is around or in the node.
fn kind_of(
    language: Language,
    rule: &Rule,
    node: Node<'_>,
    within: Option<&'static str>,
    owned: bool,
) -> &'static str {
    let of_type = within.is_some_and(|kind| {
        matches!(kind, "class" | "struct" | "impl" | "trait" | "interface" | "union" | "module")
    }) && (within != Some("module") || language == Language::Ruby);
    match rule.kind {
        "function" if of_type || owned => "method",
        "variable" | "field" => match node.child_by_field_name("value").map(|value| value.kind()) {
            Some("arrow_function" | "function_expression" | "function" | "generator_function") => {
                if rule.kind == "field" { "method" } else { "function" }
            }
            Some("class") => "class",
            _ => rule.kind,
        },
        "type" if language == Language::Go => match node.child_by_field_name("type").map(|t| t.kind()) {
            Some("struct_type") => "struct",
            Some("interface_type") => "interface",
            _ => "type",
        },
        kind => kind,
    }
}

fn text_of(node: Node<'_>, text: &[u8]) -> String {
    String::from_utf8_lossy(&text[node.byte_range()]).into_owned()
}

/// The name of a symbol, and the type it belongs to where that stands beside it.
fn name_of(rule: &Rule, node: Node<'_>, text: &[u8]) -> Option<(String, Option<String>)> {
    let field = |name: &str| node.child_by_field_name(name);
    let plain = |node: Node<'_>| (text_of(node, text), None);
    match rule.naming {
        Naming::Name => {
            let name = field("name")?;
            // `const { a, b } = …` names several, none of them the declaration's.
            (!matches!(name.kind(), "object_pattern" | "array_pattern")).then(|| plain(name))
        }
        Naming::NameWithBody => field("body").and_then(|_| field("name")).map(plain),
        Naming::Declarator | Naming::Prototype => {
            let mut at = field("declarator")?;
            let mut function = false;
            for _ in 0..DECLARATORS_MAX {
                function |= at.kind() == "function_declarator";
                let deeper = at.child_by_field_name("declarator").or_else(|| {
                    // A reference has no field for what it refers to.
                    (at.kind() == "reference_declarator").then(|| at.named_child(0)).flatten()
                });
                match deeper {
                    Some(deeper) => at = deeper,
                    None => break,
                }
            }
            if rule.naming == Naming::Prototype && !function {
                return None;
            }
            // Java's declarator has a name.
            let name = text_of(
                at.child_by_field_name("name").filter(|_| at.kind() == "variable_declarator").unwrap_or(at),
                text,
            );
            Some(match name.rsplit_once("::") {
                Some((owner, name)) if !owner.is_empty() => (name.to_owned(), Some(bare_type(owner))),
                _ => (name, None),
            })
        }
        Naming::Type => field("type").map(|node| (bare_type(&text_of(node, text)), None)),
        Naming::Left => {
            let left = field("left")?;
            matches!(left.kind(), "identifier" | "constant")
                .then(|| plain(left))
                .filter(|(name, _)| rule.kind != "constant" || name.starts_with(|c: char| c.is_uppercase()))
        }
        Naming::Receiver => {
            let receiver = text_of(field("receiver")?, text);
            let owner = receiver.trim_matches(['(', ')']).rsplit([' ', '*']).next().map(bare_type);
            Some((text_of(field("name")?, text), owner.filter(|owner| !owner.is_empty())))
        }
        Naming::First => node.named_child(0).map(plain),
        Naming::Property => field("property").map(plain),
    }
}

/// A type without its parameters: `Vec` of `Vec<T>`.
fn bare_type(text: &str) -> String {
    let end = text.find(['<', '[']).filter(|end| *end > 0).unwrap_or(text.len());
    text[..end].trim().rsplit("::").next().unwrap_or_default().to_owned()
}

/// Everything up to the body, on one line.
fn signature(node: Node<'_>, text: &[u8]) -> String {
    let body = node.child_by_field_name("body").or_else(|| {
        // A value that is a function has its body one level deeper.
        node.child_by_field_name("value").and_then(|value| value.child_by_field_name("body"))
    });
    let end = match body {
        Some(body) if body.start_byte() > node.start_byte() => body.start_byte(),
        _ => node.end_byte(),
    };
    let end = end.min(node.start_byte() + 4 * SIGNATURE_BYTES_MAX).min(text.len());
    let text = String::from_utf8_lossy(&text[node.start_byte()..end]);
    let text = match body {
        Some(_) => text,
        None => text.lines().next().unwrap_or_default().to_owned().into(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    cut(line.trim_end_matches(['{', ':', ' ']), SIGNATURE_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

// ── text without a grammar ──────────────────────────────────────────────────────────────────────

/// A line of a text and where it begins.
struct Row<'a> {
    number: usize,
    start: usize,
    text: &'a str,
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').enumerate().map(move |(number, line)| {
        let row = Row { number: number + 1, start, text: line.trim_end_matches(['\n', '\r']) };
        start += line.len();
        row
    })
}

fn headings(text: &str) -> Outline {
    let mut symbols: Vec<(usize, Symbol)> = Vec::new();
    let (mut fence, mut before, mut last) = (None::<String>, None::<Row<'_>>, 0);
    for row in rows(text) {
        last = row.number;
        let line = row.text.trim_start_matches(' ');
        let indented = row.text.len() - line.len() > 3;
        if let Some(mark) = &fence {
            if line.starts_with(mark.as_str()) && line.trim_start_matches(&mark[..1]).trim().is_empty() {
                fence = None;
            }
            before = None;
            continue;
        }
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark)) {
            let length = line.len() - line.trim_start_matches(&mark[..1]).len();
            fence = Some(mark[..1].repeat(length));
            before = None;
            continue;
        }
        let marks = line.len() - line.trim_start_matches('#').len();
        let rest = &line[marks..];
        let under = match line.trim_end().as_bytes() {
            [b'=', ..] if line.trim_end().bytes().all(|b| b == b'=') => Some(1),
            [b'-', ..] if line.trim_end().bytes().all(|b| b == b'-') => Some(2),
            _ => None,
        };
        if !indented && (1..=6).contains(&marks) && (rest.is_empty() || rest.starts_with([' ', '\t'])) {
            let title = rest.trim().trim_end_matches('#').trim_end();
            symbols.push((marks, heading(title, &row)));
        } else if let (Some(level), Some(title)) = (under, before.take())
            && !title.text.trim().is_empty()
        {
            symbols.push((level, heading(title.text.trim(), &title)));
        } else if !indented {
            before = Some(row);
        }
        if symbols.len() >= SYMBOLS_MAX {
            break;
        }
    }
    let whole = symbols.len() < SYMBOLS_MAX;
    Outline { found: Found::Headings, symbols: nest(symbols, last, text.len()), whole, has_errors: false }
}

fn heading(title: &str, row: &Row<'_>) -> Symbol {
    Symbol {
        name: cut(title, NAME_BYTES_MAX),
        kind: "heading",
        line: row.number,
        last_line: row.number,
        bytes: row.start..row.start + row.text.len(),
        signature: cut(row.text.trim(), SIGNATURE_BYTES_MAX),
        inside: None,
        owner: None,
    }
}

/// Each one lasts until the next of its level or above.
fn nest(symbols: Vec<(usize, Symbol)>, last_line: usize, bytes: usize) -> Vec<Symbol> {
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut nested: Vec<Symbol> = Vec::with_capacity(symbols.len());
    let close = |nested: &mut Vec<Symbol>, number: usize, line: usize, byte: usize| {
        nested[number].last_line = line.max(nested[number].line);
        nested[number].bytes.end = byte;
    };
    for (level, mut symbol) in symbols {
        while let Some((above, number)) = open.last().copied()
            && above >= level
        {
            close(&mut nested, number, symbol.line - 1, symbol.bytes.start);
            open.pop();
        }
        symbol.inside = open.last().map(|(_, number)| *number);
        open.push((level, nested.len()));
        nested.push(symbol);
    }
    open.into_iter().for_each(|(_, number)| close(&mut nested, number, last_line, bytes));
    nested
}

/// Words that begin a definition in many languages, and what it is.
const WORDS: &[(&str, &str)] = &[
    ("fn", "function"),
    ("fun", "function"),
    ("func", "function"),
    ("function", "function"),
    ("def", "function"),
    ("defp", "function"),
    ("sub", "function"),
    ("proc", "function"),
    ("class", "class"),
    ("struct", "struct"),
    ("interface", "interface"),
    ("protocol", "interface"),
    ("trait", "trait"),
    ("enum", "enum"),
    ("object", "class"),
    ("module", "module"),
    ("defmodule", "module"),
    ("namespace", "namespace"),
    ("package", "module"),
    ("message", "struct"),
    ("service", "interface"),
    ("type", "type"),
];
/// Words that may stand before them.
const BEFORE: &[&str] = &[
    "pub",
    "public",
    "private",
    "protected",
    "internal",
    "static",
    "final",
    "abstract",
    "open",
    "override",
    "export",
    "default",
    "async",
    "data",
    "sealed",
    "local",
    "inline",
    "suspend",
    "const",
    "extern",
    "implicit",
    "case",
];

fn by_pattern(text: &str) -> Outline {
    let mut symbols: Vec<(usize, Symbol)> = Vec::new();
    let mut last = 0;
    for row in rows(text) {
        last = row.number;
        let line = row.text.trim_start();
        let indent = row.text.len() - line.len();
        let Some((name, kind)) = definition(line).or_else(|| section(line)) else { continue };
        symbols.push((indent + 1, Symbol { name, kind, ..heading("", &row) }));
        if symbols.len() >= SYMBOLS_MAX {
            break;
        }
    }
    let whole = symbols.len() < SYMBOLS_MAX;
    Outline { found: Found::Pattern, symbols: nest(symbols, last, text.len()), whole, has_errors: false }
}

fn definition(line: &str) -> Option<(String, &'static str)> {
    let mut words = line.split_whitespace().skip_while(|word| BEFORE.contains(word));
    let word = words.next()?;
    let (_, kind) = WORDS.iter().find(|(known, _)| *known == word)?;
    let rest = words.next()?;
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '!' | '?' | '$'))
        .collect();
    let name = name.trim_end_matches([':', '.']).to_owned();
    let plain = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '$');
    (plain && name.len() <= NAME_BYTES_MAX).then_some((name, *kind))
}

/// `[name]` of TOML and INI.
fn section(line: &str) -> Option<(String, &'static str)> {
    let name = line.strip_prefix('[')?.trim_end().strip_suffix(']')?.trim_matches(['[', ']']);
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._-\"' ".contains(c));
    (plain && name.len() <= NAME_BYTES_MAX).then(|| (name.to_owned(), "section"))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(name: &str, text: &str, expected: &Expect) {
        let outline = outline(Path::new(name), text.as_bytes()).unwrap().unwrap();
        let lines: Vec<String> = (0..outline.symbols.len())
            .map(|n| {
                let s = &outline.symbols[n];
                format!(
                    "{}-{} {} {} | {}",
                    s.line,
                    s.last_line,
                    s.kind,
                    outline.path(n).join("/"),
                    s.signature
                )
            })
            .collect();
        expected.assert_eq(&(lines.join("\n") + "\n"));
        assert!(!outline.has_errors, "{name}");
    }

    #[test]
    fn rust_has_functions_types_and_what_is_in_their_impls() {
        let text = "pub const N: u8 = 1;\nmod m {\n    pub struct S<T>(T);\n    impl<T> S<T> {\n        pub fn new(\n            t: T,\n        ) -> Self {\n            const X: u8 = 2;\n            Self(t)\n        }\n    }\n    impl<T> Clone for S<T> {\n        fn clone(&self) -> Self { todo!() }\n    }\n}\ntrait T { fn f(&self); }\nenum E { A }\ntype A = u8;\nmacro_rules! mac { () => {} }\n";
        check(
            "a.rs",
            text,
            &expect![[r#"
            1-1 constant N | pub const N: u8 = 1;
            2-15 module m | mod m
            3-3 struct m/S | pub struct S<T>
            4-11 impl m/S | impl<T> S<T>
            5-10 method m/S/new | pub fn new( t: T, ) -> Self
            12-14 impl m/S | impl<T> Clone for S<T>
            13-13 method m/S/clone | fn clone(&self) -> Self
            16-16 trait T | trait T
            16-16 method T/f | fn f(&self);
            17-17 enum E | enum E
            18-18 type A | type A = u8;
            19-19 macro mac | macro_rules! mac { () => {} }
        "#]],
        );
    }

    #[test]
    fn python_has_classes_functions_and_names_of_the_module() {
        let text = "X = 1\n\n@decorated\nclass A(B):\n    y = 2\n    @property\n    def f(self, a: int) -> int:\n        z = 3\n        return a\n\nasync def g():\n    def inner(): pass\n";
        check(
            "a.py",
            text,
            &expect![[r#"
            1-1 variable X | X = 1
            3-9 class A | class A(B)
            5-5 variable A/y | y = 2
            6-9 method A/f | def f(self, a: int) -> int
            11-12 function g | async def g()
            12-12 function g/inner | def inner()
        "#]],
        );
    }

    #[test]
    fn typescript_and_javascript_have_classes_functions_and_arrows() {
        let text = "export interface I { m(a: string): void }\nexport type T = string;\nexport const f = async (a: number) => {\n  const local = 1;\n};\nexport class C extends B {\n  x = 1;\n  handler = () => {};\n  m(): void {}\n}\nenum E { A }\nnamespace N { export function g() {} }\nconst { a, b } = f;\n";
        check(
            "a.ts",
            text,
            &expect![[r#"
            1-1 interface I | interface I
            1-1 method I/m | m(a: string): void
            2-2 type T | type T = string;
            3-5 function f | f = async (a: number) =>
            6-10 class C | class C extends B
            7-7 field C/x | x = 1
            8-8 method C/handler | handler = () =>
            9-9 method C/m | m(): void
            11-11 enum E | enum E
            12-12 namespace N | namespace N
            12-12 function N/g | function g()
        "#]],
        );
        check(
            "a.jsx",
            "function F() { return <div/>; }\nclass A { #p = 1; m() {} }\nexport default function G() {}\n",
            &expect![[r#"
            1-1 function F | function F()
            2-2 class A | class A
            2-2 field A/#p | #p = 1
            2-2 method A/m | m()
            3-3 function G | function G()
        "#]],
        );
    }

    #[test]
    fn go_c_and_cpp_have_their_functions_methods_and_types() {
        check(
            "a.go",
            "package p\n\ntype S struct{ a int }\ntype I interface{ M() }\n\nconst C = 1\n\nfunc (s *S) M(x int) error { return nil }\nfunc F() {}\n",
            &expect![[r#"
            3-3 struct S | S struct{ a int }
            4-4 interface I | I interface{ M() }
            4-4 method I/M | M()
            6-6 constant C | C = 1
            8-8 method S/M | func (s *S) M(x int) error
            9-9 function F | func F()
        "#]],
        );
        check(
            "a.c",
            "#define N 1\nstruct s { int a; };\ntypedef struct s *sp;\nint proto(int a);\nstatic char *f(const char *a, int b)\n{\n  int local = 1;\n  return 0;\n}\nstruct s x;\n",
            &expect![[r#"
            1-1 macro N | #define N 1
            2-2 struct s | struct s
            3-3 type sp | typedef struct s *sp;
            4-4 function proto | int proto(int a);
            5-9 function f | static char *f(const char *a, int b)
        "#]],
        );
        check(
            "a.cpp",
            "namespace n {\ntemplate <class T>\nclass A : public B {\npublic:\n  A();\n  int m(int) const;\n  int field;\n};\ntemplate <class T> int A<T>::m(int a) const { return a; }\nusing X = int;\n}\nenum class E { a };\n",
            &expect![[r#"
            1-11 namespace n | namespace n
            2-8 class n/A | class A : public B
            5-5 method n/A/A | A();
            6-6 method n/A/m | int m(int) const;
            9-9 method n/A/m | int A<T>::m(int a) const
            10-10 type n/X | using X = int;
            12-12 enum E | enum class E
        "#]],
        );
    }

    #[test]
    fn java_and_csharp_have_classes_and_members() {
        check(
            "A.java",
            "package p;\npublic class A {\n  private int x = 1;\n  public A() {}\n  @Override\n  public String m(int a) { return null; }\n  interface I { void n(); }\n}\nrecord R(int a) {}\nenum E { X }\n",
            &expect![[r#"
            2-8 class A | public class A
            3-3 field A/x | private int x = 1;
            4-4 constructor A/A | public A()
            5-6 method A/m | @Override public String m(int a)
            7-7 interface A/I | interface I
            7-7 method A/I/n | void n();
            9-9 record R | record R(int a)
            10-10 enum E | enum E
        "#]],
        );
        check(
            "A.cs",
            "namespace N;\npublic class A {\n  int x = 1;\n  public A() {}\n  public int P { get; set; }\n  public void M(int a) { var y = 1; }\n}\ninterface I { void M(); }\n",
            &expect![[r#"
            1-1 namespace N | namespace N;
            2-7 class A | public class A
            3-3 field A/x | x = 1
            4-4 constructor A/A | public A()
            5-5 property A/P | public int P { get; set; }
            6-6 method A/M | public void M(int a)
            8-8 interface I | interface I
            8-8 method I/M | void M();
        "#]],
        );
    }

    #[test]
    fn bash_ruby_and_php_have_functions_and_classes() {
        check(
            "a.sh",
            "f() {\n  echo x\n}\nfunction g { :; }\n",
            &expect![[r#"
            1-3 function f | f()
            4-4 function g | function g
        "#]],
        );
        check(
            "a.rb",
            "module M\n  X = 1\n  class A < B\n    def m(a)\n      y = 1\n    end\n    def self.s; end\n  end\nend\n",
            &expect![[r#"
            1-9 module M | module M
            2-2 constant M/X | X = 1
            3-8 class M/A | class A < B
            4-6 method M/A/m | def m(a)
            7-7 method M/A/s | def self.s; end
        "#]],
        );
        check(
            "a.php",
            "<?php\nnamespace N;\nconst C = 1;\nclass A extends B {\n  const D = 2;\n  private int $x = 1;\n  public function m(int $a): int { return 1; }\n}\nfunction f() {}\n",
            &expect![[r#"
            2-2 namespace N | namespace N;
            3-3 constant C | C = 1
            4-8 class A | class A extends B
            5-5 constant A/D | D = 2
            6-6 field A/$x | $x = 1
            7-7 method A/m | public function m(int $a): int
            9-9 function f | function f()
        "#]],
        );
    }

    #[test]
    fn markdown_has_headings_and_other_text_is_guessed() {
        check(
            "a.md",
            "Title\n=====\n\n## One\ntext\n```sh\n# not one\n```\n### Deep\n## Two ##\n",
            &expect![[r#"
            1-10 heading Title | Title
            4-9 heading Title/One | ## One
            9-9 heading Title/One/Deep | ### Deep
            10-10 heading Title/Two | ## Two ##
        "#]],
        );
        check(
            "a.kt",
            "class A {\n    private fun m() {\n    }\n}\nfun f() = 1\n// class no\n",
            &expect![[r#"
            1-4 class A | class A {
            2-4 function A/m | private fun m() {
            5-6 function f | fun f() = 1
        "#]],
        );
        check(
            "a.toml",
            "[package]\nname = 1\n[[bin]]\n",
            &expect![[r#"
            1-2 section package | [package]
            3-3 section bin | [[bin]]
        "#]],
        );
        let guessed = outline(Path::new("a.kt"), b"fun f() = 1").unwrap().unwrap();
        assert_eq!(guessed.found, Found::Pattern);
        assert_eq!(outline(Path::new("a.bin"), b"\0").unwrap(), None);
    }
}
