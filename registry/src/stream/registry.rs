//! The registry of streams, with the operations of the specification.
//!
//! A commit records every stream that its transaction created or changed. These operations record a
//! stream at once, and look up records.

use std::sync::Arc;

use ar7_engine::format::{Root, StoredStream};
use uuid::Uuid;

use super::handle::Stream;
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::records::{ReadRecords, Streams, TreeId};

/// The registry of an archive's streams: in a writer the state of the open transaction, in a reader
/// the committed state.
///
/// No operation commits. A record is durable after [`Archive::commit`].
#[doc(alias = "Registry")]
pub struct StreamRegistry<'a> {
    archive: &'a Archive,
}

impl Archive {
    /// Returns the registry of the archive's streams.
    pub fn registry(&self) -> StreamRegistry<'_> {
        StreamRegistry { archive: self }
    }
}

impl StreamRegistry<'_> {
    /// Returns root, depth and number of entries of a tree, as of the last commit.
    pub fn tree(&self, tree: TreeId) -> Root {
        self.archive.snapshot().commit().slot.roots[tree.index()]
    }

    /// Records a stream that was created in this transaction, and returns its identity. Fails with
    /// [`Error::StreamExists`] if it is already recorded.
    pub fn register(&self, stream: &Stream) -> Result<Uuid> {
        let identity = stream.identity();
        if self.is_recorded(stream)? {
            return Err(Error::StreamExists { stream: identity });
        }
        self.flush()?;
        Ok(identity)
    }

    /// Returns the record of a stream, including changes that are not recorded yet.
    pub fn search(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        if self.archive.is_writer() {
            self.archive.state()?.writing()?.stored(identity)
        } else {
            self.archive.snapshot().stored(identity)
        }
    }

    /// Records a stream exactly as given and replaces its previous record. For benchmarks and tests
    /// only: a record that refers to missing blocks is damage.
    #[cfg(feature = "testing")]
    pub fn put_stored(&self, stored: &StoredStream) -> Result<()> {
        let mut state = self.archive.state()?;
        let trees = &mut state.writing()?.trees;
        trees.put::<Streams>(&stored.record.identity, stored)?;
        Ok(())
    }

    /// Seals the dirty blocks of a stream and records their locations. Returns whether the stream
    /// was registered.
    pub fn update(&self, stream: &Stream) -> Result<bool> {
        if !self.is_recorded(stream)? {
            return Ok(false);
        }
        self.flush()?;
        Ok(true)
    }

    /// Removes the record of a stream and returns it, or `None` if the stream does not exist.
    ///
    /// Fails with [`Error::HasBlocks`] unless the stream was truncated to no blocks, which the
    /// record alone refers to. [`Archive::delete_stream`] frees the blocks too.
    pub fn unregister(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        let Some(stored) = self.search(identity)? else { return Ok(None) };
        if stored.record.count > 0 {
            return Err(Error::HasBlocks { stream: identity, count: stored.record.count });
        }
        Ok(self.archive.delete_stream(identity)?.then_some(stored))
    }

    /// Records the current state of every stream. The archive stays open.
    pub fn close(self) -> Result<()> {
        if self.archive.is_writer() { self.flush() } else { Ok(()) }
    }

    /// Returns whether the trees have a record of a stream. The stream must be open for writing in
    /// this archive.
    fn is_recorded(&self, stream: &Stream) -> Result<bool> {
        let identity = stream.identity();
        if !Arc::ptr_eq(&stream.inner, &self.archive.inner) {
            return Err(Error::NoStream { stream: identity });
        }
        stream.change(|_| 0..0, |_, trees| Ok(trees.get::<Streams>(&identity)?.is_some()))
    }

    fn flush(&self) -> Result<()> {
        self.archive.state()?.writing()?.flush(true)
    }
}
