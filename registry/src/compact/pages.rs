//! Moving index pages below the ceiling, and the place of the ceiling.

use ar7_engine::format::{FAR_BLOCKS, Position, RESERVED_BLOCKS};
use ar7_engine::store::FAR_FROM_BLOCKS;
use zeroize::Zeroizing;

use crate::archive::State;
use crate::error::Result;
use crate::records::{Free, ReadRecords, TreeId};

/// Number of free blocks that stay in a long archive, so that the copies of new pages lie far apart.
const LEFT_FREE: u32 = FAR_BLOCKS + 32;

/// Number of free blocks that stay in a short archive: room for the pages of a commit.
const LEFT_FREE_IN_SHORT: u32 = 16;

/// Smallest and largest number of pages that one commit moves.
const MOVED_PAGES: std::ops::RangeInclusive<u64> = 8..=1024;

/// Number of leaves that one commit looks at, to bound the time between calls of the observer.
const LOOKED_LEAVES: usize = 1 << 14;

/// An encoded key. It may contain a name.
pub(super) type Key = Zeroizing<Vec<u8>>;

impl State {
    /// Returns the lowest end of the archive that leaves room for commits, if it is below the present one.
    pub(super) fn lowest_end(&mut self) -> Option<Position> {
        let count = self.trees.writer().block_count();
        let free = u32::try_from(self.trees.free_blocks()).unwrap_or(u32::MAX);
        let used = count.saturating_sub(free).max(RESERVED_BLOCKS);
        let is_short = used <= FAR_FROM_BLOCKS;
        let left_free = if is_short { LEFT_FREE_IN_SHORT } else { LEFT_FREE };
        Position::new(used.saturating_add(left_free)).filter(|end| end.get() < count)
    }

    /// Returns the number of blocks in use from `end` on.
    pub(super) fn used_from(&mut self, end: Position) -> Result<u64> {
        let count = self.trees.writer().block_count();
        let mut used = u64::from(count.saturating_sub(end.get()));
        let within =
            |start: u32, run_end: u32| u64::from(run_end.saturating_sub(start.max(end.get())));
        if let Some((_, run)) = self.trees.floor::<Free>(&end)?
            && run.start() < end
        {
            used = used.saturating_sub(within(run.start().get(), run.end()));
        }
        let mut next = Some(end);
        while let Some(from) = next {
            let Some((start, run)) = self.trees.ceiling::<Free>(&from)? else { break };
            used = used.saturating_sub(within(start.get(), run.end()));
            next = Position::new(run.end()).filter(|next| *next > from);
        }
        for run in &self.trees.store().current().slot.inline_free {
            used = used.saturating_sub(within(run.start().get(), run.end()));
        }
        Ok(used)
    }

    /// Moves some index pages that lie at or above the ceiling, and commits. Returns whether more may follow.
    pub(super) fn move_pages_down(&mut self, ceiling: Position) -> Result<bool> {
        self.check_closed()?;
        let before = self.used_from(ceiling)?;
        let most = self.moved_pages()?;
        if !self.trees.take_pages_from(ceiling, most, u32::MAX) {
            self.rollback()?;
            return Ok(false);
        }
        self.commit_flushed()?;
        // Pages that found no room below the ceiling would be moved forever, and so would the pages above one that does
        // not open.
        let is_exceeded = self.trees.writer().take_exceeded();
        Ok(!is_exceeded && self.used_from(ceiling)? < before)
    }

    /// Fills some leaves of a tree from `key` on, and commits if that changed any. Returns the key from which on to
    /// continue.
    pub(super) fn fill_leaves(&mut self, tree: TreeId, key: &[u8]) -> Result<Option<Key>> {
        self.check_closed()?;
        let most = self.moved_pages()?;
        let mut next = Some(Zeroizing::new(key.to_vec()));
        for _ in 0..LOOKED_LEAVES {
            let Some(key) = next.as_ref().filter(|_| self.trees.dirty_pages_of(tree) < most) else {
                break;
            };
            next = self.trees.fill_leaf(tree, key)?;
        }
        // Looking for room changes the free list.
        if self.trees.dirty_pages_of(tree) == 0 {
            self.rollback()?;
        } else {
            self.commit_flushed()?;
        }
        Ok(next)
    }

    /// Returns how many pages a commit may move. Without free blocks it is only a few: the file grows for them, and the next
    /// commit uses what this one freed.
    fn moved_pages(&mut self) -> Result<usize> {
        let room = self.pooled(*MOVED_PAGES.end() * 4)?;
        let most = (room / 16).clamp(*MOVED_PAGES.start(), *MOVED_PAGES.end());
        Ok(usize::try_from(most).unwrap_or(usize::MAX))
    }

    /// Provides up to `wanted` free blocks below the ceiling. Returns their number.
    pub(super) fn pooled(&mut self, wanted: u64) -> Result<u64> {
        self.trees.make_room(usize::try_from(wanted).unwrap_or(usize::MAX))?;
        Ok(self.trees.writer().pooled_blocks())
    }
}
