//! A space of pages that are used again, as in the store: what a crash goes back to is what lies there then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ar7_engine::format::{BlockRef, Data, Generation, Position, Run};
use ar7_registry::Result;
use ar7_registry::tree::{Page, PageExpectation, PageSpace, PageStore};

/// Pages by position, and which positions may be written.
///
/// Nothing that was written is ever put back: a page that is written too early, or where it should not be, stays, and
/// whoever goes back to the last commit meets it.
#[derive(Debug, Default)]
pub(crate) struct ReusedSpace {
    /// What was written last at each position, in whichever commit.
    pages: BTreeMap<Position, (Generation, Box<Data>)>,
    /// Free at the last commit and not given out since: may be given out.
    free: BTreeSet<Position>,
    /// Released since the last commit: a crash needs what lies there.
    released: BTreeSet<Position>,
    /// Given out, and not written yet.
    given: BTreeSet<Position>,
    /// The position after the last that was given out.
    next: u32,
    /// What was free at the last commit, and where the file ended.
    committed: (BTreeSet<Position>, u32),
    step: u32,
}

impl ReusedSpace {
    /// The position after the last that was given out.
    pub(crate) fn end(&self) -> Position {
        Position::at(self.next)
    }

    /// Number of pages that the tree uses.
    pub(crate) fn used(&self) -> usize {
        let end = usize::try_from(self.next).expect("a small space");
        end - self.free.len() - self.released.len()
    }

    /// The commit is durable: what it released is needed no more.
    pub(crate) fn commit(&mut self) {
        assert_eq!(self.given, BTreeSet::new(), "what is given out is written before the commit");
        self.free.append(&mut self.released);
        self.committed = (self.free.clone(), self.next);
        self.step += 1;
    }

    /// The process ends. The next one finds what the last commit says, and all that was written since as well.
    pub(crate) fn crash(&mut self) {
        (self.free, self.next) = self.committed.clone();
        self.released.clear();
        self.given.clear();
        // A session of its own: what the last one wrote cannot be taken for what this one writes.
        self.step += 1;
    }

    /// A position that may be written: one that was free, or the end.
    fn give(&mut self) -> Position {
        self.free.pop_first().unwrap_or_else(|| {
            let end = self.end();
            self.next += 1;
            end
        })
    }
}

impl PageStore for ReusedSpace {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        assert!(!self.released.contains(&at.position), "a page that was released is not read");
        let (generation, data) =
            self.pages.get(&at.position).expect("a page that is named is there");
        assert_eq!(*generation, at.generation, "a page was written over: block {}", at.position);
        Ok(Arc::new(Page::parse(at.position, data, expect)?))
    }
}

impl PageSpace for ReusedSpace {
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>> {
        let positions: Vec<Position> = (0..pages).map(|_| self.give()).collect();
        self.given.extend(&positions);
        Ok(positions.into_iter().map(Run::single).collect())
    }

    fn generation(&self) -> Generation {
        Generation { session: 1, step: self.step, salt: 0 }
    }

    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()> {
        assert!(self.given.remove(&at), "a page is written once, and where it was given room");
        self.pages.insert(at, (self.generation(), Box::new(*page.data())));
        Ok(())
    }

    fn release(&mut self, at: BlockRef) {
        assert!(!self.free.contains(&at.position), "what is free is not released");
        if ar7_engine::fault!(ReuseFreedBlocks) {
            self.free.insert(at.position);
            return;
        }
        assert!(self.released.insert(at.position), "a page is released once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(space: &mut ReusedSpace) -> u32 {
        let at = space.give();
        at.get()
    }

    #[test]
    fn what_is_released_is_given_out_after_the_next_commit() {
        let mut space = ReusedSpace::default();
        assert_eq!([given(&mut space), given(&mut space)], [0, 1]);
        space.commit();
        let first = BlockRef { position: Position::at(0), generation: space.generation() };
        space.release(first);
        assert_eq!((given(&mut space), space.used()), (2, 2), "a crash needs the first");
        space.crash();
        assert_eq!((given(&mut space), space.used()), (2, 3), "the release was not committed");
        space.release(first);
        space.commit();
        assert_eq!((given(&mut space), given(&mut space)), (0, 3), "it was");
    }

    #[test]
    #[should_panic(expected = "a page was written over")]
    fn what_is_written_stays_after_a_crash() {
        let mut space = ReusedSpace::default();
        let page = |space: &mut ReusedSpace| {
            let position = space.allocate(1).expect("room")[0].start();
            let block = BlockRef { position, generation: space.generation() };
            space
                .pages
                .insert(position, (block.generation, Box::new([0; ar7_engine::format::DATA_SIZE])));
            space.given.clear();
            block
        };
        let committed = page(&mut space);
        space.commit();
        // As a space would that gives out at once what was released.
        space.free.insert(committed.position);
        assert_eq!(page(&mut space).position, committed.position);
        space.crash();
        let expect = PageExpectation { tree: ar7_registry::tree::TreeNumber(0), level: 0 };
        drop(space.load(committed, expect));
    }
}
