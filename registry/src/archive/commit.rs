//! A commit of the archive: the streams, then the trees with the free list last, then the engine's
//! commit protocol.

use ar7_engine::format::PENDING_SESSIONS_MAX;
use ar7_engine::store::SlotUpdate;

use super::repack::Repack;
use super::state::State;
use crate::error::Result;
use crate::records::Sessions;

impl State {
    /// Commits, if there is anything to commit.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.prepare_commit()? { self.commit_flushed() } else { Ok(()) }
    }

    /// Flushes the transaction, and checks that a commit has room for it. Returns whether there is anything to commit.
    pub(super) fn prepare_commit(&mut self) -> Result<bool> {
        self.trees.writer().forget_savepoints();
        self.free_unfinished()?;
        self.flush(true)?;
        let is_changed = self.is_changed();
        if is_changed {
            self.check_reserve()?;
        }
        Ok(is_changed)
    }

    /// Commits, and moves content out of packs with many dead bytes.
    pub(super) fn commit_and_repack(&mut self) -> Result<()> {
        self.commit()?;
        self.repack_after_commit();
        Ok(())
    }

    /// Moves content out of packs with many dead bytes. Returns whether it moved any.
    ///
    /// The commit before it is durable. So an error only leaves dead bytes where they are; if it made the archive
    /// unusable, the next call returns the reason.
    pub(super) fn repack_after_commit(&mut self) -> bool {
        self.repack(Repack::OverAQuarter).unwrap_or_else(|_| {
            let _ = self.rollback();
            false
        })
    }

    /// Returns whether a commit has anything to do.
    pub(super) fn is_changed(&self) -> bool {
        self.differs() || self.has_deletions()
    }

    /// Returns whether deleted content is left.
    pub(super) fn has_deletions(&self) -> bool {
        self.trees.pending_deletions() > self.orphans.recorded() || self.has_dead_slices()
    }

    /// Returns whether anything has changed since the last commit, flushed or not.
    pub(crate) fn has_uncommitted(&self) -> bool {
        let is_packing = !self.packing.is_empty();
        is_packing
            || self.failed.is_some()
            || self.open.values().any(|open| open.changed)
            || self.differs()
    }

    /// Returns whether the flushed state differs from the last commit.
    pub(super) fn differs(&self) -> bool {
        let slot = &self.trees.store().current().slot;
        self.trees.is_touched()
            || slot.reserved_streams != self.reserved
            || slot.metadata != self.metadata
            || slot.counters != self.trees.counters()
    }

    /// Frees some of the deleted content and commits. Returns whether another call may free more: some is left, and not only
    /// because there is no room to free it.
    pub(crate) fn commit_purging(&mut self) -> Result<bool> {
        let has_changed = self.has_uncommitted();
        self.purged = 0;
        self.commit()?;
        Ok(self.has_deletions() && (self.purged > 0 || has_changed))
    }

    /// Commits until the last commit has no redo list, at most twice: the first of these commits
    /// names the images that a reader held back, and copies them home if it has left.
    pub(crate) fn commit_without_redo(&mut self) -> Result<()> {
        for _ in 0..2 {
            if !self.trees.writer().has_redo_list() {
                break;
            }
            self.commit_flushed()?;
        }
        Ok(())
    }

    /// Moves pages with a bad copy, a limited number in each commit, until none is left that a commit
    /// can move.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.commit()?;
        self.trees.find_bad_copies();
        let mut left = self.trees.unhealed();
        while left > 0 {
            self.trees.search_all_pages();
            self.commit_flushed()?;
            let before = std::mem::replace(&mut left, self.trees.unhealed());
            if left >= before {
                break;
            }
        }
        Ok(())
    }

    /// Makes the commits of closing: one clears the redo list, one moves pages away from the end of
    /// the file, and one removes the end from the archive.
    pub(super) fn commit_closing(&mut self) -> Result<()> {
        self.commit_without_redo()?;
        let writer = self.trees.writer();
        // While a list is named, the archive keeps its length: entries that are superseded may name any block.
        if writer.has_redo_list() || writer.is_pinned()? {
            return Ok(());
        }
        if self.trees.clear_end() {
            let committed = self.commit_flushed();
            self.trees.writer().set_ceiling(None);
            committed?;
        }
        if self.trees.trim_end()? {
            self.commit_flushed()?;
        }
        Ok(())
    }

    /// Commits what is flushed.
    pub(crate) fn commit_flushed(&mut self) -> Result<()> {
        self.record_sessions()?;
        self.purged = self.trees.purge(|identity| self.orphans.contains(identity))?;
        self.purged += self.purge_slices()?;
        let needed = self.trees.writer().redo_list_blocks();
        self.trees.make_room(needed)?;
        let redo = self.trees.writer().write_redo_list()?;
        self.trees.move_pages()?;
        self.trees.flush_trees()?;
        let inline_free = self.trees.flush_free_list()?;
        let update = SlotUpdate {
            roots: self.trees.roots(),
            inline_free,
            reserved_streams: self.reserved.clone(),
            counters: self.trees.counters(),
            metadata: self.metadata.clone(),
            sessions_recorded: true,
            redo,
        };
        self.trees.writer().commit(update)?;
        self.trees.committed();
        self.sealed_blocks = 0;
        Ok(())
    }

    /// Records ended sessions in their tree when they fill half of their room in the meta slot.
    /// Without its record, the receipts of a session could not be checked. A failure, such as a
    /// full disk, does not prevent opening: the next commit tries again and reports the error.
    pub(super) fn settle_sessions(&mut self) {
        let pending = self.trees.store().current().slot.pending_sessions.len();
        if pending >= PENDING_SESSIONS_MAX / 2 && self.commit_flushed().is_err() {
            let _ = self.rollback();
        }
    }

    /// Copies ended sessions from the meta slot to their tree.
    pub(super) fn record_sessions(&mut self) -> Result<()> {
        let pending = self.trees.store().current().slot.pending_sessions.clone();
        for session in pending {
            self.trees.put::<Sessions>(&session.session, &session)?;
        }
        Ok(())
    }
}
