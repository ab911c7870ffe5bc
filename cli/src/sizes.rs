//! Sizes and times, as users write and read them.

use ar7::Timestamp;
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The suffixes of a size, in upper case.
const UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KIB", 1 << 10),
    ("M", 1 << 20),
    ("MIB", 1 << 20),
    ("G", 1 << 30),
    ("GIB", 1 << 30),
    ("T", 1 << 40),
    ("TIB", 1 << 40),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Parses a size: a number of bytes with an optional suffix. `K`, `M`, `G`, `T` and `KiB` to `TiB` are powers of 1024;
/// `KB` to `TB` are powers of 1000. (The crates `bytesize` and `parse-size` treat `K` as `KB`, and accept fractions.)
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit = UNITS.iter().find(|(unit, _)| suffix.eq_ignore_ascii_case(unit));
    let (Ok(number), Some((_, unit))) = (number.parse::<u64>(), unit) else {
        return Err(format!("expected a size such as 4096, 64KiB, 1G or 500MB, found {text:?}"));
    };
    number.checked_mul(*unit).ok_or_else(|| format!("{text} is too large"))
}

/// Parses a time: a date or a date and time, in the local time zone or with an offset, or an age.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let now = Zoned::now();
    let local =
        |time: DateTime| time.to_zoned(now.time_zone().clone()).ok().map(|time| time.timestamp());
    let ago = |age: jiff::Span| now.checked_sub(age.abs()).ok().map(|time| time.timestamp());
    let parsed = text.parse::<jiff::Timestamp>().ok();
    let parsed = parsed.or_else(|| text.parse().ok().and_then(local));
    let parsed = parsed.or_else(|| text.parse().ok().and_then(ago)).ok_or_else(|| {
        format!("expected a time such as 2026-01-31, 2026-01-31T12:00, or an age such as '2 days', found {text:?}")
    })?;
    Ok(std::time::SystemTime::from(parsed).into())
}

/// Formats a time in the local time zone, to the minute.
pub(crate) fn minute_text(time: Timestamp) -> String {
    match jiff::Timestamp::new(time.seconds, i32::try_from(time.nanoseconds).unwrap_or(0)) {
        Ok(known) => known.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_an_age() {
        let parsed = |text: &str| parse_time(text).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(parsed("1970-01-02T00:00:00.5Z"), Ok((86_400, 500_000_000)));
        assert_eq!(parsed("1969-12-31T23:59:59.25Z"), Ok((-1, 250_000_000)));
        assert_eq!(parsed("1970-01-01T02:00:00+02:00"), Ok((0, 0)));
        // At noon, and at midnight, in any time zone.
        let (noon, day) = (parsed("2026-01-31T12:00"), parsed("2026-01-31"));
        assert_eq!(noon.map(|(seconds, _)| seconds - 43_200), day.map(|(seconds, _)| seconds));
        let now = Timestamp::now().seconds;
        for (age, seconds) in [("2 hours", 7200), ("90s", 90), ("1 week", 604_800)] {
            let ago = now - parse_time(age).expect(age).seconds;
            // A change of the clocks may be in between.
            assert!((seconds - 3601..seconds + 3660).contains(&ago), "{age}: {ago}");
        }
        for text in ["", "yesterday", "31.01.2026", "5"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_has_a_binary_or_decimal_suffix_or_none() {
        for (text, bytes) in [
            ("0", 0),
            ("10b", 10),
            ("4K", 4096),
            ("4MiB", 4 << 20),
            ("2gib", 2 << 30),
            ("8T", 8 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, bytes) in [("1KB", 1000), ("1MB", 1_000_000), ("1TB", 1_000_000_000_000)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "1 G", "99999999999T", "18446744073709551616"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
