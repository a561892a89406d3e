//! Pure: moments as images write them (RFC 3339) into seconds since 1970 and back. It asks no clock and
//! knows no time zone but the one that is written.

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The moment that `text` says: seconds since 1970 and nanoseconds. A date alone is its midnight in UTC.
pub fn parse(text: &str) -> Option<(i64, u32)> {
    let (date, rest) = text.split_at_checked(10)?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let midnight = days_before(year, month, day) * DAY_S;
    let Some(time) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then_some((midnight, 0));
    };
    let zone_at = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = parts.next().map_or(Some(0), number)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9).and_then(number)?;
    let seconds = midnight + hour * 3600 + minute * 60 + second - offset_s(zone)?;
    Some((seconds, u32::try_from(nanos).ok()?))
}

/// Seconds that a zone is ahead of UTC; none written is UTC.
fn offset_s(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None => return Some(0),
        Some('Z' | 'z') => return (zone.len() == 1).then_some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours < 24 && minutes < 60).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Days from 1970-01-01 to this day of the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    // Years begin with March here, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// Year, month, day, hour, minute and second of a moment, in UTC.
pub fn fields(seconds: i64) -> (i64, i64, i64, i64, i64, i64) {
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day, second / 3600, second / 60 % 60, second % 60)
}

/// A moment as RFC 3339 has it, in UTC, to the second.
pub fn text(seconds: i64) -> String {
    let (year, month, day, hour, minute, second) = fields(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_in_every_zone_it_is_written_in() {
        for (written, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-22T19:06:07.123456789Z", 1_795_374_367),
            ("2026-11-22T20:06:07+01:00", 1_795_374_367),
            ("2026-11-22T14:36:07-04:30", 1_795_374_367),
            ("2026-11-22", 1_795_305_600),
            ("2026-11-22 00:00", 1_795_305_600),
            ("0001-01-01T00:00:00Z", -62_135_596_800),
        ] {
            assert_eq!(parse(written).map(|(s, _)| s), Some(seconds), "{written}");
        }
        assert_eq!(parse("2026-11-22T19:06:07.5Z").map(|(_, nanos)| nanos), Some(500_000_000));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for written in [
            "",
            "2026",
            "2026-13-01",
            "2026-01-00",
            "2026-01-01T",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00+x",
            "２０２６-01-01",
        ] {
            assert_eq!(parse(written), None, "{written}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_written_and_read_the_same() {
        for day in -1000..146_097 {
            let seconds = day * DAY_S + 3661;
            assert_eq!(parse(&text(seconds)), Some((seconds, 0)), "{}", text(seconds));
        }
    }
}
