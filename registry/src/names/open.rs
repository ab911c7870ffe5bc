//! Removing the name of a file that is open.

use super::Names;
use super::change::{existing, remove};
use super::lookup::lookup_in;
use crate::error::{Error, Result};
use crate::records::{EntryType, Inode, InodeNumber};

impl Names<'_> {
    /// Removes a name of a file, as [`Names::remove`] does, even if the content is open for writing. If it was the last
    /// name, the inode is removed and returned. Its handle can still read and change the content, which is deleted when
    /// the handle is closed or the process ends.
    pub fn remove_open(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Inode>> {
        self.change(|state| {
            let found = lookup_in(&state.trees, directory, name)?;
            let value = found.ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
            let inode = existing(state, value.inode)?;
            let is_last = inode.kind == EntryType::File && inode.links == 1;
            let held = inode.stream.filter(|&stream| is_last && state.is_held(stream));
            if let Some(stream) = held {
                // It no longer belongs to the inode, so the removal leaves it.
                state.orphan(stream)?;
            }
            remove(state, directory, name)?;
            Ok(is_last.then_some(inode))
        })
    }
}
