//! What a person sees: errors, warnings, tables, JSON; and the exit code of an error.
//!
//! Data goes to standard output, everything else to standard error; nothing else in the crate prints.

use std::io::Write;

use crate::error::{Error, ErrorKind};

/// Docker's exit code for an error of ours before the command of `run` was executed.
pub const EXIT_RUN: i32 = 125;

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
fn harmless(text: &str) -> String {
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

/// Lays rows out under a heading, columns three spaces apart, as Docker does.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    };
    line(&heading.iter().map(|&h| h.to_owned()).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J`b`\r\n"), "a\\u{1b}[2J`b`\\u{d}\\u{a}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["longer".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["A", "B"], &rows), "A        B\nlonger   x\n");
    }
}
