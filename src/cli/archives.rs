//! `load` and `save`: arguments into the engine's requests, what came in as Docker's lines.

use crate::cli::args::{Daemon, Load, Save};
use crate::cli::terminal;
use crate::engine::archives::{self, Origin};
use crate::engine::host::Host;
use crate::error::Error;

/// Loads an archive and says which images came in, in Docker's words.
///
/// # Errors
/// What is wrong with the archive.
pub fn load(host: &Host, args: &Load) -> Result<(), Error> {
    let mut warn = |text: &str| terminal::print_warning(text);
    let origin = match (&args.from, &args.input) {
        (Some(Daemon::Docker), _) => Origin::Docker(args.images.clone()),
        (None, Some(input)) => Origin::named(host, input),
        (None, None) => Origin::Stdin,
    };
    let loaded = archives::load(host, &origin, args.platform.as_deref(), &mut warn)?;
    let mut text = String::new();
    for image in loaded {
        for name in &image.names {
            let line =
                if args.quiet { name.familiar() } else { format!("Loaded image: {}", name.familiar()) };
            text.push_str(&format!("{line}\n"));
        }
        if image.names.is_empty() {
            let line =
                if args.quiet { image.id.to_string() } else { format!("Loaded image ID: {}", image.id) };
            text.push_str(&format!("{line}\n"));
        }
    }
    terminal::to_stdout(&text)
}

/// Writes images out; nothing is printed.
///
/// # Errors
/// Which image is not there, or what is wrong with where it goes.
pub fn save(host: &Host, args: &Save) -> Result<(), Error> {
    let target = archives::target(args.format.as_deref(), args.output.as_deref())?;
    archives::save(host, &args.images, args.platform.as_deref(), &target)
}
