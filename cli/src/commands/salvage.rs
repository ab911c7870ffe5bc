//! `salvage`: copies what is left of a damaged archive to a new one.

use std::cell::RefCell;

use ar7::{SalvageOutcome, Salvaged};
use ar7_arguments::{Common, Salvage};

use crate::exit::Failure;
use crate::keys;
use crate::opened::{check_exists, check_is_free};
use crate::output::Output;
use crate::progress::Progress;

/// Salvages the archive, and prints what is not complete. Fails if anything is lost.
pub(super) fn run(common: &Common, options: &Salvage) -> Result<(), Failure> {
    let (path, new) = (&options.archive, &options.new);
    check_exists(path)?;
    check_is_free(new)?;
    let header = options.header.as_deref().map(ar7::read_header).transpose()?;
    let key = keys::existing(common)?;
    let new_key = keys::other(&options.secret)?.unwrap_or_else(|| key.clone());
    let mut salvage = ar7::Salvage::new(path, &key).options(options.slot.options()?);
    if let Some(header) = &header {
        salvage = salvage.header(header);
    }
    let progress = Progress::stoppable(common)?;
    let list = RefCell::new(Output::list(common, false, "entries")?);
    let text =
        |item: &Salvaged| (item.outcome != SalvageOutcome::Complete).then(|| item.to_string());
    let salvaged = salvage.run(
        new,
        &new_key,
        |item| list.borrow_mut().add(&item, text),
        |at| {
            progress.meter.set_salvage(at);
            progress.flow()
        },
    );
    progress.finish();
    let done = || "there is no new archive".to_owned();
    let summary = salvaged.map_err(Failure::stopped(done))?;
    let lines = (!common.quiet).then(|| summary.to_string());
    list.into_inner().end_with("counts", &summary, lines)?;
    Failure::check(summary.shortfall())
}
