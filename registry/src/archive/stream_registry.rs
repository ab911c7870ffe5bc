//! The registry of streams, as the specification has it.

use uuid::Uuid;

use super::Archive;
use crate::error::{Error, Result};
use crate::records::{ReadRecords, Streams};
use crate::tree::TreeId;
use ar7_engine::format::{Root, StoredStream};

/// The registry of an archive's streams. [`Archive`] keeps it up by itself; this looks into it.
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
    /// Root of a tree, as last committed. The specification's name is `tree`.
    pub fn tree(&self, tree: TreeId) -> Root {
        self.archive.snapshot().commit().slot.roots[tree.index()]
    }

    /// Registers a stream without blocks under this identity; returns the identity.
    pub fn register(&self, identity: Uuid) -> Result<Uuid> {
        self.archive.open_or_make(identity, true)?.close()?;
        Ok(identity)
    }

    /// The record of a stream, with the changes of the transaction under way; none if it is not registered.
    pub fn search(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        if self.archive.is_writer() {
            return self.archive.state()?.writing()?.stored(identity);
        }
        self.archive.snapshot().get::<Streams>(&identity)
    }

    /// Seals what is in memory of all streams and records those that are closed. Returns whether the stream with this
    /// identity is registered then.
    pub fn update(&self, identity: Uuid) -> Result<bool> {
        self.archive.state()?.writing()?.flush(false)?;
        Ok(self.search(identity)?.is_some())
    }

    /// Takes a stream out of the registry, recycles its blocks, and returns its last record.
    pub fn unregister(&self, identity: Uuid) -> Result<StoredStream> {
        let found = self.search(identity)?.ok_or(Error::NoStream { stream: identity })?;
        self.archive.delete_stream(identity)?;
        Ok(found)
    }

    /// Seals what is in memory; the registry stays with its archive.
    pub fn close(self) -> Result<()> {
        if !self.archive.is_writer() {
            return Ok(());
        }
        self.archive.state()?.writing()?.flush(false)
    }
}
