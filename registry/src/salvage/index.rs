//! What the scan found: runs of blocks of streams, and index pages. It takes 48 bytes for each run and 20 for each page.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BLOCKS_MAX, BlockIndex, Generation, Position, Run};
use ar7_engine::store::FoundBlock;
use uuid::Uuid;

use crate::blocks::Segment;
use crate::committed::page_stream;
use crate::records::TreeId;

/// Blocks of one stream that are consecutive in position and index, of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) stream: Uuid,
    pub(super) first: BlockIndex,
    pub(super) run: Run,
    pub(super) generation: Generation,
    /// The link of the first block to the one before it.
    pub(super) previous: Option<Position>,
    /// The link of the last block to the one after it.
    pub(super) next: Option<Position>,
}

impl Fragment {
    /// Returns the index after the last block.
    pub(super) fn end(&self) -> u32 {
        self.first.get().saturating_add(self.run.count())
    }

    pub(super) fn last(&self) -> Position {
        Position::at(self.run.end() - 1)
    }

    /// The order in which a stream is put together.
    pub(super) fn order(&self) -> (Uuid, BlockIndex, Position, Generation) {
        (self.stream, self.first, self.run.start(), self.generation)
    }

    /// Adds the next block to the fragment, if it continues it.
    fn extend(&mut self, block: &FoundBlock) -> bool {
        let last = self.last();
        let continues = self.stream == block.head.stream
            && self.generation == block.generation
            && Some(self.end()) == block.head.index.get().into()
            && last.following() == Some(block.home)
            && self.next == Some(block.home)
            && block.head.previous == Some(last);
        let longer = Run::new(self.run.start(), self.run.count() + 1);
        if let (true, Some(run)) = (continues, longer) {
            (self.run, self.next) = (run, block.head.next);
        }
        continues && longer.is_some()
    }
}

/// An index page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FoundPage {
    pub(super) position: Position,
    pub(super) generation: Generation,
    pub(super) tree: TreeId,
    pub(super) level: u8,
}

/// Everything that opened.
#[derive(Default)]
pub(super) struct Index {
    fragments: Vec<Fragment>,
    pages: Vec<FoundPage>,
}

impl Index {
    pub(super) fn add(&mut self, block: &FoundBlock) {
        match block.kind {
            KeyKind::Data => self.add_data(block),
            KeyKind::Registry => self.pages.extend(page(block)),
            KeyKind::Meta => {}
        }
    }

    fn add_data(&mut self, block: &FoundBlock) {
        if block.head.index.get() >= BLOCKS_MAX {
            return;
        }
        if self.fragments.last_mut().is_some_and(|last| last.extend(block)) {
            return;
        }
        self.fragments.push(Fragment {
            stream: block.head.stream,
            first: block.head.index,
            run: Run::single(block.home),
            generation: block.generation,
            previous: block.head.previous,
            next: block.head.next,
        });
    }

    /// Sorts what was found. After this, nothing is added.
    pub(super) fn sort(&mut self) {
        self.fragments.sort_unstable_by_key(Fragment::order);
    }

    /// Returns the fragments, in the order of streams and of indexes.
    pub(super) fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// Returns the fragments of a stream.
    pub(super) fn fragments_of(&self, stream: Uuid) -> &[Fragment] {
        let begin = self.fragments.partition_point(|found| found.stream < stream);
        let rest = &self.fragments[begin..];
        &rest[..rest.partition_point(|found| found.stream == stream)]
    }

    /// Returns whether every block of a segment of a stream was found.
    pub(super) fn covers(&self, stream: Uuid, segment: Segment) -> bool {
        let mut index = segment.first.get();
        while index < segment.end() {
            let place = (stream, BlockIndex(index), segment.position(index), segment.generation);
            let found = self.fragments.binary_search_by_key(&place, Fragment::order);
            let Ok(found) = found else { return false };
            index = self.fragments[found].end();
        }
        true
    }

    /// Returns the pages of a tree, the newest first, and each before the pages below it.
    pub(super) fn pages_of(&self, tree: TreeId) -> Vec<FoundPage> {
        let mut pages: Vec<FoundPage> =
            self.pages.iter().filter(|page| page.tree == tree).copied().collect();
        pages.sort_by_key(|page| std::cmp::Reverse((page.generation, page.level)));
        pages
    }
}

fn page(block: &FoundBlock) -> Option<FoundPage> {
    let is_of = |tree: &TreeId| page_stream(tree.number()) == block.head.stream;
    let tree = TreeId::ALL.into_iter().find(is_of)?;
    let level = u8::try_from(block.head.index.get()).ok()?;
    let (position, generation) = (block.home, block.generation);
    Some(FoundPage { position, generation, tree, level })
}
