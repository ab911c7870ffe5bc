//! Times as users write and read them, in the local time zone.

use std::str::FromStr;
use std::time::SystemTime;

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::error::Error;
use crate::records::Timestamp;

/// Parses a time: a date or a date and time, in the local time zone or with an offset, or an age.
///
/// ```
/// use ar7::Timestamp;
///
/// let midnight: Timestamp = "2026-01-31".parse()?;
/// assert_eq!("2026-01-31T12:00".parse::<Timestamp>()?.seconds, midnight.seconds + 43_200);
/// assert_eq!("1970-01-01T00:00:07Z".parse::<Timestamp>()?.seconds, 7);
/// assert!("2 days".parse::<Timestamp>()? < "90s".parse()?);
/// # Ok::<(), ar7::Error>(())
/// ```
impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Timestamp, Error> {
        let now = Zoned::now();
        let local = |time: DateTime| time.to_zoned(now.time_zone().clone()).ok();
        let ago = |age: jiff::Span| now.checked_sub(age.abs()).ok();
        let zoned = text.parse().ok().and_then(local);
        let zoned = zoned.or_else(|| text.parse().ok().and_then(ago));
        let parsed = text.parse().ok().or_else(|| zoned.map(|time| time.timestamp()));
        let parsed = parsed.map(|time: jiff::Timestamp| SystemTime::from(time).into());
        parsed.ok_or_else(|| Error::NotATime { text: text.to_owned() })
    }
}

impl Timestamp {
    /// Returns the time in the local time zone, to the minute, for lists: `2026-01-31 12:00`. A time outside of the
    /// calendar's years is as in `Display`.
    pub fn to_local_minute(self) -> String {
        match jiff::Timestamp::new(self.seconds, i32::try_from(self.nanoseconds).unwrap_or(0)) {
            Ok(known) => known.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
            Err(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_a_time_with_or_without_an_offset_or_an_age() {
        let parsed = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(parsed("2026-01-31T12:00:01.5Z"), Timestamp::new(1_769_860_801, 500_000_000));
        assert_eq!(parsed("2026-01-31T12:00+02:00"), parsed("2026-01-31T10:00Z"));
        let (noon, day) = (parsed("2026-01-31T12:00"), parsed("2026-01-31"));
        assert_eq!(noon.seconds - 43_200, day.seconds);
        assert_eq!(day.to_local_minute(), "2026-01-31 00:00");
        let now = Timestamp::now().seconds;
        for (age, seconds) in [("2 hours", 7200), ("90s", 90), ("1 week", 604_800)] {
            let ago = now - parsed(age).seconds;
            // A change of the clocks may be in between.
            assert!((seconds - 3601..seconds + 3660).contains(&ago), "{age}: {ago}");
        }
        for text in ["", "yesterday", "31.01.2026", "5"] {
            let refused = text.parse::<Timestamp>();
            assert!(matches!(refused, Err(Error::NotATime { .. })), "{text}: {refused:?}");
        }
        assert_eq!(Timestamp::new(i64::MAX, 1).to_local_minute(), "9223372036854775807.000000001");
    }
}
