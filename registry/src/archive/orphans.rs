//! Content that is still open although its file has lost its last name.
//!
//! In each commit, such a stream is a pending deletion. So after a crash the next commits free its blocks, and nothing
//! is left of it. Until its handle is closed, this process keeps the blocks, and can read and change the stream.

use std::collections::HashMap;

use ar7_engine::format::StoredStream;
use uuid::Uuid;

use crate::blocks::put_extents;
use crate::error::Result;
use crate::records::PendingDeletions;
use crate::working::WorkingTrees;

/// The streams that are deleted when their handles are closed, and whether the tree of pending deletions has a record of
/// each.
#[derive(Debug, Default)]
pub(crate) struct Orphans(HashMap<Uuid, bool>);

impl Orphans {
    /// Returns whether a pending deletion must stay.
    pub(crate) fn contains(&self, identity: Uuid) -> bool {
        self.0.contains_key(&identity)
    }

    /// Returns the number of pending deletions that must stay.
    pub(super) fn recorded(&self) -> u64 {
        self.0.values().filter(|is_recorded| **is_recorded).count() as u64
    }

    pub(super) fn add(&mut self, identity: Uuid) {
        self.0.insert(identity, false);
    }

    pub(super) fn remove(&mut self, identity: Uuid) {
        self.0.remove(&identity);
    }

    pub(super) fn identities(&self) -> impl Iterator<Item = &Uuid> {
        self.0.keys()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Records a stream as a pending deletion, as it is now. It has no block, or two or more.
    pub(super) fn record(
        &mut self,
        trees: &mut WorkingTrees,
        stored: &mut StoredStream,
    ) -> Result<()> {
        let identity = stored.record.identity;
        put_extents(trees, stored)?;
        let has_blocks = stored.record.count > 0;
        if has_blocks {
            let mut deleted = stored.clone();
            deleted.record.length = 0;
            trees.put::<PendingDeletions>(&identity, &deleted)?;
        } else if self.0.get(&identity) == Some(&true) {
            trees.remove::<PendingDeletions>(&identity)?;
        }
        self.0.insert(identity, has_blocks);
        Ok(())
    }
}
