//! Images: arguments into the engine's requests, results into Docker's lines and tables.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::args::{History, ImageInspect, ImagePrune, Images, Import, Rmi, Tag};
use crate::cli::template::render::render;
use crate::cli::template::rows::Format;
use crate::cli::template::value::Shape;
use crate::cli::terminal;
use crate::cli::units::{self, LIST_DIGITS, SUM_DIGITS};
use crate::engine::catalog::{self, Inspection, Listed, Step};
use crate::engine::filters::{self, Filters};
use crate::engine::host::Host;
use crate::engine::images;
use crate::engine::removal;
use crate::error::{Error, ErrorKind};
use crate::image::removal::Gone;
use crate::image::when;
use crate::names::ImageReference;

/// What stands where there is no name, tag or digest.
pub const NONE: &str = "<none>";
/// Where an image of a step is not known.
const MISSING: &str = "<missing>";
/// Characters of a command in a table.
const COMMAND_CHARS_MAX: usize = 45;
/// Nothing is called young that was made before this, in seconds since 1970: 2000-01-01.
const EPOCH_S: i64 = 946_684_800;
/// How Go calls the rows.
const IMAGE_ROW: Shape = Shape::Struct { name: "*formatter.imageContext", fields: &[] };
const HISTORY_ROW: Shape = Shape::Struct { name: "*image.historyContext", fields: &[] };

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

/// Lists images as a table, as JSON lines, by a template, or their ids.
///
/// # Errors
/// What is wrong with the store or the arguments.
pub fn list(host: &Host, args: &Images) -> Result<(), Error> {
    let now_s = catalog::now_s();
    let mut asked = args.filter.clone();
    asked.extend(args.name.iter().map(|name| format!("reference={name}")));
    let filters = Filters::parse(&asked, filters::OF_IMAGES, now_s)?;
    let columns = match (args.quiet, args.digests) {
        (true, _) => "{{.ID}}",
        (_, true) => "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
        _ => "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    };
    let format = match args.format.as_deref() {
        None | Some("table") if args.quiet => Format::parse(Some(columns), columns)?,
        asked => Format::parse(asked, columns)?,
    };
    let shows_digests = args.digests || format.fields().is_some_and(|fields| fields.contains("Digest"));
    let has_cut = !args.no_trunc;
    let mut rows = Vec::new();
    for image in catalog::list(host, &filters)? {
        for (repository, tag, digest) in names(&image, shows_digests) {
            rows.push(image_row(&image, &repository, &tag, &digest, has_cut, now_s));
        }
    }
    let titles = json!({
        "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID",
        "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "Size": "SIZE", "VirtualSize": "SIZE",
        "Containers": "CONTAINERS", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
    });
    terminal::to_stdout(&format.print(&rows, &titles, IMAGE_ROW)?)
}

/// The lines of an image: repository, tag and digest. One for each tag, and for a repository without one.
fn names(image: &Listed, shows_digests: bool) -> Vec<(String, String, String)> {
    let none = || NONE.to_owned();
    let mut digests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in &image.digests {
        let digest = name.digest().map(ToString::to_string);
        digests.entry(filters::repository(name)).or_default().extend(digest);
    }
    let mut lines = Vec::new();
    let mut tagged: Vec<String> = Vec::new();
    for name in &image.tags {
        let repository = filters::repository(name);
        let tag = name.tag().unwrap_or(NONE).to_owned();
        match digests.get(&repository).filter(|_| shows_digests) {
            Some(digests) => {
                lines.extend(digests.iter().map(|digest| (repository.clone(), tag.clone(), digest.clone())));
            }
            None => lines.push((repository.clone(), tag, none())),
        }
        tagged.push(repository);
    }
    for (repository, digests) in digests.into_iter().filter(|(name, _)| !tagged.contains(name)) {
        let shown = if shows_digests { digests } else { vec![none()] };
        lines.extend(shown.into_iter().map(|digest| (repository.clone(), none(), digest)));
    }
    if lines.is_empty() {
        lines.push((none(), none(), none()));
    }
    lines
}

fn image_row(image: &Listed, repository: &str, tag: &str, digest: &str, has_cut: bool, now_s: i64) -> Value {
    let id = if has_cut { &image.id.hex()[..12] } else { image.id.as_str() };
    let not_known = || "N/A".to_owned();
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "ID": id,
        "CreatedSince": image.created_s.map_or_else(not_known, |created| units::ago(created, now_s)),
        "CreatedAt": image.created_s.map_or_else(not_known, units::moment),
        "Size": units::size(image.bytes, LIST_DIGITS),
        "VirtualSize": units::size(image.bytes, SUM_DIGITS),
        "Containers": "N/A",
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
    })
}

/// Prints the steps in which an image was made.
///
/// # Errors
/// What is wrong with the store or the arguments.
pub fn history(host: &Host, args: &History) -> Result<(), Error> {
    let columns = match args.quiet {
        true => "{{.ID}}",
        false => "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    };
    let format = match args.format.as_deref() {
        None | Some("table") if args.quiet => Format::parse(Some(columns), columns)?,
        asked => Format::parse(asked, columns)?,
    };
    let now_s = catalog::now_s();
    let is_json = matches!(format, Format::Json);
    let steps = catalog::history(host, &args.image)?;
    let rows: Vec<Value> = steps.iter().map(|step| history_row(step, args, is_json, now_s)).collect();
    let titles = json!({
        "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
        "Size": "SIZE", "Comment": "COMMENT",
    });
    terminal::to_stdout(&format.print(&rows, &titles, HISTORY_ROW)?)
}

fn history_row(step: &Step, args: &History, is_json: bool, now_s: i64) -> Value {
    let id = match &step.id {
        Some(id) if args.no_trunc => id.as_str(),
        Some(id) => &id.hex()[..12],
        None => MISSING,
    };
    // Whoever made the image wrote this; JSON escapes it.
    let clean = |text: &str| if is_json { text.to_owned() } else { terminal::harmless(text) };
    let command = clean(&step.created_by.replace('\t', " "));
    let created_at = step.created_s.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), when::text);
    let since = match step.created_s {
        _ if !args.human => created_at.clone(),
        Some(created) if created > EPOCH_S => units::ago(created, now_s),
        _ => "N/A".to_owned(),
    };
    json!({
        "ID": id,
        "CreatedAt": created_at,
        "CreatedSince": since,
        "CreatedBy": if args.no_trunc { command } else { cut(&command, COMMAND_CHARS_MAX) },
        "Size": if args.human { units::size(step.bytes, LIST_DIGITS) } else { step.bytes.to_string() },
        "Comment": clean(&step.comment),
    })
}

/// Text with at most so many characters, the last of which says that some are missing.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

/// Prints what images are, and what is wrong with those that are not there; gives the exit code.
pub fn inspect(host: &Host, args: &ImageInspect) -> i32 {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for image in &args.images {
        match catalog::inspect(host, image) {
            Ok(inspection) => found.push(inspection),
            Err(error) => errors.push(error),
        }
    }
    if let Err(error) =
        inspections(&found, args.format.as_deref()).and_then(|text| terminal::to_stdout(&text))
    {
        errors.push(error);
    }
    errors.iter().for_each(terminal::print_error);
    i32::from(!errors.is_empty())
}

fn inspections(found: &[Inspection], format: Option<&str>) -> Result<String, Error> {
    let wrong = |e: serde_json::Error| Error::new(ErrorKind::Bug, format!("cannot write JSON: {e}"));
    match format {
        None | Some("") => {
            let mut text = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut writer = serde_json::Serializer::with_formatter(&mut text, indent);
            found.serialize(&mut writer).map_err(wrong)?;
            text.push(b'\n');
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some("json") => Ok(serde_json::to_string(found).map_err(wrong)? + "\n"),
        // As Docker: an empty line says that there was nothing to print.
        Some(_) if found.is_empty() => Ok("\n".to_owned()),
        Some(template) => {
            let mut text = String::new();
            for inspection in found {
                text.push_str(&render(template, &catalog::value(inspection)?)?);
                text.push('\n');
            }
            Ok(text)
        }
    }
}

/// Gives an image one more name.
///
/// # Errors
/// What is wrong with the names or the store.
pub fn tag(host: &Host, args: &Tag) -> Result<(), Error> {
    removal::tag(host, &args.source, &args.target)
}

/// Takes images away, as many as can go; gives the exit code.
pub fn remove(host: &Host, args: &Rmi) -> i32 {
    let (mut text, mut code) = (String::new(), 0);
    let mut errors = Vec::new();
    for image in &args.images {
        match removal::remove(host, image, args.force) {
            Ok(gone) => {
                text.push_str(&gone.iter().map(|gone| line(gone, "Untagged", "Deleted")).collect::<String>())
            }
            Err(error) => {
                if !args.force || error.kind != ErrorKind::NotFound {
                    code = 1;
                }
                errors.push(error);
            }
        }
    }
    errors.extend(terminal::to_stdout(&text).err());
    errors.iter().for_each(terminal::print_error);
    code
}

fn line(gone: &Gone, untagged: &str, deleted: &str) -> String {
    match gone {
        Gone::Untagged(name) => format!("{untagged}: {}\n", name.familiar()),
        Gone::Deleted(digest) | Gone::Layers(digest) => format!("{deleted}: {digest}\n"),
    }
}

/// Asks, then takes away the images that nobody needs.
///
/// # Errors
/// What is wrong with the store or the arguments.
pub fn prune(host: &Host, args: &ImagePrune) -> Result<(), Error> {
    let filters = Filters::parse(&args.filter, filters::OF_PRUNE, catalog::now_s())?;
    let what = match args.all {
        true => "all images without at least one container associated to them",
        false => "all dangling images",
    };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !args.force && !terminal::confirm(&question)? {
        return Ok(());
    }
    let pruned = removal::prune_images(host, args.all, &filters, "image prune")?;
    let text = deleted_images(&pruned.images);
    terminal::to_stdout(&format!("{text}Total reclaimed space: {}\n", units::size(pruned.bytes, SUM_DIGITS)))
}

/// What a prune says of the images that went; nothing when none did.
pub fn deleted_images(gone: &[Gone]) -> String {
    if gone.is_empty() {
        return String::new();
    }
    let lines: String = gone.iter().map(|gone| line(gone, "untagged", "deleted")).collect();
    format!("Deleted Images:\n{lines}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(tags: &[&str], digests: &[&str]) -> Listed {
        let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let id = crate::names::Digest::from_bytes(&[1; 32]);
        Listed { id, tags: names(tags), digests: names(digests), created_s: None, bytes: 0 }
    }

    #[test]
    fn an_image_has_a_line_for_each_tag_and_for_each_repository_without_one() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = listed(&["a:1", "a:2", "b:1"], &[&format!("a@{digest}"), &format!("c@{digest}")]);
        let short = |shows| {
            let lines = names(&image, shows).into_iter();
            lines
                .map(|(repository, tag, digest)| format!("{repository} {tag} {}", &digest[..6]))
                .collect::<Vec<_>>()
        };
        assert_eq!(short(true), ["a 1 sha256", "a 2 sha256", "b 1 <none>", "c <none> sha256"]);
        assert_eq!(short(false), ["a 1 <none>", "a 2 <none>", "b 1 <none>", "c <none> <none>"]);
        assert_eq!(names(&listed(&[], &[]), false), [(NONE.to_owned(), NONE.to_owned(), NONE.to_owned())]);
    }

    #[test]
    fn a_long_command_is_cut() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abcde", 4), "abc…");
    }
}
