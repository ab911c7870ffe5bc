//! Moving pages: away from the end of the file, or because their copies are damaged or too close to
//! each other.

use ar7_engine::format::DoubledRef;

use super::cursor::{Cursor, load};
use super::page::{Child, PageExpectation};
use super::space::{PageSpace, PageStore};
use super::working::Tree;

/// The key at which a search for pages begins. A search that stops early continues here; one that reaches the last page
/// begins at the first one again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchStart(Vec<u8>);

/// A search for pages to move.
struct Search<'w> {
    is_wanted: &'w dyn Fn(DoubledRef) -> bool,
    most: usize,
    branches_left: u32,
    start: &'w [u8],
    /// For each page found, the cells on the path from the root.
    found: Vec<Vec<usize>>,
    /// The lowest key of the page at which the search stopped early.
    stopped: Option<Vec<u8>>,
}

impl Tree {
    /// Copies about `most` of the pages for which `is_wanted` returns true into memory, so that the
    /// next flush gives them new positions. Reads up to `branches` branches, to bound the time, but
    /// no leaf that stays. Returns the number of copied pages.
    ///
    /// Pages that are unreadable, or lie below one, stay where they are.
    pub fn relocate<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        is_wanted: &dyn Fn(DoubledRef) -> bool,
        most: usize,
        branches: u32,
    ) -> usize {
        self.relocate_from(&mut SearchStart::default(), space, is_wanted, most, branches)
    }

    /// Does the same from a key on, to which it assigns where the next call continues. The branches above that key do
    /// not count, so each call gets further.
    pub fn relocate_from<S: PageSpace + ?Sized>(
        &mut self,
        start: &mut SearchStart,
        space: &mut S,
        is_wanted: &dyn Fn(DoubledRef) -> bool,
        most: usize,
        branches: u32,
    ) -> usize {
        let Some(root) = self.root.filter(|_| most > 0) else { return 0 };
        let (found, stopped) = (Vec::new(), None);
        let mut search =
            Search { is_wanted, most, branches_left: branches, start: &start.0, found, stopped };
        search.visit(&mut Cursor::new(self.view(space)), root, true);
        let Search { found, stopped, .. } = search;
        let before = self.dirty_pages();
        let mut left = found.into_iter();
        for cells in left.by_ref() {
            self.make_dirty_at(space, &cells);
            if self.dirty_pages() - before >= most {
                break;
            }
        }
        // If branches above the found pages took their room, the next search finds the rest.
        if left.len() == 0 {
            start.0 = stopped.unwrap_or_default();
        }
        self.dirty_pages() - before
    }

    /// Copies the page at the end of a path into memory, after all pages above it. Only a dirty
    /// page can refer to a dirty page.
    fn make_dirty_at<S: PageSpace + ?Sized>(&mut self, space: &mut S, cells: &[usize]) {
        let mut path: Vec<(u32, usize)> = Vec::with_capacity(cells.len());
        let mut cells = cells.iter();
        let mut child = self.root;
        let mut level = self.depth;
        while let Some(at) = child {
            level -= 1;
            let number = match at {
                Child::Dirty(number) => number,
                Child::Sealed(block) => {
                    let expect = PageExpectation { tree: self.id, level };
                    let above = path.iter().map(|&(number, cell)| (self.page(number), cell));
                    let Ok(page) = load(space, block, expect, above) else { return };
                    self.copy(space, block, &page, path.last().copied())
                }
            };
            child = cells.next().map(|&cell| {
                path.push((number, cell));
                self.page(number).child(cell)
            });
        }
    }
}

impl Search<'_> {
    /// Searches `child`, the page below the cursor, and all pages below it. `has_start` says whether the start lies in
    /// it, or before it.
    fn visit<S: PageStore + ?Sized>(
        &mut self,
        cursor: &mut Cursor<'_, S>,
        child: Child,
        has_start: bool,
    ) {
        if self.stopped.is_some() || self.found.len() >= self.most {
            self.stopped.get_or_insert_with(|| lowest_key(cursor));
            return;
        }
        if matches!(child, Child::Sealed(block) if (self.is_wanted)(block)) {
            self.found.push(cursor.path.iter().map(|&(_, cell)| cell).collect());
        }
        if cursor.path.len() + 1 >= usize::from(cursor.view.depth) {
            return;
        }
        if !has_start || self.start.is_empty() {
            let Some(left) = self.branches_left.checked_sub(1) else {
                self.stopped = Some(lowest_key(cursor));
                return;
            };
            self.branches_left = left;
        }
        let Ok(page) = cursor.page(child) else { return };
        let first = if has_start { page.child_for(self.start) } else { 0 };
        let children: Vec<Child> = (0..page.count()).map(|cell| page.child(cell)).collect();
        cursor.path.push((page, 0));
        for (cell, below) in children.into_iter().enumerate().skip(first) {
            cursor.path.last_mut().expect("pushed above").1 = cell;
            self.visit(cursor, below, has_start && cell == first);
            if self.stopped.is_some() {
                break;
            }
        }
        cursor.path.pop();
    }
}

/// Returns the lowest key that the page below the cursor can hold. The first key of a branch is empty, and that of the
/// page above it counts.
fn lowest_key<S: ?Sized>(cursor: &Cursor<'_, S>) -> Vec<u8> {
    let above = cursor.path.iter().rev().find(|(_, cell)| *cell > 0);
    above.map_or(Vec::new(), |(page, cell)| page.key(*cell).to_vec())
}
