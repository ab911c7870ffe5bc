//! The working trees of a writer, within bounded memory.

use std::sync::Arc;

use ar7_engine::format::{BLOCKS_MAX, DoubledRef, Generation, ROOTS, Root, Run};
use ar7_engine::store::{OwnedSealJob, Redirects, Savepoint, Store, Urgency, Writer};
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
    pub(crate) fn allocate(&mut self, most: u32) -> Result<Run> {
        self.free_list().refill(u64::from(most))?;
        Ok(self.writer().allocate(most, Urgency::Ordinary)?)
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

    /// Fails if there is no room for `blocks` new blocks of streams and for the pages that a commit would seal, outside
    /// of the reserve.
    pub(crate) fn check_room(&mut self, blocks: usize) -> Result<()> {
        let pages = self.pages_with(0);
        let needed = blocks.saturating_add(2 * pages);
        self.make_room(needed)?;
        Ok(self.writer().check_room(needed)?)
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
