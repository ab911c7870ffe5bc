//! Shortening the file when the archive is closed.

use ar7_engine::format::{DoubledRef, FAR_BLOCKS, Position, RESERVED_BLOCKS};
use ar7_engine::store::FAR_FROM_BLOCKS;

use super::trees::SearchStarts;
use super::working_trees::WorkingTrees;
use crate::error::Result;

/// Minimum number of free blocks for which moving pages pays off.
const CLEARED_BLOCKS_MIN: u32 = 128;

/// Number of free blocks that stay between the copies of the moved pages, unless the archive becomes
/// small.
const KEPT_BETWEEN: u32 = FAR_BLOCKS + 64;

/// Maximum number of branches that the search for pages reads in each tree, to bound the time.
const BRANCHES_MAX: u32 = 1 << 16;

/// Maximum number of pages that closing moves.
const MOVED_PAGES_MAX: usize = 1024;

impl WorkingTrees {
    /// Moves pages from the end of the file to free blocks before it, if closing can then trim a
    /// good part of the file. Returns whether it moved any. The commit frees the end. Until the caller
    /// lifts the ceiling, blocks are allocated below it.
    pub(crate) fn clear_end(&mut self) -> bool {
        let end = self.writer().block_count();
        let free = self.free_blocks();
        let used = u64::from(end).saturating_sub(free);
        let is_small = used + u64::from(KEPT_BETWEEN) <= u64::from(FAR_FROM_BLOCKS);
        let free = free.saturating_sub(if is_small { 0 } else { KEPT_BETWEEN.into() });
        if free < u64::from(CLEARED_BLOCKS_MIN.max(end / 8)) {
            return false;
        }
        // The smallest possible number of blocks.
        let shortest = end.saturating_sub(u32::try_from(free).unwrap_or(u32::MAX));
        let limit = Position::at(shortest.max(RESERVED_BLOCKS));
        let moved = self.take_pages_from(limit, MOVED_PAGES_MAX, BRANCHES_MAX);
        if moved {
            self.writer().set_ceiling(Some(limit));
        }
        moved
    }

    /// Copies about `most` pages that lie at `limit` or later into memory, so that the commit moves
    /// them. Reads up to `branches` branches of each tree. Returns whether there were any.
    pub(crate) fn take_pages_from(&mut self, limit: Position, most: usize, branches: u32) -> bool {
        let is_beyond = |at: DoubledRef| at.position.max(at.copy) >= limit;
        self.relocate(&mut SearchStarts::default(), &is_beyond, most, branches)
    }

    /// Removes blocks at the end of the file from the archive that were free at the last commit, so
    /// that closing can trim the file. Must come first in a transaction: later allocations extend
    /// the file again if necessary. Blocks that a reader may need stay. Returns whether it removed
    /// any.
    pub(crate) fn trim_end(&mut self) -> Result<bool> {
        let before = self.writer().block_count();
        loop {
            let end = self.writer().block_count();
            if let Some(run) = self.writer().take_ending_at(end) {
                self.writer().lower_count(run);
                continue;
            }
            // Only the part that no reader needs can be taken then.
            match self.free_list().take_ending_at(end)? {
                Some(run) => self.writer().release(run)?,
                None => break,
            }
            if !self.writer().is_usable(Position::at(end - 1)) {
                break;
            }
        }
        Ok(self.writer().block_count() < before)
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::{Run, SessionRecord};
    use ar7_engine::store::Urgency;

    use super::*;
    use crate::records::Sessions;

    #[test]
    fn without_enough_free_blocks_no_page_moves() {
        let mut trees = WorkingTrees::of_new_archive();
        assert!(trees.free_blocks() < u64::from(CLEARED_BLOCKS_MIN));
        assert!(!trees.clear_end());
    }

    #[test]
    fn pages_move_only_if_a_good_part_of_the_file_is_free() {
        let mut trees = WorkingTrees::of_new_archive();
        let first = trees.allocate(10_000, Urgency::Ordinary).unwrap().start().get();
        let record = SessionRecord { session: 1, salt: 1, last_step: 1 };
        trees.put::<Sessions>(&1, &record).unwrap();
        trees.flush_trees().unwrap();
        let run = |start, count| Run::new(Position::at(first + start), count).unwrap();
        trees.free_list().insert(run(0, 20)).unwrap();
        assert!(trees.free_blocks() < u64::from(trees.writer().block_count() / 8));
        assert!(!trees.clear_end());
        trees.free_list().insert(run(100, 2000)).unwrap();
        assert!(trees.clear_end());
    }

    #[test]
    fn without_pages_at_the_end_none_moves() {
        let mut trees = WorkingTrees::of_new_archive();
        let first = trees.allocate(1000, Urgency::Ordinary).unwrap().start();
        trees.free_list().insert(Run::new(first, 900).unwrap()).unwrap();
        assert!(!trees.clear_end());
    }
}
