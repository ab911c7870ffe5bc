//! Reads and writes that bypass the page cache: `O_DIRECT`, if the system and the file system support it.
//!
//! A large run written this way costs neither a copy nor page cache. The system drops the cached pages of the run before
//! and after the write, so the map shows the new bytes; a test reads the map meanwhile. Safety does not depend on that:
//! a stale page has another generation and fails its check, and the second read bypasses the cache too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapMut;
use rustix::io::Errno;

use super::bytes_u64;
use crate::format::BLOCK_SIZE;
use crate::{Error, Result};

/// Alignment of a buffer in memory; no file system requires more than a page.
const ALIGNMENT: usize = 4096;

/// Allocates a buffer of zeros that starts on a page boundary, as `O_DIRECT` requires.
pub(crate) fn page_aligned(length: usize) -> Result<MmapMut> {
    MmapMut::map_anon(length).map_err(|error| Error::io("allocate a buffer", error))
}

/// A second descriptor of a file, opened at the first large write.
#[derive(Debug, Default)]
pub(super) struct Direct {
    file: OnceLock<Option<File>>,
    /// Whether the file system has refused a direct write.
    is_refused: AtomicBool,
    /// Whether something was written since the last sync.
    is_unsynced: AtomicBool,
}

impl Direct {
    /// Writes bytes without the page cache. On false the caller must write all of them through it.
    pub(super) fn write(&self, original: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        if !is_aligned(bytes) || self.is_refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let Some(file) = self.file.get_or_init(|| open(original)) else { return Ok(false) };
        self.is_unsynced.store(true, Ordering::Relaxed);
        let write = |done: usize| file.write_at(&bytes[done..], offset + bytes_u64(done));
        let outcome = moved(bytes.len(), write)?;
        if outcome == Moved::Refused {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        Ok(outcome == Moved::All)
    }

    /// Syncs direct writes. A network file system may track them by this descriptor alone.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.get() {
            Some(Some(file)) if self.is_unsynced.swap(false, Ordering::Relaxed) => file.sync_data(),
            _ => Ok(()),
        }
    }

    /// Reads bytes without the page cache, if [`write`](Direct::write) was ever used. Returns false if it cannot.
    pub(super) fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let Some(Some(file)) = self.file.get() else { return Ok(false) };
        let mut aligned = MmapMut::map_anon(bytes.len())?;
        let read = |done: usize| file.read_at(&mut aligned[done..], offset + bytes_u64(done));
        let is_read = moved(bytes.len(), read)? == Moved::All;
        if is_read {
            bytes.copy_from_slice(&aligned);
        }
        Ok(is_read)
    }

    /// Returns whether the next write will bypass the cache, as far as is known.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.file.get(), Some(Some(_))) && !self.is_refused.load(Ordering::Relaxed)
    }

    /// Acts like a file system that refuses direct writes.
    #[cfg(test)]
    pub(super) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }
}

/// The outcome of a transfer.
#[derive(Debug, PartialEq, Eq)]
enum Moved {
    All,
    /// It stopped inside a block.
    Part,
    Refused,
}

/// Repeats `call`, which takes the number of bytes done, until `length` bytes are transferred.
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

/// Opens the file of a descriptor again, even if it was renamed.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn open(original: &File) -> Option<File> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, OFlags};

    let path = format!("/proc/self/fd/{}", original.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    let opened = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    // It must be the same file.
    let (first, second) = (rustix::fs::fstat(original).ok()?, rustix::fs::fstat(&opened).ok()?);
    ((first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)).then_some(opened)
}

/// Returns `None`, because other systems lack the flag.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open(_original: &File) -> Option<File> {
    None
}
