//! The working tree of a writer: a committed root and the dirty pages.

use std::sync::Arc;

use ar7_engine::format::{DoubledRef, Position, Root};
use ar7_engine::{Check, Error as EngineError};

use super::cursor::{Cursor, Entry, Range, View};
use super::page::{Child, Page, TreeNumber};
use super::space::{PageSpace, PageStore};
use crate::error::{Error, Result};

/// A tree that can be changed.
pub struct Tree {
    pub(super) id: TreeNumber,
    pub(super) root: Option<Child>,
    pub(super) depth: u8,
    pub(super) entries: u64,
    /// Dirty pages by number.
    pub(super) dirty: Vec<Option<Page>>,
    unused: Vec<u32>,
}

impl Tree {
    /// Opens the tree with this committed root.
    pub fn open(id: TreeNumber, root: Root) -> Tree {
        Tree {
            id,
            root: root.block.map(Child::Sealed),
            depth: root.depth,
            entries: root.entries,
            dirty: Vec::new(),
            unused: Vec::new(),
        }
    }

    /// Returns the number of entries.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the number of levels.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Returns the number of dirty pages.
    pub fn dirty_pages(&self) -> usize {
        self.dirty.len() - self.unused.len()
    }

    /// Returns how many bytes of memory the dirty pages take.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty.iter().flatten().map(Page::memory).sum()
    }

    /// Returns the root. All pages must be flushed.
    ///
    /// # Panics
    /// If there are dirty pages, which is a bug in the caller.
    pub fn root(&self) -> Root {
        let block = self.root.map(|root| match root {
            Child::Sealed(block) => block,
            Child::Dirty(_) => panic!("the tree is flushed before its root is recorded"),
        });
        Root { block, depth: self.depth, entries: self.entries }
    }

    /// Returns the value of a key.
    pub fn get<S: PageStore + ?Sized>(&self, store: &S, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(store, key, <[u8]>::to_vec)
    }

    /// Passes the value of a key to `visit` without copying it, and returns the result.
    pub fn read<S: PageStore + ?Sized, T>(
        &self,
        store: &S,
        key: &[u8],
        visit: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        Cursor::read(self.view(store), key, visit)
    }

    /// Returns the entry with the greatest key that is not above `key`.
    pub fn floor<S: PageStore + ?Sized>(&self, store: &S, key: &[u8]) -> Result<Option<Entry>> {
        Cursor::floor(self.view(store), key)
    }

    /// Returns the entry with the least key that is not below `key`.
    pub fn ceiling<S: PageStore + ?Sized>(&self, store: &S, key: &[u8]) -> Result<Option<Entry>> {
        Ok(Cursor::seek(self.view(store), key)?.entry())
    }

    /// Returns the entries from `key` on, in ascending order.
    pub fn range<'a, S>(&'a self, store: &'a S, key: &[u8]) -> Result<Range<'a, S>>
    where
        S: PageStore + ?Sized,
    {
        Range::forwards(self.view(store), key)
    }

    /// Returns the entries up to `key`, in descending order.
    pub fn range_back<'a, S>(&'a self, store: &'a S, key: &[u8]) -> Result<Range<'a, S>>
    where
        S: PageStore + ?Sized,
    {
        Range::backwards(self.view(store), key)
    }

    /// Gives every dirty page a position, stores all of them and returns the new root. If the
    /// allocation fails, nothing has changed. If a page cannot be stored, the tree is unusable.
    pub fn flush<S: PageSpace + ?Sized>(&mut self, space: &mut S) -> Result<Root> {
        if self.root.is_some() != (self.entries > 0) {
            return Err(self.miscounted());
        }
        let Some(Child::Dirty(root)) = self.root else {
            return Ok(self.root());
        };
        let pages = u32::try_from(self.dirty_pages()).expect("fewer pages than blocks");
        let mut pairs = space.allocate(pages)?.into_iter();
        let root = self.store_pages(space, root, &mut pairs)?;
        self.root = Some(Child::Sealed(root));
        self.dirty.clear();
        self.unused.clear();
        Ok(self.root())
    }

    /// Stores a page after its children, because a page refers to its children by their positions.
    fn store_pages<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        number: u32,
        pairs: &mut impl Iterator<Item = [Position; 2]>,
    ) -> Result<DoubledRef> {
        let mut page = self.take_dirty(number);
        if page.is_branch() {
            for cell in 0..page.count() {
                if let Child::Dirty(child) = page.child(cell) {
                    let block = self.store_pages(space, child, pairs)?;
                    page.set_child(cell, Child::Sealed(block));
                }
            }
        }
        let [position, copy] = pairs.next().expect("a pair was allocated for each page");
        let block = DoubledRef { position, copy, generation: space.generation() };
        space.store(block, Arc::new(page.settled()))?;
        Ok(block)
    }

    /// Returns the error for a meta slot whose number of entries differs from the tree's.
    pub(super) fn miscounted(&self) -> Error {
        EngineError::damaged(None, Check::Root, "the tree's number of entries", self.entries).into()
    }

    pub(super) fn view<'a, S: PageStore + ?Sized>(&'a self, store: &'a S) -> View<'a, S> {
        let Tree { id, root, depth, ref dirty, .. } = *self;
        View { tree: id, root, depth, dirty, store }
    }

    /// Copies a sealed page into memory. The reference to it, in a cell of its parent or as the
    /// root, then leads to the copy.
    pub(super) fn copy<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        block: DoubledRef,
        page: &Page,
        parent: Option<(u32, usize)>,
    ) -> u32 {
        space.release(block);
        let number = self.add_dirty(page.clone());
        match parent {
            Some((parent, cell)) => self.page_mut(parent).set_child(cell, Child::Dirty(number)),
            None => self.root = Some(Child::Dirty(number)),
        }
        number
    }

    pub(super) fn add_dirty(&mut self, page: Page) -> u32 {
        if let Some(number) = self.unused.pop() {
            self.dirty[index(number)] = Some(page);
            return number;
        }
        let number = u32::try_from(self.dirty.len()).expect("fewer pages than blocks");
        self.dirty.push(Some(page));
        number
    }

    pub(super) fn take_dirty(&mut self, number: u32) -> Page {
        self.unused.push(number);
        self.dirty[index(number)].take().expect("a dirty page has one reference")
    }

    pub(super) fn page(&self, number: u32) -> &Page {
        self.dirty[index(number)].as_ref().expect("a referenced dirty page is in memory")
    }

    pub(super) fn page_mut(&mut self, number: u32) -> &mut Page {
        self.dirty[index(number)].as_mut().expect("a referenced dirty page is in memory")
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("the page is in memory")
}
