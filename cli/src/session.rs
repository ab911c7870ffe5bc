//! An open archive. Most commands start by opening one with the user's key.

use std::path::{Path, PathBuf};

use ar7_engine::crypto::KeyDerivation;
use ar7_engine::format::{DerivationCost, Position};
use ar7_engine::store::{Access, Io, OpenOptions, Recovery};
use ar7_registry::{Archive, CreateOptions, Error};

use crate::arguments::{Common, Cost, NewSlot};
use crate::exit::Failure;
use crate::keys;
use crate::shown::Shown;
use crate::stderr;

/// An open archive, and the path of its file for error messages.
pub(crate) struct Session {
    pub(crate) archive: Archive,
    pub(crate) path: PathBuf,
}

impl Session {
    /// Opens an archive for reading.
    pub(crate) fn read(common: &Common, path: &Path) -> Result<Session, Failure> {
        Session::open(common, path, Access::Read, Io::Map)
    }

    /// Opens an archive for writing.
    pub(crate) fn write(common: &Common, path: &Path) -> Result<Session, Failure> {
        Session::open(common, path, Access::Write, Io::Map)
    }

    /// Opens an archive, using `default_io` unless the user chose a method.
    pub(crate) fn open(
        common: &Common,
        path: &Path,
        access: Access,
        default_io: Io,
    ) -> Result<Session, Failure> {
        // Check before the prompt, so that nobody types a passphrase for a missing file.
        std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
        let secret = keys::existing_secret(common)?;
        let io = common.io.map_or(default_io, Io::from);
        let options = OpenOptions { access, io, wait: common.wait(), ..OpenOptions::default() };
        let archive = Archive::open(path, &secret, options).map_err(at(path))?;
        Ok(Session::opened(archive, path))
    }

    fn opened(archive: Archive, path: &Path) -> Session {
        warn_of_losses(path, archive.store().recovery());
        Session { archive, path: path.to_owned() }
    }

    /// Creates an archive and opens it for writing.
    pub(crate) fn create(
        common: &Common,
        path: &Path,
        slot: &NewSlot,
        options: &CreateOptions,
    ) -> Result<Session, Failure> {
        let derivation = derivation(&slot.cost).map_err(|error| at(path)(error.into()))?;
        let secret = keys::new_secret(common)?;
        let io = common.io.map_or(Io::Map, Io::from);
        let options =
            CreateOptions { derivation, label: slot.label.clone(), io, ..options.clone() };
        match Archive::create(path, &secret, &options) {
            Ok(archive) => Ok(Session { archive, path: path.to_owned() }),
            // Another process was first.
            Err(Error::Engine(ar7_engine::Error::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::AlreadyExists =>
            {
                Session::write(common, path)
            }
            Err(error) => Err(at(path)(error)),
        }
    }

    /// Adds the path of the archive to an error.
    pub(crate) fn named(&self) -> impl Fn(ar7_registry::Error) -> Failure + use<'_> {
        at(&self.path)
    }

    /// Commits, purges pending deletions, and closes the archive.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Session { archive, path } = self;
        // Closing after a failure gives back the disk space of the changes.
        let reclaimed = archive.reclaim();
        reclaimed.and(archive.close()).map_err(at(&path))
    }
}

/// Warns of data that opening found lost or possibly lost.
pub(crate) fn warn_of_losses(path: &Path, recovery: &Recovery) {
    warn_of_lost_commit(path, recovery.may_have_held_newer);
    if let Some(position) = recovery.lost_redo_block {
        let path = Shown::path(path);
        stderr::failure(&format_args!(
            "{path}: warning: the redo block {position} and its copy are damaged, so changes of the last commits may \
             be lost (find them with verify)"
        ));
    }
}

/// Warns if a damaged meta slot may have held a newer commit.
pub(crate) fn warn_of_lost_commit(path: &Path, slot: Option<Position>) {
    if let Some(position) = slot {
        let path = Shown::path(path);
        stderr::failure(&format_args!(
            "{path}: warning: the meta slot at block {position} is damaged, so the newest commit may be lost \
             (check with verify --receipt)"
        ));
    }
}

/// Adds the path of the archive to an error.
pub(crate) fn at(path: &Path) -> impl Fn(ar7_registry::Error) -> Failure + use<'_> {
    move |error| Failure::Archive { archive: path.to_owned(), error }
}

pub(crate) fn derivation(cost: &Cost) -> ar7_engine::Result<KeyDerivation> {
    let memory_kib = u32::try_from(cost.memory >> 10).unwrap_or(u32::MAX);
    KeyDerivation::new(DerivationCost { memory_kib, passes: cost.passes, lanes: cost.lanes })
}
