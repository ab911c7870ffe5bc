//! The cursor of the specification's `BaseStream`, which works on one block at a time.

use ar7_engine::format::{Block, DATA_SIZE, DATA_SIZE_U64, Data};

use super::handle::Stream;
use crate::blocks::OpenStream;
use crate::error::Result;

impl Stream {
    /// Returns the index of the cursor's block.
    pub fn block_index(&self) -> u32 {
        self.index
    }

    /// Returns the cursor's block with its neighbour links in the file. Returns `None` if the
    /// stream is empty, or if it was truncated before that block after the cursor moved there.
    pub fn block(&mut self) -> Result<Option<Block>> {
        let mut block = self.block_at(self.index)?;
        if let (Some(block), Some((data, _))) = (&mut block, &self.current) {
            block.data.copy_from_slice(&data[..]);
        }
        Ok(block)
    }

    /// Returns all 4008 bytes of the cursor's block, or `None` if the stream is empty.
    pub fn data(&mut self) -> Result<Option<&Data>> {
        self.load()?;
        Ok(self.current.as_ref().map(|(data, _)| &**data))
    }

    /// Returns the data of the cursor's block for changing, and marks the block as changed. The
    /// stream's length stays the same.
    pub fn data_mut(&mut self) -> Result<Option<&mut Data>> {
        self.load()?;
        self.changed();
        Ok(self.current.as_mut().map(|(data, _)| &mut **data))
    }

    /// Marks the cursor's block as changed.
    pub fn changed(&mut self) {
        if let Some((_, changed)) = &mut self.current {
            *changed = true;
        }
    }

    /// Hands the cursor's block to the archive if it was changed. With `enforce`, does so in any
    /// case.
    pub fn save(&mut self, enforce: bool) -> Result<()> {
        let index = self.index;
        let Some((data, changed)) = &self.current else { return Ok(()) };
        if !*changed && !enforce {
            return Ok(());
        }
        let data = data.clone();
        let touched = |_: &OpenStream| index..index.saturating_add(1);
        self.add(touched, |open, trees| {
            open.block_mut(trees, index)?.copy_from_slice(&data[..]);
            Ok(())
        })?;
        // Cleared only now, so that the next save tries again after a lack of space.
        if let Some((_, changed)) = &mut self.current {
            *changed = false;
        }
        Ok(())
    }

    /// Moves to the next block. Returns false at the last one.
    #[doc(alias = "next")]
    pub fn next_block(&mut self) -> Result<bool> {
        let next = self.index + 1;
        if next >= self.count()? {
            return Ok(false);
        }
        self.go(next)?;
        Ok(true)
    }

    /// Moves to the previous block. Returns false at the first one.
    #[doc(alias = "previous")]
    pub fn previous_block(&mut self) -> Result<bool> {
        match self.index.min(self.count()?).checked_sub(1) {
            Some(previous) => {
                self.go(previous)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Moves to the block with this index, or to the last block if the stream is shorter. Returns
    /// the index reached. Takes O(log n) at any index.
    pub fn wind(&mut self, index: u32) -> Result<u32> {
        let last = self.count()?.saturating_sub(1);
        self.go(index.min(last))?;
        Ok(self.index)
    }

    /// Moves to the last block.
    pub fn end(&mut self) -> Result<()> {
        self.wind(u32::MAX)?;
        Ok(())
    }

    /// Appends a blank block and moves to it. Returns false if the cursor is not at the last block.
    /// The length in bytes stays the same.
    pub fn extend(&mut self) -> Result<bool> {
        let count = self.count()?;
        if count > 0 && self.index + 1 != count {
            return Ok(false);
        }
        self.push(&Block::blank())?;
        Ok(true)
    }

    /// Appends a block with the data of `block` and moves to it. Ignores the links, index and
    /// stream in its head. The length in bytes stays the same.
    pub fn push(&mut self, block: &Block) -> Result<()> {
        self.save(false)?;
        let touched = |open: &OpenStream| open.touched_at_end(open.count);
        self.add(touched, |open, trees| open.push_block(trees, &block.data[..]).map(drop))?;
        self.end()
    }

    /// Removes the last block together with its bytes, and returns it. Returns `None` if the stream
    /// is empty.
    pub fn pop(&mut self) -> Result<Option<Block>> {
        self.save(false)?;
        let Some(last) = self.count()?.checked_sub(1) else { return Ok(None) };
        let Some(block) = self.block_at(last)? else { return Ok(None) };
        let length = self.len()?.min(u64::from(last) * DATA_SIZE_U64);
        self.current = None;
        let touched = |open: &OpenStream| open.touched_at_end(last);
        self.change(touched, |open, trees| open.truncate_blocks(trees, last, length))?;
        self.index = self.index.min(last.saturating_sub(1));
        Ok(Some(block))
    }

    /// Adds `change` to the length in bytes and returns the new length. Fails if the result is
    /// negative or exceeds the capacity of the blocks: no block is added or removed.
    #[doc(alias = "length")]
    pub fn adjust_length(&mut self, change: i64) -> Result<u64> {
        if change == 0 {
            return self.len();
        }
        self.change(|_| 0..0, |open, _| open.adjust_length(change))
    }

    /// Truncates the stream to `length` bytes, unless it is shorter. Returns the resulting length.
    pub fn truncate(&mut self, length: u64) -> Result<u64> {
        let length = length.min(self.len()?);
        self.set_len(length)?;
        Ok(length)
    }

    /// Returns an iterator over the blocks of the stream, which also works backwards.
    pub fn blocks(&mut self) -> Result<Blocks<'_>> {
        self.save(false)?;
        let count = self.count()?;
        Ok(Blocks { stream: self, next: 0, end: count })
    }

    fn go(&mut self, index: u32) -> Result<()> {
        if index != self.index {
            self.save(false)?;
            self.index = index;
            self.current = None;
        }
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        if self.current.is_none() {
            self.current = self.block_at(self.index)?.map(|block| (block.data, false));
        }
        Ok(())
    }
}

/// An iterator over the blocks of a stream, from either end. Skips blocks that a commit removes
/// meanwhile.
pub struct Blocks<'a> {
    stream: &'a Stream,
    next: u32,
    end: u32,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Block>;

    fn next(&mut self) -> Option<Result<Block>> {
        let index = (self.next < self.end).then_some(self.next)?;
        self.next += 1;
        let block = self.stream.block_at(index).transpose();
        if block.is_none() {
            self.end = index;
        }
        block
    }
}

impl DoubleEndedIterator for Blocks<'_> {
    fn next_back(&mut self) -> Option<Result<Block>> {
        while self.next < self.end {
            self.end -= 1;
            if let Some(block) = self.stream.block_at(self.end).transpose() {
                return Some(block);
            }
        }
        None
    }
}

const _: () = assert!(DATA_SIZE as u64 == DATA_SIZE_U64);
