//! The shared half of an open archive: the device, the keys, and the current commit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::committed::Commit;
use super::superblock::header::KnownHeader;
use super::superblock::recovery::Recovery;
use crate::crypto::{ReceiptKey, Sealer};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, Header, MetaSlot};
use crate::process;

/// An open archive, as sealed blocks at positions. Shared by all threads of one process.
#[doc(alias = "StreamManager")]
#[doc(alias = "BaseStreamManager")]
pub struct Store {
    pub(super) device: Box<dyn Device>,
    pub(super) sealer: Sealer,
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

/// What opening has found and checked, to be shared.
pub(super) struct Parts {
    pub(super) device: Box<dyn Device>,
    pub(super) sealer: Sealer,
    pub(super) header: KnownHeader,
    pub(super) key_slot: usize,
    pub(super) receipt_key: ReceiptKey,
    pub(super) commit: Commit,
    pub(super) path: Option<PathBuf>,
    pub(super) recovery: Recovery,
}

impl Store {
    pub(super) fn new(parts: Parts) -> Arc<Store> {
        let Parts { device, sealer, header, key_slot, receipt_key, commit, path, recovery } = parts;
        Arc::new(Store {
            device,
            sealer,
            header: ArcSwap::from_pointee(header),
            key_slot,
            receipt_key,
            current: ArcSwap::from_pointee(commit),
            poison: OnceLock::new(),
            process: process::id(),
            path,
            recovery,
        })
    }

    /// Gives back the device, if nothing else uses the store.
    pub(super) fn into_device(self: Arc<Store>) -> Option<Box<dyn Device>> {
        Arc::into_inner(self).map(|store| store.device)
    }

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

    /// Makes a meta slot name the header as it is now.
    pub(super) fn name_header(&self, slot: &mut MetaSlot) {
        let known = self.header.load();
        slot.header_revision = known.header.revision;
        slot.header_digest = known.digest;
    }

    /// The header as both copies hold it.
    pub(super) fn header_bytes(&self) -> Box<[u8; BLOCK_SIZE]> {
        self.header.load().bytes.clone()
    }

    /// Replaces the header in memory, once both copies in the file are.
    pub(super) fn replace_header(&self, known: KnownHeader) {
        self.header.store(Arc::new(known));
    }

    /// Makes `commit` the one that new readers see. Returns the one before.
    pub(super) fn publish(&self, commit: &Arc<Commit>) -> Arc<Commit> {
        self.current.swap(Arc::clone(commit))
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

    /// Whether a write or sync has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Passes on the outcome of a write or sync. A failure makes the store unusable: after a
    /// failed sync the page cache calls pages clean that are not on disk, so neither going
    /// on nor trying again can be trusted.
    pub(super) fn poisoning<T>(&self, outcome: Result<T>) -> Result<T> {
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
