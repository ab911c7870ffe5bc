//! `extract`: restores entries into one directory.

use std::path::Path;

use ar7::fs::ExtractEvent;
use ar7::{Count, Error};
use ar7_arguments::{Common, Extract};

use crate::exit::Failure;
use crate::opened;
use crate::output::Output;
use crate::progress::Progress;

/// Restores the entries.
pub(super) fn run(common: &Common, path: &Path, options: &Extract) -> Result<(), Failure> {
    let snapshot = opened::reader(common, path)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let mut output = Output::new(common, options.json_lines);
    let extract = options.builder(&snapshot)?.count(progress.is_shown()).on_event(|event| {
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
            let entries = Count(progress.meter.entries(), "entry");
            let bytes = Count(progress.meter.bytes(), "byte");
            Failure::stopped(|| format!("{entries}, {bytes} restored"))(error)
        }
    })?;
    report.warnings().for_each(|warning| progress.warn(&warning));
    output.end_events(&report.summary(), &report, None)?;
    if report.is_complete() {
        progress.tell(&report);
    }
    Failure::check(report.shortfall())
}

/// Returns the failure to restore an entry.
fn failure(path: &Path, error: &Error) -> Failure {
    match error {
        Error::AlreadyExists { path } => Failure::Exists { path: path.clone() },
        error => error.clone().in_entry(path).into(),
    }
}
