//! Counts, as users read them.

use std::fmt;

/// A number of things, and the name of one of them. `Display` adds the ending of the plural where it belongs.
///
/// ```
/// use ar7::Count;
///
/// assert_eq!(Count(1, "block").to_string(), "1 block");
/// assert_eq!(Count(0, "free block").to_string(), "0 free blocks");
/// assert_eq!(Count(2, "entry").to_string(), "2 entries");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Count(pub u64, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count(count, name) = *self;
        let (stem, ending) = match name.strip_suffix('y') {
            _ if count == 1 => (name, ""),
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => (stem, "ies"),
            _ if name.ends_with('s') => (name, "es"),
            _ => (name, "s"),
        };
        write!(formatter, "{count} {stem}{ending}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_but_one_is_plural() {
        for (count, name, expected) in [
            (0, "byte", "0 bytes"),
            (1, "byte", "1 byte"),
            (21, "byte", "21 bytes"),
            (1, "entry", "1 entry"),
            (2, "entry", "2 entries"),
            (2, "day", "2 days"),
            (1, "pass", "1 pass"),
            (3, "pass", "3 passes"),
        ] {
            assert_eq!(Count(count, name).to_string(), expected);
        }
    }
}
