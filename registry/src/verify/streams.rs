//! The blocks of every stream.
//!
//! Most streams are short, so parallelism inside a stream would be worth little: blocks of many streams
//! wait in a queue, and all cores open what is in it.

use ar7_engine::crypto::KeyKind;
use ar7_engine::format::{
    BLANK_BLOCKS, BlockHead, BlockIndex, DATA_SIZE, Generation, Position, RESERVED_BLOCKS, Run,
    StoredStream, StreamLayout,
};
use ar7_engine::{Check, Error as EngineError, in_pool};
use rayon::prelude::*;
use zeroize::Zeroize;

use super::{Subject, Verifier};
use crate::blocks::{Expected, Neighbour, Segment, check_head};
use crate::committed::Snapshot;
use crate::records::{
    ExtentKey, Extents, InodeNumber, Inodes, ReadRecords, Streams, reserved_index,
};

/// Blocks that one thread opens at a time: 256 KiB.
const PIECE_BLOCKS: u32 = 64;

/// Blocks that wait at most before they are opened: 32 MiB.
const QUEUE_BLOCKS: u32 = 8192;

/// Blocks that wait to be opened.
#[derive(Default)]
pub(super) struct Queue {
    pieces: Vec<Piece>,
    blocks: u32,
}

/// Some blocks of a segment.
#[derive(Clone, Copy)]
struct Piece {
    expected: Expected,
    /// Place of the first in the segment.
    place: u32,
    count: u32,
}

impl Piece {
    fn start(&self) -> Position {
        self.expected.segment.position(self.expected.segment.first.get() + self.place)
    }

    /// Whether its blocks lie right behind those of another piece, and are of the same generation.
    fn follows(&self, other: &Piece) -> bool {
        let end = u64::from(other.start().get()) + u64::from(other.count);
        end == u64::from(self.start().get())
            && self.expected.segment.generation == other.expected.segment.generation
    }
}

/// Pieces that lie together, up to so many blocks as are opened at a time: short streams that were written one after
/// another cost as little as a long one.
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

impl Verifier<'_> {
    /// Opens every block of every stream of one run, the reserved streams included. The blocks of the others are
    /// opened as their extents are visited.
    pub(super) fn check_streams(&mut self) {
        for stored in self.snapshot.commit().slot.reserved_streams.clone() {
            self.check_stream(&stored);
        }
        self.walk::<Streams>(&mut |verifier, identity, stored| {
            verifier.summary.streams += 1;
            if reserved_index(identity).is_some() {
                let subject = Subject::Stream(identity);
                verifier.disagree(subject, Check::Record, "the meta slot's record", "another");
            }
            verifier.check_stream(&stored);
            verifier.check_inode_of(&stored);
        });
        self.open_queued();
    }

    fn check_stream(&mut self, stored: &StoredStream) {
        let record = &stored.record;
        self.summary.bytes += record.length;
        match (stored.layout, record.begin) {
            (StreamLayout::OneRun(_), None) => {}
            (StreamLayout::OneRun(generation), Some(begin)) => {
                let Some(run) = Run::new(begin, record.count) else {
                    let subject = Subject::Stream(record.identity);
                    return self.disagree(subject, Check::Record, "a run", record.count);
                };
                self.enqueue(Expected {
                    stream: record.identity,
                    segment: Segment { first: BlockIndex(0), run, generation },
                    before: Neighbour::None,
                    after: Neighbour::None,
                });
            }
            (StreamLayout::Extents, _) => self.check_has_extents(stored),
        }
    }

    /// The inode whose content a stream is names the stream. A stream that no inode names would never be deleted.
    fn check_inode_of(&mut self, stored: &StoredStream) {
        let Some(number) = stored.inode.map(|inode| InodeNumber(inode.get())) else { return };
        let stream = stored.record.identity;
        match self.snapshot.get::<Inodes>(&number) {
            Ok(Some(inode)) if inode.stream == Some(stream) => {}
            Ok(_) => {
                let expected = "an inode with this content";
                self.disagree(Subject::Stream(stream), Check::Name, expected, number.0);
            }
            // The page will be reported when it is visited.
            Err(_) => {}
        }
    }

    /// A stream of extents has some. What they say is compared when they are visited.
    fn check_has_extents(&mut self, stored: &StoredStream) {
        let stream = stored.record.identity;
        let last = ExtentKey { stream, first: BlockIndex(u32::MAX) };
        match self.snapshot.floor::<Extents>(&last) {
            Ok(Some((key, _))) if key.stream == stream => {}
            Ok(_) => {
                let count = stored.record.count;
                self.disagree(Subject::Stream(stream), Check::Extents, count, "no extent");
            }
            Err(error) => self.find(Subject::Stream(stream), error),
        }
    }

    /// Accounts for the blocks of a segment and has them opened. A segment with a block that is not there, or that
    /// something else has too, is not opened: however many streams name a block, it is opened once.
    pub(super) fn enqueue(&mut self, expected: Expected) {
        let run = expected.segment.run;
        if !self.account(|| Subject::Stream(expected.stream), run) {
            return;
        }
        let mut place = 0;
        while place < run.count() {
            let count = PIECE_BLOCKS.min(run.count() - place);
            self.queue.pieces.push(Piece { expected, place, count });
            self.queue.blocks += count;
            place += count;
            if self.queue.blocks >= QUEUE_BLOCKS {
                self.open_queued();
            }
        }
    }

    /// Opens the blocks that wait, with all cores, and reports in order what is wrong with them.
    pub(super) fn open_queued(&mut self) {
        let Queue { pieces, blocks } = std::mem::take(&mut self.queue);
        self.summary.data_blocks += u64::from(blocks);
        let snapshot = self.snapshot;
        let found: Vec<(Subject, EngineError)> = in_pool(|| {
            batches(&pieces)
                .into_par_iter()
                .map_init(Vec::new, |data, batch| open_batch(snapshot, batch, data))
                .flatten_iter()
                .collect()
        });
        for (subject, error) in found {
            self.find(subject, error);
        }
    }

    /// The two reserved blocks that hold nothing: they open, and are blank.
    pub(super) fn check_blanks(&mut self) {
        if self.snapshot.store().header().rekey.is_some() {
            // They are sealed anew in their places, and a crash may leave them torn; the end of the change writes them.
            return;
        }
        for position in BLANK_BLOCKS {
            let subject = Subject::Blocks(Run::single(position));
            match self.snapshot.store().reserved_block(position) {
                Err(error) => self.find(subject, error.at_block(position)),
                Ok(block) => {
                    let is_blank = block.head == BlockHead::default()
                        && block.data.iter().all(|&byte| byte == 0);
                    if !is_blank {
                        let error = EngineError::damaged(
                            position,
                            Check::Reserved,
                            "a blank block",
                            "another",
                        );
                        self.find(subject, error);
                    }
                }
            }
        }
    }
}

/// Opens the blocks of pieces that lie together; if that fails, each piece by itself.
fn open_batch(
    snapshot: &Snapshot,
    batch: &[Piece],
    data: &mut Vec<u8>,
) -> Vec<(Subject, EngineError)> {
    let each = |data: &mut Vec<u8>| {
        batch.iter().flat_map(|piece| open_piece(snapshot, piece, data)).collect()
    };
    let [first, _, ..] = batch else { return each(data) };
    let start = first.start();
    let count = batch.iter().map(|piece| piece.count).sum();
    let run = Run::new(start, count).expect("pieces in the file lie in a run");
    let check = |within: u32, head: &BlockHead| {
        let position = start.get() + within;
        let after = batch.partition_point(|piece| piece.start().get() <= position);
        let piece = &batch[after - 1];
        check_head(&piece.expected, piece.place + (position - piece.start().get()), head)
    };
    if read(snapshot, (run, first.expected.segment.generation), data, check).is_ok() {
        return Vec::new();
    }
    each(data)
}

/// Opens the blocks of a piece; if that fails, one by one, so that each bad block is named.
fn open_piece(
    snapshot: &Snapshot,
    piece: &Piece,
    data: &mut Vec<u8>,
) -> Vec<(Subject, EngineError)> {
    let Piece { expected, place, count } = piece;
    if open(snapshot, expected, *place, *count, data).is_ok() {
        return Vec::new();
    }
    let single = |place: u32| {
        let index = expected.segment.first.get() + place;
        let position = expected.segment.position(index);
        let error = open(snapshot, expected, place, 1, data).err()?;
        let subject = Subject::Block { stream: expected.stream, index, position };
        Some((subject, error.at_block(position)))
    };
    (*place..place + count).filter_map(single).collect()
}

/// Opens `count` blocks from the given place of a segment on.
fn open(
    snapshot: &Snapshot,
    expected: &Expected,
    place: u32,
    count: u32,
    data: &mut Vec<u8>,
) -> Result<(), EngineError> {
    let segment = expected.segment;
    let (_, rest) = segment.run.split(place);
    let run = rest.and_then(|rest| rest.split(count).0).expect("within the segment");
    let check = |within: u32, head: &BlockHead| check_head(expected, place + within, head);
    read(snapshot, (run, segment.generation), data, check)
}

/// Opens a run of blocks, looks at their heads, and forgets their data.
fn read(
    snapshot: &Snapshot,
    (run, generation): (Run, Generation),
    data: &mut Vec<u8>,
    check: impl Fn(u32, &BlockHead) -> Result<(), EngineError> + Sync,
) -> Result<(), EngineError> {
    assert!(run.start().get() >= RESERVED_BLOCKS, "reserved blocks are accounted for already");
    data.resize(usize::try_from(run.count()).expect("a run that fits memory") * DATA_SIZE, 0);
    let redirects = &snapshot.commit().redirects;
    let outcome = snapshot.store().read_run(redirects, KeyKind::Data, run, generation, data, check);
    data[..].zeroize();
    outcome
}
