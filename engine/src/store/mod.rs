//! Opening, recovery, allocation and commits.
//!
//! [`Store`] is the shared half: the device, the keys and the current commit. Any number of threads read through it.
//! [`Writer`] is the half that makes changes. The table shows the parts, and the functions that change each:
//!
//! | part | holds | changed by |
//! |---|---|---|
//! | [`Store`] (`handle.rs`) | the current commit, the header, the first failure | `publish` (each commit, `refresh`), `replace_header` (changes of keys), `poisoning` (each write and sync) |
//! | `Space` (`space/`) | free, fresh and freed runs, the block count | allocating and freeing; `begin` starts it again from the commit |
//! | `Pins` (`space/pins.rs`) | superseded commits and what each freed | `publish` and `commit` |
//! | `Savepoints` | the savepoints of the transaction; `Space` and `Transaction` note what followed each | `savepoint`, `roll_back_to` |
//! | `Transaction` | generation, redirects, the redo list's blocks | sealing, `write_redo_list`, `commit`, `rollback` |
//! | `Superblock` | the pair that holds the current commit, bad copies | `write_first` and `write_second`, from `Writer::write_slot` alone |
//! | `InFlight` | the thread that writes, its buffers | `write_now`, `start`, `wait` |
//!
//! The files are layers, and each imports only from the ones before it: `process`, `space/run_set`, `readers`;
//! `committed`; `look`, `replaced`, `savepoints`, `space`, `open_block`; `redo_list`; `listed`, `superblock`,
//! `rekeying`; `transaction`, `handle`; `read`, `pipeline`; `in_flight`; `writer`; `savepoint`, `redo`, `commit`,
//! `recover`, `key_slots`; `open`; `create`, `follow`, `rekey`, `backup`, `third_copies`;
//! `repair`, `salvage`, `wipe`.

mod backup;
mod commit;
mod committed;
mod create;
mod follow;
mod handle;
mod in_flight;
mod key_slots;
mod listed;
mod look;
mod open;
mod open_block;
mod pipeline;
mod read;
mod readers;
mod recover;
mod redo;
mod redo_list;
mod rekey;
mod rekeying;
mod repair;
mod replaced;
mod salvage;
mod savepoint;
mod savepoints;
mod space;
mod superblock;
#[cfg(test)]
mod tests;
mod third_copies;
mod transaction;
mod wipe;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use crate::process::in_forked_process;
pub use backup::{ExportedHeader, HeaderImport};
pub use commit::{Finished, SlotUpdate};
pub use committed::{Commit, Redirects};
pub use create::{CreateOptions, Unpublished};
pub use handle::Store;
pub use in_flight::OwnedSealJob;
pub use key_slots::NewKey;
pub use open::{Access, Io, OpenOptions};
pub use redo::RedoBlocks;
pub use rekey::{RekeyOptions, RekeySummary};
pub use repair::{Repaired, Repairer};
pub use salvage::{FoundBlock, Scanned, Wreck};
pub use savepoints::Savepoint;
pub use space::run_set::RunSet;
pub use space::{FAR_FROM_BLOCKS, RESERVE_BLOCKS, Urgency, reserve_for};
pub use superblock::recovery::Recovery;
pub use third_copies::BadThirdCopy;
pub use wipe::Wiped;
pub use writer::{FreeBlocks, Writer};
