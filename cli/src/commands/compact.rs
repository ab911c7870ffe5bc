//! `compact`: gives the space of deleted content back to the file system.

use std::cell::Cell;
use std::path::Path;

use ar7::{Archive, Compacted, Count, ErrorClass};
use ar7_arguments::{Common, Compact};

use super::verify::Findings;
use crate::exit::Failure;
use crate::keys;
use crate::opened::{self, check_exists, check_is_free, finish};
use crate::output;
use crate::progress::Progress;

/// Compacts the archive in place, or copies it to a new one.
pub(super) fn run(common: &Common, path: &Path, options: &Compact) -> Result<(), Failure> {
    match &options.to {
        Some(new) => copy(common, path, new, options),
        None => in_place(common, path, options),
    }
}

/// Copies everything to a new archive. If anything does not open, no new file is left.
fn copy(common: &Common, path: &Path, new: &Path, options: &Compact) -> Result<(), Failure> {
    check_exists(path)?;
    check_is_free(new)?;
    let key = keys::existing(common)?;
    let new_key = keys::other(&options.secret)?.unwrap_or_else(|| key.clone());
    let created = common.apply(options.slot.options()?);
    let archive = opened::open_with(common, path, Archive::options(), &key)?;
    let progress = Progress::stoppable(common)?;
    let compaction = archive.compact().compression(options.compression);
    let copied = compaction.copy_to(new, &new_key, created, |at| progress.flow_at(at));
    progress.finish();
    let copied = match copied {
        Err(error) if error.class() == ErrorClass::Damaged => {
            return Err(Failure::NotCopied(error));
        }
        copied => copied.map_err(Failure::stopped(|| "there is no new archive".to_owned()))?,
    };
    output::report(common, &copied, Some(copied.to_string()))
}

/// Compacts the archive, and prints what does not open. Fails if that, or a reader, is in the way.
fn in_place(common: &Common, path: &Path, options: &Compact) -> Result<(), Failure> {
    let archive = opened::writer(common, path)?;
    let progress = Progress::stoppable(common)?;
    let (findings, moved) = (Findings::begin(common, false)?, Cell::new(0));
    let compaction = archive.compact().wait(common.wait()).compression(options.compression);
    let compacted = compaction.run(
        |finding| findings.add(&finding),
        |at| {
            moved.set(at.blocks);
            progress.flow_at(at)
        },
    );
    progress.finish();
    let done = || format!("{} moved; run it again to continue", Count(moved.get(), "block"));
    let compacted = compacted.map_err(Failure::stopped(done));
    let list = findings.end(&archive)?;
    let compacted: Compacted = finish(archive, compacted)?;
    list.end_with("counts", &compacted, (!common.quiet).then(|| compacted.to_string()))?;
    Failure::check(compacted.shortfall())
}
