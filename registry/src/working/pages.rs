//! Pages of the working trees: loaded through the cache, sealed in batches.

use std::collections::HashMap;
use std::sync::Arc;

use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::format::{BlockHead, BlockIndex, DoubledRef, Generation, OwnedData, Position, Run};
use ar7_engine::store::{Savepoint, Writer};

use crate::committed::{PageCache, load_page, page_stream};
use crate::error::Result;
use crate::tree::{Page, PageExpectation, PageSpace, PageStore};

/// The store of the working trees' pages.
pub(super) struct WorkingPages {
    pub(super) writer: Writer,
    pub(super) cache: Arc<PageCache>,
    /// Pages with positions that are not sealed yet.
    pending: HashMap<DoubledRef, Arc<Page>>,
    /// Number of pages whose copies lie close to each other.
    pub(super) near: u64,
}

impl WorkingPages {
    pub(super) fn new(writer: Writer, cache: Arc<PageCache>, near: u64) -> WorkingPages {
        WorkingPages { writer, cache, pending: HashMap::new(), near }
    }

    /// Seals both copies of the pending pages in one parallel batch.
    pub(super) fn seal(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pages: Vec<(DoubledRef, Arc<Page>)> = self.pending.drain().collect();
        let datas: Vec<OwnedData> = pages.iter().map(|(_, page)| page.to_data()).collect();
        let mut jobs: Vec<SealJob<'_>> = pages
            .iter()
            .zip(&datas)
            .flat_map(|((at, page), data)| jobs_of(*at, page, data))
            .collect();
        jobs.sort_unstable_by_key(|job| job.position);
        let expected = self.writer.generation();
        let generation = self.writer.write_fresh(KeyKind::Registry, &jobs)?;
        assert_eq!(
            generation, expected,
            "parents already refer to their children by this generation"
        );
        for (at, page) in pages {
            self.cache.insert(at, page);
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

/// Returns the two blocks to seal for a page.
fn jobs_of<'d>(at: DoubledRef, page: &Page, data: &'d OwnedData) -> [SealJob<'d>; 2] {
    let head = BlockHead {
        index: BlockIndex(u32::from(page.level())),
        stream: page_stream(page.tree()),
        ..BlockHead::default()
    };
    [at.position, at.copy].map(|position| SealJob { position, head, data })
}

impl PageStore for WorkingPages {
    fn load(&self, at: DoubledRef, expect: PageExpectation) -> Result<Arc<Page>> {
        if at.generation == self.writer.generation()
            && let Some(page) = self.pending.get(&at)
        {
            return Ok(Arc::clone(page));
        }
        load_page(self.writer.store(), &self.cache, at, expect)
    }
}

impl PageSpace for WorkingPages {
    fn allocate(&mut self, pages: u32) -> Result<Vec<[Position; 2]>> {
        let pages = usize::try_from(pages).expect("the pages are in memory");
        Ok(self.writer.allocate_twice(pages)?)
    }

    fn generation(&self) -> Generation {
        self.writer.generation()
    }

    fn store(&mut self, at: DoubledRef, page: Arc<Page>) -> Result<()> {
        self.near = self.near.saturating_add(u64::from(at.is_near()));
        self.pending.insert(at, page);
        Ok(())
    }

    fn release(&mut self, at: DoubledRef) {
        // The number comes from the meta slot, where an attacker with the key can write any number.
        self.near = self.near.saturating_sub(u64::from(at.is_near()));
        self.cache.released(at);
        for copy in at.copies() {
            self.writer.free(Run::single(copy.position));
        }
    }
}
