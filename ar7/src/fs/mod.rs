//! Trees of files, in and out of an archive.
//!
//! [`Ingest`] stores a tree, [`Extract`] restores it, and [`Compare`] compares a directory with what an archive has of
//! it. [`Walk`] visits a tree and stores nothing. All work on descriptors of directories, so that trees can be of any
//! depth, and nothing that another process does to a tree meanwhile leads anywhere else. Each passes events to a
//! callback, and returns a report that lists what failed and why. [`Patterns`] select entries.

mod compare;
mod extract;
mod ingest;
mod list;
mod patterns;
mod stored;
mod system;
mod tree;
mod walk;
#[cfg(test)]
mod world;

/// Maximum number of entries that each list of a report has. The callback receives all of them.
const LISTED_MAX: usize = 10_000;

/// Counts an item of a report, and lists it unless the list is full.
fn note<T>(list: &mut Vec<T>, count: &mut u64, item: impl FnOnce() -> T) {
    *count += 1;
    if list.len() < LISTED_MAX {
        list.push(item());
    }
}

pub use compare::{Compare, CompareEvent, CompareReport, Difference};
pub use extract::{
    Aspect, EntryPath, Extract, ExtractEvent, ExtractReport, Incomplete, NotRestored, Overwrite,
    Sparse,
};
pub use ingest::{Ingest, IngestEvent, IngestReport, Outcome};
pub use list::{read_list, read_patterns};
pub use patterns::Patterns;
pub use walk::{
    LeftOut, SkipReason, SourceMetadata, SourcePath, Unread, Walk, WalkEvent, WalkReport,
};
