//! A committed tree.

use ar7_engine::format::Root;

use super::cursor::{Cursor, Entry, Range, View};
use super::page::Child;
use super::{PageStore, TreeId};
use crate::error::Result;

/// Reads a committed tree.
pub struct TreeReader<'a, S: ?Sized> {
    view: View<'a, S>,
}

impl<'a, S: PageStore + ?Sized> TreeReader<'a, S> {
    /// The tree with this root.
    pub fn new(tree: TreeId, root: Root, store: &'a S) -> TreeReader<'a, S> {
        let Root { block, depth, .. } = root;
        TreeReader { view: View { tree, root: block.map(Child::Sealed), depth, dirty: &[], store } }
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Cursor::get(self.view, key)
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
