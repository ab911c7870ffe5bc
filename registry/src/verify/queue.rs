//! A queue of blocks to open.
//!
//! In a writer, a later commit may overwrite a block in place before it is opened here. Such a block
//! is opened as the newest commit has it, so that no commit waits for a verification.
//!
//! Most streams are short, so parallelism within a stream gains little. The queue collects blocks of many streams, and
//! all cores open them together.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{BlockHead, DATA_SIZE, Generation, Position, Run, has_reserved};
use ar7_engine::{Error as EngineError, in_pool};
use rayon::prelude::*;
use zeroize::Zeroize;

use super::finding::Subject;
use crate::blocks::{Expected, check_head};
use crate::committed::Snapshot;
use crate::error::Error;

/// Number of blocks that one thread opens at a time: 256 KiB.
const PIECE_BLOCKS: u32 = 64;

/// The queue is opened when it holds this many blocks: 32 MiB.
const QUEUE_BLOCKS: u32 = 8192;

/// Blocks queued for opening.
#[derive(Default)]
pub(super) struct Queue {
    pieces: Vec<Piece>,
    blocks: u32,
}

/// Consecutive blocks of a segment.
#[derive(Clone, Copy)]
struct Piece {
    expected: Expected,
    /// Offset of the first block in the segment.
    offset: u32,
    count: u32,
}

impl Piece {
    fn start(&self) -> Position {
        self.expected.segment.position(self.expected.segment.first.get() + self.offset)
    }

    /// Returns whether the blocks of this piece directly follow `other` in the file and have the
    /// same generation.
    fn follows(&self, other: &Piece) -> bool {
        let end = u64::from(other.start().get()) + u64::from(other.count);
        end == u64::from(self.start().get())
            && self.expected.segment.generation == other.expected.segment.generation
    }
}

/// Groups contiguous pieces into batches of up to [`PIECE_BLOCKS`] blocks. Many short streams in a
/// row then take as little time as one long stream.
fn batches(pieces: &[Piece]) -> Vec<&[Piece]> {
    let mut batches = Vec::new();
    let mut rest = pieces;
    while let Some(first) = rest.first() {
        let (mut length, mut blocks) = (1, first.count);
        while let Some(next) = rest.get(length)
            && next.follows(&rest[length - 1])
            && blocks + next.count <= PIECE_BLOCKS
        {
            (length, blocks) = (length + 1, blocks + next.count);
        }
        let (batch, after) = rest.split_at(length);
        batches.push(batch);
        rest = after;
    }
    batches
}

impl Queue {
    /// Queues the piece of a segment that begins at `offset`. Returns its number of blocks.
    pub(super) fn push(&mut self, expected: Expected, offset: u32) -> u32 {
        let count = PIECE_BLOCKS.min(expected.segment.run.count() - offset);
        self.pieces.push(Piece { expected, offset, count });
        self.blocks += count;
        count
    }

    pub(super) fn is_full(&self) -> bool {
        self.blocks >= QUEUE_BLOCKS
    }

    /// Returns the number of queued blocks.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Opens all blocks on all cores. Returns the faults in the order of the queue.
    pub(super) fn open(self, snapshot: &Snapshot) -> Vec<(Subject, Error)> {
        in_pool(|| {
            batches(&self.pieces)
                .into_par_iter()
                .map_init(Vec::new, |data, batch| open_batch(snapshot, batch, data))
                .flatten_iter()
                .collect()
        })
    }
}

/// Opens contiguous pieces with one read. If that fails, opens each piece separately.
fn open_batch(snapshot: &Snapshot, batch: &[Piece], data: &mut Vec<u8>) -> Vec<(Subject, Error)> {
    let each = |data: &mut Vec<u8>| {
        batch.iter().flat_map(|piece| open_piece(snapshot, piece, data)).collect()
    };
    let [first, _, ..] = batch else { return each(data) };
    let start = first.start();
    let count = batch.iter().map(|piece| piece.count).sum();
    let run = Run::new(start, count).expect("contiguous pieces form a run");
    let check = |within: u32, head: &BlockHead| {
        let position = start.get() + within;
        let after = batch.partition_point(|piece| piece.start().get() <= position);
        let piece = &batch[after - 1];
        check_head(&piece.expected, piece.offset + (position - piece.start().get()), head)
    };
    if read(snapshot, (run, first.expected.segment.generation), data, check).is_ok() {
        return Vec::new();
    }
    each(data)
}

/// Opens a piece. If that fails, opens each block separately to find the damaged ones.
fn open_piece(snapshot: &Snapshot, piece: &Piece, data: &mut Vec<u8>) -> Vec<(Subject, Error)> {
    let Piece { expected, offset, count } = piece;
    if open(snapshot, expected, *offset, *count, data).is_ok() {
        return Vec::new();
    }
    let single = |offset: u32| {
        let index = expected.segment.first.get() + offset;
        let position = expected.segment.position(index);
        let error = open(snapshot, expected, offset, 1, data).err()?;
        let subject = Subject::Block { stream: expected.stream, index, position };
        Some((subject, Error::from(error.at_block(position))))
    };
    (*offset..offset + count).filter_map(single).collect()
}

/// Opens `count` blocks of a segment, starting at `offset`.
fn open(
    snapshot: &Snapshot,
    expected: &Expected,
    offset: u32,
    count: u32,
    data: &mut Vec<u8>,
) -> Result<(), EngineError> {
    let segment = expected.segment;
    let (_, rest) = segment.run.split(offset);
    let run = rest.and_then(|rest| rest.split(count).0).expect("within the segment");
    let check = |within: u32, head: &BlockHead| check_head(expected, offset + within, head);
    read(snapshot, (run, segment.generation), data, check)
}

/// Opens a run of blocks, checks their heads, and wipes their data.
fn read(
    snapshot: &Snapshot,
    (run, generation): (Run, Generation),
    data: &mut Vec<u8>,
    check: impl Fn(u32, &BlockHead) -> Result<(), EngineError> + Sync,
) -> Result<(), EngineError> {
    assert!(!has_reserved(run), "reserved blocks are already accounted for");
    data.resize(usize::try_from(run.count()).expect("a run that fits in memory") * DATA_SIZE, 0);
    let redirects = &snapshot.commit().redirects;
    let outcome = snapshot.store().read_run(redirects, KeyKind::Data, run, generation, data, check);
    data[..].zeroize();
    outcome
}
