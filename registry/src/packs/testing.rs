//! Frames of packed content, for fuzzing.

use super::frame::{self, Content, HEAD_SIZE, Slice};
use super::wiped::Wiped;
use crate::error::Result;

/// Returns bytes that do not compress, so that packs of them have many blocks.
#[cfg(test)]
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// What a frame of a pack holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The first address.
    pub first: u64,
    /// The content.
    pub bytes: Vec<u8>,
    /// The inode, the offset in the content and the length of each slice.
    pub slices: Vec<(u64, u32, u32)>,
}

/// Decodes a frame. Returns `None` if the bytes end before the frame.
pub fn decode(bytes: &[u8]) -> Result<Option<Decoded>> {
    let Some((head, rest)) = bytes.split_first_chunk::<{ HEAD_SIZE as usize }>() else {
        return Ok(None);
    };
    let head = frame::read_head(head)?;
    let Some(stored) = usize::try_from(head.stored).ok().and_then(|length| rest.get(..length))
    else {
        return Ok(None);
    };
    let content = frame::decode(&head, stored)?;
    let slices = content.slices.iter().map(|slice| (slice.inode, slice.start, slice.length));
    Ok(Some(Decoded {
        first: content.first,
        bytes: content.bytes.to_vec(),
        slices: slices.collect(),
    }))
}

/// Encodes a frame with a level of Zstandard, or raw.
pub fn encode(decoded: &Decoded, level: Option<i32>) -> Result<Vec<u8>> {
    let slice = |&(inode, start, length): &(u64, u32, u32)| Slice { inode, start, length };
    let content = Content {
        first: decoded.first,
        bytes: Wiped::from(decoded.bytes.clone()),
        slices: decoded.slices.iter().map(slice).collect(),
        is_compressed: false,
    };
    Ok(frame::encode(&content, level)?.bytes.to_vec())
}
