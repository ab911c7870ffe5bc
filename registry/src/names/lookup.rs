//! Looking up and listing names.

use ar7_engine::format::Timestamp;
use ar7_engine::{Check, Error as EngineError};

use super::Names;
use crate::error::{Error, Result};
use crate::records::{
    Attributes, EntryType, Inode, InodeNumber, Inodes, NameKey, NameRecords, NameValue, ReadRecords,
};

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

    /// Returns the entry with this name in a directory. A directory whose parent is another one is
    /// damage, so that no sequence of lookups goes around in a circle.
    pub fn lookup(&self, directory: InodeNumber, name: &[u8]) -> Result<Option<Entry>> {
        match &self.snapshot {
            Some(snapshot) => entry_in(snapshot, directory, name),
            // Under one lock, because another thread may move the entry.
            None => entry_in(&self.archive.state()?.writing()?.trees, directory, name),
        }
    }

    /// Returns the entry at a path, whose components are separated by slashes. Empty components are
    /// ignored. Symbolic links are not followed. An error contains the path up to the component that
    /// is missing or is not a directory.
    pub fn resolve(&self, path: &[u8]) -> Result<Entry> {
        match &self.snapshot {
            Some(snapshot) => resolve_in(snapshot, path),
            None => resolve_in(&self.archive.state()?.writing()?.trees, path),
        }
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

    /// Returns the target of a symbolic link.
    pub fn read_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.read_target(inode);
        }
        if let Some(target) = &inode.target {
            return Ok(target.clone());
        }
        let Some(stream) = inode.stream else { return Ok(Vec::new()) };
        let mut target = vec![0; target_length(inode)?];
        let mut state = self.archive.state()?;
        let length = state.writing()?.read_uncommitted(stream, 0, &mut target)?;
        target.truncate(length);
        Ok(target)
    }
}

/// Returns the length of a symbolic link's target that is in a stream.
pub(super) fn target_length(inode: &Inode) -> Result<usize> {
    let length = usize::try_from(inode.size).ok().filter(|&length| length <= TARGET_MAX);
    let too_long = || EngineError::damaged(None, Check::Name, 0..=TARGET_MAX, inode.size);
    Ok(length.ok_or_else(too_long)?)
}

/// The entries of a directory, in byte order of their names. After an error, there is no more.
pub(super) struct Entries<'a, R> {
    records: &'a R,
    /// The least key that the next entry can have; `None` after the last.
    from: Option<NameKey>,
}

impl<'a, R: ReadRecords> Entries<'a, R> {
    /// The entries with names above `after`.
    pub(super) fn above(records: &'a R, directory: InodeNumber, after: Option<&[u8]>) -> Self {
        Entries::from(records, directory, &after.map_or(Vec::new(), next_name))
    }

    /// The entries with names from `name` on.
    pub(super) fn from(records: &'a R, directory: InodeNumber, name: &[u8]) -> Self {
        Entries { records, from: Some(NameKey { directory, name: name.to_vec() }) }
    }
}

impl<R: ReadRecords> Iterator for Entries<'_, R> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let from = self.from.take()?;
        let directory = from.directory;
        let found = self.records.ceiling::<NameRecords>(&from).transpose()?;
        let (mut key, NameValue { inode, kind }) = match found {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        if key.directory != directory {
            return None;
        }
        self.from = Some(NameKey { directory, name: next_name(&key.name) });
        Some(Ok(Entry { name: std::mem::take(&mut key.name), inode, kind }))
    }
}

/// Returns the least name above another one: that name followed by a zero byte.
fn next_name(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}

pub(super) fn entry_in(
    records: &impl ReadRecords,
    directory: InodeNumber,
    name: &[u8],
) -> Result<Option<Entry>> {
    let Some(NameValue { inode, kind }) = lookup_in(records, directory, name)? else {
        return Ok(None);
    };
    if kind == EntryType::Directory
        && let Ok(Some(found)) = inode_in(records, inode)
    {
        // An unreadable inode does not hide what is below it. The caller meets the damage when it
        // reads the inode.
        check_parent(directory, inode, &found)?;
    }
    Ok(Some(Entry { name: name.to_vec(), inode, kind }))
}

/// Checks that the directory `number`, of which `parent` contains a name, has it as its parent. A
/// walk that checks this enters no directory from two others, and so none that is above itself.
pub(super) fn check_parent(parent: InodeNumber, number: InodeNumber, inode: &Inode) -> Result<()> {
    match inode.parent {
        Some(found) if found == parent => Ok(()),
        Some(found) => Err(EngineError::damaged(None, Check::Name, parent.0, found.0).into()),
        None => {
            let expected = "a directory with a parent";
            Err(EngineError::damaged(None, Check::Name, expected, number.0).into())
        }
    }
}

pub(super) fn resolve_in(records: &impl ReadRecords, path: &[u8]) -> Result<Entry> {
    let mut found =
        Entry { name: Vec::new(), inode: InodeNumber::ROOT, kind: EntryType::Directory };
    let mut parent: &[u8] = &[];
    for (name, so_far) in components(path) {
        if found.kind != EntryType::Directory {
            return Err(not_directory(parent, found.kind));
        }
        found = entry_in(records, found.inode, name)?
            .ok_or_else(|| Error::NoEntry { path: so_far.to_vec() })?;
        parent = so_far;
    }
    Ok(found)
}

/// Returns each component of a path except empty ones and `.`, and the path up to its end.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut start = 0;
    path.split(|&byte| byte == b'/').filter_map(move |name| {
        let end = start + name.len();
        start = end + 1;
        (!matches!(name, [] | [b'.'])).then(|| (name, &path[..end]))
    })
}

/// Longest target of a symbolic link in bytes.
pub(crate) const TARGET_MAX: usize = 65_536;

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
    let (uid, gid, modified, origin) = (0, 0, Timestamp::default(), None);
    Inode::new(EntryType::Directory, Attributes { mode: 0o755, uid, gid, modified, origin })
}

/// Returns the error for an entry that is not a directory. The path is empty if the caller named an
/// inode.
pub(super) fn not_directory(path: &[u8], kind: EntryType) -> Error {
    Error::WrongEntryType { path: path.to_vec(), found: kind.name(), needed: "a directory" }
}
