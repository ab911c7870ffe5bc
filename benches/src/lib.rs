//! Benchmarks, and the measurements behind docs/PERFORMANCE.md.

pub mod blocks;
pub mod measured;
pub mod print;
pub mod random;
#[cfg(feature = "stores")]
pub mod stores;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_registry::{Archive, CreateOptions, Result};

/// Returns an empty archive in memory.
pub fn archive_in_memory() -> Result<Archive> {
    let secret = Secret::Key(RawKey::generate()?);
    let device = Box::new(MemoryDevice::new());
    Archive::create_device(device, &secret, &CreateOptions::default())
}
