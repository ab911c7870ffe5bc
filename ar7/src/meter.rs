//! Progress of long work in numbers.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ar7_engine::format::BLOCK_SIZE_U64;

use crate::count::Count;
use crate::maintenance::Progress;
use crate::salvage::SalvageProgress;
use crate::size::Size;
use crate::text::PathText;

/// The most characters of an activity that are shown.
const ACTIVITY_MAX: usize = 40;

/// The least time between two changes of the activity by [`Meter::add_entry_at`].
const ACTIVITY_PAUSE: Duration = Duration::from_millis(100);

/// Stands for a total that is not known.
const UNKNOWN: u64 = u64::MAX;

/// What long work has done so far: bytes, entries, rate, the time left once the total is known, and what it works on.
/// Threads share it by reference.
///
/// `Display` gives it in one line, for a terminal or a log.
///
/// ```
/// let meter = ar7::Meter::new();
/// meter.set_total(4 << 20);
/// meter.advance(1 << 20);
/// meter.add_entry();
/// meter.set_activity("photos/2026/a.jpg");
/// // "1.00 MiB of 4.00 MiB, 1 entry, 0 seconds: photos/2026/a.jpg"
/// assert!(meter.to_string().starts_with("1.00 MiB of 4.00 MiB, 1 entry, "));
/// ```
#[derive(Debug)]
pub struct Meter {
    begun: Instant,
    bytes: AtomicU64,
    total: AtomicU64,
    entries: AtomicU64,
    activity: Mutex<String>,
    /// When the activity may change next, in milliseconds after the beginning.
    activity_due_ms: AtomicU64,
}

impl Meter {
    /// Begins.
    pub fn new() -> Meter {
        Meter::default()
    }

    /// Sets the total number of bytes.
    pub fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    /// Adds to the number of bytes done.
    pub fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sets the number of bytes done.
    pub fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes done to those of this many blocks.
    pub fn set_blocks_done(&self, blocks: u64) {
        self.set_bytes(blocks.saturating_mul(BLOCK_SIZE_U64));
    }

    /// Sets the bytes done and the total to those of an operation that counts blocks.
    pub fn set_blocks(&self, at: Progress) {
        self.set_total(at.total.saturating_mul(BLOCK_SIZE_U64));
        self.set_blocks_done(at.blocks);
    }

    /// Sets the bytes done and the total to those of a salvage: everything is read once to find it, and at most once more
    /// to copy it.
    pub fn set_salvage(&self, at: SalvageProgress) {
        match at {
            SalvageProgress::Scanned { blocks, total } => {
                self.set_blocks(Progress { blocks: blocks.into(), total: 2 * u64::from(total) });
            }
            SalvageProgress::Written { bytes } => {
                self.set_bytes((self.total().unwrap_or(0) / 2).saturating_add(bytes));
            }
        }
    }

    /// Counts an entry.
    pub fn add_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an entry, which the work is at. Its path is asked for at most ten times a second, because it is put together
    /// only to be shown.
    pub fn add_entry_at(&self, path: impl FnOnce() -> PathBuf) {
        self.add_entry();
        let (now, due) = (self.elapsed(), self.activity_due_ms.load(Ordering::Relaxed));
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if now_ms >= due {
            let next = now.saturating_add(ACTIVITY_PAUSE).as_millis();
            self.activity_due_ms.store(u64::try_from(next).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.set_activity(path());
        }
    }

    /// Sets the number of entries done.
    pub fn set_entries(&self, count: u64) {
        self.entries.store(count, Ordering::Relaxed);
    }

    /// Sets what the work is at.
    pub fn set_activity(&self, path: impl AsRef<Path>) {
        let mut activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        *activity = PathText::new(path.as_ref()).to_string();
    }

    /// Returns the number of bytes done.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the total number of bytes, if it is known.
    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN)
    }

    /// Returns the number of entries done.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Returns the time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Formats the progress after a time.
    fn text(&self, elapsed: Duration) -> String {
        let (bytes, total, entries) = (self.bytes(), self.total(), self.entries());
        let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        match total {
            Some(total) => parts.push(format!("{} of {}", Size(bytes), Size(total))),
            None if bytes > 0 || entries == 0 => parts.push(Size(bytes).to_string()),
            None => {}
        }
        if entries > 0 {
            parts.push(Count(entries, "entry").to_string());
        }
        if rate > 0 {
            parts.push(format!("{}/s", Size(rate)));
        }
        parts.push(match total {
            Some(total) if rate > 0 => {
                let left = Duration::from_secs(total.saturating_sub(bytes) / rate);
                format!("{} left", time(left))
            }
            _ => time(elapsed),
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

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            begun: Instant::now(),
            bytes: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            entries: AtomicU64::new(0),
            activity: Mutex::default(),
            activity_due_ms: AtomicU64::new(0),
        }
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text(self.elapsed()))
    }
}

/// Formats a time in the largest unit of which it has at least two.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (name, length) = unit.unwrap_or(("second", 1));
    Count((seconds + length / 2) / length, name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn progress_has_bytes_entries_rate_and_the_time_left_once_the_total_is_known() {
        for (bytes, entries, total, expected) in [
            (1 << 20, 0, None, "1.00 MiB, 1.00 MiB/s, 1 second"),
            (1 << 20, 0, Some(4 << 20), "1.00 MiB of 4.00 MiB, 1.00 MiB/s, 3 seconds left"),
            (1 << 20, 7, None, "1.00 MiB, 7 entries, 1.00 MiB/s, 1 second"),
            (0, 7, None, "7 entries, 1 second"),
            (0, 0, None, "0 B, 1 second"),
            (0, 0, Some(5), "0 B of 5 B, 1 second"),
        ] {
            let meter = Meter::new();
            meter.advance(bytes);
            meter.set_entries(entries);
            if let Some(total) = total {
                meter.set_total(total);
            }
            assert_eq!(meter.text(SECOND), expected);
        }
        let meter = Meter::new();
        meter.set_blocks(Progress { blocks: 1, total: 3 });
        assert_eq!((meter.bytes(), meter.total()), (4096, Some(12_288)));
        meter.set_salvage(SalvageProgress::Scanned { blocks: 2, total: 2 });
        meter.set_salvage(SalvageProgress::Written { bytes: 100 });
        assert_eq!((meter.bytes(), meter.total()), (8292, Some(16_384)));
    }

    #[test]
    fn every_entry_counts_and_few_of_them_are_shown() {
        let (meter, mut asked) = (Meter::new(), 0);
        for _ in 0..1000 {
            meter.add_entry_at(|| {
                asked += 1;
                PathBuf::from("entry")
            });
        }
        assert_eq!(meter.entries(), 1000);
        let most = 1 + meter.elapsed().as_millis() / ACTIVITY_PAUSE.as_millis();
        assert!(asked >= 1 && asked <= most, "{asked} of {most}");
        assert!(meter.text(SECOND).ends_with(": entry"));
    }

    #[test]
    fn the_end_of_a_long_activity_is_shown() {
        let text = |activity: &str| {
            let meter = Meter::new();
            meter.set_activity(activity);
            meter.text(SECOND)
        };
        assert_eq!(text("short"), "0 B, 1 second: short");
        let whole = "ä".repeat(ACTIVITY_MAX);
        assert_eq!(text(&whole), format!("0 B, 1 second: {whole}"));
        assert_eq!(text(&format!("b{whole}")), format!("0 B, 1 second: ...{whole}"));
    }

    #[test]
    fn a_time_is_rounded_to_a_unit_of_which_it_has_two() {
        for (seconds, expected) in [
            (0, "0 seconds"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "120 minutes"),
            (9000, "3 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), expected);
        }
    }
}
