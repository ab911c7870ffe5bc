//! The progress of a long command: a bar on a terminal, otherwise a line from time to time. Lines on standard error that
//! do not disturb the bar.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Common;
use crate::exit::Failure;
use crate::shown::Shown;
use crate::stderr;

/// The interval at which the bar is redrawn.
const TICK: Duration = Duration::from_millis(200);

/// The most bytes of an activity that the bar shows.
const ACTIVITY_MAX: usize = 40;

/// The progress of a command. Clones share it.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Shared>);

struct Shared {
    bar: ProgressBar,
    quiet: bool,
    counts: Counts,
    entries: AtomicU64,
    /// What the command works on.
    activity: Mutex<Vec<u8>>,
    begun: Instant,
    interval_seconds: u64,
    /// When the next line is due, in seconds after the beginning.
    due_seconds: AtomicU64,
}

/// The quantities that a command counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Only bytes.
    Bytes,
    /// Bytes and entries.
    BytesAndEntries,
    /// Only entries.
    Entries,
}

impl Progress {
    /// Begins to show progress on standard error, unless `--quiet` was given.
    pub(crate) fn new(common: &Common, counts: Counts) -> Progress {
        let target = if common.quiet {
            ProgressDrawTarget::hidden()
        } else {
            // This target draws nothing if standard error is not a terminal.
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        set_template(&bar, "{spinner} {msg}");
        let progress = Progress(Arc::new(Shared {
            bar,
            quiet: common.quiet,
            counts,
            entries: AtomicU64::new(0),
            activity: Mutex::default(),
            begun: Instant::now(),
            interval_seconds: common.progress.into(),
            due_seconds: AtomicU64::new(common.progress.into()),
        }));
        progress.start_drawing();
        progress
    }

    /// Starts a thread that redraws the bar regularly. Without it, nothing is drawn, and the work continues.
    fn start_drawing(&self) {
        if !self.is_shown() {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        let draw = move || {
            while let Some(shared) = shared.upgrade().filter(|shared| !shared.bar.is_finished()) {
                shared.bar.set_message(shared.text());
                shared.bar.tick();
                drop(shared);
                thread::sleep(TICK);
            }
        };
        // `ProgressBar::enable_steady_tick` would panic if the thread cannot be started.
        let _ = Builder::new().spawn(draw);
    }

    /// Prints a line if there is no bar and the interval has passed. It needs no thread, so that none is missing for the
    /// work.
    fn print_if_due(&self) {
        let shared = &self.0;
        if shared.quiet || self.is_shown() {
            return;
        }
        let elapsed = shared.begun.elapsed().as_secs();
        let due = shared.due_seconds.load(Ordering::Relaxed);
        let next = elapsed.saturating_add(shared.interval_seconds);
        let is_due = elapsed >= due
            && shared
                .due_seconds
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            stderr::line(&format!("progress: {}", shared.text()));
        }
    }

    /// Returns whether a bar is visible, so that it is worth counting the total.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.bar.is_hidden()
    }

    /// Sets the total number of bytes. The time left is then shown.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.0.bar.set_length(bytes);
        set_template(&self.0.bar, "{bar:24} {msg}");
    }

    /// Counts the bytes that are read.
    pub(crate) fn wrap_read<R: Read>(&self, reader: R) -> Counted<'_, R> {
        Counted { progress: self, reader }
    }

    /// Adds to the number of bytes done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.bar.inc(bytes);
        self.print_if_due();
    }

    /// Sets the number of bytes done.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.0.bar.set_position(bytes);
        self.print_if_due();
    }

    /// Sets the number of entries done.
    pub(crate) fn entries(&self, count: u64) {
        self.0.entries.store(count, Ordering::Relaxed);
        self.print_if_due();
    }

    /// Sets what the command works on: the path of an entry.
    pub(crate) fn activity(&self, path: &[u8]) {
        if !self.0.quiet {
            let mut activity = self.0.activity();
            activity.clear();
            activity.extend_from_slice(path);
        }
    }

    /// Prints a failure, even with `--quiet`.
    pub(crate) fn warn(&self, failure: &Failure) {
        self.0.bar.suspend(|| stderr::failure(failure));
    }

    /// Prints a line on standard error, unless `--quiet` was given.
    pub(crate) fn tell(&self, line: &str) {
        if !self.0.quiet {
            self.0.bar.suspend(|| stderr::line(line));
        }
    }

    /// Ends the progress, and removes the bar from the terminal.
    pub(crate) fn finish(&self) {
        self.0.bar.finish_and_clear();
    }
}

/// A reader whose bytes are counted.
pub(crate) struct Counted<'a, R> {
    progress: &'a Progress,
    reader: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(bytes)?;
        self.progress.advance(length as u64);
        Ok(length)
    }
}

impl Shared {
    fn activity(&self) -> MutexGuard<'_, Vec<u8>> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Formats the progress: bytes, entries, rate, time left, and the current activity.
    fn text(&self) -> String {
        let (done, total) = (self.bar.position(), self.bar.length());
        let entries = self.entries.load(Ordering::Relaxed);
        let mut text = describe(self.counts, done, total, entries, self.begun.elapsed());
        let activity = self.activity();
        if !activity.is_empty() {
            let start = activity.len().saturating_sub(ACTIVITY_MAX);
            let mark = if start > 0 { "..." } else { "" };
            let _ = write!(text, ": {mark}{}", Shown(activity.get(start..).unwrap_or_default()));
        }
        text
    }
}

fn describe(
    counts: Counts,
    done: u64,
    total: Option<u64>,
    entries: u64,
    elapsed: Duration,
) -> String {
    let mut parts = Vec::new();
    let rate = u64::try_from(u128::from(done) * 1000 / elapsed.as_millis().max(1)).unwrap_or(0);
    if counts != Counts::Entries {
        parts.push(match total {
            Some(total) => format!("{} of {}", BinaryBytes(done), BinaryBytes(total)),
            None => BinaryBytes(done).to_string(),
        });
    }
    if counts != Counts::Bytes {
        parts.push(format!("{entries} entries"));
    }
    if counts != Counts::Entries {
        parts.push(format!("{}/s", BinaryBytes(rate)));
    }
    parts.push(match total {
        Some(total) if rate > 0 => {
            let left = Duration::from_secs(total.saturating_sub(done) / rate);
            format!("{} left", HumanDuration(left))
        }
        _ => HumanDuration(elapsed).to_string(),
    });
    parts.join(", ")
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_bytes_entries_rate_and_the_time_left_once_the_total_is_known() {
        let second = Duration::from_secs(1);
        for (counts, total, expected) in [
            (Counts::Bytes, None, "1.00 MiB, 1.00 MiB/s, 1 second"),
            (Counts::Bytes, Some(4 << 20), "1.00 MiB of 4.00 MiB, 1.00 MiB/s, 3 seconds left"),
            (Counts::BytesAndEntries, None, "1.00 MiB, 7 entries, 1.00 MiB/s, 1 second"),
            (Counts::Entries, None, "7 entries, 1 second"),
        ] {
            assert_eq!(describe(counts, 1 << 20, total, 7, second), expected);
        }
        assert_eq!(describe(Counts::Bytes, 0, Some(5), 0, second), "0 B of 5 B, 0 B/s, 1 second");
    }

    #[test]
    fn every_template_is_valid() {
        for template in ["{spinner} {msg}", "{bar:24} {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
