//! The commits that this open reads, locked against writers of other processes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::Locks;
use crate::error::Result;

/// The locks of one open, counted by commit: the system keeps a set of locks, and the first unlock would end them all.
#[derive(Debug)]
pub(super) struct ReaderLocks {
    locks: Arc<dyn Locks>,
    /// Held during the system calls too, so that the counts and the locks agree.
    counts: Mutex<BTreeMap<u64, usize>>,
}

/// The lock of one commit. While it exists, no writer overwrites anything that the commit names.
#[derive(Debug)]
pub(super) struct ReaderLock {
    readers: Arc<ReaderLocks>,
    number: u64,
}

impl ReaderLocks {
    pub(super) fn new(locks: Arc<dyn Locks>) -> Arc<ReaderLocks> {
        Arc::new(ReaderLocks { locks, counts: Mutex::default() })
    }

    /// Locks the commit with this number.
    pub(super) fn lock(self: &Arc<Self>, number: u64) -> Result<ReaderLock> {
        let mut counts = self.counts();
        if !counts.contains_key(&number) {
            self.locks.lock_reader(number)?;
        }
        *counts.entry(number).or_default() += 1;
        Ok(ReaderLock { readers: Arc::clone(self), number })
    }

    /// Returns whether another open is the writer.
    pub(super) fn is_written(&self) -> Result<bool> {
        self.locks.is_written()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReaderLock {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        let Some(count) = counts.get_mut(&self.number) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.number);
            self.readers.locks.unlock_reader(self.number);
        }
    }
}
