//! `compact`: gives the space of deleted content back to the file system.

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use ar7::{Compacted, ErrorClass};

use super::verify::Findings;
use crate::arguments::{Common, NoOptions};
use crate::exit::Failure;
use crate::opened::finish;
use crate::progress::Progress;

/// Compacts the archive in place, and prints what does not open. Fails if that, or a reader, is in the way.
pub(super) fn run(common: &Common, path: &Path, _: &NoOptions) -> Result<(), Failure> {
    let archive = common.writer(path)?;
    let progress = Progress::stoppable(common)?;
    let (findings, moved) = (Findings::begin(common, false)?, Cell::new(0));
    let compaction = archive.compact().wait(Duration::from_secs(common.wait.into()));
    let compacted = compaction.run(
        |finding| findings.add(&finding),
        |at| {
            moved.set(at.blocks);
            progress.meter.set_blocks(at);
            progress.flow()
        },
    );
    progress.finish();
    let done = || format!("{} blocks moved; run it again to continue", moved.get());
    let compacted = compacted.map_err(Failure::stopped(done));
    let list = findings.end(&archive)?;
    let compacted: Compacted = finish(archive, compacted)?;
    list.end_with("counts", &compacted, (!common.quiet).then(|| compacted.to_string()))?;
    match (compacted.damaged, compacted.oldest_reader) {
        (1.., _) => Err(Failure::findings(compacted.damaged)),
        (0, Some(oldest)) => {
            let summary = format!(
                "not finished: another process reads commit {oldest}; --wait SECONDS waits for it"
            );
            Err(Failure::Incomplete { summary, code: ErrorClass::HeldByReaders })
        }
        (0, None) => Ok(()),
    }
}
