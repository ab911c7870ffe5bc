//! Overwriting free blocks.

use ar7_engine::format::{Position, Run};
use ar7_engine::store::Wiped;

use super::repack::Repack;
use super::{Archive, State};
use crate::error::{Error, Result};
use crate::records::{Free, ReadRecords};

/// Number of runs wiped between two syncs.
const RUNS_PER_SYNC: usize = 1024;

impl Archive {
    /// Commits, frees the blocks of pending deletions, moves content out of packs with deleted content, and seals a blank block over every free
    /// block. Returns the number of wiped blocks. Afterwards the file holds no data that was
    /// deleted before.
    ///
    /// `progress` receives the number of blocks wiped so far. It may use the archive, which is not
    /// locked during the call. If a transaction has written blocks when the next ones are to be
    /// wiped, the wipe stops with [`ar7_engine::Error::Uncommitted`]. After a crash, some free
    /// blocks may still hold old data.
    ///
    /// Free blocks that a snapshot may still read, in this process or another, are not wiped, and
    /// neither are old versions of blocks that readers keep in their home locations. If there are
    /// any, the call wipes the others and fails with [`ar7_engine::Error::HeldByReaders`]. If content could not
    /// be moved, for lack of room or because it is damaged, it fails with [`Error::DeadBytes`].
    ///
    /// In a damaged archive, it does not find what only a lost block of the redo list names. Nor does it
    /// wipe the home location of a block whose newest version is in a shadow block that does not open.
    pub fn wipe_free(&self, progress: &mut dyn FnMut(u64)) -> Result<u64> {
        self.reclaim()?;
        while self.finish_transaction(|state| state.repack(Repack::AnyDead))? {}
        self.finish_transaction(State::commit_carried)?;
        let mut wiping = Wiping { from: Position::at(0), inline_of: None, wiped: Wiped::default() };
        loop {
            let is_done = self.state()?.writing()?.wipe_some(&mut wiping)?;
            progress(wiping.wiped.blocks);
            if is_done {
                let mut state = self.state()?;
                let writing = state.writing()?;
                writing.trees.writer().check_wiped(wiping.wiped)?;
                writing.check_no_dead_bytes()?;
                return Ok(wiping.wiped.blocks);
            }
        }
    }
}

/// The state of a wipe between two calls of its callback.
struct Wiping {
    /// The free list is wiped below this position.
    from: Position,
    /// Number of the commit whose inline free runs were wiped.
    inline_of: Option<u64>,
    /// The blocks that were wiped or left out so far.
    wiped: Wiped,
}

impl State {
    fn check_no_dead_bytes(&self) -> Result<()> {
        match self.dead_bytes().saturating_add(self.dead_slice_bytes()?) {
            0 => Ok(()),
            bytes => Err(Error::DeadBytes { bytes }),
        }
    }

    /// Commits once more if changed blocks are not in their home locations yet: these hold deleted
    /// data. The commit copies them there, unless readers of older commits are still active.
    fn commit_carried(&mut self) -> Result<()> {
        self.commit()?;
        if self.trees.writer().carried_images() == 0 {
            return Ok(());
        }
        self.commit_without_redo()
    }

    /// Wipes the runs up to the next sync. Returns whether all runs are done.
    fn wipe_some(&mut self, wiping: &mut Wiping) -> Result<bool> {
        let trees = &mut self.trees;
        let slot = trees.store().current().slot.clone();
        let mut runs = Vec::new();
        // A run that begins below was joined across the position: its first part is wiped, or was not free before.
        if let Some((_, run)) = trees.floor::<Free>(&wiping.from)?
            && run.start() < wiping.from
            && let Some(rest) = run.end().checked_sub(wiping.from.get())
        {
            runs.extend(Run::new(wiping.from, rest));
        }
        let mut next = Some(wiping.from);
        while let Some(from) = next.filter(|_| runs.len() < RUNS_PER_SYNC) {
            let found = trees.ceiling::<Free>(&from)?.map(|(_, run)| run);
            next = found.and_then(|run| Position::new(run.end()));
            runs.extend(found);
        }
        // A commit of another thread may have moved runs from the free list into the slot: repeat at the end.
        if wiping.inline_of.is_none() || next.is_none() && wiping.inline_of != Some(slot.number) {
            runs.extend(&slot.inline_free);
            wiping.inline_of = Some(slot.number);
        }
        wiping.wiped += trees.writer().wipe(&runs)?;
        match next {
            Some(from) => wiping.from = from,
            None => wiping.wiped += trees.writer().wipe_tail()?,
        }
        Ok(next.is_none())
    }
}
