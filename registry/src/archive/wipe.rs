//! Overwriting free blocks.

use ar7_engine::format::Position;

use super::Archive;
use crate::error::Result;
use crate::records::{Free, ReadRecords};

/// Runs that are wiped between two syncs.
const RUNS_PER_SYNC: usize = 1024;

impl Archive {
    /// Commits, frees the blocks of deleted streams, and seals a blank over every free block. Returns their number.
    /// Afterwards the file holds nothing that was deleted before.
    ///
    /// `progress` gets the number of blocks so far. A crash leaves some blocks as they were.
    pub fn wipe_free(&self, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        self.reclaim()?;
        let mut state = self.state()?;
        let trees = &mut state.writing()?.trees;
        let mut runs = trees.store().current().slot.inline_free.clone();
        let mut from = Some(Position::at(0));
        let mut wiped = 0;
        while let Some(position) = from {
            let found = trees.ceiling::<Free>(&position)?.map(|(_, run)| run);
            from = found.and_then(|run| Position::new(run.end()));
            runs.extend(found);
            if from.is_none() || runs.len() >= RUNS_PER_SYNC {
                wiped += trees.writer().wipe(&std::mem::take(&mut runs))?;
                progress(wiped);
            }
        }
        wiped += trees.writer().wipe_tail()?;
        progress(wiped);
        Ok(wiped)
    }
}
