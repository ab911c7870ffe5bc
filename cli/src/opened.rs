//! Opening, changing and closing an archive with the options that the user gave.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ar7::{Archive, Key, Options, Transaction};
use ar7_arguments::{Common, NewSlot};

use crate::exit::Failure;
use crate::keys;
use crate::output;

/// Returns a warning of an archive, if there is reason for one by then.
type Warning = Box<dyn FnOnce() -> Option<String> + Send>;

/// The archives that the command opened, and what to warn of once it is done.
static WARNINGS: Mutex<Vec<(PathBuf, Warning)>> = Mutex::new(Vec::new());

fn warn_at_the_end(path: &Path, warning: Warning) {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), warning));
}

/// Warns of damaged copies, and of deleted content whose space a command could not give back.
pub(crate) fn print_warnings() {
    for (path, warning) in WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        if let Some(warning) = warning() {
            output::warn_of(&path, &warning);
        }
    }
}

/// Fails if a file does not exist. Checked before the prompt, so that nobody types a passphrase for a missing file.
pub(crate) fn check_exists(path: &Path) -> Result<(), Failure> {
    std::fs::metadata(path).map(drop).map_err(|error| Failure::file(path, "open", error))
}

/// Fails if the name of a new archive is taken. Checked before the prompt; creating it checks again.
pub(crate) fn check_is_free(path: &Path) -> Result<(), Failure> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Err(Failure::file(path, "create", rustix::io::Errno::EXIST.into())),
        Err(_) => Ok(()),
    }
}

/// Opens an archive for reading.
pub(crate) fn reader(common: &Common, path: &Path) -> Result<Archive, Failure> {
    open(common, path, Archive::options())
}

/// Opens an archive for writing.
pub(crate) fn writer(common: &Common, path: &Path) -> Result<Archive, Failure> {
    open(common, path, Archive::options().write(true))
}

/// Opens an archive with options, except those that the user chose.
pub(crate) fn open(common: &Common, path: &Path, options: Options) -> Result<Archive, Failure> {
    check_exists(path)?;
    open_with(common, path, options, &keys::existing(common)?)
}

/// Opens an archive with a key that the caller already has.
pub(crate) fn open_with(
    common: &Common,
    path: &Path,
    options: Options,
    key: &Key,
) -> Result<Archive, Failure> {
    let archive = common.apply(options).open(path, key)?;
    for loss in archive.recovery().losses() {
        output::warn_of(path, &loss);
    }
    let copies = archive.damaged_copies();
    warn_at_the_end(path, Box::new(move || copies.warning()));
    Ok(archive)
}

/// Opens an archive for writing, and creates it if it does not exist.
pub(crate) fn writer_or_new(
    common: &Common,
    path: &Path,
    slot: &NewSlot,
) -> Result<Archive, Failure> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Another process may create it first: then it is opened.
            create(common, path, slot, Archive::options().create(true))
        }
        _ => writer(common, path),
    }
}

/// Creates an archive and opens it for writing.
pub(crate) fn create(
    common: &Common,
    path: &Path,
    slot: &NewSlot,
    options: Options,
) -> Result<Archive, Failure> {
    open_with(common, path, slot.add_to(options)?, &keys::new(common)?)
}

/// Makes changes in one transaction and closes the archive. If they fail, the archive is as before.
pub(crate) fn change<T>(
    archive: Archive,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let outcome = archive.transact(work);
    finish(archive, outcome)
}

/// Closes the archive after changes that succeeded or failed. Success frees the blocks of deleted content, and a failure
/// gives back the disk space that the changes took.
pub(crate) fn finish<T>(archive: Archive, outcome: Result<T, Failure>) -> Result<T, Failure> {
    let reclaimed = if outcome.is_ok() { archive.reclaim() } else { Ok(()) };
    if outcome.is_ok() && reclaimed.is_ok() {
        let statistics = archive.statistics().ok();
        warn_at_the_end(archive.path(), Box::new(move || statistics?.dead_content()));
    }
    let closed = reclaimed.and(archive.close());
    // The first failure is the one to report.
    outcome.and_then(|value| Ok(closed.map(|()| value)?))
}
