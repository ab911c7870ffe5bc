//! Looking up and listing names.

use ar7_engine::format::Timestamp;
use ar7_engine::{Check, Error as EngineError};

use super::Names;
use crate::error::{Error, Result};
use crate::records::{
    Attributes, EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue, ReadRecords,
};
use crate::stream::Stream;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: Vec<u8>,
    /// The inode.
    pub inode: InodeNumber,
    /// Its type.
    pub kind: EntryType,
}

impl Names<'_> {
    /// Returns the inode with this number. The root exists even before the first name.
    pub fn inode(&self, number: InodeNumber) -> Result<Option<Inode>> {
        match &self.snapshot {
            Some(snapshot) => inode_in(snapshot, number),
            None => self.archive.state()?.writing()?.inode(number),
        }
    }

    /// Returns the entry with this name in a directory.
    pub fn lookup(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Entry>> {
        Ok(lookup_in(self, directory, name)?.map(|NameValue { inode, kind }| Entry {
            name: name.to_vec(),
            inode,
            kind,
        }))
    }

    /// Returns the entry at a path, whose components are separated by slashes. Empty components are
    /// ignored. Symbolic links are not followed.
    pub fn resolve(&self, path: &[u8]) -> Result<Entry> {
        let mut found =
            Entry { name: Vec::new(), inode: InodeNumber::ROOT, kind: EntryType::Directory };
        let mut before = 0;
        for part in path.split(|&byte| byte == b'/') {
            let so_far = &path[..(before + part.len()).min(path.len())];
            before += part.len() + 1;
            if part.is_empty() {
                continue;
            }
            if found.kind != EntryType::Directory {
                return Err(not_directory(so_far, found.kind));
            }
            found = self
                .lookup(found.inode, part)?
                .ok_or_else(|| Error::NoEntry { path: so_far.to_vec() })?;
        }
        Ok(found)
    }

    /// Returns up to `limit` entries of a directory with names above `after`, in byte order.
    pub fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        // The least name above another one is that name followed by a zero byte.
        let mut name = after.map_or(Vec::new(), |after| [after, &[0]].concat());
        while entries.len() < limit {
            let key = NameKey { directory, name };
            let Some((mut key, value)) = self.ceiling::<NameRecords>(&key)? else { break };
            if key.directory != directory {
                break;
            }
            name = [&key.name[..], &[0]].concat();
            entries.push(Entry {
                name: std::mem::take(&mut key.name),
                inode: value.inode,
                kind: value.kind,
            });
        }
        Ok(entries)
    }

    /// Opens the committed content of a file for reading. Returns `None` if the file has no stream.
    pub fn read_file(&self, inode: &Inode) -> Result<Option<Stream>> {
        inode.stream.map(|stream| self.archive.read_stream(stream)).transpose()
    }

    /// Returns the target of a symbolic link.
    pub fn read_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if let Some(target) = &inode.target {
            return Ok(target.clone());
        }
        let Some(stream) = self.read_file(inode)? else { return Ok(Vec::new()) };
        let length = usize::try_from(stream.len()?).ok().filter(|&length| length <= TARGET_MAX);
        let Some(length) = length else {
            let found = stream.len()?;
            return Err(EngineError::damaged(None, Check::Name, TARGET_MAX, found).into());
        };
        let mut target = vec![0; length];
        stream.read_at(0, &mut target)?;
        Ok(target)
    }
}

/// Longest target of a symbolic link in bytes.
pub(super) const TARGET_MAX: usize = 65_536;

pub(super) fn inode_in(records: &impl ReadRecords, number: InodeNumber) -> Result<Option<Inode>> {
    let found = records.get::<Inodes>(&number)?;
    Ok(found.or_else(|| (number == InodeNumber::ROOT).then(new_root)))
}

pub(super) fn lookup_in(
    records: &impl ReadRecords,
    directory: InodeNumber,
    name: &[u8],
) -> Result<Option<NameValue>> {
    records.get::<NameRecords>(&NameKey { directory, name: name.to_vec() })
}

/// Returns the root directory of an archive that has no record of it yet.
fn new_root() -> Inode {
    Inode {
        kind: EntryType::Directory,
        attributes: Attributes { mode: 0o755, uid: 0, gid: 0, modified: Timestamp::default() },
        size: 0,
        links: 1,
        target: None,
        stream: None,
        unknown: Vec::new(),
    }
}

pub(super) fn not_directory(path: &[u8], kind: EntryType) -> Error {
    Error::WrongEntryType { path: path.to_vec(), found: kind.name(), needed: "a directory" }
}
