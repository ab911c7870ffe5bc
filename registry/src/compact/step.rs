//! One commit of a compaction, which moves blocks of streams below the ceiling.

use std::sync::Arc;

use ar7_engine::Error as EngineError;
use ar7_engine::format::StoredStream;

use super::find::{Part, Place, Search};
use crate::archive::State;
use crate::blocks::relocate;
use crate::committed::Committed;
use crate::error::Result;
use crate::records::{Streams, TreeId, reserved_index};
use crate::verify::{Finding, Subject};

/// Maximum number of blocks that one commit moves: 16 MiB. They are in memory at once.
const MOVED_MAX: u32 = 4096;

/// Number of blocks that stay at each side of the moved ones and are sealed again.
const NEIGHBOURS: u32 = 2;

/// Number of pages by which the trees may grow while one part is moved.
const GROWTH_PAGES: u64 = 1;

/// Minimum number of runs in every page of the free list except the last.
const RUNS_PER_PAGE_MIN: u64 = 100;

/// One step: a bounded number of blocks to move in one commit.
pub(super) struct Step<'a> {
    pub(super) search: Search,
    /// Parts not to move.
    skipped: &'a [Place],
    /// The part that is being moved.
    pub(super) moving: Option<Place>,
    /// Number of moved blocks.
    pub(super) moved: u32,
    /// Number of free runs that the moves created, at most.
    runs: usize,
    /// Whether there was no room.
    is_stuck: bool,
}

impl<'a> Step<'a> {
    pub(super) fn begin(search: Search, skipped: &'a [Place]) -> Step<'a> {
        Step { search, skipped, moving: None, moved: 0, runs: 0, is_stuck: false }
    }

    /// Returns whether no step follows: everything was looked at, or there is no room.
    pub(super) fn is_last(&self) -> bool {
        self.search.is_at_end || (self.is_stuck && self.moved == 0)
    }
}

impl State {
    /// Fails if the transaction has changes, or if a stream is open for writing: its record would become stale.
    pub(super) fn check_closed(&self) -> Result<()> {
        if self.has_uncommitted() || !self.open.is_empty() {
            return Err(EngineError::Uncommitted.into());
        }
        Ok(())
    }

    /// Moves the next blocks at or above the ceiling, and commits.
    pub(super) fn move_some(
        &mut self,
        committed: &Arc<Committed>,
        step: &mut Step<'_>,
    ) -> Result<()> {
        self.check_closed()?;
        self.pooled(u64::from(MOVED_MAX) * 2)?;
        while step.moved < MOVED_MAX {
            let most = self.room(step.runs).min(MOVED_MAX - step.moved);
            if most == 0 {
                // The commit frees what the moved blocks, pages and lists occupied.
                step.is_stuck = true;
                break;
            }
            let Some(part) = self.next_part(committed, &mut step.search, most)? else { break };
            if step.skipped.contains(&part.place()) {
                let stream = part.stored.record.identity;
                let error =
                    EngineError::damaged(None, ar7_engine::Check::Extents, "a record", "none");
                step.search
                    .damaged
                    .push(Finding { subject: Subject::Stream(stream), error: error.into() });
                continue;
            }
            if !self.move_part(step, part)? {
                step.is_stuck = true;
                break;
            }
        }
        step.moving = None;
        // Looking for room changes the free list.
        if step.moved == 0 { self.rollback() } else { self.commit_flushed() }
    }

    /// Returns whether there was room.
    fn move_part(&mut self, step: &mut Step<'_>, part: Part) -> Result<bool> {
        let place = part.place();
        let Part { mut stored, range } = part;
        step.moving = Some(place);
        let Some(moved) = relocate(&mut self.trees, &mut stored, range)? else {
            step.search.at = place;
            return Ok(false);
        };
        let stream = stored.record.identity;
        for (index, position, error) in moved.damaged {
            let subject = match position {
                Some(position) => Subject::Block { stream, index, position },
                None => Subject::Stream(stream),
            };
            step.search.damaged.push(Finding { subject, error });
        }
        if moved.moved > 0 {
            self.store_record(stored)?;
        }
        step.moved += moved.moved;
        step.runs += moved.runs;
        Ok(true)
    }

    fn store_record(&mut self, stored: StoredStream) -> Result<()> {
        match reserved_index(stored.record.identity) {
            Some(index) => self.reserved[index] = stored,
            None => {
                self.trees.put::<Streams>(&stored.record.identity, &stored)?;
            }
        }
        Ok(())
    }

    /// Returns the number of blocks that can be moved next: the free blocks below the ceiling, without those that the
    /// commit needs for pages and for the redo list. The moves so far created up to `runs` free runs.
    fn room(&mut self, runs: usize) -> u32 {
        let list_pages = self.trees.entries(TreeId::Free) / RUNS_PER_PAGE_MIN + 2;
        let touched = u64::try_from(runs).unwrap_or(u64::MAX).saturating_add(2).min(list_pages);
        let pages =
            u64::try_from(self.trees.dirty_pages()).unwrap_or(u64::MAX) + touched + GROWTH_PAGES;
        let redo = u64::try_from(self.trees.writer().redo_list_blocks()).unwrap_or(u64::MAX) + 2;
        let needed = 2 * pages + redo + u64::from(NEIGHBOURS);
        let room = self.trees.writer().pooled_blocks().saturating_sub(needed);
        u32::try_from(room).unwrap_or(u32::MAX)
    }
}
