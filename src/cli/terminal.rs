//! What a person sees: errors, warnings, tables, JSON; and the exit code of an error.
//!
//! Data goes to standard output, everything else to standard error; nothing else in the crate prints.

use std::io::Write;

use crate::error::{Error, ErrorKind};

/// Docker's exit code for an error of ours before the command of `run` was executed.
pub const EXIT_RUN: i32 = 125;

/// Prints an error and its hints to standard error.
pub fn print_error(error: &Error) {
    let mut text = format!("cuddy: {error}\n");
    for hint in &error.hints {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    to_stderr(&text);
}

/// Prints one line that the reader should know to standard error.
pub fn print_warning(text: &str) {
    to_stderr(&format!("cuddy: warning: {text}\n"));
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
