//! `rekey`: changes the master key.

use std::ops::ControlFlow;

use ar7_engine::Error as EngineError;
use ar7_engine::store::{Io, OpenOptions, RekeyOptions};
use ar7_registry::{Archive, Error};

use crate::arguments::{Common, Rekey};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::keys;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::{at, warn_of_losses};

const BLOCK_BYTES: u64 = ar7_engine::format::BLOCK_SIZE_U64;

/// Changes the master key, or continues an interrupted change.
pub(crate) fn run(common: &Common, options: &Rekey) -> Result<(), Failure> {
    let path = &options.archive;
    std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
    let secret = keys::existing(common)?;
    let io = common.io.map_or(Io::Map, Io::from);
    let wait = common.wait();
    let options = RekeyOptions { drop_other_keys: options.drop_other_keys, io, wait };
    let reading = OpenOptions { io, wait, ..OpenOptions::default() };
    // The rekey repairs a damaged slot, even if it then stops or is refused.
    let before = Archive::open(path, &secret, reading).map_err(at(path))?;
    warn_of_losses(path, before.store().recovery());
    drop(before);
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::Bytes);
    let (mut done, mut total) = (0, 0);
    let rekeyed = Archive::rekey(path, &secret, options, &mut |blocks, all| {
        if total != all {
            total = all;
            progress.set_total(u64::from(all) * BLOCK_BYTES);
        }
        done = blocks;
        progress.set_done(u64::from(blocks) * BLOCK_BYTES);
        if interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.finish();
    let rekeyed = match rekeyed {
        Err(Error::Engine(EngineError::Stopped)) => {
            return Err(Failure::Interrupted {
                archive: path.clone(),
                done: describe_progress(done, total),
            });
        }
        outcome => outcome.map_err(at(path))?,
    };
    if !common.quiet {
        let mut output = Output::new();
        let (blocks, left) = (rekeyed.blocks, rekeyed.left);
        output.line(&match left {
            0 => format!(
                "{blocks} blocks are sealed under the new master key; the old one opens none of them"
            ),
            _ => format!(
                "{blocks} blocks are sealed under the new master key; {left} damaged blocks are lost"
            ),
        })?;
        output.finish()?;
    }
    if rekeyed.left > 0 {
        return Err(Failure::Findings { archive: path.clone(), count: rekeyed.left });
    }
    Ok(())
}

/// Describes the progress of an interrupted rekey.
fn describe_progress(done: u32, total: u32) -> String {
    match done {
        0 => "the archive is unchanged".to_owned(),
        _ => format!(
            "{done} of {total} blocks are sealed under the new master key; the archive is \
             read-only until rekey is run again"
        ),
    }
}
