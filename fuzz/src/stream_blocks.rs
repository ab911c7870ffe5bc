//! A model of the blocks of a stream, shared by the operations of a cursor and by the crash tests.

use ar7_engine::format::DATA_SIZE;

/// The data of every block of a stream, including blocks beyond its length.
#[derive(Clone, Default)]
pub(crate) struct StreamBlocks {
    /// The data of the blocks, one after another.
    pub(crate) bytes: Vec<u8>,
    /// The length of the stream in bytes.
    pub(crate) length: usize,
}

impl StreamBlocks {
    /// Returns the number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.bytes.len() / DATA_SIZE
    }

    /// Returns the end of the blocks that the length needs.
    pub(crate) fn needed(&self) -> usize {
        self.length.next_multiple_of(DATA_SIZE)
    }

    /// Returns the data of a block.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.bytes.chunks_exact(DATA_SIZE).nth(index)
    }

    /// Returns the data of a block, to be changed.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.bytes.chunks_exact_mut(DATA_SIZE).nth(index)
    }

    /// Appends a block, which does not change the length.
    pub(crate) fn push(&mut self, data: &[u8; DATA_SIZE]) {
        self.bytes.extend_from_slice(data);
    }

    /// Removes and returns the last block.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        let last = self.bytes.len().checked_sub(DATA_SIZE)?;
        let popped = self.bytes.split_off(last);
        self.length = self.length.min(last);
        Some(popped)
    }

    /// Sets the length. Added bytes read as zeros, even where blocks hold other bytes beyond the end.
    pub(crate) fn set_length(&mut self, length: usize) {
        let needed = length.next_multiple_of(DATA_SIZE);
        if length > self.length {
            self.bytes[self.length..].fill(0);
            self.bytes.resize(self.bytes.len().max(needed), 0);
        } else {
            self.bytes.truncate(needed);
        }
        self.length = length;
    }

    /// Writes bytes at an offset. A gap before it reads as zeros.
    pub(crate) fn write(&mut self, offset: usize, new: &[u8]) {
        if new.is_empty() {
            return;
        }
        if offset > self.length {
            self.set_length(offset);
        }
        let end = offset + new.len();
        self.bytes.resize(self.bytes.len().max(end.next_multiple_of(DATA_SIZE)), 0);
        self.bytes[offset..end].copy_from_slice(new);
        self.length = self.length.max(end);
    }
}
