//! The registry of streams.

use ar7_registry::Archive;
use uuid::Uuid;

use super::manager::DynamicMultiStreamManager;
use super::stream::BaseStream;
use crate::error::Result;
use crate::records::StreamInfo;

/// The registry of an archive's streams. No operation commits.
#[derive(Debug)]
pub struct StreamRegistry<'m> {
    archive: &'m Archive,
}

impl<'m> StreamRegistry<'m> {
    /// Returns the registry of a manager.
    pub fn new(manager: &'m DynamicMultiStreamManager) -> StreamRegistry<'m> {
        StreamRegistry { archive: manager.archive() }
    }

    /// Returns the committed streams in ascending order of their identities. The specification's
    /// property returns the tree that holds them.
    pub fn tree(&self) -> Result<Vec<StreamInfo>> {
        let stored = self.archive.streams(None, usize::MAX)?;
        Ok(stored.iter().map(StreamInfo::from).collect())
    }

    /// Records a stream that was created in this transaction, and returns its identity. Fails with
    /// [`crate::Error::StreamExists`] if it is already recorded.
    pub fn register(&self, stream: &BaseStream) -> Result<Uuid> {
        Ok(self.archive.registry().register(&stream.stream)?)
    }

    /// Returns the record of a stream in the layout of [`BaseStream::FORMAT`], or `None` if there is
    /// no such stream.
    pub fn search(&self, identity: Uuid) -> Result<Option<[u8; BaseStream::SIZE]>> {
        let stored = self.archive.registry().search(identity)?;
        Ok(stored.map(|stored| stored.record.encode()))
    }

    /// Records the current state of a stream. Returns false if it is not registered.
    pub fn update(&self, stream: &BaseStream) -> Result<bool> {
        Ok(self.archive.registry().update(&stream.stream)?)
    }

    /// Removes the record of a stream and returns it, or `None` if there is no such stream. Fails
    /// while the stream has blocks, which would then belong to none.
    pub fn unregister(&self, identity: Uuid) -> Result<Option<[u8; BaseStream::SIZE]>> {
        let stored = self.archive.registry().unregister(identity)?;
        Ok(stored.map(|stored| stored.record.encode()))
    }

    /// Records the current state of every stream.
    pub fn close(self) -> Result<()> {
        Ok(self.archive.registry().close()?)
    }
}
