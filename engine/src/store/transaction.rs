//! The open transaction: its generation, its changed live blocks, and the redo list of the commit before it.

use std::collections::HashSet;

use super::committed::{DueImage, Redirects};
use super::listed::{ListChange, Listed, WrittenRedoList};
use super::replaced::{Replaced, ReplacedSince};
use super::space::run_set::RunSet;
use crate::error::{Error, Result};
use crate::format::{BlockRef, DoubledRef, Generation, Position, Run};

/// The open transaction of a writer.
#[derive(Debug)]
pub(super) struct Transaction {
    /// The generation under which blocks are sealed now.
    generation: Generation,
    /// Positions sealed in this step. Sealing one of them again raises the step.
    sealed: RunSet,
    /// Live blocks whose newest version is in a shadow block: those that this transaction changed, and those on the
    /// current commit's redo list that are not home yet.
    redirects: Redirects,
    /// Home locations of the blocks that this transaction changed. No commit names their shadow blocks.
    changed: HashSet<Position>,
    /// The redirects that changed since each savepoint.
    replaced: ReplacedSince,
    /// The redo list of the current commit.
    listed: Listed,
    /// The redo list of the next commit, once it is written.
    written: Option<Listed>,
}

impl Transaction {
    /// Begins the first transaction of a session. `listed` is the current commit's redo list.
    pub(super) fn new(generation: Generation, listed: Listed) -> Transaction {
        Transaction {
            generation,
            sealed: RunSet::default(),
            redirects: listed.pending(),
            changed: HashSet::new(),
            replaced: ReplacedSince::default(),
            listed,
            written: None,
        }
    }

    /// Returns the generation under which blocks are sealed now.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Drops the changes of the transaction. The caller raises the step next: sealed positions may be allocated
    /// again, and must not be sealed again in the same step.
    pub(super) fn roll_back(&mut self) {
        self.redirects = self.listed.pending();
        self.changed.clear();
        self.written = None;
    }

    /// Begins to note which redirects change after a savepoint.
    pub(super) fn savepoint(&mut self) {
        self.replaced.savepoint();
    }

    /// Forgets a savepoint.
    pub(super) fn forget_savepoint(&mut self, index: usize) {
        self.replaced.forget_savepoint(index);
    }

    /// Forgets all savepoints.
    pub(super) fn forget_savepoints(&mut self) {
        self.replaced.clear();
    }

    /// Returns to a savepoint, forgets the ones after it, and raises the step.
    pub(super) fn roll_back_to(&mut self, index: usize) -> Result<()> {
        if crate::fault!(RepeatTheStep) {
            self.sealed = RunSet::default();
        } else {
            self.raise_step()?;
        }
        for (home, Replaced { redirect, is_changed }) in self.replaced.take_since(index) {
            match redirect {
                Some(redirect) => self.redirects.shadows.insert(home, redirect),
                None => self.redirects.shadows.remove(&home),
            };
            if is_changed {
                self.changed.insert(home);
            } else {
                self.changed.remove(&home);
            }
        }
        Ok(())
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

    /// Takes the shadow blocks, for the commit that names them. Those on its list remain until they are copied home.
    pub(super) fn take_redirects(&mut self) -> Redirects {
        std::mem::replace(&mut self.redirects, self.listed.pending())
    }

    /// Returns whether this transaction changed a live block.
    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Returns the number of images of earlier commits that readers keep in their shadow blocks and that this
    /// transaction has not changed.
    pub(super) fn carried(&self) -> usize {
        if self.redirects.len() == self.changed.len() {
            return 0;
        }
        let is_carried = |home: &Position| {
            self.redirects.shadow(*home).is_some() && !self.changed.contains(home)
        };
        self.listed.held().filter(is_carried).count()
    }

    /// Returns the shadow block of the live block at `home`, if this transaction changed it. A shadow block that a
    /// commit names is never written again.
    pub(super) fn shadow_of(&self, home: Position) -> Option<Position> {
        if !self.changed.contains(&home) && !crate::fault!(OverwriteListedShadows) {
            return None;
        }
        self.redirects.shadow(home)
    }

    /// Records the newest version of the live block at `home`.
    pub(super) fn redirect(&mut self, home: Position, shadow: Position, generation: Generation) {
        self.note(home);
        self.redirects.shadows.insert(home, BlockRef { position: shadow, generation });
        self.changed.insert(home);
    }

    /// Notes the redirect of the block at `home` for the last savepoint, before it changes.
    fn note(&mut self, home: Position) {
        let Transaction { redirects, changed, replaced, .. } = self;
        replaced.note(home, || Replaced {
            redirect: redirects.shadows.get(&home).copied(),
            is_changed: changed.contains(&home),
        });
    }

    /// Drops the newest versions of live blocks in a run to be freed. Returns the shadow blocks that only this
    /// transaction knows. Those on the current commit's list are freed with the list.
    pub(super) fn drop_redirects(&mut self, run: Run) -> Vec<Position> {
        if self.redirects.is_empty() {
            return Vec::new();
        }
        let removed = run.positions().filter_map(|home| {
            if self.redirects.shadows.contains_key(&home) {
                self.note(home);
            }
            let shadow = self.redirects.shadows.remove(&home)?;
            self.changed.remove(&home).then_some(shadow.position)
        });
        removed.collect()
    }

    /// Returns the redo list of the current commit.
    pub(super) fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Returns the change of the current commit's redo list that this transaction makes.
    pub(super) fn list_change(&self) -> ListChange {
        self.listed.change(&self.redirects, &self.changed)
    }

    /// Records the redo list that the commit `number` will name. Its new entries are in the blocks `chain`.
    pub(super) fn write_list(
        &mut self,
        change: &ListChange,
        chain: Vec<DoubledRef>,
        number: u64,
    ) -> WrittenRedoList {
        let written = self.listed.changed(change, chain, &self.redirects, number);
        let reference = written.reference();
        self.written = Some(written);
        reference
    }

    /// Makes the written list the current commit's.
    pub(super) fn commit_list(&mut self) {
        self.listed = self.written.take().unwrap_or_default();
        self.changed.clear();
    }

    /// Records that images were copied home, except for those in `bad`, so that blocks are read there.
    pub(super) fn copied_home(&mut self, due: &[DueImage], bad: &HashSet<Position>) {
        self.listed.copied(due, bad);
        for DueImage { home, .. } in due.iter().filter(|image| !bad.contains(&image.home)) {
            if !self.changed.contains(home) {
                self.redirects.shadows.remove(home);
            }
        }
    }
}

#[cfg(test)]
impl Transaction {
    pub(super) fn use_last_step(&mut self) {
        self.generation.step = u32::MAX;
    }
}
