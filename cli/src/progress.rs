//! The progress of a long command: a bar on a terminal, otherwise a line from time to time. Lines on standard error that
//! do not disturb the bar.

use std::fmt::{self, Display};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ar7::Meter;
use ar7_arguments::Common;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{self, Output};

/// What the bar looks like before and after the total is known.
const TEMPLATES: [&str; 2] = ["{spinner} {status}", "{bar:24} {status}"];

/// The progress of a command, and whether a signal asked it to stop.
pub(crate) struct Progress {
    pub(crate) meter: Arc<Meter>,
    bar: ProgressBar,
    quiet: bool,
    interval: Duration,
    /// When the next line is due, in milliseconds after the beginning.
    line_due_ms: AtomicU64,
    interrupt: Interrupt,
}

impl Progress {
    /// Begins to show progress on standard error, unless `--quiet` was given.
    pub(crate) fn new(common: &Common) -> Progress {
        Progress::begin(common, common.quiet, Interrupt::default())
    }

    /// As [`Progress::new`], and catches signals, so that the command stops at its last checkpoint.
    pub(crate) fn stoppable(common: &Common) -> Result<Progress, Failure> {
        Ok(Progress::begin(common, common.quiet, Interrupt::catch()?))
    }

    /// As [`Progress::new`], but shows nothing if content is written to a terminal, which it would disturb.
    pub(crate) fn of_content(common: &Common, is_terminal: bool) -> Progress {
        Progress::begin(common, common.quiet || is_terminal, Interrupt::default())
    }

    fn begin(common: &Common, quiet: bool, interrupt: Interrupt) -> Progress {
        // Standard error as a target draws nothing if it is not a terminal.
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let interval = Duration::from_secs(common.progress.into());
        let progress = Progress {
            meter: Arc::default(),
            bar: ProgressBar::with_draw_target(None, target),
            quiet,
            interval,
            line_due_ms: AtomicU64::new(milliseconds(interval)),
            interrupt,
        };
        progress.set_template(TEMPLATES[0]);
        progress
    }

    fn set_template(&self, template: &str) {
        let meter = Arc::clone(&self.meter);
        let status = move |_: &ProgressState, text: &mut dyn fmt::Write| {
            let _ = write!(text, "{meter}");
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.with_key("status", status));
        }
    }

    /// Returns whether a bar is visible, so that it is worth counting the total.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Redraws the bar. Without a bar, prints a line if the interval has passed. It starts no thread, because the system
    /// may not allow another one.
    pub(crate) fn tick(&self) {
        if self.is_shown() {
            if let Some(total) = self.meter.total()
                && self.bar.length() != Some(total)
            {
                self.bar.set_length(total);
                self.set_template(TEMPLATES[1]);
            }
            self.bar.set_position(self.meter.bytes());
            self.bar.tick();
        } else if !self.quiet && self.is_line_due() {
            output::tell(&format!("progress: {}\n", self.meter));
        }
    }

    /// Returns whether it is time for a line, and sets the next time.
    fn is_line_due(&self) -> bool {
        let now = milliseconds(self.meter.elapsed());
        let (due, next) = (&self.line_due_ms, now.saturating_add(milliseconds(self.interval)));
        let change = |due| (now >= due).then_some(next);
        due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }

    /// Counts bytes, and shows the progress.
    pub(crate) fn advance(&self, bytes: u64) {
        self.meter.advance(bytes);
        self.tick();
    }

    /// Prints a warning or a failure, even with `--quiet`.
    pub(crate) fn warn(&self, message: &impl Display) {
        self.bar.suspend(|| output::warn(message));
    }

    /// Prints a line on standard error, unless `--quiet` was given.
    pub(crate) fn tell(&self, line: &impl Display) {
        if !self.quiet {
            self.bar.suspend(|| output::tell(&format!("{line}\n")));
        }
    }

    /// Returns whether a signal asked the command to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.interrupt.is_set()
    }

    /// Shows the progress, and returns whether the command goes on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        self.tick();
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Does the same for an operation that counts blocks.
    pub(crate) fn flow_at(&self, at: ar7::Progress) -> ControlFlow<()> {
        self.meter.set_blocks(at);
        self.flow()
    }

    /// Does the same for a command that prints events: it stops when one of them cannot be printed.
    pub(crate) fn flow_with(&self, output: &Output) -> ControlFlow<()> {
        if output.has_failed() { ControlFlow::Break(()) } else { self.flow() }
    }

    /// Ends the progress, and removes the bar from the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid() {
        for template in TEMPLATES {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
