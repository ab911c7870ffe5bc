//! Streams of an archive: handle, cursor over blocks, file object, and the registry of streams.

mod content;
mod cursor;
mod file;
mod handle;
mod mode;
mod opening;
mod packed;
mod pinned;
mod read_buffer;
mod registry;

pub use content::Content;
pub use cursor::Blocks;
pub use file::StreamFile;
pub use handle::Stream;
pub use mode::Mode;
pub use packed::{FileContent, PackedContent};
pub use pinned::PinnedStream;
pub use registry::StreamRegistry;
