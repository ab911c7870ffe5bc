//! Pages of the trees: opened by the engine, checked and cached.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{Block, BlockRef, DoubledRef, Position};
use ar7_engine::store::Store;
use ar7_engine::{Check, Class, Error as EngineError};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::packs::FrameCache;
use crate::tree::{Page, PageExpectation, TreeNumber};

/// Maximum size of the cache in bytes.
const CACHED_MAX: u64 = 128 << 20;

/// Minimum size of the cache in bytes, regardless of the number of dirty pages.
const CACHED_MIN: u64 = 32 << 20;

/// Maximum size of cached and dirty pages together, in bytes.
const PAGES_MAX: u64 = 160 << 20;

/// About how many pages the cache has room for, at 5 KiB each.
const LIKELY_PAGES: usize = 26_214;

/// Maximum number of damaged copies that are remembered.
const BAD_COPIES_MAX: usize = 1024;

/// Opened and checked pages, and decoded frames. The key identifies one version of a block, whose content never
/// changes.
pub(crate) struct PageCache {
    pages: Cache<DoubledRef, Arc<Page>, Bytes>,
    frames: FrameCache,
    bad_copies: Arc<Mutex<BadCopies>>,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<DoubledRef, Arc<Page>> for Bytes {
    fn weight(&self, _: &DoubledRef, page: &Arc<Page>) -> u64 {
        page.memory()
    }
}

/// Copies of pages that did not open, while the other copy did.
#[derive(Default)]
struct BadCopies {
    /// All that were found, up to a maximum.
    found: BTreeSet<Position>,
    /// Those whose page is still in the tree. The next commit moves it.
    unhealed: BTreeSet<Position>,
    /// Those whose page the open transaction has released.
    released: BTreeSet<Position>,
}

impl PageCache {
    pub(crate) fn new() -> PageCache {
        PageCache {
            pages: Cache::with_weighter(LIKELY_PAGES, CACHED_MAX, Bytes),
            frames: FrameCache::new(),
            bad_copies: Arc::default(),
        }
    }

    /// Returns the decoded frames of packed content.
    pub(crate) fn frames(&self) -> &FrameCache {
        &self.frames
    }

    /// Returns the copies that did not open.
    pub(crate) fn damaged_copies(&self) -> DamagedCopies {
        DamagedCopies(Arc::clone(&self.bad_copies))
    }

    /// Returns the bad copies of pages that are still in use.
    pub(crate) fn unhealed(&self) -> BTreeSet<Position> {
        self.bad().unhealed.clone()
    }

    /// Records that the open transaction no longer uses the page at `at`.
    pub(crate) fn released(&self, at: DoubledRef) {
        let mut bad = self.bad();
        if !bad.unhealed.is_empty() {
            for BlockRef { position, .. } in at.copies() {
                if bad.unhealed.remove(&position) {
                    bad.released.insert(position);
                }
            }
        }
    }

    /// Records that the transaction was committed.
    pub(crate) fn committed(&self) {
        self.bad().released.clear();
    }

    /// Records that the transaction, or a part of it, was rolled back: released pages may be in use again.
    pub(crate) fn rolled_back(&self) {
        let mut bad = self.bad();
        let released = std::mem::take(&mut bad.released);
        bad.unhealed.extend(released);
    }

    /// Notes a bad copy, also of a page that was healed before: its position may have been used again.
    fn note_bad(&self, copy: Position) {
        self.note_damaged(copy);
        let mut bad = self.bad();
        if bad.unhealed.len() < BAD_COPIES_MAX {
            bad.unhealed.insert(copy);
        }
    }

    /// Notes a damaged copy, of a page or of anything else.
    pub(crate) fn note_damaged(&self, copy: Position) {
        let mut bad = self.bad();
        if bad.found.len() < BAD_COPIES_MAX {
            bad.found.insert(copy);
        }
    }

    fn bad(&self) -> MutexGuard<'_, BadCopies> {
        lock(&self.bad_copies)
    }

    /// Shrinks the cache to make room for dirty pages that take this many bytes of memory.
    pub(crate) fn leave_room(&self, dirty_bytes: u64) {
        let room = PAGES_MAX.saturating_sub(dirty_bytes);
        self.pages.set_capacity(room.clamp(CACHED_MIN, CACHED_MAX));
    }

    pub(crate) fn insert(&self, at: DoubledRef, page: Arc<Page>) {
        self.pages.insert(at, page);
    }
}

fn lock(bad_copies: &Mutex<BadCopies>) -> MutexGuard<'_, BadCopies> {
    bad_copies.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The copies of index pages, and third copies of the newest commit and the header, that reading or verifying an archive
/// finds damaged while another copy is good. It outlives the archive.
#[derive(Clone)]
pub struct DamagedCopies(Arc<Mutex<BadCopies>>);

impl DamagedCopies {
    /// Returns the positions of those found so far, in order, up to a maximum.
    pub fn positions(&self) -> Vec<Position> {
        lock(&self.0).found.iter().copied().collect()
    }
}

/// Maximum number of kept branches.
const KEPT_PAGES: usize = 256;

/// Branches that lookups in one commit have visited. They are kept until the commit is superseded,
/// so that the path to a leaf takes no lock and touches no shared reference count.
#[derive(Default)]
pub(crate) struct KeptPages(OnceLock<Box<[KeptPage]>>);

/// A slot for one branch, with the reference to its block.
type KeptPage = OnceLock<(DoubledRef, Arc<Page>)>;

impl KeptPages {
    /// Returns the page, if it is kept.
    pub(crate) fn get(&self, at: DoubledRef, expect: PageExpectation) -> Option<&Arc<Page>> {
        let (found, page) = self.0.get()?[slot_of(at)].get()?;
        (*found == at && is_expected(page, expect)).then_some(page)
    }

    /// Keeps a page if its slot is still empty.
    pub(crate) fn keep(&self, at: DoubledRef, page: &Arc<Page>) {
        let slots = self.0.get_or_init(|| (0..KEPT_PAGES).map(|_| OnceLock::new()).collect());
        slots[slot_of(at)].get_or_init(|| (at, Arc::clone(page)));
    }
}

/// Returns the slot for a branch. Branches are mostly adjacent or evenly spaced in the file, and
/// the multiplication spreads their positions over the slots.
fn slot_of(at: DoubledRef) -> usize {
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

/// Returns a page from the cache, or opens it: the first copy, or else the second.
pub(crate) fn load_page(
    store: &Store,
    cache: &PageCache,
    at: DoubledRef,
    expect: PageExpectation,
) -> Result<Arc<Page>> {
    if let Some(page) = cache.pages.get(&at)
        && is_expected(&page, expect)
    {
        return Ok(page);
    }
    let [first, second] = at.copies();
    let read = read_copy(store, first, expect).or_else(|error| {
        if ar7_engine::fault!(NoSecondCopy) || !is_of_one_copy(&error) {
            return Err(error);
        }
        let page = read_copy(store, second, expect);
        let page = page.map_err(|other| if says_more(&other) { other } else { error })?;
        cache.note_bad(first.position);
        Ok(page)
    });
    let page = Arc::new(read?);
    cache.pages.insert(at, Arc::clone(&page));
    Ok(page)
}

/// Opens both copies of a page, and notes one that does not open if the other does. Returns the page.
pub(crate) fn check_copies(
    store: &Store,
    cache: &PageCache,
    at: DoubledRef,
    expect: PageExpectation,
) -> Option<Page> {
    let [first, second] = at.copies();
    match [first, second].map(|copy| read_copy(store, copy, expect).ok()) {
        [Some(page), Some(_)] => Some(page),
        [Some(page), None] => {
            cache.note_bad(second.position);
            Some(page)
        }
        [None, Some(page)] => {
            cache.note_bad(first.position);
            Some(page)
        }
        [None, None] => None,
    }
}

/// Returns whether an error concerns one copy, so that the other one may open. A lost commit does not.
fn is_of_one_copy(error: &Error) -> bool {
    match error {
        Error::Engine(error) => error.is_io() || error.class() == Class::Damaged,
        _ => true,
    }
}

/// Returns whether an error says more about a page than damage of its other copy. A medium that fails to read a block
/// may succeed later, and an older version of a block was put there by somebody.
fn says_more(error: &Error) -> bool {
    match error {
        Error::Engine(error) => {
            error.is_io()
                || matches!(error, EngineError::Tampered(_))
                || error.class() != Class::Damaged
        }
        _ => false,
    }
}

/// Opens one copy of a page and checks its tree and level.
pub(crate) fn read_copy(store: &Store, at: BlockRef, expect: PageExpectation) -> Result<Page> {
    // Pages are never changed in place, but during a rekey some of them are in shadow blocks.
    let commit = store.current();
    let block = store.read_block(&commit.redirects, KeyKind::Registry, at)?;
    parse_page(at.position, &block, expect)
}

/// Checks that a block is a page of this tree and level, and parses it.
pub(crate) fn parse_page(at: Position, block: &Block, expect: PageExpectation) -> Result<Page> {
    let stream = page_stream(expect.tree);
    let head = block.head;
    if head.stream != stream {
        return Err(EngineError::tampered(at, Check::Stream, stream, head.stream).into());
    }
    let level = u32::from(expect.level);
    if head.index.get() != level {
        let found = head.index.get();
        return Err(EngineError::tampered(at, Check::Index, level, found).into());
    }
    Page::parse(at, &block.data, expect)
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::{DATA_SIZE, Generation};

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

    fn block(position: u32, step: u32) -> DoubledRef {
        let generation = Generation { session: 1, step, salt: 0 };
        let [position, copy] = [position, position + 1000].map(Position::at);
        DoubledRef { position, copy, generation }
    }

    #[test]
    fn the_other_copy_is_read_only_if_the_first_one_is_bad_and_the_error_that_says_more_counts() {
        let at = Position::at(8);
        let damaged = EngineError::damaged(at, Check::Tag, "a block", "another");
        let tampered = EngineError::tampered(at, Check::Generation, 1_u64, 2_u64);
        let lost = EngineError::CommitLost { number: 7 };
        let [damaged, tampered, lost] = [damaged, tampered, lost].map(Error::Engine);
        assert!(is_of_one_copy(&damaged) && is_of_one_copy(&tampered) && !is_of_one_copy(&lost));
        assert!(!says_more(&damaged) && says_more(&tampered) && says_more(&lost));
    }

    #[test]
    fn a_bad_copy_is_healed_by_a_commit_only_and_may_go_bad_again() {
        let cache = PageCache::new();
        let (at, bad) = (block(8, 1), Position::at(8));
        cache.note_bad(bad);
        cache.released(at);
        assert!(cache.unhealed().is_empty());
        cache.rolled_back();
        assert_eq!(cache.unhealed(), BTreeSet::from([bad]));
        cache.released(at);
        cache.committed();
        cache.rolled_back();
        assert!(cache.unhealed().is_empty());
        cache.note_bad(bad);
        assert_eq!(cache.unhealed(), BTreeSet::from([bad]), "another page at this position");
        assert_eq!(cache.damaged_copies().positions(), [bad]);
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
