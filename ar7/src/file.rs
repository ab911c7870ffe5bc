//! Open files and streams.

use std::fmt;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use ar7_registry::{Content, Error as RegistryError, FileContent, Mode, StreamFile};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::open::SharedStream;

/// The length in bytes up to which [`crate::Snapshot::read`] and [`crate::Transaction::read`] return the content of a
/// file: 1 GiB.
pub const READ_MAX: u64 = 1 << 30;

/// An open file or stream: `Read`, `BufRead`, `Seek` and `Write`, and reads and writes at any
/// offset.
///
/// - From a [`crate::Snapshot`], it is a `File<'static>`, open for reading. It keeps the snapshot,
///   and always returns the bytes of the snapshot's commit.
/// - From a [`crate::Transaction`], it is borrowed from the transaction, so that it cannot outlive
///   it. Any number of files can have the same content open. Each sees at once what the others
///   write. If the content is deleted, they fail with [`Error::Removed`]. After the transaction returned
///   to a [`crate::Savepoint`], a file that was open at it shows the content of that point, and one that
///   was opened later fails with [`Error::RolledBack`].
///
/// [`Read::read_to_end`] takes as much memory as the file is long, and a file with holes can be longer than any memory.
///
/// It keeps the blocks that the last small read opened, so a `BufReader` around it gains nothing.
/// Writes of at least 64 KiB are the fastest; there is no need for a `BufWriter` otherwise, because
/// a write only copies the bytes to memory.
pub struct File<'t> {
    object: StreamFile<Bytes<'t>>,
    /// For errors. Kept here too, so that an error can name the file while `object` lends its buffer.
    name: String,
}

/// What a file reads and writes.
#[derive(Debug)]
pub(crate) enum Bytes<'t> {
    /// Content in a snapshot. An empty file has none.
    Pinned(Option<FileContent>),
    /// Content in a transaction.
    Shared(SharedStream<'t>),
}

impl<'t> File<'t> {
    pub(crate) fn new(bytes: Bytes<'t>, name: &str, mode: Mode) -> Result<File<'t>> {
        let object = StreamFile::over(bytes, name.to_owned(), mode);
        let object = object.map_err(|error| explained(name, error))?;
        Ok(File { object, name: name.to_owned() })
    }

    /// Returns the path or the UUID with which the file was opened.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.object.mode()
    }

    /// Returns the identity of the stream with the content. An empty file may have none yet, and a packed file has
    /// none.
    pub fn stream(&self) -> Result<Option<Uuid>> {
        match self.object.stream() {
            Bytes::Pinned(pinned) => Ok(pinned.as_ref().and_then(FileContent::stream)),
            Bytes::Shared(shared) => shared.identity().map_err(|error| self.explained(error)),
        }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> Result<u64> {
        self.object.len().map_err(|error| self.explained(error))
    }

    /// Returns whether the file has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at `offset`, at most to the end. Returns the number of bytes read, which is smaller
    /// than the length of `bytes` only at the end. The file's own offset does not move.
    ///
    /// A large read decrypts in parallel. Any number of threads can read through one file.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        self.object.read_at(offset, bytes).map_err(|error| self.explained(error))
    }

    /// Writes all bytes at `offset`, or at the end in mode `a`. The file's own offset does not move.
    /// A gap between the old end and `offset` reads as zeros.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.object.write_at(offset, bytes);
        written.map_err(|error| self.explained(error))
    }

    /// Sets the length in bytes. Added bytes read as zeros. The offset does not move.
    pub fn set_len(&mut self, length: u64) -> Result<()> {
        let set = self.object.set_len(length);
        set.map_err(|error| self.explained(error))
    }

    /// Returns the whole content.
    pub(crate) fn into_content(mut self, limit_bytes: u64) -> Result<Vec<u8>> {
        let size_bytes = self.len()?;
        if size_bytes > limit_bytes {
            return Err(Error::FileTooLong { path: self.name.into(), size_bytes, limit_bytes });
        }
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }

    fn explained(&self, error: RegistryError) -> Error {
        explained(self.name(), error)
    }

    /// Gives the errors of `std::io` the same form as all others.
    fn through(&self, error: io::Error) -> io::Error {
        through(&self.name, error)
    }
}

/// Returns the error of a file. A stale stream is one that was deleted.
fn explained(name: &str, error: RegistryError) -> Error {
    match error {
        RegistryError::Stale => Error::Removed { name: name.to_owned() },
        RegistryError::RolledBack => Error::RolledBack { name: name.to_owned() },
        other => other.into(),
    }
}

fn through(name: &str, error: io::Error) -> io::Error {
    match error.downcast::<RegistryError>() {
        Ok(error) => explained(name, error).into(),
        Err(error) => error,
    }
}

impl Read for File<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.object.read(bytes);
        read.map_err(|error| self.through(error))
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let read = self.object.read_to_end(bytes);
        read.map_err(|error| self.through(error))
    }

    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        let read = self.object.read_to_string(text);
        read.map_err(|error| self.through(error))
    }
}

impl BufRead for File<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.object.fill_buf().map_err(|error| through(&self.name, error))
    }

    fn consume(&mut self, length: usize) {
        self.object.consume(length);
    }
}

impl Write for File<'_> {
    /// Writes all bytes, or none if it fails.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.object.write(bytes);
        written.map_err(|error| self.through(error))
    }

    /// Does nothing: each write is part of the transaction at once. A commit makes it durable.
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.object.flush();
        flushed.map_err(|error| self.through(error))
    }
}

impl Seek for File<'_> {
    /// Moves the offset. It may exceed the end, but not 2^63 - 1, and must not be negative.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let sought = self.object.seek(to);
        sought.map_err(|error| self.through(error))
    }
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("File")
            .field("name", &self.name())
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}

impl Content for Bytes<'_> {
    fn len(&self) -> ar7_registry::Result<u64> {
        match self {
            Bytes::Pinned(pinned) => Ok(pinned.as_ref().map_or(0, FileContent::len)),
            Bytes::Shared(shared) => Content::len(shared),
        }
    }

    fn version(&self) -> ar7_registry::Result<u64> {
        match self {
            Bytes::Pinned(None) => Ok(0),
            Bytes::Pinned(Some(pinned)) => pinned.version(),
            Bytes::Shared(shared) => shared.version(),
        }
    }

    fn window_blocks(&self) -> usize {
        match self {
            Bytes::Pinned(Some(pinned)) => pinned.window_blocks(),
            Bytes::Shared(shared) => shared.window_blocks(),
            // Nothing is read.
            Bytes::Pinned(None) => 1,
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> ar7_registry::Result<usize> {
        match self {
            Bytes::Pinned(None) => Ok(0),
            Bytes::Pinned(Some(pinned)) => pinned.read_at(offset, bytes),
            Bytes::Shared(shared) => shared.read_at(offset, bytes),
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> ar7_registry::Result<()> {
        match self {
            Bytes::Pinned(_) => Err(read_only()),
            Bytes::Shared(shared) => shared.write_at(offset, bytes),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> ar7_registry::Result<()> {
        match self {
            Bytes::Pinned(_) => Err(read_only()),
            Bytes::Shared(shared) => shared.append(bytes),
        }
    }

    fn set_len(&mut self, length: u64) -> ar7_registry::Result<()> {
        match self {
            Bytes::Pinned(_) => Err(read_only()),
            Bytes::Shared(shared) => shared.set_len(length),
        }
    }

    fn flush(&mut self) -> ar7_registry::Result<()> {
        match self {
            Bytes::Pinned(_) => Ok(()),
            Bytes::Shared(shared) => shared.flush(),
        }
    }
}

fn read_only() -> RegistryError {
    ar7_engine::Error::ReadOnly.into()
}
