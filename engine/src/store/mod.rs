//! Opening, recovery, allocation and commits.
//!
//! [`Store`] is the shared half: the device, the keys and the current commit; any number of
//! threads read through it. [`Writer`] is the one half that changes anything.

mod allocate;
mod backup;
mod choose;
mod commit;
mod create;
mod header;
mod in_flight;
mod open;
mod pipeline;
mod process;
mod read;
mod recover;
mod redo;
mod rekey;
mod run_set;
mod slots;
#[cfg(test)]
pub(crate) mod tests;
mod wipe;
mod writer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use header::KnownHeader;

pub use allocate::{RESERVE_BLOCKS, Urgency};
pub use backup::{ExportedHeader, HeaderImport};
pub use commit::{Finished, SlotUpdate};
pub use create::CreateOptions;
pub use in_flight::OwnedSealJob;
pub use open::{Access, Io, OpenOptions};
#[cfg(any(test, feature = "testing"))]
pub use process::in_forked_process;
pub use recover::Recovery;
pub use rekey::{RekeyOptions, RekeySummary};
pub use run_set::RunSet;
pub use slots::NewKey;
pub use writer::Writer;

use crate::crypto::{ReceiptKey, Sealer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{Generation, Header, MetaSlot, Position, RedoEntry};

/// An open archive, as sealed blocks at positions. Shared by all threads of one process.
#[doc(alias = "StreamManager")]
#[doc(alias = "BaseStreamManager")]
pub struct Store {
    device: Box<dyn Device>,
    sealer: Sealer,
    header: ArcSwap<KnownHeader>,
    /// The key slot that was opened.
    key_slot: usize,
    receipt_key: ReceiptKey,
    current: ArcSwap<Commit>,
    poison: OnceLock<Arc<Error>>,
    process: u32,
    path: Option<PathBuf>,
    recovery: Recovery,
}

/// One committed state. A reader that holds it can read everything it names, except data
/// blocks that a later commit overwrote in place.
#[derive(Debug)]
pub struct Commit {
    /// The meta slot of the commit.
    pub slot: MetaSlot,
    /// Places whose newest version still lies at a spare position.
    pub redirects: Redirects,
}

/// Blocks whose newest version lies at a spare position: place, then spare and generation. By default there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirects(HashMap<Position, (Position, Generation)>);

impl Redirects {
    /// Whether no block is redirected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of redirected blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each place, and where its newest version lies, in order of place.
    fn images(&self) -> Vec<RedoEntry> {
        let entry = |(&place, &(spare, generation)): (&Position, &(Position, Generation))| {
            RedoEntry { place, spare, generation }
        };
        let mut images: Vec<RedoEntry> = self.0.iter().map(entry).collect();
        images.sort_unstable_by_key(|entry| entry.place);
        images
    }

    /// Both of them.
    fn and(mut self, other: Redirects) -> Redirects {
        self.0.extend(other.0);
        self
    }

    /// Where version `generation` of the block at `place` is to be read.
    fn source(&self, place: Position, generation: Generation) -> Position {
        match self.0.get(&place) {
            Some(&(spare, redirected)) if redirected == generation => spare,
            _ => place,
        }
    }
}

impl Store {
    /// The newest committed state.
    pub fn current(&self) -> Arc<Commit> {
        self.current.load_full()
    }

    /// The code of a commit in receipts: over everything that its meta slot says.
    pub fn receipt_code(&self, commit: &Commit) -> Result<[u8; 32]> {
        Ok(self.receipt_key.mac(&commit.slot.encode()?[..]))
    }

    /// Whether a code is that of a commit. Compared in constant time.
    pub fn is_receipt_code(&self, commit: &Commit, code: &[u8; 32]) -> Result<bool> {
        Ok(self.receipt_key.verify(&commit.slot.encode()?[..], code))
    }

    /// The archive's header.
    pub fn header(&self) -> Arc<Header> {
        Arc::clone(&self.header.load().header)
    }

    /// Number of the key slot that the secret opened.
    pub fn key_slot(&self) -> usize {
        self.key_slot
    }

    /// Time of creation. The specification's name is `created`.
    pub fn created(&self) -> crate::format::Timestamp {
        self.header().created
    }

    /// The file, unless the store lies on another device.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Length of the file in bytes; it may be longer than what is committed.
    pub fn file_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }

    /// What opening found and repaired.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// An error if an earlier write failed, or if this is another process than the one that opened.
    pub fn check_usable(&self) -> Result<()> {
        if let Some(cause) = self.poison.get() {
            return Err(Error::Poisoned { cause: Arc::clone(cause) });
        }
        let used_by = process::id();
        if used_by != self.process {
            return Err(Error::OtherProcess { opened_by: self.process, used_by });
        }
        Ok(())
    }

    /// Passes on the outcome of a write or sync. A failure makes the store unusable: after a
    /// failed sync the page cache calls pages clean that are not on disk, so neither going
    /// on nor trying again can be trusted.
    fn poisoning<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| {
            if crate::fault!(DoNotPoison) {
                return;
            }
            self.poison.get_or_init(|| Arc::new(error.clone()));
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}
