//! Moving pages in a commit that happens anyway: those with a damaged copy, and those whose copies lie
//! close to each other.

use ar7_engine::Error as EngineError;
use ar7_engine::format::{DoubledRef, Root};
use ar7_engine::store::FAR_FROM_BLOCKS;
use roaring::RoaringBitmap;

use super::trees::SearchStarts;
use super::working_trees::WorkingTrees;
use crate::committed::check_copies;
use crate::error::{Error, Result};
use crate::records::TreeId;
use crate::tree::PageExpectation;

/// Maximum number of pages that one commit moves for each reason.
const MOVED_PAGES_MAX: usize = 64;

impl WorkingTrees {
    /// Copies pages into memory whose two copies are not both good and far apart, so that the commit
    /// gives them new positions. It never changes a page in place: a reader would find it torn.
    ///
    /// Without room for these pages it moves none: they are readable where they are.
    pub(crate) fn move_pages(&mut self) -> Result<()> {
        let unhealed = self.cache().unhealed();
        if !unhealed.is_empty() && self.has_room_to_move(unhealed.len())? {
            let is_bad =
                |at: DoubledRef| at.copies().iter().any(|copy| unhealed.contains(&copy.position));
            self.move_damaged(&is_bad);
        }
        let near = usize::try_from(self.near_pages()).unwrap_or(usize::MAX);
        let is_long = self.writer().block_count() > FAR_FROM_BLOCKS;
        if near == 0 || !is_long || !self.has_room_to_move(near)? {
            return Ok(());
        }
        let pages = self.pages_with(near.min(MOVED_PAGES_MAX));
        if self.writer().has_far_room(pages) {
            let mut starts = std::mem::take(&mut self.search.near);
            let branches = self.search.branches_max;
            self.relocate(&mut starts, &DoubledRef::is_near, MOVED_PAGES_MAX, branches);
            self.search.near = starts;
        }
        Ok(())
    }

    fn move_damaged(&mut self, is_bad: &dyn Fn(DoubledRef) -> bool) {
        let is_whole = std::mem::take(&mut self.search.is_whole);
        let branches = if is_whole { u32::MAX } else { self.search.branches_max };
        let starts = std::mem::take(&mut self.search.damaged);
        let mut starts = if is_whole { SearchStarts::default() } else { starts };
        self.relocate(&mut starts, is_bad, MOVED_PAGES_MAX, branches);
        self.search.damaged = starts;
    }

    /// Makes the next commit search all pages for damaged ones.
    pub(crate) fn search_all_pages(&mut self) {
        self.search.is_whole = true;
    }

    /// Returns whether this commit has room to move this many pages, or as many as one commit moves,
    /// in addition to the dirty pages.
    fn has_room_to_move(&mut self, pages: usize) -> Result<bool> {
        let pages = self.pages_with(pages.min(MOVED_PAGES_MAX));
        self.make_page_room(pages)?;
        match self.try_page_room(pages) {
            Ok(()) => Ok(true),
            Err(Error::Engine(EngineError::NoSpace { .. } | EngineError::Full { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens both copies of every page, and notes those that do not open while the other one does.
    pub(crate) fn find_bad_copies(&self) {
        let slot = &self.store().current().slot;
        let mut visited = RoaringBitmap::new();
        for tree in TreeId::ALL {
            let Root { block, depth, .. } = slot.roots[tree.index()];
            if let Some((block, level)) = block.zip(depth.checked_sub(1)) {
                let expect = PageExpectation { tree: tree.number(), level };
                self.find_bad_copies_below(block, expect, &mut visited);
            }
        }
    }

    fn find_bad_copies_below(
        &self,
        at: DoubledRef,
        expect: PageExpectation,
        visited: &mut RoaringBitmap,
    ) {
        // Someone with the key can make a page refer to one page many times.
        if !visited.insert(at.position.get()) {
            return;
        }
        let Some(page) = check_copies(self.store(), self.cache(), at, expect) else { return };
        if let Some(level) = expect.level.checked_sub(1) {
            for cell in 0..page.count() {
                let below = PageExpectation { level, ..expect };
                self.find_bad_copies_below(page.child_block(cell), below, visited);
            }
        }
    }
}
