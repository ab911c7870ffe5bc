//! `ingest`: stores files and directory trees.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ar7::PathText;
use ar7::fs::{IngestEvent, IngestReport, Outcome, Patterns, SkipReason, read_list, read_patterns};
use serde_json::json;

use crate::arguments::{Common, Ingest, Selected};
use crate::exit::Failure;
use crate::opened;
use crate::output::{self, Output};
use crate::progress::Progress;

/// Stores the trees and closes the archive. What was not committed is dropped.
pub(super) fn run(common: &Common, options: &Ingest) -> Result<(), Failure> {
    let ingest = ingest(options)?;
    let archive = match fs::metadata(&options.archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && options.dry_run => None,
        Ok(_) if options.dry_run => Some(common.reader(&options.archive)?),
        _ => Some(common.writer_or_new(&options.archive, &options.slot)?),
    };
    // Not earlier: the bar would be drawn over the prompt for a passphrase.
    let progress = Progress::stoppable(common)?;
    let (mut printed, mut done) = (Ok(()), "nothing of this run is in the archive".to_owned());
    let ingest = ingest.count(progress.is_shown()).on_event(|event| {
        if let IngestEvent::Checkpoint { number, entries, bytes } = event {
            done = format!(
                "{entries} entries, {bytes} bytes are in the archive, as of checkpoint {number}"
            );
        }
        printed = handle(&event, options, &progress);
        if printed.is_err() { ControlFlow::Break(()) } else { progress.flow() }
    });
    let outcome = match &archive {
        Some(archive) if !options.dry_run => ingest.run(archive),
        archive => ingest.preview(archive.as_ref()),
    };
    progress.finish();
    let outcome = printed.and_then(|()| outcome.map_err(Failure::stopped(|| done)));
    let report = match archive {
        Some(archive) if !options.dry_run => opened::finish(archive, outcome)?,
        _ => outcome?,
    };
    judge(common, options, &report, &progress)
}

/// Returns the ingest that the options ask for.
fn ingest(options: &Ingest) -> Result<ar7::fs::Ingest<'static>, Failure> {
    let mut ingest = ar7::fs::Ingest::new()
        .into(options.into.clone().unwrap_or_default())
        .one_file_system(options.one_file_system)
        .exclude_caches(options.exclude_caches)
        .ignore_ctime(options.ignore_ctime)
        .ignore_inode(options.ignore_inode)
        .checksum(options.checksum)
        .delete(options.delete)
        .checkpoint(options.checkpoint);
    if let Some(jobs) = options.jobs {
        ingest = ingest.jobs(jobs.into());
    }
    if let Some(patterns) = patterns(options)? {
        ingest = ingest.exclude(patterns);
    }
    let mut listed = Vec::new();
    for file in &options.files_from {
        listed.extend(read_from(file, read_list)?.into_iter().map(PathBuf::from));
    }
    Ok(options.paths.iter().cloned().chain(listed).fold(ingest, ar7::fs::Ingest::path))
}

/// Returns the patterns of the options, in their order.
fn patterns(options: &Ingest) -> Result<Option<Patterns>, Failure> {
    let mut patterns = Vec::new();
    for selected in &options.selection.0 {
        match selected {
            Selected::Exclude(pattern) => patterns.push(pattern.clone()),
            Selected::ExcludeFrom(file) => patterns.extend(read_from(file, read_patterns)?),
            Selected::Include(pattern) => {
                let mut negated = OsString::from("!");
                negated.push(pattern);
                patterns.push(negated);
            }
        }
    }
    let is_some = !patterns.is_empty();
    Ok(if is_some { Some(Patterns::new(patterns)?) } else { None })
}

/// Reads the list in a file. `-` is standard input.
fn read_from(
    file: &Path,
    read: impl FnOnce(Box<dyn io::Read>) -> io::Result<Vec<OsString>>,
) -> Result<Vec<OsString>, Failure> {
    if file == Path::new("-") {
        return read(Box::new(io::stdin().lock())).map_err(Failure::Input);
    }
    let failed = |error| Failure::file(file, "read", error);
    read(Box::new(fs::File::open(file).map_err(failed)?)).map_err(failed)
}

fn handle(event: &IngestEvent<'_>, options: &Ingest, progress: &Progress) -> Result<(), Failure> {
    let (path, outcome) = match event {
        IngestEvent::Entry { path, outcome } => (path, outcome),
        other => {
            match other {
                IngestEvent::Counted { bytes } => progress.set_total(*bytes),
                IngestEvent::Read { bytes } => progress.advance(*bytes),
                IngestEvent::Checkpoint { number, entries, bytes } => {
                    progress
                        .tell(&format!("checkpoint {number}: {entries} entries, {bytes} bytes"));
                }
                _ => progress.tick(),
            }
            return Ok(());
        }
    };
    progress.entry(|| path.to_path());
    match outcome {
        Outcome::Unread(error) | Outcome::Attributes(error) => {
            progress.warn(&(*error).clone().in_entry(path.to_path()));
        }
        Outcome::ChangedWhileRead => progress.warn(&format_args!(
            "{}: changed while it was read; stored as it was read",
            PathText::new(&path.to_path())
        )),
        Outcome::LeftOut(reason) if *reason != SkipReason::Excluded => {
            progress.tell(&format!("ar7: {}: skipped: {reason}", PathText::new(&path.to_path())));
        }
        Outcome::Added | Outcome::Changed if options.dry_run => {
            progress.tell(&format!("would store {}", PathText::new(&path.to_path())));
        }
        Outcome::Removed if options.dry_run => {
            progress.tell(&format!("would remove {}", PathText::new(&path.to_path())));
        }
        _ => {}
    }
    if options.json_lines { output::json_line(event) } else { Ok(()) }
}

/// Prints the report, or returns the failure of an ingest that did not store everything as it is.
fn judge(
    common: &Common,
    options: &Ingest,
    report: &IngestReport,
    progress: &Progress,
) -> Result<(), Failure> {
    for link in &report.links {
        progress.warn(&format_args!(
            "{0}: warning: stored as a symbolic link; {0}/. stores the directory that it leads to",
            PathText::new(link)
        ));
    }
    for pattern in &report.unmatched {
        progress.warn(&format_args!("{}: warning: matches nothing", PathText::new(pattern)));
    }
    if options.json_lines {
        output::json_line(&json!({ "event": "summary", "report": report }))?;
    } else if common.json {
        Output::new().document(report)?;
    } else {
        progress.tell(&report.to_string());
    }
    if report.is_complete() {
        return Ok(());
    }
    let count = report.unread_count + report.attributes_count;
    Err(Failure::Unread { count, changed: report.changed_count })
}
