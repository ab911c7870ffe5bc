//! `wipe-free`: overwrites free blocks with blank blocks.

use serde_json::json;

use crate::arguments::{BLOCK_BYTES, Common, WipeFree};
use crate::exit::Failure;
use crate::opened::Opened;
use crate::output;
use crate::progress::{Counts, Progress};

/// Wipes the free blocks.
pub(crate) fn run(common: &Common, options: &WipeFree) -> Result<(), Failure> {
    let opened = Opened::write(common, &options.archive)?;
    let wiped = wipe(common, &opened)?;
    opened.finish()?;
    report(common, wiped)
}

/// Purges pending deletions and wipes the free blocks. Returns the number of wiped blocks.
pub(crate) fn wipe(common: &Common, opened: &Opened) -> Result<u64, Failure> {
    let progress = Progress::new(common, Counts::Bytes);
    let wiped = opened.archive.wipe_free(|blocks| progress.set_done(blocks * BLOCK_BYTES));
    progress.finish();
    wiped.map_err(opened.named())
}

/// Prints the number of wiped blocks.
pub(crate) fn report(common: &Common, wiped: u64) -> Result<(), Failure> {
    output::report(common, &json!({ "wiped": wiped }), &format!("{wiped} free blocks wiped"))
}
