//! Moving pages away from the end of the file.

use ar7_engine::format::Position;

use super::cursor::{Cursor, load};
use super::page::Child;
use super::{PageExpectation, PageSpace, PageStore, Tree};
use crate::error::Result;

impl Tree {
    /// Copies pages that lie from `limit` on into memory, about `most` of them, so that the next flush gives
    /// them new positions. Reads every branch, but no leaf that stays. Returns how many it copied.
    pub fn relocate<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        limit: Position,
        most: usize,
    ) -> Result<usize> {
        let Some(root) = self.root else { return Ok(0) };
        let mut found = Vec::new();
        find_beyond(&mut Cursor::new(self.view(space)), root, limit, most, &mut found)?;
        let before = self.dirty_pages();
        for cells in found {
            if self.dirty_pages() - before >= most {
                break;
            }
            self.make_dirty_at(space, &cells)?;
        }
        Ok(self.dirty_pages() - before)
    }

    /// Copies the page into memory that these cells lead to, and those above it first: a page that is in memory
    /// is named by one that is.
    fn make_dirty_at<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        cells: &[usize],
    ) -> Result<()> {
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
                    let page = load(space, block, expect, above)?;
                    self.copy(space, block, &page, path.last().copied())
                }
            };
            child = cells.next().map(|&cell| {
                path.push((number, cell));
                self.page(number).child(cell)
            });
        }
        Ok(())
    }
}

/// Finds sealed pages that lie from `limit` on, at most `most`, at `child` and below, where the cursor is: the cells
/// that lead to each from the root.
fn find_beyond<S: PageStore + ?Sized>(
    cursor: &mut Cursor<'_, S>,
    child: Child,
    limit: Position,
    most: usize,
    found: &mut Vec<Vec<usize>>,
) -> Result<()> {
    if found.len() >= most {
        return Ok(());
    }
    if matches!(child, Child::Sealed(block) if block.position >= limit) {
        found.push(cursor.path.iter().map(|&(_, cell)| cell).collect());
    }
    if cursor.path.len() + 1 >= usize::from(cursor.view.depth) {
        return Ok(());
    }
    let page = cursor.page(child)?;
    let children: Vec<Child> = (0..page.count()).map(|cell| page.child(cell)).collect();
    cursor.path.push((page, 0));
    for (cell, below) in children.into_iter().enumerate() {
        cursor.path.last_mut().expect("pushed above").1 = cell;
        find_beyond(cursor, below, limit, most, found)?;
    }
    cursor.path.pop();
    Ok(())
}
