//! Writes the content of a file, with holes where it is zero.

use std::fs::File;
use std::io;

use ar7_registry::FileContent;

use super::Sparse;
use crate::error::Error;
use crate::fs::system::System;
use crate::read_ahead::{by_turns, read_ahead};

/// Maximum number of bytes to read at a time. A longer file is read ahead in a thread of its own.
const PIECE: usize = 4 << 20;

/// The unit in which zeros are sought, which is the block of most file systems.
const UNIT: usize = 4096;

/// The shortest run of zeros for which [`Sparse::Auto`] leaves a hole.
const HOLE_MIN: usize = 64 << 10;

static ZEROS: [u8; HOLE_MIN] = [0; HOLE_MIN];

/// A failure to copy content.
pub(super) enum CopyError {
    /// The content cannot be read.
    Read(ar7_registry::Error),
    /// The file cannot be written.
    Write(io::Error),
    /// The caller stopped the copy.
    Stopped,
}

/// Writes all bytes of a stream to an empty file. Calls `wrote` after each piece; it returns whether to go on.
pub(super) fn copy(
    stream: &FileContent,
    output: &mut SparseFile<'_>,
    buffer: &mut Vec<u8>,
    wrote: impl Fn(u64) -> bool,
) -> Result<(), CopyError> {
    let length = stream.len();
    let mut offset = 0;
    while offset < length {
        let hole = stream.hole_at(offset).map_err(CopyError::Read)?;
        if hole > 0 {
            let part = if output.hole_min.is_none() { hole.min(PIECE as u64) } else { hole };
            output.skip(part).map_err(CopyError::Write)?;
            offset += part;
            if !wrote(part) {
                return Err(CopyError::Stopped);
            }
            continue;
        }
        let before = offset;
        let read = |buffer: &mut Vec<u8>| {
            if offset >= length || offset > before && stream.hole_at(offset)? > 0 {
                return Ok(None);
            }
            let read = piece(stream, offset, buffer)?;
            offset += read as u64;
            Ok((read > 0).then_some(read))
        };
        let take = |piece: ar7_registry::Result<&[u8]>| {
            let bytes = piece.map_err(CopyError::Read)?;
            output.write(bytes).map_err(CopyError::Write)?;
            if wrote(bytes.len() as u64) { Ok(()) } else { Err(CopyError::Stopped) }
        };
        if length <= PIECE as u64 {
            by_turns(buffer, read, take)?;
        } else {
            read_ahead::<Vec<u8>, _, _>(read, take)?;
        }
        if offset == before {
            break;
        }
    }
    output.finish().map_err(CopyError::Write)
}

/// Reads the piece at an offset, and returns its length.
fn piece(stream: &FileContent, offset: u64, buffer: &mut Vec<u8>) -> ar7_registry::Result<usize> {
    let left = stream.len().saturating_sub(offset);
    let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
    if buffer.len() < wanted {
        buffer.resize(wanted, 0);
    }
    stream.read_at(offset, &mut buffer[..wanted])
}

/// A new file that is written from its beginning to its end. Where it is not written, it has holes.
pub(super) struct SparseFile<'a> {
    system: &'a System,
    file: &'a File,
    /// The shortest run of zeros that becomes a hole; `None` for none.
    hole_min: Option<u64>,
    /// The number of bytes so far.
    length: u64,
    /// The number of zeros at the end that are not written yet.
    zeros: u64,
}

impl<'a> SparseFile<'a> {
    pub(super) fn new(system: &'a System, file: &'a File, sparse: Sparse) -> SparseFile<'a> {
        let hole_min = match sparse {
            Sparse::Auto => Some(HOLE_MIN as u64),
            Sparse::Always => Some(UNIT as u64),
            Sparse::Never => None,
        };
        SparseFile { system, file, hole_min, length: 0, zeros: 0 }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hole_min.is_none() {
            return self.append(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let zeros = self.leading(rest, true);
            self.zeros += zeros as u64;
            self.length += zeros as u64;
            rest = &rest[zeros..];
            let data = self.leading(rest, false);
            if data > 0 {
                self.fill()?;
                self.append(&rest[..data])?;
                rest = &rest[data..];
            }
        }
        Ok(())
    }

    /// Appends zeros, which become a hole if holes are wanted.
    pub(super) fn skip(&mut self, length: u64) -> io::Result<()> {
        self.zeros += length;
        self.length += length;
        if self.hole_min.is_none() { self.fill() } else { Ok(()) }
    }

    /// Completes the file: sets its length, if it ends in a hole.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.zeros == 0 {
            return Ok(());
        }
        if self.zeros >= self.hole_min.unwrap_or(u64::MAX) {
            self.zeros = 0;
            return self.system.set_length(self.file, self.length);
        }
        self.fill()
    }

    /// Returns the number of leading bytes whose units, aligned in the file, are all zero, or all not zero.
    fn leading(&self, bytes: &[u8], zero: bool) -> usize {
        let mut end = 0;
        while end < bytes.len() {
            let into = usize::try_from((self.length + end as u64) % UNIT as u64).unwrap_or(0);
            let unit = &bytes[end..bytes.len().min(end + UNIT - into)];
            if (*unit == ZEROS[..unit.len()]) != zero {
                break;
            }
            end += unit.len();
        }
        end
    }

    /// Writes the zeros at the end, unless they are enough for a hole.
    fn fill(&mut self) -> io::Result<()> {
        let mut left = std::mem::take(&mut self.zeros);
        if left >= self.hole_min.unwrap_or(u64::MAX) {
            return Ok(());
        }
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(HOLE_MIN).min(HOLE_MIN);
            self.system.write_at(self.file, self.length - left, &ZEROS[..part])?;
            left -= part as u64;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.system.write_at(self.file, self.length, bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl CopyError {
    /// Returns the error to report, which names the file for an error of writing.
    pub(super) fn explained(self, written: impl FnOnce(io::Error) -> Error) -> Error {
        match self {
            CopyError::Read(error) => error.into(),
            CopyError::Write(error) => written(error),
            CopyError::Stopped => Error::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use proptest::prelude::*;

    use super::*;
    use crate::fs::walk::{self, Source as _};

    /// Writes runs of zeros and other bytes in pieces of any length. Returns the content, what the file has, and the bytes
    /// outside of holes. (What a file system allocates says less: some allocate ahead.)
    fn written(runs: &[(bool, usize)], piece: usize, sparse: Sparse) -> (Vec<u8>, Vec<u8>, u64) {
        let content: Vec<u8> =
            runs.iter().flat_map(|&(zero, bytes)| vec![u8::from(!zero) * 7; bytes]).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::create_new(&path).unwrap();
        let system = System::default();
        let mut output = SparseFile::new(&system, &file, sparse);
        for bytes in content.chunks(piece.max(1)) {
            output.write(bytes).unwrap();
        }
        output.finish().unwrap();
        let file = File::open(&path).unwrap();
        let (length, mut at, mut outside) = (content.len() as u64, 0, 0);
        while let Some(data) = walk::System.data_from(file.as_fd(), at).unwrap() {
            at = data.end.min(length);
            outside += at - data.start;
        }
        (content, fs::read(&path).unwrap(), outside)
    }

    fn sparse() -> impl Strategy<Value = Sparse> {
        prop_oneof![Just(Sparse::Auto), Just(Sparse::Always), Just(Sparse::Never)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_has_its_content_whatever_is_zero(
            runs in prop::collection::vec((any::<bool>(), 0_usize..150_000), 0..5),
            piece in 1000_usize..300_000,
            sparse in sparse(),
        ) {
            let (expected, found, _) = written(&runs, piece, sparse);
            prop_assert!(expected == found);
        }
    }

    #[test]
    fn holes_are_left_as_the_option_says() {
        let runs = [(true, 1 << 20), (false, 4096), (true, 8192), (false, 4096), (true, 1 << 20)];
        let whole = (2 << 20) + 16_384;
        let outside = |sparse| written(&runs, 100_000, sparse).2;
        assert_eq!(outside(Sparse::Never), whole);
        assert_eq!(outside(Sparse::Always), 8192);
        assert_eq!(outside(Sparse::Auto), 16_384);
    }
}
