//! A copy-on-write B+tree over blocks: keys and values are byte strings, in the order of the bytes.
//!
//! Committed pages are never changed. A page that changes is copied into memory, where it is
//! *dirty* and known to its parent by a number; [`Tree::flush`] gives every dirty page a
//! position and hands it over to be sealed. A [`TreeReader`] reads a committed tree; both
//! read through the same `Cursor`.

mod change;
mod cursor;
mod page;
mod reader;
mod relocate;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod working;

use std::sync::Arc;

use ar7_engine::format::{BlockRef, Generation, Position, Run};

pub use cursor::{Entry, Range};
pub use page::{Page, page_layout};
pub use reader::TreeReader;
pub use working::Tree;

use crate::error::Result;

/// Longest key in bytes.
pub const KEY_MAX: usize = 300;

/// Longest key and value together, in bytes: four cells fit a page, so that every split succeeds.
pub const CELL_MAX: usize = 960;

/// The trees of an archive; the number is the place of the root in the meta slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeId {
    /// UUID to record.
    Streams = 0,
    /// UUID and first index to run.
    Extents = 1,
    /// Position to free run.
    Free = 2,
    /// UUID to record of a deleted stream that is not freed yet.
    PendingDeletions = 3,
    /// Session to salt and last step.
    Sessions = 4,
    /// Directory and name to inode.
    Names = 5,
    /// Inode to its fields.
    Inodes = 6,
}

impl TreeId {
    /// Every tree.
    pub const ALL: [TreeId; 7] = [
        TreeId::Streams,
        TreeId::Extents,
        TreeId::Free,
        TreeId::PendingDeletions,
        TreeId::Sessions,
        TreeId::Names,
        TreeId::Inodes,
    ];

    /// Place of the tree's root in the meta slot.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What is known of a page before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageExpectation {
    /// The tree it belongs to.
    pub tree: TreeId,
    /// Its level; leaves are level 0.
    pub level: u8,
}

/// Where committed pages come from.
pub trait PageStore {
    /// The page at `at`: opened, of that generation, and checked against `expect`.
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>>;

    /// The same page, if the store keeps it for as long as it is borrowed: then nothing is locked or counted.
    fn kept(&self, _at: BlockRef, _expect: PageExpectation) -> Option<&Arc<Page>> {
        None
    }
}

/// Where changed pages go to.
pub trait PageSpace: PageStore {
    /// Positions for `pages` pages, in any number of runs.
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>>;

    /// Generation in which the pages handed over will be sealed.
    fn generation(&self) -> Generation;

    /// Takes a page to be sealed at `at`; loading it works from now on.
    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()>;

    /// The working tree no longer uses the page at `at`.
    fn release(&mut self, at: BlockRef);
}
