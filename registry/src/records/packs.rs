//! Frames and packs: where packed content is.

use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;

use super::{Record, TreeId, exactly};
use crate::error::{Error, Result};
use crate::packs::{BLOCK_BYTES, FRAME_MAX, HEAD_SIZE, Head, Method, STORED_MAX};

/// What a pack has in place of the number of an inode.
pub const PACK_OWNER: NonZeroU64 = NonZeroU64::MAX;

/// The end of the address space of packed content.
pub const ADDRESS_MAX: u64 = 1 << 63;

ar7_engine::layout! {
    /// Where the bytes from one address on are.
    pub mod frame_layout, 49 => {
        PACK: 16, "UUID of the pack; 0 for a hole";
        OFFSET: 4, "u32: offset of the frame's head in the pack; 0 for a hole";
        STORED: 4, "u32: length in the pack in bytes, without the head; 0 for a hole";
        LENGTH: 8, "u64: number of addresses that it covers";
        WRITTEN: 8, "u64: how many of them belonged to files when it was written";
        LIVE: 8, "u64: how many of them belong to files";
        METHOD: 1, "u8: 0 hole, 1 raw, 2 zstd";
    }
}

ar7_engine::layout! {
    /// How much of a pack is in use.
    pub mod pack_layout, 8 => {
        USED: 4, "u32: sum of the lengths of its frames, with their heads";
        LIVE: 4, "u32: the part of it that belongs to files";
    }
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The pack.
    pub pack: Uuid,
    /// Offset of the frame's head in the pack.
    pub offset: u32,
    /// Length in the pack in bytes, without the head.
    pub length: u32,
    /// How the content is encoded.
    pub method: Method,
}

/// The content at consecutive addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number of addresses that it covers.
    pub length: u64,
    /// How many of them belonged to files when the frame was written.
    pub written: u64,
    /// How many of them belong to files.
    pub live: u64,
    /// Where the content is. A hole is nowhere, and reads as zeros.
    pub stored: Option<Stored>,
}

impl Frame {
    /// Returns the number of bytes that the frame takes in its pack.
    pub(crate) fn used(&self) -> u32 {
        self.stored.map_or(0, |stored| stored.length.saturating_add(HEAD_SIZE))
    }

    /// Returns whether this is the record of the frame with a head at an offset of a pack.
    pub(crate) fn is_of(&self, pack: Uuid, offset: u64, head: &Head) -> bool {
        self.length == u64::from(head.length)
            && self.stored.is_some_and(|stored| {
                stored.pack == pack
                    && u64::from(stored.offset) == offset
                    && stored.length == head.stored
                    && stored.method == head.method
            })
    }

    /// Returns the pack, and the blocks of it that the frame is in. A hole is in none.
    pub(crate) fn blocks(&self) -> Option<(Uuid, RangeInclusive<u32>)> {
        let Stored { pack, offset, .. } = self.stored?;
        let last = offset.saturating_add(self.used() - 1);
        Some((pack, offset / BLOCK_BYTES..=last / BLOCK_BYTES))
    }

    /// Returns how many of these bytes count as live: in proportion to the live addresses.
    pub(crate) fn live_bytes(&self) -> u32 {
        let part = u32::try_from(self.part_of(self.live)).expect("at most the bytes in use");
        // A wipe must notice every dead address.
        if self.live < self.written { part.min(self.used().saturating_sub(1)) } else { part }
    }

    /// Returns the part of these bytes that some of the addresses take.
    pub(crate) fn part_of(&self, addresses: u64) -> u64 {
        let part = u128::from(self.used()) * u128::from(addresses.min(self.written));
        u64::try_from(part.div_ceil(u128::from(self.written))).expect("at most the bytes in use")
    }

    fn check(&self) -> Result<()> {
        let most = if self.stored.is_some() { FRAME_MAX as u64 } else { ADDRESS_MAX };
        let is_possible = (1..=most).contains(&self.length)
            && (1..=self.length).contains(&self.written)
            && (1..=self.written).contains(&self.live)
            && self.stored.is_none_or(|stored| {
                (1..=STORED_MAX).contains(&stored.length) && !stored.pack.is_nil()
            });
        if is_possible { Ok(()) } else { Err(damaged("possible lengths", self.length)) }
    }
}

/// How much of a pack is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pack {
    /// Sum of the lengths of its frames in bytes, with their heads.
    pub used: u32,
    /// The part of it that belongs to files.
    pub live: u32,
}

fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Frame, expected, found).into()
}

/// Frames: first address to frame.
pub enum Frames {}

impl Record for Frames {
    const TREE: TreeId = TreeId::Frames;
    type Key = u64;
    type Value = Frame;

    fn encode_key(key: &u64) -> Vec<u8> {
        key.to_be_bytes().to_vec()
    }

    fn decode_key(bytes: &[u8]) -> Result<u64> {
        exactly(bytes).map(u64::from_be_bytes)
    }

    fn encode_value(value: &Frame) -> Vec<u8> {
        use frame_layout as at;
        let mut bytes = vec![0; at::SIZE];
        if let Some(Stored { pack, offset, length, method }) = value.stored {
            at::PACK.put(&mut bytes, pack.as_bytes());
            at::OFFSET.put(&mut bytes, &offset.to_be_bytes());
            at::STORED.put(&mut bytes, &length.to_be_bytes());
            at::METHOD.put(&mut bytes, &[method as u8]);
        }
        at::LENGTH.put(&mut bytes, &value.length.to_be_bytes());
        at::WRITTEN.put(&mut bytes, &value.written.to_be_bytes());
        at::LIVE.put(&mut bytes, &value.live.to_be_bytes());
        bytes
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Frame> {
        use frame_layout as at;
        let first = Frames::decode_key(key)?;
        let bytes: [u8; at::SIZE] = exactly(bytes)?;
        let stored = Stored {
            pack: Uuid::from_bytes(at::PACK.array(&bytes)),
            offset: at::OFFSET.u32(&bytes),
            length: at::STORED.u32(&bytes),
            method: Method::Raw,
        };
        let stored = match at::METHOD.array(&bytes) {
            [0] if stored.pack.is_nil() && stored.offset == 0 && stored.length == 0 => None,
            [raw] => Some(Stored { method: Method::decode(raw)?, ..stored }),
        };
        let (length, written) = (at::LENGTH.u64(&bytes), at::WRITTEN.u64(&bytes));
        let frame = Frame { length, written, live: at::LIVE.u64(&bytes), stored };
        frame.check()?;
        let end = first.checked_add(length).filter(|&end| end <= ADDRESS_MAX);
        end.map(|_| frame).ok_or_else(|| damaged(0..=ADDRESS_MAX, first))
    }
}

/// Packs: UUID to how much of the pack is in use.
pub enum Packs {}

impl Record for Packs {
    const TREE: TreeId = TreeId::Packs;
    type Key = Uuid;
    type Value = Pack;

    fn encode_key(key: &Uuid) -> Vec<u8> {
        key.as_bytes().to_vec()
    }

    fn decode_key(bytes: &[u8]) -> Result<Uuid> {
        exactly(bytes).map(Uuid::from_bytes)
    }

    fn encode_value(value: &Pack) -> Vec<u8> {
        let mut bytes = vec![0; pack_layout::SIZE];
        pack_layout::USED.put(&mut bytes, &value.used.to_be_bytes());
        pack_layout::LIVE.put(&mut bytes, &value.live.to_be_bytes());
        bytes
    }

    fn decode_value(_: &[u8], bytes: &[u8]) -> Result<Pack> {
        let bytes: [u8; pack_layout::SIZE] = exactly(bytes)?;
        let pack =
            Pack { used: pack_layout::USED.u32(&bytes), live: pack_layout::LIVE.u32(&bytes) };
        if !(1..=pack.used).contains(&pack.live) {
            return Err(damaged(1..=pack.used, pack.live));
        }
        Ok(pack)
    }
}

/// Slices of deleted files whose frames are not all free yet: first address to length.
pub enum DeadSlices {}

impl Record for DeadSlices {
    const TREE: TreeId = TreeId::DeadSlices;
    type Key = u64;
    type Value = u64;

    fn encode_key(key: &u64) -> Vec<u8> {
        Frames::encode_key(key)
    }

    fn decode_key(bytes: &[u8]) -> Result<u64> {
        Frames::decode_key(bytes)
    }

    fn encode_value(value: &u64) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<u64> {
        let first = DeadSlices::decode_key(key)?;
        let length = u64::from_be_bytes(exactly(bytes)?);
        let end = first.checked_add(length).filter(|&end| length > 0 && end <= ADDRESS_MAX);
        end.map(|_| length).ok_or_else(|| damaged("a slice", length))
    }
}
