//! `rekey`: changes the master key.

use std::ops::ControlFlow;

use ar7::{Archive, Error};

use crate::arguments::{BLOCK_BYTES, Common, Rekey};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::keys;
use crate::opened::{Opened, at};
use crate::output;
use crate::progress::{Counts, Progress};

/// Changes the master key, or continues an interrupted change.
pub(crate) fn run(common: &Common, options: &Rekey) -> Result<(), Failure> {
    let path = &options.archive;
    std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
    let key = keys::existing(common)?;
    // The rekey repairs a damaged slot, even if it then stops or is refused.
    drop(Opened::with(common, path, Archive::options(), &key)?);
    let options = common.apply(Archive::options()).drop_other_keys(options.drop_other_keys);
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let (mut done, mut total) = (0, 0);
    let rekeyed = options.rekey(path, &key, |at| {
        if total != at.total {
            total = at.total;
            progress.set_total(total * BLOCK_BYTES);
        }
        done = at.blocks;
        progress.set_done(done * BLOCK_BYTES);
        if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.finish();
    let rekeyed = match rekeyed {
        Err(Error::Stopped) => {
            return Err(Failure::Interrupted {
                archive: path.clone(),
                done: describe_progress(done, total),
            });
        }
        outcome => outcome.map_err(at(path))?,
    };
    let rest = match rekeyed.left {
        0 => "the old one opens none of them".to_owned(),
        left => format!("{left} damaged blocks are lost"),
    };
    let line = format!("{} blocks are sealed under the new master key; {rest}", rekeyed.blocks);
    output::report(common, &rekeyed, &line)?;
    if rekeyed.left > 0 {
        return Err(Failure::Findings { archive: path.clone(), count: rekeyed.left });
    }
    Ok(())
}

/// Describes the progress of an interrupted rekey.
fn describe_progress(done: u64, total: u64) -> String {
    match done {
        0 => "the archive is unchanged".to_owned(),
        _ => format!(
            "{done} of {total} blocks are sealed under the new master key; the archive is \
             read-only until rekey is run again"
        ),
    }
}
