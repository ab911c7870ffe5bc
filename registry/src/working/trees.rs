//! The trees of the open transaction.

use std::sync::Arc;

use ar7_engine::format::{DoubledRef, ROOTS, Root};
use ar7_engine::store::{Savepoint, Writer};
use zeroize::Zeroizing;

use super::free_scan::FreeScan;
use super::pages::WorkingPages;
use crate::committed::PageCache;
use crate::error::Result;
use crate::records::{
    NEAR_PAGES_COUNTER, ReadRecords, Record, TreeId, decoded_entry, decoded_value,
};
use crate::tree::{SearchStart, Tree};

/// Where the search for pages begins in each tree.
pub(super) type SearchStarts = [SearchStart; TreeId::ALL.len()];

/// The trees, their pages, and the counters that the meta slot stores next to the roots.
pub(super) struct Trees {
    /// The trees, in the order of their roots in the meta slot.
    by_number: [Tree; TreeId::ALL.len()],
    pub(super) pages: WorkingPages,
    /// The counters, except for the number of pages that `pages` has.
    pub(super) counters: [u64; 8],
    pub(super) scan: FreeScan,
}

impl Trees {
    pub(super) fn open(writer: Writer, cache: Arc<PageCache>) -> Trees {
        let slot = &writer.store().current().slot;
        let (by_number, counters) = (trees_of(&slot.roots), slot.counters);
        let pages = WorkingPages::new(writer, cache, counters[NEAR_PAGES_COUNTER]);
        Trees { by_number, pages, counters, scan: FreeScan::new() }
    }

    /// Returns the counters of the meta slot.
    pub(super) fn counters(&self) -> [u64; 8] {
        let mut counters = self.counters;
        counters[NEAR_PAGES_COUNTER] = self.pages.near;
        counters
    }

    fn set_counters(&mut self, counters: [u64; 8]) {
        (self.counters, self.pages.near) = (counters, counters[NEAR_PAGES_COUNTER]);
    }

    pub(super) fn writer(&mut self) -> &mut Writer {
        &mut self.pages.writer
    }

    /// Inserts or replaces a record. Returns the old value. Allocates no block, because every dirty
    /// page stays in memory.
    pub(super) fn put<R: Record>(
        &mut self,
        key: &R::Key,
        value: &R::Value,
    ) -> Result<Option<R::Value>> {
        let (tree, pages) = (&mut self.by_number[R::TREE.index()], &mut self.pages);
        R::with_key(key, |key| {
            let before = R::with_value(value, |value| tree.insert(pages, key, value))?;
            decoded_value::<R>(key, before)
        })
    }

    /// Removes a record. Returns its value. Allocates no block, because every dirty page stays in
    /// memory.
    pub(super) fn remove<R: Record>(&mut self, key: &R::Key) -> Result<Option<R::Value>> {
        let (tree, pages) = (&mut self.by_number[R::TREE.index()], &mut self.pages);
        R::with_key(key, |key| decoded_value::<R>(key, tree.remove(pages, key)?))
    }

    /// Returns the number of records in a tree.
    pub(super) fn entries(&self, tree: TreeId) -> u64 {
        self.tree(tree).entries()
    }

    /// Returns the number of dirty pages of one tree.
    pub(super) fn dirty_pages_of(&self, tree: TreeId) -> usize {
        self.tree(tree).dirty_pages()
    }

    /// Returns the number of dirty pages of all trees.
    pub(super) fn dirty_pages(&self) -> usize {
        self.by_number.iter().map(Tree::dirty_pages).sum()
    }

    /// Returns how many bytes of memory the dirty pages take.
    pub(super) fn dirty_bytes(&self) -> u64 {
        self.by_number.iter().map(Tree::dirty_bytes).sum()
    }

    /// Allocates positions for the dirty pages of a tree. [`Trees::seal`] seals them.
    pub(super) fn flush(&mut self, tree: TreeId) -> Result<()> {
        self.by_number[tree.index()].flush(&mut self.pages)?;
        Ok(())
    }

    /// Seals the pages of every flushed tree.
    pub(super) fn seal(&mut self) -> Result<()> {
        self.pages.seal()
    }

    /// Copies pages for which `is_wanted` returns true into memory, so that the next flush moves
    /// them. Stops after about `most` pages, and in each tree after reading `branches` branches; the
    /// next call with the same `starts` continues there. Returns whether there were any.
    pub(super) fn relocate(
        &mut self,
        starts: &mut SearchStarts,
        is_wanted: &dyn Fn(DoubledRef) -> bool,
        most: usize,
        branches: u32,
    ) -> bool {
        let mut left = most;
        for (tree, start) in self.by_number.iter_mut().zip(starts) {
            let moved = tree.relocate_from(start, &mut self.pages, is_wanted, left, branches);
            left = left.saturating_sub(moved);
        }
        left < most
    }

    /// Fills a leaf of a tree from the leaves after it. Returns the first key behind it.
    pub(super) fn fill_leaf(
        &mut self,
        tree: TreeId,
        key: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        self.by_number[tree.index()].fill_leaf(&mut self.pages, key)
    }

    /// Returns the depth of a tree.
    pub(super) fn depth(&self, tree: TreeId) -> usize {
        self.tree(tree).depth().into()
    }

    /// Returns the sum of the depths of all trees.
    pub(super) fn depths(&self) -> usize {
        self.by_number.iter().map(Tree::depth).map(usize::from).sum()
    }

    /// Returns the roots. All trees must be flushed.
    pub(super) fn roots(&self) -> [Root; ROOTS] {
        let mut roots = [Root::default(); ROOTS];
        for tree in TreeId::ALL {
            roots[tree.index()] = self.tree(tree).root();
        }
        roots
    }

    /// Returns to the last commit.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.pages.rollback()?;
        self.pages.cache.rolled_back();
        self.scan.roll_back();
        let current = self.pages.writer.store().current();
        self.by_number = trees_of(&current.slot.roots);
        self.set_counters(current.slot.counters);
        Ok(())
    }

    /// Returns to a savepoint, at which the trees had these roots and counters.
    pub(super) fn roll_back_to(
        &mut self,
        point: &Savepoint,
        roots: &[Root; ROOTS],
        counters: [u64; 8],
    ) -> Result<()> {
        self.pages.roll_back_to(point)?;
        self.pages.cache.rolled_back();
        self.scan.rewind_to_taken();
        self.by_number = trees_of(roots);
        self.set_counters(counters);
        Ok(())
    }

    fn tree(&self, tree: TreeId) -> &Tree {
        &self.by_number[tree.index()]
    }
}

fn trees_of(roots: &[Root; ROOTS]) -> [Tree; TreeId::ALL.len()] {
    TreeId::ALL.map(|tree| Tree::open(tree.number(), roots[tree.index()]))
}

impl ReadRecords for Trees {
    fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R::Value>> {
        let tree = self.tree(R::TREE);
        R::with_key(key, |key| {
            tree.read(&self.pages, key, |value| R::decode_value(key, value))?.transpose()
        })
    }

    fn floor<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        let tree = self.tree(R::TREE);
        R::with_key(key, |key| decoded_entry::<R>(tree.floor(&self.pages, key)?))
    }

    fn ceiling<R: Record>(&self, key: &R::Key) -> Result<Option<(R::Key, R::Value)>> {
        let tree = self.tree(R::TREE);
        R::with_key(key, |key| decoded_entry::<R>(tree.ceiling(&self.pages, key)?))
    }
}
