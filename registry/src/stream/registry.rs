//! The registry of streams, with the operations of the specification.
//!
//! A stream that a writer creates or changes is recorded with the commit at the latest. These operations record it at
//! once, and look up what is recorded.

use std::sync::Arc;

use ar7_engine::format::{Root, StoredStream};
use uuid::Uuid;

use super::handle::Stream;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::records::{ReadRecords, Streams, TreeId};

/// The registry of an archive's streams: in a writer as the transaction has it, in a reader as committed.
///
/// Nothing here commits: a record is durable after [`Archive::commit`].
#[doc(alias = "Registry")]
pub struct StreamRegistry<'a> {
    archive: &'a Archive,
}

impl Archive {
    /// The registry of the archive's streams.
    pub fn registry(&self) -> StreamRegistry<'_> {
        StreamRegistry { archive: self }
    }
}

impl StreamRegistry<'_> {
    /// Root, depth and number of entries of one of the trees, as last committed.
    pub fn tree(&self, tree: TreeId) -> Root {
        self.archive.snapshot().commit().slot.roots[tree.index()]
    }

    /// Records a stream that was created in this transaction and returns its identity.
    /// [`Error::StreamExists`] if it is recorded already.
    pub fn register(&self, stream: &Stream) -> Result<Uuid> {
        let identity = stream.identity();
        if self.is_recorded(stream)? {
            return Err(Error::StreamExists { stream: identity });
        }
        self.flush()?;
        Ok(identity)
    }

    /// The record of a stream, changes that are not recorded yet included.
    pub fn search(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        if self.archive.is_writer() {
            self.archive.state()?.writing()?.stored(identity)
        } else {
            self.archive.snapshot().stored(identity)
        }
    }

    /// Records a stream exactly as given, and replaces its previous record. For benchmarks and tests only: a record that
    /// names blocks which do not exist is damage.
    #[cfg(feature = "testing")]
    pub fn put_stored(&self, stored: &StoredStream) -> Result<()> {
        let mut state = self.archive.state()?;
        let trees = &mut state.writing()?.trees;
        trees.put::<Streams>(&stored.record.identity, stored)?;
        Ok(())
    }

    /// Seals what was written to a stream and records where it lies. Returns whether the stream was registered.
    pub fn update(&self, stream: &Stream) -> Result<bool> {
        if !self.is_recorded(stream)? {
            return Ok(false);
        }
        self.flush()?;
        Ok(true)
    }

    /// Takes the record of a stream out of the registry and returns it; none if there is no such stream.
    ///
    /// The blocks of a stream belong to its record: [`Error::HasBlocks`] unless it was cut to none.
    /// [`Archive::delete_stream`] recycles them too.
    pub fn unregister(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        let Some(stored) = self.search(identity)? else { return Ok(None) };
        if stored.record.count > 0 {
            return Err(Error::HasBlocks { stream: identity, count: stored.record.count });
        }
        Ok(self.archive.delete_stream(identity)?.then_some(stored))
    }

    /// Records every stream as it is now. The archive stays open.
    pub fn close(self) -> Result<()> {
        if self.archive.is_writer() { self.flush() } else { Ok(()) }
    }

    /// Whether the trees have a record of a stream. It must be open for writing, in this archive.
    fn is_recorded(&self, stream: &Stream) -> Result<bool> {
        let identity = stream.identity();
        if !Arc::ptr_eq(&stream.inner, &self.archive.inner) {
            return Err(Error::NoStream { stream: identity });
        }
        stream.change(|_, trees| Ok(trees.get::<Streams>(&identity)?.is_some()))
    }

    fn flush(&self) -> Result<()> {
        self.archive.state()?.writing()?.flush(true)
    }
}
