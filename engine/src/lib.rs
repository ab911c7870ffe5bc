//! The block engine of ar7: sealed 4096-byte blocks at positions in one file.
//!
//! This crate knows blocks, keys, the file and commits. It knows no stream, no name and
//! no tree: what the blocks mean is the business of `ar7-registry`.

pub mod crypto;
pub mod device;
mod error;
pub mod format;
#[cfg(all(test, target_os = "linux"))]
mod own_memory;
mod parallel;
mod planted;
pub mod store;

pub use error::{Check, Class, Error, Fault, Result, Value};
pub use parallel::in_pool;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use planted::{PlantedFault, with_planted_fault};
