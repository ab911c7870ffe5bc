//! A page space on the heap, for tests and fuzzing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ar7_engine::format::{Data, DoubledRef, Generation, OwnedData, Position};
use ar7_engine::{Check, Error as EngineError, Value};

use super::page::{Page, PageExpectation};
use super::space::{PageSpace, PageStore};
use crate::error::Result;

/// Pages by position. A page is parsed at each load, like a page from a disk.
///
/// The space panics if a tree loads a page that does not exist or releases a page twice, which are
/// bugs. It does not if the pages are distrusted.
#[derive(Debug, Clone, Default)]
pub struct HeapSpace {
    pages: HashMap<Position, (Generation, Box<Data>)>,
    released: HashSet<Position>,
    next: u32,
    step: u32,
    distrusted: bool,
}

impl HeapSpace {
    /// Makes an empty space.
    pub fn new() -> HeapSpace {
        HeapSpace::default()
    }

    /// Returns the number of pages that the trees use.
    pub fn used(&self) -> usize {
        self.blocks().len()
    }

    /// Gives the next flush a new generation, like a commit.
    pub fn raise_step(&mut self) {
        self.step += 1;
    }

    /// Returns the pages that the trees use, in order of position.
    pub fn blocks(&self) -> Vec<DoubledRef> {
        let used = self.pages.iter().filter(|(position, _)| !self.released.contains(position));
        let mut blocks: Vec<DoubledRef> =
            used.map(|(&position, &(generation, _))| reference(position, generation)).collect();
        blocks.sort_unstable_by_key(|block| block.position);
        blocks
    }

    /// Returns the position after the last allocated one.
    pub fn end(&self) -> Position {
        Position::at(self.next)
    }

    /// Returns the data at a position.
    pub fn data(&self, at: Position) -> Option<&Data> {
        self.pages.get(&at).map(|(_, data)| &**data)
    }

    /// Treats later contradictions as faults of the pages, not of the tree.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// Replaces the page at a position with any data, as an attacker with the key can.
    pub fn forge(&mut self, at: Position, data: &Data) -> DoubledRef {
        self.distrust();
        self.next = self.next.max(at.get() + 1);
        let generation =
            self.pages.get(&at).map_or(self.generation(), |&(generation, _)| generation);
        self.pages.insert(at, (generation, Box::new(*data)));
        reference(at, generation)
    }
}

/// Returns the data of a page with these keys and values, which must be in order and fit.
pub fn page_of(expect: PageExpectation, cells: &[(Vec<u8>, Vec<u8>)]) -> OwnedData {
    let mut page = Page::new(expect.tree, expect.level);
    for (key, value) in cells {
        page.push(key, value);
    }
    page.to_data()
}

/// Returns the position of the second copy of a page. The space does not store it.
pub fn copy_of(position: Position) -> Position {
    Position::at(position.get() ^ (1 << 30))
}

/// Returns a reference to the page at a position of the space.
pub fn reference(position: Position, generation: Generation) -> DoubledRef {
    DoubledRef { position, copy: copy_of(position), generation }
}

impl PageStore for HeapSpace {
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>> {
        let honest = !self.distrusted;
        assert!(!(honest && self.released.contains(&at.position)), "a released page is not loaded");
        match self.pages.get(&at.position) {
            Some((generation, data)) if *generation == at.generation => {
                Ok(Arc::new(Page::parse(at.position, data, expect)?))
            }
            found => {
                assert!(!honest, "a referenced page exists");
                let found =
                    found.map_or(Value::from("no page"), |(generation, _)| (*generation).into());
                let expected = at.generation;
                Err(EngineError::damaged(at.position, Check::Generation, expected, found).into())
            }
        }
    }
}

impl PageSpace for HeapSpace {
    fn allocate(&mut self, pages: u32) -> Result<Vec<[Position; 2]>> {
        let first = self.next;
        self.next += pages;
        Ok((first..self.next).map(|at| [Position::at(at), copy_of(Position::at(at))]).collect())
    }

    fn generation(&self) -> Generation {
        Generation { session: 1, step: self.step, salt: 0 }
    }

    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> Result<()> {
        let written = self.pages.insert(at.position, (at.generation, Box::new(*page.to_data())));
        assert!(written.is_none(), "each position is written once");
        Ok(())
    }

    fn release(&mut self, at: DoubledRef) {
        let first = self.released.insert(at.position);
        assert!(first || self.distrusted, "each page is released once");
        if !self.distrusted {
            self.pages.remove(&at.position);
        }
    }
}
