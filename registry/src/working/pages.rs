//! Pages of the working trees: loaded through the cache, sealed in batches.

use std::collections::HashMap;
use std::sync::Arc;

use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::format::{BlockHead, BlockIndex, BlockRef, Generation, Position, Run};
use ar7_engine::store::{Savepoint, Urgency, Writer};

use crate::committed::{PageCache, load_page, page_stream};
use crate::error::Result;
use crate::tree::{Page, PageExpectation, PageSpace, PageStore};

/// The store of the working trees' pages.
pub(super) struct WorkingPages {
    pub(super) writer: Writer,
    pub(super) cache: Arc<PageCache>,
    /// Pages with a position that are not sealed yet.
    pending: HashMap<Position, Arc<Page>>,
}

impl WorkingPages {
    pub(super) fn new(writer: Writer, cache: Arc<PageCache>) -> WorkingPages {
        WorkingPages { writer, cache, pending: HashMap::new() }
    }

    /// Seals the pending pages in one parallel batch.
    pub(super) fn seal(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pages: Vec<(Position, Arc<Page>)> = self.pending.drain().collect();
        pages.sort_unstable_by_key(|(position, _)| *position);
        let jobs: Vec<SealJob<'_>> = pages
            .iter()
            .map(|(position, page)| SealJob {
                position: *position,
                head: head_of(page),
                data: page.data(),
            })
            .collect();
        let expected = self.writer.generation();
        let generation = self.writer.write_fresh(KeyKind::Registry, &jobs)?;
        assert_eq!(
            generation, expected,
            "parents already refer to their children by this generation"
        );
        for (position, page) in pages {
            self.cache.insert(BlockRef { position, generation }, page);
        }
        Ok(())
    }

    /// Returns to the last commit.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.pending.clear();
        Ok(self.writer.rollback()?)
    }

    /// Returns to a savepoint.
    pub(super) fn roll_back_to(&mut self, point: &Savepoint) -> Result<()> {
        self.writer.roll_back_to(point)?;
        self.pending.clear();
        Ok(())
    }
}

fn head_of(page: &Page) -> BlockHead {
    BlockHead {
        index: BlockIndex(u32::from(page.level())),
        stream: page_stream(page.tree()),
        ..BlockHead::default()
    }
}

impl PageStore for WorkingPages {
    fn load(&self, at: BlockRef, expect: PageExpectation) -> Result<Arc<Page>> {
        if at.generation == self.writer.generation()
            && let Some(page) = self.pending.get(&at.position)
        {
            return Ok(Arc::clone(page));
        }
        load_page(self.writer.store(), &self.cache, at, expect)
    }
}

impl PageSpace for WorkingPages {
    fn allocate(&mut self, pages: u32) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        let mut missing = pages;
        while missing > 0 {
            let run = self.writer.allocate(missing, Urgency::Reserve)?;
            missing -= run.count();
            runs.push(run);
        }
        Ok(runs)
    }

    fn generation(&self) -> Generation {
        self.writer.generation()
    }

    fn store(&mut self, at: Position, page: Arc<Page>) -> Result<()> {
        self.pending.insert(at, page);
        Ok(())
    }

    fn release(&mut self, at: BlockRef) {
        self.writer.free(Run::single(at.position));
    }
}
