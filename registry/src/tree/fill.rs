//! Filling leaves. Removals leave pages of which up to three quarters are unused.

use zeroize::Zeroizing;

use super::change::steps_of;
use super::cursor::Cursor;
use super::division::Divide;
use super::page::CAPACITY;
use super::space::{PageSpace, PageStore};
use super::working::Tree;
use crate::error::Result;

/// A leaf with fewer unused bytes stays as it is.
const UNUSED_MIN: usize = CAPACITY / 16;

impl Tree {
    /// Fills the leaf where `key` is or belongs with cells of the leaves after it that have the same
    /// parent. Returns the first key behind that leaf. Copies only pages into memory that change.
    pub fn fill_leaf<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        key: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let mut cursor = Cursor::locate(self.view(space), key)?;
        let Some(mut last) = last_key(&cursor) else { return Ok(None) };
        if has_more_for_leaf(&mut cursor)? {
            let steps = steps_of(Cursor::locate(self.view(space), key)?);
            let mut path = self.make_dirty(space, steps);
            let (leaf, _) = path.pop().expect("a path ends at a leaf");
            let &(parent, place) = path.last().expect("a leaf with neighbours has a parent");
            while place + 1 < self.page(parent).count() {
                let Some(right) = self.neighbour(space, &path, place + 1) else { break };
                if !self.merge(leaf, right, parent, place, Divide::LeftFull) {
                    break;
                }
            }
            let page = self.page(leaf);
            last = Zeroizing::new(page.key(page.count() - 1).to_vec());
            // The parent may have lost most of its cells.
            self.rebalance(space, path);
        }
        let after = Zeroizing::new([&last[..], &[0]].concat());
        let next = Cursor::seek(self.view(space), &after)?;
        Ok(next.current().map(|(key, _)| Zeroizing::new(key.to_vec())))
    }
}

/// Returns the last key of the leaf of a cursor.
fn last_key<S: ?Sized>(cursor: &Cursor<'_, S>) -> Option<Zeroizing<Vec<u8>>> {
    let (leaf, _) = cursor.path.last()?;
    let last = leaf.count().checked_sub(1)?;
    Some(Zeroizing::new(leaf.key(last).to_vec()))
}

/// Returns whether a leaf has room for the first cell of the next one of the same parent. The cursor is at the parent
/// afterwards.
fn has_more_for_leaf<S: PageStore + ?Sized>(cursor: &mut Cursor<'_, S>) -> Result<bool> {
    let Some((leaf, _)) = cursor.path.pop() else { return Ok(false) };
    let Some((parent, place)) = cursor.path.last_mut() else { return Ok(false) };
    if CAPACITY - leaf.used() < UNUSED_MIN || *place + 1 >= parent.count() {
        return Ok(false);
    }
    *place += 1;
    let child = parent.child(*place);
    let next = cursor.page(child)?;
    Ok(next.count() > 0 && leaf.fits(leaf.count(), next.key(0), next.value(0)))
}
