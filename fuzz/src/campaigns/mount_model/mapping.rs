//! A file as shared memory.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::outcome::{Outcome, nothing, number_of};

/// A file as shared memory. The kernel copies to and from the memory, so that a page that cannot be had is an error and
/// no signal.
pub(super) struct Mapping {
    memory: MmapMut,
    /// A file in memory, with which the kernel exchanges bytes.
    other: File,
}

impl Mapping {
    /// Maps a file from its beginning. The memory may be longer than the file.
    pub(super) fn new(file: &File, length: usize) -> Result<Mapping, Errno> {
        let mut options = MmapOptions::new();
        // SAFETY: the file changes and shrinks while it is mapped, but this program reads and writes no byte of the
        // memory: it only passes ranges of it to system calls, which report memory beyond the file as `EFAULT`.
        let memory = unsafe { options.len(length).map_mut(file) }.map_err(number_of)?;
        let other = rustix::fs::memfd_create("between", MemfdFlags::CLOEXEC)?;
        Ok(Mapping { memory, other: other.into() })
    }

    /// Reads memory.
    pub(super) fn read(&self, offset: usize, length: usize) -> Outcome {
        let range = self.memory.get(offset..offset + length).ok_or(Errno::INVAL)?;
        let length = self.other.write_at(range, 0).map_err(number_of)?;
        let mut bytes = vec![0; length];
        self.other.read_exact_at(&mut bytes, 0).map_err(number_of)?;
        Ok(bytes)
    }

    /// Writes memory. Returns the number of bytes.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> Outcome {
        let range = self.memory.get_mut(offset..offset + bytes.len()).ok_or(Errno::INVAL)?;
        self.other.write_all_at(bytes, 0).map_err(number_of)?;
        let length = self.other.read_at(range, 0).map_err(number_of)?;
        Ok(length.to_string().into_bytes())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Outcome {
        self.memory.flush().map(nothing).map_err(number_of)
    }
}
