//! A memory-mapped file as a device: it reads from the map and writes with `pwrite`.
//!
//! The map is read-only, so a full disk is an error of a write, never a signal. The bytes of the map are copied, never
//! borrowed, since the kernel changes them at any time.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError};

use crossbeam_utils::sync::ShardedLock;
use memmap2::MmapOptions;

use super::guard::GuardedMap;
use super::{Device, FileDevice, Locks, bytes_u64, region_end};
use crate::Result;
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position, Run};

/// Blocks of a segment: 1 GiB.
const SEGMENT_BLOCKS: u32 = 1 << 18;

/// Segments that hold the longest file.
const SEGMENTS: u32 = BLOCKS_MAX.div_ceil(SEGMENT_BLOCKS);

/// A device in a file, read through a map.
///
/// The map consists of segments of fixed offset and size, each mapped at its first read. A segment may reach beyond the
/// end of the file, and shows bytes that are added there later, so it is never remapped. Every read checks the known
/// length instead. A segment that cannot be mapped is read with `pread`.
///
/// An unreadable page, or a file that another program shortens, is an error of the read: a handler catches SIGBUS (see
/// `guard.rs`). The first map of the process installs it; a [`FileDevice`] needs none.
pub struct MappedDevice {
    file: FileDevice,
    segment_bytes: usize,
    /// `None` if the system refused the map.
    segments: Box<[OnceLock<Option<GuardedMap>>]>,
    /// Reads share it; shortening the file takes it exclusively. Sharded, since a single lock would be one cache line
    /// that every core writes at each read.
    shrinking: ShardedLock<()>,
}

impl MappedDevice {
    /// Maps `file` for reading.
    pub fn new(file: FileDevice) -> MappedDevice {
        MappedDevice::with_segments(file, SEGMENT_BLOCKS, SEGMENTS)
    }

    /// Returns the mapped file, for its locks and path.
    pub fn file(&self) -> &FileDevice {
        &self.file
    }

    /// Maps `file` in up to `segments` segments of `segment_blocks`. The rest is not mapped.
    pub(super) fn with_segments(
        file: FileDevice,
        segment_blocks: u32,
        segments: u32,
    ) -> MappedDevice {
        let blocks = usize::try_from(segment_blocks).expect("a segment fits in memory");
        MappedDevice {
            file,
            segment_bytes: blocks * BLOCK_SIZE,
            segments: (0..segments).map(|_| OnceLock::new()).collect(),
            shrinking: ShardedLock::new(()),
        }
    }

    /// Returns the number of mapped segments.
    pub(super) fn mapped_segments(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment.get(), Some(Some(_)))).count()
    }

    /// Returns the map of a segment, which the first call creates. `None` if the system refuses it.
    fn segment(&self, number: u64) -> Option<&GuardedMap> {
        let segment = self.segments.get(usize::try_from(number).ok()?)?;
        segment
            .get_or_init(|| {
                MmapOptions::new()
                    .offset(number * bytes_u64(self.segment_bytes))
                    .len(self.segment_bytes)
                    .map_raw_read_only(self.file.file())
                    .ok()
                    .and_then(GuardedMap::new)
            })
            .as_ref()
    }
}

impl Device for MappedDevice {
    fn locks(&self) -> Arc<dyn Locks> {
        self.file.locks()
    }

    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        // The lock before the check: the length must not fall until the last byte is copied.
        let _shared = self.shrinking.read().unwrap_or_else(PoisonError::into_inner);
        region_end(start, bytes.len(), self.file.known_bytes())?;
        let segment_bytes = bytes_u64(self.segment_bytes);
        let mut offset = start.offset();
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = usize::try_from(offset % segment_bytes).expect("less than a segment");
            let length = rest.len().min(self.segment_bytes - within);
            let (piece, after) = rest.split_at_mut(length);
            // A segment that lost a page is never used again: its zeros may not be the file's.
            let map = self.segment(offset / segment_bytes);
            if !map.is_some_and(|map| map.copy_to(within, piece)) {
                self.file.read_at(offset, piece)?;
            }
            offset += bytes_u64(length);
            rest = after;
        }
        Ok(())
    }

    fn read_unmapped(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.file.read(start, bytes)
    }

    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.file.read_direct(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.file.write(start, bytes)
    }

    fn write_direct(&self, start: Position, bytes: &[u8]) -> Result<bool> {
        self.file.write_direct(start, bytes)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.file.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        let _exclusive = self.shrinking.write().unwrap_or_else(PoisonError::into_inner);
        self.file.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.file.length_bytes()
    }

    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        self.file.read_beginning(length)
    }

    fn start_write_back(&self, run: Run) -> Result<()> {
        self.file.start_write_back(run)
    }
}

impl fmt::Debug for MappedDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MappedDevice")
            .field("file", &self.file)
            .field("segment_blocks", &(bytes_u64(self.segment_bytes) / BLOCK_SIZE_U64))
            .field("mapped_segments", &self.mapped_segments())
            .finish_non_exhaustive()
    }
}
