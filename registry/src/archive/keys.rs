//! Keys of an open archive. Every change of a key is a separate commit.

use ar7_engine::crypto::Secret;
use ar7_engine::store::{NewKey, Writer};

use super::Archive;
use crate::error::Result;

impl Archive {
    /// Adds a key or passphrase. Returns the number of its key slot. The key is durable when the
    /// call returns.
    ///
    /// Like every change of keys, it fails with [`ar7_engine::Error::Uncommitted`] if the open
    /// transaction has changes.
    pub fn add_key(&self, new: &NewKey<'_>) -> Result<usize> {
        self.change_keys(|writer| writer.add_key(new))
    }

    /// Removes the key in a key slot and overwrites both copies of the slot in the file. The last
    /// key cannot be removed.
    pub fn remove_key(&self, number: usize) -> Result<()> {
        self.change_keys(|writer| writer.remove_key(number))
    }

    /// Replaces the key in a key slot.
    pub fn change_key(&self, number: usize, new: &NewKey<'_>) -> Result<()> {
        self.change_keys(|writer| writer.change_key(number, new))
    }

    /// Changes the label of the key slot that a secret opens. Returns the slot's number.
    pub fn relabel_key(&self, secret: &Secret, label: &str) -> Result<usize> {
        self.change_keys(|writer| writer.relabel_key(secret, label))
    }

    fn change_keys<T>(
        &self,
        change: impl FnOnce(&mut Writer) -> ar7_engine::Result<T>,
    ) -> Result<T> {
        let mut state = self.state()?;
        let writing = state.writing()?;
        if writing.has_uncommitted() {
            return Err(ar7_engine::Error::Uncommitted.into());
        }
        Ok(change(writing.trees.writer())?)
    }
}
