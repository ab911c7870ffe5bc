//! Packed content: frames of compressed bytes, many of which form a pack.
//!
//! Packed content has addresses in one space of 2^63 bytes. A file is a slice of it: the bytes from
//! one address on. A frame holds the bytes at consecutive addresses, of one file or of several small
//! ones. A pack is a stream of frames, which is written once. An address is never used twice, so a
//! frame that was moved to another pack holds the same bytes.

mod cache;
mod frame;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub(crate) use cache::{DecodedFrame, FrameCache};
pub(crate) use frame::{
    Content, Encoded, HEAD_SIZE, Head, SLICES_MAX, STORED_MAX, Slice, decode, encode, read_head,
};
pub use frame::{FRAME_MAX, Method, compressed_len, frame_head_layout, slice_layout};
