//! `doctor`, `version`, `system df`, `system prune`.

use serde_json::{Value, json};

use crate::cli::args::{Doctor, Format as DoctorFormat, SystemDf, SystemPrune};
use crate::cli::images::{NONE, deleted_images};
use crate::cli::template::render::render;
use crate::cli::template::rows::Format;
use crate::cli::template::value::Shape;
use crate::cli::terminal;
use crate::cli::units::{self, SUM_DIGITS};
use crate::engine::catalog::{self, DiskUsage, ImageUsage, Usage};
use crate::engine::doctor;
use crate::engine::facts;
use crate::engine::filters::{self, Filters};
use crate::engine::host::Host;
use crate::engine::removal;
use crate::error::{Error, ErrorKind};

/// How Go calls the rows.
const USAGE_ROW: Shape = Shape::Struct { name: "*formatter.diskUsageImagesContext", fields: &[] };

/// Says what this host can do; gives the rung's exit code, 0 for everything.
pub fn doctor(host: &Host, args: &Doctor) -> i32 {
    let report = doctor::examine(&facts::of_host(host));
    let text = match args.format {
        DoctorFormat::Text => Ok(report.text()),
        DoctorFormat::Json => serde_json::to_string_pretty(&report)
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

/// Says what takes how much of the disk.
///
/// # Errors
/// What is wrong with the store or the arguments.
pub fn disk_usage(host: &Host, args: &SystemDf) -> Result<(), Error> {
    let usage = catalog::disk_usage(host)?;
    if args.verbose {
        return terminal::to_stdout(&verbose(&usage, args.format.as_deref())?);
    }
    let columns = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    let titles = json!({
        "Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    });
    let rows = [
        usage_row("Images", &usage.images),
        usage_row("Containers", &usage.containers),
        usage_row("Local Volumes", &usage.volumes),
        usage_row("Build Cache", &Usage::default()),
    ];
    let format = Format::parse(args.format.as_deref(), columns)?;
    terminal::to_stdout(&format.print(&rows, &titles, USAGE_ROW)?)
}

fn usage_row(kind: &str, usage: &Usage) -> Value {
    let reclaimable = units::size(usage.reclaimable_bytes, SUM_DIGITS);
    let share = (u128::from(usage.reclaimable_bytes) * 100).checked_div(u128::from(usage.bytes));
    json!({
        "Type": kind,
        "TotalCount": usage.total.to_string(),
        "Active": usage.active.to_string(),
        "Size": units::size(usage.bytes, SUM_DIGITS),
        "Reclaimable": share.map_or(reclaimable.clone(), |share| format!("{reclaimable} ({share}%)")),
    })
}

/// Each image, container and volume: four tables, or one document for a template.
fn verbose(usage: &DiskUsage, format: Option<&str>) -> Result<String, Error> {
    let now_s = catalog::now_s();
    let images: Vec<Value> = usage.each_image.iter().map(|image| image_row(image, now_s)).collect();
    let containers = usage.each_container.iter().map(|(container, bytes)| {
        json!({
            "ID": container.id.short(),
            "Image": container.image,
            "LocalVolumes": container.volumes.to_string(),
            "Size": units::size(*bytes, SUM_DIGITS),
            "Names": container.name.as_ref().map(|name| name.as_str()).unwrap_or_default(),
        })
    });
    let containers = containers.collect::<Vec<_>>();
    let volumes = usage.each_volume.iter().map(|(name, links, bytes)| {
        json!({ "Name": name, "Links": links.to_string(), "Size": units::size(*bytes, SUM_DIGITS) })
    });
    let volumes = volumes.collect::<Vec<_>>();
    let document =
        json!({ "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": [] });
    match format {
        None | Some("" | "table") => {}
        Some("json") => return Ok(format!("{document}\n")),
        Some(template) => return Ok(render(template, &document)? + "\n"),
    }
    let of_images = "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers";
    let tables = [
        ("Images space usage:", "IMAGE ID", of_images, &images),
        ("Containers space usage:", "CONTAINER ID", "ID Image LocalVolumes Size Names", &containers),
        ("Local Volumes space usage:", "", "Name Links Size", &volumes),
        ("Build cache usage: 0B", "CACHE ID", "ID CacheType Size", &Vec::new()),
    ];
    let mut titles = json!({
        "Repository": "REPOSITORY", "Tag": "TAG", "CreatedSince": "CREATED", "Size": "SIZE",
        "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS",
        "Image": "IMAGE", "LocalVolumes": "LOCAL VOLUMES", "Names": "NAMES", "Name": "VOLUME NAME",
        "Links": "LINKS", "CacheType": "CACHE TYPE",
    });
    let mut texts = Vec::new();
    for (heading, id, columns, rows) in tables {
        titles["ID"] = id.into();
        let columns: Vec<String> = columns.split(' ').map(|column| format!("{{{{.{column}}}}}")).collect();
        let table = Format::parse(None, &columns.join("\t"))?.print(rows, &titles, Shape::Any)?;
        texts.push(format!("{heading}\n\n{table}"));
    }
    Ok(texts.join("\n"))
}

fn image_row(usage: &ImageUsage, now_s: i64) -> Value {
    let image = &usage.image;
    let name = image.tags.first();
    let created = image.created_s.map_or_else(|| "N/A".to_owned(), |created| units::ago(created, now_s));
    let size = |bytes| units::size(bytes, SUM_DIGITS);
    json!({
        "Repository": name.map_or_else(|| NONE.to_owned(), filters::repository),
        "Tag": name.and_then(|name| name.tag()).unwrap_or(NONE),
        "ID": &image.id.hex()[..12],
        "CreatedSince": created,
        "Size": size(image.bytes),
        "SharedSize": size(usage.shared_bytes),
        "UniqueSize": size(image.bytes.saturating_sub(usage.shared_bytes)),
        "Containers": usage.containers.to_string(),
    })
}

/// Asks, then takes away what nobody needs.
///
/// # Errors
/// What is wrong with the store or the arguments.
pub fn prune(host: &Host, args: &SystemPrune) -> Result<(), Error> {
    let filters = Filters::parse(&args.filter, filters::OF_PRUNE, catalog::now_s())?;
    if args.volumes && filters.until_s.is_some() {
        let text = "the `until` filter is not supported with `--volumes`";
        return Err(Error::new(ErrorKind::Usage, text));
    }
    if !args.force && !terminal::confirm(&question(args))? {
        return Ok(());
    }
    let mut text = String::new();
    let mut bytes = 0;
    if args.volumes && !filters.asks_for_labels() {
        let pruned = removal::prune_volumes(host)?;
        bytes += pruned.bytes;
        if !pruned.volumes.is_empty() {
            text.push_str(&format!("Deleted Volumes:\n{}\n\n", pruned.volumes.join("\n")));
        }
    }
    let pruned = removal::prune_images(host, args.all, &filters, "system prune")?;
    bytes += pruned.bytes;
    text.push_str(&deleted_images(&pruned.images));
    terminal::to_stdout(&format!("{text}Total reclaimed space: {}\n", units::size(bytes, SUM_DIGITS)))
}

fn question(args: &SystemPrune) -> String {
    let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n".to_owned();
    if args.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(match args.all {
        true => "  - all images without at least one container associated to them\n  - all build cache\n",
        false => "  - all dangling images\n  - unused build cache\n",
    });
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        let mut filters = args.filter.clone();
        filters.sort();
        filters.iter().for_each(|filter| text.push_str(&format!("  - {filter}\n")));
    }
    text.push_str("\nAre you sure you want to continue?");
    text
}
