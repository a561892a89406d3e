//! Pure: the globs of `search_files` and `directory_tree`, as the reference server reads them (npm's minimatch with `dot`).
//!
//! `*` and `?` stay inside one name, `**` as a whole name crosses folders, names that begin with a dot are names
//! like any other. Braces, ranges, classes and the extended forms `?(…) *(…) +(…) @(…) !(…)` are known; a leading
//! `!` turns the answer round and a leading `#` matches nothing. It does not know ignore files: that is `ignores`.

/// Bytes of one pattern.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Patterns that the braces of one may stand for.
const ALTERNATIVES_MAX: usize = 1024;
/// Levels of braces and brackets inside each other.
const NESTED_MAX: usize = 32;
/// Steps that one name may cost; what needs more does not match.
const STEPS_MAX: u32 = 100_000;

/// Why a pattern is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// It is longer than anybody writes.
    #[error("the pattern has more than {PATTERN_BYTES_MAX} bytes")]
    TooLong,
    /// Its braces stand for too many patterns.
    #[error("the braces of the pattern stand for more than {ALTERNATIVES_MAX} patterns")]
    TooMany,
    /// Its brackets are inside each other too deeply.
    #[error("the brackets of the pattern are more than {NESTED_MAX} levels deep")]
    TooDeep,
}

/// A pattern, ready to be asked.
#[derive(Debug)]
pub struct Glob {
    alternatives: Vec<Vec<Segment>>,
    negated: bool,
    /// `#…` is a comment and matches nothing, whatever stands before it.
    comment: bool,
}

#[derive(Debug, PartialEq)]
enum Segment {
    Globstar,
    Literal(String),
    /// `*` and then these characters.
    Ending(String),
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Char(char),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(char, char)>, named: Vec<Named> },
    Group(Repeat, Vec<Vec<Token>>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Repeat {
    Optional,
    Any,
    Some,
    Once,
    Not,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Named {
    Alpha,
    Digit,
    Alnum,
    Upper,
    Lower,
    Space,
    Punct,
    Hex,
    Word,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is larger than the limits.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(GlobError::TooLong);
        }
        let comment = pattern.starts_with('#');
        let bare = pattern.trim_start_matches('!');
        let negated = (pattern.len() - bare.len()) % 2 == 1;
        let mut alternatives = Vec::new();
        for text in expand(bare)? {
            alternatives.push(segments(&text)?);
        }
        Ok(Self { alternatives, negated, comment })
    }

    /// Whether a path matches, given as the names of its folders and its own.
    pub fn matches(&self, folders: &[&str], name: &str) -> bool {
        !self.comment
            && self.alternatives.iter().any(|segments| walk(segments, folders, name)) != self.negated
    }

    /// Whether a path matches.
    pub fn matches_path(&self, path: &str) -> bool {
        let (folders, name) = path.rsplit_once('/').map_or((None, path), |(above, name)| (Some(above), name));
        let folders: Vec<&str> = folders.into_iter().flat_map(|above| above.split('/')).collect();
        self.matches(&folders, name)
    }
}

/// Two pointers and the last `**`: a name is tried against a segment at most once for each `**`.
fn walk(segments: &[Segment], folders: &[&str], own: &str) -> bool {
    // Most paths are refused by their last name.
    if segments.last().is_some_and(|last| *last != Segment::Globstar && !last.matches(own)) {
        return false;
    }
    let (names, mut at, mut name) = (folders.len() + 1, 0, 0);
    let mut back: Option<(usize, usize)> = None;
    while name < names {
        match segments.get(at) {
            // A `**` at the end needs a name to stand for.
            Some(Segment::Globstar) => {
                back = Some((at, name));
                at += 1;
                if at == segments.len() {
                    return true;
                }
                continue;
            }
            Some(segment) if segment.matches(folders.get(name).unwrap_or(&own)) => {
                at += 1;
                name += 1;
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = back else { return false };
        back = Some((star, from + 1));
        at = star + 1;
        name = from + 1;
    }
    at == segments.len()
}

impl Segment {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Globstar => true,
            Self::Literal(text) => name == text,
            Self::Ending(text) => name.ends_with(text.as_str()) && !name.is_empty(),
            Self::Tokens(tokens) => {
                let mut steps = STEPS_MAX;
                !name.is_empty() && fits(tokens, name, &mut steps, &|rest, _| rest.is_empty())
            }
        }
    }
}

type Rest<'a> = dyn Fn(&str, &mut u32) -> bool + 'a;

fn fits(tokens: &[Token], text: &str, steps: &mut u32, rest: &Rest<'_>) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let Some((token, after)) = tokens.split_first() else { return rest(text, steps) };
    let head = text.chars().next();
    let tail = |c: char| &text[c.len_utf8()..];
    match token {
        Token::Char(c) => head == Some(*c) && fits(after, tail(*c), steps, rest),
        Token::Any => head.is_some_and(|c| fits(after, tail(c), steps, rest)),
        Token::Class { negated, ranges, named } => head.is_some_and(|c| {
            let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c))
                || named.iter().any(|class| class.holds(c));
            inside != *negated && fits(after, tail(c), steps, rest)
        }),
        Token::Star => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| fits(after, &text[at..], steps, rest))
        }
        Token::Group(repeat, forms) => {
            let go_on = |text: &str, steps: &mut u32| fits(after, text, steps, rest);
            group(*repeat, forms, text, steps, &go_on)
        }
    }
}

fn group(repeat: Repeat, forms: &[Vec<Token>], text: &str, steps: &mut u32, rest: &Rest<'_>) -> bool {
    if *steps == 0 {
        return false;
    }
    *steps -= 1;
    let once = |steps: &mut u32, then: &Rest<'_>| forms.iter().any(|form| fits(form, text, steps, then));
    match repeat {
        Repeat::Once => once(steps, rest),
        Repeat::Optional => once(steps, rest) || rest(text, steps),
        Repeat::Any | Repeat::Some => {
            let again = |after: &str, steps: &mut u32| {
                // A form that took nothing would go round for ever.
                rest(after, steps)
                    || after.len() < text.len() && group(Repeat::Any, forms, after, steps, rest)
            };
            repeat == Repeat::Any && rest(text, steps) || once(steps, &again)
        }
        Repeat::Not => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| {
                let refused = forms
                    .iter()
                    .any(|form| fits(form, &text[..at], steps, &|left: &str, _: &mut u32| left.is_empty()));
                !refused && rest(&text[at..], steps)
            })
        }
    }
}

impl Named {
    fn new(name: &str) -> Option<Self> {
        Some(match name {
            "alpha" => Self::Alpha,
            "digit" => Self::Digit,
            "alnum" => Self::Alnum,
            "upper" => Self::Upper,
            "lower" => Self::Lower,
            "space" | "blank" => Self::Space,
            "punct" => Self::Punct,
            "xdigit" => Self::Hex,
            "word" => Self::Word,
            _ => return None,
        })
    }

    fn holds(self, c: char) -> bool {
        match self {
            Self::Alpha => c.is_alphabetic(),
            Self::Digit => c.is_numeric(),
            Self::Alnum => c.is_alphanumeric(),
            Self::Upper => c.is_uppercase(),
            Self::Lower => c.is_lowercase(),
            Self::Space => c.is_whitespace(),
            Self::Punct => c.is_ascii_punctuation(),
            Self::Hex => c.is_ascii_hexdigit(),
            Self::Word => c.is_alphanumeric() || c == '_',
        }
    }
}

// ── braces ──────────────────────────────────────────────────────────────────────────────────────

/// The patterns that one with braces stands for.
fn expand(text: &str) -> Result<Vec<String>, GlobError> {
    let (mut done, mut open) = (Vec::new(), vec![(text.to_owned(), 0_usize)]);
    while let Some((text, from)) = open.pop() {
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(GlobError::TooMany);
        }
        match first_braces(&text, from) {
            None => done.push(text),
            Some((start, end, parts)) => {
                // What follows first comes off the stack first.
                for part in parts?.iter().rev() {
                    let at = start;
                    open.push((format!("{}{part}{}", &text[..start], &text[end..]), at));
                }
            }
        }
    }
    Ok(done)
}

type Braces = (usize, usize, Result<Vec<String>, GlobError>);

/// The first braces from `from` on that stand for something: where they begin and end, and their parts.
fn first_braces(text: &str, from: usize) -> Option<Braces> {
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'$' if bytes.get(at + 1) == Some(&b'{') => at += 1,
            b'{' => {
                if let Some((end, commas)) = braces_end(bytes, at) {
                    let inside = &text[at + 1..end];
                    if !commas.is_empty() {
                        let mut cuts = vec![at];
                        cuts.extend(commas);
                        cuts.push(end);
                        let parts = cuts.windows(2).map(|w| text[w[0] + 1..w[1]].to_owned());
                        return Some((at, end + 1, Ok(parts.collect())));
                    }
                    if let Some(parts) = sequence(inside) {
                        return Some((at, end + 1, parts));
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the brace that opens at `open` is closed, and its own commas.
fn braces_end(bytes: &[u8], open: usize) -> Option<(usize, Vec<usize>)> {
    let (mut depth, mut commas, mut at) = (0_usize, Vec::new(), open);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b',' if depth == 1 => commas.push(at),
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((at, commas));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// `1..5`, `01..10..2`, `a..e`.
fn sequence(text: &str) -> Option<Result<Vec<String>, GlobError>> {
    let mut parts = text.split("..");
    let (from, to, step) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let step = match step {
        Some(text) => text.parse::<i64>().ok()?.unsigned_abs().max(1),
        None => 1,
    };
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| n.unsigned_abs() < 1 << 40);
    let letter = |text: &str| {
        let mut chars = text.chars();
        chars.next().filter(|c| chars.next().is_none() && c.is_ascii_alphabetic())
    };
    let (low, high, letters) = match (number(from), number(to)) {
        (Some(low), Some(high)) => (low, high, false),
        _ => (i64::from(u32::from(letter(from)?)), i64::from(u32::from(letter(to)?)), true),
    };
    if low.abs_diff(high) / step >= ALTERNATIVES_MAX as u64 {
        return Some(Err(GlobError::TooMany));
    }
    let padded =
        |text: &str| text.trim_start_matches('-').len() > 1 && text.trim_start_matches('-').starts_with('0');
    let width = if padded(from) || padded(to) { from.len().max(to.len()) } else { 0 };
    let count = low.abs_diff(high) / step;
    let values = (0..=count).filter_map(|n| {
        let distance = i64::try_from(n * step).ok()?;
        Some(if low <= high { low + distance } else { low - distance })
    });
    let texts = values.map(|value| match letters {
        true => u8::try_from(value).map(char::from).map(String::from).unwrap_or_default(),
        false => format!("{value:0width$}"),
    });
    Some(Ok(texts.collect()))
}

// ── names ───────────────────────────────────────────────────────────────────────────────────────

fn segments(text: &str) -> Result<Vec<Segment>, GlobError> {
    let mut found: Vec<Segment> = Vec::new();
    for (n, part) in split(text).into_iter().enumerate() {
        if part == ".." && n > 0 {
            // `x/..` is where one was before.
            let plain = found.last().is_some_and(|s| {
                *s != Segment::Globstar && !matches!(s, Segment::Literal(t) if t == ".." || t == ".")
            });
            if plain {
                found.pop();
                continue;
            }
        }
        let segment = segment(&part)?;
        if segment != Segment::Globstar || found.last() != Some(&Segment::Globstar) {
            found.push(segment);
        }
    }
    Ok(found)
}

/// At slashes, runs of them being one. The reference cuts before it looks at brackets, so do we.
fn split(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for (n, part) in text.split('/').enumerate() {
        if !part.is_empty() || n == 0 {
            parts.push(part.to_owned());
        }
    }
    if text.len() > 1 && text.ends_with('/') {
        parts.push(String::new());
    }
    parts
}

fn segment(text: &str) -> Result<Segment, GlobError> {
    if text == "**" {
        return Ok(Segment::Globstar);
    }
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let tokens = tokens(&chars, &mut at, 0, false)?;
    let literal = |tokens: &[Token]| {
        let chars = tokens.iter().map(|token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        });
        chars.collect::<Option<String>>()
    };
    if let Some(text) = literal(&tokens) {
        return Ok(Segment::Literal(text));
    }
    if let Some((Token::Star, rest)) = tokens.split_first()
        && let Some(text) = literal(rest)
    {
        return Ok(Segment::Ending(text));
    }
    Ok(Segment::Tokens(tokens))
}

/// Tokens up to the end, or inside brackets up to `|` or `)`, where `at` then stands.
fn tokens(chars: &[char], at: &mut usize, depth: usize, inside: bool) -> Result<Vec<Token>, GlobError> {
    if depth > NESTED_MAX {
        return Err(GlobError::TooDeep);
    }
    let mut found = Vec::new();
    while let Some(&c) = chars.get(*at) {
        if inside && (c == '|' || c == ')') {
            return Ok(found);
        }
        if chars.get(*at + 1) == Some(&'(')
            && let Some(repeat) = repeat(c)
        {
            let mut end = *at;
            if let Some(forms) = forms(chars, &mut end, depth)? {
                found.push(Token::Group(repeat, forms));
                *at = end;
                continue;
            }
            if inside {
                // Nothing closes this one, so nothing closes the one around it: trying again here would
                // double the work with every level.
                *at = chars.len();
                return Ok(found);
            }
        }
        match c {
            '\\' if *at + 1 < chars.len() => {
                *at += 1;
                found.push(Token::Char(chars[*at]));
            }
            '?' => found.push(Token::Any),
            '*' if found.last() == Some(&Token::Star) => {}
            '*' => found.push(Token::Star),
            '[' => match class(&chars[*at..]) {
                Some((token, length)) => {
                    found.push(token);
                    *at += length;
                    continue;
                }
                None => found.push(Token::Char('[')),
            },
            other => found.push(Token::Char(other)),
        }
        *at += 1;
    }
    Ok(found)
}

fn repeat(c: char) -> Option<Repeat> {
    Some(match c {
        '?' => Repeat::Optional,
        '*' => Repeat::Any,
        '+' => Repeat::Some,
        '@' => Repeat::Once,
        '!' => Repeat::Not,
        _ => return None,
    })
}

/// The forms between `(` and `)`; `None` when nothing closes them, which makes them plain text.
fn forms(chars: &[char], at: &mut usize, depth: usize) -> Result<Option<Vec<Vec<Token>>>, GlobError> {
    *at += 2;
    let mut forms = Vec::new();
    loop {
        forms.push(tokens(chars, at, depth + 1, true)?);
        match chars.get(*at) {
            Some('|') => *at += 1,
            Some(_) => {
                *at += 1;
                return Ok(Some(forms));
            }
            None => return Ok(None),
        }
    }
}

/// `[…]`, and how many characters it takes; `None` when it is not closed.
fn class(chars: &[char]) -> Option<(Token, usize)> {
    let mut at = 1;
    let negated = matches!(chars.get(at), Some('!' | '^'));
    at += usize::from(negated);
    let (mut ranges, mut named, first) = (Vec::new(), Vec::new(), at);
    loop {
        let c = *chars.get(at)?;
        if c == ']' && at > first {
            return Some((Token::Class { negated, ranges, named }, at + 1));
        }
        if c == '[' && chars.get(at + 1) == Some(&':') {
            let name: String = chars[at + 2..].iter().take_while(|c| c.is_ascii_alphabetic()).collect();
            let end = at + 2 + name.len();
            if chars.get(end) == Some(&':')
                && chars.get(end + 1) == Some(&']')
                && let Some(class) = Named::new(&name)
            {
                named.push(class);
                at = end + 2;
                continue;
            }
        }
        let low = escaped(chars, &mut at)?;
        if chars.get(at) == Some(&'-') && chars.get(at + 1).is_some_and(|c| *c != ']') {
            at += 1;
            let high = escaped(chars, &mut at)?;
            if low <= high {
                ranges.push((low, high));
            }
        } else {
            ranges.push((low, low));
        }
    }
}

fn escaped(chars: &[char], at: &mut usize) -> Option<char> {
    if chars.get(*at) == Some(&'\\') {
        *at += 1;
    }
    let c = *chars.get(*at)?;
    *at += 1;
    Some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        let asked = |path: &&str| glob.matches_path(path);
        assert_eq!(yes.iter().filter(|p| !asked(p)).collect::<Vec<_>>(), Vec::<&&str>::new(), "{pattern}");
        assert_eq!(no.iter().filter(|p| asked(p)).collect::<Vec<_>>(), Vec::<&&str>::new(), "{pattern}");
    }

    #[test]
    fn a_star_stays_in_one_name_and_two_cross_folders() {
        check("*.rs", &["a.rs", ".rs", ".a.rs"], &["a/b.rs", "a.rsx"]);
        check("**/*.rs", &["a.rs", "a/b.rs", ".x/y/z.rs"], &["a.rs/b"]);
        check("a/**", &["a/b", "a/b/c", "a/.b"], &["a", "b/a"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "b"]);
        check("**/a/**/b/**", &["a/b/c", "x/a/y/b/z"], &["a/b", "b/a/c"]);
        check("**", &["a", "a/b", ".a"], &[]);
        check("a?c", &["abc", "aéc"], &["ac", "a/c", "abbc"]);
        check("**.rs", &["a.rs"], &["a/b.rs"]);
    }

    #[test]
    fn braces_classes_and_extended_forms_are_as_in_the_reference() {
        check("*.{rs,toml}", &["a.rs", "b.toml"], &["a.md", "a.{rs,toml}"]);
        check("a{1..3}", &["a1", "a2", "a3"], &["a4", "a"]);
        check("a{01..03}", &["a01"], &["a1"]);
        check("{a,b/{c,d}}", &["a", "b/c", "b/d"], &["b", "c"]);
        check("{a}", &["{a}"], &["a"]);
        check("[a-c]x", &["ax", "cx"], &["dx", "x"]);
        check("[!a-c]x", &["dx"], &["ax"]);
        check("[[:digit:]]", &["7"], &["a"]);
        check("[a", &["[a"], &["a"]);
        check("\\*", &["*"], &["a"]);
        check("@(a|b).rs", &["a.rs", "b.rs"], &["ab.rs"]);
        check("+(a|b)", &["a", "abba"], &["", "c"]);
        check("x!(a|b).rs", &["xc.rs", "xab.rs"], &["xa.rs", "xb.rs"]);
        check("?(a)b", &["b", "ab"], &["aab"]);
        check("*(ab)c", &["c", "ababc"], &["abac"]);
    }

    #[test]
    fn a_leading_mark_turns_the_answer_round_or_makes_a_comment() {
        check("!*.rs", &["a.md", "x/a.rs"], &["a.rs"]);
        check("!!*.rs", &["a.rs"], &["a.md"]);
        check("#*", &[], &["#a", "a"]);
        check("/a", &[], &["a"]);
        check("a/", &[], &["a"]);
        check("x/../a", &["a"], &["x/a"]);
    }

    #[test]
    fn the_answers_are_those_of_minimatch() {
        let recorded: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/minimatch.json")).unwrap();
        let texts = |v: &serde_json::Value| -> Vec<String> { serde_json::from_value(v.clone()).unwrap() };
        let paths = texts(&recorded["paths"]);
        let answers = recorded["answers"].as_array().unwrap();
        assert!(answers.len() > 80 && paths.len() > 80);
        let mut wrong = Vec::new();
        for answer in answers {
            let pattern = answer[0].as_str().unwrap();
            let glob = Glob::new(pattern).unwrap();
            let yes = texts(&answer[1]);
            let differ: Vec<_> = paths.iter().filter(|p| glob.matches_path(p) != yes.contains(p)).collect();
            if !differ.is_empty() {
                wrong.push(format!("{pattern}: {differ:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let text = "a".repeat(200);
        assert!(!Glob::new(&format!("{}b", "*a".repeat(100))).unwrap().matches_path(&text));
        assert!(!Glob::new(&format!("{}b", "+(a|aa)".repeat(20))).unwrap().matches_path(&text));
        assert_eq!(Glob::new(&"{a,b}".repeat(30)).unwrap_err(), GlobError::TooMany);
        assert_eq!(Glob::new("{1..99999}").unwrap_err(), GlobError::TooMany);
        assert_eq!(Glob::new(&"@(".repeat(100)).unwrap_err(), GlobError::TooDeep);
        assert_eq!(Glob::new(&"a".repeat(5000)).unwrap_err(), GlobError::TooLong);
    }
}
