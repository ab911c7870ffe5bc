//! One round of a compaction: everything at or above a ceiling moves below it.

use ar7_engine::format::Position;

use super::Compaction;
use super::find::{Place, Search};
use super::step::Step;
use crate::archive::State;
use crate::blocks::is_damage;
use crate::error::Result;
use crate::verify::Finding;

impl Compaction<'_> {
    /// Returns whether the archive became shorter.
    pub(super) fn round(&mut self) -> Result<bool> {
        let before = {
            let mut state = self.archive.state()?;
            let state = state.writing()?;
            let Some(ceiling) = state.lowest_end() else { return Ok(false) };
            let done = self.looked + self.summary.moved;
            self.total = self.total.max(done + state.used_from(ceiling)?);
            state.trees.writer().set_ceiling(Some(ceiling));
            (ceiling, state.trees.writer().block_count())
        };
        let (ceiling, count) = before;
        self.move_pages(ceiling)?;
        self.move_blocks(ceiling)?;
        self.move_pages(ceiling)?;
        if self.must_end()? {
            return Ok(false);
        }
        self.archive.finish_transaction(State::cut_end)?;
        let mut state = self.archive.state()?;
        let writer = state.writing()?.trees.writer();
        writer.set_ceiling(None);
        Ok(writer.block_count() < count)
    }

    fn move_pages(&mut self, ceiling: Position) -> Result<()> {
        let move_some = |state: &mut State| state.move_pages_down(ceiling);
        while !self.must_end()? && self.archive.finish_transaction(move_some)? {}
        Ok(())
    }

    fn move_blocks(&mut self, ceiling: Position) -> Result<()> {
        let mut from = Place::first();
        // Parts whose move found damage that reading their blocks had not found.
        let mut skipped = Vec::new();
        while !self.must_end()? {
            let mut step = Step::begin(Search::begin(from, ceiling.get()), &skipped);
            let committed = &self.archive.inner.committed;
            let moved =
                self.archive.finish_transaction(|state| state.move_some(committed, &mut step));
            match (moved, step.moving) {
                (Ok(()), _) => {}
                (Err(error), Some(part)) if is_damage(&error) && !skipped.contains(&part) => {
                    skipped.push(part);
                    continue;
                }
                (Err(error), _) => return Err(error),
            }
            self.summary.moved += u64::from(step.moved);
            let is_last = step.is_last();
            from = step.search.at;
            for finding in step.search.damaged {
                self.find(finding);
            }
            if is_last {
                break;
            }
            skipped.clear();
        }
        Ok(())
    }

    fn find(&mut self, finding: Finding) {
        if self.reported.add(&finding) {
            self.summary.damaged += 1;
            self.observer.damaged(finding);
        }
    }
}

impl State {
    /// Removes free blocks at the end of the archive, and cuts the file.
    fn cut_end(&mut self) -> Result<()> {
        self.commit_without_redo()?;
        let writer = self.trees.writer();
        if writer.has_redo_list() || writer.is_pinned()? {
            return Ok(());
        }
        if self.trees.trim_end()? {
            self.commit_flushed()?;
        }
        // If the file cannot be cut, it is only longer than necessary. The commit is durable.
        let _ = self.trees.writer().cut()?;
        Ok(())
    }
}
