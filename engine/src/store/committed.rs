//! One commit, and the shadow blocks that hold newest versions of its blocks.

use std::collections::{HashMap, HashSet};

use super::readers::ReaderLock;
use crate::format::{BlockRef, Generation, MetaSlot, Position, RedoEntry, Run};

/// One committed state. While it is held, everything that it names can be read: the writer neither reuses nor
/// overwrites any of it.
#[derive(Debug)]
pub struct Commit {
    /// The meta slot of the commit.
    pub slot: MetaSlot,
    /// Live blocks whose newest version is still in a shadow block.
    pub redirects: Redirects,
    /// Keeps writers of other processes from overwriting the commit. A writer needs no lock for its own commits.
    pub(super) _lock: Option<ReaderLock>,
}

/// Maps the home location of a live block to its shadow block. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirects {
    pub(super) shadows: HashMap<Position, BlockRef>,
    /// A block of the redo list that does not open. Home locations that only it, or an older block, names are missing.
    pub(super) lost: Option<Position>,
}

/// An image to be copied home.
#[derive(Debug, Clone, Copy)]
pub(super) struct DueImage {
    pub(super) home: Position,
    pub(super) shadow: BlockRef,
    /// Whether the current commit made the image. If not, it may have changed on the medium since.
    pub(super) is_new: bool,
}

impl Redirects {
    /// Returns whether no block is redirected.
    pub fn is_empty(&self) -> bool {
        self.shadows.is_empty()
    }

    /// Returns the number of redirected blocks.
    pub fn len(&self) -> usize {
        self.shadows.len()
    }

    /// Returns the redirects as redo entries, in any order.
    pub(super) fn entries(&self) -> Vec<RedoEntry> {
        let entry =
            |(&home, &shadow): (&Position, &BlockRef)| RedoEntry { home, shadow: Some(shadow) };
        self.shadows.iter().map(entry).collect()
    }

    /// Returns the redirects of some home locations as redo entries, in any order.
    pub(super) fn entries_of(&self, homes: &HashSet<Position>) -> Vec<RedoEntry> {
        homes
            .iter()
            .map(|&home| RedoEntry { home, shadow: self.shadows.get(&home).copied() })
            .collect()
    }

    /// Returns every image, as if each could be copied home now.
    pub(super) fn all_due(&self) -> Vec<DueImage> {
        let image =
            |(&home, &shadow): (&Position, &BlockRef)| DueImage { home, shadow, is_new: false };
        self.shadows.iter().map(image).collect()
    }

    /// Adds the redirects of `other`, which take precedence.
    pub(super) fn and(mut self, other: Redirects) -> Redirects {
        self.shadows.extend(other.shadows);
        self
    }

    /// Returns the shadow block of the block with the home location `home`.
    pub(super) fn shadow(&self, home: Position) -> Option<Position> {
        self.shadows.get(&home).map(|shadow| shadow.position)
    }

    /// Returns whether a block of the run is redirected.
    pub(super) fn touch(&self, run: Run) -> bool {
        let count = usize::try_from(run.count()).unwrap_or(usize::MAX);
        if self.shadows.len() < count {
            let within = |home: &Position| *home >= run.start() && home.get() < run.end();
            return self.shadows.keys().any(within);
        }
        run.positions().any(|home| self.shadows.contains_key(&home))
    }

    /// Returns the position at which to read the version `generation` of the block with the home location `home`.
    pub(super) fn source(&self, home: Position, generation: Generation) -> Position {
        match self.shadows.get(&home) {
            Some(shadow) if shadow.generation == generation => shadow.position,
            _ => home,
        }
    }
}
