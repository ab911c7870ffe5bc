//! How content is compressed.

use std::fmt;
use std::str::FromStr;

use ar7_registry::packs::{LEVEL_MAX, gains, gains_later, level_of};

use crate::error::Result;

/// How new content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Small files share frames of Zstandard; large files are compressed if a sample of their beginning becomes
    /// smaller, or else if samples at each 64 MiB do so together.
    #[default]
    Auto,
    /// Each file has a stream of its own, which can be changed in place.
    None,
    /// As [`Compression::Auto`], with this level of Zstandard, 1 to 19.
    Zstd(u8),
}

impl Compression {
    /// Returns the level of Zstandard, if content is compressed.
    pub(crate) fn level(self) -> Option<i32> {
        level_of(self.number())
    }

    /// Returns the number that stands for it in an archive.
    pub(crate) fn number(self) -> u64 {
        match self {
            Compression::Auto => 0,
            Compression::None => 1,
            Compression::Zstd(level) => u64::from(level) + 1,
        }
    }

    /// Returns what a number in an archive stands for. A later version of the program may have stored an unknown one.
    pub(crate) fn of_number(number: u64) -> Compression {
        match number {
            1 => Compression::None,
            number => {
                let level = number.checked_sub(1).and_then(|level| u8::try_from(level).ok());
                let level = level.filter(|level| (1..=LEVEL_MAX).contains(level));
                level.map_or(Compression::Auto, Compression::Zstd)
            }
        }
    }

    /// Returns whether small files share frames.
    pub(crate) fn packs(self) -> bool {
        self.level().is_some()
    }

    /// Returns whether a large file that begins with these bytes is compressed.
    pub(crate) fn packs_large(self, beginning: &[u8]) -> bool {
        self.level().is_some_and(|level| gains(beginning, level))
    }

    /// Returns whether a file of this length is compressed although its beginning does not become smaller. `read` fills
    /// bytes from an offset on, and returns their number.
    pub(crate) fn packs_rest<E>(
        self,
        length: u64,
        read: impl FnMut(u64, &mut [u8]) -> std::result::Result<usize, E>,
    ) -> std::result::Result<bool, E> {
        self.level().map_or(Ok(false), |level| gains_later(length, level, read))
    }
}

/// Returns how to compress what is written now: as chosen, which the archive remembers, or as it remembers.
pub(crate) fn choose(
    archive: &ar7_registry::Archive,
    choice: Option<Compression>,
) -> Result<Compression> {
    let stored = archive.compression()?;
    let Some(choice) = choice else { return Ok(Compression::of_number(stored)) };
    if choice.number() != stored {
        archive.set_compression(choice.number())?;
    }
    Ok(choice)
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Auto => formatter.write_str("auto"),
            Compression::None => formatter.write_str("none"),
            Compression::Zstd(level) => write!(formatter, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Compression, String> {
        let of_level = |text: &str| {
            let level = text.parse().ok().filter(|level| (1..=LEVEL_MAX).contains(level));
            level.map(Compression::Zstd)
        };
        let parsed = match text {
            "auto" => Some(Compression::Auto),
            "none" => Some(Compression::None),
            "fast" => Some(Compression::Zstd(1)),
            "best" => Some(Compression::Zstd(LEVEL_MAX)),
            other => other.strip_prefix("zstd:").and_then(of_level),
        };
        let expected = || format!("expected auto, none, fast, best, or zstd:1 to zstd:{LEVEL_MAX}");
        parsed.ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_value_that_it_names() {
        for (text, value) in [
            ("auto", Compression::Auto),
            ("none", Compression::None),
            ("fast", Compression::Zstd(1)),
            ("best", Compression::Zstd(19)),
            ("zstd:7", Compression::Zstd(7)),
        ] {
            assert_eq!(text.parse(), Ok(value));
            assert_eq!(value.to_string().parse(), Ok(value));
            assert_eq!(Compression::of_number(value.number()), value);
        }
        assert_eq!(Compression::of_number(u64::MAX), Compression::Auto);
        for text in ["", "zstd", "zstd:0", "zstd:20", "zstd:-1", "gzip"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_becomes_smaller_is_compressed() {
        let text = b"the quick brown fox jumps over the lazy dog. ".repeat(30_000);
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(1 << 20)
        .collect();
        assert!(Compression::Auto.packs_large(&text));
        assert!(!Compression::Auto.packs_large(&noise));
        assert!(Compression::Auto.packs_large(&[&noise[..100_000], &text].concat()));
        assert!(!Compression::None.packs_large(&text));
        assert!(!Compression::Auto.packs_large(&[]));
    }
}
