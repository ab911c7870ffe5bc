//! The redirects that the open transaction replaced or dropped since each of its savepoints.

use std::collections::HashMap;

use crate::format::{BlockRef, Position};

/// The redirect of a live block, as it was at a savepoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replaced {
    /// The shadow block, if the block was redirected.
    pub(super) redirect: Option<BlockRef>,
    /// Whether this transaction had changed the block.
    pub(super) is_changed: bool,
}

/// For each savepoint, the redirects that changed between it and the next one.
#[derive(Debug, Default)]
pub(super) struct ReplacedSince(Vec<HashMap<Position, Replaced>>);

impl ReplacedSince {
    /// Begins to note what is replaced after a savepoint.
    pub(super) fn savepoint(&mut self) {
        self.0.push(HashMap::new());
    }

    /// Notes the redirect of the block at `home` before it changes. Only the first change after a savepoint counts.
    pub(super) fn note(&mut self, home: Position, before: impl FnOnce() -> Replaced) {
        if let Some(since) = self.0.last_mut() {
            since.entry(home).or_insert_with(before);
        }
    }

    /// Forgets a savepoint. What followed it counts as having followed the one before.
    pub(super) fn forget_savepoint(&mut self, index: usize) {
        let forgotten = self.0.remove(index);
        if let Some(before) = index.checked_sub(1).and_then(|before| self.0.get_mut(before)) {
            for (home, replaced) in forgotten {
                before.entry(home).or_insert(replaced);
            }
        }
    }

    /// Forgets all savepoints.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the redirects that changed after a savepoint, as they were at it. Forgets the savepoints after it.
    pub(super) fn take_since(&mut self, index: usize) -> HashMap<Position, Replaced> {
        for after in (index + 1..self.0.len()).rev() {
            self.forget_savepoint(after);
        }
        std::mem::take(&mut self.0[index])
    }
}
