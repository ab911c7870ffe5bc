//! A cursor over the cells of a tree, in order or backwards. The one way in which a tree is
//! read, committed or not.

use std::ops::Deref;
use std::sync::Arc;

use ar7_engine::{Check, Error as EngineError, Value};

use super::page::Child;
use super::{Page, PageExpectation, PageStore, TreeId};
use crate::error::Result;

/// What a cursor walks over.
pub(crate) struct View<'a, S: ?Sized> {
    pub(super) tree: TreeId,
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

/// A page, sealed or dirty.
enum PageHandle<'a> {
    Sealed(Arc<Page>),
    Dirty(&'a Page),
}

impl Deref for PageHandle<'_> {
    type Target = Page;

    fn deref(&self) -> &Page {
        match self {
            PageHandle::Sealed(page) => page,
            PageHandle::Dirty(page) => page,
        }
    }
}

/// A cell of a tree, or the place before or after all of them.
pub(crate) struct Cursor<'a, S: ?Sized> {
    view: View<'a, S>,
    /// The pages from the root to the leaf, and the cell in each.
    path: Vec<(PageHandle<'a>, usize)>,
}

/// A key and its value, copied out of their page.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

impl<'a, S: PageStore + ?Sized> Cursor<'a, S> {
    /// The first cell whose key is not below `key`.
    pub(crate) fn seek(view: View<'a, S>, key: &[u8]) -> Result<Cursor<'a, S>> {
        let mut cursor = Cursor { view, path: Vec::with_capacity(usize::from(view.depth)) };
        let Some(root) = view.root else { return Ok(cursor) };
        cursor.descend(root, |page| {
            if page.is_branch() {
                page.child_for(key)
            } else {
                page.search(key).unwrap_or_else(|place| place)
            }
        })?;
        if cursor.current().is_none() {
            cursor.next_leaf()?;
        }
        Ok(cursor)
    }

    /// The value of exactly this key. No key or value is copied on the way.
    pub(crate) fn get(view: View<'a, S>, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let cursor = Cursor::seek(view, key)?;
        Ok(cursor.current().filter(|(found, _)| *found == key).map(|(_, value)| value.to_vec()))
    }

    /// The greatest cell whose key is not above `key`.
    pub(crate) fn floor(view: View<'a, S>, key: &[u8]) -> Result<Option<Entry>> {
        let mut cursor = Cursor::seek(view, key)?;
        match cursor.current() {
            Some((found, _)) if found == key => {}
            Some(_) => cursor.previous()?,
            None => cursor.last()?,
        }
        Ok(cursor.entry())
    }

    /// The key and value here; none at either end.
    pub(crate) fn current(&self) -> Option<(&[u8], &[u8])> {
        let (page, cell) = self.path.last()?;
        (*cell < page.count()).then(|| (page.key(*cell), page.value(*cell)))
    }

    /// The key and value here, copied.
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

    /// Moves to the last cell.
    pub(crate) fn last(&mut self) -> Result<()> {
        self.path.clear();
        match self.view.root {
            Some(root) => self.descend(root, |page| page.count() - 1),
            None => Ok(()),
        }
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

    /// Goes down from `child` to a leaf, choosing a cell in each page.
    fn descend(&mut self, child: Child, choose: impl Fn(&Page) -> usize) -> Result<()> {
        let mut child = child;
        loop {
            let page = self.page(child)?;
            let cell = choose(&page);
            let next = page.is_branch().then(|| page.child(cell));
            self.path.push((page, cell));
            match next {
                Some(next) => child = next,
                None => return Ok(()),
            }
        }
    }

    /// The page below the path. Its level follows from its depth, so no page can lead back up; its keys
    /// lie between those that its parents give, so no page can be reached in two ways.
    fn page(&self, child: Child) -> Result<PageHandle<'a>> {
        let below = u8::try_from(self.path.len() + 1).unwrap_or(u8::MAX);
        let level = self.view.depth.saturating_sub(below);
        match child {
            Child::Dirty(number) => {
                let page = usize::try_from(number).ok().and_then(|at| self.view.dirty.get(at));
                let page = page.and_then(Option::as_ref);
                Ok(PageHandle::Dirty(page.expect("a dirty page that a parent names is in memory")))
            }
            Child::Sealed(block) => {
                let expect = PageExpectation { tree: self.view.tree, level };
                let page = self.view.store.load(block, expect)?;
                self.check_bounds(&page).map_err(|(expected, found)| {
                    EngineError::damaged(block.position, Check::KeyOrder, expected, found)
                })?;
                Ok(PageHandle::Sealed(page))
            }
        }
    }

    /// Compares the first and the last key of a page with what its parents say of it.
    fn check_bounds(&self, page: &Page) -> std::result::Result<(), (Value, Value)> {
        let first = usize::from(page.is_branch());
        if first >= page.count() {
            return Ok(());
        }
        let (low, high) = (page.key(first), page.key(page.count() - 1));
        let bytes = |key: &[u8]| Value::Bytes(key.to_vec());
        let lower = self.path.iter().rev().find(|(_, cell)| *cell > 0);
        if let Some((parent, cell)) = lower
            && parent.key(*cell) > low
        {
            return Err((bytes(parent.key(*cell)), bytes(low)));
        }
        let upper = self.path.iter().rev().find(|(parent, cell)| cell + 1 < parent.count());
        if let Some((parent, cell)) = upper
            && parent.key(cell + 1) <= high
        {
            return Err((bytes(parent.key(cell + 1)), bytes(high)));
        }
        Ok(())
    }
}
