//! `import-archive7`: imports an archive of the Python module.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ar7::archive7::{ImportEvent, Imported, OldArchive};
use ar7::{Archive, Error, Key, PathText};

use crate::arguments::{Common, ImportArchive7};
use crate::exit::{Code, Failure};
use crate::opened::{change, check_is_free};
use crate::output;
use crate::progress::Progress;

/// Imports everything in one transaction. If it fails, there is no new archive.
pub(super) fn run(common: &Common, options: &ImportArchive7) -> Result<(), Failure> {
    let (old, new) = (&options.old, &options.new);
    check_is_free(new)?;
    let key = Key::read_file(&options.old_key_file)?;
    let opened = OldArchive::open(old, &key, options.kind);
    let mut opened = opened.map_err(|error| of_old(old, error))?;
    let created = Archive::options().create_new(true).kind(opened.kind().new_kind());
    let archive = common.create(new, &options.slot, created)?;
    let progress = Progress::stoppable(common)?;
    progress.set_total(opened.streams().fold(0, |sum, stream| stream.len.saturating_add(sum)));
    let imported = change(archive, |transaction| {
        let imported = opened.import(transaction, |event| {
            match event {
                ImportEvent::Read { bytes } => progress.advance(*bytes),
                ImportEvent::Lost { path, loss } => {
                    progress.warn(&format_args!("{}: {loss}", PathText::new(path)));
                }
                _ => {}
            }
            progress.flow()
        });
        let done = || "nothing was imported".to_owned();
        imported.map_err(|error| Failure::stopped(done)(of_old(old, error)))
    });
    progress.finish();
    if imported.is_err() {
        // The failure is what counts; an empty archive would only be in the way of the next attempt.
        let _ = fs::remove_file(new);
    }
    let imported = imported?;
    output::report(common, &imported, Some(describe(&imported)))?;
    match imported.lost {
        _ if !imported.is_closed => Err(Failure::NotClosed),
        0 => Ok(()),
        count => {
            let what = "entries and streams are not as they were";
            Err(Failure::Entries { count, what, code: Code::Unread })
        }
    }
}

/// Adds the path of the old archive to an error that only it can cause.
fn of_old(old: &Path, error: Error) -> Error {
    match error {
        Error::Damaged(_)
        | Error::NoBlockOpens { .. }
        | Error::Io { operation: "read", path: None, .. } => {
            Error::InFile { path: old.to_owned(), cause: Arc::new(error) }
        }
        error => error,
    }
}

/// Says what was imported, and what has no counterpart in an archive.
fn describe(imported: &Imported) -> String {
    let Imported { entries, streams, bytes, deleted, metadata_cut, unknown_owners, .. } = imported;
    let mut text = format!("{entries} entries, {streams} streams without a name, {bytes} bytes");
    let mut lost = Vec::new();
    if *entries > 0 {
        lost.push("creation times, identities of entries, UUIDs of owners".to_owned());
    }
    if *deleted > 0 {
        lost.push(format!("{deleted} deleted entries"));
    }
    if *metadata_cut > 0 {
        lost.push(format!("the last {metadata_cut} bytes of metadata"));
    }
    if !unknown_owners.is_empty() {
        let names = unknown_owners.iter().map(|name| PathText::new(name).to_string());
        let names = names.collect::<Vec<String>>().join(", ");
        lost.push(format!("owners that this system does not know ({names})"));
    }
    if imported.stray_blocks > 0 {
        lost.push(format!("{} blocks that belong to no stream", imported.stray_blocks));
    }
    if !lost.is_empty() {
        text.push_str("; not carried over: ");
        text.push_str(&lost.join("; "));
    }
    text
}
