//! Streams of an archive: handle, cursor over blocks, file object, and the registry of streams.

mod cursor;
mod file;
mod handle;
mod opening;
mod read_buffer;
mod registry;

pub use cursor::Blocks;
pub use file::{Mode, StreamFile};
pub use handle::Stream;
pub use registry::StreamRegistry;
