//! Reading the names of one commit.

use super::lookup::{Entries, Entry, entry_in, inode_in, resolve_in, target_length};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::records::{Inode, InodeNumber, NameKey, NameRecords};
use crate::stream::PinnedStream;

impl Snapshot {
    /// Returns the inode with this number. The root exists even before the first name.
    pub fn inode(&self, number: InodeNumber) -> Result<Option<Inode>> {
        inode_in(self, number)
    }

    /// Returns the entry with this name in a directory.
    pub fn lookup(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Entry>> {
        entry_in(self, directory, name)
    }

    /// Returns the entry at a path, whose components are separated by slashes. Empty components are
    /// ignored. Symbolic links are not followed.
    pub fn resolve(&self, path: &[u8]) -> Result<Entry> {
        resolve_in(self, path)
    }

    /// Returns up to `limit` entries of a directory with names above `after`, in byte order.
    pub fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        Entries::above(self, directory, after).take(limit).collect()
    }

    /// Returns up to `limit` entries of a directory with names from `from` on, in byte order.
    pub fn list_from(
        &self,
        directory: InodeNumber,
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Entry>> {
        Entries::from(self, directory, from).take(limit).collect()
    }

    /// Returns the least name of a directory at which [`Snapshot::list_from`] can continue after it
    /// failed at `from`. Returns `None` if the rest of the directory is unreadable.
    pub fn past_damage(&self, directory: InodeNumber, from: &[u8]) -> Option<Vec<u8>> {
        let key = NameKey { directory, name: from.to_vec() };
        let next = self.past_damaged_record::<NameRecords>(&key)?;
        let (found, name) = next.split_at_checked(size_of::<u64>())?;
        (found == directory.0.to_be_bytes()).then(|| name.to_vec())
    }

    /// Opens the content of a file. Returns `None` if the file has no stream, because it is empty.
    pub fn read_file(&self, inode: &Inode) -> Result<Option<PinnedStream>> {
        inode.stream.map(|stream| self.read_stream(stream)).transpose()
    }

    /// Returns the target of a symbolic link.
    pub fn read_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if let Some(target) = &inode.target {
            return Ok(target.clone());
        }
        let Some(stream) = self.read_file(inode)? else { return Ok(Vec::new()) };
        let mut target = vec![0; target_length(inode)?];
        let length = stream.read_at(0, &mut target)?;
        target.truncate(length);
        Ok(target)
    }
}
