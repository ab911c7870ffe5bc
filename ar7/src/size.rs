//! Sizes in bytes, as users write and read them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The suffixes of a size, in upper case.
const SUFFIXES: [(&str, u64); 14] = [
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

/// The units in which a size is shown, each 1024 times the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes, as users write and read it.
///
/// It is parsed from a number with an optional suffix, in upper or lower case: `K`, `M`, `G`, `T` and `KiB` to `TiB` are
/// powers of 1024, `KB` to `TB` are powers of 1000. `Display` shows it in the largest unit of which it has at least one.
///
/// ```
/// use ar7::Size;
///
/// assert_eq!("4K".parse::<Size>()?, Size(4096));
/// assert_eq!("2MB".parse::<Size>()?, Size(2_000_000));
/// assert_eq!(Size(1_610_612_736).to_string(), "1.50 GiB");
/// # Ok::<(), ar7::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// The crates `bytesize` and `parse-size` treat `K` as `KB`, and accept fractions.
impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Size, Error> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let unit = SUFFIXES.iter().find(|(unit, _)| suffix.eq_ignore_ascii_case(unit));
        let (Ok(number), Some((_, unit))) = (number.parse::<u64>(), unit) else {
            return Err(Error::NotASize { text: text.to_owned() });
        };
        let bytes = number.checked_mul(*unit).map(Size);
        bytes.ok_or_else(|| Error::SizeTooLarge { text: text.to_owned() })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = usize::try_from(self.0.checked_ilog2().unwrap_or(0) / 10).unwrap_or(0);
        let text = match UNITS.get(power) {
            None | Some(&"B") => format!("{} B", self.0),
            Some(unit) => {
                // The nearest hundredth, without the rounding of a float.
                let hundredths =
                    (u128::from(self.0) * 100 + (1 << (10 * power - 1))) >> (10 * power);
                format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
            }
        };
        formatter.pad(&text)
    }
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
            ("1KB", 1000),
            ("1MB", 1_000_000),
            ("1TB", 1_000_000_000_000),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1X", "1 G", "18446744073709551616"] {
            let refused = text.parse::<Size>();
            assert!(matches!(refused, Err(Error::NotASize { .. })), "{text}: {refused:?}");
        }
        let refused = "99999999999T".parse::<Size>();
        assert!(matches!(refused, Err(Error::SizeTooLarge { .. })), "{refused:?}");
    }

    #[test]
    fn a_size_is_shown_in_the_largest_unit_with_two_digits_of_a_fraction() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1029, "1.00 KiB"),
            (1030, "1.01 KiB"),
            ((1 << 20) - 1, "1024.00 KiB"),
            (3 << 29, "1.50 GiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), expected);
        }
        assert_eq!(format!("{:>9}", Size(1 << 10)), " 1.00 KiB");
    }
}
