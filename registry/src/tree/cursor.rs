//! A cursor over the cells of a tree, in either direction. All reads of a tree, committed or not,
//! use it.

use std::ops::Deref;
use std::sync::Arc;

use ar7_engine::format::DoubledRef;
use ar7_engine::{Check, Error as EngineError, Value};

use super::page::{Child, Page, PageExpectation, TreeNumber};
use super::space::PageStore;
use crate::error::Result;

/// The tree that a cursor moves over.
pub(crate) struct View<'a, S: ?Sized> {
    pub(super) tree: TreeNumber,
    pub(super) root: Option<Child>,
    pub(super) depth: u8,
    pub(super) dirty: &'a [Option<Page>],
    pub(super) store: &'a S,
}

impl<S: ?Sized> Clone for View<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: ?Sized> Copy for View<'_, S> {}

/// A page on the path to a cell, sealed or dirty.
pub(super) enum PageHandle<'a> {
    Sealed(DoubledRef, Arc<Page>),
    Kept(DoubledRef, &'a Arc<Page>),
    Dirty(u32, &'a Page),
}

impl Deref for PageHandle<'_> {
    type Target = Page;

    fn deref(&self) -> &Page {
        match self {
            PageHandle::Sealed(_, page) => page,
            PageHandle::Kept(_, page) => page,
            PageHandle::Dirty(_, page) => page,
        }
    }
}

/// A cell of a tree, or the place before the first or after the last cell.
pub(crate) struct Cursor<'a, S: ?Sized> {
    pub(super) view: View<'a, S>,
    /// The pages from the root to the leaf, and the cell in each.
    pub(super) path: Vec<(PageHandle<'a>, usize)>,
}

/// A key and its value, copied out of their page.
pub type Entry = (Vec<u8>, Vec<u8>);

impl<'a, S: PageStore + ?Sized> Cursor<'a, S> {
    /// Makes a cursor above the root.
    pub(super) fn new(view: View<'a, S>) -> Cursor<'a, S> {
        Cursor { view, path: Vec::with_capacity(usize::from(view.depth)) }
    }

    /// Returns the place of `key` in the leaf where it is or belongs. It can be the end of that
    /// leaf.
    pub(super) fn locate(view: View<'a, S>, key: &[u8]) -> Result<Cursor<'a, S>> {
        Ok(Cursor::locate_exactly(view, key)?.0)
    }

    /// Does the same, and returns whether the key exists.
    fn locate_exactly(view: View<'a, S>, key: &[u8]) -> Result<(Cursor<'a, S>, bool)> {
        let mut cursor = Cursor::new(view);
        let mut found = false;
        let Some(root) = view.root else { return Ok((cursor, found)) };
        cursor.descend(root, |page| {
            if page.is_branch() {
                return page.child_for(key);
            }
            let place = page.search(key);
            found = place.is_ok();
            place.unwrap_or_else(|place| place)
        })?;
        Ok((cursor, found))
    }

    /// Returns the first cell whose key is not below `key`.
    pub(crate) fn seek(view: View<'a, S>, key: &[u8]) -> Result<Cursor<'a, S>> {
        let mut cursor = Cursor::locate(view, key)?;
        if cursor.current().is_none() {
            cursor.next_leaf()?;
        }
        Ok(cursor)
    }

    /// Returns the last cell whose key is not above `key`.
    pub(crate) fn seek_back(view: View<'a, S>, key: &[u8]) -> Result<Cursor<'a, S>> {
        let mut cursor = Cursor::locate(view, key)?;
        if cursor.value_of(key).is_none() {
            cursor.previous()?;
        }
        Ok(cursor)
    }

    /// Passes the value of exactly this key to `visit`, without copying it.
    pub(crate) fn read<T>(
        view: View<'a, S>,
        key: &[u8],
        visit: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let (cursor, found) = Cursor::locate_exactly(view, key)?;
        let Some((page, cell)) = cursor.path.last().filter(|_| found) else { return Ok(None) };
        Ok(Some(visit(page.value(*cell))))
    }

    /// Returns a copy of the last entry whose key is not above `key`.
    pub(crate) fn floor(view: View<'a, S>, key: &[u8]) -> Result<Option<Entry>> {
        Ok(Cursor::seek_back(view, key)?.entry())
    }

    /// Returns the key and value at the cursor, or `None` at either end.
    pub(crate) fn current(&self) -> Option<(&[u8], &[u8])> {
        let (page, cell) = self.path.last()?;
        (*cell < page.count()).then(|| (page.key(*cell), page.value(*cell)))
    }

    /// Returns the value at the cursor, if its key is `key`.
    pub(super) fn value_of(&self, key: &[u8]) -> Option<&[u8]> {
        self.current().filter(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// Returns a copy of the key and value at the cursor.
    pub(crate) fn entry(&self) -> Option<Entry> {
        self.current().map(|(key, value)| (key.to_vec(), value.to_vec()))
    }

    /// Moves to the next cell.
    pub(crate) fn next(&mut self) -> Result<()> {
        let Some((page, cell)) = self.path.last_mut() else { return Ok(()) };
        *cell += 1;
        if *cell < page.count() { Ok(()) } else { self.next_leaf() }
    }

    /// Moves to the previous cell.
    pub(crate) fn previous(&mut self) -> Result<()> {
        let Some((_, cell)) = self.path.last_mut() else { return Ok(()) };
        if let Some(before) = cell.checked_sub(1) {
            *cell = before;
            return Ok(());
        }
        while let Some((page, cell)) = self.path.pop() {
            if let Some(before) = cell.checked_sub(1).filter(|_| page.is_branch()) {
                let child = page.child(before);
                self.path.push((page, before));
                return self.descend(child, |page| page.count() - 1);
            }
        }
        Ok(())
    }

    fn next_leaf(&mut self) -> Result<()> {
        while let Some((page, cell)) = self.path.pop() {
            if page.is_branch() && cell + 1 < page.count() {
                let child = page.child(cell + 1);
                self.path.push((page, cell + 1));
                return self.descend(child, |_| 0);
            }
        }
        Ok(())
    }

    /// Descends from `child` to a leaf, and chooses a cell in each page. After a failure, the
    /// cursor is at an end.
    fn descend(&mut self, child: Child, mut choose: impl FnMut(&Page) -> usize) -> Result<()> {
        let mut child = child;
        loop {
            let page = match self.page(child) {
                Ok(page) => page,
                Err(error) => {
                    self.path.clear();
                    return Err(error);
                }
            };
            let cell = choose(&page);
            let next = page.is_branch().then(|| page.child(cell));
            self.path.push((page, cell));
            match next {
                Some(next) => child = next,
                None => return Ok(()),
            }
        }
    }

    /// Returns the page below the path. Its level follows from its depth, so no page can lead back
    /// up. Its keys are within the bounds that its parents state, so no page can be reached on two
    /// paths.
    pub(super) fn page(&self, child: Child) -> Result<PageHandle<'a>> {
        match child {
            Child::Dirty(number) => {
                let page = usize::try_from(number).ok().and_then(|at| self.view.dirty.get(at));
                let page = page.and_then(Option::as_ref);
                let page = page.expect("a dirty child is in memory");
                Ok(PageHandle::Dirty(number, page))
            }
            Child::Sealed(block) => {
                let below = u8::try_from(self.path.len() + 1).unwrap_or(u8::MAX);
                let level = self.view.depth.saturating_sub(below);
                let expect = PageExpectation { tree: self.view.tree, level };
                let above = self.path.iter().map(|(page, cell)| (&**page, *cell));
                if let Some(page) = self.view.store.kept(block, expect) {
                    check_bounds(block, page, above)?;
                    return Ok(PageHandle::Kept(block, page));
                }
                Ok(PageHandle::Sealed(block, load(self.view.store, block, expect, above)?))
            }
        }
    }
}

/// Loads a page and compares its first and last key with the bounds that its parents state. `above`
/// lists the parents from the root down, and the cell chosen in each.
pub(super) fn load<'p, S: PageStore + ?Sized>(
    store: &S,
    block: DoubledRef,
    expect: PageExpectation,
    above: impl DoubleEndedIterator<Item = (&'p Page, usize)> + Clone,
) -> Result<Arc<Page>> {
    let page = store.load(block, expect)?;
    check_bounds(block, &page, above)?;
    Ok(page)
}

fn check_bounds<'p>(
    block: DoubledRef,
    page: &Page,
    above: impl DoubleEndedIterator<Item = (&'p Page, usize)> + Clone,
) -> Result<()> {
    let lower = above.clone().rev().find(|(_, cell)| *cell > 0);
    let upper = above.rev().find(|(parent, cell)| cell + 1 < parent.count());
    let low = lower.map(|(parent, cell)| parent.key(cell));
    let high = upper.map(|(parent, cell)| parent.key(cell + 1));
    if let Some((bound, found)) = page.key_outside(low, high) {
        let (bound, found) = (Value::Bytes(bound.to_vec()), Value::Bytes(found.to_vec()));
        return Err(EngineError::damaged(block.position, Check::KeyOrder, bound, found).into());
    }
    Ok(())
}

/// An iterator over the entries of a tree. It ends after an error. It needs memory for a page per
/// level.
pub struct Range<'a, S: ?Sized> {
    cursor: Cursor<'a, S>,
    backwards: bool,
    /// Whether the entry at the cursor was returned. The cursor moves only when the caller asks for
    /// the next entry. So entries before a damaged page are returned first, and no page is read
    /// unnecessarily.
    taken: bool,
}

impl<'a, S: PageStore + ?Sized> Range<'a, S> {
    pub(super) fn forwards(view: View<'a, S>, key: &[u8]) -> Result<Range<'a, S>> {
        Ok(Range { cursor: Cursor::seek(view, key)?, backwards: false, taken: false })
    }

    pub(super) fn backwards(view: View<'a, S>, key: &[u8]) -> Result<Range<'a, S>> {
        Ok(Range { cursor: Cursor::seek_back(view, key)?, backwards: true, taken: false })
    }
}

impl<S: PageStore + ?Sized> Range<'_, S> {
    /// Passes the next entry to `visit` without copying it, and returns the result.
    pub fn read_next<T>(&mut self, visit: impl FnOnce(&[u8], &[u8]) -> T) -> Option<Result<T>> {
        if self.taken {
            let moved = if self.backwards { self.cursor.previous() } else { self.cursor.next() };
            if let Err(error) = moved {
                return Some(Err(error));
            }
        }
        self.taken = true;
        self.cursor.current().map(|(key, value)| Ok(visit(key, value)))
    }
}

impl<S: PageStore + ?Sized> Iterator for Range<'_, S> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.read_next(|key, value| (key.to_vec(), value.to_vec()))
    }
}
