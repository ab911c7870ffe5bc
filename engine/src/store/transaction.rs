//! What the open transaction has sealed, redirected and listed.

use super::committed::Redirects;
use super::space::run_set::RunSet;
use crate::error::{Error, Result};
use crate::format::{Generation, Position, Run};

/// The open transaction of a writer.
#[derive(Debug)]
pub(super) struct Transaction {
    /// The generation of what is sealed now.
    generation: Generation,
    /// Positions sealed in this step. Sealing one again raises the step.
    sealed: RunSet,
    /// Live blocks that this transaction changed, and the shadow blocks that hold them.
    redirects: Redirects,
    /// Chain and shadow blocks of the current commit's redo list, which the next commit frees.
    listed: RunSet,
    /// The same at the beginning of the transaction, so that a rollback reads nothing.
    listed_at_begin: RunSet,
}

impl Transaction {
    /// The first transaction of a session. `listed` is what the redo list of the current commit takes up.
    pub(super) fn new(generation: Generation, listed: RunSet) -> Transaction {
        Transaction {
            generation,
            sealed: RunSet::default(),
            redirects: Redirects::default(),
            listed_at_begin: listed.clone(),
            listed,
        }
    }

    /// The generation of what is sealed now.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Raises the step and begins again after a commit.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.raise_step()?;
        self.listed_at_begin.clone_from(&self.listed);
        Ok(())
    }

    /// Drops what changed since the transaction began. [`begin`](Self::begin) comes next: sealed positions may be
    /// allocated again, and the step must not be.
    pub(super) fn roll_back(&mut self) {
        self.redirects = Redirects::default();
        self.listed.clone_from(&self.listed_at_begin);
    }

    /// Begins the next step, in which each position may be sealed once more.
    pub(super) fn raise_step(&mut self) -> Result<()> {
        let step = self.generation.step.checked_add(1).ok_or(Error::Full {
            what: "number of steps in a session",
            limit: u64::from(u32::MAX),
        })?;
        self.generation.step = step;
        self.sealed = RunSet::default();
        Ok(())
    }

    /// The generation with which to seal these positions now. If one was sealed in this step, the step is raised first.
    pub(super) fn generation_for(
        &mut self,
        positions: impl Iterator<Item = Position> + Clone,
    ) -> Result<Generation> {
        if positions.clone().any(|position| self.sealed.contains(position)) {
            self.raise_step()?;
        }
        self.sealed.extend(positions.map(Run::single));
        Ok(self.generation)
    }

    /// Where to read the blocks that this transaction changed.
    pub(super) fn redirects(&self) -> &Redirects {
        &self.redirects
    }

    /// The shadow block of the live block at `home`, if this transaction changed it.
    pub(super) fn shadow_of(&self, home: Position) -> Option<Position> {
        self.redirects.0.get(&home).map(|&(shadow, _)| shadow)
    }

    /// Notes the newest version of the live block at `home`.
    pub(super) fn redirect(&mut self, home: Position, shadow: Position, generation: Generation) {
        self.redirects.0.insert(home, (shadow, generation));
    }

    /// Drops the changes of live blocks in a run that is freed. Returns their shadow blocks.
    pub(super) fn drop_redirects(&mut self, run: Run) -> Vec<Position> {
        if self.redirects.is_empty() {
            return Vec::new();
        }
        let removed = run.positions().filter_map(|home| self.redirects.0.remove(&home));
        removed.map(|(shadow, _)| shadow).collect()
    }

    /// The changes, for the commit that copies them home.
    pub(super) fn take_redirects(&mut self) -> Redirects {
        std::mem::take(&mut self.redirects)
    }

    /// Notes blocks of the redo list that the next commit names.
    pub(super) fn list(&mut self, blocks: impl Iterator<Item = Position>) {
        self.listed.extend(blocks.map(Run::single));
    }

    /// The blocks of the current commit's redo list, to be freed.
    pub(super) fn take_listed(&mut self) -> RunSet {
        std::mem::take(&mut self.listed)
    }

    /// Blocks that a redo list takes up.
    pub(super) fn listed(&self) -> &RunSet {
        &self.listed
    }
}
