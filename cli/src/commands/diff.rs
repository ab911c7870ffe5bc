//! `diff`: compares a directory with what is stored of it.

use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7::Error;
use ar7::fs::{Compare, CompareEvent, CompareReport, Difference};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Common, Diff};
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::json::JsonName;
use crate::names::path_bytes;
use crate::opened::Opened;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::shown::Shown;
use crate::sizes::time_text;

/// Prints the differences.
pub(crate) fn run(common: &Common, options: &Diff) -> Result<(), Failure> {
    let snapshot = Opened::read(common, &options.archive)?.snapshot()?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::BytesAndEntries);
    let mut list = List {
        options,
        is_document: common.json,
        output: Output::new(),
        outcome: Ok(()),
        entries: 0,
        code: None,
    };
    let outcome = Compare::new(&options.directory)
        .path(stored_path(options))
        .on_event(|event| {
            list.outcome = list.event(&event, &progress);
            if interrupt.is_set() || list.outcome.is_err() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
        .run(&snapshot);
    progress.finish();
    let List { mut output, outcome: printed, entries, code, .. } = list;
    printed?;
    let report = outcome.map_err(|error| match error {
        Error::Stopped => {
            let (archive, done) = (options.archive.clone(), format!("{entries} entries compared"));
            Failure::Interrupted { archive, done }
        }
        error => Failure::of_path(&options.archive, &error),
    })?;
    let count = report.difference_count;
    if options.json_lines {
        output.json(&json!({
            "event": "summary",
            "entries": report.entries,
            "bytes": report.bytes,
            "differences": count,
            "unread": report.unreadable_count,
        }))?;
        output.write(b"\n")?;
    }
    if common.json {
        output.document(&JsonReport::new(&report))?;
    } else {
        output.finish()?;
    }
    let archive = options.archive.clone();
    match (code, count) {
        (Some(code), _) => {
            let count = report.unreadable_count;
            Err(Failure::NotCompared { archive, count, code })
        }
        (None, 0) => {
            progress.tell(&format!("{} entries, {} bytes are the same", entries, report.bytes));
            Ok(())
        }
        (None, count) => Err(Failure::Differs { archive, count }),
    }
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

/// The differences found so far.
struct List<'a> {
    options: &'a Diff,
    /// Whether one document is printed at the end.
    is_document: bool,
    output: Output,
    outcome: Result<(), Failure>,
    entries: u64,
    /// The exit code, if an entry could not be compared.
    code: Option<Code>,
}

/// The report as a document.
#[derive(Serialize)]
struct JsonReport {
    entries: u64,
    bytes: u64,
    differences: Vec<JsonDifference>,
    unread: Vec<JsonFailure>,
}

impl JsonReport {
    fn new(report: &CompareReport) -> JsonReport {
        let (differences, unread) = (report.differences.iter(), report.unreadable.iter());
        JsonReport {
            entries: report.entries,
            bytes: report.bytes,
            differences: differences.map(|(path, how)| JsonDifference::new(path, how)).collect(),
            unread: unread.map(|(path, error)| JsonFailure::new(path, error)).collect(),
        }
    }
}

#[derive(Serialize)]
struct JsonLine<T> {
    event: &'static str,
    #[serde(flatten)]
    line: T,
}

#[derive(Serialize)]
struct JsonDifference {
    #[serde(flatten)]
    name: JsonName,
    difference: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl JsonDifference {
    fn new(path: &Path, difference: &Difference) -> JsonDifference {
        let (stored, found) = values(difference);
        let (name, difference) = (JsonName::new(path_bytes(path)), difference.name());
        JsonDifference { name, difference, stored, found }
    }
}

#[derive(Serialize)]
struct JsonFailure {
    #[serde(flatten)]
    name: JsonName,
    reason: String,
}

impl JsonFailure {
    fn new(path: &Path, error: &Error) -> JsonFailure {
        let reason = Failure::of_path(path, error).to_string();
        JsonFailure { name: JsonName::new(path_bytes(path)), reason }
    }
}

impl List<'_> {
    fn event(&mut self, event: &CompareEvent<'_>, progress: &Progress) -> Result<(), Failure> {
        match event {
            CompareEvent::Compared { bytes, .. } => {
                self.entries += 1;
                progress.advance(*bytes);
                progress.entries(self.entries);
                Ok(())
            }
            CompareEvent::Differs { path, difference } => self.difference(path, difference),
            CompareEvent::Unreadable { path, error } => {
                let failure = Failure::of_path(path, error);
                progress.warn(&failure);
                let code = Code::of_library(error);
                let is_damage = code == Code::Damaged || self.code == Some(Code::Damaged);
                self.code = Some(if is_damage { Code::Damaged } else { Code::Unread });
                if !self.options.json_lines {
                    return Ok(());
                }
                self.json(&JsonLine { event: "unread", line: JsonFailure::new(path, error) })
            }
            _ => Ok(()),
        }
    }

    fn difference(&mut self, path: &Path, difference: &Difference) -> Result<(), Failure> {
        if self.is_document {
            return Ok(());
        }
        if self.options.json_lines {
            let event = "differs";
            return self.json(&JsonLine { event, line: JsonDifference::new(path, difference) });
        }
        let (stored, found) = values(difference);
        let mut line = if self.output.is_terminal {
            Shown::path(path).to_string().into_bytes()
        } else {
            path_bytes(path).to_vec()
        };
        line.extend(b": ");
        line.extend(difference.name().as_bytes());
        if let (Some(stored), Some(found)) = (stored, found) {
            line.extend(format!(": stored {stored}, found {found}").as_bytes());
        }
        line.push(b'\n');
        self.output.write(&line)
    }

    fn json(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        self.output.json(document)?;
        self.output.write(b"\n")
    }
}

/// Returns what is stored and what was found, as far as one line has room for it.
fn values(difference: &Difference) -> (Option<String>, Option<String>) {
    let (stored, found) = match difference {
        Difference::Type { stored, found } => {
            let name = |kind: &ar7::FileType| format!("{kind:?}").to_lowercase();
            (name(stored), found.as_ref().map_or_else(|| "another type".to_owned(), name))
        }
        Difference::Size { stored, found } => (stored.to_string(), found.to_string()),
        Difference::Mode { stored, found } => (format!("{stored:04o}"), format!("{found:04o}")),
        Difference::Owner { stored, found } => {
            (format!("{}:{}", stored.0, stored.1), format!("{}:{}", found.0, found.1))
        }
        Difference::Modified { stored, found } => (time_text(*stored), time_text(*found)),
        Difference::Target { stored, found } => {
            (Shown::path(stored).to_string(), Shown::path(found).to_string())
        }
        _ => return (None, None),
    };
    (Some(stored), Some(found))
}
