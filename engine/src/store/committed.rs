//! One commit, and the shadow blocks that hold newest versions of its blocks.

use std::collections::HashMap;

use super::readers::ReaderLock;
use crate::format::{Generation, MetaSlot, Position, RedoEntry, Run};

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

/// Maps the home location of a live block to its shadow block and generation. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirects(pub(super) HashMap<Position, (Position, Generation)>);

impl Redirects {
    /// Returns whether no block is redirected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of redirected blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the redirects as redo entries, ordered by home location.
    pub(super) fn entries(&self) -> Vec<RedoEntry> {
        let entry = |(&home, &(shadow, generation)): (&Position, &(Position, Generation))| {
            RedoEntry { home, shadow, generation }
        };
        let mut entries: Vec<RedoEntry> = self.0.iter().map(entry).collect();
        entries.sort_unstable_by_key(|entry| entry.home);
        entries
    }

    /// Adds the redirects of `other`, which take precedence.
    pub(super) fn and(mut self, other: Redirects) -> Redirects {
        self.0.extend(other.0);
        self
    }

    /// Returns the shadow block of the block with the home location `home`.
    pub(super) fn shadow(&self, home: Position) -> Option<Position> {
        self.0.get(&home).map(|&(shadow, _)| shadow)
    }

    /// Returns whether a block of the run is redirected.
    pub(super) fn touch(&self, run: Run) -> bool {
        let count = usize::try_from(run.count()).unwrap_or(usize::MAX);
        if self.0.len() < count {
            let within = |home: &Position| *home >= run.start() && home.get() < run.end();
            return self.0.keys().any(within);
        }
        run.positions().any(|home| self.0.contains_key(&home))
    }

    /// Returns the position at which to read the version `generation` of the block with the home location `home`.
    pub(super) fn source(&self, home: Position, generation: Generation) -> Position {
        match self.0.get(&home) {
            Some(&(shadow, redirected)) if redirected == generation => shadow,
            _ => home,
        }
    }
}
