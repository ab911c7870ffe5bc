//! The positions that the open transaction may write: those free at the last commit and not held for a pinned
//! snapshot, and new ones at the end of the file.

pub(super) mod pins;
pub(super) mod run_set;
mod savepoint;
mod since;

use std::io;
use std::sync::Arc;

use pins::Pins;
use run_set::RunSet;
use since::Since;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{
    BLOCKS_MAX, FAR_BLOCKS, MetaSlot, Position, RESERVED_BLOCKS, Run, THIRD_COPIES, has_reserved,
};

/// Least number of blocks kept in reserve, so that deletions succeed on a full disk.
pub const RESERVE_BLOCKS: u32 = 32;

/// Reserve blocks of an archive in which no block is in use. There is nothing to delete.
const EMPTY_RESERVE_BLOCKS: u32 = 8;

/// Number of blocks from which on the copies of a block lie far apart, even if the archive becomes longer: 2 MiB.
pub const FAR_FROM_BLOCKS: u32 = 512;

/// Smallest and largest step of the file's growth, in blocks: 1 MiB and 64 MiB.
const GROWTH_STEP: std::ops::RangeInclusive<u32> = 256..=16_384;

/// Whether an allocation may use the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// For data. It may not use the reserve.
    Ordinary,
    /// For registry pages and redo lists, which a deletion needs too. It may use the reserve. The layer above
    /// checks, before a commit, what the transaction leaves of it.
    Reserve,
}

/// Returns the number of blocks that a commit keeps in reserve.
pub(super) fn reserve_of(slot: &MetaSlot) -> u32 {
    if slot.block_count <= RESERVED_BLOCKS {
        return EMPTY_RESERVE_BLOCKS;
    }
    reserve_for(slot.roots.iter().map(|root| u32::from(root.depth)).sum())
}

/// Returns the number of blocks to keep in reserve with trees whose depths have this sum. A deletion rewrites both copies of
/// a page of each level of each tree, and some of their neighbours.
pub fn reserve_for(depths: u32) -> u32 {
    depths.saturating_add(8).saturating_mul(2).max(RESERVE_BLOCKS)
}

/// Returns the end of `reserve` blocks that can be allocated after the first `count` blocks.
pub(super) fn end_with_reserve(count: u32, reserve: u32) -> u32 {
    let end = count.saturating_add(reserve);
    let is_across = count <= THIRD_COPIES.start && end > THIRD_COPIES.start;
    let reserved = if is_across { THIRD_COPIES.end - THIRD_COPIES.start } else { 0 };
    end.saturating_add(reserved).min(BLOCKS_MAX)
}

/// Returns the longest run of new blocks below `limit`, at most `most` of them, from `start` on or after the third
/// copies.
fn new_run(start: u32, most: u32, limit: u32) -> Option<Run> {
    let start = if THIRD_COPIES.contains(&start) && !crate::fault!(AllocateThirdCopies) {
        THIRD_COPIES.end
    } else {
        start
    };
    let before_them = match THIRD_COPIES.start.checked_sub(start) {
        Some(blocks) if blocks > 0 && !crate::fault!(AllocateThirdCopies) => blocks,
        _ => u32::MAX,
    };
    Run::new(Position::new(start)?, most.min(before_them).min(limit.saturating_sub(start)))
}

fn too_many_blocks() -> Error {
    Error::Full { what: "number of blocks", limit: u64::from(BLOCKS_MAX) }
}

fn run_of(range: std::ops::Range<u32>) -> Option<Run> {
    Run::new(Position::new(range.start)?, range.end.checked_sub(range.start)?)
}

/// The space of the open transaction.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Number of blocks in use or free: the block count of the next commit.
    count: u32,
    /// Length of the file in blocks.
    device_blocks: u32,
    /// Number of blocks that the file keeps in reserve when it grows.
    reserve: u32,
    /// What [`Space::known_free`] was when the transaction began, and what the file has grown since.
    free_at_begin: u64,
    /// Blocks are allocated below it if there is room, because the file is to end there. It stays from one transaction
    /// to the next.
    ceiling: Option<u32>,
    /// Whether a page or list found no room below the ceiling.
    is_exceeded: bool,
    /// New blocks lie at this position or later: the blocks before it may belong to a pinned snapshot.
    end_of_held: u32,
    /// Free at the last commit and not held for a pinned snapshot, so it may be written.
    pool: RunSet,
    /// The same, but at or above the ceiling.
    above: RunSet,
    /// Free at the last commit, but held for a pinned snapshot.
    held: RunSet,
    /// In use at the last commit and freed since, so it must not be written before the next commit.
    freed: RunSet,
    /// Everything that this transaction freed, including runs that are recorded already.
    log: RunSet,
    /// Allocated since the last commit.
    fresh: RunSet,
    /// For each savepoint, what followed it.
    since: Vec<Since>,
    /// Of the freed runs, those that were sealed in this transaction and that no savepoint names. Once the step is
    /// raised, they can be allocated again.
    spent: RunSet,
}

impl Space {
    /// Starts a transaction with `count` blocks, of which `inline_free` are free.
    pub(super) fn begin(
        &mut self,
        count: u32,
        device_blocks: u32,
        reserve: u32,
        inline_free: &[Run],
        pins: &mut Pins,
    ) {
        let end_of_held = pins.end_of_held().unwrap_or(0);
        let reserve = reserve.max(RESERVE_BLOCKS);
        let Space { ceiling, is_exceeded, .. } = *self;
        *self = Space { count, device_blocks, reserve, ceiling, is_exceeded, ..Space::default() };
        self.end_of_held = end_of_held;
        for &run in inline_free {
            self.release(run, pins);
        }
        self.free_at_begin = self.known_free();
    }

    /// Returns the number of blocks that the file keeps in reserve when it grows.
    pub(super) fn reserve(&self) -> u32 {
        self.reserve
    }

    /// Returns the number of blocks that can be allocated without growing the file.
    pub(super) fn usable_blocks(&self) -> u64 {
        let behind = self.blocks_from(self.count.max(self.end_of_held));
        self.pool.blocks().saturating_add(self.above.blocks()).saturating_add(behind)
    }

    /// Returns the number of runs that the transaction has freed.
    pub(super) fn freed_runs(&self) -> usize {
        self.freed.len()
    }

    /// Returns the number of blocks that the next commit leaves free, without those that only the free list names. Those
    /// behind the archive are among them, and those that snapshots hold.
    pub(super) fn known_free(&self) -> u64 {
        let sets = [&self.pool, &self.above, &self.held, &self.freed];
        let free = sets.into_iter().map(RunSet::blocks);
        free.fold(self.blocks_from(self.count), u64::saturating_add)
    }

    /// Returns the same number as of the last commit, with what the file has grown since.
    pub(super) fn free_at_begin(&self) -> u64 {
        self.free_at_begin
    }

    /// Returns the number of blocks of the file from `start` on, except for the third copies.
    fn blocks_from(&self, start: u32) -> u64 {
        let end = self.device_blocks.min(BLOCKS_MAX);
        let third = THIRD_COPIES.start.max(start)..THIRD_COPIES.end.min(end);
        let blocks = end.saturating_sub(start);
        blocks.saturating_sub(third.end.saturating_sub(third.start)).into()
    }

    /// Allocates below `ceiling` from now on, as long as there is room. Data never lies above it. `None` lifts it.
    pub(super) fn set_ceiling(&mut self, ceiling: Option<Position>) {
        (self.ceiling, self.is_exceeded) = (ceiling.map(Position::get), false);
        let above = std::mem::take(&mut self.above);
        for run in std::mem::take(&mut self.pool).iter().chain(above.iter()) {
            self.pool_run(run);
        }
    }

    /// Adds a free run to the pool, except for the part at or above the ceiling.
    fn pool_run(&mut self, run: Run) {
        let below = self.ceiling.unwrap_or(u32::MAX).saturating_sub(run.start().get());
        let (below, above) = run.split(below);
        self.pool.extend(below);
        self.above.extend(above);
    }

    /// Returns the ceiling.
    pub(super) fn ceiling(&self) -> Option<u32> {
        self.ceiling
    }

    /// Returns whether a page or list found no room below the ceiling since the last call.
    pub(super) fn take_exceeded(&mut self) -> bool {
        std::mem::take(&mut self.is_exceeded)
    }

    /// Records that the file was cut.
    pub(super) fn was_cut(&mut self, device_blocks: u32) {
        let cut = self.device_blocks.saturating_sub(device_blocks);
        self.device_blocks -= cut;
        self.free_at_begin = self.free_at_begin.saturating_sub(cut.into());
    }

    /// Returns the number of blocks in use or free.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of blocks in the pool.
    pub(super) fn pooled(&self) -> u64 {
        self.pool.blocks()
    }

    /// Returns whether a position is free and may be written.
    pub(super) fn is_usable(&self, position: Position) -> bool {
        self.pool.contains(position) || self.above.contains(position)
    }

    /// Takes the free run that ends at `end`, if there is one that may be written.
    pub(super) fn take_ending_at(&mut self, end: u32) -> Option<Run> {
        self.above.take_ending_at(end).or_else(|| self.pool.take_ending_at(end))
    }

    /// Adds a run that is recorded as free. Blocks that a pinned snapshot may read are held.
    pub(super) fn release(&mut self, run: Run, pins: &mut Pins) {
        if let Some(since) = self.since.last_mut() {
            since.release(run);
        }
        if crate::fault!(ForgetReaders) {
            self.pool.insert(run);
            return;
        }
        let (held, usable) = pins.divide(run);
        self.held.extend(held);
        for run in usable {
            self.pool_run(run);
        }
    }

    /// Allocates a run of at most `most` blocks: from the pool, or else at the end of the file.
    pub(super) fn allocate(
        &mut self,
        device: &dyn Device,
        most: u32,
        urgency: Urgency,
    ) -> Result<Run> {
        let pooled = self.pool.take_run(most);
        self.pooled_or_new(pooled, device, most, urgency)
    }

    /// Allocates a run of at most `most` blocks for first copies: from the front of the pool, or else at the end of the
    /// file.
    pub(super) fn allocate_first(
        &mut self,
        device: &dyn Device,
        most: u32,
        urgency: Urgency,
    ) -> Result<Run> {
        let pooled = self.pool.take_first(most);
        self.pooled_or_new(pooled, device, most, urgency)
    }

    /// Allocates a run of at most `most` blocks for second copies: from the end of the pool, or else at the end of the
    /// file.
    pub(super) fn allocate_second(
        &mut self,
        device: &dyn Device,
        most: u32,
        urgency: Urgency,
    ) -> Result<Run> {
        if crate::fault!(CopiesTogether) {
            return self.allocate_first(device, most, urgency);
        }
        let pooled = self.pool.take_last(most);
        self.pooled_or_new(pooled, device, most, urgency)
    }

    /// Returns the end of the blocks in which second copies are placed if there is room.
    pub(super) fn copies_end(&self) -> u32 {
        self.ceiling.unwrap_or(self.count)
    }

    /// Returns whether the pool has room for both copies of `count` blocks, far apart even if they are allocated in
    /// several parts.
    pub(super) fn has_far_room(&self, count: usize) -> bool {
        let backwards = self.pool.iter().rev().flat_map(|run| run.positions().rev());
        let mut seconds: Vec<Position> = backwards.take(count).collect();
        seconds.reverse();
        let firsts = self.pool.iter().flat_map(Run::positions);
        let distance = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(FAR_BLOCKS);
        let is_far = |(first, second): (Position, &Position)| {
            first.checked_add(distance).is_some_and(|far| far <= *second)
        };
        seconds.len() == count && firsts.zip(&seconds).all(is_far)
    }

    /// Adds new blocks at the end of the file to the pool, so that it has room for both copies of `count` blocks, far
    /// apart. What lies between is free for data. A small archive stays small, and one that is to become shorter does
    /// not grow. Nor does one in which readers hold every free block: each commit would add as many again.
    pub(super) fn make_far_room(&mut self, device: &dyn Device, count: usize) -> Result<()> {
        let blocks = u32::try_from(count).unwrap_or(u32::MAX);
        // Free blocks in front may be far enough from the new ones already.
        for more in [blocks, blocks.saturating_add(FAR_BLOCKS)] {
            let stays =
                self.count <= FAR_FROM_BLOCKS || self.ceiling.is_some() || self.end_of_held > 0;
            if stays || self.has_far_room(count) {
                break;
            }
            match self.extend(device, more, Urgency::Ordinary) {
                Ok(run) => self.pool.insert(run),
                // Then they lie wherever there is room.
                Err(Error::NoSpace { .. } | Error::Full { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fails if there is no room to allocate `count` blocks of data. Adds new blocks at the end of the file to the pool if
    /// it has fewer.
    pub(super) fn check_room(&mut self, device: &dyn Device, count: usize) -> Result<()> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        while self.pool.blocks() < count {
            let missing = u32::try_from(count - self.pool.blocks()).unwrap_or(u32::MAX);
            let new = self.pooled_or_new(None, device, missing, Urgency::Ordinary)?;
            self.cancel(new);
        }
        Ok(())
    }

    /// Fails unless `count` blocks can be allocated and `left` more are left. Lets the file grow, and changes nothing else.
    pub(super) fn check_usable(
        &mut self,
        device: &dyn Device,
        count: usize,
        left: u32,
    ) -> Result<()> {
        let needed = u64::try_from(count).unwrap_or(u64::MAX).saturating_add(left.into());
        if self.usable_blocks() >= needed {
            return Ok(());
        }
        let pooled = self.pool.blocks().saturating_add(self.above.blocks());
        let missing = u32::try_from(needed.saturating_sub(pooled)).unwrap_or(u32::MAX);
        let begin = self.count.max(self.end_of_held);
        let begin = if THIRD_COPIES.contains(&begin) { THIRD_COPIES.end } else { begin };
        if missing > BLOCKS_MAX.saturating_sub(begin) {
            return Err(too_many_blocks());
        }
        self.grow(device, end_with_reserve(begin, missing))
    }

    fn pooled_or_new(
        &mut self,
        pooled: Option<Run>,
        device: &dyn Device,
        most: u32,
        urgency: Urgency,
    ) -> Result<Run> {
        let run = match pooled {
            Some(run) => run,
            None if self.ceiling.is_some() => self.above_ceiling(device, most, urgency)?,
            None => self.extend(device, most, urgency)?,
        };
        self.fresh.insert(run);
        if let Some(since) = self.since.last_mut() {
            since.allocate(run);
        }
        Ok(run)
    }

    /// Allocates at or above the ceiling, for pages and redo lists only: a commit must not fail because the room below
    /// was estimated too low.
    fn above_ceiling(&mut self, device: &dyn Device, most: u32, urgency: Urgency) -> Result<Run> {
        if urgency == Urgency::Ordinary {
            let source = Arc::new(io::Error::from(io::ErrorKind::StorageFull));
            return Err(Error::NoSpace { needed_blocks: most.into(), source });
        }
        self.is_exceeded = true;
        match self.above.take_first(most) {
            Some(run) => Ok(run),
            None => self.extend(device, most, urgency),
        }
    }

    /// Returns whether `position` was allocated since the last commit and the last savepoint, so that neither a crash
    /// nor a return to a savepoint needs its old content.
    pub(super) fn is_fresh(&self, position: Position) -> bool {
        match self.since.last() {
            Some(since) if !crate::fault!(OverwriteNamedBlocks) => since.has_allocated(position),
            _ => self.fresh.contains(position),
        }
    }

    /// Frees a run, which can be allocated after the next commit. Until then a crash may need its content, or, if the
    /// run is fresh, it was already sealed in this step.
    pub(super) fn free(&mut self, run: Run) {
        if let Some(since) = self.since.last_mut() {
            self.spent.extend(since.free(run, &self.fresh));
        }
        self.fresh.remove(run);
        if crate::fault!(ReuseFreedBlocks) {
            self.pool.insert(run);
            return;
        }
        self.freed.insert(run);
        self.log.insert(run);
    }

    /// Takes back an allocation to which nothing was sealed: it can be allocated again at once.
    pub(super) fn cancel(&mut self, run: Run) {
        if let Some(since) = self.since.last_mut() {
            since.cancel(run);
        }
        self.cancel_unnoted(run);
    }

    fn cancel_unnoted(&mut self, run: Run) {
        self.fresh.remove(run);
        self.pool.insert(run);
    }

    /// Returns whether a run may be free: it lies within the archive, and the transaction does not know it already.
    pub(super) fn may_be_free(&self, run: Run) -> bool {
        let known = [&self.fresh, &self.freed, &self.pool, &self.above, &self.held];
        !has_reserved(run)
            && run.end() <= self.count
            && !known.into_iter().any(|set| set.intersects(run))
    }

    /// Returns the part of a free run that may be written now: the part not held for a pinned snapshot.
    pub(super) fn usable(run: Run, pins: &mut Pins) -> RunSet {
        if crate::fault!(WipeHeldBlocks) {
            return std::iter::once(run).collect();
        }
        let (_, usable) = pins.divide(run);
        usable.into_iter().collect()
    }

    /// Returns the run of the file behind the last block of the archive. Its blocks may belong to a pinned snapshot.
    pub(super) fn tail(&self) -> Option<Run> {
        let start = Position::new(self.count)?;
        Run::new(start, self.device_blocks.min(BLOCKS_MAX).saturating_sub(start.get()))
    }

    /// Takes the runs that this transaction freed.
    pub(super) fn take_log(&mut self) -> RunSet {
        std::mem::take(&mut self.log)
    }

    /// Takes all runs of the pool. After this, only new blocks at the end of the file can be allocated.
    pub(super) fn drain_pool(&mut self) -> RunSet {
        std::mem::take(&mut self.pool)
    }

    /// Takes the free runs that may not be written before the next commit, or while a snapshot pins them, and those
    /// at or above the ceiling.
    pub(super) fn drain_freed(&mut self) -> RunSet {
        let mut all = std::mem::take(&mut self.held);
        all.extend(std::mem::take(&mut self.above).iter());
        all.extend(std::mem::take(&mut self.freed).iter());
        all
    }

    /// Returns the number of free blocks that are known to be held for pinned snapshots.
    pub(super) fn held_blocks(&self) -> u64 {
        self.held.blocks()
    }

    /// Returns whether anything was allocated or freed since the last commit.
    pub(super) fn is_touched(&self) -> bool {
        !self.fresh.is_empty() || !self.log.is_empty()
    }

    /// Lowers the block count by the free run at the end. Closing cuts the file.
    pub(super) fn lower_count(&mut self, run: Run) {
        assert_eq!(run.end(), self.count, "the run must end at the block count");
        // An archive never ends with the blocks of the third copies.
        self.count = match run.start().get() {
            start if start == THIRD_COPIES.end => THIRD_COPIES.start,
            start => start,
        };
    }

    /// Allocates new blocks at the end. It grows the file by more than needed, so that growing is rare.
    fn extend(&mut self, device: &dyn Device, most: u32, urgency: Urgency) -> Result<Run> {
        let end_of_held = if crate::fault!(AllocateInTheTail) { 0 } else { self.end_of_held };
        let end = self.count.max(end_of_held);
        // The last positions of the format are a reserve too, so that a full archive can still delete.
        let limit = match urgency {
            Urgency::Ordinary => BLOCKS_MAX - self.reserve,
            Urgency::Reserve => BLOCKS_MAX,
        };
        let run = new_run(end, most, limit).ok_or_else(too_many_blocks)?;
        let (start, most) = (run.start(), run.count());
        let wanted = end_with_reserve(run.end(), self.reserve);
        if self.device_blocks < wanted {
            match self.grow(device, wanted) {
                Ok(()) => {}
                // The allocation fits in the reserve, which exists for this case.
                Err(Error::NoSpace { .. })
                    if urgency == Urgency::Reserve && run.end() <= self.device_blocks => {}
                Err(Error::NoSpace { .. }) if most > 1 => {
                    // Fewer blocks may fit. The caller asks again for the rest.
                    return self.extend(device, most / 2, urgency);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(gap) = Run::new(Position::at(self.count), start.get() - self.count) {
            self.held.insert(gap);
            if let Some(reserved) = run_of(THIRD_COPIES) {
                self.held.remove(reserved);
            }
        }
        self.count = run.end();
        Ok(run)
    }

    fn grow(&mut self, device: &dyn Device, wanted: u32) -> Result<()> {
        // Next to a reader of an older commit, the next writer begins behind the end of the file: what grows ahead is
        // lost to it.
        let step = match self.end_of_held {
            0 => (wanted / 8).clamp(*GROWTH_STEP.start(), *GROWTH_STEP.end()),
            _ => 0,
        };
        let ahead = wanted.saturating_add(step).min(BLOCKS_MAX);
        let grown = match device.grow(ahead) {
            Ok(()) => ahead,
            Err(Error::NoSpace { .. }) => {
                device.grow(wanted)?;
                wanted
            }
            Err(error) => return Err(error),
        };
        self.free_at_begin += u64::from(grown.saturating_sub(self.device_blocks));
        self.device_blocks = grown;
        Ok(())
    }
}
