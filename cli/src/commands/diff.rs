//! `diff`: compares a directory with what is stored of it.

use std::path::Path;

use ar7::fs::{Compare, CompareEvent};
use ar7::{Count, ErrorClass};

use crate::arguments::{Common, Diff};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress::Progress;

/// Prints the differences.
pub(super) fn run(common: &Common, path: &Path, options: &Diff) -> Result<(), Failure> {
    let snapshot = common.reader(path)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let (mut output, mut code) = (Output::new(common, options.json_lines), None);
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
                code = Some(ErrorClass::worst(code, error));
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
    let (differences, unread) = (report.difference_count, report.unreadable_count);
    output.end_events(&report.summary(), &report, None)?;
    let (summary, code) = match code {
        Some(code) => {
            let code = if code == ErrorClass::Damaged { code } else { ErrorClass::Unread };
            (format!("{} could not be compared", Count(unread, "entry")), code)
        }
        None if differences > 0 => {
            (Count(differences, "difference").to_string(), ErrorClass::Other)
        }
        None => {
            let bytes = Count(report.bytes, "byte");
            progress.tell(&format_args!("{entries}, {bytes} are the same"));
            return Ok(());
        }
    };
    Err(Failure::Incomplete { summary, code })
}
