//! Reading packed content: the frames of a slice are found, read from their packs, decoded and checked.

use std::sync::Arc;

use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::packs::{DecodedFrame, FrameCache, HEAD_SIZE, decode, read_head};
use crate::records::{Frame, Frames, ReadRecords, Stored};

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

/// Fills `bytes` with the content from an address on.
pub(crate) fn read_packed(
    records: &impl ReadRecords,
    packs: &impl PackReader,
    first: u64,
    bytes: &mut [u8],
) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let at = first + done as u64;
        let (begin, frame) = frame_at(records, at)?;
        let left = frame.length - (at - begin);
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - done);
        let into = &mut bytes[done..done + part];
        match frame.stored {
            None => into.fill(0),
            Some(stored) => {
                let content = load_frame(packs, begin, &frame, stored)?;
                let within = usize::try_from(at - begin).expect("a frame is short");
                into.copy_from_slice(&content.bytes[within..within + part]);
            }
        }
        done += part;
    }
    Ok(())
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
    let mut bytes = Zeroizing::new(vec![0; index(stored.length) + index(HEAD_SIZE)]);
    let read = packs.read_pack(stored.pack, stored.offset.into(), &mut bytes)?;
    if read < bytes.len() {
        return Err(damaged(bytes.len(), read));
    }
    let (head, payload) = bytes.split_at(index(HEAD_SIZE));
    let head = read_head(head.try_into().expect("the length of a head"))?;
    let is_expected = !ar7_engine::fault!(AnyFrame);
    if is_expected && (head.first, head.stored) != (first, stored.length) {
        return Err(damaged(first, head.first));
    }
    if is_expected && (u64::from(head.length), head.method) != (frame.length, stored.method) {
        return Err(damaged(frame.length, head.length));
    }
    let content = Arc::new(decode(&head, payload)?);
    packs.cache().insert(stored.pack, stored.offset, &content);
    Ok(content)
}

fn index(length: u32) -> usize {
    usize::try_from(length).expect("a u32 fits")
}

fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Frame, expected, found).into()
}
