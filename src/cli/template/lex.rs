//! Pure: the text of a Go template into tokens, by the rules of `text/template/parse`. It knows no
//! function and no grammar; a token that is wrong ends the list and says why.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What is wrong; the text of the token says it.
    Error,
    /// The end of the template.
    End,
    /// Text outside `{{` and `}}`.
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// White space inside an action: it separates arguments.
    Space,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    /// `|`
    Pipe,
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// `"…"`
    Quoted,
    /// `` `…` ``
    Raw,
    /// `'x'`
    Char,
    /// A number, as written.
    Number,
    /// `$` or `$name`
    Variable,
    /// `.name`
    Field,
    /// `.`
    Dot,
    /// `true`, `false`
    Bool,
    /// `nil`
    Nil,
    /// The name of a function.
    Identifier,
    /// `if`, `else`, `end`, …
    Keyword,
    /// Any other printable character.
    Other,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins, in bytes.
    pub at: usize,
    /// As it was written, or what is wrong.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

impl Token {
    /// As Go names a token in an error.
    pub fn shown(&self) -> String {
        match self.kind {
            Kind::End => "EOF".to_owned(),
            Kind::Error => self.text.clone(),
            // In Go's list of tokens they stand among the keywords.
            Kind::Keyword | Kind::Dot | Kind::Nil => format!("<{}>", self.text),
            _ if self.text.len() > 10 => format!("{:?}...", self.text.chars().take(10).collect::<String>()),
            _ => format!("{:?}", self.text),
        }
    }
}

const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

/// Spaces as Go's templates have them.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    start: usize,
    line: usize,
    parens: usize,
    tokens: Vec<Token>,
}

/// What ends the reading of a template early.
struct Stop;

/// The tokens of a template; the last one is `End` or `Error`.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, start: 0, line: 1, parens: 0, tokens: Vec::new() };
    while lexer.outside().is_ok() && lexer.inside().is_ok() {}
    lexer.tokens
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.take();
        }
    }

    fn emit(&mut self, kind: Kind) {
        let text = self.text[self.start..self.at].to_owned();
        let breaks = text.matches('\n').count();
        self.tokens.push(Token { kind, at: self.start, text, line: self.line });
        self.line += breaks;
        self.start = self.at;
    }

    fn ignore(&mut self) {
        self.line += self.text[self.start..self.at].matches('\n').count();
        self.start = self.at;
    }

    fn wrong(&mut self, text: impl Into<String>) -> Stop {
        self.tokens.push(Token { kind: Kind::Error, at: self.start, text: text.into(), line: self.line });
        Stop
    }

    /// Text up to the next action, with the spaces that trim markers take away left out.
    fn outside(&mut self) -> Result<(), Stop> {
        loop {
            let Some(found) = self.rest().find("{{") else {
                self.at = self.text.len();
                if self.at > self.start {
                    self.emit(Kind::Text);
                }
                self.emit(Kind::End);
                return Err(Stop);
            };
            let (open, begin) = (self.at + found, self.at);
            let trims = self.text[open + 2..].starts_with("- ")
                || self.text[open + 2..].strip_prefix('-').is_some_and(|rest| rest.starts_with(is_space));
            let kept = &self.text[begin..open];
            let kept = if trims { kept.trim_end_matches(is_space) } else { kept };
            self.at = begin + kept.len();
            if self.at > self.start {
                self.emit(Kind::Text);
            }
            self.at = open;
            self.ignore();
            let marker = if trims { 2 } else { 0 };
            if !self.text[open + 2 + marker..].starts_with("/*") {
                self.at = open + 2;
                self.emit(Kind::Open);
                self.at += marker;
                self.ignore();
                self.parens = 0;
                return Ok(());
            }
            self.at = open + 2 + marker;
            self.comment()?;
        }
    }

    fn comment(&mut self) -> Result<(), Stop> {
        self.ignore();
        let Some(found) = self.rest()[2..].find("*/") else { return Err(self.wrong("unclosed comment")) };
        self.at += 2 + found + 2;
        let Some(trims) = self.close() else {
            return Err(self.wrong("comment ends before closing delimiter"));
        };
        self.past_close(trims);
        self.ignore();
        Ok(())
    }

    /// Whether `}}` comes next, and whether it has a trim marker.
    fn close(&self) -> Option<bool> {
        let rest = self.rest();
        let marked = rest.strip_prefix(is_space).is_some_and(|rest| rest.starts_with("-}}"));
        if marked { Some(true) } else { rest.starts_with("}}").then_some(false) }
    }

    fn past_close(&mut self, trims: bool) {
        self.at += if trims { 4 } else { 2 };
        if trims {
            self.take_while(is_space);
        }
    }

    /// One action up to and with its `}}`.
    fn inside(&mut self) -> Result<(), Stop> {
        loop {
            if let Some(trims) = self.close() {
                if self.parens > 0 {
                    return Err(self.wrong("unclosed left paren"));
                }
                self.at += if trims { 2 } else { 0 };
                self.ignore();
                self.at += 2;
                self.emit(Kind::Close);
                if trims {
                    self.take_while(is_space);
                    self.ignore();
                }
                return Ok(());
            }
            self.token()?;
        }
    }

    fn token(&mut self) -> Result<(), Stop> {
        let Some(c) = self.take() else { return Err(self.wrong("unclosed action")) };
        match c {
            c if is_space(c) => {
                while self.close().is_none() && self.peek().is_some_and(is_space) {
                    self.take();
                }
                self.emit(Kind::Space);
            }
            '=' => self.emit(Kind::Assign),
            ':' if self.take() == Some('=') => self.emit(Kind::Declare),
            ':' => return Err(self.wrong("expected :=")),
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::Quoted, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
            '`' => match self.rest().find('`') {
                Some(found) => {
                    self.at += found + 1;
                    self.emit(Kind::Raw);
                }
                None => return Err(self.wrong("unterminated raw quoted string")),
            },
            '$' => self.name(Kind::Variable, Kind::Variable)?,
            '.' if self.peek().is_some_and(|c| !c.is_ascii_digit()) => self.name(Kind::Field, Kind::Dot)?,
            '.' | '+' | '-' | '0'..='9' => self.number()?,
            c if is_word(c) => self.word()?,
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen);
            }
            ')' if self.parens == 0 => return Err(self.wrong("unexpected right paren")),
            ')' => {
                self.parens -= 1;
                self.emit(Kind::RightParen);
            }
            c if c.is_ascii() && !c.is_ascii_control() => self.emit(Kind::Other),
            c => {
                let text = format!("unrecognized character in action: {}", code_point(c));
                return Err(self.wrong(text));
            }
        }
        Ok(())
    }

    fn quoted(&mut self, end: char, kind: Kind, unterminated: &str) -> Result<(), Stop> {
        loop {
            match self.take() {
                Some('\\') if self.take().is_some_and(|c| c != '\n') => {}
                Some(c) if c == end => {
                    self.emit(kind);
                    return Ok(());
                }
                Some('\n' | '\\') | None => return Err(self.wrong(unterminated)),
                Some(_) => {}
            }
        }
    }

    /// A field or a variable, whose first character is taken.
    fn name(&mut self, kind: Kind, bare: Kind) -> Result<(), Stop> {
        let begin = self.at;
        self.take_while(is_word);
        self.terminated()?;
        self.emit(if self.at == begin { bare } else { kind });
        Ok(())
    }

    fn word(&mut self) -> Result<(), Stop> {
        self.take_while(is_word);
        self.terminated()?;
        let kind = match &self.text[self.start..self.at] {
            "true" | "false" => Kind::Bool,
            "nil" => Kind::Nil,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Identifier,
        };
        self.emit(kind);
        Ok(())
    }

    /// What may stand behind a name without a space.
    fn terminated(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(c) if !is_space(c) && !".,|:()".contains(c) && !self.rest().starts_with("}}") => {
                let text = format!("bad character {}", code_point(c));
                Err(self.wrong(text))
            }
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<(), Stop> {
        self.at = self.start;
        if matches!(self.peek(), Some('+' | '-')) {
            self.take();
        }
        let digits = self.rest();
        let hex = digits.starts_with("0x") || digits.starts_with("0X");
        let other = ["0o", "0O", "0b", "0B"].iter().any(|prefix| digits.starts_with(prefix));
        if hex || other {
            self.at += 2;
        }
        let digit = move |c: char| c == '_' || if hex { c.is_ascii_hexdigit() } else { c.is_ascii_digit() };
        self.take_while(digit);
        if !other && self.peek() == Some('.') {
            self.take();
            self.take_while(digit);
        }
        let exponent = if hex { ['p', 'P'] } else { ['e', 'E'] };
        if !other && self.peek().is_some_and(|c| exponent.contains(&c)) {
            self.take();
            if matches!(self.peek(), Some('+' | '-')) {
                self.take();
            }
            self.take_while(|c| c == '_' || c.is_ascii_digit());
        }
        if self.peek().is_some_and(is_word) {
            self.take();
            let text = format!("bad number syntax: {:?}", &self.text[self.start..self.at]);
            return Err(self.wrong(text));
        }
        self.emit(Kind::Number);
        Ok(())
    }
}

/// `U+007D '}'`
fn code_point(c: char) -> String {
    if c.is_control() { format!("U+{:04X}", u32::from(c)) } else { format!("U+{:04X} '{c}'", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).iter().map(|token| token.kind).collect()
    }

    #[test]
    fn trim_markers_take_the_space_beside_them() {
        let texts = |text: &str| {
            let kept = tokens(text).into_iter().filter(|t| t.kind == Kind::Text);
            kept.map(|t| t.text).collect::<Vec<_>>()
        };
        assert_eq!(texts("a \n{{- 1 -}} \t b"), ["a", "b"]);
        assert_eq!(texts("a {{-1}} b"), ["a ", " b"]);
        assert_eq!(texts("a {{/* x */}} b{{- /* y */ -}} c"), ["a ", " b", "c"]);
    }

    #[test]
    fn an_action_is_split_as_go_splits_it() {
        let all = kinds("{{$x := .A.B | f \"q\" `r` 'c' -1.5e3 (nil) true}}");
        let end =
            [Kind::LeftParen, Kind::Nil, Kind::RightParen, Kind::Space, Kind::Bool, Kind::Close, Kind::End];
        assert!(all.ends_with(&end), "{all:?}");
        assert_eq!(kinds("{{if .}}")[1..4], [Kind::Keyword, Kind::Space, Kind::Dot]);
    }

    #[test]
    fn lines_are_counted_through_trims_and_comments() {
        let all = tokens("a\n{{- /* \n */ -}}\n\n{{.x}}");
        let field = all.iter().find(|t| t.kind == Kind::Field).expect("there is one");
        assert_eq!(field.line, 5);
    }

    #[test]
    fn what_is_wrong_is_said_as_go_says_it() {
        for (text, wrong) in [
            ("{{.A", "unclosed action"),
            ("{{/* x", "unclosed comment"),
            ("{{/* x */ 1}}", "comment ends before closing delimiter"),
            ("{{.A}", "bad character U+007D '}'"),
            ("{{(1}}", "unclosed left paren"),
            ("{{1)}}", "unexpected right paren"),
            ("{{\"a}}", "unterminated quoted string"),
            ("{{`a}}", "unterminated raw quoted string"),
            ("{{'a}}", "unterminated character constant"),
            ("{{3k}}", "bad number syntax: \"3k\""),
            ("{{$x:1}}", "expected :="),
            ("{{\u{1}}}", "unrecognized character in action: U+0001"),
        ] {
            let all = tokens(text);
            let last = all.last().expect("there is an end");
            assert_eq!((last.kind, last.text.as_str()), (Kind::Error, wrong), "{text}");
        }
    }
}
