//! Committed states of an archive, and the cache of their pages.

mod pages;
mod snapshot;

pub use pages::DamagedCopies;
pub(crate) use pages::{PageCache, check_copies, load_page, page_stream, parse_page, read_copy};
pub(crate) use snapshot::Committed;
pub use snapshot::Snapshot;
