//! `rekey`: another master key.

use ar7_engine::store::{Io, RekeyOptions};
use ar7_registry::Archive;

use crate::arguments::{Common, Rekey};
use crate::exit::Failure;
use crate::keys;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::at;

const BLOCK_BYTES: u64 = ar7_engine::format::BLOCK_SIZE_U64;

/// Changes the master key, or goes on with a change that was cut off.
pub(crate) fn run(common: &Common, options: &Rekey) -> Result<(), Failure> {
    let path = &options.archive;
    std::fs::metadata(path).map_err(|error| Failure::file(path, "open", error))?;
    let secret = keys::existing(common)?;
    let io = common.io.map_or(Io::Map, Io::from);
    let options = RekeyOptions { drop_other_keys: options.drop_other_keys, io };
    let progress = Progress::new(common, Counts::Bytes);
    let mut total = 0;
    let rekeyed = Archive::rekey(path, &secret, options, &mut |done, all| {
        if total != all {
            total = all;
            progress.set_total(u64::from(all) * BLOCK_BYTES);
        }
        progress.set_done(u64::from(done) * BLOCK_BYTES);
    });
    progress.finish();
    let rekeyed = rekeyed.map_err(at(path))?;
    if !common.quiet {
        let mut output = Output::new();
        let (blocks, left) = (rekeyed.blocks, rekeyed.left);
        output.line(&match left {
            0 => format!("{blocks} blocks sealed anew; the old key opens nothing"),
            _ => format!("{blocks} blocks sealed anew; {left} are damaged, and lost"),
        })?;
        output.finish()?;
    }
    if rekeyed.left > 0 {
        return Err(Failure::Findings { archive: path.clone(), count: rekeyed.left });
    }
    Ok(())
}
