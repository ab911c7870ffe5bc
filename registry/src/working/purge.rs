//! Purging: the blocks of pending deletions are freed, a bounded number in each commit.

use ar7_engine::format::BlockIndex;
use uuid::Uuid;

use super::working_trees::WorkingTrees;
use crate::error::Result;
use crate::records::{ExtentKey, Extents, PendingDeletions, ReadRecords, TreeId};

/// Maximum number of extents that one commit frees, so that it needs no more than the reserve
/// blocks.
const EXTENTS_PER_COMMIT: usize = 64;

impl WorkingTrees {
    /// Returns the number of pending deletions.
    pub(crate) fn pending_deletions(&self) -> u64 {
        self.entries(TreeId::PendingDeletions)
    }

    /// Frees some blocks of pending deletions, except for those that must stay. Stops early if the commit would find no
    /// room for more changed pages. Returns the number of freed extents and removed records.
    pub(crate) fn purge(&mut self, stays: impl Fn(Uuid) -> bool) -> Result<usize> {
        let (mut from, mut purged) = (Uuid::nil(), 0);
        while purged < EXTENTS_PER_COMMIT {
            let Some((stream, _)) = self.ceiling::<PendingDeletions>(&from)? else { break };
            if stays(stream) {
                let Some(next) = stream.as_u128().checked_add(1) else { break };
                from = Uuid::from_u128(next);
                continue;
            }
            // Removing an extent may join pages, and changes a page of the free list.
            let pages = 2 * self.depth(TreeId::Extents) + self.depth(TreeId::PendingDeletions);
            if !self.has_room_to_change(pages + self.depth(TreeId::Free) + 1)? {
                break;
            }
            self.purge_extent(stream)?;
            purged += 1;
        }
        Ok(purged)
    }

    /// Frees every block of a pending deletion. Its extents must be gone before a new stream with
    /// its identity has any.
    pub(crate) fn purge_stream(&mut self, stream: Uuid) -> Result<()> {
        while self.get::<PendingDeletions>(&stream)?.is_some() {
            self.purge_extent(stream)?;
        }
        Ok(())
    }

    /// Frees the first extent of a pending deletion, or removes the pending deletion if it has no
    /// extent left.
    fn purge_extent(&mut self, stream: Uuid) -> Result<()> {
        let from = ExtentKey { stream, first: BlockIndex(0) };
        match self.ceiling::<Extents>(&from)? {
            Some((key, extent)) if key.stream == stream => {
                self.remove::<Extents>(&key)?;
                self.free(extent.run)?;
            }
            _ => {
                self.remove::<PendingDeletions>(&stream)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::StoredStream;
    use ar7_engine::store::Urgency;

    use super::*;
    use crate::records::Extent;

    #[test]
    fn a_deletion_is_pending_until_every_extent_is_free() {
        let mut trees = WorkingTrees::of_new_archive();
        let stream = Uuid::from_u128(100);
        assert_eq!(trees.pending_deletions(), 0);
        for first in 0..u32::try_from(EXTENTS_PER_COMMIT).unwrap() {
            let run = trees.allocate(1, Urgency::Ordinary).unwrap();
            let key = ExtentKey { stream, first: BlockIndex(first) };
            let generation = trees.writer().generation();
            trees.put::<Extents>(&key, &Extent { run, generation }).unwrap();
        }
        trees.put::<PendingDeletions>(&stream, &StoredStream::empty(stream)).unwrap();
        assert_eq!(trees.pending_deletions(), 1);
        // The first purge frees the last extent. Only the second finds none.
        trees.purge(|_| false).unwrap();
        assert_eq!(trees.entries(TreeId::Extents), 0);
        assert_eq!(trees.pending_deletions(), 1);
        trees.purge(|_| false).unwrap();
        assert_eq!(trees.pending_deletions(), 0);
    }
}
