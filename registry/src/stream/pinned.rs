//! A stream as one commit has it, for as long as the commit is held.

use std::sync::Arc;

use ar7_engine::format::StoredStream;
use uuid::Uuid;

use super::content::Content;
use crate::blocks::{Reading, blocks_for, read_blocks, split_offset};
use crate::committed::Snapshot;
use crate::error::{Error, Result};

/// A stream of a [`Snapshot`]. Every read returns bytes of the snapshot's commit or fails; later
/// commits never show.
///
/// A clone is cheap. Any number of threads can read through one value.
#[derive(Debug, Clone)]
pub struct PinnedStream {
    snapshot: Snapshot,
    stored: Arc<StoredStream>,
}

impl Snapshot {
    /// Opens a stream of this commit for reading, reserved or not.
    pub fn read_stream(&self, identity: Uuid) -> Result<PinnedStream> {
        let stored = Arc::new(recorded(self, identity)?);
        Ok(PinnedStream { snapshot: self.clone(), stored })
    }
}

impl PinnedStream {
    /// Returns the snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Returns the stream's identity.
    pub fn identity(&self) -> Uuid {
        self.stored.record.identity
    }

    /// Returns the record of the stream.
    pub fn stored(&self) -> &StoredStream {
        &self.stored
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.stored.record.length
    }

    /// Returns whether the stream has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads bytes from `offset`, at most to the end of the stream. Returns the number of bytes
    /// read. A large read decrypts blocks in parallel, directly into `bytes`.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        read_sealed(&self.snapshot, &self.stored, offset, bytes)
    }
}

impl Content for PinnedStream {
    fn len(&self) -> Result<u64> {
        Ok(PinnedStream::len(self))
    }

    fn version(&self) -> Result<u64> {
        self.snapshot.store().check_usable()?;
        Ok(self.snapshot.commit().slot.number)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        PinnedStream::read_at(self, offset, bytes)
    }
}

/// Returns the record of a stream in a commit.
pub(super) fn recorded(snapshot: &Snapshot, stream: Uuid) -> Result<StoredStream> {
    snapshot.stored(stream)?.ok_or(Error::NoStream { stream })
}

/// Reads bytes of a commit from `offset`, at most to the end of the stream. Returns the number of
/// bytes read.
pub(super) fn read_sealed(
    snapshot: &Snapshot,
    stored: &StoredStream,
    offset: u64,
    bytes: &mut [u8],
) -> Result<usize> {
    let available = stored.record.length.saturating_sub(offset);
    let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
    let reading = Reading::of_committed(snapshot, stored);
    let mut done = 0;
    while done < wanted {
        let (index, within) = split_offset(offset + done as u64)?;
        let part = &mut bytes[done..wanted];
        let most = blocks_for(within, part.len());
        done += read_blocks(&reading, index, most, within, part)?;
    }
    Ok(wanted)
}
