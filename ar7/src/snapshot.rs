//! Reading one commit.

use std::path::{Path, PathBuf};

use ar7_registry::records::{EntryType, ExtendedAttribute};
use ar7_registry::{FileContent, Mode};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::file::{Bytes, File, READ_MAX};
use crate::records::{Entry, Metadata, StreamInfo};
use crate::source::{self, List, Walk};

/// One commit of an archive: all its names, records and bytes. It never shows anything of another
/// commit, even while a writer commits.
///
/// A clone is cheap, and any number of threads can read through one snapshot. It does not borrow
/// the archive. While it is held, the blocks of its commit are not reused, so a snapshot that is
/// held for long keeps the file from shrinking.
///
/// Paths are bytes, with slashes between the components. Empty components and `.` are ignored, and
/// the empty path is the root directory. Symbolic links are not followed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    registry: ar7_registry::Snapshot,
}

impl Snapshot {
    pub(crate) fn new(registry: ar7_registry::Snapshot) -> Snapshot {
        Snapshot { registry }
    }

    /// Returns the newest commit of an archive of the registry. For the command and the fuzz targets, which still open
    /// archives that way.
    #[doc(hidden)]
    pub fn of(archive: &ar7_registry::Archive) -> Snapshot {
        Snapshot::new(archive.snapshot())
    }

    pub(crate) fn registry(&self) -> &ar7_registry::Snapshot {
        &self.registry
    }

    /// Returns the number of the commit. Each commit has a higher one than the one before.
    pub fn commit(&self) -> u64 {
        self.registry.commit().slot.number
    }

    /// Returns the content of a file of up to [`crate::READ_MAX`] bytes. A longer one fails with
    /// [`Error::FileTooLong`]: a hole costs an archive nothing, so the length of a file says little about its size. Read
    /// it through [`Snapshot::open`], or with [`Snapshot::read_up_to`].
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        self.read_up_to(path, READ_MAX)
    }

    /// Returns the content of a file of up to `limit_bytes` bytes. Fails with [`Error::FileTooLong`] if it has more.
    pub fn read_up_to(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
        self.open(path)?.into_content(limit_bytes)
    }

    /// Opens a file for reading.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<File<'static>> {
        let path = path.as_ref();
        let (_, inode) = source::find_typed(&self.registry, path, EntryType::File)?;
        let pinned = Bytes::Pinned(self.registry.read_file(&inode)?);
        File::new(pinned, &path.display().to_string(), Mode::READ)
    }

    /// Returns what the archive knows about an entry. Fails with [`Error::NotFound`] if the path
    /// does not exist.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        source::metadata(&self.registry, path.as_ref())
    }

    /// Returns the entry at a path, with the path without empty components and `.`. That of the root directory
    /// is empty.
    pub fn entry(&self, path: impl AsRef<Path>) -> Result<Entry> {
        let path = path.as_ref();
        Ok(Entry { path: source::normal(path), metadata: self.metadata(path)? })
    }

    /// Returns whether a path exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        source::exists(&self.registry, path.as_ref())
    }

    /// Returns the target of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        source::read_link(&self.registry, path.as_ref())
    }

    /// Returns the extended attributes of an entry, in ascending order of their names.
    pub fn extended_attributes(&self, path: impl AsRef<Path>) -> Result<Vec<ExtendedAttribute>> {
        source::extended_attributes(&self.registry, path.as_ref())
    }

    /// Returns the entries of a directory, in byte order of their names.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<List<'_>> {
        List::new(&self.registry, path.as_ref())
    }

    /// Returns all entries below a directory, each directory before its entries, and the entries of
    /// one directory in byte order of their names.
    pub fn walk(&self, path: impl AsRef<Path>) -> Result<Walk<'_>> {
        Walk::new(&self.registry, path.as_ref())
    }

    /// Returns an entry and all entries below it, in the order of [`Snapshot::walk`]. The root directory itself is not
    /// among them. What is below a directory follows even if its own record is unreadable.
    pub fn tree(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry>> + '_>> {
        let path = path.as_ref();
        let top = self.entry(path);
        let walk = match self.walk(path) {
            Ok(walk) => Some(walk),
            Err(Error::WrongType { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_root = top.as_ref().is_ok_and(|top| top.path == Path::new(""));
        let top = top.map_err(|error| error.in_entry(path));
        Ok(Box::new((!is_root).then_some(top).into_iter().chain(walk.into_iter().flatten())))
    }

    /// Opens a stream for reading, whether it is the content of a file or not.
    pub fn stream(&self, id: Uuid) -> Result<File<'static>> {
        let pinned = Bytes::Pinned(Some(FileContent::Stream(self.registry.read_stream(id)?)));
        File::new(pinned, &id.to_string(), Mode::READ)
    }

    /// Returns all streams in ascending order of their UUIDs, except those with the UUIDs 0 to 7,
    /// which every archive has. Damage is an error, and the streams after it follow.
    pub fn streams(&self) -> Result<impl Iterator<Item = Result<StreamInfo>> + '_> {
        let streams = self.registry.streams(None);
        Ok(streams.map(|stored| Ok(StreamInfo::from(&stored.map_err(Error::from)?))))
    }

    /// Returns the application's own metadata of the archive, up to 2048 bytes. New archives have
    /// none.
    pub fn archive_metadata(&self) -> &[u8] {
        &self.registry.commit().slot.metadata
    }
}
