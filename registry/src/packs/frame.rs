//! A frame: its head, then the content and the table of its slices, raw or compressed together.
//!
//! The table says which inode each part of the content belongs to. It makes a pack readable without
//! any index, and tells a frame's dead parts when the frame is moved.

use std::cell::RefCell;
use std::io;
use std::iter::once;
use std::ops::Range;

use ar7_engine::{Check, Error as EngineError, Value};
use zeroize::Zeroize as _;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter, Strategy};

use super::wiped::Wiped;
use super::{AUTO_LEVEL, zeros};
use crate::error::{Error, Result};

/// Maximum number of addresses that a frame covers.
pub const FRAME_MAX: usize = 262_144;

/// Maximum number of slices in the table of a frame.
pub(crate) const SLICES_MAX: usize = 8192;

/// Length of the head of a frame in bytes.
pub(crate) const HEAD_SIZE: u32 = 24;

/// Maximum number of bytes that follow the head: content and table, raw.
pub(crate) const STORED_MAX: u32 = 393_216;

const _: () = assert!(STORED_MAX as usize == FRAME_MAX + SLICES_MAX * slice_layout::SIZE);

const TAG: [u8; 4] = *b"fram";

ar7_engine::layout! {
    /// Head of a frame in a pack.
    pub mod frame_head_layout, 24 => {
        TAG: 4, "\"fram\"";
        FIRST: 8, "u64: the first address";
        LENGTH: 4, "u32: number of addresses, 1 to 262,144";
        STORED: 4, "u32: number of bytes that follow, at most as many as decoded";
        SLICES: 2, "u16: number of slices, 1 to 8192";
        METHOD: 1, "u8: 1 raw, 2 zstd";
        RESERVED: 1, "0";
    }
}

ar7_engine::layout! {
    /// A slice in the table of a frame.
    pub mod slice_layout, 16 => {
        INODE: 8, "u64: number of the inode whose content it is part of";
        START: 4, "u32: offset of its first byte in the frame, ascending without overlap";
        LENGTH: 4, "u32: number of its bytes, at least 1";
    }
}

/// How the content of a frame is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As it is.
    Raw = 1,
    /// As one frame of Zstandard (RFC 8878).
    Zstd = 2,
}

impl Method {
    pub(crate) fn decode(raw: u8) -> Result<Method> {
        match raw {
            1 => Ok(Method::Raw),
            2 => Ok(Method::Zstd),
            _ => Err(damaged("1 or 2", raw)),
        }
    }
}

/// A part of a frame, and the inode whose content it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) inode: u64,
    /// Offset of the first byte in the frame.
    pub(crate) start: u32,
    pub(crate) length: u32,
}

impl Slice {
    /// Returns the range of its bytes in the frame.
    pub(crate) fn range(&self) -> Range<usize> {
        let index = |offset: u32| usize::try_from(offset).expect("a u32 fits");
        index(self.start)..index(self.start) + index(self.length)
    }

    /// Returns whether the slice, in the frame with this first address, is in a range of addresses, given by its first
    /// address and its length.
    pub(crate) fn is_within(&self, frame: u64, (first, length): (u64, u64)) -> bool {
        let begin = frame + u64::from(self.start);
        let end = first.saturating_add(length);
        first <= begin && begin + u64::from(self.length) <= end
    }
}

/// The decoded content of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The first address.
    pub(crate) first: u64,
    pub(crate) bytes: Wiped,
    pub(crate) slices: Vec<Slice>,
    /// Whether it was compressed in the pack that it is from.
    pub(crate) is_compressed: bool,
}

impl Content {
    /// Returns the number of bytes of memory that it takes.
    pub(super) fn weight(&self) -> u64 {
        (self.bytes.len() + self.slices.len() * size_of::<Slice>() + size_of::<Content>()) as u64
    }

    /// Returns the number of bytes in its slices.
    pub(crate) fn sliced_len(&self) -> u64 {
        self.slices.iter().map(|slice| u64::from(slice.length)).sum()
    }

    /// Returns the level with which to encode it, if `chosen` is the level for new content. Without one, content that is
    /// moved stays as it was: compressed, or not.
    pub(crate) fn level(&self, chosen: Option<i32>) -> Option<i32> {
        chosen.or_else(|| self.is_compressed.then(|| AUTO_LEVEL.into()))
    }

    /// Returns the content with only some of its slices. All other bytes are zeros.
    pub(crate) fn only(&self, is_kept: impl Fn(&Slice) -> Result<bool>) -> Result<Content> {
        let bytes = Wiped::from(vec![0; self.bytes.len()]);
        let mut kept = Content { bytes, slices: Vec::new(), ..*self };
        for slice in &self.slices {
            if is_kept(slice)? {
                let range = slice.range();
                kept.bytes[range.clone()].copy_from_slice(&self.bytes[range]);
                kept.slices.push(*slice);
            }
        }
        Ok(kept)
    }

    /// Returns the ranges that are in no slice.
    fn gaps(&self) -> Vec<Range<usize>> {
        let begins = self.slices.iter().map(|slice| slice.range().start);
        let ends = self.slices.iter().map(|slice| slice.range().end);
        let gaps = once(0).chain(ends).zip(begins.chain(once(self.bytes.len())));
        gaps.map(|(begin, end)| begin..end).filter(|gap| !gap.is_empty()).collect()
    }

    fn decoded_len(&self) -> usize {
        self.bytes.len() + self.slices.len() * slice_layout::SIZE
    }
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) first: u64,
    pub(crate) length: u32,
    /// Number of bytes after the head.
    pub(crate) stored: u32,
    slices: u16,
    pub(crate) method: Method,
}

impl Head {
    /// Returns the number of bytes that the frame takes in a pack.
    pub(crate) fn size(&self) -> u32 {
        self.stored.saturating_add(HEAD_SIZE)
    }

    /// Returns the number of bytes that the frame decodes to.
    fn decoded_len(&self) -> usize {
        let length = usize::try_from(self.length).expect("a u32 fits");
        length + usize::from(self.slices) * slice_layout::SIZE
    }
}

/// An encoded frame, ready to be appended to a pack.
pub(crate) struct Encoded {
    pub(crate) head: Head,
    /// The head and what follows it.
    pub(crate) bytes: Wiped,
}

impl Encoded {
    /// Returns the bytes that follow the head.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[frame_head_layout::SIZE..]
    }
}

/// Encodes a frame. Without a gain, its content stays raw. `level` is a level of Zstandard. With `None`, nothing is
/// compressed but zeros that belong to no slice: what a frame takes then depends on the lengths of its slices only.
pub(crate) fn encode(content: &Content, level: Option<i32>) -> Result<Encoded> {
    let mut plain = Wiped::from(Vec::with_capacity(content.decoded_len()));
    plain.extend_from_slice(&content.bytes);
    for slice in &content.slices {
        let mut bytes = [0; slice_layout::SIZE];
        slice_layout::INODE.put(&mut bytes, &slice.inode.to_be_bytes());
        slice_layout::START.put(&mut bytes, &slice.start.to_be_bytes());
        slice_layout::LENGTH.put(&mut bytes, &slice.length.to_be_bytes());
        plain.extend_from_slice(&bytes);
    }
    let compressed = match level {
        Some(level) => Some(compressed(&plain, level)?),
        None => zeros::encode(&plain, &content.gaps()),
    };
    let compressed = compressed.filter(|compressed| compressed.len() < plain.len());
    let (payload, method) = match &compressed {
        Some(compressed) => (compressed, Method::Zstd),
        None => (&plain, Method::Raw),
    };
    let number = |length: usize| u32::try_from(length).expect("a frame is short");
    let head = Head {
        first: content.first,
        length: number(content.bytes.len()),
        stored: number(payload.len()),
        slices: u16::try_from(content.slices.len()).expect("at most 8192 slices"),
        method,
    };
    let mut bytes = Wiped::from(Vec::with_capacity(frame_head_layout::SIZE + payload.len()));
    bytes.extend_from_slice(&encode_head(&head));
    bytes.extend_from_slice(payload);
    Ok(Encoded { head, bytes })
}

/// Returns the length of bytes that are compressed alone, or their own length if that fails.
pub(super) fn compressed_len(plain: &[u8], level: i32) -> usize {
    compressed(plain, level).map_or(plain.len(), |compressed| compressed.len())
}

thread_local! {
    /// The last compressor of this thread: it takes longer to create than to use.
    static COMPRESSOR: RefCell<Option<FrameCompressor>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The parameters that Zstandard has for level 2 and inputs of up to 256 KiB. A frame with its table may be slightly
/// longer, and for longer inputs level 2 is faster but compresses less.
const AUTO_PARAMETERS: [CParameter; 6] = [
    CParameter::WindowLog(18),
    CParameter::ChainLog(14),
    CParameter::HashLog(14),
    CParameter::SearchLog(1),
    CParameter::MinMatch(5),
    CParameter::Strategy(Strategy::ZSTD_dfast),
];

struct FrameCompressor {
    level: i32,
    compressor: Compressor<'static>,
    /// Room for the result, of the greatest length that it can have. Empty between uses.
    room: Wiped,
}

impl FrameCompressor {
    fn new(level: i32) -> io::Result<FrameCompressor> {
        let mut compressor = Compressor::new(level)?;
        if level == i32::from(AUTO_LEVEL) {
            AUTO_PARAMETERS.iter().try_for_each(|&one| compressor.set_parameter(one))?;
        }
        Ok(FrameCompressor { level, compressor, room: Wiped::from(Vec::new()) })
    }

    fn compress(&mut self, plain: &[u8]) -> io::Result<Wiped> {
        let most = zstd_safe::compress_bound(plain.len());
        if self.room.capacity() < most {
            self.room = Wiped::from(Vec::with_capacity(most));
        }
        self.compressor.compress_to_buffer(plain, &mut *self.room)?;
        let compressed = Wiped::from(self.room.to_vec());
        self.room[..].zeroize();
        self.room.clear();
        Ok(compressed)
    }
}

fn compressed(plain: &[u8], level: i32) -> Result<Wiped> {
    let compressed = COMPRESSOR.with_borrow_mut(|known| {
        let compressor = match known.take_if(|its| its.level == level) {
            Some(same) => known.insert(same),
            None => known.insert(FrameCompressor::new(level)?),
        };
        compressor.compress(plain)
    });
    compressed.map_err(|error| EngineError::io("compress", error).into())
}

fn encode_head(head: &Head) -> [u8; frame_head_layout::SIZE] {
    use frame_head_layout as at;
    let mut bytes = [0; at::SIZE];
    at::TAG.put(&mut bytes, &TAG);
    at::FIRST.put(&mut bytes, &head.first.to_be_bytes());
    at::LENGTH.put(&mut bytes, &head.length.to_be_bytes());
    at::STORED.put(&mut bytes, &head.stored.to_be_bytes());
    at::SLICES.put(&mut bytes, &head.slices.to_be_bytes());
    at::METHOD.put(&mut bytes, &[head.method as u8]);
    bytes
}

/// Parses the head of a frame.
pub(crate) fn read_head(bytes: &[u8; frame_head_layout::SIZE]) -> Result<Head> {
    use frame_head_layout as at;
    let (tag, [method], [reserved]) =
        (at::TAG.array(bytes), at::METHOD.array(bytes), at::RESERVED.array(bytes));
    if tag != TAG {
        return Err(damaged(Value::Bytes(TAG.to_vec()), Value::Bytes(tag.to_vec())));
    }
    if reserved != 0 {
        return Err(damaged(0_u8, reserved));
    }
    let head = Head {
        first: at::FIRST.u64(bytes),
        length: at::LENGTH.u32(bytes),
        stored: at::STORED.u32(bytes),
        slices: at::SLICES.u16(bytes),
        method: Method::decode(method)?,
    };
    let most = u32::try_from(FRAME_MAX).expect("fits");
    if !(1..=most).contains(&head.length) {
        return Err(damaged(1..=most, head.length));
    }
    if !(1..=SLICES_MAX).contains(&usize::from(head.slices)) {
        return Err(damaged(1..=SLICES_MAX, usize::from(head.slices)));
    }
    let decoded = head.decoded_len();
    let stored = usize::try_from(head.stored).expect("a u32 fits");
    let is_possible = match head.method {
        Method::Raw => stored == decoded,
        Method::Zstd => (1..decoded).contains(&stored),
    };
    if is_possible { Ok(head) } else { Err(damaged(decoded, stored)) }
}

/// Decodes what follows the head of a frame.
pub(crate) fn decode(head: &Head, stored: &[u8]) -> Result<Content> {
    if stored.len() as u64 != u64::from(head.stored) {
        return Err(damaged(head.stored, stored.len()));
    }
    let mut plain = Wiped::from(vec![0; head.decoded_len()]);
    match head.method {
        Method::Raw => plain.copy_from_slice(stored),
        Method::Zstd => decompress(stored, &mut plain)?,
    }
    let length = usize::try_from(head.length).expect("a u32 fits");
    let slices = decode_slices(&plain[length..], head.length)?;
    plain.truncate(length);
    let is_compressed = head.method == Method::Zstd && !zeros::is_plain(stored);
    Ok(Content { first: head.first, bytes: plain, slices, is_compressed })
}

/// Decompresses exactly one frame of Zstandard, whose stated length is that of `plain`.
fn decompress(stored: &[u8], plain: &mut [u8]) -> Result<()> {
    let stated = zstd_safe::get_frame_content_size(stored).ok().flatten();
    if stated != Some(plain.len() as u64) {
        return Err(damaged(plain.len(), stated.map_or(Value::Text("none"), Value::from)));
    }
    let ends = zstd_safe::find_frame_compressed_size(stored).ok();
    if ends != Some(stored.len()) {
        return Err(damaged("one frame of Zstandard", "more, or less"));
    }
    DECOMPRESSOR.with_borrow_mut(|known| {
        let decompressor = match known {
            Some(decompressor) => decompressor,
            None => known
                .insert(Decompressor::new().map_err(|error| EngineError::io("decompress", error))?),
        };
        match decompressor.decompress_to_buffer(stored, plain) {
            Ok(found) if found == plain.len() => Ok(()),
            Ok(found) => Err(damaged(plain.len(), found)),
            Err(_) => Err(damaged("a frame of Zstandard", "other bytes")),
        }
    })
}

fn decode_slices(bytes: &[u8], length: u32) -> Result<Vec<Slice>> {
    let mut end = 0;
    let slices = bytes.chunks_exact(slice_layout::SIZE).map(|bytes| {
        let slice = Slice {
            inode: slice_layout::INODE.u64(bytes),
            start: slice_layout::START.u32(bytes),
            length: slice_layout::LENGTH.u32(bytes),
        };
        let after = slice.start.checked_add(slice.length);
        match after {
            Some(after) if slice.start >= end && slice.length > 0 && after <= length => {
                end = after;
                Ok(slice)
            }
            _ => Err(damaged(end..=length, slice.start)),
        }
    });
    slices.collect()
}

fn damaged(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    EngineError::damaged(None, Check::Frame, expected, found).into()
}
