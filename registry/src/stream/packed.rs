//! The content of a file as one commit has it.

use uuid::Uuid;

use super::content::Content;
use super::pinned::{PinnedStream, read_sealed, recorded};
use crate::blocks::{PackReader, frame_at, read_packed_in_parallel};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::packs::FrameCache;

/// The most blocks of packed content that a sequential read reads at once: a MiB, whose frames all cores decode.
const PACKED_WINDOW_BLOCKS: usize = 256;

/// The content of a file of a [`Snapshot`], in a stream of its own or packed.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// A stream of its own.
    Stream(PinnedStream),
    /// A slice of the packed content.
    Packed(PackedContent),
}

/// A slice of the packed content.
#[derive(Debug, Clone)]
pub struct PackedContent {
    snapshot: Snapshot,
    first: u64,
    length: u64,
}

impl PackedContent {
    pub(crate) fn new(snapshot: &Snapshot, first: u64, length: u64) -> PackedContent {
        PackedContent { snapshot: snapshot.clone(), first, length }
    }

    /// Returns whether an offset is in a hole, and the number of bytes to the end of its frame or of the content.
    fn frame_at(&self, offset: u64) -> Result<(bool, u64)> {
        if offset >= self.length {
            return Ok((false, 0));
        }
        let address = self.first + offset;
        let (begin, frame) = frame_at(&self.snapshot, address)?;
        let left = frame.length - (address - begin);
        Ok((frame.stored.is_none(), left.min(self.length - offset)))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let available = self.length.saturating_sub(offset);
        if available == 0 {
            // The address may be beyond all numbers.
            return Ok(0);
        }
        let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
        let (records, packs) = (&self.snapshot, &self.snapshot);
        read_packed_in_parallel(records, packs, self.first + offset, &mut bytes[..wanted])?;
        Ok(wanted)
    }
}

impl PackReader for Snapshot {
    fn cache(&self) -> &FrameCache {
        self.frames()
    }

    fn read_pack(&self, pack: Uuid, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        read_sealed(self, &recorded(self, pack)?, offset, bytes)
    }
}

impl FileContent {
    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            FileContent::Stream(stream) => stream.len(),
            FileContent::Packed(packed) => packed.length,
        }
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the stream, unless the content is packed.
    pub fn stream(&self) -> Option<Uuid> {
        match self {
            FileContent::Stream(stream) => Some(stream.identity()),
            FileContent::Packed(_) => None,
        }
    }

    /// Reads bytes from `offset`, at most to the end. Returns the number of bytes read.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        match self {
            FileContent::Stream(stream) => stream.read_at(offset, bytes),
            FileContent::Packed(packed) => packed.read_at(offset, bytes),
        }
    }

    /// Returns the number of bytes from `offset` on that are in a hole: zeros that take no space.
    pub fn hole_at(&self, offset: u64) -> Result<u64> {
        match self {
            FileContent::Stream(_) => Ok(0),
            FileContent::Packed(packed) => match packed.frame_at(offset)? {
                (true, length) => Ok(length),
                (false, _) => Ok(0),
            },
        }
    }

    /// Returns the number of bytes from `offset` on that are surely not in a hole. More may follow.
    pub fn data_at(&self, offset: u64) -> Result<u64> {
        match self {
            FileContent::Stream(stream) => Ok(stream.len().saturating_sub(offset)),
            FileContent::Packed(packed) => match packed.frame_at(offset)? {
                (true, _) => Ok(0),
                (false, length) => Ok(length),
            },
        }
    }

    fn snapshot(&self) -> &Snapshot {
        match self {
            FileContent::Stream(stream) => stream.snapshot(),
            FileContent::Packed(packed) => &packed.snapshot,
        }
    }
}

impl Content for FileContent {
    fn len(&self) -> Result<u64> {
        Ok(FileContent::len(self))
    }

    fn window_blocks(&self) -> usize {
        match self {
            FileContent::Stream(stream) => stream.window_blocks(),
            FileContent::Packed(_) => PACKED_WINDOW_BLOCKS,
        }
    }

    fn version(&self) -> Result<u64> {
        self.snapshot().store().check_usable()?;
        Ok(self.snapshot().commit().slot.number)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        FileContent::read_at(self, offset, bytes)
    }
}
