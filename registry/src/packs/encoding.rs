//! What a compaction or a copy does with content.

use super::level_of;

/// Longest file in bytes that is packed because new files are: a longer one is more often changed in place, and needs
/// more room next to its old content.
const PACKED_BY_DEFAULT_MAX: u64 = 16 << 20;

/// What a compaction or a copy does with the content of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// It stays as it is.
    #[default]
    Keep,
    /// Files of at most 16 MiB that have a stream of their own are packed as new files are, if the archive's choice of
    /// compression has a level, and if that makes them smaller.
    Pack,
    /// The archive follows this choice of compression from now on, as [`crate::Archive::set_compression`] takes it. If it
    /// has a level, all content is encoded with it where that makes it smaller.
    Choose(u64),
}

impl Encoding {
    /// Returns the choice of compression of the archive, if `before` was its choice.
    pub(crate) fn choice(self, before: u64) -> u64 {
        if let Encoding::Choose(choice) = self { choice } else { before }
    }

    /// Returns the level with which files are packed, and the length in bytes of the longest one. `before` is the choice
    /// of the archive.
    pub(crate) fn packing(self, before: u64) -> Option<(i32, u64)> {
        let longest = match self {
            Encoding::Keep => return None,
            Encoding::Pack => PACKED_BY_DEFAULT_MAX,
            Encoding::Choose(_) => u64::MAX,
        };
        level_of(self.choice(before)).map(|level| (level, longest))
    }

    /// Returns the level with which packed content is encoded again.
    pub(crate) fn level(self) -> Option<i32> {
        if let Encoding::Choose(choice) = self { level_of(choice) } else { None }
    }
}
