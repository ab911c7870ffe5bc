//! A memory-mapped file as a device: reads come from a map, writes go by `pwrite`.
//!
//! The map is read-only. A full disk is therefore an error of a write, never a signal, and the
//! bytes of the map are never borrowed, only copied: the kernel changes them under us.

use std::fmt;
use std::sync::OnceLock;

use memmap2::MmapOptions;

use super::gate::Gate;
use super::guard::GuardedMap;
use super::{Device, FileDevice, bytes_u64, region_end};
use crate::Result;
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position, Run};

/// Blocks of a segment: 1 GiB.
const SEGMENT_BLOCKS: u32 = 1 << 18;

/// Segments that hold the longest file.
const SEGMENTS: u32 = BLOCKS_MAX.div_ceil(SEGMENT_BLOCKS);

/// A device in a file, read through a map.
///
/// The map is made of segments of fixed place and size, each mapped when first read. A segment
/// may reach beyond the end of the file and shows what is added there later, so it is never
/// moved nor made anew; what guards the end is the known length, which every read checks.
/// What cannot be mapped is read like a plain file.
///
/// A medium that cannot give a page back, or a file that another program shortens while it is
/// read, is an error: the signal that the system raises is handled where the map is read. The
/// handler is installed with the first map of the process; a [`FileDevice`] needs none.
pub struct MappedDevice {
    file: FileDevice,
    segment_bytes: usize,
    /// `None` where the system refused the map.
    segments: Box<[OnceLock<Option<GuardedMap>>]>,
    /// Shut while the file is shortened, so that no read is under way in what goes.
    gate: Gate,
}

impl MappedDevice {
    /// Maps `file` for reading.
    pub fn new(file: FileDevice) -> MappedDevice {
        MappedDevice::with_segments(file, SEGMENT_BLOCKS, SEGMENTS)
    }

    /// The file beneath, for its locks and path.
    pub fn file(&self) -> &FileDevice {
        &self.file
    }

    /// Maps `file` in up to `segments` segments of `segment_blocks`; what lies beyond is not
    /// mapped.
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
            gate: Gate::new(),
        }
    }

    /// Number of segments that are mapped by now.
    pub(super) fn mapped_segments(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment.get(), Some(Some(_)))).count()
    }

    /// The map of a segment, made now if it was not yet; `None` if it cannot be had.
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
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        // The gate first: the length must stay true until the last byte is copied.
        let _passage = self.gate.pass();
        region_end(start, bytes.len(), self.file.known_bytes())?;
        let segment_bytes = bytes_u64(self.segment_bytes);
        let mut offset = start.offset();
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = usize::try_from(offset % segment_bytes).expect("less than a segment");
            let length = rest.len().min(self.segment_bytes - within);
            let (piece, after) = rest.split_at_mut(length);
            // A segment that has lost a page is left for good: what is zeros in it is not known any more.
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
        let _shut = self.gate.shut();
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
