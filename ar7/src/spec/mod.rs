//! The interface of the specification: its classes and names, over the same archives.
//!
//! *The specification* is the published documentation of the Python module
//! `angelos.archive7.streams`. `docs/SPECIFICATION.md` in the repository summarises it and explains
//! each difference. A new application has no need of this module: [`crate::Archive`] does the same
//! with paths, transactions and snapshots.
//!
//! | specification | here |
//! |---|---|
//! | `StreamBlock` | [`StreamBlock`] |
//! | `BaseStream`, `DataStream`, `InternalStream` | [`BaseStream`], with two aliases |
//! | `BaseStreamManager`, `StreamManager` | the trait [`StreamManager`] |
//! | `SingleStreamManager`, `FixedMultiStreamManager`, `DynamicMultiStreamManager` | types of these names |
//! | `Registry`, `StreamRegistry` | [`StreamRegistry`] |
//! | `VirtualFileObject` | [`VirtualFileObject`] |
//!
//! A manager has one transaction at all times. [`StreamManager::save_meta`] commits it, and with it
//! everything that was written; dropping the manager discards what was not committed.
//!
//! ```
//! use std::io::{BufRead, Write};
//!
//! use ar7::spec::{DynamicMultiStreamManager, StreamManager, VirtualFileObject};
//!
//! # fn main() -> ar7::Result<()> {
//! # let folder = tempfile::tempdir()?;
//! # let filename = folder.path().join("streams.ar7");
//! let secret = [7; 32].into();
//! let manager = DynamicMultiStreamManager::new(&filename, &secret)?; // opens or creates
//! assert!(manager.created());
//! let stream = manager.new_stream()?;
//! let identity = stream.identity();
//! let mut file = VirtualFileObject::new(stream, "notes.txt", "w")?;
//! writeln!(file, "first line")?;
//! writeln!(file, "second line")?;
//! file.close()?;
//! manager.save_meta()?; // now durable
//! let file = VirtualFileObject::new(manager.open_stream(identity)?, "notes.txt", "r")?;
//! assert_eq!(file.lines().count(), 2);
//! manager.close()
//! # }
//! ```

mod block;
mod file;
mod manager;
mod registry;
mod stream;

pub use block::{BlockFields, StreamBlock};
pub use file::VirtualFileObject;
pub use manager::{
    DynamicMultiStreamManager, FixedMultiStreamManager, SingleStreamManager, StreamManager,
};
pub use registry::StreamRegistry;
pub use stream::{BaseStream, DataStream, InternalStream};
