//! Streams, names and free space of an ar7 archive.
//!
//! `ar7-engine` stores sealed blocks. This crate gives them meaning. Each module may use only the
//! modules before it in this list: `packs`, `tree`, `records`, `committed`, `working`, `blocks`,
//! `archive`, `stream`, `names`, `verify`, `compact`, `copy`, `repair`, `salvage`.

mod archive;
mod blocks;
mod committed;
pub mod compact;
mod copy;
mod error;
pub mod names;
pub mod packs;
mod receipt;
pub mod records;
mod rekey;
mod repair;
pub mod salvage;
mod stream;
pub mod tree;
pub mod verify;
mod working;

pub use ar7_engine::format::RESERVED_STREAMS;
pub use archive::{Archive, CreateOptions, Savepoint, Statistics};
pub use committed::{DamagedCopies, Snapshot};
pub use copy::CopyProgress;
pub use error::{Error, Result};
pub use names::Names;
pub use names::Packed;
pub use receipt::Receipt;
pub use stream::{
    Blocks, Content, FileContent, Mode, PackedContent, PinnedStream, Stream, StreamFile,
    StreamRegistry,
};
pub use verify::{Depth, Finding, Subject, VerifyProgress, VerifySummary};
