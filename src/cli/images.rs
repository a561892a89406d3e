//! `load`, `import`, `images`: arguments into the engine's requests, results into lines and tables.

use std::path::Path;

use crate::cli::args::{Images, Import, Load};
use crate::cli::terminal;
use crate::engine::host::Host;
use crate::engine::images::{self, ImageList};
use crate::error::{Error, ErrorKind};
use crate::names::ImageReference;

/// Loads an archive and says which images came in, in Docker's words.
///
/// # Errors
/// What is wrong with the archive.
pub fn load(host: &Host, args: &Load) -> Result<(), Error> {
    let mut warn = |text: &str| terminal::print_warning(text);
    let loaded = images::load(host, args.input.as_deref(), &mut warn)?;
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

/// Makes an image of a tar file and prints its id.
///
/// # Errors
/// What is wrong with the tar file or the name.
pub fn import(host: &Host, args: &Import) -> Result<(), Error> {
    let Some(name) = &args.name else {
        let error = Error::new(ErrorKind::Usage, "an imported image needs a name");
        return Err(error.hint(format!("`cuddy import {} NAME`", args.file)));
    };
    let name: ImageReference = name.parse()?;
    let path = (args.file != "-").then(|| Path::new(&args.file));
    let mut warn = |text: &str| terminal::print_warning(text);
    let loaded = images::import(host, path, &name, &mut warn)?;
    terminal::to_stdout(&loaded.iter().map(|image| format!("{}\n", image.id)).collect::<String>())
}

/// Lists images as Docker's table, as JSON lines, or as ids.
///
/// # Errors
/// What is wrong with the store.
pub fn list(host: &Host, args: &Images) -> Result<(), Error> {
    let list = images::list(host)?;
    match args.format.as_deref() {
        _ if args.quiet => {
            terminal::to_stdout(&list.iter().map(|i| format!("{}\n", short(i))).collect::<String>())
        }
        None | Some("table") => terminal::to_stdout(&table(&list)),
        Some("json") => {
            let line = |image: &ImageList| serde_json::to_string(image).map(|text| text + "\n");
            let text: Result<String, _> = list.iter().map(line).collect();
            terminal::to_stdout(
                &text.map_err(|e| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}")))?,
            )
        }
        Some(other) => {
            let error = Error::new(ErrorKind::Usage, format!("`{other}` is not a format"));
            Err(error.hint("`table` and `json` are"))
        }
    }
}

fn short(image: &ImageList) -> &str {
    &image.id.hex()[..12]
}

fn table(list: &[ImageList]) -> String {
    let mut rows = Vec::new();
    for image in list {
        let row = |name: String, tag: &str| {
            let created = image.created.as_deref().map_or("", |c| c.get(..10).unwrap_or(c));
            vec![
                name,
                tag.to_owned(),
                short(image).to_owned(),
                created.to_owned(),
                terminal::size_text(image.bytes),
            ]
        };
        if image.names.is_empty() {
            rows.push(row("<none>".to_owned(), "<none>"));
        }
        for name in &image.names {
            let tag = name.tag().unwrap_or("<none>");
            let full = name.familiar();
            let repository = full.split('@').next().unwrap_or_default();
            let repository = repository.strip_suffix(&format!(":{tag}")).unwrap_or(repository);
            rows.push(row(repository.to_owned(), tag));
        }
    }
    terminal::table(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
}
