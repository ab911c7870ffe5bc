//! A stream with the interface of a file.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use ar7_registry::{Mode, Stream, StreamFile};

use super::stream::BaseStream;
use crate::error::Result;

/// A stream with the interface of a file of Python: `Read`, `BufRead`, `Write` and `Seek`.
///
/// [`BufRead::lines`] iterates over lines. Unlike the original, an offset may exceed the end; a write
/// there fills the gap with zeros.
#[derive(Debug)]
pub struct VirtualFileObject {
    file: StreamFile<Stream>,
}

impl VirtualFileObject {
    /// Makes a file of an open stream. The mode is `r`, `w`, `a` or `x`, optionally with `+` and `b`.
    /// `filename` appears in messages only.
    pub fn new(stream: BaseStream, filename: &str, mode: &str) -> Result<VirtualFileObject> {
        let file = StreamFile::over(stream.stream, filename.to_owned(), Mode::parse(mode)?)?;
        Ok(VirtualFileObject { file })
    }

    /// Returns the name.
    pub fn filename(&self) -> &str {
        self.file.name()
    }

    /// Returns whether the mode allows reading.
    pub fn readable(&self) -> bool {
        self.file.mode().readable()
    }

    /// Returns whether the mode allows writing.
    pub fn writable(&self) -> bool {
        self.file.mode().writable()
    }

    /// Returns true: any offset can be sought.
    pub fn seekable(&self) -> bool {
        true
    }

    /// Returns the offset.
    pub fn tell(&mut self) -> Result<u64> {
        Ok(self.file.stream_position()?)
    }

    /// Reads up to the end of a line, and returns it with its end. Returns nothing at the end of the
    /// file.
    pub fn readline(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.file.read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// Sets the length in bytes, or truncates at the current offset. Returns the length.
    pub fn truncate(&mut self, size: Option<u64>) -> Result<u64> {
        let length = size.map_or_else(|| self.tell(), Ok)?;
        self.file.set_len(length)?;
        Ok(length)
    }

    /// Saves and closes the file.
    pub fn close(self) -> Result<()> {
        Ok(self.file.close()?)
    }
}

impl Read for VirtualFileObject {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }

    fn read_to_end(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.file.read_to_end(bytes)
    }
}

impl BufRead for VirtualFileObject {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.file.consume(length);
    }
}

impl Write for VirtualFileObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for VirtualFileObject {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
