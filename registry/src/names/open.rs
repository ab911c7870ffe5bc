//! Removing the name of a file that is open.

use super::Names;
use super::change::{delete_content, existing, remove};
use super::lookup::lookup_in;
use crate::error::{Error, Result};
use crate::records::{EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords};

impl Names<'_> {
    /// Removes a name of a file, as [`Names::remove`] does, even if the content is open for writing. If it was the last
    /// name, the inode is removed and returned. Its handle can still read and change the content, which is deleted when
    /// the handle is closed or the process ends.
    pub fn remove_open(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Inode>> {
        self.change(|state| {
            let found = lookup_in(&state.trees, directory, name)?;
            let value = found.ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
            let inode = existing(state, value.inode)?;
            let held = inode.stream.filter(|&stream| state.is_held(stream));
            if inode.kind != EntryType::File || inode.links > 1 || held.is_none() {
                remove(state, directory, name)?;
                let is_last = inode.kind == EntryType::File && inode.links == 1;
                return Ok(is_last.then_some(inode));
            }
            if let Some(stream) = held {
                state.orphan(stream)?;
            }
            // The stream no longer belongs to the inode, so only the rest is deleted.
            delete_content(state, value.inode, &inode)?;
            if let Some(stream) = inode.extended.stream() {
                state.delete_content(stream, value.inode)?;
            }
            state.trees.remove::<Inodes>(&value.inode)?;
            let key = NameKey { directory, name: name.to_vec() };
            state.trees.remove::<NameRecords>(&key)?;
            Ok(Some(inode))
        })
    }
}
