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
    /// Returns whether there are pending deletions.
    pub(crate) fn has_pending_deletions(&self) -> bool {
        self.entries(TreeId::PendingDeletions) > 0
    }

    /// Frees some blocks of pending deletions.
    pub(crate) fn purge(&mut self) -> Result<()> {
        for _ in 0..EXTENTS_PER_COMMIT {
            let Some((stream, _)) = self.ceiling::<PendingDeletions>(&Uuid::nil())? else { break };
            self.purge_extent(stream)?;
        }
        Ok(())
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

    use super::*;
    use crate::records::Extent;

    #[test]
    fn a_deletion_is_pending_until_every_extent_is_free() {
        let mut trees = WorkingTrees::of_new_archive();
        let stream = Uuid::from_u128(100);
        assert!(!trees.has_pending_deletions());
        for first in 0..u32::try_from(EXTENTS_PER_COMMIT).unwrap() {
            let run = trees.allocate(1).unwrap();
            let key = ExtentKey { stream, first: BlockIndex(first) };
            let generation = trees.writer().generation();
            trees.put::<Extents>(&key, &Extent { run, generation }).unwrap();
        }
        trees.put::<PendingDeletions>(&stream, &StoredStream::empty(stream)).unwrap();
        assert!(trees.has_pending_deletions());
        // The first purge frees the last extent. Only the second finds none.
        trees.purge().unwrap();
        assert_eq!(trees.entries(TreeId::Extents), 0);
        assert!(trees.has_pending_deletions());
        trees.purge().unwrap();
        assert!(!trees.has_pending_deletions());
    }
}
