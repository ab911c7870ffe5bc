//! Where a tree's pages come from and go to.

use std::sync::Arc;

use ar7_engine::format::{BlockRef, Generation, Position, Run};

use super::page::{Page, PageExpectation};
use crate::error::Result;

/// Where committed pages come from.
pub trait PageStore {
    /// The page at `at`: opened, of that generation, and checked against `expect`.
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>>;

    /// The same page, if the store keeps it for as long as the store is borrowed. Then the lookup takes no lock and
    /// touches no shared reference count.
    fn kept(&self, _at: BlockRef, _expect: PageExpectation) -> Option<&Arc<Page>> {
        None
    }
}

/// Where changed pages go to.
pub trait PageSpace: PageStore {
    /// Positions for `pages` pages, in any number of runs.
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>>;

    /// Generation in which the stored pages will be sealed.
    fn generation(&self) -> Generation;

    /// Takes a page to be sealed at `at`. From now on `load` returns it.
    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()>;

    /// The working tree no longer uses the page at `at`.
    fn release(&mut self, at: BlockRef);
}
