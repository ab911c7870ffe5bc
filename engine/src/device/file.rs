//! A plain file as a device, with positioned reads and writes: a bad sector is an error.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::direct::Direct;
use super::lock::FileLocks;
use super::{Device, Locks, bytes_u64, device_bytes, fitting, refused, region_end, write_back};
use crate::format::{BLOCK_SIZE_U64, Position, Run};
use crate::{Error, Result};

/// Bytes of zeros per write on a file system that cannot reserve storage.
const ZEROS_PER_WRITE: usize = 1 << 20;

/// The access mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reading; a change fails with [`Error::ReadOnly`].
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// A device in a file, read and written by `pread` and `pwrite`.
///
/// One descriptor does everything but large writes, and stays open from before the first write to the last sync: the
/// kernel reports a failed write only to the descriptors that were open at that time.
#[derive(Debug)]
pub struct FileDevice {
    file: Arc<File>,
    locks: Arc<FileLocks>,
    /// For large runs. It syncs its own writes, before `file` syncs the rest.
    direct: Direct,
    path: Option<PathBuf>,
    access: Access,
    /// The last seen length, which bounds every read. Stored only under `resizing`.
    known_bytes: AtomicU64,
    /// Held while the length is changed or queried.
    resizing: Mutex<()>,
    /// Whether the file system reserves storage; cleared at the first refusal.
    reserves: AtomicBool,
    /// Blocks written since the last sync, which can still fail on a full disk.
    unsynced_blocks: AtomicU64,
}

impl FileDevice {
    /// Opens the file at `path`, which must be a regular file.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<FileDevice> {
        let path = path.as_ref();
        let device = open_file(path, access)
            .and_then(|file| FileDevice::with_access(file, access))
            .map_err(|error| Error::io("open", error).at_path(path))?
            .named(path);
        Ok(device)
    }

    /// Uses an open file, which must be a regular file and may be empty.
    pub fn from_file(file: File) -> Result<FileDevice> {
        rustix::fs::fcntl_getfl(&file)
            .map_err(io::Error::from)
            .and_then(|flags| FileDevice::with_access(file, access_of(flags)?))
            .map_err(|error| Error::io("open", error))
    }

    /// Sets the path for error messages.
    #[must_use]
    pub fn named(self, path: &Path) -> FileDevice {
        FileDevice { path: Some(path.to_owned()), ..self }
    }

    /// Returns the path in error messages.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Returns the access mode of the file.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Locks the file as its only writer. Fails with [`Error::Locked`] if another open of it is the writer. The lock
    /// ends with the device or the process.
    pub fn lock_writer(&self) -> Result<()> {
        self.locks.lock_writer().map_err(|error| self.at_path(error))?;
        // A writer may have trimmed the file between the open and the lock.
        self.length_bytes().map(drop)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the length as last seen: at opening, at a change, or by [`Device::length_bytes`].
    pub(super) fn known_bytes(&self) -> u64 {
        self.known_bytes.load(Ordering::Acquire)
    }

    /// Reads at an offset that was checked against [`known_bytes`](Self::known_bytes).
    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let Err(error) = self.file.read_exact_at(bytes, offset) else {
            return Ok(());
        };
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return Err(self.at_path(Error::io("read", error)));
        }
        // Another program has shortened the file.
        let expected_bytes = offset.saturating_add(bytes_u64(bytes.len()));
        Err(Error::Truncated { expected_bytes, found_bytes: self.length_bytes()? })
    }

    /// Returns the descriptor for direct writes.
    #[cfg(test)]
    pub(super) fn direct(&self) -> &Direct {
        &self.direct
    }

    /// Acts like a device on a file system that cannot reserve storage, for tests of growth by zeros.
    #[cfg(test)]
    pub(super) fn without_reserving(self) -> FileDevice {
        FileDevice { reserves: AtomicBool::new(false), ..self }
    }

    fn with_access(file: File, access: Access) -> io::Result<FileDevice> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = Arc::new(file);
        Ok(FileDevice {
            locks: Arc::new(FileLocks::new(&file)),
            file,
            direct: Direct::default(),
            path: None,
            access,
            known_bytes: AtomicU64::new(metadata.len()),
            resizing: Mutex::new(()),
            reserves: AtomicBool::new(true),
            unsynced_blocks: AtomicU64::new(0),
        })
    }

    fn must_be_writable(&self) -> Result<()> {
        match self.access {
            Access::Read => Err(Error::ReadOnly),
            Access::ReadWrite => Ok(()),
        }
    }

    /// Checks that blocks may be written, writes them, and counts those that were written.
    fn written(
        &self,
        start: Position,
        bytes: &[u8],
        write: impl FnOnce() -> io::Result<bool>,
    ) -> Result<bool> {
        self.must_be_writable()?;
        let end = region_end(start, bytes.len(), self.known_bytes())?;
        let blocks = bytes_u64(bytes.len()) / BLOCK_SIZE_U64;
        let is_written = must_be_allowed(end)
            .and_then(|()| write())
            .map_err(|error| self.refused("write", blocks, error))?;
        if is_written {
            self.unsynced_blocks.fetch_add(blocks, Ordering::Relaxed);
        }
        Ok(is_written)
    }

    fn resizing(&self) -> MutexGuard<'_, ()> {
        self.resizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queries the length. Takes the guard as proof: without it, an older length could be stored over a newer one.
    fn look_up_length(&self, _resizing: &MutexGuard<'_, ()>) -> Result<u64> {
        let metadata =
            self.file.metadata().map_err(|error| self.at_path(Error::io("stat", error)))?;
        self.known_bytes.store(metadata.len(), Ordering::Release);
        Ok(metadata.len())
    }

    /// Makes the file longer and reserves storage for the new part.
    fn extend(&self, from: u64, to: u64) -> io::Result<()> {
        if self.reserves.load(Ordering::Relaxed) {
            match reserve(&self.file, from, to) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.reserves.store(false, Ordering::Relaxed);
                }
                answer => return answer,
            }
        }
        write_zeros(&self.file, from, to)
    }

    fn refused(&self, operation: &'static str, needed_blocks: u64, source: io::Error) -> Error {
        refused(operation, self.path(), needed_blocks, source)
    }

    fn at_path(&self, error: Error) -> Error {
        match self.path() {
            Some(path) => error.at_path(path),
            None => error,
        }
    }
}

impl Device for FileDevice {
    fn locks(&self) -> Arc<dyn Locks> {
        Arc::clone(&self.locks) as Arc<dyn Locks>
    }

    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        region_end(start, bytes.len(), self.known_bytes())?;
        self.read_at(start.offset(), bytes)
    }

    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        region_end(start, bytes.len(), self.known_bytes())?;
        // If a direct read fails, a normal read reports the precise error.
        match self.direct.read(start.offset(), bytes) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => self.read_at(start.offset(), bytes),
        }
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.written(start, bytes, || self.file.write_all_at(bytes, start.offset()).map(|()| true))
            .map(drop)
    }

    fn write_direct(&self, start: Position, bytes: &[u8]) -> Result<bool> {
        self.written(start, bytes, || self.direct.write(&self.file, start.offset(), bytes))
    }

    fn sync(&self) -> Result<()> {
        let blocks = self.unsynced_blocks.swap(0, Ordering::Relaxed);
        let synced = self.direct.sync().and_then(|()| self.file.sync_data());
        synced.map_err(|error| self.refused("sync", blocks, error))
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.must_be_writable()?;
        let wanted = device_bytes(blocks)?;
        let resizing = self.resizing();
        let before = self.look_up_length(&resizing)?;
        if wanted <= before {
            return Ok(());
        }
        match must_be_allowed(wanted).and_then(|()| self.extend(before, wanted)) {
            Ok(()) => {
                self.known_bytes.store(wanted, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                // Gives back what was reserved or written before the failure. If that fails too, the file is
                // longer than needed, which is harmless; the caller needs the first error.
                let _ = self.file.set_len(before);
                let needed_blocks = (wanted - before).div_ceil(BLOCK_SIZE_U64);
                Err(self.refused("grow", needed_blocks, error))
            }
        }
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        self.must_be_writable()?;
        let wanted = device_bytes(blocks)?;
        let resizing = self.resizing();
        let before = self.look_up_length(&resizing)?;
        if wanted >= before {
            return Ok(());
        }
        // The known length first, so that no new read starts in the part to be cut off.
        self.known_bytes.store(wanted, Ordering::Release);
        self.file.set_len(wanted).map_err(|error| {
            self.known_bytes.store(before, Ordering::Release);
            self.at_path(Error::io("shrink", error))
        })
    }

    fn length_bytes(&self) -> Result<u64> {
        self.look_up_length(&self.resizing())
    }

    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; fitting(length, self.length_bytes()?)];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    fn start_write_back(&self, run: Run) -> Result<()> {
        let length = u64::from(run.count()) * BLOCK_SIZE_U64;
        write_back::start(&self.file, run.start().offset(), length)
            .map_err(|error| self.refused("write back", u64::from(run.count()), error))
    }
}

fn open_file(path: &Path, access: Access) -> io::Result<File> {
    // If the path is a FIFO, the open must not wait for a peer; if it is a terminal, it must not become the
    // controlling one. On a regular file the flags have no effect.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    OpenOptions::new().read(true).write(access == Access::ReadWrite).custom_flags(flags).open(path)
}

fn access_of(flags: OFlags) -> io::Result<Access> {
    match flags & OFlags::RWMODE {
        OFlags::RDONLY => Ok(Access::Read),
        OFlags::RDWR => Ok(Access::ReadWrite),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not open for reading")),
    }
}

/// Fails beyond the process's limit on file sizes. The system would send SIGXFSZ there, which kills the process.
fn must_be_allowed(end: u64) -> io::Result<()> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if end > limit => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// Reserves storage and sets the length. Fails with [`io::ErrorKind::Unsupported`] if the file system cannot reserve.
fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), from, to - from) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_PER_WRITE];
    let mut offset = from;
    while offset < to {
        let length = fitting(zeros.len(), to - offset);
        file.write_all_at(&zeros[..length], offset)?;
        offset += bytes_u64(length);
    }
    Ok(())
}
