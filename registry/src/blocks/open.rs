//! A stream that is open for writing: its record, and the blocks of it that are in memory.
//!
//! Changed blocks stay in memory, decrypted, until a flush seals the blocks of many streams in one batch. Their
//! neighbour links are computed at that time, when the positions of the neighbours are known.

use std::collections::BTreeMap;

use ar7_engine::Error as EngineError;
use ar7_engine::format::{
    BLOCKS_MAX, DATA_SIZE, DATA_SIZE_U64, Data, Position, RESERVED_BLOCKS, Run, StoredStream,
};
use uuid::Uuid;

use super::dirty::DirtyBlocks;
use super::layout::{blocks_for, locate, truncate};
use super::read::{Reading, read_blocks};
use crate::error::Result;
use crate::working::WorkingTrees;

/// Most blocks that a stream can have: every block of the file but the reserved ones.
const STREAM_BLOCKS_MAX: u32 = BLOCKS_MAX - RESERVED_BLOCKS;

/// The open streams, and closed ones whose blocks are not flushed yet. They are in order of identity, which is the order
/// of creation: streams that were created together lie together.
pub(crate) type OpenStreams = BTreeMap<Uuid, OpenStream>;

/// A stream that is open for writing.
#[derive(Debug)]
pub(crate) struct OpenStream {
    /// The record. Its length counts all bytes; its count and layout are those of the sealed blocks.
    pub(crate) stored: StoredStream,
    /// Number of blocks, those without a position included.
    pub(crate) count: u32,
    /// Blocks that were changed or added since they were sealed.
    pub(crate) dirty: DirtyBlocks,
    /// Position of the first block that is not sealed, where its predecessor already names it.
    pub(crate) reserved_tail: Option<Position>,
    /// Whether a handle is open.
    pub(crate) held: bool,
    /// Whether the record differs from the one in the trees.
    pub(crate) changed: bool,
}

impl OpenStream {
    /// A stream as the trees have it.
    pub(crate) fn new(stored: StoredStream) -> OpenStream {
        OpenStream {
            count: stored.record.count,
            stored,
            dirty: DirtyBlocks::default(),
            reserved_tail: None,
            held: true,
            changed: false,
        }
    }

    /// The record as the transaction has it: it counts the blocks in memory too.
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

    /// Number of blocks that are sealed and have a position.
    pub(crate) fn placed(&self) -> u32 {
        self.stored.record.count
    }

    /// Reads up to the end of the stream; returns the number of bytes.
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

    /// Reads sealed blocks up to the next one in memory.
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
            // The last block's link to the next changes in memory first.
            ends_here: false,
        };
        read_blocks(&reading, index, most, within, bytes)
    }

    /// The data of one block, in memory, to be changed.
    pub(crate) fn block_mut(&mut self, trees: &WorkingTrees, index: u32) -> Result<&mut Data> {
        if self.dirty.get(index).is_none() {
            let mut data = trees.spares.zeroed();
            self.read_block(trees, index, &mut data)?;
            self.dirty.insert(index, data, &trees.spares);
        }
        self.changed = true;
        Ok(self.dirty.get_mut(index).expect("just put there"))
    }

    /// The data of one block, whole, also beyond the stream's length in bytes.
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

    /// Writes bytes anywhere; a gap between the old end and `offset` reads as zeros.
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
                // All of the old block is replaced, so it need not be read.
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

    /// Adds a block at the end that begins with `bytes`, as much of them as it holds.
    ///
    /// The specification's name is `extend`.
    pub(crate) fn push_block(&mut self, trees: &WorkingTrees, bytes: &[u8]) -> Result<usize> {
        if self.count >= STREAM_BLOCKS_MAX {
            return Err(too_long().into());
        }
        if self.count > 0 && self.count == self.placed() {
            // The old last block will name the new one.
            self.block_mut(trees, self.count - 1)?;
        }
        let (data, taken) = trees.spares.beginning_with(bytes);
        self.dirty.insert(self.count, data, &trees.spares);
        self.count += 1;
        self.changed = true;
        Ok(taken)
    }

    /// Fails if the file has no room for the blocks of a stream of `length` bytes. Called before the first block is
    /// added, so that an impossible length changes nothing.
    pub(crate) fn check_room(&self, trees: &WorkingTrees, length: u64) -> Result<()> {
        check_length(length)?;
        let more = count_for(length)?.saturating_sub(self.count);
        if u64::from(more) > trees.room() {
            let limit = u64::from(BLOCKS_MAX);
            return Err(EngineError::Full { what: "number of blocks", limit }.into());
        }
        Ok(())
    }

    /// Sets the length; what is added reads as zeros, what is cut is recycled.
    pub(crate) fn set_len(&mut self, trees: &mut WorkingTrees, length: u64) -> Result<()> {
        check_length(length)?;
        if length > self.length() {
            return self.grow(trees, length);
        }
        self.cut(trees, length)
    }

    /// Adds zeros up to `length`. The caller limits the number of blocks, so that memory stays bounded.
    fn grow(&mut self, trees: &WorkingTrees, length: u64) -> Result<()> {
        let (index, within) = split_offset(self.length())?;
        if index < self.count {
            // Bytes beyond the end, left by a cut or by `extend`, must read as zeros.
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

    fn cut(&mut self, trees: &mut WorkingTrees, length: u64) -> Result<()> {
        self.cut_blocks(trees, count_for(length)?, length)
    }

    /// Cuts the stream to `blocks` blocks and `length` bytes, which they hold.
    pub(crate) fn cut_blocks(
        &mut self,
        trees: &mut WorkingTrees,
        blocks: u32,
        length: u64,
    ) -> Result<()> {
        self.dirty.cut(blocks, &trees.spares);
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
            // The new last block names no next one.
            self.block_mut(trees, blocks - 1)?;
        }
        self.set_length(length);
        Ok(())
    }

    /// Changes the length in bytes within what the blocks hold.
    pub(crate) fn adjust_length(&mut self, change: i64) -> Result<u64> {
        let most = u64::from(self.count) * DATA_SIZE_U64;
        let length = self.length().checked_add_signed(change).filter(|&length| length <= most);
        let Some(length) = length else {
            return Err(EngineError::OutOfBounds {
                what: "change of the length in bytes",
                found: change.into(),
                allowed: most.into(),
            }
            .into());
        };
        self.set_length(length);
        Ok(length)
    }

    /// Position of the sealed block with this index.
    pub(crate) fn position(&self, trees: &WorkingTrees, index: u32) -> Result<Position> {
        Ok(locate(trees, &self.stored, index)?.position(index))
    }
}

/// Index of the block that holds a byte, and the byte's offset in it.
pub(crate) fn split_offset(offset: u64) -> Result<(u32, usize)> {
    let index = u32::try_from(offset / DATA_SIZE_U64).map_err(|_| too_long())?;
    let within = usize::try_from(offset % DATA_SIZE_U64).expect("less than a block");
    Ok((index, within))
}

/// Number of blocks that a stream of this length needs.
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
