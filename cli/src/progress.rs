//! Progress on a terminal, and lines on standard error that do not get into its way.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Common;
use crate::exit::Failure;

/// How often the bar is drawn when nothing else moves it.
const TICK: Duration = Duration::from_millis(200);

/// The progress of a command. A clone is the same bar.
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

impl Progress {
    /// A bar, shown if standard error is a terminal and the user did not ask for quiet.
    pub(crate) fn new(common: &Common, counts: Counts) -> Progress {
        let target = if common.quiet {
            ProgressDrawTarget::hidden()
        } else {
            // Hidden by itself where standard error is no terminal.
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(style(match counts {
            Counts::Bytes => "{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}",
            Counts::BytesAndEntries => {
                "{spinner} {binary_bytes}, {msg} entries, {binary_bytes_per_sec}, {elapsed}"
            }
            Counts::Entries => "{spinner} {msg} entries, {elapsed}",
        }));
        bar.set_message("0");
        if !bar.is_hidden() {
            bar.enable_steady_tick(TICK);
        }
        Progress { bar, quiet: common.quiet, counts }
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets how many bytes there are, once that is known; from then on the time left is told too.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style(match self.counts {
            Counts::Bytes => {
                "{bar:24} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left"
            }
            _ => {
                "{bar:24} {binary_bytes} of {binary_total_bytes}, {msg} entries, \
                 {binary_bytes_per_sec}, {eta} left"
            }
        }));
    }

    /// More bytes are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many bytes are done in all.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Shows how many entries are done.
    pub(crate) fn entries(&self, count: u64) {
        if self.is_shown() {
            self.bar.set_message(count.to_string());
        }
    }

    /// A line that the user is to see even if quiet: something that was not done.
    pub(crate) fn warn(&self, failure: &Failure) {
        self.bar.suspend(|| eprintln!("ar7: {}", failure.text()));
    }

    /// A line on standard error, unless quiet.
    pub(crate) fn tell(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{line}"));
        }
    }

    /// Takes the bar off the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants")
}
