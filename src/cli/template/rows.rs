//! Pure: `--format` of what lists things: `table`, `table TEMPLATE`, `json` or a template, laid out as
//! Docker does. Which fields there are and how their columns are called is the caller's.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cli::template::parse::TemplateError;
use crate::cli::template::render::Template;
use crate::cli::template::value::Shape;

/// Narrowest column of a table, in characters, as Docker has it.
const COLUMN_CHARS_MIN: usize = 10;
/// Spaces between two columns.
const GAP_CHARS: usize = 3;

/// How rows are printed.
#[derive(Debug, Clone)]
pub enum Format {
    /// One JSON object in a line for each row.
    Json,
    /// Columns under a heading.
    Table(Template),
    /// A line for each row.
    Lines(Template),
}

impl Format {
    /// Reads `--format`; `table` alone, or nothing, means `columns`: `{{.ID}}\t{{.Size}}`.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: Option<&str>, columns: &str) -> Result<Self, TemplateError> {
        // What a shell cannot type easily stands for itself.
        let plain = |text: &str| text.trim_matches(' ').replace("\\t", "\t").replace("\\n", "\n");
        match text {
            None | Some("" | "table") => Ok(Self::Table(Template::parse(&plain(columns))?)),
            Some("json") => Ok(Self::Json),
            Some(text) => match text.strip_prefix("table") {
                Some(rest) => Ok(Self::Table(Template::parse(&plain(rest))?)),
                None => Ok(Self::Lines(Template::parse(&plain(text))?)),
            },
        }
    }

    /// The fields that are printed; nothing when it is all of them.
    pub fn fields(&self) -> Option<BTreeSet<&str>> {
        match self {
            Self::Json => None,
            Self::Table(template) | Self::Lines(template) => Some(template.fields()),
        }
    }

    /// Prints the rows; `titles` has the heading of each field, `shape` is the rows'.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn print(&self, rows: &[Value], titles: &Value, shape: Shape) -> Result<String, TemplateError> {
        let (template, mut text) = match self {
            Self::Json => return Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            Self::Table(template) => (template, template.heading(titles)? + "\n"),
            Self::Lines(template) => (template, String::new()),
        };
        for row in rows {
            text.push_str(&template.render(row, shape)?);
            text.push('\n');
        }
        Ok(if matches!(self, Self::Table(_)) { columns(&text) } else { text })
    }
}

/// Text with tabs as columns: each as wide as its widest cell among neighbouring lines that have it,
/// as Go's `tabwriter` does.
fn columns(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let most = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most {
        let mut from = 0;
        while from < lines.len() {
            let run = widths[from..].iter().take_while(|cells| cells.len() > column).count();
            let widest =
                lines[from..from + run].iter().map(|cells| cells[column].chars().count() + GAP_CHARS);
            let width = widest.max().unwrap_or(0).max(COLUMN_CHARS_MIN);
            widths[from..from + run].iter_mut().for_each(|cells| cells[column] = width);
            from += run.max(1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (n, cell) in cells.iter().enumerate() {
            match widths.get(n) {
                Some(width) => out.push_str(&format!("{cell:width$}")),
                None => out.push_str(cell),
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(format: Option<&str>) -> Result<String, TemplateError> {
        let rows =
            [json!({"ID": "1234567890ab", "Names": "web"}), json!({"ID": "b", "Names": "a-long-name"})];
        let titles = json!({"ID": "CONTAINER ID", "Names": "NAMES"});
        const ROW: Shape = Shape::Struct { name: "*formatter.ContainerContext", fields: &[] };
        Format::parse(format, "{{.ID}}\\t{{.Names}}")?.print(&rows, &titles, ROW)
    }

    #[test]
    fn tables_are_laid_out_as_docker_does() {
        let table = "CONTAINER ID   NAMES\n1234567890ab   web\nb              a-long-name\n";
        assert_eq!(printed(None).as_deref(), Ok(table));
        assert_eq!(printed(Some("table {{.ID}}\t{{.Names}}")).as_deref(), Ok(table));
        assert_eq!(printed(Some("table {{.ID}}\\t{{.Names}}")).as_deref(), Ok(table));
        let upper = "NAMES\nWEB\nA-LONG-NAME\n";
        assert_eq!(printed(Some("table {{upper .Names}}")).as_deref(), Ok(upper));
        assert_eq!(printed(Some("table {{.Names | truncate 3}}")).map(|t| t.lines().count()).ok(), None);
        let cut = "NAMES\nweb\na-l\n";
        assert_eq!(printed(Some("table {{truncate .Names 3}}")).as_deref(), Ok(cut));
    }

    #[test]
    fn lines_and_json_have_no_heading() {
        assert_eq!(
            printed(Some("{{.ID}}: {{.Names}}")).as_deref(),
            Ok("1234567890ab: web\nb: a-long-name\n")
        );
        assert_eq!(printed(Some("{{.ID}}\\n")).map(|t| t.lines().count()).ok(), Some(4));
        assert_eq!(
            printed(Some("json")).as_deref(),
            Ok("{\"ID\":\"1234567890ab\",\"Names\":\"web\"}\n{\"ID\":\"b\",\"Names\":\"a-long-name\"}\n")
        );
    }

    #[test]
    fn a_field_that_is_none_is_an_error_in_dockers_words() {
        let wrong = printed(Some("{{.Nope}}")).expect_err("there is no such field").to_string();
        assert_eq!(
            wrong,
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: \
             can't evaluate field Nope in type *formatter.ContainerContext"
        );
    }

    #[test]
    fn the_narrowest_column_has_ten_characters() {
        assert_eq!(columns("A\tB\nx\ty\n"), "A         B\nx         y\n");
        assert_eq!(columns("alone\na\tb\n"), "alone\na         b\n");
    }
}
