//! The working state of a writer: the engine's writer and the trees over it.

use std::collections::HashMap;
use std::sync::Arc;

use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::format::{
    BLOCKS_MAX, BlockHead, BlockIndex, BlockRef, Data, Generation, MetaSlot, Position, ROOTS, Root,
    Run,
};
use ar7_engine::store::{OwnedSealJob, RESERVE_BLOCKS, Redirects, Store, Urgency, Writer};

use super::free_list;
use super::pages::{PageCache, load_page, page_stream};
use crate::error::Result;
use crate::records::{ReadRecords, Record, TreeId, decoded_value, read_through};
use crate::stream::SpareBlocks;
use crate::tree::{Page, PageExpectation, PageSpace, PageStore, Tree};

/// Dirty pages that are kept in memory at most; above it they are sealed early. 32,768 pages are 128 MiB.
const DIRTY_PAGES_MAX: usize = 32_768;

/// After so many more dirty pages, the cache is told to leave room for them.
const DIRTY_PAGES_STEP: usize = 1024;

/// Blocks beyond the dirty pages that a flush has at hand: splits, and the trash's own pages.
const SPARE_PAGES: usize = 16;

/// The counter of the meta slot that holds the number of blocks that the trash records.
pub(super) const FREE_LIST_COUNTER: usize = 7;

/// The working state of a writer.
pub(crate) struct Registry {
    pub(super) trees: Trees,
    pub(super) space: WriterSpace,
    /// Blocks that the trash records as free.
    pub(super) free_list_blocks: u64,
    pub(super) dirty_pages_max: usize,
    /// Dirty pages that the cache leaves room for.
    room_for_pages: usize,
    /// Memory for the changed blocks of streams.
    pub(crate) spares: SpareBlocks,
    /// Memory for a list of them.
    jobs: Vec<OwnedSealJob>,
}

/// The trees, in the order of their roots in the meta slot.
pub(super) struct Trees([Tree; TreeId::ALL.len()]);

impl Trees {
    pub(super) fn open(slot: &MetaSlot) -> Trees {
        Trees(TreeId::ALL.map(|tree| Tree::open(tree.number(), slot.roots[tree.index()])))
    }

    pub(super) fn get(&self, tree: TreeId) -> &Tree {
        &self.0[tree.index()]
    }

    pub(super) fn get_mut(&mut self, tree: TreeId) -> &mut Tree {
        &mut self.0[tree.index()]
    }

    fn dirty_pages(&self) -> usize {
        self.0.iter().map(Tree::dirty_pages).sum()
    }
}

/// Where the pages of the working trees come from and go to.
pub(super) struct WriterSpace {
    pub(super) writer: Writer,
    cache: Arc<PageCache>,
    /// Pages with a position that are not sealed yet.
    pending: HashMap<Position, Arc<Page>>,
}

impl Registry {
    pub(super) fn new(writer: Writer, cache: Arc<PageCache>) -> Registry {
        let slot = &writer.store().current().slot;
        let (trees, free_list_blocks) = (Trees::open(slot), slot.counters[FREE_LIST_COUNTER]);
        let space = WriterSpace { writer, cache, pending: HashMap::new() };
        let spares = SpareBlocks::default();
        let (dirty_pages_max, room_for_pages) = (DIRTY_PAGES_MAX, 0);
        let jobs = Vec::new();
        Registry { trees, space, free_list_blocks, dirty_pages_max, room_for_pages, spares, jobs }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.space.writer.store()
    }

    /// The store, with everything in it that was flushed.
    pub(crate) fn flushed_store(&self) -> Result<&Store> {
        self.space.writer.wait()?;
        Ok(self.store())
    }

    pub(crate) fn redirects(&self) -> &Redirects {
        self.space.writer.redirects()
    }

    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.space.writer
    }

    /// Inserts or replaces a record; returns the value it replaced.
    pub(crate) fn put<R: Record>(
        &mut self,
        key: &R::Key,
        value: &R::Value,
    ) -> Result<Option<R::Value>> {
        let before = self.put_kept::<R>(key, value)?;
        self.spill()?;
        Ok(before)
    }

    /// As [`Registry::put`], but keeps every page in memory: while the trash is being recorded, nothing
    /// else may allocate, since what the transaction freed is in the trash by then.
    pub(super) fn put_kept<R: Record>(
        &mut self,
        key: &R::Key,
        value: &R::Value,
    ) -> Result<Option<R::Value>> {
        let (tree, space) = (self.trees.get_mut(R::TREE), &mut self.space);
        R::with_key(key, |key| {
            let before = R::with_value(value, |value| tree.insert(space, key, value))?;
            decoded_value::<R>(key, before)
        })
    }

    /// Removes a record; returns its value.
    pub(crate) fn remove<R: Record>(&mut self, key: &R::Key) -> Result<Option<R::Value>> {
        let before = self.remove_kept::<R>(key)?;
        self.spill()?;
        Ok(before)
    }

    /// As [`Registry::remove`], but keeps every page in memory.
    pub(super) fn remove_kept<R: Record>(&mut self, key: &R::Key) -> Result<Option<R::Value>> {
        let (tree, space) = (self.trees.get_mut(R::TREE), &mut self.space);
        R::with_key(key, |key| decoded_value::<R>(key, tree.remove(space, key)?))
    }

    /// Number of records in a tree.
    pub(crate) fn entries(&self, tree: TreeId) -> u64 {
        self.trees.get(tree).entries()
    }

    /// A run of 1 to `most` blocks for data; recycled blocks come first.
    ///
    /// The specification's name is `reuse`.
    pub(crate) fn allocate(&mut self, most: u32) -> Result<Run> {
        if self.space.writer.pooled_blocks() < u64::from(most) {
            free_list::refill(self, u64::from(most))?;
        }
        Ok(self.space.writer.allocate(most, Urgency::Ordinary)?)
    }

    /// Blocks that can be allocated at most: free ones, and those that the format still has.
    pub(crate) fn room(&self) -> u64 {
        let writer = &self.space.writer;
        let new = u64::from(BLOCKS_MAX.saturating_sub(writer.block_count() + RESERVE_BLOCKS));
        // The number in the trash is the meta slot's, which somebody with the key may have made.
        new.saturating_add(self.free_list_blocks).saturating_add(writer.pooled_blocks())
    }

    /// Recycles a run.
    pub(crate) fn free(&mut self, run: Run) -> Result<()> {
        self.space.writer.check_run(run)?;
        self.space.writer.free(run);
        Ok(())
    }

    /// Takes back allocations that nothing was sealed to.
    pub(super) fn cancel(&mut self, runs: Vec<Run>) {
        self.space.writer.cancel(runs);
    }

    /// Seals new blocks of streams, which goes on beside other things. Returns their generation.
    pub(super) fn start_blocks(&mut self, jobs: Vec<OwnedSealJob>) -> Result<Generation> {
        let (generation, mut written) = self.space.writer.start_fresh(jobs)?;
        written.drain(..).for_each(|job| self.spares.give(job.data));
        self.jobs = written;
        Ok(generation)
    }

    /// An empty list of blocks, in memory that was used before.
    pub(super) fn take_jobs(&mut self) -> Vec<OwnedSealJob> {
        std::mem::take(&mut self.jobs)
    }

    /// Seals every dirty page of every tree but the trash, whose turn comes last.
    pub(super) fn flush_trees(&mut self) -> Result<()> {
        // Recycled blocks first: otherwise every small commit would lengthen the file.
        let pages = self.trees.dirty_pages() + SPARE_PAGES;
        free_list::refill(self, u64::try_from(pages).unwrap_or(u64::MAX))?;
        // Sealed, they go on in the cache.
        self.leave_room(0);
        for tree in TreeId::ALL.into_iter().filter(|&tree| tree != TreeId::Free) {
            self.trees.get_mut(tree).flush(&mut self.space)?;
        }
        self.space.seal_pending()
    }

    /// The roots, once all trees are flushed.
    pub(super) fn roots(&self) -> [Root; ROOTS] {
        let mut roots = [Root::default(); ROOTS];
        for tree in TreeId::ALL {
            roots[tree.index()] = self.trees.get(tree).root();
        }
        roots
    }

    /// Back to the last commit.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.space.pending.clear();
        self.space.writer.rollback()?;
        let current = self.store().current();
        self.trees = Trees::open(&current.slot);
        self.free_list_blocks = current.slot.counters[FREE_LIST_COUNTER];
        self.leave_room(0);
        self.spares.clear();
        Ok(())
    }

    /// Makes sure that `blocks` recycled blocks are at hand, if there are so many.
    pub(super) fn make_room(&mut self, blocks: usize) -> Result<()> {
        free_list::refill(self, u64::try_from(blocks).unwrap_or(u64::MAX))
    }

    /// Whether anything was changed since the last commit.
    pub(super) fn is_touched(&self) -> bool {
        self.space.writer.is_touched() || self.trees.dirty_pages() > 0
    }

    /// Whether there are deleted streams whose blocks are not all free yet.
    pub(super) fn has_pending_deletions(&self) -> bool {
        self.entries(TreeId::PendingDeletions) > 0
    }

    /// Ends writing.
    pub(super) fn finish(self) -> Result<()> {
        // A failed trim leaves the file longer than it need be, and what was committed is durable.
        let _ = self.space.writer.finish()?.trimmed;
        Ok(())
    }

    /// Keeps memory bounded: dirty pages beyond the limit are sealed to fresh positions early.
    fn spill(&mut self) -> Result<()> {
        let dirty = self.trees.dirty_pages();
        if dirty >= self.room_for_pages + DIRTY_PAGES_STEP {
            self.leave_room(dirty);
        }
        if dirty > self.dirty_pages_max {
            self.flush_trees()?;
        }
        Ok(())
    }

    fn leave_room(&mut self, dirty_pages: usize) {
        if dirty_pages != self.room_for_pages {
            self.space.cache.leave_room(dirty_pages);
            self.room_for_pages = dirty_pages;
        }
    }
}

impl ReadRecords for Registry {
    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        let tree = self.trees.get(R::TREE);
        R::with_key(key, |key| read_through::<R>(tree.floor(&self.space, key)?))
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        let tree = self.trees.get(R::TREE);
        R::with_key(key, |key| read_through::<R>(tree.ceiling(&self.space, key)?))
    }

    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        let tree = self.trees.get(R::TREE);
        R::with_key(key, |key| {
            tree.read(&self.space, key, |value| R::decode_value(key, value))?.transpose()
        })
    }
}

impl WriterSpace {
    /// Seals the pages that were handed over, in one parallel batch.
    pub(super) fn seal_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pages: Vec<(Position, Arc<Page>)> = self.pending.drain().collect();
        pages.sort_unstable_by_key(|(position, _)| *position);
        let data: Vec<&Data> = pages.iter().map(|(_, page)| page.data()).collect();
        let jobs: Vec<SealJob<'_>> = pages
            .iter()
            .zip(data)
            .map(|((position, page), data)| SealJob {
                position: *position,
                head: BlockHead {
                    index: BlockIndex(u32::from(page.level())),
                    stream: page_stream(page.tree()),
                    ..BlockHead::default()
                },
                data,
            })
            .collect();
        let expected = self.writer.generation();
        let generation = self.writer.write_fresh(KeyKind::Registry, &jobs)?;
        assert_eq!(generation, expected, "parents name their pages by this generation");
        for (position, page) in pages {
            self.cache.insert(BlockRef { position, generation }, page);
        }
        Ok(())
    }
}

impl PageStore for WriterSpace {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        if at.generation == self.writer.generation()
            && let Some(page) = self.pending.get(&at.position)
        {
            return Ok(Arc::clone(page));
        }
        load_page(self.writer.store(), &self.cache, at, expect)
    }
}

impl PageSpace for WriterSpace {
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let mut missing = pages;
        while missing > 0 {
            let run = self.writer.allocate(missing, Urgency::Reserve)?;
            missing -= run.count();
            runs.push(run);
        }
        Ok(runs)
    }

    fn generation(&self) -> Generation {
        self.writer.generation()
    }

    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()> {
        self.pending.insert(at, page);
        Ok(())
    }

    fn release(&mut self, at: BlockRef) {
        self.writer.free(Run::single(at.position));
    }
}
