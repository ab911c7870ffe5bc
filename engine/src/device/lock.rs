//! Locks between the processes that use an archive (docs/FORMAT.md, "Locks").
//!
//! They are byte-range locks of the open file description, on bytes far behind the end of the file. They exclude
//! another open of the file even within one process, and they end with the process: a crash leaves no lock behind, and
//! there is no lock file. Where the locks of a file system may be invisible to other users of the file, `flock` admits
//! one writer or many readers.
//!
//! Two processes may decide this differently, for example if a sandbox refuses byte-range locks to one of them. So a
//! process with byte-range locks shares the `flock` too, and a reader without them locks its byte if the system allows
//! it:
//!
//! |                         | `flock`   | bytes                 |
//! |-------------------------|-----------|-----------------------|
//! | writer, byte ranges     | shared    | `WRITER`, exclusive   |
//! | reader, byte ranges     | shared    | `READERS + n`, shared |
//! | writer, `flock` only    | exclusive | none                  |
//! | reader, `flock` only    | shared    | `READERS + n`, shared, if possible |
//!
//! For each pair of opens:
//!
//! |                      | writer, ranges         | reader, ranges | writer, `flock` | reader, `flock` |
//! |----------------------|------------------------|----------------|-----------------|-----------------|
//! | writer, ranges       | exclusive, by `WRITER` | next to each other | exclusive, by `flock` | next to each other, by the reader's byte |
//! | reader, ranges       |                        | next to each other | exclusive, by `flock` | next to each other |
//! | writer, `flock`      |                        |                | exclusive, by `flock` | exclusive, by `flock` |
//! | reader, `flock`      |                        |                |                 | next to each other |
//!
//! A writer that locks out readers excludes all that have a byte. One pair is left: a reader to which the system refuses
//! byte-range locks has no byte, and a writer with byte ranges does not see it. The `flock` could only exclude it
//! together with all other readers.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::flock::Flock;
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

    /// Returns whether another open is the writer. Never true while this open has locked a commit and the locks permit
    /// [`Sharing::ReadersOrWriter`].
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
    fn sharing(&self) -> Result<Sharing> {
        Ok(Sharing::ReadersAndWriter)
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
    flock: Flock,
    is_writer: AtomicBool,
    /// Whether any byte may be locked.
    has_bytes: AtomicBool,
    /// The process that opened the file. A forked child must not end its parent's locks.
    process: u32,
}

impl FileLocks {
    pub(super) fn new(file: &Arc<File>) -> FileLocks {
        FileLocks {
            file: Arc::clone(file),
            sharing: OnceLock::new(),
            flock: Flock::new(file),
            is_writer: AtomicBool::new(false),
            has_bytes: AtomicBool::new(false),
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

    fn has_ranges(&self) -> Result<bool> {
        Ok(self.sharing()? == Sharing::ReadersAndWriter)
    }

    fn lock_range(&self, kind: Kind, start: u64, length: u64) -> Result<()> {
        let is_locked = range_lock::set(&self.file, kind, start, length).map_err(not_locked)?;
        if !is_locked {
            return Err(locked(None));
        }
        self.has_bytes.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the start of a lock by another open that conflicts with a lock of this kind.
    fn conflict(&self, kind: Kind, start: u64, length: u64) -> Result<Option<u64>> {
        range_lock::conflict(&self.file, kind, start, length)
            .map_err(|source| Error::io("query the locks", source))
    }

    /// Takes a share of the `flock`, which excludes writers without byte-range locks. A file system may have no
    /// `flock`: then no process relies on it.
    fn share(&self, has_ranges: bool) -> Result<()> {
        match self.flock.share() {
            Ok(true) => Ok(()),
            Ok(false) => Err(locked(None)),
            Err(error) if has_ranges && range_lock::is_refusal(&error) => Ok(()),
            Err(error) => Err(not_locked(error)),
        }
    }

    fn end_range(&self, start: u64, length: u64) {
        // Closing the file ends a lock that could not be ended here.
        let _ = range_lock::set(&self.file, Kind::Unlocked, start, length);
    }
}

impl Locks for FileLocks {
    fn lock_writer(&self) -> Result<()> {
        if self.is_writer.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.has_ranges()? {
            let outcome = self.lock_range(Kind::Exclusive, WRITER, 1);
            if matches!(outcome, Err(Error::Locked { .. })) {
                return Err(locked(range_lock::holder(&self.file, WRITER)));
            }
            outcome?;
            self.share(true).inspect_err(|_| self.end_range(WRITER, 1))?;
        } else if !self.flock.exclude().map_err(not_locked)? {
            return Err(locked(None));
        }
        self.is_writer.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn is_written(&self) -> Result<bool> {
        if self.has_ranges()? && self.conflict(Kind::Shared, WRITER, 1)?.is_some() {
            return Ok(true);
        }
        match self.flock.is_excluded() {
            Err(error) if !range_lock::is_refusal(&error) => Err(not_locked(error)),
            outcome => Ok(outcome.unwrap_or(false)),
        }
    }

    fn lock_reader(&self, number: u64) -> Result<()> {
        let has_ranges = self.has_ranges()?;
        self.share(has_ranges)?;
        match self.lock_range(Kind::Shared, READERS + number, 1) {
            Err(error) if has_ranges || matches!(error, Error::Locked { .. }) => {
                self.flock.unshare();
                Err(error)
            }
            _ => Ok(()),
        }
    }

    fn unlock_reader(&self, number: u64) {
        if process::id() == self.process {
            self.end_range(READERS + number, 1);
            self.flock.unshare();
        }
    }

    fn lowest_reader(&self, below: u64) -> Result<Option<u64>> {
        if !self.has_ranges()? {
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
        if !self.has_ranges()? {
            // The writer's lock excludes them.
            return Ok(());
        }
        // Length 0 means up to the last byte.
        self.lock_range(Kind::Exclusive, READERS, 0)
    }

    fn sharing(&self) -> Result<Sharing> {
        if let Some(&sharing) = self.sharing.get() {
            return Ok(sharing);
        }
        // An error selects neither: two processes that differ could both become the writer.
        let is_supported = range_lock::is_supported(&self.file)
            .map_err(|source| Error::io("test the locks", source))?;
        let sharing =
            if is_supported { Sharing::ReadersAndWriter } else { Sharing::ReadersOrWriter };
        Ok(*self.sharing.get_or_init(|| sharing))
    }
}

impl Drop for FileLocks {
    /// Ends the locks explicitly: a map keeps the open file description alive, and with it the locks.
    fn drop(&mut self) {
        if process::id() != self.process {
            return;
        }
        if *self.has_bytes.get_mut() {
            self.end_range(WRITER, 0);
        }
        self.flock.end();
    }
}

fn locked(holder: Option<u32>) -> Error {
    Error::Locked { path: None, holder }
}

fn not_locked(source: io::Error) -> Error {
    Error::io("lock", source)
}

#[cfg(any(test, feature = "testing"))]
pub use table::LockTable;

#[cfg(any(test, feature = "testing"))]
mod table {
    use std::collections::BTreeSet;

    use std::sync::{Mutex, PoisonError};

    use super::{Arc, Locks, Result, locked};

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

    impl Locks for Open {
        fn lock_writer(&self) -> Result<()> {
            let mut table = self.table.table();
            if table.writer.is_some_and(|writer| writer != self.number) {
                return Err(locked(None));
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
                return Err(locked(None));
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
                return Err(locked(None));
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
