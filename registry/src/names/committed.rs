//! Reading the names of one commit.

use std::iter;
use std::ops::RangeInclusive;

use ar7_engine::format::BLOCK_SIZE_U64;
use uuid::Uuid;

use super::lookup::{Entries, Entry, entry_in, inode_in, resolve_in, target_length};
use crate::blocks::frame_at;
use crate::committed::Snapshot;
use crate::error::Result;
use crate::records::{Inode, InodeNumber, NameKey, NameRecords};
use crate::stream::{FileContent, PackedContent};

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

    /// Opens the content of a file. Returns `None` if the file is empty.
    pub fn read_file(&self, inode: &Inode) -> Result<Option<FileContent>> {
        self.read_content(inode.stream, inode.slice, inode.size)
    }

    /// Does the same for a file with this stream, or with a slice of this many bytes.
    pub fn read_content(
        &self,
        stream: Option<Uuid>,
        slice: Option<u64>,
        size: u64,
    ) -> Result<Option<FileContent>> {
        if let Some(first) = slice {
            return Ok(Some(FileContent::Packed(PackedContent::new(self, first, size))));
        }
        let stream = stream.map(|stream| self.read_stream(stream)).transpose()?;
        Ok(stream.map(FileContent::Stream))
    }

    /// Returns the packs with the content of a packed file, and the blocks of them that it is in. Another file has none.
    pub fn packed_blocks<'a>(
        &'a self,
        inode: &Inode,
    ) -> impl Iterator<Item = Result<(Uuid, RangeInclusive<u32>)>> + 'a {
        let mut at = inode.slice;
        let end = at.map_or(0, |first| first.saturating_add(inode.size));
        let next = move || {
            let address = at.filter(|address| *address < end)?;
            match frame_at(self, address) {
                Ok((first, frame)) => {
                    at = first.checked_add(frame.length);
                    Some(Ok(frame.blocks()))
                }
                Err(error) => {
                    at = None;
                    Some(Err(error))
                }
            }
        };
        iter::from_fn(next).filter_map(Result::transpose)
    }

    /// Returns the number of bytes that the content of an inode takes in the file: its blocks, or its part of the frames
    /// that it is in.
    pub fn stored_bytes(&self, inode: &Inode) -> Result<u64> {
        if let Some(stream) = inode.stream {
            let count = self.stored(stream)?.map_or(0, |stored| stored.record.count);
            return Ok(u64::from(count) * BLOCK_SIZE_U64);
        }
        let Some(first) = inode.slice else { return Ok(0) };
        let (mut at, end, mut bytes) = (first, first.saturating_add(inode.size), 0_u64);
        while at < end {
            let (begin, frame) = frame_at(self, at)?;
            let after = begin.saturating_add(frame.length).min(end);
            bytes = bytes.saturating_add(frame.part_of(after - at));
            at = after;
        }
        Ok(bytes)
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
