//! Streams, names and free space of an ar7 archive.
//!
//! The engine below keeps sealed blocks; this crate says what they mean.

mod archive;
mod error;
pub mod names;
mod receipt;
pub mod records;
mod rekey;
mod stream;
pub mod tree;
pub mod verify;

pub use archive::{Archive, CreateOptions, RESERVED_STREAMS, Snapshot, Statistics, StreamRegistry};
pub use error::{Error, Result};
pub use names::Names;
pub use receipt::Receipt;
pub use stream::{Blocks, Mode, Stream, StreamFile};
pub use verify::{Finding, Subject, VerifyProgress, VerifySummary};

/// The example in the README is a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
