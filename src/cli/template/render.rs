//! Pure: a parsed Go template and a JSON value into text, by the rules of `text/template`, within
//! ceilings: it always ends. It knows neither Docker's tables nor what the fields mean.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::template::functions::{self, Signature, Takes, function};
use crate::cli::template::parse::{Branch, Command, Node, Operand, Pipe, TemplateError, Tree, Word, parse};
use crate::cli::template::value::{Shape, Val, field_shape};

/// Actions, functions and iterations of one rendering.
const STEPS_MAX: usize = 2_000_000;
/// Bytes of all texts that one rendering makes, the result among them.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Lists, pipelines and templates in each other while one is rendered.
const DEPTH_MAX: usize = 128;
/// Bytes that cost as much as a step.
const STEP_BYTES: usize = 256;
/// What a piece of text in a list costs beside its bytes.
const PIECE_BYTES: usize = 64;

/// Renders a template once; a map's absent key is `<no value>`.
///
/// # Errors
/// [`TemplateError`].
pub fn render(template: &str, value: &Value) -> Result<String, TemplateError> {
    Template::parse(template)?.render(value, Shape::Any)
}

/// A template that can be rendered many times.
#[derive(Debug, Clone)]
pub struct Template {
    tree: Tree,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// `Parse`, or `TooMuch`.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { tree: parse(text, functions::is_function)? })
    }

    /// The template with `value` as its `.`, behind which stands `shape`.
    ///
    /// # Errors
    /// `Execute`, or `TooMuch`.
    pub fn render(&self, value: &Value, shape: Shape) -> Result<String, TemplateError> {
        Run::of(&self.tree, false).whole(Val::of(value, shape))
    }

    /// The heading of the table whose rows the template makes: `titles` has one for each field.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn heading(&self, titles: &Value) -> Result<String, TemplateError> {
        Run::of(&self.tree, true).whole(Val::of(titles, Shape::Any))
    }

    /// The first names of all fields that it mentions, of whatever value.
    pub fn fields(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        fields_of(&self.tree.nodes, &mut found);
        self.tree.defined.values().for_each(|nodes| fields_of(nodes, &mut found));
        found
    }
}

fn fields_of<'t>(nodes: &'t [Node], found: &mut BTreeSet<&'t str>) {
    for node in nodes {
        match node {
            Node::Action(pipe) => fields_of_pipe(pipe, found),
            Node::If(branch) | Node::With(branch) | Node::Range(branch) => {
                fields_of_pipe(&branch.pipe, found);
                fields_of(&branch.then, found);
                fields_of(&branch.otherwise, found);
            }
            Node::Template { pipe: Some(pipe), .. } => fields_of_pipe(pipe, found),
            Node::Template { .. } | Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

fn fields_of_pipe<'t>(pipe: &'t Pipe, found: &mut BTreeSet<&'t str>) {
    for word in pipe.commands.iter().flat_map(|command| &command.words) {
        match &word.operand {
            Operand::Field(names) | Operand::Variable(_, names) => {
                found.extend(names.first().map(String::as_str));
            }
            Operand::Group(pipe) => fields_of_pipe(pipe, found),
            Operand::Chain(word, names) => {
                found.extend(names.first().map(String::as_str));
                if let Operand::Group(pipe) = &word.operand {
                    fields_of_pipe(pipe, found);
                }
            }
            _ => {}
        }
    }
}

/// Which part of the template an error is about.
#[derive(Debug, Clone, Copy)]
enum At<'t> {
    Start,
    Pipe(&'t Pipe),
    Command(&'t Command),
    Word(&'t Word),
    Template(usize, &'t str, Option<&'t Pipe>),
}

/// What follows a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

type Done<T> = Result<T, TemplateError>;

/// One rendering.
struct Run<'t> {
    tree: &'t Tree,
    is_heading: bool,
    /// The template that is under way; empty for the outermost.
    name: &'t str,
    at: At<'t>,
    variables: Vec<(&'t str, Val<'t>)>,
    out: String,
    steps: usize,
    bytes: usize,
    depth: usize,
}

impl<'t> Run<'t> {
    fn of(tree: &'t Tree, is_heading: bool) -> Self {
        Self {
            tree,
            is_heading,
            name: "",
            at: At::Start,
            variables: Vec::new(),
            out: String::new(),
            steps: 0,
            bytes: 0,
            depth: 0,
        }
    }

    fn whole(mut self, dot: Val<'t>) -> Done<String> {
        self.variables.push(("$", dot.clone()));
        self.walk(&dot, &self.tree.nodes)?;
        Ok(self.out)
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Done<T> {
        let (at, shown) = match self.at {
            At::Start => (0, String::new()),
            At::Pipe(pipe) => (pipe.at, pipe.to_string()),
            At::Command(command) => (command.at, command.to_string()),
            At::Word(word) => (word.at, word.operand.to_string()),
            At::Template(at, name, None) => (at, format!("{{{{template {name:?}}}}}")),
            At::Template(at, name, Some(pipe)) => (at, format!("{{{{template {name:?} {pipe}}}}}")),
        };
        let before = self.tree.text.get(..at).unwrap_or_default();
        let column = before.rfind('\n').map_or(at, |line| at - line - 1);
        let line = 1 + before.matches('\n').count();
        let (name, reason) = (self.name.to_owned(), reason.into());
        Err(TemplateError::Execute { line, column, name, at: shown, reason })
    }

    fn step(&mut self, cost: usize) -> Done<()> {
        self.steps = self.steps.saturating_add(cost);
        let over = self.steps > STEPS_MAX;
        if over { Err(TemplateError::TooMuch { what: "steps", max: STEPS_MAX }) } else { Ok(()) }
    }

    fn spend(&mut self, bytes: usize) -> Done<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        let over = self.bytes > BYTES_MAX;
        if over { Err(TemplateError::TooMuch { what: "bytes of text", max: BYTES_MAX }) } else { Ok(()) }
    }

    fn deeper(&mut self) -> Done<()> {
        self.depth += 1;
        let over = self.depth > DEPTH_MAX;
        if over { Err(TemplateError::TooMuch { what: "levels", max: DEPTH_MAX }) } else { Ok(()) }
    }

    fn write(&mut self, text: &str) -> Done<()> {
        self.spend(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    // ── lists and blocks ────────────────────────────────────────────────────────────────────────

    fn walk(&mut self, dot: &Val<'t>, nodes: &'t [Node]) -> Done<Flow> {
        self.deeper()?;
        for node in nodes {
            self.step(1)?;
            let flow = match node {
                Node::Text(text) => self.write(text).map(|()| Flow::Next),
                Node::Action(pipe) => self.action(dot, pipe).map(|()| Flow::Next),
                Node::If(branch) => self.condition(dot, branch, false),
                Node::With(branch) => self.condition(dot, branch, true),
                Node::Range(branch) => self.range(dot, branch),
                Node::Template { at, name, pipe } => {
                    self.template(dot, *at, name, pipe.as_ref()).map(|()| Flow::Next)
                }
                Node::Break => Ok(Flow::Break),
                Node::Continue => Ok(Flow::Continue),
            }?;
            if flow != Flow::Next {
                self.depth -= 1;
                return Ok(flow);
            }
        }
        self.depth -= 1;
        Ok(Flow::Next)
    }

    fn action(&mut self, dot: &Val<'t>, pipe: &'t Pipe) -> Done<()> {
        let value = self.pipe(dot, pipe)?;
        if !pipe.variables.is_empty() {
            return Ok(());
        }
        match value.text() {
            Some(text) => self.write(text),
            None => self.write(&value.shown()),
        }
    }

    fn condition(&mut self, dot: &Val<'t>, branch: &'t Branch, is_with: bool) -> Done<Flow> {
        let kept = self.variables.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let flow = match value.truth() {
            true if is_with => self.walk(&value, &branch.then),
            true => self.walk(dot, &branch.then),
            false => self.walk(dot, &branch.otherwise),
        }?;
        self.variables.truncate(kept);
        Ok(flow)
    }

    fn range(&mut self, dot: &Val<'t>, branch: &'t Branch) -> Done<Flow> {
        let kept = self.variables.len();
        let over = self.pipe(dot, &branch.pipe)?;
        let declared = self.variables.len();
        let mut ran = false;
        let pairs = over.pairs();
        let count = match &over {
            Val::Int(count) if branch.pipe.variables.len() > 1 => {
                return self.wrong(format!("can't use {count} to iterate over more than one variable"));
            }
            Val::Int(count) => usize::try_from(*count).unwrap_or(0),
            _ if over.is_nil() => 0,
            _ if over.text().is_some() => {
                return self.wrong(format!("range can't iterate over {}", over.in_error()));
            }
            _ => match over.count() {
                Some(count) => count,
                None => return self.wrong(format!("range can't iterate over {}", over.in_error())),
            },
        };
        for n in 0..count {
            self.step(1)?;
            let (key, element) = match (&over, pairs.get(n)) {
                (Val::Int(_), _) => (Val::Int(n as i128), Val::Int(n as i128)),
                (_, Some((key, value))) => (Val::Text(key), value.clone()),
                _ => (Val::Int(n as i128), over.at(n).unwrap_or(Val::Absent)),
            };
            self.bind(&branch.pipe, key, &element)?;
            ran = true;
            let flow = self.walk(&element, &branch.then)?;
            self.variables.truncate(declared);
            if flow == Flow::Break {
                break;
            }
        }
        self.variables.truncate(declared);
        let flow = if ran { Flow::Next } else { self.walk(dot, &branch.otherwise)? };
        self.variables.truncate(kept);
        Ok(flow)
    }

    /// Gives the variables of `range` their key and element: one alone takes the element.
    fn bind(&mut self, pipe: &'t Pipe, key: Val<'t>, element: &Val<'t>) -> Done<()> {
        let values = match pipe.variables.len() {
            0 => return Ok(()),
            1 => vec![element.clone()],
            _ => vec![key, element.clone()],
        };
        let (top, count) = (self.variables.len(), pipe.variables.len());
        for (n, (name, value)) in pipe.variables.iter().zip(values).enumerate() {
            if pipe.is_assignment {
                self.assign(name, value)?;
            } else {
                self.variables[top - count + n].1 = value;
            }
        }
        Ok(())
    }

    fn template(&mut self, dot: &Val<'t>, at: usize, name: &'t str, pipe: Option<&'t Pipe>) -> Done<()> {
        self.at = At::Template(at, name, pipe);
        let Some(nodes) = self.tree.defined.get(name) else {
            return self.wrong(format!("template {name:?} not defined"));
        };
        let dot = pipe.map_or(Ok(Val::Absent), |pipe| self.pipe(dot, pipe))?;
        let variables = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let outer = std::mem::replace(&mut self.name, name);
        self.walk(&dot, nodes)?;
        self.variables = variables;
        self.name = outer;
        Ok(())
    }

    // ── pipelines ───────────────────────────────────────────────────────────────────────────────

    fn pipe(&mut self, dot: &Val<'t>, pipe: &'t Pipe) -> Done<Val<'t>> {
        self.deeper()?;
        self.at = At::Pipe(pipe);
        let mut value = None;
        for command in &pipe.commands {
            self.step(1)?;
            value = Some(self.command(dot, command, value)?);
        }
        let value = value.unwrap_or(Val::Absent);
        for name in &pipe.variables {
            if pipe.is_assignment {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn assign(&mut self, name: &str, value: Val<'t>) -> Done<()> {
        match self.variables.iter_mut().rev().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = value,
            None => return self.wrong(format!("undefined variable: {name}")),
        }
        Ok(())
    }

    fn variable(&self, name: &str) -> Done<Val<'t>> {
        match self.variables.iter().rev().find(|(known, _)| *known == name) {
            Some((_, value)) => Ok(value.clone()),
            None => self.wrong(format!("undefined variable: {name}")),
        }
    }

    /// A command; `last` is the value of the one before it in the pipeline.
    fn command(&mut self, dot: &Val<'t>, command: &'t Command, last: Option<Val<'t>>) -> Done<Val<'t>> {
        let (word, args) = (&command.words[0], &command.words[1..]);
        if let Operand::Function(name) = &word.operand {
            return self.function(dot, word, At::Command(command), name, args, last);
        }
        let takes_args = match &word.operand {
            Operand::Field(_) | Operand::Chain(..) => true,
            Operand::Variable(_, names) => !names.is_empty(),
            _ => false,
        };
        if takes_args {
            return self.operand(dot, word, args, last);
        }
        self.at = match &word.operand {
            Operand::Group(_) => self.at,
            _ => At::Word(word),
        };
        if !args.is_empty() || last.is_some() {
            let shown = match &word.operand {
                Operand::Group(pipe) => pipe.to_string(),
                other => other.to_string(),
            };
            return self.wrong(format!("can't give argument to non-function {shown}"));
        }
        if matches!(word.operand, Operand::Nil) {
            return self.wrong("nil is not a command");
        }
        self.operand(dot, word, &[], None)
    }

    /// The value of a word, of whatever type.
    fn operand(
        &mut self,
        dot: &Val<'t>,
        word: &'t Word,
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        match &word.operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Val::Absent),
            Operand::Bool(value) => Ok(Val::Bool(*value)),
            Operand::Int(value, shown) if *value > i128::from(i64::MAX) => {
                self.wrong(format!("{shown} overflows int"))
            }
            Operand::Int(value, _) => Ok(Val::Int(*value)),
            Operand::Float(value, _) => Ok(Val::Float(*value)),
            Operand::Text(text, _) => Ok(Val::Text(text)),
            Operand::Group(pipe) => self.pipe(dot, pipe),
            Operand::Function(name) => self.function(dot, word, At::Word(word), name, args, last),
            Operand::Field(names) => {
                self.at = At::Word(word);
                self.fields(dot, dot.clone(), names, args, last)
            }
            Operand::Variable(name, names) => {
                self.at = At::Word(word);
                let value = self.variable(name)?;
                self.fields(dot, value, names, args, last)
            }
            Operand::Chain(inner, names) => {
                self.at = At::Word(word);
                let value = self.operand(dot, inner, &[], None)?;
                self.fields(dot, value, names, args, last)
            }
        }
    }

    // ── fields ──────────────────────────────────────────────────────────────────────────────────

    fn fields(
        &mut self,
        dot: &Val<'t>,
        mut value: Val<'t>,
        names: &'t [String],
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        let Some((end, first)) = names.split_last() else { return Ok(value) };
        for name in first {
            value = self.field(dot, &value, name, &[], None)?;
        }
        self.field(dot, &value, end, args, last)
    }

    fn field(
        &mut self,
        dot: &Val<'t>,
        value: &Val<'t>,
        name: &str,
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        let has_args = !args.is_empty() || last.is_some();
        let Val::Json(json, shape) = value else {
            return match value {
                Val::Absent => Ok(Val::Absent),
                _ => self.wrong(format!("can't evaluate field {name} in type {}", value.type_name())),
            };
        };
        match (json, shape) {
            (Value::Object(object), Shape::Struct { name: type_name, fields }) => {
                let found = object.get(name).or_else(|| {
                    // `inspect` looks at the struct first, then at its JSON, whose names differ in case.
                    let same = |key: &&String| type_name.is_empty() && key.eq_ignore_ascii_case(name);
                    object.keys().find(same).and_then(|key| object.get(key))
                });
                match (found, field_shape(*shape, name)) {
                    (found, Shape::Lookup) => self.look_up(dot, found, name, args, last),
                    (Some(_), _) if has_args => {
                        self.wrong(format!("{name} has arguments but cannot be invoked as function"))
                    }
                    (Some(found), shape) => Ok(Val::of(found, shape)),
                    (None, shape) if fields.iter().any(|(known, _)| *known == name) => {
                        Ok(Val::of(&Value::Null, shape))
                    }
                    (None, _) if type_name.is_empty() => {
                        self.wrong(format!("map has no entry for key {name:?}"))
                    }
                    (None, _) => self.wrong(format!("can't evaluate field {name} in type {type_name}")),
                }
            }
            (Value::Object(_) | Value::Null, _) if has_args => {
                self.wrong(format!("{name} is not a method but has arguments"))
            }
            (Value::Object(_), _) => Ok(value.get(name).unwrap_or(Val::Absent)),
            (Value::Null, Shape::Map(_)) => Ok(Val::Absent),
            (Value::Null, shape) if !matches!(shape, Shape::List(_)) => {
                self.wrong(format!("nil pointer evaluating {}.{name}", value.type_name()))
            }
            _ => self.wrong(format!("can't evaluate field {name} in type {}", value.type_name())),
        }
    }

    /// `.Label "name"`
    fn look_up(
        &mut self,
        dot: &Val<'t>,
        map: Option<&'t Value>,
        name: &str,
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        let count = args.len() + usize::from(last.is_some());
        if count != 1 {
            return self.wrong(format!("wrong number of args for {name}: want 1 got {count}"));
        }
        let key = match last {
            Some(last) => self.validated(last, Takes::Text)?,
            None => self.argument(dot, &args[0], Takes::Text)?,
        };
        let text = map.and_then(|map| map.get(key.text().unwrap_or_default()));
        Ok(text.map_or(Val::Text(""), |text| Val::of(text, Shape::Text)))
    }

    // ── functions ───────────────────────────────────────────────────────────────────────────────

    fn function(
        &mut self,
        dot: &Val<'t>,
        word: &'t Word,
        at: At<'t>,
        name: &'t str,
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        self.at = At::Word(word);
        let Some(signature) = function(name) else {
            return self.wrong(format!("{name:?} is not a defined function"));
        };
        self.check_count(signature, args.len() + usize::from(last.is_some()))?;
        if matches!(name, "and" | "or") {
            return self.and_or(dot, name == "or", args, last);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for (n, arg) in args.iter().enumerate() {
            values.push(self.argument(dot, arg, self.taken(signature, n))?);
        }
        if let Some(last) = last {
            values.push(self.validated(last, self.taken(signature, values.len()))?);
        }
        if self.is_heading && functions::is_idle_in_heading(name) {
            return Ok(values.swap_remove(0));
        }
        if name == "call" {
            self.at = at;
            let shown = args.first().map_or_else(String::new, |word| word.operand.to_string());
            return match &values[0] {
                value if value.is_nil() => self.wrong("error calling call: call of nil"),
                value => self
                    .wrong(format!("error calling call: non-function {shown} of type {}", value.type_name())),
            };
        }
        let read = values.iter().filter_map(Val::text).map(str::len).sum::<usize>();
        self.step(1 + read / STEP_BYTES)?;
        let made = match functions::call(name, &values) {
            Ok(made) => made,
            Err(reason) => {
                self.at = at;
                return self.wrong(format!("error calling {name}: {reason}"));
            }
        };
        match &made {
            Val::Made(text) => self.spend(text.len())?,
            Val::Texts(texts) => {
                let bytes: usize = texts.iter().filter_map(Val::text).map(str::len).sum();
                self.spend(bytes + texts.len() * PIECE_BYTES)?;
            }
            _ => {}
        }
        Ok(made)
    }

    fn check_count(&self, signature: &Signature, got: usize) -> Done<()> {
        let (name, want) = (signature.name, signature.takes.len());
        match (got.cmp(&want), signature.more) {
            (Ordering::Less, true) => {
                self.wrong(format!("wrong number of args for {name}: want at least {want} got {got}"))
            }
            (Ordering::Less | Ordering::Greater, false) => {
                self.wrong(format!("wrong number of args for {name}: want {want} got {got}"))
            }
            _ => Ok(()),
        }
    }

    fn taken(&self, signature: &Signature, n: usize) -> Takes {
        // A heading has the title of the column where a row has a list or a number.
        if self.is_heading { Takes::Any } else { signature.takes.get(n).copied().unwrap_or(Takes::Any) }
    }

    /// `and` and `or` evaluate no argument behind the one that decides.
    fn and_or(
        &mut self,
        dot: &Val<'t>,
        is_or: bool,
        args: &'t [Word],
        last: Option<Val<'t>>,
    ) -> Done<Val<'t>> {
        let mut value = Val::Absent;
        for arg in args {
            value = self.argument(dot, arg, Takes::Any)?;
            if value.truth() == is_or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, dot: &Val<'t>, word: &'t Word, takes: Takes) -> Done<Val<'t>> {
        self.at = At::Word(word);
        let expected = match takes {
            Takes::Any => return self.operand(dot, word, &[], None),
            Takes::Text => "string",
            Takes::Int => "integer",
            Takes::Texts => "",
        };
        match &word.operand {
            Operand::Nil if takes == Takes::Texts => Ok(Val::Absent),
            Operand::Nil => self.wrong(format!("cannot assign nil to {}", takes.go_type())),
            // A literal is a whole number by its value, not by how it was written.
            Operand::Float(value, _) if takes == Takes::Int && value.fract() == 0.0 && value.abs() < 1e15 => {
                Ok(Val::Int(format!("{value:.0}").parse().unwrap_or(0)))
            }
            Operand::Text(text, _) if takes == Takes::Text => Ok(Val::Text(text)),
            Operand::Int(value, _) if takes == Takes::Int => Ok(Val::Int(*value)),
            Operand::Bool(_) | Operand::Int(..) | Operand::Float(..) | Operand::Text(..)
                if takes == Takes::Texts =>
            {
                let (shown, go_type) = (&word.operand, takes.go_type());
                self.wrong(format!("can't handle {shown} for arg of type {go_type}"))
            }
            Operand::Bool(_) | Operand::Int(..) | Operand::Float(..) | Operand::Text(..) => {
                self.wrong(format!("expected {expected}; found {}", word.operand))
            }
            _ => {
                let value = self.operand(dot, word, &[], None)?;
                self.validated(value, takes)
            }
        }
    }

    fn validated(&self, value: Val<'t>, takes: Takes) -> Done<Val<'t>> {
        if takes.fits(&value) {
            return Ok(value);
        }
        let go_type = takes.go_type();
        match value {
            Val::Absent => self.wrong(format!("invalid value; expected {go_type}")),
            other => {
                self.wrong(format!("wrong type for value; expected {go_type}; got {}", other.type_name()))
            }
        }
    }
}
