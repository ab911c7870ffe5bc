//! `ingest`: stores files and directory trees.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7::Error;
use ar7::fs::{IngestEvent, IngestReport, Outcome, Patterns, SourcePath, Unread};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Common, Ingest};
use crate::exit::{Failure, reason_of};
use crate::interrupt::Interrupt;
use crate::json::{JsonEvent, JsonName};
use crate::names::path_bytes;
use crate::opened::{Opened, at};
use crate::output::{self, Output};
use crate::progress::{Counts, Progress};
use crate::shown::Shown;

/// Stores the trees and closes the archive. What was not committed is dropped.
pub(crate) fn run(common: &Common, options: &Ingest) -> Result<(), Failure> {
    let ingest = ingest(options)?;
    let is_there = match fs::metadata(&options.archive) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::file(&options.archive, "open", error)),
    };
    let opened = match (is_there, options.dry_run) {
        (false, true) => None,
        (true, true) => Some(Opened::read(common, &options.archive)?),
        (_, false) => Some(Opened::write_or_create(common, &options.archive, &options.slot)?),
    };
    let interrupt = Interrupt::catch()?;
    // Not earlier: the bar would be drawn over the prompt for a passphrase.
    let progress = Progress::new(common, Counts::BytesAndEntries);
    let mut run = Run::new(options, &interrupt, &progress);
    let ingest = ingest.count(progress.is_shown()).on_event(|event| run.event(&event));
    let outcome = match &opened {
        Some(opened) if !options.dry_run => ingest.run(&opened.archive),
        opened => ingest.preview(opened.as_ref().map(|opened| &opened.archive)),
    };
    progress.finish();
    let Run { committed, output, .. } = run;
    let outcome = output.and_then(|()| {
        outcome.map_err(|error| match error {
            Error::Stopped if interrupt.is_set() => {
                Failure::Interrupted { archive: options.archive.clone(), done: committed }
            }
            Error::SameName { first, second } => {
                let advice = "store them separately, with different --into";
                Failure::SameName { first, second, advice }
            }
            Error::InEntry { ref path, .. } => Failure::Path { path: path.clone(), error },
            Error::WrongType { .. } => {
                Failure::Path { path: options.into.clone().unwrap_or_default().into(), error }
            }
            error => at(&options.archive)(error),
        })
    });
    let report = match opened {
        Some(opened) if !options.dry_run => opened.finish_after(outcome)?,
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
        listed.extend(lines_of(file)?.into_iter().map(PathBuf::from));
    }
    Ok(options.paths.iter().cloned().chain(listed).fold(ingest, ar7::fs::Ingest::path))
}

/// Returns the patterns of the options: those of files, then the others. What is included is decided last.
fn patterns(options: &Ingest) -> Result<Option<Patterns>, Failure> {
    let mut patterns = Vec::new();
    for file in &options.exclude_from {
        // As in `.gitignore`: `#` begins a comment.
        patterns.extend(lines_of(file)?.into_iter().filter(|line| !is_comment(line)));
    }
    patterns.extend(options.exclude.iter().cloned());
    patterns.extend(options.include.iter().map(|pattern| {
        let mut negated = OsString::from("!");
        negated.push(pattern);
        negated
    }));
    if patterns.is_empty() {
        return Ok(None);
    }
    Patterns::new(patterns).map(Some).map_err(malformed)
}

fn malformed(error: Error) -> Failure {
    match error {
        Error::InvalidPattern { pattern, reason } => {
            Failure::Pattern { pattern: pattern.to_string_lossy().into_owned(), reason }
        }
        error => at(Path::new("patterns"))(error),
    }
}

fn is_comment(line: &OsStr) -> bool {
    line.as_bytes().starts_with(b"#")
}

/// Returns the lines of a file that are not empty. In a file that contains a NUL, each NUL ends a line, and nothing else
/// does. `-` is standard input.
fn lines_of(file: &Path) -> Result<Vec<OsString>, Failure> {
    let text = if file == Path::new("-") {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::stdin().lock(), &mut text).map_err(Failure::Input)?;
        text
    } else {
        fs::read(file).map_err(|error| Failure::file(file, "read", error))?
    };
    let end = if text.contains(&0) { 0 } else { b'\n' };
    let lines = text.split(|&byte| byte == end).filter(|line| !line.is_empty());
    Ok(lines.map(|line| OsStr::from_bytes(line).to_owned()).collect())
}

/// Returns whether patterns exclude a path.
#[cfg(feature = "testing")]
pub(crate) fn excludes(patterns: &[String], path: &Path) -> Result<bool, Failure> {
    let patterns = Patterns::new(patterns).map_err(malformed)?;
    Ok(patterns.matches(path, false) == Some(true))
}

/// What the events of an ingest change.
struct Run<'a> {
    options: &'a Ingest,
    interrupt: &'a Interrupt,
    progress: &'a Progress,
    entries: u64,
    /// What is in the archive as of the last checkpoint.
    committed: String,
    /// The outcome of writing to standard output.
    output: Result<(), Failure>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Ingest, interrupt: &'a Interrupt, progress: &'a Progress) -> Run<'a> {
        let committed = "nothing of this run is in the archive".to_owned();
        Run { options, interrupt, progress, entries: 0, committed, output: Ok(()) }
    }

    fn event(&mut self, event: &IngestEvent<'_>) -> ControlFlow<()> {
        match event {
            IngestEvent::Counted { bytes } => self.progress.set_total(*bytes),
            IngestEvent::Read { bytes } => self.progress.advance(*bytes),
            IngestEvent::Entry { path, outcome } => {
                self.entries += 1;
                self.progress.entries(self.entries);
                self.entry(path, outcome);
            }
            IngestEvent::Checkpoint { number, entries, bytes } => {
                self.progress
                    .tell(&format!("checkpoint {number}: {entries} entries, {bytes} bytes"));
                self.committed = format!(
                    "{entries} entries, {bytes} bytes are in the archive, as of checkpoint {number}"
                );
            }
            _ => {}
        }
        if self.interrupt.is_set() || self.output.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn entry(&mut self, path: &SourcePath<'_>, outcome: &Outcome<'_>) {
        let shown = || path.to_path();
        match outcome {
            Outcome::Unread(error) | Outcome::Attributes(error) => {
                self.progress.warn(&Failure::of_path(&shown(), error));
            }
            Outcome::ChangedWhileRead => {
                self.progress.warn(&Failure::ChangedWhileRead { path: shown() });
            }
            Outcome::LeftOut(reason) if *reason != ar7::fs::SkipReason::Excluded => {
                let path = shown();
                self.progress.tell(&format!("ar7: {}: skipped: {reason}", Shown::path(&path)));
            }
            Outcome::Added | Outcome::Changed if self.options.dry_run => {
                self.progress.tell(&format!("would store {}", Shown::path(&shown())));
            }
            Outcome::Removed if self.options.dry_run => {
                self.progress.tell(&format!("would remove {}", Shown::path(&shown())));
            }
            _ => {}
        }
        if self.options.json_lines && self.output.is_ok() {
            let reason = match outcome {
                Outcome::LeftOut(reason) => Some(reason.to_string()),
                Outcome::Unread(error) | Outcome::Attributes(error) => Some(reason_of(error)),
                _ => None,
            };
            let name = JsonName::new(path_bytes(&shown()));
            self.output = output::json_line(&JsonEvent { event: outcome.name(), name, reason });
        }
    }
}

/// An entry that was not stored, or not as it is.
#[derive(Serialize)]
struct JsonReason {
    #[serde(flatten)]
    name: JsonName,
    reason: String,
}

impl JsonReason {
    fn new(path: &Path, reason: &dyn ToString) -> JsonReason {
        JsonReason { name: JsonName::new(path_bytes(path)), reason: reason.to_string() }
    }
}

/// The report as a document.
#[derive(Serialize)]
struct JsonReport {
    entries: u64,
    bytes: u64,
    stored_files: u64,
    stored_bytes: u64,
    unchanged: u64,
    removed: u64,
    skipped: Vec<JsonReason>,
    changed: Vec<JsonName>,
    unread: Vec<JsonReason>,
    attributes: Vec<JsonReason>,
    checkpoints: u64,
}

impl JsonReport {
    fn new(report: &IngestReport) -> JsonReport {
        let skipped = report.left_out.iter().map(|left| JsonReason::new(&left.path, &left.reason));
        let unread = |unread: &Unread| JsonReason::new(&unread.path, &reason_of(&unread.error));
        let changed = report.changed.iter().map(|path| JsonName::new(path_bytes(path)));
        JsonReport {
            entries: report.entries,
            bytes: report.bytes,
            stored_files: report.stored_files,
            stored_bytes: report.stored_bytes,
            unchanged: report.unchanged,
            removed: report.removed,
            skipped: skipped.collect(),
            changed: changed.collect(),
            unread: report.unread.iter().map(unread).collect(),
            attributes: report.attributes.iter().map(unread).collect(),
            checkpoints: report.checkpoints,
        }
    }
}

/// Prints the report, or returns the failure of an ingest that did not store everything as it is.
fn judge(
    common: &Common,
    options: &Ingest,
    report: &IngestReport,
    progress: &Progress,
) -> Result<(), Failure> {
    for path in &report.links {
        progress.warn(&Failure::StoredLink { path: path.clone() });
    }
    for pattern in &report.unmatched {
        progress.warn(&Failure::Unmatched { pattern: pattern.clone() });
    }
    if options.json_lines {
        let document = JsonReport::new(report);
        output::json_line(&json!({ "event": "summary", "report": document }))?;
    } else if common.json {
        Output::new().document(&JsonReport::new(report))?;
    } else {
        progress.tell(&summary(report, options.dry_run));
    }
    if report.is_complete() {
        return Ok(());
    }
    Err(Failure::Unread {
        archive: options.archive.clone(),
        count: (report.unread.len() + report.attributes.len()) as u64,
        changed: report.changed.len() as u64,
    })
}

/// Returns a summary in one line.
fn summary(report: &IngestReport, is_dry: bool) -> String {
    let IngestReport { entries, bytes, stored_files, stored_bytes, unchanged, removed, .. } =
        report;
    let would = if is_dry { "would be " } else { "" };
    let removed = match removed {
        0 => String::new(),
        removed => format!(", {removed} entries {would}removed"),
    };
    format!(
        "{entries} entries, {bytes} bytes: {stored_files} files of {stored_bytes} bytes {would}stored, \
         {unchanged} entries unchanged{removed}"
    )
}
