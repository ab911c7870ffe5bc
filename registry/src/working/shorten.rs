//! Shortening the file when the archive is closed.

use ar7_engine::format::{Position, RESERVED_BLOCKS};
use ar7_engine::store::RESERVE_BLOCKS;

use super::working_trees::WorkingTrees;
use crate::error::Result;

/// Minimum number of free blocks for which moving pages pays off: the end of the file keeps half of
/// them as reserve blocks anyway.
const CLEARED_BLOCKS_MIN: u32 = 2 * RESERVE_BLOCKS;

/// Maximum number of pages that closing moves.
const MOVED_PAGES_MAX: usize = 1024;

impl WorkingTrees {
    /// Moves pages from the end of the file to free blocks before it, if closing can then trim a
    /// good part of the file. Returns whether it moved any. The commit frees the end.
    pub(crate) fn clear_end(&mut self) -> Result<bool> {
        let end = self.writer().block_count();
        let free = self.free_blocks();
        if free < u64::from(CLEARED_BLOCKS_MIN.max(end / 8)) {
            return Ok(false);
        }
        // The smallest possible number of blocks.
        let shortest = end.saturating_sub(u32::try_from(free).unwrap_or(u32::MAX));
        self.relocate(Position::at(shortest.max(RESERVED_BLOCKS)), MOVED_PAGES_MAX)
    }

    /// Removes blocks at the end of the file from the archive that were free at the last commit, so
    /// that closing can trim the file. Must come first in a transaction: later allocations extend
    /// the file again if necessary. Blocks that a reader may need stay. Returns whether it removed
    /// any.
    pub(crate) fn trim_end(&mut self) -> Result<bool> {
        let before = self.writer().block_count();
        loop {
            let end = self.writer().block_count();
            let mut pool = self.writer().drain_pool();
            let last = pool.take_ending_at(end);
            for run in pool.iter() {
                self.writer().release(run)?;
            }
            if let Some(run) = last {
                self.writer().lower_count(run);
                continue;
            }
            // Only the part that no reader needs goes to the pool.
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

    use super::*;
    use crate::records::Sessions;

    #[test]
    fn without_enough_free_blocks_no_page_moves() {
        let mut trees = WorkingTrees::of_new_archive();
        assert!(trees.free_blocks() < u64::from(CLEARED_BLOCKS_MIN));
        assert!(!trees.clear_end().unwrap());
    }

    #[test]
    fn pages_move_only_if_a_good_part_of_the_file_is_free() {
        let mut trees = WorkingTrees::of_new_archive();
        let first = trees.allocate(1000).unwrap().start().get();
        let record = SessionRecord { session: 1, salt: 1, last_step: 1 };
        trees.put::<Sessions>(&1, &record).unwrap();
        trees.flush_trees().unwrap();
        let run = |start, count| Run::new(Position::at(first + start), count).unwrap();
        trees.free_list().insert(run(0, 20)).unwrap();
        assert!(trees.free_blocks() < u64::from(trees.writer().block_count() / 8));
        assert!(!trees.clear_end().unwrap());
        trees.free_list().insert(run(100, 200)).unwrap();
        assert!(trees.clear_end().unwrap());
    }

    #[test]
    fn without_pages_at_the_end_none_moves() {
        let mut trees = WorkingTrees::of_new_archive();
        let first = trees.allocate(1000).unwrap().start();
        trees.free_list().insert(Run::new(first, 900).unwrap()).unwrap();
        assert!(!trees.clear_end().unwrap());
    }
}
