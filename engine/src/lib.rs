//! The block engine of ar7: sealed 4096-byte blocks at positions in one file.
//!
//! This crate handles blocks, keys, the file and commits. Streams, names and trees belong to `ar7-registry`.

pub mod crypto;
pub mod device;
mod error;
pub mod format;
#[cfg(all(test, target_os = "linux"))]
mod own_memory;
mod parallel;
mod planted;
mod process;
pub mod store;

pub use error::{Check, Class, Error, Fault, Result, Value};
pub use parallel::in_pool;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use planted::{PlantedFault, with_planted_fault};
