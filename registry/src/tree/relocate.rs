//! Moving pages away from the end of the file.

use ar7_engine::format::Position;

use super::page::Child;
use super::{PageExpectation, PageSpace, Tree};
use crate::error::Result;

/// Branches that are looked at. A tree that somebody with the key has made may name one page often.
const BRANCHES_MAX: u32 = 1 << 16;

/// Which pages move, and how much may be done for it.
struct Moving {
    limit: Position,
    most_dirty: usize,
    branches_left: u32,
}

impl Tree {
    /// Copies pages that lie from `limit` on into memory, about `most` of them, so that the next flush gives
    /// them new positions. Reads branches, but no leaf that stays. Returns how many it copied.
    pub fn relocate<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        limit: Position,
        most: usize,
    ) -> Result<usize> {
        let Some(root) = self.root else { return Ok(0) };
        let before = self.dirty_pages();
        let most_dirty = before.saturating_add(most);
        let mut moving = Moving { limit, most_dirty, branches_left: BRANCHES_MAX };
        let level = self.depth.saturating_sub(1);
        self.root = Some(self.relocated(space, root, level, &mut moving)?);
        Ok(self.dirty_pages() - before)
    }

    fn relocated<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        child: Child,
        level: u8,
        moving: &mut Moving,
    ) -> Result<Child> {
        if self.dirty_pages() >= moving.most_dirty {
            return Ok(child);
        }
        let mut moved = child;
        if matches!(child, Child::Sealed(block) if block.position >= moving.limit) {
            moved = Child::Dirty(self.make_dirty(space, child, level)?);
        }
        if level == 0 || moving.branches_left == 0 {
            return Ok(moved);
        }
        moving.branches_left -= 1;
        for (cell, below) in self.children(space, moved, level)?.into_iter().enumerate() {
            let after = self.relocated(space, below, level - 1, moving)?;
            if after != below {
                let number = self.make_dirty(space, moved, level)?;
                self.page_mut(number).set_child(cell, after);
                moved = Child::Dirty(number);
            }
        }
        Ok(moved)
    }

    fn children<S: PageSpace + ?Sized>(
        &self,
        space: &S,
        branch: Child,
        level: u8,
    ) -> Result<Vec<Child>> {
        let loaded;
        let page = match branch {
            Child::Dirty(number) => self.page(number),
            Child::Sealed(block) => {
                loaded = space.load(block, PageExpectation { tree: self.id, level })?;
                &*loaded
            }
        };
        Ok((0..page.count()).map(|cell| page.child(cell)).collect())
    }
}
