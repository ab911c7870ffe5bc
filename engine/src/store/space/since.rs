//! What the open transaction allocated and freed since each of its savepoints.

use super::run_set::RunSet;
use crate::format::{Position, Run};

/// Blocks that the open transaction allocated and freed since a savepoint, up to the next savepoint.
#[derive(Debug, Default)]
pub(super) struct Since {
    /// The block count at the savepoint.
    pub(super) count: u32,
    /// Allocated since, and not freed. No savepoint names them, so they may be sealed again in place.
    pub(super) allocated: RunSet,
    /// In use at the savepoint and freed since: allocated by this transaction before the savepoint.
    pub(super) freed_own: RunSet,
    /// In use at the savepoint and freed since: in use at the last commit.
    pub(super) freed: RunSet,
    /// Taken out of the free list since.
    pub(super) released: RunSet,
}

impl Since {
    /// Returns whether this position was allocated since the savepoint.
    pub(super) fn has_allocated(&self, position: Position) -> bool {
        self.allocated.contains(position)
    }

    pub(super) fn allocate(&mut self, run: Run) {
        self.allocated.insert(run);
    }

    pub(super) fn cancel(&mut self, run: Run) {
        self.allocated.remove(run);
    }

    pub(super) fn release(&mut self, run: Run) {
        self.released.insert(run);
    }

    /// Notes that a run is freed. `fresh` is what the transaction allocated. Returns the blocks that no savepoint names.
    pub(super) fn free(&mut self, run: Run, fresh: &RunSet) -> Vec<Run> {
        let (own, committed) = fresh.partition(run);
        self.freed.extend(committed);
        self.free_own(own)
    }

    fn free_own(&mut self, runs: impl IntoIterator<Item = Run>) -> Vec<Run> {
        let mut unnamed = Vec::new();
        for run in runs {
            let (since, before) = self.allocated.partition(run);
            for &run in &since {
                self.allocated.remove(run);
            }
            self.freed_own.extend(before);
            unnamed.extend(since);
        }
        unnamed
    }

    /// Adds what followed the next savepoint, which was dropped. Returns the blocks that no savepoint names any more.
    pub(super) fn append(&mut self, next: &Since) -> Vec<Run> {
        let unnamed = self.free_own(next.freed_own.iter());
        self.allocated.extend(next.allocated.iter());
        self.freed.extend(next.freed.iter());
        self.released.extend(next.released.iter());
        unnamed
    }
}
