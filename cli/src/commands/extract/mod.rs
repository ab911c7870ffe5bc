//! `extract`: entries back into the file system, below one directory and never outside of it.

mod destination;
mod restore;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use ar7_registry::records::{EntryType, Inode};

use self::destination::Directory;
use self::restore::Restoring;
use crate::arguments::{Common, Extract};
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::names::split_last;
use crate::progress::Progress;
use crate::session::Session;
use crate::walk::{Found, Step, Walk, find};

/// What is extracted: an entry, and its name below the destination; or everything in the archive's root.
struct Source {
    found: Found,
    is_root: bool,
}

/// Restores the entries.
pub(crate) fn run(common: &Common, options: &Extract) -> Result<(), Failure> {
    destination::raise_open_files();
    let session = Session::read(common, &options.archive)?;
    let sources = sources(&session, &options.paths)?;
    let destination = Directory::make(&options.to)?;
    if !options.force {
        check_nothing_is_there(&session, &sources, options, &destination)?;
    }
    let interrupt = Interrupt::catch()?;
    let progress = Progress::bytes(common, total_bytes(&sources));
    let mut restoring = Restoring::new(&session, options, &progress, &interrupt, destination);
    let outcome = sources.into_iter().try_for_each(|source| {
        if source.is_root { restoring.content(&source.found) } else { restoring.all(source.found) }
    });
    progress.finish();
    outcome?;
    match restoring.failures() {
        (0, _) => {
            progress.tell(&restoring.summary());
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
            return Err(Failure::SameName { first, second: path.into() });
        }
        ar7_registry::records::validate_name(name)
            .map_err(|error| Failure::Entry { path: path.as_bytes().to_vec(), error })?;
        let found = find(&session.archive, path.as_bytes())?;
        sources.push(Source { found, is_root: false });
    }
    Ok(sources)
}

/// Below a name that is not there yet, nothing is; so only the first names are looked at, before anything is written.
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
            // What is damaged is told when its turn comes.
            if let Ok(Step::Entry(found)) = step {
                refuse(&found.name)?;
            }
        }
    }
    Ok(())
}

fn below(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsString::from_vec(name.to_vec()))
}

/// The bytes of all sources if that is known without a walk: nothing but files.
fn total_bytes(sources: &[Source]) -> Option<u64> {
    let size = |inode: &Inode| (inode.kind == EntryType::File).then_some(inode.size);
    sources.iter().map(|source| size(&source.found.inode)).sum()
}

/// The worse of two exit codes: damage outweighs the rest.
fn worse(first: Option<Code>, second: Code) -> Code {
    match first {
        Some(Code::Damaged) => Code::Damaged,
        _ if second == Code::Damaged => Code::Damaged,
        Some(first) => first,
        None => second,
    }
}
