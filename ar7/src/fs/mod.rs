//! Trees of files: restored from an archive, and compared with one.
//!
//! [`Extract`] restores a tree, and [`Compare`] compares a directory with what an archive has of it. Both work on
//! descriptors of directories, so that trees can be of any depth, and nothing that another process does to a tree
//! meanwhile leads anywhere else. Both pass each event to a callback, and return a report that lists what failed and
//! why. [`Patterns`] select entries.

mod compare;
mod extract;
mod patterns;
mod read_ahead;
mod stored;
mod system;
mod tree;

pub use compare::{Compare, CompareEvent, CompareReport, Difference};
pub use extract::{
    Aspect, EntryPath, Extract, ExtractEvent, ExtractReport, Incomplete, NotRestored, Overwrite,
    Sparse,
};
pub use patterns::Patterns;
