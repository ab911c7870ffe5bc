//! Snapshots that pin an earlier commit, in this process and in others, and the blocks held for them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use super::run_set::RunSet;
use crate::device::Locks;
use crate::error::Result;
use crate::format::Run;
use crate::store::committed::Commit;

/// The commits that snapshots may pin, and the blocks that each later commit freed.
#[derive(Debug, Default)]
pub(in crate::store) struct Pins {
    /// Commits of this process that are no longer the newest.
    superseded: Vec<(u64, Weak<Commit>)>,
    /// The lowest commit that another process read at the last query, if it was not the newest. A reader that comes
    /// later reads a newer commit, so an old answer holds back too much at most.
    elsewhere: Option<u64>,
    /// What each commit of this session freed, oldest first. No block occurs twice: a held block is not used again.
    freed_by: VecDeque<(u64, RunSet)>,
    /// All blocks in `freed_by`.
    held: RunSet,
    opened: Option<Opened>,
}

/// The commit that this writer opened, if a snapshot pinned an older one. Only the
/// previous writer knew which of its free blocks that snapshot needs.
#[derive(Debug, Clone, Copy)]
struct Opened {
    number: u64,
    /// Length of the file in blocks. The older commit may have been longer than the opened one.
    file_blocks: u32,
}

impl Pins {
    /// Begins a session at commit `number`, in a file of `file_blocks`.
    pub(in crate::store) fn open(
        &mut self,
        locks: &dyn Locks,
        number: u64,
        file_blocks: u32,
    ) -> Result<()> {
        self.query(locks, number)?;
        let is_read = self.elsewhere.is_some() && !crate::fault!(ForgetOlderReaders);
        self.opened = is_read.then_some(Opened { number, file_blocks });
        Ok(())
    }

    /// Asks for the commits that other processes read. `newest` is the newest commit that they can find.
    pub(in crate::store) fn query(&mut self, locks: &dyn Locks, newest: u64) -> Result<()> {
        if !crate::fault!(ForgetOtherProcesses) {
            self.elsewhere = locks.lowest_reader(newest)?;
        }
        Ok(())
    }

    /// Records that `commit` is no longer the newest.
    pub(in crate::store) fn supersede(&mut self, commit: &Arc<Commit>) {
        self.superseded.push((commit.slot.number, Arc::downgrade(commit)));
    }

    /// Records the blocks that the commit with this number freed.
    pub(in crate::store) fn freed(&mut self, number: u64, runs: RunSet) {
        if !runs.is_empty() {
            self.held.extend(runs.iter());
            self.freed_by.push_back((number, runs));
        }
    }

    /// Returns whether a snapshot pins a commit that is not the newest.
    pub(in crate::store) fn any(&mut self) -> bool {
        self.lowest().is_some()
    }

    /// Returns the lowest number of a superseded commit that a snapshot pins.
    pub(in crate::store) fn lowest(&mut self) -> Option<u64> {
        self.superseded.retain(|(_, commit)| commit.strong_count() > 0);
        let here = self.superseded.iter().map(|&(number, _)| number).min();
        here.into_iter().chain(self.elsewhere).min()
    }

    /// Returns the number of blocks that this session freed and that a pinned snapshot may still read.
    pub(in crate::store) fn held_blocks(&self) -> u64 {
        self.held.blocks()
    }

    /// If a snapshot pins a commit older than the one that this writer opened, every free block is held, and so is the
    /// rest of the file. Returns the length of the file at the opening in blocks: new blocks lie behind it.
    pub(in crate::store) fn end_of_held(&mut self) -> Option<u32> {
        let Opened { number, file_blocks } = self.opened?;
        if self.lowest().is_none_or(|lowest| lowest >= number) {
            self.opened = None;
        }
        self.opened.map(|_| file_blocks)
    }

    /// Divides a free run into the blocks that a pinned snapshot may still read, and the others.
    pub(in crate::store) fn divide(&mut self, run: Run) -> (Vec<Run>, Vec<Run>) {
        if self.end_of_held().is_some() {
            return (vec![run], Vec::new());
        }
        let oldest = self.lowest();
        while let Some((number, runs)) = self.freed_by.front() {
            if oldest.is_some_and(|oldest| *number > oldest) {
                break;
            }
            runs.iter().for_each(|run| self.held.remove(run));
            self.freed_by.pop_front();
        }
        self.held.partition(run)
    }
}
