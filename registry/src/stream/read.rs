//! Reading the sealed blocks of a stream, in parallel, each compared with what is expected of it.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BlockHead, DATA_SIZE, Position, StoredStream};
use ar7_engine::store::{Redirects, Store};
use ar7_engine::{Check, Error as EngineError};
use uuid::Uuid;

use super::layout::{Segment, locate};
use crate::error::Result;
use crate::records::ReadRecords;

/// What a read of sealed blocks needs to know.
pub(crate) struct Reading<'a, R> {
    pub(crate) store: &'a Store,
    pub(crate) redirects: &'a Redirects,
    pub(crate) records: &'a R,
    pub(crate) stored: &'a StoredStream,
    /// Whether the last sealed block is the stream's last, so that it names no next one.
    pub(crate) ends_here: bool,
}

/// What is expected of the blocks of one segment of a stream.
#[derive(Debug, Clone, Copy)]
struct Expected {
    stream: Uuid,
    segment: Segment,
    /// Number of blocks of the stream, if the last names no next one.
    last: Option<u32>,
}

/// Reads at most `most` blocks from block `index` on into `bytes`, leaving out the first `within` bytes. Stops at
/// the end of a segment; returns the number of bytes, at least one.
pub(crate) fn read_blocks<R: ReadRecords>(
    reading: &Reading<'_, R>,
    index: u32,
    most: u32,
    within: usize,
    bytes: &mut [u8],
) -> Result<usize> {
    let segment = locate(reading.records, reading.stored, index)?;
    let segment = segment.from(index).expect("the segment holds the block");
    let expected = Expected {
        stream: reading.stored.record.identity,
        segment,
        last: reading.ends_here.then_some(reading.stored.record.count),
    };
    let whole = u32::try_from(bytes.len() / DATA_SIZE).unwrap_or(u32::MAX);
    let count = most.min(segment.run.count());
    if within > 0 || whole == 0 || count == 0 {
        let mut data = [0; DATA_SIZE];
        read_segment(reading, &expected, 1, &mut data)?;
        let part = &data[within..];
        let length = part.len().min(bytes.len());
        bytes[..length].copy_from_slice(&part[..length]);
        return Ok(length);
    }
    let count = count.min(whole);
    let length = usize::try_from(count).expect("fits the buffer") * DATA_SIZE;
    read_segment(reading, &expected, count, &mut bytes[..length])?;
    Ok(length)
}

fn read_segment<R: ReadRecords>(
    reading: &Reading<'_, R>,
    expected: &Expected,
    count: u32,
    data: &mut [u8],
) -> Result<()> {
    let segment = expected.segment;
    let (Some(run), _) = segment.run.split(count) else { return Ok(()) };
    let check = |place: u32, head: &BlockHead| check_head(expected, place, head);
    reading.store.read_run(
        reading.redirects,
        KeyKind::Data,
        run,
        segment.generation,
        data,
        check,
    )?;
    Ok(())
}

/// Compares stream, index, and the links as far as the neighbours are known.
fn check_head(
    expected: &Expected,
    place: u32,
    head: &BlockHead,
) -> std::result::Result<(), EngineError> {
    let Expected { stream, segment, last } = *expected;
    let index = segment.first.get() + place;
    let position = segment.position(index);
    if head.stream != stream {
        return Err(EngineError::tampered(position, Check::Stream, stream, head.stream));
    }
    if head.index.get() != index {
        return Err(EngineError::tampered(position, Check::Index, index, head.index.get()));
    }
    let previous = match index.checked_sub(1) {
        None => Neighbour::None,
        Some(previous) if place > 0 => Neighbour::At(segment.position(previous)),
        Some(_) => Neighbour::Unknown,
    };
    compare_link(position, Check::PreviousLink, previous, head.previous)?;
    let next = match index + 1 {
        next if last == Some(next) => Neighbour::None,
        next if next < segment.end() => Neighbour::At(segment.position(next)),
        _ => Neighbour::Unknown,
    };
    compare_link(position, Check::NextLink, next, head.next)
}

/// What is known of a block's neighbour.
#[derive(Debug, Clone, Copy)]
enum Neighbour {
    /// There is none.
    None,
    /// It lies there.
    At(Position),
    /// It lies in another segment.
    Unknown,
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
