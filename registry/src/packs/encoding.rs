//! What a compaction or a copy does with content.

use std::num::NonZeroU64;

use ar7_engine::format::StoredStream;

use super::level_of;
use crate::records::{EntryType, Inode, InodeNumber};

/// Longest file in bytes that is packed because new files are: a longer one is more often changed in place, and needs
/// more room next to its old content.
const PACKED_BY_DEFAULT_MAX: u64 = 16 << 20;

/// What a compaction or a copy does with the content of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// It stays as it is.
    Keep,
    /// Files of at most 16 MiB that have a stream of their own are packed as new files are, if the archive's choice of
    /// compression has a level, and if that makes them smaller.
    Pack,
    /// The archive follows this choice of compression from now on, as [`crate::Archive::set_compression`] takes it. If it
    /// has a level, all content is encoded with it where that makes it smaller.
    Choose(u64),
}

/// Which files that have a stream of their own are packed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) level: i32,
    /// Length in bytes of the longest file.
    longest: u64,
}

impl Encoding {
    /// Returns the choice of compression of the archive, if `before` was its choice.
    pub(crate) fn choice(self, before: u64) -> u64 {
        if let Encoding::Choose(choice) = self { choice } else { before }
    }

    /// Returns how files are packed, if they are. `choice` is the choice of the archive from now on.
    pub(crate) fn packing(self, choice: u64) -> Option<Packing> {
        let longest = match self {
            Encoding::Keep => return None,
            Encoding::Pack => PACKED_BY_DEFAULT_MAX,
            Encoding::Choose(_) => u64::MAX,
        };
        level_of(choice).map(|level| Packing { level, longest })
    }

    /// Returns the level with which packed content is encoded again.
    pub(crate) fn level(self) -> Option<i32> {
        if let Encoding::Choose(choice) = self { level_of(choice) } else { None }
    }
}

impl Packing {
    /// Returns whether an inode's stream may be packed, if that makes it smaller.
    pub(crate) fn applies_to(
        self,
        number: InodeNumber,
        inode: &Inode,
        stored: &StoredStream,
    ) -> bool {
        // In a forged archive, several inodes can name one stream. If the lengths differ, one of them is wrong.
        inode.kind == EntryType::File
            && inode.size <= self.longest
            && stored.inode == NonZeroU64::new(number.0)
            && stored.record.length == inode.size
    }
}
