//! A stream that is open for writing: its record, and the blocks of it that are in memory.
//!
//! Blocks that change are kept, decrypted, until they are flushed: sealed in batches, many
//! streams at once. Links are not kept with them: when a block is sealed, its neighbours'
//! positions are known.

use ar7_engine::Error as EngineError;
use ar7_engine::format::{
    BLOCKS_MAX, DATA_SIZE, DATA_SIZE_U64, Data, Position, RESERVED_BLOCKS, Run, StoredStream,
};
use ar7_engine::mistakes::Mistake;

use super::dirty::DirtyBlocks;
use super::layout::{locate, truncate};
use super::read::{Reading, read_blocks};
use crate::archive::Registry;
use crate::error::Result;

/// Most blocks that a stream can have: every block of the file but the reserved ones.
pub(crate) const STREAM_BLOCKS_MAX: u32 = BLOCKS_MAX - RESERVED_BLOCKS;

/// A stream that is open for writing.
#[derive(Debug)]
pub(crate) struct OpenStream {
    /// Record and layout of the blocks that have a position and are sealed.
    pub(crate) stored: StoredStream,
    /// Number of blocks, those without a position included.
    pub(crate) count: u32,
    /// Number of bytes.
    pub(crate) length: u64,
    /// Blocks that were changed or added since they were sealed.
    pub(crate) dirty: DirtyBlocks,
    /// Position of the first block that is not sealed, where its predecessor already names it.
    pub(crate) reserved_tail: Option<Position>,
    /// Whether a handle is open.
    pub(crate) held: bool,
    /// Whether the record differs from the registry's.
    pub(crate) changed: bool,
}

impl OpenStream {
    /// A stream as the registry has it.
    pub(crate) fn new(stored: StoredStream) -> OpenStream {
        OpenStream {
            count: stored.record.count,
            length: stored.record.length,
            stored,
            dirty: DirtyBlocks::default(),
            reserved_tail: None,
            held: true,
            changed: false,
        }
    }

    /// Number of blocks that are sealed and have a position.
    pub(crate) fn placed(&self) -> u32 {
        self.stored.record.count
    }

    /// Reads up to the end of the stream; returns the number of bytes.
    pub(crate) fn read_at(
        &self,
        registry: &Registry,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize> {
        let available = self.length.saturating_sub(offset);
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let (index, within) = split_offset(at)?;
            let part = &mut bytes[done..wanted];
            done += match self.dirty.get(index) {
                Some(data) => copy_part(part, &data[within..]),
                None => self.read_sealed(registry, index, within, part)?,
            };
        }
        Ok(wanted)
    }

    /// Reads sealed blocks up to the next one in memory.
    fn read_sealed(
        &self,
        registry: &Registry,
        index: u32,
        within: usize,
        bytes: &mut [u8],
    ) -> Result<usize> {
        let next_dirty = self.dirty.next_from(index).unwrap_or(self.count);
        let most = blocks_for(within, bytes.len()).min(next_dirty - index);
        let reading = Reading {
            store: registry.flushed_store()?,
            redirects: registry.redirects(),
            records: registry,
            stored: &self.stored,
            // The last block's link changes in memory before it changes on disk.
            ends_here: false,
        };
        read_blocks(&reading, index, most, within, bytes)
    }

    /// The data of one block, to be changed.
    pub(crate) fn block_mut(&mut self, registry: &Registry, index: u32) -> Result<&mut Data> {
        if self.dirty.get(index).is_none() {
            let mut data = registry.spares.zeroed();
            self.read_block(registry, index, &mut data)?;
            self.dirty.insert(index, data, &registry.spares);
        }
        self.changed = true;
        Ok(self.dirty.get_mut(index).expect("just put there"))
    }

    /// The data of one block, whole, also beyond the stream's length in bytes.
    pub(crate) fn read_block(
        &self,
        registry: &Registry,
        index: u32,
        data: &mut Data,
    ) -> Result<()> {
        match self.dirty.get(index) {
            Some(found) => data.copy_from_slice(&found[..]),
            None => {
                self.read_sealed(registry, index, 0, data)?;
            }
        }
        Ok(())
    }

    /// Writes bytes anywhere; a gap between the old end and `offset` reads as zeros.
    pub(crate) fn write_at(
        &mut self,
        registry: &Registry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_long)?;
        check_length(end)?;
        if offset > self.length {
            self.grow(registry, offset)?;
        }
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = split_offset(offset + done as u64)?;
            let rest = &bytes[done..];
            done += if index == self.count {
                self.push_block(registry, rest)?
            } else if within == 0 && rest.len() >= DATA_SIZE {
                // Nothing of the old block is left, so it need not be read.
                let data = rest[..DATA_SIZE].try_into().expect("a block");
                let data = registry.spares.copy_of(data);
                self.dirty.insert(index, data, &registry.spares);
                self.changed = true;
                DATA_SIZE
            } else {
                copy_part(&mut self.block_mut(registry, index)?[within..], rest)
            };
        }
        self.length = self.length.max(end);
        self.changed = true;
        Ok(())
    }

    /// Adds a block at the end that begins with `bytes`, as much of them as it holds.
    ///
    /// The specification's name is `extend`.
    pub(crate) fn push_block(&mut self, registry: &Registry, bytes: &[u8]) -> Result<usize> {
        if self.count >= STREAM_BLOCKS_MAX {
            return Err(too_long().into());
        }
        if self.count > 0 && self.count == self.placed() {
            // The old last block will name the new one.
            self.block_mut(registry, self.count - 1)?;
        }
        let (data, taken) = registry.spares.beginning_with(bytes);
        self.dirty.insert(self.count, data, &registry.spares);
        self.count += 1;
        self.changed = true;
        Ok(taken)
    }

    /// An error if the file cannot have the blocks that a stream of `length` bytes needs. Asked before the first of
    /// them is added, so that a length out of all bounds does nothing.
    pub(crate) fn check_room(&self, registry: &Registry, length: u64) -> Result<()> {
        check_length(length)?;
        let more = count_for(length)?.saturating_sub(self.count);
        if u64::from(more) > registry.room() {
            let limit = u64::from(BLOCKS_MAX);
            return Err(EngineError::Full { what: "number of blocks", limit }.into());
        }
        Ok(())
    }

    /// Sets the length; what is added reads as zeros, what is cut is recycled.
    pub(crate) fn set_len(&mut self, registry: &mut Registry, length: u64) -> Result<()> {
        check_length(length)?;
        if length > self.length {
            return self.grow(registry, length);
        }
        self.cut(registry, length)
    }

    /// Adds zeros up to `length`, at most one flush's worth of blocks at a time being the caller's business.
    fn grow(&mut self, registry: &Registry, length: u64) -> Result<()> {
        let (index, within) = split_offset(self.length)?;
        if index < self.count && !Mistake::StaleTail.is_planted() {
            // Bytes beyond the end, left by a longer past or by `extend`, must not show.
            self.block_mut(registry, index)?[within..].fill(0);
            for beyond in index + 1..self.count {
                self.dirty.insert(beyond, registry.spares.zeroed(), &registry.spares);
            }
        }
        let blocks = count_for(length)?;
        while self.count < blocks {
            self.push_block(registry, &[])?;
        }
        self.length = length;
        self.changed = true;
        Ok(())
    }

    fn cut(&mut self, registry: &mut Registry, length: u64) -> Result<()> {
        self.cut_blocks(registry, count_for(length)?, length)
    }

    /// Cuts the stream to `blocks` blocks and `length` bytes, which they hold.
    pub(crate) fn cut_blocks(
        &mut self,
        registry: &mut Registry,
        blocks: u32,
        length: u64,
    ) -> Result<()> {
        self.dirty.cut(blocks, &registry.spares);
        if blocks <= self.placed()
            && let Some(tail) = self.reserved_tail.take()
        {
            registry.free(Run::single(tail))?;
        }
        for run in truncate(registry, &mut self.stored, blocks)? {
            registry.free(run)?;
        }
        let shorter = blocks < self.count;
        self.count = blocks;
        if shorter && blocks > 0 {
            // The new last block names no next one.
            self.block_mut(registry, blocks - 1)?;
        }
        if !Mistake::TruncateKeepsTheLength.is_planted() {
            self.length = length;
        }
        self.changed = true;
        Ok(())
    }

    /// Changes the length in bytes within what the blocks hold.
    pub(crate) fn adjust_length(&mut self, change: i64) -> Result<u64> {
        let most = u64::from(self.count) * DATA_SIZE_U64;
        let length = self.length.checked_add_signed(change).filter(|&length| length <= most);
        let Some(length) = length else {
            return Err(EngineError::OutOfBounds {
                what: "change of the length in bytes",
                found: change.into(),
                allowed: most.into(),
            }
            .into());
        };
        self.length = length;
        self.changed = true;
        Ok(length)
    }

    /// Position of the sealed block with this index.
    pub(crate) fn position(&self, registry: &Registry, index: u32) -> Result<Position> {
        Ok(locate(registry, &self.stored, index)?.position(index))
    }
}

/// Index of the block that holds a byte, and the byte's place in it.
pub(crate) fn split_offset(offset: u64) -> Result<(u32, usize)> {
    let index = u32::try_from(offset / DATA_SIZE_U64).map_err(|_| too_long())?;
    let within = usize::try_from(offset % DATA_SIZE_U64).expect("less than a block");
    Ok((index, within))
}

/// Number of blocks that a stream of this length needs.
pub(crate) fn count_for(length: u64) -> Result<u32> {
    u32::try_from(length.div_ceil(DATA_SIZE_U64)).map_err(|_| too_long().into())
}

/// Number of blocks that `length` bytes touch which begin `within` a block.
pub(crate) fn blocks_for(within: usize, length: usize) -> u32 {
    u32::try_from((within + length).div_ceil(DATA_SIZE)).unwrap_or(u32::MAX)
}

pub(crate) fn check_length(length: u64) -> Result<()> {
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
