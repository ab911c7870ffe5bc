//! The free list: a tree of free runs.
//!
//! Recording free blocks needs pages, which occupy blocks, and replaces pages, which frees blocks.
//! The commit therefore repeats until nothing changes any more. The remaining runs fit the inline
//! free runs of the meta slot.

use ar7_engine::format::{INLINE_FREE_RUNS_MAX, Position, Run};
use ar7_engine::store::RunSet;

use super::trees::Trees;
use crate::error::Result;
use crate::records::{FREE_BLOCKS_COUNTER, Free, ReadRecords, TreeId};

/// Maximum number of pooled runs that the commit keeps out of the tree and leaves to the meta slot.
/// One of them may become two, if second copies are kept below a limit. The rest is for blocks that
/// are freed last.
const KEPT_RUNS: usize = INLINE_FREE_RUNS_MAX - FREED_RUNS - 1;

/// Maximum number of runs of blocks that are freed last.
const FREED_RUNS: usize = INLINE_FREE_RUNS_MAX / 2;

/// Free blocks that the commit keeps for pages of the free list that splits add. If they stay free,
/// each may be a run.
const SPLIT_BLOCKS: u64 = 8;

/// Maximum number of runs without a usable block that the search at the end of the list skips.
const SKIPPED_MAX: usize = 64;

/// Minimum number of runs in every page of the free list except the last.
const RUNS_PER_PAGE_MIN: u64 = 100;

/// The free list of the open transaction.
pub(super) struct FreeList<'a>(pub(super) &'a mut Trees);

impl FreeList<'_> {
    /// Takes runs out of the free list until the writer has `wanted` blocks to allocate, or the
    /// list is empty. Leaves runs of which readers hold every block.
    pub(super) fn refill(&mut self, wanted: u64) -> Result<()> {
        let commit = self.0.writer().store().current().slot.number;
        let oldest = self.0.writer().oldest_pinned();
        self.0.scan.resume(commit, oldest);
        let ceiling = self.0.writer().ceiling().unwrap_or(u32::MAX);
        while self.0.writer().pooled_blocks() < wanted && !self.0.writer().are_all_held() {
            let Some((start, run)) = self.0.ceiling::<Free>(&self.0.scan.from())? else { break };
            if start.get() >= ceiling {
                break;
            }
            if self.0.writer().has_usable_block(run) {
                self.take(run)?;
                self.0.scan.took(start);
                self.0.writer().release(run)?;
            } else if !self.0.scan.skip(start) {
                break;
            }
        }
        Ok(())
    }

    /// Takes runs out of the end of the free list, unless the pool has room for both copies of `pages`
    /// pages far apart already. A short list may have no such room.
    pub(super) fn spread(&mut self, pages: usize) -> Result<()> {
        if self.0.writer().has_far_room(pages) || self.0.writer().are_all_held() {
            return Ok(());
        }
        let mut missing = count(pages);
        let mut skipped = 0;
        let mut before = self.0.writer().copies_end();
        while missing > 0 && skipped <= SKIPPED_MAX {
            let last = before.checked_sub(1).and_then(Position::new);
            let Some(last) = last else { break };
            let Some((start, run)) = self.0.floor::<Free>(&last)? else { break };
            before = start.get();
            if self.0.writer().has_usable_block(run) {
                self.take(run)?;
                self.0.scan.took(start);
                self.0.writer().release(run)?;
                missing = missing.saturating_sub(run.count().into());
            } else {
                skipped += 1;
            }
        }
        Ok(())
    }

    /// Records the free runs and seals the free list. Returns the runs that no page records.
    ///
    /// The pages of the free list need blocks that were free at the last commit. So these stay out
    /// of the list: two blocks for each page to seal, and a few more. A full disk has no other
    /// blocks, and in an old archive each of them may be a run of one block. The copies of a page
    /// come from the front and the end of runs, so that sealing adds no run.
    pub(super) fn record(&mut self) -> Result<Vec<Run>> {
        let mut freed = self.0.writer().drain_freed();
        // Refilled before freed blocks are recorded, because they must not be allocated in this
        // transaction.
        let touched = count(freed.len()).min(self.pages_at_most());
        let pages = self.pages_to_seal() + touched + SPLIT_BLOCKS;
        self.refill(2 * pages)?;
        let pages = usize::try_from(pages).expect("the pages are in memory");
        self.spread(pages)?;
        self.0.writer().make_far_room(pages)?;
        let mut kept = from_both_ends(&self.0.writer().drain_pool());
        // The shortest go first, and of those of one length, the ones in the middle of the file.
        kept.sort_by_key(|run| std::cmp::Reverse(run.count()));
        let mut kept_blocks: u64 = kept.iter().map(|run| u64::from(run.count())).sum();
        loop {
            freed.extend(self.0.writer().drain_freed().iter());
            // A page that becomes dirty frees two runs. A dirty page frees no further block, and the
            // number of pages is finite, so this ends.
            while freed.len() > FREED_RUNS {
                for run in freed.iter() {
                    self.insert(run)?;
                }
                freed = self.0.writer().drain_freed();
            }
            // Up to `KEPT_RUNS` runs may stay out of the free list, at any length. If there are
            // more, keep as many blocks as are needed, and return the surplus to the list.
            let needed = 2 * self.pages_to_seal() + SPLIT_BLOCKS;
            if kept.len() <= KEPT_RUNS || kept_blocks <= needed {
                break;
            }
            let Some(smallest) = kept.pop() else { break };
            let surplus = u32::try_from(kept_blocks - needed).unwrap_or(u32::MAX);
            let (given_back, rest) = smallest.split(surplus);
            kept.extend(rest);
            if let Some(run) = given_back {
                let joined = self.insert(run)?;
                self.0.scan.rewind(joined.start());
                kept_blocks -= u64::from(run.count());
            }
        }
        for run in kept {
            self.0.writer().release(run)?;
        }
        self.0.flush(TreeId::Free)?;
        self.0.seal()?;
        freed.extend(self.0.writer().drain_pool().iter());
        freed.extend(self.0.writer().drain_freed().iter());
        assert!(
            freed.len() <= INLINE_FREE_RUNS_MAX,
            "the fixed point leaves no more runs than fit the meta slot"
        );
        Ok(freed.iter().collect())
    }

    /// Adds a run and joins it with adjacent runs. Returns the joined run.
    ///
    /// The specification calls it `recycle`.
    pub(super) fn insert(&mut self, run: Run) -> Result<Run> {
        let (mut start, mut end) = (run.start(), run.end());
        if let Some(before) = start.get().checked_sub(1).map(Position::at)
            && let Some((found, left)) = self.0.floor::<Free>(&before)?
            && left.end() == start.get()
        {
            self.take(left)?;
            start = found;
        }
        if let Some(after) = Position::new(end)
            && let Some(right) = self.0.get::<Free>(&after)?
        {
            self.take(right)?;
            end = right.end();
        }
        let joined = Run::new(start, end - start.get()).expect("adjacent runs form a run");
        let blocks = &mut self.0.counters[FREE_BLOCKS_COUNTER];
        *blocks = blocks.saturating_add(joined.count().into());
        self.0.put::<Free>(&start, &joined)?;
        self.0.scan.grew(joined);
        Ok(joined)
    }

    /// Takes out the run that ends at `end`, if there is one.
    pub(super) fn take_ending_at(&mut self, end: u32) -> Result<Option<Run>> {
        let last = end.checked_sub(1).map(Position::at);
        let Some(last) = last else { return Ok(None) };
        let found = self.0.floor::<Free>(&last)?.map(|(_, run)| run);
        let Some(run) = found.filter(|run| run.end() == end) else { return Ok(None) };
        self.take(run)?;
        self.0.scan.took(run.start());
        Ok(Some(run))
    }

    /// Takes out a whole run.
    fn take(&mut self, run: Run) -> Result<()> {
        self.0.remove::<Free>(&run.start())?;
        let blocks = &mut self.0.counters[FREE_BLOCKS_COUNTER];
        *blocks = blocks.saturating_sub(u64::from(run.count()));
        Ok(())
    }

    /// Returns the number of pages of the free list that a commit changes at most, apart from those that are dirty.
    pub(super) fn pages_to_change(&mut self) -> u64 {
        // A changed page frees two runs, each of which may be recorded in another page.
        let is_held = self.0.writer().oldest_pinned().is_some();
        let freed = if is_held { u64::MAX } else { count(self.0.writer().freed_runs()).max(1) };
        freed.min(self.pages_at_most()).saturating_sub(self.pages_to_seal())
    }

    /// Returns the number of pages of the free list, or a few more.
    fn pages_at_most(&self) -> u64 {
        self.0.entries(TreeId::Free) / RUNS_PER_PAGE_MIN + 2
    }

    /// Returns the number of pages of the free list that the commit will seal.
    fn pages_to_seal(&self) -> u64 {
        count(self.0.dirty_pages_of(TreeId::Free))
    }
}

/// Returns the runs, alternately from the front and from the end.
fn from_both_ends(pool: &RunSet) -> Vec<Run> {
    let mut runs = pool.iter();
    let mut found = Vec::with_capacity(pool.len());
    while let Some(run) = runs.next() {
        found.push(run);
        found.extend(runs.next_back());
    }
    found
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::working::WorkingTrees;

    fn run(start: u32, count: u32) -> Run {
        Run::new(Position::at(start), count).unwrap()
    }

    fn listed(trees: &WorkingTrees) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut from = Position::at(0);
        while let Some((key, run)) = trees.ceiling::<Free>(&from).unwrap() {
            assert_eq!(key, run.start());
            from = Position::at(run.end());
            runs.push(run);
        }
        runs
    }

    #[test]
    fn adjacent_free_runs_are_joined() {
        for (runs, expected) in [
            (vec![(100, 3)], vec![(100, 3)]),
            // No adjacent runs.
            (vec![(100, 3), (104, 2)], vec![(100, 3), (104, 2)]),
            (vec![(104, 2), (100, 3)], vec![(100, 3), (104, 2)]),
            // Adjacent on the right, on the left, and on both sides.
            (vec![(100, 3), (103, 2)], vec![(100, 5)]),
            (vec![(103, 2), (100, 3)], vec![(100, 5)]),
            (vec![(100, 3), (105, 4), (103, 2)], vec![(100, 9)]),
            (vec![(100, 3), (105, 4), (104, 1)], vec![(100, 3), (104, 5)]),
            (vec![(8, 1), (10, 1), (9, 1)], vec![(8, 3)]),
        ] {
            let mut trees = WorkingTrees::of_new_archive();
            let before = trees.free_blocks();
            for &(start, count) in &runs {
                trees.free_list().insert(run(start, count)).unwrap();
            }
            let expected: Vec<Run> = expected.iter().map(|&(at, count)| run(at, count)).collect();
            assert_eq!(listed(&trees), expected, "{runs:?}");
            let blocks: u64 = expected.iter().map(|run| u64::from(run.count())).sum();
            assert_eq!(trees.free_blocks() - before, blocks, "{runs:?}");
        }
    }

    #[test]
    fn only_the_run_that_ends_at_the_given_block_is_taken() {
        let mut trees = WorkingTrees::of_new_archive();
        trees.free_list().insert(run(100, 3)).unwrap();
        trees.free_list().insert(run(110, 2)).unwrap();
        for end in [0, 1, 100, 102, 104, 110, 111, 113] {
            assert_eq!(trees.free_list().take_ending_at(end).unwrap(), None, "{end}");
        }
        let before = trees.free_blocks();
        assert_eq!(trees.free_list().take_ending_at(103).unwrap(), Some(run(100, 3)));
        assert_eq!(before - trees.free_blocks(), 3);
        assert_eq!(listed(&trees), [run(110, 2)]);
    }
}
