//! A committed tree.

use ar7_engine::format::Root;

use super::cursor::{Cursor, Entry, Range, View};
use super::page::{Child, TreeNumber};
use super::space::PageStore;
use crate::error::Result;

/// Reads a committed tree.
pub struct TreeReader<'a, S: ?Sized> {
    view: View<'a, S>,
}

impl<'a, S: PageStore + ?Sized> TreeReader<'a, S> {
    /// The tree with this root.
    pub fn new(tree: TreeNumber, root: Root, store: &'a S) -> TreeReader<'a, S> {
        let Root { block, depth, .. } = root;
        TreeReader { view: View { tree, root: block.map(Child::Sealed), depth, dirty: &[], store } }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(key, <[u8]>::to_vec)
    }

    /// Passes the value of a key to `see`, without a copy; returns its result.
    pub fn read<T>(&self, key: &[u8], see: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Cursor::read(self.view, key, see)
    }

    /// The greatest entry not above `key`.
    pub fn floor(&self, key: &[u8]) -> Result<Option<Entry>> {
        Cursor::floor(self.view, key)
    }

    /// The least entry not below `key`.
    pub fn ceiling(&self, key: &[u8]) -> Result<Option<Entry>> {
        Ok(Cursor::seek(self.view, key)?.entry())
    }

    /// The entries from `key` on, in order.
    pub fn range(&self, key: &[u8]) -> Result<Range<'a, S>> {
        Range::forwards(self.view, key)
    }

    /// The entries from the last one not above `key`, backwards.
    pub fn range_back(&self, key: &[u8]) -> Result<Range<'a, S>> {
        Range::backwards(self.view, key)
    }
}
