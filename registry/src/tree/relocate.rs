//! Moving pages: away from the end of the file, or because their copies are damaged or too close to
//! each other.

use ar7_engine::format::DoubledRef;

use super::cursor::{Cursor, load};
use super::page::{Child, PageExpectation};
use super::space::{PageSpace, PageStore};
use super::working::Tree;

/// A search for pages to move.
struct Search<'w> {
    is_wanted: &'w dyn Fn(DoubledRef) -> bool,
    most: usize,
    branches_left: u32,
    /// For each page found, the cells on the path from the root.
    found: Vec<Vec<usize>>,
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
        let Some(root) = self.root else { return 0 };
        let mut search = Search { is_wanted, most, branches_left: branches, found: Vec::new() };
        search.visit(&mut Cursor::new(self.view(space)), root);
        let before = self.dirty_pages();
        for cells in search.found {
            if self.dirty_pages() - before >= most {
                break;
            }
            self.make_dirty_at(space, &cells);
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
    /// Searches `child`, the page below the cursor, and all pages below it.
    fn visit<S: PageStore + ?Sized>(&mut self, cursor: &mut Cursor<'_, S>, child: Child) {
        if self.found.len() >= self.most {
            return;
        }
        if matches!(child, Child::Sealed(block) if (self.is_wanted)(block)) {
            self.found.push(cursor.path.iter().map(|&(_, cell)| cell).collect());
        }
        let is_leaf = cursor.path.len() + 1 >= usize::from(cursor.view.depth);
        if is_leaf || self.branches_left == 0 {
            return;
        }
        self.branches_left -= 1;
        let Ok(page) = cursor.page(child) else { return };
        let children: Vec<Child> = (0..page.count()).map(|cell| page.child(cell)).collect();
        cursor.path.push((page, 0));
        for (cell, below) in children.into_iter().enumerate() {
            cursor.path.last_mut().expect("pushed above").1 = cell;
            self.visit(cursor, below);
        }
        cursor.path.pop();
    }
}
