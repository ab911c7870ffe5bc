//! One committed state, and where the newest versions of its blocks lie.

use std::collections::HashMap;

use crate::format::{Generation, MetaSlot, Position, RedoEntry};

/// One committed state. A reader that holds it can read everything it names, except data
/// blocks that a later commit overwrote in place.
#[derive(Debug)]
pub struct Commit {
    /// The meta slot of the commit.
    pub slot: MetaSlot,
    /// Places whose newest version still lies at a spare position.
    pub redirects: Redirects,
}

/// Blocks whose newest version lies at a spare position: place, then spare and generation. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirects(pub(super) HashMap<Position, (Position, Generation)>);

impl Redirects {
    /// Whether no block is redirected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of redirected blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each home location, and where its newest version lies, in order.
    pub(super) fn images(&self) -> Vec<RedoEntry> {
        let entry = |(&home, &(shadow, generation)): (&Position, &(Position, Generation))| {
            RedoEntry { home, shadow, generation }
        };
        let mut images: Vec<RedoEntry> = self.0.iter().map(entry).collect();
        images.sort_unstable_by_key(|entry| entry.home);
        images
    }

    /// These and others.
    pub(super) fn and(mut self, other: Redirects) -> Redirects {
        self.0.extend(other.0);
        self
    }

    /// Where to read version `generation` of the block at `place`.
    pub(super) fn source(&self, place: Position, generation: Generation) -> Position {
        match self.0.get(&place) {
            Some(&(spare, redirected)) if redirected == generation => spare,
            _ => place,
        }
    }
}
