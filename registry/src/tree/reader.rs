//! A committed tree.

use ar7_engine::format::Root;

use super::cursor::{Cursor, Entry, Range, View};
use super::page::{Child, TreeNumber};
use super::space::PageStore;
use crate::error::Result;

/// A reader of a committed tree.
pub struct TreeReader<'a, S: ?Sized> {
    view: View<'a, S>,
}

impl<'a, S: PageStore + ?Sized> TreeReader<'a, S> {
    /// Makes a reader of the tree with this root.
    pub fn new(tree: TreeNumber, root: Root, store: &'a S) -> TreeReader<'a, S> {
        let Root { block, depth, .. } = root;
        TreeReader { view: View { tree, root: block.map(Child::Sealed), depth, dirty: &[], store } }
    }

    /// Returns the value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(key, <[u8]>::to_vec)
    }

    /// Passes the value of a key to `visit` without copying it, and returns the result.
    pub fn read<T>(&self, key: &[u8], visit: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Cursor::read(self.view, key, visit)
    }

    /// Returns the entry with the greatest key that is not above `key`.
    pub fn floor(&self, key: &[u8]) -> Result<Option<Entry>> {
        Cursor::floor(self.view, key)
    }

    /// Returns the entry with the least key that is not below `key`.
    pub fn ceiling(&self, key: &[u8]) -> Result<Option<Entry>> {
        Ok(Cursor::seek(self.view, key)?.entry())
    }

    /// Returns the first key after the first unreadable page at or after `key`, if there is one.
    pub fn past_damage(&self, key: &[u8]) -> Option<Vec<u8>> {
        Cursor::past_damage(self.view, key)
    }

    /// Returns the entries from `key` on, in ascending order.
    pub fn range(&self, key: &[u8]) -> Result<Range<'a, S>> {
        Range::forwards(self.view, key)
    }

    /// Returns the entries up to `key`, in descending order.
    pub fn range_back(&self, key: &[u8]) -> Result<Range<'a, S>> {
        Range::backwards(self.view, key)
    }
}
