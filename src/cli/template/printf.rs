//! Pure: `print`, `println` and `printf` of Go for the values of a template.

use serde_json::Value;

use crate::cli::template::value::{Shape, Val, float, go_exponent};

/// Widest padding, in characters: Go refuses wider ones too.
pub const PADDING_MAX: usize = 1_000_000;
/// Longest text that one call makes, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a text that is being made is still one that may be made.
///
/// # Errors
/// When it is not.
pub fn within(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        Err(format!("text of more than {TEXT_BYTES_MAX} bytes"))
    } else {
        Ok(())
    }
}

/// `fmt.Sprint`: a space between two values of which neither is text.
///
/// # Errors
/// When it is too long.
pub fn print(args: &[Val<'_>]) -> Result<String, String> {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        if n > 0 && arg.text().is_none() && args[n - 1].text().is_none() {
            out.push(' ');
        }
        arg.print(&mut out);
        within(&out)?;
    }
    Ok(out)
}

/// `fmt.Sprintln`: a space between all, and a line end.
///
/// # Errors
/// When it is too long.
pub fn print_line(args: &[Val<'_>]) -> Result<String, String> {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        out.push_str(if n > 0 { " " } else { "" });
        arg.print(&mut out);
        within(&out)?;
    }
    out.push('\n');
    Ok(out)
}

/// Flags, width and precision of one verb.
#[derive(Debug, Default, Clone, Copy)]
struct Layout {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

struct Printer<'a, 'v> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    args: &'a [Val<'v>],
    next: usize,
    reordered: bool,
    bad_index: bool,
    out: String,
}

/// `fmt.Sprintf`. What does not fit is said in the text, as Go does.
///
/// # Errors
/// When it is too long.
pub fn printf(format: &str, args: &[Val<'_>]) -> Result<String, String> {
    let chars = format.chars().peekable();
    let mut printer =
        Printer { chars, args, next: 0, reordered: false, bad_index: false, out: String::new() };
    while let Some(c) = printer.chars.next() {
        if c == '%' {
            printer.verb()
        } else {
            printer.out.push(c)
        }
        within(&printer.out)?;
    }
    if !printer.reordered && printer.next < args.len() {
        printer.out.push_str("%!(EXTRA ");
        for (n, arg) in args[printer.next..].iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            printer.out.push_str(comma);
            printer.out.push_str(&with_type(arg));
            within(&printer.out)?;
        }
        printer.out.push(')');
    }
    Ok(printer.out)
}

/// `string=hi`, as Go shows an argument it has no use for.
fn with_type(arg: &Val<'_>) -> String {
    let mut text = String::new();
    arg.print(&mut text);
    if arg.is_nil() { text } else { format!("{}={text}", arg.type_name()) }
}

impl<'v> Printer<'_, 'v> {
    fn verb(&mut self) {
        let mut layout = Layout::default();
        while let Some(c) = self.chars.peek() {
            match c {
                '-' => layout.minus = true,
                '+' => layout.plus = true,
                '#' => layout.sharp = true,
                ' ' => layout.space = true,
                '0' => layout.zero = true,
                _ => break,
            }
            self.chars.next();
        }
        self.bad_index = false;
        self.index();
        match self.size() {
            Some(Ok(width)) if width < 0 => {
                layout.minus = true;
                layout.width = usize::try_from(-width).unwrap_or(0);
            }
            Some(Ok(width)) => layout.width = usize::try_from(width).unwrap_or(0),
            Some(Err(())) => self.out.push_str("%!(BADWIDTH)"),
            None => {}
        }
        if self.chars.peek() == Some(&'.') {
            self.chars.next();
            self.index();
            match self.size() {
                Some(Ok(precision)) => layout.precision = usize::try_from(precision).ok(),
                Some(Err(())) => self.out.push_str("%!(BADPREC)"),
                None => layout.precision = Some(0),
            }
        }
        self.index();
        let Some(verb) = self.chars.next() else {
            self.out.push_str("%!(NOVERB)");
            return;
        };
        match self.args.get(self.next) {
            _ if verb == '%' => self.out.push('%'),
            _ if self.bad_index => self.out.push_str(&format!("%!{verb}(BADINDEX)")),
            None => self.out.push_str(&format!("%!{verb}(MISSING)")),
            Some(arg) => {
                self.next += 1;
                one(&mut self.out, arg, verb, layout);
            }
        }
    }

    /// `[2]`: which argument comes next.
    fn index(&mut self) {
        if self.chars.peek() != Some(&'[') {
            return;
        }
        self.chars.next();
        self.reordered = true;
        let mut digits = String::new();
        while let Some(c) = self.chars.next_if(|c| *c != ']') {
            digits.push(c);
        }
        let closed = self.chars.next().is_some();
        let place = digits.parse::<usize>().ok().filter(|n| closed && (1..=self.args.len()).contains(n));
        match place {
            Some(place) => self.next = place - 1,
            None => self.bad_index = true,
        }
    }

    /// A width or a precision: digits, or `*` for an argument.
    fn size(&mut self) -> Option<Result<i128, ()>> {
        let max = PADDING_MAX as i128;
        if self.chars.next_if_eq(&'*').is_some() {
            let arg = self.args.get(self.next);
            self.next += 1;
            return Some(match arg {
                Some(Val::Int(value)) if (-max..=max).contains(value) => Ok(*value),
                _ => Err(()),
            });
        }
        let mut value = None;
        while let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(10)) {
            self.chars.next();
            value = Some((value.unwrap_or(0) * 10 + i128::from(digit)).min(max + 1));
        }
        value.map(|value| if value > max { Err(()) } else { Ok(value) })
    }
}

/// One value by one verb, up to a text that is too long.
fn one(out: &mut String, arg: &Val<'_>, verb: char, layout: Layout) {
    let simple = match arg {
        _ if verb == 'T' => Some(padded(arg.type_name(), layout)),
        Val::Bool(value) if matches!(verb, 'v' | 't') => Some(padded(value.to_string(), layout)),
        Val::Int(value) => whole(*value, verb, layout),
        Val::Float(value) => broken(*value, verb, layout),
        Val::Text(_) | Val::Made(_) => texts(arg.text().unwrap_or_default(), verb, layout),
        Val::Texts(_) | Val::Json(Value::Array(_), _) | Val::Json(Value::Null, Shape::List(_)) => {
            out.push('[');
            for at in 0..arg.count().unwrap_or(0) {
                out.push_str(if at > 0 { " " } else { "" });
                one(out, &arg.at(at).unwrap_or(Val::Absent), verb, layout);
                if within(out).is_err() {
                    return;
                }
            }
            out.push(']');
            return;
        }
        Val::Json(Value::Object(_), _) | Val::Json(Value::Null, Shape::Map(_)) => {
            out.push_str("map[");
            for (n, (key, value)) in arg.pairs().into_iter().enumerate() {
                out.push_str(if n > 0 { " " } else { "" });
                one(out, &Val::Text(key), verb, layout);
                out.push(':');
                one(out, &value, verb, layout);
                if within(out).is_err() {
                    return;
                }
            }
            out.push(']');
            return;
        }
        _ => (arg.is_nil() && verb == 'v').then(|| padded("<nil>".to_owned(), layout)),
    };
    out.push_str(&simple.unwrap_or_else(|| bad(arg, verb)));
}

fn bad(arg: &Val<'_>, verb: char) -> String {
    format!("%!{verb}({})", with_type(arg))
}

fn padded(text: String, layout: Layout) -> String {
    let count = layout.width.saturating_sub(text.chars().count());
    if count == 0 {
        return text;
    }
    if layout.minus {
        return text + &" ".repeat(count);
    }
    if layout.zero {
        let signed = text.starts_with(['+', '-']) && text.len() > 1;
        let (sign, digits) = text.split_at(usize::from(signed));
        return format!("{sign}{}{digits}", "0".repeat(count));
    }
    " ".repeat(count) + &text
}

fn signed(is_negative: bool, digits: &str, layout: Layout) -> String {
    let sign = match is_negative {
        true => "-",
        false if layout.plus => "+",
        false if layout.space => " ",
        false => "",
    };
    format!("{sign}{digits}")
}

fn whole(value: i128, verb: char, layout: Layout) -> Option<String> {
    let size = value.unsigned_abs();
    let prefix = |text: &str| if layout.sharp { text.to_owned() } else { String::new() };
    let digits = match verb {
        'd' | 'v' => size.to_string(),
        'b' => prefix("0b") + &format!("{size:b}"),
        'o' => prefix("0") + &format!("{size:o}"),
        'O' => format!("0o{size:o}"),
        'x' => prefix("0x") + &format!("{size:x}"),
        'X' => prefix("0X") + &format!("{size:X}"),
        'c' | 'q' | 'U' => {
            let c = u32::try_from(value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
            let text = match verb {
                'c' => c.to_string(),
                'q' => format!("'{}'", quoted(&c.to_string(), '\'')),
                _ if layout.sharp => format!("U+{size:04X} '{c}'"),
                _ => format!("U+{size:04X}"),
            };
            return Some(padded(text, layout));
        }
        _ => return None,
    };
    let digits = match layout.precision {
        Some(precision) => "0".repeat(precision.saturating_sub(digits.len())) + &digits,
        None => digits,
    };
    Some(padded(
        signed(value < 0, &digits, layout),
        Layout { zero: layout.zero && layout.precision.is_none(), ..layout },
    ))
}

fn broken(value: f64, verb: char, layout: Layout) -> Option<String> {
    let size = value.abs();
    let digits = match (verb, layout.precision) {
        _ if !value.is_finite() => float(size).trim_start_matches('+').to_owned(),
        ('f' | 'F', precision) => format!("{size:.*}", precision.unwrap_or(6)),
        ('e', precision) => with_exponent(&format!("{size:.*e}", precision.unwrap_or(6))),
        ('E', precision) => with_exponent(&format!("{size:.*e}", precision.unwrap_or(6))).to_uppercase(),
        ('v' | 'g', None) => float(size),
        ('G', None) => float(size).to_uppercase(),
        ('v' | 'g', Some(precision)) => shortest(size, precision.max(1)),
        ('G', Some(precision)) => shortest(size, precision.max(1)).to_uppercase(),
        _ => return None,
    };
    Some(padded(signed(value.is_sign_negative(), &digits, layout), layout))
}

fn with_exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    go_exponent(digits, exponent.parse().unwrap_or(0))
}

/// `%.3g`: so many digits, without the zeros at the end.
fn shortest(value: f64, digits: usize) -> String {
    let text = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let after = i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent;
    match usize::try_from(after) {
        Ok(after) if exponent >= -4 => trimmed(&format!("{value:.after$}")),
        _ => go_exponent(&trimmed(mantissa), exponent),
    }
}

fn texts(text: &str, verb: char, layout: Layout) -> Option<String> {
    let kept: String = match layout.precision {
        Some(precision) if !matches!(verb, 'x' | 'X') => text.chars().take(precision).collect(),
        _ => text.to_owned(),
    };
    let out = match verb {
        'v' if layout.sharp => quote(text),
        'v' | 's' => kept,
        'q' if layout.sharp && !text.contains(|c: char| c == '`' || c.is_control() && c != '\t') => {
            format!("`{kept}`")
        }
        'q' if layout.plus => format!("\"{}\"", ascii(&quoted(&kept, '"'))),
        'q' => quote(&kept),
        'x' => hex(text, layout),
        'X' => hex(text, layout).to_uppercase(),
        _ => return None,
    };
    Some(padded(out, layout))
}

/// Bytes as hexadecimal digits; the flag space sets them apart, and `#` marks them.
fn hex(text: &str, layout: Layout) -> String {
    let bytes = text.as_bytes().iter().take(layout.precision.unwrap_or(usize::MAX));
    let digits: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    match (layout.space, layout.sharp && !digits.is_empty()) {
        (true, true) => format!("0x{}", digits.join(" 0x")),
        (true, false) => digits.join(" "),
        (false, true) => format!("0x{}", digits.concat()),
        (false, false) => digits.concat(),
    }
}

/// Everything that is not ASCII escaped.
fn ascii(text: &str) -> String {
    let escaped = |c: char| match u32::from(c) {
        0..0x80 => c.to_string(),
        code @ 0x80..0x1_0000 => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    text.chars().map(escaped).collect()
}

/// `strconv.Quote`
pub fn quote(text: &str) -> String {
    format!("\"{}\"", quoted(text, '"'))
}

fn quoted(text: &str, mark: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            c if c == mark => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn printf_says_what_go_says() {
        let list = json!(["a", 1, 2.5]);
        let list = Val::of(&list, Shape::Any);
        let (t, i, f) = (Val::Text, Val::Int, Val::Float);
        for (format, args, expected) in [
            ("%s=%d", vec![t("a"), i(3)], "a=3"),
            ("%v %v", vec![list.clone(), Val::Absent], "[a 1 2.5] <nil>"),
            ("%q", vec![t("a\"\n\u{1}é")], r#""a\"\n\x01é""#),
            ("%5d|%-5d|%05d|%+d", vec![i(42), i(42), i(-42), i(7)], "   42|42   |-0042|+7"),
            ("%5s|%-5s|%.2s", vec![t("ab"), t("ab"), t("abc")], "   ab|ab   |ab"),
            ("%x %X %o %b %#x", vec![i(255), i(255), i(8), i(5), i(255)], "ff FF 10 101 0xff"),
            ("%x", vec![t("hi")], "6869"),
            ("%c %U %q", vec![i(97), i(233), i(97)], "a U+00E9 'a'"),
            ("%.2f %f %e %g", vec![f(1.005), f(1.5), f(1500.0), f(1e7)], "1.00 1.500000 1.500000e+03 1e+07"),
            ("%8.2f|%.3g|%.3g", vec![f(1.5), f(1234.5), f(0.5)], "    1.50|1.23e+03|0.5"),
            ("%t %v", vec![Val::Bool(true), Val::Bool(false)], "true false"),
            ("%T %T", vec![t("x"), i(1)], "string int"),
            ("%d", vec![t("hi")], "%!d(string=hi)"),
            ("%d", vec![Val::Absent], "%!d(<nil>)"),
            ("%d", vec![], "%!d(MISSING)"),
            ("%", vec![], "%!(NOVERB)"),
            ("100%%", vec![], "100%"),
            ("x", vec![i(1), t("b")], "x%!(EXTRA int=1, string=b)"),
            ("%*d|%-*d|", vec![i(4), i(1), i(3), i(2)], "   1|2  |"),
            ("%[2]s %[1]s", vec![t("a"), t("b")], "b a"),
            ("%[3]s", vec![t("a")], "%!s(BADINDEX)"),
            ("%99999999d", vec![i(1)], "%!(BADWIDTH)1"),
            ("%s", vec![list], "[a %!s(int=1) %!s(float64=2.5)]"),
        ] {
            assert_eq!(printf(format, &args).as_deref(), Ok(expected), "{format}");
        }
    }

    #[test]
    fn print_puts_spaces_where_go_does() {
        let args = [Val::Int(1), Val::Int(2), Val::Text("a"), Val::Text("b"), Val::Int(3)];
        assert_eq!(print(&args).as_deref(), Ok("1 2ab3"));
        assert_eq!(print_line(&args).as_deref(), Ok("1 2 a b 3\n"));
    }

    #[test]
    fn what_is_made_has_an_end() {
        assert!(printf(&"%999999d".repeat(100), &vec![Val::Int(1); 100]).is_err());
    }
}
