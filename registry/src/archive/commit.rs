//! A commit of the archive: streams first, then the trees, the trash last, then the engine's protocol.

use ar7_engine::format::PENDING_SESSIONS_MAX;
use ar7_engine::store::SlotUpdate;

use super::free_list::{clear_end, purge, record, refill, trim_end};
use super::registry::FREE_LIST_COUNTER;
use super::state::State;
use crate::error::Result;
use crate::records::Sessions;

impl State {
    /// Commits, if there is anything to commit.
    pub(super) fn commit(&mut self) -> Result<()> {
        self.flush(true)?;
        if self.is_changed() { self.commit_flushed() } else { Ok(()) }
    }

    /// Whether a commit has something to do.
    pub(super) fn is_changed(&self) -> bool {
        self.differs() || self.registry.has_pending_deletions()
    }

    /// Whether anything was done since the last commit, flushed or not.
    pub(super) fn is_under_way(&self) -> bool {
        self.failed.is_some() || self.open.values().any(|open| open.changed) || self.differs()
    }

    /// Whether the state differs from the last commit's.
    fn differs(&self) -> bool {
        let slot = &self.registry.store().current().slot;
        self.registry.is_touched()
            || slot.reserved_streams != self.reserved
            || slot.metadata != self.metadata
            || slot.counters != self.counters
    }

    /// Frees some blocks of dying streams and commits. Returns whether any are left.
    pub(super) fn commit_purging(&mut self) -> Result<bool> {
        self.commit()?;
        Ok(self.registry.has_pending_deletions())
    }

    /// Commits once more, if the last commit has a redo list.
    pub(super) fn commit_without_redo(&mut self) -> Result<()> {
        if self.registry.writer().has_redo_list() { self.commit_flushed() } else { Ok(()) }
    }

    /// The commits that closing makes: one that clears the redo list, one that moves pages away from the end of the
    /// file, one that gives the end up.
    pub(super) fn commit_closing(&mut self) -> Result<()> {
        self.commit_without_redo()?;
        if self.registry.writer().any_view_held() {
            return Ok(());
        }
        if clear_end(&mut self.registry)? {
            self.commit_flushed()?;
        }
        if trim_end(&mut self.registry)? {
            self.commit_flushed()?;
        }
        Ok(())
    }

    fn commit_flushed(&mut self) -> Result<()> {
        purge(&mut self.registry)?;
        self.record_sessions()?;
        let listed = self.registry.redirects().len();
        refill(&mut self.registry, u64::try_from(listed).unwrap_or(u64::MAX))?;
        let redo = self.registry.writer().write_redo_list()?;
        self.registry.flush_trees()?;
        let loose = record(&mut self.registry)?;
        self.counters[FREE_LIST_COUNTER] = self.registry.free_list_blocks;
        let update = SlotUpdate {
            roots: self.registry.roots(),
            loose,
            reserved_streams: self.reserved.clone(),
            counters: self.counters,
            metadata: self.metadata.clone(),
            sessions_recorded: true,
            redo,
        };
        self.registry.writer().commit(update)?;
        Ok(())
    }

    /// Records the sessions that ended, where the meta slot has many of them: it has room for so many, and a receipt of
    /// any of them is to check out for ever. What keeps this from being done, such as a full disk, is no
    /// reason not to open: the next commit does it, or says why not.
    pub(super) fn settle_sessions(&mut self) {
        let pending = self.registry.store().current().slot.pending_sessions.len();
        if pending >= PENDING_SESSIONS_MAX / 2 && self.commit_flushed().is_err() {
            let _ = self.rollback();
        }
    }

    /// Moves the sessions that ended since from the meta slot to their tree.
    fn record_sessions(&mut self) -> Result<()> {
        let pending = self.registry.store().current().slot.pending_sessions.clone();
        for session in pending {
            self.registry.put::<Sessions>(&session.session, &session)?;
        }
        Ok(())
    }
}
