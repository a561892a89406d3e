//! `doctor`, `version`.

use crate::cli::args::{Doctor, Format};
use crate::cli::terminal;
use crate::engine::doctor;
use crate::engine::facts;
use crate::engine::host::Host;
use crate::error::{Error, ErrorKind};

/// Says what this host can do; gives the rung's exit code, 0 for everything.
pub fn doctor(host: &Host, args: &Doctor) -> i32 {
    let report = doctor::examine(&facts::of_host(host));
    let text = match args.format {
        Format::Text => Ok(report.text()),
        Format::Json => serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}"))),
    };
    match text.and_then(|text| terminal::to_stdout(&text)) {
        Ok(()) => i32::from(report.exit_code),
        Err(error) => {
            terminal::print_error(&error);
            terminal::EXIT_RUN
        }
    }
}

/// Prints the version.
///
/// # Errors
/// When standard output cannot be written.
pub fn version() -> Result<(), Error> {
    terminal::to_stdout(concat!("cuddy version ", env!("CARGO_PKG_VERSION"), "\n"))
}
