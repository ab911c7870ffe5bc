//! `ingest`: stores files and directory trees.

use std::fs;
use std::io;

use ar7::Count;
use ar7::fs::IngestEvent;
use ar7_arguments::{Common, Ingest};
use serde_json::json;

use crate::exit::Failure;
use crate::opened;
use crate::output::Output;
use crate::progress::Progress;

/// Stores the trees and closes the archive. What was not committed is dropped.
pub(super) fn run(common: &Common, options: &Ingest) -> Result<(), Failure> {
    let ingest = options.builder()?;
    let archive = match fs::metadata(&options.archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.dry_run => None,
        Ok(_) if options.dry_run => Some(opened::reader(common, &options.archive)?),
        _ => Some(opened::writer_or_new(common, &options.archive, &options.slot)?),
    };
    // Not earlier: the bar would be drawn over the prompt for a passphrase.
    let progress = Progress::stoppable(common)?;
    let mut output = Output::new(common, options.json_lines);
    let mut done = "nothing of this run is in the archive".to_owned();
    let ingest = ingest.count(progress.is_shown()).on_event(|event| {
        event.count_in(&progress.meter);
        match &event {
            IngestEvent::Entry { .. } => {
                if let Some(line) = event.note(options.dry_run) {
                    progress.tell(&line);
                }
                if let Some(warning) = event.warning() {
                    progress.warn(&warning);
                }
                output.event(&event);
            }
            IngestEvent::Checkpoint { number, entries, bytes } => {
                let (entries, bytes) = (Count(*entries, "entry"), Count(*bytes, "byte"));
                let counts = format!("{entries}, {bytes}");
                progress.tell(&format_args!("checkpoint {number}: {counts}"));
                done = format!("{counts} are in the archive, as of checkpoint {number}");
            }
            _ => {}
        }
        progress.flow_with(&output)
    });
    let outcome = match &archive {
        Some(archive) if !options.dry_run => ingest.run(archive),
        archive => ingest.preview(archive.as_ref()),
    };
    progress.finish();
    let outcome = output.check().and(outcome.map_err(Failure::stopped(|| done)));
    let report = match archive {
        Some(archive) if !options.dry_run => opened::finish(archive, outcome)?,
        _ => outcome?,
    };
    report.warnings().for_each(|warning| progress.warn(&warning));
    if !options.json_lines && !common.json {
        progress.tell(&report);
    }
    output.end_events(&json!({ "event": "summary", "report": report }), &report, None)?;
    Failure::check(report.shortfall())
}
