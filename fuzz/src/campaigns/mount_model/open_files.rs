//! Operations on files that are open, or mapped, in both directories.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use memmap2::MmapMut;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::mapping::Mapping;
use super::outcome::{Compared, Outcome, nothing, number_of, status};
use crate::Random;

/// Longest file in bytes, and longest write.
const LENGTH_MAX: u64 = 300_000;
const WRITE_MAX: u64 = 40_000;

/// Bytes of a page, and of what direct I/O aligns everything to.
const PAGE: u64 = 4096;

/// Files that a thread has open at the same time, and that it has mapped.
const OPEN_MAX: usize = 6;
const MAPPED_MAX: usize = 3;

/// The files that a thread has open in both directories.
#[derive(Default)]
pub(super) struct OpenFiles {
    open: Vec<Open>,
    mapped: Vec<Mapped>,
}

/// A file that is open in both directories.
struct Open {
    files: [File; 2],
    /// Whether it bypasses the page cache.
    is_direct: bool,
}

/// A file that is mapped in both directories. It may have been closed.
struct Mapped {
    memory: [Mapping; 2],
    /// The file in the host's directory, for its length.
    host: File,
}

impl OpenFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.mapped.is_empty()
    }

    pub(super) fn add(&mut self, files: [File; 2], is_direct: bool, random: &mut Random) {
        if self.open.len() >= OPEN_MAX {
            self.open.swap_remove(index(random, OPEN_MAX));
        }
        self.open.push(Open { files, is_direct });
    }

    /// Ends all mappings. Only the first write to a page of memory sets the time of its file, and which write that is
    /// depends on when the kernel writes the page out.
    pub(super) fn unmap(&mut self) {
        self.mapped.clear();
    }

    /// Does one operation on a file.
    pub(super) fn operation(&mut self, random: &mut Random) -> Compared {
        if self.open.is_empty() || random.one_in(4) && !self.mapped.is_empty() {
            return self.on_mapped(random);
        }
        let at = index(random, self.open.len());
        match random.below(16) {
            0 => {
                self.open.swap_remove(at);
                (format!("close {at}"), [Ok(Vec::new()), Ok(Vec::new())])
            }
            1 => self.map(at, random),
            2 | 3 => self.open[at].seek(at, random),
            4 => self.copy(at, random),
            kind => self.open[at].change(at, kind, random),
        }
    }

    /// Copies a range to another file, or within one. Direct I/O would have to be aligned.
    fn copy(&mut self, at: usize, random: &mut Random) -> Compared {
        let to = index(random, self.open.len());
        let (places, length) =
            ([random.below(LENGTH_MAX), random.below(LENGTH_MAX)], random.below(WRITE_MAX) + 1);
        let text = format!("copy {length} bytes of {at} to {to}, {places:?}");
        let (source, target) = (&self.open[at], &self.open[to]);
        if source.is_direct || target.is_direct {
            return (text, [Ok(Vec::new()), Ok(Vec::new())]);
        }
        let copy = |side: usize| copy(&source.files[side], &target.files[side], places, length);
        (text, [0, 1].map(copy))
    }

    fn map(&mut self, at: usize, random: &mut Random) -> Compared {
        let [here, there] = &self.open[at].files;
        let length = usize::try_from(LENGTH_MAX).unwrap_or(0);
        let memory = [Mapping::new(here, length), Mapping::new(there, length)];
        let outcomes = [0, 1].map(|side| memory[side].as_ref().map(nothing).map_err(|e| *e));
        if let ([Ok(here), Ok(there)], Ok(host)) = (memory, there.try_clone()) {
            if self.mapped.len() >= MAPPED_MAX {
                self.mapped.swap_remove(index(random, MAPPED_MAX));
            }
            self.mapped.push(Mapped { memory: [here, there], host });
        }
        (format!("map {at}"), outcomes)
    }

    fn on_mapped(&mut self, random: &mut Random) -> Compared {
        let at = index(random, self.mapped.len());
        let kind = random.below(9);
        let (offset, length) = self.mapped[at].range(random);
        let text = format!("memory {kind} of {at}, {length} bytes at {offset}");
        if kind == 8 {
            self.mapped.swap_remove(at);
            return (text, [Ok(Vec::new()), Ok(Vec::new())]);
        }
        let bytes = random_bytes(length, random);
        let memory = self.mapped[at].memory.each_mut();
        let outcomes = memory.map(|memory| match kind {
            0..4 => memory.write(offset, &bytes),
            4..7 => memory.read(offset, length),
            _ => memory.sync(),
        });
        (text, outcomes)
    }
}

impl Mapped {
    /// Returns a range of the memory that is in the file, or in pages beyond it. What a page holds beyond the end of the
    /// file is not specified.
    fn range(&self, random: &mut Random) -> (usize, usize) {
        let size = self.host.metadata().map_or(0, |it| it.len());
        let offset = random.below(LENGTH_MAX);
        let end = (offset + 1 + random.below(WRITE_MAX)).min(LENGTH_MAX);
        let (offset, end) = match offset {
            offset if offset < size => (offset, end.min(size)),
            offset if offset >= size.next_multiple_of(PAGE) => (offset, end),
            _ => (0, size.min(LENGTH_MAX)),
        };
        (usize::try_from(offset).unwrap_or(0), usize::try_from(end - offset).unwrap_or(0))
    }
}

impl Open {
    fn change(&self, at: usize, kind: u64, random: &mut Random) -> Compared {
        let mut offset = random.below(LENGTH_MAX);
        let mut length = random.below(WRITE_MAX) + 1;
        let is_transfer = matches!(kind, 5..11);
        if self.is_direct && is_transfer {
            (offset, length) = (offset / PAGE * PAGE, length.next_multiple_of(PAGE));
        }
        let bytes = random_bytes(usize::try_from(length).unwrap_or(1), random);
        let modes = [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE,
        ];
        let mode = *random.choose(&modes).unwrap_or(&FallocateFlags::empty());
        let outcomes = self.files.each_ref().map(|file| match kind {
            5..8 => write(file, &bytes, offset, self.is_direct),
            8..11 => read(file, bytes.len(), offset, self.is_direct),
            11 => rustix::fs::ftruncate(file, offset).map(nothing),
            12 => rustix::fs::fallocate(file, mode, offset, length).map(nothing),
            13 => file.metadata().map(|it| status(&it)).map_err(number_of),
            _ => rustix::fs::fdatasync(file).map(nothing),
        });
        (format!("kind {kind} on {at}, {length} bytes at {offset}, {mode:?}"), outcomes)
    }

    /// Looks for data and for a hole. Where they are differs between file systems, but no data may be in a hole.
    fn seek(&self, at: usize, random: &mut Random) -> Compared {
        let offset = random.below(LENGTH_MAX);
        let for_data = random.one_in(2);
        let outcomes = self.files.each_ref().map(|file| sought(file, offset, for_data));
        (format!("seek {at}, data {for_data} from {offset}"), outcomes)
    }
}

/// Writes bytes, from aligned memory if they bypass the page cache.
fn write(file: &File, bytes: &[u8], offset: u64, is_direct: bool) -> Outcome {
    if !is_direct {
        return file.write_all_at(bytes, offset).map(nothing).map_err(number_of);
    }
    let mut aligned = MmapMut::map_anon(bytes.len()).map_err(number_of)?;
    aligned.copy_from_slice(bytes);
    file.write_all_at(&aligned, offset).map(nothing).map_err(number_of)
}

fn read(file: &File, length: usize, offset: u64, is_direct: bool) -> Outcome {
    if is_direct {
        let mut aligned = MmapMut::map_anon(length).map_err(number_of)?;
        let length = file.read_at(&mut aligned, offset).map_err(number_of)?;
        return Ok(aligned[..length].to_vec());
    }
    let mut read = vec![0; length];
    let length = file.read_at(&mut read, offset).map_err(number_of)?;
    read.truncate(length);
    Ok(read)
}

/// Copies a range between files, or within one. Returns the number of bytes.
fn copy(from: &File, to: &File, [mut start, mut target]: [u64; 2], length: u64) -> Outcome {
    let mut copied = 0;
    while copied < length {
        let left = usize::try_from(length - copied).unwrap_or(usize::MAX);
        let (from_at, to_at) = (Some(&mut start), Some(&mut target));
        match rustix::fs::copy_file_range(from, from_at, to, to_at, left)? {
            0 => break,
            count => copied += count as u64,
        }
    }
    Ok(copied.to_string().into_bytes())
}

/// Seeks data or a hole. Returns what is wrong with the answer; nothing if it can be right.
fn sought(file: &File, offset: u64, for_data: bool) -> Outcome {
    let size = file.metadata().map_err(number_of)?.len();
    let from = if for_data { SeekFrom::Data(offset) } else { SeekFrom::Hole(offset) };
    let found = rustix::fs::seek(file, from);
    let content = content_from(file, offset, size)?;
    let wrong = match found {
        Err(Errno::NXIO) if offset >= size => return Err(Errno::NXIO),
        Err(Errno::NXIO) if for_data => content.iter().any(|&byte| byte != 0),
        Err(error) => return Err(error),
        Ok(found) if found < offset || found > size || offset >= size => true,
        Ok(found) => {
            let (skipped, rest) = content.split_at(usize::try_from(found - offset).unwrap_or(0));
            if for_data {
                rest.is_empty() || skipped.iter().any(|&byte| byte != 0)
            } else {
                rest.first().is_some_and(|&byte| byte != 0)
            }
        }
    };
    if wrong { Ok(format!("{found:?} in {size} bytes").into_bytes()) } else { Ok(Vec::new()) }
}

/// Returns the content of a file from an offset on, read in whole pages.
fn content_from(file: &File, offset: u64, size: u64) -> Outcome {
    let start = offset / PAGE * PAGE;
    let length = size.saturating_sub(start).next_multiple_of(PAGE).max(PAGE);
    let bytes = read(file, usize::try_from(length).unwrap_or(0), start, true)?;
    Ok(bytes.get(usize::try_from(offset - start).unwrap_or(0)..).unwrap_or_default().to_vec())
}

fn random_bytes(length: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

fn index(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).unwrap_or(0)
}
