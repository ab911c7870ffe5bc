//! A reader that follows the commits of a writer in another process.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::committed::Commit;
use super::handle::Store;
use super::look::Look;
use super::open::{check_file_length, lock_newest};
use super::redo_list::RedoList;
use super::superblock::choose::{Chosen, choose};
use super::superblock::copy::read_copies;
use crate::error::{Error, Result};

impl Store {
    /// Moves a reader to the newest commit. Returns whether there was a newer one. Snapshots of earlier commits stay
    /// readable. In a writer, the newest commit is always the current one.
    ///
    /// It fails like opening: with [`Error::Busy`] if a writer stopped in the middle of a change.
    pub fn refresh(&self) -> Result<bool> {
        let Some(readers) = &self.readers else { return Ok(false) };
        self.check_usable()?;
        // One at a time: a slower thread must not publish an older commit after a newer one.
        let _turn = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let device = &*self.device;
        let mut examine = |look: &Look<'_>| {
            let chosen = self.chosen_in(look)?;
            check_file_length(look, &chosen.slot)?;
            Ok(chosen)
        };
        let wait = Duration::ZERO;
        let found = lock_newest(device, readers, wait, &mut examine, |chosen| chosen)?;
        let (Chosen { slot, .. }, lock) = found;
        // An older commit is there only if a failing disk lost this one, or somebody restored an older state.
        let current = self.current();
        if slot.number <= current.slot.number {
            let is_same = slot.generation == current.slot.generation;
            return if is_same { Ok(false) } else { Err(lost(&current)) };
        }
        let list = RedoList::read(device, &self.sealer, &slot)?;
        let redirects = list.redirects();
        self.publish(&Arc::new(Commit { slot, redirects, _lock: Some(lock) }));
        Ok(true)
    }

    /// Replaces an error by [`Error::CommitLost`] if a reader's commit was lost. A commit is visible to readers before
    /// it is durable, so a failing disk can lose it. Another commit with its number then overwrites its blocks.
    pub(super) fn explained(&self, error: Error) -> Error {
        if self.readers.is_none() || !matches!(error, Error::Damaged(_) | Error::Tampered(_)) {
            return error;
        }
        let current = self.current();
        let chosen = Look::take(&*self.device).and_then(|look| self.chosen_in(&look));
        let is_lost = chosen.is_ok_and(|chosen| {
            let (found, expected) = (&chosen.slot, &current.slot);
            found.number < expected.number
                || (found.number == expected.number && found.generation != expected.generation)
        });
        if is_lost { lost(&current) } else { error }
    }

    fn chosen_in(&self, look: &Look<'_>) -> Result<Chosen> {
        let copies = read_copies(look, &self.sealer)?;
        let chosen = choose(&copies, self.recovery().lost_pair)?;
        chosen.slot.features.check_readable()?;
        Ok(chosen)
    }
}

fn lost(commit: &Commit) -> Error {
    Error::CommitLost { number: commit.slot.number }
}
