//! Streams as contents of inodes: the stream's record refers to its inode, and the inode to the
//! stream.
//!
//! The inode repeats the length of its stream. Its copy is set when the inode takes a stream, and
//! whenever the stream's record is written. So a write through any handle leaves both equal.

use ar7_engine::format::ArchiveKind;
use uuid::Uuid;

use super::lookup::inode_in;
use crate::archive::State;
use crate::error::{Error, Result};
use crate::records::{Inode, InodeNumber, reserved_index};

impl State {
    /// Returns an inode in the open transaction, with the current length of its content.
    pub(super) fn inode(&self, number: InodeNumber) -> Result<Option<Inode>> {
        let mut found = inode_in(&self.trees, number)?;
        if let Some(inode) = &mut found
            && let Some(length) = self.overlaid_length(number)
        {
            inode.size = length;
        }
        if let Some(inode) = &mut found
            && let Some(stream) = inode.stream
            && let Some(length) = self.open_length(stream, number)
        {
            inode.size = length;
        }
        Ok(found)
    }

    /// Returns the length in bytes of a stream that inode `number` may take as content. A new inode
    /// has no number yet.
    ///
    /// Fails for a reserved stream, for the stream of another inode, and in an archive with a fixed
    /// set of streams: such a stream would be deleted together with its last name.
    pub(super) fn content_length(&self, stream: Uuid, number: Option<InodeNumber>) -> Result<u64> {
        let kind = self.trees.store().header().kind;
        if kind != ArchiveKind::Dynamic {
            return Err(Error::KindForbids { kind, operation: "naming streams" });
        }
        let stored = match reserved_index(stream) {
            Some(_) => None,
            None => self.stored(stream)?,
        };
        let stored = stored.ok_or(Error::NoStream { stream })?;
        match stored.inode {
            Some(inode) if Some(InodeNumber(inode.get())) != number => {
                Err(Error::StreamIsNamed { stream, inode: inode.get() })
            }
            _ => Ok(stored.record.length),
        }
    }
}
