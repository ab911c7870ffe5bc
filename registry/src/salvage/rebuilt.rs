//! A tree, put together from the pages that open.
//!
//! The pages below the newest root come first. If some of them do not open, their keys come from older pages, the newest
//! first. A page states all keys between its bounds, so an older page adds only keys for which no newer one exists.
//!
//! If no meta slot names the newest root, the newest page may be the root, or only what is left below it. It then states
//! the keys from its first to its last, and the tree is whole only if no other page has further keys.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BlockRef, DEPTH_MAX, Generation, Position, Root};
use ar7_engine::store::Wreck;
use quick_cache::sync::Cache;

use super::index::FoundPage;
use crate::committed::page_stream;
use crate::records::{Record, TreeId};
use crate::tree::{Page, PageExpectation};

/// Pages that are kept open: 8 MiB.
const CACHED_PAGES: usize = 2048;

/// Opens pages.
pub(super) struct Pages<'a> {
    wreck: &'a Wreck,
    cache: Cache<BlockRef, Arc<Page>>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(wreck: &'a Wreck) -> Pages<'a> {
        Pages { wreck, cache: Cache::new(CACHED_PAGES) }
    }

    /// Returns a page, or `None` if it is lost.
    fn load(&self, block: BlockRef, expect: PageExpectation) -> Option<Arc<Page>> {
        let is_expected =
            |page: &Arc<Page>| page.tree() == expect.tree && page.level() == expect.level;
        if let Some(page) = self.cache.get(&block).filter(is_expected) {
            return Some(page);
        }
        let read = self.wreck.read(KeyKind::Registry, block)?;
        let is_page = read.head.stream == page_stream(expect.tree)
            && read.head.index.get() == u32::from(expect.level);
        let page = Page::parse(block.position, &read.data, expect).ok().filter(|_| is_page)?;
        let page = Arc::new(page);
        self.cache.insert(block, Arc::clone(&page));
        Some(page)
    }
}

/// The keys for which a page is the newest that exists: from the key in the map on, and below `end`.
struct Piece {
    end: Option<Vec<u8>>,
    page: BlockRef,
    /// Whether the page is below the newest root.
    is_newest: bool,
}

/// A record, and whether its page is below the newest root. Otherwise it may be out of date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) is_newest: bool,
}

/// An entry of a leaf: its key and its value.
type Entry = (Vec<u8>, Vec<u8>);

/// The keys that a page states.
#[derive(Clone, Default)]
struct Bounds {
    /// The least key. `None` if it is unknown; then it is the first one of the page.
    low: Option<Vec<u8>>,
    high: High,
}

/// The end of the keys that a page states.
#[derive(Clone, Default)]
enum High {
    /// It is unknown, so the last key is that of the page.
    #[default]
    Unknown,
    /// All keys are below this one.
    Below(Vec<u8>),
    /// Every key from the least one on belongs to the page.
    End,
}

/// A tree, put together from the pages that open.
pub(super) struct Rebuilt {
    tree: TreeId,
    pieces: BTreeMap<Vec<u8>, Piece>,
    visited: HashSet<Position>,
    /// Whether the walk below the newest root has ended.
    is_filling: bool,
    /// Whether every page below the newest root opened.
    pub(super) is_whole: bool,
    /// The generation of the newest root.
    pub(super) newest: Option<Generation>,
}

/// The newest root of a tree that a meta slot names.
#[derive(Clone, Copy)]
pub(super) struct KnownRoot {
    pub(super) root: Root,
    /// The generation of the commit.
    pub(super) generation: Generation,
    /// Whether no newer commit can have been lost.
    pub(super) is_certain: bool,
}

impl Rebuilt {
    /// Puts a tree together from `found`, its pages from the newest to the oldest.
    pub(super) fn new(
        tree: TreeId,
        pages: &Pages<'_>,
        found: &[FoundPage],
        known: Option<KnownRoot>,
    ) -> Rebuilt {
        let (pieces, visited) = (BTreeMap::new(), HashSet::new());
        let (is_filling, is_whole, newest) = (false, true, None);
        let mut rebuilt = Rebuilt { tree, pieces, visited, is_filling, is_whole, newest };
        // Pages newer than a commit that is certainly the newest are of a transaction that did not commit.
        let newest = known.filter(|known| known.is_certain).map(|known| known.generation);
        let is_committed =
            |page: &&FoundPage| newest.is_none_or(|newest| page.generation <= newest);
        let found: Vec<&FoundPage> = found.iter().filter(is_committed).collect();
        // A page further down is not the root of a newer commit: a transaction may have written it before it failed.
        let newer = found.first().filter(|page| {
            known.is_none_or(|known| {
                !known.is_certain
                    && page.generation > known.generation
                    && page.level >= known.root.depth.saturating_sub(1)
            })
        });
        let everything = Bounds { low: Some(Vec::new()), high: High::End };
        match (newer, known) {
            (Some(page), _) => {
                rebuilt.newest = Some(page.generation);
                let bounds = Bounds::default();
                rebuilt.is_whole = rebuilt.walk(pages, &[page.block()], page.level, bounds);
            }
            (None, Some(KnownRoot { root, generation, .. })) => {
                rebuilt.newest = Some(generation);
                let level = root.depth.saturating_sub(1);
                rebuilt.is_whole = root
                    .block
                    .is_none_or(|block| rebuilt.walk(pages, &block.copies(), level, everything));
            }
            (None, None) => rebuilt.is_whole = false,
        }
        rebuilt.is_filling = true;
        if !rebuilt.is_whole || newer.is_some() {
            let newest_pieces = rebuilt.pieces.len();
            for page in found {
                rebuilt.walk(pages, &[page.block()], page.level, Bounds::default());
            }
            rebuilt.is_whole &= rebuilt.pieces.len() == newest_pieces;
        }
        rebuilt
    }

    /// Adds the keys of the leaves below a page, of which one of `copies` opens. Returns whether all of them open. A page
    /// that was visited from a newer one is not visited again.
    fn walk(&mut self, pages: &Pages<'_>, copies: &[BlockRef], level: u8, bounds: Bounds) -> bool {
        if level >= DEPTH_MAX || copies.iter().all(|copy| self.visited.contains(&copy.position)) {
            return false;
        }
        let expect = PageExpectation { tree: self.tree.number(), level };
        let opened = copies.iter().find_map(|&copy| Some((copy, pages.load(copy, expect)?)));
        // If none opens, an older page may be at one of the positions.
        let Some((block, page)) = opened else { return false };
        self.visited.extend(copies.iter().map(|copy| copy.position));
        if !page.is_branch() {
            let low = bounds.low.unwrap_or_else(|| page.key(0).to_vec());
            let high = match bounds.high {
                High::Unknown => Some(after(page.key(page.count() - 1))),
                High::Below(high) => Some(high),
                High::End => None,
            };
            self.cover(low, high.as_ref(), block);
            return true;
        }
        let mut is_whole = true;
        for cell in 0..page.count() {
            let low = if cell == 0 { bounds.low.clone() } else { Some(page.key(cell).to_vec()) };
            let high = if cell + 1 == page.count() {
                bounds.high.clone()
            } else {
                High::Below(page.key(cell + 1).to_vec())
            };
            let below = Bounds { low, high };
            is_whole &= self.walk(pages, &page.child_block(cell).copies(), level - 1, below);
        }
        is_whole
    }

    /// Makes a leaf the page of the keys from `low` to `high` that have none yet.
    fn cover(&mut self, mut low: Vec<u8>, high: Option<&Vec<u8>>, page: BlockRef) {
        loop {
            if high.is_some_and(|high| low >= *high) {
                return;
            }
            if let Some((_, piece)) = self.pieces.range(..=low.clone()).next_back()
                && piece.end.as_ref().is_none_or(|end| *end > low)
            {
                let Some(end) = piece.end.clone() else { return };
                low = end;
                continue;
            }
            let next = self.pieces.range(low.clone()..).next().map(|(next, _)| next.clone());
            let end = match (next, high.cloned()) {
                (Some(next), Some(high)) => Some(next.min(high)),
                (next, high) => next.or(high),
            };
            let piece = Piece { end: end.clone(), page, is_newest: !self.is_filling };
            self.pieces.insert(low, piece);
            let Some(end) = end else { return };
            low = end;
        }
    }

    /// Returns the entry with the least key that is not below `from`.
    fn entry_from(&self, pages: &Pages<'_>, from: &[u8]) -> Option<Found<Entry>> {
        let expect = PageExpectation { tree: self.tree.number(), level: 0 };
        let mut before = self.pieces.range::<[u8], _>((Bound::Unbounded, Bound::Included(from)));
        let after = self.pieces.range::<[u8], _>((Bound::Excluded(from), Bound::Unbounded));
        for (low, piece) in before.next_back().into_iter().chain(after) {
            // A page that opened before may have become unreadable.
            let Some(page) = pages.load(piece.page, expect) else { continue };
            let least = from.max(&low[..]);
            let cell = page.search(least).unwrap_or_else(|place| place);
            let is_inside = |key: &[u8]| piece.end.as_ref().is_none_or(|end| key < &end[..]);
            if cell < page.count() && is_inside(page.key(cell)) {
                let value = (page.key(cell).to_vec(), page.value(cell).to_vec());
                return Some(Found { value, is_newest: piece.is_newest });
            }
        }
        None
    }

    /// Returns the record of a key.
    pub(super) fn get<R: Record>(
        &self,
        pages: &Pages<'_>,
        key: &R::Key,
    ) -> Option<Found<R::Value>> {
        let key = R::encode_key(key);
        let found = self.entry_from(pages, &key)?;
        let (found_key, value) = found.value;
        let value = R::decode_value(&key, &value).ok().filter(|_| found_key == key)?;
        Some(Found { value, is_newest: found.is_newest })
    }

    /// Returns the records with keys that are not below `from`, in order. Those that cannot be decoded are left out.
    pub(super) fn records<'r, R: Record>(
        &'r self,
        pages: &'r Pages<'_>,
        from: &R::Key,
    ) -> impl Iterator<Item = Found<(R::Key, R::Value)>> + 'r {
        let mut from = R::encode_key(from);
        std::iter::from_fn(move || {
            loop {
                let found = self.entry_from(pages, &from)?;
                let (key, value) = found.value;
                from = after(&key);
                if let (Ok(decoded), Ok(value)) =
                    (R::decode_key(&key), R::decode_value(&key, &value))
                {
                    return Some(Found { value: (decoded, value), is_newest: found.is_newest });
                }
            }
        })
    }
}

impl FoundPage {
    fn block(&self) -> BlockRef {
        BlockRef { position: self.position, generation: self.generation }
    }
}

/// Returns the least key above another one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
