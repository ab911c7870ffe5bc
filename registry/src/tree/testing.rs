//! A space of pages on the heap, for tests and fuzzing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ar7_engine::format::{BlockRef, Data, Generation, Position, Run};
use ar7_engine::{Check, Error as EngineError, Value};

use super::page::{Page, PageExpectation};
use super::space::{PageSpace, PageStore};
use crate::error::Result;

/// Pages by position. A page is parsed whenever it is loaded, as one from a disk would be.
///
/// A tree that reads a page that is not there, or gives one up twice, has a bug, and the space panics; unless the
/// pages are distrusted.
#[derive(Debug, Clone, Default)]
pub struct HeapSpace {
    pages: HashMap<Position, (Generation, Box<Data>)>,
    released: HashSet<Position>,
    next: u32,
    step: u32,
    distrusted: bool,
}

impl HeapSpace {
    /// An empty space.
    pub fn new() -> HeapSpace {
        HeapSpace::default()
    }

    /// Number of pages that the trees use.
    pub fn used(&self) -> usize {
        self.blocks().len()
    }

    /// Makes the next flush another generation, as a commit does.
    pub fn raise_step(&mut self) {
        self.step += 1;
    }

    /// The pages that the trees use, in order of position.
    pub fn blocks(&self) -> Vec<BlockRef> {
        let used = self.pages.iter().filter(|(position, _)| !self.released.contains(position));
        let mut blocks: Vec<BlockRef> =
            used.map(|(&position, &(generation, _))| BlockRef { position, generation }).collect();
        blocks.sort_unstable_by_key(|block| block.position);
        blocks
    }

    /// The position after the last that was given out.
    pub fn end(&self) -> Position {
        Position::at(self.next)
    }

    /// What lies at a position.
    pub fn data(&self, at: Position) -> Option<&Data> {
        self.pages.get(&at).map(|(_, data)| &**data)
    }

    /// From now on what does not fit together is the fault of the pages, not of the tree.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// Puts any data in the place of a page, as somebody with the key can.
    pub fn forge(&mut self, at: Position, data: &Data) -> BlockRef {
        self.distrust();
        self.next = self.next.max(at.get() + 1);
        let generation =
            self.pages.get(&at).map_or(self.generation(), |&(generation, _)| generation);
        self.pages.insert(at, (generation, Box::new(*data)));
        BlockRef { position: at, generation }
    }
}

impl PageStore for HeapSpace {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        let honest = !self.distrusted;
        assert!(
            !(honest && self.released.contains(&at.position)),
            "a page that was released is not read"
        );
        match self.pages.get(&at.position) {
            Some((generation, data)) if *generation == at.generation => {
                Ok(Arc::new(Page::parse(at.position, data, expect)?))
            }
            found => {
                assert!(!honest, "a page that is named is there");
                let found =
                    found.map_or(Value::from("no page"), |(generation, _)| (*generation).into());
                let expected = at.generation;
                Err(EngineError::damaged(at.position, Check::Generation, expected, found).into())
            }
        }
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
        let written = self.pages.insert(at, (self.generation(), Box::new(*page.data())));
        assert!(written.is_none(), "a position is written once");
        Ok(())
    }

    fn release(&mut self, at: BlockRef) {
        let first = self.released.insert(at.position);
        assert!(first || self.distrusted, "a page is released once");
        if !self.distrusted {
            self.pages.remove(&at.position);
        }
    }
}
