//! A stream that is open for writing: its record and its dirty blocks.
//!
//! Dirty blocks stay decrypted in memory until a flush seals the blocks of many streams in one
//! batch. Their neighbour links are computed then, because the positions of the neighbours are not
//! known earlier.

use std::collections::BTreeMap;
use std::ops::Range;

use ar7_engine::format::{
    BLOCKS_MAX, DATA_SIZE, DATA_SIZE_U64, Data, Position, RESERVED_BLOCKS, Run, StoredStream,
};
use ar7_engine::{Error as EngineError, Value};
use uuid::Uuid;

use super::dirty::DirtyBlocks;
use super::layout::{blocks_for, locate, truncate};
use super::read::{Reading, read_blocks};
use crate::error::Result;
use crate::working::WorkingTrees;

/// Maximum number of blocks of a stream: every block of the file except the reserved ones.
const STREAM_BLOCKS_MAX: u32 = BLOCKS_MAX - RESERVED_BLOCKS;

/// The open streams, and closed streams with dirty blocks. They are in order of identity, which is
/// the order of creation, so that streams created together are adjacent in the file.
pub(crate) type OpenStreams = BTreeMap<Uuid, OpenStream>;

/// A stream that is open for writing.
#[derive(Debug)]
pub(crate) struct OpenStream {
    /// The record. Its length in bytes includes dirty blocks; its count and layout are those of the
    /// sealed blocks.
    pub(crate) stored: StoredStream,
    /// Number of blocks, including those without a position.
    pub(crate) count: u32,
    /// Blocks that were changed or added since the last flush.
    pub(crate) dirty: DirtyBlocks,
    /// Position reserved for the first block that is not sealed, if its sealed predecessor already
    /// links to it.
    pub(crate) reserved_tail: Option<Position>,
    /// Streams of a lower rank get positions first.
    pub(crate) rank: u64,
    /// Whether a handle is open.
    pub(crate) held: bool,
    /// Whether the record differs from the one in the trees.
    pub(crate) changed: bool,
}

impl OpenStream {
    /// Opens a stream with the record of the trees.
    pub(crate) fn new(stored: StoredStream) -> OpenStream {
        OpenStream {
            count: stored.record.count,
            stored,
            dirty: DirtyBlocks::default(),
            reserved_tail: None,
            rank: 0,
            held: true,
            changed: false,
        }
    }

    /// Returns the record in the open transaction, which also counts dirty blocks.
    pub(crate) fn record(&self) -> StoredStream {
        let mut stored = self.stored.clone();
        stored.record.count = self.count;
        stored
    }

    fn length(&self) -> u64 {
        self.stored.record.length
    }

    fn set_length(&mut self, length: u64) {
        self.stored.record.length = length;
        self.changed = true;
    }

    /// Returns the number of sealed blocks, which are the blocks with a position.
    pub(crate) fn placed(&self) -> u32 {
        self.stored.record.count
    }

    /// Reads at most to the end of the stream. Returns the number of bytes read.
    pub(crate) fn read_at(
        &self,
        trees: &WorkingTrees,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize> {
        let available = self.length().saturating_sub(offset);
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let (index, within) = split_offset(at)?;
            let part = &mut bytes[done..wanted];
            done += match self.dirty.get(index) {
                Some(data) => copy_part(part, &data[within..]),
                None => self.read_sealed(trees, index, within, part)?,
            };
        }
        Ok(wanted)
    }

    /// Reads sealed blocks, at most to the next dirty one. Returns the number of bytes read.
    fn read_sealed(
        &self,
        trees: &WorkingTrees,
        index: u32,
        within: usize,
        bytes: &mut [u8],
    ) -> Result<usize> {
        let next_dirty = self.dirty.next_from(index).unwrap_or(self.count);
        let most = blocks_for(within, bytes.len()).min(next_dirty - index);
        let reading = Reading {
            store: trees.flushed_store()?,
            redirects: trees.redirects(),
            records: trees,
            stored: &self.stored,
            // The link of the last sealed block may refer to a block that is still dirty.
            ends_here: false,
        };
        read_blocks(&reading, index, most, within, bytes)
    }

    /// Loads a block into memory, marks it as dirty and returns its data for changing.
    pub(crate) fn block_mut(&mut self, trees: &WorkingTrees, index: u32) -> Result<&mut Data> {
        if self.dirty.get(index).is_none() {
            let mut data = trees.spares.zeroed();
            self.read_block(trees, index, &mut data)?;
            self.dirty.insert(index, data, &trees.spares);
        }
        self.changed = true;
        Ok(self.dirty.get_mut(index).expect("just inserted"))
    }

    /// Reads all data of a block, including bytes beyond the stream's length.
    pub(crate) fn read_block(
        &self,
        trees: &WorkingTrees,
        index: u32,
        data: &mut Data,
    ) -> Result<()> {
        match self.dirty.get(index) {
            Some(found) => data.copy_from_slice(&found[..]),
            None => {
                self.read_sealed(trees, index, 0, data)?;
            }
        }
        Ok(())
    }

    /// Writes bytes at `offset`. A gap between the old end and `offset` reads as zeros.
    pub(crate) fn write_at(
        &mut self,
        trees: &WorkingTrees,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_long)?;
        check_length(end)?;
        if offset > self.length() {
            self.grow(trees, offset)?;
        }
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = split_offset(offset + done as u64)?;
            let rest = &bytes[done..];
            done += if index == self.count {
                self.push_block(trees, rest)?
            } else if within == 0 && rest.len() >= DATA_SIZE {
                // The whole block is replaced, so its old data is not read.
                let data = rest[..DATA_SIZE].try_into().expect("a block");
                let data = trees.spares.copy_of(data);
                self.dirty.insert(index, data, &trees.spares);
                self.changed = true;
                DATA_SIZE
            } else {
                copy_part(&mut self.block_mut(trees, index)?[within..], rest)
            };
        }
        self.set_length(self.length().max(end));
        Ok(())
    }

    /// Returns the blocks that may become dirty if bytes are written at `offset`: also the last
    /// block, if the stream grows.
    pub(crate) fn touched_by_write(&self, offset: u64, length: usize) -> Range<u32> {
        let block = |offset: u64| u32::try_from(offset / DATA_SIZE_U64).unwrap_or(u32::MAX);
        let end = offset.saturating_add(length as u64);
        let begin = block(offset.min(self.length())).min(self.count.saturating_sub(1));
        begin..block(end.saturating_add(DATA_SIZE_U64 - 1))
    }

    /// Returns the blocks that may become dirty if the length is set: the last one of the shorter
    /// stream, or the last one and the added ones.
    pub(crate) fn touched_by_length(&self, length: u64) -> Range<u32> {
        if length <= self.length() {
            return self.touched_at_end(count_for(length).unwrap_or(u32::MAX));
        }
        let added = usize::try_from(length - self.length()).unwrap_or(usize::MAX);
        self.touched_by_write(self.length(), added)
    }

    /// Returns the blocks that may become dirty if the stream is truncated to `blocks` blocks, or
    /// grows at its end.
    pub(crate) fn touched_at_end(&self, blocks: u32) -> Range<u32> {
        let end = blocks.min(self.count);
        end.saturating_sub(1)..end.saturating_add(1)
    }

    /// Appends a block that begins with as many of `bytes` as fit. Returns the number of bytes that
    /// it took.
    ///
    /// The specification calls it `extend`.
    pub(crate) fn push_block(&mut self, trees: &WorkingTrees, bytes: &[u8]) -> Result<usize> {
        if self.count >= STREAM_BLOCKS_MAX {
            return Err(too_long().into());
        }
        if self.count > 0 && self.count == self.placed() {
            // The link of the old last block will change.
            self.block_mut(trees, self.count - 1)?;
        }
        let (data, taken) = trees.spares.beginning_with(bytes);
        self.dirty.insert(self.count, data, &trees.spares);
        self.count += 1;
        self.changed = true;
        Ok(taken)
    }

    /// Fails if the file has no room for the blocks of a stream of `length` bytes. Called before
    /// the first block is added, so that an impossible length changes nothing.
    pub(crate) fn check_room(&self, trees: &WorkingTrees, length: u64) -> Result<()> {
        check_length(length)?;
        let more = count_for(length)?.saturating_sub(self.count);
        if u64::from(more) > trees.room() {
            let limit = u64::from(BLOCKS_MAX);
            return Err(EngineError::Full { what: "number of blocks", limit }.into());
        }
        Ok(())
    }

    /// Sets the length in bytes. Added bytes read as zeros. Removed blocks are freed.
    pub(crate) fn set_len(&mut self, trees: &mut WorkingTrees, length: u64) -> Result<()> {
        check_length(length)?;
        if length > self.length() {
            return self.grow(trees, length);
        }
        self.truncate(trees, length)
    }

    /// Appends zeros up to `length`. The caller limits the number of blocks to bound the memory.
    fn grow(&mut self, trees: &WorkingTrees, length: u64) -> Result<()> {
        let (index, within) = split_offset(self.length())?;
        if index < self.count {
            // Bytes beyond the end, left by truncation or by `extend`, must read as zeros.
            self.block_mut(trees, index)?[within..].fill(0);
            for beyond in index + 1..self.count {
                self.dirty.insert(beyond, trees.spares.zeroed(), &trees.spares);
            }
        }
        let blocks = count_for(length)?;
        while self.count < blocks {
            self.push_block(trees, &[])?;
        }
        self.set_length(length);
        Ok(())
    }

    fn truncate(&mut self, trees: &mut WorkingTrees, length: u64) -> Result<()> {
        self.truncate_blocks(trees, count_for(length)?, length)
    }

    /// Truncates the stream to `blocks` blocks and `length` bytes. The blocks must hold that many
    /// bytes.
    pub(crate) fn truncate_blocks(
        &mut self,
        trees: &mut WorkingTrees,
        blocks: u32,
        length: u64,
    ) -> Result<()> {
        self.dirty.truncate(blocks, &trees.spares);
        if blocks <= self.placed()
            && let Some(tail) = self.reserved_tail.take()
        {
            trees.free(Run::single(tail))?;
        }
        for run in truncate(trees, &mut self.stored, blocks)? {
            trees.free(run)?;
        }
        let shorter = blocks < self.count;
        self.count = blocks;
        if shorter && blocks > 0 {
            // The link of the new last block changes.
            self.block_mut(trees, blocks - 1)?;
        }
        self.set_length(length);
        Ok(())
    }

    /// Adds `change` to the length in bytes. Fails if the result is negative or exceeds the blocks.
    pub(crate) fn adjust_length(&mut self, change: i64) -> Result<u64> {
        let most = u64::from(self.count) * DATA_SIZE_U64;
        let before = self.length();
        let length = before.checked_add_signed(change).filter(|&length| length <= most);
        let Some(length) = length else {
            let before = i128::from(before);
            let (least, most) = (-before, i128::from(most) - before);
            return Err(EngineError::OutOfBounds {
                what: "change of the length in bytes",
                found: change.into(),
                allowed: (Value::Number(least)..=Value::Number(most)).into(),
            }
            .into());
        };
        self.set_length(length);
        Ok(length)
    }

    /// Returns the position of the sealed block with this index.
    pub(crate) fn position(&self, trees: &WorkingTrees, index: u32) -> Result<Position> {
        Ok(locate(trees, &self.stored, index)?.position(index))
    }
}

/// Returns the index of the block that holds a byte, and the byte's offset in the block.
pub(crate) fn split_offset(offset: u64) -> Result<(u32, usize)> {
    let index = u32::try_from(offset / DATA_SIZE_U64).map_err(|_| too_long())?;
    let within = usize::try_from(offset % DATA_SIZE_U64).expect("less than a block");
    Ok((index, within))
}

/// Returns the number of blocks of a stream with this length in bytes.
fn count_for(length: u64) -> Result<u32> {
    u32::try_from(length.div_ceil(DATA_SIZE_U64)).map_err(|_| too_long().into())
}

fn check_length(length: u64) -> Result<()> {
    if count_for(length)? > STREAM_BLOCKS_MAX {
        return Err(too_long().into());
    }
    Ok(())
}

pub(crate) fn too_long() -> EngineError {
    EngineError::Full {
        what: "length of a stream in bytes",
        limit: u64::from(STREAM_BLOCKS_MAX) * DATA_SIZE_U64,
    }
}

fn copy_part(to: &mut [u8], from: &[u8]) -> usize {
    let length = to.len().min(from.len());
    to[..length].copy_from_slice(&from[..length]);
    length
}
