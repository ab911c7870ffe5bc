//! The trash: free runs, kept in a tree of their own.
//!
//! Recording free blocks takes pages, which take blocks, and gives up pages, which frees blocks. The commit
//! goes round until nothing moves any more: what is still over then fits into the loose runs
//! of the meta slot.

use ar7_engine::format::{BlockIndex, LOOSE_RUNS_MAX, Position, RESERVED_BLOCKS, Run};
use ar7_engine::store::RESERVE_BLOCKS;
use uuid::Uuid;

use super::Registry;
use crate::error::Result;
use crate::records::{Dying, ExtentKey, Extents, Free, ReadRecords};
use crate::tree::TreeId;

/// Runs taken out of the trash at a time at most.
const REFILL_RUNS: usize = 1024;

/// Runs that the commit keeps for the trash's own pages; as many loose runs are left for the rest.
const KEPT_RUNS: usize = LOOSE_RUNS_MAX / 2;

/// Fewer free blocks are not worth moving pages for: the file is kept longer by as much anyway.
const CLEARED_BLOCKS_MIN: u32 = 2 * RESERVE_BLOCKS;

/// Pages that closing moves at most.
const MOVED_PAGES_MAX: usize = 1024;

/// Extents of dying streams that one commit frees at most, so that it stays within the reserve.
const DYING_EXTENTS_PER_COMMIT: usize = 128;

/// Takes runs out of the trash until `wanted` blocks are at hand or enough runs were taken.
pub(super) fn refill(registry: &mut Registry, wanted: u64) -> Result<()> {
    let mut from = Position::at(0);
    for _ in 0..REFILL_RUNS {
        if registry.writer().pooled_blocks() >= wanted {
            return Ok(());
        }
        let Some((_, run)) = registry.ceiling::<Free>(&from)? else { return Ok(()) };
        take(registry, run)?;
        registry.writer().donate(run)?;
        match Position::new(run.end()) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Records every free run and seals the trash. Returns the runs that no page records.
pub(super) fn record(registry: &mut Registry) -> Result<Vec<Run>> {
    let mut pool = registry.writer().drain_pool();
    // A few runs are kept out: the trash's own pages are allocated from them. Only what may be written in
    // this transaction will do, never what it freed.
    for _ in 0..KEPT_RUNS {
        let Some(kept) = pool.iter().max_by_key(|run| run.count()) else { break };
        pool.remove(kept);
        registry.writer().donate(kept)?;
    }
    let mut runs = registry.writer().drain_freed();
    runs.extend(pool.iter());
    // A page that is dirty already gives up nothing more, and there are finitely many pages, so this ends.
    while runs.len() > LOOSE_RUNS_MAX - KEPT_RUNS {
        for run in runs.iter() {
            insert(registry, run)?;
        }
        runs = registry.writer().drain_freed();
    }
    registry.trees.get_mut(TreeId::Free).flush(&mut registry.space)?;
    registry.space.seal_pending()?;
    runs.extend(registry.writer().drain_pool().iter());
    runs.extend(registry.writer().drain_freed().iter());
    assert!(runs.len() <= LOOSE_RUNS_MAX, "the fixed point leaves no more than fit the slot");
    Ok(runs.iter().collect())
}

/// Puts a run into the trash, joined with its neighbours there.
///
/// The specification's name is `recycle`.
fn insert(registry: &mut Registry, run: Run) -> Result<()> {
    let (mut start, mut end) = (run.start(), run.end());
    if let Some(before) = start.get().checked_sub(1).map(Position::at)
        && let Some((found, left)) = registry.floor::<Free>(&before)?
        && left.end() == start.get()
    {
        take(registry, left)?;
        start = found;
    }
    if let Some(after) = Position::new(end)
        && let Some(right) = registry.get::<Free>(&after)?
    {
        take(registry, right)?;
        end = right.end();
    }
    let joined = Run::new(start, end - start.get()).expect("joined runs are a run");
    registry.trash_blocks += u64::from(joined.count());
    registry.put_kept::<Free>(&start, &joined)?;
    Ok(())
}

/// Takes a whole run out of the trash.
fn take(registry: &mut Registry, run: Run) -> Result<()> {
    registry.remove_kept::<Free>(&run.start())?;
    registry.trash_blocks = registry.trash_blocks.saturating_sub(u64::from(run.count()));
    Ok(())
}

/// Gives up blocks at the end of the file that were free at the last commit, so that closing can cut it. Comes
/// first in a transaction: what it gives up is allocated again from the end if need be.
pub(super) fn trim_end(registry: &mut Registry) -> Result<bool> {
    let before = registry.writer().block_count();
    let mut pool = registry.writer().drain_pool();
    loop {
        let end = registry.writer().block_count();
        if let Some(run) = pool.take_ending_at(end) {
            registry.writer().lower_count(run);
            continue;
        }
        match registry.floor::<Free>(&Position::at(end - 1))? {
            Some((_, run)) if run.end() == end => {
                take(registry, run)?;
                registry.writer().lower_count(run);
            }
            _ => break,
        }
    }
    for run in pool.iter() {
        registry.writer().donate(run)?;
    }
    Ok(registry.writer().block_count() < before)
}

/// Moves registry pages from the end of the file to free blocks before it, if closing can then cut off a good
/// part of the file. Returns whether it moved any; the commit makes the end free.
pub(super) fn clear_end(registry: &mut Registry) -> Result<bool> {
    let end = registry.writer().block_count();
    let pooled = registry.writer().pooled_blocks();
    let free = registry.trash_blocks.saturating_add(pooled);
    if free < u64::from(CLEARED_BLOCKS_MIN.max(end / 8)) {
        return Ok(false);
    }
    // As short as the file could be.
    let shortest = end.saturating_sub(u32::try_from(free).unwrap_or(u32::MAX));
    let limit = Position::at(shortest.max(RESERVED_BLOCKS));
    let mut left = MOVED_PAGES_MAX;
    for tree in TreeId::ALL {
        let moved = registry.trees.get_mut(tree).relocate(&mut registry.space, limit, left)?;
        left = left.saturating_sub(moved);
    }
    Ok(left < MOVED_PAGES_MAX)
}

/// Frees some blocks of dying streams. Returns whether any are left.
pub(super) fn reap(registry: &mut Registry) -> Result<bool> {
    for _ in 0..DYING_EXTENTS_PER_COMMIT {
        let Some((stream, _)) = registry.ceiling::<Dying>(&Uuid::nil())? else {
            return Ok(false);
        };
        free_extent(registry, stream)?;
    }
    Ok(registry.entries(TreeId::Dying) > 0)
}

/// Frees every block of a dying stream: its extents must be gone before a new stream of that identity has any.
pub(super) fn bury(registry: &mut Registry, stream: Uuid) -> Result<()> {
    while registry.get::<Dying>(&stream)?.is_some() {
        free_extent(registry, stream)?;
    }
    Ok(())
}

/// Frees the first extent of a dying stream, or forgets the stream if it has none.
fn free_extent(registry: &mut Registry, stream: Uuid) -> Result<()> {
    let from = ExtentKey { stream, first: BlockIndex(0) };
    match registry.ceiling::<Extents>(&from)? {
        Some((key, extent)) if key.stream == stream => {
            registry.remove::<Extents>(&key)?;
            registry.free(extent.run)?;
        }
        _ => {
            registry.remove::<Dying>(&stream)?;
        }
    }
    Ok(())
}
