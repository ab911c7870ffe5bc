//! `diff`: compares a directory with what is stored of it.

use std::path::Path;

use ar7::Count;
use ar7::fs::{Compare, CompareEvent};
use ar7_arguments::{Common, Diff};

use crate::exit::Failure;
use crate::opened;
use crate::output::Output;
use crate::progress::Progress;

/// Prints the differences.
pub(super) fn run(common: &Common, path: &Path, options: &Diff) -> Result<(), Failure> {
    let snapshot = opened::reader(common, path)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let mut output = Output::new(common, options.json_lines);
    let compare = Compare::new(&options.directory).into(options.into.clone().unwrap_or_default());
    let compare = compare.on_event(|event| {
        event.count_in(&progress.meter);
        match &event {
            CompareEvent::Compared { .. } => {}
            CompareEvent::Differs { path, difference } if output.is_text() => {
                output.attempt(|output| {
                    output.name(path)?;
                    output.line(&format_args!(": {difference}"))?;
                    output.flush()
                });
            }
            CompareEvent::Unreadable { path, error } => {
                progress.warn(&(*error).clone().in_entry(*path));
                output.event(&event);
            }
            _ => output.event(&event),
        }
        progress.flow_with(&output)
    });
    let outcome = compare.run(&snapshot);
    progress.finish();
    output.check()?;
    let entries = Count(progress.meter.entries(), "entry");
    let report = outcome.map_err(|error| {
        let error = error.in_entry(&options.directory);
        Failure::stopped(|| format!("{entries} compared"))(error)
    })?;
    output.end_events(&report.summary(), &report, None)?;
    if report.is_same() {
        let bytes = Count(report.bytes, "byte");
        progress.tell(&format_args!("{entries}, {bytes} are the same"));
    }
    Failure::check(report.shortfall())
}
