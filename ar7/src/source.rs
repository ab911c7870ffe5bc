//! Looking up entries, in a snapshot or in a transaction alike.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use ar7_engine::{Check, Error as EngineError};
use ar7_registry::records::{EntryType, Inode, InodeNumber};
use ar7_registry::{self as registry, names};

use crate::error::{Error, Result};
use crate::path::{bytes, to_path};
use crate::records::{Entry, Metadata};

/// Entries that are read at a time.
const BATCH: usize = 64;

/// What entries are read from.
pub(crate) trait Source: Sync {
    /// Returns the entry at a path.
    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry>;

    /// Returns an inode.
    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>>;

    /// Returns up to `limit` entries with names above `after`.
    fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>>;

    /// Returns the target of a symbolic link.
    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>>;
}

impl Source for registry::Snapshot {
    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry> {
        registry::Snapshot::resolve(self, path)
    }

    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>> {
        registry::Snapshot::inode(self, number)
    }

    fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>> {
        registry::Snapshot::list(self, directory, after, limit)
    }

    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>> {
        self.read_target(inode)
    }
}

/// The open transaction of a writer.
impl Source for registry::Archive {
    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry> {
        self.names().resolve(path)
    }

    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>> {
        self.names().inode(number)
    }

    fn list(
        &self,
        directory: InodeNumber,
        after: Option<&[u8]>,
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>> {
        self.names().list(directory, after, limit)
    }

    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>> {
        self.names().read_target(inode)
    }
}

/// Returns the inode at a path. Fails with [`Error::NotFound`] if there is none.
pub(crate) fn find(source: &impl Source, path: &Path) -> Result<(InodeNumber, Inode)> {
    let entry = source.resolve(bytes(path))?;
    Ok((entry.inode, existing(source, entry.inode)?))
}

/// Returns the inode at a path if it has this type.
pub(crate) fn find_typed(
    source: &impl Source,
    path: &Path,
    expected: EntryType,
) -> Result<(InodeNumber, Inode)> {
    let (number, inode) = find(source, path)?;
    if inode.kind != expected {
        let (path, found) = (path.to_owned(), inode.kind.name());
        return Err(Error::WrongType { path, expected: expected.name(), found });
    }
    Ok((number, inode))
}

/// Returns whether a path has an entry.
pub(crate) fn exists(source: &impl Source, path: &Path) -> Result<bool> {
    match find(source, path) {
        Ok(_) => Ok(true),
        // A component on the way is missing, or is a file.
        Err(Error::NotFound { .. } | Error::WrongType { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns what the archive knows about the entry at a path.
pub(crate) fn metadata(source: &impl Source, path: &Path) -> Result<Metadata> {
    let (number, inode) = find(source, path)?;
    Ok(Metadata::new(number, &inode))
}

/// Returns the target of the symbolic link at a path.
pub(crate) fn read_link(source: &impl Source, path: &Path) -> Result<PathBuf> {
    let (_, inode) = find_typed(source, path, EntryType::Symlink)?;
    Ok(to_path(source.target(&inode)?))
}

fn existing(source: &(impl Source + ?Sized), number: InodeNumber) -> Result<Inode> {
    // Only an attacker with the key can have made a name without an inode.
    let missing = || EngineError::damaged(None, Check::Name, "an inode", number.0);
    source.inode(number)?.ok_or_else(|| missing().into())
}

/// The entries of one directory, in byte order of their names. See [`crate::Snapshot::list`].
pub struct List<'a> {
    source: &'a dyn Source,
    directory: InodeNumber,
    path: PathBuf,
    batch: VecDeque<names::Entry>,
    /// The last name that was read.
    after: Option<Vec<u8>>,
    is_complete: bool,
}

impl<'a> List<'a> {
    pub(crate) fn new(source: &'a impl Source, path: &Path) -> Result<List<'a>> {
        let (directory, _) = find_typed(source, path, EntryType::Directory)?;
        Ok(List::of(source, directory, normal(path)))
    }

    fn of(source: &'a dyn Source, directory: InodeNumber, path: PathBuf) -> List<'a> {
        let batch = VecDeque::new();
        List { source, directory, path, batch, after: None, is_complete: false }
    }

    fn read_next(&mut self) -> Result<Option<(Entry, InodeNumber)>> {
        loop {
            if self.batch.is_empty() && !self.is_complete {
                let found = self.source.list(self.directory, self.after.as_deref(), BATCH)?;
                self.is_complete = found.len() < BATCH;
                self.after = found.last().map(|entry| entry.name.clone());
                self.batch.extend(found);
            }
            let Some(entry) = self.batch.pop_front() else { return Ok(None) };
            // A transaction can remove an entry while its directory is listed.
            if let Some(inode) = self.source.inode(entry.inode)? {
                let path = self.path.join(to_path(entry.name));
                let metadata = Metadata::new(entry.inode, &inode);
                return Ok(Some((Entry { path, metadata }, entry.inode)));
            }
        }
    }
}

impl Iterator for List<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let found = self.read_next().inspect_err(|_| {
            self.is_complete = true;
            self.batch.clear();
        });
        found.map(|found| found.map(|(entry, _)| entry)).transpose()
    }
}

impl std::fmt::Debug for List<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("List").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The entries below a directory, each directory before its entries. See [`crate::Snapshot::walk`].
///
/// An unreadable directory is an error; the walk then continues after it.
#[derive(Debug)]
pub struct Walk<'a> {
    /// The directories from the first one to the one that is being listed.
    open: Vec<List<'a>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a impl Source, path: &Path) -> Result<Walk<'a>> {
        Ok(Walk { open: vec![List::new(source, path)?] })
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        while let Some(list) = self.open.last_mut() {
            let source = list.source;
            match list.read_next() {
                Ok(None) => {
                    self.open.pop();
                }
                Ok(Some((entry, number))) => {
                    if entry.metadata.is_directory() {
                        if self.open.iter().any(|above| above.directory == number) {
                            // Only an attacker with the key can have put a directory below itself.
                            let expected = "a tree of directories";
                            let cycle = EngineError::damaged(None, Check::Name, expected, number.0);
                            return Some(Err(cycle.into()));
                        }
                        self.open.push(List::of(source, number, entry.path.clone()));
                    }
                    return Some(Ok(entry));
                }
                Err(error) => {
                    self.open.pop();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Returns a path without empty components.
fn normal(path: &Path) -> PathBuf {
    let parts = bytes(path).split(|&byte| byte == b'/').filter(|part| !part.is_empty());
    parts.map(|part| to_path(part.to_vec())).collect()
}
