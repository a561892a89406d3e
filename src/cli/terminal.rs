//! What a person sees: errors, warnings, tables, JSON; and the exit code of an error.
//!
//! Data goes to standard output, everything else to standard error; nothing else in the crate prints.

use std::io::{Read, Write};

use crate::error::{Error, ErrorKind};

/// Docker's exit code for an error of ours before the command of `run` was executed.
pub const EXIT_RUN: i32 = 125;

/// Longest answer to a question, in bytes.
const ANSWER_BYTES_MAX: usize = 1024;

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

/// Text that may hold names from archives and profiles: what could steer a terminal is shown, not sent.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_unicode().collect::<String>() } else { c.to_string() };
    text.chars().map(shown).collect()
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
    while answer.len() < ANSWER_BYTES_MAX {
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
    }
}
