//! Sizes, as users write them.

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

#[cfg(test)]
mod tests {
    use super::*;

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
