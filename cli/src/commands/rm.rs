//! `rm`: removes entries, and with `-r` directories and everything in them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use ar7_registry::records::EntryType;

use crate::arguments::{Common, Remove};
use crate::commands::wipe::wipe;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::names::split_last;
use crate::progress::{Counts, Progress};
use crate::session::Session;
use crate::walk::{find, find_directory};

/// The number of names removed between two commits.
const COMMIT_EVERY: usize = 10_000;

/// Removes the entries and frees their blocks.
pub(crate) fn run(common: &Common, options: &Remove) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Entries);
    // Check every path before removing the first one.
    for path in &options.paths {
        check(&session, path, options.recursive)?;
    }
    let removed = remove(&session, options, &interrupt, &progress);
    progress.finish();
    removed?;
    if options.wipe {
        wipe(common, &session)?;
    }
    session.finish()
}

fn check(session: &Session, path: &OsStr, recursive: bool) -> Result<(), Failure> {
    split_last(path)?;
    let path = path.as_bytes();
    let kind = find(&session.archive, path)?.inode.kind;
    if kind == EntryType::Directory && !recursive {
        let found = kind.name();
        let needed = "a file or symbolic link (-r removes directories)";
        return Err(Failure::EntryType { path: path.to_vec(), found, needed });
    }
    Ok(())
}

fn remove(
    session: &Session,
    options: &Remove,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(), Failure> {
    let mut count = 0;
    for path in &options.paths {
        let failed = |error| Failure::Entry { path: path.as_bytes().to_vec(), error };
        let (parent, name) = split_last(path)?;
        let names = session.archive.names();
        let directory = find_directory(&names, &parent)?;
        let kind = names.resolve(path.as_bytes()).map_err(failed)?.kind;
        if kind == EntryType::Directory {
            let mut tell = |removed: u64| {
                progress.entries(count + removed);
                !interrupt.is_set()
            };
            let removed = names.remove_tree(directory, name, Some(COMMIT_EVERY), &mut tell);
            count += removed.map_err(failed)?;
        } else {
            names.remove(directory, name).map_err(failed)?;
            count += 1;
        }
        if interrupt.is_set() {
            session.archive.commit().map_err(session.named())?;
            let done = format!("{count} entries were removed");
            return Err(Failure::Interrupted { archive: session.path.clone(), done });
        }
    }
    Ok(())
}
