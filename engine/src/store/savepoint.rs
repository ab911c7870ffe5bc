//! Savepoints: points of the open transaction to which it can return.
//!
//! A savepoint names blocks that no commit names: those that the transaction had allocated and sealed by then. They
//! are treated as those of the last commit. A change of one goes to a shadow block, and one that is freed is not
//! allocated again while a savepoint names it.
//!
//! Returning to a savepoint raises the step, as a rollback does: positions that were sealed since are allocated again,
//! and none may be sealed twice in a step.

use super::savepoints::Savepoint;
use super::writer::Writer;
use crate::error::{Error, Result};

/// Number of spent blocks from which a savepoint raises the step to allocate them again: 1 MiB. Each step begins
/// further extents, so raising it for every savepoint would cost more than the blocks.
const SPENT_BLOCKS_MIN: u64 = 256;

impl Writer {
    /// Makes a savepoint of the transaction as it is. The cost depends on what changed since the last savepoint.
    pub fn savepoint(&mut self) -> Result<Savepoint> {
        self.store.check_usable()?;
        self.forget_dropped_savepoints();
        if self.space.spent_blocks() >= SPENT_BLOCKS_MIN {
            self.transaction.raise_step()?;
            self.space.reuse_spent();
        }
        self.space.savepoint();
        self.transaction.savepoint();
        Ok(self.savepoints.add())
    }

    /// Forgets the savepoints that were dropped, so that only blocks that others name must be kept.
    pub fn forget_dropped_savepoints(&mut self) {
        while let Some(index) = self.savepoints.take_dropped() {
            self.space.forget_savepoint(index);
            self.transaction.forget_savepoint(index);
        }
    }

    /// Returns to a savepoint. The savepoint stays; those made after it are gone.
    ///
    /// Fails with [`Error::NoSavepoint`] if the transaction does not have this savepoint.
    pub fn roll_back_to(&mut self, point: &Savepoint) -> Result<()> {
        self.store.check_usable()?;
        let index = self.savepoints.index_of(point).ok_or(Error::NoSavepoint)?;
        self.wait()?;
        self.forget_written();
        // A failure leaves half a rollback, which must never be committed.
        let returned = self.transaction.roll_back_to(index);
        self.store.poisoning(returned)?;
        self.space.roll_back_to(index);
        self.savepoints.forget_after(index);
        Ok(())
    }

    /// Forgets all savepoints, because the transaction ends.
    pub fn forget_savepoints(&mut self) {
        self.savepoints.clear();
        self.space.forget_savepoints();
        self.transaction.forget_savepoints();
    }
}
