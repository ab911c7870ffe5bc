//! Formats sizes, times and rates for people, using integers only.

use std::time::Duration;

const MEBIBYTE: u128 = 1 << 20;

/// Formats a size like "12.3 MiB".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut divisor: u64 = 1024;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1024 {
        unit += 1;
        divisor *= 1024;
    }
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Formats a time like "1.234 s".
pub fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}

/// Formats a rate like "812 MiB/s, 40211 entries/s". Omits the bytes per second if `bytes` is `None`.
pub fn rate(bytes: Option<u64>, entries: u64, time: Duration) -> String {
    let microseconds = time.as_micros().max(1);
    let entries = u128::from(entries) * 1_000_000 / microseconds;
    let Some(bytes) = bytes else { return format!("{entries} entries/s") };
    let mebibytes = u128::from(bytes) * 1_000_000 / microseconds / MEBIBYTE;
    format!("{mebibytes} MiB/s, {entries} entries/s")
}

/// Formats bytes in hexadecimal.
pub fn base16(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_down_to_a_tenth() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size((1 << 20) - 1), "1023.9 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn rates_are_per_second() {
        let time = Duration::from_millis(500);
        assert_eq!(rate(Some(64 << 20), 10, time), "128 MiB/s, 20 entries/s");
        assert_eq!(rate(None, 10, time), "20 entries/s");
        assert_eq!(rate(Some(0), 0, Duration::ZERO), "0 MiB/s, 0 entries/s");
        assert_eq!(seconds(Duration::from_millis(1034)), "1.034 s");
    }
}
