//! `ingest`: stores files and directory trees.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ar7::fs::{IngestEvent, Outcome, Patterns, SkipReason, SourcePath, read_list, read_patterns};
use ar7::{Count, PathText};
use serde_json::json;

use crate::arguments::{Common, Ingest, Selected};
use crate::exit::Failure;
use crate::opened;
use crate::output::Output;
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
    let mut output = Output::new(common, options.json_lines);
    let mut done = "nothing of this run is in the archive".to_owned();
    let ingest = ingest.count(progress.is_shown()).on_event(|event| {
        event.count_in(&progress.meter);
        match &event {
            IngestEvent::Entry { path, outcome } => {
                if let Some(line) = note(options, path, outcome) {
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

/// Returns the ingest that the options ask for.
fn ingest(options: &Ingest) -> Result<ar7::fs::Ingest<'static>, Failure> {
    let ingest = ar7::fs::Ingest::new()
        .into(options.into.clone().unwrap_or_default())
        .exclude(patterns(options)?)
        .one_file_system(options.one_file_system)
        .exclude_caches(options.exclude_caches)
        .ignore_ctime(options.ignore_ctime)
        .ignore_inode(options.ignore_inode)
        .checksum(options.checksum)
        .delete(options.delete)
        .jobs(options.jobs.map(usize::from))
        .checkpoint(options.checkpoint.0)
        .compression(options.compression);
    let mut listed = Vec::new();
    for file in &options.files_from {
        listed.extend(read_from(file, read_list)?.into_iter().map(PathBuf::from));
    }
    Ok(options.paths.iter().cloned().chain(listed).fold(ingest, ar7::fs::Ingest::path))
}

/// Returns the patterns of the options, in their order.
fn patterns(options: &Ingest) -> Result<Patterns, Failure> {
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
    Ok(Patterns::new(patterns)?)
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

/// Returns the line about an entry that was left out, or that a dry run would store or remove.
fn note(options: &Ingest, path: &SourcePath<'_>, outcome: &Outcome<'_>) -> Option<String> {
    let name = || PathText::new(&path.to_path()).to_string();
    match outcome {
        Outcome::LeftOut(reason) if *reason != SkipReason::Excluded => {
            Some(format!("ar7: {}: skipped: {reason}", name()))
        }
        Outcome::Added | Outcome::Changed if options.dry_run => {
            Some(format!("would store {}", name()))
        }
        Outcome::Removed if options.dry_run => Some(format!("would remove {}", name())),
        _ => None,
    }
}
