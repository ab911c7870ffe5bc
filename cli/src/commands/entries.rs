//! `mkdir`, `mv` and `rm`: names in the archive.

use std::path::Path;

use ar7::{Attributes, Count, Error, Removal, Removed};
use ar7_arguments::{Common, MakeDirectory, Move, Remove};
use serde_json::json;

use super::archive::{wipe, wiped_text};
use crate::exit::Failure;
use crate::opened::{self, change, finish};
use crate::output::Output;
use crate::progress::Progress;

/// The permissions of a new directory.
const DIRECTORY_MODE: u32 = 0o755;

/// Creates all of the directories, which belong to the user, or none of them.
pub(super) fn mkdir(common: &Common, path: &Path, options: &MakeDirectory) -> Result<(), Failure> {
    change(opened::writer(common, path)?, |transaction| {
        let attributes = Attributes::of_process(DIRECTORY_MODE);
        for path in &options.paths {
            let made = if options.parents {
                transaction.create_directories_with(path, attributes)
            } else {
                transaction.create_directory_with(path, attributes)
            };
            made.map_err(|error| error.in_entry(path))?;
        }
        Ok(())
    })
}

/// Moves an entry. `--force` replaces the new name, unless both are names of one file: then nothing changes, as with
/// rename(2).
pub(super) fn mv(common: &Common, path: &Path, options: &Move) -> Result<(), Failure> {
    change(opened::writer(common, path)?, |transaction| {
        let to = transaction.destination(&options.from, &options.to)?;
        let from = &options.from;
        let moved = if options.force {
            transaction.rename(from, to)
        } else {
            transaction.rename_new(from, to)
        };
        Ok(moved.map_err(|error| error.in_entry(from))?)
    })
}

/// Removes entries and frees their blocks.
pub(super) fn rm(common: &Common, path: &Path, options: &Remove) -> Result<(), Failure> {
    let archive = opened::writer(common, path)?;
    let progress = Progress::stoppable(common)?;
    let mut output = Output::new(common, options.json_lines);
    let removal = archive
        .snapshot()
        .and_then(|snapshot| Removal::new(&snapshot, &options.paths, options.recursive));
    let removed = removal.and_then(|removal| {
        removal.run(&archive, |removed| {
            removed.count_in(&progress.meter);
            if let Removed::Entry { .. } = removed {
                output.event(&removed);
            }
            progress.flow_with(&output)
        })
    });
    progress.finish();
    let removed = removed.map_err(|error| match error {
        Error::WrongType { path, found: found @ "a directory", .. } => {
            let expected = "a file or symbolic link (-r removes directories)";
            Error::WrongType { path, expected, found }.into()
        }
        error => {
            let count = progress.meter.entries();
            Failure::stopped(|| format!("{} removed", Count(count, "entry")))(error)
        }
    });
    let outcome = output.check().and(removed).and_then(|removed| {
        Ok((removed, if options.wipe { Some(wipe(common, &archive)?) } else { None }))
    });
    let (removed, wiped) = finish(archive, outcome)?;
    let summary = json!({ "event": "summary", "removed": removed, "wiped": wiped });
    let report = json!({ "removed": removed, "wiped": wiped });
    output.end_events(&summary, &report, wiped.map(wiped_text).filter(|_| !common.quiet))
}
