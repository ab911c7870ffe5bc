//! The blocks of one stream: their locations, the dirty blocks, and reading.

mod dirty;
mod layout;
mod open;
mod packed;
mod read;
mod relocate;
#[cfg(test)]
mod tests;

pub(crate) use layout::{Segment, assign, blocks_for, locate, put_extents};
pub(crate) use open::{OpenStream, OpenStreams, split_offset, too_long};
pub(crate) use packed::{
    PackReader, content_at, frame_at, is_live, is_of_inode, next_frame, read_frame, read_packed,
    read_packed_in_parallel,
};
pub(crate) use read::{Expected, Neighbour, Reading, check_head, read_blocks};
pub(crate) use relocate::{is_damage, relocate};
