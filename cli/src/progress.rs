//! The progress of a long command: a bar on a terminal, otherwise a line from time to time. Lines on standard error that
//! do not disturb the bar.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ar7::PathText;
use indicatif::{
    BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};

use crate::arguments::{BLOCK_BYTES, Common};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output;

/// The least time between two changes of the activity that is shown.
const PAUSE_MS: u64 = 100;

/// The most characters of an activity that are shown.
const ACTIVITY_MAX: usize = 40;

/// The progress of a command, and whether a signal asked it to stop.
pub(crate) struct Progress {
    bar: ProgressBar,
    status: Arc<Status>,
    quiet: bool,
    interval: Duration,
    begun: Instant,
    /// When the next line is due, and the next change of the activity, in milliseconds after the beginning.
    line_due_ms: AtomicU64,
    activity_due_ms: AtomicU64,
    interrupt: Interrupt,
}

/// What the bar cannot count.
#[derive(Default)]
struct Status {
    entries: AtomicU64,
    /// What the command works on.
    activity: Mutex<String>,
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
            bar: ProgressBar::with_draw_target(None, target),
            status: Arc::default(),
            quiet,
            interval,
            begun: Instant::now(),
            line_due_ms: AtomicU64::new(milliseconds(interval)),
            activity_due_ms: AtomicU64::new(0),
            interrupt,
        };
        progress.set_template("{spinner} {status}");
        progress
    }

    fn set_template(&self, template: &str) {
        let status = Arc::clone(&self.status);
        let text = move |state: &ProgressState, text: &mut dyn fmt::Write| {
            let _ = text.write_str(&status.text(state.pos(), state.len(), state.elapsed()));
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.with_key("status", text));
        }
    }

    /// Returns whether a bar is visible, so that it is worth counting the total.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Sets the total number of bytes. The time left is then shown.
    pub(crate) fn set_total(&self, bytes: u64) {
        if self.bar.length() != Some(bytes) {
            self.bar.set_length(bytes);
            self.set_template("{bar:24} {status}");
        }
    }

    /// Adds to the number of bytes done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        self.tick();
    }

    /// Sets how many blocks are done, and of how many.
    pub(crate) fn set_of_blocks(&self, blocks: u64, total: u64) {
        self.set_total(total * BLOCK_BYTES);
        self.set_blocks(blocks);
    }

    /// Sets the number of blocks done.
    pub(crate) fn set_blocks(&self, blocks: u64) {
        self.set_done(blocks * BLOCK_BYTES);
    }

    /// Sets the number of bytes done.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.bar.set_position(bytes);
        self.tick();
    }

    /// Sets the number of entries done.
    pub(crate) fn set_entries(&self, count: u64) {
        self.status.entries.store(count, Ordering::Relaxed);
        self.tick();
    }

    /// Counts an entry, which the command works on.
    pub(crate) fn entry(&self, path: impl FnOnce() -> PathBuf) {
        self.status.entries.fetch_add(1, Ordering::Relaxed);
        if !self.quiet && self.is_due(&self.activity_due_ms, PAUSE_MS) {
            self.set_activity(&path());
        }
        self.tick();
    }

    /// Returns the number of entries done.
    pub(crate) fn entries(&self) -> u64 {
        self.status.entries.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes done.
    pub(crate) fn bytes(&self) -> u64 {
        self.bar.position()
    }

    /// Sets what the command works on.
    pub(crate) fn set_activity(&self, path: &Path) {
        let mut activity = self.status.activity.lock().unwrap_or_else(PoisonError::into_inner);
        *activity = PathText::new(path).to_string();
    }

    /// Redraws the bar. Without a bar, prints a line if the interval has passed. It starts no thread, because the system
    /// may not allow another one.
    pub(crate) fn tick(&self) {
        if self.is_shown() {
            self.bar.tick();
        } else if !self.quiet && self.is_due(&self.line_due_ms, milliseconds(self.interval)) {
            let text =
                self.status.text(self.bar.position(), self.bar.length(), self.begun.elapsed());
            output::tell(&format!("progress: {text}\n"));
        }
    }

    /// Returns whether a time has come, and sets the next one.
    fn is_due(&self, due_ms: &AtomicU64, interval_ms: u64) -> bool {
        let (now, due) = (milliseconds(self.begun.elapsed()), due_ms.load(Ordering::Relaxed));
        let (set, next) = (Ordering::Relaxed, now.saturating_add(interval_ms));
        now >= due && due_ms.compare_exchange(due, next, set, set).is_ok()
    }

    /// Returns a reader whose bytes are counted.
    pub(crate) fn reader<R: Read>(&self, reader: R) -> Counted<'_, R> {
        Counted { progress: self, reader }
    }

    /// Prints a warning or a failure, even with `--quiet`.
    pub(crate) fn warn(&self, message: &impl Display) {
        self.bar.suspend(|| output::warn(message));
    }

    /// Prints a line on standard error, unless `--quiet` was given.
    pub(crate) fn tell(&self, line: &str) {
        if !self.quiet {
            self.bar.suspend(|| output::tell(&format!("{line}\n")));
        }
    }

    /// Returns whether a signal asked the command to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.interrupt.is_set()
    }

    /// Returns whether the command goes on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Ends the progress, and removes the bar from the terminal.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
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

impl Status {
    /// Formats the progress: bytes, entries, rate, time left, and the current activity.
    fn text(&self, done: u64, total: Option<u64>, elapsed: Duration) -> String {
        let mut parts = Vec::new();
        let entries = self.entries.load(Ordering::Relaxed);
        let rate = u64::try_from(u128::from(done) * 1000 / elapsed.as_millis().max(1)).unwrap_or(0);
        match total {
            Some(total) => parts.push(format!("{} of {}", BinaryBytes(done), BinaryBytes(total))),
            None if done > 0 || entries == 0 => parts.push(BinaryBytes(done).to_string()),
            None => {}
        }
        if entries > 0 {
            parts.push(format!("{entries} entries"));
        }
        if rate > 0 {
            parts.push(format!("{}/s", BinaryBytes(rate)));
        }
        parts.push(match total {
            Some(total) if rate > 0 => {
                let left = Duration::from_secs(total.saturating_sub(done) / rate);
                format!("{} left", HumanDuration(left))
            }
            _ => HumanDuration(elapsed).to_string(),
        });
        let mut text = parts.join(", ");
        let activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        if !activity.is_empty() {
            let last = activity.char_indices().nth_back(ACTIVITY_MAX - 1);
            let start = last.map_or(0, |(start, _)| start);
            let mark = if start > 0 { "..." } else { "" };
            let _ = write!(text, ": {mark}{}", activity.get(start..).unwrap_or_default());
        }
        text
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_bytes_entries_rate_and_the_time_left_once_the_total_is_known() {
        let second = Duration::from_secs(1);
        for (done, entries, total, expected) in [
            (1 << 20, 0, None, "1.00 MiB, 1.00 MiB/s, 1 second"),
            (1 << 20, 0, Some(4 << 20), "1.00 MiB of 4.00 MiB, 1.00 MiB/s, 3 seconds left"),
            (1 << 20, 7, None, "1.00 MiB, 7 entries, 1.00 MiB/s, 1 second"),
            (0, 7, None, "7 entries, 1 second"),
            (0, 0, None, "0 B, 1 second"),
            (0, 0, Some(5), "0 B of 5 B, 1 second"),
        ] {
            let status = Status { entries: entries.into(), ..Status::default() };
            assert_eq!(status.text(done, total, second), expected);
        }
    }

    #[test]
    fn the_end_of_a_long_activity_is_shown() {
        let text = |activity: &str| {
            let status = Status { activity: Mutex::new(activity.to_owned()), ..Status::default() };
            status.text(0, None, Duration::from_secs(1))
        };
        assert_eq!(text("short"), "0 B, 1 second: short");
        let whole = "ä".repeat(ACTIVITY_MAX);
        assert_eq!(text(&whole), format!("0 B, 1 second: {whole}"));
        assert_eq!(text(&format!("b{whole}")), format!("0 B, 1 second: ...{whole}"));
    }

    #[test]
    fn every_template_is_valid() {
        for template in ["{spinner} {status}", "{bar:24} {status}"] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
