//! Flushing: the dirty blocks of many streams get positions and are sealed in one batch.

use std::collections::HashMap;

use ar7_engine::crypto::SealJob;
use ar7_engine::format::{BlockHead, BlockIndex, Generation, Position, Run};
use ar7_engine::store::{OwnedSealJob, Urgency};
use uuid::Uuid;

use crate::blocks::{OpenStream, OpenStreams, Segment, assign, locate};
use crate::error::Result;
use crate::working::WorkingTrees;

/// A dirty block of a stream: its position and the head that it will be sealed with.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: Position,
    head: BlockHead,
}

impl Place {
    fn is(&self, stream: Uuid, index: u32) -> bool {
        self.head.stream == stream && self.head.index.get() == index
    }
}

/// Positions of the blocks of each stream that are not sealed yet, in order of index.
type Placements = HashMap<Uuid, Vec<Position>>;

/// The blocks that a flush will seal. Each has a position, and no stream has changed yet.
pub(super) struct Flush {
    placements: Placements,
    /// New blocks of this transaction, in order of stream and index.
    fresh: Vec<Place>,
    /// Live blocks of the last commit, in the same order.
    live: Vec<Place>,
    /// Generation of their shadow blocks.
    live_generation: Generation,
    tails: bool,
}

impl Flush {
    /// Returns the number of blocks of those streams for which `is_counted` returns true.
    pub(super) fn blocks_of(&self, is_counted: impl Fn(Uuid) -> bool) -> u64 {
        let places = self.fresh.iter().chain(&self.live);
        places.filter(|place| is_counted(place.head.stream)).count() as u64
    }
}

/// Performs the first half of a flush: every step that can find the disk full. In that case it
/// cancels its allocations and leaves the streams unchanged.
///
/// With `tails`, the last block of every stream is sealed too. Otherwise the last block of an open
/// stream that grows waits, because its link needs the position of the next block.
pub(super) fn prepare(
    trees: &mut WorkingTrees,
    open: &OpenStreams,
    tails: bool,
    urgency: Urgency,
) -> Result<Flush> {
    let runs = allocate(trees, open, urgency)?;
    let placements = place(open, &runs);
    let prepared = seal_live(trees, open, placements, tails, urgency);
    if prepared.is_err() {
        trees.cancel(runs);
    }
    prepared
}

fn seal_live(
    trees: &mut WorkingTrees,
    open: &OpenStreams,
    placements: Placements,
    tails: bool,
    urgency: Urgency,
) -> Result<Flush> {
    let dirty = open.values().map(|stream| stream.dirty.len()).sum();
    let (mut fresh, mut live) = (Vec::with_capacity(dirty), Vec::new());
    for (&identity, stream) in open {
        let (placement, waiting) = (&placements[&identity], waiting_tail(stream, tails));
        for index in stream.dirty.indices().filter(|&index| Some(index) != waiting) {
            let position = position_of(trees, stream, placement, index)?;
            let head = head(trees, stream, placement, index)?;
            let places = if trees.writer().is_fresh(position) { &mut fresh } else { &mut live };
            places.push(Place { position, head });
        }
    }
    trees.make_room(live.len())?;
    let job = |&Place { position, head }: &Place| {
        let data = &open[&head.stream].dirty[head.index.get()];
        SealJob { position, head, data }
    };
    let jobs: Vec<SealJob<'_>> = live.iter().map(job).collect();
    let live_generation = trees.writer().write_over(&jobs, urgency)?;
    Ok(Flush { placements, fresh, live, live_generation, tails })
}

/// Performs the second half of a flush: starts to seal the new blocks and records where each block
/// is. After a failure the transaction can only be rolled back.
pub(super) fn finish(
    trees: &mut WorkingTrees,
    open: &mut OpenStreams,
    flush: &Flush,
) -> Result<()> {
    let jobs = take_fresh(trees, open, flush);
    let generation = trees.start_blocks(jobs)?;
    record(trees, open, &flush.fresh, generation)?;
    record(trees, open, &flush.live, flush.live_generation)
}

/// Takes the dirty blocks out of the streams. Returns the new ones in order of position, so that
/// adjacent blocks are written together. The live ones are already sealed.
fn take_fresh(
    trees: &mut WorkingTrees,
    open: &mut OpenStreams,
    flush: &Flush,
) -> Vec<OwnedSealJob> {
    let mut jobs = trees.take_jobs();
    jobs.reserve(flush.fresh.len());
    let mut places = flush.fresh.iter().peekable();
    for (&identity, stream) in open {
        let (placement, waiting) =
            (&flush.placements[&identity], waiting_tail(stream, flush.tails));
        for (index, data) in stream.dirty.take_except(waiting) {
            let is_same = |place: &&Place| place.is(identity, index);
            match places.next_if(is_same) {
                Some(&Place { position, head }) => jobs.push(OwnedSealJob { position, head, data }),
                None => trees.spares.give(data),
            }
        }
        stream.reserved_tail = waiting.and_then(|_| placement.last().copied());
    }
    assert!(places.peek().is_none(), "every new block was in memory");
    jobs.sort_unstable_by_key(|job| job.position);
    jobs
}

/// Returns the block of a stream that is not sealed now: the last one, if it is new and more may
/// follow.
fn waiting_tail(stream: &OpenStream, tails: bool) -> Option<u32> {
    let last = stream.count.checked_sub(1)?;
    (!tails && stream.held && last >= stream.placed()).then_some(last)
}

/// Returns the number of blocks of a stream that need a position.
fn unplaced(stream: &OpenStream) -> u32 {
    stream.count - stream.placed() - u32::from(stream.reserved_tail.is_some())
}

/// Allocates a position for every block that has none. On failure it allocates nothing.
fn allocate(trees: &mut WorkingTrees, open: &OpenStreams, urgency: Urgency) -> Result<Vec<Run>> {
    let mut missing: u32 = open.values().map(unplaced).sum();
    let mut runs = Vec::new();
    while missing > 0 {
        match trees.allocate(missing, urgency) {
            Ok(run) => {
                missing -= run.count();
                runs.push(run);
            }
            Err(error) => {
                trees.cancel(runs);
                return Err(error);
            }
        }
    }
    Ok(runs)
}

/// Assigns positions to one stream after another, in order of rank and identity, so that the blocks of each stream are
/// contiguous.
fn place(open: &OpenStreams, runs: &[Run]) -> Placements {
    let mut positions = runs.iter().flat_map(|run| run.positions());
    let mut streams: Vec<(&Uuid, &OpenStream)> = open.iter().collect();
    streams.sort_by_key(|(_, stream)| stream.rank);
    let placed = streams.into_iter().map(|(&identity, stream)| {
        let wanted = usize::try_from(unplaced(stream)).expect("the blocks are in memory");
        let new = positions.by_ref().take(wanted);
        (identity, stream.reserved_tail.into_iter().chain(new).collect())
    });
    placed.collect()
}

fn position_of(
    trees: &WorkingTrees,
    stream: &OpenStream,
    placement: &[Position],
    index: u32,
) -> Result<Position> {
    match index.checked_sub(stream.placed()) {
        Some(new) => Ok(placement[usize::try_from(new).expect("the block is in memory")]),
        None => Ok(locate(trees, &stream.stored, index)?.position(index)),
    }
}

/// Returns the head of a block with its current neighbour links.
fn head(
    trees: &WorkingTrees,
    stream: &OpenStream,
    placement: &[Position],
    index: u32,
) -> Result<BlockHead> {
    let neighbour = |index: Option<u32>| {
        index
            .filter(|&index| index < stream.count)
            .map(|index| position_of(trees, stream, placement, index))
            .transpose()
    };
    Ok(BlockHead {
        previous: neighbour(index.checked_sub(1))?,
        next: neighbour(index.checked_add(1))?,
        index: BlockIndex(index),
        stream: stream.stored.record.identity,
    })
}

/// Records the locations of sealed blocks, which are in order of stream and index. Consecutive
/// blocks form one segment.
fn record(
    trees: &mut WorkingTrees,
    open: &mut OpenStreams,
    places: &[Place],
    generation: Generation,
) -> Result<()> {
    let is_consecutive = |a: &Place, b: &Place| {
        b.is(a.head.stream, a.head.index.get() + 1) && a.position.following() == Some(b.position)
    };
    for chunk in places.chunk_by(is_consecutive) {
        let count = u32::try_from(chunk.len()).expect("fewer blocks than positions");
        let run = Run::new(chunk[0].position, count).expect("consecutive positions form a run");
        let BlockHead { stream, index, .. } = chunk[0].head;
        let segment = Segment { first: index, run, generation };
        let stream = open.get_mut(&stream).expect("a stream that was flushed is open");
        assign(trees, &mut stream.stored, segment)?;
    }
    Ok(())
}
