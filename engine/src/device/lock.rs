//! Locks between the processes that use an archive (docs/FORMAT.md, "Locks").
//!
//! They are byte-range locks of the open file description, on bytes far behind the end of the file. They exclude
//! another open of the file even within one process, and they end with the process: a crash leaves no lock behind, and
//! there is no lock file. Where a file system does not support them, `flock` admits one writer or many readers.

use std::fmt;
use std::fs::{File, TryLockError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::range_lock::{self, Kind};
use crate::{Error, Result, process};

/// First byte of the readers' range: a reader of commit n locks byte `READERS + n`.
const READERS: u64 = 1 << 62;

/// The byte that the writer locks.
const WRITER: u64 = READERS - 1;

/// What the locks of a file permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// One writer next to any number of readers.
    ReadersAndWriter,
    /// Either one writer or any number of readers: the file system does not support byte-range locks.
    ReadersOrWriter,
}

/// The locks of one open of an archive.
///
/// A lock of commit n by a reader keeps the writer from overwriting anything that commit n names. Locks are a set: a
/// second lock of the same commit by the same open changes nothing.
pub trait Locks: fmt::Debug + Send + Sync {
    /// Locks the archive for writing, without waiting. Fails with [`Error::Locked`] if another open is the writer.
    fn lock_writer(&self) -> Result<()>;

    /// Returns whether another open is the writer.
    fn is_written(&self) -> Result<bool>;

    /// Locks commit `number` for reading. Fails with [`Error::Locked`] if another open has locked readers out.
    fn lock_reader(&self, number: u64) -> Result<()>;

    /// Ends the lock of commit `number`.
    fn unlock_reader(&self, number: u64);

    /// Returns the lowest commit below `below` that another open reads.
    fn lowest_reader(&self, below: u64) -> Result<Option<u64>>;

    /// Locks out readers, without waiting. Fails with [`Error::Locked`] if another open reads.
    fn lock_out_readers(&self) -> Result<()>;

    /// Returns what the locks permit.
    fn sharing(&self) -> Sharing {
        Sharing::ReadersAndWriter
    }
}

/// The locks of a device that no other process can open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unshared;

impl Locks for Unshared {
    fn lock_writer(&self) -> Result<()> {
        Ok(())
    }

    fn is_written(&self) -> Result<bool> {
        Ok(false)
    }

    fn lock_reader(&self, _number: u64) -> Result<()> {
        Ok(())
    }

    fn unlock_reader(&self, _number: u64) {}

    fn lowest_reader(&self, _below: u64) -> Result<Option<u64>> {
        Ok(None)
    }

    fn lock_out_readers(&self) -> Result<()> {
        Ok(())
    }
}

/// The locks of a file.
#[derive(Debug)]
pub(super) struct FileLocks {
    file: Arc<File>,
    /// Whether the file system has byte-range locks, once a lock was taken.
    sharing: OnceLock<Sharing>,
    /// Number of commits locked for reading through `flock`.
    shared: Mutex<u64>,
    is_locked: AtomicBool,
    /// The process that opened the file. A forked child must not end its parent's locks.
    process: u32,
}

impl FileLocks {
    pub(super) fn new(file: &Arc<File>) -> FileLocks {
        FileLocks {
            file: Arc::clone(file),
            sharing: OnceLock::new(),
            shared: Mutex::new(0),
            is_locked: AtomicBool::new(false),
            process: process::id(),
        }
    }

    /// Acts like the locks of a file system without byte-range locks, for tests.
    #[cfg(test)]
    pub(super) fn without_ranges(file: &Arc<File>) -> FileLocks {
        let locks = FileLocks::new(file);
        locks.sharing.get_or_init(|| Sharing::ReadersOrWriter);
        locks
    }

    fn has_ranges(&self) -> bool {
        self.sharing() == Sharing::ReadersAndWriter
    }

    fn lock_range(&self, kind: Kind, start: u64, length: u64) -> Result<()> {
        match range_lock::set(&self.file, kind, start, length) {
            Ok(true) => {
                self.is_locked.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(false) => Err(Error::Locked { path: None, holder: None }),
            Err(source) => Err(Error::io("lock", source)),
        }
    }

    /// Returns the start of a lock by another open that conflicts with a lock of this kind.
    fn conflict(&self, kind: Kind, start: u64, length: u64) -> Result<Option<u64>> {
        range_lock::conflict(&self.file, kind, start, length)
            .map_err(|source| Error::io("query the locks", source))
    }
}

impl Locks for FileLocks {
    fn lock_writer(&self) -> Result<()> {
        if self.has_ranges() {
            match self.lock_range(Kind::Exclusive, WRITER, 1) {
                Err(Error::Locked { path, .. }) => {
                    Err(Error::Locked { path, holder: range_lock::holder(&self.file, WRITER) })
                }
                outcome => outcome,
            }
        } else {
            self.file.try_lock().map_err(not_locked)
        }
    }

    fn is_written(&self) -> Result<bool> {
        if !self.has_ranges() {
            return Ok(false);
        }
        Ok(self.conflict(Kind::Shared, WRITER, 1)?.is_some())
    }

    fn lock_reader(&self, number: u64) -> Result<()> {
        if self.has_ranges() {
            return self.lock_range(Kind::Shared, READERS + number, 1);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if *shared == 0 {
            self.file.try_lock_shared().map_err(not_locked)?;
        }
        *shared += 1;
        Ok(())
    }

    fn unlock_reader(&self, number: u64) {
        if process::id() != self.process {
            return;
        }
        // Closing the file ends a lock that could not be ended here.
        if self.has_ranges() {
            let _ = range_lock::set(&self.file, Kind::Unlocked, READERS + number, 1);
            return;
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = shared.saturating_sub(1);
        if *shared == 0 {
            let _ = self.file.unlock();
        }
    }

    fn lowest_reader(&self, below: u64) -> Result<Option<u64>> {
        if !self.has_ranges() {
            return Ok(None);
        }
        // The system reports any conflicting lock, not the lowest.
        let mut lowest = None;
        let mut end = below;
        while end > 0 {
            let Some(found) = self.conflict(Kind::Exclusive, READERS, end)? else { break };
            // Adjacent locks are reported as one, which may begin at an earlier byte.
            end = found.saturating_sub(READERS);
            lowest = Some(end);
        }
        Ok(lowest)
    }

    fn lock_out_readers(&self) -> Result<()> {
        if !self.has_ranges() {
            // The writer's lock excludes them.
            return Ok(());
        }
        // Length 0 means up to the last byte.
        self.lock_range(Kind::Exclusive, READERS, 0)
    }

    fn sharing(&self) -> Sharing {
        *self.sharing.get_or_init(|| {
            if range_lock::is_supported(&self.file) {
                Sharing::ReadersAndWriter
            } else {
                Sharing::ReadersOrWriter
            }
        })
    }
}

impl Drop for FileLocks {
    /// Ends the locks explicitly: a map keeps the open file description alive, and with it the locks.
    fn drop(&mut self) {
        if *self.is_locked.get_mut() && process::id() == self.process {
            let _ = range_lock::set(&self.file, Kind::Unlocked, WRITER, 0);
        }
    }
}

fn not_locked(error: TryLockError) -> Error {
    match error {
        TryLockError::WouldBlock => Error::Locked { path: None, holder: None },
        TryLockError::Error(source) => Error::io("lock", source),
    }
}

#[cfg(any(test, feature = "testing"))]
pub use table::LockTable;

#[cfg(any(test, feature = "testing"))]
mod table {
    use std::collections::BTreeSet;

    use super::{Arc, Error, Locks, Mutex, PoisonError, Result};

    /// The locks of every open of a device in memory.
    #[derive(Debug, Clone, Default)]
    pub struct LockTable(Arc<Mutex<Table>>);

    #[derive(Debug, Default)]
    struct Table {
        opens: u64,
        writer: Option<u64>,
        /// The open that has locked out readers.
        exclusive: Option<u64>,
        /// Each commit that is read, and the open that reads it.
        readers: BTreeSet<(u64, u64)>,
    }

    /// The locks of one open.
    #[derive(Debug)]
    struct Open {
        table: LockTable,
        number: u64,
    }

    impl LockTable {
        /// Returns the locks of a new open of the device.
        pub fn open(&self) -> Arc<dyn Locks> {
            let mut table = self.table();
            table.opens += 1;
            Arc::new(Open { table: self.clone(), number: table.opens })
        }

        fn table(&self) -> std::sync::MutexGuard<'_, Table> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Open {
        fn locked() -> Error {
            Error::Locked { path: None, holder: None }
        }
    }

    impl Locks for Open {
        fn lock_writer(&self) -> Result<()> {
            let mut table = self.table.table();
            if table.writer.is_some_and(|writer| writer != self.number) {
                return Err(Open::locked());
            }
            table.writer = Some(self.number);
            Ok(())
        }

        fn is_written(&self) -> Result<bool> {
            Ok(self.table.table().writer.is_some_and(|writer| writer != self.number))
        }

        fn lock_reader(&self, number: u64) -> Result<()> {
            let mut table = self.table.table();
            if table.exclusive.is_some_and(|open| open != self.number) {
                return Err(Open::locked());
            }
            table.readers.insert((number, self.number));
            Ok(())
        }

        fn unlock_reader(&self, number: u64) {
            self.table.table().readers.remove(&(number, self.number));
        }

        fn lowest_reader(&self, below: u64) -> Result<Option<u64>> {
            let table = self.table.table();
            let lowest = table.readers.iter().find(|(_, open)| *open != self.number);
            Ok(lowest.map(|&(number, _)| number).filter(|&number| number < below))
        }

        fn lock_out_readers(&self) -> Result<()> {
            let mut table = self.table.table();
            if table.readers.iter().any(|(_, open)| *open != self.number) {
                return Err(Open::locked());
            }
            table.exclusive = Some(self.number);
            Ok(())
        }
    }

    impl Drop for Open {
        fn drop(&mut self) {
            let mut table = self.table.table();
            table.readers.retain(|(_, open)| *open != self.number);
            if table.writer == Some(self.number) {
                table.writer = None;
            }
            if table.exclusive == Some(self.number) {
                table.exclusive = None;
            }
        }
    }
}
