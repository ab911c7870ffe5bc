//! The search for free runs with usable blocks, next to snapshots that hold most of them.

use ar7_engine::format::{Position, Run};

/// Maximum number of runs without a usable block that one transaction skips. The next one continues there.
const SKIPPED_MAX: usize = 1 << 14;

/// Where the search for usable blocks continues. While readers hold free blocks, many runs of the list have no usable
/// block. Each is skipped once, not in every commit.
#[derive(Debug)]
pub(super) struct FreeScan {
    /// No run that begins below has a usable block, as long as `oldest` stays the same.
    from: Position,
    /// The oldest commit that is read, if it is not the newest.
    oldest: Option<u64>,
    /// Number of the commit before the open transaction.
    commit: u64,
    /// The first run that the open transaction took. A rollback puts it back.
    first_taken: Option<Position>,
    /// Number of runs that the open transaction skipped.
    skipped: usize,
}

impl FreeScan {
    pub(super) fn new() -> FreeScan {
        let from = Position::at(0);
        FreeScan { from, oldest: None, commit: 0, first_taken: None, skipped: 0 }
    }

    /// Returns the position at which the search continues.
    pub(super) fn from(&self) -> Position {
        self.from
    }

    /// Continues in the transaction after `commit`. Once `oldest` has changed, any run may be usable.
    pub(super) fn resume(&mut self, commit: u64, oldest: Option<u64>) {
        if self.commit != commit {
            (self.commit, self.first_taken, self.skipped) = (commit, None, 0);
        }
        if self.oldest != oldest {
            (self.oldest, self.from) = (oldest, Position::at(0));
        }
    }

    /// Returns to the list of the last commit. The runs that were skipped need not be looked at again.
    pub(super) fn roll_back(&mut self) {
        self.rewind_to_taken();
        (self.first_taken, self.skipped) = (None, 0);
    }

    /// Looks again at the runs that the open transaction took: a savepoint may put them back.
    pub(super) fn rewind_to_taken(&mut self) {
        self.rewind(self.first_taken.unwrap_or(self.from));
    }

    pub(super) fn took(&mut self, start: Position) {
        self.first_taken = Some(self.first_taken.map_or(start, |first| first.min(start)));
    }

    /// Skips the run at `start`. Returns whether the search may go on.
    pub(super) fn skip(&mut self, start: Position) -> bool {
        self.skipped += 1;
        let next = start.following().filter(|_| self.skipped <= SKIPPED_MAX);
        self.from = next.unwrap_or(self.from);
        next.is_some()
    }

    pub(super) fn rewind(&mut self, to: Position) {
        self.from = self.from.min(to);
    }

    /// Looks again at a run that grew across the place where the search stopped.
    pub(super) fn grew(&mut self, run: Run) {
        if self.from.get() < run.end() {
            self.rewind(run.start());
        }
    }
}
