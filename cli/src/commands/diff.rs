//! `diff`: compares a directory with what is stored of it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use ar7::Error;
use ar7::fs::{Compare, CompareEvent};
use serde_json::json;

use crate::arguments::{Common, Diff};
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::progress::Progress;

/// Prints the differences.
pub(super) fn run(common: &Common, options: &Diff) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let (mut output, mut printed, mut code) = (Output::new(), Ok(()), None);
    let compare = Compare::new(&options.directory).path(stored_path(options));
    let outcome = compare
        .on_event(|event| {
            if let CompareEvent::Unreadable { error, .. } = event {
                code = Some(Code::worst(code, error));
            }
            printed = print(&event, common, options, &mut output, &progress);
            if printed.is_err() { ControlFlow::Break(()) } else { progress.flow() }
        })
        .run(&snapshot);
    progress.finish();
    printed?;
    let entries = progress.entries();
    let report = outcome.map_err(|error| match error {
        Error::Stopped => Failure::Interrupted { done: format!("{entries} entries compared") },
        error => error.in_entry(&options.directory).into(),
    })?;
    let (different, unread) = (report.difference_count, report.unreadable_count);
    if options.json_lines {
        output.json_line(&json!({
            "event": "summary",
            "entries": report.entries,
            "bytes": report.bytes,
            "differences": different,
            "unread": unread,
        }))?;
    }
    if common.json {
        output.document(&report)?;
    } else {
        output.finish()?;
    }
    if let Some(code) = code {
        let code = if code == Code::Damaged { code } else { Code::Unread };
        return Err(Failure::Entries {
            count: unread,
            what: "entries could not be compared",
            code,
        });
    }
    if different > 0 {
        return Err(Failure::Entries { count: different, what: "differences", code: Code::Other });
    }
    progress.tell(&format!("{entries} entries, {} bytes are the same", report.bytes));
    Ok(())
}

/// Returns the path of the directory in the archive: its last component, as `ingest` stores it.
fn stored_path(options: &Diff) -> PathBuf {
    let into = options.into.as_deref().map_or_else(PathBuf::new, PathBuf::from);
    let is_content = options.directory.as_os_str().as_bytes().ends_with(b"/.");
    match options.directory.file_name() {
        Some(name) if !is_content => into.join(name),
        _ => into,
    }
}

fn print(
    event: &CompareEvent<'_>,
    common: &Common,
    options: &Diff,
    output: &mut Output,
    progress: &Progress,
) -> Result<(), Failure> {
    match event {
        CompareEvent::Compared { path, bytes } => {
            progress.entry(|| path.to_path_buf());
            progress.advance(*bytes);
            return Ok(());
        }
        CompareEvent::Unreadable { path, error } => {
            progress.warn(&(*error).clone().in_entry(*path));
        }
        CompareEvent::Differs { path, difference } if !common.json && !options.json_lines => {
            output.name(path)?;
            return output.line(&format!(": {difference}"));
        }
        _ => {}
    }
    if options.json_lines { output.json_line(event) } else { Ok(()) }
}
