//! What a request reads: the last commit, or the open transaction where it differs.

use ar7_registry::names::Entry;
use ar7_registry::records::{ExtendedAttribute, Inode, InodeNumber};
use ar7_registry::{Archive, Result, Snapshot};

/// A state of the archive.
pub(crate) enum View {
    /// A commit. Reading it takes no lock.
    Committed(Snapshot),
    /// The open transaction. Reading it waits for changes and commits.
    Open(Archive),
}

impl View {
    pub(crate) fn inode(&self, number: InodeNumber) -> Result<Option<Inode>> {
        match self {
            View::Committed(snapshot) => snapshot.inode(number),
            View::Open(archive) => archive.names().inode(number),
        }
    }

    pub(crate) fn lookup(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Entry>> {
        match self {
            View::Committed(snapshot) => snapshot.lookup(directory, name),
            View::Open(archive) => archive.names().lookup(directory, name),
        }
    }

    pub(crate) fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        match self {
            View::Committed(snapshot) => snapshot.list(directory, after, limit),
            View::Open(archive) => archive.names().list(directory, after, limit),
        }
    }

    pub(crate) fn read_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        match self {
            View::Committed(snapshot) => snapshot.read_target(inode),
            View::Open(archive) => archive.names().read_target(inode),
        }
    }

    pub(crate) fn extended_attributes(&self, inode: &Inode) -> Result<Vec<ExtendedAttribute>> {
        match self {
            View::Committed(snapshot) => snapshot.extended_attributes(inode),
            View::Open(archive) => archive.names().extended_attributes(inode),
        }
    }

    /// Returns the first offset of data, or of a hole, from `offset` on. Returns `None` if there is none before the end of
    /// the file. Content of the open transaction has no holes.
    pub(crate) fn seek(&self, inode: &Inode, offset: u64, data: bool) -> Result<Option<u64>> {
        let content = match self {
            View::Committed(snapshot) => snapshot.read_file(inode)?,
            View::Open(_) => None,
        };
        let Some(content) = content else {
            return Ok((data && offset < inode.size).then_some(offset));
        };
        let mut at = offset;
        while at < content.len() {
            let other = if data { content.hole_at(at)? } else { content.data_at(at)? };
            if other == 0 {
                return Ok(Some(at));
            }
            at += other;
        }
        Ok(None)
    }
}
