//! `extract`: restores entries into one directory.

use std::path::Path;

use ar7::fs::{ExtractEvent, Overwrite, Patterns};
use ar7::{Count, Error, Snapshot};

use crate::arguments::{Common, Extract};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Restores the entries.
pub(super) fn run(common: &Common, path: &Path, options: &Extract) -> Result<(), Failure> {
    let snapshot = common.reader(path)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let mut output = Output::new(common, options.json_lines);
    let extract = extraction(options, &snapshot)?.count(progress.is_shown()).on_event(|event| {
        event.count_in(&progress.meter);
        if let ExtractEvent::NotRestored { path, error } = &event {
            progress.warn(&failure(path, error));
        }
        if !matches!(event, ExtractEvent::Counted { .. } | ExtractEvent::Wrote { .. }) {
            output.event(&event);
        }
        progress.flow_with(&output)
    });
    let outcome = extract.run(&snapshot);
    progress.finish();
    output.check()?;
    let report = outcome.map_err(|error| match error {
        Error::AlreadyExists { path } => Failure::Exists { path },
        error => {
            Failure::stopped(|| restored(progress.meter.entries(), progress.meter.bytes()))(error)
        }
    })?;
    report.warnings().for_each(|warning| progress.warn(&warning));
    output.end_events(&report.summary(), &report, None)?;
    if report.is_complete() {
        progress.tell(&report);
    }
    Failure::check(report.shortfall())
}

/// Returns the extraction that the options ask for.
fn extraction<'a>(options: &Extract, snapshot: &Snapshot) -> Result<ar7::fs::Extract<'a>, Failure> {
    let extract = ar7::fs::Extract::new()
        .to(&options.to)
        .exclude(Patterns::new(&options.exclude)?)
        .overwrite(if options.force { Overwrite::Always } else { options.overwrite })
        .sparse(options.sparse)
        .whole_paths(options.whole_paths)
        .preserve_owner(options.preserve_owner)
        .preserve_special(options.preserve_special);
    Ok(extract.select(snapshot, &options.paths)?)
}

/// Returns the failure to restore an entry.
fn failure(path: &Path, error: &Error) -> Failure {
    match error {
        Error::AlreadyExists { path } => Failure::Exists { path: path.clone() },
        error => error.clone().in_entry(path).into(),
    }
}

fn restored(entries: u64, bytes: u64) -> String {
    format!("{}, {} restored", Count(entries, "entry"), Count(bytes, "byte"))
}
