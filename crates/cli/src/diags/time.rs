//! Times in the name of the archive and in logs.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since 1970-01-01 in UTC.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Returns a time in UTC, such as `20201231-235959Z`.
pub fn stamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}Z")
}

/// Returns year, month and day of the day with a number, from 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Reads a duration such as `90m`, `24h` or `2d`, in seconds.
///
/// # Errors
/// The text has another form.
pub fn duration(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let read = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    read.filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write a number and s, m, h or d, such as 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let table = [
            (0, "19700101-000000Z"),
            (951_782_400, "20000229-000000Z"),
            (1_609_459_199, "20201231-235959Z"),
            (4_107_542_400, "21000301-000000Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(stamp(seconds), text);
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90m"), Ok(5400));
        assert_eq!(duration("2d"), Ok(172_800));
        for text in [
            "",
            "5",
            "h",
            "-1h",
            "0s",
            "1w",
            "99999999999999999999d",
            "1 h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
