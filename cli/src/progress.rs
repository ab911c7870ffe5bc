//! A progress bar on the terminal, and lines on standard error that do not disturb it.

use std::thread::{self, Builder};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Common;
use crate::exit::Failure;
use crate::stderr;

/// The interval at which the bar is redrawn when no work advances it.
const TICK: Duration = Duration::from_millis(200);

/// The progress of a command. Clones share the bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    counts: Counts,
}

/// The quantities that a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Only bytes.
    Bytes,
    /// Bytes and entries.
    BytesAndEntries,
    /// Only entries.
    Entries,
}

impl Counts {
    /// Returns the template to use while the total is unknown.
    const fn template(self) -> &'static str {
        match self {
            Counts::Bytes => "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}",
            Counts::BytesAndEntries => {
                "{spinner} {binary_bytes}, {msg} entries, {binary_bytes_per_sec}, {elapsed}"
            }
            Counts::Entries => "{spinner} {msg} entries, {elapsed}",
        }
    }

    /// Returns the template to use once the total is known.
    const fn template_of_total(self) -> &'static str {
        match self {
            Counts::Bytes => {
                "{bar:24} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
            Counts::BytesAndEntries | Counts::Entries => {
                "{bar:24} {binary_bytes} of {binary_total_bytes}, {msg} entries, \
                 {binary_bytes_per_sec}, {eta} left"
            }
        }
    }
}

impl Progress {
    /// Creates a bar. It is shown if standard error is a terminal, unless `--quiet` was given.
    pub(crate) fn new(common: &Common, counts: Counts) -> Progress {
        let target = if common.quiet {
            ProgressDrawTarget::hidden()
        } else {
            // This target draws nothing if standard error is not a terminal.
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        set_template(&bar, counts.template());
        bar.set_message("0");
        let progress = Progress { bar, quiet: common.quiet, counts };
        progress.start_ticking();
        progress
    }

    /// Starts a thread that redraws the bar regularly. Without it, the bar moves only when the work advances it.
    fn start_ticking(&self) {
        if !self.is_shown() {
            return;
        }
        let bar = self.bar.downgrade();
        let tick = move || {
            while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
                bar.tick();
                drop(bar);
                thread::sleep(TICK);
            }
        };
        // `ProgressBar::enable_steady_tick` would panic if the thread cannot be started.
        let _ = Builder::new().spawn(tick);
    }

    /// Returns whether the bar is visible.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets the total number of bytes. The bar then shows the time left.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        set_template(&self.bar, self.counts.template_of_total());
    }

    /// Adds to the number of bytes done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Sets the number of bytes done.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Sets the number of entries done.
    pub(crate) fn entries(&self, count: u64) {
        if self.is_shown() {
            self.bar.set_message(count.to_string());
        }
    }

    /// Prints a failure, even with `--quiet`.
    pub(crate) fn warn(&self, failure: &Failure) {
        self.bar.suspend(|| stderr::failure(failure));
    }

    /// Prints a line on standard error, unless `--quiet` was given.
    pub(crate) fn tell(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| stderr::line(line));
        }
    }

    /// Removes the bar from the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::Counts;

    #[test]
    fn every_template_is_valid() {
        for counts in [Counts::Bytes, Counts::BytesAndEntries, Counts::Entries] {
            for template in [counts.template(), counts.template_of_total()] {
                assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
            }
        }
    }
}
