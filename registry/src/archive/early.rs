//! Steps of a commit that are done before it, so that it is short, and so that it finds room.

use super::Archive;
use crate::archive::State;
use crate::error::Result;

impl Archive {
    /// Fails with [`ar7_engine::Error::NoSpace`] unless a commit has room for everything that the open transaction has
    /// changed, and for `more` new blocks of content. Changes nothing but the length of the file.
    ///
    /// Whoever asks before each change, with enough for it, never loses a transaction because the disk is full. Changes of
    /// packed files with holes are not counted: the commit packs all of their content again.
    pub fn check_room(&self, more: usize) -> Result<()> {
        self.state()?.writing()?.check_room(more)
    }

    /// Seals the dirty blocks of streams, and writes what is sealed to stable storage. It excludes other changes only
    /// while it seals. On a full disk it fails, and the transaction stays as it was.
    pub fn write_early(&self) -> Result<()> {
        {
            let mut state = self.state()?;
            let writing = state.writing()?;
            writing.flush(false)?;
            writing.trees.flushed_store()?;
        }
        Ok(self.store().sync_early()?)
    }

    /// Seals everything that the open transaction has written to streams. On a full disk it fails, and the transaction
    /// stays as it was.
    pub fn flush(&self) -> Result<()> {
        self.state()?.writing()?.flush(true)
    }

    /// Returns whether content of deleted files is left, of which each commit frees a part.
    pub fn has_deletions(&self) -> bool {
        self.state().is_ok_and(|mut state| state.writing().is_ok_and(|state| state.has_deletions()))
    }

    /// Returns whether only a rollback is possible, because a failure left the open transaction half changed, or nothing
    /// at all.
    pub fn is_failed(&self) -> bool {
        self.state().map_or(true, |mut state| state.writing().is_err())
    }
}

impl State {
    fn check_room(&mut self, more: usize) -> Result<()> {
        self.trees.check_room(self.dirty_blocks.saturating_add(more))
    }
}
