//! The block engine of ar7: sealed 4096-byte blocks at positions in one file.
//!
//! This crate handles blocks, keys, the file and commits. Streams, names and trees belong to `ar7-registry`.

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
compile_error!(
    "ar7 needs positioned I/O, memory maps and file locks of Linux or macOS; this system is not supported"
);

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
pub use parallel::{in_pool, thread_builder};
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub use planted::{PlantedFault, with_planted_fault};
