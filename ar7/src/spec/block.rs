//! One block of a stream.

use ar7_engine::crypto;
use ar7_engine::format::{Block, BlockHead, DATA_SIZE, OwnedData, Position, plain};
use uuid::Uuid;

/// A block of a stream in memory: a copy, which [`super::BaseStream::push`] appends to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamBlock {
    position: i32,
    previous: i32,
    next: i32,
    index: u32,
    stream: Uuid,
    data: OwnedData,
}

/// The fields of a block, in the order of the layout: previous, next, index, stream, digest and data.
pub type BlockFields = (i32, i32, u32, Uuid, [u8; 20], [u8; DATA_SIZE]);

impl StreamBlock {
    /// The layout, in the notation of Python's `struct`.
    pub const FORMAT: &'static str = "!iiI16s20s4008s";

    /// Length of that layout in bytes. Encrypted, it takes 4096 bytes.
    pub const SIZE: usize = plain::SIZE;

    /// Creates a blank block for a position: no links, index 0, the nil UUID, and zeros.
    pub fn new(position: i32) -> StreamBlock {
        StreamBlock::at(position, Block::blank())
    }

    pub(super) fn at(position: i32, block: Block) -> StreamBlock {
        let BlockHead { previous, next, index, stream } = block.head;
        let (previous, next) = (Position::to_link(previous), Position::to_link(next));
        StreamBlock { position, previous, next, index: index.get(), stream, data: block.data }
    }

    pub(super) fn to_block(&self) -> Block {
        // A stream sets the links, index and stream of a block that it appends.
        Block { data: self.data.clone(), ..Block::blank() }
    }

    /// Returns the block's position in the file, or -1 if it has none before the next commit.
    pub fn position(&self) -> i32 {
        self.position
    }

    /// Returns the position of the stream's previous block, or -1.
    pub fn previous(&self) -> i32 {
        self.previous
    }

    /// Returns the position of the stream's next block, or -1.
    pub fn next(&self) -> i32 {
        self.next
    }

    /// Returns the number of the block in its stream, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns the identity of the stream.
    pub fn stream(&self) -> Uuid {
        self.stream
    }

    /// Returns the SHA-1 digest of the data. It detects memory faults; it is not a security check.
    pub fn digest(&self) -> [u8; 20] {
        crypto::digest(&self.data)
    }

    /// Returns the data.
    pub fn data(&self) -> &[u8; DATA_SIZE] {
        &self.data
    }

    /// Returns the data for changing.
    pub fn data_mut(&mut self) -> &mut [u8; DATA_SIZE] {
        &mut self.data
    }

    /// Returns the block in the layout of [`StreamBlock::FORMAT`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; StreamBlock::SIZE];
        plain::PREVIOUS.put(&mut bytes, &self.previous.to_be_bytes());
        plain::NEXT.put(&mut bytes, &self.next.to_be_bytes());
        plain::INDEX.put(&mut bytes, &self.index.to_be_bytes());
        plain::STREAM.put(&mut bytes, self.stream.as_bytes());
        plain::DIGEST.put(&mut bytes, &self.digest());
        plain::DATA.put(&mut bytes, &self.data[..]);
        bytes
    }

    /// Replaces everything but the position with a block in the layout of [`StreamBlock::FORMAT`].
    /// Returns false, and changes nothing, if the length, a link or the digest is wrong.
    pub fn load_meta(&mut self, bytes: &[u8]) -> bool {
        let Some((previous, next, index, stream, digest, data)) = StreamBlock::meta_unpack(bytes)
        else {
            return false;
        };
        if previous < -1 || next < -1 || crypto::digest(&data) != digest {
            return false;
        }
        let data = OwnedData::copy_of(&data);
        *self = StreamBlock { position: self.position, previous, next, index, stream, data };
        true
    }

    /// Splits a block in the layout of [`StreamBlock::FORMAT`] into its fields. Checks the length only.
    pub fn meta_unpack(bytes: &[u8]) -> Option<BlockFields> {
        if bytes.len() != StreamBlock::SIZE {
            return None;
        }
        Some((
            i32::from_be_bytes(plain::PREVIOUS.array(bytes)),
            i32::from_be_bytes(plain::NEXT.array(bytes)),
            plain::INDEX.u32(bytes),
            Uuid::from_bytes(plain::STREAM.array(bytes)),
            plain::DIGEST.array(bytes),
            plain::DATA.array(bytes),
        ))
    }
}
