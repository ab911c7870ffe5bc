//! `diff`: compares a directory with what is stored of it.

use ar7::fs::{Compare, CompareEvent};
use serde_json::json;

use crate::arguments::{Common, Diff};
use crate::events::Events;
use crate::exit::{Code, Failure};
use crate::progress::Progress;

/// Prints the differences.
pub(super) fn run(common: &Common, options: &Diff) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let (mut events, mut code) = (Events::new(options.json_lines), None);
    let is_text = !common.json && !options.json_lines;
    let compare = Compare::new(&options.directory).into(options.into.clone().unwrap_or_default());
    let compare = compare.on_event(|event| {
        match &event {
            CompareEvent::Compared { path, bytes } => {
                progress.entry(|| path.to_path_buf());
                progress.advance(*bytes);
            }
            CompareEvent::Differs { path, difference } if is_text => {
                events.line(|output| {
                    output.name(path)?;
                    output.line(&format!(": {difference}"))
                });
            }
            CompareEvent::Unreadable { path, error } => {
                code = Some(Code::worst(code, error));
                progress.warn(&(*error).clone().in_entry(*path));
                events.add(&event);
            }
            _ => events.add(&event),
        }
        events.flow(&progress)
    });
    let outcome = compare.run(&snapshot);
    progress.finish();
    events.check()?;
    let entries = progress.entries();
    let report = outcome.map_err(|error| {
        let error = error.in_entry(&options.directory);
        Failure::stopped(|| format!("{entries} entries compared"))(error)
    })?;
    let (differences, unread) = (report.difference_count, report.unreadable_count);
    let summary = json!({
        "event": "summary",
        "entries": report.entries,
        "bytes": report.bytes,
        "differences": differences,
        "unread": unread,
    });
    events.end(common, &summary, &report, None)?;
    let (summary, code) = match code {
        Some(Code::Damaged) => (format!("{unread} entries could not be compared"), Code::Damaged),
        Some(_) => (format!("{unread} entries could not be compared"), Code::Unread),
        None if differences > 0 => (format!("{differences} differences"), Code::Other),
        None => {
            progress.tell(&format!("{entries} entries, {} bytes are the same", report.bytes));
            return Ok(());
        }
    };
    Err(Failure::Incomplete { summary, code })
}
