//! Steps of a commit that are done before it, so that it is short, and so that it finds room.

use super::Archive;
use crate::error::{Error, Result};

impl Archive {
    /// Fails with [`ar7_engine::Error::NoSpace`] unless a commit has room for everything that the open transaction has
    /// changed, and for `more` new blocks of content, and leaves the reserve. Changes nothing but the length of the file.
    ///
    /// Whoever asks before each change, with enough for it, never loses a transaction because the disk is full.
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

    /// Commits as [`Archive::commit`] does, if there is room. If there is none, or if readers hold back too much, it returns
    /// the reason, and the transaction stays open, without its savepoints. Content that no file has yet is freed then, or by
    /// the next commit. If it fails, the transaction was rolled back.
    pub fn try_commit(&self) -> Result<Option<Error>> {
        self.finish_transaction(|state| match state.prepare_commit() {
            Ok(is_changed) => {
                if is_changed {
                    state.commit_flushed()?;
                }
                state.repack_after_commit();
                Ok(None)
            }
            Err(error) if state.check_not_failed().is_ok() => Ok(Some(error)),
            Err(error) => Err(error),
        })
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
