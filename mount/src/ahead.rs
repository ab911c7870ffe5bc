//! Reading ahead of programs that read a file from front to back.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use ar7_registry::records::InodeNumber;
use zeroize::Zeroizing;

use crate::handles::lock;

/// Bytes of the first window of a file, and of the largest: all cores open its blocks.
const FIRST: usize = 256 << 10;
const LARGEST: usize = 2 << 20;

/// Files that are read ahead at a time.
const FILES: usize = 16;

/// What was read ahead, the file that was read last at the end.
#[derive(Default)]
pub(crate) struct ReadAhead(Mutex<VecDeque<(InodeNumber, Shared)>>);

type Shared = Arc<Mutex<Window>>;

/// A request for bytes of a file, all of which exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) file: InodeNumber,
    /// The number of the commit that is read.
    pub(crate) commit: u64,
    pub(crate) offset: u64,
    pub(crate) length: usize,
    /// The length of the file.
    pub(crate) size: u64,
}

/// Consecutive bytes of a file.
struct Window {
    commit: u64,
    start: u64,
    bytes: Zeroizing<Vec<u8>>,
    /// The end of the last request.
    next: u64,
    /// The length of the next window.
    step: usize,
}

impl ReadAhead {
    /// Passes the bytes of a request, or the error, to `answer`. At the end of the file there are fewer bytes than were asked
    /// for. `read` fills a buffer from an offset on and returns the number of bytes.
    ///
    /// A request that continues the one before it reads more than it needs. If that fails, it reads only what it needs:
    /// the damage may lie behind it.
    pub(crate) fn read<T, E>(
        &self,
        wanted: Wanted,
        read: impl Fn(u64, &mut [u8]) -> Result<usize, E>,
        answer: impl FnOnce(Result<&[u8], E>) -> T,
    ) -> T {
        let shared = self.window(wanted.file);
        let mut window = lock(&shared);
        if window.commit != wanted.commit {
            *window = Window::new(wanted.commit);
        }
        // Other requests for the file wait meanwhile: they find their bytes in the window.
        let found = window.place(&wanted).or_else(|| window.fill(&wanted, &read));
        window.next = wanted.offset.saturating_add(wanted.length as u64);
        if let Some(bytes) = found.and_then(|place| window.bytes.get(place)) {
            return answer(Ok(bytes));
        }
        drop(window);
        let mut bytes = Zeroizing::new(vec![0; wanted.length]);
        let length = read(wanted.offset, &mut bytes);
        answer(length.map(|length| bytes.get(..length).unwrap_or_default()))
    }

    /// Returns the window of a file. With too many, the file that was not read for the longest time loses its own.
    fn window(&self, file: InodeNumber) -> Shared {
        let mut windows = lock(&self.0);
        let found = windows.iter().rposition(|(number, _)| *number == file);
        let found = found.and_then(|place| windows.remove(place));
        let (_, window) = found.unwrap_or_else(|| (file, Arc::default()));
        if windows.len() == FILES {
            windows.pop_front();
        }
        windows.push_back((file, Arc::clone(&window)));
        window
    }
}

impl Default for Window {
    fn default() -> Window {
        Window::new(0)
    }
}

impl Window {
    fn new(commit: u64) -> Window {
        Window { commit, start: 0, bytes: Zeroizing::default(), next: 0, step: FIRST }
    }

    /// Returns the place of the bytes of a request.
    fn place(&self, wanted: &Wanted) -> Option<Range<usize>> {
        let start = usize::try_from(wanted.offset.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(wanted.length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }

    /// Reads ahead, if the request continues the one before it. Returns the place of its bytes.
    fn fill<E>(
        &mut self,
        wanted: &Wanted,
        read: impl Fn(u64, &mut [u8]) -> Result<usize, E>,
    ) -> Option<Range<usize>> {
        // Requests that the kernel makes at the same time may be in another order.
        let ahead = wanted.offset.checked_sub(self.next)?;
        let left = usize::try_from(wanted.size - wanted.offset).unwrap_or(usize::MAX);
        if ahead >= self.step as u64 || wanted.offset == 0 || left <= wanted.length {
            self.step = FIRST;
            return None;
        }
        let length = self.step.max(wanted.length).min(left);
        if self.bytes.len() != length {
            self.bytes = Zeroizing::new(vec![0; length]);
        }
        let Ok(length) = read(wanted.offset, &mut self.bytes) else {
            *self = Window::new(self.commit);
            return None;
        };
        self.bytes.truncate(length);
        self.start = wanted.offset;
        self.step = (2 * self.step).min(LARGEST);
        Some(0..wanted.length.min(length))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SIZE: u64 = 20 << 20;
    const PAGE: usize = 128 << 10;

    fn byte(at: u64) -> u8 {
        (at / 1000 % 251) as u8
    }

    fn wanted(commit: u64, offset: u64, length: usize) -> Wanted {
        let length = length.min(usize::try_from(SIZE - offset).unwrap());
        Wanted { file: InodeNumber(7), commit, offset, length, size: SIZE }
    }

    /// Reads, checks the answer, and returns the length of each part that was read for it.
    fn reads(ahead: &ReadAhead, wanted: Wanted, bad: u64) -> Vec<usize> {
        let reads = RefCell::new(Vec::new());
        let read = |offset: u64, bytes: &mut [u8]| {
            reads.borrow_mut().push(bytes.len());
            bytes.iter_mut().zip(offset..).for_each(|(to, at)| *to = byte(at));
            let range = offset..offset + bytes.len() as u64;
            if range.contains(&bad) { Err("bad") } else { Ok(bytes.len()) }
        };
        let range = wanted.offset..wanted.offset + wanted.length as u64;
        ahead.read(wanted, read, |outcome| {
            assert_eq!(outcome.is_err(), range.contains(&bad));
            let Ok(bytes) = outcome else { return };
            assert_eq!(bytes.len(), wanted.length);
            assert!(bytes.iter().zip(wanted.offset..).all(|(&found, at)| found == byte(at)));
        });
        reads.into_inner()
    }

    #[test]
    fn a_file_that_ends_early_gives_fewer_bytes() {
        const END: u64 = 300_000;
        let ahead = ReadAhead::default();
        let read = |offset: u64, bytes: &mut [u8]| {
            let left = usize::try_from(END.saturating_sub(offset)).unwrap().min(bytes.len());
            bytes[..left].fill(7);
            Ok::<_, ()>(left)
        };
        for offset in (0..SIZE).step_by(PAGE).take(8) {
            let left = usize::try_from(END.saturating_sub(offset)).unwrap().min(PAGE);
            ahead.read(wanted(1, offset, PAGE), read, |bytes| {
                assert_eq!(bytes.unwrap(), vec![7; left], "{offset}");
            });
        }
        ahead.read(wanted(1, END - 1, 4096), read, |bytes| assert_eq!(bytes.unwrap(), [7]));
    }

    #[test]
    fn a_file_that_is_read_in_order_is_read_in_growing_parts() {
        let ahead = ReadAhead::default();
        let mut parts = Vec::new();
        for offset in (0..SIZE).step_by(PAGE) {
            parts.extend(reads(&ahead, wanted(1, offset, PAGE), u64::MAX));
        }
        assert_eq!(parts[..5], [PAGE, FIRST, 2 * FIRST, 4 * FIRST, LARGEST]);
        assert_eq!(parts.iter().sum::<usize>() as u64, SIZE, "nothing is read twice");
        assert!(parts.len() < 16, "{parts:?}");
    }

    #[test]
    fn other_requests_read_only_what_they_ask_for() {
        let ahead = ReadAhead::default();
        for offset in [9_000_000, 3_000_000, 17_000_000, 0, 5_000_000, 4_000_000] {
            assert_eq!(reads(&ahead, wanted(1, offset, 4096), u64::MAX), [4096], "{offset}");
        }
    }

    #[test]
    fn a_later_commit_is_read_again() {
        let ahead = ReadAhead::default();
        let second = PAGE as u64;
        reads(&ahead, wanted(1, 0, PAGE), u64::MAX);
        assert_eq!(reads(&ahead, wanted(1, second, PAGE), u64::MAX), [FIRST]);
        assert!(reads(&ahead, wanted(1, second, PAGE), u64::MAX).is_empty());
        assert_eq!(reads(&ahead, wanted(2, second, PAGE), u64::MAX), [FIRST]);
    }

    #[test]
    fn damage_behind_a_request_does_not_fail_it() {
        let ahead = ReadAhead::default();
        let bad = 700_000;
        for offset in (0..SIZE).step_by(PAGE).take(20) {
            reads(&ahead, wanted(1, offset, PAGE), bad);
        }
        assert_eq!(reads(&ahead, wanted(1, 15_000_000, 4096), bad), [4096]);
    }

    #[test]
    fn memory_is_kept_for_a_few_files() {
        let ahead = ReadAhead::default();
        for number in 0..100 {
            ahead.window(InodeNumber(number));
        }
        let kept: Vec<u64> = lock(&ahead.0).iter().map(|(number, _)| number.0).collect();
        assert_eq!(kept, (84..100).collect::<Vec<_>>());
    }
}
