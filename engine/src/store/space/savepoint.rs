//! Savepoints of the space: each is a level of what was allocated and freed since.

use super::Space;
use super::run_set::RunSet;
use super::since::Since;
use crate::format::{Position, Run};

impl Space {
    /// Begins to note what is allocated and freed after a savepoint.
    pub(in crate::store) fn savepoint(&mut self) {
        self.since.push(Since { count: self.count, ..Since::default() });
    }

    /// Forgets a savepoint. What followed it counts as having followed the one before.
    pub(in crate::store) fn forget_savepoint(&mut self, index: usize) {
        let forgotten = self.since.remove(index);
        let before = index.checked_sub(1).and_then(|before| self.since.get_mut(before));
        let unnamed = match before {
            Some(before) => before.append(&forgotten),
            None => forgotten.freed_own.iter().collect(),
        };
        self.spent.extend(unnamed);
    }

    /// Forgets all savepoints.
    pub(in crate::store) fn forget_savepoints(&mut self) {
        self.since.clear();
        self.spent = RunSet::default();
    }

    /// Returns the number of blocks that were sealed in this transaction and that neither its state nor a savepoint
    /// names.
    pub(in crate::store) fn spent_blocks(&self) -> u64 {
        self.spent.blocks()
    }

    /// Moves these blocks to the pool. The caller has raised the step, so that they can be sealed again.
    pub(in crate::store) fn reuse_spent(&mut self) {
        for run in std::mem::take(&mut self.spent).iter() {
            self.keep(run);
            self.pool.insert(run);
        }
    }

    /// Returns to a savepoint, and forgets the ones after it. The caller has raised the step: blocks that were sealed
    /// since can be allocated again.
    pub(in crate::store) fn roll_back_to(&mut self, index: usize) {
        for after in (index + 1..self.since.len()).rev() {
            self.forget_savepoint(after);
        }
        let Since { count, allocated, freed_own, freed, released } =
            std::mem::take(&mut self.since[index]);
        self.since[index].count = count;
        self.reuse_spent();
        for run in allocated.iter() {
            self.cancel_unnoted(run);
        }
        for run in freed_own.iter() {
            self.keep(run);
            self.fresh.insert(run);
        }
        for run in freed.iter() {
            self.keep(run);
        }
        // The free list has these again.
        for run in released.iter() {
            self.forget_free(run);
        }
        if let Some(run) = Run::new(Position::at(count), self.count - count) {
            self.forget_free(run);
        }
        self.count = count;
    }

    /// Takes back that a run was freed.
    fn keep(&mut self, run: Run) {
        self.freed.remove(run);
        self.log.remove(run);
    }

    /// Forgets that a run may be allocated.
    fn forget_free(&mut self, run: Run) {
        for set in [&mut self.pool, &mut self.above, &mut self.held] {
            set.remove(run);
        }
    }
}
