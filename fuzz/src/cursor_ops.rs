//! The block-by-block cursor of a stream, compared with a list of blocks, with commits, rollbacks and reopenings.

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{Block, DATA_SIZE};
use ar7_engine::store::{self, Access};
use ar7_registry::{Archive, CreateOptions, Error, Stream};
use uuid::Uuid;

use crate::stream_blocks::StreamBlocks;
use crate::unstructured::Unstructured;

/// Maximum number of operations.
const OPERATIONS: usize = 60;

/// Maximum number of blocks in the stream.
const BLOCKS: usize = 30;

/// The expected state of a stream.
#[derive(Clone, Default)]
struct Model {
    blocks: StreamBlocks,
    index: usize,
}

struct Cursor {
    device: MemoryDevice,
    archive: Archive,
    identity: Uuid,
    stream: Option<Stream>,
    model: Model,
    committed: Model,
}

/// Applies operations to a stream and to a list of blocks as `bytes` direct.
///
/// # Panics
/// If they differ in a result, in their length, or in a block.
pub fn cursor_ops(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let mut cursor = Cursor::new();
    for _ in 0..OPERATIONS {
        if unstructured.is_over() {
            break;
        }
        cursor.operate(&mut unstructured);
        cursor.check_place();
    }
    cursor.check_blocks(&mut unstructured);
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([9; 32]))
}

impl Cursor {
    fn new() -> Cursor {
        let device = MemoryDevice::new();
        let create = CreateOptions::default();
        let archive = Archive::create_device(Box::new(device.clone()), &secret(), &create);
        let archive = archive.expect("an archive in memory");
        let stream = archive.new_stream().expect("a stream");
        archive.commit().expect("a commit in memory");
        let identity = stream.identity();
        let (model, committed) = (Model::default(), Model::default());
        Cursor { device, archive, identity, stream: Some(stream), model, committed }
    }

    fn stream(&mut self) -> &mut Stream {
        let (archive, identity) = (&self.archive, self.identity);
        self.stream.get_or_insert_with(|| archive.open_stream(identity).expect("the stream"))
    }

    fn operate(&mut self, unstructured: &mut Unstructured<'_>) {
        match unstructured.byte() % 16 {
            0 => self.wind(unstructured),
            1 => {
                let moved = self.stream().next_block().expect("a move");
                assert_eq!(moved, self.model.next(), "whether there is a next block");
            }
            2 => {
                let moved = self.stream().previous_block().expect("a move");
                assert_eq!(moved, self.model.previous(), "whether there is a previous block");
            }
            3 => self.extend(),
            4 => self.push(unstructured),
            5 => self.pop(),
            6 => self.change(unstructured),
            7 => self.adjust(unstructured),
            8 => self.set_length(unstructured, true),
            9 => self.set_length(unstructured, false),
            10..=12 => self.write(unstructured),
            13 => self.check_blocks(unstructured),
            14 => {
                self.archive.commit().expect("a commit in memory");
                self.committed = self.model.clone();
            }
            _ => self.go_back(unstructured),
        }
    }

    fn wind(&mut self, unstructured: &mut Unstructured<'_>) {
        let index = unstructured.byte() % (BLOCKS + 2);
        let index = if index > BLOCKS { usize::MAX >> 32 } else { index };
        let wanted = u32::try_from(index).expect("32 bits at most");
        let reached = self.stream().wind(wanted).expect("a move");
        self.model.index = index.min(self.model.blocks.count().saturating_sub(1));
        assert_eq!(usize::try_from(reached).ok(), Some(self.model.index), "where winding ends");
    }

    fn extend(&mut self) {
        let count = self.model.blocks.count();
        let at_end = count == 0 || self.model.index + 1 == count;
        let extended = self.stream().extend().expect("a new block");
        assert_eq!(extended, at_end, "whether a stream is extended here");
        if at_end {
            self.model.push(&[0; DATA_SIZE]);
        }
    }

    fn push(&mut self, unstructured: &mut Unstructured<'_>) {
        if self.model.blocks.count() < BLOCKS {
            let mut block = Block::blank();
            block.data.fill(unstructured.octet());
            self.stream().push(&block).expect("a new block");
            self.model.push(&block.data);
        }
    }

    fn pop(&mut self) {
        let popped = self.stream().pop().expect("the last block");
        assert_eq!(popped.map(|block| block.data.to_vec()), self.model.pop(), "the last block");
    }

    fn change(&mut self, unstructured: &mut Unstructured<'_>) {
        let (at, byte) = (unstructured.word() % DATA_SIZE, unstructured.octet());
        let index = self.model.index;
        let expected = self.model.blocks.get_mut(index);
        let stream = self.stream.as_mut().expect("the stream is open");
        match (stream.data_mut().expect("the data"), expected) {
            (Some(data), Some(expected)) => {
                assert!(data[..] == expected[..], "the data of the cursor's block");
                (data[at], expected[at]) = (byte, byte);
                stream.save(false).expect("saved");
            }
            (found, expected) => assert_eq!(found.is_some(), expected.is_some(), "a block here"),
        }
    }

    fn adjust(&mut self, unstructured: &mut Unstructured<'_>) {
        let change = i64::from(unstructured.quad().cast_signed()) % 9000;
        let length = i64::try_from(self.model.blocks.length).expect("a small stream") + change;
        let most = self.model.blocks.bytes.len();
        match (self.stream().adjust_length(change), usize::try_from(length)) {
            (Ok(found), Ok(length)) if length <= most => {
                assert_eq!(usize::try_from(found), Ok(length), "the length");
                self.model.blocks.length = length;
            }
            (Err(Error::Engine(EngineError::OutOfBounds { .. })), length) => {
                assert!(length.is_err() || length.is_ok_and(|length| length > most), "in bounds");
            }
            (found, _) => panic!("the length after {change}: {found:?}"),
        }
    }

    fn set_length(&mut self, unstructured: &mut Unstructured<'_>, only_cut: bool) {
        let wanted = any_offset(unstructured);
        let bytes = u64::try_from(wanted).expect("a small stream");
        if only_cut {
            let length = self.stream().truncate(bytes).expect("a cut");
            let expected = wanted.min(self.model.blocks.length);
            assert_eq!(usize::try_from(length), Ok(expected), "the length after a cut");
            self.model.set_length(expected);
        } else {
            self.stream().set_len(bytes).expect("another length");
            self.model.set_length(wanted);
        }
    }

    fn write(&mut self, unstructured: &mut Unstructured<'_>) {
        let (offset, length) = (any_offset(unstructured), unstructured.word() % 9000);
        let bytes = vec![unstructured.octet(); length];
        let at = u64::try_from(offset).expect("a small stream");
        self.stream().write_at(at, &bytes).expect("a write");
        self.model.blocks.write(offset, &bytes);
    }

    /// Drops the uncommitted changes, or only the handle.
    fn go_back(&mut self, unstructured: &mut Unstructured<'_>) {
        match unstructured.byte() % 3 {
            0 => self.archive.rollback().expect("a rollback"),
            1 => {
                let device = self.device.snapshot().to_device();
                self.device = device.clone();
                let options =
                    store::OpenOptions { access: Access::Write, ..store::OpenOptions::default() };
                let opened = Archive::open_device(Box::new(device), &secret(), options);
                self.archive = opened.expect("the archive opens again");
            }
            _ => {
                self.stream = None;
                self.model.index = 0;
                return;
            }
        }
        self.stream = None;
        self.model = Model { index: 0, ..self.committed.clone() };
    }

    fn check_place(&mut self) {
        let (count, length) = (self.model.blocks.count(), self.model.blocks.length);
        let index = self.model.index;
        let stream = self.stream();
        assert_eq!(stream.count().ok().map(usize::try_from), Some(Ok(count)), "the count");
        assert_eq!(stream.len().ok().map(usize::try_from), Some(Ok(length)), "the length");
        assert_eq!(usize::try_from(stream.block_index()), Ok(index), "the place of the cursor");
        let data = stream.data().expect("the data").map(|data| data.to_vec());
        assert!(data.as_deref() == self.model.blocks.get(index), "the data of the cursor's block");
    }

    /// Checks every block, from either end as `unstructured` directs, and every byte.
    fn check_blocks(&mut self, unstructured: &mut Unstructured<'_>) {
        let (count, length) = (self.model.blocks.count(), self.model.blocks.length);
        let identity = self.identity;
        let mut found: Vec<(usize, Block)> = Vec::new();
        let mut blocks = self.stream().blocks().expect("the blocks");
        let (mut low, mut high) = (0, count);
        while low < high {
            let (at, block) = if unstructured.byte().is_multiple_of(2) {
                low += 1;
                (low - 1, blocks.next())
            } else {
                high -= 1;
                (high, blocks.next_back())
            };
            found.push((at, block.expect("one more block").expect("a block that can be read")));
        }
        assert!(blocks.next().is_none() && blocks.next_back().is_none(), "too many blocks");
        for (at, block) in found {
            assert_eq!(usize::try_from(block.head.index.get()), Ok(at), "the index of a block");
            assert_eq!(block.head.stream, identity, "the stream of a block");
            assert!(Some(&block.data[..]) == self.model.blocks.get(at), "the data of block {at}");
        }
        let mut bytes = vec![0; length + 10];
        let read = self.stream().read_at(0, &mut bytes).expect("a read");
        assert_eq!(read, length, "the bytes of the stream");
        assert!(bytes[..length] == self.model.blocks.bytes[..length], "the bytes of the stream");
    }
}

impl Model {
    fn next(&mut self) -> bool {
        let is_there = self.index + 1 < self.blocks.count();
        self.index += usize::from(is_there);
        is_there
    }

    fn previous(&mut self) -> bool {
        let before = self.index.min(self.blocks.count()).checked_sub(1);
        self.index = before.unwrap_or(self.index);
        before.is_some()
    }

    fn push(&mut self, data: &[u8; DATA_SIZE]) {
        self.blocks.push(data);
        self.index = self.blocks.count() - 1;
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let popped = self.blocks.pop();
        self.stay_inside();
        popped
    }

    fn set_length(&mut self, length: usize) {
        self.blocks.set_length(length);
        self.stay_inside();
    }

    /// Moves the cursor to the last block if its block was removed.
    fn stay_inside(&mut self) {
        self.index = self.index.min(self.blocks.count().saturating_sub(1));
    }
}

/// Returns an offset or length, most often near a block boundary.
fn any_offset(unstructured: &mut Unstructured<'_>) -> usize {
    match unstructured.byte() % 3 {
        0 => unstructured.byte() % 8 * DATA_SIZE + unstructured.byte() % 3,
        1 => unstructured.byte(),
        _ => unstructured.word() % 30_000,
    }
}

/// Returns initial inputs: blocks that are added and removed, and bytes beyond the end.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![4, 7, 4, 8, 3, 13, 0, 1, 5, 2, 1, 6, 0, 9, 1, 14, 5, 15, 0, 13],
        vec![10, 0, 2, 1, 35, 40, 3, 7, 0, 0, 0, 9, 9, 0, 5, 0, 14, 5, 13, 15, 1, 13],
        vec![4, 9, 7, 0, 0, 15, 168, 8, 1, 100, 9, 2, 39, 16, 13, 14, 15, 2, 1, 1, 2],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_match_a_list_of_blocks() {
        let mut random = Random::new(0x6375_7273);
        let mut operations = 0;
        for _ in 0..300 {
            let mut bytes = [0; 260];
            random.fill(&mut bytes);
            cursor_ops(&bytes);
            operations += OPERATIONS;
        }
        for seed in seeds() {
            cursor_ops(&seed);
        }
        assert_eq!(operations, 18_000);
    }
}
