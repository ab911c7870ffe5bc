//! One commit, and the shadow blocks that hold newest versions of its blocks.

use std::collections::HashMap;

use crate::format::{Generation, MetaSlot, Position, RedoEntry};

/// One committed state. A reader that holds it can read everything that it names, except data blocks that a later
/// commit has overwritten in place.
#[derive(Debug)]
pub struct Commit {
    /// The meta slot of the commit.
    pub slot: MetaSlot,
    /// Live blocks whose newest version is still in a shadow block.
    pub redirects: Redirects,
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

    /// Returns the position at which to read the version `generation` of the block with the home location `home`.
    pub(super) fn source(&self, home: Position, generation: Generation) -> Position {
        match self.0.get(&home) {
            Some(&(shadow, redirected)) if redirected == generation => shadow,
            _ => home,
        }
    }
}
