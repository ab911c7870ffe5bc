//! Snapshots that pin an earlier commit, and the blocks held for them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::run_set::RunSet;
use crate::store::committed::Commit;

/// The commits that snapshots of this process may pin, and the blocks that each later commit freed.
#[derive(Debug, Default)]
pub(in crate::store) struct Pins {
    superseded: Vec<(u64, Weak<Commit>)>,
    freed_by: VecDeque<(u64, RunSet)>,
}

impl Pins {
    /// Records that `commit` is no longer the newest.
    pub(in crate::store) fn supersede(&mut self, commit: &Arc<Commit>) {
        self.superseded.push((commit.slot.number, Arc::downgrade(commit)));
    }

    /// Records the blocks that the commit with this number freed.
    pub(in crate::store) fn freed(&mut self, number: u64, runs: RunSet) {
        self.freed_by.push_back((number, runs));
    }

    /// Returns whether a snapshot pins a commit that is not the newest.
    pub(in crate::store) fn any(&mut self) -> bool {
        self.superseded.retain(|(_, commit)| commit.strong_count() > 0);
        !self.superseded.is_empty()
    }

    /// Returns the free blocks that a pinned snapshot may still read.
    pub(in crate::store) fn held(&mut self) -> RunSet {
        self.superseded.retain(|(_, commit)| commit.strong_count() > 0);
        let oldest = self.superseded.iter().map(|&(number, _)| number).min();
        while let Some((number, _)) = self.freed_by.front() {
            match oldest {
                Some(oldest) if *number > oldest => break,
                _ => self.freed_by.pop_front(),
            };
        }
        self.freed_by.iter().flat_map(|(_, runs)| runs.iter()).collect()
    }
}
