//! Streams of an archive: a cursor over the blocks of one, a file over that, and their registry.

mod cursor;
mod file;
mod handle;
mod opening;
mod registry;

pub use cursor::Blocks;
pub use file::{Mode, StreamFile};
pub use handle::Stream;
pub use registry::StreamRegistry;
