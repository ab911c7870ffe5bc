//! A file object over a stream: `Read`, `Write` and `Seek` with the modes of Python's `open`.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use uuid::Uuid;

use super::content::Content;
use super::handle::Stream;
use super::mode::Mode;
use super::read_buffer::ReadBuffer;
use crate::archive::Archive;
use crate::error::{Error, Result};

/// Reads of at least this many bytes bypass the buffer.
const DIRECT_BYTES: usize = 64 << 10;

/// Bytes for which [`Read::read_to_end`] reserves memory at once. A length in a record is no reason
/// to allocate memory before the bytes are there.
const STEP_BYTES: u64 = 4 << 20;

/// A file object over a stream.
///
/// It keeps the blocks that the last small read opened, so a `BufReader` around it gains nothing.
///
/// Each write becomes part of the archive's open transaction at once. It is durable after
/// [`Archive::commit`].
#[doc(alias = "VirtualFileObject")]
#[derive(Debug)]
pub struct StreamFile<C: Content = Stream> {
    stream: C,
    name: String,
    mode: Mode,
    offset: u64,
    buffer: ReadBuffer,
}

impl StreamFile {
    /// Opens the stream with this identity. Modes `w` and `a` create it if it does not exist. Mode
    /// `x` fails if it exists.
    pub fn open(archive: &Archive, identity: Uuid, mode: Mode) -> Result<StreamFile> {
        StreamFile::over(archive.open_stream_in(identity, mode)?, identity.to_string(), mode)
    }

    /// Saves and closes the file.
    pub fn close(self) -> Result<()> {
        self.stream.close()
    }
}

impl<C: Content> StreamFile<C> {
    /// Makes a file object of an open stream. `name` appears in messages only.
    pub fn over(stream: C, name: String, mode: Mode) -> Result<StreamFile<C>> {
        let mut file = StreamFile { stream, name, mode, offset: 0, buffer: ReadBuffer::new() };
        if mode.truncates() {
            file.stream.set_len(0)?;
        }
        if mode.appends() {
            file.offset = file.stream.len()?;
        }
        Ok(file)
    }

    /// Returns the stream.
    pub fn stream(&self) -> &C {
        &self.stream
    }

    /// Returns the file's name, as given to [`StreamFile::over`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> Result<u64> {
        self.stream.len()
    }

    /// Returns whether the file has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        self.stream.is_empty()
    }

    /// Reads at `offset`, at most to the end. Returns the number of bytes read. The file's own
    /// offset does not move.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        self.check(self.mode.readable(), "reading")?;
        self.stream.read_at(offset, bytes)
    }

    /// Writes at `offset`, or at the end in mode `a`. The file's own offset does not move.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.check(self.mode.writable(), "writing")?;
        self.buffer.clear();
        if self.mode.appends() {
            self.stream.append(bytes)
        } else {
            self.stream.write_at(offset, bytes)
        }
    }

    /// Sets the length in bytes. Added bytes read as zeros. The offset does not move.
    #[doc(alias = "truncate")]
    pub fn set_len(&mut self, length: u64) -> Result<()> {
        self.check(self.mode.writable(), "writing")?;
        self.buffer.clear();
        self.stream.set_len(length)
    }

    /// Reads to the end through the buffer. Before an unreadable block, this delivers every byte up to that block.
    fn read_buffered(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        loop {
            let found = self.buffer.read(&self.stream, self.offset, 1)?;
            if found.is_empty() {
                return Ok(());
            }
            bytes.extend_from_slice(found);
            self.offset += found.len() as u64;
        }
    }

    fn check(&self, allowed: bool, operation: &'static str) -> Result<()> {
        if !allowed {
            return Err(Error::NotInMode { name: self.name.clone(), operation });
        }
        Ok(())
    }
}

impl<C: Content> Read for StreamFile<C> {
    /// Reads bytes of one commit, up to the end of the stream: fewer than asked for only there.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check(self.mode.readable(), "reading")?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let length = if bytes.len() >= DIRECT_BYTES {
            self.stream.read_at(self.offset, bytes)?
        } else {
            let found = self.buffer.read(&self.stream, self.offset, bytes.len())?;
            let length = found.len().min(bytes.len());
            bytes[..length].copy_from_slice(&found[..length]);
            length
        };
        self.offset += length as u64;
        Ok(length)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.check(self.mode.readable(), "reading")?;
        let before = bytes.len();
        loop {
            let left = self.stream.len()?.saturating_sub(self.offset).min(STEP_BYTES);
            if left == 0 {
                return Ok(bytes.len() - before);
            }
            let start = bytes.len();
            let step = usize::try_from(left).unwrap_or(usize::MAX);
            bytes.try_reserve(step)?;
            bytes.resize(start + step, 0);
            let read = self.stream.read_at(self.offset, &mut bytes[start..]);
            let length = *read.as_ref().unwrap_or(&0);
            bytes.truncate(start + length);
            self.offset += length as u64;
            if read.is_err() {
                self.read_buffered(bytes)?;
                return Ok(bytes.len() - before);
            }
        }
    }

    fn read_to_string(&mut self, text: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        let read = String::from_utf8(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
        text.push_str(&read);
        Ok(read.len())
    }
}

impl<C: Content> BufRead for StreamFile<C> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check(self.mode.readable(), "reading")?;
        Ok(self.buffer.read(&self.stream, self.offset, 1)?)
    }

    fn consume(&mut self, length: usize) {
        self.offset = self.offset.saturating_add(length as u64);
    }
}

impl<C: Content> Write for StreamFile<C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(self.offset, bytes)?;
        if bytes.is_empty() {
            // As with a file, an empty write does not move the offset to the end.
            return Ok(0);
        }
        let after = self.offset + bytes.len() as u64;
        self.offset = if self.mode.appends() { self.stream.len()? } else { after };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The cursor's block may have been changed under the buffer.
        self.buffer.clear();
        Ok(self.stream.flush()?)
    }
}

impl<C: Content> Seek for StreamFile<C> {
    /// Moves the offset. It may exceed the end, but not 2^63 - 1, and must not be negative.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(change) => self.stream.len()?.checked_add_signed(change),
            SeekFrom::Current(change) => self.offset.checked_add_signed(change),
        };
        let offset = offset.filter(|offset| i64::try_from(*offset).is_ok());
        let outside = || io::Error::new(io::ErrorKind::InvalidInput, "seek to an invalid offset");
        self.offset = offset.ok_or_else(outside)?;
        Ok(self.offset)
    }
}
