//! Pages of the trees: opened by the engine, checked and cached.

use std::sync::{Arc, OnceLock};

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::BlockRef;
use ar7_engine::store::Store;
use ar7_engine::{Check, Error as EngineError};
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::error::Result;
use crate::tree::{Page, PageExpectation, TreeNumber};

/// Maximum size of the cache: 32,768 pages are 128 MiB.
const CACHED_PAGES_MAX: usize = 32_768;

/// Minimum size of the cache, regardless of the number of dirty pages: 32 MiB.
const CACHED_PAGES_MIN: usize = 8192;

/// Maximum size of cached and dirty pages together: 160 MiB.
const PAGES_MAX: usize = 40_960;

/// Opened and checked pages. The key identifies one version of a block, whose content never
/// changes.
pub(crate) struct PageCache(Cache<BlockRef, Arc<Page>>);

impl PageCache {
    pub(crate) fn new() -> PageCache {
        PageCache(Cache::new(CACHED_PAGES_MAX))
    }

    /// Shrinks the cache to make room for this many dirty pages in memory.
    pub(crate) fn leave_room(&self, dirty_pages: usize) {
        let room = PAGES_MAX.saturating_sub(dirty_pages);
        let room = room.clamp(CACHED_PAGES_MIN, CACHED_PAGES_MAX);
        self.0.set_capacity(u64::try_from(room).expect("at most 32,768 pages"));
    }

    pub(crate) fn insert(&self, at: BlockRef, page: Arc<Page>) {
        self.0.insert(at, page);
    }
}

/// Maximum number of kept branches.
const KEPT_PAGES: usize = 256;

/// Branches that lookups in one commit have visited. They are kept until the commit is superseded,
/// so that the path to a leaf takes no lock and touches no shared reference count.
#[derive(Default)]
pub(crate) struct KeptPages(OnceLock<Box<[KeptPage]>>);

/// A slot for one branch, with the reference to its block.
type KeptPage = OnceLock<(BlockRef, Arc<Page>)>;

impl KeptPages {
    /// Returns the page, if it is kept.
    pub(crate) fn get(&self, at: BlockRef, expect: PageExpectation) -> Option<&Arc<Page>> {
        let (found, page) = self.0.get()?[slot_of(at)].get()?;
        (*found == at && is_expected(page, expect)).then_some(page)
    }

    /// Keeps a page if its slot is still empty.
    pub(crate) fn keep(&self, at: BlockRef, page: &Arc<Page>) {
        let slots = self.0.get_or_init(|| (0..KEPT_PAGES).map(|_| OnceLock::new()).collect());
        slots[slot_of(at)].get_or_init(|| (at, Arc::clone(page)));
    }
}

/// Returns the slot for a branch. Branches are mostly adjacent or evenly spaced in the file, and
/// the multiplication spreads their positions over the slots.
fn slot_of(at: BlockRef) -> usize {
    const GOLDEN_RATIO: u32 = 0x9e37_79b9;
    let spread = at.position.get().wrapping_mul(GOLDEN_RATIO) >> 16;
    usize::try_from(spread).expect("16 bits") % KEPT_PAGES
}

/// Returns whether a page has the tree and level that its parent states.
fn is_expected(page: &Page, expect: PageExpectation) -> bool {
    page.tree() == expect.tree && page.level() == expect.level
}

/// Returns the UUID that the pages of a tree have in place of a stream's.
pub(crate) fn page_stream(tree: TreeNumber) -> Uuid {
    const PAGES: u128 = 0x6172_3700_0000_0000_8000_0000_0000_0000;
    Uuid::from_u128(PAGES + u128::from(tree.0))
}

/// Returns a page from the cache, or opens it.
pub(crate) fn load_page(
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

/// Opens a page and checks its tree and level.
pub(crate) fn read_page(store: &Store, at: BlockRef, expect: PageExpectation) -> Result<Page> {
    // Pages are never changed in place, but during a rekey some of them are in shadow blocks.
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

#[cfg(test)]
mod tests {
    use ar7_engine::format::{DATA_SIZE, Generation, Position};

    use super::*;
    use crate::tree::page_layout;

    const TREE: TreeNumber = TreeNumber(3);
    const LEAF: PageExpectation = PageExpectation { tree: TREE, level: 0 };

    /// Returns a leaf with one cell: a key of one byte without a value.
    fn leaf() -> Arc<Page> {
        let mut data = [0; DATA_SIZE];
        let cell = DATA_SIZE - 3;
        data[cell..].copy_from_slice(&[0, 1, b'k']);
        let cell = u16::try_from(cell).unwrap().to_be_bytes();
        page_layout::TAG.put(&mut data, &[1]);
        page_layout::TREE.put(&mut data, &[TREE.0]);
        page_layout::COUNT.put(&mut data, &[0, 1]);
        page_layout::CELLS.put(&mut data, &cell);
        data[page_layout::BODY.offset..][..2].copy_from_slice(&cell);
        Arc::new(Page::parse(Position::at(8), &data, LEAF).unwrap())
    }

    fn block(position: u32, step: u32) -> BlockRef {
        let generation = Generation { session: 1, step, salt: 0 };
        BlockRef { position: Position::at(position), generation }
    }

    #[test]
    fn a_kept_page_is_found_only_with_its_version_tree_and_level() {
        let kept = KeptPages::default();
        let (page, at) = (leaf(), block(8, 1));
        assert!(kept.get(at, LEAF).is_none());
        kept.keep(at, &page);
        assert!(Arc::ptr_eq(kept.get(at, LEAF).unwrap(), &page));
        assert!(kept.get(block(8, 2), LEAF).is_none(), "another version");
        let other_tree = PageExpectation { tree: TreeNumber(4), ..LEAF };
        assert!(kept.get(at, other_tree).is_none(), "another tree");
        assert!(kept.get(at, PageExpectation { level: 1, ..LEAF }).is_none(), "another level");
    }

    #[test]
    fn a_kept_page_is_not_displaced_by_another_version() {
        let kept = KeptPages::default();
        let (first, second) = (leaf(), leaf());
        kept.keep(block(8, 1), &first);
        kept.keep(block(8, 2), &second);
        assert!(Arc::ptr_eq(kept.get(block(8, 1), LEAF).unwrap(), &first));
        assert!(kept.get(block(8, 2), LEAF).is_none());
    }
}
