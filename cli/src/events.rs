//! The events of long commands as documents, one a line.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::arguments::Common;
use crate::exit::Failure;
use crate::output::{Output, json_line, report};
use crate::progress::Progress;

/// What a long command prints with `--json-lines`: a document for each event, one a line. A failure of standard output
/// stops the command.
pub(crate) struct Events {
    json_lines: bool,
    outcome: Result<(), Failure>,
}

impl Events {
    pub(crate) fn new(json_lines: bool) -> Events {
        Events { json_lines, outcome: Ok(()) }
    }

    /// Prints an event.
    pub(crate) fn add(&mut self, event: &impl Serialize) {
        if self.json_lines && self.outcome.is_ok() {
            self.outcome = json_line(event);
        }
    }

    /// Prints a line of text.
    pub(crate) fn line(&mut self, write: impl FnOnce(&mut Output) -> Result<(), Failure>) {
        if self.outcome.is_ok() {
            let mut output = Output::new();
            self.outcome = write(&mut output).and_then(|()| output.finish());
        }
    }

    /// Returns whether the command goes on.
    pub(crate) fn flow(&self, progress: &Progress) -> ControlFlow<()> {
        if self.outcome.is_err() { ControlFlow::Break(()) } else { progress.flow() }
    }

    /// Returns the failure of standard output, if there was one.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        std::mem::replace(&mut self.outcome, Ok(()))
    }

    /// Prints the summary as the last line. Without `--json-lines`, prints the report as [`report`] does.
    pub(crate) fn end(
        self,
        common: &Common,
        summary: &impl Serialize,
        document: &impl Serialize,
        line: Option<String>,
    ) -> Result<(), Failure> {
        if self.json_lines { json_line(summary) } else { report(common, document, line) }
    }
}
