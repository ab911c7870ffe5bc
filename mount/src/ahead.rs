//! Reading ahead of programs that read a file from front to back.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

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

type Shared = Arc<Mutex<Windows>>;

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

/// Reads bytes of a file from an offset on, and returns their number. Other threads call it too.
pub(crate) trait Read<E>:
    Fn(u64, &mut [u8]) -> Result<usize, E> + Clone + Send + 'static
{
}

impl<E, F: Fn(u64, &mut [u8]) -> Result<usize, E> + Clone + Send + 'static> Read<E> for F {}

/// The part of a file that is being read, and the part after it, which a thread reads meanwhile.
struct Windows {
    commit: u64,
    current: Window,
    coming: Option<Coming>,
    /// The end of the last request.
    next: u64,
    /// The length of the next window.
    step: usize,
}

/// Consecutive bytes of a file.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Zeroizing<Vec<u8>>,
}

/// A window that a thread reads, if it can. Dropping it waits for the thread, which holds a commit.
struct Coming {
    start: u64,
    end: u64,
    thread: Option<JoinHandle<Option<Window>>>,
}

impl ReadAhead {
    /// Passes the bytes of a request, or the error, to `answer`. At the end of the file there are fewer bytes than were asked
    /// for.
    ///
    /// A request that continues the one before it reads more than it needs. If that fails, it reads only what it needs:
    /// the damage may lie behind it.
    pub(crate) fn read<T, E: 'static>(
        &self,
        wanted: Wanted,
        read: impl Read<E>,
        answer: impl FnOnce(Result<&[u8], E>) -> T,
    ) -> T {
        let shared = self.windows(wanted.file);
        let mut windows = lock(&shared);
        if windows.commit != wanted.commit {
            *windows = Windows::new(wanted.commit);
        }
        // Other requests for the file wait meanwhile: they find their bytes in the window.
        let found = windows.find(&wanted, &read);
        windows.next = wanted.offset.saturating_add(wanted.length as u64);
        if let Some(bytes) = found.and_then(|place| windows.current.bytes.get(place)) {
            return answer(Ok(bytes));
        }
        drop(windows);
        let mut bytes = Zeroizing::new(vec![0; wanted.length]);
        let length = read(wanted.offset, &mut bytes);
        answer(length.map(|length| bytes.get(..length).unwrap_or_default()))
    }

    /// Forgets everything, and waits for the threads that read.
    pub(crate) fn clear(&self) {
        // In a statement of its own, because it unlocks the files before the windows are dropped.
        let forgotten = std::mem::take(&mut *lock(&self.0));
        drop(forgotten);
    }

    /// Returns the windows of a file. With too many, the file that was not read for the longest time loses its own.
    fn windows(&self, file: InodeNumber) -> Shared {
        let mut files = lock(&self.0);
        let found = files.iter().rposition(|(number, _)| *number == file);
        let found = found.and_then(|place| files.remove(place));
        let (_, windows) = found.unwrap_or_else(|| (file, Arc::default()));
        let forgotten = if files.len() == FILES { files.pop_front() } else { None };
        files.push_back((file, Arc::clone(&windows)));
        drop(files);
        // This waits for a thread. Other files need not.
        drop(forgotten);
        windows
    }
}

impl Window {
    /// Reads bytes into a buffer, whose content is lost. Returns `None` if that fails.
    fn read<E>(
        start: u64,
        length: usize,
        mut bytes: Zeroizing<Vec<u8>>,
        read: &impl Read<E>,
    ) -> Option<Window> {
        if bytes.capacity() < length {
            // A buffer that grew would leave its bytes in memory.
            bytes = Zeroizing::new(Vec::with_capacity(length));
        }
        bytes.resize(length, 0);
        let length = read(start, &mut bytes).ok()?;
        bytes.truncate(length);
        Some(Window { start, bytes })
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// Returns the place of the bytes of a request.
    fn place(&self, wanted: &Wanted) -> Option<Range<usize>> {
        let start = usize::try_from(wanted.offset.checked_sub(self.start)?).ok()?;
        let end = start.checked_add(wanted.length)?;
        (end <= self.bytes.len()).then_some(start..end)
    }
}

impl Coming {
    /// Waits for the window.
    fn wait(mut self) -> Option<Window> {
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl fmt::Debug for ReadAhead {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ReadAhead").finish_non_exhaustive()
    }
}

impl Default for Windows {
    fn default() -> Windows {
        Windows::new(0)
    }
}

impl Windows {
    fn new(commit: u64) -> Windows {
        Windows { commit, current: Window::default(), coming: None, next: 0, step: FIRST }
    }

    /// Returns the place of the bytes of a request in the current window, after reading ahead if the request continues the
    /// one before it.
    fn find<E: 'static>(&mut self, wanted: &Wanted, read: &impl Read<E>) -> Option<Range<usize>> {
        if let Some(place) = self.current.place(wanted) {
            return Some(place);
        }
        let left = usize::try_from(wanted.size - wanted.offset).unwrap_or(usize::MAX);
        let window = self.take_coming(wanted).or_else(|| {
            // Requests that the kernel makes at the same time may be in another order.
            let ahead = wanted.offset.checked_sub(self.next)?;
            if ahead >= self.step as u64 || wanted.offset == 0 || left <= wanted.length {
                self.step = FIRST;
                return None;
            }
            let length = self.step.max(wanted.length).min(left);
            let bytes = std::mem::take(&mut self.current.bytes);
            let window = Window::read(wanted.offset, length, bytes, read);
            if window.is_none() {
                *self = Windows::new(self.commit);
            }
            window
        })?;
        let before = std::mem::replace(&mut self.current, window);
        self.step = (2 * self.step).min(LARGEST);
        self.start_coming(wanted, before.bytes, read);
        // The file may end before its recorded length.
        let found = self.current.end().saturating_sub(wanted.offset);
        let length = usize::try_from(found).unwrap_or(usize::MAX).min(wanted.length);
        self.current.place(&Wanted { length, ..*wanted })
    }

    /// Returns the window that a thread has read, if it has the beginning of a request. Waits for the thread.
    fn take_coming(&mut self, wanted: &Wanted) -> Option<Window> {
        let has_it = |coming: &mut Coming| (coming.start..coming.end).contains(&wanted.offset);
        let window = self.coming.take_if(has_it)?.wait()?;
        window.place(wanted).is_some().then_some(window)
    }

    /// Starts a thread that reads the next window, into a buffer whose content is lost. Without a thread, a later request
    /// reads it.
    fn start_coming<E: 'static>(
        &mut self,
        wanted: &Wanted,
        bytes: Zeroizing<Vec<u8>>,
        read: &impl Read<E>,
    ) {
        // It begins where a request of the same length will, so that no request needs two windows.
        let length = (wanted.length as u64).max(1);
        let requests = self.current.end().saturating_sub(wanted.offset) / length;
        let start = wanted.offset + requests * length;
        let left = usize::try_from(wanted.size.saturating_sub(start)).unwrap_or(usize::MAX);
        let length = self.step.max(wanted.length).min(left);
        self.coming = None;
        // Without a whole request, the file ended before its recorded length.
        if length == 0 || requests == 0 {
            return;
        }
        let read = read.clone();
        let reading = move || Window::read(start, length, bytes, &read);
        let thread = thread::Builder::new().spawn(reading).ok();
        self.coming =
            thread.map(|thread| Coming { start, end: start + length as u64, thread: Some(thread) });
    }
}

#[cfg(test)]
mod tests {
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

    /// Reads, checks the answer, waits for the window that is read meanwhile, and returns the length of each part that was
    /// read.
    fn reads(ahead: &ReadAhead, wanted: Wanted, bad: u64) -> Vec<usize> {
        let reads = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&reads);
        let read = move |offset: u64, bytes: &mut [u8]| {
            lock(&noted).push(bytes.len());
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
        wait_for_coming(ahead, wanted.file);
        let reads = lock(&reads);
        reads.clone()
    }

    fn wait_for_coming(ahead: &ReadAhead, file: InodeNumber) {
        let windows = ahead.windows(file);
        let mut windows = lock(&windows);
        let Some(coming) = &mut windows.coming else { return };
        let window = coming.thread.take().expect("a thread").join().expect("no panic");
        coming.thread = Some(thread::spawn(|| window));
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
    fn requests_of_any_length_need_one_window_each() {
        for length in [100_000, 3 << 20] {
            let ahead = ReadAhead::default();
            let mut parts = Vec::new();
            for offset in (0..SIZE).step_by(length) {
                parts.extend(reads(&ahead, wanted(1, offset, length), u64::MAX));
            }
            let read = parts.iter().sum::<usize>() as u64;
            assert!(read < SIZE + (parts.len() * length) as u64, "{length}: {read}");
            assert!(parts.len() < 20, "{length}: {parts:?}");
        }
    }

    #[test]
    fn what_is_read_meanwhile_is_used_or_forgotten() {
        let ahead = ReadAhead::default();
        let at = |page: u64| wanted(1, page * PAGE as u64, PAGE);
        for page in 0..2 {
            reads(&ahead, at(page), u64::MAX);
        }
        // The window from page 1 on has two pages, the coming one four.
        assert!(reads(&ahead, at(2), u64::MAX).is_empty());
        assert_eq!(reads(&ahead, at(4), u64::MAX), [4 * FIRST], "a later page of it");
        assert_eq!(reads(&ahead, at(3), u64::MAX), Vec::<usize>::new());
        assert_eq!(reads(&ahead, at(120), u64::MAX), [PAGE], "a page far away");
        assert_eq!(reads(&ahead, at(121), u64::MAX), [FIRST, 2 * FIRST]);
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
        assert_eq!(reads(&ahead, wanted(1, second, PAGE), u64::MAX), [FIRST, 2 * FIRST]);
        assert!(reads(&ahead, wanted(1, second, PAGE), u64::MAX).is_empty());
        assert_eq!(reads(&ahead, wanted(2, second, PAGE), u64::MAX), [FIRST, 2 * FIRST]);
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
    fn nothing_is_read_any_more_once_everything_is_forgotten() {
        let ahead = ReadAhead::default();
        let reading = Arc::new(());
        let held = Arc::clone(&reading);
        let read = move |_: u64, bytes: &mut [u8]| {
            assert!(Arc::strong_count(&held) > 1);
            thread::sleep(std::time::Duration::from_millis(50));
            Ok::<_, ()>(bytes.len())
        };
        for page in 0..2 {
            ahead.read(wanted(1, page * PAGE as u64, PAGE), read.clone(), |_| {});
        }
        drop(read);
        assert_eq!(Arc::strong_count(&reading), 2, "a thread reads the next window");
        ahead.clear();
        assert_eq!(Arc::strong_count(&reading), 1);
    }

    #[test]
    fn a_file_that_loses_its_windows_makes_no_other_file_wait() {
        let ahead = ReadAhead::default();
        let gate = Arc::<Mutex<()>>::default();
        let closed = lock(&gate);
        let waiting = Arc::clone(&gate);
        let read = move |offset: u64, bytes: &mut [u8]| {
            if offset > PAGE as u64 {
                drop(lock(&waiting));
            }
            Ok::<_, ()>(bytes.len())
        };
        // The thread that reads the third part waits.
        for page in 0..2 {
            ahead.read(wanted(1, page * PAGE as u64, PAGE), read.clone(), |_| {});
        }
        let is_forgotten = || {
            let files = ahead.0.try_lock();
            files.is_ok_and(|files| files.iter().all(|(number, _)| *number != InodeNumber(7)))
        };
        let was_free = thread::scope(|scope| {
            scope.spawn(|| (100..116).for_each(|number| drop(ahead.windows(InodeNumber(number)))));
            let was_free = (0..500).any(|_| {
                thread::sleep(std::time::Duration::from_millis(10));
                is_forgotten()
            });
            drop(closed);
            was_free
        });
        assert!(was_free, "a thread that is waited for keeps all files locked");
    }

    #[test]
    fn memory_is_kept_for_a_few_files() {
        let ahead = ReadAhead::default();
        for number in 0..100 {
            ahead.windows(InodeNumber(number));
        }
        let kept: Vec<u64> = lock(&ahead.0).iter().map(|(number, _)| number.0).collect();
        assert_eq!(kept, (84..100).collect::<Vec<_>>());
    }
}
