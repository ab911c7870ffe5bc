//! Pages of the registry as they come from the engine, through a cache.

use std::sync::Arc;

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::BlockRef;
use ar7_engine::store::Store;
use ar7_engine::{Check, Error as EngineError};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::error::Result;
use crate::tree::{Page, PageExpectation, TreeId};

/// Pages that the cache holds at most: 8192 pages are 32 MiB.
const CACHED_PAGES_MAX: usize = 32_768;

/// Opened and checked pages, by the one version of a block that each of them is.
pub(crate) struct PageCache(Cache<BlockRef, Arc<Page>>);

impl PageCache {
    pub(super) fn new() -> PageCache {
        PageCache(Cache::new(CACHED_PAGES_MAX))
    }

    pub(super) fn insert(&self, at: BlockRef, page: Arc<Page>) {
        self.0.insert(at, page);
    }
}

/// The UUID that the pages of a tree carry in place of a stream's.
pub(crate) fn page_stream(tree: TreeId) -> Uuid {
    const PAGES: u128 = 0x6172_3700_0000_0000_8000_0000_0000_0000;
    Uuid::from_u128(PAGES + tree.index() as u128)
}

/// Opens a page, or finds it in the cache.
pub(super) fn load_page(
    store: &Store,
    cache: &PageCache,
    at: BlockRef,
    expect: PageExpectation,
) -> Result<Arc<Page>> {
    if let Some(page) = cache.0.get(&at)
        && page.tree() == expect.tree
        && page.level() == expect.level
    {
        return Ok(page);
    }
    let page = Arc::new(read_page(store, at, expect)?);
    cache.0.insert(at, Arc::clone(&page));
    Ok(page)
}

/// Opens a page, and checks that it is of this tree and level.
pub(crate) fn read_page(store: &Store, at: BlockRef, expect: PageExpectation) -> Result<Page> {
    // Pages are never changed in place. But while the master key is changed, some of them lie elsewhere.
    let commit = store.current();
    let block = store.read_block(&commit.redirects, KeyKind::Registry, at)?;
    let stream = page_stream(expect.tree);
    let head = block.head;
    if head.stream != stream {
        return Err(EngineError::tampered(at.position, Check::Stream, stream, head.stream).into());
    }
    let level = u32::from(expect.level);
    if head.index.get() != level {
        let found = head.index.get();
        return Err(EngineError::tampered(at.position, Check::Index, level, found).into());
    }
    Page::parse(at.position, &block.data, expect)
}
