//! `compact`: gives the space of deleted content back to the file system.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ar7::{Compacted, Damage, Finding, PathText};

use super::verify::list_affected;
use crate::arguments::{Common, OnArchive};
use crate::exit::{Code, Failure};
use crate::opened::finish;
use crate::output::List;
use crate::progress::Progress;

/// Compacts the archive in place, and prints what does not open. Fails if that, or a reader, is in the way.
pub(super) fn run(common: &Common, options: &OnArchive) -> Result<(), Failure> {
    let archive = common.writer(&options.archive)?;
    let progress = Progress::stoppable(common)?;
    let list = RefCell::new(List::begin(common, false, "findings")?);
    let (damage, moved) = (RefCell::new(Damage::default()), Cell::new(0));
    let text = |finding: &Finding| Some(PathText::new(&finding.to_string()).to_string());
    let compaction = archive.compact().wait(Duration::from_secs(common.wait.into()));
    let compacted = compaction.run(
        |finding| {
            damage.borrow_mut().add(&finding);
            list.borrow_mut().add(&finding, text);
        },
        |at| {
            moved.set(at.blocks);
            progress.set_of_blocks(at.blocks, at.total);
            progress.flow()
        },
    );
    progress.finish();
    let done = || format!("{} blocks moved; run it again to continue", moved.get());
    let compacted = compacted.map_err(Failure::stopped(done));
    let mut list = list.into_inner();
    list_affected(&mut list, &archive, &damage.into_inner())?;
    let compacted: Compacted = finish(archive, compacted)?;
    list.end_with("counts", &compacted, (!common.quiet).then(|| compacted.to_string()))?;
    match (compacted.damaged, compacted.oldest_reader) {
        (1.., _) => Err(Failure::findings(compacted.damaged)),
        (0, Some(oldest)) => {
            let summary = format!(
                "not finished: another process reads commit {oldest}; --wait SECONDS waits for it"
            );
            Err(Failure::Incomplete { summary, code: Code::HeldByReaders })
        }
        (0, None) => Ok(()),
    }
}
