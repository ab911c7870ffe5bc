//! A space that reuses pages like the store does: after a crash, a reused position holds its latest content.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ar7_engine::format::{Data, DoubledRef, Generation, Position};
use ar7_registry::Result;
use ar7_registry::tree::testing::copy_of;
use ar7_registry::tree::{Page, PageExpectation, PageSpace, PageStore};

/// Pages by position, and the positions that may be written.
///
/// Nothing is ever undone: if a page is written too early or to a wrong position, the content stays, and a later return
/// to the last commit finds it.
#[derive(Debug, Default)]
pub(crate) struct ReusedSpace {
    /// The latest content of each position, whether committed or not.
    pages: BTreeMap<Position, (Generation, Box<Data>)>,
    /// Positions that were free at the last commit and have not been allocated since. They may be allocated.
    free: BTreeSet<Position>,
    /// Positions released since the last commit. Their content is needed after a crash.
    released: BTreeSet<Position>,
    /// Positions that are allocated but not written yet.
    given: BTreeSet<Position>,
    /// The position after the last allocated one.
    next: u32,
    /// The free positions and the end of the file at the last commit.
    committed: (BTreeSet<Position>, u32),
    step: u32,
}

impl ReusedSpace {
    /// Returns the position after the last allocated one.
    pub(crate) fn end(&self) -> Position {
        Position::at(self.next)
    }

    /// Returns the number of pages that the tree uses.
    pub(crate) fn used(&self) -> usize {
        let end = usize::try_from(self.next).expect("a small space");
        end - self.free.len() - self.released.len()
    }

    /// Makes the commit durable: the positions released before it are free.
    pub(crate) fn commit(&mut self) {
        assert_eq!(
            self.given,
            BTreeSet::new(),
            "every allocated page is written before the commit"
        );
        self.free.append(&mut self.released);
        self.committed = (self.free.clone(), self.next);
        self.step += 1;
    }

    /// Ends the process. The next one finds the last commit, and also everything written since.
    pub(crate) fn crash(&mut self) {
        (self.free, self.next) = self.committed.clone();
        self.released.clear();
        self.given.clear();
        // A new session, so that pages of the previous one cannot be mistaken for pages of this one.
        self.step += 1;
    }

    /// Allocates a position: a free one, or the end.
    fn give(&mut self) -> Position {
        self.free.pop_first().unwrap_or_else(|| {
            let end = self.end();
            self.next += 1;
            end
        })
    }
}

impl PageStore for ReusedSpace {
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>> {
        assert!(!self.released.contains(&at.position), "a released page is not read");
        let (generation, data) = self.pages.get(&at.position).expect("a referenced page exists");
        assert_eq!(*generation, at.generation, "a page was written over: block {}", at.position);
        Ok(Arc::new(Page::parse(at.position, data, expect)?))
    }
}

impl PageSpace for ReusedSpace {
    fn allocate(&mut self, pages: u32) -> Result<Vec<[Position; 2]>> {
        let positions: Vec<Position> = (0..pages).map(|_| self.give()).collect();
        self.given.extend(&positions);
        Ok(positions.into_iter().map(|position| [position, copy_of(position)]).collect())
    }

    fn generation(&self) -> Generation {
        Generation { session: 1, step: self.step, salt: 0 }
    }

    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> Result<()> {
        let is_given = self.given.remove(&at.position);
        assert!(is_given, "a page is written once, to an allocated position");
        self.pages.insert(at.position, (at.generation, Box::new(*page.to_data())));
        Ok(())
    }

    fn release(&mut self, at: DoubledRef) {
        assert!(!self.free.contains(&at.position), "a free position is not released");
        if ar7_engine::fault!(ReuseFreedBlocks) {
            self.free.insert(at.position);
            return;
        }
        assert!(self.released.insert(at.position), "a page is released once");
    }
}

#[cfg(test)]
mod tests {
    use ar7_registry::tree::testing::reference;

    use super::*;

    fn given(space: &mut ReusedSpace) -> u32 {
        let at = space.give();
        at.get()
    }

    #[test]
    fn a_released_position_is_allocated_after_the_next_commit() {
        let mut space = ReusedSpace::default();
        assert_eq!([given(&mut space), given(&mut space)], [0, 1]);
        space.commit();
        let first = reference(Position::at(0), space.generation());
        space.release(first);
        assert_eq!((given(&mut space), space.used()), (2, 2), "a crash needs the first");
        space.crash();
        assert_eq!((given(&mut space), space.used()), (2, 3), "the release was not committed");
        space.release(first);
        space.commit();
        assert_eq!((given(&mut space), given(&mut space)), (0, 3), "the release was committed");
    }

    #[test]
    #[should_panic(expected = "a page was written over")]
    fn a_written_page_stays_after_a_crash() {
        let mut space = ReusedSpace::default();
        let page = |space: &mut ReusedSpace| {
            let [position, _] = space.allocate(1).expect("room")[0];
            let block = reference(position, space.generation());
            space
                .pages
                .insert(position, (block.generation, Box::new([0; ar7_engine::format::DATA_SIZE])));
            space.given.clear();
            block
        };
        let committed = page(&mut space);
        space.commit();
        // Simulate a space that reallocates a released position immediately.
        space.free.insert(committed.position);
        assert_eq!(page(&mut space).position, committed.position);
        space.crash();
        let expect = PageExpectation { tree: ar7_registry::tree::TreeNumber(0), level: 0 };
        drop(space.load(committed, expect));
    }
}
