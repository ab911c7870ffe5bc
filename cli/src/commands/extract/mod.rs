//! `extract`: restores entries into one directory and writes nothing outside of it.

mod destination;
mod files;
mod restore;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use ar7_registry::Archive;
use ar7_registry::records::{EntryType, InodeNumber};

use self::destination::Directory;
use self::files::{Files, below};
use self::restore::restore_all;
use crate::arguments::{Common, Extract};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::names::split_last;
use crate::progress::{Counts, Progress};
use crate::session::Session;
use crate::walk::{Found, Step, Walk, find};

/// The advice printed when two entries have the same name.
const SEPARATELY: &str = "extract them separately with different --to directories";

/// One source of the extraction: an entry, or every entry of the archive's root directory.
struct Source {
    found: Found,
    is_root: bool,
}

/// Opens the archive and restores the entries.
pub(crate) fn run(common: &Common, options: &Extract) -> Result<(), Failure> {
    destination::raise_open_files();
    let session = Session::read(common, &options.archive)?;
    restore(&session, common, options, Interrupt::catch)
}

/// Restores the entries of an open archive.
pub(crate) fn restore(
    session: &Session,
    common: &Common,
    options: &Extract,
    interrupt: impl FnOnce() -> Result<Interrupt, Failure>,
) -> Result<(), Failure> {
    let sources = sources(session, &options.paths)?;
    let destination = Directory::make(&options.to)?;
    if !options.force {
        check_nothing_is_there(session, &sources, options, &destination)?;
    }
    let interrupt = interrupt()?;
    let progress = Progress::new(common, Counts::BytesAndEntries);
    start_counting(session, &sources, &progress);
    let files = Files::new(session, options, &progress, &interrupt);
    let outcome = restore_all(&files, destination, |restoring| {
        sources.into_iter().try_for_each(|source| {
            if source.is_root {
                restoring.content(&source.found)
            } else {
                restoring.all(source.found)
            }
        })
    });
    progress.finish();
    outcome?;
    match files.failures() {
        (0, _) => {
            progress.tell(&files.summary());
            Ok(())
        }
        (count, code) => {
            Err(Failure::NotRestored { archive: options.archive.clone(), count, code })
        }
    }
}

fn sources(session: &Session, paths: &[OsString]) -> Result<Vec<Source>, Failure> {
    if paths.is_empty() {
        let found = find(&session.archive, b"")?;
        return Ok(vec![Source { found, is_root: true }]);
    }
    let mut sources: Vec<Source> = Vec::new();
    for path in paths {
        let (_, name) = split_last(path)?;
        if let Some(same) = sources.iter().find(|source| source.found.name == name) {
            let first = PathBuf::from(OsString::from_vec(same.found.path.clone()));
            return Err(Failure::SameName { first, second: path.into(), advice: SEPARATELY });
        }
        ar7_registry::records::validate_name(name)
            .map_err(|error| Failure::Entry { path: path.as_bytes().to_vec(), error })?;
        let found = find(&session.archive, path.as_bytes())?;
        sources.push(Source { found, is_root: false });
    }
    Ok(sources)
}

/// Checks before anything is written that none of the top-level names exists in the destination. Then nothing below
/// them exists either.
fn check_nothing_is_there(
    session: &Session,
    sources: &[Source],
    options: &Extract,
    destination: &Directory,
) -> Result<(), Failure> {
    let refuse = |name: &[u8]| {
        if destination.has(name) {
            return Err(Failure::Exists { path: below(&options.to, name) });
        }
        Ok(())
    };
    for source in sources {
        if !source.is_root {
            refuse(&source.found.name)?;
            continue;
        }
        let mut walk = Walk::new(&session.archive, source.found.number, Vec::new());
        while let Some(step) = walk.next() {
            // The extraction itself reports damage.
            if let Ok(Step::Entry(found)) = step {
                refuse(&found.name)?;
            }
        }
    }
    Ok(())
}

/// Adds up the bytes to restore, so that the time left can be shown.
fn count(archive: &Archive, directories: &[InodeNumber], files_bytes: u64, progress: &Progress) {
    let mut bytes = files_bytes;
    for &directory in directories {
        let mut walk = Walk::new(archive, directory, Vec::new());
        while let Some(step) = walk.next() {
            let Ok(Step::Entry(found)) = step else { continue };
            match found.inode.kind {
                EntryType::File => bytes = bytes.saturating_add(found.inode.size),
                // The extraction itself reports a directory that cannot be entered.
                EntryType::Directory => drop(walk.enter(&found)),
                _ => {}
            }
        }
    }
    progress.set_total(bytes);
}

/// Starts the count in its own thread, which ends with the process.
fn start_counting(session: &Session, sources: &[Source], progress: &Progress) {
    if !progress.is_shown() {
        return;
    }
    let (directories, files): (Vec<_>, Vec<_>) =
        sources.iter().partition(|source| source.found.inode.kind == EntryType::Directory);
    let directories: Vec<InodeNumber> =
        directories.into_iter().map(|source| source.found.number).collect();
    let files_bytes = files.into_iter().map(|source| source.found.inode.size).sum();
    let (archive, progress) = (session.archive.clone(), progress.clone());
    // If the thread does not start, the time left is not shown.
    let counter = move || count(&archive, &directories, files_bytes, &progress);
    let _ = std::thread::Builder::new().spawn(counter);
}
