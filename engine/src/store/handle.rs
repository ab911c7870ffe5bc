//! The shared half of an open archive: the device, the keys, and the current commit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;

use super::committed::Commit;
use super::readers::ReaderLocks;
use super::superblock::header::KnownHeader;
use super::superblock::recovery::Recovery;
use crate::crypto::{ReceiptKey, Sealer};
use crate::device::{Device, Locks, Sharing};
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE, Header, MetaSlot};
use crate::process;

/// An open archive as sealed blocks at positions. All threads of a process share it.
#[doc(alias = "StreamManager")]
#[doc(alias = "BaseStreamManager")]
pub struct Store {
    pub(super) device: Box<dyn Device>,
    pub(super) locks: Arc<dyn Locks>,
    /// The commits that a reader has locked; `None` in a writer.
    pub(super) readers: Option<Arc<ReaderLocks>>,
    /// Held while a reader moves to the newest commit.
    pub(super) refreshing: Mutex<()>,
    pub(super) sealer: Sealer,
    header: ArcSwap<KnownHeader>,
    /// Number of the key slot that the secret opened.
    key_slot: usize,
    receipt_key: ReceiptKey,
    current: ArcSwap<Commit>,
    poison: OnceLock<Arc<Error>>,
    process: u32,
    path: Option<PathBuf>,
    recovery: Recovery,
}

/// The parts of a store, as opening found and checked them.
pub(super) struct Parts {
    pub(super) device: Box<dyn Device>,
    pub(super) readers: Option<Arc<ReaderLocks>>,
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
        let Parts { device, readers, sealer, header, key_slot, receipt_key, .. } = parts;
        let Parts { commit, path, recovery, .. } = parts;
        Arc::new(Store {
            locks: device.locks(),
            readers,
            refreshing: Mutex::default(),
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

    /// Returns the device, if nothing else uses the store.
    pub(super) fn into_device(self: Arc<Store>) -> Option<Box<dyn Device>> {
        Arc::into_inner(self).map(|store| store.device)
    }

    /// Returns the newest commit.
    pub fn current(&self) -> Arc<Commit> {
        self.current.load_full()
    }

    /// Returns the code of a commit for receipts. It covers everything in the commit's meta slot.
    pub fn receipt_code(&self, commit: &Commit) -> Result<[u8; 32]> {
        Ok(self.receipt_key.mac(&commit.slot.encode()?[..]))
    }

    /// Returns whether `code` is the code of `commit`. The comparison takes constant time.
    pub fn is_receipt_code(&self, commit: &Commit, code: &[u8; 32]) -> Result<bool> {
        Ok(self.receipt_key.verify(&commit.slot.encode()?[..], code))
    }

    /// Returns the archive's header.
    pub fn header(&self) -> Arc<Header> {
        Arc::clone(&self.header.load().header)
    }

    /// Returns the number of the key slot that the secret opened.
    pub fn key_slot(&self) -> usize {
        self.key_slot
    }

    /// Returns the time of creation. The specification's name is `created`.
    pub fn created(&self) -> crate::format::Timestamp {
        self.header().created
    }

    /// Makes a meta slot name the current header.
    pub(super) fn name_header(&self, slot: &mut MetaSlot) {
        let known = self.header.load();
        slot.header_revision = known.header.revision;
        slot.header_digest = known.digest;
    }

    /// Returns the header with its bytes.
    pub(super) fn known_header(&self) -> Arc<KnownHeader> {
        self.header.load_full()
    }

    /// Returns the bytes of the header.
    pub(super) fn header_bytes(&self) -> Box<[u8; BLOCK_SIZE]> {
        self.header.load().bytes.clone()
    }

    /// Replaces the header in memory, after both copies in the file.
    pub(super) fn replace_header(&self, known: KnownHeader) {
        self.header.store(Arc::new(known));
    }

    /// Makes `commit` the current one for new readers. Returns the previous one.
    pub(super) fn publish(&self, commit: &Arc<Commit>) -> Arc<Commit> {
        self.current.swap(Arc::clone(commit))
    }

    /// Returns the path of the file, unless the store is on another device.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the length of the file in bytes, which may exceed the committed archive.
    pub fn file_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }

    /// Returns which other processes can use the archive next to this one.
    pub fn sharing(&self) -> Result<Sharing> {
        self.locks.sharing()
    }

    /// Returns the oldest commit that another process reads, if it is older than the current one.
    pub fn oldest_reader(&self) -> Result<Option<u64>> {
        self.locks.lowest_reader(self.current().slot.number)
    }

    /// Returns what opening found in need of repair.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Fails if an earlier write or sync failed, or if another process opened the store.
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

    /// Writes to stable storage what was written to the file so far, so that the sync of the next commit is short. It
    /// makes no commit. A failure makes the store unusable, as that of any sync.
    pub fn sync_early(&self) -> Result<()> {
        self.check_usable()?;
        self.poisoning(self.device.sync())
    }

    /// Returns whether a write or sync has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poison.get().is_some()
    }

    /// Passes on the outcome of a write or sync. A failure poisons the store: after a failed sync, the page cache
    /// marks pages clean that are not on disk, so neither continuing nor retrying can be trusted.
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
