//! Streams: a cursor over the blocks of one, and a file object over that.

mod cursor;
mod dirty;
mod file;
mod handle;
mod layout;
mod open;
mod read;
#[cfg(test)]
mod tests;

pub use cursor::Blocks;
pub use file::{Mode, StreamFile};
pub use handle::Stream;

pub(crate) use dirty::SpareBlocks;
pub(crate) use layout::{Segment, assign, locate};
pub(crate) use open::OpenStream;
pub(crate) use read::{Expected, Neighbour, check_head};
