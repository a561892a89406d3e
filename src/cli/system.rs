//! system
use crate::cli::args::Doctor;
use crate::cli::terminal;
use crate::engine::host::Host;
use crate::error::Error;
/// x
pub fn doctor(_h: &Host, _a: &Doctor) -> i32 { 125 }
/// Prints the version.
///
/// # Errors
/// When standard output cannot be written.
pub fn version() -> Result<(), Error> { terminal::to_stdout(concat!("cuddy version ", env!("CARGO_PKG_VERSION"), "\n")) }
