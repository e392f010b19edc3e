//! Durations in the format of Mesos's flags, such as `5mins` and `1.5hrs`.

use std::time::Duration;

/// Remedy of every mistake in a duration.
pub(super) const REMEDY: &str =
    "write a number and a unit, such as \"5mins\"; the units are ns us ms secs mins hrs days weeks";

/// Units and their lengths in seconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("secs", 1.0),
    ("mins", 60.0),
    ("hrs", 3600.0),
    ("days", 86_400.0),
    ("weeks", 604_800.0),
];

/// Parses a duration, which must be greater than zero. The error continues a sentence that
/// begins with the value.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len()));
    let Some((_, seconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err("has no known unit".to_owned());
    };
    let number: f64 = number
        .trim()
        .parse()
        .map_err(|_| "has no number before its unit".to_owned())?;
    if number <= 0.0 {
        return Err("is not above zero".to_owned());
    }
    match Duration::try_from_secs_f64(number * seconds) {
        // Mesos counts nanoseconds in 63 bits.
        Ok(duration) if duration.as_nanos() <= i64::MAX as u128 && !duration.is_zero() => {
            Ok(duration)
        }
        Ok(duration) if duration.is_zero() => Err("is less than a nanosecond".to_owned()),
        _ => Err("is more than 292 years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use std::time::Duration;

    #[test]
    fn durations_of_mesos_are_read() {
        for (text, millis) in [
            ("5mins", 300_000),
            ("1ms", 1),
            ("1.5hrs", 5_400_000),
            ("0.25secs", 250),
            (" 2 days ", 172_800_000),
            ("1weeks", 604_800_000),
            ("3000us", 3),
            ("15250weeks", 9_223_200_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("17ns"), Ok(Duration::from_nanos(17)));
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for (text, what) in [
            ("", "has no known unit"),
            ("5", "has no known unit"),
            ("5 minutes", "has no known unit"),
            ("mins", "has no number before its unit"),
            ("one mins", "has no known unit"),
            ("1.2.3secs", "has no number before its unit"),
            ("0secs", "is not above zero"),
            ("-1secs", "is not above zero"),
            ("0.1ns", "is less than a nanosecond"),
            ("15251weeks", "is more than 292 years"),
            ("1000000weeks", "is more than 292 years"),
        ] {
            assert_eq!(parse(text), Err(what.to_owned()), "{text}");
        }
    }
}
