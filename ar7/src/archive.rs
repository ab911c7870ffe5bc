//! An open archive.

use std::fmt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use ar7_engine::Error as EngineError;
use ar7_engine::store::Unpublished;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::key::Key;
use crate::options::{Creation, Kind, Options};
use crate::records::{Statistics, Timestamp};
use crate::snapshot::Snapshot;

/// An open archive. Any number of threads can share it, by reference or in an `Arc`.
///
/// Everything is read through a [`Snapshot`] and changed in a [`crate::Transaction`].
///
/// Dropping the archive releases the file, once all snapshots and files are dropped too.
/// [`Archive::close`] also gives free space at the end of the file back to the file system.
pub struct Archive {
    pub(crate) registry: ar7_registry::Archive,
    pub(crate) turn: Turn,
}

impl Archive {
    /// Opens an archive for reading.
    ///
    /// A writer may have it open at the same time. Snapshots of the returned archive are of the commit
    /// that is the newest now, until [`Archive::refresh`] moves it to a later one.
    ///
    /// Fails with [`Error::WrongKey`], with [`Error::Locked`] during a rekey, with [`Error::Busy`] if
    /// a writer stopped in the middle of a change, with [`Error::NotAnArchive`], [`Error::Damaged`]
    /// or another error about its content, and with [`Error::Io`] if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>, key: &Key) -> Result<Archive> {
        Archive::options().open(path, key)
    }

    /// Creates an archive in a new file and opens it for writing. Fails with [`Error::Io`] of kind
    /// `AlreadyExists` if the file exists. The file appears under its name once it is complete and
    /// durable.
    pub fn create(path: impl AsRef<Path>, key: &Key) -> Result<Archive> {
        Archive::options().create_new(true).open(path, key)
    }

    /// Returns the options for opening an archive in any other way.
    pub fn options() -> Options {
        Options::default()
    }

    /// Returns the newest commit, to read from it.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.registry.store().check_usable()?;
        Ok(Snapshot::new(self.registry.snapshot()))
    }

    /// Moves an archive that is open for reading to the newest commit of a writer in another process.
    /// Returns whether there was a newer one. Snapshots that are held stay at their commit.
    ///
    /// An archive that is open for writing is always at the newest commit. Fails with [`Error::Busy`]
    /// if a writer stopped in the middle of a change.
    pub fn refresh(&self) -> Result<bool> {
        Ok(self.registry.refresh()?)
    }

    /// Closes the archive, and gives free space at the end of the file back to the file system: also what a
    /// transaction took that failed or was discarded, for example because the disk is full.
    ///
    /// Snapshots that are still held stay readable, and keep the file locked until they are dropped.
    pub fn close(self) -> Result<()> {
        Ok(self.registry.close()?)
    }

    /// Returns the archive of the registry. For the mount, which works with inodes instead of paths.
    #[doc(hidden)]
    pub fn registry(&self) -> &ar7_registry::Archive {
        &self.registry
    }

    /// Returns the path with which the archive was opened.
    pub fn path(&self) -> &Path {
        self.registry.store().path().unwrap_or(Path::new(""))
    }

    /// Returns the identity of the archive, drawn at its creation.
    pub fn id(&self) -> Uuid {
        self.registry.id()
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.registry.kind().into()
    }

    /// Returns the time of the creation.
    pub fn created_at(&self) -> Timestamp {
        self.registry.created_at().into()
    }

    /// Returns whether the archive is open for writing.
    pub fn is_writer(&self) -> bool {
        self.registry.is_writer()
    }

    /// Returns sizes and counts, as of the newest commit.
    pub fn statistics(&self) -> Result<Statistics> {
        Ok(self.registry.statistics()?.into())
    }
}

impl Options {
    /// Opens or creates the archive. See [`Archive::open`] for the errors.
    pub fn open(&self, path: impl AsRef<Path>, key: &Key) -> Result<Archive> {
        let registry = self.open_registry(path.as_ref(), key)?;
        Ok(Archive { registry, turn: Turn::default() })
    }

    /// Creates an archive that gets its name when it is published, after it was closed.
    pub(crate) fn create_unpublished(
        &self,
        path: &Path,
        key: &Key,
    ) -> Result<(Archive, Unpublished)> {
        let options = self.for_creating();
        let made = ar7_registry::Archive::create_unpublished(path, &key.0, &options);
        let (registry, unpublished) = made?;
        Ok((Archive { registry, turn: Turn::default() }, unpublished))
    }

    fn open_registry(&self, path: &Path, key: &Key) -> ar7_registry::Result<ar7_registry::Archive> {
        let open = || ar7_registry::Archive::open(path, &key.0, self.for_opening());
        let create = || ar7_registry::Archive::create(path, &key.0, &self.for_creating());
        if self.creation == Creation::Always {
            return create();
        }
        match open() {
            Err(error)
                if self.creation == Creation::IfMissing
                    && is_io(&error, std::io::ErrorKind::NotFound) =>
            {
                match create() {
                    // Another process was first.
                    Err(error) if is_io(&error, std::io::ErrorKind::AlreadyExists) => open(),
                    outcome => outcome,
                }
            }
            outcome => outcome,
        }
    }
}

pub(crate) fn is_io(error: &ar7_registry::Error, kind: std::io::ErrorKind) -> bool {
    match error {
        ar7_registry::Error::Engine(EngineError::Io { source, .. }) => source.kind() == kind,
        _ => false,
    }
}

impl fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Archive")
            .field("path", &self.registry.store().path())
            .field("is_writer", &self.is_writer())
            .finish_non_exhaustive()
    }
}

/// Whose turn it is to change the archive: one transaction or one call at a time.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    is_taken: Mutex<bool>,
    ended: Condvar,
}

impl Turn {
    /// Waits for the turn.
    pub(crate) fn take(&self) -> Taken<'_> {
        let mut is_taken = self.lock();
        while *is_taken {
            is_taken = self.ended.wait(is_taken).unwrap_or_else(PoisonError::into_inner);
        }
        *is_taken = true;
        Taken(self)
    }

    /// Takes the turn. Fails if it is taken.
    pub(crate) fn try_take(&self) -> Result<Taken<'_>> {
        let mut is_taken = self.lock();
        if *is_taken {
            return Err(Error::InTransaction);
        }
        *is_taken = true;
        Ok(Taken(self))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // A panic cannot leave a flag half changed.
        self.is_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.ended.notify_one();
    }
}
