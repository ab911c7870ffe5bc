//! The readers: they read small files completely, and compare files with what the archive has of them.
//!
//! A file that changes while it is read is read again. If it keeps changing, it is stored as it was read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use ar7_registry::records::{EntryType, Inode};
use ar7_registry::{Archive, FileContent};
use crossbeam::channel::{Receiver, Sender};
use uuid::Uuid;

use super::extended::Extended;
use crate::error::Result;
use crate::fs::walk::{Attributed, Entry, Source, Status, Tree};

/// The largest file, in bytes, that a reader reads completely.
pub(super) const WHOLE_MAX: usize = 1 << 20;

/// The size in bytes of the first read of a file whose status says that it is empty, as those in `/proc` do.
const UNKNOWN_BYTES: u64 = 64 << 10;

/// The size in bytes of the pieces in which a file is compared.
const COMPARED_BYTES: usize = 256 << 10;

/// How often and at which intervals a file is opened of which another process has a lease. That process gives it up as
/// soon as it has written what it keeps of the file.
const OPENINGS_MAX: usize = 200;
const OPENING_INTERVAL: Duration = Duration::from_millis(25);

/// How often a file is read that changes meanwhile.
pub(super) const READS_MAX: usize = 3;

/// What to do with an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task {
    /// Read it.
    Read,
    /// Compare it with the content in the archive, and read it if it differs.
    Compare(StoredAt),
    /// Only read the extended attributes of an entry that is not a file.
    Attributes,
}

/// Where the archive has the content of a file. An empty file has it nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredAt {
    stream: Option<Uuid>,
    slice: Option<u64>,
    size: u64,
}

impl StoredAt {
    pub(super) fn of(inode: &Inode) -> StoredAt {
        StoredAt { stream: inode.stream, slice: inode.slice, size: inode.size }
    }

    /// Opens the content, as the last commit has it.
    fn open(&self, archive: &Archive) -> ar7_registry::Result<Option<FileContent>> {
        archive.snapshot().read_content(self.stream, self.slice, self.size)
    }
}

/// An entry, and where to send its content.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) task: Task,
    pub(super) answer: Sender<Result<Input>>,
}

/// An entry as it was read.
pub(super) struct Input {
    /// The status before it was read, so that a later change shows in the next run.
    pub(super) status: Status,
    pub(super) content: Content,
    pub(super) extended: Extended,
    /// Whether it changed each time it was read.
    pub(super) is_changed: bool,
}

/// The content of an entry.
pub(super) enum Content {
    /// A whole file.
    Whole(Vec<u8>),
    /// A large file. The writer opens it and reads it while storing it, which limits the number of open files.
    Large,
    /// The same as in the archive.
    Same,
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// A fifo, a socket or a device, which have no content.
    Special,
}

/// What the readers share with the other stages.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Set when the run ends early.
    pub(super) is_over: AtomicBool,
    /// Bytes compared by readers, which the writer has not reported yet.
    pub(super) compared_bytes: AtomicU64,
}

/// Processes jobs until the channel closes.
pub(super) fn read_all(
    tree: &Tree<'_>,
    archive: Option<&Archive>,
    shared: &Shared,
    jobs: &Receiver<Job>,
) {
    for Job { entry, task, answer } in jobs {
        let outcome = match (task, archive) {
            (Task::Compare(stored), Some(archive)) => entry.compare(tree, archive, shared, stored),
            (Task::Attributes, _) => entry.read_attributes(tree),
            (Task::Read | Task::Compare(_), _) => entry.read(tree),
        };
        // If the writer has stopped, nobody receives the answer.
        let _ = answer.send(outcome);
    }
}

impl Entry {
    /// Reads the entry as it is now.
    pub(super) fn read(&self, tree: &Tree<'_>) -> Result<Input> {
        self.try_read(tree).map_err(|error| self.failed(error))
    }

    fn try_read(&self, tree: &Tree<'_>) -> io::Result<Input> {
        let (status, is_changed) = (self.status, false);
        match self.status.kind {
            Some(EntryType::File) => self.read_file(tree),
            Some(EntryType::Symlink) => {
                let target =
                    tree.with(&self.directory, |source, at| source.target(at, &self.name))?;
                let (content, extended) = (Content::Target(target), self.extended(tree)?);
                Ok(Input { status, content, extended, is_changed })
            }
            _ => {
                let (content, extended) = (Content::Special, self.extended(tree)?);
                Ok(Input { status, content, extended, is_changed })
            }
        }
    }

    fn read_file(&self, tree: &Tree<'_>) -> io::Result<Input> {
        let (file, mut status) = self.try_open(tree)?;
        for attempt in 1.. {
            if status.size > WHOLE_MAX as u64 {
                break;
            }
            // After the status, so that a later change of the attributes shows in the next run.
            let extended = Extended::read(tree.source, Attributed::Open(file.as_fd()));
            let Some(bytes) = Reading::new(tree.source, &file, &status).whole()? else { break };
            let after = tree.source.status_of(file.as_fd())?;
            let is_changed = !after.is_same_version(&status);
            if !is_changed || attempt == READS_MAX {
                return Ok(Input { status, content: Content::Whole(bytes), extended, is_changed });
            }
            status = after;
        }
        // The writer reads the attributes as well, from the file that it opens.
        let (content, extended) = (Content::Large, Extended::default());
        Ok(Input { status, content, extended, is_changed: false })
    }

    fn read_attributes(&self, tree: &Tree<'_>) -> Result<Input> {
        let extended = self.extended(tree).map_err(|error| self.failed(error))?;
        Ok(Input { status: self.status, content: Content::Same, extended, is_changed: false })
    }

    /// Returns the extended attributes of an entry that is not opened.
    fn extended(&self, tree: &Tree<'_>) -> io::Result<Extended> {
        tree.with(&self.directory, |source, at| {
            Ok(Extended::read(source, Attributed::Named(at, &self.name)))
        })
    }

    /// Compares the file with the content in the archive, and reads it if it differs.
    fn compare(
        &self,
        tree: &Tree<'_>,
        archive: &Archive,
        shared: &Shared,
        stored: StoredAt,
    ) -> Result<Input> {
        let compared = self.try_open(tree).and_then(|(file, status)| {
            let extended = Extended::read(tree.source, Attributed::Open(file.as_fd()));
            let is_same = is_same(tree.source, &file, &status, archive, shared, stored)?
                && tree.source.status_of(file.as_fd())?.is_same_version(&status);
            Ok((status, extended, is_same))
        });
        let (status, extended, is_same) = compared.map_err(|error| self.failed(error))?;
        if is_same {
            return Ok(Input { status, content: Content::Same, extended, is_changed: false });
        }
        self.read(tree)
    }

    /// Opens the file that currently has the name, and returns its status.
    pub(super) fn open(&self, tree: &Tree<'_>) -> Result<(File, Status)> {
        self.try_open(tree).map_err(|error| self.failed(error))
    }

    /// Opens the file. Waits while another process has a lease of it.
    fn open_without_lease(&self, source: &dyn Source, at: BorrowedFd<'_>) -> io::Result<File> {
        for _ in 1..OPENINGS_MAX {
            match source.open_file(at, &self.name) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(OPENING_INTERVAL),
                outcome => return outcome,
            }
        }
        source.open_file(at, &self.name)
    }

    fn try_open(&self, tree: &Tree<'_>) -> io::Result<(File, Status)> {
        tree.with(&self.directory, |source, at| {
            let file = self.open_without_lease(source, at)?;
            let status = source.status_of(file.as_fd())?;
            if status.kind == self.status.kind { Ok((file, status)) } else { Err(replaced()) }
        })
    }
}

/// Returns whether a file has the content that is stored. Unreadable content counts as different: it is replaced.
fn is_same(
    source: &dyn Source,
    file: &File,
    status: &Status,
    archive: &Archive,
    shared: &Shared,
    stored: StoredAt,
) -> io::Result<bool> {
    let mut reading = Reading::new(source, file, status);
    let mut bytes = Vec::with_capacity(COMPARED_BYTES);
    let stored = match stored.open(archive) {
        Ok(Some(stored)) => stored,
        Ok(None) => return Ok(reading.fill(&mut bytes)? == 0),
        Err(_) => return Ok(false),
    };
    let length = stored.len();
    let (mut expected, mut offset) = (vec![0; COMPARED_BYTES], 0);
    loop {
        bytes.clear();
        let count = reading.fill(&mut bytes)?;
        if count == 0 {
            return Ok(offset == length);
        }
        let expected = expected.get_mut(..count).unwrap_or_default();
        match stored.read_at(offset, expected) {
            Ok(found) if found == count && *expected == *bytes => {}
            _ => return Ok(false),
        }
        offset += count as u64;
        shared.compared_bytes.fetch_add(count as u64, Ordering::Relaxed);
        if shared.is_over.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
}

/// The content of an open file, from its beginning. Holes are not read. A file that grows meanwhile ends where it ended
/// before, so that reading it ends even if another process writes as fast.
pub(super) struct Reading<'a> {
    source: &'a dyn Source,
    file: &'a File,
    size: u64,
    is_sparse: bool,
    offset: u64,
    /// The data around the offset or after it, in a file with holes.
    data: Range<u64>,
    /// The shortest hole that [`Reading::fill`] stops at.
    hole_min: u64,
}

/// The shortest hole that is stored as one. A shorter one would cost more in frames than its zeros do.
const HOLE_MIN: u64 = 64 << 10;

impl<'a> Reading<'a> {
    pub(super) fn new(source: &'a dyn Source, file: &'a File, status: &Status) -> Reading<'a> {
        let Status { size, is_sparse, .. } = *status;
        Reading { source, file, size, is_sparse, offset: 0, data: 0..0, hole_min: u64::MAX }
    }

    /// Stops at long holes, which [`Reading::skip_hole`] skips.
    pub(super) fn up_to_holes(self) -> Reading<'a> {
        Reading { hole_min: HOLE_MIN, ..self }
    }

    /// Returns whether the file may have holes.
    pub(super) fn is_sparse(&self) -> bool {
        self.is_sparse
    }

    /// Skips a long hole at the offset. Returns its length, or 0 if the offset is in none.
    pub(super) fn skip_hole(&mut self) -> io::Result<u64> {
        let hole = self.hole()?;
        let skipped = if hole >= self.hole_min { hole } else { 0 };
        self.offset += skipped;
        Ok(skipped)
    }

    /// Reads the whole file, or returns `None` if it has more than [`WHOLE_MAX`] bytes.
    fn whole(&mut self) -> io::Result<Option<Vec<u8>>> {
        // One byte more, so that a file that is as long as its status says is read without growing the buffer.
        let likely = if self.size == 0 { UNKNOWN_BYTES } else { self.size.saturating_add(1) };
        let mut bytes = Vec::with_capacity(usize::try_from(likely).unwrap_or_default());
        loop {
            self.fill(&mut bytes)?;
            if bytes.len() > WHOLE_MAX {
                return Ok(None);
            }
            if bytes.len() < bytes.capacity() {
                return Ok(Some(bytes));
            }
            bytes.reserve(usize::try_from(UNKNOWN_BYTES).unwrap_or_default());
        }
    }

    /// Fills the spare capacity of a buffer. Returns the number of bytes. There is capacity left only at the end of the
    /// file, or before a hole that it stops at.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let begin = buffer.len();
        while buffer.len() < buffer.capacity() {
            let read = match self.hole()? {
                0 => self.read(buffer)?,
                hole if hole >= self.hole_min => 0,
                hole => {
                    let spare = buffer.capacity() - buffer.len();
                    let zeros = usize::try_from(hole).unwrap_or(usize::MAX).min(spare);
                    buffer.resize(buffer.len() + zeros, 0);
                    zeros
                }
            };
            if read == 0 {
                break;
            }
            self.offset += read as u64;
        }
        Ok(buffer.len() - begin)
    }

    /// Reads once. The status of a file may give no length or a wrong one, as in `/proc`: only one that has changed says
    /// that the file has grown.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let begin = buffer.len();
        let read = self.source.read_at(self.file.as_fd(), self.offset, buffer)?;
        let beyond = self.offset.saturating_add(read as u64) > self.size;
        if !beyond || read == 0 || self.source.status_of(self.file.as_fd())?.size <= self.size {
            return Ok(read);
        }
        let left = self.size.saturating_sub(self.offset);
        let left = usize::try_from(left).unwrap_or(usize::MAX).min(read);
        buffer.truncate(begin + left);
        Ok(left)
    }

    /// Returns the number of bytes from the offset on that are known to be in a hole.
    fn hole(&mut self) -> io::Result<u64> {
        if self.is_sparse && self.offset >= self.data.end {
            let data = self.source.data_from(self.file.as_fd(), self.offset)?;
            self.data = if let Some(data) = data {
                data
            } else {
                // The rest is a hole, up to the size.
                let size = self.source.status_of(self.file.as_fd())?.size;
                size..u64::MAX
            };
        }
        Ok(self.data.start.min(self.size).saturating_sub(self.offset))
    }
}

pub(super) fn replaced() -> io::Error {
    io::Error::other("it was replaced by an entry of another type")
}
