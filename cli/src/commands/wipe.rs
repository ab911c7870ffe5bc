//! `wipe-free`: overwrites free blocks with blank blocks.

use crate::arguments::{Common, WipeFree};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::Session;

/// Wipes the free blocks.
pub(crate) fn run(common: &Common, options: &WipeFree) -> Result<(), Failure> {
    let session = Session::write(common, &options.archive)?;
    wipe(common, &session)?;
    session.finish()
}

/// Purges pending deletions, wipes the free blocks, and prints how many there were.
pub(crate) fn wipe(common: &Common, session: &Session) -> Result<(), Failure> {
    let progress = Progress::new(common, Counts::Bytes);
    let done = |blocks: u64| progress.set_done(blocks * ar7_engine::format::BLOCK_SIZE_U64);
    let wiped = session.archive.wipe_free(&mut |blocks| done(blocks));
    progress.finish();
    let wiped = wiped.map_err(session.named())?;
    if common.quiet {
        return Ok(());
    }
    let mut output = Output::new();
    output.line(&format!("{wiped} free blocks wiped"))?;
    output.finish()
}
