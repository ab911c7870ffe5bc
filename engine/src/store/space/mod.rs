//! Which positions may be written: free at the last commit and not held for a pinned snapshot, or new at the end of the
//! file.

pub(super) mod pins;
pub(super) mod run_set;

use pins::Pins;
use run_set::RunSet;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{BLOCKS_MAX, Position, RESERVED_BLOCKS, Run};

/// Blocks kept in reserve at the end of the file, so that deleting and committing still work when the file system is
/// full.
pub const RESERVE_BLOCKS: u32 = 64;

/// Smallest and largest step by which the file grows, in blocks: 1 MiB and 64 MiB.
const GROWTH_STEP: std::ops::RangeInclusive<u32> = 256..=16_384;

/// Whether an allocation may use the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Data: leaves the reserve alone.
    Ordinary,
    /// Registry pages and redo lists, which a deletion needs too.
    Reserve,
}

/// The space of the open transaction.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Blocks of the file that are in use or known to be free.
    count: u32,
    /// Length of the file in blocks.
    device_blocks: u32,
    /// Free at the last commit, and not held for a pinned snapshot: may be written.
    pool: RunSet,
    /// Free at the last commit, but held for a pinned snapshot.
    held: RunSet,
    /// In use at the last commit, freed since: must not be written before the next.
    freed: RunSet,
    /// Everything freed in this transaction, also what was recorded already.
    log: RunSet,
    /// Allocated since the last commit.
    fresh: RunSet,
}

impl Space {
    /// Space at the beginning of a transaction: `count` blocks, of which `inline_free` are free.
    pub(super) fn begin(
        &mut self,
        count: u32,
        device_blocks: u32,
        inline_free: &[Run],
        pins: &mut Pins,
    ) {
        *self = Space { count, device_blocks, ..Space::default() };
        for &run in inline_free {
            self.release(run, pins);
        }
    }

    /// Blocks of the file that are in use or known to be free.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Free blocks at hand, without growing the file.
    pub(super) fn pooled(&self) -> u64 {
        self.pool.blocks()
    }

    /// Adds free blocks that were recorded elsewhere. What a pinned snapshot may read is held.
    pub(super) fn release(&mut self, run: Run, pins: &mut Pins) {
        if crate::fault!(ForgetReaders) {
            self.pool.insert(run);
            return;
        }
        let (held, usable) = pins.held().partition(run);
        self.held.extend(held);
        self.pool.extend(usable);
    }

    /// A run of at most `most` blocks: from the pool, else new at the end of the file.
    pub(super) fn allocate(
        &mut self,
        device: &dyn Device,
        most: u32,
        urgency: Urgency,
    ) -> Result<Run> {
        let run = match self.pool.take_run(most) {
            Some(run) => run,
            None => self.extend(device, most, urgency)?,
        };
        self.fresh.insert(run);
        Ok(run)
    }

    /// Whether `position` was allocated since the last commit, so that no crash needs what it holds.
    pub(super) fn is_fresh(&self, position: Position) -> bool {
        self.fresh.contains(position)
    }

    /// Gives up a run. It is usable after the next commit: until then a crash needs what it holds, or,
    /// if it is fresh, it was sealed in this step already.
    pub(super) fn free(&mut self, run: Run) {
        self.fresh.remove(run);
        if crate::fault!(ReuseFreedBlocks) {
            self.pool.insert(run);
            return;
        }
        self.freed.insert(run);
        self.log.insert(run);
    }

    /// Takes back an allocation that nothing was sealed to: it may be allocated again at once.
    pub(super) fn cancel(&mut self, run: Run) {
        self.fresh.remove(run);
        self.pool.insert(run);
    }

    /// Whether a run of free blocks can be believed: within the archive, and not known otherwise already.
    pub(super) fn is_believable(&self, run: Run) -> bool {
        let known = [&self.fresh, &self.freed, &self.pool, &self.held];
        run.start().get() >= RESERVED_BLOCKS
            && run.end() <= self.count
            && !known.into_iter().any(|set| set.intersects(run))
    }

    /// The part of a run of free blocks that may be written now: not what is held for a pinned snapshot.
    pub(super) fn usable(run: Run, pins: &mut Pins) -> RunSet {
        let (_, usable) = pins.held().partition(run);
        usable.into_iter().collect()
    }

    /// What lies behind the last block of the archive in the file.
    pub(super) fn tail(&self) -> Option<Run> {
        let start = Position::new(self.count)?;
        Run::new(start, self.device_blocks.min(BLOCKS_MAX).saturating_sub(self.count))
    }

    /// Everything freed in this transaction.
    pub(super) fn take_log(&mut self) -> RunSet {
        std::mem::take(&mut self.log)
    }

    /// Free runs that may be written now. Nothing is left to allocate but the end of the file.
    pub(super) fn drain_pool(&mut self) -> RunSet {
        std::mem::take(&mut self.pool)
    }

    /// Free runs that may not be written before the next commit, or while a snapshot pins them.
    pub(super) fn drain_freed(&mut self) -> RunSet {
        let mut all = std::mem::take(&mut self.held);
        all.extend(std::mem::take(&mut self.freed).iter());
        all
    }

    /// Whether anything was allocated or freed since the last commit.
    pub(super) fn is_touched(&self) -> bool {
        !self.fresh.is_empty() || !self.log.is_empty()
    }

    /// Gives up the run at the end of the file, which is free; the file is cut when it is closed.
    pub(super) fn lower_count(&mut self, run: Run) {
        assert_eq!(run.end(), self.count, "only the end of the file can be given up");
        self.count = run.start().get();
    }

    /// New blocks at the end. Grows the file ahead by a step, so that growing is rare.
    fn extend(&mut self, device: &dyn Device, most: u32, urgency: Urgency) -> Result<Run> {
        let full = Error::Full { what: "number of blocks", limit: u64::from(BLOCKS_MAX) };
        let start = Position::new(self.count).ok_or_else(|| full.clone())?;
        // The last positions of the format are a reserve too: an archive that is full can still delete.
        let limit = match urgency {
            Urgency::Ordinary => BLOCKS_MAX - RESERVE_BLOCKS,
            Urgency::Reserve => BLOCKS_MAX,
        };
        let most = most.min(limit.saturating_sub(self.count));
        let run = Run::new(start, most).ok_or(full)?;
        let wanted = run.end().saturating_add(RESERVE_BLOCKS).min(BLOCKS_MAX);
        if self.device_blocks < wanted {
            match self.grow(device, wanted) {
                Ok(()) => {}
                // The reserve is there to be used now.
                Err(Error::NoSpace { .. })
                    if urgency == Urgency::Reserve && run.end() <= self.device_blocks => {}
                Err(Error::NoSpace { .. }) if most > 1 => {
                    // What fits may be enough: the caller asks again for the rest.
                    return self.extend(device, most / 2, urgency);
                }
                Err(error) => return Err(error),
            }
        }
        self.count = run.end();
        Ok(run)
    }

    fn grow(&mut self, device: &dyn Device, wanted: u32) -> Result<()> {
        let step = (wanted / 8).clamp(*GROWTH_STEP.start(), *GROWTH_STEP.end());
        let ahead = wanted.saturating_add(step).min(BLOCKS_MAX);
        let grown = match device.grow(ahead) {
            Ok(()) => ahead,
            Err(Error::NoSpace { .. }) => {
                device.grow(wanted)?;
                wanted
            }
            Err(error) => return Err(error),
        };
        self.device_blocks = grown;
        Ok(())
    }
}
