//! Packed content: frames of compressed bytes, many of which form a pack.
//!
//! Packed content has addresses in one space of 2^63 bytes. A file is a slice of it: the bytes from
//! one address on. A frame holds the bytes at consecutive addresses, of one file or of several small
//! ones. A pack is a stream of frames, which is written once. An address is never used twice, so a
//! frame that was moved to another pack holds the same bytes.

use ar7_engine::format::DATA_SIZE;

mod cache;
mod encoding;
mod frame;
mod gain;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod wiped;
mod zeros;

pub(crate) use cache::{DecodedFrame, FrameCache};
pub use encoding::Encoding;
pub(crate) use encoding::Packing;
pub(crate) use frame::{
    Content, Encoded, HEAD_SIZE, Head, SLICES_MAX, STORED_MAX, Slice, decode, encode, read_head,
};
pub use frame::{FRAME_MAX, Method, frame_head_layout, slice_layout};
pub(crate) use gain::should_pack;
pub use gain::{BEGINNING_BYTES, gains, gains_later};
pub(crate) use wiped::Wiped;

/// Maximum length of a pack in bytes.
pub(crate) const PACK_BYTES: u32 = 16 << 20;

/// Number of bytes of content in a frame of one file, which a random read decodes. Small files share frames of up to
/// [`FRAME_MAX`] bytes.
pub(crate) const FRAME_BYTES: u32 = 128 << 10;

/// The same in a file of more than [`LONG_FILE_BYTES`], of which no cache holds much. Longer frames would make it a few
/// percent smaller.
pub(crate) const LONG_FILE_FRAME_BYTES: u32 = 64 << 10;

/// Length in bytes up to which a file has the longer frames.
pub(crate) const LONG_FILE_BYTES: u32 = 1 << 20;

/// Number of frames that are compressed together, on all cores.
pub(crate) const BATCH_FRAMES: usize = 16;

/// Number of bytes of a pack in a block.
pub(crate) const BLOCK_BYTES: u32 = 4008;

const _: () = assert!(BLOCK_BYTES as usize == DATA_SIZE);

/// The highest level of Zstandard. Higher ones need much memory for little gain in frames of this size.
pub const LEVEL_MAX: u8 = 19;

/// The level of Zstandard unless another one is chosen. With tables of the size of a frame, it compresses source code
/// one percent less than level 3, in three quarters of the time.
pub const AUTO_LEVEL: u8 = 2;

/// Returns whether over a quarter of the bytes in packs is dead. Then commits move the live ones, if there is room.
pub fn needs_repacking(dead_bytes: u64, packed_bytes: u64) -> bool {
    dead_bytes.saturating_mul(4) > packed_bytes
}

/// Returns the level of Zstandard for new content, or `None` for raw frames. `choice` is the number that an archive
/// stores: 0 automatic, 1 none, 2 and more a level plus 1. A later version of the program may have stored an unknown one.
pub fn level_of(choice: u64) -> Option<i32> {
    let level = choice.saturating_sub(1);
    match choice {
        1 => None,
        0 => Some(AUTO_LEVEL.into()),
        _ if level <= LEVEL_MAX.into() => i32::try_from(level).ok(),
        _ => Some(AUTO_LEVEL.into()),
    }
}
