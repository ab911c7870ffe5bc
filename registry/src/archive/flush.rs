//! Flushing: the changed blocks of many streams are given positions and sealed in one batch.

use std::collections::HashMap;

use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::format::{BlockHead, BlockIndex, Generation, Position, Run};
use uuid::Uuid;

use super::registry::Registry;
use super::state::OpenStreams;
use crate::error::Result;
use crate::stream::{OpenStream, Segment, assign, locate};

/// A changed block of a stream: its index and its position.
#[derive(Debug, Clone, Copy)]
struct Place {
    stream: Uuid,
    index: u32,
    position: Position,
}

/// Positions of the blocks of a stream that are not sealed yet, in order of index.
type Placements = HashMap<Uuid, Vec<Position>>;

/// What a flush will seal: everything has a position, and nothing has been changed yet.
pub(super) struct Flush {
    placements: Placements,
    /// Blocks whose positions are new in this transaction.
    fresh: Vec<Place>,
    /// Blocks that the last commit has, and the generation in which their images were sealed.
    live: Vec<Place>,
    live_generation: Generation,
    tails: bool,
}

/// First half of a flush: all that can meet a full disk. If it does, it gives back what it has allocated, and
/// the streams are as they were.
///
/// With `tails`, the last block of every stream is sealed too; without, the last block of a stream that is being
/// appended to waits, so that its link to the next is right at once.
pub(super) fn prepare(registry: &mut Registry, open: &OpenStreams, tails: bool) -> Result<Flush> {
    let runs = allocate(registry, open)?;
    let placements = place(open, &runs);
    let prepared = seal_live(registry, open, placements, tails);
    if prepared.is_err() {
        registry.unallocate(runs);
    }
    prepared
}

fn seal_live(
    registry: &mut Registry,
    open: &OpenStreams,
    placements: Placements,
    tails: bool,
) -> Result<Flush> {
    let (mut fresh, mut live) = (Vec::new(), Vec::new());
    for (&identity, stream) in open {
        let waiting = waiting_tail(stream, tails);
        for index in stream.dirty.indices().filter(|&index| Some(index) != waiting) {
            let position = position_of(registry, stream, &placements[&identity], index)?;
            let place = Place { stream: identity, index, position };
            if registry.writer().is_fresh(position) { &mut fresh } else { &mut live }.push(place);
        }
    }
    // In order of position, so that neighbours are written together.
    fresh.sort_unstable_by_key(|place| place.position);
    registry.make_room(live.len())?;
    let jobs = jobs(registry, open, &placements, &live)?;
    let live_generation = registry.writer().write_over(&jobs)?;
    Ok(Flush { placements, fresh, live, live_generation, tails })
}

/// Second half of a flush: seals the new blocks, and records where everything lies. If it fails, the transaction
/// can only be rolled back.
pub(super) fn finish(registry: &mut Registry, open: &mut OpenStreams, flush: &Flush) -> Result<()> {
    let jobs = jobs(registry, open, &flush.placements, &flush.fresh)?;
    let generation = registry.writer().write_fresh(KeyKind::Data, &jobs)?;
    record(registry, open, &flush.fresh, generation)?;
    record(registry, open, &flush.live, flush.live_generation)?;
    for (identity, stream) in open {
        let waiting = waiting_tail(stream, flush.tails);
        stream.dirty.clear_but(waiting, &registry.spares);
        stream.reserved_tail = waiting.and_then(|_| flush.placements[identity].last().copied());
    }
    Ok(())
}

/// The block of a stream that is not sealed now: its last, if it was added and more may come.
fn waiting_tail(stream: &OpenStream, tails: bool) -> Option<u32> {
    let last = stream.count.checked_sub(1)?;
    (!tails && stream.held && last >= stream.placed()).then_some(last)
}

/// Number of blocks of a stream that need a position.
fn unplaced(stream: &OpenStream) -> u32 {
    stream.count - stream.placed() - u32::from(stream.reserved_tail.is_some())
}

/// Room for every block that has no position; all or nothing.
fn allocate(registry: &mut Registry, open: &OpenStreams) -> Result<Vec<Run>> {
    let mut missing: u32 = open.values().map(unplaced).sum();
    let mut runs = Vec::new();
    while missing > 0 {
        match registry.allocate(missing) {
            Ok(run) => {
                missing -= run.count();
                runs.push(run);
            }
            Err(error) => {
                registry.unallocate(runs);
                return Err(error);
            }
        }
    }
    Ok(runs)
}

/// Gives out positions, one stream after another, so that each lies together.
fn place(open: &OpenStreams, runs: &[Run]) -> Placements {
    let mut positions = runs.iter().flat_map(|run| run.positions());
    let placed = open.iter().map(|(&identity, stream)| {
        let wanted = usize::try_from(unplaced(stream)).expect("a count of blocks in memory");
        let new = positions.by_ref().take(wanted);
        (identity, stream.reserved_tail.into_iter().chain(new).collect())
    });
    placed.collect()
}

fn position_of(
    registry: &Registry,
    stream: &OpenStream,
    placement: &[Position],
    index: u32,
) -> Result<Position> {
    match index.checked_sub(stream.placed()) {
        Some(new) => Ok(placement[usize::try_from(new).expect("an index in memory")]),
        None => Ok(locate(registry, &stream.stored, index)?.position(index)),
    }
}

/// Blocks with the links that they have now.
fn jobs<'a>(
    registry: &Registry,
    open: &'a OpenStreams,
    placements: &Placements,
    places: &[Place],
) -> Result<Vec<SealJob<'a>>> {
    let mut jobs = Vec::with_capacity(places.len());
    for place in places {
        let stream = &open[&place.stream];
        let placement = &placements[&place.stream];
        let neighbour = |index: Option<u32>| {
            index
                .filter(|&index| index < stream.count)
                .map(|index| position_of(registry, stream, placement, index))
                .transpose()
        };
        let head = BlockHead {
            previous: neighbour(place.index.checked_sub(1))?,
            next: neighbour(place.index.checked_add(1))?,
            index: BlockIndex(place.index),
            stream: place.stream,
        };
        jobs.push(SealJob { position: place.position, head, data: &stream.dirty[place.index] });
    }
    Ok(jobs)
}

/// Records where sealed blocks lie. Blocks in a row make one segment.
fn record(
    registry: &mut Registry,
    open: &mut OpenStreams,
    places: &[Place],
    generation: Generation,
) -> Result<()> {
    let mut sorted = places.to_vec();
    sorted.sort_unstable_by_key(|place| (place.stream, place.index));
    let in_a_row = |a: &Place, b: &Place| {
        a.stream == b.stream && a.index + 1 == b.index && a.position.following() == Some(b.position)
    };
    for chunk in sorted.chunk_by(in_a_row) {
        let count = u32::try_from(chunk.len()).expect("fewer blocks than positions");
        let run = Run::new(chunk[0].position, count).expect("positions in a row are a run");
        let segment = Segment { first: BlockIndex(chunk[0].index), run, generation };
        let stream = open.get_mut(&chunk[0].stream).expect("a stream that was flushed is open");
        assign(registry, &mut stream.stored, segment)?;
    }
    Ok(())
}
