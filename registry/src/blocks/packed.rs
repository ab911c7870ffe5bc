//! Reading packed content: the frames of a slice are found, read from their packs, decoded and checked.

use std::sync::Arc;

use ar7_engine::format::DATA_SIZE_U64;
use ar7_engine::{Check, Error as EngineError, Value, in_pool};
use rayon::prelude::*;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::packs::{
    Content, DecodedFrame, Encoded, FrameCache, HEAD_SIZE, Head, Slice, Wiped, decode, read_head,
};
use crate::records::{DeadSlices, Frame, Frames, InodeNumber, Inodes, ReadRecords, Stored};

/// Where packs are read.
pub(crate) trait PackReader {
    /// Returns the cache of decoded frames.
    fn cache(&self) -> &FrameCache;

    /// Reads bytes of a pack, at most to its end. Returns their number.
    fn read_pack(&self, pack: Uuid, offset: u64, bytes: &mut [u8]) -> Result<usize>;
}

/// Returns the frame that covers an address, with its first address.
pub(crate) fn frame_at(records: &impl ReadRecords, address: u64) -> Result<(u64, Frame)> {
    let found = records.floor::<Frames>(&address)?;
    let found = found.filter(|(first, frame)| address - first < frame.length);
    Ok(found.ok_or_else(|| EngineError::damaged(None, Check::Frame, address, "no frame"))?)
}

/// Returns the first frame of a pack from `offset` on, with its offset. `length` is that of the pack.
pub(crate) fn next_frame(
    packs: &impl PackReader,
    (pack, length): (Uuid, u64),
    mut offset: u64,
) -> Result<Option<(u64, Head)>> {
    while offset < length {
        let mut bytes = [0; HEAD_SIZE as usize];
        let read = packs.read_pack(pack, offset, &mut bytes)?;
        if bytes[..4] == [0; 4] {
            // The rest of the block is unused.
            offset = offset.saturating_add(1).next_multiple_of(DATA_SIZE_U64);
            continue;
        }
        if read < bytes.len() {
            return Err(damaged(bytes.len(), read));
        }
        return read_head(&bytes).map(|head| Some((offset, head)));
    }
    Ok(None)
}

/// Returns the content of a frame.
pub(crate) fn content_at(
    packs: &impl PackReader,
    pack: Uuid,
    offset: u64,
    head: &Head,
) -> Result<Content> {
    let mut bytes = Wiped::from(vec![0; index(head.stored)]);
    let read = packs.read_pack(pack, offset + u64::from(HEAD_SIZE), &mut bytes)?;
    if read < bytes.len() {
        return Err(damaged(bytes.len(), read));
    }
    decode(head, &bytes)
}

/// Returns whether a slice of a frame belongs to its inode.
pub(crate) fn is_of_inode(records: &impl ReadRecords, first: u64, slice: &Slice) -> Result<bool> {
    let inode = records.get::<Inodes>(&InodeNumber(slice.inode))?;
    let of_inode = inode.and_then(|inode| Some((inode.slice?, inode.size)));
    Ok(of_inode.is_some_and(|range| slice.is_within(first, range)))
}

/// Returns whether a slice of a frame belongs to its inode, or to a deleted file whose frames are not all free yet.
pub(crate) fn is_live(records: &impl ReadRecords, first: u64, slice: &Slice) -> Result<bool> {
    let dead = records.floor::<DeadSlices>(&(first + u64::from(slice.start)))?;
    let is_dead_slice = dead.is_some_and(|range| slice.is_within(first, range));
    Ok(is_dead_slice || is_of_inode(records, first, slice)?)
}

/// Number of frames that are found before they are read. A hostile archive can have one for each byte.
const PARTS_MAX: usize = 128;

/// Fills `bytes` with the content from an address on.
pub(crate) fn read_packed(
    records: &impl ReadRecords,
    packs: &impl PackReader,
    first: u64,
    bytes: &mut [u8],
) -> Result<()> {
    in_parts(records, first, bytes, |parts| parts.into_iter().try_for_each(|part| part.fill(packs)))
}

/// Does the same on all cores, if the content is in several frames.
pub(crate) fn read_packed_in_parallel(
    records: &impl ReadRecords,
    packs: &(impl PackReader + Sync),
    first: u64,
    bytes: &mut [u8],
) -> Result<()> {
    in_parts(records, first, bytes, |parts| {
        if parts.len() == 1 {
            return parts.into_iter().try_for_each(|part| part.fill(packs));
        }
        in_pool(|| parts.into_par_iter().try_for_each(|part| part.fill(packs)))
    })
}

/// The bytes to read of one frame.
struct Part<'b> {
    /// The first address of the frame.
    begin: u64,
    frame: Frame,
    /// Offset of the bytes in the content of the frame.
    within: u64,
    into: &'b mut [u8],
}

/// Finds the frames that cover `bytes`, from an address on, and passes some at a time.
fn in_parts(
    records: &impl ReadRecords,
    first: u64,
    bytes: &mut [u8],
    fill: impl Fn(Vec<Part<'_>>) -> Result<()>,
) -> Result<()> {
    let (mut at, mut rest) = (first, bytes);
    while !rest.is_empty() {
        let mut parts = Vec::new();
        while !rest.is_empty() && parts.len() < PARTS_MAX {
            let (begin, frame) = frame_at(records, at)?;
            let left = usize::try_from(frame.length - (at - begin)).unwrap_or(usize::MAX);
            let part = left.min(rest.len());
            let (into, after) = std::mem::take(&mut rest).split_at_mut(part);
            let within = at - begin;
            at += into.len() as u64;
            parts.push(Part { begin, frame, within, into });
            rest = after;
        }
        fill(parts)?;
    }
    Ok(())
}

impl Part<'_> {
    fn fill(self, packs: &impl PackReader) -> Result<()> {
        let Some(stored) = self.frame.stored else {
            self.into.fill(0);
            return Ok(());
        };
        let content = load_frame(packs, self.begin, &self.frame, stored)?;
        let within = usize::try_from(self.within).expect("a frame is short");
        self.into.copy_from_slice(&content.bytes[within..within + self.into.len()]);
        Ok(())
    }
}

/// Returns the content of a frame, from the cache or from its pack.
fn load_frame(
    packs: &impl PackReader,
    first: u64,
    frame: &Frame,
    stored: Stored,
) -> Result<DecodedFrame> {
    if let Some(found) = packs.cache().get(stored.pack, stored.offset)
        && found.first == first
        && found.bytes.len() as u64 == frame.length
    {
        return Ok(found);
    }
    let read = read_frame(packs, first, frame, stored)?;
    let content = Arc::new(decode(&read.head, read.payload())?);
    packs.cache().insert(stored.pack, stored.offset, &content);
    Ok(content)
}

/// Reads a frame from its pack. Its head must agree with its record.
pub(crate) fn read_frame(
    packs: &impl PackReader,
    first: u64,
    frame: &Frame,
    stored: Stored,
) -> Result<Encoded> {
    let mut bytes = Wiped::from(vec![0; index(stored.length) + index(HEAD_SIZE)]);
    let read = packs.read_pack(stored.pack, stored.offset.into(), &mut bytes)?;
    let Some(head) = bytes.first_chunk().filter(|_| read == bytes.len()) else {
        return Err(damaged(bytes.len(), read));
    };
    let head = read_head(head)?;
    let is_expected = !ar7_engine::fault!(AnyFrame);
    if is_expected && (head.first, head.stored) != (first, stored.length) {
        return Err(damaged(first, head.first));
    }
    if is_expected && (u64::from(head.length), head.method) != (frame.length, stored.method) {
        return Err(damaged(frame.length, head.length));
    }
    Ok(Encoded { head, bytes })
}

fn index(length: u32) -> usize {
    usize::try_from(length).expect("a u32 fits")
}

fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Frame, expected, found).into()
}
