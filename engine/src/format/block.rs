//! The block: 4096 bytes in the file, 4056 bytes of plaintext, 4008 bytes of data.

use std::fmt;
use std::ops::{Deref, DerefMut};

use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::units::{BlockIndex, Position};
use crate::error::{Check, Error, Result};

/// Length of a block's data in bytes.
pub const DATA_SIZE: usize = 4008;

/// [`DATA_SIZE`] as a stream length.
pub const DATA_SIZE_U64: u64 = 4008;

/// Length of a block's plaintext in bytes.
#[doc(alias = "SIZE")]
pub const PLAIN_SIZE: usize = 4056;

/// The data of one block.
pub type Data = [u8; DATA_SIZE];

crate::layout! {
    /// A sealed block as it lies in the file.
    pub mod sealed, 4096 => {
        NONCE: 24, "generation (session u32, step u32, salt u32), then 12 random bytes";
        CIPHERTEXT: PLAIN_SIZE, "the plaintext, encrypted";
        TAG: 16, "Poly1305 tag";
    }
}

crate::layout! {
    /// The plaintext of a block, "!iiI16s20s4008s" in docs/SPECIFICATION.md.
    pub mod plain, 4056 => {
        PREVIOUS: 4, "i32: position of the previous block, -1 for none";
        NEXT: 4, "i32: position of the next block, -1 for none";
        INDEX: 4, "u32: block index in the stream, from 0";
        STREAM: 16, "UUID of the stream";
        DIGEST: 20, "SHA-1 of the data";
        DATA: DATA_SIZE, "the data";
    }
}

/// Every field of a block except its data and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockHead {
    /// Position of the previous block of the stream.
    pub previous: Option<Position>,
    /// Position of the next block of the stream.
    pub next: Option<Position>,
    /// Place in the stream.
    pub index: BlockIndex,
    /// UUID of the stream.
    pub stream: Uuid,
}

/// SHA-1 of a block's data; see docs/SPECIFICATION.md.
pub type Digest = [u8; 20];

impl BlockHead {
    /// Writes the head and the digest of the data into the first 48 bytes of a plaintext.
    pub fn encode(&self, digest: &Digest, bytes: &mut [u8]) {
        plain::PREVIOUS.put(bytes, &Position::to_link(self.previous).to_be_bytes());
        plain::NEXT.put(bytes, &Position::to_link(self.next).to_be_bytes());
        plain::INDEX.put(bytes, &self.index.get().to_be_bytes());
        plain::STREAM.put(bytes, self.stream.as_bytes());
        plain::DIGEST.put(bytes, digest);
    }

    /// Decodes the head of the block at `position`, and its unchecked digest.
    ///
    /// A neighbour link that is out of range, or that points to the block itself, is damage.
    #[doc(alias = "load_meta")]
    #[doc(alias = "meta_unpack")]
    pub fn decode(position: Position, bytes: &[u8]) -> Result<(BlockHead, Digest)> {
        let link = |field: super::Field, check: Check| {
            let raw = i32::from_be_bytes(field.array(bytes));
            match Position::from_link(raw) {
                Ok(Some(named)) if named == position => {
                    Err(Error::damaged(position, check, "another block", raw))
                }
                Ok(link) => Ok(link),
                Err(_) => Err(Error::damaged(position, check, "-1 or a position", raw)),
            }
        };
        let head = BlockHead {
            previous: link(plain::PREVIOUS, Check::PreviousLink)?,
            next: link(plain::NEXT, Check::NextLink)?,
            index: BlockIndex(plain::INDEX.u32(bytes)),
            stream: Uuid::from_bytes(plain::STREAM.array(bytes)),
        };
        Ok((head, plain::DIGEST.array(bytes)))
    }
}

/// The data of one block, on the heap. It is plaintext, and dropping it wipes it.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedData(Box<Data>);

impl OwnedData {
    /// Creates zeroed data.
    pub fn zeroed() -> OwnedData {
        OwnedData(Box::new([0; DATA_SIZE]))
    }

    /// Copies `data` to the heap, and leaves no copy on the stack.
    pub fn copy_of(data: &Data) -> OwnedData {
        let mut copy = OwnedData::zeroed();
        copy.copy_from_slice(data);
        copy
    }
}

impl Deref for OwnedData {
    type Target = Data;

    fn deref(&self) -> &Data {
        &self.0
    }
}

impl DerefMut for OwnedData {
    fn deref_mut(&mut self) -> &mut Data {
        &mut self.0
    }
}

impl fmt::Debug for OwnedData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OwnedData(..)")
    }
}

impl ZeroizeOnDrop for OwnedData {}

impl Drop for OwnedData {
    fn drop(&mut self) {
        // As a slice: an array is wiped byte by byte, which is slow.
        self.0[..].zeroize();
    }
}

/// One block, opened: its head and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "StreamBlock")]
pub struct Block {
    /// Neighbour links, index and stream.
    pub head: BlockHead,
    /// The data.
    pub data: OwnedData,
}

impl Block {
    /// Creates a blank block: no links, index 0, nil UUID, zero data.
    pub fn blank() -> Block {
        Block { head: BlockHead::default(), data: OwnedData::zeroed() }
    }
}

impl Default for Block {
    fn default() -> Block {
        Block::blank()
    }
}
