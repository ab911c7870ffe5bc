//! The open transaction: its generation, its changed live blocks, and the blocks of redo lists.

use super::committed::Redirects;
use super::space::run_set::RunSet;
use crate::error::{Error, Result};
use crate::format::{Generation, Position, Run};

/// The open transaction of a writer.
#[derive(Debug)]
pub(super) struct Transaction {
    /// The generation under which blocks are sealed now.
    generation: Generation,
    /// Positions sealed in this step. Sealing one of them again raises the step.
    sealed: RunSet,
    /// Live blocks that this transaction changed, with their shadow blocks.
    redirects: Redirects,
    /// Chain and shadow blocks of the current commit's redo list, which the next commit frees.
    listed: RunSet,
    /// `listed` at the beginning of the transaction, so that a rollback reads nothing from disk.
    listed_at_begin: RunSet,
}

impl Transaction {
    /// Begins the first transaction of a session. `listed` are the blocks of the current commit's redo list.
    pub(super) fn new(generation: Generation, listed: RunSet) -> Transaction {
        Transaction {
            generation,
            sealed: RunSet::default(),
            redirects: Redirects::default(),
            listed_at_begin: listed.clone(),
            listed,
        }
    }

    /// Returns the generation under which blocks are sealed now.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Raises the step and begins the next transaction after a commit.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.raise_step()?;
        self.listed_at_begin.clone_from(&self.listed);
        Ok(())
    }

    /// Drops the changes of the transaction. The caller calls [`begin`](Self::begin) next: sealed positions may be
    /// allocated again, and must not be sealed again in the same step.
    pub(super) fn roll_back(&mut self) {
        self.redirects = Redirects::default();
        self.listed.clone_from(&self.listed_at_begin);
    }

    /// Begins the next step, in which each position may be sealed once.
    pub(super) fn raise_step(&mut self) -> Result<()> {
        let step = self.generation.step.checked_add(1).ok_or(Error::Full {
            what: "number of steps in a session",
            limit: u64::from(u32::MAX),
        })?;
        self.generation.step = step;
        self.sealed = RunSet::default();
        Ok(())
    }

    /// Returns the generation for sealing `positions`. If one of them was sealed in this step, it raises the step
    /// first.
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

    /// Returns the shadow blocks in which changed live blocks are read.
    pub(super) fn redirects(&self) -> &Redirects {
        &self.redirects
    }

    /// Returns the shadow block of the live block at `home`, if this transaction changed it.
    pub(super) fn shadow_of(&self, home: Position) -> Option<Position> {
        self.redirects.0.get(&home).map(|&(shadow, _)| shadow)
    }

    /// Records the newest version of the live block at `home`.
    pub(super) fn redirect(&mut self, home: Position, shadow: Position, generation: Generation) {
        self.redirects.0.insert(home, (shadow, generation));
    }

    /// Drops the changes of live blocks in a run to be freed. Returns their shadow blocks.
    pub(super) fn drop_redirects(&mut self, run: Run) -> Vec<Position> {
        if self.redirects.is_empty() {
            return Vec::new();
        }
        let removed = run.positions().filter_map(|home| self.redirects.0.remove(&home));
        removed.map(|(shadow, _)| shadow).collect()
    }

    /// Takes the changed live blocks, for the commit that copies them home.
    pub(super) fn take_redirects(&mut self) -> Redirects {
        std::mem::take(&mut self.redirects)
    }

    /// Records blocks of the redo list that the next commit names.
    pub(super) fn list(&mut self, blocks: impl Iterator<Item = Position>) {
        self.listed.extend(blocks.map(Run::single));
    }

    /// Takes the blocks of the current commit's redo list, to free them.
    pub(super) fn take_listed(&mut self) -> RunSet {
        std::mem::take(&mut self.listed)
    }

    /// Returns the blocks of redo lists.
    pub(super) fn listed(&self) -> &RunSet {
        &self.listed
    }
}
