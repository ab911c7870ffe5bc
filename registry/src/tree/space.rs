//! The storage of a tree's pages.

use std::sync::Arc;

use ar7_engine::format::{DoubledRef, Generation, Position};

use super::page::{Page, PageExpectation};
use crate::error::Result;

/// A source of committed pages.
pub trait PageStore {
    /// Returns the page at `at`. It must have that generation and meet `expect`.
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>>;

    /// Returns the same page, if the store keeps it for the lifetime of the borrow. The lookup then
    /// takes no lock and touches no shared reference count.
    fn kept(&self, _at: DoubledRef, _expect: PageExpectation) -> Option<&Arc<Page>> {
        None
    }
}

/// A destination for dirty pages.
pub trait PageSpace: PageStore {
    /// Allocates positions for both copies of `pages` pages.
    fn allocate(&mut self, pages: u32) -> Result<Vec<[Position; 2]>>;

    /// Returns the generation in which the stored pages will be sealed.
    fn generation(&self) -> Generation;

    /// Takes a page to be sealed at both positions of `at`. From then on, `load` returns it.
    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> Result<()>;

    /// Frees both copies of the page at `at`, which the working tree no longer uses.
    fn release(&mut self, at: DoubledRef);
}
