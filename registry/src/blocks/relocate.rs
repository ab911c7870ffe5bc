//! Moving blocks of a stream to free blocks below the ceiling.
//!
//! A block is sealed for its position and names its neighbours. So a move seals the moved blocks again in their new
//! positions, and the neighbours that stay in shadow blocks, with their new links. A block that does not open stays, and
//! so do its neighbours: nobody could change its links.

use std::collections::BTreeMap;
use std::ops::Range;

use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::format::{
    BlockHead, BlockIndex, DATA_SIZE, Data, Generation, Position, Run, StoredStream, runs_of,
};
use ar7_engine::store::{Redirects, Store, Urgency};
use ar7_engine::{Check, Error as EngineError, fault};
use zeroize::Zeroizing;

use super::layout::{Segment, assign, locate};
use super::read::{Expected, Neighbour, check_head};
use crate::error::{Error, Result};
use crate::working::WorkingTrees;

/// The result of moving blocks of a stream.
#[derive(Debug, Default)]
pub(crate) struct Relocated {
    /// Number of moved blocks.
    pub(crate) moved: u32,
    /// Number of free runs that the move created, at most.
    pub(crate) runs: usize,
    /// The blocks that do not open: index, position and reason.
    pub(crate) damaged: Vec<(u32, Option<Position>, Error)>,
}

/// Moves the blocks of `range`, as far as they and their neighbours open, to free blocks below the ceiling. The caller
/// stores the record.
///
/// Without room, or if readers hold too much, it changes nothing and returns `None`. After a failure the transaction can
/// only be rolled back.
pub(crate) fn relocate(
    trees: &mut WorkingTrees,
    stored: &mut StoredStream,
    range: Range<u32>,
) -> Result<Option<Relocated>> {
    let window = Window::read(trees, stored, &range)?;
    let indices: Vec<u32> = range.filter(|&index| window.is_movable(index)).collect();
    let mut relocated = Relocated { damaged: window.damaged, ..Relocated::default() };
    let window = Window { damaged: Vec::new(), ..window };
    if indices.is_empty() {
        return Ok(Some(relocated));
    }
    let old: Vec<Position> = indices.iter().filter_map(|&index| window.position(index)).collect();
    let Some(new) = unless_refused(allocate(trees, &old))? else { return Ok(None) };
    let moves: BTreeMap<u32, Position> = indices.iter().copied().zip(new).collect();
    let stays = window.changed_neighbours(trees, &moves);
    let Some(live) = unless_refused(seal_live(trees, &window, &moves, &stays))? else {
        let new: Vec<Position> = moves.values().copied().collect();
        trees.cancel(runs_of(&new).collect());
        return Ok(None);
    };
    // From here on, the neighbours name the new positions: a refusal is a failure.
    let fresh = seal_fresh(trees, &window, &moves, &stays)?;
    for segment in segments(&moves, fresh).into_iter().chain(segments(&stays.fresh, fresh)) {
        assign(trees, stored, segment)?;
    }
    for segment in segments(&stays.live, live) {
        assign(trees, stored, segment)?;
    }
    for run in runs_of(&old) {
        if fault!(ReuseMovedBlocks) {
            trees.cancel(vec![run]);
        } else {
            trees.free(run)?;
        }
        relocated.runs += 1;
    }
    relocated.runs += stays.live.len();
    relocated.moved = u32::try_from(moves.len()).unwrap_or(u32::MAX);
    Ok(Some(relocated))
}

/// Returns nothing if the error means that nothing was changed.
fn unless_refused<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(Error::Engine(
            EngineError::NoSpace { .. }
            | EngineError::Full { .. }
            | EngineError::HeldByReaders { .. },
        )) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Whether an error means that a block or page does not open, so that everything else can go on.
pub(crate) fn is_damage(error: &Error) -> bool {
    error.class() == ar7_engine::Class::Damaged
        || matches!(error, Error::Engine(error) if error.is_io())
}

/// Allocates a position for each block, in ascending order.
fn allocate(trees: &mut WorkingTrees, old: &[Position]) -> Result<Vec<Position>> {
    let mut new: Vec<Position> = Vec::with_capacity(old.len());
    while new.len() < old.len() {
        let missing = u32::try_from(old.len() - new.len()).unwrap_or(u32::MAX);
        match trees.allocate(missing, Urgency::Ordinary) {
            Ok(run) => new.extend(run.positions()),
            Err(error) => {
                trees.cancel(runs_of(&new).collect());
                return Err(error);
            }
        }
    }
    new.sort_unstable();
    // Someone with the key can list blocks in use as free.
    match old.iter().find(|&position| new.binary_search(position).is_ok()) {
        Some(&both) => {
            Err(EngineError::damaged(both, Check::FreeMap, "used or free", "both").into())
        }
        None => Ok(new),
    }
}

/// Seals the neighbours of the last commit, which stay, in shadow blocks. Returns their generation.
fn seal_live(
    trees: &mut WorkingTrees,
    window: &Window,
    moves: &BTreeMap<u32, Position>,
    stays: &Neighbours,
) -> Result<Generation> {
    if stays.live.is_empty() {
        return Ok(Generation::default());
    }
    let jobs: Vec<SealJob<'_>> = window.jobs(&stays.live, moves).collect();
    trees.make_room(jobs.len())?;
    Ok(trees.writer().write_over(&jobs, Urgency::Ordinary)?)
}

/// Seals the moved blocks, and the neighbours that were moved before. Returns their generation.
fn seal_fresh(
    trees: &mut WorkingTrees,
    window: &Window,
    moves: &BTreeMap<u32, Position>,
    stays: &Neighbours,
) -> Result<Generation> {
    let moved = window.jobs(moves, moves);
    let mut fresh: Vec<SealJob<'_>> = moved.chain(window.jobs(&stays.fresh, moves)).collect();
    fresh.sort_unstable_by_key(|job| job.position);
    if let Some(pair) = fresh.windows(2).find(|pair| pair[0].position == pair[1].position) {
        // Someone with the key listed a block in use as free.
        let position = pair[0].position;
        return Err(EngineError::damaged(position, Check::FreeMap, "used or free", "both").into());
    }
    Ok(trees.writer().write_fresh(KeyKind::Data, &fresh)?)
}

/// Returns the blocks as segments.
fn segments(places: &BTreeMap<u32, Position>, generation: Generation) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (&index, &position) in places {
        let single = Segment { first: BlockIndex(index), run: Run::single(position), generation };
        match segments.last().and_then(|last| last.joined(&single)) {
            Some(joined) => {
                segments.pop();
                segments.push(joined);
            }
            None => segments.push(single),
        }
    }
    segments
}

/// Blocks that stay next to moved ones and get new links, with their positions.
#[derive(Debug, Default)]
struct Neighbours {
    /// Blocks of the last commit.
    live: BTreeMap<u32, Position>,
    /// Blocks that this transaction moved before.
    fresh: BTreeMap<u32, Position>,
}

/// Blocks to move, their neighbours, and the positions of the neighbours of these.
struct Window {
    stored: StoredStream,
    /// Index of the first block of `positions`.
    from: u32,
    positions: Vec<Option<Position>>,
    /// Index of the first block of `data`.
    first: u32,
    data: Zeroizing<Vec<u8>>,
    /// Whether each block of `data` opens.
    opens: Vec<bool>,
    damaged: Vec<(u32, Option<Position>, Error)>,
}

impl Window {
    fn read(trees: &WorkingTrees, stored: &StoredStream, range: &Range<u32>) -> Result<Window> {
        let count = stored.record.count;
        let (first, end) = (range.start.saturating_sub(1), count.min(range.end.saturating_add(1)));
        let from = first.saturating_sub(1);
        let blocks = usize::try_from(end - first).unwrap_or(usize::MAX);
        let mut window = Window {
            stored: stored.clone(),
            from,
            positions: Vec::new(),
            first,
            data: Zeroizing::new(vec![0; blocks * DATA_SIZE]),
            opens: vec![false; blocks],
            damaged: Vec::new(),
        };
        // A failure of an in-flight write is not damage of what is read next.
        let store = trees.flushed_store()?;
        let segments = window.locate(trees, count.min(end.saturating_add(1)))?;
        for segment in segments {
            let part = segment.from(first.max(segment.first.get()));
            if let Some(part) = part.and_then(|part| part.before(end)) {
                window.open((store, trees.redirects()), &segment, part)?;
            }
        }
        Ok(window)
    }

    /// Finds the positions of the blocks up to `end`. Returns their segments.
    fn locate(&mut self, trees: &WorkingTrees, end: u32) -> Result<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut index = self.from;
        while index < end {
            match locate(trees, &self.stored, index) {
                Ok(segment) => {
                    let upto = segment.end().min(end);
                    self.positions.extend((index..upto).map(|at| Some(segment.position(at))));
                    index = upto;
                    segments.push(segment);
                }
                Err(error) if is_damage(&error) => {
                    self.damaged.push((index, None, error));
                    self.positions.push(None);
                    index += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(segments)
    }

    /// Opens a part of a segment, and checks everything that its blocks say.
    fn open(&mut self, from: (&Store, &Redirects), segment: &Segment, part: Segment) -> Result<()> {
        if self.open_run(from, segment, part).is_ok() {
            return Ok(());
        }
        for index in part.first.get()..part.end() {
            let run = Run::single(part.position(index));
            let single = Segment { first: BlockIndex(index), run, ..part };
            match self.open_run(from, segment, single) {
                Ok(()) => {}
                Err(error) if is_damage(&error) => {
                    self.damaged.push((index, self.position(index), error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open_run(
        &mut self,
        (store, redirects): (&Store, &Redirects),
        segment: &Segment,
        part: Segment,
    ) -> Result<()> {
        let count = self.stored.record.count;
        let neighbour = |index: Option<u32>| match index.filter(|&index| index < count) {
            None => Neighbour::None,
            Some(index) => self.position(index).map_or(Neighbour::Unknown, Neighbour::At),
        };
        let expected = Expected {
            stream: self.stored.record.identity,
            segment: *segment,
            before: neighbour(segment.first.get().checked_sub(1)),
            after: neighbour(Some(segment.end())),
        };
        let offset = part.first.get() - segment.first.get();
        let at = usize::try_from(part.first.get() - self.first).unwrap_or(usize::MAX);
        let blocks = usize::try_from(part.run.count()).unwrap_or(usize::MAX);
        store.read_run(
            redirects,
            KeyKind::Data,
            part.run,
            part.generation,
            &mut self.data[at * DATA_SIZE..(at + blocks) * DATA_SIZE],
            |place, head| check_head(&expected, offset + place, head),
        )?;
        self.opens[at..at + blocks].fill(true);
        Ok(())
    }

    fn position(&self, index: u32) -> Option<Position> {
        let at = usize::try_from(index.checked_sub(self.from)?).ok()?;
        self.positions.get(at).copied().flatten()
    }

    /// Returns whether a block opens, and the positions of its neighbours are known.
    fn is_open(&self, index: u32) -> bool {
        let opens = index.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let opens = opens.and_then(|at| self.opens.get(at).copied()).unwrap_or(false);
        let is_known = |index: u32| index >= self.count() || self.position(index).is_some();
        opens && index.checked_sub(1).is_none_or(is_known) && is_known(index.saturating_add(1))
    }

    fn is_movable(&self, index: u32) -> bool {
        let is_open =
            |index: u32| index >= self.count() || self.is_open(index) || fault!(MoveNextToDamage);
        let after = index.saturating_add(1);
        self.is_open(index) && index.checked_sub(1).is_none_or(is_open) && is_open(after)
    }

    fn count(&self) -> u32 {
        self.stored.record.count
    }

    /// Returns the blocks that stay next to a block that moves.
    fn changed_neighbours(
        &self,
        trees: &mut WorkingTrees,
        moves: &BTreeMap<u32, Position>,
    ) -> Neighbours {
        let mut stays = Neighbours::default();
        let before = moves.keys().filter_map(|index| index.checked_sub(1));
        let after = moves.keys().filter_map(|index| index.checked_add(1));
        for index in before.chain(after) {
            let stays_there = !moves.contains_key(&index) && self.is_open(index);
            let Some(position) = self.position(index).filter(|_| stays_there) else { continue };
            if trees.writer().is_fresh(position) {
                stays.fresh.insert(index, position);
            } else if !fault!(KeepOldLinks) {
                stays.live.insert(index, position);
            }
        }
        stays
    }

    /// Returns the head of a block, with the positions of its neighbours after the moves.
    fn head(&self, index: u32, moves: &BTreeMap<u32, Position>) -> BlockHead {
        let neighbour = |index: Option<u32>| {
            let index = index.filter(|&index| index < self.count())?;
            let new = moves.get(&index).copied().filter(|_| !fault!(MoveOldLinks));
            new.or_else(|| self.position(index))
        };
        BlockHead {
            previous: neighbour(index.checked_sub(1)),
            next: neighbour(index.checked_add(1)),
            index: BlockIndex(index),
            stream: self.stored.record.identity,
        }
    }

    /// Returns how to seal open blocks at these places.
    fn jobs<'a>(
        &'a self,
        places: &'a BTreeMap<u32, Position>,
        moves: &'a BTreeMap<u32, Position>,
    ) -> impl Iterator<Item = SealJob<'a>> {
        places.iter().map(|(&index, &position)| SealJob {
            position,
            head: self.head(index, moves),
            data: self.data(index),
        })
    }

    /// Returns the data of an open block.
    fn data(&self, index: u32) -> &Data {
        let at = usize::try_from(index - self.first).expect("a block of the window");
        let data = self.data.as_chunks::<DATA_SIZE>().0.get(at);
        data.expect("a block of the window")
    }
}
