//! Reading the sealed blocks of a stream in parallel. The head of each block is compared with the
//! records.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BlockHead, DATA_SIZE, Position, StoredStream};
use ar7_engine::store::{Redirects, Store};
use ar7_engine::{Check, Error as EngineError};
use uuid::Uuid;

use super::layout::{Segment, blocks_for, locate};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::records::ReadRecords;

/// The context of a read of sealed blocks.
pub(crate) struct Reading<'a, R> {
    pub(crate) store: &'a Store,
    pub(crate) redirects: &'a Redirects,
    pub(crate) records: &'a R,
    pub(crate) stored: &'a StoredStream,
    /// Whether the last sealed block is the stream's last block, and so has no link to a next one.
    pub(crate) ends_here: bool,
}

impl<'a> Reading<'a, Snapshot> {
    /// To read a stream as a commit has it.
    pub(crate) fn of_committed(snapshot: &'a Snapshot, stored: &'a StoredStream) -> Self {
        Reading {
            store: snapshot.store(),
            redirects: &snapshot.commit().redirects,
            records: snapshot,
            stored,
            ends_here: true,
        }
    }
}

/// The expected heads of the blocks of a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) stream: Uuid,
    pub(crate) segment: Segment,
    /// Expected link of the segment's first block to the previous block.
    pub(crate) before: Neighbour,
    /// Expected link of the segment's last block to the next block.
    pub(crate) after: Neighbour,
}

/// An expected neighbour link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Neighbour {
    /// There is no such neighbour.
    None,
    /// The neighbour is at this position.
    At(Position),
    /// The neighbour is in another segment, so the link is not compared.
    Unknown,
}

/// Reads up to `most` blocks, starting at block `index`, into `bytes`. Leaves out the first
/// `within` bytes. Stops at the end of a segment. Returns the number of bytes read, at least one.
pub(crate) fn read_blocks<R: ReadRecords>(
    reading: &Reading<'_, R>,
    index: u32,
    most: u32,
    within: usize,
    bytes: &mut [u8],
) -> Result<usize> {
    let segment = locate(reading.records, reading.stored, index)?;
    let segment = segment.from(index).expect("the segment contains the block");
    let at_end = reading.ends_here && segment.end() == reading.stored.record.count;
    let expected = Expected {
        stream: reading.stored.record.identity,
        segment,
        before: if index == 0 { Neighbour::None } else { Neighbour::Unknown },
        after: if at_end { Neighbour::None } else { Neighbour::Unknown },
    };
    let wanted = blocks_for(within, bytes.len());
    let (Some(run), _) = segment.run.split(most.min(wanted)) else { return Ok(0) };
    let held = usize::try_from(run.count()).expect("fits the buffer") * DATA_SIZE - within;
    let length = bytes.len().min(held);
    reading.store.read_part_of_run(
        reading.redirects,
        KeyKind::Data,
        (run, segment.generation),
        within,
        &mut bytes[..length],
        |place, head| check_head(&expected, place, head),
    )?;
    Ok(length)
}

/// Compares the head of the block at this offset in the segment: stream, index, and the links to
/// known neighbours.
pub(crate) fn check_head(
    expected: &Expected,
    place: u32,
    head: &BlockHead,
) -> std::result::Result<(), EngineError> {
    let Expected { stream, segment, before, after } = *expected;
    let index = segment.first.get() + place;
    let position = segment.position(index);
    let is_compared = !ar7_engine::fault!(IgnoreStreamAndIndex);
    if head.stream != stream && is_compared {
        return Err(EngineError::tampered(position, Check::Stream, stream, head.stream));
    }
    if head.index.get() != index && is_compared {
        return Err(EngineError::tampered(position, Check::Index, index, head.index.get()));
    }
    let previous = match place.checked_sub(1) {
        Some(_) => Neighbour::At(segment.position(index - 1)),
        None => before,
    };
    compare_link(position, Check::PreviousLink, previous, head.previous)?;
    let next =
        if index + 1 < segment.end() { Neighbour::At(segment.position(index + 1)) } else { after };
    compare_link(position, Check::NextLink, next, head.next)
}

fn compare_link(
    position: Position,
    check: Check,
    expected: Neighbour,
    found: Option<Position>,
) -> std::result::Result<(), EngineError> {
    let expected = match expected {
        Neighbour::None => None,
        Neighbour::At(position) => Some(position),
        Neighbour::Unknown => return Ok(()),
    };
    if expected != found {
        return Err(EngineError::tampered(position, check, expected, found));
    }
    Ok(())
}
