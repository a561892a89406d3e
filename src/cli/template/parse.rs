//! Pure: the tokens of a Go template into a tree, by the rules of `text/template/parse`, and each
//! part back into text as Go's errors show it. It evaluates nothing.

use std::collections::BTreeMap;
use std::fmt;

use crate::cli::template::lex::{Kind, Token, tokens};
use crate::error::{ErrorKind, Fault};

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 256 * 1024;
/// Blocks and parentheses in each other.
const DEPTH_MAX: usize = 64;

/// Why a template cannot be used, in Go's words after Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not a template.
    #[error("template parsing error: template: :{line}: {reason}")]
    Parse {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// What it asks for cannot be had of this value.
    #[error("template parsing error: template: :{line}:{column}: executing {name:?} at <{at}>: {reason}")]
    Execute {
        /// Which line, from 1.
        line: usize,
        /// Where in the line, in bytes from 0.
        column: usize,
        /// Which template; empty for the outermost.
        name: String,
        /// Which part of it.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// More than a template may be or make.
    #[error("the template has or makes more than {max} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The ceiling.
        max: usize,
    },
}

impl Fault for TemplateError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse { .. } | Self::Execute { .. } => ErrorKind::Usage,
            Self::TooMuch { .. } => ErrorKind::Limit,
        }
    }
}

/// What a template is made of.
#[derive(Debug, Clone)]
pub enum Node {
    /// Text as it is.
    Text(String),
    /// `{{pipeline}}`
    Action(Pipe),
    /// `{{if}}`
    If(Branch),
    /// `{{with}}`
    With(Branch),
    /// `{{range}}`
    Range(Branch),
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
    /// `{{template "name" pipeline}}`
    Template {
        /// Where its name stands, in bytes.
        at: usize,
        /// Which.
        name: String,
        /// What is `.` in it.
        pipe: Option<Pipe>,
    },
}

/// A condition with two lists.
#[derive(Debug, Clone)]
pub struct Branch {
    /// The condition, or what is walked through.
    pub pipe: Pipe,
    /// When it is true, or for each element.
    pub then: Vec<Node>,
    /// Otherwise.
    pub otherwise: Vec<Node>,
}

/// Commands, each given the value of the one before.
#[derive(Debug, Clone)]
pub struct Pipe {
    /// Where it begins, in bytes.
    pub at: usize,
    /// Variables that take its value.
    pub variables: Vec<String>,
    /// Whether they were declared before: `=` and not `:=`.
    pub is_assignment: bool,
    /// The commands.
    pub commands: Vec<Command>,
}

/// A function or a value, and its arguments.
#[derive(Debug, Clone)]
pub struct Command {
    /// Where it begins, in bytes.
    pub at: usize,
    /// At least one.
    pub words: Vec<Word>,
}

/// One word of a command.
#[derive(Debug, Clone)]
pub struct Word {
    /// Where Go says that it is, in bytes.
    pub at: usize,
    /// What it is.
    pub operand: Operand,
}

/// What a word is.
#[derive(Debug, Clone)]
pub enum Operand {
    /// `.`
    Dot,
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// A whole number or a character, and how it was written.
    Int(i128, String),
    /// Another number, and how it was written.
    Float(f64, String),
    /// Text, and how it was written.
    Text(String, String),
    /// `.A.B`
    Field(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    /// The name of a function.
    Function(String),
    /// `(pipeline)`
    Group(Box<Pipe>),
    /// `(pipeline).A.B`
    Chain(Box<Word>, Vec<String>),
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |f: &mut fmt::Formatter<'_>, fields: &[String]| {
            fields.iter().try_for_each(|field| write!(f, ".{field}"))
        };
        match self {
            Self::Dot => f.write_str("."),
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(_, shown) | Self::Float(_, shown) | Self::Text(_, shown) => f.write_str(shown),
            Self::Field(names) => fields(f, names),
            Self::Variable(name, names) => {
                f.write_str(name)?;
                fields(f, names)
            }
            Self::Function(name) => f.write_str(name),
            Self::Group(pipe) => write!(f, "({pipe})"),
            Self::Chain(word, names) => {
                write!(f, "{}", word.operand)?;
                fields(f, names)
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|word| word.operand.to_string()).collect();
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.is_assignment { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        let commands: Vec<_> = self.commands.iter().map(Command::to_string).collect();
        f.write_str(&commands.join(" | "))
    }
}

/// A parsed template.
#[derive(Debug, Clone)]
pub struct Tree {
    /// What it was parsed from.
    pub text: String,
    /// The outermost list.
    pub nodes: Vec<Node>,
    /// Templates by name, of `define` and `block`.
    pub defined: BTreeMap<String, Vec<Node>>,
}

/// Parses a template whose functions are those that `knows` says.
///
/// # Errors
/// `Parse`, or `TooMuch`.
pub fn parse(text: &str, knows: fn(&str) -> bool) -> Result<Tree, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::TooMuch { what: "bytes of text", max: TEMPLATE_BYTES_MAX });
    }
    let mut parser = Parser {
        tokens: tokens(text),
        next: 0,
        variables: vec!["$".to_owned()],
        depth: 0,
        ranges: 0,
        action_line: 1,
        defined: BTreeMap::new(),
        knows,
    };
    let (nodes, end) = parser.list()?;
    match end {
        ListEnd::Eof => Ok(Tree { text: text.to_owned(), nodes, defined: parser.defined }),
        ListEnd::End => parser.wrong("unexpected {{end}}"),
        ListEnd::Else => {
            parser.skip_space();
            if !matches!(parser.peek().text.as_str(), "if" | "with") {
                parser.expect(Kind::Close, "else")?;
            }
            parser.wrong("unexpected {{else}}")
        }
    }
}

/// How a list of nodes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListEnd {
    Eof,
    End,
    /// The action is read up to the word `else`, or to the end of it when it is alone.
    Else,
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    depth: usize,
    ranges: usize,
    /// The line where the action under way begins.
    action_line: usize,
    defined: BTreeMap<String, Vec<Node>>,
    knows: fn(&str) -> bool,
}

type Parsed<T> = Result<T, TemplateError>;

impl Parser {
    fn peek(&self) -> &Token {
        // The last token is the end or an error, and is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next += 1;
        }
    }

    fn take_word(&mut self) -> Token {
        self.skip_space();
        self.take()
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Parsed<T> {
        // Go counts the line of the token it has looked at last.
        let last = self.next.saturating_sub(1).min(self.tokens.len() - 1);
        Err(TemplateError::Parse { line: self.tokens[last].line, reason: reason.into() })
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Parsed<T> {
        let reason = match token.kind {
            Kind::Error if token.line == self.action_line => token.text.clone(),
            Kind::Error => {
                let begun = if token.text.ends_with(" action") { "" } else { " in action" };
                format!("{}{begun} started at :{}", token.text, self.action_line)
            }
            _ => format!("unexpected {} in {context}", token.shown()),
        };
        Err(TemplateError::Parse { line: token.line, reason })
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Parsed<Token> {
        let token = self.take_word();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    /// Goes one level down: blocks and parentheses cost stack here and when they are evaluated.
    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::TooMuch { what: "levels", max: DEPTH_MAX });
        }
        Ok(())
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, ListEnd)> {
        let mut nodes = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::End => return Ok((nodes, ListEnd::Eof)),
                Kind::Text => nodes.push(Node::Text(token.text)),
                Kind::Open => {
                    self.action_line = token.line;
                    self.skip_space();
                    if self.peek().kind != Kind::Keyword {
                        // What it declares lives on to the end of the list it stands in.
                        nodes.push(Node::Action(self.pipe("command", Kind::Close)?));
                        continue;
                    }
                    let word = self.take();
                    match word.text.as_str() {
                        "end" => {
                            self.expect(Kind::Close, "end")?;
                            return Ok((nodes, ListEnd::End));
                        }
                        "else" => return Ok((nodes, ListEnd::Else)),
                        _ => nodes.extend(self.keyword(&word)?),
                    }
                }
                _ => return self.unexpected(&token, "input"),
            }
        }
    }

    fn keyword(&mut self, word: &Token) -> Parsed<Option<Node>> {
        Ok(Some(match word.text.as_str() {
            "if" => Node::If(self.branch("if")?),
            "with" => Node::With(self.branch("with")?),
            "range" => Node::Range(self.branch("range")?),
            name @ ("break" | "continue") => {
                let token = self.take_word();
                if token.kind != Kind::Close {
                    return self.unexpected(&token, &format!("{{{{{name}}}}}"));
                }
                if self.ranges == 0 {
                    return self.wrong(format!("{{{{{name}}}}} outside {{{{range}}}}"));
                }
                if name == "break" { Node::Break } else { Node::Continue }
            }
            "template" => {
                let (at, name) = self.template_name("template clause")?;
                self.skip_space();
                let pipe = if self.peek().kind == Kind::Close {
                    self.take();
                    None
                } else {
                    // Template declarations cannot be made in a template clause.
                    Some(self.pipe("template clause", Kind::Close)?)
                };
                Node::Template { at, name, pipe }
            }
            "block" => {
                let (at, name) = self.template_name("block clause")?;
                let pipe = self.pipe("block clause", Kind::Close)?;
                self.definition(name.clone(), "block clause")?;
                Node::Template { at, name, pipe: Some(pipe) }
            }
            _ if self.depth > 0 => return self.unexpected(word, "command"),
            _ => {
                let (_, name) = self.template_name("define clause")?;
                self.expect(Kind::Close, "define clause")?;
                self.definition(name, "define clause")?;
                return Ok(None);
            }
        }))
    }

    fn template_name(&mut self, context: &str) -> Parsed<(usize, String)> {
        let token = self.take_word();
        match token.kind {
            Kind::Quoted | Kind::Raw => match unquoted(&token.text) {
                Some(name) => Ok((token.at, name)),
                None => self.wrong("invalid syntax"),
            },
            _ => self.unexpected(&token, context),
        }
    }

    fn definition(&mut self, name: String, context: &str) -> Parsed<()> {
        self.deeper()?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let ranges = std::mem::take(&mut self.ranges);
        let (nodes, end) = self.list()?;
        match end {
            ListEnd::End => {}
            ListEnd::Else => return self.wrong(format!("unexpected {{{{else}}}} in {context}")),
            ListEnd::Eof => return self.wrong("unexpected EOF"),
        }
        self.variables = outer;
        self.ranges = ranges;
        self.depth -= 1;
        self.defined.insert(name, nodes);
        Ok(())
    }

    fn branch(&mut self, context: &'static str) -> Parsed<Branch> {
        self.deeper()?;
        let kept = self.variables.len();
        let pipe = self.pipe(context, Kind::Close)?;
        let in_range = usize::from(context == "range");
        self.ranges += in_range;
        let (then, end) = self.list()?;
        self.ranges -= in_range;
        let otherwise = match end {
            ListEnd::Eof => return self.wrong("unexpected EOF"),
            ListEnd::End => Vec::new(),
            ListEnd::Else => self.otherwise(context)?,
        };
        self.variables.truncate(kept);
        self.depth -= 1;
        Ok(Branch { pipe, then, otherwise })
    }

    /// What stands behind `else`, whose word is taken.
    fn otherwise(&mut self, context: &'static str) -> Parsed<Vec<Node>> {
        self.skip_space();
        if self.peek().kind == Kind::Keyword && self.peek().text == context && context != "range" {
            self.take();
            let branch = self.branch(context)?;
            return Ok(vec![if context == "if" { Node::If(branch) } else { Node::With(branch) }]);
        }
        self.expect(Kind::Close, "else")?;
        let (nodes, end) = self.list()?;
        match end {
            ListEnd::End => Ok(nodes),
            ListEnd::Else => self.wrong("expected end; found {{else}}"),
            ListEnd::Eof => self.wrong("unexpected EOF"),
        }
    }

    fn pipe(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        self.skip_space();
        let mut pipe =
            Pipe { at: self.peek().at, variables: Vec::new(), is_assignment: false, commands: Vec::new() };
        self.declarations(&mut pipe, context)?;
        loop {
            self.skip_space();
            let token = self.peek().clone();
            match token.kind {
                kind if kind == end => {
                    self.take();
                    break;
                }
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
        if pipe.commands.is_empty() {
            return self.wrong(format!("missing value for {context}"));
        }
        for (n, command) in pipe.commands.iter().enumerate().skip(1) {
            use Operand::{Bool, Dot, Float, Int, Nil, Text};
            if matches!(command.words[0].operand, Bool(_) | Dot | Nil | Int(..) | Float(..) | Text(..)) {
                return self.wrong(format!("non executable command in pipeline stage {}", n + 1));
            }
        }
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, and for `range` `$i, $e :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        loop {
            self.skip_space();
            if self.peek().kind != Kind::Variable {
                return Ok(());
            }
            let before = self.next;
            let name = self.take().text;
            self.skip_space();
            let sign = self.peek().clone();
            match sign.kind {
                Kind::Assign | Kind::Declare => {
                    self.take();
                    pipe.is_assignment = sign.kind == Kind::Assign;
                    self.variables.push(name.clone());
                    pipe.variables.push(name);
                    return Ok(());
                }
                Kind::Other if sign.text == "," => {
                    self.take();
                    self.variables.push(name.clone());
                    pipe.variables.push(name);
                    if context != "range" || pipe.variables.len() > 1 {
                        return self.wrong(format!("too many declarations in {context}"));
                    }
                    self.skip_space();
                    if !matches!(self.peek().kind, Kind::Variable | Kind::Close | Kind::RightParen) {
                        return self.wrong("range can only initialize variables");
                    }
                }
                _ => {
                    self.next = before;
                    return Ok(());
                }
            }
        }
    }

    fn command(&mut self) -> Parsed<Command> {
        self.skip_space();
        let mut command = Command { at: self.peek().at, words: Vec::new() };
        loop {
            self.skip_space();
            command.words.extend(self.operand()?);
            let token = self.peek().clone();
            match token.kind {
                Kind::Space => {}
                Kind::Close | Kind::RightParen => break,
                Kind::Pipe => {
                    self.take();
                    break;
                }
                _ => {
                    return self.unexpected(&token, "operand");
                }
            }
        }
        if command.words.is_empty() { self.wrong("empty command") } else { Ok(command) }
    }

    /// A term and the fields behind it.
    fn operand(&mut self) -> Parsed<Option<Word>> {
        let Some(mut word) = self.term()? else { return Ok(None) };
        let at = self.peek().at;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.take().text[1..].to_owned());
        }
        if fields.is_empty() {
            return Ok(Some(word));
        }
        // As in Go, a chain of fields stands where its second part is.
        word = match word.operand {
            Operand::Field(mut first) => {
                first.extend(fields);
                Word { at, operand: Operand::Field(first) }
            }
            Operand::Variable(name, _) => Word { at, operand: Operand::Variable(name, fields) },
            Operand::Function(_) | Operand::Group(_) | Operand::Chain(..) => {
                Word { at, operand: Operand::Chain(Box::new(word), fields) }
            }
            constant => return self.wrong(format!("unexpected . after term {:?}", constant.to_string())),
        };
        Ok(Some(word))
    }

    fn term(&mut self) -> Parsed<Option<Word>> {
        let token = self.peek().clone();
        let operand = match token.kind {
            Kind::Identifier if (self.knows)(&token.text) => Operand::Function(token.text),
            Kind::Identifier => {
                self.take();
                return self.wrong(format!("function {:?} not defined", token.text));
            }
            Kind::Dot => Operand::Dot,
            Kind::Nil => Operand::Nil,
            Kind::Bool => Operand::Bool(token.text == "true"),
            Kind::Field => Operand::Field(vec![token.text[1..].to_owned()]),
            Kind::Variable if self.variables.contains(&token.text) => {
                Operand::Variable(token.text, Vec::new())
            }
            Kind::Variable => {
                self.take();
                return self.wrong(format!("undefined variable {:?}", token.text));
            }
            Kind::Char | Kind::Number => match number(&token.text) {
                Ok(operand) => operand,
                Err(reason) => {
                    self.take();
                    return self.wrong(reason);
                }
            },
            Kind::Quoted | Kind::Raw => match unquoted(&token.text) {
                Some(text) => Operand::Text(text, token.text),
                None => {
                    self.take();
                    return self.wrong("invalid syntax");
                }
            },
            Kind::LeftParen => {
                self.deeper()?;
                self.take();
                let pipe = self.pipe("parenthesized pipeline", Kind::RightParen)?;
                self.depth -= 1;
                return Ok(Some(Word { at: pipe.at, operand: Operand::Group(Box::new(pipe)) }));
            }
            _ => return Ok(None),
        };
        self.take();
        Ok(Some(Word { at: token.at, operand }))
    }
}

/// The text of a quoted or raw literal, by Go's rules.
fn unquoted(literal: &str) -> Option<String> {
    let inner = literal.get(1..literal.len() - 1)?;
    if literal.starts_with('`') {
        return Some(inner.replace('\r', ""));
    }
    let (mut bytes, mut chars) = (Vec::new(), inner.chars());
    while let Some(c) = chars.next() {
        let mut push = |c: char| bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        if c != '\\' {
            push(c);
            continue;
        }
        let c = chars.next()?;
        let mut digits = |count: usize, radix: u32, first: &str| {
            let text: String = first.chars().chain(chars.by_ref().take(count)).collect();
            let whole = text.len() == count + first.len() && text.chars().all(|c| c.is_digit(radix));
            whole.then(|| u32::from_str_radix(&text, radix).ok()).flatten()
        };
        match c {
            'a' => push('\u{7}'),
            'b' => push('\u{8}'),
            'f' => push('\u{c}'),
            'n' => push('\n'),
            'r' => push('\r'),
            't' => push('\t'),
            'v' => push('\u{b}'),
            '\\' | '"' | '\'' => push(c),
            'x' => bytes.push(u8::try_from(digits(2, 16, "")?).ok()?),
            'u' => push(char::from_u32(digits(4, 16, "")?)?),
            'U' => push(char::from_u32(digits(8, 16, "")?)?),
            '0'..='7' => bytes.push(u8::try_from(digits(2, 8, &c.to_string())?).ok()?),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number or a character as Go reads it.
///
/// # Errors
/// What Go says of it.
fn number(shown: &str) -> Result<Operand, String> {
    if shown.starts_with('\'') {
        let text = unquoted(shown).unwrap_or_default();
        let mut chars = text.chars();
        return match (chars.next(), chars.next()) {
            (Some(only), None) => Ok(Operand::Int(u32::from(only).into(), shown.to_owned())),
            _ => Err(format!("malformed character constant: {shown}")),
        };
    }
    let (sign, digits) = match shown.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, shown.strip_prefix('+').unwrap_or(shown)),
    };
    let plain = digits.replace('_', "");
    let radix = match plain.get(..2).unwrap_or_default() {
        "0x" | "0X" => Some((16, 2)),
        "0o" | "0O" => Some((8, 2)),
        "0b" | "0B" => Some((2, 2)),
        // A leading zero is octal, as in C.
        start if start.starts_with('0') && plain.len() > 1 => Some((8, 1)),
        _ => None,
    };
    let whole = match radix {
        Some((radix, skip)) => i128::from_str_radix(&plain[skip..], radix).ok(),
        None => plain.parse().ok(),
    };
    let range = i128::from(i64::MIN)..=i128::from(u64::MAX);
    if let Some(value) = whole.map(|value| value * sign).filter(|value| range.contains(value)) {
        return Ok(Operand::Int(value, shown.to_owned()));
    }
    let Some(value) = plain.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        return Err(format!("illegal number syntax: {shown:?}"));
    };
    if !shown.contains(['.', 'e', 'E']) {
        return Err(format!("integer overflow: {shown:?}"));
    }
    #[expect(clippy::cast_precision_loss, reason = "it is 1 or -1")]
    let value = value * sign as f64;
    Ok(Operand::Float(value, shown.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse(text, |name| name == "print").expect_err(text).to_string()
    }

    #[test]
    fn what_is_no_template_is_refused_in_gos_words() {
        for (text, reason) in [
            ("{{foo}}", ":1: function \"foo\" not defined"),
            ("{{}}", ":1: missing value for command"),
            ("{{if}}x{{end}}", ":1: missing value for if"),
            ("{{if .A}}x", ":1: unexpected EOF"),
            ("{{end}}", ":1: unexpected {{end}}"),
            ("a\n{{else}}", ":2: unexpected {{else}}"),
            ("{{.A }", ":1: unexpected \"}\" in operand"),
            ("{{$x}}", ":1: undefined variable \"$x\""),
            ("{{if .A}}{{$x := 1}}{{end}}{{$x}}", ":1: undefined variable \"$x\""),
            ("{{.A | 3}}", ":1: non executable command in pipeline stage 2"),
            ("{{break}}", ":1: {{break}} outside {{range}}"),
            ("{{range .A}}{{define \"x\"}}{{end}}{{end}}", ":1: unexpected <define> in command"),
            ("{{print ()}}", ":1: missing value for parenthesized pipeline"),
            ("{{1.A}}", ":1: bad number syntax: \"1.A\""),
            ("{{true.A}}", ":1: unexpected . after term \"true\""),
            ("{{\"\\q\"}}", ":1: invalid syntax"),
            ("{{if .A}}{{else}}{{else}}{{end}}", ":1: expected end; found {{else}}"),
            ("{{$a, $b := .A}}", ":1: too many declarations in command"),
            ("{{template .A}}", ":1: unexpected \".A\" in template clause"),
        ] {
            assert_eq!(wrong(text), format!("template parsing error: template: {reason}"), "{text}");
        }
    }

    #[test]
    fn levels_have_an_end() {
        for text in ["{{if 1}}", "{{if 1}}{{else ", "{{print (", "{{("] {
            let deep = text.repeat(5000);
            let found = parse(&deep, |_| true).expect_err("it is no template");
            assert!(!found.to_string().is_empty());
        }
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(65), ")".repeat(65));
        let found = parse(&deep, |_| true);
        assert_eq!(found.err(), Some(TemplateError::TooMuch { what: "levels", max: DEPTH_MAX }));
    }

    #[test]
    fn literals_are_read_as_go_reads_them() {
        for (text, value) in [("1", 1), ("-7", -7), ("0x1F", 31), ("010", 8), ("'a'", 97), ("1_000", 1000)] {
            assert!(matches!(number(text), Ok(Operand::Int(found, _)) if found == value), "{text}");
        }
        assert!(matches!(number("1.5"), Ok(Operand::Float(..))));
        assert_eq!(unquoted("\"a\\tb\\u00e9\\x41\\101\"").as_deref(), Some("a\tb\u{e9}AA"));
        assert_eq!(unquoted("`a\\n`").as_deref(), Some("a\\n"));
        assert_eq!(unquoted("\"\\777\""), None);
    }

    #[test]
    fn a_pipe_is_shown_as_go_shows_it() {
        let tree = parse("{{ $x  :=  print  (.A.B | print 1).C  $.D \"s\" }}", |_| true).expect("it is one");
        let Node::Action(pipe) = &tree.nodes[0] else { panic!("{tree:?}") };
        assert_eq!(pipe.to_string(), "$x := print (.A.B | print 1).C $.D \"s\"");
    }
}
