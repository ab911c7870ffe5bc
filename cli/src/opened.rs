//! An open archive. Most commands start by opening one with the user's key.

use std::path::{Path, PathBuf};

use ar7::{Archive, Derivation, Key, Options, Recovery, Snapshot, Transaction};

use crate::arguments::{Common, Cost, NewSlot};
use crate::exit::Failure;
use crate::keys;
use crate::shown::Shown;
use crate::stderr;

/// An open archive, and the path of its file for error messages.
pub(crate) struct Opened {
    pub(crate) archive: Archive,
    pub(crate) path: PathBuf,
}

impl Opened {
    /// Opens an archive for reading.
    pub(crate) fn read(common: &Common, path: &Path) -> Result<Opened, Failure> {
        Opened::open(common, path, Archive::options())
    }

    /// Opens an archive for writing.
    pub(crate) fn write(common: &Common, path: &Path) -> Result<Opened, Failure> {
        Opened::open(common, path, Archive::options().write(true))
    }

    /// Opens an archive with options, except those that the user chose.
    pub(crate) fn open(common: &Common, path: &Path, options: Options) -> Result<Opened, Failure> {
        // Check before the prompt, so that nobody types a passphrase for a missing file.
        std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
        Opened::with(common, path, options, &keys::existing(common)?)
    }

    /// Opens an archive with a key that the caller already has.
    pub(crate) fn with(
        common: &Common,
        path: &Path,
        options: Options,
        key: &Key,
    ) -> Result<Opened, Failure> {
        let archive = common.apply(options).open(path, key).map_err(at(path))?;
        warn_of_losses(path, &archive.recovery());
        Ok(Opened { archive, path: path.to_owned() })
    }

    /// Opens an archive for writing, and creates it if it does not exist.
    pub(crate) fn write_or_create(
        common: &Common,
        path: &Path,
        slot: &NewSlot,
    ) -> Result<Opened, Failure> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Another process may create it first: then it is opened.
                Opened::create(common, path, slot, Archive::options().create(true))
            }
            _ => Opened::write(common, path),
        }
    }

    /// Creates an archive and opens it for writing.
    pub(crate) fn create(
        common: &Common,
        path: &Path,
        slot: &NewSlot,
        options: Options,
    ) -> Result<Opened, Failure> {
        let options = options.label(&slot.label).derivation(derivation(path, &slot.cost)?);
        Opened::with(common, path, options, &keys::new(common)?)
    }

    /// Returns the newest commit.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Failure> {
        self.archive.snapshot().map_err(self.named())
    }

    /// Adds the path of the archive to an error.
    pub(crate) fn named(&self) -> impl Fn(ar7::Error) -> Failure + use<'_> {
        at(&self.path)
    }

    /// Makes changes in one transaction and closes the archive. If they fail, the archive is as before.
    pub(crate) fn change<T>(
        self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let outcome = self.archive.begin().map_err(self.named()).and_then(|transaction| {
            let value = work(&transaction)?;
            transaction.commit().map_err(self.named())?;
            Ok(value)
        });
        self.finish_after(outcome)
    }

    /// Closes the archive after changes that succeeded or failed. A failure gives back the disk space of the changes.
    pub(crate) fn finish_after<T>(self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        match outcome {
            Ok(value) => self.finish().map(|()| value),
            Err(failure) => {
                // The first failure is the one to report.
                let _ = self.archive.close();
                Err(failure)
            }
        }
    }

    /// Frees the blocks of deleted content, and closes the archive.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Opened { archive, path } = self;
        // Closing after a failure gives back the disk space of the changes.
        let reclaimed = archive.reclaim();
        reclaimed.and(archive.close()).map_err(at(&path))
    }
}

/// Warns of data that opening found lost or possibly lost.
pub(crate) fn warn_of_losses(path: &Path, recovery: &Recovery) {
    warn_of_lost_commit(path, recovery.may_have_held_newer);
    if let Some(block) = recovery.lost_redo_block {
        let path = Shown::path(path);
        stderr::failure(&format_args!(
            "{path}: warning: the redo block {block} and its copy are damaged, so changes of the last commits may \
             be lost (find them with verify)"
        ));
    }
}

/// Warns if a damaged meta slot may have held a newer commit.
pub(crate) fn warn_of_lost_commit(path: &Path, slot: Option<u32>) {
    if let Some(block) = slot {
        let path = Shown::path(path);
        stderr::failure(&format_args!(
            "{path}: warning: the meta slot at block {block} is damaged, so the newest commit may be lost \
             (check with verify --receipt)"
        ));
    }
}

/// Adds the path of the archive to an error.
pub(crate) fn at(path: &Path) -> impl Fn(ar7::Error) -> Failure + use<'_> {
    move |error| Failure::Library { archive: path.to_owned(), error }
}

/// Returns the cost of a new passphrase.
pub(crate) fn derivation(path: &Path, cost: &Cost) -> Result<Derivation, Failure> {
    let memory_kib = u32::try_from(cost.memory >> 10).unwrap_or(u32::MAX);
    Derivation::new(memory_kib, cost.passes, cost.lanes).map_err(at(path))
}
