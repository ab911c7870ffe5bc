//! Reading and writing past the page cache: `O_DIRECT`, where the system and the file system have it.
//!
//! A large run that is written so costs neither a copy nor pages of memory. What of the file was in the cache is
//! dropped by the system, before the write and after it, so that the map shows what was written: a test reads along
//! while it happens. Nothing rests on that alone. A view that is older fails its check, since its generation is
//! another, and the reading that follows goes past the cache too.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::bytes_u64;
use crate::format::BLOCK_SIZE;

/// What addresses in memory are a multiple of: no file system asks for more than a page.
const ALIGNMENT: usize = 4096;

/// Bytes that begin at a multiple of 4096 in memory, as the system asks for what goes past its cache.
pub(crate) struct AlignedBuffer {
    /// Longer than needed, so that the beginning can be chosen. Never made longer: it would move.
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A buffer of zeros.
    pub(crate) fn new(length: usize) -> AlignedBuffer {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        AlignedBuffer { bytes, start, length }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AlignedBuffer")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// A second descriptor of a file, opened when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Direct {
    file: OnceLock<Option<File>>,
    /// The file system has opened the file so, and then refused to write.
    is_refused: AtomicBool,
    /// Whether something was written since the last sync.
    is_unsynced: AtomicBool,
}

impl Direct {
    /// Writes bytes past the cache. False if it cannot be done, now or ever: they are then to be written through it,
    /// all of them.
    pub(super) fn write(&self, beside: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        if !is_aligned(bytes) || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(file) = self.file.get_or_init(|| open(beside)) else { return Ok(false) };
        self.is_unsynced.store(true, Ordering::Relaxed);
        let write = |done: usize| file.write_at(&bytes[done..], offset + bytes_u64(done));
        let outcome = moved(bytes.len(), write)?;
        if outcome == Moved::Refused {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        Ok(outcome == Moved::All)
    }

    /// Makes durable what was written. A file system over a network may know of it by this descriptor alone.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.get() {
            Some(Some(file)) if self.is_unsynced.swap(false, Ordering::Relaxed) => file.sync_data(),
            _ => Ok(()),
        }
    }

    /// Reads bytes past the cache, if any were written so. False if it cannot be done.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let Some(Some(file)) = self.file.get() else { return Ok(false) };
        let mut aligned = AlignedBuffer::new(bytes.len());
        let read = |done: usize| file.read_at(&mut aligned[done..], offset + bytes_u64(done));
        let is_read = moved(bytes.len(), read)? == Moved::All;
        if is_read {
            bytes.copy_from_slice(&aligned);
        }
        Ok(is_read)
    }

    /// Whether bytes go past the cache, as far as is known.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.file.get(), Some(Some(_))) && !self.is_refused.load(Ordering::Relaxed)
    }

    /// A file system that refuses, for tests.
    #[cfg(test)]
    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

/// How far a call came.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    All,
    /// It stopped within a block.
    Part,
    Refused,
}

/// Repeats a call until it has moved `length` bytes; it is told how many are done.
fn moved(length: usize, mut call: impl FnMut(usize) -> io::Result<usize>) -> io::Result<Moved> {
    let mut done = 0;
    while done < length {
        match call(done) {
            Ok(moved) if moved > 0 && moved.is_multiple_of(BLOCK_SIZE) => done += moved,
            Ok(_) => return Ok(Moved::Part),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_refusal(&error) => return Ok(Moved::Refused),
            Err(error) => return Err(error),
        }
    }
    Ok(Moved::All)
}

fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGNMENT) == 0
}

fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS];
    refusals.iter().any(|refusal| error.raw_os_error() == Some(refusal.raw_os_error()))
}

/// Opens the very file of a descriptor once more, whatever its name is by now.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open(beside: &File) -> Option<File> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags};

    let path = format!("/proc/self/fd/{}", beside.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    // Nothing but the file itself will do.
    let (first, second) = (rustix::fs::fstat(beside).ok()?, rustix::fs::fstat(&opened).ok()?);
    ((first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)).then_some(opened)
}

/// Other systems have no such flag.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open(_beside: &File) -> Option<File> {
    None
}
