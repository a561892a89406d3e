//! Pure: which language a file is written in, and which nodes of its grammar are symbols.
//!
//! The tables are ours; the grammars are tree-sitter's. It parses nothing: that is `syntax`.

use std::path::Path;
use std::sync::OnceLock;

/// A language with a grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Bash and other shells.
    Bash,
    /// C.
    C,
    /// C++.
    Cpp,
    /// C#.
    CSharp,
    /// Go.
    Go,
    /// Java.
    Java,
    /// JavaScript, with JSX.
    JavaScript,
    /// PHP.
    Php,
    /// Python.
    Python,
    /// Ruby.
    Ruby,
    /// Rust.
    Rust,
    /// TypeScript.
    TypeScript,
    /// TypeScript with JSX.
    Tsx,
}

/// How the name of a symbol is found in its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The field `name`.
    Name,
    /// The field `name`, and only where there is a body: else it is used, not defined.
    NameWithBody,
    /// The name inside the field `declarator`, however deep: C's way.
    Declarator,
    /// The same, and only when it declares a function.
    Prototype,
    /// The field `type` of an `impl`.
    Type,
    /// The field `left` of an assignment, when it is a plain name.
    Left,
    /// The field `name`, below the type of the field `receiver`.
    Receiver,
    /// The first child that is a name.
    First,
    /// The field `property`.
    Property,
}

/// One kind of node that is a symbol.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The node of the grammar.
    pub node: &'static str,
    /// What it is called to the reader.
    pub kind: &'static str,
    /// How its name is found.
    pub naming: Naming,
    /// Whether it counts inside functions too.
    pub local: bool,
}

const fn rule(node: &'static str, kind: &'static str, naming: Naming) -> Rule {
    Rule { node, kind, naming, local: true }
}

/// One that counts only outside functions.
const fn outer(node: &'static str, kind: &'static str, naming: Naming) -> Rule {
    Rule { node, kind, naming, local: false }
}

use Naming::{Declarator, First, Left, Name, NameWithBody, Property, Prototype, Receiver, Type};

const RUST: &[Rule] = &[
    rule("function_item", "function", Name),
    rule("function_signature_item", "function", Name),
    rule("struct_item", "struct", Name),
    rule("enum_item", "enum", Name),
    rule("union_item", "union", Name),
    rule("trait_item", "trait", Name),
    rule("impl_item", "impl", Type),
    rule("mod_item", "module", Name),
    outer("const_item", "constant", Name),
    outer("static_item", "variable", Name),
    outer("type_item", "type", Name),
    rule("macro_definition", "macro", Name),
];
const PYTHON: &[Rule] = &[
    rule("class_definition", "class", Name),
    rule("function_definition", "function", Name),
    outer("assignment", "variable", Left),
];
const JAVASCRIPT: &[Rule] = &[
    rule("function_declaration", "function", Name),
    rule("generator_function_declaration", "function", Name),
    rule("class_declaration", "class", Name),
    rule("method_definition", "method", Name),
    outer("variable_declarator", "variable", Name),
    rule("field_definition", "field", Property),
];
const TYPESCRIPT: &[Rule] = &[
    rule("function_declaration", "function", Name),
    rule("generator_function_declaration", "function", Name),
    rule("function_signature", "function", Name),
    rule("class_declaration", "class", Name),
    rule("abstract_class_declaration", "class", Name),
    rule("interface_declaration", "interface", Name),
    rule("type_alias_declaration", "type", Name),
    rule("enum_declaration", "enum", Name),
    rule("internal_module", "namespace", Name),
    rule("module", "module", Name),
    rule("method_definition", "method", Name),
    rule("method_signature", "method", Name),
    rule("abstract_method_signature", "method", Name),
    rule("public_field_definition", "field", Name),
    outer("variable_declarator", "variable", Name),
];
const GO: &[Rule] = &[
    rule("function_declaration", "function", Name),
    rule("method_declaration", "method", Receiver),
    rule("method_elem", "method", Name),
    rule("type_spec", "type", Name),
    rule("type_alias", "type", Name),
    outer("const_spec", "constant", Name),
    outer("var_spec", "variable", Name),
];
const C: &[Rule] = &[
    rule("function_definition", "function", Declarator),
    outer("declaration", "function", Prototype),
    rule("struct_specifier", "struct", NameWithBody),
    rule("union_specifier", "union", NameWithBody),
    rule("enum_specifier", "enum", NameWithBody),
    rule("type_definition", "type", Declarator),
    rule("preproc_def", "macro", Name),
    rule("preproc_function_def", "macro", Name),
];
const CPP: &[Rule] = &[
    rule("function_definition", "function", Declarator),
    outer("declaration", "function", Prototype),
    rule("field_declaration", "method", Prototype),
    rule("class_specifier", "class", NameWithBody),
    rule("struct_specifier", "struct", NameWithBody),
    rule("union_specifier", "union", NameWithBody),
    rule("enum_specifier", "enum", NameWithBody),
    rule("namespace_definition", "namespace", Name),
    rule("type_definition", "type", Declarator),
    rule("alias_declaration", "type", Name),
    rule("concept_definition", "concept", Name),
    rule("preproc_def", "macro", Name),
    rule("preproc_function_def", "macro", Name),
];
const JAVA: &[Rule] = &[
    rule("class_declaration", "class", Name),
    rule("interface_declaration", "interface", Name),
    rule("enum_declaration", "enum", Name),
    rule("record_declaration", "record", Name),
    rule("annotation_type_declaration", "interface", Name),
    rule("method_declaration", "method", Name),
    rule("constructor_declaration", "constructor", Name),
    rule("field_declaration", "field", Declarator),
];
const BASH: &[Rule] = &[rule("function_definition", "function", Name)];
const RUBY: &[Rule] = &[
    rule("module", "module", Name),
    rule("class", "class", Name),
    rule("method", "function", Name),
    rule("singleton_method", "function", Name),
    outer("assignment", "constant", Left),
];
const PHP: &[Rule] = &[
    rule("namespace_definition", "namespace", Name),
    rule("class_declaration", "class", Name),
    rule("interface_declaration", "interface", Name),
    rule("trait_declaration", "trait", Name),
    rule("enum_declaration", "enum", Name),
    rule("function_definition", "function", Name),
    rule("method_declaration", "method", Name),
    rule("const_element", "constant", First),
    rule("property_element", "field", Name),
];
const C_SHARP: &[Rule] = &[
    rule("namespace_declaration", "namespace", Name),
    rule("file_scoped_namespace_declaration", "namespace", Name),
    rule("class_declaration", "class", Name),
    rule("struct_declaration", "struct", Name),
    rule("interface_declaration", "interface", Name),
    rule("enum_declaration", "enum", Name),
    rule("record_declaration", "record", Name),
    rule("delegate_declaration", "type", Name),
    rule("method_declaration", "method", Name),
    rule("constructor_declaration", "constructor", Name),
    rule("local_function_statement", "function", Name),
    rule("property_declaration", "property", Name),
    outer("variable_declarator", "field", Name),
];

/// A grammar and the rules for its nodes.
#[derive(Debug)]
pub struct Grammar {
    /// For tree-sitter.
    pub language: tree_sitter::Language,
    /// By the number of the node's kind.
    rules: Vec<Option<&'static Rule>>,
}

impl Grammar {
    fn new(language: tree_sitter::Language, rules: &'static [Rule]) -> Self {
        let mut by_kind = vec![None; language.node_kind_count()];
        for rule in rules {
            // Some grammars have several numbers for one name.
            for (number, slot) in by_kind.iter_mut().enumerate() {
                let number = u16::try_from(number).unwrap_or(u16::MAX);
                let same = language.node_kind_for_id(number) == Some(rule.node);
                if same && language.node_kind_is_named(number) {
                    *slot = Some(rule);
                }
            }
        }
        Self { language, rules: by_kind }
    }

    /// The rule for a kind of node.
    pub fn rule(&self, kind: u16) -> Option<&'static Rule> {
        self.rules.get(usize::from(kind)).copied().flatten()
    }
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Bash,
        Self::C,
        Self::Cpp,
        Self::CSharp,
        Self::Go,
        Self::Java,
        Self::JavaScript,
        Self::Php,
        Self::Python,
        Self::Ruby,
        Self::Rust,
        Self::TypeScript,
        Self::Tsx,
    ];

    /// By the ending of the name, or by the name itself.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let Some((_, ending)) = name.rsplit_once('.') else {
            return match name {
                "Rakefile" | "Gemfile" | "Vagrantfile" => Some(Self::Ruby),
                _ => None,
            };
        };
        Some(match ending.to_ascii_lowercase().as_str() {
            "sh" | "bash" | "zsh" | "ksh" | "bats" | "bashrc" => Self::Bash,
            "c" => Self::C,
            "h" | "cc" | "cpp" | "cxx" | "c++" | "hh" | "hpp" | "hxx" | "h++" | "inl" | "ipp" | "cu"
            | "cuh" => Self::Cpp,
            "cs" | "csx" => Self::CSharp,
            "go" => Self::Go,
            "java" => Self::Java,
            "js" | "mjs" | "cjs" | "jsx" => Self::JavaScript,
            "php" | "phtml" | "php5" | "php7" => Self::Php,
            "py" | "pyi" | "pyw" => Self::Python,
            "rb" | "rake" | "gemspec" | "ru" => Self::Ruby,
            "rs" => Self::Rust,
            "ts" | "mts" | "cts" => Self::TypeScript,
            "tsx" => Self::Tsx,
            _ => return None,
        })
    }

    /// Its name for programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::CSharp => "csharp",
            Self::Go => "go",
            Self::Java => "java",
            Self::JavaScript => "javascript",
            Self::Php => "php",
            Self::Python => "python",
            Self::Ruby => "ruby",
            Self::Rust => "rust",
            Self::TypeScript => "typescript",
            Self::Tsx => "tsx",
        }
    }

    /// Its grammar, made when it is first asked for.
    pub fn grammar(self) -> &'static Grammar {
        static GRAMMARS: [OnceLock<Grammar>; 13] = [const { OnceLock::new() }; 13];
        GRAMMARS[self as usize].get_or_init(|| match self {
            Self::Bash => Grammar::new(tree_sitter_bash::LANGUAGE.into(), BASH),
            Self::C => Grammar::new(tree_sitter_c::LANGUAGE.into(), C),
            Self::Cpp => Grammar::new(tree_sitter_cpp::LANGUAGE.into(), CPP),
            Self::CSharp => Grammar::new(tree_sitter_c_sharp::LANGUAGE.into(), C_SHARP),
            Self::Go => Grammar::new(tree_sitter_go::LANGUAGE.into(), GO),
            Self::Java => Grammar::new(tree_sitter_java::LANGUAGE.into(), JAVA),
            Self::JavaScript => Grammar::new(tree_sitter_javascript::LANGUAGE.into(), JAVASCRIPT),
            Self::Php => Grammar::new(tree_sitter_php::LANGUAGE_PHP.into(), PHP),
            Self::Python => Grammar::new(tree_sitter_python::LANGUAGE.into(), PYTHON),
            Self::Ruby => Grammar::new(tree_sitter_ruby::LANGUAGE.into(), RUBY),
            Self::Rust => Grammar::new(tree_sitter_rust::LANGUAGE.into(), RUST),
            Self::TypeScript => Grammar::new(tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(), TYPESCRIPT),
            Self::Tsx => Grammar::new(tree_sitter_typescript::LANGUAGE_TSX.into(), TYPESCRIPT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_that_a_rule_names_is_in_its_grammar() {
        let tables =
            [BASH, C, CPP, C_SHARP, GO, JAVA, JAVASCRIPT, PHP, PYTHON, RUBY, RUST, TYPESCRIPT, TYPESCRIPT];
        for (language, rules) in Language::ALL.into_iter().zip(tables) {
            for rule in rules {
                let id = language.grammar().language.id_for_node_kind(rule.node, true);
                assert_ne!(id, 0, "{} of {}", rule.node, language.word());
            }
        }
    }
}
