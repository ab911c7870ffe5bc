//! Extended attributes of inodes: in the inode while they fit, otherwise in a stream that belongs to
//! the inode like its content.

use zeroize::Zeroizing;

use super::Names;
use super::change::existing;
use crate::archive::State;
use crate::committed::Snapshot;
use crate::error::{Error, Result};
use crate::records::{
    Extended, ExtendedAttribute, Inode, InodeNumber, Inodes, decode_extended, encode_extended,
    extended_length, storable_extended,
};

impl Names<'_> {
    /// Returns the extended attributes of an inode, in ascending order of their names.
    pub fn extended_attributes(&self, inode: &Inode) -> Result<Vec<ExtendedAttribute>> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.extended_attributes(inode);
        }
        match &inode.extended {
            Extended::None => Ok(Vec::new()),
            Extended::Inline(attributes) => Ok(attributes.clone()),
            Extended::Stream(stream) => {
                let mut state = self.archive.state()?;
                let state = state.writing()?;
                let stored = state.stored(*stream)?.ok_or(Error::NoStream { stream: *stream })?;
                let length = extended_length(stored.record.length)?;
                decode(length, |bytes| state.read_uncommitted(*stream, 0, bytes))
            }
        }
    }

    /// Replaces all extended attributes of an inode. Their order does not matter. Up to 256 bytes,
    /// with 5 for each attribute, are stored in the inode; more are stored in a new stream.
    ///
    /// A name has 1 to 255 bytes without NUL, a value up to 65,536 bytes, and the whole set up to
    /// 1 MiB. Fails with [`ar7_engine::Error::OutOfBounds`] if a value or the set is longer, with
    /// [`Error::NameLength`] or [`Error::InvalidName`] if a name is invalid or occurs twice.
    pub fn set_extended_attributes(
        &self,
        number: InodeNumber,
        attributes: &[ExtendedAttribute],
    ) -> Result<()> {
        let sorted = storable_extended(attributes)?;
        let inode = self.inode(number)?.ok_or(Error::NoInode { inode: number.0 })?;
        let encoded = Zeroizing::new(encode_extended(&sorted));
        if encoded.len() <= inode.room_for_extended() {
            let inline = if sorted.is_empty() {
                Extended::None
            } else {
                Extended::Inline(sorted.into_iter().cloned().collect())
            };
            return self.change(|state| replace(state, number, inline));
        }
        let stream = self.new_stream_of(&encoded)?;
        self.change_with(stream, |state| replace(state, number, Extended::Stream(stream)))
    }
}

impl Snapshot {
    /// Returns the extended attributes of an inode, in ascending order of their names.
    pub fn extended_attributes(&self, inode: &Inode) -> Result<Vec<ExtendedAttribute>> {
        match &inode.extended {
            Extended::None => Ok(Vec::new()),
            Extended::Inline(attributes) => Ok(attributes.clone()),
            Extended::Stream(stream) => {
                let stream = self.read_stream(*stream)?;
                let length = extended_length(stream.len())?;
                decode(length, |bytes| stream.read_at(0, bytes))
            }
        }
    }
}

/// Decodes the attributes that `read` writes to a buffer of `length` bytes. It returns the number of
/// bytes.
fn decode(
    length: usize,
    read: impl FnOnce(&mut [u8]) -> Result<usize>,
) -> Result<Vec<ExtendedAttribute>> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    let length = read(&mut bytes)?;
    decode_extended(&bytes[..length])
}

fn replace(state: &mut State, number: InodeNumber, extended: Extended) -> Result<()> {
    let mut inode = existing(state, number)?;
    let before = std::mem::replace(&mut inode.extended, extended);
    if let Some(stream) = inode.extended.stream() {
        state.take_content(stream, number)?;
    }
    state.trees.put::<Inodes>(&number, &inode)?;
    if let Some(stream) = before.stream() {
        state.delete_content(stream, number)?;
    }
    Ok(())
}
