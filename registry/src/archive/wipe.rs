//! Overwriting free blocks.

use ar7_engine::format::Position;

use super::Archive;
use crate::error::Result;
use crate::records::{Free, ReadRecords};

/// Number of runs wiped between two syncs.
const RUNS_PER_SYNC: usize = 1024;

impl Archive {
    /// Commits, frees the blocks of pending deletions, and seals a blank block over every free
    /// block. Returns the number of wiped blocks. Afterwards the file holds no data that was
    /// deleted before.
    ///
    /// `progress` receives the number of blocks wiped so far. After a crash, some free blocks may
    /// still hold old data.
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
