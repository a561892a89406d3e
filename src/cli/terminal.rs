//! What a person sees: errors, warnings, tables, JSON; and the exit code of an error.
//!
//! Data goes to standard output, everything else to standard error; nothing else in the crate prints.

use std::io::{BufRead, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::termios::{LocalModes, OptionalActions, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{Error, ErrorKind};

/// Docker's exit code for an error of ours before the command of `run` was executed.
pub const EXIT_RUN: i32 = 125;

/// Longest answer of a person, in bytes: a token can be long.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Prints an error and its hints to standard error.
pub fn print_error(error: &Error) {
    let mut text = format!("cuddy: {}\n", harmless(&error.to_string()));
    for hint in &error.hints {
        text.push_str(&format!("  hint: {}\n", harmless(hint)));
    }
    to_stderr(&text);
}

/// Prints one line that the reader should know to standard error.
pub fn print_warning(text: &str) {
    to_stderr(&format!("cuddy: warning: {}\n", harmless(text)));
}

/// Text that may hold names from archives, profiles, registries and MCP servers: what could steer a terminal, or
/// hides from the eye, is shown, not sent.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| if is_tricky(c) { c.escape_unicode().collect::<String>() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The same for a line of JSON, which stays the same value.
pub fn harmless_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_tricky(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Control characters; what turns the direction of text round, has no width, or is a tag: a person does not see
/// it, and a model reads it.
fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Prints text to standard error; a reader that is gone is no error.
pub fn to_stderr(text: &str) {
    let _written = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints data to standard output.
///
/// # Errors
/// `Failed` when it could not be written; a reader that left early is no error.
pub fn to_stdout(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Failed, format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Whether somebody still reads standard output: a pipe without a reader says so.
pub fn has_reader() -> bool {
    let out = rustix::stdio::stdout();
    let mut polled = [PollFd::new(&out, PollFlags::empty())];
    let told = rustix::event::poll(&mut polled, Some(&Timespec::default()));
    told.is_err() || !polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Lines and columns of the terminal that standard output is; `None` when it is none.
pub fn size() -> Option<(usize, usize)> {
    let out = rustix::stdio::stdout();
    let size = tcgetwinsize(out).ok().filter(|_| isatty(out))?;
    Some((size.ws_row.into(), size.ws_col.into()))
}

/// Whether a person can be asked: standard input and error are a terminal.
pub fn is_interactive() -> bool {
    isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stderr())
}

/// All of standard input, at most `bytes_max` bytes of text.
///
/// # Errors
/// `Limit` when it is more, `Corrupt` when it is no text, or what the kernel says.
pub fn read_stdin(bytes_max: u64) -> Result<String, Error> {
    let wrong = |kind, text: String| Error::new(kind, format!("cannot read standard input: {text}"));
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|e| wrong(ErrorKind::Failed, e.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(wrong(ErrorKind::Limit, format!("it is larger than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_unsaid| wrong(ErrorKind::Corrupt, "it is not UTF-8".to_owned()))
}

/// Asks the person at the terminal for one line.
///
/// # Errors
/// When the terminal cannot be read.
pub fn ask(question: &str) -> Result<String, Error> {
    to_stderr(question);
    let mut line = String::new();
    let read = std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line);
    read.map_err(|e| Error::new(ErrorKind::Failed, format!("cannot read the answer: {e}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The same, and what is typed is not shown.
///
/// # Errors
/// When the terminal cannot be read, or would show it.
pub fn ask_secret(question: &str) -> Result<String, Error> {
    let stdin = rustix::stdio::stdin();
    let wrong =
        |e| Error::new(ErrorKind::Failed, format!("cannot keep the terminal from showing a secret: {e}"));
    let before = tcgetattr(stdin).map_err(wrong)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin, OptionalActions::Now, &hidden).map_err(wrong)?;
    let answer = ask(question);
    tcsetattr(stdin, OptionalActions::Now, &before).map_err(wrong)?;
    to_stderr("\n");
    answer
}

/// Asks a question on standard output and reads a line of standard input: `y` is yes, and everything else,
/// also its end, is no. As in Docker, a terminal or none makes no difference.
///
/// # Errors
/// When the question cannot be printed or the answer cannot be read.
pub fn confirm(question: &str) -> Result<bool, Error> {
    to_stdout(&format!("{question} [y/N] "))?;
    let mut answer = Vec::new();
    let mut input = std::io::stdin().lock();
    let mut byte = [0];
    while (answer.len() as u64) < ANSWER_BYTES_MAX {
        let read = input.read(&mut byte).map_err(|e| {
            Error::new(ErrorKind::Failed, format!("cannot read the answer from standard input: {e}"))
        })?;
        if read == 0 || byte == *b"\n" {
            break;
        }
        answer.extend(byte);
    }
    Ok(answer.trim_ascii().eq_ignore_ascii_case(b"y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J`b`\r\n"), "a\\u{1b}[2J`b`\\u{d}\\u{a}");
        assert_eq!(harmless("x\u{202e}y\u{e0041}\u{9b}é漢"), "x\\u{202e}y\\u{e0041}\\u{9b}é漢");
    }

    #[test]
    fn json_that_is_made_harmless_says_the_same() {
        let value = serde_json::json!({"a\u{9b}": "\u{e0041}\u{202e}\u{1b}[2J é"});
        let shown = harmless_json(&value.to_string());
        assert!(!shown.chars().any(is_tricky), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
