//! What a file object reads and writes.

use crate::error::Result;

/// The most blocks of a stream that a sequential read opens at once: as many as are hashed together.
const WINDOW_BLOCKS: usize = 16;

/// The bytes behind a [`super::StreamFile`]. Content that never changes refuses the calls that would change it, with
/// [`ar7_engine::Error::ReadOnly`].
pub trait Content {
    /// Returns the length in bytes.
    fn len(&self) -> Result<u64>;

    /// Returns whether there are no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns a value that changes whenever a read could find other bytes, except through this
    /// object. Fails if a read would.
    fn version(&self) -> Result<u64>;

    /// Reads from `offset`, at most to the end. Returns the number of bytes read, which is smaller
    /// than the length of `bytes` only at the end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize>;

    /// Returns how far a small sequential read may read ahead, in blocks.
    fn window_blocks(&self) -> usize {
        WINDOW_BLOCKS
    }

    /// Writes bytes from an offset on. A gap between the old end and the offset reads as zeros.
    fn write_at(&mut self, _: u64, _: &[u8]) -> Result<()> {
        Err(ar7_engine::Error::ReadOnly.into())
    }

    /// Writes at the end.
    fn append(&mut self, _: &[u8]) -> Result<()> {
        Err(ar7_engine::Error::ReadOnly.into())
    }

    /// Sets the length in bytes. Added bytes read as zeros.
    fn set_len(&mut self, _: u64) -> Result<()> {
        Err(ar7_engine::Error::ReadOnly.into())
    }

    /// Hands everything that was written to the archive's open transaction.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
