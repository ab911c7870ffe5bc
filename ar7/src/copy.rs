//! Copying between a reader and a writer, for content of any length.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::read_ahead::read_ahead;

/// Length of one piece. A write of this length is sealed by several threads and bypasses the page cache.
const PIECE_BYTES: usize = 4 << 20;

/// Lengths of the first pieces, so that short content touches little memory and needs no thread.
const FIRST_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

/// The capacity of a pipe in bytes to ask for: the most that Linux grants without privileges.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PIPE_BYTES: usize = 1 << 20;

/// How long [`Polled`] waits at a time.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why [`copy`] failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The reader failed. What was read before is written.
    #[error("read: {0}")]
    Read(io::Error),
    /// The writer failed.
    #[error("write: {0}")]
    Write(io::Error),
}

/// Copies everything from a reader to a writer, and returns the number of bytes.
///
/// After the first, shorter ones, it moves pieces of 4 MiB, which archives read and write fastest, and reads the
/// next pieces in a thread while one is written. Unlike [`io::copy`], it says which side failed. If no thread can be
/// started, it reads and writes in turn.
///
/// It returns after a failure of the writer once the reader returns. A reader that can wait for long should
/// return [`io::ErrorKind::Interrupted`] from time to time, after which it is called again: see [`Polled`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// let transaction = archive.begin()?;
/// let mut file = transaction.open("large", ar7::Mode::WRITE)?;
/// let length = ar7::copy(&[7; 10_000_000][..], &mut file)?;
/// assert_eq!(length, 10_000_000);
/// # Ok(())
/// # }
/// ```
pub fn copy(mut reader: impl Read + Send, mut writer: impl Write) -> Result<u64, CopyError> {
    let is_stopped = AtomicBool::new(false);
    let mut copied = 0;
    let mut write = |piece: &[u8]| {
        copied += piece.len() as u64;
        writer.write_all(piece).map_err(CopyError::Write)
    };
    for length in FIRST_BYTES {
        let mut piece = Zeroizing::new(Vec::new());
        let filled = fill(&mut reader, &mut piece, length, &is_stopped);
        write(&piece)?;
        if !filled.map_err(CopyError::Read)? {
            return Ok(copied);
        }
    }
    // How the reader ended, once the piece before its end was passed on.
    let mut end: Option<io::Result<()>> = None;
    let read = |piece: &mut Vec<u8>| {
        if let Some(end) = end.take() {
            return end.map(|()| None);
        }
        match fill(&mut reader, piece, PIECE_BYTES, &is_stopped) {
            Ok(true) => {}
            Ok(false) => end = Some(Ok(())),
            Err(error) => end = Some(Err(error)),
        }
        Ok(Some(piece.len()))
    };
    read_ahead::<Zeroizing<Vec<u8>>, _, _>(read, |piece: io::Result<&[u8]>| {
        let written = piece.map_err(CopyError::Read).and_then(&mut write);
        is_stopped.store(written.is_err(), Ordering::Relaxed);
        written
    })?;
    Ok(copied)
}

/// Copies as [`copy`] does, and passes the number of bytes of each read to a function, in the thread that reads.
pub fn copy_with(
    reader: impl Read + Send,
    writer: impl Write,
    count: impl FnMut(u64) + Send,
) -> Result<u64, CopyError> {
    copy(Counted { reader, count }, writer)
}

struct Counted<R, F> {
    reader: R,
    count: F,
}

impl<R: Read, F: FnMut(u64)> Read for Counted<R, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(bytes)?;
        (self.count)(length as u64);
        Ok(length)
    }
}

/// A reader of a pipe, a socket or a terminal that does not wait for long, as [`copy`] needs it: while there is nothing to
/// read, it calls a function from time to time, which can end it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::ops::ControlFlow;
///
/// let (reader, writer) = std::io::pipe()?;
/// let mut waited = 0;
/// let polled = ar7::Polled::new(reader, || {
///     waited += 1;
///     if waited < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
/// });
/// let stopped = ar7::copy(polled, std::io::sink());
/// assert!(matches!(stopped, Err(ar7::CopyError::Read(_))));
/// # drop(writer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Polled<R, F> {
    reader: R,
    go_on: F,
}

impl<R: Read + AsFd, F: FnMut() -> ControlFlow<()>> Polled<R, F> {
    /// Creates a reader that calls this function before each read, and ten times a second while it waits. If the function
    /// breaks, reading fails with [`Error::Stopped`].
    pub fn new(reader: R, go_on: F) -> Polled<R, F> {
        Polled { reader, go_on }
    }
}

impl<R: Read + AsFd, F: FnMut() -> ControlFlow<()>> Read for Polled<R, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if (self.go_on)().is_break() {
            return Err(io::Error::other(Error::Stopped));
        }
        if poll(&mut [PollFd::new(&self.reader, PollFlags::IN)], Some(&PAUSE))? == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.reader.read(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::Interrupted.into(),
            _ => error,
        })
    }
}

/// Enlarges the buffer of a pipe for large content, so that it fills up less often. Does nothing if this is not a pipe, or
/// if the system's limit is lower.
pub fn enlarge_pipe(pipe: impl AsFd) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    drop(pipe);
}

/// Returns whether a standard stream was closed when the program started. The runtime opens `/dev/null` in its place, for
/// reading and writing, so a stream that somebody opened in this way counts as closed too. `< /dev/null` of a shell opens
/// it for reading only.
pub fn was_closed_at_start(stream: impl AsFd) -> bool {
    let (Ok(null), Ok(found)) = (stat("/dev/null"), fstat(&stream)) else { return false };
    found.st_rdev == null.st_rdev
        && FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && fcntl_getfl(&stream).is_ok_and(|flags| flags.contains(OFlags::RDWR))
}

/// Reads until the piece is full. Returns false at the end of the reader. After an error, the piece holds what was
/// read before it. An interruption is an error only if the copy is stopped.
fn fill(
    reader: &mut impl Read,
    piece: &mut Vec<u8>,
    length: usize,
    is_stopped: &AtomicBool,
) -> io::Result<bool> {
    piece.resize(length, 0);
    let mut filled = 0;
    let outcome = loop {
        if filled == piece.len() {
            break Ok(true);
        }
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break Ok(false),
            Ok(length) => filled += length,
            Err(error)
                if error.kind() == io::ErrorKind::Interrupted
                    && !is_stopped.load(Ordering::Relaxed) => {}
            Err(error) => break Err(error),
        }
    };
    piece.truncate(filled);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns its bytes in small reads, and then fails or ends.
    struct Slow<'a> {
        bytes: &'a [u8],
        then_fails: bool,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() && self.then_fails {
                return Err(io::Error::other("read"));
            }
            let most = bytes.len().min(1 << 20);
            self.bytes.read(&mut bytes[..most])
        }
    }

    /// Takes this many bytes.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn content(length: usize) -> Vec<u8> {
        (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
    }

    #[test]
    fn every_byte_before_the_end_or_a_failure_of_the_reader_is_written_in_order() {
        let first: usize = FIRST_BYTES.iter().sum();
        let edges = [FIRST_BYTES[0], first, first + PIECE_BYTES, first + 5 * PIECE_BYTES];
        for length in edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 7]).chain([0, 1]) {
            let bytes = content(length);
            for then_fails in [false, true] {
                let mut written = Vec::new();
                let copied = copy(Slow { bytes: &bytes, then_fails }, &mut written);
                assert!(written == bytes, "{length}");
                match copied {
                    Ok(copied) => assert_eq!((copied, then_fails), (length as u64, false)),
                    Err(error) => assert!(matches!(error, CopyError::Read(_)) && then_fails),
                }
            }
        }
    }

    #[test]
    fn short_content_takes_a_short_buffer() {
        struct Rooms<'a>(&'a [u8], &'a mut Vec<usize>);

        impl Read for Rooms<'_> {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                self.1.push(bytes.len());
                self.0.read(bytes)
            }
        }

        for (length, most) in [(100, 64 << 10), (70_000, 256 << 10), (400_000, 1 << 20)] {
            let (bytes, mut rooms) = (content(length), Vec::new());
            copy(Rooms(&bytes, &mut rooms), io::sink()).unwrap();
            assert_eq!(rooms.iter().max(), Some(&most), "{length}");
        }
    }

    /// Returns its bytes, and then waits in vain for more.
    struct Waiting(usize);

    impl Read for Waiting {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.0);
            self.0 -= length;
            if length == 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(length) }
        }
    }

    #[test]
    fn a_failure_of_the_writer_ends_a_reader_that_waits() {
        let failed = copy(Waiting(3 * PIECE_BYTES), Full(PIECE_BYTES));
        assert!(matches!(failed, Err(CopyError::Write(_))), "{failed:?}");
    }

    #[test]
    fn a_failure_of_the_writer_ends_a_reader_without_end() {
        for room in [0, PIECE_BYTES, 7 * PIECE_BYTES] {
            let failed = copy(io::repeat(1), Full(room));
            assert!(matches!(failed, Err(CopyError::Write(_))), "{room}: {failed:?}");
        }
    }
}
