//! `extract`: restores entries into one directory.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ar7::fs::{ExtractEvent, ExtractReport, Overwrite, Patterns};
use ar7::{Error, PathText, Snapshot};
use serde_json::json;

use crate::arguments::{Common, Extract};
use crate::exit::{Code, Failure};
use crate::output::{self, Output};
use crate::progress::Progress;

/// Restores the entries.
pub(super) fn run(common: &Common, options: &Extract) -> Result<(), Failure> {
    let snapshot = common.reader(&options.archive)?.snapshot()?;
    let progress = Progress::stoppable(common)?;
    let (mut printed, mut code) = (Ok(()), None);
    let extract = extraction(options, &snapshot)?.count(progress.is_shown());
    let outcome = extract
        .on_event(|event| {
            if let ExtractEvent::NotRestored { error, .. } = event {
                code = Some(Code::worst(code, error));
            }
            printed = handle(&event, options, &progress);
            if printed.is_err() { ControlFlow::Break(()) } else { progress.flow() }
        })
        .run(&snapshot);
    progress.finish();
    printed?;
    let report = outcome.map_err(|error| match error {
        Error::Stopped => {
            Failure::Interrupted { done: summary(progress.entries(), progress.bytes()) }
        }
        Error::AlreadyExists { path } => Failure::Exists { path },
        error => error.into(),
    })?;
    if options.json_lines {
        output::json_line(&json!({
            "event": "summary",
            "entries": report.entries,
            "bytes": report.bytes,
            "kept": report.kept,
            "not_restored": report.not_restored_count,
        }))?;
    }
    let outcome = judge(&report, code, &progress);
    if common.json {
        Output::new().document(&report)?;
    }
    outcome
}

/// Returns the extraction that the options ask for.
fn extraction<'a>(options: &Extract, snapshot: &Snapshot) -> Result<ar7::fs::Extract<'a>, Failure> {
    let mut extract = ar7::fs::Extract::new()
        .to(&options.to)
        .overwrite(if options.force { Overwrite::Always } else { options.overwrite })
        .sparse(options.sparse)
        .whole_paths(options.whole_paths)
        .preserve_owner(options.preserve_owner)
        .preserve_special(options.preserve_special);
    if !options.exclude.is_empty() {
        extract = extract.exclude(Patterns::new(&options.exclude)?);
    }
    if options.paths.iter().any(|path| is_glob(path, snapshot)) {
        let pattern = |path: &OsString| {
            if is_glob(path, snapshot) { path.clone() } else { Patterns::escape(path) }
        };
        return Ok(extract.patterns(Patterns::new(options.paths.iter().map(pattern))?));
    }
    Ok(options.paths.iter().fold(extract, ar7::fs::Extract::path))
}

/// Returns whether an argument is a glob: it has characters of one, and is not the path of an entry.
fn is_glob(path: &OsStr, snapshot: &Snapshot) -> bool {
    let has_meaning = path.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    has_meaning && !snapshot.exists(path).unwrap_or(false)
}

fn handle(event: &ExtractEvent<'_>, options: &Extract, progress: &Progress) -> Result<(), Failure> {
    match event {
        ExtractEvent::Counted { bytes } => progress.set_total(*bytes),
        ExtractEvent::Wrote { bytes } => progress.advance(*bytes),
        ExtractEvent::Restored { path } => progress.entry(|| path.to_path_buf()),
        ExtractEvent::NotRestored { path, error } => progress.warn(&failure(path, error)),
        _ => {}
    }
    let is_listed = matches!(
        event,
        ExtractEvent::Restored { .. }
            | ExtractEvent::Kept { .. }
            | ExtractEvent::NotRestored { .. }
    );
    if options.json_lines && is_listed { output::json_line(event) } else { Ok(()) }
}

/// Returns the failure to restore an entry.
fn failure(path: &Path, error: &Error) -> Failure {
    match error {
        Error::AlreadyExists { path } => Failure::Exists { path: path.clone() },
        error => error.clone().in_entry(path).into(),
    }
}

fn summary(entries: u64, bytes: u64) -> String {
    format!("{entries} entries, {bytes} bytes restored")
}

/// Prints the summary, or returns the failure of an extraction that did not restore everything.
fn judge(report: &ExtractReport, code: Option<Code>, progress: &Progress) -> Result<(), Failure> {
    for pattern in &report.unmatched {
        progress.warn(&format_args!("{}: warning: matches nothing", PathText::new(pattern)));
    }
    for lack in &report.incomplete {
        progress.warn(&format_args!(
            "{}: warning: {} not restored: {}; {} entries lack them",
            PathText::new(&lack.path),
            lack.aspect,
            lack.error.reason(),
            lack.entries
        ));
    }
    if let Some(code) = code {
        let count = report.not_restored_count;
        return Err(Failure::Entries { count, what: "entries could not be restored", code });
    }
    progress.tell(&summary(report.entries, report.bytes));
    Ok(())
}
