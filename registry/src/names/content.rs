//! Whose content a stream is: the stream's record names its inode, and the inode names the stream.
//!
//! The length of a stream is also in its inode. It is written there when an inode takes a stream and whenever the
//! stream's record is, so that a write through any handle leaves both equal.

use ar7_engine::format::ArchiveKind;
use uuid::Uuid;

use super::lookup::inode_in;
use crate::archive::State;
use crate::error::{Error, Result};
use crate::records::{Inode, InodeNumber, reserved_index};

impl State {
    /// An inode as the transaction has it, with the length that its stream has now.
    pub(super) fn inode(&self, number: InodeNumber) -> Result<Option<Inode>> {
        let mut found = inode_in(&self.trees, number)?;
        if let Some(inode) = &mut found
            && let Some(stream) = inode.stream
            && let Some(length) = self.open_length(stream, number)
        {
            inode.size = length;
        }
        Ok(found)
    }

    /// Length of a stream that inode `number` may take as its content; a new inode has no number yet.
    ///
    /// A reserved stream is no content, and neither is a stream of an archive whose set of streams is fixed: it would be
    /// deleted with its last name. The stream of another inode is refused too.
    pub(super) fn content_length(&self, stream: Uuid, number: Option<InodeNumber>) -> Result<u64> {
        let kind = self.trees.store().header().kind;
        if kind != ArchiveKind::Dynamic {
            return Err(Error::KindForbids { kind, operation: "names of streams" });
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
