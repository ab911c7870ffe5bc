//! Purging: the blocks of deleted streams become free, a bounded number with each commit.

use ar7_engine::format::BlockIndex;
use uuid::Uuid;

use super::working_trees::WorkingTrees;
use crate::error::Result;
use crate::records::{ExtentKey, Extents, PendingDeletions, ReadRecords, TreeId};

/// Extents of deleted streams that one commit frees at most, so that it stays within the reserve.
const EXTENTS_PER_COMMIT: usize = 128;

impl WorkingTrees {
    /// Whether there are deleted streams whose blocks are not all free yet.
    pub(crate) fn has_pending_deletions(&self) -> bool {
        self.entries(TreeId::PendingDeletions) > 0
    }

    /// Frees some blocks of deleted streams.
    pub(crate) fn purge(&mut self) -> Result<()> {
        for _ in 0..EXTENTS_PER_COMMIT {
            let Some((stream, _)) = self.ceiling::<PendingDeletions>(&Uuid::nil())? else { break };
            self.purge_extent(stream)?;
        }
        Ok(())
    }

    /// Frees every block of a deleted stream: its extents must be gone before a new stream of that identity has any.
    pub(crate) fn purge_stream(&mut self, stream: Uuid) -> Result<()> {
        while self.get::<PendingDeletions>(&stream)?.is_some() {
            self.purge_extent(stream)?;
        }
        Ok(())
    }

    /// Frees the first extent of a deleted stream, or removes the pending deletion if there is none left.
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
