//! Progress on a terminal, and lines on standard error that do not break into it.

use std::thread::{self, Builder};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Common;
use crate::exit::Failure;
use crate::stderr;

/// How often the bar is drawn when no work moves it.
const TICK: Duration = Duration::from_millis(200);

/// The progress of a command. A clone shares the bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    counts: Counts,
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Bytes alone.
    Bytes,
    /// Bytes and entries.
    BytesAndEntries,
    /// Entries alone.
    Entries,
}

impl Counts {
    /// The bar while the total is unknown.
    const fn template(self) -> &'static str {
        match self {
            Counts::Bytes => "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}",
            Counts::BytesAndEntries => {
                "{spinner} {binary_bytes}, {msg} entries, {binary_bytes_per_sec}, {elapsed}"
            }
            Counts::Entries => "{spinner} {msg} entries, {elapsed}",
        }
    }

    /// The bar once the total is known.
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
    /// A bar. It is shown if standard error is a terminal, unless the user asked for quiet.
    pub(crate) fn new(common: &Common, counts: Counts) -> Progress {
        let target = if common.quiet {
            ProgressDrawTarget::hidden()
        } else {
            // Draws nothing where standard error is no terminal.
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        set_template(&bar, counts.template());
        bar.set_message("0");
        let progress = Progress { bar, quiet: common.quiet, counts };
        progress.start_ticking();
        progress
    }

    /// Redraws the bar regularly. Without a thread for that, only the work moves it.
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
        // `ProgressBar::enable_steady_tick` panics where no thread can be started.
        let _ = Builder::new().spawn(tick);
    }

    /// Whether anybody sees the bar.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets the total number of bytes. From then on the bar shows the time left.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        set_template(&self.bar, self.counts.template_of_total());
    }

    /// Adds to the bytes that are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Sets the bytes that are done.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Shows how many entries are done.
    pub(crate) fn entries(&self, count: u64) {
        if self.is_shown() {
            self.bar.set_message(count.to_string());
        }
    }

    /// Prints a failure, also if quiet.
    pub(crate) fn warn(&self, failure: &Failure) {
        self.bar.suspend(|| stderr::failure(failure));
    }

    /// Prints a line on standard error, unless quiet.
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
