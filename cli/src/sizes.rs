//! Parses sizes and formats shares and times for users.

use ar7::Timestamp;
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Parses a size: a number of bytes with an optional suffix. `K`, `M`, `G`, `T` and `KiB` to `TiB` are powers of 1024;
/// `KB` to `TB` are powers of 1000. (The crates `bytesize` and `parse-size` treat `K` as `KB`, and accept fractions.)
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unknown = || format!("expected a size such as 4096, 64KiB, 1G or 500MB, found {text:?}");
    let number: u64 = number.parse().map_err(|_| unknown())?;
    let (letter, base) = match suffix.to_ascii_uppercase().as_str() {
        "" | "B" => return Ok(number),
        "K" | "KIB" => ('K', 1024_u64),
        "M" | "MIB" => ('M', 1024),
        "G" | "GIB" => ('G', 1024),
        "T" | "TIB" => ('T', 1024),
        "KB" => ('K', 1000),
        "MB" => ('M', 1000),
        "GB" => ('G', 1000),
        "TB" => ('T', 1000),
        _ => return Err(unknown()),
    };
    let power = match letter {
        'K' => 1,
        'M' => 2,
        'G' => 3,
        _ => 4,
    };
    let factor = base.pow(power);
    number.checked_mul(factor).ok_or_else(|| format!("{text} is too large"))
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
    // The calendar ends long before the seconds do.
    let nanoseconds = parsed.as_nanosecond().rem_euclid(1_000_000_000);
    let seconds = i64::try_from(parsed.as_nanosecond().div_euclid(1_000_000_000));
    Ok(Timestamp::new(seconds.unwrap_or_default(), u32::try_from(nanoseconds).unwrap_or_default()))
}

/// Formats a share as a percentage with one decimal; 0 if the whole is 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let tenths = match whole {
        0 => 0,
        _ => u128::from(part) * 1000 / u128::from(whole),
    };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Formats a time in UTC to the nanosecond as in RFC 3339, or in seconds if it is outside the calendar's range.
pub(crate) fn time_text(time: Timestamp) -> String {
    match calendar(time) {
        Some(time) => time.to_string(),
        None => format!("{}.{:09}", time.seconds, time.nanoseconds),
    }
}

/// Formats a time in the local time zone, to the minute.
pub(crate) fn minute_text(time: Timestamp) -> String {
    match calendar(time) {
        Some(known) => known.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        None => time_text(time),
    }
}

fn calendar(time: Timestamp) -> Option<jiff::Timestamp> {
    let nanoseconds = i32::try_from(time.nanoseconds).ok()?;
    // Nanoseconds count forwards, even before 1970.
    let whole = i128::from(time.seconds) * 1_000_000_000 + i128::from(nanoseconds);
    jiff::Timestamp::from_nanosecond(whole).ok()
}

#[cfg(test)]
mod tests {
    use ar7::Timestamp;

    use super::{parse_size, parse_time, percent, time_text};

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
    fn a_time_is_written_to_the_nanosecond() {
        let text = |seconds, nanoseconds| time_text(Timestamp::new(seconds, nanoseconds));
        assert_eq!(text(0, 5), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(text(-1, 500_000_000), "1969-12-31T23:59:59.5Z");
        assert_eq!(text(i64::MAX, 1), "9223372036854775807.000000001");
    }

    #[test]
    fn a_size_has_a_binary_or_decimal_suffix_or_none() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("10b", 10),
            ("4K", 4096),
            ("4MiB", 4 << 20),
            ("1G", 1 << 30),
            ("2gib", 2 << 30),
            ("8T", 8 << 40),
            ("3TiB", 3 << 40),
            ("5kib", 5 << 10),
            ("6M", 6 << 20),
            ("1KB", 1000),
            ("1MB", 1_000_000),
            ("1GB", 1_000_000_000),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn malformed_and_too_large_sizes_are_rejected() {
        for text in ["", "G", "-1", "1.5G", "1X", "1 G", "99999999999T", "18446744073709551616"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_written_in_tenths_of_a_percent() {
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "0.0 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
    }
}
