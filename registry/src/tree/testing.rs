//! A space of pages on the heap, for tests and fuzzing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ar7_engine::format::{BlockRef, Generation, Position, Run};

use super::{Page, PageExpectation, PageSpace, PageStore};
use crate::error::Result;

/// Pages by position. A page that was stored is parsed again when it is loaded, as one from a disk would be.
#[derive(Debug, Default)]
pub struct HeapSpace {
    pages: HashMap<Position, Arc<Page>>,
    released: HashSet<Position>,
    next: u32,
    step: u32,
}

impl HeapSpace {
    /// An empty space.
    pub fn new() -> HeapSpace {
        HeapSpace::default()
    }

    /// Number of pages that the trees use.
    pub fn used(&self) -> usize {
        self.pages.len() - self.released.len()
    }

    /// Makes the next flush another generation, as a commit does.
    pub fn raise_step(&mut self) {
        self.step += 1;
    }
}

impl PageStore for HeapSpace {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        assert!(!self.released.contains(&at.position), "a page that was released is not read");
        let page = &self.pages[&at.position];
        Ok(Arc::new(Page::parse(at.position, page.data(), expect)?))
    }
}

impl PageSpace for HeapSpace {
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>> {
        let run = Run::new(Position::at(self.next), pages);
        self.next += pages;
        Ok(run.into_iter().collect())
    }

    fn generation(&self) -> Generation {
        Generation { session: 1, step: self.step, salt: 0 }
    }

    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()> {
        assert!(self.pages.insert(at, page).is_none(), "a position is written once");
        Ok(())
    }

    fn release(&mut self, at: BlockRef) {
        assert!(self.released.insert(at.position), "a page is released once");
    }
}
