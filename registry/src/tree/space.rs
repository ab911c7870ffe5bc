//! The storage of a tree's pages.

use std::sync::Arc;

use ar7_engine::format::{BlockRef, Generation, Position, Run};

use super::page::{Page, PageExpectation};
use crate::error::Result;

/// A source of committed pages.
pub trait PageStore {
    /// Returns the page at `at`. It must have that generation and meet `expect`.
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>>;

    /// Returns the same page, if the store keeps it for the lifetime of the borrow. The lookup then
    /// takes no lock and touches no shared reference count.
    fn kept(&self, _at: BlockRef, _expect: PageExpectation) -> Option<&Arc<Page>> {
        None
    }
}

/// A destination for dirty pages.
pub trait PageSpace: PageStore {
    /// Allocates positions for `pages` pages, in any number of runs.
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>>;

    /// Returns the generation in which the stored pages will be sealed.
    fn generation(&self) -> Generation;

    /// Takes a page to be sealed at `at`. From then on, `load` returns it.
    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()>;

    /// Frees the page at `at`, which the working tree no longer uses.
    fn release(&mut self, at: BlockRef);
}
