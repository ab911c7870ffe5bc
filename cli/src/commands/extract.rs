//! `extract`: restores entries into one directory.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7::fs::{ExtractEvent, ExtractReport, Incomplete, Overwrite, Patterns, Sparse};
use ar7::{Error, Snapshot};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Common, Extract, OverwriteChoice, SparseChoice};
use crate::exit::{Code, Failure, reason_of};
use crate::interrupt::Interrupt;
use crate::json::{JsonEvent, JsonName};
use crate::names::path_bytes;
use crate::opened::Opened;
use crate::output::{self, Output};
use crate::progress::{Counts, Progress};

/// Restores the entries.
pub(crate) fn run(common: &Common, options: &Extract) -> Result<(), Failure> {
    let snapshot = Opened::read(common, &options.archive)?.snapshot()?;
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::BytesAndEntries);
    let mut run = Run {
        options,
        interrupt,
        progress: progress.clone(),
        done: (0, 0),
        code: None,
        output: Ok(()),
    };
    let extract = extraction(options, &snapshot)?.count(progress.is_shown());
    let outcome = extract.on_event(|event| run.event(&event)).run(&snapshot);
    progress.finish();
    let Run { interrupt, done, code, output, .. } = run;
    output?;
    let report = outcome.map_err(|error| match error {
        Error::Stopped if interrupt.is_set() => {
            Failure::Interrupted { archive: options.archive.clone(), done: summary(done) }
        }
        Error::Io { .. } | Error::AlreadyExists { .. } => {
            Failure::of_path(&options.archive, &error)
        }
        error => Failure::Library { archive: options.archive.clone(), error },
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
    let outcome = judge(&report, code, options, &progress);
    if common.json {
        Output::new().document(&JsonReport::new(&report))?;
    }
    outcome
}

/// The report as a document.
#[derive(Serialize)]
struct JsonReport {
    entries: u64,
    bytes: u64,
    kept: u64,
    not_restored: Vec<JsonFailure>,
    incomplete: Vec<JsonLack>,
}

#[derive(Serialize)]
struct JsonFailure {
    #[serde(flatten)]
    name: JsonName,
    reason: String,
}

#[derive(Serialize)]
struct JsonLack {
    aspect: &'static str,
    entries: u64,
    #[serde(flatten)]
    first: JsonFailure,
}

impl JsonReport {
    fn new(report: &ExtractReport) -> JsonReport {
        let failure = |path: &Path, error: &Error| {
            let reason = Failure::of_path(path, error).to_string();
            JsonFailure { name: JsonName::new(path_bytes(path)), reason }
        };
        let lack = |lack: &Incomplete| JsonLack {
            aspect: lack.aspect.name(),
            entries: lack.entries,
            first: failure(&lack.path, &lack.error),
        };
        let not_restored = report.not_restored.iter();
        JsonReport {
            entries: report.entries,
            bytes: report.bytes,
            kept: report.kept,
            not_restored: not_restored.map(|failed| failure(&failed.path, &failed.error)).collect(),
            incomplete: report.incomplete.iter().map(lack).collect(),
        }
    }
}

/// Returns the extraction that the options ask for.
fn extraction<'a>(options: &Extract, snapshot: &Snapshot) -> Result<ar7::fs::Extract<'a>, Failure> {
    let overwrite = match (options.overwrite, options.force) {
        (Some(OverwriteChoice::Always), _) | (None, true) => Overwrite::Always,
        (Some(OverwriteChoice::IfNewer), _) => Overwrite::IfNewer,
        (Some(OverwriteChoice::IfChanged), _) => Overwrite::IfChanged,
        (Some(OverwriteChoice::Never), _) => Overwrite::Never,
        (None, false) => Overwrite::Refuse,
    };
    let sparse = match options.sparse {
        SparseChoice::Auto => Sparse::Auto,
        SparseChoice::Always => Sparse::Always,
        SparseChoice::Never => Sparse::Never,
    };
    let mut extract = ar7::fs::Extract::new()
        .to(&options.to)
        .overwrite(overwrite)
        .sparse(sparse)
        .whole_paths(options.whole_paths)
        .preserve_owner(options.preserve_owner)
        .preserve_special(options.preserve_special);
    let parsed = |patterns: Vec<OsString>| {
        Patterns::new(patterns).map_err(|error| match error {
            Error::InvalidPattern { pattern, reason } => {
                Failure::Pattern { pattern: pattern.to_string_lossy().into_owned(), reason }
            }
            error => Failure::of_path(&options.archive, &error),
        })
    };
    if !options.exclude.is_empty() {
        extract = extract.exclude(parsed(options.exclude.clone())?);
    }
    if options.paths.iter().any(|path| is_glob(path, snapshot)) {
        let pattern = |path: &OsString| {
            if is_glob(path, snapshot) { path.clone() } else { Patterns::escape(path) }
        };
        return Ok(extract.patterns(parsed(options.paths.iter().map(pattern).collect())?));
    }
    Ok(options.paths.iter().fold(extract, ar7::fs::Extract::path))
}

/// Returns whether an argument is a glob: it has characters of one, and is not the path of an entry.
fn is_glob(path: &OsStr, snapshot: &Snapshot) -> bool {
    let has_meaning = path.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    has_meaning && !snapshot.exists(path).unwrap_or(false)
}

/// What the events of an extraction change.
struct Run<'a> {
    options: &'a Extract,
    interrupt: Interrupt,
    progress: Progress,
    /// The entries and bytes restored.
    done: (u64, u64),
    /// The exit code, if an entry was not restored.
    code: Option<Code>,
    /// The outcome of writing to standard output.
    output: Result<(), Failure>,
}

impl Run<'_> {
    fn event(&mut self, event: &ExtractEvent<'_>) -> ControlFlow<()> {
        match event {
            ExtractEvent::Counted { bytes } => self.progress.set_total(*bytes),
            ExtractEvent::Wrote { bytes } => {
                self.done.1 += bytes;
                self.progress.advance(*bytes);
            }
            ExtractEvent::Restored { path } => {
                self.done.0 += 1;
                self.progress.entries(self.done.0);
                self.line("restored", || path.to_path_buf(), None);
            }
            ExtractEvent::Kept { path } => self.line("kept", || path.to_path_buf(), None),
            ExtractEvent::NotRestored { path, error } => {
                let failure = Failure::of_path(path, error);
                self.code = Some(worst(self.code, Code::of_library(error)));
                self.progress.warn(&failure);
                self.line("not restored", || path.to_path_buf(), Some(&failure));
            }
            _ => {}
        }
        if self.interrupt.is_set() || self.output.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn line(&mut self, event: &'static str, path: impl Fn() -> PathBuf, failure: Option<&Failure>) {
        if self.options.json_lines && self.output.is_ok() {
            let name = JsonName::new(path_bytes(&path()));
            let reason = failure.map(ToString::to_string);
            self.output = output::json_line(&JsonEvent { event, name, reason });
        }
    }
}

fn summary((entries, bytes): (u64, u64)) -> String {
    format!("{entries} entries, {bytes} bytes restored")
}

/// Prints the summary, or returns the failure of an extraction that did not restore everything.
fn judge(
    report: &ExtractReport,
    code: Option<Code>,
    options: &Extract,
    progress: &Progress,
) -> Result<(), Failure> {
    for pattern in &report.unmatched {
        progress.warn(&Failure::Unmatched { pattern: pattern.clone() });
    }
    for lack in &report.incomplete {
        let reason = reason_of(&lack.error);
        let (path, aspect, entries) = (lack.path.clone(), lack.aspect, lack.entries);
        progress.warn(&Failure::Incomplete { path, aspect, reason, entries });
    }
    if report.is_complete() {
        progress.tell(&summary((report.entries, report.bytes)));
        return Ok(());
    }
    let archive = PathBuf::from(&options.archive);
    let code = code.unwrap_or(Code::Other);
    Err(Failure::NotRestored { archive, count: report.not_restored_count, code })
}

/// Returns the code after one more failure: damage outweighs everything else, and otherwise the first one counts.
fn worst(first: Option<Code>, next: Code) -> Code {
    first.filter(|_| next != Code::Damaged).unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_outweighs_every_other_failure() {
        for (codes, expected) in [
            (vec![Code::Damaged], Code::Damaged),
            (vec![Code::Other, Code::Damaged], Code::Damaged),
            (vec![Code::Damaged, Code::Other], Code::Damaged),
            (vec![Code::NoSpace, Code::Other], Code::NoSpace),
        ] {
            let code = codes.iter().fold(None, |first, &next| Some(worst(first, next)));
            assert_eq!(code, Some(expected), "{codes:?}");
        }
    }
}
