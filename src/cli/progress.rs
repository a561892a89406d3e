//! Layers on their way, in Docker's words: a bar for each on a terminal, a line for each change elsewhere.
//! It decides nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cli::terminal;
use crate::cli::units;
use crate::image::registry::event::{Event, Step};

/// How often one bar is drawn at most.
const DRAW_MS: u64 = 100;
/// The width of a bar, in characters.
const BAR: usize = 50;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Not at all.
    Quiet,
    /// A line for each change.
    Lines,
    /// A line for each layer, drawn again: at most so many of so many characters.
    Bars { lines: usize, columns: usize },
}

/// What was drawn last.
#[derive(Debug, Default)]
struct Drawn {
    /// By the name of a layer: its line, and when it was drawn.
    layers: BTreeMap<String, (usize, Instant)>,
}

/// Shows what happens; several threads tell it.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    drawn: Mutex<Drawn>,
}

impl Progress {
    /// On standard output, as it is.
    pub fn new(is_quiet: bool) -> Self {
        let size = terminal::size();
        let style = match size {
            _ if is_quiet => Style::Quiet,
            Some((lines, columns)) if lines > 3 && columns > 30 => Style::Bars { lines: lines - 2, columns },
            _ => Style::Lines,
        };
        Self { style, drawn: Mutex::default() }
    }

    /// Shows one thing.
    pub fn show(&self, event: Event<'_>) {
        if self.style == Style::Quiet {
            return;
        }
        let mut drawn = self.drawn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let text = match (event, self.style) {
            (Event::Layer { digest, step }, Style::Bars { lines, columns }) => {
                bar(&mut drawn, &digest.hex()[..12], step, lines, columns)
            }
            (Event::Layer { digest, step }, _) => {
                words(step).map(|words| format!("{}: {words}\n", &digest.hex()[..12])).unwrap_or_default()
            }
            (other, _) => {
                drawn.layers.clear();
                line(other)
            }
        };
        // A reader that is gone, or a full disk behind it, does not stop the layers.
        let _written = terminal::to_stdout(&text);
    }
}

/// What is said of an image, in Docker's words.
fn line(event: Event<'_>) -> String {
    match event {
        Event::Pulling(reference) => {
            let asked = match reference.digest() {
                Some(_) => reference.to_string(),
                None => reference.tag().unwrap_or("latest").to_owned(),
            };
            format!("{asked}: Pulling from {}\n", reference.repository())
        }
        Event::Pulled { reference, digest, is_new } => {
            let status = if is_new { "Downloaded newer image for" } else { "Image is up to date for" };
            format!("Digest: {digest}\nStatus: {status} {}\n", reference.familiar())
        }
        Event::Pushing(reference) => {
            format!("The push refers to repository [{}/{}]\n", reference.domain(), reference.repository())
        }
        Event::Pushed { reference, digest, bytes } => {
            format!("{}: digest: {digest} size: {bytes}\n", reference.tag().unwrap_or("latest"))
        }
        Event::Layer { .. } => String::new(),
    }
}

/// What is said of a layer; nothing of what changes all the time.
fn words(step: Step<'_>) -> Option<String> {
    Some(match step {
        Step::Waiting => "Pulling fs layer".to_owned(),
        Step::Downloading { .. } | Step::Uploading { .. } => return None,
        Step::Downloaded => "Download complete".to_owned(),
        Step::Pulled => "Pull complete".to_owned(),
        Step::Exists => "Already exists".to_owned(),
        Step::Retrying { after_s: 1, .. } => "Retrying in 1 second".to_owned(),
        Step::Retrying { after_s, .. } => format!("Retrying in {after_s} seconds"),
        Step::Preparing => "Preparing".to_owned(),
        Step::Pushed => "Pushed".to_owned(),
        Step::ThereAlready => "Layer already exists".to_owned(),
        Step::Mounted(from) => format!("Mounted from {from}"),
    })
}

/// The line of a layer, drawn where it stands.
fn bar(drawn: &mut Drawn, name: &str, step: Step<'_>, lines: usize, columns: usize) -> String {
    let now = Instant::now();
    let text = match step {
        Step::Downloading { done_bytes, bytes } => measured("Downloading", done_bytes, bytes),
        Step::Uploading { done_bytes, bytes } => measured("Pushing", done_bytes, bytes),
        other => words(other).unwrap_or_default(),
    };
    let text: String = format!("{name}: {text}").chars().take(columns - 1).collect();
    let count = drawn.layers.len();
    let Some((at, when)) = drawn.layers.get_mut(name) else {
        drawn.layers.insert(name.to_owned(), (count, now));
        return format!("{text}\n");
    };
    let is_moving = matches!(step, Step::Downloading { .. } | Step::Uploading { .. });
    if is_moving && now.duration_since(*when) < Duration::from_millis(DRAW_MS) {
        return String::new();
    }
    *when = now;
    let up = count - *at;
    // A line that has left the screen stays as it is.
    if up > lines {
        return String::new();
    }
    format!("\x1b[{up}A\r\x1b[2K{text}\r\x1b[{up}B")
}

fn measured(word: &str, done: u64, all: u64) -> String {
    let whole = all.max(1);
    let filled = usize::try_from(done.min(whole).saturating_mul(BAR as u64) / whole).unwrap_or(BAR);
    let bar = format!("{}>", "=".repeat(filled));
    let width = BAR + 1;
    format!(
        "{word} [{bar:width$}] {}/{}",
        units::size(done, units::SUM_DIGITS),
        units::size(all, units::SUM_DIGITS)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_drawn_where_its_layer_stands() {
        let mut drawn = Drawn::default();
        assert_eq!(bar(&mut drawn, "a", Step::Waiting, 20, 80), "a: Pulling fs layer\n");
        assert_eq!(bar(&mut drawn, "b", Step::Waiting, 20, 80), "b: Pulling fs layer\n");
        assert_eq!(bar(&mut drawn, "a", Step::Pulled, 20, 80), "\x1b[2A\r\x1b[2Ka: Pull complete\r\x1b[2B");
        assert_eq!(bar(&mut drawn, "a", Step::Pulled, 1, 80), "", "it is above the screen");
        let text = measured("Downloading", 5, 10);
        assert_eq!(text, format!("Downloading [{}>{}] 5B/10B", "=".repeat(25), " ".repeat(25)));
    }

    #[test]
    fn images_are_told_in_dockers_words() {
        let reference = "localhost:5000/team/app".parse().unwrap();
        assert_eq!(line(Event::Pulling(&reference)), "latest: Pulling from team/app\n");
        let digest = crate::names::Digest::from_bytes(&[0; 32]);
        let text = line(Event::Pulled { reference: &reference, digest: &digest, is_new: true });
        assert!(
            text.ends_with("\nStatus: Downloaded newer image for localhost:5000/team/app:latest\n"),
            "{text}"
        );
        assert_eq!(
            line(Event::Pushing(&reference)),
            "The push refers to repository [localhost:5000/team/app]\n"
        );
    }
}
