//! The archive's file, as a device of blocks.
//!
//! The engine reads and writes only through [`Device`], so a test can simulate the disk. A device knows positions and
//! bytes. It knows no keys and no commits, and assumes nothing about the bytes.

mod create;
mod direct;
mod file;
mod flock;
mod guard;
mod lock;
mod mapped;
mod memory;
mod range_lock;
#[cfg(any(test, feature = "testing"))]
pub mod simulated;
#[cfg(test)]
mod tests;
mod write_back;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position, Run};
use crate::{Error, Result};

pub use create::{NewFile, remove_abandoned};
pub(crate) use direct::page_aligned;
pub use file::{Access, FileDevice};
#[cfg(any(test, feature = "testing"))]
pub use lock::LockTable;
pub use lock::{Locks, Sharing, Unshared};
pub use mapped::MappedDevice;
pub use memory::{MemoryDevice, MemorySnapshot};

/// Blocks at positions: read, write, sync, grow and shrink.
///
/// Any number of threads may read while one writes. A read that overlaps a write of the same block may return a mixture
/// of old and new bytes; the block's authentication tag detects it.
pub trait Device: Send + Sync {
    /// Reads whole blocks from `start`. Fails with [`Error::Truncated`] if the file ends before the last one.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()>;

    /// Reads like [`read`](Device::read), but never through a memory map.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read_unmapped(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.read(start, bytes)
    }

    /// Reads like [`read_unmapped`](Device::read_unmapped), but bypasses the page cache if
    /// [`write_direct`](Device::write_direct) has bypassed it.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.read_unmapped(start, bytes)
    }

    /// Writes whole blocks from `start`. Fails with [`Error::Truncated`] if they do not lie within the length: only
    /// [`grow`](Device::grow) makes a device longer.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn write(&self, start: Position, bytes: &[u8]) -> Result<()>;

    /// Writes like [`write`](Device::write), but bypasses the page cache. Meant for large runs; the address of `bytes`
    /// must be a multiple of 4096. Returns false if it is not supported: the content of the run is then undefined
    /// until the caller writes it with [`write`](Device::write).
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn write_direct(&self, _start: Position, _bytes: &[u8]) -> Result<bool> {
        Ok(false)
    }

    /// Waits until all completed writes and the length are on stable storage.
    fn sync(&self) -> Result<()>;

    /// Makes the device at least `blocks` long, and reserves the storage; new blocks read as zeros. A failure leaves the
    /// length unchanged; a full disk is [`Error::NoSpace`].
    fn grow(&self, blocks: u32) -> Result<()>;

    /// Makes the device at most `blocks` long.
    ///
    /// A concurrent read beyond `blocks` returns the old bytes or [`Error::Truncated`]. The caller must have no write
    /// in flight there, since it would make the file longer again.
    fn shrink(&self, blocks: u32) -> Result<()>;

    /// Returns the current length in bytes, which may not be a whole number of blocks.
    fn length_bytes(&self) -> Result<u64>;

    /// Reads the first `length` bytes, or all of a shorter device. This default reads whole blocks: it returns
    /// nothing from a device shorter than one block.
    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        if self.length_bytes()? < BLOCK_SIZE_U64 {
            return Ok(Vec::new());
        }
        let mut block = vec![0; BLOCK_SIZE];
        self.read(Position::at(0), &mut block)?;
        block.truncate(length);
        Ok(block)
    }

    /// Returns the locks of this open of the device. A device that no other process can open has none.
    fn locks(&self) -> Arc<dyn Locks> {
        Arc::new(Unshared)
    }

    /// Starts to write `run` to stable storage and does not wait, so that the next [`sync`](Device::sync) has less to
    /// write. A hint without a guarantee.
    fn start_write_back(&self, _run: Run) -> Result<()> {
        Ok(())
    }
}

/// Returns the end offset of `length` bytes from `start`. Fails with [`Error::Truncated`] if it exceeds
/// `device_bytes`.
fn region_end(start: Position, length: usize, device_bytes: u64) -> Result<u64> {
    assert!(length.is_multiple_of(BLOCK_SIZE), "devices move whole blocks");
    let end = start.offset().saturating_add(bytes_u64(length));
    if end > device_bytes {
        return Err(Error::Truncated { expected_bytes: end, found_bytes: device_bytes });
    }
    Ok(end)
}

/// Returns the length in bytes of a device of `blocks`. Fails with [`Error::Full`] if the format does not allow that
/// many.
fn device_bytes(blocks: u32) -> Result<u64> {
    if blocks > BLOCKS_MAX {
        return Err(Error::Full { what: "number of blocks", limit: u64::from(BLOCKS_MAX) });
    }
    Ok(u64::from(blocks) * BLOCK_SIZE_U64)
}

/// Converts a length in memory to a length in the file.
fn bytes_u64(length: usize) -> u64 {
    u64::try_from(length).expect("memory is no larger than 64 bits can count")
}

/// Returns the smaller of `length` and `available_bytes`.
fn fitting(length: usize, available_bytes: u64) -> usize {
    usize::try_from(available_bytes).map_or(length, |available| available.min(length))
}

/// Creates the error for a failed system call: [`Error::NoSpace`] for a full disk, a quota or a limit on file sizes.
fn refused(
    operation: &'static str,
    path: Option<&Path>,
    needed_blocks: u64,
    source: io::Error,
) -> Error {
    if is_no_space(&source) {
        return Error::NoSpace { needed_blocks, source: Arc::new(source) };
    }
    let error = Error::io(operation, source);
    match path {
        Some(path) => error.at_path(path),
        None => error,
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
