//! A stream as a cursor over its blocks.

use ar7_engine::format::{DATA_SIZE, Position};
use ar7_registry::Stream;
use uuid::Uuid;

use super::block::StreamBlock;
use crate::error::Result;

/// An open stream: a cursor on one of its blocks.
///
/// A stream has one handle for writing at a time. What it writes is durable after
/// [`super::StreamManager::save_meta`].
#[derive(Debug)]
pub struct BaseStream {
    pub(super) stream: Stream,
}

/// A stream for general use.
pub type DataStream = BaseStream;

/// A stream for internal use. The streams that an archive keeps for itself cannot be opened.
pub type InternalStream = BaseStream;

impl BaseStream {
    /// The compression of a stream that is not compressed.
    pub const COMP_NONE: u16 = ar7_engine::format::COMPRESSION_NONE;

    /// The layout of a stream's record, in the notation of Python's `struct`.
    pub const FORMAT: &'static str = "!16siiIQH";

    /// Length of that layout in bytes.
    pub const SIZE: usize = ar7_engine::format::StreamRecord::SIZE;

    /// Returns the identity.
    pub fn identity(&self) -> Uuid {
        self.stream.identity()
    }

    /// Returns the record in the layout of [`BaseStream::FORMAT`]: identity, positions of the first
    /// and last block, number of blocks, length in bytes, compression.
    pub fn meta(&self) -> Result<[u8; BaseStream::SIZE]> {
        Ok(self.stream.stored()?.record.encode())
    }

    /// Returns the position in the file of the first block, or -1.
    pub fn begin(&self) -> Result<i32> {
        Ok(Position::to_link(self.stream.position_of(0)?))
    }

    /// Returns the number of blocks. An empty stream has none.
    pub fn count(&self) -> Result<u32> {
        Ok(self.stream.count()?)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> Result<u64> {
        Ok(self.stream.len()?)
    }

    /// Returns whether the stream has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.stream.is_empty()?)
    }

    /// Returns the compression. There is no other than [`BaseStream::COMP_NONE`] yet.
    pub fn compression(&self) -> Result<u16> {
        Ok(self.stream.stored()?.record.compression)
    }

    /// Adds `change` to the length in bytes and returns the new length. Fails if the result is
    /// negative or exceeds what the blocks hold.
    pub fn length(&mut self, change: i64) -> Result<u64> {
        Ok(self.stream.adjust_length(change)?)
    }

    /// Returns a copy of the cursor's block, or `None` if the stream is empty.
    pub fn block(&mut self) -> Result<Option<StreamBlock>> {
        let Some(block) = self.stream.block()? else { return Ok(None) };
        let position = self.stream.position_of(self.stream.block_index())?;
        Ok(Some(StreamBlock::at(Position::to_link(position), block)))
    }

    /// Returns the data of the cursor's block, or `None` if the stream is empty.
    pub fn data(&mut self) -> Result<Option<&[u8; DATA_SIZE]>> {
        Ok(self.stream.data()?)
    }

    /// Returns the data of the cursor's block for changing, and marks the block as changed.
    pub fn data_mut(&mut self) -> Result<Option<&mut [u8; DATA_SIZE]>> {
        Ok(self.stream.data_mut()?)
    }

    /// Marks the cursor's block as changed.
    pub fn changed(&mut self) {
        self.stream.changed();
    }

    /// Saves the cursor's block if it was changed. With `enforce`, saves it in any case.
    pub fn save(&mut self, enforce: bool) -> Result<()> {
        Ok(self.stream.save(enforce)?)
    }

    /// Saves the cursor's block and closes the stream.
    pub fn close(self) -> Result<()> {
        Ok(self.stream.close()?)
    }

    /// Moves to the next block. Returns false at the last one.
    #[expect(clippy::should_implement_trait, reason = "the name of the specification")]
    pub fn next(&mut self) -> Result<bool> {
        Ok(self.stream.next_block()?)
    }

    /// Moves to the previous block. Returns false at the first one.
    pub fn previous(&mut self) -> Result<bool> {
        Ok(self.stream.previous_block()?)
    }

    /// Moves to the block with this index, or to the last one if there are fewer. Returns the index.
    pub fn wind(&mut self, index: u32) -> Result<u32> {
        Ok(self.stream.wind(index)?)
    }

    /// Moves to the last block.
    pub fn end(&mut self) -> Result<()> {
        Ok(self.stream.end()?)
    }

    /// Appends a blank block and moves to it. Returns false if the cursor is not at the last block.
    pub fn extend(&mut self) -> Result<bool> {
        Ok(self.stream.extend()?)
    }

    /// Appends the data of a block and moves to the new block, from wherever the cursor is.
    pub fn push(&mut self, block: &StreamBlock) -> Result<()> {
        Ok(self.stream.push(&block.to_block())?)
    }

    /// Removes the last block with its bytes and returns it, from wherever the cursor is. Returns
    /// `None` if the stream is empty.
    pub fn pop(&mut self) -> Result<Option<StreamBlock>> {
        Ok(self.stream.pop()?.map(|block| StreamBlock::at(-1, block)))
    }

    /// Truncates the stream to a length in bytes, and recycles its blocks after that. Never grows it.
    /// Returns the length.
    pub fn truncate(&mut self, length: u64) -> Result<u64> {
        Ok(self.stream.truncate(length)?)
    }

    /// Returns the blocks of the stream, from either end.
    pub fn blocks(&mut self) -> Result<impl DoubleEndedIterator<Item = Result<StreamBlock>> + '_> {
        let count = self.count()?;
        self.save(false)?;
        Ok((0..count).filter_map(|index| self.block_at(index).transpose()))
    }

    fn block_at(&self, index: u32) -> Result<Option<StreamBlock>> {
        let Some(block) = self.stream.block_at(index)? else { return Ok(None) };
        let position = self.stream.position_of(index)?;
        Ok(Some(StreamBlock::at(Position::to_link(position), block)))
    }
}
