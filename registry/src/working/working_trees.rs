//! The working trees of a writer, within bounded memory.

use std::sync::Arc;

use ar7_engine::format::{BLOCKS_MAX, DoubledRef, Generation, ROOTS, Root, Run};
use ar7_engine::store::{
    FreeBlocks, OwnedSealJob, Redirects, Savepoint, Store, Urgency, Writer, reserve_for,
};
use zeroize::Zeroizing;

use super::free_list::FreeList;
use super::page_search::PageSearch;
use super::spares::SpareBlocks;
use super::trees::{SearchStarts, Trees};
use crate::committed::PageCache;
use crate::error::Result;
use crate::packs::FrameCache;
use crate::records::{FREE_BLOCKS_COUNTER, ReadRecords, Record, TreeId};

/// Maximum number of dirty pages in memory. Beyond it they are sealed before the commit. 16,384
/// pages are about 80 MiB, and their blocks are 64 MiB more while they are sealed.
const DIRTY_PAGES_MAX: usize = 16_384;

/// The same, in bytes: a page of keys with a long prefix takes several times more.
const DIRTY_BYTES_MAX: u64 = 96 << 20;

/// Number of dirty pages after which their bytes are counted, and the cache makes more room.
const DIRTY_PAGES_STEP: usize = 1024;

/// Number of pages for which a flush provides blocks in addition to the dirty pages: for splits, and
/// for pages of the free list.
const SPLIT_PAGES: usize = 16;

/// What must be left after blocks are allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// The reserve, for deletions.
    Reserve,
    Nothing,
}

/// What a commit would do to the free blocks.
pub(crate) struct Outlook {
    /// Number of blocks that it writes, apart from blocks of streams.
    pub(crate) written: usize,
    pub(crate) free: FreeBlocks,
}

/// The trees of the open transaction, and the blocks that it allocates and frees.
pub(crate) struct WorkingTrees {
    trees: Trees,
    pub(crate) dirty_pages_max: usize,
    /// Number of dirty pages that the cache leaves room for.
    room_for_pages: usize,
    /// The search for pages to move in the next commit.
    pub(crate) search: PageSearch,
    /// Memory for the dirty blocks of streams.
    pub(crate) spares: SpareBlocks,
    /// Memory for a list of blocks to seal.
    jobs: Vec<OwnedSealJob>,
}

impl WorkingTrees {
    pub(crate) fn new(writer: Writer, cache: Arc<PageCache>) -> WorkingTrees {
        WorkingTrees {
            trees: Trees::open(writer, cache),
            dirty_pages_max: DIRTY_PAGES_MAX,
            room_for_pages: 0,
            search: PageSearch::default(),
            spares: SpareBlocks::default(),
            jobs: Vec::new(),
        }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.trees.pages.writer.store()
    }

    /// Waits for in-flight writes and returns the store.
    pub(crate) fn flushed_store(&self) -> Result<&Store> {
        self.trees.pages.writer.wait()?;
        Ok(self.store())
    }

    pub(crate) fn redirects(&self) -> &Redirects {
        self.trees.pages.writer.redirects()
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        self.trees.writer()
    }

    /// Returns the counters of the meta slot in the open transaction.
    pub(crate) fn counters(&self) -> [u64; 8] {
        self.trees.counters()
    }

    pub(crate) fn counter_mut(&mut self, counter: usize) -> &mut u64 {
        &mut self.trees.counters[counter]
    }

    /// Inserts or replaces a record. Returns the old value.
    pub(crate) fn put<R: Record>(
        &mut self,
        key: &R::Key,
        value: &R::Value,
    ) -> Result<Option<R::Value>> {
        let before = self.trees.put::<R>(key, value)?;
        self.spill()?;
        Ok(before)
    }

    /// Removes a record. Returns its value.
    pub(crate) fn remove<R: Record>(&mut self, key: &R::Key) -> Result<Option<R::Value>> {
        let before = self.trees.remove::<R>(key)?;
        self.spill()?;
        Ok(before)
    }

    /// Returns the number of records in a tree.
    pub(crate) fn entries(&self, tree: TreeId) -> u64 {
        self.trees.entries(tree)
    }

    /// Allocates a run of 1 to `most` blocks for data. Prefers blocks of the free list to growing
    /// the file.
    ///
    /// The specification calls it `reuse`.
    pub(crate) fn allocate(&mut self, most: u32, urgency: Urgency) -> Result<Run> {
        self.free_list().refill(u64::from(most))?;
        Ok(self.writer().allocate(most, urgency)?)
    }

    /// Returns the maximum number of blocks that can be allocated: free ones, and those by which
    /// the file can still grow.
    pub(crate) fn room(&self) -> u64 {
        let writer = &self.trees.pages.writer;
        let used = writer.block_count().saturating_add(writer.reserve_blocks());
        self.free_blocks().saturating_add(u64::from(BLOCKS_MAX.saturating_sub(used)))
    }

    /// Returns the number of blocks that were free at the last commit and are not allocated.
    pub(crate) fn free_blocks(&self) -> u64 {
        // The number of blocks in the free list comes from the meta slot, where an attacker with
        // the key can write any number.
        let listed = self.trees.counters[FREE_BLOCKS_COUNTER];
        listed.saturating_add(self.trees.pages.writer.pooled_blocks())
    }

    /// Frees a run. The blocks can be allocated after the next commit.
    pub(crate) fn free(&mut self, run: Run) -> Result<()> {
        self.writer().check_run(run)?;
        self.writer().free(run);
        Ok(())
    }

    /// Cancels allocations to which no block was sealed.
    pub(crate) fn cancel(&mut self, runs: Vec<Run>) {
        self.writer().cancel(runs);
    }

    /// Starts to seal and write new blocks of streams in another thread. Returns their generation.
    pub(crate) fn start_blocks(&mut self, jobs: Vec<OwnedSealJob>) -> Result<Generation> {
        let (generation, mut written) = self.writer().start_fresh(jobs)?;
        written.drain(..).for_each(|job| self.spares.give(job.data));
        self.jobs = written;
        Ok(generation)
    }

    /// Returns an empty list of blocks to seal, with reused memory.
    pub(crate) fn take_jobs(&mut self) -> Vec<OwnedSealJob> {
        std::mem::take(&mut self.jobs)
    }

    /// Moves free blocks from the free list to the pool until it has `blocks` blocks or the list is
    /// empty.
    pub(crate) fn make_room(&mut self, blocks: usize) -> Result<()> {
        self.free_list().refill(u64::try_from(blocks).unwrap_or(u64::MAX))
    }

    /// Provides room for both copies of `pages` pages: blocks of the free list, far apart if it has
    /// such, or else new blocks at the end of the file.
    pub(super) fn make_page_room(&mut self, pages: usize) -> Result<()> {
        // Without free blocks in the pool, every small commit would extend the file.
        self.make_room(2 * pages)?;
        self.free_list().spread(pages)?;
        Ok(self.writer().make_far_room(pages)?)
    }

    /// Seals every dirty page of every tree except the free list, which the commit seals last.
    pub(crate) fn flush_trees(&mut self) -> Result<()> {
        self.make_page_room(self.trees.dirty_pages() + SPLIT_PAGES)?;
        // The sealed pages go into the cache, which therefore gets its full size back.
        self.leave_room(0, 0);
        for tree in TreeId::ALL.into_iter().filter(|&tree| tree != TreeId::Free) {
            self.trees.flush(tree)?;
        }
        self.trees.seal()
    }

    /// Seals every dirty page, also those of the free list, so that the roots describe the trees.
    ///
    /// The reserve is for the commit. Without enough other blocks it fails, and has changed nothing.
    pub(crate) fn flush_all(&mut self) -> Result<()> {
        let pages = self.trees.dirty_pages();
        self.make_page_room(pages + SPLIT_PAGES)?;
        self.try_page_room(pages)?;
        self.flush_trees()?;
        self.trees.flush(TreeId::Free)?;
        self.trees.seal()
    }

    /// Fails if there is no room for both copies of `pages` pages outside of the reserve.
    pub(super) fn try_page_room(&mut self, pages: usize) -> Result<()> {
        Ok(self.writer().check_room(2 * pages)?)
    }

    /// Fails if there is no room for `blocks` new blocks of streams and for everything else that a commit writes, or if
    /// that leaves less than the reserve.
    pub(crate) fn check_room(&mut self, blocks: usize) -> Result<()> {
        let more = 2 * (self.pages_with(0) - self.trees.dirty_pages());
        let needed = self.page_blocks().saturating_add(more + self.writer().redo_list_blocks());
        self.check_blocks(blocks.saturating_add(needed), Leaves::Reserve)
    }

    /// Fails if fewer than `count` blocks can be allocated, or fewer are left then.
    pub(crate) fn check_blocks(&mut self, count: usize, leaves: Leaves) -> Result<()> {
        let left = match leaves {
            Leaves::Reserve => self.reserve(),
            Leaves::Nothing => 0,
        };
        if self.find_blocks(count.saturating_add(left as usize))? {
            return Ok(());
        }
        Ok(self.writer().check_usable(count, left)?)
    }

    /// Returns whether `count` blocks can be allocated without growing the file. Moves blocks from the free list to the pool
    /// if the pool has too few.
    pub(super) fn find_blocks(&mut self, count: usize) -> Result<bool> {
        let wanted = u64::try_from(count).unwrap_or(u64::MAX);
        let missing =
            |trees: &WorkingTrees| wanted.saturating_sub(trees.trees.pages.writer.usable_blocks());
        let more = missing(self);
        if more > 0 {
            let pooled = self.trees.pages.writer.pooled_blocks();
            self.free_list().refill(pooled.saturating_add(more))?;
        }
        Ok(missing(self) == 0)
    }

    /// Returns the depth of a tree.
    pub(crate) fn depth(&self, tree: TreeId) -> usize {
        self.trees.depth(tree)
    }

    /// Returns whether the commit has room for this many more changed pages. Next to readers, who hold what it frees, the
    /// reserve must be left. Without them, if nothing has changed yet, room for these pages is enough, so that purging makes
    /// progress.
    pub(crate) fn has_room_to_change(&mut self, pages: usize) -> Result<bool> {
        let is_held = self.writer().oldest_pinned().is_some();
        let others = match (is_held, self.trees.dirty_pages()) {
            (false, 0) => 0,
            (false, _) => self.page_blocks() + self.writer().redo_list_blocks(),
            (true, _) => {
                let reserve = usize::try_from(self.reserve()).unwrap_or(usize::MAX);
                reserve + self.page_blocks() + self.writer().redo_list_blocks()
            }
        };
        self.find_blocks(others.saturating_add(2 * pages))
    }

    /// Returns the number of blocks that a commit of these trees keeps in reserve.
    pub(crate) fn reserve(&self) -> u32 {
        let reserve = self.trees.pages.writer.reserve_blocks();
        reserve.max(reserve_for(u32::try_from(self.trees.depths()).unwrap_or(u32::MAX)))
    }

    /// Returns the number of blocks that a commit writes now for both copies of its pages.
    pub(crate) fn page_blocks(&mut self) -> usize {
        let free = usize::try_from(self.free_list().pages_to_change()).unwrap_or(usize::MAX);
        self.trees.dirty_pages().saturating_add(free).saturating_mul(2)
    }

    /// Returns what a commit does to the free blocks.
    pub(crate) fn outlook(&mut self) -> Outlook {
        let listed_before = self.store().current().slot.counters[FREE_BLOCKS_COUNTER];
        let listed = self.trees.counters[FREE_BLOCKS_COUNTER];
        let (redo, freed) = self.writer().redo_list_change();
        let known = self.writer().known_free();
        // A page that became dirty has freed its blocks already. The free list has at least one page.
        let gap = usize::from(self.entries(TreeId::Free) == 0 && listed_before > 0);
        let taken = 2 * (self.trees.dirty_pages() + gap) + redo;
        let after = listed.saturating_add(known.after).saturating_add(freed);
        Outlook {
            written: self.page_blocks().saturating_add(redo),
            free: FreeBlocks {
                before: listed_before.saturating_add(known.before),
                after: after.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)),
            },
        }
    }

    /// Returns the number of pages whose copies lie close to each other.
    pub(super) fn near_pages(&self) -> u64 {
        self.trees.pages.near
    }

    /// Returns the number of pages that the next flush seals, and that moving `more` pages adds at
    /// most, together.
    pub(super) fn pages_with(&self, more: usize) -> usize {
        self.trees.dirty_pages() + more + self.trees.depths() + SPLIT_PAGES
    }

    /// Returns the number of known bad copies of pages that are still in use.
    pub(crate) fn unhealed(&self) -> usize {
        self.cache().unhealed().len()
    }

    /// Returns the decoded frames of packed content.
    pub(crate) fn frames(&self) -> &FrameCache {
        self.cache().frames()
    }

    /// Returns the cache of pages.
    pub(super) fn cache(&self) -> &PageCache {
        &self.trees.pages.cache
    }

    /// Records that the transaction was committed.
    pub(crate) fn committed(&mut self) {
        self.cache().committed();
    }

    /// Records the free runs and seals the free list. Returns the runs that no page records.
    pub(crate) fn flush_free_list(&mut self) -> Result<Vec<Run>> {
        self.free_list().record()
    }

    /// Returns the roots. All trees must be flushed.
    pub(crate) fn roots(&self) -> [Root; ROOTS] {
        self.trees.roots()
    }

    /// Returns to the last commit.
    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.trees.rollback()?;
        self.leave_room(0, 0);
        self.spares.clear();
        Ok(())
    }

    /// Returns to a savepoint, at which the trees had these roots and counters.
    pub(crate) fn roll_back_to(
        &mut self,
        point: &Savepoint,
        roots: &[Root; ROOTS],
        counters: [u64; 8],
    ) -> Result<()> {
        self.trees.roll_back_to(point, roots, counters)?;
        self.leave_room(0, 0);
        self.spares.clear();
        Ok(())
    }

    /// Returns whether anything has changed since the last commit.
    pub(crate) fn is_touched(&self) -> bool {
        self.trees.pages.writer.is_touched() || self.trees.dirty_pages() > 0
    }

    /// Ends writing, and trims the file.
    pub(crate) fn finish(self) -> Result<()> {
        // A failed trim only leaves the file longer than necessary. The commit is durable.
        let _ = self.trees.pages.writer.finish()?.trimmed;
        Ok(())
    }

    pub(super) fn free_list(&mut self) -> FreeList<'_> {
        FreeList(&mut self.trees)
    }

    /// Returns the number of dirty pages.
    pub(crate) fn dirty_pages(&self) -> usize {
        self.trees.dirty_pages()
    }

    /// Returns the number of dirty pages of one tree.
    pub(crate) fn dirty_pages_of(&self, tree: TreeId) -> usize {
        self.trees.dirty_pages_of(tree)
    }

    /// Fills a leaf of a tree from the leaves after it. Returns the first key behind it.
    pub(crate) fn fill_leaf(
        &mut self,
        tree: TreeId,
        key: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        self.trees.fill_leaf(tree, key)
    }

    pub(super) fn relocate(
        &mut self,
        starts: &mut SearchStarts,
        is_wanted: &dyn Fn(DoubledRef) -> bool,
        most: usize,
        branches: u32,
    ) -> bool {
        self.trees.relocate(starts, is_wanted, most, branches)
    }

    /// Seals dirty pages before the commit if they exceed the memory limit.
    fn spill(&mut self) -> Result<()> {
        let dirty = self.trees.dirty_pages();
        let mut is_too_much = dirty > self.dirty_pages_max;
        if dirty >= self.room_for_pages + DIRTY_PAGES_STEP {
            let bytes = self.trees.dirty_bytes();
            self.leave_room(dirty, bytes);
            is_too_much |= bytes > DIRTY_BYTES_MAX;
        }
        if is_too_much {
            self.flush_trees()?;
        }
        Ok(())
    }

    fn leave_room(&mut self, dirty_pages: usize, bytes: u64) {
        if dirty_pages != self.room_for_pages {
            self.trees.pages.cache.leave_room(bytes);
            self.room_for_pages = dirty_pages;
        }
    }
}

impl ReadRecords for WorkingTrees {
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        self.trees.get::<R>(key)
    }

    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        self.trees.floor::<R>(key)
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        self.trees.ceiling::<R>(key)
    }
}

#[cfg(test)]
impl WorkingTrees {
    /// Returns the trees of a new archive in memory.
    pub(crate) fn of_new_archive() -> WorkingTrees {
        use ar7_engine::crypto::{RawKey, Secret};
        use ar7_engine::device::MemoryDevice;
        use ar7_engine::store::CreateOptions;

        let (device, secret) = (MemoryDevice::new(), Secret::Key(RawKey::from_bytes([7; 32])));
        let options = CreateOptions::default();
        let (_, writer) = Store::create_device(Box::new(device), &secret, &options).unwrap();
        WorkingTrees::new(writer, Arc::new(PageCache::new()))
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::SessionRecord;

    use super::*;
    use crate::records::Sessions;

    #[test]
    fn dirty_pages_above_the_limit_are_sealed_early() {
        let mut trees = WorkingTrees::of_new_archive();
        trees.dirty_pages_max = 10;
        for number in 0..20_000_u32 {
            // In no order, so that most changes dirty another page.
            let session = number.wrapping_mul(0x9e37_79b9);
            let record = SessionRecord { session, salt: 1, last_step: 1 };
            trees.put::<Sessions>(&session, &record).unwrap();
            assert!(trees.trees.dirty_pages() <= 10);
        }
        assert_eq!(trees.entries(TreeId::Sessions), 20_000);
    }
}
