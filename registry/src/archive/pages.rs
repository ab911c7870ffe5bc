//! Pages of the registry as they come from the engine, through a cache.

use std::sync::{Arc, OnceLock};

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::BlockRef;
use ar7_engine::store::Store;
use ar7_engine::{Check, Error as EngineError};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::error::Result;
use crate::tree::{Page, PageExpectation, TreeNumber};

/// Pages that the cache holds at most: 32,768 pages are 128 MiB.
const CACHED_PAGES_MAX: usize = 32_768;

/// Pages that it holds however many others are in memory: 32 MiB.
const CACHED_PAGES_MIN: usize = 8192;

/// Cached and changed pages together: 160 MiB.
const PAGES_MAX: usize = 40_960;

/// Opened and checked pages, by the one version of a block that each of them is.
pub(crate) struct PageCache(Cache<BlockRef, Arc<Page>>);

impl PageCache {
    pub(super) fn new() -> PageCache {
        PageCache(Cache::new(CACHED_PAGES_MAX))
    }

    /// Keeps no more than what leaves room for this many changed pages.
    pub(super) fn leave_room(&self, changed_pages: usize) {
        let room = PAGES_MAX.saturating_sub(changed_pages);
        let room = room.clamp(CACHED_PAGES_MIN, CACHED_PAGES_MAX);
        self.0.set_capacity(u64::try_from(room).expect("few pages"));
    }

    pub(super) fn insert(&self, at: BlockRef, page: Arc<Page>) {
        self.0.insert(at, page);
    }
}

/// Branches that a reader keeps.
const KEPT_PAGES: usize = 256;

/// Branches that a reader came through, kept as long as the reader: what leads to every leaf is then found
/// without a lock, and without counting who has it, which threads would wait for each other to do.
#[derive(Default)]
pub(super) struct KeptPages(OnceLock<Box<[KeptPage]>>);

/// A slot for a branch, and which version of which block it is.
type KeptPage = OnceLock<(BlockRef, Arc<Page>)>;

impl KeptPages {
    /// A page, if it is here.
    pub(super) fn get(&self, at: BlockRef, expect: PageExpectation) -> Option<&Arc<Page>> {
        let (found, page) = self.0.get()?[slot(at)].get()?;
        (*found == at && is_expected(page, expect)).then_some(page)
    }

    /// Keeps a page, if its slot is still free.
    pub(super) fn keep(&self, at: BlockRef, page: &Arc<Page>) {
        let slots = self.0.get_or_init(|| (0..KEPT_PAGES).map(|_| OnceLock::new()).collect());
        slots[slot(at)].get_or_init(|| (at, Arc::clone(page)));
    }
}

/// Branches lie where the tree was flushed, mostly side by side or evenly apart: their positions are spread out.
fn slot(at: BlockRef) -> usize {
    const GOLDEN_RATIO: u32 = 0x9e37_79b9;
    let spread = at.position.get().wrapping_mul(GOLDEN_RATIO) >> 16;
    usize::try_from(spread).expect("16 bits") % KEPT_PAGES
}

/// Whether a page is what its parent says.
fn is_expected(page: &Page, expect: PageExpectation) -> bool {
    page.tree() == expect.tree && page.level() == expect.level
}

/// The UUID that the pages of a tree carry in place of a stream's.
pub(crate) fn page_stream(tree: TreeNumber) -> Uuid {
    const PAGES: u128 = 0x6172_3700_0000_0000_8000_0000_0000_0000;
    Uuid::from_u128(PAGES + u128::from(tree.0))
}

/// Opens a page, or finds it in the cache.
pub(super) fn load_page(
    store: &Store,
    cache: &PageCache,
    at: BlockRef,
    expect: PageExpectation,
) -> Result<Arc<Page>> {
    if let Some(page) = cache.0.get(&at)
        && is_expected(&page, expect)
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
