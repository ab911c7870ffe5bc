//! The file underneath, as a device of blocks.
//!
//! Everything that the engine reads and writes goes through [`Device`], so that a test can be
//! the disk. A device knows positions and bytes; it knows no key and no commit, and it
//! believes nothing about the bytes.

mod create;
mod direct;
mod file;
mod gate;
mod guard;
mod lock;
mod mapped;
mod memory;
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

pub use create::NewFile;
pub(crate) use direct::AlignedBuffer;
pub use file::{Access, FileDevice};
pub use mapped::MappedDevice;
pub use memory::{MemoryDevice, MemorySnapshot};

/// Blocks at positions, which can be read, written, made durable, and grown at the end.
///
/// Any number of threads may read while one writes. A read of a block that is written at the
/// same moment may return a mixture of the old bytes and the new; it is for the reader to
/// notice, and the authentication tag does.
pub trait Device: Send + Sync {
    /// Reads whole blocks from `start` on. [`Error::Truncated`] if they are not all in the file.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()>;

    /// Reads like [`read`](Device::read), but from the file itself where that looks at a map.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read_unmapped(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.read(start, bytes)
    }

    /// Reads like [`read_unmapped`](Device::read_unmapped), but past the page cache
    /// where something was written past it.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.read_unmapped(start, bytes)
    }

    /// Writes whole blocks from `start` on. They must lie within the length: a device grows
    /// only by [`grow`](Device::grow), [`Error::Truncated`] otherwise.
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn write(&self, start: Position, bytes: &[u8]) -> Result<()>;

    /// Writes like [`write`](Device::write), but past the page cache where there is one: for large runs, in bytes that
    /// begin at a multiple of 4096 in memory. False if it cannot be done; nothing is promised then of what is in the
    /// run, which is to be written by [`write`](Device::write).
    ///
    /// # Panics
    /// If `bytes` is not a whole number of blocks.
    fn write_direct(&self, _start: Position, _bytes: &[u8]) -> Result<bool> {
        Ok(false)
    }

    /// Returns once everything written so far, and the length, are on stable storage.
    fn sync(&self) -> Result<()>;

    /// Makes the device at least `blocks` long, with storage reserved and zeros read from what
    /// is new. On failure the length is what it was; without room it is [`Error::NoSpace`].
    fn grow(&self, blocks: u32) -> Result<()>;

    /// Makes the device at most `blocks` long.
    ///
    /// A read in what goes returns the bytes or [`Error::Truncated`], whichever comes first. A
    /// write there would bring the length back: the caller sees to it that none is under way.
    fn shrink(&self, blocks: u32) -> Result<()>;

    /// The length now, in bytes; it need not be a whole number of blocks.
    fn length_bytes(&self) -> Result<u64>;

    /// The first bytes, at most `length` of them; fewer where the device is shorter. One that
    /// reads whole blocks only, as this default does, shows nothing of less than a block.
    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        if self.length_bytes()? < BLOCK_SIZE_U64 {
            return Ok(Vec::new());
        }
        let mut block = vec![0; BLOCK_SIZE];
        self.read(Position::at(0), &mut block)?;
        block.truncate(length);
        Ok(block)
    }

    /// Starts writing `run` to stable storage without waiting for it, so that the next
    /// [`sync`](Device::sync) has less to do. Promises nothing.
    fn start_write_back(&self, _run: Run) -> Result<()> {
        Ok(())
    }
}

/// Offset of the first byte after `length` bytes from `start`, if they lie within `device_bytes`.
fn region_end(start: Position, length: usize, device_bytes: u64) -> Result<u64> {
    assert!(length.is_multiple_of(BLOCK_SIZE), "devices move whole blocks");
    let end = start.offset().saturating_add(bytes_u64(length));
    if end > device_bytes {
        return Err(Error::Truncated { expected_bytes: end, found_bytes: device_bytes });
    }
    Ok(end)
}

/// Length in bytes of a device of `blocks`, if the format has as many.
fn device_bytes(blocks: u32) -> Result<u64> {
    if blocks > BLOCKS_MAX {
        return Err(Error::Full { what: "number of blocks", limit: u64::from(BLOCKS_MAX) });
    }
    Ok(u64::from(blocks) * BLOCK_SIZE_U64)
}

/// A length in memory as a length in the file.
fn bytes_u64(length: usize) -> u64 {
    u64::try_from(length).expect("memory is no larger than 64 bits can count")
}

/// `length`, or as much of it as `available_bytes` in the file allow.
fn fitting(length: usize, available_bytes: u64) -> usize {
    usize::try_from(available_bytes).map_or(length, |available| available.min(length))
}

/// The error for what the system refused; a full disk, quota or file system is one of its own.
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
