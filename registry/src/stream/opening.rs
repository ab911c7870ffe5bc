//! Opening and creating the streams of an archive.

use ar7_engine::format::RESERVED_STREAMS;
use uuid::Uuid;

use super::handle::Stream;
use super::mode::Mode;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::records::reserved_identity;

impl Archive {
    /// Creates a stream and opens it for writing. Only a dynamic archive allows it.
    pub fn new_stream(&self) -> Result<Stream> {
        self.check_kind("creating streams")?;
        let mut state = self.state()?;
        let writing = state.writing()?;
        let identity = writing.new_identity()?;
        let epoch = writing.hold_new(identity);
        Ok(Stream::writing(self, identity, epoch))
    }

    /// Opens a stream. In a writer, the stream is open for writing, and only one handle at a time
    /// can be. In a reader, this equals [`Archive::read_stream`].
    pub fn open_stream(&self, identity: Uuid) -> Result<Stream> {
        if !self.inner.writer {
            return self.read_stream(identity);
        }
        self.check_not_internal(identity)?;
        let mut state = self.state()?;
        let writing = state.writing()?;
        let epoch = writing.hold(identity)?;
        Ok(Stream::writing(self, identity, epoch))
    }

    /// Opens the stream with this identity as the mode of a file object demands. Modes `w` and `a`
    /// create it if it does not exist; mode `x` fails if it exists. Nothing is truncated.
    pub fn open_stream_in(&self, identity: Uuid, mode: Mode) -> Result<Stream> {
        if mode.creates() {
            self.open_or_create(identity, mode.needs_new())
        } else {
            self.open_stream(identity)
        }
    }

    /// Opens the stream with this identity for writing, and creates it if necessary. With `new` it
    /// must not exist.
    fn open_or_create(&self, identity: Uuid, new: bool) -> Result<Stream> {
        self.check_not_internal(identity)?;
        let mut state = self.state()?;
        let writing = state.writing()?;
        let epoch = match writing.stored(identity)? {
            Some(_) if new => return Err(Error::StreamExists { stream: identity }),
            Some(_) => writing.hold(identity)?,
            None => {
                self.check_kind("creating streams")?;
                writing.purge_stream(identity)?;
                writing.hold_new(identity)
            }
        };
        Ok(Stream::writing(self, identity, epoch))
    }

    /// Opens a stream for reading its committed state. Any number of handles can be open, in any
    /// thread. In a writer, each read sees the newest commit.
    pub fn read_stream(&self, identity: Uuid) -> Result<Stream> {
        Stream::reading(self, identity)
    }

    /// Opens one of the eight reserved streams. Some of them are internal: stream 0 (the free list)
    /// of a fixed archive, streams 0 and 1 (free list and index) of a dynamic one. Stream 0 of a
    /// single archive is its only data stream.
    #[doc(alias = "special_stream")]
    #[doc(alias = "STREAM_DATA")]
    #[doc(alias = "STREAM_TRASH")]
    #[doc(alias = "STREAM_INDEX")]
    pub fn reserved_stream(&self, index: usize) -> Result<Stream> {
        if index >= RESERVED_STREAMS {
            return Err(self.no_reserved_stream(index));
        }
        self.check_not_internal(reserved_identity(index))?;
        self.open_stream(reserved_identity(index))
    }
}
