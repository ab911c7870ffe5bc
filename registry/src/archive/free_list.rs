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
use crate::records::{ExtentKey, Extents, Free, PendingDeletions, ReadRecords, TreeId};

/// Free runs that the commit leaves to the meta slot, at most; as many are left for what is freed last.
const KEPT_RUNS: usize = LOOSE_RUNS_MAX / 2;

/// Free blocks that the commit keeps for pages of the trash that it does not foresee: splits.
const SPARE_BLOCKS: u64 = 8;

/// A page of the trash that is not the last holds at least so many runs.
const RUNS_PER_PAGE_MIN: u64 = 100;

/// Fewer free blocks are not worth moving pages for: the file is kept longer by as much anyway.
const CLEARED_BLOCKS_MIN: u32 = 2 * RESERVE_BLOCKS;

/// Pages that closing moves at most.
const MOVED_PAGES_MAX: usize = 1024;

/// Extents of dying streams that one commit frees at most, so that it stays within the reserve.
const DYING_EXTENTS_PER_COMMIT: usize = 128;

/// Takes runs out of the trash until `wanted` blocks are at hand or there are no more.
pub(super) fn refill(registry: &mut Registry, wanted: u64) -> Result<()> {
    let mut from = Position::at(0);
    while registry.writer().pooled_blocks() < wanted {
        let Some((_, run)) = registry.ceiling::<Free>(&from)? else { return Ok(()) };
        take(registry, run)?;
        registry.writer().release(run)?;
        match Position::new(run.end()) {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Records every free run and seals the trash. Returns the runs that no page records.
///
/// The trash's own pages are sealed to blocks that were free at the last commit, so these are kept out of it: as many
/// as it has pages to seal, and some. On a full disk there are no others, and in an old archive
/// each may be a run by itself.
pub(super) fn record(registry: &mut Registry) -> Result<Vec<Run>> {
    let mut freed = registry.writer().drain_freed();
    // Before anything freed is recorded: it must not be taken out again in this transaction.
    let touched = count(freed.len()).min(registry.entries(TreeId::Free) / RUNS_PER_PAGE_MIN + 2);
    let wanted = pages_to_seal(registry) + touched + 2 * SPARE_BLOCKS;
    refill(registry, wanted)?;
    let mut kept: Vec<Run> = registry.writer().drain_pool().iter().collect();
    kept.sort_unstable_by_key(|run| std::cmp::Reverse(run.count()));
    let mut kept_blocks: u64 = kept.iter().map(|run| u64::from(run.count())).sum();
    loop {
        freed.extend(registry.writer().drain_freed().iter());
        // A page that is dirty already gives up nothing more, and there are finitely many pages, so this ends.
        while freed.len() > LOOSE_RUNS_MAX - KEPT_RUNS {
            for run in freed.iter() {
                insert(registry, run)?;
            }
            freed = registry.writer().drain_freed();
        }
        // Few runs may stay out of the trash, however long; of many, as much as is used up, and a block for each
        // that the slot has room for.
        let needed = pages_to_seal(registry) + SPARE_BLOCKS;
        if kept.len() <= KEPT_RUNS || kept_blocks <= needed {
            break;
        }
        let Some(smallest) = kept.pop() else { break };
        let surplus = u32::try_from(kept_blocks - needed).unwrap_or(u32::MAX);
        let (given_back, rest) = smallest.split(surplus);
        kept.extend(rest);
        if let Some(run) = given_back {
            insert(registry, run)?;
            kept_blocks -= u64::from(run.count());
        }
    }
    for run in kept {
        registry.writer().release(run)?;
    }
    registry.trees.get_mut(TreeId::Free).flush(&mut registry.space)?;
    registry.space.seal_pending()?;
    freed.extend(registry.writer().drain_pool().iter());
    freed.extend(registry.writer().drain_freed().iter());
    assert!(freed.len() <= LOOSE_RUNS_MAX, "the fixed point leaves no more than fit the slot");
    Ok(freed.iter().collect())
}

/// Pages of the trash that the commit will seal.
fn pages_to_seal(registry: &Registry) -> u64 {
    count(registry.trees.get(TreeId::Free).dirty_pages())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
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
    registry.free_list_blocks += u64::from(joined.count());
    registry.put_kept::<Free>(&start, &joined)?;
    Ok(())
}

/// Takes a whole run out of the trash.
fn take(registry: &mut Registry, run: Run) -> Result<()> {
    registry.remove_kept::<Free>(&run.start())?;
    registry.free_list_blocks = registry.free_list_blocks.saturating_sub(u64::from(run.count()));
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
        registry.writer().release(run)?;
    }
    Ok(registry.writer().block_count() < before)
}

/// Moves registry pages from the end of the file to free blocks before it, if closing can then cut off a good
/// part of the file. Returns whether it moved any; the commit makes the end free.
pub(super) fn clear_end(registry: &mut Registry) -> Result<bool> {
    let end = registry.writer().block_count();
    let pooled = registry.writer().pooled_blocks();
    let free = registry.free_list_blocks.saturating_add(pooled);
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
pub(super) fn purge(registry: &mut Registry) -> Result<bool> {
    for _ in 0..DYING_EXTENTS_PER_COMMIT {
        let Some((stream, _)) = registry.ceiling::<PendingDeletions>(&Uuid::nil())? else {
            return Ok(false);
        };
        free_extent(registry, stream)?;
    }
    Ok(registry.entries(TreeId::PendingDeletions) > 0)
}

/// Frees every block of a dying stream: its extents must be gone before a new stream of that identity has any.
pub(super) fn purge_stream(registry: &mut Registry, stream: Uuid) -> Result<()> {
    while registry.get::<PendingDeletions>(&stream)?.is_some() {
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
            registry.remove::<PendingDeletions>(&stream)?;
        }
    }
    Ok(())
}
