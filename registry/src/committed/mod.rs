//! Committed states of an archive, and the cache of their pages.

mod pages;
mod snapshot;

pub(crate) use pages::{PageCache, load_page, page_stream, read_page};
pub(crate) use snapshot::Committed;
pub use snapshot::Snapshot;
