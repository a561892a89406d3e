//! Pure: sizes and ages as Docker prints them.

use crate::image::when;

/// Significant digits of a size in a list of images.
pub const LIST_DIGITS: usize = 3;
/// Significant digits of a size elsewhere.
pub const SUM_DIGITS: usize = 4;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_HOURS: i64 = 24;

/// Bytes in thousands of 1000, with at most so many significant digits.
pub fn size(bytes: u64, digits: usize) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let mut number = bytes as f64;
    let mut unit = 0;
    while number >= 1000.0 && unit + 1 < units.len() {
        number /= 1000.0;
        unit += 1;
    }
    format!("{}{}", significant(number, digits), units[unit])
}

/// A number as C's `%.*g` prints it.
fn significant(number: f64, digits: usize) -> String {
    let rounded = format!("{number:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let whole_digits = usize::try_from(exponent).unwrap_or(0) + 1;
    let short = |text: &str| {
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        text.to_owned()
    };
    if whole_digits > digits {
        return format!("{}e+{exponent:02}", short(mantissa));
    }
    short(&format!("{number:.*}", digits - whole_digits))
}

/// How long ago a moment is: `2 weeks ago`. Both are in seconds since 1970.
pub fn ago(moment_s: i64, now_s: i64) -> String {
    format!("{} ago", span(now_s.saturating_sub(moment_s)))
}

/// A span of time in the words Docker has for it.
fn span(seconds: i64) -> String {
    let minutes = seconds / MINUTE_S;
    // The half hour counts as a whole one.
    let hours = (seconds + HOUR_S / 2).div_euclid(HOUR_S);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < MINUTE_S => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 2 * DAY_HOURS => format!("{hours} hours"),
        () if hours < 14 * DAY_HOURS => format!("{} days", hours / DAY_HOURS),
        () if hours < 60 * DAY_HOURS => format!("{} weeks", hours / DAY_HOURS / 7),
        () if hours < 730 * DAY_HOURS => format!("{} months", hours / DAY_HOURS / 30),
        () => format!("{} years", seconds / HOUR_S / DAY_HOURS / 365),
    }
}

/// Thousandths of a unit as a number of that unit: 1,234 is `1.234`.
pub fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1000, number % 1000)
}

/// A moment as Go prints one, in UTC.
pub fn moment(seconds: i64) -> String {
    let (year, month, day, hour, minute, second) = when::fields(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_as_docker_prints_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1kB"),
            (1_500, "1.5kB"),
            (12_345_678, "12.3MB"),
            (216_000_000, "216MB"),
            (999_999, "1e+03kB"),
            (1_234_567_890, "1.23GB"),
        ] {
            assert_eq!(size(bytes, LIST_DIGITS), text);
        }
        for (bytes, text) in [(1_234_567, "1.235MB"), (0, "0B"), (120_000, "120kB")] {
            assert_eq!(size(bytes, SUM_DIGITS), text);
        }
    }

    #[test]
    fn ages_are_told_in_docker_s_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * 60, "59 minutes"),
            (60 * 60, "About an hour"),
            (90 * 60, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86_400, "13 days"),
            (14 * 86_400, "2 weeks"),
            (59 * 86_400, "8 weeks"),
            (60 * 86_400, "2 months"),
            (729 * 86_400, "24 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(ago(1_000_000_000, 1_000_000_000 + seconds), format!("{text} ago"), "{seconds}");
        }
    }

    #[test]
    fn a_moment_is_printed_as_go_does() {
        assert_eq!(moment(1_795_374_367), "2026-11-22 19:06:07 +0000 UTC");
    }
}
